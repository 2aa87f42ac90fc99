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
from torch.utils.data import Dataset

from efiqa.errors import TrainingError
from efiqa.tables import atomic
from efiqa.train.data import Batch, Batches
from efiqa.train.recipe import Recipe

_TENSORS = [field.name for field in dataclasses.fields(Batch) if field.type == "Tensor"]
_TEXTS = [field.name for field in dataclasses.fields(Batch) if field.type != "Tensor"]


class Pool(Dataset[Batch]):
    """Item k is one of the `data.pool` batches; every one comes once before any comes again.

    Decoding, degrading and a teacher's look are more than half of what training a student costs. Batches
    that are kept cost nothing the second time, in this run and in others that ask for the same: they are
    those of seed 0 whatever the run's seed, which decides their order. They lie in a folder of
    `data.pool_folder` named by the digest of all that they follow from; each is written whole or not
    at all, so runs may share a pool at the same time.
    """

    def __init__(self, batches: Batches, recipe: Recipe, judges: list[str]) -> None:
        self.batches, self.size, self.seed = batches, recipe.data.pool, recipe.run.seed
        asked = dataclasses.replace(recipe.data, train=(), validation=(), workers=0, pool=0, pool_folder="")
        # Copies that are made anew keep their names.
        times = [Path(row.image).stat().st_mtime_ns for row in batches.rows]
        state = repr((asked, recipe.ladder, batches.rows, times, judges, batches.rank, batches.processes))
        self.folder = Path(recipe.data.pool_folder) / hashlib.sha256(state.encode()).hexdigest()[:12]
        self._turn, self._order = -1, np.empty(0, np.intp)

    def __getitem__(self, number: int) -> Batch:
        turn, place = divmod(number, self.size)
        if turn != self._turn:
            self._turn = turn
            self._order = np.random.default_rng([self.seed, turn]).permutation(self.size)
        chosen = int(self._order[place])
        path = self.folder / f"{chosen}.safetensors"
        if path.exists():
            return _read(path)
        batch = self.batches[chosen]
        texts = {name: json.dumps(getattr(batch, name)) for name in _TEXTS}
        with atomic(path, binary=True) as file:
            file.write(save({name: getattr(batch, name) for name in _TENSORS}, texts))
        return batch


def _read(path: Path) -> Batch:
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata()
            values: dict[str, Any] = {name: tuple(json.loads(texts[name])) for name in _TEXTS}
            values |= {name: file.get_tensor(name) for name in _TENSORS}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is no batch of a pool", hint="remove it: it is made again") from error
    return Batch(**values)
