"""The figure of a sweep: a metric against the value that was swept, with the slope that the claim is about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from moebench.claims.gains import gains_along, reading_of
from moebench.claims.hypothesis import Reading
from moebench.claims.kinds.crosses import Crosses
from moebench.claims.kinds.kind import less
from moebench.claims.verdict import Verdict
from moebench.format import NBSP, count, plural, seconds, short
from moebench.metrics import find, metric_of
from moebench.metrics.ref import MetricRef
from moebench.reporting.analysis import QUALITY, Array, Findings, Mean, cost_label, mean
from moebench.reporting.canvas import Drawn, apart, canvas, fitted_title, labelled, plainly, ticks
from moebench.reporting.figures.marks import dots, interval
from moebench.reporting.part import part
from moebench.reporting.states import STATES, counted, effect
from moebench.reporting.theme import GREY, MUTED
from moebench.suite.claim import Claim

_MOST = 3
"""Panels in one figure; claims beyond that have their rows alone."""


@dataclass(frozen=True, kw_only=True)
class _Swept:
    """One panel: what was swept, and values at its points."""

    name: str
    """The claim's, or the sweep's."""
    along: str
    what: str
    """What stands upright, in words."""
    unit: str
    points: Mapping[str, float]
    """Model -> its value of the swept key."""
    values: Mapping[str, Array]
    """Model -> [n] a value a seed or process, or the effect that a gain is; empty where nothing was measured."""
    reading: Reading | None = None
    """Of gains, how an effect reads: means, intervals and slopes are of effects."""
    verdicts: tuple[Verdict, ...] = ()
    """Of the claims that ask about it, in the suite's order."""
    level: float | None = None
    """What is no difference, or what a crossing asks for, where values are gains."""

    def shown(self, value: float) -> float:
        """A value, or an effect, as it is drawn."""
        return value if self.reading is None else self.reading.show(value)

    @property
    def slope(self) -> Verdict | None:
        """The trend's."""
        return next((v for v in self.verdicts if v.kind == "trend" and v.estimate is not None), None)


@part("answer", order=1, asked=lambda findings: bool(findings.plan.spec.sweeps))
def figure(findings: Findings) -> Drawn | str:
    """Every seed and the mean at each swept value, of gains where claims are of gains, and the judged slope."""
    panels = _panels(findings)
    if not panels:
        return "The suite has no sweep over numbers."
    shown = panels[:_MOST]
    title = _title(shown[0])
    subtitle = "Small: seeds, or processes of timings; large: mean with its 95% interval."
    if any(panel.slope for panel in shown):
        subtitle += " Dashed: the slope of the trend claim, through the middle of the points; shaded: its 95% interval."
    if any(panel.level is not None for panel in shown):
        subtitle += " A gain is above the line where the treatment is better, by what the claim asks."
    if len(panels) > len(shown):
        more = len(panels) - len(shown)
        subtitle += f" {plural(more, 'more claim')} along a sweep {'is' if more == 1 else 'are'} among the verdicts."
    drawn, axes_of = canvas(
        title, subtitle, height=2.5, panels=len(shown), gap=0.75, headroom=0.26, left=0.75, panel=1.7
    )
    for axes, panel in zip(axes_of, shown, strict=True):
        _panel(axes, findings, panel)
    if len({panel.what for panel in shown}) == 1:  # of the same, so on one scale
        low, high = zip(*(axes.get_ylim() for axes in axes_of), strict=True)
        for axes in axes_of:
            axes.set_ylim(min(low), max(high))
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _panels(findings: Findings) -> list[_Swept]:
    """A panel for what each trend or crossing is of; for a sweep that no claim is about, quality along its first key
    of numbers."""
    plan = findings.plan
    asked: dict[tuple[object, ...], list[str]] = {}
    for name, claim in plan.spec.claims.items():
        if claim.along and claim.test.kind in ("trend", "crosses"):
            of = (claim.over, claim.compare, claim.along, claim.metric, claim.minus, reading_of(claim))
            asked.setdefault(of, []).append(name)
    made, about = list[_Swept](), set[str]()
    for names in asked.values():
        if (panel := _of_claims(findings, names)) is not None:
            made.append(panel)
            about.update(_named_by(plan.spec.claims[names[0]]))
    for sweep, members in plan.spec.sweeps.items():
        keys = list(dict.fromkeys(key for point in members.values() for key in point))
        numeric = [key for key in keys if _points(members, key)]
        if numeric and sweep not in about:
            made.append(_of_models(findings, sweep, sweep, numeric[0], QUALITY))
    return made


def _named_by(claim: Claim) -> tuple[str, ...]:
    """The sweeps whose values, or gains, a trend or a crossing is of."""
    pairs = [pair for pair in (claim.compare, claim.minus) if pair is not None and not isinstance(pair, str)]
    return (claim.over or "", *(side for pair in pairs for side in (pair.treatment, pair.baseline)))


def _of_claims(findings: Findings, names: Sequence[str]) -> _Swept | None:
    """The panel of claims that ask of the same values; None where they are not along numbers."""
    claims, along = [findings.plan.spec.claims[name] for name in names], str(findings.plan.spec.claims[names[0]].along)
    verdicts = tuple(v for v in findings.verdicts if v.id in names)
    claim, first = claims[0], names[0]
    if claim.over is not None:
        if not _points(findings.plan.spec.sweeps.get(claim.over, {}), along):
            return None
        return replace(_of_models(findings, first, claim.over, along, claim.metric), verdicts=verdicts)
    gains, pair = gains_along(findings.study.evidence, claim), claim.compare
    if not gains or pair is None:
        return None
    of, reading = _metric(claim.metric), reading_of(claim)
    margins = [one.test.margin for one in claims if isinstance(one.test, Crosses)]
    return _Swept(
        name=first,
        along=along,
        what=f"Gain of {pair.treatment} over {pair.baseline} in {of[0].lower()}{of[1:]}{less(claim)}",
        unit=reading.unit,
        reading=reading,
        points={gain.model: gain.at for gain in gains},
        values={gain.model: gain.effects for gain in gains},
        verdicts=verdicts,
        level=next((100 * m.value if m.relative else m.value for m in margins if m.value), 0.0),
    )


def _of_models(findings: Findings, name: str, sweep: str, along: str, metric: str) -> _Swept:
    points = _points(findings.plan.spec.sweeps[sweep], along)
    values = {model: _values(findings, model, metric) for model in points}
    return _Swept(
        name=name, along=along, what=_metric(metric), unit=metric_of(metric).unit, points=points, values=values
    )


def _points(members: Mapping[str, Mapping[str, float | str | bool]], along: str) -> dict[str, float]:
    """Member -> the number it has for a swept key; empty unless all have one."""
    points = {name: point.get(along) for name, point in members.items()}
    numbers = {name: float(x) for name, x in points.items() if isinstance(x, float | int) and not isinstance(x, bool)}
    return numbers if len(numbers) == len(points) else {}


def _title(panel: _Swept) -> str:
    verdict = next((v for v in panel.verdicts if v.estimate is not None), None)
    if verdict is None:
        return f"{panel.what} against {panel.along} of {panel.name}" if panel.level is None else panel.what
    passed = "passes" if verdict.state == "supported" else "does not pass"
    told, found = f"{passed} {_at(panel)} along {panel.along}", counted(verdict)
    if verdict.kind == "trend":
        way = "is" if verdict.state == "supported" else "is not"
        told, found = f"{way} {verdict.asked}", f"{effect(verdict)}, {found}"
    if verdict.state in ("supported", "refuted"):
        return f"{panel.what} {told}: {found}"
    return f"{panel.what} against {panel.along}, undecided ({STATES[verdict.state].lower()}): {found}"


def _at(panel: _Swept) -> str:
    return f"{plainly(panel.level or 0)}{'' if panel.unit == '%' else NBSP}{panel.unit}"


def _metric(metric: str) -> str:
    ref = MetricRef.parse(metric)
    if ref.base == QUALITY:
        return " ".join(["Final loss", *(f"on {value}" for _, value in ref.labels)])
    return cost_label(metric) if find(ref) is not None else metric


def _panel(axes: Axes, findings: Findings, panel: _Swept) -> None:
    values = {model: v for model, v in panel.values.items() if len(v)}
    means = {model: mean(v) for model, v in values.items()}
    logarithmic, at = min(panel.points.values()) > 0, sorted(set(panel.points.values()))
    for model, middle in means.items():
        x, style, n = panel.points[model], findings.styles[model], len(values[model])
        beside = 0.06 + 0.1 * np.arange(n) / max(1, n - 1)
        beside = x * 2.0**beside if logarithmic else x + 0.2 * beside * (at[-1] - at[0])
        seeds = np.array([panel.shown(value) for value in values[model]])
        dots(axes, beside, seeds, style, alpha=0.45)
        centre, low, high = (panel.shown(end) for end in (middle.centre, middle.low, middle.high))
        drawn = Mean(centre=centre, low=low, high=high, n=middle.n)
        interval(axes, x, drawn, style, upright=True, width=2, size=6, rim=0.7)
    if panel.level is not None:
        axes.axhline(panel.level, color=GREY, linewidth=1, zorder=0)
    if logarithmic:
        axes.set_xscale("log", base=2)
    if means:
        _slope(axes, panel, means, logarithmic=logarithmic)
    ticks(axes.xaxis, apart(axes, at, plainly, logarithmic=logarithmic), plainly)
    if logarithmic and len(at) > 1:
        span = max(at) / min(at)
        axes.set_xlim(min(at) / span**0.07, max(at) * span**0.09)
    axes.set_xlabel(panel.along)
    counts = panel.unit.startswith(("bytes", "FLOPs", "parameters", "tokens"))
    form = seconds if panel.unit == "s" else count if counts else None
    labelled(axes.yaxis, plainly if form is None else lambda y: short(form(y)) if y > 0 else "0")
    upright = panel.what if panel.level is None else "gain"
    axes.set_ylabel(f"{upright}, {panel.unit}" if panel.unit not in ("1", "s") else upright)
    fitted_title(axes, panel.name)


def _values(findings: Findings, model: str, metric: str) -> Array:
    """A value a seed, or of a timing the median a process."""
    if metric_of(metric).kind == "timed":
        return np.asarray(findings.timed(model, metric), dtype=np.float64)
    outcomes = findings.study.evidence.outcomes_of([model])
    finals = [run.values[metric] for run in outcomes if run.status == "completed" and metric in run.values]
    return np.array(finals, dtype=np.float64)


def _slope(axes: Axes, panel: _Swept, means: Mapping[str, Mean], *, logarithmic: bool) -> None:
    """The judged slope through the middle of the points, where there is one."""
    verdict = panel.slope
    if verdict is None or verdict.estimate is None or len(means) < 2:
        return
    at = {m: float(np.log2(panel.points[m])) if logarithmic else panel.points[m] for m in means}
    x0, y0 = float(np.mean(list(at.values()))), float(np.mean([m.centre for m in means.values()]))
    along = np.linspace(min(at.values()), max(at.values()), 25)
    drawn, shown = 2.0**along if logarithmic else along, np.vectorize(panel.shown)
    relative = panel.reading is not None and panel.reading.form == "percent"

    def line(slope: float) -> Array:
        slope = math.log1p(slope / 100) if relative else slope
        return np.asarray(shown(y0 + slope * (along - x0)), dtype=np.float64)

    colour = MUTED if verdict.state in ("supported", "refuted") else GREY
    if verdict.low is not None and verdict.high is not None:
        sides = np.array([line(verdict.low), line(verdict.high)])
        axes.fill_between(drawn, sides.min(axis=0), sides.max(axis=0), color=colour, alpha=0.15, linewidth=0, zorder=0)
    axes.plot(drawn, line(verdict.estimate), color=colour, linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
