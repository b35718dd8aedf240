"""Answers to questions whose answers are known: in bits, in the share that is right, and in bits of facts stored.

Asked for under `measure.quality` as `tasks`, of data that are tasks. A task's score is of the questions that its leak
rule names: those it was trained on where recall is the task, others where it is not; `instances=seen` and
`instances=new` are the two parts. An answer is read with its prompt before it, byte by byte; it is right when each of
its bytes is the model's first choice, which is what greedy decoding would write.

Accuracy jumps: a model has found how a task is done, or has not. So differences between models are judged by bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Asked, Context, Measured, Measurement, ScoredText
from moebench.metrics.metric import SHARE, Metric, Range, Record
from moebench.metrics.quality import Evaluated, evaluate
from moebench.metrics.ref import labelled

PARTS = ("seen", "new")
NOT_NEGATIVE = Range(low=0)
HANDFULS = 32
"""Of a task's questions, which are its items."""


def _of_answers(name: str, unit: str, says: str, cannot: str, *, parts: bool = False, **facts: Any) -> Metric:
    told: dict[str, Any] = {"labels": ("task",)}
    if parts:
        told = {"labels": ("task", "instances"), "values": {"instances": PARTS}, "together": ("instances",)}
    facts = {"rests_on_loss": True, "asked_by": ("tasks",), **told, **facts}
    return Metric(name=name, unit=unit, says=says, cannot=cannot, **facts)


ANSWER_BITS = _of_answers(
    "task.answer_bits",
    "bits",
    "cross-entropy of an answer given its prompt, mean over a task's questions",
    "how often it is right; below chance it says that something was learned, not what",
    parts=True,
    within=NOT_NEGATIVE,
)
ACCURACY = _of_answers(
    "task.accuracy",
    "1",
    "share of a task's answers of which every byte is the model's first choice",
    "small gains: it stays at chance and then jumps, in some seeds and not in others",
    parts=True,
    better="higher",
    within=SHARE,
)
BITS_STORED = _of_answers(
    "task.bits_stored",
    "bits",
    "facts x (bits of a value - bits of an answer), at least 0: what of a task's facts the weights hold",
    "what the weights could hold: more training stores more",
    better="higher",
    within=NOT_NEGATIVE,
)
CURVE = _of_answers(
    "curve.answer_bits",
    "bits",
    "cross-entropy of an answer at an evaluation point, on the first questions of each task",
    "the final score: it reads fewer questions, before the learning rate has decayed",
    within=NOT_NEGATIVE,
)
DECAYED = _of_answers(
    "decayed.answer_bits",
    "bits",
    "cross-entropy of an answer at the end of a run with each budget, its rate decayed",
    "budgets between those, or beyond the last",
    within=NOT_NEGATIVE,
)

METRICS = (ANSWER_BITS, ACCURACY, BITS_STORED, CURVE, DECAYED)


def _measure(context: Context) -> Measured:
    asked = context.text.asked
    if asked is None:
        why = "the model reads other tokens than the tasks were made of: ask it by lm-eval's moebench_* tasks"
        names = sorted({document.domain for document in context.documents})
        absent = [metric.record(task=name, reason=why) for name in names for metric in (ANSWER_BITS, ACCURACY)]
        return Measured(records=absent)
    seen = evaluate(context.subject, context.text, greedy=True)
    assert seen.answer_bits_N is not None
    assert seen.right_N is not None
    items: list[dict[str, Any]] = []
    records: list[Record] = []
    for labels, chosen_N in _parts(asked):
        bits, right = seen.answer_bits_N[chosen_N], seen.right_N[chosen_N]
        in_bits = ANSWER_BITS.record(float(bits.mean()), step=context.step, **labels)
        records += [in_bits, ACCURACY.record(float(right.mean()), step=context.step, **labels)]
        if "instances" not in labels:
            items += _items(in_bits.metric, bits)
    return Measured(records=[*records, *_stored(asked, records)], items=items)


def _items(metric: str, bits_N: NDArray[np.float64]) -> Iterator[dict[str, Any]]:
    """A row a handful of questions, every 32nd of them: enough for an interval, and few enough to keep of every run."""
    for number in range(min(HANDFULS, len(bits_N))):
        some = bits_N[number::HANDFULS]
        yield {"metric": metric, "item": f"{number}", "group": "", "size": len(some), "value": float(some.sum())}


def _parts(asked: Asked) -> Iterator[tuple[dict[str, str], NDArray[np.bool_]]]:
    """What a task is scored on, and its two parts: labels, and which windows."""
    task_N, seen_N = np.array(asked.task), np.asarray(asked.seen)
    for task in sorted(set(asked.task)):
        of_task = task_N == task
        parts = {"seen": of_task & seen_N, "new": of_task & ~seen_N}
        if (scored := of_task & asked.counts).any():
            yield {"task": task}, scored
        yield from (({"task": task, "instances": part}, chosen) for part, chosen in parts.items() if chosen.any())


def _stored(asked: Asked, records: list[Record]) -> Iterator[Record]:
    """Of tasks that are about storing facts."""
    bits = {record.metric: record for record in records}
    for task, (facts, of_value) in asked.facts.items():
        found = bits.get(labelled(ANSWER_BITS.name, task=task))
        if found is not None and found.value is not None:
            yield BITS_STORED.record(facts * max(0.0, of_value - found.value), step=found.step, task=task)


def point_records(seen: Evaluated, text: ScoredText, *, step: int, metric: Metric = CURVE) -> Iterator[Record]:
    """Bits of an answer of each task, from one pass over its windows or the first of them; none of other text."""
    asked, bits_N = text.asked, seen.answer_bits_N
    if asked is None or bits_N is None:
        return
    task_N, counts_N = np.array(asked.task[: len(bits_N)]), np.asarray(asked.counts[: len(bits_N)])
    for task in sorted(set(asked.task)):
        if (chosen_N := (task_N == task) & counts_N).any():
            yield metric.record(float(bits_N[chosen_N].mean()), step=step, task=task)


MEASUREMENT = Measurement(name="tasks", metrics=(ANSWER_BITS, ACCURACY, BITS_STORED), measure=_measure, optional=True)
