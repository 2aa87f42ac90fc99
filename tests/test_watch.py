"""What a job is seen to do: counts of all runs, the rate of this one, and lines that a program can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from efiqa import watch
from efiqa.engine import Outcome
from efiqa.errors import OutputError
from efiqa.tasks import Task
from efiqa.watch import Watch
from efiqa.workers import Failed, Part

RECORD = {"file": "p", "pictures": 20, "rows": 30, "statuses": {"ok": 29, "no_face": 1}, "digest": "d"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(watch.time, "monotonic", lambda: now[0])
    return now


def outcome(number: int, result: Part | Failed, *, over: bool = True) -> Outcome:
    task = Task(number, f"{number}.tar", "digest", None, (0, 0))
    return Outcome(task, 1, result, over, {"host": "h", "pid": 7})


PART = Part(b"", 20, {"ok": 29, "no_face": 1}, {"accept": 29}, [], False)


def test_the_rate_is_of_this_run_and_the_sums_of_all(clock: list[float]):
    with Watch("id", 5, [RECORD, RECORD]) as seen:
        clock[0] += 10
        seen.note(outcome(2, PART), {**RECORD, "decisions": {"accept": 29}})
        seen.note(outcome(3, Failed("x")), {"error": "x"})
        assert (seen.statuses["ok"], seen.decisions["accept"]) == (87, 29)
        assert seen.said() == "60 images, 2 images/s, 1 shards failed"
        assert seen.said(left=True) == "4 of 5 shards, 60 images, 2 images/s, 1 shards failed, 0:00:05 left"
        assert seen.numbers()["left"] == 1
        assert [seen.due(), seen.due()] == [False, False]
        clock[0] += watch.TOLD_EVERY
        assert [seen.due(), seen.due()] == [True, False]


def test_the_log_tells_every_attempt_and_how_it_ended(tmp_path: Path, clock: list[float]):
    log = tmp_path / "new" / "l.jsonl"
    with Watch("id", 2, [], log=log) as seen:
        seen.note(outcome(0, Failed("a worker died"), over=False), None)
        seen.note(outcome(0, PART), RECORD)
        seen.note(outcome(1, Failed("no model")), {"error": "no model"})
    again = Watch("id", 2, [RECORD], log=log)
    with pytest.raises(KeyError), again:
        raise KeyError("stop")
    events: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = ["start", "again", "shard", "failed", "end", "start", "end"]
    assert [each["event"] for each in events] == kinds
    assert {each["job"] for each in events} == {"id"}
    assert (events[1]["reason"], events[1]["pid"]) == ("a worker died", 7)
    assert (events[2]["input"], events[2]["rows"]) == ("0.tar", 30)
    assert (events[3]["error"], events[6]["error"]) == ("no model", "KeyError: 'stop'")
    assert "error" not in events[4]
    assert (events[4]["again"], events[4]["left"], events[5]["finished"]) == (1, 0, 1)


def test_numbers_for_prometheus_are_whole_and_their_place_is_checked(tmp_path: Path):
    pytest.importorskip("prometheus_client")
    with Watch("id", 2, [RECORD], metrics=tmp_path / "m.prom"):
        pass
    text = (tmp_path / "m.prom").read_text()
    assert 'efiqa_job_shards{job="id",state="left"} 1.0' in text
    assert 'efiqa_job_rows{job="id",status="no_face"} 1.0' in text
    assert [path.name for path in tmp_path.iterdir()] == ["m.prom"]
    seen = Watch("id", 2, [], log=tmp_path / "l.jsonl", metrics=tmp_path / "gone" / "m.prom")
    with pytest.raises(OutputError, match="cannot be written"):
        seen.__enter__()
