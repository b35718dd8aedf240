"""Which of two models is lower in a metric, as far as verdicts decide it: what titles and headlines may state.

Where a claim of the suite is about the pair and the metric, its verdict rules: a claim that is inconclusive leaves the
pair undecided, whatever an interval beside it looks like. Of other pairs the same question is asked as a claim with
margin 0 would ask it, by the same preconditions, intervals and tests. A pair whose runs are not all there is undecided.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from moebench.claims.judge import ask
from moebench.claims.kinds import KINDS
from moebench.claims.verdict import Verdict
from moebench.metrics import metric_of
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim


@dataclass(frozen=True, kw_only=True)
class Order:
    """What may be said of one model against another in one metric."""

    side: Literal["lower", "higher"] | None
    """Where the first model lies; None where that is undecided."""
    verdict: Verdict | None
    """What decided, or did not: of a claim of the suite, or of the question asked for the title."""
    claimed: bool
    """Whether the suite has a claim about the pair and the metric."""


def order(evidence: Evidence, verdicts: Sequence[Verdict], model: str, other: str, metric: str) -> Order:
    """Whether `model` is lower or higher than `other` in `metric`."""
    about = _about(verdicts, {model, other}, metric)
    if about:
        # A primary claim rules over exploratory ones; of equals one that decides comes first.
        first = [verdict for verdict in about if verdict.label == "primary"] or about
        verdict = next((verdict for verdict in first if _side(verdict)), first[0])
        return Order(side=_seen_from(model, verdict), verdict=verdict, claimed=True)
    if metric_of(metric).better == "neither":
        return Order(side=None, verdict=None, claimed=False)
    (verdict,) = ask(evidence, {"title": _question(model, other, metric)})
    return Order(side=_seen_from(model, verdict), verdict=verdict, claimed=False)


def _question(model: str, other: str, metric: str) -> Claim:
    compare = {"treatment": model, "baseline": other}
    block = {"says": "which is better", "compare": compare, "metric": metric, "test": {"kind": "superior"}}
    return Claim.model_validate(block)


def _about(verdicts: Iterable[Verdict], pair: set[str], metric: str) -> list[Verdict]:
    return [
        verdict
        for verdict in verdicts
        if verdict.of_two and verdict.metric == metric and {verdict.treatment, verdict.baseline} == pair
    ]


def _seen_from(model: str, verdict: Verdict) -> Literal["lower", "higher"] | None:
    side = _side(verdict)
    if side is None or verdict.treatment == model:
        return side
    return "higher" if side == "lower" else "lower"


def _side(verdict: Verdict) -> Literal["lower", "higher"] | None:
    """Where a verdict puts the treatment against the baseline; None where what it decides holds both sides."""
    if verdict.state not in ("supported", "refuted") or verdict.estimate is None:
        return None
    none = 1.0 if verdict.unit == "ratio" else 0.0
    if verdict.units == "counts" and verdict.estimate == none:
        return None
    low = -math.inf if verdict.asked_low is None else verdict.asked_low
    high = math.inf if verdict.asked_high is None else verdict.asked_high
    if verdict.state == "refuted":  # the other side of the bound; of two bounds, the one that was passed
        below = high == math.inf or (low > -math.inf and verdict.estimate < low)
        low, high = (-math.inf, low) if below else (high, math.inf)
    if not (high <= none or low >= none):
        return None
    # Speed-ups divide the baseline by the treatment: a larger one is a lower treatment.
    divides = KINDS[verdict.kind].divides and metric_of(verdict.metric).better != "higher"
    return "lower" if (high <= none) != divides else "higher"
