"""The tuning sweep: whether each model was tuned, and alike."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from moebench.format import plural
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, canvas, ticks, widest
from moebench.reporting.figures.marks import dots, end_labels
from moebench.reporting.part import part
from moebench.text import listed


@part("sure", asked=lambda findings: bool(findings.plan.decoders))
def figure(findings: Findings) -> Drawn | str:
    """Bits per byte on the tune split against the peak learning rate, every seed a point."""
    tune = findings.study.tune
    if tune is None:
        return (
            "No learning-rate sweep is recorded: the rate is not shown to be tuned for any model."
            if findings.plan.tune is None
            else f"The learning-rate sweep has not been run (start it with: moebench run {findings.plan.suite} --tune)."
        )
    models = [m for m in findings.study.models if m in tune["models"]]
    inside = [m for m in models if tune["models"][m]["interior"]]
    over = tune["plan"].get("over", {})
    what = "point" if over else "learning rate"
    title = f"The best {what} lies inside the range tried for {len(inside)} of {plural(len(models), 'model')}"
    lost = sum(point["bits_per_byte"] is None for m in models for point in tune["models"][m]["curve"])
    seeds = len(tune["plan"]["seeds"])
    subtitle = "Bits per byte on the tune split after training at each peak rate; "
    subtitle += f"points are seeds (n = {seeds}), lines their mean. "
    if over:
        subtitle += f"Of {listed(list(over), last='and')}, at each rate, those values that do best; a model without "
        subtitle += "such a field has as many runs by more seeds. "
    subtitle += "Extended once, as a best point lay at an end. " if "extended" in tune else ""
    subtitle += "Ring: the rate the suite trains with." + (
        f" {plural(lost, 'run')} without a value left out." if lost else ""
    )
    right = 0.3 + widest(models, 7.5, bold=True)
    drawn, (axes,) = canvas(title, subtitle, height=2.4, right=right, panel=3.0)
    ends = []
    for model in models:
        end = _curve(axes, findings, model)
        if end:
            ends.append((*end, model))
    axes.set_xscale("log")
    ticks(axes.xaxis, tune.get("extended", tune["plan"])["lrs"], lambda x: f"{x:g}")
    axes.set(xlabel="peak learning rate", ylabel="bits per byte, tune split")
    end_labels(axes, findings, ends)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _curve(axes: Axes, findings: Findings, model: str) -> tuple[float, float] | None:
    assert findings.study.tune is not None
    held = findings.study.tune["models"][model]
    points = pd.DataFrame(_best_at_each_rate(held["curve"])).dropna(subset=["bits_per_byte"])
    points = points.astype({"bits_per_byte": float})
    if points.empty:
        return None
    style = findings.styles[model]
    centre = points.groupby("lr")["bits_per_byte"].mean()
    dots(axes, points["lr"], points["bits_per_byte"], style, size=3, alpha=0.45)
    axes.plot(centre.index, centre, color=style.colour, linewidth=1.6, marker=style.marker, markersize=4.5)
    chosen = held["configured_lr"]
    if chosen in centre.index:
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": style.colour, "markeredgewidth": 1.1}
        axes.plot(chosen, centre[chosen], "o", markersize=11, **ring)
    return float(centre.index[-1]), float(centre.iloc[-1])


def _best_at_each_rate(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each rate, the points of those values of the other fields whose mean is lowest."""
    kept: list[dict[str, Any]] = []
    for lr in dict.fromkeys(point["lr"] for point in curve):
        by_over: dict[str, list[dict[str, Any]]] = {}
        for point in curve:
            if point["lr"] == lr:
                by_over.setdefault(repr(point.get("over")), []).append(point)
        best = min(by_over.values(), key=_mean)
        kept.extend(best)
    return kept


def _mean(points: list[dict[str, Any]]) -> float:
    values = [point["bits_per_byte"] for point in points]
    return math.inf if None in values else sum(values) / len(values)
