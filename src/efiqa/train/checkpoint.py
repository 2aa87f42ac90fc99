"""A run folder: `last.safetensors` and `best.safetensors`, each one atomic file, and `log.jsonl`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from efiqa.errors import OutputError, TrainingError
from efiqa.train.learner import Learner
from efiqa.train.model import QualityModel, build_model
from efiqa.train.recipe import Model, Recipe


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands, and what made it; stored as the file's metadata."""

    step: int
    seen: int
    recipe: dict[str, Any]
    digest: str
    sources: list[dict[str, Any]]
    metrics: dict[str, Any]
    commit: str
    before: dict[str, Any] = field(default_factory=dict)
    """Metrics of the start weights, where the recipe asks for them."""
    best: float | None = None
    """Highest validation SRCC so far."""
    scaler: dict[str, Any] | None = None
    """State of the fp16 loss scale."""


class RunFolder:
    """One training run on disk.

    A checkpoint is one file, replaced at once, so a kill at any moment leaves either the old state or the
    new one, and nothing is ever unpickled. `last` holds weights, their moving average, optimiser and
    position; `best` only what is exported, from the validation with the highest SRCC so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.safetensors"
        self.best = path / "best.safetensors"

    def log(self, **values: object) -> None:
        """Append one line to log.jsonl. Raises OutputError where that fails (full disk)."""
        path = self.path / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error

    def save(
        self,
        learner: Learner,
        average: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        position: Position,
    ) -> None:
        """Replace `last`. Raises OutputError, and keeps the old one, where that fails (full disk)."""
        tensors = dict(learner.state_dict())
        tensors |= {f"average.{name}": tensor for name, tensor in average.items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        _write(self.last, tensors, position)

    def save_best(self, model: Mapping[str, Tensor], position: Position) -> None:
        """Replace `best` with a model's weights alone; raises as `save` does."""
        _write(self.best, {f"model.{name}": tensor for name, tensor in model.items()}, position)

    def load(self, path: Path | None = None) -> tuple[dict[str, Tensor], Position]:
        """All tensors of `last` (or `path`), named as in `save`, and the position. Raises TrainingError."""
        try:
            with safe_open(path or self.last, framework="pt") as file:
                position = Position(**json.loads(file.metadata()["position"]))
                return {name: file.get_tensor(name) for name in file.keys()}, position  # noqa: SIM118
        except (OSError, SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
            raise TrainingError(
                f"{path or self.path} holds no checkpoint of efiqa: {error}",
                hint="expected last.safetensors from efiqa train",
            ) from error

    def trained(self, path: Path | None = None) -> tuple[QualityModel, Position]:
        """The model of a checkpoint, its moving average where there is one, in evaluation mode."""
        tensors, position = self.load(path)
        model = build_model(Model(**position.recipe["model"]))
        model.load_state_dict(model_tensors(tensors))
        return model.eval(), position

    def resume(
        self,
        learner: Learner,
        average: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
    ) -> Position | None:
        """Restore `last` into `learner`, `average` and `optimizer`; none if the folder is new.

        Raises TrainingError if the folder holds a run of another recipe.
        """
        if not self.last.exists():
            return None
        tensors, position = self.load()
        if position.digest != recipe.digest():
            raise TrainingError(
                f"{self.path} holds a run of another recipe "
                f"(digest {position.digest}, now {recipe.digest()})",
                hint="choose another folder, or remove this one",
            )
        learner.load_state_dict({name: tensors[name] for name in learner.state_dict()})
        for name, tensor in average.items():
            tensor.copy_(tensors[f"average.{name}"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return position


def _write(path: Path, tensors: Mapping[str, Tensor], position: Position) -> None:
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(stored, partial, metadata={"position": json.dumps(dataclasses.asdict(position))})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error}") from error


def model_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Only the model's tensors of a checkpoint, averaged where they are, under the model's own names."""
    plain = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    return plain | {k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")}


def current_commit() -> str:
    """Commit of the working folder's repository, with `+` when files have changed; `unknown` outside one."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
