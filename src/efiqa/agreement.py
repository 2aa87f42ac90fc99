"""How well scorers agree with people: the field's metrics, their intervals, and which scorer is ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from efiqa.errors import InvalidArgument
from efiqa.metrics import Logistic, Vector, fit_logistic, krcc, plcc, rmse, srcc
from efiqa.resampling import Comparison, Estimate, compare, estimate, resample

METRICS: dict[str, Callable[[Vector, Vector], float]] = {
    "srcc": srcc,
    "plcc": plcc,
    "plcc_fitted": plcc,
    "krcc": krcc,
    "rmse": rmse,
    "rmse_fitted": rmse,
}
"""Those called fitted are of the scores after fit_logistic."""
COMPARED = ("srcc", "plcc_fitted", "krcc", "rmse_fitted")
MIN_ROWS = 10
IN_UNITS = 0.95
"""A raw RMSE means something where at least this share of the scores lies in 0–1, as ratings do."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """One scorer's metrics, those of METRICS that it has; the fit; sentences on what it does not have."""

    metrics: dict[str, Estimate]
    fit: Logistic | None
    notes: tuple[str, ...] = ()


def agree(
    scores: Mapping[str, Vector], ratings: Vector, *, seed: int = 0
) -> tuple[dict[str, Agreement], list[Comparison]]:
    """Agreement of each scorer's scores (n,) with the ratings (n,) of the same pictures, and of every two.

    Intervals and differences are over pictures, the same resamples for all scorers. The logistic is fitted
    once, to all pictures, and does not move with the resamples.

    Raises InvalidArgument for fewer than 10 pictures, ratings that are all equal, NaN.
    """
    n = ratings.size
    if n < MIN_ROWS:
        raise InvalidArgument(
            f"only {n} pictures have a rating and a score of every scorer; {MIN_ROWS} are the least",
            hint="rate more pictures, or leave out the scorer that has few scores",
        )
    if ratings.min() == ratings.max():
        raise InvalidArgument(
            f"all {n:,} ratings are {ratings[0]:g}, so nothing can agree with them",
            hint="is the manifest's score column the rating?",
        )
    columns: dict[tuple[str, str], Vector] = {}
    fits: dict[str, Logistic | None] = {}
    notes: dict[str, list[str]] = {}
    for name, values in scores.items():
        columns |= {(name, metric): column for metric, column in _columns(values).items()}
        fits[name], notes[name] = None, _remarks(values)
        if values.min() == values.max():
            continue
        try:
            fits[name] = fitted = fit_logistic(values, ratings)
        except InvalidArgument as error:
            notes[name].append(f"no logistic is fitted: {error}")
        else:
            columns |= {(name, metric): fitted(values) for metric in ("plcc_fitted", "rmse_fitted")}
    value = {
        f"{name}/{metric}": METRICS[metric](column, ratings) for (name, metric), column in columns.items()
    }

    def measure(chosen: NDArray[np.int64]) -> dict[str, float]:
        truth = ratings[chosen]
        return {
            f"{name}/{metric}": _or_nan(METRICS[metric], column[chosen], truth)
            for (name, metric), column in columns.items()
        }

    samples = resample(measure, value, n, seed=seed)
    result = {
        name: Agreement(
            {
                metric: estimate(value[key], samples[key])
                for metric in METRICS
                if (key := f"{name}/{metric}") in value
            },
            fits[name],
            tuple(notes[name]),
        )
        for name in scores
    }
    comparisons = []
    for metric in COMPARED:
        having = {name: key for name in scores if (key := f"{name}/{metric}") in value}
        comparisons += compare(
            metric,
            {name: value[key] for name, key in having.items()},
            {name: samples[key] for name, key in having.items()},
        )
    return result, comparisons


def _columns(values: Vector) -> dict[str, Vector]:
    """What each metric that needs no fit is measured on."""
    metrics = [] if values.min() == values.max() else ["srcc", "plcc", "krcc"]
    if np.mean((values >= 0) & (values <= 1)) >= IN_UNITS:
        metrics.append("rmse")
    return dict.fromkeys(metrics, values)


def _remarks(values: Vector) -> list[str]:
    found = []
    if values.min() == values.max():
        found.append(
            f"it gives all {values.size:,} rated pictures the score {values[0]:g}, which ranks nothing"
        )
    if "rmse" not in _columns(values):
        found.append("no raw RMSE: its scores are not in the units of the ratings, 0–1")
    return found


def _or_nan(metric: Callable[[Vector, Vector], float], prediction: Vector, target: Vector) -> float:
    """The metric; NaN for a resample that drew one value only."""
    try:
        return metric(prediction, target)
    except InvalidArgument:
        return math.nan
