"""The plan of a suite as a graph of jobs: each kind says which it has, and the learning-rate sweep adds its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moebench.jobs import KINDS, speed
from moebench.jobs.job import Job
from moebench.jobs.kind import Draft
from moebench.metrics import in_force
from moebench.planning import feasibility, ladders
from moebench.planning.beginnings import begun
from moebench.planning.controls import control_jobs
from moebench.planning.elsewhere import Elsewhere, planned_elsewhere
from moebench.planning.matching import Machine, PlanError, models_of
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.planning.selecting import published
from moebench.planning.tasks import check_claims, planned_tasks, task_metrics
from moebench.planning.tuning import Sweep, sweep_of
from moebench.planning.types import Asked, MatchResult, Plan, PlannedControls, PlannedJob
from moebench.suite.model import DenseFFN
from moebench.suite.types import SuiteSpec


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A plan with its jobs as they are carried out."""

    plan: Plan
    jobs: tuple[Job, ...]
    """Inputs before what is made of them."""
    sweep: Sweep | None
    """Its tuning sweep, which only `--tune` does."""


def make_plan(spec: SuiteSpec, *, facts: DataFacts, vocab: int, machine: Machine, **more: Any) -> Plan:
    """Everything that will run, without the jobs themselves; see `make_graph`."""
    return make_graph(spec, facts=facts, vocab=vocab, machine=machine, **more).plan


def make_graph(
    spec: SuiteSpec,
    *,
    facts: DataFacts,
    vocab: int,
    machine: Machine,
    views: Mapping[str, DataFacts] | None = None,
    elsewhere: Elsewhere | None = None,
    asked: Asked | None = None,
    notes: Sequence[str] = (),
    threads: int = 1,
    base: Path = Path(),
) -> Graph:
    """Everything that will run. Raises PlanError when something asked for cannot be had.

    `views` are the data of models that do not read the suite's; `elsewhere` its models made elsewhere,
    planned here when absent; `asked` is how the plan was asked for; `notes` are to
    stand among its warnings; relative paths of the data start from `base`.
    """
    asked = asked or Asked()
    made, told = elsewhere or planned_elsewhere(spec, base=base, machine=machine)
    checked = check(spec, facts=facts, vocab=vocab, machine=machine, views=views, smoke=asked.smoke)
    models, matches, warnings = checked
    named, selected = published(spec)
    tasks = planned_tasks(spec, base=base)
    of_tasks = task_metrics(tasks)
    check_claims(spec, of_tasks)
    read = {name: (views or {}).get(name, facts) for name in models}
    models = begun(spec, models, read, base=base, machine=machine)
    plan = Plan(
        suite=spec.suite,
        scale=spec.scale,
        spec=spec,
        models={name: made[name] if name in made else models[name] for name in spec.models},
        matches=tuple(matches),
        jobs=(),
        speed=None,
        tune=None,
        data=facts,
        views=dict(views or {}),
        systems=named,
        selected=selected,
        claim_hashes=spec.claim_hashes,
        tasks=tasks,
        extra_metrics={**spec.declared, **told.metrics, **of_tasks},
        warnings=(*notes, *told.notes, *warnings),
        asked=asked,
    )
    draft = Draft(plan=plan, machine=machine, threads=threads, base=base)
    for kind in KINDS.values():
        draft.jobs += list(kind.jobs(draft))

    def solve(other: SuiteSpec) -> Mapping[str, PlannedModel]:
        models = models_of(other, vocab=vocab, machine=machine, views=views)[0]
        return begun(other, models, read, base=base, machine=machine)

    sweep = sweep_of(draft, solve)
    tune = None if sweep is None else sweep.plan
    of_controls, spoilt = control_jobs(draft)
    controls = PlannedControls(models=of_controls, jobs=tuple(map(_brief, spoilt))) if spoilt else None
    jobs = tuple(map(_brief, draft.jobs))
    changes = {"jobs": jobs, "speed": speed.session_of(draft), "tune": tune, "controls": controls}
    return Graph(plan=plan.model_copy(update=changes), jobs=(*draft.jobs, *spoilt), sweep=sweep)


def check(
    spec: SuiteSpec,
    *,
    facts: DataFacts,
    vocab: int,
    machine: Machine,
    views: Mapping[str, DataFacts] | None = None,
    smoke: bool = False,
) -> tuple[dict[str, PlannedModel], list[MatchResult], list[str]]:
    """Every decoder with its sizes, how they match, and what is unusual. Raises PlanError for what cannot be had."""
    with in_force(spec.declared):
        models, matches = models_of(spec, vocab=vocab, machine=machine, views=views)
        if misfits := [*feasibility.check(spec, models, facts, smoke=smoke), *ladders.misfits(spec, models)]:
            raise PlanError(*misfits)
        published(spec)
        data = {name: (views or {}).get(name, facts) for name in models}
        return models, matches, _warnings(spec, models, data, facts)


def _brief(job: Job) -> PlannedJob:
    return PlannedJob(
        kind=job.kind,
        model=job.model,
        seed=job.seed,
        id=job.id,
        inputs=job.inputs,
        measurement=job.spec.get("measurement"),
        task=job.spec.get("options", {}).get("task"),
    )


def _scored(models: dict[str, PlannedModel], data: Mapping[str, DataFacts]) -> list[str]:
    """Where the test split, or a limit of windows a document, gives less text than the last evaluation asks for."""
    found: dict[str, None] = {}
    for name, model in models.items():
        facts = data[name]
        tokens, documents = facts.tokens.get("test"), facts.documents.get("test")
        if tokens is None or documents is None:
            continue
        recipe, there_are = model.recipe, tokens - documents
        most = there_are
        if recipe.windows_per_document is not None:
            most = min(there_are, documents * recipe.windows_per_document * model.architecture.context)
        if most < recipe.final_eval_tokens:
            limit = f"{documents:,} documents, and windows_per_document {recipe.windows_per_document}"
            why = "all the test text there is" if most == there_are else limit
            what = "bytes" if facts.tokenizer is None else "tokens"
            found[f"at most {most:,} of the {recipe.final_eval_tokens:,} {what} asked are scored: {why}"] = None
        if documents < 2:
            found["the test split is one document: verdicts on quality will be INVALID; give more or shorter ones"] = (
                None
            )
    return list(found)


def _warnings(
    spec: SuiteSpec, models: dict[str, PlannedModel], data: Mapping[str, DataFacts], suite: DataFacts
) -> list[str]:
    """What is unusual; `data` are those of each model, and `suite` those of the suite."""
    found = [*dict.fromkeys(note for facts in (suite, *data.values()) for note in facts.notes)]
    for name, model in models.items():
        if model.derived is not None and model.transform is not None:
            a = models[model.derived.model].architecture
            changed = model.transform.says(a.ffn, tied=a.tied_embeddings)
            found.append(f"{name} is {model.derived.model} {changed}")
            continue
        stream = data[name].tokens.get("train")
        epochs = model.recipe.epochs(stream=stream, context=model.architecture.context) if stream is not None else None
        if epochs is not None and epochs > 1:
            found.append(f"{name} reads the training split {epochs:.1f} times")
    found += _scored(models, data)
    if len({model.recipe.batch_tokens for model in models.values() if model.recipe.trains}) > 1:
        found.append(
            "models differ in batch_tokens: digests of their tokens cannot be compared batch by batch, so claims about "
            "quality between them will be INVALID"
        )
    for name, written in spec.decoders.items():
        if written.start is not None and written.start.checkpoint is not None:
            found.append(
                f"{name} starts from {written.start.checkpoint}: what that was trained on is in no count of tokens or "
                "FLOPs, and may hold the test text"
            )
    for name, model in models.items():
        ffn = model.architecture.ffn
        if isinstance(ffn, DenseFFN):
            continue
        if not model.architecture.causal:
            found.append(f"{name}: {ffn.router} sees future tokens, so claims about its quality on text are INVALID")
        if model.architecture.computes_fewer(training=True):
            found.append(
                f"{name}: its FLOPs are an upper bound: it may drop tokens, or use fewer than top_k experts on one"
            )
    return [*found, *feasibility.notes(spec, models), *ladders.notes(spec, models)]
