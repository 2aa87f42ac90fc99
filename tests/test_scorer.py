"""Every picture gets its own score, a pure function of its bytes; every bad one gets a row."""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import random
import re
import statistics
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from efiqa import cores as machine
from efiqa import scorer as module
from efiqa.card import ModelCard
from efiqa.cores import available_cores
from efiqa.errors import ImageTooSmall, InvalidArgument, ModelError, NotAnImage
from efiqa.faces import Box, face_crop
from efiqa.image import decode_reduced, load_image
from efiqa.records import prediction_line
from efiqa.scorer import Scorer
from efiqa.sources import expand
from efiqa.views import VIEWS

Grey = Callable[..., Path]


def noise(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


@pytest.fixture
def pictures(tmp_path: Path, grey: Grey) -> list[Path]:
    """60 pictures, each of another level, every seventh broken, in no order of level."""
    paths = [grey(tmp_path / f"{index:02}.png", 37 * index % 256) for index in range(60)]
    for path in paths[::7]:
        path.write_bytes(path.read_bytes()[:60])
    return paths


def printed(scorer: Scorer, paths: list[Path], **options) -> list[str]:
    return [prediction_line(row) for row in scorer.score_many(paths, faces="none", **options)]


# What a score is


@pytest.mark.parametrize("level", [0, 1, 100, 254, 255])
def test_a_score_is_the_mean_over_255_to_five_digits(scorer: Scorer, tmp_path: Path, grey: Grey, level: int):
    assert scorer.score(grey(tmp_path / "a.png", level)) == round(level / 255, 5)


def test_every_kind_of_source_has_the_same_score(scorer: Scorer, tmp_path: Path):
    array = noise(1)
    path = tmp_path / "a.png"
    picture = PIL.Image.fromarray(array)
    picture.save(path)
    data = path.read_bytes()
    sources = [path, str(path), data, io.BytesIO(data), picture, array, np.asfortranarray(array)]
    assert {scorer.score(source) for source in sources} == {round(array.mean() / 255, 5)}
    assert type(scorer.score(path)) is float


def test_a_picture_of_another_size_is_resized(scorer: Scorer):
    assert scorer.score(np.full((100, 70, 3), 51, np.uint8)) == 0.2


def test_score_batch_is_score_of_each(scorer: Scorer):
    arrays = [noise(seed) for seed in range(5)]
    scores = scorer.score_batch(arrays)
    assert scores.dtype == np.float32
    assert scores.tolist() == pytest.approx([scorer.score(array) for array in arrays])
    assert scorer.score_batch([]).shape == (0,)


def test_score_and_score_batch_raise_for_what_cannot_be_scored(scorer: Scorer):
    with pytest.raises(NotAnImage):
        scorer.score(b"<html>")
    with pytest.raises(ImageTooSmall, match="1 × 1"):
        scorer.score(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(InvalidArgument, match="RGB uint8"):
        scorer.score_batch([np.zeros((32, 32, 3), np.float32)])


def test_quality_is_the_percentile_in_the_cards_population(scorer: Scorer):
    (row,) = scorer.predict(np.full((32, 32, 3), 51, np.uint8), faces="none")
    assert (row.score, row.quality) == (0.2, 20.0)


def test_without_a_population_there_is_no_quality(
    tmp_path: Path, make_model: Callable[..., Path], card: ModelCard
):
    values = {**json.loads(card.to_json()), "population": None}
    bare = Scorer(make_model(tmp_path / "m.onnx", metadata=json.dumps(values)))
    (row,) = bare.predict(noise(0), faces="none")
    assert row.quality is None
    assert row.score == round(noise(0).mean() / 255, 5)


def test_a_model_whose_number_is_none_is_refused(tmp_path: Path, make_model: Callable[..., Path]):
    broken = Scorer(make_model(tmp_path / "m.onnx", divisor=0.0))
    with pytest.raises(ModelError, match="no score"):
        broken.predict(np.zeros((32, 32, 3), np.uint8), faces="none")


def test_load_is_the_scorer_of_another_model(model: Path):
    assert Scorer.load(model, threads=1, workers=3).workers == 3
    assert Scorer.load(str(model)).card.name == "mean"


# Many pictures


def test_score_many_is_in_order_with_one_row_for_each_bad_file(scorer: Scorer, pictures: list[Path]):
    rows = list(scorer.score_many(pictures, faces="none"))
    assert [row.image for row in rows] == [str(path) for path in pictures]
    for index, row in enumerate(rows):
        if index % 7 == 0:
            assert (row.status, row.score, row.quality) == ("corrupt", None, None)
            assert row.message
        else:
            assert (row.status, row.score, row.message) == ("ok", round(37 * index % 256 / 255, 5), "")


def test_the_printed_rows_do_not_depend_on_workers_threads_or_order(model: Path, pictures: list[Path]):
    expected = printed(Scorer(model, workers=1), pictures)
    shuffled = pictures[:]
    random.Random(0).shuffle(shuffled)
    for threads in (1, 2):
        other = Scorer(model, threads=threads, workers=2)
        for workers in (1, 2, 5):
            assert printed(other, pictures, workers=workers) == expected
        assert printed(other, pictures[::-1]) == expected[::-1]
        assert sorted(printed(other, shuffled)) == sorted(expected)


def test_pictures_without_a_path_are_named_by_position(scorer: Scorer, tmp_path: Path, grey: Grey):
    path = grey(tmp_path / "a.png", 51)
    rows = scorer.score_many([noise(0), path, path.read_bytes(), b""], faces="none")
    assert [(row.image, row.status) for row in rows] == [
        ("#0", "ok"),
        (str(path), "ok"),
        ("#2", "ok"),
        ("#3", "empty"),
    ]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_score_many_reads_only_a_few_pictures_ahead(scorer: Scorer, tmp_path: Path, grey: Grey, workers: int):
    path = grey(tmp_path / "a.png")
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield path

    rows = scorer.score_many(endless(), faces="none", workers=workers)
    for taken in range(1, 30):
        next(rows)
        assert asked <= taken + 4 * workers
    rows.close()


def test_a_picture_that_stays_with_pillow_scores_as_its_array_does(model: Path, tmp_path: Path):
    scorer = Scorer(model)
    for side in (40, 190, 32):
        path = tmp_path / "a.jpg"
        PIL.Image.fromarray(noise(1, side)[: side * 4 // 5]).save(path)
        assert isinstance(decode_reduced(path, None)[0], PIL.Image.Image)
        assert scorer.score(path) == scorer.score(load_image(path))


def test_faces_cut_from_what_stays_with_pillow_score_as_those_of_its_array_do(model: Path, tmp_path: Path):
    portrait = PIL.Image.open(Path(__file__).parents[1] / "examples" / "samples" / "astronaut.jpg")
    path = tmp_path / "a.png"
    portrait.convert("RGB").resize((900, 900)).save(path)
    scorer = Scorer(model)
    assert scorer.predict(path) == scorer.predict(load_image(path))
    assert scorer.predict(path)[0].status == "ok"


def test_an_error_of_the_inputs_comes_through(scorer: Scorer, tmp_path: Path, grey: Grey):
    path = grey(tmp_path / "a.png")

    def failing() -> Iterator[Path]:
        yield path
        raise ConnectionError("the list ended early")

    with pytest.raises(ConnectionError):
        list(scorer.score_many(failing()))


def test_one_scorer_serves_many_threads(scorer: Scorer):
    arrays = [np.full((40, 40, 3), level, np.uint8) for level in range(256)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(scorer.score, arrays))
    assert scores == [round(level / 255, 5) for level in range(256)]


def test_memory_does_not_grow_with_the_number_of_pictures(scorer: Scorer, tmp_path: Path, grey: Grey):
    path = grey(tmp_path / "a.png")

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in scorer.score_many((path for _ in range(count)), faces="none"):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    assert peak(2000) < peak(200) + 100_000  # 2,000 pictures are 6 MB


# Views


def test_without_views_there_is_no_spread(scorer: Scorer):
    (row,) = scorer.predict(noise(0), faces="none")
    assert (scorer.views, row.spread) == ((), None)


def test_a_score_is_the_mean_over_the_picture_and_its_views_and_the_spread_their_deviation(
    model: Path, scorer: Scorer
):
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 48:] = 255
    picture[:40] //= 2
    pictures = [
        picture,
        *VIEWS["flip"](picture, 32),
        *VIEWS["shift"](picture, 32),
        *VIEWS["native"](picture, 32),
    ]
    scores = [scorer.score(each) for each in pictures]
    assert len(scores) == 11
    viewed = Scorer(model, views=("flip", "shift", "native"))
    (row,) = viewed.predict(picture, faces="none")
    assert row.score == pytest.approx(statistics.fmean(scores), abs=1e-5)
    assert row.spread == pytest.approx(statistics.pstdev(scores), abs=1e-5)
    assert row.quality == round(100 * row.score, 1)
    assert viewed.score(picture) == row.score
    assert (round(row.score, 5), round(row.spread, 5)) == (row.score, row.spread)


def test_views_are_of_the_face_not_of_the_picture_around_it(model: Path, tmp_path: Path, known_faces):
    faces = known_faces((110.0, 10.0, 60.0, 80.0), (70.0, 20.0, 60.0, 60.0))
    scorer = Scorer(model, detector=faces, views=("shift", "scale"))
    white, edge = scorer.predict(half(tmp_path / "half.png"))
    assert (white.score, white.spread) == (1.0, 0.0)
    assert edge.score == pytest.approx(0.5, abs=0.01)
    # The edge is 2 px left and right of the middle of the shifted crops, 56 px wide: 0.5 ± 2 / 56.
    assert edge.spread == pytest.approx(np.std([0.5, *[0.5 - 2 / 56, 0.5 + 2 / 56] * 2, 0.5]), abs=0.002)


def test_a_picture_that_no_view_applies_to_has_no_spread(model: Path, scorer: Scorer):
    (row,) = Scorer(model, views=("native",)).predict(noise(0), faces="none")
    assert (row.score, row.spread) == (scorer.score(noise(0)), None)


def test_a_view_counts_once_however_often_it_is_named(model: Path):
    assert Scorer(model, views=("flip", "scale", "flip")).views == ("flip", "scale")


@pytest.mark.parametrize("views", [("flip", "blur"), ("",), "flip"])
def test_an_unknown_view_is_an_error_that_names_the_known(model: Path, views: Sequence[str]):
    with pytest.raises(InvalidArgument, match="unknown view") as caught:
        Scorer(model, views=views)
    assert caught.value.hint == "there are flip, shift, scale, rotate, native"


# Bad pictures


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999))


def jpeg(size: int = 64) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(noise(3, size)).save(buffer, "JPEG")
    return buffer.getvalue()


BAD = [
    ("empty.jpg", b"", "empty", "0 bytes"),
    ("truncated.jpg", jpeg()[:1500], "corrupt", "damaged"),
    ("corrupt.png", png_header(64, 64), "corrupt", "damaged"),
    ("page.jpg", b"<!doctype html><title>404</title>", "not_an_image", "begins with"),
    ("notes.jpg", b"\n", "not_an_image", "begins with"),
    ("bomb.png", png_header(50_000, 50_000), "too_large", "pixels"),
]


@pytest.mark.parametrize("faces", ["all", "largest", "none"])
@pytest.mark.parametrize(("name", "content", "status", "message"), BAD, ids=[case[0] for case in BAD])
def test_a_bad_file_is_a_row_with_a_status_and_a_sentence(
    scorer: Scorer, tmp_path: Path, faces, name: str, content: bytes, status: str, message: str
):
    path = tmp_path / name
    path.write_bytes(content)
    (row,) = scorer.score_many([path], faces=faces)
    assert (row.image, row.face, row.status, row.score) == (str(path), 0, status, None)
    assert re.search(message, row.message)
    assert name in row.message


def test_a_missing_file_a_folder_and_a_speck_are_rows(scorer: Scorer, tmp_path: Path, grey: Grey):
    speck = grey(tmp_path / "speck.png", size=(1, 1))
    narrow = grey(tmp_path / "narrow.png", size=(200, 7))
    rows = scorer.score_many([tmp_path / "gone.jpg", tmp_path, speck, narrow], faces="none")
    assert [(row.status, bool(row.message)) for row in rows] == [
        ("not_found", True),
        ("not_a_file", True),
        ("too_small", True),
        ("too_small", True),
    ]


def test_a_file_that_may_not_be_read_is_a_row(
    scorer: Scorer, tmp_path: Path, grey: Grey, monkeypatch: pytest.MonkeyPatch
):
    path = grey(tmp_path / "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the superuser may read everything
    (row,) = scorer.score_many([path], faces="none")
    assert row.status == "unreadable"
    assert "Permission denied" in row.message


def test_an_array_of_the_wrong_kind_is_a_row_with_its_hint(scorer: Scorer):
    (row,) = scorer.predict(np.zeros((3, 32, 32), np.uint8), faces="none", name="chw")
    assert row.status == "not_an_image"
    assert "transpose" in row.message


def test_what_expand_could_not_open_is_a_row_with_its_reason(scorer: Scorer, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (row,) = scorer.score_many(expand([str(tmp_path / "empty")]))
    assert (row.image, row.status) == (str(tmp_path / "empty"), "empty")
    assert "no pictures" in row.message


def test_awkward_names_are_rows_that_can_be_written(scorer: Scorer, tmp_path: Path, grey: Grey):
    content = grey(tmp_path / "a.png", 51).read_bytes()
    paths = [
        tmp_path / os.fsdecode(name) for name in (b"line\nbreak.png", b"latin-\xff.png", "😀.png".encode())
    ]
    for path in paths:
        path.write_bytes(content)
    rows = list(scorer.score_many([*paths, tmp_path / os.fsdecode(b"gone\xff\n.png")], faces="none"))
    assert [row.score for row in rows] == [0.2, 0.2, 0.2, None]
    assert rows[1].image.endswith(r"latin-\xff.png")
    assert all(prediction_line(row).encode().count(b"\n") == 1 for row in rows)


# Faces


def half(path: Path) -> Path:
    """Left half black, right half white, 200 × 100."""
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 100:] = 255
    PIL.Image.fromarray(picture).save(path)
    return path


def test_each_face_is_a_row_scored_by_its_own_crop(model: Path, tmp_path: Path, known_faces):
    boxes = [(110.0, 10.0, 60.0, 80.0), (20.04, 20.0, 40.0, 40.0), (95.0, 40.0, 10.0, 10.0)]
    scorer = Scorer(model, detector=known_faces(*boxes))
    rows = scorer.predict(half(tmp_path / "half.png"), name="half")
    assert [(row.face, row.score, row.x, row.width, row.detection) for row in rows] == [
        (0, 1.0, 110.0, 60.0, 0.9),
        (1, 0.0, 20.0, 40.0, 0.9),
        (2, 0.5, 95.0, 10.0, 0.9),
    ]
    assert scorer.predict(half(tmp_path / "half.png"), faces="largest", name="half") == rows[:1]
    assert [row.score for row in scorer.predict(half(tmp_path / "half.png"), faces="none")] == [0.5]


def test_the_crop_can_be_made_again_from_the_row(model: Path, known_faces):
    picture = noise(5, 200)
    scorer = Scorer(model, detector=known_faces((10.2468, 31.951, 77.77, 60.06)))
    (row,) = scorer.predict(picture)
    box = Box(*(float(value or 0) for value in (row.x, row.y, row.width, row.height)))
    left, top, right, bottom = face_crop(box, 200, 200, scale=scorer.card.crop_scale)
    assert scorer.score(picture[top:bottom, left:right]) == row.score


def large_jpeg() -> bytes:
    """Left half black, right half white, 4400 × 2200: half of it is enough to find faces in."""
    picture = np.zeros((2200, 4400, 3), np.uint8)
    picture[:, 2200:] = 255
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


def test_faces_of_a_large_jpeg_are_in_pixels_of_the_picture_itself(model: Path, known_faces):
    found = [(1500.0, 300.0, 400.0, 400.0), (300.0, 300.0, 200.0, 200.0)]
    scorer = Scorer(model, detector=known_faces(*found))
    rows = scorer.predict(large_jpeg())
    assert [(row.score, row.x, row.width) for row in rows] == [(1.0, 3000.0, 800.0), (0.0, 600.0, 400.0)]
    # A file object cannot be read twice, so it is decoded whole, and the detector finds the same there.
    assert [row.x for row in scorer.predict(io.BytesIO(large_jpeg()))] == [1500.0, 300.0]


@pytest.fixture
def reductions(monkeypatch) -> list[int]:
    """How many times smaller each picture was decoded, in order."""
    decoded: list[int] = []
    load = module.decode_reduced

    def watched(*args: Any, **limits: Any) -> Any:
        image, reduction = load(*args, **limits)
        decoded.append(reduction)
        return image, reduction

    monkeypatch.setattr(module, "decode_reduced", watched)
    return decoded


@pytest.mark.parametrize(("side", "reduction"), [(600, 1), (1160, 2), (2200, 2), (2400, 4)])
def test_a_whole_picture_keeps_576_pixels_however_few_the_model_asks_for(
    model: Path, reductions: list[int], side: int, reduction: int
):
    assert module.ENOUGH * Scorer(model).card.input_size < module.ENOUGH_WHOLE == 576
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.full((side, 2 * side, 3), 255, np.uint8)).save(buffer, "JPEG")
    assert [row.score for row in Scorer(model).predict(buffer.getvalue(), faces="none")] == [1.0]
    assert reductions == [reduction]


def test_a_small_face_is_cut_from_as_much_of_a_large_jpeg_as_it_needs(
    model: Path, known_faces, monkeypatch, reductions: list[int]
):
    monkeypatch.setattr(module, "ENOUGH_TO_DETECT", 200)  # so the first look is at an eighth
    enough = module.ENOUGH * Scorer(model).card.input_size / Scorer(model).card.crop_scale
    for share, expected in ((1.1, [8]), (0.9, [8, 4]), (0.45, [8, 2]), (0.2, [8, 1]), (0.01, [8, 1])):
        reductions.clear()
        width = share * enough
        (row,) = Scorer(model, detector=known_faces((276.0, 70.0, width, width))).predict(large_jpeg())
        assert reductions == expected
        # Just right of the middle: a box that was not scaled as the picture was would hold some black.
        assert (row.score, row.x, row.width) == (1.0, 2208.0, pytest.approx(8 * width, abs=0.06))


def test_where_every_pixel_counts_a_large_jpeg_is_decoded_whole(model: Path, known_faces):
    found = known_faces((3000.0, 600.0, 800.0, 800.0))
    for options in ({"attributes": True}, {"views": ("flip",)}):
        (row,) = Scorer(model, detector=found, **options).predict(large_jpeg())
        assert (row.score, row.x) == (1.0, 3000.0)


def test_the_cards_crop_scale_is_used(
    tmp_path: Path, make_model: Callable[..., Path], card: ModelCard, known_faces
):
    wide = json.dumps({**json.loads(card.to_json()), "crop_scale": 3.0})
    scorer = Scorer(make_model(tmp_path / "m.onnx", metadata=wide), detector=known_faces((80, 40, 20, 20)))
    (row,) = scorer.predict(half(tmp_path / "half.png"))
    assert row.score == pytest.approx(1 / 3, abs=0.01)  # x from 60 to 120, a third of it white


def test_a_picture_without_a_face_is_a_row(scorer: Scorer, tmp_path: Path, grey: Grey):
    (row,) = scorer.score_many([grey(tmp_path / "a.png")])
    assert (row.status, row.score) == ("no_face", None)
    assert "--faces none" in row.message


def test_a_small_face_is_scored_and_says_so(model: Path, tmp_path: Path, known_faces):
    scorer = Scorer(model, detector=known_faces((0, 0, 32, 20), (0, 0, 31, 20)))
    rows = scorer.predict(half(tmp_path / "half.png"))
    assert [row.score for row in rows] == [0.0, 0.0]
    assert [row.message for row in rows] == ["", "small face, 31 px: the score says little"]


def test_ten_thousand_faces_are_ten_thousand_rows_in_order(model: Path, known_faces):
    picture = np.repeat(np.repeat(np.arange(100, dtype=np.uint8), 4)[None, :, None], 400, 0).repeat(3, 2)
    boxes = [(4.0 * (index % 100), 4.0 * (index // 100), 4.0, 4.0) for index in range(10_000)]
    rows = Scorer(model, detector=known_faces(*boxes)).predict(picture, name="crowd")
    assert [row.face for row in rows] == list(range(10_000))
    assert [row.score for row in rows] == [round(index % 100 / 255, 5) for index in range(10_000)]


@pytest.mark.parametrize("faces", ["both", "", "ALL"])
def test_an_unknown_choice_of_faces_is_an_error(scorer: Scorer, faces):
    with pytest.raises(InvalidArgument, match="faces must be all, largest or none"):
        scorer.predict(noise(0), faces=faces)
    with pytest.raises(InvalidArgument):
        list(scorer.score_many([noise(0)], faces=faces))


def test_an_unknown_detector_is_an_error_where_faces_are_looked_for(model: Path):
    scorer = Scorer(model, detector="eyes")
    assert scorer.predict(noise(0), faces="none")[0].status == "ok"
    with pytest.raises(ModelError, match="unknown detector 'eyes'"):
        scorer.predict(noise(0))


# Cores


@pytest.mark.parametrize("name", ["threads", "workers"])
@pytest.mark.parametrize("value", [0, -1])
def test_threads_and_workers_must_be_at_least_one(model: Path, name: str, value: int):
    with pytest.raises(InvalidArgument, match=f"{name} must be at least 1, but got {value}"):
        Scorer(model, **{name: value})


def test_workers_of_a_run_must_be_at_least_one(scorer: Scorer):
    with pytest.raises(InvalidArgument, match="workers must be at least 1, but got 0"):
        list(scorer.score_many([], workers=0))


QUOTAS = [
    ({"cpu.max": "150000 100000\n"}, 2, "one and a half cores, version 2"),
    ({"cpu.max": "50000 100000\n"}, 1, "half a core is one"),
    ({"cpu.max": "max 100000\n"}, 8, "no limit, version 2"),
    ({"cpu.max": "9900000 100000\n"}, 8, "more than there are"),
    ({"cpu.max": ""}, 8, "an empty file"),
    ({"cpu.max": "much\n"}, 8, "not numbers"),
    ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3, "version 1"),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8, "no limit, version 1"),
    ({"cpu/cpu.cfs_quota_us": "100\n", "cpu/cpu.cfs_period_us": "0\n"}, 8, "a period of nothing"),
    ({}, 8, "no control groups"),
]


@pytest.mark.parametrize(("files", "cores"), [case[:2] for case in QUOTAS], ids=[case[2] for case in QUOTAS])
def test_cores_are_what_the_control_group_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    quota = machine._cgroup_quota(tmp_path)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == cores


def test_cores_are_what_the_affinity_allows(monkeypatch: pytest.MonkeyPatch, model: Path):
    monkeypatch.setattr(machine, "_cgroup_quota", lambda: float("inf"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7, 9, 11, 13}, raising=False)
    assert available_cores() == 6
    assert Scorer(model).workers == 6 + 1
    assert Scorer(model, threads=4).workers == 1 + 1
    assert Scorer(model, threads=2).workers == 3 + 1
