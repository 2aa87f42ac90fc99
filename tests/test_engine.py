"""Every task is done once; deaths, errors and stores that are away cost attempts, which have an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from efiqa import engine
from efiqa.engine import ATTEMPTS, CAREFUL, score_all
from efiqa.errors import WorkerError
from efiqa.shards import Named
from efiqa.tasks import Tasks, Work
from efiqa.workers import Failed, Part, WorkerDied

PART = Part(b"rows", 1, {"ok": 1}, {}, [], False)
PASSING = Part(b"half", 1, {"unreadable": 1}, {}, [("a", "unreadable", "503")], True)
FINAL, ERROR = Failed("not this", final=True), Failed("ValueError: x")


class Ticket:
    def __init__(self, answer: Any) -> None:
        self.answer = answer


class Scripted:
    """A pool whose workers do at once what stands for their task; `None` kills them."""

    def __init__(self, results: dict[str, list[Any]], starts: Sequence[Any] = ()) -> None:
        self.results, self.starts = results, list(starts)
        self.asked: list[tuple[str, bool]] = []
        self.alive, self.most = set[int](), 0
        self._next = 0

    def start(self) -> tuple[Any, Any]:
        self._next += 1
        self.alive.add(self._next)
        self.most = max(self.most, len(self.alive))
        answer = self.starts.pop(0) if self.starts else {"pid": self._next}
        return self._next, Ticket(answer)

    def submit(self, worker: Any, work: Work, careful: bool) -> Any:
        assert isinstance(work, bytes)
        name = work.decode().split('"')[1]
        self.asked.append((name, careful))
        script = self.results.get(name, [])
        return Ticket(script.pop(0) if script else PART)

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> Sequence[Any]:
        return tickets[:1]

    def result(self, ticket: Any) -> Any:
        if ticket.answer is None:
            raise WorkerDied("was ended by signal 9")
        return ticket.answer

    def stop(self, worker: Any) -> None:
        self.alive.discard(worker)


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No test waits: the clock is what was slept."""
    pauses: list[float] = []
    monkeypatch.setattr(engine.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(engine.time, "sleep", lambda seconds: pauses.append(seconds + 1e-9))
    return pauses


def run(pool: Scripted, names: str = "abc", **options: Any) -> list[tuple[str, int, Any]]:
    """Name, attempt and result of each task that is over, sorted."""
    tasks = Tasks((Named(name, name) for name in names), 1)
    over = [outcome for outcome in score_all(tasks, pool, **options) if outcome.over]
    assert not pool.alive
    return sorted((each.task.name, each.attempt, each.result) for each in over)


@pytest.mark.parametrize("concurrency", [1, 2, 7])
def test_every_task_is_done_once_by_as_many_workers_as_asked_for(concurrency: int):
    pool = Scripted({})
    assert run(pool, concurrency=concurrency) == [("a", 1, PART), ("b", 1, PART), ("c", 1, PART)]
    assert sorted(pool.asked) == [("a", False), ("b", False), ("c", False)]
    assert pool.most == min(3, concurrency)


def test_what_is_finished_is_not_asked_for_and_no_worker_starts_for_nothing():
    pool = Scripted({})
    assert run(pool, skip={0, 2}, concurrency=5) == [("b", 1, PART)]
    assert pool.most == 1
    assert run(Scripted({}), skip={0, 1, 2}) == []


CASES = [
    ([None], 2, PART, "a worker that dies once"),
    ([None, None, None], 4, PART, "a worker that dies three times"),
    ([PASSING, ERROR, None], 4, PART, "each trouble once"),
    ([None] * 9, ATTEMPTS, Failed("a worker was ended by signal 9"), "a task that always kills"),
    ([ERROR] * 9, ATTEMPTS, ERROR, "an error that stays"),
    ([FINAL], 1, FINAL, "an error that another try would not change"),
    ([PASSING] * 9, ATTEMPTS, PASSING, "a store that stays away: the rows that there are"),
]


@pytest.mark.parametrize(
    ("script", "attempts", "result"), [case[:3] for case in CASES], ids=[case[3] for case in CASES]
)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_troubles_cost_attempts_and_harm_no_other_task(
    script: list[Any], attempts: int, result: Any, concurrency: int
):
    pool = Scripted({"b": list(script)})
    assert run(pool, concurrency=concurrency) == [("a", 1, PART), ("b", attempts, result), ("c", 1, PART)]


def test_after_deaths_pictures_are_scored_apart_and_after_other_troubles_not():
    pool = Scripted({"a": [ERROR, PASSING, *[None] * CAREFUL]})
    run(pool, "a")
    assert [careful for _, careful in pool.asked] == [False] * (2 + CAREFUL) + [True]


def test_pauses_before_further_attempts_are_drawn_and_grow(slept: list[float]):
    totals = []
    for _ in range(100):
        slept.clear()
        run(Scripted({"a": [ERROR] * 9}), "a")
        totals.append(list(slept))
    for number in range(ATTEMPTS - 1):
        drawn, limit = [each[number] for each in totals], engine.PAUSE * 2 ** (number + 1)
        assert max(drawn) <= limit + 1e-6
        assert 0.35 * limit < sum(drawn) / len(drawn) < 0.65 * limit


def test_workers_that_cannot_start_are_an_error_at_once_where_it_is_final_else_after_some():
    with pytest.raises(WorkerError, match="cannot be started: no model") as caught:
        run(Scripted({}, [Failed("no model", final=True)]))
    assert caught.value.hint
    pool = Scripted({}, [None] * (ATTEMPTS - 1))
    assert len(run(pool)) == 3
    with pytest.raises(WorkerError, match="signal 9"):
        run(Scripted({}, [None] * ATTEMPTS))


def test_workers_stop_where_the_job_is_left():
    pool = Scripted({})
    outcomes = score_all(Tasks((Named(name, name) for name in "abc"), 1), pool, concurrency=2)
    next(outcomes)
    outcomes.close()
    assert not pool.alive
