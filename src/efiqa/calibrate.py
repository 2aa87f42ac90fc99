"""What `quality` is relative to: a population of one's own, or the scale of an older model.

Predictions → `population_of` → Population, the percentile table. Predictions of the same pictures by a new
and an old model → `link_of` → Link, which says what the new model's scores are on the old one's scale. Either
lies in a Calibration, a JSON file that belongs to one model and is refused by any other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efiqa.card import ModelCard, Population, typed
from efiqa.errors import InvalidArgument, ModelError, RecordError
from efiqa.matching import largest_faces, match
from efiqa.metrics import Vector, srcc
from efiqa.names import printable
from efiqa.records import Prediction
from efiqa.writing import atomic

MIN_SCORES = 100
"""Percentiles of fewer scores than this are not told apart."""
MIN_AGREEMENT = 0.5
"""Least SRCC of two models whose scores may be linked: below it they do not measure the same thing."""
DIGITS = 5
QUALITY_TOLERANCE = 0.11
"""A written quality is rounded to 0.1, and its score to five digits."""


@dataclass(frozen=True, slots=True)
class Link:
    """What scores of a new model are on the scale of an old one, by equal percentiles.

    `scores` of the new model, rising, equal `equals` of `model` (name@version) with `digest`, which never
    fall. Between them it is linear; beyond their ends it goes on with a slope of 1, so that no two scores
    become one. Made from `n` pictures.
    """

    model: str
    digest: str
    n: int
    scores: tuple[float, ...]
    equals: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in itertools.pairwise(self.scores))
        never_falling = all(a <= b for a, b in itertools.pairwise(self.equals))
        if not (len(self.scores) == len(self.equals) >= 2 and rising and never_falling):
            raise ModelError("link: expected scores that rise, and as many equals that never fall")

    def __call__(self, score: float) -> float:
        """The old model's score that as many pictures stay below."""
        place = bisect_right(self.scores, score)
        if place == 0:
            return self.equals[0] + score - self.scores[0]
        if place == len(self.scores):
            return self.equals[-1] + score - self.scores[-1]
        share = (score - self.scores[place - 1]) / (self.scores[place] - self.scores[place - 1])
        return self.equals[place - 1] + share * (self.equals[place] - self.equals[place - 1])

    def back(self, score: float) -> float:
        """The lowest score of the new model that is no lower than `score` of the old: what a cut becomes."""
        place = bisect_left(self.equals, score)
        if place == 0:
            return self.scores[0] + score - self.equals[0]
        if place == len(self.equals):
            return self.scores[-1] + score - self.equals[-1]
        share = (score - self.equals[place - 1]) / (self.equals[place] - self.equals[place - 1])
        return self.scores[place - 1] + share * (self.scores[place] - self.scores[place - 1])


@dataclass(frozen=True, slots=True)
class Calibration:
    """What replaces the population in the card of `model` (name@version) with the file digest `digest`.

    With a `link`, `population` is that of the old model, and so is the quality.
    """

    model: str
    digest: str
    population: Population
    link: Link | None = None

    def quality(self, score: float) -> float:
        """Percentile, 0–100, of a score of the model."""
        return self.population.percentile(score if self.link is None else self.link(score))

    def check(self, card: ModelCard, digest: str) -> None:
        """Raises ModelError for a model other than the calibration's own."""
        if (self.model, self.digest) != (card.source, digest):
            raise ModelError(
                f"the calibration is of {self.model} ({self.digest}), but the model is {card.source} "
                f"({digest})",
                hint="make one of this model's predictions: efiqa calibrate, with --link to keep old numbers",
            )


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write it as JSON; atomic."""
    with atomic(path) as file:
        file.write(json.dumps(dataclasses.asdict(calibration), indent=1, ensure_ascii=False) + "\n")


def read_calibration(path: Path) -> Calibration:
    """What write_calibration wrote. Raises ModelError for a file that is none."""
    where = f"calibration {printable(path)}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{where} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{where}: not JSON ({error})", hint="expected a file made by efiqa calibrate"
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"{where}: expected a JSON object", hint="expected a file made by efiqa calibrate")
    calibration: Calibration = typed(Calibration, values, where)
    check_population(calibration.population, where)
    return calibration


def population_of(name: str, predictions: Iterable[Prediction]) -> Population:
    """Percentile table of the rows that have a score. Raises RecordError below 100 of them, or all equal."""
    scores = np.array([row.score for row in predictions if row.score is not None], np.float64)
    if scores.size < MIN_SCORES:
        raise RecordError(
            f"a population needs at least {MIN_SCORES} scores, but got {scores.size}",
            hint="score more pictures of the kind that quality is to be relative to",
        )
    if scores.min() == scores.max():
        raise RecordError(
            f"all {scores.size:,} scores are {scores[0]:g}, so no picture is better than another",
            hint="were the pictures scored with a model that works?",
        )
    table = np.percentile(scores, np.arange(101))
    return Population(name, int(scores.size), tuple(round(float(value), DIGITS) for value in table))


def population_id(population: Population) -> str:
    """Name and digest: what a policy that cuts by quality is bound to."""
    text = json.dumps([population.n, population.scores])
    return f"{population.name} #{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check_made_by(
    predictions: Sequence[Prediction], population: Population | None, model: str, link: Link | None = None
) -> None:
    """Raises RecordError where a row's quality is not what `population` gives its score: another model's.

    A table of predictions does not name its model, but it shows its mark: two models differ in what
    percentile a score is.
    """
    if population is None:
        return
    for row in predictions:
        if row.score is None or row.quality is None:
            continue
        expected = population.percentile(row.score if link is None else link(row.score))
        if abs(row.quality - expected) > QUALITY_TOLERANCE:
            raise RecordError(
                f"the predictions are not of {model}: {row.image} has score {row.score:g} and quality "
                f"{row.quality:g}, where it gives {expected:.1f}",
                hint="--model names the model that made them; leave out predictions of another calibration",
            )


def check_one_scale(first: Sequence[Prediction], second: Sequence[Prediction]) -> None:
    """Raises RecordError where a score of `first` has another quality than scores around it in `second`."""
    known = sorted(
        {(row.score, row.quality) for row in second if row.score is not None and row.quality is not None}
    )
    scores = [score for score, _ in known]
    for row in first:
        if row.score is None or row.quality is None or not known:
            continue
        low = known[max(0, bisect_left(scores, row.score) - 1)][1]
        high = known[min(len(known) - 1, bisect_right(scores, row.score))][1]
        inside = scores[0] <= row.score <= scores[-1]
        if inside and not low - QUALITY_TOLERANCE <= row.quality <= high + QUALITY_TOLERANCE:
            raise RecordError(
                f"the two tables are not of one model and calibration: score {row.score:g} is quality "
                f"{row.quality:g} in one, and {low:g}–{high:g} in the other",
                hint="score both with the same model and the same --calibration",
            )


def paired_scores(new: Sequence[Prediction], old: Sequence[Prediction]) -> tuple[Vector, Vector, list[str]]:
    """(scores of new, of old, names of the pictures left out), for the largest face of the same pictures.

    Left out are pictures that only one table has, or has a score for. Raises RecordError for a picture with
    two rows that differ, and where more than a tenth of `new` are not in `old`, or the other way round.
    """
    partners = match([row.image for row in largest_faces(new)], "", old, "the new table")
    pairs: list[tuple[float, float]] = []
    left_out: list[str] = []
    for row, partner in zip(largest_faces(new), partners, strict=True):
        if partner is None or row.score is None or partner.score is None:
            left_out.append(row.image)
        else:
            pairs.append((row.score, partner.score))
    back = match([row.image for row in largest_faces(old)], "", new, "the old table")
    left_out += [row.image for row, partner in zip(largest_faces(old), back, strict=True) if partner is None]
    a, b = np.array(pairs, np.float64).reshape(-1, 2).T
    return a, b, left_out


def link_of(new: Vector, old: Vector, model: str, digest: str) -> Link:
    """Equipercentile link from scores of a new model to those of an old one for the same n pictures.

        e(x) = Q_old(P_new(x)),  P the share of scores up to x, Q the quantile,

    at the percentiles 0, 1, … 100 (Kolen and Brennan, Test Equating, Scaling, and Linking, 3rd ed., ch. 2,
    single group design). `model` (name@version) and `digest` are the old one's. Where several percentiles
    of the new model are one score, it equals the mean of the old ones.

    Raises InvalidArgument for fewer than 100 pictures, constant scores, or SRCC below 0.5: what does not
    measure the same thing cannot be linked.
    """
    if new.size < MIN_SCORES:
        raise InvalidArgument(
            f"a link needs at least {MIN_SCORES} pictures, but got {new.size}",
            hint="score more pictures, the same ones, with both models",
        )
    for scores, which in ((new, "new"), (old, "old")):
        if scores.min() == scores.max():
            raise InvalidArgument(
                f"all {scores.size:,} scores of the {which} model are {scores[0]:g}, so there is no scale",
                hint="were the pictures scored with a model that works?",
            )
    agreement = srcc(new, old)
    if agreement < MIN_AGREEMENT:
        raise InvalidArgument(
            f"the two models hardly agree, SRCC {agreement:.2f}: no link makes their numbers comparable",
            hint=f"at least {MIN_AGREEMENT} is needed; find new thresholds with efiqa threshold",
        )
    share = np.arange(101)
    knots, place = np.unique(np.round(np.percentile(new, share), DIGITS), return_inverse=True)
    equals = np.bincount(place, np.percentile(old, share)) / np.bincount(place)
    return Link(
        model,
        digest,
        int(new.size),
        tuple(knots.tolist()),
        tuple(round(float(value), DIGITS) for value in equals),
    )


def check_population(population: Population, where: str) -> None:
    """Raises ModelError unless its scores are 101 numbers that never fall."""
    table = population.scores
    if len(table) != 101 or any(a > b for a, b in itertools.pairwise(table)):
        raise ModelError(f"{where}: population.scores must be 101 numbers that never fall")
