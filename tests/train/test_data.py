"""Batches are pure functions of (seed, step), hold each row once an epoch, and replace nothing."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'efiqa[train]'")

from efiqa.degrade import KINDS
from efiqa.errors import RecordError, TrainingError
from efiqa.image import Image, resize
from efiqa.records import Row, write_manifest
from efiqa.train.data import Batch, Batches, count_sources, loader, read_rows
from efiqa.train.recipe import Data, Distil, Ladder, Model, Recipe, Run

FlatRows = Callable[..., list[Row]]
Picture = Callable[[str, Image], str]


def recipe_of(*, ladder: Ladder | None = None, seed: int = 0, **data: Any) -> Recipe:
    """48 px pictures, 32 px crops, batches of four; `data` replaces parts of that."""
    return Recipe(
        data=Data(**{"train": ("unused.csv",), "size": 48, "crop": 32, "batch": 4, "workers": 0, **data}),
        model=Model("unused", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
        ladder=ladder or Ladder(),
        distil=Distil(("unused",)),
        run=Run(seed=seed),
    )


def levels(batch: Batch) -> list[int]:
    """Grey levels of the labelled crops, in order; asserts that each crop is flat."""
    labelled = batch.image[: len(batch.score)].flatten(1)
    assert (labelled == labelled[:, :1]).all()
    return labelled[:, 0].tolist()


def equal(a: Batch, b: Batch) -> bool:
    names = ("image", "score", "weight", "gap", "teacher_score", "teacher_features")
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
    return same and (a.ids, a.unreadable) == (b.ids, b.unreadable)


def noisy(seed: int, height: int = 64, width: int = 64) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def noisy_rows(picture: Picture) -> list[Row]:
    return [Row(picture(f"noisy{index}", noisy(index)), score=0.9, source="human") for index in range(8)]


def test_every_crop_keeps_its_own_label(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(12), recipe_of())
    for step in range(6):
        batch = batches[step]
        assert (batch.image.shape, batch.image.dtype) == ((4, 32, 32, 3), torch.uint8)
        assert batch.score.tolist() == pytest.approx([level / 255 for level in levels(batch)])


def test_each_epoch_covers_each_row_once_in_another_order(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(12), recipe_of())
    assert batches.per_epoch == 3
    epochs = [
        [level for step in range(3 * epoch, 3 * epoch + 3) for level in levels(batches[step])]
        for epoch in range(3)
    ]
    assert all(sorted(epoch) == list(range(10, 22)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_leaves_out_less_than_a_batch_and_not_always_the_same(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(11), recipe_of())
    seen: set[int] = set()
    for epoch in range(8):
        once = [level for step in range(2 * epoch, 2 * epoch + 2) for level in levels(batches[step])]
        assert len(once) == len(set(once)) == 8
        seen.update(once)
    assert seen == set(range(10, 21))


def test_fewer_rows_than_a_batch_make_a_smaller_batch(flat_rows: FlatRows) -> None:
    batches = Batches(flat_rows(3), recipe_of())
    assert batches.per_epoch == 1
    assert sorted(levels(batches[5])) == [10, 11, 12]


def test_a_batch_is_the_same_in_any_order_of_asking(noisy_rows: list[Row]) -> None:
    recipe = recipe_of(seed=3, ladder=Ladder(pairs=2))
    asked = Batches(noisy_rows, recipe)
    shuffled = {step: asked[step] for step in (5, 0, 3, 1, 4, 2)}
    for step, batch in shuffled.items():
        assert equal(Batches(noisy_rows, recipe)[step], batch)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_is_the_same_for_any_number_of_workers(noisy_rows: list[Row], workers: int) -> None:
    recipe = recipe_of(seed=3, ladder=Ladder(pairs=1))
    expected = [Batches(noisy_rows, recipe)[step] for step in range(2, 7)]
    several = recipe_of(seed=3, ladder=Ladder(pairs=1), workers=workers)
    made = list(loader(Batches(noisy_rows, several), 2, 7, workers))
    assert len(made) == 5
    assert all(equal(a, b) for a, b in zip(made, expected, strict=True))


def test_another_seed_gives_other_batches(noisy_rows: list[Row]) -> None:
    assert not equal(Batches(noisy_rows, recipe_of(seed=1))[0], Batches(noisy_rows, recipe_of(seed=2))[0])


def test_unreadable_pictures_are_named_and_never_replaced(flat_rows: FlatRows) -> None:
    rows = flat_rows(12)
    Path(rows[3].image).unlink()
    Path(rows[7].image).write_bytes(b"<html>")
    batches = Batches(rows, recipe_of())
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
    recipe = recipe_of(ladder=Ladder(pairs=2))
    for step in range(4):
        assert equal(Batches(noisy_rows, recipe)[step], Batches(noisy_rows, recipe)[step])


def test_a_batch_without_one_readable_picture_is_an_error(flat_rows: FlatRows) -> None:
    rows = flat_rows(4)
    for row in rows:
        Path(row.image).unlink()
    with pytest.raises(TrainingError, match=r"train1\d\.png"):
        Batches(rows, recipe_of())[0]


def read(*train: str, validation: tuple[str, ...] = ()) -> tuple[list[Row], list[Row]]:
    return read_rows(Data(train=train, validation=validation))


def test_only_scored_rows_of_each_split_are_read(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    train, validation = flat_rows(4), flat_rows(3, split="validation", first=200)
    unlabelled = [replace(row, score=None) for row in flat_rows(2, first=100)]
    path = manifest([*validation, *train, *unlabelled])
    learnt, held_out = read(path, validation=(path,))
    assert [row.score for row in learnt] == [row.score for row in train]
    assert [row.score for row in held_out] == [row.score for row in validation]


def test_a_manifest_listed_twice_counts_twice_and_no_validation_is_none(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    path = manifest(flat_rows(4))
    learnt, held_out = read(path, path)
    assert [row.score for row in learnt] == 2 * [row.score for row in flat_rows(4)]
    assert held_out == []


def test_a_split_without_scored_rows_is_an_error(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    path = manifest([*flat_rows(2), replace(flat_rows(1, split="validation")[0], score=None)])
    with pytest.raises(TrainingError, match=r"'validation'.*manifest.csv"):
        read(path, validation=(path,))
    path = manifest([*flat_rows(2, split="validation"), replace(flat_rows(1)[0], score=None)])
    with pytest.raises(TrainingError, match=r"'train'.*manifest.csv"):
        read(path, validation=(path,))


def test_a_picture_that_is_not_there_stops_the_run_before_it_starts(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    rows = flat_rows(4)
    path = manifest(rows)
    Path(rows[2].image).unlink()
    with pytest.raises(RecordError, match=r"train12\.png"):
        read(path)


def test_a_picture_on_both_sides_is_an_error_even_in_two_manifests(
    flat_rows: FlatRows, tmp_path: Path
) -> None:
    rows = flat_rows(4)
    write_manifest(tmp_path / "a.csv", rows)
    write_manifest(tmp_path / "b.csv", [replace(rows[1], split="validation")])
    with pytest.raises(RecordError, match=r"train11\.png"):
        read(str(tmp_path / "a.csv"), validation=(str(tmp_path / "b.csv"),))


def test_validation_pictures_never_appear(
    flat_rows: FlatRows, manifest: Callable[[Sequence[Row]], str]
) -> None:
    path = manifest([*flat_rows(8, first=160), *flat_rows(8, split="validation", first=10)])
    recipe = recipe_of(ladder=Ladder(pairs=2, kinds=("blur",)))
    batches = Batches(read(path)[0], recipe)
    assert min(int(batches[step].image.min()) for step in range(10)) >= 160


@pytest.mark.parametrize("size", [(48, 48), (50, 33), (33, 50), (1, 7), (1, 1), (5, 300)])
def test_crops_lie_inside_the_picture(picture: Picture, size: tuple[int, int]) -> None:
    rows = [Row(picture("flat", np.full((*size, 3), 200, np.uint8)), score=0.5)]
    batches = Batches(rows, recipe_of(scale_jitter=0.49, batch=1))
    for step in range(20):
        assert levels(batches[step]) == [200]


def test_crops_show_the_share_of_the_picture_that_the_recipe_says(picture: Picture) -> None:
    # On a ramp from 0 to 240 across, a crop that shows the share s of the width spans 240 s levels.
    ramp = np.broadcast_to(np.arange(241, dtype=np.uint8)[None, :, None], (240, 241, 3))
    rows = [Row(picture("ramp", np.ascontiguousarray(ramp)), score=0.5)]
    batches = Batches(rows, recipe_of(size=64, crop=32, scale_jitter=0.1, batch=1))
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
    batches = Batches([row], recipe_of(ladder=Ladder(pairs=2, kinds=("blur",)), batch=1))
    assert min(int(batches[step].image.min()) for step in range(10)) == 255


def laplacian_variance(crop: torch.Tensor) -> float:
    grey = crop.double().mean(2)
    centre = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * centre
    return float(laplacian.var())


def test_a_batch_holds_labelled_crops_then_milder_then_worse_ones(noisy_rows: list[Row]) -> None:
    batch = Batches(noisy_rows, recipe_of(ladder=Ladder(pairs=3)))[0]
    assert (len(batch.image), len(batch.score), len(batch.gap)) == (4 + 2 * 3, 4, 3)
    assert (batch.score.dtype, batch.gap.dtype) == (torch.float32, torch.float32)


def test_the_worse_of_a_pair_is_more_degraded_by_the_kind_asked_for(picture: Picture) -> None:
    # Large enough for the mildest blur, a tenth of a pixel at 90, to show.
    rows = [Row(picture(f"large{index}", noisy(index, 200, 200)), score=0.9) for index in range(4)]
    recipe = recipe_of(ladder=Ladder(pairs=4, kinds=("blur",)), size=160, crop=128)
    batches = Batches(rows, recipe)
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
    recipe = recipe_of(ladder=Ladder(pairs=4, kinds=("blur",)), batch=1)
    batches = Batches(rows, recipe)
    for step in range(10):
        image = batches[step].image.int()
        for milder, worse in zip(image[1:5], image[5:], strict=True):
            assert (milder - worse).abs().double().mean() < 12
            assert torch.equal(milder[0, 0] > 125, worse[0, 0] > 125)
            assert torch.equal(milder[-1, -1] > 125, worse[-1, -1] > 125)


def test_only_rows_with_a_high_enough_score_are_degraded(flat_rows: FlatRows) -> None:
    rows = [*flat_rows(6, first=20), *flat_rows(6, first=220)]
    recipe = recipe_of(ladder=Ladder(pairs=3, kinds=("blur",), min_score=0.8))
    batches = Batches(rows, recipe)
    assert min(int(batches[step].image[len(batches[step].score) :].min()) for step in range(8)) >= 220


def test_an_unreadable_pair_is_named_and_left_out(flat_rows: FlatRows) -> None:
    rows = flat_rows(4, first=20) + flat_rows(1, first=250)
    recipe = recipe_of(ladder=Ladder(pairs=2, min_score=0.9), batch=5)
    Path(rows[-1].image).unlink()
    batch = Batches(rows, recipe)[0]
    assert (len(batch.image), len(batch.score), len(batch.gap)) == (4, 4, 0)
    assert [line.split(": ")[0] for line in batch.unreadable] == [rows[-1].image] * 3


def test_nothing_good_enough_to_degrade_is_an_error(flat_rows: FlatRows) -> None:
    with pytest.raises(TrainingError, match=r"score of at least 0\.6") as caught:
        Batches(flat_rows(4), recipe_of(ladder=Ladder(pairs=1)))
    assert "ladder.pairs = 0" in str(caught.value.hint)


def first_grey(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A teacher that says each crop's mean, and the colour of its first and last pixel."""
    corners = torch.cat([images[:, 0, 0], images[:, -1, -1]], dim=1)
    return images.flatten(1).float().mean(1), corners.float()


def test_a_teacher_is_asked_about_exactly_the_crops_in_their_order(noisy_rows: list[Row]) -> None:
    recipe = recipe_of(degraded=0.5, ladder=Ladder(pairs=3))
    batches = Batches(noisy_rows, recipe, teacher=first_grey)
    for number in range(4):
        batch = batches[number]
        assert len(batch.image) == 4 + 2 * 3
        score, features = first_grey(batch.image)
        assert torch.equal(batch.teacher_score, score)
        assert torch.equal(batch.teacher_features, features)
        without = Batches(noisy_rows, recipe)[number]
        assert torch.equal(without.image, batch.image)
        assert (len(without.teacher_score), len(without.teacher_features)) == (0, 0)


def test_a_degraded_crop_has_no_label(flat_rows: FlatRows) -> None:
    """Brightening a flat crop changes its level, so a label of its own level would be seen to be wrong."""
    rows = flat_rows(12, first=40)
    batches = Batches(rows, recipe_of(degraded=0.5, ladder=Ladder(kinds=("bright",))))
    counts = []
    for number in range(12):
        batch = batches[number]
        assert levels(batch) == [round(score * 255) for score in batch.score.tolist()]
        degraded = batch.image[len(batch.score) :]
        assert len(batch.score) + len(degraded) == len(batch.ids) == 4
        assert len(batch.weight) == len(batch.score)
        counts.append(len(degraded))
        if len(degraded):
            levels_of_rows = sorted(round((row.score or 0) * 255) for row in rows if row.image in batch.ids)
            changed = sorted(set(levels_of_rows) - set(levels(batch)))
            assert all(int(crop.min()) > level for crop, level in zip(degraded, changed, strict=True))
    assert 12 < sum(counts) < 36


def test_every_crop_is_degraded_at_a_chance_of_1_and_none_at_0(noisy_rows: list[Row]) -> None:
    assert len(Batches(noisy_rows, recipe_of(degraded=1.0))[0].score) == 0
    assert len(Batches(noisy_rows, recipe_of(degraded=0.0))[0].score) == 4


def test_every_label_comes_with_its_own_weight(flat_rows: FlatRows) -> None:
    rows = [replace(row, weight=(row.score or 0) / 2) for row in flat_rows(12)]
    batches = Batches(rows, recipe_of())
    for number in range(3):
        torch.testing.assert_close(batches[number].weight, batches[number].score / 2)


def test_ids_are_the_pictures_in_the_order_of_the_crops(flat_rows: FlatRows) -> None:
    rows = flat_rows(4, first=200)
    batch = Batches(rows, recipe_of(ladder=Ladder(pairs=3, kinds=("noise",), min_score=0)))[0]
    by_level = {round((row.score or 0) * 255): row.image for row in rows}
    assert batch.ids[:4] == tuple(by_level[level] for level in levels(batch))
    assert len(batch.ids) == 4 + 3
    assert set(batch.ids[4:]) <= set(by_level.values())


@pytest.mark.parametrize("processes", [2, 3])
def test_the_shares_of_several_processes_make_up_the_batch_of_one(
    noisy_rows: list[Row], processes: int
) -> None:
    recipe = recipe_of(degraded=0.4, batch=5, ladder=Ladder(pairs=4))
    for number in range(4):
        whole = Batches(noisy_rows, recipe, teacher=first_grey)[number]
        shares = [
            Batches(noisy_rows, recipe, teacher=first_grey, rank=rank, processes=processes)[number]
            for rank in range(processes)
        ]

        def crops(batch: Batch, part: str) -> list[bytes]:
            labelled, pairs = len(batch.score), len(batch.gap)
            start = {
                "labelled": (0, labelled),
                "degraded": (labelled, len(batch.image) - 2 * pairs),
                "milder": (len(batch.image) - 2 * pairs, len(batch.image) - pairs),
                "worse": (len(batch.image) - pairs, len(batch.image)),
            }[part]
            values = {"labelled": batch.score, "milder": batch.gap, "worse": batch.gap}.get(part)
            found = []
            for index, place in enumerate(range(*start)):
                extra = b"" if values is None else values[index].numpy().tobytes()
                judged = batch.teacher_score[place].numpy().tobytes()
                found.append(batch.image[place].numpy().tobytes() + judged + extra)
            return found

        for part in ("labelled", "degraded", "milder", "worse"):
            together = sorted(crop for share in shares for crop in crops(share, part))
            assert together == sorted(crops(whole, part)), part
        assert sorted(name for share in shares for name in share.ids) == sorted(whole.ids)
        sizes = [len(share.ids) for share in shares]
        assert max(sizes) - min(sizes) <= 2  # crops and pairs each share out to within one


def test_a_process_that_gets_nothing_of_a_batch_is_an_error(noisy_rows: list[Row]) -> None:
    batches = Batches(noisy_rows, recipe_of(batch=2), rank=2, processes=3)
    with pytest.raises(TrainingError, match="batch of 2 rows leaves nothing for process 2 of 3") as caught:
        batches[0]
    assert "data.batch" in str(caught.value.hint)


@pytest.mark.parametrize("kind", KINDS)
def test_the_worse_of_a_pair_is_further_from_the_picture_for_each_kind(picture: Picture, kind: str) -> None:
    """Against the crop itself, which severity 0 shows, the error grows from milder to worse."""
    grain = np.random.default_rng(1).normal(0, 8, (160, 160, 3))
    coarse = np.random.default_rng(2).uniform(60, 190, (8, 8, 3)).repeat(20, 0).repeat(20, 1)
    pixels = np.clip(coarse + grain, 0, 255).astype(np.uint8)
    rows = [Row(picture("photo", pixels), score=0.9)]
    # The crop as large as the picture, without jitter: all that chance decides is size and mirroring.
    recipe = recipe_of(size=96, crop=96, batch=1, scale_jitter=0.0, ladder=Ladder(pairs=6, kinds=(kind,)))
    batch = Batches(rows, recipe)[0]
    plain = torch.tensor(resize(pixels, 96)).double()

    def error(crop: torch.Tensor) -> float:
        return min(float((crop.double() - seen).square().mean()) for seen in (plain, plain.flip(1)))

    assert ((batch.gap > 0) & (batch.gap <= 0.35 + 1e-6)).all()
    for milder, worse in zip(batch.image[1:7], batch.image[7:], strict=True):
        assert error(milder) < error(worse)


def test_sources_are_counted(flat_rows: FlatRows) -> None:
    rows = [*flat_rows(2), replace(flat_rows(1)[0], source=""), replace(flat_rows(1)[0], source="teacher@1")]
    assert count_sources(rows) == {"human": 2, "unknown": 1, "teacher@1": 1}


@pytest.mark.parametrize("processes", [1, 2])
def test_pictures_in_tars_make_the_batches_of_the_same_pictures_in_files_in_the_order_of_the_seed(
    noisy_rows: list[Row], tmp_path: Path, processes: int
) -> None:
    in_tars = []
    for number, row in enumerate(noisy_rows):
        shard = tmp_path / f"s-{number % 2}.tar"
        with tarfile.open(shard, "a") as archive:
            archive.add(row.image, Path(row.image).name)
        in_tars.append(replace(row, image=f"{shard}/{Path(row.image).name}"))
    write_manifest(tmp_path / "tars.csv", in_tars)
    rows, _ = read(str(tmp_path / "tars.csv"))
    recipe = recipe_of(ladder=Ladder(pairs=2, kinds=("blur",)), batch=4, seed=3)
    for rank in range(processes):
        files = Batches(noisy_rows, recipe, rank=rank, processes=processes)
        tars = Batches(rows, recipe, rank=rank, processes=processes)
        for made, again, step in zip(loader(tars, 0, 5, 2), loader(tars, 0, 5, 0), range(5), strict=True):
            assert equal(made, again)
            assert torch.equal(made.image, files[step].image)
            assert [Path(name).name for name in made.ids] == [Path(name).name for name in files[step].ids]
            assert not made.unreadable


def test_a_tar_that_is_not_there_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.csv", [Row(str(tmp_path / "gone.tar" / "a.png"), score=0.5)])
    with pytest.raises(RecordError, match=r"gone\.tar/a\.png is not there"):
        read(str(tmp_path / "m.csv"))
