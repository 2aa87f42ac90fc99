"""Label-safe views of a picture: what a person would give the same rating, what a model may not.

How far a model's scores of them lie apart says how sure it is; their mean is a better label than one score.
A view only mirrors, cuts or turns: nothing that blurs, brightens or compresses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import PIL.Image

from efiqa.image import Image, crop

SHIFTED = 0.94
"""Side of a shifted crop over the picture's."""
SCALED = 0.9
"""Side of the central crop over the picture's."""
DEGREES = 4.0

View = Callable[[Image, int], list[Image]]
"""(picture, side of the model's input in pixels) → pictures, each RGB uint8 (H, W, 3) and contiguous."""


def flip(image: Image, size: int) -> list[Image]:
    """The mirror image."""
    return [np.ascontiguousarray(image[:, ::-1])]


def shift(image: Image, size: int) -> list[Image]:
    """Four crops of 94 % of each side: top left, top right, bottom left, bottom right."""
    width, height = (max(1, round(SHIFTED * side)) for side in (image.shape[1], image.shape[0]))
    return [_cut(image, width, height, right, down) for down, right in product((0.0, 1.0), repeat=2)]


def scale(image: Image, size: int) -> list[Image]:
    """The central crop of 90 % of each side."""
    width, height = (max(1, round(SCALED * side)) for side in (image.shape[1], image.shape[0]))
    return [_cut(image, width, height, 0.5, 0.5)]


def rotate(image: Image, size: int) -> list[Image]:
    """The picture turned by 4 degrees both ways (bilinear), cut to what has its shape and no border."""
    height, width = image.shape[:2]
    cosine, sine = math.cos(math.radians(DEGREES)), math.sin(math.radians(DEGREES))
    # The corners of a crop of this share of both sides, turned back, still lie inside the picture.
    share = min(width / (width * cosine + height * sine), height / (width * sine + height * cosine))
    turned = [
        np.asarray(PIL.Image.fromarray(image).rotate(angle, PIL.Image.Resampling.BILINEAR))
        for angle in (DEGREES, -DEGREES)
    ]
    return [_cut(picture, _inside(width, share), _inside(height, share), 0.5, 0.5) for picture in turned]


def native(image: Image, size: int) -> list[Image]:
    """Five crops of size × size at the picture's own resolution: the corners, then the centre.

    None where a side is less than 10 % longer than `size`: the whole picture already shows as much.
    """
    if 10 * min(image.shape[:2]) < 11 * size:
        return []
    places = [*product((0.0, 1.0), repeat=2), (0.5, 0.5)]
    return [_cut(image, size, size, right, down) for down, right in places]


VIEWS: dict[str, View] = {"flip": flip, "shift": shift, "scale": scale, "rotate": rotate, "native": native}


def _cut(image: Image, width: int, height: int, right: float, down: float) -> Image:
    """The crop that lies `right` and `down` (0 to 1) of the way to the bottom right corner."""
    left, top = int(right * (image.shape[1] - width)), int(down * (image.shape[0] - height))
    return np.ascontiguousarray(crop(image, (left, top, left + width, top + height)))


def _inside(side: int, share: float) -> int:
    """The longest length, at least 1 and at most `share` of `side`, that lies centred on whole pixels."""
    length = int(share * side)
    return max(1, length - (side - length) % 2)
