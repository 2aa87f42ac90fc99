"""Intervals hold as many ratings as they say, of pictures and groups they were not made from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from efiqa.card import Interval, ModelCard
from efiqa.conformal import COVERAGE, cross_coverage, fit_interval, held_out
from efiqa.errors import InvalidArgument, ModelError, RecordError
from efiqa.records import Prediction, Row
from efiqa.scorer import Scorer

INTERVAL = Interval("mean rating", 100, (0.5, 0.9), (0.4,), ((0.05, 0.1), (0.1, 0.3)), (0.5, 0.9))


def uneven(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in 0–1 and ratings whose error is four times as large below 0.5 as above."""
    generator = np.random.default_rng(seed)
    scores = generator.uniform(0, 1, n)
    return scores, scores + generator.normal(0, 1, n) * np.where(scores < 0.5, 0.2, 0.05)


def test_halfwidths_are_the_kth_distance_worked_out_by_hand():
    # 99 distances 0.01, …, 0.99 at one score: k = ⌈c · 100⌉, so 0.5, 0.8, 0.9 and 0.95.
    scores, distances = np.full(99, 0.5), np.arange(1, 100) / 100
    found = fit_interval(scores, scores + distances, [str(index) for index in range(99)], of="it")
    assert (found.edges, found.n, found.of) == ((), 99, "it")
    assert [row[0] for row in found.halfwidths] == pytest.approx([0.5, 0.8, 0.9, 0.95], abs=1.1e-5)


def test_an_interval_is_looked_up_by_bin_a_score_at_an_edge_in_the_upper():
    assert INTERVAL.around(0.2, 0.9) == pytest.approx((0.1, 0.3))
    assert INTERVAL.around(0.4, 0.9) == pytest.approx((0.1, 0.7))
    assert INTERVAL.around(0.5, 0.5) == pytest.approx((0.4, 0.6))
    with pytest.raises(InvalidArgument, match=r"no intervals of coverage 0\.8") as caught:
        INTERVAL.around(0.5, 0.8)
    assert caught.value.hint == "it has those of 0.5, 0.9"


def test_coverage_holds_on_new_pictures_in_every_part_of_the_scale():
    scores, ratings = uneven(2000, 0)
    fitted = fit_interval(scores, ratings, [str(index) for index in range(2000)], of="it")
    new_scores, new_ratings = uneven(20_000, 1)
    for level, measured in zip(fitted.coverage, fitted.measured, strict=True):
        ends = np.array([fitted.around(score, level) for score in new_scores])
        held = (ends[:, 0] <= new_ratings) & (new_ratings <= ends[:, 1])
        assert held.mean() == pytest.approx(level, abs=0.02)
        assert measured == pytest.approx(level, abs=0.02)
        for low in (0, 0.25, 0.5, 0.75):
            inside = (new_scores >= low) & (new_scores < low + 0.25)
            assert held[inside].mean() == pytest.approx(level, abs=0.05)


def test_measured_coverage_tells_when_groups_are_not_alike():
    # One group in twenty is far off: its own intervals would know, those of the others cannot.
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    scores = generator.uniform(0, 1, 400)
    ratings = scores + generator.normal(0, 0.02, 400) + np.where(groups == 0, 0.5, 0.0)
    held, width = cross_coverage(scores, ratings, [str(group) for group in groups])[0.95]
    assert held[groups == 0].mean() < 0.6
    assert held[groups != 0].mean() > 0.95
    assert width.shape == (400,)


def test_too_few_ratings_and_a_single_group_are_refused():
    scores, ratings = uneven(49, 0)
    with pytest.raises(InvalidArgument, match="at least 50 held-out ratings, but got 49"):
        fit_interval(scores, ratings, [str(index) for index in range(49)], of="it")
    scores, ratings = uneven(100, 0)
    with pytest.raises(InvalidArgument, match="all ratings are of one group"):
        fit_interval(scores, ratings, ["one"] * 100, of="it")


def test_only_whole_pictures_that_no_training_has_seen_count():
    ratings = [
        Row("p/validation.jpg", 0.1, "validation", "human", "anna"),
        Row("p/test.jpg", 0.2, "test", "human"),
        Row("p/train.jpg", 0.3, "train", "human"),
        Row("p/model.jpg", 0.4, "validation", "teacher@1"),
        Row("p/none.jpg", None, "validation", "human"),
        Row("p/square.jpg", 0.5, "validation", "human", "", 0, 0, 9, 9),
        Row("p/face.jpg", 0.6, "validation", "human"),
        Row("p/failed.jpg", 0.7, "validation", "human"),
    ]
    rated = [Prediction(f"./{row.image}", score=0.9) for row in ratings[:6]]
    rated += [Prediction("p/face.jpg", score=0.9, x=0, y=0, width=9, height=9)]
    rated += [Prediction("p/failed.jpg", status="corrupt")]
    scores, truths, groups = held_out(ratings, rated)
    assert (scores.tolist(), truths.tolist(), groups) == ([0.9, 0.9], [0.1, 0.2], ["anna", "p/test.jpg"])
    with pytest.raises(RecordError, match="no rated prediction"):
        held_out(ratings, rated[2:])


def test_a_card_keeps_its_interval(card: ModelCard):
    kept = ModelCard.from_json(dataclasses.replace(card, interval=INTERVAL).to_json())
    assert kept.interval == INTERVAL


@pytest.mark.parametrize(
    "changes",
    [
        {"halfwidths": ((0.05, 0.1),)},
        {"halfwidths": ((0.05,), (0.1,))},
        {"halfwidths": ((0.05, -0.1), (0.1, 0.3))},
        {"measured": (0.5,)},
    ],
)
def test_an_interval_that_contradicts_itself_is_refused(card: ModelCard, changes: dict[str, object]):
    values = json.loads(dataclasses.replace(card, interval=INTERVAL).to_json())
    values["interval"] |= changes
    with pytest.raises(ModelError, match=r"interval\.halfwidths must be"):
        ModelCard.from_json(json.dumps(values))


def test_rows_have_intervals_where_they_are_asked_for(tmp_path: Path, make_model, grey, card: ModelCard):
    metadata = dataclasses.replace(card, interval=INTERVAL).to_json()
    model = make_model(tmp_path / "m.onnx", metadata=metadata)
    picture = grey(tmp_path / "a.png", 51)  # 0.2
    (row,) = Scorer(model, coverage=0.9).predict(picture, faces="none")
    assert (row.score, row.low, row.high) == (0.2, 0.1, 0.3)
    (row,) = Scorer(model).predict(picture, faces="none")
    assert (row.low, row.high) == (None, None)
    with pytest.raises(InvalidArgument, match=r"no intervals of coverage 0\.8"):
        Scorer(model, coverage=0.8)


def test_a_model_without_intervals_says_so(model: Path, command):
    with pytest.raises(ModelError, match="has no intervals in its card") as caught:
        Scorer(model, coverage=0.9)
    assert "--ratings" in str(caught.value.hint)
    result = command("score", "a.png", "--intervals", "-m", model)
    assert (result.code, "has no intervals" in result.err) == (2, True)


def test_every_coverage_is_asked_of_pictures_in_0_to_1():
    assert all(0 < level < 1 for level in COVERAGE)
    assert list(COVERAGE) == sorted(COVERAGE)
