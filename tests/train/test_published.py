"""The checkpoints that the paper's authors publish or train score as they do there; nothing else is taken."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
timm = pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")
transforms = pytest.importorskip("torchvision.transforms", reason="the reference is torchvision")

from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import swin_b

from efiqa.card import CENTRE_RULE
from efiqa.cli import app
from efiqa.errors import EfiqaError, ModelError
from efiqa.scorer import Scorer
from efiqa.train.export import Statement, prepare
from efiqa.train.published import MEAN, STD, load_published

Weights = Mapping[str, Tensor]
Save = Callable[..., Path]


class Network(nn.Module):
    """A feature extractor and two linear layers under the names of the authors' files."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.feature_extraction = features
        self.quality = nn.Sequential(nn.Linear(width, 128), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.feature_extraction(x)
        return self.quality(features.mean((2, 3)) if features.ndim == 4 else features)


class Inner(nn.Module):
    """The teacher's backbone lies one name deeper."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.head = nn.Identity()
        self.feature_extraction = network

    def forward(self, x: Tensor) -> Tensor:
        return self.feature_extraction(x)


@pytest.fixture(scope="module")
def student() -> Network:
    torch.manual_seed(0)
    features = timm.create_model("edgenext_xx_small", pretrained=False)
    features.head = nn.Identity()
    network = Network(features, 168).eval()
    with torch.no_grad():
        network.quality[1].weight *= 20  # scores of random weights differ by little
    return network


@pytest.fixture(scope="module")
def teacher() -> Network:
    torch.manual_seed(0)
    return Network(Inner(swin_b(weights=None)), 1024).eval()


def parallel(weights: Weights) -> dict[str, Tensor]:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


def training_state(weights: Weights) -> dict[str, Any]:
    """What the authors' script saves: the numbers come from scipy and numpy."""
    return {
        "epoch": 3,
        "model_state_dict": weights,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-4}]},
        "scheduler_state_dict": {"_last_lr": [1e-4], "base_lrs": [1e-4]},
        "best_score": np.float64(0.96),
        "best_plcc": np.float32(0.97),
        "best_srcc": np.int64(1),
    }


FORMATS: dict[str, Callable[[Weights], Any]] = {
    "bare": dict,
    "bare, in parallel": parallel,
    "training": training_state,
    "training, in parallel": lambda weights: training_state(parallel(weights)),
}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(content: object, name: str = "weights.pt", **options: Any) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return write


@torch.no_grad()
def reference(network: Network, picture: PIL.Image.Image, size: int) -> float:
    """The authors' way from a picture to its score, in PyTorch and torchvision alone."""
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    steps += [transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    return network(transforms.Compose(steps)(picture)[None]).item()


def pictures() -> dict[str, PIL.Image.Image]:
    generator = np.random.default_rng(2)
    noise = generator.integers(0, 256, (211, 397, 3), dtype=np.uint8)
    coarse = generator.integers(0, 256, (9, 5, 3), dtype=np.uint8)
    ramp = np.add.outer(np.arange(353), np.arange(352))[..., None] % 256 * np.array([1, 0.5, 0.2])
    return {
        "noise": PIL.Image.fromarray(noise),
        "smooth": PIL.Image.fromarray(coarse).resize((301, 517), PIL.Image.Resampling.BICUBIC),
        "ramp": PIL.Image.fromarray(ramp.astype(np.uint8)),
        "small": PIL.Image.fromarray(noise[:33, :71]),
        "square": PIL.Image.fromarray(noise[:200, :200]),
    }


def test_a_published_checkpoint_scores_as_in_pytorch(
    student: Network, save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = save(training_state(parallel(student.state_dict())), "edgenext best.pt")
    app(["export", str(path), "-o", str(tmp_path / "student.onnx")], standalone_mode=False)
    scorer = Scorer(tmp_path / "student.onnx")
    expected = {name: reference(student, picture, 352) for name, picture in pictures().items()}
    assert np.ptp(list(expected.values())) > 0.01
    for name, picture in pictures().items():
        picture.save(tmp_path / f"{name}.png")
        assert scorer.score(tmp_path / f"{name}.png") == pytest.approx(expected[name], abs=1e-4), name
    capsys.readouterr()
    app(
        ["score", str(tmp_path / "noise.png"), "--faces", "none", "--model", str(tmp_path / "student.onnx")],
        standalone_mode=False,
    )
    assert json.loads(capsys.readouterr().out)["score"] == pytest.approx(expected["noise"], abs=1e-4)
    card = scorer.card
    assert (card.name, card.version, card.resize) == ("edgenext best", "published", CENTRE_RULE)
    assert (card.backbone, card.input_size, card.parameters) == ("edgenext_xx_small", 352, 1_179_641)
    assert (card.trained_on, card.measured, card.population) == ((), {}, None)
    assert card.recipe["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "authors" in card.licence
    assert card.limits
    assert str(tmp_path) not in card.to_json()


def test_a_statement_speaks_for_a_published_checkpoint_too(student: Network, save: Save):
    statement = Statement("mine", "2", "CC BY 4.0", measured={"srcc": 0.9}, limits=("Adults only.",))
    _, card = prepare(save(student.state_dict()), statement=statement)
    assert (card.name, card.version, card.licence) == ("mine", "2", "CC BY 4.0")
    assert (card.measured, card.limits) == ({"srcc": 0.9}, ("Adults only.",))


def assert_same(loaded: nn.Module, weights: Weights, prefix: str) -> None:
    ours = loaded.state_dict()
    assert len(ours) == len(weights)
    for name, tensor in weights.items():
        part, _, rest = name.removeprefix(prefix).partition(".")
        renamed = f"head.{rest}" if part == "quality" else f"backbone.{name.removeprefix(prefix)}"
        assert torch.equal(ours[renamed], tensor), name


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_the_student_is_read(student: Network, save: Save, form: str):
    published = load_published(save(FORMATS[form](student.state_dict())))
    assert (published.backbone, published.size) == ("edgenext_xx_small", 352)
    assert not published.model.training
    assert_same(published.model, student.state_dict(), "feature_extraction.")


@torch.no_grad()
def test_the_teacher_is_read_and_scores_as_in_pytorch(teacher: Network, save: Save):
    published = load_published(save(training_state(parallel(teacher.state_dict()))))
    assert (published.backbone, published.size) == ("swin_b", 448)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    scores = published.model(torch.from_numpy(pixels))
    for score, picture in zip(scores.tolist(), pixels, strict=True):
        assert score == pytest.approx(reference(teacher, PIL.Image.fromarray(picture), 64), abs=1e-4)


def test_the_teachers_head_may_lie_beside_its_backbone(teacher: Network, save: Save):
    moved = {
        f"feature_extraction.{name}" if name.startswith("quality.") else name: tensor
        for name, tensor in teacher.state_dict().items()
    }
    head = load_published(save(moved)).model.head
    assert torch.equal(head[0].weight, teacher.quality[0].weight)
    with pytest.raises(ModelError, match=r"4 unexpected \(first: (feature_extraction\.)?quality\.0\.bias\)"):
        load_published(save({**moved, **teacher.state_dict()}))


def test_safetensors_are_read(student: Network, tmp_path: Path):
    save_file(parallel(student.state_dict()), tmp_path / "weights.safetensors")
    published = load_published(tmp_path / "weights.safetensors")
    assert_same(published.model, student.state_dict(), "feature_extraction.")


def test_half_precision_and_the_old_file_format_are_read(student: Network, save: Save):
    halves = {name: tensor.half() for name, tensor in student.state_dict().items()}
    model = load_published(save(halves, _use_new_zipfile_serialization=False)).model
    assert model.head[0].weight.dtype == torch.float32
    assert torch.equal(model.head[0].weight, student.quality[0].weight.half().float())


def test_mean_and_std_are_imagenets_on_the_scale_of_bytes():
    assert pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255]) == MEAN
    assert pytest.approx([0.229 * 255, 0.224 * 255, 0.225 * 255]) == STD


def test_numbers_that_numpy_1_pickled_are_read(student: Network, save: Save, tmp_path: Path):
    path, old = save(training_state(student.state_dict())), tmp_path / "old.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for item in source.infolist():
            data = source.read(item)
            if item.filename.endswith("data.pkl"):
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
                assert b"cnumpy.core.multiarray\nscalar" in data
            target.writestr(item, data)
    assert_same(load_published(old).model, student.state_dict(), "feature_extraction.")


def test_numpys_own_functions_stay_locked_afterwards(student: Network, save: Save):
    path = save(training_state(student.state_dict()))
    load_published(path)
    with pytest.raises(pickle.UnpicklingError, match="numpy"):
        torch.load(path, weights_only=True)


class Runs:
    """Pickled as a call that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("extra", ["code", "arguments"])
def test_a_file_with_python_objects_is_not_unpickled(
    student: Network, save: Save, tmp_path: Path, extra: str
):
    trace = tmp_path / "trace"
    thing = Runs(trace) if extra == "code" else argparse.Namespace(lr=1e-4)
    with pytest.raises(ModelError, match="other Python objects than tensors") as caught:
        load_published(save({**training_state(student.state_dict()), "args": thing}))
    assert 'torch.save(torch.load(FILE, weights_only=False)["model_state_dict"]' in str(caught.value.hint)
    assert not trace.exists()


def changed(weights: Weights, **changes: Tensor | None) -> dict[str, Tensor]:
    merged = {**weights, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    return {name: tensor for name, tensor in merged.items() if tensor is not None}


MISFITS = [
    ({"quality__1__bias": None}, r"are 1 missing \(first: quality\.1\.bias\)"),
    ({"quality__1__bias": None, "quality__0__bias": None}, r"are 2 missing \(first: quality\.0\.bias\)"),
    (
        {"feature_extraction__stem__0__weight": None},
        r"1 missing \(first: feature_extraction\.stem\.0\.weight\)",
    ),
    ({"quality__2__bias": torch.zeros(1)}, r"are 1 unexpected \(first: quality\.2\.bias\)"),
    ({"backbone__norm": torch.zeros(1)}, r"are 1 unexpected \(first: backbone\.norm\)"),
    (
        {"feature_extraction__head__fc__bias": torch.zeros(9)},
        r"are 1 unexpected \(first: feature_extraction\.head\.fc\.bias\)",
    ),
    ({"quality__0__weight": torch.zeros(128, 160)}, r"1 of another shape \(first: quality\.0\.weight\)"),
    (
        {"quality__1__bias": None, "extra": torch.zeros(1), "quality__0__bias": torch.zeros(9)},
        r"1 missing \(first: quality\.1\.bias\), 1 unexpected \(first: extra\), "
        r"1 of another shape \(first: quality\.0\.bias\)",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISFITS)
def test_a_tensor_that_does_not_fit_is_named(
    student: Network, save: Save, changes: dict[str, Tensor | None], message: str
):
    with pytest.raises(ModelError, match=message):
        load_published(save(changed(student.state_dict(), **changes)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no state dict"),
        ([torch.zeros(1)], "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        ({"model_state_dict": {}}, "holds no state dict"),
        ({"model_state_dict": None}, "holds no state dict"),
        ({"state_dict": {"conv.weight": torch.zeros(1)}}, "holds no state dict"),
        ({0: torch.zeros(1)}, "holds no state dict"),
        ({"conv1.weight": torch.zeros(1)}, "another network: its first tensor is 'conv1.weight'"),
        ({"module.conv1.weight": torch.zeros(1)}, "another network: its first tensor is 'conv1.weight'"),
        ({"quality.0.weight": torch.zeros(1)}, "another network"),
    ],
)
def test_what_is_no_state_dict_of_these_networks_is_refused(save: Save, content: object, message: str):
    with pytest.raises(ModelError, match=message):
        load_published(save(content))


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("hello.txt", "hello")
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"<html>\n",
        b"\x08\x0a\x12\x07pytorch" * 9,
        b"\x80\x02.",
        b"\x80\x04N.",
        b"\x89PNG\r\n\x1a\n",
        archive(),
    ],
    ids=["empty", "text", "html", "onnx", "pickle", "pickle 4", "png", "zip"],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, suffix: str):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.(pt|safetensors) (is no|cannot be|holds no)"):
        load_published(path)


def test_an_exported_model_is_no_checkpoint(tmp_path: Path, make_model: Callable[..., Path]):
    with pytest.raises(ModelError, match="is no checkpoint"):
        load_published(make_model(tmp_path / "model.onnx"))


def test_a_damaged_checkpoint_is_refused_and_never_crashes(save: Save, tmp_path: Path):
    data = save({"quality.0.bias": torch.zeros(4)}).read_bytes()
    generator = np.random.default_rng(0)
    for index in range(60):
        damaged = bytearray(data[: generator.integers(1, len(data))] if index % 2 else data)
        for position in generator.integers(0, len(damaged), 5):
            damaged[position] = generator.integers(256)
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with pytest.raises(ModelError):
            load_published(tmp_path / "damaged.pt")


@pytest.mark.parametrize("name", ["none.pt", "none/none.pt"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str):
    with pytest.raises(EfiqaError, match=r"none\.pt.* cannot be read: No such file"):
        prepare(tmp_path / name)
