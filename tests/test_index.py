"""A split is drawn once, by the name of the group alone, and stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from efiqa.errors import InvalidArgument, RecordError
from efiqa.index import index_folder, index_table, split_of
from efiqa.records import Row, read_manifest, write_manifest


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """`table(text)` writes ratings.csv beside a folder `p` with pictures a, b, c, d."""
    for name in "abcd":
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"{name}.jpg").write_bytes(b"")

    def write(text: str, name: str = "ratings.csv") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def splits(rows: list[Row]) -> dict[str, str]:
    return {Path(row.image).name: row.split for row in rows}


def test_the_split_is_known_by_heart():
    # The first byte of sha256("0/anna") is 08, of "0/ben" fa, …
    # This must never change, or people move between splits of manifests made earlier.
    drawn = [split_of(name, 0.5, 0) for name in ("anna", "ben", "carla", "dora", "emil", "fritz")]
    assert drawn == ["validation", "train", "train", "validation", "validation", "validation"]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_about_the_asked_share_is_held_out(share: float, seed: int):
    held = sum(split_of(f"person {index}", share, seed) == "validation" for index in range(20_000))
    assert abs(held - 20_000 * share) < 4 * math.sqrt(20_000 * share * (1 - share))


def test_nothing_is_held_out_unless_asked():
    assert {split_of(str(index), 0.0, 0) for index in range(1000)} == {"train"}


def test_a_larger_share_holds_out_the_same_groups_and_more():
    held = [
        {name for name in map(str, range(500)) if split_of(name, share, 0) != "train"} for share in (0.1, 0.3)
    ]
    assert held[0] < held[1]


def test_the_split_does_not_depend_on_order_or_neighbours(table):
    lines = [f"p/{name}.jpg,person {index % 3}" for index, name in enumerate("abcd")]
    forward = table("\n".join(["image,person", *lines]))
    rows = list(index_table(forward, forward.parent, group="person", validation=0.5))
    backward = table("\n".join(["image,person", *lines[::-1]]))
    again = list(index_table(backward, backward.parent, group="person", validation=0.5))
    assert again == rows[::-1]
    fewer = table("\n".join(["image,person", *lines[:2]]))
    assert list(index_table(fewer, fewer.parent, group="person", validation=0.5)) == rows[:2]


def test_another_seed_is_another_draw():
    names = [str(index) for index in range(100)]
    draws = {tuple(split_of(name, 0.5, seed) for name in names) for seed in range(5)}
    assert len(draws) == 5


def test_groups_stay_together_and_the_split_is_stored(tmp_path: Path, table):
    lines = [f"p/{name}.jpg,person {index % 2}" for index, name in enumerate("abcd")]
    ratings = table("\n".join(["image,person", *lines]))
    for seed in range(10):
        rows = list(index_table(ratings, ratings.parent, group="person", validation=0.5, seed=seed))
        assert splits(rows)["a.jpg"] == splits(rows)["c.jpg"]
        assert splits(rows)["b.jpg"] == splits(rows)["d.jpg"]
        write_manifest(tmp_path / "manifest.csv", rows)
        assert read_manifest(tmp_path / "manifest.csv") == rows


@pytest.mark.parametrize(
    ("low", "high", "rating", "score"),
    [
        (0, 1, "0.25", 0.25),
        (1, 5, "3", 0.5),
        (1, 5, "1", 0.0),
        (1, 5, "5", 1.0),
        (0, 100, "7.5", 0.075),
        (-1, 1, "0", 0.5),
    ],
)
def test_ratings_become_0_to_1(table, low: float, high: float, rating: str, score: float):
    ratings = table(f"image,mos\np/a.jpg,{rating}\n")
    (row,) = index_table(ratings, ratings.parent, score="mos", low=low, high=high)
    assert (row.score, row.source) == (score, "human")


def test_without_a_rating_column_rows_have_no_label_and_no_source(table):
    ratings = table("image,mos\np/a.jpg,3\n")
    assert [(row.score, row.source) for row in index_table(ratings, ratings.parent)] == [(None, "")]


BAD_TABLES = [
    ("image,mos\np/a.jpg,3\np/b.jpg,6\n", {}, "line 3: mos must be in 1–5, but got 6", "above the range"),
    ("image,mos\np/a.jpg,0.9\n", {}, "line 2: mos must be in 1–5", "below the range"),
    ("image,mos\np/a.jpg,nan\n", {}, "line 2: mos must be in 1–5", "not a number"),
    ("image,mos\np/a.jpg,good\n", {}, "line 2: mos must be a number, but got 'good'", "a word"),
    ("image,mos\np/a.jpg,3\np/b.jpg,\n", {}, "line 3: no value in column 'mos'", "an empty rating"),
    ("image,rating\np/a.jpg,3\n", {}, "line 2: no value in column 'mos'", "no such column"),
    ("name,mos\np/a.jpg,3\n", {}, "line 2: no value in column 'image'", "no image column"),
    ("image,mos\np/a.jpg,3\np/gone.jpg,3\n", {}, r"line 3: .*gone\.jpg is not there", "no such picture"),
    ("image,mos\np,3\n", {}, "line 2: .*p is not there", "a folder for a picture"),
    ("image,mos\np/a.jpg,3\n", {"group": "person"}, "no value in column 'person'", "no such group column"),
]


@pytest.mark.parametrize(
    ("text", "options", "message"), [case[:3] for case in BAD_TABLES], ids=[case[3] for case in BAD_TABLES]
)
def test_a_bad_line_is_named_with_its_number(table, text: str, options: dict[str, str], message: str):
    ratings = table(text)
    with pytest.raises(RecordError, match=message) as caught:
        list(index_table(ratings, ratings.parent, score="mos", low=1, high=5, **options))
    assert "ratings.csv" in str(caught.value)


@pytest.mark.parametrize("value", ["9", "[3]", "null"])
def test_lines_of_json_are_counted_from_the_first(table, value: str):
    ratings = table(f'{{"image": "p/a.jpg", "mos": 3}}\n{{"image": "p/b.jpg", "mos": {value}}}\n', "r.jsonl")
    with pytest.raises(RecordError, match=r"r\.jsonl, line 2: mos must be"):
        list(index_table(ratings, ratings.parent, score="mos", low=1, high=5))


@pytest.mark.parametrize(("low", "high"), [(1, 1), (5, 1), (float("nan"), 1)])
def test_a_range_must_rise(table, low: float, high: float):
    with pytest.raises(InvalidArgument, match="must rise"):
        list(index_table(table("image,mos\np/a.jpg,1\n"), Path(), score="mos", low=low, high=high))


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (None, ["anna-1.jpg", "anna-2.jpg", "ben-1.jpg", "sub/anna-3.jpg"]),
        (r"[a-z]+(?=-)", ["anna", "anna", "ben", "anna"]),
        (r"([a-z]+)-\d", ["anna", "anna", "ben", "anna"]),
        (r"^sub", ["anna-1.jpg", "anna-2.jpg", "ben-1.jpg", "sub"]),
    ],
    ids=["none", "what is found", "what its group finds", "the name where nothing is found"],
)
def test_a_pattern_finds_the_group_in_the_name(tmp_path: Path, pattern: str | None, groups: list[str]):
    for name in ("anna-1.jpg", "anna-2.jpg", "ben-1.jpg", "sub/anna-3.jpg"):
        (tmp_path / "f" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "f" / name).write_bytes(b"")
    rows = list(index_folder(tmp_path / "f", group_pattern=pattern))
    assert [row.group for row in rows] == groups
    assert [row.score for row in rows] == [None] * 4


def test_the_groups_of_a_folder_do_not_depend_on_where_it_lies(tmp_path: Path):
    for home in ("here", "there"):
        (tmp_path / home).mkdir()
        for index in range(30):
            (tmp_path / home / f"{index}.jpg").write_bytes(b"")
    drawn = [splits(list(index_folder(tmp_path / home, validation=0.5))) for home in ("here", "there")]
    assert drawn[0] == drawn[1]
    assert set(drawn[0].values()) == {"train", "validation"}


def test_a_broken_pattern_is_an_error(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(InvalidArgument, match=r"'\(' is no regular expression"):
        list(index_folder(tmp_path, group_pattern="("))


def test_a_folder_without_pictures_is_an_error(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RecordError, match="holds no pictures") as caught:
        list(index_folder(tmp_path))
    assert ".jpg" in str(caught.value.hint)


def test_a_folder_that_holds_a_loop_is_an_error(tmp_path: Path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "up").symlink_to(tmp_path)
    with pytest.raises(RecordError, match="leads back"):
        list(index_folder(tmp_path))
