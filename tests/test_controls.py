"""Controls of the instrument."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moebench.claims.controls import check_controls
from tests.support.builders import BPB, claim, evidence_of, judged
from tests.support.simulated import timed


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
