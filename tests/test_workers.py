"""A worker's part is the same wherever it lives, and a picture that kills it costs its own row only."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efiqa import engine, stores
from efiqa.engine import CAREFUL, score_all
from efiqa.faces import Box, Face
from efiqa.image import Image
from efiqa.records import Prediction
from efiqa.shards import Named, Shard, members, write_list
from efiqa.sources import entries, expand
from efiqa.tasks import Tasks
from efiqa.workers import Failed, Part, Processes, Setup, Worker

parquet = pytest.importorskip("pyarrow.parquet")
DEADLY = 13
FAST = {"runtime": "onnxruntime"}  # starts in a third of the time


class Deadly:
    """A detector that a picture of one grey level kills, as one too large for the memory would."""

    name = "deadly"

    def detect(self, image: Image) -> list[Face]:
        if np.all(image == DEADLY):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Face(Box(0, 0, 32, 32), 0.9)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def worker(model: Path) -> Worker:
    made = Worker(Setup({"model": model, **FAST}, "none"))
    assert made.ready() == {"host": os.uname().nodename, "pid": os.getpid()}
    return made


def rows_of(part: Part | Failed) -> list[tuple[str, str, float | None]]:
    assert isinstance(part, Part)
    cells = parquet.read_table(io.BytesIO(part.data)).to_pylist()
    return [(each["image"], each["status"], each["score"]) for each in cells]


def test_a_part_holds_the_rows_and_says_what_they_come_to(worker: Worker, grey: Callable[..., Path]):
    grey(Path("a.png"), 51)
    Path("b.png").write_bytes(b"<html>")
    work = write_list(expand(["a.png", "b.png", "gone.png"]))
    part = worker.score(work, careful=False)
    assert rows_of(part) == [
        ("a.png", "ok", 0.2),
        ("b.png", "not_an_image", None),
        ("gone.png", "not_found", None),
    ]
    assert isinstance(part, Part)
    assert (part.pictures, part.passing, part.lost) == (3, False, [])
    assert part.statuses == {"not_an_image": 1, "not_found": 1, "ok": 1}
    assert worker.score(work, careful=False) == part


def test_a_model_that_gives_no_number_fails_the_task_and_not_the_worker(
    tmp_path: Path, make_model: Callable[..., Path], grey: Callable[..., Path]
):
    worker = Worker(Setup({"model": make_model(tmp_path / "nan.onnx", divisor=0.0)}, "none"))
    worker.ready()
    failed = worker.score(write_list([Named("a", str(grey(Path("a.png"), 51)))]), careful=False)
    assert isinstance(failed, Failed)
    assert failed.final
    assert "gives inf" in failed.reason
    assert isinstance(worker.score(write_list([Named("b", "gone.png")]), careful=False), Part)


def test_a_worker_that_cannot_open_its_model_says_why():
    failed = Worker(Setup({"model": "gone.onnx"})).ready()
    assert isinstance(failed, Failed)
    assert failed.final
    assert "there is no model" in failed.reason


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], None]]:
    """memory://a.png, which every read answers with this error."""
    memory = pytest.importorskip("fsspec").filesystem("memory")
    monkeypatch.setattr(stores, "PAUSE", 0.0)
    memory.store.clear()
    memory.pipe_file("/a.png", b"<html>")

    def refuse(error: BaseException) -> None:
        def cat_file(*_: object, **__: object) -> bytes:
            raise error

        monkeypatch.setattr(type(memory), "cat_file", cat_file)

    yield refuse
    memory.store.clear()


@pytest.mark.parametrize(
    ("error", "passing"), [(OSError("503 SlowDown"), True), (PermissionError("AccessDenied"), False)]
)
def test_what_passes_is_told_from_what_stays(worker: Worker, away, error: OSError, passing: bool):
    away(error)
    part = worker.score(write_list(expand(["memory://a.png"])), careful=False)
    assert isinstance(part, Part)
    assert part.passing == passing
    assert [(image, status) for image, status, _ in part.lost] == [("memory://a.png", "unreadable")]
    assert str(error) in part.lost[0][2]


def test_a_damaged_archive_stays_and_a_store_that_breaks_off_passes(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    Path("s.tar").write_bytes(b"<html>" * 200)
    part = worker.score(Shard("s.tar", "s.tar", "tar"), careful=False)
    assert isinstance(part, Part)
    assert (part.passing, part.statuses) == (False, {"incomplete": 1})

    def breaks(address: str) -> Any:
        raise stores.StoreError("503 SlowDown (6 tries)")

    monkeypatch.setattr("efiqa.shards.open_stream", breaks)
    assert [item.error is not None for item in members(Shard("s.tar", "s3://b/s.tar", "tar"))] == [True]
    part = worker.score(Shard("s.tar", "s3://b/s.tar", "tar"), careful=False)
    assert isinstance(part, Part)
    assert (part.passing, part.statuses) == (True, {"incomplete": 1})


def test_a_picture_that_kills_its_process_is_a_row_and_all_others_are_scored(
    model: Path, grey: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "PAUSE", 0.0)
    for number, level in enumerate([0, 51, DEADLY, 102, 153, 204]):
        grey(Path(f"{number}.png"), level)
    tasks = Tasks(entries([f"{number}.png" for number in range(6)]), 4)
    pool = Processes(Setup({"model": model, "detector": Deadly(), **FAST}))
    outcomes = [each for each in score_all(tasks, pool, concurrency=2) if each.over]
    first, second = sorted(outcomes, key=lambda each: each.task.number)
    assert rows_of(first.result) == [
        ("0.png", "ok", 0.0),
        ("1.png", "ok", 0.2),
        ("2.png", "killed", None),
        ("3.png", "ok", 0.4),
    ]
    assert rows_of(second.result) == [("4.png", "ok", 0.6), ("5.png", "ok", 0.8)]
    assert (first.attempt, second.attempt) == (CAREFUL + 1, 1)
    assert isinstance(first.result, Part)
    ((image, status, message),) = first.result.lost
    assert (image, status) == ("2.png", "killed")
    assert "signal 9" in message


def test_apart_or_together_the_bytes_are_the_same(model: Path, worker: Worker, grey: Callable[..., Path]):
    grey(Path("a.png"), 51)
    work = write_list(expand(["a.png", "gone.png"]))
    assert worker.score(work, careful=True) == worker.score(work, careful=False)
    pool = Processes(Setup({"model": model, **FAST}, "none"))
    child, ticket = pool.start()
    assert pool.result(ticket)["pid"] == child.process.pid
    assert pool.result(pool.submit(child, work, False)) == worker.score(work, careful=False)
    pool.stop(child)


def test_rows_of_one_picture_are_those_of_the_scorer(worker: Worker, grey: Callable[..., Path]):
    path = str(grey(Path("a.png"), 51))
    assert worker.one(Named("a", path)) == [Prediction("a", score=0.2, quality=20.0)]
