"""Folder or table of ratings → manifest, with a split that is drawn once and stored."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from efiqa.cells import number
from efiqa.errors import InvalidArgument, RecordError
from efiqa.records import SPLITS, Row
from efiqa.sources import SUFFIXES, pictures_in
from efiqa.tables import SEPARATED, column_names, read_places, table_format

IMAGE_COLUMNS = ("image", "image_name", "img_name", "filename", "file_name", "path", "name")
"""What data sets call the column of a picture's name, in any case; the first that a table has is meant."""
SCORE_COLUMNS = ("mapped_score", "score", "mos")
"""What they call the rating. `mapped_score` is meant wherever it stands, usually beside `raw_score`."""


def split_of(group: str, validation: float, seed: int, fold: int = 0) -> str:
    """`validation` for that share of groups, else `train`; decided by the group's name alone.

    Folds of one seed hold out different groups: five of a fifth hold out each group once.
    """
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "validation" if fold * validation <= place < (fold + 1) * validation else "train"


def index_folder(
    folder: Path,
    *,
    validation: float = 0.0,
    seed: int = 0,
    fold: int = 0,
    split: str | None = None,
    group_pattern: str | None = None,
    group_prefix: str | None = None,
) -> Iterator[Row]:
    """One row without a score per picture in `folder` (recursive, sorted by name).

    Splits and groups are those that index_table gives to the same pictures.
    """
    _check_split(split, validation, fold)
    home = folder.resolve().name
    found = False
    for picture in pictures_in(str(folder)):
        if picture.error is not None:
            raise RecordError(f"{picture.name}: {picture.error}")
        found = True
        key, group = _group(os.path.relpath(picture.path, folder), None, group_pattern, group_prefix, home)
        yield Row(image=picture.path, group=group, split=split or split_of(key, validation, seed, fold))
    if not found:
        raise RecordError(f"{folder} holds no pictures", hint=f"known endings: {', '.join(sorted(SUFFIXES))}")


def index_table(
    table: Path,
    folder: Path,
    *,
    image: str | None = None,
    score: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    source: str = "human",
    group: str | None = None,
    group_pattern: str | None = None,
    group_prefix: str | None = None,
    validation: float = 0.0,
    seed: int = 0,
    fold: int = 0,
    split: str | None = None,
    recognised: Callable[[str], None] = lambda sentence: None,
) -> Iterator[Row]:
    """One row per line of `table`, its pictures under `folder`; ratings in `low`–`high` become 0–1.

    `image`, `score` and `group` name columns. Where the first two are none, IMAGE_COLUMNS and SCORE_COLUMNS
    are looked for, and `recognised` is told what was found; a `score` of "" means no label. A CSV whose
    first line has a number in the second cell, and no name of a column, has no header: its columns are called
    1, 2, …, the picture's name being the first and the rating the only other number.
    A name without the ending of a picture finds the one picture that is called so: 00012 is 00012.png.

    Rows share a split when they share the value of the column `group`, or what `group_pattern` (a
    regular expression) finds in the picture's name. That is the group's name, after `group_prefix` and
    a slash where there is one. Other pictures are groups of their own, called by their names after the prefix
    or, without one, after the folder's. The draw is by what comes after the slash, so that neither
    changes it. With `split` nothing is drawn: all rows have that one.

    Raises RecordError for a table whose columns are not recognised or that has no rows; and, with the line,
    for a missing value, a rating that is no number or lies outside its range, a picture that is not there,
    fits two files, is rated twice or would stand in two splits. Raises InvalidArgument for a range that does
    not rise, an unknown split or one beside a share, a fold that the share has not, and a pattern that is no
    regular expression.
    """
    if not low < high:
        raise InvalidArgument(
            f"a range must rise from low to high, but got {low:g} {high:g}",
            hint="--range LOW HIGH says what the ratings mean",
        )
    _check_split(split, validation, fold)
    columns = _recognise(table, image, score, group)
    recognised(f"{table}: {columns}")
    home, by_stem = folder.resolve().name, cache(_by_stem)
    seen: dict[str, tuple[str, str]] = {}
    for where, cells in read_places(table, columns.names):
        for column in filter(None, (columns.image, columns.score, group)):
            if cells.get(column) is None:
                raise RecordError(
                    f"{where}: no value in column {column!r}", hint=f"columns here: {', '.join(cells)}"
                )
        name = _picture(folder, str(cells[columns.image]), by_stem, where)
        key, full = _group(name, str(cells[group]) if group else None, group_pattern, group_prefix, home)
        part = split or split_of(key, validation, seed, fold)
        value = None
        if columns.score:
            cell, rating = cells[columns.score], columns.called(columns.score)
            value = (number(cell, rating, where, finite=False) - low) / (high - low)
            if not 0 <= value <= 1:
                raise RecordError(
                    f"{where}: {rating} must be in {low:g}–{high:g}, but got {cell}",
                    hint="--range LOW HIGH says what the ratings mean",
                )
        first, other = seen.setdefault(name, (where, part))
        if first != where and value is not None:
            raise RecordError(
                f"{where}: {columns.called(columns.image)} {name!r} is rated already, in {first}",
                hint="where people disagree, the mean of their ratings is the label",
            )
        if part != other:
            raise RecordError(
                f"{where}: {columns.called(columns.image)} {name!r} would stand in two splits: "
                f"{part} here, {other} in {first}",
                hint="a picture belongs to one group",
            )
        yield Row(
            image=str(folder / name),
            score=value,
            source=source if value is not None else "",
            group=full,
            split=part,
        )
    if not seen:
        raise RecordError(f"{table} holds no rows")


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns that are meant; an empty `score` is none. `names` are all, where a CSV has no header."""

    image: str
    score: str
    names: tuple[str, ...] | None = None

    def called(self, column: str) -> str:
        return f"column {column}" if self.names else column

    def __str__(self) -> str:
        header = "no header" if self.names else "a header"
        rating = f"ratings in column {self.score}" if self.score else "no ratings, so rows have no label"
        return f"{header}; pictures in column {self.image}, {rating}"


def _recognise(table: Path, image: str | None, score: str | None, group: str | None) -> _Columns:
    first, where = column_names(table), f"{table}, line 1"
    bare = table_format(table) == ".csv" and _has_no_header(first, (image, score, group))
    if not first:
        raise RecordError(
            f"{where}: expected names of columns, or a picture's name and rating, but got nothing"
        )
    if bare and re.search(r"[;\t]", first[0]):  # with commas of numbers, so that it has two cells
        raise RecordError(
            f"{where}: expected cells separated by commas, but got {first[0]!r}", hint=SEPARATED
        )
    if bare:
        names = tuple(str(number) for number in range(1, len(first) + 1))
        for option, name in (("--image", image), ("--score", score), ("--group", group)):
            if name and name not in names:
                raise RecordError(
                    f"{where}: no column {name!r}, for there is no header",
                    hint=f"{option} takes a column's number here, 1–{len(first)}",
                )
        image = image or "1"
        ratings = [
            name
            for name, cell in zip(names, first, strict=True)
            if name not in (image, group) and _is_number(cell)
        ]
    else:
        names = None
        known = {name.strip().lower(): name for name in reversed(first)}
        image = image or next((known[name] for name in IMAGE_COLUMNS if name in known), None)
        if image is None:
            raise RecordError(
                f"{where}: no column is known to name pictures; columns here: {', '.join(first)}",
                hint="--image NAME says which does; without a header, the rating stands right after the name",
            )
        ratings = [known[name] for name in SCORE_COLUMNS if name in known]
        if "mapped_score" in known:
            ratings = [known["mapped_score"]]
    if score is None and len(ratings) > 1:
        raise RecordError(
            f"{where}: the rating may be in column {' or '.join(ratings)}",
            hint=f"--score {ratings[-1]} takes the last of them",
        )
    return _Columns(image, score if score is not None else "".join(ratings), names)


def _has_no_header(first: Sequence[str], options: Sequence[str | None]) -> bool:
    """Whether a number stands in the second cell, and nowhere a name that is known or asked for."""
    numbers = {str(number) for number in range(1, len(first) + 1)}
    asked = {option for option in options if option and option not in numbers}
    named = asked & {*first} or {"raw_score", *IMAGE_COLUMNS, *SCORE_COLUMNS} & {
        cell.strip().lower() for cell in first
    }
    return len(first) > 1 and _is_number(first[1]) and not named


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _by_stem(folder: Path) -> dict[str, list[str]]:
    """Names of the pictures right in `folder`, by their names without the ending."""
    found: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():  # noqa: PTH208, names are enough
        stem, ending = os.path.splitext(name)  # noqa: PTH122
        if ending.lower() in SUFFIXES:
            found.setdefault(stem, []).append(name)
    return found


def _picture(folder: Path, name: str, by_stem: Callable[[Path], dict[str, list[str]]], where: str) -> str:
    """The picture's name relative to `folder`, with its ending."""
    name = os.path.normpath(name)
    if os.path.isfile(folder / name):  # noqa: PTH113, which raises for a name that is too long
        return name
    path = Path(name)
    if path.suffix.lower() in SUFFIXES:
        raise RecordError(
            f"{where}: {folder / path} is not there", hint="--root says which folder names are relative to"
        )
    fitting = by_stem(folder / path.parent).get(path.name, [])
    if not fitting:
        raise RecordError(
            f"{where}: {folder / path} is not there, nor with the ending of a picture",
            hint="--root says which folder names are relative to",
        )
    if len(fitting) > 1:
        raise RecordError(
            f"{where}: {folder / path} fits more than one picture: {', '.join(fitting)}",
            hint="write the ending into the table",
        )
    return str(path.parent / fitting[0])


def _group(
    name: str, value: str | None, pattern: str | None, prefix: str | None, home: str
) -> tuple[str, str]:
    """What the split is drawn by, and the group's full name."""
    try:
        found = re.search(pattern, name) if pattern else None
    except re.error as error:
        raise InvalidArgument(
            f"the group pattern {pattern!r} is no regular expression: {error}",
            hint=r"'([^/]+)/[^/]*$' makes the folder a picture lies in its group",
        ) from error
    key = value or (found.group(found.lastindex or 0) if found else "")
    if not key:
        return name, f"{prefix or home}/{name}"
    return key, f"{prefix}/{key}" if prefix else key


def _check_split(split: str | None, validation: float, fold: int) -> None:
    if split is not None and split not in SPLITS:
        raise InvalidArgument(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    if split is not None and validation:
        raise InvalidArgument(
            f"a split is either drawn or {split} for all, but got a share of {validation:g} too",
            hint="leave out --split or --validation",
        )
    if fold and not 0 < (fold + 1) * validation < 1 + 1e-9:
        raise InvalidArgument(
            f"a share of {validation:g} has no fold {fold}",
            hint="folds are counted from 0: --validation 0.2 has 0 to 4",
        )
