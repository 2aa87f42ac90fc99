"""Batches for training: decode, crop, flip and degrade, each crop a pure function of (seed, step, number)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efiqa.degrade import degrade
from efiqa.errors import ImageError, TrainingError
from efiqa.image import Image, crop, resize
from efiqa.records import Row, read_manifest, read_manifests
from efiqa.sources import load_row
from efiqa.train.recipe import Data, Recipe

Judge = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What a teacher does: crops uint8 (n, S, S, 3) → scores float32 (n,), features float32 (n, width)."""


def read_rows(data: Data) -> tuple[list[Row], list[Row]]:
    """The scored rows to learn from and those to validate on, checked together before anything starts.

    Raises RecordError for a manifest that breaks its format, names a missing picture, or puts a picture or
    a group on both sides; TrainingError for a side that has no scored row.
    """
    every = dict.fromkeys([*data.train, *data.validation])
    read_manifests([Path(name) for name in every], check_files=True)
    tables = {name: read_manifest(Path(name)) for name in every}

    def scored(names: Sequence[str], split: str) -> list[Row]:
        rows = [row for name in names for row in tables[name] if row.split == split and row.score is not None]
        if names and not rows:
            raise TrainingError(f"no row with split {split!r} and a score in {', '.join(names)}")
        return rows

    return scored(data.train, "train"), scored(data.validation, "validation")


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops in this order: n labelled, d degraded (no label holds for them), p milder, p worse.

    `image` is uint8 (n + d + 2p, crop, crop, 3). `row` is int64 (n,), which row each labelled crop is of;
    `score` and `weight` are float32 (n,), what that row says. `gap` is float32 (p,), the difference of
    severities in 0–1. `teacher_score` is float32 (n + d + 2p,) and `teacher_features` (n + d + 2p, width),
    both with no rows where no teacher has looked. `ids` are the pictures, (n + d + p,).
    """

    image: Tensor
    row: Tensor
    gap: Tensor
    ids: tuple[str, ...]
    unreadable: tuple[str, ...]
    score: Tensor = field(default_factory=lambda: torch.empty(0))
    weight: Tensor = field(default_factory=lambda: torch.empty(0))
    teacher_score: Tensor = field(default_factory=lambda: torch.empty(0))
    teacher_features: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def judged(self, teacher: Judge) -> Batch:
        """The same with what `teacher` says of it, on the device where the pictures are."""
        score, features = teacher(self.image)
        return replace(self, teacher_score=score, teacher_features=features)


@dataclass(slots=True)
class _Crops:
    """What a batch gathers while it is made."""

    labelled: list[Image] = field(default_factory=list)
    degraded: list[Image] = field(default_factory=list)
    milder: list[Image] = field(default_factory=list)
    worse: list[Image] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


class Batches(Dataset[Batch]):
    """Item k is batch k, the same whoever asks and whenever.

    So a resumed run goes on exactly where it stopped, and the number of loader processes changes nothing.
    Each of `processes` training processes gets every so manieth crop of the same batch. An unreadable
    picture is left out of its batch and named; nothing takes its place.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        recipe: Recipe,
        *,
        teacher: Judge | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.rows, self.data, self.ladder = rows, recipe.data, recipe.ladder
        self.seed = 0 if recipe.data.pool else recipe.run.seed  # see efiqa.train.pool
        self.teacher, self.rank, self.processes = teacher, rank, processes
        self.per_epoch = max(1, len(rows) // self.data.batch)
        self.clean = [row for row in rows if row.score is not None and row.score >= self.ladder.min_score]
        if self.ladder.pairs and not self.clean:
            raise TrainingError(
                f"no training row has a score of at least {self.ladder.min_score} to degrade",
                hint="lower ladder.min_score, or set ladder.pairs = 0",
            )
        self._scores = torch.tensor([row.score for row in rows], dtype=torch.float32)
        self._weights = torch.tensor([row.weight for row in rows], dtype=torch.float32)
        self._epoch, self._order = -1, np.empty(0, np.intp)

    def __getitem__(self, number: int) -> Batch:
        batch = self.labelled(self.crops(number))
        return batch if self.teacher is None else batch.judged(self.teacher)

    def labelled(self, batch: Batch) -> Batch:
        """The same with what its rows say."""
        return replace(batch, score=self._scores[batch.row], weight=self._weights[batch.row])

    def crops(self, number: int) -> Batch:
        """Batch `number` before anybody has said what its pictures are worth."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = (
                epoch,
                np.random.default_rng([self.seed, epoch]).permutation(len(self.rows)),
            )
        chosen = self._order[position * self.data.batch : (position + 1) * self.data.batch]
        crops = _Crops()
        for place in range(self.rank, len(chosen), self.processes):
            self._add_view(crops, int(chosen[place]), _generator(self.seed, number, 0, place))
        for place in range(self.rank, self.ladder.pairs, self.processes):
            self._add_pair(crops, _generator(self.seed, number, 1, place))
        images = [*crops.labelled, *crops.degraded, *crops.milder, *crops.worse]
        if not images and not crops.unreadable:
            raise TrainingError(
                f"a batch of {len(chosen)} rows leaves nothing for process {self.rank} of {self.processes}",
                hint="start fewer processes, or raise data.batch",
            )
        if not images:
            raise TrainingError(f"no picture of a whole batch can be read, the first: {crops.unreadable[0]}")
        return Batch(
            image=torch.from_numpy(np.stack(images)),
            row=torch.tensor(crops.rows, dtype=torch.int64),
            gap=torch.tensor(crops.gaps, dtype=torch.float32),
            ids=tuple(crops.ids),
            unreadable=tuple(crops.unreadable),
        )

    def _window(self, image: Image, generator: np.random.Generator) -> Image:
        """A random part that is `crop / size` of each side, up to jitter, at the picture's own resolution."""
        share = self.data.crop / self.data.size
        sides = [
            min(
                length,
                max(1, round(length * share * (1 + generator.uniform(-1, 1) * self.data.scale_jitter))),
            )
            for length in image.shape[:2]
        ]
        top, left = (
            int(generator.integers(0, full - part + 1))
            for full, part in zip(image.shape, sides, strict=False)
        )
        window = crop(image, (left, top, left + sides[1], top + sides[0]))
        return np.ascontiguousarray(window[:, ::-1] if generator.random() < 0.5 else window)

    def _at_some_size(self, window: Image, generator: np.random.Generator) -> Image:
        """Users' faces come in all sizes: what is degraded may be larger or smaller than the input."""
        side = round(self.data.crop * generator.uniform(0.7, 1.5))
        return resize(window, side) if min(window.shape[:2]) > side else window

    def _add_view(self, crops: _Crops, number: int, generator: np.random.Generator) -> None:
        row = self.rows[number]
        try:
            window = self._window(load_row(row), generator)
        except ImageError as error:
            crops.unreadable.append(f"{row.image}: {error}")
            return
        crops.ids.append(row.image)
        if generator.random() < self.data.degraded:
            kind, severity = str(generator.choice(self.ladder.kinds)), float(generator.uniform(0.02, 1))
            window = degrade(
                self._at_some_size(window, generator), kind, severity, int(generator.integers(2**31))
            )
            crops.degraded.append(resize(window, self.data.crop))
        else:
            crops.labelled.append(resize(window, self.data.crop))
            crops.rows.append(number)

    def _add_pair(self, crops: _Crops, generator: np.random.Generator) -> None:
        row = self.clean[int(generator.integers(len(self.clean)))]
        kind = str(generator.choice(self.ladder.kinds))
        start = 0.0 if generator.random() < 0.3 else float(generator.uniform(0, 0.85))
        end = min(1.0, start + float(generator.uniform(0.1, 0.35)))
        seed = int(generator.integers(2**31))  # one for both: noise and occlusion differ in severity only
        try:
            window = self._at_some_size(self._window(load_row(row), generator), generator)
        except ImageError as error:
            crops.unreadable.append(f"{row.image}: {error}")
            return
        crops.ids.append(row.image)
        crops.milder.append(resize(degrade(window, kind, start, seed), self.data.crop))
        crops.worse.append(resize(degrade(window, kind, end, seed), self.data.crop))
        crops.gaps.append(end - start)


def _generator(seed: int, number: int, purpose: int, place: int) -> np.random.Generator:
    return np.random.default_rng([seed, number, purpose, place])


def loader(batches: Dataset[Batch], first: int, last: int, workers: int) -> Iterator[Batch]:
    """Batches first … last − 1, made ahead by `workers` processes."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
    )


def count_sources(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows each source gave, for the card."""
    return dict(Counter(row.source or "unknown" for row in rows))
