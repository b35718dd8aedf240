"""`weights: random`: a model is counted and timed at its initial values, never trained and never asked for quality."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench import api
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
