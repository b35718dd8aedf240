"""The way from evidence to verdicts, claim by claim, then over the family of primary claims.

Order matters: a claim that cannot be answered is NOT_TESTED, one whose runs break a precondition is INVALID, one of
which not all is there that was planned is INTERIM, an estimate and no verdict, and only then are numbers weighed.
Holm's correction counts every primary claim that was ever stored with these jobs, tested or not, withdrawn or not, so
that the correction is fixed before anything is run; counts are exact and outside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from moebench import stats
from moebench.claims import sealing
from moebench.claims.conclude import Family, conclude, correction_of
from moebench.claims.draft import Draft, drafted
from moebench.claims.looks import Course, Stage, taken
from moebench.claims.verdict import Verdict
from moebench.metrics import in_force
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.evidence import Evidence, gather
from moebench.store import Source
from moebench.suite.claim import Claim


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
    drafts = [drafted(evidence, name, claim) for name, claim in evidence.plan.spec.claims.items()]
    family = [draft for draft in drafts if draft.in_family]
    gone = max(0, sealing.family_size(evidence) - len(family))
    held = [_held(family, gone, stage, state) for state in ("supported", "refuted")]
    holm = {draft.id: (held[0][draft.id], held[1][draft.id]) for draft in family}
    names = tuple(one.id for one in sealing.withdrawn(evidence))
    size = Family(size=len(family) + gone, withdrawn=gone, names=names, stage=stage)
    verdicts = [conclude(evidence, draft, correction_of(draft, holm.get(draft.id), size), size) for draft in drafts]
    if not evidence.plan.asked.smoke:
        return verdicts
    return [verdict if verdict.state == "cited" else _unjudged(verdict) for verdict in verdicts]


def _held(family: Sequence[Draft], gone: int, stage: Stage, state: str) -> dict[str, float]:
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
    alone = Family(size=0, withdrawn=0, names=(), stage=Stage(seeds=len(evidence.plan.spec.seeds)))
    with in_force(evidence.metrics):
        drafts = [drafted(evidence, name, claim) for name, claim in questions.items()]
        return [conclude(evidence, draft, correction_of(draft, None, alone), alone) for draft in drafts]


def strict_ok(verdicts: Sequence[Verdict]) -> bool:
    """Whether there is a primary claim and each is supported; one that came post hoc shows nothing and fails."""
    primary = [verdict for verdict in verdicts if verdict.family == "primary"]
    return bool(primary) and all(v.state == "supported" and v.label == "primary" for v in primary)
