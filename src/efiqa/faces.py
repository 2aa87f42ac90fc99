"""Find the faces in a picture, and the one rule for the crop around each.

A `Detector` turns a picture into `Face`s. `BlazeFace` comes with the package (Bazarevsky et al., "BlazeFace:
Sub-millisecond Neural Face Detection on Mobile GPUs", 2019, arXiv 1907.05047; back-camera variant, Apache-2.0);
`YuNet` takes a file of the user's and OpenCV. How they compare is measured in `docs/faces.md`.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
import PIL.Image
from numpy.typing import NDArray

from efiqa.errors import InvalidArgument, MissingExtra, ModelError
from efiqa.image import Image

CROP_SCALE = 1.7
"""Side of the square crop over the longer side of the box. Training and scoring use the same number."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the oriented picture; (x, y) is its top left corner. It may reach outside."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Face:
    """A found face. `detection` is the detector's confidence, 0 to 1.

    `landmarks` are (x, y) in pixels of the picture: the eye on the picture's left, the eye on its right,
    the tip of the nose, and then what the detector gives (see its class).
    """

    box: Box
    detection: float
    landmarks: tuple[tuple[float, float], ...] = ()


class Detector(Protocol):
    """Finds faces, largest box first. Safe to share between threads; equal pictures give equal faces."""

    name: str

    def detect(self, image: Image) -> list[Face]:
        """The faces of an RGB uint8 (H, W, 3) picture, ordered by falling box area."""
        ...


def face_crop(box: Box, width: int, height: int, *, scale: float = CROP_SCALE) -> tuple[int, int, int, int]:
    """The square around a face as (left, top, right, bottom), whole pixels of a width × height picture.

    Its side is `scale` times the longer side of the box, at most the shorter side of the picture and at least
    1 pixel. It is centred on the box and, where it would reach over the border, shifted inside: what is
    scored is always real pixels, never padding.
    """
    if width < 1 or height < 1:
        raise InvalidArgument(f"a picture must be at least 1 × 1 pixel, but got {width} × {height}")
    wanted = scale * max(box.width, box.height)
    if not (math.isfinite(box.x) and math.isfinite(box.y) and math.isfinite(wanted) and scale > 0):
        raise InvalidArgument(f"a box must hold finite numbers and scale be above 0, but got {box}, {scale}")
    side = max(1, min(round(wanted), width, height))
    left = round(box.x + box.width / 2 - side / 2)
    top = round(box.y + box.height / 2 - side / 2)
    left = min(max(left, 0), width - side)
    top = min(max(top, 0), height - side)
    return left, top, left + side, top + side


def anchor_centres() -> Floats:
    """(896, 2) float32: x, y of BlazeFace's anchors in pixels of its input, in the order of its outputs.

    Two anchors in each cell of 16 pixels, then six in each cell of 32; all boxes are relative to the centre.
    """
    grids = []
    for stride, repeats in ((16, 2), (32, 6)):
        centres = (np.arange(INPUT_SIDE // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(repeats, axis=0))
    return np.concatenate(grids)


def non_maximum_suppression(boxes: Floats, scores: Floats, *, iou: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best score first; ties keep the earlier box.

    `boxes` is (n, 4): left, top, right, bottom; `scores` (n,). A box is dropped when its intersection over
    union with a kept, better one exceeds `iou`. One vectorised step for each kept box over those still alive:
    10,000 boxes apart from each other take about half a second.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.argsort(-scores, kind="stable")
    keep = []
    while alive.size:
        best, alive = alive[0], alive[1:]
        keep.append(best)
        low = np.maximum(boxes[best, :2], boxes[alive, :2])
        high = np.minimum(boxes[best, 2:], boxes[alive, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        alive = alive[shared <= iou * (area[best] + area[alive] - shared)]
    return np.asarray(keep, dtype=np.intp)


INPUT_SIDE = 256
OVERLAP_IOU = 0.3
LEVELS = ((256, 0.5), (768, 0.7), (1536, 0.7))
LARGE = 0.2
