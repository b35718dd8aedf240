"""One arm of a published experiment as a model of a suite."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from moebench.amounts import FieldError
from moebench.experiments import EXPERIMENTS
from moebench.frozen import Frozen
from moebench.text import listed, nearest, quoted


class ExperimentModel(Frozen):
    """What an experiment that is no language model gives for one of its arms, with each seed."""

    tag: ClassVar[str] = "experiment"

    experiment: Literal[tuple(EXPERIMENTS)]  # type: ignore[valid-type]
    """Which experiment."""
    arm: str
    """Which of its arms."""

    @model_validator(mode="after")
    def _one_of_its_arms(self) -> ExperimentModel:
        arms = EXPERIMENTS[self.experiment].arms
        if self.arm not in arms:
            hint = nearest(self.arm, arms) or f"its arms are {listed(list(arms), last='and')}"
            raise FieldError("arm", f"{self.experiment} has no arm {quoted(self.arm)}: {hint}")
        return self
