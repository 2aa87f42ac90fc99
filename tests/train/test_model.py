"""Networks have the size they are said to have, and start from files only when those fit."""

from __future__ import annotations

import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

import huggingface_hub
import onnx
import timm
from safetensors.torch import save_file
from timm.models.edgenext import CrossCovarianceAttn, PositionalEncodingFourier

from efiqa.errors import ModelError, TrainingError
from efiqa.runtime import find_model
from efiqa.scorer import Scorer
from efiqa.train.backbones import build_backbone, keep_depthwise_in_full_precision
from efiqa.train.export import count_macs
from efiqa.train.graph import to_onnx
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


def stored(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> str:
    path = tmp_path / "start.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefix", ["backbone.", "", "model.backbone."], ids=["ours", "timm", "checkpoint"])
def test_a_backbone_loads_under_each_of_its_names(tmp_path: Path, prefix: str) -> None:
    source, model = model_of(TINY, 1), model_of(TINY, 2)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    path = stored(tmp_path, {prefix + name: tensor for name, tensor in source.backbone.state_dict().items()})
    assert "4 fresh in neck and head" in load_start(model, path)
    assert same(source.backbone.state_dict(), model.backbone.state_dict())
    assert same(head, model.head.state_dict())


def test_a_head_that_fits_is_taken_too(tmp_path: Path) -> None:
    source, model = model_of(TINY, 1), model_of(TINY, 2)
    assert "fresh" not in load_start(model, stored(tmp_path, source.state_dict()))
    assert same(source.state_dict(), model.state_dict())


def test_a_cut_network_starts_from_the_whole_ones_file_with_a_fresh_head(tmp_path: Path) -> None:
    source, model = model_of("tf_efficientnet_lite0:2", 1), model_of(TINY, 2)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    # The second layer of both heads is 128 → 1, but without the first it means nothing.
    assert "4 fresh in neck and head" in load_start(model, stored(tmp_path, source.state_dict()))
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
        load_start(model_of(TINY), str(path))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_start(model_of(TINY), str(tmp_path / "none.safetensors"))


@torch.no_grad()
def test_a_neck_narrows_the_maps_before_pooling() -> None:
    torch.manual_seed(4)
    model = QualityModel(TINY, (127.0,) * 3, (64.0,) * 3, neck=24).eval()
    assert (model.width, model.head[0].in_features) == (24, 24)
    convolution, norm, _ = model.neck
    norm.running_mean.fill_(0.1)
    pictures = noise(2, 48)
    maps = model.backbone.forward_features((pictures.permute(0, 3, 1, 2).float() - 127) / 64)
    expected = torch.einsum("nchw,oc->nohw", maps, convolution.weight[:, :, 0, 0])
    expected = ((expected - 0.1) / (1 + norm.eps) ** 0.5).clamp(0, 6).mean(dim=(2, 3))
    torch.testing.assert_close(model.features(pictures), expected, rtol=1e-4, atol=1e-5)


def test_the_averaged_weights_of_a_run_are_preferred(tmp_path: Path) -> None:
    last, average, model = (model_of(TINY, seed) for seed in (1, 2, 3))
    tensors = {f"model.{name}": tensor for name, tensor in last.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    tensors |= {"optimizer.0.exp_avg": torch.zeros(3), "regressor.weight": torch.zeros(2, 2)}
    assert "fresh" not in load_start(model, stored(tmp_path, tensors))
    assert same(average.state_dict(), model.state_dict())


def test_a_neck_of_another_width_starts_fresh_with_its_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = QualityModel(TINY, (127.0,) * 3, (64.0,) * 3, neck=8)
    model = QualityModel(TINY, (127.0,) * 3, (64.0,) * 3, neck=12)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items() if "backbone" not in name}
    # Six tensors of the neck (one of them a count), four of the head.
    assert load_start(model, stored(tmp_path, source.state_dict())).endswith("10 fresh in neck and head")
    assert same(kept, model.state_dict())
    assert same(source.backbone.state_dict(), model.backbone.state_dict())


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_an_exported_model_is_a_start_that_scores_the_same(tmp_path: Path) -> None:
    source, model = model_of(TINY, 1), model_of(TINY, 2)
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training
            module.running_mean.normal_(generator=torch.Generator().manual_seed(1))
            module.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    onnx.save(to_onnx(source, 32), tmp_path / "model.onnx")
    assert load_start(model, str(tmp_path / "model.onnx")).endswith("tensors from model.onnx")
    torch.testing.assert_close(model(noise(3, 48)), source(noise(3, 48)))


@torch.no_grad()
def test_the_student_that_ships_is_a_start_that_scores_the_same() -> None:
    scorer = Scorer()
    made = scorer.card.recipe["model"]
    torch.manual_seed(5)
    model = QualityModel(made["backbone"], made["mean"], made["std"], neck=made.get("neck", 0)).eval()
    names = {item.name for item in onnx.load(find_model()).graph.initializer}
    if not any("bn" in name for name in names):
        pytest.skip("this student was exported with its batch norms folded into its convolutions")
    assert "fresh" not in load_start(model, "student")
    size = scorer.card.input_size
    coarse = np.random.default_rng(3).integers(0, 256, (size // 16, size // 16, 3), dtype=np.uint8)
    picture = coarse.repeat(16, 0).repeat(16, 1)
    found = float(model(torch.from_numpy(picture[np.newaxis].copy())))
    assert found == pytest.approx(scorer.score(picture), abs=2e-4)


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"<html>"])
def test_a_file_that_is_no_onnx_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        load_start(model_of(TINY), str(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        load_start(model_of(TINY), str(tmp_path / "none.onnx"))


def package(folder: Path, name: str, *files: object) -> None:
    """An importable package with one .pth file for each of `files`, what torch.save makes of it."""
    inside = folder / name / "weights"
    inside.mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    for index, content in enumerate(files):
        if isinstance(content, bytes):
            (inside / f"{index}.pth").write_bytes(content)
        else:
            torch.save(content, inside / f"{index}.pth")


def test_a_packages_tensors_are_matched_in_order_whatever_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source, model = model_of("tf_efficientnet_lite0:2", 1), model_of(TINY, 2)
    head = {name: tensor.clone() for name, tensor in model.head.state_dict().items()}
    theirs = {
        f"layer{index}.{name.rsplit('.', 1)[-1]}": tensor
        for index, (name, tensor) in enumerate(source.backbone.state_dict().items())
    }
    package(tmp_path, "weights_of_another_name", theirs)
    told = load_start(model, "package:weights_of_another_name")
    assert "tensors from weights_of_another_name, 4 fresh" in told
    wanted = {name: t for name, t in model.backbone.state_dict().items() if "num_batches" not in name}
    assert same(wanted, source.backbone.state_dict())
    assert same(head, model.head.state_dict())


def test_a_package_that_is_no_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    model = model_of(TINY, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    package(tmp_path, "weights_none")
    package(tmp_path, "weights_two", {}, {})
    package(tmp_path, "weights_broken", b"no zip at all")
    package(tmp_path, "weights_pickled", {"weight": Path("a foreign object")})
    package(tmp_path, "weights_list", [1, 2])
    package(tmp_path, "weights_no_tensors", {"epoch": 3, "state_dict": {}})
    package(tmp_path, "weights_other", dict(model_of("test_efficientnet").backbone.state_dict()))
    for name, reason in {
        "weights_that_are_not_there": "is not installed",
        "": "is not installed",
        "weights_none": "holds 0 .pth files; expected one",
        "weights_two": "holds 2 .pth files; expected one",
        "weights_broken": "cannot be read as weights",
        "weights_pickled": "cannot be read as weights",
        "weights_list": "cannot be read as weights",
        "weights_no_tensors": "does not fit",
        "weights_other": "does not fit: .* of another shape",
    }.items():
        with pytest.raises(ModelError, match=reason):
            load_start(model, f"package:{name}")
    assert same(before, model.state_dict())


class Hub:
    """What huggingface_hub asks of a server for one public file: HEAD, then GET."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> bytes | None:
                path = self.path.partition("?")[0]
                hub.asked.append(f"{self.command} {path}")
                content = files.get(path)
                self.send_response(200 if content is not None else 404)
                if content is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                else:
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                return content

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                self.wfile.write(self.answer() or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, bytes]], Hub]]:
    """`hub(files)` stands in for huggingface.co; the cache is a new one."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started: list[Hub] = []

    def start(files: dict[str, bytes]) -> Hub:
        made = Hub(files)
        threading.Thread(target=made.server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", made.address)
        template = made.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        started.append(made)
        return made

    huggingface_hub.close_session()
    yield start
    huggingface_hub.close_session()
    for made in started:
        made.server.shutdown()
        made.server.server_close()


@pytest.mark.parametrize("file", ["model.safetensors", "weights/best.safetensors"])
def test_weights_on_the_hub_are_downloaded_once(
    tmp_path: Path, hub: Callable[[dict[str, bytes]], Hub], file: str
) -> None:
    source = model_of(TINY, 1)
    content = Path(stored(tmp_path, dict(source.backbone.state_dict()))).read_bytes()
    server = hub({f"/somebody/network/resolve/main/{file}": content})
    address = "hub:somebody/network" + ("" if file == "model.safetensors" else f"/{file}")
    for seed in (2, 3):
        model = model_of(TINY, seed)
        told = load_start(model, address)
        assert f"tensors from {Path(file).name}, 4 fresh" in told
        assert same(source.backbone.state_dict(), model.backbone.state_dict())
    assert [line for line in server.asked if line.startswith("GET") and file in line] == [
        f"GET /somebody/network/resolve/main/{file}"
    ]


def test_what_is_not_on_the_hub_is_an_error(hub: Callable[[dict[str, bytes]], Hub]) -> None:
    hub({})
    model = model_of(TINY)
    for address in ("hub:somebody/network", "hub:somebody/network/other.safetensors"):
        with pytest.raises(ModelError, match=f"{address} cannot be had: .*404"):
            load_start(model, address)


def test_a_hub_that_cannot_be_reached_is_an_error(
    hub: Callable[[dict[str, bytes]], Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = hub({})
    server.server.shutdown()
    server.server.server_close()
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between its own retries
    with pytest.raises(ModelError, match="hub:somebody/network cannot be had"):
        load_start(model_of(TINY), "hub:somebody/network")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="hub:somebody/network cannot be had"):
        load_start(model_of(TINY), "hub:somebody/network")


def test_an_address_without_an_owner_or_with_odd_letters_is_an_error() -> None:
    with pytest.raises(ModelError, match="hub:network names no owner") as caught:
        load_start(model_of(TINY), "hub:network")
    assert "hub:OWNER/NAME" in str(caught.value.hint)
    with pytest.raises(ModelError, match="cannot be had"):
        load_start(model_of(TINY), "hub:some body/net--work")


def test_something_on_the_hub_that_is_no_safetensors_is_an_error(
    hub: Callable[[dict[str, bytes]], Hub],
) -> None:
    hub({"/somebody/network/resolve/main/model.safetensors": b"<html>"})
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        load_start(model_of(TINY), "hub:somebody/network")
