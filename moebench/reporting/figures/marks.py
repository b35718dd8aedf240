"""What figures draw with: intervals, seeds as points or thin lines, courses of training, rows and small panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from moebench.metrics.speed import AGAIN
from moebench.reporting.analysis import Findings, Mean, mean
from moebench.reporting.canvas import canvas, fitted_title, spread, widest
from moebench.reporting.theme import GREY, INK, Style

ROW = 0.2
"""Inches of height for each model in a figure of rows."""
NOTE = "Grey: routers that are not learned."
Values = Sequence[float] | pd.Series | npt.NDArray[np.float64]


def dots(axes: Axes, x: Values, y: Values, style: Style, *, size: float = 2.6, alpha: float = 0.5) -> None:
    """Single seeds or processes, pale."""
    axes.plot(x, y, "o", color=style.colour, alpha=alpha, markersize=size, markeredgewidth=0)


def jitter(count: int, width: float) -> npt.NDArray[np.float64]:
    """Offsets that keep `count` points of one place apart, from -width / 2 to width / 2."""
    return width * (np.arange(count) / max(1, count - 1) - 0.5)


def interval(
    axes: Axes, at: float, middle: Mean, style: Style, *, upright: bool = False, width: float = 1.8, size: float = 5.5,
    rim: float | None = None,
) -> None:  # fmt: skip
    """A mean with its interval as a bar along the values; `rim` is the width of a white edge round the marker."""
    edge: dict[str, Any] = {} if rim is None else {"markeredgecolor": "white", "markeredgewidth": rim}
    ends, place = [middle.low, middle.high], [at, at]
    axes.plot(*((place, ends) if upright else (ends, place)), color=style.colour, linewidth=width, zorder=3)
    point = (at, middle.centre) if upright else (middle.centre, at)
    axes.plot(*point, style.marker, color=style.colour, markersize=size, zorder=4, **edge)


# ---------------------------------------------------------------------------------------------- along training


def course(axes: Axes, rows: pd.DataFrame, x: str, y: str, style: Style, *, small: bool = False) -> tuple[float, float]:
    """Every seed as a thin line, their mean over it with its interval as a band; gives where the mean ends."""
    thin, alpha, shade, thick, size = (0.5, 0.4, 0.2, 1.5, 3.2) if small else (0.6, 0.35, 0.18, 1.8, 3.6)
    points, seeds = rows[[x, y]].to_numpy(dtype=np.float64), rows["seed"].to_numpy()
    lines = [points[seeds == seed] for seed in np.unique(seeds)]
    # All in one collection: a thousand seeds must not take a thousand artists.
    axes.add_collection(LineCollection(lines, colors=style.colour, linewidths=thin, alpha=alpha, zorder=2))
    at, means = means_of(rows, x, y)
    axes.fill_between(
        at, [m.low for m in means], [m.high for m in means], color=style.colour, alpha=shade, linewidth=0, zorder=1
    )
    centre = [m.centre for m in means]
    axes.plot(at, centre, color=style.colour, linewidth=thick, marker=style.marker, markersize=size, zorder=3)
    return float(at[-1]), centre[-1]


def means_of(rows: pd.DataFrame, x: str, y: str) -> tuple[npt.NDArray[np.float64], list[Mean]]:
    """Mean of `y` over seeds at each step, and where it stands in `x`."""
    groups = [group for _, group in rows.groupby("step")]
    return np.array([float(group[x].mean()) for group in groups]), [mean(group[y]) for group in groups]


def end_labels(axes: Axes, findings: Findings, ends: Sequence[tuple[float, float, str]]) -> None:
    """Names right of the panel at the heights of the lines' ends, moved apart where lines end together: no key."""
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    heights = spread([min(max(y, low), high) for _, y, _ in ends], 0.135 * (high - low) / inches)
    for (x, y, model), height in zip(ends, heights, strict=True):
        colour = findings.styles[model].colour
        axes.annotate(
            model, (x, y), (1.03, height), textcoords=axes.get_yaxis_transform(), va="center", ha="left", fontsize=7.5,
            weight="bold", color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 4},
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------- rows


def row_name(model: str) -> str:
    return model.replace(AGAIN, " vs itself (A/A)")


def margin(names: Sequence[str]) -> float:
    """Inches that the longest name needs at the left."""
    return 0.3 + widest((row_name(name) for name in names), 7.5)


def style_of(findings: Findings, model: str) -> Style:
    """A model's look; the baseline's second copy (A/A) is a grey bar."""
    return Style(colour=GREY, marker="|", kind="control") if model.endswith(AGAIN) else findings.styles[model]


def name_rows(axes: Axes, findings: Findings, models: Sequence[str]) -> None:
    """Names in the models' colours at the left, a thin line to follow each row by."""
    labels = [row_name(m) for m in models]
    axes.set(yticks=range(len(models)), yticklabels=labels, ylim=(len(models) - 0.4, -0.6))
    for label, model in zip(axes.get_yticklabels(), models, strict=False):  # none where they are not shown
        label.set_color(style_of(findings, model).colour)
    axes.grid(visible=True, axis="y", linewidth=0.4)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def in_row(axes: Axes, place: float, middle: Mean, style: Style, values: Values = ()) -> None:
    """An interval in a row of its own, over its seeds where they are given."""
    if len(values):
        dots(axes, values, place + 0.26 + jitter(len(values), 0.2), style, size=2)
    interval(axes, place - 0.12 if len(values) else place, middle, style, size=4.6)


# ---------------------------------------------------------------------------------------------- small panels


_COLUMNS = 4


def sheet(title: str, subtitle: str, count: int) -> tuple[Figure, list[Axes]]:
    """A small panel for each of many models."""
    columns = min(_COLUMNS, count)
    return canvas(
        title, subtitle, panels=count, columns=columns, height=0.85, gap=(0.12, 0.26), headroom=0.26, share="xy"
    )


def heading(axes: Axes, findings: Findings, model: str) -> None:
    """The model's name over its panel in its colour."""
    fitted_title(axes, model, colour=findings.styles[model].colour)


def edge_labels(panels: Sequence[Axes], x: str, y: str) -> None:
    """Names of the axes at the edges of a sheet."""
    columns = min(_COLUMNS, len(panels))
    for place, axes in enumerate(panels):
        axes.tick_params(labelsize=6.5)
        if place + columns >= len(panels):
            axes.set_xlabel(x, fontsize=7, color=INK)
        if place % columns == 0:
            axes.set_ylabel(y, fontsize=7, color=INK)


def over_steps(
    findings: Findings, rows: pd.DataFrame, title: str, subtitle: str, label: str
) -> tuple[Figure, list[Axes]]:
    """One metric along training in a panel a model, all other models' means in grey behind each."""
    models = [m for m in findings.study.models if (rows["model"] == m).any()]
    figure, panels = sheet(title, subtitle, len(models))
    means = [rows[rows["model"] == m].groupby("step")["value"].mean() for m in models]
    lines = [np.column_stack([one.index, one]) for one in means]
    for axes, model in zip(panels, models, strict=True):
        axes.add_collection(LineCollection(lines, colors=GREY, linewidths=0.5, alpha=0.45, zorder=1))
        course(axes, rows[rows["model"] == model], "step", "value", findings.styles[model], small=True)
        heading(axes, findings, model)
    edge_labels(panels, "training step", label)
    return figure, panels


def by_step(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with plain numbers for step and seed, and those of each run's last step."""
    rows = rows.assign(step=rows["step"].astype(float), seed=rows["seed"].astype(int))
    return rows, rows[rows["step"] == rows.groupby(["model", "seed"])["step"].transform("max")]
