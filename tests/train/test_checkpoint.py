"""A run folder holds the old state or the new one, never half of one, and nothing that is unpickled."""

from __future__ import annotations

import dataclasses
import errno
import json
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
from efiqa.train.model import QualityModel
from efiqa.train.recipe import Recipe

Trained = tuple[QualityModel, torch.optim.Optimizer]


@pytest.fixture
def recipe(tiny_recipe: Callable[..., Recipe]) -> Recipe:
    return tiny_recipe("labels.csv")


def trained(recipe: Recipe, seed: int = 0) -> Trained:
    """A model and its optimiser after two steps, in the layout that training uses."""
    torch.manual_seed(seed)
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)).sum().backward()
        optimizer.step()
    return model, optimizer


def position_of(recipe: Recipe, step: int = 2) -> Position:
    sources = [{"manifest": "labels.csv", "rows": 2, "labels": {"human": 2}, "sha256": "0" * 16}]
    return Position(step, 4, recipe.to_dict(), recipe.digest(), sources, {"srcc": 0.5}, "unknown")


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, recipe: Recipe) -> None:
    model, optimizer = trained(recipe)
    RunFolder(tmp_path / "run").save(model, optimizer, position_of(recipe))
    other_model, other_optimizer = trained(recipe, seed=1)
    position = RunFolder(tmp_path / "run").resume(other_model, other_optimizer, recipe)
    assert position == RunFolder(tmp_path / "run").load()[1]
    assert (position.step, position.seen, position.metrics) == (2, 4, {"srcc": 0.5})
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other_model.state_dict()[name])
    before, after = (chosen.state_dict()["state"] for chosen in (optimizer, other_optimizer))
    assert before.keys() == after.keys()
    for index, state in before.items():
        assert all(torch.equal(state[name], after[index][name]) for name in state)


def test_a_new_folder_has_nothing_to_resume(tmp_path: Path, recipe: Recipe) -> None:
    assert RunFolder(tmp_path).resume(*trained(recipe), recipe) is None


def test_only_the_models_tensors_are_the_models(tmp_path: Path, recipe: Recipe) -> None:
    model, optimizer = trained(recipe)
    RunFolder(tmp_path).save(model, optimizer, position_of(recipe))
    tensors, _ = RunFolder(tmp_path).load()
    assert model_tensors(tensors).keys() == model.state_dict().keys()
    assert {name.split(".")[0] for name in tensors} == {"model", "optimizer"}


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


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert current_commit() == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert current_commit() == "unknown"
