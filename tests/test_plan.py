"""What a run's identity is made of: everything that decides its bits, and nothing else; seeds are stable for ever."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.identity import canonical, digest_of, job_id
from moebench.jobs import train
from moebench.jobs.recipe import TRAINING_VERSION, Run
from moebench.planning import graph, matching
from moebench.planning.tuning import tune_identity
from moebench.planning.types import Plan
from moebench.seeds import derive, generator
from moebench.store import open_results
from moebench.store.reference import MOST_BYTES
from moebench.suite.load import load_suite
from moebench.suite.model import MoEFFN
from tests.support.builders import claim, plan_of
from tests.support.small_models import architecture, dense, moe, run

REFERENCE = Path(__file__).parent.parent / "results" / "reference"
RUN = run(architecture(moe()), data_digest="d")

OLD_FIELDS = (
    "kind", "experts", "top_k", "expert_hidden", "router", "renormalise", "balance_loss", "z_loss",
)  # fmt: skip
"""Of a mixture in the first version: in every id, used or not."""

DECIDES = {
    "seed": {"seed": 1},
    "data": {"data_digest": "e"},
    "device": {"device": "cuda"},
    "backend": {"backend": "loop"},
    "kernels": {"kernels": "fused"},
    "torch": {"torch": "2.14"},
    "training version": {"training_version": RUN.training_version + 1},
    "learning rate": {"recipe": RUN.recipe.model_copy(update={"lr": 1e-3})},
    "dtype": {"recipe": RUN.recipe.model_copy(update={"dtype": "bfloat16"})},
    "micro-batch": {"recipe": RUN.recipe.model_copy(update={"micro_batch_tokens": 32})},
    "split": {"recipe": RUN.recipe.model_copy(update={"split": "tune"})},
    "evaluation": {"recipe": RUN.recipe.model_copy(update={"evaluate_at": (5, 10)})},
    "width": {"architecture": architecture(moe(hidden=16))},
    "balance loss": {"architecture": architecture(moe(balance_loss=0.02))},
    "renormalisation": {"architecture": architecture(moe(renormalise=False))},
    "norm": {"architecture": architecture(moe(), norm_eps=1e-6)},
    "normed queries and keys": {"architecture": architecture(moe(), qk_norm="full")},
}


@pytest.mark.parametrize("what", DECIDES)
def test_what_decides_the_bits_is_in_a_runs_id(what: str) -> None:
    assert RUN.model_copy(update=DECIDES[what]).id != RUN.id


def test_every_field_of_a_run_and_its_recipe_is_in_its_id() -> None:
    """No field is left out by name: the id is the hash of all of it."""
    assert RUN.id == job_id("train", RUN.model_dump(mode="json"))


def test_names_and_habits_of_the_machine_are_in_no_run() -> None:
    keys = set(Run.model_fields) | set(type(RUN.recipe).model_fields) | set(type(RUN.architecture).model_fields)
    assert not keys & {"name", "model", "suite", "checkpoint_seconds", "threads", "workers"}


def test_an_id_is_the_same_after_json() -> None:
    assert Run.model_validate_json(RUN.model_dump_json()).id == RUN.id


def test_ids_do_not_move_by_themselves() -> None:
    """A literal: whoever changes it makes every finished run count as missing."""
    assert run(architecture(dense()), data_digest="d").id == "4ca34b011e53daf5539a"


BUNDLES = sorted(path.parent for path in REFERENCE.glob("*/*/MANIFEST"))


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_reference_results_are_still_the_runs_of_their_plans(path: Path) -> None:
    """What is added to the types later is left out where it is not used, so that every committed id stays."""
    source = open_results(path)
    (stored,) = source.plans()
    assert source.unreadable_plans() == []
    assert len(source.jobs()) == len({job.id for job in stored.plan.every_job}) >= (10 if stored.plan.models else 0)
    for planned in stored.plan.every_job:
        folder = source.job(planned.id)
        assert folder.status() == "completed"
        assert job_id(**folder.job_json()["job"]) == folder.id
        if folder.kind == "train" and folder.spec()["training_version"] == TRAINING_VERSION:
            again = Run.model_validate(folder.spec())
            assert again.derived is not None or again.id == folder.id  # of a stage, what it starts from is in it too
            assert again.model_dump(mode="json") == folder.spec()


def test_every_suite_that_trains_here_has_small_reference_results() -> None:
    trained = {"quickstart", "efficiency_per_token", "systems", "scale", "known_findings", "tokenizers"}
    assert trained <= {path.name for path in BUNDLES}
    for path in BUNDLES:
        files = list(path.iterdir())
        assert len(files) <= 10
        assert sum(file.stat().st_size for file in files) <= MOST_BYTES


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_a_bundled_suite_still_plans_the_committed_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the data that the reference was made with, a suite of today has the run ids of then."""
    source = open_results(path)
    plan = source.plans()[0].plan
    if not plan.models:
        assert load_suite(plan.suite).spec.claim_hashes == plan.claim_hashes
        return
    (one,) = [source.job(run.id).spec() for run in plan.runs[:1]] or [
        plan.speed.untrained[plan.speed.baseline].model_dump()
    ]
    if one.get("training_version", TRAINING_VERSION) != TRAINING_VERSION:
        pytest.skip(f"it is of training version {one['training_version']}, and to be made again")
    if "torch" in one:
        monkeypatch.setattr(train, "version", lambda _: one["torch"])
    spec = load_suite(plan.suite, scale=plan.scale).spec
    here = matching.Machine(device=one.get("device", "cpu"))  # an experiment has neither
    again = graph.make_plan(spec, facts=plan.data, vocab=plan.data.vocab, views=plan.views, machine=here)
    assert [job for job in again.jobs if job.kind != "speed"] == [job for job in plan.jobs if job.kind != "speed"]
    assert [job.inputs for job in again.sessions] == [job.inputs for job in plan.sessions], "of another machine"
    assert again.tune == plan.tune
    assert again.claim_hashes == plan.claim_hashes
    assert again.speed is None or again.speed.model_copy(update={"id": ""}) == plan.speed.model_copy(update={"id": ""})


@pytest.mark.parametrize("field", [name for name in MoEFFN.model_fields if name not in OLD_FIELDS])
def test_a_newer_option_of_a_mixture_is_in_the_id_only_when_used(field: str) -> None:
    dumped = moe().model_dump(mode="json")
    assert field not in dumped
    values = {
        "activation": "relu",
        "bias": True,
        "shared_gate": True,
        "balance_over": "batch",
        "dense_activation": "relu",
    }
    used = moe().model_copy(update={field: values.get(field, 1)})
    other = RUN.model_copy(update={"architecture": RUN.architecture.model_copy(update={"ffn": used})})
    assert field in used.model_dump(mode="json")
    assert other.id != RUN.id


def test_canonical_json_ignores_the_order_of_keys_and_refuses_nan() -> None:
    assert canonical({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(float("nan"))


def test_a_digest_has_the_length_asked_for() -> None:
    assert len(digest_of({}, length=20)) == 20
    assert digest_of({}, length=20).startswith(digest_of({}))


@pytest.mark.parametrize("field", ["lr", "split", "evaluate_at"])
def test_a_tuned_rate_is_valid_whatever_the_rate_split_and_points(field: str) -> None:
    changes = {"lr": 1.0, "split": "tune", "evaluate_at": (1, 10)}
    other = RUN.model_copy(update={"recipe": RUN.recipe.model_copy(update={field: changes[field]})})
    assert tune_identity(other) == tune_identity(RUN)


def test_a_tuned_rate_is_valid_for_every_seed() -> None:
    assert tune_identity(RUN.model_copy(update={"seed": 77})) == tune_identity(RUN)


@pytest.mark.parametrize("what", sorted(set(DECIDES) - {"seed", "learning rate", "split", "evaluation"}))
def test_a_tuned_rate_is_valid_for_nothing_else(what: str) -> None:
    assert tune_identity(RUN.model_copy(update=DECIDES[what])) != tune_identity(RUN)


def claims(margin: str) -> dict[str, Any]:
    return {"better": claim({"kind": "superior", "margin": margin})}


def test_a_plans_id_follows_its_runs_and_claims() -> None:
    first = plan_of(["moe", "dense"], claims("0.5%"))
    assert plan_of(["moe", "dense"], claims("0.5%")).id == first.id
    assert plan_of(["moe", "dense"], claims("1%")).id != first.id
    assert plan_of(["moe", "dense"], claims("0.5%"), seeds=range(9)).id != first.id
    assert plan_of(["moe", "dense"], claims("0.5%"), processes=6).id != first.id


def test_a_plan_survives_json() -> None:
    plan = plan_of(["moe", "dense"], claims("0.5%"), processes=6)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


# ----------------------------------------------------------------------------------------------------
# Seeds: one number per (seed, purpose), stable for ever.


def test_derive_is_the_first_eight_bytes_of_a_stated_hash() -> None:
    assert derive(3, "order.0") == int.from_bytes(hashlib.sha256(b"3/order.0").digest()[:8], "big")
    assert derive(0, "init") == 3038139617124118876  # a literal: a change here would change every run


@given(st.integers(0, 2**31), st.text(max_size=20))
def test_derived_seeds_fit_in_64_bits(seed: int, purpose: str) -> None:
    assert 0 <= derive(seed, purpose) < 2**64


def test_other_seed_or_purpose_gives_another_number() -> None:
    numbers = {derive(seed, purpose) for seed in range(20) for purpose in ("order.0", "order.1", "init")}
    assert len(numbers) == 60


def test_a_generator_is_fresh_and_draws_the_same_each_time() -> None:
    first, second = generator(5, "a"), generator(5, "a")
    assert first.bit_generator.random_raw(4).tolist() == second.bit_generator.random_raw(4).tolist()
    assert first.bit_generator.random_raw(4).tolist() != generator(5, "a").bit_generator.random_raw(4).tolist()


def test_drawing_more_for_one_purpose_does_not_shift_another() -> None:
    before = generator(5, "order.0").bit_generator.random_raw(4).tolist()
    generator(5, "init").bit_generator.random_raw(1000)
    assert generator(5, "order.0").bit_generator.random_raw(4).tolist() == before
