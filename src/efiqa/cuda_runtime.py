"""Networks on an NVIDIA GPU: ONNX Runtime's CUDA, of the package onnxruntime-gpu, only when one is asked for.

A GPU is fast only where it gets many pictures at a time, and here many threads ask for one each. So what they
ask for is gathered: whenever the GPU is free it takes all that wait, while other threads go on decoding.
"""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efiqa.errors import ModelError
from efiqa.onnx_runtime import RUNTIME_ERRORS, OnnxNetwork, onnxruntime, open_session, product_session

BATCHES = (1, 16, 64)
"""Pictures in a batch; fewer are filled up to one of these. Each has sessions of its own, as ONNX Runtime
plans every convolution anew whenever a session gets another shape than before."""
LANES = 2
"""Batches at a time: while the GPU works on one, the next is copied to it."""
PROVIDER, DEVICE = "CUDAExecutionProvider", "cuda"
OPTIONS = {
    "use_tf32": "0",  # its products keep 10 bits of 23, and scores are to agree with a processor's
    "cudnn_conv_algo_search": "HEURISTIC",  # the default tries out ways of each convolution, in each session
    "arena_extend_strategy": "kSameAsRequested",  # the default takes up to twice the memory
}
"""In fp32 proper."""
INSTALL = 'pip uninstall onnxruntime && pip install "onnxruntime-gpu[cuda,cudnn]"'


class CudaNetwork(OnnxNetwork):
    """A network on the GPU, to be shared between threads: uint8 (n, S, S, 3) → float32 (n,).

    What several threads ask for runs as one batch. Each score is its picture's alone, but which neighbours it
    had decides which arithmetic runs, so it can differ by rounding: 1e-4 at most.

    Whether there is a GPU `check_gpu` says beforehand. Raises ModelError for bytes that are no model, and
    when it is called where the GPU fails.
    """

    name = "CUDA"

    def __init__(self, data: bytes, threads: int) -> None:
        super().__init__(data, threads)  # on the CPU, which says what the file is
        self._data = data
        self._gathering = Gathering(self._run_batch, BATCHES[-1], LANES)
        self._lanes: SimpleQueue[dict[int, Bound]] = SimpleQueue()
        for _ in range(LANES):
            self._lanes.put({})

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.array(self._gathering.results(list(pixels)), np.float32)

    def _run_batch(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        size = next(size for size in BATCHES if size >= len(pictures))
        lane = self._lanes.get()
        try:
            if size not in lane:
                lane[size] = Bound(self._data, (size, *pictures[0].shape))
            return lane[size](pictures)
        except (*RUNTIME_ERRORS, RuntimeError) as error:
            raise ModelError(f"the GPU cannot run the network: {_short(error)}") from error
        finally:
            self._lanes.put(lane)


class Bound:
    """A network on the GPU for one shape of input, which stays there; scores come back."""

    def __init__(self, data: bytes, shape: tuple[int, ...], options: dict[str, str] | None = None) -> None:
        self.session = open_session(data, 1, (PROVIDER, OPTIONS if options is None else options))
        self._here = np.zeros(shape, np.uint8)
        self._there = onnxruntime.OrtValue.ortvalue_from_numpy(self._here, DEVICE)
        self._binding = self.session.io_binding()
        self._binding.bind_ortvalue_input(self.session.get_inputs()[0].name, self._there)
        self._binding.bind_output(self.session.get_outputs()[0].name, "cpu")

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        np.stack(pictures, out=self._here[: len(pictures)])
        self.copy()
        return self.run()[: len(pictures)]

    def copy(self) -> None:
        self._there.update_inplace(self._here)

    def run(self) -> NDArray[np.float32]:
        self.session.run_with_iobinding(self._binding)
        (scores,) = self._binding.copy_outputs_to_cpu()
        return np.asarray(scores, np.float32)


class Gathering:
    """Runs what several threads ask for in batches: at most `most` in one, at most `lanes` of them at a time.

    `run` gives as many results as it gets items, in their order. Nobody waits for a fuller batch: what has
    come while others ran goes together. What `run` raises reaches all who asked for something in that batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[NDArray[np.uint8]]], Sequence[Any] | NDArray[Any]],
        most: int,
        lanes: int,
    ) -> None:
        self._run = run
        self._most = most
        self._lock = threading.Lock()
        self._waiting: deque[tuple[NDArray[np.uint8], Future[Any]]] = deque()
        self._idle = lanes
        self._lanes = ThreadPoolExecutor(lanes, thread_name_prefix="efiqa-gpu")

    def results(self, items: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """What `run` gives for these, as soon as it has; raises what it raises."""
        asked = [(item, Future[Any]()) for item in items]
        with self._lock:
            self._waiting.extend(asked)
            woken = min(self._idle, len(asked))
            self._idle -= woken
        for _ in range(woken):
            self._lanes.submit(self._run_all)
        return [future.result() for _, future in asked]

    def _run_all(self) -> None:
        """Batch after batch, until nothing waits."""
        while True:
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                if not batch:
                    self._idle += 1
                    return
            try:
                answered = list(zip(batch, self._run([item for item, _ in batch]), strict=True))
            except BaseException as error:  # noqa: BLE001 - those who wait would wait for ever
                for _, future in batch:
                    future.set_exception(error)
            else:
                for (_, future), result in answered:
                    future.set_result(result)


def load_libraries() -> str:
    """Load CUDA and cuDNN from their Python packages, where they are; what went wrong, in words."""
    said = io.StringIO()  # it prints, and on stdout may go rows
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(said):
            onnxruntime.preload_dlls()
    return said.getvalue()


def check_gpu() -> None:
    """Raises ModelError where ONNX Runtime has no CUDA, or cannot multiply two numbers on a GPU."""
    if PROVIDER not in onnxruntime.get_available_providers():
        raise ModelError("this ONNX Runtime has no CUDA: it is the package for processors", hint=INSTALL)
    said = load_libraries()
    try:
        ones, session = product_session(1, "fp32", (PROVIDER, OPTIONS))
        # Where its libraries cannot be loaded it says so on stderr, and would go on without a GPU.
        if PROVIDER not in session.get_providers():
            raise RuntimeError(said or "its CUDA libraries cannot be loaded")
        session.run(None, {"a": ones})
    except (*RUNTIME_ERRORS, RuntimeError) as error:
        raise ModelError(
            f"ONNX Runtime has CUDA, but no GPU that it can use: {_short(error)}",
            hint=f"it needs an NVIDIA driver, and CUDA and cuDNN of its version: {INSTALL}",
        ) from error


def _short(error: BaseException) -> str:
    """What it says, without the C++ that it says it from."""
    text = " ".join(str(error).split())
    reason = re.search(r"CU[A-Z]+ failure[^;]*[^; ]", text)
    return (reason[0] if reason else text)[:200]
