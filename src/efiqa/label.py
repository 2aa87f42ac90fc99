"""Predictions → manifest: a model's scores become pseudo-labels, a score run's boxes become crops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from efiqa.errors import RecordError
from efiqa.faces import Box, face_crop
from efiqa.image import load_image
from efiqa.records import Prediction, Row


def label(
    predictions: Iterable[Prediction],
    source: str,
    *,
    crop_scale: float,
    manifest: Iterable[Row] = (),
    skipped: Callable[[Prediction], None] = lambda row: None,
) -> Iterator[Row]:
    """One row per scored face, its label the score and its square the crop that was scored.

    Split and group come from `manifest` where it names the picture, so that a person in validation
    stays there; other pictures are training rows of their own group. Rows without a score are passed
    to `skipped`. `source` names the model, as name@version.

    Raises RecordError when none is left.
    """
    known = {os.path.normpath(row.image): row for row in manifest}
    found = False
    for prediction in predictions:
        if prediction.score is None:
            skipped(prediction)
            continue
        found = True
        path = os.path.normpath(prediction.image)
        row = known.get(path, Row(image=path, group=path))
        row = replace(
            row, image=path, score=prediction.score, source=source, x=None, y=None, width=None, height=None
        )
        if None not in (prediction.x, prediction.y, prediction.width, prediction.height):
            row = _cropped(row, prediction, crop_scale)
        yield row
    if not found:
        raise RecordError("no prediction has a score, so there is nothing to label with")


def _cropped(row: Row, prediction: Prediction, crop_scale: float) -> Row:
    box = Box(
        *(float(value or 0.0) for value in (prediction.x, prediction.y, prediction.width, prediction.height))
    )
    height, width = load_image(Path(row.image)).shape[:2]
    left, top, right, bottom = face_crop(box, width, height, scale=crop_scale)
    return replace(row, x=left, y=top, width=right - left, height=bottom - top)
