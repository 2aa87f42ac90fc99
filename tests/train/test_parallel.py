"""Two processes do what one does: the same batches, losses and weights, the same metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")
pytest.importorskip("timm", reason="training needs timm: pip install 'efiqa[train]'")

from efiqa.records import read_manifest, write_manifest
from efiqa.train import parallel
from efiqa.train.checkpoint import RunFolder
from efiqa.train.fit import fit
from efiqa.train.recipe import Recipe, load_recipe

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32", reason="torch without gloo"
)


def to_toml(recipe: Recipe) -> str:
    lines = []
    for section, values in recipe.to_dict().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value not in (None, ())]
    return "\n".join(lines)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, "2", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_two_processes_train_what_one_does(
    tmp_path: Path, brightness: Path, tiny_recipe: Callable[..., Recipe]
) -> None:
    """With pairs, weights, a teacher, accumulation and a network that never looks at the batch by itself."""
    # An odd number to validate on, so that the shares differ.
    rows = [replace(row, weight=1 + index % 3) for index, row in enumerate(read_manifest(brightness))][:-1]
    write_manifest(tmp_path / "weighted.csv", rows)
    manifest = tmp_path / "weighted.csv"
    fit(tiny_recipe(manifest, optim={"epochs": 1}), tmp_path / "teacher")
    recipe = tiny_recipe(
        manifest,
        data={"batch": 15, "degraded": 0.3},
        model={"backbone": "test_convnext"},
        ladder={"pairs": 3, "min_score": 0.3, "kinds": ("dark",)},
        distil={"teachers": (str(tmp_path / "teacher"),)},
        loss={"rank": 1.0, "distil": 1.0, "features": 0.1},
        # AdamW moves every weight by the rate, however small its gradient: a sign lost to rounding shows.
        optim={"epochs": 2, "accumulate": 2, "lr": 1e-4, "ema": 0.9},
    )
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    recipe = load_recipe(tmp_path / "recipe.toml")
    one = fit(recipe, tmp_path / "one")
    done = torchrun(
        "-m", "efiqa", "train", str(tmp_path / "recipe.toml"), "-o", str(tmp_path / "two"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tensors, two = RunFolder(tmp_path / "two").load()
    assert (two.step, two.digest) == (one.step, one.digest)
    assert two.metrics["n"] == one.metrics["n"] == 39
    for name in ("srcc", "plcc"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], abs=1e-3)
    for name, tensor in RunFolder(tmp_path / "one").load()[0].items():
        if name.startswith(("model.", "average.", "regressor.")):
            distance = (tensors[name] - tensor).norm() / tensor.norm().clamp(min=1e-3)
            assert distance < 1e-4 or tensor.numel() < 300, name
            assert (tensors[name] - tensor).abs().max() < 2.5e-4, name
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [log[0]["processes"] for log in logs] == [1, 2]
    last = [next(line for line in reversed(log) if "loss" in line) for log in logs]
    for name in ("loss", "mse", "plcc", "rank", "distil", "features"):
        assert last[1][name] == pytest.approx(last[0][name], abs=2e-4), name


GATHER = """
import torch
from efiqa.train.parallel import gather, gather_objects, process_group

with process_group() as (rank, processes):
    assert processes == 2
    own = (torch.arange(4.0 * rank) + 10).reshape(2 * rank, 2).requires_grad_()  # the first has no rows
    whole = gather(own)
    assert torch.equal(whole, torch.tensor([[10.0, 11], [12, 13]])), whole
    if rank == 1:
        (gradient,) = torch.autograd.grad((torch.tensor([[1.0], [2.0]]) * whole).sum(), own)
        assert gradient.tolist() == [[1, 1], [2, 2]], gradient
    assert not gather(whole.detach() * rank)[:2].any()
    assert gather_objects([rank] * (2 - rank)) == [0, 0, 1]
"""


def test_rows_are_put_together_by_rank_and_only_ones_own_carry_a_gradient(tmp_path: Path) -> None:
    (tmp_path / "gather.py").write_text(GATHER)
    done = torchrun(str(tmp_path / "gather.py"))
    assert done.returncode == 0, done.stderr


def test_a_single_process_gathers_nothing() -> None:
    own = torch.arange(3.0)
    assert parallel.gather(own) is own
    assert parallel.gather_objects([1, 2]) == [1, 2]
    assert parallel.place() == (0, 1)
    with parallel.process_group() as place:
        assert place == (0, 1)
