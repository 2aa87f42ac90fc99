"""Predictions become labels of the crops that were scored, and nobody changes the split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from efiqa.errors import ImageNotFound, RecordError
from efiqa.faces import Box, face_crop
from efiqa.label import label
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
