"""Sizes solved so that models match, budgets turned into steps, runs named, families of claims kept small enough."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench import api
from moebench.amounts import Amount
from moebench.counting.costs import costs_of
from moebench.counting.flops import decode_flops_per_token, train_flops_per_token
from moebench.counting.weights import parameters
from moebench.jobs.train import backend_of, run_of
from moebench.models.architecture import Architecture
from moebench.models.routers import ROUTERS
from moebench.models.routers.softmax_topk import SoftmaxTopK
from moebench.planning import built
from moebench.planning.graph import make_plan
from moebench.planning.matching import QUANTITIES, Machine, PlanError, Solver, match_all, recipe_of, steps_of, with_size
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.planning.session import baseline_of
from moebench.planning.tuning import TUNE_SEED
from moebench.planning.types import MatchResult, Plan
from moebench.suite.errors import SuiteError
from moebench.suite.model import Match, MatchOn
from moebench.suite.training import TrainSpec
from moebench.suite.types import SuiteSpec
from tests.support import tiny_suites
from tests.support.small_models import architecture, dense, moe, odd, recipe
from tests.support.small_plugins import ROUTER, Installed
from tests.support.small_routers import VARIANTS, model_of

EVERY = get_args(MatchOn)
FACTS = DataFacts(
    source="stdlib", digest="d", documents={"train": 9}, tokens={"train": 10**6}, domains=("code",), leak_share=0.0,
    leak_threshold=0.05,
)  # fmt: skip
SMALL = {"layers": 2, "width": 64, "heads": 4}
MOE = {**SMALL, "ffn": {"kind": "moe", "experts": 8, "top_k": 2, "expert_hidden": 88}}
DENSE = {**SMALL, "ffn": {"kind": "dense"}, "match": {"to": "moe", "on": "active_params"}}


def suite(models: dict[str, Any] | None = None, *, train: dict[str, Any] | None = None, **rest: Any) -> SuiteSpec:
    """A suite of the models given, each with the same training recipe merged over."""
    recipe = {"budget": {"steps": 100}, **(train or {})}
    named = {
        name: {**model, "train": {**recipe, **model.get("train", {})}}
        for name, model in (models or {"moe": MOE, "dense": DENSE}).items()
    }
    usual: dict[str, Any] = {"suite": "s", "question": "Is it?", "seeds": list(range(8)), "data": {"source": "stdlib"}}
    return SuiteSpec.model_validate({**usual, **rest, "models": named})


def solve(name: str, a: Architecture, target: Architecture, wanted: Match) -> tuple[Architecture, MatchResult]:
    """One match alone; PlanError when it misses by more than its tolerance."""
    solver = Solver(model=name, a=a, target=target, match=wanted, dtype="float32", target_dtype="float32")
    solved, result = solver.nearest()
    if (misfit := solver.misfit(result)) is not None:
        raise PlanError(misfit)
    return solved, result


def claims(number: int, *, metric: str = "test.bits_per_byte", family: str = "primary") -> dict[str, Any]:
    one = {
        "says": "It is.",
        "compare": {"treatment": "moe", "baseline": "dense"},
        "metric": metric,
        "test": {"kind": "superior", "margin": "0.5%"},
        "family": family,
    }
    return {f"c{n}": one for n in range(number)}


def planned(spec: SuiteSpec, **machine: Any) -> Plan:
    return make_plan(spec, facts=FACTS, vocab=256, machine=Machine(**machine))


def match(on: MatchOn, *, tolerance: float = 0.01) -> Match:
    return Match(to="target", on=on, tolerance=Amount(value=tolerance, relative=True))


# ------------------------------------------------------------------------------------------------ matching


@pytest.mark.parametrize("on", EVERY)
@pytest.mark.parametrize(
    "target",
    [
        architecture(moe(8, 2, 88), width=64, head_dim=16),
        architecture(moe(7, 3, 72), width=64, heads=6, kv_heads=2, head_dim=10, tied_embeddings=False, layers=3),
        architecture(moe(5, 5, 64), width=48, heads=3, kv_heads=1, head_dim=14),
    ],
    ids=["plain", "7 experts, top-3, grouped-query, untied", "all experts, one key-value head"],
)
def test_a_dense_twin_matches_in_every_quantity(target: Architecture, on: MatchOn) -> None:
    solved, result = solve("twin", target.model_copy(update={"ffn": dense(None)}), target, match(on))
    quantity = QUANTITIES[on]
    assert result.target == quantity(target.blueprint, "float32")
    assert result.achieved == quantity(solved.blueprint, "float32")
    assert result.residual == result.achieved / result.target - 1
    assert abs(result.residual) <= result.tolerance == 0.01
    assert (result.by, result.size, solved.ffn.hidden) == ("ffn.hidden", result.size, result.size)


def test_active_parameters_by_hand() -> None:
    """Dense of the same blocks: 3 width hidden = 2 experts of 88 and a router of 8, so hidden = 176 + 8 / 3."""
    target = architecture(moe(8, 2, 88), width=64, head_dim=16)
    _, result = solve(
        "twin", with_size(target.model_copy(update={"ffn": dense()}), "hidden", 1), target, match("active_params")
    )
    assert result.size == 179
    assert result.achieved - result.target == 2 * (3 * 64 * 179 - 2 * 3 * 64 * 88 - 64 * 8)


def test_the_quantities_are_those_of_the_costs() -> None:
    a = odd(moe(7, 3, 16))
    counted = parameters(a.blueprint)
    assert QUANTITIES["active_params"](a.blueprint, "float32") == counted.active
    assert QUANTITIES["total_params"](a.blueprint, "float32") == counted.total
    assert QUANTITIES["train_flops"](a.blueprint, "float32") == train_flops_per_token(a.blueprint)
    assert QUANTITIES["decode_flops"](a.blueprint, "float32") == decode_flops_per_token(a.blueprint, cached=16)
    assert QUANTITIES["weight_bytes"](a.blueprint, "bfloat16") == 2 * counted.total


@pytest.mark.parametrize("on", EVERY)
def test_expert_widths_move_in_steps_of_eight(on: MatchOn) -> None:
    target, mixture = (architecture(ffn, width=64, head_dim=16) for ffn in (dense(1000), moe(7, 3, None)))
    solved, result = solve("moe", mixture, target, match(on, tolerance=0.2))
    assert result.by == "ffn.expert_hidden"
    assert result.size == solved.ffn.expert_hidden
    assert result.size % 8 == 0


SIZES = st.integers(1, 200)


@settings(max_examples=150, deadline=None)
@given(
    on=st.sampled_from(EVERY),
    experts=st.integers(1, 12),
    top_k=st.integers(1, 12),
    hidden=SIZES,
    wide=SIZES,
    solve_moe=st.booleans(),
    odd_shape=st.booleans(),
)
def test_no_whole_width_is_nearer(
    on: MatchOn, experts: int, top_k: int, hidden: int, wide: int, solve_moe: bool, odd_shape: bool
) -> None:
    """The law of the solver: against every neighbour, and so, the quantity being linear, against every width."""
    shape = odd if odd_shape else architecture
    mixture = moe(experts, min(top_k, experts), hidden)
    own, other = (mixture, dense(wide)) if solve_moe else (dense(hidden), mixture)
    target = shape(other)
    solved, result = solve("m", shape(own), target, match(on, tolerance=1e9))
    step = 8 if solve_moe else 1
    distance = abs(result.achieved - result.target)
    for size in (result.size - step, result.size + step):
        if size >= 1:
            other = with_size(solved, result.by.removeprefix("ffn."), size)
            assert abs(QUANTITIES[on](other.blueprint, "float32") - result.target) >= distance
    assert result.size >= step
    assert result.size % step == 0


def test_tiny_widths_and_a_tight_tolerance_are_refused_with_sizes_and_advice() -> None:
    target = architecture(moe(4, 2, 8))
    twin = target.model_copy(update={"ffn": dense(None)})
    with pytest.raises(PlanError) as refused:
        solve("twin", twin, target, match("active_params", tolerance=1e-4))
    words = str(refused.value)
    assert words.startswith("models.twin.match: twin cannot match target: no whole ffn.hidden brings active_params")
    assert "ffn.hidden 17 gives" in words
    assert "ffn.hidden 18 gives" in words
    assert "a tolerance of" in words


@pytest.mark.parametrize("hidden", range(8, 200, 8))
def test_the_tolerance_that_is_advised_is_accepted(hidden: int) -> None:
    target = architecture(moe(4, 2, hidden))
    twin = target.model_copy(update={"ffn": dense(None)})
    with pytest.raises(PlanError) as refused:
        solve("twin", twin, target, match("active_params", tolerance=1e-9))
    advised = re.search(r"a tolerance of ([\d.]+)% would", str(refused.value))
    assert advised is not None
    solve("twin", twin, target, match("active_params", tolerance=float(advised[1]) / 100))


def test_a_model_that_is_larger_without_any_ffn_is_told_so() -> None:
    target = architecture(dense(4), layers=1)
    with pytest.raises(
        PlanError, match="already larger with the smallest FFN: give it fewer layers or a smaller width"
    ):
        solve("deep", architecture(dense(None), layers=6), target, match("total_params"))


def test_experts_that_cannot_be_that_small_are_told_so() -> None:
    target = architecture(dense(30))
    with pytest.raises(PlanError, match=r"ffn.expert_hidden 8 gives .*already larger"):
        solve("moe", architecture(moe(64, 8, None)), target, match("active_params"))


def test_weight_bytes_are_each_models_own() -> None:
    """A float32 model with the weight bytes of a bfloat16 one has half its parameters."""
    spec = suite(
        {
            "moe": {**MOE, "train": {"dtype": "bfloat16"}},
            "dense": {**DENSE, "match": {"to": "moe", "on": "weight_bytes"}},
        }
    )
    plan = planned(spec)
    (result,) = plan.matches
    assert result.target == plan.models["moe"].costs.weight_bytes
    assert result.achieved == plan.models["dense"].costs.weight_bytes
    assert abs(result.residual) < 0.01


def test_matches_follow_one_another_whatever_their_order() -> None:
    middle = {**SMALL, "layers": 3, "ffn": {"kind": "dense"}, "match": {"to": "moe", "on": "total_params"}}
    last = {**SMALL, "ffn": {"kind": "dense"}, "match": {"to": "middle", "on": "train_flops"}}
    solved, results = match_all(suite({"last": last, "middle": middle, "moe": MOE}), vocab=256)
    assert list(solved) == ["last", "middle", "moe"]
    assert [result.model for result in results] == ["last", "middle"]
    flops = train_flops_per_token(solved["middle"].blueprint)
    assert train_flops_per_token(solved["last"].blueprint) == pytest.approx(flops, rel=0.01)


# ------------------------------------------------------------------------------------------------ recipes


def train_spec(budget: dict[str, float], **rest: Any) -> TrainSpec:
    return TrainSpec.model_validate({"budget": budget, "batch_tokens": 4096, **rest})


def test_budgets_in_every_unit_become_steps() -> None:
    a = architecture(dense())
    per_step = train_flops_per_token(a.blueprint) * 4096
    assert steps_of(a, train_spec({"steps": 7})) == 7
    assert steps_of(a, train_spec({"tokens": 4096 * 244.1})) == 244
    assert steps_of(a, train_spec({"flops": per_step * 10.4})) == 10
    assert steps_of(a, train_spec({"seconds": 3.0}), step_seconds=0.25) == 12


@pytest.mark.parametrize("budget", [{"tokens": 1.0}, {"flops": 1.0}, {"seconds": 0.01}])
def test_a_budget_too_small_for_a_step_is_one_step(budget: dict[str, float]) -> None:
    assert steps_of(architecture(dense()), train_spec(budget), step_seconds=1.0) == 1


def test_seconds_need_a_calibrated_machine() -> None:
    with pytest.raises(PlanError, match="has not been measured"):
        steps_of(architecture(dense()), train_spec({"seconds": 3.0}))


def test_at_equal_flops_the_cheaper_model_takes_more_steps() -> None:
    plan = planned(
        suite(
            {"moe": MOE, "big": {**SMALL, "ffn": {"kind": "dense", "hidden": 704}}}, train={"budget": {"flops": 1e11}}
        )
    )
    spent = {name: model.expected_train_flops for name, model in plan.models.items()}
    assert plan.models["moe"].recipe.steps > plan.models["big"].recipe.steps
    assert spent["moe"] == pytest.approx(spent["big"], rel=0.05)


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 100, 1001])
def test_evaluation_points_rise_and_end_with_the_last_step(steps: int) -> None:
    points = recipe_of(train_spec({"steps": steps}), steps=steps).evaluate_at
    assert points[-1] == steps
    assert len(points) == min(8, steps)
    assert all(a < b for a, b in zip((0, *points), points, strict=False))


def test_evaluation_points_are_evenly_spaced() -> None:
    recipe = recipe_of(train_spec({"steps": 100}, evaluate={"points": 4}), steps=100)
    assert recipe.evaluate_at == (25, 50, 75, 100)


def test_warm_up_is_a_share_or_a_number_of_steps() -> None:
    assert recipe_of(train_spec({"steps": 1}, schedule={"warmup": "5%"}), steps=200).warmup_steps == 10
    assert recipe_of(train_spec({"steps": 1}, schedule={"warmup": 30}), steps=200).warmup_steps == 30
    assert recipe_of(train_spec({"steps": 1}, schedule={"warmup": 300}), steps=200).warmup_steps == 200


def test_the_final_evaluation_reads_at_least_what_a_point_reads() -> None:
    evaluate = {"tokens": 4096, "final_tokens": 256}
    assert recipe_of(train_spec({"steps": 1}, evaluate=evaluate), steps=1).final_eval_tokens == 4096


# ------------------------------------------------------------------------------------------------ the plan


def test_a_run_for_every_model_and_seed() -> None:
    plan = planned(suite())
    assert {(run.model, run.seed) for run in plan.runs} == {(m, s) for m in ("moe", "dense") for s in range(8)}
    assert len({run.id for run in plan.runs}) == 16


def ids(spec: SuiteSpec, **machine: Any) -> list[str]:
    return [run.id for run in planned(spec, **machine).runs]


def test_display_names_and_checkpoints_are_in_no_runs_id() -> None:
    usual = ids(suite())
    renamed = suite(
        {"mixture": MOE, "plain": {**DENSE, "match": {"to": "mixture", "on": "active_params"}}}, suite="other"
    )
    assert ids(renamed) == usual
    assert ids(suite(train={"checkpoint_seconds": 1.0})) == usual
    assert ids(suite(claims=claims(1), question="Another?")) == usual


def test_what_decides_the_bits_is_in_every_runs_id() -> None:
    usual = set(ids(suite()))
    others = [
        ids(suite(seeds=[8, 9])),
        ids(suite(train={"optimizer": {"lr": 1e-3}})),
        ids(suite(train={"dtype": "bfloat16"})),
        ids(suite(data={"source": "stdlib", "context": 128})),
        ids(suite(), device="cuda"),
        [
            r.id
            for r in make_plan(
                suite(), facts=FACTS.model_copy(update={"digest": "e"}), vocab=256, machine=Machine()
            ).runs
        ],
    ]
    for other in others:
        assert not usual & set(other)


def test_a_size_solved_and_the_same_size_given_are_the_same_run() -> None:
    solved = planned(suite())
    given = suite({"moe": MOE, "dense": {**SMALL, "ffn": {"kind": "dense", "hidden": solved.matches[0].size}}})
    assert ids(given) == [run.id for run in solved.runs]


def test_a_dense_model_has_no_expert_backend_and_a_mixture_the_measured_best() -> None:
    mixture = architecture(moe())
    assert [backend_of(architecture(dense()), device) for device in ("cpu", "cuda")] == ["none", "none"]
    assert [backend_of(mixture, device) for device in ("cpu", "cuda")] == ["sorted", "grouped_mm"]


def test_a_planned_run_is_the_run_that_its_id_names() -> None:
    plan = planned(suite())
    for one in plan.runs:
        run = run_of(plan.models[one.model], seed=one.seed, facts=FACTS, machine=Machine())
        assert run.id == one.id
        assert run.data_digest == FACTS.digest


def test_expected_flops_are_those_of_all_tokens() -> None:
    model = planned(suite()).models["moe"]
    assert model.expected_train_flops == train_flops_per_token(model.architecture.blueprint) * 100 * 4096


def test_the_baseline_of_timings_is_the_one_most_claims_name() -> None:
    assert baseline_of(suite()) == "dense"  # without a claim, the first dense model
    reverse = {"says": "x", "compare": {"treatment": "dense", "baseline": "moe"}, "metric": "speed.train_step_s"}
    asked = {"r": {**reverse, "test": {"kind": "superior", "margin": "1%"}}}
    assert baseline_of(suite(claims=asked)) == "moe"
    assert baseline_of(suite({"one": MOE, "two": MOE})) == "one"


def test_a_speed_session_takes_its_seeds_in_turn() -> None:
    speed = {"processes": 6, "prefill": [64], "decode": {"batch": [1]}}
    plan = planned(suite(seeds=[3, 4, 5, 6], measure={"speed": speed}))
    assert plan.speed is not None
    assert plan.speed.processes == (3, 4, 5, 6, 3, 4)
    other = planned(suite(seeds=[3, 4, 5, 6], measure={"speed": speed}), fingerprint="another machine")
    assert other.speed is not None
    assert other.speed.id != plan.speed.id
    assert planned(suite()).speed is None


def test_a_sweep_reads_the_tune_split_once_with_seeds_of_its_own() -> None:
    spec = suite(tune={"lr": [3e-3, 1e-3, 1e-2], "seeds": 2})
    plan = planned(spec)
    assert plan.tune is not None
    assert plan.tune.lrs == (1e-3, 3e-3, 1e-2)
    assert plan.tune.seeds == (TUNE_SEED, TUNE_SEED + 1)
    assert not set(plan.tune.seeds) & set(spec.seeds)
    assert len({run_id for *_, run_id in plan.tune.runs}) == 3 * 2 * 2
    assert not {run_id for *_, run_id in plan.tune.runs} & {run.id for run in plan.runs}


# ------------------------------------------------------------------------------------------------ claims


@pytest.mark.parametrize(("seeds", "most"), [(6, 1), (7, 3), (8, 6)])
def test_a_primary_family_may_be_as_large_as_its_seeds_can_carry(seeds: int, most: int) -> None:
    """2^-6 < 2.5% carries one claim, 2^-7 < 2.5% / 3 three, 2^-8 < 2.5% / 6 six."""
    planned(suite(seeds=list(range(seeds)), claims=claims(most)))
    with pytest.raises(PlanError, match=rf"with {seeds} pairs no outcome could reach significance"):
        planned(suite(seeds=list(range(seeds)), claims=claims(most + 1)))


def test_the_refusal_says_how_many_seeds_would_do() -> None:
    with pytest.raises(PlanError) as refused:
        planned(suite(claims=claims(7)))
    assert "give 9 seeds" in str(refused.value)
    planned(suite(seeds=list(range(9)), claims=claims(7)))


def test_exploratory_and_counted_claims_burden_no_family() -> None:
    both = {**claims(6), **{f"e{n}": c for n, c in enumerate(claims(9, family="exploratory").values())}}
    counted = {f"n{n}": c for n, c in enumerate(claims(9, metric="cost.total_params").values())}
    planned(suite(claims={**both, **counted}))


def test_timed_claims_are_carried_by_processes() -> None:
    timed = claims(1, metric="speed.train_step_s")
    planned(suite(seeds=[0, 1], claims=timed, measure={"speed": {"processes": 6}}))
    with pytest.raises(PlanError, match="with 5 pairs"):
        planned(suite(claims=timed, measure={"speed": {"processes": 5}}))


def test_each_claims_hash_is_its_own() -> None:
    first = planned(suite(claims=claims(2)))
    changed = {**claims(2), "c1": {**claims(1)["c0"], "says": "It is otherwise."}}
    second = planned(suite(claims=changed))
    assert first.claim_hashes["c0"] == second.claim_hashes["c0"]
    assert first.claim_hashes["c1"] != second.claim_hashes["c1"]


def test_published_systems_that_claims_name_are_counted() -> None:
    exact = {"says": "x", "model": "mixtral-8x7b", "metric": "cost.active_params"}
    plan = planned(suite(claims={"h": {**exact, "test": {"kind": "exact", "value": 12.9e9, "tolerance": "0.5%"}}}))
    assert plan.systems["mixtral-8x7b"].counts == {"cost.active_params": 12_879_925_248}


def test_what_a_reader_should_know_is_noted() -> None:
    notes = planned(
        suite(seeds=[0, 1], claims=claims(1, family="exploratory"), train={"budget": {"tokens": 2.5e6}})
    ).warnings
    assert "moe reads the training split 2.5 times" in notes
    assert "2 seeds: no verdict over seeds is possible below 6" in notes
    assert planned(suite(claims=claims(1))).warnings == ()


# ----------------------------------------------------------------------------------------------------
# Planned = built: a plan that is to be carried out is refused where the models would be others than it says.


def planned_built(a: Architecture, **counts: int) -> PlannedModel:
    costs = costs_of(a.blueprint, dtype="float32")
    costs = costs.model_copy(update={"params": costs.params.model_copy(update=counts)})
    return PlannedModel(architecture=a, recipe=recipe(), costs=costs, expected_train_flops=1.0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("word", ROUTERS)
def test_what_is_planned_is_built(word: str, variant: str) -> None:
    built.check({"moe": planned_built(model_of(word, variant)), "dense": planned_built(architecture(dense()))})


def test_it_is_built_without_memory() -> None:
    """A mixture of 1.2 T parameters."""
    a = architecture(moe(1024, 8, 12_000), layers=8, width=4096, head_dim=64)
    assert costs_of(a.blueprint, dtype="float32").params.total > 10**12
    built.check({"huge": planned_built(a)})


def test_another_number_of_parameters_is_refused_with_both() -> None:
    a = model_of("switch")
    total = costs_of(a.blueprint, dtype="float32").params.total
    with pytest.raises(PlanError) as raised:
        built.check({"good": planned_built(a), "bad": planned_built(a, total=total + 1)})
    (misfit,) = raised.value.problems
    assert misfit.at == ("models", "bad")
    assert misfit.message == f"bad has {total:,} parameters as built, {total + 1:,} as planned"


def test_so_is_that_of_a_router() -> None:
    a = model_of("hierarchical")
    assert a.router is not None
    right = a.router.parameters
    a = a.model_copy(update={"router": a.router.model_copy(update={"parameters": right - 1})})
    with pytest.raises(
        PlanError, match=rf"a router of moe has {right:,} parameters as built, {right - 1:,} as planned"
    ):
        built.check({"moe": planned_built(a)})


FFN = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
MODELS: dict[str, Any] = {
    "moe": {"layers": 2, "width": 16, "heads": 2, "ffn": FFN},
    "dense": {"base": "moe", "ffn": {"kind": "dense", "hidden": 24}},
}  # fmt: skip


def refused(suite: Path, results: Path) -> str:
    with pytest.raises(SuiteError) as raised:
        api.plan(suite, results=results)
    assert not (results / "plans").exists()
    return str(raised.value)


def test_a_plan_with_a_wrong_count_is_refused_at_the_models_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tiny_suites.write(tmp_path, models=MODELS)
    api.plan(suite, results=tmp_path / "results")
    monkeypatch.setattr(SoftmaxTopK, "rows", classmethod(lambda cls, ffn: ffn.experts + 1))
    api.validate(suite)
    said = refused(suite, tmp_path / "others")
    line = next(n for n, text in enumerate(suite.read_text().splitlines(), start=1) if re.match(r" *moe:", text))
    assert f"tiny.yaml:{line}:" in said
    assert "a router of moe has 64 parameters as built, 80 as planned" in said


def test_so_is_a_router_of_a_package_that_is_built_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Installed(tmp_path, monkeypatch)
    shape = "torch.empty(ffn.experts, width)"
    package.install(ROUTER.replace(shape, shape.replace("width", "width + (torch.empty(0).device.type == 'meta')")))
    ffn = {**FFN, "router": "mine"}
    suite = tiny_suites.write(tmp_path, models={**MODELS, "moe": {**MODELS["moe"], "ffn": ffn}})
    assert "a router of moe has 68 parameters as built, 64 as planned" in refused(suite, tmp_path / "results")
    package.install(ROUTER.replace("layer=layer)\n", "layer=layer)\n            torch.empty(1).sum().item()\n", 1))
    assert "moe cannot be built on torch's meta device" in refused(suite, tmp_path / "results")


def test_a_suite_is_checked_without_torch(tmp_path: Path) -> None:
    suite = tiny_suites.write(tmp_path, models=MODELS)
    code = f"import sys; from moebench import api; api.validate({str(suite)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
