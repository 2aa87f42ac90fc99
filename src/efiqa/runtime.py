"""Where a model is opened: which runtime runs it, in which precision, and do its graph and card agree."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from efiqa.card import METADATA_KEY, ModelCard
from efiqa.cuda_runtime import CudaNetwork, check_gpu
from efiqa.errors import EfiqaError, InvalidArgument, MissingExtra, ModelError
from efiqa.names import printable
from efiqa.onnx_runtime import OnnxNetwork, onnxruntime
from efiqa.openvino_runtime import OpenVinoNetwork, installed

__all__ = [
    "DEFAULT_MODEL",
    "Network",
    "Opened",
    "Precision",
    "Runtime",
    "find_model",
    "onnxruntime",
    "open_model",
    "shipped_models",
]

Runtime = Literal["auto", "onnxruntime", "openvino", "cuda"]
Precision = Literal["fp32", "bf16"]

DEFAULT_MODEL = "student"
HINT = "expected an ONNX file made by efiqa export"


class Network(Protocol):
    """uint8 (n, S, S, 3) → float32 (n,). Safe to share between threads; a picture's score knows no other.

    On a GPU other pictures can move it by rounding.
    """

    def __call__(self, pixels: NDArray[np.uint8], /) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that can run. `fell_back` says why it is not OpenVINO that runs it, where `auto` wished so."""

    network: Network
    card: ModelCard
    digest: str
    runtime: str
    precision: str
    fell_back: str = ""


def shipped_models() -> dict[str, Path]:
    """The models that ship with the package, by the names they are asked for; the default first."""
    folder = Path(str(resources.files("efiqa"))) / "models"
    # What has no card beside it, the face detector, is no model of quality.
    found = {path.stem: path.with_suffix(".onnx") for path in sorted(folder.glob("*.json"))}
    return {DEFAULT_MODEL: found.pop(DEFAULT_MODEL), **found}


def find_model(model: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model: of one that ships by its name, the default for none, else `model` is its path.

    A name is taken before a file that is called so, which no ONNX file is.
    """
    name = DEFAULT_MODEL if model is None else os.fspath(model)
    return shipped_models().get(name, Path(name))


def open_model(
    path: Path,
    threads: int = 1,
    *,
    workers: int = 1,
    runtime: Runtime = "auto",
    precision: Precision = "fp32",
) -> Opened:
    """The model in `path`, its card, which must agree, and the file's digest.

    `auto` takes OpenVINO where it is installed and can run the model. An int8 model it leaves to ONNX
    Runtime, which it was made for; a GPU it never takes. `precision` is of the arithmetic of models in fp32;
    bf16 exists in OpenVINO only; a model in int8 runs as it is, and not on a GPU. `workers` is how many runs
    there will be at a time.

    Raises ModelError for a file that is no model, or contradicts its card, and where the runtime asked for
    cannot run it or has no GPU, MissingExtra where that is not installed, InvalidArgument for an unknown
    choice.
    """
    for name, value, known in (
        ("runtime", runtime, get_args(Runtime)),
        ("precision", precision, get_args(Precision)),
    ):
        if value not in known:
            raise InvalidArgument(f"{name} must be {', '.join(known)}, but got {value!r}")
    if precision == "bf16" and runtime in ("onnxruntime", "cuda"):
        where = "processors" if runtime == "onnxruntime" else "a GPU, as it runs here"
        raise InvalidArgument(f"ONNX Runtime has no bf16 on {where}", hint="--runtime openvino")
    if not path.is_file():
        names = ", ".join(shipped_models())
        raise ModelError(f"there is no model at {printable(path)}", hint=f"{HINT}, or one of {names}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{printable(path)} cannot be read: {error.strerror}", hint=HINT) from error
    if runtime == "cuda":
        return _on_gpu(path, data, threads)
    asked = runtime == "openvino" or precision == "bf16"
    fell_back = ""
    if asked or (runtime == "auto" and installed()):
        try:
            opened = _in_openvino(path, data, threads, workers, precision, asked=asked)
        except _Unfit as error:
            if asked:
                raise error.cause from error
            fell_back = f"OpenVINO cannot run {printable(path)}: {error.cause}"
        else:
            if opened is not None:
                return opened
    network = _read(OnnxNetwork, path, data, threads)
    card = _checked_card(network, path)
    return Opened(network, card, _digest(data), network.name, _precision(card, "fp32"), fell_back)


def _read(kind: type[OnnxNetwork], path: Path, data: bytes, threads: int) -> OnnxNetwork:
    try:
        return kind(data, threads)
    except ModelError as error:
        raise ModelError(f"{printable(path)} is not a model that can run: {error}", hint=HINT) from error


def _on_gpu(path: Path, data: bytes, threads: int) -> Opened:
    check_gpu()
    network = _read(CudaNetwork, path, data, threads)
    card = _checked_card(network, path)
    if card.quantization is not None:
        raise ModelError(
            f"{printable(path)} is {card.quantization.precision}, which is for processors",
            hint="leave out --runtime cuda, or use the model it was made of",
        )
    # What it cannot run is found now; that first run prepares the GPU too.
    network(np.zeros((1, card.input_size, card.input_size, 3), np.uint8))
    return Opened(network, card, _digest(data), network.name, "fp32")


class _Unfit(Exception):
    """OpenVINO does not run this, for the reason in `cause`; another runtime may."""

    def __init__(self, cause: EfiqaError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _in_openvino(
    path: Path, data: bytes, threads: int, workers: int, precision: Precision, *, asked: bool
) -> Opened | None:
    """None for a model that ONNX Runtime should run, where nobody `asked` for OpenVINO."""
    try:
        network = OpenVinoNetwork(data)
    except MissingExtra as error:
        raise _Unfit(error) from error
    except ModelError as error:
        raise _Unfit(
            ModelError(f"{printable(path)} is not a model that OpenVINO can read: {error}", hint=HINT)
        ) from error
    card = _checked_card(network, path)
    if card.quantization is not None:
        if precision == "bf16":
            raise ModelError(
                f"{printable(path)} is {card.quantization.precision} already",
                hint="leave out --precision, or use the model it was made of",
            )
        if not asked:
            return None
    try:
        network.compile(threads, workers, precision)
    except ModelError as error:
        raise _Unfit(error) from error
    return Opened(network, card, _digest(data), network.name, _precision(card, precision))


def _precision(card: ModelCard, precision: str) -> str:
    return precision if card.quantization is None else card.quantization.precision


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _checked_card(network: OnnxNetwork | OpenVinoNetwork, path: Path) -> ModelCard:
    text = network.metadata(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{printable(path)} has no model card in its metadata",
            hint="efiqa export writes one; a model without it cannot say what its numbers mean",
        )
    card = ModelCard.from_json(text)
    for problem in _contradictions(network.inputs, network.outputs, card, path.with_suffix(".json")):
        raise ModelError(f"{printable(path)} contradicts its card: {problem}")
    return card


def _contradictions(
    inputs: list[tuple[str, list[Any]]],
    outputs: list[tuple[str, list[Any]]],
    card: ModelCard,
    sidecar: Path,
) -> Iterator[str]:
    if len(inputs) != 1 or len(outputs) != 1:
        yield f"expected one input and one output, but got {len(inputs)} and {len(outputs)}"
        return
    ((kind, shape),) = inputs
    if kind != "tensor(uint8)" or shape[1:] != [card.input_size, card.input_size, 3]:
        size = card.input_size
        yield f"expected uint8 (n, {size}, {size}, 3) in, but got {kind} {shape}"
    if shape and isinstance(shape[0], int):
        yield f"expected any batch size, but it is fixed to {shape[0]}"
    ((kind, shape),) = outputs
    if kind != "tensor(float)" or len(shape) != 1:
        yield f"expected float (n,) out, but got {kind} {shape}"
    if (
        sidecar.is_file()
        and ModelCard.from_json(sidecar.read_text(encoding="utf-8", errors="replace")) != card
    ):
        yield f"{sidecar.name} beside it says something else than its metadata"
