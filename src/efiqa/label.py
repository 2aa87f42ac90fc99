"""Predictions → manifest: models' scores become pseudo-labels, a score run's boxes become crops.

One model or several, each calibrated to human ratings or not, → `combine` → one prediction per face, its
score the mean, its spread the disagreement → `trust` → weights → `label` → rows. All but the weights stream.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from efiqa.errors import InvalidArgument, RecordError
from efiqa.faces import Box, face_crop
from efiqa.image import load_image
from efiqa.metrics import Logistic, Vector
from efiqa.records import Prediction, Row

SAME_BOX = 0.5
"""Boxes of one face may differ by this many pixels: rounding, not another detector."""


def rated_pairs(ratings: Iterable[Row], rated: Iterable[Prediction]) -> tuple[Vector, Vector]:
    """(scores, labels), float64 (n,) each, to fit a calibration on.

    Of `ratings` only whole pictures of split `train` and source `human` count, of `rated` only whole
    pictures (scored with faces none): what a model is measured on later must not shape its labels.

    Raises RecordError where they have no picture in common.
    """
    labels = {
        os.path.normpath(row.image): row.score
        for row in ratings
        if row.split == "train" and row.source == "human" and row.score is not None and row.bounds is None
    }
    pairs = [
        (row.score, label)
        for row in rated
        if row.score is not None
        and _box(row) is None
        and (label := labels.get(os.path.normpath(row.image))) is not None
    ]
    if not pairs:
        raise RecordError(
            "no rated prediction is of a whole picture with a human label in split train",
            hint="score the rated manifest itself, with --faces none, from the same working folder",
        )
    scores, targets = np.array(pairs, np.float64).T
    return scores, targets


def combine(
    tables: Sequence[Iterable[Prediction]], names: Sequence[str], calibrations: Sequence[Logistic | None]
) -> Iterator[Prediction]:
    """One prediction per face from those of several models (or one), in the same order; lazily.

    Its score is the mean of the models' calibrated scores cᵢ, its spread their disagreement

        d = √(mean of sᵢ² + variance of cᵢ),   sᵢ = (c(score + spread) − c(score − spread)) / 2,

    the variance of a score drawn at random from the models' views; none where one model stands alone and
    scored no views. Models without views leave out the first term. A face that one of them could not score
    has its status and no score. `names` are those of the tables, for errors.

    Raises RecordError for a row that is not of the same picture, face and box in all.
    """
    for number, rows in enumerate(zip_longest(*tables), 1):
        first = rows[0]
        for row, name in zip(rows[1:], names[1:], strict=True):
            if difference := _difference(first, row):
                raise RecordError(
                    f"row {number} of {names[0]} and of {name} are not of the same face: {difference}",
                    hint="score the same inputs with every model, with the same --faces and --detector",
                )
        scores: list[float] = []
        squares: list[float] = []
        for row, calibration in zip(rows, calibrations, strict=True):
            if row.score is None:
                yield row
                break
            score, spread = row.score, row.spread
            if calibration is not None:
                if spread is not None:
                    spread = float(calibration(score + spread) - calibration(score - spread)) / 2
                score = float(calibration(score))
            scores.append(score)
            squares += [] if spread is None else [spread**2]
        else:
            known = len(rows) > 1 or squares
            spread = math.sqrt(np.mean(squares or [0.0]) + np.var(scores)) if known else None
            yield replace(first, score=float(np.mean(scores)), spread=spread)


def trust(predictions: Iterable[Prediction], *, weigh: bool = False, keep: float = 1.0) -> list[float | None]:
    """What each scored face's label counts for, in order; none for those to leave out.

    A face with disagreement d (its `spread`) weighs 1 / (1 + (d / median d)²), which is the weight of a
    Cauchy error of that scale: 1/2 at the median. Without `weigh` it is 1. Of n faces the round(keep · n)
    with the least disagreement are kept, among equals the first. Pseudo-labels are known to serve better
    without those the model is unsure of (Rizve et al., "In Defense of Pseudo-Labeling", ICLR 2021, arXiv
    2101.06329); here it is unsure where views that leave the quality as it is change its score.

    Raises InvalidArgument unless 0 < keep ≤ 1, RecordError for a face without disagreement.
    """
    if not 0 < keep <= 1:
        raise InvalidArgument(f"keep must be above 0 and at most 1, but got {keep}", hint="1 keeps all")
    values: list[float] = []
    for row in predictions:
        if row.score is None:
            continue
        if row.spread is None:
            raise RecordError(
                f"nothing says how sure the label of {row.image}, face {row.face}, is",
                hint="score with --views flip,shift,scale,rotate, or label with two models or more",
            )
        values.append(row.spread)
    if not values:
        return []
    d = np.array(values)
    if weigh:
        median = float(np.median(d))
        # Where most faces have no disagreement, the limit: they weigh 1, the others 0.
        weights = 1 / (1 + np.square(d / median)) if median > 0 else np.where(d > 0, 0.0, 1.0)
    else:
        weights = np.ones_like(d)
    kept = np.zeros(d.size, bool)
    kept[np.argsort(d, kind="stable")[: max(1, round(keep * d.size))]] = True
    return [weight if stays else None for weight, stays in zip(weights.tolist(), kept, strict=True)]


def label(
    predictions: Iterable[Prediction],
    source: str,
    *,
    crop_scale: float,
    manifest: Iterable[Row] = (),
    weights: Iterable[float | None] | None = None,
    skipped: Callable[[Prediction], None] = lambda row: None,
) -> Iterator[Row]:
    """One row per scored face, its label the score and its square the crop that was scored.

    Split and group come from `manifest` where it names the picture, so that a person in validation
    stays there; other pictures are training rows of their own group. `weights` has one for each scored
    face, as `trust` gives them. Rows without a score are passed to `skipped`. `source` names the model, as
    name@version, or several joined by +.

    Raises RecordError when no face has a score.
    """
    known = {os.path.normpath(row.image): row for row in manifest}
    left = None if weights is None else iter(weights)
    found = False
    for prediction in predictions:
        if prediction.score is None:
            skipped(prediction)
            continue
        found = True
        weight = 1.0 if left is None else next(left)
        if weight is None:
            continue
        path = os.path.normpath(prediction.image)
        home = known.get(path, Row(image=path, group=path))
        row = Row(path, prediction.score, home.split, source, home.group, weight=weight)
        box = _box(prediction)
        yield row if box is None else _cropped(row, box, crop_scale)
    if not found:
        raise RecordError("no prediction has a score, so there is nothing to label with")


def _cropped(row: Row, box: Box, crop_scale: float) -> Row:
    height, width = load_image(Path(row.image)).shape[:2]
    left, top, right, bottom = face_crop(box, width, height, scale=crop_scale)
    return replace(row, x=left, y=top, width=right - left, height=bottom - top)


def _box(row: Prediction) -> Box | None:
    if row.x is None or row.y is None or row.width is None or row.height is None:
        return None
    return Box(row.x, row.y, row.width, row.height)


def _difference(first: Prediction | None, row: Prediction | None) -> str:
    """What two models' rows differ in that should be of one face; empty for nothing."""
    if first is None or row is None:
        return "one of them ends before it"
    if os.path.normpath(first.image) != os.path.normpath(row.image):
        return f"{first.image} and {row.image}"
    if first.face != row.face:
        return f"face {first.face} and face {row.face} of {row.image}"
    if first.score is None or row.score is None:
        return ""
    boxes = [(box.x, box.y, box.width, box.height) if (box := _box(each)) else None for each in (first, row)]
    if boxes[0] is None or boxes[1] is None:
        return "" if boxes[0] is boxes[1] else f"a face and the whole of {row.image}"
    near = all(abs(a - b) <= SAME_BOX for a, b in zip(*boxes, strict=True))
    return "" if near else f"boxes {boxes[0]} and {boxes[1]} of {row.image}"
