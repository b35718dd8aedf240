"""How numbers and lists are written, everywhere: terminal, tables, figures, notes of a verdict.

Digits follow the uncertainty: the half-width of an interval shows two significant digits, and the estimate and both
ends have as many decimals. Without an interval a number has three significant digits. Large and small quantities take
a prefix (kB, MFLOPs, ms), the same one for all numbers of an interval. Every interval carries its unit, and its sign
where it is a change.
"""

from __future__ import annotations

import math
import re
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
_SIZES = ((10e6, "nano"), (100e6, "small"), (1e9, "medium"), (math.inf, "large"))
"""Active parameters below which a model is called so."""

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


def exact_number(value: float) -> str:
    """A count in full, another exact number up to twelve digits: `12,900,000,000`."""
    whole = abs(value) < 1e15 and value == int(value)
    return (f"{value:,.0f}" if whole else f"{value:,.12g}").replace("-", MINUS)


def exact_quantity(value: float, unit: str) -> str:
    """The same with its unit: `46,702,792,704 parameters`, `0.7283` for a share, `2021` for a year."""
    if unit == "year":
        return f"{value:.12g}"
    number = exact_number(value) if value == int(value) else f"{value:.4g}".replace("-", MINUS)
    one = unit.removesuffix("s") if value == 1 and unit.isalpha() else unit
    return number if unit == "1" else f"{number} {one}"


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


def params(value: int) -> str:
    """A number of parameters or tokens as published models have it: `0.11 M`, `7.2 B`."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value}"


def size_word(active: int) -> str:
    """What a model of so many active parameters is called: `nano` below 10 million."""
    return next(word for limit, word in _SIZES if active < limit)


def compact(value: float, units: str) -> str:
    """Three digits and a unit, of those for 10^6, 10^9 and 10^12, for narrow columns: `46.7B` with units MBT."""
    power = min(max(int(math.log10(max(value, 1))) // 3, 2), 4)
    scaled = value / 10 ** (3 * power)
    return f"{scaled:.{max(0, 3 - len(str(int(scaled))))}f}{units[power - 2]}"


def short(text: str) -> str:
    """`1 M` for `1.00 M` and `1.5 M` for `1.50 M`, as on axes."""
    return re.sub(r"\.?0+(?= |$)", "", text) if "." in text else text


def span(counts: Iterable[int]) -> str:
    """`8`, or `6 to 8` where counts differ."""
    ordered = sorted(counts)
    return str(ordered[0]) if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def p_value(p: float | None) -> str:
    """`p 0.0039`, to two significant digits; `p < 0.0001` below that."""
    if p is None:
        return ""
    return "p < 0.0001" if p < 0.0001 else f"p {p:.2g}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    parts = list(words)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else "none"


def sentence(text: str) -> str:
    """With a full stop, and a capital unless it begins with a symbol such as `p`."""
    text = text.strip()
    start = text[:1] if text[1:2] == " " else text[:1].upper()
    return f"{start}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
