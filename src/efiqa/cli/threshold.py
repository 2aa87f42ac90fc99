"""efiqa threshold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efiqa.cli.terminal import Model, plain, talk

if TYPE_CHECKING:
    from efiqa.records import Prediction
    from efiqa.threshold import Target


def _on(value: str) -> str:
    if value not in ("score", "quality"):
        raise typer.BadParameter(f"expected score or quality, but got {value!r}")
    return value


def threshold(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="What `efiqa score` wrote with the model.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The policy to write, a .toml for `efiqa score --policy`.")
    ],
    discard: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Target: reject this share of faces, such as 0.05.")
    ] = None,
    fnmr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Target: false non-matches among the genuine pairs that are left."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="With --fnmr: a table with image_a, image_b, genuine, similarity."),
    ] = None,
    fmr: Annotated[
        float, typer.Option(metavar="RATE", help="With --fnmr: false match rate that fixes what a match is.")
    ] = 1e-3,
    labels: Annotated[
        Path | None,
        typer.Option(help="Target: agree with a table of image and label, accept or reject."),
    ] = None,
    acceptable: Annotated[
        float | None,
        typer.Option(metavar="RATING", help="With --labels: a table of ratings, good from this one on."),
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="With --labels: this share of the accepted is good; default: best balanced accuracy.",
        ),
    ] = None,
    recall: Annotated[
        float | None, typer.Option(metavar="SHARE", help="With --labels: this share of the good is accepted.")
    ] = None,
    on: Annotated[
        str, typer.Option(callback=_on, help="Cut by **score**, or by **quality**, which is coarser.")
    ] = "score",
    review: Annotated[
        bool, typer.Option("--review", help="Review what lies in the threshold's own 95 % interval.")
    ] = False,
    coverage: Annotated[
        float | None,
        typer.Option(help="Review faces whose interval of this coverage reaches across the threshold too."),
    ] = None,
    name: Annotated[str, typer.Option(help="The policy's name; default: the file's.")] = "",
    model: Model = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With what the predictions were made, if with any.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other resamples.")] = 0,
) -> None:
    """Find the cut for one target, with what to expect of it, and write a policy.

    `efiqa threshold scores.csv --discard 0.05 -o policy.toml`

    `efiqa threshold scores.csv --fnmr 0.01 --pairs pairs.csv --fmr 1e-3 -o policy.toml`

    `efiqa threshold scores.csv --labels ratings.csv --acceptable 0.6 --precision 0.95 -o policy.toml`
    """
    from datetime import UTC, datetime

    from efiqa.calibrate import check_made_by, population_id, read_calibration
    from efiqa.errors import ModelError, RecordError
    from efiqa.matching import distinct
    from efiqa.policy import Policy, bind, check_policy_place, write_policy
    from efiqa.records import read_predictions
    from efiqa.scorer import Scorer
    from efiqa.threshold import find_cut

    if [discard, fnmr, labels].count(None) != 2:
        raise typer.BadParameter("one target is needed: --discard, --fnmr or --labels")
    if (fnmr is None) != (pairs is None):
        raise typer.BadParameter("--fnmr and --pairs go together")
    if labels is None and [acceptable, precision, recall] != [None] * 3:
        raise typer.BadParameter("--acceptable, --precision and --recall go with --labels")
    if precision is not None and recall is not None:
        raise typer.BadParameter("either --precision or --recall")
    check_policy_place(output)
    scorer = Scorer(model)
    table = read_calibration(calibration) if calibration else None
    if table:
        table.check(scorer.card, scorer.digest)
    population = table.population if table else scorer.card.population
    if on == "quality" and population is None:
        raise ModelError(
            f"the model {scorer.card.source} has no population, so its predictions have no quality",
            hint="--on score, or efiqa calibrate",
        )
    rows = distinct(read_predictions(predictions))
    check_made_by(rows, population, scorer.card.source, table.link if table else None)
    if not any(getattr(row, on) is not None for row in rows):
        raise RecordError(
            f"no row of {predictions} has a {on}",
            hint="expected what efiqa score wrote, of pictures with faces in them"
            if on == "score" or not any(row.score is not None for row in rows)
            else "were they scored with a model that has no population? --on score",
        )

    target: Target
    if discard is not None:
        target, wanted, basis = _discard(rows, on, discard)
    elif fnmr is not None and pairs is not None:
        target, wanted, basis = _fnmr(rows, on, pairs, fmr, fnmr)
    else:
        assert labels is not None
        target, wanted, basis = _labels(rows, on, labels, acceptable, precision, recall)
    cut = find_cut(target, seed=seed)
    scored = [value for row in rows if (value := getattr(row, on)) is not None]
    below = sum(value < cut.value for value in scored) / len(scored)
    value = cut.value
    low, high = cut.interval if review else (value, value)
    policy = Policy(
        name or output.stem,
        scorer.card.source,
        scorer.digest,
        "quality" if on == "quality" else "score",
        min(low, value) if review else value,
        max(high, value) if review else value,
        population_id(population) if on == "quality" and population else "",
        coverage,
        basis={
            "target": wanted,
            "date": datetime.now(UTC).date().isoformat(),
            "predictions": predictions.name,
            "n": cut.n,
            "threshold": value,
            "threshold_interval": list(cut.interval),
            "rate": round(cut.rate, 5),
            "rate_interval": list(cut.rate_interval),
            "rejected": round(below, 5),
            "without_a_score": sum(row.score is None for row in rows),
            **({"reached": cut.reached} if cut.reached < 1 else {}),
            **basis,
        },
    )
    bind(policy, scorer.card, scorer.digest, table)
    write_policy(output, policy)
    low, high = cut.rate_interval
    talk.print(
        f"{wanted}: reject below {on} {value:g} [{cut.interval[0]:g}, {cut.interval[1]:g}], which is "
        f"{below:.1%} of {len(scored):,} faces; {basis['rate_of']} {cut.rate:.3g}, and in another sample as "
        f"large {low:.3g}–{high:.3g} with 95 % → {plain(str(output))}",
        highlight=False,
    )
    if below == 0:
        talk.print("the target is met without a cut: nothing is rejected")
    if basis["rate_of"] == "balanced accuracy" and cut.rate_interval[0] <= 0.5:
        talk.print("chance has a balanced accuracy of 0.5: these labels hardly go with the numbers")
    if cut.reached < 1:
        talk.print(f"the target was out of reach in {1 - cut.reached:.1%} of the resamples", highlight=False)
    if coverage is not None and scorer.card.interval is None:
        talk.print("the model has no intervals in its card, so nothing will be reviewed for --coverage")


Found = tuple["Target", str, dict[str, Any]]


def _discard(rows: list[Prediction], on: str, share: float) -> Found:
    import numpy as np

    from efiqa.threshold import DiscardShare

    values = np.array([value for row in rows if (value := getattr(row, on)) is not None])
    return DiscardShare(values, share), f"discard {share:g}", {"rate_of": "share of scored faces rejected"}


def _fnmr(rows: list[Prediction], on: str, pairs: Path, fmr: float, rate: float) -> Found:
    from efiqa.nonmatch import FalseNonMatch, pair_quality
    from efiqa.pairs import read_pairs

    table = read_pairs(pairs)
    quality = pair_quality(table, _values(rows, on, [*table.first, *table.second], pairs))
    target = FalseNonMatch(table, quality, fmr=fmr, rate=rate)
    match = target.match
    before = float(target.failed.mean())
    return (
        target,
        f"FNMR {rate:g} at FMR {fmr:g}",
        {
            "rate_of": "FNMR of the pairs left",
            "pairs": pairs.name,
            "people": target.units,
            "fnmr_before": round(before, 5),
            "similarity_above": match.limit,
            "false_matches": f"{match.false_matches} of {match.impostors}",
        },
    )


def _labels(
    rows: list[Prediction],
    on: str,
    path: Path,
    acceptable: float | None,
    precision: float | None,
    recall: float | None,
) -> Found:
    import numpy as np

    from efiqa.labels import read_labels
    from efiqa.threshold import Agreement

    labels = read_labels(path, acceptable=acceptable)
    found = _values(rows, on, list(labels), path)
    pairs = [(value, labels[name]) for name, value in found.items() if value is not None]
    values, good = np.array([value for value, _ in pairs]), np.array([label for _, label in pairs], bool)
    goal, least = "balanced", 0.0
    if precision is not None:
        goal, least = "precision", precision
    elif recall is not None:
        goal, least = "recall", recall
    wanted = "best balanced accuracy" if goal == "balanced" else f"{goal} {least:g}"
    if acceptable is not None:
        wanted += f", good from a rating of {acceptable:g}"
    basis = {
        "rate_of": "balanced accuracy" if goal == "balanced" else goal,
        "labels": path.name,
        "labelled_accept": int(good.sum()),
        "labelled_reject": int((~good).sum()),
    }
    return Agreement(values, good, goal, least), wanted, basis


def _values(rows: list[Prediction], on: str, names: list[str], table: Path) -> dict[str, float | None]:
    """Picture of the table → its number; says which have none."""
    from efiqa.matching import match, some

    names = list(dict.fromkeys(names))
    found = dict(zip(names, match(names, str(table.parent), rows, table), strict=True))
    for what, missing in (
        ("are not among the predictions", [name for name, row in found.items() if row is None]),
        ("have no score", [name for name, row in found.items() if row and row.score is None]),
    ):
        if missing:
            talk.print(
                f"left out: {len(missing):,} pictures of {plain(str(table))} {what}: {plain(some(missing))}",
            )
    return {name: None if row is None else getattr(row, on) for name, row in found.items()}
