"""The way from evidence to verdicts, claim by claim, then over the family of primary claims.

Order matters: a claim that cannot be answered is NOT_TESTED, one whose runs break a precondition is INVALID, one of
which not all is there that was planned is INTERIM, an estimate and no verdict, and only then are numbers weighed.
Holm's correction counts every primary claim that was ever stored with these jobs, tested or not, withdrawn or not, so
that the correction is fixed before anything is run; counts are exact and outside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moebench import stats
from moebench.claims import coverage, interim, likeness, limits, sealing, wording
from moebench.claims.decide import Correction, Finding, settle, shown_p, stands, weigh
from moebench.claims.errors import Withheld
from moebench.claims.hypothesis import Guard, Hypothesis
from moebench.claims.power import needs, needs_of_guard
from moebench.claims.preconditions import Question, broken, unfit
from moebench.claims.samples import Sample, draw
from moebench.claims.shape import doubts
from moebench.claims.verdict import TRIFLE, Beside, Scored, Unbounded, Verdict
from moebench.format import interval
from moebench.metrics.declared import metric_of
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim
from moebench.text import plain


def judge(evidence: Evidence) -> list[Verdict]:
    """A verdict for each claim of the plan, in the suite's order."""
    drafts = [_draft(evidence, name, claim) for name, claim in evidence.plan.spec.claims.items()]
    family = [draft for draft in drafts if draft.in_family]
    gone = max(0, sealing.family_size(evidence) - len(family))
    withdrawn = [1.0] * gone
    holm_for = stats.holm([*(draft.p(against=False) for draft in family), *withdrawn])
    holm_against = stats.holm([*(draft.p(against=True) for draft in family), *withdrawn])
    holm = {draft.id: pair for draft, pair in zip(family, zip(holm_for, holm_against, strict=False), strict=False)}
    size = _Family(size=len(family) + gone, withdrawn=gone, names=tuple(one.id for one in sealing.withdrawn(evidence)))
    verdicts = [_verdict(evidence, draft, _correction(draft, holm.get(draft.id), size), size) for draft in drafts]
    return [_unjudged(verdict) for verdict in verdicts] if evidence.plan.asked.smoke else verdicts


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
    drafts = [_draft(evidence, name, claim) for name, claim in questions.items()]
    alone = _Family(size=0, withdrawn=0, names=())
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

    @property
    def in_family(self) -> bool:
        return self.claim.family == "primary" and not self.post_hoc and not sealing.is_exact(self.claim)

    def p(self, *, against: bool) -> float:
        """One-sided p, times the number of looks taken; 1 where there is none, or no verdict to come of it yet."""
        if self.finding is None or self.unfinished is not None:
            return 1.0
        found = self.finding.p_against if against else self.finding.p_for
        return 1.0 if found is None else min(1.0, max(found, self.p_guards[against]) * self.looks)


def _draft(evidence: Evidence, name: str, claim: Claim) -> _Draft:
    made = evidence.plan.spec.claims.get(name) == claim
    draft = _Draft(id=name, claim=claim, post_hoc=sealing.post_hoc(evidence, name, claim) if made else ())
    try:
        hypothesis = claim.test.hypothesis(claim, evidence.plan.spec.sweeps)
        draft = replace(draft, hypothesis=hypothesis)
        if (why := unfit(evidence.plan, claim, hypothesis.contrast)) is not None:
            raise Withheld("invalid", why)
        sample = draw(evidence, hypothesis.contrast, claim.target, claim.compare.baseline if claim.compare else None)
        draft = replace(draft, sample=sample, looks=sealing.looks(evidence, claim, sample))
        why = broken(Question(evidence=evidence, claim=claim, contrast=hypothesis.contrast, sample=sample))
        if why is not None:
            raise Withheld("invalid", why)
        absent = interim.unfinished(evidence, claim, hypothesis.contrast, sample)
        finding = weigh(sample, hypothesis)
        if (why := limits.shown_by_bounds(evidence.plan, hypothesis, finding)) is not None:
            raise Withheld("invalid", why)
        guards = tuple(_drawn(evidence, claim, hypothesis))
        unmet = tuple(pair for pair in guards if not stands(*pair))
        return replace(draft, finding=finding, unmet=unmet, p_guards=_p_guards(guards), unfinished=absent)
    except Withheld as withheld:
        return replace(draft, withheld=withheld)


def _correction(draft: _Draft, holm: tuple[float, float] | None, family: _Family) -> Correction:
    looks = f"{draft.looks} looks" if draft.looks > 1 else ""
    if holm is None or (draft.sample is not None and draft.sample.units == "counts"):
        return Correction(p_for=draft.p(against=False), p_against=draft.p(against=True), words=looks, in_family=False)
    words = f"Holm over {family.size} primary claim{'s' if family.size > 1 else ''}"
    words += f" ({family.withdrawn} of them withdrawn)" if family.withdrawn else ""
    words += f" and {looks}" if looks else ""
    return Correction(p_for=holm[0], p_against=holm[1], words=words, in_family=True)


# ---------------------------------------------------------------------------------------------- the verdict


def _verdict(evidence: Evidence, draft: _Draft, correction: Correction, family: _Family) -> Verdict:
    claim, hypothesis = draft.claim, draft.hypothesis
    compare = claim.compare
    treatment, baseline = (compare.treatment, compare.baseline) if compare else (claim.model, None)
    models, kind = _models(draft, evidence.plan), metric_of(claim.metric).kind
    text = coverage.scored(evidence, claim.metric, models)
    rows = likeness.beside(evidence, models, treatment, baseline)
    facts: dict[str, Any] = {
        "id": draft.id,
        "says": claim.says,
        "kind": claim.test.kind,
        "family": claim.family,
        "post_hoc": bool(draft.post_hoc),
        "looks": draft.looks,
        "metric": claim.metric,
        "treatment": treatment,
        "baseline": baseline,
        "unit": hypothesis.reading.unit if hypothesis else metric_of(claim.metric).unit,
        "asked": hypothesis.asked if hypothesis else claim.test.kind,
        "scored": text,
        "beside": rows,
        "matched_on": likeness.matched_on(evidence.plan, treatment, baseline) if treatment and baseline else (),
        "scope": wording.scope(evidence, models, kind, text=text, apart=_apart(evidence.plan, rows, claim)),
        **(_asked_ends(hypothesis) if hypothesis else {}),
    }
    if draft.sample is not None:
        facts |= {"n": draft.sample.n, "units": draft.sample.units}
    if draft.withheld is not None or draft.finding is None or hypothesis is None or draft.sample is None:
        withheld = draft.withheld or Withheld("not_tested", "no effect was measured")
        return Verdict(**facts, state=withheld.state, reason=withheld.reason, notes=_late(evidence, draft))
    return _weighed(evidence, draft, hypothesis, draft.sample, draft.finding, correction, family, facts)


def _weighed(
    evidence: Evidence,
    draft: _Draft,
    hypothesis: Hypothesis,
    sample: Sample,
    finding: Finding,
    correction: Correction,
    family: _Family,
    facts: dict[str, Any],
) -> Verdict:
    state, reason = settle(finding, hypothesis, sample, correction)
    tested = draft.unfinished is None
    if draft.unfinished is not None:
        state, reason = "interim", draft.unfinished
    blocking = next(((guard, drawn) for guard, drawn in draft.unmet if state in guard.blocks), None)
    lacking = None
    if blocking is not None:
        state, reason = "inconclusive", blocking[0].otherwise
        lacking = needs_of_guard(*blocking, hypothesis, looks=draft.looks)
    elif state == "inconclusive":
        lacking = needs(
            finding, hypothesis, sample, family=family.size if correction.in_family else 0, looks=draft.looks
        )
    estimate, low, high, unbounded = _printed(hypothesis, finding)
    item = _shown(hypothesis, finding.items)
    narrow = _shown(hypothesis, finding.narrow)
    return Verdict(
        **facts,
        state=state,
        estimate=estimate,
        low=low,
        high=high,
        unbounded=unbounded,
        **(wording.recovered_share(evidence, hypothesis) or {}),
        low90=_finite(narrow[0]),
        high90=_finite(narrow[1]),
        item_low=_finite(item[0]),
        item_high=_finite(item[1]),
        method=finding.method,
        p=finding.p_for if tested else None,
        p_adjusted=correction.p_for if tested and correction.in_family else None,
        p_against=finding.p_against if tested else None,
        p_against_adjusted=correction.p_against if tested and correction.in_family else None,
        reason=reason,
        needs=lacking.words if lacking else None,
        detectable=lacking.detectable if lacking else None,
        units_needed=lacking.units if lacking else None,
        units_low=lacking.low if lacking else None,
        units_high=lacking.high if lacking else None,
        caveats=wording.caveats(evidence, hypothesis, sample) + _beside_caveats(draft, facts) + _tried(evidence, draft),
        notes=_labels(evidence, draft, correction, family)
        + limits.bound_note(evidence.plan, hypothesis.contrast)
        + limits.load_notes(hypothesis.contrast, sample.used)
        + doubts(sample, lambda effect: _said(hypothesis, effect))
        + wording.notes(
            evidence,
            hypothesis,
            sample,
            metric=draft.claim.metric,
            models=_models(draft, evidence.plan),
            text=facts["scored"],
        ),
    )


def _drawn(evidence: Evidence, claim: Claim, hypothesis: Hypothesis) -> Iterator[tuple[Guard, Sample]]:
    """The guards of a claim, each with what was drawn for it."""
    for guard in hypothesis.guards:
        yield guard, draw(evidence, guard.contrast, claim.target, claim.compare.baseline if claim.compare else None)


def _p_guards(guards: Iterable[tuple[Guard, Sample]]) -> tuple[float, float]:
    shown = [(guard.blocks, shown_p(guard, sample)) for guard, sample in guards]
    of_support, of_refutation = ([p for blocks, p in shown if state in blocks] for state in ("supported", "refuted"))
    return max(of_support, default=0.0), max(of_refutation, default=0.0)


def _late(evidence: Evidence, draft: _Draft) -> tuple[str, ...]:
    """What came after the data, or was looked at before."""
    found: list[str] = []
    if draft.post_hoc:
        found.append(f"post hoc: {'; '.join(draft.post_hoc)}: counted as exploratory")
    elif (said := sealing.reworded(evidence, draft.id)) is not None:
        found.append(f"reworded after the data; it said: {plain(said, most=500)}")
    if draft.looks > 1:
        found.append(
            f"look {draft.looks}: other runs or sessions of the same models could be judged before, p is multiplied by "
            f"{draft.looks}"
        )
    found += [f"{tried}, uncorrected for" for tried in _tried(evidence, draft)]
    return tuple(found)


def _tried(evidence: Evidence, draft: _Draft) -> tuple[str, ...]:
    """That the claim was made of other models before: no look at these, but a choice among them."""
    tried = sealing.tried_otherwise(evidence, draft.id, draft.claim)
    return (f"tried with {tried} other definition{'s' if tried > 1 else ''} of its models too",) if tried else ()


def _labels(evidence: Evidence, draft: _Draft, correction: Correction, family: _Family) -> tuple[str, ...]:
    found = [*_late(evidence, draft)]
    if draft.sample is not None and draft.sample.exact is not None and draft.sample.units != "counts":
        found.append(f"the same in all {draft.sample.n} runs: held against the threshold without rounding")
    if correction.in_family and draft.unfinished is None:
        found.append(f"p adjusted by {correction.words}; the interval is unadjusted")
        if family.withdrawn:
            found.append(f"withdrawn or changed since, and still counted: {', '.join(family.names)}")
    elif draft.claim.family == "primary" and not draft.post_hoc and not draft.in_family:
        found.append("an exact count, not part of the Holm family")
    return tuple(found)


def _models(draft: _Draft, plan: Plan) -> tuple[str, ...]:
    weighed = draft.hypothesis.contrast.models if draft.hypothesis is not None else ()
    return tuple(dict.fromkeys((*weighed, *likeness.compared(draft.claim, plan))))


def _beside_caveats(draft: _Draft, facts: dict[str, Any]) -> tuple[str, ...]:
    """What of the text and of the models' likeness no view may leave out."""
    text: Scored | None = facts["scored"]
    found = [] if text is None else [coverage.caveat(text)]
    if draft.claim.compare is not None and metric_of(draft.claim.metric).kind != "counted":
        tokens = next((row for row in facts["beside"] if row.what == likeness.TOKENS and row.differs), None)
        if tokens is not None and tokens.ratio is not None and abs(tokens.ratio - 1) > TRIFLE:
            found.append(f"{tokens.ratio:.3g}x the tokens")
        found += ["not matched"] if not facts["matched_on"] else []
    return tuple(said for said in found if said is not None)


def _apart(plan: Plan, rows: tuple[Beside, ...], claim: Claim) -> str:
    """What of its models differs, in words."""
    compare, counted = claim.compare, metric_of(claim.metric).kind == "counted"
    treatment, baseline = (compare.treatment, compare.baseline) if compare else (None, None)
    return likeness.scope_words(plan, rows, treatment, baseline, counted=counted)


# ---------------------------------------------------------------------------------------------- printed numbers


def _printed(hypothesis: Hypothesis, finding: Finding) -> tuple[float | None, float | None, float | None, Unbounded]:
    low, high = _shown(hypothesis, finding.interval)
    shown = {
        "estimate": None if math.isnan(finding.centre) else hypothesis.reading.show(finding.centre),
        "low": low,
        "high": high,
    }
    unbounded: Any = tuple(name for name, value in shown.items() if value is not None and math.isinf(value))
    return _finite(shown["estimate"]), _finite(low), _finite(high), unbounded


def _shown(hypothesis: Hypothesis, interval: stats.Interval | None) -> tuple[float | None, float | None]:
    """An oriented interval's ends as the metric reads, the lower first; may be infinite."""
    if interval is None:
        return None, None
    ends = sorted((hypothesis.reading.show(interval.low), hypothesis.reading.show(interval.high)))
    return ends[0], ends[1]


def _said(hypothesis: Hypothesis, effect: float) -> str:
    """An effect as the metric reads, to three significant digits."""
    reading = hypothesis.reading
    return interval(reading.show(effect), None, None, reading.unit, signed=reading.form != "ratio")


def _asked_ends(hypothesis: Hypothesis) -> dict[str, float]:
    """The range asked for, as the metric reads."""
    ends: dict[str, float] = {}
    for bound in hypothesis.support:
        upwards = (bound.side == "above") == (hypothesis.reading.sign > 0)
        ends["asked_low" if upwards else "asked_high"] = hypothesis.reading.show(bound.value)
    return ends


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
