"""What stands beside a verdict: what differs, whether anything was learned, how rates were tuned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.claims import coverage, likeness
from moebench.jobs.recipe import Recipe
from moebench.reader.evidence import Evidence, TunedModel
from tests.support import tiny_suites
from tests.support.alike import DENSE, MOE, swept, twins, unmatched
from tests.support.builders import BPB, claim, evidence_of, judged, with_outcome, with_plan, with_recipe


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
        "decay", "final_lr_share", "dtype",
    }  # fmt: skip
    held_equal = {"eval_tokens", "final_eval_tokens", "windows_per_document", "evaluate_at", "split"}
    assert set(Recipe.model_fields) == told | held_equal
    changes = {
        "steps": 300, "batch_tokens": 8192, "micro_batch_tokens": 2048, "lr": 1.0, "betas": (0.8, 0.9), "eps": 1.0,
        "weight_decay": 0.3, "clip": None, "warmup_steps": 50, "decay": "linear", "final_lr_share": 0.5,
        "dtype": "bfloat16",
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
