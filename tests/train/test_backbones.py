"""Networks of any family give (n, features, h, w), learn in all of their parameters, and can be cut."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

import timm
import torchvision
from torch.utils._python_dispatch import TorchDispatchMode

from efiqa.errors import TrainingError
from efiqa.train.backbones import as_deployed, build_backbone, stages_of, take_pixels_before_pointwise
from efiqa.train.model import QualityModel

FAMILIES = [
    pytest.param("resnet18", 512, (2, 2), id="resnet"),
    pytest.param("test_vit", 64, (16, 1), id="ViT: 16 patches in a column"),
    pytest.param("test_vit2", 64, (16, 1), id="ViT with a norm after pooling"),
    pytest.param("test_vit3", 96, (16, 1), id="ViT that pools by attention"),
    pytest.param("swin_tiny_patch4_window7_224", 768, (2, 2), id="timm's Swin: (n, h, w, C)"),
    pytest.param("convnext_atto", 320, (2, 2), id="ConvNeXt"),
    pytest.param("edgenext_xx_small", 168, (2, 2), id="EdgeNeXt"),
    pytest.param("mobilenetv4_conv_small", 960, (2, 2), id="MobileNet: a convolution after pooling"),
    pytest.param("ghostnet_050", 480, (2, 2), id="GhostNet: a convolution after pooling"),
    pytest.param("test_efficientnet", 256, (2, 2), id="EfficientNet: a convolution before pooling"),
    pytest.param("test_efficientnet:3", 32, (8, 8), id="cut after a stage"),
]


def noise(n: int, side: int) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "width", "shape"), FAMILIES)
def test_a_network_of_each_family_gives_maps_and_learns_in_all_its_parameters(
    name: str, width: int, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    model = QualityModel(name, (127.0,) * 3, (64.0,) * 3)
    assert model.width == width
    assert model.backbone.forward_features(noise(2, 64)).shape == (2, width, *shape)
    pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    (model(pictures) - torch.tensor([0.0, 1.0])).square().sum().backward()
    # A parameter without one is dead weight in the file, and stops several processes.
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model(pictures).isfinite().all()


@torch.no_grad()
def test_a_vits_maps_are_its_patches_without_the_tokens_before_them() -> None:
    network, _ = build_backbone("test_vit")
    whole = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    network.eval().load_state_dict(whole.state_dict())
    tokens = whole.forward_features(noise(2, 96))
    assert whole.num_prefix_tokens == 1
    assert tokens.shape == (2, 1 + 36, 64)
    pooled = network.forward_features(noise(2, 96)).mean(dim=(2, 3))
    torch.testing.assert_close(pooled, tokens[:, 1:].mean(dim=1))


@torch.no_grad()
def test_torchvisions_swin_gives_torchvisions_own_features() -> None:
    torch.manual_seed(2)
    whole = torchvision.models.swin_t(weights=None).eval()
    whole.head = torch.nn.Identity()
    network, width = build_backbone("swin_t")
    network.eval().load_state_dict(whole.state_dict())
    assert width == 768
    x = noise(1, 96)
    torch.testing.assert_close(network.forward_features(x).mean(dim=(2, 3)), whole(x), rtol=1e-4, atol=1e-5)


def test_the_papers_teacher_has_its_86874553_parameters() -> None:
    with torch.device("meta"):
        model = QualityModel("swin_b", (127.0,) * 3, (64.0,) * 3)
    assert model.width == 1024
    assert sum(parameter.numel() for parameter in model.parameters()) == 86_874_553


@torch.no_grad()
def test_a_cut_within_a_stage_keeps_its_first_blocks() -> None:
    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    # Stage 2 has two blocks.
    cut, width = build_backbone("tf_efficientnet_lite0:2.1")
    cut.eval().load_state_dict(whole.state_dict(), strict=False)
    x = noise(1, 64)
    expected = whole.blocks[2][0](whole.blocks[:2](whole.bn1(whole.conv_stem(x))))
    torch.testing.assert_close(cut.forward_features(x), expected)
    assert width == expected.shape[1] == 40
    assert len(cut.state_dict()) < len(build_backbone("tf_efficientnet_lite0:3")[0].state_dict())


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0:2.0",
        "tf_efficientnet_lite0:2.2",  # all of its two blocks
        "tf_efficientnet_lite0:2.x",
        "tf_efficientnet_lite0:.1",
        "tf_efficientnet_lite0:-1",
        "tf_efficientnet_lite0:1.1.1",
        "resnet18:2",
        "swin_t:2",
    ],
)
def test_a_cut_that_cannot_be_made_is_an_error_with_a_hint(name: str) -> None:
    with pytest.raises(TrainingError, match="cannot cut") as caught:
        build_backbone(name)
    assert "can be cut" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["levit_128s", "mixer_s32_224", "test_maxvit", "crossvit_tiny_240"])
def test_a_network_that_takes_one_size_only_or_gives_several_maps_is_an_error(name: str) -> None:
    with pytest.raises(TrainingError, match=f"'{name}' does not give one map of features") as caught:
        build_backbone(name)
    assert "any size" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "stages"), [("tf_efficientnet_lite0", 7), ("edgenext_xx_small", 4), ("convnext_atto", 4)]
)
def test_the_stem_and_all_stages_are_told_apart(name: str, stages: int) -> None:
    network, _ = build_backbone(name)
    assert len(stages_of(network)) == 1 + stages


def test_stages_of_another_family_are_an_error_with_a_hint() -> None:
    with pytest.raises(TrainingError, match="stages of ResNet are not known") as caught:
        stages_of(build_backbone("resnet18")[0])
    assert "model.frozen = 0" in str(caught.value.hint)


@torch.no_grad()
@pytest.mark.parametrize("name", ["repghostnet_050", "repvit_m0_9", "fastvit_t8"])
def test_branches_that_only_training_needs_are_merged_and_give_the_same(name: str) -> None:
    torch.manual_seed(0)
    network, _ = build_backbone(name)
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:  # a fresh one does nothing
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.1)
    deployed = as_deployed(network)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in deployed.modules()) < len(norms) / 2
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()) == len(norms)
    expected, found = network.forward_features(noise(1, 64)), deployed.forward_features(noise(1, 64))
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0:5", "edgenext_xx_small", "starnet_s050", "swin_t"])
def test_a_network_without_such_branches_stays_as_it_is(name: str) -> None:
    network, _ = build_backbone(name)
    assert as_deployed(network).state_dict().keys() == network.state_dict().keys()


def test_pixels_taken_before_a_pointwise_convolution_give_its_maps_and_gradients() -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 48, 1, stride=(2, 3)).double()  # oneDNN leaves doubles to others
    pictures = noise(2, 33).double().requires_grad_()

    def maps_and_gradients() -> list[torch.Tensor]:
        maps = convolution(pictures)
        return [maps, *torch.autograd.grad(maps.square().sum(), [pictures, *convolution.parameters()])]

    expected = maps_and_gradients()
    take_pixels_before_pointwise(convolution)
    torch.testing.assert_close(maps_and_gradients(), expected)


class Strided(TorchDispatchMode):
    """Counts 1 × 1 convolutions that have a stride and fewer channels than a block of oneDNN."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), options: Any = None) -> Any:
        if function is torch.ops.aten.convolution.default:
            weight, stride = given[1], given[3]
            self.count += weight.shape[1] < 16 and list(weight.shape[2:]) == [1, 1] and max(stride) > 1
        return function(*given, **(options or {}))


@torch.no_grad()
@pytest.mark.parametrize("name", ["fastvit_t8", "mobileone_s0", "repvgg_a0"])
def test_no_such_convolution_reaches_onednn(name: str) -> None:
    network = build_backbone(name)[0].eval()
    with Strided() as before:
        expected = network.forward_features(noise(2, 64))
    take_pixels_before_pointwise(network)
    with Strided() as after:
        found = network.forward_features(noise(2, 64))
    assert before.count > 0
    assert after.count == 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
