"""Quality is relative to what the table says, for its own model only; linked numbers stay what they were."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efiqa.calibrate import (
    Calibration,
    Link,
    check_made_by,
    check_one_scale,
    link_of,
    paired_scores,
    population_id,
    population_of,
    read_calibration,
    write_calibration,
)
from efiqa.card import ModelCard, Population
from efiqa.errors import InvalidArgument, ModelError, RecordError
from efiqa.records import Prediction, read_predictions, write_predictions
from efiqa.scorer import Scorer

Command = Callable[..., Any]
SQUARES = Population("squares", 101, tuple((percent / 100) ** 2 for percent in range(101)))


def predictions(scores: list[float]) -> list[Prediction]:
    return [Prediction(f"{index}.png", score=score) for index, score in enumerate(scores)]


# Populations


def test_population_percentiles_by_hand():
    # 201 scores, 0, 0.005, …, 1: the k-th percentile is the score at position 2 k, k / 100.
    population = population_of("ladder", predictions([index / 200 for index in reversed(range(201))]))
    assert (population.name, population.n) == ("ladder", 201)
    assert population.scores == tuple(index / 100 for index in range(101))
    assert population.percentile(0.255) == pytest.approx(25.5)


def test_population_leaves_out_rows_without_a_score():
    rows = [*predictions([index / 100 for index in range(101)]), Prediction("none.png", status="no_face")]
    assert population_of("faces", rows).n == 101


@pytest.mark.parametrize(
    ("scores", "message"),
    [([0.5] * 99, "at least 100 scores, but got 99"), ([0.5] * 200, r"all 200 scores are 0\.5")],
)
def test_too_few_or_equal_scores_are_no_population(scores: list[float], message: str):
    with pytest.raises(RecordError, match=message) as caught:
        population_of("few", predictions(scores))
    assert caught.value.hint


def test_two_populations_of_one_name_are_told_apart():
    other = dataclasses.replace(SQUARES, n=102)
    assert population_id(SQUARES).startswith("squares #")
    assert population_id(SQUARES) != population_id(other)


# Links


def test_a_rising_relation_is_found_again():
    new = np.random.default_rng(0).uniform(0.1, 0.9, 5000)
    link = link_of(new, new**2, "old@1", "d")
    for score in np.linspace(0.12, 0.88, 39):
        assert link(score) == pytest.approx(score**2, abs=2e-3)
        assert link.back(link(score)) == pytest.approx(score, abs=1e-4)


def test_linked_scores_are_distributed_like_the_old_ones():
    generator = np.random.default_rng(1)
    truth = generator.beta(2, 3, 4000)
    old, new = truth + generator.normal(0, 0.05, 4000), 3 * truth + generator.normal(0, 0.1, 4000) - 1
    link = link_of(new, old, "old@1", "d")
    linked = np.array([link(score) for score in new])
    shares = np.arange(1, 100)
    assert np.percentile(linked, shares) == pytest.approx(np.percentile(old, shares), abs=2e-3)


def test_a_link_never_falls_and_goes_on_beyond_its_ends_with_slope_1():
    link = Link("old@1", "d", 100, (0.2, 0.4, 0.6), (0.5, 0.5, 0.9))
    assert [link(score) for score in (0.1, 0.2, 0.3, 0.5, 0.6, 0.7)] == pytest.approx(
        [0.4, 0.5, 0.5, 0.7, 0.9, 1.0]
    )
    # A cut of 0.5 keeps what equals 0.5: all from 0.2 on.
    assert [link.back(score) for score in (0.4, 0.5, 0.7, 0.9, 1.0)] == pytest.approx(
        [0.1, 0.2, 0.5, 0.6, 0.7]
    )


def test_a_cut_carried_back_rejects_the_same_pictures():
    generator = np.random.default_rng(2)
    new = generator.uniform(0, 1, 1000).round(2)
    link = link_of(new, (new + generator.normal(0, 0.1, 1000)).round(2), "old@1", "d")
    for cut in np.linspace(0.05, 0.95, 19):
        below = np.array([link(score) for score in new]) < cut
        assert (below == (new < link.back(cut))).all()


def test_ties_of_the_new_model_share_the_mean_of_the_old():
    new = np.repeat([0.1, 0.2], 100)
    old = np.concatenate((np.linspace(0.0, 0.4, 100), np.linspace(0.6, 1.0, 100)))
    link = link_of(new, old, "old@1", "d")
    assert link.scores[0] == 0.1
    assert link.scores[-1] == 0.2
    assert link(0.1) == pytest.approx(0.2, abs=0.01)
    assert link(0.2) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        (np.arange(99.0), np.arange(99.0), "at least 100 pictures, but got 99"),
        (np.arange(200.0), -np.arange(200.0), r"hardly agree, SRCC -1\.00"),
        (np.arange(200.0), np.random.default_rng(0).normal(size=200), "hardly agree"),
        (np.full(200, 0.5), np.arange(200.0), r"all 200 scores of the new model are 0\.5"),
        (np.arange(200.0), np.full(200, 0.5), r"all 200 scores of the old model are 0\.5"),
    ],
)
def test_what_cannot_be_linked_is_refused(new: np.ndarray, old: np.ndarray, message: str):
    with pytest.raises(InvalidArgument, match=message) as caught:
        link_of(new, old, "old@1", "d")
    assert caught.value.hint


def test_pictures_are_matched_and_those_without_a_partner_named():
    new = [Prediction(f"n/{index}.jpg", score=index / 100) for index in range(40)]
    old = [Prediction(f"./n/{index}.jpg", score=index / 50) for index in reversed(range(1, 41))]
    new[7] = Prediction("n/7.jpg", status="corrupt")
    a, b, left_out = paired_scores(new, [*old, Prediction("n/1.jpg", 1, score=0.0)])
    assert (b == 2 * a).all()
    assert (a.size, sorted(left_out)) == (38, ["./n/40.jpg", "n/0.jpg", "n/7.jpg"])


@pytest.mark.parametrize(
    ("new", "old", "message"),
    [
        (["a.jpg", "a.jpg"], ["a.jpg"], r"a.jpg has two predictions: 0\.0 and 0\.1"),
        (["a.jpg"], ["a.jpg", "./a.jpg"], "a.jpg has two predictions"),
        (["a.jpg"], ["huge.jpg"], r"huge.jpg has the score 1e\+39, which no model can give"),
        (["a.jpg", "b.jpg"], ["a.jpg"], "1 of 2 pictures of the new table have no prediction: b.jpg"),
        (["a.jpg"], ["a.jpg", "b.jpg"], "1 of 2 pictures of the old table"),
    ],
)
def test_tables_of_other_pictures_are_refused(new: list[str], old: list[str], message: str):
    rows = [
        [
            Prediction(name, score=1e39 if name == "huge.jpg" else place / 10)
            for place, name in enumerate(names)
        ]
        for names in (new, old)
    ]
    with pytest.raises(RecordError, match=message) as caught:
        paired_scores(*rows)
    assert caught.value.hint


# Whose numbers they are


def test_predictions_of_another_model_are_recognised_by_their_quality(card: ModelCard):
    own = [Prediction("a.jpg", score=0.42, quality=42.0), Prediction("b.jpg", status="corrupt")]
    check_made_by(own, card.population, "mean@1")
    check_made_by(own, None, "mean@1")
    with pytest.raises(RecordError, match=r"not of mean@1: a.jpg has score 0.42 and quality 42, .* 64.8"):
        check_made_by(own, SQUARES, "mean@1")


def test_two_tables_of_one_model_agree_and_others_do_not():
    first = [Prediction("a", score=score / 100, quality=float(score)) for score in range(100)]
    second = [Prediction("b", score=score / 100 + 0.005, quality=score + 0.5) for score in range(100)]
    check_one_scale(first, second)
    check_one_scale(first, predictions([0.5]))
    with pytest.raises(RecordError, match="not of one model and calibration"):
        check_one_scale(first, [dataclasses.replace(row, quality=row.quality / 2) for row in second])


@pytest.mark.parametrize("link", [None, Link("old@1", "e", 100, (0.0, 1.0), (0.0, 0.5))])
def test_a_calibration_is_what_was_written(tmp_path: Path, link: Link | None):
    calibration = Calibration("mean@1", "d", SQUARES, link)
    write_calibration(tmp_path / "c.json", calibration)
    assert read_calibration(tmp_path / "c.json") == calibration
    # 0.25 is the 50th percentile of squares; linked, 0.5 is 0.25.
    assert calibration.quality(0.25 if link is None else 0.5) == pytest.approx(50)


# No comparison with NaN is true, so a table that begins with it never falls.
NAN_FIRST = {"name": "", "n": 1, "scores": [float("nan"), *range(100)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "field 'digest' is missing"),
        ('{"model": 1, "digest": "", "population": {"name": "", "n": 1, "scores": []}}', "model must be str"),
        ('{"model": "", "digest": "", "population": {"name": "", "n": 1, "scores": [1]}}', "101 numbers"),
        ('{"model": "", "digest": "", "population": null, "more": 1}', "unknown field 'more'"),
        (f'{{"model": "", "digest": "", "population": {json.dumps(NAN_FIRST)}}}', "finite, but got nan"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(ModelError, match="cannot be read"):
        read_calibration(tmp_path / "gone.json")


def test_quality_is_that_of_the_calibration(model: Path, grey: Callable[..., Path], tmp_path: Path):
    own = Scorer(model)
    calibration = Calibration("mean@1", own.digest, SQUARES)
    (row,) = Scorer(model, calibration=calibration).predict(grey(tmp_path / "a.png", 51), faces="none")
    assert (row.score, row.quality) == (0.2, pytest.approx(44.7, abs=0.1))


def test_another_models_calibration_is_refused(model: Path, other_model: Path):
    calibration = Calibration("mean@1", Scorer(model).digest, SQUARES)
    with pytest.raises(
        ModelError, match=r"the calibration is of mean@1 \(.*\), but the model is half@1"
    ) as caught:
        Scorer(other_model, calibration=calibration)
    assert "efiqa calibrate" in str(caught.value.hint)


# efiqa calibrate


@pytest.fixture
def folder(
    tmp_path: Path, grey: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, model: Path, other_model: Path
) -> Path:
    """mean.csv and half.csv: what both models say of 128 grey levels; half says half of what mean does."""
    monkeypatch.chdir(tmp_path)
    levels = [grey(Path("p") / f"{level:03}.png", level) for level in range(0, 256, 2)]
    for path, name in ((model, "mean"), (other_model, "half")):
        rows = Scorer(path, workers=1).score_many(map(str, levels), faces="none")
        write_predictions(Path(f"{name}.csv"), rows)
    return tmp_path


def test_a_table_of_my_own_is_used_and_refused_by_another_model(
    command: Command, folder: Path, model: Path, other_model: Path
):
    made = command("calibrate", "mean.csv", "--name", "grey desk", "-m", model, "-o", "desk.json")
    assert (made.code, made.out) == (0, "")
    assert "128 scores of mean@1 → desk.json" in made.err
    assert json.loads(Path("desk.json").read_text())["population"]["name"] == "grey desk"
    score = ["score", "p/128.png", "--faces", "none", "--calibration", "desk.json"]
    result = command(*score, "-m", model)
    assert json.loads(result.out)["quality"] == pytest.approx(50.4, abs=0.1)  # 64 of 127 steps
    result = command(*score, "-m", other_model)
    assert (result.code, "but the model is half@1" in result.err) == (2, True)


def test_a_link_keeps_numbers_when_the_model_changes(
    command: Command, folder: Path, model: Path, other_model: Path
):
    made = command(
        "calibrate", "half.csv", "--link", "mean.csv", "-m", other_model, "--old-model", model, "-o", "l.json"
    )
    assert made.code == 0
    assert "128 pictures: half@1 → the scale of mean@1, SRCC 1.000" in made.err
    score = [
        "score",
        "p",
        "--faces",
        "none",
        "-m",
        other_model,
        "--calibration",
        "l.json",
        "-o",
        "linked.csv",
    ]
    assert command(*score).code == 0
    linked, old = (list(read_predictions(Path(name))) for name in ("linked.csv", "mean.csv"))
    for now, then in zip(linked, old, strict=True):
        assert now.score == pytest.approx(then.score / 2, abs=1e-5)
        assert now.quality == pytest.approx(then.quality, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mean.csv", "-o", "t.json"], "either --name"),
        (
            ["mean.csv", "--name", "x", "--link", "half.csv", "--old-model", "m", "-o", "t.json"],
            "either --name",
        ),
        (["mean.csv", "--link", "half.csv", "-o", "t.json"], "go together"),
        (["half.csv", "--name", "x", "-o", "t.json"], "the predictions are not of mean@1"),
        (["few.csv", "--name", "x", "-o", "t.json"], "at least 100 scores, but got 3"),
        (["gone.csv", "--name", "x", "-o", "t.json"], "gone.csv cannot be read"),
        (["mean.csv", "--name", "x", "-o", "p/000.png/t.json"], "cannot be written"),
    ],
)
def test_mistakes_are_sentences_and_leave_no_file(
    command: Command, folder: Path, model: Path, arguments: list[str], message: str
):
    rows = [dataclasses.replace(row, quality=row.quality + 5) for row in read_predictions(Path("half.csv"))]
    write_predictions(Path("half.csv"), rows)
    write_predictions(Path("few.csv"), list(read_predictions(Path("mean.csv")))[:3])
    result = command("calibrate", *arguments, "-m", model)
    assert result.code == 2
    assert message in result.err
    assert "hint:" in result.err
    assert not Path("t.json").exists()
