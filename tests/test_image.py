"""Every kind of picture comes in with the right colours; everything else is refused by name."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import stat
import struct
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageFile
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efiqa.errors import (
    CorruptImage,
    EfiqaError,
    EmptyImage,
    ImageError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
    InvalidArgument,
    NotAFile,
    NotAnImage,
)
from efiqa.image import (
    MAX_BYTES,
    MAX_PIXELS,
    crop,
    decode_reduced,
    load_image,
    resize,
    resize_and_crop,
    size_of,
)

ORANGE = (200, 120, 40)
ORIENTATION = 0x0112

needs_avif = pytest.mark.skipif(not PIL.features.check("avif"), reason="this Pillow has no AVIF codec")


def encode(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(color: Any = ORANGE, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> PIL.Image.Image:
    return PIL.Image.new(mode, size, color)


def quarters() -> PIL.Image.Image:
    """40 × 24 pixels: red, green above blue, white."""
    array = np.zeros((24, 40, 3), np.uint8)
    array[:12, :20], array[:12, 20:] = (255, 0, 0), (0, 255, 0)
    array[12:, :20], array[12:, 20:] = (0, 0, 255), (255, 255, 255)
    return PIL.Image.fromarray(array)


def exif(orientation: Any) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def png(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    """A PNG from its header fields and its filtered rows."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def assert_plain(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 0) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert np.abs(image.astype(int) - color).max() <= tolerance


# ------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        pytest.param("JPEG", {"quality": 95}, 3, id="JPEG is lossy"),
        pytest.param("JPEG", {"progressive": True, "quality": 95}, 3, id="progressive JPEG"),
        pytest.param("PNG", {}, 0, id="PNG"),
        pytest.param("WEBP", {"lossless": True}, 0, id="lossless WebP"),
        pytest.param("WEBP", {"quality": 90}, 6, id="lossy WebP"),
        pytest.param("BMP", {}, 0, id="BMP"),
        pytest.param("TIFF", {}, 0, id="TIFF without compression"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="TIFF through libtiff"),
        pytest.param("TIFF", {"big_tiff": True}, 0, id="BigTIFF"),
        pytest.param("GIF", {}, 0, id="GIF: one colour needs no dithering"),
        pytest.param("AVIF", {"quality": 95}, 6, id="AVIF", marks=needs_avif),
    ],
)
def test_every_format_keeps_size_and_colour(kind: str, options: dict[str, Any], tolerance: int) -> None:
    image = load_image(encode(plain(), kind, **options))
    assert image.shape == (16, 24, 3)
    assert_plain(image, ORANGE, tolerance)


def test_heic_is_read_with_the_extra() -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra efiqa[heic] is not installed")
    buffer = io.BytesIO()
    heif.from_pillow(plain(size=(64, 48))).save(buffer, quality=95)
    image = load_image(buffer.getvalue())
    assert image.shape == (48, 64, 3)
    assert_plain(image, ORANGE, 6)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, brand: bytes) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    box = b"ftyp" + brand + bytes(4) + b"mif1heic"
    with pytest.raises(NotAnImage, match="is HEIC") as caught:
        load_image(struct.pack(">I", len(box) + 4) + box + bytes(100))
    assert caught.value.hint == 'pip install "efiqa[heic]"'


def test_a_build_of_pillow_without_avif_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.features, "check", lambda _: False)
    with pytest.raises(NotAnImage, match="AVIF, which this build of Pillow cannot read"):
        load_image(struct.pack(">I", 16) + b"ftypavif" + bytes(104))


def test_several_frames_give_the_first() -> None:
    first, second = plain((255, 0, 0)), plain((0, 0, 255))
    for kind, tolerance in {"GIF": 0, "PNG": 0, "WEBP": 6, "TIFF": 0, "MPO": 6}.items():
        data = encode(first, kind, save_all=True, append_images=[second])
        assert_plain(load_image(data), (255, 0, 0), tolerance)


def test_a_phones_mpo_is_read_like_its_jpeg() -> None:
    data = encode(quarters(), "MPO", save_all=True, append_images=[quarters()], exif=exif(6))
    single = encode(quarters(), "JPEG", exif=exif(6))
    assert np.array_equal(load_image(data), load_image(single))


# ------------------------------------------------------------------------------------------------- colours


def with_adobe_transform(data: bytes, transform: int) -> bytes:
    """Rewrite the colour transform in a JPEG's Adobe segment: 0 CMYK, 2 YCCK."""
    at = data.index(b"Adobe") + 11
    return data[:at] + bytes([transform]) + data[at + 1 :]


COLOURS: list[Any] = [
    pytest.param(encode(plain(90, "L"), "PNG"), (90, 90, 90), 0, id="grey is repeated"),
    pytest.param(encode(plain(90, "L"), "JPEG", quality=95), (90, 90, 90), 2, id="grey JPEG"),
    pytest.param(encode(plain(1, "1"), "PNG"), (255, 255, 255), 0, id="1 bit: 1 is white"),
    pytest.param(
        encode(plain(0, "1"), "TIFF", compression="group4"), (0, 0, 0), 0, id="1 bit: fax is not inverted"
    ),
    pytest.param(encode(plain().quantize(4), "PNG"), ORANGE, 0, id="palette PNG"),
    pytest.param(encode(plain().quantize(4), "BMP"), ORANGE, 0, id="palette BMP"),
    pytest.param(encode(plain().quantize(4), "TIFF"), ORANGE, 0, id="palette TIFF"),
    pytest.param(
        encode(plain().quantize(4), "PNG", transparency=0),
        (255, 255, 255),
        0,
        id="clear palette entry: white",
    ),
    pytest.param(
        encode(plain().quantize(4), "PNG", transparency=b"\x80" * 4),
        (228, 187, 147),  # 200·128/255 + 255·127/255 = 227.4, …
        1,
        id="half clear palette entries, where Pillow's own conversion warns",
    ),
    pytest.param(
        encode(plain().quantize(4), "GIF", transparency=0), (255, 255, 255), 0, id="clear GIF: white"
    ),
    pytest.param(encode(plain((*ORANGE, 255), "RGBA"), "PNG"), ORANGE, 0, id="opaque alpha changes nothing"),
    pytest.param(encode(plain((*ORANGE, 0), "RGBA"), "PNG"), (255, 255, 255), 0, id="clear pixels are white"),
    pytest.param(
        encode(plain((0, 0, 0, 51), "RGBA"), "PNG"), (204, 204, 204), 0, id="a fifth of black on white"
    ),
    pytest.param(
        encode(plain((0, 0, 0, 51), "RGBA"), "WEBP", lossless=True), (204,) * 3, 0, id="WebP with alpha"
    ),
    pytest.param(encode(plain((0, 51), "LA"), "PNG"), (204, 204, 204), 0, id="grey with alpha"),
    pytest.param(
        encode(plain(), "PNG", transparency=ORANGE), (255, 255, 255), 0, id="colour key in an RGB PNG"
    ),
    pytest.param(
        encode(plain((0, 0, 0, 0), "CMYK"), "JPEG"), (255, 255, 255), 2, id="CMYK without ink is white"
    ),
    pytest.param(
        encode(plain((0, 255, 255, 0), "CMYK"), "JPEG"), (255, 0, 0), 4, id="CMYK magenta + yellow: red"
    ),
    pytest.param(
        encode(plain((0, 255, 255, 0), "CMYK"), "TIFF"), (255, 0, 0), 0, id="CMYK TIFF is not inverted"
    ),
    pytest.param(
        # Stored inverted as Y = 100, Cb = Cr = 128, K = 255: C, M, Y inks are 100 and black is 0 → 255 - 100.
        with_adobe_transform(encode(plain((155, 127, 127, 0), "CMYK"), "JPEG", quality=100), 2),
        (155, 155, 155),
        2,
        id="YCCK as Adobe writes it",
    ),
    pytest.param(
        encode(plain(200 * 257, "I;16"), "PNG"), (200, 200, 200), 0, id="16-bit grey PNG is not clipped"
    ),
    pytest.param(encode(plain(200 * 257, "I;16"), "TIFF"), (200, 200, 200), 0, id="16-bit grey TIFF"),
    pytest.param(
        encode(plain(200 * 257, "I;16B"), "TIFF"), (200, 200, 200), 0, id="16-bit big-endian grey TIFF"
    ),
    pytest.param(encode(plain(65535, "I;16"), "PNG"), (255, 255, 255), 0, id="16-bit white"),
    pytest.param(encode(plain(255, "I;16"), "PNG"), (0, 0, 0), 0, id="16-bit nearly black"),
    pytest.param(
        png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *(257 * c for c in ORANGE * 2))),
        ORANGE,
        0,
        id="16-bit RGB PNG",
    ),
    pytest.param(
        png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 0, 0, 0, 51 * 257)),
        (204, 204, 204),
        0,
        id="16-bit RGBA PNG",
    ),
    pytest.param(png(4, 1, 2, 0, b"\0\xaa"), (170, 170, 170), 0, id="2-bit grey PNG: 2 of 3 is 170"),
]


@pytest.mark.parametrize(("data", "color", "tolerance"), COLOURS)
def test_every_kind_of_sample_becomes_rgb(data: bytes, color: tuple[int, int, int], tolerance: int) -> None:
    assert_plain(load_image(data), color, tolerance)


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        pytest.param("I", 200 * 257, (200, 200, 200), id="32-bit integers are taken as 16 bits"),
        pytest.param("I;16L", 200 * 257, (200, 200, 200), id="16 bits"),
        pytest.param("YCbCr", (100, 128, 128), (100, 100, 100), id="YCbCr"),
        pytest.param("HSV", (0, 0, 77), (77, 77, 77), id="HSV"),
        pytest.param("RGBa", (0, 0, 0, 51), (204, 204, 204), id="alpha multiplied in"),
        pytest.param("RGBX", (*ORANGE, 9), ORANGE, id="padding is not alpha"),
        pytest.param("PA", (0, 0), (255, 255, 255), id="palette with alpha"),
    ],
)
def test_pillow_modes_become_rgb(mode: str, color: Any, expected: tuple[int, int, int]) -> None:
    assert_plain(load_image(plain(color, mode)), expected)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(encode(plain(0.5, "F"), "TIFF"), id="float TIFF: its range is not known"),
        pytest.param(plain(0.5, "F"), id="float Pillow image"),
        pytest.param(plain((50, 0, 0), "LAB"), id="LAB"),
        pytest.param(plain(1 << 20, "I"), id="more than 16 bits"),
        pytest.param(plain(-1, "I"), id="below zero"),
    ],
)
def test_samples_of_unknown_range_are_refused(source: Any) -> None:
    with pytest.raises(NotAnImage, match="expected 8 or 16 bits"):
        load_image(source)


def test_icc_profiles_are_not_applied() -> None:
    profile = pytest.importorskip("PIL.ImageCms").ImageCmsProfile(
        pytest.importorskip("PIL.ImageCms").createProfile("LAB")
    )
    assert_plain(load_image(encode(plain(), "PNG", icc_profile=profile.tobytes())), ORANGE)


# --------------------------------------------------------------------------------------------- orientation

# Where the stored picture's (left top, right top, left bottom) corners stand once it is upright.
CORNERS = {1: "RGB", 2: "GRW", 3: "WBG", 4: "BWR", 5: "RBG", 6: "BRW", 7: "WGB", 8: "GWR"}
LETTERS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}


def corners(image: np.ndarray) -> str:
    points = image[4, 4], image[4, -5], image[-5, 4]
    return "".join(
        min(LETTERS, key=lambda k: np.abs(point.astype(int) - LETTERS[k]).sum()) for point in points
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    image = load_image(encode(quarters(), kind, exif=exif(orientation)))
    assert image.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert corners(image) == CORNERS[orientation]


@pytest.mark.parametrize(
    ("shorter_side", "shape", "times"),
    [
        (None, (2001, 1003), 1),
        (502, (2001, 1003), 1),
        (501, (1001, 502), 2),
        (250, (501, 251), 4),
        (125, (251, 126), 8),
        (1, (251, 126), 8),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_leaves_enough(
    shorter_side: int | None, shape: tuple[int, int], times: int
) -> None:
    for mode in ("RGB", "L", "CMYK"):
        data = encode(plain(color=0, mode=mode, size=(1003, 2001)), "JPEG")
        image, reduction = decode_reduced(data, shorter_side)
        assert (size_of(image), reduction) == (shape[::-1], times)
        # Nothing else can be had smaller.
        png = encode(plain(size=(1003, 2001)), "PNG")
        assert decode_reduced(png, shorter_side)[1] == 1


def test_a_reduced_jpeg_is_upright_and_looks_as_if_reduced_afterwards() -> None:
    generator = np.random.default_rng(0)
    small = PIL.Image.fromarray(generator.integers(0, 256, (24, 40, 3), np.uint8))
    large = small.resize((640, 384), PIL.Image.Resampling.BICUBIC)
    for orientation in range(1, 9):
        data = encode(large, "JPEG", quality=95, exif=exif(orientation))
        whole, (reduced, times) = load_image(data), decode_reduced(data, 96)
        assert times == 4
        box = PIL.Image.fromarray(whole).resize(size_of(reduced), PIL.Image.Resampling.BOX)
        assert np.abs(np.asarray(reduced, int) - np.asarray(box)).mean() < 3


def test_the_limit_of_pixels_is_of_the_picture_not_of_what_is_left_of_it() -> None:
    with pytest.raises(ImageTooLarge, match="800 × 800"):
        decode_reduced(encode(plain(size=(800, 800)), "JPEG"), 100, max_pixels=100_000)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_in_heic(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra efiqa[heic] is not installed")
    picture, buffer = quarters().resize((160, 96), PIL.Image.Resampling.NEAREST), io.BytesIO()
    file = heif.from_bytes("RGB", picture.size, picture.tobytes())
    file[0].info["exif"] = exif(orientation).tobytes()  # written as the container's own turn and mirror too
    file.save(buffer, quality=90)
    assert corners(load_image(buffer.getvalue())) == CORNERS[orientation]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(exif(0).tobytes(), id="0 means nothing"),
        pytest.param(exif(9).tobytes(), id="9 means nothing"),
        pytest.param(
            b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4sI", 1, ORIENTATION, 2, 2, b"6\0", 0),
            id="text is no orientation",
        ),
        pytest.param(b"Exif\0\0", id="empty"),
        pytest.param(b"Exif\0\0MM\0*\xff\xff\xff\xff", id="directory outside the block"),
        pytest.param(b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01", id="directory cut off"),
        pytest.param(b"Exif\0\0" + b"\x00" * 40, id="zeros"),
        pytest.param(b"Exif\0\0rubbish, not TIFF at all", id="rubbish"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_costs_no_picture(kind: str, block: bytes) -> None:
    assert corners(load_image(encode(quarters(), kind, exif=block))) == CORNERS[1]


# -------------------------------------------------------------------------------------------------- sources


def test_every_source_gives_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(encode(quarters(), "PNG"))
    expected = np.asarray(quarters())
    data = path.read_bytes()
    with path.open("rb") as file, PIL.Image.open(path) as lazy:
        sources = [path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), file, lazy]
        for source in [*sources, quarters(), expected]:
            assert np.array_equal(load_image(source), expected)  # type: ignore[arg-type]


def test_the_name_does_not_decide_the_format(tmp_path: Path) -> None:
    path = tmp_path / "face.gif"
    path.write_bytes(encode(plain(), "PNG"))
    assert_plain(load_image(path), ORANGE)


def test_a_file_object_is_read_from_where_it_stands() -> None:
    file = io.BytesIO(b"a header of ours" + encode(plain(), "PNG"))
    file.seek(16)
    assert_plain(load_image(file), ORANGE)


def test_a_file_object_that_gives_little_at_a_time_is_read_to_its_end() -> None:
    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(7, size or 7))

    assert_plain(load_image(Trickle(encode(plain(), "PNG"))), ORANGE)


def test_an_array_is_returned_itself_even_where_it_is_a_view() -> None:
    array = np.zeros((9, 9, 3), np.uint8)
    assert load_image(array) is array
    view = array[::2, ::-1]
    assert load_image(view) is view


@pytest.mark.parametrize(
    ("array", "hint"),
    [
        pytest.param(np.zeros((8, 8, 3)), "np.uint8", id="floats"),
        pytest.param(np.zeros((8, 8, 3), np.uint16), "np.uint8", id="16 bits"),
        pytest.param(np.zeros((3, 8, 9), np.uint8), "transpose(1, 2, 0)", id="channels first"),
        pytest.param(np.zeros((3, 8, 9), np.float32), "transpose(1, 2, 0)", id="channels first and floats"),
        pytest.param(np.zeros((8, 8), np.uint8), "PIL.Image.fromarray", id="grey"),
        pytest.param(np.zeros((8, 8, 1), np.uint8), "PIL.Image.fromarray", id="grey with an axis"),
        pytest.param(np.zeros((8, 8, 4), np.uint8), "PIL.Image.fromarray", id="RGBA"),
        pytest.param(np.zeros((2, 8, 8, 3), np.uint8), "one at a time", id="a batch"),
        pytest.param(np.zeros(5, np.uint8), None, id="a list of numbers"),
    ],
)
def test_an_array_of_another_kind_is_refused_and_never_guessed(array: Any, hint: str | None) -> None:
    with pytest.raises(InvalidArgument, match=r"must be RGB uint8 with shape \(H, W, 3\), but got") as caught:
        load_image(array)
    assert f"{array.dtype} with shape {array.shape}" in str(caught.value)
    assert (caught.value.hint is None) if hint is None else (hint in str(caught.value.hint))


@pytest.mark.parametrize(
    "source", [None, 3, 1.5, ["a.jpg"], object()], ids=lambda source: type(source).__name__
)
def test_what_cannot_be_a_picture_is_named(source: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"but got builtins.{type(source).__name__}"):
        load_image(source)


def test_a_text_file_object_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidArgument, match="must give bytes, but gave str") as caught:
        load_image(io.StringIO("text"))  # type: ignore[arg-type]
    assert caught.value.hint == 'open it in mode "rb"'


def test_a_closed_or_failing_file_object_is_unreadable() -> None:
    closed = io.BytesIO(b"x")
    closed.close()

    class Failing(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    for file in (closed, Failing()):
        with pytest.raises(ImageUnreadable, match="the file object cannot be read"):
            load_image(file)


def test_a_pillow_image_is_left_as_it_was() -> None:
    picture = plain((*ORANGE, 128), "RGBA")
    picture.info["exif"] = exif(6).tobytes()
    before = picture.tobytes(), picture.mode, picture.size, dict(picture.info)
    assert load_image(picture).shape == (24, 16, 3)
    assert (picture.tobytes(), picture.mode, picture.size, dict(picture.info)) == before


# ------------------------------------------------------------------------------------------------ bad input


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("missing.jpg", "file/inside.jpg", "dangling"):
        with pytest.raises(ImageNotFound, match="there is no file"):
            load_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b.jpg", "\ud800.jpg"])
def test_a_name_that_no_file_can_have_is_not_found(name: str) -> None:
    with pytest.raises(ImageNotFound, match="no file can have this name"):
        load_image(name)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotAFile, match="is a folder"):
        load_image(tmp_path)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(NotAFile, match="pipe, socket or device"):
        load_image(pipe)  # opening it would wait for ever


def test_a_socket_and_a_device_are_not_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        for path in ("s", os.devnull):
            with pytest.raises(NotAFile, match="pipe, socket or device"):
                load_image(path)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(PermissionError(13, "Permission denied"), id="no permission"),
        pytest.param(OSError(5, "Input/output error"), id="a broken disk"),
        pytest.param(OSError(24, "Too many open files"), id="too many open files"),
    ],
)
@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_file_that_cannot_be_read_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, call: str
) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(encode(plain(), "JPEG"))

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:  # tests may run as root, who may read everything
        patch.setattr(pathlib.Path, call, fail)
        with pytest.raises(ImageUnreadable, match=f"cannot be read: {error.strerror}"):
            load_image(path)


def test_a_loop_of_links_is_unreadable(tmp_path: Path) -> None:
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    with pytest.raises(ImageUnreadable, match="cannot be read"):
        load_image(loop)


def test_nothing_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    nothing: list[Any] = [
        path,
        b"",
        io.BytesIO(),
        PIL.Image.new("RGB", (0, 5)),
        np.zeros((0, 5, 3), np.uint8),
    ]
    for source in nothing:
        with pytest.raises(EmptyImage):
            load_image(source)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"<!DOCTYPE html><html>not found</html>", id="HTML saved as .jpg"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="SVG"),
        pytest.param(b"%PDF-1.7\n", id="PDF"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", id="EPS, which Pillow would give to Ghostscript"),
        pytest.param(encode(plain(), "PPM"), id="PPM, which Pillow could read"),
        pytest.param(encode(plain(size=(16, 16)), "ICO"), id="ICO, which Pillow could read"),
        pytest.param(
            struct.pack(">I", 24) + b"ftypisom\0\0\2\0isommp41", id="a video shares HEIC's container"
        ),
        pytest.param(b"RIFF\x10\0\0\0WAVEfmt ", id="a sound shares WebP's container"),
        pytest.param(b"\xff", id="one byte"),
        pytest.param(bytes(1000), id="zeros"),
    ],
)
def test_what_is_not_a_known_picture_says_how_it_begins(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(data)
    with pytest.raises(NotAnImage, match="must be JPEG, PNG") as caught:
        load_image(path)
    assert f"begins with {data[:16]!r}" in str(caught.value)


NOISE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
SAMPLES = {
    "JPEG": encode(NOISE, "JPEG", exif=exif(6)),
    "progressive JPEG": encode(NOISE, "JPEG", progressive=True),
    "CMYK JPEG": encode(NOISE.convert("CMYK"), "JPEG"),
    "MPO": encode(NOISE, "MPO", save_all=True, append_images=[NOISE]),
    "PNG": encode(NOISE.convert("RGBA"), "PNG", exif=exif(6)),
    "palette PNG": encode(NOISE.quantize(16), "PNG", transparency=b"\0\x80\xff"),
    "animated PNG": encode(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(90)]),
    "WebP": encode(NOISE, "WEBP", exif=exif(6)),
    "lossless WebP": encode(NOISE.convert("RGBA"), "WEBP", lossless=True),
    "BMP": encode(NOISE, "BMP"),
    "TIFF": encode(NOISE, "TIFF", exif=exif(6)),
    "LZW TIFF": encode(NOISE, "TIFF", compression="tiff_lzw"),
    "16-bit TIFF": encode(NOISE.convert("L").convert("I;16"), "TIFF"),
    "GIF": encode(NOISE, "GIF"),
}
if PIL.features.check("avif"):
    SAMPLES["AVIF"] = encode(NOISE, "AVIF", exif=exif(6))


@pytest.mark.parametrize("name", SAMPLES)
def test_half_a_file_is_corrupt(name: str) -> None:
    data = SAMPLES[name]
    if name == "MPO":  # half of it still holds the whole first picture
        data = data[: len(data) // 2]
    with pytest.raises(CorruptImage, match="damaged"):
        load_image(data[: len(data) // 2])


@pytest.mark.parametrize("name", SAMPLES)
def test_a_signature_alone_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptImage, match="damaged"):
        load_image(SAMPLES[name][:24])


@settings(
    max_examples=150, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    keep=st.floats(0, 1) | st.just(1.0),
    edits=st.lists(st.tuples(st.floats(0, 1) | st.floats(0, 0.05), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_a_picture_or_an_image_error(
    name: str, keep: float, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(SAMPLES[name])
    for place, value in edits:
        data[int(place * (len(data) - 1))] = value
    try:
        image = load_image(bytes(data[: int(keep * len(data))]))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


@pytest.mark.parametrize(
    "raised",
    [MemoryError(), KeyError("x"), struct.error("x"), zlib.error("x"), OverflowError(), IndexError()],
)
def test_whatever_a_decoder_raises_becomes_an_image_error(
    monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    def fail(_: object) -> None:
        raise raised

    with monkeypatch.context() as patch:
        patch.setattr(PIL.ImageFile.ImageFile, "load", fail)
        expected = ImageTooLarge if isinstance(raised, MemoryError) else CorruptImage
        with pytest.raises(expected):
            load_image(encode(plain(), "BMP"))


@pytest.mark.parametrize(
    "name",
    ["new\nline.jpg", "bell\a.jpg", os.fsdecode(b"\xff\xfe.jpg"), "sni\u2068ff.jpg", "лицо.jpg"],
    ids=ascii,
)
def test_strange_names_are_read_and_print_safely(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    try:
        path.write_bytes(encode(plain(), "PNG"))
    except OSError:
        pytest.skip("this file system does not take the name")
    assert_plain(load_image(path), ORANGE)
    path.write_bytes(b"rubbish")
    with pytest.raises(NotAnImage) as caught:
        load_image(path)
    message = str(caught.value)
    assert message.encode()
    assert message.isprintable()
    assert ("лицо" in message) == ("лицо" in name)


def test_every_refusal_is_one_printable_sentence(tmp_path: Path) -> None:
    for data in (b"", b"rubbish\n", SAMPLES["PNG"][:99], SAMPLES["TIFF"][:99], SAMPLES["GIF"][:99]):
        with pytest.raises(EfiqaError) as caught:
            load_image(data)
        assert str(caught.value).isprintable()
        assert "0x" not in str(caught.value)  # no address: the same file gives the same message


# --------------------------------------------------------------------------------------------------- limits


def test_a_bomb_is_refused_from_its_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = b"\0" * 1000  # a header may promise what it likes
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge):
        load_image(png(50_000, 50_000, 8, 2, rows))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(11_000, 11_000, 8, 2, b"\0"), id="more than Pillow warns of"),
        pytest.param(
            b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\0\0\0\0\xff\xff\xff\xff\0\x02\0;", id="a GIF's canvas"
        ),
        pytest.param(
            b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6), id="BMP"
        ),
    ],
)
def test_a_header_over_the_limit_of_pixels_is_too_large(data: bytes) -> None:
    with pytest.raises(ImageTooLarge, match="pixels"):
        load_image(data, max_pixels=100_000_000)


def test_the_limit_of_pixels_is_the_last_number_allowed() -> None:
    for source in (encode(plain(), "PNG"), plain()):
        assert load_image(source, max_pixels=24 * 16).shape == (16, 24, 3)
        with pytest.raises(ImageTooLarge, match="has 24 × 16 pixels, over the limit of 383 pixels"):
            load_image(source, max_pixels=24 * 16 - 1)


def test_the_limit_of_bytes_is_the_last_number_allowed(tmp_path: Path) -> None:
    data = encode(plain(), "PNG")
    path = tmp_path / "face.png"
    path.write_bytes(data)
    for source in (lambda: path, lambda: data, lambda: io.BytesIO(data)):
        assert_plain(load_image(source(), max_bytes=len(data)), ORANGE)
        with pytest.raises(ImageTooLarge, match="bytes"):
            load_image(source(), max_bytes=len(data) - 1)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.jpg"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: takes no room
    assert stat.S_ISREG(path.stat().st_mode)
    with pytest.raises(ImageTooLarge, match="200,000,001 bytes"):
        load_image(path)


def test_no_more_than_the_limit_and_one_byte_is_read_from_a_file_object() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            assert size > 0
            self.given += size
            return bytes(size)

    file = Endless()
    with pytest.raises(ImageTooLarge):
        load_image(file, max_bytes=3_000_000)  # type: ignore[arg-type]
    assert file.given == 3_000_001


def test_pillows_own_limit_and_state_are_left_alone() -> None:
    before = PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.WARN_POSSIBLE_FORMATS
    for data in (SAMPLES["JPEG"], SAMPLES["PNG"][:500], png(50_000, 50_000, 8, 2, b"\0")):
        with contextlib.suppress(ImageError):
            load_image(data)
    after = PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.WARN_POSSIBLE_FORMATS
    assert after == before
    assert before[0] == MAX_PIXELS // 2


# -------------------------------------------------------------------------------------- warnings and threads

# Pillow warns of a tag whose data lie outside the file; the picture itself is whole.
ODD_TIFF = encode(plain(), "TIFF", tiffinfo={305: "software" * 4}).replace(
    struct.pack("<HHI", 305, 2, 33), struct.pack("<HHI", 305, 2, 0x00FFFFFF)
)


def warn_in_pillow(data: bytes) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with PIL.Image.open(io.BytesIO(data)) as picture:
            picture.load()
    return caught


@pytest.mark.parametrize("action", ["error", "always", "default"])
def test_odd_metadata_costs_no_picture_and_says_nothing(action: Any) -> None:
    assert warn_in_pillow(ODD_TIFF)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        assert_plain(load_image(ODD_TIFF), ORANGE)
    assert caught == []


def test_a_large_picture_within_the_limit_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 24 * 16 - 1)  # as a picture of 100 megapixels would
    for kind in ("PNG", "TIFF", "GIF"):
        data = encode(plain(), kind)
        assert warn_in_pillow(data)
        assert_plain(load_image(data), ORANGE)


def test_warnings_of_other_threads_are_still_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, done = threading.Event(), threading.Event()
    load = PIL.ImageFile.ImageFile.load

    def slow(self: PIL.ImageFile.ImageFile) -> Any:
        inside.set()
        assert done.wait(10)
        return load(self)

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", slow)
    with ThreadPoolExecutor(1) as pool:
        image = pool.submit(load_image, encode(plain(), "PNG"))
        assert inside.wait(10)
        try:
            with pytest.raises(UserWarning, match="ours"):
                warnings.warn("ours", stacklevel=1)
        finally:
            done.set()
        assert_plain(image.result(), ORANGE)
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", stacklevel=1)


def test_threads_get_what_one_thread_gets() -> None:
    sources = [*SAMPLES.values(), ODD_TIFF, SAMPLES["PNG"][:200], b"rubbish"] * 5

    def outcome(data: bytes) -> bytes | str:
        try:
            return load_image(data).tobytes()
        except ImageError as error:
            return str(error)

    expected = [outcome(data) for data in sources]
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, sources)) == expected
    assert list(warnings.filters) == before


# ------------------------------------------------------------------------------------------ resize and crop


def test_resize_averages_whole_blocks() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 200  # without antialiasing a column would be 0 or 200
    inner = resize(image, 8)[:, 1:-1]
    assert inner.shape == (8, 6, 3)
    assert np.abs(inner.astype(int) - 100).max() <= 1


def test_resize_stretches_to_a_square() -> None:
    small = resize(load_image(quarters()), 10)
    assert small.shape == (10, 10, 3)
    assert corners(np.repeat(np.repeat(small, 4, 0), 4, 1)) == "RGB"


@pytest.mark.parametrize("shape", [(50, 70), (7, 5), (64, 64)])
def test_resize_is_pillows_bilinear(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    expected = PIL.Image.fromarray(image).resize((32, 32), PIL.Image.Resampling.BILINEAR)
    assert np.array_equal(resize(image, 32), np.asarray(expected))


def test_resize_to_the_same_size_copies_nothing() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    assert resize(image, 32) is image


def test_resize_takes_a_view() -> None:
    image = load_image(NOISE)
    assert np.array_equal(resize(crop(image, (5, 6, 37, 38)), 16), resize(image[6:38, 5:37].copy(), 16))


def test_resize_and_crop_keeps_the_central_square() -> None:
    image = np.zeros((32, 96, 3), np.uint8)
    image[:, 32:64] = ORANGE
    for strip in (image, image.transpose(1, 0, 2)):
        middle = resize_and_crop(strip, 16)
        assert middle.shape == (16, 16, 3)
        assert np.array_equal(np.unique(middle[2:-2, 2:-2].reshape(-1, 3), axis=0), [ORANGE])


SHAPES = [(64, 64), (65, 64), (64, 67), (1, 1), (8, 128), (97, 41), (41, 97), (50, 33), (333, 111), (9, 8)]
SHAPES += [tuple(pair) for pair in np.random.default_rng(7).integers(25, 200, (60, 2)).tolist()]


@pytest.mark.parametrize("size", [16, 33, 64, 101])
def test_resize_and_crop_equals_torchvision_bit_by_bit(size: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="the reference is torchvision")
    reference = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
    for shape in SHAPES:
        image = np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = np.asarray(reference(PIL.Image.fromarray(image)))
        assert np.array_equal(resize_and_crop(image, size), expected), shape


def test_resize_and_crop_to_the_same_size_copies_nothing() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    assert np.shares_memory(resize_and_crop(image, 32), image)


@pytest.mark.parametrize("shape", [(8, 40_000), (40_000, 8)])
def test_a_long_strip_costs_no_more_memory_than_a_short_one(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    tracemalloc.start()
    middle = resize_and_crop(image, 448)  # in full it would have 1 billion pixels
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert middle.shape == (448, 448, 3)
    assert peak < 50e6


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("change", [resize, resize_and_crop])
def test_resize_refuses_sizes_below_one(change: Callable[[Any, int], Any], size: int) -> None:
    with pytest.raises(InvalidArgument, match=f"at least 1 pixel, but got {size}"):
        change(np.zeros((4, 6, 3), np.uint8), size)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: resize(image, 8),
        lambda image: resize_and_crop(image, 8),
        lambda image: crop(image, (0, 0, 1, 1)),
    ],
)
def test_resize_and_crop_refuse_what_is_no_image(change: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidArgument, match="must be RGB uint8"):
        change(np.zeros((4, 4, 3), np.float32))


def test_crop_of_what_stays_with_pillow_has_the_same_pixels() -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cut = crop(PIL.Image.fromarray(array), (3, 2, 11, 9))
    assert size_of(cut) == (8, 7) == size_of(crop(array, (3, 2, 11, 9)))
    assert np.array_equal(np.asarray(cut), crop(array, (3, 2, 11, 9)))
    with pytest.raises(InvalidArgument, match="30 × 20"):
        crop(PIL.Image.fromarray(array), (3, 2, 31, 9))


def test_crop_is_a_view_of_left_top_right_bottom() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    part = crop(image, (1, 2, 5, 6))
    assert part.shape == (4, 4, 3)
    assert part.base is not None
    assert np.shares_memory(part, image)
    assert np.array_equal(part[0, 0], image[2, 1])
    assert crop(image, (0, 0, 8, 6)).shape == image.shape


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param((-1, 0, 4, 4), id="left of the picture"),
        pytest.param((0, 0, 9, 6), id="right of the picture"),
        pytest.param((0, 0, 8, 7), id="below the picture"),
        pytest.param((3, 0, 3, 4), id="no width"),
        pytest.param((0, 4, 4, 2), id="upside down"),
    ],
)
def test_crop_refuses_bounds_outside_the_picture(bounds: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidArgument, match="inside 8 × 6 pixels, but got"):
        crop(np.zeros((6, 8, 3), np.uint8), bounds)
