"""A policy decides what its file says, gives its reasons, and is refused for numbers that are not its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import efiqa as package
from efiqa.attributes import ADVICE, Attributes
from efiqa.calibrate import Calibration, Link, population_id, write_calibration
from efiqa.card import Interval, ModelCard, Population
from efiqa.errors import ModelError, RecordError
from efiqa.policy import Policy, bind, decide, read_policy, shipped_policies, write_policy
from efiqa.records import Prediction, read_predictions
from efiqa.scorer import Scorer

Command = Callable[..., Any]
BAND = Policy("band", "mean@1", "d", "score", 0.4, 0.6)
SURE = replace(BAND, coverage=0.5)
GREY = Population("grey pictures", 101, tuple(percent / 100 for percent in range(101)))


def ok(score: float, **fields: Any) -> Prediction:
    return Prediction("a.jpg", score=score, quality=round(100 * score, 1), **fields)


@pytest.mark.parametrize(
    ("policy", "row", "expected"),
    [
        (BAND, ok(0.39999), ("reject", ("score",))),
        (BAND, ok(0.4), ("review", ("score",))),
        (BAND, ok(0.59999), ("review", ("score",))),
        (BAND, ok(0.6), ("accept", ())),
        (BAND, Prediction("a.jpg", status="no_face"), ("reject", ("no_face",))),
        (BAND, Prediction("a.jpg", status="corrupt"), ("reject", ("corrupt",))),
        (replace(BAND, on="quality", reject_below=50, accept_from=50, population="p"), ok(0.499),
         ("reject", ("quality",))),
        (SURE, ok(0.7, low=0.6, high=0.8), ("accept", ())),
        (SURE, ok(0.7, low=0.59, high=0.81), ("review", ("interval",))),
        (SURE, ok(0.3, low=0.2, high=0.39), ("reject", ("score",))),
        (SURE, ok(0.3, low=0.2, high=0.4), ("review", ("interval",))),
        (SURE, ok(0.5, low=0.4, high=0.6), ("review", ("score",))),
        (SURE, ok(0.7), ("accept", ())),  # a model without intervals
        (BAND, ok(0.7, low=0.1, high=0.9), ("accept", ())),  # asked for by --intervals, not by the policy
    ],
)  # fmt: skip
def test_decisions_by_number(policy: Policy, row: Prediction, expected: tuple[str, tuple[str, ...]]):
    assert decide(policy, row) == expected


def test_ends_of_an_interval_are_percentiles_where_quality_decides():
    policy = replace(SURE, on="quality", reject_below=20, accept_from=20, population="p")
    row = Prediction("a.jpg", score=0.5, quality=25.0, low=0.45, high=0.55)
    assert decide(policy, row, quality=lambda score: 100 * score**2)[0] == "accept"  # 20.25
    assert decide(policy, row, quality=lambda score: 100 * score**2 - 1)[0] == "review"


@pytest.mark.parametrize(
    ("least", "attributes", "score", "expected"),
    [
        ({"sharpness": 30}, Attributes(sharpness=29.9), 0.9, ("reject", ("sharpness",))),
        ({"sharpness": 30}, Attributes(sharpness=30), 0.9, ("accept", ())),
        ({"sharpness": 30}, Attributes(), 0.9, ("accept", ())),
        ({"sharpness": 30}, None, 0.9, ("accept", ())),
        ({}, Attributes(sharpness=1), 0.9, ("accept", ())),
        ({"sharpness": 30, "noise": 60}, Attributes(sharpness=20, noise=10), 0.9,
         ("reject", ("noise", "sharpness"))),
        ({"exposure": 30}, Attributes(exposure=20), 0.9, ("reject", ("dark",))),
        ({"exposure": 30}, Attributes(exposure=20, overexposed=True), 0.9, ("reject", ("bright",))),
        ({"sharpness": 30}, Attributes(sharpness=20, noise=40, tilt=60), 0.3,
         ("reject", ("score", "sharpness", "noise"))),
        ({}, Attributes(noise=40, sharpness=49), 0.5, ("review", ("score", "noise", "sharpness"))),
        ({"sharpness": 30}, Attributes(sharpness=20), 0.5, ("reject", ("sharpness",))),
    ],
)  # fmt: skip
def test_decisions_by_attributes(
    least: dict[str, float],
    attributes: Attributes | None,
    score: float,
    expected: tuple[str, tuple[str, ...]],
):
    assert decide(replace(BAND, attributes=least), ok(score), attributes) == expected


def test_a_row_without_the_number_is_an_error():
    policy = replace(BAND, on="quality", population="p")
    with pytest.raises(ModelError, match=r"a.jpg has no quality, which the policy band is on"):
        decide(policy, Prediction("a.jpg", score=0.5))


# Files

FULL = Policy(
    'a "quoted" \\ name',
    "mean@1",
    "0123456789ab",
    "quality",
    12.5,
    40.0,
    "grey #1",
    0.5,
    "Two\nlines, – and\ttabs.",
    {"sharpness": 30.0, "tilt": 10.0},
    {"target": "discard 0.1", "n": 100, "rate_interval": [0.05, 0.15], "inner": {"a": True}},
)


@pytest.mark.parametrize("policy", [FULL, BAND, SURE])
def test_a_policy_is_what_was_written(tmp_path: Path, policy: Policy):
    write_policy(tmp_path / "p.toml", policy)
    assert read_policy(tmp_path / "p.toml") == policy


GOOD = 'name = "p"\nmodel = "mean@1"\ndigest = "d"\non = "score"\nreject_below = 0.4\naccept_from = 0.6\n'


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            GOOD.replace("accept_from", "accept_form"),
            "unknown key 'accept_form'",
            "did you mean 'accept_from'",
        ),
        (GOOD + "[attributes]\nsharpnes = 3\n", "unknown attribute 'sharpnes'", "did you mean 'sharpness'"),
        (GOOD + "[attributes]\nzzz = 3\n", "unknown attribute 'zzz'", "there are resolution, sharpness"),
        (GOOD + '[attributes]\nnoise = "3"\n', r"attributes\.noise must be float, but got '3'", None),
        (GOOD + "[attributes]\nnoise = 101\n", r"attributes\.noise must be in 0–100, but got 101", None),
        (GOOD.replace("reject_below = 0.4\n", ""), "'reject_below' is missing", None),
        (GOOD.replace("0.4", "0.7"), "accept_from must be reject_below or more, but got 0.6", None),
        (GOOD.replace("0.4", "nan"), "must be finite", None),
        (GOOD.replace("0.4", "true"), "reject_below must be float, but got True", None),
        (GOOD.replace("score", "rank"), "on must be .*score.*quality.*, but got 'rank'", None),
        (GOOD.replace("score", "quality"), "population must be what quality is relative to", None),
        (GOOD + 'population = "p"\n', "population must be", None),
        (GOOD + "coverage = 90\n", "coverage must be between 0 and 1, but got 90", None),
        (GOOD.replace('"p"', "p"), "Invalid", "in quotes"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str, message: str, hint: str | None):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        read_policy(tmp_path / "p.toml")
    assert (hint or "") in (caught.value.hint or "")


def test_a_name_that_is_none_names_the_nearest():
    with pytest.raises(RecordError, match="there is no policy enrollment") as caught:
        read_policy("enrollment")
    assert caught.value.hint == "did you mean 'enrolment'?"
    with pytest.raises(RecordError, match="cannot be read"):
        read_policy("gone.toml")
    with pytest.raises(RecordError, match="there is no policy ''"):
        read_policy("")


# Whose policy it is


def test_another_model_and_another_file_of_the_same_name_are_refused(card: ModelCard):
    assert bind(BAND, card, "d") == BAND
    for other, digest in ((replace(card, version="2"), "d"), (replace(card, name="half"), "d"), (card, "e")):
        with pytest.raises(ModelError, match="the policy band is of mean@1") as caught:
            bind(BAND, other, digest)
        assert "efiqa threshold" in str(caught.value.hint)


def test_quality_of_another_population_is_refused(card: ModelCard):
    policy = replace(BAND, on="quality", population=population_id(GREY))
    assert bind(policy, card, "d") == policy
    desk = Calibration("mean@1", "d", replace(GREY, name="desk"))
    with pytest.raises(ModelError, match="but here it is relative to desk #"):
        bind(policy, card, "d", desk)
    with pytest.raises(ModelError, match="relative to nothing: the model has no population"):
        bind(policy, replace(card, population=None), "d")
    assert bind(replace(policy, population=population_id(desk.population)), card, "d", desk)


def test_an_old_models_policy_holds_for_a_linked_one(card: ModelCard):
    new = replace(card, name="half")
    link = Link("mean@1", "d", 100, (0.0, 0.5), (0.0, 1.0))
    linked = Calibration("half@1", "e", GREY, link)
    bound = bind(BAND, new, "e", linked)
    assert (bound.reject_below, bound.accept_from) == pytest.approx((0.2, 0.3))
    on_quality = replace(BAND, on="quality", reject_below=40, accept_from=60, population=population_id(GREY))
    assert bind(on_quality, new, "e", linked) == on_quality
    own = replace(BAND, model="half@1", digest="e")
    assert bind(own, new, "e", linked) == own
    with pytest.raises(ModelError, match="the policy band is of third@1"):
        bind(replace(BAND, model="third@1"), new, "e", linked)


def test_a_coverage_that_the_model_has_not_is_refused_and_no_intervals_at_all_are_not(card: ModelCard):
    has = replace(card, interval=Interval("it", 100, (0.9,), (), ((0.1,),), (0.9,)))
    assert bind(SURE, card, "d") == SURE
    with pytest.raises(ModelError, match=r"the policy band: the model has no intervals of coverage 0\.5"):
        bind(SURE, has, "d")


# efiqa score --policy


@pytest.fixture
def levels(tmp_path: Path, grey: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for level in (0, 102, 127, 153, 255):  # scores 0, 0.4, 0.498, 0.6, 1
        grey(Path("p") / f"{level:03}.png", level)
    (tmp_path / "p" / "broken.jpg").write_bytes(b"<html>")
    return Path("p")


def decided(path: str) -> list[tuple[str | None, str | None]]:
    return [(row.decision, (row.reasons or "").split(";")[0]) for row in read_predictions(Path(path))]


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_every_row_has_a_decision_and_reasons(command: Command, levels: Path, model: Path, ending: str):
    write_policy(Path("p.toml"), replace(BAND, digest=Scorer(model).digest))
    score = ["score", levels, "--faces", "none", "-m", model, "--policy", "p.toml", "-o", f"d{ending}"]
    assert command(*score).code == 0
    assert decided(f"d{ending}") == [
        ("reject", "score"),
        ("review", "score"),
        ("review", "score"),
        ("accept", ""),
        ("accept", ""),
        ("reject", "not_an_image"),
    ]


def test_an_interval_across_the_threshold_is_reviewed(
    command: Command, levels: Path, make_model: Any, card: ModelCard
):
    interval = Interval("it", 100, (0.5, 0.9), (), ((0.1,), (0.3,)), (0.5, 0.9))
    model = make_model(Path("m.onnx"), metadata=replace(card, interval=interval).to_json())
    policy = replace(BAND, digest=Scorer(model).digest, reject_below=0.45, accept_from=0.45, coverage=0.5)
    write_policy(Path("p.toml"), policy)
    score = ["score", levels, "--faces", "none", "-m", model, "--policy", "p.toml"]
    assert command(*score, "-o", "d.csv").code == 0
    found = [
        ("reject", "score"),
        ("review", "interval"),
        ("review", "interval"),
        ("accept", ""),
        ("accept", ""),
    ]
    assert decided("d.csv")[:5] == found
    rows = list(read_predictions(Path("d.csv")))
    assert (rows[1].low, rows[1].high) == pytest.approx((0.3, 0.5))
    # --intervals asks for 90 %, the policy for 50 %: the policy's are what it decides by.
    assert command(*score, "--intervals", "-o", "i.csv").code == 0
    assert decided("i.csv")[:5] == found


def test_a_policy_without_a_name_is_not_left_out_silently(command: Command, levels: Path, model: Path):
    result = command("score", levels, "--faces", "none", "-m", model, "--policy", "")
    assert (result.code, result.out) == (2, "")
    assert "there is no policy ''" in result.err


def test_a_policy_that_wants_intervals_says_that_there_are_none(command: Command, levels: Path, model: Path):
    write_policy(Path("p.toml"), replace(SURE, digest=Scorer(model).digest))
    result = command("score", levels, "--faces", "none", "-m", model, "--policy", "p.toml")
    assert result.code == 0
    assert "the model's card has no intervals: nothing is reviewed for that" in result.err


def test_an_old_policy_decides_alike_through_a_link(
    command: Command, levels: Path, model: Path, other_model: Path
):
    write_policy(Path("p.toml"), replace(BAND, digest=Scorer(model).digest))
    link = Link("mean@1", Scorer(model).digest, 100, (0.0, 0.5), (0.0, 1.0))
    write_calibration(Path("l.json"), Calibration("half@1", Scorer(other_model).digest, GREY, link))
    score = ["score", levels, "--faces", "none", "--policy", "p.toml"]
    assert command(*score, "-m", model, "-o", "old.csv").code == 0
    assert command(*score, "-m", other_model, "--calibration", "l.json", "-o", "new.csv").code == 0
    assert [row[0] for row in decided("new.csv")] == [row[0] for row in decided("old.csv")]
    refused = command(*score, "-m", other_model)
    assert (refused.code, "the policy band is of mean@1" in refused.err) == (2, True)
    assert "hint: find this model's thresholds with efiqa threshold" in refused.err


def test_a_job_goes_on_only_with_the_policy_it_began_with(command: Command, levels: Path, model: Path):
    write_policy(Path("p.toml"), replace(BAND, digest=Scorer(model).digest))
    score = ["score", levels, "--faces", "none", "-m", model, "-o", "d.csv", "--resume"]
    opened = Scorer(model).opened
    job = {"model": f"mean@{opened.digest}", "faces": "none", "detector": "blazeface"}
    job["runtime"] = [opened.runtime, opened.precision]
    job["efiqa"] = package.__version__
    Path(".d.csv.journal").write_text(json.dumps({"job": job}) + "\n")
    result = command(*score, "--policy", "p.toml")
    assert (result.code, "is of another job: policy differ" in result.err) == (2, True)


# The policies that ship


@pytest.mark.parametrize("name", ["curation", "enrolment", "kiosk", "profile"])
def test_a_shipped_policy_is_of_the_shipped_model_and_says_what_it_rests_on(name: str):
    policy = read_policy(name)
    scorer = Scorer()
    assert policy.name == name
    assert (policy.model, policy.digest) == (scorer.card.source, scorer.digest), (
        "make them for the new student: python recipes/policies.py"
    )
    bind(policy, scorer.card, scorer.digest)
    assert policy.about
    basis = policy.basis
    assert basis["accepted"] + basis["reviewed"] + basis["rejected"] == pytest.approx(1, abs=0.002)
    assert basis["n"] >= 1000
    assert {"target", "measured_on", "date", "note"} <= set(basis)
    # Quality is a percentile of what the policy was measured on.
    assert basis["rejected"] >= basis["rejected_by_quality"]


def test_there_are_these_policies_and_no_others():
    assert sorted(shipped_policies()) == ["curation", "enrolment", "kiosk", "profile"]
    assert all(set(read_policy(name).attributes) <= set(ADVICE) for name in shipped_policies())


def test_a_shipped_policy_decides_by_name(command: Command, tmp_path: Path):
    portrait = Path(__file__).parents[1] / "examples" / "samples" / "astronaut.jpg"
    result = command("score", portrait, "--faces", "largest", "--policy", "kiosk", "-o", tmp_path / "d.csv")
    assert result.code == 0
    (row,) = read_predictions(tmp_path / "d.csv")
    policy = read_policy("kiosk")
    assert (row.decision == "reject") == bool(row.reasons)
    assert row.quality is not None
    if row.quality < policy.reject_below:
        assert row.decision == "reject"
    assert dataclasses.asdict(row)["decision"] in ("accept", "reject")
