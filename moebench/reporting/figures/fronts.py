"""Fronts: quality, or scores on tasks, against each cost, and which models no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from moebench import metrics
from moebench.claims.hypothesis import Contrast, Term
from moebench.format import listed, plural, quantity, short
from moebench.metrics.ref import MetricRef
from moebench.reporting.analysis import Findings, Mean, cost_label
from moebench.reporting.canvas import Drawn, canvas, key, key_height, labelled, log_ticks, text_width, ticks
from moebench.reporting.figures.marks import Values, dots, interval
from moebench.reporting.part import part
from moebench.reporting.tasks import Task
from moebench.reporting.theme import GREY

_EVEN = 1.05
"""Ratio of the largest to the smallest cost below which many models are not set against each other by it."""


@dataclass(frozen=True, kw_only=True)
class _Goodness:
    """What is set against costs."""

    word: str
    """In a title: loss, or score."""
    says: str
    """In the subtitle."""
    axis: str
    means: Mapping[str, Mean]
    seeds: Mapping[str, Values]
    higher: bool
    """Whether more of it is better."""
    is_worse: Callable[[str, str], bool]
    """Whether the first of two models is decided to be worse."""

    def badness(self, model: str) -> float:
        return -self.means[model].centre if self.higher else self.means[model].centre


@part("place", leading=True, asked=lambda findings: findings.trains or not findings.quality.empty)
def figure(findings: Findings) -> Drawn | str:
    """Final loss against what a model holds, what a token uses and how fast it answers, with the fronts drawn."""
    models = [m for m in findings.study.models if len(findings.final(m)) and findings.plan.counts(m)]
    if not models:
        return "No run is complete yet."
    loss = _Goodness(
        word="loss",
        says=f"Final bits per byte ({'mean' if findings.many else 'small: seeds; large: mean'}, 95% interval)",
        axis="bits per byte",
        means={m: findings.level(m) for m in models},
        seeds={m: findings.final(m) for m in models},
        higher=False,
        is_worse=lambda one, other: findings.order(one, other).side == "higher",
    )
    return _drawn(findings, loss)


@part("place", order=1, asked=lambda findings: bool(_scored(findings)))
def scores(findings: Findings) -> Drawn | str:
    """The mean score over tasks against the same costs."""
    models, tasks = _scored(findings), _shared(findings)
    contrasts = {m: Contrast(terms=tuple(_terms(m, 1.0, tasks)), log=False) for m in models}
    drawn = {m: findings.drawn(contrast) for m, contrast in contrasts.items()}
    means = {m: _percent(one[0]) for m, one in drawn.items() if one is not None}
    if len(means) < 2:
        return "No two models whose sizes are known have scores on the same tasks."

    def is_worse(one: str, other: str) -> bool:
        contrast = Contrast(terms=(*_terms(one, 1.0, tasks), *_terms(other, -1.0, tasks)), log=False)
        gap = findings.drawn(contrast)
        return gap is not None and gap[0].bounded and gap[0].high < 0

    over = f"the mean of {plural(len(tasks), 'task')}" if len(tasks) > 1 else tasks[0].name
    score = _Goodness(
        word="score",
        says=f"Score, {over}, with its 95% interval over seeds, or over items of one run,",
        axis="score" if len(tasks) == 1 else "mean score",
        means=means,
        seeds={},
        higher=True,
        is_worse=is_worse,
    )
    return _drawn(findings, score)


def _shared(findings: Findings) -> list[Task]:
    """Tasks of shares of which more is better, each by its first metric, that every model of known size was given."""
    models = [m for m in findings.tasks.models(findings.study.models) if findings.plan.counts(m)]
    held = {task.metric: task for task in findings.tasks.tasks if task.share and task.better == "higher"}
    by_task = {MetricRef.parse(metric).get("task") or metric: metric for metric in reversed(held)}
    first = [metric for metric in held if metric in by_task.values()]
    return [held[metric] for metric in first if all((metric, m) in findings.tasks.scores for m in models)]


def _scored(findings: Findings) -> list[str]:
    """Models of known size with scores on tasks; none unless there are two and a task that all have."""
    models = [m for m in findings.tasks.models(findings.study.models) if findings.plan.counts(m)]
    return models if len(models) > 1 and _shared(findings) else []


def _terms(model: str, sign: float, tasks: Sequence[Task]) -> Iterator[Term]:
    return (Term(model=model, metric=task.metric, weight=sign / len(tasks)) for task in tasks)


def _percent(m: Mean) -> Mean:
    return Mean(centre=100 * m.centre, low=100 * m.low, high=100 * m.high, n=m.n)


def _panels_of(findings: Findings, models: Iterable[str]) -> dict[str, dict[str, float]]:
    """Metric of a cost -> what each model has of it, as far as that is known."""
    counts = {m: findings.plan.counts(m) for m in models}
    panels = {
        metric: {m: float(held[metric]) for m, held in counts.items() if metric in held}
        for metric in ("cost.active_params", "cost.weight_bytes")
    }
    for metric in [name for name in findings.timed_metrics if name.startswith("speed.decode_step_s")][-1:]:
        times = {m: findings.usual_time(m, metric) for m in counts}
        panels[metric] = {m: seconds for m, seconds in times.items() if seconds is not None}
    return {metric: xs for metric, xs in panels.items() if xs}


_WORDS = {"cost.active_params": "active parameters", "cost.weight_bytes": "weight bytes"}


def _drawn(findings: Findings, good: _Goodness) -> Drawn | str:
    models = list(good.means)
    by_metric = _panels_of(findings, models)
    metric_of = {_WORDS.get(metric) or cost_label(metric): metric for metric in by_metric}
    panels_of = {name: by_metric[metric] for name, metric in metric_of.items()}
    if not panels_of:
        return "No cost of a model with a quality is known."
    even = (
        [name for name, xs in panels_of.items() if max(xs.values()) < _EVEN * min(xs.values())] if findings.many else []
    )
    panels_of = {name: xs for name, xs in panels_of.items() if name not in even} or panels_of
    fronts = {name: _front({m: (x, good.badness(m)) for m, x in xs.items()}) for name, xs in panels_of.items()}
    title = _title(findings, good, {metric_of[name]: xs for name, xs in panels_of.items()}, fronts.values())
    subtitle = f"{good.says} against each cost, log axis. Line: the Pareto front."
    subtitle += "".join(
        f" Not drawn: {name}, as the models differ by less than {_EVEN - 1:.0%} in it." for name in even
    )
    if findings.many:
        drawn, axes_of = canvas(
            title, subtitle, panels=len(panels_of), columns=1, height=3.0, gap=(0, 0.55), headroom=0.1
        )
    else:
        looks = {m: findings.styles[m] for m in models}
        drawn, axes_of = canvas(
            title, subtitle, height=2.3, panels=len(panels_of), gap=0.2, share="y", headroom=key_height(models)
        )
        key(axes_of[0], looks, line=False)
    for axes, (name, xs) in zip(axes_of, panels_of.items(), strict=True):
        _front_panel(axes, findings, good, xs, fronts[name])
        axes.set_xlabel(name)
        unit = metrics.metric_of(metric_of[name]).unit
        labelled(axes.xaxis, lambda x, unit=unit: short(quantity(x, unit)))  # type: ignore[misc]
        if findings.many or axes is axes_of[0]:
            axes.set_ylabel(good.axis)
            if good.higher:
                labelled(axes.yaxis, lambda y: f"{y:g}%")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(
    findings: Findings, good: _Goodness, costs: Mapping[str, Mapping[str, float]], fronts: Iterable[Sequence[str]]
) -> str:
    """Models on every front, where it is decided that none is better in both cost and quality."""
    several = "both fronts" if len(costs) == 2 else f"all {len(costs)} fronts" if len(costs) > 1 else "the front"
    every = [set(front) for front in fronts]
    on_all = [m for m in findings.study.models if all(m in front for front in every)]
    certain = [m for m in on_all if all(_unbeaten(findings, good, m, metric, xs) for metric, xs in costs.items())]
    if not certain:
        word = good.word.capitalize()
        return f"{word} against {plural(len(costs), 'cost')}: undecided which models are on {several}"
    verb, them = ("is", "it") if len(certain) == 1 else ("are", "them")
    return f"{listed(certain)} {verb} on {several}: no model beats {them} in both {good.word} and cost"


def _unbeaten(findings: Findings, good: _Goodness, model: str, metric: str, xs: Mapping[str, float]) -> bool:
    """Whether every other model is decided to cost more or to be worse."""
    return all(
        good.is_worse(other, model) or findings.order(other, model, metric).side == "higher"
        for other in xs
        if other != model
    )


def _front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Models, each with cost and badness, for which no other is at most as costly and better, cheapest first."""
    front: list[str] = []
    for model, (_, loss) in sorted(points.items(), key=lambda item: item[1]):
        if all(loss < points[other][1] for other in front):
            front.append(model)
    return front


def _front_panel(axes: Axes, findings: Findings, good: _Goodness, xs: dict[str, float], front: Sequence[str]) -> None:
    axes.set_xscale("log")
    steps = [(xs[m], good.means[m].centre) for m in front]
    axes.plot(*zip(*steps, strict=True), color=GREY, linewidth=1, drawstyle="steps-post", zorder=1)
    for model, x in xs.items():
        style, values = findings.styles[model], good.seeds.get(model, [])
        if not findings.many and len(values):
            dots(axes, [x] * len(values), values, style, size=2.4, alpha=0.4)
        interval(axes, x, good.means[model], style, upright=True, size=5.5 if findings.many else 6.5, rim=0.7)
    if findings.many:
        _place_names(axes, findings, good, xs, front)
    else:
        axes.margins(x=0.15)
    ticks(axes.xaxis, log_ticks(*axes.get_xlim(), most=4 if findings.many else 3))


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


def _place_names(axes: Axes, findings: Findings, good: _Goodness, xs: dict[str, float], front: Sequence[str]) -> None:
    """Names of many points, each at the nearest spot where it covers no point, interval, front or other name."""
    left, right = min(xs.values()), max(xs.values())
    pad = (right / left) ** 0.12 * 1.02
    axes.set_xlim(left / pad, right * pad)
    size, dots = 7.0, 72 / axes.figure.dpi
    means = good.means
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
            ha="center" if not dx else "left" if dx > 0 else "right", fontsize=size,
            color=findings.styles[model].colour, arrowprops=_LEADER if far else None,
        )  # fmt: skip


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    return max(0.0, float(min(a[2], b[2]) - max(a[0], b[0]))) * max(0.0, float(min(a[3], b[3]) - max(a[1], b[1])))
