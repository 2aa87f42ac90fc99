"""Tasks over workers: each done once, tried again where a worker died or a store was away, never for ever."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from efiqa.errors import WorkerError
from efiqa.tasks import Task, Tasks
from efiqa.workers import Failed, Part, Pool, WorkerDied

ATTEMPTS = 5
"""How often a task is tried in all, and how many workers in a row may fail to start."""
CAREFUL = 2
"""After this many dead workers each picture of a task is scored in a child of the worker: one may kill."""
PAUSE = 0.5
"""Seconds; before the n-th further attempt a pause is drawn from 0 to PAUSE · 2ⁿ."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to. `over` is false where the task will be tried again."""

    task: Task
    attempt: int
    result: Part | Failed
    over: bool
    where: dict[str, Any]


def score_all(
    tasks: Tasks, pool: Pool, *, skip: Container[int] = (), concurrency: int = 1
) -> Iterator[Outcome]:
    """Outcomes of all tasks but those of the numbers in `skip`, as they come, of `concurrency` workers.

    Raises WorkerError where workers cannot be started.
    """
    fresh = (_Try(task.number, task) for task in tasks if task.number not in skip)
    left = sum(task.number not in skip for task in tasks)
    again: list[tuple[float, _Try]] = []  # a heap by the time from which on it may be tried
    idle: list[Any] = []
    running: dict[Any, tuple[Any, _Try | None]] = {}  # by ticket: worker, and no try while it starts
    places: dict[Any, dict[str, Any]] = {}  # by worker
    misses = 0

    def start() -> None:
        worker, ticket = pool.start()
        places[worker] = {}
        running[ticket] = worker, None

    def next_try() -> _Try | None:
        if again and again[0][0] <= time.monotonic():
            return heapq.heappop(again)[1]
        return next(fresh, None)

    def hand_out() -> None:
        while idle and (chosen := next_try()):
            worker = idle.pop()
            careful = chosen.deaths >= CAREFUL
            running[pool.submit(worker, tasks.work(chosen.task), careful)] = worker, chosen

    try:
        for _ in range(min(concurrency, left)):
            start()
        while left:
            hand_out()
            due = max(0.0, again[0][0] - time.monotonic()) if again and idle else None
            if not running:
                time.sleep(due or 0.0)
                continue
            for ticket in pool.wait(list(running), due):
                worker, tried = running.pop(ticket)
                place = places[worker]
                try:
                    result = pool.result(ticket)
                except WorkerDied as death:
                    result = Failed(f"a worker {death}")
                    pool.stop(worker)
                    del places[worker]
                    if len(places) < min(concurrency, left):
                        start()
                    if tried is not None:
                        tried.deaths += 1
                else:
                    idle.append(worker)
                if tried is None:
                    misses = _started(result, misses)
                    if not misses:
                        places[worker] = result
                    continue
                passing = result.passing if isinstance(result, Part) else not result.final
                over = not passing or tried.attempt >= ATTEMPTS
                outcome = Outcome(tried.task, tried.attempt, result, over, place)
                if over:
                    left -= 1
                else:
                    when = time.monotonic() + random.uniform(0, PAUSE * 2**tried.attempt)
                    tried.attempt += 1
                    heapq.heappush(again, (when, tried))
                hand_out()  # nobody waits while this outcome is written
                yield outcome
    finally:
        for worker in places:
            pool.stop(worker)


@dataclass(slots=True, order=True)
class _Try:
    number: int
    task: Task = field(compare=False)
    attempt: int = 1
    deaths: int = 0


def _started(result: Any, misses: int) -> int:
    """How many workers in a row have failed to start, with this one. Raises WorkerError for too many."""
    if not isinstance(result, Failed):
        return 0
    if result.final or misses + 1 >= ATTEMPTS:
        raise WorkerError(
            f"a worker cannot be started: {result.reason}",
            hint="every machine needs the same efiqa with its extras, the model, and memory for it",
        )
    return misses + 1
