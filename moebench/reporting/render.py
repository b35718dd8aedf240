"""From sections, figures and tables to the bytes of index.html and index.md.

The page is one file that fetches nothing. Everything that came from outside (names, questions, texts of claims, reasons
of failures) is escaped: by jinja2 in html, by `_plain` in markdown, by matplotlib inside the figures.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from moebench import __version__
from moebench.reporting import answers, overview, page, states
from moebench.reporting.analysis import Findings
from moebench.reporting.answers import Answers
from moebench.reporting.canvas import Drawn
from moebench.reporting.figures import FIGURES
from moebench.reporting.overview import Entry
from moebench.reporting.part import placed
from moebench.reporting.svg import inline_svg
from moebench.reporting.tables import Table
from moebench.reporting.theme import (
    ANSWER_COLOURS,
    DARK,
    FAMILIES,
    GREY,
    GRID,
    INK,
    LADDER,
    MUTED,
    PAPER,
    SHADE,
    STATE_COLOURS,
    STATE_DARK,
    Style,
    on_dark,
)

Drawings = Mapping[str, Drawn | str]
_SHOWN_ROWS = 200
"""Rows of one table on the page; the csv has all."""


def html(findings: Findings, tables: Mapping[str, Table], drawn: Drawings, svgs: Mapping[str, bytes]) -> str:
    """The page. `svgs` are the figure files, which the page takes in."""
    colours = _colours(findings.styles)
    inline = {
        name: Markup(inline_svg(name, one, svgs[name], colours))  # noqa: S704  ours; matplotlib escaped its texts
        for name, one in drawn.items()
        if isinstance(one, Drawn)
    }
    context = _context(findings, tables, drawn)
    template = _templates().get_template("index.html.j2")
    return template.render(**context, inline=inline, colours=_css(colours))


def markdown(findings: Findings, tables: Mapping[str, Table], drawn: Drawings, files: Collection[str]) -> str:
    """The same content for repositories and pull requests; figures of `files` by relative path, others on the page."""
    context = _context(findings, tables, drawn)
    template = _templates().get_template("index.md.j2")
    return _tidy(template.render(**context, files=files, suite_block=_indented(page.suite_text(findings))))


def overview_html(entries: Sequence[Entry], unreadable: Sequence[str], results_name: str, claims: str | None) -> str:
    """The page of all suites; `claims` is the address of the catalogue's page."""
    context = _overview(entries, unreadable, results_name, claims)
    return _templates().get_template("overview.html.j2").render(**context, colours=_css(_colours({})))


def overview_markdown(
    entries: Sequence[Entry], unreadable: Sequence[str], results_name: str, claims: str | None
) -> str:
    """The same content for repositories."""
    context = _overview(entries, unreadable, results_name, claims)
    return _tidy(_templates().get_template("overview.md.j2").render(**context))


def _overview(
    entries: Sequence[Entry], unreadable: Sequence[str], results_name: str, claims: str | None
) -> dict[str, Any]:
    lines = overview.summary(entries, unreadable)
    return {
        "entries": entries, "summary": lines, "results_name": results_name, "claims": claims, "version": __version__,
    }  # fmt: skip


def claims_html(found: Answers, command: str) -> str:
    """The page of the catalogue."""
    colours = {**_colours({}), **{colour: f"s-{_state_id(state)}" for state, colour in ANSWER_COLOURS.items()}}
    return _templates().get_template("claims.html.j2").render(**_claims(found, command), colours=_css(colours))


def claims_markdown(found: Answers, command: str) -> str:
    """The same content for repositories."""
    return _tidy(_templates().get_template("claims.md.j2").render(**_claims(found, command)))


def _claims(found: Answers, command: str) -> dict[str, Any]:
    return {"found": found, "words": answers, "command": command, "version": __version__}


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _context(findings: Findings, tables: Mapping[str, Table], drawn: Drawings) -> dict[str, Any]:
    return {
        "title": page.title(findings),
        "question": findings.plan.spec.question,
        "glance": page.at_a_glance(findings),
        "answer": page.answer(findings),
        "scope": page.scope(findings),
        "meanings": page.meanings(findings),
        "tallies": page.tallies(findings.verdicts),
        "verdicts": findings.verdicts,
        "sections": page.sections(findings),
        "above": placed(FIGURES, "verdicts", findings),
        "provenance": page.provenance(findings),
        "suite_text": page.suite_text(findings),
        "tables": {name: {"table": table, "rows": list(table.rows())} for name, table in tables.items()},
        "drawn": drawn,
        "shown_rows": _SHOWN_ROWS,
    }


@lru_cache(maxsize=1)
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("moebench.reporting"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        states=states,
        state_id=_state_id,
        evidence_line=page.evidence_line,
        about=page.about,
        why=page.why,
        plain=_plain,
    )
    return made


def _colours(looks: Mapping[str, Style]) -> dict[str, str]:
    """Hex colour -> CSS variable, for all colours that figures use on purpose."""
    fixed = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", SHADE: "shade", GREY: "grey"}
    states = {colour: f"s-{_state_id(state)}" for state, colour in STATE_COLOURS.items()}
    families = {style.colour: f"f-{place}" for place, style in enumerate((LADDER, *FAMILIES))}
    models = {style.colour: f"m-{place}" for place, style in enumerate(looks.values())}
    return {**families, **models, **states, **fixed}


def _css(names: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Values of the variables on a light and on a dark page."""
    dark = {**DARK, **{STATE_COLOURS[state]: colour for state, colour in STATE_DARK.items()}}
    return {
        "light": [(name, colour) for colour, name in names.items()],
        "dark": [(name, dark.get(colour) or on_dark(colour)) for colour, name in names.items()],
    }


def _state_id(state: str) -> str:
    return state.replace("_", "-")


# Brackets are special only where a link could follow, underscores only at the edge of a word.
_SPECIAL = re.compile(r"[\\`*<>|~$&#!]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")


def _plain(text: object) -> str:
    """Text that markdown shows as it is, on one line, in a paragraph or in a table's cell."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))


def _indented(text: str) -> str:
    """A block of code that no text inside can end early."""
    return "\n".join(f"    {line}" for line in text.splitlines())
