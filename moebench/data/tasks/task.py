"""What a task is: questions whose answers are known, and what is known of who answers them.

A task says what guessing gets (chance) and what the best possible reader gets (ceiling), in the share of answers that
are right and in bits of an answer, so that a difference between two models can be told from none being possible. It
says its leak rule too: `training` where the questions tested are those trained on, because recalling them is the task;
`new` where they never stood there. Questions that can all be written down are divided: a fifth never trains, and both
parts are tested. All is drawn from raw PCG64 bits: the same spec gives the same questions everywhere.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moebench.frozen import Frozen

ALPHABET = bytes(range(48, 112))
"""The bytes that stand for symbols, in every task the same."""
HELD_OUT_SHARE = 0.2
"""Of the questions that can all be written down."""
Symbols = Annotated[int, Field(ge=2, le=len(ALPHABET))]

Bits = np.random.BitGenerator
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and its answer, each in bytes of the alphabet."""

    prompt: bytes
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """What some reader of a task gets."""

    accuracy: float
    """Share of answers that are right in every byte."""
    bits: float
    """Of an answer."""


class Task(Frozen):
    """A task of a suite. One redefines `kind` as the literal of its word, and adds what it asks for."""

    says: ClassVar[str]
    """One line for the documentation and for lm-eval."""
    tested_on: ClassVar[Literal["training", "new"]] = "new"
    """The leak rule: whether its score is of questions that stood in training, or of others."""
    parts: ClassVar[tuple[str, ...]] = ("new",)
    """What is tested: `seen`, questions that stood in training, and `new`."""
    is_determined: ClassVar[bool] = True
    """Whether a prompt has one answer; where it is drawn, that a question was trained on tells little of it."""
    asks: ClassVar[bytes] = b"|"
    """What stands before the answer."""

    kind: str
    """Word of the task."""

    @abstractmethod
    def all(self, bits: Bits) -> list[Question] | None:
        """Every question there is, each once; None where there are too many, and they are drawn."""

    def draw(self, bits: Bits, count: int) -> list[Question]:
        """Questions drawn independently, for a task whose questions cannot all be written down."""
        raise NotImplementedError

    def besides(self) -> list[Question]:
        """Questions that train and are never tested: the steps that the tested ones are made of."""
        return []

    @abstractmethod
    def chance(self) -> Score:
        """Who knows the form of the answers and how often each occurs, and nothing of the questions."""

    def ceiling(self) -> Score:
        """Who knows all there is to know."""
        return Score(accuracy=1.0, bits=0.0)

    @property
    @abstractmethod
    def longest(self) -> int:
        """Bytes of the longest prompt and answer together."""

    @property
    def layers_needed(self) -> int:
        """Layers below which width does not help, as a step of the answer needs the one before; 1 where none does."""
        return 1

    @property
    def facts(self) -> tuple[int, float] | None:
        """How many facts must be stored to answer, and bits of each; None for a task that is not about storing."""
        return None


def below(bits: Bits, limit: int, *shape: int) -> Numbers:
    """Whole numbers in [0, limit), from raw draws: from the upper half of each, so that no later numpy changes them."""
    raw = np.asarray(bits.random_raw(int(np.prod(shape))), dtype=np.uint64).reshape(shape)
    drawn: Numbers = ((raw >> np.uint64(32)) * np.uint64(limit) >> np.uint64(32)).astype(np.int64)
    return drawn


def shuffled(bits: Bits, count: int) -> Numbers:
    """A permutation of 0 .. count - 1."""
    order: Numbers = np.argsort(np.asarray(bits.random_raw(count)), kind="stable").astype(np.int64)
    return order


def written(symbols: NDArray[np.integer]) -> list[bytes]:
    """Rows of symbols as bytes of the alphabet."""
    letters = np.frombuffer(ALPHABET, dtype=np.uint8)[symbols]
    return [row.tobytes() for row in letters]


def digits(numbers: Numbers, base: int, places: int) -> Numbers:
    """Numbers as digits, the first the highest: [n, places]."""
    return numbers[:, None] // base ** np.arange(places - 1, -1, -1) % base


def uniform_chance(choices: int, places: int = 1) -> Score:
    """Of an answer of so many symbols, each as likely as any other."""
    return Score(accuracy=float(choices) ** -places, bits=places * float(np.log2(choices)))
