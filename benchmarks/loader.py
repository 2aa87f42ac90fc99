"""Does the data loader keep the network fed? Images/s of loader alone, network alone, and both together.

    python benchmarks/loader.py recipes/small/student.toml [--batches 20] [--rounds 3]

The network alone sees one batch again and again. In turns, so that what else the machine does hits all three
alike; medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from itertools import repeat
from pathlib import Path

import torch

from efiqa.train.backbones import keep_depthwise_in_full_precision, keep_freed_memory
from efiqa.train.data import Batches, loader, read_rows
from efiqa.train.learner import Learner, losses
from efiqa.train.model import build_model, load_start
from efiqa.train.recipe import load_recipe
from efiqa.train.teacher import Teacher

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", dest="changes", action="append", default=[])
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.changes)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        teacher = (
            Teacher(recipe.distil.teachers, recipe.data.crop, Path(folder))
            if recipe.distil.teachers
            else None
        )
        batches = Batches(read_rows(recipe.data)[0], recipe, teacher=teacher)
        model = build_model(recipe.model)
        if recipe.model.start:
            load_start(model, recipe.model.start)
        learner = Learner(model, recipe, teacher.width if teacher else 0).train()
        keep_depthwise_in_full_precision(model)
        learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fixed = batches[0]

        def rate(*, made: bool, learnt: bool) -> float:
            count = WARM_UP + arguments.batches
            queue = loader(batches, 0, count, batches.data.workers) if made else repeat(fixed, count)
            images, started = 0, 0.0
            for number, batch in enumerate(queue):
                if number == WARM_UP:
                    started = time.perf_counter()
                if learnt:
                    with torch.autocast("cpu", torch.bfloat16):
                        scores, features = learner(batch.image)
                    losses(scores, features, batch, recipe)["loss"].backward()
                images += len(batch.image) if number >= WARM_UP else 0
            return images / (time.perf_counter() - started)

        settings = {
            "loader alone": {"made": True, "learnt": False},
            "network alone": {"made": False, "learnt": True},
            "both": {"made": True, "learnt": True},
        }
        rates: dict[str, list[float]] = {name: [] for name in settings}
        for _ in range(arguments.rounds):
            for name, setting in settings.items():
                rates[name].append(rate(**setting))
    print("| images/s | median | min | max |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")


if __name__ == "__main__":
    main()
