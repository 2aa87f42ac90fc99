"""A teacher in the loop says what its PyTorch model says, of the very crops that it is shown."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from efiqa import Scorer
from efiqa.errors import ModelError, RecordError, TrainingError
from efiqa.train.checkpoint import Position, RunFolder
from efiqa.train.fit import fit
from efiqa.train.model import QualityModel, build_model
from efiqa.train.recipe import Recipe
from efiqa.train.teacher import Teacher, TeacherBeside, load_teachers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

MakeRecipe = Callable[..., Recipe]


def run_of(folder: Path, recipe: Recipe, seed: int) -> tuple[str, QualityModel]:
    """A run folder that holds a network with random weights and statistics, and the network."""
    torch.manual_seed(seed)
    model = build_model(recipe.model).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    run = RunFolder(folder)
    position = Position(7, 0, recipe.to_dict(), recipe.digest(), [], {}, "unknown")
    optimizer = torch.optim.AdamW(model.parameters())
    holder = torch.nn.ModuleDict({"model": model})
    run.save(holder, {}, optimizer, position)
    return str(folder), model


@pytest.fixture(scope="module")
def teachers(
    tmp_path_factory: pytest.TempPathFactory, tiny_recipe: MakeRecipe
) -> list[tuple[str, QualityModel]]:
    folder = tmp_path_factory.mktemp("teachers")
    wider = tiny_recipe("labels.csv", model={"neck": 24})
    plain = tiny_recipe("labels.csv")
    return [run_of(folder / "wide", wider, 1), run_of(folder / "plain", plain, 2)]


@torch.no_grad()
def test_several_teachers_scores_are_averaged_and_the_firsts_features_are_used(
    tmp_path: Path, teachers: list[tuple[str, QualityModel]]
) -> None:
    crops = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    scores = [model(crops) for _, model in teachers]
    features = [model.features(crops) for _, model in teachers]
    models, digests = load_teachers([run for run, _ in teachers], 32)
    assert [model.width for model in models] == [24, 16]
    assert [digest.partition("@")[2] for digest in digests] == ["7", "7"]
    teacher = Teacher(models[:1], 32, tmp_path)
    for found in (teacher(crops), TeacherBeside(models[:1], torch.device("cpu"))(crops)):
        assert [part.dtype for part in found] == [torch.float32, torch.float32]
        torch.testing.assert_close(found[0], scores[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(found[1], features[0], rtol=0, atol=1e-4)
    teacher.close()

    both = Teacher(models, 32, tmp_path)
    copy = pickle.loads(pickle.dumps(both))  # as it travels to the loader's processes
    for found in (both(crops), copy(crops), TeacherBeside(models, torch.device("cpu"))(crops)):
        torch.testing.assert_close(found[0], (scores[0] + scores[1]) / 2, rtol=0, atol=1e-4)
        torch.testing.assert_close(found[1], features[0], rtol=0, atol=1e-4)
    both.close()
    assert list(tmp_path.iterdir()) == []


@torch.no_grad()
def test_a_model_that_ships_is_a_teacher_too_and_says_what_it_says(tmp_path: Path) -> None:
    pixels = (
        np.random.default_rng(2).integers(0, 256, (10, 10, 3), dtype=np.uint8).repeat(32, 0).repeat(32, 1)
    )
    models, digests = load_teachers(["student"], 320)
    teacher = Teacher(models, 320, tmp_path)
    scorer = Scorer(runtime="onnxruntime")
    assert digests == [scorer.digest]
    scores, features = teacher(torch.from_numpy(pixels[np.newaxis]))
    assert float(scores[0]) == pytest.approx(scorer.score(pixels), abs=2e-5)
    assert features.shape == (1, 512)
    teacher.close()


def test_a_file_that_is_no_exported_model_is_no_teacher(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match="does not hold the weights of a network"):
        load_teachers([str(model)], 32)
    with pytest.raises(ModelError):
        load_teachers([str(tmp_path / "none.onnx")], 32)


def test_a_folder_without_a_checkpoint_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint of efiqa"):
        load_teachers([str(tmp_path / "none")], 32)


def test_a_teacher_of_smaller_pictures_than_the_crops_is_an_error(
    tmp_path: Path, teachers: list[tuple[str, QualityModel]]
) -> None:
    with pytest.raises(RecordError, match=r"was made for 48 px, less than data\.crop 64"):
        load_teachers([teachers[0][0]], 64)


def test_a_student_learns_its_teachers_order_and_features_and_resumes(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    """Without labels: only what the teacher, which learnt brightness, says of degraded crops."""
    teacher = tiny_recipe(brightness, optim={"epochs": 12})
    fit(teacher, tmp_path / "teacher")
    recipe = tiny_recipe(
        brightness,
        data={"degraded": 1.0},
        ladder={"kinds": ("dark", "bright")},
        distil={"teachers": (str(tmp_path / "teacher"),)},
        loss={"mse": 0.0, "plcc": 0.0, "distil": 1.0, "features": 0.1},
        optim={"epochs": 8},
        run={"checkpoint_seconds": 0.0},
    )

    class Stop(Exception):
        pass

    def stop(step: int, _steps: int, _values: object) -> None:
        if step == 5:
            raise Stop

    with pytest.raises(Stop):
        fit(recipe, tmp_path / "student", progress=stop)
    position = fit(recipe, tmp_path / "student")
    assert position.metrics["srcc"] > 0.8
    assert not list((tmp_path / "student").glob("*.onnx"))
    fit(recipe, tmp_path / "undisturbed")
    first, second = (RunFolder(tmp_path / name).load()[0] for name in ("student", "undisturbed"))
    assert "regressor.weight" in first
    assert all(torch.equal(first[name], second[name]) for name in second)
