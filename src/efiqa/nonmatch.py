"""The target of a recogniser: few false non-matches among the pairs whose pictures are good enough."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from efiqa.discard import grouped_curve, match_threshold
from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector
from efiqa.pairs import Pairs, people
from efiqa.threshold import Ordered


class FalseNonMatch:
    """Bring the false non-match rate of genuine pairs to `rate` by discarding pictures below the cut.

    The match threshold is fixed once, at the false match rate `fmr` of all impostor pairs. A pair is left
    where both its pictures are at the cut or above. The cut is the lowest with a rate of at most `rate`
    among no fewer pairs than 1 / `rate`. Resampled are people, who are found as the pictures that genuine
    pairs connect.
    """

    def __init__(self, pairs: Pairs, quality: Vector, *, fmr: float, rate: float) -> None:
        """`quality` (n,) of each pair, the lower of its two; NaN for a picture without one, left out.

        Raises InvalidArgument as match_threshold does, without genuine pairs, and for a rate that so many
        of them cannot resolve.
        """
        if not 0 < rate < 1:
            raise InvalidArgument(f"a false non-match rate lies between 0 and 1, but got {rate:g}")
        self.match = match_threshold(pairs.similarity[~pairs.genuine], fmr)
        used = pairs.genuine & ~np.isnan(quality)
        if not used.any():
            raise InvalidArgument(
                "there are no genuine pairs of pictures with a score, and only they can fail to match",
                hint="add pairs of one person, with genuine 1, whose pictures were scored",
            )
        if used.sum() < 1 / rate:
            raise InvalidArgument(
                f"{int(used.sum()):,} genuine pairs cannot resolve a false non-match rate of {rate:g}",
                hint=f"take {math.ceil(1 / rate):,} pairs, or a rate of {1 / used.sum():.2g} or more",
            )
        self.values, self.at_most = quality[used], rate
        self.failed = pairs.similarity[used] <= self.match.limit
        persons, self._person = np.unique(people(pairs)[used], return_inverse=True)
        self.units = persons.size
        self._ordered = Ordered(self.values)

    def _rates(self, weight: Vector | None) -> Vector:
        """Rate at each cut but the last, which leaves none; 1 where too few pairs are left to tell."""
        w = np.ones(self.values.size) if weight is None else weight[self._person]
        if w.sum() == 0:
            return np.ones(1)
        curve = grouped_curve(self._ordered.group, self.failed, w)
        left = 1 - curve.share[:-1]
        enough = left * w.sum() >= 1 / self.at_most - 1e-9
        return np.where(enough, curve.errors[:-1] / np.maximum(left, 1e-300), 1.0)

    def choose(self, weight: Vector | None) -> float | None:
        reached = np.flatnonzero(self._rates(weight) <= self.at_most)
        return float(self._ordered.cuts[reached[0]]) if reached.size else None

    def rate(self, cut: float, weight: Vector | None) -> float | None:
        w = (np.ones(self.values.size) if weight is None else weight[self._person]) * (self.values >= cut)
        return float(np.average(self.failed, weights=w)) if w.sum() else None

    def refusal(self) -> InvalidArgument:
        rates = self._rates(None)
        return InvalidArgument(
            f"no cut brings the false non-match rate to {self.at_most:g}",
            hint=f"without a cut it is {rates[0]:.3g}; the lowest is {rates.min():.3g}, at "
            f"{self._ordered.cuts[rates.argmin()]:.3g}",
        )


def pair_quality(pairs: Pairs, found: Mapping[str, float | None]) -> Vector:
    """The lower value of each pair's two pictures, (n,); NaN where one has none."""
    of = {name: math.nan if value is None else value for name, value in found.items()}
    lower = np.minimum([of[name] for name in pairs.first], [of[name] for name in pairs.second])
    return np.asarray(lower, np.float64)
