"""Losses have the values worked out by hand, and gradients that stay bounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")

from efiqa.train.losses import VARIANCE_FLOOR, feature_loss, in_order, mse, plcc_loss, rank_loss

Loss = Callable[..., torch.Tensor]


def naive_plcc_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The formula as it stands in the paper, with nothing under the root."""
    p, t = prediction - prediction.mean(), target - target.mean()
    rho = (p * t).sum() / (p.square().sum() * t.square().sum()).sqrt()
    return (2 * (1 - rho) + (1 - rho.square())) / 8


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    (found,) = torch.autograd.grad(loss, of)
    return found


def test_mse_by_hand() -> None:
    # (0.1² + 0.3²) / 2
    assert mse(torch.tensor([0.5, 0.2]), torch.tensor([0.4, 0.5])).item() == pytest.approx(0.05, abs=1e-7)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        pytest.param([0.0, 0.0, 1.0, 1.0], 0.0, id="rho 1: 0"),
        pytest.param([1.0, 1.0, 0.0, 0.0], 1 / 2, id="rho −1: (2 · 2 + 0) / 8"),
        pytest.param([0.0, 1.0, 0.0, 1.0], 3 / 8, id="rho 0: (2 + 1) / 8"),
        pytest.param([0.0, 0.0, 0.0, 1.0], 0.18899, id="rho 1/√3: (2 (1 − 0.57735) + 2/3) / 8"),
    ],
)
def test_plcc_loss_by_hand(prediction: list[float], expected: float) -> None:
    loss = plcc_loss(torch.tensor(prediction), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert loss.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_plcc_loss_agrees_with_numpys_correlation(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = generator.uniform(0, 1, 32)
    prediction = target * generator.uniform(-1, 1) + generator.normal(0, 0.2, 32)
    rho = np.corrcoef(prediction, target)[0, 1]
    loss = plcc_loss(torch.from_numpy(prediction), torch.from_numpy(target))
    assert loss.item() == pytest.approx((2 * (1 - rho) + (1 - rho**2)) / 8, abs=1e-3)


def test_plcc_loss_ignores_scale_and_offset() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 32, generator=generator).double()
    assert plcc_loss(3 * prediction - 7, target).item() == pytest.approx(
        plcc_loss(prediction, target).item(), abs=1e-4
    )


def test_plcc_loss_pulls_in_the_right_direction() -> None:
    prediction = torch.tensor([0.5, 0.4, 0.6, 0.5], requires_grad=True)
    target = torch.tensor([0.1, 0.4, 0.6, 0.9])
    better = prediction - 0.1 * gradient(plcc_loss(prediction, target), prediction)
    assert plcc_loss(better, target) < plcc_loss(prediction, target)


def test_plcc_loss_of_one_is_zero_with_a_zero_gradient() -> None:
    prediction = torch.tensor([0.7], requires_grad=True)
    loss = plcc_loss(prediction, torch.tensor([0.2]))
    assert loss.item() == 0
    assert gradient(loss, prediction).tolist() == [0.0]


@pytest.mark.parametrize(
    "prediction", [torch.full((32,), 0.5), 0.5 + 1e-7 * torch.sin(torch.arange(32.0))], ids=["flat", "nearly"]
)
def test_constant_predictions_keep_a_bounded_gradient(prediction: torch.Tensor) -> None:
    prediction = prediction.double().requires_grad_()
    target = torch.linspace(0, 1, 32).double()
    loss = plcc_loss(prediction, target)
    assert loss.item() == pytest.approx(3 / 8, abs=1e-3)
    # |∂ρ/∂p| ≤ 1 / √(n · floor), and ∂loss/∂ρ is at most 1/2.
    assert gradient(loss, prediction).norm() <= 0.5 / (32 * VARIANCE_FLOOR) ** 0.5


def test_the_naive_formulas_gradient_passes_a_million_where_ours_does_not() -> None:
    prediction = (0.5 + 1e-8 * torch.sin(torch.arange(32.0).double())).requires_grad_()
    target = torch.linspace(0, 1, 32).double()
    assert gradient(naive_plcc_loss(prediction, target), prediction).norm() > 1e6
    assert gradient(plcc_loss(prediction, target), prediction).norm() < 30


def test_constant_targets_are_finite() -> None:
    prediction = torch.linspace(0, 1, 8).requires_grad_()
    loss = plcc_loss(prediction, torch.full((8,), 0.5))
    assert loss.item() == pytest.approx(3 / 8, abs=1e-6)
    assert gradient(loss, prediction).isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_weighted_losses_agree_with_numpys_weighted_formulas(seed: int) -> None:
    generator = np.random.default_rng(seed)
    target = generator.uniform(0, 1, 32)
    prediction = target * generator.uniform(-1, 1) + generator.normal(0, 0.2, 32)
    weight = generator.uniform(0, 3, 32)
    squared = np.average((prediction - target) ** 2, weights=weight)
    covariance = np.cov(prediction, target, aweights=weight)
    rho = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    p, t, w = (torch.from_numpy(values) for values in (prediction, target, weight))
    assert mse(p, t, w).item() == pytest.approx(squared, rel=1e-9)
    assert plcc_loss(p, t, w).item() == pytest.approx((2 * (1 - rho) + (1 - rho**2)) / 8, abs=1e-3)


@pytest.mark.parametrize("loss", [mse, plcc_loss])
def test_only_the_ratio_of_weights_matters_and_equal_ones_change_nothing(loss: Loss) -> None:
    prediction, target, weight = torch.rand(3, 16, generator=torch.Generator().manual_seed(3)).double()
    torch.testing.assert_close(loss(prediction, target, weight), loss(prediction, target, 7 * weight))
    torch.testing.assert_close(loss(prediction, target, torch.full((16,), 0.3)), loss(prediction, target))


@pytest.mark.parametrize("loss", [mse, plcc_loss])
def test_a_row_of_weight_0_has_no_influence_and_no_gradient(loss: Loss) -> None:
    prediction, target = torch.rand(2, 9, generator=torch.Generator().manual_seed(4)).double()
    weight = torch.ones(9, dtype=torch.float64)
    weight[4] = 0
    wild = prediction.clone()
    wild[4] = 1e3
    wild.requires_grad_()
    rest = torch.arange(9) != 4
    found = loss(wild, target, weight)
    torch.testing.assert_close(found, loss(prediction[rest], target[rest]))
    assert gradient(found, wild)[4] == 0


@pytest.mark.parametrize("loss", [mse, plcc_loss])
def test_weights_of_nothing_but_0_and_no_rows_at_all_are_finite(loss: Loss) -> None:
    prediction = torch.rand(6, generator=torch.Generator().manual_seed(5)).requires_grad_()
    found = loss(prediction, torch.rand(6), torch.zeros(6))
    assert found.isfinite()
    assert gradient(found, prediction).tolist() == [0.0] * 6
    none = torch.zeros(0, requires_grad=True)
    assert loss(none, torch.zeros(0), torch.zeros(0)).item() == 0


def test_feature_loss_by_hand() -> None:
    # (0, 2) and (5, 1) become (−1, 1) and (1, −1): squared differences 4 and 4. Equal ones add 0.
    student = torch.tensor([[0.0, 2.0], [3.0, 4.0]])
    teacher = torch.tensor([[5.0, 1.0], [30.0, 40.0]])
    assert feature_loss(student, teacher).item() == pytest.approx((4 + 0) / 2, abs=1e-4)


def test_feature_loss_ignores_each_pictures_scale_and_offset() -> None:
    student, teacher = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(6)).double()
    scale, offset = torch.tensor([[2.0], [3.0], [9.0], [1.0], [5.0]]), torch.arange(5.0)[:, None]
    moved = feature_loss(student * scale + offset, teacher)
    torch.testing.assert_close(moved, feature_loss(student, teacher), rtol=0, atol=1e-4)


def test_rank_loss_by_hand() -> None:
    # Leads of 0.3 and −0.1 where 0.2 and 0.1 are asked for: (0 + 0.2) / 2.
    loss = rank_loss(torch.tensor([0.8, 0.5]), torch.tensor([0.5, 0.6]), torch.tensor([0.2, 0.1]))
    assert loss.item() == pytest.approx(0.1, abs=1e-7)


def test_rank_loss_has_no_gradient_once_the_lead_is_there() -> None:
    better = torch.tensor([0.9, 0.3], requires_grad=True)
    loss = rank_loss(better, torch.tensor([0.1, 0.3]), torch.tensor([0.3, 0.3]))
    assert gradient(loss, better).tolist() == [0.0, -0.5]


def test_a_teacher_is_corrected_evenly_where_it_does_not_keep_a_known_order() -> None:
    better, worse = torch.tensor([0.75, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.5])
    milder, harder = in_order(better, worse, torch.tensor([0.25, 0.25, 0.25]))
    assert milder.tolist() == [0.75, 0.625, 0.5]
    assert harder.tolist() == [0.25, 0.375, 0.25]
    assert rank_loss(milder, harder, torch.full((3,), 0.25)) == 0
