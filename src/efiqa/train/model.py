"""The quality model: pictures in, one number each out."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from efiqa.errors import ModelError
from efiqa.train.backbones import build_backbone

HEAD_WIDTH = 128


class QualityModel(nn.Module):
    """uint8 RGB (n, S, S, 3) → float32 (n,): normalise, backbone, average pool, two linear layers.

    There is no activation between the two linear layers (arXiv 2507.15709). `mean` and `std` are
    per channel, on the 0–255 scale, and live in the model, so nobody has to normalise by hand.
    The output is not clipped: labels lie in 0–1, scores may pass slightly beyond.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.backbone, width = build_backbone(backbone)
        self.head = nn.Sequential(nn.Linear(width, HEAD_WIDTH), nn.Linear(HEAD_WIDTH, 1))
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features = self.backbone.forward_features(x)  # type: ignore[operator]
        return self.head(features.mean(dim=(2, 3))).squeeze(1).float()  # type: ignore[no-any-return]


def load_start(model: QualityModel, path: Path) -> str:
    """Start `model` from a safetensors file; returns a sentence that says what was loaded.

    Every backbone parameter must be in the file, as `backbone.NAME`, plain `NAME`, or as in a run's
    checkpoint. What the file has beyond that belongs to stages or heads that this model does not have.
    The quality head is taken when all its shapes fit and starts fresh otherwise.

    Raises ModelError when the file is no safetensors file or lacks a parameter.
    """
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error
    wanted = model.state_dict()
    found = {
        name: stored[key].to(tensor.dtype)
        for name, tensor in wanted.items()
        for key in (name, name.removeprefix("backbone."), f"model.{name}")
        if key in stored and stored[key].shape == tensor.shape
    }
    missing = [name for name in wanted if name not in found and name.startswith("backbone.")]
    if missing:
        raise ModelError(
            f"{path} does not fit: {len(missing)} backbone tensors are missing or of another shape, "
            f"the first is {missing[0]}",
            hint="is it from the same network? A cut one starts from the full one's file",
        )
    head = [name for name in wanted if name.startswith("head.")]
    fresh = [] if all(name in found for name in head) else head
    found = {name: tensor for name, tensor in found.items() if name not in fresh}
    model.load_state_dict(found, strict=False)
    return f"{len(found)} tensors from {path.name}, " + (
        f"{len(fresh)} fresh in the head" if fresh else "head too"
    )
