"""Batches are pure functions of (seed, step), hold each row once an epoch, and replace nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")

from efiqa.errors import TrainingError
from efiqa.image import Image
from efiqa.records import Row
from efiqa.train.data import Batch, Batches, count_sources, loader, read_rows
from efiqa.train.recipe import Data

FlatRows = Callable[..., list[Row]]
Picture = Callable[[str, Image], str]

DATA = Data(train=("unused.csv",), size=48, crop=32, batch=4, workers=0)


def levels(batch: Batch) -> list[int]:
    """Grey levels of the labelled crops, in order; asserts that each crop is flat."""
    labelled = batch.image[: len(batch.score)].reshape(len(batch.score), -1)
    assert (labelled == labelled[:, :1]).all()
    return labelled[:, 0].tolist()


def equal(a: Batch, b: Batch) -> bool:
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("image", "score", "gap"))
    return same and a.unreadable == b.unreadable


def noisy(seed: int, height: int = 64, width: int = 64) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def noisy_rows(picture: Picture) -> list[Row]:
    return [Row(picture(f"noisy{index}", noisy(index)), score=0.9, source="human") for index in range(8)]


def test_every_crop_keeps_its_own_label(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(12), DATA, seed=0)
    for step in range(6):
        batch = batches[step]
        assert (batch.image.shape, batch.image.dtype) == ((4, 32, 32, 3), torch.uint8)
        assert batch.score.tolist() == pytest.approx([level / 255 for level in levels(batch)])


def test_each_epoch_covers_each_row_once_in_another_order(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(12), DATA, seed=0)
    assert batches.steps_per_epoch == 3
    epochs = [
        [level for step in range(3 * epoch, 3 * epoch + 3) for level in levels(batches[step])]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(10, 22)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_leaves_out_less_than_a_batch_and_not_always_the_same(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(11), DATA, seed=0)
    seen: set[int] = set()
    for epoch in range(8):
        once = [level for step in range(2 * epoch, 2 * epoch + 2) for level in levels(batches[step])]
        assert len(once) == len(set(once)) == 8
        seen.update(once)
    assert seen == set(range(10, 21))


def test_fewer_rows_than_a_batch_make_a_smaller_batch(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(3), DATA, seed=0)
    assert batches.steps_per_epoch == 1
    assert sorted(levels(batches[5])) == [10, 11, 12]


def test_a_batch_is_the_same_in_any_order_of_asking(noisy_rows: list[Row]) -> None:
    data = replace(DATA, ladder_pairs=2)
    asked = Batches(noisy_rows, data, seed=3)
    shuffled = {step: asked[step] for step in (5, 0, 3, 1, 4, 2)}
    for step, batch in shuffled.items():
        assert equal(Batches(noisy_rows, data, seed=3)[step], batch)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_is_the_same_for_any_number_of_workers(noisy_rows: list[Row], workers: int) -> None:
    data = replace(DATA, ladder_pairs=1)
    expected = [Batches(noisy_rows, data, seed=3)[step] for step in range(2, 7)]
    made = list(loader(Batches(noisy_rows, replace(data, workers=workers), seed=3), 2, 7))
    assert len(made) == 5
    assert all(equal(a, b) for a, b in zip(made, expected, strict=True))


def test_another_seed_gives_other_batches(noisy_rows: list[Row]) -> None:
    assert not equal(Batches(noisy_rows, DATA, seed=1)[0], Batches(noisy_rows, DATA, seed=2)[0])


def test_unreadable_pictures_are_named_and_never_replaced(flat_rows: FlatRows) -> None:
    rows = flat_rows(12)
    Path(rows[3].image).unlink()
    Path(rows[7].image).write_bytes(b"<html>")
    batches = Batches(rows, DATA, seed=0)
    made = [batches[step] for step in range(3)]
    assert sorted(level for batch in made for level in levels(batch)) == [
        level for level in range(10, 22) if level not in (13, 17)
    ]
    assert [len(batch.image) + len(batch.unreadable) for batch in made] == [4, 4, 4]
    named = sorted(line for batch in made for line in batch.unreadable)
    assert [line.split(": ")[0] for line in named] == sorted([rows[3].image, rows[7].image])
    assert "there is no file" in named[0]
    assert "must be JPEG" in named[1]


def test_a_batch_with_an_unreadable_picture_is_the_same_again(noisy_rows: list[Row]) -> None:
    Path(noisy_rows[2].image).unlink()
    data = replace(DATA, ladder_pairs=2)
    for step in range(4):
        assert equal(Batches(noisy_rows, data, seed=0)[step], Batches(noisy_rows, data, seed=0)[step])


def test_a_batch_without_one_readable_picture_is_an_error(flat_rows: FlatRows) -> None:
    rows = flat_rows(4)
    for row in rows:
        Path(row.image).unlink()
    with pytest.raises(TrainingError, match=r"train1\d\.png"):
        Batches(rows, DATA, seed=0)[0]


def test_only_scored_rows_of_the_split_are_read(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    train, validation = flat_rows(4), flat_rows(3, split="validation", first=200)
    unlabelled = [replace(row, score=None) for row in flat_rows(2, first=100)]
    path = manifest([*validation, *train, *unlabelled])
    assert [row.score for row in read_rows([path], "train")] == [row.score for row in train]
    assert [row.score for row in read_rows([path], "validation")] == [row.score for row in validation]
    assert len(read_rows([path, path], "train")) == 8


def test_a_split_without_scored_rows_is_an_error(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    path = manifest([*flat_rows(2), replace(flat_rows(1, split="test")[0], score=None)])
    for split in ("validation", "test"):
        with pytest.raises(TrainingError, match=f"'{split}'.*manifest.csv"):
            read_rows([path], split)


def test_validation_pictures_never_appear(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    path = manifest([*flat_rows(8, first=160), *flat_rows(8, split="validation", first=10)])
    data = replace(DATA, ladder_pairs=2, ladder_kinds=("blur",))
    batches = Batches(read_rows([path], "train"), data, seed=0)
    assert min(int(batches[step].image.min()) for step in range(10)) >= 160


@pytest.mark.parametrize("size", [(48, 48), (50, 33), (33, 50), (1, 7), (1, 1), (5, 300)])
def test_crops_lie_inside_the_picture(picture: Picture, size: tuple[int, int]) -> None:
    rows = [Row(picture("flat", np.full((*size, 3), 200, np.uint8)), score=0.5)]
    batches = Batches(rows, replace(DATA, scale_jitter=0.49, batch=1), seed=0)
    for step in range(20):
        assert levels(batches[step]) == [200]


def test_crops_show_the_share_of_the_picture_that_the_recipe_says(picture: Picture) -> None:
    # On a ramp from 0 to 240 across, a crop that shows the share s of the width spans 240 s levels.
    ramp = np.broadcast_to(np.arange(241, dtype=np.uint8)[None, :, None], (240, 241, 3))
    rows = [Row(picture("ramp", np.ascontiguousarray(ramp)), score=0.5)]
    batches = Batches(rows, replace(DATA, size=64, crop=32, scale_jitter=0.1, batch=1), seed=0)
    crops = [batches[step].image[0, :, :, 0].int() for step in range(60)]
    shares = [int(crop.max() - crop.min()) / 240 for crop in crops]
    assert min(shares) > 0.5 * 0.9 - 0.03
    assert max(shares) < 0.5 * 1.1 + 0.01
    mirrored = sum(int(crop[0, 0] > crop[0, -1]) for crop in crops)
    assert 15 < mirrored < 45
    assert min(int(crop.min()) for crop in crops) < 20
    assert max(int(crop.max()) for crop in crops) > 220


def test_rows_with_a_square_show_only_that(picture: Picture) -> None:
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = 255
    path = picture("halves", halves)
    row = Row(path, score=0.9, x=40, y=0, width=40, height=40)
    batches = Batches([row], replace(DATA, batch=1, ladder_pairs=2, ladder_kinds=("blur",)), seed=0)
    assert min(int(batches[step].image.min()) for step in range(10)) == 255


def laplacian_variance(crop: torch.Tensor) -> float:
    grey = crop.double().mean(2)
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def test_a_batch_holds_labelled_crops_then_milder_then_worse_ones(noisy_rows: list[Row]) -> None:
    batch = Batches(noisy_rows, replace(DATA, ladder_pairs=3), seed=0)[0]
    assert (len(batch.image), len(batch.score), len(batch.gap)) == (4 + 2 * 3, 4, 3)
    assert (batch.score.dtype, batch.gap.dtype) == (torch.float32, torch.float32)


def test_the_worse_of_a_pair_is_more_degraded_by_the_kind_asked_for(picture: Picture) -> None:
    # Large enough for the mildest blur, a tenth of a pixel at 90, to show.
    rows = [Row(picture(f"large{index}", noisy(index, 200, 200)), score=0.9) for index in range(4)]
    data = replace(DATA, size=160, crop=128, ladder_pairs=4, ladder_kinds=("blur",))
    batches = Batches(rows, data, seed=0)
    for step in range(6):
        batch = batches[step]
        milder, worse = batch.image[4:8], batch.image[8:]
        for a, b in zip(milder, worse, strict=True):
            assert laplacian_variance(b) < laplacian_variance(a)
        assert ((batch.gap > 0) & (batch.gap <= 0.35)).all()


def test_a_pair_differs_by_its_degradation_only(picture: Picture) -> None:
    """Blur moves no edge: where the picture is wide and flat, milder and worse show the same colours."""
    quarters = np.zeros((240, 240, 3), np.uint8)
    for index, color in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)]):
        quarters[index // 2 * 120 :, index % 2 * 120 :] = color
    rows = [Row(picture("quarters", quarters), score=0.9)]
    data = replace(DATA, batch=1, ladder_pairs=4, ladder_kinds=("blur",))
    batches = Batches(rows, data, seed=0)
    for step in range(10):
        image = batches[step].image.int()
        for milder, worse in zip(image[1:5], image[5:], strict=True):
            assert (milder - worse).abs().double().mean() < 12
            assert torch.equal(milder[0, 0] > 125, worse[0, 0] > 125)
            assert torch.equal(milder[-1, -1] > 125, worse[-1, -1] > 125)


def test_only_rows_with_a_high_enough_score_are_degraded(flat_rows: FlatRows) -> None:
    rows = [*flat_rows(6, first=20), *flat_rows(6, first=220)]
    data = replace(DATA, ladder_pairs=3, ladder_kinds=("blur",), ladder_min_score=0.8)
    batches = Batches(rows, data, seed=0)
    assert min(int(batches[step].image[len(batches[step].score) :].min()) for step in range(8)) >= 220


def test_an_unreadable_pair_is_named_and_left_out(flat_rows: FlatRows) -> None:
    rows = flat_rows(4, first=20) + flat_rows(1, first=250)
    data = replace(DATA, batch=5, ladder_pairs=2, ladder_min_score=0.9)
    Path(rows[-1].image).unlink()
    batch = Batches(rows, data, seed=0)[0]
    assert (len(batch.image), len(batch.score), len(batch.gap)) == (4, 4, 0)
    assert [line.split(": ")[0] for line in batch.unreadable] == [rows[-1].image] * 3


def test_an_unknown_degradation_is_an_error(flat_rows: FlatRows) -> None:
    with pytest.raises(TrainingError, match="'fog'") as caught:
        Batches(flat_rows(4), replace(DATA, ladder_kinds=("blur", "fog")), seed=0)
    assert "blur" in str(caught.value.hint)


def test_nothing_good_enough_to_degrade_is_an_error(flat_rows: FlatRows) -> None:
    with pytest.raises(TrainingError, match=r"score of at least 0\.6") as caught:
        Batches(flat_rows(4), replace(DATA, ladder_pairs=1), seed=0)
    assert "ladder_pairs = 0" in str(caught.value.hint)


def test_sources_are_counted(flat_rows: FlatRows) -> None:
    rows = [*flat_rows(2), replace(flat_rows(1)[0], source=""), replace(flat_rows(1)[0], source="teacher@1")]
    assert count_sources(rows) == {"human": 2, "unknown": 1, "teacher@1": 1}
