"""What decoding large JPEGs smaller does to scores, boxes and time.

    python benchmarks/reduced.py PICTURES [--photos 20]

PICTURES is a folder or manifest of faces. Each photo of 12 megapixels holds one of them, enlarged to 3,000 px
with sensor grain on it, on a mosaic of others at their own size, and is saved as JPEG of quality 90. It is
scored as efiqa does, and decoded whole first; the two take turns. Prints differences, and CPU ms a photo of
the one thread that does it.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import numpy as np
import PIL.Image

from efiqa import Scorer, load_image
from efiqa.records import Prediction
from efiqa.sources import expand

WIDTH, HEIGHT, FACE = 4000, 3000, 3000


def photo(paths: list[Path], generator: np.random.Generator) -> bytes:
    """A JPEG: the first picture large, the others beside and behind it."""
    canvas = PIL.Image.new("RGB", (WIDTH, HEIGHT))
    tiles = [PIL.Image.fromarray(load_image(path)).resize((500, 500)) for path in paths[1:]]
    for index in range((WIDTH // 500) * (HEIGHT // 500)):
        canvas.paste(tiles[index % len(tiles)], (index % 8 * 500, index // 8 * 500))
    face = PIL.Image.fromarray(load_image(paths[0]))
    canvas.paste(face.resize((FACE, FACE), PIL.Image.Resampling.LANCZOS), (WIDTH - FACE, HEIGHT - FACE))
    grain = generator.normal(0, 4, (HEIGHT, WIDTH, 1))
    pixels = np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--model", help="file, or name of one that ships; default: student")
    arguments = parser.parse_args()
    paths = [Path(item.path) for item in expand([arguments.pictures])]
    generator = np.random.default_rng(0)
    scorer = Scorer(arguments.model)
    print(
        "| | photos | mean, largest change of a score | largest change of a box, px "
        "| ms, whole | ms, reduced | ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for faces in ("none", "largest"):
        changes: list[float] = []
        boxes: list[float] = []
        times: dict[str, list[float]] = {"whole": [], "reduced": []}
        for _ in range(arguments.photos):
            chosen = [paths[at] for at in generator.choice(len(paths), 13, replace=False)]
            data = photo(chosen, generator)
            rows: dict[str, Prediction] = {}
            for way in times:
                started = time.thread_time()
                rows[way] = scorer.predict(data if way == "reduced" else load_image(data), faces=faces)[0]
                times[way].append(1000 * (time.thread_time() - started))
            whole, reduced = rows["whole"], rows["reduced"]
            if whole.score is None or reduced.score is None:
                print(f"{faces}: {whole.status} whole, {reduced.status} reduced")
                continue
            changes.append(abs(whole.score - reduced.score))
            ends = [(whole.x, reduced.x), (whole.y, reduced.y), (whole.width, reduced.width)]
            boxes += [abs(a - b) for a, b in ends if a is not None and b is not None]
        ms = {way: statistics.median(values) for way, values in times.items()}
        moved = f"{max(boxes):.1f}" if boxes else ""
        print(
            f"| --faces {faces} | {len(changes)} | {np.mean(changes):.5f}, {max(changes):.5f} | {moved} "
            f"| {ms['whole']:.0f} | {ms['reduced']:.0f} | {ms['whole'] / ms['reduced']:.2f} |"
        )


if __name__ == "__main__":
    main()
