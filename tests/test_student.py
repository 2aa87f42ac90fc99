"""Claims about the student that ships: what its card says, and how it judges the sample portraits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from efiqa import Box, Scorer, load_image
from efiqa.degrade import degrade
from efiqa.errors import ModelError
from efiqa.faces import face_crop
from efiqa.image import crop
from efiqa.runtime import find_model, shipped_models

SAMPLES = Path(__file__).parent.parent / "examples" / "samples"
PORTRAITS = ("astronaut.jpg", "camera.jpg", "grace_hopper.jpg")
SEVERITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer()


def test_the_student_and_its_card_lie_in_the_package_and_are_small(scorer: Scorer) -> None:
    assert find_model().stat().st_size < 6_000_000
    assert find_model().with_suffix(".json").read_text(encoding="utf-8") == scorer.card.to_json()


def test_the_models_that_ship_are_found_by_name_and_are_small_together() -> None:
    models = shipped_models()
    assert list(models) == ["student", "efiqa-112", "efiqa-192", "efiqa-352"]
    assert find_model("student") == find_model()
    assert sum(path.stat().st_size for path in find_model().parent.iterdir()) < 20_000_000
    for name, path in models.items():
        card = Scorer(name, runtime="onnxruntime").card
        assert card.to_json() == path.with_suffix(".json").read_text(encoding="utf-8")


def test_efiqa_352_is_the_papers_network_and_says_that_it_is_not_for_use() -> None:
    card = Scorer("efiqa-352", runtime="onnxruntime").card
    assert (card.parameters, card.input_size, card.backbone) == (1_179_641, 352, "edgenext_xx_small")
    assert "not for use" in card.limits[0]


@pytest.mark.parametrize(("name", "size", "share"), [("efiqa-192", 192, 0.37), ("efiqa-112", 112, 0.13)])
def test_the_smaller_models_are_the_students_network_for_fewer_pixels_with_populations_of_their_own(
    scorer: Scorer, name: str, size: int, share: float
) -> None:
    card = Scorer(name, runtime="onnxruntime").card
    assert (card.input_size, card.parameters) == (size, scorer.card.parameters)
    assert card.macs < share * scorer.card.macs
    assert card.population is not None
    assert scorer.card.population is not None
    assert card.population.name == scorer.card.population.name
    assert card.population.n == scorer.card.population.n
    assert card.interval is not None


def test_a_name_of_no_model_is_a_sentence_that_names_those_that_ship() -> None:
    with pytest.raises(ModelError, match="there is no model at efiqa-351") as caught:
        Scorer("efiqa-351")
    assert caught.value.hint is not None
    assert "student, efiqa-112, efiqa-192, efiqa-352" in caught.value.hint


def test_the_card_says_what_the_number_means_and_what_it_was_learnt_from(scorer: Scorer) -> None:
    card = scorer.card
    assert "not of how well a face recognition system will do" in card.meaning
    assert {source.name for source in card.trained_on} == {"L.csv", "U1.pseudo.csv", "U2.pseudo.csv"}
    assert all(source.terms != "not stated" and source.rows > 0 for source in card.trained_on)
    assert card.population is not None
    assert card.population.n > 1000
    assert card.parameters < 1_200_000


@pytest.mark.parametrize("kind", ["blur", "defocus", "motion", "downscale", "jpeg", "noise", "dark"])
def test_scores_fall_along_degradation_ladders(scorer: Scorer, kind: str) -> None:
    ladders = []
    for seed, name in enumerate(PORTRAITS):
        image = load_image(SAMPLES / name)
        ladders.append([scorer.score(degrade(image, kind, severity, seed)) for severity in SEVERITIES])
    right = np.diff(ladders, axis=1) < 0
    assert right.mean() >= 0.95, ladders


@pytest.mark.parametrize("name", PORTRAITS)
def test_one_face_is_found_in_each_portrait_and_is_better_than_its_blurred_self(
    scorer: Scorer, name: str
) -> None:
    image = load_image(SAMPLES / name)
    (row,) = scorer.predict(image, faces="all")
    assert row.status == "ok"
    assert None not in (row.x, row.y, row.width, row.height)
    box = Box(row.x or 0, row.y or 0, row.width or 0, row.height or 0)
    bounds = face_crop(box, image.shape[1], image.shape[0], scale=scorer.card.crop_scale)
    face = crop(image, bounds)
    assert scorer.score(face) == row.score
    assert scorer.score(degrade(face, "blur", 0.6)) < scorer.score(face) - 0.05


def test_quality_is_the_percentile_of_the_score(scorer: Scorer) -> None:
    population = scorer.card.population
    assert population is not None
    for percent in (10, 50, 90):
        assert population.percentile(population.scores[percent]) == pytest.approx(percent, abs=1)
