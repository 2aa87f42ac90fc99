"""Claims about finding faces and cropping around them."""

from __future__ import annotations

import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
import pytest

from efiqa.errors import InvalidArgument, MissingExtra, ModelError
from efiqa.faces import (
    CROP_SCALE,
    BlazeFace,
    Box,
    Face,
    YuNet,
    anchor_centres,
    face_crop,
    load_detector,
    non_maximum_suppression,
)
from efiqa.image import Image

PORTRAIT = Path(__file__).parent.parent / "examples" / "samples" / "astronaut.jpg"  # NASA, public domain
EYES = ((203, 103), (247, 104))  # measured by hand in the 512 px portrait, picture's left first
MODEL = Path(onnxruntime.__file__).parent / "datasets" / "sigmoid.onnx"


@pytest.fixture(scope="module")
def detector() -> BlazeFace:
    return BlazeFace()


@pytest.fixture(scope="module")
def portrait() -> Image:
    with PIL.Image.open(PORTRAIT) as picture:
        return np.asarray(picture.convert("RGB"))


def iou(a: Box, b: Box) -> float:
    across = max(0.0, min(a.x + a.width, b.x + b.width) - max(a.x, b.x))
    down = max(0.0, min(a.y + a.height, b.y + b.height) - max(a.y, b.y))
    return across * down / (a.width * a.height + b.width * b.height - across * down)


@pytest.mark.parametrize(
    ("box", "size", "scale", "expected", "reason"),
    [
        (Box(40, 40, 20, 20), (100, 100), 2.0, (30, 30, 70, 70), "centred on the box"),
        (Box(40, 40, 10, 20), (100, 100), 2.0, (25, 30, 65, 70), "the longer side counts"),
        (Box(0, 0, 20, 20), (100, 100), 2.0, (0, 0, 40, 40), "shifted from the upper left border"),
        (Box(90, 85, 10, 10), (100, 100), 2.0, (80, 80, 100, 100), "shifted from the lower right border"),
        (Box(0, 0, 100, 100), (100, 60), 1.7, (20, 0, 80, 60), "never larger than the picture"),
        (Box(-30, 40, 40, 20), (100, 100), 1.0, (0, 30, 40, 70), "a box partly outside"),
        (Box(500, 500, 10, 10), (100, 100), 2.0, (80, 80, 100, 100), "a box wholly outside"),
        (Box(50, 50, 0, 0), (100, 100), 1.7, (50, 50, 51, 51), "an empty box gives one pixel"),
        (Box(0, 0, 1, 1), (1, 1), 1.7, (0, 0, 1, 1), "the smallest picture"),
        (Box(0, 2000, 3, 3), (3, 5000), 1.7, (0, 2000, 3, 2003), "a thin picture"),
    ],
)
def test_face_crop_is_the_square_of_the_rule(
    box: Box, size: tuple[int, int], scale: float, expected: tuple[int, int, int, int], reason: str
) -> None:
    assert face_crop(box, *size, scale=scale) == expected, reason


def test_face_crop_is_always_square_whole_and_inside() -> None:
    random = np.random.default_rng(0)
    for _ in range(2000):
        width, height = (int(side) for side in random.integers(1, 300, 2))
        x, y, w, h = (float(value) for value in random.uniform((-400, -400, 0, 0), (400, 400, 500, 500)))
        left, top, right, bottom = crop = face_crop(Box(x, y, w, h), width, height)
        assert all(type(value) is int for value in crop)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == bottom - top == max(1, min(round(CROP_SCALE * max(w, h)), width, height))


@pytest.mark.parametrize(
    ("box", "size", "scale"),
    [
        (Box(math.nan, 0, 1, 1), (10, 10), 1.7),
        (Box(0, 0, math.inf, 1), (10, 10), 1.7),
        (Box(0, 0, 1, 1), (0, 10), 1.7),
        (Box(0, 0, 1, 1), (10, 10), 0.0),
    ],
)
def test_face_crop_refuses_what_is_no_box_picture_or_scale(
    box: Box, size: tuple[int, int], scale: float
) -> None:
    with pytest.raises(InvalidArgument):
        face_crop(box, *size, scale=scale)


def test_there_are_896_anchors_in_the_order_of_the_network() -> None:
    anchors = anchor_centres()
    assert anchors.shape == (896, 2)
    assert anchors[[0, 1, 2, 32, 511, 512, 517, 518, 895]].tolist() == [
        [8, 8], [8, 8], [24, 8], [8, 24], [248, 248], [16, 16], [16, 16], [48, 16], [240, 240],
    ]  # fmt: skip


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [5, 0, 15, 10]], np.float32)
    scores = np.array([0.7, 0.9, 0.8, 0.6], np.float32)
    # Intersection over union with box 1: box 0 has 9/11, box 3 has 6/14, box 2 none.
    assert non_maximum_suppression(boxes, scores, iou=0.5).tolist() == [1, 2, 3]
    assert non_maximum_suppression(boxes, scores, iou=0.3).tolist() == [1, 2]


def test_suppression_keeps_the_earlier_of_equal_boxes_and_takes_none() -> None:
    twice = np.array([[0, 0, 10, 10]] * 2, np.float32)
    assert non_maximum_suppression(twice, np.full(2, 0.5, np.float32), iou=0.3).tolist() == [0]
    assert non_maximum_suppression(twice[:0], np.empty(0, np.float32), iou=0.3).tolist() == []


def test_suppression_ends_quickly_on_a_crowd_of_10000_faces() -> None:
    random = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(100), np.arange(100)), axis=-1).reshape(-1, 2) * 20.0
    corners = np.concatenate([grid, grid + 1]).astype(np.float32)  # each face twice, 1 px apart
    boxes = np.concatenate([corners, corners + 15], axis=1)
    scores = np.concatenate([random.uniform(0.8, 0.9, 10_000), random.uniform(0.6, 0.7, 10_000)])
    start = time.process_time()
    keep = non_maximum_suppression(boxes, scores.astype(np.float32), iou=0.3)
    assert time.process_time() - start < 5  # 0.2 s on a quiet core; quadratic steps take minutes
    assert sorted(keep.tolist()) == list(range(10_000))


def test_the_face_of_a_portrait_is_found_where_it_is(detector: BlazeFace, portrait: Image) -> None:
    (face,) = detector.detect(portrait)
    assert iou(face.box, Box(175, 70, 100, 110)) > 0.6
    assert 0.6 <= face.detection <= 1
    assert len(face.landmarks) == 6
    for found, expected in zip(face.landmarks[:2], EYES, strict=True):
        assert math.dist(found, expected) < 8


def test_a_small_face_in_a_large_picture_is_found(detector: BlazeFace, portrait: Image) -> None:
    canvas = np.full((2000, 2000, 3), 200, np.uint8)
    canvas[300:500, 1500:1700] = np.asarray(PIL.Image.fromarray(portrait).resize((200, 200)))
    (face,) = detector.detect(canvas)
    assert iou(face.box, Box(1500 + 175 / 2.56, 300 + 70 / 2.56, 100 / 2.56, 110 / 2.56)) > 0.4


def test_a_picture_that_stays_with_pillow_has_the_faces_of_its_array(
    detector: BlazeFace, portrait: Image
) -> None:
    for side in (512, 2050):
        picture = PIL.Image.fromarray(portrait).resize((side, side))
        assert detector.detect(picture) == detector.detect(np.asarray(picture)) != []


def test_a_large_picture_is_reduced_and_its_faces_are_in_its_own_pixels(
    detector: BlazeFace, portrait: Image
) -> None:
    (small,) = detector.detect(portrait)
    (large,) = detector.detect(np.asarray(PIL.Image.fromarray(portrait).resize((3072, 3072))))
    assert iou(large.box, small.box.scaled(6)) > 0.9
    for found, expected in zip(large.landmarks, small.landmarks, strict=True):
        assert math.dist(found, (6 * expected[0], 6 * expected[1])) < 24


def test_a_mirrored_picture_gives_the_mirrored_box(detector: BlazeFace, portrait: Image) -> None:
    (face,) = detector.detect(portrait)
    (mirrored,) = detector.detect(np.ascontiguousarray(portrait[:, ::-1]))
    box = face.box
    assert iou(mirrored.box, Box(512 - box.x - box.width, box.y, box.width, box.height)) > 0.8
    assert mirrored.landmarks[0][0] < mirrored.landmarks[1][0]  # still the picture's left eye first


def test_several_faces_come_largest_first(detector: BlazeFace, portrait: Image) -> None:
    canvas = np.full((512, 1024, 3), 200, np.uint8)
    canvas[:256, :256] = np.asarray(PIL.Image.fromarray(portrait).resize((256, 256)))
    canvas[:, 512:] = portrait
    large, small = detector.detect(canvas)
    assert large.box.x > 512 > 256 > small.box.x
    assert large.box.width > 1.5 * small.box.width


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_has_no_face(detector: BlazeFace, level: int) -> None:
    assert detector.detect(np.full((600, 800, 3), level, np.uint8)) == []


def test_noise_has_no_face(detector: BlazeFace) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    assert detector.detect(noise) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (5000, 3), (1, 255), (257, 1)])
def test_pictures_of_odd_shape_have_no_face_and_do_no_harm(
    detector: BlazeFace, shape: tuple[int, int]
) -> None:
    assert detector.detect(np.full((*shape, 3), 90, np.uint8)) == []


def test_threads_share_a_detector_and_find_the_same(detector: BlazeFace, portrait: Image) -> None:
    pictures = [portrait, np.ascontiguousarray(portrait[:, ::-1]), portrait[:300], portrait[20:, 50:]] * 4
    expected = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found: list[list[Face]] = list(pool.map(detector.detect, pictures))
    assert found == expected  # to the last bit


def test_blazeface_is_what_is_loaded_by_default() -> None:
    assert load_detector().name == "blazeface"
    assert load_detector("blazeface").name == "blazeface"


def test_a_detector_that_is_neither_known_nor_a_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="YuNet needs opencv-python-headless")
    for name in ("retinaface", str(tmp_path / "missing.onnx")):
        with pytest.raises(ModelError) as caught:
            load_detector(name)
        assert "blazeface" in (caught.value.hint or "")


def test_a_file_that_is_no_yunet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="YuNet needs opencv-python-headless")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"this is text")
    for path in (junk, MODEL):
        with pytest.raises(ModelError, match=path.name):
            YuNet(path)


def test_yunet_without_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtra) as caught:
        YuNet(tmp_path / "yunet.onnx")
    assert caught.value.hint == 'pip install "efiqa[yunet]"'


def test_yunet_finds_the_same_face(portrait: Image) -> None:
    pytest.importorskip("cv2", reason="YuNet needs opencv-python-headless")
    path = Path(__file__).parents[2] / "shared" / "weights" / "yunet_n_dynamic.onnx"
    if not path.is_file():
        pytest.skip("YuNet's weights are not beside the project")
    (face,) = load_detector(str(path)).detect(portrait)
    assert iou(face.box, Box(175, 70, 100, 110)) > 0.6
    for found, expected in zip(face.landmarks[:2], EYES, strict=True):
        assert math.dist(found, expected) < 8
