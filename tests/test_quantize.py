"""An int8 model is made of real crops, says what it is, and does not appear where it says something else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("onnx", reason="onnx is not installed (the extra quantize)")

from efiqa import quantize as module
from efiqa import runtime
from efiqa.card import METADATA_KEY, ModelCard
from efiqa.degrade import degrade
from efiqa.errors import InvalidArgument, ModelError, RecordError
from efiqa.image import load_image, resize
from efiqa.openvino_runtime import installed
from efiqa.quantize import Seen, check, crops_of, drawn, quantize
from efiqa.runtime import find_model, open_model
from efiqa.scorer import Scorer
from efiqa.sources import Named, expand

SIDE, CONVOLUTIONS = 32, 6
SAMPLES = Path(__file__).parent.parent / "examples" / "samples"


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory, card: ModelCard) -> Path:
    """Six convolutions of four channels that each take means: the score is the mean grey over 255."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["x0"]),
    ]
    weights = [numpy_helper.from_array(np.array(255, np.float32), "white")]
    for index in range(CONVOLUTIONS):
        shape = (4, 4 if index else 3, 1, 1)
        weights.append(numpy_helper.from_array(np.full(shape, 1 / shape[1], np.float32), f"w{index}"))
        nodes.append(
            helper.make_node("Conv", [f"x{index}", f"w{index}"], [f"x{index + 1}"], name=f"c{index}")
        )
    last = f"x{CONVOLUTIONS}"
    nodes.append(helper.make_node("ReduceMean", [last], ["score"], axes=[1, 2, 3], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: dataclasses.replace(card, name="deep").to_json()})
    path = tmp_path_factory.mktemp("deep") / "deep.onnx"
    save(model, str(path))
    return path


def seen(seed: int, count: int = 30) -> Seen:
    generator = np.random.default_rng(seed)
    levels = generator.uniform(0, 200, (count, 1, 1, 1))
    pixels = (levels + generator.uniform(0, 55, (count, SIDE, SIDE, 3))).astype(np.uint8)
    return Seen(pixels, (pixels.mean((1, 2, 3)) / 255).astype(np.float32))


@pytest.fixture(scope="module")
def made(deep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "deep.int8.onnx"
    quantize(deep, path, seen(1), seen(2))
    return path


def test_the_int8_model_scores_as_the_other_and_says_what_it_is(deep: Path, made: Path):
    scorer = Scorer(made)
    found = scorer.card.quantization
    assert found is not None
    assert (scorer.card.version, found.precision, found.calibrated_on, found.n) == ("1+int8", "int8", 30, 30)
    assert found.of == f"deep@1 {Scorer(deep).digest}"
    assert found.srcc >= 0.998
    pictures = seen(3)
    scores = scorer.network(pictures.pixels)
    assert np.abs(scores - pictures.scores).max() < 0.02
    changes = np.abs(scorer.network(seen(2).pixels) - seen(2).scores).max()
    assert found.largest_change == pytest.approx(float(changes), abs=1e-4)


def test_the_card_lies_beside_the_int8_model_too(made: Path):
    assert ModelCard.from_json(made.with_suffix(".json").read_text(encoding="utf-8")) == Scorer(made).card


def test_the_int8_model_holds_int8_weights(made: Path):
    import onnx

    graph = onnx.load(made).graph
    kinds = [item.data_type for item in graph.initializer if len(item.dims) == 4]
    assert kinds.count(onnx.TensorProto.INT8) == CONVOLUTIONS - module.IN_FLOAT[0]


def test_auto_leaves_an_int8_model_to_onnx_runtime(made: Path):
    opened = open_model(made)
    assert (opened.runtime, opened.precision) == ("ONNX Runtime", "int8")


@pytest.mark.skipif(not installed(), reason="openvino is not installed (the extra openvino)")
def test_openvino_runs_the_int8_model_where_it_is_asked_to_and_no_bf16(made: Path):
    opened = open_model(made, runtime="openvino")
    assert (opened.runtime, opened.precision) == ("OpenVINO", "int8")
    pictures = seen(3)
    assert np.abs(opened.network(pictures.pixels) - pictures.scores).max() < 0.02
    with pytest.raises(ModelError, match="is int8 already"):
        open_model(made, precision="bf16")


def test_a_gpu_refuses_the_int8_model(made: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtime, "check_gpu", lambda: None)
    with pytest.raises(ModelError, match="is int8, which is for processors"):
        open_model(made, runtime="cuda")


# The gate


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([0.1, 0.2, 0.4, 0.3], r"SRCC with fp32 is 0\.8000, expected at least 0\.998"),
        ([0.1, 0.2, 0.3, 0.47], r"largest change of a score is 0\.0700, expected at most 0\.06"),
        ([0.1, 0.2, 0.3, float("nan")], "no score for 1 of 4 held-out pictures"),
    ],
)
def test_the_gate_stops_what_says_something_else(card: ModelCard, changed: list[float], message: str):
    scores = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    assert check(card, scores, scores + np.float32(0.01), least_srcc=0.998) == (1.0, pytest.approx(0.01))
    with pytest.raises(ModelError, match=message):
        check(card, scores, np.array(changed, np.float32), least_srcc=0.998)


def test_nothing_is_written_where_the_gate_stops(deep: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="in int8 the model is not the same"):
        quantize(deep, tmp_path / "m.onnx", seen(1), seen(2), least_srcc=1.01)
    assert not list(tmp_path.iterdir())


def test_more_convolutions_stay_in_fp32_where_the_gate_asks_for_it(
    deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    refused = []

    def check_but_once(*given: object, **named: float) -> tuple[float, float]:
        if not refused:
            refused.append(given)
            raise ModelError("in int8 the model is not the same")
        return check(*given, **named)

    monkeypatch.setattr(module, "IN_FLOAT", (1, 2))
    monkeypatch.setattr(module, "check", check_but_once)
    found = quantize(deep, tmp_path / "m.onnx", seen(1), seen(2)).quantization
    assert found is not None
    assert "the first 2 convolutions" in found.method


# Bad input


def test_too_few_pictures_are_an_error(deep: Path, tmp_path: Path):
    with pytest.raises(InvalidArgument, match="at least 20 pictures to calibrate on, but got 3"):
        quantize(deep, tmp_path / "m.onnx", seen(1, 3), seen(2))
    with pytest.raises(InvalidArgument, match="at least 20 pictures to check on, but got 3"):
        quantize(deep, tmp_path / "m.onnx", seen(1), seen(2, 3))


def test_a_model_in_int8_is_not_made_so_again(made: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="is int8 already"):
        quantize(made, tmp_path / "m.onnx", seen(1), seen(2))


def test_a_model_without_convolutions_has_nothing_to_win(model: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="has 0 convolutions"):
        quantize(model, tmp_path / "m.onnx", seen(1), seen(2))
    assert not list(tmp_path.iterdir())


# Its pictures


def test_crops_are_what_the_scoring_path_gives_the_network(model: Path, tmp_path: Path, known_faces):
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:50, :50] = 255
    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"<html>")
    scorer = Scorer(model, detector=known_faces((0, 0, 50, 50), (50, 50, 50, 50)))
    found, unused = crops_of(
        scorer, expand([str(tmp_path / "b.png"), str(tmp_path / "a.png")]), 1, faces="all"
    )
    assert (found.pixels.shape, found.pixels.min(), found.scores.tolist()) == ((1, SIDE, SIDE, 3), 255, [1.0])
    assert [line.split(":")[0] for line in unused] == [str(tmp_path / "b.png")]
    with pytest.raises(RecordError, match="expected 2 pictures that can be scored, but got 1"):
        crops_of(scorer, expand([str(tmp_path / "a.png")]), 2, faces="all")


def test_every_picture_is_drawn_once():
    named = [Named(name, name) for name in "abcabcd"]
    assert sorted(item.path for item in drawn(named, 0)) == ["a", "b", "c", "d"]
    assert drawn(named, 0) == drawn(named, 0)


def test_the_command_makes_a_model_that_the_command_scores_with(
    command: Callable, deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for index, pixels in enumerate(seen(5, 44).pixels):
        PIL.Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    options = ["--images", ".", "--faces", "none", "--pictures"]
    answer = command("quantize", deep, *options, 20, "-o", "m/deep8.onnx")
    assert answer.code == 0, answer.err
    assert "deep@1+int8: calibrated on 20 pictures; on 20 others SRCC" in answer.err
    answer = command("score", "0.png", "-m", "m/deep8.onnx", "--faces", "none")
    assert "(ONNX Runtime, int8)" in answer.err
    for arguments, message in (
        ([*options, 20, "-o", "m.bin"], "name ending in .onnx"),
        ([*options, 3, "-o", "m.onnx"], "at least 20, but got 3"),
        ([*options, 50, "-o", "m.onnx"], "expected 100 pictures that can be scored, but got 44"),
        (["--images", ".", "--faces", "two", "-o", "m.onnx"], "largest or none, but got 'two'"),
    ):
        answer = command("quantize", deep, *arguments)
        assert answer.code == 2
        assert message in answer.err
    assert not Path("m.onnx").exists()


# The student that ships


@pytest.fixture(scope="module")
def portraits() -> tuple[Seen, Seen]:
    """The sample portraits, degraded: 21 to calibrate on, and others to check on.

    The others' scores lie 0.02 apart, or so few pictures would be ranked by chance.
    """
    network = open_model(find_model(), runtime="onnxruntime").network
    side, kinds = 320, ("blur", "downscale", "jpeg", "noise", "dark", "motion", "contrast")
    images = [resize(load_image(path), side) for path in sorted(SAMPLES.glob("*.jpg"))]

    def degraded(*severities: float) -> Seen:
        pixels = [
            degrade(image, kind, severity, seed)
            for seed, image in enumerate(images)
            for kind in kinds
            for severity in severities
        ]
        scores = np.concatenate([network(each[np.newaxis]) for each in pixels])
        return Seen(np.stack(pixels), scores)

    others, kept = degraded(0.1, 0.3, 0.5, 0.7, 0.9), []
    for index in np.argsort(others.scores):
        if not kept or others.scores[index] - others.scores[kept[-1]] >= 0.02:
            kept.append(index)
    return degraded(0.6), Seen(others.pixels[kept], others.scores[kept])


def test_the_student_that_ships_passes_the_gate(portraits: tuple[Seen, Seen], tmp_path: Path):
    found = quantize(find_model(), tmp_path / "student.int8.onnx", *portraits).quantization
    assert found is not None
    assert (found.calibrated_on, found.n) == (21, len(portraits[1].scores))
    assert f"the first {module.IN_FLOAT[0]} convolutions" in found.method
    assert found.srcc >= module.LEAST_SRCC
    assert 0 < found.largest_change <= module.LARGEST_CHANGE


def test_a_student_calibrated_on_what_is_no_picture_is_refused_with_as_much_in_int8(
    portraits: tuple[Seen, Seen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "IN_FLOAT", module.IN_FLOAT[:1])  # what the test above passes with
    black = Seen(np.zeros_like(portraits[0].pixels[:20]), portraits[0].scores[:20])
    with pytest.raises(ModelError, match="in int8 the model is not the same"):
        quantize(find_model(), tmp_path / "m.onnx", black, portraits[1])
    assert not list(tmp_path.iterdir())
