"""Figures of routing: how evenly experts are used, over training and at its end, and what for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from moebench.format import TIMES, interval, significant, span
from moebench.reporting.analysis import Findings, Mean, mean
from moebench.reporting.figures.ends import end_labels
from moebench.reporting.figures.panels import heading, over_steps
from moebench.reporting.figures.rows import domains as by_domain
from moebench.reporting.theme import GREY, GRID, MUTED, PAPER, Drawn, canvas, grid, lines_of, plainly, widest

Array = npt.NDArray[np.float64]
_NONE = "No MoE run has recorded its routing."
_SHOWN = 4
"""Models in one figure at most; tables have the rest."""


def load(found: Findings) -> Drawn | str:
    """Final load of every expert: a heat map with a row for each layer and seed."""
    grids = {model: _loads(found, model) for model in found.held.models if found.styles[model].kind == "moe"}
    grids = {model: one for model, one in grids.items() if not one.empty}
    if not grids:
        return _NONE
    if found.many:
        return _loads_of_many(found, grids)
    shown = dict(list(grids.items())[:_SHOWN])
    worst = {model: float(grid.to_numpy().max()) for model, grid in shown.items()}
    busiest = max(worst, key=lambda m: worst[m])
    title = f"The busiest expert of {busiest} takes {worst[busiest]:.2f}{TIMES} an even share after training"
    subtitle = (
        "Load of each expert over the mean of its layer, at the last evaluation; 1 is an even share. One row a layer "
        "and seed; experts are sorted by load within a row, for their numbers mean nothing across seeds."
    )
    rows = max(map(len, shown.values()))
    height = min(5.5, max(1.2, 0.135 * rows))
    figure, panels = canvas(
        title, subtitle, height=height, columns=len(shown), left=0.75, right=1.0, bottom=0.45, headroom=0.25, gap=0.7
    )
    limit = max(1.05, *worst.values())
    for axes, (model, one) in zip(panels, shown.items(), strict=True):
        _heat(axes, one, limit)
        heading(axes, found, model)
    _scale(figure, panels[-1], limit)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


_LIMIT = 4.0
"""Load over the mean beyond which all loads have one colour, where many models share a scale."""


def _loads_of_many(found: Findings, grids: dict[str, pd.DataFrame]) -> Drawn:
    """A small heat map for each model; their layers and experts differ."""
    worst = {model: float(one.to_numpy().max()) for model, one in grids.items()}
    most, least = max(worst, key=lambda m: worst[m]), min(worst, key=lambda m: worst[m])
    title = f"The busiest expert takes from {worst[least]:.2f}{TIMES} an even share ({least}) "
    title += f"to {worst[most]:.2f}{TIMES} ({most}) after training"
    subtitle = (
        "Load of each expert over the mean of its layer, at the last evaluation; 1 is an even share. One row a mixture "
        "layer (counted from 0) and seed; experts are sorted by load within a row. Below: their number and the busiest "
        "one's load."
    )
    columns = min(4, len(grids))
    figure, panels = grid(
        title, subtitle, panels=len(grids), columns=columns, height=0.85, gap=(0.42, 0.52), share="", right=0.95,
        headroom=0.28, left=0.5,
    )  # fmt: skip
    limit = min(_LIMIT, max(1.05, *worst.values()))
    for axes, (model, one) in zip(panels, grids.items(), strict=True):
        _heat(axes, one, limit, edge=0)
        heading(axes, found, model)
        axes.set_xticks([])
        axes.set_xlabel(f"{one.shape[1]} experts, to {worst[model]:.1f}{TIMES}", fontsize=6.5, labelpad=2)
        axes.set_yticks(axes.get_yticks(), [text.get_text().removeprefix("layer ") for text in axes.get_yticklabels()])
        axes.tick_params(axis="y", labelsize=6.5)
    for axes in panels[::columns]:
        axes.set_ylabel("layer", fontsize=7)
    _scale(figure, panels[columns - 1], limit, more=limit < max(worst.values()))
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _scale(figure: Figure, axes: Axes, limit: float, *, more: bool = False) -> None:
    """The colours of a heat map and the loads they stand for."""
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.02, box.y0, 0.018, box.height))
    scale = figure.colorbar(axes.collections[0], cax=bar, label="load / mean")
    ends = (max(0.0, 2 - limit), 1.0, limit)
    said = [f"{significant(end)}{TIMES}" for end in ends]
    scale.set_ticks(list(ends), labels=[*said[:2], f"≥ {said[2]}" if more else said[2]])


def _loads(found: Findings, model: str) -> pd.DataFrame:
    """Load over the layer's mean, experts sorted: a row a (layer, seed), the last evaluation of each run."""
    rows = found.held.of("routing.tokens", layer="*", expert="*")
    rows = rows[rows["model"] == model]
    if rows.empty:
        return pd.DataFrame()
    rows = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
    rows = rows.assign(layer=rows["layer"].astype(int), expert=rows["expert"].astype(int))
    wide = rows.pivot_table(index=["layer", "seed"], columns="expert", values="value", fill_value=0.0)
    share = wide.to_numpy() / np.maximum(wide.to_numpy().mean(axis=1, keepdims=True), 1e-12)
    return pd.DataFrame(-np.sort(-share, axis=1), index=wide.index, columns=range(1, wide.shape[1] + 1))


def _heat(axes: Axes, loads: pd.DataFrame, limit: float, *, edge: float = 0.3) -> None:
    colours = sns.diverging_palette(245, 35, s=85, l=48, center="light", as_cmap=True)
    norm = TwoSlopeNorm(vcenter=1.0, vmin=max(0.0, 2 - limit), vmax=limit)
    # Cells without edges are many: as one picture they are a tenth of the bytes.
    edges = PAPER if edge else "face"
    axes.pcolormesh(loads.to_numpy(), cmap=colours, norm=norm, edgecolors=edges, linewidth=edge, rasterized=not edge)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    layers = loads.index.get_level_values("layer")
    starts = [int(np.argmax(layers == layer)) for layer in layers.unique()]
    sizes = [int((layers == layer).sum()) for layer in layers.unique()]
    axes.set_yticks(
        [a + n / 2 for a, n in zip(starts, sizes, strict=True)],
        [f"layer {layer}" for layer in layers.unique()],
        rotation=0,
    )
    for start in starts[1:]:
        axes.axhline(start, color="white", linewidth=2.5)
    experts = loads.shape[1]
    ticks = sorted({1, experts, *range(max(1, experts // 4), experts, max(1, experts // 4))})
    axes.set_xticks([tick - 0.5 for tick in ticks], [str(tick) for tick in ticks], rotation=0)
    axes.tick_params(length=0)
    axes.set(xlabel="expert, by load", ylabel="")


def balance(found: Findings) -> Drawn | str:
    """Busiest expert over the mean, along training."""
    rows = found.held.of("routing.max_over_mean")
    rows = rows[rows["step"].notna()]
    if rows.empty:
        return _NONE
    rows = rows.assign(step=rows["step"].astype(float), seed=rows["seed"].astype(int))
    models = [m for m in found.held.models if (rows["model"] == m).any()]
    last = rows[rows["step"] == rows.groupby(["model", "seed"])["step"].transform("max")]
    ends = {m: mean(last[last["model"] == m]["value"]) for m in models}
    model = found.treatment if found.treatment in ends else models[0]
    end = ends[model]
    if found.many:
        return _balance_of_many(found, rows, ends)
    title = f"{model}'s busiest expert ends at {interval(end.centre, end.low, end.high, 'ratio')} the mean load"
    subtitle = "Busiest expert's load over the mean, averaged over layers, at each evaluation; "
    subtitle += f"thin lines are seeds (n = {end.n}), band: 95% interval."
    right = 0.3 + widest(models, 7.5, bold=True)
    figure, (axes,) = canvas(title, subtitle, height=2.0, right=right, panel=3.0)
    colours = {m: found.styles[m].colour for m in models}
    sns.lineplot(
        rows, x="step", y="value", hue="model", units="seed", estimator=None, palette=colours, legend=False,
        linewidth=0.6, alpha=0.4, ax=axes,
    )  # fmt: skip
    last_points: list[tuple[float, float, str]] = []
    for name in models:
        groups = [group for _, group in rows[rows["model"] == name].groupby("step")]
        x, means = [float(group["step"].iloc[0]) for group in groups], [mean(group["value"]) for group in groups]
        axes.fill_between(
            x, [m.low for m in means], [m.high for m in means], color=colours[name], alpha=0.18, linewidth=0
        )
        axes.plot(
            x,
            [m.centre for m in means],
            color=colours[name],
            linewidth=1.8,
            marker=found.styles[name].marker,
            markersize=3.6,
        )
        last_points.append((x[-1], means[-1].centre, name))
    axes.axhline(1, color=MUTED, linewidth=1)
    axes.set(xlabel="training step", ylabel="busiest / mean", ylim=(min(0.95, *axes.get_ylim()), None))
    plainly(axes.yaxis, suffix=TIMES)
    end_labels(axes, found, last_points)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _balance_of_many(found: Findings, rows: pd.DataFrame, ends: dict[str, Mean]) -> Drawn:
    least, most = (pick(ends, key=lambda m: ends[m].centre) for pick in (min, max))
    first, last = (interval(ends[m].centre, ends[m].low, ends[m].high, "ratio") for m in (least, most))
    title = f"Busiest experts end at {first} ({least}) to {last} ({most}) the mean load"
    subtitle = (
        "Busiest expert's load over the mean, averaged over mixture layers, at each evaluation, log axis; 1 is an "
    )
    subtitle += f"even load. Thin lines are seeds (n = {span(m.n for m in ends.values())}). Grey: the other models."
    return over_steps(found, rows, title, subtitle, "busiest / mean", percent=False)


def dropped(found: Findings) -> Drawn | str:
    """Share of assignments dropped over capacity, along training."""
    rows = found.held.of("train.dropped_share")
    if rows.empty:
        return "No run of a model with a capacity has recorded what it dropped."
    rows = rows.assign(step=rows["step"].astype(float), seed=rows["seed"].astype(int))
    last = rows[rows["step"] == rows.groupby(["model", "seed"])["step"].transform("max")]
    ends = {m: mean(100 * last[last["model"] == m]["value"]) for m in found.held.models if (last["model"] == m).any()}
    most = max(ends, key=lambda m: ends[m].centre)
    end = ends[most]
    said = interval(end.centre, end.low, end.high, "%", signed=False)
    title = f"{most} drops {said} of its assignments in training"
    metric = "train.dropped_share"
    if len(ends) > 1 and all(found.order(most, m, metric).side == "higher" for m in ends if m != most):
        title += f", the most of {len(ends)} models with a capacity"
    subtitle = (
        "Share of (token, expert) assignments dropped over capacity, over training so far; evaluation drops none. "
    )
    subtitle += f"Thin lines are seeds (n = {span(m.n for m in ends.values())})."
    return over_steps(found, rows, title, subtitle, "dropped", percent=True)


def domains(found: Findings) -> Drawn | str:
    """How differently domains use the experts, against a permuted baseline."""
    rows = found.held.final("routing.domain_tokens", layer="*", expert="*", domain="*")
    if rows.empty:
        return "No MoE run has recorded its routing by domain."
    models = [m for m in found.held.models if (rows["model"] == m).any()]
    models = models if found.many else models[:_SHOWN]
    measured = specialisation(rows)
    means = {m: mean(measured[measured["model"] == m].groupby("seed")["distance"].mean()) for m in models}
    if found.many:
        return by_domain(found, measured, means)
    model = found.treatment if found.treatment in means else models[0]
    chance = float(measured[measured["model"] == model]["chance"].mean())
    times = means[model].centre / chance if chance else float("inf")
    share = means[model]
    size = interval(100 * share.centre, 100 * share.low, 100 * share.high, "%", signed=False)
    title = f"Domains of {model} differ in {size} of their routing, {times:.0f}{TIMES} what chance gives"
    subtitle = (
        "Share of a domain's routed tokens that would have to move to match all domains together (total variation), "
        f"by layer and domain; each point a seed (n = {means[model].n}). Grey: permuted over domains."
    )
    names = sorted(measured["domain"].unique())
    figure, panels = canvas(
        title, subtitle, height=2.0, columns=len(models), gap=0.3, share_y=True, headroom=0.25, bottom=0.6, panel=1.6
    )
    for axes, name in zip(panels, models, strict=True):
        _domain_panel(axes, found, measured[measured["model"] == name], name, names)
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}%"))
    panels[0].set_ylabel("routing that differs")
    panels[0].set_ylim(0, None)
    return Drawn(title=title, subtitle=subtitle, figure=figure)


def _domain_panel(axes: Axes, found: Findings, rows: pd.DataFrame, model: str, names: list[str]) -> None:
    layers = sorted(rows["layer"].unique())
    style = found.styles[model]
    for place, (domain, layer) in enumerate((d, k) for d in names for k in layers):
        part = rows[(rows["domain"] == domain) & (rows["layer"] == layer)]
        if part.empty:
            continue
        middle = mean(part["distance"])
        offsets = 0.3 * (np.arange(len(part)) / max(1, len(part) - 1) - 0.5)
        axes.plot(place + offsets, part["chance"], "_", color=GREY, markersize=5)
        axes.plot(
            place + offsets, part["distance"], "o", color=style.colour, alpha=0.5, markersize=2.6, markeredgewidth=0
        )
        axes.plot([place + 0.28] * 2, [middle.low, middle.high], color=style.colour, linewidth=1.8)
        axes.plot(place + 0.28, middle.centre, style.marker, color=style.colour, markersize=5)
    axes.set_xticks(range(len(names) * len(layers)), [str(k) for _ in names for k in layers], fontsize=6.5)
    axes.set_xlim(-0.6, len(names) * len(layers) - 0.4)
    inches = axes.get_position().width * axes.figure.get_figwidth() / len(names)  # type: ignore[union-attr]
    for place, domain in enumerate(names):
        middle_of = len(layers) * (place + 0.5) - 0.5
        said = lines_of(domain, inches - 0.04, 7, at=" ._-/")[0]
        axes.annotate(
            said, (middle_of, 0), (0, -16), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center",
            va="top", fontsize=7,
        )  # fmt: skip
        if place:
            axes.axvline(len(layers) * place - 0.5, color=GRID, linewidth=0.8)
    axes.set_xlabel("layer (from 0), by domain", fontsize=7, labelpad=14)
    axes.grid(visible=False, axis="x")
    heading(axes, found, model)


def specialisation(rows: pd.DataFrame) -> pd.DataFrame:
    """Total variation distance of each domain's expert use to that of all domains together.

    Takes `routing.domain_tokens` rows; gives model, seed, layer, domain, distance and chance.
    `chance` is the same distance after permuting tokens over domains, the mean of 20 draws from a fixed generator.
    Tokens of one document go together in truth, so chance is a floor.
    """
    rng = np.random.default_rng(0)
    keys = ["model", "seed", "layer", "domain"]
    rows = rows.assign(**{name: rows[name].astype(int) for name in ("seed", "layer", "expert")})
    wide = rows.pivot_table(index=keys, columns="expert", values="value", fill_value=0.0)
    together = wide.groupby(level=keys[:3]).transform("sum").to_numpy()
    together = together / np.maximum(together.sum(axis=1, keepdims=True), 1.0)
    counts = wide.to_numpy()
    totals = counts.sum(axis=1)
    used = totals > 0
    share = counts[used] / totals[used, None]
    drawn = rng.multinomial(totals[used].astype(int), together[used], size=(20, int(used.sum()))) / totals[used, None]
    found: pd.DataFrame = wide.index[used].to_frame(index=False)
    found["distance"] = np.abs(share - together[used]).sum(axis=1) / 2
    found["chance"] = (np.abs(drawn - together[used]).sum(axis=2) / 2).mean(axis=0)
    return found
