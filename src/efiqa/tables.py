"""Tables of any kind as .csv, .jsonl or .parquet: read streaming with places, written whole or not at all."""

from __future__ import annotations

import csv
import gc
import itertools
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from efiqa.errors import MissingExtra, OutputError, RecordError

T = TypeVar("T")

FORMATS = (".csv", ".jsonl", ".parquet")
COMMAS = "text with a comma in it stands in quotes, and a number has a decimal point"
"""What helps where a line has more cells, or fewer, than the first."""
SEPARATED = "save the table as CSV with commas between the cells, and with decimal points"
"""What helps where it has semicolons or tabs."""


def printable(path: str | os.PathLike[str]) -> str:
    r"""A path as text any file can hold: bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def tar_of(path: str) -> str | None:
    """The tar that `shards/faces-0003.tar/000.jpg` is in; none where there is no such file."""
    before, found, _ = path.partition(".tar/")
    return f"{before}.tar" if found and os.path.isfile(f"{before}.tar") else None  # noqa: PTH113


class Files:
    """Numbers of files by their path, whatever folder's table names them.

    A file's key is its path from the working folder where it is in there, and else absolute: as tables
    mostly name them, so that a million keys are hardly ever strings of their own.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Each number, and its absolute path."""
        for key, number in self.numbers.items():
            yield number, os.path.abspath(key)  # noqa: PTH100

    def named_in(self, folder: str) -> Callable[[str], tuple[dict[str, int], str, str]]:
        """What takes a name in a table of `folder`: it gives the numbers, the file's key, and its path.

        The path is normal, and absolute if the name or `folder` is.
        """

        def found(name: str) -> tuple[dict[str, int], str, str]:
            path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
            return self.numbers, os.path.abspath(path).removeprefix(self._here), path  # noqa: PTH100

        return found

    def located(self, names: Iterable[str], folder: str) -> tuple[list[str], list[str]]:
        """Keys and paths of many names, as named_in gives them one by one.

        The folder's path is worked out once: for each of a million names, it would be most of the time.
        """
        found = self.named_in(folder)
        _, _, path = found("")
        before = "" if path == "." else os.path.join(path, "")  # noqa: PTH118
        start = os.path.join(os.path.abspath(path), "").removeprefix(self._here)  # noqa: PTH100, PTH118
        keys: list[str] = []
        paths: list[str] = []
        for group in _groups(names, BLOCK):
            absolute = all(map(str.startswith, group, itertools.repeat("/")))
            if os.sep != "/" or _odd([name[1:] for name in group] if absolute else group):
                for name in group:
                    _, key, path = found(name)
                    keys.append(key)
                    paths.append(path)
            elif absolute:
                paths += group
                keys += [name.removeprefix(self._here) for name in group]
            else:
                added = [before + name for name in group] if before else group
                paths += added
                keys += added if start == before else [start + name for name in group]
        return keys, paths


def _odd(names: Iterable[str]) -> bool:
    """Whether one of the names is empty, absolute or not normal, so that its path is not just folder/name."""
    parts = "/" + "/\n/".join(names) + "/"
    return any(odd in parts for odd in ("//", "/./", "/../"))


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
WRITTEN = 10_000
"""Rows that are written at a time: what is done once for each group costs nothing."""


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

    for group in _groups(rows, BLOCK):
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
    for lines in _groups(reader, BLOCK):
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


def number(cell: object, column: str, where: str, *, finite: bool = True) -> float:
    """A cell as a number. Raises RecordError, with the place `where`, for none, and for one not finite."""
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        comma = isinstance(cell, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell)
        raise RecordError(
            f"{where}: {column} must be a number, but got {cell!r}",
            hint="write it with a decimal point" if comma else None,
        ) from error
    if isinstance(cell, bool):  # what JSON and Parquet call true is 1.0 to float
        raise RecordError(f"{where}: {column} must be a number, but got {cell!r}")
    if finite and not math.isfinite(value):
        raise RecordError(f"{where}: {column} must be finite, but got {cell!r}")
    return value


def numbers(cells: Iterable[object], *, finite: bool = True) -> list[float | None]:
    """Cells as numbers, none where there is none. Raises ValueError where `number` raises, and says why."""
    there: list[Any] = list(cells)
    values: list[float | None]
    try:
        if None in there:
            values = [None if cell is None else float(cell) for cell in there]
        else:
            values = list(map(float, there))
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if bool in set(map(type, there)):
        raise ValueError("true and false are no numbers")
    known = list(filter(None, values))
    # A sum is soon made, and finite only if all of it is; that of the very large may not be.
    if finite and not math.isfinite(sum(known)) and not all(map(math.isfinite, known)):
        raise ValueError("not all are finite")
    return values


def whole(cell: object, column: str, where: str) -> int:
    """A cell as a whole number from 0. Raises RecordError, with the place, for any other."""
    value = number(cell, column, where)
    if value < 0 or not value.is_integer():
        raise RecordError(f"{where}: {column} must be a whole number, 0 or more, but got {cell!r}")
    return int(value)


def wholes(cells: Iterable[object]) -> list[int | None]:
    """Cells as whole numbers, none where there is none. Raises ValueError where `whole` raises, and says why.

    Each of them once, as they are mostly the numbers of faces, of which there are few.
    """
    cells = list(cells)
    if bool in set(map(type, cells)):  # which a set takes for 0 and 1
        raise ValueError("true and false are no numbers")
    try:
        few = set(cells)
    except TypeError as error:
        raise ValueError(str(error)) from error
    each = dict(zip(few, numbers(few), strict=True))
    if not all(value is None or (value >= 0 and value.is_integer()) for value in each.values()):
        raise ValueError("not all are whole numbers, 0 or more")
    values = {cell: None if value is None else int(value) for cell, value in each.items()}
    return [values[cell] for cell in cells]


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


def write_table(path: Path, columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows in the format of the path's ending; atomic, streaming. Returns their number.

    `columns` names each cell of a row and its type (str, int or float); none is an empty cell.
    """
    count = 0
    match table_format(path):
        case ".csv":
            with atomic(path) as file:
                file.write(csv_line(columns))
                for group in _groups(rows, WRITTEN):
                    file.writelines(csv_lines(group))
                    count += len(group)
        case ".jsonl":
            with atomic(path) as file:
                for row in rows:
                    file.write(json_line(columns, row))
                    count += 1
        case _:
            with atomic(path, binary=True) as file:
                count = write_parquet(file, columns, rows)
    return count


def csv_line(values: Iterable[object]) -> str:
    r"""One line that ends in `\n`; none is an empty cell."""
    return csv_lines([values])[0]


def csv_lines(rows: Iterable[Iterable[object]]) -> list[str]:
    r"""Lines that end in `\n`, one for each row; none is an empty cell.

    csv.writer quotes a lone `\r`, which file names may hold, only where `\r` is in its own line end.
    """
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return [line.removesuffix("\r\n") + "\n" for line in lines]


class _Lines(list[str]):
    """A file for csv.writer, which writes once for each row."""

    write = list.append


_as_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one for each row


def json_line(columns: Iterable[str], row: Iterable[Any]) -> str:
    """One JSON object on one line, every column present."""
    return _as_json(dict(zip(columns, row, strict=True))) + "\n"


def _groups(rows: Iterable[T], size: int) -> Iterator[list[T]]:
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


def write_parquet(file: BinaryIO, columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows into an open file, streaming; the same rows give the same bytes. Returns their number."""
    arrow, parquet = pyarrow_module("pyarrow"), pyarrow_module("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int32(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(rows, WRITTEN):
            cells = [list(column) for column in zip(*group, strict=True)]
            writer.write_table(arrow.table(cells, schema=schema))
            count += len(group)
    return count


@contextmanager
def atomic(path: Path, *, binary: bool = False) -> Iterator[Any]:
    """A file for writing that stands at `path` only once it is whole and on disk.

    Raises OutputError, and leaves nothing half-written, when it cannot be (read-only folder, full disk).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    text = None if binary else "utf-8"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb" if binary else "w", encoding=text, newline=None if binary else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):  # where its folder could not be made, there is nothing to remove
            partial.unlink()


def check_writable(path: Path) -> None:
    """Raise now what writing predictions to `path` would raise later: before hours of work, not after.

    That is OutputError, RecordError for an unknown ending, MissingExtra for .parquet without pyarrow.
    """
    if table_format(path) == ".parquet":
        pyarrow_module("pyarrow.parquet")
    check_place(path, path.parent)


def check_place(path: Path, folder: Path | None = None) -> None:
    """Raise now the OutputError that writing a file to `path` would raise later; leaves nothing behind.

    Tried out is `folder`, which is made; by default the first of the path's folders that is there.
    """
    with suppress(OSError):  # a name that is too long; writing says so
        if path.is_dir():
            raise OutputError(f"{printable(path)} is a folder", hint="name a file in it")
        folder = folder or next(above for above in path.parents if above.exists())
    trial = (folder or path.parent) / f".{path.name}.probe"
    try:
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{printable(path)} cannot be written: {error.strerror or error}",
        hint="name a file in a folder you may write to, on a disk with room",
    )
