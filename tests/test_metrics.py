"""SRCC and PLCC agree with an independent library; what has no correlation is refused."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector, bootstrap_interval, plcc, ranks, srcc

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


@pytest.mark.parametrize("metric", [srcc, plcc])
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


def test_bootstrap_gives_the_same_interval_for_the_same_seed() -> None:
    a, b = gaussian(200, 0.5, 4)
    first = bootstrap_interval(srcc, a, b, rounds=50, seed=7)
    assert first == bootstrap_interval(srcc, a, b, rounds=50, seed=7)
    assert first != bootstrap_interval(srcc, a, b, rounds=50, seed=8)


@pytest.mark.parametrize("metric", [srcc, plcc])
def test_bootstrap_interval_contains_the_estimate(metric: object) -> None:
    a, b = gaussian(300, 0.8, 5)
    low, high = bootstrap_interval(metric, a, b, rounds=200)  # type: ignore[arg-type]
    assert low < metric(a, b) < high  # type: ignore[operator]


def test_bootstrap_interval_has_the_analytic_width() -> None:
    # The standard error of Pearson's r over a Gaussian sample is (1 − ρ²) / √(n − 1).
    n, rho = 2000, 0.6
    a, b = gaussian(n, rho, 6)
    low, high = bootstrap_interval(plcc, a, b, rounds=2000)
    assert high - low == pytest.approx(2 * 1.96 * (1 - rho**2) / math.sqrt(n - 1), rel=0.12)


def test_bootstrap_interval_grows_with_coverage() -> None:
    a, b = gaussian(300, 0.8, 7)
    widths = []
    for coverage in (0.5, 0.8, 0.95, 0.99):
        low, high = bootstrap_interval(plcc, a, b, rounds=300, coverage=coverage)
        widths.append(high - low)
    assert all(narrow < wider for narrow, wider in pairwise(widths))


def test_bootstrap_of_few_rows_leaves_out_constant_resamples() -> None:
    low, high = bootstrap_interval(plcc, [1, 2, 3], [0, 2, 1])  # one resample in nine is constant
    assert -1 <= low <= 0.5 <= high <= 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"rounds": 0}, "rounds"), ({"coverage": 0.0}, "coverage"), ({"coverage": 1.0}, "coverage")],
)
def test_bootstrap_refuses_settings_without_an_interval(arguments: dict[str, float], reason: str) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        bootstrap_interval(plcc, [1, 2, 3], [0, 2, 1], **arguments)  # type: ignore[arg-type]


def test_bootstrap_of_constants_is_an_error() -> None:
    with pytest.raises(InvalidArgument, match="constant"):
        bootstrap_interval(plcc, [1, 1, 1], [0, 2, 1])
