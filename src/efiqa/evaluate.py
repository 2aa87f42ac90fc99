"""Scorers × a manifest → an evaluation: agreement with people, use for recognition, differences of groups."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from efiqa.agreement import Agreement, agree
from efiqa.entrants import Entrant, remarks
from efiqa.errors import EfiqaError, InvalidArgument, RecordError
from efiqa.groups import Grouping, binned, compare_groups
from efiqa.metrics import Vector
from efiqa.pairs import Pairs, people
from efiqa.pictures import MAX_MISSING, Pictures
from efiqa.recognition import Recognition, recognise
from efiqa.records import Row
from efiqa.resampling import Comparison

if TYPE_CHECKING:  # it loads the runtime of models
    from efiqa.probe import Probe

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What is known of the entrants. `rating` (n,) is NaN where nobody rated.

    `groups` are by column, then by entrant. A part that is not there, or that was impossible, is none
    or empty; `notes` are sentences, of which one says why.
    """

    rows: tuple[Row, ...]
    rating: Vector
    split: str | None
    entrants: tuple[Entrant, ...]
    agreement: dict[str, Agreement]
    compared: int
    comparisons: tuple[Comparison, ...]
    recognition: Recognition | None
    groups: dict[str, dict[str, Grouping]]
    probes: tuple[Probe, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Membership:
    """The group of each picture that a table names, from `folder`; see efiqa.groups.read_groups."""

    folder: str
    group: dict[str, str]


def evaluate(
    rows: Sequence[Row],
    entrants: Sequence[Entrant],
    *,
    split: str | None = None,
    pairs: tuple[str, Pairs] | None = None,
    fmr: float = 1e-3,
    groups: Mapping[str, Membership] | None = None,
    probes: Sequence[Probe] = (),
    max_missing: float = MAX_MISSING,
    seed: int = 0,
    notes: Sequence[str] = (),
) -> Evaluation:
    """All that the rows' ratings, the pairs (after their table's folder) and the groups say of the entrants.

    `rows` are distinct, and in the order of the entrants' scores. `probes` and `notes` are passed on.

    A part that is impossible becomes a note; where all are, the first's error is raised. Raises
    RecordError for pairs of which more than `max_missing` are of unknown pictures.
    """
    names = [entrant.name for entrant in entrants]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidArgument(f"two scorers are called {twice[0]!r}", hint="NAME=FILE gives one another name")
    if not entrants:
        raise InvalidArgument("there is nothing to evaluate", hint="name predictions, or a --baseline")
    said = [*notes, *remarks(entrants, len(rows))]
    errors: list[EfiqaError] = []

    def attempt(part: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except InvalidArgument as error:
            errors.append(error)
            helps = f" What helps: {error.hint}" if error.hint else ""
            said.append(f"{part}: {error}.{helps}".rstrip(".") + "." * (not helps.endswith("?")))
            return None

    rating = np.array([np.nan if row.score is None else row.score for row in rows], np.float64)
    common = np.isfinite(rating) & np.all([np.isfinite(entrant.score) for entrant in entrants], axis=0)
    agreed = None
    if np.isfinite(rating).any():
        scores = {entrant.name: entrant.score[common] for entrant in entrants}
        agreed = attempt("Agreement with people", lambda: agree(scores, rating[common], seed=seed))
        said += _splits_note(rows, rating, split)
        if agreed:
            said += [f"{name}: {note}." for name, one in agreed[0].items() for note in one.notes]
    recognition = None
    if pairs is not None:
        quality, kept, more = _pair_quality(rows, entrants, *pairs, max_missing=max_missing)
        said += more
        genuine, similarity = pairs[1].genuine[kept], pairs[1].similarity[kept]
        person = people(pairs[1])[kept]
        recognition = attempt(
            "Use for recognition",
            lambda: recognise(quality, genuine, similarity, fmr=fmr, person=person, seed=seed),
        )
        said += recognition.notes if recognition else ()
    grouped: dict[str, dict[str, Grouping]] = {}
    for column, membership in (groups or {}).items():
        label, more = _labels(rows, column, membership)
        said += more
        for entrant in entrants:
            found = attempt(f"Groups by {column}, {entrant.name}", lambda: _grouping(entrant, label))  # noqa: B023
            if found:
                grouped.setdefault(column, {})[entrant.name] = found
    if agreed is None and recognition is None and not grouped and not probes:
        raise (
            errors[0]
            if errors
            else InvalidArgument(
                "no picture of the manifest has a rating, and there are no pairs, no groups and no probes",
                hint="--pairs PAIRS.csv, --group COLUMN --table FILE, --probe FILE, or a rated manifest",
            )
        )
    return Evaluation(
        tuple(rows),
        rating,
        split,
        tuple(entrants),
        agreed[0] if agreed else {},
        int(common.sum()),
        tuple(agreed[1]) if agreed else (),
        recognition,
        grouped,
        tuple(probes),
        tuple(dict.fromkeys(said)),
    )


def _splits_note(rows: Sequence[Row], rating: Vector, split: str | None) -> list[str]:
    if split is not None:
        return []
    counts = Counter(itertools.compress(map(attrgetter("split"), rows), np.isfinite(rating).tolist()))
    if len(counts) < 2 or "train" not in counts:
        return []
    parts = " and ".join(f"{number:,} of {name}" for name, number in counts.items())
    return [
        f"Rated pictures are {parts}: a model is judged by what it has not learnt from, so name a --split."
    ]


def _pair_quality(
    rows: Sequence[Row], entrants: Sequence[Entrant], folder: str, pairs: Pairs, *, max_missing: float
) -> tuple[dict[str, Vector], NDArray[np.bool_], list[str]]:
    """Each entrant's quality of the pairs that are kept, which those are, and what is to be said."""
    pictures = Pictures([row.image for row in rows])
    both = pictures.find([*pairs.first, *pairs.second], folder).reshape(2, -1)
    kept = np.asarray((both >= 0).all(0))
    unknown, total = int((~kept).sum()), kept.size
    said = []
    if unknown:
        row = int(np.argmin(kept))
        name = (pairs.first if both[0, row] < 0 else pairs.second)[row]
        sentence = (
            f"{unknown:,} of {total:,} pairs have a picture that the manifest does not list, such as {name}"
        )
        if unknown > max_missing * total:
            raise RecordError(
                sentence,
                hint="name the manifest of the pairs' pictures, all splits, or allow more with --max-missing",
            )
        said.append(f"{sentence}; they are left out.")
    if pairs.repeated:
        said.append(f"{pairs.repeated:,} rows of the table repeat a pair, which counts once.")
    both = both[:, kept]
    quality = {
        entrant.name: np.where(np.isfinite(entrant.score), entrant.score, -np.inf)[both].min(0)
        for entrant in entrants
    }
    return quality, kept, said


def _labels(rows: Sequence[Row], column: str, membership: Membership) -> tuple[list[str | None], list[str]]:
    """The group of each row, and what is to be said."""
    place = Pictures([row.image for row in rows]).find(list(membership.group), membership.folder)
    values = binned(list(membership.group.values()))
    label: list[str | None] = [None] * len(rows)
    for index, value in zip(place, values, strict=True):
        if index >= 0:
            label[index] = value
    unknown = label.count(None)
    return label, [f"Groups by {column}: {unknown:,} of {len(rows):,} pictures have none."] if unknown else []


def _grouping(entrant: Entrant, label: Sequence[str | None]) -> Grouping:
    known = [index for index, name in enumerate(label) if name is not None]
    if not known:
        raise InvalidArgument("no picture of the manifest is in the table", hint="is it the right --table?")
    return compare_groups(entrant.score[known], [name for name in label if name is not None])
