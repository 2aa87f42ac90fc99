"""Attributes of pictures whose light, edges and noise are made, and so known."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import scipy.stats

from efiqa import attributes as measures
from efiqa.attributes import ADVICE, SIDE, Attributes, measure, reasons
from efiqa.degrade import degrade
from efiqa.errors import InvalidArgument
from efiqa.faces import Box, Face, load_detector
from efiqa.image import Image, load_image
from efiqa.records import ATTRIBUTES
from efiqa.scorer import Scorer

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "examples" / "samples"
PORTRAITS = ("astronaut.jpg", "grace_hopper.jpg")
UTK = ROOT.parent / "shared" / "data"


def plane(left: float, right: float | None = None) -> measures.Plane:
    """One level, or two halves."""
    values = np.full((SIDE, SIDE), left, np.float32)
    values[:, SIDE // 2 :] = left if right is None else right
    return values


def edge(blur: float, height: float = 100) -> measures.Plane:
    """A slanted edge in the middle, blurred by a Gaussian of σ `blur` pixels."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = x * math.cos(0.2) + y * math.sin(0.2)
    return (60 + height * scipy.stats.norm.cdf(distance / blur)).astype(np.float32)


def sharp(values: measures.Plane) -> float | None:
    return measures.sharpness(values, measures.coarse_gradient(values))


def noise_of(values: measures.Plane) -> float:
    return measures.grain(values, measures.coarse_gradient(values))


def grain(sigma: float) -> measures.Plane:
    return np.random.default_rng(0).normal(0, sigma, (SIDE, SIDE)).astype(np.float32)


def picture(values: measures.Plane) -> Image:
    return np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., np.newaxis], 3, 2)


def face(*box: float, marks: tuple[tuple[float, float], ...] = ()) -> Face:
    return Face(Box(*box), 0.9, marks)


# Names


def test_the_columns_of_predictions_and_the_attributes_have_the_same_names():
    assert tuple(field.name for field in fields(Attributes)) == (*ATTRIBUTES, "overexposed")


def test_there_is_advice_for_every_attribute_and_every_reason():
    assert set(ADVICE) == {*ATTRIBUTES, "dark", "bright"}


def test_reasons_are_what_is_below_the_limit_worst_first():
    found = Attributes(resolution=49.9, sharpness=10, contrast=50, noise=30, tilt=None)
    assert reasons(found) == ["sharpness", "noise", "resolution"]
    assert reasons(found, 30) == ["sharpness"]
    assert reasons(found, 0) == reasons(Attributes()) == []


def test_exposure_is_named_by_the_end_it_is_lost_at_and_equals_keep_their_order():
    assert reasons(Attributes(exposure=20)) == ["dark"]
    assert reasons(Attributes(exposure=20, overexposed=True)) == ["bright"]
    assert reasons(Attributes(tilt=5, exposure=5, sharpness=5)) == ["sharpness", "dark", "tilt"]


# Formulas


@pytest.mark.parametrize(("pixels", "value"), [(0, 0), (10, 0), (25, 0), (75, 50), (225, 100), (4000, 100)])
def test_resolution_is_even_in_ratio_between_25_and_225_pixels(pixels: float, value: float):
    assert measures.resolution(pixels) == pytest.approx(value)


@pytest.mark.parametrize("sigma", [0.8, 2.5])
def test_gradients_are_those_of_scipy(sigma: float):
    values = edge(1.0) + grain(3)
    ours = measures._gradient(values, sigma)
    theirs = sum(scipy.ndimage.gaussian_filter(values, sigma, order=order) ** 2 for order in ((0, 1), (1, 0)))
    # Where the kernel of scipy reaches further than ours, and is not scaled to the slope of a ramp.
    assert ours == pytest.approx(theirs, rel=0.06, abs=0.02 * float(theirs.max()))


@pytest.mark.parametrize("height", [10, 100])
@pytest.mark.parametrize("blur", [0.5, 1.0, math.sqrt(2), 2.0, 4.0])
def test_sharpness_is_that_of_an_edge_of_known_blur(blur: float, height: float):
    ratio = (2.5**2 + blur**2) / (0.8**2 + blur**2)
    expected = 100 * math.log(ratio) / 2 / math.log(2.5 / 0.8)
    assert sharp(edge(blur, height)) == pytest.approx(expected, abs=4)


def test_half_the_sharpness_is_a_blur_of_one_point_one_percent_of_the_face():
    assert sharp(edge(math.sqrt(2.5 * 0.8))) == pytest.approx(50, abs=3)
    assert math.sqrt(2.5 * 0.8) / SIDE == pytest.approx(0.011, abs=0.0005)


@pytest.mark.parametrize("blur", [0.5, 1.5, 4.0])
def test_noise_hardly_moves_sharpness(blur: float):
    assert sharp(edge(blur) + grain(5)) == pytest.approx(sharp(edge(blur)), abs=6)


def test_what_has_no_edges_has_no_sharpness():
    assert sharp(plane(99)) is None
    assert sharp(plane(99, 99.3)) is None


@pytest.mark.parametrize(
    ("sigma", "value"), [(0.0, 100), (1, 100), (2, 75), (4, 50), (8, 25), (16, 0), (40, 0)]
)
def test_noise_is_measured_beside_edges(sigma: float, value: float):
    assert noise_of(plane(100) + grain(sigma)) == pytest.approx(value, abs=2)
    assert noise_of(edge(1.0) + grain(sigma)) == pytest.approx(value, abs=2)


@pytest.mark.parametrize(("level", "value"), [(0, 0), (30, 0), (75, 50), (120, 100), (255, 100)])
def test_darkness_is_about_the_brightest_twentieth(level: float, value: float):
    assert measures.darkness(plane(level)) == pytest.approx(value)
    mostly_black = plane(0)
    mostly_black[: SIDE // 8] = level
    assert measures.darkness(mostly_black) == pytest.approx(value)


@pytest.mark.parametrize(("share", "value"), [(0, 100), (0.05, 100), (0.325, 50), (0.6, 0), (1, 0)])
def test_brightness_is_the_share_of_pixels_with_a_full_channel(share: float, value: float):
    part = np.full((SIDE, SIDE, 3), 120, np.uint8)
    part[: round(share * SIDE), :, 0] = 250
    assert measures.brightness(part) == pytest.approx(value, abs=1.5)


@pytest.mark.parametrize(
    ("levels", "value"), [((100, 100), 0), ((96, 104), 0), ((88, 112), 50), ((80, 120), 100), ((0, 0), 0)]
)
def test_contrast_is_the_deviation_over_the_mean(levels: tuple[float, float], value: float):
    assert measures.contrast(plane(*levels)) == pytest.approx(value, abs=1e-3)
    assert measures.contrast(plane(*levels) / 2) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize(
    ("levels", "value"),
    [((100, 100), 100), ((105, 95), 100), ((117.5, 82.5), 50), ((65, 35), 0), ((9, 0), 0)],
)
def test_lighting_is_the_difference_of_the_halves_over_their_sum(levels: tuple[float, float], value: float):
    assert measures.lighting(plane(*levels)) == pytest.approx(value, abs=1e-3)
    assert measures.lighting(plane(*levels[::-1])) == pytest.approx(value, abs=1e-3)


def chequered(step: int, block: int, offset: tuple[int, int], side: int = 96) -> Image:
    y, x = np.mgrid[:side, :side]
    odd = ((y + offset[0]) // block + (x + offset[1]) // block) % 2
    return picture((100 + step * odd).astype(np.float32))


@pytest.mark.parametrize("offset", [(0, 0), (3, 5), (7, 1)])
@pytest.mark.parametrize(("step", "value"), [(0, 100), (1, 100), (3, 500 / 7), (6, 200 / 7), (8, 0), (60, 0)])
def test_blocks_of_8_pixels_are_found_wherever_the_grid_begins(
    step: int, value: float, offset: tuple[int, int]
):
    assert measures.blocks(chequered(step, 8, offset)) == pytest.approx(value)
    assert measures.blocks(chequered(step, 8, offset, 301)) == pytest.approx(value)


def test_blocks_of_4_pixels_count_both_borders_and_larger_ones_none():
    assert measures.blocks(chequered(3, 4, (1, 2))) == pytest.approx(200 / 7)
    assert measures.blocks(chequered(60, 48, (0, 0))) == 100


@pytest.mark.parametrize(("side", "value"), [(31, 100), (32, 0), (512, 0), (513, 100)])
def test_blocks_are_looked_for_where_they_can_be_seen(side: int, value: float):
    assert measures.blocks(chequered(60, 8, (0, 0), side)) == pytest.approx(value)


def coloured(*levels: int) -> Image:
    return np.full((SIDE, SIDE, 3), levels, np.uint8)


@pytest.mark.parametrize(
    "tone",
    ["f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420"],
)
def test_no_tone_of_the_monk_scale_of_skin_has_a_cast(tone: str):
    assert measures.colour(coloured(*bytes.fromhex(tone))) > 75


@pytest.mark.parametrize("levels", [(60, 90, 200), (60, 200, 60), (200, 40, 30), (150, 60, 150)])
def test_what_skin_never_is_has_a_cast(levels: tuple[int, int, int]):
    assert measures.colour(coloured(*levels)) < 40


@pytest.mark.parametrize("level", [0, 90, 255])
def test_black_and_white_has_no_colour_to_know(level: int):
    assert measures.colour(coloured(level, level, level)) is None


@pytest.mark.parametrize("levels", [(200, 120, 90), (90, 110, 160), (180, 175, 160)])
def test_colour_is_that_of_opencvs_lab(levels: tuple[int, int, int]):
    cv2 = pytest.importorskip("cv2")
    values = np.array(levels) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light *= 0.3 / (light @ [0.2126, 0.7152, 0.0722])
    _, red, yellow = cv2.cvtColor(light.astype(np.float32)[np.newaxis, np.newaxis], cv2.COLOR_LRGB2LAB)[0, 0]
    distance = math.hypot(max(5 - red, red - 25, 0), max(5 - yellow, yellow - 35, 0))
    expected = 200 / (1 + math.exp(distance / 10))
    assert measures.colour(coloured(*levels)) == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    ("box", "value", "reason"),
    [
        ((100, 100, 100, 100), 100, "far inside"),
        ((0, 25, 100, 100), 100, "the box may touch the left border"),
        ((-15, 100, 100, 100), 50, "left"),
        ((315, 100, 100, 100), 50, "right"),
        ((100, 10, 100, 100), 50, "a head reaches above its box"),
        ((100, 310, 100, 100), 50, "below"),
        ((100, 310, 50, 100), 50, "measured by the longer side"),
        ((-15, 0, 100, 100), 100 / 6, "the worst side counts"),
        ((-60, 100, 100, 100), 0, "outside"),
    ],
)
def test_framing_is_what_lies_outside_at_the_worst_side(
    box: tuple[float, float, float, float], value: float, reason: str
):
    assert measures.framing(Box(*box), 400, 400) == pytest.approx(value), reason


@pytest.mark.parametrize(("degrees", "value"), [(0, 100), (8, 100), (23, 50), (38, 0), (90, 0), (180, 0)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_tilt_is_the_angle_of_the_eyes(degrees: float, value: float, sign: int):
    angle = math.radians(sign * degrees)
    eyes = ((50.0, 50.0), (50 + 40 * math.cos(angle), 50 + 40 * math.sin(angle)))
    assert measures.tilt(face(0, 0, 100, 100, marks=eyes)) == pytest.approx(value, abs=1e-6)


def test_without_eyes_or_in_profile_there_is_no_tilt():
    assert measures.tilt(face(0, 0, 100, 100)) is None
    assert measures.tilt(face(0, 0, 100, 100, marks=((50, 50),))) is None
    assert measures.tilt(face(0, 0, 100, 100, marks=((50, 50), (50, 60)))) is None
    assert measures.tilt(face(0, 0, 100, 100, marks=((50, 50), (67, 50)))) == 100


# Pictures


def test_without_a_face_the_middle_is_measured_and_its_place_is_not_known():
    image = np.full((300, 500, 3), 20, np.uint8)
    image[75:225, 175:325] = (200, 150, 120)  # half of the shorter side
    found = measure(image)
    assert found == replace(measure(image, face(175, 75, 150, 150)), framing=None, tilt=None)
    assert found.resolution == round(measures.resolution(150), 1)
    assert (found.framing, found.tilt, found.exposure) == (None, None, 100)
    assert measure(image, crop_scale=1.0).resolution == 100


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0, Attributes(exposure=0, contrast=0, noise=100)),
        (255, Attributes(exposure=0, contrast=0, noise=100)),
    ],
)
def test_black_and_white_pictures_have_numbers_or_none(level: int, expected: Attributes):
    found = measure(np.full((64, 64, 3), level, np.uint8))
    assert (found.exposure, found.contrast, found.noise) == (0, 0, 100)
    assert (found.sharpness, found.colour) == (None, None)
    assert found.overexposed == (level == 255)
    assert reasons(found)[0] == ("bright" if level else "dark")


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 200), (700, 31)])
@pytest.mark.parametrize(
    "found", [None, face(-50, -50, 20, 20), face(0, 0, 0, 0), face(-5, 3, 1e6, 4), face(3, 3, 0.1, 0.1)]
)
def test_any_picture_and_box_has_numbers_in_range(size: tuple[int, int], found: Face | None):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    values = measure(image, found)
    for name in ATTRIBUTES:
        value = getattr(values, name)
        assert value is None or 0 <= value <= 100, name
    assert values == measure(image, found)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_box_that_is_not_finite_is_an_error(bad: float):
    with pytest.raises(InvalidArgument, match="finite"):
        measure(np.zeros((20, 20, 3), np.uint8), face(bad, 0, 10, 10))


def test_an_array_that_is_no_picture_is_an_error():
    with pytest.raises(InvalidArgument, match="uint8"):
        measure(np.zeros((20, 20, 3), np.float32))


@pytest.fixture(scope="module")
def portraits() -> list[tuple[Image, Face]]:
    detector = load_detector()
    images = [load_image(SAMPLES / name) for name in PORTRAITS]
    return [(image, detector.detect(image)[0]) for image in images]


def test_only_resolution_counts_the_pixels(portraits: list[tuple[Image, Face]]):
    image, found = portraits[1]
    height, width = image.shape[:2]
    large = np.asarray(
        PIL.Image.fromarray(image).resize((3 * width, 3 * height), PIL.Image.Resampling.BICUBIC)
    )
    place = Box(*(3 * side for side in (found.box.x, found.box.y, found.box.width, found.box.height)))
    marks = tuple((3 * x, 3 * y) for x, y in found.landmarks)
    one, three = measure(image, found), measure(large, Face(place, 0.9, marks))
    assert three.resolution == 100
    assert one.resolution is not None
    assert one.resolution < 95
    for name in set(ATTRIBUTES) - {"resolution", "noise"}:  # no grid of blocks survives scaling
        assert getattr(three, name) == pytest.approx(getattr(one, name), abs=5), name


def test_good_portraits_have_no_reasons(portraits: list[tuple[Image, Face]]):
    assert [reasons(measure(*portrait)) for portrait in portraits] == [[], []]


@pytest.fixture(scope="module")
def influence() -> ModuleType:
    spec = importlib.util.spec_from_file_location("influence", ROOT / "benchmarks" / "influence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_degradation_is_answered_by_its_own_attribute_first(
    portraits: list[tuple[Image, Face]], influence: ModuleType
):
    assert set(influence.OWN.values()) == {*ATTRIBUTES, None}
    for kind, own in influence.OWN.items():
        lost = np.nanmean(influence.drops(portraits, kind, 0.6), axis=0)
        if own is not None:
            assert ATTRIBUTES[int(np.nanargmax(lost))] == own, (kind, lost)
            assert np.nanmax(lost) > 10, kind


@pytest.mark.parametrize(
    "kind", ["blur", "defocus", "downscale", "noise", "jpeg", "dark", "bright", "contrast"]
)
def test_its_own_attribute_falls_with_severity(
    portraits: list[tuple[Image, Face]], influence: ModuleType, kind: str
):
    for image, found in portraits:
        worse = [measure(degrade(image, kind, severity), found) for severity in (0.0, 0.5, 0.9)]
        values = [getattr(each, influence.OWN[kind]) for each in worse]
        assert values[0] + 2 >= values[1] >= values[2]
        assert values[0] > values[-1] + 20


def test_no_depth_of_skin_is_punished():
    table = UTK / "utk.csv"
    if not table.is_file():
        pytest.skip("needs ../shared")
    lines = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    means = []
    for group in "0123":
        names = [name for name, age, _, race in lines if race == group and int(age) >= 18][:40]
        found = [measure(load_image(UTK / "utk" / name)) for name in names]
        means.append(
            [
                np.mean([value for each in found if (value := getattr(each, name)) is not None])
                for name in ("exposure", "contrast", "colour")
            ]
        )
    assert np.ptp(means, axis=0).max() < 5, means


# Scoring


def test_a_scorer_says_why_and_scores_the_same(
    model: Path, known_faces: Callable[..., object], portraits: list[tuple[Image, Face]]
):
    image, found = portraits[0]
    box = (found.box.x, found.box.y, found.box.width, found.box.height)
    detector = known_faces(box)
    (plain,) = Scorer(model, detector=detector).predict(image)  # type: ignore[arg-type]
    (row,) = Scorer(model, detector=detector, attributes=True).predict(image)  # type: ignore[arg-type]
    assert row.score == plain.score
    assert plain.reasons is None
    assert plain.sharpness is None
    expected = measure(image, face(*(round(side, 1) for side in box)), crop_scale=1.0)
    assert [getattr(row, name) for name in ATTRIBUTES] == [getattr(expected, name) for name in ATTRIBUTES]
    assert row.reasons == ";".join(reasons(expected))


def test_a_picture_without_a_score_has_no_attributes(model: Path, known_faces: Callable[..., object]):
    scorer = Scorer(model, detector=known_faces(), attributes=True)  # type: ignore[arg-type]
    (row,) = scorer.predict(np.zeros((40, 40, 3), np.uint8))
    assert (row.status, row.exposure, row.reasons) == ("no_face", None, None)
    (row,) = scorer.predict(np.zeros((40, 40, 3), np.uint8), faces="none")
    assert (row.status, row.exposure, row.reasons) == ("ok", 0, "dark;contrast;resolution")


def test_the_command_writes_a_column_for_each(
    efiqa: Callable[..., subprocess.CompletedProcess[bytes]], model: Path
):
    words = ["score", SAMPLES / "camera.jpg", "-m", model, "--faces", "none"]
    result = efiqa(*words, "--attributes")
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout)
    assert tuple(row)[-10:] == ("reasons", *ATTRIBUTES)
    assert row["colour"] is None
    assert "sharpness" not in json.loads(efiqa(*words).stdout)
