"""What is frozen stays, what is learnt moves, and a batch's loss is its weighted terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from efiqa.errors import TrainingError
from efiqa.train.data import Batch
from efiqa.train.learner import Learner, losses, reduce
from efiqa.train.losses import feature_loss, in_order, mse, plcc_loss, rank_loss
from efiqa.train.model import build_model
from efiqa.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]

TAUGHT = {"teachers": ("teacher",)}


@pytest.fixture
def recipe_of(tiny_recipe: MakeRecipe) -> MakeRecipe:
    def make(**parts: dict[str, Any]) -> Recipe:
        return tiny_recipe("labels.csv", **parts)

    return make


def step(learner: Learner) -> dict[str, torch.Tensor]:
    """One update in training mode; the state before it."""
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    learner.train()
    learnt = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learnt, lr=0.1)
    scores, features = learner(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
    (scores.square().sum() + features.square().sum()).backward()
    optimizer.step()
    return before


def moved(learner: Learner, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in learner.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_stages_keep_weights_and_statistics_and_the_others_move(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(model={"backbone": "tf_efficientnet_lite0:3", "frozen": 1})
    torch.manual_seed(0)
    learner = Learner(build_model(recipe.model), recipe)
    found = moved(learner, step(learner))
    names = set(learner.state_dict())
    still = tuple(f"model.backbone.{part}." for part in ("conv_stem", "bn1", "blocks.0"))
    assert found == {name for name in names if not name.startswith(still)}
    assert any("running_mean" in name for name in found)


def test_nothing_is_frozen_by_default(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of()
    torch.manual_seed(0)
    learner = Learner(build_model(recipe.model), recipe)
    assert moved(learner, step(learner)) == set(learner.state_dict())


def test_frozen_norm_keeps_the_statistics_and_learns_the_weights(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(model={"frozen_norm": True, "neck": 8})
    torch.manual_seed(0)
    learner = Learner(build_model(recipe.model), recipe)
    names = set(learner.state_dict())
    statistics = {name for name in names if "running" in name or "num_batches" in name}
    assert any("neck" in name for name in statistics)
    assert moved(learner, step(learner)) == names - statistics


def test_frozen_parts_stay_in_evaluation_after_every_validation(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(model={"backbone": "tf_efficientnet_lite0:2", "frozen": 1})
    learner = Learner(build_model(recipe.model), recipe)
    learner.eval()
    assert learner.train().model.backbone.bn1.training is False
    assert learner.model.backbone.blocks[1].training is True


def test_what_cannot_be_told_apart_cannot_be_frozen(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(model={"backbone": "resnet18", "frozen": 1})
    with pytest.raises(TrainingError, match="stages of ResNet are not known"):
        Learner(build_model(recipe.model), recipe)


@pytest.mark.parametrize("side", [48, 33])
def test_crops_are_made_smaller_as_pillow_does(side: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    found = reduce(torch.from_numpy(crops), side / 64).numpy()
    bilinear = PIL.Image.Resampling.BILINEAR
    expected = [np.asarray(PIL.Image.fromarray(crop).resize((side, side), bilinear)) for crop in crops]
    assert found == pytest.approx(np.stack(expected), abs=1.01)  # Pillow rounds after each direction


def test_a_model_of_a_smaller_input_learns_from_crops_made_smaller(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(data={"size": 64, "crop": 64}, model={"input": 32})
    learner = Learner(build_model(recipe.model), recipe).eval()
    crops = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    flat = crops[:, :1, :1].expand(-1, 64, 64, -1)
    assert torch.allclose(learner(flat)[0], learner.model(flat[:, :32, :32]), atol=1e-5)
    assert torch.allclose(learner(crops)[0], learner.model(reduce(crops, 0.5)), atol=1e-5)
    assert not torch.allclose(learner(crops)[0], learner.model(crops), atol=1e-5)


def test_features_are_mapped_only_where_they_are_learnt_from(recipe_of: MakeRecipe) -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    plain = recipe_of(distil=TAUGHT)
    learner = Learner(build_model(plain.model), plain, 7)
    assert [tuple(part.shape) for part in learner(pictures)] == [(2,), (2, 0)]
    with_features = recipe_of(distil=TAUGHT, loss={"features": 1.0})
    learner = Learner(build_model(with_features.model), with_features, 7)
    assert [tuple(part.shape) for part in learner(pictures)] == [(2,), (2, 7)]


def batch_of(labelled: int, degraded: int, pairs: int, width: int = 5) -> Batch:
    generator = torch.Generator().manual_seed(2)
    total = labelled + degraded + 2 * pairs
    return Batch(
        image=torch.zeros(total, 1, 1, 3, dtype=torch.uint8),
        row=torch.arange(labelled),
        score=torch.rand(labelled, generator=generator),
        weight=torch.rand(labelled, generator=generator),
        gap=torch.rand(pairs, generator=generator),
        teacher_score=torch.rand(total, generator=generator),
        teacher_features=torch.randn(total, width, generator=generator),
        ids=(),
        unreadable=(),
    )


def test_each_term_is_of_its_own_part_of_the_batch(recipe_of: MakeRecipe) -> None:
    weights = {"mse": 0.5, "plcc": 2.0, "rank": 3.0, "distil": 5.0, "features": 7.0}
    recipe = recipe_of(distil=TAUGHT, loss=weights, ladder={"margin": 0.4})
    batch = batch_of(4, 2, 3)
    generator = torch.Generator().manual_seed(3)
    scores, features = torch.rand(12, generator=generator), torch.randn(12, 5, generator=generator)
    terms = losses(scores, features, batch, recipe)
    milder, worse = in_order(batch.teacher_score[6:9], batch.teacher_score[9:], 0.4 * batch.gap)
    heard = torch.cat([batch.teacher_score[:6], milder, worse])
    assert not torch.equal(heard, batch.teacher_score)
    judged = mse(scores, heard) + plcc_loss(scores, heard)
    expected = {
        "mse": mse(scores[:4], batch.score, batch.weight),
        "plcc": plcc_loss(scores[:4], batch.score, batch.weight),
        "rank": rank_loss(scores[6:9], scores[9:], 0.4 * batch.gap),
        "distil": judged,
        "features": feature_loss(features, batch.teacher_features),
    }
    assert terms.keys() == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    total = sum(weights[name] * value for name, value in expected.items())
    torch.testing.assert_close(terms["loss"], total)


def test_a_batch_without_labels_learns_from_the_teacher_alone(recipe_of: MakeRecipe) -> None:
    recipe = recipe_of(distil=TAUGHT, loss={"distil": 1.0})
    batch = batch_of(0, 4, 0)
    scores = torch.rand(4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    terms = losses(scores, torch.zeros(4, 0), batch, recipe)
    assert (terms["mse"].item(), terms["plcc"].item()) == (0, 0)
    torch.testing.assert_close(terms["loss"], terms["distil"])
    (gradient,) = torch.autograd.grad(terms["loss"], scores)
    assert gradient.isfinite().all()


def test_without_pairs_and_teachers_there_are_two_terms(recipe_of: MakeRecipe) -> None:
    terms = losses(torch.rand(4), torch.zeros(4, 0), batch_of(4, 0, 0), recipe_of())
    assert terms.keys() == {"loss", "mse", "plcc"}
