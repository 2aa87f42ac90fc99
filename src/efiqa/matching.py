"""Which prediction is meant where another table names a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from efiqa.errors import RecordError
from efiqa.pictures import MAX_MISSING, Pictures
from efiqa.records import Prediction

LARGEST_SCORE = 3.4028235e38
"""The largest number that a model's output, a float32, can be."""


def distinct(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Each face once, in order.

    Raises RecordError for a face that has two rows with different numbers, and a score no model can give.
    """
    faces: dict[tuple[str, int], Prediction] = {}
    for row in predictions:
        path = os.path.abspath(row.image)  # noqa: PTH100, a Path takes longer than all the rest
        if row.score is not None and abs(row.score) > LARGEST_SCORE:
            raise RecordError(
                f"{row.image} has the score {row.score:g}, which no model can give",
                hint="the table should be what efiqa score wrote",
            )
        first = faces.setdefault((path, row.face), row)
        if (first.status, first.score) != (row.status, row.score):
            raise RecordError(
                f"{row.image} has two predictions: {first.score} and {row.score}",
                hint="each picture counts once; were tables of two models joined?",
            )
    return list(faces.values())


def largest_faces(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The first row of each picture; raises as `distinct` does."""
    return [row for row in distinct(predictions) if row.face == 0]


def match(
    names: Sequence[str], folder: str, predictions: Sequence[Prediction], table: object
) -> list[Prediction | None]:
    """The prediction of the largest face of each picture that `table`, in `folder`, names; none without one.

    Names mean pictures as efiqa.pictures says. Raises RecordError for a picture that was scored twice, and
    where more than MAX_MISSING of the names mean none.
    """
    first = largest_faces(predictions)
    places = Pictures([row.image for row in first]).find(names, folder)
    found = [None if place < 0 else first[place] for place in places]
    missing = [name for name, row in zip(names, found, strict=True) if row is None]
    if len(missing) > MAX_MISSING * len(names):
        raise RecordError(
            f"{len(missing):,} of {len(names):,} pictures of {table} have no prediction: {some(missing)}",
            hint="score the pictures that the table names, which are paths from its folder, or file names",
        )
    return found


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
