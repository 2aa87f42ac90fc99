"""Agreement of scores with ratings: pure functions on float64 arrays of shape (n,)."""

from __future__ import annotations

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
    p, t = _pair(prediction, target)
    p, t = p - p.mean(), t - t.mean()
    spread = np.sqrt((p @ p) * (t @ t))
    if spread == 0:
        raise InvalidArgument("constant values have no correlation")
    return float(np.clip((p @ t) / spread, -1, 1))


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
    """Percentile bootstrap interval of `metric`, resampling images with replacement (Efron, 1979)."""
    p, t = _pair(prediction, target)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(rounds):
        chosen = generator.integers(0, p.size, p.size)
        values.append(metric(p[chosen], t[chosen]))
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
