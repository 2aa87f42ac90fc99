"""ModelCard: what a model expects, what its number means, where it came from.

The card lies in the ONNX file's metadata under `efiqa.card`, as JSON, and beside it as NAME.json for
readers that see no metadata. Nothing about a model is guessed when it is loaded.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import json
import math
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any

from efiqa.errors import InvalidArgument, ModelError

METADATA_KEY = "efiqa.card"
RESIZE_RULE = "stretch to input_size × input_size, Pillow BILINEAR with antialiasing"
CENTRE_RULE = "shorter side to input_size, Pillow BILINEAR with antialiasing, centre crop"
CROP_RULE = (
    "square of side min(crop_scale × longer side of the face box, width, height), centred on the box, "
    "shifted inside the picture, never padded"
)


@dataclass(frozen=True, slots=True)
class Population:
    """What `quality` is relative to: `scores` are percentiles 0, 1, … 100 of `n` scores of `name`."""

    name: str
    n: int
    scores: tuple[float, ...]

    def percentile(self, score: float) -> float:
        """Share of the population that scores at most `score`, 0–100, linear between percentiles."""
        table = self.scores
        if score <= table[0]:
            return 0.0
        if score >= table[-1]:
            return 100.0
        above = next(index for index, bound in enumerate(table) if bound > score)
        low, high = table[above - 1], table[above]
        return above - 1 + (score - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Interval:
    """How far `of`, the truth, lay from the score in `n` held-out cases; see efiqa.conformal.

    Scores fall into bins with the inner `edges`, a score at an edge into the upper. `halfwidths` has for each
    `coverage` (in 0–1, rising) one number for each bin. `measured` is the coverage that was found on groups
    left out of the fit, for each `coverage`.
    """

    of: str
    n: int
    coverage: tuple[float, ...]
    edges: tuple[float, ...]
    halfwidths: tuple[tuple[float, ...], ...]
    measured: tuple[float, ...]

    def around(self, score: float, coverage: float) -> tuple[float, float]:
        """(low, high) in units of the score. Raises InvalidArgument for a coverage that was not fitted."""
        if coverage not in self.coverage:
            known = ", ".join(f"{value:g}" for value in self.coverage)
            raise InvalidArgument(
                f"the model has no intervals of coverage {coverage:g}", hint=f"it has those of {known}"
            )
        halfwidth = self.halfwidths[self.coverage.index(coverage)][bisect.bisect_right(self.edges, score)]
        return score - halfwidth, score + halfwidth


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model of lower `precision` was made of another, and how near it comes; see efiqa.quantize.

    `of` is the other's name@version and digest. `calibrated_on` pictures gave the ranges; of `n` others
    `srcc` is the agreement of both models' scores and `largest_change` the largest difference between them.
    """

    precision: str
    of: str
    method: str
    calibrated_on: int
    n: int
    srcc: float
    largest_change: float


@dataclass(frozen=True, slots=True)
class Source:
    """One set that the model learnt from."""

    name: str
    rows: int
    labels: str
    digest: str
    terms: str


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything a user of the model has to know; see the field notes in docs/models.md."""

    name: str
    version: str
    task: str
    meaning: str
    backbone: str
    input_size: int
    resize: str
    crop: str
    crop_scale: float
    score_range: tuple[float, float]
    parameters: int
    macs: int
    licence: str
    trained_on: tuple[Source, ...]
    measured: dict[str, Any]
    limits: tuple[str, ...]
    recipe: dict[str, Any]
    recipe_digest: str
    commit: str
    population: Population | None = None
    interval: Interval | None = None
    quantization: Quantization | None = None

    def __post_init__(self) -> None:
        low, high = self.score_range
        checks = [
            ("input_size", self.input_size, 16 <= self.input_size <= 4096, "16–4096 pixels"),
            (
                "resize",
                self.resize,
                self.resize in (RESIZE_RULE, CENTRE_RULE),
                f"one of the rules this version knows, {RESIZE_RULE!r} or {CENTRE_RULE!r}",
            ),
            ("crop", self.crop, self.crop == CROP_RULE, f"the one rule this version knows, {CROP_RULE!r}"),
            ("crop_scale", self.crop_scale, 0.5 <= self.crop_scale <= 10, "0.5–10"),
            (
                "score_range",
                self.score_range,
                math.isfinite(low) and math.isfinite(high) and low < high,
                "(low, high), low below high",
            ),
        ]
        if self.population is not None:
            table = self.population.scores
            rising = len(table) == 101 and all(a <= b for a, b in itertools.pairwise(table))
            checks.append(("population.scores", len(table), rising, "101 numbers that never fall"))
        if self.interval is not None:
            rows, bins = self.interval.halfwidths, len(self.interval.edges) + 1
            levels = {len(rows), len(self.interval.coverage), len(self.interval.measured)}
            fits = len(levels) == 1 and all(len(row) == bins and min(row) >= 0 for row in rows)
            checks.append(("interval.halfwidths", rows, fits, "0 or more for each coverage and each bin"))
        for name, value, fine, expected in checks:
            if not fine:
                raise ModelError(f"model card: {name} must be {expected}, but got {value!r}")

    @property
    def source(self) -> str:
        """name@version, as labels and policies name the model."""
        return f"{self.name}@{self.version}"

    def to_json(self) -> str:
        values = dataclasses.asdict(self)
        if self.quantization is None:  # cards from before there was any say nothing of it
            del values["quantization"]
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Raises ModelError for what is not JSON, and a field unknown, missing or of the wrong kind."""
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ModelError(f"model card: not JSON ({error})") from error
        return typing.cast(ModelCard, typed(cls, values, "model card"))


def typed(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gives it, as the annotated type `kind`; ModelError says where it does not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is types.UnionType:
        return None if value is None else typed(arguments[0], value, where)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        optional = {item.name for item in dataclasses.fields(kind) if item.default is None}
        unknown, missing = set(value) - set(hints), set(hints) - set(value) - optional
        if unknown or missing:
            problem = f"unknown field {min(unknown)!r}" if unknown else f"field {min(missing)!r} is missing"
            raise ModelError(f"{where}: {problem}")
        fields = {name: typed(hints[name], item, f"{where}: {name}") for name, item in value.items()}
        return typing.cast(Any, kind)(**fields)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ModelError(f"{where} must hold {len(arguments)} values, but got {len(value)}")
        return tuple(typed(arguments[0], item, where) for item in value)
    if kind is float and type(value) in (int, float):
        if not -sys.float_info.max <= value <= sys.float_info.max:  # JSON has NaN, and numbers of any size
            raise ModelError(f"{where} must be finite, but got {value!r}")
        return float(value)
    if (origin is dict and isinstance(value, dict)) or (origin is None and type(value) is kind):
        return value
    raise ModelError(f"{where} must be {getattr(kind, '__name__', kind)}, but got {value!r}")
