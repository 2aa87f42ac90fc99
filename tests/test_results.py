"""The page of results: a model compared with itself differs by nothing, and what is kept is used again."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from efiqa.errors import RecordError
from efiqa.metrics import srcc
from efiqa.records import Row, read_manifest, read_predictions, write_manifest
from efiqa.train.fit import fit
from efiqa.train.recipe import Data, Model, Optim, Recipe, Run

SCRIPT = Path(__file__).parents[1] / "recipes" / "results.py"


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["results"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(results: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with L.csv, run folders a, b (another seed) and copy (of a), study.toml, and the page."""
    folder = tmp_path_factory.mktemp("study")
    generator = np.random.default_rng(0)
    rows = []
    for index in range(40):
        path = folder / f"{index:02d}.png"
        level = int(generator.integers(20, 230))
        pixels = np.clip(level + generator.normal(0, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(path)
        split = "train" if index < 16 else "validation"
        rows.append(Row(str(path), score=level / 255, split=split, source="human"))
    write_manifest(folder / "L.csv", rows)
    for seed, name in enumerate("ab"):
        recipe = Recipe(
            data=Data(train=(str(folder / "L.csv"),), size=32, crop=32, batch=8, workers=0),
            model=Model("tf_efficientnet_lite0:1", mean=(127.0,) * 3, std=(128.0,) * 3),
            optim=Optim(epochs=1),
            run=Run(seed=seed, precision="fp32"),
        )
        fit(recipe, folder / name)
    shutil.copytree(folder / "a", folder / "copy")
    write_study(folder / "study.toml", folder)
    run(results, folder)
    return folder


def write_study(path: Path, folder: Path, text: str = "") -> Path:
    path.write_text(
        f'title = "T"\nmanifest = "{folder}/L.csv"\nruns = "{folder}"\n'
        f'teacher = "a"\nreference = "a"\n{text}\n'
        '[[row]]\nname = "a"\nruns = ["a"]\nnote = "first"\n'
        '[[row]]\nname = "copy"\nruns = ["copy"]\n'
        '[[row]]\nname = "both"\nruns = ["a", "b", "to-come"]\n'
        '[[row]]\nname = "another day"\nruns = ["never-run"]\n',
        encoding="utf-8",
    )
    return path


def run(results: ModuleType, folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["results.py", str(folder / "study.toml"), "-o", str(folder / "page.md")])
        results.main()
    return (folder / "page.md").read_text(encoding="utf-8")


def cells(page: str, heading: str) -> dict[str, list[str]]:
    """First cell → the others, of the table under a heading."""
    part = page.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return {line[0]: line[1:] for line in lines[2:]}


def test_a_model_compared_with_its_copy_differs_by_nothing(made: Path) -> None:
    page = (made / "page.md").read_text(encoding="utf-8")
    table = cells(page, "Difference to a")
    assert set(table) == {"copy", "both"}
    assert [cell.replace("-", "+") for cell in table["copy"]] == ["+0.000 [+0.000, +0.000]"] * 2


def test_agreement_is_that_of_the_scores_kept_beside_the_run(made: Path) -> None:
    table = cells((made / "page.md").read_text(encoding="utf-8"), "Agreement")
    labels = [row.score for row in read_manifest(made / "L.csv") if row.split == "validation"]
    found = {
        name: srcc([row.score for row in read_predictions(made / name / "validation.csv")], labels)
        for name in "ab"
    }
    assert table["a"][1].startswith(f"{found['a']:.3f} [")
    assert table["both"][1].startswith(f"{(found['a'] + found['b']) / 2:.3f} ± ")
    assert table["a"][-2:] == ["first", "100.0%"]


def test_what_was_not_run_is_left_out_and_named(
    results: ModuleType, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = cells(run(results, made), "Agreement")
    assert set(table) == {"a", "copy", "both"}
    assert table["both"][0] == "2"
    assert capsys.readouterr().err == "left out, as it was not run: another day\n"


def test_cost_names_the_network_and_what_was_seen(made: Path) -> None:
    table = cells((made / "page.md").read_text(encoding="utf-8"), "Cost")
    network, parameters, _, side, seen, *_ = table["a"]
    assert (network, parameters, side, seen) == ("tf_efficientnet_lite0:1", "4,129", "32", "16")
    assert len(json.loads((made / "page.json").read_text())["milliseconds"]) == 1  # all are the same network


def test_the_page_is_the_same_when_made_again(results: ModuleType, made: Path) -> None:
    before = (made / "page.md").read_text(encoding="utf-8")
    assert run(results, made) == before
    assert "Generated by `python recipes/results.py" in before
    assert re.search(r"!\[.*\]\(page\.png\)", before)
    assert 0 < (made / "page.png").stat().st_size < 60_000


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """The study on another machine: its pictures, page and the page's file, and none of its runs."""
    for path in (made / "L.csv", made / "page.json", *made.glob("*.png")):
        shutil.copy(path, tmp_path)
    write_study(tmp_path / "study.toml", tmp_path)
    return tmp_path


def test_runs_that_are_not_on_this_machine_are_taken_from_beside_the_page(
    results: ModuleType, made: Path, moved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(page: str) -> str:
        return page.split("## ", 1)[1]

    before = (made / "page.md").read_text(encoding="utf-8")
    assert body(run(results, moved)) == body(before)
    assert "not on this machine, taken from " in capsys.readouterr().err
    # A row that is run here stands among them, and its scores are kept too.
    shutil.copytree(made / "b", moved / "never-run")
    page = run(results, moved)
    assert set(cells(page, "Agreement")) == {"a", "copy", "both", "another day"}
    assert cells(page, "Agreement")["both"] == cells(before, "Agreement")["both"]
    kept = json.loads((moved / "page.json").read_text())["runs"]
    assert kept["never-run"]["scores"] == kept["b"]["scores"]


def test_a_network_is_timed_beside_all_others_or_not_at_all(
    results: ModuleType, made: Path, moved: Path
) -> None:
    kept = json.loads((moved / "page.json").read_text())
    (moved / "page.json").write_text(json.dumps(kept | {"milliseconds": {}}))
    with pytest.raises(RecordError, match="a network is new here, and none of tf_efficientnet_lite0:1, 4129"):
        run(results, moved)
    shutil.copytree(made / "a", moved / "a")
    assert set(cells(run(results, moved), "Cost")) == {"a", "copy", "both"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda kept: json.dumps(kept | {"pictures": "others"}), "scores of other pictures or ratings"),
        (lambda kept: json.dumps({"colour": 1}), "holds no results of before"),
        (lambda kept: "{", "holds no results of before"),
    ],
)
def test_what_is_kept_of_other_pictures_or_broken_is_refused(
    results: ModuleType, moved: Path, change: Callable[[dict[str, object]], str], expected: str
) -> None:
    kept = json.loads((moved / "page.json").read_text())
    (moved / "page.json").write_text(change(kept))
    with pytest.raises(RecordError, match=expected):
        run(results, moved)


def test_what_a_measurement_said_stands_until_its_model_is_here(results: ModuleType, tmp_path: Path) -> None:
    command = f"python -m platform -m {tmp_path / 'gone.onnx'}"
    assert results._measured(command, "said before") == "said before"
    (tmp_path / "gone.onnx").touch()
    assert results._measured(command, "said before") not in ("", "said before")


def test_scores_of_other_pictures_are_not_used_again(results: ModuleType, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    rows = [row for row in read_manifest(made / "L.csv") if row.split == "validation"][:5]
    assert len(results.measure(tmp_path / "a", rows).scores) == 5


def test_a_model_alone_is_measured_as_its_run_is(results: ModuleType, made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "a" / "model.onnx", tmp_path / "model.onnx")
    rows = [row for row in read_manifest(made / "L.csv") if row.split == "validation"]
    alone, run = results.measure(tmp_path / "model.onnx", rows), results.measure(made / "a", rows)
    assert alone.scores.tolist() == run.scores.tolist()
    assert (alone.seen, alone.minutes) == (None, None)
    assert results._cost([alone])[-2:] == ["–", "–"]


def test_models_alone_in_one_folder_keep_their_own_scores(
    results: ModuleType, made: Path, tmp_path: Path
) -> None:
    rows = [row for row in read_manifest(made / "L.csv") if row.split == "validation"]
    for name in "ab":
        shutil.copy(made / name / "model.onnx", tmp_path / f"{name}.onnx")
    for _ in range(2):  # made, then used again
        for name in "ab":
            alone, run = results.measure(tmp_path / f"{name}.onnx", rows), results.measure(made / name, rows)
            assert alone.scores.tolist() == run.scores.tolist()


def test_folds_are_measured_each_on_its_own_pictures_and_averaged(
    results: ModuleType, made: Path, tmp_path: Path
) -> None:
    held = [row for row in read_manifest(made / "L.csv") if row.split == "validation"]
    found = []
    for fold, part in enumerate((held[:10], held[10:])):
        folder = tmp_path / f"fold{fold}"
        write_manifest(folder / "L.csv", part)
        shutil.copytree(made / "ab"[fold], folder / "run")
        kept = {row.image: row.score for row in read_predictions(made / "ab"[fold] / "validation.csv")}
        found.append(srcc([kept[row.image] for row in part], [row.score for row in part]))
    (tmp_path / "study.toml").write_text(
        f'title = "T"\nmanifest = "{tmp_path}/fold{{fold}}/L.csv"\nruns = "{tmp_path}/fold{{fold}}"\n'
        'folds = [0, 1]\n[[row]]\nname = "run"\nruns = ["run", "study/only-in-{fold}"]\n'
    )
    page = run(results, tmp_path)
    assert cells(page, "Agreement")["run"][1].startswith(f"{np.mean(found):.3f} [")
    assert "24 held-out pictures" in page
    assert "Each of 2 folds" in page


def test_a_picture_without_a_score_is_an_error(results: ModuleType, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    with pytest.raises(RecordError, match=r"nowhere\.png has no score"):
        results.measure(tmp_path / "a", [Row("nowhere.png", score=0.5, split="validation")])


def test_a_run_whose_checkpoint_is_gone_is_measured_as_before(
    results: ModuleType, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "a", tmp_path / "a")
    (tmp_path / "a" / "last.safetensors").unlink()
    rows = [row for row in read_manifest(made / "L.csv") if row.split == "validation"]
    whole, light = results.measure(made / "a", rows), results.measure(tmp_path / "a", rows)
    assert (light.seen, light.minutes) == (whole.seen, whole.minutes)
    assert light.scores.tolist() == whole.scores.tolist()


def test_effort_follows_from_the_rates_and_repeated_steps_count_once(
    results: ModuleType, tmp_path: Path
) -> None:
    """40 steps of 30 pictures: 600 at 10 a second, 600 at 20 a second, are 60 + 30 seconds."""
    log = tmp_path / "log.jsonl"
    lines = [{"event": "start"}, {"step": 20, "images_per_s": 10.0}, {"step": 40, "images_per_s": 5.0}]
    lines += [{"event": "resume"}, {"step": 40, "images_per_s": 20.0}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = {"data": {"batch": 11}, "ladder": {"pairs": 2}, "optim": {"accumulate": 2}}
    assert results.effort(log, SimpleNamespace(recipe=recipe)) == (1200, pytest.approx(1.5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("colour = 1", "'colour' is unknown"), ("", "reference is no row: 'c'"), ("title =", "cannot be read")],
)
def test_a_study_with_a_mistake_is_refused(
    results: ModuleType, tmp_path: Path, text: str, expected: str
) -> None:
    path = write_study(tmp_path / "study.toml", tmp_path, text)
    if not text:
        path.write_text(path.read_text().replace('reference = "a"', 'reference = "c"'))
    with pytest.raises(RecordError, match=re.escape(expected)):
        results.load_study(path)
