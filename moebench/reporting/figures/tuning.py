"""The learning-rate sweep: whether each model was tuned, and alike."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moebench.format import plural
from moebench.reporting.analysis import Findings
from moebench.reporting.figures.ends import end_labels
from moebench.reporting.theme import Drawn, canvas, widest


def rates(found: Findings) -> Drawn | str:
    """Bits per byte on the tune split against the peak learning rate, every seed a point."""
    tune = found.held.tune
    if tune is None:
        return (
            "No learning-rate sweep is recorded: the rate is not shown to be tuned for any model."
            if found.plan.tune is None
            else "The learning-rate sweep has not been run (start it with `moebench run --tune`)."
        )
    models = [m for m in found.held.models if m in tune["models"]]
    inside = [m for m in models if tune["models"][m]["interior"]]
    title = f"The best learning rate lies inside the range tried for {len(inside)} of {plural(len(models), 'model')}"
    lost = sum(point["bits_per_byte"] is None for m in models for point in tune["models"][m]["curve"])
    seeds = len(tune["plan"]["seeds"])
    subtitle = "Bits per byte on the tune split after training at each peak rate; "
    subtitle += f"points are seeds (n = {seeds}), lines their mean. "
    subtitle += "Ring: the rate the suite trains with." + (
        f" {plural(lost, 'run')} without a value left out." if lost else ""
    )
    right = 0.3 + widest(models, 7.5, bold=True)
    figure, (axes,) = canvas(title, subtitle, height=2.4, right=right, panel=3.0)
    ends = []
    for model in models:
        end = _curve(axes, found, model)
        if end:
            ends.append((*end, model))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(tune["plan"]["lrs"]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.set(xlabel="peak learning rate", ylabel="bits per byte, tune split")
    end_labels(axes, found, ends)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _curve(axes: Axes, found: Findings, model: str) -> tuple[float, float] | None:
    assert found.held.tune is not None
    held = found.held.tune["models"][model]
    points = pd.DataFrame(held["curve"]).dropna(subset=["bits_per_byte"]).astype({"bits_per_byte": float})
    if points.empty:
        return None
    style = found.styles[model]
    centre = points.groupby("lr")["bits_per_byte"].mean()
    axes.plot(
        points["lr"], points["bits_per_byte"], "o", color=style.colour, alpha=0.45, markersize=3, markeredgewidth=0
    )
    axes.plot(centre.index, centre, color=style.colour, linewidth=1.6, marker=style.marker, markersize=4.5)
    chosen = held["configured_lr"]
    if chosen in centre.index:
        axes.plot(
            chosen,
            centre[chosen],
            "o",
            markerfacecolor="none",
            markeredgecolor=style.colour,
            markersize=11,
            markeredgewidth=1.1,
        )
    return float(centre.index[-1]), float(centre.iloc[-1])
