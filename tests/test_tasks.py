"""Inputs become tasks: in order, of one length, each with what says that it is the same another time."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from efiqa.errors import EmptyImage, RecordError
from efiqa.shards import Named, Shard, read_list
from efiqa.sources import entries
from efiqa.tasks import Tasks


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(*names: str) -> list[Named | Shard]:
    return [Named(name, name) for name in names]


def lists(tasks: Tasks) -> list[object]:
    """Names of each task's pictures, or its archive."""
    works = [tasks.work(task) for task in tasks]
    return [
        [each.name for each in read_list(work)] if isinstance(work, bytes) else work.name for work in works
    ]


def test_files_come_in_lists_of_one_length_and_archives_alone_in_the_order_given():
    tasks = Tasks([*named("a", "b", "c"), Shard("s.tar", "s.tar", "tar"), *named("d", "e")], 2)
    assert lists(tasks) == [["a", "b"], ["c"], "s.tar", ["d", "e"]]
    assert [task.name for task in tasks] == ["a … b", "c", "s.tar", "d … e"]
    assert [task.pictures for task in tasks] == [2, 1, None, 2]
    assert tasks.pictures is None
    assert Tasks(named("a", "b", "c"), 2).pictures == 3
    assert len(Tasks([], 2)) == 0


def test_a_list_keeps_paths_whatever_their_bytes_and_reasons():
    items = [
        Named("x\n.jpg", "x\n.jpg"),
        Named(r"\xff.jpg", "\udcff.jpg"),
        Named("f", "f", EmptyImage("no pictures")),
    ]
    tasks = Tasks(items, 9)
    (task,) = tasks
    work = tasks.work(task)
    assert isinstance(work, bytes)
    read = list(read_list(work))
    assert [(each.name, each.path) for each in read] == [(each.name, each.path) for each in items]
    assert (type(read[2].error), str(read[2].error)) == (EmptyImage, "no pictures")


def test_the_digest_is_of_names_order_and_the_size_of_an_archive():
    def digest(*items: Named | Shard, size: int = 2) -> str:
        return Tasks(items, size).digest

    assert digest(*named("a", "b")) == digest(*named("a", "b"))
    assert digest(*named("a", "b")) == digest(Named("a", "elsewhere/a"), Named("b", "b"))  # signed anew
    others = [named("b", "a"), named("a"), named("a", "b", "c"), named("ab")]
    assert len({digest(*each) for each in others} | {digest(*named("a", "b"))}) == 5
    assert digest(*named("a", "b"), size=1) != digest(*named("a", "b"))
    Path("s.tar").write_bytes(b"1")
    before = digest(*entries(["s.tar"]))
    Path("s.tar").write_bytes(b"22")
    assert digest(*entries(["s.tar"])) != before


def test_two_shards_with_one_name_are_an_error_and_pictures_named_twice_are_not():
    with pytest.raises(RecordError, match=r"two shards are called s\.tar") as caught:
        Tasks(entries(["s.tar", "a.jpg", "s.tar"]), 2)
    assert caught.value.hint
    with pytest.raises(RecordError, match=r"two shards are called s3://b/s\.tar"):
        Tasks([Shard("s3://b/s.tar", f"s3://{user}@b/s.tar", "tar") for user in ("x", "y")], 2)
    assert lists(Tasks(named("a", "a"), 1)) == [["a"], ["a"]]


def test_memory_does_not_grow_with_the_pictures():
    def peak(count: int) -> int:
        tracemalloc.start()
        tasks = Tasks((Named(f"folder/{number:09d}.jpg", "x") for number in range(count)), 500)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert tasks.pictures == count
        return most

    peak(1000)
    assert peak(20_000) < 1.5 * peak(2_000)
