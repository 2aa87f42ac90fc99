"""Find the faces in a picture, and the one rule for the crop around each.

A `Detector` turns a picture into `Face`s. `BlazeFace` comes with the package (Bazarevsky et al., "BlazeFace:
Sub-millisecond Neural Face Detection on Mobile GPUs", 2019, arXiv 1907.05047; back-camera variant,
Apache-2.0); `YuNet` takes a file of the user's and OpenCV. `docs/faces.md` measures how they compare.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from efiqa.errors import InvalidArgument, MissingExtra, ModelError
from efiqa.image import Decoded, Image
from efiqa.runtime import onnxruntime

CROP_SCALE = 2.0
"""Side of the square crop over the longer side of the box. Training and scoring use the same number."""

INPUT_SIDE = 256
"""Side of BlazeFace's input, in pixels."""
LEVELS = (256, 448, 1024)
"""The picture is looked at with its longer side reduced to each of these, if it is longer than the one
before: whole at first, then in tiles of 256 px, so that small faces of large pictures are found too."""
LEAST_SEEN = 960
"""A larger picture is reduced before, by the largest whole factor that leaves its longer side this long."""
ZOOMED_OUT = 160
"""Faces that fill the picture score low. Where the whole view finds none, the picture is looked at once more
with its longer side reduced to this, and only faces of at least CLOSE_UP of it count."""
CLOSE_UP = 0.4
PORTRAIT = 0.35
"""Beside a face wider than this share of the longer side, tiles are left out: there, small faces are rare."""
TILE_OVERLAP = 64
"""Neighbouring tiles share this many pixels, so that each small face is whole in one of them."""
MIN_DETECTION = 0.6
MIN_DETECTION_IN_TILES = 0.75
"""Tiles are many and see much that is no face, so there the detector has to be surer."""
MERGE_IOU = 0.3
MERGE_INSIDE = 0.6
"""A smaller box with this share inside a larger one is a part of that face."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the oriented picture; (x, y) is its top left corner. It may reach outside."""

    x: float
    y: float
    width: float
    height: float

    def scaled(self, times: float) -> Box:
        """The same rectangle in a picture `times` as large."""
        return Box(self.x * times, self.y * times, self.width * times, self.height * times)

    def rounded(self, digits: int) -> Box:
        return Box(*(round(value, digits) for value in (self.x, self.y, self.width, self.height)))


@dataclass(frozen=True, slots=True)
class Face:
    """A found face. `detection` is the detector's confidence, 0 to 1.

    `landmarks` are (x, y) in pixels of the picture: the eye on the picture's left, the eye on its right,
    the tip of the nose, and then what the detector gives (see its class).
    """

    box: Box
    detection: float
    landmarks: tuple[tuple[float, float], ...] = ()

    def scaled(self, times: float) -> Face:
        """The same face in a picture `times` as large."""
        points = tuple((x * times, y * times) for x, y in self.landmarks)
        return Face(self.box.scaled(times), self.detection, points)


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
    union with a kept, better one exceeds `iou`. Each kept box is compared only with those that can reach it
    from left to right, so that crowds stay cheap.
    """
    order = np.argsort(boxes[:, 0], kind="stable")
    left, top, right, bottom = np.ascontiguousarray(boxes[order].T)
    area = (right - left) * (bottom - top)
    first = np.searchsorted(left, left - (right - left).max(initial=0), side="left")
    last = np.searchsorted(left, right, side="right")
    alive = np.ones(len(boxes), dtype=np.bool_)
    position = np.argsort(order)
    keep = []
    for index in np.argsort(-scores, kind="stable"):
        best = position[index]
        if not alive[best]:
            continue
        keep.append(index)
        near = slice(first[best], last[best])
        across = np.minimum(right[near], right[best]) - np.maximum(left[near], left[best])
        down = np.minimum(bottom[near], bottom[best]) - np.maximum(top[near], top[best])
        shared = np.maximum(across, 0) * np.maximum(down, 0)
        alive[near] &= shared <= iou * (area[near] + area[best] - shared)
    return np.asarray(keep, dtype=np.intp)


class BlazeFace:
    """The detector that ships with efiqa; see the module's docstring for its source.

    Landmarks: both eyes, nose tip, mouth centre, both ear tragions. Faces from about a tenth of the
    picture's longer side are found in the whole picture, smaller ones in tiles of a larger picture.
    """

    name = "blazeface"

    def __init__(self, *, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = resources.files("efiqa") / "models" / "blazeface.onnx"
        self._session = onnxruntime.InferenceSession(
            model.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        self._anchors = anchor_centres()

    def detect(self, image: Decoded) -> list[Face]:
        """The faces of an RGB uint8 (H, W, 3) picture, ordered by falling box area."""
        picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
        # Once, by averages of whole boxes: levels made each from all of a large photo cost together as much
        # as five to ten runs of the network.
        factor = max(1, max(picture.size) // LEAST_SEEN)
        if factor > 1:
            picture = picture.reduce(factor)
        longer = max(picture.size)
        found = [np.empty((0, 17), np.float32)]
        for level, (side, previous) in enumerate(zip(LEVELS, (0, *LEVELS), strict=False)):
            widest = max(float((rows[:, 2] - rows[:, 0]).max(initial=0)) for rows in found)
            if level > 0 and (longer <= 1.5 * previous or widest > PORTRAIT * longer):
                break
            found.append(self._level(picture, min(side, longer) if level > 0 else side, tiled=level > 0))
            if level == 0 and not len(found[-1]):
                rows = self._level(picture, ZOOMED_OUT, tiled=False)
                found.append(rows[rows[:, 2] - rows[:, 0] >= CLOSE_UP * longer])
        rows = _merge(np.concatenate(found))
        faces = [
            Face(
                Box(*(float(value) for value in (row[0], row[1], row[2] - row[0], row[3] - row[1]))),
                float(row[16]),
                tuple((float(x), float(y)) for x, y in row[4:16].reshape(6, 2)),
            ).scaled(factor)
            for row in rows
        ]
        return sorted(faces, key=lambda face: (-face.box.width * face.box.height, face.box.x, face.box.y))

    def _level(self, picture: PIL.Image.Image, longer: int, *, tiled: bool) -> Floats:
        """Candidates (n, 17) in pixels of the picture: left, top, right, bottom, 6 × (x, y), detection."""
        scale = longer / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        reduced = np.asarray(picture.resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2.0))
        found = [np.empty((0, 17), np.float32)]
        for top in _tile_starts(size[1]):
            for left in _tile_starts(size[0]):
                tile = reduced[top : top + INPUT_SIDE, left : left + INPUT_SIDE]
                margin = 0 if longer > ZOOMED_OUT else (INPUT_SIDE - longer) // 2
                if tile.shape[:2] != (INPUT_SIDE, INPUT_SIDE):
                    part, tile = tile, np.zeros((INPUT_SIDE, INPUT_SIDE, 3), np.uint8)
                    tile[margin : margin + part.shape[0], margin : margin + part.shape[1]] = part
                rows = self._candidates(tile, MIN_DETECTION_IN_TILES if tiled else MIN_DETECTION)
                if not len(rows):
                    continue
                if tiled:
                    rows = rows[_whole(rows, (left, top), size)]
                rows[:, 0:16:2] = (rows[:, 0:16:2] + left - margin) * (picture.width / size[0])
                rows[:, 1:16:2] = (rows[:, 1:16:2] + top - margin) * (picture.height / size[1])
                found.append(rows)
        return np.concatenate(found)

    def _candidates(self, tile: Image, min_detection: float) -> Floats:
        """Faces of one input, (n, 17) as in `_level` but in pixels of the tile, overlapping ones removed."""
        regressors, logits = self._session.run(None, {"image": np.ascontiguousarray(tile)[np.newaxis]})
        sure = logits[0] >= math.log(min_detection / (1 - min_detection))
        if not sure.any():  # most tiles
            return np.empty((0, 17), np.float32)
        detection = 1 / (1 + np.exp(-logits[0][sure]))
        values, centres = regressors[0][sure], self._anchors[sure]
        middle, half = centres + values[:, :2], values[:, 2:4] / 2
        points = (values[:, 4:].reshape(-1, 6, 2) + centres[:, np.newaxis]).reshape(-1, 12)
        rows = np.concatenate([middle - half, middle + half, points, detection[:, np.newaxis]], axis=1)
        rows = rows[(half > 0).all(axis=1)]
        return np.asarray(rows[non_maximum_suppression(rows[:, :4], rows[:, 16], iou=MERGE_IOU)], np.float32)


def _tile_starts(length: int) -> list[int]:
    """Where tiles begin along an axis: evenly spread, overlapping by at least TILE_OVERLAP."""
    if length <= INPUT_SIDE:
        return [0]
    count = math.ceil((length - TILE_OVERLAP) / (INPUT_SIDE - TILE_OVERLAP))
    return [round(start) for start in np.linspace(0, length - INPUT_SIDE, count)]


def _whole(rows: Floats, corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which boxes of a tile hold a whole small face: not cut by a border that is not the picture's own."""
    whole = np.maximum(rows[:, 2] - rows[:, 0], rows[:, 3] - rows[:, 1]) < INPUT_SIDE / 2
    for axis in (0, 1):
        if corner[axis] > 0:
            whole &= rows[:, axis] > 1
        if corner[axis] + INPUT_SIDE < size[axis]:
            whole &= rows[:, 2 + axis] < INPUT_SIDE - 1
    return np.asarray(whole)


def _merge(rows: Floats) -> Floats:
    """One row per face out of all levels: no two that overlap, none that lies inside a larger one."""
    rows = rows[non_maximum_suppression(rows[:, :4], rows[:, 16], iou=MERGE_IOU)]
    area = (rows[:, 2] - rows[:, 0]) * (rows[:, 3] - rows[:, 1])
    rows = rows[np.argsort(-area, kind="stable")]
    alive = rows
    kept = []
    while len(alive):
        largest, alive = alive[0], alive[1:]
        kept.append(largest)
        shared = np.maximum(
            np.minimum(alive[:, 2:4], largest[2:4]) - np.maximum(alive[:, :2], largest[:2]), 0
        )
        own = (alive[:, 2] - alive[:, 0]) * (alive[:, 3] - alive[:, 1])
        alive = alive[shared.prod(axis=1) < MERGE_INSIDE * own]
    return np.array(kept, np.float32).reshape(-1, 17)


class YuNet:
    """YuNet (Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023) through OpenCV.

    Landmarks: both eyes, nose tip, both corners of the mouth. Needs the extra `yunet`.

    Raises MissingExtra without OpenCV, ModelError for a file that is no YuNet.
    """

    name = "yunet"

    def __init__(self, path: Path, *, min_detection: float = 0.6) -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra("opencv-python-headless", extra="yunet") from error
        if not path.is_file():
            raise ModelError(
                f"there is no detector at {path}", hint="expected YuNet's ONNX file, or blazeface"
            )
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(
                str(path), "", (320, 320), min_detection, 0.3, 10_000
            )
            self._detector.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{path} is not a YuNet detector: {' '.join(str(error).split())[:160]}"
            ) from error
        # OpenCV keeps the input size in the detector: one picture at a time.
        self._lock = threading.Lock()

    def detect(self, image: Image) -> list[Face]:
        """The faces of an RGB uint8 (H, W, 3) picture, ordered by falling box area."""
        height, width = image.shape[:2]
        scale = min(1.0, 1024 / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        reduced = np.asarray(
            PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR, reducing_gap=2.0)
        )
        with self._lock:
            self._detector.setInputSize(size)
            _, rows = self._detector.detect(np.ascontiguousarray(reduced[:, :, ::-1]))
        faces = []
        for row in [] if rows is None else rows:
            across, down = width / size[0], height / size[1]
            x, y, w, h = (float(value) for value in row[:4])
            points = tuple((float(a) * across, float(b) * down) for a, b in row[4:14].reshape(5, 2))
            faces.append(Face(Box(x * across, y * down, w * across, h * down), float(row[14]), points))
        return sorted(faces, key=lambda face: (-face.box.width * face.box.height, face.box.x, face.box.y))


def load_detector(name: str = "blazeface") -> Detector:
    """The detector called `blazeface`, or YuNet from the path of its ONNX file.

    Raises ModelError for anything else, MissingExtra where YuNet's runtime is not installed.
    """
    if name == BlazeFace.name:
        return BlazeFace()
    if not name.lower().endswith(".onnx"):
        raise ModelError(f"unknown detector {name!r}", hint="blazeface, or the path of YuNet's ONNX file")
    return YuNet(Path(name))
