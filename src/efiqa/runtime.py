"""ONNX Runtime with its telemetry off, the only import of it, and models opened with it.

Since 1.32 at the latest it makes a device id and an event database in the cache folder when it is imported.
Only an environment variable that is set before can stop that, so it is set here, unless the user has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from efiqa.card import METADATA_KEY, ModelCard
from efiqa.errors import ModelError
from efiqa.tables import printable

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    onnxruntime.disable_telemetry_events()

__all__ = ["onnxruntime", "open_model"]


def open_model(path: Path, threads: int) -> tuple[onnxruntime.InferenceSession, ModelCard, str]:
    """A session, its card, which must agree, and the file's digest. Raises ModelError."""
    if not path.is_file():
        raise ModelError(
            f"there is no model at {printable(path)}", hint="expected an ONNX file made by efiqa export"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must sleep: with several workers, spinning takes the cores from those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        data = path.read_bytes()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise ModelError(
            f"{printable(path)} is not a model that can run: {' '.join(str(error).split())[:200]}",
            hint="expected an ONNX file made by efiqa export",
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{printable(path)} has no model card in its metadata",
            hint="efiqa export writes one; a model without it cannot say what its numbers mean",
        )
    card = ModelCard.from_json(text)
    for problem in _contradictions(session, card, path.with_suffix(".json")):
        raise ModelError(f"{printable(path)} contradicts its card: {problem}")
    return session, card, hashlib.sha256(data).hexdigest()[:12]


_RUNTIME_ERRORS = (
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


def _contradictions(session: onnxruntime.InferenceSession, card: ModelCard, sidecar: Path) -> Iterator[str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        yield f"expected one input and one output, but got {len(inputs)} and {len(outputs)}"
        return
    shape = inputs[0].shape
    if inputs[0].type != "tensor(uint8)" or list(shape[1:]) != [card.input_size, card.input_size, 3]:
        size = card.input_size
        yield f"expected uint8 (n, {size}, {size}, 3) in, but got {inputs[0].type} {shape}"
    if isinstance(shape[0], int):
        yield f"expected any batch size, but it is fixed to {shape[0]}"
    if outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 1:
        yield f"expected float (n,) out, but got {outputs[0].type} {outputs[0].shape}"
    if (
        sidecar.is_file()
        and ModelCard.from_json(sidecar.read_text(encoding="utf-8", errors="replace")) != card
    ):
        yield f"{sidecar.name} beside it says something else than its metadata"
