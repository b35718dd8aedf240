"""`path`: where a walk of some steps ends in a graph that the prompt lists. Graphs are drawn anew for every question,
so nothing can be stored; it takes attention to the prompt, once a step (Jelassi et al. 2024, arXiv:2410.19034)."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import Bits, Question, Score, Symbols, Task, below, uniform_chance, written


class PathTask(Task):
    """A walk in a graph that the prompt lists."""

    says = "the end of a walk in a graph that the prompt lists as edges; every graph is new"

    kind: Literal["path"]
    """path: a walk in a graph of the prompt."""
    edges: Annotated[int, Field(ge=2, le=32)] = 6
    """Edges of the graph, which is one ring: as many as nodes."""
    steps: Annotated[int, Field(ge=1, le=6)] = 1
    """Of the walk."""
    symbols: Symbols = 16
    """Names of nodes."""

    @model_validator(mode="after")
    def _fits(self) -> PathTask:
        if self.edges > self.symbols:
            raise ValueError(f"a ring of {self.edges} edges has more nodes than the {self.symbols} symbols")
        if self.steps % self.edges == 0:
            raise ValueError(f"a walk of {self.steps} steps in a ring of {self.edges} ends where it began")
        return self

    def all(self, bits: Bits) -> None:  # noqa: ARG002
        return None

    def draw(self, bits: Bits, count: int) -> list[Question]:
        ring = np.argsort(np.asarray(bits.random_raw(count * self.symbols)).reshape(count, -1), axis=1, kind="stable")
        ring = ring[:, : self.edges]
        order = np.argsort(np.asarray(bits.random_raw(count * self.edges)).reshape(count, -1), axis=1, kind="stable")
        edges = np.stack([ring, np.roll(ring, -1, axis=1)], axis=2)[np.arange(count)[:, None], order]
        start = below(bits, self.edges, count)
        first, last = ring[np.arange(count), start], ring[np.arange(count), (start + self.steps) % self.edges]
        prompts = written(np.concatenate([edges.reshape(count, -1), first[:, None]], axis=1))
        return [Question(prompt=one, answer=two) for one, two in zip(prompts, written(last[:, None]), strict=True)]

    def chance(self) -> Score:
        """Who reads which nodes there are, and nothing of the edges: any but the start."""
        return uniform_chance(self.edges - 1)

    @property
    def longest(self) -> int:
        return 2 * self.edges + 2

    @property
    def layers_needed(self) -> int:
        return 1 + self.steps
