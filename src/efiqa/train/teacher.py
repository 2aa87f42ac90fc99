"""Teachers in the loop: scores and features of the very crops that the student sees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from efiqa.errors import RecordError
from efiqa.runtime import find_model, onnxruntime
from efiqa.train.checkpoint import RunFolder
from efiqa.train.graph import to_onnx
from efiqa.train.model import QualityModel, exported


class _Both(nn.Module):
    """Scores and pooled features of one model."""

    def __init__(self, model: QualityModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.model.features(image)
        return self.model.score(features), features


def _trained(teacher: str) -> tuple[QualityModel, int, str]:
    """The network, the side of the pictures it was made for, and what its batches in a pool are known by."""
    path = find_model(teacher)
    if path.suffix == ".onnx":
        model, card, digest = exported(path)
        return model, card.input_size, digest
    model, position = RunFolder(path).trained()
    return model, position.recipe["data"]["size"], f"{position.digest}@{position.step}"


def load_teachers(teachers: Sequence[str], crop: int) -> tuple[list[QualityModel], list[str]]:
    """Networks that are to judge crops of one size, and what their answers in a pool are known by.

    Each is a run folder, an exported .onnx file, or the name of a model that ships. Raises TrainingError for
    a folder without a checkpoint, ModelError for a file that is no exported model, RecordError for a
    teacher of smaller pictures.
    """
    models, digests = [], []
    for teacher in teachers:
        model, made_for, digest = _trained(teacher)
        if made_for < crop:
            raise RecordError(f"teacher {teacher} was made for {made_for} px, less than data.crop {crop}")
        models.append(model.requires_grad_(False))
        digests.append(digest)
    return models, digests


class Teacher:
    """Networks that judge crops in ONNX Runtime: on a CPU three times as fast as PyTorch.

    Built once, in the main process, into `folder`; sessions open where they are first asked, so the
    object can go to the data loader's processes. Several teachers' scores are averaged; features are the
    first one's.
    """

    def __init__(self, models: Sequence[QualityModel], crop: int, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = [folder / f"teacher-{index}.{os.getpid()}.onnx" for index in range(len(models))]
        for model, path in zip(models, self.paths, strict=True):
            path.write_bytes(to_onnx(_Both(model), crop, ("score", "features")).SerializeToString())
        self._sessions: list[onnxruntime.InferenceSession] = []

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores float32 (n,) and features float32 (n, width) of crops (n, S, S, 3)."""
        if not self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # the network being trained needs the other cores
            options.log_severity_level = 3
            self._sessions = [
                onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                for path in self.paths
            ]
        # One picture at a time: on a CPU a batch is slower, its intermediate results leave the cache.
        answers = [
            [session.run(None, {"image": image[np.newaxis]}) for image in images.numpy()]
            for session in self._sessions
        ]
        scores = np.mean([[answer[0][0] for answer in each] for each in answers], axis=0, dtype=np.float32)
        features = np.stack([answer[1][0] for answer in answers[0]])
        return torch.from_numpy(scores), torch.from_numpy(features)

    def close(self) -> None:
        """Remove the files."""
        for path in self.paths:
            path.unlink(missing_ok=True)


class TeacherBeside:
    """The same networks beside the student, in the training process: the way where that has a GPU."""

    def __init__(self, models: Sequence[QualityModel], device: torch.device) -> None:
        self.models = [_Both(model).to(device=device, memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores float32 (n,) and features float32 (n, width) of crops (n, S, S, 3), all on the device."""
        answers = [model(images) for model in self.models]
        return torch.stack([score for score, _ in answers]).mean(dim=0), answers[0][1]
