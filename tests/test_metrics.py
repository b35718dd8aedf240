"""What each metric can and cannot say: what is fixed by construction, a bound, exact, or a matter of chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_suites
from builders import claim, evidence_of
from small_models import dense, moe
from small_routers import given, mixture, router

from moebench import api
from moebench.claims import judge
from moebench.evidence import Evidence, gather
from moebench.model.routers import ROUTERS
from moebench.records import METRICS
from moebench.show import LISTS
from moebench.spec.constant import constant
from moebench.spec.errors import SuiteError
from moebench.store import Results
from tests import golden_systems
from tests.golden_results import MACHINE

SUPERIOR = {"kind": "superior", "margin": "5%"}


def test_every_metric_says_what_it_can_and_cannot_say_and_both_are_listed() -> None:
    shown = {str(row[0]).partition("[")[0]: row for row in LISTS["metrics"]()}
    for name, metric in METRICS.items():
        assert len(metric.cannot) > 10
        assert not metric.cannot.endswith(".")
        assert (name in shown) == (metric.retired is None)
        if metric.retired is None:
            assert metric.says in str(shown[name][1])
            assert shown[name][2] == metric.cannot


# ------------------------------------------------------------------------------------------ fixed by construction


FIXED = {
    "routing.dropped_share": moe(),
    "evaluation.dropped_share": moe(4, 2, capacity_factor=0.25),
    "memory.resident_growth_bytes": dense(),
    "train.tokens": moe(),
    "train.epochs": dense(),
    "test.scored_bytes": dense(),
    "curve.scored_documents": moe(),
    "routing.idle_by_chance": moe(),
}


@pytest.mark.parametrize("metric", FIXED)
def test_what_cannot_vary_is_known_to(metric: str) -> None:
    assert constant(metric, FIXED[metric]) is not None


def test_metrics_vary_unless_something_fixes_them() -> None:
    ffn = moe(8, 2, capacity_factor=1.0)
    assert {name for name in METRICS if constant(name, ffn) is not None} == {
        *FIXED, "test.scored_documents", "tune.scored_bytes", "tune.scored_documents", "curve.scored_bytes",
    }  # fmt: skip


def test_a_share_of_drops_is_0_where_there_is_room_for_all() -> None:
    assert "no capacity_factor" in str(constant("train.dropped_share", moe(8, 2)))
    assert "room for every token" in str(constant("train.dropped_share", moe(8, 2, capacity_factor=4.0)))
    assert constant("train.dropped_share", moe(8, 2, capacity_factor=3.9)) is None
    assert constant("train.dropped_share", dense()) is not None
    assert constant("train.dropped_share", moe(8, 2, router="of_a_package")) is None


LOADS = ("routing.entropy", "routing.max_over_mean", "routing.dead_experts", "routing.tokens[layer=0,expert=0]")


@pytest.mark.parametrize("word", ROUTERS)
def test_loads_are_fixed_exactly_where_no_weights_make_them_uneven(word: str) -> None:
    """Whole sequences of 16 tokens, twice, whose number the experts divide, through two drawings of the weights."""
    shape = {"experts": 8, "top_k": 4, "groups": 4} if word == "hierarchical" else {}
    ffn, tokens = mixture(word, **shape), given(4, 16)
    loads = set()
    for seed in (0, 1):
        expert_N = tokens.routed_by(router(word, seed=seed, **shape).eval()).expert_N
        loads.add(tuple(expert_N.bincount(minlength=ffn.experts).tolist()))
    even = len(loads) == 1 and len(set(loads.pop())) == 1
    for metric in LOADS:
        assert (constant(metric, ffn) is not None) == even


def test_loads_of_one_expert_or_of_all_of_them_are_fixed() -> None:
    for metric in LOADS:
        assert "one expert" in str(constant(metric, moe(1, 1)))
        assert "every expert" in str(constant(metric, moe(4, 4)))
        assert constant(metric, moe(4, 4, router="top_p", top_p=0.5)) is None
        assert constant(metric, moe(4, 4, router="of_a_package")) is None


def suite(metric: str, *, capacity: float | None = 0.25, **test: Any) -> dict[str, Any]:
    """A dropping and a dropless mixture, and a claim about a metric of both."""
    ffn = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
    shape = {"layers": 2, "width": 16, "heads": 2}
    drop = {**ffn, "capacity_factor": capacity} if capacity else ffn
    few = tiny_suites.claim(metric=metric, test=test or SUPERIOR, compare={"treatment": "drop", "baseline": "full"})
    return {
        "models": {"drop": {**shape, "ffn": drop}, "full": {**shape, "ffn": ffn}},
        "claims": {"few": few},
        "measure": {"memory": True, "speed": {"train_step": True}},
    }


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("routing.dropped_share", "0 by construction, for experts take every assignment in an evaluation"),
        ("evaluation.dropped_share", "0 by construction, for experts take every assignment in an evaluation"),
        ("train.dropped_share", "0 by construction, for softmax_topk has no capacity_factor here"),
        ("memory.resident_growth_bytes", "the order in which models were loaded"),
    ],
)
def test_a_claim_about_what_cannot_vary_is_refused(tmp_path: Path, metric: str, words: str) -> None:
    with pytest.raises(SuiteError) as raised:
        api.validate(tiny_suites.write(tmp_path, **suite(metric, kind="non_inferior", margin=0.01)))
    assert words in str(raised.value)


def test_a_stored_claim_about_what_cannot_vary_is_invalid() -> None:
    """What old suites were allowed to ask, and old folders hold: 0 against 0, in every run."""
    values = {name: {"routing.dropped_share": [0.0] * 8, "train.tokens": [1e6] * 8} for name in ("moe", "moe_other")}
    pair = {"treatment": "moe", "baseline": "moe_other"}
    for metric in ("routing.dropped_share", "train.tokens", "memory.resident_growth_bytes"):
        block = claim({"kind": "equivalent", "margin": "5%"}, metric, compare=pair)
        (verdict,) = judge(evidence_of(values, {"c": block}))
        assert verdict.state == "invalid"
        assert f"constant: {metric} of moe" in str(verdict.reason)


# ------------------------------------------------------------------------------------------ bounds


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A folder of before, whose speed sessions do not say what was routed."""
    root = tmp_path_factory.mktemp("systems")
    plan = golden_systems.systems_plan()
    stored = Results(root).save_plan(plan, MACHINE)
    golden_systems._write_speed(root, plan)
    return gather(Results(root), stored)


def test_a_utilisation_counted_with_a_bound_is_no_measurement(systems: Evidence) -> None:
    models = systems.plan.models
    varying = {name for name, model in models.items() if model.architecture.computes_fewer(training=True)}
    assert {"switch_2021", "gshard_2020", "mixtral_capacity"} <= varying < set(models)
    for process in systems.processes:
        told = {name for name in models if "speed.train_utilisation" in process.values[name]}
        assert told == set(models) - varying
        assert all("may not have been computed" in process.absent[n]["speed.train_utilisation"] for n in varying)
        assert set(process.about["derived"]) >= told
        assert all("speed.train_utilisation" not in process.about["derived"][name] for name in varying)
