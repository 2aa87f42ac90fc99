"""Agreement of scores with ratings: pure functions on float64 arrays of shape (n,)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efiqa.errors import InvalidArgument

Vector = NDArray[np.float64]


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[Vector, Vector]:
    p, t = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    if p.ndim != 1 or p.shape != t.shape or p.size < 2:
        raise InvalidArgument(
            f"expected two arrays of one shape (n,), n ≥ 2, but got {p.shape} and {t.shape}"
        )
    if not (np.isfinite(p).all() and np.isfinite(t).all()):
        raise InvalidArgument(
            "expected finite numbers, but got NaN or infinity", hint="leave out rows without a score"
        )
    return p, t


def ranks(values: ArrayLike) -> Vector:
    """Ranks from 1 to n as float64; ties share the mean of their ranks."""
    _, group, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count, dtype=np.float64)
    return np.asarray((last - (count - 1) / 2)[group])


def plcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Pearson's linear correlation, raw (no fit before it), in −1 to 1.

    >>> plcc([1, 2, 3], [2, 4, 6])
    1.0

    Raises InvalidArgument for shapes that differ, fewer than two values, NaN, or constant input:
    a constant has no correlation.
    """
    p, t = (_centred(values) for values in _pair(prediction, target))
    return float(np.clip((p @ t) / np.sqrt((p @ p) * (t @ t)), -1, 1))


def _centred(values: Vector) -> Vector:
    """`values` less their mean, scaled so that their squares neither overflow nor vanish."""
    # Not by the spread around the mean, which rounding can make more than 0 for equal values.
    if values.min() == values.max():
        raise InvalidArgument("constant values have no correlation")
    values = values / np.abs(values).max()
    return np.asarray(values - values.mean())


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's on ranks, ties sharing their mean rank; in −1 to 1.

    >>> srcc([1, 2, 3], [1, 4, 9])
    1.0

    Raises InvalidArgument as `plcc` does.
    """
    p, t = _pair(prediction, target)
    return plcc(ranks(p), ranks(t))


def bootstrap_interval(
    metric: Callable[[Vector, Vector], float],
    prediction: ArrayLike,
    target: ArrayLike,
    *,
    rounds: int = 1000,
    seed: int = 0,
    coverage: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of `metric`, resampling images with replacement (Efron, 1979).

    Resamples that have no correlation, because they drew one value only, are left out. Raises
    InvalidArgument where the sample itself has none, and for settings that give no interval.
    """
    if rounds < 1:
        raise InvalidArgument(f"rounds must be at least 1, but got {rounds}")
    if not 0 < coverage < 1:
        raise InvalidArgument(f"coverage must lie between 0 and 1, but got {coverage}")
    p, t = _pair(prediction, target)
    metric(p, t)  # raises where there is nothing to measure, so that only resamples are forgiven below
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        chosen = generator.integers(0, p.size, p.size)
        with contextlib.suppress(InvalidArgument):
            values.append(metric(p[chosen], t[chosen]))
    if not values:
        raise InvalidArgument("no resample has a correlation", hint="use more rounds")
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
