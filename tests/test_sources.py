"""What the user names becomes the pictures meant: in order, each once, none lost silently."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from efiqa.errors import RecordError
from efiqa.records import Prediction, Row, write_predictions
from efiqa.sources import SUFFIXES, Named, expand, load_row
from efiqa.tables import FORMATS

Grey = Callable[..., Path]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(*inputs: str, stdin: bytes | None = None) -> list[str]:
    return [item.name for item in expand(inputs, None if stdin is None else io.BytesIO(stdin))]


def statuses(*inputs: str) -> list[tuple[str, str]]:
    return [(item.name, item.error.status if item.error else "") for item in expand(inputs)]


def test_inputs_keep_their_order_and_repetitions():
    touch("folder/z.jpg", "folder/a.jpg", "b.jpg")
    assert names("b.jpg", "folder", "gone.jpg", "b.jpg") == [
        "b.jpg",
        "folder/a.jpg",
        "folder/z.jpg",
        "gone.jpg",
        "b.jpg",
    ]


def test_a_folder_gives_pictures_below_sorted_by_name_with_any_case_of_ending():
    touch(
        "f/b.JPG", "f/a/2.png", "f/a/10.PNG", "f/c.WebP", "f/notes.txt", "f/table.csv", "f/noending", "f/.jpg"
    )
    assert names("f") == ["f/a/10.PNG", "f/a/2.png", "f/b.JPG", "f/c.WebP"]


@pytest.mark.parametrize("ending", sorted(SUFFIXES))
def test_every_known_ending_is_found(ending: str):
    touch(f"f/a{ending}")
    assert names("f") == [f"f/a{ending}"]


def test_a_file_named_outright_is_a_picture_whatever_its_ending():
    touch("photo", "photo.bin")
    assert names("photo", "photo.bin", "gone.dat") == ["photo", "photo.bin", "gone.dat"]


def test_a_folder_is_a_folder_whatever_its_name():
    touch("f.csv/a.jpg", "g.jpg/b.jpg", "h.txt/c.jpg")
    assert names("f.csv", "g.jpg", "h.txt") == ["f.csv/a.jpg", "g.jpg/b.jpg", "h.txt/c.jpg"]


def test_links_to_files_and_folders_are_followed():
    touch("real/a.jpg", "f/z.jpg")
    Path("f/linked.jpg").symlink_to(Path("real/a.jpg").resolve())
    Path("f/more").symlink_to(Path("real").resolve())
    Path("f/dangling.jpg").symlink_to("nowhere")
    assert names("f") == ["f/dangling.jpg", "f/linked.jpg", "f/more/a.jpg", "f/z.jpg"]


def test_a_link_back_up_is_one_row_and_the_walk_ends():
    touch("f/a.jpg", "f/sub/b.jpg")
    Path("f/sub/up").symlink_to(Path("f").resolve())
    assert statuses("f") == [("f/a.jpg", ""), ("f/sub/b.jpg", ""), ("f/sub/up", "not_a_file")]


def test_a_link_to_itself_ends_nothing():
    touch("f/z.jpg")
    Path("f/loop").symlink_to("loop")
    Path("f/loop.jpg").symlink_to("loop.jpg")
    assert statuses("f") == [("f/loop.jpg", ""), ("f/z.jpg", "")]


def test_a_subfolder_that_cannot_be_read_is_one_row(monkeypatch: pytest.MonkeyPatch):
    touch("f/a.jpg", "f/closed/b.jpg", "f/z.jpg")
    scandir = os.scandir

    def refuse(folder: str):
        if folder.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)  # the superuser may read everything
    assert statuses("f") == [("f/a.jpg", ""), ("f/closed", "unreadable"), ("f/z.jpg", "")]


EMPTY = [
    ("folder", None, "a folder with no pictures"),
    ("list.txt", b"", "an empty list"),
    ("blank.txt", b"\r\n  \n\n", "a list of blank lines"),
    ("table.csv", b"image\n", "a table of a header"),
    ("nothing.csv", b"", "an empty table"),
    ("table.jsonl", b"", "a table of no lines"),
]


@pytest.mark.parametrize(("name", "content"), [case[:2] for case in EMPTY], ids=[case[2] for case in EMPTY])
def test_an_empty_input_is_one_item_that_says_so(name: str, content: bytes | None):
    if content is None:
        Path(name).mkdir()
    else:
        Path(name).write_bytes(content)
    assert statuses(name) == [(name, "empty")]


def test_an_empty_standard_input_is_one_item_that_says_so():
    (item,) = expand(["-"], io.BytesIO(b"\n"))
    assert item.error
    assert item.error.status == "empty"


def test_a_list_has_one_path_a_line_with_any_line_end_and_blank_lines():
    Path("lists").mkdir()
    Path("lists/list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\r\nsub/b c.jpg\n  \n d.jpg\nlast.jpg")
    assert names("lists/list.txt") == ["a.jpg", "sub/b c.jpg", " d.jpg", "last.jpg"]


def test_standard_input_is_a_list_in_its_place():
    assert names("x.jpg", "-", "y.jpg", stdin=b"a.jpg\nb\xff.jpg\r\n") == [
        "x.jpg",
        "a.jpg",
        r"b\xff.jpg",
        "y.jpg",
    ]


def test_standard_input_is_read_only_as_far_as_asked():
    stream = io.BytesIO(b"a.jpg\nb.jpg\nc.jpg\n")
    assert next(expand(["-"], stream)).name == "a.jpg"
    assert stream.read() == b"b.jpg\nc.jpg\n"


def test_without_a_standard_input_a_dash_is_an_error():
    with pytest.raises(RecordError, match="no standard input"):
        list(expand(["-"]))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_table_names_pictures_relative_to_itself(ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    rows = [Prediction("a, b.jpg"), Prediction("../c.jpg"), Prediction("/d/e.jpg"), Prediction("a, b.jpg")]
    write_predictions(Path(f"tables/t{ending}"), rows)
    assert names(f"tables/t{ending}") == ["tables/a, b.jpg", "c.jpg", "/d/e.jpg", "tables/a, b.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.txt", None, "gone.txt cannot be read"),
        ("gone.csv", None, "gone.csv cannot be read"),
        ("t.csv", "path\na.jpg\n", "row 1: the image column"),
        ("t.jsonl", "3\n", "line 1: .*object"),
    ],
)
def test_a_list_or_table_that_cannot_be_read_is_an_error(name: str, content: str | None, message: str):
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(RecordError, match=message):
        list(expand([name]))


AWKWARD = [b"line\nbreak.jpg", b"latin-\xff.jpg", "emoji-😀.jpg".encode(), b" .jpg", b'a,b".jpg', b"-.jpg"]


def test_awkward_names_are_printable_and_their_paths_open(grey: Grey):
    Path("f").mkdir()
    original = grey(Path("plain.png"), 7).read_bytes()
    for name in AWKWARD:
        Path(os.fsdecode(b"f/" + name)).write_bytes(original)
    found = list(expand(["f"]))
    assert [os.fsencode(item.path) for item in found] == sorted(b"f/" + name for name in AWKWARD)
    for item in found:
        assert item.name.encode()
        assert Path(item.path).read_bytes() == original
    assert {item.name for item in found} >= {"f/line\nbreak.jpg", r"f/latin-\xff.jpg", "f/emoji-😀.jpg"}


def test_nothing_is_opened_or_walked_before_it_is_asked_for():
    touch("a.jpg")
    items = expand(["a.jpg", "gone.txt"])
    assert next(items) == Named("a.jpg", "a.jpg")
    with pytest.raises(RecordError):
        next(items)


def test_a_row_loads_as_its_square(grey: Grey):
    path = grey(Path("a.png"), 9, size=(40, 20))
    assert load_row(Row(str(path))).shape == (20, 40, 3)
    part = load_row(Row(str(path), x=30, y=5, width=10, height=10))
    assert part.shape == (10, 10, 3)
    assert np.all(part == 9)


def test_a_row_whose_square_lies_outside_is_an_error(grey: Grey):
    path = grey(Path("a.png"))
    with pytest.raises(RecordError, match=r"a.png.*inside 32 × 32") as caught:
        load_row(Row(str(path), x=30, y=5, width=10, height=10))
    assert caught.value.hint
