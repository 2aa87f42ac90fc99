"""Copies of pictures, cropped and degraded at random but repeatably: more to label for a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

from efiqa.degrade import KINDS, degrade
from efiqa.errors import ImageError
from efiqa.image import crop, resize
from efiqa.records import Row
from efiqa.sources import load_row

SMALLEST_CROP = 0.6
"""Shortest side of a copy over that of its picture."""
DEGRADED = 0.5
"""Share of copies that are degraded, besides the first of each picture."""


def vary(
    rows: Sequence[Row],
    folder: Path,
    *,
    copies: int,
    largest: int,
    seed: int = 0,
    workers: int = 1,
    unreadable: Callable[[Row, ImageError], None] = lambda row, error: None,
) -> Iterator[Row]:
    """Write `copies` PNGs of each row's square into `folder`; yields their rows, without scores, in order.

    The first copy is a random crop, at most `largest` pixels a side; each later one is degraded with
    a chance of DEGRADED, with a kind and severity drawn from `seed`, the row's position and the copy's
    number alone. Split and group stay those of the original. A file that is there already is kept, so an
    interrupted call goes on. `unreadable` is told of pictures that cannot be used.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def write(index: int) -> list[Row]:
        made = []
        try:
            image = load_row(rows[index])
        except ImageError as error:
            unreadable(rows[index], error)
            return []
        for number in range(copies):
            path = folder / f"{index:06d}-{number}.png"
            made.append(
                replace(
                    rows[index],
                    image=str(path),
                    score=None,
                    source="",
                    x=None,
                    y=None,
                    width=None,
                    height=None,
                )
            )
            if path.exists():
                continue
            generator = np.random.default_rng([seed, index, number])
            height, width = (
                max(1, round(side * generator.uniform(SMALLEST_CROP, 1))) for side in image.shape[:2]
            )
            top, left = (
                int(generator.integers(0, a - b + 1))
                for a, b in zip(image.shape, (height, width), strict=False)
            )
            copy = np.ascontiguousarray(crop(image, (left, top, left + width, top + height)))
            if max(copy.shape) > largest:
                copy = resize(copy, largest)
            if number > 0 and generator.random() < DEGRADED:
                kind = str(generator.choice(list(KINDS)))
                copy = degrade(copy, kind, float(generator.uniform(0.02, 1)), int(generator.integers(2**31)))
            partial = path.with_suffix(".partial")
            PIL.Image.fromarray(copy).save(partial, "PNG", compress_level=1)
            partial.replace(path)
        return made

    with ThreadPoolExecutor(workers) as pool:
        for made in pool.map(write, range(len(rows))):
            yield from made
