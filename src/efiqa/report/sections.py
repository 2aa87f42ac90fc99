"""What a report says, in sentences and tables; the same for Markdown and the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from efiqa.agreement import METRICS
from efiqa.evaluate import Evaluation
from efiqa.groups import DISCARDED, FEW, Grouping
from efiqa.recognition import LIMIT, NAMED, Recognition
from efiqa.resampling import LARGEST, Comparison, Estimate

if TYPE_CHECKING:
    from efiqa.probe import Probe

TITLES = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "plcc_fitted": "PLCC, fitted",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "rmse_fitted": "RMSE, fitted",
    "area": f"pAUC to {LIMIT:.0%}",
}
NOTHING = "–"
GAP = ("threshold", "all below it", "most in", "least in", "highest difference")


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows of as many cells, plain text; the first column names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Section:
    """`key` is what figures are put under: scorers, agreement, recognition, groups/COLUMN, ladders, notes."""

    key: str
    title: str
    sentences: tuple[str, ...]
    tables: tuple[Table, ...] = ()


def sections(evaluation: Evaluation) -> list[Section]:
    """All that there is to say, in order."""
    found = [_scorers(evaluation)]
    if evaluation.agreement:
        found.append(_agreement(evaluation))
    if evaluation.recognition:
        found.append(_recognition(evaluation.recognition))
    found += [_groups(column, each) for column, each in evaluation.groups.items()]
    if evaluation.probes:
        found.append(_ladders(evaluation.probes))
    if evaluation.notes:
        found.append(Section("notes", "Notes", evaluation.notes))
    return found


def markdown(parts: Iterable[Section]) -> str:
    lines = ["# Evaluation", ""]
    for part in parts:
        lines += [f"## {part.title}", ""]
        listed = part.key == "notes"
        for sentence in part.sentences:
            lines += [f"- {_escaped(sentence)}"] if listed else [_escaped(sentence), ""]
        for table in part.tables:
            lines += [_line(table.header), "|" + "---|" * len(table.header), *map(_line, table.rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    for character in "\\|*_`<":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def _scorers(evaluation: Evaluation) -> Section:
    n, rated = len(evaluation.rows), int(np.isfinite(evaluation.rating).sum())
    where = f" of split {evaluation.split}" if evaluation.split else ""
    rows = []
    for entrant in evaluation.entrants:
        scored = entrant.scored
        spread = np.quantile(scored, [0, 0.25, 0.5, 0.75, 1]) if scored.size else ()
        failed = ", ".join(f"{count:,} {status}" for status, count in entrant.failed.items()) or "0"
        cells = [_number(float(at), digits=4) for at in spread] or [NOTHING] * 5
        rows.append((entrant.name, f"{scored.size:,}", failed, f"{entrant.missing:,}", *cells))
    header = ("scorer", "scored", "failed", "not known", "lowest", "25%", "median", "75%", "highest")
    sentence = f"{n:,} pictures{where}, {rated:,} of them rated."
    return Section("scorers", "Scorers", (sentence,), (Table(header, tuple(rows)),))


def _agreement(evaluation: Evaluation) -> Section:
    rows = [
        (name, *(_interval(one.metrics.get(metric)) for metric in METRICS))
        for name, one in evaluation.agreement.items()
    ]
    tables = [Table(("scorer", *(TITLES[metric] for metric in METRICS)), tuple(rows))]
    tables += _comparisons(evaluation.comparisons)
    sentence = (
        f"Over the {evaluation.compared:,} pictures that have a rating and a score of every scorer. In "
        f"brackets 95% intervals, bootstrapped over pictures{_scaled(evaluation.compared)}. Fitted: after "
        "the increasing 4-parameter logistic with the least squared error."
    )
    return Section("agreement", "Agreement with people", (sentence,), tuple(tables))


def _scaled(units: int) -> str:
    return f" ({LARGEST:,} at a time, scaled to all)" if units > LARGEST else ""


def _comparisons(comparisons: Sequence[Comparison]) -> list[Table]:
    if not comparisons:
        return []
    rows = tuple(
        (
            f"{each.first} − {each.second}",
            TITLES[each.metric],
            _interval(each.difference, "+"),
            _probability(each.p),
            _probability(each.corrected),
        )
        for each in comparisons
    )
    return [Table(("difference", "metric", "value", "p", "p, corrected (Holm)"), rows)]


def _recognition(found: Recognition) -> Section:
    places = [round(share * 100) for share in NAMED]
    rows = [
        (
            name,
            *(_interval(one.fnmr[place]) for place in places),
            _interval(one.area, digits=4),
            _interval(one.relative),
        )
        for name, one in found.scorers.items()
    ]
    best = tuple(f"{found.best[place]:.3f}" for place in places)
    chance = (f"{found.fnmr:.3f}",) * len(places)
    rows += [
        ("best possible", *best, f"{found.best_area:.4f}", "0"),
        ("chance", *chance, f"{found.chance_area:.4f}", "1"),
    ]
    header = (
        "scorer",
        *(f"FNMR, {share:.0%} discarded" for share in NAMED),
        f"pAUC to {LIMIT:.0%}",
        "from best (0) to chance (1)",
    )
    threshold = found.threshold
    sentence = (
        f"{found.genuine:,} genuine and {threshold.impostors:,} impostor pairs. Pairs match above similarity "
        f"{threshold.limit:.4g}, where the false match rate is {threshold.fmr:.2g} (at most {found.target:g} "
        f"was asked for); {found.fnmr:.1%} of the genuine pairs then do not match. That threshold stays, and "
        "the genuine pairs of lowest quality are discarded. A pair's quality is the lower of its two "
        "pictures'; those without a score go first. In brackets 95% intervals, bootstrapped over "
        f"{found.people:,} people{_scaled(found.people)}."
    )
    tables = (Table(header, tuple(rows)), *_comparisons(found.comparisons))
    return Section("recognition", "Use for recognition: error versus discard", (sentence,), tables)


def _groups(column: str, found: dict[str, Grouping]) -> Section:
    tables = []
    for name, grouping in found.items():
        rows = tuple(
            (
                group.name,
                f"{group.n:,}",
                f"{group.failed:,}",
                _number(group.mean),
                *(_number(at) for at in group.quartiles or (None,) * 3),
                _number(group.delta, "+"),
                *(f"{share:.1%}" for share in group.discarded),
            )
            for group in grouping.groups
        )
        cut = (f"{share:.0%} cut" for share in DISCARDED)
        header = (f"{name}: {column}", "n", "failed", "mean", "25%", "median", "75%", "delta", *cut)
        gaps = tuple(
            (
                f"{each.target:.0%} cut",
                _number(each.threshold, digits=4),
                f"{each.overall:.1%}",
                each.highest,
                each.lowest,
                f"{100 * each.difference:.1f} points",
            )
            for each in grouping.gaps
        )
        tables += [Table(header, rows), Table((name, *GAP), gaps)]
    sentence = (
        "Delta: how much likelier a picture of the group scores above one of the others than below it "
        "(Cliff), −1 to 1. Cut: the share of the group below the threshold that discards this share of all "
        "pictures; those without a score count as discarded. The highest difference is between groups of "
        f"{FEW} pictures or more, where two have as many. It may be the pictures' as well as the scorer's."
    )
    return Section(f"groups/{column}", f"Groups by {column}", (sentence,), tuple(tables))


def _ladders(probes: Sequence[Probe]) -> Section:
    tables = []
    for each in probes:
        rows = tuple(
            (ladder.kind, f"{ladder.wrong:.1%}", *(f"{share:.1%}" for share in ladder.violations))
            for ladder in each.ladders
        )
        steps = (f"to {severity:g}" for severity in each.severities[1:])
        tables.append(Table((each.name, "all steps", *steps), rows))
    faces = " and ".join(f"{count:,}" for count in dict.fromkeys(each.faces for each in probes))
    sentence = (
        f"{faces} faces were made worse in known steps, by efiqa probe. The tables hold the share of faces "
        "whose score does not fall (a tie is no fall) at the step to each severity from the one before: 0% "
        "for a scorer that sees every step, 100% for one that sees none, or takes worse for better."
    )
    return Section("ladders", "Robustness: order violations", (sentence,), tuple(tables))


def _interval(found: Estimate | None, sign: str = "", *, digits: int = 3) -> str:
    if found is None:
        return NOTHING
    value, *ends = (
        _minus(f"{at:{sign}.{digits}f}") for at in (found.value, found.low, found.high) if at is not None
    )
    return f"{value} [{', '.join(ends)}]" if ends else value


def _number(value: float | None, sign: str = "", *, digits: int = 3) -> str:
    if value is None:
        return NOTHING
    return _minus(f"{value:{sign},.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:{sign}.{digits}g}")


def _minus(number: str) -> str:
    return number.replace("-", "−")


def _probability(p: float) -> str:
    return f"{p:.3f}"
