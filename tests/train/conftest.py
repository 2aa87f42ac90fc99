"""Pictures, manifests and recipes small enough to train on in seconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from efiqa.image import Image
from efiqa.records import Row, write_manifest
from efiqa.train.recipe import Data, Model, Optim, Recipe, Run

BACKBONE = "tf_efficientnet_lite0:1"
"""4,129 parameters with the head: a step of 16 pictures of 32 px takes milliseconds."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Small tensors are slower on several threads, and sums must not depend on how many there are."""
    if not importlib.util.find_spec("torch"):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[str, Image], str]:
    """Write an array as a PNG named so; gives its path."""

    def write(name: str, pixels: Image) -> str:
        path = tmp_path / f"{name}.png"
        PIL.Image.fromarray(pixels).save(path)
        return str(path)

    return write


@pytest.fixture
def flat_rows(picture: Callable[[str, Image], str]) -> Callable[..., list[Row]]:
    """`n` flat pictures of 48 px; the label of each is its grey level / 255, and no two are alike."""

    def make(n: int, *, split: str = "train", first: int = 10) -> list[Row]:
        rows = []
        for level in range(first, first + n):
            path = picture(f"{split}{level}", np.full((48, 48, 3), level, np.uint8))
            rows.append(Row(path, score=level / 255, split=split, source="human"))
        return rows

    return make


def write_brightness_set(folder: Path, n: int = 64, validation: int = 40) -> Path:
    """A manifest of grainy 48 px pictures whose label is their mean brightness."""
    generator = np.random.default_rng(5)
    rows = []
    for index in range(n + validation):
        level = generator.uniform(0.15, 0.85)
        grain = generator.normal(0, 30, (48, 48, 3))
        path = folder / f"{index:03d}.png"
        pixels = np.clip(level * 255 + grain, 0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(path, compress_level=1)
        split = "train" if index < n else "validation"
        rows.append(Row(str(path), score=float(pixels.mean() / 255), split=split, source="human"))
    manifest = folder / "brightness.csv"
    write_manifest(manifest, rows)
    return manifest


@pytest.fixture(scope="session")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of `write_brightness_set`: 64 pictures to learn from, 40 to validate on."""
    return write_brightness_set(tmp_path_factory.mktemp("brightness"))


def recipe_over(manifest: Path | str, **parts: dict[str, Any]) -> Recipe:
    """A recipe over `manifest` with parts replaced: `recipe_over(manifest, optim={"lr": 0.1})`."""
    recipe = Recipe(
        data=Data(
            train=(str(manifest),),
            validation=(str(manifest),),
            size=48,
            crop=32,
            batch=16,
            workers=0,
        ),
        model=Model(BACKBONE, mean=(127.0, 127.0, 127.0), std=(64.0, 64.0, 64.0)),
        optim=Optim(lr=1e-2, epochs=3, warmup=0.1),
        run=Run(seed=1, precision="fp32"),
    )
    changed = {part: replace(getattr(recipe, part), **values) for part, values in parts.items()}
    return replace(recipe, **changed)


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Recipe]:
    return recipe_over


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[Sequence[Row]], str]:
    """Write rows as a manifest; gives its path."""

    def write(rows: Sequence[Row]) -> str:
        path = tmp_path / "manifest.csv"
        write_manifest(path, rows)
        return str(path)

    return write
