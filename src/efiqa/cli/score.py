"""efiqa score."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich
import typer
from rich.table import Table

from efiqa import __version__
from efiqa.cli.terminal import Model, Precision, Runtime, Threads, Workers, plain, progress_bar, talk
from efiqa.errors import RecordError

if TYPE_CHECKING:
    from efiqa.records import Prediction
    from efiqa.scorer import Scorer
    from efiqa.sources import Named

SHARD_SIZE = 1000
TABLE_ROWS = 200
"""A table on a terminal shows this many rows; files and pipes get all."""


def _faces(value: str) -> str:
    if value not in ("all", "largest", "none"):
        raise typer.BadParameter(f"expected all, largest or none, but got {value!r}")
    return value


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Pictures, folders (with subfolders), .tar and .zip archives, .parquet with pictures, .txt "
            "lists, manifests, - for a list on stdin; each in a store too: s3://, gs://, az://, https://.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER/",
            help="Write scores.csv, .jsonl or .parquet, which appears when all is done; or, with / at its "
            "end, a data set: a folder, here or in a store, with a .parquet for each archive, and for every "
            "so many files.",
        ),
    ] = None,
    faces: Annotated[
        str,
        typer.Option(
            callback=_faces,
            help="**all**, largest first; only the **largest**; **none**: the picture is the crop.",
        ),
    ] = "all",
    model: Model = None,
    detector: Annotated[str, typer.Option(help="blazeface, or the path of a YuNet ONNX file.")] = "blazeface",
    views: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Score views of each face too (flip, shift, scale, rotate, native): `score` is the mean, "
            "`spread` says how far they lie apart. Several times slower; made for labelling.",
        ),
    ] = "",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What quality is relative to, by efiqa calibrate; default: the model's own."
        ),
    ] = None,
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="Add `low` and `high`: 90 % of mean ratings of whole pictures."),
    ] = False,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME",
            help="Add `decision` and `reasons`: a file of efiqa threshold, or one that ships: **curation**, "
            "**enrolment**, **kiosk**, **profile**.",
        ),
    ] = None,
    attributes: Annotated[
        bool,
        typer.Option(
            "--attributes",
            help="Add why: sharpness, exposure, … (0–100 each), and those below 50 as `reasons`.",
        ),
    ] = False,
    column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of a .parquet's pictures, where it has several."),
    ] = None,
    threads: Threads = 1,
    workers: Workers = None,
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted job for the same output.")
    ] = False,
    shard_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Of a data set: files in one part; default: {SHARD_SIZE:,}."),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a data set: processes that score; default: 1, in a cluster as many as it has room for.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Score a data set in a Ray cluster: its address, **auto** (the default: one that runs, else "
            "one here), or **local**. `--workers` is pictures at a time, and cores, of each process; "
            "default: 1.",
        ),
    ] = None,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a data set: append what happens, as JSON lines.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.prom", help="Of a data set: keep its numbers for Prometheus in this file."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when a row has no score.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Score faces in pictures.

    Without -o, rows go to stdout: a table on a terminal, JSON lines in a pipe. Every input gives at
    least one row; what cannot be scored says why in `status` and `message`.

    `efiqa score photos/ -o scores.csv`

    `find . -name '*.jpg' | efiqa score - --faces largest | jq .score`

    `efiqa score 's3://bucket/faces-{0000..0999}.tar' -o s3://bucket/scores/ --ray`
    """
    from efiqa.calibrate import read_calibration
    from efiqa.cores import available_cores
    from efiqa.policy import read_policy
    from efiqa.records import ATTRIBUTES
    from efiqa.scorer import DEFAULT_COVERAGE, Scorer
    from efiqa.sources import entries, expand
    from efiqa.stores import is_address, public
    from efiqa.workers import Setup

    if resume and output is None:
        raise typer.BadParameter("--resume needs -o: only a job with an output file can go on")
    sharded = output is not None and output.endswith(("/", os.sep))
    if not sharded:
        given = {"--shard-size": shard_size, "--concurrency": concurrency, "--ray": ray, "--log": log}
        for option, value in {**given, "--metrics": metrics}.items():
            if value is not None:
                raise typer.BadParameter(f"{option} needs -o FOLDER/: only a data set is scored so")
        if output is not None and is_address(output):
            raise RecordError(
                f"{public(output)}: one file of scores is written here, not in a store",
                hint="with / at its end it is a data set, which may lie in a store",
            )
    if ray is not None or concurrency is not None:
        workers = workers or (1 if ray is not None else max(1, available_cores() // (concurrency or 1)))
    named = [name.strip() for name in views.split(",")] if views else []
    options: dict[str, Any] = {
        "model": model,
        "detector": detector,
        "threads": threads,
        "workers": workers,
        "views": named,
        "calibration": read_calibration(calibration) if calibration else None,
        "coverage": DEFAULT_COVERAGE if intervals else None,
        "policy": None if policy is None else read_policy(policy),
        "attributes": attributes,
        "runtime": runtime,
        "precision": precision,
    }
    scorer = Scorer(**options)
    more = ["spread"] if scorer.views else []
    more += ["low", "high"] if scorer.coverage else []
    more += ["decision"] if scorer.policy else []
    more += ["reasons"] if scorer.attributes else []
    more += ATTRIBUTES if attributes else []
    if not quiet:
        _say_limits(scorer, faces)
    stdin = sys.stdin.buffer if sys.stdin else None
    job = {
        "model": f"{scorer.card.name}@{scorer.digest}",
        "faces": faces,
        "detector": detector,
        "views": ",".join(scorer.views) or None,
        "calibration": _digest(scorer.calibration),
        "coverage": scorer.coverage,
        "policy": _digest(scorer.policy),
        "attributes": attributes or None,
        "runtime": [scorer.opened.runtime, scorer.opened.precision],
        "efiqa": __version__,
    }
    if sharded and output is not None:
        from efiqa.cli.dataset import score_data_set

        options["runtime"] = scorer.opened.runtime.lower().replace(" ", "")  # one for all, whatever they have
        rows, decided, failed = score_data_set(
            entries(inputs, stdin, column=column),
            output,
            Setup(options, faces, more),  # type: ignore[arg-type]
            job=job,
            shard_size=shard_size or SHARD_SIZE,
            concurrency=concurrency,
            ray=ray,
            resume=resume,
            log=log,
            metrics=metrics,
            quiet=quiet,
        )
        _end(rows, decided, scorer, public(output), quiet=quiet)
        if failed or (strict and set(rows) - {"ok"}):
            raise typer.Exit(1)
        return
    items = expand(inputs, stdin, column=column)
    counts: Counter[str] = Counter()
    decisions: Counter[str] = Counter()
    with progress_bar(quiet) as progress:
        total = None
        if progress and not any(text == "-" or is_address(text) for text in inputs):
            total = _count(inputs, column)
        task = progress.add_task("scoring", total=total) if progress else None

        def done(rows: list[Prediction]) -> None:
            counts.update(row.status for row in rows)
            decisions.update(row.decision for row in rows if row.decision)
            if progress and task is not None:
                progress.advance(task)

        def rows_of(remaining: Iterable[Named]) -> Iterator[list[Prediction]]:
            return scorer.predict_many(remaining, faces=faces)  # type: ignore[arg-type]

        if output is not None:
            from efiqa.journal import run_job

            run_job(items, rows_of, Path(output), job=job, resume=resume, more=more, done=done)
        else:
            try:
                _print_rows(rows_of(items), more, done)
            except BrokenPipeError:  # the reader of our output has gone, as `head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit from None
    _end(counts, decisions, scorer, output, quiet=quiet)
    if strict and set(counts) - {"ok"}:
        raise typer.Exit(1)


def _count(inputs: list[str], column: str | None) -> int | None:
    """How many pictures there are; none where an archive holds some, which only reading it would tell."""
    from efiqa.sources import Shard, entries

    number = 0
    for entry in entries(inputs, column=column):
        if isinstance(entry, Shard):
            return None
        number += 1
    return number


def _say_limits(scorer: Scorer, faces: str) -> None:
    """What a runtime, policy or interval cannot do here, though it was asked for."""
    if scorer.opened.fell_back:
        talk.print(f"ONNX Runtime scores instead: {plain(scorer.opened.fell_back)}")
    if scorer.policy and scorer.policy.coverage and scorer.coverage is None:
        talk.print(
            f"the policy {plain(scorer.policy.name)} reviews what is uncertain, but the model's card has no "
            "intervals: nothing is reviewed for that",
        )
    if scorer.coverage and scorer.card.interval and faces != "none":
        talk.print(
            f"intervals hold the {plain(scorer.card.interval.of)}; of face crops nothing was measured",
        )


def _digest(part: object) -> str | None:
    """What a resumed job recognises a calibration or policy by."""
    return None if part is None else hashlib.sha256(repr(part).encode()).hexdigest()[:12]


def _print_rows(rows: Iterator[list[Prediction]], more: Sequence[str], done: Any) -> None:
    from efiqa.records import prediction_line

    if not sys.stdout.isatty():
        for group in rows:
            sys.stdout.writelines(prediction_line(row, more=more) for row in group)
            sys.stdout.flush()
            done(group)
        return
    shown = [name for name in ("decision", "reasons") if name in more]
    table = Table("image", "face", "status", "score", "quality", *shown, "message")
    for group in rows:
        for row in group:
            if table.row_count < TABLE_ROWS:
                number = "" if row.score is None else f"{row.score:.3f}"
                quality = "" if row.quality is None else f"{row.quality:.0f}"
                said = [(getattr(row, name) or "").replace(";", ", ") for name in shown]
                table.add_row(
                    plain(row.image), str(row.face), row.status, number, quality, *said, plain(row.message)
                )
        done(group)
    rich.print(table)
    if table.row_count == TABLE_ROWS:
        talk.print(f"only the first {TABLE_ROWS} rows are shown; -o scores.csv writes all")


def _end(
    counts: Counter[str], decisions: Counter[str], scorer: Scorer, output: str | None, *, quiet: bool
) -> None:
    """What the job came to, on stderr."""
    if quiet:
        return
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    where = f" → {plain(output)}" if output else ""
    talk.print(
        f"{sum(counts.values()):,} rows: {parts}; model {scorer.card.name} {scorer.card.version} "
        f"({scorer.opened.runtime}, {scorer.opened.precision}){where}",
        highlight=False,
    )
    if scorer.policy:
        parts = ", ".join(f"{decisions[name]:,} {name}" for name in ("accept", "review", "reject"))
        talk.print(f"policy {plain(scorer.policy.name)}: {parts}", highlight=False)
