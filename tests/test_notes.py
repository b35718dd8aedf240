"""What stands beside a verdict: whether like is compared with like, how much was scored, doubts about a sample, how
rates were tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import api
from moebench.claims import coverage, likeness
from moebench.claims.judge import ask, judge
from moebench.jobs.recipe import Recipe
from moebench.planning.types import MatchResult
from moebench.reader.evidence import Evidence, TunedModel
from moebench.suite.claim import Claim
from tests.support import golden_tasks, tiny_suites
from tests.support.builders import (
    BPB,
    DENSE,
    DOCUMENTS,
    MOE,
    claim,
    documents_of,
    evidence_of,
    judged,
    lower_by,
    pair,
    scoring,
    swept,
    twins,
    unmatched,
    with_ffn,
    with_outcome,
    with_plan,
    with_recipe,
)


def with_data(evidence: Evidence, **facts: Any) -> Evidence:
    return with_plan(evidence, data=evidence.plan.data.model_copy(update=facts))


# ---------------------------------------------------------------------------------------------- what stands beside


def test_a_verdict_lists_the_facts_of_its_models() -> None:
    evidence = with_recipe(twins(params={"moe": (300_000, 110_000), "dense": (110_000, 110_000)}), "moe", steps=500)
    evidence = replace(evidence, outcomes=tuple(replace(run, kernels="fused") for run in evidence.outcomes))
    verdict = judged(evidence)
    assert next(row for row in verdict.beside if row.what == "kernels").values == {"moe": "fused", "dense": "fused"}
    rows = {row.what: row for row in verdict.beside}
    assert set(rows) == {fact.says for fact in likeness.FACTS}
    assert rows["total parameters"].ratio == pytest.approx(300 / 110)
    assert rows["training tokens"].values == {"moe": 500 * 4096, "dense": 250 * 4096}
    assert rows["test bytes scored"].ratio == 1.0
    assert rows["schedule"].values["moe"] == "2% warm-up, then cosine to 10%"
    assert {what for what, row in rows.items() if row.differs} == {
        "total parameters", "trained parameters", "training FLOPs", "training tokens", "schedule",
    }  # fmt: skip


def test_every_field_of_a_recipe_stands_beside_or_is_held_equal() -> None:
    """A new field of a recipe that may differ between two models has to be told, or refused."""
    told = {
        "steps", "batch_tokens", "micro_batch_tokens", "lr", "betas", "eps", "weight_decay", "clip", "warmup_steps",
        "decay", "final_lr_share", "dtype", "optimizer", "router_lr", "momentum", "cooldown", "branches",
    }  # fmt: skip
    held_equal = {"eval_tokens", "final_eval_tokens", "windows_per_document", "evaluate_at", "split", "keep", "corrupt"}
    of_counts = {"trained"}  # whose parameters stand beside as they are counted
    of_controls = {"shuffled", "permute_experts_every"}  # whose models stand in no claim
    assert set(Recipe.model_fields) == told | held_equal | of_counts | of_controls
    changes = {
        "steps": 300, "batch_tokens": 8192, "micro_batch_tokens": 2048, "lr": 1.0, "betas": (0.8, 0.9), "eps": 1.0,
        "weight_decay": 0.3, "clip": None, "warmup_steps": 50, "decay": "linear", "final_lr_share": 0.5,
        "dtype": "bfloat16", "optimizer": "muon", "router_lr": 2.0, "momentum": 0.9, "cooldown": 0.2, "branches": (50,),
    }  # fmt: skip
    for name in told:
        evidence = with_recipe(unmatched(twins()), "moe", **{name: changes[name]})
        rows = likeness.beside(evidence, ["moe", "dense"], "moe", "dense")
        assert any(row.differs for row in rows), name


def test_unmatched_models_and_twice_the_tokens_are_said_in_every_view() -> None:
    evidence = with_recipe(unmatched(twins()), "moe", steps=500)
    verdict = judged(evidence)
    assert verdict.state == "supported"
    assert verdict.caveats == ("2× the tokens", "not matched")
    assert "moe over dense: 2× training FLOPs, 2× training tokens" in verdict.scope
    assert verdict.scope.endswith("not matched")
    assert "moe was trained on 2× the tokens of dense" in verdict.notes


def test_training_flops_are_those_that_runs_counted() -> None:
    """Of what a capacity drops nothing is computed, whatever was planned."""
    evidence = twins()
    for seed in range(8):
        for model, spent in (("moe", 0.9e12), ("dense", 1.0e12)):
            evidence = with_outcome(evidence, model, seed, values={BPB: 2.0, "train.model_flops": spent})
    verdict = judged(evidence)
    assert {row.what: row.ratio for row in verdict.beside}["training FLOPs"] == pytest.approx(0.9)
    assert "0.9× training FLOPs" in verdict.scope


def test_all_that_stands_beside_is_listed_in_a_line() -> None:
    verdict = judged(
        with_recipe(twins(params={"moe": (300_000, 110_000), "dense": (110_000, 110_000)}), "moe", lr=6e-3)
    )
    assert likeness.listed(verdict.beside, verdict.treatment, verdict.baseline) == (
        "moe over dense: total parameters 2.73×, trained parameters 2.73×, learning rate 2×; equal in active "
        "parameters, training FLOPs/token, context, training FLOPs, training tokens, tokens per batch, tokens per "
        "micro-batch, schedule, optimizer, dtype, test bytes scored"
    )
    assert likeness.listed(judged(swept()).beside, None, None) == ""


def test_a_match_is_followed_from_model_to_model() -> None:
    plan = twins().plan
    (match,) = plan.matches
    chain = plan.model_copy(
        update={
            "matches": (
                match.model_copy(update={"model": "a", "to": "b"}),
                match.model_copy(update={"model": "c", "to": "b"}),
                match.model_copy(update={"model": "c", "to": "d", "on": "total_params"}),
            )
        }
    )
    assert likeness.matched_on(chain, "a", "c") == ("active_params",)
    assert likeness.matched_on(chain, "a", "d") == ()


def test_epochs_beyond_one_are_told() -> None:
    verdict = judged(with_data(twins(), tokens={"train": 500_000, "test": 9000}))
    assert "moe and dense read the training split 2 times" in verdict.notes
    (row,) = [row for row in verdict.beside if row.what == "epochs"]
    assert row.values["moe"] == pytest.approx(250 * 16 / ((500_000 - 256) // 256))
    assert not [
        note for note in judged(with_data(twins(), tokens={"train": 5_000_000, "test": 9000})).notes if "read" in note
    ]


def test_an_exact_count_has_no_pair() -> None:
    block = {
        "says": "So many.",
        "model": "moe",
        "metric": "cost.total_params",
        "test": {"kind": "exact", "value": 110_000},
    }
    verdict = judged(evidence_of({"moe": {BPB: MOE}, "dense": {BPB: DENSE}}, {"c": block}))
    assert verdict.state == "supported"
    assert verdict.caveats == ()
    assert "not matched" not in verdict.scope


# ---------------------------------------------------------------------------------------------- having learned


def test_a_treatment_that_learned_nothing_is_compared_with_nobody() -> None:
    worse = evidence_of({"moe": {BPB: DENSE}, "dense": {BPB: MOE}}, {"c": claim({"kind": "superior", "margin": 0})})
    assert judged(with_data(worse, unigram_bits_per_byte=2.1)).state == "refuted"
    verdict = judged(with_data(worse, unigram_bits_per_byte=2.0))
    assert (verdict.state, "moe learned nothing" in verdict.reason) == ("invalid", True)


def test_a_baseline_that_learned_nothing_is_named() -> None:
    verdict = judged(with_data(twins(), unigram_bits_per_byte=2.01))
    assert verdict.reason == (
        "training: dense learned nothing: 2 bits/byte, where counting the bytes of the training split gives 2.01; "
        "train it longer or at another learning rate"
    )


# ---------------------------------------------------------------------------------------------- learning rates


def sweep(best: float | None = 3e-3, *, interior: bool = True, whole: bool = True) -> TunedModel:
    return TunedModel(lrs=(1e-3, 3e-3, 9e-3), best_lr=best, interior=interior, configured_lr=3e-3, whole=whole)


def of_one_sweep(tuned: dict[str, TunedModel]) -> Evidence:
    """The suite sweeps the mixture alone and transfers its rate to the dense model."""
    evidence = twins(tuned=tuned)
    spec = evidence.plan.spec
    tune = {"lr": [1e-3, 3e-3, 9e-3], "models": ["moe"]}
    changed = type(spec).model_validate({**spec.model_dump(), "tune": tune})
    return with_plan(evidence, spec=changed)


def rate_note(evidence: Evidence) -> str:
    (note,) = [note for note in judged(evidence).notes if "learning rate" in note]
    return note


def test_a_rate_is_transferred_from_a_sweep_that_found_it() -> None:
    assert rate_note(of_one_sweep({"moe": sweep()})) == "learning rate of dense transferred from the sweep of moe"


@pytest.mark.parametrize(
    ("tuned", "why"),
    [
        ({}, ""),
        ({"moe": sweep(9e-3, interior=False)}, ": the best rate of moe, 0.009, is at the end of its range"),
        ({"moe": sweep(whole=False)}, ": the sweep of moe is not finished"),
        ({"moe": sweep(None, interior=False)}, ": no rate of the sweep of moe completed"),
    ],
)
def test_a_rate_is_not_transferred_from_no_sweep(tuned: dict[str, TunedModel], why: str) -> None:
    assert rate_note(of_one_sweep(tuned)) == f"learning rate not shown to be tuned{why}"


def test_a_rate_that_is_not_the_sweeps_best_is_not_transferred_from_it() -> None:
    evidence = with_recipe(of_one_sweep({"moe": sweep()}), "dense", lr=1e-2)
    assert rate_note(evidence) == (
        "learning rate not shown to be tuned: dense has no sweep of its own, and dense was trained with 0.01, the best "
        "of moe was 0.003"
    )


def test_the_words_of_coverage() -> None:
    assert coverage.text_of("test.bits_per_byte[domain=a]") == "test"
    assert coverage.text_of("flops_to_quality") == coverage.text_of("routing.entropy") == "curve"
    assert coverage.text_of("memory.train_peak_bytes") is None


@pytest.mark.parametrize(
    ("metric", "dense", "what"),
    [
        ("test.bits_per_byte", {"evaluate": {"final_tokens": 262144}}, "the text they are scored on"),
        ("flops_to_quality", {"schedule": {"decay": "linear"}}, "schedule"),
        ("flops_to_quality", {"evaluate": {"points": 4}}, "schedule"),
        ("speed.train_step_s", {"micro_batch_tokens": 256}, "the tokens of a timed step"),
    ],
)
def test_a_plan_says_which_claims_will_be_invalid_as_their_models_are_not_measured_alike(
    metric: str, dense: dict[str, Any], what: str, tmp_path: Path
) -> None:
    block: dict[str, Any] = {
        "says": "x", "compare": {"treatment": "moe", "baseline": "dense"}, "metric": metric,
        "test": {"kind": "superior", "margin": "1%"},
    }  # fmt: skip
    block |= {"target": {"reach": "dense"}} if metric.endswith("_to_quality") else {}
    models = tiny_suites.suite()["models"]
    told = []
    for train in ({}, dense):
        models = {**models, "dense": {**models["dense"], "train": train}}
        measure = {"memory": False, "speed": {"processes": 6}}
        changed = {"models": models, "claims": {"c": block}, "measure": measure, "seeds": 6}
        path = tiny_suites.write(tmp_path, **changed, train={"batch_tokens": 512, "evaluate": {"points": 2}})
        told.append(
            [note for note in api.prepare_plan(path, results=tmp_path / "results").plan.warnings if "INVALID" in note]
        )
    assert told[0] == []
    assert len(told[1]) == 1
    assert told[1][0].startswith(f"claims.c: moe and dense differ in {what}")


@pytest.mark.parametrize("evaluate", [{}, {"final_tokens": 100_000}, {"windows_per_document": 1}], ids=str)
def test_a_plan_says_how_much_text_can_be_scored(evaluate: dict[str, Any], tmp_path: Path) -> None:
    path = tiny_suites.write(
        tmp_path, train={"evaluate": {"points": 2, "tokens": 256, "final_tokens": 512, **evaluate}}
    )
    plan = api.prepare_plan(path, results=tmp_path / "results").plan
    documents, tokens = plan.data.documents["test"], plan.data.tokens["test"]
    all_there_is = f"at most {tokens - documents:,} of the 100,000 bytes asked are scored: all the test text there is"
    one_window = f"at most {16 * documents:,} of the 512 bytes asked are scored: {documents} documents, and"
    told = {"final_tokens": all_there_is, "windows_per_document": f"{one_window} windows_per_document 1"}
    assert [one for one in plan.warnings if "scored" in one] == [told[key] for key in evaluate]


def test_test_text_that_was_trained_on_is_told_in_every_view() -> None:
    """Above the threshold of the data, of qualities alone."""
    told = "7.1% of the test text stands in the training text too"
    verdict = judged(with_data(twins(), leak_share=0.071))
    assert (verdict.state, told in verdict.caveats) == ("supported", True)
    assert f"{told}: a model may have learned it by heart" in verdict.notes
    assert not any(told in caveat for caveat in judged(with_data(twins(), leak_share=0.05)).caveats)
    memory = twins("memory.train_peak_bytes")
    assert told not in judged(with_data(memory, leak_share=0.071)).caveats


# ----------------------------------------------------------------------------------------------------
# Doubts about a sample: one pair that rules, skew, dependence.


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


# ----------------------------------------------------------------------------------------------------
# A verdict compares like with like: the same text, schedule, step and machine; and says what differs beside that.


# ---------------------------------------------------------------------------------------------- the text


def test_alike_is_supported() -> None:
    verdict = judged(twins())
    assert (verdict.state, verdict.scored.scored_bytes) == ("supported", 130_000)
    assert "scored on 130,000 of 131,072 bytes requested, 4 documents" in verdict.scope


def test_models_scored_on_other_amounts_of_text_are_not_compared() -> None:
    evidence = with_recipe(twins(items=None), "moe", final_eval_tokens=4096)
    assert judged(evidence).state == "invalid"
    items = {**scoring(DOCUMENTS), "moe": [DOCUMENTS[:2]] * 8}
    verdict = judged(twins(items=items))
    assert verdict.state == "invalid"
    assert "scored on different text" in verdict.reason
    assert "10,000 bytes of 2 documents" in verdict.reason
    assert "130,000 bytes of 4 documents" in verdict.reason


def test_another_limit_of_windows_is_another_text() -> None:
    assert judged(with_recipe(twins(items=None), "moe", windows_per_document=None)).state == "invalid"
    assert judged(with_recipe(twins(), "moe", windows_per_document=None)).state == "supported", "the documents say so"


@pytest.mark.parametrize("changed", [(3999, 7600.0), None])
def test_one_byte_of_one_document_of_one_run_is_different_text(changed: tuple[int, float] | None) -> None:
    """It never takes the interval over documents away in silence."""
    evidence = twins()
    assert judged(evidence).item_low is not None
    first = [] if changed is None else [changed]
    items = documents_of(first + DOCUMENTS[1:])
    verdict = judged(with_outcome(evidence, "dense", 3, items={BPB: items}))
    assert verdict.state == "invalid"
    assert "scored on different text" in verdict.reason


def test_a_run_without_its_documents_takes_the_interval_over_documents_from_nobody() -> None:
    verdict = judged(with_outcome(twins(), "dense", 3, items={}))
    assert verdict.reason == (
        "evaluation: which documents dense with seed 3 was scored on is not known, though it is of other runs"
    )


def test_a_crossing_is_of_the_text_of_the_evaluation_points() -> None:
    evidence = crossing()
    assert judged(evidence).state == "supported"
    verdict = judged(with_recipe(evidence, "moe", eval_tokens=4096))
    assert (verdict.state, "at the evaluation points" in verdict.reason) == ("invalid", True)
    assert judged(with_recipe(evidence, "moe", final_eval_tokens=65536)).state == "supported"


def test_a_test_split_without_a_digest_is_no_known_split() -> None:
    evidence = twins()
    evidence = replace(evidence, outcomes=tuple(replace(run, test_digest=None) for run in evidence.outcomes))
    verdict = judged(evidence)
    assert (verdict.state, verdict.reason) == ("invalid", "data: no digest of the test split of moe with seed 0")


# ---------------------------------------------------------------------------------------------- schedules and steps


def crossing(metric: str = "flops_to_quality") -> Evidence:
    """The mixture reaches the dense model's final quality at the third of five evaluations."""
    curves = {
        "moe": [[2.6, 2.3, 2.0, 1.95 + s / 1000, 1.9] for s in range(8)],
        "dense": [[2.8, 2.6, 2.4, 2.2 + s / 1000, 2.05] for s in range(8)],
    }
    block = claim({"kind": "ratio_at_least", "value": 1.1}, metric, target={"reach": "dense"})
    times = {
        name: {"speed.train_step_s": [0.02 + p / 1e4 for p in range(8)]} for name in ("moe", "dense", "dense~again")
    }
    return evidence_of({}, {"c": block}, curves=curves, times=times, seeds=range(8))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 375},
        {"warmup_steps": 100},
        {"decay": "linear"},
        {"final_lr_share": 0.0},
        {"batch_tokens": 8192},
        {"evaluate_at": (25, 250)},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("metric", ["flops_to_quality", "tokens_to_quality", "seconds_to_quality"])
def test_crossings_of_other_schedules_are_not_compared(metric: str, changes: dict[str, Any]) -> None:
    evidence = crossing(metric)
    assert "crossing on an undecayed curve" in judged(evidence).caveats
    verdict = judged(with_recipe(evidence, "moe", **changes))
    assert verdict.state == "invalid"
    assert verdict.reason.startswith("schedule: ")


def test_another_peak_rate_is_no_other_schedule() -> None:
    verdict = judged(with_recipe(crossing(), "moe", lr=6e-3))
    assert verdict.state == "supported"
    assert "2× learning rate" in verdict.scope


def timed(metric: str, baseline: float = 1.0) -> Evidence:
    times = {name: {metric: [0.02 * (1 + p / 1e3) for p in range(8)]} for name in ("moe", "dense", "dense~again")}
    times["moe"] = {metric: [t / 2 for t in times["moe"][metric]]}
    return evidence_of({}, {"c": claim({"kind": "superior", "margin": "0%"}, metric)}, times=times, seeds=range(8))


def test_steps_of_other_micro_batches_are_not_compared() -> None:
    evidence = timed("speed.train_step_s")
    assert judged(evidence).state == "supported"
    verdict = judged(with_recipe(evidence, "moe", micro_batch_tokens=1024))
    assert verdict.state == "invalid"
    assert "moe 1,024, dense 4,096" in verdict.reason
    decoding = with_recipe(timed("speed.decode_step_s[batch=8]"), "moe", micro_batch_tokens=1024)
    assert judged(decoding).state == "supported", "a decoding step has no micro-batch"


def test_peaks_of_other_micro_batches_are_not_compared_where_models_are_matched() -> None:
    metric = "memory.train_peak_bytes"
    values = {"moe": {metric: [1e6 + s for s in range(8)]}, "dense": {metric: [2e6] * 8}}
    evidence = evidence_of(values, {"c": claim({"kind": "superior", "margin": "5%"}, metric)})
    assert judged(evidence).state == "supported"
    verdict = judged(with_recipe(evidence, "moe", micro_batch_tokens=1024))
    assert verdict.state == "invalid"
    assert "different micro-batches (tokens: moe 1,024, dense 4,096)" in verdict.reason
    free = judged(with_recipe(unmatched(evidence), "moe", micro_batch_tokens=1024))
    assert (free.state, "0.25× tokens per micro-batch" in free.scope) == ("supported", True)


@pytest.mark.parametrize("where", [{"machine": "8-core arm64 CPU"}, {"setup": "2-core x86_64 CPU, 2 threads"}])
def test_a_session_is_of_one_machine(where: dict[str, str]) -> None:
    evidence = timed("speed.train_step_s")
    processes = tuple(replace(one, **where) if one.process == 5 else one for one in evidence.processes)
    verdict = judged(replace(evidence, processes=processes))
    assert (verdict.state, "2 machines" in verdict.reason) == ("invalid", True)


# ---------------------------------------------------------------------------------------------- every point of a trend


def test_a_trend_over_all_its_points() -> None:
    verdict = judged(swept())
    assert verdict.state == "supported"
    active = next(row for row in verdict.beside if row.what == "active parameters")
    assert set(active.values) == {"moe_s2", "moe_s4", "moe_s8"}


def test_the_middle_of_a_trend_is_held_to_every_precondition() -> None:
    evidence = swept()
    middle = "moe_s4"
    other_data = with_outcome(evidence, middle, 2, digests={250: "else"})
    assert judged(other_data).reason.startswith("data: ")
    other_test = with_outcome(evidence, middle, 2, test_digest="u" * 16)
    assert judged(other_test).reason == "data: the runs were tested on different test splits"
    lost = evidence
    for seed in (1, 2):
        lost = with_outcome(lost, middle, seed, status="diverged", values={}, reason="loss is not finite")
    assert judged(lost).reason == "divergence: 2 of 8 runs of moe_s4 diverged"
    missed = MatchResult(
        model=middle, to="moe_s2", on="active_params", by="ffn.expert_hidden", size=8, target=100.0, achieved=110.0,
        residual=0.1, tolerance=0.01,
    )  # fmt: skip
    assert judged(with_plan(evidence, matches=(missed,))).reason.startswith("match: moe_s4 misses moe_s2")
    assert judged(with_recipe(evidence, middle, final_eval_tokens=512)).state == "invalid"


# ---------------------------------------------------------------------------------------------- equal treatment


@pytest.mark.parametrize(
    "ffn",
    [{"capacity_factor": 1.25, "balance_loss": 0.0}, {"balance_loss": 0.01, "balance_over": "micro_batch"}],
    ids=["capacity", "balance"],
)
def test_what_is_taken_over_a_micro_batch_needs_equal_ones(ffn: dict[str, Any]) -> None:
    evidence = with_recipe(with_ffn(twins(), "moe", **ffn), "moe", micro_batch_tokens=1024)
    matched = judged(evidence)
    assert matched.state == "invalid"
    assert "micro-batches of 1,024 tokens (moe) and 4,096 tokens (dense)" in matched.reason
    alone = judged(unmatched(evidence))
    assert alone.state == "supported"
    assert any(note.startswith("micro-batches of 1,024 tokens") for note in alone.notes)
    assert any(
        note.startswith(("moe: an expert has room for", "moe: its balance loss is that of each"))
        for note in alone.notes
    )
    whole = with_ffn(evidence, "moe", capacity_factor=None, balance_loss=0.01, balance_over=None)
    assert judged(whole).state == "supported"
    free = with_ffn(evidence, "moe", capacity_factor=None, balance_loss=0.0)
    assert judged(free).state == "supported"
    assert "0.25× tokens per micro-batch" in judged(free).scope


def test_matched_models_are_trained_in_one_dtype() -> None:
    evidence = with_recipe(twins(), "moe", dtype="bfloat16")
    assert judged(evidence).reason.startswith("training: moe and dense are matched, but trained in bfloat16 (moe)")
    alone = judged(unmatched(evidence))
    assert alone.state == "supported"
    assert "trained in bfloat16 (moe) and float32 (dense)" in alone.notes
    assert "dtype bfloat16 against float32, not matched" in alone.scope
    (match,) = evidence.plan.matches
    of_bytes = with_plan(evidence, matches=(match.model_copy(update={"on": "weight_bytes"}),))
    assert judged(of_bytes).state == "supported", "equal bytes in two dtypes is what that match claims"


# ----------------------------------------------------------------------------------------------------
# How much of the text that was asked for a verdict was scored on.


def test_little_of_what_was_asked_is_said_and_very_little_is_no_verdict() -> None:
    plenty = {"tokens": {"test": 10**6, "train": 10**7}, "documents": {"test": 9, "train": 90}}
    half = judged(with_data(twins(items=scoring([*DOCUMENTS[:3], (45_000, 85_500.0)])), **plenty))
    assert half.state == "supported"
    assert half.caveats == ("46% of the text requested",)
    (note,) = [note for note in half.notes if "bytes requested" in note]
    assert note == ("only 46% of the 131,072 bytes requested were scored: at most 4 windows of each document are read")
    few = judged(with_data(twins(items=scoring(DOCUMENTS[:3])), **plenty))
    assert few.state == "invalid"
    assert few.reason == (
        "evaluation: scored on 15,000 of 131,072 bytes requested, 3 documents, below 25%: at most 4 windows of each "
        "document are read: raise `windows_per_document` or leave it out, or ask for fewer bytes (`evaluate:`)"
    )


def test_all_the_text_there_is_is_enough_when_it_is_several_documents() -> None:
    small = with_data(twins(items=scoring(DOCUMENTS[:2])), tokens={"test": 10_002}, documents={"test": 2})
    verdict = judged(small)
    assert verdict.state in ("supported", "inconclusive")
    assert "only 8% of the 131,072 bytes requested were scored: all the text there is" in verdict.notes
    one = judged(with_data(twins(items=scoring(DOCUMENTS[3:])), tokens={"test": 115_001}, documents={"test": 1}))
    assert one.state == "invalid"
    assert "one document does not say how quality varies over documents" in one.reason


def test_a_domain_is_scored_on_its_own_bytes() -> None:
    evidence = twins(f"{BPB}[domain=code]")
    verdict = judged(evidence)
    assert verdict.state == "supported"
    assert "scored on 130,000 bytes of code, 4 documents" in verdict.scope
    assert judged(twins(f"{BPB}[domain=prose]")).scored is None


def test_runs_say_themselves_what_they_scored_where_their_documents_are_not_known() -> None:
    evidence = twins(items=None)
    assert judged(evidence).scored is None
    told = {"test.scored_bytes": 131_000.0, "test.scored_documents": 41.0}
    outcomes = tuple(replace(run, values={**run.values, **told}) for run in evidence.outcomes)
    verdict = judged(replace(evidence, outcomes=outcomes))
    assert "scored on 131,000 of 131,072 bytes requested, 41 documents" in verdict.scope


def test_few_bytes_are_said_even_if_no_more_were_asked() -> None:
    evidence = twins(items=scoring([(500, 950.0), (524, 995.6)]))
    for model in ("moe", "dense"):
        evidence = with_recipe(evidence, model, final_eval_tokens=1024)
    assert "only 1,024 bytes were scored" in judged(evidence).notes


def test_a_checkpoint_that_knows_nothing_of_the_text_is_told() -> None:
    pair = {"treatment": "olmoe_1b_7b", "baseline": "olmo_1b"}
    block = {"says": "Lower loss.", "compare": pair, "metric": BPB, "test": {"kind": "superior", "margin": 0.0}}
    found = with_data(golden_tasks.checkpoints(), unigram_bits_per_byte=0.82)  # theirs are about 0.78 and 0.86
    (verdict,) = ask(found, {"lower": Claim.model_validate(block)})
    told = [caveat for caveat in verdict.caveats if "counting its bytes" in caveat]
    assert [caveat.partition(" ")[0] for caveat in told] == ["olmo_1b"]
