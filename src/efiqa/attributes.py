"""Why a face is judged as it is: nine cheap measures of one face, each with plain advice.

Each is 0–100, higher is better, by a formula that stands in its docstring; none is learnt, and none knows
the others. Most look at the square around the face box at SIDE × SIDE pixels, so that a number does not
depend on how many the camera has: `resolution` counts those; `framing` and `tilt` are about the box alone.
docs/reasons.md shows what each answers to, and what it cannot see.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from efiqa.baselines import luma
from efiqa.faces import CROP_SCALE, Box, Face, face_crop
from efiqa.image import Image, crop, resize
from efiqa.records import ATTRIBUTES

Plane = NDArray[np.float32]
"""Luma of the square around a face, (SIDE, SIDE) in 0–255, not rounded."""

SIDE = 128
"""The face is looked at with this many pixels on each side, about as many as a scorer's input has for it."""
FINE, COARSE = 0.8, 2.5
"""σ in pixels of the two Gaussian gradients that sharpness compares; coarse ones also find edges."""
NO_EDGES = 0.01  # squared coarse gradients, in (grey levels / pixel)², below this come from rounding
BLOCK_SIDES = (32, 4 * SIDE)
"""Compression is looked for in faces this many pixels wide: in wider ones a block is no longer seen."""
GREY = 1.5  # where the channels' means lie less than this apart, in grey levels, it is black and white
PROFILE = 6  # eyes closer than this part of the box are those of a profile, whose tilt they do not show

ADVICE = {
    "resolution": "move closer, or use a camera with more pixels",
    "sharpness": "hold still and focus on the face",
    "exposure": "use light that is neither too weak nor too strong",
    "dark": "put more light on the face",
    "bright": "take light away from the face, or expose for less",
    "contrast": "clean the lens; avoid haze and light from behind",
    "lighting": "turn to the light, so that both halves of the face get as much",
    "noise": "use more light, and save with less compression",
    "colour": "use white light and the camera's white balance, and no filter",
    "framing": "move to the middle, so that the whole head is in the picture",
    "tilt": "hold the head, or the camera, upright",
}
"""Plain advice for every attribute and every reason. As a reason, `exposure` is named `dark` or `bright`."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What was measured of one face: each 0–100, higher is better, none where it cannot be known.

    `overexposed` says at which end `exposure` is lost: too bright, or else too dark.
    """

    resolution: float | None = None
    sharpness: float | None = None
    exposure: float | None = None
    contrast: float | None = None
    lighting: float | None = None
    noise: float | None = None
    colour: float | None = None
    framing: float | None = None
    tilt: float | None = None
    overexposed: bool = False


def measure(image: Image, face: Face | None = None, *, crop_scale: float = CROP_SCALE) -> Attributes:
    """The attributes of `face` in an RGB uint8 (H, W, 3) picture, to one decimal.

    Without a face the picture is the crop already: the face is taken to lie in its middle, 1 / crop_scale of
    its shorter side wide, and `framing` and `tilt` are not known. Raises InvalidArgument for an array that is
    no picture, or a box that is not finite.
    """
    height, width = image.shape[:2]
    side = min(width, height) / crop_scale
    box = Box((width - side) / 2, (height - side) / 2, side, side) if face is None else face.box
    square = crop(image, face_crop(box, width, height, scale=1.0))
    part = resize(square, SIDE)
    plane = luma(part).astype(np.float32)
    edges = coarse_gradient(plane)
    dark, bright = darkness(plane), brightness(part)
    values = {
        "resolution": resolution(max(box.width, box.height)),
        "sharpness": sharpness(plane, edges),
        "exposure": min(dark, bright),
        "contrast": contrast(plane),
        "lighting": lighting(plane),
        "noise": min(grain(plane, edges), blocks(square)),
        "colour": colour(part),
        "framing": None if face is None else framing(box, width, height),
        "tilt": None if face is None else tilt(face),
    }
    known = {name: round(value, 1) for name, value in values.items() if value is not None}
    return Attributes(**known, overexposed=bright < dark)


def reasons(attributes: Attributes, limit: float = 50) -> list[str]:
    """Names of the attributes below `limit`, worst first; `exposure` is named `dark` or `bright`.

    What is not known is no reason. Equals keep the order of the columns.
    """
    found = [(value, name) for name in ATTRIBUTES if (value := getattr(attributes, name)) is not None]
    low = sorted((pair for pair in found if pair[0] < limit), key=lambda pair: pair[0])
    end = "bright" if attributes.overexposed else "dark"
    return [end if name == "exposure" else name for _, name in low]


def resolution(pixels: float) -> float:
    """100 · ln(pixels / 25) / ln(225 / 25) for the longer side of the face box: even in ratio.

    A box is about 2.5 times as wide as the eyes lie apart, so 100 is reached at the 90 pixels between the
    eyes that ISO/IEC 19794-5 asks of a full frontal picture, 50 at 30 pixels, 0 at 10. Pixels are counted,
    whether they show anything or not: what was scaled up lacks sharpness instead.
    """
    return _scaled(math.log(max(pixels, 1)), math.log(25), math.log(225))


def sharpness(plane: Plane, edges: Plane) -> float | None:
    """How narrow edges are: log₂ of fine over coarse gradient energy, over its most, log₂(COARSE / FINE).

    An energy is the mean squared gradient magnitude, by Gaussians of σ FINE and COARSE, over the fifth of the
    pixels with the strongest coarse gradients, less that over the two fifths with the weakest, which holds
    what noise adds. Edges of blur b have √((COARSE² + b²) / (FINE² + b²)), whatever their height: 100 is no
    blur, 50 is b = √(FINE · COARSE), 1.1 % of the face. None without edges. Source: the ratio of gradients of
    Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44, 2011, as energies.
    """
    weakest, strongest = _quantiles(edges, 0.4, 0.8)
    strong, weak = edges >= strongest, edges <= weakest
    coarse = float(edges[strong].mean() - edges[weak].mean())
    if coarse < NO_EDGES:
        return None
    gradient = _halved(_gradient(plane, FINE))
    fine = float(gradient[strong].mean() - gradient[weak].mean())
    return _scaled(math.log(max(fine, 1e-9) / coarse), 0, math.log(COARSE / FINE))


def darkness(plane: Plane) -> float:
    """0 to 100 as the 95th percentile of luma goes from 30 to 120.

    In the right light the brightest twentieth of a face is bright in dark skin too; the mean is not.
    """
    return _scaled(_quantiles(plane, 0.95)[0], 30, 120)


def brightness(part: Image) -> float:
    """100 to 0 as the share of pixels with a channel at 250 or more goes from 5 % to 60 %."""
    full = part >= 250
    return _scaled(float((full[..., 0] | full[..., 1] | full[..., 2]).mean()), 0.60, 0.05)


def contrast(plane: Plane) -> float:
    """0 to 100 as the standard deviation of luma over its mean goes from 0.04 to 0.20.

    Over the mean, because eyes judge differences so, and a dark picture is not a hazy one. Source: RMS
    contrast over the mean; Peli, "Contrast in complex images", J. Opt. Soc. Am. A 7, 1990.
    """
    return _scaled(float(plane.std()) / max(float(plane.mean()), 1e-9), 0.04, 0.20)


def lighting(plane: Plane) -> float | None:
    """100 to 0 as |L − R| / (L + R), mean luma of the face's halves, goes from 0.05 to 0.30.

    An eighth of the square is left out at each border. 50 is about twice as much light on one side. A head
    that is turned shows hair on one side and looks unevenly lit. None where all is black.
    """
    inner = plane[SIDE // 8 : -SIDE // 8, SIDE // 8 : -SIDE // 8]
    left, right = (float(half.mean()) for half in np.hsplit(inner, 2))
    return _scaled(abs(left - right) / (left + right), 0.30, 0.05) if left + right > 0 else None


def grain(plane: Plane, edges: Plane) -> float:
    """100 to 0 as the noise's σ goes from 1 to 16 grey levels at SIDE pixels, even in ratio.

    σ = √(π/2) / 6 · mean |luma * N|, N = 1 −2 1 / −2 4 −2 / 1 −2 1, over the half of the pixels with the
    weakest coarse gradient. Source: Immerkær, "Fast noise variance estimation", CVIU 64, 1996, without edges
    as Tai & Yang, ISCAS 2008, have it.
    """
    wide = np.pad(plane, 1, "reflect")
    second = wide[:-2] - 2 * wide[1:-1] + wide[2:]
    response = _halved(np.abs(second[:, :-2] - 2 * second[:, 1:-1] + second[:, 2:]))
    sigma = math.sqrt(math.pi / 2) / 6 * float(response[edges <= _quantiles(edges, 0.5)[0]].mean())
    return _scaled(math.log(max(sigma, 0.1)), math.log(16), 0)


def blocks(square: Image) -> float:
    """100 to 0 as the step at block borders, of JPEG's and WebP's grids, goes from 1 to 8 grey levels.

    The step is how much larger a difference between neighbours is than those beside it: its median over the
    columns 8 apart, for each of the eight places that a grid can have. What the strongest place has and what
    the place 4 pixels on has, where WebP has a border too, are added, and columns and rows averaged. It is
    looked for in the central SIDE pixels at most, not resized, since no grid survives that. Source: in the
    manner of Wang, Sheikh & Bovik, "No-reference perceptual quality assessment of JPEG compressed images",
    ICIP 2002.
    """
    side = square.shape[0]
    if not BLOCK_SIDES[0] <= side <= BLOCK_SIDES[1]:
        return 100.0
    start, end = max(0, (side - SIDE) // 2), min(side, (side + SIDE) // 2)
    central = np.ascontiguousarray(square[start:end, start:end])
    plane = np.asarray(PIL.Image.fromarray(central).convert("L")).astype(np.float32)
    return _scaled((_grid_step(plane) + _grid_step(plane.T)) / 2, 8, 1)


def _grid_step(plane: Plane) -> float:
    across = np.abs(np.diff(plane, axis=1)).mean(axis=0)
    steps = across[1:-1] - (across[:-2] + across[2:]) / 2
    # Column k holds every eighth step from k on, rising; the last row may be of fewer, and infinity fills it.
    rising = np.sort(np.pad(steps, (0, -steps.size % 8), constant_values=np.inf).reshape(-1, 8), axis=0)
    count = (steps.size + 7 - np.arange(8)) // 8
    middle = (rising[(count - 1) // 2, np.arange(8)] + rising[count // 2, np.arange(8)]) / 2
    places: list[float] = middle.tolist()
    best = int(np.argmax(places))
    return places[best] + max(0.0, places[(best + 4) % 8])


def colour(part: Image) -> float | None:
    """How near the face's mean colour is to that of skin in white light; none in black and white.

    CIELAB a* and b* of the mean linear light of the middle of the face, brought to a luminance of 0.3, so
    that neither exposure nor the depth of skin counts. D is their distance from the ranges 5 to 25 and 5 to
    35, and colour 200 · (1 − 1 / (1 + exp(−D / 10))). Source: natural colour of ISO/IEC 29794-5, there
    without the luminance.
    """
    margin = SIDE // 4
    middle = part[margin::2, margin:-margin:2].reshape(-1, 3)
    if np.ptp(middle.mean(axis=0)) < GREY:
        return None
    light = _LIGHT[middle].mean(axis=0)
    xyz = _XYZ @ (light * (0.3 / (_XYZ[1] @ light)))
    x, y, z = np.cbrt(xyz / _XYZ.sum(axis=1))
    red, yellow = 500 * (x - y), 200 * (y - z)
    distance = math.hypot(max(5 - red, red - 25, 0), max(5 - yellow, yellow - 35, 0))
    return 200 * (1 - 1 / (1 + math.exp(-distance / 10)))


# IEC 61966-2-1: linear light in 0–1 of each level, and from it to CIE XYZ; row sums are the white point.
_LEVELS = np.arange(256) / 255
_LIGHT = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def framing(box: Box, width: int, height: int) -> float:
    """100 to 0 as the part of the head outside the picture, at the worst side, goes from 0 to 0.3 boxes.

    The head is the box with a quarter of its longer side more above and a twentieth below. Left and right, 50
    is near the 0.9 eye distances from the eyes' middle to the border that ISO/IEC 29794-5 gives 50 too.
    """
    side = max(box.width, box.height, 1.0)
    right, bottom = box.x + box.width - width, box.y + box.height - height
    outside = max(-box.x, right, side / 4 - box.y, side / 20 + bottom, 0) / side
    return _scaled(outside, 0.3, 0)


def tilt(face: Face) -> float | None:
    """100 to 0 as the line between the eyes is tilted by 8, which ISO/IEC 19794-5 allows, to 38 degrees.

    None without landmarks, and in profile.
    """
    if len(face.landmarks) < 2:
        return None
    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
    if PROFILE * math.hypot(right_x - left_x, right_y - left_y) < max(face.box.width, face.box.height):
        return None
    return _scaled(abs(math.degrees(math.atan2(right_y - left_y, right_x - left_x))), 38, 8)


def _scaled(value: float, worst: float, best: float) -> float:
    """0 at `worst` and beyond, 100 at `best` and beyond, even between."""
    return 100 * min(max((value - worst) / (best - worst), 0.0), 1.0)


def _quantiles(values: Plane, *shares: float) -> list[float]:
    """What numpy.quantile gives, in a third of the time."""
    places = [share * (values.size - 1) for share in shares]
    lower = [math.floor(place) for place in places]
    sorted_there = np.partition(values, [*lower, *(min(place + 1, values.size - 1) for place in lower)], None)
    return [
        float(
            sorted_there[at] + (sorted_there[min(at + 1, values.size - 1)] - sorted_there[at]) * (place - at)
        )
        for at, place in zip(lower, places, strict=True)
    ]


def coarse_gradient(plane: Plane) -> Plane:
    """Squared Gaussian gradient of σ COARSE, of the halved picture, whose 2 × 2 boxes have σ² = 1/4 of it."""
    return _gradient(_halved(plane), math.sqrt((COARSE**2 - 0.25) / 4)) * np.float32(0.25)


def _halved(plane: Plane) -> Plane:
    """Means of 2 × 2 pixels, (H / 2, W / 2)."""
    rows = plane[::2] + plane[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)


def _gradient(plane: Plane, sigma: float) -> Plane:
    """Squared magnitude of the gradient of a Gaussian, by its derivative's kernels; borders are mirrored."""
    reach = math.ceil(3 * sigma)
    places = np.arange(-reach, reach + 1)
    smooth = np.exp(-(places**2) / (2 * sigma**2))
    smooth /= smooth.sum()
    slope = places * smooth / sigma**2
    slope /= (slope * places).sum()  # the slope of a ramp is exactly its own
    wide = np.pad(plane, reach, "symmetric")
    down, across = _along(wide, smooth), _along(wide, slope)
    return _along(down.T, slope).T ** 2 + _along(across.T, smooth).T ** 2


def _along(plane: Plane, kernel: NDArray[np.float64]) -> Plane:
    """Correlation of each column with the kernel, where that lies inside whole."""
    length = plane.shape[0] - kernel.size + 1
    first, *weights = kernel.astype(np.float32)
    total = first * plane[:length]
    part = np.empty_like(total)
    for at, weight in enumerate(weights, 1):
        np.multiply(plane[at : at + length], weight, out=part)
        total += part
    return np.asarray(total)
