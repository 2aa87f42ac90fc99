"""Agreement of scores with ratings: pure functions on float64 arrays of shape (n,)."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Which of the distinct values, from the lowest, each of n values is, (n,), and the `count` of each.

    Two metrics go by the order of values only: with it they need not sort them twice.
    """

    place: NDArray[np.int64]
    count: NDArray[np.int64]

    @property
    def ranks(self) -> Vector:
        last = np.cumsum(self.count, dtype=np.float64)
        return np.asarray((last - (self.count - 1) / 2)[self.place])


def order(values: ArrayLike) -> Order:
    """The order of values (n,)."""
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return Order(place, count)


def _orders(prediction: ArrayLike | Order, target: ArrayLike | Order) -> tuple[Order, Order]:
    if isinstance(prediction, Order) and isinstance(target, Order):
        return prediction, target
    p, t = _pair(prediction, target)  # type: ignore[arg-type]
    return order(p), order(t)


def ranks(values: ArrayLike) -> Vector:
    """Ranks from 1 to n as float64; ties share the mean of their ranks."""
    return order(values).ranks


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


def srcc(prediction: ArrayLike | Order, target: ArrayLike | Order) -> float:
    """Spearman's rank correlation: Pearson's on ranks, ties sharing their mean rank; in −1 to 1.

    >>> srcc([1, 2, 3], [1, 4, 9])
    1.0

    Of both, or neither, the order may be given. Raises InvalidArgument as `plcc` does.
    """
    p, t = _orders(prediction, target)
    return plcc(p.ranks, t.ranks)


def krcc(prediction: ArrayLike | Order, target: ArrayLike | Order) -> float:
    """Kendall's rank correlation tau-b (Kendall, 1945), in −1 to 1, in O(n log² n).

    τ_b = (C − D) / √((P − T_p)(P − T_t)): of all P = n (n − 1) / 2 pairs of rows, C are in the same order
    in both, D in opposite order, T_p and T_t tied in one of them or both. Counts are exact.

    >>> round(krcc([1, 2, 3, 4], [1, 2, 4, 3]), 9)
    0.666666667

    Of both, or neither, the order may be given. Raises InvalidArgument as `plcc` does.
    """
    p, t = _orders(prediction, target)
    if min(p.count.size, t.count.size) == 1:
        raise InvalidArgument("constant values have no correlation")
    few, many = (p, t) if p.count.size < t.count.size else (t, p)
    # Equal values stand in the order of the others, so there is no inversion among them.
    both = np.sort(many.place * few.count.size + few.place)
    pairs, tied_p, tied_t = math.comb(p.place.size, 2), _tied(p.count), _tied(t.count)
    tied_both = _tied(np.diff(np.flatnonzero(np.diff(both, prepend=-1, append=-1))))
    agreeing = pairs - tied_p - tied_t + tied_both - 2 * _inversions(both % few.count.size)
    return float(np.clip(agreeing / math.sqrt(pairs - tied_p) / math.sqrt(pairs - tied_t), -1, 1))


def _tied(count: NDArray[np.int64]) -> int:
    """Number of pairs (i < j) with equal values, of which there are so many each."""
    return int((count * (count - 1) // 2).sum())


SMALL = 16
"""Pieces of a sequence so long are compared pair by pair; those of a power of 2 more are sorted."""


def _inversions(values: NDArray[np.int64]) -> int:
    """Number of pairs (i < j) with values[i] > values[j], of whole numbers from 0.

    Both of a pair are in one small piece, or they are in the two halves of one larger piece. When that is
    sorted, each number of its first half goes up by one place for each smaller one of the second.
    """
    pieces = -(-values.size // SMALL)
    size = SMALL << (pieces - 1).bit_length()
    highest = int(values.max())
    # Numpy sorts what has 16 bits by counting, which takes a fraction of the time.
    padded = np.full(size, highest, np.uint16 if highest < 2**16 else np.int64)
    padded[: values.size] = values
    small = np.ascontiguousarray(padded.reshape(-1, SMALL).T)
    total = sum(int(np.count_nonzero(small[at] > small[at + 1 :])) for at in range(SMALL - 1))
    half = SMALL
    while half < size:
        moved = np.argsort(padded.reshape(-1, 2 * half), axis=1, kind="stable") < half
        # All places of first halves, once sorted less before.
        total += int(np.flatnonzero(moved).sum()) - size * (size - 1 - half) // 4
        half *= 2
    return total


def rmse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Root of the mean squared difference, in the units of the target; raw, no fit before it.

    >>> rmse([0.0, 0.0], [3.0, 3.0])
    3.0

    Raises InvalidArgument for shapes that differ, fewer than two values, or NaN.
    """
    p, t = _pair(prediction, target)
    return float(np.sqrt(np.mean(np.square(p - t))))


@dataclass(frozen=True, slots=True)
class Logistic:
    """The increasing map low + (high − low) / (1 + exp(−slope · (value − centre))).

    Raises InvalidArgument unless high > low, slope > 0 and all four are finite.
    """

    low: float
    high: float
    centre: float
    slope: float

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.low, self.high, self.centre, self.slope)))
        if not (finite and self.low < self.high and self.slope > 0):
            raise InvalidArgument(f"expected finite numbers with high > low and slope > 0, but got {self}")

    def __call__(self, values: ArrayLike) -> Vector:
        """The values mapped, float64 of the same shape."""
        step = self.slope * (np.asarray(values, np.float64) - self.centre)
        # As a hyperbolic tangent it does not overflow far from the centre.
        return np.asarray(self.low + (self.high - self.low) * (0.5 + 0.5 * np.tanh(step / 2)))


MIN_FITTED = 10
"""Four parameters fitted to fewer rows than this say more about the rows than about the relation."""
THINNED = 10_000
"""About as many of more rows, evenly by rank, are enough to find the start that leads to the best fit."""
_LOWEST, _HIGHEST = np.array([-10.0, math.log(0.02)]), np.array([10.0, math.log(30.0)])
"""Bounds of (centre, log slope) in standard deviations of the input: from a straight line to a step."""
_STARTS = [(centre, math.log(slope)) for slope in (0.3, 1.0, 3.0) for centre in (-1.5, 0.0, 1.5)]


def fit_logistic(prediction: ArrayLike, target: ArrayLike) -> Logistic:
    """The increasing 4-parameter logistic from predictions to targets with the least squared error.

    Levenberg-Marquardt (Marquardt, 1963) over centre and log slope of standardised values, from several
    fixed starts; low and high follow from both by linear least squares (Golub and Pereyra, 1973). So every
    step is an increasing map. What is nearly a straight line gets a slope at which the logistic is one.

    Raises InvalidArgument for fewer than 10 rows, constant values, a relation that does not increase, a
    fit that ends in a step or does not converge, or that has no smaller RMSE than no fit at all.
    """
    p, t = _pair(prediction, target)
    if p.size < MIN_FITTED:
        raise InvalidArgument(f"a logistic needs at least {MIN_FITTED} rows to be fitted, but got {p.size}")
    spread = float(p.max() / 2 - p.min() / 2)
    if spread and not 1e-100 < spread < 1e100:
        raise InvalidArgument(f"squares of values {spread:.2g} from their middle are 0 or infinite")
    correlation = plcc(p, t)
    if correlation <= 0:
        raise InvalidArgument(f"a relation that increases is expected, but its PLCC is {correlation:.3f}")
    x, y = (p - p.mean()) / p.std(), t - t.mean()
    starts = [np.array(start) for start in _STARTS]
    if x.size > 2 * THINNED:  # which start ends best is clear from fewer rows; all of them decide where
        few = np.argsort(x)[:: x.size // THINNED]
        starts = [_best_end(x[few], y[few] - y[few].mean(), starts).place]
    best = _best_end(x, y, starts)
    centre, log_slope = best.place
    if log_slope >= _HIGHEST[1]:
        raise InvalidArgument("the best logistic is a step, which would make most scores equal")
    low = float(t.mean() - best.height * best.mean)
    centre, slope = float(p.mean() + p.std() * centre), float(np.exp(log_slope) / p.std())
    fitted = Logistic(low, low + best.height, centre, slope)
    before, after = rmse(p, t), rmse(fitted(p), t)
    if after >= before:
        raise InvalidArgument(f"the best logistic has RMSE {after:.4g}, no less than {before:.4g} without it")
    return fitted


def _best_end(x: Vector, y: Vector, starts: list[Vector]) -> _Trial:
    ends = [end for start in starts if (end := _descend(x, y, start)) is not None]
    if not ends:
        raise InvalidArgument("the fit of a logistic does not converge")
    return min(ends, key=lambda end: end.cost)


@dataclass(frozen=True, slots=True)
class _Trial:
    """The best low and height (high − low) at one place, (centre, log slope).

    `error` (n,) is what is left of y, `columns` (2, n) its derivatives by the place, less what low and
    height would take up of them; `mean` is that of the rising curve before it is scaled by height.
    """

    place: Vector
    height: float
    mean: float
    cost: float
    error: Vector
    columns: Vector


def _try(x: Vector, y: Vector, place: Vector) -> _Trial | None:
    """None where no increasing logistic at this place is better than a constant."""
    slope = np.exp(place[1])
    share = 0.5 + 0.5 * np.tanh(slope * (x - place[0]) / 2)
    centred = share - share.mean()
    square = float(centred @ centred)
    height = float(centred @ y) / square if square > 0 else 0.0
    if height <= 0:
        return None
    rise = height * slope * share * (1 - share)
    columns = np.stack([-rise, rise * (x - place[0])])
    columns -= columns.mean(1, keepdims=True)
    columns -= np.outer(columns @ centred / square, centred)
    error = height * centred - y
    return _Trial(place, height, float(share.mean()), float(error @ error), error, columns)


def _descend(x: Vector, y: Vector, start: Vector) -> _Trial | None:
    """The end of one descent; none where it does not converge."""
    here, damping = _try(x, y, start), 1e-2
    for _ in range(300):
        # Either no step is small enough to do better, or only rounding is left.
        if here is None or damping > 1e10 or here.cost <= 1e-24 * (y @ y):
            return here
        gradient = here.columns @ here.error
        # A parameter at its bound stays there while the descent would lead it outside.
        free = np.where(gradient > 0, here.place > _LOWEST, here.place < _HIGHEST)
        normal = here.columns @ here.columns.T * np.outer(free, free)
        step = np.linalg.solve(
            normal + np.diag(np.where(free & (normal.diagonal() > 0), damping * normal.diagonal(), 1)),
            gradient * free,
        )
        there = _try(x, y, np.clip(here.place - step, _LOWEST, _HIGHEST))
        if there is None or there.cost >= here.cost:
            damping *= 10
            continue
        if here.cost - there.cost <= 1e-10 * here.cost:
            return there
        here, damping = there, max(damping / 10, 1e-9)
    return None
