"""Scores on tasks between chance and ceiling, and beside them the paired difference to the baseline."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from moebench.format import MINUS, listed, number
from moebench.reporting.analysis import Findings, Mean
from moebench.reporting.canvas import Drawn, canvas, fitted_title, key, key_height, labelled, ticks, widest
from moebench.reporting.figures.marks import interval, name_rows
from moebench.reporting.part import part
from moebench.reporting.tasks import Gap, Task, headline
from moebench.reporting.theme import GREY, INK, MUTED

_MOST = 24
"""Tasks in one figure; of more, those with the largest differences."""
_FEW_PANELS = 12


@part("tasks", order=1)
def figure(findings: Findings) -> Drawn | str:
    """A row a task and a lane a model; of many models a panel a task and a row a model."""
    every = findings.tasks
    alike, left_out = _alike(every.tasks)
    if not alike:
        return "No task has a score yet."
    chosen = _chosen(findings, alike, _FEW_PANELS if findings.many else _MOST)
    title = headline(findings)
    over = "over seeds, or over items of models of one run"
    subtitle = f"Score with its 95% interval {over}. Dashed: what guessing gets, where that is known."
    if len(chosen) < len(alike):
        subtitle += f" The {len(chosen)} of {len(alike)} tasks with the largest differences."
    if left_out:
        subtitle += f" Not drawn, as their unit is another: {', '.join(task.name for task in left_out)}."
    if findings.many:
        return _panels(findings, chosen, title, subtitle)
    return _rows(findings, chosen, title, subtitle)


def _alike(tasks: Sequence[Task]) -> tuple[list[Task], list[Task]]:
    """Tasks that one axis can hold, shares if there are any, and the others."""
    shares = [task for task in tasks if task.share]
    kept = shares or [task for task in tasks if task.unit == tasks[0].unit]
    return kept, [task for task in tasks if task not in kept]


def _chosen(findings: Findings, tasks: Sequence[Task], most: int) -> list[Task]:
    """As many as one figure holds, in the order of the suite."""

    def size(task: Task) -> float:
        gaps = [gap.verdict.estimate for (metric, _), gap in findings.tasks.gaps.items() if metric == task.metric]
        return max((abs(one) for one in gaps if one is not None), default=0.0)

    largest = sorted(tasks, key=size, reverse=True)[:most]
    return [task for task in tasks if task in largest]


# ---------------------------------------------------------------------------------------------- few models


def _rows(findings: Findings, tasks: Sequence[Task], title: str, subtitle: str) -> Drawn:
    every = findings.tasks
    baseline = listed(dict.fromkeys(every.baselines[task.metric] for task in tasks if task.metric in every.baselines))
    models = every.models(findings.study.models)
    others = [m for m in models if any((task.metric, m) in every.gaps for task in tasks)]
    names = [task.name for task in tasks]
    told = [_told(every.gaps.get((task.metric, others[0]))) if len(others) == 1 else "" for task in tasks]
    if others:
        subtitle += f" Right: paired difference to {baseline}, 95% interval, unadjusted"
        subtitle += "; items won : lost." if any(told) else "."
    left, looks = 0.25 + widest(names, 7.5), {m: findings.styles[m] for m in models}
    right = 0.25 + widest(told, 7) if any(told) else 0.2
    drawn, panels = canvas(
        title, subtitle, panels=2 if others else 1, widths=[1.3, 1] if others else [1], left=left, right=right,
        gap=0.35, height=len(tasks) * (0.17 + 0.1 * len(models)), headroom=key_height(list(looks), 7 - left),
        share="y", panel=1.5,
    )  # fmt: skip
    _score_rows(panels[0], findings, tasks, models)
    _names(panels[0], names)
    key(panels[0], looks, line=False, inches=7 - left)
    if others:
        _gap_rows(panels[1], findings, tasks, others)
        for place, words in enumerate(told):
            panels[1].annotate(
                words, (1, place), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                fontsize=7, color=MUTED, annotation_clip=False,
            )  # fmt: skip
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _lane(place: int, count: int) -> float:
    return (place - (count - 1) / 2) * 0.7 / max(1, count)


def _scale(task: Task) -> float:
    return 100.0 if task.share else 1.0


def _scaled(m: Mean, by: float) -> Mean:
    return Mean(centre=by * m.centre, low=by * m.low, high=by * m.high, n=m.n)


def _score_rows(axes: Axes, findings: Findings, tasks: Sequence[Task], models: Sequence[str]) -> None:
    for place, task in enumerate(tasks):
        by = _scale(task)
        if task.chance is not None:
            axes.plot(
                [by * task.chance] * 2, [place - 0.42, place + 0.42], color=MUTED, linewidth=1, linestyle=(0, (2, 1.5)),
                zorder=1,
            )  # fmt: skip
        for lane, model in enumerate(models):
            score = findings.tasks.scores.get((task.metric, model))
            if score is not None:
                at = place + _lane(lane, len(models))
                interval(axes, at, _scaled(score.mean, by), findings.styles[model], size=5)
    if all(task.share for task in tasks):
        axes.set_xlim(-2.5, 102.5)
        ticks(axes.xaxis, range(0, 101, 20))
        axes.axvline(100, color=GREY, linewidth=1.2, zorder=1)
        labelled(axes.xaxis, lambda x: f"{x:g}%")
        axes.set_xlabel("score (line at 100%: the ceiling)")
    else:
        better = {task.better for task in tasks}
        which = f", {better.pop()} is better" if len(better) == 1 and "neither" not in better else ""
        axes.set_xlabel(f"{tasks[0].unit}{which}")


def _gap_rows(axes: Axes, findings: Findings, tasks: Sequence[Task], others: Sequence[str]) -> None:
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    for place, task in enumerate(tasks):
        by = _scale(task)
        for lane, model in enumerate(others):
            gap = findings.tasks.gaps.get((task.metric, model))
            v = None if gap is None else gap.verdict
            if gap is None or v is None or v.estimate is None:
                continue
            low, high = (v.estimate if end is None else end for end in (v.low, v.high))
            at, style = place + _lane(lane, len(others)), findings.styles[model]
            interval(axes, at, _scaled(Mean(centre=v.estimate, low=low, high=high, n=v.n), by), style, size=5)
            if gap.side is None:  # open where nothing is decided
                axes.plot(
                    by * v.estimate,
                    at,
                    style.marker,
                    color=style.colour,
                    markerfacecolor="white",
                    markersize=5,
                    zorder=5,
                )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    labelled(axes.xaxis, lambda x: f"{x:+g}".replace("-", MINUS) if x else "0")
    unit = "points" if tasks[0].share else tasks[0].unit
    better = {task.better for task in tasks}
    words = {"higher": "worse  ←  {}  →  better", "lower": "better  ←  {}  →  worse"}
    axes.set_xlabel(words.get(better.pop() if len(better) == 1 else "", "{}").format(unit))
    axes.set_title("filled: decided, Holm over tasks", fontsize=6.5, color=MUTED, loc="right", pad=2)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for place in range(1, len(names)):
        axes.axhline(place - 0.5, color=INK, linewidth=0.3, alpha=0.25, zorder=0)


def _told(gap: Gap | None) -> str:
    """`31 : 22`, items won and lost."""
    if gap is None or gap.won is None or gap.lost is None:
        return ""
    return f"{number(gap.won, 0)} : {number(gap.lost, 0)}"


# ---------------------------------------------------------------------------------------------- many models


def _panels(findings: Findings, tasks: Sequence[Task], title: str, subtitle: str) -> Drawn:
    models = findings.tasks.models(findings.study.models)
    columns = min(4, len(tasks))
    drawn, panels = canvas(
        title, subtitle, panels=len(tasks), columns=columns, height=0.17 * len(models), left=0.3 + widest(models, 7.5),
        gap=(0.14, 0.5), headroom=0.26, share="y",
    )  # fmt: skip
    for axes, task in zip(panels, tasks, strict=True):
        name_rows(axes, findings, models)
        if task.chance is not None:
            axes.axvline(_scale(task) * task.chance, color=MUTED, linewidth=1, linestyle=(0, (2, 1.5)), zorder=1)
        for place, model in enumerate(models):
            score = findings.tasks.scores.get((task.metric, model))
            if score is not None:
                interval(axes, place, _scaled(score.mean, _scale(task)), findings.styles[model], size=4.4)
        fitted_title(axes, task.name)
        axes.tick_params(axis="x", labelsize=6.5)
        if task.share:
            labelled(axes.xaxis, lambda x: f"{x:g}%")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)
