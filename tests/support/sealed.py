"""Plans kept at a given time, and the evidence that results give with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moebench import store
from moebench.planning.types import Plan, StoredPlan
from moebench.reader.evidence import Evidence, gather
from tests.support import golden_results
from tests.support.builders import BPB, claim, evidence_of

EIGHT = np.arange(1.0, 9.0) / 100


SUPERIOR = {"kind": "superior", "margin": 0.0}


STEP = "speed.train_step_s"


def timed(processes: int = 10) -> Evidence:
    rng = np.random.default_rng(1)
    drift = np.exp(rng.normal(0, 0.1, processes))
    times = {m: {STEP: x * drift} for m, x in (("moe", 0.008), ("dense", 0.01), ("dense~again", 0.01))}
    runs = {"moe": {BPB: [2.0] * processes}, "dense": {BPB: [2.0] * processes}}
    return evidence_of(runs, {"c": claim(SUPERIOR, STEP, family="primary")}, times=times)


def golden(root: Path, plan: Plan | None = None) -> Evidence:
    """A plan of the folder, by default the newest."""
    results = store.Results(root)
    return gather(results, next(one for one in results.plans() if plan is None or one.plan.id == plan.id))


def keep(root: Path, plan: Plan, at: float, monkeypatch: pytest.MonkeyPatch) -> StoredPlan:
    """Stores a plan as if it were so late."""
    monkeypatch.setattr("moebench.store.results.time.time", lambda: at)
    return store.Results(root).save_plan(plan, golden_results.MACHINE)
