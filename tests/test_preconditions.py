"""What a claim needs before it is judged; timed claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moebench.reader.evidence import Evidence, TunedModel
from tests.support.builders import (
    BPB,
    claim,
    evidence_of,
    judged,
    pair,
    with_outcome,
)
from tests.support.simulated import timed

EIGHT = np.arange(1.0, 9.0) / 100
"""Mean 0.045. The 6th of the 256 subset means, 2.5% of them, are (1 + 2 + 4) / 3 and (8 + 7 + 5) / 3 hundredths."""


# ---------------------------------------------------------------------------------------------- preconditions


def invalid(evidence: Evidence, words: str) -> None:
    verdict = judged(evidence)
    assert verdict.state == "invalid"
    assert words in verdict.reason
    assert (verdict.estimate, verdict.p) == (None, None)


def test_one_mutated_token_makes_a_pair_invalid() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    run = evidence.outcome("moe", 5)
    assert run is not None
    mutated = {step: (digest if step < 100 else "f" * 16) for step, digest in run.digests.items()}
    invalid(with_outcome(evidence, "moe", 5, digests=mutated), "moe and dense with seed 5 did not see the same tokens")


def test_a_shorter_stream_may_be_a_prefix() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    run = evidence.outcome("moe", 5)
    assert run is not None
    short = {step: digest for step, digest in run.digests.items() if step <= 120}
    assert judged(with_outcome(evidence, "moe", 5, digests=short)).state == "supported"
    invalid(with_outcome(evidence, "moe", 5, digests={**short, 120: "f" * 16}), "same tokens up to step 120")
    invalid(with_outcome(evidence, "moe", 5, digests={}), "no digest")


def test_another_test_split() -> None:
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    invalid(with_outcome(evidence, "dense", 2, test_digest="u" * 16), "different test splits")


def test_a_missed_match() -> None:
    test = {"kind": "superior"}
    invalid(pair(2 - EIGHT, [2.0] * 8, test, residual=0.02), "match: moe misses dense by +2.00%")
    assert judged(pair(2 - EIGHT, [2.0] * 8, test, residual=-0.009)).state == "supported"


def test_a_router_that_sees_the_future() -> None:
    """The plan says so, whatever is known of the router now."""
    evidence = pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"})
    model = evidence.plan.models["moe"]
    a = model.architecture
    assert a.router is not None
    a = a.model_copy(update={"router": a.router.model_copy(update={"causal": False})})
    models = {**evidence.plan.models, "moe": model.model_copy(update={"architecture": a})}
    plan = evidence.plan.model_copy(update={"models": models})
    evidence = replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan}))
    invalid(evidence, "softmax_topk of moe sees later tokens")


def test_quality_not_shown_to_be_tuned() -> None:
    words = "learning rate not shown to be tuned"
    good = TunedModel(lrs=(1e-3, 3e-3, 9e-3), best_lr=3e-3, interior=True, configured_lr=3e-3)

    def notes(**tuned: TunedModel) -> str:
        return " ".join(judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, tuned=tuned)).notes)

    assert words not in notes(moe=good, dense=good)
    assert words in notes()
    assert "no sweep of dense" in notes(moe=good)
    assert "end of its range" in notes(moe=good, dense=replace(good, interior=False))
    assert "sweeps differ" in notes(moe=good, dense=replace(good, lrs=(1e-3, 3e-3, 8e-3)))
    assert "its best was 0.009" in notes(moe=replace(good, best_lr=9e-3), dense=good)
    assert "no rate" in notes(moe=replace(good, best_lr=None), dense=good)


# ---------------------------------------------------------------------------------------------- timed claims


def test_timed_claims_pair_within_processes() -> None:
    verdict = judged(timed())
    assert (verdict.state, verdict.n, verdict.units) == ("supported", 10, "processes")
    assert verdict.estimate == pytest.approx(5, abs=1)
    assert "processes" in verdict.method
    assert any(note.startswith("A/A:") for note in verdict.notes)
    assert judged(timed(1.2)).state == "refuted"
    assert judged(timed(1.1, noise=0.05)).state == "inconclusive"


def test_a_baseline_that_differs_from_itself_gates_timed_claims() -> None:
    verdict = judged(timed(again=1.05))
    assert verdict.state == "invalid"
    assert "A/A" in verdict.reason
    assert judged(timed(again=1.015)).state == "supported", "within 2% is quiet enough"
    assert judged(timed(again=1.05, noise=0.1)).state != "invalid", "noise only widens the interval"


def test_a_session_that_was_not_raced_against_itself_is_invalid() -> None:
    evidence = timed()
    bare = [replace(p, values={m: v for m, v in p.values.items() if "~" not in m}) for p in evidence.processes]
    assert judged(replace(evidence, processes=tuple(bare))).state == "invalid"


def test_no_speed_session_is_not_tested_and_says_how_to_get_one() -> None:
    evidence = timed()
    verdict = judged(replace(evidence, processes=(), speed_reason="killed"))
    assert verdict.state == "not_tested"
    assert "moebench run built" in verdict.reason
    assert "killed" in verdict.reason
    never = evidence_of(
        {"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": claim({"kind": "superior"}, "speed.train_step_s")}
    )
    assert "measure" in judged(never).reason


def test_a_timing_that_the_session_left_out() -> None:
    evidence = timed()
    spec = evidence.plan.spec
    other = spec.claims["c"].model_copy(update={"metric": "speed.prefill_s[tokens=64]"})
    plan = evidence.plan.model_copy(update={"spec": spec.model_copy(update={"claims": {"c": other}})})
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan})))
    assert verdict.state == "not_tested"
    assert "speed.prefill_s[tokens=64]" in verdict.reason


def test_few_processes_and_unsteady_ones_are_said() -> None:
    evidence = timed(processes=6)
    first = replace(evidence.processes[0], unsteady=frozenset({("moe", "speed.decode_step_s[batch=8]")}))
    notes = " ".join(judged(replace(evidence, processes=(first, *evidence.processes[1:]))).notes)
    assert "6 processes; use 10 for a headline claim" in notes
    assert "not settled in 1 of 6" in notes
