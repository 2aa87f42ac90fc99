"""How far a score may lie from people's mean rating: conformal intervals from held-out ratings.

Split conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Lei et
al., JASA 113, 2018): the halfwidth for a coverage c is the k-th smallest of n distances |score − rating|
that the model has not learnt from, k = ⌈c (n + 1)⌉. For a new picture of the same kind the interval then
holds its rating with a chance of at least c. One halfwidth for all scores would be too narrow where the
model is bad at it and too wide elsewhere, so there is one for each bin of scores (Mondrian conformal
prediction, Vovk et al., 2003).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from efiqa.card import Interval
from efiqa.errors import InvalidArgument, RecordError
from efiqa.metrics import Vector
from efiqa.records import Prediction, Row

COVERAGE = (0.5, 0.8, 0.9, 0.95)
"""What an interval may be asked to hold, as a share of pictures."""
WHAT = "mean rating of a whole picture by people"
"""What the intervals hold. Of a face crop nobody's rating is known, so nothing is claimed."""
MOST_BINS = 4
MIN_IN_BIN = 50
"""Fewer distances than this say little of a share of 95 %."""
FOLDS, DRAWS = 10, 10
"""Coverage is measured on groups left out, in tenths of them, over several draws of the tenths."""


def held_out(ratings: Iterable[Row], rated: Iterable[Prediction]) -> tuple[Vector, Vector, list[str]]:
    """(scores, ratings, groups) of whole pictures with a human label that no training has seen.

    Of `ratings` only whole pictures of split `validation` or `test` and source `human` count, of `rated` only
    whole pictures (scored with faces none). A row without a group is one of its own.

    Raises RecordError where they have no picture in common, and for a picture that is rated twice.
    """
    labels = {
        os.path.normpath(row.image): row
        for row in ratings
        if row.split != "train" and row.source == "human" and row.score is not None and row.bounds is None
    }
    scores, truths, groups = [], [], []
    for prediction in rated:
        path = os.path.normpath(prediction.image)
        if prediction.score is None or prediction.x is not None or path not in labels:
            continue
        row = labels.pop(path)
        scores.append(prediction.score)
        truths.append(row.score)
        groups.append(row.group or path)
    if not scores:
        raise RecordError(
            "no rated prediction is of a whole picture with a human label in split validation or test",
            hint="score the manifest of the ratings itself, with --faces none, from the same working folder",
        )
    return np.array(scores, np.float64), np.array(truths, np.float64), groups


def fit_interval(scores: Vector, ratings: Vector, groups: Sequence[str], *, of: str) -> Interval:
    """Halfwidths for each coverage of COVERAGE and each of up to four bins with as many scores each.

    `scores` and `ratings` are (n,) in the same units; `groups` say which belong together. `of` says in words
    what the interval holds. `measured` is the coverage on groups that were left out; see cross_coverage.

    Raises InvalidArgument for fewer than 50 ratings, or a single group, on which nothing can be measured.
    """
    edges, halfwidths = _fit(scores, np.abs(scores - ratings))
    measured = tuple(
        round(float(held.mean()), 3) for held, _ in cross_coverage(scores, ratings, groups).values()
    )
    return Interval(
        of,
        int(scores.size),
        COVERAGE,
        tuple(round(float(edge), 5) for edge in edges),
        # Rounded up: an interval that is narrower by a rounding does not hold what it says.
        tuple(tuple(math.ceil(width * 1e5) / 1e5 for width in row) for row in halfwidths.tolist()),
        measured,
    )


def cross_coverage(
    scores: Vector, ratings: Vector, groups: Sequence[str]
) -> dict[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Coverage → (how often each picture's interval held its rating, mean width), each (n,), out of the fit.

    Groups are dealt into ten parts; each part's intervals are fitted on the others. The mean is over ten
    deals.
    """
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if names.size < 2:
        raise InvalidArgument(
            "all ratings are of one group, so coverage cannot be measured on another",
            hint="name each picture's person or scene in the manifest's column group",
        )
    distance = np.abs(scores - ratings)
    generator = np.random.default_rng(0)
    held, width = np.zeros((len(COVERAGE), scores.size)), np.zeros((len(COVERAGE), scores.size))
    for _ in range(DRAWS):
        fold = (generator.permutation(names.size) % min(FOLDS, names.size))[group]
        for part in range(fold.max() + 1):
            inside = fold == part
            edges, halfwidths = _fit(scores[~inside], distance[~inside])
            widths = halfwidths[:, np.searchsorted(edges, scores[inside], side="right")]
            held[:, inside] += (distance[inside] <= widths) / DRAWS
            width[:, inside] += 2 * widths / DRAWS
    return {level: (held[place], width[place]) for place, level in enumerate(COVERAGE)}


def _fit(scores: Vector, distance: Vector) -> tuple[Vector, NDArray[np.float64]]:
    """(inner edges (b − 1,), halfwidths (coverages, b))."""
    bins = min(MOST_BINS, scores.size // MIN_IN_BIN)
    if bins < 1:
        raise InvalidArgument(
            f"intervals need at least {MIN_IN_BIN} held-out ratings, but got {scores.size}",
            hint="hold more out: efiqa index --validation 0.2",
        )
    edges = np.unique(np.quantile(scores, np.arange(1, bins) / bins))
    place = np.searchsorted(edges, scores, side="right")
    members = [np.sort(distance[place == number]) for number in range(edges.size + 1)]
    if min(len(each) for each in members) < MIN_IN_BIN // 2:  # many equal scores: bins of any size
        edges, members = edges[:0], [np.sort(distance)]
    return edges, np.array(
        [
            [each[min(each.size, math.ceil(level * (each.size + 1))) - 1] for each in members]
            for level in COVERAGE
        ]
    )
