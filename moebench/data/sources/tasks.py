"""Tasks with known answers as text: a document is a prompt and its answer, and each task is a domain.

Every task has as many training tokens as any other, in one random order. A document begins with a byte that says its
task, and `|` stands before its answer; which bytes are the answer travels with it. The source itself divides: the
questions that a task holds out stand in no training document.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from moebench.amounts import FieldError, Name
from moebench.data.documents import Answer, DataError, Gathered, Text
from moebench.data.sources.source import DataSource
from moebench.data.tasks import TASKS, Question, Task, TaskSpec
from moebench.data.tasks.known import KnownTask
from moebench.data.tasks.task import HELD_OUT_SHARE, Bits, shuffled
from moebench.seeds import generator

MARKS = bytes([*range(33, 48), *range(112, 124)])
"""Bytes before a prompt: each kind of task has its own, and a second task of a kind one of those left."""
MOST = 16
"""Tasks of a suite."""
FEWEST_NEW = 20
"""Questions that must be held out of a task that is tested on new ones."""
MOST_DRAWS, LEAST_DRAWN = 20, 1000
"""Times that as many questions are drawn as are missing, or so many."""
TUNE_SHARE = 0.25
"""Of the questions tested, as many more are in the tune split."""


class TasksData(DataSource):
    """Tasks with known answers, each a domain."""

    says = "tasks with known answers (recall, composition, copying, sums, ...), each a domain with chance and ceiling"
    scope = "synthetic tasks with known answers"

    source: Literal["tasks"]
    """tasks: questions whose answers are known."""
    tasks: dict[Name, TaskSpec] = Field(min_length=1, max_length=MOST)
    """Name -> the task; it is the domain of its documents."""
    task_tokens: Annotated[int, Field(ge=1000, le=100_000_000)] = 200_000
    """Training tokens of each task, the same for all."""
    questions: Annotated[int, Field(ge=32, le=100_000)] = 512
    """Questions of each task in the test split, as far as it has them; of those seen in training half as many."""

    @model_validator(mode="after")
    def _as_bytes(self) -> TasksData:
        if self.tokenizer != "bytes":
            raise FieldError("tokenizer", "the tasks are made of bytes: leave the tokenizer out")
        for name, task in self.tasks.items():
            if (needed := _length(task, task.longest)) > self.context:
                message = (
                    f"a question of {name} with its answer has {needed} bytes, more than the context, {self.context}"
                )
                raise FieldError("context", message)
        return self

    def gather(self, base: Path) -> Gathered:
        """The documents of all tasks. Raises DataError for one with too few questions to hold some out."""
        drawn = {name: _drawn(name, task, self) for name, task in self.tasks.items()}
        training = [(name, one) for name, some in drawn.items() for one in some["train", True]]
        order = shuffled(generator(0, "data.tasks.order").bit_generator, len(training))
        texts = [
            self._text(*training[index], split="train", seen=True, number=n) for n, index in enumerate(order.tolist())
        ]
        for split in ("tune", "test"):
            for name, some in drawn.items():
                both = [(one, seen) for seen in (True, False) for one in some[split, seen]]
                texts += [self._text(name, one, split=split, seen=seen, number=n) for n, (one, seen) in enumerate(both)]
        known = {name: _known(task, drawn[name]) for name, task in self.tasks.items()}
        return Gathered(texts=texts, notes=[*_notes(known)], independent=True, tasks=known)

    def _text(self, task: str, question: Question, *, split: str, seen: bool, number: int) -> Text:
        prompt = self.marks[task] + question.prompt + self.tasks[task].asks
        name = f"{task}/{split}/{'seen' if seen else 'new'}/{number:06d}"
        answer = Answer(start=len(prompt), seen=seen)
        return Text(name=name, domain=task, group=name, body=prompt + question.answer, split=split, answer=answer)

    @functools.cached_property
    def marks(self) -> dict[str, bytes]:
        """The byte before a task's prompts, the same in every suite for the first task of its kind."""
        left, first = iter(MARKS[len(TASKS) :]), dict(zip(TASKS, MARKS, strict=False))
        return {name: (first.pop(task.kind, None) or next(left)).to_bytes() for name, task in self.tasks.items()}

    def fingerprint(self, base: Path) -> Any:
        """Nothing: the spec says it all."""
        return None

    def domains(self) -> tuple[str, ...]:
        """The tasks."""
        return tuple(self.tasks)


Drawn = dict[tuple[str, bool], list[Question]]
"""Split, and whether it stood in training -> questions."""


def _drawn(name: str, task: Task, data: TasksData) -> Drawn:
    """The questions of each split. Raises DataError."""
    bits = generator(0, f"data.tasks.{name}.questions").bit_generator
    held = generator(0, f"data.tasks.{name}.held").bit_generator
    tuned = round(TUNE_SHARE * data.questions)
    every = task.all(bits)
    if every is None:
        documents = max(1, data.task_tokens // (1 + _length(task, task.longest)))
        tune, test = task.draw(bits, tuned), task.draw(bits, data.questions)
        train = list(_others(name, task, bits, documents, {*tune, *test} if task.is_determined else set()))
        return {("train", True): train, ("tune", True): [], ("tune", False): tune,
                ("test", True): [], ("test", False): test}  # fmt: skip
    order = shuffled(held, len(every)).tolist()
    num_new = 0 if task.tested_on == "training" else round(HELD_OUT_SHARE * len(every))
    if task.tested_on == "new" and num_new < FEWEST_NEW:
        raise DataError(
            f"{name} has {len(every)} questions, and the {num_new} held out are too few to test on: make it larger"
        )
    new, seen = [every[index] for index in order[:num_new]], [every[index] for index in order[num_new:]]
    to_tune = min(tuned, round(TUNE_SHARE * num_new))
    asked = data.questions if task.tested_on == "training" else data.questions // 2
    return {
        ("train", True): list(_repeated(task, seen, data.task_tokens, held)),
        ("tune", True): seen[-tuned:],
        ("tune", False): new[:to_tune],
        ("test", True): seen[:asked],
        ("test", False): new[to_tune : to_tune + data.questions],
    }


def _others(name: str, task: Task, bits: Bits, count: int, held: Collection[Question]) -> Iterator[Question]:
    """So many questions, none of those held out. Raises DataError where nearly all are."""
    for _ in range(MOST_DRAWS):
        drawn = [one for one in task.draw(bits, max(count, LEAST_DRAWN)) if one not in held][:count]
        yield from drawn
        count -= len(drawn)
        if not count:
            return
    raise DataError(f"{name} has so few questions that those tested are nearly all there are: make it larger")


def _repeated(task: Task, seen: list[Question], tokens: int, bits: Bits) -> Iterator[Question]:
    """All questions in a random order, again and again for so many tokens; half of these are of the steps it has."""
    parts = [part for part in (seen, task.besides()) if part]
    for part in parts:
        each = 1 + _length(task, len(part[0].prompt) + len(part[0].answer))
        left = max(1, tokens // len(parts) // each)
        while left > 0:
            taken = [part[index] for index in shuffled(bits, len(part)).tolist()[:left]]
            yield from taken
            left -= len(taken)


def _length(task: Task, of_question: int) -> int:
    """Bytes of a document."""
    return 1 + len(task.asks) + of_question


def _known(task: Task, drawn: Drawn) -> KnownTask:
    chance, ceiling, facts = task.chance(), task.ceiling(), task.facts
    return KnownTask(
        kind=task.kind,
        tested_on=task.tested_on,
        questions={"seen": len(drawn["test", True]), "new": len(drawn["test", False])},
        trained=len(drawn["train", True]),
        chance=chance.accuracy,
        ceiling=ceiling.accuracy,
        chance_bits=chance.bits,
        ceiling_bits=ceiling.bits,
        facts=facts[0] if facts else None,
        fact_bits=facts[1] if facts else None,
        layers_needed=task.layers_needed,
    )


def _notes(known: dict[str, KnownTask]) -> Iterator[str]:
    for name, task in known.items():
        if task.tested_on == "training":
            times = "" if task.facts is None else f", each about {task.trained / task.facts:.0f} times in training"
            yield f"{name} is tested on what was trained, as recall is ({task.questions['seen']:,} questions{times})"
        elif task.questions["seen"]:
            yield (
                f"{name} is scored on {task.questions['new']:,} questions that were never trained; "
                f"{task.questions['seen']:,} that were are scored apart"
            )
