"""How well a network being trained agrees with the labels that were held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from efiqa.cores import available_cores
from efiqa.errors import ImageError, InvalidArgument
from efiqa.image import Image, resize
from efiqa.metrics import plcc, srcc
from efiqa.records import Row
from efiqa.sources import load_row
from efiqa.train import parallel
from efiqa.train.model import QualityModel
from efiqa.train.optim import precision
from efiqa.train.recipe import Recipe


@torch.no_grad()
def evaluate(model: QualityModel, rows: Sequence[Row], recipe: Recipe) -> dict[str, Any]:
    """SRCC and PLCC over whole pictures at the finished model's input size, as users will score them.

    Under torchrun each process scores its share; the pairs are put together by the row they belong to.
    """
    device = next(model.parameters()).device
    model.eval()
    found: list[Any] = []
    pictures: list[Image] = []
    places: list[int] = []

    def flush() -> None:
        with precision(recipe, device):
            scores = model(torch.from_numpy(np.stack(pictures)).to(device)).tolist()
        found.extend(zip(places, scores, strict=True))
        pictures.clear()
        places.clear()

    for place, picture in _pictures(rows, recipe.input_size):
        if picture is None:
            continue
        pictures.append(picture)
        places.append(place)
        if len(pictures) == 32:
            flush()
    if pictures:
        flush()
    scores = dict(sorted(parallel.gather_objects(found)))
    labels = [float(rows[place].score or 0.0) for place in scores]
    try:
        agreement: dict[str, Any] = {
            "srcc": round(srcc(list(scores.values()), labels), 4),
            "plcc": round(plcc(list(scores.values()), labels), 4),
        }
    except InvalidArgument as error:
        agreement = {"note": str(error)}
    return {**agreement, "n": len(labels), "unreadable": len(rows) - len(labels)}


def _pictures(rows: Sequence[Row], size: int) -> Iterator[tuple[int, Image | None]]:
    """This process's share of the rows' pictures, decoded ahead; none for one that cannot be read."""

    def load(place: int) -> tuple[int, Image | None]:
        try:
            return place, resize(load_row(rows[place]), size)
        except ImageError:
            return place, None

    rank, processes = parallel.place()
    own = range(rank, len(rows), processes)
    with ThreadPoolExecutor(available_cores()) as pool:
        for first in range(0, len(own), 64):  # no more than this many decoded pictures wait
            yield from pool.map(load, own[first : first + 64])
