"""A run folder holds the old state or the new one, never half of one, and nothing that is unpickled."""

from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from safetensors.torch import save_file

from efiqa.errors import OutputError, TrainingError
from efiqa.train import checkpoint
from efiqa.train.checkpoint import Position, RunFolder, current_commit, model_tensors
from efiqa.train.learner import Learner
from efiqa.train.model import build_model
from efiqa.train.recipe import Recipe

Trained = tuple[Learner, dict[str, torch.Tensor], torch.optim.Optimizer]


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    return tiny_recipe("labels.csv")


def trained(recipe: Recipe, seed: int = 0, *, teacher_width: int = 0, ema: bool = False) -> Trained:
    """A model, its average and its optimiser after two steps, in the layout that training uses."""
    torch.manual_seed(seed)
    learner = Learner(build_model(recipe.model), recipe, teacher_width)
    learner = learner.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        scores, features = learner(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
        (scores.sum() + features.sum()).backward()
        optimizer.step()
    average = {name: tensor + 1 for name, tensor in learner.model.state_dict().items()} if ema else {}
    return learner, average, optimizer


def position_of(recipe: Recipe, step: int = 2) -> Position:
    sources = [{"manifest": "labels.csv", "rows": 2, "labels": {"human": 2}, "sha256": "0" * 16}]
    return Position(step, 4, recipe.to_dict(), recipe.digest(), sources, {"srcc": 0.5}, "unknown")


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("teacher_width", [0, 5])
def test_what_is_saved_comes_back_bit_for_bit(
    tmp_path: Path, tiny_recipe: Callable[..., Recipe], teacher_width: int, ema: bool
) -> None:
    recipe = tiny_recipe("labels.csv", distil={"teachers": ("teacher",)}, loss={"features": 1.0})
    made = trained(recipe, teacher_width=teacher_width, ema=ema)
    at = dataclasses.replace(position_of(recipe), best=0.5, scaler={"scale": 1024.0, "_growth_tracker": 3})
    RunFolder(tmp_path / "run").save(*made, at)
    other = trained(recipe, seed=1, teacher_width=teacher_width, ema=ema)
    position = RunFolder(tmp_path / "run").resume(*other, recipe)
    assert position == RunFolder(tmp_path / "run").load()[1]
    assert (position.step, position.seen, position.metrics) == (2, 4, {"srcc": 0.5})
    assert (position.best, position.scaler) == (0.5, {"scale": 1024.0, "_growth_tracker": 3})
    assert bool(made[1]) == ema
    assert (made[0].regressor is not None) == bool(teacher_width)
    for before, after in ((made[0].state_dict(), other[0].state_dict()), (made[1], other[1])):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    before, after = (chosen[2].state_dict()["state"] for chosen in (made, other))
    assert before.keys() == after.keys()
    for index, state in before.items():
        assert all(torch.equal(state[name], after[index][name]) for name in state)


def test_a_new_folder_has_nothing_to_resume(tmp_path: Path, recipe: Recipe) -> None:
    assert RunFolder(tmp_path).resume(*trained(recipe), recipe) is None


def test_only_the_models_tensors_are_the_models(tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    recipe = tiny_recipe("labels.csv", distil={"teachers": ("teacher",)}, loss={"features": 1.0})
    made = trained(recipe, teacher_width=5)
    RunFolder(tmp_path).save(*made, position_of(recipe))
    tensors, _ = RunFolder(tmp_path).load()
    assert model_tensors(tensors).keys() == made[0].model.state_dict().keys()
    assert {name.split(".")[0] for name in tensors} == {"model", "optimizer", "regressor"}


def test_the_average_is_the_trained_model_where_there_is_one(tmp_path: Path, recipe: Recipe) -> None:
    for ema in (False, True):
        made = trained(recipe, ema=ema)
        run = RunFolder(tmp_path / str(ema))
        run.save(*made, position_of(recipe))
        model, position = run.trained()
        assert not model.training
        assert position.step == 2
        expected = made[1] if ema else made[0].model.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_best_holds_only_what_is_exported(tmp_path: Path, recipe: Recipe) -> None:
    learner, _, _ = trained(recipe)
    run = RunFolder(tmp_path)
    run.save_best(learner.model.state_dict(), position_of(recipe))
    tensors, position = run.load(run.best)
    assert {name.split(".")[0] for name in tensors} == {"model"}
    assert position.metrics == {"srcc": 0.5}
    model, _ = run.trained(run.best)
    assert all(torch.equal(t, learner.model.state_dict()[name]) for name, t in model.state_dict().items())


def test_a_save_that_fails_midway_keeps_the_old_file(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    run.save(*trained(recipe), position_of(recipe))
    before = run.last.read_bytes()

    def fill_the_disk(_tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(before[: len(before) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fill_the_disk)
    with pytest.raises(OutputError, match=r"last\.safetensors cannot be written.*No space left"):
        run.save(*trained(recipe, seed=1), position_of(recipe, step=3))
    assert run.last.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_half_written_file_beside_it_is_never_read(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder(tmp_path)
    run.save(*trained(recipe), position_of(recipe))
    (tmp_path / "last.partial").write_bytes(b"half")  # killed while saving the next
    assert run.load()[1].step == 2
    run.save(*trained(recipe), position_of(recipe, step=3))
    assert run.load()[1].step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_another_recipes_run_is_not_resumed(
    tmp_path: Path, recipe: Recipe, tiny_recipe: Callable[..., Recipe]
) -> None:
    RunFolder(tmp_path).save(*trained(recipe), position_of(recipe))
    other = tiny_recipe("labels.csv", optim={"lr": 0.5})
    with pytest.raises(TrainingError, match=f"{recipe.digest()}, now {other.digest()}") as caught:
        RunFolder(tmp_path).resume(*trained(other), other)
    assert "another folder" in str(caught.value.hint)


FOREIGN: list[Any] = [
    pytest.param({}, id="no metadata"),
    pytest.param({"metadata": {"format": "pt"}}, id="metadata of another program"),
    pytest.param({"metadata": {"position": "not JSON"}}, id="position is not JSON"),
    pytest.param({"metadata": {"position": "[]"}}, id="position is a list"),
    pytest.param({"metadata": {"position": '{"step": 1}'}}, id="position lacks fields"),
]


@pytest.mark.parametrize("arguments", FOREIGN)
def test_a_foreign_safetensors_file_is_an_error(tmp_path: Path, arguments: dict[str, Any]) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "last.safetensors", **arguments)
    with pytest.raises(TrainingError, match="holds no checkpoint of efiqa"):
        RunFolder(tmp_path).load()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04\x95" + bytes(30)])
def test_a_file_that_is_no_safetensors_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.safetensors").write_bytes(content)
    with pytest.raises(TrainingError, match="holds no checkpoint of efiqa"):
        RunFolder(tmp_path).load()


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no checkpoint of efiqa"):
        RunFolder(tmp_path).load()


def test_nothing_on_disk_is_pickled(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder(tmp_path)
    run.save(*trained(recipe), position_of(recipe))
    run.log(event="start")
    data = run.last.read_bytes()
    header = json.loads(
        data[8 : 8 + int.from_bytes(data[:8], "little")]
    )  # safetensors: length, JSON, numbers
    assert json.loads(header["__metadata__"]["position"]) == dataclasses.asdict(position_of(recipe)) | {
        "recipe": json.loads(json.dumps(recipe.to_dict()))
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.safetensors", "log.jsonl"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import torch
from efiqa.errors import OutputError
from efiqa.train.checkpoint import RunFolder
from efiqa.train.recipe import Recipe
sys.path.insert(0, sys.argv[2])
from test_checkpoint import position_of, trained
from conftest import recipe_over

recipe = recipe_over("labels.csv")
run = RunFolder(Path(sys.argv[1]))
run.save(*trained(recipe), position_of(recipe))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    run.save(*trained(recipe, seed=1), position_of(recipe, step=3))
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="file size limits are tried on Linux")
def test_a_real_limit_on_file_size_keeps_the_old_checkpoint(tmp_path: Path, recipe: Recipe) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), here], capture_output=True, text=True, timeout=120
    )
    assert "last.safetensors cannot be written" in done.stdout, done.stderr
    run = RunFolder(tmp_path)
    assert run.last.stat().st_size > 20_000
    assert run.load()[1].step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"log\.jsonl cannot be written"):
        RunFolder(tmp_path).log(event="start")


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit() == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert current_commit() == "unknown"
