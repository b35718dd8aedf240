"""Speed sessions made again are looks; plans whose folders say otherwise do not read."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from moebench import store
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, gather
from moebench.reader.history import History, Session
from tests.support import golden_results
from tests.support.builders import PLANNED_AT, judged
from tests.support.sealed import STEP, golden, keep, timed

# ---------------------------------------------------------------------------------------------- claims and models


def verdict_of(evidence: Evidence, name: str = "better-per-token") -> Verdict:
    return next(verdict for verdict in judge(evidence) if verdict.id == name)


AFTER = golden_results.STARTED + 5000
"""When all of the golden folder has been done."""


# ---------------------------------------------------------------------------------------------- sessions


def raced(now: Evidence, *, begun: float = PLANNED_AT + 100, models: str = "moe dense", **other: Any) -> Verdict:
    """The verdict where another session was begun that timed the training step of these models."""
    timed = {now.plan.training(name): frozenset({STEP}) for name in models.split()}
    session = Session(**{"begun": begun, "timed": timed, "machines": frozenset({"2-core x86_64 CPU"}), **other})
    return judged(replace(now, history=History(sessions=(session,))))


def test_a_session_made_again_is_a_look() -> None:
    assert judged(timed()).looks == 1
    verdict = raced(timed())
    assert verdict.looks == 2
    assert verdict.p is not None
    assert verdict.p_adjusted == pytest.approx(2 * verdict.p)


def test_what_is_no_look_at_a_timing() -> None:
    assert raced(timed(), models="moe").looks == 1, "the other model was not timed"
    assert raced(timed(), begun=PLANNED_AT + 8000).looks == 1, "begun when this one was done"
    assert raced(timed(), machines=frozenset({"another machine"})).looks == 1
    other = {timed().plan.training(name): frozenset({"speed.prefill_s[tokens=64]"}) for name in ("moe", "dense")}
    assert raced(timed(), timed=other).looks == 1, "it timed something else"


def session_of(root: Path) -> list[Path]:
    """The folders of its processes."""
    return [folder.path for folder in golden_results.process_folders(root, golden(root).plan)]


FASTER = "steps-faster-than-total"


def note(root: Path, at: float, *processes: int, speed: str | None = None, models: str = "", **other: Any) -> None:
    """Notes that processes of a session, by default the plan's own, were timed at a time."""
    plan = golden(root).plan
    assert plan.speed is not None
    timed = {plan.training(name): [STEP] for name in models.split() or plan.models}
    rows = [{"process": k, "at": at, "machine": golden_results.MACHINE.machine, "timed": timed} for k in processes]
    store.append_lines(store.Results(root).timed_path(speed or plan.speed.id), [{**row, **other} for row in rows])


def test_a_session_that_was_removed_and_made_again_is_a_look(root: Path) -> None:
    started = golden_results.STARTED
    note(root, started + 100, *range(6))
    assert verdict_of(golden(root), FASTER).looks == 1
    note(root, started + 200, *range(6))
    note(root, started + 300, *range(6))
    assert verdict_of(golden(root), FASTER).looks == 3
    assert verdict_of(golden(root)).looks == 1, "a loss is not timed"
    assert verdict_of(golden(root), "decodes-as-fast").looks == 1, "the notes say that decoding was not timed"


def test_one_process_that_was_made_again_is_a_look(root: Path) -> None:
    note(root, golden_results.STARTED + 100, *range(6))
    note(root, golden_results.STARTED + 200, 3)
    assert verdict_of(golden(root), FASTER).looks == 2


def test_a_process_made_again_for_a_model_that_it_lacked_is_no_look_at_that_model(root: Path) -> None:
    note(root, golden_results.STARTED + 100, 3, models="dense dense_total")
    note(root, golden_results.STARTED + 200, *range(6))
    assert verdict_of(golden(root), FASTER).looks == 1


def test_another_session_of_the_same_models_is_a_look(root: Path) -> None:
    note(root, golden_results.STARTED + 100, 0, speed="f" * 20)
    assert verdict_of(golden(root), FASTER).looks == 2
    note(root, golden_results.STARTED + 100, 0, speed="e" * 20, machine="another machine")
    note(root, golden_results.STARTED + 5000, 0, speed="d" * 20)
    assert verdict_of(golden(root), FASTER).looks == 2, "elsewhere, and when this one was done"


def test_sessions_of_before_processes_were_noted_are_found_in_their_folders(root: Path) -> None:
    asides = [here.with_name(f"{here.name}.corrupt-1") for here in session_of(root)]
    for here, aside in zip(session_of(root), asides, strict=True):
        shutil.copytree(here, aside)
    assert verdict_of(golden(root), FASTER).looks == 1, "done with this one, not before: its end is all that it tells"
    for aside in asides:
        done = json.loads((aside / "DONE").read_text())
        (aside / "DONE").write_text(json.dumps({**done, "finished": golden_results.STARTED}))
    assert verdict_of(golden(root), FASTER).looks == 2
    note(root, golden_results.STARTED, *range(6))
    assert verdict_of(golden(root), FASTER).looks == 1, "what is noted is not counted again"


@pytest.mark.parametrize("row", ["[]", "{}", '{"process": "x"}', "{", '{"process": 0, "at": 1e300, "timed": {}}'])
def test_notes_that_do_not_read_are_passed_over(root: Path, row: str) -> None:
    plan = golden(root).plan
    assert plan.speed is not None
    store.Results(root).timed_path(plan.speed.id).write_text(f"{row}\n")
    assert verdict_of(golden(root), FASTER).looks == 1


def test_a_margin_moved_after_seven_of_eight_processes_is_post_hoc(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, plan = session_of(root), golden(root).plan
    shutil.rmtree(here[5])
    note(root, golden_results.STARTED + 1000, *range(5))
    moved = golden_results.golden_claims()
    moved[FASTER]["test"] = {"kind": "superior", "margin": "20%"}
    late = golden_results.golden_plan(claims=moved)
    assert late.speed == plan.speed
    stored = keep(root, late, AFTER, monkeypatch)
    verdict = verdict_of(gather(store.Results(root), stored), FASTER)
    assert (verdict.label, verdict.state) == ("post hoc", "interim")
    assert verdict_of(gather(store.Results(root), stored), "decodes-as-fast").label == "exploratory", "as it was"
    for folder in here[:5]:
        shutil.rmtree(folder)
    assert verdict_of(gather(store.Results(root), stored), FASTER).label == "post hoc", "removing it unsees nothing"


def test_an_unfinished_session_without_notes_was_seen_from_its_first_run_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in session_of(root):
        (folder / "DONE").unlink()
    assert verdict_of(golden(root), "decodes-as-fast").label == "exploratory"
    moved = golden_results.golden_claims()
    moved["decodes-as-fast"]["test"] = {"kind": "non_inferior", "margin": "200%"}
    stored = keep(root, golden_results.golden_plan(claims=moved), AFTER, monkeypatch)
    assert verdict_of(gather(store.Results(root), stored), "decodes-as-fast").label == "post hoc"
    plan = golden(root).plan
    assert plan.speed is not None
    assert golden(root).history.begun == {plan.speed.id: golden_results.STARTED + 900}


# ---------------------------------------------------------------------------------------------- plans as files


def test_a_plan_that_counts_something_twice_does_not_read(root: Path) -> None:
    path = next((root / "plans").glob("*.json"))
    whole = json.loads(path.read_text())
    plan = whole["plan"]
    for harmed in (
        {**plan, "spec": {**plan["spec"], "seeds": [0, 0, *plan["spec"]["seeds"][2:]]}},
        {**plan, "jobs": [plan["jobs"][0], *plan["jobs"]]},
        {**plan, "jobs": [{**plan["jobs"][0], "seed": 99}, *plan["jobs"]]},
        {**plan, "claim_hashes": {**plan["claim_hashes"], "ghost": "0" * 16}},
    ):
        with pytest.raises(ValidationError):
            Plan.model_validate(harmed)
        path.write_text(json.dumps({**whole, "plan": harmed}))
        assert len(store.Results(root).unreadable_plans()) == 1
        assert store.Results(root).plans() == []


def test_two_models_may_be_one() -> None:
    """A model against itself: the same runs under two names are no run counted twice."""
    plan = golden_results.golden_plan(seeds=2)
    twin = {**plan.models, "dense": plan.models["dense_total"]}
    runs = [run if run.model != "dense" else run.model_copy(update={"id": plan.runs[2].id}) for run in plan.runs[:3]]
    value = plan.model_copy(update={"models": twin, "jobs": tuple(runs)}).model_dump(mode="json")
    assert len(Plan.model_validate(value).runs) == 3
