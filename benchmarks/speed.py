"""How fast efiqa scores, against how others do and what this machine could: docs/performance.md in one run.

    python benchmarks/speed.py --model student --model efiqa-192 --int8 A.onnx --int8 B.onnx --rows
    python benchmarks/speed.py --only-ratios --rounds 15 --model … --int8 … --page docs/performance.md
    python benchmarks/speed.py --only-linear --page docs/performance.md
    python benchmarks/speed.py --quick        (minutes; proves that it works, says nothing)

Every model and int8 copy runs in each runtime, and models in bf16 where the processor has it.

Needs the extras `openvino`, `train` (PyTorch), `yunet` (OpenCV), `parquet` and `report` (the plot). BRISQUE
wants older packages, so it has an environment of its own, which --peers names; else there is no such row:

    python -m venv ENV && ENV/bin/pip install 'brisque==0.2.0' 'scipy<1.15' pillow opencv-python-headless
    python benchmarks/speed.py --peers ENV/bin/python …

Every contender is a process with its model loaded (`contenders.py`). They take turns, so that what else the
machine does falls on each alike; a turn has as many pictures as take about --seconds. Numbers are medians, in
brackets the least and the most. On a busy machine CPU time says more than wall time. The pictures are made
here: a sample portrait on texture, with grain. Prints Markdown, or writes it between the marks in --page,
with a plot beside it; --only-ratios and --only-linear each write their own part there and leave the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import PIL.Image

from efiqa import __version__, load_image
from efiqa.bench import (
    STAGES,
    Entrant,
    Result,
    Spread,
    WatchedScorer,
    entrants_of,
    matrix_multiply_rate,
    measure_stages,
    peak_memory,
)
from efiqa.cores import available_cores
from efiqa.faces import BlazeFace, Face
from efiqa.image import Decoded, decode_reduced
from efiqa.openvino_runtime import has_bf16, installed
from efiqa.records import Prediction, write_predictions
from efiqa.runtime import find_model, open_model, shipped_models

CONTENDERS = Path(__file__).with_name("contenders.py")
PORTRAIT = Path(__file__).parent.parent / "examples" / "samples" / "astronaut.jpg"
PAPERS = "efiqa-352"
SIZES = {"200 px": (200, 200), "512 px": (512, 512), "12 Mpx": (4000, 3000)}
SMALL, USUAL, LARGE = "200 px JPEG", "512 px JPEG", "12 Mpx JPEG"
TARGETS = {f"{PAPERS}, ONNX Runtime as it comes": 5, f"{PAPERS}, PyTorch eager": 8}
"""How many times the images/s of these efiqa is to reach, on USUAL and two cores."""
RATIOS = "### Times as fast as the usual ways"
MANY = "### Many pictures"
MARKS = ("<!-- benchmarks/speed.py writes from here -->\n", "<!-- to here -->\n")


@dataclass
class Took:
    """Turns of one contender on one kind of picture."""

    images_per_s: Spread = field(default_factory=Spread)
    cpu_ms: Spread = field(default_factory=Spread)
    peak_mb: float | None = None


@dataclass
class Contender:
    """How `contenders.py` is started, its kinds of picture, and what turns took, by cores and kind."""

    name: str
    command: list[str]
    kinds: list[str]
    entrant: Entrant | None = None
    took: dict[tuple[int, str], Took] = field(default_factory=dict)
    start_s: Spread = field(default_factory=Spread)


class Running:
    """A contender's process, which has its model loaded."""

    def __init__(self, contender: Contender, cores: int) -> None:
        python, *rest = contender.command
        command = [python, str(CONTENDERS), str(cores), *rest]
        self.contender = contender
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def judge(self, paths: Sequence[str]) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(paths) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender.name} has ended; why stands above")
        return dict(json.loads(line))

    def close(self) -> None:
        self._process.communicate()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def label(entrant: Entrant, scorer: WatchedScorer) -> str:
    """Of a model in a runtime and precision."""
    model = "student" if entrant.model == find_model() else scorer.card.source
    return f"efiqa, {model}, {scorer.opened.runtime} {scorer.opened.precision}"


def entered(models: Sequence[str | Path]) -> dict[str, tuple[Entrant, WatchedScorer]]:
    """Models in each runtime and precision, the paper's as it is said to be used, by their labels."""
    found: dict[str, tuple[Entrant, WatchedScorer]] = {}
    for path in dict.fromkeys(find_model(model) for model in (*models, PAPERS)):
        for entrant in entrants_of(path, ["onnxruntime"] if path == find_model(PAPERS) else None):
            chosen = {"runtime": entrant.runtime, "precision": entrant.precision}
            scorer = WatchedScorer(entrant.model, workers=1, **chosen)
            name = label(entrant, scorer)
            found[f"{name}, {path.name}" if name in found else name] = entrant, scorer
    return found


def without_bf16() -> str | None:
    """Why nothing is measured in bf16; none where it is."""
    if not installed():
        return "bf16 was not measured: it is OpenVINO's, which is not installed.\n"
    return None if has_bf16() else "bf16 was not measured: this processor has no such arithmetic.\n"


def contenders(
    scorers: dict[str, tuple[Entrant, WatchedScorer]], peers: str | None, kinds: list[str]
) -> list[Contender]:
    found = []
    for faces in ("none", "all"):
        for name, (entrant, _) in scorers.items():
            options = {"model": str(entrant.model), "faces": faces}
            options |= {"runtime": entrant.runtime, "precision": entrant.precision}
            given = kinds if faces == "none" else [kind for kind in (USUAL, LARGE) if kind in kinds]
            said = name if faces == "none" else f"{name}, faces found"
            command = [sys.executable, "efiqa", json.dumps(options)]
            found.append(Contender(said, command, given, entrant))
    model = json.dumps({"model": PAPERS})
    onnx, torch = TARGETS
    found.append(Contender(onnx, [sys.executable, "onnxruntime", model], kinds))
    found.append(Contender(torch, [sys.executable, "pytorch", model], kinds))
    if peers:
        small = [kind for kind in kinds if "Mpx" not in kind]  # a photo takes it a minute
        found.append(Contender("BRISQUE (brisque 0.2.0)", [peers, "brisque", "{}"], small))
    found.append(Contender("Laplacian variance (OpenCV)", [sys.executable, "laplacian", "{}"], kinds))
    return found


def pictures(folder: Path, kinds: Iterable[str], count: int) -> dict[str, list[str]]:
    """Paths by kind: `count` of each, of 12 Mpx two."""
    generator = np.random.default_rng(0)
    portrait = PIL.Image.fromarray(load_image(PORTRAIT))
    made: dict[str, list[str]] = {kind: [] for kind in kinds}
    for size in dict.fromkeys(kind.rsplit(" ", 1)[0] for kind in made):
        width, height = SIZES[size]
        for index in range(min(count, 2) if width > 1000 else count):
            coarse = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            canvas = PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC)
            side = 3 * height // 4
            canvas.paste(portrait.resize((side, side)), ((width - side) // 2, height - side))
            grain = generator.normal(0, 4, (height, width, 1)).astype(np.float32)
            picture = PIL.Image.fromarray(np.clip(np.asarray(canvas) + grain, 0, 255).astype(np.uint8))
            for ending, options in (("JPEG", {"quality": 90}), ("PNG", {"compress_level": 6})):
                if (kind := f"{size} {ending}") in made:
                    path = folder / f"{size.replace(' ', '')}_{index:03d}.{ending.lower()}"
                    picture.save(path, ending, **options)
                    made[kind].append(str(path))
    return made


def cycled(paths: Sequence[str], count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(paths), count))


def take_turns(
    field_of: list[Contender], paths: dict[str, list[str]], cores: int, rounds: int, seconds: float
) -> None:
    """Rounds of all contenders on all kinds of picture."""
    with contextlib.ExitStack() as stack:
        running = []
        for contender in field_of:
            for _ in range(min(rounds, 3)):  # all but one only to see how long starting takes
                started = time.perf_counter()
                process = Running(contender, cores)
                stack.callback(process.close)
                process.judge(next(iter(paths.values()))[:1])
                contender.start_s.values.append(time.perf_counter() - started)
            running.append(process)
        for kind, files in paths.items():
            counts = {}
            for process in running:
                if kind in process.contender.kinds:
                    wall = process.judge(files[:1])["wall"]  # warms what depends on the size
                    if wall < seconds:
                        wall = process.judge(cycled(files, 2 * cores))["wall"] / (2 * cores)
                    counts[process.contender.name] = max(1, round(seconds / wall))
            for number in range(rounds):
                say(f"{cores} cores, {kind}, round {number + 1} of {rounds}")
                for process in running:
                    if kind not in process.contender.kinds:
                        continue
                    count = counts[process.contender.name]
                    answer = process.judge(cycled(files, count))
                    took = process.contender.took.setdefault((cores, kind), Took())
                    took.images_per_s.values.append(count / answer["wall"])
                    took.cpu_ms.values.append(1e3 * answer["cpu"] / count)
                    took.peak_mb = answer["peak_mb"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def speeds(field_of: list[Contender], kinds: list[str], cores: int) -> Iterator[str]:
    yield f"### {cores} core{'s' if cores > 1 else ''}: images/s, and CPU ms per image\n"

    def cell(took: Took | None) -> str:
        return f"{took.images_per_s.as_text(1)}; {took.cpu_ms.median:.1f}" if took else "–"

    rows = [
        [each.name, *(cell(each.took.get((cores, kind))) for kind in kinds), *start_and_memory(each, cores)]
        for each in field_of
    ]
    yield table(["", *kinds, "start, s", f"peak MB: {', '.join(kinds[:: max(1, len(kinds) - 1)])}"], rows)


def start_and_memory(contender: Contender, cores: int) -> Iterator[str]:
    yield f"{contender.start_s.median:.2f}"
    taken = [took.peak_mb for (number, _), took in contender.took.items() if number == cores]
    yield ", ".join("–" if mb is None else f"{mb:.0f}" for mb in dict.fromkeys((taken[0], taken[-1])))


def targets(field_of: list[Contender], cores: int) -> Iterator[str]:
    """Ratios of images/s, turn by turn."""
    by_name = {each.name: each for each in field_of}
    yield f"{RATIOS}, {USUAL}, {cores} cores\n"
    rows = []
    for ours in field_of:
        if ours.entrant is None or "faces found" in ours.name or ours.entrant.model == find_model(PAPERS):
            continue
        rates = ours.took[cores, USUAL].images_per_s.values
        cells = []
        for name, target in TARGETS.items():
            theirs = by_name[name].took[cores, USUAL].images_per_s.values
            ratio = Spread([a / b for a, b in zip(rates, theirs, strict=True)])
            verdict = "reached" if ratio.median >= target else "missed"
            cells.append(f"{ratio.as_text(2)}; target {target}: {verdict}")
        rows.append([ours.name, *cells])
    yield table(["", *TARGETS], rows)


def by_stage(
    scorers: dict[str, tuple[Entrant, WatchedScorer]],
    field_of: list[Contender],
    paths: dict[str, list[str]],
    rounds: int,
    cores: int,
) -> Iterator[str]:
    """Stages in one thread, and what share of the machine's limit network and whole path reach."""
    named = {each.name: each for each in field_of}
    rates = {one.precision: matrix_multiply_rate(one.precision) for one, _ in scorers.values()}
    rates |= {"int8": matrix_multiply_rate("int8")}
    for kind, faces in ((USUAL, "none"), (LARGE, "all")):
        if kind not in paths:
            continue
        found = {name: Result(one.card, "", "") for name, (_, one) in scorers.items()}
        scored = [scorer for _, scorer in scorers.values()]
        for scorer in scored:
            scorer.predict(paths[kind][0], faces=faces)  # type: ignore[arg-type]
        watched = [Libraries(scorer, paths[kind]) for scorer in scored] if faces == "all" else []
        alone = {each.name: (each, {stage: Spread() for stage in STAGES}) for each in watched}
        for _ in range(rounds):
            for name, (_, scorer) in scorers.items():
                files = cycled(paths[kind], 4 if faces == "all" else 20)
                measure_stages(scorer, files, faces, found[name])  # type: ignore[arg-type]
            for libraries, own in alone.values():
                for stage, value in libraries.spent().items():
                    own[stage].values.append(value)
        yield f"### Stages of one {kind}, `--faces {faces}`, one thread: CPU ms (least–most)\n"
        rows = [[name, *(found[name].stages[stage][1].as_text(2) for stage in STAGES)] for name in found]
        rows += [[name, *(own[stage].as_text(2) for stage in STAGES)] for name, (_, own) in alone.items()]
        yield table(["", *STAGES], rows)
        if faces == "none":
            yield (
                f"### Share of this machine's limit, {kind}\n\n"
                "The limit is the rate at which one thread multiplies matrices of 1,024 × 1,024 in the same "
                "precision, over the network's multiply-adds; both in CPU time.\n"
            )
            lines = []
            for name, (_, scorer) in scorers.items():
                precision = scorer.opened.precision
                rate = rates.get(precision)
                if rate is None:
                    continue
                least = 1e3 * 2 * scorer.card.macs / rate
                network = found[name].stages["network"][1].median
                whole = named[name].took[cores, kind].cpu_ms.median
                macs = f"{scorer.card.macs / 1e9:.3f}"
                cells = [
                    macs,
                    f"{rate / 1e9:.0f}",
                    f"{least:.2f}",
                    f"{least / network:.0%}",
                    f"{least / whole:.0%}",
                ]
                lines.append([name, *cells])
            head = [
                "",
                "GMAC",
                "limit, GFLOP or GOP a CPU s",
                "ms at the limit",
                "network alone",
                "end to end",
            ]
            yield table(head, lines)


class Libraries:
    """What Pillow and ONNX Runtime alone take for the same photos: the calls that found the faces, again."""

    def __init__(self, scorer: WatchedScorer, paths: Sequence[str]) -> None:
        self._decodes: list[tuple[str, int]] = []
        self._calls: list[Callable[[], object]] = []
        self._photos = len(paths)
        detector, find = scorer._detect(), scorer._found
        assert isinstance(detector, BlazeFace)
        session = mock.Mock(run=self._kept(detector._session.run))

        def decode(path: str, *given: Any, **options: Any) -> tuple[Decoded, int]:
            picture, reduction = decode_reduced(path, *given, **options)
            self._decodes.append((path, reduction))
            return picture, reduction

        def found(picture: Decoded) -> list[Face]:
            with (
                mock.patch.object(PIL.Image.Image, "reduce", self._kept(PIL.Image.Image.reduce)),
                mock.patch.object(PIL.Image.Image, "resize", self._kept(PIL.Image.Image.resize)),
                mock.patch.object(detector, "_session", session),
            ):
                return find(picture)

        with mock.patch("efiqa.scorer.decode_reduced", decode), mock.patch.object(scorer, "_found", found):
            for path in paths:
                scorer.predict(path, faces="all")

    def _kept(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*given: Any, **options: Any) -> Any:
            before = len(self._calls)
            result = call(*given, **options)
            # In place of what it called itself, as Pillow's resize calls reduce.
            self._calls[before:] = [functools.partial(call, *given, **options)]
            return result

        return kept

    @property
    def name(self) -> str:
        """By how small the photos were decoded, one time after the other."""
        times = ["whole" if reduction == 1 else f"at 1/{reduction}" for _, reduction in self._decodes]
        return f"Pillow and ONNX Runtime alone, decoded {' and '.join(dict.fromkeys(times))}"

    def spent(self) -> dict[str, float]:
        """CPU ms per photo."""
        started = time.process_time()
        for path, reduction in self._decodes:
            with PIL.Image.open(path) as picture:
                picture.draft(None, (picture.width // reduction, picture.height // reduction))
                picture.load()
        decoded = time.process_time()
        for call in self._calls:
            call()
        detected = time.process_time()
        both = {"decode": decoded - started, "detect": detected - decoded}
        return {stage: 1e3 * spent / self._photos for stage, spent in both.items()}


def linear(folder: Path, model: str | None, counts: Sequence[int]) -> Iterator[str]:
    """`efiqa score LIST` in a fresh process, the same small pictures again and again."""
    cards = {name: open_model(find_model(name)).card for name in ([model] if model else shipped_models())}
    quickest = min(cards, key=lambda name: cards[name].macs)
    said = cards[quickest].source
    yield f"{MANY}: `efiqa score LIST --faces none`, {said}, {SMALL}, start included\n"
    files = pictures(folder, [SMALL], 20)[SMALL]
    rows = []
    for count in counts:
        say(f"{count:,} pictures")
        listed = folder / f"{count}.txt"
        listed.write_text("\n".join(cycled(files, count)) + "\n")
        command = [sys.executable, "-m", "efiqa", "score", "-q", "-m", quickest, "--faces", "none"]
        wall, before = time.perf_counter(), os.times()
        peak = peak_memory([*command, str(listed), "-o", str(folder / "linear.csv")])
        wall, after = time.perf_counter() - wall, os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        memory = "–" if peak is None else f"{peak:.0f}"
        rows.append([f"{count:,}", f"{count / wall:.1f}", f"{1e3 * cpu / count:.2f}", memory])
        say(f"{count / wall:.1f} images/s, at most {memory} MB")
    yield table(["pictures", "images/s", "CPU ms per image", "peak MB"], rows)


def many_rows(folder: Path, count: int, rounds: int) -> Iterator[str]:
    """Writing predictions, without scoring."""

    def rows() -> Iterator[Prediction]:
        for index in range(count):
            score = index % 100_000 / 100_000
            box = {"x": 10.5, "y": 20.5, "width": 100.0, "height": 120.5, "detection": 0.9876}
            yield Prediction(f"photos/{index:08d}.jpg", 0, "ok", score, 100 * score, **box)  # type: ignore[arg-type]

    spent: dict[str, tuple[Spread, Spread]] = {}
    for _ in range(rounds):
        for ending in ("", ".csv", ".jsonl", ".parquet"):
            say(f"{count:,} rows {ending}")
            wall, cpu = time.perf_counter(), time.process_time()
            if ending:
                write_predictions(folder / f"rows{ending}", rows())
            else:
                for _ in rows():
                    pass
            both = spent.setdefault(ending or "only made, not written", (Spread(), Spread()))
            both[0].values.append(time.perf_counter() - wall)
            both[1].values.append(time.process_time() - cpu)
    yield f"### {count:,} rows written\n"
    yield table(["", "s", "CPU s"], [[name, a.as_text(2), b.as_text(2)] for name, (a, b) in spent.items()])


def machine(load: float) -> str:
    """What measured: processor, memory, versions, date, and what else ran."""
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        name = said.get("model name", name)
        known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
        flags = ", ".join(flag for flag in known if flag in said.get("flags", "").split())
    versions = []
    for package in ("onnxruntime", "openvino", "torch", "pillow", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{package} {version(package)}")
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, efiqa {__version__}. {name} ({flags}), {available_cores()} cores to use, load average "
        f"{load:.1f} at the start; {platform.system()}, Python {platform.python_version()}, "
        f"{', '.join(versions)}.\n"
    )


def plot(field_of: list[Contender], cores: int, path: Path) -> None:
    from matplotlib.figure import Figure

    shown = [(each.name, each.took[cores, USUAL].images_per_s) for each in field_of]
    shown.sort(key=lambda each: each[1].median)
    figure = Figure(figsize=(9, 0.4 * len(shown) + 1), layout="constrained")
    axes = figure.subplots()
    medians = [spread.median for _, spread in shown]
    reach = [[m - min(s.values), max(s.values) - m] for m, (_, s) in zip(medians, shown, strict=True)]
    colours = ["#2a6f97" if name.startswith("efiqa, ") else "#a9a9a9" for name, _ in shown]
    axes.barh([name for name, _ in shown], medians, xerr=np.transpose(reach), color=colours)
    axes.set_xscale("log")
    axes.set_xlabel(f"images/s, {USUAL}, {cores} cores; lines from least to most")
    figure.savefig(path, dpi=100)


def write(text: str, page: Path | None, heading: str = "") -> None:
    """Between the marks of the page, there under its `heading` where it has one; printed without a page."""
    if page is None:
        print(text)
        return
    before, _, rest = page.read_text().partition(MARKS[0])
    between, _, after = rest.partition(MARKS[1])
    if heading:
        kept, _, old = between.partition(heading)
        _, more, others = old.partition("\n### ")
        text = f"{kept.rstrip()}\n\n{text}{more}{others}"
    page.write_text(f"{before}{MARKS[0]}{text}{MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", help="file, or name of one that ships; default: student")
    parser.add_argument("--int8", action="append", type=Path, help="a copy by efiqa quantize")
    parser.add_argument("--peers", metavar="PYTHON", help="of the environment that has brisque")
    parser.add_argument("--page", type=Path, help="written between its marks; a plot beside it, speed.png")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a turn")
    parser.add_argument(
        "--only-ratios",
        action="store_true",
        help="to the usual ways alone, so that there is time for many rounds",
    )
    parser.add_argument("--linear", action="store_true", help="1,000, 10,000 and 100,000 pictures too")
    parser.add_argument("--only-linear", action="store_true", help="these alone, into their part of the page")
    parser.add_argument("--linear-model", metavar="MODEL", help="for these; default: the smallest that ships")
    parser.add_argument("--rows", action="store_true", help="write a million rows too")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    options = parser.parse_args()
    rounds, seconds = (1, 0.1) if options.quick else (options.rounds, options.seconds)
    load = os.getloadavg()[0]
    cores = sorted({1, min(2, available_cores())})[-1 if options.quick else 0 :]
    kinds = [f"{size} {ending}" for size in SIZES for ending in ("JPEG", "PNG")]
    kinds = [kind for kind in kinds if not options.quick or kind in (USUAL, LARGE)]
    if options.page and not all(mark in options.page.read_text() for mark in MARKS):
        parser.error(f"{options.page} has not the marks {' and '.join(mark.strip() for mark in MARKS)}")
    sizes = (20, 40, 80) if options.quick else (1_000, 10_000, 100_000)
    if options.only_linear:
        with tempfile.TemporaryDirectory() as text:
            part = "\n".join(linear(Path(text), options.linear_model, sizes))
        write(f"{part}\n{machine(load)}", options.page, MANY)
        return
    scorers = entered([*(options.model or ["student"]), *(options.int8 or [])])
    if options.only_ratios:
        papers = find_model(PAPERS)
        scorers = {name: each for name, each in scorers.items() if each[0].model != papers}
        with tempfile.TemporaryDirectory() as text:
            paths = pictures(Path(text), [USUAL], 20)
            field_of = contenders(scorers, None, [USUAL])
            field_of = [each for each in field_of if each.name in (*scorers, *TARGETS)]
            take_turns(field_of, paths, cores[-1], rounds, seconds)
        part = "\n".join(targets(field_of, cores[-1]))
        turns = f"{rounds} rounds, turns of {seconds:g} s. {machine(load)}"
        write(f"{part}\n{turns}", options.page, RATIOS)
        return
    parts = [machine(load), *filter(None, [without_bf16()])]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        paths = pictures(folder, kinds, 4 if options.quick else 20)
        field_of = contenders(scorers, options.peers, kinds)
        for number in cores:
            take_turns(field_of, paths, number, rounds, seconds)
        parts += targets(field_of, cores[-1])
        for number in reversed(cores):
            parts += speeds(field_of, kinds, number)
        parts += by_stage(scorers, field_of, paths, rounds, cores[-1])
        if options.linear or options.quick:
            parts += linear(folder, options.linear_model, sizes)
        if options.rows or options.quick:
            parts += many_rows(folder, 10_000 if options.quick else 1_000_000, min(rounds, 3))
    if options.page is not None:
        plot(field_of, cores[-1], options.page.with_name("speed.png"))
        parts.insert(0, "![Images/s of all contenders](speed.png)\n")
    write("\n".join(parts), options.page)


if __name__ == "__main__":
    main()
