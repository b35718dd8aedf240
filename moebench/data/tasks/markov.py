"""`markov`: the next symbol of a Markov source, a ladder of difficulty by its order. What the best reader gets is
computed from the source's table, not estimated: its entropy rate in bits, and how often the likeliest symbol comes."""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from moebench.data.markov import Floats, entropy_bits, entropy_rate_bits, sample, stationary, transitions
from moebench.data.tasks.task import Bits, Question, Score, Task, written
from moebench.seeds import generator


class Markov(Task):
    """The next symbol of a Markov source."""

    says = "the next symbol of a Markov source whose entropy is known"
    is_determined = False
    asks = b""

    kind: Literal["markov"]
    """markov: the next symbol of a Markov source."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """Symbols the next one depends on."""
    symbols: Annotated[int, Field(ge=2, le=32)] = 8
    """There are."""
    length: Annotated[int, Field(ge=4, le=64)] = 12
    """Symbols of a prompt and its answer, which is the last."""

    @model_validator(mode="after")
    def _fits(self) -> Markov:
        if self.length <= self.order:
            raise ValueError(f"{self.length} symbols do not show an order of {self.order}")
        return self

    def all(self, bits: Bits) -> None:  # noqa: ARG002
        return None

    def draw(self, bits: Bits, count: int) -> list[Question]:
        table, kept = _source(self.order, self.symbols)
        rows = written(sample(bits, table, kept, documents=count, length=self.length))
        return [Question(prompt=row[:-1], answer=row[-1:]) for row in rows]

    def chance(self) -> Score:
        """Who knows how often each symbol comes, and nothing of those before."""
        _, kept = _source(self.order, self.symbols)
        alone = kept.reshape(-1, self.symbols).sum(axis=0)
        return Score(accuracy=float(alone.max()), bits=float(entropy_bits(alone)))

    def ceiling(self) -> Score:
        table, kept = _source(self.order, self.symbols)
        return Score(accuracy=float(kept @ table.max(axis=1)), bits=entropy_rate_bits(table, kept))

    @property
    def longest(self) -> int:
        return self.length


@functools.lru_cache(maxsize=16)
def _source(order: int, symbols: int) -> tuple[Floats, Floats]:
    """The table of a source, and the distribution over states that it keeps."""
    table = transitions(
        generator(0, f"data.tasks.markov.{order}.{symbols}").bit_generator, symbols=symbols, order=order
    )
    return table, stationary(table)
