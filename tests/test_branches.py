"""A decay branch is the run of a smaller budget, to the bit, and costs its cooldown; the trunk does not notice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.jobs import KINDS, loop
from moebench.jobs.recipe import Recipe, Run
from moebench.jobs.training import Diverged, branched, learning_rate, start
from moebench.planning.matching import recipe_of
from moebench.planning.tuning import tune_identity, tune_recipe
from moebench.store import Results
from moebench.suite.training import TrainSpec
from tests.support import small_models, tiny_suites

pytestmark = pytest.mark.numeric

STEPS, BRANCHES = 40, (8, 16, 24, 32)
WSD: dict[str, Any] = {
    "steps": STEPS, "decay": "wsd", "cooldown": 0.25, "branches": BRANCHES, "warmup_steps": 3, "evaluate_at": (20, 40),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    return tiny_suites.planned(tmp_path_factory.mktemp("branches"))


def branching(made: api.Planned, model: str = "moe", **recipe: Any) -> Run:
    return tiny_suites.run_of(made, model, **{**WSD, **recipe})


def carry_out(
    made: api.Planned, run: Run, root: Path, *, stop_at: int | None = None, events: list[Any] | None = None
) -> tuple[str, tiny_suites.Left]:
    """Trains a run and scores it; asks it to stop at a step of all it takes, those of branches included."""
    asked, jobs, status = iter(range(10**6)), tiny_suites.jobs_of(made, run)[:2], "completed"
    for job in jobs:
        if status == "completed":
            Results(root).job(job.id).path.mkdir(parents=True, exist_ok=True)
            status = KINDS[job.kind].execute(
                job,
                root=root,
                on_event=(events if events is not None else []).append,
                should_stop=lambda: stop_at is not None and next(asked) + 1 >= stop_at,
            )
    return status, tiny_suites.Left.of(root, jobs)


def curve(folder: tiny_suites.Left, metric: str) -> dict[int | None, float | int | None]:
    return {one.step: one.value for one in folder.records() if one.metric == metric}


@pytest.fixture(scope="module")
def whole(made: api.Planned, tmp_path_factory: pytest.TempPathFactory) -> tiny_suites.Left:
    return carry_out(made, branching(made), tmp_path_factory.mktemp("whole"))[1]


# ------------------------------------------------------------------------------------------ the law


@pytest.mark.parametrize(
    ("model", "recipe"),
    [("moe", {}), ("dense", {}), ("moe", {"optimizer": "muon", "momentum": 0.95, "router_lr": 2.0})],
    ids=["mixture", "dense", "muon"],
)
def test_a_branch_ends_in_the_bits_of_a_run_with_its_budget(
    made: api.Planned, tmp_path: Path, model: str, recipe: dict[str, Any]
) -> None:
    _, trunk = carry_out(made, branching(made, model, **recipe), tmp_path)
    losses, flops = curve(trunk, "decayed.bits_per_byte"), curve(trunk, "decayed.model_flops")
    tokens = curve(trunk, "decayed.tokens")
    assert list(losses) == [*BRANCHES, STEPS]
    for budget in (*BRANCHES, STEPS):
        separate = branching(made, model, **recipe, steps=budget, branches=(), evaluate_at=(budget,))
        _, folder = carry_out(made, separate, tmp_path)
        assert losses[budget] == curve(folder, "test.bits_per_byte")[budget]
        assert flops[budget] == curve(folder, "train.model_flops")[budget]
        assert tokens[budget] == curve(folder, "train.tokens")[budget]


def test_a_branch_with_a_router_that_draws_and_one_that_balances_does_too(tmp_path: Path) -> None:
    shape = {"layers": 2, "width": 16, "heads": 2}
    noisy = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16, "router": "noisy_topk", "jitter": 0.1}
    biased = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16, "router": "sigmoid_bias", "bias_rate": 0.01}
    models = {**tiny_suites.suite()["models"], "noisy": {**shape, "ffn": noisy}, "biased": {**shape, "ffn": biased}}
    made = tiny_suites.planned(tmp_path, models=models)
    for model in ("noisy", "biased"):
        _, trunk = carry_out(made, branching(made, model, branches=(16,)), tmp_path)
        separate = branching(made, model, steps=16, branches=(), evaluate_at=(16,))
        _, folder = carry_out(made, separate, tmp_path)
        found = curve(trunk, "decayed.bits_per_byte")[16]
        assert found == curve(folder, "test.bits_per_byte")[16]


def test_the_trunk_is_the_run_that_has_no_branches(made: api.Planned, whole: tiny_suites.Left, tmp_path: Path) -> None:
    _, alone = carry_out(made, branching(made, branches=()), tmp_path)
    for name in ("steps.jsonl", "model.safetensors"):
        assert (alone.path / name).read_bytes() == (whole.path / name).read_bytes()
    extra = set(map(str, whole.records())) - set(map(str, alone.records()))
    assert {one.metric for one in whole.records() if str(one) in extra} == {
        "decayed.bits_per_byte", "decayed.tokens", "decayed.model_flops", "decayed.branch_flops",
    }  # fmt: skip


def test_afterwards_a_state_is_what_it_was() -> None:
    state = start(small_models.run(small_models.architecture(small_models.moe()), steps=4))
    before = state.to_bytes()
    with branched(state) as changed:
        for value in changed.model.parameters():
            value.data.add_(1)
        changed.step, changed.executed_flops = 3, 7
    assert state.to_bytes() == before


# ------------------------------------------------------------------------------------------ stopped and gone on


@pytest.mark.parametrize("stop_at", [1, 7, 8, 9, 14, 15, 18, 30, 45, 60])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(
    made: api.Planned, whole: tiny_suites.Left, tmp_path: Path, stop_at: int
) -> None:
    """Within branches too: what was done of one is done again."""
    run = branching(made)
    assert run.recipe.all_steps == 60
    status, _ = carry_out(made, run, tmp_path, stop_at=stop_at)
    assert status == ("completed" if stop_at == 60 else "stopped")
    events: list[dict[str, Any]] = []
    _, folder = carry_out(made, run, tmp_path, events=events)
    assert folder.contents() == whole.contents()
    if status == "stopped":
        first = next(event["step"] for event in events if event["event"] == "progress")
        assert stop_at - 8 <= first <= stop_at


def test_progress_counts_the_steps_of_branches(
    made: api.Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 0.0)
    carry_out(made, branching(made), tmp_path, events=events)
    steps = [event["step"] for event in events if event["event"] == "progress" and event["phase"] == "train"]
    assert steps == sorted(steps)
    assert set(steps) == set(range(61))
    assert {event["steps"] for event in events if event["event"] == "progress"} == {60}


def test_a_branch_that_diverges_is_absent_with_its_reason_and_the_trunk_goes_on(
    made: api.Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = loop._evaluate

    def evaluate(run: Run, *rest: Any) -> Any:
        if run.recipe.steps == 16:
            raise Diverged("step 16: loss nan")
        return usual(run, *rest)

    monkeypatch.setattr(loop, "_evaluate", evaluate)
    status, folder = carry_out(made, branching(made), tmp_path)
    assert status == "completed"
    assert curve(folder, "decayed.bits_per_byte")[16] is None
    assert all(value is not None for step, value in curve(folder, "decayed.bits_per_byte").items() if step != 16)
    (why,) = [one.reason for one in folder.records() if one.metric == "decayed.bits_per_byte" and one.reason]
    assert why == "the branch of 16 steps diverged: step 16: loss nan"


# ------------------------------------------------------------------------------------------ the schedule, the cost


def test_the_rate_is_stable_and_falls_in_a_line_over_the_cooldown() -> None:
    chosen = small_models.recipe(**{**WSD, "branches": ()}, lr=1.0, final_lr_share=0.0)
    rates = [learning_rate(chosen, step) for step in range(STEPS)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert set(rates[3:30]) == {1.0}
    assert rates[30:] == pytest.approx([0.9 - 0.1 * i for i in range(10)])
    assert learning_rate(small_models.recipe(**WSD, lr=1.0, final_lr_share=0.1), STEPS - 1) == pytest.approx(0.1)


def test_a_branch_has_the_rates_of_the_trunk_until_it_leaves() -> None:
    trunk = small_models.recipe(**WSD)
    for budget in BRANCHES:
        branch, leaves = trunk.branch(budget), trunk.leaves_at(budget)
        assert [learning_rate(branch, step) for step in range(leaves)] == [
            learning_rate(trunk, step) for step in range(leaves)
        ]
        assert learning_rate(branch, leaves) < trunk.lr


def five_budgets(**schedule: Any) -> Recipe:
    asked = {"decay": "wsd", "branches": ["20%", "40%", "60%", "80%"], **schedule}
    spec = TrainSpec.model_validate({"budget": {"steps": 1000}, "schedule": asked})
    return recipe_of(spec, steps=1000)


def test_five_budgets_of_one_trunk_cost_less_than_half_of_five_runs(
    made: api.Planned, whole: tiny_suites.Left, tmp_path: Path
) -> None:
    """By FLOPs, as the kernels run them; a fifth of each budget is cooldown."""
    chosen = five_budgets()
    assert chosen.branches == (200, 400, 600, 800)
    assert chosen.all_steps == 1000 + 400
    assert chosen.all_steps < 0.5 * (1000 + sum(chosen.branches))
    recipe = {"cooldown": 0.2, "branches": BRANCHES}
    _, trunk = carry_out(made, branching(made, **recipe), tmp_path)
    spent = curve(trunk, "train.executed_flops")[STEPS]
    more = curve(trunk, "decayed.branch_flops")[STEPS]
    apart = 0.0
    for budget in (*BRANCHES, STEPS):
        separate = branching(made, **{**recipe, "branches": ()}, steps=budget, evaluate_at=(budget,))
        apart += curve(carry_out(made, separate, tmp_path)[1], "train.executed_flops")[budget] or 0.0
    assert spent is not None
    assert more is not None
    assert spent + more < 0.5 * apart
    assert more == pytest.approx(spent * (chosen.all_steps / 1000 - 1), rel=0.1)


def test_a_smaller_budget_that_falls_into_the_warm_up_by_rounding_is_left_out() -> None:
    spec = TrainSpec.model_validate(
        {"budget": {"steps": 11}, "schedule": {"decay": "wsd", "branches": ["10%", "50%"], "warmup": "5%"}}
    )
    assert recipe_of(spec, steps=11).branches == (6,)
    assert recipe_of(spec, steps=1).branches == ()


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({"decay": "cosine", "branches": ["50%"]}, "branches is of the schedule wsd"),
        ({"cooldown": "20%"}, "cooldown is of the schedule wsd"),
        ({"decay": "wsd", "cooldown": "100%"}, "between 0% and 100%"),
        ({"decay": "wsd", "cooldown": 0.2}, "between 0% and 100%"),
        ({"decay": "wsd", "branches": ["60%", "40%"]}, "rising shares"),
        ({"decay": "wsd", "branches": ["40%", "40%"]}, "rising shares"),
        ({"decay": "wsd", "branches": ["100%"]}, "rising shares"),
        ({"decay": "wsd", "branches": [100]}, "rising shares"),
        ({"decay": "wsd", "warmup": "10%", "branches": ["12%"]}, "within the warm-up of 10%"),
        ({"decay": "wsd", "branches": [f"{i}%" for i in range(10, 50)]}, "at most 32"),
    ],
    ids=str,
)
def test_schedules_that_mean_nothing_are_refused(schedule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TrainSpec.model_validate({"budget": {"steps": 100}, "schedule": schedule})


def test_momentum_is_muons() -> None:
    with pytest.raises(ValueError, match="momentum is Muon's"):
        TrainSpec.model_validate({"budget": {"steps": 1}, "optimizer": {"momentum": 0.9}})
    spec = TrainSpec.model_validate({"budget": {"steps": 1}, "optimizer": {"name": "muon", "momentum": 0.0}})
    assert recipe_of(spec, steps=1).momentum == 0.0
    spec = TrainSpec.model_validate({"budget": {"steps": 1}, "optimizer": {"name": "muon", "router_lr": 3}})
    assert (recipe_of(spec, steps=1).momentum, recipe_of(spec, steps=1).router_lr) == (0.95, 3.0)


def test_a_tuned_rate_is_that_of_the_trunk(made: api.Planned) -> None:
    run = branching(made)
    assert tune_recipe(run.recipe, lr=1.0).branches == ()
    assert tune_identity(run) == tune_identity(branching(made, branches=()))


def test_a_suite_with_branches_is_run_judged_and_reported(tmp_path: Path) -> None:
    train = {
        **tiny_suites.suite()["train"], "budget": {"steps": 80},
        "schedule": {"decay": "wsd", "branches": ["25%", "50%", "75%"], "final": "0%"},
    }  # fmt: skip
    crossing = {
        "says": "The mixture is as fast to the dense model's loss.",
        "compare": {"treatment": "moe", "baseline": "dense"},
        "metric": "tokens_to_quality",
        "target": {"reach": "dense"},
        "test": {"kind": "ratio_at_least", "value": 1.0},
    }
    suite = tiny_suites.write(tmp_path, train=train, claims={"crossing": crossing})
    assert tiny_suites.call_run(suite).exit_code == 0
    (told,) = (tmp_path / "reports").rglob("claims.json")
    (verdict,) = json.loads(told.read_text())["claims"]
    assert "crossing over decayed budgets" in verdict["caveats"]
    page = told.with_name("index.html").read_text()
    assert "Decay branches" in page
    assert "3 a run, " in page
