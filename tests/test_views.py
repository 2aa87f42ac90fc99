"""Views keep every pixel a real one: they mirror, cut and turn, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from efiqa.image import Image
from efiqa.views import DEGREES, VIEWS, flip, native, rotate, scale, shift

SIZES = [(100, 100), (101, 100), (50, 200), (8, 8), (9, 31), (1, 1), (2, 300)]


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_flip_mirrors_left_and_right():
    image = noise(5, 7)
    (view,) = flip(image, 4)
    assert np.array_equal(view[:, 0], image[:, 6])
    assert np.array_equal(flip(view, 4)[0], image)


def test_shift_cuts_six_percent_off_at_each_corner():
    image = noise(100, 50)
    assert [view.shape for view in shift(image, 4)] == [(94, 47, 3)] * 4
    corners = [image[:94, :47], image[:94, 3:], image[6:, :47], image[6:, 3:]]
    for view, corner in zip(shift(image, 4), corners, strict=True):
        assert np.array_equal(view, corner)


def test_scale_cuts_five_percent_off_each_side():
    image = noise(100, 60)
    (view,) = scale(image, 4)
    assert np.array_equal(view, image[5:95, 3:57])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 31), (50, 200), (64, 48), (352, 352)])
def test_rotation_shows_no_border_and_keeps_the_shape(height: int, width: int):
    views = rotate(np.full((height, width, 3), 255, np.uint8), 4)
    assert len(views) == 2
    for view in views:
        assert view.min() == 255
        if min(height, width) > 40:
            assert view.shape[1] / view.shape[0] == pytest.approx(width / height, rel=0.04)
            assert view.shape[0] > 0.75 * height


def test_rotation_turns_about_the_centre_by_four_degrees_both_ways():
    y, x = np.mgrid[:120, :120]
    smooth = (127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 13)).astype(np.uint8)
    views = rotate(np.repeat(smooth[..., None], 3, 2), 4)
    for view, angle in zip(views, (DEGREES, -DEGREES), strict=True):
        expected = scipy.ndimage.rotate(smooth.astype(float), angle, reshape=False, order=1)
        margin = (120 - view.shape[0]) // 2
        inside = expected[margin : 120 - margin, margin : 120 - margin]
        assert np.abs(view[..., 0] - inside).max() < 2


def test_native_cuts_corners_and_centre_at_the_pictures_own_resolution():
    image = noise(60, 44)
    corners = [image[:40, :40], image[:40, 4:], image[20:, :40], image[20:, 4:], image[10:50, 2:42]]
    views = native(image, 40)
    assert len(views) == 5
    for view, corner in zip(views, corners, strict=True):
        assert np.array_equal(view, corner)


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(44, 44, 5), (43, 44, 0), (44, 43, 0), (40, 400, 0), (10, 10, 0), (400, 400, 5)],
)
def test_native_is_for_pictures_a_tenth_larger_than_the_input(height: int, width: int, count: int):
    assert len(native(noise(height, width), 40)) == count


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_view_is_a_contiguous_image_and_the_same_each_time(name: str, height: int, width: int):
    image = noise(height, width)
    image.flags.writeable = False
    before = image.copy()
    views = VIEWS[name](image, 20)
    for view, again in zip(views, VIEWS[name](image, 20), strict=True):
        assert view.dtype == np.uint8
        assert view.shape[2] == 3
        assert min(view.shape) > 0
        assert view.flags.c_contiguous
        assert np.array_equal(view, again)
    assert np.array_equal(image, before)
