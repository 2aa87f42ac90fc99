"""Precision: what `auto` becomes on a machine."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from efiqa.train.optim import arithmetic
from efiqa.train.recipe import Data, Model, Recipe, Run

CPU = torch.device("cpu")


def recipe(precision: str) -> Recipe:
    return Recipe(Data(("a.csv",)), Model("resnet18", (0, 0, 0), (1, 1, 1)), run=Run(precision=precision))


@pytest.mark.parametrize(
    ("capability", "expected"),
    [("AVX2", "fp32"), ("AVX512", "bf16"), ("AVX512_BF16", "bf16"), ("DEFAULT", "fp32"), ("SVE256", "fp32")],
)
def test_auto_is_bf16_where_the_processor_does_not_imitate_it(
    monkeypatch: pytest.MonkeyPatch, capability: str, expected: str
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert arithmetic(recipe("auto"), CPU) == expected


@pytest.mark.parametrize(("has", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_asks_the_gpu_without_emulation(
    monkeypatch: pytest.MonkeyPatch, has: bool, expected: str
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return has or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert arithmetic(recipe("auto"), torch.device("cuda")) == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_precision_that_is_named_is_taken(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert arithmetic(recipe(precision), CPU) == precision
