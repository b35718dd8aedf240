"""Timed claims and hypotheses for tests of judging."""

from __future__ import annotations

from typing import Any

import numpy as np

from moebench.claims.decide import Correction, settle, weigh
from moebench.claims.hypothesis import Bound, Contrast, Hypothesis, Reading, Term
from moebench.claims.samples import Sample
from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, claim, evidence_of


def timed(
    ratio: float = 1.05, *, again: float = 1.0, processes: int = 10, noise: float = 0.01, **other: Any
) -> Evidence:
    rng = np.random.default_rng(2)
    metric = "speed.decode_step_s[batch=8]"
    drift = np.exp(rng.normal(0, 0.2, processes))
    values = {"dense": 1.0, "dense~again": again, "moe": ratio}
    times = {m: {metric: 0.004 * v * drift * np.exp(rng.normal(0, noise, processes))} for m, v in values.items()}
    block = claim({"kind": "non_inferior", "margin": "10%"}, metric)
    return evidence_of({"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": block}, times=times, **other)


def hypothesis_of(support: tuple[Bound, ...], refute: tuple[Bound, ...], level: float = 0.025) -> Hypothesis:
    terms = (Term(model="moe", metric=BPB, weight=-1), Term(model="dense", metric=BPB, weight=1))
    return Hypothesis(
        contrast=Contrast(terms=terms, log=False),
        support=support,
        refute=refute,
        reading=Reading(form="difference", sign=-1, unit="bits/byte"),
        asked="",
        level=level,
    )


def decided_of(sample: Sample, hypothesis: Hypothesis) -> str:
    finding = weigh(sample, hypothesis)
    none = Correction(p_for=finding.p_for or 0.0, p_against=finding.p_against or 0.0, words="", in_family=False)
    return settle(finding, hypothesis, sample, none)[0]
