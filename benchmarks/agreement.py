"""Agreement of models with human ratings on held-out pictures: SRCC and PLCC with bootstrap intervals.

    python benchmarks/agreement.py MANIFEST MODEL…

Rows of split `validation` are scored as whole pictures (--faces none) and by their largest face
(--faces largest), by the real Scorer. PLCC is raw, without a fit. Prints a Markdown table.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from efiqa import Scorer
from efiqa.metrics import bootstrap_interval, plcc, srcc
from efiqa.records import read_manifest


def main() -> None:
    manifest, *models = map(Path, sys.argv[1:])
    rows = [row for row in read_manifest(manifest) if row.split == "validation" and row.score is not None]
    columns = ["model", "parameters", "GMAC", "input", "faces", "n", "no score"]
    columns += ["SRCC [95 %]", "PLCC [95 %]", "ms a picture"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for model in models:
        scorer = Scorer(model)
        card = scorer.card
        for faces in ("none", "largest"):
            started = time.perf_counter()
            predictions = list(scorer.score_many((row.image for row in rows), faces=faces))
            milliseconds = 1e3 * (time.perf_counter() - started) / len(rows)
            scored = [
                (p.score, row.score) for p, row in zip(predictions, rows, strict=True) if p.score is not None
            ]
            scores, labels = zip(*scored, strict=True)
            cells: list[object] = [f"{card.name} {card.version}", f"{card.parameters:,}"]
            cells += [f"{card.macs / 1e9:.3f}", card.input_size, faces, len(scored), len(rows) - len(scored)]
            for metric in (srcc, plcc):
                low, high = bootstrap_interval(metric, scores, labels)
                cells.append(f"{metric(scores, labels):.3f} [{low:.3f}, {high:.3f}]")
            cells.append(f"{milliseconds:.1f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
