"""Figures of cost: each cost as a ratio to the baseline, and the decode step by batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moebench.format import TIMES, interval, listed
from moebench.metrics.declared import parse_metric
from moebench.reader.runs import AGAIN
from moebench.reporting.analysis import Findings, Ratio, exp, mean
from moebench.reporting.figures import rows
from moebench.reporting.figures.rows import few_ticks
from moebench.reporting.theme import GREY, MUTED, Drawn, Style, canvas, key, key_height, log_ticks, widest


def ratios(found: Findings) -> Drawn | str:
    """Every cost of every model over the baseline's, on a log axis with 1 marked."""
    if found.many:
        return rows.ratios(found)
    baseline = found.baseline
    shown = [r for r in found.ratios if r.model != baseline]
    if baseline is None or not shown:
        return "There is no second model to compare costs with."
    labels = list(dict.fromkeys(r.label for r in shown))
    title = _title(found, shown)
    subtitle = f"Ratio to {baseline}, log axis. Counted costs are exact; peaks: over seeds{rows.timed(found)}." + (
        f" Grey: {baseline} vs itself (A/A)." if found.timed_metrics else ""
    )
    models = [m for m in found.held.models if m != baseline]
    height = len(labels) * (0.16 + 0.13 * len(models))
    lanes = [*models, f"{baseline}{AGAIN}"]
    looks = _looks(found, [m for m in lanes if any(r.model == m for r in shown)])
    left = 0.25 + widest(labels, 7.5)
    figure, (axes,) = canvas(
        title, subtitle, height=height, left=left, right=0.3, bottom=0.45, headroom=key_height(list(looks), 7 - left)
    )
    for ratio in shown:
        place = labels.index(ratio.label) + _lane(lanes.index(ratio.model), len(lanes))
        _interval(axes, place, ratio, _style(found, ratio.model))
    axes.axvline(1, color=MUTED, linewidth=1, zorder=1)
    axes.set_xscale("log")
    axes.set(
        yticks=range(len(labels)),
        yticklabels=labels,
        ylim=(len(labels) - 0.5, -0.5),
        xlabel="ratio to the baseline (1 = equal)",
    )
    axes.set_yticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.grid(visible=False, axis="y", which="major")
    axes.grid(visible=True, axis="y", which="minor")
    axes.tick_params(axis="y", which="both", length=0)
    axes.spines["left"].set_visible(False)
    _ratio_ticks(axes)
    key(axes, looks, line=False, inches=7 - left)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _title(found: Findings, shown: Sequence[Ratio]) -> str:
    mine = {r.metric: r for r in shown if r.model == found.treatment}
    parts = []
    for metric, phrase in (
        ("cost.train_flops_per_token", "training FLOPs"),
        ("cost.weight_bytes", "weight bytes"),
        ("speed.train_step_s", "step time"),
    ):
        if metric in mine:
            ratio = mine[metric].ratio
            low, high = (ratio.low, ratio.high) if ratio.bounded else (None, None)
            parts.append(f"{interval(ratio.centre, low, high, 'ratio')} the {phrase}")
    quiet = found.quiet("speed.train_step_s")
    return (
        f"{found.treatment} has {listed(parts)} of {found.baseline}{quiet}"
        if parts
        else f"Costs against {found.baseline}"
    )


def _lane(place: int, lanes: int) -> float:
    return (place - (lanes - 1) / 2) * 0.74 / max(1, lanes)


def _style(found: Findings, model: str) -> Style:
    return Style(colour=GREY, marker="|", kind="control") if model.endswith(AGAIN) else found.styles[model]


def _interval(axes: Axes, place: float, ratio: Ratio, style: Style) -> None:
    low, high = ratio.ratio.low, ratio.ratio.high
    axes.plot([low, high], [place, place], color=style.colour, linewidth=1.8, zorder=2)
    axes.plot(ratio.ratio.centre, place, style.marker, color=style.colour, markersize=5.5, zorder=3)


def _ratio_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    low, high = min(low, 0.9), max(high, 1.1)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(few_ticks(low, high, apart=0.09)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}{TIMES}"))


def _looks(found: Findings, models: Sequence[str]) -> dict[str, Style]:
    """Names as a key has them, with their looks."""
    return {m.replace(AGAIN, " vs itself (A/A)"): _style(found, m) for m in models}


def latency(found: Findings) -> Drawn | str:
    """The decode step by batch size, absolute and as a ratio to the baseline."""
    metrics = [m for m in found.timed_metrics if m.startswith("speed.decode_step_s")]
    if not metrics:
        return found.held.speed_reason or "The speed session did not time decoding."
    batches = [int(parse_metric(m)[1]["batch"]) for m in metrics]
    if found.many:
        return rows.latency(found, metrics, batches)
    processes = found.held.speed["process"].nunique()
    title = _latency_title(found, metrics, batches)
    subtitle = f"One cached decoding step for the whole batch. Small: the median of each of {processes} processes; "
    subtitle += "large: their geometric mean"
    subtitle += f", 95% interval. Right: paired ratios to {found.baseline}." if found.baseline else ", 95% interval."
    again = [f"{found.baseline}{AGAIN}"] if found.baseline else []
    looks = _looks(found, [*found.held.models, *again])
    figure, panels = canvas(
        title, subtitle, height=2.3, columns=2 if found.baseline else 1, gap=0.75, headroom=key_height(list(looks))
    )
    for model in found.held.models:
        _decode_line(panels[0], found, model, metrics, batches)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].yaxis.set_major_locator(FixedLocator(log_ticks(*panels[0].get_ylim())))
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y * 1e3:g}"))
    panels[0].set_ylabel("decode step, ms")
    if found.baseline:
        _ratio_panel(panels[1], found, metrics, batches)
    for axes in panels:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(batches))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.set_xlim(min(batches) / 1.35, max(batches) * 1.35)
        axes.set_xlabel("batch, sequences")
    key(panels[0], looks)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _latency_title(found: Findings, metrics: Sequence[str], batches: Sequence[int]) -> str:
    held = {r.metric: r.ratio for r in found.ratios if r.model == found.treatment}
    if not found.baseline or metrics[-1] not in held:
        return "Decode step time by batch"
    r = held[metrics[-1]]
    text = interval(r.centre, r.low, r.high, "ratio") if r.bounded else interval(r.centre, None, None, "ratio")
    said = f"At batch {batches[-1]} a decode step of {found.treatment} takes {text} as long as with {found.baseline}"
    return said + found.quiet(metrics[-1])


def _decode_line(axes: Axes, found: Findings, model: str, metrics: Sequence[str], batches: Sequence[int]) -> None:
    style = found.styles[model]
    points = []
    for metric, batch in zip(metrics, batches, strict=True):
        medians = found.timed(model, metric)
        if len(medians):
            axes.plot(
                [batch] * len(medians), medians, "o", color=style.colour, markersize=2.4, alpha=0.4, markeredgewidth=0
            )
            middle = exp(mean(np.log(medians)))
            axes.plot([batch, batch], [middle.low, middle.high], color=style.colour, linewidth=1.6)
            points.append((batch, middle.centre))
    if points:
        axes.plot(*zip(*points, strict=True), color=style.colour, marker=style.marker, markersize=5, linewidth=1.4)


def _ratio_panel(axes: Axes, found: Findings, metrics: Sequence[str], batches: Sequence[int]) -> None:
    axes.axhline(1, color=MUTED, linewidth=1)
    lanes = [*(m for m in found.held.models if m != found.baseline), f"{found.baseline}{AGAIN}"]
    for model in lanes:
        style = _style(found, model)
        shift = 2 ** (0.1 * (lanes.index(model) - (len(lanes) - 1) / 2))
        points = [
            (b, r.ratio)
            for m, b in zip(metrics, batches, strict=True)
            for r in found.ratios
            if (r.model, r.metric) == (model, m)
        ]
        for batch, ratio in points:
            axes.plot([batch * shift] * 2, [ratio.low, ratio.high], color=style.colour, linewidth=1.8)
        marker = "_" if model.endswith(AGAIN) else style.marker
        axes.plot(
            [b * shift for b, _ in points], [r.centre for _, r in points], marker, color=style.colour, markersize=5.5
        )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = min(low, 0.9), max(high, 1.1)
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(few_ticks(low, high, apart=0.1)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}{TIMES}"))
    axes.set_ylabel("ratio to the baseline")
