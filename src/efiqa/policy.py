"""Policy: which faces to accept, to review and to reject, by one model's numbers; TOML."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from efiqa.attributes import Attributes, reasons
from efiqa.calibrate import Calibration, population_id
from efiqa.card import ModelCard
from efiqa.errors import InvalidArgument, ModelError, RecordError
from efiqa.names import printable
from efiqa.records import ATTRIBUTES, Prediction
from efiqa.settings import from_table, read_toml, to_toml
from efiqa.writing import atomic, check_place

Measure = Literal["score", "quality"]

WEAK = 50.0
"""Attributes below this are named where the number is low: they may say why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Faces below `reject_below` are rejected, from `accept_from` on accepted, between them reviewed.

    `on` is the column that is meant. A policy is bound to the `model` (name@version) with the file digest
    `digest`, and one on quality also to the `population` that quality is relative to. `attributes` are the
    least values of those that are looked at too. With a `coverage`, a face is reviewed as well whose interval
    of that coverage reaches across a threshold. `basis` says what all this rests on.
    """

    name: str
    model: str
    digest: str
    on: Measure
    reject_below: float
    accept_from: float
    population: str = ""
    coverage: float | None = None
    about: str = ""
    attributes: dict[str, float] = field(default_factory=dict)
    basis: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        finite = math.isfinite(self.reject_below) and math.isfinite(self.accept_from)
        checks = [
            ("on", self.on, self.on in get_args(Measure), "score or quality"),
            ("reject_below", self.reject_below, finite, "finite, as accept_from must"),
            ("accept_from", self.accept_from, self.accept_from >= self.reject_below, "reject_below or more"),
            ("population", self.population, bool(self.population) == (self.on == "quality"), _POPULATION),
            ("coverage", self.coverage, self.coverage is None or 0 < self.coverage < 1, "between 0 and 1"),
        ]
        for name, least in self.attributes.items():
            if name not in ATTRIBUTES:
                near = difflib.get_close_matches(name, ATTRIBUTES, n=1, cutoff=0.4)
                raise RecordError(
                    f"policy: unknown attribute {name!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ATTRIBUTES)}",
                )
            checks.append((f"attributes.{name}", least, 0 <= least <= 100, "in 0–100"))
        for name, value, fine, expected in checks:
            if not fine:
                raise RecordError(f"policy: {name} must be {expected}, but got {value!r}")


_POPULATION = "what quality is relative to, and be left out where on is score"


def shipped_policies() -> dict[str, Path]:
    """Name → file of the policies that come with the package."""
    folder = Path(str(resources.files("efiqa"))) / "policies"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_policy(source: str | Path) -> Policy:
    """A policy by the name of one that ships, or from a TOML file.

    Raises RecordError for a file that is no TOML, an unknown key or attribute (naming the nearest), and a
    value of the wrong type or out of range.
    """
    ready = shipped_policies()
    path = ready.get(str(source), Path(source))
    if path.suffix != ".toml" and not path.is_file():
        near = difflib.get_close_matches(str(source), ready, n=1)
        raise RecordError(
            f"there is no policy {printable(source) or repr('')}",
            hint=f"did you mean {near[0]!r}?" if near else f"a TOML file, or one of {', '.join(ready)}",
        )
    policy: Policy = from_table(Policy, read_toml(path, "policy"), f"policy {printable(path)}")
    return policy


def check_policy_place(path: Path) -> None:
    """Raise now what write_policy would later: OutputError, RecordError for another ending than .toml."""
    if path.suffix != ".toml":  # which read_policy needs
        raise RecordError(
            f"{printable(path)}: a policy is written as .toml, but got {path.suffix!r}", hint="-o policy.toml"
        )
    check_place(path)


def write_policy(path: Path, policy: Policy) -> None:
    """Write it as TOML; atomic. Raises as check_policy_place does."""
    check_policy_place(path)
    with atomic(path) as file:
        file.write(to_toml({name: value for name, value in asdict(policy).items() if value != ""}))


def bind(policy: Policy, card: ModelCard, digest: str, calibration: Calibration | None = None) -> Policy:
    """The policy in numbers of the model at hand, which is its own, or linked to its own.

    A calibration with a link to the policy's model lets it hold for the new one: quality is on the old
    model's scale already, and thresholds on the score become those of the new one.

    Raises ModelError for any other model, for other numbers than the policy's, and for an interval that the
    model does not have of that coverage, though it has others.
    """
    link = calibration.link if calibration else None
    own = (card.source, digest)
    if (policy.model, policy.digest) not in (own, (link.model, link.digest) if link else own):
        raise ModelError(
            f"the policy {policy.name} is of {policy.model} ({policy.digest}), but the model is "
            f"{card.source} ({digest})",
            hint="find this model's thresholds with efiqa threshold, or link it to the old one: "
            "efiqa calibrate NEW --link OLD, then --calibration",
        )
    if policy.on == "quality":
        population = calibration.population if calibration else card.population
        now = population_id(population) if population else "nothing: the model has no population"
        if now != policy.population:
            raise ModelError(
                f"the policy {policy.name} cuts by quality relative to {policy.population}, "
                f"but here it is relative to {now}",
                hint="give the --calibration that the policy was found with, or leave it out if it had none",
            )
    elif link and (policy.model, policy.digest) != own:
        policy = replace(
            policy, reject_below=link.back(policy.reject_below), accept_from=link.back(policy.accept_from)
        )
    if policy.coverage is not None and card.interval is not None:
        try:
            card.interval.around(0, policy.coverage)
        except InvalidArgument as error:
            raise ModelError(f"the policy {policy.name}: {error}", hint=error.hint) from error
    return policy


def decide(
    policy: Policy,
    row: Prediction,
    attributes: Attributes | None = None,
    quality: Callable[[float], float] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """(`accept`, `review` or `reject`; what speaks against the face, worst first).

    A row that is not `ok` is rejected, its status the reason. A number below `reject_below` is a reason to
    reject by the name of its column, and so is every attribute below its least value, `exposure` by the
    name `dark` or `bright`; an attribute that is not known is none. Otherwise a number below `accept_from`
    is one to review. With a coverage, nothing is decided by a number whose interval, `low`–`high` in the
    row, reaches across the threshold: that is reviewed, the reason being `interval`. `quality` makes
    percentiles of the ends.

    Where the number is what speaks against the face, the attributes below 50 follow: they may say why it is
    low.

    >>> policy = Policy("half", "mean@1", "0", "score", 0.4, 0.6)
    >>> [decide(policy, Prediction("a.jpg", score=score)) for score in (0.3, 0.5, 0.6)]
    [('reject', ('score',)), ('review', ('score',)), ('accept', ())]

    Raises ModelError for a row without the number that the policy is on.
    """
    if row.status != "ok":
        return "reject", (row.status,)
    value = row.score if policy.on == "score" else row.quality
    if value is None:
        raise ModelError(f"{row.image} has no {policy.on}, which the policy {policy.name} is on")
    low = high = value
    if policy.coverage is not None and row.low is not None and row.high is not None:
        ends = (row.low, row.high)
        low, high = ends if policy.on == "score" or quality is None else map(quality, ends)
    failing = _below(policy.attributes, attributes)
    weak = [policy.on, *failing, *_below(dict.fromkeys(ATTRIBUTES, WEAK), attributes)]
    if high < policy.reject_below:
        return "reject", tuple(dict.fromkeys(weak))
    if failing:
        return "reject", tuple(failing)
    if value < policy.accept_from:
        sure = value >= policy.reject_below
        return "review", tuple(weak if sure else ["interval", *weak[1:]])
    return ("review", ("interval",)) if low < policy.accept_from else ("accept", ())


def _below(least: dict[str, float], attributes: Attributes | None) -> list[str]:
    """Names of attributes below their least value, worst first, as reasons."""
    if attributes is None:
        return []
    failing = Attributes(overexposed=attributes.overexposed)
    for name, bound in least.items():
        value = getattr(attributes, name)
        if value is not None and value < bound:
            failing = replace(failing, **{name: value})
    return reasons(failing, math.inf)
