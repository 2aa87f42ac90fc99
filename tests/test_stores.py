"""Addresses: what a store says is told in its words, once, without secrets; what fails is tried again."""

from __future__ import annotations

import functools
import http.server
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from efiqa import stores
from efiqa.errors import EfiqaError, RecordError
from efiqa.sources import expand

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stores, "PAUSE", 0.0)
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    return fs


def names(*inputs: str) -> list[str]:
    return [item.name for item in expand(inputs)]


def test_a_prefix_gives_its_pictures_sorted_and_they_are_read_when_asked_for(memory):
    for name in ("p/b.jpg", "p/sub/a.png", "p/notes.md", "q/c.jpg"):
        memory.pipe_file(f"/{name}", name.encode())
    items = list(expand(["memory://p"]))
    assert [item.name for item in items] == ["memory:///p/b.jpg", "memory:///p/sub/a.png"]
    assert [item.read() for item in items if item.read] == [b"p/b.jpg", b"p/sub/a.png"]
    assert names("memory://*/c.jpg") == ["memory:///q/c.jpg"]


def test_a_list_in_a_store_and_addresses_in_lists(memory, tmp_path: Path):
    memory.pipe_file("/l.txt", b"memory://a.jpg\n/local/b.jpg\n")
    assert names("memory://l.txt") == ["memory://a.jpg", "/local/b.jpg"]
    (tmp_path / "m.csv").write_text("image\nmemory://a.jpg\nb.jpg\n")
    assert names(str(tmp_path / "m.csv")) == ["memory://a.jpg", str(tmp_path / "b.jpg")]


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("foo://bucket/a.jpg", "no store is known by foo://", "s3, gs, az"),
        ("memory://empty/", "no pictures and no archives", r"\*"),
        ("memory://empty/*.tar", "no pictures and no archives", r"\*"),
        ("memory://t.csv", "read from files only", "copy"),
    ],
)
def test_a_bad_address_is_an_error_before_work(memory, address: str, message: str, hint: str):
    with pytest.raises(RecordError, match=message) as caught:
        list(expand([address]))
    assert re.search(hint, str(caught.value.hint))


@pytest.mark.parametrize("address", ["memory://gone.tar", "memory://gone.zip", "memory://gone.parquet"])
def test_a_named_archive_that_is_not_there_is_an_error_before_work(memory, address: str):
    with pytest.raises(EfiqaError, match="nothing at memory"):
        list(expand([address]))


def test_a_missing_driver_is_an_error_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(RecordError, match="gs:// needs the package 'gcsfs'") as caught:
        list(expand(["gs://bucket/a.jpg"]))
    assert caught.value.hint == "pip install gcsfs"


def failing(memory: Any, monkeypatch: pytest.MonkeyPatch, *errors: BaseException | bytes) -> list[int]:
    """The next reads of memory:// raise or give this; returns what counts them."""
    calls, real = [0], type(memory).cat_file

    def cat_file(self: Any, path: str, **options: object) -> bytes:
        calls[0] += 1
        if calls[0] <= len(errors):
            given = errors[calls[0] - 1]
            if isinstance(given, BaseException):
                raise given
            return given
        return bytes(real(self, path, **options))

    monkeypatch.setattr(type(memory), "cat_file", cat_file)
    return calls


def only(memory: Any, monkeypatch: pytest.MonkeyPatch, scorer: Any, *errors: BaseException | bytes) -> Any:
    memory.pipe_file("/a.png", b"<html>")
    calls = failing(memory, monkeypatch, *errors)
    (row,) = scorer.score_many(expand(["memory://a.png"]), faces="none")
    return row, calls[0]


def test_what_passes_is_tried_again_and_half_an_object_is_no_object(memory, monkeypatch, scorer):
    row, calls = only(memory, monkeypatch, scorer, TimeoutError("slow"), OSError(503, "SlowDown"), b"<ht")
    assert (row.status, calls) == ("not_an_image", 4)


def test_tries_are_bounded_and_the_last_word_is_the_stores(memory, monkeypatch, scorer):
    row, calls = only(memory, monkeypatch, scorer, *[OSError(f"SlowDown {number}") for number in range(99)])
    assert (row.status, calls) == ("unreadable", stores.TRIES)
    assert f"SlowDown {stores.TRIES - 1} ({stores.TRIES} tries)" in row.message


def test_what_is_final_is_not_tried_again(memory, monkeypatch, scorer):
    row, calls = only(memory, monkeypatch, scorer, *[PermissionError("AccessDenied")] * 9)
    assert (row.status, calls, row.message) == ("unreadable", 1, "memory://a.png: AccessDenied")
    (row,) = scorer.score_many(expand(["memory://gone.png"]), faces="none")
    assert row.status == "not_found"


def test_pauses_are_drawn_and_grow(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr(stores.time, "sleep", slept.append)
    for _ in range(200):
        with pytest.raises(stores.StoreError):
            stores.persistently(lambda: 1 / 0, "s3://x/y")  # type: ignore[arg-type, return-value]
    for number in range(stores.TRIES - 1):
        pauses = slept[number :: stores.TRIES - 1]
        limit = stores.PAUSE * 2 ** (number + 1)
        assert 0.3 * limit < sum(pauses) / len(pauses) < 0.7 * limit
        assert max(pauses) <= limit


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://user:pass@host/a.jpg", "s3://host/a.jpg"),
        ("https://h/a.jpg?X-Amz-Signature=abc&x=1", "https://h/a.jpg"),
        ("https://h/a.jpg?sv=1&sig=abc", "https://h/a.jpg"),
        ("https://h/a.jpg?id=7", "https://h/a.jpg?id=7"),
        ("photos/a?sig=1.jpg", "photos/a?sig=1.jpg"),
    ],
)
def test_secrets_of_an_address_are_not_shown(address: str, shown: str):
    assert stores.public(address) == shown
    with pytest.raises(stores.StoreError) as caught:
        stores.persistently(functools.partial(_refuse, f"403 for {address}"), address)
    if stores.is_address(address):
        assert "abc" not in str(caught.value)
        assert "pass@" not in str(caught.value)


def _refuse(message: str) -> None:
    raise PermissionError(message)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Silent, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_picture_on_a_web_server_is_a_row_without_its_signature(
    site: str, tmp_path: Path, grey: Callable[..., Path], scorer: Any, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(stores, "PAUSE", 0.0)
    grey(tmp_path / "a.png", 51)
    inputs = [f"{site}/a.png?sig=abc", f"{site}/gone.png"]
    rows = [(row.image, row.status, row.score) for row in scorer.score_many(expand(inputs), faces="none")]
    assert rows == [(f"{site}/a.png", "ok", 0.2), (f"{site}/gone.png", "not_found", None)]
