"""Final load of every expert: a heat map with a row for each layer and seed; of many models a small one each."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from moebench.format import TIMES, significant
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn, canvas
from moebench.reporting.figures.marks import heading
from moebench.reporting.part import part
from moebench.reporting.theme import PAPER

NONE = "No MoE run has recorded its routing."
_SHOWN = 4
"""Models in one figure at most; tables have the rest."""
_LIMIT = 4.0
"""Load over the mean beyond which all loads have one colour, where many models share a scale."""


@part("routing", order=1)
def figure(findings: Findings) -> Drawn | str:
    """Experts sorted by load within each layer and seed."""
    grids = {model: _loads(findings, model) for model in findings.study.models if findings.styles[model].kind == "moe"}
    grids = {model: one for model, one in grids.items() if not one.empty}
    if not grids:
        return NONE
    if findings.many:
        return _loads_of_many(findings, grids)
    shown = dict(list(grids.items())[:_SHOWN])
    worst = {model: float(grid.to_numpy().max()) for model, grid in shown.items()}
    busiest = max(worst, key=lambda m: worst[m])
    when = " after training" if findings.trains else ""
    title = f"The busiest expert of {busiest} takes {worst[busiest]:.2f}{TIMES} an even share{when}"
    subtitle = (
        "Load of each expert over the mean of its layer, at the last evaluation; 1 is an even share. One row a layer "
        "and seed; experts are sorted by load within a row, for their numbers mean nothing across seeds."
    )
    height = min(5.5, max(1.2, 0.135 * max(map(len, shown.values()))))
    drawn, panels = canvas(
        title, subtitle, height=height, panels=len(shown), left=0.75, right=1.0, bottom=0.45, headroom=0.25, gap=0.7
    )
    limit = max(1.05, *worst.values())
    for axes, (model, one) in zip(panels, shown.items(), strict=True):
        _heat(axes, one, limit)
        heading(axes, findings, model)
    _scale(drawn, panels[-1], limit)
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _loads_of_many(findings: Findings, grids: dict[str, pd.DataFrame]) -> Drawn:
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
    drawn, panels = canvas(
        title, subtitle, panels=len(grids), columns=columns, height=0.85, gap=(0.42, 0.52), right=0.95,
        headroom=0.28, left=0.5,
    )  # fmt: skip
    limit = min(_LIMIT, max(1.05, *worst.values()))
    for axes, (model, one) in zip(panels, grids.items(), strict=True):
        _heat(axes, one, limit, edge=0)
        heading(axes, findings, model)
        axes.set_xticks([])
        axes.set_xlabel(f"{one.shape[1]} experts, to {worst[model]:.1f}{TIMES}", fontsize=6.5, labelpad=2)
        axes.set_yticks(axes.get_yticks(), [text.get_text().removeprefix("layer ") for text in axes.get_yticklabels()])
        axes.tick_params(axis="y", labelsize=6.5)
    for axes in panels[::columns]:
        axes.set_ylabel("layer", fontsize=7)
    _scale(drawn, panels[columns - 1], limit, more=limit < max(worst.values()))
    return Drawn(title=title, subtitle=subtitle, figure=drawn)


def _scale(figure: Figure, axes: Axes, limit: float, *, more: bool = False) -> None:
    """The colours of a heat map and the loads they stand for."""
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.02, box.y0, 0.018, box.height))
    scale = figure.colorbar(axes.collections[0], cax=bar, label="load / mean")
    ends = (max(0.0, 2 - limit), 1.0, limit)
    texts = [f"{significant(end)}{TIMES}" for end in ends]
    scale.set_ticks(list(ends), labels=[*texts[:2], f"≥ {texts[2]}" if more else texts[2]])


def _loads(findings: Findings, model: str) -> pd.DataFrame:
    """Load over the layer's mean, experts sorted: a row a (layer, seed), the last evaluation of each run.

    Of a checkpoint it is that of the text it was scored on, all domains together.
    """
    rows = findings.study.of("routing.tokens", layer="*", expert="*")
    rows = rows[rows["model"] == model]
    if rows.empty and model not in findings.plan.decoders:
        rows = findings.study.of("routing.domain_tokens", layer="*", expert="*", domain="*")
        rows = rows[rows["model"] == model].groupby(["seed", "layer", "expert"])[["value"]].sum().reset_index()
    elif not rows.empty:
        rows = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
    if rows.empty:
        return pd.DataFrame()
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
