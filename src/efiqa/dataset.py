"""A data set of predictions in parts: one Parquet file a task, and files that say what is in them.

    OUTPUT/_job.json            what the job is; written first
    OUTPUT/part-000000.parquet  the rows of task 0, whole or not there
    OUTPUT/_shards/000000.jsonl what is done so far, while the job runs
    OUTPUT/_shards.jsonl        a line for each task: file, rows, digest, attempts; written when all is done
    OUTPUT/_failed.jsonl        the ledger: tasks without a part, and rows that another day might have got

One process writes, the one that was asked to score; workers hand it their bytes. A part is written before
it is noted, and the same task gives the same bytes, so a job may be killed between any two of these steps.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from efiqa.engine import Outcome
from efiqa.errors import OutputError
from efiqa.journal import lock
from efiqa.names import printable
from efiqa.records import SHARDS
from efiqa.stores import WRITTEN, StoreError, is_address, join, names_in, public, read, remove, write
from efiqa.tasks import Task, Tasks
from efiqa.workers import Part

JOB, FAILED, NOTES, PART = "_job.json", "_failed.jsonl", "_shards", "part-"
NOTE_LINES = 1000
"""Tasks in one file of notes: what is written again with each of them."""


class DataSet:
    """The output of one job; closes with `finish`.

    `finished` are the numbers of the tasks that need not be done again, `records` what was noted of each.

    Raises OutputError, before anything is written, where `output` holds something else, another job's rows,
    or this job's without `resume`, and where another process is writing it.
    """

    def __init__(self, output: str, job: dict[str, Any], tasks: Tasks, *, resume: bool) -> None:
        self.output, self._name = output, public(output)
        self._new = job
        self._job = {"job": job, "inputs": tasks.digest, "shards": len(tasks)}
        self.id = hashlib.sha256(json.dumps(self._job, sort_keys=True).encode()).hexdigest()[:12]
        self._open = ExitStack()
        self.records: dict[int, dict[str, Any]] = {}
        with ExitStack() as undo:
            undo.callback(self.close)
            try:
                self._begin(tasks, resume)
            except StoreError as error:
                raise OutputError(f"{self._name} cannot be written: {error}", hint=WRITTEN) from error
            undo.pop_all()
        self._notes: list[str] = []
        self._number = 1 + max(map(int, self._noted()), default=-1)

    def _begin(self, tasks: Tasks, resume: bool) -> None:
        there = names_in(self.output)
        if JOB in there:
            self._check_job(resume or not any(name.startswith(PART) for name in there))
        else:
            self._check_empty(there)
            write(
                join(self.output, JOB), (json.dumps({"id": self.id, **self._job}, indent=1) + "\n").encode()
            )
        if not is_address(self.output):
            file = self._open.enter_context(Path(self.output, JOB).open("rb"))  # noqa: SIM115
            lock(file, self._name)
        self._recover(there, tasks)

    def _check_empty(self, there: dict[str, int]) -> None:
        others = set(there)
        if not is_address(self.output):
            path = Path(self.output)
            if path.exists() and not path.is_dir():
                raise OutputError(f"{self._name} is no folder", hint="a data set is a folder of files")
            others = {each.name for each in path.iterdir()} if path.exists() else set()
        others = {name for name in others if not name.endswith(".partial")}  # of a job killed as it began
        if others:
            raise OutputError(
                f"{self._name} holds something else: {printable(min(others))}",
                hint="name a folder that is new or empty",
            )

    @property
    def finished(self) -> set[int]:
        return {number for number, record in self.records.items() if "file" in record}

    @property
    def finished_records(self) -> list[dict[str, Any]]:
        return [self.records[number] for number in sorted(self.finished)]

    def _check_job(self, going_on: bool) -> None:
        try:
            before = json.loads(read(join(self.output, JOB)) or b"")
            old, new = dict(before["job"]), self._new
            changed = sorted(key for key in old | new if old.get(key) != new.get(key))
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self._name} holds a {JOB} that is none of efiqa", hint="name a folder that is new or empty"
            ) from error
        if changed:
            raise OutputError(
                f"{self._name} holds rows of another job: {', '.join(changed)} differ",
                hint="use the same model and options, or name another folder",
            )
        if (before["inputs"], before["shards"]) != (self._job["inputs"], self._job["shards"]):
            raise OutputError(
                f"{self._name} holds rows of other inputs",
                hint="give the same inputs in the same order, or name another folder",
            )
        if not going_on:
            raise OutputError(f"{self._name} holds rows of this job already", hint="--resume goes on with it")

    def _noted(self) -> list[str]:
        return sorted(
            name.removesuffix(".jsonl")
            for name in names_in(join(self.output, NOTES))
            if name.endswith(".jsonl") and name[:1].isdigit()
        )

    def _recover(self, there: dict[str, int], tasks: Tasks) -> None:
        """What was noted, where the part is still as it was; what a kill left half-written goes."""
        for name in there:
            if name.startswith(".") and name.endswith(".partial"):
                remove(join(self.output, name))
        notes = [join(NOTES, f"{name}.jsonl") for name in self._noted()]
        for name in ([SHARDS] if SHARDS in there else []) + notes:
            for line in (read(join(self.output, name)) or b"").splitlines():
                record = json.loads(line)
                self.records[record["shard"]] = record
        for task in tasks:
            record = self.records.get(task.number, {})
            if "file" in record and not self._intact(record, there):
                del self.records[task.number]

    def _intact(self, record: dict[str, Any], there: dict[str, int]) -> bool:
        """Whether a part has the bytes that were written. In a store its size tells, or every part were
        fetched."""
        if there.get(record["file"]) != record["bytes"]:
            return False
        if is_address(self.output):
            return True
        data = read(join(self.output, record["file"])) or b""
        return hashlib.sha256(data).hexdigest() == str(record["digest"])

    def add(self, outcome: Outcome) -> dict[str, Any]:
        """Keep the outcome of a task that is over; returns its record."""
        task, result = outcome.task, outcome.result
        record: dict[str, Any] = {"shard": task.number, "input": task.name, "input_digest": task.digest}
        if isinstance(result, Part):
            name = part_name(task)
            write(join(self.output, name), result.data)
            record |= {
                "file": name,
                "bytes": len(result.data),
                "digest": result.digest,
                "pictures": result.pictures,
                "rows": sum(result.statuses.values()),
                "statuses": result.statuses,
            }
            if result.decisions:
                record["decisions"] = result.decisions
            if result.lost:
                record["lost"] = result.lost
        else:
            record["error"] = result.reason
        record["attempts"] = outcome.attempt
        self.records[task.number] = record
        self._notes.append(json.dumps(record, ensure_ascii=False) + "\n")
        self._save()
        return record

    def _save(self) -> None:
        """Note what is done; a file of notes is written again until it is full, as stores cannot append."""
        write(join(join(self.output, NOTES), f"{self._number:06d}.jsonl"), "".join(self._notes).encode())
        if len(self._notes) >= NOTE_LINES:
            self._number, self._notes = self._number + 1, []

    def finish(self) -> None:
        """Write what is in the data set, and the ledger; the notes go."""
        records = [self.records[number] for number in sorted(self.records)]
        write(join(self.output, FAILED), _lines(_failures(records)))
        write(join(self.output, SHARDS), _lines(records))
        folder = join(self.output, NOTES)
        for name in self._noted():
            remove(join(folder, f"{name}.jsonl"))
        if not is_address(folder):
            with suppress(OSError):  # it was never made, or somebody has put something in it
                Path(folder).rmdir()
        self.close()

    def close(self) -> None:
        self._open.close()


def part_name(task: Task) -> str:
    return f"{PART}{task.number:06d}.parquet"


def _failures(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    failures = []
    for record in records:
        where = {"shard": record["shard"], "input": record["input"], "attempts": record["attempts"]}
        if "error" in record:
            failures.append({**where, "error": record["error"]})
        for image, status, message in record.get("lost", ()):
            failures.append({**where, "image": image, "status": status, "error": message})
    return failures


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
