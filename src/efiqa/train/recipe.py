"""Recipe: everything that decides a training run, as frozen dataclasses ⇄ TOML."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efiqa.degrade import KINDS
from efiqa.errors import RecordError
from efiqa.settings import from_table


@dataclass(frozen=True, slots=True)
class Data:
    """What is learnt from. Manifest paths are relative to the working folder."""

    train: tuple[str, ...]
    """Manifests; their rows with split `train` and a score are used. One listed twice counts twice."""
    validation: tuple[str, ...] = ()
    """Manifests; their rows with split `validation` and a score are reported on, never learnt from."""
    size: int = 320
    """Side that pictures are resized to, whole, before crops are cut. Without model.input it is the finished
    model's input side as well: what users' pictures are resized to."""
    crop: int = 256
    """Side of the random training crop, cut from the picture as if it had been resized to `size`."""
    scale_jitter: float = 0.1
    """The crop's height and width each vary by this share."""
    batch: int = 32
    """Labelled crops a step and accumulation, over all processes."""
    degraded: float = 0.0
    """Chance that a crop is degraded at random. Its label no longer holds: only the teacher speaks of it."""
    pool: int = 0
    """Draw this many batches, and give them again in a new order each time round; 0: all are new."""
    pool_folder: str = ""
    """Where the batches of pools are kept; runs that ask for the same share them."""
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Ladder:
    """Pairs of the same crop at two severities of one degradation, for the rank loss."""

    pairs: int = 0
    """Added to every batch."""
    min_score: float = 0.6
    """Only rows with at least this score are degraded: what is ruined already has no known order."""
    kinds: tuple[str, ...] = ("blur", "downscale", "jpeg", "noise", "motion", "dark")
    """Names from efiqa.degrade; one listed twice is drawn twice as often."""
    margin: float = 0.3
    """Lead asked for between severity 0 and 1; in proportion for a smaller gap."""


@dataclass(frozen=True, slots=True)
class Model:
    backbone: str
    """A timm name, torchvision's swin_t, swin_s or swin_b, or NAME:K for the first K stages of one."""
    mean: tuple[float, float, float]
    """Per channel, 0–255: what the start weights were trained with."""
    std: tuple[float, float, float]
    start: str | None = None
    """Weights to start from: a .safetensors or .onnx file, package:NAME, hub:OWNER/NAME; none: random."""
    input: int = 0
    """Input side of the finished model where it is smaller than data.size: it looks at the same crops as its
    teachers, made smaller in proportion. 0: data.size."""
    neck: int = 0
    """Features of a 1 × 1 convolution between backbone and pooling; 0: none, as in the paper."""
    frozen: int = 0
    """The stem and this many stages keep their start weights."""
    frozen_norm: bool = False
    """Batch normalisation keeps its start statistics: for small sets and small batches."""


@dataclass(frozen=True, slots=True)
class Distil:
    """Teachers that look at the very crops that the student sees, besides the labels in the manifests."""

    teachers: tuple[str, ...] = ()
    """Run folders of efiqa train, exported .onnx files, or names of models that ship; several are averaged,
    and the first one's features are used."""


@dataclass(frozen=True, slots=True)
class Optim:
    lr: float = 3e-4
    weight_decay: float = 1e-6
    epochs: float = 10.0
    """Passes over the rows; a part of one is fine."""
    steps: int = 0
    """Updates of the weights instead of `epochs`, so that runs on sets of different size are equally long."""
    accumulate: int = 1
    """Batches whose gradients are added up for one step."""
    schedule: typing.Literal["cosine", "step"] = "cosine"
    warmup: float = 0.03
    """Share of all steps over which the rate rises from 0."""
    decay_epochs: float = 10.0
    """With `step`, the rate falls to a tenth each time this many epochs have passed."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    ema: float = 0.0
    """Decay per step of the weights' moving average, which is what is validated and exported; 0: none."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Weight of each term; see efiqa.train.losses."""

    mse: float = 1.0
    plcc: float = 1.0
    rank: float = 0.0
    distil: float = 0.0
    """Student's against teacher's score of the same crop, MSE + PLCC loss."""
    features: float = 0.0
    """Student's pooled features, through a linear map that is thrown away, against the teacher's."""


@dataclass(frozen=True, slots=True)
class Run:
    seed: int = 0
    precision: typing.Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """`auto` is bf16 where the machine computes in it, fp32 elsewhere; see efiqa.train.optim.arithmetic."""
    checkpoint_seconds: float = 120.0
    validate_first: bool = False
    """Also validate the start weights, so that a run says what it gained."""
    tensorboard: bool = False
    """Also write events for TensorBoard into the run folder."""


@dataclass(frozen=True, slots=True)
class Recipe:
    data: Data
    model: Model
    ladder: Ladder = field(default_factory=Ladder)
    distil: Distil = field(default_factory=Distil)
    optim: Optim = field(default_factory=Optim)
    loss: Loss = field(default_factory=Loss)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        data, ladder, model, optim, loss = self.data, self.ladder, self.model, self.optim, self.loss
        speaks = bool(self.distil.teachers)
        unknown = set(ladder.kinds) - set(KINDS)
        checks = [
            ("data.train", data.train, bool(data.train), "at least one manifest"),
            ("data.crop", data.crop, 32 <= data.crop <= data.size, "in 32–data.size"),
            ("data.batch", data.batch, data.batch >= 1, "at least 1"),
            ("data.degraded", data.degraded, 0 <= data.degraded <= 1, "in 0–1"),
            ("data.degraded", data.degraded, speaks or data.degraded == 0, "0 without distil.teachers"),
            ("data.pool", data.pool, data.pool >= 0, "0 or more"),
            ("data.pool_folder", data.pool_folder, bool(data.pool_folder) or not data.pool, "named"),
            ("data.workers", data.workers, data.workers >= 0, "0 or more"),
            ("data.scale_jitter", data.scale_jitter, 0 <= data.scale_jitter < 0.5, "in 0–0.5"),
            ("ladder.pairs", ladder.pairs, ladder.pairs >= 0, "0 or more"),
            ("ladder.kinds", ladder.kinds, bool(ladder.kinds) and not unknown, f"among {', '.join(KINDS)}"),
            ("ladder.margin", ladder.margin, 0 <= ladder.margin < math.inf, "0 or more"),
            ("model.std", model.std, len(model.std) == 3 and min(model.std) > 0, "three positive numbers"),
            ("model.mean", model.mean, len(model.mean) == 3, "three numbers"),
            ("model.input", model.input, 32 <= self.input_size <= data.size, "in 32–data.size, or 0"),
            ("model.neck", model.neck, model.neck >= 0, "0 or more"),
            ("model.frozen", model.frozen, model.frozen >= 0, "0 or more"),
            ("optim.lr", optim.lr, 0 < optim.lr < math.inf, "positive and finite"),
            ("optim.weight_decay", optim.weight_decay, optim.weight_decay >= 0, "0 or more"),
            ("optim.epochs", optim.epochs, 0 < optim.epochs < math.inf, "positive and finite"),
            ("optim.steps", optim.steps, optim.steps >= 0, "0 or more"),
            ("optim.accumulate", optim.accumulate, optim.accumulate >= 1, "at least 1"),
            ("optim.warmup", optim.warmup, 0 <= optim.warmup < 1, "in 0–1"),
            ("optim.decay_epochs", optim.decay_epochs, optim.decay_epochs > 0, "positive"),
            ("optim.clip", optim.clip, optim.clip > 0, "positive"),
            ("optim.ema", optim.ema, 0 <= optim.ema < 1, "in 0–1"),
            ("loss.distil", loss.distil, speaks or loss.distil == 0, "0 without distil.teachers"),
            ("loss.features", loss.features, speaks or loss.features == 0, "0 without distil.teachers"),
            *(
                (f"loss.{name}", value, 0 <= value < math.inf, "0 or more")
                for name, value in dataclasses.asdict(loss).items()
            ),
        ]
        for key, value, fine, expected in checks:
            if not fine:
                raise RecordError(f"recipe: {key} must be {expected}, but got {value!r}")

    @property
    def input_size(self) -> int:
        """Input side of the finished model, in pixels: what users' pictures are resized to."""
        return self.model.input or self.data.size

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
    return typing.cast(Recipe, from_table(Recipe, table, "recipe"))
