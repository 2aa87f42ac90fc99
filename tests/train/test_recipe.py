"""A recipe says everything about a run, and nothing it says is misread."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from efiqa.degrade import KINDS
from efiqa.errors import RecordError
from efiqa.train.recipe import Ladder, Recipe, load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    path
    for path in (ROOT / "recipes").rglob("*.toml")
    if not path.name.endswith((".card.toml", "study.toml"))
)

PLAIN = """
[data]
train = ["labels.csv"]
[model]
backbone = "resnet18"
mean = [127, 127, 127]
std = [128.0, 128.0, 128.0]
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def to_toml(recipe: Recipe) -> str:
    """The recipe's values as TOML; JSON's spelling of strings, numbers and lists is TOML's too."""
    lines = []
    for section, values in recipe.to_dict().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value not in (None, ())]
    return "\n".join(lines)


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_of_the_project_loads(path: Path) -> None:
    assert load_recipe(path).digest()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_survives_being_written_and_read(path: Path, write: Write) -> None:
    recipe = load_recipe(path)
    assert load_recipe(write(to_toml(recipe))) == recipe


def test_values_stand_where_the_file_says_and_defaults_elsewhere(write: Write) -> None:
    recipe = load_recipe(write(PLAIN + "[optim]\nlr = 1\n"))
    assert recipe.data.train == ("labels.csv",)
    assert recipe.model.mean == (127.0, 127.0, 127.0)
    assert recipe.model.start is None
    assert (recipe.optim.lr, recipe.optim.clip) == (1.0, 1.0)
    assert (recipe.loss.mse, recipe.loss.plcc, recipe.loss.rank) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        (PLAIN + "[optim]\nlearning = 1\nlrr = 1\n", "learning", "lr"),
        (PLAIN + "[optim]\nlrr = 1\n", "lrr", "lr"),
        (PLAIN + "[run]\nseeds = 1\n", "seeds", "seed"),
        (PLAIN + "[losses]\nmse = 1\n", "losses", "loss"),
        (PLAIN.replace("backbone", "back_bone"), "back_bone", "backbone"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    write: Write, text: str, key: str, nearest: str
) -> None:
    with pytest.raises(RecordError, match=f"unknown key '{key}'") as caught:
        load_recipe(write(text))
    assert nearest in str(caught.value.hint)


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        ('[optim]\nlr = "small"\n', r"recipe.optim.lr must be float, but got 'small'"),
        ("[optim]\nlr = true\n", "recipe.optim.lr must be float"),
        ("[run]\nseed = 1.5\n", "recipe.run.seed must be int"),
        ("[run]\nseed = false\n", "recipe.run.seed must be int"),
        ('[run]\nprecision = "fp8"\n', "recipe.run.precision must be .*'bf16'"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error(write: Write, addition: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        load_recipe(write(PLAIN + addition))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('data.train="labels.csv"', "recipe.data.train must be tuple"),
        ("data.train=[1]", "recipe.data.train must be str"),
        ("model.start=3", "recipe.model.start must be"),
        ("model.mean=[1, 2]", "model.mean must be three numbers"),
    ],
)
def test_a_change_of_the_wrong_type_is_an_error(write: Write, change: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        load_recipe(write(PLAIN), [change])


@pytest.mark.parametrize("key", ["train", "backbone", "mean", "std"])
def test_a_missing_key_is_named(write: Write, key: str) -> None:
    lines = [line for line in PLAIN.splitlines() if not line.startswith(key)]
    with pytest.raises(RecordError, match=f"'{key}' is missing"):
        load_recipe(write("\n".join(lines)))


def test_a_missing_section_is_named(write: Write) -> None:
    with pytest.raises(RecordError, match="'model' is missing"):
        load_recipe(write('[data]\ntrain = ["labels.csv"]\n'))


def test_changes_replace_what_the_file_says(write: Write) -> None:
    changes = ["optim.lr=0.5", 'model.start="weights.safetensors"', " data.train = ['a.csv', 'b.csv']"]
    recipe = load_recipe(write(PLAIN + "[optim]\nlr = 1\n"), changes)
    assert recipe.optim.lr == 0.5
    assert recipe.model.start == "weights.safetensors"
    assert recipe.data.train == ("a.csv", "b.csv")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("model.backbone=resnet18", "recipe"),  # no quotes
        ("optim.lr", "recipe"),  # no value
        ("optim.rate=1", "unknown key 'rate'"),
        ("lr=1", "unknown key 'lr'"),
        ("optim=1", "recipe.optim"),
    ],
)
def test_a_change_that_makes_no_sense_is_an_error(write: Write, change: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        load_recipe(write(PLAIN), [change])


def test_a_change_under_something_that_is_no_table_is_an_error(write: Write) -> None:
    with pytest.raises(RecordError, match="recipe"):
        load_recipe(write("optim = 3\n" + PLAIN), ["optim.lr=1"])


@pytest.mark.parametrize("text", ["[data\n", "train = labels.csv", "\x00"])
def test_a_file_that_is_not_toml_is_an_error(write: Write, text: str) -> None:
    with pytest.raises(RecordError, match=r"recipe\.toml"):
        load_recipe(write(text))


def test_a_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"recipe\.toml"):
        load_recipe(tmp_path / "recipe.toml")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(RecordError, match="cannot be read"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("data.train=[]", "data.train"),
        ("data.crop=16", "data.crop"),
        ("data.crop=400", "data.crop"),
        ("data.batch=0", "data.batch"),
        ("data.degraded=-0.1", "data.degraded"),
        ("data.degraded=nan", "data.degraded"),
        ("ladder.pairs=-1", "ladder.pairs"),
        ("ladder.kinds=[]", "ladder.kinds"),
        ('ladder.kinds=["blur", "fog"]', "ladder.kinds"),
        ("ladder.margin=-1", "ladder.margin"),
        ("ladder.margin=inf", "ladder.margin"),
        ("data.workers=-1", "data.workers"),
        ("data.scale_jitter=0.5", "data.scale_jitter"),
        ("model.std=[1.0, 0.0, 1.0]", "model.std"),
        ("model.std=[]", "model.std"),
        ("model.neck=-1", "model.neck"),
        ("model.input=16", "model.input"),
        ("model.input=-1", "model.input"),
        ("model.input=321", "model.input"),
        ("model.frozen=-1", "model.frozen"),
        ("optim.lr=0", "optim.lr"),
        ("optim.lr=nan", "optim.lr"),
        ("optim.lr=inf", "optim.lr"),
        ("optim.weight_decay=-1", "optim.weight_decay"),
        ("optim.epochs=0", "optim.epochs"),
        ("optim.epochs=inf", "optim.epochs"),
        ("optim.accumulate=0", "optim.accumulate"),
        ("optim.decay_epochs=0", "optim.decay_epochs"),
        ("optim.ema=1", "optim.ema"),
        ("optim.ema=-0.1", "optim.ema"),
        ("optim.warmup=1", "optim.warmup"),
        ("optim.clip=0", "optim.clip"),
        ("loss.rank=-1", "loss.rank"),
        ("loss.mse=nan", "loss.mse"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_the_key(write: Write, change: str, key: str) -> None:
    with pytest.raises(RecordError, match=f"recipe: {key} must be"):
        load_recipe(write(PLAIN), [change])


@pytest.mark.parametrize("change", ["data.degraded=0.5", "loss.distil=1", "loss.features=1"])
def test_what_only_a_teacher_can_judge_needs_one(write: Write, change: str) -> None:
    key = change.partition("=")[0]
    with pytest.raises(RecordError, match=f"recipe: {key} must be 0 without distil.teachers"):
        load_recipe(write(PLAIN), [change])
    assert load_recipe(write(PLAIN), [change, 'distil.teachers=["runs/teacher"]'])


def test_the_schedule_is_one_of_those_there_are(write: Write) -> None:
    assert load_recipe(write(PLAIN), ['optim.schedule="step"']).optim.schedule == "step"
    with pytest.raises(RecordError, match=r"recipe.optim.schedule must be .*'cosine'.* but got 'linear'"):
        load_recipe(write(PLAIN), ['optim.schedule="linear"'])


def test_the_default_rows_of_a_ladder_are_kinds_that_there_are() -> None:
    assert set(Ladder().kinds) <= set(KINDS)


def test_equal_recipes_have_one_digest_however_they_are_written(write: Write) -> None:
    first = load_recipe(write(PLAIN)).digest()
    turned = "\n".join(
        reversed(PLAIN.replace("[data]", "").replace('train = ["labels.csv"]', "").split("\n"))
    )
    model = "[model]\n" + turned.replace("[model]", "") + '\n[data]\nworkers = 1\ntrain = ["labels.csv"]\n'
    assert load_recipe(write(model)).digest() == first
    assert len(first) == 12


@pytest.mark.parametrize(
    "change", ["run.seed=1", "optim.lr=0.1", 'data.train=["other.csv"]', 'model.backbone="resnet34"']
)
def test_a_changed_recipe_has_another_digest(write: Write, change: str) -> None:
    path = write(PLAIN)
    assert load_recipe(path, [change]).digest() != load_recipe(path).digest()
