"""The command `efiqa`: each verb parses, calls one function and prints. Data on stdout, talk on stderr."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import rich
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from efiqa import __version__
from efiqa.errors import EfiqaError, MissingExtra

if TYPE_CHECKING:
    from rich.progress import Progress

    from efiqa.metrics import Logistic
    from efiqa.records import Prediction, Row
    from efiqa.scorer import Scorer
    from efiqa.sources import Named

app = typer.Typer(
    help="Face image quality: every face gets a score.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
talk = Console(stderr=True)
TABLE_ROWS = 200
"""A table on a terminal shows this many rows; files and pipes get all."""


def main() -> NoReturn:
    """Run the command: 0 for success, 1 for failed rows under --strict, 2 for errors, 130 for Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a pipe gets UTF-8, as a file does; no name may end the run
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except EfiqaError as error:
        _complain(str(error), error.hint)
        code = 2
    except typer.Exit as error:
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if not hasattr(error, "format_message"):  # a mistake of ours: the traceback is for us
            raise
        _complain(error.format_message(), "efiqa --help, or efiqa VERB --help")
        code = 2
    if code == 130:  # also what newer typer returns for Ctrl-C
        _complain("interrupted", "the same command with --resume goes on, where it has that option")
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, hint: str | None = None) -> None:
    talk.print(f"[bold red]error:[/] {_plain(message)}", highlight=False, soft_wrap=True)
    if hint:
        talk.print(f"[bold cyan]hint:[/] {_plain(hint)}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    return escape(text.encode("utf-8", "backslashreplace").decode())


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)  # noqa: T201
        raise typer.Exit


Model = Annotated[
    Path | None, typer.Option("--model", "-m", help="ONNX model with a card; default: the embedded student.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads inside one network run.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Pictures at a time; default: one per usable core.")]


def _faces(value: str) -> str:
    if value not in ("all", "largest", "none"):
        raise typer.BadParameter(f"expected all, largest or none, but got {value!r}")
    return value


def _confidence(value: str) -> str:
    if value not in ("none", "weight"):
        raise typer.BadParameter(f"expected none or weight, but got {value!r}")
    return value


@app.command()
def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT…",
            help="Pictures, folders (with subfolders), .txt lists, manifests, or - for a list on stdin.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write scores.csv, .jsonl or .parquet; appears when all is done."
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
    threads: Threads = 1,
    workers: Workers = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted job for the same output.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when a row has no score.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:
    """Score faces in pictures.

    Without -o, rows go to stdout: a table on a terminal, JSON lines in a pipe. Every input gives at
    least one row; what cannot be scored says why in `status` and `message`.

    `efiqa score photos/ -o scores.csv`

    `find . -name '*.jpg' | efiqa score - --faces largest | jq .score`
    """
    from efiqa.scorer import Scorer
    from efiqa.sources import expand

    if resume and output is None:
        raise typer.BadParameter("--resume needs -o: only a job with an output file can go on")
    named = [name.strip() for name in views.split(",")] if views else []
    scorer = Scorer(model, detector=detector, threads=threads, workers=workers, views=named)
    items = expand(inputs, sys.stdin.buffer if sys.stdin else None)
    counts: Counter[str] = Counter()
    with _progress(quiet) as progress:
        total = None
        if progress and "-" not in inputs:
            total = sum(1 for _ in expand(inputs))
        task = progress.add_task("scoring", total=total) if progress else None

        def done(rows: list[Prediction]) -> None:
            counts.update(row.status for row in rows)
            if progress and task is not None:
                progress.advance(task)

        def rows_of(remaining: Iterable[Named]) -> Iterator[list[Prediction]]:
            return scorer.predict_many(remaining, faces=faces)  # type: ignore[arg-type]

        if output is not None:
            from efiqa.journal import run_job

            job = {
                "model": f"{scorer.card.name}@{scorer.digest}",
                "faces": faces,
                "detector": detector,
                "views": ",".join(scorer.views) or None,
                "efiqa": __version__,
            }
            run_job(items, rows_of, output, job=job, resume=resume, done=done)
        else:
            try:
                _print_rows(rows_of(items), done)
            except BrokenPipeError:  # the reader of our output has gone, as `head` does
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit from None
    if not quiet:
        _summary(counts, scorer, output)
    if strict and set(counts) - {"ok"}:
        raise typer.Exit(1)


def _print_rows(rows: Iterator[list[Prediction]], done: Any) -> None:
    from efiqa.records import json_line

    if not sys.stdout.isatty():
        for group in rows:
            sys.stdout.writelines(json_line(row) for row in group)
            sys.stdout.flush()
            done(group)
        return
    table = Table("image", "face", "status", "score", "quality", "message")
    for group in rows:
        for row in group:
            if table.row_count < TABLE_ROWS:
                number = "" if row.score is None else f"{row.score:.3f}"
                quality = "" if row.quality is None else f"{row.quality:.0f}"
                table.add_row(
                    _plain(row.image), str(row.face), row.status, number, quality, _plain(row.message)
                )
        done(group)
    rich.print(table)
    if table.row_count == TABLE_ROWS:
        talk.print(f"only the first {TABLE_ROWS} rows are shown; -o scores.csv writes all")


def _summary(counts: Counter[str], scorer: Scorer, output: Path | None) -> None:
    parts = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    where = f" → {_plain(str(output))}" if output else ""
    talk.print(
        f"{sum(counts.values()):,} rows: {parts}; model {scorer.card.name} {scorer.card.version}{where}",
        highlight=False,
    )


@contextmanager
def _progress(quiet: bool, unit: str = "images/s") -> Iterator[Progress | None]:
    """A bar on stderr with count, rate, time left; none where nobody looks."""
    if quiet or not talk.is_terminal:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} {unit}")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk) as progress:
        yield progress


@app.command()
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
        ("licence", card.licence),
        ("trained on", sources),
        ("measured", measured),
        ("limits", "\n".join(card.limits)),
        ("made by", f"recipe {card.recipe_digest}, commit {card.commit}"),
    ]
    for name, value in rows:
        table.add_row(name, _plain(value))
    rich.print(table)


Manifest = Annotated[Path, typer.Option("--output", "-o", help="The manifest to write, a .csv.")]
Seed = Annotated[int, typer.Option(help="Another seed gives another draw.")]


@app.command()
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
            split=split,
            recognised=found.append,
        )
    count = write_manifest(output, rows)
    for sentence in found:
        talk.print(_plain(sentence), highlight=False, soft_wrap=True)
    talk.print(f"{count:,} rows → {_plain(str(output))}")


@app.command()
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
    from efiqa.records import read_manifest, write_manifest
    from efiqa.scorer import available_cores
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
    with _progress(False) as progress:
        watched = progress.track(made, total=len(rows) * copies, description="copying") if progress else made
        count = write_manifest(output, watched)
    for line in bad:
        talk.print(f"left out: {_plain(line)}")
    talk.print(f"{count:,} copies of {len(rows) - len(bad):,} pictures → {_plain(str(output))}")


@app.command()
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
    talk.print(f"{count:,} rows{parts} → {_plain(str(output))}")


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
        talk.print(f"calibration: identity, because {error}: {_plain(str(rated))}", soft_wrap=True)
        return None
    talk.print(
        f"calibration: logistic fitted on {scores.size:,} training rows of {_plain(str(rated))}, "
        f"RMSE {rmse(scores, labels):.4f} → {rmse(fitted(scores), labels):.4f}",
        soft_wrap=True,
    )
    return fitted


@app.command()
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
    with _extra("train"):
        from efiqa.train.fit import fit
        from efiqa.train.recipe import load_recipe
    read = load_recipe(recipe, changes or ())
    with _progress(False, "steps/s") as progress:
        task = progress.add_task("training", total=None) if progress else None

        def show(step: int, steps: int, values: dict[str, Any]) -> None:
            if progress and task is not None:
                text = " ".join(f"{name} {value}" for name, value in values.items())
                progress.update(task, completed=step, total=steps, description=text)

        position = fit(read, output, progress=show)
    if position.before:
        talk.print(f"before: {position.before}")
    talk.print(
        f"step {position.step:,}, {position.seen:,} pictures seen, {position.metrics} → {_plain(str(output))}"
    )


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(help="Run folder of efiqa train, or a checkpoint file of the paper's authors."),
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
) -> None:
    """Write a trained model as one ONNX file that explains itself, equal to PyTorch in the real Scorer.

    `efiqa export runs/student -o student.onnx --statement student.card.toml`

    `efiqa export checkpoint.pt -o published.onnx`
    """
    with _extra("train"):
        from efiqa.train.export import export as write_model
        from efiqa.train.export import load_statement, population_of, prepare
    from efiqa.records import read_predictions

    if (population is None) != (not population_name):
        raise typer.BadParameter("--population and --population-name go together")
    table = population_of(population_name, read_predictions(population)) if population else None
    model, card = prepare(source, load_statement(statement) if statement else None, population=table)
    write_model(model, card, output)
    talk.print(
        f"{card.name} {card.version}: {card.parameters:,} parameters, "
        f"{card.macs / 1e9:.3f} GMAC at {card.input_size} px, "
        f"{output.stat().st_size / 1e6:.1f} MB → {_plain(str(output))}"
    )


@contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), extra=name) from error
