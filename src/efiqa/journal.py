"""A long scoring job that can be killed at any moment and goes on without losing or repeating a row.

While a job runs, its rows lie in `.NAME.journal` beside the output: one JSON line per picture, after a
first line that says what the job is. When all pictures are done the output is written from it, at
once, and the journal goes. A torn last line, as a kill leaves it, is cut off on resuming.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from efiqa.errors import OutputError, RecordError
from efiqa.names import printable
from efiqa.records import Prediction, quick, write_predictions
from efiqa.sources import Named
from efiqa.writing import check_writable

if sys.platform != "win32":
    import fcntl

Score = Callable[[Iterable[Named]], Iterator[list[Prediction]]]

_KEPT = "what is done is kept in the journal beside it; make room and use --resume"


def run_job(
    inputs: Iterable[Named],
    score: Score,
    output: Path,
    *,
    job: dict[str, Any],
    resume: bool = False,
    more: Sequence[str] = (),
    done: Callable[[list[Prediction]], None] = lambda rows: None,
) -> int:
    """Score `inputs` into `output`; returns the number of rows. `done` gets each picture's, old ones too.

    `job` is what a resumed run must share with the first: model, options. A value of none is the same as
    no such key. `more` are the columns beside the usual ones. Without `resume` an old journal is dropped.

    Raises OutputError when the output cannot be written (before any work), the disk is full, or the
    journal is of another job or of other inputs, or another job is writing the same output.
    """
    check_writable(output)
    path = output.with_name(f".{output.name}.journal")
    try:
        path.touch()
        with path.open("r+b") as file:
            lock(file, printable(output))
            if not (resume and file.readline().endswith(b"\n")):
                file.truncate(0)
                file.seek(0)
                file.write((json.dumps({"job": job}) + "\n").encode())
                file.flush()
            finished = _recover(file, job, path)
            remaining = iter(inputs)
            for rows in islice(_rows(path), finished):
                item = next(remaining, None)
                if item is None or rows[0].image != item.name:
                    now = "nothing" if item is None else repr(item.name)
                    raise OutputError(
                        f"{printable(path)} is of other inputs: it has {rows[0].image!r}, now comes {now}",
                        hint="give the same inputs, or run without --resume to start anew",
                    )
                done(rows)
            file.seek(0, os.SEEK_END)
            encode = json.JSONEncoder(ensure_ascii=False).encode
            for rows in score(remaining):
                line = encode([_compact(row) for row in rows]) + "\n"
                file.write(line.encode())
                file.flush()
                done(rows)
    except OSError as error:
        raise OutputError(
            f"{printable(output)} cannot be written: {error.strerror or error}", hint=_KEPT
        ) from error
    try:
        count = write_predictions(output, (row for rows in _rows(path) for row in rows), more=more)
    except OutputError as error:
        raise OutputError(str(error), hint=_KEPT) from error
    path.unlink()
    return count


def lock(file: BinaryIO, output: str) -> None:
    """Raises OutputError while another job writes the same output; a lock ends with its process."""
    if sys.platform == "win32":  # has no such lock: two jobs for one output are not told apart there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another job is writing {output}", hint="wait for it, or name another output"
        ) from error


def _compact(row: Prediction) -> dict[str, Any]:
    return {name: value for name in Prediction.__slots__ if (value := getattr(row, name)) is not None}


def _recover(file: BinaryIO, job: dict[str, Any], path: Path) -> int:
    """Cut a torn last line off; returns the number of pictures that are done."""
    file.seek(0)
    header = file.readline()
    try:
        before = dict(json.loads(header)["job"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{printable(path)} is no journal of efiqa", hint="run without --resume to start anew"
        ) from error
    changed = sorted(key for key in before.keys() | job.keys() if before.get(key) != job.get(key))
    if changed:
        raise OutputError(
            f"{printable(path)} is of another job: {', '.join(changed)} differ",
            hint="use the same model and options, or run without --resume to start anew",
        )
    finished, end = 0, file.tell()
    for line in file:
        if not line.endswith(b"\n"):
            break
        finished, end = finished + 1, end + len(line)
    file.truncate(end)
    return finished


def _rows(path: Path) -> Iterator[list[Prediction]]:
    make = quick(Prediction)
    with path.open("rb") as file:
        next(file)
        for number, line in enumerate(file, 2):
            try:
                yield [make(**values) for values in json.loads(line)]
            except (ValueError, TypeError) as error:
                raise RecordError(f"{printable(path)}, line {number}: not a row of efiqa") from error
