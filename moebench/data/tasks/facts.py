"""`facts`: random values of random keys, to be recalled. Nothing but storing them helps (Jelassi et al. 2024,
arXiv:2410.19034), so what is tested are the facts that were trained on: the leak rule is `training`."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import Bits, Question, Score, Symbols, Task, below, digits, uniform_chance, written


class Facts(Task):
    """Closed-book recall: a random value of every key."""

    says = "recall of random facts: the value of a key, tested on the facts that were trained on"
    tested_on = "training"
    parts = ("seen",)

    kind: Literal["facts"]
    """facts: recall of random facts."""
    pairs: Annotated[int, Field(ge=16, le=1 << 17)] = 512
    """How many."""
    key: Annotated[int, Field(ge=1, le=8)] = 2
    """Symbols of a key."""
    value: Annotated[int, Field(ge=1, le=8)] = 2
    """Symbols of a value."""
    symbols: Symbols = 64
    """There are."""

    @model_validator(mode="after")
    def _keys_enough(self) -> Facts:
        if self.pairs > self.symbols**self.key:
            raise ValueError(
                f"{self.pairs:,} pairs need as many keys, and {self.key} of {self.symbols} symbols make "
                f"{self.symbols**self.key:,}: give longer keys"
            )
        return self

    def all(self, bits: Bits) -> list[Question]:
        keys = np.empty(0, dtype=np.int64)
        while len(keys) < self.pairs:  # the first so many that differ
            keys = np.concatenate([keys, below(bits, self.symbols**self.key, self.pairs)])
            keys = keys[np.sort(np.unique(keys, return_index=True)[1])]
        values = below(bits, self.symbols, self.pairs, self.value)
        prompts = written(digits(keys[: self.pairs], self.symbols, self.key))
        return [Question(prompt=one, answer=other) for one, other in zip(prompts, written(values), strict=True)]

    def chance(self) -> Score:
        return uniform_chance(self.symbols, self.value)

    @property
    def longest(self) -> int:
        return self.key + self.value

    @property
    def facts(self) -> tuple[int, float]:
        return self.pairs, self.value * float(np.log2(self.symbols))
