"""Bootstrap (Efron, 1979): intervals, and whether two scorers differ, from how numbers move in resamples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efiqa.metrics import Vector

COVERAGE = 0.95
ROUNDS = 1000
LARGEST = 2000
"""Of more units than this, a resample has this many, and what it says is scaled to all."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95 % interval; none where too few resamples have the number."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much `first` is above `second`, on the same resamples.

    `p` is the two-sided bootstrap p-value of no difference, `corrected` for the number of comparisons.
    """

    metric: str
    first: str
    second: str
    difference: Estimate
    p: float
    corrected: float


def resample(
    measure: Callable[[NDArray[np.int64]], Mapping[str, float | Vector]],
    values: Mapping[str, float | Vector],
    units: int,
    *,
    seed: int = 0,
) -> dict[str, Vector]:
    """1,000 resamples of each of `values`, stacked: (1000, …); NaN where `measure` gives that.

    `measure` gets the indices of the units drawn, with replacement. Of more than m = 2,000 units m are
    drawn, and the distance of what is measured from the value counts √(m / n) times: the spread of what is
    smooth in its rows goes with 1 / √n (m out of n bootstrap; Bickel, Götze and van Zwet, 1997). So the time
    that it takes does not grow with n.
    """
    drawn = min(units, LARGEST)
    generator = np.random.default_rng(seed)
    found = [measure(generator.integers(0, units, drawn)) for _ in range(ROUNDS)]
    scale = math.sqrt(drawn / units)
    return {
        name: value + (np.array([each[name] for each in found], np.float64) - value) * scale
        for name, value in values.items()
    }


def estimate(value: float, samples: Vector) -> Estimate:
    """The percentile interval that resamples (rounds,) give.

    Those without the number (NaN) are left out; where they are more than half there is no interval.
    """
    kept = samples[np.isfinite(samples)]
    if 2 * kept.size < samples.size:
        return Estimate(value)
    low, high = np.quantile(kept, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Estimate(value, float(low), float(high))


def p_value(samples: Vector) -> float:
    """Two-sided, that resampled differences (rounds,) have no sign: at least 2 / (rounds + 1), at most 1."""
    kept = samples[np.isfinite(samples)]
    return min(1.0, 2 * (1 + min(int((kept <= 0).sum()), int((kept >= 0).sum()))) / (kept.size + 1))


def compare(metric: str, values: Mapping[str, float], samples: Mapping[str, Vector]) -> list[Comparison]:
    """Every two of the named scorers, in order, on the same resamples."""
    pairs = list(itertools.combinations(values, 2))
    moved = [samples[first] - samples[second] for first, second in pairs]
    found = [p_value(each) for each in moved]
    return [
        Comparison(metric, first, second, estimate(values[first] - values[second], each), p, corrected)
        for (first, second), each, p, corrected in zip(pairs, moved, found, holm(found), strict=True)
    ]


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = highest
    return corrected
