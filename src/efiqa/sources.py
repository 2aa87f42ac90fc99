"""What the user names → the pictures meant: files, folders, archives, stores, lists, manifests, stdin."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from efiqa.errors import EmptyImage, ImageNotFound, ImageUnreadable, InvalidArgument, NotAFile, RecordError
from efiqa.image import Image, crop, load_image
from efiqa.names import printable, tar_of
from efiqa.records import Row
from efiqa.shards import (
    SUFFIXES,
    Named,
    Shard,
    archive_kind,
    is_picture,
    members,
    named_file,
    parquet_pictures,
    picture_in_tar,
)
from efiqa.stores import file_system, is_address, local, open_stream, public, walk
from efiqa.tables import FORMATS, read_table

__all__ = ["SUFFIXES", "Named", "Shard", "entries", "expand", "load_row", "pictures_in"]

PATTERN = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""WebDataset's way to name many shards: faces-{0000..0123}.tar."""


def expand(
    inputs: Sequence[str], stdin: BinaryIO | None = None, *, column: str | None = None
) -> Iterator[Named]:
    """Every picture that `inputs` name, in order; those of archives are read as they come.

    See `entries`, which this is with every shard opened.
    """
    for entry in entries(inputs, stdin, column=column):
        if isinstance(entry, Shard):
            yield from members(entry)
        else:
            yield entry


def entries(
    inputs: Sequence[str], stdin: BinaryIO | None = None, *, column: str | None = None
) -> Iterator[Named | Shard]:
    """Every picture and every archive that `inputs` name, in order, without reading one.

    A folder gives its pictures and its tar and zip archives, sorted, subfolders too. `.tar` (`.gz`, `.bz2`,
    `.xz`) and `.zip` are archives, and so is a `.parquet` with a column of pictures: `column`, or the only
    one, or that called `image`. `.txt` is a list of paths or addresses, one a line, relative to the working
    folder; `.csv`, `.jsonl` and any other `.parquet` a table with an `image` column, relative to the table;
    `-` a list on standard input. `{000..123}` stands for every number. An address (s3://…) may be each of
    these but a table; one with * gives all it matches, one without a known ending all that lies below it.
    Anything else is a picture. Every input gives at least one item: an empty folder gives one with an error.

    Raises RecordError for a list or table that cannot be read, an unknown scheme or one whose driver is
    missing, and addresses under which there is nothing; StoreError where a store cannot be listed.
    """
    for given in inputs:
        for text in _numbered(given):
            if text == "-":
                if stdin is None:
                    raise RecordError("there is no standard input to read a list from")
                yield from _at_least_one(_listed(stdin, column), text, "standard input names no pictures")
            elif is_address(text):
                yield from _stored(text, column)
            elif _is_folder(Path(text)):
                yield from _at_least_one(
                    _walk(text, (), archives=True), text, "this folder holds no pictures"
                )
            elif Path(text).suffix.lower() == ".txt":
                try:
                    with Path(text).open("rb") as file:
                        yield from _at_least_one(_listed(file, column), text, "this list is empty")
                except OSError as error:
                    raise RecordError(
                        f"{printable(text)} cannot be read: {error.strerror}",
                        hint="a name that ends in .txt is read as a list of pictures",
                    ) from error
            elif Path(text).suffix.lower() in FORMATS and not _holds_pictures(text, column):
                yield from _at_least_one(_tabled(Path(text)), text, "this table has no rows")
            else:
                yield _one(text, column)


def _numbered(text: str) -> Iterator[str]:
    found = PATTERN.search(text)
    if not found or (not is_address(text) and Path(text).exists()):
        yield text
        return
    first, last = found.groups()
    for number in range(int(first), int(last) + 1):
        yield from _numbered(f"{text[: found.start()]}{number:0{len(first)}d}{text[found.end() :]}")


def _holds_pictures(text: str, column: str | None) -> bool:
    """Whether a .parquet is a shard of pictures and not a table of names."""
    if not text.lower().endswith(".parquet") or not Path(text).is_file():
        return False
    return parquet_pictures(printable(text), text, column) is not None


def _one(text: str, column: str | None, size: int | None = None) -> Named | Shard:
    """A file by its ending: an archive, or a picture."""
    kind = "parquet" if local(text).lower().endswith(".parquet") else archive_kind(text)
    if kind is None:
        return named_file(public(text), text, size)
    return Shard(public(text), text, kind, column, size)


def _stored(address: str, column: str | None) -> Iterator[Named | Shard]:
    """What an address means: a list, a pattern, a file by its ending, or all that lies below."""
    name = local(address).lower()
    file_system(address)  # an unknown scheme, or a missing driver, is an error now
    if name.endswith((".csv", ".jsonl")):
        raise RecordError(f"{public(address)}: tables are read from files only", hint="copy it here first")
    if name.endswith(".txt"):
        with open_stream(address) as file:
            yield from _at_least_one(_listed(file, column), address, "this list is empty")
        return
    pattern = any(character in local(address) for character in "*[")
    if not pattern and (
        archive_kind(address) or is_picture(name) or name.endswith(".parquet") or name.startswith("http")
    ):
        if name.endswith(".parquet"):
            _check_pictures(address, column)
        elif archive_kind(address):
            open_stream(address).close()  # that it is not there, or not ours to read, is an error now
        yield _one(address, column)
        return
    empty = True
    for found, size in walk(address):
        if pattern or is_picture(found) or archive_kind(found):
            if empty and found.lower().endswith(".parquet"):
                _check_pictures(found, column)
            empty = False
            yield _one(found, column, size)
    if empty:
        raise RecordError(
            f"{public(address)}: there are no pictures and no archives under this address",
            hint="an address with * gives all that it matches: 's3://bucket/data/*.parquet'",
        )


def _check_pictures(address: str, column: str | None) -> None:
    if parquet_pictures(public(address), address, column) is None:
        raise RecordError(
            f"{public(address)}: no column holds pictures",
            hint="expected bytes, or a struct of bytes and path as Hugging Face writes it",
        )


def _at_least_one(items: Iterable[Named | Shard], text: str, reason: str) -> Iterator[Named | Shard]:
    empty = True
    for item in items:
        empty = False
        yield item
    if empty:
        yield Named(public(text), text, EmptyImage(reason))


def _listed(lines: Iterable[bytes], column: str | None) -> Iterator[Named | Shard]:
    for number, line in enumerate(lines):
        path = os.fsdecode(line.removeprefix(BOM_UTF8 if number == 0 else b"").rstrip(b"\r\n"))
        if path.strip():
            yield _one(path, column)


def _tabled(table: Path) -> Iterator[Named]:
    for number, cells in enumerate(read_table(table), 1):
        name = cells.get("image")
        if not name:
            raise RecordError(f"{table}, row {number}: the image column is missing or empty")
        text = str(name)
        path = text if is_address(text) else os.path.normpath(table.parent / text)
        yield named_file(public(path), path)


def load_row(row: Row) -> Image:
    """The part of the picture that a manifest's row speaks of, RGB uint8 (H, W, 3).

    The picture may be in a tar: `faces.tar/000.jpg`.

    Raises ImageError for a picture that cannot be used, RecordError for a square that lies outside it.
    """
    image = load_image(picture_in_tar(row.image) if tar_of(row.image) else row.image)
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
    for item in _walk(folder, (), archives=False):
        assert isinstance(item, Named)
        yield item


def _walk(folder: str, above: tuple[tuple[int, int], ...], *, archives: bool) -> Iterator[Named | Shard]:
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
            yield from _walk(entry.path, (*above, identity), archives=archives)
        elif is_picture(entry.name) or (archives and archive_kind(entry.name)):
            yield _one(entry.path, None)


def _is_folder(path: Path | os.DirEntry[str]) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to itself, a name that is too long
        return False
