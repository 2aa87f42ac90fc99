"""The pictures that are evaluated, and how other tables spell their names."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from efiqa.tables import named_in

MOST_PARTS = 6


class Pictures:
    """Distinct pictures by path, in order; `paths` are from the working folder."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self._absolute = named_in(os.getcwd())  # noqa: PTH109, its text is what is needed
        self._exact = {self._absolute(path): index for index, path in enumerate(self.paths)}

    def __len__(self) -> int:
        return len(self.paths)

    def find(self, names: Sequence[str], folder: str) -> NDArray[np.int64]:
        """Which picture each name means, int64 of their number; −1 for none of them.

        A name is a path from the working folder or from `folder`, that of the table it stands in. Where no
        name of a table is found so (it was made in another place, or has file names only), a name means the
        picture that ends as it does: in the file name, and as many folders as tell these pictures apart.
        """
        exact = self._exact
        found = [exact.get(self._absolute(name), -1) for name in names]
        if -1 in found:
            meant = named_in(self._absolute(folder))
            found = [
                exact.get(meant(name), -1) if place < 0 else place
                for name, place in zip(names, found, strict=True)
            ]
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
