"""Small random pictures to prove the study's steps on, and a model's proof that it learnt from them.

    python recipes/tiny.py FOLDER [--seed 0]
    python recipes/tiny.py --check MODEL.onnx [--seed 1]

The first writes pictures, 72 to 88 px, and three manifests into FOLDER: L.csv (64 rows to learn from, 24
to validate on, labelled), U1.csv and U2.csv (48 unlabelled rows each). Every picture is degraded once, by
blur or downscaling, at a severity drawn from 0–1; its label is 1 − severity.

The second blurs fresh pictures at four severities and ends with 0 only if the model's mean score falls from
each to the next and at least 80 % of adjacent pairs are in order, ties being wrong; otherwise with 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from efiqa import Scorer
from efiqa.degrade import degrade
from efiqa.image import Image
from efiqa.records import Row, write_manifest

SETS = {"L": (64, 24), "U1": (48, 0), "U2": (48, 0)}
"""Name → rows of split train and validation."""
KINDS = ("blur", "downscale")
"""Both take detail away: what pulls a score one way is learnt within minutes from random weights."""
SEVERITIES = (0.25, 0.5, 0.75, 1.0)
ENOUGH = 0.8
SMOOTHING = 4
"""Pictures are drawn so many times larger: edges like a photo's, so that mild blur is seen."""


def draw(generator: np.random.Generator) -> Image:
    """One picture, uint8 (side, side, 3): stripes on a gradient, ellipses, a face of ellipses and lines."""
    side = int(generator.integers(72, 89)) * SMOOTHING
    ends = generator.integers(0, 256, (2, 3))
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    angle = generator.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + 0.7 * ((across - 0.5) * np.cos(angle) + (down - 0.5) * np.sin(angle)), 0, 1)
    picture = ends[0] * ramp[..., np.newaxis] + ends[1] * (1 - ramp[..., np.newaxis])
    phase = generator.uniform(8, 16) * 2 * np.pi * (across * np.sin(angle) + down * np.cos(angle))
    picture += generator.uniform(15, 60) * np.sign(np.sin(phase))[..., np.newaxis]
    canvas = PillowImage.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)

    def ellipse(x: float, y: float, width: float, height: float, colour: tuple[int, ...]) -> None:
        """Centre and size, in shares of the side."""
        bounds = [side * value for value in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]
        pen.ellipse(bounds, fill=colour)

    def colour() -> tuple[int, ...]:
        return tuple(generator.integers(0, 256, 3).tolist())

    for _ in range(6):
        ellipse(*generator.uniform(0, 1, 2), *generator.uniform(0.05, 0.3, 2), colour())
    x, y, size = (*generator.uniform(0.4, 0.6, 2), generator.uniform(0.5, 0.8))
    tone = int(generator.integers(110, 240))
    skin = (tone, round(0.8 * tone), round(0.7 * tone))
    ellipse(x, y - 0.1 * size, 0.85 * size, size, colour())
    ellipse(x, y, 0.7 * size, 0.9 * size, skin)
    for eye in (-0.16, 0.16):
        ellipse(x + eye * size, y - 0.1 * size, 0.16 * size, 0.09 * size, (245, 245, 245))
        ellipse(x + eye * size, y - 0.1 * size, 0.07 * size, 0.07 * size, (25, 20, 30))
        brow = [side * (x + (eye + end) * size) for end in (-0.1, 0.1)]
        pen.line(
            [brow[0], side * (y - 0.2 * size), brow[1], side * (y - 0.2 * size)], (40, 30, 20), SMOOTHING
        )
    ellipse(x, y + 0.05 * size, 0.08 * size, 0.16 * size, tuple(round(0.8 * value) for value in skin))
    ellipse(x, y + 0.25 * size, 0.26 * size, 0.08 * size, (150, 40, 50))
    small = canvas.resize((side // SMOOTHING,) * 2, PillowImage.Resampling.BOX)
    return np.asarray(small)


def write_sets(folder: Path, seed: int) -> None:
    """The pictures and manifests of all SETS; the same for the same seed."""
    for number, (name, (train, validation)) in enumerate(SETS.items()):
        rows = list(_rows(folder / name, train, validation, np.random.default_rng([seed, number])))
        write_manifest(folder / f"{name}.csv", rows if validation else [_unlabelled(row) for row in rows])


def _rows(folder: Path, train: int, validation: int, generator: np.random.Generator) -> Iterator[Row]:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(train + validation):
        severity = float(generator.random())
        kind = KINDS[index % len(KINDS)]
        picture = degrade(draw(generator), kind, severity, int(generator.integers(2**31)))
        path = folder / f"{index:02d}.png"
        PillowImage.fromarray(picture).save(path)
        split = "train" if index < train else "validation"
        yield Row(
            str(path),
            score=round(1 - severity, 4),
            split=split,
            source="human",
            group=f"{folder.name}/{index:02d}",
        )


def _unlabelled(row: Row) -> Row:
    return Row(row.image, split=row.split, group=row.group)


def check(scorer: Scorer, seed: int, pictures: int = 30) -> tuple[list[float], float]:
    """Mean score at each of SEVERITIES of blur, and the share of adjacent pairs in order."""
    generator = np.random.default_rng(seed)
    drawn = [draw(generator) for _ in range(pictures)]
    made = (degrade(picture, "blur", severity) for picture in drawn for severity in SEVERITIES)
    scored = [row.score for row in scorer.score_many(made, faces="none")]
    scores = np.array(scored, np.float64).reshape(pictures, -1)
    return scores.mean(axis=0).tolist(), float((np.diff(scores, axis=1) < 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", type=Path)
    what.add_argument("--check", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    if arguments.check is None:
        write_sets(arguments.folder, arguments.seed or 0)
        return
    means, share = check(Scorer(arguments.check), 1 if arguments.seed is None else arguments.seed)
    learnt = bool((np.diff(means) < 0).all()) and share >= ENOUGH
    verdict = "enough" if learnt else f"expected {ENOUGH:.0%} and falling means"
    print(f"mean score at blur {', '.join(f'{s}: {m:.3f}' for s, m in zip(SEVERITIES, means, strict=True))}")
    print(f"{share:.0%} of adjacent pairs in order: {verdict}")
    sys.exit(0 if learnt else 1)


if __name__ == "__main__":
    main()
