"""Shards: tar, zip or Parquet, each read as a stream of pictures, never unpacked to disk; lists of files.

A picture in a shard is named SHARD/MEMBER: `faces-0003.tar/000.jpg`. Of a Parquet file the member is the
row's number from 0. Where a tar holds a name twice, the second is `000.jpg#2`, and so on.
"""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from efiqa.errors import (
    CorruptImage,
    EmptyImage,
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
    NotAFile,
    RecordError,
    ShardUnreadable,
)
from efiqa.image import MAX_BYTES
from efiqa.names import printable, tar_of
from efiqa.stores import StoreError, is_address, local, open_stream, read_image
from efiqa.tables import pyarrow_module

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
"""Endings by which pictures are found in folders and archives. A file named outright is opened whatever its
ending."""
ARCHIVES = {
    ".tar": "tar",
    ".tar.gz": "tar",
    ".tgz": "tar",
    ".tar.bz2": "tar",
    ".tar.xz": "tar",
    ".zip": "zip",
}
"""Endings by which archives are found, in folders too."""

Kind = Literal["tar", "zip", "parquet"]


@dataclass(frozen=True, slots=True)
class Named:
    """One picture to score: its name in the predictions, and a path or the reason why there is none.

    `read` gives the bytes of one that is no file; it may raise ImageError.
    """

    name: str
    path: str
    error: ImageError | None = None
    read: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of many pictures. `column` is that of a Parquet's pictures, where several may be meant.

    `size` is its bytes, where a listing said so.
    """

    name: str
    address: str
    kind: Kind
    column: str | None = None
    size: int | None = field(default=None, compare=False)


def archive_kind(address: str) -> Kind | None:
    """What the ending says; none for what is no archive of pictures. Parquet may be a table as well."""
    name = local(address).lower()
    for ending, kind in ARCHIVES.items():
        if name.endswith(ending):
            return kind  # type: ignore[return-value]
    return None


def is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def members(shard: Shard) -> Iterator[Named]:
    """Every picture of a shard, in the shard's order, streaming; at least one item.

    What cannot be read to its end gives its last item the shard's name and a ShardUnreadable. Archives are
    read in the thread that iterates; a picture's bytes live as long as its item.
    """
    count = 0
    try:
        with open_stream(shard.address) as stream:
            for item in _READERS[shard.kind](shard, stream):
                count += 1
                yield item
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        where = (
            f"after {count:,} pictures this {shard.kind} cannot be read on" if count else "it cannot be read"
        )
        unreadable = ShardUnreadable(f"{where}: {reason}")
        unreadable.__cause__ = error
        yield Named(shard.name, shard.address, unreadable)
        return
    if not count:
        yield Named(shard.name, shard.address, EmptyImage(f"this {shard.kind} holds no pictures"))


_DAMAGE: tuple[type[Exception], ...] = (
    StoreError,
    RecordError,
    OSError,
    EOFError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_DAMAGE += (lzma.LZMAError, ValueError, NotImplementedError)


class _Header(tarfile.TarInfo):
    """tarfile takes a header that is cut off or damaged for the end; only the end mark is one here."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it ends early or is damaged ({error})") from error


def _stable_name(stored: str, seen: Counter[str]) -> str:
    """The member's name as an id; the second of one name ends in #2."""
    name = printable(stored).removeprefix("./")
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _tar(shard: Shard, stream: io.BufferedIOBase) -> Iterator[Named]:
    seen: Counter[str] = Counter()
    with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined] # else all headers of the shard are kept
            if member.isdir() or not is_picture(member.name):
                continue
            name = _stable_name(member.name, seen)
            if not member.isreg():
                yield _failed(shard, name, NotAFile("a link in an archive is not followed"))
            elif member.size > MAX_BYTES:
                yield _failed(shard, name, _too_large(member.size))
            else:
                file = archive.extractfile(member)
                yield _held(shard, name, file.read() if file else b"")


def picture_in_tar(path: str) -> bytes:
    """Bytes of `shards/faces-0003.tar/000.jpg`, named as `members` does, of a tar that is not compressed.

    Where each picture lies is read once a tar, and kept. Raises ImageNotFound where there is no such tar, or
    none of that name in it, ImageUnreadable where it cannot be read.
    """
    archive = tar_of(path)
    if archive is None:
        raise ImageNotFound(f"{printable(path)} is in no tar")
    name = path[len(archive) + 1 :]
    try:
        status = Path(archive).stat()
        place = _places_in_tar(archive, status.st_size, status.st_mtime_ns).get(name)
        if place is None:
            raise ImageNotFound(f"{printable(archive)} holds no picture {name!r}")
        with Path(archive).open("rb") as file:
            file.seek(place[0])
            data = file.read(place[1])
    except OSError as error:
        raise ImageUnreadable(f"{printable(archive)} cannot be read: {error.strerror or error}") from error
    if len(data) < place[1]:
        raise ImageUnreadable(f"{printable(archive)} ends within {name!r}")
    return data


@lru_cache(maxsize=4096)
def _places_in_tar(archive: str, size: int, changed: int) -> dict[str, tuple[int, int]]:
    """Offset and length of each picture; `size` and `changed` tell an archive from one of its name before."""
    seen: Counter[str] = Counter()
    places = {}
    with suppress(tarfile.TarError), tarfile.open(archive, "r:", tarinfo=_Header) as file:
        for member in file:
            file.members = []  # type: ignore[attr-defined]
            if member.isdir() or not is_picture(member.name):
                continue
            name = _stable_name(member.name, seen)
            if member.isreg() and member.size <= MAX_BYTES:
                places[name] = member.offset_data, member.size
    return places


def _zip(shard: Shard, stream: io.BufferedIOBase) -> Iterator[Named]:
    seen: Counter[str] = Counter()
    with zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.is_dir() or not is_picture(member.filename):
                continue
            name = _stable_name(member.filename, seen)
            if member.flag_bits & 1:
                yield _failed(shard, name, ImageUnreadable("it is encrypted"))
            elif member.file_size > MAX_BYTES:
                yield _failed(shard, name, _too_large(member.file_size))
            else:
                try:
                    yield _held(shard, name, archive.read(member))
                except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                    yield _failed(shard, name, CorruptImage(f"it is damaged in its archive: {error}"))


def _parquet(shard: Shard, stream: io.BufferedIOBase) -> Iterator[Named]:
    parquet = pyarrow_module("pyarrow.parquet")
    file = parquet.ParquetFile(stream, pre_buffer=False)
    column = picture_column(file.schema_arrow, shard.column, shard.name)
    if column is None:
        raise RecordError(f"no column holds pictures; columns here: {', '.join(file.schema_arrow.names)}")
    number = 0
    for batch in file.iter_batches(batch_size=16, columns=[column], use_threads=False):
        for cell in batch.column(0):
            value = cell.as_py()
            data = value.get("bytes") if isinstance(value, dict) else value
            if data is None:
                yield _failed(shard, str(number), ImageNotFound("this row holds no bytes"))
            elif len(data) > MAX_BYTES:
                yield _failed(shard, str(number), _too_large(len(data)))
            else:
                yield _held(shard, str(number), data)
            number += 1


def picture_column(schema: Any, asked: str | None, where: str) -> str | None:
    """The column of a Parquet file that holds pictures: bytes, or Hugging Face's struct of bytes and path.

    Of several the one called `image`. None where there is none, as in a table of names.
    Raises RecordError where `asked` is no such column, or nobody says which of several is meant.
    """
    types = pyarrow_module("pyarrow.types")

    def holds(kind: Any) -> bool:
        if types.is_struct(kind):
            place = kind.get_field_index("bytes")
            return place >= 0 and holds(kind.field(place).type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    found: list[str] = [each.name for each in schema if holds(each.type)]
    if asked is not None:
        if asked not in found:
            raise RecordError(
                f"{where}: no column {asked!r} that holds pictures",
                hint=f"columns that do: {', '.join(found) or 'none'}; all columns: {', '.join(schema.names)}",
            )
        return asked
    if "image" in found or not found:
        return "image" if found else None
    if len(found) > 1:
        raise RecordError(
            f"{where}: several columns hold bytes: {', '.join(found)}",
            hint="--column NAME says which is meant",
        )
    return found[0]


def parquet_pictures(name: str, address: str, asked: str | None) -> str | None:
    """As picture_column, of a file. Raises RecordError where it cannot be read."""
    try:
        with open_stream(address) as stream:
            schema = pyarrow_module("pyarrow.parquet").ParquetFile(stream, pre_buffer=False).schema_arrow
            return picture_column(schema, asked, name)
    except (StoreError, OSError, ValueError) as error:
        raise RecordError(
            f"{name} cannot be read as Parquet: {' '.join(str(error).split())}",
            hint="a name that ends so is read as a table, or as a shard of pictures",
        ) from error


def write_list(items: Iterable[Named]) -> bytes:
    """One JSON line for each: [name, path], or [name, path, status, message]."""
    lines = []
    for item in items:
        cells = [item.name, item.path]
        if item.error is not None:
            cells += [item.error.status, str(item.error)]
        lines.append(json.dumps(cells) + "\n")
    return "".join(lines).encode()


def read_list(data: bytes) -> Iterator[Named]:
    """What write_list wrote."""
    for line in data.splitlines():
        name, path, *reason = json.loads(line)
        if reason:
            kinds = {kind.status: kind for kind in ImageError.__subclasses__()}
            yield Named(name, path, kinds.get(reason[0], ImageUnreadable)(reason[1]))
        else:
            yield named_file(name, path)


def named_file(name: str, path: str, size: int | None = None) -> Named:
    """A picture in a file of its own, or in a tar by its name; it is read where it is scored."""
    if is_address(path):
        return Named(name, path, None, partial(read_image, path, size))
    return Named(name, path, None, partial(picture_in_tar, path) if tar_of(path) else None)


def _held(shard: Shard, member: str, data: bytes) -> Named:
    return Named(f"{shard.name}/{member}", shard.address, None, partial(bytes, data))


def _failed(shard: Shard, member: str, error: ImageError) -> Named:
    return Named(f"{shard.name}/{member}", shard.address, error)


def _too_large(size: int) -> ImageTooLarge:
    return ImageTooLarge(f"it has {size:,} bytes, over the limit of {MAX_BYTES:,}")


_READERS: dict[Kind, Callable[[Shard, io.BufferedIOBase], Iterator[Named]]]
_READERS = {"tar": _tar, "zip": _zip, "parquet": _parquet}
