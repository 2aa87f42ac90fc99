"""Error versus discard: how false non-matches fall as the genuine pairs of lowest quality are left out.

Grother and Tabassi, "Performance of Biometric Quality Measures", IEEE TPAMI 29 (4), 2007; ISO/IEC 29794-1.
Pure functions on arrays; a pair's quality is the lower of its two pictures'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector


@dataclass(frozen=True, slots=True)
class MatchThreshold:
    """Two pictures match where their similarity is above `limit`.

    `false_matches` of `impostors` pairs do, which is the false match rate `fmr`.
    """

    limit: float
    false_matches: int
    impostors: int

    @property
    def fmr(self) -> float:
        return self.false_matches / self.impostors


def match_threshold(impostor: ArrayLike, fmr: float) -> MatchThreshold:
    """The lowest threshold whose false match rate is at most `fmr`, from similarities of impostor pairs (n,).

    >>> match_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
    MatchThreshold(limit=0.3, false_matches=1, impostors=4)

    Raises InvalidArgument without impostor pairs, for NaN or infinity, for a rate outside 0–1, and for one
    below 1 / n, of which the sample says nothing.
    """
    values = np.sort(np.asarray(impostor, np.float64))[::-1]
    if not 0 < fmr < 1:
        raise InvalidArgument(f"a false match rate lies between 0 and 1, but got {fmr}")
    if values.size == 0:
        raise InvalidArgument(
            "there are no impostor pairs, and only they can say which similarity is a match",
            hint="add pairs of different people, with genuine 0",
        )
    if not np.isfinite(values).all():
        raise InvalidArgument("expected finite similarities, but got NaN or infinity")
    allowed = math.floor(fmr * values.size * (1 + 1e-12))  # 0.1 · 30 is 3, not 3.0000000000000004
    if allowed < 1:
        raise InvalidArgument(
            f"{values.size:,} impostor pairs cannot resolve a false match rate of {fmr:g}",
            hint=f"take one of {1 / values.size:.1g} or more, or {math.ceil(1 / fmr):,} impostor pairs",
        )
    limit = float(values[min(allowed, values.size - 1)])
    return MatchThreshold(limit, int((values > limit).sum()), values.size)


@dataclass(frozen=True, slots=True, eq=False)
class DiscardCurve:
    """False non-match rate of the genuine pairs that are left, at any discarded share from 0 to below 1.

    `share` (k,) rises from 0 to 1: the discarded shares at which a pair, or all pairs of one quality, are
    gone. `errors` (k,) are the false non-matches then left, as a share of all pairs. In between they fall
    in a straight line: pairs of one quality are discarded in no order, so each of their errors is gone
    with the same chance, and the curve is the mean over all orders.
    """

    share: Vector
    errors: Vector

    def fnmr(self, share: ArrayLike) -> Vector:
        """The rate at discarded shares in [0, 1), float64 of their shape."""
        at = np.asarray(share, np.float64)
        if not ((at >= 0) & (at < 1)).all():
            raise InvalidArgument("a discarded share lies at 0 or above, and below 1")
        return np.asarray(np.interp(at, self.share, self.errors) / (1 - at))

    def area(self, limit: float = 0.3) -> float:
        """Partial area under the curve, from nothing discarded to `limit`, exact.

        On a straight line of errors a + b·s the rate is (a + b·s) / (1 − s), whose integral from s to u is
        (a + b) · ln((1 − s) / (1 − u)) − b · (u − s).
        """
        if not 0 < limit < 1:
            raise InvalidArgument(f"a limit of the area lies between 0 and 1, but got {limit}")
        inside = self.share < limit
        share = np.append(self.share[inside], limit)
        errors = np.append(self.errors[inside], np.interp(limit, self.share, self.errors))
        start, width, fall = share[:-1], np.diff(share), np.diff(errors)
        slope = np.divide(fall, width, out=np.zeros_like(fall), where=width > 0)
        whole = errors[:-1] + slope * (1 - start)
        return float(np.sum(whole * np.log1p(width / (1 - share[1:])) - fall))


def discard_curve(quality: ArrayLike, failed: ArrayLike, weight: ArrayLike | None = None) -> DiscardCurve:
    """The curve of genuine pairs: quality (n,), whether they fail to match (n,), and how often each counts.

    Six pairs, of which the first, third and last fail. At first 3 of 6 do. Without the worst pair 2 of 5,
    then 2 of 4, 1 of 3, 1 of 2, and of the best pair alone 1 of 1:

    >>> curve = discard_curve([1, 2, 3, 4, 5, 6], [True, False, True, False, False, True])
    >>> [round(float(rate), 3) for rate in curve.fnmr(np.arange(6) / 6)]
    [0.5, 0.4, 0.5, 0.333, 0.5, 1.0]

    Of equal quality, the first two go together; half way, half of their one error has:

    >>> curve = discard_curve([1, 1, 3, 4, 5, 6], [True, False, True, False, False, True])
    >>> [round(float(rate), 3) for rate in curve.fnmr(np.arange(3) / 6)]
    [0.5, 0.5, 0.5]

    −infinity is a quality: of pairs that have none, and are discarded first. Raises InvalidArgument for
    shapes that differ, no pairs, NaN, and weights that are negative or all 0.
    """
    q, bad = np.asarray(quality, np.float64), np.asarray(failed, bool)
    if q.ndim != 1 or q.shape != bad.shape or q.size == 0:
        raise InvalidArgument(f"expected two arrays of one shape (n,), n ≥ 1, but {q.shape}, {bad.shape}")
    if np.isnan(q).any():
        raise InvalidArgument(
            "expected a quality for every pair, but got NaN", hint="−inf is discarded first"
        )
    group = np.unique(q, return_inverse=True)[1]
    return grouped_curve(group, bad, np.ones(q.size) if weight is None else np.asarray(weight, np.float64))


def grouped_curve(group: NDArray[np.int64], failed: NDArray[np.bool_], weight: Vector) -> DiscardCurve:
    """`discard_curve` for ranks of quality, whole numbers from 0; what resampling does again and again."""
    if weight.min() < 0 or weight.sum() <= 0:
        raise InvalidArgument("expected weights of 0 or more, and one above 0")
    gone = np.cumsum(np.bincount(group, weight))
    errors = np.cumsum(np.bincount(group, weight * failed))
    left = errors[-1] - np.concatenate(([0.0], errors))
    return DiscardCurve(np.concatenate(([0.0], gone)) / gone[-1], left / gone[-1])


def best_curve(rate: float) -> DiscardCurve:
    """The curve of a perfect quality: of a share `rate` of errors, each pair discarded is one."""
    return DiscardCurve(np.array([0.0, rate, 1.0]), np.array([rate, 0.0, 0.0]))


def relative_area(curve: DiscardCurve, limit: float = 0.3) -> float:
    """Where the area lies between the best possible, 0, and that of discarding by chance, 1.

    (pAUC − best) / (chance − best), chance being the rate with nothing discarded, times `limit`. Above 1
    is worse than chance.

    >>> curve = discard_curve([1, 2, 3, 4], [True, False, False, False])
    >>> relative_area(curve)
    0.0

    Raises InvalidArgument where no pair, or every pair, fails: then every order is as good.
    """
    rate = float(curve.errors[0])
    if not 0 < rate < 1:
        all_or_none = "every" if rate else "no"
        raise InvalidArgument(f"{all_or_none} genuine pair fails to match, so no quality could do better")
    best = best_curve(rate).area(limit)
    return (curve.area(limit) - best) / (rate * limit - best)
