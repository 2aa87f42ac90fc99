"""One door for pictures: a path, bytes, a file object, a Pillow image or an array becomes an `Image`.

An `Image` is RGB, uint8, (H, W, 3), in [0, 255], upright. What is done on the way in:

- EXIF orientation is applied; of several frames or pages the first is taken.
- Transparent pixels lie on white, as on a page.
- 16 bits become 8 by their high byte. 1 bit, palette, grey, CMYK and YCCK become RGB.
- ICC profiles are not applied: sample values are taken as sRGB. A Display P3 photo therefore looks a little
  less saturated; in return the same bytes give the same score wherever they are decoded.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar, cast, overload

import numpy as np
import PIL.features
import PIL.Image
from numpy.typing import NDArray
from PIL.Image import Transpose

from efiqa.errors import (
    CorruptImage,
    EmptyImage,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
    InvalidArgument,
    MissingExtra,
    NotAFile,
    NotAnImage,
)

T = TypeVar("T")
Image: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | PIL.Image.Image | Image
Decoded: TypeAlias = Image | PIL.Image.Image
"""An `Image`, or the same pixels as Pillow has them, RGB and upright: to make an array of them is a copy."""

# More than the JPEG of any camera and nearly every TIFF; it bounds what one bad file can cost to read.
MAX_BYTES = 200_000_000
# Twice Pillow's default limit, where Pillow itself refuses. Cameras of 100 and 150 megapixels pass, and
# decoding one picture stays below 2 GB (about 10 bytes a pixel at the peak).
MAX_PIXELS = 178_956_970
# A whole picture scaled to a shorter side of 448 pixels stays below 13 MB.
LONGEST_STRIP = 16

# Nothing else is ever tried, so that Pillow's rarer plugins never see a stranger's bytes. A group is named
# as Pillow names its plugin.
_SIGNATURE = re.compile(
    rb"(?P<Jpeg>\xff\xd8\xff)|(?P<Png>\x89PNG\r\n\x1a\n)|(?P<Gif>GIF8[79]a)|(?P<Bmp>BM)"
    rb"|(?P<Tiff>II[*+]\0|MM\0[*+])|(?P<WebP>RIFF.{4}WEBP)|(?P<ftyp>.{4}ftyp)",
    re.DOTALL,
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

# The turn that puts a picture upright, by EXIF orientation.
_UPRIGHT = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM}
_UPRIGHT |= {5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}

# Pillow's modes of 8 bits or less a sample that it converts to RGB; those of 16 bits are converted here.
_MODES = {"1", "L", "P", "LA", "PA", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"}

# What Pillow and its codecs raise over damaged bytes; whatever reads from outside has ended by then.
_DAMAGE: tuple[type[Exception], ...] = (OSError, EOFError, SyntaxError, ValueError, TypeError, RuntimeError)
_DAMAGE += (LookupError, ArithmeticError, AttributeError, AssertionError, struct.error, zlib.error, Warning)


class _Quiet(threading.local):
    """Silences Pillow's warnings about odd metadata, in the thread that enters it and in no other.

    `warnings.catch_warnings` would swap the filters of the whole process, and threads would leave each
    other's behind. Without silence, good pictures would be lost wherever warnings are turned into errors.
    """

    active = False

    def __enter__(self) -> None:
        filters = cast("list[Any]", warnings.filters)
        if not filters or filters[0][1] is not self:
            filters.insert(0, ("ignore", self, Warning, None, 0))
        self.active = True

    def __exit__(self, *_: object) -> None:
        self.active = False

    def match(self, _text: str) -> bool:  # stands in the filter in place of a pattern for the text
        return self.active


_quiet = _Quiet()


def load_image(source: Source, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> Image:
    """Return `source` as RGB uint8 (H, W, 3), upright. What was decoded here is read-only.

    A file object is read from where it stands. An array must already be RGB uint8 (H, W, 3) and is returned
    as it is. A Pillow image is left as it was. `max_bytes` and `max_pixels` are checked before anything is
    decoded; a file of more than twice `PIL.Image.MAX_IMAGE_PIXELS` pixels is refused in any case.

    Raises ImageNotFound, NotAFile, ImageUnreadable, EmptyImage, NotAnImage, CorruptImage or ImageTooLarge for
    a picture that cannot be used, InvalidArgument for an argument that cannot be a picture.
    """
    return _loaded(source, None, max_bytes, max_pixels, np.asarray)[0]


def decode_reduced(
    source: Source, shorter_side: int | None, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> tuple[Decoded, int]:
    """As `load_image`, but left as Pillow has it, for who cuts or resizes it next: two copies fewer.

    A large JPEG is 2, 4 or 8 times smaller each way, and how many times comes second, else 1. As small as
    leaves its shorter side at least `shorter_side` pixels: libjpeg then decodes fewer frequencies of each
    block (DCT scaling), in a fraction of the time and memory. Sides are rounded up.
    """
    return _loaded(source, shorter_side, max_bytes, max_pixels, _as_it_is)


def _as_it_is(picture: PIL.Image.Image) -> PIL.Image.Image:
    return picture


def _loaded(
    source: Source,
    shorter_side: int | None,
    max_bytes: int,
    max_pixels: int,
    finish: Callable[[PIL.Image.Image], T],
) -> tuple[T | Image, int]:
    if isinstance(source, np.ndarray):
        return _checked(source), 1
    if isinstance(source, PIL.Image.Image):
        return _decoded(source, "the Pillow image", max_pixels, None, finish)
    if isinstance(source, str | os.PathLike):
        path = os.fsdecode(source)
        name = repr(path)  # keeps a newline or an undecodable byte printable
        data = _read_path(path, name, max_bytes)
    elif isinstance(source, bytes | bytearray | memoryview):
        name, data = "the byte string", bytes(source)
    elif hasattr(source, "read"):
        name = "the file object"
        data = _read_stream(source, name, max_bytes)
    else:
        kind = f"{type(source).__module__}.{type(source).__qualname__}"
        expected = "a path, bytes, a binary file object, a Pillow image or an RGB uint8 array"
        raise InvalidArgument(f"source must be {expected}, but got {kind}")
    if not data:
        raise EmptyImage(f"{name} is empty: 0 bytes")
    if len(data) > max_bytes:
        raise ImageTooLarge(f"{name} has more bytes than the limit of {max_bytes:,}")
    return _decoded(data, name, max_pixels, shorter_side, finish)


def resize(image: Decoded, size: int) -> Image:
    """Return `image` stretched to (size, size, 3); an array of that shape already is returned itself.

    Pillow's BILINEAR, whose support widens as the picture shrinks (antialiasing), is the rule; every other
    implementation is held to it. Raises InvalidArgument for a size below 1.
    """
    return _stretched(image, size, (size, size))


def resize_and_crop(image: Decoded, size: int) -> Image:
    """Return the central (size, size, 3) of `image`, scaled as in `resize` to a shorter side of `size`.

    The longer side is rounded down and the crop's offset to the nearest pixel, a half to the even one: the
    same pixels as torchvision's Resize and CenterCrop give. Only of a strip more than LONGEST_STRIP times as
    long as wide the ends, far outside the crop, are left out of the scaling, so that memory stays bounded.
    Raises InvalidArgument for a size below 1.
    """
    image = np.asarray(image)
    height, width = _checked(image).shape[:2]
    reach = LONGEST_STRIP * min(height, width)
    top, left = max(0, height - reach) // 2, max(0, width - reach) // 2
    image = image[top : top + reach, left : left + reach]
    height, width = image.shape[:2]
    shorter = min(height, width)
    image = _stretched(image, size, (size * height // shorter, size * width // shorter))
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def _stretched(image: Decoded, size: int, shape: tuple[int, int]) -> Image:
    """`image` at `shape`, (height, width), whose shorter side is `size`."""
    if size < 1:
        raise InvalidArgument(f"size must be at least 1 pixel, but got {size}")
    if not isinstance(image, PIL.Image.Image):
        if _checked(image).shape[:2] == shape:
            return image
        image = PIL.Image.fromarray(image)
    return np.asarray(image.resize(shape[::-1], PIL.Image.Resampling.BILINEAR, reducing_gap=None))


def size_of(image: Decoded) -> tuple[int, int]:
    """Width and height in pixels."""
    if isinstance(image, PIL.Image.Image):
        return image.size
    height, width = _checked(image).shape[:2]
    return width, height


@overload
def crop(image: Image, bounds: tuple[int, int, int, int]) -> Image: ...
@overload
def crop(image: Decoded, bounds: tuple[int, int, int, int]) -> Decoded: ...
def crop(image: Decoded, bounds: tuple[int, int, int, int]) -> Decoded:
    """Return `image` inside `bounds`: left, top, right, bottom in pixels, the last two exclusive.

    Of an array it is a view. Raises InvalidArgument for bounds that are empty or reach outside.
    """
    left, top, right, bottom = bounds
    width, height = size_of(image)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        inside = f"(left, top, right, bottom) inside {width} × {height} pixels"
        raise InvalidArgument(f"bounds must be {inside}, but got {bounds}")
    if isinstance(image, PIL.Image.Image):
        return image.crop(bounds)
    return image[top:bottom, left:right]


def _checked(array: NDArray[Any]) -> Image:
    """Return `array` if it is an Image; otherwise say what it looks like."""
    shape = array.shape
    if array.dtype == np.uint8 and len(shape) == 3 and shape[2] == 3:
        if 0 in shape:
            raise EmptyImage(f"the array has no pixels: shape {shape}")
        return array
    hint = None
    if len(shape) == 3 and shape[2] == 3:
        hint = "scale the values to 0…255 and convert them to np.uint8"
    elif len(shape) == 3 and shape[0] == 3:
        hint = "this looks like (C, H, W): transpose it with array.transpose(1, 2, 0)"
    elif len(shape) == 4:
        hint = "this looks like a batch: give its pictures one at a time"
    elif len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 2, 4)):
        hint = "this looks grey or with alpha: give load_image(PIL.Image.fromarray(array))"
    got = f"{array.dtype} with shape {shape}"
    raise InvalidArgument(f"an array must be RGB uint8 with shape (H, W, 3), but got {got}", hint=hint)


def _read_path(path: str, name: str, max_bytes: int) -> bytes:
    try:
        status = Path(path).stat()  # before opening: a pipe may block for ever, a device may act
        if stat.S_ISDIR(status.st_mode):
            raise NotAFile(f"{name} is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile(f"{name} is a pipe, socket or device, not a file")
        if status.st_size > max_bytes:
            raise ImageTooLarge(f"{name} has {status.st_size:,} bytes, over the limit of {max_bytes:,}")
        with Path(path).open("rb") as file:
            return file.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageNotFound(f"there is no file {name}") from error
    except ValueError as error:  # a NUL, or a character that the file system cannot hold
        raise ImageNotFound(f"there is no file {name}: no file can have this name") from error
    except OSError as error:
        raise ImageUnreadable(f"{name} cannot be read: {error.strerror or error}") from error


def _read_stream(stream: BinaryIO, name: str, max_bytes: int) -> bytes:
    """Read to the end, but at most one byte more than `max_bytes`."""
    data = bytearray()
    while len(data) <= max_bytes:
        try:
            part: object = stream.read(min(1 << 20, max_bytes + 1 - len(data)))
        except (OSError, ValueError) as error:  # ValueError: the file object is closed
            raise ImageUnreadable(f"{name} cannot be read: {error}") from error
        if not isinstance(part, bytes):
            kind = type(part).__name__
            raise InvalidArgument(f"{name} must give bytes, but gave {kind}", hint='open it in mode "rb"')
        if not part:
            break
        data += part
    return bytes(data)


def _decoded(
    source: bytes | PIL.Image.Image,
    name: str,
    max_pixels: int,
    shorter_side: int | None,
    finish: Callable[[PIL.Image.Image], T],
) -> tuple[T, int]:
    try:
        with _quiet:
            picture = _opened(source, name) if isinstance(source, bytes) else source
            width, height = picture.size
            if width * height > max_pixels:
                limit = f"the limit of {max_pixels:,} pixels"
                raise ImageTooLarge(f"{name} has {width} × {height} pixels, over {limit}")
            if width * height == 0:
                raise EmptyImage(f"{name} has no pixels: {width} × {height}")
            reduction = 1 if shorter_side is None else _reduce(picture, shorter_side)
            picture.load()
            turn = _UPRIGHT.get(_orientation(picture))
            picture = _rgb(picture, name)
            return finish(picture if turn is None else picture.transpose(turn)), reduction
    except PIL.Image.DecompressionBombError as error:
        raise ImageTooLarge(f"{name} has more pixels than Pillow's limit: {error}") from error
    except MemoryError as error:
        raise ImageTooLarge(f"{name} needs more memory to decode than there is") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CorruptImage(f"{name} is damaged and cannot be decoded: {reason}") from error


def _reduce(picture: PIL.Image.Image, shorter_side: int) -> int:
    """Have an opened picture decoded smaller, where its format can; how many times each way."""
    width, height = picture.size
    for reduction in (8, 4, 2):
        if min(width, height) >= reduction * shorter_side:
            picture.draft(None, (width // reduction, height // reduction))
            return 1 if picture.size == (width, height) else reduction
    return 1


def _opened(data: bytes, name: str) -> PIL.Image.Image:
    """Read the header, and no more, with the one plugin that the first bytes name."""
    found = _SIGNATURE.match(data)
    plugin = found.lastgroup if found else None
    if plugin == "ftyp":  # the box lists what the file can be read as; mif1 and msf1 alone say little
        brands = {data[at : at + 4] for at in (8, *range(16, min(int.from_bytes(data[:4]), 256), 4))}
        plugin = "Avif" if brands & {b"avif", b"avis"} else "Heif" if brands & _HEIF_BRANDS else None
    if plugin is None:
        known = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
        raise NotAnImage(f"{name} must be {known}, but begins with {data[:16]!r}")
    if plugin == "Heif":
        try:
            heif = importlib.import_module("pillow_heif")
        except ImportError as error:
            extra = MissingExtra("pillow-heif", extra="heic")
            raise NotAnImage(f"{name} is HEIC; {extra}", hint=extra.hint) from error
        return cast("PIL.Image.Image", heif.HeifImageFile(io.BytesIO(data)))
    # Else Pillow would import every plugin it has to find one that is not loaded yet.
    importlib.import_module(f"PIL.{plugin}ImagePlugin")
    try:
        return PIL.Image.open(io.BytesIO(data), formats=(plugin.upper(),))
    except PIL.UnidentifiedImageError as error:
        if plugin in {"Avif", "WebP"} and not PIL.features.check(plugin.lower()):
            raise NotAnImage(f"{name} is {plugin.upper()}, which this build of Pillow cannot read") from error
        raise CorruptImage(f"{name} begins like {plugin.upper()}, but its header is damaged") from error


def _orientation(picture: PIL.Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        value = picture.getexif().get(0x0112, 1)
    except _DAMAGE:  # broken metadata must not cost a good picture
        return 1
    return value if isinstance(value, int) else 1


def _rgb(picture: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise NotAnImage(f"{name} has samples outside 0…65535; expected 8 or 16 bits")
        return PIL.Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode not in _MODES:
        expected = "expected 8 or 16 bits of grey, RGB or CMYK"
        raise NotAnImage(f"{name} has samples of kind {picture.mode}; {expected}")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        page = PIL.Image.new("RGB", picture.size, "white")
        page.paste(picture, mask=picture)
        return page
    return picture if picture.mode == "RGB" else picture.convert("RGB")
