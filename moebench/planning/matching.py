"""From what was asked to what will run: sizes solved so that models match, budgets turned into steps, runs named.

A match changes one whole number of one model (its FFN width) until the quantity asked for is as near as integers allow
to the other model's; the residual is stated, and a plan is refused when it is beyond the tolerance. Nothing here trains
or reads data: facts about the data come in as an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moebench.counting.blueprint import Blueprint
from moebench.counting.costs import costs_of
from moebench.counting.flops import decode_flops_per_token, train_flops_per_token
from moebench.counting.memory import weight_bytes
from moebench.counting.weights import parameters
from moebench.jobs.recipe import Recipe
from moebench.models.architecture import Architecture
from moebench.models.routers import trial
from moebench.models.transforms import Transform
from moebench.planning.feasibility import Misfit
from moebench.planning.feasibility import PlanError as PlanError
from moebench.planning.planned import DataFacts, PlannedAt, PlannedDerivation, PlannedModel
from moebench.planning.types import MatchResult
from moebench.plugins import PluginError
from moebench.suite.attention import AttentionOptions
from moebench.suite.derived import OF_TRAINING
from moebench.suite.model import DenseFFN, Match, MatchOn, ModelSpec, MoEFFN
from moebench.suite.training import MUON_MOMENTUM, Schedule, TrainSpec
from moebench.suite.types import SuiteSpec

EXPERT_STEP = 8
"""Expert widths move in steps of 8: kernels need aligned rows."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the plan must know about where it will run."""

    device: str = "cpu"
    fingerprint: str = "unknown"
    """Changes when timings of this machine would no longer be comparable."""
    memory_bytes: int | None = None
    """That a process may use; None where it is not known."""
    digests: Path | None = None
    """Where hashes of large files are kept from one plan to the next; None for nowhere."""
    step_seconds: Mapping[str, float] | None = None
    """Model -> measured seconds per step, for budgets in seconds."""


# ------------------------------------------------------------------------------------------------ matching

QUANTITIES: dict[MatchOn, Callable[[Blueprint, str], float]] = {
    "active_params": lambda b, _: parameters(b).active,
    "total_params": lambda b, _: parameters(b).total,
    "train_flops": lambda b, _: train_flops_per_token(b),
    "decode_flops": lambda b, _: decode_flops_per_token(b, cached=b.context or 1),
    "weight_bytes": weight_bytes,
}


def architecture_of(model: ModelSpec, *, vocab: int, context: int) -> Architecture:
    """The model's sizes with every default filled in; the FFN width may still be None."""
    return Architecture(
        vocab=model.vocab or vocab,
        context=context,
        layers=model.layers,
        width=model.width,
        heads=model.heads,
        kv_heads=model.kv_heads or model.heads,
        head_dim=model.head_dim or model.width // model.heads,
        ffn=model.ffn,
        tied_embeddings=model.tied_embeddings,
        rope_theta=model.rope_theta,
        norm_eps=model.norm_eps,
        qk_norm=model.qk_norm,
        **{name: getattr(model, name) for name in AttentionOptions.model_fields},
    )


def _with_router(name: str, a: Architecture) -> Architecture:
    """With what is known of an installed package's router; it is built and tried. Raises PlanError when it fails."""
    if isinstance(a.ffn, DenseFFN) or (a.router is not None and a.router.code is None):
        return a
    at = ("models", name, "ffn", "router")
    try:
        facts = trial.describe(a.ffn, width=a.width, vocab=a.vocab, context=a.context, layers=a.moe_layers)
    except PluginError as error:
        raise PlanError(Misfit(at=at, message=str(error))) from None
    if a.router is not None and facts != a.router:
        counts = f"{facts.parameters:,} parameters as built, {a.router.parameters:,} as planned"
        message = f"the router {a.ffn.router} depends on the width that the match solved: {counts}"
        raise PlanError(
            Misfit(at=at, message=message, hint="a router's own size may not depend on that of the experts")
        )
    return a.model_copy(update={"router": facts})


def transformed(a: Architecture, transform: Transform) -> Architecture:
    """What a transform makes of a model's sizes, and so of what is known of its router."""
    ffn = transform.of_ffn(a.ffn)
    return a if ffn == a.ffn else Architecture.model_validate({**a.model_dump(), "ffn": ffn, "router": None})


def trained_on(a: Architecture, model: ModelSpec) -> Architecture:
    """The sizes of the model that another is trained on from, with what of its network acts in training alone."""
    acts = {key: getattr(model.ffn, key) for key in OF_TRAINING} if isinstance(model.ffn, MoEFFN) else {}
    return a.model_copy(update={"ffn": a.ffn.model_copy(update=acts)})


def with_size(a: Architecture, size: str, value: int) -> Architecture:
    """The same architecture with another width of its FFN, named by its field: `hidden`, `expert_hidden`, ..."""
    return a.model_copy(update={"ffn": a.ffn.model_copy(update={size: value})})


@dataclass(frozen=True, kw_only=True)
class Solver:
    """One match: a model, the model to be equal to, and the size to change."""

    model: str
    a: Architecture
    target: Architecture
    match: Match
    dtype: str
    target_dtype: str

    @property
    def by(self) -> str:
        return self.match.by or ("ffn.expert_hidden" if isinstance(self.a.ffn, MoEFFN) else "ffn.hidden")

    @property
    def size(self) -> str:
        return self.by.removeprefix("ffn.")

    @property
    def step(self) -> int:
        return self.match.step or (EXPERT_STEP if self.size == "expert_hidden" else 1)

    @cached_property
    def wanted(self) -> float:
        return QUANTITIES[self.match.on](self.target.blueprint, self.target_dtype)

    @property
    def tolerance(self) -> float:
        tolerance = self.match.tolerance
        return tolerance.value if tolerance.relative else tolerance.value / self.wanted

    def off(self, size: int) -> float:
        """How far a width is from what is wanted, as a share of it."""
        return self.quantity(size) / self.wanted - 1

    def quantity(self, size: int) -> float:
        return QUANTITIES[self.match.on](with_size(self.a, self.size, size).blueprint, self.dtype)

    def around(self, step: int) -> tuple[int, int]:
        """The multiples of `step` on either side of what is wanted; every quantity is linear in the width."""
        at_one, at_two = self.quantity(step), self.quantity(2 * step)
        low = max(1, int(1 + (self.wanted - at_one) / (at_two - at_one)))
        return step * low, step * (low + 1)

    def nearest(self) -> tuple[Architecture, MatchResult]:
        """The nearest multiple of the step, however far."""
        size = min(self.around(self.step), key=lambda n: abs(self.off(n)))
        result = MatchResult(
            model=self.model,
            to=self.match.to,
            on=self.match.on,
            by=self.by,
            size=size,
            target=self.wanted,
            achieved=self.quantity(size),
            residual=self.off(size),
            tolerance=self.tolerance,
        )
        return with_size(self.a, self.size, size), result

    def misfit(self, result: MatchResult) -> Misfit | None:
        """Why the nearest is too far, and what would do; None when it is near enough."""
        if abs(result.residual) <= result.tolerance:
            return None
        tried = "; ".join(
            f"{self.by} {n} gives {self.quantity(n):,.0f} ({self.off(n):+.2%})" for n in self.around(self.step)
        )
        sizes = f"no whole {self.by}" if self.step == 1 else f"no multiple of {self.step} for {self.by}"
        message = (
            f"{self.model} cannot match {result.to}: {sizes} brings {result.on} within {result.tolerance:.2%} of its "
            f"{result.target:,.0f}: {tried}"
        )
        hint = self._advice(result)
        if not (tolerance := self.match.tolerance).relative and tolerance.value < 100:
            share = f"tolerance {tolerance.value:g} counts what is matched: write {tolerance.value:g}% for a share"
            hint = f"{share}; {hint}"
        return Misfit(at=("models", self.model, "match"), message=message, hint=hint)

    def _advice(self, result: MatchResult) -> str:
        finer = (step for step in range(self.step - 1, 0, -1) if self.step % step == 0)
        for step in finer:
            size = min(self.around(step), key=lambda n: abs(self.off(n)))
            if size >= self.step and abs(self.off(size)) <= result.tolerance:
                return f"`step: {step}` gives {size} ({self.off(size):+.2%}){self._or_accept(result)}"
        if self.off(self.step) > 0:
            return f"{self.model} is already larger with the smallest FFN: give it fewer layers or a smaller width"
        return self._or_accept(result).removeprefix(", or ") + ", or change width or layers"

    def _or_accept(self, result: MatchResult) -> str:
        enough = math.ceil(abs(result.residual) * 1e4) / 1e4  # rounded up: the advice, taken literally, must do
        return f", or a tolerance of {enough:.2%} would accept the nearest, {result.size}"


def match_all(
    spec: SuiteSpec, *, vocab: int, views: Mapping[str, DataFacts] | None = None
) -> tuple[dict[str, Architecture], list[MatchResult]]:
    """Solves matches in the order of their dependence (the spec has refused cycles).

    `vocab` is the tokens of the suite's tokenizer; a model of another has its own among the `views`.

    Raises PlanError with every match that cannot be had; what is matched to one of those is judged by its nearest.
    """
    solved: dict[str, Architecture] = {}
    results: dict[str, MatchResult] = {}
    misfits: list[Misfit] = []

    def settle(name: str) -> Architecture:
        if name not in solved and (model := spec.decoders[name]).transform is not None:
            solved[name] = _with_router(name, transformed(settle(str(model.parent)), model.transform))
        if name not in solved and (model := spec.decoders[name]).parent is not None:
            solved[name] = trained_on(settle(model.parent), model)
        if name not in solved:
            model = spec.decoders[name]
            tokens = views[name].vocab if views and name in views else vocab
            a = _with_router(name, architecture_of(model, vocab=tokens, context=spec.data.context))
            if model.match is not None:
                solver = Solver(
                    model=name,
                    a=a,
                    target=settle(model.match.to),
                    match=model.match,
                    dtype=model.served_dtype,
                    target_dtype=spec.decoders[model.match.to].served_dtype,
                )
                a, results[name] = solver.nearest()
                misfits.extend(filter(None, [solver.misfit(results[name])]))
                a = _with_router(name, a)
            solved[name] = a
        return solved[name]

    for name in spec.decoders:
        settle(name)
    if misfits:
        raise PlanError(*misfits)
    return {name: solved[name] for name in spec.decoders}, [results[name] for name in spec.decoders if name in results]


# ------------------------------------------------------------------------------------------------ recipes


def steps_of(a: Architecture, train: TrainSpec, *, step_seconds: float | None = None) -> int:
    """The budget as a whole number of optimizer steps, at least 1, nearest to what was asked.

    Raises PlanError for a budget in seconds when this machine has not been calibrated.
    """
    budget = train.budget
    if budget.steps is not None:
        return budget.steps
    if budget.tokens is not None:
        return max(1, round(budget.tokens / train.batch_tokens))
    if budget.flops is not None:
        return max(1, round(budget.flops / (train_flops_per_token(a.blueprint) * train.batch_tokens)))
    assert budget.seconds is not None
    if step_seconds is None:
        raise PlanError("a budget in seconds needs this machine's step time, which has not been measured")
    return max(1, round(budget.seconds / step_seconds))


def _recipe(a: Architecture, model: ModelSpec, *, step_seconds: float | None) -> Recipe:
    if model.train is None:
        return Recipe.untrained(dtype=model.served_dtype, context=a.context)
    recipe = recipe_of(model.train, steps=steps_of(a, model.train, step_seconds=step_seconds))
    return recipe if model.data is None else recipe.model_copy(update={"corrupt": model.data.corrupt})


def recipe_of(train: TrainSpec, *, steps: int) -> Recipe:
    """The recipe in integers; evaluations read the test split. A sweep changes it with `tune_recipe`."""
    schedule, optimizer, warmup = train.schedule, train.optimizer, train.schedule.warmup
    points = min(train.evaluate.points, steps)
    micro = train.micro_batch_tokens or train.batch_tokens
    recipe = Recipe(
        steps=steps,
        batch_tokens=train.batch_tokens,
        micro_batch_tokens=micro,
        optimizer=optimizer.name,
        lr=optimizer.lr,
        router_lr=optimizer.router_lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        momentum=_momentum(train),
        weight_decay=optimizer.weight_decay,
        clip=train.clip,
        warmup_steps=round(warmup.value * steps) if warmup.relative else min(steps, round(warmup.value)),
        decay=schedule.decay,
        cooldown=schedule.cooldown_share if schedule.decay == "wsd" else None,
        final_lr_share=schedule.final.value,
        dtype=train.dtype,
        evaluate_at=tuple(round(steps * (i + 1) / points) for i in range(points)),
        eval_tokens=train.evaluate.tokens,
        final_eval_tokens=max(train.evaluate.final_tokens, train.evaluate.tokens),
        windows_per_document=train.evaluate.windows_per_document,
        keep=train.evaluate.keep,
        split="test",
    )
    return recipe.model_copy(update={"branches": _branches(recipe, schedule)})


def _branches(recipe: Recipe, schedule: Schedule) -> tuple[int, ...]:
    """Budgets in steps. In a run of few steps some fall together, and some into a warm-up that is a share: no more."""
    budgets = {round(share.value * recipe.steps) for share in schedule.branches} - {0, recipe.steps}
    first = recipe.warmup_steps if schedule.warmup.relative else 0
    return tuple(budget for budget in sorted(budgets) if recipe.leaves_at(budget) >= first)


def _momentum(train: TrainSpec) -> float | None:
    if train.optimizer.name != "muon":
        return None
    return MUON_MOMENTUM if train.optimizer.momentum is None else train.optimizer.momentum


def _too_few_rows(name: str, rows: int, vocab: int) -> Misfit:
    message = f"{name} has {rows:,} rows of tokens, and the tokenizer of its data {vocab:,} words"
    return Misfit(at=("models", name), message=message, hint="give it a tokenizer of its own, or more rows")


def models_of(
    spec: SuiteSpec, *, vocab: int, machine: Machine, views: Mapping[str, DataFacts] | None = None
) -> tuple[dict[str, PlannedModel], list[MatchResult]]:
    """Every model with its sizes, recipe and costs. Raises PlanError when a size or a budget cannot be had."""
    architectures, matches = match_all(spec, vocab=vocab, views=views)
    words = {name: views[name].vocab if views and name in views else vocab for name in architectures}
    if narrow := [name for name, a in architectures.items() if a.vocab < words[name]]:
        raise PlanError(*(_too_few_rows(name, architectures[name].vocab, words[name]) for name in narrow))
    models: dict[str, PlannedModel] = {}

    def plan(name: str) -> PlannedModel:
        if name not in models:
            a, written = architectures[name], spec.decoders[name]
            if written.parent is not None and written.transform is not None:
                models[name] = _derived(a, written, written.transform, plan(written.parent))
            else:
                models[name] = _trained(a, written, step_seconds=(machine.step_seconds or {}).get(name))
                if written.parent is not None:
                    derived = PlannedDerivation(model=written.parent, at=_at(written, plan(written.parent)))
                    models[name] = models[name].model_copy(update={"derived": derived})
        return models[name]

    return {name: plan(name) for name in architectures}, matches


def _trained(a: Architecture, written: ModelSpec, *, step_seconds: float | None) -> PlannedModel:
    recipe = _recipe(a, written, step_seconds=step_seconds)
    if (trained := written.trained(a.ffn)) is not None:
        recipe = recipe.model_copy(update={"trained": trained})
    layers = () if trained is None else a.in_order
    counted = costs_of(a.blueprint, dtype=recipe.dtype, optimizer=recipe.optimizer, trained=trained, layers=layers)
    flops = counted.train_flops_per_token * recipe.steps * recipe.batch_tokens
    return PlannedModel(architecture=a, recipe=recipe, costs=counted, expected_train_flops=flops)


def _at(written: ModelSpec, parent: PlannedModel) -> PlannedAt | None:
    """The point of the other's training that a model starts from; None for its end."""
    if written.start is None or (at := written.start.at) is None:
        return None
    if at.share is None:
        reach = at.reach
        return PlannedAt(other=reach) if isinstance(reach, str) else PlannedAt(bits_per_byte=reach)
    steps = parent.recipe.steps
    return PlannedAt(steps=min(steps - 1, max(1, round(at.share.value * steps))))


def _derived(a: Architecture, written: ModelSpec, transform: Transform, parent: PlannedModel) -> PlannedModel:
    """Another model with its weights changed: trained as that one was, and of the counts of what it has become."""
    recipe = parent.recipe
    counted = costs_of(a.blueprint, dtype=recipe.dtype, optimizer=recipe.optimizer)
    return PlannedModel(
        architecture=a,
        recipe=recipe,
        costs=transform.costs(counted, a, dtype=recipe.dtype),
        expected_train_flops=parent.expected_train_flops,
        derived=PlannedDerivation(model=str(written.parent), **dict(written.stage)),
    )
