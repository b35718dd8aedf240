"""`copy`: the prompt once more. Strings are drawn anew, so nothing can be stored: it takes attention to the context."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moebench.data.tasks.task import Bits, Question, Score, Symbols, Task, below, uniform_chance, written


class Copy(Task):
    """The prompt once more."""

    says = "a string of the prompt once more; every string is new"

    kind: Literal["copy"]
    """copy: the prompt once more."""
    length: Annotated[int, Field(ge=1, le=64)] = 8
    """Symbols of the string."""
    symbols: Symbols = 32
    """There are."""

    def all(self, bits: Bits) -> None:  # noqa: ARG002
        return None

    def draw(self, bits: Bits, count: int) -> list[Question]:
        return [Question(prompt=one, answer=one) for one in written(below(bits, self.symbols, count, self.length))]

    def chance(self) -> Score:
        return uniform_chance(self.symbols, self.length)

    @property
    def longest(self) -> int:
        return 2 * self.length
