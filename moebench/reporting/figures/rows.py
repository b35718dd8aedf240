"""Figures of many models: a row for each, a panel for each metric, so that eighteen read as easily as three."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from moebench.format import MINUS, TIMES, interval, listed, plural, seconds, span
from moebench.reader.runs import AGAIN
from moebench.reporting.analysis import Findings, Mean, Ratio, difference, mean
from moebench.reporting.theme import GREY, INK, MUTED, Drawn, Style, canvas, grid, lines_of, widest

_ROW = 0.2
"""Inches of height for each model."""
_TICKS = (0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.96, 1.0, 1.04, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0)
NOTE = "Grey: routers that are not learned."


def differences(found: Findings) -> Drawn | str:
    """Final loss of every model against the baseline's, best first: the paired difference with every seed."""
    baseline = found.baseline
    below = found.final(baseline) if baseline else pd.Series(dtype=float)
    gaps = {m: difference(found.final(m), below) for m in found.held.models if m != baseline and len(found.final(m))}
    shown = sorted(((m, gap) for m, gap in gaps.items() if gap is not None), key=lambda one: one[1].centre)
    if not shown:
        return "No model has a run that can be paired with the baseline's yet."
    title = _differences_title(found, [m for m, _ in shown], str(baseline))
    pairs = sorted({gap.n for _, gap in shown})
    subtitle = (
        f"Final bits per byte against {baseline}, in percent, paired by seed (n = {span(pairs)}). Small: seeds; "
        f"large: mean with its 95% interval, unadjusted for the other models. {NOTE}"
    )
    models = [m for m, _ in shown]
    figure, (axes,) = canvas(
        title, subtitle, height=1.2 * _ROW * len(models), left=margin(models), right=1.7, headroom=0.1, panel=2.2
    )
    _name_rows(axes, found, models)
    for place, (model, gap) in enumerate(shown):
        both = pd.concat([found.final(model), below], axis=1, join="inner").to_numpy(dtype=np.float64)
        _interval(axes, place, gap, found.styles[model], 100 * (both[:, 0] / both[:, 1] - 1))
        low, high = (gap.low, gap.high) if gap.bounded else (None, None)
        said = interval(gap.centre, low, high, "%")
        axes.annotate(
            said, (1, place), (8, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
            fontsize=7.5, color=INK,
        )  # fmt: skip
    axes.axvline(0, color=MUTED, linewidth=1, zorder=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:+g}%".replace("-", MINUS) if x else "0"))
    axes.set_xlabel(f"lower than {baseline}  ←   difference in bits per byte   →  higher")
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _differences_title(found: Findings, models: Sequence[str], baseline: str) -> str:
    sides: list[str | None] = [found.order(model, baseline).side for model in models]
    said = [f"{sides.count(side)} {word}" for side, word in _SIDES.items() if sides.count(side)]
    return f"Against {baseline}, of {plural(len(models), 'model')}: {listed(said)} in final loss"


_SIDES: dict[str | None, str] = {"lower": "lower", "higher": "higher", None: "undecided"}


def ratios(found: Findings) -> Drawn | str:
    """Each cost of each model over the baseline's: a panel a cost; decoding by batch has a figure of its own."""
    baseline = found.baseline
    batches = [m for m in found.timed_metrics if m.startswith("speed.decode_step_s")]
    shown = [r for r in found.ratios if r.model != baseline and r.metric not in batches[1:]]
    if baseline is None or not shown:
        return "There is no second model to compare costs with."
    labels = list(dict.fromkeys(r.label for r in shown))
    title = costs_title(found, shown)
    subtitle = (
        f"Ratio to {baseline} on a log axis, 1 marked. Counted costs are exact; peaks: over seeds{timed(found)}. "
        f"{_again(found)}"
    )
    models = [m for m in found.held.models if m != baseline]
    lanes = [*models, *([f"{baseline}{AGAIN}"] if any(r.model.endswith(AGAIN) for r in shown) else [])]
    columns = len(labels) if len(labels) <= 5 else -(-len(labels) // 2)
    figure, panels = grid(
        title, subtitle, panels=len(labels), columns=columns, height=0.85 * _ROW * len(lanes), left=margin(lanes),
        headroom=0.42, gap=(0.26, 0.75), share="y",
    )  # fmt: skip
    for axes, label in zip(panels, labels, strict=True):
        _ratio_panel(axes, found, lanes, [r for r in shown if r.label == label], heading=label)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def costs_title(found: Findings, shown: Sequence[Ratio]) -> str:
    """How the models' costs spread, least to most."""
    phrases = {"cost.train_flops_per_token": "training FLOPs", "cost.weight_bytes": "weight bytes",
               "speed.train_step_s": "step time"}  # fmt: skip
    parts = []
    for metric, phrase in phrases.items():
        mine = [r.ratio.centre for r in shown if r.metric == metric and not r.model.endswith(AGAIN)]
        if mine:
            parts.append(f"{min(mine):.2f} to {max(mine):.2f}{TIMES} the {phrase}")
    if not parts:
        return f"Costs against {found.baseline}"
    return f"The models have {listed(parts)} of {found.baseline}{found.quiet('speed.train_step_s')}"


def latency(found: Findings, metrics: Sequence[str], batches: Sequence[int]) -> Drawn | str:
    """Decode step of each model over the baseline's: a panel a batch, the fastest at the largest batch first."""
    baseline = found.baseline
    shown = [r for r in found.ratios if r.metric in metrics and r.model != baseline]
    if baseline is None or not shown:
        return "There is no second model to compare decoding with."
    last = {r.model: r.ratio for r in shown if r.metric == metrics[-1]}
    lanes = sorted(last, key=lambda m: (m.endswith(AGAIN), last[m].centre))
    models = [m for m in lanes if not m.endswith(AGAIN)]
    fast, slow = (last[models[0]], last[models[-1]]) if models else (None, None)
    title = f"Decode step time against {baseline}"
    if fast is not None and slow is not None:
        first, end = (interval(r.centre, r.low, r.high, "ratio") for r in (fast, slow))
        title = f"At batch {batches[-1]} a decode step takes from {first} ({models[0]}) to {end} ({models[-1]}) "
        title += f"as long as with {baseline}{found.quiet(metrics[-1])}"
    subtitle = (
        f"One cached decoding step for the whole batch, ratio to {baseline} on a log axis: paired over processes, "
    )
    subtitle += f"95% interval. {_again(found)}"
    figure, panels = canvas(
        title, subtitle, height=0.85 * _ROW * len(lanes), columns=len(metrics), left=margin(lanes), gap=0.16,
        share_y=True, headroom=0.42,
    )  # fmt: skip
    for place, (axes, metric, batch) in enumerate(zip(panels, metrics, batches, strict=True)):
        usual = seconds(found.usual_time(baseline, metric) or 0.0)
        heading = f"batch {batch}\n{baseline}: {usual}"
        _ratio_panel(axes, found, lanes, [r for r in shown if r.metric == metric], heading=heading)
        axes.tick_params(axis="y", labelleft=not place)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def timed(found: Findings) -> str:
    """How ratios of times were made, where there are any."""
    return "; times: paired log ratios over processes, 95% interval" if found.timed_metrics else ""


def _again(found: Findings) -> str:
    raced = any(r.model.endswith(AGAIN) for r in found.ratios)
    return f"Last row: {found.baseline} vs itself (A/A)." if raced else NOTE


def _ratio_panel(axes: Axes, found: Findings, lanes: Sequence[str], rows: Sequence[Ratio], *, heading: str) -> None:
    again = Style(colour=GREY, marker="|", kind="control")
    _name_rows(axes, found, lanes)
    axes.set_xscale("log")
    for ratio in rows:
        style = again if ratio.model.endswith(AGAIN) else found.styles[ratio.model]
        _interval(axes, lanes.index(ratio.model), ratio.ratio, style)
    axes.axvline(1, color=MUTED, linewidth=1, zorder=1)
    low, high = axes.get_xlim()
    low, high = min(low, 0.95), max(high, 1.05)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(few_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}{TIMES}"))
    wide = axes.get_position().width * axes.figure.get_figwidth() + 0.1  # type: ignore[union-attr]
    lines = [line for part in heading.split("\n") for line in lines_of(part, wide, 7, bold=True)]
    axes.set_title("\n".join(lines), fontsize=7, weight="bold", loc="left", pad=3, color=INK)


def few_ticks(low: float, high: float, *, apart: float = 0.27) -> list[float]:
    """1 and other round ratios, `apart` of a log axis from each other at least, so that their labels do not touch."""
    span = math.log(high / low)
    least, edge = span * apart, span * 0.35 * apart  # a label at an edge would touch that of the next panel
    chosen = [1.0] if low <= 1 <= high else []
    for tick in sorted(_TICKS, key=lambda t: -abs(math.log(t))):
        inside = edge <= math.log(tick / low) <= span - edge
        if inside and all(abs(math.log(tick / other)) >= least for other in chosen):
            chosen.append(tick)
    return sorted(chosen)


def domains(found: Findings, measured: pd.DataFrame, means: Mapping[str, Mean]) -> Drawn:
    """How differently each domain uses the experts: a panel a domain, a row a model, mean over its layers."""
    names = sorted(measured["domain"].unique())[:6]
    models = list(means)
    least, most = (pick(means, key=lambda m: means[m].centre) for pick in (min, max))
    title = f"Domains differ in {100 * means[least].centre:.0f}% ({least}) to {100 * means[most].centre:.0f}% ({most}) "
    title += "of their routing"
    seeds = sorted({int(n) for n in measured.groupby("model")["seed"].nunique()})
    subtitle = (
        "Share of a domain's routed tokens that would have to move to match all domains together (total variation), "
        f"mean over layers; small: seeds (n = {span(seeds)}), large: mean, 95% interval. "
        "Grey tick: tokens permuted over domains."
    )
    figure, panels = canvas(
        title, subtitle, height=_ROW * len(models), columns=len(names), left=margin(models), gap=0.24, share_y=True,
        headroom=0.28,
    )  # fmt: skip
    for axes, name in zip(panels, names, strict=True):
        _name_rows(axes, found, models)
        for place, model in enumerate(models):
            part = measured[(measured["domain"] == name) & (measured["model"] == model)]
            by_seed = part.groupby("seed")[["distance", "chance"]].mean()
            if len(by_seed):
                axes.plot(by_seed["chance"].mean(), place, "|", color=GREY, markersize=6, markeredgewidth=1.4)
                _interval(axes, place, mean(by_seed["distance"]), found.styles[model], by_seed["distance"])
        axes.set_title(str(name), fontsize=7.5, weight="bold", loc="left", pad=3, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}%"))
        axes.set_xlim(0, None)
        axes.tick_params(axis="y", labelleft=axes is panels[0])
    panels[len(panels) // 2].set_xlabel("routing that differs")
    return Drawn(title=title, subtitle=subtitle, figure=figure)


# ---------------------------------------------------------------------------------------------- rows


def margin(names: Sequence[str]) -> float:
    """Inches that the longest name needs at the left."""
    return 0.3 + widest((_row_name(name) for name in names), 7.5)


def _row_name(model: str) -> str:
    return model.replace(AGAIN, " vs itself (A/A)")


def _name_rows(axes: Axes, found: Findings, models: Sequence[str]) -> None:
    """Names in the models' colours at the left, a thin line to follow each row by."""
    labels = [_row_name(m) for m in models]
    axes.set(yticks=range(len(models)), yticklabels=labels, ylim=(len(models) - 0.4, -0.6))
    for label, model in zip(axes.get_yticklabels(), models, strict=False):  # none where they are not shown
        label.set_color(found.styles[model].colour if model in found.styles else GREY)
    axes.grid(visible=True, axis="y", linewidth=0.4)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _interval(
    axes: Axes, place: float, middle: Mean, style: Style, values: Sequence[float] | pd.Series[float] | np.ndarray = ()
) -> None:
    if len(values):
        offsets = 0.26 + 0.2 * (np.arange(len(values)) / max(1, len(values) - 1) - 0.5)
        axes.plot(values, place + offsets, "o", color=style.colour, alpha=0.5, markersize=2, markeredgewidth=0)
    lift = place - 0.12 if len(values) else place
    axes.plot([middle.low, middle.high], [lift, lift], color=style.colour, linewidth=1.8, zorder=3)
    axes.plot(middle.centre, lift, style.marker, color=style.colour, markersize=4.6, zorder=4)
