"""What will run, with every size explicit.

These are types only. `matching` makes a plan, `jobs` carry it out, `reporting` reads it back from `results/plans/`.
They stand apart from `matching` because both wings need them.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from moebench.amounts import NAME, Name
from moebench.checkpoints.facts import came_about
from moebench.claims.kinds.part import Known
from moebench.claims.kinds.spread import every_metric
from moebench.environment import Environment
from moebench.frozen import Frozen, later
from moebench.identity import digest_of
from moebench.jobs.recipe import Derivation, Until, training_of
from moebench.jobs.session import SpeedPlan as SpeedPlan
from moebench.metrics.metric import Metric
from moebench.models.routers.facts import RouterFacts
from moebench.planning.grid import TunePlan as TunePlan
from moebench.planning.planned import (
    AnyPlanned,
    DataFacts,
    PlannedAt,
    PlannedCheckpoint,
    PlannedExperiment,
    PlannedExternal,
    PlannedModel,
)
from moebench.planning.published import PlannedSystem, Selected
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.claim import Claim
from moebench.suite.model import MatchOn, MoEFFN
from moebench.suite.pilot import MOST as MOST_PILOT
from moebench.suite.pilot import seeds_of
from moebench.suite.smoke import SMOKE
from moebench.suite.types import SuiteSpec
from moebench.tasks.facts import TaskFacts

GIVE_RUNS = ("train", "transform", "load", "import", "experiment")
"""Kinds of job that give a model and seed of a plan its run: trained here, made of one that was, loaded, or measured
elsewhere."""


class MatchResult(Frozen):
    model: str
    to: str
    on: MatchOn
    by: str
    size: int
    """The value the solver chose for `by`."""
    target: float
    achieved: float
    residual: float
    """achieved / target - 1."""
    tolerance: float


DisplayName = Annotated[str, Field(pattern=NAME[:-1] + r"(/[a-z_]+)?$")]
"""A model of the suite, or what a control makes of it: `moe/shuffled`."""


class PlannedJob(Frozen):
    """One job of a plan, as briefly as the report needs it."""

    kind: Name
    """A word of `jobs.KINDS`."""
    model: DisplayName
    seed: int
    id: str
    inputs: tuple[str, ...] = Field(default=(), exclude_if=lambda value: value == ())
    """Ids of the jobs whose results it reads."""
    measurement: Name | None = Field(default=None, exclude_if=lambda value: value is None)
    """What it measures, of kind `evaluate`."""
    task: str | None = later()
    """The task of lm-eval, where it measures one."""


class PlannedControls(Frozen):
    """What the controls train: models that no claim is about and no table of models shows."""

    models: dict[DisplayName, PlannedModel]
    jobs: tuple[PlannedJob, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> PlannedControls:
        trained = {job.id for job in self.jobs if job.kind == "train"}
        if any(job.model not in self.models or "/" not in job.model for job in self.jobs):
            raise ValueError("its controls train what they have no model of")
        if any(job.kind != "train" and not trained.issuperset(job.inputs) for job in self.jobs):
            raise ValueError("its controls measure what they do not train")
        return self


class Asked(Frozen):
    """How a plan was asked for, beyond what its suite says: enough to ask for it again."""

    path: str = Field(default="", max_length=1000)
    """The suite's file as it was typed, its name alone where that was an absolute path; empty for a bundled suite."""
    sets: tuple[Annotated[str, Field(max_length=10_000)], ...] = ()
    """Values set on the command line, as they were typed."""
    smoke: bool = False
    """Whether it is a smoke run, which gives no verdicts."""
    tuned: Name | None = None
    """Id of the learning-rate sweep that the rates were taken from."""
    pilot: int = later(0, ge=0, le=MOST_PILOT)
    """Seeds of a pilot, which makes no claims; 0 for a plan that is none."""

    @property
    def variant(self) -> str:
        """What sets its reports apart from those of the suite as it stands: `+tuned`, `+3fa9c1`, or nothing."""
        sets = [word for word in self.sets if not word.startswith("suite=")]  # another name is told apart by itself
        words = ["tuned"] * (self.tuned is not None) + [digest_of(sets, length=6)] * bool(sets)
        return "".join(f"+{word}" for word in (*words, *["pilot"] * bool(self.pilot)))


class Plan(Frozen):
    """Everything that will run for a suite, and everything the report needs to know about it."""

    suite: Name
    """Names a folder of reports; safe in paths, as plans are read from files that others wrote."""
    scale: Name | None
    spec: SuiteSpec
    models: dict[Name, AnyPlanned]
    matches: tuple[MatchResult, ...]
    jobs: tuple[PlannedJob, ...]
    """Those that the report reads, inputs before what is made of them."""
    speed: SpeedPlan | None
    tune: TunePlan | None
    data: DataFacts
    """Of the suite; those of a model are `data_of` it."""
    views: dict[Name, DataFacts] = Field(default={}, exclude_if=lambda value: not value)
    """Model -> its data, for models that read another part of the text than the suite's, or other tokens of it."""
    systems: dict[str, PlannedSystem] = Field(default={})
    """Published systems that claims name or select, counted."""
    selected: dict[str, Selected] = later({})
    """`Claim.selects` -> the published systems that it selects."""
    claim_hashes: dict[str, str]
    """Claim id -> hash of its text and test."""
    tasks: dict[str, TaskFacts] = later({})
    """Tasks of lm-eval that are measured, by name."""
    extra_metrics: dict[str, Metric] = later({})
    """What metrics mean that only its suite or its tasks know; see `metrics.in_force`."""
    warnings: tuple[str, ...] = ()
    asked: Asked = Field(default=Asked(), exclude_if=lambda value: value == Asked())
    controls: PlannedControls | None = later()
    """The short runs of its controls; None where it asks for none."""
    _of: str | None = PrivateAttr(default=None)
    """Id of the plan whose part this is, in memory alone."""
    _looks: tuple[int, ...] | None = PrivateAttr(default=None)
    """The looks of that plan."""

    @model_validator(mode="after")
    def _is_of_its_suite(self) -> Plan:
        if (self.suite, self.scale) != (self.spec.suite, self.spec.scale):
            raise ValueError(f"the plan of {self.suite!r} at scale {self.scale!r} holds another suite or scale")
        return self

    @model_validator(mode="after")
    def _is_a_pilot_by_its_seeds(self) -> Plan:
        """Its runs are no look at anything, so they must be what it says they are."""
        if self.asked.pilot and (self.spec.seeds != seeds_of(self.asked.pilot) or self.spec.claims):
            raise ValueError("it is a pilot, and has other seeds, or claims")
        return self

    @model_validator(mode="after")
    def _counts_nothing_twice(self) -> Plan:
        """A seed or a run that stood twice under one model would count twice, and a claim must be there to be dated."""
        if len(set(self.spec.seeds)) < len(self.spec.seeds):
            raise ValueError("it has a seed twice")
        for told in ([(run.model, run.seed) for run in self.runs], [(run.model, run.id) for run in self.runs]):
            if len(set(told)) < len(told):
                raise ValueError("it has a run of one model twice")
        named = [run.model for run in self.runs] + [run[0] for run in (self.tune.runs if self.tune else ())]
        named += [*self.speed.models, self.speed.baseline] if self.speed else []
        named += [job.model for job in self.jobs]
        if unknown := set(named) - set(self.models):
            raise ValueError(f"it has runs of {', '.join(sorted(unknown))}, of which it has no model")
        trained = {run.id for run in self.runs}
        if any(not job.inputs or not trained.issuperset(job.inputs) for job in self.jobs if job.kind == "evaluate"):
            raise ValueError("it measures what it does not train")
        if why := _not_derived(self):
            raise ValueError(why)
        if set(self.views) != set(self.spec.apart):
            raise ValueError("it does not say what its models read")
        if unknown := set(self.claim_hashes) - set(self.spec.claims):
            raise ValueError(f"it has no claim {', '.join(sorted(unknown))}")
        return self

    @property
    def id(self) -> str:
        """Hash of what will run and what is claimed; the plan's file is `<suite>@<scale>-<id>.json`."""
        if self._of is not None:
            return self._of
        speed, tune = self.speed and self.speed.id, self.tune and self.tune.id
        systems = [[self.systems[name].counts for name in one.names] for one in self.selected.values()]
        variant = [self.asked.variant] if self.asked.variant else []
        controls = [[job.id for job in self.controls.jobs]] if self.controls is not None else []
        return digest_of(
            [[job.id for job in self.jobs], self.claim_hashes, speed, tune, *variant, *controls, *systems], length=10
        )

    @property
    def of_controls(self) -> Plan | None:
        """The runs of its controls as a plan of their own, so that they are read as any runs are."""
        if self.controls is None:
            return None
        models = self.controls.models
        views = {name: self.views[base] for name in models if (base := name.partition("/")[0]) in self.views}
        alone = {"models": dict(models), "jobs": self.controls.jobs, "views": views, "matches": ()}
        return self.model_copy(update={**alone, "speed": None, "tune": None, "controls": None})

    @property
    def every_job(self) -> tuple[PlannedJob, ...]:
        """Its jobs, and then those of its controls."""
        return self.jobs + (self.controls.jobs if self.controls is not None else ())

    def at_look(self, size: int) -> Plan:
        """The plan as far as its first seeds: what of it a look is about. It keeps the plan's id."""
        later = set(self.spec.seeds[size:])
        spec = self.spec.model_copy(update={"seeds": self.spec.seeds[:size], "looks": []})
        jobs = tuple(job for job in self.jobs if job.seed not in later)
        part = self.model_copy(update={"spec": spec, "jobs": jobs})
        part._of, part._looks = self.id, self.planned_looks
        return part

    @property
    def planned_looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which it is judged, where several; of a part of a plan, those of the whole."""
        return tuple(self.spec.looks) if self._looks is None else self._looks

    @property
    def decoders(self) -> dict[str, PlannedModel]:
        """Its models that moebench builds."""
        return {name: model for name, model in self.models.items() if isinstance(model, PlannedModel)}

    @property
    def runs(self) -> tuple[PlannedJob, ...]:
        """The jobs that give each model and seed its run: those that train, change, load or import it."""
        return tuple(job for job in self.jobs if job.kind in GIVE_RUNS)

    def is_single(self, model: str) -> bool:
        """Whether a model has one run whatever the seed: a checkpoint, or one run that was measured elsewhere."""
        planned = self.models.get(model)
        return isinstance(planned, PlannedCheckpoint) or (isinstance(planned, PlannedExternal) and planned.single)

    def is_external(self, model: str) -> bool:
        """Whether a model's numbers were measured elsewhere, and what they were measured on is declared."""
        return isinstance(self.models.get(model), PlannedExternal)

    @property
    def experiments(self) -> dict[str, PlannedExperiment]:
        """Its models that are arms of experiments."""
        return {name: model for name, model in self.models.items() if isinstance(model, PlannedExperiment)}

    def counts(self, model: str) -> dict[str, float]:
        """Counted metric -> its value of a model, as far as it is known."""
        planned = self.models[model]
        counts = planned.counts if isinstance(planned, PlannedExternal) else {}
        return counts if planned.costs is None else {**counts, **planned.costs.metrics}

    @property
    def sessions(self) -> tuple[PlannedJob, ...]:
        """The jobs that time, one for each process of its speed session."""
        return tuple(job for job in self.jobs if job.kind == "speed")

    @property
    def evaluations(self) -> dict[str, tuple[PlannedJob, ...]]:
        """Id of a job that trains -> the measurements of what it leaves, each once though several models share it."""
        measured: dict[str, dict[str, PlannedJob]] = {run.id: {} for run in self.runs}
        for job in self.jobs:
            if job.kind == "evaluate":
                measured[job.inputs[0]][job.id] = job
        return {run_id: tuple(jobs.values()) for run_id, jobs in measured.items()}

    @property
    def title(self) -> str:
        """`suite`, `suite@scale` where a scale was chosen, and what was changed on the command line."""
        return self.suite + (f"@{self.scale}" if self.scale else "") + self.asked.variant

    @property
    def command(self) -> str:
        """What to type to run it again."""
        return self._typed("run", ["--pilot", str(self.asked.pilot)] if self.asked.pilot else [])

    @property
    def command_of_plan(self) -> str:
        """What to type to see what a pilot tells of the suite."""
        return self._typed("plan", [])

    def _typed(self, word: str, more: list[str]) -> str:
        asked, smoke = self.asked, self.asked.smoke
        scale = (self.scale or "").removesuffix(SMOKE).removesuffix(".") if smoke else self.scale
        words = ["moebench", word, asked.path or self.suite, *(["--scale", scale] if scale else [])]
        words += [word for value in asked.sets for word in ("--set", value)]
        return shlex.join(words + more + ["--tuned"] * (asked.tuned is not None) + ["--smoke"] * smoke)

    def __repr__(self) -> str:
        things = {"model": self.models, "seed": self.spec.seeds, "run": self.runs, "claim": self.claim_hashes}
        counts = (f"{len(many)} {thing}{'s' if len(many) != 1 else ''}" for thing, many in things.items())
        return f"<Plan {self.id} of {self.title}: {', '.join(counts)}>"

    __str__ = __repr__

    @property
    def trained(self) -> dict[str, PlannedModel]:
        """Its models that are trained: none at its initial values, none that is another with its weights changed."""
        return {name: model for name, model in self.decoders.items() if model.trains}

    @property
    def routers(self) -> dict[str, RouterFacts]:
        """What is known of its routers, by the word under which suites name them."""
        architectures = (model.architecture for model in self.decoders.values())
        return {a.ffn.router: a.router for a in architectures if isinstance(a.ffn, MoEFFN) and a.router is not None}

    @property
    def router_losses(self) -> dict[str, tuple[str, ...]]:
        """The auxiliary losses of its routers."""
        return {word: router.losses for word, router in self.routers.items()}

    def models_of(self, claim: Claim) -> tuple[str, ...]:
        """Every model that a claim is about: compared, ceiling, points of its sweep, what its target names."""
        named: list[str] = []
        for one in self.spec.concerns(claim):
            target = one.target
            named += one.about(self.spec.sweeps)
            named += [target.reach] if target is not None and isinstance(target.reach, str) else []
            named += self.rungs_of(one)
        return tuple(dict.fromkeys(name for name in named if name in self.models))

    def rungs_of(self, claim: Claim) -> tuple[str, ...]:
        """The dense models that a claim holds others against, from small to large; nothing where there are none."""
        ladder = claim.target.ladder if claim.target is not None else None
        return tuple(self.spec.ladders.get(ladder, ())) if ladder is not None else ()

    @property
    def known(self) -> Known:
        """What tells the parts of a claim."""
        held = self.data.test_domains
        of_tasks = [facts.named(metric) for facts in self.tasks.values() for metric in facts.metrics]
        known = self.spec.known(self.data.domains if held is None else held, of_tasks)
        return replace(known, selected={words: one.names for words, one in self.selected.items()})

    def data_of(self, model: str) -> DataFacts:
        """What a model reads."""
        return self.views.get(model, self.data)

    def training(self, model: str) -> str:
        """Hash of how a model came about: of two plans, equal where a seed stands for the same training."""
        planned = self.models[model]
        if isinstance(planned, PlannedCheckpoint):
            return came_about(planned.digest, planned.dtype)
        if isinstance(planned, PlannedExternal):
            return digest_of([planned.tag, planned.model, planned.sha256])
        if isinstance(planned, PlannedExperiment):
            return digest_of([planned.tag, planned.experiment, planned.arm, planned.version])
        architecture, recipe = planned.architecture.model_dump(mode="json"), planned.recipe.model_dump(mode="json")
        start = None if planned.start is None else planned.start.digest
        derived = derivation.model_dump(mode="json") if (derivation := self.derivation(model)) is not None else None
        return training_of(architecture, recipe, self.data_of(model).digest, start, derived)

    def begun_as(self, model: str) -> str:
        """The model of the plan that another comes from in the end, through others perhaps; itself where from none."""
        planned = self.decoders.get(model)
        return model if planned is None or planned.derived is None else self.begun_as(planned.derived.model)

    def says(self, model: str) -> str | None:
        """What was done to the weights of another model to make it, in words; None of one that is trained itself."""
        planned = self.decoders.get(model)
        if planned is None or planned.derived is None or planned.transform is None:
            return None
        a = self.decoders[planned.derived.model].architecture
        return f"{planned.derived.model} {planned.transform.says(a.ffn, tied=a.tied_embeddings)}"

    def derivation(self, model: str) -> Derivation | None:
        """How a model comes of another; None where it does not."""
        derived = self.decoders[model].derived
        if derived is None:
            return None
        return Derivation(training=self.training(derived.model), at=self._until(derived.at), **dict(derived.stage))

    def _until(self, at: PlannedAt | None) -> Until | None:
        if at is None:
            return None
        other = None if at.other is None else self.training(at.other)
        return Until(steps=at.steps, bits_per_byte=at.bits_per_byte, other=other)

    @property
    def trainings(self) -> set[str]:
        """How its models are trained."""
        return set(map(self.training, self.models))

    @property
    def seals(self) -> set[str]:
        """Its claims with the definitions of their models."""
        return set(map(self.seal, self.claim_hashes))

    def akin(self, other: Plan) -> bool:
        """Whether another plan, of whatever suite, has a model's training or a claim in common with this one."""
        return not self.trainings.isdisjoint(other.trainings) or not self.seals.isdisjoint(other.seals)

    def seal(self, name: str) -> str:
        """Hash of a claim with how its models are made and asked: one whose models or tasks change is another claim."""
        claim = self.spec.claims[name]
        made, asked = [self.training(model) for model in self.models_of(claim)], self.asking(claim)
        return digest_of([self.claim_hashes[name], made, *([asked] if asked else [])])

    def asking(self, claim: Claim) -> list[object]:
        """How a claim's models are measured, where their training does not say it: tasks, and the text of checkpoints.

        Without the version of lm-eval: a later one asks the same.
        """
        metrics = [metric for one in self.spec.concerns(claim) for metric in every_metric(one, self.known)]
        asked: list[object] = [
            {key: value for key, value in facts.options.items() if key != "lm_eval"}
            for facts in self.tasks.values()
            if any(facts.named(metric) in metrics for metric in facts.metrics)
        ]
        if not any(metric.startswith("test.") for metric in metrics):
            return asked
        written = [
            one for name in self.models_of(claim) if isinstance(one := self.spec.models.get(name), CheckpointModel)
        ]
        text = [self.data.digest, self.spec.data.context]
        return asked + [[*text, one.evaluate.model_dump(mode="json")] for one in written]

    def solved_spec(self) -> SuiteSpec:
        """The suite with the widths that were solved written in; its matches stay, and solve to the same again."""
        spec = self.told_spec()
        models = {
            name: model.model_copy(update={"ffn": self.decoders[name].architecture.ffn})
            for name, model in spec.decoders.items()
        }
        return spec.model_copy(update={"models": {**spec.models, **models}})

    def told_spec(self) -> SuiteSpec:
        """The suite with what its runs used where it was written before that could be said, so that it runs again."""
        models = dict(self.spec.models)
        for name, model in self.spec.decoders.items():
            if model.train is None:
                continue
            windows = self.decoders[name].recipe.windows_per_document
            evaluate = model.train.evaluate.model_copy(update={"windows_per_document": windows})
            train = model.train.model_copy(update={"evaluate": evaluate})
            models[name] = model.model_copy(update={"train": train})
        return self.spec.model_copy(update={"models": models})


def _not_derived(plan: Plan) -> str | None:
    """What is wrong with the models of a plan that start from others, as far as their jobs know it."""
    for name in plan.decoders:
        chain = [name]
        while (derived := plan.decoders[chain[-1]].derived) is not None:
            chain.append(derived.model)
            if derived.model not in plan.decoders or derived.model in chain[:-1]:
                return f"{name} starts from what it has no model of"
    made: set[str] = set()
    for job in plan.jobs:
        derives = job.kind in ("transform", "replay") or (job.kind == "train" and job.inputs)
        if derives and not (job.model in plan.decoders and job.inputs and made.issuperset(job.inputs)):
            return f"{job.model} is made of a run that it does not have"
        made.add(job.id)
    return None


class StoredPlan(Frozen):
    """A plan on disk, with when each claim was first stored and where it was planned."""

    plan: Plan
    stored_at: float
    """Unix time this plan was first stored."""
    claims_first_stored: dict[str, float]
    """Claim hash -> Unix time at which it was first stored with any plan of this results folder."""
    seals_first_stored: dict[str, float] = Field(default={})
    """The same by seal: with the models as they are defined here. Plans of before there were seals have none."""
    environment: Environment

    def first_stored(self, name: str, seal: str | None = None) -> float:
        """When a claim was first stored with its models so defined; by its text alone in a plan without seals.

        Who has taken the claim's seal already hands it in.
        """
        sealed = self.seals_first_stored.get(seal or self.plan.seal(name))
        return self.claims_first_stored.get(self.plan.claim_hashes[name], self.stored_at) if sealed is None else sealed
