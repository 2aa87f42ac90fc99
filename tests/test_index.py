"""A split is drawn once, by the name of the group alone, and stored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from efiqa.errors import InvalidArgument, RecordError
from efiqa.index import index_folder, index_table, split_of
from efiqa.records import SPLITS, Row, read_manifest, read_manifests, write_manifest


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


def test_five_folds_of_a_fifth_hold_every_group_out_once():
    names = [f"person {index}" for index in range(2_000)]
    held = [{name for name in names if split_of(name, 0.2, 0, fold) != "train"} for fold in range(5)]
    assert sorted(name for fold in held for name in fold) == sorted(names)
    assert min(map(len, held)) > 300
    assert held[0] == {name for name in names if split_of(name, 0.2, 0) != "train"}


@pytest.mark.parametrize(("share", "fold"), [(0.2, 5), (0.3, 3), (0.0, 1), (0.2, -1)])
def test_a_fold_that_the_share_has_not_is_refused(table, tmp_path: Path, share: float, fold: int):
    ratings = table("image,score\na.jpg,0.5\n")
    with pytest.raises(InvalidArgument, match=f"no fold {fold}"):
        list(index_table(ratings, tmp_path / "p", validation=share, fold=fold))


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
    told: list[str] = []
    ratings = table("image,age\np/a.jpg,3\n")
    (row,) = index_table(ratings, ratings.parent, recognised=told.append)
    assert (row.score, row.source) == (None, "")
    assert told == [f"{ratings}: a header; pictures in column image, no ratings, so rows have no label"]
    ratings = table("image,mos\np/a.jpg,3\n")
    (row,) = index_table(ratings, ratings.parent, score="")
    assert (row.score, row.source) == (None, "")


DIALECTS = [
    ("p/a.jpg,0.5\np/b.jpg,0.25\n", {}, "no header; pictures in column 1, ratings in column 2", "no header"),
    ("p/a.jpg,0.5,x\np/b.jpg,0.25,y\n", {}, "no header; .* ratings in column 2", "text after the rating"),
    ("p/a.jpg,3,0.5\np/b.jpg,3,0.25\n", {"score": "3"}, "no header; .* ratings in column 3", "two numbers"),
    ("p/a.jpg,0.5,3\np/b.jpg,0.25,3\n", {"group": "3"}, "no header; .* ratings in column 2", "a group"),
    (
        "x,7,p/a.jpg,0.5\nx,7,p/b.jpg,0.25\n",
        {"image": "3", "score": "4"},
        "no header; .* column 3",
        "all named",
    ),
    (
        "Image,raw_score,mapped_score\np/a.jpg,61,0.5\np/b.jpg,40,0.25\n",
        {},
        "a header; pictures in column Image, ratings in column mapped_score",
        "the VQualA challenge",
    ),
    ("mapped_score,score,name\n0.5,1,p/a.jpg\n0.25,1,p/b.jpg\n", {}, "name, .*mapped_score", "any order"),
    ("Image_name,MOS\np/a.jpg,0.5\np/b.jpg,0.25\n", {}, "column Image_name, .*column MOS", "GFIQA-20k"),
    ("image,score\np/a.jpg,0.5\np/b.jpg,0.25\n", {}, "column image, ratings in column score", "our own"),
    ("name,image,score\nAnna,p/a.jpg,0.5\nBen,p/b.jpg,0.25\n", {}, "column image, ", "a person's name too"),
    ("IMAGE, Score\np/a.jpg, 0.5\np/b.jpg, 0.25\n", {}, "column IMAGE", "capitals and blanks"),
    ("image,2021,2022\np/a.jpg,1,0.5\np/b.jpg,1,0.25\n", {"score": "2022"}, "column 2022", "years"),
    (
        "face,2021\np/a.jpg,0.5\np/b.jpg,0.25\n",
        {"image": "face", "score": "2021"},
        "a header",
        "named numbers",
    ),
    ("image,score,mos\np/a.jpg,9,0.5\np/b.jpg,9,0.25\n", {"score": "mos"}, "column mos", "options win"),
    (
        "image,mapped_score,raw_score\np/a.jpg,9,0.5\np/b.jpg,9,0.25\n",
        {"score": "raw_score"},
        "raw_score",
        "options win over the challenge",
    ),
    ("\ufeffp/a.jpg,0.5\r\np/b.jpg,0.25\r\n", {}, "no header", "a byte order mark, \\r\\n"),
    ("\ufeffImage_name,MOS\r\np/a.jpg,0.5\r\np/b.jpg,0.25\r\n", {}, "column Image_name", "and a header"),
]


@pytest.mark.parametrize(
    ("text", "options", "sentence"), [case[:3] for case in DIALECTS], ids=[case[3] for case in DIALECTS]
)
def test_the_tables_that_the_field_has_are_recognised(
    table, text: str, options: dict[str, str], sentence: str
):
    told: list[str] = []
    ratings = table(text)
    rows = list(index_table(ratings, ratings.parent, recognised=told.append, **options))
    assert [(Path(row.image).name, row.score, row.source) for row in rows] == [
        ("a.jpg", 0.5, "human"),
        ("b.jpg", 0.25, "human"),
    ]
    assert len(told) == 1
    assert re.search(sentence, told[0])
    assert told[0].startswith(f"{ratings}: ")


def test_the_command_says_what_it_recognised(table, efiqa):
    ratings = table("p/a.jpg,0.5\np/b.jpg,0.25\n")
    manifest = ratings.with_name("m.csv")
    result = efiqa("index", ratings, "-o", manifest, "--split", "test", "--group-prefix", "set")
    assert (result.returncode, result.stdout) == (0, b"")
    assert result.stderr.decode() == (
        f"{ratings}: no header; pictures in column 1, ratings in column 2\n2 rows → {manifest}\n"
    )
    assert [(row.score, row.split, row.group) for row in read_manifest(manifest)] == [
        (0.5, "test", "set/p/a.jpg"),
        (0.25, "test", "set/p/b.jpg"),
    ]


def test_a_long_line_of_talk_stays_one_line(table, efiqa):
    manifest = table("p/a.jpg,0.5\n").with_name(f"{'long' * 30}.csv")
    result = efiqa("index", manifest.with_name("ratings.csv"), "-o", manifest)
    assert result.stderr.decode().splitlines()[-1] == f"1 rows → {manifest}"


UNRECOGNISED = [
    ("p/a.jpg,3,0.5\n", {}, "line 1: the rating may be in column 2 or 3", "--score 3", "two numbers"),
    (
        "image,score,mos\np/a.jpg,1,1\n",
        {},
        "line 1: the rating may be in column score or mos",
        "--score mos",
        "two known names",
    ),
    (
        "p/a.jpg,0.5\n",
        {"score": "mos"},
        "line 1: no column 'mos', for there is no header",
        "--score.*1–2",
        "a name, but no header",
    ),
    ("p/a.jpg,0.5\n", {"score": "3"}, "line 1: no column '3'", "1–2", "a number too high"),
    (
        "picture,stars\np/a.jpg,1\n",
        {},
        "line 1: no column is known .*: picture, stars",
        "--image NAME",
        "no known name",
    ),
    (
        "0.5,p/a.jpg\n",
        {},
        r"line 1: no column is known .*: 0\.5, p/a\.jpg",
        "right after the name",
        "rating first",
    ),
    ("p/a.jpg\np/b.jpg\n", {}, "line 1: no column is known", "--image NAME", "a list of names"),
    (
        "Image;MOS\np/a.jpg;0,5\n",
        {},
        "line 1: expected cells separated by commas, .*'Image;MOS'",
        "commas",
        "semicolons",
    ),
    ("p/a.jpg;0,5\n", {}, "line 1: expected cells separated by commas", "commas", "semicolons, no header"),
    ("Image\tMOS\np/a.jpg\t0.5\n", {}, "line 1: expected cells separated by commas", "commas", "tabs"),
    ("image,mos,mos\np/a.jpg,1,1\n", {}, "line 1: two columns are named 'mos'", "", "a column twice"),
    ("p/a.jpg,0.5\np/b.jpg,7\n", {}, "line 2: column 2 must be in 0–1, but got 7", "--range", "out of range"),
    ("p/a.jpg,0.5\np/b.jpg,\n", {}, "line 2: no value in column '2'", "", "an empty rating"),
    ("p/a.jpg,0.5\np/b.jpg\n", {}, "line 2: not as many cells", "", "a torn line"),
    (
        "p/a.jpg,0.5\np/a.jpg,0.5\n",
        {},
        r"line 2: column 1 'p/a\.jpg' is rated already, in .*line 1",
        "mean",
        "rated twice",
    ),
    (
        "image,mos\np/a.jpg,1\np/./a.jpg,0\n",
        {},
        r"line 3: image 'p/a\.jpg' is rated already, in .*line 2",
        "mean",
        "rated twice, by another name",
    ),
    ("", {}, "is empty, so it holds no rows", "first line", "an empty file"),
    ("\n", {}, "line 1: expected names of columns", "", "an empty line"),
    ("image,mos\n", {}, "holds no rows", "", "only a header"),
]


@pytest.mark.parametrize(
    ("text", "options", "message", "hint"),
    [case[:4] for case in UNRECOGNISED],
    ids=[case[4] for case in UNRECOGNISED],
)
def test_what_is_not_recognised_is_not_guessed(
    table, text: str, options: dict[str, str], message: str, hint: str
):
    ratings = table(text)
    with pytest.raises(RecordError, match=message) as caught:
        list(index_table(ratings, ratings.parent, **options))
    assert "ratings.csv" in str(caught.value)
    assert re.search(hint, str(caught.value.hint))


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_columns_of_other_formats_are_recognised_too(table, name: str):
    cells = {"Image": "p/a.jpg", "raw_score": 61, "mapped_score": 0.5}
    ratings = table(json.dumps(cells) + "\n", name)
    if name.endswith(".parquet"):
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist([cells]), ratings)
    assert [row.score for row in index_table(ratings, ratings.parent)] == [0.5]


def test_a_name_without_an_ending_finds_its_picture_and_keeps_its_zeros(tmp_path: Path, table):
    for name in ("00012.png", "12.png", "v1.5.JPG", "00012.txt", "sub/00012.webp", "bare"):
        (tmp_path / "n" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "n" / name).touch()
    ratings = table("00012,0.5\n12,0.25\nv1.5,0\nsub/00012,1\nbare,0.75\n")
    rows = list(index_table(ratings, tmp_path / "n"))
    found = ["00012.png", "12.png", "v1.5.JPG", "sub/00012.webp", "bare"]
    assert [row.image for row in rows] == [str(tmp_path / "n" / name) for name in found]
    assert [row.group for row in rows] == [f"n/{name}" for name in found]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("7", r"line 2: .*n/7 fits more than one picture: 7\.jpg, 7\.png"),
        ("007", r"line 2: .*n/007 is not there, nor with the ending of a picture"),
        ("8", r"line 2: .*n/8 is not there, nor"),
        ("sub/7", r"line 2: .*n/sub/7 is not there, nor"),
        ("7.webp", r"line 2: .*n/7\.webp is not there$"),
        ("7" * 300, r"line 2: .*777 is not there, nor"),
        ("7\0", r"line 2: .* is not there, nor|NUL"),
    ],
    ids=[
        "two",
        "other zeros",
        "no picture",
        "no folder",
        "another ending",
        "a long name",
        "no name of a file",
    ],
)
def test_a_name_that_fits_no_single_picture_is_an_error(tmp_path: Path, table, name: str, message: str):
    (tmp_path / "n").mkdir()
    for file in ("7.jpg", "7.png", "8.txt"):
        (tmp_path / "n" / file).touch()
    ratings = table(f"image,mos\n{name},0.5\n")
    with pytest.raises(RecordError, match=message):
        list(index_table(ratings, tmp_path / "n"))


def test_a_ready_split_is_stamped_on_all_rows(table):
    ratings = table("p/a.jpg,0.5\np/b.jpg,0.25\n")
    for split in SPLITS:
        for rows in (
            index_table(ratings, ratings.parent, split=split),
            index_folder(ratings.parent / "p", split=split),
        ):
            assert {row.split for row in rows} == {split}


def test_a_ready_split_is_a_known_one_and_leaves_nothing_to_draw(table):
    ratings = table("p/a.jpg,0.5\n")
    for options, message in (
        ({"split": "val"}, "must be one of train, validation, test, but got 'val'"),
        ({"split": "train", "validation": 0.2}, r"drawn or train for all, but got a share of 0\.2"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            list(index_table(ratings, ratings.parent, **options))
        with pytest.raises(InvalidArgument, match=message):
            list(index_folder(ratings.parent / "p", **options))


def test_a_picture_of_two_groups_in_two_splits_is_an_error(table):
    # The known draw: anna is held out, ben is not.
    ratings = table("image,person\np/a.jpg,anna\np/a.jpg,ben\n")
    with pytest.raises(RecordError, match=r"line 3: .*two splits: train here, validation in .*line 2"):
        list(index_table(ratings, ratings.parent, group="person", validation=0.5))


BAD_TABLES = [
    ("image,mos\np/a.jpg,3\np/b.jpg,6\n", {}, "line 3: mos must be in 1–5, but got 6", "above the range"),
    ("image,mos\np/a.jpg,0.9\n", {}, "line 2: mos must be in 1–5", "below the range"),
    ("image,mos\np/a.jpg,nan\n", {}, "line 2: mos must be in 1–5", "not a number"),
    ("image,mos\np/a.jpg,good\n", {}, "line 2: mos must be a number, but got 'good'", "a word"),
    ("image,mos\np/a.jpg,3\np/b.jpg,\n", {}, "line 3: no value in column 'mos'", "an empty rating"),
    ("image,rating\np/a.jpg,3\n", {}, "line 2: no value in column 'mos'", "no such column"),
    ("name,mos\np/a.jpg,3\n", {"image": "image"}, "line 2: no value in column 'image'", "no image column"),
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


def test_a_null_is_an_empty_cell(table):
    ratings = table('{"image": "p/a.jpg", "mos": null}\n', "r.jsonl")
    with pytest.raises(RecordError, match=r"r\.jsonl, line 1: no value in column 'mos'"):
        list(index_table(ratings, ratings.parent))


@pytest.mark.parametrize("value", ["9", "[3]"])
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
        (None, ["f/anna-1.jpg", "f/anna-2.jpg", "f/ben-1.jpg", "f/sub/anna-3.jpg"]),
        (r"[a-z]+(?=-)", ["anna", "anna", "ben", "anna"]),
        (r"([a-z]+)-\d", ["anna", "anna", "ben", "anna"]),
        (r"^sub", ["f/anna-1.jpg", "f/anna-2.jpg", "f/ben-1.jpg", "sub"]),
        (r"z*", ["f/anna-1.jpg", "f/anna-2.jpg", "f/ben-1.jpg", "f/sub/anna-3.jpg"]),
        (r"^(x)?", ["f/anna-1.jpg", "f/anna-2.jpg", "f/ben-1.jpg", "f/sub/anna-3.jpg"]),
    ],
    ids=[
        "none",
        "what is found",
        "what its group finds",
        "folder and name where nothing is found",
        "where nothing is all that is found",
        "where its group finds nothing",
    ],
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


def test_a_prefix_stands_before_all_groups_and_changes_no_draw(table):
    lines = [
        f"p/{name}.jpg,{person}" for name, person in zip("abcd", ("anna", "ben", "anna", "ben"), strict=True)
    ]
    ratings = table("\n".join(["image,person", *lines]))
    plain, prefixed = (
        list(index_table(ratings, ratings.parent, group="person", validation=0.5, group_prefix=prefix))
        for prefix in (None, "set")
    )
    assert [row.group for row in plain] == ["anna", "ben", "anna", "ben"]
    assert [row.group for row in prefixed] == ["set/anna", "set/ben", "set/anna", "set/ben"]
    assert splits(plain) == splits(prefixed)
    alone, named = (
        list(index_folder(ratings.parent / "p", validation=0.5, group_prefix=prefix))
        for prefix in (None, "set")
    )
    assert [row.group for row in alone] == ["p/a.jpg", "p/b.jpg", "p/c.jpg", "p/d.jpg"]
    assert [row.group for row in named] == ["set/a.jpg", "set/b.jpg", "set/c.jpg", "set/d.jpg"]
    assert splits(alone) == splits(named)


def test_a_table_and_its_folder_give_a_picture_the_same_group_and_split(table):
    ratings = table("image\n./a.jpg\nb\nc.jpg\nd.jpg\n")
    folder = ratings.parent / "p"
    assert list(index_table(ratings, folder, validation=0.5)) == list(index_folder(folder, validation=0.5))


def test_sets_that_number_their_pictures_alike_go_together_and_people_need_a_prefix(tmp_path: Path):
    people: dict[str | None, list[Path]] = {None: [], "own": []}
    pictures = []
    for name, split in (("one", "train"), ("two", "validation")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1-00012.png").touch()
        pictures.append(tmp_path / f"{name}.csv")
        write_manifest(pictures[-1], index_folder(tmp_path / name, split=split))
        for prefix, manifests in people.items():
            rows = index_folder(
                tmp_path / name, split=split, group_pattern=r"^\d", group_prefix=prefix and f"{prefix} {name}"
            )
            manifests.append(tmp_path / f"{name} {prefix}.csv")
            write_manifest(manifests[-1], rows)
    assert [row.group for row in read_manifests(pictures)] == ["one/1-00012.png", "two/1-00012.png"]
    assert [row.group for row in read_manifests(people["own"])] == ["own one/1", "own two/1"]
    with pytest.raises(RecordError, match=r"two None\.csv, line 2: group '1' stands in two splits"):
        read_manifests(people[None])


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
