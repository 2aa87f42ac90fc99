"""The recipes that ship can be read, ask for what they say, and their proof of learning can fail."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from efiqa import Scorer
from efiqa.degrade import degrade
from efiqa.image import load_image
from efiqa.records import read_manifest

RECIPES = Path(__file__).parents[1] / "recipes"
TRAINED = [
    path for path in sorted(RECIPES.rglob("*.toml")) if not path.name.endswith((".card.toml", "study.toml"))
]


def load(name: str) -> ModuleType:
    """A script of recipes/ as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny() -> ModuleType:
    return load("tiny")


@pytest.fixture(scope="module")
def sets(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    tiny.write_sets(folder, 0)
    return folder


def write_sharpness_model(path: Path, card: str, side: int, *, sign: float = 1.0) -> Path:
    """uint8 (n, S, S, 3) → mean |difference of neighbours across| / 255, which blur makes smaller."""
    from onnx import TensorProto, helper, save

    from efiqa.card import METADATA_KEY

    def whole(name: str, *values: int) -> Any:
        return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)

    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "zero", "last", "axis"], ["left"]),
        helper.make_node("Slice", ["x", "one", "side", "axis"], ["right"]),
        helper.make_node("Sub", ["left", "right"], ["step"]),
        helper.make_node("Abs", ["step"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["score"]),
    ]
    initial = [
        whole("zero", 0),
        whole("one", 1),
        whole("last", side - 1),
        whole("side", side),
        whole("axis", 2),
    ]
    initial.append(helper.make_tensor("white", TensorProto.FLOAT, [], [sign * 255.0]))
    graph = helper.make_graph(
        nodes,
        "sharpness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: card})
    save(model, str(path))
    return path


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_recipe_can_be_read_and_names_its_own_command(path: Path) -> None:
    pytest.importorskip("torch")
    from efiqa.train.recipe import load_recipe

    load_recipe(path)
    assert f"efiqa train {path.relative_to(RECIPES.parent)}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path", sorted(RECIPES.rglob("*.card.toml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_statement_can_be_read(path: Path) -> None:
    pytest.importorskip("torch")
    from efiqa.train.export import load_statement

    load_statement(path)


@pytest.mark.parametrize(
    ("name", "backbone", "size", "sources"),
    [
        ("teacher", "swin_b", 448, 1),
        ("teacher_plus", "swin_b", 448, 2),
        ("student", "edgenext_xx_small", 352, 3),
    ],
)
def test_paper_recipes_ask_for_the_published_setting(
    name: str, backbone: str, size: int, sources: int
) -> None:
    pytest.importorskip("torch")
    from efiqa.train.recipe import load_recipe

    recipe = load_recipe(RECIPES / "paper" / f"{name}.toml")
    assert (recipe.model.backbone, recipe.data.size, recipe.data.crop) == (backbone, size, size)
    assert len(recipe.data.train) == sources
    optim, loss = recipe.optim, recipe.loss
    assert (optim.lr, optim.weight_decay, optim.epochs, optim.decay_epochs) == (1e-4, 1e-6, 30, 10)
    assert (optim.schedule, recipe.data.batch, loss.mse, loss.plcc) == ("step", 32, 1.0, 1.0)
    assert (recipe.ladder.pairs, loss.rank, recipe.data.scale_jitter, recipe.distil.teachers) == (0, 0, 0, ())


@pytest.mark.parametrize("world", ["small", "paper"])
@pytest.mark.parametrize("name", ["teacher", "teacher_plus", "student"])
def test_the_tiny_settings_fit_every_recipe(world: str, name: str) -> None:
    pytest.importorskip("torch")
    from efiqa.train.recipe import load_recipe

    changes = (RECIPES / "tiny.sets").read_text(encoding="utf-8").splitlines()
    recipe = load_recipe(RECIPES / world / f"{name}.toml", changes)
    assert not recipe.model.start
    assert recipe.data.size == 64
    assert not any(" " in change for change in changes)  # the shell splits at spaces


def test_paper_data_are_asked_for_by_name(tmp_path: Path) -> None:
    done = run_data(tmp_path, L_TABLE=__file__)
    assert done.returncode == 2
    assert "not set: L_IMAGES U1_IMAGES U2_IMAGES" in done.stderr
    assert "hint:" in done.stderr


def test_a_paper_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_data(tmp_path, L_TABLE="nowhere.csv")
    assert done.returncode == 2
    assert "L_TABLE=nowhere.csv is not there" in done.stderr


@pytest.mark.parametrize(
    "lines",
    ["Image,raw_score,mapped_score\n{},71.5,{}\n", "Image_name,MOS\n{},{}\n"],
    ids=["VQualA", "GFIQA"],
)
def test_paper_data_become_manifests(tmp_path: Path, grey: Callable[..., Path], lines: str) -> None:
    header, line = lines.splitlines()
    for index in range(20):
        grey(tmp_path / "l" / f"{index}.png", index)
    rated = [line.format(f"{index}.png", index / 20) for index in range(20)]
    (tmp_path / "l.csv").write_text("\n".join([header, *rated]) + "\n")
    for name in ("u1", "u2"):
        grey(tmp_path / name / "a" / "0.png")
    named = {"L_TABLE": "l.csv", "L_IMAGES": "l", "U1_IMAGES": "u1", "U2_IMAGES": "u2"}
    done = run_data(tmp_path, **{name: str(tmp_path / value) for name, value in named.items()})
    assert done.returncode == 0, done.stderr
    labelled = read_manifest(tmp_path / "runs" / "L.csv", check_files=True)
    assert [row.score for row in labelled] == [index / 20 for index in range(20)]
    for name in ("U1", "U2"):
        (row,) = read_manifest(tmp_path / "runs" / f"{name}.csv", check_files=True)
        assert (row.score, row.split) == (None, "train")


def run_data(folder: Path, **named: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.endswith(("_IMAGES", "_TABLE"))}
    command = [RECIPES / "paper" / "data.sh", folder / "runs"]
    environment = {**kept, "PYTHON": sys.executable, **named}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_tiny_sets_have_their_rows_and_only_the_first_has_labels(sets: Path) -> None:
    for name, train, validation, labelled in (("L", 64, 24, 88), ("U1", 48, 0, 0), ("U2", 48, 0, 0)):
        rows = read_manifest(sets / f"{name}.csv", check_files=True)
        splits = [row.split for row in rows]
        assert (splits.count("train"), splits.count("validation")) == (train, validation)
        assert sum(row.score is not None for row in rows) == labelled


def test_a_tiny_label_is_one_less_severity(tiny: ModuleType, sets: Path) -> None:
    """The first picture is blurred: drawn again from the seed and blurred by 1 − label, it is the same."""
    generator = np.random.default_rng([0, 0])
    generator.random()
    drawn = tiny.draw(generator)
    row = read_manifest(sets / "L.csv")[0]
    assert row.score is not None
    expected = degrade(drawn, "blur", 1 - row.score)
    difference = np.abs(load_image(row.image).astype(int) - expected.astype(int))
    assert difference.max() <= 1  # the label is rounded


def test_tiny_pictures_are_the_same_for_a_seed_and_differ_between_seeds(tiny: ModuleType) -> None:
    first, again, other = (tiny.draw(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8
    assert 64 <= first.shape[0] == first.shape[1] <= 96


def check(tiny: ModuleType, model: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tiny.py", "--check", str(model)])
    with pytest.raises(SystemExit) as ended:
        tiny.main()
    return int(ended.value.code or 0)


def test_the_check_passes_a_model_that_falls_with_blur(
    tiny: ModuleType, card: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_sharpness_model(tmp_path / "sharpness.onnx", card.to_json(), card.input_size)
    assert check(tiny, model, monkeypatch) == 0


@pytest.mark.parametrize("which", ["rising", "constant", "mean"])
def test_the_check_fails_a_model_that_does_not(
    which: str,
    tiny: ModuleType,
    card: Any,
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.onnx"
    if which == "rising":
        write_sharpness_model(path, card.to_json(), card.input_size, sign=-1.0)
    else:  # dividing by 1e12 leaves 0.00000 for every picture; a mean does not know blur
        make_model(path, divisor=1e12 if which == "constant" else 255.0)
    assert check(tiny, path, monkeypatch) == 1
    assert "expected 80%" in capsys.readouterr().out


def test_the_share_counts_ties_as_wrong(
    tiny: ModuleType, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    means, share = tiny.check(Scorer(make_model(tmp_path / "constant.onnx", divisor=1e12)), 1, 3)
    assert means == [0.0] * len(tiny.SEVERITIES)
    assert share == 0.0
