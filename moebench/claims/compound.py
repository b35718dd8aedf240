"""Claims of several parts: what the parts' p values say together, and in what words.

Partial conjunction (Benjamini and Heller, Biometrics 64, 2008), in Bonferroni's form, which holds whatever hangs
together: that at least u of m parts are so has p = (m - u + 1) p_(u), the u-th smallest. With u = m it is the largest
of them (intersection-union), with u = 1 Bonferroni's. A claim of at least u is refuted when m - u + 1 are shown to
fail, by the same rule. It is one member of Holm's family; what is printed is the u-th part, by p.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from moebench.claims.decide import ALPHA, Correction, Finding
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.kinds.part import CLAIMS, Parts
from moebench.claims.verdict import State
from moebench.text import listed

MOST_NAMED = 5
"""Parts that a reason names one by one."""


def p_of(ps: Sequence[float], need: int) -> float:
    """One-sided p of "at least `need` of these are so"."""
    return min(1.0, (len(ps) - need + 1) * sorted(ps)[need - 1])


def deciding(p_for: Sequence[float], p_against: Sequence[float], clear: Sequence[float], need: int) -> int:
    """Which part's numbers are the claim's: the `need`-th by p.

    Of equals those that speak against it come last, and then those that clear their bound by less: by how many
    standard errors is `clear`.
    """
    order = sorted(range(len(p_for)), key=lambda i: (p_for[i], -p_against[i], -clear[i]))
    return order[need - 1]


def cleared(finding: Finding, hypothesis: Hypothesis, n: int) -> float:
    """By how many standard errors of its seeds an effect lies beyond the bound that it is nearest to."""
    signs = {"above": 1, "below": -1}
    beyond = min(signs[bound.side] * (finding.centre - bound.value) for bound in hypothesis.support)
    if math.isnan(beyond):
        return -math.inf
    error = finding.sd / math.sqrt(n) if finding.sd else 0.0
    return beyond / error if error else math.copysign(math.inf, beyond)


def settle(
    parts: Parts, states: Sequence[State], own: tuple[float, float], correction: Correction, level: float
) -> tuple[State, str]:
    """The state and why. `own` are its p for and against before other claims; `states` those of its parts alone."""
    need = parts.need
    shown = {state: sum(one == state for one in states) for state in ("supported", "refuted")}
    if own[0] <= level:
        state: State = "supported"
        p, held, words = correction.p_for, level, _hold(parts, shown["supported"])
    elif own[1] <= ALPHA:
        state = "refuted"
        p, held, words = correction.p_against, ALPHA, _fail(parts, shown["refuted"])
    else:
        return "inconclusive", _undecided(parts, states, need)
    held = ALPHA if correction.in_family else held
    if correction.words and p > held:
        return "inconclusive", f"{words}, but not after {correction.words}: adjusted p = {p:.3g}, above {held:g}"
    return state, words


def _hold(parts: Parts, number: int) -> str:
    """`it holds in 2 of 3 domains`, `both claims hold`."""
    m = len(parts.of)
    if m == 1:
        return "it holds"
    many = ("both" if m == 2 else f"all {m}") if number == m else f"{number} of {m}"
    return f"{many} {parts.what} hold" if parts.what == CLAIMS else f"it holds {parts.where} {many} {parts.what}"


def _fail(parts: Parts, number: int) -> str:
    m = len(parts.of)
    if m == 1:
        return "it fails"
    return (
        f"{number} of {m} {parts.what} fail"
        if parts.what == CLAIMS
        else (f"it fails {parts.where} {number} of {m} {parts.what}")
    )


def _undecided(parts: Parts, states: Sequence[State], need: int) -> str:
    """How many are shown to hold, which are not, and that several chances at once are paid for."""
    m = len(parts.of)
    hold = sum(state == "supported" for state in states)
    asked = "all are" if need == m else f"at least {need} {'is' if need == 1 else 'are'}"
    words = f"{_hold(parts, hold)}, where {asked} asked for" if m > 1 else "it is not shown to hold"
    if hold >= need:
        return f"{words}, but not when p counts that any {need} of {m} would do (× {m - need + 1})"
    open_ = [part.name for part, state in zip(parts.of, states, strict=True) if state == "inconclusive"]
    if not open_:
        return words
    more = f" and {len(open_) - MOST_NAMED} more" if len(open_) > MOST_NAMED else ""
    return f"{words}; undecided: {', '.join(open_[:MOST_NAMED])}{more}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def merged(notes: Iterable[tuple[str, Iterable[str]]], total: int) -> tuple[str, ...]:
    """Notes of parts, each once: those that not all have say whose they are."""
    whose: dict[str, list[str]] = {}
    for name, lines in notes:
        for line in lines:
            whose.setdefault(line, []).append(name)
    return tuple(
        line if len(names) == total else f"{listed(names[:MOST_NAMED], last='and')}: {line}"
        for line, names in whose.items()
    )


def asked(parts: Parts, of_part: str) -> str:
    """`≥ 0.5% lower in all 3 domains`, or the names of the claims that are put together."""
    m, need = len(parts.of), parts.need
    if parts.asked is not None:
        return parts.asked
    if parts.what == CLAIMS:
        return f"{'all' if need == m else 'any'} of {listed([part.name for part in parts.of], last='and')}"
    many = ("both" if m == 2 else f"all {m}") if need == m else f"at least {need} of {m}"
    return f"{of_part} {parts.where} {many} {parts.what}"
