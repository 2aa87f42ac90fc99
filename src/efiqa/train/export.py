"""Trained weights → ONNX file with its card, parity proved through the real Scorer before it appears."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import tomllib
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from efiqa.card import (
    CENTRE_RULE,
    CROP_RULE,
    METADATA_KEY,
    RESIZE_RULE,
    Interval,
    ModelCard,
    Population,
    Source,
)
from efiqa.errors import InvalidArgument, ModelError, RecordError, TrainingError
from efiqa.faces import CROP_SCALE
from efiqa.scorer import RESIZE, SCORE_DIGITS, Scorer
from efiqa.sources import load_row
from efiqa.train.backbones import as_deployed
from efiqa.train.checkpoint import RunFolder, current_commit
from efiqa.train.data import read_rows
from efiqa.train.graph import to_onnx
from efiqa.train.model import QualityModel
from efiqa.train.published import load_published
from efiqa.train.recipe import Data
from efiqa.writing import atomic

TOLERANCE = 1e-4
"""Largest difference allowed between PyTorch's plain forward in fp32 and the exported file in the Scorer."""

MIN_RATED = 50
"""Fewer pictures than this do not say how far a mean of weights is off."""

TASK = "perceptual face image quality"
_WHAT_IT_IS_NOT = (
    "It speaks of what people see (sharpness, noise, compression, exposure, resolution), "
    "not of how well a face recognition system will do with the face."
)
MEANING = (
    "An estimate of the mean opinion score that people would give this picture, rescaled to 0–1, "
    f"higher is better. {_WHAT_IT_IS_NOT}"
)
PUBLISHED_MEANING = (
    "Perceptual quality on the scale of the labels that the checkpoint's authors trained it with, nominally "
    f"0–1, higher is better. {_WHAT_IT_IS_NOT}"
)
PUBLISHED_LICENCE = "as stated by the checkpoint's authors"
PUBLISHED_LIMITS = (
    "The file does not record what the checkpoint was trained on, nor whose labels these were.",
    "How well it does has not been measured here.",
    "The share of the picture around a face that it was trained with is unknown; crop_scale is efiqa's own.",
    "Of a picture that is not square only the central square is judged.",
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


def prepare(
    *sources: Path,
    statement: Statement | None = None,
    population: Population | None = None,
    interval: Interval | None = None,
    to_labels: bool = False,
) -> tuple[QualityModel, ModelCard]:
    """The model of a run folder, or of a checkpoint file of the paper's authors, and its card.

    Of several run folders it is the mean of their weights (Wortsman et al., "Model soups", 2022) with a line
    to the scale of the training labels. Of runs of one network that began alike, it can agree with people
    better than any of them. A run named twice counts twice. `to_labels` asks for the line of one run, too:
    where whole pictures score higher or lower than people rate them, it says by how much, and moves no
    picture past another.
    A checkpoint file may go without a statement: its card then says what is not known.
    Raises InvalidArgument for a run folder without a statement, TrainingError for a folder without a run,
    ModelError for a file that is no such checkpoint and for runs of different networks, RecordError where
    the manifests that a line is fitted on are no longer there.
    """
    if len(sources) == 1 and not sources[0].is_dir():
        if to_labels:
            raise InvalidArgument(
                f"{sources[0]} is a checkpoint file, which names no rated pictures to fit a line on",
                hint="leave out --to-labels",
            )
        return _from_checkpoint(sources[0], statement, population=population, interval=interval)
    if statement is None:
        raise InvalidArgument(
            f"{sources[0]} is a run folder, and only a person can say what its model is called",
            hint="--statement FILE, a TOML with name, version, licence and limits",
        )
    return _from_runs(
        sources, statement, to_labels or len(sources) > 1, population=population, interval=interval
    )


def export(model: QualityModel, card: ModelCard, output: Path) -> None:
    """Write `output` (ONNX, opset 18) and the card beside it.

    The graph takes uint8 (n, S, S, 3) and gives float32 (n,), has normalisation inside and no tensor
    above four dimensions; branches that only training needs are merged. Random pictures run through the
    written file by `Scorer` and through PyTorch must agree to TOLERANCE, or ModelError is raised and
    nothing is written.
    """
    data = _serialised(model, card)
    with _scorer(data) as scorer:
        check_parity(model, scorer)
    with atomic(output, binary=True) as file:
        file.write(data)
    with atomic(output.with_suffix(".json")) as file:
        file.write(card.to_json())


def _serialised(model: QualityModel, card: ModelCard) -> bytes:
    graph = to_onnx(as_deployed(model), card.input_size)
    onnx.helper.set_model_props(graph, {METADATA_KEY: card.to_json()})
    data: bytes = graph.SerializeToString()
    return data


@contextlib.contextmanager
def _scorer(data: bytes) -> Iterator[Scorer]:
    """A Scorer of a model that is not written yet."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "model.onnx"
        trial.write_bytes(data)
        yield Scorer(trial)


def _from_runs(
    runs: Sequence[Path], statement: Statement, line: bool, **of_scores: Population | Interval | None
) -> tuple[QualityModel, ModelCard]:
    trained = [RunFolder(run).trained() for run in runs]
    model, position = trained[0]
    recipe, terms = position.recipe, statement.terms or {}
    if len(trained) > 1:
        _must_be_alike(runs, [other.recipe for _, other in trained])
        _average(model, [network for network, _ in trained])
        recipe = {**recipe, "mean of": [other.recipe for _, other in trained]}
    elif position.metrics:
        found = {"validation while training": position.metrics, **(statement.measured or {})}
        statement = dataclasses.replace(statement, measured=found)
    sources = {
        (item["manifest"], item["sha256"]): Source(
            name=item["manifest"],
            rows=item["rows"],
            labels=", ".join(f"{count} {name}" for name, count in item["labels"].items()),
            digest=item["sha256"],
            terms=terms.get(item["manifest"], "not stated"),
        )
        for _, other in trained
        for item in other.sources
    }
    card = _card(
        model,
        statement,
        meaning=MEANING,
        backbone=recipe["model"]["backbone"],
        input_size=_input_size(recipe),
        resize=RESIZE_RULE,
        trained_on=tuple(sources.values()),
        recipe=recipe,
        recipe_digest="+".join(other.digest for _, other in trained),
        commit="+".join(dict.fromkeys(other.commit for _, other in trained)),
        **of_scores,
    )
    if line:
        recipe["line"] = _to_labels(model, card)
    return model, card


def _average(model: QualityModel, networks: Sequence[QualityModel]) -> None:
    """Give `model` the mean of all weights."""
    states = [network.state_dict() for network in networks]
    # What counts training steps is a whole number, and means nothing here.
    model.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(dim=0)
            if first.is_floating_point()
            else first
            for name, first in states[0].items()
        }
    )


@torch.no_grad()
def _to_labels(model: QualityModel, card: ModelCard) -> list[float]:
    """Bring scores back to people's; returns slope and offset.

    Batch normalisation's mean statistics are not those of the mean weights, and where most crops are degraded
    they are not those of whole pictures: both move every score the same way. A line, fitted by least
    squares to the whole pictures of training that people rated, goes into the last layer: it moves no
    picture past another.
    """
    manifests = card.recipe["data"]["train"]
    rows, _ = read_rows(Data(train=tuple(manifests)))
    rated = list({row.image: row for row in rows if row.source == "human"}.values())
    with _scorer(_serialised(model, card)) as scorer:
        found = scorer.score_many(
            (row.image if row.bounds is None else load_row(row) for row in rated), faces="none"
        )
        pairs = [
            (each.score, row.score) for each, row in zip(found, rated, strict=True) if each.status == "ok"
        ]
    if len(pairs) < MIN_RATED:
        raise TrainingError(
            f"a line to the labels needs {MIN_RATED} training pictures rated by people, to bring its scores "
            f"back to their scale, but {', '.join(manifests)} have {len(pairs)}"
        )
    scores, labels = np.array(pairs, np.float64).T
    slope, offset = np.polyfit(scores, labels, 1)
    last = typing.cast(nn.Linear, model.head[1])
    last.weight.mul_(slope)
    last.bias.mul_(slope).add_(offset)
    return [round(float(slope), 5), round(float(offset), 5)]


def _must_be_alike(runs: Sequence[Path], recipes: Sequence[dict[str, Any]]) -> None:
    """Raises ModelError unless all are of one network and one input side."""
    for run, recipe in zip(runs, recipes, strict=True):
        for key in ("backbone", "neck", "mean", "std"):
            if recipe["model"][key] != recipes[0]["model"][key] or _input_size(recipe) != _input_size(
                recipes[0]
            ):
                raise ModelError(
                    f"{run} and {runs[0]} are not of one network",
                    hint="the mean of weights needs the same backbone, neck, normalisation and input side",
                )


def _input_size(recipe: dict[str, Any]) -> int:
    return int(recipe["model"].get("input") or recipe["data"]["size"])


def _from_checkpoint(
    path: Path, statement: Statement | None, **of_scores: Population | Interval | None
) -> tuple[QualityModel, ModelCard]:
    published = load_published(path)
    card = _card(
        published.model,
        statement or Statement(path.stem, "published", PUBLISHED_LICENCE, limits=PUBLISHED_LIMITS),
        meaning=PUBLISHED_MEANING,
        backbone=published.backbone,
        input_size=published.size,
        resize=CENTRE_RULE,
        trained_on=(),
        recipe={"origin": "a published checkpoint", "file": path.name, "sha256": published.digest},
        recipe_digest="unknown",
        commit=current_commit(),
        **of_scores,
    )
    return published.model, card


def _card(model: QualityModel, statement: Statement, *, input_size: int, **fields: Any) -> ModelCard:
    deployed = as_deployed(model)
    return ModelCard(
        name=statement.name,
        version=statement.version,
        task=TASK,
        input_size=input_size,
        crop=CROP_RULE,
        crop_scale=CROP_SCALE,
        score_range=(0.0, 1.0),
        parameters=sum(parameter.numel() for parameter in deployed.parameters()),
        macs=count_macs(deployed, input_size),
        licence=statement.licence,
        measured=statement.measured or {},
        limits=statement.limits,
        **fields,
    )


@torch.no_grad()
def check_parity(model: QualityModel, scorer: Scorer) -> float:
    """Largest difference of `model` in fp32 and `scorer` over 16 pictures; ModelError above TOLERANCE.

    The pictures are square, tall and wide.
    """
    generator = np.random.default_rng(0)
    size = scorer.card.input_size
    worst = 0.0
    for index in range(16):
        # From flat to noisy: smooth pictures are where quality models live, noise reaches every unit.
        coarse = generator.integers(0, 256, (2 + index, 2 + index, 3), dtype=np.uint8)
        length = size * (16 + index) // 16
        picture = coarse.repeat(length // len(coarse) + 1, 0).repeat(size // len(coarse) + 1, 1)
        picture = picture[:length, :size]
        picture = picture.transpose(1, 0, 2) if index % 2 else picture
        pixels = np.array(RESIZE[scorer.card.resize](picture, size), order="C")  # torch wants its own copy
        expected = float(model(torch.from_numpy(pixels[np.newaxis]))[0])
        worst = max(worst, abs(scorer.score(picture) - expected) - 0.5 * 10**-SCORE_DIGITS)
    if worst > TOLERANCE:
        raise ModelError(f"the exported model differs from PyTorch by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


@torch.no_grad()
def count_macs(model: nn.Module, size: int) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one picture of `size` px."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops()) // 2
