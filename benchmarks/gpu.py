"""How fast efiqa scores on an NVIDIA GPU, against what copies and arithmetic allow, and the CPU beside it.

    python benchmarks/gpu.py -o gpu.json

Needs onnxruntime-gpu; page-locked copies and a second product of matrices are measured where PyTorch is.
Rounds of what is compared are interleaved; numbers are medians, in brackets the least and the most. It takes
about a minute; what would begin after --seconds is left out, and named. Prints Markdown at the end; the JSON
and the same as .md beside it are written anew after each part, so that what was measured is there whatever
happens next.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from speed import cycled, pictures, say

from efiqa import __version__
from efiqa import cuda_runtime as cuda
from efiqa.bench import Spread
from efiqa.cores import available_cores
from efiqa.onnx_runtime import OnnxNetwork, onnxruntime, product_session
from efiqa.runtime import find_model, open_model
from efiqa.scorer import IN_FLIGHT, Scorer

MODELS = ("student", "efiqa-192", "efiqa-112", "efiqa-352")
BATCHES = (1, 8, 32, 64, 128, 256)
KIND = "512 px JPEG"
WAYS = {
    "as efiqa has it": {},
    "cuDNN times every algorithm": {"cudnn_conv_algo_search": "EXHAUSTIVE"},
    "channels last": {"prefer_nhwc": "1"},
    "TF32": {"use_tf32": "1"},
    "TF32, channels last": {"use_tf32": "1", "prefer_nhwc": "1"},
}
"""Options of ONNX Runtime's CUDA, beside those that efiqa sets."""
SIDE = 4096
"""Of the matrices whose product shows what arithmetic the GPU can do."""


class Watch:
    """What is left of the time that all may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def over(self) -> bool:
        return time.perf_counter() > self._end


def seconds_of(run: Callable[[], object], least: float = 0.05) -> float:
    """Seconds of one run, over as many as take `least`."""
    count, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < least or count < 2:
        run()
        count += 1
    return spent / count


def interleaved(runs: dict[Any, Callable[[], object]], rounds: int, watch: Watch) -> dict[Any, Spread]:
    """Seconds of each, once warm."""
    found = {name: Spread() for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        if watch.over and all(spread.values for spread in found.values()):
            break
        for name, run in runs.items():
            found[name].values.append(seconds_of(run))
    return found


def rate(spread: Spread, amount: float) -> Spread:
    return Spread([amount / value for value in spread.values])


def machine() -> dict[str, Any]:
    """What measured."""
    found: dict[str, Any] = {
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "efiqa": __version__,
        "python": platform.python_version(),
        "cores": available_cores(),
        "processor": platform.processor() or platform.machine(),
        "gpu": "unknown",
    }
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found["processor"] = next(
            line.split(":")[1].strip() for line in lines if line.startswith("model name")
        )
    query = [
        "nvidia-smi",
        "--query-gpu=name,driver_version,clocks.max.sm,pcie.link.gen.max",
        "--format=csv,noheader",
    ]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found["gpu"] = subprocess.run(
            query, capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()
    for package in ("onnxruntime-gpu", "onnxruntime", "torch", "pillow", "numpy", "nvidia-cudnn-cu13"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    found["onnxruntime in use"] = onnxruntime.__version__
    return found


def torch_on_gpu() -> Any:
    """PyTorch, where it is and has a GPU; else none."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def copies(watch: Watch, rounds: int) -> dict[str, dict[str, Any]]:
    """Bytes a second to the GPU, of a batch of 64 pictures of 320 px."""
    data = np.zeros((64, 320, 320, 3), np.uint8)
    there = onnxruntime.OrtValue.ortvalue_from_numpy(data, cuda.DEVICE)
    runs: dict[str, Callable[[], object]] = {"ONNX Runtime, from NumPy": lambda: there.update_inplace(data)}
    if (torch := torch_on_gpu()) is not None:
        locked = torch.from_numpy(data).pin_memory()
        target = torch.empty(data.shape, dtype=torch.uint8, device="cuda")

        def copy() -> None:
            target.copy_(locked, non_blocking=True)
            torch.cuda.synchronize()

        runs["PyTorch, page-locked"] = copy
    return {
        name: rate(spread, data.nbytes).as_json() for name, spread in interleaved(runs, rounds, watch).items()
    }


def products(watch: Watch, rounds: int) -> dict[str, dict[str, Any]]:
    """FLOP a second of fp32 without TF32, matrices on the GPU."""
    ones, session = product_session(SIDE, "fp32", (cuda.PROVIDER, cuda.OPTIONS))
    binding = session.io_binding()
    binding.bind_ortvalue_input("a", onnxruntime.OrtValue.ortvalue_from_numpy(ones, cuda.DEVICE))
    binding.bind_output("y", cuda.DEVICE)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    runs: dict[str, Callable[[], object]] = {"ONNX Runtime": run}
    if (torch := torch_on_gpu()) is not None:
        torch.backends.cuda.matmul.allow_tf32 = False
        left = torch.randn(SIDE, SIDE, device="cuda")

        def multiply() -> None:
            left @ left
            torch.cuda.synchronize()

        runs["PyTorch"] = multiply
    return {
        name: rate(spread, 2 * SIDE**3).as_json() for name, spread in interleaved(runs, rounds, watch).items()
    }


def networks(name: str, batches: Sequence[int], watch: Watch, rounds: int) -> dict[str, Any]:
    """Images/s of the network alone, by batch: data on the GPU, and with the copy to it; and of the CPU."""
    path = find_model(name)
    card = open_model(path, runtime="onnxruntime").card
    data = path.read_bytes()
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    found: dict[str, Any] = {"input_size": card.input_size, "macs": card.macs, "prepare_s": {}}
    for batch in batches:
        started = time.perf_counter()
        bound = cuda.Bound(data, (batch, card.input_size, card.input_size, 3))
        bound.run()
        found["prepare_s"][batch] = time.perf_counter() - started
        pixels = np.zeros((batch, card.input_size, card.input_size, 3), np.uint8)

        def both(bound: cuda.Bound = bound, pixels: np.ndarray = pixels) -> None:
            bound(pixels)

        def unbound(bound: cuda.Bound = bound, pixels: np.ndarray = pixels) -> None:
            bound.session.run(None, {bound.session.get_inputs()[0].name: pixels})

        runs["on the GPU", batch] = bound.run
        runs["gathered, copied, run", batch] = both
        runs["without I/O binding", batch] = unbound
    here = OnnxNetwork(data, 1)
    one = np.zeros((1, card.input_size, card.input_size, 3), np.uint8)
    runs["CPU, one thread", 1] = lambda: here(one)
    for (way, batch), spread in interleaved(runs, rounds, watch).items():
        found.setdefault(way, {})[batch] = rate(spread, batch).as_json()
    return found


def ways(name: str, watch: Watch, rounds: int, batch: int = 64) -> dict[str, Any]:
    """Images/s with other options of ONNX Runtime's CUDA, data on the GPU, and how far scores move."""
    path = find_model(name)
    side = open_model(path, runtime="onnxruntime").card.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    expected = OnnxNetwork(path.read_bytes(), available_cores())(pixels[:8])
    runs: dict[str, Callable[[], object]] = {}
    found: dict[str, Any] = {}
    for way, options in WAYS.items():
        try:
            bound = cuda.Bound(path.read_bytes(), pixels.shape, {**cuda.OPTIONS, **options})
            moved = float(np.abs(bound(pixels)[:8] - expected).max())
        except Exception as error:  # noqa: BLE001 - one way that cannot be is no reason to lose the others
            found[way] = {"error": " ".join(str(error).split())[:300]}
            continue
        runs[way] = bound.run
        found[way] = {"moved": moved}
    for way, spread in interleaved(runs, rounds, watch).items():
        found[way]["images_per_s"] = rate(spread, batch).as_json()
    return found


def confine(cores: set[int]) -> None:
    """Let all threads of this process run on these cores only; those it starts later do so too."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # one that has just ended
            os.sched_setaffinity(int(task.name), cores)


class Fed(cuda.Bound):
    """Without I/O binding: the copy is part of the run, in which Python's lock is free."""

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        np.stack(pictures, out=self._here[: len(pictures)])
        (scores,) = self.session.run(None, {self.session.get_inputs()[0].name: self._here})
        return scores[: len(pictures)]


class Locked(cuda.Bound):
    """Copies by CUDA itself, from page-locked memory: faster, and Python's lock is free meanwhile."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cuda = ctypes.CDLL(f"libcudart.so.{onnxruntime.cuda_version.split('.')[0]}")
        self._from, self._size = ctypes.c_void_p(self._here.ctypes.data), ctypes.c_size_t(self._here.nbytes)
        self._to = ctypes.c_void_p(self._there.data_ptr())
        if error := self._cuda.cudaHostRegister(self._from, self._size, 0):
            self._cuda.cudaGetLastError()  # else the next that asks for it is ONNX Runtime
            raise RuntimeError(f"cudaHostRegister: error {error}")

    def copy(self) -> None:
        if error := self._cuda.cudaMemcpy(self._to, self._from, self._size, 1):
            self._cuda.cudaGetLastError()
            raise RuntimeError(f"cudaMemcpy: error {error}")

    def __del__(self) -> None:
        if hasattr(self, "_to"):
            self._cuda.cudaHostUnregister(self._from)


COPIES = {"cuda": cuda.Bound, "cuda, fed": Fed, "cuda, page-locked": Locked}
"""Ways to bring batches to the GPU; the first is efiqa's."""


def ready(name: str, bound: type[cuda.Bound]) -> Scorer:
    """A scorer on the GPU whose batches of all sizes are prepared."""
    with mock.patch.object(cuda, "Bound", bound):
        scorer = Scorer(name, runtime="cuda")
        side = scorer.card.input_size
        for size in cuda.BATCHES:
            for _ in range(cuda.LANES):  # one after the other they are in turn
                scorer.network(np.zeros((size, side, side, 3), np.uint8))
    return scorer


def end_to_end(
    name: str,
    kinds: Sequence[str],
    counts: Sequence[int],
    paths: Sequence[str],
    watch: Watch,
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Images/s of `--faces none` on the GPU and on the CPU, on so many cores, and how far scores lie apart.

    The GPU has `IN_FLIGHT` workers for each core, the CPU one. Of `kinds`, the first is measured on all
    `counts` of cores, the others on the most.
    """
    every = os.sched_getaffinity(0)
    found: dict[str, Any] = {"largest difference": {}}
    scorers = {"onnxruntime": Scorer(name, runtime="onnxruntime")}
    expected = [row.score for row in scorers["onnxruntime"].score_many(paths, faces="none")]
    for kind in kinds:
        try:
            scorers[kind] = ready(name, COPIES[kind])
            scores = [row.score for row in scorers[kind].score_many(paths, faces="none")]
        except Exception as error:  # a way that cannot be is no reason to lose the others
            if kind == kinds[0]:
                raise
            say(f"{kind}: {error}")
            scorers.pop(kind, None)
            continue
        found["largest difference"][kind] = float(np.abs(np.subtract(scores, expected)).max())
    turns = [
        (kind, count)
        for count in counts
        for kind in scorers
        if kind in ("onnxruntime", kinds[0]) or count == counts[-1]
    ]
    took: dict[tuple[str, int], tuple[Spread, Spread]] = {turn: (Spread(), Spread()) for turn in turns}
    guess = dict.fromkeys(turns, 16)
    try:
        for number_of_round in range(rounds + 1):  # the first warms, and says how many pictures a turn needs
            for turn in turns:
                if number_of_round and watch.over:
                    break
                kind, count = turn
                confine(set(sorted(every)[:count]))
                files = cycled(paths, guess[turn])
                workers = count * (1 if kind == "onnxruntime" else IN_FLIGHT)
                used, started = time.process_time(), time.perf_counter()
                for _ in scorers[kind].score_many(files, faces="none", workers=workers):
                    pass
                spent, used = time.perf_counter() - started, time.process_time() - used
                guess[turn] = max(16, int(seconds * len(files) / spent))
                if number_of_round:
                    took[turn][0].values.append(len(files) / spent)
                    took[turn][1].values.append(1e3 * used / len(files))
    finally:
        confine(every)
    for (kind, count), (speed, cpu) in took.items():
        found.setdefault(kind, {})[count] = {"images_per_s": speed.as_json(), "cpu_ms": cpu.as_json()}
    return found


def number(measured: dict[str, Any] | None, scale: float = 1, digits: int = 0) -> str:
    if not measured:
        return "–"
    low, middle, high = (f"{scale * measured[key]:,.{digits}f}" for key in ("min", "median", "max"))
    return f"{middle} ({low}–{high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def limits(found: dict[str, Any], name: str) -> dict[str, float]:
    """Images/s that copies and arithmetic allow."""
    network = found["networks"][name]
    nbytes = 3 * network["input_size"] ** 2
    said = {f"copy, {way}": each["median"] / nbytes for way, each in found.get("copies", {}).items()}
    said |= {
        f"arithmetic, {way}": each["median"] / 2 / network["macs"]
        for way, each in found.get("products", {}).items()
    }
    return said


def as_markdown(found: dict[str, Any]) -> Iterator[str]:
    yield ", ".join(f"{name} {value}" for name, value in found["machine"].items()) + "\n"
    if "copies" in found:
        rows = [[name, number(each, 1e-9, 2)] for name, each in found["copies"].items()]
        yield "### Copies to the GPU: GB/s\n\n" + table(["", "GB/s"], rows)
    if "products" in found:
        rows = [[name, number(each, 1e-12, 1)] for name, each in found["products"].items()]
        yield "### Products of matrices, fp32 without TF32\n\n" + table(["", "TFLOP/s"], rows)
    for name, network in found.get("networks", {}).items():
        each_way = {
            way: value for way, value in network.items() if way not in ("input_size", "macs", "prepare_s")
        }
        batches = sorted({batch for value in each_way.values() for batch in value}, key=int)
        rows = [[str(batch), *(number(value.get(batch)) for value in each_way.values())] for batch in batches]
        yield f"### {name}, network alone: images/s\n\n" + table(["batch", *each_way], rows)
        spent = ", ".join(f"{batch}: {took:.2f}" for batch, took in network["prepare_s"].items())
        yield f"Seconds to prepare a batch of {spent}.\n"
        said = limits(found, name)
        yield table(["limit", "images/s"], [[way, f"{value:,.0f}"] for way, value in said.items()])
    for name, each in found.get("end_to_end", {}).items():
        yield f"### {name}, end to end from {KIND}s, `--faces none`\n"
        kinds = [kind for kind in each if kind != "largest difference"]
        counts = sorted({count for kind in kinds for count in each[kind]}, key=int)
        head = ["cores", *(f"{kind}, {what}" for kind in kinds for what in ("images/s", "CPU ms"))]
        rows = []
        for count in counts:
            cells = [each[kind].get(count, {}) for kind in kinds]
            both = [(number(cell.get("images_per_s")), number(cell.get("cpu_ms"), 1, 2)) for cell in cells]
            rows.append([str(count), *(text for pair in both for text in pair)])
        yield table(head, rows)
        apart = ", ".join(f"{kind} {value:.1e}" for kind, value in each["largest difference"].items())
        yield f"Largest difference of a score from the CPU's: {apart}.\n"
    for name, each in found.get("ways", {}).items():
        rows = [
            [way, number(one.get("images_per_s")), f"{one['moved']:.1e}" if "moved" in one else one["error"]]
            for way, one in each.items()
        ]
        head = ["", "images/s", "scores move by"]
        yield f"### {name}, options of ONNX Runtime's CUDA, batches of 64 on the GPU\n\n" + table(head, rows)
    if found["left out"]:
        yield "Left out: " + "; ".join(found["left out"]) + ".\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    parser.add_argument("--model", action="append", help="default: " + ", ".join(MODELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=65.0, help="after which nothing more begins")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    options = parser.parse_args()
    watch = Watch(options.seconds)
    rounds, turn = (1, 0.05) if options.quick else (options.rounds, 0.4)
    batches = BATCHES[:2] if options.quick else BATCHES
    models = options.model or list(MODELS)
    found: dict[str, Any] = {"machine": machine(), "left out": []}

    def part(place: Sequence[str], measure: Callable[[], Any]) -> None:
        """Measure one part, and keep what has been measured so far."""
        name = ", ".join(place)
        say(name)
        if watch.over:
            found["left out"].append(f"{name}: no time was left")
        else:
            try:
                target = found
                for key in place[:-1]:
                    target = target.setdefault(key, {})
                target[place[-1]] = measure()
            except Exception as error:  # noqa: BLE001 - the other parts go on
                traceback.print_exc()
                found["left out"].append(f"{name}: {' '.join(str(error).split())[:300]}")
        if options.output is not None:
            options.output.write_text(json.dumps(found, indent=1))
            options.output.with_suffix(".md").write_text("\n".join(as_markdown(found)))

    counts = [count for count in (1, 2, 4, 8) if count < available_cores()] + [available_cores()]
    with tempfile.TemporaryDirectory() as folder:
        paths = pictures(Path(folder), [KIND], 8 if options.quick else 64)[KIND]
        first, *others = models
        part(["copies"], lambda: copies(watch, rounds))
        part(["networks", first], lambda: networks(first, batches, watch, rounds))
        part(
            ["end_to_end", first], lambda: end_to_end(first, list(COPIES), counts, paths, watch, rounds, turn)
        )
        part(["products"], lambda: products(watch, rounds))
        for name in others:
            part(["networks", name], lambda name=name: networks(name, batches, watch, rounds))
            part(
                ["end_to_end", name],
                lambda name=name: end_to_end(name, ["cuda"], counts[-1:], paths, watch, rounds, turn),
            )
        for name in dict.fromkeys((first, models[-1])):
            part(["ways", name], lambda name=name: ways(name, watch, rounds))
    print("\n".join(as_markdown(found)))
    if not any(found.get(key) for key in ("networks", "end_to_end")):
        sys.exit(1)


if __name__ == "__main__":
    main()
