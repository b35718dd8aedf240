"""Peaks of tensor bytes: parts that add up, weights and cache as counted, the rest in proportion."""

from __future__ import annotations

import functools

import pytest

from moebench.counting.memory import kv_bytes_per_token
from moebench.counting.weights import parameters
from moebench.jobs.recipe import Run
from moebench.jobs.training import State, TrainingStep, start
from moebench.metrics.memory import memory_records
from moebench.models.architecture import Architecture
from moebench.models.decoder.subject import DecoderSubject
from tests.support.small_models import architecture, dense, moe, odd, run, tokens
from tests.support.small_routers import model_of

pytestmark = pytest.mark.numeric

TRAIN, INFERENCE = "memory.train_peak_bytes", "memory.inference_peak_bytes"
MODELS = {
    "dense": architecture(dense(40)),
    "moe": architecture(moe(8, 2, 16)),
    "odd": odd(moe(7, 3, 16)),
    "noisy": model_of("noisy_topk", "everything", capacity_factor=1.0),
}


def seen(state: State, chosen: Run) -> tuple[DecoderSubject, TrainingStep]:
    return DecoderSubject(state.model), TrainingStep(state, chosen)


@functools.cache
def peaks(a: Architecture, *, rows: int = 4, stepped: bool = True) -> dict[str, float]:
    """The records of a model that has taken a step, so that its optimizer has its moments, or of a fresh one."""
    chosen = run(a, micro_batch_tokens=rows * 16, batch_tokens=rows * 16)
    state = start(chosen)
    batch = tokens(rows, 17)
    if stepped:
        list(memory_records(*seen(state, chosen), batch, step=1))
    return {r.metric: r.value for r in memory_records(*seen(state, chosen), batch, step=1) if r.value is not None}


def parts(found: dict[str, float], metric: str) -> dict[str, float]:
    return {name.split("part=")[1][:-1]: value for name, value in found.items() if name.startswith(metric + "[")}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("metric", [TRAIN, INFERENCE])
def test_parts_add_up_to_the_total(name: str, metric: str) -> None:
    found = peaks(MODELS[name])
    assert sum(parts(found, metric).values()) == found[metric] > 0
    assert all(value >= 0 for value in parts(found, metric).values())


def test_training_and_inference_have_parts_of_their_own() -> None:
    found = peaks(MODELS["moe"])
    assert set(parts(found, TRAIN)) == {"weights", "gradients", "optimizer", "activations"}
    assert set(parts(found, INFERENCE)) == {"weights", "gradients", "optimizer", "activations", "kv_cache"}
    assert parts(found, INFERENCE)["gradients"] == parts(found, INFERENCE)["optimizer"] == 0


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("metric", [TRAIN, INFERENCE])
def test_weights_are_four_bytes_each_and_all_experts_count(name: str, metric: str) -> None:
    total = parameters(MODELS[name].blueprint).total
    assert parts(peaks(MODELS[name]), metric)["weights"] == 4 * total


@pytest.mark.parametrize("name", MODELS)
def test_the_cache_is_its_bytes_per_token_times_the_context(name: str) -> None:
    a = MODELS[name]
    counted = kv_bytes_per_token(a.blueprint, "float32") * a.context
    assert parts(peaks(a), INFERENCE)["kv_cache"] == counted


def test_the_cache_is_counted_once() -> None:
    """In a deep model it is larger than all activations, which live for a layer at a time."""
    found = parts(peaks(architecture(dense(40), layers=12)), INFERENCE)
    assert 0 < found["activations"] < found["kv_cache"]


@pytest.mark.parametrize("name", MODELS)
def test_the_optimizer_keeps_two_moments_of_every_weight(name: str) -> None:
    """And a count of steps for each parameter, a few bytes."""
    total = parameters(MODELS[name].blueprint).total
    assert 8 * total <= parts(peaks(MODELS[name]), TRAIN)["optimizer"] <= 8 * total + 4 * 100


def test_gradients_and_moments_dominate_where_weights_do() -> None:
    """At the peak of a wide model on few tokens, most gradients are there, and none twice."""
    a = architecture(moe(16, 2, 256))
    found, total = parts(peaks(a, rows=1), TRAIN), parameters(a.blueprint).total
    assert 0.4 * 4 * total < found["gradients"] <= 4 * total
    assert sum(found.values()) > 3 * 4 * total


def test_activations_grow_with_the_micro_batch_and_nothing_else_does() -> None:
    few, many = (parts(peaks(MODELS["moe"], rows=rows), TRAIN) for rows in (4, 16))
    assert many["activations"] > 2 * few["activations"]
    assert (many["weights"], many["optimizer"]) == (few["weights"], few["optimizer"])


def test_measuring_again_gives_the_same() -> None:
    assert peaks.__wrapped__(MODELS["moe"]) == peaks(MODELS["moe"])


def test_records_carry_their_step() -> None:
    chosen = run(MODELS["dense"])
    assert {r.step for r in memory_records(*seen(start(chosen), chosen), tokens(4, 17), step=7)} == {7}
