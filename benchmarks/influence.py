"""Which attribute answers to which degradation? The mean points each loses, as a Markdown matrix.

    python benchmarks/influence.py MANIFEST [--faces 100] [--split validation] [--severity 0.6]

Beside the degradations that training knows (efiqa.degrade) there are four that only this matrix has, for
attributes with none among them: `shrink` takes pixels away, `uneven` is light from one side, `cut` a border
through the face, `turn` a tilted head. A face is found once, in the picture as it is, and its place moved
along. In bold: a degradation's own attribute. Faces that are not found are left out and counted.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from efiqa.attributes import Attributes, measure
from efiqa.degrade import KINDS, degrade
from efiqa.faces import Box, Face, load_detector
from efiqa.image import Image
from efiqa.probe import sample_faces
from efiqa.records import ATTRIBUTES, read_manifest

Found = tuple[Image, Face]


def shrink(image: Image, face: Face, severity: float, seed: int) -> Found:
    """Down by a factor from 1.15 to 16, and left so."""
    height, width = image.shape[:2]
    factor = 1.15 * (16 / 1.15) ** severity
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BICUBIC))
    across, down = size[0] / width, size[1] / height
    return small, _moved(face, lambda x, y: (x * across, y * down))


def uneven(image: Image, face: Face, severity: float, seed: int) -> Found:
    """Linear light falls evenly across the face to 1 / 1.3 … 1 / 20, towards a side drawn from the seed."""
    along = np.clip((np.arange(image.shape[1]) + 0.5 - face.box.x) / face.box.width, 0, 1)
    if seed % 2:
        along = along[::-1]
    gain = 1 - along * (1 - 1 / (1.3 * (20 / 1.3) ** severity))
    light = (image / 255) ** 2.2 * gain[:, np.newaxis]
    return np.rint(255 * light ** (1 / 2.2)).astype(np.uint8), face


def cut(image: Image, face: Face, severity: float, seed: int) -> Found:
    """The border goes through the box, up to 0.4 of it: left, top, right or bottom by the seed."""
    height, width = image.shape[:2]
    reach = 0.4 * severity
    left, top, right, bottom = 0, 0, width, height
    match seed % 4:
        case 0:
            left = max(0, round(face.box.x + reach * face.box.width))
        case 1:
            top = max(0, round(face.box.y + reach * face.box.height))
        case 2:
            right = min(width, round(face.box.x + (1 - reach) * face.box.width))
        case _:
            bottom = min(height, round(face.box.y + (1 - reach) * face.box.height))
    return image[top:bottom, left:right], _moved(face, lambda x, y: (x - left, y - top))


def turn(image: Image, face: Face, severity: float, seed: int) -> Found:
    """Turned by up to 45 degrees about the middle of the face, to a side drawn from the seed."""
    angle = math.radians(45 * severity * (1 if seed % 2 else -1))
    x0, y0 = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
    cosine, sine = math.cos(angle), math.sin(angle)
    margin = max(image.shape[:2])  # mirrored, so that no corner is black
    wide = PIL.Image.fromarray(np.pad(image, ((margin, margin), (margin, margin), (0, 0)), "symmetric"))
    centre = (x0 + margin, y0 + margin)
    turned = np.asarray(wide.rotate(-math.degrees(angle), PIL.Image.Resampling.BICUBIC, center=centre))[
        margin:-margin, margin:-margin
    ]
    marks = tuple(
        (x0 + cosine * (x - x0) - sine * (y - y0), y0 + sine * (x - x0) + cosine * (y - y0))
        for x, y in face.landmarks
    )
    return turned, replace(face, landmarks=marks)


def _moved(face: Face, place: Callable[[float, float], tuple[float, float]]) -> Face:
    x, y = place(face.box.x, face.box.y)
    right, bottom = place(face.box.x + face.box.width, face.box.y + face.box.height)
    return replace(
        face, box=Box(x, y, right - x, bottom - y), landmarks=tuple(place(*mark) for mark in face.landmarks)
    )


ONLY_HERE = {"shrink": shrink, "uneven": uneven, "cut": cut, "turn": turn}
OWN = {
    **dict.fromkeys(("blur", "defocus", "motion", "downscale"), "sharpness"),
    **dict.fromkeys(("jpeg", "webp", "noise"), "noise"),
    **dict.fromkeys(("dark", "bright"), "exposure"),
    "contrast": "contrast",
    "cast": "colour",
    "shrink": "resolution",
    "uneven": "lighting",
    "cut": "framing",
    "turn": "tilt",
    "occlusion": None,
}
"""A degradation's own attribute. What covers a face no attribute is made for."""


def drops(faces: Sequence[Found], kind: str, severity: float) -> NDArray[np.float64]:
    """Points that each attribute loses, (faces, attributes); NaN where it is not known before and after."""
    lost = []
    for seed, (image, face) in enumerate(faces):
        if kind in KINDS:
            worse = (degrade(image, kind, severity, seed), face)
        else:
            worse = ONLY_HERE[kind](image, face, severity, seed)
        lost.append(_values(measure(image, face)) - _values(measure(*worse)))
    return np.array(lost)


def _values(attributes: Attributes) -> NDArray[np.float64]:
    return np.array([getattr(attributes, name) for name in ATTRIBUTES], np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--severity", type=float, default=0.6)
    arguments = parser.parse_args()
    images = sample_faces(read_manifest(arguments.manifest), faces=arguments.faces, split=arguments.split)
    detector = load_detector()
    faces = [(image, found[0]) for image in images if (found := detector.detect(image))]
    where = f"split {arguments.split}; severity {arguments.severity}"
    print(f"{len(faces)} faces of {len(images)} pictures, {where}\n")
    print("| degradation | " + " | ".join(ATTRIBUTES) + " |")
    print("|---|" + "---:|" * len(ATTRIBUTES))
    matrix = {kind: np.nanmean(drops(faces, kind, arguments.severity), axis=0) for kind in OWN}
    for kind, means in matrix.items():
        cells = [f"{value:.0f}".replace("-0", "0") for value in means]
        if own := OWN[kind]:
            cells[ATTRIBUTES.index(own)] = f"**{cells[ATTRIBUTES.index(own)]}**"
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print()
    for kind, means in matrix.items():
        first = ATTRIBUTES[int(means.argmax())]
        if OWN[kind] not in (None, first):
            print(f"{kind} answers first in {first}, not in its own attribute")
    for index, name in enumerate(ATTRIBUTES):
        first_kind = max(matrix, key=lambda kind: matrix[kind][index])
        if OWN[first_kind] != name:
            print(f"{name} answers first to {first_kind}, which is not its own")


if __name__ == "__main__":
    main()
