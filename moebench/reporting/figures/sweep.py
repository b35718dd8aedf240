"""The figure of a sweep: a metric against the value that was swept, with the slope that the claim is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from moebench.claims.verdict import Verdict
from moebench.format import count, plural, seconds, short
from moebench.metrics import find, metric_of
from moebench.metrics.ref import MetricRef
from moebench.reporting.analysis import QUALITY, Array, Findings, Mean, cost_label, mean
from moebench.reporting.canvas import Drawn, apart, canvas, fitted_title, labelled, plainly, ticks
from moebench.reporting.figures.marks import dots, interval
from moebench.reporting.part import part
from moebench.reporting.states import STATES, counted, effect
from moebench.reporting.theme import GREY, MUTED

_MOST = 3
"""Panels in one figure; claims beyond that have their rows alone."""


@dataclass(frozen=True, kw_only=True)
class _Swept:
    """One panel: a metric over the members of a sweep along one key."""

    sweep: str
    along: str
    metric: str
    points: Mapping[str, float]
    """Member -> its value of the swept key."""
    verdict: Verdict | None
    """Of the trend claim that asks about it."""


@part("answer", order=1, asked=lambda findings: bool(findings.plan.spec.sweeps))
def figure(findings: Findings) -> Drawn | str:
    """Every seed and the mean at each swept value, and the trend claim's slope with its interval."""
    panels = _panels(findings)
    if not panels:
        return "The suite has no sweep over numbers."
    shown = panels[:_MOST]
    title = _title(shown[0])
    subtitle = (
        "Small: seeds, or processes of timings; large: mean with its 95% interval. Dashed: the slope of the trend "
        "claim, through the middle of the points; shaded: its 95% interval."
    )
    if len(panels) > len(shown):
        more = len(panels) - len(shown)
        subtitle += f" {plural(more, 'more trend claim')} {'is' if more == 1 else 'are'} among the verdicts."
    drawn, axes_of = canvas(
        title, subtitle, height=2.5, panels=len(shown), gap=0.75, headroom=0.26, left=0.75, panel=1.7
    )
    for axes, panel in zip(axes_of, shown, strict=True):
        _panel(axes, findings, panel)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _panels(findings: Findings) -> list[_Swept]:
    """A panel for each trend claim; for a sweep that no claim is about, quality along its first key of numbers."""
    plan, judged = findings.plan, {v.id: v for v in findings.verdicts}
    made: list[_Swept] = []
    for name, claim in plan.spec.claims.items():
        if claim.test.kind == "trend" and claim.over and claim.along:
            points = _points(plan.spec.sweeps.get(claim.over, {}), claim.along)
            if points:
                verdict = judged.get(name)
                made.append(
                    _Swept(sweep=claim.over, along=claim.along, metric=claim.metric, points=points, verdict=verdict)
                )
    for sweep, members in plan.spec.sweeps.items():
        keys = list(dict.fromkeys(key for point in members.values() for key in point))
        numeric = [key for key in keys if _points(members, key)]
        if numeric and sweep not in {one.sweep for one in made}:
            points = _points(members, numeric[0])
            made.append(_Swept(sweep=sweep, along=numeric[0], metric=QUALITY, points=points, verdict=None))
    return made


def _points(members: Mapping[str, Mapping[str, float | str | bool]], along: str) -> dict[str, float]:
    """Member -> the number it has for a swept key; empty unless all have one."""
    points = {name: point.get(along) for name, point in members.items()}
    numbers = {name: float(x) for name, x in points.items() if isinstance(x, float | int) and not isinstance(x, bool)}
    return numbers if len(numbers) == len(points) else {}


def _title(panel: _Swept) -> str:
    verdict = panel.verdict
    what = _named(panel.metric)
    if verdict is None or verdict.estimate is None:
        return f"{what} against {panel.along} of {panel.sweep}"
    slope = effect(verdict)
    n = counted(verdict)
    if verdict.state == "supported":
        return f"{what} is {verdict.asked}: {slope}, {n}"
    if verdict.state == "refuted":
        return f"{what} is not {verdict.asked}: {slope}, {n}"
    return f"{what} against {panel.along}, undecided ({STATES[verdict.state].lower()}): {slope}, {n}"


def _named(metric: str) -> str:
    ref = MetricRef.parse(metric)
    if ref.base == QUALITY:
        return " ".join(["Final loss", *(f"on {value}" for _, value in ref.labels)])
    return cost_label(metric) if find(ref) is not None else metric


def _panel(axes: Axes, findings: Findings, panel: _Swept) -> None:
    values = {m: v for m in panel.points if len(v := _values(findings, m, panel.metric))}
    means = {m: mean(v) for m, v in values.items()}
    logarithmic = min(panel.points.values()) > 0
    for model, middle in means.items():
        x, style, n = panel.points[model], findings.styles[model], len(values[model])
        beside = 0.06 + 0.1 * np.arange(n) / max(1, n - 1)
        dots(axes, x * 2.0**beside if logarithmic else np.full(n, x), values[model], style, alpha=0.45)
        interval(axes, x, middle, style, upright=True, width=2, size=6, rim=0.7)
    if logarithmic:
        axes.set_xscale("log", base=2)
    if means:
        _slope(axes, panel, means, logarithmic=logarithmic)
    at = sorted(set(panel.points.values()))
    ticks(axes.xaxis, apart(axes, at, plainly, logarithmic=logarithmic), plainly)
    if logarithmic:
        span = max(at) / min(at)
        axes.set_xlim(min(at) / span**0.07, max(at) * span**0.09)
    axes.set_xlabel(panel.along)
    unit = metric_of(panel.metric).unit
    counts = unit.startswith(("bytes", "FLOPs", "parameters", "tokens"))
    form = seconds if unit == "s" else count if counts else None
    labelled(axes.yaxis, plainly if form is None else lambda y: short(form(y)) if y > 0 else "0")
    axes.set_ylabel(f"{_named(panel.metric)}, {unit}" if unit not in ("1", "s") else _named(panel.metric))
    fitted_title(axes, panel.verdict.id if panel.verdict is not None else panel.sweep)


def _values(findings: Findings, model: str, metric: str) -> Array:
    """A value a seed, or of a timing the median a process."""
    if metric_of(metric).kind == "timed":
        return np.asarray(findings.timed(model, metric), dtype=np.float64)
    outcomes = findings.study.evidence.outcomes_of([model])
    finals = [run.values[metric] for run in outcomes if run.status == "completed" and metric in run.values]
    return np.array(finals, dtype=np.float64)


def _slope(axes: Axes, panel: _Swept, means: Mapping[str, Mean], *, logarithmic: bool) -> None:
    """The judged slope through the middle of the points, where there is one."""
    verdict = panel.verdict
    if verdict is None or verdict.estimate is None or len(means) < 2:
        return
    at = {m: float(np.log2(panel.points[m])) if logarithmic else panel.points[m] for m in means}
    x0, y0 = float(np.mean(list(at.values()))), float(np.mean([m.centre for m in means.values()]))
    ends = np.array([min(at.values()), max(at.values())])
    drawn = 2.0**ends if logarithmic else ends
    colour = MUTED if verdict.state in ("supported", "refuted") else GREY
    if verdict.low is not None and verdict.high is not None:
        sides = np.array([y0 + slope * (ends - x0) for slope in (verdict.low, verdict.high)])
        axes.fill_between(drawn, sides.min(axis=0), sides.max(axis=0), color=colour, alpha=0.15, linewidth=0, zorder=0)
    axes.plot(drawn, y0 + verdict.estimate * (ends - x0), color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
