"""Tasks with known answers: one file each, with its questions, its chance, its ceiling and its leak rule.

A new task is a `Task` in a file of its own and a line in `TASKS`. The source `tasks`, the schema of suites and the
task files of lm-eval follow from that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from moebench.data.tasks.brackets import Brackets
from moebench.data.tasks.chain import Chain
from moebench.data.tasks.copy import Copy
from moebench.data.tasks.facts import Facts
from moebench.data.tasks.markov import Markov
from moebench.data.tasks.modular import Modular
from moebench.data.tasks.path import PathTask
from moebench.data.tasks.task import Question, Task
from moebench.data.tasks.transduce import Transduce

TASKS: dict[str, type[Task]] = {
    "facts": Facts,
    "chain": Chain,
    "path": PathTask,
    "modular": Modular,
    "copy": Copy,
    "transduce": Transduce,
    "markov": Markov,
    "brackets": Brackets,
}

if TYPE_CHECKING:
    TaskSpec = Task
else:
    TaskSpec = Annotated[Union[tuple(TASKS.values())], Field(discriminator="kind")]  # noqa: UP007
"""A task of a suite."""

__all__ = ["TASKS", "Question", "Task", "TaskSpec"]
