"""Figures of many models over training: a small panel for each, the baseline or all others in grey behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moebench.format import TIMES, count, short
from moebench.reporting.analysis import Findings, mean
from moebench.reporting.theme import GREY, INK, MUTED, Drawn, fitted_title, grid, log_ticks

_COLUMNS = 4


def loss(found: Findings, title: str) -> Drawn:
    """Loss against tokens, each model before the baseline; what its tokens cost in FLOPs and time is in the corner."""
    curves, baseline = found.curves, found.baseline
    models = [m for m in found.held.models if m != baseline and (curves["model"] == m).any()]
    step_s, how = found.step_seconds
    subtitle = (
        f"Bits per byte at the evaluation points against training tokens; thin lines are seeds, marked: their mean. "
        f"Dashed: {baseline}. In the corner: the cost per token relative to {baseline}; at equal FLOPs or time a curve "
        "shifts right by that factor."
    )
    if step_s:
        subtitle += f" Time: {how}."
    figure, panels = _sheet(title, subtitle, len(models))
    behind = curves[curves["model"] == baseline].groupby("tokens")["loss"].mean()
    tail = curves[curves["step"] >= curves["step"].max() / 4]["loss"]
    for axes, model in zip(panels, models, strict=True):
        rows = curves[curves["model"] == model]
        if len(behind):
            axes.plot(behind.index, behind, color=GREY, linewidth=1.4, linestyle=(0, (3, 1.2)), zorder=1)
        _lines(axes, found, model, rows, "tokens", "loss")
        heading(axes, found, model)
        axes.text(
            0.04, 0.06, _corner(found, model, step_s), transform=axes.transAxes, fontsize=6, color=MUTED, va="bottom",
            linespacing=1.25,
        )  # fmt: skip
    room = 0.08 * (tail.max() - tail.min())
    panels[0].set_ylim(tail.min() - room, tail.max() + room)
    panels[0].set_xscale("log")
    _ticks(panels, lambda x, _: short(count(x)))
    _edge_labels(panels, "training tokens", "bits per byte")
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _corner(found: Findings, model: str, step_s: Mapping[str, float]) -> str:
    assert found.baseline is not None
    mine, below = found.plan.models[model], found.plan.models[found.baseline]
    said = [f"FLOPs {mine.costs.train_flops_per_token / below.costs.train_flops_per_token:.2f}{TIMES}"]
    if {model, found.baseline} <= set(step_s):
        tokens = below.recipe.batch_tokens / mine.recipe.batch_tokens
        said.append(f"time {step_s[model] / step_s[found.baseline] * tokens:.2f}{TIMES}")
    return "\n".join(said)


def over_steps(found: Findings, rows: pd.DataFrame, title: str, subtitle: str, label: str, *, percent: bool) -> Drawn:
    """One metric along training, all other models' means in grey behind each."""
    models = [m for m in found.held.models if (rows["model"] == m).any()]
    figure, panels = _sheet(title, subtitle, len(models))
    means = {m: rows[rows["model"] == m].groupby("step")["value"].mean() for m in models}
    lines = [np.column_stack([one.index, one]) for one in means.values()]
    for axes, model in zip(panels, models, strict=True):
        axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.5, alpha=0.45, zorder=1))
        _lines(axes, found, model, rows[rows["model"] == model], "step", "value")
        heading(axes, found, model)
    if percent:
        panels[0].set_ylim(0, None)
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
    else:
        panels[0].set_yscale("log")
        high = float(rows["value"].max()) * 1.1
        panels[0].set_ylim(0.93, high)
        panels[0].yaxis.set_major_locator(FixedLocator([t for t in (1, 1.5, 2, 3, 5, 8, 16, 32) if t <= high]))
        panels[0].yaxis.set_minor_locator(NullLocator())
        panels[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}{TIMES}"))
    _edge_labels(panels, "training step", label)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _sheet(title: str, subtitle: str, count: int) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    return grid(title, subtitle, panels=count, columns=columns, height=0.85, gap=(0.12, 0.26), headroom=0.26)


def _lines(axes: Axes, found: Findings, model: str, rows: pd.DataFrame, x: str, y: str) -> None:
    style = found.styles[model]
    seeds = [seed[[x, y]].to_numpy(dtype=np.float64) for _, seed in rows.groupby("seed")]
    axes.add_collection(LineCollection(seeds, colors=style.colour, linewidths=0.5, alpha=0.4, zorder=2))
    groups = rows.groupby("step")
    at, middle = groups[x].mean().astype(float), [mean(group[y]) for _, group in groups]
    axes.fill_between(at, [m.low for m in middle], [m.high for m in middle], color=style.colour, alpha=0.2, linewidth=0)
    axes.plot(
        at, [m.centre for m in middle], color=style.colour, linewidth=1.5, marker=style.marker, markersize=3.2, zorder=3
    )


def heading(axes: Axes, found: Findings, model: str) -> None:
    """The model's name over its panel in its colour."""
    fitted_title(axes, model, colour=found.styles[model].colour)


def _ticks(panels: list[Axes], form: Callable[[float, int], str]) -> None:
    panels[0].xaxis.set_major_locator(FixedLocator(log_ticks(*panels[0].get_xlim(), most=3)))
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].xaxis.set_major_formatter(FuncFormatter(form))


def _edge_labels(panels: list[Axes], x: str, y: str) -> None:
    columns = min(_COLUMNS, len(panels))
    for place, axes in enumerate(panels):
        axes.tick_params(labelsize=6.5)
        if place + columns >= len(panels):
            axes.set_xlabel(x, fontsize=7, color=INK)
        if place % columns == 0:
            axes.set_ylabel(y, fontsize=7, color=INK)
