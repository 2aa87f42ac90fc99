"""fit(recipe): the one training loop, for teacher, self-trained teacher and student alike."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from efiqa.errors import MissingExtra, TrainingError
from efiqa.records import Row, read_manifest
from efiqa.train import parallel
from efiqa.train.backbones import (
    keep_depthwise_in_full_precision,
    keep_freed_memory,
    take_pixels_before_pointwise,
)
from efiqa.train.checkpoint import Position, RunFolder, current_commit
from efiqa.train.data import Batch, Batches, count_sources, loader, read_rows
from efiqa.train.learner import Learner, losses
from efiqa.train.model import build_model, load_start
from efiqa.train.optim import arithmetic, learning_rate, parameter_groups, precision, update_average
from efiqa.train.pool import Pool
from efiqa.train.recipe import Recipe
from efiqa.train.teacher import Teacher, TeacherBeside, load_teachers
from efiqa.train.validation import evaluate

LOG_EVERY = 20
MIN_LOSS_SCALE = 1.0
"""fp16's loss scale, 65,536 at first, halves with each gradient that is not finite. Below this none helps."""

Progress = Callable[[int, int, dict[str, Any]], None]


def fit(recipe: Recipe, folder: Path, *, progress: Progress | None = None) -> Position:
    """Train what `recipe` asks for in `folder`, going on from its last checkpoint if there is one.

    The result depends on the recipe, the data and the machine's arithmetic only: a run that was
    killed and resumed ends with the weights of an undisturbed one. Under torchrun each process takes its
    share of every batch; losses are over the whole batch, so the result is that of one process up to
    rounding, where no layer looks at the batch by itself (batch normalisation does; on GPUs it is
    synchronised). `progress(step, steps, values)` is called after every step, in the first process.

    Raises TrainingError where training cannot start or the loss is no longer finite, RecordError
    for a manifest that breaks its format, ModelError for start weights that do not fit, OutputError
    for a checkpoint that cannot be written.
    """
    with parallel.process_group() as (rank, processes), contextlib.ExitStack() as stack:
        torch.manual_seed(recipe.run.seed)
        rows, validation = read_rows(recipe.data)
        models, judges = load_teachers(recipe.distil.teachers, recipe.data.crop)
        # Without a GPU a teacher judges ahead, in the data loader's processes.
        ahead = beside = None
        if models and parallel.device().type == "cpu":
            ahead = Teacher(models, recipe.data.crop, folder)
            stack.callback(ahead.close)
        elif models:
            beside = TeacherBeside(models, parallel.device())
        batches = Batches(rows, recipe, teacher=ahead, rank=rank, processes=processes)
        width = models[0].width if models else 0
        loop = _Loop(recipe, folder, batches, validation, beside, width, judges, rank, processes)
        stack.callback(loop.close)
        return loop.run(progress)


class _Loop:
    """State of one run: built once, then `run`."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        batches: Batches,
        validation: Sequence[Row],
        teacher: TeacherBeside | None,
        width: int,
        judges: list[str],
        rank: int,
        processes: int,
    ) -> None:
        self.recipe, self.batches, self.validation, self.first = recipe, batches, validation, rank == 0
        self.teacher = teacher
        self.source = Pool(batches, recipe, judges) if recipe.data.pool else batches
        self.device = parallel.device()
        self.accumulate = recipe.optim.accumulate
        self.steps_per_epoch = max(1, batches.per_epoch // self.accumulate)
        self.steps = recipe.optim.steps or max(1, round(recipe.optim.epochs * self.steps_per_epoch))
        model = build_model(recipe.model)
        self.folder = RunFolder(folder)
        started = "random start"
        if recipe.model.start and not self.folder.last.exists():  # a run that goes on needs no start
            started = load_start(model, recipe.model.start)
        self.learner = Learner(model, recipe, width)
        if self.device.type == "cpu":
            keep_depthwise_in_full_precision(model)
            take_pixels_before_pointwise(model)
            keep_freed_memory()
        elif processes > 1:
            self.learner = nn.SyncBatchNorm.convert_sync_batchnorm(self.learner)  # type: ignore[no-untyped-call]
        # Without channels-last, EdgeNeXt is 5 to 15 times slower on a CPU.
        self.learner.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module: nn.Module = DistributedDataParallel(self.learner) if processes > 1 else self.learner
        self.processes = processes
        self.average = (
            {name: tensor.clone() for name, tensor in self.learner.model.state_dict().items()}
            if recipe.optim.ema
            else {}
        )
        self.optimizer = torch.optim.AdamW(parameter_groups(self.learner, recipe.optim), lr=recipe.optim.lr)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.run.precision == "fp16")
        sources = describe(recipe.data.train)
        found = self.folder.resume(self.learner, self.average, self.optimizer, recipe)
        folder.mkdir(parents=True, exist_ok=True)
        if found is None:
            self.position = Position(0, 0, recipe.to_dict(), recipe.digest(), sources, {}, current_commit())
            self.log(
                event="start",
                rows=len(batches.rows),
                sources=count_sources(batches.rows),
                steps=self.steps,
                precision=arithmetic(recipe, self.device),
                weights=started,
                teachers=judges,
                processes=processes,
            )
        elif found.sources != sources:
            raise TrainingError(
                f"{folder} holds a run of other data: a manifest has changed since it began",
                hint="choose another folder, or remove this one",
            )
        else:
            self.position = found
            self.scaler.load_state_dict(found.scaler or {})
            self.log(event="resume", step=found.step)
        self.board = _tensorboard(folder) if recipe.run.tensorboard and self.first else None

    def log(self, **values: object) -> None:
        if self.first:
            self.folder.log(**values)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def run(self, progress: Progress | None) -> Position:
        start = self.position.step
        queue = loader(
            self.source, start * self.accumulate, self.steps * self.accumulate, self.recipe.data.workers
        )
        seen, metrics = self.position.seen, self.position.metrics
        unreadable: set[str] = set()
        saved_at = logged_at = time.monotonic()
        seen_at_log, waited, rate = seen, 0.0, 0.0
        if start == 0 and self.recipe.run.validate_first and self.validation:
            self.position = replace(self.position, before=self._validate())
            self.log(step=0, event="validation", **self.position.before)
        self.learner.train()
        for step in range(start, self.steps):
            asked = time.monotonic()
            group = [next(queue) for _ in range(self.accumulate)]
            waited += time.monotonic() - asked
            terms = self._step(group, step)
            seen += sum(len(batch.image) for batch in group) * self.processes
            if new := {text for batch in group for text in batch.unreadable} - unreadable:
                unreadable |= new
                self.folder.log(event="unreadable", step=step, count=len(unreadable), pictures=sorted(new))
            done, now = step + 1, time.monotonic()
            values: dict[str, Any] = {name: round(value, 5) for name, value in terms.items()}
            if done % LOG_EVERY == 0 or done == self.steps:
                rate = round((seen - seen_at_log) / max(now - logged_at, 1e-9), 1)
                waiting = round(waited / max(now - logged_at, 1e-9), 3)
                epoch = round(done / self.steps_per_epoch, 3)
                self.log(step=done, epoch=epoch, images_per_s=rate, waiting_for_data=waiting, **values)
                self._plot(done, {**values, "images_per_s": rate, "waiting_for_data": waiting})
                logged_at, seen_at_log, waited = now, seen, 0.0
            epoch_ended = done % self.steps_per_epoch == 0 or done == self.steps
            best = False
            if epoch_ended and self.validation:
                metrics = self._validate()
                self.log(step=done, event="validation", **metrics)
                self._plot(done, {f"validation_{k}": v for k, v in metrics.items() if not isinstance(v, str)})
                highest = -1.0 if self.position.best is None else self.position.best
                best = metrics.get("srcc", -1.0) > highest
            if epoch_ended or now - saved_at > self.recipe.run.checkpoint_seconds:
                self._save(done, seen, metrics, best)
                saved_at = time.monotonic()
                # Validating and saving are not training: they would make the rate look low.
                logged_at, seen_at_log, waited = saved_at, seen, 0.0
            if progress is not None and self.first:
                shown = values | ({"images/s": rate} if rate else {})
                progress(done, self.steps, shown | {f"validation {k}": v for k, v in metrics.items()})
        return self.position

    def _step(self, group: Sequence[Batch], step: int) -> dict[str, float]:
        """One update of the weights; returns the mean of each term over the group."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = learning_rate(self.recipe.optim, step, self.steps, self.steps_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        # Stochastic depth draws from it; so a resumed step draws what it would have drawn undisturbed.
        torch.manual_seed(_seed(self.recipe.run.seed, step, parallel.place()[0]))
        total: dict[str, float] = {}
        for number, batch in enumerate(group):
            last = number == len(group) - 1
            batch = replace(batch, image=batch.image.to(self.device, non_blocking=True))
            if self.teacher is not None and not len(batch.teacher_score):
                batch = batch.judged(self.teacher)
                if isinstance(self.source, Pool):
                    self.source.keep_answers(step * self.accumulate + number, batch)
            waiting = contextlib.nullcontext() if last else _unsynchronised(self.module)
            with waiting:
                with precision(self.recipe, self.device):
                    scores, features = self.module(batch.image)
                terms = losses(scores, features, batch, self.recipe)
                self._must_be_finite("loss", terms["loss"], step, group)
                # Each process holds its share of the gradient of the whole; averaging them would divide it.
                share = terms["loss"] * self.processes / len(group)
                self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                total[name] = total.get(name, 0.0) + value.item() / len(group)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.learner.parameters(), self.recipe.optim.clip)
        # Not only the loss: one step along a gradient that is not finite ruins every weight. With a loss
        # scale such a step is left out, and the scale falls.
        if not self.scaler.is_enabled():
            self._must_be_finite("gradient", norm, step, group)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.is_enabled() and self.scaler.get_scale() < MIN_LOSS_SCALE:
            self._must_be_finite("gradient", norm, step, group)
        if self.average:
            update_average(self.average, self.learner.model, self.recipe.optim.ema, step)
        return total

    def _must_be_finite(self, name: str, value: Tensor, step: int, group: Sequence[Batch]) -> None:
        if math.isfinite(value.item()):
            return
        ids = [picture for batch in group for picture in batch.ids]
        self.folder.log(event="not finite", step=step, what=name, pictures=ids)
        raise TrainingError(
            f"the {name} is {value.item()} at step {step}; the last good checkpoint is kept. "
            f"The batch: {', '.join(ids[:3])}{f' and {len(ids) - 3} more' if len(ids) > 3 else ''}",
            hint='a smaller optim.lr or run.precision = "fp32" usually helps; log.jsonl names them all',
        )

    def _validate(self) -> dict[str, Any]:
        """Metrics of the moving average where there is one, of the weights themselves otherwise."""
        model = self.learner.model
        kept = {name: tensor.clone() for name, tensor in model.state_dict().items()} if self.average else {}
        if self.average:
            model.load_state_dict(self.average)
        metrics = evaluate(model, self.validation, self.recipe)
        if kept:
            model.load_state_dict(kept)
        self.learner.train()
        return metrics

    def _save(self, step: int, seen: int, metrics: dict[str, Any], best: bool) -> None:
        self.position = replace(
            self.position,
            step=step,
            seen=seen,
            metrics=metrics,
            best=metrics["srcc"] if best else self.position.best,
            scaler=self.scaler.state_dict() or None,
        )
        if not self.first:
            return
        self.folder.save(self.learner, self.average, self.optimizer, self.position)
        if best:
            self.folder.save_best(self.average or self.learner.model.state_dict(), self.position)

    def _plot(self, step: int, values: dict[str, Any]) -> None:
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", extra="train") from error
    return SummaryWriter(str(folder))


def _unsynchronised(module: nn.Module) -> contextlib.AbstractContextManager[object]:
    """Gradients of all but a step's last batch add up in each process before they are exchanged."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()


def describe(manifests: Sequence[str]) -> list[dict[str, Any]]:
    """Name, rows to learn from, their sources and SHA-256 of each manifest, for the card."""
    found = []
    for name in dict.fromkeys(manifests):
        rows = [row for row in read_manifest(Path(name)) if row.split == "train" and row.score is not None]
        digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()[:16]
        found.append(
            {"manifest": Path(name).name, "rows": len(rows), "labels": count_sources(rows), "sha256": digest}
        )
    return found
