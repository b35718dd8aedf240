"""Each claim of a suite in words, as it will be judged: what supports it, what refutes it, over what, in which family.

For the author to read before anything is trained: a margin of 0.5 where 0.5% was meant is seen here. Words only; the
rules themselves are in `claims`.
"""

from __future__ import annotations

from moebench.amounts import Amount
from moebench.metrics.declared import Metric, metric_of
from moebench.planning.feasibility import units_of
from moebench.suite.claim import (
    Claim,
    Equivalent,
    Exact,
    Interaction,
    NonInferior,
    RatioAtLeast,
    RatioWithin,
    Recovers,
    Superior,
    Trend,
)
from moebench.suite.types import SuiteSpec


def understood(spec: SuiteSpec, name: str) -> str:
    """One claim of a suite: `supported if ...; refuted if ...; over 8 seeds; primary, of 3`."""
    claim = spec.claims[name]
    supported, refuted = _bounds(claim)
    return f"{claim.metric}{_target(claim)}: supported if {supported}; refuted if {refuted}; {_over(spec, claim)}"


def _bounds(claim: Claim) -> tuple[str, str]:
    """What supports and what refutes a claim."""
    test, metric = claim.test, metric_of(claim.metric)
    treatment, baseline, ceiling = (
        (claim.compare.treatment, claim.compare.baseline, claim.compare.ceiling) if claim.compare else ("", "", None)
    )
    better, worse = ("higher", "lower") if metric.better == "higher" else ("lower", "higher")
    match test:
        case Superior(margin=margin) if margin.value == 0:
            return f"{treatment} is {better} than {baseline}", f"it is equal or {worse}"
        case Superior(margin=margin):
            by = _amount(margin, metric)
            return (
                f"{treatment} is more than {by} {better} than {baseline}",
                f"it is less than {by} {better}, or {worse}",
            )
        case NonInferior(margin=margin):
            by = _amount(margin, metric)
            return f"{treatment} is at most {by} {worse} than {baseline}", f"it is more than {by} {worse}"
        case Equivalent(margin=margin):
            by = _amount(margin, metric)
            return f"{treatment} and {baseline} differ by less than {by}", "they differ by more"
        case RatioAtLeast(value=value):
            over = f"{treatment} over {baseline}" if metric.better == "higher" else f"{baseline} over {treatment}"
            return f"{over} is at least {value:g}", "it is less"
        case RatioWithin(low=low, high=high):
            return f"{treatment} over {baseline} lies between {low:g} and {high:g}", "it lies outside"
        case Recovers(value=value):
            gain = f"of the gain of {ceiling} over {baseline}"
            return f"{treatment} has at least {value * 100:g}% {gain}", "it has less"
        case Trend(sign=sign):
            way = "rises" if sign == "rising" else "falls"
            return f"it {way} with {claim.along}, over the models of {claim.over}", "it does not"
        case Interaction(margin=margin):
            by = f"by more than {_amount(margin, metric)} " if margin.value else ""
            return f"{treatment}'s gain over {baseline} exceeds {by}that on {claim.minus}", "it does not"
        case Exact(value=value, tolerance=tolerance):
            within = f" within {_amount(tolerance, metric)}" if tolerance.value else ""
            return f"{claim.model} has {value:,.12g}{within}", "it has not"


def _amount(amount: Amount, metric: Metric) -> str:
    if amount.relative:
        return str(amount)
    return f"{amount.value:g}" if metric.unit == "1" else f"{amount.value:g} {metric.unit}"


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    reach = claim.target.reach
    return f" (to the final quality of {reach})" if isinstance(reach, str) else f" (to {reach:g} bits/byte)"


def _over(spec: SuiteSpec, claim: Claim) -> str:
    """What a claim is judged over, and in which family."""
    if metric_of(claim.metric).kind == "counted":
        return "counted, so without an interval"
    number, units = units_of(spec, claim.metric)
    if claim.family == "exploratory":
        return f"over {number} {units}; exploratory, uncorrected"
    primary = [c for c in spec.claims.values() if c.family == "primary" and metric_of(c.metric).kind != "counted"]
    return f"over {number} {units}; primary, of {len(primary)}"
