"""Pairs of pictures with the similarity that a face recogniser gave them, and their table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from efiqa.cells import number
from efiqa.errors import RecordError
from efiqa.metrics import Vector
from efiqa.tables import column_names, read_places

PAIR_COLUMNS = ("image_a", "image_b", "genuine", "similarity")
_GENUINE = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """n pairs: the names of their pictures, whether both show one person (n,), their similarity (n,).

    `repeated` rows of the table said again what an earlier one said, and count once.
    """

    first: list[str]
    second: list[str]
    genuine: NDArray[np.bool_]
    similarity: Vector
    repeated: int = 0


def read_pairs(path: Path) -> Pairs:
    """The columns `image_a, image_b, genuine, similarity` of a .csv, .jsonl or .parquet, among others or not.

    `genuine` is 1 or 0 (or true, false), a similarity higher for pictures more alike.

    Raises RecordError for a table without one of the columns or without rows, and, with the line, for a
    missing value, a similarity that is no finite number, a picture paired with itself, and a pair that an
    earlier line, in either order, says something else of.
    """
    missing = [name for name in PAIR_COLUMNS if name not in column_names(path)]
    if missing:
        raise RecordError(
            f"{path}: there is no column {missing[0]!r}",
            hint=f"a table of pairs has the columns {', '.join(PAIR_COLUMNS)}",
        )
    first, second, genuine, similarity = [], [], [], []
    seen: dict[tuple[str, str], tuple[bool, float, str]] = {}
    repeated = 0
    for where, cells in read_places(path):
        for name in PAIR_COLUMNS:
            if cells.get(name) is None:
                raise RecordError(f"{where}: no value in column {name!r}")
        a, b = str(cells["image_a"]), str(cells["image_b"])
        if a == b:
            raise RecordError(f"{where}: {a} is paired with itself", hint="leave out such pairs")
        same = _GENUINE.get(str(cells["genuine"]).strip().lower())
        if same is None:
            raise RecordError(f"{where}: genuine must be 1 or 0, but got {cells['genuine']!r}")
        alike = number(cells["similarity"], "similarity", where)
        earlier = seen.setdefault((min(a, b), max(a, b)), (same, alike, where))
        if earlier[2] != where:
            if earlier[:2] != (same, alike):
                raise RecordError(
                    f"{where}: {a} and {b} are a pair already, with other numbers, in {earlier[2]}",
                    hint="each pair of pictures counts once; leave one of the two lines out",
                )
            repeated += 1
            continue
        first.append(a)
        second.append(b)
        genuine.append(same)
        similarity.append(alike)
    if not first:
        raise RecordError(f"{path} holds no pairs")
    return Pairs(first, second, np.array(genuine), np.array(similarity), repeated)


def people(pairs: Pairs) -> NDArray[np.int64]:
    """Number of the person that the first picture of each pair shows, (n,), from 0.

    Pictures that genuine pairs connect, directly or through others, show one person.
    """
    above: dict[str, str] = {}

    def top(name: str) -> str:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = above[above[name]]  # a shorter way, for the next time
            name = above[name]
        return name

    for first, second, genuine in zip(pairs.first, pairs.second, pairs.genuine, strict=True):
        if genuine:
            above[top(first)] = top(second)
    return np.unique([top(name) for name in pairs.first], return_inverse=True)[1].astype(np.int64)
