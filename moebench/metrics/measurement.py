"""A measurement: metrics that are measured together, on one subject, after it was made.

Each is a job of its own, so one that is asked for later trains nothing. It sees the subject through its protocol, and
what to read through a `Context`; it writes no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from moebench.metrics.metric import Metric, Record
from moebench.models.subject import Subject, Trainable


class NotFinite(ValueError):  # noqa: N818  reads as what happened
    """A subject gave a number that is not finite; the message names it."""


class Asked(Protocol):
    """Which scored targets answer a question, of windows that are one question each."""

    @property
    def mask(self) -> NDArray[Any]:
        """[N, T], true where a target belongs to the answer."""

    @property
    def task(self) -> Sequence[str]:
        """[N], the name of each window's task."""

    @property
    def seen(self) -> NDArray[Any]:
        """[N], whether the question stood in training."""

    @property
    def counts(self) -> NDArray[Any]:
        """[N], whether the task's score is of it: by its leak rule, of those that trained or of the others."""

    @property
    def facts(self) -> Mapping[str, tuple[int, float]]:
        """Task -> facts to be stored and bits of each, of tasks that are about storing."""


class ScoredText(Protocol):
    """What an evaluation scores: N windows of T tokens, each of one document."""

    @property
    def inputs(self) -> NDArray[Any]:
        """[N, T]"""

    @property
    def targets(self) -> NDArray[Any]:
        """[N, T]"""

    @property
    def mask(self) -> NDArray[Any]:
        """[N, T], true where a target is scored."""

    @property
    def document(self) -> NDArray[Any]:
        """[N], index into the documents."""

    @property
    def text_bytes(self) -> NDArray[Any] | None:
        """[N], bytes of text that each window's scored tokens stand for; None where each token says its own."""

    @property
    def asked(self) -> Asked | None:
        """Where the answers are, of windows that are questions."""


class Document(Protocol):
    """A document of the text."""

    @property
    def name(self) -> str: ...
    @property
    def domain(self) -> str: ...


class Context(Protocol):
    """What a measurement may look at; each is made when it is first asked for."""

    @property
    def subject(self) -> Subject: ...
    @property
    def trainable(self) -> Trainable | None:
        """The subject and an optimizer, for what is measured in a training step; None for one that is not trained."""

    @property
    def split(self) -> str:
        """Of the text: `test`, or `tune` in a learning-rate sweep."""

    @property
    def text(self) -> ScoredText: ...
    @property
    def documents(self) -> Sequence[Document]: ...
    @property
    def batch(self) -> NDArray[Any]:
        """A micro-batch of training text in the subject's tokens, [sequences, context + 1]."""

    @property
    def trained_text(self) -> ScoredText | None:
        """Text that it was trained on, of its own part of the data; None where that is not known."""

    @property
    def training_tokens(self) -> NDArray[Any] | None:
        """All of the text it was trained on, in its tokens, perhaps as a file; None where that is not known."""

    @property
    def step(self) -> int | None:
        """Training steps behind the subject."""

    @property
    def losses(self) -> NDArray[Any] | None:
        """Training loss of each step, [steps], in bits a token; None of one that was not trained here."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a measurement."""

    records: list[Record]
    items: list[dict[str, Any]] | None = None
    """One row a document, where it has them."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How metrics are measured together."""

    name: str
    metrics: tuple[Metric, ...]
    """What it gives, with or without labels."""
    measure: Callable[[Context], Measured]
    version: int = 1
    """Raised when it would give other numbers."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What else decides its numbers: `code`, of an installed package's."""
    of_training: bool = False
    """Whether it is of a training step, and so of trained models alone."""
    of_memory: bool = False
    """Whether it is of weights as they lie in memory, and so of no model whose weights are unpacked to be used."""
    optional: bool = False
    """Whether a suite asks for it by its name; the others are always made."""
    under: Literal["quality", "probes"] = "quality"
    """The list of a suite's `measure` block that has the name."""
    of_mixtures: bool = False
    """Whether a dense model has nothing of it."""
