"""A data set in parts: whole or going on, exactly one row for each, and nobody else's work overwritten."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from efiqa import dataset
from efiqa.dataset import DataSet
from efiqa.engine import Outcome
from efiqa.errors import OutputError, RecordError
from efiqa.records import Prediction, predictions_parquet, read_predictions
from efiqa.shards import Named
from efiqa.stores import names_in
from efiqa.tasks import Tasks
from efiqa.workers import Failed, Part

pytest.importorskip("pyarrow")
JOB = {"model": "mean@1", "faces": "none"}
NAMES = [f"{number}.jpg" for number in range(7)]


def tasks_of(names: list[str] = NAMES) -> Tasks:
    """Two pictures a task: 0 and 1, 2 and 3, 4 and 5, 6."""
    return Tasks((Named(name, name) for name in names), 2)


def rows_in(number: int) -> list[Prediction]:
    return [Prediction(name, score=0.5) for name in NAMES[2 * number : 2 * number + 2]]


def part(number: int, lost: list[tuple[str, str, str]] | None = None) -> Part:
    rows = rows_in(number)
    return Part(predictions_parquet(rows), len(rows), {"ok": len(rows)}, {}, lost or [], False)


def work(
    output: Path | str,
    *numbers: int,
    resume: bool = False,
    finish: bool = False,
    results: dict[int, Part | Failed] | None = None,
    job: dict[str, Any] = JOB,
    names: list[str] = NAMES,
) -> list[int]:
    """A process that does these tasks, and is then killed or finishes; returns what it found finished."""
    tasks = tasks_of(names)
    data_set = DataSet(str(output), job, tasks, resume=resume)
    found = sorted(data_set.finished)
    for task in tasks:
        if task.number in numbers:
            data_set.add(Outcome(task, 1, (results or {}).get(task.number, part(task.number)), True, {}))
    if finish:
        data_set.finish()
    data_set.close()
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_data_set_is_its_parts_and_what_says_so(tmp_path: Path):
    work(tmp_path / "s", 2, 0, 3, 1, finish=True)
    parts = [f"part-{number:06d}.parquet" for number in range(4)]
    assert sorted(contents(tmp_path / "s")) == ["_failed.jsonl", "_job.json", "_shards.jsonl", *parts]
    assert list(read_predictions(tmp_path / "s")) == [row for number in range(4) for row in rows_in(number)]
    lines = (tmp_path / "s" / "_shards.jsonl").read_text().splitlines()
    record = json.loads(lines[1])
    assert (record["shard"], record["file"], record["input"]) == (1, parts[1], "2.jpg … 3.jpg")
    assert (record["rows"], record["statuses"], record["attempts"]) == (2, {"ok": 2}, 1)
    assert (record["digest"], record["bytes"]) == (part(1).digest, len(part(1).data))
    assert (tmp_path / "s" / "_failed.jsonl").read_bytes() == b""


@pytest.mark.parametrize("done", [(), (0,), (3, 1), (0, 1, 2, 3)])
def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path: Path, done: tuple[int, ...]):
    work(tmp_path / "whole", 0, 1, 2, 3, finish=True)
    work(tmp_path / "s", *done)
    with pytest.raises(RecordError, match="no finished data set"):
        list(read_predictions(tmp_path / "s"))
    left = {0, 1, 2, 3} - set(done)
    assert work(tmp_path / "s", *left, resume=True, finish=True) == sorted(done)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert work(tmp_path / "s", resume=True, finish=True) == [0, 1, 2, 3]
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_a_part_that_was_not_noted_yet_is_made_again_and_what_is_half_written_goes(
    tmp_path: Path, monkeypatch
):
    work(tmp_path / "s", 0)
    with monkeypatch.context() as patched:
        patched.setattr(DataSet, "_save", lambda self: None)  # killed before it
        work(tmp_path / "s", 1, 2, resume=True)
    (tmp_path / "s" / ".part-000003.parquet.7.partial").write_bytes(b"PAR1")
    assert work(tmp_path / "s", 1, 2, 3, resume=True, finish=True) == [0]
    work(tmp_path / "whole", 0, 1, 2, 3, finish=True)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", [None, b"", b"x"])
def test_a_part_that_is_not_as_it_was_written_is_made_again(tmp_path: Path, damage: bytes | None):
    work(tmp_path / "s", 0, 1, 2, 3, finish=True)
    path = tmp_path / "s" / "part-000001.parquet"
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage + before[len(damage) :] if damage else b"")
    assert work(tmp_path / "s", 1, resume=True, finish=True) == [0, 2, 3]
    assert path.read_bytes() == before


def test_notes_fill_file_after_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dataset, "NOTE_LINES", 2)
    work(tmp_path / "s", 0, 1, 2)
    assert sorted(contents(tmp_path / "s" / "_shards")) == ["000000.jsonl", "000001.jsonl"]
    assert work(tmp_path / "s", 3, resume=True, finish=True) == [0, 1, 2]
    assert not (tmp_path / "s" / "_shards").exists()


def test_what_failed_is_told_tried_again_and_no_reader_takes_less_for_all(tmp_path: Path):
    lost = [("4.jpg", "killed", "twice")]
    results: dict[int, Part | Failed] = {1: Failed("a worker died"), 2: part(2, lost)}
    work(tmp_path / "s", 0, 1, 2, 3, results=results, finish=True)
    ledger = [json.loads(line) for line in (tmp_path / "s" / "_failed.jsonl").read_text().splitlines()]
    assert ledger == [
        {"shard": 1, "input": "2.jpg … 3.jpg", "attempts": 1, "error": "a worker died"},
        {"shard": 2, "input": "4.jpg … 5.jpg", "attempts": 1}
        | {"image": "4.jpg", "status": "killed", "error": "twice"},
    ]
    with pytest.raises(RecordError, match="lacks shard 1: a worker died") as caught:
        list(read_predictions(tmp_path / "s"))
    assert "--resume" in str(caught.value.hint)
    assert work(tmp_path / "s", 1, resume=True, finish=True) == [0, 2, 3]
    assert len(list(read_predictions(tmp_path / "s"))) == 7


REFUSED = [
    ({}, "rows of this job already", "--resume", "the same job without --resume"),
    (
        {"resume": True, "job": {**JOB, "model": "mean@2"}},
        "another job: model differ",
        "same model",
        "a model",
    ),
    ({"resume": True, "job": {"model": "mean@1"}}, "another job: faces differ", "same model", "an option"),
    ({"job": {}}, "another job: faces, model differ", "another folder", "another job without --resume"),
    ({"resume": True, "names": NAMES[::-1]}, "other inputs", "same order", "another order"),
    ({"resume": True, "names": NAMES[:2]}, "other inputs", "same inputs", "fewer inputs"),
]


@pytest.mark.parametrize(
    ("options", "message", "hint"), [case[:3] for case in REFUSED], ids=[c[3] for c in REFUSED]
)
@pytest.mark.parametrize("finish", [False, True])
def test_rows_of_another_job_are_refused_and_kept(
    tmp_path: Path, options: dict[str, Any], message: str, hint: str, finish: bool
):
    work(tmp_path / "s", 0, 1, 2, 3, finish=finish)
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.*")}
    with pytest.raises(OutputError, match=message) as caught:
        work(tmp_path / "s", **options)
    assert hint in str(caught.value.hint)
    assert {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.*")} == before


@pytest.mark.parametrize("what", ["notes.txt", "sub/a.jpg", "_job.json"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, what: str, resume: bool):
    (tmp_path / "s" / what).parent.mkdir(parents=True)
    (tmp_path / "s" / what).write_text("{}")
    with pytest.raises(OutputError, match=r"holds something else|none of efiqa") as caught:
        work(tmp_path / "s", resume=resume)
    assert "new or empty" in str(caught.value.hint)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is no folder"):
        work(tmp_path / "file")


def test_an_empty_folder_and_one_where_a_job_was_killed_as_it_began_are_taken(tmp_path: Path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "._job.json.7.partial").write_text("{")
    assert work(tmp_path / "s", 0, 1, 2, 3, finish=True) == []
    assert len(list(read_predictions(tmp_path / "s"))) == 7


def test_a_job_that_ended_before_its_first_part_begins_again_without_resume(tmp_path: Path):
    assert work(tmp_path / "s") == []
    assert work(tmp_path / "s", 0, 1, 2, 3, finish=True) == []
    with pytest.raises(OutputError, match="another job"):
        work(tmp_path / "s", job={})


def test_two_processes_do_not_write_one_data_set(tmp_path: Path):
    pytest.importorskip("fcntl")
    first = DataSet(str(tmp_path / "s"), JOB, tasks_of(), resume=False)
    with pytest.raises(OutputError, match="another job is writing"):
        work(tmp_path / "s", resume=True)
    first.close()
    assert work(tmp_path / "s", resume=True) == []


def test_a_data_set_may_lie_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    output = "memory://bucket/s/"
    work(output, 3, 0)
    assert work(output, 1, 2, resume=True, finish=True) == [0, 3]
    work(tmp_path / "whole", 0, 1, 2, 3, finish=True)
    names = names_in(output)
    assert {name: memory.cat_file(f"/bucket/s/{name}") for name in names} == contents(tmp_path / "whole")
    with pytest.raises(OutputError, match="other inputs"):
        work(output, resume=True, names=NAMES[:1])
    memory.store.clear()


def test_a_reader_wants_a_whole_data_set(tmp_path: Path):
    with pytest.raises(RecordError, match="no finished data set"):
        list(read_predictions(tmp_path))


# The real command

Command = Callable[..., Any]
FAST = ("--faces", "none", "--runtime", "onnxruntime")


@pytest.fixture
def inputs(tmp_path: Path, grey: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven pictures of a folder, three of a tar, one of them damaged."""
    import tarfile

    monkeypatch.chdir(tmp_path)
    for number in range(7):
        grey(Path(f"f/{number}.png"), 51 * (number % 6))
    Path("f/3.png").write_bytes(b"<html>")
    with tarfile.open("s.tar", "w") as archive:
        for number in range(3):
            archive.add(f"f/{number}.png", f"{number}.png")
    return ["f", "s.tar"]


def test_a_data_set_holds_the_rows_of_one_file(command: Command, inputs: list[str], model: Path):
    options = [*inputs, "-m", model, *FAST]
    assert command("score", *options, "-o", "scores.csv").code == 0
    made = command(
        "score", *options, "-o", "s/", "--shard-size", 3, "--log", "l.jsonl", "--metrics", "m.prom"
    )
    assert (made.code, made.out) == (0, "")
    assert "10 rows: 9 ok, 1 not_an_image; model mean 1" in made.err
    assert list(read_predictions(Path("s"))) == list(read_predictions(Path("scores.csv")))
    assert len(list(Path("s").glob("part-*.parquet"))) == 4
    events = [json.loads(line) for line in Path("l.jsonl").read_text().splitlines()]
    assert [each["event"] for each in events] == ["start", *["shard"] * 4, "end"]
    assert {each["job"] for each in events} == {json.loads(Path("s/_job.json").read_text())["id"]}
    assert sorted(each["shard"] for each in events[1:-1]) == [0, 1, 2, 3]
    assert (events[-1]["done"], events[-1]["failed"], events[-1]["images"]) == (4, 0, 10)
    numbers = Path("m.prom").read_text()
    assert 'status="ok"} 9.0' in numbers
    assert 'state="left"} 0.0' in numbers

    again = command("score", *options, "-o", "s/", "--shard-size", 3)
    assert (again.code, "rows of this job already" in again.err) == (2, True)
    resumed = command("score", *options, "-o", "s/", "--shard-size", 3, "--resume", "--strict")
    assert (resumed.code, "10 rows: 9 ok, 1 not_an_image" in resumed.err) == (1, True)
    other = command("score", *options, "-o", "s/", "--shard-size", 4, "--resume")
    assert (other.code, "another job: shard_size differ" in other.err) == (2, True)


def test_attributes_and_the_spread_of_views_stand_in_a_data_set_too(command: Command, inputs, model: Path):
    options = [*inputs, "-m", model, *FAST, "--attributes", "--views", "flip"]
    assert command("score", *options, "-o", "scores.csv").code == 0
    assert command("score", *options, "-o", "s/").code == 0
    rows = list(read_predictions(Path("s")))
    assert rows == list(read_predictions(Path("scores.csv")))
    assert rows[0].noise == 100.0
    assert rows[0].spread == 0.0


BAD = [
    (["f", "-o", "s.csv", "--shard-size", "3"], "--shard-size needs -o FOLDER/", "a size for one file"),
    (["f", "--ray"], "--ray needs -o FOLDER/", "a cluster for rows on stdout"),
    (["f", "-o", "memory://b/s.csv"], "one file of scores is written here", "one file in a store"),
    (["s.tar", "s.tar", "-o", "s/"], "two shards are called s.tar", "two shards of one name"),
    (["f", "t.parquet", "-o", "s/"], "image column is missing", "a Parquet without the column"),
    (["f", "foo://b/x", "-o", "s/"], "no store is known by foo://", "an unknown scheme"),
    (["f", "memory://none/", "-o", "s/"], "no pictures and no archives", "an empty prefix"),
    (["f", "gone.txt", "-o", "s/"], "gone.txt cannot be read", "a list that is not there"),
    (["f", "-o", "f/"], "holds something else", "the folder of the pictures"),
    (["f", "-o", "foo://b/"], "no store is known by foo://", "an output in an unknown store"),
    (["f", "-o", "s/", "--log", "s.tar/l"], "s.tar/l cannot be written", "a log that cannot be"),
]


@pytest.mark.parametrize(("arguments", "message"), [case[:2] for case in BAD], ids=[case[2] for case in BAD])
def test_what_is_wrong_is_an_error_before_the_work(
    command: Command, inputs: list[str], model: Path, arguments: list[str], message: str
):
    import pyarrow

    pytest.importorskip("fsspec")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"label": [1]}), "t.parquet")
    refused = command("score", "-m", model, "--faces", "none", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err
    assert "Traceback" not in refused.err
    assert not list(Path("s").glob("part-*"))


def test_a_cut_tar_is_a_named_row_in_the_data_set_and_in_the_ledger(command: Command, inputs, model: Path):
    import tarfile

    with tarfile.open("s.tar") as archive:
        second = archive.getmembers()[1].offset_data
    Path("s.tar").write_bytes(Path("s.tar").read_bytes()[: second + 10])
    made = command("score", "s.tar", "-m", model, *FAST, "-o", "s/")
    assert (made.code, "1 rows that another day might have got: s/_failed.jsonl" in made.err) == (0, True)
    assert [(row.image, row.status) for row in read_predictions(Path("s"))] == [
        ("s.tar/0.png", "ok"),
        ("s.tar", "incomplete"),
    ]
    (failure,) = map(json.loads, Path("s/_failed.jsonl").read_text().splitlines())
    assert (failure["input"], failure["image"], failure["status"]) == ("s.tar", "s.tar", "incomplete")


def test_a_shard_that_fails_is_named_and_the_exit_code_says_so(
    command: Command, inputs: list[str], make_model: Callable[..., Path]
):
    model = make_model(Path("nan.onnx"), divisor=0.0)  # white is inf, black is NaN
    Path("gone.txt").write_text("gone.png\n")
    made = command("score", "gone.txt", "f/1.png", "-m", model, *FAST, "-o", "s/", "--shard-size", 1)
    assert made.code == 1
    assert "1 shards without rows" in made.err
    (failure,) = map(json.loads, Path("s/_failed.jsonl").read_text().splitlines())
    assert (failure["shard"], failure["input"]) == (1, "f/1.png")
    assert "gives inf" in failure["error"]
    assert [path.name for path in Path("s").glob("part-*")] == ["part-000000.parquet"]


def gone(pid: int) -> bool:
    """Whether a process has ended, though nobody may have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_killed_command_takes_its_workers_along_and_goes_on_to_the_same_bytes(
    efiqa: Command, inputs: list[str], model: Path
):
    Path("names.txt").write_text("".join(f"f/{number % 7}.png\n" for number in range(60)))
    options = ["score", "names.txt", "-m", str(model), *FAST, "--shard-size", "1", "--concurrency", "2"]
    assert efiqa(*options, "-o", "whole/").returncode == 0
    words = [*options, "-o", "s/", "--log", "l.jsonl"]
    command = [sys.executable, "-c", "from efiqa.cli import main; main()", *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(list(Path("s").glob("part-*"))) < 5:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 5 <= len(list(Path("s").glob("part-*"))) < 60
    lines = [line for line in Path("l.jsonl").read_text().splitlines() if line.endswith("}")]
    pids = {json.loads(line).get("pid") for line in lines} - {None}
    assert pids
    deadline = time.monotonic() + 60
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, "a worker outlives its command"
        time.sleep(0.05)
    assert efiqa(*options, "-o", "s/", "--resume").returncode == 0
    assert {path.name: path.read_bytes() for path in Path("s").glob("part-*")} == {
        path.name: path.read_bytes() for path in Path("whole").glob("part-*")
    }
    assert len(list(read_predictions(Path("s")))) == 60
