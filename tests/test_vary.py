"""Copies for a teacher to label: the same files for the same call, however often it was interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from efiqa.errors import ImageError, RecordError
from efiqa.records import Row
from efiqa.vary import SMALLEST_CROP, vary


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Four noisy pictures of 48 × 40 pixels in two groups."""
    made = []
    for index in range(4):
        noise = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        path = tmp_path / f"picture{index}.png"
        PIL.Image.fromarray(noise).save(path)
        split = "train" if index < 2 else "validation"
        made.append(Row(str(path), score=0.5, split=split, source="human", group=f"person{index // 2}"))
    return made


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(row: Row) -> np.ndarray:
    with PIL.Image.open(row.image) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("workers", [1, 3])
def test_files_and_rows_are_the_same_for_any_worker_count(
    rows: list[Row], tmp_path: Path, workers: int
) -> None:
    expected = list(vary(rows, tmp_path / "a", copies=3, largest=64))
    made = list(vary(rows, tmp_path / "b", copies=3, largest=64, workers=workers))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert [Path(row.image).name for row in made] == [Path(row.image).name for row in expected]
    assert len(made) == len(files(tmp_path / "b")) == 12


def test_another_seed_gives_other_pictures(rows: list[Row], tmp_path: Path) -> None:
    for seed in (0, 1):
        list(vary(rows, tmp_path / str(seed), copies=2, largest=64, seed=seed))
    first, second = files(tmp_path / "0"), files(tmp_path / "1")
    assert all(first[name] != second[name] for name in first)


def test_an_interrupted_call_goes_on_with_the_same_bytes(rows: list[Row], tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    before_rows = list(vary(rows, folder, copies=4, largest=64))
    before = files(folder)
    for name in list(before)[::2]:
        (folder / name).unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "000000-0.partial").write_bytes(b"half a picture")
    assert list(vary(rows, folder, copies=4, largest=64)) == before_rows
    assert files(folder) == before
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


def test_an_unreadable_picture_is_told_of_and_left_out(rows: list[Row], tmp_path: Path) -> None:
    Path(rows[1].image).write_bytes(b"<html>not a picture</html>")
    told: list[tuple[Row, ImageError]] = []
    made = list(
        vary(
            rows,
            tmp_path / "copies",
            copies=2,
            largest=64,
            unreadable=lambda row, error: told.append((row, error)),
        )
    )
    assert [(row.image, error.status) for row, error in told] == [(rows[1].image, "not_an_image")]
    assert [Path(row.image).name[:6] for row in made] == ["000000"] * 2 + ["000002"] * 2 + ["000003"] * 2


def test_what_is_left_out_changes_nothing_about_the_others(rows: list[Row], tmp_path: Path) -> None:
    list(vary(rows, tmp_path / "whole", copies=2, largest=64))
    Path(rows[0].image).unlink()
    list(vary(rows, tmp_path / "part", copies=2, largest=64))
    whole, part = files(tmp_path / "whole"), files(tmp_path / "part")
    assert part == {name: data for name, data in whole.items() if not name.startswith("000000")}


def test_split_and_group_are_kept_and_the_label_is_not(rows: list[Row], tmp_path: Path) -> None:
    made = list(vary(rows, tmp_path / "copies", copies=2, largest=64))
    kept = [(row.split, row.group) for row in rows for _ in range(2)]
    assert [(row.split, row.group) for row in made] == kept
    assert {(row.score, row.source, row.bounds) for row in made} == {(None, "", None)}


def test_no_side_is_longer_than_largest(rows: list[Row], tmp_path: Path) -> None:
    made = list(vary(rows, tmp_path / "copies", copies=3, largest=20))
    assert max(max(read(row).shape[:2]) for row in made) <= 20


def test_crops_keep_at_least_the_smallest_share_of_each_side(rows: list[Row], tmp_path: Path) -> None:
    made = list(vary(rows, tmp_path / "copies", copies=5, largest=64))
    for row in made:
        height, width = read(row).shape[:2]
        assert SMALLEST_CROP * 40 - 1 <= height <= 40
        assert SMALLEST_CROP * 48 - 1 <= width <= 48


def test_the_first_copy_is_a_part_of_the_picture_and_not_degraded(rows: list[Row], tmp_path: Path) -> None:
    for row, original in zip(vary(rows, tmp_path / "copies", copies=1, largest=64), rows, strict=True):
        copy, picture = read(row), read(original)
        height, width = copy.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(picture, (height, width, 3))
        assert (windows == copy).all(axis=(-3, -2, -1)).any()


def test_some_later_copies_are_degraded(rows: list[Row], tmp_path: Path) -> None:
    # Crops of noise hold no other values than noise does; a blurred or dark one has less contrast.
    made = list(vary(rows, tmp_path / "copies", copies=9, largest=64))
    contrasts = np.array([read(row).std() for row in made if not row.image.endswith("-0.png")])
    assert 0.1 < (contrasts < 65).mean() < 0.9


def test_only_the_rows_square_is_copied(tmp_path: Path) -> None:
    halves = np.zeros((40, 80, 3), np.uint8)
    halves[:, 40:] = (0, 0, 255)
    PIL.Image.fromarray(halves).save(tmp_path / "halves.png")
    row = Row(str(tmp_path / "halves.png"), x=40, y=0, width=40, height=40)
    (copy,) = vary([row], tmp_path / "copies", copies=1, largest=64)
    assert (read(copy) == (0, 0, 255)).all()


def test_a_square_outside_the_picture_is_an_error(rows: list[Row], tmp_path: Path) -> None:
    outside = Row(rows[0].image, x=30, y=0, width=40, height=40)
    with pytest.raises(RecordError):
        list(vary([outside], tmp_path / "copies", copies=1, largest=64))
