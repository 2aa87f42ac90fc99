"""Scorers that enter an evaluation: their numbers in the order of its pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from efiqa.errors import ImageError, RecordError
from efiqa.image import Image
from efiqa.matching import LARGEST_SCORE
from efiqa.metrics import Vector
from efiqa.pictures import MAX_MISSING, Pictures
from efiqa.records import Row
from efiqa.scores import Scores
from efiqa.sources import load_row


@dataclass(frozen=True, slots=True, eq=False)
class Entrant:
    """One scorer over the pictures: `score` (n,), NaN where it has none.

    `failed` counts why pictures that it knows have none, by status; `missing` pictures it does not know.
    `others` are rows of pictures that are not evaluated. `boxes` (n, 4) are faces, where it knows them.
    """

    name: str
    column: str
    score: Vector
    failed: dict[str, int]
    missing: int = 0
    others: int = 0
    boxes: Vector | None = None

    @property
    def scored(self) -> Vector:
        """The scores that there are."""
        return np.asarray(self.score[np.isfinite(self.score)])


def distinct(rows: Iterable[Row]) -> tuple[list[Row], int]:
    """One row for each picture, and how many said the same again.

    Raises RecordError for a picture with two squares: a prediction names only the picture.
    """
    rows = list(rows)
    if len(set(map(attrgetter("image"), rows))) == len(rows):
        return rows, 0
    found: dict[str, Row] = {}
    repeated = 0
    for row in rows:
        first = found.setdefault(row.image, row)
        if first is row:
            continue
        if first.bounds != row.bounds:
            raise RecordError(
                f"{row.image} stands in two rows, with two squares, and predictions name only the picture",
                hint="evaluate manifests of whole pictures, or save the squares as pictures of their own",
            )
        repeated += 1
        if first.score is None:
            found[row.image] = row
    return list(found.values()), repeated


def enter(scores: Scores, pictures: Pictures, *, max_missing: float = MAX_MISSING) -> Entrant:
    """A scorer's numbers in the order of the pictures.

    Raises RecordError where it does not know more than `max_missing` of them, or has no score for any, for a
    picture that it scores twice under two names, and for a score beyond LARGEST_SCORE.
    """
    place = pictures.find(scores.image, scores.folder)
    here = np.flatnonzero(place >= 0)
    value = np.full(len(pictures), np.nan)
    value[place[here]] = scores.score[here]
    if not np.array_equal(value[place[here]], scores.score[here], equal_nan=True):
        wrong = next(row for row in here if not _same(value[place[row]], scores.score[row]))
        raise RecordError(
            f"{scores.name} has two scores of {pictures.paths[place[wrong]]}, once as {scores.image[wrong]}",
            hint="leave one of the two rows out",
        )
    known = np.zeros(len(pictures), bool)
    known[place[here]] = True
    missing = int((~known).sum())
    if missing > max_missing * len(pictures):
        example = pictures.paths[int(np.argmin(known))]
        raise RecordError(
            f"{scores.name} has no row for {missing:,} of {len(pictures):,} pictures, such as {example}; "
            f"it has {scores.image[0]}",
            hint="score the pictures of this manifest, name the --split that was scored, or allow more with "
            "--max-missing",
        )
    failed = Counter(status for row, status in scores.status.items() if place[row] >= 0)
    boxes = None
    if scores.boxes is not None:
        boxes = np.full((len(pictures), 4), np.nan)
        boxes[place[here]] = scores.boxes[here]
    others = len(scores.image) - here.size
    return _checked(Entrant(scores.name, scores.column, value, dict(failed), missing, others, boxes))


def _checked(entrant: Entrant) -> Entrant:
    """The entrant, unless its scores are none, or too large to reckon with: RecordError says why."""
    reasons = [f"{count:,} {status}" for status, count in entrant.failed.items()]
    reasons += [f"{entrant.missing:,} not known"] if entrant.missing else []
    if not entrant.scored.size:
        raise RecordError(
            f"{entrant.name} has no score for any of {entrant.score.size:,} pictures: {', '.join(reasons)}",
            hint="leave it out, or look why: a scorer without scores leaves nothing to compare",
        )
    largest = float(np.abs(entrant.scored).max())
    if largest > LARGEST_SCORE:
        raise RecordError(
            f"{entrant.name} has scores as large as {largest:g}; {LARGEST_SCORE:g} is the most",
            hint=f"is {entrant.column!r} the score? NAME=FILE:COLUMN takes another column",
        )
    return entrant


def _same(first: float, second: float) -> bool:
    return bool(first == second or (np.isnan(first) and np.isnan(second)))


def remarks(entrants: Sequence[Entrant], pictures: int) -> list[str]:
    """Sentences on what the entrants have no scores of."""
    found = []
    for each in entrants:
        if each.failed:
            count = sum(each.failed.values())
            reasons = ", ".join(f"{number:,} {status}" for status, number in each.failed.items())
            found.append(f"{each.name} has no score for {count:,} of {pictures:,} pictures: {reasons}.")
        if each.missing:
            found.append(f"{each.name} does not know {each.missing:,} of {pictures:,} pictures.")
        if each.others:
            found.append(f"{each.name} has {each.others:,} rows of other pictures, which are left alone.")
    return found


def measured(name: str, measure: Callable[[Image], float], rows: Iterable[Row]) -> Entrant:
    """A scorer that is a function of the picture, RGB uint8 (H, W, 3), in the row's square if it has one.

    Raises RecordError where it measures none of them.
    """
    scores, failed = [], Counter[str]()
    for row in rows:
        try:
            scores.append(measure(load_row(row)))
        except ImageError as error:
            scores.append(np.nan)
            failed[error.status] += 1
    return _checked(Entrant(name, "", np.array(scores, np.float64), dict(failed)))
