"""A study's results as one Markdown page and a plot, from its run folders alone.

    python recipes/results.py recipes/small/study.toml -o docs/results.md

What is reported stands in the study's TOML; only `title`, `manifest`, `runs` and rows are needed:

    title = "Results"
    text = "An introduction in Markdown."
    manifest = "runs/small/L.csv"               # rows of split validation are what is measured on
    runs = "runs/small"                         # the folder that run folders lie in
    folds = [0, 1, 2]                           # {fold} above and in a row's runs stands for each in turn
    teacher = "teacher"                         # row whose SRCC the others keep a share of
    reference = "full"                          # row the others are compared with, picture by picture
    shipped = "src/efiqa/models/student.onnx"   # whose intervals are reported

    [[measurement]]                             # any command whose stdout is Markdown
    title = "Scores fall when a face gets worse"
    command = "python -m efiqa probe runs/small/ffhq.csv"

    [[row]]
    name = "full"
    runs = ["full-0", "full-1"]                 # one run, or seeds of the same; or an exported .onnx alone
    note = "all switches on"

Every run is measured as its users would score: its exported model, the Scorer, whole pictures. RUN/model.onnx
and the scores in RUN/validation.csv (beside a model alone MODEL.validation.csv) are used again unless what
they come from is newer, so the page is the same however often it is made.

Beside PAGE.md lies PAGE.json: each run's scores, each network's time and what each measurement said. What is
of a run that is not on this machine is taken from there, so rows can be added to a page anywhere. A row
of which nothing was run, here or before, is left out, and named on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efiqa import Scorer
from efiqa.card import ModelCard
from efiqa.errors import InvalidArgument, RecordError
from efiqa.metrics import Vector, krcc, plcc, rmse, srcc
from efiqa.records import Row, read_manifest, read_predictions, write_predictions
from efiqa.resampling import ROUNDS, estimate, resample
from efiqa.runtime import onnxruntime
from efiqa.sources import load_row
from efiqa.train.checkpoint import RunFolder, current_commit
from efiqa.train.export import Statement, export, prepare
from efiqa.writing import atomic

METRICS = {"SRCC": srcc, "PLCC": plcc, "KRCC": krcc, "RMSE": rmse}
BOOTSTRAPPED = ("SRCC", "PLCC")
WARM_UP, TIMED = 3, 30
NEEDED = {"title", "manifest", "runs", "row"}
KEYS = NEEDED | {"text", "teacher", "reference", "shipped", "measurement", "folds"}
AGREEMENT = f"""scored whole by the exported model. [low, high] is the 95 % percentile bootstrap interval over
pictures ({ROUNDS:,} resamples, the same for all rows) of the mean over runs, ± the standard deviation of
runs that differ in their seed. PLCC and RMSE are raw, without a fit."""
FOLDS = (
    """ Each of {} folds is measured on its own held-out pictures; what stands here is the mean over folds."""
)
INTERVALS = """Conformal intervals of the model that ships (`efiqa score --intervals`), which hold the {}.
Measured on {} held-out pictures: the share whose rating lay inside, shooting series left out of the fit in
turn, and the halfwidth by score."""
COST = f"""Minutes are those of training steps, without validation, on whatever machine a run had. The time a
picture takes is that of the network alone, in one ONNX Runtime thread: the median of {TIMED} runs, in turns
with the other networks."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its network, its scores of the validation pictures, pictures and minutes it was trained for.

    Of a model alone nobody knows the last two. A run in folds has the scores of all, the rest of the first.
    `model` is none where the run is known from the page's file alone.
    """

    backbone: str
    parameters: int
    macs: int
    input_size: int
    seen: int | None
    minutes: float | None
    scores: Vector
    model: Path | None = None

    @property
    def network(self) -> str:
        return f"{self.backbone}, {self.parameters} parameters, {self.input_size} px"

    def to_dict(self) -> dict[str, Any]:
        known = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return known | {"scores": " ".join(f"{score:.5f}" for score in self.scores), "model": None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Run:
        return cls(**{**values, "scores": np.array(values["scores"].split(), np.float64)})


@dataclass(slots=True)
class Kept:
    """PAGE.json: what is known of runs, networks and measured models that need not be on this machine."""

    pictures: str  # digest of the names and ratings that `scores` are of
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    milliseconds: dict[str, float] = field(default_factory=dict)
    measurements: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, rows: Sequence[Row]) -> Kept:
        """What `path` holds, or nothing. Raises RecordError where it is of other pictures or ratings."""
        pictures = hashlib.sha256(repr([(Path(row.image).name, row.score) for row in rows]).encode())
        empty = cls(pictures.hexdigest()[:16])
        if not path.exists():
            return empty
        try:
            kept = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RecordError(f"{path} holds no results of before: {error}", hint="remove it") from error
        if kept.pictures != empty.pictures:
            raise RecordError(
                f"{path} holds scores of other pictures or ratings than the manifest's held-out ones",
                hint="remove it where every run is at hand; another split needs a page of its own",
            )
        return kept

    def write(self, path: Path) -> None:
        with atomic(path) as file:
            json.dump(dataclasses.asdict(self), file, indent=1)
            file.write("\n")


@dataclass(frozen=True, slots=True)
class Result:
    """A row: its runs, each metric of each run, and the mean over runs on each resample of the pictures."""

    runs: list[Run]
    values: dict[str, list[float]]
    samples: dict[str, Vector]

    def mean(self, metric: str) -> float:
        return statistics.mean(self.values[metric])

    def cell(self, metric: str) -> str:
        spread = f" ± {statistics.stdev(self.values[metric]):.3f}" if len(self.runs) > 1 else ""
        interval = f" {_interval(self.samples[metric])}" if metric in self.samples else ""
        return f"{self.mean(metric):.3f}{spread}{interval}"

    def difference(self, other: Result, metric: str) -> str:
        interval = _interval(self.samples[metric] - other.samples[metric], "+")
        return f"{self.mean(metric) - other.mean(metric):+.3f} {interval}"


def _interval(samples: Vector, sign: str = "") -> str:
    ends = np.array([estimate(0.0, samples).low, estimate(0.0, samples).high], np.float64)
    return f"[{ends[0]:{sign}.3f}, {ends[1]:{sign}.3f}]"


def measure(path: Path, rows: Sequence[Row]) -> Run:
    """Export and score what has changed. Raises RecordError where a picture has no score."""
    model = path if path.suffix == ".onnx" else path / "model.onnx"
    if model != path:
        last = RunFolder(path).last  # one that was removed to save room is not missed
        if not model.exists() or (last.exists() and last.stat().st_mtime > model.stat().st_mtime):
            export(*prepare(path, statement=Statement(name=path.name, version="0")), model)
    # Models that lie in one folder have a table each.
    table = model.with_name(f"{model.stem}.validation.csv".removeprefix("model."))
    scorer = Scorer(model)
    seen, spent = (None, None) if model == path else effort(path / "log.jsonl", scorer.card)
    names = [row.image for row in rows]
    kept = table.exists() and table.stat().st_mtime >= model.stat().st_mtime
    if not kept or [found.image for found in read_predictions(table)] != names:
        pictures = (row.image if row.bounds is None else load_row(row) for row in rows)
        scored = zip(scorer.score_many(pictures, faces="none"), names, strict=True)
        write_predictions(table, (dataclasses.replace(found, image=name) for found, name in scored))
    predictions = list(read_predictions(table))
    for found in predictions:
        if found.score is None:
            raise RecordError(f"{table}: {found.image} has no score: {found.message}")
    scores = np.array([found.score for found in predictions], np.float64)
    card = scorer.card
    return Run(card.backbone, card.parameters, card.macs, card.input_size, seen, spent, scores, model)


def held_out(manifest: Path) -> list[Row]:
    """The rated pictures that no stage learns from."""
    return [row for row in read_manifest(manifest) if row.split == "validation" and row.score is not None]


def joined(folds: Sequence[Run]) -> Run:
    """The runs of one row in all folds as one."""
    return dataclasses.replace(folds[0], scores=np.concatenate([run.scores for run in folds]))


def effort(log: Path, card: ModelCard) -> tuple[int, float]:
    """Pictures seen, and minutes spent in training steps, from the rates in `log`."""
    lines = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    # Steps that were done again after an interruption count once.
    rates = {line["step"]: line["images_per_s"] for line in lines if "images_per_s" in line}
    recipe = card.recipe
    each = recipe["optim"]["accumulate"] * (recipe["data"]["batch"] + 2 * recipe["ladder"]["pairs"])
    steps = sorted(rates)
    spent = sum(each * taken / rates[step] for taken, step in zip(np.diff([0, *steps]), steps, strict=True))
    return each * steps[-1], float(spent) / 60


def summarise(runs: list[Run], labels: Vector, folds: NDArray[np.int64]) -> Result:
    """A row's numbers; every row has the same resamples.

    `folds` says of each picture which fold it is of. Models of two folds need not agree on what 0.5 is, so a
    metric is the mean over folds of each fold's own.
    """

    def within(name: str, run: Run, chosen: NDArray[np.int64]) -> float:
        parts = (chosen[folds[chosen] == fold] for fold in np.unique(folds))
        return float(np.mean([METRICS[name](run.scores[part], labels[part]) for part in parts]))

    everything = np.arange(labels.size)

    def mean(name: str, chosen: NDArray[np.int64] = everything) -> float:
        try:
            return statistics.mean(within(name, run, chosen) for run in runs)
        except InvalidArgument:  # a resample of one value has no correlation
            return float("nan")

    values = {name: [within(name, run, everything) for run in runs] for name in METRICS}
    samples = resample(
        lambda chosen: {name: mean(name, chosen) for name in BOOTSTRAPPED},
        {name: mean(name) for name in BOOTSTRAPPED},
        labels.size,
    )
    return Result(runs, values, samples)


def latencies(models: Mapping[str, Path | None], known: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds a picture by network: those `known`, or all measured anew where one of them is not.

    Raises RecordError where a network would have to be measured of which no model is at hand: times of two
    machines do not go into one table.
    """
    if set(models) <= set(known):
        return {name: known[name] for name in models}
    if lost := sorted(name for name, path in models.items() if path is None):
        raise RecordError(f"a network is new here, and none of {lost[0]} is here to be timed beside it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {name: onnxruntime.InferenceSession(path, options) for name, path in models.items()}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(WARM_UP + TIMED):
        for name, session in sessions.items():
            side = session.get_inputs()[0].shape[1]
            picture = np.random.default_rng(turn).integers(0, 256, (1, side, side, 3), np.uint8)
            started = time.perf_counter()
            session.run(None, {"image": picture})
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(values[WARM_UP:]), 2) for name, values in times.items()}


def plot(path: Path, points: Mapping[str, tuple[float, list[float]]]) -> None:
    """SRCC of every run against milliseconds a picture, as a PNG."""
    import matplotlib as mpl

    mpl.use("agg")
    from adjustText import adjust_text
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.set(xlabel="ms a picture: network alone, one thread", ylabel="SRCC", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    names = []
    for name, (milliseconds, values) in points.items():
        axes.plot([milliseconds] * len(values), values, "o", markersize=4)
        beside = [max(other) for place, other in points.values() if place == milliseconds]
        if max(values) == max(beside):  # rows of one network stand in one column: the best is named
            names.append(axes.text(milliseconds, max(values), name, fontsize=7))
    adjust_text(names, ax=axes, arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "grey"})
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def paragraphs(study: dict[str, Any], output: Path, command: str) -> Iterator[str]:
    """What the page says; writes the plot beside it."""
    names = study.get("folds", [""])
    folders = [Path(study["runs"].format(fold=name)) for name in names]
    manifests = [Path(study["manifest"].format(fold=name)) for name in names]
    rows = [held_out(manifest) for manifest in manifests]
    labels = np.array([row.score for part in rows for row in part], np.float64)
    folds = np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    notes = {entry["name"]: entry.get("note", "") for entry in study["row"]}
    beside = output.with_suffix(".json")
    before = Kept.read(beside, [row for part in rows for row in part])
    now = Kept(before.pictures)
    results = {}
    for entry in study["row"]:
        runs = []
        for run in entry["runs"]:
            paths = [folder / run.format(fold=name) for folder, name in zip(folders, names, strict=True)]
            if all(path.exists() for path in paths):
                runs.append(joined(list(map(measure, paths, rows))))
            elif run in before.runs:
                runs.append(Run.from_dict(before.runs[run]))
                print(f"not on this machine, taken from {beside}: {run}", file=sys.stderr)
            else:
                continue
            now.runs[run] = runs[-1].to_dict()
        if runs:
            results[entry["name"]] = summarise(runs, labels, folds)
        else:
            print(f"left out, as it was not run: {entry['name']}", file=sys.stderr)
    yield f"# {study['title']}"
    yield f"Generated by `{command}` at commit {current_commit()}: changes belong into the study."
    yield study.get("text", "")
    parts = FOLDS.format(len(rows)) if len(rows) > 1 else ""
    yield f"## Agreement\n\n{labels.size:,} held-out pictures of {manifests[0].name}, {AGREEMENT}{parts}"
    columns = ["model", "runs", "SRCC [95 %]", "PLCC [95 %]", "KRCC", "RMSE", "what it is"]
    table = [[name, len(row.runs), *map(row.cell, METRICS), notes[name]] for name, row in results.items()]
    if (teacher := study.get("teacher")) in results:
        columns.append(f"share of {teacher}'s SRCC")
        for line, row in zip(table, results.values(), strict=True):
            line.append(f"{row.mean('SRCC') / results[teacher].mean('SRCC'):.1%}")
    yield markdown(columns, table)
    if (name := study.get("reference")) in results:
        yield f"## Difference to {name}\n\nPaired: both are measured on the same resamples."
        others = {other: row for other, row in results.items() if other != name}
        table = [[n, *(row.difference(results[name], m) for m in BOOTSTRAPPED)] for n, row in others.items()]
        yield markdown(["model", "SRCC [95 %]", "PLCC [95 %]"], table)
    models: dict[str, Path | None] = {}
    for run in (run for row in results.values() for run in row.runs):
        models[run.network] = models.get(run.network) or run.model
    now.milliseconds = latencies(models, before.milliseconds)
    milliseconds = {name: now.milliseconds[row.runs[0].network] for name, row in results.items()}
    yield f"## Cost\n\n{COST}"
    columns = ["model", "network", "parameters", "GMAC", "input", "pictures seen", "minutes", "ms a picture"]
    yield markdown(columns, [[n, *_cost(row.runs), f"{milliseconds[n]:.1f}"] for n, row in results.items()])
    plot(output.with_suffix(".png"), {n: (milliseconds[n], row.values["SRCC"]) for n, row in results.items()})
    yield f"![SRCC against ms a picture]({output.stem}.png)"
    if model := study.get("shipped"):
        yield from _intervals(Scorer(model).card)
    for entry in study.get("measurement", ()):
        yield f"## {entry['title']}\n\n{entry.get('text', '')}".strip()
        command = entry["command"]
        yield f"`{command}`"
        now.measurements[command] = _measured(command, before.measurements.get(command))
        yield now.measurements[command]
    now.write(beside)


def _measured(command: str, before: str | None) -> str:
    """What `command` says, or said before where the model that it is of (-m) is not on this machine."""
    words = command.removeprefix("python ").split()
    gone = any(
        word == "-m" and after.endswith(".onnx") and not Path(after).exists()
        for word, after in itertools.pairwise(words)
    )
    if gone and before is not None:
        return before
    return subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def _intervals(card: ModelCard) -> Iterator[str]:
    """How often the intervals of the model that ships held what they should."""
    if (interval := card.interval) is None:
        return
    yield f"## Intervals\n\n{INTERVALS.format(interval.of, f'{interval.n:,}')}"
    ends = [
        f"{card.score_range[0]:g}",
        *(f"{edge:.3f}" for edge in interval.edges),
        f"{card.score_range[1]:g}",
    ]
    bins = [f"scores {low} to {high}" for low, high in itertools.pairwise(ends)]
    shares = zip(interval.coverage, interval.measured, interval.halfwidths, strict=True)
    table = [[f"{c:.0%}", f"{m:.1%}", *(f"± {width:.3f}" for width in row)] for c, m, row in shares]
    yield markdown(["asked", "found", *bins], table)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cost(runs: Sequence[Run]) -> list[object]:
    first = runs[0]
    numbers = [f"{first.parameters:,}", f"{first.macs / 1e9:.3f}", first.input_size]
    spent = ([run.seen for run in runs], [run.minutes for run in runs])
    means = [f"{statistics.mean(known):,.0f}" if None not in known else "–" for known in spent]  # type: ignore[type-var]
    return [first.backbone, *numbers, *means]


def load_study(path: Path) -> dict[str, Any]:
    """Read a study. Raises RecordError for an unknown or missing key, or a row named but not there."""
    try:
        study = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecordError(f"study {path} cannot be read: {error}") from error
    if wrong := sorted(set(study) - KEYS) or sorted(NEEDED - set(study)):
        raise RecordError(f"study {path}: {wrong[0]!r} is unknown or missing", hint=f"keys: {sorted(KEYS)}")
    if wrong := [row for row in study["row"] if not {"name", "runs"} <= set(row) <= {"name", "runs", "note"}]:
        raise RecordError(f"study {path}: a row has name, runs and perhaps note, but got {wrong[0]}")
    names = [entry["name"] for entry in study["row"]]
    for key in ("teacher", "reference"):
        if study.get(key, names[0]) not in names:
            raise RecordError(f"study {path}: {key} is no row: {study[key]!r}", hint=f"rows: {names}")
    return study


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path)
    parser.add_argument("--output", "-o", type=Path, required=True)
    arguments = parser.parse_args()
    command = f"python recipes/results.py {arguments.study} -o {arguments.output}"
    said = paragraphs(load_study(arguments.study), arguments.output, command)
    text = "\n\n".join(filter(None, (paragraph.strip() for paragraph in said)))
    arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
