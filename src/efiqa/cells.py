"""Cells of a table as numbers, one by one or by column."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from efiqa.errors import RecordError


def number(cell: object, column: str, where: str, *, finite: bool = True) -> float:
    """A cell as a number. Raises RecordError, with the place `where`, for none, and for one not finite."""
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        comma = isinstance(cell, str) and re.fullmatch(r"\s*[+-]?\d+,\d+\s*", cell)
        raise RecordError(
            f"{where}: {column} must be a number, but got {cell!r}",
            hint="write it with a decimal point" if comma else None,
        ) from error
    if isinstance(cell, bool):  # what JSON and Parquet call true is 1.0 to float
        raise RecordError(f"{where}: {column} must be a number, but got {cell!r}")
    if finite and not math.isfinite(value):
        raise RecordError(f"{where}: {column} must be finite, but got {cell!r}")
    return value


def numbers(cells: Iterable[object], *, finite: bool = True) -> list[float | None]:
    """Cells as numbers, none where there is none. Raises ValueError where `number` raises, and says why."""
    there: list[Any] = list(cells)
    values: list[float | None]
    try:
        if None in there:
            values = [None if cell is None else float(cell) for cell in there]
        else:
            values = list(map(float, there))
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if bool in set(map(type, there)):
        raise ValueError("true and false are no numbers")
    known = list(filter(None, values))
    # A sum is soon made, and finite only if all of it is; that of the very large may not be.
    if finite and not math.isfinite(sum(known)) and not all(map(math.isfinite, known)):
        raise ValueError("not all are finite")
    return values


def whole(cell: object, column: str, where: str) -> int:
    """A cell as a whole number from 0. Raises RecordError, with the place, for any other."""
    value = number(cell, column, where)
    if value < 0 or not value.is_integer():
        raise RecordError(f"{where}: {column} must be a whole number, 0 or more, but got {cell!r}")
    return int(value)


def wholes(cells: Iterable[object]) -> list[int | None]:
    """Cells as whole numbers, none where there is none. Raises ValueError where `whole` raises, and says why.

    Each of them once, as they are mostly the numbers of faces, of which there are few.
    """
    cells = list(cells)
    if bool in set(map(type, cells)):  # which a set takes for 0 and 1
        raise ValueError("true and false are no numbers")
    try:
        few = set(cells)
    except TypeError as error:
        raise ValueError(str(error)) from error
    each = dict(zip(few, numbers(few), strict=True))
    if not all(value is None or (value >= 0 and value.is_integer()) for value in each.values()):
        raise ValueError("not all are whole numbers, 0 or more")
    values = {cell: None if value is None else int(value) for cell, value in each.items()}
    return [values[cell] for cell in cells]
