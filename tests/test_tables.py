"""A table in blocks gives what its rows give one by one: the same values, and the same errors."""

from __future__ import annotations

import csv
import itertools
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efiqa.cells import number, numbers, whole, wholes
from efiqa.errors import MissingExtra, RecordError
from efiqa.names import Files
from efiqa.pictures import Pictures
from efiqa.records import read_manifests, read_predictions
from efiqa.report.gallery import TRIED, _lowest
from efiqa.scores import read_beside, read_scores
from efiqa.tables import read_blocks, read_places
from efiqa.writing import csv_lines

COLUMNS = (
    "image",
    "face",
    "status",
    "score",
    "split",
    "source",
    "group",
    "x",
    "y",
    "width",
    "height",
    "weight",
)
NAMES = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "d/a",
        "./a",
        "d/../b",
        "../d/a",
        "/x/a",
        "//x",
        "",
        ".",
        "..",
        "d/",
        "a\nb",
        "a\r\nb",
        "a,b",
    ]
)
NUMBERS = st.sampled_from(
    ["", "0", "1", "0.5", "-1", "1.5", "nan", "inf", "1e400", "0,5", "good", "1_0", " 1 ", "NA"]
)
USUAL = {
    "image": st.integers(0, 99).map(lambda number: f"{number}.jpg"),
    "face": st.sampled_from(["0", "0", "0", "1", ""]),
    "status": st.sampled_from(["ok", "no_face", ""]),
    "split": st.just("train"),
    "source": st.sampled_from(["human", "model@1", ""]),
    "group": st.sampled_from(["", "anna", "ben"]),
}
ODD = {"image": NAMES, "split": st.sampled_from(["test", "held", ""]), "status": st.just("ok")}


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A header and rows, most of them ordinary."""
    columns = draw(st.lists(st.sampled_from(COLUMNS), unique=True, min_size=1))
    usual = [USUAL.get(name, st.just("0.5")) for name in columns]
    odd = [ODD.get(name, NUMBERS) for name in columns]
    rows = draw(st.lists(st.tuples(*usual), max_size=30))
    if rows and draw(st.booleans()):
        at, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(columns) - 1))
        rows[at] = (*rows[at][:column], draw(odd[column]), *rows[at][column + 1 :])
    return [columns, *map(list, rows)]


def outcome(read: Callable[[], Any]) -> object:
    try:
        return read()
    except RecordError as error:
        return str(error), error.hint


def scores(path: Path) -> object:
    found = read_scores(path, name="s")
    boxes = None if found.boxes is None else found.boxes.tolist()
    return repr((found.image, found.score.tolist(), boxes)), found.status, found.repeated


READERS: dict[str, Callable[[Path], object]] = {
    "manifest": lambda path: read_manifests([path]),
    "two manifests": lambda path: read_manifests([path, path]),
    "predictions": lambda path: list(read_predictions(path)),
    "scores": scores,
}


def refused(*_: object) -> None:
    raise ValueError("row by row")


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), block=st.sampled_from([1, 3, 250]))
def test_columns_give_what_rows_one_by_one_give_and_the_same_errors(
    tmp_path: Path, reader: str, table: list[list[str]], block: int
):
    path = tmp_path / "t.csv"
    path.write_text("".join(csv_lines(table)), encoding="utf-8", newline="")
    read = READERS[reader]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("efiqa.tables.BLOCK", block)
        by_columns = outcome(lambda: read(path))
        patch.setattr("efiqa.records._column", refused)
        patch.setattr("efiqa.records._ordinary", lambda columns: False)
        patch.setattr("efiqa.scores._scores", refused)
        assert outcome(lambda: read(path)) == by_columns


def test_pictures_that_repeat_within_a_block_leave_the_others_their_places(tmp_path: Path):
    (tmp_path / "s.csv").write_text("image,score\na,1\na,1\nb,\nb,\nc,2\n")
    found = read_scores(tmp_path / "s.csv", name="s")
    assert (found.image, found.status, found.repeated) == (["a", "b", "c"], {1: "no_score"}, 2)
    assert found.score.tolist()[::2] == [1, 2]


@settings(max_examples=100, deadline=None)
@given(st.lists(NUMBERS | st.none() | st.booleans() | st.integers() | st.floats() | st.just([1]), max_size=4))
def test_numbers_of_a_column_are_those_of_its_cells_or_none_is_taken(cells: list[object]):
    for column, one in ((numbers, number), (wholes, whole)):
        each = outcome(lambda: [None if cell is None else one(cell, "score", "here") for cell in cells])  # noqa: B023
        if isinstance(each, tuple):
            with pytest.raises(ValueError, match=r"."):
                column(cells)
        else:
            assert column(cells) == each


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.text(alphabet='a\r\n", ', max_size=4), min_size=2, max_size=2), max_size=9),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([1, 2, 250]),
)
def test_places_are_the_lines_that_the_file_has(tmp_path: Path, rows: list[list[str]], end: str, block: int):
    path = tmp_path / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([["first", "second"], *rows])
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, strict=True)
        lines = [reader.line_num + 1 for _ in iter(lambda: next(reader, None), None)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("efiqa.tables.BLOCK", block)
        found = [place for place, _ in read_places(path)]
    assert found == [f"{path}, line {line}" for line in lines[: len(rows)]]


@pytest.mark.parametrize(
    ("name", "bad"),
    [("t.csv", b"short\n"), ("t.csv", b'"open,1\n'), ("t.jsonl", b"torn"), ("t.csv", b"\xff" * 9999)],
)
def test_rows_before_a_broken_one_come_first(tmp_path: Path, name: str, bad: bytes):
    rows = [f'{{"image": "{at}", "score": 1}}\n' if "jsonl" in name else f"{at},1\n" for at in range(3100)]
    head = "" if "jsonl" in name else "image,score\n"
    (tmp_path / name).write_bytes((head + "".join(rows)).encode() + bad)
    found: list[str] = []
    blocks = (block.column("image") for block in read_blocks(tmp_path / name))
    with pytest.raises(RecordError):
        found.extend(itertools.chain.from_iterable(blocks))
    # A byte that is no text spoils all that is decoded with it, the rows before it in that piece too.
    assert found == [str(at) for at in range(len(found))]
    assert len(found) == 3100 if bad[0] != 0xFF else len(found) > 1000


@pytest.mark.parametrize("folder", [".", "", "d", "./d", "d/..", "..", "/x", "/"])
def test_names_taken_together_are_located_as_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
):
    monkeypatch.chdir(tmp_path)
    files = Files()
    one = files.named_in(folder)
    plain = ["a", "d/b", "...", ".c", "d./e", "a\nb", " "]
    absolute = ["/a", f"{tmp_path}/a", f"{tmp_path}", f"{tmp_path}b"]
    odd = ["", ".", "..", "./a", "a/", "a//b", "d/../a", "/", "//a", "/a/", "/./a", "a/."]
    for names in (plain, absolute, odd, plain + absolute, [*plain, "./a"], [*absolute, "//a"]):
        found = [one(name)[1:] for name in names]
        assert list(zip(*files.located(names, folder), strict=True)) == found
        assert [path for _, path in found] == [os.path.normpath(os.path.join(folder, name)) for name in names]  # noqa: PTH118


@pytest.mark.parametrize("folder", ["", "d"])
def test_tables_in_the_order_of_the_pictures_match_as_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
):
    monkeypatch.chdir(tmp_path)
    names = [f"{at % 7}/{at}.jpg" for at in range(600)]
    pictures = Pictures([os.path.join(folder, name) for name in names])  # noqa: PTH118
    assert pictures.find(names, folder).tolist() == list(range(600))
    assert pictures.find(names[::-1], folder).tolist() == list(range(600))[::-1]
    both = Pictures(["d/a", "d/d/a", "a"])  # a name is one from the working folder first
    assert both.find(["a", "d/a", "../a"], "d").tolist() == [2, 0, 2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=3 * TRIED))
def test_the_lowest_are_those_that_a_stable_sort_puts_first(values: list[int]):
    found = _lowest(np.array(values, np.float64))
    assert found.tolist() == np.argsort(values, kind="stable")[:TRIED].tolist()


def test_tables_that_other_cores_read_hold_the_same_and_fail_in_their_turn(tmp_path: Path, monkeypatch):
    for name in "ab":
        lines = [f"{at}.jpg,{at / 7}\n" for at in range(300)]
        (tmp_path / f"{name}.csv").write_text(
            "image,score\n" + "".join(lines if name == "a" else lines[::-1])
        )
    (tmp_path / "broken.csv").write_text("image,score\nx.jpg,much\n")
    texts = [f"first={tmp_path}/a.csv:score", f"{tmp_path}/b.csv", f"{tmp_path}/broken.csv"]
    monkeypatch.setattr("efiqa.scores.available_cores", lambda: 3)
    said = []
    for much in (0, math.inf):
        monkeypatch.setattr("efiqa.scores.MUCH", much)
        with read_beside(texts) as tables:
            found = [next(tables), next(tables)]
            with pytest.raises(RecordError) as caught:
                next(tables)
        said.append([str(caught.value), caught.value.hint, *(each.score.tolist() for each in found)])
        assert [each.name for each in found] == ["first", "b"]
        assert [each.image[0] for each in found] == ["0.jpg", "299.jpg"]
    assert said[0] == said[1]
    assert "broken.csv, line 2: score must be a number" in said[0][0]


def test_what_is_not_installed_is_said_by_another_process_too():
    missing = pickle.loads(pickle.dumps(MissingExtra("pyarrow", extra="parquet")))
    assert (str(missing), missing.hint) == (
        "this needs the package 'pyarrow', which is not installed",
        'pip install "efiqa[parquet]"',
    )
