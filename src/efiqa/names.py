"""Names of files in tables: as text, as keys, and inside of tars."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator

from efiqa.tables import BLOCK, in_groups


def printable(path: str | os.PathLike[str]) -> str:
    r"""A path as text any file can hold: bytes that are not UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def tar_of(path: str) -> str | None:
    """The tar that `shards/faces-0003.tar/000.jpg` is in; none where there is no such file."""
    before, found, _ = path.partition(".tar/")
    return f"{before}.tar" if found and os.path.isfile(f"{before}.tar") else None  # noqa: PTH113


class Files:
    """Numbers of files by their path, whatever folder's table names them.

    A file's key is its path from the working folder where it is in there, and else absolute: as tables
    mostly name them, so that a million keys are hardly ever strings of their own.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """Each number, and its absolute path."""
        for key, number in self.numbers.items():
            yield number, os.path.abspath(key)  # noqa: PTH100

    def named_in(self, folder: str) -> Callable[[str], tuple[dict[str, int], str, str]]:
        """What takes a name in a table of `folder`: it gives the numbers, the file's key, and its path.

        The path is normal, and absolute if the name or `folder` is.
        """

        def found(name: str) -> tuple[dict[str, int], str, str]:
            path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
            return self.numbers, os.path.abspath(path).removeprefix(self._here), path  # noqa: PTH100

        return found

    def located(self, names: Iterable[str], folder: str) -> tuple[list[str], list[str]]:
        """Keys and paths of many names, as named_in gives them one by one.

        The folder's path is worked out once: for each of a million names, it would be most of the time.
        """
        found = self.named_in(folder)
        _, _, path = found("")
        before = "" if path == "." else os.path.join(path, "")  # noqa: PTH118
        start = os.path.join(os.path.abspath(path), "").removeprefix(self._here)  # noqa: PTH100, PTH118
        keys: list[str] = []
        paths: list[str] = []
        for group in in_groups(names, BLOCK):
            absolute = all(map(str.startswith, group, itertools.repeat("/")))
            if os.sep != "/" or _odd([name[1:] for name in group] if absolute else group):
                for name in group:
                    _, key, path = found(name)
                    keys.append(key)
                    paths.append(path)
            elif absolute:
                paths += group
                keys += [name.removeprefix(self._here) for name in group]
            else:
                added = [before + name for name in group] if before else group
                paths += added
                keys += added if start == before else [start + name for name in group]
        return keys, paths


def _odd(names: Iterable[str]) -> bool:
    """Whether one of the names is empty, absolute or not normal, so that its path is not just folder/name."""
    parts = "/" + "/\n/".join(names) + "/"
    return any(odd in parts for odd in ("//", "/./", "/../"))
