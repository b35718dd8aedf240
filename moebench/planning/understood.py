"""Each claim of a suite in words, as it will be judged: what supports it, what refutes it, over what, in which family.

For the author to read before anything is trained: a margin of 0.5 where 0.5% was meant is seen here. What supports and
what refutes is said by the claim's kind.
"""

from __future__ import annotations

from moebench.claims.kinds.published import MEDIAN, of_one
from moebench.metrics import metric_of
from moebench.planning.feasibility import is_measured, made_elsewhere, parts_of, units_of
from moebench.planning.planned import DataFacts
from moebench.suite.claim import Claim
from moebench.suite.types import SuiteSpec


def understood(spec: SuiteSpec, name: str, facts: DataFacts | None = None) -> str:
    """One claim of a suite: `supported if ...; refuted if ...; over 8 seeds; primary, of 3`.

    Without `facts` of its data it is not known how many domains there are.
    """
    claim = spec.claims[name]
    if claim.test.cites:
        return f"cited{'' if claim.source is None else f' from {claim.source.cited}'}: no verdict"
    if claim.systems is not None:
        return _of_systems(claim)
    supported, refuted = claim.test.supported_if(claim)
    where = _where(spec, claim, facts)
    what = f"{claim.metric}{_target(claim)}: " if claim.metric else ""
    return f"{what}supported if {where[0]}{supported}; refuted if {where[1]}{refuted}; {_over(spec, claim)}"


def _of_systems(claim: Claim) -> str:
    """`shape.top_k of published mixtures: supported if the median has at most 2, refuted if not; counted, so ...`."""
    share = claim.test.in_
    supported, _ = claim.test.supported_if(of_one(claim, "the median" if share == MEDIAN else "it"))
    how_many = {"every": "each", "some": "any"}.get(str(share), f"at least {share}")
    where = "" if share == MEDIAN else f"of {how_many} of them "
    how = "MODELLED by formula, not measured" if metric_of(claim.metric).modelled else "counted, so without an interval"
    return f"{claim.selects}: supported if {where}{supported}, refuted if not; {how}"


def _where(spec: SuiteSpec, claim: Claim, facts: DataFacts | None) -> tuple[str, str]:
    """In how many places a claim is to hold, and to fail, before what is asked in each of them."""
    share = claim.test.in_
    if share is None:
        return "", ""
    parts = parts_of(spec, claim, facts) if facts is not None else None
    if parts is None:
        words = share if isinstance(share, str) else f"at least {share}"
        return f"in {words} of its places ", "in too many of them "
    m = len(parts.of)
    need, against = (f"all {m}" if n == m else f"at least {n} of {m}" for n in (parts.need, parts.need_against))
    return f"in {need} {parts.what} ", f"in {against} "


def _target(claim: Claim) -> str:
    if claim.target is None:
        return ""
    if claim.target.ladder is not None:
        return f" (on the ladder {claim.target.ladder})"
    reach = claim.target.reach
    unit = "bits/byte" if claim.target.on is None else f"bits in {claim.target.on}"
    return f" (to the final quality of {reach})" if isinstance(reach, str) else f" (to {reach:g} {unit})"


def _over(spec: SuiteSpec, claim: Claim) -> str:
    """What a claim is judged over, and in which family."""
    if not is_measured(spec, claim):
        modelled = any(metric_of(one.metric).modelled for one in spec.concerns(claim))
        return "MODELLED by formula, not measured" if modelled else "counted, so without an interval"
    measured = dict.fromkeys(units_of(spec, one.metric) for one in spec.concerns(claim) if is_measured(spec, one))
    number, units = next(iter(measured))
    over = " and ".join(f"{number} {units}" for number, units in measured)
    if units == "seeds" and made_elsewhere(spec, claim):
        over = f"{number} seeds, or items where" if number > 1 else "items, where"
        over += " each model is a single run"
    if claim.family == "exploratory":
        return f"over {over}; exploratory, uncorrected"
    primary = [c for c in spec.claims.values() if c.family == "primary" and is_measured(spec, c)]
    return f"over {over}; primary, of {len(primary)}"
