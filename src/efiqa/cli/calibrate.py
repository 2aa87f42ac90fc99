"""efiqa calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efiqa.cli.terminal import Model, plain, talk


def calibrate(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="What `efiqa score` wrote with the model.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The JSON file for `efiqa score --calibration`.")
    ],
    name: Annotated[
        str, typer.Option(help="What these pictures are, such as **visa desk 2026**; without --link.")
    ] = "",
    model: Model = None,
    link: Annotated[
        Path | None,
        typer.Option(metavar="OLD", help="Predictions of the same pictures with the old model."),
    ] = None,
    old_model: Annotated[Path | None, typer.Option(help="The old model, an ONNX file with a card.")] = None,
) -> None:
    """Make `quality` relative to your own pictures, or keep it comparable when the model changes.

    `efiqa calibrate scores.csv --name "visa desk 2026" -o desk.table.json`

    With --link, `quality` of the new model is on the old one's scale, and policies of the old one hold:

    `efiqa calibrate new.csv --link old.csv -m new.onnx --old-model old.onnx -o link.json`
    """
    from efiqa.calibrate import (
        Calibration,
        check_made_by,
        link_of,
        paired_scores,
        population_of,
        write_calibration,
    )
    from efiqa.errors import ModelError
    from efiqa.matching import distinct, some
    from efiqa.metrics import srcc
    from efiqa.records import read_predictions
    from efiqa.scorer import Scorer
    from efiqa.writing import check_place

    if (link is None) != (old_model is None):
        raise typer.BadParameter("--link and --old-model go together")
    name = name.strip()
    if (link is None) == (not name):
        raise typer.BadParameter("either --name, for a population of your own, or --link, for an old model's")
    check_place(output)
    scorer = Scorer(model)
    rows = distinct(read_predictions(predictions))
    check_made_by(rows, scorer.card.population, scorer.card.source)
    own = (scorer.card.source, scorer.digest)
    if link is None or old_model is None:
        population = population_of(name, rows)
        write_calibration(output, Calibration(*own, population))
        talk.print(f"{population.n:,} scores of {scorer.card.source} → {plain(str(output))}")
        return
    old = Scorer(old_model)
    if old.card.population is None:
        raise ModelError(
            f"the old model {old.card.source} has no population in its card, so there is no quality to keep",
            hint="make a population of your own: efiqa calibrate PREDICTIONS --name NAME",
        )
    old_rows = distinct(read_predictions(link))
    check_made_by(old_rows, old.card.population, old.card.source)
    new_scores, old_scores, left_out = paired_scores(rows, old_rows)
    linked = link_of(new_scores, old_scores, old.card.source, old.digest)
    write_calibration(output, Calibration(*own, old.card.population, linked))
    if left_out:
        talk.print(f"left out, because only one has or could score them: {len(left_out):,}, {some(left_out)}")
    moved = sum(abs(linked(a) - b) for a, b in zip(new_scores, old_scores, strict=True)) / linked.n
    talk.print(
        f"{linked.n:,} pictures: {scorer.card.source} → the scale of {linked.model}, SRCC "
        f"{srcc(new_scores, old_scores):.3f}; one picture's linked score is {moved:.3f} from its old one "
        f"on average → {plain(str(output))}",
    )
