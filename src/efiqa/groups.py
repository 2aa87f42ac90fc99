"""Do scores differ between groups of people: distributions, discard rates, effect sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efiqa.errors import InvalidArgument, RecordError
from efiqa.index import IMAGE_COLUMNS
from efiqa.metrics import Vector, ranks
from efiqa.tables import column_names, read_places

DISCARDED = (0.01, 0.05, 0.1, 0.2, 0.3)
"""Shares of all pictures at whose thresholds the groups are compared."""
MOST_GROUPS = 12
"""Numbers with more distinct values than this are put into bins."""
MOST_COMPARED = 200
"""More groups than this are names of people or pictures, not groups of them."""
FEW = 30
"""Groups of fewer pictures are shown, but are not what the highest difference is between."""


@dataclass(frozen=True, slots=True)
class Group:
    """One group's scores: of n pictures `failed` have none, which counts as discarded at every threshold.

    `delta` is Cliff's delta against all other groups; `discarded` are the shares of n at the thresholds.
    """

    name: str
    n: int
    failed: int
    mean: float | None
    quartiles: tuple[float, float, float] | None
    delta: float | None
    discarded: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """At `threshold`, where `overall` of all pictures are discarded, two groups lie furthest apart."""

    target: float
    threshold: float
    overall: float
    difference: float
    highest: str
    lowest: str


@dataclass(frozen=True, slots=True)
class Grouping:
    """One scorer over the groups of one column."""

    groups: tuple[Group, ...]
    gaps: tuple[Gap, ...]


def cliffs_delta(first: Vector, second: Vector) -> float:
    """P(a > b) − P(a < b) of a value of each, in −1 to 1: how far one group lies above another (Cliff, 1993).

    Through the sum of ranks R of the first in both together: 2 · (R − n (n + 1) / 2) / (n m) − 1. Commonly
    called negligible below 0.147, small below 0.33, medium below 0.474 (Romano et al., 2006).

    >>> cliffs_delta(np.array([1.0, 2, 3]), np.array([2.0, 3, 4]))
    -0.5555555555555556
    """
    n, m = first.size, second.size
    total = ranks(np.concatenate((first, second)))[:n].sum()
    return float(2 * (total - n * (n + 1) / 2) / (n * m) - 1)


def compare_groups(score: Vector, group: Sequence[str]) -> Grouping:
    """Groups of a scorer's scores (n,), NaN where it failed, by the name of each picture's group.

    At each of DISCARDED the threshold is the highest score that leaves at most this share of all pictures
    below it. The highest difference is between groups of at least 30 pictures, where two have as many.

    Raises InvalidArgument for a single group, more than 200, and where no picture has a score.
    """
    scored = np.isfinite(score)
    if not scored.any():
        raise InvalidArgument("no picture of any group has a score")
    names, member = np.unique(np.array(group, dtype=object).astype(str), return_inverse=True)
    if names.size < 2:
        raise InvalidArgument(
            f"all pictures are of one group, {str(names[0])!r}, so there is none to compare it with",
            hint="name a column with two groups or more",
        )
    if names.size > MOST_COMPARED:
        raise InvalidArgument(
            f"there are {names.size:,} groups; {MOST_COMPARED} are the most",
            hint="name a column that many pictures share a value of, such as age or gender",
        )
    order = sorted(range(names.size), key=lambda index: _natural(str(names[index])))
    filled = np.where(scored, score, -np.inf)
    rising = np.sort(filled)
    thresholds = [float(rising[math.floor(share * score.size)]) for share in DISCARDED]
    rates = np.array([filled < threshold for threshold in thresholds])
    groups = []
    for index in order:
        own = member == index
        mine, others = score[own & scored], score[~own & scored]
        quartiles = tuple(map(float, np.quantile(mine, [0.25, 0.5, 0.75]))) if mine.size else None
        groups.append(
            Group(
                str(names[index]),
                int(own.sum()),
                int((own & ~scored).sum()),
                float(mine.mean()) if mine.size else None,
                quartiles,  # type: ignore[arg-type]
                cliffs_delta(mine, others) if mine.size and others.size else None,
                tuple(map(float, rates[:, own].mean(1))),
            )
        )
    large = [each for each in groups if each.n >= FEW]
    compared = large if len(large) > 1 else groups
    gaps = []
    for place, (target, threshold) in enumerate(zip(DISCARDED, thresholds, strict=True)):
        if not math.isfinite(threshold):  # more pictures failed than are to be discarded
            continue
        highest = max(compared, key=lambda each: each.discarded[place])
        lowest = min(compared, key=lambda each: each.discarded[place])
        difference = highest.discarded[place] - lowest.discarded[place]
        overall = float(rates[place].mean())
        gaps.append(Gap(target, threshold, overall, difference, highest.name, lowest.name))
    return Grouping(tuple(groups), tuple(gaps))


def binned(values: Sequence[str]) -> list[str]:
    """Names of groups: the values themselves, or ranges of them where they are many numbers.

    More than 12 distinct numbers go into at most 12 ranges of width 1, 2 or 5 times a power of ten, such
    as ages into decades. Other values stay, also where they are many.
    """
    distinct = Counter(values)
    try:
        numbers = {value: float(value) for value in distinct}
    except ValueError:
        return list(values)
    if len(distinct) <= MOST_GROUPS or not all(map(math.isfinite, numbers.values())):
        return list(values)
    low, high = min(numbers.values()), max(numbers.values())
    power = math.floor(math.log10(max((high / 2 - low / 2) / MOST_GROUPS, 1e-290)))
    steps = (digit * 10.0**rising for rising in range(power, 308) for digit in (1, 2, 5))
    step = next(step for step in steps if math.floor(high / step) - math.floor(low / step) < MOST_GROUPS)
    whole = step >= 1 and all(number.is_integer() for number in numbers.values())
    labels = {}
    for value, number in numbers.items():
        start = math.floor(number / step) * step
        last = start + step - 1 if whole else start + step
        labels[value] = f"{start:.0f}–{last:.0f}" if whole else f"{start:.12g}–{last:.12g}"
    return [labels[value] for value in values]


def read_groups(tables: Sequence[Path], column: str) -> tuple[str, dict[str, str]]:
    """The folder of the first table that has the column, and the column's value by picture's name there.

    Pictures without a value are left out. Raises RecordError where no table has the column or names of
    pictures, and for a picture with two values.
    """
    for table in tables:
        names = column_names(table)
        if column in names:
            break
    else:
        here = ", ".join(dict.fromkeys(name for table in tables for name in column_names(table)))
        raise RecordError(
            f"no column {column!r} in {', '.join(map(str, tables))}",
            hint=f"--table FILE names a table with an image column and this one; columns here: {here}",
        )
    known = {name.strip().lower(): name for name in reversed(names)}
    image = next((known[name] for name in IMAGE_COLUMNS if name in known), None)
    if image is None:
        raise RecordError(
            f"{table}: no column is known to name pictures; columns here: {', '.join(names)}",
            hint="call it image",
        )
    found: dict[str, str] = {}
    for where, cells in read_places(table):
        if cells.get(image) is None or cells.get(column) is None:
            continue
        value = str(cells[column])
        if value.strip().lower() == "nan":  # what pandas and Parquet call no value
            continue
        if found.setdefault(str(cells[image]), value) != value:
            raise RecordError(
                f"{where}: {cells[image]} has two values of {column}, {found[str(cells[image])]} and {value}",
                hint="a picture belongs to one group",
            )
    return str(table.parent), found


def _natural(name: str) -> tuple[float, str]:
    """Numbers and ranges in order of their size, before other names in order of the alphabet."""
    try:
        return float(name.partition("–")[0]), name
    except ValueError:
        return math.inf, name
