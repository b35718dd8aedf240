"""Doubts about a sample: one pair that rules, skew, dependence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from moebench.claims.judge import judge
from tests.support.builders import lower_by, pair


def notes(gains_seen: Sequence[float], **other: Any) -> str:
    return " ".join(lower_by(gains_seen, {"kind": "superior", "margin": 0.0}, **other).notes)


def test_one_pair_that_rules_is_named() -> None:
    said = notes([0.02, 0.021, 0.019, 0.5, 0.02, 0.022, 0.018, 0.02])
    assert "one seed rules: seed 3 is at" in said
    assert "the mean without it at" in said
    assert "one seed rules" not in notes(np.arange(1.0, 9.0) / 100)


def test_skew_and_dependence_are_said() -> None:
    assert "skewed effects" in notes([0.01, 0.011, 0.012, 0.06, 0.01, 0.011, 0.012, 0.011, 0.055, 0.012, 0.013, 0.01])
    assert "successive seeds follow each other" in notes([s / 100 for s in range(1, 17)])
    assert "successive" not in notes([0.01, 0.03, 0.02, 0.05, 0.02, 0.04, 0.01, 0.03])


def test_doubts_are_rare_on_good_data() -> None:
    rng = np.random.default_rng(1)
    found = [notes(row) for row in 0.02 + rng.normal(0, 0.01, (150, 8))]
    assert np.mean(["rules" in said or "skewed" in said or "successive" in said for said in found]) <= 0.06


def test_a_sample_that_was_only_read_is_not_changed() -> None:
    evidence = pair([1.9] * 8, [2.0] * 8, {"kind": "superior"})
    assert judge(evidence) == judge(replace(evidence))
