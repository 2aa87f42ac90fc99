"""The figures of a report, as SVG in data URIs: they are sharp at any size and need no second file."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from efiqa.agreement import Agreement
from efiqa.entrants import Entrant
from efiqa.errors import MissingExtra
from efiqa.evaluate import Evaluation
from efiqa.groups import Grouping
from efiqa.metrics import Vector
from efiqa.recognition import LIMIT, SHARES, Recognition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from efiqa.probe import Probe

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Told apart by most colour-blind people (Okabe and Ito, 2008)."""
DASHES = ("-", "--", "-.", ":")
MOVED = (-5, 3)
"""Where the axis of ladders ends, in standard deviations; the unit of a scorer does not matter so."""
MOST_POINTS = 5000
"""A scatter of more points is a blot: that many are drawn by chance."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture for a page: its data URI, and what it shows in words."""

    source: str
    caption: str


def drawings(evaluation: Evaluation) -> dict[str, list[Drawing]]:
    """Figures by the key of the section that they belong to. Raises MissingExtra without matplotlib."""
    found = {"scorers": [_histograms(evaluation.entrants)]}
    rated = np.isfinite(evaluation.rating)
    found["agreement"] = [
        _scatter(entrant, evaluation.rating, rated, evaluation.agreement[entrant.name])
        for entrant in evaluation.entrants
        if entrant.name in evaluation.agreement
    ]
    if evaluation.recognition:
        found["recognition"] = [_curves(evaluation.recognition)]
    if evaluation.probes:
        found["ladders"] = [_ladders(evaluation.probes)]
    for column, groupings in evaluation.groups.items():
        found[f"groups/{column}"] = [
            drawing
            for place, (name, each) in enumerate(groupings.items())
            for drawing in _groups(name, column, each, COLOURS[place % len(COLOURS)])
        ]
    return found


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", extra="report") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _drawn(figure: Figure, caption: str) -> Drawing:
    import matplotlib

    # Neither date nor random names, so that the same numbers give the same bytes; text stays text.
    with matplotlib.rc_context({"svg.hashsalt": "efiqa", "svg.fonttype": "none"}):
        memory = io.BytesIO()
        figure.savefig(memory, format="svg", dpi=120, metadata={"Date": None, "Creator": None})
    data = base64.b64encode(memory.getvalue()).decode()
    return Drawing(f"data:image/svg+xml;base64,{data}", caption)


def _histograms(entrants: Sequence[Entrant]) -> Drawing:
    figure, axes = _figure(3.2 * len(entrants), 2.4, len(entrants))
    for place, (axis, entrant) in enumerate(zip(axes, entrants, strict=True)):
        if entrant.scored.size:
            axis.hist(entrant.scored, bins=40, color=COLOURS[place % len(COLOURS)])
        axis.set_title(_plain(entrant.name), fontsize=9)
        axis.set_xlabel("score", fontsize=8)
    axes[0].set_ylabel("pictures", fontsize=8)
    return _drawn(figure, "How many pictures have which score.")


def _scatter(entrant: Entrant, rating: Vector, rated: Any, agreement: Agreement) -> Drawing:
    rows = np.flatnonzero(rated & np.isfinite(entrant.score))
    shown = np.random.default_rng(0).permutation(rows)[:MOST_POINTS]
    figure, (axis,) = _figure(4.2, 3.4)
    axis.scatter(
        entrant.score[shown], rating[shown], s=5, alpha=0.35, color=COLOURS[0], linewidths=0, rasterized=True
    )
    if agreement.fit is not None:
        line = np.linspace(entrant.score[rows].min(), entrant.score[rows].max(), 200)
        axis.plot(line, agreement.fit(line), color="black", linewidth=1.5)
    axis.set_title(_plain(entrant.name), fontsize=9)
    axis.set_xlabel("score", fontsize=8)
    axis.set_ylabel("rating", fontsize=8)
    some = f" ({shown.size:,} of {rows.size:,} pictures)" if shown.size < rows.size else ""
    fit = " The line is the fitted logistic." if agreement.fit is not None else ""
    return _drawn(figure, f"{entrant.name}: score and rating of each picture{some}.{fit}")


def _curves(found: Recognition) -> Drawing:
    figure, (axis,) = _figure(6.4, 3.8)
    for place, (name, one) in enumerate(found.scorers.items()):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        rate = [each.value for each in one.fnmr]
        axis.plot(
            SHARES,
            rate,
            color=colour,
            linestyle=dash,
            label=_plain(name),
        )
        low, high = ([getattr(each, end) or 0.0 for each in one.fnmr] for end in ("low", "high"))
        inside = SHARES <= LIMIT  # further on few pairs are left, and bands would hide the curves
        axis.fill_between(SHARES, low, high, where=inside, color=colour, alpha=0.12, linewidth=0)
    axis.plot(SHARES, found.best, color="black", linewidth=1, linestyle=":", label="best possible")
    axis.axhline(found.fnmr, color="grey", linewidth=1, linestyle="--", label="chance")
    axis.axvline(LIMIT, color="lightgrey", linewidth=1, zorder=0)
    axis.set_xlim(0, SHARES[-1])
    axis.set_ylim(0, None)
    axis.set_xlabel("share of genuine pairs discarded, lowest quality first", fontsize=8)
    axis.set_ylabel(f"FNMR at FMR {found.threshold.fmr:.2g}", fontsize=8)
    axis.legend(fontsize=8, frameon=False)
    caption = f"Error versus discard. Bands, up to {LIMIT:.0%}, are 95% intervals; lower is better."
    return _drawn(figure, caption)


def _groups(name: str, column: str, grouping: Grouping, colour: str) -> Iterator[Drawing]:
    groups = [group for group in grouping.groups if group.quartiles is not None]
    figure, axes = _figure(7.2, 0.9 + 0.24 * len(groups), 2)
    place = np.arange(len(groups))
    low, middle, high = np.array([group.quartiles for group in groups]).T
    axes[0].hlines(place, low, high, color=colour, linewidth=6, alpha=0.4)
    axes[0].plot(middle, place, "o", color=colour, markersize=5)
    axes[0].set_yticks(place, [_plain(group.name) for group in groups])
    axes[0].set_xlabel(_plain(f"score of {name}: median, middle half"), fontsize=8)
    axes[0].set_ylabel(_plain(column), fontsize=8)
    for gap in grouping.gaps:
        index = grouping.gaps.index(gap)
        shares = [group.discarded[index + len(group.discarded) - len(grouping.gaps)] for group in groups]
        axes[1].plot(shares, place, "o", color=colour, alpha=0.25 + 0.15 * index, markersize=4)
    axes[1].set_yticks(place, [""] * len(groups))
    axes[1].set_xlabel("share discarded where 1, 5, 10, 20, 30% of all are", fontsize=8)
    for axis in axes:
        axis.invert_yaxis()
        axis.grid(axis="y", color="#eeeeee")
        axis.set_axisbelow(True)
    yield _drawn(figure, f"{name}: scores and discard rates by {column}.")


def _ladders(probes: Sequence[Probe]) -> Drawing:
    """A panel for each kind; a scorer is drawn where it was probed with that kind."""
    kinds = dict.fromkeys(ladder.kind for each in probes for ladder in each.ladders)
    figure, axes = _figure(8.4, 0.6 + 1.7 * -(-len(kinds) // 4), 4, -(-len(kinds) // 4))
    panels = dict(zip(kinds, axes, strict=False))
    for kind, axis in panels.items():
        axis.set_title(_plain(kind), fontsize=9)
        axis.set_ylim(MOVED)
    for axis in axes[len(kinds) :]:
        axis.axis("off")
    for place, each in enumerate(probes):
        for ladder in each.ladders:
            means = np.array(ladder.means)
            moved = np.clip((means - means[0]) / (each.spread or 1.0), *MOVED)
            panels[ladder.kind].plot(
                each.severities,
                moved,
                color=COLOURS[place % len(COLOURS)],
                linestyle=DASHES[place // len(COLOURS) % len(DASHES)],
                marker=".",
                label=_plain(each.name),
            )
    lines = {line.get_label(): line for axis in panels.values() for line in axis.get_lines()}
    figure.legend(lines.values(), lines.keys(), loc="outside upper left", fontsize=8, frameon=False)
    figure.supxlabel("severity", fontsize=8)
    figure.supylabel("mean score, from that of the faces as they are", fontsize=8)
    low, high = MOVED
    caption = (
        "How far mean scores move as faces get worse, in standard deviations of the scores of the faces as "
        f"they are, from {low:g} to +{high:g}. A ladder that falls at each step is right."
    ).replace("-", "−", 1)
    return _drawn(figure, caption)


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
