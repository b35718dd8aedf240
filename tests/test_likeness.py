"""A verdict compares like with like: the same text, schedule, step and machine; and says what differs beside that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moebench.planning.types import MatchResult
from moebench.reader.evidence import Evidence
from moebench.reader.runs import Item
from tests.support.alike import DOCUMENTS, scoring, swept, twins, unmatched
from tests.support.builders import claim, evidence_of, judged, with_ffn, with_outcome, with_plan, with_recipe

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
    items = tuple(
        Item(document=f"d{i}", domain="code", num_bytes=n, bits=b) for i, (n, b) in enumerate(first + DOCUMENTS[1:])
    )
    verdict = judged(with_outcome(evidence, "dense", 3, items=items))
    assert verdict.state == "invalid"
    assert "scored on different text" in verdict.reason


def test_a_run_without_its_documents_takes_the_interval_over_documents_from_nobody() -> None:
    verdict = judged(with_outcome(twins(), "dense", 3, items=()))
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
    [{"capacity_factor": 1.25, "balance_loss": 0.0}, {"balance_loss": 0.01}, {"balance_loss": 0.0, "load_loss": 0.1}],
    ids=["capacity", "balance", "load"],
)
def test_what_is_taken_over_a_micro_batch_needs_equal_ones(ffn: dict[str, Any]) -> None:
    evidence = with_recipe(with_ffn(twins(), "moe", **ffn), "moe", micro_batch_tokens=1024)
    matched = judged(evidence)
    assert matched.state == "invalid"
    assert "micro-batches of 1,024 tokens (moe) and 4,096 tokens (dense)" in matched.reason
    alone = judged(unmatched(evidence))
    assert alone.state == "supported"
    assert any(note.startswith("micro-batches of 1,024 tokens") for note in alone.notes)
    free = with_ffn(evidence, "moe", capacity_factor=None, balance_loss=0.0, load_loss=None)
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
