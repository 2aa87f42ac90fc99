"""Tables of any kind as .csv, .jsonl or .parquet: read streaming with places, written whole or not at all."""

from __future__ import annotations

import csv
import gc
import io
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from efiqa.errors import MissingExtra, OutputError, RecordError

FORMATS = (".csv", ".jsonl", ".parquet")


def printable(path: str | os.PathLike[str]) -> str:
    r"""A path as text any file can hold: bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Files:
    """Numbers of files by their path, whatever folder's table names them.

    A folder's path is worked out once for all its files: of a million, it would be most of the time.
    """

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, int]] = {}

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Each number, and its absolute path."""
        for folder, numbers in self._folders.items():
            for name, number in numbers.items():
                yield number, os.path.join(folder, name)  # noqa: PTH118

    def named_in(self, folder: str) -> Callable[[str], tuple[dict[str, int], str, str]]:
        """What takes names in a table of `folder` apart.

        It gives the numbers in the file's folder, the file's name in there, and its path: normal, and
        absolute if the name or `folder` is.
        """
        known: dict[str, tuple[dict[str, int], str]] = {}

        def apart(name: str) -> tuple[dict[str, int], str, str]:
            start = name.rfind("/") + 1
            inside, last = name[:start], name[start:]
            if last in ("", ".", "..") or os.sep != "/":
                path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
                home, last = os.path.split(os.path.abspath(path))  # noqa: PTH100
                return self._folders.setdefault(home, {}), last, path
            if inside not in known:
                path = os.path.normpath(os.path.join(folder, inside))  # noqa: PTH118
                numbers = self._folders.setdefault(os.path.abspath(path), {})  # noqa: PTH100
                known[inside] = numbers, "" if path == "." else os.path.join(path, "")  # noqa: PTH118
            numbers, prefix = known[inside]
            return numbers, last, prefix + last

        return apart


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .csv, .jsonl or .parquet file as dicts, streaming. Empty CSV cells are left out.

    Raises RecordError for a file that cannot be read or breaks its format, with the line.
    """
    for _, cells in read_places(path):
        yield cells


def read_places(
    path: Path, columns: Sequence[str] | None = None, *, only: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What read_table yields, each row after its place: `m.csv, line 3`, or `m.parquet, row 2`.

    A line is one of the file, the header being the first; a row that goes over several is named by its
    first. `columns` names those of a CSV without a header. With `only`, other columns may be left out.
    """
    kind = table_format(path)
    table = str(path)
    with _translated(path):
        if kind == ".parquet":
            rows = (
                cells
                for batch in _pyarrow("pyarrow.parquet").ParquetFile(path).iter_batches()
                for cells in batch.to_pylist()
            )
            for number, cells in enumerate(rows, 1):
                yield f"{table}, row {number}", cells
            return
        with path.open(encoding="utf-8-sig", newline="") as file:
            if kind == ".jsonl":
                for number, line in enumerate(file, 1):
                    try:
                        cells = json.loads(line)
                    except json.JSONDecodeError as error:
                        raise RecordError(f"{path}, line {number}: not JSON ({error.msg})") from error
                    if not isinstance(cells, dict):
                        raise RecordError(f"{path}, line {number}: expected a JSON object, but got {cells!r}")
                    yield f"{table}, line {number}", cells
                return
            reader = csv.reader(file, strict=True)
            names = columns or next(reader, ())
            twice = [name for name, count in Counter(names).items() if name and count > 1]
            if twice:
                raise RecordError(f"{path}, line 1: two columns are named {twice[0]!r}")
            kept = [(name, at) for at, name in enumerate(names) if only is None or name in only]
            first = reader.line_num + 1
            for line_cells in reader:
                place, first = f"{table}, line {first}", reader.line_num + 1
                if not line_cells:  # an empty line
                    continue
                if len(line_cells) != len(names):
                    raise RecordError(
                        f"{place}: not as many cells as the first line has, which is {len(names)}"
                    )
                yield place, {name: line_cells[at] for name, at in kept if line_cells[at]}


def column_names(path: Path) -> list[str]:
    """The first line of a CSV, header or not; of another table the names in its first row.

    Raises RecordError as read_table does.
    """
    if table_format(path) != ".csv":
        return list(next(read_table(path), {}))
    with _translated(path), path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, strict=True), [])


@contextmanager
def _translated(table: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{table} cannot be read: {error.strerror or error}",
            hint="a name that ends so is read as a table",
        ) from error
    except (ValueError, csv.Error) as error:  # not UTF-8, an open quote, or what pyarrow says of no Parquet
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
                for row in rows:
                    file.write(csv_line(row))
                    count += 1
        case ".jsonl":
            with atomic(path) as file:
                for row in rows:
                    file.write(json_line(columns, row))
                    count += 1
        case _:
            count = _write_parquet(path, columns, rows)
    return count


def csv_line(values: Iterable[object]) -> str:
    r"""One line that ends in `\n`; none is an empty cell.

    csv.writer quotes a lone `\r`, which file names may hold, only where `\r` is in its own line end.
    """
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def json_line(columns: Iterable[str], row: Iterable[Any]) -> str:
    """One JSON object on one line, every column present."""
    return json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n"


def _pyarrow(module: str) -> Any:
    try:
        return __import__(module, fromlist=["_"])
    except ImportError as error:
        raise MissingExtra("pyarrow", extra="parquet") from error


def _write_parquet(path: Path, columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> int:
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int32(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    iterator, count = iter(rows), 0
    with atomic(path, binary=True) as file, parquet.ParquetWriter(file, schema) as writer:
        while group := list(itertools.islice(iterator, 10_000)):
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
        raise OutputError(
            f"{printable(path)} cannot be written: {error.strerror or error}",
            hint="name a file in a folder you may write to, on a disk with room",
        ) from error
    finally:
        with suppress(OSError):  # where its folder could not be made, there is nothing to remove
            partial.unlink()


def check_writable(path: Path) -> None:
    """Raise now what writing predictions to `path` would raise later: before hours of work, not after.

    That is OutputError, RecordError for an unknown ending, MissingExtra for .parquet without pyarrow.
    """
    if table_format(path) == ".parquet":
        _pyarrow("pyarrow.parquet")
    with suppress(OSError):  # a name that is too long; writing says so
        if path.is_dir():
            raise OutputError(f"{printable(path)} is a folder", hint="name a file, such as scores.csv")
    with atomic(path.with_name(f".{path.name}.probe")) as file:
        file.write("")
    path.with_name(f".{path.name}.probe").unlink(missing_ok=True)
