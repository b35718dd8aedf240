"""How differently domains use the experts, against tokens permuted over domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from moebench.format import TIMES, span
from moebench.reporting.analysis import Findings, Mean, mean
from moebench.reporting.canvas import Drawn, canvas, labelled, lines_of, panel_width, percent
from moebench.reporting.figures.marks import ROW, dots, heading, in_row, interval, jitter, margin, name_rows
from moebench.reporting.part import part
from moebench.reporting.theme import GREY, GRID, INK

_SHOWN = 4
"""Models in one figure at most; tables have the rest."""
_DISTANCE = (
    "Share of a domain's routed tokens that would have to move to match all domains together (total variation), "
)


@part("routing", order=4)
def figure(findings: Findings) -> Drawn | str:
    """A panel a model; of many a panel a domain."""
    rows = findings.study.final("routing.domain_tokens", layer="*", expert="*", domain="*")
    if rows.empty:
        return "No MoE run has recorded its routing by domain."
    models = [m for m in findings.study.models if (rows["model"] == m).any()]
    models = models if findings.many else models[:_SHOWN]
    measured = specialisation(rows)
    means = {m: mean(measured[measured["model"] == m].groupby("seed")["distance"].mean()) for m in models}
    if findings.many:
        return _ranked(findings, measured, means)
    model = findings.treatment if findings.treatment in means else models[0]
    share = means[model]
    permuted = float(measured[measured["model"] == model]["chance"].mean())
    size = Mean(centre=100 * share.centre, low=100 * share.low, high=100 * share.high, n=share.n)
    title = f"Domains of {model} differ in {size.text('%', signed=False)} of their routing, "
    title += f"{share.centre / permuted if permuted else float('inf'):.0f}{TIMES} what chance gives"
    subtitle = f"{_DISTANCE}by layer and domain; each point a seed (n = {share.n}). Grey: permuted over domains."
    names = sorted(measured["domain"].unique())
    drawn, panels = canvas(
        title, subtitle, height=2.0, panels=len(models), gap=0.3, share="y", headroom=0.25, bottom=0.6, panel=1.6
    )
    for axes, name in zip(panels, models, strict=True):
        axes.tick_params(axis="y", labelleft=True)
        _by_layer(axes, findings, measured[measured["model"] == name], name, names)
    labelled(panels[0].yaxis, percent)
    panels[0].set_ylabel("routing that differs")
    panels[0].set_ylim(0, None)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _by_layer(axes: Axes, findings: Findings, rows: pd.DataFrame, model: str, names: Sequence[str]) -> None:
    layers = sorted(rows["layer"].unique())
    style = findings.styles[model]
    for place, (domain, layer) in enumerate((d, k) for d in names for k in layers):
        here = rows[(rows["domain"] == domain) & (rows["layer"] == layer)]
        if here.empty:
            continue
        offsets = place + jitter(len(here), 0.3)
        axes.plot(offsets, here["chance"], "_", color=GREY, markersize=5)
        dots(axes, offsets, here["distance"], style)
        interval(axes, place + 0.28, mean(here["distance"]), style, upright=True, size=5)
    axes.set_xticks(range(len(names) * len(layers)), [str(k) for _ in names for k in layers], fontsize=6.5)
    axes.set_xlim(-0.6, len(names) * len(layers) - 0.4)
    for place, domain in enumerate(names):
        name = lines_of(domain, panel_width(axes) / len(names) - 0.04, 7, at=" ._-/")[0]
        axes.annotate(
            name, (len(layers) * (place + 0.5) - 0.5, 0), (0, -16), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", va="top", fontsize=7,
        )  # fmt: skip
        if place:
            axes.axvline(len(layers) * place - 0.5, color=GRID, linewidth=0.8)
    axes.set_xlabel("layer (from 0), by domain", fontsize=7, labelpad=14)
    axes.grid(visible=False, axis="x")
    heading(axes, findings, model)


def _ranked(findings: Findings, measured: pd.DataFrame, means: Mapping[str, Mean]) -> Drawn:
    """A panel a domain, a row a model, mean over its layers."""
    names = sorted(measured["domain"].unique())[:6]
    models = list(means)
    least, most = (pick(means, key=lambda m: means[m].centre) for pick in (min, max))
    title = f"Domains differ in {100 * means[least].centre:.0f}% ({least}) to {100 * means[most].centre:.0f}% ({most}) "
    title += "of their routing"
    seeds = measured.groupby("model")["seed"].nunique()
    subtitle = f"{_DISTANCE}mean over layers; small: seeds (n = {span(seeds)}), large: mean, 95% interval. "
    subtitle += "Grey tick: tokens permuted over domains."
    drawn, panels = canvas(
        title, subtitle, height=ROW * len(models), panels=len(names), left=margin(models), gap=0.24, share="y",
        headroom=0.28,
    )  # fmt: skip
    for axes, name in zip(panels, names, strict=True):
        name_rows(axes, findings, models)
        for place, model in enumerate(models):
            here = measured[(measured["domain"] == name) & (measured["model"] == model)]
            by_seed = here.groupby("seed")[["distance", "chance"]].mean()
            if len(by_seed):
                axes.plot(by_seed["chance"].mean(), place, "|", color=GREY, markersize=6, markeredgewidth=1.4)
                in_row(axes, place, mean(by_seed["distance"]), findings.styles[model], by_seed["distance"])
        axes.set_title(str(name), fontsize=7.5, weight="bold", loc="left", pad=3, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(3, prune="upper"))
        labelled(axes.xaxis, percent)
        axes.set_xlim(0, None)
    panels[len(panels) // 2].set_xlabel("routing that differs")
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


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
    permuted = rng.multinomial(totals[used].astype(int), together[used], size=(20, int(used.sum())))
    measured: pd.DataFrame = wide.index[used].to_frame(index=False)
    measured["distance"] = np.abs(share - together[used]).sum(axis=1) / 2
    measured["chance"] = (np.abs(permuted / totals[used, None] - together[used]).sum(axis=2) / 2).mean(axis=0)
    return measured
