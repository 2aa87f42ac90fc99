"""Losses on scores: pure functions of (n,) float tensors, each giving a scalar."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

VARIANCE_FLOOR = 1e-5
"""Added to both variances. Labels in 0–1 have a variance near 0.02, so this shifts the correlation by less
than 0.001; without it the gradient grows past 1e6 where predictions are nearly constant."""


def mse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error; with `weight` (n,) the weighted mean."""
    squared = (prediction - target).square()
    return squared.mean() if weight is None else (squared * _shares(weight)).sum()


def plcc_loss(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """(2(1 − ρ) + (1 − ρ²)) / 8 with ρ Pearson's correlation over the batch (arXiv 2507.15709).

    0 at ρ = 1, 1/2 at ρ = −1. With `weight` (n,), ρ is the weighted correlation. A batch of one has no
    correlation and gives 0 with a zero gradient; constant predictions or targets count as ρ = 0 and
    keep a bounded gradient.
    """
    if prediction.numel() < 2:
        return prediction.sum() * 0.0
    share = _shares(torch.ones_like(prediction) if weight is None else weight)
    p = prediction - (share * prediction).sum()
    t = target - (share * target).sum()
    variance = ((share * p.square()).sum() + VARIANCE_FLOOR) * ((share * t.square()).sum() + VARIANCE_FLOOR)
    rho = (share * p * t).sum() / variance.sqrt()
    return (2 * (1 - rho) + (1 - rho.square())) / 8


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of (n, width) features, each picture's brought to mean 0 and variance 1.

    So no single large feature decides, and the scale of the teacher's network does not matter.
    """
    width = teacher.shape[1:]
    return functional.mse_loss(functional.layer_norm(student, width), functional.layer_norm(teacher, width))


def _shares(weight: Tensor) -> Tensor:
    """Weights that add up to 1; all zero where nothing counts."""
    return weight / weight.sum().clamp(min=1e-12)


def rank_loss(better: Tensor, worse: Tensor, margin: Tensor) -> Tensor:
    """Mean hinge max(0, margin − (better − worse)): `better` should lead by at least `margin`."""
    return (margin - (better - worse)).clamp(min=0).mean()


def in_order(better: Tensor, worse: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Both moved apart evenly as far as `better` lacks of leading by `margin`: the nearest pair in order.

    A teacher that sees a mild step as none, or as a gain, is corrected by what is known of the pair.
    """
    short = (margin - (better - worse)).clamp(min=0) / 2
    return better + short, worse - short
