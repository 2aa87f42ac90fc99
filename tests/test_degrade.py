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
SEEDED = ("motion", "noise", "dark", "cast", "occlusion")

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


def spread(image: Image, _original: Image) -> float:
    return float(image.astype(np.float64).std())


def colour_shift(image: Image, original: Image) -> float:
    """Distance between the channels' gains."""
    return float(np.ptp(image.reshape(-1, 3).mean(0) / original.reshape(-1, 3).mean(0)))


def changed_share(image: Image, original: Image) -> float:
    return float((image != original).any(axis=2).mean())


MEASURES: dict[str, tuple[Measure, int]] = {
    "blur": (laplacian_variance, -1),
    "defocus": (laplacian_variance, -1),
    "motion": (laplacian_variance, -1),
    "downscale": (laplacian_variance, -1),
    "jpeg": (squared_error, +1),
    "webp": (squared_error, +1),
    "noise": (high_frequency_energy, +1),
    "dark": (brightness, -1),
    "bright": (brightness, +1),
    "contrast": (spread, -1),
    "cast": (colour_shift, +1),
    "occlusion": (changed_share, +1),
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
    mild = degrade(original, kind, 0.01)
    if kind in ("dark", "bright"):  # the mildest is about a third of a stop, by which every pixel changes
        assert 0.8 < brightness(mild, original) / original.mean() < 1.2
    elif kind == "occlusion":  # what it hides it hides wholly, but that is little
        assert changed_share(mild, original) < 0.03
    else:
        # 100 grey levels squared: below the grain of a phone's photo at dusk. Haze takes a seventh of the
        # contrast at its mildest, and every pixel changes a little.
        assert squared_error(mild, original) < (150 if kind == "contrast" else 100)


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


@pytest.mark.parametrize("kind", ["blur", "defocus", "motion", "downscale"])
def test_what_takes_detail_leaves_a_flat_picture_alone(kind: str) -> None:
    flat = np.full((96, 96, 3), 120, np.uint8)
    inside = degrade(flat, kind, 1.0, 1)[12:-12, 12:-12]
    assert np.abs(inside.astype(int) - 120).max() <= 2


@pytest.mark.parametrize("kind", ["noise", "dark"])
def test_channels_are_degraded_alike(kind: str) -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    means = degrade(grey, kind, 0.5, 1).reshape(-1, 3).mean(0)
    assert np.ptp(means) < 2


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_defocus_spreads_a_point_over_a_disc_of_the_stated_radius(severity: float) -> None:
    side = 201
    points = np.zeros((side, side, 3), np.uint8)
    points[80:121, 80:121] = 255  # as bright as can be, so that rounding takes nothing away
    made = degrade(points, "defocus", severity).astype(np.float64)[:, :, 0] / 255
    radius = 0.004 * (0.05 / 0.004) ** severity * side
    # Every pixel is the share of its disc that the square covers: the sum of a square of 41 stays 41².
    assert made.sum() == pytest.approx(41**2, rel=2e-3)
    # On an edge half the disc is covered; at distance d the circle's segment beyond d.
    for distance in range(-math.floor(radius), math.floor(radius) + 1):
        ratio = distance / radius
        segment = (math.acos(ratio) - ratio * math.sqrt(1 - ratio**2)) / math.pi
        # The edge lies half a pixel before pixel 121.
        between = (made[100, 120 + distance] + made[100, 121 + distance]) / 2
        assert between == pytest.approx(segment, abs=0.04 if radius > 3 else 0.12)
    reach = math.ceil(radius)
    assert made[100, 121 + reach :].max() == 0
    assert np.array_equal(made, made[::-1])
    assert np.array_equal(made, made.T)


def test_defocus_goes_on_beyond_the_border_as_the_picture_ends_there() -> None:
    flat = np.full((64, 40, 3), 130, np.uint8)
    assert np.abs(degrade(flat, "defocus", 1.0).astype(int) - 130).max() <= 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("severity", [0.1, 1.0])
def test_a_cast_keeps_one_channel_and_dims_the_others_by_the_stated_share(seed: int, severity: float) -> None:
    original = photo(8)
    made = degrade(original, "cast", severity, seed)
    kept = [channel for channel in range(3) if np.array_equal(made[..., channel], original[..., channel])]
    assert len(kept) == 1
    share = 0.85 * (0.15 / 0.85) ** severity
    for channel in {0, 1, 2} - set(kept):
        light = (original[..., channel] / 255.0) ** 2.2 * share
        assert np.abs(made[..., channel] - 255 * light ** (1 / 2.2)).max() <= 0.51


def test_a_cast_takes_each_colour_in_turn() -> None:
    grey = np.full((8, 8, 3), 200, np.uint8)
    assert {int(degrade(grey, "cast", 0.5, seed)[0, 0].argmax()) for seed in range(12)} == {0, 1, 2}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("severity", [0.01, 0.4, 1.0])
def test_an_occlusion_covers_the_stated_share_with_one_flat_rectangle(seed: int, severity: float) -> None:
    original = photo(3, 150, 210)
    original[original == 128] = 127
    made = degrade(original, "occlusion", severity, seed)
    rows, columns = np.nonzero((made != original).any(axis=2))
    box = made[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert len(np.unique(box)) == 1
    assert box.shape[0] * box.shape[1] / (150 * 210) == pytest.approx(0.02 * 30**severity, rel=0.08)


def test_a_larger_occlusion_hides_all_that_a_smaller_one_hid() -> None:
    original = photo(6)
    for seed in range(5):
        hidden = [(degrade(original, "occlusion", s, seed) != original).any(axis=2) for s in SEVERITIES]
        for smaller, larger in pairwise(hidden):
            # A rounded border may move by one pixel.
            assert (smaller & ~larger).sum() <= smaller.shape[0]


def test_contrast_falls_to_the_stated_share() -> None:
    original = photo(7)
    made = degrade(original, "contrast", 1.0).astype(np.float64)
    assert made.std() == pytest.approx(0.08 * original.std(), rel=0.05)
    assert made.mean() == pytest.approx(0.08 * original.mean() + 0.92 * 170, abs=0.5)


def test_over_exposure_multiplies_light_and_clips_at_white() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis], 3, axis=2)
    made = degrade(ramp, "bright", 1.0)[:, 0, 0]
    # 16 times the light: a level times 16 ** (1 / 2.2) = 3.526, white from 255 / 3.526 = 72.3 on.
    assert made[10] == round(10 * 16 ** (1 / 2.2)) == 35
    assert made[72] < 255
    assert (made[73:] == 255).all()


def test_under_exposure_divides_light() -> None:
    grey = np.full((128, 128, 3), 200, np.uint8)
    factor = 1.3 * (40 / 1.3) ** 0.01
    made = degrade(grey, "dark", 0.01, 1)
    assert made.mean() == pytest.approx(200 / factor ** (1 / 2.2), abs=1)


def test_an_unknown_kind_is_an_error_that_names_the_known() -> None:
    with pytest.raises(InvalidArgument, match="'blurr'") as caught:
        degrade(photo(6), "blurr", 0.5)
    assert "blur, defocus, motion" in str(caught.value.hint)


@pytest.mark.parametrize("severity", [-0.01, 1.5, math.nan, math.inf])
def test_a_severity_outside_0_to_1_is_an_error(severity: float) -> None:
    with pytest.raises(InvalidArgument, match="severity"):
        degrade(photo(7), "blur", severity)
