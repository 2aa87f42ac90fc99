"""What the user names → the pictures meant: files, folders, lists, manifests, standard input."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from efiqa.errors import (
    EmptyImage,
    ImageError,
    ImageNotFound,
    ImageUnreadable,
    InvalidArgument,
    NotAFile,
    RecordError,
)
from efiqa.image import Image, crop, load_image
from efiqa.records import Row
from efiqa.tables import FORMATS, printable, read_table

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".gif",
        ".avif",
        ".avifs",
        ".heic",
        ".heif",
        ".hif",
        ".mpo",
    ]
)
"""Endings by which pictures are found in folders. A file named outright is opened whatever its ending."""


@dataclass(frozen=True, slots=True)
class Named:
    """One picture to score: its name in the predictions, and a path or the reason why there is none."""

    name: str
    path: str
    error: ImageError | None = None


def expand(inputs: Sequence[str], stdin: BinaryIO | None = None) -> Iterator[Named]:
    """Every picture that `inputs` name, in order, without opening one.

    A folder gives its pictures, sorted, subfolders too. `.txt` is a list of paths, one a line,
    relative to the working folder; `.csv`, `.jsonl`, `.parquet` a table with an `image` column,
    relative to the table; `-` a list on standard input. Anything else is a picture. Every input
    gives at least one item: an empty folder gives one with an error.

    Raises RecordError for a list or table that cannot be read.
    """
    for text in inputs:
        if text == "-":
            if stdin is None:
                raise RecordError("there is no standard input to read a list from")
            yield from _at_least_one(_listed(stdin), text, "standard input names no pictures")
        elif _is_folder(Path(text)):
            yield from _at_least_one(pictures_in(text), text, "this folder holds no pictures")
        elif Path(text).suffix.lower() == ".txt":
            try:
                with Path(text).open("rb") as file:
                    yield from _at_least_one(_listed(file), text, "this list is empty")
            except OSError as error:
                raise RecordError(
                    f"{printable(text)} cannot be read: {error.strerror}",
                    hint="a name that ends in .txt is read as a list of pictures",
                ) from error
        elif Path(text).suffix.lower() in FORMATS:
            yield from _at_least_one(_tabled(Path(text)), text, "this table has no rows")
        else:
            yield Named(printable(text), text)


def _at_least_one(items: Iterable[Named], text: str, reason: str) -> Iterator[Named]:
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        yield Named(printable(text), text, EmptyImage(reason))


def _listed(lines: Iterable[bytes]) -> Iterator[Named]:
    for number, line in enumerate(lines):
        path = os.fsdecode(line.removeprefix(BOM_UTF8 if number == 0 else b"").rstrip(b"\r\n"))
        if path.strip():
            yield Named(printable(path), path)


def _tabled(table: Path) -> Iterator[Named]:
    for number, cells in enumerate(read_table(table), 1):
        name = cells.get("image")
        if not name:
            raise RecordError(f"{table}, row {number}: the image column is missing or empty")
        path = os.path.normpath(table.parent / str(name))
        yield Named(printable(path), path)


def load_row(row: Row) -> Image:
    """The part of the picture that a manifest's row speaks of, RGB uint8 (H, W, 3).

    Raises ImageError for a picture that cannot be used, RecordError for a square that lies outside it.
    """
    image = load_image(row.image)
    if row.bounds is None:
        return image
    try:
        return crop(image, row.bounds)
    except InvalidArgument as error:
        raise RecordError(
            f"{row.image}: {error}", hint="was the picture changed after it was indexed?"
        ) from error


def pictures_in(folder: str) -> Iterator[Named]:
    """Pictures in `folder` and below, sorted by name, links followed.

    A subfolder that cannot be read, or a link that leads back to a folder it lies in, is an item
    with an error, so that it shows in the result and ends nothing.
    """
    yield from _walk(folder, ())


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Named]:
    try:
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            reason = NotAFile("this link leads back to a folder that it lies in; it is not followed")
            yield Named(printable(folder), folder, reason)
            return
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except FileNotFoundError:
        yield Named(printable(folder), folder, ImageNotFound("this folder is gone"))
        return
    except OSError as error:
        reason_unreadable = ImageUnreadable(f"this folder cannot be read: {error.strerror}")
        yield Named(printable(folder), folder, reason_unreadable)
        return
    for entry in entries:
        if _is_folder(entry):
            yield from _walk(entry.path, (*above, identity))
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            yield Named(printable(entry.path), entry.path)


def _is_folder(path: Path | os.DirEntry[str]) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself, a name that is too long
        return False
