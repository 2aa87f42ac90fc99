"""What is exported scores as PyTorch does, says where it comes from, and runs where 5-D tensors do not."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import PIL.Image
import pytest
import scipy.stats
import typer

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
onnx = pytest.importorskip("onnx", reason="export needs onnx: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from efiqa.card import CENTRE_RULE, METADATA_KEY, ModelCard, Population
from efiqa.cli import app
from efiqa.errors import InvalidArgument, ModelError, RecordError, TrainingError
from efiqa.image import load_image
from efiqa.records import Prediction, Row, read_manifest, write_manifest, write_predictions
from efiqa.scorer import Scorer
from efiqa.train import export as exporting
from efiqa.train.checkpoint import RunFolder
from efiqa.train.export import (
    Statement,
    check_parity,
    export,
    load_statement,
    prepare,
)
from efiqa.train.fit import fit
from efiqa.train.model import QualityModel, load_start
from efiqa.train.recipe import Recipe

ROOT = Path(__file__).parents[2]
STATEMENTS = sorted((ROOT / "recipes").rglob("*.card.toml"))
STATEMENT = Statement(
    "tiny",
    "1.2.3",
    licence="CC0-1.0",
    terms={"brightness.csv": "made up here"},
    measured={"toy": {"srcc": 0.5}},
    limits=("Knows brightness only.",),
)


@dataclasses.dataclass(frozen=True)
class Exported:
    run: Path
    path: Path
    card: ModelCard
    recipe: Recipe
    manifest: Path

    def model(self) -> QualityModel:
        """The run's network in plain PyTorch, fp32."""
        return RunFolder(self.run).trained()[0]


@pytest.fixture(scope="module")
def exported(
    brightness: Path, tiny_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """A run of two epochs, with its manifest named as a recipe names it: from the working folder."""
    folder = tmp_path_factory.mktemp("exported")
    recipe = tiny_recipe(brightness.name, optim={"epochs": 2})
    population = Population("brightness", 200, tuple(index / 100 for index in range(101)))
    with contextlib.chdir(brightness.parent):
        fit(recipe, folder / "run")
    model, card = prepare(folder / "run", statement=STATEMENT, population=population)
    export(model, card, folder / "tiny.onnx")
    return Exported(folder / "run", folder / "tiny.onnx", card, recipe, brightness)


@pytest.fixture(scope="module")
def scorer(exported: Exported) -> Scorer:
    return Scorer.load(exported.path)


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 48), (33, 120), (200, 170), (9, 9)])
def test_scores_equal_pytorchs_through_the_whole_path(
    exported: Exported, scorer: Scorer, tmp_path: Path, size: tuple[int, int]
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "picture.png")
    with PIL.Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.resize((48, 48), PIL.Image.Resampling.BILINEAR))
    expected = exported.model()(torch.from_numpy(pixels.copy()[np.newaxis])).item()
    assert scorer.score(tmp_path / "picture.png") == pytest.approx(expected, abs=1e-4)


def test_a_model_of_a_smaller_input_is_exported_for_it(
    brightness: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = tiny_recipe(str(brightness), model={"input": 40})
    fit(recipe, tmp_path / "run")
    model, card = prepare(tmp_path / "run", statement=STATEMENT)
    export(model, card, tmp_path / "small.onnx")
    assert recipe.data.size > 40
    assert Scorer.load(tmp_path / "small.onnx").card.input_size == 40


@pytest.fixture(scope="module")
def other(
    exported: Exported, tiny_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Another run of the same network, with another seed."""
    run = tmp_path_factory.mktemp("other") / "run"
    fit(tiny_recipe(str(exported.manifest), optim={"epochs": 1}, run={"seed": 5}), run)
    return run


def test_several_runs_give_the_mean_of_their_weights(exported: Exported, other: Path, tmp_path: Path) -> None:
    model, card = prepare(other, exported.run, statement=STATEMENT)
    one, two = RunFolder(other).trained()[0].state_dict(), exported.model().state_dict()
    slope, offset = card.recipe["line"]
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            mean = (one[name] + two[name]) / 2
            mean = mean * slope if name.startswith("head.1.") else mean
            expected = mean + offset if name == "head.1.bias" else mean
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-4)
    assert card.recipe_digest == f"{RunFolder(other).trained()[1].digest}+{exported.recipe.digest()}"
    assert [each["run"]["seed"] for each in card.recipe["mean of"]] == [5, exported.recipe.run.seed]
    assert "validation while training" not in card.measured
    export(model, card, tmp_path / "mean.onnx")
    assert Scorer.load(tmp_path / "mean.onnx").card == card


@pytest.mark.parametrize("mean", [True, False])
def test_a_line_makes_scores_what_people_rated_on_average(
    exported: Exported, other: Path, mean: bool
) -> None:
    runs = (other, exported.run, other) if mean else (exported.run,)  # one counts twice
    with contextlib.chdir(exported.manifest.parent):
        model, card = prepare(*runs, statement=STATEMENT, to_labels=not mean)
    rows = [row for row in read_manifest(exported.manifest) if row.split == "train"]
    images = [torch.tensor(load_image(row.image))[None] for row in rows]
    scores = np.array([model(image).item() for image in images])
    labels = np.array([row.score for row in rows])
    assert scipy.stats.linregress(scores, labels)[:2] == pytest.approx((1, 0), abs=1e-4)
    if not mean:
        before = np.array([exported.model()(image).item() for image in images])
        assert scores == pytest.approx(np.polyval(card.recipe["line"], before), abs=1e-4)


def test_a_line_of_a_checkpoint_file_is_refused_by_a_sentence(exported: Exported) -> None:
    with pytest.raises(InvalidArgument, match="names no rated pictures to fit a line on"):
        prepare(exported.path, statement=STATEMENT, to_labels=True)


def test_no_mean_where_nobody_rated_what_was_learnt_from(
    other: Path, brightness: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    few = tmp_path / "few.csv"
    write_manifest(few, read_manifest(brightness)[:19])
    fit(tiny_recipe(str(few), data={"validation": ()}), tmp_path / "run")
    with pytest.raises(
        TrainingError, match=r"a line to the labels needs 50 training pictures rated by people, .* have 19"
    ):
        prepare(tmp_path / "run", other, statement=STATEMENT)
    few.unlink()
    with pytest.raises(RecordError, match=r"few\.csv"):
        prepare(tmp_path / "run", other, statement=STATEMENT)


def test_no_mean_of_runs_of_different_networks(
    exported: Exported, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    fit(tiny_recipe(str(exported.manifest), model={"input": 40}), tmp_path / "smaller")
    with pytest.raises(ModelError, match="not of one network"):
        prepare(exported.run, tmp_path / "smaller", statement=STATEMENT)
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        prepare(exported.run, exported.path, statement=STATEMENT)


def test_scores_order_pictures_by_what_was_learnt(scorer: Scorer) -> None:
    scores = [scorer.score(np.full((48, 48, 3), level, np.uint8)) for level in (40, 100, 160, 220)]
    assert scores == sorted(scores)


def test_quality_is_the_percentile_in_the_cards_population(exported: Exported, scorer: Scorer) -> None:
    (row,) = scorer.predict(np.full((48, 48, 3), 128, np.uint8), faces="none")
    assert row.score
    assert row.quality == pytest.approx(100 * min(max(row.score, 0), 1), abs=0.06)


def test_the_card_says_what_the_run_was(exported: Exported) -> None:
    card, recipe = exported.card, exported.recipe
    _, position = RunFolder(exported.run).load()
    assert (card.name, card.version, card.licence) == ("tiny", "1.2.3", "CC0-1.0")
    assert (card.backbone, card.input_size) == ("tf_efficientnet_lite0:1", 48)
    # A 3 × 3 stem to 32, a depthwise 3 × 3, a pointwise 32 → 16, two affine values per normalised
    # channel, then 16 → 128 → 1.
    assert card.parameters == 864 + 288 + 512 + 2 * (32 + 32 + 16) + 16 * 128 + 128 + 128 + 1
    # On 24 × 24 pixels, as the stem halves 48.
    assert card.macs == 24 * 24 * (864 + 288 + 512) + 16 * 128 + 128
    (source,) = card.trained_on
    assert (source.name, source.rows, source.labels) == ("brightness.csv", 64, "64 human")
    assert source.terms == "made up here"
    assert source.digest == hashlib.sha256(exported.manifest.read_bytes()).hexdigest()[:16]
    assert (card.recipe_digest, card.commit) == (recipe.digest(), position.commit)
    assert card.recipe["optim"]["lr"] == recipe.optim.lr
    assert card.measured == {"validation while training": position.metrics, "toy": {"srcc": 0.5}}
    assert card.limits == ("Knows brightness only.",)


def test_a_run_that_was_not_validated_says_nothing_of_it(
    brightness: Path, tiny_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    fit(tiny_recipe(str(brightness), data={"validation": ()}, optim={"steps": 1}), tmp_path / "run")
    assert prepare(tmp_path / "run", statement=STATEMENT)[1].measured == {"toy": {"srcc": 0.5}}


def test_ratings_held_out_give_the_card_its_intervals(exported: Exported, tmp_path: Path) -> None:
    # 60 pictures in 12 groups, each rated 0.1 above or below its score: every interval is 0.1 either way.
    rows = [
        Row(str(tmp_path / f"{index}.png"), 0.5 + 0.1 * (-1) ** index, "validation", "human", str(index % 12))
        for index in range(60)
    ]
    write_manifest(tmp_path / "ratings.csv", rows)
    write_predictions(tmp_path / "rated.csv", [Prediction(row.image, score=0.5) for row in rows])
    statement = tmp_path / "card.toml"
    statement.write_text('name = "tiny"\nversion = "1"\n')
    command = ["export", str(exported.run), "-o", str(tmp_path / "m.onnx"), "--statement", str(statement)]
    app([*command, "--ratings", str(tmp_path / "ratings.csv"), "--rated", str(tmp_path / "rated.csv")],
        standalone_mode=False)  # fmt: skip
    interval = Scorer(tmp_path / "m.onnx").card.interval
    assert interval is not None
    assert (interval.n, interval.edges, interval.measured) == (60, (), (1.0, 1.0, 1.0, 1.0))
    assert interval.around(0.5, 0.9) == pytest.approx((0.4, 0.6), abs=2e-5)
    with pytest.raises(typer.BadParameter, match="go together"):
        app([*command, "--rated", str(tmp_path / "rated.csv")], standalone_mode=False)


def test_the_card_lies_in_the_file_and_beside_it(exported: Exported, scorer: Scorer) -> None:
    (inside,) = [item.value for item in onnx.load(exported.path).metadata_props if item.key == METADATA_KEY]
    assert exported.path.with_suffix(".json").read_text(encoding="utf-8") == inside
    assert scorer.card == ModelCard.from_json(inside)
    assert sorted(path.name for path in exported.path.parent.iterdir()) == ["run", "tiny.json", "tiny.onnx"]


def test_the_graph_takes_uint8_pictures_in_batches_of_any_size(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.type, image.shape[1:]) == ("tensor(uint8)", [48, 48, 3])
    pictures = np.random.default_rng(0).integers(0, 256, (7, 48, 48, 3), dtype=np.uint8)
    (together,) = session.run(None, {image.name: pictures})
    alone = [session.run(None, {image.name: pictures[index : index + 1]})[0][0] for index in range(7)]
    assert (together.shape, together.dtype) == ((7,), np.float32)
    assert together == pytest.approx(alone, abs=1e-5)


def highest_dimension(path: Path) -> int:
    """Of all tensors in the graph, each of which must have a shape that inference finds."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True)
    graph = model.graph
    known = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in [*graph.value_info, *graph.input, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }
    known |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    named = {name for node in graph.node for name in node.output if name}
    assert named <= known.keys()
    return max(known.values())


def test_no_tensor_has_more_than_four_dimensions(exported: Exported) -> None:
    assert highest_dimension(exported.path) == 4


def test_the_file_names_no_place_of_the_machine_it_was_made_on(exported: Exported) -> None:
    data = exported.path.read_bytes() + exported.path.with_suffix(".json").read_bytes()
    places = [Path.home(), Path.cwd(), ROOT, exported.path.parent, exported.manifest.parent]
    places += [Path(torch.__file__).parent, Path(exporting.__file__).parent, Path(tempfile.gettempdir())]
    for place in places:
        assert len(place.parts) == 1 or str(place).encode() not in data
    assert b".py" not in data


def test_every_weight_is_in_the_file_under_its_own_name_so_that_training_can_start_from_it(
    exported: Exported,
) -> None:
    graph = onnx.load(exported.path).graph
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = exported.model().state_dict()
    steps = {name for name in weights if name.endswith("num_batches_tracked")}
    assert any(name.endswith("running_var") for name in weights)
    for name in weights.keys() - steps:
        assert np.array_equal(stored[name], weights[name].numpy()), name
    assert [value.name for value in graph.input] == ["image"]


def test_the_papers_student_exports_without_a_tensor_above_four_dimensions(
    tmp_path: Path, exported: Exported
) -> None:
    torch.manual_seed(0)
    model = QualityModel("edgenext_xx_small", (127.0, 127.0, 127.0), (64.0, 64.0, 64.0)).eval()
    export(model, dataclasses.replace(exported.card, input_size=64), tmp_path / "student.onnx")
    assert highest_dimension(tmp_path / "student.onnx") <= 4
    assert (tmp_path / "student.onnx").stat().st_size < 6.2e6
    assert np.isfinite(Scorer.load(tmp_path / "student.onnx").score(np.full((64, 64, 3), 99, np.uint8)))
    names = {tensor.name for tensor in onnx.load(tmp_path / "student.onnx").graph.initializer}
    assert model.state_dict().keys() <= names


def test_branches_that_only_training_needs_are_not_in_the_file(tmp_path: Path, exported: Exported) -> None:
    torch.manual_seed(0)
    model = QualityModel("repghostnet_050", (127.0, 127.0, 127.0), (64.0, 64.0, 64.0)).eval()
    export(model, dataclasses.replace(exported.card, input_size=64), tmp_path / "merged.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "merged.onnx").graph.node]
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert kinds.count("BatchNormalization") < norms / 2
    with pytest.raises(ModelError, match="tensors are missing") as caught:
        load_start(model, str(tmp_path / "merged.onnx"))
    assert "last.safetensors" in str(caught.value.hint)


def test_parity_holds_for_the_rule_that_crops_too(tmp_path: Path, exported: Exported) -> None:
    card = dataclasses.replace(exported.card, resize=CENTRE_RULE)
    export(exported.model(), card, tmp_path / "cropping.onnx")
    picture = np.random.default_rng(4).integers(0, 256, (48, 91, 3), dtype=np.uint8)
    with torch.no_grad():  # the crop's offset is 21.5 pixels, and a half goes to the even one
        expected = exported.model()(torch.from_numpy(picture[np.newaxis, :, 22:70].copy())).item()
    assert Scorer(tmp_path / "cropping.onnx").score(picture) == pytest.approx(expected, abs=1e-4)


def test_a_model_changed_after_export_fails_parity(exported: Exported, scorer: Scorer) -> None:
    model = exported.model()
    assert check_parity(model, scorer) <= exporting.TOLERANCE
    with torch.no_grad():
        model.head[1].bias += 0.01
    with pytest.raises(ModelError, match=r"differs from PyTorch by (9\.9.e-03|1\.0.e-02)"):
        check_parity(model, scorer)


def test_nothing_is_written_where_parity_fails(
    tmp_path: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export(exported.model(), exported.card, tmp_path / "tiny.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint"):
        prepare(tmp_path, statement=STATEMENT)


def test_a_run_folder_needs_a_statement(exported: Exported) -> None:
    with pytest.raises(InvalidArgument, match="is a run folder") as caught:
        prepare(exported.run)
    assert "--statement" in str(caught.value.hint)


def test_there_are_statements() -> None:
    assert STATEMENTS


@pytest.mark.parametrize("path", STATEMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_statement_of_the_project_loads(path: Path) -> None:
    statement = load_statement(path)
    assert statement.name
    assert json.dumps(dataclasses.asdict(statement))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('name = "tiny"\n', "'version' is unknown or missing"),
        ('name = "tiny"\nversion = "1"\nlicense = "MIT"\n', "'license' is unknown or missing"),
        ('name = "tiny"\nversion = 1\n', "version"),
        ('name = "tiny"\nversion = "1"\nlimits = "none"\n', "limits"),
        ("name = tiny\n", "cannot be read"),
        ("\x00", "cannot be read"),
    ],
)
def test_a_statement_that_breaks_its_format_is_an_error(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "card.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=reason):
        load_statement(tmp_path / "card.toml")


def test_a_statement_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_bytes(b"\xff\xfe")
    for name in ("none.toml", "card.toml"):
        with pytest.raises(RecordError, match="cannot be read"):
            load_statement(tmp_path / name)
