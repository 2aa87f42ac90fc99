"""Do scores fall when a face gets worse? Share of adjacent pairs of degradation ladders in the right order.

    python benchmarks/ladders.py MANIFEST [--model MODEL] [--faces 100] [--split validation]

Each face of the split is scored as it is and at five severities of each kind (efiqa.degrade), so each
ladder has five adjacent pairs. A tie counts as wrong. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from efiqa import Scorer
from efiqa.degrade import KINDS, degrade
from efiqa.records import read_manifest
from efiqa.sources import load_row

SEVERITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--split", default="validation")
    arguments = parser.parse_args()
    rows = [row for row in read_manifest(arguments.manifest) if row.split == arguments.split][
        : arguments.faces
    ]
    images = [load_row(row) for row in rows]
    scorer = Scorer(arguments.model)
    print(f"{scorer.card.name} {scorer.card.version}, {len(images)} faces, split {arguments.split}\n")
    print(
        "| degradation | right order | worst step | mean score at severity "
        + ", ".join(map(str, SEVERITIES))
        + " |"
    )
    print("|---|---|---|---|")
    for kind in KINDS:
        made = [
            degrade(image, kind, severity, seed)
            for seed, image in enumerate(images)
            for severity in SEVERITIES
        ]
        rows_scored = scorer.score_many(made, faces="none")
        scores = np.array([row.score for row in rows_scored], np.float64).reshape(len(images), -1)
        right = np.diff(scores, axis=1) < 0
        means = ", ".join(f"{value:.3f}" for value in scores.mean(axis=0))
        print(f"| {kind} | {right.mean():.1%} | {right.mean(axis=0).min():.1%} | {means} |")


if __name__ == "__main__":
    main()
