"""What a quality cost, read over budgets: the decayed losses of branches where the plan has enough, else as it fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from moebench.claims import reaching
from moebench.reader.evidence import Evidence
from tests.support.builders import BATCH_TOKENS, POINTS, claim, evidence_of, judged, with_outcome, with_recipe

BRANCHES = POINTS[:-1]
Decayed = Mapping[str, Sequence[Sequence[float | None]]]
"""Model -> per seed the final loss of each budget; None where the branch diverged."""
CURVES = {
    "moe": [[2.9, 2.8, 2.7, 2.6, 2.0 + s / 1000] for s in range(8)],
    "dense": [[3.0, 2.9, 2.8, 2.7, 2.2 + s / 1000] for s in range(8)],
}
"""Of a stable rate until the last part: hardly falling before the end."""
DECAYED: Decayed = {
    "moe": [[2.5, 2.2 + s / 1000, 2.1, 2.05, 2.0 + s / 1000] for s in range(8)],
    "dense": [[2.7, 2.5, 2.4, 2.3, 2.2 + s / 1000] for s in range(8)],
}


def crossing(
    metric: str = "tokens_to_quality",
    *,
    decayed: Decayed = DECAYED,
    branches: Sequence[int] = BRANCHES,
    reach: Any = "dense",
    **planned: Sequence[int],
) -> Evidence:
    block = claim({"kind": "ratio_at_least", "value": 2.0}, metric, target={"reach": reach})
    times = {
        name: {"speed.train_step_s": [0.02 + p / 1e4 for p in range(8)]} for name in ("moe", "dense", "dense~again")
    }
    evidence = evidence_of({}, {"c": block}, curves=CURVES, times=times, seeds=range(8))
    for model, losses in decayed.items():
        flops = evidence.plan.decoders[model].costs.train_flops_per_token
        for seed, finals in enumerate(losses):
            (run,) = [one for one in evidence.outcomes_of([model]) if one.seed == seed]
            points = [(step, value) for step, value in zip(POINTS, finals, strict=True) if value is not None]
            curves = {
                "decayed.bits_per_byte": tuple(points),
                "decayed.tokens": tuple((step, float(step * BATCH_TOKENS)) for step, _ in points),
                "decayed.model_flops": tuple((step, step * BATCH_TOKENS * flops) for step, _ in points),
            }
            evidence = with_outcome(evidence, model, seed, curves={**run.curves, **curves})
        recipe = {"decay": "wsd", "cooldown": 0.2, "branches": tuple(planned.get(model, branches))}
        evidence = with_recipe(evidence, model, **recipe)
    return evidence


@pytest.mark.parametrize("metric", ["tokens_to_quality", "flops_to_quality", "seconds_to_quality"])
def test_where_every_model_has_branches_a_crossing_is_read_over_their_budgets(metric: str) -> None:
    """The mixture's budget of 100 steps ends at the dense model's loss of 250, seed by seed: 2.5 times fewer."""
    verdict = judged(crossing(metric))
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(2.5)
    assert reaching.OVER_BUDGETS in verdict.caveats
    assert reaching.UNDECAYED not in verdict.caveats


def test_on_the_curve_as_it_fell_it_would_be_another() -> None:
    verdict = judged(crossing(branches=()))
    assert verdict.state == "refuted"
    assert reaching.UNDECAYED in verdict.caveats
    assert reaching.OVER_BUDGETS not in verdict.caveats


@pytest.mark.parametrize("planned", [{"moe": ()}, {"dense": ()}, {"moe": (100,), "dense": (100,)}], ids=str)
def test_too_few_budgets_of_any_model_and_it_is_read_as_it_fell(planned: dict[str, tuple[int, ...]]) -> None:
    evidence = crossing(**planned)
    assert reaching.curve_of(evidence.plan, ["moe", "dense"]) == reaching.CURVE


def test_between_budgets_it_is_read_in_log_budget() -> None:
    evidence = crossing(reach=2.15)
    run = evidence.outcomes_of(["moe"])[0]
    target = next(iter(evidence.plan.spec.claims.values())).target
    assert target is not None
    goal = reaching.Goal.of(evidence, target, ["moe", "dense"])
    low, high = reaching.cost_to_quality(run, "tokens_to_quality", goal, evidence.plan)
    assert low == high == pytest.approx((100 * 150) ** 0.5 * BATCH_TOKENS)


def test_a_diverged_branch_encloses_the_crossing_beside_it_and_never_helps() -> None:
    lost = {**DECAYED, "moe": [[2.5, None, 2.1, 2.05, 2.0 + s / 1000] for s in range(8)]}
    evidence = crossing(decayed=lost)
    run = evidence.outcomes_of(["moe"])[0]
    target = next(iter(evidence.plan.spec.claims.values())).target
    assert target is not None
    goal = reaching.Goal.of(evidence, target, ["moe", "dense"])
    found = reaching.cost_to_quality(run, "tokens_to_quality", goal, evidence.plan)
    assert found == (50 * BATCH_TOKENS, 150 * BATCH_TOKENS)
    assert judged(evidence).state not in ("supported",)
    one = {**DECAYED, "moe": [[2.5, None, 2.1, 2.05, 2.0], *DECAYED["moe"][1:]]}
    assert judged(crossing(decayed=one)).state in ("supported", "inconclusive")


def test_a_first_branch_that_diverged_leaves_the_lower_end_open() -> None:
    lost = {**DECAYED, "moe": [[None, 2.1, 2.05, 2.02, 2.0 + s / 1000] for s in range(8)]}
    evidence = crossing(decayed=lost)
    target = next(iter(evidence.plan.spec.claims.values())).target
    assert target is not None
    goal = reaching.Goal.of(evidence, target, ["moe", "dense"])
    run = evidence.outcomes_of(["moe"])[0]
    assert reaching.cost_to_quality(run, "tokens_to_quality", goal, evidence.plan) == (0.0, 100 * BATCH_TOKENS)


def test_a_run_without_the_branches_that_were_planned_is_no_evidence() -> None:
    evidence = crossing()
    run = evidence.outcomes_of(["moe"])[0]
    curves = {name: points for name, points in run.curves.items() if not name.startswith("decayed.")}
    verdict = judged(with_outcome(evidence, "moe", 0, curves=curves))
    assert (verdict.state, verdict.n) == ("interim", 7)


def test_models_scored_on_other_text_at_the_end_are_not_compared() -> None:
    """At the evaluation points they read the same."""
    evidence = with_recipe(crossing(), "moe", final_eval_tokens=65536)
    assert judged(evidence).state == "invalid"
    assert "scored on different text" in (judged(evidence).reason or "")
    undecayed = with_recipe(crossing(branches=()), "moe", final_eval_tokens=65536)
    assert judged(undecayed).state == "refuted"


def test_other_branches_are_another_schedule() -> None:
    evidence = crossing(moe=(50, 100, 150), dense=(50, 100, 200))
    assert judged(evidence).state == "invalid"
    assert (judged(evidence).reason or "").startswith("schedule: ")


def test_impossible_decayed_losses_are_no_crossing() -> None:
    evidence = crossing()
    run = evidence.outcomes_of(["moe"])[0]
    why = "decayed.bits_per_byte -1 is below 0: impossible"
    evidence = with_outcome(evidence, "moe", 0, absent={**run.absent, "decayed.bits_per_byte": why})
    assert judged(evidence).state == "invalid"
