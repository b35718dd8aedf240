"""The forest plot: every claim's estimate and interval against what it asked for.

Claims have different units, so each row has its own scale, chosen so that what was asked lines up: the bound of a
one-sided claim on one vertical line, with the asked side shaded to its right; the range of a two-sided claim around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from moebench.claims.verdict import Verdict
from moebench.format import listed, plural
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, canvas, lines_of, text_width, widest
from moebench.reporting.part import part
from moebench.reporting.states import STATES, counted, effect
from moebench.reporting.theme import INK, MUTED, PAPER, SHADE, STATE_COLOURS, STATE_MARKERS

_ROW, _LINE = 0.42, 0.155
"""Inches of height of a row, and of a line of its words."""
_EDGE = 1.0
"""Half of the plotted width, in the rows' common scale."""


@part("verdicts", leading=True)
def figure(findings: Findings) -> Drawn | str:
    """One row a claim that has an estimate."""
    rows = [
        v for v in findings.verdicts if v.estimate is not None and (v.asked_low is not None or v.asked_high is not None)
    ]
    if not rows:
        return "No claim has an estimate yet."
    if not findings.plan.models:
        return "Every number is an exact count, so there is no interval to draw."
    title = f"Of {plural(len(rows), 'claim')} with an estimate: {_tally(rows)}"
    scales = _scales(rows, common=findings.many)
    own = "rows that ask the same of the same metric on one scale" if findings.many else "each row on its own scale"
    counts = "seeds, processes or items" if any(v.units == "items" for v in rows) else "seeds or processes"
    subtitle = (
        f"Estimate and 95% interval of each claim (n counts {counts}), {own}. "
        "Shaded: what the claim asks. Thin tick: no difference. Open markers: exploratory, uncorrected."
    )
    beside = [_Beside(verdict) for verdict in rows]
    high = max(max(len(one.left), len(one.right)) for one in beside)
    row = max(_ROW, _LINE * high + 0.12)
    left = 0.25 + max(max(widest(one.left[:-1], 8), text_width(one.left[-1], 7, bold=True)) for one in beside)
    right = 0.3 + max(max(widest(one.effect, 8, bold=True), widest(one.asked, 7)) for one in beside)
    drawn, (axes,) = canvas(
        title, subtitle, height=row * len(rows) + 0.1, left=left, right=right, bottom=0.25, headroom=0.1, panel=1.8
    )
    axes.set(xlim=(-1.06 * _EDGE, 1.06 * _EDGE), ylim=(len(rows) - 0.4, -0.6), yticks=[], xticks=[])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    for place, verdict in enumerate(rows):
        _row(axes, place, verdict, scales[place])
        _labels(axes, place, beside[place], STATE_COLOURS[verdict.state], _LINE / row)
    axes.text(0, len(rows) - 0.4, "asked bound", fontsize=7, color=MUTED, ha="center", va="top")
    axes.axvline(0, color=MUTED, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Maps a row's values to the common axis; `facing` is -1 where smaller is what the claim asks."""

    centre: float
    reach: float
    facing: int
    logarithmic: bool
    marker: float = 1.0
    """Size of the row's marker: smaller where a common scale makes intervals short."""

    def __call__(self, value: float) -> float:
        here, centre = (math.log(value), math.log(self.centre)) if self.logarithmic else (value, self.centre)
        return max(-_EDGE, min(_EDGE, self.facing * (here - centre) / self.reach))


def _scale(verdict: Verdict) -> _Scale:
    low, high = verdict.asked_low, verdict.asked_high
    shown = [x for x in (verdict.estimate, verdict.low, verdict.high, low, high) if x is not None]
    logarithmic = verdict.unit == "ratio" and min(shown) > 0
    two_sided = low is not None and high is not None
    if low is not None and high is not None:
        centre = math.sqrt(low * high) if logarithmic else (low + high) / 2
    else:
        centre = low if low is not None else high if high is not None else 0.0
    distances = [abs(math.log(x / centre)) if logarithmic else abs(x - centre) for x in shown]
    reach = 1.15 * max(distances) or 1.0
    return _Scale(
        centre=centre, reach=reach, facing=-1 if low is None and not two_sided else 1, logarithmic=logarithmic
    )


def _scales(rows: Sequence[Verdict], *, common: bool) -> list[_Scale]:
    """A scale for each row; in common where rows ask the same of the same metric, so that their effects compare."""
    own = [_scale(verdict) for verdict in rows]
    if not common:
        return own
    asks = [(v.metric, v.unit, v.asked_low, v.asked_high, one.logarithmic) for v, one in zip(rows, own, strict=True)]
    reach = {ask: max(one.reach for other, one in zip(asks, own, strict=True) if other == ask) for ask in asks}
    return [replace(one, reach=reach[ask], marker=0.75) for ask, one in zip(asks, own, strict=True)]


def _row(axes: Axes, place: int, verdict: Verdict, scale: _Scale) -> None:
    colour = STATE_COLOURS[verdict.state]
    edges = [scale(x) for x in (verdict.asked_low, verdict.asked_high) if x is not None]
    start, stop = (min(edges), max(edges)) if len(edges) == 2 else (edges[0], _EDGE)
    if stop - start > 1e-9:
        axes.fill_between([start, stop], place - 0.36, place + 0.36, color=SHADE, linewidth=0, zorder=0)
    none = 1.0 if verdict.unit == "ratio" else 0.0
    inside = [none / scale.centre, scale.centre / none] if scale.logarithmic else []
    if (math.log(max(inside)) if scale.logarithmic else abs(none - scale.centre)) <= scale.reach * 1.001:
        axes.plot([scale(none)] * 2, [place - 0.36, place + 0.36], color=MUTED, linewidth=0.8, zorder=2)
    ends = [
        scale(verdict.low) if verdict.low is not None else None,
        scale(verdict.high) if verdict.high is not None else None,
    ]
    for end, side in zip(ends, ("low", "high"), strict=True):
        if end is None and side in verdict.unbounded:
            ends[0 if side == "low" else 1] = scale.facing * _EDGE * (-1 if side == "low" else 1)
    if ends[0] is not None and ends[1] is not None:
        axes.plot([ends[0], ends[1]], [place, place], color=colour, linewidth=2.4, zorder=3)
    estimate = verdict.estimate
    if estimate is not None:
        marker = STATE_MARKERS[verdict.state]
        axes.plot(
            scale(estimate),
            place,
            marker,
            color=colour,
            markersize=7 * scale.marker,
            markerfacecolor=colour if verdict.label == "primary" else PAPER,
            markeredgecolor=PAPER if verdict.label == "primary" else colour,
            markeredgewidth=0.8 * scale.marker if verdict.label == "primary" else 1.3,
            zorder=4,
        )


class _Beside:
    """The words beside a row, in lines: claim and state at the left, effect and what was asked at the right."""

    def __init__(self, verdict: Verdict) -> None:
        state = STATES[verdict.state]
        label = "" if verdict.label == "primary" else f" ({verdict.label})"
        self.left = [*lines_of(verdict.id, 2.4, 8, at="-_. "), f"{state}{label}"]
        self.effect = lines_of(effect(verdict), 2.7, 8, bold=True)
        n = "" if verdict.units == "counts" else f", {counted(verdict)}"
        caveats = "".join(f"; {caveat}" for caveat in verdict.caveats)
        self.asked = lines_of(f"asked {verdict.asked}{n}{caveats}", 2.7, 7)
        self.right = [*self.effect, *self.asked]


def _labels(axes: Axes, place: int, words: _Beside, colour: str, line: float) -> None:
    left, right = -1.1 * _EDGE, 1.1 * _EDGE
    for k, text in enumerate(words.left):
        y = place + line * (k - (len(words.left) - 1) / 2)
        last = k == len(words.left) - 1
        axes.text(
            left, y, text, ha="right", va="center", fontsize=7 if last else 8, color=colour if last else INK,
            weight="bold" if last else "normal",
        )  # fmt: skip
    for k, text in enumerate(words.right):
        y = place + line * (k - (len(words.right) - 1) / 2)
        bold = k < len(words.effect)
        axes.text(
            right, y, text, ha="left", va="center", fontsize=8 if bold else 7, color=INK if bold else MUTED,
            weight="bold" if bold else "normal",
        )  # fmt: skip


def _tally(rows: Sequence[Verdict]) -> str:
    """`primary 1 supported; exploratory 2 supported and 1 refuted`."""
    kinds = {
        "primary": [v for v in rows if v.label == "primary"],
        "exploratory": [v for v in rows if v.label != "primary"],
    }
    told = []
    for kind, verdicts in kinds.items():
        counts = [(sum(v.state == state for v in verdicts), STATES[state].lower()) for state in STATES]
        if verdicts:
            told.append(f"{kind} {listed(f'{n} {state}' for n, state in counts if n)}")
    return "; ".join(told)
