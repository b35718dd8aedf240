"""Counts that are bounds: what they can show and what they cannot.

A planned count of a router that may compute fewer assignments than top_k is the most it can be: it shows that a model
costs less, never that it costs more, nor how much exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

from moebench.claims.decide import Finding
from moebench.claims.hypothesis import Contrast, Hypothesis
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan

_OF_TRAINING = ("cost.train_flops_per_token",)
_OF_EVALUATION = ("cost.decode_flops_per_token", "cost.active_params", "cost.active_params_no_embedding")


def bounded(plan: Plan, contrast: Contrast) -> tuple[str, ...]:
    """The models whose count in a contrast is a bound from above."""
    return tuple(dict.fromkeys(term.model for term in contrast.terms if _is_bound(plan, term.model, term.metric)))


def _is_bound(plan: Plan, model: str, metric: str) -> bool:
    base, planned = MetricRef.parse(metric).base, plan.decoders.get(model)
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
    metric = contrast.terms[0].base
    instead = ": claim train.model_flops, which counts the assignments really routed"
    hint = instead if metric in _OF_TRAINING else ""
    most = f"{metric} of {' and '.join(names)} is the most it can be"
    return f"bound: {most}, for its router may compute fewer assignments{hint}"


def notes(plan: Plan, contrast: Contrast) -> Iterator[str]:
    """What a verdict that rests on bounds says of them."""
    if names := bounded(plan, contrast):
        yield f"of {' and '.join(names)} the count is a bound from above"
