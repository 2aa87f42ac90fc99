"""What 200 ratings of one's own are worth: the student that ships before and after recipes/finetune.toml.

    python examples/finetune.py runs/small/L.csv runs/finetune [--ratings 200] [--draws 3]

The ratings are drawn from the manifest's *validation* rows, which the student has never seen; what is left
measures it. `--faces largest` cuts the square around each picture's largest face first, as users'
photos are scored, so the task becomes to judge a photo by the face in it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from efiqa import Scorer
from efiqa.faces import Box, face_crop
from efiqa.image import load_image
from efiqa.records import Row, read_manifest, write_manifest
from efiqa.train.fit import fit
from efiqa.train.recipe import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "finetune.toml"


def face_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows whose picture has a face, cut to the largest one's square."""
    scorer = Scorer()
    found = scorer.score_many((row.image for row in rows), faces="largest")
    cut = []
    for row, face in zip(rows, found, strict=True):
        if face.score is None or face.x is None:
            continue
        height, width = load_image(row.image).shape[:2]
        box = Box(face.x, face.y or 0.0, face.width or 0.0, face.height or 0.0)
        left, top, right, bottom = face_crop(box, width, height, scale=scorer.card.crop_scale)
        cut.append(dataclasses.replace(row, x=left, y=top, width=right - left, height=bottom - top))
    return cut


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ratings", type=int, default=200)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--faces", choices=["none", "largest"], default="none")
    arguments = parser.parse_args()
    rows = [
        row
        for row in read_manifest(arguments.manifest)
        if row.split == "validation" and row.score is not None
    ]
    if arguments.faces == "largest":
        rows = face_rows(rows)
    gains = []
    for draw in range(arguments.draws):
        order = np.random.default_rng(draw).permutation(len(rows))
        learnt = set(order[: arguments.ratings].tolist())
        # Groups kept the drawn splits of the study apart; here each picture stands for itself.
        mine = [
            dataclasses.replace(row, group="", split="train" if index in learnt else "validation")
            for index, row in enumerate(rows)
        ]
        name = arguments.folder / f"ratings-{arguments.faces}-{draw}.csv"
        write_manifest(name, mine)
        recipe = load_recipe(
            RECIPE, [f'data.train=["{name}"]', f'data.validation=["{name}"]', f"run.seed={draw}"]
        )
        position = fit(recipe, name.with_suffix(""))
        before, after = position.before["srcc"], position.metrics["srcc"]
        gains.append(after - before)
        print(
            f"draw {draw}: {arguments.ratings} ratings, {len(rows) - len(learnt)} pictures to measure on: "
            f"SRCC {before:.3f} → {after:.3f} ({after - before:+.3f})"
        )
    print(f"mean gain {np.mean(gains):+.3f}, from {min(gains):+.3f} to {max(gains):+.3f}")


if __name__ == "__main__":
    main()
