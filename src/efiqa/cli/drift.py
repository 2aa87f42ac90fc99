"""efiqa drift."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import rich
import typer
from rich.table import Table

from efiqa.cli.terminal import plain, talk


def drift(
    predictions: Annotated[Path, typer.Argument(metavar="NEW", help="Predictions of new pictures.")],
    reference: Annotated[
        Path, typer.Option(help="Predictions of the pictures that thresholds were found on.")
    ],
    policy: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Does this policy's threshold still hold?")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="By how much the share below the threshold may move.")
    ] = 0.02,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all that is printed as JSON.")
    ] = None,
) -> None:
    """Compare new predictions with those that a threshold rests on.

    Exit code: 0 it holds, 1 drifted, 2 it cannot be said.

    Both must be of one model, with one calibration.

    `efiqa drift today.csv --reference scores.csv --policy policy.toml -o drift.json`
    """
    import dataclasses
    import json

    import numpy as np

    from efiqa.calibrate import check_one_scale
    from efiqa.drift import drift as compare
    from efiqa.errors import RecordError
    from efiqa.matching import distinct
    from efiqa.policy import read_policy
    from efiqa.records import read_predictions
    from efiqa.tables import atomic

    bound = None if policy is None else read_policy(policy)
    on = bound.on if bound else "score"
    tables = [distinct(read_predictions(path)) for path in (predictions, reference)]
    check_one_scale(*tables)
    values = [[value for row in rows if (value := getattr(row, on)) is not None] for rows in tables]
    for path, rows, found in zip((predictions, reference), tables, values, strict=True):
        if not found and any(row.score is not None for row in rows):
            raise RecordError(
                f"{path} has no {on}, which the policy is on",
                hint="its model has no population, or it is another tool's",
            )
        if not found:
            raise RecordError(
                f"no row of {path} has a score",
                hint="expected what efiqa score wrote, of pictures with faces in them",
            )
    result = compare(
        np.array(values[0]),
        np.array(values[1]),
        threshold=bound.reject_below if bound else None,
        tolerance=tolerance,
    )
    failed = [sum(row.score is None for row in rows) / max(1, len(rows)) for rows in tables]
    if output is not None:
        values_of = {"on": on, "failed": {"reference": failed[1], "new": failed[0]}}
        with atomic(output) as file:
            file.write(json.dumps({**dataclasses.asdict(result), **values_of}, indent=1) + "\n")
    table = Table("", "reference", "new")
    table.add_row("scores", f"{result.reference_n:,}", f"{result.n:,}")
    table.add_row("without a score", f"{failed[1]:.1%}", f"{failed[0]:.1%}")
    if result.below:
        below = result.below
        table.add_row(
            f"below {below.threshold:g}",
            f"{below.then:.1%} [{below.then_interval[0]:.1%}, {below.then_interval[1]:.1%}]",
            f"{below.now:.1%} [{below.now_interval[0]:.1%}, {below.now_interval[1]:.1%}]",
        )
    table.add_row("PSI", "", f"{result.psi:.3f}")
    table.add_row("KS", "", f"{result.ks:.3f}, p = {result.p:.2g}")
    rich.print(table)
    talk.print(f"{'drifted' if result.drifted else 'holds'}: {plain(result.verdict)}", soft_wrap=True)
    if result.drifted:
        raise typer.Exit(1)
