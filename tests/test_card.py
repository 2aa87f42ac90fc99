"""A model explains itself, or is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from efiqa.card import CENTRE_RULE, RESIZE_RULE, ModelCard, Population, Source
from efiqa.errors import ModelError
from efiqa.scorer import Scorer

MakeModel = Callable[..., Path]


def changed(card: ModelCard, **values: Any) -> str:
    return json.dumps({**json.loads(card.to_json()), **values})


def without(card: ModelCard, name: str) -> str:
    values = json.loads(card.to_json())
    del values[name]
    return json.dumps(values)


def test_a_card_survives_json(card: ModelCard):
    full = dataclasses.replace(
        card,
        trained_on=(Source("photos", 3, "ratings", "sha256:0", "CC BY – 4.0"),),
        measured={"srcc": [0.8, 0.7, 0.9], "on": {"rows": 5}},
        limits=("adults only",),
        recipe={"optim": {"lr": 1e-4}},
    )
    assert ModelCard.from_json(full.to_json()) == full


def test_a_card_may_lack_a_population(card: ModelCard):
    bare = dataclasses.replace(card, population=None)
    assert ModelCard.from_json(bare.to_json()) == bare
    assert ModelCard.from_json(without(card, "population")) == bare


@pytest.mark.parametrize(
    ("rule", "score"), [(RESIZE_RULE, 0.5), (CENTRE_RULE, 1.0)], ids=["stretch", "centre"]
)
def test_the_cards_resize_rule_is_the_one_that_is_used(
    tmp_path: Path, make_model: MakeModel, card: ModelCard, rule: str, score: float
):
    path = make_model(tmp_path / "m.onnx", metadata=dataclasses.replace(card, resize=rule).to_json())
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 16:48] = 255  # the central square is white, and half of the whole
    assert Scorer(path).score(picture) == pytest.approx(score, abs=1e-3)
    assert Scorer(path).score(picture.transpose(1, 0, 2)) == pytest.approx(score, abs=1e-3)


def test_whole_numbers_stand_for_numbers(card: ModelCard):
    read = ModelCard.from_json(changed(card, crop_scale=1, score_range=[0, 1]))
    assert read == card
    assert type(read.crop_scale) is float


BAD_FIELDS = [
    ({"colour": "red"}, "unknown field 'colour'", "a field of no card"),
    ({"input_size": "32"}, "input_size must be int, but got '32'", "text for a number"),
    ({"input_size": 32.0}, "input_size must be int", "a float for a whole number"),
    ({"input_size": True}, "input_size must be int", "true is no number"),
    ({"input_size": 8}, "input_size must be 16–4096 pixels, but got 8", "too small to see"),
    ({"input_size": None}, "input_size must be int", "none"),
    ({"name": 3}, "name must be str", "a number for text"),
    ({"resize": "letterbox"}, "resize must be one of the rules", "a rule this version does not know"),
    ({"crop": "tight"}, "crop must be the one rule", "a rule this version does not know"),
    ({"crop_scale": 0.1}, "crop_scale must be 0.5–10", "a crop inside the face"),
    ({"crop_scale": float("nan")}, "crop_scale must be finite, but got nan", "NaN"),
    ({"score_range": [1, 0]}, "score_range must be .*low below high", "reversed"),
    ({"score_range": [0]}, "score_range must hold 2 values, but got 1", "half a range"),
    ({"score_range": [0, "1"]}, "score_range must be float", "text in a range"),
    ({"score_range": [0, float("inf")]}, "score_range", "without end"),
    ({"limits": "none"}, "limits must be", "text for a list"),
    ({"limits": [1]}, "limits must be str", "numbers for sentences"),
    ({"measured": []}, "measured must be", "a list for a table"),
    ({"trained_on": [{"name": "x"}]}, "trained_on: field 'digest' is missing", "half a source"),
    ({"population": {"name": "x", "n": 1}}, "population: field 'scores' is missing", "no scores"),
    ({"population": {"name": "x", "n": 1, "scores": [0.0]}}, "101 numbers", "one percentile"),
    (
        {"population": {"name": "x", "n": 9, "scores": [0.0] * 50 + [1.0] * 50 + [0.5]}},
        "population.scores must be 101 numbers that never fall",
        "a table that falls",
    ),
    (
        {"population": {"name": "x", "n": 9, "scores": [0.0] * 100 + [float("nan")]}},
        "scores must be finite, but got nan",
        "a table with NaN",
    ),
    ({"macs": 1, "crop_scale": 10**400}, "crop_scale must be finite", "a number that is too large"),
]


@pytest.mark.parametrize(
    ("values", "message"), [case[:2] for case in BAD_FIELDS], ids=[case[2] for case in BAD_FIELDS]
)
def test_a_field_that_does_not_fit_is_named(card: ModelCard, values: dict[str, Any], message: str):
    with pytest.raises(ModelError, match=message):
        ModelCard.from_json(changed(card, **values))


@pytest.mark.parametrize("name", ["name", "input_size", "crop_scale", "trained_on", "commit"])
def test_a_missing_field_is_named(card: ModelCard, name: str):
    with pytest.raises(ModelError, match=f"field '{name}' is missing"):
        ModelCard.from_json(without(card, name))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"card"'])
def test_text_that_is_no_card_is_refused(text: str):
    with pytest.raises(ModelError, match="model card"):
        ModelCard.from_json(text)


def test_percentiles_by_hand():
    # 0, 0, …, 0 (percentiles 0–10), then rising by 0.01 to 0.9.
    table = Population("p", 5, (0.0,) * 11 + tuple(index / 100 for index in range(1, 91)))
    cases = [(-1.0, 0.0), (0.0, 0.0), (0.005, 10.5), (0.01, 11.0), (0.4, 50.0), (0.9, 100.0), (2.0, 100.0)]
    assert [table.percentile(score) for score, _ in cases] == pytest.approx([want for _, want in cases])


def test_percentiles_agree_with_numpy_on_a_strictly_rising_table():
    scores = np.cumsum(np.random.default_rng(0).uniform(0.001, 1, 101))
    table = Population("p", 101, tuple(scores.tolist()))
    asked = np.random.default_rng(1).uniform(scores[0] - 1, scores[-1] + 1, 500)
    expected = np.interp(asked, scores, np.arange(101.0))
    assert [table.percentile(value) for value in asked] == pytest.approx(expected.tolist())


def test_percentiles_never_fall_where_scores_repeat():
    table = Population("p", 9, (0.1,) * 30 + (0.5,) * 40 + (0.9,) * 31)
    values = [table.percentile(score) for score in np.linspace(0, 1, 201)]
    assert values == sorted(values)


BAD_MODELS = [
    ({"metadata": None}, "has no model card", "no card"),
    ({"metadata": "{"}, "not JSON", "a torn card"),
    ({"kind": "FLOAT"}, r"expected uint8 \(n, 32, 32, 3\) in, but got tensor\(float\)", "floats in"),
    ({"side": 48}, r"expected uint8 \(n, 32, 32, 3\) in, but got .*48", "another size than the card says"),
    ({"batch": 1}, "any batch size, but it is fixed to 1", "a batch of one only"),
    ({"outputs": 2}, "one input and one output, but got 1 and 2", "two numbers out"),
    ({"flat": False}, r"expected float \(n,\) out", "a 4-D score"),
]


@pytest.mark.parametrize(
    ("changes", "message"), [case[:2] for case in BAD_MODELS], ids=[case[2] for case in BAD_MODELS]
)
def test_a_model_that_contradicts_its_card_is_refused(
    tmp_path: Path, make_model: MakeModel, changes: dict[str, Any], message: str
):
    with pytest.raises(ModelError, match=message):
        Scorer(make_model(tmp_path / "m.onnx", **changes))


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"<html>", b"\x08\x09\x12\x00" * 50, b"{}"],
    ids=["empty", "text", "html", "bytes", "json"],
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx"):
        Scorer(tmp_path / "m.onnx")


def test_half_a_model_is_refused(tmp_path: Path, model: Path):
    (tmp_path / "m.onnx").write_bytes(model.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        Scorer(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["gone.onnx", "."])
def test_a_missing_model_is_refused(tmp_path: Path, name: str):
    with pytest.raises(ModelError, match="there is no model"):
        Scorer(tmp_path / name)


def test_the_card_beside_the_model_must_say_the_same(tmp_path: Path, make_model: MakeModel, card: ModelCard):
    path = make_model(tmp_path / "m.onnx")
    sidecar = tmp_path / "m.json"
    sidecar.write_text(card.to_json(), encoding="utf-8")
    assert Scorer(path).card == card
    sidecar.write_text(dataclasses.replace(card, version="2").to_json(), encoding="utf-8")
    with pytest.raises(ModelError, match=r"m\.json beside it says something else"):
        Scorer(path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]"])
def test_a_damaged_card_beside_the_model_is_refused(tmp_path: Path, make_model: MakeModel, content: bytes):
    path = make_model(tmp_path / "m.onnx")
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ModelError):
        Scorer(path)
