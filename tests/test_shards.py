"""A shard is read as a stream: every picture once, under a stable name, and damage has a name too."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from efiqa.errors import ImageNotFound, ImageUnreadable, RecordError
from efiqa.scorer import Scorer
from efiqa.shards import Shard, members, picture_in_tar
from efiqa.sources import Named, entries, expand


def png(level: int, side: int = 16) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(file, "png")
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes] | list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


SAMPLES = {
    "000.jpg": png(0),
    "000.json": b"{}",
    "./sub/001.PNG": png(51),
    "002.webp": b"<html>",
    "003.png": b"",
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rows(scorer: Scorer) -> Callable[..., list[tuple[str, str, float | None]]]:
    def call(*inputs: str, column: str | None = None) -> list[tuple[str, str, float | None]]:
        found = scorer.score_many(expand(inputs, column=column), faces="none")
        return [(row.image, row.status, row.score) for row in found]

    return call


@pytest.mark.parametrize(
    ("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")]
)
def test_a_tar_gives_its_pictures_in_its_order_under_stable_names(rows, ending: str, mode: str):
    write_tar(Path(f"s{ending}"), SAMPLES, mode)
    assert rows(f"s{ending}") == [
        (f"s{ending}/000.jpg", "ok", 0.0),
        (f"s{ending}/sub/001.PNG", "ok", 0.2),
        (f"s{ending}/002.webp", "not_an_image", None),
        (f"s{ending}/003.png", "empty", None),
    ]


def test_a_zip_gives_its_pictures(rows):
    with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in SAMPLES.items():
            archive.writestr(name, data)
    assert [row[:2] for row in rows("a.zip")] == [
        ("a.zip/000.jpg", "ok"),
        ("a.zip/sub/001.PNG", "ok"),
        ("a.zip/002.webp", "not_an_image"),
        ("a.zip/003.png", "empty"),
    ]


def test_a_damaged_or_encrypted_member_of_a_zip_costs_that_row_only(rows):
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("0.png", png(0))
        archive.writestr("1.png", png(51))
        archive.writestr("2.png", png(255))
    data = bytearray(Path("a.zip").read_bytes())
    data[data.index(b"1.png") + 40] ^= 1  # in the member's bytes: its checksum is wrong now
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1  # flags of the first member: encrypted
    Path("a.zip").write_bytes(data)
    assert rows("a.zip") == [
        ("a.zip/0.png", "unreadable", None),
        ("a.zip/1.png", "corrupt", None),
        ("a.zip/2.png", "ok", 1.0),
    ]


def write_parquet(path: str, columns: dict[str, list[object]]) -> None:
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), path, row_group_size=2)


def test_a_parquet_of_hugging_face_gives_its_rows_by_number(rows):
    image = [
        {"bytes": png(0), "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        {"bytes": png(255), "path": None},
    ]
    write_parquet("p.parquet", {"label": [1, 2, 3], "image": image})
    assert rows("p.parquet") == [
        ("p.parquet/0", "ok", 0.0),
        ("p.parquet/1", "not_found", None),
        ("p.parquet/2", "ok", 1.0),
    ]


def test_a_column_of_bytes_is_found_by_its_type_or_asked_for(rows):
    write_parquet("one.parquet", {"id": ["x"], "photo": [png(51)]})
    assert rows("one.parquet") == [("one.parquet/0", "ok", 0.2)]
    write_parquet("two.parquet", {"photo": [png(51)], "mask": [png(255)]})
    assert rows("two.parquet", column="mask") == [("two.parquet/0", "ok", 1.0)]
    with pytest.raises(RecordError, match="several columns hold bytes: photo, mask") as caught:
        rows("two.parquet")
    assert "--column" in str(caught.value.hint)
    with pytest.raises(RecordError, match="no column 'face'"):
        rows("two.parquet", column="face")


def test_a_parquet_of_names_is_still_a_table_and_one_without_the_column_an_error(rows, grey):
    grey(Path("a.png"), 255)
    write_parquet("t.parquet", {"image": ["a.png"]})
    assert rows("t.parquet") == [("a.png", "ok", 1.0)]
    write_parquet("t.parquet", {"label": [3]})
    with pytest.raises(RecordError, match="image column is missing"):
        rows("t.parquet")


@pytest.mark.parametrize("cut", [10, 512 * 4 + 100, 512 * 5 + 7, 512 * 6])
def test_a_tar_cut_off_anywhere_keeps_what_is_whole_and_says_so(rows, cut: int):
    small = {f"{n}.bmp": png(51).ljust(600, b"\0") for n in range(3)}  # 3 blocks of 512 each, with the header
    data = write_tar(Path("s.tar"), small).read_bytes()
    Path("s.tar").write_bytes(data[:cut])
    *whole, last = rows("s.tar")
    assert [row[0] for row in whole] == [f"s.tar/{n}.bmp" for n in range(cut // (3 * 512))]
    assert last[:2] == ("s.tar", "incomplete")


def test_a_damaged_header_is_no_end(rows):
    data = bytearray(write_tar(Path("s.tar"), {f"{n}.png": png(51) for n in range(3)}).read_bytes())
    data[1024 + 150] ^= 1  # in the checksum of the second header
    Path("s.tar").write_bytes(data)
    assert [row[:2] for row in rows("s.tar")] == [("s.tar/0.png", "ok"), ("s.tar", "incomplete")]


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.zip"])
def test_what_is_no_archive_or_not_there_is_a_named_row(rows, name: str):
    assert [row[:2] for row in rows(name)] == [(name, "incomplete")]
    Path(name).write_bytes(b"<html>" * 200)
    assert [row[:2] for row in rows(name)] == [(name, "incomplete")]
    Path(name).write_bytes(b"")
    assert [row[:2] for row in rows(name)] == [(name, "incomplete")]


def test_an_archive_without_pictures_is_a_row(rows):
    write_tar(Path("s.tar"), {"a.json": b"{}"})
    assert [row[:2] for row in rows("s.tar")] == [("s.tar", "empty")]


def test_two_members_with_one_name_have_two_names(rows):
    write_tar(Path("s.tar"), [("a.png", png(0)), ("a.png", png(255))])
    assert rows("s.tar") == [("s.tar/a.png", "ok", 0.0), ("s.tar/a.png#2", "ok", 1.0)]


def test_links_and_giants_in_an_archive_are_rows_and_never_followed(rows, monkeypatch):
    with tarfile.open("s.tar", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("../giant.png")
        info.size = 4000
        archive.addfile(info, io.BytesIO(bytes(4000)))
    monkeypatch.setattr("efiqa.shards.MAX_BYTES", 3999)
    assert [row[:2] for row in rows("s.tar")] == [
        ("s.tar/link.png", "not_a_file"),
        ("s.tar/../giant.png", "too_large"),
    ]
    assert not Path("../giant.png").exists()


def test_a_folder_gives_archives_too_and_braces_count():
    Path("f").mkdir()
    for number in range(3):
        write_tar(Path(f"f/{number:02d}.tar"), {"a.png": png(0)})
    Path("f/scores.parquet").write_bytes(b"")
    found = [Shard(f"f/{number:02d}.tar", f"f/{number:02d}.tar", "tar") for number in range(3)]
    assert list(entries(["f"])) == found
    assert list(entries(["f/{00..02}.tar"])) == found
    Path("{1..2}.png").write_bytes(png(0))
    assert list(entries(["{1..2}.png"])) == [Named("{1..2}.png", "{1..2}.png")]


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_memory_does_not_grow_with_a_shard(kind: str):
    count, data = 400, png(7) + bytes(100_000)
    files = ((f"{number}.png", data) for number in range(count))
    path = Path(f"s.{kind}")
    if kind == "tar":
        write_tar(path, list(files))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files:
                archive.writestr(name, content)
    else:
        write_parquet(str(path), {"image": [data] * count})

    def peak(items: Iterator[Named]) -> tuple[int, int]:
        tracemalloc.start()
        number = sum(1 for item in items if item.read and len(item.read()) == len(data))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return number, most

    number, most = peak(members(Shard("s", str(path), kind)))
    assert number == count
    assert most < 0.2 * count * len(data)


def test_a_picture_in_a_tar_is_had_by_its_name_as_often_and_in_any_order(rows):
    files = [("a.png", png(0)), ("./sub/b.png", png(51)), ("a.png", png(255)), ("c.json", b"{}")]
    write_tar(Path("s.tar"), files)
    for _ in range(2):
        assert picture_in_tar("s.tar/a.png#2") == png(255)
        assert picture_in_tar("s.tar/sub/b.png") == png(51)
        assert picture_in_tar("s.tar/a.png") == png(0)
    for name in ("s.tar/c.json", "s.tar/none.png", "t.tar/a.png", "a.png"):
        with pytest.raises(ImageNotFound):
            picture_in_tar(name)
    Path("t.csv").write_text("image\ns.tar/sub/b.png\ns.tar/gone.png\n")
    assert rows("t.csv") == [("s.tar/sub/b.png", "ok", 0.2), ("s.tar/gone.png", "not_found", None)]


def test_a_tar_that_was_written_anew_is_read_anew_and_a_cut_one_gives_what_is_whole():
    write_tar(Path("s.tar"), {"a.png": png(0), "b.png": png(51)})
    assert picture_in_tar("s.tar/b.png") == png(51)
    write_tar(Path("s.tar"), {"b.png": png(255), "c.png": png(7), "d.png": png(9)})
    assert picture_in_tar("s.tar/b.png") == png(255)
    data = Path("s.tar").read_bytes()
    Path("s.tar").write_bytes(data[: 3 * 512 + 10])  # in the header, or the bytes, of the second picture
    assert picture_in_tar("s.tar/b.png") == png(255)
    with pytest.raises((ImageNotFound, ImageUnreadable)):
        picture_in_tar("s.tar/d.png")
