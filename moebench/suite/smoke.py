"""A smoke run: the suite with two seeds and a twentieth of its budget, to see that everything it asks for works.

Sizes, data, matches and what is measured stay; how long and how often shrinks. It is a scale of its own, so that its
results and its report stand apart from the real ones, and its claims get no verdicts.
"""

from __future__ import annotations

from moebench.amounts import Amount
from moebench.suite.training import Evaluation, TrainSpec
from moebench.suite.types import SpeedSpec, SuiteSpec

SMOKE = "smoke"
"""Name of the scale of a smoke run."""
SHARE = 1 / 20
"""Of the budget, of the text evaluated and of the time of the speed session."""
SEEDS = PROCESSES = POINTS = 2
NOTE = "smoke run: 2 seeds and a twentieth of the budget show that the suite works; its claims get no verdicts"
FEWEST_EVALUATED = 256
DOCUMENTS = 8
"""Of each task."""
"""Tokens of an evaluation, the fewest that a suite may ask for."""


def smoke(spec: SuiteSpec) -> SuiteSpec:
    """The suite as a smoke run. Raises ValueError when it has been made one already, or has a scale of that name."""
    if spec.scale == SMOKE or (spec.scale or "").endswith(f".{SMOKE}"):
        raise ValueError(f"the scale {spec.scale} has the name of smoke runs: choose it without --smoke, or rename it")
    measure = spec.measure
    if measure.speed is not None:
        measure = measure.model_copy(update={"speed": _speed(measure.speed)})
    if measure.lm_eval is not None:
        limit = min(DOCUMENTS, measure.lm_eval.limit or DOCUMENTS)
        measure = measure.model_copy(update={"lm_eval": measure.lm_eval.model_copy(update={"limit": limit})})
    models = {
        name: model.model_copy(update={"train": _train(model.train)})
        for name, model in spec.decoders.items()
        if model.train is not None
    }
    changes = {
        "scale": f"{spec.scale}.{SMOKE}" if spec.scale else SMOKE,
        "seeds": spec.seeds[:SEEDS],
        "looks": [],
        "models": {**spec.models, **models},
        "measure": measure,
        "tune": None,
    }
    return spec.model_copy(update=changes)


def _train(train: TrainSpec) -> TrainSpec:
    budget = {currency: amount * SHARE for currency, amount in train.budget.model_dump(exclude_none=True).items()}
    if "steps" in budget:
        budget["steps"] = max(1, round(budget["steps"]))
    warmup = train.schedule.warmup
    if not warmup.relative:
        warmup = Amount(value=warmup.value * SHARE, relative=False)
    return train.model_copy(
        update={
            "budget": train.budget.model_copy(update=budget),
            "schedule": train.schedule.model_copy(update={"warmup": warmup}),
            "evaluate": _evaluation(train.evaluate),
        }
    )


def _evaluation(asked: Evaluation) -> Evaluation:
    tokens = {name: max(FEWEST_EVALUATED, round(getattr(asked, name) * SHARE)) for name in ("tokens", "final_tokens")}
    return asked.model_copy(update={"points": min(POINTS, asked.points), **tokens})


def _speed(asked: SpeedSpec) -> SpeedSpec:
    return asked.model_copy(update={"processes": PROCESSES, "seconds": asked.seconds * SHARE})
