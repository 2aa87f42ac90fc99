"""fit(recipe): the one training loop, for teacher, self-trained teacher and student alike."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from efiqa.errors import ImageError, InvalidArgument, TrainingError
from efiqa.image import Image, resize
from efiqa.metrics import plcc, srcc
from efiqa.records import Row
from efiqa.sources import load_row
from efiqa.train.backbones import keep_depthwise_in_full_precision
from efiqa.train.checkpoint import Position, RunFolder, current_commit
from efiqa.train.data import Batch, Batches, count_sources, loader, read_rows
from efiqa.train.losses import mse, plcc_loss, rank_loss
from efiqa.train.model import QualityModel, load_start
from efiqa.train.recipe import Optim, Recipe

LOG_EVERY = 20

Progress = Callable[[int, int, dict[str, Any]], None]


def fit(recipe: Recipe, folder: Path, *, progress: Progress | None = None) -> Position:
    """Train what `recipe` asks for in `folder`, going on from its last checkpoint if there is one.

    The result depends on the recipe, the data and the machine's arithmetic only: a run that was
    killed and resumed ends with the weights of an undisturbed one. `progress(step, steps, values)`
    is called after every step.

    Raises TrainingError where training cannot start or the loss is no longer finite, RecordError
    for a manifest that breaks its format, ModelError for start weights that do not fit, OutputError
    for a checkpoint that cannot be written.
    """
    torch.manual_seed(recipe.run.seed)
    rows = read_rows(recipe.data.train, "train")
    validation = read_rows(recipe.data.validation, "validation") if recipe.data.validation else []
    batches = Batches(rows, recipe.data, recipe.run.seed)
    steps = max(1, round(recipe.optim.epochs * batches.steps_per_epoch))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std)
    started = load_start(model, Path(recipe.model.start)) if recipe.model.start else "random start"
    if device.type == "cpu":
        keep_depthwise_in_full_precision(model)
        keep_freed_memory()
    # Without channels-last, EdgeNeXt is 5 to 15 times slower on a CPU.
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(_groups(model, recipe.optim), lr=recipe.optim.lr)
    run = RunFolder(folder)
    position = run.resume(model, optimizer, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    commit, sources = current_commit(), describe(recipe.data.train)
    if position is None:
        position = Position(0, 0, recipe.to_dict(), recipe.digest(), sources, {}, commit)
        run.log(event="start", rows=len(rows), sources=count_sources(rows), steps=steps, weights=started)
    elif position.sources != sources:
        raise TrainingError(
            f"{folder} holds a run of other data: a manifest has changed since it began",
            hint="choose another folder, or remove this one",
        )
    else:
        run.log(event="resume", step=position.step)

    seen, metrics = position.seen, position.metrics
    unreadable: set[str] = set()
    saved_at = logged_at = time.monotonic()
    seen_at_log = seen
    model.train()
    for step, batch in enumerate(loader(batches, position.step, steps), position.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe.optim, step, steps)
        optimizer.zero_grad(set_to_none=True)
        losses = _losses(model, batch, recipe, device)
        _must_be_finite("loss", losses["loss"], step)
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip)
        # Not only the loss: one step along a gradient that is not finite ruins every weight.
        _must_be_finite("gradient", norm, step)
        optimizer.step()
        seen += len(batch.image)
        if new := set(batch.unreadable) - unreadable:
            unreadable |= new
            run.log(event="unreadable", step=step, count=len(unreadable), pictures=sorted(new))
        done, now = step + 1, time.monotonic()
        values: dict[str, Any] = {name: round(value.item(), 5) for name, value in losses.items()}
        if done % LOG_EVERY == 0 or done == steps:
            rate = (seen - seen_at_log) / max(now - logged_at, 1e-9)
            run.log(
                step=done,
                epoch=round(done / batches.steps_per_epoch, 3),
                images_per_s=round(rate, 1),
                **values,
            )
            logged_at, seen_at_log = now, seen
        epoch_ended = done % batches.steps_per_epoch == 0 or done == steps
        if epoch_ended and validation:
            metrics = evaluate(model, validation, recipe)
            run.log(step=done, event="validation", **metrics)
        if epoch_ended or now - saved_at > recipe.run.checkpoint_seconds:
            position = Position(done, seen, recipe.to_dict(), recipe.digest(), sources, metrics, commit)
            run.save(model, optimizer, position)
            saved_at = now
        if progress is not None:
            progress(done, steps, values | {f"validation {name}": value for name, value in metrics.items()})
    return position


def _must_be_finite(name: str, value: Tensor, step: int) -> None:
    if not math.isfinite(value.item()):
        raise TrainingError(
            f"the {name} is {value.item()} at step {step}; the last good checkpoint is kept",
            hint='a smaller optim.lr or run.precision = "fp32" usually helps',
        )


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory instead of handing it back to the kernel after every tensor.

    A training step frees and takes the same hundreds of megabytes again and again; giving them back costs
    a page fault per 4 KiB each time. Measured on two cores: 4.1 → 1.6 to 2.0 s a step of 36 pictures.
    Elsewhere than glibc there is no such switch, and nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, top_pad, mmap_max = -1, -2, -4  # names from malloc.h, without their M_
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**28)


def learning_rate(optim: Optim, step: int, steps: int) -> float:
    """Linear warm-up from 0, then a half cosine to 0 at the last step."""
    warmup = max(1, round(optim.warmup * steps))
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _groups(model: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only; biases and normalisation go without."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _losses(model: QualityModel, batch: Batch, recipe: Recipe, device: torch.device) -> dict[str, Tensor]:
    with _precision(recipe, device):
        scores = model(batch.image.to(device, non_blocking=True))
    target, gap = batch.score.to(device), batch.gap.to(device)
    labelled, milder, worse = scores.split([len(target), len(gap), len(gap)])
    terms = {"mse": mse(labelled, target), "plcc": plcc_loss(labelled, target)}
    if len(gap):
        terms["rank"] = rank_loss(milder, worse, recipe.loss.margin * gap)
    weights = {"mse": recipe.loss.mse, "plcc": recipe.loss.plcc, "rank": recipe.loss.rank}
    total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
    return {"loss": total, **terms}


def _precision(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.run.precision == "bf16")


@torch.no_grad()
def evaluate(model: QualityModel, rows: Sequence[Row], recipe: Recipe) -> dict[str, Any]:
    """SRCC and PLCC over whole pictures at the finished model's input size, as users will score them."""
    device = next(model.parameters()).device
    pictures: list[Image] = []
    scores: list[float] = []
    labels: list[float] = []
    unreadable = 0
    was_training = model.training
    model.eval()

    def flush() -> None:
        with _precision(recipe, device):
            scores.extend(model(torch.from_numpy(np.stack(pictures)).to(device)).tolist())
        pictures.clear()

    for row in rows:
        try:
            pictures.append(resize(load_row(row), recipe.data.size))
        except ImageError:
            unreadable += 1
            continue
        labels.append(float(row.score or 0.0))
        if len(pictures) == 32:
            flush()
    if pictures:
        flush()
    model.train(was_training)
    try:
        agreement: dict[str, Any] = {
            "srcc": round(srcc(scores, labels), 4),
            "plcc": round(plcc(scores, labels), 4),
        }
    except InvalidArgument as error:
        agreement = {"note": str(error)}
    return {**agreement, "n": len(labels), "unreadable": unreadable}


def describe(manifests: Sequence[str]) -> list[dict[str, Any]]:
    """Name, rows, sources and SHA-256 of each manifest, for the card."""
    return [
        {
            "manifest": Path(name).name,
            "rows": len(rows),
            "labels": count_sources(rows),
            "sha256": hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16],
        }
        for name in dict.fromkeys(manifests)
        for rows in [read_rows([name], "train")]
    ]
