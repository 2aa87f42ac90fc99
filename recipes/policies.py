"""Write the policies that ship, for the student that ships: python recipes/policies.py POPULATION.csv …

POPULATION.csv, one or more, are predictions of the student for the pictures of its card's population, made
with efiqa score --faces largest --attributes. What share to reject and to review, and of which attributes the
worst, is chosen here; what that does is measured on those pictures and written beside it. With --pairs, also
on pairs of them: how false non-matches fall.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from efiqa.attributes import Attributes
from efiqa.calibrate import check_made_by, population_id
from efiqa.discard import match_threshold
from efiqa.matching import distinct, match
from efiqa.pairs import read_pairs
from efiqa.policy import WEAK, Policy, decide, write_policy
from efiqa.records import ATTRIBUTES, Prediction, read_predictions
from efiqa.scorer import Scorer

FOLDER = Path(__file__).parents[1] / "src" / "efiqa" / "policies"


class Choice(NamedTuple):
    """Percentiles to reject below and to accept from, and of which attributes the worst are rejected."""

    reject_below: float
    accept_from: float
    attributes: tuple[str, ...]
    worst: float
    about: str


CHOICES = {
    "enrolment": Choice(
        25,
        50,
        ("resolution", "sharpness", "exposure", "contrast", "lighting", "noise", "framing", "tilt"),
        2,
        "A picture that others will be compared with for years: strict, and in doubt a person looks at it.",
    ),
    "kiosk": Choice(
        15,
        15,
        ("resolution", "sharpness", "exposure", "framing"),
        2,
        "A camera that can ask for another picture at once: nobody reviews, and the reasons are its advice.",
    ),
    "curation": Choice(
        5,
        10,
        (),
        0,
        "A data set without its worst pictures: lenient, and by nothing but quality.",
    ),
    "profile": Choice(
        10,
        20,
        ("resolution", "sharpness", "exposure"),
        2,
        "A picture that other people will look at: what is blurred, dark or tiny goes back.",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("population", nargs="+", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=Path, help="a table with image_a, image_b, genuine, similarity")
    parser.add_argument("--fmr", type=float, default=1e-3)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    scorer = Scorer(arguments.model)
    population = scorer.card.population
    if population is None:
        raise SystemExit("the model has no population, so it has no quality")
    rows = distinct(row for path in arguments.population for row in read_predictions(path))
    check_made_by(rows, population, scorer.card.source)
    scored = [row for row in rows if row.status == "ok"]
    for name, choice in CHOICES.items():
        policy = Policy(
            name,
            scorer.card.source,
            scorer.digest,
            "quality",
            choice.reject_below,
            choice.accept_from,
            population_id(population),
            about=choice.about,
            attributes={
                each: value for each in choice.attributes if (value := least(scored, each, choice.worst)) > 0
            },
        )
        policy = replace(policy, basis=basis(policy, choice, scored, population.name))
        if arguments.pairs:
            policy = replace(policy, basis=policy.basis | recognition(policy, rows, arguments))
        write_policy(arguments.output / f"{name}.toml", policy)
        print(name, {key: value for key, value in policy.basis.items() if key != "note"})


def least(rows: list[Prediction], attribute: str, worst: float) -> float:
    """What `worst` % of the faces do not reach, but no more than what counts as weak; in whole numbers."""
    values = [value for row in rows if (value := getattr(row, attribute)) is not None]
    return float(min(math.floor(np.percentile(values, worst)), WEAK))


def decision(policy: Policy, row: Prediction) -> str:
    values = {name: getattr(row, name) for name in ATTRIBUTES}
    return decide(policy, row, Attributes(**values))[0]


def basis(policy: Policy, choice: Choice, rows: list[Prediction], name: str) -> dict[str, object]:
    counts = Counter(decision(policy, row) for row in rows)
    shares = {f"{key}ed": round(counts[key] / len(rows), 3) for key in ("accept", "reject", "review")}
    by_quality = sum(row.quality is not None and row.quality < policy.reject_below for row in rows)
    chosen = f"quality: the lowest {choice.reject_below:g} % of the population are rejected"
    if choice.accept_from > choice.reject_below:
        chosen += f", the next {choice.accept_from - choice.reject_below:g} % reviewed"
    if choice.attributes:
        chosen += f"; attributes: below {WEAK:g}, and below what the worst {choice.worst:g} % have"
    return {
        "target": chosen,
        "date": datetime.now(UTC).date().isoformat(),
        "measured_on": f"{name}, each picture once",
        "n": len(rows),
        **shares,
        "rejected_by_quality": round(by_quality / len(rows), 3),
        "note": "The shares were chosen; what they do was measured. Other cameras give other shares: "
        "efiqa threshold finds a cut on your own pictures.",
    }


def recognition(policy: Policy, rows: list[Prediction], arguments: argparse.Namespace) -> dict[str, object]:
    """False non-matches among genuine pairs: all, and those of which the policy rejects neither picture."""
    pairs = read_pairs(arguments.pairs)
    names = list(dict.fromkeys([*pairs.first, *pairs.second]))
    found = dict(zip(names, match(names, "", rows, arguments.pairs), strict=True))
    fine = {name: row is not None and decision(policy, row) != "reject" for name, row in found.items()}
    scored = {name: row is not None and row.status == "ok" for name, row in found.items()}
    limit = match_threshold(pairs.similarity[~pairs.genuine], arguments.fmr).limit
    failed = pairs.similarity <= limit
    every, left = (
        np.array([of[a] and of[b] for a, b in zip(pairs.first, pairs.second, strict=True)]) & pairs.genuine
        for of in (scored, fine)
    )
    return {
        "pairs": arguments.pairs.name,
        "fmr": arguments.fmr,
        "fnmr_of_all": round(float(failed[every].mean()), 3),
        "genuine_pairs": int(every.sum()),
        "fnmr_of_those_left": round(float(failed[left].mean()), 3) if left.any() else "no pair is left",
        "genuine_pairs_left": int(left.sum()),
    }


if __name__ == "__main__":
    main()
