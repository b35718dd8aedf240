"""Loads of experts that chance alone would have made.

Experts that received no token of a short evaluation are mostly those that chance left out: of n assignments, each to
one of E experts at random, E (1 - 1/E)^n are expected to be idle (occupancy; Feller 1968, IV.2), with the variance
below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moebench.claims.hypothesis import Contrast
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan
from moebench.reader.evidence import Outcome

IDLE = "routing.dead_experts"
CLEAR = 2.0
"""Standard deviations from what chance expects, beyond which idle experts are told from chance."""
NEGLIGIBLE = 0.5
"""Experts that chance leaves idle, below which none is its doing."""


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Experts of one model without a token, over all layers and some runs, and what chance would leave."""

    model: str
    idle: float
    expected: float
    variance: float
    runs: int

    @staticmethod
    def of(model: str, runs: Iterable[Outcome]) -> Idle | None:
        """From the tokens of each expert in the runs' last evaluation; None where no run recorded them."""
        recorded = [(run.values[IDLE], loads) for run in runs if IDLE in run.values and (loads := _loads(run))]
        left = [occupancy(len(load), sum(load)) for _, loads in recorded for load in loads.values()]
        if not recorded:
            return None
        return Idle(
            model=model,
            idle=sum(idle for idle, _ in recorded),
            expected=sum(mean for mean, _ in left),
            variance=sum(variance for _, variance in left),
            runs=len(recorded),
        )

    @property
    def is_chance(self) -> bool:
        """Whether it cannot be told from what chance alone leaves idle."""
        some = self.expected / self.runs >= NEGLIGIBLE
        return some and abs(self.idle - self.expected) <= CLEAR * math.sqrt(self.variance)


def occupancy(experts: int, assignments: float) -> tuple[float, float]:
    """Mean and variance of the experts left idle by assignments that each go to an expert at random."""
    one, two = (1 - 1 / experts) ** assignments, max(0.0, 1 - 2 / experts) ** assignments
    mean = experts * one
    return mean, max(0.0, mean + experts * (experts - 1) * two - mean**2)


def by_chance(plan: Plan, contrast: Contrast, runs: Iterable[Outcome]) -> str | None:
    """Why idle experts show nothing: no compared model's number can be told from what chance leaves idle."""
    if any(term.base != IDLE for term in contrast.terms):
        return None
    done = [run for run in runs if run.status == "completed"]
    idle = [Idle.of(name, [run for run in done if run.model == name]) for name in contrast.models]
    if not idle or not all(one is not None and one.is_chance for one in idle):
        return None
    each = ", ".join(f"{one.model} {one.idle / one.runs:.3g} ({one.expected / one.runs:.3g})" for one in idle if one)
    asked = max(plan.decoders[name].recipe.eval_tokens for name in contrast.models)
    return (
        f"chance: idle experts of each run, and those that chance alone leaves: {each}: they cannot be told apart; "
        f"evaluate more tokens than {asked:,}"
    )


def notes(contrast: Contrast, runs: Iterable[Outcome]) -> Iterator[str]:
    """How uneven chance alone makes the loads of the compared models, where their tokens an expert differ."""
    bases = {term.base for term in contrast.terms}
    base = bases.pop()
    if bases or base not in _EVEN:
        return
    done = [run for run in runs if run.status == "completed"]
    expected: dict[str, float] = {}
    for model in contrast.models:
        loads = [load for run in done if run.model == model for load in _loads(run).values()]
        if loads and all(len(load) > 1 and sum(load) > 0 for load in loads):
            expected[model] = sum(_EVEN[base](len(load), sum(load)) for load in loads) / len(loads)
    if len(expected) < 2 or max(expected.values()) - min(expected.values()) < 0.001:
        return
    each = ", ".join(f"{value:.3f} for {model}" for model, value in expected.items())
    yield f"{base} of perfectly even routing would be, by chance, {each}: they differ in tokens an expert"


def _even_entropy(experts: int, assignments: float) -> float:
    """Of even routing of n assignments to E experts, 1 - (E - 1) / (2 n log E) (Miller 1955)."""
    return max(0.0, 1 - (experts - 1) / (2 * assignments * math.log(experts)))


def _even_maximum(experts: int, assignments: float) -> float:
    """The busiest expert over the mean: near 1 + sqrt(2 log(E) E / n)."""
    return 1 + math.sqrt(2 * math.log(experts) * experts / assignments)


_EVEN = {"routing.entropy": _even_entropy, "routing.max_over_mean": _even_maximum}


def _loads(run: Outcome) -> dict[str, list[float]]:
    """Layer -> tokens of each of its experts in the last evaluation."""
    loads: dict[str, list[float]] = {}
    for metric, tokens in run.values.items():
        ref = MetricRef.parse(metric)
        if ref.base == "routing.tokens":
            loads.setdefault(ref.get("layer") or "", []).append(tokens)
    return loads
