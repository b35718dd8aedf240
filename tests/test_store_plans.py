"""Stored plans: their texts, their times, and those that do not read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from moebench.store import Results
from tests.support import golden_results


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_storing_a_plan_again_touches_nothing(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    first = results.save_plan(plan, golden_results.MACHINE)
    path = results.plan_path(plan)
    assert path.name == f"{plan.suite}@default-{plan.id}.json"
    before = path.stat().st_mtime_ns
    clock[0] = 2000.0
    assert results.save_plan(plan, golden_results.MACHINE.model_copy(update={"git": "other"})) == first
    assert path.stat().st_mtime_ns == before
    assert results.plans() == [first]
    assert (first.stored_at, set(first.claims_first_stored.values())) == (1000.0, {1000.0})


def test_a_changed_text_is_stored_under_the_first_times(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    results.save_plan(plan, golden_results.MACHINE)
    clock[0] = 2000.0
    reworded = plan.model_copy(update={"warnings": ("mind the gap",)})
    stored = results.save_plan(reworded, golden_results.MACHINE)
    assert (stored.plan.warnings, stored.stored_at) == (("mind the gap",), 1000.0)
    assert results.plans() == [stored]


def test_a_claim_is_dated_by_the_first_plan_that_made_it(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    early, late = dict(list(plan.claim_hashes.items())[:1]), plan.claim_hashes
    results.save_plan(plan.model_copy(update={"claim_hashes": early}), golden_results.MACHINE)
    clock[0] = 2000.0
    stored = results.save_plan(plan, golden_results.MACHINE)
    dates = {claim: stored.claims_first_stored[hashed] for claim, hashed in late.items()}
    assert {claim: at for claim, at in dates.items() if claim in early} == dict.fromkeys(early, 1000.0)
    assert {at for claim, at in dates.items() if claim not in early} == {2000.0}
    assert [one.stored_at for one in results.plans(plan.suite)] == [2000.0, 1000.0]
    assert results.plans("another") == []


@pytest.mark.parametrize("text", ["{", "{}", '{"plan": 1}'])
def test_a_spoilt_plan_is_passed_over_and_told_by_name(tmp_path: Path, text: str) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "x@default-1.json").write_text(text)
    stored = results.save_plan(plan, golden_results.MACHINE)
    assert results.plans() == [stored]
    (problem,) = results.unreadable_plans()
    assert "x@default-1.json" in str(problem)


def test_a_plan_takes_the_place_of_a_spoilt_one_which_is_kept(tmp_path: Path, clock: list[float]) -> None:
    plan, results = golden_results.golden_plan(seeds=2), Results(tmp_path)
    path = results.plan_path(plan)
    path.parent.mkdir()
    path.write_text("{")
    assert results.plans() == []
    stored = results.save_plan(plan, golden_results.MACHINE)
    assert results.plans() == [stored]
    assert path.with_name(path.name + ".unreadable").read_text() == "{"
