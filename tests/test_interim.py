"""An unfinished plan has estimates and no verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moebench.claims.judge import judge, strict_ok
from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, claim, evidence_of, judged, with_outcome
from tests.support.sealed import EIGHT, SUPERIOR, timed


def primary() -> Evidence:
    return evidence_of({"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}, {"c": claim(SUPERIOR, family="primary")})


@pytest.mark.parametrize("status", ["missing", "partial", "failed", "corrupt"])
@pytest.mark.parametrize("model", ["moe", "dense"])
def test_a_plan_of_which_one_run_is_not_done_has_an_estimate_and_no_verdict(status: str, model: str) -> None:
    assert strict_ok(judge(primary()))
    evidence = with_outcome(primary(), model, 3, status=status, reason="out of luck", values={})
    verdict = judged(evidence)
    assert verdict.state == "interim"
    assert verdict.estimate is not None
    assert (verdict.p, verdict.p_adjusted) == (None, None), "nothing was tested"
    assert verdict.reason.startswith(f"7 of 8 seeds: seed 3: {model} is {status}")
    assert verdict.reason.endswith("`moebench run built` finishes it")
    assert not strict_ok([verdict])


def test_a_diverged_run_is_finished() -> None:
    block = {"c": claim(SUPERIOR)}
    values = {"moe": {BPB: [1.9] * 10}, "dense": {BPB: [2.0] * 10}}
    assert judged(evidence_of(values, block, diverged=[("moe", 3)])).state != "interim"


def test_a_run_that_was_done_without_the_number_leaves_no_verdict() -> None:
    evidence = with_outcome(primary(), "moe", 7, values={}, absent={BPB: "the disk was full"})
    verdict = judged(evidence)
    assert verdict.state == "interim"
    assert verdict.reason == f"7 of 8 seeds: seed 7: moe has no {BPB} (the disk was full)"


def test_every_point_of_a_sweep_must_be_there() -> None:
    names = {"moe_s2": 2.0, "moe_s4": 4.0, "moe_s8": 8.0}
    values = {name: {BPB: list(2 - EIGHT * np.log2(x))} for name, x in names.items()}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe_s", along="ffn.experts")
    sweeps = {"moe_s": {name: {"ffn.experts": x} for name, x in names.items()}}
    verdict = judged(evidence_of(values, {"c": block}, sweeps=sweeps, missing=[("moe_s4", 2)]))
    assert verdict.state == "interim"
    assert "seed 2: moe_s4 is missing" in verdict.reason


def test_the_model_that_sets_a_target_must_be_there() -> None:
    block = claim({"kind": "ratio_at_least", "value": 1.2}, "tokens_to_quality", target={"reach": "big"})
    curves = {m: [[3.0, 2.6, 2.4, 2.2, end]] * 8 for m, end in (("moe", 1.9), ("dense", 2.0), ("big", 2.0))}
    evidence = evidence_of({}, {"c": block}, curves=curves, missing=[("big", 0)])
    assert judged(evidence).state == "interim"


def test_a_session_with_a_process_to_come_has_no_verdict() -> None:
    assert judged(timed()).state == "supported"
    verdict = judged(replace(timed(), processes=timed().processes[:-1]))
    assert verdict.state == "interim"
    assert verdict.reason == "9 of 10 processes: process 9: not there; `moebench run built` finishes it"
    lacking = [replace(p, values={m: v for m, v in p.values.items() if m != "moe"}) for p in timed().processes[:1]]
    evidence = replace(timed(), processes=(*lacking, *timed().processes[1:]))
    assert judged(evidence).state == "interim"
    assert judged(with_outcome(evidence, "moe", 0, status="diverged")).state == "supported", "it cannot be timed"


def test_an_unfinished_claim_keeps_its_place_in_the_family() -> None:
    """Its p counts as 1: what is not there yet helps no other claim."""
    other = claim({"kind": "superior", "margin": 0.02}, family="primary")
    values = {"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}, "moe_2": {BPB: 2 - EIGHT}}
    half = claim(SUPERIOR, family="primary", compare={"treatment": "moe_2", "baseline": "dense"})
    whole = judge(evidence_of(values, {"c": other, "half": half}))
    assert [v.state for v in whole] == ["supported", "supported"]
    some = judge(evidence_of(values, {"c": other, "half": half}, missing=[("moe_2", 0)]))
    assert [v.state for v in some] == ["inconclusive", "interim"]
