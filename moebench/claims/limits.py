"""What a number cannot show: counts that are bounds, and loads that chance alone would have made.

A planned count of a router that may compute fewer pairs than top_k is the most it can be: it shows that a model costs
less, never that it costs more, nor how much exactly. Experts that received no token of a short evaluation are mostly
those that chance left out: of n pairs, each to one of E experts at random, E (1 - 1/E)^n are expected to be idle
(occupancy; Feller 1968, IV.2), with the variance below.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from moebench.claims.decide import Finding
from moebench.claims.hypothesis import Contrast, Hypothesis
from moebench.metrics.declared import parse_metric
from moebench.planning.types import Plan
from moebench.reader.evidence import Outcome

_OF_TRAINING = ("cost.train_flops_per_token",)
_OF_EVALUATION = ("cost.decode_flops_per_token", "cost.active_params", "cost.active_params_no_embedding")
IDLE = "routing.dead_experts"
APART = 2.0
"""Standard deviations from what chance expects, beyond which idle experts are told from chance."""
NEGLIGIBLE = 0.5
"""Experts that chance leaves idle, below which none is its doing."""


# ---------------------------------------------------------------------------------------------- bounds


def bounded(plan: Plan, contrast: Contrast) -> tuple[str, ...]:
    """The models whose count in a contrast is a bound from above."""
    return tuple(dict.fromkeys(term.model for term in contrast.terms if _is_bound(plan, term.model, term.metric)))


def _is_bound(plan: Plan, model: str, metric: str) -> bool:
    base, planned = parse_metric(metric)[0], plan.models.get(model)
    if planned is None or base not in (*_OF_TRAINING, *_OF_EVALUATION):
        return False
    return planned.architecture.computes_fewer(training=base in _OF_TRAINING)


def shown_by_bounds(plan: Plan, hypothesis: Hypothesis, finding: Finding) -> str | None:
    """Why bounds do not show what they seem to; None when they do, or there are none.

    Where every bounded count pulls against the claim, the effect is at least what it seems, which can only support one
    that asks for more; where every one pulls for it, it is at most that, which can only refute one.
    """
    contrast = hypothesis.contrast
    names = bounded(plan, contrast)
    if not names:
        return None
    signs = {term.weight > 0 for term in contrast.terms if term.model in names}
    at_least = signs == {False} and finding.supports and all(bound.side == "above" for bound in hypothesis.support)
    at_most = signs == {True} and finding.refutes and all(bound.side == "below" for bound in hypothesis.refute)
    if at_least or at_most:
        return None
    instead = "claim train.model_flops, which counts the assignments really routed"
    metric = parse_metric(contrast.terms[0].metric)[0]
    hint = f": {instead}" if metric in _OF_TRAINING else ""
    most = f"{metric} of {' and '.join(names)} is the most it can be"
    return f"bound: {most}, for its router may compute fewer assignments{hint}"


def bound_note(plan: Plan, contrast: Contrast) -> tuple[str, ...]:
    """What a verdict that rests on bounds says of them."""
    names = bounded(plan, contrast)
    return (f"of {' and '.join(names)} the count is a bound from above",) if names else ()


# ---------------------------------------------------------------------------------------------- chance


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Experts of one model without a token, over all layers and some runs, and what chance would leave."""

    model: str
    found: float
    expected: float
    variance: float
    runs: int

    @property
    def is_chance(self) -> bool:
        """Whether it cannot be told from what chance alone leaves idle."""
        some = self.expected / self.runs >= NEGLIGIBLE
        return some and abs(self.found - self.expected) <= APART * math.sqrt(self.variance)


def idle_of(model: str, runs: Iterable[Outcome]) -> Idle | None:
    """From the tokens of each expert in the runs' last evaluation; None where no run recorded them."""
    found, expected, variance, count = 0.0, 0.0, 0.0, 0
    for run in runs:
        loads = _loads(run)
        if not loads or IDLE not in run.values:
            continue
        count += 1
        found += run.values[IDLE]
        for load in loads.values():
            mean, spread = occupancy(len(load), sum(load))
            expected, variance = expected + mean, variance + spread
    return Idle(model=model, found=found, expected=expected, variance=variance, runs=count) if count else None


def occupancy(experts: int, pairs: float) -> tuple[float, float]:
    """Mean and variance of the experts left idle by pairs that each go to an expert at random."""
    one, two = (1 - 1 / experts) ** pairs, max(0.0, 1 - 2 / experts) ** pairs
    mean = experts * one
    return mean, max(0.0, mean + experts * (experts - 1) * two - mean**2)


def by_chance(plan: Plan, contrast: Contrast, runs: Iterable[Outcome]) -> str | None:
    """Why idle experts show nothing: no compared model's number can be told from what chance leaves idle."""
    if any(parse_metric(term.metric)[0] != IDLE for term in contrast.terms):
        return None
    done = [run for run in runs if run.status == "completed"]
    idle = [idle_of(name, [run for run in done if run.model == name]) for name in contrast.models]
    if not idle or not all(one is not None and one.is_chance for one in idle):
        return None
    told = ", ".join(f"{one.model} {one.found / one.runs:.3g} ({one.expected / one.runs:.3g})" for one in idle if one)
    asked = max(plan.models[name].recipe.eval_tokens for name in contrast.models)
    return (
        f"chance: idle experts of each run, and those that chance alone leaves: {told}: they cannot be told apart; "
        f"evaluate more tokens than {asked:,}"
    )


def load_notes(contrast: Contrast, runs: Iterable[Outcome]) -> tuple[str, ...]:
    """How uneven chance alone makes the loads of the compared models, where their tokens an expert differ.

    Of even routing of n pairs to E experts the entropy is expected at 1 - (E - 1) / (2 n log E) (Miller 1955), the
    busiest over the mean near 1 + sqrt(2 log(E) E / n).
    """
    bases = {parse_metric(term.metric)[0] for term in contrast.terms}
    if not bases <= {"routing.entropy", "routing.max_over_mean"} or len(bases) != 1:
        return ()
    by_chance = _even_entropy if bases == {"routing.entropy"} else _even_maximum
    done = [run for run in runs if run.status == "completed"]
    told: dict[str, float] = {}
    for model in contrast.models:
        loads = [load for run in done if run.model == model for load in _loads(run).values()]
        if loads and all(len(load) > 1 and sum(load) > 0 for load in loads):
            told[model] = sum(by_chance(len(load), sum(load)) for load in loads) / len(loads)
    if len(told) < 2 or max(told.values()) - min(told.values()) < 0.001:
        return ()
    said = ", ".join(f"{value:.3f} for {model}" for model, value in told.items())
    return (f"{bases.pop()} of perfectly even routing would be, by chance, {said}: they differ in tokens an expert",)


def _even_entropy(experts: int, pairs: float) -> float:
    return max(0.0, 1 - (experts - 1) / (2 * pairs * math.log(experts)))


def _even_maximum(experts: int, pairs: float) -> float:
    return 1 + math.sqrt(2 * math.log(experts) * experts / pairs)


def _loads(run: Outcome) -> dict[str, list[float]]:
    """Layer -> tokens of each of its experts in the last evaluation."""
    loads: dict[str, list[float]] = {}
    for metric, tokens in run.values.items():
        base, labels = parse_metric(metric)
        if base == "routing.tokens":
            loads.setdefault(labels["layer"], []).append(tokens)
    return loads
