"""A probe of scorers whose order is known beforehand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from efiqa.degrade import KINDS
from efiqa.errors import InvalidArgument, MissingExtra, RecordError
from efiqa.image import Image
from efiqa.probe import (
    LARGEST,
    as_json,
    baseline_score,
    check_plot,
    markdown,
    model_score,
    pictures_to_score,
    plot,
    probe,
    sample_faces,
)
from efiqa.records import Row, write_manifest
from efiqa.scorer import Scorer

Run = Callable[..., subprocess.CompletedProcess[bytes]]


def faces(count: int, side: int = 24) -> list[Image]:
    generator = np.random.default_rng(0)
    return [generator.integers(60, 200, (side, side, 3), np.uint8) for _ in range(count)]


def given(values: list[float]) -> Callable[[Iterable[Image]], Iterator[float]]:
    """A scorer that has these scores, whatever it sees."""
    return lambda images: (value for value, _ in zip(values, images, strict=True))


def test_means_and_violations_are_those_worked_out_by_hand():
    scores = [
        *(0.9, 0.8, 0.7, 0.9, 0.1),  # as it is; blur mild, blur strong; noise mild (a tie), noise strong
        *(0.5, 0.6, 0.4, 0.4, 0.4),  # blur rises at first; noise has a tie at the second step
    ]
    found = probe("given", given(scores), faces(2), kinds=["blur", "noise"], severities=(0, 0.5, 1))
    blur, noise = found.ladders
    assert blur.means == pytest.approx((0.7, 0.7, 0.55))
    assert blur.violations == (0.5, 0.0)
    assert blur.wrong == 0.25
    assert noise.means == pytest.approx((0.7, 0.65, 0.25))
    assert noise.violations == (0.5, 0.5)
    assert (found.faces, found.spread) == (2, pytest.approx(0.2))


def test_brightness_is_right_about_darkness_and_wrong_about_light():
    found = probe("brightness", baseline_score("brightness"), faces(3), kinds=["dark", "bright"])
    assert [ladder.wrong for ladder in found.ladders] == [0, 1]


def test_a_scorer_that_sees_no_difference_is_always_wrong():
    found = probe("blind", lambda images: (0.5 for _ in images), faces(2))
    assert [ladder.kind for ladder in found.ladders] == list(KINDS)
    assert {ladder.wrong for ladder in found.ladders} == {1.0}


def test_a_model_is_scored_by_its_scorer(scorer: Scorer):
    images = faces(2)
    by_model = probe("mean", model_score(scorer), images, kinds=["dark"])
    by_head = probe("head", lambda made: (image.mean() / 255 for image in made), images, kinds=["dark"])
    assert by_model.ladders[0].means == pytest.approx(by_head.ladders[0].means, abs=0.01)
    assert by_model.ladders[0].violations == by_head.ladders[0].violations


def test_equal_seeds_give_equal_probes_and_progress_counts_each_picture():
    score, images = baseline_score("laplacian"), faces(2)
    counted: list[None] = []
    first = probe("a", score, images, kinds=["noise"], seed=3, scored=lambda: counted.append(None))
    assert first == probe("a", score, images, kinds=["noise"], seed=3)
    assert first != probe("a", score, images, kinds=["noise"], seed=4)
    assert len(counted) == pictures_to_score(2, 1) == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kinds": ["blurr"]}, "unknown degradation 'blurr'"),
        ({"kinds": []}, "at least"),
        ({"images": []}, "at least"),
        ({"severities": (0.2, 0.4)}, "must rise from 0"),
        ({"severities": (0,)}, "must rise from 0"),
        ({"severities": (0, 0.4, 0.4)}, "must rise from 0"),
        ({"severities": (0, 1.5)}, "at most 1"),
        ({"severities": (0, float("nan"))}, "must rise from 0"),
    ],
)
def test_what_cannot_be_probed_is_an_error(change: dict[str, object], reason: str):
    arguments: dict[str, object] = {"images": faces(1), **change}
    with pytest.raises(InvalidArgument, match=reason):
        probe("x", baseline_score("brightness"), **arguments)  # type: ignore[arg-type]


def test_an_unknown_baseline_is_an_error_that_names_those_there_are():
    with pytest.raises(InvalidArgument, match="sobel") as caught:
        baseline_score("sobel")
    assert "laplacian" in str(caught.value.hint)


# Faces


def rows_of(folder: Path, count: int, side: int = 24) -> list[Row]:
    paths = [folder / f"{index}.png" for index in range(count)]
    for path, image in zip(paths, faces(count, side), strict=True):
        PIL.Image.fromarray(image).save(path)
    return [Row(str(path), None, "validation") for path in paths]


def test_faces_are_drawn_by_the_seed_from_one_split(tmp_path: Path):
    rows = rows_of(tmp_path, 6)
    first = sample_faces([*rows[:5], Row(rows[5].image, None, "train")], faces=3)
    again = sample_faces([*rows[:5], Row(rows[5].image, None, "train")], faces=3)
    assert len(first) == 3
    assert all(map(np.array_equal, first, again))
    other = sample_faces(rows, faces=3, seed=1)
    assert not all(map(np.array_equal, first, other))
    assert len(sample_faces(rows, faces=100)) == 6


def test_pictures_that_cannot_be_used_are_named_and_others_take_their_place(tmp_path: Path):
    rows = rows_of(tmp_path, 3)
    Path(rows[1].image).write_bytes(b"no picture")
    PIL.Image.new("RGB", (3, 3)).save(rows[2].image)
    bad: list[tuple[str, str]] = []
    images = sample_faces(
        [*rows, Row("gone.png", None, "validation")],
        faces=4,
        unreadable=lambda row, error: bad.append((Path(row.image).name, str(error))),
    )
    assert len(images) == 1
    assert sorted(name for name, _ in bad) == ["1.png", "2.png", "gone.png"]
    with pytest.raises(RecordError, match=r"none of the 2 pictures of .*, such as .*[12]\.png: ") as caught:
        sample_faces(rows[1:], faces=4)
    assert caught.value.hint


def test_only_the_square_of_a_row_is_probed_and_large_pictures_are_reduced(tmp_path: Path):
    (row,) = rows_of(tmp_path, 1, side=2 * LARGEST)
    (whole,) = sample_faces([row], faces=1)
    assert whole.shape == (LARGEST, LARGEST, 3)
    (part,) = sample_faces([Row(row.image, None, "validation", "", "", 2, 3, 20, 10)], faces=1)
    assert np.array_equal(part, np.asarray(PIL.Image.open(row.image))[3:13, 2:22])


def test_a_split_without_rows_is_an_error_that_names_those_with(tmp_path: Path):
    with pytest.raises(RecordError, match="split test") as caught:
        sample_faces(rows_of(tmp_path, 1), faces=1, split="test")
    assert "validation" in str(caught.value.hint)


# What is written


def test_the_table_has_a_line_for_each_kind_and_the_json_all_numbers():
    found = probe("given", given([0.9, 0.8, 0.95]), faces(1), kinds=["blur"], severities=(0, 0.5, 1))
    lines = markdown(found).splitlines()
    assert lines[0].startswith("given: 1 faces")
    assert lines[-1] == "| blur | 50.0% | 0.0%, 100.0% | 0.9, 0.8, 0.95 |"
    written = json.loads(json.dumps(as_json([found], split="validation")))
    assert written["split"] == "validation"
    (ladder,) = written["scorers"][0]["ladders"]
    assert ladder == {"kind": "blur", "wrong": 0.5, "violations": [0.0, 1.0], "means": [0.9, 0.8, 0.95]}


def test_the_plot_is_a_png_of_every_scorer(tmp_path: Path):
    pytest.importorskip("matplotlib")
    images = faces(1)
    found = [probe(name, baseline_score(name), images, kinds=["blur", "dark"]) for name in ("brightness",)]
    found.append(probe("blind", lambda made: (0.0 for _ in made), images, kinds=["blur", "dark"]))
    plot(found, tmp_path / "probe.png")
    with PIL.Image.open(tmp_path / "probe.png") as drawn:
        assert drawn.format == "PNG"


def test_a_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = probe("brightness", baseline_score("brightness"), faces(1), kinds=["dark"])
    with pytest.raises(MissingExtra, match="matplotlib") as caught:
        plot([found], tmp_path / "probe.png")
    assert "efiqa[report]" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_plot_that_cannot_be_made_is_an_error_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("efiqa.probe.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="matplotlib"):
        check_plot(tmp_path / "probe.png")


# The command


def test_a_file_that_cannot_be_written_is_an_error_before_the_work(efiqa: Run, tmp_path: Path):
    write_manifest(tmp_path / "manifest.csv", rows_of(tmp_path, 1))
    words = ["probe", tmp_path / "manifest.csv", "--baseline", "laplacian", "--kinds", "blur,blur"]
    result = efiqa(*words, "-o", tmp_path)
    assert (result.returncode, result.stdout) == (2, b"")
    assert b"is a folder" in result.stderr
    assert efiqa(*words).stdout.count(b"| blur |") == 1  # named twice, probed once


def test_the_command_probes_a_model_and_baselines_side_by_side(efiqa: Run, model: Path, tmp_path: Path):
    manifest, output = tmp_path / "manifest.csv", tmp_path / "probe.json"
    rows = rows_of(tmp_path, 3)
    Path(rows[0].image).write_bytes(b"")
    write_manifest(manifest, rows)
    words = ["probe", manifest, "-m", model, "--baseline", "laplacian", "--kinds", "dark,blur", "-o", output]
    result = efiqa(*words, "--faces", 3)
    assert result.returncode == 0, result.stderr
    assert b"left out" in result.stderr
    assert b"only 2 pictures" in result.stderr
    table = result.stdout.decode()
    assert table.count("| dark | 0.0%") == 2
    written = json.loads(output.read_text(encoding="utf-8"))
    assert [(each["name"].split()[0], each["faces"]) for each in written["scorers"]] == [
        ("mean", 2),
        ("laplacian", 2),
    ]
    assert (written["seed"], written["split"], written["left_out"]) == (0, "validation", 1)
    assert efiqa(*words, "--faces", 3).stdout == result.stdout


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--baseline", "sharpnes"], b"unknown baseline"),
        (["--baseline", "laplacian", "--kinds", "fog"], b"unknown degradation"),
        (["--baseline", "laplacian", "--split", "test"], b"no row is of split test"),
        (["--faces", "0"], b"--faces"),
        (["-m", "gone.onnx"], b"there is no model"),
        (["--baseline", "laplacian", "--seed", "-1"], b"--seed"),
        (["--baseline", "laplacian", "--plot", "probe.pdf"], b"written as .png"),
    ],
)
def test_the_command_says_what_is_wrong(efiqa: Run, tmp_path: Path, words: list[str], reason: bytes):
    write_manifest(tmp_path / "manifest.csv", rows_of(tmp_path, 1))
    result = efiqa("probe", tmp_path / "manifest.csv", *words)
    assert result.returncode == 2
    assert reason in result.stderr
    assert result.stdout == b""
