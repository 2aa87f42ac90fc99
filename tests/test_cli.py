"""The command: data on stdout, talk on stderr, exit codes that can be relied on, no traceback."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import efiqa as package
from efiqa.cli import app, main
from efiqa.metrics import Logistic
from efiqa.records import (
    COLUMNS,
    Prediction,
    Row,
    read_manifest,
    read_predictions,
    write_manifest,
    write_predictions,
)
from efiqa.scorer import Scorer

Grey = Callable[..., Path]
VERBS = [
    *("score", "info", "index", "degrade", "label", "evaluate", "probe", "calibrate", "threshold", "drift"),
    *("train", "export", "quantize", "bench", "plan", "serve"),
]


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """The command in this process."""

    def call(*arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["efiqa", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main()
        return Result(int(caught.value.code or 0), *capsys.readouterr())

    return call


Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`photos` with levels 0, 51, 255 and a broken picture; the working folder is the one around it."""
    monkeypatch.chdir(tmp_path)
    for name, level in (("a.png", 0), ("b.png", 51), ("sub/c.png", 255)):
        grey(Path("photos") / name, level)
    Path("photos/broken.jpg").write_bytes(b"<html>")
    return Path("photos")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def says_what_is_wrong(result: Result, message: str) -> None:
    assert result.code == 2
    assert result.out == ""
    assert re.search(message, " ".join(result.err.split()))
    assert result.err.startswith("error:")
    assert "\nhint: " in result.err
    assert "Traceback" not in result.err


# score


def test_rows_are_json_lines_on_stdout_and_talk_is_on_stderr(run: Run, folder: Path, model: Path):
    result = run("score", folder, "--faces", "none", "--model", model)
    assert result.code == 0
    assert [(row["image"], row["status"], row["score"], row["quality"]) for row in result.rows] == [
        ("photos/a.png", "ok", 0.0, 0.0),
        ("photos/b.png", "ok", 0.2, 20.0),
        ("photos/broken.jpg", "not_an_image", None, None),
        ("photos/sub/c.png", "ok", 1.0, 100.0),
    ]
    assert all(tuple(row) == COLUMNS for row in result.rows)
    assert "4 rows: 3 ok, 1 not_an_image; model mean 1" in " ".join(result.err.split())


def test_quiet_says_nothing(run: Run, folder: Path, model: Path):
    result = run("score", folder, "--faces", "none", "-m", model, "-q")
    assert (len(result.rows), result.err) == (4, "")


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_an_output_file_holds_the_rows_and_stdout_nothing(run: Run, folder: Path, model: Path, ending: str):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    result = run("score", folder, "--faces", "none", "-m", model, "-o", f"out/scores{ending}")
    assert (result.code, result.out) == (0, "")
    rows = list(read_predictions(Path(f"out/scores{ending}")))
    assert [row.score for row in rows] == [0.0, 0.2, None, 1.0]
    assert left_in(Path("out")) == [f"scores{ending}"]


@pytest.mark.parametrize("options", [[], ["-o", "scores.csv"]])
def test_strict_exits_with_one_when_a_row_failed(run: Run, folder: Path, model: Path, options: list[str]):
    command = ["score", "--faces", "none", "--strict", "-m", model, *options]
    assert run(*command, folder).code == 1
    assert run(*command, folder / "sub").code == 0
    assert run(*command, "gone.jpg").code == 1


def test_without_strict_failed_rows_are_no_failure(run: Run, model: Path):
    result = run("score", "gone.jpg", "-m", model)
    assert result.code == 0
    assert [(row["image"], row["status"]) for row in result.rows] == [("gone.jpg", "not_found")]


def test_lists_tables_and_stdin_are_inputs(run: Run, folder: Path, model: Path):
    Path("list.txt").write_text("photos/a.png\nphotos/b.png\n")
    Path("photos/table.csv").write_text("image\nsub/c.png\n")
    result = run(
        "score", "list.txt", "-", "photos/table.csv", "--faces", "none", "-m", model, stdin=b"photos/b.png\n"
    )
    assert [row["score"] for row in result.rows] == [0.0, 0.2, 0.2, 1.0]


def test_names_that_are_not_utf8_print(run: Run, tmp_path: Path, grey: Grey, model: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = grey(tmp_path / "plain.png", 51).read_bytes()
    Path("f").mkdir()
    for name in (b"latin-\xff.png", b"line\nbreak.png", "😀[red].png".encode(), b"\\[bold]\\.png"):
        Path("f", os.fsdecode(name)).write_bytes(content)
    result = run("score", "f", "--faces", "none", "-m", model)
    assert [(row["image"], row["score"]) for row in result.rows] == [
        ("f/\\[bold]\\.png", 0.2),
        (r"f/latin-\xff.png", 0.2),
        ("f/line\nbreak.png", 0.2),
        ("f/😀[red].png", 0.2),
    ]


BAD_SCORE = [
    (["photos", "--resume"], "--resume needs -o", "nothing to resume"),
    (["photos", "--colour"], "No such option", "an unknown option"),
    ([], "Missing argument", "no input"),
    (["photos", "--faces", "both"], "'?both'?", "an unknown choice"),
    (["photos", "--workers", "0"], "--workers", "no worker"),
    (["photos", "--threads", "0"], "--threads", "no thread"),
    (["photos", "--threads", "many"], "--threads", "a word for a number"),
    (["photos", "-o", "scores.xlsx"], "expected a name ending in .csv", "an unknown ending"),
    (["photos", "-o", "scores"], "expected a name ending in .csv", "no ending"),
    (["photos", "-o", "photos/a.png/scores.csv"], "cannot be written", "a file for a folder"),
    (["photos", "-o", "folder.csv"], "is a folder", "a folder for a file"),
    (["gone.txt"], "gone.txt cannot be read", "a list that is not there"),
    (["gone.csv"], "gone.csv cannot be read", "a table that is not there"),
    (["photos", "--model", "gone.onnx"], "there is no model", "a model that is not there"),
    (["photos", "--model", "photos/a.png"], "is not a model", "a picture as the model"),
    (["photos", "--detector", "eyes"], "unknown detector 'eyes'", "an unknown detector"),
    (["photos", "--views", "flip,blur"], "unknown view 'blur'.*flip, shift, scale", "an unknown view"),
    (["photos", "--views", "flip,"], "unknown view ''", "a comma too many"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [case[:2] for case in BAD_SCORE], ids=[case[2] for case in BAD_SCORE]
)
def test_a_mistake_is_a_sentence_with_a_hint_and_exit_two(
    run: Run, folder: Path, model: Path, arguments: list[str], message: str
):
    Path("folder.csv").mkdir()
    before = sorted(str(path) for path in Path().rglob("*"))
    says_what_is_wrong(run("score", "-m", model, *arguments), message)
    assert sorted(str(path) for path in Path().rglob("*")) == before


def test_views_add_a_spread(run: Run, folder: Path, model: Path):
    command = ["score", folder / "b.png", "--faces", "none", "-m", model]
    assert ["spread" in row for row in run(*command).rows] == [False]
    assert [(row["score"], row["spread"]) for row in run(*command, "--views", "flip, scale").rows] == [
        (0.2, 0.0)
    ]


def test_a_job_goes_on_only_with_the_views_it_began_with(run: Run, folder: Path, model: Path):
    command = ["score", folder / "b.png", "--faces", "none", "-m", model, "-o", "scores.csv", "--resume"]
    opened = Scorer(model).opened
    job = {"model": f"mean@{opened.digest}", "faces": "none", "detector": "blazeface"}
    job["runtime"] = [opened.runtime, opened.precision]
    for begun, views, others in (
        ({}, [], ["--views", "flip"]),  # as before there were views
        ({"views": None}, [], ["--views", "flip"]),
        ({"views": "flip,scale"}, ["--views", "flip,scale"], []),
    ):
        journal = json.dumps({"job": {**job, "efiqa": package.__version__, **begun}}) + "\n"
        Path(".scores.csv.journal").write_text(journal)
        says_what_is_wrong(run(*command, *others), "is of another job: views differ")
        assert run(*command, *views).code == 0


def test_a_wrong_choice_does_not_cost_the_journal(run: Run, folder: Path, model: Path):
    Path(".scores.csv.journal").write_text("hours of work")
    says_what_is_wrong(run("score", folder, "-m", model, "-o", "scores.csv", "--faces", "both"), "both")
    assert Path(".scores.csv.journal").read_text() == "hours of work"


def test_an_interrupted_job_says_how_to_go_on(tmp_path: Path, grey: Grey, model: Path):
    path, journal = grey(tmp_path / "a.png", 51), tmp_path / ".scores.csv.journal"
    # Tests that run in the background inherit that Ctrl-C is ignored.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{heard}; from efiqa.cli import main; main()"
    command = [sys.executable, "-c", program, "score", "-", "--faces", "none"]
    command += ["-m", str(model), "-o", str(tmp_path / "scores.csv")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(os.fsencode(path) + b"\n")
        process.stdin.flush()
        while process.poll() is None and not journal.exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read().decode()
    assert process.returncode == 130
    assert re.match(r"error: interrupted\nhint: .*--resume", errors)
    assert left_in(tmp_path) == [".scores.csv.journal", "a.png"]


def test_an_interruption_while_a_library_loads_is_one_too(command: Callable[..., Any], monkeypatch):
    def loading(**options: object) -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("efiqa.cli.app", loading)
    result = command("calibrate", "scores.csv")
    assert (result.code, result.err.startswith("error: interrupted")) == (130, True)


def test_a_closed_pipe_is_no_error(tmp_path: Path, model: Path):
    (tmp_path / "list.txt").write_text("".join(f"gone-{index}.jpg\n" for index in range(5000)))
    command = [sys.executable, "-c", "from efiqa.cli import main; main()"]
    command += ["score", str(tmp_path / "list.txt"), "-m", str(model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["image"] == "gone-0.jpg"
        process.stdout.close()  # as head does
        errors = process.stderr.read()
    assert process.returncode == 0
    assert errors == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_pipe_is_utf8_whatever_the_locale(
    tmp_path: Path, grey: Grey, model: Path, efiqa: Callable[..., Any], encoding: str
):
    path = grey(tmp_path / "żółć 😀.png", 51)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    result = efiqa("score", path, "gone-😀.png", "--faces", "none", "-m", model, env=environment)
    assert result.returncode == 0
    rows = [json.loads(line) for line in result.stdout.decode("utf-8").splitlines()]
    assert [row["image"] for row in rows] == [str(path), "gone-😀.png"]
    assert b"Traceback" not in result.stderr


def test_the_exit_code_and_streams_of_the_real_command(
    tmp_path: Path, grey: Grey, model: Path, efiqa: Callable[..., Any]
):
    grey(tmp_path / os.fsdecode(b"\xff.png"), 51)
    good = efiqa("score", tmp_path, "--faces", "none", "-m", model)
    assert good.returncode == 0
    assert json.loads(good.stdout)["image"].endswith(r"\xff.png")
    assert good.stderr.startswith(b"1 rows: 1 ok")
    strict = efiqa("score", tmp_path / "gone.png", "-m", model, "--strict", stdin=subprocess.DEVNULL)
    assert strict.returncode == 1
    usage = efiqa("score", tmp_path, "--resume")
    assert (usage.returncode, usage.stdout) == (2, b"")
    assert b"Traceback" not in usage.stderr


def test_standard_input_may_be_closed(tmp_path: Path, grey: Grey, model: Path, efiqa: Callable[..., Any]):
    path = grey(tmp_path / "a.png", 51)
    closed = "import sys; sys.stdin = None"  # as Python finds it after <&-
    result = efiqa("score", path, "--faces", "none", "-m", model, before=closed)
    assert (result.returncode, json.loads(result.stdout)["score"]) == (0, 0.2)
    listed = efiqa("score", "-", "-m", model, before=closed)
    assert (listed.returncode, b"no standard input" in listed.stderr) == (2, True)


def test_a_terminal_shows_a_table_and_a_bar(tmp_path: Path, grey: Grey, model: Path):
    pty = pytest.importorskip("pty")
    grey(tmp_path / "a[b].png", 51)
    grey(tmp_path / "c\\[" / "bold].png", 51)  # with the folder, this is c\[/bold].png
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from efiqa.cli import main; main()", "score", str(tmp_path)]
    command += ["--faces", "none", "-m", str(model)]
    environment = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how a closed terminal ends on Linux
            pass
    os.close(ours)
    assert process.returncode == 0
    for word in (
        b"image",
        b"status",
        b"quality",
        b"a[b].png",
        b"c\\[/bold].png",
        b"0.200",
        b"20",
        b"scoring",
        b"2 rows: 2 ok",
    ):
        assert word in shown


# info, --help, --version


def test_info_prints_the_card(run: Run, model: Path, card):
    result = run("info", model)
    assert (result.code, result.err) == (0, "")
    for word in ("mean 1", "32 px", "grey pictures", "Apache-2.0", "nominally 0–1"):
        assert word in result.out


def test_info_json_is_the_card(run: Run, model: Path, card):
    result = run("info", model, "--json")
    assert (result.code, result.out, result.err) == (0, card.to_json(), "")


def test_info_of_no_model_is_an_error(run: Run, tmp_path: Path):
    says_what_is_wrong(run("info", tmp_path / "gone.onnx"), "there is no model")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run: Run, verb: str):
    result = run(verb, "--help")
    assert (result.code, result.err) == (0, "")
    assert verb in result.out


def test_help_names_every_verb_and_no_argument_is_help(run: Run):
    assert run("--help").code == 0
    for arguments in (["--help"], []):
        result = run(*arguments)
        shown = result.out + result.err
        assert all(verb in shown for verb in VERBS)
        assert "Traceback" not in shown
        assert not shown.startswith("error:")


def test_the_document_of_the_command_names_every_verb():
    document = (Path(__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", document, re.MULTILINE)
    assert (
        sorted(named)
        == sorted(VERBS)
        == sorted(each.callback.__name__ for each in app.registered_commands if each.callback)
    )


def test_version_is_printed(run: Run):
    assert run("--version") == (0, f"{package.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["scroe"], ["--colour"], ["info", "a", "b"]])
def test_a_mistyped_command_is_a_sentence_with_a_hint(run: Run, arguments: list[str]):
    says_what_is_wrong(run(*arguments), "No such|unexpected")


# index and label


def test_index_score_label_is_a_chain_of_files(run: Run, folder: Path, model: Path):
    (folder / "broken.jpg").unlink()
    assert run("index", folder, "-o", "manifest.csv", "--validation", "0.5").code == 0
    assert run("score", "manifest.csv", "--faces", "none", "-m", model, "-o", "scores.csv").code == 0
    Path("scores.csv").write_text(Path("scores.csv").read_text() + "photos/x.png,0,no_face,,,,,,,,no face\n")
    result = run("label", "scores.csv", "-m", model, "--manifest", "manifest.csv", "-o", "labels.csv")
    assert (result.code, result.out) == (0, "")
    assert "3 rows, 1 left out as no_face → labels.csv" in result.err
    indexed, labelled = read_manifest(Path("manifest.csv")), read_manifest(Path("labels.csv"))
    assert [row.score for row in labelled] == [0.0, 0.2, 1.0]
    assert [(row.image, row.split, row.group) for row in labelled] == [
        (row.image, row.split, row.group) for row in indexed
    ]
    assert {row.source for row in labelled} == {"mean@1"}
    assert {row.weight for row in labelled} == {1.0}


def write_scores(name: str, *scores: float, spread: float | None = None) -> str:
    write_predictions(
        Path(name),
        (Prediction(f"{index}.png", score=score, spread=spread) for index, score in enumerate(scores)),
        more=["spread"],
    )
    return name


@pytest.fixture
def label_two(run: Run, tmp_path: Path, model: Path, other_model: Path, monkeypatch: pytest.MonkeyPatch):
    """`label` for the scores of two models: 0.2 0.4 0.6 0.8 and 0.2 0.6 0.7 0.9."""
    monkeypatch.chdir(tmp_path)
    files = write_scores("a.csv", 0.2, 0.4, 0.6, 0.8), write_scores("b.csv", 0.2, 0.6, 0.7, 0.9)

    def call(*options: object) -> Result:
        return run("label", *files, "-m", model, "-m", other_model, "-o", "labels.csv", *options)

    return call


def test_several_models_label_together(label_two: Run):
    result = label_two()
    assert (result.code, result.out) == (0, "")
    rows = read_manifest(Path("labels.csv"))
    assert [row.score for row in rows] == pytest.approx([0.2, 0.5, 0.65, 0.85])
    assert {(row.source, row.weight) for row in rows} == {("mean@1+half@1", 1.0)}


def test_doubtful_labels_weigh_less_and_the_most_doubtful_are_dropped(label_two: Run):
    result = label_two("--confidence", "weight", "--keep", "0.75")
    assert "3 rows, 1 dropped for their disagreement → labels.csv" in " ".join(result.err.split())
    rows = read_manifest(Path("labels.csv"))
    # d is 0, 0.1, 0.05, 0.05; its median 0.05.
    assert [row.image for row in rows] == ["0.png", "2.png", "3.png"]
    assert [row.weight for row in rows] == pytest.approx([1, 0.5, 0.5])


def write_ratings(labels: list[float], validation: float) -> None:
    rows = [Row(f"{index}.png", label, "train", "human") for index, label in enumerate(labels)]
    held_out = [Row(f"{index}.png", validation, "validation", "human") for index in range(90, 99)]
    write_manifest(Path("ratings.csv"), [*rows, *held_out])


def test_scores_are_calibrated_to_human_training_labels_and_the_fit_is_told(
    run: Run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    truth = Logistic(0.1, 0.9, 0.5, 6.0)
    scores = [index / 99 for index in range(100)]
    write_scores("rated.csv", *scores)
    command = ["label", write_scores("a.csv", 0.2, 0.5), "-m", model, "-o", "labels.csv"]
    told = []
    for validation in (0.0, 1.0):
        write_ratings([float(truth(score)) for score in scores[:90]], validation)
        result = run(*command, "--ratings", "ratings.csv", "--rated", "rated.csv")
        assert result.code == 0
        told.append(result.err)
        labels = [row.score for row in read_manifest(Path("labels.csv"))]
        assert labels == pytest.approx([float(truth(0.2)), 0.5], abs=1e-6)
    assert re.search(
        r"calibration: logistic fitted on 90 training rows of rated.csv, RMSE 0.\d+ → 0.0000", told[0]
    )
    assert told[0] == told[1]


def test_a_calibration_that_cannot_be_fitted_is_the_identity_aloud(
    run: Run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_scores("rated.csv", *(index / 50 for index in range(50)))
    command = ["label", write_scores("a.csv", 0.2, 0.5), "-m", model, "-o", "labels.csv"]
    command += ["--ratings", "ratings.csv", "--rated", "rated.csv"]
    for labels, reason in (
        ([1 - index / 50 for index in range(50)], "increases"),
        ([0.1, 0.2], "at least 10"),
    ):
        write_ratings(labels, 0.5)
        result = run(*command)
        assert result.code == 0
        assert re.search(f"calibration: identity, because .*{reason}.*: rated.csv", result.err)
        assert [row.score for row in read_manifest(Path("labels.csv"))] == [0.2, 0.5]


def test_models_that_look_at_other_squares_do_not_label_together(
    run: Run,
    tmp_path: Path,
    make_model: Callable[..., Path],
    model: Path,
    card,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    wide = make_model(
        tmp_path / "w.onnx", metadata=json.dumps({**json.loads(card.to_json()), "crop_scale": 3.0})
    )
    files = [write_scores("a.csv", 0.2), write_scores("b.csv", 0.4)]
    says_what_is_wrong(
        run("label", *files, "-m", model, "-m", wide, "-o", "out.csv"), r"crop_scale \[1.0, 3.0\]"
    )
    assert not Path("out.csv").exists()


BAD_LABEL = [
    (["a.csv", "a.csv"], "2 files of predictions need as many --model", "more files than models"),
    (["a.csv", "-m", "MODEL"], "1 files of predictions need as many --model", "more models than files"),
    (["a.csv", "b.csv", "-m", "MODEL"], "row 2 of a.csv and of b.csv .* ends before", "other pictures"),
    (["a.csv", "--ratings", "m.csv"], "--ratings and --rated go together", "ratings of nothing"),
    (["a.csv", "--rated", "a.csv"], "--ratings and --rated go together", "rated by nobody"),
    (["a.csv", "--ratings", "m.csv", "--rated", "a.csv"], "no rated prediction", "no human labels"),
    (["a.csv", "--confidence", "weight"], "nothing says how sure .* --views", "one model without views"),
    (["a.csv", "--keep", "0.5"], "nothing says how sure .* --views", "one model without views, keep"),
    (["a.csv", "--keep", "0"], "keep must be above 0", "nothing to keep"),
    (["a.csv", "--keep", "1.5"], "--keep", "more than all"),
    (["a.csv", "--confidence", "much"], "'?much'?", "an unknown choice"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [case[:2] for case in BAD_LABEL], ids=[case[2] for case in BAD_LABEL]
)
def test_mistakes_of_label_leave_no_output(
    run: Run, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    write_scores("a.csv", 0.2, 0.4)
    write_scores("b.csv", 0.2)
    write_manifest(Path("m.csv"), [Row("0.png", 0.5, "train", "teacher@1")])
    words = [str(model) if word == "MODEL" else word for word in arguments]
    says_what_is_wrong(run("label", *words, "-m", model, "-o", "out.csv"), message)
    assert left_in(Path()) == ["a.csv", "b.csv", "m.csv"]


BAD_OTHERS = [
    (["index", "photos/none"], "none", "no such folder"),
    (["index", "ratings.csv", "--score", "mos"], "line 2: .*0–1, but got 3", "no range"),
    (["index", "ratings.csv", "--score", "mos", "--range", "1", "1"], "rise", "an empty range"),
    (["index", "ratings.csv", "--score", "stars"], "line 2: no value in column 'stars'", "no such column"),
    (["index", "ratings.csv", "--group-pattern", "("], "no regular expression", "a broken pattern"),
    (["index", "ratings.csv", "--validation", "2"], "--validation", "a share above 1"),
    (["label", "ratings.csv", "-m", "gone.onnx"], "there is no model", "no such model"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), [case[:2] for case in BAD_OTHERS], ids=[case[2] for case in BAD_OTHERS]
)
def test_mistakes_of_other_verbs_leave_no_output(run: Run, folder: Path, arguments: list[str], message: str):
    Path("ratings.csv").write_text("image,mos\nphotos/a.png,3\n")
    says_what_is_wrong(run(*arguments, "-o", "out.csv"), message)
    assert left_in(Path()) == ["photos", "ratings.csv"]
