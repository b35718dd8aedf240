"""What is planned of each model, and of the text it reads: sizes, counts, where it comes from. Types only.

A model is one of three kinds, told apart by a key: a decoder that moebench builds, a checkpoint, or numbers that
somebody measured elsewhere. `types` puts them together into a plan.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from moebench.amounts import Name
from moebench.counting.blueprint import Blueprint
from moebench.counting.costs import Costs
from moebench.data.tasks.known import KnownTask
from moebench.frozen import Frozen, later
from moebench.jobs.recipe import Recipe
from moebench.models.architecture import Architecture
from moebench.models.transforms import Stage, Transform
from moebench.plugins import PluginCode
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.experiment import ExperimentModel
from moebench.suite.external import ExternalModel
from moebench.suite.model import ModelSpec
from moebench.suite.types import tag_of


class TextFacts(Frozen):
    """The text of the splits, whatever reads it as tokens."""

    digest: str
    """The data digest that it has as bytes."""
    splits: dict[str, str]
    """Split -> digest that it has as bytes."""
    num_bytes: dict[str, int]
    """Split -> bytes of text."""


class DataFacts(Frozen):
    """What a data source turned out to be."""

    source: str
    digest: str
    documents: dict[str, int]
    """Split -> documents."""
    tokens: dict[str, int]
    """Split -> tokens."""
    domains: tuple[str, ...]
    test_domains: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Those of them that the test split has documents of; None where that was not recorded."""
    leak_share: float
    """Share of the test split's 50-byte windows that also occur in the training split; of tasks, of the questions that
    are to be new."""
    leak_threshold: float
    plugin: PluginCode | None = Field(default=None, exclude_if=lambda value: value is None)
    """The code of a source of an installed package; it is part of the digest."""
    versions: dict[str, str] = Field(default={}, exclude_if=lambda value: not value)
    """What the text is from -> its version, where the source names versions; they are part of the digest."""
    entropy_bits_per_byte: float | None = None
    """Exact entropy rate where it is known (synthetic sources)."""
    unigram_bits_per_byte: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """What the test split costs a model that knows only how often each token occurs in the training split; None in
    plans that were stored before it was computed."""
    tokenizer: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Digest of the tokenizer; None where one byte is one token."""
    vocab: int = Field(default=256, exclude_if=lambda value: value == 256)
    """Tokens it has."""
    unseen: dict[str, float] = later({})
    """Domain of the test split that a part of the text has none of -> share of its trigrams that stand nowhere in the
    part: it has other words too."""
    text: TextFacts | None = Field(default=None, exclude_if=lambda value: value is None)
    """The text under the tokens; None where they are its bytes."""
    tasks: dict[str, KnownTask] = later({})
    """Domain -> the task with known answers that it is; of other text none."""
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> str:
        """What of the test split is looked for in training."""
        return "questions that are to be new" if self.tasks else "50-byte windows"

    @property
    def text_digest(self) -> str:
        """Of the split texts: equal where the same documents stand in the same splits, whatever the tokenizers."""
        return self.digest if self.text is None else self.text.digest

    def bytes_of(self, split: str) -> int | None:
        """Bytes of text in a split, what stands between documents not counted; None when that is not known."""
        if self.text is not None:
            return self.text.num_bytes.get(split)
        tokens, documents = self.tokens.get(split), self.documents.get(split)
        return None if tokens is None or documents is None else tokens - documents


class PlannedStart(Frozen):
    """A checkpoint whose weights a model starts from."""

    checkpoint: str
    """As the suite names it."""
    digest: str
    """Hash of its files of weights."""


class PlannedAt(Frozen):
    """A point of a training that another model starts from: after so many steps, or where its loss on the tune split
    first is no more than a number, or than a model's at its end."""

    steps: int | None = later()
    bits_per_byte: float | None = later()
    other: Name | None = later()


class PlannedDerivation(Stage):
    """The run that a model starts from, and what is done to its weights there: nothing where it is trained on."""

    model: Name
    """The model of the plan whose run with the same seed it is."""
    at: PlannedAt | None = later()
    """The point of that run; None for its end."""


class PlannedModel(Frozen):
    """A decoder of ours."""

    tag: ClassVar[str] = ModelSpec.tag

    architecture: Architecture
    recipe: Recipe
    costs: Costs
    expected_train_flops: float
    """Model FLOPs of the whole run."""
    start: PlannedStart | None = later()
    """The checkpoint that it is trained on from; None where its initial values are drawn."""
    derived: PlannedDerivation | None = later()
    """The model of the plan that it starts from; None where it starts from none."""

    @property
    def transform(self) -> Transform | None:
        """What is done to the weights of another model, of one that is not trained itself."""
        return None if self.derived is None else self.derived.transform

    @property
    def trains(self) -> bool:
        """Whether it has a training of its own."""
        return self.recipe.trains and self.transform is None

    @property
    def blueprint(self) -> Blueprint:
        return self.architecture.blueprint

    @property
    def train_tokens(self) -> int:
        """Of its whole training."""
        return self.recipe.steps * self.recipe.batch_tokens


class PlannedCheckpoint(Frozen):
    """A published checkpoint: what it is, from its configuration and the headers of its files."""

    tag: ClassVar[str] = CheckpointModel.tag

    checkpoint: str
    """As the suite names it."""
    revision: str | None = None
    family: str
    """Its class of transformers, such as MixtralForCausalLM; `moebench` for a run of ours."""
    model_type: str
    """What its configuration calls the family; `moebench` for a run of ours."""
    digest: str
    """Hash of its configuration, its tokenizer and its weights' files."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """It is loaded in."""
    experts: str
    """How its experts are computed; `none` for a dense model."""
    blueprint: Blueprint
    """With the context of the suite's windows, where that is shorter than its own."""
    costs: Costs
    longest: int
    """Longest sequence in tokens that it was made for."""
    files: int
    """Of its weights."""
    file_bytes: int
    """Of its weights as they are stored."""
    device_map: str | None = None
    """As transformers takes it; None for all of it on the machine's device."""
    native: bool = later(False)
    """Whether our own decoder computes it."""


class PlannedExternal(Frozen):
    """A model whose numbers were measured elsewhere."""

    tag: ClassVar[str] = ExternalModel.tag

    results: str
    """As the suite names the file or folder."""
    form: Literal["table", "lm_eval"]
    """A tidy table, or a folder that lm-eval wrote."""
    model: str
    """Its name there."""
    sha256: str
    """Hash of what was read."""
    seeds: tuple[int, ...]
    """Those of its runs that the suite has too, in order; one for a single run."""
    single: bool
    """Whether it is one run, which says nothing of other seeds."""
    blueprint: Blueprint | None = None
    """From its config.json, where the suite names one."""
    costs: Costs | None = None
    counts: dict[str, float] = later({})
    """Counted metric -> its value, where the suite or the table gives it."""
    notes: tuple[str, ...] = later(())
    """What of its file is left out, and why."""


class PlannedExperiment(Frozen):
    """An arm of an experiment that is no language model."""

    tag: ClassVar[str] = ExperimentModel.tag

    experiment: str
    arm: str
    version: int
    """Of its code."""
    says: str
    """What the arm is."""
    source: str
    """Where the experiment was published."""

    @property
    def blueprint(self) -> None:
        """It is not counted as a language model is."""

    @property
    def costs(self) -> None:
        """Nor are its costs."""


AnyPlanned = Annotated[
    Annotated[PlannedModel, Tag(PlannedModel.tag)]
    | Annotated[PlannedCheckpoint, Tag(PlannedCheckpoint.tag)]
    | Annotated[PlannedExternal, Tag(PlannedExternal.tag)]
    | Annotated[PlannedExperiment, Tag(PlannedExperiment.tag)],
    Discriminator(tag_of),
]
