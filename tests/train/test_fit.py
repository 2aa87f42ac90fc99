"""The training loop learns, survives kills bit for bit, and stops rather than spoil a run."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from safetensors.torch import save_file

import efiqa.train.fit
import efiqa.train.learner
import efiqa.train.optim
from efiqa.errors import ModelError, RecordError, TrainingError
from efiqa.records import Row, read_manifest
from efiqa.train.checkpoint import RunFolder, model_tensors
from efiqa.train.data import Batches, read_rows
from efiqa.train.fit import _Loop, describe, evaluate, fit, learning_rate
from efiqa.train.model import QualityModel, build_model
from efiqa.train.recipe import Model, Optim, Recipe, load_recipe
from efiqa.train.teacher import TeacherBeside, load_teachers

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


def same_position(a: Path, b: Path) -> bool:
    """Whether two runs say the same of themselves; the working folder's commit may have changed between."""
    first, second = (replace(RunFolder(path).load()[1], commit="") for path in (a, b))
    return first == second


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
        data={"workers": 1},
        ladder={"pairs": 2, "kinds": ("dark",)},
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
                ladder={"pairs": 1},
                loss={"rank": 1.0},
                optim={"epochs": 6, "ema": 0.9},
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
    assert same_position(tmp_path / "undisturbed", tmp_path / "killed")


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(brightness, optim={"epochs": 1})
    done = fit(recipe, tmp_path)
    before = RunFolder(tmp_path).last.read_bytes()
    assert fit(recipe, tmp_path).step == done.step == 4
    assert RunFolder(tmp_path).last.read_bytes() == before


def failing_at(step: int, failure: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A mean squared error that is replaced by `failure` of the predictions at `step`."""
    calls = iter(range(10**6))
    return lambda prediction, target, _weight: (
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
    monkeypatch.setattr(efiqa.train.learner, "mse", failing_at(3, failure))
    with pytest.raises(TrainingError, match=f"the {name} is .* at step 3") as caught:
        fit(tiny_recipe(brightness, run={"checkpoint_seconds": 0.0}), tmp_path)
    assert "optim.lr" in str(caught.value.hint)
    tensors, position = RunFolder(tmp_path).load()
    assert position.step == 3
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    told = log_of(tmp_path)[-1]
    assert (told["event"], told["step"], told["what"], len(told["pictures"])) == ("not finite", 3, name, 16)
    assert told["pictures"][0] in str(caught.value)
    assert "and 13 more" in str(caught.value)


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
    assert log_of(tmp_path / "run")[0]["weights"].endswith("tensors from start.safetensors")


def test_unreadable_pictures_are_counted_and_named_in_the_log(
    tmp_path: Path, flat_rows: Callable[..., list[Row]], manifest: Callable[..., str], tiny_recipe: MakeRecipe
) -> None:
    rows = flat_rows(16) + flat_rows(4, split="validation")
    path = manifest(rows)
    Path(rows[5].image).write_bytes(b"")
    Path(rows[-1].image).write_bytes(b"<html>")
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
        "precision": "fp32",
        "weights": "random start",
        "teachers": [],
        "processes": 1,
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
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = [row for row in read_manifest(brightness) if row.split == "validation"]
    assert evaluate(model, rows, recipe) == evaluate(model, rows, recipe)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_too_few_rows_to_evaluate_are_a_note_and_no_crash(brightness: Path, tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(brightness)
    model = QualityModel(recipe.model.backbone, recipe.model.mean, recipe.model.std)
    found = evaluate(model, read_manifest(brightness)[:1], recipe)
    assert (found["n"], found["unreadable"]) == (1, 0)
    assert "n ≥ 2" in found["note"]


def test_the_rate_rises_in_a_line_then_falls_in_a_half_cosine() -> None:
    optim = Optim(lr=2.0, warmup=0.04)
    rates = [learning_rate(optim, step, 100, 10) for step in range(100)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[52] == pytest.approx(1.0)  # halfway from 4 to 100
    assert rates[28] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[99] == pytest.approx(0, abs=1e-3)
    assert all(a >= b for a, b in pairwise(rates[4:]))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_rate_of_a_run_of_few_steps_is_positive(steps: int) -> None:
    assert all(learning_rate(Optim(lr=1.0), step, steps, 1) > 0 for step in range(steps))


def test_the_rate_falls_to_a_tenth_every_so_many_epochs() -> None:
    optim = Optim(lr=2.0, schedule="step", decay_epochs=1.5, warmup=0.02)
    rates = [learning_rate(optim, step, 100, 10) for step in range(100)]
    assert rates[:2] == [1.0, 2.0]
    assert rates[2:15] == [2.0] * 13
    assert rates[15:30] == pytest.approx([0.2] * 15)
    assert rates[30] == pytest.approx(0.02)
    assert rates[99] == pytest.approx(2e-6)


def test_biases_and_normalisation_do_not_decay() -> None:
    model = QualityModel("tf_efficientnet_lite0:1", (127.0,) * 3, (64.0,) * 3)
    decaying, free = efiqa.train.optim.parameter_groups(model, Optim(weight_decay=0.5))
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert {parameter.ndim for parameter in decaying["params"]} == {2, 4}
    assert {parameter.ndim for parameter in free["params"]} == {1}
    assert len(decaying["params"]) + len(free["params"]) == len(list(model.parameters()))


def linear(recipe: Model) -> QualityModel:
    """A network without normalisation, whose gradient is the mean over pictures and known by hand."""
    model = build_model(recipe)

    class Colours(torch.nn.Module):
        """Each channel's mean, through one 1 × 1 convolution."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.mixed = torch.nn.Conv2d(3, 16, 1)

        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return self.mixed(x)

    model.backbone = Colours()
    model.head[0] = torch.nn.Linear(16, 128)
    return model


class Stop(Exception):
    pass


def stopping_at(last: int) -> Callable[[int, int, dict[str, Any]], None]:
    def progress(step: int, _steps: int, _values: dict[str, Any]) -> None:
        if step == last:
            raise Stop

    return progress


PARTS: list[Any] = [
    pytest.param({"optim": {"epochs": 4, "accumulate": 2}}, id="two batches a step"),
    pytest.param({"optim": {"epochs": 2, "ema": 0.9}}, id="moving average"),
    pytest.param({"optim": {"epochs": 2, "schedule": "step", "decay_epochs": 0.5}}, id="steps"),
    pytest.param({"optim": {"epochs": 2}, "run": {"precision": "fp16"}}, id="fp16 and its loss scale"),
    pytest.param({"optim": {"epochs": 2}, "model": {"frozen": 1, "frozen_norm": True}}, id="frozen"),
    pytest.param({"optim": {"epochs": 2}, "model": {"neck": 8}}, id="neck"),
]


@pytest.mark.parametrize("parts", PARTS)
def test_a_run_that_was_broken_off_ends_with_the_weights_of_an_undisturbed_one(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, parts: dict[str, Any]
) -> None:
    parts = {**parts, "run": {"checkpoint_seconds": 0.0, "seed": 1, **parts.get("run", {})}}
    recipe = tiny_recipe(brightness, **parts)
    fit(recipe, tmp_path / "undisturbed")
    for last in (3, 6):
        with pytest.raises(Stop):
            fit(recipe, tmp_path / "broken", progress=stopping_at(last))
        assert RunFolder(tmp_path / "broken").load()[1].step == last
    assert fit(recipe, tmp_path / "broken").step == 8
    assert identical(tmp_path / "undisturbed", tmp_path / "broken")
    assert same_position(tmp_path / "undisturbed", tmp_path / "broken")


def test_what_is_drawn_at_random_in_the_network_is_the_same_after_a_resume(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with the stochastic depth of torchvision's Swin, which the published teacher is."""

    def dropping(recipe: Model) -> QualityModel:
        model = build_model(recipe)
        model.neck = torch.nn.Dropout(0.5)
        return model

    monkeypatch.setattr(efiqa.train.fit, "build_model", dropping)
    recipe = tiny_recipe(brightness, optim={"epochs": 1}, run={"checkpoint_seconds": 0.0})
    fit(recipe, tmp_path / "undisturbed")
    with pytest.raises(Stop):
        fit(recipe, tmp_path / "broken", progress=stopping_at(2))
    torch.rand(7)
    fit(recipe, tmp_path / "broken")
    assert identical(tmp_path / "undisturbed", tmp_path / "broken")


def test_batches_of_one_step_add_up_to_the_mean_of_their_gradients(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efiqa.train.fit, "build_model", linear)
    kept: list[dict[str, torch.Tensor]] = []

    class Watched(torch.optim.AdamW):
        def step(self, *arguments: Any, **named: Any) -> Any:
            parameters = [p for group in self.param_groups for p in group["params"]]
            kept.append({str(index): p.grad.clone() for index, p in enumerate(parameters)})
            return super().step(*arguments, **named)

    monkeypatch.setattr(torch.optim, "AdamW", Watched)
    found = {}
    for accumulate in (1, 4):
        # So small a rate that all four batches meet the same weights.
        recipe = tiny_recipe(
            brightness,
            optim={"epochs": 1, "accumulate": accumulate, "lr": 1e-12, "clip": 1e9},
            loss={"plcc": 0.0},
        )
        kept.clear()
        fit(recipe, tmp_path / str(accumulate))
        found[accumulate] = list(kept)
    assert (len(found[1]), len(found[4])) == (4, 1)
    for name, gradient in found[4][0].items():
        mean = torch.stack([one[name] for one in found[1]]).mean(dim=0)
        torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6)


def test_the_moving_average_by_hand() -> None:
    model = torch.nn.Linear(1, 1)
    average = {"weight": torch.tensor([[1.0]]), "bias": torch.tensor([0.0])}
    model.load_state_dict({"weight": torch.tensor([[3.0]]), "bias": torch.tensor([10.0])})
    efiqa.train.optim.update_average(average, model, 0.9, step=1000)
    assert average["weight"].item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert average["bias"].item() == pytest.approx(1.0)
    # The first step forgets nine tenths of the start: its decay is at most (1 + 0) / (10 + 0).
    efiqa.train.optim.update_average(average, model, 0.9, step=0)
    assert average["weight"].item() == pytest.approx(0.1 * 1.2 + 0.9 * 3)


def test_the_averaged_weights_are_validated_and_handed_on(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    recipe = tiny_recipe(brightness, optim={"epochs": 2, "ema": 0.99})
    position = fit(recipe, tmp_path)
    tensors, _ = RunFolder(tmp_path).load()
    differing = [
        name for name in tensors if name.startswith("average.") and name.endswith("weight")
        if not torch.equal(tensors[name], tensors["model." + name.removeprefix("average.")])
    ]  # fmt: skip
    assert differing
    model, _ = RunFolder(tmp_path).trained()
    rows = [row for row in read_manifest(brightness) if row.split == "validation"]
    assert evaluate(model, rows, recipe) == position.metrics


def test_best_is_the_checkpoint_of_the_highest_validation_srcc(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = iter([0.2, 0.7, 0.5, 0.7])
    monkeypatch.setattr(efiqa.train.fit, "evaluate", lambda *_: {"srcc": next(known), "n": 40})
    weights: dict[int, torch.Tensor] = {}

    def keep(step: int, _steps: int, _values: dict[str, Any]) -> None:
        if step % 4 == 0:
            tensors, _ = RunFolder(tmp_path).load()
            weights[step] = tensors["model.head.0.weight"]

    position = fit(tiny_recipe(brightness, optim={"epochs": 4}), tmp_path, progress=keep)
    assert (position.best, position.metrics["srcc"]) == (0.7, 0.7)
    tensors, best = RunFolder(tmp_path).load(RunFolder(tmp_path).best)
    assert (best.step, best.metrics["srcc"], best.best) == (8, 0.7, 0.7)
    assert torch.equal(tensors["model.head.0.weight"], weights[8])
    assert not torch.equal(tensors["model.head.0.weight"], weights[16])


def test_a_rate_far_too_high_stops_the_run_with_a_checkpoint_that_loads(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    recipe = tiny_recipe(brightness, optim={"lr": 1e30, "warmup": 0.0}, run={"checkpoint_seconds": 0.0})
    with pytest.raises(TrainingError, match=r"the (loss|gradient) is .*The batch: .*\.png.* and 13 more"):
        fit(recipe, tmp_path)
    tensors, position = RunFolder(tmp_path).load()
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    told = log_of(tmp_path)[-1]
    assert (told["event"], told["step"]) == ("not finite", position.step)
    known = {row.image for row in read_manifest(brightness)}
    assert len(told["pictures"]) == 16
    assert set(told["pictures"]) <= known


def test_gradients_that_no_loss_scale_makes_finite_stop_the_run(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        efiqa.train.learner, "mse", lambda p, _target, _weight: (p - p.detach()).square().sum().sqrt()
    )
    # 65,536 halves seventeen times before it is below 1.
    with pytest.raises(TrainingError, match="the gradient is nan at step 16"):
        fit(tiny_recipe(brightness, optim={"epochs": 5}, run={"precision": "fp16"}), tmp_path)


def test_a_run_goes_on_without_the_weights_that_it_started_from(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    fit(tiny_recipe(brightness, optim={"epochs": 1}), tmp_path / "first")
    start = tmp_path / "first" / "last.safetensors"
    recipe = tiny_recipe(
        brightness,
        optim={"epochs": 2},
        model={"start": str(start)},
        run={"checkpoint_seconds": 0.0},
    )
    with pytest.raises(Stop):
        fit(recipe, tmp_path / "second", progress=stopping_at(3))
    start.unlink()
    assert fit(recipe, tmp_path / "second").step > 3


def test_start_weights_that_are_not_finite_stop_the_run_before_its_first_checkpoint(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    start = QualityModel("tf_efficientnet_lite0:1", (127.0,) * 3, (64.0,) * 3)
    start.head[1].bias.data.fill_(math.nan)
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    recipe = tiny_recipe(brightness, model={"start": str(tmp_path / "start.safetensors")})
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        fit(recipe, tmp_path / "run")
    assert not RunFolder(tmp_path / "run").last.exists()


def test_start_weights_are_validated_first_where_the_recipe_asks(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    torch.manual_seed(7)
    start = QualityModel("tf_efficientnet_lite0:1", (127.0,) * 3, (64.0,) * 3)
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    recipe = tiny_recipe(
        brightness,
        model={"start": str(tmp_path / "start.safetensors")},
        optim={"epochs": 0.25},
        run={"validate_first": True},
    )
    position = fit(recipe, tmp_path / "run")
    rows = [row for row in read_manifest(brightness) if row.split == "validation"]
    assert position.before == evaluate(start, rows, recipe)
    first = next(line for line in log_of(tmp_path / "run") if line.get("event") == "validation")
    assert first == {"step": 0, "event": "validation", **position.before}


def test_a_changed_manifest_does_not_go_on_with_an_old_run(
    tmp_path: Path, flat_rows: Callable[..., list[Row]], manifest: Callable[..., str], tiny_recipe: MakeRecipe
) -> None:
    rows = flat_rows(16)
    path = manifest(rows)
    recipe = tiny_recipe(path, data={"validation": ()}, optim={"epochs": 1})
    fit(recipe, tmp_path / "run")
    manifest(rows[:-1])
    with pytest.raises(TrainingError, match="run of other data"):
        fit(recipe, tmp_path / "run")


def test_events_for_tensorboard_hold_the_logged_values(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tiny_recipe(brightness, run={"tensorboard": True}), tmp_path)
    (events,) = tmp_path.glob("events.out.tfevents.*")
    read = accumulator.EventAccumulator(str(events)).Reload()
    logged = [line for line in log_of(tmp_path) if "loss" in line]
    for name in ("loss", "mse", "plcc"):
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(line["step"], pytest.approx(line[name])) for line in logged]
    assert [event.step for event in read.Scalars("validation_srcc")] == [4, 8, 12]


def test_without_tensorboard_there_are_no_events(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    fit(tiny_recipe(brightness, optim={"epochs": 0.25}), tmp_path)
    assert list(tmp_path.glob("events*")) == []


def test_a_teacher_in_the_training_process_looks_once_at_each_kept_batch(
    tmp_path: Path, brightness: Path, tiny_recipe: MakeRecipe
) -> None:
    """Seven steps of a pool of three, as where there is a GPU; a second run asks it nothing."""
    fit(tiny_recipe(brightness, optim={"steps": 2}), tmp_path / "teacher")
    recipe = tiny_recipe(
        brightness,
        data={"pool": 3, "pool_folder": str(tmp_path / "pool")},
        distil={"teachers": (str(tmp_path / "teacher"),)},
        loss={"distil": 1.0},
        optim={"steps": 7},
    )
    looks: list[int] = []

    class Counting(TeacherBeside):
        def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            looks.append(len(images))
            return super().__call__(images)

    for name, expected in (("first", [16, 16, 16]), ("second", [])):
        looks.clear()
        torch.manual_seed(0)
        rows, validation = read_rows(recipe.data)
        models, judges = load_teachers(recipe.distil.teachers, recipe.data.crop)
        beside = Counting(models, torch.device("cpu"))
        batches = Batches(rows, recipe)
        _Loop(recipe, tmp_path / name, batches, validation, beside, models[0].width, judges, 0, 1).run(None)
        assert looks == expected
    assert identical(tmp_path / "first", tmp_path / "second")
