"""Files and object stores by one set of verbs: a path is the file system's, an address (s3://…) fsspec's.

What fails in a store is tried again, a bounded number of times, with pauses drawn at random so that a
thousand workers do not come back in the same moment. What is final is said in the store's own words,
without what is secret in an address.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from efiqa.errors import EfiqaError, ImageNotFound, ImageTooLarge, ImageUnreadable, RecordError
from efiqa.image import MAX_BYTES
from efiqa.names import printable
from efiqa.writing import atomic

T = TypeVar("T")

TRIES = 6
"""How often one request is made in all. With the pauses, a store may be away for about a minute."""
PAUSE = 0.5
"""Seconds; before the n-th further try a pause is drawn from 0 to PAUSE · 2ⁿ."""
BLOCK = 8 << 20
"""Bytes that a stream asks a store for at a time."""
WRITTEN = "name a folder or bucket that you may write to"

_SECRET = re.compile(r"(^|[-_])(sig|signature|token|credential|secret|key|password|auth)", re.IGNORECASE)


class StoreError(EfiqaError):
    """What a store said in the end; `final` where it would say the same again."""

    def __init__(self, message: str, *, missing: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.missing, self.final = missing, final or missing


def is_address(text: str) -> bool:
    """Whether this is `scheme://…` and no path; one letter before the colon is a drive of Windows."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def public(address: str) -> str:
    """The address without user, password and, where it is signed, its query: what may be shown and stored."""
    if not is_address(address):
        return printable(address)
    head, question, query = address.partition("?")
    head = re.sub(r"://[^/@]*@", "://", head)
    names = [part.partition("=")[0] for part in query.split("&")]
    return printable(head if any(_SECRET.search(name) for name in names) else head + question + query)


def local(address: str) -> str:
    """The address's path alone, where endings are looked for: without query."""
    return address.partition("?")[0] if is_address(address) else address


def join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if is_address(folder) else str(Path(folder) / name)


def file_system(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Raises RecordError for an unknown scheme, and for one whose driver is not installed, with what installs
    it.
    """
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError as error:
        raise RecordError(
            f"{public(address)} needs the package 'fsspec', which is not installed",
            hint='pip install "efiqa[scale]"',
        ) from error
    scheme = address.partition("://")[0]
    if scheme not in fsspec.available_protocols():
        raise RecordError(
            f"{public(address)}: no store is known by {scheme}://", hint="s3, gs, az, http and https are"
        )
    try:
        # Listings are not kept: they would grow with the store, and hide what came since.
        return cast(tuple[Any, str], fsspec.core.url_to_fs(address, use_listings_cache=False))
    except ImportError as error:
        told = re.search(r"pip install ['\"]?([\w\[\]-]+)", known_implementations[scheme].get("err", ""))
        drivers = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
        drivers |= {"http": "aiohttp", "https": "aiohttp"}
        package = drivers.get(scheme) or (told[1] if told else scheme)
        raise RecordError(
            f"{scheme}:// needs the package {package!r}, which is not installed",
            hint=f"pip install {package}",
        ) from error
    except Exception as error:
        raise StoreError(_said(error, address), final=True) from error


def persistently(action: Callable[[], T], address: str) -> T:
    """What `action` returns, tried TRIES times. Raises StoreError with the store's last words."""
    for number in range(1, TRIES + 1):
        try:
            return action()
        except EfiqaError:
            raise
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise StoreError(f"there is nothing at {public(address)}", missing=True) from error
        except Exception as error:
            if _is_final(error):
                raise StoreError(_said(error, address), final=True) from error
            if number == TRIES:
                raise StoreError(f"{_said(error, address)} ({TRIES} tries)") from error
            time.sleep(random.uniform(0, PAUSE * 2**number))
    raise AssertionError("unreachable")


def _is_final(error: BaseException) -> bool:
    """Whether another try would end in the same way: no right to read, no credentials."""
    return isinstance(error, PermissionError) or "Credential" in type(error).__name__


def _said(error: BaseException, address: str) -> str:
    """The store's message on one line, without the secrets of an address."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.replace(address, public(address))
    text = re.sub(r"://[^/@\s]*@", "://", text)
    text = re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1", text)
    return f"{public(address)}: {text[:300]}"


def read_image(address: str, size: int | None = None) -> bytes:
    """Bytes of one picture in a store, `size` of them where a listing said so.

    Raises ImageNotFound, ImageTooLarge, ImageUnreadable.
    """
    try:
        fs, path = file_system(address)

        def whole() -> bytes:
            expected = fs.info(path).get("size") if size is None else size
            if expected is not None and expected > MAX_BYTES:
                raise ImageTooLarge(f"it has {expected:,} bytes, over the limit of {MAX_BYTES:,}")
            data = bytes(fs.cat_file(path)) if expected != 0 else b""
            if expected is not None and len(data) != expected:
                raise OSError(f"{len(data):,} bytes came of {expected:,}")
            return data

        return persistently(whole, address)
    except StoreError as error:
        kind = ImageNotFound if error.missing else ImageUnreadable
        raise kind(str(error)) from error
    except RecordError as error:
        raise ImageUnreadable(str(error), hint=error.hint) from error


class _Stream(io.RawIOBase):
    """A file in a store, read in blocks; where a read fails it is opened again and goes on at its place."""

    def __init__(self, address: str) -> None:
        self._fs, self._path = file_system(address)
        self._address, self._at = address, 0
        self._file: Any = None
        self.size: int | None = persistently(self._open, address).size

    def _open(self) -> Any:
        if self._file is None:
            self._file = self._fs.open(self._path, "rb", block_size=BLOCK, cache_type="readahead")
            if self._at:
                self._file.seek(self._at)
        return self._file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and self.size is None:
            raise OSError("this store does not say how long a file is")
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size or 0}[whence]
        self._at = start + offset
        if self._file is not None:
            self._file.seek(self._at)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = persistently(lambda: self._part(len(buffer)), self._address)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _part(self, wanted: int) -> bytes:
        try:
            data: bytes = self._open().read(wanted)
        except Exception:
            self._drop()
            raise
        if not data and wanted and self.size is not None and self._at < self.size:
            self._drop()
            raise OSError(f"the connection ended at byte {self._at:,} of {self.size:,}")
        return data

    def _drop(self) -> None:
        with suppress(Exception):
            if self._file is not None:
                self._file.close()
        self._file = None

    def close(self) -> None:
        self._drop()
        super().close()


def open_stream(address: str) -> io.BufferedIOBase:
    """A file or an object to read from, seekable. Raises StoreError where there is none."""
    if not is_address(address):
        try:
            return Path(address).open("rb")
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise StoreError(
                f"{printable(address)} cannot be read: {error.strerror}", missing=missing, final=True
            ) from error
    return io.BufferedReader(_Stream(address), 1 << 20)


def read(address: str) -> bytes | None:
    """A small file, whole; none where there is none."""
    if not is_address(address):
        path = Path(address)
        return path.read_bytes() if path.is_file() else None
    fs, path_in = file_system(address)
    try:
        return persistently(lambda: cast(bytes, fs.cat_file(path_in)), address)
    except StoreError as error:
        if error.missing:
            return None
        raise


def write(address: str, data: bytes) -> None:
    """A file that stands there whole or not at all. Raises OutputError or StoreError where it cannot."""
    if not is_address(address):
        with atomic(Path(address), binary=True) as file:
            file.write(data)
        return
    fs, path = file_system(address)
    persistently(lambda: fs.pipe_file(path, data), address)


def remove(address: str) -> None:
    """Delete a file; it may be gone already."""
    if not is_address(address):
        Path(address).unlink(missing_ok=True)
        return
    fs, path = file_system(address)
    with suppress(StoreError):
        persistently(lambda: fs.rm_file(path), address)


def names_in(folder: str) -> dict[str, int]:
    """Names and sizes of the files in a folder, not below; empty where there is none."""
    if not is_address(folder):
        path = Path(folder)
        return (
            {each.name: each.stat().st_size for each in path.iterdir() if each.is_file()}
            if path.is_dir()
            else {}
        )
    fs, path_in = file_system(folder)
    try:
        found = persistently(lambda: fs.ls(path_in, detail=True), folder)
    except StoreError as error:
        if error.missing:
            return {}
        raise
    return {each["name"].rsplit("/", 1)[-1]: each["size"] for each in found if each["type"] == "file"}


def walk(address: str) -> Iterator[tuple[str, int | None]]:
    """Addresses and sizes of all files under a prefix, or that a pattern with * means, sorted.

    One folder's listing is in memory at a time. Nothing at all where there is nothing.
    """
    fs, path = file_system(address)
    scheme = address.partition("://")[0]

    def full(name: str) -> str:
        return name if is_address(name) else f"{scheme}://{name}"

    if re.search(r"[*[]", path):
        found = persistently(lambda: fs.glob(path, detail=True), address)
        for name in sorted(found):
            if found[name]["type"] == "file":
                yield full(name), found[name].get("size")
        return

    def below(folder: str) -> Iterator[tuple[str, int | None]]:
        try:
            entries = persistently(lambda: fs.ls(folder, detail=True), address)
        except StoreError as error:
            if error.missing:
                return
            raise
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            if entry["name"].rstrip("/") == folder.rstrip("/"):  # what stands for the folder itself
                continue
            if entry["type"] == "directory":
                yield from below(entry["name"])
            else:
                yield full(entry["name"]), entry.get("size")

    yield from below(path)
