"""The decode step by batch size, absolute and as a ratio to the baseline; of many models a panel a batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from moebench.format import seconds
from moebench.metrics.ref import MetricRef
from moebench.metrics.speed import AGAIN
from moebench.reporting.analysis import Findings, exp, mean
from moebench.reporting.canvas import Drawn, canvas, key, key_height, log_ticks, ratio_ticks, ticks
from moebench.reporting.figures.costs import last_row, ratio_panel
from moebench.reporting.figures.marks import ROW, dots, margin, row_name, style_of
from moebench.reporting.part import part
from moebench.reporting.theme import MUTED


@part("cost", order=2, asked=lambda findings: bool(findings.plan.decoders) or findings.plan.speed is not None)
def figure(findings: Findings) -> Drawn | str:
    """Left: times of every process. Right: paired ratios."""
    metrics = [m for m in findings.timed_metrics if m.startswith("speed.decode_step_s")]
    if not metrics:
        return findings.study.speed_reason or "The speed session did not time decoding."
    batches = {metric: int(MetricRef.parse(metric).get("batch") or 0) for metric in metrics}
    if findings.many:
        return _panels(findings, batches)
    baseline = findings.baseline
    title = _title(findings, batches)
    subtitle = (
        "One cached decoding step for the whole batch. Small: the median of each of "
        f"{findings.study.speed['process'].nunique()} processes; large: their geometric mean, 95% interval."
    )
    subtitle += f" Right: paired ratios to {baseline}." if baseline else ""
    again = [f"{baseline}{AGAIN}"] if baseline else []
    raced = [m for m in findings.study.models if m in set(findings.study.speed["model"])]
    looks = {row_name(m): style_of(findings, m) for m in [*raced, *again]}
    drawn, panels = canvas(
        title, subtitle, height=2.3, panels=2 if baseline else 1, gap=0.75, headroom=key_height(list(looks))
    )
    for model in findings.study.models:
        _times(panels[0], findings, model, batches)
    panels[0].set_yscale("log")
    ticks(panels[0].yaxis, log_ticks(*panels[0].get_ylim()), lambda y: f"{y * 1e3:g}")
    panels[0].set_ylabel("decode step, ms")
    if baseline:
        _ratios(panels[1], findings, batches)
    for axes in panels:
        axes.set_xscale("log", base=2)
        ticks(axes.xaxis, batches.values(), lambda x: f"{x:g}")
        axes.set_xlim(min(batches.values()) / 1.35, max(batches.values()) * 1.35)
        axes.set_xlabel("batch, sequences")
    key(panels[0], looks)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _title(findings: Findings, batches: Mapping[str, int]) -> str:
    last, batch = list(batches.items())[-1]
    ratios = {r.metric: r.ratio for r in findings.ratios if r.model == findings.treatment}
    if not findings.baseline or last not in ratios:
        return "Decode step time by batch"
    size = f"takes {ratios[last].text('ratio')} as long as with {findings.baseline}"
    return f"At batch {batch} a decode step of {findings.treatment} {size}{findings.quiet(last)}"


def _times(axes: Axes, findings: Findings, model: str, batches: Mapping[str, int]) -> None:
    style = findings.styles[model]
    points = []
    for metric, batch in batches.items():
        medians = findings.timed(model, metric)
        if len(medians):
            dots(axes, [batch] * len(medians), medians, style, size=2.4, alpha=0.4)
            middle = exp(mean(np.log(medians)))
            axes.plot([batch, batch], [middle.low, middle.high], color=style.colour, linewidth=1.6)
            points.append((batch, middle.centre))
    if points:
        axes.plot(*zip(*points, strict=True), color=style.colour, marker=style.marker, markersize=5, linewidth=1.4)


def _ratios(axes: Axes, findings: Findings, batches: Mapping[str, int]) -> None:
    axes.axhline(1, color=MUTED, linewidth=1)
    lanes = [*(m for m in findings.study.models if m != findings.baseline), f"{findings.baseline}{AGAIN}"]
    for lane, model in enumerate(lanes):
        style = style_of(findings, model)
        shift = 2 ** (0.1 * (lane - (len(lanes) - 1) / 2))
        points = [
            (batches[r.metric] * shift, r.ratio) for r in findings.ratios if r.model == model and r.metric in batches
        ]
        for x, ratio in points:
            axes.plot([x] * 2, [ratio.low, ratio.high], color=style.colour, linewidth=1.8)
        marker = "_" if model.endswith(AGAIN) else style.marker
        centres = [ratio.centre for _, ratio in points]
        axes.plot([x for x, _ in points], centres, marker, color=style.colour, markersize=5.5)
    axes.set_yscale("log")
    ratio_ticks(axes.yaxis, least=0.1, apart=0.1)
    axes.set_ylabel("ratio to the baseline")


def _panels(findings: Findings, batches: Mapping[str, int]) -> Drawn | str:
    """Decode step of each of many models over the baseline's, the fastest at the largest batch first."""
    baseline, last = findings.baseline, list(batches)[-1]
    shown = [r for r in findings.ratios if r.metric in batches and r.model != baseline]
    if baseline is None or not shown:
        return "There is no second model to compare decoding with."
    ratios = {r.model: r.ratio for r in shown if r.metric == last}
    lanes = sorted(ratios, key=lambda m: (m.endswith(AGAIN), ratios[m].centre))
    models = [m for m in lanes if not m.endswith(AGAIN)]
    title = f"Decode step time against {baseline}"
    if models:
        fast, slow = models[0], models[-1]
        title = f"At batch {batches[last]} a decode step takes from {ratios[fast].text('ratio')} ({fast}) to "
        title += f"{ratios[slow].text('ratio')} ({slow}) as long as with {baseline}{findings.quiet(last)}"
    subtitle = f"One cached decoding step for the whole batch, ratio to {baseline} on a log axis: paired over "
    subtitle += f"processes, 95% interval. {last_row(findings)}"
    drawn, panels = canvas(
        title, subtitle, height=0.85 * ROW * len(lanes), panels=len(batches), left=margin(lanes), gap=0.16, share="y",
        headroom=0.42,
    )  # fmt: skip
    for axes, (metric, batch) in zip(panels, batches.items(), strict=True):
        usual = seconds(findings.usual_time(baseline, metric) or 0.0)
        rows = [r for r in shown if r.metric == metric]
        ratio_panel(axes, findings, lanes, rows, heading=f"batch {batch}\n{baseline}: {usual}")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)
