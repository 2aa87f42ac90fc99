"""Feature extractors by name: the only import of timm."""

from __future__ import annotations

import difflib
from types import MethodType

import timm
import torch
from timm.models.edgenext import CrossCovarianceAttn, PositionalEncodingFourier
from torch import Tensor, nn
from torch.nn import functional

from efiqa.errors import TrainingError


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """A timm network without its classifier, and the number of features it gives.

    `network.forward_features` maps (n, 3, S, S) float to (n, features, h, w). Names are timm's.
    `NAME:K` keeps only the stem and the first K stages of an EfficientNet-style network, so that a
    student can be cut from its teacher's own trunk and start from the teacher's weights. The
    classifier head goes whole, its normalisation too: this is what gives the paper's student
    (`edgenext_xx_small`) its 1,179,641 parameters.

    Raises TrainingError for an unknown name or a network that cannot be cut.
    """
    family, _, stages = name.partition(":")
    if not timm.is_model(family):
        near = difflib.get_close_matches(family, timm.list_models(), n=3)
        raise TrainingError(
            f"timm has no network named {family!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else None,
        )
    network: nn.Module = timm.create_model(family, num_classes=0, pretrained=False)
    removed = ["head", "classifier", "fc"]
    if stages:
        blocks = getattr(network, "blocks", None)
        if not (stages.isdigit() and isinstance(blocks, nn.Sequential) and 0 < int(stages) < len(blocks)):
            raise TrainingError(
                f"{name!r}: cannot cut this network after stage {stages!r}",
                hint="networks with `blocks`, such as tf_efficientnet_lite0:5, can be cut",
            )
        network.blocks = blocks[: int(stages)]
        removed += ["conv_head", "bn2"]
    for part in removed:
        if hasattr(network, part):
            setattr(network, part, nn.Identity())
    for module in network.modules():
        if isinstance(module, CrossCovarianceAttn):
            module.forward = MethodType(_attention_in_four_dimensions, module)  # type: ignore[method-assign]
        elif isinstance(module, PositionalEncodingFourier):
            module.forward = MethodType(_positions_in_four_dimensions, module)  # type: ignore[method-assign]
    return network, _feature_width(network)


def _feature_width(network: nn.Module) -> int:
    was_training = network.training
    network.eval()
    with torch.no_grad():
        features = network.forward_features(torch.zeros(1, 3, 64, 64))  # type: ignore[operator]
    network.train(was_training)
    return int(features.shape[1])


def _attention_in_four_dimensions(self: CrossCovarianceAttn, x: Tensor) -> Tensor:
    """EdgeNeXt's channel attention, (n, tokens, C) → (n, tokens, C), with no tensor above 4-D.

    timm reshapes queries, keys and values together into five dimensions, which several runtimes
    refuse. Splitting first gives the same numbers.
    """
    batch, tokens, width = x.shape

    def split_heads(y: Tensor) -> Tensor:
        return y.reshape(batch, tokens, self.num_heads, -1).permute(0, 2, 3, 1)

    query, key, value = (split_heads(part) for part in self.qkv(x).chunk(3, dim=-1))
    attention = functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).transpose(-2, -1)
    attention = self.attn_drop((attention * self.temperature).softmax(dim=-1))
    mixed = (attention @ value).permute(0, 3, 1, 2).reshape(batch, tokens, width)
    return self.proj_drop(self.proj(mixed))  # type: ignore[no-any-return]


def _positions_in_four_dimensions(self: PositionalEncodingFourier, shape: tuple[int, int, int]) -> Tensor:
    """EdgeNeXt's Fourier position encoding, (n, dim, h, w) for `shape` (n, h, w), with no tensor above 4-D.

    timm interleaves sines and cosines by stacking them in a fifth dimension; choosing between them
    gives the same numbers. They are the same for every picture, so they are made once and expanded.
    """
    batch, height, width = shape
    weight = self.token_projection.weight
    channel = torch.arange(self.hidden_dim, device=weight.device)
    wavelength = self.temperature ** (2 * (channel // 2).float() / self.hidden_dim)

    def encode(length: int) -> Tensor:
        position = torch.arange(1, length + 1, dtype=torch.float32, device=weight.device)
        angle = (position / (length + 1e-6) * self.scale)[:, None] / wavelength
        return torch.where(channel % 2 == 0, angle.sin(), angle.cos())

    down = encode(height)[:, None].expand(height, width, -1)
    across = encode(width)[None].expand(height, width, -1)
    position = torch.cat((down, across), dim=2).permute(2, 0, 1)[None].to(weight.dtype)
    return self.token_projection(position).expand(batch, -1, -1, -1)  # type: ignore[no-any-return]


def keep_depthwise_in_full_precision(network: nn.Module) -> None:
    """Take depthwise convolutions out of bf16 autocast; everything else stays in it.

    On a CPU the backward pass of a strided 5 × 5 depthwise convolution takes 367 ms in bf16 and 65 ms
    in fp32 (batch 32, 144 channels, 64 px, two cores), so this makes training about twice as fast.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            module.forward = MethodType(_in_full_precision, module)  # type: ignore[method-assign]


def _in_full_precision(self: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return type(self).forward(self, x.float())
