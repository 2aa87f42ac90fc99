"""Networks on a GPU: what threads ask for is gathered, order and errors kept; without one, a sentence.

Where there is no GPU the same code runs on ONNX Runtime's CPU.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from efiqa import cuda_runtime
from efiqa.cores import available_cores
from efiqa.cuda_runtime import BATCHES, LANES, PROVIDER, CudaNetwork, Gathering
from efiqa.errors import InvalidArgument, ModelError
from efiqa.onnx_runtime import onnxruntime
from efiqa.runtime import open_model
from efiqa.scorer import IN_FLIGHT, Scorer

SAMPLES = Path(__file__).parent.parent / "examples" / "samples"
HAS_CUDA = PROVIDER in onnxruntime.get_available_providers()

needs_gpu = pytest.mark.skipif(
    not HAS_CUDA or shutil.which("nvidia-smi") is None,
    reason="needs an NVIDIA GPU and onnxruntime-gpu",
)
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="onnxruntime-gpu is installed")


def noise(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on the GPU runs on the CPU."""
    monkeypatch.setattr(cuda_runtime, "PROVIDER", "CPUExecutionProvider")
    monkeypatch.setattr(cuda_runtime, "DEVICE", "cpu")
    monkeypatch.setattr(cuda_runtime, "OPTIONS", {})


class Gate:
    """Runs batches of numbers, ten times each, once it is open; says which came, and how many at a time."""

    def __init__(self, *, is_open: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.most_at_a_time = 0
        self.opened = threading.Event()
        self._busy = threading.Semaphore(0)
        self._running = 0
        self._lock = threading.Lock()
        if is_open:
            self.opened.set()

    def run(self, items: Sequence[np.ndarray]) -> list[int]:
        with self._lock:
            self.batches.append([int(item[0]) for item in items])
            self._running += 1
            self.most_at_a_time = max(self.most_at_a_time, self._running)
        self._busy.release()
        assert self.opened.wait(60)
        with self._lock:
            self._running -= 1
        return [10 * int(item[0]) for item in items]

    def wait_until_busy(self) -> None:
        assert self._busy.acquire(timeout=60)


def items(*numbers: int) -> list[np.ndarray]:
    return [np.array([number], np.uint8) for number in numbers]


# Gathering


def test_results_come_in_the_order_of_what_was_asked():
    gathering = Gathering(Gate(is_open=True).run, most=3, lanes=1)
    assert gathering.results(items(*range(10))) == [10 * number for number in range(10)]
    assert gathering.results([]) == []


def test_what_comes_while_a_batch_runs_goes_together_at_most_so_many():
    gate = Gate()
    gathering = Gathering(gate.run, most=4, lanes=1)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(gathering.results, items(0))
        gate.wait_until_busy()
        others = [pool.submit(gathering.results, items(number)) for number in range(1, 8)]
        while len(gathering._waiting) < 7:
            threading.Event().wait(0.001)
        gate.opened.set()
        assert first.result() == [0]
        assert [other.result() for other in others] == [[10 * number] for number in range(1, 8)]
    assert gate.batches[0] == [0]
    assert [len(batch) for batch in gate.batches[1:]] == [4, 3]


def test_no_more_batches_run_at_a_time_than_there_are_lanes():
    gate = Gate()
    gathering = Gathering(gate.run, most=1, lanes=2)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(gathering.results, items(number)) for number in range(6)]
        gate.wait_until_busy()
        gate.wait_until_busy()
        gate.opened.set()
        assert [one.result() for one in asked] == [[10 * number] for number in range(6)]
    assert gate.most_at_a_time == 2


def test_an_error_reaches_all_of_its_batch_and_nobody_else():
    started, may_fail = threading.Event(), threading.Event()

    def run(batch: Sequence[np.ndarray]) -> list[int]:
        started.set()
        assert may_fail.wait(60)
        if any(item[0] == 2 for item in batch):
            raise ModelError("broken")
        return [int(item[0]) for item in batch]

    gathering = Gathering(run, most=2, lanes=1)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(gathering.results, items(0))]
        assert started.wait(60)
        for number in (1, 2, 3):
            asked.append(pool.submit(gathering.results, items(number)))
            while len(gathering._waiting) < number:
                threading.Event().wait(0.001)
        may_fail.set()
        said = [type(one.exception(60)) for one in asked]
    assert said == [type(None), ModelError, ModelError, type(None)]
    assert gathering.results(items(7)) == [7]


def test_a_run_that_gives_too_few_results_is_an_error_and_not_a_wait():
    gathering = Gathering(lambda batch: [1], most=4, lanes=1)
    with pytest.raises(ValueError, match="shorter"):
        gathering.results(items(1, 2))


def test_threads_of_a_network_that_is_gone_end():
    gathering = Gathering(Gate(is_open=True).run, most=4, lanes=2)
    gathering.results(items(1, 2, 3))
    threads = list(gathering._lanes._threads)
    assert threads
    del gathering
    gc.collect()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


# The network, on the CPU where there is no GPU


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("count", [1, 2, BATCHES[1], BATCHES[1] + 1, BATCHES[-1] + 3])
def test_every_picture_gets_its_own_score_whatever_the_batch_is_filled_with(model: Path, count: int):
    pictures = noise(count)
    scores = CudaNetwork(model.read_bytes(), 1)(pictures)
    assert (scores.dtype, scores.shape) == (np.float32, (count,))
    assert scores == pytest.approx(pictures.mean((1, 2, 3)) / 255, abs=1e-6)


@pytest.mark.usefixtures("on_cpu")
def test_scores_of_many_threads_are_those_of_one(model: Path):
    network = open_model(model, runtime="cuda").network
    pictures = noise(200)
    with ThreadPoolExecutor(16) as pool:
        scores = [score[0] for score in pool.map(network, (picture[np.newaxis] for picture in pictures))]
    assert scores == pytest.approx(pictures.mean((1, 2, 3)) / 255, abs=1e-6)


@pytest.mark.usefixtures("on_cpu")
def test_a_scorer_gives_the_same_rows_with_more_pictures_in_flight(model: Path):
    here, there = Scorer(model, runtime="onnxruntime"), Scorer(model, runtime="cuda")
    assert there.workers == IN_FLIGHT * available_cores()
    assert (there.opened.runtime, there.opened.precision) == ("CUDA", "fp32")
    paths = [*sorted(SAMPLES.glob("*.jpg")), "nowhere.jpg"] * 5
    assert list(there.score_many(paths)) == list(here.score_many(paths))


@pytest.mark.usefixtures("on_cpu")
def test_a_gpu_that_fails_is_an_error_of_the_model(model: Path, monkeypatch: pytest.MonkeyPatch):
    network = CudaNetwork(model.read_bytes(), 1)

    def fail(*_: object) -> None:
        raise RuntimeError("/x.cc:1 void f() CUDA failure 2: out of memory ; GPU=0 ; hostname=a")

    monkeypatch.setattr(cuda_runtime, "open_session", fail)
    with pytest.raises(ModelError, match=r"cannot run the network: CUDA failure 2: out of memory$"):
        network(noise(1))
    monkeypatch.undo()
    assert network._lanes.qsize() == LANES


# Where it cannot be


@without_cuda
def test_without_the_package_for_gpus_a_sentence_says_how_to_get_it(model: Path):
    with pytest.raises(ModelError, match="this ONNX Runtime has no CUDA") as caught:
        Scorer(model, runtime="cuda")
    assert caught.value.hint == 'pip uninstall onnxruntime && pip install "onnxruntime-gpu[cuda,cudnn]"'


@without_cuda
def test_the_command_without_a_gpu_says_so_and_scores_nothing(
    model: Path, command: Callable, grey: Callable, tmp_path: Path
):
    answer = command("score", grey(tmp_path / "a.png"), "-m", model, "--faces", "none", "--runtime", "cuda")
    assert answer.code == 2
    assert answer.out == ""
    assert "this ONNX Runtime has no CUDA" in answer.err
    assert "onnxruntime-gpu[cuda,cudnn]" in answer.err


def test_a_session_that_goes_on_without_the_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch):
    session = SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER])
    monkeypatch.setattr(cuda_runtime, "product_session", lambda *_: (None, session))
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcublas.so.13"), raising=False
    )
    with pytest.raises(ModelError, match=r"no GPU that it can use: Failed to load libcublas\.so\.13"):
        cuda_runtime.check_gpu()


def test_what_loading_libraries_prints_does_not_go_where_rows_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write("hello\n"), raising=False)
    assert cuda_runtime.load_libraries() == "hello\n"
    assert capsys.readouterr() == ("", "")


def test_bf16_on_a_gpu_is_an_error(model: Path):
    with pytest.raises(InvalidArgument, match="no bf16 on a GPU"):
        Scorer(model, runtime="cuda", precision="bf16")


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_file_that_is_no_model_is_an_error(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx is not a model"):
        open_model(tmp_path / "m.onnx", runtime="cuda")


# What measures it


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="cores are chosen by Linux's means")
def test_the_benchmark_measures_each_part_and_keeps_what_it_has(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    gpu = importlib.import_module("gpu")
    monkeypatch.setattr(gpu, "SIDE", 16)
    monkeypatch.setattr(gpu, "torch_on_gpu", lambda: None)
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "-o", str(tmp_path / "g.json"), "--model", str(model), "--quick"]
    )
    before = os.sched_getaffinity(0)
    gpu.main()
    assert os.sched_getaffinity(0) == before
    found = json.loads((tmp_path / "g.json").read_text())
    assert found["left out"] == []
    network, ends = found["networks"][str(model)], found["end_to_end"][str(model)]
    assert network["on the GPU"]["8"]["median"] > 0
    assert ends["cuda"][str(available_cores())]["images_per_s"]["median"] > 0
    assert ends["largest difference"]["cuda"] == 0
    assert found["copies"]["ONNX Runtime, from NumPy"]["median"] > 0
    assert found["products"]["ONNX Runtime"]["median"] > 0
    assert found["ways"][str(model)]["as efiqa has it"]["moved"] < 1e-6
    assert capsys.readouterr().out.strip() == (tmp_path / "g.md").read_text().strip()


# With a GPU


@needs_gpu
@pytest.mark.parametrize("name", ["student", "efiqa-112", "efiqa-192", "efiqa-352"])
def test_scores_on_the_gpu_agree_with_the_cpu(name: str):
    here, there = Scorer(name, runtime="onnxruntime"), Scorer(name, runtime="cuda")
    for path in sorted(SAMPLES.glob("*.jpg")):
        pairs = zip(here.predict(path), there.predict(path), strict=True)
        assert all(a.score == pytest.approx(b.score, abs=1e-4) for a, b in pairs)
    pictures = noise(100, here.card.input_size)
    alone = np.concatenate([there.network(pictures[i : i + 1]) for i in range(20)])
    together = there.network(pictures)
    assert together == pytest.approx(here.network(pictures), abs=1e-4)
    assert alone == pytest.approx(together[:20], abs=1e-4)


@needs_gpu
def test_the_command_scores_on_the_gpu_and_prints_rows_alone(tmp_path: Path):
    command = [sys.executable, "-m", "efiqa", "score", str(SAMPLES / "astronaut.jpg"), "--runtime", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{")
    assert "(CUDA, fp32)" in done.stderr
