"""Tables of pictures that somebody accepted or rejected."""

from __future__ import annotations

import math
from pathlib import Path

from efiqa.cells import number
from efiqa.errors import InvalidArgument, RecordError
from efiqa.index import IMAGE_COLUMNS, SCORE_COLUMNS
from efiqa.tables import column_names, read_places

LABEL_COLUMNS = ("label", "decision", "accept", "accepted")
"""What tables call the column of accept and reject, in any case; the first that a table has is meant."""
_LABELS = {
    **dict.fromkeys(("accept", "accepted", "yes", "true", "good", "pass", "1", "1.0"), True),
    **dict.fromkeys(("reject", "rejected", "no", "false", "bad", "fail", "0", "0.0"), False),
}


def read_labels(path: Path, *, acceptable: float | None = None) -> dict[str, bool]:
    """Picture → whether it is to be accepted, from a table with a column of LABEL_COLUMNS.

    Labels are accept or reject, yes or no, true or false, good or bad, pass or fail, 1 or 0; rows called
    review are left out. With `acceptable` a table of ratings serves too (SCORE_COLUMNS): from that rating
    on a picture is good.

    Raises RecordError for a table without such columns or rows, and, with the line, for a missing value, a
    label that is none of these, and a picture with two rows.
    """
    if acceptable is not None and not math.isfinite(acceptable):
        raise InvalidArgument(
            f"an acceptable rating must be a finite number, but got {acceptable:g}",
            hint="it is in the units of the table's ratings",
        )
    columns = column_names(path)
    known = {name.strip().lower(): name for name in reversed(columns)}
    image = next((known[name] for name in IMAGE_COLUMNS if name in known), None)
    wanted = LABEL_COLUMNS if acceptable is None else SCORE_COLUMNS
    column = next((known[name] for name in wanted if name in known), None)
    if image is None or column is None:
        rated = acceptable is None and any(name in known for name in SCORE_COLUMNS)
        raise RecordError(
            f"{path}: there is no column {'of pictures' if image is None else ' or '.join(wanted)}",
            hint="--acceptable RATING says from which rating a picture is good"
            if rated
            else f"columns here: {', '.join(columns)}",
        )
    labels: dict[str, bool] = {}
    places: dict[str, str] = {}
    for where, cells in read_places(path):
        name, value = cells.get(image), cells.get(column)
        if name is None or (value is None and acceptable is None):
            raise RecordError(f"{where}: no value in column {(image if name is None else column)!r}")
        if value is None or str(value).strip().lower() == "review":  # a row of a manifest without a label
            continue
        name = str(name)
        if name in places:
            raise RecordError(
                f"{where}: {name} has a label already, in {places[name]}",
                hint="each picture counts once; leave one of the two lines out",
            )
        places[name] = where
        if acceptable is None:
            label = _LABELS.get(str(value).strip().lower())
            if label is None:
                raise RecordError(f"{where}: {column} must be accept or reject, but got {value!r}")
            labels[name] = label
            continue
        labels[name] = number(value, column, where) >= acceptable
    if not labels:
        raise RecordError(f"{path} holds no labels")
    return labels
