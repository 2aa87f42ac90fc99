"""Every degradation is repeatable, keeps the picture's size, and gets worse with severity."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from efiqa.degrade import KINDS, degrade
from efiqa.errors import InvalidArgument
from efiqa.image import Image

SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)
SEEDED = ("motion", "noise", "dark")

Measure = Callable[[Image, Image], float]


def photo(seed: int, height: int = 128, width: int = 128) -> Image:
    """Detail on every scale, as in photos: random grids of 2 to 64 cells a side, the finer the fainter."""
    generator = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0)
    for cells in (2, 4, 8, 16, 32, 64):
        grid = generator.uniform(-1, 1, (cells, cells, 3)) * 60 / cells**0.4
        total += grid[np.arange(height) * cells // height][:, np.arange(width) * cells // width]
    return np.clip(total, 0, 255).astype(np.uint8)


def laplacian_variance(image: Image, _original: Image) -> float:
    """Sharpness: variance of the four-neighbour Laplacian of grey, away from the border."""
    grey = image.astype(np.float64).mean(2)[12:-12, 12:-12]
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def high_frequency_energy(image: Image, _original: Image) -> float:
    """Energy above half the highest frequency of grey."""
    grey = image.astype(np.float64).mean(2)
    power = np.abs(np.fft.fft2(grey)) ** 2
    vertical, horizontal = (np.abs(np.fft.fftfreq(length)) for length in grey.shape)
    return float(power[np.maximum.outer(vertical, horizontal) > 0.25].sum())


def squared_error(image: Image, original: Image) -> float:
    return float(np.mean((image.astype(np.float64) - original) ** 2))


def brightness(image: Image, _original: Image) -> float:
    return float(image.mean())


MEASURES: dict[str, tuple[Measure, int]] = {
    "blur": (laplacian_variance, -1),
    "motion": (laplacian_variance, -1),
    "downscale": (laplacian_variance, -1),
    "jpeg": (squared_error, +1),
    "noise": (high_frequency_energy, +1),
    "dark": (brightness, -1),
}


def test_every_kind_is_measured() -> None:
    assert set(MEASURES) == set(KINDS)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_each_step_is_worse_than_the_one_before(kind: str, seed: int) -> None:
    measure, direction = MEASURES[kind]
    original = photo(seed)
    ladder = [original, *(degrade(original, kind, severity, seed) for severity in SEVERITIES)]
    values = [direction * measure(image, original) for image in ladder]
    assert all(milder < worse for milder, worse in pairwise(values)), values


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_against_the_original_grows_with_severity(kind: str) -> None:
    original = photo(9)
    errors = [squared_error(degrade(original, kind, severity, 3), original) for severity in SEVERITIES]
    assert all(milder < worse for milder, worse in pairwise(errors)), errors


@pytest.mark.parametrize("kind", KINDS)
def test_severity_0_changes_nothing(kind: str) -> None:
    assert np.array_equal(degrade(photo(1), kind, 0.0), photo(1))


@pytest.mark.parametrize("kind", KINDS)
def test_severity_near_0_is_mild(kind: str) -> None:
    original = photo(2)
    if kind == "dark":  # the mildest is a third of a stop, by which every pixel changes
        assert brightness(degrade(original, kind, 0.01), original) > 0.8 * original.mean()
    else:
        # 100 grey levels squared: below the grain of a phone's photo at dusk
        assert squared_error(degrade(original, kind, 0.01), original) < 100


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes(kind: str) -> None:
    assert np.array_equal(degrade(photo(3), kind, 0.7, 11), degrade(photo(3), kind, 0.7, 11))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_matters_only_where_chance_does(kind: str) -> None:
    same = np.array_equal(degrade(photo(3), kind, 0.7, 11), degrade(photo(3), kind, 0.7, 12))
    assert same == (kind not in SEEDED)


@pytest.mark.parametrize("severity", [0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 37), (37, 1), (3, 500), (500, 3), (31, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_size_and_dtype_are_kept_whatever_the_size(kind: str, size: tuple[int, int], severity: float) -> None:
    made = degrade(photo(4, *size), kind, severity, 1)
    assert (made.shape, made.dtype) == ((*size, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_is_left_as_it_was(kind: str) -> None:
    original = photo(5)
    original.setflags(write=False)  # as decoded pictures are
    degrade(original, kind, 1.0, 1)
    assert np.array_equal(original, photo(5))


@pytest.mark.parametrize("kind", ["blur", "motion", "downscale"])
def test_what_takes_detail_leaves_a_flat_picture_alone(kind: str) -> None:
    flat = np.full((96, 96, 3), 120, np.uint8)
    inside = degrade(flat, kind, 1.0, 1)[12:-12, 12:-12]
    assert np.abs(inside.astype(int) - 120).max() <= 2


@pytest.mark.parametrize("kind", ["noise", "dark"])
def test_channels_are_degraded_alike(kind: str) -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    means = degrade(grey, kind, 0.5, 1).reshape(-1, 3).mean(0)
    assert np.ptp(means) < 2


def test_an_unknown_kind_is_an_error_that_names_the_known() -> None:
    with pytest.raises(InvalidArgument, match="'blurr'") as caught:
        degrade(photo(6), "blurr", 0.5)
    assert "blur, motion" in str(caught.value.hint)


@pytest.mark.parametrize("severity", [-0.01, 1.5, math.nan, math.inf])
def test_a_severity_outside_0_to_1_is_an_error(severity: float) -> None:
    with pytest.raises(InvalidArgument, match="severity"):
        degrade(photo(7), "blur", severity)
