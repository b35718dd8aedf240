"""A memory budget: tokens a second of the largest batch whose weights and cache fit a number of bytes.

The plan counts the batches by formula; here they are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from moebench.metrics import clock
from moebench.metrics.clock import Timed
from moebench.metrics.metric import COUNT, Range
from moebench.metrics.racer import Racer, Text, decoding, filled
from moebench.metrics.ref import labelled
from moebench.metrics.serving.contest import Contest, Found, device_of, timed

if TYPE_CHECKING:
    from moebench.jobs.session import SpeedPlan

BUDGET_STEP = timed(
    "budget_step_s",
    "s",
    asked="memory_budget",
    labels=("memory",),
    says="decoding step of the largest batch whose weights and cache fit so many bytes",
    cannot="a rate: models decode other batches in it",
)
BUDGET_TOKENS = timed(
    "tokens_per_s",
    "tokens/s",
    asked="memory_budget",
    labels=("memory",),
    better="higher",
    within=Range(above=0),
    timed_by=BUDGET_STEP.name,
    says="tokens decoded a second by the largest batch whose weights and cache fit so many bytes",
    cannot="serving under load: all sequences are as long, none waits, and activations are not counted in the bytes",
)
BUDGET_BATCH = timed(
    "budget_batch",
    "sequences",
    asked="memory_budget",
    labels=("memory",),
    better="higher",
    within=COUNT,
    same_each_time=True,
    says="sequences of the largest batch whose weights and cache fit so many bytes, by formula",
    cannot="what a process takes: activations, libraries and the allocator's slack are not in it",
)
METRICS = (BUDGET_STEP, BUDGET_TOKENS, BUDGET_BATCH)


def contests(plan: SpeedPlan) -> Iterator[Contest]:
    """One for each number of bytes."""
    if (asked := plan.memory_budget) is not None:
        for index, memory in enumerate(asked.bytes):
            batches = {name: batch[index] for name, batch in plan.batches.items()}
            yield Contest(race=partial(_race, memory=memory, tokens=asked.tokens, batches=batches))


def _race(
    racers: Sequence[Racer], text: Text, *, seconds: float, process: int, memory: int, tokens: int,
    batches: Mapping[str, int],
) -> Found:  # fmt: skip
    entries: dict[str, Timed] = {}
    batch_of = {racer.name: batches[racer.name.partition("~")[0]] for racer in racers}
    for racer in racers:
        text_BX = racer.windows(text, batch_of[racer.name])
        cache = filled(racer, text_BX, start=tokens // 2, room=tokens)
        entries[racer.name] = decoding(racer, text_BX, cache, start=tokens // 2, stop=tokens)
    times, _ = clock.rotate(entries, device=device_of(racers), seconds=seconds, shift=process)
    step, rate, batch = (labelled(one.name, memory=memory) for one in (BUDGET_STEP, BUDGET_TOKENS, BUDGET_BATCH))
    return Found(
        samples={name: {step: values} for name, values in times.items()},
        derived={
            name: {rate: batch_of[name] / median(values), batch: batch_of[name]} for name, values in times.items()
        },
    )
