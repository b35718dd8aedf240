"""Speed: one process of a speed session times every model of a suite, block by block, in rotation.

The datum is a ratio within one process: all models are loaded, the baseline twice (an A/A test), and timed in turns by
`clock`. Raw samples are kept; medians and intervals over processes belong to the report.

What is timed: a training step (forward, backward, optimizer) on one micro-batch; prefill of a prompt into an empty
cache (time to first token); one decoding step of a batch from the middle of the context. Sequences of a model at its
initial values and of a checkpoint, which may be large, share the text in the cache, read once. A checkpoint reads the
same text in its own tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from moebench.counting.memory import decode_bytes
from moebench.metrics import clock, serving
from moebench.metrics.clock import Timed
from moebench.metrics.metric import Metric, Range
from moebench.metrics.racer import AGAIN as AGAIN
from moebench.metrics.racer import Racer as Racer
from moebench.metrics.racer import Text as Text
from moebench.metrics.racer import decoding
from moebench.metrics.ref import MetricRef, labelled
from moebench.models.subject import Subject

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from moebench.planning.types import SpeedPlan

ROWS_AT_ONCE = 16
FEW_TOKENS = 16
"""Of each sequence, those whose experts are read off at initial values."""


def _timed(name: str, unit: str, **facts: Any) -> Metric:
    usual: dict[str, Any] = {"kind": "timed", "asked_by": ("speed",)}
    return Metric(name=f"speed.{name}", unit=unit, **{**usual, **facts})


_TRAINING: dict[str, Any] = {"asked_by": ("speed", "speed.train_step")}
_UTILISATION: dict[str, Any] = {"better": "higher", "within": Range(above=0, high=1)}
_OF_MACHINE: dict[str, Any] = {"better": "higher", "cannot": "anything about a model"}

TRAIN_STEP = _timed(
    "train_step_s",
    "s",
    **_TRAINING,
    says="forward, backward and optimizer step on one micro-batch",
    cannot="time of other sizes or machines; of one micro-batch, so only models with equal ones compare",
)
PREFILL = _timed(
    "prefill_s",
    "s",
    labels=("tokens",),
    says="time to first token: the prompt through the model into the cache",
    cannot="time of other sizes or machines; one sequence at a time",
)
DECODE_STEP = _timed(
    "decode_step_s",
    "s",
    labels=("batch",),
    says="one cached decoding step for the whole batch",
    cannot="time of other sizes or machines; at nano size it is that of dispatching operations",
)
TRAIN_UTILISATION = _timed(
    "train_utilisation",
    "1",
    **_TRAINING,
    **_UTILISATION,
    timed_by=TRAIN_STEP.name,
    says="model FLOPs per second, of assignments really computed, over the matmul peak measured in the same process",
    cannot="time, or use of the machine by what is no matrix product; the peak is that of one large product",
)
DECODE_BANDWIDTH = _timed(
    "decode_bandwidth_utilisation",
    "1",
    **_UTILISATION,
    labels=("batch",),
    timed_by=DECODE_STEP.name,
    says="bytes of weights, of experts really routed to, and cache read per second over the measured bandwidth",
    cannot="time; caches may hold what is counted as read, and casts of weights are not counted",
)
PEAK_FLOPS = _timed(
    "peak_flops",
    "FLOPs/s",
    **_OF_MACHINE,
    unclaimable=("is a fact of the machine, not of a model", None),
    says="best rate of a large matrix product in this process",
)
PEAK_BANDWIDTH = _timed(
    "peak_bandwidth",
    "bytes/s",
    **_OF_MACHINE,
    unclaimable=("is a fact of the machine, not of a model", None),
    says="best rate of reading a large array in this process",
)

METRICS = (TRAIN_STEP, PREFILL, DECODE_STEP, TRAIN_UTILISATION, DECODE_BANDWIDTH, PEAK_FLOPS, PEAK_BANDWIDTH)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What one process measured, ready for its file."""

    order: list[str]
    samples: dict[str, dict[str, list[float]]]
    """Model -> metric -> seconds."""
    steady: dict[str, dict[str, bool]]
    derived: dict[str, dict[str, float]]
    routed: dict[str, dict[str, float]]
    """Model -> timed metric -> mean of `Racer.routed`: what the derived figures rest on."""
    peak_flops: float
    """In the dtype of the first model."""
    peak_bandwidth: float


def together(races: Sequence[Race]) -> Race:
    """What was measured of models that were not there at the same time."""
    first, rest = races[0], races[1:]
    for race in rest:
        first.order.extend(race.order)
        for mine, its in ((first.samples, race.samples), (first.steady, race.steady)):
            mine.update(its)  # type: ignore[arg-type]
        first.derived.update(race.derived)
        first.routed.update(race.routed)
    return first


def race(racers: list[Racer], plan: SpeedPlan, text: Text, *, process: int, seconds: float) -> Race:
    """Times all racers for about `seconds`, sharing the time equally between what is measured."""
    device = racers[0].subject.device.type
    dtypes = dict.fromkeys(racer.subject.dtype for racer in racers)
    peaks = {dtype: clock.measure_peak_flops(device, dtype) for dtype in dtypes}
    peak_bandwidth = clock.measure_peak_bandwidth(device)
    of_serving = serving.contests(plan)
    contests = len(plan.prefill) + len(plan.decode_batches) + plan.train_step + sum(one.shares for one in of_serving)
    samples: dict[str, dict[str, list[float]]] = {racer.name: {} for racer in racers}
    order: list[str] = []
    for metric, timed in _contests(racers, plan, text):
        times, blocks = clock.rotate(timed, device=device, seconds=seconds / contests, shift=process)
        order = order or blocks
        for name, values in times.items():
            samples[name][metric] = values
    more: dict[str, dict[str, float]] = {racer.name: {} for racer in racers}
    for contest in of_serving:
        found = contest.race(racers, text, seconds=seconds * contest.shares / contests, process=process)
        for racer in racers:
            samples[racer.name].update(found.samples.get(racer.name, {}))
            more[racer.name].update(found.derived.get(racer.name, {}))
    return Race(
        order=order,
        samples=samples,
        steady={
            name: {metric: clock.is_steady(values) for metric, values in times.items()}
            for name, times in samples.items()
        },
        derived={
            r.name: derived(r, samples[r.name], peaks[r.subject.dtype], peak_bandwidth) | more[r.name] for r in racers
        },
        routed={r.name: {metric: fmean(values) for metric, values in r.routed.items()} for r in racers},
        peak_flops=peaks[racers[0].subject.dtype],
        peak_bandwidth=peak_bandwidth,
    )


def _contests(racers: list[Racer], plan: SpeedPlan, text: Text) -> Iterator[tuple[str, dict[str, Timed]]]:
    """(metric, model -> what to time), one contest after the other."""
    if plan.train_step:
        yield TRAIN_STEP.name, {r.name: _train_step(r, text) for r in racers}
    for tokens in plan.prefill:
        yield labelled(PREFILL.name, tokens=tokens), {r.name: _prefill(r, text, tokens=tokens) for r in racers}
    for batch in plan.decode_batches:
        yield labelled(DECODE_STEP.name, batch=batch), {r.name: _decode_step(r, text, batch=batch) for r in racers}


def _train_step(racer: Racer, text: Text) -> Timed:
    trainable = racer.trainable
    assert trainable is not None
    for group in trainable.optimizer.param_groups:
        group.update(lr=0.0, weight_decay=0.0)  # the weights stay as they are, so every block times the same routing
    batch_BX, draws = racer.windows(text, trainable.sequences), trainable.draws()

    def step() -> None:
        trainable.tally([(batch_BX, draws)])
        racer.passes.append(done := trainable.backward(batch_BX, draws))
        if racer.subject.mixtures:
            racer.routed.setdefault(TRAIN_STEP.name, []).append(done.computed)
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()

    return step


def _prefill(racer: Racer, text: Text, *, tokens: int) -> Timed:
    subject, prompt_BT = racer.subject, racer.windows(text, 1)[:, :tokens]
    return lambda: subject.extend(prompt_BT, subject.new_cache(1))


def _decode_step(racer: Racer, text: Text, *, batch: int) -> Timed:
    subject, half = racer.subject, racer.subject.context // 2
    text_BX = racer.windows(text, batch)
    if subject.mixtures:
        read_BT, start = (text_BX[:, :-1], half) if racer.trainable else (text_BX[:, half : half + FEW_TOKENS], 0)
        racer.routed[labelled(DECODE_STEP.name, batch=batch)] = [experts_read(subject, read_BT, start=start)]
    cache = subject.new_cache(batch)
    if racer.trainable:
        subject.extend(text_BX[:, :half], cache)
    else:
        if not racer.prefix:
            racer.prefix.append(subject.new_cache(1))
            subject.extend(text_BX[:1, :half], racer.prefix[0])
        cache.share(racer.prefix[0])

    return decoding(racer, text_BX, cache, start=half, stop=subject.context)


def experts_read(subject: Subject, tokens_BT: Tensor, *, start: int) -> float:
    """Experts of one layer that a decoding step of this batch uses, mean of the layers and the positions from `start`.

    Read off the whole sequences, a few at a time: routers that can decode route a token alike whatever follows it.
    """
    length = tokens_BT.shape[1]
    used_LTE = np.zeros((len(subject.mixtures), length, subject.experts), dtype=np.bool_)
    for first in range(0, tokens_BT.shape[0], ROWS_AT_ONCE):
        part_BT = tokens_BT[first : first + ROWS_AT_ONCE]
        for layer, routing in enumerate(subject.routings(part_BT)):
            used_LTE[layer, (routing.token_N % length).cpu().numpy(), routing.expert_N.cpu().numpy()] = True
    return float(used_LTE[:, start:].sum(2, dtype=np.float64).mean())


def derived(
    racer: Racer, samples: Mapping[str, list[float]], peak_flops: float, peak_bandwidth: float
) -> dict[str, float]:
    """Utilisations, from medians and the peaks measured in this same process."""
    subject, counts, values = racer.subject, racer.subject.counts, dict[str, float]()
    for metric, times in samples.items():
        routed, batch = racer.routed.get(metric), MetricRef.parse(metric).get("batch")
        if metric == TRAIN_STEP.name:
            assert racer.trainable is not None
            sequences = racer.trainable.sequences
            flops = fmean(racer.trainable.flops([done], sequences=sequences)[0] for done in racer.passes)
            values[TRAIN_UTILISATION.name] = flops / median(times) / peak_flops
        elif batch is not None:
            read = decode_bytes(
                counts,
                _word(next(subject.weights.parameters()).dtype),
                batch=int(batch),
                cached=subject.context * 3 // 4,
                cache_dtype=_word(subject.dtype),
                touched=1.0 if routed is None else fmean(routed),
            )
            values[labelled(DECODE_BANDWIDTH.name, batch=batch)] = read / median(times) / peak_bandwidth
    return values


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
