"""efiqa probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from efiqa.cli.terminal import Precision, Runtime, Seed, Threads, Workers, plain, progress_bar, talk


def probe(
    manifest: Annotated[Path, typer.Argument(help="Manifest of faces to degrade; ratings are not needed.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", "-m", help="ONNX model with a card; repeatable. Default: the embedded student."
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="**laplacian**, **tenengrad**, **brightness**; repeatable."),
    ] = None,
    faces: Annotated[int, typer.Option(min=1, help="Faces to draw from the split.")] = 100,
    split: Annotated[str, typer.Option(help="Only rows of this split.")] = "validation",
    kinds: Annotated[
        str, typer.Option(metavar="NAME,…", help="Only these degradations; default: all twelve.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all numbers as JSON, probe.json.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw mean scores against severity, probe.png; needs the extra report."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    workers: Workers = None,
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
) -> None:
    """Degrade faces in known steps and count the steps at which a score does not fall.

    The table is Markdown, one for each scorer. A tie counts as wrong.

    `efiqa probe manifest.csv -m model.onnx --baseline laplacian -o probe.json --plot probe.png`
    """
    import json

    from efiqa.degrade import KINDS
    from efiqa.probe import (
        Score,
        as_json,
        baseline_score,
        check_plot,
        markdown,
        model_score,
        pictures_to_score,
        sample_faces,
    )
    from efiqa.probe import plot as draw
    from efiqa.probe import probe as measure
    from efiqa.records import read_manifest
    from efiqa.scorer import Scorer
    from efiqa.writing import atomic, check_place

    if plot:
        check_plot(plot)
    for path in filter(None, (output, plot)):
        check_place(path)
    chosen = list(dict.fromkeys(kind.strip() for kind in kinds.split(","))) if kinds else list(KINDS)
    named = [(name, baseline_score(name)) for name in dict.fromkeys(baseline or ())]
    paths: list[Path | None] = [*model] if model else [] if baseline else [None]
    scorers: list[tuple[str, Score]] = []
    for each in paths:
        scorer = Scorer(
            each,
            threads=threads,
            workers=workers,
            runtime=runtime,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
        )
        if scorer.opened.fell_back:
            talk.print(f"ONNX Runtime scores instead: {plain(scorer.opened.fell_back)}")
        scorers.append((f"{scorer.card.name} {scorer.card.version} ({scorer.digest})", model_score(scorer)))
    scorers += named
    bad: list[str] = []
    images = sample_faces(
        read_manifest(manifest),
        faces=faces,
        split=split,
        seed=seed,
        unreadable=lambda row, error: bad.append(f"{row.image}: {error}"),
    )
    for line in bad:
        talk.print(f"left out: {plain(line)}")
    if len(images) < faces:
        talk.print(f"only {len(images):,} pictures of split {split} can be used, not {faces:,}")
    found = []
    with progress_bar(False) as progress:
        for name, score in scorers:
            count = pictures_to_score(len(images), len(chosen))
            task = progress.add_task(plain(name), total=count) if progress else None

            def scored(task: object = task) -> None:
                if progress and task is not None:
                    progress.advance(task)  # type: ignore[arg-type]

            found.append(measure(name, score, images, kinds=chosen, seed=seed, scored=scored))
    print("\n\n".join(map(markdown, found)))  # noqa: T201, before files, which may fail
    if output:
        about = {"manifest": str(manifest), "split": split, "seed": seed, "left_out": len(bad)}
        with atomic(output) as file:
            file.write(json.dumps(as_json(found, **about), indent=1, ensure_ascii=False) + "\n")
    if plot:
        draw(found, plot)
