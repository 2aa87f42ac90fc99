"""Networks have the size they are said to have, and start from files only when those fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

import timm
from safetensors.torch import save_file
from timm.models.edgenext import CrossCovarianceAttn, PositionalEncodingFourier

from efiqa.errors import ModelError, TrainingError
from efiqa.train.backbones import build_backbone, keep_depthwise_in_full_precision
from efiqa.train.export import count_macs
from efiqa.train.model import HEAD_WIDTH, QualityModel, load_start

TINY = "tf_efficientnet_lite0:1"


def model_of(backbone: str, seed: int = 0) -> QualityModel:
    torch.manual_seed(seed)
    return QualityModel(backbone, (127.0, 127.0, 127.0), (64.0, 64.0, 64.0)).eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def noise(n: int, size: int, seed: int = 0) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


@pytest.fixture(scope="module")
def paper_student() -> QualityModel:
    return model_of("edgenext_xx_small")


def test_the_papers_student_has_its_1179641_parameters(paper_student: QualityModel) -> None:
    assert parameters(paper_student) == 1_179_641


@torch.no_grad()
@pytest.mark.parametrize(("size", "gmacs"), [(352, 0.4949), (288, 0.3313), (224, 0.2004)])
def test_the_papers_student_costs_what_fvcore_counted(
    paper_student: QualityModel, size: int, gmacs: float
) -> None:
    """fvcore charges 5 operations per element of a normalisation; `count_macs` counts products only."""
    normalised = 0

    def count(_module: object, arguments: tuple[torch.Tensor], _y: object) -> None:
        nonlocal normalised
        normalised += arguments[0][0].numel()

    norms = [module for module in paper_student.modules() if isinstance(module, torch.nn.LayerNorm)]
    hooks = [module.register_forward_hook(count) for module in norms]
    paper_student(noise(1, size))
    for hook in hooks:
        hook.remove()
    macs = count_macs(paper_student, size)
    assert macs == pytest.approx(gmacs * 1e9, rel=0.017)
    assert macs + 5 * normalised == pytest.approx(gmacs * 1e9, abs=0.5e5)


def test_macs_of_a_network_that_fits_on_paper() -> None:
    """A lone 3 × 3 convolution from 3 to 4 channels at stride 2 on 32 px, then 4 → 128 → 1."""

    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)

        forward_features = property(lambda self: self.convolution)

    model = model_of(TINY)
    model.backbone, model.head[0] = One(), torch.nn.Linear(4, HEAD_WIDTH)
    assert count_macs(model, 32) == 16 * 16 * 4 * 3 * 9 + 4 * 128 + 128


def with_random_parameters(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module.eval()


@torch.no_grad()
def test_attention_in_four_dimensions_equals_timms_in_five() -> None:
    backbone, _ = build_backbone("edgenext_xx_small")
    found = [module for module in backbone.modules() if isinstance(module, CrossCovarianceAttn)]
    assert found
    for seed, module in enumerate(found):
        with_random_parameters(module, seed)
        x = torch.randn(2, 20, module.qkv.in_features, generator=torch.Generator().manual_seed(9))
        torch.testing.assert_close(module(x), CrossCovarianceAttn.forward(module, x), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 6, 6), (1, 1, 9), (3, 11, 4)])
def test_positions_in_four_dimensions_equal_timms_in_five(shape: tuple[int, int, int]) -> None:
    backbone, _ = build_backbone("edgenext_xx_small")
    found = [module for module in backbone.modules() if isinstance(module, PositionalEncodingFourier)]
    assert found
    for seed, module in enumerate(found):
        with_random_parameters(module, seed)
        torch.testing.assert_close(
            module(shape), PositionalEncodingFourier.forward(module, shape), rtol=0, atol=1e-5
        )


@torch.no_grad()
def test_the_papers_student_has_timms_features(paper_student: QualityModel) -> None:
    plain = timm.create_model("edgenext_xx_small", num_classes=0).eval()
    plain.load_state_dict(paper_student.backbone.state_dict(), strict=False)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        paper_student.backbone.forward_features(x), plain.forward_features(x), rtol=1e-4, atol=1e-4
    )


def test_the_cut_trunk_has_112_features_and_only_its_own_parameters() -> None:
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    trunk = sum(parameters(part) for part in (whole.conv_stem, whole.bn1, whole.blocks[:5]))
    model = model_of("tf_efficientnet_lite0:5")
    assert model.head[0].in_features == 112
    assert parameters(model) == trunk + 112 * 128 + 128 + 128 + 1
    assert parameters(model) == 715_361


@torch.no_grad()
def test_the_cut_trunk_gives_the_features_after_its_last_stage() -> None:
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0, features_only=False).eval()
    cut, _ = build_backbone("tf_efficientnet_lite0:5")
    cut.eval().load_state_dict(whole.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    expected = whole.blocks[:5](whole.bn1(whole.conv_stem(x)))
    torch.testing.assert_close(cut.forward_features(x), expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("edgenext_xx_smal", "no network named"),
        ("edgenext_xx_small:3", "cannot cut"),
        ("tf_efficientnet_lite0:0", "cannot cut"),
        ("tf_efficientnet_lite0:9", "cannot cut"),
        ("tf_efficientnet_lite0:x", "cannot cut"),
    ],
)
def test_a_network_that_there_is_not_is_an_error_with_a_hint(name: str, reason: str) -> None:
    with pytest.raises(TrainingError, match=reason) as caught:
        build_backbone(name)
    assert caught.value.hint


@torch.no_grad()
def test_one_finite_score_per_picture_whatever_the_batch() -> None:
    model, pictures = model_of(TINY), noise(5, 48)
    scores = model(pictures)
    assert (scores.shape, scores.dtype) == ((5,), torch.float32)
    assert scores.isfinite().all()
    alone = torch.cat([model(pictures[index : index + 1]) for index in range(5)])
    torch.testing.assert_close(scores, alone)


@torch.no_grad()
def test_normalisation_lives_in_the_model() -> None:
    """A backbone that hands its input on shows what it is given: (pixel − mean) / std per channel."""
    model = model_of(TINY)
    model.mean[:] = torch.tensor([0.0, 100.0, 200.0]).reshape(1, 3, 1, 1)
    model.std[:] = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)

    class HandOn(torch.nn.Module):
        forward_features = staticmethod(lambda x: x)

    model.backbone = HandOn()
    model.head = torch.nn.Sequential(torch.nn.Linear(3, 1, bias=False))
    model.head[0].weight[:] = torch.tensor([1.0, 10.0, 100.0])
    picture = torch.tensor([5, 102, 208], dtype=torch.uint8).expand(1, 8, 8, 3)
    assert model(picture).item() == pytest.approx(5 + 10 + 200)


@torch.no_grad()
def test_depthwise_convolutions_in_full_precision_change_nothing_in_fp32() -> None:
    model, pictures = model_of(TINY), noise(2, 48)
    before = model(pictures)
    keep_depthwise_in_full_precision(model)
    assert torch.equal(model(pictures), before)


@torch.no_grad()
def test_depthwise_convolutions_leave_bf16_autocast() -> None:
    kinds: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    model = model_of(TINY)
    keep_depthwise_in_full_precision(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            depthwise = module.groups > 1

            def note(_module: object, _x: object, y: torch.Tensor, depthwise: bool = depthwise) -> None:
                kinds[depthwise].add(y.dtype)

            module.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        model(noise(1, 32))
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


def stored(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / "start.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefix", ["backbone.", "", "model.backbone."], ids=["ours", "timm", "checkpoint"])
def test_a_backbone_loads_under_each_of_its_names(tmp_path: Path, prefix: str) -> None:
    source, model = model_of(TINY, 1), model_of(TINY, 2)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    path = stored(tmp_path, {prefix + name: tensor for name, tensor in source.backbone.state_dict().items()})
    assert "4 fresh in the head" in load_start(model, path)
    assert same(source.backbone.state_dict(), model.backbone.state_dict())
    assert same(head, model.head.state_dict())


def test_a_head_that_fits_is_taken_too(tmp_path: Path) -> None:
    source, model = model_of(TINY, 1), model_of(TINY, 2)
    assert "head too" in load_start(model, stored(tmp_path, source.state_dict()))
    assert same(source.state_dict(), model.state_dict())


def test_a_cut_network_starts_from_the_whole_ones_file_with_a_fresh_head(tmp_path: Path) -> None:
    source, model = model_of("tf_efficientnet_lite0:2", 1), model_of(TINY, 2)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    # The second layer of both heads is 128 → 1, but without the first it means nothing.
    assert "4 fresh in the head" in load_start(model, stored(tmp_path, source.state_dict()))
    assert same(head, model.head.state_dict())
    assert torch.equal(model.backbone.conv_stem.weight, source.backbone.conv_stem.weight)


@pytest.mark.parametrize("change", ["missing", "another shape"])
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, change: str) -> None:
    tensors = dict(model_of(TINY).state_dict())
    if change == "missing":
        del tensors["backbone.bn1.weight"]
    else:
        tensors["backbone.bn1.weight"] = torch.zeros(5)
    with pytest.raises(ModelError, match=r"1 backbone tensors .* backbone\.bn1\.weight"):
        load_start(model_of(TINY), stored(tmp_path, tensors))


def test_a_file_that_does_not_fit_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = model_of(TINY, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError):
        load_start(model, stored(tmp_path, {"conv_stem.weight": torch.zeros(32, 3, 3, 3)}))
    assert same(before, model.state_dict())


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x80\x04\x95pickle"])
def test_a_file_that_is_no_safetensors_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "start.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_start(model_of(TINY), path)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_start(model_of(TINY), tmp_path / "none.safetensors")
