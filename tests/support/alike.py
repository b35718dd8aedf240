"""Evidence of two models measured alike, of which tests change one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, claim, evidence_of, with_plan

SUPERIOR = {"kind": "superior", "margin": 0}


MOE = [1.9, 1.91, 1.89, 1.9, 1.92, 1.88, 1.9, 1.9]


DENSE = [2.0, 2.0, 1.99, 2.01, 2.0, 2.0, 1.98, 2.02]


DOCUMENTS = [(4000, 4000 * 1.9), (6000, 6000 * 1.9), (5000, 5000 * 1.9), (115_000, 115_000 * 1.9)]
"""(bytes, bits) of what a well-behaved evaluation scored."""


def twins(metric: str = BPB, test: dict[str, Any] = SUPERIOR, **other: Any) -> Evidence:
    """A mixture below a dense model by 5%, matched, all on the same text."""
    values = {"moe": {metric: MOE}, "dense": {metric: DENSE}}
    return evidence_of(values, {"c": claim(test, metric)}, **{"items": scoring(DOCUMENTS), **other})


def scoring(documents: Sequence[tuple[int, float]], seeds: int = 8) -> dict[str, Any]:
    return {"moe": [documents] * seeds, "dense": [[(n, b * 1.05) for n, b in documents]] * seeds}


def unmatched(evidence: Evidence) -> Evidence:
    return with_plan(evidence, matches=())


def swept(**other: Any) -> Evidence:
    """Three points, evenly apart on a log scale, so that the middle one has weight 0."""
    points = {"moe_s2": 2.0, "moe_s4": 4.0, "moe_s8": 8.0}
    values = {name: {BPB: [2.0 - 0.01 * x + s / 1e4 for s in range(8)]} for name, x in points.items()}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe_s", along="ffn.experts")
    sweeps = {"moe_s": {name: {"ffn.experts": x} for name, x in points.items()}}
    return unmatched(evidence_of(values, {"c": block}, sweeps=sweeps, **other))
