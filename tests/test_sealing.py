"""A verdict rests on a sealed plan: what changes after it was first stored can only make a verdict weaker,
unfinished plans have none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from moebench import store
from moebench.claims import sealing
from moebench.claims.judge import judge, strict_ok
from moebench.claims.verdict import Verdict
from moebench.cli.commands import main
from moebench.planning.types import Plan, PlannedJob
from moebench.reader.evidence import Evidence, gather
from moebench.reader.history import History, Stray
from tests.support import golden_results
from tests.support.builders import BPB, PLANNED_AT, claim, evidence_of, judged, with_outcome
from tests.support.sealed import EIGHT, SUPERIOR, golden, keep, timed

# ---------------------------------------------------------------------------------------------- seeds and looks


DONE = PLANNED_AT + 3600
"""When every run of `builders` was done, unless told otherwise."""


LATER = PLANNED_AT + 9000


def rerun(plan: Plan, runs: Sequence[PlannedJob]) -> tuple[PlannedJob, ...]:
    """The jobs of a plan with other runs."""
    return (*golden_results.measured(runs), *plan.sessions)


def seeded(seeds: Iterable[int], *, at: float = PLANNED_AT, gain: float = 0.1, **other: Any) -> Evidence:
    """A plan of these seeds, stored at a time, all of it done at `DONE`; its claim was first made at `PLANNED_AT`."""
    chosen = tuple(seeds)
    values = {"moe": {BPB: [2 - gain] * len(chosen)}, "dense": {BPB: [2.0] * len(chosen)}}
    block = {"c": claim({"kind": "superior", "margin": 0.02}, family="primary")}
    evidence = evidence_of(values, block, seeds=chosen, **other)
    return replace(evidence, stored=evidence.stored.model_copy(update={"stored_at": at}))


def seen(now: Evidence, *others: Evidence, done: float = DONE, undone: Iterable[int] = ()) -> Verdict:
    """The verdict where other plans are stored in the folder whose runs, but for some seeds, were done at a time."""
    own = {run.id for run in now.plan.runs}
    runs = {run.id: run.seed for one in others for run in one.plan.runs if run.id not in own}
    finished = {run_id: done for run_id, seed in runs.items() if seed not in set(undone)}
    return judged(replace(now, history=History(plans=tuple(one.stored for one in others), finished=finished)))


def test_seeds_that_were_added_are_another_look() -> None:
    verdict = seen(seeded(range(8), at=LATER), seeded(range(6)))
    assert (verdict.looks, verdict.label) == (2, "primary")
    assert any("look 2" in note for note in verdict.notes)
    assert verdict.p == 2**-8
    assert verdict.p_adjusted == 2 * 2**-8


def test_the_first_of_two_plans_was_looked_at_once() -> None:
    assert seen(seeded(range(6)), seeded(range(8), at=LATER), done=LATER + 60).looks == 1


def test_a_bigger_plan_stored_first_hides_no_look() -> None:
    """Both were planned before anything ran; the smaller one was done, and could be judged, on the way."""
    assert seen(seeded(range(12)), seeded(range(8), at=PLANNED_AT + 10)).looks == 2
    assert seen(seeded(range(8), at=PLANNED_AT + 10), seeded(range(12)), undone=range(8, 12)).looks == 1


def test_a_first_plan_that_was_done_in_part_is_a_look() -> None:
    """Disjoint seeds: of the first plan one run alone was done."""
    first = seeded(range(20, 28))
    assert seen(seeded(range(8), at=LATER), first, undone=range(21, 28)).looks == 2
    assert seen(seeded(range(8), at=LATER), first, undone=range(20, 28)).looks == 1, "nothing of it was done"


def test_each_other_set_of_runs_counts_once() -> None:
    now = seeded(range(8), at=LATER)
    assert seen(now, seeded(range(6)), seeded(range(20, 30)), seeded(range(20, 30), at=PLANNED_AT + 1)).looks == 3
    assert seen(now, seeded(range(8))).looks == 1, "the same runs"
    assert seen(now, seeded(range(20, 28)), done=LATER + 10).looks == 1, "done when this plan could be judged already"


def test_another_recipe_is_no_look() -> None:
    other = seeded(range(6))
    dense = other.plan.models["dense"]
    slower = dense.model_copy(update={"recipe": dense.recipe.model_copy(update={"lr": 1e-3})})
    plan = other.plan.model_copy(update={"models": {**other.plan.models, "dense": slower}})
    changed = replace(other, stored=other.stored.model_copy(update={"plan": plan}))
    assert seen(seeded(range(8), at=LATER), changed).looks == 1


def scored_on_more(evidence: Evidence, claim_at: float, margin: float = 0.02) -> Evidence:
    """The same trainings scored on more text, in runs of their own, with a claim that was first made at a time."""
    plan = evidence.plan
    models = {
        name: model.model_copy(update={"recipe": model.recipe.model_copy(update={"final_eval_tokens": 10**6})})
        for name, model in plan.models.items()
    }
    ids = {run.id: run.id[:-4] + "more" for run in plan.runs}
    runs = tuple(run.model_copy(update={"id": ids[run.id]}) for run in plan.runs)
    changed = plan.model_copy(update={"models": models, "jobs": rerun(plan, runs)})
    outcomes = tuple(replace(run, run_id=ids[run.run_id], finished=LATER + 600) for run in evidence.outcomes)
    first = dict.fromkeys(changed.claim_hashes.values(), claim_at)
    stored = evidence.stored.model_copy(update={"plan": changed, "stored_at": LATER, "claims_first_stored": first})
    return replace(evidence, stored=stored, outcomes=outcomes)


def test_the_same_training_scored_again_was_seen_before() -> None:
    """More text is another look at the claim; a claim that is new with it came after the data."""
    first = seeded(range(8))
    again = seen(scored_on_more(seeded(range(8)), PLANNED_AT), first)
    assert (again.label, again.looks) == ("primary", 2)
    assert seen(scored_on_more(seeded(range(8)), LATER), first).label == "post hoc"


def test_a_claim_tried_with_other_definitions_of_its_models_says_so() -> None:
    def verdict(undone: Iterable[int]) -> Verdict:
        other = seeded(range(8))
        models = {
            name: model.model_copy(update={"recipe": model.recipe.model_copy(update={"lr": 1e-3})})
            for name, model in other.plan.models.items()
        }
        runs = tuple(run.model_copy(update={"id": f"other{run.id}"[:20]}) for run in other.plan.runs)
        plan = other.plan.model_copy(update={"models": models, "jobs": rerun(other.plan, runs)})
        changed = replace(other, stored=other.stored.model_copy(update={"plan": plan}))
        return seen(seeded(range(8)), changed, undone=undone)

    assert "tried with 1 other definition of its models too, uncorrected for" in verdict(range(7)).notes
    assert "tried with 1 other definition of its models too" in verdict(range(7)).caveats
    assert not any("tried with" in note for note in verdict(range(8)).notes), "nothing of it was done"
    assert (verdict(range(7)).looks, verdict(range(7)).label) == (1, "primary"), "it was another question"


def test_seeds_are_not_chosen_by_another_definition_of_the_models() -> None:
    """The same claim at a rate that differs in the tenth digit: what its seeds do is known."""

    def label(seeds: Iterable[int], undone: Iterable[int] = ()) -> str:
        other = seeded(range(12))
        models = {
            name: model.model_copy(update={"recipe": model.recipe.model_copy(update={"lr": 3.000000001e-3})})
            for name, model in other.plan.models.items()
        }
        runs = tuple(run.model_copy(update={"id": f"other{run.id}"[:20]}) for run in other.plan.runs)
        plan = other.plan.model_copy(update={"models": models, "jobs": rerun(other.plan, runs)})
        changed = replace(other, stored=other.stored.model_copy(update={"plan": plan}))
        return seen(seeded(seeds, at=LATER), changed, undone=undone).label

    assert label([0, 1, 3, 4, 6, 8, 9, 11]) == "post hoc"
    assert label(range(12)) == label(range(20)) == label(range(8)) == label(range(12, 20)) == "primary"
    assert label([0, 1, 3, 4, 6, 8, 9, 11], undone=range(12)) == "primary"


def test_another_suites_plan_of_the_same_models_is_a_look_too() -> None:
    other = seeded(range(6))
    spec = other.plan.spec.model_copy(update={"suite": "renamed"})
    renamed = other.plan.model_copy(update={"suite": "renamed", "spec": spec})
    moved = replace(other, stored=other.stored.model_copy(update={"plan": renamed}))
    assert seen(seeded(range(8), at=LATER), moved).looks == 2
    assert seen(seeded(range(10, 18), at=LATER), moved).looks == 2, "of other seeds, but the same question"


@pytest.mark.parametrize("change", [{"metric": "routing.entropy"}, {"models": "mixture"}])
def test_other_seeds_of_a_suite_that_asked_another_question_are_no_look(change: dict[str, str]) -> None:
    """They may have led to the claim, which came before its own seeds; with seeds in common they are a look."""

    def moved(seeds: Iterable[int]) -> Evidence:
        other = seeded(seeds)
        claims = {}
        for name, one in other.plan.spec.claims.items():
            if "metric" in change:
                claims[name] = one.model_copy(update=change)
            else:
                claims[name] = one.model_copy(update={"model": one.compare.treatment, "compare": None})
        spec = other.plan.spec.model_copy(update={"suite": "renamed", "claims": claims})
        renamed = other.plan.model_copy(update={"suite": "renamed", "spec": spec})
        return replace(other, stored=other.stored.model_copy(update={"plan": renamed}))

    assert seen(seeded(range(10, 18), at=LATER), moved(range(8))).looks == 1
    assert seen(seeded(range(10), at=LATER), moved(range(8))).looks == 2


@pytest.mark.parametrize("dropped", [(4, 9), (10, 11)])
def test_seeds_dropped_after_they_were_done_are_post_hoc(dropped: tuple[int, int]) -> None:
    kept = [seed for seed in range(12) if seed not in dropped]
    verdict = seen(seeded(kept, at=LATER), seeded(range(12)))
    assert (verdict.post_hoc, verdict.label, verdict.p_adjusted) == (True, "post hoc", None)
    assert f"seeds {dropped[0]}, {dropped[1]} are left out" in verdict.notes[0]
    assert not strict_ok([verdict])


def test_a_late_claim_comes_first_with_other_seeds() -> None:
    """As its note advises: what was seen is a look, and no reason to refuse what is new."""

    def verdict(*seeds: int) -> Verdict:
        now = seeded(seeds, at=LATER)
        late = dict.fromkeys(now.plan.claim_hashes.values(), LATER)
        outcomes = tuple(replace(one, finished=DONE if one.seed < 8 else LATER + 60) for one in now.outcomes)
        now, other = (
            replace(one, stored=one.stored.model_copy(update={"claims_first_stored": late}))
            for one in (replace(now, outcomes=outcomes), seeded(range(8)))
        )
        return seen(now, other)

    assert "(with seeds that are not done yet it would come first)" in verdict(*range(8)).notes[0]
    assert (verdict(*range(8, 16)).label, verdict(*range(8, 16)).looks) == ("primary", 2)


def test_stopping_before_the_plan_was_done_is_post_hoc() -> None:
    verdict = seen(seeded(range(8), at=LATER), seeded(range(12)), undone=range(8, 12))
    assert verdict.label == "post hoc"
    assert not strict_ok([verdict])


def test_fewer_seeds_before_anything_was_done_are_a_plan_like_any_other() -> None:
    verdict = seen(seeded(range(8), at=PLANNED_AT + 60), seeded(range(12)), undone=range(8, 12))
    assert (verdict.label, verdict.looks, verdict.state) == ("primary", 1, "supported")


def test_another_claim_added_later_leaves_the_seeds_as_they_were() -> None:
    """The same runs were first planned before they were done: a later plan of them chose nothing."""
    verdict = seen(seeded(range(8), at=LATER + 60), seeded(range(12), at=LATER), seeded(range(8)), done=LATER + 30)
    assert verdict.label == "primary"


def test_runs_that_no_plan_has_were_seen_all_the_same() -> None:
    def verdict(*seeds: int, models: Iterable[str] = ("moe", "dense")) -> Verdict:
        now = seeded(range(8), at=LATER)
        strays = [
            Stray(run_id=f"{name}{seed}", training=now.plan.training(name), seed=seed, finished=DONE)
            for seed in seeds
            for name in models
        ]
        return judged(replace(now, history=History(strays=tuple(strays))))

    assert verdict(8).label == "post hoc", "a plan with this seed was deleted, and the seed dropped"
    assert verdict(8, models=("dense",)).label == "primary", "a baseline that other suites trained on more seeds"
    assert verdict().label == "primary"
    fresh = seeded(range(8), at=DONE - 60)
    stray = Stray(run_id="s", training=fresh.plan.training("moe"), seed=30, finished=PLANNED_AT)
    assert judged(replace(fresh, history=History(strays=(stray,)))).looks == 2


# ---------------------------------------------------------------------------------------------- claims and models


def verdict_of(evidence: Evidence, name: str = "better-per-token") -> Verdict:
    return next(verdict for verdict in judge(evidence) if verdict.id == name)


AFTER = golden_results.STARTED + 5000
"""When all of the golden folder has been done."""


def redefined(plan: Plan, model: str, **recipe: Any) -> Plan:
    """The same plan with a model trained otherwise, in runs that are still to be done."""
    one = plan.models[model]
    models = {**plan.models, model: one.model_copy(update={"recipe": one.recipe.model_copy(update=recipe)})}
    runs = tuple(
        run.model_copy(update={"id": golden_results.run_of(models[run.model], run.seed).id}) for run in plan.runs
    )
    return plan.model_copy(update={"models": models, "jobs": rerun(plan, runs)})


def test_a_claim_whose_model_was_redefined_is_another_claim(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = golden(root).plan
    assert verdict_of(golden(root)).label == "primary"
    stored = keep(root, redefined(plan, "dense", lr=1e-4), AFTER, monkeypatch)
    assert stored.first_stored("better-per-token") == AFTER
    assert stored.first_stored("as-good-as-total") == golden_results.STARTED - 60, "the dense model is none of its own"
    verdict = verdict_of(gather(store.Results(root), stored))
    assert verdict.label == "post hoc"
    assert "with its models as they are" in verdict.notes[0]


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"says": "It has lower loss."}, "primary"),
        ({"family": "exploratory"}, "exploratory"),
        ({"says": "It has lower loss.", "test": {"kind": "superior", "margin": "0.1%"}}, "post hoc"),
        ({"metric": "curve.bits_per_byte"}, "post hoc"),
    ],
    ids=["reworded", "demoted", "margin", "metric"],
)
def test_a_claim_in_other_words_is_the_same_and_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], label: str
) -> None:
    claims = golden_results.golden_claims()
    first = claims["better-per-token"]["says"]
    claims["better-per-token"] |= changes
    verdict = verdict_of(
        gather(store.Results(root), keep(root, golden_results.golden_plan(claims=claims), AFTER, monkeypatch))
    )
    assert verdict.label == label
    assert (f"reworded after the data; it said: {first}" in verdict.notes) == (label == "primary")
    assert not any("withdrawn" in note for note in verdict.notes)


def test_an_exploratory_claim_made_primary_is_post_hoc(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = golden_results.golden_claims()
    claims["as-good-as-total"]["family"] = "primary"
    stored = keep(root, golden_results.golden_plan(claims=claims), AFTER, monkeypatch)
    assert verdict_of(gather(store.Results(root), stored), "as-good-as-total").label == "post hoc"


def test_a_seal_keeps_its_first_time_and_claim_hashes_theirs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = golden(root).plan
    more = golden_results.golden_plan(claims={**golden_results.golden_claims(), "new": {
        **golden_results.golden_claims()["as-good-as-total"], "says": "Another."}})  # fmt: skip
    stored = keep(root, more, AFTER, monkeypatch)
    assert stored.first_stored("better-per-token") == golden_results.STARTED - 60
    assert stored.first_stored("new") == AFTER
    assert plan.claim_hashes["better-per-token"] == more.claim_hashes["better-per-token"]
    evidence = gather(store.Results(root), stored)
    assert verdict_of(evidence).label == "primary"
    assert verdict_of(evidence, "new").label == "post hoc"


def test_a_reference_copy_is_judged_as_its_original(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was planned, seen and withdrawn before goes with it."""
    claims = golden_results.golden_claims()
    del claims["as-good-as-total"]
    fewer = golden_results.golden_plan(seeds=7, claims=claims)
    stored = keep(root, fewer, AFTER, monkeypatch)
    original = judge(gather(store.Results(root), stored))
    assert next(one for one in original if one.id == "better-per-token").label == "post hoc", "a seed was dropped"
    store.write_bundle(store.Results(root), stored, root.parent / "reference" / "golden")
    for path in (root.parent / "reference", root.parent / "reference" / "golden"):
        assert judge(gather(store.open_results(path), stored)) == original


def test_plans_of_before_there_were_seals_are_dated_by_their_text(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next((root / "plans").glob("*.json"))
    old = json.loads(path.read_text())
    del old["seals_first_stored"]
    path.write_text(json.dumps(old))
    assert verdict_of(golden(root)).label == "primary"
    stored = keep(root, golden_results.golden_plan(seeds=7), AFTER, monkeypatch)
    assert stored.first_stored("better-per-token") == golden_results.STARTED - 60


def test_a_run_done_again_was_seen_when_it_was_first_done(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spoilt run is put aside and done again, later than the claim that came after it."""
    stored = keep(root, redefined(golden(root).plan, "dense", lr=1e-4), AFTER, monkeypatch)
    assert verdict_of(gather(store.Results(root), stored)).label == "post hoc", "the mixture's runs are there already"
    for run in (run for run in stored.plan.runs if run.model == "moe_8x2"):
        folder = store.Results(root).job(run.id)
        aside = folder.path.with_name(f"{run.id}.corrupt-1")
        shutil.copytree(folder.path, aside)
        done = json.loads((folder.path / "DONE").read_text())
        (folder.path / "DONE").write_text(json.dumps({**done, "finished": AFTER + 100}))
    assert verdict_of(gather(store.Results(root), stored)).label == "post hoc"


def test_runs_that_are_removed_and_done_again_were_seen_before(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, plan = store.Results(root), golden(root).plan
    results.note_done(plan)
    before = results.done_path(plan).read_bytes()
    results.note_done(plan)
    assert results.done_path(plan).read_bytes() == before
    moved = golden_results.golden_claims()
    moved["better-per-token"]["test"] = {"kind": "superior", "margin": "0.1%"}
    stored = keep(root, golden_results.golden_plan(claims=moved), AFTER, monkeypatch)
    for done in (root / "jobs").glob("*/DONE"):  # as if all had been removed and done again
        done.write_text(json.dumps({**json.loads(done.read_text()), "finished": AFTER + 100}))
    assert verdict_of(gather(results, stored)).label == "post hoc"
    results.plan_path(plan).unlink()
    fewer = keep(root, golden_results.golden_plan(seeds=7), AFTER, monkeypatch)
    assert "seed 7 is left out" in verdict_of(gather(results, fewer)).notes[0], "its plan is gone, and its run may be"


def test_a_note_that_cannot_be_written_stops_nothing(root: Path) -> None:
    results, plan = store.Results(root), golden(root).plan
    results.done_path(plan).mkdir()
    results.note_done(plan)
    assert verdict_of(golden(root)).label == "primary"


# ---------------------------------------------------------------------------------------------- how a claim counts


def test_an_exploratory_verdict_is_called_uncorrected_wherever_it_stands(root: Path) -> None:
    result = CliRunner().invoke(
        main, ["report", "golden", "--results", str(root), "--out", str(root / "out"), "--format", "json,md,csv"]
    )
    held = json.loads((root / "out" / "golden" / "claims.json").read_text())
    labels = {one["id"]: one["label"] for one in held["claims"]}
    assert labels["better-per-token"] == "primary"
    assert labels["as-good-as-total"] == "exploratory, uncorrected"
    assert labels["flops-follow-active"] == "exploratory", "a count needs no correction"
    told = sum(label == "exploratory, uncorrected" for label in labels.values())
    assert told >= 4
    assert result.stdout.count("uncorrected") == told, "in the cell of the claim"
    assert (root / "out" / "golden" / "index.md").read_text().count("(exploratory, uncorrected)") == told
    assert "exploratory, uncorrected" in (root / "out" / "golden" / "tables" / "claims.csv").read_text()
    assert held["primary"]["supported"] == 1
    assert held["counts"]["supported"] == 1 + held["exploratory"]["supported"]


def test_a_report_lists_what_was_withdrawn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = golden_results.golden_claims()
    gone = claims.pop("better-per-token")
    claims["as-good-as-total"]["family"] = "primary"
    stored = keep(root, golden_results.golden_plan(claims=claims), AFTER, monkeypatch)
    CliRunner().invoke(
        main, ["report", "golden", "--results", str(root), "--out", str(root / "out"), "--format", "json,md"]
    )
    held = json.loads((root / "out" / "golden" / "claims.json").read_text())
    assert held["plan"] == stored.plan.id
    assert [(one["id"], one["says"]) for one in held["withdrawn"]] == [("better-per-token", gone["says"])]
    assert gone["says"].rstrip(".") in (root / "out" / "golden" / "index.md").read_text()
    assert next(one for one in held["claims"] if one["id"] == "as-good-as-total")["label"] == "post hoc, uncorrected"


# ----------------------------------------------------------------------------------------------------
# A primary family never shrinks: claims withdrawn afterwards are still corrected for.


def family_of(names: str, *, at: float = PLANNED_AT, margin: float = 0.02) -> Evidence:
    """A plan with one primary claim a letter, all of them true and alike (p = 6 / 256 at a margin of 0.02)."""
    values = {"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}
    block = {"kind": "superior", "margin": margin}
    claims = {name: claim(block, family="primary", says=f"It is so, {name}.") for name in names}
    evidence = evidence_of(values, claims)
    return replace(evidence, stored=evidence.stored.model_copy(update={"stored_at": at}))


def beside(now: Evidence, *others: Evidence) -> Evidence:
    return replace(now, history=History(plans=tuple(one.stored for one in others)))


def test_claims_deleted_afterwards_are_still_corrected_for() -> None:
    six = judge(family_of("abcdef"))
    assert {v.state for v in six} == {"inconclusive"}
    assert six[0].p_adjusted == pytest.approx(6 * 6 / 256)
    evidence = beside(family_of("a", at=LATER), family_of("abcdef"))
    verdict = judged(evidence)
    assert (verdict.state, verdict.label, verdict.looks) == ("inconclusive", "primary", 1)
    assert verdict.p_adjusted == six[0].p_adjusted
    assert "Holm over 6 primary claims (5 of them withdrawn)" in verdict.reason
    assert any("b, c, d, e, f" in note for note in verdict.notes)
    assert not strict_ok([verdict])
    assert [(one.id, one.says) for one in sealing.withdrawn(evidence)] == [(n, f"It is so, {n}.") for n in "bcdef"]


def test_a_claim_that_is_still_made_of_other_models_is_not_withdrawn() -> None:
    """As after a sweep, when a better rate is written into the suite."""
    other = family_of("a")
    moe = other.plan.models["moe"]
    tuned = moe.model_copy(update={"recipe": moe.recipe.model_copy(update={"lr": 1e-3})})
    plan = other.plan.model_copy(update={"models": {**other.plan.models, "moe": tuned}})
    evidence = beside(family_of("a"), replace(other, stored=other.stored.model_copy(update={"plan": plan})))
    assert sealing.withdrawn(evidence) == ()
    assert judged(evidence).p_adjusted == pytest.approx(6 / 256)


def test_a_family_is_never_smaller_than_the_plans_own() -> None:
    evidence = beside(family_of("abcd"), family_of("a"))
    assert [v.p_adjusted for v in judge(evidence)] == [pytest.approx(4 * 6 / 256)] * 4
    assert sealing.withdrawn(evidence) == ()


def test_going_back_to_an_earlier_plan_is_a_choice_among_all() -> None:
    """Six plans of one claim each, all stored before the data: the last is what was planned."""
    six = [family_of(name, at=PLANNED_AT + at) for at, name in enumerate("abcdef")]
    first, last = judged(beside(six[0], *six[1:])), judged(beside(six[5], *six[:5]))
    assert (last.state, last.p_adjusted) == ("supported", pytest.approx(6 / 256))
    assert (first.state, first.p_adjusted) == ("inconclusive", pytest.approx(6 * 6 / 256))
    assert judged(beside(six[0], family_of("a", at=LATER))).p_adjusted == pytest.approx(6 / 256), "the same claim"


def test_a_claim_that_came_post_hoc_enlarged_no_family() -> None:
    late = family_of("ab", at=LATER)
    first = {late.plan.claim_hashes["a"]: PLANNED_AT, late.plan.claim_hashes["b"]: LATER}
    late = replace(late, stored=late.stored.model_copy(update={"claims_first_stored": first}))
    assert judged(beside(family_of("a"), late)).p_adjusted == pytest.approx(6 / 256)


def test_counts_are_in_no_family() -> None:
    count = claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", family="primary")
    other = evidence_of({"moe": {BPB: 2 - EIGHT}, "dense": {BPB: [2.0] * 8}}, {"count": count})
    assert judged(beside(family_of("a"), other)).p_adjusted == pytest.approx(6 / 256)


def test_a_plan_of_other_jobs_or_another_suite_with_other_claims_withdrew_nothing() -> None:
    other = family_of("abcdef")
    models = {
        name: model.model_copy(update={"recipe": model.recipe.model_copy(update={"lr": 1e-4})})
        for name, model in other.plan.models.items()
    }
    elsewhere = other.plan.model_copy(update={"models": models})
    changed = replace(other, stored=other.stored.model_copy(update={"plan": elsewhere}))
    assert judged(beside(family_of("a"), changed)).p_adjusted == pytest.approx(6 / 256)


def test_a_renamed_suite_with_the_same_claim_keeps_its_family() -> None:
    other = family_of("abcdef")
    spec = other.plan.spec.model_copy(update={"suite": "renamed"})
    plan = other.plan.model_copy(update={"suite": "renamed", "spec": spec})
    renamed = replace(other, stored=other.stored.model_copy(update={"plan": plan}))
    assert judged(beside(family_of("a", at=LATER), renamed)).p_adjusted == pytest.approx(36 / 256)


# ----------------------------------------------------------------------------------------------------
# An unfinished plan has estimates and no verdict.


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


# ----------------------------------------------------------------------------------------------------
# `--strict` takes no half-done plan and falls back to no older one.


def report(root: Path, *words: str) -> Result:
    where = ["--results", str(root), "--out", str(root.parent / "reports"), "--format", "json"]
    return CliRunner().invoke(main, ["report", *words, *where])


def test_strict_takes_no_half_done_plan(root: Path) -> None:
    assert report(root, "golden", "--strict").exit_code == 0
    run = next(run for run in golden(root).plan.runs if (run.model, run.seed) == ("dense", 7))
    (store.Results(root).job(run.id).path / "DONE").unlink()
    result = report(root, "golden", "--strict")
    assert result.exit_code == 1
    assert "INTERIM" in result.stdout
    assert "7 of 8 seeds: seed 7: dense is partial; `moebench run golden` finishes it" in " ".join(
        result.stdout.split()
    )
    assert report(root, "golden").exit_code == 0


@pytest.mark.parametrize("asked", [["golden"], [], ["golden@default"]])
def test_strict_never_falls_back_to_an_older_plan(root: Path, asked: list[str]) -> None:
    (root / "plans" / "golden@default-0123456789.json").write_text("{")
    result = report(root, *asked, "--strict")
    assert result.exit_code == 2
    assert "golden@default-0123456789.json" in result.stderr
    assert "--strict needs every plan" in result.stderr
    assert not (root.parent / "reports").exists()
    if asked != ["golden@default"]:
        result = report(root, *asked)
        assert result.exit_code == 0
        assert "note: passed over" in result.stderr


@pytest.mark.parametrize(("name", "code"), [("other@default-0123456789.json", 0), ("renamed.json", 2)])
def test_strict_minds_only_plans_that_may_be_of_the_suite(root: Path, name: str, code: int) -> None:
    (root / "plans" / name).write_text("{")
    assert report(root, "golden", "--strict").exit_code == code
