"""How a number is written, everywhere: terminal, tables, figures, notes of a verdict.

Digits follow the uncertainty: the half-width of an interval shows two significant digits, and the estimate and both
ends have as many decimals. Without an interval a number has three significant digits. Large and small quantities take
a prefix (kB, MFLOPs, ms), the same one for all numbers of an interval. Every interval carries its unit, and its sign
where it is a change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
INFINITE = "\N{INFINITY}"
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (0.0, "µs"))
_ROUNDING = 2e-6
"""Half-width over value below which an interval is that of rounding, and no uncertainty."""
_PREFIXED = {"bytes": "B", "FLOPs": "FLOPs", "tokens": "tokens", "parameters": "parameters"}
"""Units that take a prefix, and how they are written after it."""

End = float | str | None
"""An end of an interval: a number, words in its place (`not reached`), or None when there is no interval."""


def number(value: float, digits: int) -> str:
    """A number with `digits` after the point, thousands set apart, and a true minus sign."""
    text = f"{value:,.{max(0, digits)}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.replace("-", "")


def digits_for(half_width: float, *, most: int = 12) -> int:
    """Digits after the point that show two significant digits of a half-width."""
    if not math.isfinite(half_width) or half_width <= 0:
        return 3
    rounded = float(f"{half_width:.1e}")  # 0.0996 is 0.10: one digit fewer
    return min(most, max(0, 1 - math.floor(math.log10(rounded))))


def significant(value: float, *, figures: int = 3) -> str:
    """A number without an interval, to three significant digits, and never in powers of ten."""
    return number(value, _digits_of(value, figures))


def interval(estimate: float | None, low: End, high: End, unit: str = "", *, signed: bool | None = None) -> str:
    """`−2.1% [−2.5, −1.7]`, held together by no-break spaces.

    A side that is not bounded is written as an infinity, a missing estimate as a dash. Changes are `signed`: by default
    those in percent.
    """
    if estimate is None:
        return "–"
    plus = unit == "%" if signed is None else signed
    numbers = [end for end in (low, high) if isinstance(end, float | int) and math.isfinite(end)]
    scale, close, apart = _scaled([estimate, *numbers], unit)
    ends = [end / scale for end in numbers]
    half = (max(ends) - min(ends)) / 2 if len(ends) == 2 else abs(ends[0] - estimate / scale) if ends else 0.0
    rounding = _ROUNDING * max(abs(estimate / scale), *map(abs, ends), 0.0)  # equal values differ by no more
    digits = digits_for(half) if rounding < half < math.inf else _digits_of(estimate / scale)
    text = f"{_signed(estimate / scale, digits, plus)}{close}"
    if low is None or high is None or (low == high == estimate):
        return f"{text}{apart}"
    sides = [
        end.replace(" ", NBSP) if isinstance(end, str) else _signed(end / scale, digits, plus) for end in (low, high)
    ]
    return f"{text}{NBSP}[{sides[0]},{NBSP}{sides[1]}]{apart}"


def bracket(low: float, high: float, unit: str = "", *, signed: bool | None = None) -> str:
    """An interval without an estimate, such as `[−2.5, −1.7]%`."""
    plus = unit == "%" if signed is None else signed
    scale, close, apart = _scaled([low, high], unit)
    digits = digits_for((high - low) / 2 / scale)
    return f"[{_signed(low / scale, digits, plus)},{NBSP}{_signed(high / scale, digits, plus)}]{close}{apart}"


def _scaled(values: Iterable[float], unit: str) -> tuple[float, str, str]:
    """What to divide by, and the unit right after the estimate and after the whole."""
    if unit in {"%", "ratio", "1", ""}:
        return 1.0, {"%": "%", "ratio": TIMES}.get(unit, ""), ""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    head, gap, tail = unit.partition(" ")
    word, slash, per = head.partition("/")
    if word in _PREFIXED:
        scale, prefix = next((s, p) for s, p in _PREFIXES if largest >= s or s == 1)
        joined = f"{prefix}{_PREFIXED[word]}" if word in {"bytes", "FLOPs"} else f"{prefix} {word}".strip()
        return scale, "", f" {joined}{slash}{per}{gap}{tail}"
    if word == "s" and largest:
        scale, word = next((s, w) for s, w in _SECONDS if largest >= s)
        return scale or 1e-6, "", f" {word}{slash}{per}{gap}{tail}"
    return 1.0, "", f" {unit}"


def _signed(value: float, digits: int, plus: bool) -> str:
    if not math.isfinite(value):
        return f"{MINUS if value < 0 else ''}{INFINITE}"
    text = number(value, digits)
    return f"+{text}" if plus and value > 0 and float(text.replace(",", "")) else text


def _digits_of(value: float, figures: int = 3) -> int:
    if not value or not math.isfinite(value):
        return 0
    return min(12, max(0, figures - 1 - math.floor(math.log10(float(f"{abs(value):.{figures - 1}e}")))))


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
    """`1.94 ms`, `33.1 ms`, `12.0 s`."""
    scale, unit = next((s, u) for s, u in _SECONDS if value >= s)
    scaled = value / (scale or 1e-6)
    return f"{number(scaled, max(0, 2 - math.floor(math.log10(scaled)))) if scaled > 0 else '0'} {unit}"


def plural(n: int, thing: str, things: str | None = None) -> str:
    """`1 seed`, `8 seeds`."""
    return f"{n} {thing if n == 1 else things or thing + 's'}"
