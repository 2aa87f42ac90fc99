"""Tables and other files, written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from efiqa.errors import OutputError
from efiqa.names import printable
from efiqa.tables import in_groups, pyarrow_module, table_format

WRITTEN = 10_000
"""Rows that are written at a time: what is done once for each group costs nothing."""


def write_table(path: Path, columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows in the format of the path's ending; atomic, streaming. Returns their number.

    `columns` names each cell of a row and its type (str, int or float); none is an empty cell.
    """
    count = 0
    match table_format(path):
        case ".csv":
            with atomic(path) as file:
                file.write(csv_line(columns))
                for group in in_groups(rows, WRITTEN):
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


def write_parquet(file: BinaryIO, columns: Mapping[str, type], rows: Iterable[Sequence[Any]]) -> int:
    """Write rows into an open file, streaming; the same rows give the same bytes. Returns their number."""
    arrow, parquet = pyarrow_module("pyarrow"), pyarrow_module("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int32(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for group in in_groups(rows, WRITTEN):
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
