"""efiqa index and efiqa degrade: pictures in, a manifest out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efiqa.cli.terminal import Manifest, Seed, Workers, plain, progress_bar, talk


def index(
    source: Annotated[
        Path,
        typer.Argument(help="A folder of pictures, or a table (.csv, .jsonl, .parquet) that names them."),
    ],
    output: Manifest,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the table's names are relative to; default: the table's.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Column of the picture's name; default: recognised.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Column of the rating; default: recognised. '' for no labels.")
    ] = None,
    low_high: Annotated[
        tuple[float, float], typer.Option("--range", help="What the ratings mean: LOW HIGH.")
    ] = (0.0, 1.0),
    group: Annotated[
        str | None, typer.Option(help="Column whose equal values stay in one split: person, scene.")
    ] = None,
    group_pattern: Annotated[
        str | None, typer.Option(help="Regular expression: what it finds in the name is the group.")
    ] = None,
    group_prefix: Annotated[
        str | None, typer.Option(help="Stands before every group: no other data set's 1 is this one's.")
    ] = None,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of groups held out.")] = 0.0,
    fold: Annotated[
        int, typer.Option(min=0, help="Which share: **--validation 0.2** has folds 0 to 4, none in common.")
    ] = 0,
    split: Annotated[
        str | None, typer.Option(help="No draw: all rows are **train**, **validation** or **test**.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make a manifest: pictures, labels in 0–1, and a split drawn once and stored.

    A table's columns are recognised, with a header or without, and named on stderr.

    `efiqa index ratings.csv --score mos --range 1 5 --group person --validation 0.2 -o manifest.csv`

    `efiqa index val.csv --root images --split validation -o manifest.csv`
    """
    from efiqa.index import index_folder, index_table
    from efiqa.records import write_manifest

    found: list[str] = []
    if source.is_dir():
        rows = index_folder(
            source,
            validation=validation,
            seed=seed,
            fold=fold,
            split=split,
            group_pattern=group_pattern,
            group_prefix=group_prefix,
        )
    else:
        rows = index_table(
            source,
            root or source.parent,
            image=image,
            score=score,
            low=low_high[0],
            high=low_high[1],
            group=group,
            group_pattern=group_pattern,
            group_prefix=group_prefix,
            validation=validation,
            seed=seed,
            fold=fold,
            split=split,
            recognised=found.append,
        )
    count = write_manifest(output, rows)
    for sentence in found:
        talk.print(plain(sentence), highlight=False)
    talk.print(f"{count:,} rows → {plain(str(output))}")


def degrade(
    manifest: Annotated[Path, typer.Argument(help="Manifest of the pictures to copy.")],
    output: Manifest,
    copies: Annotated[int, typer.Option(min=1, help="Copies of each picture.")] = 4,
    largest: Annotated[int, typer.Option(min=16, help="Largest side of a copy, in pixels.")] = 320,
    split: Annotated[str, typer.Option(help="Only rows of this split are copied.")] = "train",
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Write cropped and degraded copies of pictures, for a teacher to label.

    They lie in a folder beside the manifest that lists them, under the same name.
    """
    from efiqa.cores import available_cores
    from efiqa.records import read_manifest, write_manifest
    from efiqa.vary import vary

    rows = [row for row in read_manifest(manifest) if row.split == split]
    bad: list[str] = []
    made = vary(
        rows,
        output.with_suffix(""),
        copies=copies,
        largest=largest,
        seed=seed,
        workers=workers or available_cores(),
        unreadable=lambda row, error: bad.append(f"{row.image}: {error}"),
    )
    with progress_bar(False) as progress:
        watched = progress.track(made, total=len(rows) * copies, description="copying") if progress else made
        count = write_manifest(output, watched)
    for line in bad:
        talk.print(f"left out: {plain(line)}")
    talk.print(f"{count:,} copies of {len(rows) - len(bad):,} pictures → {plain(str(output))}")
