"""Feature extractors by name: the only import of timm, and of torchvision's networks."""

from __future__ import annotations

import ctypes
import difflib
import sys
from types import MethodType
from typing import Any

import timm
import torch
from timm.models.edgenext import CrossCovarianceAttn, PositionalEncodingFourier
from timm.models.ghostnet import GhostNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import swin_transformer

from efiqa.errors import TrainingError

TORCHVISION = {name: getattr(swin_transformer, name) for name in ("swin_t", "swin_s", "swin_b")}
"""The published teacher is torchvision's `swin_b`; its names and numbers differ from timm's Swin."""
PROBE_SIDE = 128
"""Side of the blank picture that tells how many features a network gives."""


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """A network without its classifier, and the number of features it gives.

    `network.forward_features` maps (n, 3, S, S) float to (n, features, h, w), whatever the family. Names
    are timm's, and torchvision's for swin_t, swin_s and swin_b. `NAME:K` keeps only the stem and the first
    K stages of an EfficientNet-style network, `NAME:K.B` also the first B blocks of the next stage, so
    that a student can be cut from its teacher's own trunk and start from the teacher's weights. The
    classifier head goes whole, its normalisation too: this is what gives the paper's student
    (`edgenext_xx_small`) its 1,179,641 parameters.

    Raises TrainingError for an unknown name, a network that cannot be cut, or one that takes one size only.
    """
    family, _, cut = name.partition(":")
    network = _network(family)
    removed = ["head", "classifier", "fc", "fc_norm", "norm_head", "attn_pool"]
    if isinstance(network, MobileNetV3 | GhostNet):
        removed.append("conv_head")  # theirs comes after pooling, EfficientNet's before
    if cut:
        _cut(network, name, cut)
        removed += ["conv_head", "bn2"]
    for part in removed:
        if isinstance(getattr(network, part, None), nn.Module):
            setattr(network, part, nn.Identity())
    for module in network.modules():
        if isinstance(module, CrossCovarianceAttn):
            module.forward = MethodType(_attention_in_four_dimensions, module)  # type: ignore[method-assign]
        elif isinstance(module, PositionalEncodingFourier):
            module.forward = MethodType(_positions_in_four_dimensions, module)  # type: ignore[method-assign]
        elif isinstance(module, swin_transformer.ShiftedWindowAttention):
            module.forward = MethodType(_windows_in_four_dimensions, module)
    try:
        return network, _feature_width(network)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise TrainingError(
            f"{name!r} does not give one map of features for a picture of {PROBE_SIDE} px: {error}",
            hint="choose a network that takes pictures of any size, as convolutional ones do",
        ) from error


def _network(family: str) -> nn.Module:
    if family in TORCHVISION:
        network: nn.Module = TORCHVISION[family](weights=None)
        network.forward_features = MethodType(_torchvision_maps, network)  # type: ignore[assignment]
        return network
    if not timm.is_model(family):
        near = difflib.get_close_matches(family, [*TORCHVISION, *timm.list_models()], n=3)
        raise TrainingError(
            f"there is no network named {family!r}",
            hint=f"did you mean {' or '.join(near)}?" if near else "timm.list_models() names them",
        )
    network = _of_any_size(family)
    network.timm_features = network.forward_features
    network.forward_features = MethodType(_maps, network)  # type: ignore[assignment]
    return network


def _of_any_size(family: str) -> nn.Module:
    """Attention networks are made for one input size unless told otherwise, each family in its own word."""
    options: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
    for option in options:
        try:
            network: nn.Module = timm.create_model(family, num_classes=0, pretrained=False, **option)
        except TypeError:
            continue
        return network
    return timm.create_model(family, num_classes=0, pretrained=False)


def _cut(network: nn.Module, name: str, cut: str) -> None:
    stages, _, extra = cut.partition(".")
    blocks = getattr(network, "blocks", None)
    fits = stages.isdigit() and isinstance(blocks, nn.Sequential) and 0 < int(stages) < len(blocks)
    if fits and extra:
        following = blocks[int(stages)]  # type: ignore[index]
        fits = extra.isdigit() and 0 < int(extra) < len(following)
    if not fits:
        raise TrainingError(
            f"{name!r}: cannot cut this network after stage {cut!r}",
            hint="networks with `blocks`, such as tf_efficientnet_lite0:5, can be cut",
        )
    kept = list(blocks[: int(stages)])  # type: ignore[index]
    if extra:
        kept.append(following[: int(extra)])
    network.blocks = nn.Sequential(*kept)


def _torchvision_maps(self: nn.Module, x: Tensor) -> Tensor:
    features: Tensor = self.norm(self.features(x))  # type: ignore[operator]
    return features.permute(0, 3, 1, 2)


def _maps(self: nn.Module, x: Tensor) -> Tensor:
    """timm gives (n, C, h, w), (n, h, w, C) or (n, tokens, C) by family; here always the first."""
    features: Tensor = self.timm_features(x)  # type: ignore[operator]
    if not isinstance(features, Tensor):
        raise ValueError("it gives several maps")
    if features.ndim == 3:
        features = features[:, getattr(self, "num_prefix_tokens", 0) :].transpose(1, 2).unsqueeze(3)
    elif getattr(self, "output_fmt", "NCHW") == "NHWC":
        features = features.permute(0, 3, 1, 2)
    return features


def _feature_width(network: nn.Module) -> int:
    was_training = network.training
    network.eval()
    with torch.no_grad():
        features = network.forward_features(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))  # type: ignore[operator]
    network.train(was_training)
    return int(features.shape[1])


def as_deployed(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with branches that only training needs merged into one convolution each.

    Networks made for that (RepVGG, Ding et al., CVPR 2021: RepViT, FastViT, RepGhostNet, MobileOne) give
    the same numbers in fewer steps; others stay as they are.
    """
    return reparameterize_model(network.eval())


def stages_of(network: nn.Module) -> list[nn.Module]:
    """The stem and each stage, from the input on. Raises TrainingError where they cannot be told apart."""
    if hasattr(network, "conv_stem"):  # EfficientNet, MobileNet
        stem = nn.ModuleList([network.conv_stem, network.bn1])  # type: ignore[list-item]
        return [stem, *network.blocks]  # type: ignore[misc]
    if hasattr(network, "stem") and hasattr(network, "stages"):  # EdgeNeXt, ConvNeXt
        return [network.stem, *network.stages]  # type: ignore[list-item, misc]
    raise TrainingError(
        f"the stages of {type(network).__name__} are not known, so none can be frozen",
        hint="set model.frozen = 0",
    )


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


def _windows_in_four_dimensions(self: swin_transformer.ShiftedWindowAttention, x: Tensor) -> Tensor:
    """Swin's shifted-window attention, (n, h, w, C) → (n, h, w, C), with no tensor above 4-D.

    torchvision cuts windows in six dimensions and adds the mask in five, which several runtimes refuse.
    Cutting rows first and columns second, with windows × heads in one dimension, gives the same numbers.
    The mask keeps apart what the shift made neighbours; it is the same for every picture.
    """
    batch, height, width, channels = x.shape
    side, heads = self.window_size[0], self.num_heads
    if height % side or width % side:
        x = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    tall, wide = x.shape[1], x.shape[2]
    # A window as long as the map sees all of it, so nothing is gained by shifting.
    down, across = (
        0 if side >= length else step for length, step in zip((tall, wide), self.shift_size, strict=True)
    )
    if down or across:
        x = torch.roll(x, (-down, -across), (1, 2))
    columns, tokens = wide // side, side * side

    def windows(y: Tensor, width: int) -> Tensor:
        """(n, tall, wide, width) → (n × windows, tokens, width), row of windows by row."""
        return y.reshape(-1, side, columns, side * width).transpose(1, 2).reshape(-1, tokens, width)

    def split_heads(y: Tensor) -> Tensor:
        return y.reshape(-1, tokens, heads, channels // heads).transpose(1, 2)

    query, key, value = (split_heads(part) for part in self.qkv(windows(x, channels)).chunk(3, dim=-1))
    attention = (query * (channels // heads) ** -0.5) @ key.transpose(
        -2, -1
    ) + self.get_relative_position_bias()
    if down or across:
        strip = [torch.zeros(length, device=x.device) for length in (tall, wide)]
        for each, step in zip(strip, (down, across), strict=True):
            if step:
                each[-side:-step], each[-step:] = 1, 2
        region = windows((3 * strip[0][:, None] + strip[1])[None, :, :, None], 1)
        mask = (region != region.transpose(1, 2)).to(x.dtype).repeat_interleave(heads, 0) * -100
        together = (-1, len(mask), tokens, tokens)
        attention = (attention.reshape(together) + mask).reshape(-1, heads, tokens, tokens)
    attention = functional.dropout(attention.softmax(dim=-1), self.attention_dropout, self.training)
    x = (attention @ value).transpose(1, 2).reshape(-1, tokens, channels)
    x = functional.dropout(self.proj(x), self.dropout, self.training)
    x = x.reshape(-1, columns, side, side * channels).transpose(1, 2).reshape(batch, tall, wide, channels)
    if down or across:
        x = torch.roll(x, (down, across), (1, 2))
    return x[:, :height, :width]


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


def take_pixels_before_pointwise(network: nn.Module) -> None:
    """Have 1 × 1 convolutions with a stride and few channels take every s-th pixel first: the same result.

    On a CPU oneDNN's backward pass of such a convolution writes past its workspace where channels lie last
    and are fewer than its block, 8 with AVX2 and 16 with AVX-512 (uxlfoundation/oneDNN issue 6035; PyTorch
    2.14). RepVGG, MobileOne and FastViT have one on the picture itself, and training them ended at random.
    """
    for module in network.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and module.stride != (1, 1)
            and module.padding == (0, 0)
            and module.in_channels // module.groups < 16
        ):
            module.forward = MethodType(_on_pixels_taken_before, module)  # type: ignore[method-assign]


def _on_pixels_taken_before(self: nn.Conv2d, x: Tensor) -> Tensor:
    down, across = self.stride
    return functional.conv2d(x[..., ::down, ::across], self.weight, self.bias, groups=self.groups)


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
