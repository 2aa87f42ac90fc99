"""ONNX Runtime with its telemetry off, and networks that run in it; the only import of it.

Since 1.32 at the latest it makes a device id and an event database in the cache folder when it is imported.
Only an environment variable that is set before can stop that, so it is set here, unless the user has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from efiqa.errors import ModelError

CPU = "CPUExecutionProvider"
Provider = str | tuple[str, dict[str, str]]
"""What of ONNX Runtime runs a network, and its options."""

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    onnxruntime.disable_telemetry_events()

__all__ = ["RUNTIME_ERRORS", "OnnxNetwork", "onnxruntime", "open_session", "session_options"]


def session_options(threads: int) -> Any:
    """Options of every session of efiqa: one core for each of `threads`, and none for waiting.

    Graph optimisation and the arena are on, which are the defaults: without the arena, and without memory
    patterns, a run was as fast.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must sleep: with several workers, spinning takes the cores from those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(data: bytes, threads: int, provider: Provider = CPU) -> Any:
    """A session of the network in `data`. What `provider` cannot do is an error, or runs on the CPU."""
    # Its own fallback prints where rows go, and tries again without what was asked for.
    return onnxruntime.InferenceSession(
        data, session_options(threads), providers=[provider], enable_fallback=0
    )


class OnnxNetwork:
    """A network in ONNX Runtime, to be shared between threads: uint8 (n, S, S, 3) → float32 (n,).

    `inputs` and `outputs` are (type, shape), a free side of a shape is a name or none.
    Raises ModelError for bytes that are no model that can run.
    """

    name = "ONNX Runtime"

    def __init__(self, data: bytes, threads: int) -> None:
        try:
            self._session = open_session(data, threads)
        except RUNTIME_ERRORS as error:
            raise ModelError(" ".join(str(error).split())[:200]) from error
        self.inputs = [(port.type, list(port.shape)) for port in self._session.get_inputs()]
        self.outputs = [(port.type, list(port.shape)) for port in self._session.get_outputs()]
        self._input = self._session.get_inputs()[0].name if self.inputs else ""

    def metadata(self, key: str) -> str | None:
        """What the file says under `key`; none where it says nothing."""
        text = self._session.get_modelmeta().custom_metadata_map.get(key)
        return None if text is None else str(text)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        (scores,) = self._session.run(None, {self._input: pixels})
        return np.asarray(scores, np.float32)


def multiplier(side: int, precision: str) -> Callable[[], object]:
    """What multiplies two matrices (side, side) in one thread each time it is called, in fp32 or int8."""
    left, session = product_session(side, precision)
    return lambda: session.run(None, {"a": left})


def product_session(side: int, precision: str, provider: Provider = CPU) -> tuple[NDArray[Any], Any]:
    """A matrix of ones (side, side), and the session that multiplies its input `a` by such a one."""
    if precision == "int8":
        operator, kinds = "MatMulInteger", (_UINT8, _INT8, _INT32)
        ones = np.ones((side, side), np.uint8), np.ones((side, side), np.int8)
    else:
        operator, kinds = "MatMul", (_FLOAT, _FLOAT, _FLOAT)
        ones = np.ones((side, side), np.float32), np.ones((side, side), np.float32)
    return ones[0], open_session(_product(side, operator, kinds, ones[1]), 1, provider)


_FLOAT, _UINT8, _INT8, _INT32 = 1, 2, 3, 6  # of ONNX's TensorProto.DataType


def _product(side: int, operator: str, kinds: tuple[int, int, int], right: NDArray[Any]) -> bytes:
    """An ONNX file of one operator: y = a × b, all (side, side), b a constant.

    Written by hand, field by field of onnx.proto3, so that measuring needs no further package.
    """

    def number(field: int, value: int) -> bytes:
        return _varint(field << 3) + _varint(value)

    def part(field: int, content: bytes) -> bytes:
        return _varint(field << 3 | 2) + _varint(len(content)) + content

    def port(field: int, name: bytes, kind: int) -> bytes:
        sides = part(1, number(1, side)) * 2
        return part(field, part(1, name) + part(2, part(1, number(1, kind) + part(2, sides))))

    node = part(1, b"a") + part(1, b"b") + part(2, b"y") + part(4, operator.encode())
    constant = number(1, side) * 2 + number(2, kinds[1]) + part(8, b"b") + part(9, right.tobytes())
    graph = part(1, node) + part(2, b"product") + part(5, constant)
    graph += port(11, b"a", kinds[0]) + port(12, b"y", kinds[2])
    return number(1, 8) + part(7, graph) + part(8, number(2, 17))


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


RUNTIME_ERRORS = (
    OSError,
    *(
        getattr(onnxruntime.capi.onnxruntime_pybind11_state, name)
        for name in (
            "Fail",
            "InvalidArgument",
            "InvalidGraph",
            "InvalidProtobuf",
            "NoModel",
            "NotImplemented",
            "RuntimeException",
        )
    ),
)
