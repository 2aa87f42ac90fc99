"""Scores of pictures, whatever tool gave them: ours, a CSV of any other, OFIQ's."""

from __future__ import annotations

import csv
import itertools
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from efiqa.cells import number, numbers, whole, wholes
from efiqa.cores import available_cores
from efiqa.errors import RecordError
from efiqa.index import IMAGE_COLUMNS
from efiqa.metrics import Vector
from efiqa.tables import Block, blocks_of, column_names, read_blocks, table_format, translated, uncollected

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
MUCH = 10_000_000
"""Bytes of tables that are worth a process of their own."""
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
    name, path, column = _meant(text)
    return read_scores(path, name=name or path.stem, image=image, column=column)


def _meant(text: str) -> tuple[str, Path, str | None]:
    name, equals, rest = text.partition("=")
    if not equals or "/" in name or Path(text).exists():
        name, rest = "", text
    column = None
    if not Path(rest).exists() and ":" in rest:
        rest, _, column = rest.rpartition(":")
    return name, Path(rest), column


@contextmanager
def read_beside(texts: Sequence[str], *, image: str | None = None) -> Iterator[Iterator[Scores]]:
    """What read_named gives of each text, in order, read by other cores in the meantime where it is much.

    Raises what read_named raises, when that text's turn comes.
    """
    read = partial(read_named, image=image)
    paths = [path for _, path, _ in map(_meant, texts)]
    cores = min(len(texts), available_cores() - 1)
    if cores < 1 or sum(path.stat().st_size for path in paths if path.is_file()) < MUCH:
        yield map(read, texts)
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        yield pool.map(read, texts)


@uncollected()
def read_scores(path: Path, *, name: str, image: str | None = None, column: str | None = None) -> Scores:
    """Scores in a .csv (commas, semicolons or tabs), .jsonl or .parquet with an image and a score column.

    Both are recognised (IMAGE_COLUMNS, SCORE_COLUMNS) unless named. Of several faces of a picture the
    largest counts, which is face 0. No number, NaN, and OFIQ's −1 are a picture without a score.

    Raises RecordError for a table without rows or whose columns are not known, and, with the line, for a row
    without a picture, a score that is no number, and a picture with two different scores.
    """
    sign = -1.0 if column and column.startswith("-") else 1.0
    names, blocks = _open(path)
    image_column = _column(path, names, image, IMAGE_COLUMNS, "names the pictures", "--image COLUMN")
    wanted = column[1:] if column and sign < 0 else column
    score = _column(path, names, wanted, SCORE_COLUMNS, "is the score", f"{path}:COLUMN")
    mapped = _mapped(score, names)
    boxed = set(BOX) <= set(names)
    taken = _Taken(image_column, score, mapped, sign, boxed)
    only = {image_column, score, mapped or score, "face", "status", *BOX}
    for block in blocks or read_blocks(path, only=only):
        if not taken.block(block):
            for where, cells in block.rows():
                taken.row(where, cells)
    if not taken.places:
        raise RecordError(f"{path} holds no scores")
    return Scores(
        name,
        column or score,
        str(path.parent),
        list(taken.places),
        np.array(taken.values),
        taken.status,
        np.array(taken.boxes).reshape(-1, 4) if boxed else None,
        taken.repeated,
    )


@dataclass(slots=True)
class _Taken:
    """What is read of a table, by its columns; see Scores."""

    image: str
    score: str
    mapped: str | None
    sign: float
    boxed: bool
    places: dict[str, int] = field(default_factory=dict)
    values: array[float] = field(default_factory=lambda: array("d"))
    boxes: array[float] = field(default_factory=lambda: array("d"))
    status: dict[int, str] = field(default_factory=dict)
    repeated: int = 0

    def row(self, where: str, cells: Mapping[str, Any]) -> None:
        """Take one row. Raises RecordError as read_scores does."""
        face = cells.get("face")
        if face is not None and face != "0" and whole(face, "face", where):
            return
        picture = cells.get(self.image)
        if not picture:
            raise RecordError(f"{where}: no value in column {self.image!r}")
        value = self.sign * _score(cells.get(self.score), self.score, where)
        if self.mapped and _score(cells.get(self.mapped), self.mapped, where) == -1:
            value = math.nan
        place = self.places.setdefault(str(picture), len(self.values))
        if place < len(self.values):
            if value != self.values[place] and not (math.isnan(value) and math.isnan(self.values[place])):
                raise RecordError(
                    f"{where}: {picture} has another score already, {self.sign * self.values[place]:g}",
                    hint="one row for each picture; of several faces face 0, in a column `face`, counts",
                )
            self.repeated += 1
            return
        if math.isnan(value):
            self._failed(place, cells.get("status"))
        self.values.append(value)
        if self.boxed:
            self.boxes.extend([_score(cells.get(side), side, where) for side in BOX])

    def block(self, block: Block) -> bool:
        """Take the rows of a block as `row` would; or none, and be false: one repeats, or breaks a rule."""
        try:
            largest = [not face for face in wholes(block.column("face"))]

            def column(name: str) -> list[Any]:
                return list(itertools.compress(block.column(name), largest))

            pictures = column(self.image)
            values = self.sign * _scores(column(self.score))
            if self.mapped:
                values[_scores(column(self.mapped)) == -1] = math.nan
            boxes = np.stack([_scores(column(side)) for side in BOX], 1) if self.boxed else None
        except ValueError:
            return False
        if not all(pictures):
            return False
        start = len(self.values)
        names, own = list(map(str, pictures)), range(start, start + len(pictures))
        places = list(map(self.places.setdefault, names, own))
        if places != list(own):
            for name, place, new in zip(names, places, own, strict=True):
                if place == new:
                    del self.places[name]
            return False
        self.values.frombytes(values.tobytes())
        if boxes is not None:
            self.boxes.frombytes(boxes.tobytes())
        failed = np.flatnonzero(np.isnan(values)).tolist()
        if failed:
            statuses = column("status")
            for place in failed:
                self._failed(start + place, statuses[place])
        return True

    def _failed(self, place: int, status: object) -> None:
        named = str(status or "")
        self.status[place] = named if named not in ("", "ok") else "no_score"


def _open(path: Path) -> tuple[list[str], Iterator[Block] | None]:
    """Names of the columns and, of a table that read_blocks does not know, the rows."""
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


def _split(path: Path, delimiter: str) -> tuple[list[str], Iterator[Block]]:
    """A CSV with another delimiter; OFIQ ends its first line in one, and its other lines not."""
    with translated(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = list(csv.reader(file, delimiter=delimiter))
    names = [cell.strip() for cell in lines[0]]
    while names and not names[-1]:
        names.pop()

    table = f"{path}, line"

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for at, line in enumerate(itertools.islice(lines, 1, None), 2):
            if not any(line):
                continue
            cells = line[: len(names)]
            if len(cells) < len(names) or any(line[len(names) :]):
                raise RecordError(
                    f"{table} {at}: not as many cells as the first line has, which is {len(names)}",
                    hint="a cell that holds the separator stands in quotes",
                )
            yield at, {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}

    return names, blocks_of(table, rows())


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


def _scores(cells: Sequence[object]) -> Vector:
    """What _score says of each cell, (n,). Raises ValueError where that raises RecordError."""
    try:
        found = numbers(cells, finite=False)
    except ValueError:
        there = [
            None if isinstance(cell, str) and cell.strip().lower() in NOTHING else cell for cell in cells
        ]
        found = numbers(there, finite=False)
    values = np.array(found, np.float64)
    values[~np.isfinite(values)] = math.nan
    return values
