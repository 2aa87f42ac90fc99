"""Networks that run in OpenVINO, the extra `openvino`; the only import of it, and only when one is asked for.

OpenVINO's Python package loads `openvino_telemetry`, which its conversion tools send events with unless
the user has objected. Here it is loaded as if that package were not there, so nothing can be sent.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efiqa.errors import MissingExtra, ModelError

TELEMETRY = "openvino_telemetry"
_FIRST = threading.Lock()


def installed() -> bool:
    return "openvino" in sys.modules or importlib.util.find_spec("openvino") is not None


class OpenVinoNetwork:
    """A network in OpenVINO, to be shared between threads: uint8 (n, S, S, 3) → float32 (n,).

    It is read when it is made, and can run after `compile`. `inputs` and `outputs` are (type, shape), a free
    side of a shape is none.

    Raises MissingExtra without OpenVINO, ModelError for one that is broken, and bytes that it cannot read.
    """

    name = "OpenVINO"

    def __init__(self, data: bytes) -> None:
        self._core = _core()
        try:
            self._model = self._core.read_model(data)
        except RuntimeError as error:
            raise ModelError(_reason(error)) from error
        self.inputs = [_port(port) for port in self._model.inputs]
        self.outputs = [_port(port) for port in self._model.outputs]
        self._requests = threading.local()
        self._compiled: Any = None

    def metadata(self, key: str) -> str | None:
        """What the file says under `key`; none where it says nothing."""
        place = ["framework", key]
        return str(self._model.get_rt_info(place).astype(str)) if self._model.has_rt_info(place) else None

    def compile(self, threads: int, workers: int, precision: str) -> None:
        """Make it ready: `workers` runs at a time, `threads` inside each, `precision` fp32 or bf16.

        Raises ModelError where it cannot, or where the processor has no bf16.
        """
        if precision == "bf16" and not has_bf16():
            raise ModelError(
                "this processor has no bf16 arithmetic", hint="leave out --precision: fp32 runs everywhere"
            )
        options = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": threads * workers,
            # Two processes would pin their threads to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            # One picture at a time: a free batch size costs about a twentieth, and batches gain nothing.
            shape = [1, *(side or 1 for side in self.inputs[0][1][1:])]
            self._model.reshape(shape)
            self._compiled = self._core.compile_model(self._model, "CPU", options)
            # Two threads that are the first in a process to run it at once wait for each other for ever.
            with _FIRST:
                self(np.zeros(shape, np.uint8))
        except RuntimeError as error:
            raise ModelError(_reason(error)) from error

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        own = getattr(self._requests, "own", None)  # one for each thread that scores
        if own is None:
            request = self._compiled.create_infer_request()
            own = request, request.get_input_tensor().data, request.get_output_tensor().data
            self._requests.own = own
        # Its own input and output, kept: to give it an array each time costs 0.2 ms, with Python's lock held.
        request, picture, score = own
        scores = np.empty(len(pixels), np.float32)
        for index in range(len(pixels)):
            picture[0] = pixels[index]
            request.infer()
            scores[index] = score[0]
        return scores


def has_bf16() -> bool:
    """Has this processor bf16 arithmetic that OpenVINO uses? Raises as `OpenVinoNetwork` does without it."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def multiplier(side: int) -> Callable[[], object]:
    """What multiplies two matrices (side, side) in bf16, in one thread, each time it is called."""
    openvino = _openvino()
    from openvino import opset13

    left = opset13.parameter([side, side], np.float32)
    right = opset13.constant(np.ones((side, side), np.float32))
    model = openvino.Model([opset13.matmul(left, right, False, False)], [left])
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    request = _core().compile_model(model, "CPU", options).create_infer_request()
    ones = np.ones((side, side), np.float32)
    return lambda: request.infer([ones], share_inputs=True, share_outputs=True)


def _core() -> Any:
    """The one core of this process, never given back. Raises as `OpenVinoNetwork` does without OpenVINO.

    Each core sets a signal stack of its own, and puts back what it found when it goes. Of two that go in the
    order they came, the second puts back the freed stack of the first, and the next signal that Python
    handles (Ctrl-C, the end of a child) kills the process. Seen with OpenVINO 2026.4.
    """
    kind = _openvino().Core
    with _FIRST:
        return _made(kind)


@functools.cache
def _made(kind: Any) -> Any:
    return kind()


def _openvino() -> Any:
    with without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise MissingExtra("openvino", extra="openvino") from error
        except ImportError as error:
            raise ModelError(
                f"OpenVINO is installed but cannot be loaded: {' '.join(str(error).split())[:200]}"
            ) from error
    return openvino


@contextmanager
def without_telemetry() -> Iterator[None]:
    """What is imported in here finds no telemetry package."""
    hidden: dict[str, Any] = sys.modules  # none means: not there
    before = hidden.get(TELEMETRY)
    hidden[TELEMETRY] = None
    try:
        yield
    finally:
        del hidden[TELEMETRY]
        if before is not None:
            hidden[TELEMETRY] = before


def _port(port: Any) -> tuple[str, list[int | None]]:
    kind = port.get_element_type().get_type_name()
    name = {"u8": "uint8", "f32": "float", "f16": "float16", "f64": "double"}.get(kind, kind)
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return f"tensor({name})", []
    return f"tensor({name})", [side.get_length() if side.is_static else None for side in shape]


def _reason(error: RuntimeError) -> str:
    """What it says, without the files of its own source that it says it from."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said)[:200] or "it cannot be read"
