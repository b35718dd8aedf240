"""The way from evidence to verdicts, claim by claim, then over the family of primary claims.

Order matters: a claim that cannot be answered is NOT_TESTED, one whose runs break a precondition is INVALID, one of
which not all is there that was planned is INTERIM, an estimate and no verdict, and only then are numbers weighed.
Holm's correction counts every primary claim that was ever stored with these jobs, tested or not, withdrawn or not, so
that the correction is fixed before anything is run; counts are exact and outside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moebench import stats
from moebench.claims import bounds, compound, coverage, interim, likeness, notes, sealing
from moebench.claims.decide import ALPHA, Correction, Finding, enough, settle, shown_p, stands, weigh
from moebench.claims.hypothesis import Guard, Hypothesis, Withheld
from moebench.claims.kinds.kind import subtracted
from moebench.claims.kinds.part import CLAIMS, Parts
from moebench.claims.kinds.published import MEDIAN, of_median
from moebench.claims.kinds.recovers import whole_gain
from moebench.claims.looks import Course, Stage, taken
from moebench.claims.power import Needs, needs, needs_of_guard
from moebench.claims.preconditions import broken, unfit
from moebench.claims.preconditions.question import Question
from moebench.claims.printed import asked_ends, printed, recovered_share, share_words
from moebench.claims.samples import Sample, draw
from moebench.claims.scope import of_units, scope
from moebench.claims.sensitivity import flipped, sensitivity
from moebench.claims.verdict import FORMULA, Sensitivity, State, Verdict
from moebench.metrics import METRICS, in_force, metric_of
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.evidence import Evidence, gather
from moebench.store import Source
from moebench.suite.claim import Claim
from moebench.suite.looks import is_exact


def judge(evidence: Evidence) -> list[Verdict]:
    """A verdict for each claim of the plan, in the suite's order."""
    return list(course(evidence).verdicts)


def course(evidence: Evidence) -> Course:
    """The looks that were taken, with the verdicts at each; there is one where the suite plans none."""
    with in_force(evidence.metrics):
        return taken(evidence, _judged)


def as_taken(source: Source, stored: StoredPlan) -> tuple[Plan, str]:
    """The part of a plan that its looks ask for, and which of them is taken, in words."""
    made = course(gather(source, stored))
    return made.evidence.plan, made.words


def _judged(evidence: Evidence, stage: Stage) -> list[Verdict]:
    """The verdicts at a look; of claims that were decided at an earlier one, what they would be."""
    drafts = [_draft(evidence, name, claim) for name, claim in evidence.plan.spec.claims.items()]
    family = [draft for draft in drafts if draft.in_family]
    gone = max(0, sealing.family_size(evidence) - len(family))
    held = [_held(family, gone, stage, state) for state in ("supported", "refuted")]
    holm = {draft.id: (held[0][draft.id], held[1][draft.id]) for draft in family}
    names = tuple(one.id for one in sealing.withdrawn(evidence))
    size = _Family(size=len(family) + gone, withdrawn=gone, names=names, stage=stage)
    verdicts = [_verdict(evidence, draft, _correction(draft, holm.get(draft.id), size), size) for draft in drafts]
    if not evidence.plan.asked.smoke:
        return verdicts
    return [verdict if verdict.state == "cited" else _unjudged(verdict) for verdict in verdicts]


def _held(family: Sequence[_Draft], gone: int, stage: Stage, state: str) -> dict[str, float]:
    """Holm's adjusted p of a family's claims at a look, without those that have the verdict already.

    `gone` of the claims were withdrawn.
    """
    settled = stage.going_for(state)
    left = [draft for draft in family if draft.id not in settled]
    own = [stage.p(draft.p(against=state == "refuted")) for draft in left]
    adjusted = stats.holm([*own, *[1.0] * gone])
    return {draft.id: 0.0 for draft in family} | {draft.id: p for draft, p in zip(left, adjusted, strict=False)}


def _unjudged(verdict: Verdict) -> Verdict:
    """A claim of a smoke run: whether what it needs was there, and not a number of what came out."""
    there = verdict.state in ("supported", "refuted", "inconclusive")
    measured = "counted" if verdict.units == "counts" else f"measured, {verdict.n} {verdict.units}"
    why = f"what the claim needs was {measured}" if there else verdict.reason
    blank = {name: field.default for name, field in Verdict.model_fields.items() if not field.is_required()}
    kept = ("post_hoc", "looks", "treatment", "baseline", "asked_low", "asked_high", "n", "units")
    cleared = {name: value for name, value in blank.items() if name not in kept}
    return verdict.model_copy(update={**cleared, "state": "not_tested", "reason": f"smoke run: no verdict; {why}"})


def ask(evidence: Evidence, questions: Mapping[str, Claim]) -> list[Verdict]:
    """Verdicts on questions that are no claims of the suite: exploratory, and outside the family that Holm counts."""
    alone = _Family(size=0, withdrawn=0, names=(), stage=Stage(seeds=len(evidence.plan.spec.seeds)))
    with in_force(evidence.metrics):
        drafts = [_draft(evidence, name, claim) for name, claim in questions.items()]
        return [_verdict(evidence, draft, _correction(draft, None, alone), alone) for draft in drafts]


def strict_ok(verdicts: Sequence[Verdict]) -> bool:
    """Whether there is a primary claim and each is supported; one that came post hoc shows nothing and fails."""
    primary = [verdict for verdict in verdicts if verdict.family == "primary"]
    return bool(primary) and all(v.state == "supported" and v.label == "primary" for v in primary)


@dataclass(frozen=True, kw_only=True)
class _Family:
    """The primary claims that are corrected for."""

    size: int
    withdrawn: int
    """How many of them this plan does not make any more."""
    names: tuple[str, ...]
    """Claims that were withdrawn or changed; may be more than are counted."""
    stage: Stage
    """The look that they are judged at."""


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A claim before other claims are looked at."""

    id: str
    claim: Claim
    post_hoc: tuple[str, ...] = ()
    """Why it does not count as made before the data; empty when it does."""
    looks: int = 1
    hypothesis: Hypothesis | None = None
    sample: Sample | None = None
    finding: Finding | None = None
    unfinished: str | None = None
    """What is absent of what was planned for it; None when all is there."""
    unmet: tuple[tuple[Guard, Sample], ...] = ()
    """Guards that do not stand, each with what was drawn for it."""
    p_guards: tuple[float, float] = (0.0, 0.0)
    """The largest p of what else must be shown before it is supported, and before it is refuted."""
    withheld: Withheld | None = None
    exact: bool = False
    """Whether it is settled without chance."""
    parts: Parts | None = None
    of: tuple[_Draft, ...] = ()
    """A draft of each of its parts."""
    sensitivity: Sensitivity | None = None
    """What becomes of it at the second-best rates."""

    @property
    def in_family(self) -> bool:
        return self.claim.family == "primary" and not self.post_hoc and not self.exact

    def p(self, *, against: bool, looks: bool = True) -> float:
        """One-sided p, times the number of looks taken; 1 where there is none, or no verdict to come of it yet."""
        if self.unfinished is not None or self.withheld is not None:
            return 1.0
        if self.parts is not None:
            need = self.parts.need_against if against else self.parts.need
            return compound.p_of([part.p_as_part(against=against, looks=looks) for part in self.of], need)
        if self.finding is None:
            return 1.0
        own = self.finding.p_against if against else self.finding.p_for
        return 1.0 if own is None else min(1.0, max(own, self.p_guards[against]) * (self.looks if looks else 1))

    def p_as_part(self, *, against: bool, looks: bool = True) -> float:
        """What it adds to a claim that it is a part of: 1 where alone it could not have that verdict; counts 0 or 1."""
        if self.parts is not None or self.finding is None or self.sample is None:
            return self.p(against=against, looks=looks)
        if self.exact:
            return 0.0 if (self.finding.refutes if against else self.finding.supports) else 1.0
        blocked = any(("refuted" if against else "supported") in guard.blocks for guard, _ in self.unmet)
        return 1.0 if blocked or self.sample.n < enough(self.sample) else self.p(against=against, looks=looks)


def _draft(evidence: Evidence, name: str, claim: Claim) -> _Draft:
    spec = evidence.plan.spec
    late = sealing.post_hoc(evidence, name, claim) if spec.claims.get(name) == claim else ()
    draft = _Draft(id=name, claim=claim, post_hoc=late, exact=is_exact(spec, claim))
    try:
        parts = claim.test.parts(claim, evidence.plan.known)
        asked = of_median(claim, evidence.plan.known) if claim.test.in_ == MEDIAN else None
    except Withheld as withheld:
        return replace(draft, withheld=withheld)
    return _of_one(evidence, draft, asked) if parts is None else _of_parts(evidence, draft, parts)


def _of_parts(evidence: Evidence, draft: _Draft, parts: Parts) -> _Draft:
    """A claim whose parts are each drafted as if they stood alone: what one of them lacks, it lacks."""
    spec, drafts = evidence.plan.spec, []
    for part in parts.of:
        one = _Draft(id=part.name, claim=part.claim, exact=is_exact(spec, part.claim))
        own = None if part.hypothesis is not None else part.claim.test.parts(part.claim, evidence.plan.known)
        drafts.append(_of_one(evidence, one, part.hypothesis) if own is None else _of_parts(evidence, one, own))
    withheld = [(one.id, one.withheld) for one in drafts if one.withheld is not None]
    first = next((pair for pair in withheld if pair[1].state == "invalid"), *withheld[:1]) if withheld else None
    absent = dict.fromkeys(one.unfinished for one in drafts if one.unfinished is not None)
    return replace(
        draft,
        parts=parts,
        of=tuple(drafts),
        looks=max(one.looks for one in drafts),
        withheld=None if first is None else Withheld(first[1].state, f"{first[0]}: {first[1].reason}"),
        unfinished="; ".join(filter(None, absent)) or None,
    )


def _of_one(evidence: Evidence, draft: _Draft, asked: Hypothesis | None) -> _Draft:
    """A claim of one contrast."""
    claim = draft.claim
    try:
        hypothesis = asked or claim.test.hypothesis(claim, evidence.plan.spec.sweeps)
        draft = replace(draft, hypothesis=hypothesis)
        if (why := unfit(evidence.plan, claim, hypothesis.contrast)) is not None:
            raise Withheld("invalid", why)
        sample = draw(evidence, hypothesis.contrast, claim)
        draft = replace(draft, sample=sample, looks=sealing.looks(evidence, claim, sample))
        why = broken(Question(evidence=evidence, claim=claim, contrast=hypothesis.contrast, sample=sample))
        if why is not None:
            raise Withheld("invalid", why)
        absent = interim.unfinished(evidence, claim, hypothesis.contrast, sample)
        finding = weigh(sample, hypothesis)
        if (why := bounds.shown_by_bounds(evidence.plan, hypothesis, finding)) is not None:
            raise Withheld("invalid", why)
        draft = replace(draft, sensitivity=sensitivity(evidence, hypothesis))
        if absent is None and (why := flipped(draft.sensitivity, finding, hypothesis)) is not None:
            raise Withheld("invalid", why)
        guards = tuple((guard, draw(evidence, guard.contrast, claim)) for guard in hypothesis.guards)
        unmet = tuple(pair for pair in guards if not stands(*pair))
        return replace(draft, finding=finding, unmet=unmet, p_guards=_p_guards(guards), unfinished=absent)
    except Withheld as withheld:
        return replace(draft, withheld=withheld)


def _correction(draft: _Draft, holm: tuple[float, float] | None, family: _Family) -> Correction:
    looks = f"{draft.looks} looks" if draft.looks > 1 else ""
    looks = " and ".join(filter(None, [looks, family.stage.words]))
    if holm is None or (draft.sample is not None and draft.sample.units == "counts"):
        own = [family.stage.p(draft.p(against=against)) for against in (False, True)]
        return Correction(p_for=own[0], p_against=own[1], words=looks, in_family=False)
    words = f"Holm over {family.size} primary claim{'s' if family.size > 1 else ''}"
    words += f" ({family.withdrawn} of them withdrawn)" if family.withdrawn else ""
    words += f" and {looks}" if looks else ""
    return Correction(p_for=holm[0], p_against=holm[1], words=words, in_family=True)


# ---------------------------------------------------------------------------------------------- the verdict


def _verdict(evidence: Evidence, draft: _Draft, correction: Correction, family: _Family) -> Verdict:
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


def _cited(draft: _Draft) -> Verdict:
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


def _together(evidence: Evidence, draft: _Draft, parts: Parts, correction: Correction, family: _Family) -> Verdict:
    """The verdict on a claim of several parts: theirs, each as if it stood alone, and what they say together.

    Its numbers are those of one part, which it names.
    """
    claim, of = draft.claim, draft.of
    alone = _Family(size=0, withdrawn=0, names=(), stage=family.stage)
    own = [_verdict(evidence, one, _correction(one, None, alone), alone) for one in of]
    at = _deciding(of, parts)
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
    draft: _Draft, parts: Parts, states: Sequence[State], at: int, correction: Correction, family: _Family
) -> dict[str, Any]:
    """State, reason, p values, and what it would take to decide, of a claim of several parts."""
    if draft.withheld is not None:
        return {"state": draft.withheld.state, "reason": draft.withheld.reason}
    if draft.unfinished is not None:
        return {"state": "interim", "reason": draft.unfinished}
    own = (draft.p(against=False), draft.p(against=True))
    state, reason = compound.settle(parts, states, own, correction, _level(draft))
    decided: dict[str, Any] = {"state": state, "reason": reason}
    if not draft.exact:
        decided |= {"p": draft.p(against=False, looks=False), "p_against": draft.p(against=True, looks=False)}
        if correction.in_family:
            decided |= {"p_adjusted": correction.p_for, "p_against_adjusted": correction.p_against}
    if state == "inconclusive" and (lacking := _lacking(draft, parts, at, correction, family)) is not None:
        decided |= {"needs": lacking.words, "detectable": lacking.detectable, "units_needed": lacking.units}
        decided |= {"units_low": lacking.low, "units_high": lacking.high}
    return decided


def _deciding(of: Sequence[_Draft], parts: Parts) -> int:
    p_for, p_against = ([one.p_as_part(against=against) for one in of] for against in (False, True))
    return compound.deciding(p_for, p_against, [_cleared(one) for one in of], parts.need)


def _cleared(draft: _Draft) -> float:
    if draft.parts is not None:
        return _cleared(draft.of[_deciding(draft.of, draft.parts)])
    if draft.hypothesis is None or draft.finding is None or draft.sample is None:
        return 0.0
    return compound.cleared(draft.finding, draft.hypothesis, draft.sample.n)


def _level(draft: _Draft) -> float:
    """One-sided level of a claim outside the family: the strictest of its parts."""
    if draft.parts is not None:
        return min(map(_level, draft.of))
    return ALPHA if draft.hypothesis is None else draft.hypothesis.level


def _lacking(draft: _Draft, parts: Parts, at: int, correction: Correction, family: _Family) -> Needs | None:
    """What the part that decides would need, at the level that its place among the others leaves it."""
    one, share = draft.of[at], len(parts.of) - parts.need + 1
    while one.parts is not None:
        share *= len(one.of) - one.parts.need + 1
        one = one.of[_deciding(one.of, one.parts)]
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
    draft: _Draft, hypothesis: Hypothesis, sample: Sample, finding: Finding, correction: Correction, family: _Family
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


def _p_guards(guards: Iterable[tuple[Guard, Sample]]) -> tuple[float, float]:
    shown = [(guard.blocks, shown_p(guard, sample)) for guard, sample in guards]
    of_support, of_refutation = ([p for blocks, p in shown if state in blocks] for state in ("supported", "refuted"))
    return max(of_support, default=0.0), max(of_refutation, default=0.0)
