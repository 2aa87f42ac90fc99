"""Baselines equal what the libraries that people measure them with give."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from efiqa.baselines import BASELINES, brightness, laplacian, luma, tenengrad
from efiqa.image import Image

SIZES = [(40, 60), (3, 3), (2, 5), (7, 2)]


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def flat(level: int) -> Image:
    return np.full((6, 5, 3), level, np.uint8)


def test_luma_weighs_red_green_and_blue_as_bt_601_does():
    image = np.array([[[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 200]]], np.uint8)
    assert luma(image) == pytest.approx(np.array([[59.8, 117.4, 22.8, 200.0]]))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_laplacian_is_that_of_scipy(height: int, width: int):
    image = noise(height, width)
    assert laplacian(image) == pytest.approx(scipy.ndimage.laplace(luma(image), mode="mirror").var())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_tenengrad_is_that_of_scipy(height: int, width: int):
    image = noise(height, width)
    down, across = (scipy.ndimage.sobel(luma(image), axis, mode="mirror") for axis in (0, 1))
    assert tenengrad(image) == pytest.approx((down**2 + across**2).mean())


def test_both_are_those_of_opencv():
    cv2 = pytest.importorskip("cv2")
    image = noise(30, 50)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert laplacian(image) == pytest.approx(cv2.Laplacian(grey, cv2.CV_64F).var(), rel=1e-2)
    gradients = [cv2.Sobel(luma(image), cv2.CV_64F, *order) for order in ((1, 0), (0, 1))]
    assert tenengrad(image) == pytest.approx(sum(gradient**2 for gradient in gradients).mean())
    assert laplacian(image) == pytest.approx(cv2.Laplacian(luma(image), cv2.CV_64F).var())


def test_one_white_pixel_is_worked_out_by_hand():
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 255
    # The response is −4 · 255 once and 255 four times, so its mean is 0 and its variance 20 · 255² / 25.
    assert laplacian(image) == pytest.approx(20 * 255**2 / 25)
    # Each gradient has four responses of 255 and two of 510: Σ = 2 · (4 + 2 · 4) · 255².
    assert tenengrad(image) == pytest.approx(24 * 255**2 / 25)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_flat_picture_has_no_detail_and_its_level_as_brightness(level: int):
    assert laplacian(flat(level)) == pytest.approx(0, abs=1e-20)
    assert tenengrad(flat(level)) == pytest.approx(0, abs=1e-20)
    assert brightness(flat(level)) == pytest.approx(level / 255)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_is_a_float_of_any_picture_and_leaves_it_alone(name: str):
    for height, width in [*SIZES, (1, 1), (1, 9)]:
        image = noise(height, width)
        before = image.copy()
        assert type(BASELINES[name](image)) is float
        assert np.isfinite(BASELINES[name](image))
        assert np.array_equal(image, before)
