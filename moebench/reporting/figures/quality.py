"""Figures of quality: the one that answers the question, loss against every currency, final loss by domain."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from moebench import stats
from moebench.format import NBSP, TIMES, count, interval, listed, plural, seconds, short, significant, span
from moebench.metrics.declared import labelled
from moebench.reporting.analysis import QUALITY, Findings, difference, mean
from moebench.reporting.figures import panels as small
from moebench.reporting.figures import rows as ranked
from moebench.reporting.figures.ends import end_labels
from moebench.reporting.states import STATES, effect
from moebench.reporting.theme import (
    GREY,
    INK,
    Drawn,
    canvas,
    fitted_title,
    key,
    key_height,
    log_ticks,
    plainly,
    widest,
)

_NO_CURVES = "No run has reached an evaluation point yet."
_CURRENCIES = {"tokens": "training tokens", "flops": "training FLOPs (model)", "seconds": "training seconds"}


def answer(found: Findings) -> Drawn | str:
    """Loss against training FLOPs, and beside it the paired difference to the baseline at equal tokens.

    Of many models, the final difference of each.
    """
    if found.many:
        return ranked.differences(found)
    curves = found.curves
    if curves.empty:
        return _NO_CURVES
    title = _answer_title(found)
    seeds = curves.groupby("model")["seed"].nunique()
    subtitle = (
        "Left: bits per byte at the evaluation points against training model FLOPs; thin lines are seeds "
        f"(n = {span(seeds)}), thick lines their mean with its 95% interval. A bracket compares FLOPs at equal "
        "loss, where a curve is not yet decayed."
    )
    others = [m for m in found.held.models if m != found.baseline and m in set(curves["model"])]
    paired = found.baseline in set(curves["model"]) and bool(others)
    if paired:
        subtitle += f" Right: each seed's difference to {found.baseline} at equal tokens, in percent."
    names = 0.2 + widest((m for m in found.held.models if m in set(curves["model"])), 7.5, bold=True)
    figure, panels = canvas(
        title, subtitle, height=3.0, columns=2 if paired else 1, widths=[1.35, 1] if paired else [1], gap=0.7 + names,
        right=0.1 + names, panel=1.7,
    )  # fmt: skip
    left = panels[0]
    _curves(left, found, "flops", labels=True)
    left.set_ylabel("bits per byte (lower is better)")
    _bracket(left, found)
    if paired:
        _differences(panels[1], found, others)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _answer_title(found: Findings) -> str:
    """What the verdicts decide about the pair that the suite compares, with the estimate."""
    treatment, baseline = found.pair
    gap = difference(found.final(treatment), found.final(baseline)) if baseline else None
    if gap is None or baseline is None:
        return f"Loss of {listed(found.held.models)} against training compute"
    order = found.order(treatment, baseline)
    low, high = (gap.low, gap.high) if gap.bounded else (None, None)
    size = interval(gap.centre, low, high, "%")
    if order.claimed and order.verdict is not None and order.verdict.estimate is not None:
        size = effect(order.verdict)
    after = f"bits per byte {size}, {plural(gap.n, 'seed')}"
    if order.side is not None:
        return f"{treatment} ends {order.side} than {baseline}: {after}"
    if order.verdict is not None and order.verdict.state in ("supported", "refuted"):
        state = STATES[order.verdict.state].lower()
        return f"{treatment} against {baseline}, {order.verdict.asked} {state}: {after}"
    return f"{treatment} against {baseline}, undecided: {after}"


def _curves(axes: Axes, found: Findings, currency: str, *, labels: bool) -> None:
    """Every seed thin, mean and band thick, against a currency on a log axis."""
    ends: list[tuple[float, float, str]] = []
    for model in found.held.models:
        rows = found.curves[(found.curves["model"] == model) & found.curves[currency].notna()]
        if rows.empty:
            continue
        colour = found.styles[model].colour
        _seeds(axes, rows, currency, "loss", colour)
        x, centre, low, high = _band(rows, currency)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        axes.plot(x, centre, color=colour, linewidth=1.8, marker=found.styles[model].marker, markersize=3.6, zorder=3)
        ends.append((float(x[-1]), float(centre[-1]), model))
    if not ends:
        return
    axes.set_xscale("log")
    _tidy_log(axes, currency)
    axes.set_xlabel(_CURRENCIES[currency])
    tail = found.curves[found.curves["step"] >= found.curves["step"].max() / 4]["loss"]
    low, high = tail.min(), tail.max()
    below = 0.34 if labels else 0.12  # room for the words of a bracket
    axes.set_ylim(low - below * (high - low), high + 0.04 * (high - low))
    if labels:
        end_labels(axes, found, ends)


def _seeds(axes: Axes, rows: pd.DataFrame, x: str, y: str, colour: str) -> None:
    """A thin line a seed, all in one collection: a thousand of them must not take a thousand artists."""
    lines = [seed[[x, y]].to_numpy(dtype=np.float64) for _, seed in rows.groupby("seed")]
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.6, alpha=0.35, zorder=2))


def _band(
    rows: pd.DataFrame, currency: str, value: str = "loss"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and 95% interval over seeds at each step: x, centre, low, high."""
    groups = [group for _, group in rows.groupby("step")]
    means = [mean(group[value]) for group in groups]
    x = np.array([float(group[currency].mean()) for group in groups])
    return x, np.array([m.centre for m in means]), np.array([m.low for m in means]), np.array([m.high for m in means])


def _tidy_log(axes: Axes, currency: str) -> None:
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim(), most=4)))
    axes.xaxis.set_minor_locator(NullLocator())
    form = seconds if currency == "seconds" else count
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(form(x))))
    axes.tick_params(axis="x", labelsize=7)


def _bracket(axes: Axes, found: Findings) -> None:
    """How many times fewer FLOPs the treatment needs for the baseline's final loss, where its curve gets there."""
    treatment, baseline = found.pair
    rows = {m: found.curves[found.curves["model"] == m] for m in (treatment, baseline)}
    if baseline is None or any(part.empty for part in rows.values()):
        return
    x, centre, _, _ = _band(rows[treatment], "flops")
    x_base, centre_base, _, _ = _band(rows[baseline], "flops")
    target, spent = float(centre_base[-1]), float(x_base[-1])
    reached = stats.crossing(x, centre, target)
    if not math.isfinite(reached) or reached >= spent:
        return
    verdict = next(
        (
            v
            for v in found.verdicts
            if v.metric == "flops_to_quality" and (v.treatment, v.baseline) == found.pair and v.estimate
        ),
        None,
    )
    if verdict is None and found.order(treatment, baseline).side != "lower":
        return
    text = effect(verdict) if verdict else f"{significant(spent / reached)}{TIMES}"
    said = text.replace(f"{NBSP}[", "\n[")
    axes.annotate(
        "", (reached, target), (spent, target), zorder=5,
        arrowprops={"arrowstyle": "|-|,widthA=.25,widthB=.25", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0},  # noqa: E501
    )  # fmt: skip
    # Below and left of a falling curve there is always room.
    axes.annotate(
        f"{said}\nfewer FLOPs to the\nbaseline's final loss\n(undecayed curve)", (reached, target), (-12, -6),
        textcoords="offset points", ha="right", va="top", fontsize=7, color=INK, linespacing=1.3, zorder=5,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 2, "relpos": (1, 1)},
    )  # fmt: skip


def _differences(axes: Axes, found: Findings, others: Sequence[str]) -> None:
    wide = found.curves.pivot_table(index=["seed", "step"], columns="model", values="loss")
    axes.axhline(0, color=GREY, linewidth=1)
    ends = []
    for model in others:
        both = wide[[model, found.baseline]].dropna().reset_index()
        if both.empty:
            continue
        both["change"] = 100 * (both[model] / both[found.baseline] - 1)
        both["tokens"] = both["step"].astype("float64") * found.plan.models[model].recipe.batch_tokens
        colour = found.styles[model].colour
        _seeds(axes, both, "tokens", "change", colour)
        x, centre, low, high = _band(both, "tokens", "change")
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(x, centre, color=colour, linewidth=1.8, marker=found.styles[model].marker, markersize=3.6)
        ends.append((float(x[-1]), float(centre[-1]), model))
    axes.set_xscale("log")
    _tidy_log(axes, "tokens")
    axes.set_xlabel("training tokens")
    axes.set_ylabel("difference to the baseline, %")
    plainly(axes.yaxis)
    if ends:
        end_labels(axes, found, ends)


def currencies(found: Findings) -> Drawn | str:
    """Loss against tokens, FLOPs and seconds: three panels that share the axis of loss."""
    curves = found.curves
    if curves.empty:
        return _NO_CURVES
    shown = [currency for currency in _CURRENCIES if curves[currency].notna().any()]
    ends = {m: float(found.final(m).mean()) for m in found.held.models if len(found.final(m))}
    ends = ends or curves[curves["step"] == curves["step"].max()].groupby("model")["loss"].mean().to_dict()
    title = _ending(found, ends)
    spent = {m: found.plan.models[m].expected_train_flops for m in found.held.models}
    most, least = max(spent, key=lambda m: spent[m]), min(spent, key=lambda m: spent[m])
    if spent[most] > 1.1 * spent[least]:
        title += f"; {most} spends {spent[most] / spent[least]:.1f}{TIMES} the FLOPs of {least}"
    if found.many:
        return small.loss(found, title)
    how = f"Seconds: {found.step_seconds[1]}." if "seconds" in shown else "No times were recorded."
    subtitle = f"Bits per byte at the evaluation points; thin lines are seeds, band: 95% interval. {how}"
    looks = {m: found.styles[m] for m in found.held.models if m in set(curves["model"])}
    figure, panels = canvas(
        title, subtitle, height=2.5, columns=len(shown), gap=0.18, share_y=True, headroom=key_height(list(looks))
    )
    for axes, currency in zip(panels, shown, strict=True):
        _curves(axes, found, currency, labels=False)
        if axes is not panels[0]:
            axes.tick_params(axis="y", labelleft=False)
    panels[0].set_ylabel("bits per byte")
    key(panels[0], looks)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _ending(found: Findings, ends: Mapping[str, float]) -> str:
    """Which model ends lowest, where that is decided."""
    lowest = found.lowest(ends)
    if len(ends) == 1:
        return f"{lowest[0]} ends at {significant(ends[lowest[0]], figures=4)} bits per byte"
    if len(lowest) == 1:
        return f"{lowest[0]} ends lowest at equal tokens ({significant(ends[lowest[0]], figures=4)} bits per byte)"
    return f"Final loss at equal tokens: undecided between {_several(lowest, ends)}"


def _several(models: Sequence[str], of: Collection[str]) -> str:
    return listed(models) if len(models) <= 3 else f"{len(models)} of {len(of)} models"


def finals(found: Findings) -> Drawn | str:
    """Final loss over all text and by domain, every seed a point."""
    models = [m for m in found.held.models if len(found.final(m))]
    if not models:
        return "No run is complete yet."
    if found.many:
        models.sort(key=lambda m: found.final(m).mean())
    domains = [None, *sorted(found.quality["domain"].dropna().unique())][:6]
    title = _finals_title(found, models, [str(domain) for domain in domains[1:]])
    counts = [len(found.final(m)) for m in models]
    subtitle = f"{QUALITY} after the last step, lower is better. Small: seeds (n = {span(counts)}); "
    subtitle += "large: mean with its 95% interval."
    margin = 0.25 + widest(models, 7.5)
    height = 0.28 * len(models) + 0.3
    figure, panels = canvas(
        title,
        subtitle,
        height=height,
        columns=len(domains),
        gap=0.2,
        left=margin,
        share_y=True,
        headroom=0.25,
        panel=0.9,
    )
    for axes, domain in zip(panels, domains, strict=True):
        _strip(axes, found, models, domain)
        fitted_title(axes, "all domains" if domain is None else str(domain))
        if axes is not panels[0]:
            axes.tick_params(axis="y", labelleft=False)
    panels[len(panels) // 2].set_xlabel("bits per byte")
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _finals_title(found: Findings, models: Sequence[str], domains: Sequence[str]) -> str:
    """Which model has the lowest final loss, over all text and by domain, where that is decided."""
    means = {m: float(found.final(m).mean()) for m in models}
    lowest = found.lowest(means)
    ends = mean(found.final(lowest[0]))
    size = f"{interval(ends.centre, ends.low, ends.high)} bits per byte"
    if len(models) == 1:
        return f"{models[0]} ends at {size}"
    if len(lowest) > 1:
        return f"Final loss: undecided between {_several(lowest, means)}"
    title = f"{lowest[0]} has the lowest final loss, {size}"
    if not domains:
        return title
    by = {d: {m: float(found.final(m, d).mean()) for m in models if len(found.final(m, d))} for d in domains}
    wins = [d for d in domains if found.lowest(by[d], labelled(QUALITY, domain=d)) == lowest]
    return f"{title}; lowest in {len(wins)} of {plural(len(domains), 'domain')}"


def _strip(axes: Axes, found: Findings, models: Sequence[str], domain: str | None) -> None:
    for place, model in enumerate(models):
        values = found.final(model, domain)
        if values.empty:
            continue
        style = found.styles[model]
        offsets = 0.22 * (np.arange(len(values)) / max(1, len(values) - 1) - 0.5)
        axes.plot(values, place + 0.16 + offsets, "o", color=style.colour, alpha=0.5, markersize=2.6, markeredgewidth=0)
        middle = mean(values)
        axes.plot([middle.low, middle.high], [place - 0.16] * 2, color=style.colour, linewidth=2)
        axes.plot(
            middle.centre,
            place - 0.16,
            style.marker,
            color=style.colour,
            markersize=4.4 if found.many else 6,
            markeredgecolor="white",
            markeredgewidth=0 if found.many else 0.7,
        )
    axes.set(yticks=range(len(models)), yticklabels=models, ylim=(len(models) - 0.45, -0.55))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(2 if len(found.quality["domain"].unique()) > 4 else 3, prune="both"))
    axes.margins(x=0.12)
