"""efiqa evaluate."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from efiqa.cli.terminal import Seed, plain, progress_bar, talk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from efiqa.entrants import Entrant
    from efiqa.probe import Probe
    from efiqa.records import Row
    from efiqa.scores import Scores


def evaluate(
    manifest: Annotated[Path, typer.Argument(help="The pictures, and their ratings if there are any.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for report.json, report.md and report.html; is made."),
    ],
    predictions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PREDICTIONS…]",
            help="Scores of the pictures: a file of `efiqa score`, of OFIQ, or any table with a picture and "
            "a score column. NAME=FILE:COLUMN names scorer and column; :-COLUMN where lower is better.",
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="Beside them: **laplacian**, **tenengrad** or **brightness**; repeatable."),
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Table image_a, image_b, genuine, similarity: error versus discard.")
    ] = None,
    fmr: Annotated[
        float, typer.Option(help="False match rate at which the pairs' threshold is fixed.")
    ] = 1e-3,
    group: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Compare groups (age, gender); repeatable.")
    ] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Where the groups' columns are, beside an image column; default: the manifest."),
    ] = None,
    probe: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="What `efiqa probe -o FILE` wrote: robustness beside the rest; repeatable."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only pictures of this split of the manifest.")] = None,
    image: Annotated[
        str | None, typer.Option(help="Column of the picture's name in the predictions; default: recognised.")
    ] = None,
    max_missing: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pictures, or pairs, that may be unknown.")
    ] = 0.1,
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Show faces on the page: they are personal data.")
    ] = True,
    page: Annotated[bool, typer.Option("--html/--no-html", help="Write report.html.")] = True,
    seed: Seed = 0,
) -> None:
    """Evaluate scorers side by side: with people's ratings, for recognition, between groups, on worse copies.

    The summary goes to stdout as Markdown. The page, report.html, needs `pip install "efiqa[report]"`.

    `efiqa evaluate rated.csv ours.csv other=ofiq.csv --split test -o report/`

    `efiqa evaluate faces.csv scores.csv --baseline laplacian --pairs pairs.csv --fmr 1e-3 -o report/`

    `efiqa evaluate faces.csv scores.csv --group age --group gender --table people.csv -o report/`
    """
    from efiqa.entrants import distinct, enter
    from efiqa.errors import RecordError
    from efiqa.evaluate import Membership
    from efiqa.evaluate import evaluate as evaluate_all
    from efiqa.groups import read_groups
    from efiqa.pairs import read_pairs
    from efiqa.pictures import Pictures
    from efiqa.records import SPLITS, read_manifest
    from efiqa.report import check_page, write_report
    from efiqa.scores import read_beside
    from efiqa.tables import uncollected
    from efiqa.writing import check_place

    if split is not None and split not in SPLITS:
        raise typer.BadParameter(f"--split is {', '.join(SPLITS)}, but got {split!r}")
    if not 0 < fmr < 1:
        raise typer.BadParameter(f"--fmr lies between 0 and 1, but got {fmr:g}")
    if math.isnan(max_missing):  # which no range keeps out
        raise typer.BadParameter("--max-missing is a share in 0–1, but got nan")
    if table and not group:
        raise typer.BadParameter("--table says where the columns of --group are, so name one with --group")
    if page:
        check_page()
    check_place(output / "report.json")

    def written(tables: Iterator[Scores]) -> str:
        rows, repeated = distinct(row for row in read_manifest(manifest) if split in (None, row.split))
        if not rows:
            raise RecordError(f"{manifest} has no rows of split {split}", hint="name a split that it has")
        notes = (
            [f"{repeated:,} rows of the manifest repeat a picture, which counts once."] if repeated else []
        )
        pictures = Pictures([row.image for row in rows])
        entrants = []
        for scores in tables:
            entrants.append(enter(scores, pictures, max_missing=max_missing))
            if scores.repeated:
                notes.append(
                    f"{scores.repeated:,} rows of {scores.name} repeat a picture, which counts once."
                )
        entrants += [_baseline(name, rows) for name in baseline or []]
        evaluation = evaluate_all(
            rows,
            entrants,
            split=split,
            pairs=None if pairs is None else (str(pairs.parent), read_pairs(pairs)),
            fmr=fmr,
            probes=_probes(probe or []),
            groups={name: Membership(*read_groups(table or [manifest], name)) for name in group or []},
            max_missing=max_missing,
            seed=seed,
            notes=notes,
        )
        return write_report(evaluation, output, page=page, gallery=gallery)

    # The rows stay to the end, where a search for garbage among a million of them finds none.
    with uncollected(), read_beside(predictions or [], image=image) as tables:
        sys.stdout.write(written(tables))
    files = "report.json, report.md" + (", report.html" if page else "")
    talk.print(f"{files} → {plain(str(output))}", highlight=False)


def _probes(paths: list[Path]) -> list[Probe]:
    if not paths:
        return []
    from efiqa.ladders import read_probes

    return read_probes(paths)


def _baseline(name: str, rows: list[Row]) -> Entrant:
    """Scores of the pictures themselves, in the rows' squares."""
    from efiqa.baselines import BASELINES
    from efiqa.entrants import measured

    if name not in BASELINES:
        raise typer.BadParameter(f"--baseline is {', '.join(BASELINES)}, but got {name!r}")
    with progress_bar(False) as progress:
        watched = progress.track(rows, description=name) if progress else rows
        return measured(name, BASELINES[name], watched)
