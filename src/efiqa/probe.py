"""Do scores fall when a face gets worse? Ladders of known degradation, and how often a scorer has them wrong.

Each face is scored as it is and at rising severities of each kind of efiqa.degrade. A step whose worse
picture does not score lower is a violation, a tie among them. No ratings are needed: the order is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from efiqa.baselines import BASELINES
from efiqa.degrade import KINDS, degrade
from efiqa.errors import EfiqaError, ImageError, InvalidArgument, MissingExtra, RecordError
from efiqa.image import Image
from efiqa.records import Row
from efiqa.scorer import MIN_SIDE, Scorer
from efiqa.sources import load_row
from efiqa.writing import atomic

SEVERITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LARGEST = 512
"""Longer side, in pixels, that larger pictures are reduced to before they are degraded: noise and compression
work on pixels, and a network would not see those of a large picture."""

Score = Callable[[Iterable[Image]], Iterator[float]]
"""Scores of pictures RGB uint8 (H, W, 3), in order."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """One kind of degradation, over all faces.

    `means` are the mean scores at each severity, `violations` the shares of faces, 0–1, whose score does not
    fall at each step from one severity to the next, one less than severities.
    """

    kind: str
    means: tuple[float, ...]
    violations: tuple[float, ...]

    @property
    def wrong(self) -> float:
        """Share of all steps in the wrong order."""
        return float(np.mean(self.violations))


@dataclass(frozen=True, slots=True)
class Probe:
    """What a scorer did; `spread` is the standard deviation of its scores of the faces as they are."""

    name: str
    faces: int
    spread: float
    severities: tuple[float, ...]
    ladders: tuple[Ladder, ...]


def sample_faces(
    rows: Sequence[Row],
    *,
    faces: int,
    split: str = "validation",
    seed: int = 0,
    unreadable: Callable[[Row, EfiqaError], None] = lambda row, error: None,
) -> list[Image]:
    """At most `faces` pictures of a manifest's `split`, drawn by the seed, longer sides at most LARGEST.

    Those that cannot be used are left out and named to `unreadable`. Raises RecordError where none is left.
    """
    chosen = [row for row in rows if row.split == split]
    if not chosen:
        there = ", ".join(sorted({row.split for row in rows}))
        raise RecordError(f"no row is of split {split}", hint=f"--split: there is {there}")
    places = np.random.default_rng(seed).permutation(len(chosen))
    images: list[Image] = []
    first = ""
    for place in places:
        if len(images) == faces:
            break
        try:
            image = load_row(chosen[place])
            if min(image.shape[:2]) < MIN_SIDE:
                raise InvalidArgument(f"at least {MIN_SIDE} × {MIN_SIDE} pixels are needed")
            images.append(_reduced(image))
        except (ImageError, InvalidArgument, RecordError) as error:
            first = first or f"{chosen[place].image}: {error}"
            unreadable(chosen[place], error)
    if not images:
        raise RecordError(
            f"none of the {len(chosen):,} pictures of split {split} can be used, such as {first}",
            hint="were the pictures moved after they were indexed?",
        )
    return images


def probe(
    name: str,
    score: Score,
    images: Sequence[Image],
    *,
    kinds: Sequence[str] = tuple(KINDS),
    severities: Sequence[float] = SEVERITIES,
    seed: int = 0,
    scored: Callable[[], None] = lambda: None,
) -> Probe:
    """Score every ladder of every picture; `scored` is called after each picture that was scored.

    `severities` rise from 0, the picture itself, within 0–1. The i-th picture is degraded with seed + i.
    Raises InvalidArgument for no pictures, an unknown kind, or other severities.
    """
    steps = tuple(severities)
    if len(steps) < 2 or steps[0] != 0 or not (steps[-1] <= 1 and (np.diff(steps) > 0).all()):
        raise InvalidArgument(f"severities must rise from 0 to at most 1, but got {steps}")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InvalidArgument(f"unknown degradation {unknown[0]!r}", hint=f"known: {', '.join(KINDS)}")
    if not images or not kinds:
        raise InvalidArgument("there must be a picture and a kind of degradation at least, but got none")

    def made() -> Iterator[Image]:
        for number, image in enumerate(images):
            yield image
            for kind in kinds:
                for severity in steps[1:]:
                    yield degrade(image, kind, severity, seed + number)

    found = []
    for value in score(made()):
        found.append(value)
        scored()
    scores = np.array(found, np.float64).reshape(len(images), 1 + len(kinds) * (len(steps) - 1))
    worse = scores[:, 1:].reshape(len(images), len(kinds), len(steps) - 1)
    ladders = []
    for index, kind in enumerate(kinds):
        rungs = np.concatenate([scores[:, :1], worse[:, index]], axis=1)
        wrong = (np.diff(rungs, axis=1) >= 0).mean(axis=0)
        ladders.append(Ladder(kind, tuple(map(float, rungs.mean(axis=0))), tuple(map(float, wrong))))
    return Probe(name, len(images), float(scores[:, 0].std()), steps, tuple(ladders))


def pictures_to_score(images: int, kinds: int, severities: int = len(SEVERITIES)) -> int:
    """How many pictures a probe scores."""
    return images * (1 + kinds * (severities - 1))


def model_score(scorer: Scorer) -> Score:
    """The scorer's own path, whole pictures. Raises ModelError where the model gives no number."""

    def score(images: Iterable[Image]) -> Iterator[float]:
        for row in scorer.score_many(images, faces="none"):
            if row.score is None:
                raise RecordError(f"a picture to probe with has no score: {row.message}")
            yield row.score

    return score


def baseline_score(name: str) -> Score:
    """One of efiqa.baselines. Raises InvalidArgument for an unknown name."""
    if name not in BASELINES:
        raise InvalidArgument(f"unknown baseline {name!r}", hint=f"there are {', '.join(BASELINES)}")
    return lambda images: map(BASELINES[name], images)


def as_json(probes: Sequence[Probe], **about: Any) -> dict[str, Any]:
    """All numbers as what JSON can hold; `about` says what they were measured on, and comes first."""
    return {
        **about,
        "scorers": [
            {
                "name": each.name,
                "faces": each.faces,
                "spread": each.spread,
                "severities": list(each.severities),
                "ladders": [
                    {
                        "kind": ladder.kind,
                        "wrong": ladder.wrong,
                        "violations": list(ladder.violations),
                        "means": list(ladder.means),
                    }
                    for ladder in each.ladders
                ],
            }
            for each in probes
        ],
    }


def markdown(each: Probe) -> str:
    """One scorer's table: steps in the wrong order, over all and at each step, and mean scores."""
    worse = ", ".join(f"{severity:g}" for severity in each.severities[1:])
    lines = [
        f"{each.name}: {each.faces:,} faces; a step is wrong where the worse picture does not score lower.",
        "",
        f"| degradation | steps wrong | … to severity {worse} | mean score at severity 0, {worse} |",
        "|---|---|---|---|",
    ]
    for ladder in each.ladders:
        steps = ", ".join(f"{share:.1%}" for share in ladder.violations)
        means = ", ".join(f"{value:.4g}" for value in ladder.means)
        lines.append(f"| {ladder.kind} | {ladder.wrong:.1%} | {steps} | {means} |")
    return "\n".join(lines)


def check_plot(path: Path) -> None:
    """Raise now, not after the work, where `plot` could not: MissingExtra, InvalidArgument for no .png."""
    if path.suffix.lower() != ".png":
        raise InvalidArgument(f"{path}: the plot is written as .png, but got {path.suffix!r}")
    if find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", extra="report")


def plot(probes: Sequence[Probe], path: Path) -> None:
    """How far mean scores move from those of the faces as they are, in their standard deviations, as a PNG.

    So scorers of any unit share an axis. It ends 5 below and 3 above. Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", extra="report") from error
    ladders = probes[0].ladders
    columns = min(4, len(ladders))
    rows = -(-len(ladders) // columns)
    figure = Figure(figsize=(2.6 * columns, 0.6 + 2.2 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for index, axes in enumerate(grid):
        if index >= len(ladders):
            axes.axis("off")
            continue
        for each in probes:
            means = np.array(each.ladders[index].means)
            moved = (means - means[0]) / (each.spread or 1.0)
            axes.plot(each.severities, np.clip(moved, -5, 3), ".-", label=each.name)
        axes.set_title(ladders[index].kind, fontsize=9)
        axes.grid(alpha=0.3)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel("mean score, in standard deviations of faces", fontsize=9)
    with atomic(path, binary=True) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})


def _reduced(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = LARGEST / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BILINEAR))
