"""A claim before the others are looked at: what was asked and drawn, what is lacking, and the p of what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from moebench.claims import bounds, compound, interim, sealing
from moebench.claims.decide import ALPHA, Finding, enough, shown_p, stands, weigh
from moebench.claims.hypothesis import Guard, Hypothesis, Withheld
from moebench.claims.kinds.part import Parts
from moebench.claims.kinds.published import MEDIAN, of_median
from moebench.claims.preconditions import broken, unfit
from moebench.claims.preconditions.question import Question
from moebench.claims.samples import Sample, draw
from moebench.claims.sensitivity import flipped, sensitivity
from moebench.claims.verdict import Sensitivity
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim
from moebench.suite.looks import is_exact


@dataclass(frozen=True, kw_only=True)
class Draft:
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
    of: tuple[Draft, ...] = ()
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


def drafted(evidence: Evidence, name: str, claim: Claim) -> Draft:
    spec = evidence.plan.spec
    late = sealing.post_hoc(evidence, name, claim) if spec.claims.get(name) == claim else ()
    draft = Draft(id=name, claim=claim, post_hoc=late, exact=is_exact(spec, claim))
    try:
        parts = claim.test.parts(claim, evidence.plan.known)
        asked = of_median(claim, evidence.plan.known) if claim.test.in_ == MEDIAN else None
    except Withheld as withheld:
        return replace(draft, withheld=withheld)
    return _of_one(evidence, draft, asked) if parts is None else _of_parts(evidence, draft, parts)


def _of_parts(evidence: Evidence, draft: Draft, parts: Parts) -> Draft:
    """A claim whose parts are each drafted as if they stood alone: what one of them lacks, it lacks."""
    spec, drafts = evidence.plan.spec, []
    for part in parts.of:
        one = Draft(id=part.name, claim=part.claim, exact=is_exact(spec, part.claim))
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


def _of_one(evidence: Evidence, draft: Draft, asked: Hypothesis | None) -> Draft:
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


def _p_guards(guards: Iterable[tuple[Guard, Sample]]) -> tuple[float, float]:
    shown = [(guard.blocks, shown_p(guard, sample)) for guard, sample in guards]
    of_support, of_refutation = ([p for blocks, p in shown if state in blocks] for state in ("supported", "refuted"))
    return max(of_support, default=0.0), max(of_refutation, default=0.0)


def deciding(of: Sequence[Draft], parts: Parts) -> int:
    p_for, p_against = ([one.p_as_part(against=against) for one in of] for against in (False, True))
    return compound.deciding(p_for, p_against, [_cleared(one) for one in of], parts.need)


def _cleared(draft: Draft) -> float:
    if draft.parts is not None:
        return _cleared(draft.of[deciding(draft.of, draft.parts)])
    if draft.hypothesis is None or draft.finding is None or draft.sample is None:
        return 0.0
    return compound.cleared(draft.finding, draft.hypothesis, draft.sample.n)


def level_of(draft: Draft) -> float:
    """One-sided level of a claim outside the family: the strictest of its parts."""
    if draft.parts is not None:
        return min(map(level_of, draft.of))
    return ALPHA if draft.hypothesis is None else draft.hypothesis.level
