"""Folder or table of ratings → manifest, with a split that is drawn once and stored."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from efiqa.errors import InvalidArgument, RecordError
from efiqa.records import Row, read_table
from efiqa.sources import SUFFIXES, pictures_in


def split_of(group: str, validation: float, seed: int) -> str:
    """`validation` for that share of groups, else `train`; decided by the group's name alone."""
    digest = hashlib.sha256(f"{seed}/{group}".encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") / 2**64 < validation else "train"


def index_folder(
    folder: Path, *, validation: float = 0.0, seed: int = 0, group_pattern: str | None = None
) -> Iterator[Row]:
    """One row without a score per picture in `folder` (recursive, sorted by name)."""
    found = False
    for picture in pictures_in(str(folder)):
        if picture.error is not None:
            raise RecordError(f"{picture.name}: {picture.error}")
        found = True
        group = _group(os.path.relpath(picture.path, folder), group_pattern)
        yield Row(image=picture.path, group=group, split=split_of(group, validation, seed))
    if not found:
        raise RecordError(f"{folder} holds no pictures", hint=f"known endings: {', '.join(sorted(SUFFIXES))}")


def index_table(
    table: Path,
    folder: Path,
    *,
    image: str = "image",
    score: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
    source: str = "human",
    group: str | None = None,
    group_pattern: str | None = None,
    validation: float = 0.0,
    seed: int = 0,
) -> Iterator[Row]:
    """One row per line of `table`, its pictures under `folder`; ratings in `low`–`high` become 0–1.

    Rows share a split when they share the value of the column `group`, or what `group_pattern` (a
    regular expression) finds in the picture's name.

    Raises RecordError for a missing column, a rating that is no number or lies outside its range, or
    a picture that is not there, each with the line. Raises InvalidArgument for a range that does not rise
    and for a pattern that is no regular expression.
    """
    if not low < high:
        raise InvalidArgument(
            f"a range must rise from low to high, but got {low:g} {high:g}",
            hint="--range LOW HIGH says what the ratings mean",
        )
    header = 1 if table.suffix.lower() == ".csv" else 0
    for number, cells in enumerate(read_table(table), header + 1):
        where = f"{table}, line {number}"
        for column in filter(None, (image, score, group)):
            if column not in cells:
                raise RecordError(
                    f"{where}: no value in column {column!r}", hint=f"columns here: {', '.join(cells)}"
                )
        path = folder / str(cells[image])
        if not path.is_file():
            raise RecordError(
                f"{where}: {path} is not there", hint="--root says which folder names are relative to"
            )
        value = None
        if score is not None:
            try:
                value = (float(cells[score]) - low) / (high - low)
            except (TypeError, ValueError) as error:
                raise RecordError(f"{where}: {score} must be a number, but got {cells[score]!r}") from error
            if not 0 <= value <= 1:
                raise RecordError(
                    f"{where}: {score} must be in {low:g}–{high:g}, but got {cells[score]}",
                    hint="--range LOW HIGH says what the ratings mean",
                )
        key = str(cells[group]) if group else _group(str(cells[image]), group_pattern)
        yield Row(
            image=str(path),
            score=value,
            source=source if value is not None else "",
            group=key,
            split=split_of(key, validation, seed),
        )


def _group(name: str, pattern: str | None) -> str:
    try:
        found = re.search(pattern, name) if pattern else None
    except re.error as error:
        raise InvalidArgument(
            f"the group pattern {pattern!r} is no regular expression: {error}",
            hint=r"'([^/]+)/[^/]*$' makes the folder a picture lies in its group",
        ) from error
    return found.group(found.lastindex or 0) if found else name
