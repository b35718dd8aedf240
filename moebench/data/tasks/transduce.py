"""`transduce`: a word into another by rule, a small stand-in for translation: letters are read backwards, each is
spelled by the table of the word's rule, and an ending of that rule is added. Words are drawn anew: the rules are what
is learned."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from moebench.data.tasks.task import ALPHABET, Bits, Question, Score, Task, below, shuffled, uniform_chance, written
from moebench.seeds import generator


class Transduce(Task):
    """A word into another by rule."""

    says = "a word spelled by the table of its rule, backwards or not, with an ending; every word is new"

    kind: Literal["transduce"]
    """transduce: a word into another by rule."""
    letters: Annotated[int, Field(ge=2, le=48)] = 16
    """Of words."""
    length: Annotated[int, Field(ge=1, le=32)] = 5
    """Letters of a word."""
    rules: Annotated[int, Field(ge=1, le=48)] = 8
    """Tables of spelling, each with an ending of two letters."""
    backwards: bool = True
    """Whether the last letter comes first."""

    @model_validator(mode="after")
    def _fits(self) -> Transduce:
        if self.letters + self.rules > len(ALPHABET):
            raise ValueError(f"{self.letters} letters and {self.rules} rules need more than {len(ALPHABET)} symbols")
        return self

    def all(self, bits: Bits) -> None:  # noqa: ARG002
        return None

    def draw(self, bits: Bits, count: int) -> list[Question]:
        fixed = generator(0, f"data.tasks.transduce.{self.letters}.{self.rules}").bit_generator
        tables = np.stack([shuffled(fixed, self.letters) for _ in range(self.rules)])
        endings = below(fixed, self.letters, self.rules, 2)
        rule, words = below(bits, self.rules, count), below(bits, self.letters, count, self.length)
        spelled = tables[rule[:, None], words[:, ::-1] if self.backwards else words]
        prompts = written(np.concatenate([rule[:, None] + self.letters, words], axis=1))
        answers = written(np.concatenate([spelled, endings[rule]], axis=1))
        return [Question(prompt=one, answer=two) for one, two in zip(prompts, answers, strict=True)]

    def chance(self) -> Score:
        return uniform_chance(self.letters, self.length + 2)

    @property
    def longest(self) -> int:
        return 1 + self.length + self.length + 2
