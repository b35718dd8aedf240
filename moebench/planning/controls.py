"""The short runs that a suite's controls need: which models are made of its own for them, and how they are trained.

    shuffled     the model on text in random order, 2 seeds
    handicap     the mixture, and the mixture whose experts change places every tenth step, 6 seeds
    round_robin  the mixture, and its twin that takes experts in turn, 6 seeds
    one_expert   one network, dense and as the only expert of a mixture, 1 seed

They are models of no claim. All are trained with the recipe of the model that they are made of, over a twentieth of its
steps; what two controls need is trained once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moebench.counting.costs import costs_of
from moebench.jobs import evaluate, train
from moebench.jobs.job import Job
from moebench.jobs.kind import Draft
from moebench.jobs.recipe import Recipe
from moebench.models.architecture import Architecture
from moebench.planning.planned import PlannedModel
from moebench.suite.mixture import routed_by
from moebench.suite.model import DenseFFN, MoEFFN

SHARE, FEWEST = 20, 50
"""A control takes one in so many of a model's steps, and at least so many: enough to tell a handicap at nano size."""
EVERY, OFTEN = 10, 5
"""Steps after which a planted handicap permutes the experts; fewer where it would not come to so many times."""
SCORED = 16_384
"""Tokens that are scored of a control, as far as there is text."""
FEW, SEVERAL = 2, 6
"""Seeds of a control that is no comparison, and of one that is."""
TWIN_STEPS, TWIN_POINTS = 24, 12
"""Steps over which one expert is followed beside the dense network, and how often both are looked at."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model of a control."""

    base: str
    """The model of the suite that it is made of."""
    what: str
    planned: PlannedModel
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.base}/{self.what}"


def arms(draft: Draft) -> list[Arm]:
    """Every model that the controls of a plan train, each once."""
    found: dict[str, Arm] = {}
    for arm in _arms(draft):
        known = found.get(arm.name)
        found[arm.name] = arm if known is None or len(known.seeds) < len(arm.seeds) else known
    return list(found.values())


def _arms(draft: Draft) -> Iterator[Arm]:
    asked, seeds = draft.plan.spec.controls, tuple(draft.plan.spec.seeds)
    models, steps = draft.plan.decoders, asked.steps
    for base in dict.fromkeys(asked.shuffled):
        spoilt = _short(models[base], steps, shuffled=True)
        yield Arm(base=base, what="shuffled", planned=spoilt, seeds=seeds[:FEW])
    if asked.handicap is not None:
        mixture = models[asked.handicap]
        short = _short(mixture, steps)
        spoilt = _short(mixture, steps, permute_experts_every=min(EVERY, max(1, short.recipe.steps // OFTEN)))
        for what, planned in {"short": short, "handicap": spoilt}.items():
            yield Arm(base=asked.handicap, what=what, planned=planned, seeds=seeds[:SEVERAL])
    if asked.round_robin is not None:
        mixture = models[asked.round_robin]
        for what, a in {"short": mixture.architecture, "round_robin": _in_turn(mixture.architecture)}.items():
            planned = _short(mixture, steps, a=a)
            yield Arm(base=asked.round_robin, what=what, planned=planned, seeds=seeds[:SEVERAL])
    if asked.one_expert is not None:
        for what, a in _alone(models[asked.one_expert].architecture).items():
            planned = _followed(models[asked.one_expert], a)
            yield Arm(base=asked.one_expert, what=what, planned=planned, seeds=seeds[:1])


def _short(
    planned: PlannedModel, steps: int | None, *, a: Architecture | None = None, **changes: object
) -> PlannedModel:
    """A model over the steps of a control, scored once, at the end."""
    recipe = planned.recipe
    wanted = max(FEWEST, recipe.steps // SHARE) if steps is None else steps
    return _trained(a or planned.architecture, _over(recipe, min(wanted, recipe.steps), points=1), **changes)


def _followed(planned: PlannedModel, a: Architecture) -> PlannedModel:
    """A model over few steps, scored again and again."""
    steps = min(TWIN_STEPS, planned.recipe.steps)
    recipe = _over(planned.recipe, steps, points=min(TWIN_POINTS, steps))
    return _trained(a, recipe, eval_tokens=min(recipe.eval_tokens, 16 * a.context))


def _over(recipe: Recipe, steps: int, *, points: int) -> Recipe:
    """The recipe with its schedule drawn together to so many steps."""
    return recipe.model_copy(
        update={
            "steps": steps,
            "warmup_steps": round(recipe.warmup_steps * steps / recipe.steps),
            "evaluate_at": tuple(round(steps * (i + 1) / points) for i in range(points)),
            "eval_tokens": min(SCORED, recipe.eval_tokens),
            "final_eval_tokens": SCORED,
            "keep": "last",
            "branches": (),
        }
    )


def _trained(a: Architecture, recipe: Recipe, **changes: object) -> PlannedModel:
    recipe, costs = recipe.model_copy(update=changes), costs_of(a.blueprint, dtype=recipe.dtype)
    flops = costs.train_flops_per_token * recipe.steps * recipe.batch_tokens
    return PlannedModel(architecture=a, recipe=recipe, costs=costs, expected_train_flops=flops)


def _in_turn(a: Architecture) -> Architecture:
    """The mixture with experts taken in turn."""
    assert isinstance(a.ffn, MoEFFN)
    return _with(a, routed_by(a.ffn, "round_robin"))


def _alone(a: Architecture) -> dict[str, Architecture]:
    """The model's network in every layer: dense, and as the one expert of a mixture that adds nothing to the loss."""
    hidden, activation = a.ffn_hidden, a.ffn.activation
    expert = MoEFFN(kind="moe", experts=1, top_k=1, expert_hidden=hidden, activation=activation)
    return {
        "dense": _with(a, DenseFFN(kind="dense", hidden=hidden, activation=activation)),
        "one_expert": _with(a, routed_by(expert, "softmax_topk")),
    }


def _with(a: Architecture, ffn: DenseFFN | MoEFFN) -> Architecture:
    return Architecture.model_validate({**a.model_dump(), "ffn": ffn, "router": None})


def control_jobs(draft: Draft) -> tuple[dict[str, PlannedModel], tuple[Job, ...]]:
    """The models of a plan's controls by their display names, and the jobs that train and score them."""
    of_controls = arms(draft)
    trained = [_job(draft, arm, seed) for arm in of_controls for seed in arm.seeds]
    scored = [evaluate.job(job, "quality") for job in trained]
    return {arm.name: arm.planned for arm in of_controls}, (*trained, *scored)


def _job(draft: Draft, arm: Arm, seed: int) -> Job:
    facts = draft.plan.data_of(arm.base)
    run = train.run_of(arm.planned, seed=seed, facts=facts, machine=draft.machine)
    job = draft.job("train", run.model_dump(mode="json"), model=arm.base, seed=seed)
    return job.model_copy(update={"model": arm.name})
