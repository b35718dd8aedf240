"""Fronts: quality against each cost, and which models no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moebench.format import listed, plural, quantity, short
from moebench.metrics.declared import METRICS, parse_metric
from moebench.reporting.analysis import Findings, cost_label, mean
from moebench.reporting.theme import GREY, Drawn, canvas, grid, key, key_height, log_ticks, text_width

_EVEN = 1.05
"""Ratio of the largest to the smallest cost below which many models are not set against each other by it."""


def pareto(found: Findings) -> Drawn | str:
    """Final loss against what a model holds, what a token uses and how fast it answers, with the fronts drawn."""
    models = [m for m in found.held.models if len(found.final(m))]
    if not models:
        return "No run is complete yet."
    costs = {m: found.plan.models[m].costs for m in models}
    panels_of: dict[str, dict[str, float]] = {
        "active parameters": {m: float(costs[m].params.active) for m in models},
        "weight bytes": {m: float(costs[m].weight_bytes) for m in models},
    }
    metric_of = {"active parameters": "cost.active_params", "weight bytes": "cost.weight_bytes"}
    decode = [name for name in found.timed_metrics if name.startswith("speed.decode_step_s")]
    if decode:
        times = {m: found.usual_time(m, decode[-1]) for m in models}
        panels_of[cost_label(decode[-1])] = {m: seconds for m, seconds in times.items() if seconds is not None}
        metric_of[cost_label(decode[-1])] = decode[-1]
    even = [name for name, xs in panels_of.items() if max(xs.values()) < _EVEN * min(xs.values())] if found.many else []
    panels_of = {name: xs for name, xs in panels_of.items() if name not in even} or panels_of
    fronts = {
        name: _front({m: (x, float(found.final(m).mean())) for m, x in xs.items()}) for name, xs in panels_of.items()
    }
    title = _title(found, {metric_of[name]: xs for name, xs in panels_of.items()}, fronts.values())
    subtitle = f"Final bits per byte ({'mean' if found.many else 'small: seeds; large: mean'}, 95% interval) against "
    subtitle += "each cost, log axis. "
    subtitle += "Line: the Pareto front."
    subtitle += "".join(
        f" Not drawn: {name}, as the models differ by less than {_EVEN - 1:.0%} in it." for name in even
    )
    if found.many:
        figure, axes_of = grid(
            title, subtitle, panels=len(panels_of), columns=1, height=3.0, gap=(0, 0.55), headroom=0.1, share=""
        )
    else:
        looks = {m: found.styles[m] for m in models}
        figure, axes_of = canvas(
            title, subtitle, height=2.3, columns=len(panels_of), gap=0.2, share_y=True, headroom=key_height(models)
        )
        key(axes_of[0], looks, line=False)
    for axes, (name, xs) in zip(axes_of, panels_of.items(), strict=True):
        _front_panel(axes, found, xs, fronts[name])
        axes.set_xlabel(name)
        unit = METRICS[parse_metric(metric_of[name])[0]].unit
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _, unit=unit: short(quantity(x, unit))))
        if found.many:
            axes.set_ylabel("bits per byte")
        elif axes is not axes_of[0]:
            axes.tick_params(axis="y", labelleft=False)
    axes_of[0].set_ylabel("bits per byte")
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _title(found: Findings, costs: Mapping[str, Mapping[str, float]], fronts: Iterable[Sequence[str]]) -> str:
    """Models on every front, where it is decided that none is below them in both cost and loss."""
    several = "both fronts" if len(costs) == 2 else f"all {len(costs)} fronts" if len(costs) > 1 else "the front"
    every = [set(front) for front in fronts]
    on_all = [m for m in found.held.models if all(m in front for front in every)]
    certain = [m for m in on_all if all(_unbeaten(found, m, metric, xs) for metric, xs in costs.items())]
    if not certain:
        return f"Loss against {plural(len(costs), 'cost')}: undecided which models are on {several}"
    verb, them = ("is", "it") if len(certain) == 1 else ("are", "them")
    return f"{listed(certain)} {verb} on {several}: no model beats {them} in both loss and cost"


def _unbeaten(found: Findings, model: str, metric: str, xs: Mapping[str, float]) -> bool:
    """Whether every other model is decided to cost more or to have a higher loss."""
    return all(
        found.order(other, model).side == "higher" or found.order(other, model, metric).side == "higher"
        for other in xs
        if other != model
    )


def _front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Models for which no other is at most as costly and better, cheapest first."""
    found: list[str] = []
    for model, (_, loss) in sorted(points.items(), key=lambda item: item[1]):
        if all(loss < points[held][1] for held in found):
            found.append(model)
    return found


def _front_panel(axes: Axes, found: Findings, xs: dict[str, float], front: Sequence[str]) -> None:
    axes.set_xscale("log")
    steps = [(xs[m], float(found.final(m).mean())) for m in front]
    axes.plot(*zip(*steps, strict=True), color=GREY, linewidth=1, drawstyle="steps-post", zorder=1)
    for model, x in xs.items():
        style, values = found.styles[model], found.final(model)
        middle = mean(values)
        if not found.many:
            axes.plot(
                [x] * len(values), values, "o", color=style.colour, alpha=0.4, markersize=2.4, markeredgewidth=0,
                zorder=2,
            )  # fmt: skip
        axes.plot([x, x], [middle.low, middle.high], color=style.colour, linewidth=1.8, zorder=3)
        axes.plot(
            x,
            middle.centre,
            style.marker,
            color=style.colour,
            markersize=5.5 if found.many else 6.5,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=4,
        )
    if found.many:
        _place_names(axes, found, xs, front)
    else:
        axes.margins(x=0.15)
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim(), most=4 if found.many else 3)))
    axes.xaxis.set_minor_locator(NullLocator())


_LINE = 1.15
"""Height of type, as a share of its size."""
_LEADER = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3}
_REACH = (0, 7, 15, 25, 38, 55, 75, 100)
_SPOTS: tuple[tuple[float, float], ...] = tuple(
    (dx, dy)
    for far in _REACH
    for dx, dy in (
        (6 + far, 0), (6 + far, far), (6 + far, -far), (0, 7 + far), (0, -7 - far), (-6 - far, far), (-6 - far, 0),
        (-6 - far, -far),
    )
)  # fmt: skip
"""Where a name may stand beside its point, in points of type: near ones first, right before left."""


def _place_names(axes: Axes, found: Findings, xs: dict[str, float], front: Sequence[str]) -> None:
    """Names of many points, each at the nearest spot where it covers no point, interval, front or other name."""
    left, right = min(xs.values()), max(xs.values())
    pad = (right / left) ** 0.12 * 1.02
    axes.set_xlim(left / pad, right * pad)
    size, dots = 7.0, 72 / axes.figure.dpi
    means = {m: mean(found.final(m)) for m in xs}
    points = {m: axes.transData.transform((x, means[m].centre)) * dots for m, x in xs.items()}
    frame = axes.get_window_extent()
    edges = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) * dots
    taken = [np.array([x - 4, y - 4, x + 4, y + 4]) for x, y in points.values()]
    for model, (x, _) in points.items():
        low, high = (axes.transData.transform((xs[model], y))[1] * dots for y in (means[model].low, means[model].high))
        taken.append(np.array([x - 1, low, x + 1, high]))
    steps = [points[model] for model in front]
    for (x, y), (right, below) in pairwise(steps):
        taken += [np.array([x, y - 1, right, y + 1]), np.array([right - 1, below, right + 1, y])]
    names: list[np.ndarray] = []
    for model in sorted(points, key=lambda m: -points[m][1]):
        x, y = points[model]
        width, height = 72 * text_width(model, size), _LINE * size
        spots: list[tuple[float, int, float, float, np.ndarray]] = []
        for dx, dy in _SPOTS:
            start = x + dx - (width / 2 if not dx else width if dx < 0 else 0)
            box = np.array([start, y + dy - height / 2, start + width, y + dy + height / 2])
            over = sum(_overlap(box, other) for other in taken) + 20 * sum(_overlap(box, name) for name in names)
            outside = 20 * max(0.0, *(edges[:2] - box[:2]), *(box[2:] - edges[2:]))
            spots.append((over + outside + math.hypot(dx, dy) / 2, len(spots), dx, dy, box))
        _, _, dx, dy, box = min(spots, key=lambda spot: spot[:2])
        names.append(box)
        far = math.hypot(dx, dy) > 13
        axes.annotate(
            model, (xs[model], means[model].centre), (dx, dy), textcoords="offset points", va="center",
            ha="center" if not dx else "left" if dx > 0 else "right", fontsize=size, color=found.styles[model].colour,
            arrowprops=_LEADER if far else None,
        )  # fmt: skip


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    return max(0.0, float(min(a[2], b[2]) - max(a[0], b[0]))) * max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
