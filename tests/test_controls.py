"""Controls with runs of their own: what is planned for them, what each says of written results, what fails by them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import api
from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.claims.verdict import ControlResult
from moebench.data.prepare import prepare
from moebench.data.sources.stdlib import StdlibData
from moebench.identity import digest_of
from moebench.jobs import training
from moebench.jobs.measuring import scored_windows
from moebench.jobs.recipe import Run
from moebench.metrics.quality import evaluate
from moebench.models.decoder.subject import DecoderSubject
from moebench.planning.controls import EVERY, FEWEST, SEVERAL
from moebench.planning.types import PlannedControls, PlannedJob
from moebench.reader.evidence import Evidence, Outcome, gather
from moebench.reader.status import statuses
from moebench.store import Results, open_results
from moebench.store.reference import write_bundle
from moebench.suite.errors import SuiteError
from tests.support import small_models, tiny_suites
from tests.support.builders import BPB, claim, evidence_of, with_plan

ALL = {"shuffled": ["moe", "dense"], "handicap": "moe", "round_robin": "moe", "one_expert": "dense"}

# ------------------------------------------------------------------------------------------ what is planned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    train = {"budget": {"steps": 400}, "evaluate": {"points": 3, "tokens": 256, "final_tokens": 512}}
    return tiny_suites.planned(tmp_path_factory.mktemp("planned"), controls=ALL, train=train, seeds=8)


def run_of(made: api.Planned, name: str) -> Run:
    return Run.model_validate(next(job.spec for job in made.graph.jobs if job.model == name))


def test_controls_train_models_of_their_own(made: api.Planned) -> None:
    plan = made.plan
    assert plan.controls is not None
    names = [
        "moe/shuffled",
        "dense/shuffled",
        "moe/short",
        "moe/handicap",
        "moe/round_robin",
        "dense/dense",
        "dense/one_expert",
    ]
    assert list(plan.controls.models) == names
    assert set(plan.models) == {"moe", "dense"}
    assert not [job for job in plan.jobs if "/" in job.model]
    seeds = {
        name: [job.seed for job in plan.controls.jobs if job.model == name and job.kind == "train"] for name in names
    }
    assert [len(seeds[name]) for name in names] == [2, 2, 6, 6, 6, 1, 1]
    assert seeds["moe/handicap"] == seeds["moe/short"] == [0, 1, 2, 3, 4, 5]


def test_they_differ_from_the_model_in_what_the_control_is_about_and_in_length(made: api.Planned) -> None:
    moe, short = made.plan.decoders["moe"], run_of(made, "moe/short")
    assert (short.recipe.steps, short.recipe.evaluate_at) == (50, (50,))
    assert short.architecture == moe.architecture
    assert short.recipe.warmup_steps == round(moe.recipe.warmup_steps * 50 / 400)
    kept = {"steps", "warmup_steps", "evaluate_at", "eval_tokens", "final_eval_tokens", "windows_per_document"}
    assert short.recipe.model_dump(exclude=kept) == moe.recipe.model_dump(exclude=kept)
    spoilt = run_of(made, "moe/handicap")
    assert spoilt == short.model_copy(update={"recipe": short.recipe.model_copy(update={"permute_experts_every": 10})})
    assert run_of(made, "moe/shuffled").recipe == short.recipe.model_copy(update={"shuffled": True})
    turned = run_of(made, "moe/round_robin").architecture.ffn
    assert (turned.router, turned.experts, turned.top_k, turned.expert_hidden) == ("round_robin", 4, 2, 16)
    assert turned.balance_loss == 0
    alone, plain = run_of(made, "dense/one_expert"), run_of(made, "dense/dense")
    assert alone.architecture.ffn.expert_hidden == plain.architecture.ffn.hidden
    assert alone.recipe == plain.recipe
    assert len(alone.recipe.evaluate_at) == 12


def test_a_suite_that_asks_for_none_is_planned_as_it_was(tmp_path: Path) -> None:
    plan = tiny_suites.planned(tmp_path, controls={"same_model": "dense"}).plan
    assert plan.controls is None
    assert plan.of_controls is None
    assert "controls" not in plan.model_dump()
    assert plan.spec.controls.model_dump() == {"same_model": "dense"}


def test_another_control_is_another_plan_of_the_same_runs(made: api.Planned, tmp_path: Path) -> None:
    train = {"budget": {"steps": 400}, "evaluate": {"points": 3, "tokens": 256, "final_tokens": 512}}
    other = tiny_suites.planned(tmp_path, controls={"handicap": "moe"}, train=train, seeds=8).plan
    assert other.id != made.plan.id
    assert other.jobs == made.plan.jobs


@pytest.mark.parametrize(
    ("controls", "says"),
    [
        ({"handicap": "dense"}, "dense is no mixture"),
        ({"round_robin": "dense"}, "dense is no mixture"),
        ({"shuffled": ["moe", "mole"]}, "no model of this suite is called"),
        ({"one_expert": "nobody"}, "no model of this suite is called"),
    ],
)
def test_a_control_of_what_is_not_there_is_refused(controls: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=says):
        api.validate(tiny_suites.write(tmp_path, controls=controls))


def test_one_name_is_a_list_of_one(tmp_path: Path) -> None:
    assert tiny_suites.planned(tmp_path, controls={"shuffled": "moe"}).plan.spec.controls.shuffled == ["moe"]


def test_a_plan_with_controls_that_do_not_fit_is_refused(made: api.Planned) -> None:
    assert made.plan.controls is not None
    jobs = made.plan.controls.jobs
    with pytest.raises(ValueError, match="no model of"):
        PlannedControls(models={}, jobs=jobs)
    with pytest.raises(ValueError, match="do not train"):
        PlannedControls(models=made.plan.controls.models, jobs=tuple(job for job in jobs if job.kind != "train"))


# ------------------------------------------------------------------------------------------ what each says

CLAIMS = {
    "quality": claim({"kind": "superior"}),
    "mixtures": claim({"kind": "superior"}, compare={"treatment": "moe", "baseline": "moe_32"}),
    "dense": claim({"kind": "superior"}, compare={"treatment": "dense", "baseline": "dense_2"}),
    "size": claim({"kind": "ratio_within", "low": 0.9, "high": 1.1}, "cost.total_params"),
}
TOLD = np.array([0.0, 0.001, -0.001, 0.002, 0.0005, -0.0005])


def controlled(asked: Mapping[str, Any], values: Mapping[str, Sequence[float]], **more: Any) -> Evidence:
    """Evidence of four models, with runs of controls by display name: the final loss of each seed."""
    losses = {
        name: {BPB: list(2 + np.random.default_rng(7).normal(0, 0.001, 8))}
        for name in ("moe", "moe_32", "dense", "dense_2")
    }
    evidence = evidence_of(losses, CLAIMS)
    spec = evidence.plan.spec
    told = spec.model_copy(update={"controls": type(spec.controls).model_validate(asked)})
    bases = {name: evidence.plan.decoders[name.partition("/")[0]] for name in values}
    jobs = [
        PlannedJob(kind="train", model=name, seed=seed, id=digest_of([name, seed], length=20))
        for name, column in values.items()
        for seed in range(len(column))
    ]
    plan = with_plan(evidence, spec=told, controls=PlannedControls(models=bases, jobs=tuple(jobs)))
    outcomes = [
        Outcome(
            model=job.model, seed=job.seed, run_id=job.id, status="completed",
            values={BPB: values[job.model][job.seed], "control.unigram_bits_per_byte": 4.0},
            curves={"curve.bits_per_byte": tuple(more.get("curves", {}).get(job.model, ()))},
        )
        for job in jobs
    ]  # fmt: skip
    return replace(plan, controls=tuple(outcomes))


def result(evidence: Evidence) -> ControlResult:
    (control,) = check_controls(evidence)
    return control


def invalid(evidence: Evidence) -> set[str]:
    verdicts = judge(evidence)
    assert all(one.reason.startswith("control ") for one in verdicts if one.state == "invalid")
    return {one.id for one in verdicts if one.state == "invalid"}


def shuffled(*losses: float) -> Evidence:
    return controlled({"shuffled": ["moe"]}, {"moe/shuffled": losses})


def test_a_model_that_beats_a_unigram_model_fails_every_claim_about_loss() -> None:
    leaking = shuffled(4.01, 3.9)
    assert (result(leaking).id, result(leaking).state) == ("shuffled[moe]", "failed")
    assert "2.5% below a unigram model's, on text whose order tells nothing" in result(leaking).reason
    assert invalid(leaking) == {"quality", "mixtures", "dense"}


def test_one_that_is_level_with_it_passes_and_one_far_above_tells_nothing() -> None:
    assert result(shuffled(4.02, 3.99)).state == "passed"
    far = shuffled(4.02, 4.5)
    assert result(far).state == "too_wide"
    assert "12% above" in result(far).reason or "13% above" in result(far).reason
    assert invalid(shuffled(4.02, 3.99)) == invalid(far) == set()


def handicap(*costs: float) -> Evidence:
    short = [2 + float(noise) for noise in TOLD]
    values = [loss * (1 + cost + float(noise)) for loss, cost, noise in zip(short, costs, TOLD[::-1], strict=True)]
    return controlled({"handicap": "moe"}, {"moe/short": short, "moe/handicap": values})


def test_a_handicap_that_is_caught_passes() -> None:
    caught = handicap(0.02, 0.03, 0.025, 0.02, 0.03, 0.028)
    assert result(caught).state == "passed"
    assert result(caught).reason.startswith("caught: it costs at least ")
    assert invalid(caught) == set()


@pytest.mark.parametrize("cost", [0.0, 0.001, -0.05])
def test_one_that_is_not_fails_every_loss_of_a_mixture(cost: float) -> None:
    missed = handicap(*[cost] * 6)
    assert result(missed).state == "failed"
    assert invalid(missed) == {"quality", "mixtures"}


def test_one_that_might_be_there_is_told_beside_losses_of_mixtures_alone() -> None:
    wide = handicap(0.1, -0.1, 0.05, -0.04, 0.08, -0.06)
    assert result(wide).state == "too_wide"
    assert invalid(wide) == set()
    told = {one.id: any("control handicap too wide to tell" in note for note in one.notes) for one in judge(wide)}
    assert told == {"quality": True, "mixtures": True, "dense": False, "size": False}


@pytest.mark.slow
def test_a_handicap_that_is_planted_in_training_is_caught(tmp_path: Path) -> None:
    """Two blocks of width 32 on text of the standard library, as many seeds and steps as a suite gives a control."""
    told = StdlibData(source="stdlib", context=16)
    corpus = prepare(told, base=tmp_path, cache=tmp_path)

    def loss(seed: int, every: int | None) -> float:
        chosen = small_models.run(
            small_models.architecture(small_models.moe(8, 2, 24)), seed=seed, data_digest=corpus.digest, lr=1.6e-2,
            steps=FEWEST, batch_tokens=512, micro_batch_tokens=512, final_eval_tokens=8192, permute_experts_every=every,
        )  # fmt: skip
        state = training.start(chosen)
        for _ in training.train(state, chosen, corpus):
            pass
        text = scored_windows(corpus, chosen.recipe, tokens=8192)
        return evaluate(DecoderSubject(state.model, corpus.tokenizer), text).bits_per_byte()

    arms = {"moe/short": None, "moe/handicap": EVERY}
    losses = {name: [loss(seed, every) for seed in range(SEVERAL)] for name, every in arms.items()}
    caught = result(controlled({"handicap": "moe"}, losses))
    assert caught.state == "passed"
    assert caught.low is not None
    assert caught.low > 0
    swapped = {"moe/short": losses["moe/handicap"], "moe/handicap": losses["moe/short"]}
    assert result(controlled({"handicap": "moe"}, swapped)).state == "failed"


def followed(apart: float) -> Evidence:
    curve = [(step, 5 - step / 10) for step in range(2, 25, 2)]
    curves = {
        "dense/dense": curve,
        "dense/one_expert": [(step, loss * (1 + apart * step / 24)) for step, loss in curve],
    }
    return controlled({"one_expert": "dense"}, {name: [2.6] for name in curves}, curves=curves)


def test_one_expert_that_is_not_the_dense_network_fails_mixtures_against_dense() -> None:
    assert result(followed(1e-6)).state == "passed"
    assert result(followed(1e-6)).n == "12 points of 24 steps"
    wrong = followed(0.001)
    assert result(wrong).state == "failed"
    assert "up to 0.10% apart" in result(wrong).reason
    assert invalid(wrong) == {"quality"}
    assert invalid(followed(1e-6)) == set()


def in_turn(*gains: float) -> Evidence:
    short = [2 + float(noise) for noise in TOLD]
    values = [loss * (1 + gain) for loss, gain in zip(short, gains, strict=True)]
    return controlled({"round_robin": "moe"}, {"moe/short": short, "moe/round_robin": values})


def test_round_robin_is_a_finding_that_gates_nothing_and_stands_beside_learned_routing() -> None:
    better = in_turn(0.02, 0.03, 0.025, 0.02, 0.03, 0.028)
    assert result(better).state == "found"
    assert result(better).high is not None
    assert result(better).high < 0
    worse = in_turn(-0.02, -0.03, -0.025, -0.02, -0.03, -0.028)
    assert "is worse than taking experts in turn" in result(worse).reason
    assert invalid(better) == invalid(worse) == set()
    for evidence, beside in ((better, set()), (worse, {"quality", "mixtures"})):
        assert {one.id for one in judge(evidence) if any("round_robin" in note for note in one.notes)} == beside


def test_a_model_that_differs_from_itself_fails_every_claim_about_loss() -> None:
    losses = {"moe": {BPB: [2.0, 2.01] * 4}, "dense": {BPB: [2.2, 2.3] * 4}}
    evidence = evidence_of(losses, {"quality": CLAIMS["quality"], "size": CLAIMS["size"]}, same_model="dense")
    assert check_controls(evidence)[0].state == "failed"
    assert invalid(evidence) == {"quality"}


def test_what_is_not_done_or_lost_tells_nothing() -> None:
    evidence = handicap(*[0.0] * 6)
    lost = [replace(evidence.controls[0], status="missing", reason="not run yet"), *evidence.controls[1:]]
    assert result(replace(evidence, controls=tuple(lost))).state == "not_tested"
    assert (
        "1 of 6 runs of moe/short did not complete: not run yet"
        in result(replace(evidence, controls=tuple(lost))).reason
    )
    assert invalid(replace(evidence, controls=tuple(lost))) == invalid(replace(evidence, controls=())) == set()
    bare = [replace(run, values={}) for run in shuffled(4.0, 3.0).controls]
    assert result(replace(shuffled(4.0, 3.0), controls=tuple(bare))).state == "not_tested"


# ------------------------------------------------------------------------------------------ from a run to a report


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite that was really run, with every control."""
    folder = tmp_path_factory.mktemp("ran")
    controls = {**ALL, "same_model": "dense", "steps": 8}
    path = tiny_suites.write(folder, seeds=2, controls=controls, claims={"better": tiny_suites.claim()})
    outcome = api.run(path, results=folder / "results", reports=folder / "reports", launcher="inline")
    assert set(outcome.statuses.values()) == {"completed"}
    assert api.run(path, results=folder / "results", reports=folder / "reports", launcher="inline").started == 0
    return folder


def evidence_in(root: Path) -> Evidence:
    source = open_results(root)
    return gather(source, source.plans()[0])


@pytest.mark.slow
def test_controls_are_run_read_and_reported(ran: Path) -> None:
    states = {control.id: control.state for control in check_controls(evidence_in(ran / "results"))}
    assert states.keys() == {"same_model", "shuffled[moe]", "shuffled[dense]", "handicap", "one_expert", "round_robin"}
    assert states["one_expert"] == "passed"
    assert states["round_robin"] == "found"
    assert "failed" not in {states["shuffled[moe]"], states["shuffled[dense]"]}
    told = json.loads((ran / "reports" / "tiny" / "claims.json").read_text())
    assert {control["id"]: control["state"] for control in told["controls"]} == states


@pytest.mark.slow
def test_their_models_are_in_no_table_of_models(ran: Path) -> None:
    assert set(api.load(ran / "results")["model"]) == {"moe", "dense"}
    for file in (ran / "reports" / "tiny" / "tables").glob("*.csv"):
        assert "moe/" not in file.read_text(), file.name
    (status,) = statuses(Results(ran / "results"))
    assert {"moe/handicap", "dense/one_expert"} <= {job.model for job in status.jobs}
    assert set(status.next) == set()


@pytest.mark.slow
def test_a_bundle_says_of_them_what_the_folder_says(ran: Path, tmp_path: Path) -> None:
    source = Results(ran / "results")
    write_bundle(source, source.plans()[0], tmp_path / "tiny")
    bundled = evidence_in(tmp_path)
    assert check_controls(bundled) == check_controls(evidence_in(ran / "results"))
    assert all(run.items for run in bundled.outcomes)
    assert not any(run.items or any(name.startswith("routing.") for name in run.values) for run in bundled.controls)


def rewritten(root: Path, losses: Mapping[str, float]) -> Evidence:
    """The results with other final losses of models of controls, as runs that came out so would have left them."""
    evidence = evidence_in(root)
    assert evidence.plan.controls is not None
    now = {run.run_id: run.values.get(BPB, 1.0) for run in evidence.controls}
    for job in evidence.plan.controls.jobs:
        if job.model not in losses:
            continue
        folder = Results(root).job(job.id)
        factor = losses[job.model] / now[job.inputs[0] if job.inputs else job.id]
        for name, key in (("records.jsonl", "value"), ("items.jsonl", "bits")):
            if not (folder.path / name).exists():
                continue
            rows = [json.loads(line) for line in (folder.path / name).read_text().splitlines()]
            for row in rows:
                if row.get("metric", BPB).startswith((BPB, "curve.bits_per_byte")):
                    row[key] *= factor
            (folder.path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder.path / "DONE").unlink()
        folder.finish("completed")
    return evidence_in(root)


WELL = {"moe/shuffled": 3.0, "moe/short": 2.0, "moe/handicap": 2.2, "dense/dense": 2.0, "dense/one_expert": 2.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("losses", "control"),
    [
        ({"moe/shuffled": 0.5}, "shuffled[moe]"),
        ({"dense/one_expert": 2.01}, "one_expert"),
        ({"moe/handicap": 1.99}, "handicap"),
    ],
)
def test_a_results_folder_with_a_failed_control(
    losses: dict[str, float], control: str, ran: Path, tmp_path: Path
) -> None:
    shutil.copytree(ran / "results", tmp_path / "results")
    evidence = rewritten(tmp_path / "results", WELL)
    assert not evidence.problems
    assert "failed" not in {one.state for one in check_controls(evidence)}
    assert not judge(evidence)[0].reason.startswith("control ")
    evidence = rewritten(tmp_path / "results", losses)
    assert {one.id: one.state for one in check_controls(evidence)}[control] == "failed"
    (verdict,) = judge(evidence)
    assert verdict.state == "invalid"
    assert verdict.reason.startswith(f"control {control} failed: ")


@pytest.mark.slow
def test_a_run_of_a_control_that_is_a_copy_of_another_is_corrupt(ran: Path, tmp_path: Path) -> None:
    shutil.copytree(ran / "results", tmp_path / "results")
    plan = evidence_in(ran / "results").plan
    assert plan.controls is not None
    ids = {job.model: job.id for job in plan.controls.jobs if job.kind == "train" and job.seed == 0}
    jobs = tmp_path / "results" / "jobs"
    shutil.rmtree(jobs / ids["moe/handicap"])
    shutil.copytree(jobs / ids["moe/short"], jobs / ids["moe/handicap"])
    evidence = evidence_in(tmp_path / "results")
    assert {run.status for run in evidence.controls if run.model == "moe/handicap" and run.seed == 0} == {"corrupt"}
    assert {one.id: one.state for one in check_controls(evidence)}["handicap"] == "not_tested"
