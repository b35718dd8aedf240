"""Each claim of a suite in words, as it will be judged: what supports it, what refutes it, over what, in which family.

For the author to read before anything is trained: a margin of 0.5 where 0.5% was meant is seen here. What supports and
what refutes is said by the claim's kind.
"""

from __future__ import annotations

from moebench.metrics import metric_of
from moebench.planning.feasibility import made_elsewhere, units_of
from moebench.suite.claim import Claim
from moebench.suite.types import SuiteSpec


def understood(spec: SuiteSpec, name: str) -> str:
    """One claim of a suite: `supported if ...; refuted if ...; over 8 seeds; primary, of 3`."""
    claim = spec.claims[name]
    supported, refuted = claim.test.supported_if(claim)
    return f"{claim.metric}{_target(claim)}: supported if {supported}; refuted if {refuted}; {_over(spec, claim)}"


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
    over = f"{number} {units}"
    if units == "seeds" and made_elsewhere(spec, claim):
        over = f"{number} seeds, or items where" if number > 1 else "items, where"
        over += " each model is a single run"
    if claim.family == "exploratory":
        return f"over {over}; exploratory, uncorrected"
    primary = [c for c in spec.claims.values() if c.family == "primary" and metric_of(c.metric).kind != "counted"]
    return f"over {over}; primary, of {len(primary)}"
