"""Error versus discard: worked by hand, equal to an independent count, indifferent to the order of ties."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st

import efiqa.discard
import efiqa.groups
import efiqa.metrics
import efiqa.resampling
from efiqa.discard import best_curve, discard_curve, match_threshold, relative_area
from efiqa.errors import InvalidArgument, RecordError
from efiqa.pairs import Pairs, people, read_pairs
from efiqa.recognition import SHARES, recognise

PAIRS = Path(__file__).parents[2] / "shared" / "data" / "ytf_pairs.csv"
SIX = [1, 2, 3, 4, 5, 6]
FAILED = [True, False, True, False, False, True]

sample = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30)


@pytest.mark.parametrize("module", [efiqa.discard, efiqa.groups, efiqa.metrics, efiqa.resampling])
def test_examples_in_docstrings_are_true(module) -> None:
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.attempted > 0
    assert result.failed == 0


# The threshold


def test_the_threshold_lets_through_as_many_impostors_as_the_rate_allows():
    threshold = match_threshold(np.arange(100) / 100, 0.05)
    assert (threshold.limit, threshold.false_matches, threshold.fmr) == (0.94, 5, 0.05)


def test_a_threshold_between_equal_impostors_lets_none_of_them_through():
    threshold = match_threshold([0.9, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 0.2)
    assert (threshold.limit, threshold.false_matches) == (0.5, 1)


@pytest.mark.parametrize(
    ("similarity", "fmr", "reason"),
    [
        ([], 0.1, "no impostor pairs"),
        ([0.1, 0.2, 0.3], 0.1, "3 impostor pairs cannot resolve a false match rate of 0.1"),
        ([0.1] * 999, 1e-3, "cannot resolve"),
        ([0.1, math.nan], 0.5, "finite"),
        ([0.1, 0.2], 0.0, "between 0 and 1"),
        ([0.1, 0.2], 1.0, "between 0 and 1"),
        ([0.1, 0.2], math.nan, "between 0 and 1"),
    ],
)
def test_what_has_no_threshold_is_an_error(similarity: list[float], fmr: float, reason: str):
    with pytest.raises(InvalidArgument, match=reason):
        match_threshold(similarity, fmr)


def test_a_rate_that_the_sample_just_resolves_is_taken():
    assert match_threshold(np.arange(1000), 1e-3).false_matches == 1
    assert match_threshold(np.arange(30), 0.1).false_matches == 3  # 0.1 · 30 is 3.0000000000000004 or less


# The curve


def test_six_pairs_by_hand():
    rates = discard_curve(SIX, FAILED).fnmr(np.arange(6) / 6)
    assert rates.tolist() == pytest.approx([3 / 6, 2 / 5, 2 / 4, 1 / 3, 1 / 2, 1 / 1], abs=1e-12)


def test_between_two_pairs_part_of_one_is_gone():
    # Half of the worst pair, which fails, is gone: 2.5 of 5.5.
    assert float(discard_curve(SIX, FAILED).fnmr(0.5 / 6)) == pytest.approx(2.5 / 5.5, abs=1e-12)


@given(sample)
def test_ties_are_the_mean_over_all_their_orders(rows: list[tuple[int, bool]]):
    quality, failed = (np.array(column) for column in zip(*rows[:6], strict=True))
    n = quality.size
    curves = [
        discard_curve(np.arange(n), failed[list(order)]).fnmr(np.arange(n) / n)
        for order in itertools.permutations(range(n))
        if (np.diff(quality[list(order)]) >= 0).all()
    ]
    assert discard_curve(quality, failed).fnmr(np.arange(n) / n) == pytest.approx(np.mean(curves, 0))


@given(sample, st.randoms(use_true_random=False))
def test_the_curve_depends_on_neither_order_nor_scale(rows: list[tuple[int, bool]], shuffled):
    quality, failed = (np.array(column) for column in zip(*rows, strict=True))
    order = list(range(len(rows)))
    shuffled.shuffle(order)
    first, second = discard_curve(quality, failed), discard_curve(np.exp(quality[order]) - 9, failed[order])
    assert first.fnmr(SHARES) == pytest.approx(second.fnmr(SHARES))
    assert first.area() == pytest.approx(second.area())


@given(sample)
def test_no_curve_is_below_the_best_and_all_begin_at_the_rate(rows: list[tuple[int, bool]]):
    quality, failed = (np.array(column) for column in zip(*rows, strict=True))
    curve, best = discard_curve(quality, failed), best_curve(float(failed.mean()))
    assert float(curve.fnmr(0)) == pytest.approx(failed.mean())
    assert (curve.fnmr(SHARES) >= best.fnmr(SHARES) - 1e-12).all()
    assert curve.area() >= best.area() - 1e-12


@given(sample)
def test_a_weight_is_a_pair_that_stands_there_so_often(rows: list[tuple[int, bool]]):
    quality, failed = (np.array(column) for column in zip(*rows, strict=True))
    weight = np.arange(quality.size) % 3 + 1
    repeated = discard_curve(np.repeat(quality, weight), np.repeat(failed, weight))
    assert discard_curve(quality, failed, weight).fnmr(SHARES) == pytest.approx(repeated.fnmr(SHARES))


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.77])
def test_the_area_is_the_integral(limit: float):
    generator = np.random.default_rng(0)
    curve = discard_curve(generator.integers(0, 12, 60), generator.random(60) < 0.4)
    ends = curve.share[(curve.share > 0) & (curve.share < limit)]
    theirs, _ = scipy.integrate.quad(lambda at: float(curve.fnmr(at)), 0, limit, points=ends, limit=200)
    assert curve.area(limit) == pytest.approx(theirs, abs=1e-10)


def test_one_quality_for_all_is_chance():
    curve = discard_curve(np.ones(10), np.arange(10) < 4)
    assert curve.fnmr(SHARES) == pytest.approx(np.full(SHARES.size, 0.4))
    assert curve.area() == pytest.approx(0.4 * 0.3)
    assert relative_area(curve) == pytest.approx(1)


def test_a_perfect_quality_is_the_best_and_its_reverse_is_worse_than_chance():
    failed = np.arange(100) < 20
    assert discard_curve(np.arange(100), failed).fnmr(SHARES) == pytest.approx(best_curve(0.2).fnmr(SHARES))
    assert relative_area(discard_curve(np.arange(100), failed)) == pytest.approx(0, abs=1e-12)
    assert relative_area(discard_curve(-np.arange(100), failed)) > 1
    # Of 100, 20 fail; after 10 % discarded 10 of 90 do, after 20 % none.
    assert best_curve(0.2).fnmr([0.1, 0.2, 0.5]) == pytest.approx([10 / 90, 0, 0])


def test_pairs_without_a_quality_go_first():
    curve = discard_curve([0.1, -math.inf, 0.5, -math.inf], [False, True, False, True])
    assert curve.fnmr([0, 0.5]).tolist() == [0.5, 0]


@pytest.mark.parametrize(
    ("quality", "failed", "weight", "reason"),
    [
        ([], [], None, "n ≥ 1"),
        ([1, 2], [True], None, "one shape"),
        ([1, math.nan], [True, False], None, "NaN"),
        ([1, 2], [True, False], [0, 0], "above 0"),
        ([1, 2], [True, False], [2, -1], "0 or more"),
    ],
)
def test_what_is_no_curve_is_an_error(quality, failed, weight, reason: str):
    with pytest.raises(InvalidArgument, match=reason):
        discard_curve(quality, failed, weight)


@pytest.mark.parametrize("failed", [[False] * 4, [True] * 4])
def test_where_no_order_is_better_there_is_no_relative_area(failed: list[bool]):
    with pytest.raises(InvalidArgument, match="genuine pair fails"):
        relative_area(discard_curve([1, 2, 3, 4], failed))


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_nothing_is_known_after_all_is_discarded(share: float):
    with pytest.raises(InvalidArgument, match="discarded share"):
        discard_curve(SIX, FAILED).fnmr(share)


# The table of pairs


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["image_a,image_b,genuine,similarity", *lines]) + "\n")
    return path


def test_pairs_are_read_and_a_repeated_one_counts_once(tmp_path: Path):
    pairs = read_pairs(table(tmp_path / "p.csv", "a,b,1,0.9", "c,a,0,-0.1", "b,a,1,0.9", "a,b,true,0.9"))
    assert (pairs.first, pairs.second, pairs.repeated) == (["a", "c"], ["b", "a"], 2)
    assert (pairs.genuine.tolist(), pairs.similarity.tolist()) == ([True, False], [0.9, -0.1])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,b,1,0.9\nb,a,1,0.8", "line 3: b and a are a pair already, with other numbers, in .*line 2"),
        ("a,b,1,0.9\na,b,0,0.9", "a pair already"),
        ("a,a,1,1.0", "line 2: a is paired with itself"),
        ("a,b,maybe,1.0", "genuine must be 1 or 0, but got 'maybe'"),
        ("a,b,1,nan", "similarity must be finite"),
        ("a,b,1,high", "similarity must be a number"),
        ("a,b,1,", "no value in column 'similarity'"),
        ("", "holds no pairs"),
    ],
)
def test_a_bad_pair_is_an_error_with_its_line(tmp_path: Path, line: str, reason: str):
    with pytest.raises(RecordError, match=reason):
        read_pairs(table(tmp_path / "p.csv", line))


def test_a_table_without_a_column_is_an_error_that_names_all(tmp_path: Path):
    (tmp_path / "p.csv").write_text("image_a,image_b,similarity\na,b,0.5\n")
    with pytest.raises(RecordError, match="'genuine'") as caught:
        read_pairs(tmp_path / "p.csv")
    assert "image_a, image_b, genuine, similarity" in str(caught.value.hint)


def test_people_are_what_genuine_pairs_connect():
    genuine = np.array([True, True, True, False, True])
    pairs = Pairs(["a", "b", "x", "a", "y"], ["b", "c", "y", "x", "z"], genuine, np.zeros(5))
    anna, again, xaver, _, third = people(pairs).tolist()
    assert anna == again
    assert xaver == third
    assert anna != xaver


# Scorers


def world(n: int = 2000, seed: int = 0):
    """Half genuine, half impostor pairs; the lower the quality of a genuine one, the less alike they look."""
    generator = np.random.default_rng(seed)
    quality, genuine = generator.random(n), np.arange(n) % 2 == 0
    similarity = genuine * quality + 0.2 * generator.standard_normal(n)
    return quality, genuine, similarity, np.arange(n) // 8


def test_a_good_quality_is_ahead_of_noise_and_of_its_opposite():
    quality, genuine, similarity, person = world()
    noise = np.random.default_rng(1).random(quality.size)
    scorers = {"good": quality, "noise": noise, "opposite": -quality}
    found = recognise(scorers, genuine, similarity, person=person, fmr=0.01)
    assert (found.genuine, found.threshold.impostors, found.people) == (1000, 1000, 250)
    relative = {name: one.relative for name, one in found.scorers.items()}
    assert relative["good"].high < 0.7 < relative["noise"].low < 1 < relative["noise"].high < 1.3
    assert relative["opposite"].low > 1.2
    assert all(each.corrected < 0.05 for each in found.comparisons)
    for one in found.scorers.values():
        assert one.fnmr[0].value == pytest.approx(found.fnmr)
        assert one.area.low < one.area.value < one.area.high
        assert found.best_area <= one.area.value


def test_pairs_of_one_person_make_the_interval_wider_than_independent_ones():
    generator = np.random.default_rng(2)
    bad = np.repeat(generator.random(60) < 0.3, 20)  # a person's pairs fail together
    genuine = np.repeat([True, False], [1200, 1000])
    similarity = np.concatenate((np.where(bad, 0.0, 1.0), np.linspace(0, 0.5, 1000)))
    quality = {"noise": generator.random(2200)}
    width = []
    for person in (np.arange(2200) // 20, np.arange(2200)):
        area = recognise(quality, genuine, similarity, person=person, fmr=0.01).scorers["noise"].area
        width.append(area.high - area.low)
    assert width[0] > 3 * width[1]


@pytest.mark.parametrize(
    ("genuine", "similarity", "fmr", "reason"),
    [
        ([False] * 4, [0.1, 0.2, 0.3, 0.4], 0.5, "no genuine pairs"),
        ([True] * 4, [0.1, 0.2, 0.3, 0.4], 0.5, "no impostor pairs"),
        ([True, True, False, False], [0.1, 0.2, 0.3, 0.4], 1e-3, "cannot resolve"),
        ([True, True, False, False], [0.8, 0.9, 0.3, 0.4], 0.5, "no genuine pair fails"),
        ([True, True, False, False], [0.1, 0.2, 0.3, 0.4], 0.5, "every genuine pair fails"),
    ],
)
def test_pairs_that_say_nothing_are_an_error_with_a_hint(genuine, similarity, fmr: float, reason: str):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        recognise(
            {"a": np.arange(4.0)},
            np.array(genuine),
            np.array(similarity),
            person=np.arange(4),
            fmr=fmr,
        )
    assert caught.value.hint


def test_few_people_and_few_false_matches_and_constant_scorers_are_said():
    quality, genuine, similarity, _ = world(200)
    found = recognise({"a": quality * 0}, genuine, similarity, person=np.arange(200) // 100, fmr=0.02)
    assert [note.split(" ")[0] for note in found.notes] == ["The", "Only", "a"]
    assert found.scorers["a"].relative.value == pytest.approx(1)


@pytest.mark.skipif(not PAIRS.exists(), reason="../shared is missing")
def test_pairs_of_video_frames_have_their_known_rates():
    pairs = read_pairs(PAIRS)
    assert (pairs.genuine.sum(), (~pairs.genuine).sum(), pairs.repeated) == (280, 10374, 1347)
    assert len(set(people(pairs)[pairs.genuine])) == 70
    threshold = match_threshold(pairs.similarity[~pairs.genuine], 1e-3)
    failed = pairs.similarity[pairs.genuine] <= threshold.limit
    assert (threshold.false_matches, int(failed.sum())) == (10, 108)
    # The similarity itself is the best quality there can be.
    assert relative_area(discard_curve(pairs.similarity[pairs.genuine], failed)) == pytest.approx(0, abs=1e-9)
