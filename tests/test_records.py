"""Manifests and predictions survive their files, and a file that breaks its format is named."""

from __future__ import annotations

import errno
import json
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efiqa.errors import EfiqaError, MissingExtra, OutputError, RecordError
from efiqa.names import Files, printable
from efiqa.records import (
    COLUMNS,
    Prediction,
    Row,
    prediction_line,
    read_manifest,
    read_manifests,
    read_predictions,
    write_manifest,
    write_predictions,
)
from efiqa.tables import FORMATS, read_table
from efiqa.writing import atomic, check_place, check_writable

AWKWARD_NAMES = [
    "plain.jpg",
    "a, b.jpg",
    'say "cheese".jpg',
    "line\nbreak.jpg",
    "carriage\rreturn.jpg",
    "both\r\n.jpg",
    "😀 – żółć.jpg",
    printable(os.fsdecode(b"latin-\xff.jpg")),
    " spaces ",
    "=1+1",
    "#0",
    "a\u2028b.jpg",
    "\\",
]
ROWS = [
    Prediction("a.jpg", 0, "ok", 0.12345, 12.3, 1.5, 2.0, 30.1, 40.0, 0.9876, ""),
    Prediction("a.jpg", 1, "ok", 1e-05, 0.0, -3.0, 0.0, 8.0, 8.0, 1.0, "small face, 8 px"),
    Prediction("whole.jpg", 0, "ok", -0.01, spread=0.02),
    Prediction("none.jpg", status="no_face", message="no face was found"),
    *(Prediction(name, status="corrupt", message=f"{name!r} is\n'bad', so") for name in AWKWARD_NAMES),
]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(rows: list[Prediction]) -> Iterator[Prediction]:
    yield from rows
    raise RuntimeError("the model fell over")


def test_the_columns_are_fixed():
    expected = "image, face, status, score, quality, x, y, width, height, detection, message"
    assert ", ".join(COLUMNS) == expected


def test_a_csv_has_the_columns_and_empty_cells_for_none(tmp_path: Path):
    write_predictions(tmp_path / "p.csv", ROWS[2:4], more=["spread"])
    assert (tmp_path / "p.csv").read_text() == (
        "image,face,status,score,quality,x,y,width,height,detection,message,spread\n"
        "whole.jpg,0,ok,-0.01,,,,,,,,0.02\n"
        "none.jpg,0,no_face,,,,,,,,no face was found,\n"
    )


def test_a_json_line_has_every_column_in_order():
    assert tuple(json.loads(prediction_line(ROWS[2]))) == COLUMNS
    assert tuple(json.loads(prediction_line(ROWS[2], more=["low"]))) == (*COLUMNS, "low")


@pytest.mark.parametrize("ending", [*FORMATS, ".CSV"])
def test_predictions_come_back_equal(tmp_path: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"p{ending}"
    assert write_predictions(path, iter(ROWS), more=["spread"]) == len(ROWS)
    assert list(read_predictions(path)) == ROWS
    assert left_in(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
def test_no_predictions_are_a_valid_file(tmp_path: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    assert write_predictions(tmp_path / f"p{ending}", []) == 0
    assert list(read_predictions(tmp_path / f"p{ending}")) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.builds(Prediction, TEXT.filter(bool), st.integers(0, 10**6), TEXT.filter(bool),
                          NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, TEXT, NUMBER)))  # fmt: skip
def test_any_text_and_number_survives_csv_and_jsonl(tmp_path: Path, rows: list[Prediction]):
    for ending in (".csv", ".jsonl"):
        write_predictions(tmp_path / f"p{ending}", rows, more=["spread"])
        assert list(read_predictions(tmp_path / f"p{ending}")) == rows


def test_parquet_has_the_same_columns_with_types(tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_predictions(tmp_path / "p.parquet", ROWS)
    schema = parquet.read_schema(tmp_path / "p.parquet")
    assert tuple(schema.names) == COLUMNS
    assert [str(schema.field(name).type) for name in ("image", "face", "score")] == [
        "string",
        "int32",
        "double",
    ]


def test_a_manifest_comes_back_equal_with_paths_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    rows = [
        Row("pictures/a.jpg", 0.5, "train", "human", "anna"),
        Row("elsewhere/b, c.jpg", None, "test", "", "", 1, 2, 30, 30),
        Row("pictures/line\nbreak.jpg", 1.2, "validation", "teacher@1", "ben", weight=0.25),
    ]
    assert write_manifest(Path("pictures/manifest.csv"), rows) == 3
    assert [cells["image"] for cells in read_table(Path("pictures/manifest.csv"))] == [
        "a.jpg",
        "../elsewhere/b, c.jpg",
        "line\nbreak.jpg",
    ]
    assert read_manifest(Path("pictures/manifest.csv")) == rows


def test_a_manifest_may_have_only_images_and_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbfimage,extra\r\na.jpg,1\r\n")
    assert read_manifest(tmp_path / "m.csv") == [Row(str(tmp_path / "a.jpg"))]


def test_rows_that_are_read_are_as_frozen_as_those_that_are_made(tmp_path: Path):
    (tmp_path / "m.csv").write_text("image,score\na.jpg,0.5\n")
    (row,) = read_manifest(tmp_path / "m.csv")
    made = Row(str(tmp_path / "a.jpg"), 0.5)
    assert (type(row), row, hash(row), repr(row)) == (Row, made, hash(made), repr(made))
    assert pickle.loads(pickle.dumps(row)) == replace(row) == made
    with pytest.raises(FrozenInstanceError):
        row.score = 1.0  # type: ignore[misc]


def test_names_of_one_picture_are_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    names = [
        "a",
        "./a",
        "../d/a",
        "b/../a",
        f"{tmp_path}/d/a",
        f"{tmp_path}//d/./a",
        "../d/../d/a",
        "..",
        "b/.",
    ]
    (tmp_path / "d/m.csv").write_text("image\n" + "\n".join(names))
    expected = [os.path.normpath(Path("d") / name) for name in names]
    assert [row.image for row in read_manifest(Path("d/m.csv"))] == expected
    (tmp_path / "m.csv").write_text("image\na\n./b/c\n../x\n/\n/r\n.\n")
    assert [row.image for row in read_manifest(Path("m.csv"))] == ["a", "b/c", "../x", "/", "/r", "."]
    files = Files()
    for number, name in enumerate(names[:7]):
        numbers, last, _ = files.named_in("d")(name)
        numbers.setdefault(last, number)
    assert list(files) == [(0, str(tmp_path / "d" / "a"))]


def test_bounds_are_whole_pixels_and_none_for_the_whole_picture():
    assert Row("a.jpg", x=1.4, y=2.6, width=30.0, height=30.0).bounds == (1, 3, 31, 33)
    assert Row("a.jpg", x=1.0).bounds is None


BAD_MANIFESTS = [
    (
        "m.csv",
        "image,split\na.jpg,train\nb.jpg,held\n",
        r"m\.csv, line 3: split must be one of .*'held'",
        "unknown split",
    ),
    ("m.csv", "image,score,source\na.jpg,1.5,human\n", "line 2: score must be in 0–1.*1.5", "label above 1"),
    ("m.csv", "image,score,source\na.jpg,-0.1,human\n", "line 2: score must be in 0–1", "label below 0"),
    ("m.csv", "image,score\na.jpg,nan\n", "line 2: score must be finite", "not a number"),
    ("m.csv", "image,score\na.jpg,inf\n", "line 2: score must be finite", "infinite"),
    ("m.csv", "image,score\na.jpg,good\n", "line 2: score must be a number.*'good'", "a word"),
    ("m.csv", "image,group,split\na,g,train\nb,g,test\n", "line 3: group 'g' stands in two", "leak"),
    ("m.csv", "picture,score\na.jpg,0.5\n", "line 2: the image column is missing", "no image column"),
    ("m.csv", "image,score\n,0.5\n", "line 2: the image column is missing or empty", "empty image cell"),
    ("m.csv", "image,score\na.jpg,0.5\nb.jpg\n", "line 3: not as many cells", "torn last row"),
    ("m.csv", "image,score\na.jpg,0.5,x\n", "line 2: not as many cells", "too many cells"),
    ("m.csv", 'image,score\n"a.jpg,0.5\n', "not a whole .csv table", "open quote at the end"),
    ("m.csv", "", "holds no rows", "an empty file"),
    ("m.csv", "image\n", "holds no rows", "only a header"),
    ("m.jsonl", '{"image": "a.jpg"}\n{"image": "b.\n', "line 2: not JSON", "torn JSON line"),
    ("m.jsonl", "image,score\n", "line 1: not JSON", "a CSV named .jsonl"),
    ("m.jsonl", '{"image": "a.jpg"}\n["b.jpg"]\n', "line 2: .*object", "a list, not an object"),
    (
        "m.jsonl",
        '{"image": "a.jpg", "score": NaN}\n',
        "line 1: score must be finite",
        "NaN, which json reads",
    ),
    ("m.jsonl", '{"image": "a.jpg", "score": [1]}\n', "line 1: score must be a number", "a list as a number"),
    ("m.parquet", "image\na.jpg\n", "m.parquet", "a CSV named .parquet"),
    ("m.xlsx", "", "expected a name ending in .csv, .jsonl, .parquet, but got '.xlsx'", "unknown ending"),
    ("m", "", "but got 'none'", "no ending"),
    ("m.csv", "image,score,score\na,1,1\n", "line 1: two columns are named 'score'", "a column twice"),
    ("m.csv", "image,weight\na,-1\n", "line 2: weight must be 0 or more, but got -1", "a weight below 0"),
    ("m.csv", "image,weight\na,inf\n", "line 2: weight must be finite", "an infinite weight"),
    ("m.jsonl", '{"image": "a", "weight": NaN}\n', "line 1: weight must be finite", "no weight at all"),
    ("m.jsonl", '{"image": "a", "score": true}\n', "line 1: score must be a number.*True", "true as 1"),
    ("m.csv", "image,x,y,width\na,1,1,9\n", "line 2: x, y, width, height must all be given", "half a square"),
    (
        "m.csv",
        "image,split\na,train\n./a,test\n",
        "line 3: image .*a' stands in two splits: test here, train in .*line 2",
        "a picture in two splits, by another name",
    ),
    ("m.csv", "image,score\na,1\nb,1\na,0.9\n", "line 4: image .* has a label already, in .*line 2", "twice"),
    (
        "m.csv",
        "image,score,x,y,width,height\na,1,0,0,8,8\na,1,8,0,8,8\na,1,0,0,8,8\n",
        "line 4: .*line 2",
        "the same square twice",
    ),
    ("m.csv", "\n\nimage\na\n", "line 3: not as many cells", "an empty header"),
    ("m.jsonl", '{"image": ' + "[" * 100_000, "line 1: not JSON .nested too deeply", "JSON without an end"),
    ("m.jsonl", '{"image": "a", "score": 1' + "0" * 400 + "}\n", "line 1: score must be", "a huge number"),
    (
        "m.csv",
        "image;score\na;0,5\n",
        "line 1: expected cells separated by commas, but got 'image;score'",
        "semicolons",
    ),
    ("m.csv", "image\tscore\na\t0.5\n", "line 1: expected cells separated by commas", "tabs"),
    ("m.csv", 'image,split\n"two\nlines",train\n\nb,held\n', "line 5: split", "lines are the file's"),
]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [case[:3] for case in BAD_MANIFESTS],
    ids=[f"{case[3]}-{case[0]}" for case in BAD_MANIFESTS],
)
def test_a_manifest_that_breaks_its_format_is_named_with_the_row(
    tmp_path: Path, name: str, text: str, message: str
):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        read_manifest(tmp_path / name)
    assert name in str(caught.value)


def test_a_row_of_parquet_is_named_with_its_number(tmp_path: Path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": ["a", "b"], "weight": [1.0, -0.5]}), tmp_path / "m.parquet")
    with pytest.raises(RecordError, match=r"m\.parquet, row 2: weight must be 0 or more, but got -0\.5"):
        read_manifest(tmp_path / "m.parquet")


def test_a_picture_may_come_twice_without_a_label_or_with_two_squares(tmp_path: Path):
    text = "image,score,x,y,width,height\na,,,,,\na,,,,,\na,0.5,,,,\na,0.5,0,0,8,8\na,0.5,0,0,8,9\n"
    (tmp_path / "m.csv").write_text(text)
    assert [row.score for row in read_manifest(tmp_path / "m.csv")] == [None, None, 0.5, 0.5, 0.5]


def test_weights_are_read_and_are_1_where_none_is_given(tmp_path: Path):
    (tmp_path / "m.csv").write_text("image,weight\na,0\nb,0.25\nc,\n")
    assert [row.weight for row in read_manifest(tmp_path / "m.csv")] == [0.0, 0.25, 1.0]


def test_missing_pictures_are_counted_when_asked_and_the_first_is_named(tmp_path: Path):
    (tmp_path / "here.jpg").touch()
    (tmp_path / "m.csv").write_text("image\nhere.jpg\ngone.jpg\ngone.jpg\nlost.jpg\n")
    assert len(read_manifest(tmp_path / "m.csv")) == 4
    message = r"m\.csv, line 3: image .*gone\.jpg is not there \(2 of 3 pictures are missing\)"
    with pytest.raises(RecordError, match=message) as caught:
        read_manifest(tmp_path / "m.csv", check_files=True)
    assert "relative to its manifest" in str(caught.value.hint)
    for name in ("gone.jpg", "lost.jpg"):
        (tmp_path / name).touch()
    assert len(read_manifest(tmp_path / "m.csv", check_files=True)) == 4


def test_manifests_are_read_in_order_and_one_named_twice_counts_twice(tmp_path: Path):
    (tmp_path / "l.csv").write_text("image,score,group\na,0.5,anna\n")
    (tmp_path / "u.csv").write_text("image,score,group\ncopies/a,0.25,anna\n")
    rows = read_manifests([tmp_path / "l.csv", tmp_path / "u.csv", tmp_path / "l.csv"])
    assert [(Path(row.image).name, row.score) for row in rows] == [("a", 0.5), ("a", 0.25), ("a", 0.5)]
    assert read_manifests([]) == []


LEAKS = [
    ("a,train,anna", "copies/a,validation,anna", r"line 2: group 'anna' stands in two", "a person"),
    ("a,train,anna", "a,test,", r"line 2: image '.*a' stands in two", "a picture without a group"),
    ("a,train,anna", "sub/../a,test,ben", r"line 2: image '.*a' stands in two", "a picture, by another path"),
]


@pytest.mark.parametrize(
    ("one", "two", "message"), [leak[:3] for leak in LEAKS], ids=[leak[3] for leak in LEAKS]
)
def test_nothing_may_stand_in_two_splits_of_two_manifests(tmp_path: Path, one: str, two: str, message: str):
    for name, line in (("one.csv", one), ("two.csv", two)):
        (tmp_path / name).write_text(f"image,split,group\n{line}\n")
        read_manifest(tmp_path / name)
    with pytest.raises(
        RecordError, match=rf"two\.csv, {message} splits: .* train in .*one\.csv, line 2"
    ) as caught:
        read_manifests([tmp_path / "one.csv", tmp_path / "two.csv"])
    assert ("--group-prefix" in str(caught.value.hint)) == ("group 'anna'" in str(caught.value))


def test_a_picture_is_the_same_however_its_manifest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.csv").write_text("image,split\na,train\n")
    (tmp_path / "two.csv").write_text("image,split\na,test\n")
    with pytest.raises(RecordError, match="image 'a' stands in two splits"):
        read_manifests([tmp_path / "one.csv", Path("two.csv")])


def test_bytes_that_are_not_utf8_in_a_table_are_an_error(tmp_path: Path):
    (tmp_path / "m.csv").write_bytes(b"image\nlatin-\xff.jpg\n")
    with pytest.raises(RecordError, match="is not UTF-8: byte 0xff") as caught:
        read_manifest(tmp_path / "m.csv")
    assert "as UTF-8" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("image,score\na,0,5\n", "line 2: not as many cells", "decimal point"),
        ('image,score\na,"0,5"\n', "line 2: score must be a number, but got '0,5'", "decimal point"),
        ("image;score\na;0,5\n", "line 1: expected cells separated", "commas between the cells"),
        ("", "m.csv holds no rows", "first line"),
    ],
)
def test_what_spreadsheets_make_of_a_table_is_an_error_with_help(
    tmp_path: Path, text: str, message: str, hint: str
):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        read_manifest(tmp_path / "m.csv")
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("face", ["1.5", "-1", "first"])
def test_a_face_that_is_no_whole_number_is_an_error(tmp_path: Path, face: str):
    (tmp_path / "p.csv").write_text(f"image,face,score\na.jpg,0.0,0.5\nb.jpg,{face},0.5\n")
    with pytest.raises(RecordError, match=f"line 3: face must be a .*number.*'{face}'"):
        list(read_predictions(tmp_path / "p.csv"))


def test_a_place_to_write_is_tried_without_a_trace(tmp_path: Path):
    check_place(tmp_path / "new" / "folder" / "report.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/report\.json cannot be written"):
        check_place(tmp_path / "file" / "report.json")
    with pytest.raises(OutputError, match="is a folder"):
        check_place(tmp_path)


@pytest.mark.parametrize("name", ["gone.csv", "gone.jsonl", "gone.parquet", "folder.csv"])
def test_a_table_that_cannot_be_read_is_an_error(tmp_path: Path, name: str):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        list(read_table(tmp_path / name))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_failure_midway_leaves_the_old_file_and_no_partial(tmp_path: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"p{ending}"
    write_predictions(path, ROWS)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="fell over"):
        write_predictions(path, failing(ROWS * 100))
    assert path.read_bytes() == before
    assert left_in(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_the_old_file_and_no_partial(tmp_path: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"p{ending}"
    path.write_text("old")
    (tmp_path / f".{path.name}.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        write_predictions(path, ROWS)
    assert path.read_text() == "old"
    assert left_in(tmp_path) == [path.name]


def test_missing_folders_of_an_output_are_made(tmp_path: Path):
    write_predictions(tmp_path / "a" / "b" / "p.csv", ROWS, more=["spread"])
    assert list(read_predictions(tmp_path / "a" / "b" / "p.csv")) == ROWS


UNWRITABLE = [
    ("file.txt/p.csv", "a file stands where the folder should be"),
    ("file.txt/deeper/p.csv", "a file stands where a folder above should be"),
    ("/proc/p.csv", "a file system that takes no files"),
    ("n" * 300 + ".csv", "a name too long for the file system"),
]


@pytest.mark.parametrize("name", [case[0] for case in UNWRITABLE], ids=[case[1] for case in UNWRITABLE])
@pytest.mark.parametrize("attempt", [check_writable, lambda path: write_predictions(path, ROWS)])
def test_what_cannot_be_written_is_an_output_error(tmp_path: Path, name: str, attempt):
    if name.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    (tmp_path / "file.txt").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        attempt(tmp_path / name)
    assert caught.value.hint
    assert left_in(tmp_path) == ["file.txt"]


def test_checking_leaves_nothing_and_keeps_an_old_output(tmp_path: Path):
    (tmp_path / "p.csv").write_text("old")
    check_writable(tmp_path / "p.csv")
    assert left_in(tmp_path) == ["p.csv"]
    assert (tmp_path / "p.csv").read_text() == "old"


def test_checking_refuses_a_folder_and_an_unknown_ending(tmp_path: Path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        check_writable(tmp_path / "folder.csv")
    with pytest.raises(RecordError, match="expected a name ending"):
        check_writable(tmp_path / "scores.xlsx")


def test_without_pyarrow_parquet_names_the_extra_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    attempts = [
        lambda: check_writable(tmp_path / "p.parquet"),
        lambda: write_predictions(tmp_path / "p.parquet", ROWS),
        lambda: list(read_table(tmp_path / "p.parquet")),
    ]
    for attempt in attempts:
        with pytest.raises(MissingExtra, match="pyarrow") as caught:
            attempt()
        assert caught.value.hint == 'pip install "efiqa[parquet]"'
    assert left_in(tmp_path) == []


def test_an_error_in_the_block_of_atomic_is_not_disguised(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / "x.txt") as file:
        file.write(str(1 / 0))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("ending", [".jsonl", ".parquet", ".txt"])
def test_a_manifest_is_written_as_csv_only(tmp_path: Path, ending: str):
    with pytest.raises(EfiqaError, match=r"\.csv"):
        write_manifest(tmp_path / f"m{ending}", [Row("a.jpg")])
    assert left_in(tmp_path) == []


def test_a_name_that_is_not_utf8_cannot_enter_a_manifest(tmp_path: Path):
    row = Row(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xff.jpg"))
    with pytest.raises(RecordError, match=r"latin-\\xff.jpg.*UTF-8"):
        write_manifest(tmp_path / "m.csv", [row])
    assert left_in(tmp_path) == []


def test_printable_shows_bytes_that_are_not_utf8_and_keeps_the_rest():
    assert printable(os.fsdecode(b"a\xff\xc3\xa9")) == "a\\xffé"
    assert printable(Path("żółć\n")) == "żółć\n"
