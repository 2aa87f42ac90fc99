"""Tables of any kind as .csv, .jsonl or .parquet, read streaming, by blocks of rows with their places."""

from __future__ import annotations

import csv
import gc
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from efiqa.errors import MissingExtra, RecordError

T = TypeVar("T")

FORMATS = (".csv", ".jsonl", ".parquet")
COMMAS = "text with a comma in it stands in quotes, and a number has a decimal point"
"""What helps where a line has more cells, or fewer, than the first."""
SEPARATED = "save the table as CSV with commas between the cells, and with decimal points"
"""What helps where it has semicolons or tabs."""


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .csv, .jsonl or .parquet file as dicts, streaming. Empty CSV cells are left out.

    Raises RecordError for a file that cannot be read or breaks its format, with the line.
    """
    for _, cells in read_places(path):
        yield cells


def read_places(
    path: Path, columns: Sequence[str] | None = None, *, only: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What read_table yields, each row after its place; takes and raises what read_blocks does."""
    for block in read_blocks(path, columns, only=only):
        yield from block.rows()


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that follow each other in a table, to be had by `column`, or by the `cells` of one of them.

    `numbers` are those of their lines. A column has none where a cell is empty or not there; in the cells of
    a row of CSV these are left out.
    """

    table: str
    numbers: Sequence[int]
    column: Callable[[str], Sequence[Any]]
    cells: Callable[[int], dict[str, Any]]

    def place(self, row: int) -> str:
        """`m.csv, line 3`, or `m.parquet, row 2`."""
        return f"{self.table} {self.numbers[row]}"

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The cells of each row, after its place."""
        for row in range(len(self.numbers)):
            yield self.place(row), self.cells(row)


BLOCK = 250
"""Rows of a block of text, at most: so few stay in a processor's cache while their cells become columns."""


def read_blocks(
    path: Path, columns: Sequence[str] | None = None, *, only: Collection[str] | None = None
) -> Iterator[Block]:
    """The rows of a .csv, .jsonl or .parquet file, streaming.

    A line is one of the file, the header being the first; a row that goes over several is named by its
    first. `columns` names those of a CSV without a header. With `only`, other columns may be left out.

    Raises RecordError for a file that cannot be read or breaks its format, with the line; the rows before it
    come first.
    """
    kind = table_format(path)
    with translated(path):
        if kind == ".parquet":
            yield from _parquet_blocks(path, only)
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if kind == ".jsonl":
                table = f"{path}, line"
                rows = (
                    (number, _json_cells(line, f"{table} {number}")) for number, line in enumerate(file, 1)
                )
                yield from blocks_of(table, rows)
            else:
                yield from _csv_blocks(path, csv.reader(file, strict=True), columns, only)


def blocks_of(table: str, rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[Block]:
    """Blocks of rows that are dicts, after their numbers."""

    def block(numbers: Sequence[int], found: Sequence[dict[str, Any]]) -> Block:
        return Block(table, numbers, lambda name: [cells.get(name) for cells in found], found.__getitem__)

    for group in in_groups(rows, BLOCK):
        yield block(*zip(*group, strict=True))


def _csv_blocks(
    path: Path, reader: Any, columns: Sequence[str] | None, only: Collection[str] | None
) -> Iterator[Block]:
    table = f"{path}, line"
    names = columns or _header(path, next(reader, []))
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise RecordError(f"{table} 1: two columns are named {twice[0]!r}")
    kept = [(name, at) for at, name in enumerate(names) if only is None or name in only]
    places = dict(kept)

    def block(numbers: Sequence[int], lines: Sequence[list[str]]) -> Block:
        cells = list(zip(*lines, strict=True))

        def column(name: str) -> Sequence[str | None]:
            if name not in places:
                return [None] * len(lines)
            found = cells[places[name]]
            return [cell or None for cell in found] if "" in found else found

        return Block(
            table, numbers, column, lambda row: {name: lines[row][at] for name, at in kept if lines[row][at]}
        )

    last = reader.line_num
    for lines in in_groups(reader, BLOCK):
        numbers: Sequence[int] = range(last + 1, last + 1 + len(lines))
        if reader.line_num - last != len(lines):  # a cell goes over several, or an error comes next
            ends = itertools.accumulate((_lines(line) for line in lines), initial=last + 1)
            numbers = list(ends)[:-1]
        last = reader.line_num
        if set(map(len, lines)) == {len(names)}:
            yield block(numbers, lines)
            continue
        there = [at for at, line in enumerate(lines) if line]  # and not an empty one
        short = next((at for at in there if len(lines[at]) != len(names)), None)
        there = [at for at in there if short is None or at < short]
        if there:
            yield block([numbers[at] for at in there], [lines[at] for at in there])
        if short is not None:
            raise RecordError(
                f"{table} {numbers[short]}: not as many cells as the first line has, which is {len(names)}",
                hint=COMMAS,
            )


def _lines(cells: Iterable[str]) -> int:
    """How many lines of a file a row of CSV takes."""
    return 1 + sum(len(re.findall(r"\r\n|\r|\n", cell)) for cell in cells)


def _parquet_blocks(path: Path, only: Collection[str] | None) -> Iterator[Block]:
    def block(first: int, size: int, columns: Mapping[str, list[Any]]) -> Block:
        none = [None] * size
        return Block(
            f"{path}, row",
            range(first, first + size),
            lambda name: columns.get(name, none),
            lambda row: {name: column[row] for name, column in columns.items()},
        )

    first = 1
    for batch in pyarrow_module("pyarrow.parquet").ParquetFile(path).iter_batches():
        cells = zip(batch.schema.names, batch.columns, strict=True)
        kept = {name: column.to_pylist() for name, column in cells if only is None or name in only}
        yield block(first, batch.num_rows, kept)
        first += batch.num_rows


def _json_cells(line: str, where: str) -> dict[str, Any]:
    try:
        cells = json.loads(line)
    except (ValueError, RecursionError) as error:
        wrong = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or too long"
        raise RecordError(f"{where}: not JSON ({wrong})", hint="one JSON object a line") from error
    if not isinstance(cells, dict):
        raise RecordError(f"{where}: expected a JSON object, but got {cells!r}", hint="one object a line")
    return cells


def _header(path: Path, names: list[str]) -> list[str]:
    """The first line of a CSV; RecordError where it has no comma but another separator."""
    if len(names) == 1 and re.search(r"[;\t]", names[0]):
        raise RecordError(
            f"{path}, line 1: expected cells separated by commas, but got {names[0]!r}", hint=SEPARATED
        )
    return names


def column_names(path: Path) -> list[str]:
    """The first line of a CSV, header or not; of another table the names in its first row.

    Raises RecordError as read_table does, and for a table without rows, whose columns nobody knows.
    """
    if table_format(path) != ".csv":
        for cells in read_table(path):
            return list(cells)
        raise RecordError(f"{path} holds no rows")
    with translated(path), path.open(encoding="utf-8-sig", newline="") as file:
        for names in csv.reader(file, strict=True):
            return _header(path, names)
    raise RecordError(f"{path} is empty, so it holds no rows", hint="the first line should name the columns")


@contextmanager
def translated(table: Path) -> Iterator[None]:
    """What goes wrong where a table is read becomes a RecordError."""
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{table} cannot be read: {error.strerror or error}",
            hint="a name that ends so is read as a table",
        ) from error
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{table} is not UTF-8: byte {error.object[error.start]:#04x} is no text",
            hint="save it again as UTF-8, which spreadsheets offer beside plain CSV",
        ) from error
    except (ValueError, csv.Error) as error:  # an open quote, or what pyarrow says of no Parquet
        raise RecordError(f"{table} is not a whole {table.suffix.lower()} table: {error}") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for cyclic garbage: it goes through all rows read so far, again and again.

    Of the time to read a million rows that is a seventh, and they hold no cycles.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def table_format(path: Path) -> str:
    """The ending that decides a table's format. Raises RecordError for any other."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise RecordError(
            f"{path}: expected a name ending in {', '.join(FORMATS)}, but got {ending or 'none'!r}",
            hint="the ending decides the format of a table",
        )
    return ending


def in_groups(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Of so many rows, the last of fewer; what is read before an error comes before it."""
    iterator = iter(rows)
    error: Exception | None = None
    while error is None:
        group: list[T] = []
        try:
            group.extend(itertools.islice(iterator, size))
        except (RecordError, OSError, ValueError, csv.Error) as caught:
            error = caught
        if group:
            yield group
        elif error is None:
            return
    raise error


def pyarrow_module(module: str) -> Any:
    """A part of pyarrow. Raises MissingExtra where it is not installed."""
    try:
        return __import__(module, fromlist=["_"])
    except ImportError as error:
        raise MissingExtra("pyarrow", extra="parquet") from error
