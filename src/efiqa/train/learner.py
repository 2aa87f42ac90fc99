"""What is trained: the model, the map to its teacher's features, and the loss of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from efiqa.train.backbones import stages_of
from efiqa.train.data import Batch
from efiqa.train.losses import feature_loss, in_order, mse, plcc_loss, rank_loss
from efiqa.train.model import QualityModel
from efiqa.train.parallel import gather
from efiqa.train.recipe import Recipe


class Learner(nn.Module):
    """`model` and, where a teacher's features are learnt from, the linear map to them that is thrown away.

    Crops are made smaller first where the recipe's model.input is smaller than the size they were cut at.
    uint8 (n, S, S, 3) → scores (n,) and features as wide as the teacher's, (n, teacher_width) or (n, 0).
    """

    def __init__(self, model: QualityModel, recipe: Recipe, teacher_width: int = 0) -> None:
        super().__init__()
        self.model = model
        self.regressor = (
            nn.Linear(model.width, teacher_width) if recipe.loss.features and teacher_width else None
        )
        self._reduction = recipe.input_size / recipe.data.size
        self._frozen = stages_of(model.backbone)[: recipe.model.frozen + 1] if recipe.model.frozen else []
        self._frozen_norm = recipe.model.frozen_norm
        for stage in self._frozen:
            stage.requires_grad_(False)

    def train(self, mode: bool = True) -> Learner:
        super().train(mode)
        for stage in self._frozen:
            stage.eval()
        if self._frozen_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.features(reduce(image, self._reduction))
        mapped = features.new_zeros(len(features), 0) if self.regressor is None else self.regressor(features)
        return self.model.score(features), mapped.float()


def reduce(image: Tensor, share: float) -> Tensor:
    """uint8 (n, S, S, 3) → float (n, share × S, share × S, 3), antialiased bilinear; of share 1 as it is."""
    if share == 1:
        return image
    planes = image.permute(0, 3, 1, 2).float()
    side = round(share * image.shape[1])
    smaller = functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)
    return smaller.permute(0, 2, 3, 1)


def losses(scores: Tensor, features: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Each term over the batches of all processes together, and their weighted sum as `loss`."""
    device, labelled, pairs = scores.device, len(batch.score), len(batch.gap)
    target, weight = gather(batch.score.to(device)), gather(batch.weight.to(device))
    margin = recipe.ladder.margin * batch.gap.to(device)
    sizes = [labelled, len(scores) - labelled - 2 * pairs, pairs, pairs]
    parts = scores.split(sizes)  # type: ignore[no-untyped-call]
    own, milder, worse = gather(parts[0]), gather(parts[2]), gather(parts[3])
    terms = {"mse": mse(own, target, weight), "plcc": plcc_loss(own, target, weight)}
    if len(milder):
        terms["rank"] = rank_loss(milder, worse, gather(margin))
    if recipe.distil.teachers:
        *taught, above, below = batch.teacher_score.to(device).split(sizes)  # type: ignore[no-untyped-call]
        ordered = in_order(above, below, margin)
        judged, everything = gather(torch.cat([*taught, *ordered])), gather(scores)
        terms["distil"] = mse(everything, judged) + plcc_loss(everything, judged)
        if features.shape[1]:
            terms["features"] = feature_loss(gather(features), gather(batch.teacher_features.to(device)))
    weights = recipe.loss
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return {"loss": total, **terms}
