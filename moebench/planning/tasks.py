"""The tasks of lm-eval that a suite asks for, read when it is planned: what they measure, and whether they can be had.

Only configurations are read. What a claim is about must be among what the tasks measure, in the direction that the task
states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from moebench.claims.kinds.spread import EVERY_VALUE
from moebench.metrics.metric import Metric
from moebench.metrics.ref import MetricRef
from moebench.metrics.tasks import GROUP, task_metric
from moebench.planning.feasibility import Misfit, PlanError
from moebench.suite.external import ExternalModel
from moebench.suite.types import SuiteSpec
from moebench.tasks.configs import TaskError, task_facts
from moebench.tasks.facts import TaskFacts
from moebench.text import listed, nearest

_AT = ("measure", "lm_eval")


def planned_tasks(spec: SuiteSpec, *, base: Path) -> dict[str, TaskFacts]:
    """Every task by name; paths start from `base`. Raises PlanError, at its place, for each that cannot be had."""
    asked = spec.measure.lm_eval
    if asked is None:
        return {}
    include = None if asked.include_path is None else (base / asked.include_path).resolve()
    found: dict[str, TaskFacts] = {}
    misfits: list[Misfit] = []
    for index, name in enumerate(asked.tasks):
        try:
            for facts in task_facts(name, include=include, num_fewshot=asked.num_fewshot, limit=asked.limit):
                if facts.name in found:
                    misfits.append(Misfit(at=(*_AT, "tasks", index), message=f"{facts.name} is asked for twice"))
                found[facts.name] = facts
                misfits += _room(spec, facts, at=(*_AT, "tasks", index))
        except TaskError as error:
            misfits.append(Misfit(at=(*_AT, "tasks", index), message=error.message, hint=error.hint))
    if misfits:
        raise PlanError(*misfits)
    return found


def _room(spec: SuiteSpec, facts: TaskFacts, *, at: tuple[str | int, ...]) -> Iterator[Misfit]:
    """Whether decoders can write as much as the task asks for and still read a prompt."""
    if facts.written is not None and spec.decoders and facts.written >= spec.data.context:
        message = f"{facts.name} has up to {facts.written} tokens written, and the context is {spec.data.context}"
        yield Misfit(
            at=at, message=message, hint="give its generation_kwargs a smaller max_gen_toks, or data a longer context"
        )


def task_metrics(tasks: Mapping[str, TaskFacts]) -> dict[str, Metric]:
    """What the tasks' metrics mean, by their whole names."""
    found = {}
    for facts in tasks.values():
        for metric in facts.metrics:
            name = facts.named(metric)
            of_choices = facts.choices is not None and metric.metric in ("acc", "acc_norm", "acc_bytes")
            made = task_metric(
                MetricRef.parse(name).base,
                better=metric.better,
                chance=1 / facts.choices if of_choices and facts.choices else None,
            )
            assert made is not None
            found[name] = made
        for beside in filter(None, (facts.chance, facts.cut)):
            about = task_metric(MetricRef.parse(beside).base)
            assert about is not None
            found[beside] = about
    return found


def check_claims(spec: SuiteSpec, metrics: Mapping[str, Metric]) -> None:
    """Raises PlanError for claims on tasks that no model is measured on, or whose direction is another."""
    misfits: list[Misfit] = []
    for name, claim in spec.claims.items():
        for key in ("metric", "minus"):
            given = getattr(claim, key)
            if not isinstance(given, str) or not given.startswith(f"{GROUP}."):
                continue
            ref = MetricRef.parse(given)
            at, declared = ("claims", name, key), spec.declared.get(ref.base)
            if ref.get("task") == EVERY_VALUE:
                every = [one for one in metrics if MetricRef.parse(one).base == ref.base]
                given = every[0] if every else given
            if given not in metrics and not _is_external(spec, name):
                hint = nearest(given, metrics) or (f"it measures {listed(list(metrics))}" if metrics else None)
                write = "write measure: {lm_eval: {tasks: [...]}}"
                misfits.append(Misfit(at=at, message=f"this suite does not measure {given}", hint=hint or write))
            elif given in metrics and declared is not None and metrics[given].better != declared.better:
                better = metrics[given].better
                misfits.append(Misfit(at=at, message=f"of its task {given} is better {better}, not {declared.better}"))
    if misfits:
        raise PlanError(*misfits)


def _is_external(spec: SuiteSpec, claim: str) -> bool:
    """Whether a claim is about a model whose numbers come from elsewhere, and may be of any task."""
    return any(isinstance(spec.models.get(name), ExternalModel) for name in spec.claims[claim].about(spec.sweeps))
