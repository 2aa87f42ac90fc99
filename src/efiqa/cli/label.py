"""efiqa label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efiqa.cli.terminal import Manifest, plain, talk

if TYPE_CHECKING:
    from efiqa.metrics import Logistic
    from efiqa.records import Prediction, Row


def _confidence(value: str) -> str:
    if value not in ("none", "weight"):
        raise typer.BadParameter(f"expected none or weight, but got {value!r}")
    return value


def label(
    predictions: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS…", help="What `efiqa score` wrote for the pictures, one file for each model."
        ),
    ],
    output: Manifest,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model", "-m", help="The model that scored them, named as the labels' source; repeatable."
        ),
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="Where the pictures' splits and groups stand.")
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option(help="Manifest with human labels: scores are calibrated to its train rows.")
    ] = None,
    rated: Annotated[
        list[Path] | None,
        typer.Option(help="Predictions for the pictures of --ratings, one file for each model; repeatable."),
    ] = None,
    confidence: Annotated[
        str,
        typer.Option(
            callback=_confidence,
            help="**none**, or **weight**: labels that views or models disagree on weigh less in training.",
        ),
    ] = "none",
    keep: Annotated[
        float, typer.Option(min=0, max=1, help="Share of faces to keep: those with the least disagreement.")
    ] = 1.0,
) -> None:
    """Turn predictions into a manifest of pseudo-labels; a face's row gets the square that was scored.

    Several models' scores of the same faces are averaged. Disagreement needs two models or more, or
    predictions made with `efiqa score --views flip,shift,scale,rotate`.

    `efiqa label a.csv b.csv -m a.onnx -m b.onnx --confidence weight --keep 0.8 -o labels.csv`
    """
    from efiqa.errors import InvalidArgument
    from efiqa.label import combine, trust
    from efiqa.label import label as label_rows
    from efiqa.records import read_manifest, read_predictions, write_manifest
    from efiqa.scorer import Scorer

    if len(predictions) != len(model):
        raise typer.BadParameter(f"{len(predictions)} files of predictions need as many --model, in order")
    if (ratings is None) != (not rated) or (rated and len(rated) != len(model)):
        raise typer.BadParameter("--ratings and --rated go together, one --rated for each --model, in order")
    cards = [Scorer(path).card for path in model]
    if len({card.crop_scale for card in cards}) > 1:
        raise InvalidArgument(
            f"the models look at different squares: crop_scale {[card.crop_scale for card in cards]}",
            hint="label with models of one crop_scale; efiqa info prints it",
        )
    rows = read_manifest(ratings) if ratings else []
    calibrations = [_calibration(path, rows) for path in rated] if rated else [None] * len(cards)

    def combined() -> Iterator[Prediction]:
        tables = [read_predictions(path) for path in predictions]
        return combine(tables, [str(path) for path in predictions], calibrations)

    unsure = confidence != "none" or keep < 1
    weights = trust(combined(), weigh=confidence == "weight", keep=keep) if unsure else None
    left_out: Counter[str] = Counter()
    labelled = label_rows(
        combined(),
        "+".join(f"{card.name}@{card.version}" for card in cards),
        crop_scale=cards[0].crop_scale,
        manifest=read_manifest(manifest) if manifest else (),
        weights=weights,
        skipped=lambda row: left_out.update([f"left out as {row.status}"]),
    )
    count = write_manifest(output, labelled)
    if weights is not None and None in weights:
        left_out["dropped for their disagreement"] = weights.count(None)
    parts = "".join(f", {number:,} {reason}" for reason, number in left_out.most_common())
    talk.print(f"{count:,} rows{parts} → {plain(str(output))}")


def _calibration(rated: Path, ratings: list[Row]) -> Logistic | None:
    """The map from a model's scores to human labels; none, aloud, where there is none worth fitting."""
    from efiqa.errors import InvalidArgument
    from efiqa.label import rated_pairs
    from efiqa.metrics import fit_logistic, rmse
    from efiqa.records import read_predictions

    scores, labels = rated_pairs(ratings, read_predictions(rated))
    try:
        fitted = fit_logistic(scores, labels)
    except InvalidArgument as error:
        talk.print(f"calibration: identity, because {error}: {plain(str(rated))}")
        return None
    talk.print(
        f"calibration: logistic fitted on {scores.size:,} training rows of {plain(str(rated))}, "
        f"RMSE {rmse(scores, labels):.4f} → {rmse(fitted(scores), labels):.4f}",
    )
    return fitted
