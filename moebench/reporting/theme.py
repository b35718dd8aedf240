"""How every figure looks: paper, ink, type, and one colour and marker a model.

Dense models are shades of blue, MoE models of orange, controls grey, whether they were trained here or are published
checkpoints; models of which only numbers are known are green. The kinds stay apart under the common forms of colour
blindness, and markers repeat the distinction. A crowd, more models than shades of one hue can tell apart, takes
seven hues and eight markers in turn, so that no two share both, and is drawn in rows or small panels.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.colors import to_hex, to_rgb

from moebench.planning.planned import AnyPlanned, PlannedModel
from moebench.planning.types import Plan
from moebench.suite.model import DenseFFN

INK, MUTED, GRID, PAPER, SHADE, GREY = "#1b1f24", "#58626d", "#dfe3e8", "#ffffff", "#e3ebe7", "#7d8590"
DARK = {INK: "#e8eaed", MUTED: "#a5aeb8", GRID: "#343a42", PAPER: "#15181c", SHADE: "#25332d", GREY: "#98a1ab"}
"""What the fixed colours become on a dark page."""

STATE_COLOURS = {
    "supported": "#0b7a55",
    "refuted": "#a3195b",
    "inconclusive": "#7a6200",
    "interim": "#5b4a8a",
    "invalid": "#58626e",
    "not_tested": "#58626f",
    "cited": "#3b5b7a",
}
STATE_DARK = {
    "supported": "#4fcf9f",
    "refuted": "#ff85b8",
    "inconclusive": "#e3c34d",
    "interim": "#b9a9ee",
    "invalid": "#a5aeb9",
    "not_tested": "#a5aeba",
    "cited": "#9dbad6",
}
ANSWER_COLOURS = {"depends": "#1d5fa6", "not_run": "#58626b"}
"""States of a row of the catalogue that no verdict has."""
STATE_MARKERS = {
    "supported": "^", "refuted": "v", "inconclusive": "D", "interim": "d", "invalid": "X", "not_tested": "o",
    "cited": "s",
}  # fmt: skip

_DENSE, _MOE, _UNKNOWN = ("#12406f", "#3f8bd0"), ("#c9480a", "#ef8a3c"), ("#2f6b1e", "#7fae3f")
_MARKERS = {"dense": "sDhp", "moe": "o^vP", "unknown": "<X>*"}
FEW = 6
"""Models that one panel can hold; with more, figures have a row or a panel for each."""
_HUES = ("#c9480a", "#8a4b2a", "#c2296e", "#4f7a1c", "#7b3294", "#a87900", "#00877a")
"""In an order in which neighbours, who come to share a marker, differ to every eye."""
_SHAPES = "o^vP<>dX"
_CONTROLS, _CONTROL_SHAPES = ("#363c43", "#5c646e", "#7c838c"), "*ph8H"
TEXT_PT, SMALL_PT = 8.5, 7.5
SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT_PT,
    "svg.fonttype": "none",
    "svg.hashsalt": "moebench",
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelsize": TEXT_PT,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "path.simplify": False,
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """One model's look, the same in every figure and table of a report."""

    colour: str
    marker: str
    kind: str
    """dense, moe, or unknown: a model of which only numbers are known."""
    control: bool = False
    """Whether its experts are chosen by a rule that is not learned: an arm for comparison."""


def styles(plan: Plan) -> dict[str, Style]:
    """Colour and marker of each model, by its place among the plan's models of its kind.

    Dense: shades of blue; mixtures: shades of orange; others: of green. In a crowd those whose routing is fixed are
    grey, and the other mixtures take hues and markers in turn.
    """
    crowd = len(plan.models) > FEW
    kinds = {name: _kind(model, crowd=crowd) for name, model in plan.models.items()}
    placed = list(kinds.values())
    dense, moe, unknown = (
        [to_hex(shade) for shade in sns.blend_palette(list(ends), max(2, placed.count(kind)))]
        for kind, ends in (("dense", _DENSE), ("moe", _MOE), ("unknown", _UNKNOWN))
    )
    looks = {
        "dense": (dense, _MARKERS["dense"]),
        "moe": (_HUES, _SHAPES) if crowd else (moe, _MARKERS["moe"]),
        "control": (_CONTROLS, _CONTROL_SHAPES),
        "unknown": (unknown, _MARKERS["unknown"]),
    }
    made: dict[str, Style] = {}
    for at, (name, kind) in enumerate(kinds.items()):
        place, (colours, markers) = placed[:at].count(kind), looks[kind]
        made[name] = Style(
            colour=colours[place % len(colours)], marker=markers[place % len(markers)],
            kind="moe" if kind == "control" else kind, control=kind == "control",
        )  # fmt: skip
    return made


def _kind(model: AnyPlanned, *, crowd: bool) -> str:
    if isinstance(model, PlannedModel):
        a = model.architecture
        return "dense" if isinstance(a.ffn, DenseFFN) else "control" if crowd and not a.learns_routing else "moe"
    if model.blueprint is None:
        return "unknown"
    return "moe" if model.blueprint.mixtures else "dense"


LADDER = Style(colour="#12406f", marker="s", kind="dense")
FAMILIES = tuple(
    Style(colour=colour, marker=marker, kind="moe")
    for colour, marker in zip(("#dd7a26", "#a83208", "#7b3294", "#00877a"), "o^vP", strict=True)
)
"""A ladder of dense models, and families of mixtures beside it, each of one look."""


def on_dark(colour: str) -> str:
    """A model's colour for a dark page: the same hue and order of shades, lighter."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour)[:3])
    return to_hex(colorsys.hls_to_rgb(hue, 0.46 + 0.5 * lightness, saturation))


def settings() -> Any:
    """A context in which figures must be made and saved."""
    return mpl.rc_context(SETTINGS)
