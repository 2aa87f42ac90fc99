"""What is measured is the scoring path itself, and the table says what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from efiqa.bench import (
    STAGES,
    Entrant,
    Result,
    Spread,
    entrants_of,
    markdown,
    matrix_multiply_rate,
    measure,
    peak_memory,
    synthetic,
)
from efiqa.card import ModelCard
from efiqa.errors import InvalidArgument, ModelError
from efiqa.onnx_runtime import multiplier
from efiqa.openvino_runtime import has_bf16, installed


@pytest.mark.parametrize(("precision", "kind"), [("fp32", np.float32), ("int8", np.int32)])
def test_the_multiplier_multiplies(precision: str, kind: type):
    (product,) = multiplier(48, precision)()  # type: ignore[misc]
    assert product.dtype == kind
    assert product.tolist() == [[48] * 48] * 48


def test_a_rate_is_measured_or_there_is_none():
    assert (matrix_multiply_rate("fp32", side=64, repeats=2) or 0) > 0
    rate = matrix_multiply_rate("bf16", side=64, repeats=2)
    assert (rate is not None) == installed()


def test_every_stage_of_every_round_is_measured(model: Path, tmp_path: Path):
    pictures = synthetic(tmp_path, 3, side=64)
    entrants = [Entrant(model, "onnxruntime")]
    (result,) = measure(entrants, pictures, faces="none", rounds=2, fresh=False)
    assert (result.runtime, result.precision, result.card.name) == ("ONNX Runtime", "fp32", "mean")
    assert list(result.stages) == list(STAGES)
    for wall, cpu in result.stages.values():
        assert len(wall.values) == len(cpu.values) == 2
    assert all(value > 0 for value in result.stages["decode"][0].values)
    assert all(value > 0 for value in result.stages["network"][0].values)
    assert result.stages["detect"][0].values == [0, 0]
    assert len(result.images_per_s.values) == 2
    for rate, ms in zip(result.images_per_s.values, result.ms.values, strict=True):
        assert rate == pytest.approx(1000 / ms)


def test_pictures_without_a_score_are_an_error(model: Path, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"<html>")
    with pytest.raises(InvalidArgument, match=r"expected pictures that can be scored, but got .*a\.png"):
        measure([Entrant(model, "onnxruntime")], [str(tmp_path / "a.png")], faces="none", fresh=False)


def test_a_model_is_measured_in_every_runtime_and_precision_that_can_run_it(model: Path):
    expected = [Entrant(model, "onnxruntime")]
    expected += [Entrant(model, "openvino")] if installed() else []
    expected += [Entrant(model, "openvino", "bf16")] if installed() and has_bf16() else []
    assert entrants_of(model) == expected
    assert entrants_of(model, ["onnxruntime", "onnxruntime"]) == [Entrant(model, "onnxruntime")]
    with pytest.raises(InvalidArgument, match="onnxruntime, openvino or cuda, but got 'auto'"):
        entrants_of(model, ["auto"])
    with pytest.raises(ModelError, match="there is no model"):
        entrants_of(model.with_name("gone.onnx"))


def test_the_table_has_medians_and_spreads(card: ModelCard):
    result = Result(card, "ONNX Runtime", "fp32", images_per_s=Spread([3.0, 1.0, 2.0]), limit=0.5)
    for wall, cpu in result.stages.values():
        wall.values, cpu.values = [4.0, 5.0, 9.0], [1.0]
    lines = markdown([result]).splitlines()
    assert lines[:3] == [
        "|  | mean@1, ONNX Runtime, fp32 |",
        "| --- | --- |",
        "| decode, ms (CPU ms) | 5.00 (1.00) |",
    ]
    assert "| end to end, images/s | 2.0 (1.0–3.0) |" in lines
    assert "| peak memory, MB | – |" in lines
    assert lines[-1] == "| network: share of matrix-multiply rate | 50% |"


def test_memory_is_of_the_command_and_not_of_this_process():
    ballast = np.ones(200_000_000, np.uint8)
    peak = peak_memory(["python3", "-c", "pass"])
    assert peak is None or 1 < peak < 100 < len(ballast) / 2**20


def test_the_command_prints_all_numbers_as_json(model: Path, tmp_path: Path, command: Callable):
    pictures = synthetic(tmp_path, 2, side=64)
    options = ["--model", model, "--runtime", "onnxruntime", "--rounds", 1, "--faces", "none"]
    answer = command("bench", *pictures, *options, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert (found["pictures"], found["rounds"]) == (2, 1)
    (result,) = found["results"]
    assert (result["model"], result["runtime"], result["precision"]) == ("mean@1", "ONNX Runtime", "fp32")
    assert result["start_s"]["min"] > 0
    assert result["peak_mb"] is None or result["peak_mb"] > 10


def test_bad_input_of_the_command_is_a_sentence(model: Path, tmp_path: Path, command: Callable):
    for arguments, message in (
        (["--faces", "both"], "all, largest or none, but got 'both'"),
        (["--runtime", "tensorrt"], "runtime must be onnxruntime, openvino or cuda, but got 'tensorrt'"),
        ([tmp_path], "no pictures among these inputs"),
        (["--model", tmp_path / "gone.onnx"], "there is no model"),
    ):
        answer = command("bench", *arguments, *([] if "--model" in arguments else ["--model", model]))
        assert answer.code == 2
        assert message in answer.err
