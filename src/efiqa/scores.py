"""Scores of pictures, whatever tool gave them: ours, a CSV of any other, OFIQ's."""

from __future__ import annotations

import csv
import itertools
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from efiqa.errors import RecordError
from efiqa.index import IMAGE_COLUMNS
from efiqa.metrics import Vector
from efiqa.tables import column_names, number, read_places, table_format, translated, whole

SCORE_COLUMNS = (
    "unifiedqualityscore.scalar",
    "unifiedqualityscore.mapped",
    "unifiedqualityscore",
    "unifiedqualityscore.native",
    "score",
    "quality_score",
    "quality",
    "prediction",
    "mapped_score",
    "mos",
)
"""What tools call the score, in any case; the first that a table has is meant. The first four are OFIQ's."""
MAPPED = (".scalar", ".mapped")
"""How OFIQ, in its two dialects, calls a measure on 0–100, where −1 says that it failed."""
NOTHING = ("", "nan", "none", "null", "na")
BOX = ("x", "y", "width", "height")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What one scorer says of each picture of a table.

    `score` (n,) is NaN where there is none, and `status` then says why, by the picture's place. `boxes`
    (n, 4) are the faces' x, y, width, height, NaN where they are not known. `repeated` rows said again what
    an earlier one of the same picture said.
    """

    name: str
    column: str
    folder: str
    image: list[str]
    score: Vector
    status: dict[int, str]
    boxes: Vector | None = None
    repeated: int = 0


def read_named(text: str, *, image: str | None = None) -> Scores:
    """Scores that `NAME=FILE:COLUMN` means, NAME and COLUMN being optional; see read_scores.

    A minus before the column's name says that lower is better there: its scores change their sign.
    """
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        name, rest = "", text
    column = None
    if not Path(rest).exists() and ":" in rest:
        rest, _, column = rest.rpartition(":")
    path = Path(rest)
    return read_scores(path, name=name or path.stem, image=image, column=column)


def read_scores(path: Path, *, name: str, image: str | None = None, column: str | None = None) -> Scores:
    """Scores in a .csv (commas, semicolons or tabs), .jsonl or .parquet with an image and a score column.

    Both are recognised (IMAGE_COLUMNS, SCORE_COLUMNS) unless named. Of several faces of a picture the
    largest counts, which is face 0. No number, NaN, and OFIQ's −1 are a picture without a score.

    Raises RecordError for a table without rows or whose columns are not known, and, with the line, for a row
    without a picture, a score that is no number, and a picture with two different scores.
    """
    sign = -1.0 if column and column.startswith("-") else 1.0
    names, rows = _open(path)
    image_column = _column(path, names, image, IMAGE_COLUMNS, "names the pictures", "--image COLUMN")
    wanted = column[1:] if column and sign < 0 else column
    score = _column(path, names, wanted, SCORE_COLUMNS, "is the score", f"{path}:COLUMN")
    mapped = _mapped(score, names)
    places: dict[str, int] = {}
    values, boxes, status, repeated = array("d"), array("d"), {}, 0
    boxed = set(BOX) <= set(names)
    only = {image_column, score, mapped or score, "face", "status", *BOX}
    for where, cells in rows or read_places(path, only=only):
        face = cells.get("face")
        if face is not None and face != "0" and whole(face, "face", where):
            continue
        picture = cells.get(image_column)
        if not picture:
            raise RecordError(f"{where}: no value in column {image_column!r}")
        value = sign * _score(cells.get(score), score, where)
        if mapped and _score(cells.get(mapped), mapped, where) == -1:
            value = math.nan
        place = places.setdefault(str(picture), len(values))
        if place < len(values):
            if value != values[place] and not (math.isnan(value) and math.isnan(values[place])):
                raise RecordError(
                    f"{where}: {picture} has another score already, {sign * values[place]:g}",
                    hint="one row for each picture; of several faces face 0, in a column `face`, counts",
                )
            repeated += 1
            continue
        if math.isnan(value):
            named = str(cells.get("status") or "")
            status[place] = named if named not in ("", "ok") else "no_score"
        values.append(value)
        if boxed:
            boxes.extend([_score(cells.get(side), side, where) for side in BOX])
    if not places:
        raise RecordError(f"{path} holds no scores")
    return Scores(
        name,
        column or score,
        str(path.parent),
        list(places),
        np.array(values),
        status,
        np.array(boxes).reshape(-1, 4) if boxed else None,
        repeated,
    )


def _open(path: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]] | None]:
    """Names of the columns and, of a table that read_places does not know, the rows after their places."""
    if table_format(path) == ".csv":
        first = _first_line(path)
        delimiter = max(";\t", key=first.count)
        if first.count(delimiter) > first.count(","):
            return _split(path, delimiter)
    return column_names(path), None


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return file.readline()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror or error}") from error


def _split(path: Path, delimiter: str) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    """A CSV with another delimiter; OFIQ ends its first line in one, and its other lines not."""
    with translated(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = list(csv.reader(file, delimiter=delimiter))
    names = [cell.strip() for cell in lines[0]]
    while names and not names[-1]:
        names.pop()

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for at, line in enumerate(itertools.islice(lines, 1, None), 2):
            if not any(line):
                continue
            place = f"{path}, line {at}"
            cells = line[: len(names)]
            if len(cells) < len(names) or any(line[len(names) :]):
                raise RecordError(
                    f"{place}: not as many cells as the first line has, which is {len(names)}",
                    hint="a cell that holds the separator stands in quotes",
                )
            yield place, {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}

    return names, rows()


def _column(
    path: Path, names: list[str], asked: str | None, known: tuple[str, ...], role: str, option: str
) -> str:
    if asked is not None:
        if asked not in names:
            raise RecordError(f"{path}: no column {asked!r}", hint=f"columns here: {', '.join(names)}")
        return asked
    here = {name.strip().lower(): name for name in reversed(names)}
    for name in known:
        if name in here:
            return here[name]
    raise RecordError(
        f"{path}: no column is known that {role}; columns here: {', '.join(names)}",
        hint=f"{option} says which it is",
    )


def _mapped(score: str, names: list[str]) -> str | None:
    """The column of the same OFIQ measure that says by −1 that it failed; none in other tools' tables."""
    stem = score.rpartition(".")[0] if score.endswith((*MAPPED, ".native")) else score
    return next((stem + ending for ending in MAPPED if stem + ending in names), None)


def _score(cell: object, column: str, where: str) -> float:
    """NaN where there is none."""
    try:
        value = number(cell, column, where, finite=False)
    except RecordError:
        if cell is None or (isinstance(cell, str) and cell.strip().lower() in NOTHING):
            return math.nan
        raise
    return value if math.isfinite(value) else math.nan
