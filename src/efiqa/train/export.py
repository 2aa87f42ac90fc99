"""Run folder → ONNX file with its card, parity proved through the real Scorer before the file appears."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import tomllib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from efiqa.card import CROP_RULE, METADATA_KEY, RESIZE_RULE, ModelCard, Population, Source
from efiqa.errors import ModelError, RecordError
from efiqa.faces import CROP_SCALE
from efiqa.records import Prediction, atomic
from efiqa.scorer import SCORE_DIGITS, Scorer
from efiqa.train.checkpoint import RunFolder, model_tensors
from efiqa.train.model import QualityModel

TOLERANCE = 1e-4
"""Largest difference allowed between PyTorch's plain forward in fp32 and the exported file in the Scorer."""

TASK = "perceptual face image quality"
MEANING = (
    "An estimate of the mean opinion score that people would give this picture, rescaled to 0–1, "
    "higher is better. It speaks of what people see (sharpness, noise, compression, exposure, resolution), "
    "not of how well a face recognition system will do with the face."
)


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person has to say about a model, because no run folder knows it."""

    name: str
    version: str
    licence: str = "not stated"
    terms: dict[str, str] | None = None
    """Manifest's file name → terms of its pictures and labels."""
    measured: dict[str, Any] | None = None
    limits: tuple[str, ...] = ()


def load_statement(path: Path) -> Statement:
    """Read a statement's TOML. Raises RecordError for an unknown or missing key or a value of wrong type."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"statement {path} cannot be read: {error}") from error
    known = {field.name for field in dataclasses.fields(Statement)}
    wrong = sorted(set(table) - known) or sorted({"name", "version"} - set(table))
    if wrong:
        raise RecordError(
            f"statement {path}: {wrong[0]!r} is unknown or missing", hint=f"keys: {', '.join(sorted(known))}"
        )
    for key, value in table.items():
        kind = {"terms": dict, "measured": dict, "limits": list}.get(key, str)
        if not isinstance(value, kind):
            raise RecordError(f"statement {path}: {key} must be {kind.__name__}, but got {value!r}")
    return Statement(**{**table, "limits": tuple(table.get("limits", ()))})


def export(
    run: Path, output: Path, statement: Statement, *, population: Population | None = None
) -> ModelCard:
    """Write `output` (ONNX, opset 18) and the card beside it; returns the card.

    The graph takes uint8 (n, S, S, 3) and gives float32 (n,), has normalisation inside and no tensor
    above four dimensions. Random pictures run through the written file by `Scorer` and through
    PyTorch must agree to TOLERANCE, or ModelError is raised and nothing is written.
    """
    tensors, position = RunFolder(run).load()
    recipe = position.recipe
    model = QualityModel(
        recipe["model"]["backbone"], tuple(recipe["model"]["mean"]), tuple(recipe["model"]["std"])
    )
    model.load_state_dict(model_tensors(tensors))
    model.eval()
    size = int(recipe["data"]["size"])
    terms = statement.terms or {}
    card = ModelCard(
        name=statement.name,
        version=statement.version,
        task=TASK,
        meaning=MEANING,
        backbone=recipe["model"]["backbone"],
        input_size=size,
        resize=RESIZE_RULE,
        crop=CROP_RULE,
        crop_scale=CROP_SCALE,
        score_range=(0.0, 1.0),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=count_macs(model, size),
        licence=statement.licence,
        trained_on=tuple(
            Source(
                name=item["manifest"],
                rows=item["rows"],
                labels=", ".join(f"{count} {name}" for name, count in item["labels"].items()),
                digest=item["sha256"],
                terms=terms.get(item["manifest"], "not stated"),
            )
            for item in position.sources
        ),
        measured={"validation while training": position.metrics, **(statement.measured or {})},
        limits=statement.limits,
        recipe=recipe,
        recipe_digest=position.digest,
        commit=position.commit,
        population=population,
    )
    graph = _graph(model, size)
    onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_json()})
    data = graph.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        trial.write_bytes(data)
        check_parity(model, Scorer(trial, workers=1))
    with atomic(output, binary=True) as file:
        file.write(data)
    with atomic(output.with_suffix(".json")) as file:
        file.write(card.to_json())
    return card


def _graph(model: QualityModel, size: int) -> onnx.ModelProto:
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Some versions of the exporter warn of changes to come in what they call themselves.
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        program = torch.onnx.export(
            model,
            (example,),
            input_names=["image"],
            output_names=["score"],
            dynamic_shapes={"image": {0: torch.export.Dim("n")}},
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("the exporter gave no graph")
    graph = onnx.shape_inference.infer_shapes(program.model_proto)
    for value in graph.graph.value_info:
        if len(value.type.tensor_type.shape.dim) > 4:
            raise ModelError(
                f"tensor {value.name!r} has more than four dimensions, which several runtimes refuse"
            )
    del graph.graph.value_info[:]
    for node in graph.graph.node:  # the exporter's notes name files of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for tensor in [*graph.graph.initializer, *graph.graph.input, *graph.graph.output]:
        del tensor.metadata_props[:]
    del graph.graph.metadata_props[:]
    del graph.metadata_props[:]
    return graph


@torch.no_grad()
def check_parity(model: QualityModel, scorer: Scorer) -> float:
    """Largest difference of `model` in fp32 and `scorer` over 16 pictures; ModelError above TOLERANCE."""
    generator = np.random.default_rng(0)
    size = scorer.card.input_size
    worst = 0.0
    for index in range(16):
        # From flat to noisy: smooth pictures are where quality models live, noise reaches every unit.
        coarse = generator.integers(0, 256, (2 + index, 2 + index, 3), dtype=np.uint8)
        picture = np.repeat(np.repeat(coarse, size // len(coarse) + 1, 0), size // len(coarse) + 1, 1)[
            :size, :size
        ]
        picture = np.ascontiguousarray(picture)
        expected = float(model(torch.from_numpy(picture[np.newaxis]))[0])
        worst = max(worst, abs(scorer.score(picture) - expected) - 0.5 * 10**-SCORE_DIGITS)
    if worst > TOLERANCE:
        raise ModelError(f"the exported model differs from PyTorch by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


@torch.no_grad()
def count_macs(model: QualityModel, size: int) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one picture of `size` px."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops()) // 2


def population_of(name: str, predictions: Iterable[Prediction]) -> Population:
    """Percentile table of the rows that have a score. Raises RecordError below 100 of them."""
    scores = np.array([row.score for row in predictions if row.score is not None], np.float64)
    if scores.size < 100:
        raise RecordError(f"a population needs at least 100 scores, but got {scores.size}")
    table = np.percentile(scores, np.arange(101))
    return Population(name, int(scores.size), tuple(round(float(value), SCORE_DIGITS) for value in table))
