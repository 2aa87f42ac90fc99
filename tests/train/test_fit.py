"""The training loop learns, survives kills bit for bit, and stops rather than spoil a run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from safetensors.torch import save_file

import efiqa.train.fit
from efiqa.errors import ModelError, RecordError, TrainingError
from efiqa.records import Row, read_manifest
from efiqa.train.checkpoint import RunFolder, model_tensors
from efiqa.train.fit import describe, evaluate, fit, learning_rate
from efiqa.train.model import QualityModel
from efiqa.train.recipe import Optim, Recipe, load_recipe

MakeRecipe = Callable[..., Recipe]

CHILD = """
import sys, time
from pathlib import Path
import torch
from efiqa.train.fit import fit
from efiqa.train.recipe import load_recipe

def progress(step, steps, values):
    print(step, flush=True)
    time.sleep(0.1 if step >= 6 else 0)  # time for the parent to wake up on a busy machine

torch.set_num_threads(1)
fit(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), progress=progress)
"""


def toml(recipe: Recipe) -> str:
    lines = []
    for section, values in recipe.to_dict().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value not in (None, ())]
    return "\n".join(lines)


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def identical(a: Path, b: Path) -> bool:
    """Whether two runs ended with the same model and optimiser, bit for bit."""
    first, second = RunFolder(a).load()[0], RunFolder(b).load()[0]
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_short_run_learns_to_order_pictures_by_brightness(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    losses: list[float] = []
    recipe = tiny_recipe(brightness, optim={"epochs": 12})
    position = fit(recipe, tmp_path, progress=lambda _step, _steps, values: losses.append(values["loss"]))
    assert len(losses) == 12 * 4
    assert sum(losses[-4:]) < 0.3 * sum(losses[:4])
    assert position.metrics["n"] == 40
    assert position.metrics["srcc"] > 0.9
    assert position.metrics["plcc"] > 0.9


def test_a_short_run_learns_in_bf16_with_ladders_and_workers(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    recipe = tiny_recipe(
        brightness,
        data={"workers": 1, "ladder_pairs": 2, "ladder_kinds": ("dark",)},
        loss={"rank": 1.0},
        run={"precision": "bf16"},
        optim={"epochs": 8},
    )
    position = fit(recipe, tmp_path)
    assert position.metrics["srcc"] > 0.8
    assert position.seen == 8 * 4 * (16 + 4)
    last = [line for line in log_of(tmp_path) if "loss" in line][-1]
    total = last["mse"] + last["plcc"] + last["rank"]
    assert last["loss"] == pytest.approx(total, abs=3e-5)


def test_the_same_recipe_gives_the_same_weights(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    recipe = tiny_recipe(brightness, optim={"epochs": 1})
    fit(recipe, tmp_path / "a")
    fit(recipe, tmp_path / "b")
    assert identical(tmp_path / "a", tmp_path / "b")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["saved each step", "saved each epoch"])
def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, seconds: float
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        toml(
            tiny_recipe(
                brightness,
                data={"ladder_pairs": 1},
                loss={"rank": 1.0},
                optim={"epochs": 6},
                run={"checkpoint_seconds": seconds},
            )
        )
    )
    recipe = load_recipe(path)
    fit(recipe, tmp_path / "undisturbed")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(tmp_path / "killed")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        assert child.stdout
        for line in child.stdout:
            if line.strip() == "6":
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    _, position = RunFolder(tmp_path / "killed").load()
    assert 4 <= position.step < 24
    fit(recipe, tmp_path / "killed")
    assert [line["event"] for line in log_of(tmp_path / "killed") if "event" in line].count("resume") == 1
    assert identical(tmp_path / "undisturbed", tmp_path / "killed")
    assert RunFolder(tmp_path / "undisturbed").load()[1] == RunFolder(tmp_path / "killed").load()[1]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(brightness, optim={"epochs": 1})
    done = fit(recipe, tmp_path)
    before = RunFolder(tmp_path).last.read_bytes()
    assert fit(recipe, tmp_path).step == done.step == 4
    assert RunFolder(tmp_path).last.read_bytes() == before


def failing_at(step: int, failure: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A mean squared error that is replaced by `failure` of the predictions at `step`."""
    calls = iter(range(10**6))
    return lambda prediction, target: (
        failure(prediction) if next(calls) == step else (prediction - target).square().mean()
    )


FAILURES = [
    pytest.param("loss", lambda prediction: prediction.sum() * math.nan, id="the loss is NaN"),
    pytest.param("loss", lambda prediction: prediction.sum() * math.inf, id="the loss is infinite"),
    # The root's slope at 0 is infinite, while its value is 0.
    pytest.param("gradient", lambda p: (p - p.detach()).square().sum().sqrt(), id="only the gradient is NaN"),
]


@pytest.mark.parametrize(("name", "failure"), FAILURES)
def test_numbers_that_are_not_finite_stop_the_run_and_keep_the_last_good_checkpoint(
    tmp_path: Path,
    brightness: Path,
    tiny_recipe: MakeRecipe,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failure: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    monkeypatch.setattr(efiqa.train.fit, "mse", failing_at(3, failure))
    with pytest.raises(TrainingError, match=f"the {name} is .* at step 3") as caught:
        fit(tiny_recipe(brightness, run={"checkpoint_seconds": 0.0}), tmp_path)
    assert "optim.lr" in str(caught.value.hint)
    tensors, position = RunFolder(tmp_path).load()
    assert position.step == 3
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_changed_recipe_does_not_go_on_with_an_old_run(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    fit(tiny_recipe(brightness, optim={"epochs": 0.25}), tmp_path)
    before = RunFolder(tmp_path).last.read_bytes()
    with pytest.raises(TrainingError, match="another recipe"):
        fit(tiny_recipe(brightness, optim={"epochs": 0.5}), tmp_path)
    assert RunFolder(tmp_path).last.read_bytes() == before


def test_no_rows_to_learn_from_is_an_error(
    tmp_path: Path, flat_rows: Callable[..., list[Row]], manifest: Callable[..., str], tiny_recipe: MakeRecipe
) -> None:
    path = manifest(flat_rows(4, split="validation"))
    with pytest.raises(TrainingError, match="no row with split 'train'"):
        fit(tiny_recipe(path), tmp_path / "run")


def test_a_manifest_or_start_that_is_not_there_is_an_error(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    with pytest.raises(RecordError, match=r"none\.csv cannot be read"):
        fit(tiny_recipe(tmp_path / "none.csv"), tmp_path / "run")
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        fit(tiny_recipe(brightness, model={"start": str(tmp_path / "none.safetensors")}), tmp_path / "run")


def test_a_run_starts_from_the_weights_it_is_given(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    torch.manual_seed(7)
    start = QualityModel("tf_efficientnet_lite0:1", (127.0,) * 3, (64.0,) * 3)
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    # So small a rate leaves the weights where they were.
    recipe = tiny_recipe(
        brightness,
        model={"start": str(tmp_path / "start.safetensors")},
        optim={"epochs": 0.25, "lr": 1e-12},
    )
    fit(recipe, tmp_path / "run")
    ended = model_tensors(RunFolder(tmp_path / "run").load()[0])
    for name, parameter in start.named_parameters():
        torch.testing.assert_close(ended[name], parameter.detach(), rtol=0, atol=1e-6)
    assert log_of(tmp_path / "run")[0]["weights"].endswith("tensors from start.safetensors, head too")


def test_unreadable_pictures_are_counted_and_named_in_the_log(
    tmp_path: Path, flat_rows: Callable[..., list[Row]], manifest: Callable[..., str], tiny_recipe: MakeRecipe
) -> None:
    rows = flat_rows(16) + flat_rows(4, split="validation")
    path = manifest(rows)
    Path(rows[5].image).write_bytes(b"")
    Path(rows[-1].image).unlink()
    position = fit(tiny_recipe(path, optim={"epochs": 2}), tmp_path / "run")
    assert position.seen == 2 * 15
    assert position.metrics["n"] == 3
    assert position.metrics["unreadable"] == 1
    (told,) = [line for line in log_of(tmp_path / "run") if line.get("event") == "unreadable"]
    assert (told["step"], told["count"]) == (0, 1)
    assert told["pictures"][0].startswith(rows[5].image + ": ")


def test_the_log_is_json_lines_with_rate_and_losses(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    fit(tiny_recipe(brightness, optim={"epochs": 6}), tmp_path)
    lines = log_of(tmp_path)
    assert lines[0] == {
        "event": "start",
        "rows": 64,
        "sources": {"human": 64},
        "steps": 24,
        "weights": "random start",
    }
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == [20, 24]
    assert steps[-1]["epoch"] == 6
    assert all(line["images_per_s"] > 0 for line in steps)
    assert [line["step"] for line in lines if line.get("event") == "validation"] == [4, 8, 12, 16, 20, 24]


def test_the_position_says_what_was_learnt_from(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    position = fit(tiny_recipe(brightness, optim={"epochs": 0.25}), tmp_path)
    assert (position.step, position.seen) == (1, 16)
    (source,) = position.sources
    assert source == describe([str(brightness), str(brightness)])[0]
    assert (source["manifest"], source["rows"], source["labels"]) == ("brightness.csv", 64, {"human": 64})
    assert len(source["sha256"]) == 16


def test_evaluation_is_not_training(brightness: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(brightness)
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = [row for row in read_manifest(brightness) if row.split == "validation"]
    assert evaluate(model, rows, recipe) == evaluate(model, rows, recipe)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_too_few_rows_to_evaluate_are_a_note_and_no_crash(brightness: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(brightness)
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std)
    found = evaluate(model, read_manifest(brightness)[:1], recipe)
    assert (found["n"], found["unreadable"]) == (1, 0)
    assert "n ≥ 2" in found["note"]


def test_the_rate_rises_in_a_line_then_falls_in_a_half_cosine() -> None:
    optim = Optim(lr=2.0, warmup=0.04)
    rates = [learning_rate(optim, step, 100) for step in range(100)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[52] == pytest.approx(1.0)  # halfway from 4 to 100
    assert rates[28] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[99] == pytest.approx(0, abs=1e-3)
    assert all(a >= b for a, b in pairwise(rates[4:]))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_rate_of_a_run_of_few_steps_is_positive(steps: int) -> None:
    assert all(learning_rate(Optim(lr=1.0), step, steps) > 0 for step in range(steps))


def test_biases_and_normalisation_do_not_decay() -> None:
    model = QualityModel("tf_efficientnet_lite0:1", (127.0,) * 3, (64.0,) * 3)
    decaying, free = efiqa.train.fit._groups(model, Optim(weight_decay=0.5))
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert {parameter.ndim for parameter in decaying["params"]} == {2, 4}
    assert {parameter.ndim for parameter in free["params"]} == {1}
    assert len(decaying["params"]) + len(free["params"]) == len(list(model.parameters()))
