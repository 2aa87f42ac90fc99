"""Two samples are compared as scipy and the literature do, and the verdict asks for more than chance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import efiqa
from efiqa.drift import difference_interval, drift, kolmogorov_smirnov, psi, wilson
from efiqa.errors import InvalidArgument
from efiqa.policy import Policy, write_policy
from efiqa.records import Prediction, read_predictions, write_predictions
from efiqa.scorer import Scorer

Command = Callable[..., Any]


def normal(n: int, seed: int, centre: float = 0.0, digits: int = 5) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(centre, 1, n), digits)


def test_psi_of_shares_worked_out_by_hand():
    # The median of the reference is 50: half below it, a quarter of the new. With half a score added to each
    # of the two bins p = 25.5 / 101 and q = 50.5 / 101.
    reference = np.concatenate((np.arange(50), np.arange(51, 101)))
    new = np.concatenate((np.arange(25), np.full(75, 60)))
    p, q = 25.5 / 101, 50.5 / 101
    by_hand = (p - q) * np.log(p / q) + (q - p) * np.log((1 - p) / (1 - q))
    assert psi(new, reference, bins=2) == pytest.approx(by_hand, abs=1e-12)


def test_psi_of_the_same_scores_is_0_and_of_others_finite():
    assert psi(normal(500, 0), normal(500, 0)) == 0
    assert 5 < psi(normal(500, 0, 100), normal(500, 1)) < 20


def test_psi_grows_with_the_shift_and_chance_alone_gives_what_the_docstring_says():
    shifts = [psi(normal(5000, 1, shift), normal(5000, 2)) for shift in (0.0, 0.2, 0.5, 1.0)]
    assert shifts == sorted(shifts)
    chance = np.mean([psi(normal(200, seed), normal(300, 1000 + seed)) for seed in range(200)])
    assert chance == pytest.approx(9 * (1 / 200 + 1 / 300), rel=0.1)


@pytest.mark.parametrize("digits", [5, 1])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1, 0.3, 3.0])
@pytest.mark.parametrize(("n", "m"), [(100, 100), (150, 4000), (3000, 2500)])
def test_kolmogorov_smirnov_is_that_of_scipy(n: int, m: int, shift: float, digits: int):
    new, reference = normal(n, 3, shift, digits), normal(m, 4, 0, digits)
    distance, p = kolmogorov_smirnov(new, reference)
    expected = scipy.stats.ks_2samp(new, reference, method="asymp")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=0.05, abs=1e-4)


def test_equal_samples_have_p_of_1():
    assert kolmogorov_smirnov(normal(200, 0), normal(200, 0)) == (0.0, 1.0)


@pytest.mark.parametrize(("count", "n"), [(0, 100), (5, 100), (50, 100), (100, 100), (3, 100_000)])
def test_wilson_is_that_of_scipy(count: int, n: int):
    expected = scipy.stats.binomtest(count, n).proportion_ci(method="wilson")
    assert wilson(count, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_difference_interval_is_newcombes_example():
    # Newcombe 1998, table II, case (a), method 10: 56/70 − 48/80.
    assert difference_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_interval_of_the_difference_holds_the_truth():
    generator = np.random.default_rng(0)
    now, then = generator.binomial(300, 0.08, 2000), generator.binomial(500, 0.05, 2000)
    held = [
        low <= 0.03 <= high for low, high in map(difference_interval, now, [300] * 2000, then, [500] * 2000)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_unchanged_scores_hold_and_shifted_ones_drift():
    same = drift(normal(2000, 5), normal(2000, 6), threshold=-1.64)
    assert (same.drifted, same.change) == (False, "none")
    assert same.verdict.startswith("the threshold holds")
    shifted = drift(normal(2000, 5, -0.7), normal(2000, 6), threshold=-1.64)
    assert (shifted.drifted, shifted.change) == (True, "large")
    assert "no longer holds: more are below it" in shifted.verdict
    assert shifted.below is not None
    assert shifted.below.then == pytest.approx(0.05, abs=0.01)
    assert shifted.below.difference_interval[0] > 0.02


def test_false_alarms_are_rare():
    alarms = [
        drift(normal(100, seed), normal(400, 500 + seed), threshold=-1.28).drifted for seed in range(200)
    ]
    assert sum(alarms) <= 16  # 5 % of thresholds and 1 % of distributions are beyond chance by chance


def test_rows_without_a_score_are_compared_as_the_share_below_the_threshold_is():
    scores = normal(1000, 5)
    few = drift(scores, scores, failed=(30, 10))
    assert few.failed.difference_interval == difference_interval(30, 1030, 10, 1010)
    assert (few.drifted, few.failed.now, few.failed.then) == (False, 30 / 1030, 10 / 1010)
    many = drift(scores, scores, failed=(60, 10))
    assert (many.drifted, many.change) == (True, "none")
    chance = drift(scores[:100], scores[:150], failed=(4, 1))
    assert not chance.drifted  # 3.8 % after 0.7 %, but of 104 and 151 rows


def test_fewer_rows_without_a_score_are_drift_too():
    found = drift(normal(1000, 5), normal(1000, 5), failed=(10, 300))
    assert found.drifted
    assert found.verdict.startswith("fewer rows have no score, 1.0% after 23.1%")


def test_a_large_sample_does_not_make_a_small_change_a_drift():
    found = drift(normal(50_000, 7, 0.1), normal(50_000, 8))
    assert found.p < 1e-6
    assert (found.drifted, found.change) == (False, "none")
    assert "a little differently" in found.verdict


def test_what_lies_above_the_threshold_may_drift_while_its_share_holds():
    reference = normal(3000, 9)
    new = np.where(reference > 0, reference * 0.2, reference)
    found = drift(new, reference, threshold=-1.0)
    assert found.below is not None
    assert found.below.difference == 0
    assert found.drifted
    assert found.verdict == (
        f"the threshold holds: {found.below.now:.1%} are below it, {found.below.then:.1%} before; "
        "scores are distributed very differently"
    )


@pytest.mark.parametrize(
    ("new", "reference", "message"),
    [
        (normal(99, 0), normal(200, 0), "at least 100 new scores are needed, but got 99"),
        (normal(200, 0), normal(99, 0), "at least 100 reference scores"),
        (np.full(200, np.nan), normal(200, 0), "finite new scores"),
        (normal(200, 0), np.full(200, np.inf), "finite reference scores"),
        (normal(200, 0), np.full(200, 0.5), r"all 200 scores of the reference are 0\.5"),
        (normal(200, 0).reshape(2, 100), normal(200, 0), "at least 100 new scores"),
    ],
)
def test_bad_samples_are_refused(new: np.ndarray, reference: np.ndarray, message: str):
    with pytest.raises(InvalidArgument, match=message):
        drift(new, reference)


def test_a_tolerance_outside_0_to_1_is_refused():
    with pytest.raises(InvalidArgument, match="a share in 0–1"):
        drift(normal(200, 0), normal(200, 1), tolerance=-0.1)
    assert not drift(normal(200, 0), normal(200, 0), tolerance=1).drifted


# efiqa drift


def predictions(path: Path, scores: np.ndarray, quality: float = 100.0) -> Path:
    rows = [
        Prediction(f"{index}.jpg", score=float(score), quality=round(quality * float(score), 1))
        for index, score in enumerate(scores)
    ]
    write_predictions(path, [*rows, Prediction("none.jpg", status="no_face")])
    return path


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.csv and b.csv of one population, low.csv of a lower one, other.csv of another model."""
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for name, centre, quality in (("a", 0.5, 100), ("b", 0.5, 100), ("low", 0.4, 100), ("other", 0.5, 90)):
        scores = np.clip(draws.normal(centre, 0.1, 500), 0, 1).round(5)
        predictions(Path(f"{name}.csv"), scores, quality)
    return tmp_path


def test_the_exit_code_and_the_json_say_whether_it_holds(command: Command, tables: Path):
    holds = command("drift", "b.csv", "--reference", "a.csv", "-o", "holds.json")
    assert (holds.code, "holds: scores are distributed as before" in holds.err) == (0, True)
    assert "PSI" in holds.out
    drifted = command("drift", "low.csv", "--reference", "a.csv", "-o", "drifted.json")
    assert (drifted.code, "drifted: scores are distributed very differently" in drifted.err) == (1, True)
    found = json.loads(Path("drifted.json").read_text())
    assert (found["drifted"], found["change"], found["n"], found["below"]) == (True, "large", 500, None)
    assert (found["failed"]["then"], found["failed"]["now"], found["on"]) == (1 / 501, 1 / 501, "score")
    assert json.loads(Path("holds.json").read_text())["drifted"] is False


def test_more_rows_without_a_score_are_drift_though_the_scores_are_as_before(command: Command, tables: Path):
    failing = [Prediction(f"dark/{number}.jpg", status="no_face") for number in range(60)]
    write_predictions(Path("blind.csv"), [*read_predictions(Path("b.csv")), *failing])
    found = command("drift", "blind.csv", "--reference", "a.csv")
    assert found.code == 1
    assert "drifted: more rows have no score, 10.9% after 0.2%; scores are distributed as before" in found.err
    assert command("drift", "blind.csv", "--reference", "a.csv", "--tolerance", "0.2").code == 0


def of_student(path: Path, seed: int) -> Path:
    """Predictions whose quality is what the embedded student gives their score."""
    population = Scorer().card.population
    assert population is not None
    scores = np.random.default_rng(seed).normal(0.6, 0.1, 300).round(5).tolist()
    rows = [
        Prediction(f"{number}.jpg", score=score, quality=round(population.percentile(score), 1))
        for number, score in enumerate(scores)
    ]
    write_predictions(path, rows)
    return path


def test_a_policy_of_another_model_is_refused(command: Command, tables: Path):
    of_student(Path("s.csv"), 0)
    of_student(Path("t.csv"), 1)
    student = Scorer()
    write_policy(Path("own.toml"), Policy("own", student.card.source, student.digest, "score", 0.3, 0.3))
    write_policy(Path("p.toml"), Policy("strange", "other@1", "0123456789ab", "score", 0.3, 0.3))
    own = command("drift", "s.csv", "--reference", "t.csv", "--policy", "own.toml")
    assert (own.code, "-m MODEL" in own.err) == (0, False)
    others = command("drift", "a.csv", "--reference", "b.csv", "--policy", "own.toml")
    assert others.code == 2
    assert f"the predictions are not of {student.card.source}" in others.err
    unknown = command("drift", "a.csv", "--reference", "b.csv", "--policy", "p.toml")
    assert unknown.code == 0
    assert "the policy is of other@1; whether the predictions are too, -m MODEL checks" in unknown.err
    model = Path(efiqa.__file__).parent / "models" / "student.onnx"
    refused = command("drift", "s.csv", "--reference", "t.csv", "--policy", "p.toml", "-m", model)
    assert refused.code == 2
    assert "the policy strange is of other@1" in refused.err


def test_tables_of_two_models_are_refused(command: Command, tables: Path):
    result = command("drift", "other.csv", "--reference", "a.csv")
    assert result.code == 2
    assert "are not of one model and calibration" in result.err
    assert "hint:" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.csv", "--reference", "a.csv"], "gone.csv cannot be read"),
        (["a.csv"], "Missing option"),
        (["a.csv", "--reference", "b.csv", "--policy", "kiosc"], "did you mean 'kiosk'"),
        (["few.csv", "--reference", "a.csv"], "at least 100 new scores are needed, but got 3"),
        (["a.csv", "--reference", "b.csv", "--tolerance", "2"], "tolerance"),
        (["empty.csv", "--reference", "a.csv"], "no row of empty.csv has a score"),
        (["none.csv", "--reference", "a.csv"], "no row of none.csv has a score"),
        (["a.csv", "--reference", "b.csv", "-m", "gone.onnx"], "gone.onnx"),
        (["a.csv", "--reference", "b.csv", "--policy", ""], "there is no policy ''"),
        (["a.csv", "--reference", "b.csv", "-o", "folder"], "folder is a folder"),
    ],
)
def test_mistakes_are_sentences(command: Command, tables: Path, arguments: list[str], message: str):
    predictions(Path("few.csv"), np.array([0.1, 0.2, 0.3]))
    Path("empty.csv").write_bytes(b"")
    Path("none.csv").write_text("image,status\na.jpg,no_face\n")
    Path("folder").mkdir()
    result = command("drift", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "hint:" in result.err
