"""A run folder: `last.safetensors` (model, optimiser and position in one atomic file) and `log.jsonl`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from efiqa.errors import OutputError, TrainingError
from efiqa.train.model import QualityModel
from efiqa.train.recipe import Recipe


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


class RunFolder:
    """One training run on disk.

    Model and optimiser lie in one file, replaced at once, so a kill at any moment leaves either the
    old state or the new one, and nothing is ever unpickled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = path / "last.safetensors"

    def log(self, **values: object) -> None:
        """Append one line to log.jsonl."""
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def save(self, model: QualityModel, optimizer: torch.optim.Optimizer, position: Position) -> None:
        """Replace the checkpoint. Raises OutputError, and keeps the old one, where that fails (full disk)."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.last.with_suffix(".partial")
        try:
            save_file(tensors, partial, metadata={"position": json.dumps(dataclasses.asdict(position))})
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(self.last)
        except (OSError, SafetensorError) as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{self.last} cannot be written: {error}") from error

    def load(self) -> tuple[dict[str, Tensor], Position]:
        """All tensors, named as in `save`, and the position. Raises TrainingError if there are none."""
        try:
            with safe_open(self.last, framework="pt") as file:
                position = Position(**json.loads(file.metadata()["position"]))
                return {name: file.get_tensor(name) for name in file.keys()}, position  # noqa: SIM118
        except (OSError, SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
            raise TrainingError(
                f"{self.path} holds no checkpoint of efiqa: {error}",
                hint="expected last.safetensors from efiqa train",
            ) from error

    def resume(
        self, model: QualityModel, optimizer: torch.optim.Optimizer, recipe: Recipe
    ) -> Position | None:
        """Restore the last checkpoint into `model` and `optimizer`; none if the folder is new.

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
        model.load_state_dict(model_tensors(tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return position


def model_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Only the model's tensors of a checkpoint, under the model's own names."""
    return {
        name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")
    }


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
