"""efiqa drift."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import rich
import typer
from rich.table import Table

from efiqa.cli.terminal import plain, talk

if TYPE_CHECKING:
    from efiqa.policy import Policy
    from efiqa.records import Prediction


def drift(
    predictions: Annotated[Path, typer.Argument(metavar="NEW", help="Predictions of new pictures.")],
    reference: Annotated[
        Path, typer.Option(help="Predictions of the pictures that thresholds were found on.")
    ],
    policy: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="Does this policy's threshold still hold?")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            "-m",
            help="What made both, so that the policy must be its own. Default: the policy's "
            "model if that is the embedded student, else unknown.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With what both were made, if with any.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="By how much the shares below the threshold, and without a score, may move."
        ),
    ] = 0.02,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all that is printed as JSON.")
    ] = None,
) -> None:
    """Compare new predictions with those that a threshold rests on.

    Exit code: 0 it holds, 1 drifted, 2 it cannot be said.

    Both must be of one model, with one calibration, and a policy must be of that model.

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
    from efiqa.writing import atomic, check_place

    if output is not None:
        check_place(output)
    bound = None if policy is None else read_policy(policy)
    on = bound.on if bound else "score"
    tables = [distinct(read_predictions(path)) for path in (predictions, reference)]
    check_one_scale(*tables)
    if bound or model or calibration:
        bound = _of_one_model(tables, bound, model, calibration)
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
        failed=(len(tables[0]) - len(values[0]), len(tables[1]) - len(values[1])),
        tolerance=tolerance,
    )
    if output is not None:
        with atomic(output) as file:
            file.write(json.dumps({**dataclasses.asdict(result), "on": on}, indent=1) + "\n")
    table = Table("", "reference", "new")
    table.add_row("scores", f"{result.reference_n:,}", f"{result.n:,}")
    shares = {"without a score": result.failed, f"below {result.threshold or 0:g}": result.below}
    for name, share in shares.items():
        if share:
            ends = ((share.then, *share.then_interval), (share.now, *share.now_interval))
            table.add_row(name, *(f"{at:.1%} [{low:.1%}, {high:.1%}]" for at, low, high in ends))
    table.add_row("PSI", "", f"{result.psi:.3f}")
    table.add_row("KS", "", f"{result.ks:.3f}, p = {result.p:.2g}")
    rich.print(table)
    talk.print(f"{'drifted' if result.drifted else 'holds'}: {plain(result.verdict)}")
    if result.drifted:
        raise typer.Exit(1)


def _of_one_model(
    tables: list[list[Prediction]], policy: Policy | None, model: Path | None, calibration: Path | None
) -> Policy | None:
    """The policy in the numbers of the model; raises ModelError or RecordError for another one's."""
    from efiqa.calibrate import check_made_by, read_calibration
    from efiqa.policy import bind
    from efiqa.scorer import Scorer

    scorer = Scorer(model)
    own = (scorer.card.source, scorer.digest)
    if policy and not (model or calibration) and (policy.model, policy.digest) != own:
        talk.print(
            f"the policy is of {plain(policy.model)}; whether the predictions are too, -m MODEL checks",
        )
        return policy
    table = read_calibration(calibration) if calibration else None
    if table:
        table.check(scorer.card, scorer.digest)
    if policy:
        policy = bind(policy, scorer.card, scorer.digest, table)
    for rows in tables:
        check_made_by(
            rows, table.population if table else scorer.card.population, own[0], table.link if table else None
        )
    return policy
