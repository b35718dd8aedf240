"""From a figure to bytes: a file with its title, for papers, and markup for the page.

On the page the title is the page's own text, and the fixed colours become CSS variables so that dark mode and print
restyle them. The same figure gives the same bytes every time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

from moebench.reporting.canvas import WIDTH, Drawn, heading_height


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
    head = 72 * heading_height(drawn.title, drawn.subtitle, width / 72)
    wide = 34 * width / 72 / WIDTH  # type is no smaller in a wider figure: it scrolls
    opening = (
        f'<svg viewBox="0 {head:.2f} {width:g} {height - head:.2f}" role="img" aria-labelledby="{name}-title" '
        f'preserveAspectRatio="xMinYMin meet" style="min-width: {wide:.4g}rem">'
    )
    text = re.sub(r"<svg\b[^>]*>", opening, text, count=1, flags=re.DOTALL)
    text = _ID.sub(lambda match: f"{match[1]}{name}-", text)
    text = text.replace("xlink:href", "href")
    return _COLOUR.sub(lambda match: f"var(--{colours[match[0]]})" if match[0] in colours else match[0], text)
