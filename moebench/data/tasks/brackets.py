"""`brackets`: which bracket closes next, in nested brackets of several kinds. It takes counting, not storing: strings
are drawn anew, and how deep they nest is bounded."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import Bits, Question, Score, Task, below, uniform_chance, written


class Brackets(Task):
    """Which bracket closes next."""

    says = "the bracket that closes next, in nested brackets of several kinds; every string is new"

    kind: Literal["brackets"]
    """brackets: which bracket closes next."""
    kinds: Annotated[int, Field(ge=2, le=16)] = 8
    """Of brackets, each with an opening and a closing symbol."""
    depth: Annotated[int, Field(ge=1, le=16)] = 4
    """How deep they nest."""
    length: Annotated[int, Field(ge=4, le=64)] = 13
    """Symbols of a prompt; an odd number of them is never balanced."""

    @model_validator(mode="after")
    def _odd(self) -> Brackets:
        if self.length % 2 == 0:
            raise ValueError(f"{self.length} symbols may balance, and then nothing closes: give an odd number")
        return self

    def all(self, bits: Bits) -> None:  # noqa: ARG002
        return None

    def draw(self, bits: Bits, count: int) -> list[Question]:
        """Each symbol opens or closes by a fair coin, where both are possible."""
        coins, which = below(bits, 2, count, self.length), below(bits, self.kinds, count, self.length)
        open_ND = np.zeros((count, self.depth + 1), dtype=np.int64)
        depth, rows = np.zeros(count, dtype=np.int64), np.arange(count)
        out = np.empty((count, self.length), dtype=np.int64)
        for place in range(self.length):
            opens = (depth == 0) | ((coins[:, place] == 1) & (depth < self.depth))
            top = open_ND[rows, np.maximum(depth - 1, 0)]
            out[:, place] = np.where(opens, which[:, place], top + self.kinds)
            open_ND[rows[opens], depth[opens]] = which[opens, place]
            depth += np.where(opens, 1, -1)
        last = open_ND[rows, depth - 1] + self.kinds
        return [Question(prompt=one, answer=two) for one, two in zip(written(out), written(last[:, None]), strict=True)]

    def chance(self) -> Score:
        return uniform_chance(self.kinds)

    @property
    def longest(self) -> int:
        return self.length + 1
