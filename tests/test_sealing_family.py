"""A primary family never shrinks: claims withdrawn afterwards are still corrected for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moebench.claims import sealing
from moebench.claims.judge import judge, strict_ok
from moebench.reader.evidence import Evidence
from moebench.reader.history import History
from tests.support.builders import BPB, PLANNED_AT, claim, evidence_of, judged
from tests.support.sealed import EIGHT

LATER = PLANNED_AT + 9000


def family_of(names: str, *, at: float = PLANNED_AT, margin: float = 0.02) -> Evidence:
    """A plan with one primary claim a letter, all of them true and alike (p = 6 / 256 at a margin of 0.02)."""
    values = {"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}
    block = {"kind": "superior", "margin": margin}
    claims = {name: claim(block, family="primary", says=f"It is so, {name}.") for name in names}
    evidence = evidence_of(values, claims)
    return replace(evidence, stored=evidence.stored.model_copy(update={"stored_at": at}))


def beside(now: Evidence, *others: Evidence) -> Evidence:
    return replace(now, history=History(plans=tuple(one.stored for one in others)))


def test_claims_deleted_afterwards_are_still_corrected_for() -> None:
    six = judge(family_of("abcdef"))
    assert {v.state for v in six} == {"inconclusive"}
    assert six[0].p_adjusted == pytest.approx(6 * 6 / 256)
    evidence = beside(family_of("a", at=LATER), family_of("abcdef"))
    verdict = judged(evidence)
    assert (verdict.state, verdict.label, verdict.looks) == ("inconclusive", "primary", 1)
    assert verdict.p_adjusted == six[0].p_adjusted
    assert "Holm over 6 primary claims (5 of them withdrawn)" in verdict.reason
    assert any("b, c, d, e, f" in note for note in verdict.notes)
    assert not strict_ok([verdict])
    assert [(one.id, one.says) for one in sealing.withdrawn(evidence)] == [(n, f"It is so, {n}.") for n in "bcdef"]


def test_a_claim_that_is_still_made_of_other_models_is_not_withdrawn() -> None:
    """As after a sweep, when a better rate is written into the suite."""
    other = family_of("a")
    moe = other.plan.models["moe"]
    tuned = moe.model_copy(update={"recipe": moe.recipe.model_copy(update={"lr": 1e-3})})
    plan = other.plan.model_copy(update={"models": {**other.plan.models, "moe": tuned}})
    evidence = beside(family_of("a"), replace(other, stored=other.stored.model_copy(update={"plan": plan})))
    assert sealing.withdrawn(evidence) == ()
    assert judged(evidence).p_adjusted == pytest.approx(6 / 256)


def test_a_family_is_never_smaller_than_the_plans_own() -> None:
    evidence = beside(family_of("abcd"), family_of("a"))
    assert [v.p_adjusted for v in judge(evidence)] == [pytest.approx(4 * 6 / 256)] * 4
    assert sealing.withdrawn(evidence) == ()


def test_going_back_to_an_earlier_plan_is_a_choice_among_all() -> None:
    """Six plans of one claim each, all stored before the data: the last is what was planned."""
    six = [family_of(name, at=PLANNED_AT + at) for at, name in enumerate("abcdef")]
    first, last = judged(beside(six[0], *six[1:])), judged(beside(six[5], *six[:5]))
    assert (last.state, last.p_adjusted) == ("supported", pytest.approx(6 / 256))
    assert (first.state, first.p_adjusted) == ("inconclusive", pytest.approx(6 * 6 / 256))
    assert judged(beside(six[0], family_of("a", at=LATER))).p_adjusted == pytest.approx(6 / 256), "the same claim"


def test_a_claim_that_came_post_hoc_enlarged_no_family() -> None:
    late = family_of("ab", at=LATER)
    first = {late.plan.claim_hashes["a"]: PLANNED_AT, late.plan.claim_hashes["b"]: LATER}
    late = replace(late, stored=late.stored.model_copy(update={"claims_first_stored": first}))
    assert judged(beside(family_of("a"), late)).p_adjusted == pytest.approx(6 / 256)


def test_counts_are_in_no_family() -> None:
    count = claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", family="primary")
    other = evidence_of({"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}, {"count": count})
    assert judged(beside(family_of("a"), other)).p_adjusted == pytest.approx(6 / 256)


def test_a_plan_of_other_jobs_or_another_suite_with_other_claims_withdrew_nothing() -> None:
    other = family_of("abcdef")
    models = {
        name: model.model_copy(update={"recipe": model.recipe.model_copy(update={"lr": 1e-4})})
        for name, model in other.plan.models.items()
    }
    elsewhere = other.plan.model_copy(update={"models": models})
    changed = replace(other, stored=other.stored.model_copy(update={"plan": elsewhere}))
    assert judged(beside(family_of("a"), changed)).p_adjusted == pytest.approx(6 / 256)


def test_a_renamed_suite_with_the_same_claim_keeps_its_family() -> None:
    other = family_of("abcdef")
    spec = other.plan.spec.model_copy(update={"suite": "renamed"})
    plan = other.plan.model_copy(update={"suite": "renamed", "spec": spec})
    renamed = replace(other, stored=other.stored.model_copy(update={"plan": plan}))
    assert judged(beside(family_of("a", at=LATER), renamed)).p_adjusted == pytest.approx(36 / 256)
