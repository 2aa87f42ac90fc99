"""How fast this machine scores: stages of one picture, all pictures end to end, and the machine's own limit.

Rounds of all entrants are interleaved, so that what else the machine does falls on each of them alike. Beside
wall time stands CPU time, which says more where others use the machine too.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from efiqa.card import ModelCard
from efiqa.cuda_runtime import CudaNetwork
from efiqa.errors import InvalidArgument
from efiqa.faces import Face
from efiqa.image import Decoded, Source
from efiqa.onnx_runtime import multiplier as onnx_multiplier
from efiqa.openvino_runtime import has_bf16, installed
from efiqa.openvino_runtime import multiplier as openvino_multiplier
from efiqa.records import prediction_line, write_predictions
from efiqa.runtime import Precision, Runtime, find_model, open_model
from efiqa.scorer import Faces, Scorer

STAGES = ("decode", "detect", "crop and resize", "network", "output")


@dataclass(frozen=True, slots=True)
class Entrant:
    """What is to be measured; `model` none is the embedded student."""

    model: Path | None
    runtime: Runtime
    precision: Precision = "fp32"


@dataclass(slots=True)
class Spread:
    """Repeated measurements of one number."""

    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, float] | None:
        values = self.values
        return {"median": self.median, "min": min(values), "max": max(values)} if values else None

    def as_text(self, digits: int) -> str:
        if not self.values:
            return "–"
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


@dataclass(slots=True)
class Result:
    """What was measured of one entrant.

    `stages` has wall and CPU milliseconds per picture in one worker; `images_per_s`, `ms` and `cpu_s` (both
    per picture) are end to end with all workers, rows written. `start_s` is a fresh process that scores
    one picture, `peak_mb` (2^20 bytes) the most memory of one that scores all; none where the system
    does not say. `limit` is the share of the machine's matrix-multiply rate in this precision that the
    network alone reaches, both in CPU time; none on a GPU, which benchmarks/gpu.py measures.
    """

    card: ModelCard
    runtime: str
    precision: str
    stages: dict[str, tuple[Spread, Spread]] = field(
        default_factory=lambda: {stage: (Spread(), Spread()) for stage in STAGES}
    )
    images_per_s: Spread = field(default_factory=Spread)
    ms: Spread = field(default_factory=Spread)
    cpu_s: Spread = field(default_factory=Spread)
    start_s: Spread = field(default_factory=Spread)
    peak_mb: float | None = None
    limit: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.card.source,
            "runtime": self.runtime,
            "precision": self.precision,
            "stages_ms": {
                stage: {"wall": wall.as_json(), "cpu": cpu.as_json()}
                for stage, (wall, cpu) in self.stages.items()
            },
            "images_per_s": self.images_per_s.as_json(),
            "ms_per_image": self.ms.as_json(),
            "cpu_s_per_image": self.cpu_s.as_json(),
            "start_s": self.start_s.as_json(),
            "peak_mb": self.peak_mb,
            "share_of_matrix_multiply_rate": self.limit,
        }


def entrants_of(model: Path | None, runtimes: Sequence[str] | None = None) -> list[Entrant]:
    """A model in every runtime and precision of processors that can run it here; or in `runtimes` only.

    Raises as open_model does, where one that is named cannot.
    """
    path = find_model(model)
    found: list[Entrant] = []
    for name in runtimes or ["onnxruntime", *(["openvino"] if installed() else [])]:
        if name not in ("onnxruntime", "openvino", "cuda"):
            raise InvalidArgument(f"runtime must be onnxruntime, openvino or cuda, but got {name!r}")
        runtime: Runtime = name  # type: ignore[assignment]
        opened = open_model(path, runtime=runtime)
        found.append(Entrant(model, runtime))
        if runtime == "openvino" and opened.card.quantization is None and has_bf16():
            found.append(Entrant(model, runtime, "bf16"))
    return list(dict.fromkeys(found))


def measure(
    entrants: Sequence[Entrant],
    pictures: Sequence[str],
    *,
    faces: Faces = "all",
    rounds: int = 5,
    threads: int = 1,
    workers: int | None = None,
    fresh: bool = True,
    done: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Measure `entrants` on `pictures`, in turns; `done` is called after each turn.

    `fresh` starts processes, for start-up and memory. Raises InvalidArgument where the first pictures have no
    score, and as Scorer does for models and runtimes.
    """
    scorers, results = [], []
    for entrant in entrants:
        chosen = {"threads": threads, "runtime": entrant.runtime, "precision": entrant.precision}
        scorer = Scorer(entrant.model, workers=workers, **chosen)  # type: ignore[arg-type]
        rows = list(scorer.score_many(pictures[: scorer.workers], faces=faces))  # warms what is lazy
        if not any(row.score is not None for row in rows):
            reason = f"{rows[0].image}: {rows[0].message}" if rows else "there is none"
            raise InvalidArgument(
                f"expected pictures that can be scored, but got {reason}",
                hint="name pictures with faces, or crops with --faces none",
            )
        slow = WatchedScorer(entrant.model, workers=1, **chosen)
        slow.predict(pictures[0], faces=faces)
        scorers.append((scorer, slow))
        results.append(Result(scorer.card, scorer.opened.runtime, scorer.opened.precision))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for (scorer, slow), result in zip(scorers, results, strict=True):
                _end_to_end(scorer, pictures, faces, Path(folder), result)
                measure_stages(slow, pictures, faces, result)
                done()
    for entrant, result in zip(entrants, results, strict=True) if fresh else ():
        command = _command(entrant, faces, threads, workers)
        for _ in range(min(rounds, 3)):
            started = time.perf_counter()
            subprocess.run([*command, pictures[0]], check=True, stdout=subprocess.DEVNULL)
            result.start_s.values.append(time.perf_counter() - started)
        result.peak_mb = peak_memory([*command, *pictures])
        done()
    here = [result for result in results if result.runtime != CudaNetwork.name]
    rates = {precision: matrix_multiply_rate(precision) for precision in {one.precision for one in here}}
    for result in here:
        rate, spent = rates[result.precision], result.stages["network"][1].median / 1e3
        if rate is not None and spent > 0:
            result.limit = 2 * result.card.macs / spent / rate
    return results


class _Watch:
    """Wall and CPU seconds by stage, of one picture after another in one thread."""

    def __init__(self) -> None:
        self.wall = dict.fromkeys(STAGES, 0.0)
        self.cpu = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall[stage] += time.perf_counter() - wall
            self.cpu[stage] += time.process_time() - cpu


class WatchedScorer(Scorer):
    """The scoring path itself, with a watch on its stages."""

    def __init__(self, model: Path | None, **options: Any) -> None:
        super().__init__(model, **options)
        self.watch = _Watch()
        network = self.network

        def watched(pixels: NDArray[np.uint8], /) -> NDArray[np.float32]:
            with self.watch.of("network"):
                return network(pixels)

        self.network = watched

    def _whole(self, image: Source) -> Decoded:
        with self.watch.of("decode"):
            return super()._whole(image)

    def _looked_at(self, image: Source, faces: Faces) -> tuple[Decoded, int, list[Face]]:
        with self.watch.of("decode"):  # detection, which is inside, is taken off in the end
            return super()._looked_at(image, faces)

    def _found(self, picture: Decoded) -> list[Face]:
        with self.watch.of("detect"):
            return super()._found(picture)


def _end_to_end(scorer: Scorer, pictures: Sequence[str], faces: Faces, folder: Path, result: Result) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    write_predictions(folder / "out.csv", scorer.score_many(pictures, faces=faces))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result.images_per_s.values.append(len(pictures) / wall)
    result.ms.values.append(1e3 * wall / len(pictures))
    result.cpu_s.values.append(cpu / len(pictures))


def measure_stages(scorer: WatchedScorer, pictures: Sequence[str], faces: Faces, result: Result) -> None:
    """Wall and CPU milliseconds per picture of each stage, in one thread, are added to the `result`."""
    watch = scorer.watch = _Watch()
    wall, cpu = time.perf_counter(), time.process_time()
    for picture in pictures:
        rows = scorer.predict(picture, faces=faces, name=picture)
        with watch.of("output"):
            for row in rows:
                prediction_line(row)
    whole = time.perf_counter() - wall, time.process_time() - cpu
    for which, spent in enumerate((watch.wall, watch.cpu)):
        spent["decode"] -= spent["detect"]
        spent["crop and resize"] = whole[which] - sum(spent.values())
        for stage in STAGES:
            result.stages[stage][which].values.append(1e3 * spent[stage] / len(pictures))


def _command(entrant: Entrant, faces: Faces, threads: int, workers: int | None) -> list[str]:
    command = [sys.executable, "-m", "efiqa", "score", "-q", "--faces", faces, "--threads", str(threads)]
    command += ["--runtime", entrant.runtime, "--precision", entrant.precision]
    command += ["--workers", str(workers)] if workers else []
    return command + (["--model", str(entrant.model)] if entrant.model else [])


def peak_memory(command: Sequence[str]) -> float | None:
    """Most memory of `command` in MB (2^20 bytes); none where the system does not say.

    A small process in between starts it: one begins with the memory of that which starts it.
    """
    if os.name != "posix":
        return None
    script = (
        "import resource, subprocess; "
        f"subprocess.run({list(command)!r}, check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    return int(said) / (2**20 if sys.platform == "darwin" else 2**10)


def synthetic(folder: Path, count: int, side: int = 512) -> list[str]:
    """JPEGs of `side` px with coarse texture and grain: nobody's faces, at a photo's cost. Seeded."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        picture = PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)
        grain = generator.normal(0, 6, (side, side, 3))
        pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
        paths.append(str(folder / f"{index:05d}.jpg"))
        PIL.Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def matrix_multiply_rate(precision: str, side: int = 1024, repeats: int = 5) -> float | None:
    """Operations a CPU second of one thread that multiplies matrices (side, side); best of `repeats`.

    fp32 and int8 by ONNX Runtime, bf16 by OpenVINO; none where that is not installed.
    """
    if precision == "bf16" and not installed():
        return None
    multiply = openvino_multiplier(side) if precision == "bf16" else onnx_multiplier(side, precision)
    multiply()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        multiply()
        best = min(best, time.process_time() - started)
    return 2 * side**3 / best


def markdown(results: Iterable[Result]) -> str:
    """One table, a column for each entrant: medians, and in brackets the least and the most."""
    columns = list(results)
    rows: list[list[str]] = [
        ["", *(f"{one.card.source}, {one.runtime}, {one.precision}" for one in columns)],
        ["---"] * (len(columns) + 1),
    ]
    for stage in STAGES:
        cells = [
            f"{wall.median:.2f} ({cpu.median:.2f})" for wall, cpu in (one.stages[stage] for one in columns)
        ]
        rows.append([f"{stage}, ms (CPU ms)", *cells])
    rows += [
        ["end to end, images/s", *(one.images_per_s.as_text(1) for one in columns)],
        ["end to end, ms per image", *(one.ms.as_text(1) for one in columns)],
        ["CPU s per image", *(one.cpu_s.as_text(4) for one in columns)],
        ["one picture from process start, s", *(one.start_s.as_text(2) for one in columns)],
        ["peak memory, MB", *("–" if one.peak_mb is None else f"{one.peak_mb:.0f}" for one in columns)],
        [
            "network: share of matrix-multiply rate",
            *("–" if one.limit is None else f"{one.limit:.0%}" for one in columns),
        ],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_json(results: Iterable[Result], **about: Any) -> str:
    return json.dumps({**about, "results": [result.as_json() for result in results]}, indent=1) + "\n"
