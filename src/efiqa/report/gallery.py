"""Small pictures of the best, the worst and the most wrongly scored faces."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from efiqa.entrants import Entrant
from efiqa.errors import EfiqaError
from efiqa.evaluate import Evaluation
from efiqa.faces import Box, face_crop
from efiqa.image import Image, crop, load_image
from efiqa.metrics import ranks
from efiqa.records import Row
from efiqa.report.plots import Drawing
from efiqa.sources import load_row

SHOWN = 6
TRIED = 5 * SHOWN
"""As some pictures cannot be read."""
SIDE = 112
"""Longer side of a small picture, in pixels."""
MARGIN = 1.7
"""Side of the square around a face box, in its longer side: what the shipped model looks at."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Pictures beside each other under one title."""

    title: str
    drawings: tuple[Drawing, ...]


def strips(evaluation: Evaluation) -> Iterator[Strip]:
    """For each entrant its highest and lowest scores and, where there are ratings, the furthest from them.

    Furthest is by the fitted score or, without a fit, by rank. A picture that cannot be read is passed over.
    """
    for entrant in evaluation.entrants:
        scored = np.flatnonzero(np.isfinite(entrant.score))
        scores = entrant.score[scored]
        chosen = {
            "highest scores": scored[::-1][_lowest(-scores[::-1])],
            "lowest scores": scored[_lowest(scores)],
        }
        rated = scored[np.isfinite(evaluation.rating[scored])]
        if entrant.name in evaluation.agreement and rated.size:
            chosen["furthest from the ratings"] = rated[_lowest(-_distance(evaluation, entrant, rated))]
        for title, places in chosen.items():
            found = tuple(_drawings(evaluation, entrant, places))
            if found:
                yield Strip(f"{entrant.name}: {title}", found)


def _distance(evaluation: Evaluation, entrant: Entrant, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    score, rating = entrant.score[rows], evaluation.rating[rows]
    fit = evaluation.agreement[entrant.name].fit
    return np.abs(fit(score) - rating) if fit is not None else np.abs(ranks(score) - ranks(rating))


def _lowest(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Where the lowest TRIED values are, from the lowest, equal ones as they stand."""
    places = np.arange(values.size)
    if values.size > TRIED:
        places = np.flatnonzero(values <= np.partition(values, TRIED - 1)[TRIED - 1])
    return places[np.argsort(values[places], kind="stable")][:TRIED]


def _drawings(evaluation: Evaluation, entrant: Entrant, places: NDArray[np.int64]) -> Iterator[Drawing]:
    left = SHOWN
    for place in places:
        try:
            picture = _face(evaluation.rows[place], entrant, int(place))
        except EfiqaError:
            continue
        rating = evaluation.rating[place]
        caption = f"{entrant.score[place]:.3g}" + (f", rated {rating:.2f}" if np.isfinite(rating) else "")
        yield Drawing(_small(picture), caption)
        left -= 1
        if left == 0:
            return


def _face(row: Row, entrant: Entrant, place: int) -> Image:
    """The row's square, or the face that the scorer saw, or all of the picture."""
    if row.bounds is None and entrant.boxes is not None and np.isfinite(entrant.boxes[place]).all():
        image = load_image(row.image)
        height, width = image.shape[:2]
        return crop(image, face_crop(Box(*map(float, entrant.boxes[place])), width, height, scale=MARGIN))
    return load_row(row)


def _small(image: Image) -> str:
    picture = PIL.Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    memory = io.BytesIO()
    picture.save(memory, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(memory.getvalue()).decode()
