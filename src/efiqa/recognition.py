"""Scorers against a face recogniser: error versus discard over genuine pairs, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efiqa.discard import (
    DiscardCurve,
    MatchThreshold,
    best_curve,
    discard_curve,
    match_threshold,
    relative_area,
)
from efiqa.errors import InvalidArgument
from efiqa.metrics import Vector
from efiqa.resampling import Comparison, Estimate, compare, estimate, resample

LIMIT = 0.3
"""Areas end here: who discards more than this share of pairs has another problem."""
SHARES = np.arange(96) / 100
"""Discarded shares at which curves are written down."""
NAMED = (0.05, 0.1, 0.2, 0.3)
"""Those that stand in tables."""
FEW_FALSE_MATCHES = 10
FEW_PEOPLE = 10


@dataclass(frozen=True, slots=True)
class Discard:
    """One scorer: the curve at SHARES with its interval, and the area up to LIMIT.

    `area` / LIMIT is the mean rate while up to LIMIT are discarded. `relative` is 0 for the best possible
    order of these pairs and 1 for chance.
    """

    fnmr: tuple[Estimate, ...]
    area: Estimate
    relative: Estimate


@dataclass(frozen=True, slots=True)
class Recognition:
    """All scorers at one threshold, over the same `genuine` pairs.

    `people` of them were resampled. `best` is the curve at SHARES of a perfect order, `best_area` its area;
    without any order the rate stays at `fnmr`, and its area is `chance_area`.
    """

    threshold: MatchThreshold
    target: float
    genuine: int
    people: int
    fnmr: float
    best: tuple[float, ...]
    chance_area: float
    best_area: float
    scorers: dict[str, Discard]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]


def recognise(
    quality: Mapping[str, Vector],
    genuine: NDArray[np.bool_],
    similarity: Vector,
    *,
    person: NDArray[np.int64],
    fmr: float,
    seed: int = 0,
) -> Recognition:
    """Error versus discard of each scorer's pair qualities (n,), −inf where a picture of the pair has none.

    The threshold is fixed once, by all impostor pairs, before anything is discarded; only genuine pairs
    are. What is resampled is people, `person` (n,) being the number of the one that a genuine pair shows:
    several pairs of one are not independent. The threshold does not move with the resamples.

    Raises InvalidArgument without genuine or impostor pairs, for a rate that the impostor pairs cannot
    resolve, and where every genuine pair matches, or none does.
    """
    if not genuine.any():
        raise InvalidArgument(
            "there are no genuine pairs, and only they can be falsely rejected",
            hint="add pairs of one person, with genuine 1",
        )
    threshold = match_threshold(similarity[~genuine], fmr)
    failed = similarity[genuine] <= threshold.limit
    rate = float(failed.mean())
    if not 0 < rate < 1:
        every = "every" if rate else "no"
        raise InvalidArgument(
            f"at similarity {threshold.limit:g}, the threshold for FMR {fmr:g}, {every} genuine pair fails "
            "to match, so no quality could do better or worse",
            hint=f"--fmr takes another rate, one {'above' if rate else 'below'} {fmr:g}",
        )
    qualities = {name: values[genuine] for name, values in quality.items()}
    units, rows_of = _units(person[genuine])
    curves = {name: discard_curve(values, failed) for name, values in qualities.items()}
    value: dict[str, float | Vector] = {}
    for name, curve in curves.items():
        value |= _numbers(name, curve)

    def measure(chosen: NDArray[np.int64]) -> dict[str, float | Vector]:
        rows = rows_of(chosen)
        found: dict[str, float | Vector] = {}
        for name, values in qualities.items():
            found |= _numbers(name, discard_curve(values[rows], failed[rows]))
        return found

    samples = resample(measure, value, units, seed=seed)
    scorers = {
        name: Discard(
            tuple(
                estimate(float(at), samples[f"{name}/fnmr"][:, place])
                for place, at in enumerate(np.atleast_1d(value[f"{name}/fnmr"]))
            ),
            estimate(float(value[f"{name}/area"]), samples[f"{name}/area"]),
            estimate(float(value[f"{name}/relative"]), samples[f"{name}/relative"]),
        )
        for name in qualities
    }
    comparisons = compare(
        "area",
        {name: float(value[f"{name}/area"]) for name in qualities},
        {name: samples[f"{name}/area"] for name in qualities},
    )
    best = best_curve(rate)
    return Recognition(
        threshold,
        fmr,
        failed.size,
        units,
        rate,
        tuple(map(float, best.fnmr(SHARES))),
        rate * LIMIT,
        best.area(LIMIT),
        scorers,
        tuple(comparisons),
        tuple(_remarks(threshold, qualities, units)),
    )


def _numbers(name: str, curve: DiscardCurve) -> dict[str, float | Vector]:
    try:
        relative = relative_area(curve, LIMIT)
    except InvalidArgument:  # a resample without, or with nothing but, errors
        relative = math.nan
    return {
        f"{name}/fnmr": curve.fnmr(SHARES),
        f"{name}/area": curve.area(LIMIT),
        f"{name}/relative": relative,
    }


def _units(
    person: NDArray[np.int64],
) -> tuple[int, Callable[[NDArray[np.int64]], NDArray[np.int64]]]:
    """How many people there are, and what gives the pairs of those drawn."""
    member, count = np.unique(person, return_inverse=True, return_counts=True)[1:]
    rows = np.argsort(member, kind="stable")
    start = np.cumsum(count) - count

    def rows_of(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        width = count[chosen]
        ends = np.cumsum(width)
        return np.asarray(rows[np.arange(ends[-1]) + np.repeat(start[chosen] - ends + width, width)])

    return count.size, rows_of


def _remarks(threshold: MatchThreshold, qualities: Mapping[str, Vector], people: int) -> list[str]:
    found = []
    if people < FEW_PEOPLE:
        found.append(f"The genuine pairs are of {people} people only, so their intervals say little.")
    if threshold.false_matches < FEW_FALSE_MATCHES:
        found.append(
            f"Only {threshold.false_matches} of {threshold.impostors:,} impostor pairs match at it,"
            " so the false match rate is known roughly: more impostor pairs, or a higher --fmr, are better."
        )
    for name, values in qualities.items():
        if values.min() == values.max():
            found.append(f"{name} gives every pair one quality, so its curve is that of chance.")
    return found
