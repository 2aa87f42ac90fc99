"""Which prediction is meant where another table names a picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from efiqa.errors import RecordError
from efiqa.pictures import Pictures
from efiqa.records import Prediction

MOST_UNMATCHED = 0.1
"""Above this share of names without a prediction the tables are not of the same pictures."""


def distinct(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Each face once, in order. Raises RecordError for a face that has two rows with different numbers."""
    faces: dict[tuple[str, int], Prediction] = {}
    for row in predictions:
        path = os.path.abspath(row.image)  # noqa: PTH100, a Path takes longer than all the rest
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
    where more than a tenth of the names mean none.
    """
    first = largest_faces(predictions)
    places = Pictures([row.image for row in first]).find(names, folder)
    found = [None if place < 0 else first[place] for place in places]
    missing = [name for name, row in zip(names, found, strict=True) if row is None]
    if len(missing) > MOST_UNMATCHED * len(names):
        raise RecordError(
            f"{len(missing):,} of {len(names):,} pictures of {table} have no prediction: {some(missing)}",
            hint="score the pictures that the table names, which are paths from its folder, or file names",
        )
    return found


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
