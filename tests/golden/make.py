"""What two implementations must agree on: this package and the page in `page/`.

    python tests/golden/make.py

writes `pictures/`, `golden.json` (what the package makes of them) and `page/src/known.json` (what the page
needs to know of the package). Run it after the student, a policy or a rule has changed. The pictures are made
of the samples in `examples/samples`, which are in the public domain or CC0; only those that are missing are
made, since another release of a codec may write other bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageCms
from PIL.Image import Transpose

from efiqa import Scorer, load_image
from efiqa.attributes import measure
from efiqa.faces import BlazeFace, face_crop
from efiqa.image import Image, crop, resize
from efiqa.policy import Policy, decide, read_policy, shipped_policies
from efiqa.records import ATTRIBUTES, COLUMNS, Prediction

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SAMPLES = ROOT / "examples" / "samples"
PICTURES = HERE / "pictures"
GOLDEN = HERE / "golden.json"
KNOWN = ROOT / "page" / "src" / "known.json"

CHECK_SIDE = 320
RESIZES = [
    # width, height → width, height, reducing gap
    (640, 480, 256, 192, 2.0),
    (1301, 977, 256, 192, 2.0),
    (1301, 977, 160, 120, 2.0),
    (2000, 300, 256, 38, 2.0),
    (300, 1999, 67, 448, 2.0),
    (200, 150, 256, 192, 2.0),
    (333, 333, 320, 320, None),
    (71, 71, 320, 320, None),
    (911, 911, 320, 320, None),
    (57, 91, 128, 128, None),
    (320, 640, 320, 320, None),
    (9, 8, 9, 8, None),
]
CROPS = [(10.0, 20.0, 21.0, 20.0), (-5.3, 3.1, 40.2, 51.7), (180.4, 90.5, 60.0, 44.4), (0.5, 0.5, 3.0, 2.0)]
# How a camera lays an upright picture down that it then marks with this EXIF orientation.
LAID = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM}
LAID |= {5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_90, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_270}


def noise(width: int, height: int) -> Image:
    """A picture that any language can make: a linear congruential generator's high bytes."""
    count = width * height * 3
    state, values = 1, bytearray(count)
    for at in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        values[at] = state >> 23
    return np.frombuffer(bytes(values), np.uint8).reshape(height, width, 3)


def check_picture() -> Image:
    """What the page scores once to see that the runtime of a browser counts as this one."""
    y, x, channel = np.indices((CHECK_SIDE, CHECK_SIDE, 3))
    return np.asarray((x * 3 + y * 5 + channel * 40 + (x * y) // 64) % 256, np.uint8)


def portrait(name: str, width: int) -> PIL.Image.Image:
    picture = PIL.Image.open(SAMPLES / f"{name}.jpg").convert("RGB")
    return picture.resize((width, round(picture.height * width / picture.width)))


def saved(name: str, picture: PIL.Image.Image, **options: Any) -> None:
    path = PICTURES / name
    if not path.exists():
        picture.save(path, **options)


def odd_profile() -> bytes:
    """A colour profile that, applied, swaps red and blue: it must not be applied."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tmp!", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"tmp!", b"bXYZ", 1)


def make_pictures() -> None:
    """Every way of a decoder that people's photos take, in few bytes."""
    PICTURES.mkdir(exist_ok=True)
    hopper, astronaut = portrait("grace_hopper", 200), portrait("astronaut", 256)
    for orientation, turn in LAID.items():
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        saved(f"orientation_{orientation}.jpg", hopper.transpose(turn), quality=80, exif=exif)
    group = PIL.Image.linear_gradient("L").resize((1400, 1000)).convert("RGB")
    for name, width, place in (
        ("astronaut", 420, (60, 80)),
        ("grace_hopper", 300, (620, 420)),
        ("astronaut", 150, (1100, 120)),
        ("grace_hopper", 90, (1200, 640)),
    ):
        group.paste(portrait(name, width), place)
    saved("group.jpg", group, quality=80, progressive=True)
    saved("large.jpg", group.resize((2101, 1501)), quality=60)  # is reduced before faces are looked for
    saved("odd_422.jpg", astronaut.crop((3, 5, 254, 252)), quality=85, subsampling="4:2:2")
    saved("profile.jpg", astronaut, quality=80, icc_profile=odd_profile())
    saved("cmyk.jpg", astronaut.convert("CMYK"), quality=80)
    transparent = hopper.convert("RGBA")
    transparent.putalpha(PIL.Image.radial_gradient("L").resize(hopper.size).point(lambda level: 255 - level))
    saved("alpha.png", transparent.quantize(64), transparency=5)
    saved(
        "grey16.png", PIL.Image.fromarray((np.asarray(astronaut.convert("L")).astype(np.uint16) * 256) + 200)
    )
    saved("photo.webp", astronaut, quality=80)
    saved("photo.avif", astronaut, quality=70)
    saved("photo.gif", hopper.quantize(32))
    saved("photo.bmp", portrait("grace_hopper", 120))
    saved("nobody.png", PIL.Image.linear_gradient("L").resize((400, 300)))
    (PICTURES / "text.jpg").write_bytes(b"This is no picture.\n")
    (PICTURES / "cut.jpg").write_bytes((PICTURES / "orientation_3.jpg").read_bytes()[:6000])
    (PICTURES / "empty.png").write_bytes(b"")


def digest(image: Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def faces_of(scorer: Scorer, path: Path) -> list[dict[str, Any]]:
    """The rows of one picture, with attributes, and the decision of each shipped policy."""
    rows = []
    for row in scorer.predict(path, name=path.name):
        found = None
        if row.status == "ok":
            image = load_image(path)
            face = BlazeFace().detect(image)[row.face]
            found = measure(image, replace(face, box=face.box.rounded(1)))
        cells = {name: getattr(row, name) for name in (*COLUMNS, *ATTRIBUTES, "reasons")}
        if row.status not in ("ok", "no_face"):
            cells["message"] = ""  # names the path
        decisions = {name: decisions_of(policy, row, found) for name, policy in policies().items()}
        rows.append({**cells, "decisions": decisions})
    return rows


def decisions_of(policy: Policy, row: Prediction, found: Any) -> list[Any]:
    decision, why = decide(policy, row, found)
    return [decision, list(why)]


def policies() -> dict[str, Policy]:
    return {name: read_policy(name) for name in shipped_policies()}


def golden() -> dict[str, Any]:
    """What the package makes of every picture now."""
    scorer = Scorer(attributes=True, runtime="onnxruntime")
    pictures = {}
    for path in (*sorted(SAMPLES.glob("*.jpg")), *sorted(PICTURES.iterdir())):
        rows = faces_of(scorer, path)
        entry: dict[str, Any] = {"rows": rows}
        if rows[0]["status"] in ("ok", "no_face"):
            image = load_image(path)
            entry |= {"width": image.shape[1], "height": image.shape[0], "digest": digest(image)}
        pictures[path.relative_to(ROOT).as_posix()] = entry
    resizes = []
    for width, height, across, down, gap in RESIZES:
        picture = PIL.Image.fromarray(noise(width, height))
        small = picture.resize((across, down), PIL.Image.Resampling.BILINEAR, reducing_gap=gap)
        resizes.append([width, height, across, down, gap, digest(np.asarray(small))])
    crops = [[*box, list(face_crop(_box(box), 240, 135))] for box in CROPS]
    square = noise(400, 300)
    part = digest(resize(crop(square, (37, 21, 300, 284)), 128))
    return {"pictures": pictures, "resizes": resizes, "crops": crops, "part": part}


def _box(values: tuple[float, float, float, float]) -> Any:
    from efiqa.faces import Box

    return Box(*values)


def known() -> dict[str, Any]:
    """What the page needs to know of the package, besides the model's card."""
    scorer = Scorer(runtime="onnxruntime")
    names = ("on", "reject_below", "accept_from", "attributes", "about")
    return {
        "check": scorer.score(check_picture()),
        "digest": scorer.digest,
        "columns": list(COLUMNS),
        "policies": {
            name: {key: getattr(policy, key) for key in names} for name, policy in policies().items()
        },
    }


def main() -> None:
    make_pictures()
    for path, content in ((GOLDEN, golden()), (KNOWN, known())):
        text = io.StringIO()
        json.dump(content, text, indent=1, ensure_ascii=False)
        path.write_text(text.getvalue() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
