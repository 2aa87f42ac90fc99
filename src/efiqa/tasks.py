"""Work in portions: an archive is one task, and what lies in files of its own comes in lists of equal length.

All inputs are looked through before the first task is given out, so that what is wrong with them is an
error before the work. What was found waits in a temporary file: memory does not grow with it.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import weakref
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efiqa.errors import RecordError
from efiqa.shards import Named, Shard, write_list
from efiqa.stores import is_address

Work = Shard | bytes
"""What a worker gets: an archive to read, or a list of pictures as write_list makes it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One portion. `digest` is of the names in it, and of the bytes that an archive has, where that is known.

    `pictures` is their number, none for an archive. `work` is the archive, or where in the file the list is.
    """

    number: int
    name: str
    digest: str
    pictures: int | None
    work: Shard | tuple[int, int]


class Tasks:
    """The tasks of one job, in the order of its inputs; lists have `size` pictures, but for the last before
    an archive and at the end.

    Raises RecordError where two archives have one name, and what the inputs raise.
    """

    def __init__(self, entries: Iterable[Named | Shard], size: int) -> None:
        self._lists = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._lists.close)
        self._tasks: list[Task] = []
        self._names: set[str] = set()
        listed: list[Named] = []
        for entry in entries:
            if isinstance(entry, Shard) or len(listed) == size:
                self._add_list(listed)
                listed = []
            if isinstance(entry, Shard):
                self._add_archive(entry)
            else:
                listed.append(entry)
        self._add_list(listed)
        del self._names

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    @property
    def pictures(self) -> int | None:
        """How many there are; none where an archive holds some, which only reading it would tell."""
        counts = [task.pictures for task in self._tasks if task.pictures is not None]
        return sum(counts) if len(counts) == len(self._tasks) else None

    @property
    def digest(self) -> str:
        """Of all tasks in their order: what says that two jobs have the same inputs."""
        return hashlib.sha256("".join(task.digest for task in self._tasks).encode()).hexdigest()

    def work(self, task: Task) -> Work:
        """What is to be done: an archive, or a list read back."""
        if isinstance(task.work, Shard):
            return task.work
        start, length = task.work
        self._lists.seek(start)
        return zlib.decompress(self._lists.read(length))

    def _add_archive(self, shard: Shard) -> None:
        if shard.name in self._names:
            raise RecordError(
                f"two shards are called {shard.name}: their pictures would have the same names",
                hint="name each archive once, or rename one",
            )
        self._names.add(shard.name)
        if not is_address(shard.address):
            path = Path(shard.address)
            shard = replace(shard, size=path.stat().st_size if path.is_file() else None)
        said = [shard.name, shard.kind, shard.column, shard.size]
        self._add(shard.name, said, None, shard)

    def _add_list(self, listed: list[Named]) -> None:
        if not listed:
            return
        data = zlib.compress(write_list(listed), 1)
        start = self._lists.seek(0, 2)
        self._lists.write(data)
        names = [item.name for item in listed]
        name = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        self._add(name, names, len(names), (start, len(data)))

    def _add(self, name: str, said: Any, pictures: int | None, work: Shard | tuple[int, int]) -> None:
        digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        self._tasks.append(Task(len(self._tasks), name, digest, pictures, work))
