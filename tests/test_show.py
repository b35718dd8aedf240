"""A terminal is told of verdicts what the page says of them: which p decided, how it was corrected, of what n."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moebench.claims import Verdict, judge
from moebench.show import verdict_text
from tests.builders import BPB, claim, evidence_of

GAINS = np.arange(1.0, 9.0) / 100


def verdicts() -> list[Verdict]:
    claims = {
        "first": claim({"kind": "superior", "margin": 0.0}, family="primary", says="First."),
        "second": claim({"kind": "superior", "margin": 0.0}, family="primary", says="Second."),
        "against": claim({"kind": "superior", "margin": 0.07}, says="Against."),
        "count": claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", says="Count."),
        "timed": claim({"kind": "superior"}, "speed.train_step_s", says="Timed."),
    }
    return judge(evidence_of({"moe": {BPB: 2 - GAINS}, "dense": {BPB: [2.0] * 8}}, claims))


def line_of(says: str) -> str:
    (line,) = [line for line in verdict_text(verdicts(), path=Path("reports")).splitlines() if says in line]
    return line


def test_a_primary_claim_shows_the_p_that_holm_leaves() -> None:
    assert line_of("First.").endswith("8 pairs  0.0039 (Holm 0.0078)")


def test_a_refuted_claim_shows_the_p_of_its_refutation() -> None:
    against = next(v for v in verdicts() if v.id == "against")
    assert against.state == "refuted"
    assert line_of("Against.").endswith(f"{against.p_against:.2g} against")


def test_counts_are_exact_and_nothing_measured_has_no_n() -> None:
    assert line_of("Count.").endswith("exact")
    assert "0 pairs" not in line_of("Timed.")
