"""`chain`: functions applied one after the other. Their tables are fixed, and each value stands in training alone; what
is asked is a composition, of which a fifth never stood there. A hop needs the one before, so a decoder of too few
layers cannot answer whatever its width (`layers_needed`)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import ALPHABET, Bits, Question, Score, Task, digits, shuffled, uniform_chance, written
from moebench.seeds import generator

MOST = 1 << 20
"""Questions that are written down."""


class Chain(Task):
    """Composition of fixed functions: f(g(x))."""

    says = "composition of fixed functions: a start and the functions to apply, compositions that were never trained"
    parts = ("seen", "new")

    kind: Literal["chain"]
    """chain: composition of fixed functions."""
    symbols: Annotated[int, Field(ge=2, le=56)] = 16
    """Values that the functions take and give."""
    functions: Annotated[int, Field(ge=1, le=56)] = 8
    """There are, each a permutation of the symbols."""
    hops: Annotated[int, Field(ge=2, le=6)] = 2
    """Functions applied one after the other."""

    @model_validator(mode="after")
    def _fits(self) -> Chain:
        if self.symbols + self.functions > len(ALPHABET):
            raise ValueError(
                f"{self.symbols} symbols and {self.functions} functions need more than the {len(ALPHABET)} there are"
            )
        if self.symbols * self.functions**self.hops > MOST:
            raise ValueError(f"{self.symbols} x {self.functions}^{self.hops} questions are more than {MOST:,}")
        return self

    def all(self, bits: Bits) -> list[Question]:  # noqa: ARG002
        return self._of(self.hops)

    def besides(self) -> list[Question]:
        return self._of(1)

    def _of(self, hops: int) -> list[Question]:
        fixed = generator(0, f"data.tasks.chain.{self.symbols}.{self.functions}").bit_generator
        tables = np.stack([shuffled(fixed, self.symbols) for _ in range(self.functions)])
        value, which = np.divmod(np.arange(self.symbols * self.functions**hops), self.functions**hops)
        applied = digits(which, self.functions, hops)
        prompts = written(np.concatenate([value[:, None], applied + self.symbols], axis=1))
        for hop in range(hops):
            value = tables[applied[:, hop], value]
        return [Question(prompt=one, answer=two) for one, two in zip(prompts, written(value[:, None]), strict=True)]

    def chance(self) -> Score:
        return uniform_chance(self.symbols)

    @property
    def longest(self) -> int:
        return 1 + self.hops + 1

    @property
    def layers_needed(self) -> int:
        return self.hops
