"""Intervals cover what they promise; scorers are compared on the same pictures; the impossible is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from efiqa import agreement
from efiqa.agreement import agree
from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector, fit_logistic, krcc, plcc, rmse, srcc
from efiqa.resampling import compare, estimate, holm, p_value, resample


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the resamples: enough for what is claimed here."""
    monkeypatch.setattr("efiqa.resampling.ROUNDS", 200)


def rated(n: int, *noises: float, seed: int = 0) -> tuple[dict[str, Vector], Vector]:
    generator = np.random.default_rng(seed)
    rating = generator.random(n)
    scores = {f"noise {noise}": rating + noise * generator.standard_normal(n) for noise in noises}
    return scores, rating


def test_values_are_the_metrics_and_lie_in_their_intervals():
    scores, rating = rated(300, 0.1)
    found, comparisons = agree(scores, rating)
    (values,) = scores.values()
    (one,) = found.values()
    fitted = fit_logistic(values, rating)(values)
    expected = {
        "srcc": srcc(values, rating),
        "plcc": plcc(values, rating),
        "plcc_fitted": plcc(fitted, rating),
        "krcc": krcc(values, rating),
        "rmse_fitted": rmse(fitted, rating),
    }
    assert {name: each.value for name, each in one.metrics.items()} == pytest.approx(expected)
    assert all(each.low < each.value < each.high for each in one.metrics.values())
    assert comparisons == []


def test_the_same_seed_gives_the_same_numbers():
    scores, rating = rated(60, 0.1, 0.3)
    first = agree(scores, rating, seed=3)
    assert first == agree(scores, rating, seed=3)
    assert first != agree(scores, rating, seed=4)


@pytest.mark.parametrize("n", [400, 20_000])
def test_intervals_have_the_analytic_width(n: int, monkeypatch: pytest.MonkeyPatch):
    # Pearson's r of a Gaussian sample has the standard error (1 − ρ²) / √(n − 1), also where 2,000 are drawn.
    monkeypatch.setattr("efiqa.resampling.ROUNDS", 2000)
    a, noise = np.random.default_rng(6).standard_normal((2, n))
    b = 0.6 * a + 0.8 * noise
    samples = resample(lambda chosen: {"r": plcc(a[chosen], b[chosen])}, {"r": plcc(a, b)}, n)["r"]
    each = estimate(plcc(a, b), samples)
    assert each.high - each.low == pytest.approx(2 * 1.96 * (1 - 0.6**2) / math.sqrt(n - 1), rel=0.1)


def test_a_scorer_in_other_units_has_no_raw_rmse_and_it_is_said():
    scores, rating = rated(50, 0.01)
    found, _ = agree({"percent": 100 * scores["noise 0.01"], "same": np.clip(rating, 0.01, 1)}, rating)
    assert "rmse" not in found["percent"].metrics
    assert any("no raw RMSE" in note for note in found["percent"].notes)
    assert found["same"].metrics["rmse"].value == pytest.approx(rmse(np.clip(rating, 0.01, 1), rating))


def test_a_constant_scorer_is_said_and_does_not_stop_the_others():
    scores, rating = rated(50, 0.1)
    found, comparisons = agree({"constant": np.full(50, 7.0), **scores}, rating)
    assert found["constant"].metrics == {}
    assert "gives all 50 rated pictures the score 7" in found["constant"].notes[0]
    assert set(found["noise 0.1"].metrics) >= {"srcc", "plcc", "krcc"}
    assert comparisons == []


def test_a_scorer_that_no_logistic_fits_has_the_other_metrics():
    _, rating = rated(80)
    found, _ = agree({"reverse": -rating}, rating)
    assert found["reverse"].fit is None
    assert any(note.startswith("no logistic is fitted: ") for note in found["reverse"].notes)
    assert found["reverse"].metrics["srcc"].value == -1


@pytest.mark.parametrize(
    ("n", "rating", "reason"),
    [(9, None, "only 9 pictures"), (0, None, "only 0 pictures"), (20, 0.5, "all 20 ratings are 0.5")],
)
def test_ratings_that_nothing_can_agree_with_are_an_error_with_a_hint(n, rating, reason: str):
    ratings = np.linspace(0, 1, n) if rating is None else np.full(n, rating)
    with pytest.raises(InvalidArgument, match=reason) as caught:
        agree({"a": np.arange(n) / 100}, ratings)
    assert caught.value.hint


def test_a_better_scorer_is_ahead_and_equal_ones_are_not():
    scores, rating = rated(300, 0.1, 0.5)
    good, bad = scores.values()
    _, comparisons = agree({"good": good, "bad": bad, "good again": good}, rating)
    found = {(each.metric, each.first, each.second): each for each in comparisons}
    ahead = found["srcc", "good", "bad"]
    assert ahead.difference.value == pytest.approx(srcc(good, rating) - srcc(bad, rating))
    assert ahead.difference.low > 0
    assert ahead.p == pytest.approx(2 / 201)
    assert ahead.corrected == pytest.approx(3 * ahead.p)
    same = found["srcc", "good", "good again"]
    assert (same.difference.value, same.difference.low, same.difference.high, same.p) == (0, 0, 0, 1)
    assert {metric for metric, _, _ in found} == set(agreement.COMPARED)


def test_scorers_that_differ_by_chance_are_seldom_called_different():
    # Of 40 draws without a difference about 2 have p < 0.05; 7 or more are seen once in 250 times.
    found = []
    for seed in range(40):
        scores, rating = rated(40, 0.3, 0.3001, seed=seed)
        value = {name: plcc(values, rating) for name, values in scores.items()}

        def measure(chosen, scores=scores, rating=rating):
            return {name: plcc(values[chosen], rating[chosen]) for name, values in scores.items()}

        samples = resample(measure, value, 40, seed=seed)
        found.append(compare("plcc", value, samples)[0].p < 0.05)
    assert sum(found) < 7


def test_resamples_without_the_number_are_left_out_and_too_many_leave_no_interval():
    samples = np.arange(100.0)
    samples[:40] = math.nan
    assert estimate(1.0, samples).low == pytest.approx(np.quantile(np.arange(40, 100), 0.025))
    samples[:60] = math.nan
    assert estimate(1.0, samples) == agreement.Estimate(1.0, None, None)


def test_p_is_twice_the_share_on_the_smaller_side():
    assert p_value(np.array([-1.0] * 10 + [1.0] * 89)) == pytest.approx(2 * 11 / 100)
    assert p_value(np.array([-1.0, 1.0])) == 1
    assert p_value(np.zeros(5)) == 1


def test_holms_correction_is_that_of_an_independent_definition():
    values = np.random.default_rng(0).random(20) ** 3
    order = np.argsort(values)
    expected = np.empty(20)
    expected[order] = np.minimum(1, np.maximum.accumulate((20 - np.arange(20)) * values[order]))
    assert holm(values.tolist()) == pytest.approx(expected.tolist())
    assert scipy.stats.rankdata(holm(values.tolist())).argmin() == values.argmin()
    assert holm([]) == []
