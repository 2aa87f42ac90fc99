"""A job that is killed and resumed ends with exactly the rows of an undisturbed one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from efiqa import journal
from efiqa.errors import OutputError, RecordError
from efiqa.journal import run_job
from efiqa.records import Prediction, read_predictions
from efiqa.scorer import Scorer
from efiqa.sources import Named

Grey = Callable[..., Path]
JOB = {"model": "mean@1", "faces": "none"}
NAMES = [f"{index}.jpg" for index in range(10)]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def named(names: Iterable[str]) -> list[Named]:
    return [Named(name, name) for name in names]


def score(items: Iterable[Named]) -> Iterator[list[Prediction]]:
    """Two faces in every third picture; the score is in the name."""
    for item in items:
        number = int(item.name.split(".")[0])
        yield [Prediction(item.name, face, score=number / 10) for face in range(1 + (number % 3 == 0))]


def stopping_after(count: int) -> Callable[[Iterable[Named]], Iterator[list[Prediction]]]:
    def score_some(items: Iterable[Named]) -> Iterator[list[Prediction]]:
        for index, rows in enumerate(score(items)):
            if index == count:
                raise KeyboardInterrupt
            yield rows

    return score_some


def run(output: Path, names: Iterable[str] = NAMES, **options: Any) -> int:
    values = {"job": JOB, **options}
    return run_job(named(names), values.pop("score", score), output, **values)


def stop(output: Path, count: int, names: Iterable[str] = NAMES) -> Path:
    """A job over `names` that is interrupted after `count` pictures; returns its journal."""
    with pytest.raises(KeyboardInterrupt):
        run(output, names, score=stopping_after(count))
    return output.with_name(f".{output.name}.journal")


def rows_of(names: Iterable[str] = NAMES) -> list[Prediction]:
    return [row for rows in score(named(names)) for row in rows]


def test_a_slow_disk_stops_the_reading_and_nothing_piles_up(
    tmp_path: Path, model: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch
):
    scorer = Scorer(model, workers=2)
    path, asked, written = str(grey(tmp_path / "a.png")), 0, 0

    def inputs() -> Iterator[Named]:
        nonlocal asked
        for _ in range(40):
            asked += 1
            yield Named(path, path)

    def slow(row: Prediction) -> dict[str, Any]:  # is called for each row that is to be written
        nonlocal written
        written += 1
        time.sleep(0.01)
        assert asked <= written + 4 * scorer.workers
        return compact(row)

    compact = journal._compact
    monkeypatch.setattr(journal, "_compact", slow)
    run_job(inputs(), lambda items: scorer.predict_many(items, faces="none"), tmp_path / "o.csv", job=JOB)
    assert (asked, written) == (40, 40)


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
@pytest.mark.parametrize("count", [0, 1, 5, 9])
def test_a_resumed_job_ends_as_an_undisturbed_one(tmp_path: Path, name: str, count: int):
    assert run(tmp_path / "whole" / name) == 14
    output = tmp_path / name
    stop(output, count)
    assert not output.exists()
    assert run(output, resume=True) == 14
    assert output.read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert list(read_predictions(output)) == rows_of()
    assert left_in(tmp_path / "whole") == [name]
    assert left_in(tmp_path) == [name, "whole"]


def test_a_resumed_job_scores_only_what_is_left_and_reports_all(tmp_path: Path):
    stop(tmp_path / "p.csv", 4)
    scored: list[str] = []
    done: list[str] = []

    def watched(items: Iterable[Named]) -> Iterator[list[Prediction]]:
        for rows in score(items):
            scored.append(rows[0].image)
            yield rows

    run(tmp_path / "p.csv", score=watched, resume=True, done=lambda rows: done.append(rows[0].image))
    assert scored == NAMES[4:]
    assert done == NAMES


@pytest.mark.parametrize("torn", [b"[", b'[{"image": "5.jpg", "sco', b'[{"image": "5.jpg"}]', b"\xf0\x9f"])
def test_a_torn_last_line_is_scored_again(tmp_path: Path, torn: bytes):
    journal = stop(tmp_path / "p.csv", 5)
    journal.write_bytes(journal.read_bytes() + torn)
    run(tmp_path / "p.csv", resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


def test_a_job_can_be_cut_anywhere(tmp_path: Path):
    journal = stop(tmp_path / "p.csv", 5)
    whole = journal.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole) + 1, 11):
        journal.write_bytes(whole[:length])
        run(tmp_path / "p.csv", resume=True)
        assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


def test_a_job_may_be_stopped_again_and_again(tmp_path: Path):
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "p.csv", score=stopping_after(2), resume=True)
    run(tmp_path / "p.csv", resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


def test_resume_without_a_journal_is_a_new_job(tmp_path: Path):
    assert run(tmp_path / "p.csv", resume=True) == 14


def test_without_resume_an_old_journal_is_dropped(tmp_path: Path):
    stop(tmp_path / "p.csv", 5, [f"{number}.jpg" for number in range(100, 110)])
    run(tmp_path / "p.csv")
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


def test_an_old_output_stands_until_the_new_one_is_whole(tmp_path: Path):
    (tmp_path / "p.csv").write_text("old")
    stop(tmp_path / "p.csv", 5)
    assert (tmp_path / "p.csv").read_text() == "old"
    run(tmp_path / "p.csv", resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


def test_a_picture_named_twice_has_its_rows_twice(tmp_path: Path):
    names = ["3.jpg", "1.jpg", "3.jpg", "3.jpg"]
    stop(tmp_path / "p.csv", 2, names)
    run(tmp_path / "p.csv", names, resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of(names)


@pytest.mark.parametrize(
    ("job", "changed"),
    [({**JOB, "model": "mean@2"}, "model"), ({**JOB, "faces": "all"}, "faces"), ({}, "faces, model")],
)
def test_a_journal_of_another_job_is_refused_and_kept(tmp_path: Path, job: dict[str, str], changed: str):
    journal = stop(tmp_path / "p.csv", 5)
    before = journal.read_bytes()
    with pytest.raises(OutputError, match=f"of another job: {changed} differ") as caught:
        run(tmp_path / "p.csv", job=job, resume=True)
    assert "--resume" in str(caught.value.hint)
    assert journal.read_bytes() == before


OTHER_INPUTS = [
    (NAMES[::-1], "another order"),
    (["7.jpg", *NAMES], "one more in front"),
    (NAMES[:3], "fewer than are done"),
    ([], "none"),
]


@pytest.mark.parametrize("names", [case[0] for case in OTHER_INPUTS], ids=[case[1] for case in OTHER_INPUTS])
def test_a_journal_of_other_inputs_is_refused_and_kept(tmp_path: Path, names: list[str]):
    journal = stop(tmp_path / "p.csv", 5)
    before = journal.read_bytes()
    with pytest.raises(OutputError, match="of other inputs"):
        run(tmp_path / "p.csv", names, resume=True)
    assert journal.read_bytes() == before
    assert not (tmp_path / "p.csv").exists()


def test_inputs_may_have_grown_behind_what_is_done(tmp_path: Path):
    stop(tmp_path / "p.csv", 5)
    more = [*NAMES, "11.jpg", "12.jpg"]
    run(tmp_path / "p.csv", more, resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of(more)


@pytest.mark.parametrize("content", [b"notes\n", b"[]\n", b"{}\n", b'"x"\n', b'{"job": 3}\n', b"\xff\n"])
def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / ".p.csv.journal").write_bytes(content)
    with pytest.raises(OutputError, match=r"\.journal is no journal") as caught:
        run(tmp_path / "p.csv", resume=True)
    assert caught.value.hint


@pytest.mark.parametrize("damage", [b"?\n", b"\xff\n", b"[{}]\n", b"[3]\n"])
def test_a_damaged_line_of_a_journal_is_named(tmp_path: Path, damage: bytes):
    journal = stop(tmp_path / "p.csv", 5)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
    with pytest.raises(RecordError, match="line 3: not a row"):
        run(tmp_path / "p.csv", resume=True)


def never(items: Iterable[Named]) -> Iterator[list[Prediction]]:
    raise AssertionError("work began")


@pytest.mark.parametrize("name", ["file.txt/p.csv", "scores.xlsx", "folder.csv"])
def test_an_output_that_cannot_be_written_is_refused_before_work(tmp_path: Path, name: str):
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises((OutputError, RecordError)):
        run(tmp_path / name, score=never)
    assert left_in(tmp_path) == ["file.txt", "folder.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_full_at_the_end_keeps_the_journal_and_no_output(tmp_path: Path):
    def fill(items: Iterable[Named]) -> Iterator[list[Prediction]]:
        yield from score(items)
        (tmp_path / f".p.csv.{os.getpid()}.partial").symlink_to("/dev/full")

    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)) as caught:
        run(tmp_path / "p.csv", score=fill)
    assert "--resume" in str(caught.value.hint)
    assert left_in(tmp_path) == [".p.csv.journal"]
    run(tmp_path / "p.csv", score=lambda items: score(list(items)), resume=True)
    assert list(read_predictions(tmp_path / "p.csv")) == rows_of()


# The real command


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 pictures of 16 kinds, some broken, some in a subfolder."""
    import numpy as np
    import PIL.Image

    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    kinds = []
    for seed in range(16):
        array = np.random.default_rng(seed).integers(0, 16 * (seed + 1), (300, 300, 3), np.uint8)
        PIL.Image.fromarray(array).save(folder / "kind.jpg", quality=90)
        kinds.append((folder / "kind.jpg").read_bytes())
    (folder / "kind.jpg").unlink()
    kinds[3] = kinds[3][:5000]
    kinds[5] = b"<html>"
    for number in range(400):
        name = f"sub/{number:03}.jpg" if number % 5 == 0 else f"{number:03}.jpg"
        (folder / name).write_bytes(kinds[number * 7 % 16])
    return folder


def test_a_killed_command_resumes_to_the_same_bytes(
    tmp_path: Path, model: Path, other_model: Path, photos: Path, efiqa
):
    options = ["--model", model, "--faces", "none", "--quiet", "--workers", 2]
    assert efiqa("score", photos, "-o", tmp_path / "whole.csv", *options).returncode == 0

    output, journal = tmp_path / "killed.csv", tmp_path / ".killed.csv.journal"
    command = [sys.executable, "-c", "from efiqa.cli import main; main()", "score", photos, "-o", output]
    with subprocess.Popen([str(word) for word in [*command, *options]]) as process:
        while process.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") > 30):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not output.exists()
    assert 30 < journal.read_bytes().count(b"\n") < 400

    refused = efiqa("score", photos, "-o", output, "--resume", *options[:2], "--faces", "all")
    assert refused.returncode == 2
    assert b"another job: faces" in refused.stderr
    refused = efiqa("score", photos, "-o", output, "--resume", "--faces", "none", "--model", other_model)
    assert b"another job: model" in refused.stderr

    assert efiqa("score", photos, "-o", output, "--resume", *options).returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert output.read_bytes().count(b"\n") == 401
    assert left_in(tmp_path) == ["killed.csv", "whole.csv"]


def test_a_disk_that_fills_midway_is_an_error_that_can_be_resumed(
    tmp_path: Path, model: Path, photos: Path, efiqa
):
    pytest.importorskip("resource")
    options = ["score", photos, "-o", tmp_path / "p.csv", "--model", model, "--faces", "none", "--quiet"]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))"
    full = efiqa(*options, before=limit)
    assert full.returncode == 2
    assert b"cannot be written" in full.stderr
    assert b"hint:" in full.stderr
    assert b"Traceback" not in full.stderr
    assert left_in(tmp_path) == [".p.csv.journal"]
    rows = (tmp_path / ".p.csv.journal").read_bytes().split(b"\n")[1:-1]
    assert len([json.loads(line) for line in rows]) < 400
    assert efiqa(*options, "--resume").returncode == 0
    assert len(list(read_predictions(tmp_path / "p.csv"))) == 400


def test_a_second_job_for_the_same_output_is_refused_and_harms_nothing(tmp_path: Path):
    pytest.importorskip("fcntl")
    output = tmp_path / "p.csv"

    def score_beside_another(items: Iterable[Named]) -> Iterator[list[Prediction]]:
        for rows in score(items):
            with pytest.raises(OutputError, match=r"another job is writing .*p\.csv") as refused:
                run(output)
            assert refused.value.hint == "wait for it, or name another output"
            yield rows

    assert run(output, score=score_beside_another) == 14
    assert list(read_predictions(output)) == rows_of()


@pytest.mark.parametrize("torn", ["", '{"job": {"mod'])
def test_a_journal_whose_first_line_is_torn_is_begun_anew(tmp_path: Path, torn: str):
    (tmp_path / ".p.csv.journal").write_text(torn)
    assert run(tmp_path / "p.csv", resume=True) == 14
