"""Losses on scores: pure functions of (n,) float tensors, each giving a scalar."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

VARIANCE_FLOOR = 1e-5
"""Added to both variances. Labels in 0–1 have a variance near 0.02, so this shifts the correlation by less
than 0.001; without it the gradient grows past 1e6 where predictions are nearly constant."""


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return functional.mse_loss(prediction, target)


def plcc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """(2(1 − ρ) + (1 − ρ²)) / 8 with ρ Pearson's correlation over the batch (arXiv 2507.15709).

    0 at ρ = 1, 1/2 at ρ = −1. A batch of one has no correlation and gives 0 with a zero gradient;
    constant predictions or targets count as ρ = 0 and keep a bounded gradient.
    """
    if prediction.numel() < 2:
        return prediction.sum() * 0.0
    p = prediction - prediction.mean()
    t = target - target.mean()
    variance = (p.square().mean() + VARIANCE_FLOOR) * (t.square().mean() + VARIANCE_FLOOR)
    rho = (p * t).mean() / variance.sqrt()
    return (2 * (1 - rho) + (1 - rho.square())) / 8


def rank_loss(better: Tensor, worse: Tensor, margin: Tensor) -> Tensor:
    """Mean hinge max(0, margin − (better − worse)): `better` should lead by at least `margin`."""
    return (margin - (better - worse)).clamp(min=0).mean()
