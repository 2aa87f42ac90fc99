"""A pool gives each of its batches once a turn, and what it keeps is what was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")

from efiqa.errors import RecordError, TrainingError
from efiqa.image import Image
from efiqa.records import Row
from efiqa.train.data import Batch, Batches, Judge
from efiqa.train.pool import Pool
from efiqa.train.recipe import Data, Ladder, Model, Recipe, Run

Picture = Callable[[str, Image], str]


@pytest.fixture
def rows(picture: Picture) -> list[Row]:
    """Twelve pictures of one grey level each, whose label is that level."""
    return [
        Row(picture(f"{level}", np.full((48, 48, 3), 20 * level, np.uint8)), score=20 * level / 255)
        for level in range(12)
    ]


def recipe_of(folder: Path, *, pool: int = 3, seed: int = 0) -> Recipe:
    return Recipe(
        data=Data(("unused.csv",), size=48, crop=32, batch=4, workers=0, pool=pool, pool_folder=str(folder)),
        model=Model("unused", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        ladder=Ladder(pairs=1, min_score=0.0),
        run=Run(seed=seed),
    )


def pool_of(rows: list[Row], recipe: Recipe, teacher: Judge | None = None, name: str = "") -> Pool:
    return Pool(Batches(rows, recipe, teacher=teacher), recipe, [name] if name else [])


def saying(value: float) -> Judge:
    """A teacher that says one number of everything."""

    def judge(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(images),), value), torch.full((len(images), 2), value)

    return judge


def silent(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError("what was asked before is asked again")


def key(batch: Batch) -> tuple[object, ...]:
    tensors = (batch.image, batch.score, batch.weight, batch.gap, batch.teacher_score)
    return (*(tensor.numpy().tobytes() for tensor in tensors), batch.ids, batch.unreadable)


def test_every_batch_comes_once_a_turn_in_an_order_that_turn_and_seed_decide(
    rows: list[Row], tmp_path: Path
) -> None:
    def turn(seed: int, number: int) -> list[tuple[str, ...]]:
        pool = pool_of(rows, recipe_of(tmp_path, seed=seed))
        return [pool[3 * number + place].ids for place in range(3)]

    orders = [turn(seed, number) for seed in range(4) for number in range(4)]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) > 3


def test_a_kept_batch_is_what_was_made_and_no_picture_is_opened_for_it(
    rows: list[Row], tmp_path: Path
) -> None:
    made = [key(pool_of(rows, recipe_of(tmp_path))[number]) for number in range(3)]
    pool = pool_of(rows, recipe_of(tmp_path))
    for row in rows:
        Path(row.image).unlink()
    assert [key(pool[number]) for number in range(3)] == made


def test_a_teacher_is_asked_once_and_each_has_its_own_answers(rows: list[Row], tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    first = [pool_of(rows, recipe, saying(1), "one")[number] for number in range(3)]
    other = [pool_of(rows, recipe, saying(2), "two")[number] for number in range(3)]
    again = [pool_of(rows, recipe, silent, "one")[number] for number in range(3)]
    assert [key(batch) for batch in again] == [key(batch) for batch in first]
    for before, after in zip(first, other, strict=True):
        assert torch.equal(before.image, after.image)
        assert (set(before.teacher_score.tolist()), set(after.teacher_score.tolist())) == ({1.0}, {2.0})
        assert set(after.teacher_features.flatten().tolist()) == {2.0}


def test_answers_of_a_teacher_that_judges_elsewhere_are_kept_too(rows: list[Row], tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    asked = pool_of(rows, recipe, name="one")
    unanswered = [asked[number] for number in range(3)]
    assert [len(batch.teacher_score) for batch in unanswered] == [0, 0, 0]
    for number, batch in enumerate(unanswered):
        asked.keep_answers(number, batch.judged(saying(number)))
    for pool in (asked, pool_of(rows, recipe, silent, "one")):
        assert [set(pool[number].teacher_score.tolist()) for number in range(3)] == [{0.0}, {1.0}, {2.0}]
    assert len(pool_of(rows, recipe, name="two")[0].teacher_score) == 0


def test_other_labels_of_the_same_pictures_share_the_crops_and_say_what_they_say(
    rows: list[Row], tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path)
    changed = [replace(row, score=1 - (row.score or 0), weight=0.5, source="other") for row in rows]
    before, after = pool_of(rows, recipe), pool_of(changed, recipe)
    assert before.folder == after.folder
    for number in range(3):
        own, other = before[number], after[number]
        assert torch.equal(own.image, other.image)
        torch.testing.assert_close(other.score, 1 - own.score)
        assert set(own.weight.tolist()) == {1.0}
        assert set(other.weight.tolist()) == {0.5}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda rows, recipe: (rows[:-1], recipe), id="rows"),
        pytest.param(
            lambda rows, recipe: (rows, replace(recipe, ladder=Ladder(pairs=2, min_score=0.0))),
            id="ladder",
        ),
        pytest.param(  # the best become ruins: other pictures are degraded
            lambda rows, recipe: ([replace(row, score=(row.score or 0) - 0.5) for row in rows], recipe),
            id="what is good enough to degrade",
        ),
        pytest.param(
            lambda rows, recipe: (rows, replace(recipe, data=replace(recipe.data, crop=40))), id="crop"
        ),
    ],
)
def test_what_a_batch_follows_from_decides_its_folder(
    rows: list[Row], tmp_path: Path, change: Callable[..., tuple[list[Row], Recipe]]
) -> None:
    recipe = recipe_of(tmp_path)
    assert pool_of(*change(rows, recipe)).folder != pool_of(rows, recipe).folder


def test_a_picture_made_anew_is_not_taken_for_the_old_one(rows: list[Row], tmp_path: Path) -> None:
    before = pool_of(rows, recipe_of(tmp_path)).folder
    Path(rows[0].image).touch()
    assert pool_of(rows, recipe_of(tmp_path)).folder != before


def test_runs_of_another_seed_or_size_share_the_batches(rows: list[Row], tmp_path: Path) -> None:
    folders = {
        pool_of(rows, recipe_of(tmp_path, seed=seed, pool=pool)).folder for seed in (0, 1) for pool in (2, 3)
    }
    assert len(folders) == 1


def test_a_file_that_is_no_batch_is_named(rows: list[Row], tmp_path: Path) -> None:
    pool = pool_of(rows, recipe_of(tmp_path, pool=1))
    pool.folder.mkdir(parents=True)
    (pool.folder / "0.safetensors").write_bytes(b"\x08")
    with pytest.raises(TrainingError, match=r"0\.safetensors is no batch of a pool"):
        _ = pool[0]


def test_a_pool_needs_a_folder() -> None:
    with pytest.raises(RecordError, match=r"data\.pool_folder must be named"):
        Recipe(data=Data(("unused.csv",), pool=1), model=Model("unused", mean=(0, 0, 0), std=(1, 1, 1)))
