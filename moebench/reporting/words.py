"""Numbers as words: sizes with their unit, intervals to two digits of their half-width, counts of things.

One place decides how a number is written, so that a figure's title, a table and the page never disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from moebench.claims.verdict import Verdict
from moebench.format import (
    MINUS,
    NBSP,
    TIMES,
    bracket,
    count,
    digits_for,
    interval,
    number,
    plural,
    quantity,
    seconds,
    significant,
)

STATES = {
    "supported": "SUPPORTED",
    "refuted": "REFUTED",
    "inconclusive": "INCONCLUSIVE",
    "interim": "INTERIM",
    "invalid": "INVALID",
    "not_tested": "NOT TESTED",
}
UNITS = {"seeds": ("seed",), "processes": ("process", "processes"), "counts": ("count",)}
SHAPES = {
    "supported": "▲",
    "refuted": "▼",
    "inconclusive": "◆",
    "interim": "◇",
    "invalid": "✕",
    "not_tested": "○",
}

CONTROLS = {
    "passed": "passed",
    "failed": "FAILED",
    "too_wide": "too wide to tell",
    "not_tested": "not tested",
}


def short(text: str) -> str:
    """`1 M` for `1.00 M` and `1.5 M` for `1.50 M`, as on axes."""
    return re.sub(r"\.?0+(?= |$)", "", text) if "." in text else text


def span(counts: Iterable[int]) -> str:
    """`8`, or `6 to 8` where counts differ."""
    low, *_, high = (*(found := sorted(counts)), found[-1])
    return str(low) if low == high else f"{low} to {high}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    parts = list(words)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "none"


def sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with a symbol such as `p`."""
    text = text.strip()
    start = text[:1] if text[1:2] == " " else text[:1].upper()
    return f"{start}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def p_value(p: float | None) -> str:
    """`p 0.0039`, to two significant digits; `p < 0.0001` below that."""
    if p is None:
        return ""
    return "p < 0.0001" if p < 0.0001 else f"p {p:.2g}"


def decisive_p(verdict: Verdict) -> str:
    """`p 0.0039 (Holm 0.016)`; for a refuted claim that of the refutation, `p 0.0039 against`. Empty without one."""
    against = verdict.state == "refuted"
    p, adjusted = (verdict.p_against, verdict.p_against_adjusted) if against else (verdict.p, verdict.p_adjusted)
    if p is None:
        return ""
    holm = f" (Holm {p_value(adjusted).removeprefix('p ')})" if adjusted is not None else ""
    return f"{p_value(p)}{' against' if against else ''}{holm}"


def counted(verdict: Verdict) -> str:
    """`8 seeds`, or `exact` for a count; empty when nothing was measured. A pair of runs is counted by its seed."""
    if not verdict.n:
        return ""
    return "exact" if verdict.units == "counts" else plural(verdict.n, *UNITS[verdict.units])


def effect(verdict: Verdict) -> str:
    """A verdict's estimate with its interval; a dash when nothing was measured."""
    return verdict.effect or "–"


def pretty(text: str) -> str:
    """Plain words of a verdict with the signs that print well: `>=` and `2x` as `≥` and `2×`."""
    text = text.replace(">=", "≥").replace("<=", "≤")
    return re.sub(r"(?<=\d)x\b", TIMES, re.sub(r"(?<![\w.])-(?=[\d.])", MINUS, text))


__all__ = [
    "CONTROLS",
    "MINUS",
    "NBSP",
    "SHAPES",
    "STATES",
    "TIMES",
    "bracket",
    "count",
    "counted",
    "decisive_p",
    "digits_for",
    "effect",
    "interval",
    "listed",
    "number",
    "p_value",
    "plural",
    "pretty",
    "quantity",
    "seconds",
    "sentence",
    "short",
    "significant",
    "span",
]
