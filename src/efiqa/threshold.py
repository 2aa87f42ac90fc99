"""Where to cut: the threshold for a share to discard, an error rate or agreement with labels, and its doubt.

Every target says which cut it chooses and what rate that cut has, for weights of the units it is sampled in
(pictures, or people). `find_cut` then asks the same of resamples: the interval of the cut, and that of its
rate in another sample as large as this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector

MIN_BEYOND = 5
"""At least this many scores must lie on either side of a cut for a share, or chance alone places it."""
MIN_LABELS = 10
"""Least number of pictures with each label."""
ROUNDS, MANY = 1000, 200_000
"""Resamples, and of more values than this a fifth of them: a million take ten seconds."""


class Target(Protocol):
    """What is to be reached. `values` (n,) are what is cut by, `units` how many are resampled."""

    values: Vector
    units: int

    def choose(self, weight: Vector | None) -> float | None:
        """The cut for weights (units,) of the units, or equal ones; none where it is out of reach."""

    def rate(self, cut: float, weight: Vector | None) -> float | None:
        """The rate that the cut has; none where nothing is left to have one."""

    def refusal(self) -> InvalidArgument:
        """What to say where the target is out of reach: what can be reached."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Values below `value` are cut off. `rate` is what the sample of `n` has with it.

    `interval` holds 95 % of the cuts that resamples choose. `rate_interval` is what to expect of the cut in
    another sample as large, with 95 %: `rate` and by how much the rate moves from the resample that a cut was
    chosen on to another. `reached` is the share of resamples in which the target could be reached.
    """

    value: float
    interval: tuple[float, float]
    rate: float
    rate_interval: tuple[float, float]
    n: int
    reached: float


def find_cut(target: Target, *, seed: int = 0) -> Cut:
    """The cut for the target, with bootstrap intervals (Efron, 1979) over its units.

    Raises InvalidArgument for constant values, and for what cannot be reached, with what can.
    """
    if target.values.min() == target.values.max():
        raise InvalidArgument(
            f"all {target.values.size:,} values are {target.values[0]:g}, so no cut tells them apart",
            hint="were the pictures scored with a model that works?",
        )
    value = target.choose(None)
    rate = None if value is None else target.rate(value, None)
    if value is None or rate is None:
        raise target.refusal()
    cuts, moved = [], []
    generator = np.random.default_rng(seed)
    rounds = ROUNDS if target.values.size <= MANY else ROUNDS // 5
    for _ in range(rounds):
        chosen_on, tried_on = _drawn(target.units, generator), _drawn(target.units, generator)
        cut = target.choose(chosen_on)
        if cut is None:
            continue
        cuts.append(cut)
        # What a rate loses from the sample its cut was chosen on, and is flattered by, to another one.
        before, after = target.rate(cut, chosen_on), target.rate(cut, tried_on)
        if before is not None and after is not None:
            moved.append(after - before)
    if not moved:
        raise target.refusal()
    expected = np.clip(rate + np.array(moved), 0, 1)
    reached = round(len(cuts) / rounds, 3)
    return Cut(value, _middle(np.array(cuts)), rate, _middle(expected), int(target.values.size), reached)


def _drawn(units: int, generator: np.random.Generator) -> Vector:
    """How often each unit is in a resample, float64 (units,)."""
    return np.bincount(generator.integers(0, units, units), minlength=units).astype(np.float64)


def _middle(values: Vector) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return round(float(low), 5), round(float(high), 5)


class Ordered:
    """Values sorted into groups of equals, and the cuts between them.

    Cut 0 is below all, cut j between the j-th and the next lowest value, the last above all.
    """

    def __init__(self, values: Vector) -> None:
        self.distinct, self.group = np.unique(values, return_inverse=True)
        lower, upper = self.distinct[:-1], self.distinct[1:]
        between = np.round((lower + upper) / 2, 5)
        # Rounding may not carry a cut to the lower value, which is below it, nor past the upper.
        between = np.where((between > lower) & (between <= upper), between, upper)
        above = np.maximum(self.distinct[-1:] + 1e-5, np.nextafter(self.distinct[-1:], np.inf))
        self.cuts = np.concatenate((self.distinct[:1], between, above))

    def below(self, weight: Vector | None) -> Vector:
        """Total weight below each cut, (groups + 1,)."""
        counts = np.bincount(self.group, weight, minlength=self.distinct.size)
        return np.concatenate(([0.0], np.cumsum(counts, dtype=np.float64)))


class DiscardShare:
    """Discard this share of scored faces: the cut whose share is nearest to it."""

    def __init__(self, values: Vector, share: float) -> None:
        """`values` (n,). Raises InvalidArgument for a share that so many values cannot resolve."""
        if not 0 < share < 1:
            raise InvalidArgument(
                f"a share to discard lies between 0 and 1, but got {share:g}", hint="0.05 is 5 %"
            )
        needed = math.ceil(MIN_BEYOND / min(share, 1 - share) - 1e-9)
        if values.size < needed:
            raise InvalidArgument(
                f"{values.size:,} scores cannot resolve a share of {share:g}",
                hint=f"give {needed:,} scores, or a share of {_nearest(values.size, share)}",
            )
        self.values, self.units, self.share, self._ordered = values, values.size, share, Ordered(values)

    def choose(self, weight: Vector | None) -> float | None:
        below = self._ordered.below(weight) / self.units
        place = int(np.abs(below - self.share).argmin())
        if weight is None and abs(below[place] - self.share) > max(1 / self.units, 0.1 * self.share):
            return None
        return float(self._ordered.cuts[place])

    def rate(self, cut: float, weight: Vector | None) -> float | None:
        return float(np.average(self.values < cut, weights=weight))

    def refusal(self) -> InvalidArgument:
        below = self._ordered.below(None) / self.units
        under, over = below[below < self.share].max(), below[below > self.share].min()
        return InvalidArgument(
            f"no cut discards {self.share:.3g} of the faces, because many have the same score",
            hint=f"the nearest shares that can be had are {under:.3g} and {over:.3g}",
        )


def _nearest(n: int, share: float) -> str:
    """The shares on the same side of a half that n scores can resolve."""
    least = MIN_BEYOND / max(n, 2 * MIN_BEYOND)
    tens = 10 ** (1 - math.floor(math.log10(least)))
    least = math.ceil(least * tens - 1e-9) / tens  # two digits, and not fewer than can be resolved
    return f"{least:g} or more" if share <= 0.5 else f"{1 - least:g} or less"


class Agreement:
    """Agree with labels: `balanced` accuracy at its highest, or a `precision` or `recall` that is reached.

    Accepted is what lies at the cut or above. Precision is the share of good pictures among the accepted,
    and recall the share of the good that are accepted; balanced accuracy is the mean of the shares of good
    accepted and of bad rejected. Of the cuts that reach a precision the lowest is chosen, which accepts
    most; of those that reach a recall the highest, which rejects most. Precision depends on how many bad
    ones come in.
    """

    def __init__(
        self, values: Vector, good: NDArray[np.bool_], goal: str = "balanced", at_least: float = 0.0
    ) -> None:
        """`values` and `good` (n,).

        Raises InvalidArgument for fewer than ten pictures of either label, a precision n cannot show.
        """
        for name, count in (("accept", int(good.sum())), ("reject", int((~good).sum()))):
            if count < MIN_LABELS:
                raise InvalidArgument(
                    f"at least {MIN_LABELS} pictures labelled {name} are needed, but got {count}",
                    hint="label pictures of both kinds: a cut lies between them",
                )
        if goal != "balanced" and not 0 < at_least < 1:
            raise InvalidArgument(f"a {goal} to reach lies between 0 and 1, but got {at_least:g}")
        if goal == "precision" and values.size < 1 / (1 - at_least) - 1e-9:
            raise InvalidArgument(
                f"{values.size:,} labelled pictures cannot show a precision of {at_least:g}",
                hint=f"label {math.ceil(1 / (1 - at_least) - 1e-9):,}, or ask for less",
            )
        self.values, self.units, self.good = values, values.size, good.astype(np.float64)
        self.goal, self.at_least, self._ordered = goal, at_least, Ordered(values)

    def _rates(self, weight: Vector | None) -> Vector:
        """What each cut reaches; −1 where nothing is left, or too little to say."""
        w = np.ones(self.units) if weight is None else weight
        good, every = self._ordered.below(w * self.good), self._ordered.below(w)
        good_left, bad_left = good[-1] - good, (every[-1] - every) - (good[-1] - good)
        goods, bads = good[-1], every[-1] - good[-1]
        if goods == 0 or bads == 0:
            return np.full(good.size, -1.0)
        if self.goal == "balanced":
            return np.asarray((good_left / goods + 1 - bad_left / bads) / 2)
        if self.goal == "recall":
            return np.asarray(good_left / goods)
        left = good_left + bad_left
        # Of fewer accepted pictures than this, not one bad one would show that the precision is lower.
        enough = left >= min(1 / (1 - self.at_least), every[-1])
        return np.where(enough, good_left / np.maximum(left, 1), -1.0)

    def choose(self, weight: Vector | None) -> float | None:
        rates = self._rates(weight)
        if self.goal == "balanced":
            # To accept all of them is right about half.
            found = rates.max() > 0.5 if weight is None else rates.max() >= 0
            return float(self._ordered.cuts[rates.argmax()]) if found else None
        reached = np.flatnonzero(rates >= self.at_least)
        if reached.size == 0:
            return None
        return float(self._ordered.cuts[reached[0 if self.goal == "precision" else -1]])

    def rate(self, cut: float, weight: Vector | None) -> float | None:
        w = np.ones(self.units) if weight is None else weight
        accepted = self.values >= cut
        goods, bads = float(w @ self.good), float(w @ (1 - self.good))
        good_in, bad_in = float((w * self.good)[accepted].sum()), float((w * (1 - self.good))[accepted].sum())
        match self.goal:
            case "precision":
                return good_in / (good_in + bad_in) if good_in + bad_in else None
            case "recall":
                return good_in / goods if goods else None
            case _:
                return (good_in / goods + 1 - bad_in / bads) / 2 if goods and bads else None

    def refusal(self) -> InvalidArgument:
        rates = self._rates(None)
        if self.goal == "balanced":
            return InvalidArgument(
                "no cut tells pictures labelled accept from those labelled reject better than chance",
                hint="do high scores mean good pictures, and are the labels of these pictures?",
            )
        return InvalidArgument(
            f"no cut reaches a {self.goal} of {self.at_least:g} on these labels",
            hint=f"the highest is {max(rates.max(), 0):.3g}, at {self._ordered.cuts[rates.argmax()]:.3g}",
        )
