"""The verdict on a claim from its draft, once it is known how many others it is corrected for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from moebench.claims import compound, coverage, likeness, notes
from moebench.claims.decide import Correction, Finding, settle
from moebench.claims.draft import Draft, deciding, level_of
from moebench.claims.hypothesis import Hypothesis, Withheld
from moebench.claims.kinds.kind import subtracted
from moebench.claims.kinds.part import CLAIMS, Parts
from moebench.claims.kinds.recovers import whole_gain
from moebench.claims.looks import Stage
from moebench.claims.power import Needs, needs, needs_of_guard
from moebench.claims.printed import asked_ends, printed, recovered_share, share_words
from moebench.claims.samples import Sample
from moebench.claims.scope import of_units, scope
from moebench.claims.verdict import FORMULA, State, Verdict
from moebench.metrics import METRICS, metric_of
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim


@dataclass(frozen=True, kw_only=True)
class Family:
    """The primary claims that are corrected for."""

    size: int
    withdrawn: int
    """How many of them this plan does not make any more."""
    names: tuple[str, ...]
    """Claims that were withdrawn or changed; may be more than are counted."""
    stage: Stage
    """The look that they are judged at."""


def correction_of(draft: Draft, holm: tuple[float, float] | None, family: Family) -> Correction:
    looks = f"{draft.looks} looks" if draft.looks > 1 else ""
    looks = " and ".join(filter(None, [looks, family.stage.words]))
    if holm is None or (draft.sample is not None and draft.sample.units == "counts"):
        own = [family.stage.p(draft.p(against=against)) for against in (False, True)]
        return Correction(p_for=own[0], p_against=own[1], words=looks, in_family=False)
    words = f"Holm over {family.size} primary claim{'s' if family.size > 1 else ''}"
    words += f" ({family.withdrawn} of them withdrawn)" if family.withdrawn else ""
    words += f" and {looks}" if looks else ""
    return Correction(p_for=holm[0], p_against=holm[1], words=words, in_family=True)


def conclude(evidence: Evidence, draft: Draft, correction: Correction, family: Family) -> Verdict:
    if draft.claim.test.cites:
        return _cited(draft)
    if draft.parts is not None:
        return _together(evidence, draft, draft.parts, correction, family)
    claim, hypothesis, sample, finding = draft.claim, draft.hypothesis, draft.sample, draft.finding
    pair, plan = claim.compare, evidence.plan
    treatment, baseline = (pair.treatment, pair.baseline) if pair else (claim.model, None)
    weighed = hypothesis.contrast.models if hypothesis is not None else ()
    models = tuple(dict.fromkeys((*weighed, *likeness.compared(claim, plan))))
    text = coverage.scored(evidence, claim.metric, models)
    beside = likeness.beside(evidence, models, treatment, baseline)
    matched_on = likeness.all_matched_on(plan, claim)
    units = "" if sample is None else of_units(sample)
    facts: dict[str, Any] = {
        "id": draft.id,
        "says": claim.says,
        "kind": claim.test.kind,
        "family": claim.family,
        "source": claim.source,
        "post_hoc": bool(draft.post_hoc),
        "looks": draft.looks,
        "metric": claim.metric,
        "minus": subtracted(claim) if claim.minus is not None else None,
        "better": None if MetricRef.parse(claim.metric).base in METRICS else metric_of(claim.metric).better,
        "treatment": treatment,
        "baseline": baseline,
        "unit": hypothesis.reading.unit if hypothesis else metric_of(claim.metric).unit,
        "asked": hypothesis.asked if hypothesis else claim.test.kind,
        "scored": text,
        "beside": beside,
        "matched_on": matched_on,
        "systems": _systems(plan, claim),
        "sensitivity": draft.sensitivity,
        "scope": "; ".join(filter(None, (scope(evidence, claim, models, text, beside), units))),
        **(asked_ends(hypothesis) if hypothesis else {}),
        **(_counted(sample) if sample else {}),
    }
    if facts["systems"] and sample is not None:
        facts["n"] = len(facts["systems"])
    lines = [*notes.of_claim(evidence, draft.id, claim, draft.post_hoc, draft.looks)]
    if draft.withheld is not None or finding is None or hypothesis is None or sample is None:
        withheld = draft.withheld or Withheld("not_tested", "no effect was measured")
        return Verdict(**facts, state=withheld.state, reason=withheld.reason, notes=tuple(lines))
    if sample.exact is not None and sample.units != "counts":
        lines.append(f"the same in all {sample.n} runs: held against the threshold without rounding")
    if correction.in_family and draft.unfinished is None:
        lines += notes.of_family(correction, family.names if family.withdrawn else ())
    elif claim.family == "primary" and not draft.post_hoc and not draft.in_family:
        lines.append("an exact count, not part of the Holm family")
    lines += [*notes.of_systems(plan, claim), *notes.of_convention(plan, claim, weighed)]
    lines += notes.of_numbers(evidence, hypothesis, sample, metric=claim.metric, models=models, text=text)
    share = recovered_share(evidence, hypothesis)
    lines += [] if share is None else [share_words(share, whole_gain(claim), sample.units)]
    hints = notes.caveats(
        evidence, draft.id, claim, hypothesis, sample, text=text, beside=beside, matched=bool(matched_on)
    )
    return Verdict(
        **facts,
        **_decided(draft, hypothesis, sample, finding, correction, family),
        **printed(hypothesis, finding),
        **(share or {}),
        method=_method(claim, sample, finding),
        caveats=tuple(hints),
        notes=tuple(lines),
    )


def _method(claim: Claim, sample: Sample, finding: Finding) -> str:
    """How the interval was made; of what is modelled, by formula."""
    if not metric_of(claim.metric).modelled:
        return finding.method
    return FORMULA if sample.units == "counts" else f"{FORMULA}, {finding.method}"


def _cited(draft: Draft) -> Verdict:
    """What a source says: no verdict, and no number of ours."""
    claim, source = draft.claim, draft.claim.source
    reason = "" if draft.withheld is None else draft.withheld.reason
    quote = "" if source is None or source.quote is None else f"“{source.quote}”"
    return Verdict(
        id=draft.id,
        says=claim.says,
        state="cited",
        kind=claim.test.kind,
        family="exploratory",
        source=source,
        metric="",
        unit="",
        asked="",
        holds=getattr(claim.test, "holds", None),
        reason=": ".join(filter(None, (reason, quote))),
        scope="" if source is None else source.cited,
    )


def _systems(plan: Plan, claim: Claim) -> tuple[str, ...]:
    """The published systems that a claim selects."""
    return plan.known.selected.get(claim.selects, ()) if claim.systems is not None else ()


def _together(evidence: Evidence, draft: Draft, parts: Parts, correction: Correction, family: Family) -> Verdict:
    """The verdict on a claim of several parts: theirs, each as if it stood alone, and what they say together.

    Its numbers are those of one part, which it names.
    """
    claim, of = draft.claim, draft.of
    alone = Family(size=0, withdrawn=0, names=(), stage=family.stage)
    own = [conclude(evidence, one, correction_of(one, None, alone), alone) for one in of]
    at = deciding(of, parts)
    shown, m = own[at], len(of)
    lines = [*notes.of_claim(evidence, draft.id, claim, draft.post_hoc, draft.looks)]
    if correction.in_family and draft.unfinished is None and draft.withheld is None:
        lines += notes.of_family(correction, family.names if family.withdrawn else ())
    lines += notes.of_systems(evidence.plan, claim)
    lines += compound.merged([(one.id, one.notes) for one in own], m)
    caveats = compound.merged([(one.id, one.caveats) for one in own], m)
    decided = _decided_together(draft, parts, [one.state for one in own], at, correction, family)
    numbers = {} if draft.withheld is not None else {name: getattr(shown, name) for name in _OF_NUMBERS}
    systems = _systems(evidence.plan, claim)
    numbers |= {"n": len(systems)} if systems and numbers else {}
    which = f"numbers of {shown.id}" + (f", {compound.ordinal(parts.need)} of {m} by p" if not draft.exact else "")
    told = "parts" if parts.what == CLAIMS else parts.what
    pair = claim.compare
    return Verdict(
        id=draft.id,
        says=claim.says,
        kind=claim.test.kind,
        family=claim.family,
        source=claim.source,
        post_hoc=bool(draft.post_hoc),
        looks=draft.looks,
        metric=claim.metric,
        better=shown.better,
        treatment=pair.treatment if pair else claim.model,
        baseline=pair.baseline if pair else None,
        minus=shown.minus,
        unit=shown.unit,
        asked=compound.asked(parts, shown.asked),
        scored=shown.scored,
        beside=shown.beside,
        matched_on=shown.matched_on,
        scope=scope(evidence, claim, (), None, ()) if systems else f"{m} {told}, of which {shown.id}: {shown.scope}",
        notes=tuple(lines),
        caveats=caveats if draft.withheld is not None else (which, *caveats),
        systems=systems,
        parts=tuple(one.model_copy(update={"beside": (), "family": "exploratory"}) for one in own),
        shown=None if draft.withheld is not None else shown.id,
        **numbers,
        **decided,
    )


_OF_NUMBERS = (
    *("n", "units", "method", "estimate", "low", "high", "low90", "high90", "item_low", "item_high", "unbounded"),
    *("share", "share_low", "share_high", "asked_low", "asked_high", "sensitivity"),
)
"""What a claim of several parts has from one of them."""


def _decided_together(
    draft: Draft, parts: Parts, states: Sequence[State], at: int, correction: Correction, family: Family
) -> dict[str, Any]:
    """State, reason, p values, and what it would take to decide, of a claim of several parts."""
    if draft.withheld is not None:
        return {"state": draft.withheld.state, "reason": draft.withheld.reason}
    if draft.unfinished is not None:
        return {"state": "interim", "reason": draft.unfinished}
    own = (draft.p(against=False), draft.p(against=True))
    state, reason = compound.settle(parts, states, own, correction, level_of(draft))
    decided: dict[str, Any] = {"state": state, "reason": reason}
    if not draft.exact:
        decided |= {"p": draft.p(against=False, looks=False), "p_against": draft.p(against=True, looks=False)}
        if correction.in_family:
            decided |= {"p_adjusted": correction.p_for, "p_against_adjusted": correction.p_against}
    if state == "inconclusive" and (lacking := _lacking(draft, parts, at, correction, family)) is not None:
        decided |= {"needs": lacking.words, "detectable": lacking.detectable, "units_needed": lacking.units}
        decided |= {"units_low": lacking.low, "units_high": lacking.high}
    return decided


def _lacking(draft: Draft, parts: Parts, at: int, correction: Correction, family: Family) -> Needs | None:
    """What the part that decides would need, at the level that its place among the others leaves it."""
    one, share = draft.of[at], len(parts.of) - parts.need + 1
    while one.parts is not None:
        share *= len(one.of) - one.parts.need + 1
        one = one.of[deciding(one.of, one.parts)]
    if one.hypothesis is None or one.sample is None or one.finding is None or one.exact:
        return None
    corrected = family.size if correction.in_family else 0
    lacking = needs(
        one.finding, one.hypothesis, one.sample, family=corrected, looks=draft.looks * family.stage.times, share=share
    )
    return replace(lacking, words=f"{one.id}: {lacking.words}")


def _counted(sample: Sample) -> dict[str, Any]:
    """How many units, of which kind: items are counted one by one, whatever groups they stand in."""
    return {"n": sample.n if sample.clusters is None else sample.clusters.num_items, "units": sample.units}


def _decided(
    draft: Draft, hypothesis: Hypothesis, sample: Sample, finding: Finding, correction: Correction, family: Family
) -> dict[str, Any]:
    """State, reason, p values, and what it would take to decide."""
    state, reason = settle(finding, hypothesis, sample, correction)
    if draft.unfinished is not None:
        state, reason = "interim", draft.unfinished
    blocking = next(((guard, drawn) for guard, drawn in draft.unmet if state in guard.blocks), None)
    lacking: Needs | None = None
    if blocking is not None:
        state, reason = "inconclusive", blocking[0].otherwise
        lacking = needs_of_guard(*blocking, hypothesis, looks=draft.looks * family.stage.times)
    elif state == "inconclusive":
        corrected = family.size if correction.in_family else 0
        lacking = needs(finding, hypothesis, sample, family=corrected, looks=draft.looks * family.stage.times)
    decided: dict[str, Any] = {"state": state, "reason": reason}
    if draft.unfinished is None:
        decided |= {"p": finding.p_for, "p_against": finding.p_against}
        if correction.in_family:
            decided |= {"p_adjusted": correction.p_for, "p_against_adjusted": correction.p_against}
    if lacking is not None:
        decided |= {"needs": lacking.words, "detectable": lacking.detectable, "units_needed": lacking.units}
        decided |= {"units_low": lacking.low, "units_high": lacking.high}
    return decided
