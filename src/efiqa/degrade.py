"""Degradations of known kind and severity: a face gets worse in a known order.

Used to teach that quality falls with severity, to make pseudo-labelled copies, and to test a scorer.
Every degradation keeps the size of the picture and is a pure function of (image, severity, seed).
Severity 0 is the picture itself, 1 is ruin; steps between are even in ratio, not in difference,
because eyes judge blur, noise and resolution by ratios.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFilter

from efiqa.errors import InvalidArgument
from efiqa.image import Image


def _between(severity: float, mildest: float, worst: float) -> float:
    """Geometric interpolation: `mildest` as severity → 0, `worst` at 1."""
    return float(mildest * (worst / mildest) ** severity)


def blur(image: Image, severity: float, seed: int = 0) -> Image:
    """Gaussian blur, σ from 0.15 % to 3.5 % of the shorter side (0.4 to 9 px at 256)."""
    sigma = _between(severity, 0.0015, 0.035) * min(image.shape[:2])
    return np.asarray(PillowImage.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def motion(image: Image, severity: float, seed: int = 0) -> Image:
    """Straight motion blur, its direction drawn from the seed, 0.8 % to 12 % of the shorter side long."""
    length = _between(severity, 0.008, 0.12) * min(image.shape[:2])
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    steps = np.linspace(-0.5, 0.5, max(3, round(length) + 1)) * length
    # The picture goes on beyond its border as it ends there; black would teach that dark edges are bad.
    margin = math.ceil(length / 2) + 1
    wide = PillowImage.fromarray(np.pad(image, ((margin, margin), (margin, margin), (0, 0)), "edge"))
    height, width = image.shape[:2]
    total = np.zeros(image.shape, np.float32)
    for step in steps:
        shift = (1, 0, margin + step * np.cos(angle), 0, 1, margin + step * np.sin(angle))
        moved = wide.transform(
            (width, height), PillowImage.Transform.AFFINE, shift, PillowImage.Resampling.BILINEAR
        )
        total += np.asarray(moved)
    return np.rint(total / len(steps)).astype(np.uint8)


def defocus(image: Image, severity: float, seed: int = 0) -> Image:
    """Blur by a disc, as of a lens out of focus, radius from 0.4 % to 5 % of the shorter side."""
    radius = _between(severity, 0.004, 0.05) * min(image.shape[:2])
    reach = math.ceil(radius)
    across = np.arange(-reach, reach + 1)
    disc = np.clip(radius + 0.5 - np.hypot(across, across[:, np.newaxis]), 0, 1)
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge").astype(np.float32)
    shape = (wide.shape[0], wide.shape[1])
    spectrum = np.fft.rfft2(wide, axes=(0, 1)) * np.fft.rfft2(disc / disc.sum(), shape)[..., np.newaxis]
    whole = np.fft.irfft2(spectrum, shape, axes=(0, 1))[2 * reach :, 2 * reach :]
    return np.rint(np.clip(whole, 0, 255)).astype(np.uint8)


def downscale(image: Image, severity: float, seed: int = 0) -> Image:
    """Down by a factor from 1.15 to 16, then up again, both bicubic."""
    height, width = image.shape[:2]
    factor = _between(severity, 1.15, 16)
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    picture = PillowImage.fromarray(image)
    return np.asarray(
        picture.resize(small, PillowImage.Resampling.BICUBIC).resize(
            picture.size, PillowImage.Resampling.BICUBIC
        )
    )


def jpeg(image: Image, severity: float, seed: int = 0) -> Image:
    """JPEG (4:2:0) at quality 95 down to 5, even in difference: that scale is perceptual already."""
    return _saved(image, "JPEG", quality=round(95 - 90 * severity), subsampling=2)


def webp(image: Image, severity: float, seed: int = 0) -> Image:
    """Lossy WebP at quality 90 down to 0, even in difference."""
    return _saved(image, "WEBP", quality=round(90 * (1 - severity)), method=2)


def _saved(image: Image, kind: str, **options: int) -> Image:
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, kind, **options)
    return np.asarray(PillowImage.open(buffer).convert("RGB"))


def noise(image: Image, severity: float, seed: int = 0) -> Image:
    """Gaussian noise, independent per pixel and channel, σ from 2 to 80 grey levels."""
    sigma = _between(severity, 2, 80)
    grain = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    noisy: Image = np.rint(np.clip(image + sigma * grain, 0, 255)).astype(np.uint8)
    return noisy


def dark(image: Image, severity: float, seed: int = 0) -> Image:
    """Under-exposure: linear light divided by 1.3 to 40, with the sensor's grain rising as light falls."""
    factor = _between(severity, 1.3, 40)
    light = (image.astype(np.float32) / 255) ** 2.2 / factor
    grain = np.random.default_rng(seed).standard_normal(image.shape, dtype=np.float32)
    light += grain * 0.0004 * np.sqrt(factor)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def bright(image: Image, severity: float, seed: int = 0) -> Image:
    """Over-exposure: linear light times 1.2 to 16, clipped at white."""
    light = (image.astype(np.float32) / 255) ** 2.2 * _between(severity, 1.2, 16)
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def contrast(image: Image, severity: float, seed: int = 0) -> Image:
    """Contrast lost to haze: differences from the mean shrink to 85 % down to 8 %, towards light grey."""
    kept = _between(severity, 0.85, 0.08)
    veil = 170.0
    mean = image.astype(np.float32).mean()
    middle = kept * mean + (1 - kept) * veil
    faded: Image = np.rint(np.clip(middle + kept * (image - mean), 0, 255)).astype(np.uint8)
    return faded


def cast(image: Image, severity: float, seed: int = 0) -> Image:
    """Colour cast: one channel, drawn from the seed, kept, the others' linear light at 85 % down to 15 %."""
    kept = _between(severity, 0.85, 0.15)
    gain = np.full(3, kept, np.float32)
    gain[np.random.default_rng(seed).integers(3)] = 1
    light = (image.astype(np.float32) / 255) ** 2.2 * gain
    return np.rint(255 * light ** (1 / 2.2)).astype(np.uint8)


def occlusion(image: Image, severity: float, seed: int = 0) -> Image:
    """A flat grey rectangle over 2 % to 60 % of the picture, its place and tone drawn from the seed."""
    generator = np.random.default_rng(seed)
    height, width = image.shape[:2]
    share = math.sqrt(_between(severity, 0.02, 0.6))
    tall, broad = max(1, round(share * height)), max(1, round(share * width))
    top, left = (round(generator.random() * (a - b)) for a, b in ((height, tall), (width, broad)))
    covered = image.copy()
    covered[top : top + tall, left : left + broad] = generator.integers(20, 236)
    return covered


KINDS: dict[str, Callable[[Image, float, int], Image]] = {
    "blur": blur,
    "defocus": defocus,
    "motion": motion,
    "downscale": downscale,
    "jpeg": jpeg,
    "webp": webp,
    "noise": noise,
    "dark": dark,
    "bright": bright,
    "contrast": contrast,
    "cast": cast,
    "occlusion": occlusion,
}


def degrade(image: Image, kind: str, severity: float, seed: int = 0) -> Image:
    """`image` made worse: RGB uint8 (H, W, 3) in, the same shape out. `severity` in 0–1, 0 changes nothing.

    Raises InvalidArgument for an unknown kind or a severity outside 0–1.
    """
    if kind not in KINDS:
        raise InvalidArgument(f"unknown degradation {kind!r}", hint=f"known: {', '.join(KINDS)}")
    if not 0 <= severity <= 1:
        raise InvalidArgument(f"severity must be in 0–1, but got {severity}")
    return image if severity == 0 else KINDS[kind](image, severity, seed)
