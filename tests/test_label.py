"""Predictions become labels of the crops that were scored, and nobody changes the split; doubt counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from efiqa.errors import ImageNotFound, InvalidArgument, RecordError
from efiqa.faces import Box, face_crop
from efiqa.label import combine, label, rated_pairs, trust
from efiqa.metrics import Logistic, fit_logistic
from efiqa.records import Prediction, Row, read_manifest, write_manifest
from efiqa.scorer import Scorer
from efiqa.sources import load_row

Grey = Callable[..., Path]


def test_splits_and_groups_are_carried_over():
    manifest = [Row("p/a.jpg", 0.9, "validation", "human", "anna"), Row("p/b.jpg", None, "test", "", "ben")]
    predictions = [
        Prediction("p/b.jpg", score=0.2),
        Prediction("./p/a.jpg", score=0.3),
        Prediction("c.jpg", score=-0.1),
    ]
    assert list(label(predictions, "teacher@1", crop_scale=1.7, manifest=manifest)) == [
        Row("p/b.jpg", 0.2, "test", "teacher@1", "ben"),
        Row("p/a.jpg", 0.3, "validation", "teacher@1", "anna"),
        Row("c.jpg", -0.1, "train", "teacher@1", "c.jpg"),
    ]


def test_rows_without_a_score_are_skipped_and_told():
    predictions = [
        Prediction("a.jpg", score=0.0),
        Prediction("b.jpg", status="no_face"),
        Prediction("c.jpg", status="corrupt"),
    ]
    skipped: list[str] = []
    rows = list(label(predictions, "t@1", crop_scale=1.7, skipped=lambda row: skipped.append(row.status)))
    assert [row.image for row in rows] == ["a.jpg"]
    assert skipped == ["no_face", "corrupt"]


@pytest.mark.parametrize("predictions", [[], [Prediction("b.jpg", status="no_face")]])
def test_nothing_to_label_with_is_an_error(predictions: list[Prediction]):
    with pytest.raises(RecordError, match="nothing to label with"):
        list(label(predictions, "t@1", crop_scale=1.7))


@pytest.mark.parametrize(
    "box", [(50.0, 20.0, 30.0, 40.0), (-5.0, -3.0, 20.4, 10.2), (100.0, 60.0, 19.0, 19.9), (0, 0, 120, 80)]
)
def test_a_face_becomes_the_square_that_was_scored(tmp_path: Path, grey: Grey, box: tuple[float, ...]):
    path = str(grey(tmp_path / "a.png", size=(120, 80)))
    x, y, width, height = box
    prediction = Prediction(path, 0, "ok", 0.5, x=x, y=y, width=width, height=height)
    (row,) = label([prediction], "t@1", crop_scale=1.7)
    assert row.bounds == face_crop(Box(*box), 120, 80, scale=1.7)
    assert row.width == row.height


def test_the_square_holds_the_very_pixels_that_were_scored(tmp_path: Path, model: Path, known_faces):
    array = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
    PIL.Image.fromarray(array).save(tmp_path / "a.png")
    scorer = Scorer(model, detector=known_faces((40.26, 30.11, 33.3, 31.9), (-4.4, 3.3, 11.1, 15.5)))
    predictions = scorer.score_many([tmp_path / "a.png"])
    write_manifest(tmp_path / "m.csv", label(predictions, "t@1", crop_scale=scorer.card.crop_scale))
    rows = read_manifest(tmp_path / "m.csv")
    assert len(rows) == 2
    assert [scorer.score(load_row(row)) for row in rows] == [row.score for row in rows]


def test_a_label_of_the_whole_picture_does_not_keep_the_manifests_square():
    manifest = [Row("a.jpg", 0.9, "test", "human", "anna", 10, 10, 20, 20)]
    (row,) = label([Prediction("a.jpg", score=0.2)], "t@1", crop_scale=1.7, manifest=manifest)
    assert row == Row("a.jpg", 0.2, "test", "t@1", "anna")


def test_a_face_of_a_picture_that_is_gone_is_an_error(tmp_path: Path):
    prediction = Prediction(str(tmp_path / "gone.jpg"), score=0.5, x=0, y=0, width=9, height=9)
    with pytest.raises(ImageNotFound, match="gone"):
        list(label([prediction], "t@1", crop_scale=1.7))


# Several models


FACE = Prediction("a.jpg", 0, "ok", 0.4, x=10.0, y=20.0, width=30.0, height=40.0)


def combined(
    *tables: list[Prediction], calibrations: list[Logistic | None] | None = None
) -> list[Prediction]:
    names = [f"{letter}.csv" for letter in "abc"[: len(tables)]]
    return list(combine(tables, names, calibrations or [None] * len(tables)))


def test_one_model_is_passed_through():
    rows = [FACE, replace(FACE, face=1, spread=0.03), Prediction("b.jpg", status="no_face")]
    assert combined(rows) == rows


def test_a_label_is_the_mean_and_its_doubt_the_spreads_and_the_difference():
    a, b = replace(FACE, spread=0.03), replace(FACE, score=0.6, spread=0.05)
    (row,) = combined([a], [b])
    assert row.score == pytest.approx(0.5, abs=1e-15)
    # The mean of 0.03² and 0.05², and the variance of 0.4 and 0.6, which is 0.1².
    assert row.spread == pytest.approx((0.0017 + 0.01) ** 0.5, abs=1e-15)
    assert (row.x, row.y, row.width, row.height) == (10, 20, 30, 40)


def test_models_without_views_differ_by_their_scores_alone():
    (row,) = combined([replace(FACE, score=0.1)], [replace(FACE, score=0.4)], [replace(FACE, score=0.7)])
    assert row.score == pytest.approx(0.4)
    assert row.spread == pytest.approx(0.06**0.5)


def test_each_model_has_its_own_calibration():
    double, steep = Logistic(0.0, 2.0, 0.4, 1.0), Logistic(0.0, 0.5, 0.4, 1e9)
    (row,) = combined([FACE], [replace(FACE, score=0.9)], calibrations=[double, steep])
    assert row.score == pytest.approx((1.0 + 0.5) / 2)
    assert row.spread == pytest.approx(0.25)


def test_the_spread_is_calibrated_as_the_score_is():
    # A logistic of slope 4 / 2 at its centre doubles small differences there: 2 · 4 / 4.
    (row,) = combined([replace(FACE, spread=0.001)], calibrations=[Logistic(0.0, 2.0, 0.4, 4.0)])
    assert row.score == pytest.approx(1.0)
    assert row.spread == pytest.approx(0.002, rel=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_a_face_that_one_model_could_not_score_has_its_status(first: bool):
    failed = Prediction("a.jpg", status="corrupt", message="half a file")
    (row,) = combined([failed], [FACE]) if first else combined([FACE], [failed])
    assert row == failed


def test_boxes_may_differ_by_rounding_and_paths_by_spelling():
    other = replace(FACE, image="./a.jpg", x=10.5, height=39.5, score=0.6)
    (row,) = combined([FACE], [other])
    assert (row.image, row.x, row.score) == ("a.jpg", 10, 0.5)


MISMATCHES = [
    ([replace(FACE, image="b.jpg")], "a.jpg and b.jpg", "another picture"),
    ([replace(FACE, face=1)], "face 0 and face 1 of a.jpg", "another face"),
    ([replace(FACE, x=10.6)], "boxes .* of a.jpg", "another box"),
    ([replace(FACE, width=29.4)], "boxes .* of a.jpg", "a narrower box"),
    ([Prediction("a.jpg", score=0.4)], "the whole of a.jpg", "no box"),
    ([], "one of them ends before it", "a missing row"),
]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("rows", "reason"), [case[:2] for case in MISMATCHES], ids=[case[2] for case in MISMATCHES]
)
def test_rows_that_are_not_of_one_face_are_an_error_that_names_the_row_and_the_files(
    rows: list[Prediction], reason: str, swap: bool
):
    same = Prediction("0.jpg", score=0.1)
    tables = [[same, FACE], [same, *rows]]
    expected = "row 2 of a.csv and of b.csv are not of the same face: "
    with pytest.raises(RecordError, match=expected if swap else expected + ".*" + reason):
        combined(*tables[:: -1 if swap else 1])


def test_tables_are_read_as_they_are_combined():
    def endless(score: float) -> Iterator[Prediction]:
        while True:
            yield replace(FACE, score=score)

    rows = combine([endless(0.2), endless(0.4)], ["a", "b"], [None, None])
    assert [round(float(next(rows).score or 0), 9) for _ in range(3)] == [0.3, 0.3, 0.3]


# Doubt


def doubted(*spreads: float | None) -> list[Prediction]:
    return [Prediction(f"{index}.jpg", score=0.5, spread=spread) for index, spread in enumerate(spreads)]


def test_the_weight_is_one_half_at_the_median():
    assert trust(doubted(0.0, 0.01, 0.02, 0.04, 0.06), weigh=True) == pytest.approx([1, 0.8, 0.5, 0.2, 0.1])


def test_where_most_agree_fully_only_they_count():
    assert trust(doubted(0, 0, 0.1), weigh=True) == [1, 1, 0]
    assert trust(doubted(0, 0), weigh=True) == [1, 1]


def test_the_most_doubted_are_dropped_and_of_equals_the_last():
    assert trust(doubted(0.3, 0.1, 0.2, 0.2, 0.2), keep=0.6) == [None, 1, 1, 1, None]
    assert trust(doubted(*[0.1] * 10), keep=0.7) == [1] * 7 + [None] * 3
    assert trust(doubted(0.3, 0.1), keep=0.001) == [None, 1]


def test_dropping_does_not_change_the_weights_of_the_rest():
    whole = trust(doubted(0.3, 0.1, 0.2), weigh=True)
    assert trust(doubted(0.3, 0.1, 0.2), weigh=True, keep=0.67) == [None, *whole[1:]]


def test_faces_without_a_score_have_no_weight():
    rows = [Prediction("x.jpg", status="no_face"), *doubted(0.1)]
    assert trust(rows, weigh=True) == [0.5]
    assert trust(rows[:1], weigh=True) == []


def test_a_face_that_nothing_is_known_about_is_an_error_with_a_hint():
    with pytest.raises(RecordError, match=r"1\.jpg, face 0") as caught:
        trust(doubted(0.1, None), weigh=True)
    assert "--views" in str(caught.value.hint)


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, float("nan")])
def test_a_share_to_keep_is_above_nothing_and_at_most_all(keep: float):
    with pytest.raises(InvalidArgument, match="keep must be"):
        trust(doubted(0.1), keep=keep)


def test_weights_reach_the_rows_and_none_leaves_one_out():
    rows = [*doubted(0, 0), Prediction("x.jpg", status="no_face"), *doubted(0)]
    labels = list(label(rows, "t@1", crop_scale=1.7, weights=[0.5, None, 0.25]))
    assert [(row.image, row.weight) for row in labels] == [("0.jpg", 0.5), ("0.jpg", 0.25)]


def test_a_human_rows_weight_is_not_the_pseudo_labels():
    manifest = [Row("a.jpg", 0.9, "test", "human", "anna", weight=7.0)]
    (row,) = label([Prediction("a.jpg", score=0.2)], "t@1", crop_scale=1.7, manifest=manifest)
    assert row == Row("a.jpg", 0.2, "test", "t@1", "anna")


# Calibration


def test_pairs_are_matched_by_path_and_of_whole_pictures_with_human_training_labels():
    ratings = [
        Row("p/a.jpg", 0.1, "train", "human"),
        Row("p/b.jpg", 0.2, "train", "human"),
        Row("p/validation.jpg", 0.3, "validation", "human"),
        Row("p/test.jpg", 0.4, "test", "human"),
        Row("p/model.jpg", 0.5, "train", "teacher@1"),
        Row("p/none.jpg", None, "train", "human"),
        Row("p/square.jpg", 0.6, "train", "human", "", 0, 0, 9, 9),
        Row("p/failed.jpg", 0.7, "train", "human"),
        Row("p/face.jpg", 0.8, "train", "human"),
    ]
    rated = [
        Prediction("p/../p/b.jpg", score=0.02),
        *(
            Prediction(f"p/{name}.jpg", score=9.0)
            for name in ("validation", "test", "model", "none", "square")
        ),
        Prediction("p/failed.jpg", status="corrupt"),
        replace(FACE, image="p/face.jpg"),
        Prediction("p/other.jpg", score=0.5),
        Prediction("./p/a.jpg", score=0.01),
    ]
    scores, labels = rated_pairs(ratings, rated)
    assert (scores.tolist(), labels.tolist()) == ([0.02, 0.01], [0.2, 0.1])
    with pytest.raises(RecordError, match="no rated prediction"):
        rated_pairs(ratings, rated[1:-1])


def test_validation_rows_have_no_influence_on_the_calibration():
    scores = np.random.default_rng(0).uniform(0, 1, 60)
    truth = Logistic(0.1, 0.9, 0.5, 7.0)
    rated = [Prediction(f"{index}.jpg", score=float(score)) for index, score in enumerate(scores)]
    train = [Row(f"{index}.jpg", float(truth(scores[index])), "train", "human") for index in range(40)]
    fits = []
    for wrong in (0.0, 1.0):
        held_out = [Row(f"{index}.jpg", wrong, "validation", "human") for index in range(40, 60)]
        fits.append(fit_logistic(*rated_pairs([*held_out, *train], rated)))
    assert fits[0] == fits[1]
    assert fits[0](scores) == pytest.approx(truth(scores), abs=1e-6)
