"""`efiqa evaluate`: any tool's scores, matched by name, against ratings, pairs and groups; nothing is NaN."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from efiqa.cli import main
from efiqa.entrants import distinct, enter
from efiqa.errors import InvalidArgument, RecordError
from efiqa.groups import binned, cliffs_delta, compare_groups, read_groups
from efiqa.ladders import read_probes
from efiqa.metrics import srcc
from efiqa.pictures import Pictures
from efiqa.probe import as_json, baseline_score, probe
from efiqa.records import Prediction, Row, write_manifest, write_predictions
from efiqa.scores import read_named, read_scores

SHARED = Path(__file__).parents[2] / "shared" / "data"
N = 60


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("efiqa.resampling.ROUNDS", 50)


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["efiqa", "evaluate", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        with pytest.raises(SystemExit) as caught:
            main()
        return Result(int(caught.value.code or 0), *capsys.readouterr())

    return call


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# Other tools' tables


OFIQ = (
    "Filename;UnifiedQualityScore;Sharpness;UnifiedQualityScore.scalar;Sharpness.scalar;assessment_time_in_ms"
)


def test_ofiqs_table_is_read_in_its_first_dialect_with_its_trailing_semicolon(tmp_path: Path):
    content = f"{OFIQ};\n/data/a.jpg;26.1;0.5;87;40;12.5\n/data/b.jpg;0;0;-1;-1;3\n"
    scores = read_scores(text(tmp_path / "o.csv", content), name="ofiq")
    assert (scores.column, scores.image) == ("UnifiedQualityScore.scalar", ["/data/a.jpg", "/data/b.jpg"])
    assert scores.score[0] == 87
    assert (np.isnan(scores.score[1]), scores.status) == (True, {1: "no_score"})


def test_ofiqs_table_is_read_in_its_other_dialect(tmp_path: Path):
    content = (
        "Filename;UnifiedQualityScore.native;UnifiedQualityScore.mapped\r\na.jpg;26.1;87\r\nb.jpg;-5;-1\r\n"
    )
    path = text(tmp_path / "o.csv", content)
    assert read_scores(path, name="ofiq").score[0] == 87
    native = read_scores(path, name="ofiq", column="UnifiedQualityScore.native")
    assert native.score[0] == 26.1
    assert np.isnan(native.score[1])  # the mapped value says that it failed


@pytest.mark.parametrize(
    ("content", "column"),
    [
        ("image,score\na.jpg,0.5\n", "score"),
        ("Filename,Quality\na.jpg,0.5\n", "Quality"),
        ("image_name\tmos\na.jpg\t0.5\n", "mos"),
        ("path;prediction\na.jpg;0.5\n", "prediction"),
    ],
)
def test_columns_and_delimiters_are_recognised(tmp_path: Path, content: str, column: str):
    scores = read_scores(text(tmp_path / "s.csv", content), name="s")
    assert (scores.column, scores.image, scores.score.tolist()) == (column, ["a.jpg"], [0.5])


def test_a_name_a_column_and_its_direction_can_be_said(tmp_path: Path):
    path = text(tmp_path / "s.csv", "image,score,brisque\na.jpg,0.5,30\nb.jpg,0.6,\n")
    named = read_named(f"BRISQUE={path}:-brisque")
    assert (named.name, named.column, named.score[0], named.status) == (
        "BRISQUE",
        "-brisque",
        -30,
        {1: "no_score"},
    )
    assert read_named(str(path)).name == "s"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_our_own_predictions_give_the_largest_face_its_box_and_the_status(tmp_path: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    rows = [
        Prediction("a.jpg", 0, "ok", 0.5, x=1.0, y=2.0, width=30.0, height=40.0),
        Prediction("a.jpg", 1, "ok", 0.9),
        Prediction("b.jpg", 0, "no_face"),
    ]
    path = tmp_path / f"p{ending}"
    write_predictions(path, rows)
    scores = read_scores(path, name="ours")
    assert (scores.image, scores.score[0], scores.status) == (["a.jpg", "b.jpg"], 0.5, {1: "no_face"})
    assert scores.boxes is not None
    assert scores.boxes[0].tolist() == [1, 2, 30, 40]


def test_nan_is_a_picture_without_a_score_and_a_repeated_row_counts_once(tmp_path: Path):
    content = "image,score\na.jpg,nan\nb.jpg,0.5\nb.jpg,0.50\na.jpg,NaN\nc.jpg,inf\n"
    scores = read_scores(text(tmp_path / "s.csv", content), name="s")
    assert (scores.repeated, scores.status) == (2, {0: "no_score", 2: "no_score"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("image,score\na.jpg,0.5\na.jpg,0.6\n", "line 3: a.jpg has another score already, 0.5"),
        ("image,score\na.jpg,good\n", "line 2: score must be a number.*'good'"),
        ("image,score\n,0.5\n", "line 2: no value in column 'image'"),
        ("image,score\n", "holds no scores"),
        ("picture,score\na.jpg,0.5\n", "no column is known that names the pictures"),
        ("image,width\na.jpg,5\n", "no column is known that is the score"),
        ("image;score\na.jpg;5;6\n", "line 2: not as many cells"),
        ("image;score\na.jpg;0,5\n", "line 2: score must be a number, but got '0,5'"),
        ("image,face,score\na.jpg,1.5,0.5\n", "line 2: face must be a whole number.*1.5"),
        ("", "is empty"),
    ],
)
def test_a_bad_table_is_an_error_with_its_line(tmp_path: Path, content: str, reason: str):
    with pytest.raises(RecordError, match=reason):
        read_scores(text(tmp_path / "s.csv", content), name="s")


def test_true_is_no_score(tmp_path: Path):
    path = text(tmp_path / "s.jsonl", '{"image": "a.jpg", "score": true}\n')
    with pytest.raises(RecordError, match="line 1: score must be a number, but got True"):
        read_scores(path, name="s")


def test_a_column_that_is_not_there_is_an_error_that_lists_those_that_are(tmp_path: Path):
    path = text(tmp_path / "s.csv", "image,score\na.jpg,0.5\n")
    with pytest.raises(RecordError, match="no column 'mos'") as caught:
        read_named(f"{path}:mos")
    assert caught.value.hint == "columns here: image, score"


# Names


def test_names_are_paths_from_the_working_folder_or_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    pictures = Pictures(["d/a.jpg", "d/sub/../b.jpg"])
    assert pictures.find(["./d/a.jpg", str(tmp_path / "d/b.jpg"), "c.jpg"], "d").tolist() == [0, 1, -1]
    assert pictures.find(["b.jpg", "sub/../a.jpg"], "d").tolist() == [1, 0]


def test_names_from_another_place_are_matched_by_their_ends():
    assert Pictures(["d/a.jpg", "d/b.jpg"]).find(["/x/b.jpg", "C:\\y\\a.jpg", "z.jpg"], "/").tolist() == [
        1,
        0,
        -1,
    ]
    people = Pictures(["anna/1.jpg", "ben/1.jpg"])  # file names alone do not tell them apart
    assert people.find(["/x/ben/1.jpg", "/x/1.jpg", "/x/anna/1.jpg"], "/").tolist() == [1, -1, 0]


def test_where_some_names_are_exact_no_other_is_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Pictures(["d/a.jpg", "d/b.jpg"]).find(["d/a.jpg", "other/b.jpg"], ".").tolist() == [0, -1]


def entered(tmp_path: Path, content: str, *paths: str, **options: Any):
    scores = read_scores(text(tmp_path / "s.csv", "image,score\n" + content), name="tool")
    return enter(scores, Pictures([*paths]), **options)


def test_a_scorers_numbers_come_in_the_order_of_the_pictures(tmp_path: Path):
    entrant = entered(tmp_path, "b.jpg,2\nx.jpg,9\na.jpg,1\nc.jpg,\n", "a.jpg", "b.jpg", "c.jpg")
    assert entrant.score.tolist()[:2] == [1, 2]
    assert (entrant.failed, entrant.missing, entrant.others) == ({"no_score": 1}, 0, 1)


def test_too_many_missing_pictures_are_an_error_that_shows_both_names(tmp_path: Path):
    paths = [f"{number}.jpg" for number in range(10)]
    content = "".join(f"{path},1\n" for path in paths[:8])
    with pytest.raises(
        RecordError, match=r"tool has no row for 2 of 10 pictures, such as 8\.jpg; it has 0\.jpg"
    ):
        entered(tmp_path, content, *paths)
    assert entered(tmp_path, content, *paths, max_missing=0.2).missing == 2


def test_two_spellings_of_a_picture_with_two_scores_are_an_error(tmp_path: Path):
    with pytest.raises(RecordError, match="two scores of a"):
        entered(tmp_path, "/x/a.jpg,1\n/y/a.jpg,2\n", "a.jpg")


def test_rows_of_one_picture_count_once_and_two_squares_are_an_error():
    rows = [Row("a.jpg"), Row("a.jpg", 0.5, source="human"), Row("b.jpg")]
    assert distinct(rows) == ([rows[1], rows[2]], 1)
    with pytest.raises(RecordError, match="two squares"):
        distinct([Row("a.jpg", x=0, y=0, width=9, height=9), Row("a.jpg", x=5, y=0, width=9, height=9)])


# Groups


def test_cliffs_delta_counts_pairs():
    generator = np.random.default_rng(0)
    a, b = generator.integers(0, 9, 40), generator.integers(2, 12, 30)
    counted = np.sign(a[:, None] - b).mean()
    assert cliffs_delta(a.astype(float), b.astype(float)) == pytest.approx(counted)


def test_groups_by_hand():
    score = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, np.nan])
    found = compare_groups(score, ["low"] * 5 + ["high"] * 5)
    high, low = found.groups
    assert (high.name, high.n, high.failed, high.mean, high.quartiles) == (
        "high",
        5,
        1,
        7.5,
        (6.75, 7.5, 8.25),
    )
    assert (high.delta, low.delta) == (1, -1)
    # With 30 % of ten discarded, the one without a score and 1 and 2 are.
    gap = found.gaps[-1]
    assert (gap.threshold, gap.overall, gap.highest, gap.lowest) == (3, 0.3, "low", "high")
    assert gap.difference == pytest.approx(2 / 5 - 1 / 5)
    # The failed one alone is more than 5 %, so that no score is a threshold for 1 or 5 %.
    assert [each.target for each in found.gaps] == [0.1, 0.2, 0.3]


def test_small_groups_are_not_what_the_highest_difference_is_between():
    score = np.concatenate((np.linspace(0, 1, 200), np.zeros(5)))
    found = compare_groups(score, ["a", "b"] * 100 + ["c"] * 5)
    assert {found.gaps[-1].highest, found.gaps[-1].lowest} <= {"a", "b"}


@pytest.mark.parametrize(
    ("score", "group", "reason"),
    [
        ([1.0, 2.0], ["a", "a"], "one group, 'a'"),
        ([np.nan, np.nan], ["a", "b"], "no picture of any group"),
        (np.arange(201.0), [f"person {number}" for number in range(201)], "201 groups; 200 are the most"),
    ],
)
def test_groups_that_cannot_be_compared_are_an_error(score, group, reason: str):
    with pytest.raises(InvalidArgument, match=reason):
        compare_groups(np.array(score), group)


def test_many_numbers_become_ranges_and_names_stay():
    ages = [str(age) for age in range(117)]
    labels = binned(ages)
    assert (labels[0], labels[9], labels[10], labels[116]) == ("0–9", "0–9", "10–19", "110–119")
    assert binned(["0", "1", "4"]) == ["0", "1", "4"]
    names = [f"person {number}" for number in range(50)]
    assert binned(names) == names
    shares = binned([str(number / 100) for number in range(100)])
    assert (shares[0], shares[99], len(set(shares))) == ("0–0.1", "0.9–1", 10)


@pytest.mark.parametrize("unit", ["e300", "e-250", "e-14", "e12", ".5e9"])
def test_numbers_of_any_size_become_a_dozen_ranges_at_most(unit: str):
    labels = binned([f"{number}{unit}" for number in range(100)])
    assert len(set(labels)) == 10


def test_numbers_that_are_close_for_their_size_stay_apart():
    seconds = [f"{1_700_000_000 + number / 2}" for number in range(100)]
    labels = binned(seconds)
    assert (labels[0], labels[-1]) == ("1700000000–1700000005", "1700000045–1700000050")


def test_no_value_is_no_group(tmp_path: Path):
    text(tmp_path / "people.csv", "image,age\na.jpg,3\nb.jpg,nan\nc.jpg,\nd.jpg,NaN\n")
    assert read_groups([tmp_path / "people.csv"], "age")[1] == {"a.jpg": "3"}


# The command


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty rated pictures (which nobody opens), a good and a bad scorer, pairs, and ages."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rating = generator.random(N)
    names = [f"p/{number}.jpg" for number in range(N)]
    rows = [Row(name, round(float(at), 3), "test", "human") for name, at in zip(names, rating, strict=True)]
    write_manifest(Path("m.csv"), rows)
    write_manifest(Path("bare.csv"), [Row(name) for name in names])
    for scorer, noise in (("good", 0.05), ("bad", 0.6)):
        scores = np.round(rating + noise * generator.standard_normal(N), 5)
        predictions = [Prediction(name, score=float(at)) for name, at in zip(names, scores, strict=True)]
        predictions[7] = Prediction(names[7], status="no_face")
        write_predictions(Path(f"{scorer}.csv"), predictions)
    lines = []
    for number in range(0, N - 1, 2):
        same = rating[number : number + 2].min() + 0.1 * generator.standard_normal()
        lines.append(f"{number}.jpg,{number + 1}.jpg,1,{same:.4f}")
        lines += [f"{number}.jpg,{(number + k) % N}.jpg,0,{generator.normal(0, 0.15):.4f}" for k in (3, 7, 9)]
    text(Path("pairs.csv"), "image_a,image_b,genuine,similarity\n" + "\n".join(lines) + "\n")
    people = "".join(f"{number}.jpg,{number},{'ab'[number % 2]},x\n" for number in range(N))
    text(Path("people.csv"), "image,age,gender,planet\n" + people)
    return tmp_path


def report(folder: Path) -> dict[str, Any]:
    content = (folder / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in content
    assert "Infinity" not in content
    return json.loads(content)


def clean(markdown: str) -> None:
    assert not re.search(r"\b(nan|None|inf)\b", markdown)


def test_two_scorers_are_evaluated_against_everything(world: Path, run):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    result = run(
        *("m.csv", "good.csv", "poor=bad.csv", "--pairs", "pairs.csv", "--fmr", "0.05", "-o", "out"),
        *("--group", "age", "--group", "gender", "--table", "people.csv", "--no-gallery"),
    )
    assert result.code == 0, result.err
    assert (world / "out/report.md").read_text(encoding="utf-8") == result.out
    clean(result.out)
    found = report(world / "out")
    assert [each["name"] for each in found["scorers"]] == ["good", "poor"]
    assert [each["failed"] for each in found["scorers"]] == [{"no_face": 1}] * 2
    assert found["agreement"]["pictures"] == N - 1
    good, poor = (found["agreement"]["scorers"][name]["metrics"] for name in ("good", "poor"))
    assert good["srcc"]["value"] > 0.95 > 0.7 > poor["srcc"]["value"]
    assert found["agreement"]["comparisons"][0]["difference"]["low"] > 0
    recognition = found["recognition"]
    assert (recognition["genuine"], recognition["people"]) == (N // 2, N // 2)
    assert recognition["scorers"]["good"]["area"]["value"] < recognition["chance_area"]
    assert set(found["groups"]) == {"age", "gender"}
    assert [each["name"] for each in found["groups"]["age"]["good"]["groups"]][:2] == ["0–4", "5–9"]
    page = (world / "out/report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/svg+xml;base64,') == 1 + 2 + 1 + 4
    assert not re.search(r'(src|href)="(?!data:image|#)', page)
    assert "image/jpeg" not in page
    clean(re.sub(r"<[^>]*>|base64,\S+", " ", page))


def test_numbers_are_those_of_the_metrics(world: Path, run):
    run("m.csv", "good.csv", "--no-html", "-o", "out")
    scores = read_scores(Path("good.csv"), name="good")
    known = np.isfinite(scores.score)
    rating = np.array([float(line.split(",")[1]) for line in Path("m.csv").read_text().splitlines()[1:]])
    value = report(world / "out")["agreement"]["scorers"]["good"]["metrics"]["srcc"]["value"]
    assert value == pytest.approx(srcc(scores.score[known], rating[known]), abs=1e-12)


def test_the_same_input_gives_the_same_bytes(world: Path, run):
    pytest.importorskip("matplotlib")
    for folder in ("one", "two"):
        assert run("m.csv", "good.csv", "--no-gallery", "-o", folder).code == 0
    for name in ("report.json", "report.md", "report.html"):
        assert (world / "one" / name).read_bytes() == (world / "two" / name).read_bytes()


def test_pairs_alone_and_groups_alone_need_no_ratings(world: Path, run):
    assert (
        run("bare.csv", "good.csv", "--pairs", "pairs.csv", "--fmr", "0.05", "--no-html", "-o", "a").code == 0
    )
    assert report(world / "a")["agreement"] is None
    assert (
        run("bare.csv", "good.csv", "--group", "gender", "--table", "people.csv", "--no-html", "-o", "b").code
        == 0
    )
    assert report(world / "b")["recognition"] is None


def test_baselines_and_the_gallery_look_at_the_pictures(tmp_path: Path, run, grey, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for number in range(14):
        grey(Path(f"p/{number}.png"), 10 + 15 * number)
    Path("p/3.png").write_bytes(b"<html>")
    rows = [Row(f"p/{number}.png", number / 14, "test", "human") for number in range(14)]
    write_manifest(Path("m.csv"), rows)
    result = run("m.csv", "--baseline", "brightness", "-o", "out")
    assert result.code == 0, result.err
    found = report(tmp_path / "out")
    assert found["scorers"][0]["failed"] == {"not_an_image": 1}
    assert found["agreement"]["scorers"]["brightness"]["metrics"]["srcc"]["value"] == 1
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 3 * 6
    assert "personal data" in page


IMPOSSIBLE = [
    (["bare.csv", "good.csv"], "no picture of the manifest has a rating", "--pairs", "nothing to measure by"),
    (["m.csv", "good.csv", "--probe", "m.csv"], "m.csv is no output of efiqa probe", "-o", "no probe"),
    (["m.csv"], "nothing to evaluate", "--baseline", "no scorer"),
    (["m.csv", "good.csv", "good.csv"], "two scorers are called 'good'", "NAME=FILE", "one name twice"),
    (
        ["m.csv", "other.csv"],
        "other has no row for 60 of 60 pictures",
        "--max-missing",
        "ids that do not match",
    ),
    (["tied.csv", "good.csv"], "all 59 ratings are 0.5", "rating", "tied ratings"),
    (["m.csv", "gone.csv"], "gone.csv cannot be read", "", "no such file"),
    (["m.csv", "good.csv:mos"], "no column 'mos'", "columns here", "no such column"),
    (["m.csv", "good.csv", "--split", "train"], "no rows of split train", "split", "an empty split"),
    (["bare.csv", "good.csv", "--pairs", "pairs.csv"], "cannot resolve", "impostor pairs", "a small FMR"),
    (["bare.csv", "good.csv", "--pairs", "genuine.csv"], "no impostor pairs", "genuine 0", "no impostors"),
    (["bare.csv", "good.csv", "--pairs", "impostor.csv"], "no genuine pairs", "genuine 1", "no genuine"),
    (
        ["bare.csv", "good.csv", "--pairs", "unknown.csv"],
        "1 of 1 pairs have a picture",
        "manifest",
        "strangers",
    ),
    (
        ["bare.csv", "good.csv", "--group", "planet", "--table", "people.csv"],
        "one group, 'x'",
        "two groups",
        "a single group",
    ),
    (["m.csv", "good.csv", "--group", "colour"], "no column 'colour'", "--table", "no such group column"),
    (["m.csv", "good.csv", "--table", "people.csv"], "--table says", "efiqa", "a table for no group"),
    (["m.csv", "good.csv", "--fmr", "nan"], "--fmr lies between 0 and 1, but got nan", "efiqa", "no rate"),
    (["m.csv", "good.csv", "--max-missing", "nan"], "but got nan", "efiqa", "no share"),
    (["m.csv", "good.csv", "--seed", "-1"], "--seed", "efiqa", "a seed below 0"),
    (
        ["m.csv", "failed.csv"],
        "failed has no score for any of 60 pictures: 60 no_score",
        "",
        "no score at all",
    ),
    (["m.csv", "huge.csv"], "huge has scores as large as 5.9e+306", "COLUMN", "numbers beyond squares"),
    (
        ["lost.csv", "--baseline", "laplacian"],
        "no score for any of 20 pictures: 20 not_found",
        "",
        "no files",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "reason", "hint"), [case[:3] for case in IMPOSSIBLE], ids=[case[3] for case in IMPOSSIBLE]
)
def test_what_is_impossible_is_a_sentence_and_exit_code_2(
    world: Path, run, arguments, reason: str, hint: str
):
    text(Path("other.csv"), "image,score\nelse.jpg,0.5\n")
    text(Path("tied.csv"), Path("m.csv").read_text())
    rows = [line.split(",") for line in Path("m.csv").read_text().splitlines()]
    text(
        Path("tied.csv"),
        "\n".join(",".join([row[0], "0.5" if n else "score", *row[2:]]) for n, row in enumerate(rows)),
    )
    text(Path("failed.csv"), "image,score\n" + "".join(f"p/{number}.jpg,\n" for number in range(N)))
    text(Path("huge.csv"), "image,score\n" + "".join(f"p/{number}.jpg,{number}e305\n" for number in range(N)))
    text(
        Path("lost.csv"), "image,score\n" + "".join(f"lost/{number}.jpg,0.{number}\n" for number in range(20))
    )
    header = "image_a,image_b,genuine,similarity\n"
    text(Path("genuine.csv"), header + "0.jpg,1.jpg,1,0.5\n")
    text(Path("impostor.csv"), header + "0.jpg,1.jpg,0,0.5\n")
    text(Path("unknown.csv"), header + "0.jpg,stranger.jpg,1,0.5\n")
    result = run(*arguments, "--no-html", "-o", "out")
    assert result.code == 2
    assert result.out == ""
    said = " ".join(result.err.split())
    assert reason in said
    assert "hint: " in said or not hint
    assert hint in said
    assert not (world / "out").exists()


def test_a_folder_that_cannot_be_is_an_error_before_the_work(world: Path, run):
    result = run("m.csv", "gone.csv", "--no-html", "-o", "m.csv")
    assert (result.code, result.out) == (2, "")
    assert "m.csv/report.json cannot be written" in " ".join(result.err.split())


def test_an_impossible_part_is_a_note_beside_the_possible_ones(world: Path, run):
    result = run(
        *("m.csv", "good.csv", "--pairs", "pairs.csv", "--fmr", "1e-6", "--no-html", "-o", "out"),
        *("--group", "planet", "--group", "gender", "--table", "people.csv"),
    )
    assert result.code == 0
    clean(result.out)
    notes = " ".join(report(world / "out")["notes"])
    assert "Use for recognition: 90 impostor pairs cannot resolve a false match rate of 1e-06" in notes
    assert "Groups by planet, good: all pictures are of one group, 'x'" in notes
    assert "good has no score for 1 of 60 pictures: 1 no_face." in notes


def test_constant_and_failing_scorers_stand_beside_a_good_one(world: Path, run):
    lines = [f"p/{number}.jpg,7" for number in range(N)]
    text(Path("constant.csv"), "image,score\n" + "\n".join(lines) + "\n")
    result = run(
        "m.csv", "good.csv", "constant.csv", "--pairs", "pairs.csv", "--fmr", "0.05", "-o", "out", "--no-html"
    )
    assert result.code == 0
    clean(result.out)
    found = report(world / "out")
    assert found["agreement"]["scorers"]["constant"]["metrics"] == {}
    assert found["recognition"]["scorers"]["constant"]["relative"]["value"] == pytest.approx(1, abs=1e-9)
    assert any("gives all 59 rated pictures the score 7" in note for note in found["notes"])


def test_training_rows_among_the_rated_are_pointed_out(world: Path, run):
    content = Path("m.csv").read_text().replace(",test,", ",train,", 20)
    text(Path("m.csv"), content)
    assert "so name a --split" in run("m.csv", "good.csv", "--no-html", "-o", "out").out
    result = run("m.csv", "good.csv", "--split", "test", "--no-html", "-o", "out")
    assert "name a --split" not in result.out
    assert "40 pictures of split test" in result.out


def probed(path: Path, **change: object) -> Path:
    """What efiqa probe writes of two scorers, of which the first sees every step of blur but the last."""
    step = {"kind": "blur", "means": [0.8, 0.6, 0.7], "violations": [0.0, 0.75]}
    scorer = {"name": "good 1", "faces": 40, "spread": 0.1, "severities": [0, 0.5, 1], "ladders": [step]}
    other = scorer | {
        "name": "blind",
        "spread": 0,
        "ladders": [step | {"violations": [1, 1], "kind": "dark"}],
    }
    return text(path, json.dumps({"seed": 0, "scorers": [scorer | change, other]}))


def test_ladders_show_their_order_violations_and_a_plot(world: Path, run):
    pytest.importorskip("matplotlib")
    probed(Path("probe.json"))
    result = run("bare.csv", "good.csv", "--probe", "probe.json", "--no-gallery", "-o", "out")
    assert result.code == 0, result.err
    assert "| good 1 | all steps | to 0.5 | to 1 |" in result.out
    assert "| blur | 37.5% | 0.0% | 75.0% |" in result.out
    assert "| dark | 100.0% | 100.0% | 100.0% |" in result.out
    blur = report(world / "out")["probes"][0]["ladders"][0]
    assert (blur["wrong"], blur["violations"], blur["means"]) == (0.375, [0.0, 0.75], [0.8, 0.6, 0.7])
    page = (world / "out/report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/svg+xml;base64,') == 1 + 1
    clean(result.out)


def test_what_probe_writes_is_what_evaluate_reads(tmp_path: Path):
    images = [np.full((24, 24, 3), level, np.uint8) for level in (60, 120)]
    found = [probe(name, baseline_score(name), images) for name in ("brightness", "laplacian")]
    for each in found:
        text(tmp_path / f"{each.name}.json", json.dumps(as_json([each], seed=0)))
    paths = [tmp_path / f"{each.name}.json" for each in found]
    assert read_probes(paths) == found
    with pytest.raises(RecordError, match="brightness was probed already"):
        read_probes([*paths, paths[0]])


NO_PROBES = [
    ("image,score\na.jpg,1\n", "Expecting value", "a table"),
    ("[]", "built otherwise", "a list"),
    ("{}", "'scorers' is missing", "another JSON"),
    ('{"scorers": []}', "it has no scorers", "no scorers"),
    ('{"scorers": [{"name": "report", "scored": 5}]}', "'severities' is missing", "a report.json"),
    ({"severities": [0, 0, 1]}, "severities must rise", "equal severities"),
    ({"severities": [0, 1]}, "2 severities have as many means .* blur has 3 and 2", "too few severities"),
    ({"ladders": []}, "good 1 has no ladders", "no ladders"),
    ({"spread": float("nan")}, "must be finite", "NaN"),
    ({"faces": float("inf")}, "must be finite", "an infinite number of faces"),
    ({"ladders": [{"kind": "x", "means": [1, 1, 1], "violations": [0, 2]}]}, "shares in 0–1", "no share"),
    ({"ladders": 3}, "built otherwise", "a number as ladders"),
    ("[" * 100_000, "built otherwise", "JSON without an end"),
    ({"faces": 10**400}, "built otherwise", "a number that no float holds"),
]


@pytest.mark.parametrize(
    ("content", "reason"), [case[:2] for case in NO_PROBES], ids=[case[2] for case in NO_PROBES]
)
def test_a_file_that_is_no_probe_is_an_error_that_says_why(tmp_path: Path, content, reason: str):
    path = tmp_path / "probe.json"
    text(path, content) if isinstance(content, str) else probed(path, **content)
    with pytest.raises(RecordError, match=f"is no output of efiqa probe: .*{reason}") as caught:
        read_probes([path])
    assert "efiqa probe MANIFEST" in str(caught.value.hint)
    with pytest.raises(RecordError, match="cannot be read"):
        read_probes([tmp_path])


def test_names_cannot_break_the_page_or_the_markdown(world: Path, run):
    pytest.importorskip("matplotlib")
    result = run("m.csv", "<b>|x$_$=good.csv", "--no-gallery", "-o", "out")
    assert result.code == 0, result.err
    assert r"\<b>\|x$\_$" in result.out
    assert "<b>" not in (world / "out/report.html").read_text(encoding="utf-8")


def test_a_page_without_its_libraries_is_an_error_before_the_work(world: Path, run, monkeypatch):
    monkeypatch.setattr("efiqa.report.find_spec", lambda name: None)
    result = run("m.csv", "good.csv", "-o", "out")
    assert result.code == 2
    assert 'pip install "efiqa[report]"' in result.err
    assert run("m.csv", "good.csv", "--no-html", "-o", "out").code == 0


@pytest.mark.parametrize("option", [["--baseline", "magic"], ["--split", "best"]])
def test_a_wrong_option_says_what_there_is(world: Path, run, option: list[str]):
    result = run("m.csv", "good.csv", *option, "--no-html", "-o", "out")
    assert result.code == 2
    assert "but got" in result.err


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is missing")
def test_the_shipped_baselines_say_little_about_recognition_of_video_frames(tmp_path: Path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [Row(str(path)) for path in sorted((SHARED / "ytf").iterdir())]
    write_manifest(Path("m.csv"), rows)
    result = run(
        "m.csv", "--baseline", "laplacian", "--pairs", SHARED / "ytf_pairs.csv", "--no-html", "-o", "out"
    )
    assert result.code == 0, result.err
    found = report(tmp_path / "out")["recognition"]
    assert (found["genuine"], found["people"], round(found["fnmr"], 4)) == (280, 70, 0.3857)
    assert 0.5 < found["scorers"]["laplacian"]["relative"]["value"] < 1.3
