"""What is known of a task of lm-eval before it runs: it travels in the plan, so nobody else asks lm-eval.

A task's metrics are `lm_eval.<metric>[task=NAME]`, with direction and version from its own configuration; where it
filters its answers in several ways, the way is part of the name: `[task=gsm8k:strict-match]`. Nothing of lm-eval is
imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from moebench.frozen import Frozen, later
from moebench.metrics.ref import labelled
from moebench.metrics.tasks import CHANCE, CUT, GROUP

UNFILTERED = "none"
"""lm-eval's name for answers that are taken as they come."""


class TaskMetric(Frozen):
    """One number of a task."""

    metric: str
    """lm-eval's own name."""
    filter: str = UNFILTERED
    better: Literal["lower", "higher"]

    @property
    def key(self) -> str:
        """How lm-eval's results name it."""
        return f"{self.metric},{self.filter}"


class TaskFacts(Frozen):
    """A task, or a group of them that is scored as one."""

    name: str
    members: tuple[str, ...] = later(())
    """Its tasks, where it is a group."""
    output: str
    """What kind of requests it makes: multiple_choice, loglikelihood, loglikelihood_rolling, generate_until, mixed."""
    metrics: tuple[TaskMetric, ...]
    version: str
    num_fewshot: int
    """Examples before each question."""
    limit: int | None = None
    """The first so many documents; all when absent."""
    choices: int | None = None
    """Of each question, where the configuration says it of all."""
    written: int | None = None
    """Most tokens that are generated after a prompt; absent where none are."""
    digest: str
    """Of the configuration, of files of its data, and of code beside it."""
    harness: str
    """Version of lm-eval."""

    def named(self, metric: TaskMetric) -> str:
        """The metric's full name here."""
        filters = {one.filter for one in self.metrics}
        task = self.name if len(filters) == 1 else f"{self.name}:{metric.filter}"
        return labelled(f"{GROUP}.{word(metric.metric)}", task=task)

    @property
    def chance(self) -> str | None:
        """The full name of what guessing gets on it; None for a task of no choices."""
        return labelled(CHANCE, task=self.name) if self.output == "multiple_choice" else None

    @property
    def cut(self) -> str:
        """The full name of the share of its prompts that did not fit."""
        return labelled(CUT, task=self.name)

    @property
    def conditions(self) -> str:
        """What must be the same for two models to be compared on it."""
        return f"{self.num_fewshot}-shot, version {self.version}"

    @property
    def options(self) -> dict[str, Any]:
        """What decides its numbers, for a job's id."""
        return {
            "task": self.name,
            "num_fewshot": self.num_fewshot,
            "limit": self.limit,
            "digest": self.digest,
            "lm_eval": self.harness,
        }


def word(metric: str) -> str:
    """lm-eval's name of a metric in the letters that names have here."""
    return re.sub(r"[^a-z0-9_]", "_", metric.lower())


Tasks = Mapping[str, TaskFacts]
