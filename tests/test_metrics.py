"""Metrics and fits agree with an independent library; what has no correlation, or no fit, is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from efiqa.errors import InvalidArgument
from efiqa.metrics import Logistic, Vector, fit_logistic, krcc, plcc, ranks, rmse, srcc

ROWS = 100_000

wide = st.floats(allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
whole = st.integers(-1000, 1000).map(float)


def pairs(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(numbers, numbers), min_size=2, max_size=40)


def columns(rows: list[tuple[float, float]]) -> tuple[Vector, Vector]:
    a, b = np.array(rows, np.float64).T
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    return a, b


def tied(seed: int) -> tuple[Vector, Vector]:
    """100,000 correlated rows on 50 and 20 steps: nearly every value is tied with thousands of others."""
    generator = np.random.default_rng(seed)
    a = generator.standard_normal(ROWS)
    b = a + generator.standard_normal(ROWS)
    return np.round(a * 8) / 8, np.round(b * 3) / 3


def gaussian(n: int, rho: float, seed: int) -> tuple[Vector, Vector]:
    generator = np.random.default_rng(seed)
    a, noise = generator.standard_normal((2, n))
    return a, rho * a + math.sqrt(1 - rho**2) * noise


def test_ranks_of_ties_share_their_mean() -> None:
    assert ranks([10, 30, 20, 20]).tolist() == [1, 4, 2.5, 2.5]


def test_ranks_equal_scipy_exactly_on_many_ties() -> None:
    values, _ = tied(1)
    assert np.array_equal(ranks(values), scipy.stats.rankdata(values))


@pytest.mark.parametrize("seed", [1, 2])
def test_srcc_equals_scipy_on_many_ties(seed: int) -> None:
    a, b = tied(seed)
    assert srcc(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", [1, 2])
def test_plcc_equals_scipy_on_many_ties(seed: int) -> None:
    a, b = tied(seed)
    assert plcc(a, b) == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-12)


def test_plcc_equals_scipy_far_from_zero() -> None:
    a, b = gaussian(ROWS, 0.7, 3)
    assert plcc(a + 1e4, b - 1e4) == pytest.approx(scipy.stats.pearsonr(a, b).statistic, abs=1e-9)


def test_plcc_by_hand() -> None:
    # Centred: (−1, 0, 1) and (−1, 1, 0); 1 / √(2 · 2) = 1/2.
    assert plcc([1, 2, 3], [0, 2, 1]) == pytest.approx(0.5, abs=1e-15)


def test_srcc_by_hand() -> None:
    # 1 − 6 Σd² / (n (n² − 1)) with d = (0, 1, −1): 1 − 12 / 24.
    assert srcc([1, 10, 100], [1, 9, 4]) == pytest.approx(0.5, abs=1e-15)


@given(pairs(wide))
def test_both_are_symmetric_and_within_one_for_any_finite_numbers(rows: list[tuple[float, float]]) -> None:
    a, b = columns(rows)
    for metric in (srcc, plcc):
        assert -1 <= metric(a, b) <= 1
        assert metric(a, b) == pytest.approx(metric(b, a), abs=1e-12)


@given(pairs(whole))
def test_srcc_is_unchanged_by_increasing_maps(rows: list[tuple[float, float]]) -> None:
    a, b = columns(rows)
    assert srcc(a**3 + a, np.exp(b / 1000)) == pytest.approx(srcc(a, b), abs=1e-12)
    assert srcc(-a, b) == pytest.approx(-srcc(a, b), abs=1e-12)


@given(pairs(moderate), st.floats(0.01, 100), st.floats(-100, 100))
def test_plcc_is_unchanged_by_increasing_lines(
    rows: list[tuple[float, float]], slope: float, offset: float
) -> None:
    a, b = columns(rows)
    assert plcc(slope * a + offset, b) == pytest.approx(plcc(a, b), abs=1e-5)
    assert plcc(-a, b) == pytest.approx(-plcc(a, b), abs=1e-12)


@given(pairs(moderate))
def test_both_are_one_with_itself(rows: list[tuple[float, float]]) -> None:
    a, _ = columns(rows)
    assert srcc(a, a) == pytest.approx(1, abs=1e-12)
    assert plcc(a, a) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_plcc_neither_overflows_nor_vanishes(scale: float) -> None:
    assert plcc(np.array([1, 2, 3]) * scale, [0, 2, 1]) == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("metric", [srcc, plcc, krcc])
@pytest.mark.parametrize(
    ("prediction", "target", "reason"),
    [
        ([1, 1, 1], [1, 2, 3], "constant"),
        ([1, 2, 3], [0, 0, 0], "constant"),
        ([0.1, 0.1, 0.1], [1, 2, 3], "constant"),  # their mean is not 0.1 in binary
        ([1, math.nan, 3], [1, 2, 3], "finite"),
        ([1, 2, 3], [1, math.inf, 3], "finite"),
        ([1, 2, 3], [1, 2], "one shape"),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]], "one shape"),
        ([1], [1], "n ≥ 2"),
        ([], [], "n ≥ 2"),
        (1.0, 2.0, "one shape"),
    ],
)
def test_no_correlation_is_an_error(metric: object, prediction: object, target: object, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        metric(prediction, target)  # type: ignore[operator]


# Kendall


def test_krcc_by_hand() -> None:
    # Of 6 pairs one is tied in the prediction, one in the target: 4 agree, 0 do not, 4 / √(5 · 5).
    assert krcc([1, 1, 2, 3], [1, 2, 3, 3]) == pytest.approx(0.8, abs=1e-15)
    assert krcc([1, 2, 3], [3, 2, 1]) == -1


@pytest.mark.parametrize("seed", [1, 2])
def test_krcc_equals_scipy_on_many_ties(seed: int) -> None:
    a, b = tied(seed)
    assert krcc(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-14)


def test_krcc_equals_scipy_without_ties() -> None:
    a, b = gaussian(ROWS, -0.3, 8)
    assert krcc(a, b) == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-14)


def test_metrics_equal_scipy_at_a_hundred_thousand_tied_rows_to_twelve_digits() -> None:
    a, b = tied(9)
    for metric, theirs in (
        (srcc, scipy.stats.spearmanr),
        (plcc, scipy.stats.pearsonr),
        (krcc, scipy.stats.kendalltau),
    ):
        assert abs(metric(a, b) - theirs(a, b).statistic) <= 1e-12


@given(pairs(st.integers(0, 5).map(float)) | pairs(wide))
def test_krcc_counts_every_pair(rows: list[tuple[float, float]]) -> None:
    a, b = columns(rows)
    order = np.sign(np.greater.outer(a, a) * 1 - np.less.outer(a, a)) * (
        np.greater.outer(b, b) * 1 - np.less.outer(b, b)
    )
    untied = math.sqrt((np.not_equal.outer(a, a)).sum()) * math.sqrt((np.not_equal.outer(b, b)).sum())
    assert krcc(a, b) == pytest.approx(order.sum() / untied, abs=1e-12)


# RMSE


def test_rmse_by_hand() -> None:
    assert rmse([1, 2, 3], [1, 2, 6]) == pytest.approx(math.sqrt(3), abs=1e-15)
    assert rmse([0.5, 0.5], [0.5, 0.5]) == 0  # constants have no correlation, but they have a distance


@pytest.mark.parametrize(("prediction", "target"), [([1, 2], [1]), ([1, math.nan], [1, 2]), ([], [])])
def test_rmse_of_what_is_no_pair_is_an_error(prediction: list[float], target: list[float]) -> None:
    with pytest.raises(InvalidArgument):
        rmse(prediction, target)


# The logistic


def curve(x: Vector, low: float, high: float, centre: float, slope: float) -> Vector:
    return np.asarray(low + (high - low) / (1 + np.exp(-slope * (x - centre))))


def sampled(n: int, truth: Logistic, noise: float, seed: int) -> tuple[Vector, Vector]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(0, 1, n)
    return x, truth(x) + noise * generator.standard_normal(n)


def test_a_logistic_by_hand() -> None:
    logistic = Logistic(1.0, 3.0, 0.5, 2.0)
    assert logistic(0.5) == 2
    assert logistic([0.5 + math.log(3) / 2, 0.5 - math.log(3) / 2]).tolist() == pytest.approx([2.5, 1.5])
    assert logistic([-1e300, 1e300]).tolist() == [1, 3]


@pytest.mark.parametrize(
    "parameters",
    [(1, 1, 0, 1), (1, 0, 0, 1), (0, 1, 0, 0), (0, 1, 0, -1), (0, math.inf, 0, 1), (0, 1, math.nan, 1)],
)
def test_a_logistic_that_does_not_increase_is_an_error(parameters: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgument, match="high > low and slope > 0"):
        Logistic(*parameters)


TRUTHS = [
    Logistic(0.1, 0.9, 0.5, 8),
    Logistic(0, 1, 0.3, 4),
    Logistic(0, 1, 0.5, 30),
    Logistic(-0.2, 1.4, 0.8, 6),
]


@pytest.mark.parametrize("truth", TRUTHS, ids=repr)
def test_the_fit_of_exact_values_finds_the_parameters(truth: Logistic) -> None:
    fitted = fit_logistic(*sampled(200, truth, 0, 1))
    got = (fitted.low, fitted.high, fitted.centre, fitted.slope)
    assert got == pytest.approx((truth.low, truth.high, truth.centre, truth.slope), abs=1e-5)


@pytest.mark.parametrize("truth", TRUTHS, ids=repr)
@pytest.mark.parametrize(("n", "noise"), [(100, 0.1), (1000, 0.02), (3000, 0.3)])
def test_the_fit_has_the_error_of_scipys_best(truth: Logistic, n: int, noise: float) -> None:
    x, y = sampled(n, truth, noise, 2)
    start = (truth.low, truth.high, truth.centre, truth.slope)
    theirs, _ = scipy.optimize.curve_fit(curve, x, y, p0=start, maxfev=10_000)
    assert rmse(fit_logistic(x, y)(x), y) == pytest.approx(rmse(curve(x, *theirs), y), rel=1e-5)


def test_the_fit_of_many_rows_is_that_of_every_start_on_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sampled(30_000, TRUTHS[3], 0.2, 5)
    fitted = fit_logistic(x, y)
    monkeypatch.setattr("efiqa.metrics.THINNED", 10**9)
    assert rmse(fitted(x), y) == pytest.approx(rmse(fit_logistic(x, y)(x), y), rel=1e-9)


def test_the_fit_of_a_noisy_line_is_the_line() -> None:
    x = np.linspace(0, 1, 2000)
    y = 0.2 + 0.5 * x + 0.05 * np.random.default_rng(3).standard_normal(2000)
    slope, offset = np.polyfit(x, y, 1)
    assert fit_logistic(x, y)(x) == pytest.approx(slope * x + offset, abs=0.01)


def test_the_fit_does_not_depend_on_units() -> None:
    x, y = sampled(300, TRUTHS[0], 0.1, 4)
    fitted = fit_logistic(1e6 * x - 3e6, 1e-3 * y + 5)
    assert fitted(1e6 * x - 3e6) == pytest.approx(1e-3 * fit_logistic(x, y)(x) + 5, abs=1e-7)


@settings(max_examples=20, deadline=None)
@given(st.integers(10, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_few_noisy_rows_give_an_increasing_better_fit_or_an_error(n: int, noise: float, seed: int) -> None:
    x, y = sampled(n, TRUTHS[1], noise, seed)
    try:
        fitted = fit_logistic(x, y)
    except InvalidArgument:
        return
    values = fitted(np.linspace(0, 1, 50))
    assert (np.diff(values) >= 0).all()  # a steep one is flat, in floats, far from its centre
    assert values[-1] > values[0]
    assert rmse(fitted(x), y) < rmse(x, y)


LINE = np.linspace(0, 1, 50)
UNFITTABLE = [
    (LINE, 1 - LINE, "increases", "a decreasing line"),
    (LINE, curve(LINE, 0.9, 0.1, 0.5, 8), "increases", "a decreasing logistic"),
    (LINE, LINE, "no less than 0 without", "already equal"),
    (LINE, np.where(LINE > 0.5, 1.0, 0.0), "a step", "two classes"),
    (LINE[:9], LINE[:9] ** 2, "at least 10 rows .* got 9", "too few rows"),
    (np.full(50, 0.1), LINE, "constant", "constant scores"),
    (LINE * 1e-320, LINE, "squares", "squares that vanish"),
    (LINE * 1e308, LINE, "squares", "squares that overflow"),
    (LINE, np.full(50, 0.1), "constant", "constant labels"),
    (LINE, np.where(LINE > 0.5, math.nan, 1), "finite", "no label"),
    (LINE, LINE[:-1], "one shape", "another length"),
]


@pytest.mark.parametrize(
    ("x", "y", "reason"), [case[:3] for case in UNFITTABLE], ids=[case[3] for case in UNFITTABLE]
)
def test_what_no_increasing_logistic_fits_is_an_error(x: Vector, y: Vector, reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        fit_logistic(x, y)
