"""Checkpoints of the paper's authors (arXiv 2507.15709), as published or as their script saves them."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from efiqa.errors import ModelError
from efiqa.names import printable
from efiqa.train.model import QualityModel

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's per channel, on the 0–255 scale."""


@dataclass(frozen=True, slots=True)
class Published:
    """A network with the weights of a file, in evaluation mode; `digest` is the file's SHA-256 in hex."""

    model: QualityModel
    backbone: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Layout:
    """One of the authors' two networks: its input size, and our prefix of names for each of theirs."""

    backbone: str
    size: int
    prefixes: dict[str, str]


_STUDENT = _Layout("edgenext_xx_small", 352, {"feature_extraction.": "backbone.", "quality.": "head."})
_TEACHER = _Layout(
    "swin_b",
    448,
    {
        "feature_extraction.feature_extraction.": "backbone.",
        "feature_extraction.quality.": "head.",
        "quality.": "head.",
    },
)
_PARALLEL = "module."
"""What DataParallel puts before every name."""


class _Ignored:
    """Stands in a checkpoint for numbers of numpy (scores, epochs), which nobody reads here.

    Their training script saves such numbers beside the weights, and torch refuses to unpickle them.
    Allowing numpy's own functions would let a file set a dtype's inner flags; this class keeps nothing
    and does nothing, whatever it is called with.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_IGNORED = ("numpy.dtype", "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
"""How numpy 1 and 2 pickle a number."""

# What torch raises over bytes that are no checkpoint; opening has succeeded by then.
_UNREADABLE: tuple[type[Exception], ...] = (RuntimeError, EOFError, ValueError, TypeError, LookupError)
_UNREADABLE += (AttributeError, AssertionError, OverflowError, pickle.UnpicklingError)
_UNREADABLE += (struct.error, zipfile.BadZipFile)


def load_published(path: Path) -> Published:
    """The network of a checkpoint file: a state dict, or one under `model_state_dict`; or a .safetensors.

    Every tensor of the network must be there, in its shape, and no other. Nothing in the file is run.

    Raises ModelError for any other file, and names the first tensor that does not fit.
    """
    name = printable(path)
    stored = _read(path)
    if isinstance(stored, Mapping):
        stored = stored.get("model_state_dict", stored)
    if not (isinstance(stored, Mapping) and stored and all(map(_is_tensor, stored.items()))):
        raise ModelError(
            f"{name} holds no state dict", hint="expected names and tensors, or model_state_dict"
        )
    if all(key.startswith(_PARALLEL) for key in stored):
        stored = {key.removeprefix(_PARALLEL): tensor for key, tensor in stored.items()}
    if not any(key.startswith("feature_extraction.") for key in stored):
        raise ModelError(
            f"{name} holds the weights of another network: its first tensor is {min(stored)!r}",
            hint="expected feature_extraction.… and quality.…; of efiqa train's own runs give the folder",
        )
    twice = any(key.startswith("feature_extraction.feature_extraction.") for key in stored)
    layout = _TEACHER if twice else _STUDENT
    model = QualityModel(layout.backbone, MEAN, STD)
    model.load_state_dict(_fitting(model, layout, stored, name))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Published(model.eval(), layout.backbone, layout.size, digest)


def _read(path: Path) -> Any:
    name = printable(path)
    try:
        with path.open("rb") as file:
            file.read(1)
        if path.suffix == ".safetensors":
            return load_file(path)
        ignored: list[Any] = [(_Ignored, full_name) for full_name in _IGNORED]
        with warnings.catch_warnings(), torch.serialization.safe_globals(ignored):
            warnings.simplefilter("ignore")  # torch warns of files that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{name} cannot be read as safetensors: {error}") from error
    except _UNREADABLE as error:
        if "nsupported global" in str(error).replace("GLOBAL", "global"):
            raise ModelError(
                f"{name} holds other Python objects than tensors, and reading these can run code",
                hint="if you trust it, save its state dict alone: "
                'torch.save(torch.load(FILE, weights_only=False)["model_state_dict"], "weights.pt")',
            ) from error
        raise ModelError(
            f"{name} is no checkpoint of PyTorch", hint="expected what torch.save writes, or .safetensors"
        ) from error


def _is_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _fitting(
    model: QualityModel, layout: _Layout, stored: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """The stored tensors under the model's names; ModelError unless they are the model's, one for one."""
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    wrong: dict[str, list[str]] = {"missing": [], "unexpected": [], "of another shape": []}
    for theirs, tensor in stored.items():
        prefix = max((each for each in layout.prefixes if theirs.startswith(each)), key=len, default="")
        ours = layout.prefixes.get(prefix, "") + theirs.removeprefix(prefix)
        if ours not in wanted or ours in found:
            wrong["unexpected"].append(theirs)
            continue
        found[ours] = tensor
        if tensor.shape != wanted[ours].shape:
            wrong["of another shape"].append(theirs)
    prefix_of = {ours: theirs for theirs, ours in layout.prefixes.items()}
    for ours in wanted.keys() - found.keys():
        part, _, rest = ours.partition(".")
        wrong["missing"].append(prefix_of[f"{part}."] + rest)
    problems = [f"{len(names)} {what} (first: {min(names)})" for what, names in wrong.items() if names]
    if problems:
        raise ModelError(
            f"{name} does not fit {layout.backbone}; of its tensors are " + ", ".join(problems),
            hint="expected the weights of the published student or teacher, all of them and no others",
        )
    return found
