"""Rates, groups and averages of the weights, step by step; precision."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from efiqa.train.recipe import Optim, Recipe


def learning_rate(optim: Optim, step: int, steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up from 0, then a half cosine to 0 at the last step, or a tenth every `decay_epochs`."""
    warmup = max(1, round(optim.warmup * steps))
    if step < warmup:
        return optim.lr * (step + 1) / warmup
    if optim.schedule == "step":
        return float(optim.lr * 0.1 ** (step // max(1, round(optim.decay_epochs * steps_per_epoch))))
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def parameter_groups(module: nn.Module, optim: Optim) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only; biases and normalisation go without."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
    ]


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """average ← decay · average + (1 − decay) · weights; early on with less decay, to forget the start."""
    decay = min(decay, (1 + step) / (10 + step))
    weights = model.state_dict()
    learnt = [name for name, tensor in weights.items() if tensor.is_floating_point()]
    # All at once: on a GPU each tensor would be a launch of its own.
    blend = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    blend([average[name] for name in learnt], [weights[name] for name in learnt], step)
    for name in weights.keys() - set(learnt):
        average[name].copy_(weights[name])


def arithmetic(recipe: Recipe, device: torch.device) -> str:
    """The recipe's precision; of `auto`, bf16 on GPUs that have it and processors with AVX-512, else fp32.

    A processor without it imitates bf16: with AVX2 alone a step of EdgeNeXt-XXS took seven times as long as
    in fp32.
    """
    if recipe.run.precision != "auto":
        return recipe.run.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "fp32"


def precision(recipe: Recipe, device: torch.device) -> contextlib.AbstractContextManager[object]:
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    kind = kinds[arithmetic(recipe, device)]
    return torch.autocast(device.type, kind, enabled=kind != torch.float32)
