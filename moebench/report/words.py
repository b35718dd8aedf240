"""Numbers as words: sizes with their unit, intervals to two digits of their half-width, counts of things.

One place decides how a number is written, so that a figure's title, a table and the page never disagree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from moebench.claims import Verdict

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
STATES = {
    "supported": "SUPPORTED",
    "refuted": "REFUTED",
    "inconclusive": "INCONCLUSIVE",
    "interim": "INTERIM",
    "invalid": "INVALID",
    "not_tested": "NOT TESTED",
}
SHAPES = {
    "supported": "▲",
    "refuted": "▼",
    "inconclusive": "◆",
    "interim": "◇",
    "invalid": "✕",
    "not_tested": "○",
}
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))


def number(value: float, digits: int) -> str:
    """A number with `digits` after the point, thousands set apart, and a true minus sign."""
    text = f"{value:,.{max(0, digits)}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.replace("-", "")


def digits_for(half_width: float, *, most: int = 6) -> int:
    """Digits after the point that show two significant digits of a half-width."""
    if not math.isfinite(half_width) or half_width <= 0:
        return 3
    return min(most, max(0, 1 - math.floor(math.log10(half_width))))


def interval(
    estimate: float | None, low: float | None, high: float | None, unit: str = "", *, signed: bool | None = None
) -> str:
    """`−2.1% [−2.5, −1.7]`, held together by no-break spaces.

    A side that is not bounded is written as an infinity, a missing estimate as a dash. Changes are `signed`: by default
    those in percent.
    """
    if estimate is None:
        return "–"
    plus = unit == "%" if signed is None else signed
    ends = [end for end in (low, high) if end is not None and math.isfinite(end)]
    half = (ends[1] - ends[0]) / 2 if len(ends) == 2 else 0.0
    digits = digits_for(half) if half > 0 else _plain_digits(estimate)
    close, apart = {"%": ("%", ""), "ratio": (TIMES, ""), "1": ("", ""), "": ("", "")}.get(unit, ("", f" {unit}"))
    text = f"{_signed(estimate, digits, plus)}{close}"
    if low is None or high is None or (low == high == estimate):
        return f"{text}{apart}"
    return f"{text}{NBSP}[{_signed(low, digits, plus)},{NBSP}{_signed(high, digits, plus)}]{apart}"


def _signed(value: float, digits: int, plus: bool) -> str:
    if not math.isfinite(value):
        return f"{MINUS if value < 0 else ''}∞"
    text = number(value, digits)
    return f"+{text}" if plus and value > 0 and float(text.replace(",", "")) else text


def _plain_digits(value: float) -> int:
    return min(6, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0


def count(value: float) -> str:
    """`117 k`, `2.41 M`: three significant digits with a prefix; whole numbers below 1000 as they are."""
    if value == 0:
        return "0"
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale * 0.9995:
            scaled = value / scale
            digits = 0 if not prefix and value == int(value) else max(0, 2 - math.floor(math.log10(abs(scaled)) + 1e-4))
            return f"{number(scaled, digits)} {prefix}".strip()
    return f"{value:.3g}"


def quantity(value: float, unit: str) -> str:
    """A value in its metric's unit: `1.28 MB`, `705 kFLOPs`, `1.94 ms`."""
    if unit == "s":
        return seconds(value)
    if unit.startswith("bytes"):
        return f"{_spaced(count(value))}B{unit.removeprefix('bytes')}"
    if unit.startswith("FLOPs"):
        return f"{_spaced(count(value))}{unit}"
    if unit in {"parameters", "tokens"}:
        return count(value)
    return f"{value:.4g}" if unit in {"1", ""} else f"{value:.4g} {unit}"


def _spaced(text: str) -> str:
    return text if " " in text else f"{text} "


def seconds(value: float) -> str:
    """`1.94 ms`, `33.1 ms`, `12 s`."""
    scale, unit = next((s, u) for s, u in _SECONDS if value >= s)
    scaled = value / (scale or 1e-6)
    return f"{number(scaled, max(0, 2 - math.floor(math.log10(scaled)))) if scaled > 0 else '0'} {unit}"


def short(text: str) -> str:
    """`1 M` for `1.00 M` and `1.5 M` for `1.50 M`, as on axes."""
    return re.sub(r"\.?0+(?= |$)", "", text) if "." in text else text


def plural(n: int, thing: str, things: str | None = None) -> str:
    """`1 seed`, `8 seeds`."""
    return f"{n} {thing if n == 1 else things or thing + 's'}"


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
    """`8 pairs`, or `exact` for a count; empty when nothing was measured."""
    if not verdict.n:
        return ""
    return "exact" if verdict.units == "counts" else f"{verdict.n} {verdict.units}"


def effect(verdict: Verdict) -> str:
    """A verdict's estimate with its interval; for `recovers` the share that a reader wants, not the contrast."""
    if verdict.share is not None:
        share = interval(verdict.share, verdict.share_low, verdict.share_high, "%", signed=False)
        return f"{share} recovered"
    if verdict.estimate is None:
        return "never reached" if "estimate" in verdict.unbounded else "–"
    if verdict.unit == "ratio" and verdict.estimate == 0:
        # Over an infinite cost: the treatment never got there in the middle pair.
        ends = [digits_for(end) if end else 0 for end in (verdict.low, verdict.high)]
        known = [number(end or 0.0, digits) for end, digits in zip((verdict.low, verdict.high), ends, strict=True)]
        return f"not reached{NBSP}[{known[0]},{NBSP}{known[1]}]"
    low = -math.inf if verdict.low is None and "low" in verdict.unbounded else verdict.low
    high = math.inf if verdict.high is None and "high" in verdict.unbounded else verdict.high
    return interval(
        verdict.estimate, low, high, verdict.unit, signed=verdict.unit != "ratio" and verdict.kind != "exact"
    )


def pretty(text: str) -> str:
    """Plain words of a verdict with the signs that print well: `>=` and `2x` as `≥` and `2×`."""
    text = text.replace(">=", "≥").replace("<=", "≤")
    return re.sub(r"(?<=\d)x\b", TIMES, re.sub(r"(?<![\w.])-(?=[\d.])", MINUS, text))
