"""What a plan holds of a task: its leak rule, chance and ceiling, so that a report needs no generator."""

from __future__ import annotations

from typing import Literal

from moebench.frozen import Frozen


class KnownTask(Frozen):
    """A task of the data, and what there is to know of its scores."""

    kind: str
    """A word of `data.tasks.TASKS`."""
    tested_on: Literal["training", "new"]
    """Whether its score is of questions that stood in training, or of others."""
    questions: dict[str, int]
    """`seen` and `new` -> questions of the test split that stood in training, and that did not."""
    trained: int
    """Documents of it in training, repeats counted."""
    chance: float
    """Share of answers that guessing gets right."""
    ceiling: float
    """Share that the best possible reader gets right."""
    chance_bits: float
    """Of an answer, for who guesses."""
    ceiling_bits: float
    """Of an answer, for the best possible reader."""
    facts: int | None = None
    """Facts to be stored, for a task that is about storing."""
    fact_bits: float | None = None
    """Of each."""
    layers_needed: int = 1
    """Layers below which width does not help."""
