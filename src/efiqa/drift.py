"""Whether new predictions come from where a threshold was found: pure functions, and one verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector

MIN_SCORES = 100
"""Fewer scores than this fill ten bins too thinly to compare."""
BINS = 10
MODERATE, LARGE = 0.1, 0.25
"""Population stability indices from which a change is called moderate and large: the usual rule of thumb."""
ALPHA = 0.01
"""A difference that chance gives in less than this share of comparisons is none of chance."""
Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def psi(new: ArrayLike, reference: ArrayLike, bins: int = BINS) -> float:
    """Population stability index, from 0 (the same shares in all bins) up.

    Σ (pᵢ − qᵢ) · ln(pᵢ / qᵢ) over bins between the quantiles 1/b, 2/b, … of the reference, p and q the
    shares of new and reference with half a score added to each bin, so that an empty one is no infinity
    (Siddiqi, Credit Risk Scorecards, 2006; the symmetric form of Kullback and Leibler, 1951). Where many
    scores are equal there are fewer bins. With nothing changed chance alone gives about (b − 1) · (1/n +
    1/m).
    """
    n, r = _checked(new, "new"), _checked(reference, "reference")
    edges = np.unique(np.quantile(r, np.arange(1, bins) / bins))
    p, q = (
        (count + 0.5) / (count.sum() + 0.5 * count.size)
        for count in (
            np.bincount(np.searchsorted(edges, each, side="right"), minlength=edges.size + 1)
            for each in (n, r)
        )
    )
    return float(np.sum((p - q) * np.log(p / q)))


def kolmogorov_smirnov(new: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """(D, p): the largest distance of the two distribution functions, and how often chance gives as much.

    p is Kolmogorov's limit, Q(λ) = 2 Σ (−1)^(k−1) exp(−2 k² λ²), at Stephens' λ = (√e + 0.12 + 0.11/√e) · D
    with e = nm / (n + m) (Stephens, JASA 69, 1974). Equal scores make p too large, never too small.
    """
    n, r = np.sort(_checked(new, "new")), np.sort(_checked(reference, "reference"))
    both = np.concatenate((n, r))
    share_n, share_r = (np.searchsorted(each, both, side="right") / each.size for each in (n, r))
    distance = float(np.abs(share_n - share_r).max())
    root = math.sqrt(n.size * r.size / (n.size + r.size))
    step = (root + 0.12 + 0.11 / root) * distance
    if step < 0.2:  # the sum is 1 to fifteen digits, but converges no more
        return distance, 1.0
    k = np.arange(1, 101)
    tail = 2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * np.square(k * step)))
    return distance, float(np.clip(tail, 0, 1))


def wilson(count: int, n: int) -> tuple[float, float]:
    """95 % interval of a share of which `count` of `n` is a sample (Wilson, JASA 22, 1927).

    >>> [round(end, 4) for end in wilson(5, 100)]
    [0.0215, 0.1118]
    """
    share, z2 = count / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(now: int, n: int, then: int, m: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares, now/n − then/m, from their Wilson intervals.

    Newcombe's hybrid score method (Newcombe, Statistics in Medicine 17, 1998, method 10).

    >>> [round(end, 4) for end in difference_interval(56, 70, 48, 80)]
    [0.0524, 0.3339]
    """
    a, b = now / n, then / m
    (low_a, high_a), (low_b, high_b) = wilson(now, n), wilson(then, m)
    return (
        a - b - math.hypot(a - low_a, high_b - b),
        a - b + math.hypot(high_a - a, b - low_b),
    )


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the reference and of what is new, and the difference, each with its 95 % interval."""

    then: float
    then_interval: tuple[float, float]
    now: float
    now_interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]

    def moved(self, tolerance: float) -> bool:
        """By more than `tolerance`, and by more than chance: the interval of the difference is without 0."""
        low, high = self.difference_interval
        return abs(self.difference) > tolerance and not low <= 0 <= high


def share(now: int, n: int, then: int, m: int) -> Share:
    """The shares now / n and then / m."""
    return Share(
        then / m,
        wilson(then, m),
        now / n,
        wilson(now, n),
        now / n - then / m,
        difference_interval(now, n, then, m),
    )


@dataclass(frozen=True, slots=True)
class Drift:
    """What was found in `n` new scores against `reference_n`; `drifted` with the reason in `verdict`.

    `below` is the share of scores below `threshold`, if there is one, and `failed` that of rows without a
    score.
    """

    n: int
    reference_n: int
    psi: float
    ks: float
    p: float
    change: Literal["none", "moderate", "large"]
    threshold: float | None
    below: Share | None
    failed: Share
    drifted: bool
    verdict: str


def drift(
    new: ArrayLike,
    reference: ArrayLike,
    *,
    threshold: float | None = None,
    failed: tuple[int, int] = (0, 0),
    tolerance: float = 0.02,
) -> Drift:
    """Compare two samples of scores, (n,) and (m,), and how many rows beside them have none; see Drift.

    Scores have drifted where chance does not explain it (Kolmogorov–Smirnov p < 0.01) and it is not small
    either (PSI of 0.1 or more): with many scores every difference is beyond chance, with few a PSI of 0.1
    is chance. A threshold no longer holds where the share below it has moved by more than `tolerance` and
    by more than chance (95 % interval of the difference without 0). Any of it counts as drift: a threshold
    that was found for an error rate rests on what lies above it too. The share of rows without a score,
    `failed` (new, reference) being their numbers, is held to the same rule as that below the threshold, for
    both are faces that are rejected; PSI and its limits are about bins of scores, which they do not have.

    Raises InvalidArgument for fewer than 100 scores in either, NaN, or a reference of equal scores only.
    """
    n, r = _checked(new, "new"), _checked(reference, "reference")
    if r.min() == r.max():
        raise InvalidArgument(
            f"all {r.size:,} scores of the reference are {r[0]:g}, so nothing can be compared with it",
            hint="were they scored with a model that works?",
        )
    if not 0 <= tolerance <= 1:
        raise InvalidArgument(f"a tolerance is a share in 0–1, but got {tolerance:g}")
    index, (distance, p) = psi(n, r), kolmogorov_smirnov(n, r)
    beyond_chance = p < ALPHA
    change: Literal["none", "moderate", "large"] = "none"
    if beyond_chance and index >= MODERATE:
        change = "large" if index >= LARGE else "moderate"
    without = share(failed[0], n.size + failed[0], failed[1], r.size + failed[1])
    below, said = None, []
    drifted = change != "none" or without.moved(tolerance)
    if threshold is not None:
        below = share(int((n < threshold).sum()), n.size, int((r < threshold).sum()), r.size)
        moved = below.moved(tolerance)
        drifted |= moved
        now, then = f"{below.now:.1%}", f"{below.then:.1%}"
        said.append(
            f"the threshold no longer holds: {_more(below)} are below it, {now} after {then}"
            if moved
            else f"the threshold holds: {now} are below it, {then} before"
        )
    if without.moved(tolerance):
        said.append(f"{_more(without)} rows have no score, {without.now:.1%} after {without.then:.1%}")
    words = {
        "none": "scores are distributed as before"
        if not beyond_chance
        else "scores are distributed a little differently, by less than a PSI of 0.1",
        "moderate": "scores are distributed differently",
        "large": "scores are distributed very differently",
    }
    said.append(words[change])
    return Drift(
        n.size, r.size, index, distance, p, change, threshold, below, without, drifted, "; ".join(said)
    )


def _more(found: Share) -> str:
    return "more" if found.difference > 0 else "fewer"


def _checked(values: ArrayLike, what: str) -> Vector:
    v = np.asarray(values, np.float64)
    if v.ndim != 1 or v.size < MIN_SCORES:
        raise InvalidArgument(
            f"at least {MIN_SCORES} {what} scores are needed, but got {v.size}",
            hint="wait until there are more: ten bins of a few scores differ by chance",
        )
    if not np.isfinite(v).all():
        raise InvalidArgument(f"expected finite {what} scores, but got NaN or infinity")
    return v
