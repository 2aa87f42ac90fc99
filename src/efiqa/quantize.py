"""A model in fp32 → one in int8, as near to it as can be, or none.

Static quantisation with ONNX Runtime (Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018, arXiv 1712.05877): convolutions in int8, their weights
with a scale for each channel and 7 bits, activations in uint8 with the ranges that real pictures give. The
file has QuantizeLinear and DequantizeLinear around each of them (QDQ), which ONNX Runtime and OpenVINO both
turn into int8 arithmetic.
The first convolutions and what follows the last stay in fp32: with them in int8 the student missed the
gate. NNCF's recipe for OpenVINO was tried on it too: slower there than this one, and scores moved five
times as far; see docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from efiqa.card import METADATA_KEY, ModelCard, Quantization
from efiqa.errors import InvalidArgument, MissingExtra, ModelError, RecordError
from efiqa.metrics import srcc
from efiqa.runtime import Network, open_model
from efiqa.scorer import Faces, Scorer
from efiqa.sources import Named
from efiqa.writing import atomic

LEAST_SRCC = 0.998
"""Of the scores of held-out pictures in int8 and in fp32."""
LARGEST_CHANGE = 0.06
"""Of one held-out picture's score, as a share of the card's score range."""
IN_FLOAT = (3, 6, 9, 12)
"""Convolutions that stay in fp32, the first ones: as few of these as the gate lets through."""
LEAST_PICTURES = 20
"""To calibrate on, and as many to check on."""
METHOD = (
    "static, QDQ: uint8 activations by their range, int8 weights of 7 bits per channel; "
    "the first {} convolutions and the head in fp32"
)
"""Weights of 7 bits, because x86 processors without VNNI add two products of 8 bits in 16 and saturate: one
file would give other scores there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a network was given, uint8 (n, S, S, 3), and what it said, float32 (n,)."""

    pixels: NDArray[np.uint8]
    scores: NDArray[np.float32]


def crops_of(
    scorer: Scorer, pictures: Iterable[Named], count: int, *, faces: Faces
) -> tuple[Seen, list[str]]:
    """The first `count` crops that `scorer` gives its network for `pictures`, and who could not be used.

    They come out of the scoring path itself. At most one crop of each picture, its largest face.
    Raises RecordError for pictures that give fewer.
    """
    network = scorer.network
    pixels: list[NDArray[np.uint8]] = []
    scores: list[float] = []
    unused: list[str] = []

    def watched(crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        pixels.append(crops[0].copy())
        return network(crops)

    scorer.network = watched
    try:
        for picture in pictures:
            if len(scores) == count:
                break
            (row,) = scorer.predict(
                picture.path, faces="largest" if faces == "all" else faces, name=picture.name
            )
            if row.score is None:
                unused.append(f"{row.image}: {row.message}")
            else:
                scores.append(row.score)
    finally:
        scorer.network = network
    if len(scores) < count:
        raise RecordError(
            f"expected {count:,} pictures that can be scored, but got {len(scores):,}",
            hint="name more pictures; those that are crops already need --faces none",
        )
    return Seen(np.stack(pixels), np.array(scores, np.float32)), unused


def drawn(pictures: Sequence[Named], seed: int) -> list[Named]:
    """Every picture that is a file, once, in random order."""
    files = (picture for picture in pictures if picture.error is None and picture.read is None)
    unique = list({picture.path: picture for picture in files}.values())
    return random.Random(seed).sample(unique, len(unique))


def quantize(
    model: Path, output: Path, calibration: Seen, held_out: Seen, *, least_srcc: float = LEAST_SRCC
) -> ModelCard:
    """Write `output` (ONNX) with its card, and the card beside it. Returns the card.

    Raises ModelError, and writes nothing, where the model is in int8 already or has no convolution, or where
    on `held_out` SRCC is under `least_srcc` or a score changes by more than LARGEST_CHANGE;
    InvalidArgument for too few pictures, MissingExtra without onnx.
    """
    for name, seen in (("calibrate", calibration), ("check", held_out)):
        if len(seen.scores) < LEAST_PICTURES:
            raise InvalidArgument(
                f"expected at least {LEAST_PICTURES} pictures to {name} on, but got {len(seen.scores)}"
            )
    opened = open_model(model, runtime="onnxruntime")
    if opened.card.quantization is not None:
        raise ModelError(f"{model} is {opened.precision} already", hint="quantize the model it was made of")
    source = f"{opened.card.source} {opened.digest}"
    with tempfile.TemporaryDirectory() as folder:
        refused: ModelError | None = None
        for in_float in IN_FLOAT:
            trial = Path(folder) / "trial.onnx"
            method = METHOD.format(in_float)
            draft = Quantization(
                "int8", source, method, len(calibration.scores), len(held_out.scores), 1.0, 0.0
            )
            try:
                graph = _quantized(model, Path(folder), calibration.pixels, in_float)
                trial.write_bytes(_with_card(graph, _card(opened.card, draft)))
                scores = _scores(open_model(trial, runtime="onnxruntime").network, held_out.pixels)
                found = check(opened.card, held_out.scores, scores, least_srcc=least_srcc)
                break
            except ModelError as error:
                refused = refused or error
        else:
            assert refused is not None
            raise refused
    card = _card(
        opened.card, dataclasses.replace(draft, srcc=round(found[0], 5), largest_change=round(found[1], 5))
    )
    data = _with_card(graph, card)
    with atomic(output, binary=True) as file:
        file.write(data)
    with atomic(output.with_suffix(".json")) as file:
        file.write(card.to_json())
    return card


def check(
    card: ModelCard, scores: NDArray[np.float32], others: NDArray[np.float32], *, least_srcc: float
) -> tuple[float, float]:
    """SRCC and largest change of `others`, in int8, against `scores`, in fp32, both (n,).

    Raises ModelError where either is beyond the gate.
    """
    lost = int(np.count_nonzero(~np.isfinite(others)))
    if lost:
        raise ModelError(
            f"in int8 the model gives no score for {lost:,} of {len(others):,} held-out pictures"
        )
    agreement = srcc(scores, others)
    change = float(np.abs(others.astype(np.float64) - scores).max())
    low, high = card.score_range
    tolerance = LARGEST_CHANGE * (high - low)
    if not (agreement >= least_srcc and change <= tolerance):
        raise ModelError(
            f"in int8 the model is not the same: on {len(scores):,} held-out pictures SRCC with fp32 is "
            f"{agreement:.4f}, expected at least {least_srcc:g}; the largest change of a score is "
            f"{change:.4f}, expected at most {tolerance:g}",
            hint="nothing was written; more pictures (--pictures), and more like those to score, may help",
        )
    return agreement, change


def _card(card: ModelCard, quantization: Quantization) -> ModelCard:
    """The card of the int8 model: another version, so that its scores are not taken for the other's."""
    return dataclasses.replace(
        card, version=f"{card.version}+{quantization.precision}", quantization=quantization
    )


def _scores(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate([network(each[np.newaxis]) for each in pixels])


def _quantized(model: Path, folder: Path, pixels: NDArray[np.uint8], in_float: int) -> Any:
    """The quantised graph, its first `in_float` convolutions in fp32.

    Raises ModelError for one without further convolutions, MissingExtra without onnx.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtra("onnx", extra="quantize") from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._pictures: Iterator[NDArray[np.uint8]] = iter(pixels)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            picture = next(self._pictures, None)
            return None if picture is None else {name: picture[np.newaxis]}

    # Folds batch normalisation into the convolutions, which otherwise would be quantised without it.
    folded, output = folder / "folded.onnx", folder / "quantized.onnx"
    quant_pre_process(model, folded, skip_symbolic_shape=True)
    graph = onnx.load(folded).graph
    name = graph.input[0].name
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    if len(convolutions) <= in_float:
        raise ModelError(
            f"{model} has {len(convolutions)} convolutions, of which {in_float} would stay in fp32",
            hint="there is nothing to be won by int8",
        )
    quantization.quantize_static(
        folded,
        output,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        reduce_range=True,  # see METHOD
        op_types_to_quantize=["Conv", "Add", "Clip", "Relu"],
        nodes_to_exclude=convolutions[:in_float],
    )
    return onnx.load(output)


def _with_card(graph: Any, card: ModelCard) -> bytes:
    import onnx

    del graph.metadata_props[:]  # ONNX Runtime notes there what it did
    onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_json()})
    return bytes(graph.SerializeToString())
