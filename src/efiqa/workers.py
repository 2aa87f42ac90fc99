"""What scores one task: a worker, the same in a process of this machine and in an actor of a cluster."""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import connection, get_context, parent_process
from typing import Any, Protocol

from efiqa.errors import EfiqaError, ImageError, Killed
from efiqa.records import Prediction, predictions_parquet
from efiqa.scorer import Faces, Scorer
from efiqa.shards import Named, members, read_list
from efiqa.stores import StoreError
from efiqa.tasks import Work

LOST = ("incomplete", "unreadable", "killed")
"""Status of what another day might have got: these rows stand in the ledger too."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What makes a worker: options of Scorer, which faces are looked for, and columns beside the usual.

    `folder` is what paths are relative to, here and on every machine that has such a folder.
    """

    options: dict[str, Any]
    faces: Faces = "all"
    more: Sequence[str] = ()
    folder: str = field(default_factory=os.getcwd)


@dataclass(frozen=True, slots=True)
class Part:
    """A task that is done: its rows as the bytes of a Parquet file, and what they amount to.

    `lost` are name, status and message of rows that LOST has; `passing` says that some of them failed for
    what passes, as a store that is away.
    """

    data: bytes
    pictures: int
    statuses: dict[str, int]
    decisions: dict[str, int]
    lost: list[tuple[str, str, str]]
    passing: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class Failed:
    """A task, or a start, that ended with an error; `final` where it would again."""

    reason: str
    final: bool = False


class WorkerDied(Exception):
    """The process or node of a worker is gone, and what it was doing with it."""


class Pool(Protocol):
    """Where workers live. Each does one thing at a time; a ticket stands for it until its result is taken."""

    def start(self) -> tuple[Any, Any]:
        """A new worker, and the ticket of `ready`."""
        ...

    def submit(self, worker: Any, work: Work, careful: bool) -> Any: ...

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        """Those that have a result, at least one unless `seconds` are over."""
        ...

    def result(self, ticket: Any) -> Any:
        """Raises WorkerDied."""
        ...

    def stop(self, worker: Any) -> None: ...


@dataclass(slots=True)
class _Watch:
    """Notes what its pictures fail for, while they are read."""

    passing: bool = False

    def over(self, items: Iterator[Named]) -> Iterator[Named]:
        for item in items:
            if item.error is not None:
                self._note(item.error)
            yield item if item.read is None else replace(item, read=partial(self._read, item))

    def _read(self, item: Named) -> bytes:
        assert item.read is not None
        try:
            return item.read()
        except ImageError as error:
            self._note(error)
            raise

    def _note(self, error: ImageError) -> None:
        cause = error.__cause__
        self.passing = self.passing or (isinstance(cause, StoreError) and not cause.final)


class Worker:
    """One Scorer, and what it is asked for. Errors are results, so that an exception means a death."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._scorer: Scorer | None = None

    def ready(self) -> dict[str, Any] | Failed:
        """Opens the model; says where this is."""
        try:
            self._scorer = Scorer(**self._setup.options)
        except EfiqaError as error:
            return Failed(f"{error}; {error.hint}" if error.hint else str(error), final=True)
        return {"host": platform.node(), "pid": os.getpid()}

    def score(self, work: Work, careful: bool) -> Part | Failed:
        """All rows of a task. With `careful` each picture is scored in a child, which may die of it."""
        watch, statuses, decisions = _Watch(), Counter[str](), Counter[str]()
        lost: list[tuple[str, str, str]] = []
        pictures = 0

        def rows() -> Iterator[Prediction]:
            nonlocal pictures
            for group in groups:
                pictures += 1
                for row in group:
                    statuses[row.status] += 1
                    if row.decision:
                        decisions[row.decision] += 1
                    if row.status in LOST:
                        lost.append((row.image, row.status, row.message))
                    yield row

        items = watch.over(read_list(work) if isinstance(work, bytes) else members(work))
        assert self._scorer is not None
        groups = self._apart(items) if careful else self._scorer.predict_many(items, faces=self._setup.faces)
        try:
            data = predictions_parquet(rows(), more=self._setup.more)
        except EfiqaError as error:
            return Failed(str(error), final=True)
        except Exception as error:  # noqa: BLE001 # whatever it is, it must not end the other tasks
            return Failed(f"{type(error).__name__}: {error}")
        return Part(
            data,
            pictures,
            dict(sorted(statuses.items())),
            dict(sorted(decisions.items())),
            lost,
            watch.passing,
        )

    def one(self, item: Named) -> list[Prediction] | Failed:
        """Rows of one picture."""
        assert self._scorer is not None
        try:
            (rows,) = self._scorer.predict_many([item], faces=self._setup.faces, workers=1)
        except EfiqaError as error:
            return Failed(str(error), final=True)
        return rows

    def _apart(self, items: Iterator[Named]) -> Iterator[list[Prediction]]:
        """Each picture scored in a child; one that ends its child twice is a row that says so."""
        pool = Processes(self._setup)
        child: Child | None = None
        try:
            for each in items:
                item, rows, said = _held(each), None, ""
                for _ in range(2):
                    try:
                        if child is None:
                            child, _ticket = pool.start()
                            _checked(child.answer())
                        rows = _checked(child.ask("one", item).answer())
                        break
                    except WorkerDied as death:
                        said = str(death)
                        if child is not None:
                            pool.stop(child)
                        child = None
                if rows is None:
                    reason = Killed(f"the process that scored it {said}, twice")
                    rows = _checked(self.one(replace(item, error=reason, read=None)))
                yield rows
        finally:
            if child is not None:
                pool.stop(child)


def _held(item: Named) -> Named:
    """The picture with its bytes, or the reason why there are none: what can be sent to a child."""
    if item.read is None:
        return item
    try:
        return replace(item, read=partial(bytes, item.read()))
    except ImageError as error:
        return replace(item, error=error, read=None)


def _checked(answer: Any) -> Any:
    if isinstance(answer, Failed):
        raise EfiqaError(answer.reason)
    return answer


@dataclass(slots=True, eq=False)
class Child:
    """A process with a worker in it, and the pipe to it."""

    process: Any
    pipe: connection.Connection
    asked: bool = field(default=False)

    def ask(self, name: str, *arguments: Any) -> Child:
        try:
            self.pipe.send((name, arguments))
        except OSError:  # it has died already; the answer will say so
            self.pipe.close()
        return self

    def answer(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join()
            code = self.process.exitcode
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise WorkerDied(
                f"{how} (9 is what the system sends when memory is short)" if code == -9 else how
            ) from error


class Processes:
    """Workers as processes of this machine."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._context = get_context("spawn")  # a fork would copy the threads' locks of this process

    def start(self) -> tuple[Child, Child]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._setup))
        process.start()
        theirs.close()  # else its death would not be the end of the pipe
        child = Child(process, ours)
        return child, child.ask("ready")

    def submit(self, worker: Child, work: Work, careful: bool) -> Child:
        return worker.ask("score", work, careful)

    def wait(self, tickets: Sequence[Child], seconds: float | None) -> Sequence[Child]:
        closed = [child for child in tickets if child.pipe.closed]
        if closed:
            return closed
        pipes = {child.pipe: child for child in tickets}
        return [pipes[pipe] for pipe in connection.wait(pipes, seconds)]  # type: ignore[index]

    def result(self, ticket: Child) -> Any:
        return ticket.answer()

    def stop(self, worker: Child) -> None:
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()


def _serve(pipe: connection.Connection, setup: Setup) -> None:
    """A child's life: answers until nobody asks any more, or its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to hear
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()
    worker = Worker(setup)
    while True:
        try:
            name, arguments = pipe.recv()
            pipe.send(getattr(worker, name)(*arguments))
        except (EOFError, BrokenPipeError):
            return


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
