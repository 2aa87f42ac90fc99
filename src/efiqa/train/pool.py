"""A pool: batches made once, kept in files, and given again in a new order every time round."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import Dataset

from efiqa.errors import TrainingError
from efiqa.train.data import Batch, Batches
from efiqa.train.recipe import Recipe
from efiqa.writing import atomic

_ANSWERS = ("teacher_score", "teacher_features")
_CROPS = ("image", "row", "gap")
_TEXTS = ("ids", "unreadable")


class Pool(Dataset[Batch]):
    """Item k is one of the `data.pool` batches; every one comes once before any comes again.

    Decoding, degrading and a teacher's look are more than half of what training a student costs. Batches
    that are kept cost nothing the second time, in this run and in others that ask for the same: they are
    those of seed 0 whatever the run's seed, which decides their order. They lie in a folder of
    `data.pool_folder` named by the digest of all that the crops follow from. Labels are not kept, and a
    teacher's answers lie beside the crops under the name of who `judges`: so runs that differ in what is
    said of the pictures share them. Each file is written whole or not at all, so several runs may share a
    pool at the same time.
    """

    def __init__(self, batches: Batches, recipe: Recipe, judges: list[str]) -> None:
        self.batches, self.size, self.seed = batches, recipe.data.pool, recipe.run.seed
        asked = dataclasses.replace(recipe.data, train=(), validation=(), workers=0, pool=0, pool_folder="")
        # Copies that are made anew keep their names.
        times = [Path(row.image).stat().st_mtime_ns for row in batches.rows]
        pictures = [(row.image, row.bounds) for row in batches.rows]
        degraded = [row.image for row in batches.clean] if recipe.ladder.pairs else []
        state = (asked, recipe.ladder, pictures, times, degraded, batches.rank, batches.processes)
        self.folder = Path(recipe.data.pool_folder) / _digest(state)
        self.judges = _digest(judges) if judges else ""
        self._turn, self._order = -1, np.empty(0, np.intp)

    def __getitem__(self, number: int) -> Batch:
        place = self._place(number)
        path = self.folder / f"{place}.safetensors"
        if path.exists():
            batch = Batch(**_read(path))
        else:
            batch = self.batches.crops(place)
            texts = {name: json.dumps(getattr(batch, name)) for name in _TEXTS}
            _write(path, {name: getattr(batch, name) for name in _CROPS}, texts)
        if self.judges and (path := self._answers(number)).exists():
            batch = dataclasses.replace(batch, **_read(path))
        elif self.batches.teacher is not None:
            batch = batch.judged(self.batches.teacher)
            self.keep_answers(number, batch)
        return self.batches.labelled(batch)

    def keep_answers(self, number: int, batch: Batch) -> None:
        """Keep what a teacher that judges elsewhere said of batch `number`, for when it comes again."""
        _write(self._answers(number), {name: getattr(batch, name).cpu() for name in _ANSWERS})

    def _answers(self, number: int) -> Path:
        return self.folder / f"{self._place(number)}.{self.judges}.safetensors"

    def _place(self, number: int) -> int:
        """Which of the kept batches is number `number`."""
        turn, position = divmod(number, self.size)
        if turn != self._turn:
            self._turn = turn
            self._order = np.random.default_rng([self.seed, turn]).permutation(self.size)
        return int(self._order[position])


def _digest(state: object) -> str:
    return hashlib.sha256(repr(state).encode()).hexdigest()[:12]


def _write(path: Path, tensors: dict[str, Tensor], texts: dict[str, str] | None = None) -> None:
    with atomic(path, binary=True) as file:
        file.write(save(tensors, texts))


def _read(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, "pt") as file:
            texts = {name: tuple(json.loads(text)) for name, text in (file.metadata() or {}).items()}
            return texts | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no batch of a pool", hint="remove it: it is made again") from error
