"""efiqa info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import rich
import typer
from rich.table import Table

from efiqa.cli.terminal import plain

if TYPE_CHECKING:
    from efiqa.card import Interval


def info(
    model: Annotated[
        Path | None, typer.Argument(help="ONNX model with a card; default: the embedded student.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The card as JSON.")] = False,
) -> None:
    """Print a model's card: what it expects, what its number means, where it came from."""
    from efiqa.scorer import Scorer

    card = Scorer(model).card
    if as_json:
        print(card.to_json(), end="")  # noqa: T201
        return
    table = Table("field", "value", show_header=False)
    sources = "\n".join(
        f"{item.name}: {item.rows:,} rows ({item.labels}); {item.terms}; {item.digest}"
        for item in card.trained_on
    )
    population = card.population
    measured = "\n".join(f"{name}: {value}" for name, value in card.measured.items())
    rows = [
        ("model", f"{card.name} {card.version}"),
        ("task", card.task),
        ("meaning", card.meaning),
        (
            "network",
            f"{card.backbone}, {card.parameters:,} parameters, "
            f"{card.macs / 1e9:.3f} GMAC at {card.input_size} px",
        ),
        ("input", f"{card.resize} ({card.input_size} px)"),
        ("face crop", f"{card.crop}; crop_scale {card.crop_scale}"),
        ("score", f"nominally {card.score_range[0]:g}–{card.score_range[1]:g}, not clipped"),
        (
            "quality",
            f"percentile among {population.n:,} {population.name}" if population else "no population",
        ),
        ("intervals", _intervals(card.interval)),
        ("licence", card.licence),
        ("trained on", sources),
        ("measured", measured),
        ("limits", "\n".join(card.limits)),
        ("made by", f"recipe {card.recipe_digest}, commit {card.commit}"),
    ]
    for name, value in rows:
        table.add_row(name, plain(value))
    rich.print(table)


def _intervals(interval: Interval | None) -> str:
    if interval is None:
        return "no intervals"
    found = ", ".join(
        f"{level:.0%} asked, {share:.1%} found"
        for level, share in zip(interval.coverage, interval.measured, strict=True)
    )
    return f"hold the {interval.of}; {interval.n:,} held-out cases, on groups left out: {found}"
