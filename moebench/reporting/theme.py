"""How every figure looks: paper, ink, one colour and marker a model, and how it becomes bytes.

Dense models are shades of blue, MoE models of orange, controls grey; the pair stays apart under the common forms of
colour blindness, and markers repeat the distinction. A crowd, more models than shades of one hue can tell apart, takes
seven hues and eight markers in turn, so that no two share both, and is drawn in rows or small panels.

Figures are built on `matplotlib.figure.Figure`, never on pyplot's global state. The same figure gives a file with its
title, for papers, and markup for the page, where the title is the page's own text and the fixed colours become CSS
variables so that dark mode and print restyle them.
"""

from __future__ import annotations

import colorsys
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from moebench.format import MINUS
from moebench.models.architecture import Architecture
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
}
STATE_DARK = {
    "supported": "#4fcf9f",
    "refuted": "#ff85b8",
    "inconclusive": "#e3c34d",
    "interim": "#b9a9ee",
    "invalid": "#a5aeb9",
    "not_tested": "#a5aeba",
}
STATE_MARKERS = {
    "supported": "^",
    "refuted": "v",
    "inconclusive": "D",
    "interim": "d",
    "invalid": "X",
    "not_tested": "o",
}

_DENSE, _MOE = ("#12406f", "#3f8bd0"), ("#c9480a", "#ef8a3c")
_MARKERS = {"dense": "sDhp", "moe": "o^vP"}
FEW = 6
"""Models that one panel can hold; with more, figures have a row or a panel for each."""
_HUES = ("#c9480a", "#8a4b2a", "#c2296e", "#4f7a1c", "#7b3294", "#a87900", "#00877a")
"""In an order in which neighbours, who come to share a marker, differ to every eye."""
_SHAPES = "o^vP<>dX"
_CONTROLS, _CONTROL_SHAPES = ("#363c43", "#5c646e", "#7c838c"), "*ph8H"
_WIDTH = 7.0
_TITLE_PT, _TEXT_PT, _SMALL_PT = 10, 8.5, 7.5
_LINE_IN = 1.32 / 72
"""Inches of line height for each point of type."""
SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": _TEXT_PT,
    "svg.fonttype": "none",
    "svg.hashsalt": "moebench",
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelsize": _TEXT_PT,
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
    "xtick.labelsize": _SMALL_PT,
    "ytick.labelsize": _SMALL_PT,
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
    """dense or moe."""
    control: bool = False
    """Whether its experts are chosen by a rule that is not learned: an arm for comparison."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure and the words around it."""

    title: str
    """The finding, with its numbers: also the alternative text."""
    subtitle: str
    """What is plotted, its unit, and n."""
    figure: Figure


def styles(plan: Plan) -> dict[str, Style]:
    """Colour and marker of each model, by its place among the plan's models of its kind."""
    if len(plan.models) > FEW:
        return _crowd(plan)
    found: dict[str, Style] = {}
    for kind, shades in (("dense", _DENSE), ("moe", _MOE)):
        names = [name for name, model in plan.models.items() if model.architecture.ffn.kind == kind]
        colours = sns.blend_palette(list(shades), max(2, len(names)))
        for place, name in enumerate(names):
            marker = _MARKERS[kind][place % len(_MARKERS[kind])]
            found[name] = Style(colour=to_hex(colours[place]), marker=marker, kind=kind)
    return {name: found[name] for name in plan.models}


def _crowd(plan: Plan) -> dict[str, Style]:
    """Dense: shades of blue; unlearned routers: greys; the other mixtures: hues and markers in turn."""
    kinds = {name: _kind(model.architecture) for name, model in plan.models.items()}
    dense = [to_hex(shade) for shade in sns.blend_palette(list(_DENSE), max(2, list(kinds.values()).count("dense")))]
    looks = {"dense": (dense, _MARKERS["dense"]), "moe": (_HUES, _SHAPES), "control": (_CONTROLS, _CONTROL_SHAPES)}
    places = dict.fromkeys(looks, 0)
    found: dict[str, Style] = {}
    for name, kind in kinds.items():
        place, (colours, markers) = places[kind], looks[kind]
        places[kind] += 1
        colour, marker = colours[place % len(colours)], markers[place % len(markers)]
        kept = "dense" if kind == "dense" else "moe"
        found[name] = Style(colour=colour, marker=marker, kind=kept, control=kind == "control")
    return found


def _kind(a: Architecture) -> str:
    if isinstance(a.ffn, DenseFFN):
        return "dense"
    return "moe" if a.learns_routing else "control"


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Inches that one line of text takes in a figure; the page's own typefaces are narrower."""
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
    font.set_size(16 * size, 72)  # large, so that hinting rounds nothing
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 72 / 16


def widest(texts: Iterable[str], size: float, *, bold: bool = False) -> float:
    """Inches that the longest of some texts takes."""
    return max((text_width(text, size, bold=bold) for text in texts), default=0.0)


_NAMED = " ._-"
"""Where a name may be broken."""


def lines_of(text: str, inches: float, size: float, *, bold: bool = False, at: str = " ") -> list[str]:
    """A text in lines no wider than `inches`, broken after the characters `at`, and inside a word that is wider."""

    def wide(line: str) -> bool:
        return len(line) > 1 and text_width(line.rstrip(" "), size, bold=bold) > inches

    lines = [""]
    for part in re.findall(f"[^{re.escape(at)}]*[{re.escape(at)}]|[^{re.escape(at)}]+", text):
        if lines[-1] and wide(lines[-1] + part):
            lines.append("")
        lines[-1] += part
        while wide(lines[-1]):
            fits = max(1, next(k for k in range(len(lines[-1]) - 1, 0, -1) if not wide(lines[-1][:k])))
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return [line.rstrip(" ") for line in lines]


def name_lines(name: str, inches: float, size: float, *, bold: bool = False) -> str:
    """A name in as many lines as keep within `inches`."""
    return "\n".join(lines_of(name, inches, size, bold=bold, at=_NAMED))


_KEY_PT, _KEY_GAP, _KEY_MARK = 7.5, 0.22, 0.26


def key_rows(names: Sequence[str], inches: float) -> list[list[str]]:
    """Names of a key in rows no wider than `inches`."""
    rows: list[list[str]] = [[]]
    used = 0.0
    for name in names:
        wide = _KEY_MARK + text_width(name, _KEY_PT) + _KEY_GAP
        if rows[-1] and used + wide - _KEY_GAP > inches:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += wide
    return rows


def key_height(names: Sequence[str], inches: float = 6.2) -> float:
    """Inches that a key takes over the panels."""
    return 0.12 + 0.165 * len(key_rows(names, inches))


def key(axes: Axes, looks: Mapping[str, Style], *, line: bool = True, inches: float = 6.2) -> None:
    """Names with marker and colour, in rows over a panel from its left edge."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    box = axes.get_position()
    rows = key_rows(list(looks), inches)
    for row, names in enumerate(rows):
        x = box.x0 * width
        y = box.y1 * height + 0.12 + 0.165 * (len(rows) - 1 - row)
        for name in names:
            look, middle = looks[name], [y / height] * 3
            ends = [x / width, (x + 0.09) / width, (x + 0.18) / width]
            drawn = Line2D(ends, middle, color=look.colour, linewidth=1.6 if line else 0)
            drawn.set(marker=look.marker, markersize=4.2, markevery=[1])
            figure.add_artist(drawn)
            figure.text((x + _KEY_MARK) / width, y / height, name, fontsize=_KEY_PT, va="center_baseline", color=INK)
            x += _KEY_MARK + text_width(name, _KEY_PT) + _KEY_GAP


def plainly(axis: Axis, *, factor: float = 1.0, suffix: str = "") -> None:
    """Ticks labelled with just the value at which they stand, times `factor`: never rounded to another."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{factor * x:g}".replace("-", MINUS) + suffix))


def canvas(
    title: str,
    subtitle: str,
    *,
    height: float,
    columns: int = 1,
    widths: Sequence[float] | None = None,
    left: float = 0.62,
    right: float = 0.15,
    bottom: float = 0.5,
    headroom: float = 0.12,
    gap: float = 0.5,
    share_y: bool = False,
    panel: float = 0.85,
) -> tuple[Figure, list[Axes]]:
    """A figure with its finding as title and `columns` panels in a row.

    Lengths are in inches: `height` is that of the panels; the rest is added around them. Margins are given rather than
    solved for, because a layout engine would draw every figure several times. Where they leave a panel less than
    `panel`, the figure is wider.
    """
    margins = left + right + gap * (columns - 1)
    wide = max(_WIDTH, margins + columns * panel)
    figure, total = _sheet(title, subtitle, wide, headroom, height, bottom)
    inner = wide - margins
    shares = np.asarray(widths or [1.0] * columns) / sum(widths or [1.0] * columns)
    axes: list[Axes] = []
    x = left
    for share in shares:
        box = (x / wide, bottom / total, inner * share / wide, height / total)
        axes.append(figure.add_axes(box, sharey=axes[0] if axes and share_y else None))
        x += inner * share + gap
    return figure, axes


def grid(
    title: str,
    subtitle: str,
    *,
    panels: int,
    columns: int,
    height: float,
    left: float = 0.62,
    right: float = 0.15,
    bottom: float = 0.5,
    headroom: float = 0.22,
    gap: tuple[float, float] = (0.14, 0.24),
    share: str = "xy",
    panel: float = 0.85,
) -> tuple[Figure, list[Axes]]:
    """A figure with its finding as title and `panels` small ones, row by row, that share the axes named in `share`.

    Lengths are in inches; `height` is one panel's. Ticks of a shared axis are labelled at the figure's edge alone.
    """
    rows = -(-panels // columns)
    margins = left + right + gap[0] * (columns - 1)
    wide = max(_WIDTH, margins + columns * panel)
    figure, total = _sheet(title, subtitle, wide, headroom, rows * height + (rows - 1) * gap[1], bottom)
    width = (wide - margins) / columns
    axes: list[Axes] = []
    for place in range(panels):
        row, column = divmod(place, columns)
        y = bottom + (rows - 1 - row) * (height + gap[1])
        box = ((left + column * (width + gap[0])) / wide, y / total, width / wide, height / total)
        first = axes[0] if axes else None
        one = figure.add_axes(box, sharex=first if "x" in share else None, sharey=first if "y" in share else None)
        if "y" in share and column:
            one.tick_params(axis="y", labelleft=False)
        if "x" in share and place + columns < panels:
            one.tick_params(axis="x", labelbottom=False)
        axes.append(one)
    return figure, axes


def _sheet(title: str, subtitle: str, wide: float, *parts: float) -> tuple[Figure, float]:
    """A figure with its heading over room for the parts below each other, and its height; all in inches."""
    lines, below, head = _heading(title, subtitle, wide)
    total = sum(parts, start=head)
    figure = Figure(figsize=(wide, total))
    heading = figure.text(0.1 / wide, 1 - 0.08 / total, "\n".join(lines), fontsize=_TITLE_PT, weight="bold", va="top")
    y = 1 - (0.08 + _LINE_IN * _TITLE_PT * len(lines) + 0.03) / total
    words = figure.text(0.1 / wide, y, "\n".join(below), fontsize=_SMALL_PT, color=MUTED, va="top")
    heading.set_gid("heading")
    words.set_gid("subheading")
    return figure, total


def _heading(title: str, subtitle: str, wide: float) -> tuple[list[str], list[str], float]:
    """Lines of the title and of the subtitle, and the inches they take at the top of a figure."""
    room = wide - 0.25
    lines, below = lines_of(title, room, _TITLE_PT, bold=True), lines_of(subtitle, room, _SMALL_PT)
    return lines, below, 0.12 + _LINE_IN * (_TITLE_PT * len(lines) + _SMALL_PT * len(below))


_FINENESS: tuple[tuple[float, ...], ...] = (
    (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.5, 2, 3, 5, 7),
    (1, 2, 5),
    (1, 3),
    (1,),
)


def log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers in [low, high], low > 0, as many as fit without exceeding `most`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in _FINENESS:
        ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= most:
            return ticks
    return ticks


def panel_title(axes: Axes, text: str) -> None:
    """A small heading over one panel, at its left edge."""
    axes.text(
        0, 1, text, transform=axes.transAxes, fontsize=_SMALL_PT, weight="bold", va="bottom", ha="left", color=INK
    )


def fitted_title(axes: Axes, text: str, *, colour: str = INK, size: float = 7.5) -> None:
    """A heading over one panel, no wider than it: smaller down to 5 points, then cut in the middle."""
    room = axes.get_position().width * axes.figure.get_figwidth() + 0.06  # type: ignore[union-attr]
    while size > 5 and text_width(text, size, bold=True) > room:
        size -= 0.25
    shown, kept = text, len(text)
    while text_width(shown, size, bold=True) > room and kept > 4:
        kept -= 1  # the end tells apart what a sweep or a numbering made
        shown = f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
    axes.set_title(shown, fontsize=size, weight="bold", loc="left", pad=2.5, color=colour)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the same order and near the wanted ones: so that labels do not overlap."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [wanted[i] for i in order]
    for _ in range(50):
        for k in range(len(placed) - 1):
            lack = gap - (placed[k + 1] - placed[k])
            if lack > 1e-12:
                placed[k] -= lack / 2
                placed[k + 1] += lack / 2
    result = [0.0] * len(wanted)
    for place, i in enumerate(order):
        result[i] = placed[place]
    return result


# ---------------------------------------------------------------------------------------------- bytes


def svg_file(drawn: Drawn) -> bytes:
    """The figure as a file, title included, the same bytes every time."""
    stream = io.BytesIO()
    metadata: Mapping[str, Any] = {"Date": None, "Creator": None, "Title": drawn.title, "Description": drawn.subtitle}
    drawn.figure.savefig(stream, format="svg", metadata=metadata)
    return stream.getvalue()


def png_file(drawn: Drawn) -> bytes:
    """The figure at 200 dots an inch, title included."""
    stream = io.BytesIO()
    drawn.figure.savefig(
        stream,
        format="png",
        dpi=200,
        pil_kwargs={"compress_level": 4},
        metadata={"Software": None, "Title": drawn.title},
    )
    return stream.getvalue()


_ID = re.compile(r'(\bid="|href="#|url\(#)')
_HEADING = re.compile(r'\s*<g id="(?:sub)?heading">.*?</g>', re.DOTALL)
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")


def inline_svg(name: str, drawn: Drawn, svg: bytes, colours: Mapping[str, str]) -> str:
    """A figure file as markup for the page: no title, ids of its own, and colours that CSS can change.

    `colours` maps a hex colour to the name of the CSS variable that replaces it.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = _HEADING.sub("", text)
    text = re.sub(r"\s*<(metadata|title|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    width, height = (float(n) for n in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text).groups())  # type: ignore[union-attr]
    head = 72 * _heading(drawn.title, drawn.subtitle, width / 72)[2]
    wide = 34 * width / 72 / _WIDTH  # type is no smaller in a wider figure: it scrolls
    opening = (
        f'<svg viewBox="0 {head:.2f} {width:g} {height - head:.2f}" role="img" aria-labelledby="{name}-title" '
        f'preserveAspectRatio="xMinYMin meet" style="min-width: {wide:.4g}rem">'
    )
    text = re.sub(r"<svg\b[^>]*>", opening, text, count=1, flags=re.DOTALL)
    text = _ID.sub(lambda found: f"{found[1]}{name}-", text)
    text = text.replace("xlink:href", "href")
    return _COLOUR.sub(lambda found: f"var(--{colours[found[0]]})" if found[0] in colours else found[0], text)


def on_dark(colour: str) -> str:
    """A model's colour for a dark page: the same hue and order of shades, lighter."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour)[:3])
    return to_hex(colorsys.hls_to_rgb(hue, 0.46 + 0.5 * lightness, saturation))


def settings() -> Any:
    """A context in which figures must be made and saved."""
    return mpl.rc_context(SETTINGS)
