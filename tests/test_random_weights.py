"""`weights: random`: a model is counted and timed at its initial values, never trained and never asked for quality."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moebench import api
from moebench.jobs.measuring import enter
from moebench.launch import launch
from moebench.models.decoder import build
from moebench.planning.graph import make_plan
from moebench.planning.machine import no_facts
from moebench.planning.matching import Machine, PlanError
from moebench.planning.types import SpeedPlan
from moebench.store import Results
from moebench.suite.load import load_suite
from moebench.suite.write import resolved_yaml
from tests.support.suite_texts import load, messages

SUITE = """\
suite: latency
question: How fast is a layer?
seeds: 2
data: {source: synthetic, sources: 2, symbols: 6, order: 1, documents: 60, document_bytes: 200, context: 16}
models:
  moe: {layers: 1, width: 32, heads: 4, weights: random,
        ffn: {kind: moe, experts: 4, top_k: 2, expert_hidden: 16}}
  dense: {base: moe, ffn: {kind: dense}, match: {to: moe, on: active_params}}
  half: {base: dense, dtype: bfloat16}
measure: {speed: {train_step: false, prefill: [8], decode: {batch: [1]}, processes: 2, seconds: 1}}
claims:
  fast:
    compare: {treatment: moe, baseline: dense}
    metric: "speed.decode_step_s[batch=1]"
    test: {kind: non_inferior, margin: 25%}
"""
TRAIN = "train: {budget: {steps: 8}, batch_tokens: 64}\n"


def edited(old: str, new: str) -> str:
    assert old in SUITE
    return SUITE.replace(old, new)


def test_a_suite_of_random_models_needs_no_training_recipe(tmp_path: Path) -> None:
    spec = load(tmp_path, SUITE)
    assert all(model.train is None for model in spec.models.values())
    assert [spec.models[name].served_dtype for name in spec.models] == ["float32", "float32", "bfloat16"]


def test_it_takes_no_recipe_from_the_suite_or_its_base(tmp_path: Path) -> None:
    text = SUITE.replace(
        "claims:", f"{TRAIN}  # of the suite\nclaims:"
    ).replace("  half:", "  big: {layers: 2, width: 32, heads: 4, ffn: {kind: dense, hidden: 8}, train: {clip: 2.0}}\n"
              "  twin: {base: big, weights: random}\n  half:")  # fmt: skip
    spec = load(tmp_path, text)
    assert [name for name, model in spec.models.items() if model.train is not None] == ["big"]


def test_resolved_it_loads_to_the_same_suite(tmp_path: Path) -> None:
    spec = load(tmp_path, SUITE)
    assert load(tmp_path, resolved_yaml(spec)) == spec
    mixed = load(tmp_path, edited("  moe: {", f"  trained: {{layers: 1, width: 32, heads: 4, ffn: {{kind: dense, hidden: 8}}, {TRAIN.strip()}}}\n  moe: {{"))  # fmt: skip  # noqa: E501
    assert load(tmp_path, resolved_yaml(mixed)) == mixed


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("test.bits_per_byte", ""),
        ("train.bits_per_token", ""),
        ("flops_to_quality", "target: {reach: dense}"),
        ("memory.inference_peak_bytes", ""),
        ("train.counted_flops", ""),
    ],
)
def test_a_claim_about_more_than_counts_and_times_is_refused_at_its_line(
    tmp_path: Path, metric: str, more: str
) -> None:
    text = edited('metric: "speed.decode_step_s[batch=1]"', f"metric: {metric}\n    {more}")
    said = messages(tmp_path, text)
    line = next(n for n, line in enumerate(text.splitlines(), start=1) if f"metric: {metric}" in line)
    assert f"suite.yaml:{line}:" in said
    assert f"{metric} of a model with `weights: random`: it is counted and timed, never trained" in said
    assert "claim a metric of cost or speed, or train the model" in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dtype: bfloat16", "dtype: bfloat16, train: {clip: 2.0}", "`weights: random` is never trained\n"),
        ("train_step: false", "train_step: true", "has `weights: random`: its training step is not timed"),
        ("claims:", "controls: {same_model: dense}\nclaims:", "dense has `weights: random`: it is never trained"),
        ("claims:", "tune: {lr: [0.1, 0.2, 0.3]}\nclaims:", "no model of this suite is trained"),
        ("weights: random,\n", "weights: none,\n", "weights cannot be 'none': use random"),
        ("weights: random,\n", "\n", "there is no training recipe"),
    ],
)
def test_what_only_training_gives_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in messages(tmp_path, edited(old, new))


def test_a_trained_model_has_its_dtype_in_its_recipe(tmp_path: Path) -> None:
    said = messages(tmp_path, TRAIN + edited("weights: random,\n", "\n"))
    assert "dtype is of a model with `weights: random`: a trained one has `train.dtype`" in said


def test_the_plan_counts_it_in_the_type_of_its_weights_and_has_nothing_to_train(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    plan = api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results").plan
    dense, half = plan.models["dense"], plan.models["half"]
    assert plan.runs == ()
    assert (dense.recipe.steps, dense.expected_train_flops) == (0, 0)
    assert dense.architecture == half.architecture
    assert dense.costs.weight_bytes == 2 * half.costs.weight_bytes
    assert not any("learning rate" in warning or "batch_tokens" in warning for warning in plan.warnings)


def test_smoke_and_scales_leave_it_as_it_is(tmp_path: Path) -> None:
    from moebench.suite.smoke import smoke

    (tmp_path / "suite.yaml").write_text(SUITE)
    spec = load_suite(tmp_path / "suite.yaml").spec
    assert smoke(spec).models == spec.models


# ------------------------------------------------------------------------------------------------ the speed session


def session_of(tmp_path: Path, text: str = SUITE, **changes: int) -> SpeedPlan:
    """The session of a plan, on a machine of so many `memory_bytes`."""
    spec = load(tmp_path, text)
    machine = Machine(fingerprint="here", memory_bytes=changes.get("memory_bytes"))
    plan = make_plan(spec, facts=no_facts(), vocab=256, machine=machine)
    assert plan.speed is not None
    return plan.speed


def test_the_session_says_how_each_model_is_built_and_what_it_takes(tmp_path: Path) -> None:
    speed = session_of(tmp_path, memory_bytes=10**9)
    assert {name: (run.recipe.steps, run.recipe.dtype) for name, run in speed.untrained.items()} == {
        "moe": (0, "float32"),
        "dense": (0, "float32"),
        "half": (0, "bfloat16"),
    }
    assert not speed.apart
    dense, half = 4 * 17_000, 2 * 17_000  # about, in bytes of weights
    assert speed.memory_bytes is not None
    assert speed.memory_bytes > 2 * dense + half


def test_models_that_do_not_fit_together_are_timed_one_after_the_other(tmp_path: Path) -> None:
    together = session_of(tmp_path, memory_bytes=10**9)
    assert together.memory_bytes is not None
    apart = session_of(tmp_path, memory_bytes=together.memory_bytes)
    assert apart.apart
    assert apart.id != together.id
    assert apart.memory_bytes is not None
    assert apart.memory_bytes < together.memory_bytes


def test_a_model_that_does_not_fit_alone_is_refused_before_it_is_built(tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        session_of(tmp_path, memory_bytes=100_000)
    said = str(caught.value)
    assert "models.moe: moe takes " in said
    assert "to build and time, and this machine has 100 kB, of which a session fills 80%" in said
    assert "give it smaller widths or fewer layers, a smaller batch, or dtype: bfloat16" in said


def raced(tmp_path: Path, *, apart: bool) -> dict[str, Any]:
    """What one process measured, here."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    made = api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    (_, job) = made.graph.jobs
    assert (job.kind, job.inputs) == ("speed", ())
    job = job.model_copy(update={"spec": {**job.spec, "session": {**job.spec["session"], "apart": apart}}})
    assert launch([job], replace(made.options, launcher="inline")) == {job.id: "completed"}
    measured: dict[str, Any] = Results(made.results).job(job.id).read("process.json")
    return measured


@pytest.mark.parametrize("apart", [False, True])
def test_every_model_is_timed_without_having_been_trained(tmp_path: Path, apart: bool) -> None:
    measured = raced(tmp_path, apart=apart)
    assert set(measured["samples"]) == {"moe", "dense", "half", "dense~again"}
    assert all(
        set(times) == {"speed.prefill_s[tokens=8]", "speed.decode_step_s[batch=1]"}
        for times in measured["samples"].values()
    )
    assert measured["missing"] == {}
    assert 2 <= measured["routed"]["moe"]["speed.decode_step_s[batch=1]"] <= 4
    turns = [name for name, _ in itertools.groupby(measured["order"])]
    assert (len(turns) == 4) == apart


def test_its_weights_are_the_seeds_initial_values_in_its_dtype(tmp_path: Path) -> None:
    plan = session_of(tmp_path)
    for name, dtype in (("dense", torch.float32), ("half", torch.bfloat16)):
        weights = enter(name, plan, {}, seed=3).subject.weights
        usual = build(plan.untrained[name].architecture, seed=3)
        assert all(value.dtype == dtype for value in weights.parameters())
        for mine, its in zip(weights.parameters(), usual.parameters(), strict=True):
            assert torch.equal(mine, its.to(dtype))


def test_a_shared_cache_holds_the_one_sequence_for_each(tmp_path: Path) -> None:
    subject = enter("moe", session_of(tmp_path), {}, seed=0).subject
    tokens = torch.arange(8).view(1, 8)
    one, many = subject.new_cache(1), subject.new_cache(3)
    subject.extend(tokens, one)
    many.share(one)
    following = torch.tensor([[9], [9], [9]])
    alone = subject.extend(following[:1], one)
    assert torch.allclose(subject.extend(following, many), alone.expand(3, -1), atol=1e-5)


def test_a_suite_of_random_models_goes_from_plan_to_report(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    made = api.prepare_plan(tmp_path / "suite.yaml", results=tmp_path / "results")
    outcome = api.run_planned(made, reports=tmp_path / "reports")
    (verdict,) = outcome.verdicts
    assert "initial values, " in verdict.scope
    assert "times at this size are those of dispatching operations" in verdict.scope
    page = (tmp_path / "reports" / "latency" / "index.md").read_text()
    assert "2 seeds × 3 models · none trained" in page
    assert "at their initial values on synthetic text" in page
    assert "## Quality" not in page
    assert "(figures/latency.svg)" in page
