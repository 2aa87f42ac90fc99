"""The pictures that are evaluated, and how other tables spell their names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from efiqa.names import Files

MAX_MISSING = 0.1
"""Where more than this share of pictures, or pairs, is unknown to the other table, a name is wrong."""
MOST_PARTS = 6


class Pictures:
    """Distinct pictures by path, in order; `paths` are from the working folder."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self._files = Files()
        self._keys, _ = self._files.located(self.paths, "")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return dict(zip(self._keys, range(len(self)), strict=True))

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, names: Sequence[str], folder: str) -> NDArray[np.int64]:
        """Which picture each name means, int64 of their number; −1 for none of them.

        A name is a path from the working folder or from `folder`, that of the table it stands in. Where no
        name of a table is found so (it was made in another place, or has file names only), a name means the
        picture that ends as it does: in the file name, and as many folders as tell these pictures apart.
        """
        here, there = (self._files.located(names, home)[0] for home in ("", folder))
        # A table in the order of the pictures is usual, and seen in a tenth of the time.
        in_order = here == self._keys or (there == self._keys and set(here).isdisjoint(there))
        if in_order and len(set(self._keys)) == len(self):
            return np.arange(len(self))
        found = list(map(self._numbers.get, here, repeat(-1)))
        if -1 in found:
            other = map(self._numbers.get, there, repeat(-1))
            found = [second if first < 0 else first for first, second in zip(found, other, strict=True)]
        if names and max(found) < 0:
            for parts in range(1, MOST_PARTS + 1):
                ends = dict(zip(_ends(self.paths, parts), range(len(self)), strict=True))
                if len(ends) == len(self):
                    return np.array([ends.get(end, -1) for end in _ends(names, parts)], np.int64)
        return np.array(found, np.int64)


def _ends(names: Sequence[str], parts: int) -> list[str]:
    """The last `parts` parts of each name, whichever slash they are joined by."""
    if parts == 1:
        return [name.replace("\\", "/").rpartition("/")[2] for name in names]
    return ["/".join(name.replace("\\", "/").rsplit("/", parts)[-parts:]) for name in names]
