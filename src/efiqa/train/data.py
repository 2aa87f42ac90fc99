"""Batches for training: decode, crop, flip and degrade, each a pure function of (seed, step)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from efiqa.degrade import KINDS, degrade
from efiqa.errors import ImageError, TrainingError
from efiqa.image import Image, crop, resize
from efiqa.records import Row, read_manifest
from efiqa.sources import load_row
from efiqa.train.recipe import Data


def read_rows(manifests: Sequence[str], split: str) -> list[Row]:
    """All scored rows of one split. Raises TrainingError if there are none."""
    rows = [row for name in manifests for row in read_manifest(Path(name))]
    rows = [row for row in rows if row.split == split and row.score is not None]
    if not rows:
        raise TrainingError(f"no row with split {split!r} and a score in {', '.join(manifests)}")
    return rows


@dataclass(frozen=True, slots=True)
class Batch:
    """Labelled pictures, then ladder pairs.

    `image` is uint8 (n + 2p, crop, crop, 3): n labelled crops, then p milder, then p worse ones.
    `score` is float32 (n,); `gap` float32 (p,), the difference of severities in 0–1.
    """

    image: Tensor
    score: Tensor
    gap: Tensor
    unreadable: tuple[str, ...]


class Batches(Dataset[Batch]):
    """Item k is the batch of step k, the same whoever asks and whenever.

    So a resumed run goes on exactly where it stopped, and the number of workers changes nothing.
    An unreadable picture is left out of its batch and named; nothing takes its place.
    """

    def __init__(self, rows: Sequence[Row], data: Data, seed: int) -> None:
        self.rows, self.data, self.seed = rows, data, seed
        self.steps_per_epoch = max(1, len(rows) // data.batch)
        self.ladder = [row for row in rows if row.score is not None and row.score >= data.ladder_min_score]
        unknown = set(data.ladder_kinds) - set(KINDS)
        if unknown:
            raise TrainingError(f"unknown degradation {min(unknown)!r}", hint=f"known: {', '.join(KINDS)}")
        if data.ladder_pairs and not self.ladder:
            raise TrainingError(
                f"no training row has a score of at least {data.ladder_min_score} to degrade",
                hint="lower data.ladder_min_score, or set data.ladder_pairs = 0",
            )
        self._epoch, self._order = -1, np.empty(0, np.intp)

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = (
                epoch,
                np.random.default_rng([self.seed, epoch]).permutation(len(self.rows)),
            )
        chosen = self._order[position * self.data.batch : (position + 1) * self.data.batch]
        generator = np.random.default_rng([self.seed, epoch, position])
        crops: list[Image] = []
        scores: list[float] = []
        unreadable: list[str] = []
        for index in chosen:
            row = self.rows[index]
            try:
                crops.append(self._view(load_row(row), generator))
                scores.append(float(row.score or 0.0))
            except ImageError as error:
                unreadable.append(f"{row.image}: {error}")
        milder, worse, gaps = self._ladder_pairs(generator, unreadable)
        if not crops:
            raise TrainingError(f"no picture of a whole batch can be read, the first: {unreadable[0]}")
        return Batch(
            image=torch.from_numpy(np.stack([*crops, *milder, *worse])),
            score=torch.tensor(scores, dtype=torch.float32),
            gap=torch.tensor(gaps, dtype=torch.float32),
            unreadable=tuple(unreadable),
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
        return window[:, ::-1] if generator.random() < 0.5 else window

    def _view(self, image: Image, generator: np.random.Generator) -> Image:
        return resize(np.ascontiguousarray(self._window(image, generator)), self.data.crop)

    def _ladder_pairs(
        self, generator: np.random.Generator, unreadable: list[str]
    ) -> tuple[list[Image], list[Image], list[float]]:
        milder: list[Image] = []
        worse: list[Image] = []
        gaps: list[float] = []
        for _ in range(self.data.ladder_pairs):
            row = self.ladder[int(generator.integers(len(self.ladder)))]
            kind = str(generator.choice(self.data.ladder_kinds))
            start = 0.0 if generator.random() < 0.3 else float(generator.uniform(0, 0.85))
            end = min(1.0, start + float(generator.uniform(0.1, 0.35)))
            seeds = generator.integers(0, 2**31, 2)
            # Users' faces come in all sizes: what is degraded may be larger or smaller than the input.
            side = round(self.data.crop * generator.uniform(0.7, 1.5))
            try:
                window = np.ascontiguousarray(self._window(load_row(row), generator))
            except ImageError as error:
                unreadable.append(f"{row.image}: {error}")
                continue
            if min(window.shape[:2]) > side:
                window = resize(window, side)
            milder.append(resize(degrade(window, kind, start, int(seeds[0])), self.data.crop))
            worse.append(resize(degrade(window, kind, end, int(seeds[1])), self.data.crop))
            gaps.append(end - start)
        return milder, worse, gaps


def loader(batches: Batches, first: int, last: int) -> Iterator[Batch]:
    """Batches of steps first … last − 1, made ahead by `data.workers` processes."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(first, last),
            num_workers=batches.data.workers,
            prefetch_factor=4 if batches.data.workers else None,
        )
    )


def count_sources(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows each source gave, for the card."""
    return dict(Counter(row.source or "unknown" for row in rows))
