"""The suite file as frozen types: what was asked, before anything is solved.

Every field says its unit and its special values; a field's absence is None, never a number standing for it. Sizes that
a match will solve are None here and whole numbers in the plan. This module reads no files: `load` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator

from moebench.amounts import Name
from moebench.claims.kinds.part import Known
from moebench.data.sources import DataSpec
from moebench.data.sources.tasks import TasksData
from moebench.data.tasks import Task
from moebench.experiments import EXPERIMENTS
from moebench.frozen import Frozen, later
from moebench.identity import digest_of
from moebench.metrics import MEASUREMENTS, tasks
from moebench.metrics.metric import Metric
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.claim import Claim
from moebench.suite.experiment import ExperimentModel
from moebench.suite.external import DeclaredMetric, ExternalModel
from moebench.suite.labels import every_value
from moebench.suite.model import FFN, ModelSpec
from moebench.suite.serving import InputsSpec, MemorySpec, OffloadSpec
from moebench.suite.view import WHOLE, TrainingView
from moebench.suite.words import TOLD_BY
from moebench.text import closest

OPTIONAL = {name: measurement for name, measurement in MEASUREMENTS.items() if measurement.optional}
QUALITY = ("bits_per_byte", *(name for name, measurement in OPTIONAL.items() if measurement.under == "quality"))
PROBES = tuple(name for name, measurement in OPTIONAL.items() if measurement.under == "probes")


class DecodeSpec(Frozen):
    """Decoding through the cache."""

    batch: list[Annotated[int, Field(ge=1, le=4096)]] = Field(default=[1, 8])
    """Batch sizes to time."""


class SpeedSpec(Frozen):
    """The speed session: fresh processes, all models in each, timed in rotating blocks."""

    train_step: bool = True
    """Whether to time forward, backward and optimizer step."""
    prefill: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default=[])
    """Prompt lengths in tokens, batch 1; none longer than the context."""
    decode: DecodeSpec | None = None
    """Cached decoding, one token for each sequence of a batch."""
    processes: Annotated[int, Field(ge=2, le=100)] = 10
    """Fresh processes; at least 6 for any verdict, 10 for a headline."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """About how long the whole session may time, all processes together."""
    inputs: InputsSpec | None = later()
    """How much times differ over inputs of equal length."""
    memory_budget: MemorySpec | None = later()
    """Tokens a second of the largest batch that fits so many bytes."""
    offload: OffloadSpec | None = later()
    """Experts behind a memory map."""
    layer_parts: bool = later(False)
    """Whether to time the parts of a mixture's layers, at every prompt length and batch: what routing and dispatch
    take."""


class LmEvalSpec(Frozen):
    """Tasks of lm-eval, each measured on every model that is trained or loaded."""

    tasks: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=200)]] = Field(min_length=1)
    """Names of tasks, groups or tags, as `lm_eval ls tasks` lists them."""
    num_fewshot: Annotated[int, Field(ge=0, le=100)] | None = None
    """Examples before each question; the task's own number when absent."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """The first so many documents of each task; all when absent."""
    include_path: str | None = None
    """Folder of task files besides lm-eval's own, from the suite's folder."""
    online: bool = False
    """Whether data sets may be downloaded."""


class Measure(Frozen):
    """What is measured besides counts."""

    quality: list[Literal[QUALITY]] = Field(default=["bits_per_byte"])  # type: ignore[valid-type]
    """Quality on the test split. bits_per_byte is always measured; the others where they are asked for."""
    speed: SpeedSpec | None = None
    """The speed session; none when absent."""
    memory: bool = True
    """Whether claims may rest on peaks of tensor bytes. They are always measured, because suites share runs."""
    routing: bool = True
    """Whether claims may rest on the load of the experts. It is always recorded, because suites share runs."""
    probes: list[Literal[PROBES]] = later([])  # type: ignore[valid-type]
    """Probes of routing, measured on every mixture; a finished suite that asks for one trains nothing."""
    lm_eval: LmEvalSpec | None = later()
    """Tasks of lm-eval; none when absent."""


TunedField = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=100)]
"""A field of a model as a sweep names it: `ffn.balance_loss`, `train.optimizer.weight_decay`."""
TunedValues = Annotated[list[bool | int | float | str], Field(min_length=2, max_length=16)]


class Tune(Frozen):
    """A sweep on the `tune` split, with as many runs for each model it covers: `moebench run --tune`."""

    lr: list[PositiveFloat] = Field(min_length=3)
    """Peak learning rates to try, the same list for every model."""
    over: dict[TunedField, TunedValues] = later({}, max_length=2)
    """Up to two more fields of the models -> values to try, in every combination with the rates. A model without such
    a field (dense has no ffn.balance_loss) gets as many runs by more seeds."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Seeds per point; they are none of the suite's own seeds. From 3 on the sweep can tell how sure its choice is."""
    domain: str | None = later(max_length=200)
    """Of the tune split, the domain by which rates are chosen; the whole of it when absent. For stages that train on
    one domain, of which a rate that suits the whole is one that learns little."""
    models: list[Name] | None = later()
    """The models it covers, all when absent. The others' rates are transferred, and their verdicts say so."""


def _listed(value: Any) -> Any:
    """One name as the list of it."""
    return [value] if isinstance(value, str) else value


Names = Annotated[list[Name], BeforeValidator(_listed, json_schema_input_type=Name | list[Name])]


class Controls(Frozen):
    """Checks that prove the instrument itself; those but the first train short runs of their own."""

    same_model: Name | None = None
    """A model compared with itself over disjoint seeds: the difference's 99% interval must hold 0."""
    shuffled: Names = later([])
    """Models, or one, trained and scored on text in random order: none may beat a unigram model on it."""
    handicap: Name | None = later()
    """A mixture whose experts change places every tenth step: it must be found worse than without."""
    round_robin: Name | None = later()
    """A mixture against its twin that takes experts in turn: what its learned routing adds to its weights."""
    one_expert: Name | None = later()
    """A model whose network, as the one expert of a mixture, must give the same losses as the dense network."""
    steps: Annotated[int, Field(ge=1)] | None = later()
    """Optimizer steps of the short runs; a twentieth of the model's, at least 50, when absent."""


# ---------------------------------------------------------------------------------------------- the suite


def tag_of(model: Any) -> str:
    """The kind of a model, as it is written, or nearly so, or as its type."""
    if isinstance(model, Mapping):
        written = [key for key in TOLD_BY if key in model]
        if not written and not {"layers", "width", "heads", "ffn", "start"} & set(model):
            likely = (closest(key, TOLD_BY) for key in model if key not in ModelSpec.model_fields)
            written = [key for key in likely if key is not None]
        return TOLD_BY[written[0]] if written else ModelSpec.tag
    return str(getattr(model, "tag", ModelSpec.tag))


AnyModel = Annotated[
    Annotated[ModelSpec, Tag(ModelSpec.tag)]
    | Annotated[CheckpointModel, Tag(CheckpointModel.tag)]
    | Annotated[ExternalModel, Tag(ExternalModel.tag)]
    | Annotated[ExperimentModel, Tag(ExperimentModel.tag)],
    Discriminator(tag_of),
]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", max_length=100)]
"""Name of a metric, without labels."""


class SuiteSpec(Frozen):
    """A whole suite, resolved: no `base`, `sweep`, `extends` or `scales` is left."""

    suite: Name
    """Name of the suite, of its reports and of its plans."""
    question: Annotated[str, Field(min_length=1, max_length=400)]
    """The question the suite answers, in one sentence."""
    scale: str | None = None
    """The named scale chosen, None for the file's own values."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(min_length=1)
    """A number n in the file stands for 0 .. n-1."""
    looks: list[Annotated[int, Field(ge=1)]] = later([])
    """`seeds: {looks: [8, 12]}` in the file: after how many of the seeds it is judged, ascending; the last are all.
    Empty for one look, at all seeds."""
    data: DataSpec
    """Where the text comes from."""
    models: dict[Name, AnyModel]
    """The models, by name; none where every claim is about published systems or cited."""
    metrics: dict[MetricName, DeclaredMetric] = later({})
    """What metrics mean that moebench does not know, by name: those of external results."""
    sweeps: dict[Name, dict[Name, dict[str, float | str | bool]]] = Field(default={})
    """Swept model -> expanded model -> its swept keys and values; of a ladder its first key alone."""
    ladders: dict[Name, list[Name]] = later({})
    """Ladder -> its rungs, from small to large."""
    measure: Measure = Measure()
    """What is measured besides counts."""
    tune: Tune | None = None
    """The learning-rate sweep."""
    controls: Controls = Controls()
    """Checks that prove the instrument itself."""
    claims: dict[Name, Claim] = Field(default={})
    """The claims, by name."""

    @model_validator(mode="after")
    def _looks_at_its_seeds(self) -> SuiteSpec:
        if self.looks and (self.looks != sorted(set(self.looks)) or self.looks[-1] != len(self.seeds)):
            raise ValueError("the looks are not ascending numbers of its seeds")
        return self

    @property
    def first_seeds(self) -> list[int]:
        """Those of the first look; all where there is one look."""
        return self.seeds[: self.looks[0]] if self.looks else self.seeds

    @property
    def decoders(self) -> dict[Name, ModelSpec]:
        """Its models that moebench builds: trained ones, and those at their initial values."""
        return {name: model for name, model in self.models.items() if isinstance(model, ModelSpec)}

    def ffn_of(self, name: str) -> FFN:
        """The network of one of its decoders, as it is once everything is done that a stage does to it."""
        model = self.decoders[name]
        if model.transform is None or model.parent is None:
            return model.ffn
        ffn: FFN = model.transform.of_ffn(self.ffn_of(model.parent))
        return ffn

    @property
    def tasks(self) -> dict[Name, Task]:
        """The tasks with known answers that its data are; of other data none."""
        return self.data.tasks if isinstance(self.data, TasksData) else {}

    def began_with(self, name: str) -> str | None:
        """The model that one is trained on from; None of others."""
        model = self.decoders.get(name)
        return None if model is None or model.is_transformed else model.parent

    def latest(self, models: Sequence[str]) -> tuple[str, ...]:
        """Those of them that none of the others is trained on from, however many stages later: a stage may be held
        against what it begins with, whose text it has read too, whatever its own is."""
        before = set[str]()
        for name in models:
            start = self.began_with(name)
            while start is not None:
                before.add(start)
                start = self.began_with(start)
        return tuple(name for name in models if name not in before)

    def concerns(self, claim: Claim) -> tuple[Claim, ...]:
        """The claims with a metric that one rests on: itself, or those that it puts together."""
        if not claim.test.combines:
            return (claim,) if claim.test.measures else ()
        return tuple(self.claims[name] for name in claim.test.combines if name in self.claims)

    def known(self, domains: Sequence[str] = (), named: Sequence[str] = ()) -> Known:
        """What tells the parts of a claim; `domains` are those of the test split, `named` the metrics of tasks."""
        return Known(
            sweeps=self.sweeps,
            claims=self.claims,
            named=tuple(named),
            values=lambda label, models: every_value(self, label, models, domains),
        )

    @property
    def claim_hashes(self) -> dict[str, str]:
        """Hash of each claim, with those that it puts together."""
        return {
            name: digest_of(
                [one.hashed for one in (claim, *self.concerns(claim))] if claim.test.combines else claim.hashed
            )
            for name, claim in self.claims.items()
        }

    @property
    def declared(self) -> dict[str, Metric]:
        """The metrics that only this suite knows: its own, its experiments', and those of lm-eval that its claims are
        about."""
        claimed = tasks.of_names(name for claim in self.claims.values() for name in claim.metrics)
        of_experiments = {
            metric.name: metric
            for model in self.models.values()
            if isinstance(model, ExperimentModel)
            for metric in EXPERIMENTS[model.experiment].metrics
        }
        return {**claimed, **of_experiments, **{name: one.metric(name) for name, one in self.metrics.items()}}

    def data_of(self, model: str) -> DataSpec:
        """What a model reads: the suite's data, under its own tokenizer where it has one."""
        decoder = self.decoders.get(model)
        own = decoder.data if decoder is not None else None
        if own is None or own.tokenizer is None:
            return self.data
        return self.data.model_copy(update={"tokenizer": own.tokenizer})

    def view_of(self, model: str) -> TrainingView:
        """What of the training split a model is trained on."""
        decoder = self.decoders.get(model)
        own = decoder.data if decoder is not None else None
        return WHOLE if own is None else own.as_view()

    @property
    def retold(self) -> tuple[str, ...]:
        """The models whose tokenizer is another than the suite's."""
        return tuple(name for name in self.decoders if self.data_of(name).tokenizer != self.data.tokenizer)

    @property
    def apart(self) -> tuple[str, ...]:
        """The models whose tokens are others than the suite's: of another tokenizer, or of a part of the text."""
        retold = self.retold
        return tuple(name for name in self.decoders if name in retold or self.view_of(name).selects)
