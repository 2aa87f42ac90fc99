"""efiqa train and efiqa export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efiqa.cli.terminal import extra, plain, progress_bar, talk

if TYPE_CHECKING:
    from efiqa.card import Interval


def train(
    recipe: Annotated[Path, typer.Argument(help="What to train, in TOML; recipes/ has examples.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Run folder; one that was interrupted goes on.")
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="SECTION.KEY=VALUE, changes the recipe; repeatable.")
    ] = None,
) -> None:
    """Train a teacher or a student; the same command goes on after an interruption.

    `efiqa train recipes/small/student.toml -o runs/student --set optim.epochs=2`
    """
    with extra("train"):
        from efiqa.train.fit import fit
        from efiqa.train.recipe import load_recipe
    read = load_recipe(recipe, changes or ())
    with progress_bar(False, "steps/s") as progress:
        task = progress.add_task("training", total=None) if progress else None

        def show(step: int, steps: int, values: dict[str, Any]) -> None:
            if progress and task is not None:
                text = " ".join(f"{name} {value}" for name, value in values.items())
                progress.update(task, completed=step, total=steps, description=text)

        position = fit(read, output, progress=show)
    if position.before:
        talk.print(f"before: {position.before}")
    talk.print(
        f"step {position.step:,}, {position.seen:,} pictures seen, {position.metrics} → {plain(str(output))}"
    )


def export(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run folder of efiqa train, or a checkpoint file of the paper's authors. "
            "Of several run folders, the mean of their weights.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .onnx file; its card appears beside it as .json.")
    ],
    statement: Annotated[
        Path | None,
        typer.Option(
            help="TOML: name, version, licence, limits, [terms] of each manifest, [measured]. "
            "Only a checkpoint file can do without."
        ),
    ] = None,
    population: Annotated[
        Path | None,
        typer.Option(help="Predictions of this model over the population that `quality` is relative to."),
    ] = None,
    population_name: Annotated[str, typer.Option(help="What these pictures are.")] = "",
    ratings: Annotated[
        Path | None,
        typer.Option(help="Manifest with human labels: its rows outside train give the card its intervals."),
    ] = None,
    rated: Annotated[
        Path | None,
        typer.Option(help="Predictions of this model for the pictures of --ratings, with --faces none."),
    ] = None,
    to_labels: Annotated[
        bool,
        typer.Option(
            "--to-labels",
            help="Bring scores to the scale of people's ratings, by a line fitted on the training pictures; "
            "a mean of weights always gets one.",
        ),
    ] = False,
) -> None:
    """Write a trained model as one ONNX file that explains itself, equal to PyTorch in the real Scorer.

    `efiqa export runs/student -o student.onnx --statement student.card.toml`

    `efiqa export … --ratings ratings.csv --rated scores.csv` gives the card intervals, too.

    `efiqa export checkpoint.pt -o published.onnx`
    """
    with extra("train"):
        from efiqa.train.export import export as write_model
        from efiqa.train.export import load_statement, prepare
    from efiqa.calibrate import population_of
    from efiqa.records import read_predictions

    if (population is None) != (not population_name):
        raise typer.BadParameter("--population and --population-name go together")
    if (ratings is None) != (rated is None):
        raise typer.BadParameter("--ratings and --rated go together")
    table = population_of(population_name, read_predictions(population)) if population else None
    interval = _interval(ratings, rated) if ratings and rated else None
    model, card = prepare(
        *sources,
        statement=load_statement(statement) if statement else None,
        population=table,
        interval=interval,
        to_labels=to_labels,
    )
    write_model(model, card, output)
    talk.print(
        f"{card.name} {card.version}: {card.parameters:,} parameters, "
        f"{card.macs / 1e9:.3f} GMAC at {card.input_size} px, "
        f"{output.stat().st_size / 1e6:.1f} MB → {plain(str(output))}"
    )


def _interval(ratings: Path, rated: Path) -> Interval:
    """Conformal intervals from the ratings that no training has seen; says what they cover."""
    from efiqa.conformal import WHAT, fit_interval, held_out
    from efiqa.records import read_manifest, read_predictions

    interval = fit_interval(*held_out(read_manifest(ratings), read_predictions(rated)), of=WHAT)
    found = ", ".join(
        f"{level:.0%} asked, {share:.1%} found"
        for level, share in zip(interval.coverage, interval.measured, strict=True)
    )
    talk.print(
        f"intervals for the {interval.of}, from {interval.n:,} held-out ratings; coverage on groups left "
        f"out: {found}",
    )
    return interval
