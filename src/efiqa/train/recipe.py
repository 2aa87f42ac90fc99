"""Recipe: everything that decides a training run, as frozen dataclasses ⇄ TOML."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efiqa.errors import RecordError


@dataclass(frozen=True, slots=True)
class Data:
    """What is learnt from. Manifest paths are relative to the working folder."""

    train: tuple[str, ...]
    """Manifests; their rows with split `train` and a score are used. One listed twice counts twice."""
    validation: tuple[str, ...] = ()
    """Manifests; their rows with split `validation` and a score are reported on, never learnt from."""
    size: int = 320
    """Input side of the finished model, in pixels: what users' pictures are resized to."""
    crop: int = 256
    """Side of the random training crop, cut from the picture as if it had been resized to `size`."""
    scale_jitter: float = 0.1
    """The crop's height and width each vary by this share."""
    batch: int = 32
    ladder_pairs: int = 0
    """Pairs of the same crop at two severities of one degradation, added to every batch for the rank loss."""
    ladder_min_score: float = 0.6
    """Only rows with at least this score are degraded: what is ruined already has no known order."""
    ladder_kinds: tuple[str, ...] = ("blur", "downscale", "jpeg", "noise", "motion", "dark")
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Model:
    backbone: str
    """A timm name, or NAME:K for its first K stages."""
    mean: tuple[float, float, float]
    """Per channel, 0–255: what the start weights were trained with."""
    std: tuple[float, float, float]
    start: str | None = None
    """safetensors file to start from; none: random start."""


@dataclass(frozen=True, slots=True)
class Optim:
    lr: float = 3e-4
    weight_decay: float = 1e-6
    epochs: float = 10.0
    warmup: float = 0.03
    """Share of all steps over which the rate rises from 0; then a cosine takes it back to 0."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Weight of each term; see efiqa.train.losses."""

    mse: float = 1.0
    plcc: float = 1.0
    rank: float = 0.0
    margin: float = 0.3
    """Lead the rank loss asks for between severity 0 and 1; in proportion for a smaller gap."""


@dataclass(frozen=True, slots=True)
class Run:
    seed: int = 0
    precision: typing.Literal["bf16", "fp32"] = "bf16"
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Recipe:
    data: Data
    model: Model
    optim: Optim = field(default_factory=Optim)
    loss: Loss = field(default_factory=Loss)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        checks = [
            ("data.train", self.data.train, bool(self.data.train), "at least one manifest"),
            ("data.crop", self.data.crop, 32 <= self.data.crop <= self.data.size, "in 32–data.size"),
            ("data.batch", self.data.batch, self.data.batch >= 1, "at least 1"),
            ("data.ladder_pairs", self.data.ladder_pairs, self.data.ladder_pairs >= 0, "0 or more"),
            ("data.workers", self.data.workers, self.data.workers >= 0, "0 or more"),
            ("data.scale_jitter", self.data.scale_jitter, 0 <= self.data.scale_jitter < 0.5, "in 0–0.5"),
            (
                "model.std",
                self.model.std,
                len(self.model.std) == 3 and min(self.model.std) > 0,
                "three positive numbers",
            ),
            ("model.mean", self.model.mean, len(self.model.mean) == 3, "three numbers"),
            ("optim.lr", self.optim.lr, 0 < self.optim.lr < math.inf, "positive and finite"),
            ("optim.weight_decay", self.optim.weight_decay, self.optim.weight_decay >= 0, "0 or more"),
            ("optim.epochs", self.optim.epochs, 0 < self.optim.epochs < math.inf, "positive and finite"),
            ("optim.warmup", self.optim.warmup, 0 <= self.optim.warmup < 1, "in 0–1"),
            ("optim.clip", self.optim.clip, self.optim.clip > 0, "positive"),
            *(
                (f"loss.{name}", value, 0 <= value < math.inf, "0 or more")
                for name, value in dataclasses.asdict(self.loss).items()
            ),
        ]
        for key, value, fine, expected in checks:
            if not fine:
                raise RecordError(f"recipe: {key} must be {expected}, but got {value!r}")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """SHA-256 over all values, 12 hexadecimal digits: runs of one digest were asked the same thing."""
        return hashlib.sha256(repr(self.to_dict()).encode()).hexdigest()[:12]


def load_recipe(path: Path, changes: typing.Sequence[str] = ()) -> Recipe:
    """Read a TOML recipe; each of `changes` is `section.key=value`, the value in TOML's spelling.

    Raises RecordError for a file that is not TOML, an unknown key (naming the nearest), a value of
    the wrong type or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            name, _, value = change.partition("=")
            section, _, key = name.strip().partition(".")
            values = table.setdefault(section, {})
            if not isinstance(values, dict):
                raise RecordError(f"recipe {path}: {section} must be a table, but got {values!r}")
            values[key] = tomllib.loads(f"value = {value}")["value"]
    except OSError as error:
        raise RecordError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecordError(
            f"recipe {path}: {error}",
            hint="text in TOML stands in quotes: --set 'model.backbone=\"resnet18\"'",
        ) from error
    return typing.cast(Recipe, _build(Recipe, table, "recipe"))


def _build(kind: type[Any], table: object, where: str) -> object:
    if not isinstance(table, dict):
        raise RecordError(f"{where} must be a table, but got {table!r}")
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.4)
            raise RecordError(
                f"{where}: unknown key {key!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(hints)}",
            )
    needed = [
        item.name
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    for key in needed:
        if key not in table:
            raise RecordError(f"{where}: {key!r} is missing")
    values = {key: _value(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    return kind(**values)


def _value(kind: Any, value: object, where: str) -> object:
    if dataclasses.is_dataclass(kind):
        return _build(typing.cast(type[Any], kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is typing.Literal and value in arguments:
        return value
    if origin is types.UnionType and isinstance(value, arguments):
        return value
    if kind is float and type(value) in (int, float):
        return float(typing.cast(float, value))
    if origin is None and type(value) is kind:
        return value
    expected = kind.__name__ if origin is None else str(kind).replace("typing.", "")
    raise RecordError(f"{where} must be {expected}, but got {value!r}")
