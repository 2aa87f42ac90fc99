"""efiqa info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import rich
import typer
from rich.table import Table

from efiqa.cli.terminal import plain

if TYPE_CHECKING:
    from efiqa.card import Interval, Quantization


def info(
    model: Annotated[
        Path | None, typer.Argument(help="ONNX model with a card, or the name of one that ships.")
    ] = None,
    shipped: Annotated[
        bool, typer.Option("--list", help="The models that ship, by the names that --model takes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The card, or the list, as JSON.")] = False,
) -> None:
    """Print a model's card: what it expects, what its number means, where it came from.

    `efiqa info --list` prints which models ship.
    """
    from efiqa.scorer import Scorer

    if shipped:
        if model is not None:
            raise typer.BadParameter("--list is of the models that ship; leave out either it or the model")
        _print_list(as_json)
        return
    card = Scorer(model, runtime="onnxruntime").card
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
        ("quantization", _quantization(card.quantization)),
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


def _quantization(made: Quantization | None) -> str:
    if made is None:
        return "none, the weights are fp32"
    return (
        f"{made.precision} of {made.of}, {made.method}; calibrated on {made.calibrated_on:,} pictures; on "
        f"{made.n:,} others SRCC {made.srcc:.4f} with it, largest change of a score {made.largest_change:.4f}"
    )


def _print_list(as_json: bool) -> None:
    import json

    from efiqa.card import ModelCard
    from efiqa.runtime import DEFAULT_MODEL, shipped_models

    cards = {
        name: ModelCard.from_json(path.with_suffix(".json").read_text(encoding="utf-8"))
        for name, path in shipped_models().items()
    }
    if as_json:
        found = [
            {
                "name": name,
                "model": card.source,
                "backbone": card.backbone,
                "parameters": card.parameters,
                "macs": card.macs,
                "input_size": card.input_size,
                "default": name == DEFAULT_MODEL,
            }
            for name, card in cards.items()
        ]
        print(json.dumps(found, indent=1))  # noqa: T201
        return
    table = Table("name", "model", "network", "first of its limits")
    for name, card in cards.items():
        network = f"{card.backbone}, {card.macs / 1e9:.3f} GMAC at {card.input_size} px"
        table.add_row(name, plain(card.source), plain(network), plain(card.limits[0]))
    rich.print(table)
