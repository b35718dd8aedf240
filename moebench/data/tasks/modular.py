"""`modular`: sums modulo a number. Few sums can be learned by heart, which is recall and no arithmetic; so a fifth of
them never trains, and that part is the task's score."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import Bits, Question, Score, Symbols, Task, digits, uniform_chance, written

MOST = 1 << 20


class Modular(Task):
    """Sums modulo a number."""

    says = "sums modulo a number; a fifth of the sums are never trained"
    parts = ("seen", "new")

    kind: Literal["modular"]
    """modular: sums modulo a number."""
    modulus: Symbols = 10
    """The number."""
    terms: Annotated[int, Field(ge=2, le=8)] = 3
    """Numbers added."""

    @model_validator(mode="after")
    def _fits(self) -> Modular:
        if self.modulus**self.terms > MOST:
            raise ValueError(f"{self.modulus}^{self.terms} sums are more than {MOST:,}")
        return self

    def all(self, bits: Bits) -> list[Question]:  # noqa: ARG002
        terms = digits(np.arange(self.modulus**self.terms), self.modulus, self.terms)
        sums = terms.sum(axis=1, keepdims=True) % self.modulus
        return [Question(prompt=one, answer=two) for one, two in zip(written(terms), written(sums), strict=True)]

    def chance(self) -> Score:
        return uniform_chance(self.modulus)

    @property
    def longest(self) -> int:
        return self.terms + 1
