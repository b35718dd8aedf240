"""Offloading: experts behind a memory map, with those of each layer that were used last in memory.

Counted are the logits that differ from the resident model's and the bytes copied. Timed is a step whose copies take as
long as a declared rate says: a file that was just written is in the page cache, and its copies take no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from moebench.metrics import clock
from moebench.metrics.clock import Timed
from moebench.metrics.metric import COUNT, SHARE, Range
from moebench.metrics.racer import Racer, Text, decoding, inside_of
from moebench.metrics.ref import labelled
from moebench.metrics.serving.contest import Contest, Found, device_of, timed

if TYPE_CHECKING:
    from torch import Tensor

    from moebench.jobs.session import SpeedPlan

STEPS = 128
"""Decoding steps over which copies are counted, of as many sequences as it takes."""

OFFLOAD_STEP = timed(
    "offload_step_s",
    "s",
    asked="offload.copy_bytes_per_s",
    labels=("resident",),
    says="decoding step of one sequence with so many experts a layer in memory and copies at the declared rate; "
    "of a dense model, which is in memory whole, its plain step",
    cannot="time with a real disk or host, which may copy ahead; in memory experts are computed one by one",
)
_OFFLOAD: dict[str, Any] = {
    "asked": "offload",
    "labels": ("resident",),
    "of_mixtures": True,
    "same_each_time": True,
}
OFFLOAD_UNEQUAL = timed(
    "offload_unequal_logits",
    "logits",
    **_OFFLOAD,
    within=COUNT,
    says="logits of a prompt and the decoding after it that differ in any bit from those of the resident model",
    cannot="equality with other kernels: both compute experts one after the other",
)
OFFLOAD_BYTES = timed(
    "offload_bytes_per_token",
    "bytes/token",
    **_OFFLOAD,
    within=Range(low=0),
    says="bytes of experts copied into memory for a token that is decoded alone, last used first kept",
    cannot="time; of a model at its initial values, locality: its routers have learned none",
)
OFFLOAD_SHARE = timed(
    "offload_copied_share",
    "1",
    **_OFFLOAD,
    within=SHARE,
    says="share of the experts needed by decoding one sequence that were not in memory",
    cannot="time; of a model at its initial values, locality: its routers have learned none",
)
METRICS = (OFFLOAD_STEP, OFFLOAD_UNEQUAL, OFFLOAD_BYTES, OFFLOAD_SHARE)


def contests(plan: SpeedPlan) -> Iterator[Contest]:
    """One for each number of experts in memory."""
    if (asked := plan.offload) is not None:
        for resident in asked.resident:
            yield Contest(race=partial(_race, resident=resident, rate=asked.copy_bytes_per_s))


def _race(
    racers: Sequence[Racer], text: Text, *, seconds: float, process: int, resident: int, rate: float | None
) -> Found:
    derived: dict[str, dict[str, float]] = {}
    for racer in racers:
        if racer.subject.mixtures:
            numbers = _copied(racer, text, resident=resident)
            derived[racer.name] = {labelled(name, resident=resident): value for name, value in numbers.items()}
    if rate is None:
        return Found(derived=derived)
    entries: dict[str, Timed] = {}
    with ExitStack() as held:
        for racer in racers:
            if racer.subject.mixtures:
                held.enter_context(inside_of(racer).offloaded(resident, copy_bytes_per_s=rate))
            text_BX, half = racer.windows(text, 1), racer.subject.context // 2
            cache = racer.subject.new_cache(1)
            racer.subject.extend(text_BX[:, :half], cache)
            entries[racer.name] = decoding(racer, text_BX, cache, start=half, stop=racer.subject.context)
        times, _ = clock.rotate(entries, device=device_of(racers), seconds=seconds, shift=process)
    step = labelled(OFFLOAD_STEP.name, resident=resident)
    return Found(samples={name: {step: values} for name, values in times.items()}, derived=derived)


def _copied(racer: Racer, text: Text, *, resident: int) -> dict[str, float]:
    """Bits that differ in several sequences, each a prompt of half of the context and the decoding after it, and the
    copies of their decoding."""
    inside, half = inside_of(racer), racer.subject.context // 2
    text_BX = racer.windows(text, -(-STEPS // (racer.subject.context - half)))
    rows = [text_BX[row : row + 1] for row in range(text_BX.shape[0])]
    with inside.one_by_one():
        wanted = [list(_logits(racer, text_1X)) for text_1X in rows]
    unequal = steps = copied = copied_bytes = used = 0
    with inside.offloaded(resident, copy_bytes_per_s=None) as copies:
        for text_1X, (first, *rest) in zip(rows, wanted, strict=True):
            found = _logits(racer, text_1X)
            unequal += _unequal(next(found), first)
            before = copies()
            unequal += sum(_unequal(one, other) for one, other in zip(found, rest, strict=True))
            after = copies()
            steps += len(rest)
            used += after.used - before.used
            copied += after.copied - before.copied
            copied_bytes += after.copied_bytes - before.copied_bytes
    return {
        OFFLOAD_UNEQUAL.name: unequal,
        OFFLOAD_BYTES.name: copied_bytes / steps,
        OFFLOAD_SHARE.name: copied / used,
    }


def _logits(racer: Racer, text_1X: Tensor) -> Iterator[Tensor]:
    """After the prompt, and after each token that is decoded behind it."""
    subject = racer.subject
    half = subject.context // 2
    stop = min(subject.context, half + STEPS)
    cache = subject.new_cache(1, stop)
    yield subject.extend(text_1X[:, :half], cache)
    for place in range(half, stop):
        yield subject.extend(text_1X[:, place : place + 1], cache)


def _unequal(one: Tensor, other: Tensor) -> int:
    """In any bit: a NaN is equal to itself, and 0 is not -0."""
    import torch

    return int((one.view(torch.int32) != other.view(torch.int32)).sum())
