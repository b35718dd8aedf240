"""How much dense a mixture is worth: its loss looked up on a ladder of dense models, at equal FLOPs and equal time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moebench.format import MINUS, NBSP, TIMES, count, interval, plural, quantity, short
from moebench.leverage.bootstrap import band
from moebench.leverage.place import Array, curve
from moebench.reporting.analysis import Findings, Mean, mean
from moebench.reporting.canvas import (
    Drawn,
    canvas,
    key,
    key_height,
    labelled,
    log_ticks,
    plainly,
    spread,
    text_width,
    ticks,
)
from moebench.reporting.figures import marks
from moebench.reporting.part import part
from moebench.reporting.theme import FAMILIES, LADDER, MUTED, PAPER, Style
from moebench.reporting.worth import LAWS, SEED, Worth, Worths, families, worths

_LABEL_PT = 7.5
_MAIN, _BELOW, _UNDER = 3.3, 1.35, 0.62
"""Inches of height of the panel above, of those below, and of what stands under them."""


@part("answer", leading=True, asked=lambda findings: worths(findings) is not None)
def figure(findings: Findings) -> Drawn | str:
    """Loss against training FLOPs: the ladder, the mixtures, and the arrow from each to the dense model of equal loss.

    Below, how far each mixture's loss is from that of the ladder at equal training FLOPs, and at equal time.
    """
    held = worths(findings)
    if held is None:
        return "The suite has no ladder of dense models."
    if len(held.seeds) < 2 or not held.mixtures:
        return "Fewer than two seeds have every rung of the ladder and every mixture."
    made = held.all
    looks = _looks(held)
    of_model = {m: (name, looks[name]) for name, members in families(held) for m in members}
    title, subtitle = _title(made, of_model), _subtitle(held)
    named = {held.name: LADDER, **looks}
    figure, (main,) = canvas(
        title, subtitle, height=_MAIN, left=0.62, right=0.2, headroom=key_height(list(named)),
        bottom=0.5 + _UNDER + _BELOW,
    )  # fmt: skip
    key(main, named)
    _ladder(main, held)
    _mixtures(main, held, made, of_model)
    _below(figure, held, of_model)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _looks(held: Worths) -> dict[str, Style]:
    """Family -> its look."""
    return {name: FAMILIES[place % len(FAMILIES)] for place, (name, _) in enumerate(families(held))}


# ---------------------------------------------------------------------------------------------- words


def leverage_text(value: Mean) -> str:
    """`2.1× [1.9, 2.4]`, or what is known of it: `≥ 3.1×` beyond the largest rung."""
    if not math.isfinite(value.high) or not math.isfinite(value.centre):
        return f"≥{NBSP}{value.low:.2g}{TIMES}" if value.low > 0 else "beyond the ladder"
    if value.low <= 0 or value.centre <= 0:
        return f"≤{NBSP}{value.high:.2g}{TIMES}"
    return interval(value.centre, value.low, value.high, "ratio")


def _title(made: Sequence[Worth], of_model: Mapping[str, tuple[str, Style]]) -> str:
    """The largest model of each family, and what it is worth."""
    largest = {of_model[one.model][0]: one for one in made if "leverage.flops" in one.values}
    if not largest:
        return "What the mixtures are worth is not known: no run of the ladder is whole"
    first, *others = largest.values()
    much = leverage_text(first.values["leverage.flops"])
    worth_of = f"{first.model} is as good as a dense model of {much} its training FLOPs"
    return "; ".join([worth_of, *(f"{one.model}: {leverage_text(one.values['leverage.flops'])}" for one in others)])


def _subtitle(held: Worths) -> str:
    sizes = [held.findings.plan.decoders[rung].costs.params.total for rung in held.rungs]
    tokens = held.findings.plan.decoders[held.rungs[0]].recipe
    ratios = [tokens.steps * tokens.batch_tokens / size for size in sizes]
    return (
        f"Above: final bits per byte, mean of {plural(len(held.seeds), 'seed')} with its 95% interval. Line: dense "
        f"models on {_round(ratios[0])} to {_round(ratios[-1])} tokens a weight, interpolated; band and dashes: laws "
        f"of loss against compute, {LAWS[True]} and {LAWS[False]}. Each arrow ends at the dense model of equal loss; "
        "beside it the leverage, that model's training FLOPs over the mixture's, seed by seed, with its 95% interval. "
        "Below: loss against the dense line at equal training FLOPs, and at equal training time."
    )


def _round(x: float) -> str:
    return f"{x:.2g}" if x < 10 else f"{x:,.0f}"


# ---------------------------------------------------------------------------------------------- the panel above


def _ladder(axes: Axes, held: Worths) -> None:
    """Rungs with intervals and sizes, the line through their mean losses, and the laws."""
    x, y = held.log_flops(held.rungs), held.log_losses(held.rungs)
    axes.set_xscale("log")
    fine = np.linspace(x[0], x[-1], 200)
    middle = y.mean(axis=0)
    generator = np.random.default_rng(SEED)
    if len(x) >= 4:
        _, low, high = band(x, y, fine, floor=len(x) >= 5, generator=generator)
        axes.fill_between(
            np.exp(fine), np.exp(low), np.exp(high), color=LADDER.colour, alpha=0.13, linewidth=0, zorder=0
        )
    plain, _, _ = band(x, y, fine, floor=False, generator=generator)
    axes.plot(
        np.exp(fine), np.exp(plain), color=LADDER.colour, linewidth=0.8, alpha=0.75, linestyle=(0, (3, 2)), zorder=1
    )
    axes.plot(np.exp(fine), np.exp(curve(x, middle)(fine)), color=LADDER.colour, linewidth=1.8, zorder=2)
    for place, rung in enumerate(held.rungs):
        at = float(np.exp(x[place]))
        marks.interval(axes, at, _mean(y[:, place]), LADDER, upright=True, size=5.2, rim=0.7)
        size = count(held.findings.plan.decoders[rung].costs.params.total)
        axes.annotate(
            size if place else f"{size} parameters",
            (at, math.exp(middle[place])),
            (5, 6),
            textcoords="offset points",
            fontsize=7,
            color=LADDER.colour,
        )
    axes.set_xlabel("training FLOPs of a run")
    axes.set_ylabel("bits per byte (lower is better)")


def _mean(logs: Array) -> Mean:
    """A mean of logs as a level."""
    middle = mean(logs)
    return Mean(centre=math.exp(middle.centre), low=math.exp(middle.low), high=math.exp(middle.high), n=middle.n)


def _mixtures(axes: Axes, held: Worths, made: Sequence[Worth], of_model: Mapping[str, tuple[str, Style]]) -> None:
    """Each mixture, the arrow to the dense model of equal loss, and its leverage left of it."""
    flops, losses = np.exp(held.log_flops(held.mixtures)), held.log_losses(held.mixtures)
    levels = np.exp(losses.mean(axis=0))
    ends = np.exp(held.log_flops(held.rungs))
    texts = [leverage_text(one.values["leverage.flops"]) if "leverage.flops" in one.values else "" for one in made]
    room = max(text_width(text, _LABEL_PT, bold=True) for text in texts) + 0.18
    _frame(axes, [*flops, *ends], [*levels, *np.exp(held.log_losses(held.rungs).mean(axis=0))], room)
    inches = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    low, high = axes.get_ylim()
    heights = spread([math.log(level) for level in levels], 0.135 * math.log(high / low) / inches)
    for index, one in enumerate(made):
        style, x, y = of_model[one.model][1], float(flops[index]), float(levels[index])
        value = one.values.get("leverage.flops")
        if value is not None:
            reach = min(max(x * value.centre if math.isfinite(value.centre) else ends[-1], ends[0]), ends[-1])
            axes.annotate(
                "", (reach, y), (x, y), zorder=3,
                arrowprops={"arrowstyle": "-|>", "color": style.colour, "linewidth": 1.1, "shrinkA": 4, "shrinkB": 0.5,
                            "mutation_scale": 8},
            )  # fmt: skip
        marks.interval(axes, x, _mean(losses[:, index]), style, upright=True, size=6.2, rim=0.8)
        axes.annotate(
            texts[index], (x, math.exp(heights[index])), (-8, 0), textcoords="offset points", ha="right", va="center",
            fontsize=_LABEL_PT, weight="bold", color=style.colour,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
        )  # fmt: skip


def _frame(axes: Axes, xs: Sequence[float], ys: Sequence[float], room: float) -> None:
    """Limits that leave room left of the leftmost mixture for its words, and log axes with round ticks."""
    width = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    left, right = math.log(min(xs)), math.log(max(xs))
    span = (right - left) / (1 - (room + 0.5) / width)
    axes.set_xlim(math.exp(left - room / width * span), math.exp(right + 0.5 / width * span))
    axes.set_yscale("log")
    low, high = min(ys), max(ys)
    axes.set_ylim(low * (low / high) ** 0.08, high * (high / low) ** 0.1)
    ticks(axes.xaxis, log_ticks(*axes.get_xlim(), most=6), lambda x: short(quantity(x, "FLOPs")))
    ticks(axes.yaxis, _levels(*axes.get_ylim()), plainly)


def _levels(low: float, high: float) -> list[float]:
    """Round losses in [low, high], at most seven."""
    for step in (0.05, 0.1, 0.2, 0.25, 0.5, 1.0):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < 7:
            return [round(k * step, 4) for k in range(first, last + 1)]
    return [low, high]


# ---------------------------------------------------------------------------------------------- the panels below


def _below(figure: Figure, held: Worths, of_model: Mapping[str, tuple[str, Style]]) -> None:
    """Loss against the ladder's at equal FLOPs and equal time, one panel each with one scale of percent."""
    wide, high = figure.get_size_inches()
    seconds = held.log_seconds((*held.rungs, *held.mixtures))
    flops = held.log_flops((*held.rungs, *held.mixtures))
    views = [("at equal training FLOPs", flops, lambda x: short(quantity(x, "FLOPs")))]
    if seconds is not None:
        views.append(("at equal training time", seconds, lambda x: short(quantity(x, "s"))))
    each = (wide - 0.62 - 0.2 - 0.35) / 2
    first: Axes | None = None
    for place, (name, cost, form) in enumerate(views):
        box = ((0.62 + place * (each + 0.35)) / wide, 0.45 / high, each / wide, _BELOW / high)
        axes = figure.add_axes(box, sharey=first)
        _view(axes, held, cost, of_model)
        axes.set_title(name, fontsize=_LABEL_PT, weight="bold", loc="left", pad=4)
        labelled(axes.xaxis, form)
        if first is None:
            axes.set_ylabel("loss against dense")
            labelled(axes.yaxis, lambda y: f"{y:+g}%".replace("-", MINUS) if y else "dense")
        else:
            axes.tick_params(axis="y", labelleft=False)
        first = first or axes
    if seconds is None:
        why = "no view at equal training time:\nno speed session"
        figure.text(
            (0.62 + each + 0.35) / wide, (0.45 + _BELOW / 2) / high, why,
            fontsize=_LABEL_PT, color=MUTED, va="center",
        )  # fmt: skip


def _view(axes: Axes, held: Worths, cost: Array, of_model: Mapping[str, tuple[str, Style]]) -> None:
    rungs = cost[: len(held.rungs)]
    axes.set_xscale("log")
    axes.axhline(0, color=LADDER.colour, linewidth=1.4, zorder=1)
    axes.plot(np.exp(rungs), np.zeros(len(rungs)), LADDER.marker, color=LADDER.colour, markersize=3.6, zorder=2)
    for _, members in families(held):
        points = []
        for model in members:
            own = float(cost[len(held.rungs) + held.mixtures.index(model)])
            gap = held.gap(model, rungs, own)
            if gap is not None:
                points.append((math.exp(own), gap))
        style = of_model[members[0]][1]
        axes.plot([x for x, _ in points], [g.centre for _, g in points], color=style.colour, linewidth=1.0, alpha=0.5)
        for x, gap in points:
            marks.interval(axes, x, gap, style, upright=True, size=5, rim=0.7)
    of_mixtures = np.exp(cost[len(held.rungs) :])
    low, high = float(of_mixtures.min()), float(of_mixtures.max())
    pad = max((high / low) ** 0.15, 1.2)
    axes.set_xlim(low / pad, high * pad)
    ticks(axes.xaxis, log_ticks(*axes.get_xlim(), most=3))
    axes.margins(y=0.12)
