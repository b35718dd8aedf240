"""What each state of a verdict or control is called, its sign, and the short facts that stand beside it."""

from __future__ import annotations

from moebench.claims.verdict import Verdict
from moebench.format import p_value, plural

STATES = {
    "supported": "SUPPORTED",
    "refuted": "REFUTED",
    "inconclusive": "INCONCLUSIVE",
    "interim": "INTERIM",
    "invalid": "INVALID",
    "not_tested": "NOT TESTED",
    "cited": "CITED",
}
SHAPES = {"supported": "▲", "refuted": "▼", "inconclusive": "◆", "interim": "◇", "invalid": "✕", "not_tested": "○",
          "cited": "❝"}  # fmt: skip
CONTROLS = {
    "passed": "passed", "failed": "FAILED", "too_wide": "too wide to tell", "found": "a finding",
    "not_tested": "not tested",
}  # fmt: skip
MOST_PARTS = 20
"""Parts of a claim that a page lists."""
UNITS = {"seeds": ("seed",), "processes": ("process", "processes"), "counts": ("count",), "items": ("item",)}


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
    if verdict.modelled and verdict.units == "counts":
        return "modelled" + (f", {plural(len(verdict.systems), 'system')}" if verdict.systems else "")
    if verdict.systems:
        return f"exact, {plural(len(verdict.systems), 'system')}"
    return "exact" if verdict.units == "counts" else plural(verdict.n, *UNITS[verdict.units])


def parts(verdict: Verdict) -> list[tuple[Verdict, str]]:
    """The parts of a claim that has several, as many as are listed, each with what stands beside its effect."""
    return [(part, " · ".join(filter(None, _beside(part)))) for part in verdict.parts[:MOST_PARTS]]


def _beside(part: Verdict) -> tuple[str, ...]:
    return (counted(part), decisive_p(part)) if part.estimate is not None else (part.reason,)


def more_parts(verdict: Verdict) -> str:
    """How many are not listed; empty when all are."""
    left = len(verdict.parts) - MOST_PARTS
    return f"and {left} more, in claims.json" if left > 0 else ""


def effect(verdict: Verdict) -> str:
    """A verdict's estimate with its interval; a dash when nothing was measured."""
    return verdict.effect or "–"
