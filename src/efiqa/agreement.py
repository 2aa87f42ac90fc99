"""How well scorers agree with people: the field's metrics, their intervals, and which scorer is ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from efiqa.errors import InvalidArgument
from efiqa.metrics import Logistic, Vector, fit_logistic, krcc, order, plcc, rmse, srcc
from efiqa.resampling import Comparison, Estimate, compare, estimate, resample

METRICS: dict[str, Callable[..., float]] = {
    "srcc": srcc,
    "plcc": plcc,
    "plcc_fitted": plcc,
    "krcc": krcc,
    "rmse": rmse,
    "rmse_fitted": rmse,
}
"""Those called fitted are of the scores after fit_logistic."""
BY_ORDER = ("srcc", "krcc")
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
    columns: list[tuple[str, Vector, list[str]]] = []  # a scorer's name, numbers, and what is said of them
    fits: dict[str, Logistic | None] = {}
    notes: dict[str, list[str]] = {}
    for name, values in scores.items():
        columns.append((name, values, _unfitted(values)))
        fits[name], notes[name] = None, _remarks(values)
        if values.min() == values.max():
            continue
        try:
            fits[name] = fitted = fit_logistic(values, ratings)
        except InvalidArgument as error:
            notes[name].append(f"no logistic is fitted: {error}")
        else:
            columns.append((name, fitted(values), ["plcc_fitted", "rmse_fitted"]))
    value = {key: metric() for key, metric in _metrics(columns, ratings, slice(None))}

    def measure(chosen: NDArray[np.int64]) -> dict[str, float]:
        return {key: _or_nan(metric) for key, metric in _metrics(columns, ratings, chosen)}

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


def _metrics(
    columns: Sequence[tuple[str, Vector, list[str]]], ratings: Vector, rows: NDArray[np.int64] | slice
) -> Iterator[tuple[str, Callable[[], float]]]:
    """`scorer/metric` and the metric over these rows; those of one scorer and all ratings sort them once."""
    truth = ratings[rows]
    true_order = order(truth)
    for name, column, metrics in columns:
        values = column[rows]
        values_order = order(values) if set(metrics) & set(BY_ORDER) else None
        for metric in metrics:
            pair = (values_order, true_order) if metric in BY_ORDER else (values, truth)
            yield f"{name}/{metric}", partial(METRICS[metric], *pair)


def _unfitted(values: Vector) -> list[str]:
    """The metrics that need no fit which these values have."""
    metrics = [] if values.min() == values.max() else ["srcc", "plcc", "krcc"]
    if np.mean((values >= 0) & (values <= 1)) >= IN_UNITS:
        metrics.append("rmse")
    return metrics


def _remarks(values: Vector) -> list[str]:
    found = []
    if values.min() == values.max():
        found.append(
            f"it gives all {values.size:,} rated pictures the score {values[0]:g}, which ranks nothing"
        )
    if "rmse" not in _unfitted(values):
        found.append("no raw RMSE: its scores are not in the units of the ratings, 0–1")
    return found


def _or_nan(metric: Callable[[], float]) -> float:
    """The metric; NaN for a resample that drew one value only."""
    try:
        return metric()
    except InvalidArgument:
        return math.nan
