"""Verdicts: what a claim needs before it is judged, when nothing is decided, and the controls of the instrument."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from moebench.claims.controls import check_controls
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.judge import ask, judge, strict_ok
from moebench.claims.kinds import KINDS
from moebench.claims.kinds.kind import Sweeps
from moebench.claims.kinds.ratio_at_least import RatioAtLeast
from moebench.claims.verdict import Verdict
from moebench.format import NBSP
from moebench.reader.evidence import Evidence, TunedModel, gather
from moebench.store import Results
from moebench.suite.claim import Claim
from tests.support.builders import (
    BPB,
    PLANNED_AT,
    claim,
    evidence_of,
    judged,
    lower_by,
    machine,
    pair,
    plan_of,
    timed,
    with_outcome,
)

EIGHT = np.arange(1.0, 9.0) / 100
"""Mean 0.045. The 6th of the 256 subset means, 2.5% of them, are (1 + 2 + 4) / 3 and (8 + 7 + 5) / 3 hundredths."""


# ---------------------------------------------------------------------------------------------- counts


SIZES = {"moe": (300_000, 110_000), "dense": (110_000, 110_000), "big": (300_000, 300_000)}


# ---------------------------------------------------------------------------------------------- when not to decide


@pytest.mark.parametrize("n", [1, 2, 5])
def test_below_six_pairs_nothing_is_decided(n: int) -> None:
    verdict = lower_by([1.0 + i / 100 for i in range(n)], {"kind": "superior"})
    assert verdict.state == "inconclusive"
    assert "at least 6" in verdict.reason
    assert verdict.needs is not None


def test_six_pairs_can_decide() -> None:
    assert lower_by([0.1, 0.11, 0.12, 0.1, 0.11, 0.12], {"kind": "superior"}).state == "supported"


def test_the_interval_is_the_one_of_the_signs() -> None:
    # Flipping the one negative value gives a larger sum: p = 2 / 64, and the smallest of 64 subset means is negative.
    verdict = lower_by([0.1, 0.1, 0.1, 0.1, 0.1, -0.03], {"kind": "superior", "margin": 0.0})
    assert (verdict.state, verdict.p) == ("inconclusive", pytest.approx(2 / 64))
    assert (verdict.low, verdict.high) == (pytest.approx(-0.1), pytest.approx(0.03))
    assert "exact sign flips over seeds" in verdict.method
    few = lower_by([0.1, 0.1, 0.1, 0.1, -0.03], {"kind": "superior", "margin": 0.0})
    assert "paired t" in few.method, "below six pairs an interval and no verdict"


@pytest.mark.parametrize(("gain", "state"), [(0.01, "supported"), (-0.01, "refuted"), (0.0, "inconclusive")])
def test_zero_variance_is_decided_by_signs(gain: float, state: str) -> None:
    verdict = lower_by([gain] * 8, {"kind": "superior", "margin": 0.0})
    assert verdict.state == state
    assert verdict.low == verdict.high == verdict.estimate
    assert 2**-8 in (verdict.p, verdict.p_against) or gain == 0


def test_zero_variance_with_few_pairs_stays_undecided() -> None:
    assert lower_by([0.01] * 5, {"kind": "superior"}).state == "inconclusive"


def test_missing_runs_are_counted_with_their_reason() -> None:
    test = {"kind": "superior"}
    some = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("moe", 3)]))
    assert (some.state, some.n) == ("interim", 7), "an estimate, and no verdict until the last planned run is done"
    assert some.reason == "7 of 8 seeds: seed 3: moe is missing; `moebench run built` finishes it"
    assert any("7 of 8 seeds present" in note and "seed 3: moe is missing" in note for note in some.notes)
    few = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("moe", s) for s in range(4)]))
    assert few.state == "interim"
    assert few.reason.startswith("4 of 8 seeds: seed 0: moe is missing; ")
    none = judged(pair(2 - EIGHT, [2.0] * 8, test, missing=[("dense", s) for s in range(8)]))
    assert none.state == "not_tested"
    assert "0 of 8 seeds present" in none.reason


def test_a_metric_that_was_not_measured_is_not_tested() -> None:
    verdict = judged(
        evidence_of({"moe": {BPB: [None] * 8}, "dense": {BPB: [2.0] * 8}}, {"c": claim({"kind": "superior"})})
    )
    assert verdict.state == "not_tested"
    assert "not measured here" in verdict.reason


# ---------------------------------------------------------------------------------------------- documents


def test_variances_over_seeds_and_documents_are_added() -> None:
    steady = [[(1000, 1990.0 - 0.01 * s + 30 * (-1) ** d) for d in range(20)] for s in range(8)]
    plain = [[(1000, 2000.0)] * 20] * 8
    gains = [0.01 + 1e-5 * s for s in range(8)]
    values = {"moe": {BPB: [2 - g for g in gains]}, "dense": {BPB: [2.0] * 8}}
    block = {"c": claim({"kind": "superior", "margin": 0.0})}
    narrow = judged(evidence_of(values, block))
    verdict = judged(evidence_of(values, block, items={"moe": steady, "dense": plain}))
    assert narrow.state == "supported"
    assert verdict.state == "inconclusive"
    assert verdict.item_low is not None
    assert verdict.item_high is not None
    assert verdict.low <= verdict.item_low < verdict.item_high <= verdict.high
    assert verdict.method == "exact sign flips over seeds, variance over documents added"
    assert verdict.needs is not None
    assert "score more test text" in verdict.needs


def test_documents_that_agree_add_nothing() -> None:
    items = {
        "moe": [[(1000, 1000 * (2 - g) + d) for d in range(20)] for g in EIGHT],
        "dense": [[(1000, 2000.0 + d) for d in range(20)]] * 8,
    }
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, items=items))
    assert verdict.method == "exact sign flips over seeds"
    assert verdict.item_low == pytest.approx(-0.045)


def test_the_scatter_of_documents_over_seeds_is_not_counted_twice() -> None:
    noise = np.random.default_rng(0).normal(0, 20, (8, 20))
    items = {"moe": [[(1000, 1990.0 + x) for x in row] for row in noise], "dense": [[(1000, 2000.0)] * 20] * 8}
    moe = [1.99 + float(np.mean(row)) / 1000 for row in noise]
    test = {"kind": "superior", "margin": 0.0}
    alone, both = judged(pair(moe, [2.0] * 8, test)), judged(pair(moe, [2.0] * 8, test, items=items))
    width = both.high - both.low
    assert alone.high - alone.low <= width < 1.05 * (alone.high - alone.low)


# ---------------------------------------------------------------------------------------------- families


def family(*margins: float, **other: Any) -> list[Verdict]:
    values = {"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}
    claims = {
        f"c{i}": claim({"kind": "superior", "margin": margin}, family="primary") for i, margin in enumerate(margins)
    }
    return judge(evidence_of(values, {**claims, **other}))


def test_holm_over_the_primary_family() -> None:
    # margin 0.02 has p = 6 / 256 = 0.0234, margin 0 has 1 / 256 = 0.0039.
    alone = family(0.02)
    assert (alone[0].state, alone[0].p_adjusted) == ("supported", pytest.approx(6 / 256))
    two = family(0.02, 0.0)
    assert [v.state for v in two] == ["supported", "supported"]
    assert [v.p_adjusted for v in two] == pytest.approx([6 / 256, 2 / 256])
    three = family(0.02, 0.02, 0.0)
    assert [v.state for v in three] == ["inconclusive", "inconclusive", "supported"]
    assert three[0].p_adjusted == pytest.approx(12 / 256)
    assert "Holm over 3 primary claims" in three[0].reason


def test_holm_corrects_refutations_too() -> None:
    assert family(0.07)[0].state == "refuted"
    two = family(0.07, 0.07)
    assert [v.state for v in two] == ["inconclusive", "inconclusive"]
    assert two[0].p_against_adjusted == pytest.approx(12 / 256)


def test_counts_and_exploratory_claims_are_outside_the_family() -> None:
    count = claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", family="primary")
    verdicts = family(0.02, count=count, more=claim({"kind": "superior", "margin": 0.02}))
    assert [v.state for v in verdicts] == ["supported"] * 3
    assert verdicts[0].p_adjusted == verdicts[0].p
    assert any("not part of the Holm family" in note for note in verdicts[1].notes)
    assert verdicts[2].p_adjusted is None


def test_untested_primary_claims_still_count_in_the_family() -> None:
    timed = claim({"kind": "non_inferior", "margin": "10%"}, "speed.train_step_s", family="primary")
    verdicts = family(0.02, timed=timed)
    assert verdicts[1].state == "not_tested"
    assert verdicts[0].state == "inconclusive", "the correction was fixed before anything ran"


def test_strict() -> None:
    assert strict_ok(family(0.02, more=claim({"kind": "superior", "margin": 0.07})))
    assert not strict_ok(family(0.0, 0.07))
    assert not strict_ok(family(0.03))
    assert not strict_ok([])
    assert not strict_ok(family(more=claim({"kind": "superior", "margin": 0.02}))), "no primary claim"
    late = family(0.02)[0].model_copy(update={"post_hoc": True})
    assert not strict_ok([late]), "a post hoc claim is no primary one"


def test_a_claim_first_stored_after_its_runs_is_post_hoc() -> None:
    block = claim({"kind": "superior"}, family="primary")
    evidence = evidence_of({"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}, {"c": block})
    assert judged(evidence).label == "primary"
    late = dict.fromkeys(evidence.stored.claims_first_stored, PLANNED_AT + 1800)
    assert (
        judged(replace(evidence, stored=evidence.stored.model_copy(update={"claims_first_stored": late}))).label
        == "primary"
    )
    later = dict.fromkeys(evidence.stored.claims_first_stored, PLANNED_AT + 5400)
    verdict = judged(replace(evidence, stored=evidence.stored.model_copy(update={"claims_first_stored": later})))
    assert (verdict.post_hoc, verdict.label, verdict.p_adjusted) == (True, "post hoc", None)
    assert "post hoc" in verdict.notes[0]


# ---------------------------------------------------------------------------------------------- preconditions


def invalid(evidence: Evidence, words: str) -> None:
    verdict = judged(evidence)
    assert verdict.state == "invalid"
    assert words in verdict.reason
    assert (verdict.estimate, verdict.p) == (None, None)


# ---------------------------------------------------------------------------------------------- divergence


def test_one_diverged_run_is_the_worst_value_not_a_missing_one() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 7)]))
    assert verdict.n == 8
    assert verdict.state == "inconclusive"
    assert verdict.unbounded == ("high",)
    assert verdict.estimate == pytest.approx(-1.75, abs=0.01), "the median"
    assert (verdict.low, verdict.high) == (pytest.approx(-2.84, abs=0.01), None)
    assert verdict.effect.replace(NBSP, " ").endswith(", diverged]")
    assert any("1 run diverged" in note for note in verdict.notes)


def test_a_diverged_baseline_favours_the_treatment() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, diverged=[("dense", 0)]))
    assert verdict.state == "supported"
    assert verdict.unbounded == ("low",)


def test_one_diverged_run_of_ten_leaves_nothing_supported() -> None:
    verdict = judged(pair([1.9] * 10, [2.0] * 10, {"kind": "superior"}, diverged=[("moe", 3)]))
    assert verdict.state == "inconclusive", "nor would it be with that run 30% worse instead"
    assert judged(pair([1.9] * 3 + [2.6] + [1.9] * 6, [2.0] * 10, {"kind": "superior"})).state == "inconclusive"
    assert verdict.needs is not None
    assert "runs diverged (1 of moe)" in verdict.needs


def test_both_diverged_is_unknown() -> None:
    both = [("moe", 3), ("dense", 3)]
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior", "margin": 0.0}, diverged=both))
    assert verdict.state == "inconclusive"
    assert verdict.unbounded == ("low", "high")


def test_more_than_a_tenth_diverged_is_invalid() -> None:
    invalid(
        pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 1), ("moe", 2)]),
        "2 of 8 runs of moe diverged",
    )


# ---------------------------------------------------------------------------------------------- words


def test_every_verdict_says_its_scope() -> None:
    verdict = lower_by(EIGHT, {"kind": "superior"}, params=SIZES)
    assert verdict.scope == (
        "nano models (0.11 M active parameters, 0.11 to 0.30 M total), stdlib text, 1.0 M tokens, 2-core x86_64 CPU; "
        "moe over dense: 2.73× total parameters, matched on active parameters"
    )


@pytest.mark.parametrize(
    ("active", "words"),
    [(110_000, "nano models (0.11 M"), (12_000_000, "small models (12.0 M"), (2_000_000_000, "large models (2.0 B")],
)
def test_a_nano_model_is_called_one(active: int, words: str) -> None:
    sizes = {"moe": (active, active), "dense": (active, active)}
    assert lower_by(EIGHT, {"kind": "superior"}, params=sizes).scope.startswith(words)


def test_verdicts_are_json_even_when_unbounded() -> None:
    verdict = judged(pair(2 - EIGHT, [2.0] * 8, {"kind": "superior"}, diverged=[("moe", 7)]))
    again = Verdict.model_validate(json.loads(json.dumps(verdict.model_dump(mode="json"), allow_nan=False)))
    assert again == verdict


def test_judging_twice_gives_the_same() -> None:
    evidence = timed()
    assert judge(evidence) == judge(evidence)


def test_a_margin_nobody_could_meet() -> None:
    verdict = lower_by(EIGHT, {"kind": "superior", "margin": "100%"})
    assert verdict.state == "invalid"


def test_a_metric_without_a_better_direction() -> None:
    rms = "init.ffn_output_rms[layer=0]"
    values = {"moe": {rms: [0.5 + 0.001 * i for i in range(8)]}, "dense": {rms: [0.5 + 0.001 * i for i in range(8)]}}
    assert judged(evidence_of(values, {"c": claim({"kind": "superior"}, rms)})).state == "invalid"
    within = claim({"kind": "ratio_within", "low": 0.99, "high": 1.01}, rms)
    assert judged(evidence_of(values, {"c": within})).state == "supported"


def test_every_kind_is_a_test_of_suites_under_its_own_word() -> None:
    union = get_args(Claim.model_fields["test"].annotation)
    assert {get_args(kind.model_fields["kind"].annotation): kind for kind in union} == {
        (word,): kind for word, kind in KINDS.items()
    }


class TwiceAsGood(RatioAtLeast):
    """The treatment is twice as good."""

    def hypothesis(self, claim: Claim, sweeps: Sweeps) -> Hypothesis:
        return replace(super().hypothesis(claim, sweeps), asked="twice as good")


def test_a_new_kind_is_a_class() -> None:
    asked = Claim.model_validate(claim({"kind": "ratio_at_least", "value": 2}))
    asked = asked.model_copy(update={"test": TwiceAsGood(kind="ratio_at_least", value=2.0)})
    evidence = pair([1.0 - gain for gain in EIGHT], [2.0] * 8, {"kind": "superior"})
    (verdict,) = ask(evidence, {"asked": asked})
    assert (verdict.asked, verdict.state) == ("twice as good", "supported")


def test_builders_make_what_they_say() -> None:
    plan = plan_of(["moe", "dense"], {"c": claim({"kind": "superior"})})
    assert len(plan.runs) == 16
    assert machine().machine == "2-core x86_64 CPU"


def test_verdicts_are_written_as_they_are_printed(pristine: Path) -> None:
    """No view rewrites them: `≥` and not `>=`, `2×` and not `2x`, a true minus sign."""
    results = Results(pristine)
    verdicts = judge(gather(results, results.plans()[-1]))
    texts = [text for v in verdicts for text in (v.asked, v.reason, v.needs or "", v.scope, *v.notes, *v.caveats)]
    assert len(texts) > 20
    assert [text for text in texts if re.search(r"[<>]=|\dx\b|(?<![\w.])-(?=[\d.])", text)] == []


# ----------------------------------------------------------------------------------------------------
# What a claim needs before it is judged; timed claims.


# ---------------------------------------------------------------------------------------------- preconditions


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


# ----------------------------------------------------------------------------------------------------
# Controls of the instrument.


def controlled(values: Sequence[float], *claims: Any) -> Any:
    named = {f"c{place}": block for place, block in enumerate(claims)}
    evidence = evidence_of({"moe": {BPB: values}, "dense": {BPB: values}}, named, same_model="dense")
    return check_controls(evidence)[0]


def test_same_model_control() -> None:
    noise = np.random.default_rng(3).normal(0, 0.002, 8)
    control = controlled(list(2.2 + noise))
    assert (control.state, control.n) == ("passed", "4 seeds against 4")
    assert control.resolution == pytest.approx((control.high - control.low) / 2)
    assert control.low < 0 < control.high
    assert controlled([2.2, 2.3] * 4).state == "failed"
    assert controlled([2.2] * 8).state == "passed", "no variance and no difference"
    assert controlled([2.2] * 3).state == "not_tested"


def test_a_model_against_itself_passes_only_within_what_the_claims_ask_about() -> None:
    values = list(2.2 + np.random.default_rng(3).normal(0, 0.002, 8))
    wide = controlled(
        values, claim({"kind": "superior", "margin": "2%"}), claim({"kind": "equivalent", "margin": "0.1%"})
    )
    assert wide.state == "too_wide"
    assert re.search(r"not within ±0.10%, the margin that a claim asks about; about \d+ seeds would tell", wide.reason)
    assert controlled(values, claim({"kind": "superior", "margin": "2%"})).state == "passed"
    in_bits = controlled(values, claim({"kind": "superior", "margin": 0.0022}))
    assert (in_bits.state, "±0.10%" in in_bits.reason) == ("too_wide", True)
    assert controlled(values, claim({"kind": "superior"})).state == "passed", "no margin is asked: within 1%"


def test_a_noisy_model_is_too_wide_to_tell_and_never_passes() -> None:
    rng = np.random.default_rng(4)
    states = [controlled(list(2.2 * np.exp(rng.normal(0, 0.05, 8)))).state for _ in range(100)]
    assert set(states) <= {"too_wide", "failed"}
    assert states.count("too_wide") > 90


def test_same_model_control_fails_one_time_in_a_hundred() -> None:
    rng = np.random.default_rng(4)
    failed = np.mean([controlled(list(2.2 + rng.normal(0, 0.005, 8))).state == "failed" for _ in range(300)])
    assert failed <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 300)


def test_races_against_itself_are_controls() -> None:
    (race,) = check_controls(timed())
    assert (race.id, race.state) == ("against_itself[speed.decode_step_s[batch=8]]", "passed")
    assert check_controls(timed(again=1.05))[0].state == "failed"


def test_a_race_that_noise_lets_pass_is_too_wide_to_tell() -> None:
    noisy = timed(noise=0.2)
    (race,) = check_controls(noisy)
    assert race.low < 0.98 < 1.02 < race.high
    assert race.state == "too_wide"
    assert re.search(r"not within 0.952× to 1.05×; about \d+ processes would tell, or a quieter machine", race.reason)
    verdict = judged(noisy)
    assert verdict.state != "invalid"
    assert verdict.caveats == ("A/A too wide to tell",)
    assert any(note.startswith("A/A too wide to tell: dense takes ") for note in verdict.notes)
    assert judged(timed()).caveats == ()


def test_a_race_is_held_to_the_smallest_margin_that_a_claim_asks_of_that_timing() -> None:
    assert check_controls(timed(noise=0.02, processes=20))[0].state == "passed"
    finer = timed(noise=0.02, processes=20)
    block = claim({"kind": "non_inferior", "margin": "1%"}, "speed.decode_step_s[batch=8]")
    spec = finer.plan.spec.model_copy(update={"claims": {"c": type(finer.plan.spec.claims["c"]).model_validate(block)}})
    stored = finer.stored.model_copy(update={"plan": finer.plan.model_copy(update={"spec": spec})})
    assert check_controls(replace(finer, stored=stored))[0].state == "too_wide"
