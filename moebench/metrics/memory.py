"""Memory: the peak of live tensor bytes in one untimed step, training and inference apart, split by what holds them.

Measured with torch's MemTracker, which sees every tensor of an operation on any device. Resident memory of the process
is another thing, and is not measured: at nano size it is that of the libraries and of what was loaded before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Range, Record
from moebench.models.subject import Subject, Trainable

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = {"PARAM": "weights", "GRAD": "gradients", "OPT": "optimizer"}


def _peak(phase: str, says: str, *parts: str, cannot: str) -> Metric:
    return Metric(
        name=f"memory.{phase}_peak_bytes", unit="bytes", labels=("part",), values={"part": parts}, whole=True,
        asked_by=("memory",), same_each_time=True, says=says, cannot=cannot,
    )  # fmt: skip


TRAIN_PEAK = _peak(
    "train",
    "peak of live tensor bytes in one training step",
    *_PARTS.values(),
    "activations",
    cannot="memory of the process: libraries, the allocator's slack and what is outside tensors are not in it",
)
INFERENCE_PEAK = _peak(
    "inference",
    "peak of live tensor bytes in prefill and decode",
    "weights",
    "activations",
    "kv_cache",
    cannot="memory of the process, or of another batch than one sequence of the whole context",
)
RESIDENT_GROWTH = Metric(
    name="memory.resident_growth_bytes",
    unit="bytes",
    kind="timed",
    within=Range(whole=True),
    asked_by=("memory",),
    retired="it measures the order in which models were loaded: use memory.inference_peak_bytes",
    says="growth of a fresh process's resident memory while a model was loaded",
    cannot="what a model takes: libraries and what was loaded before are in it",
)

METRICS = (TRAIN_PEAK, INFERENCE_PEAK, RESIDENT_GROWTH)


def memory_records(subject: Subject, trainable: Trainable, batch_BX: Tensor, *, step: int | None) -> Iterator[Record]:
    """Peaks of a training step at the micro-batch, and of prefill and decode of one sequence of the whole context.

    `batch_BX` holds real text, [at least a micro-batch of rows, context + 1]. The training step is a real one too: the
    optimizer's state and, unless its rate is 0, the weights are changed by it.
    """
    batch_BX = batch_BX.to(trainable.device)
    for metric, peaks in (
        (INFERENCE_PEAK, _inference_peak(subject, batch_BX[:1, :-1])),
        (TRAIN_PEAK, _training_peak(trainable, batch_BX[: trainable.sequences])),
    ):
        yield from _records_of(metric, peaks, step=step)


def _records_of(metric: Metric, peaks: dict[str, int], *, step: int | None) -> Iterator[Record]:
    """The whole and its parts."""
    yield metric.record(sum(peaks.values()), step=step)
    for part, value in peaks.items():
        yield metric.record(value, part=part, step=step)


def _training_peak(trainable: Trainable, batch_BX: Tensor) -> dict[str, int]:
    from torch.distributed._tools.mem_tracker import MemTracker
    from torch.utils.hooks import RemovableHandle

    trainable.weights.train()
    tracker = MemTracker()
    tracker.track_external(trainable.weights, trainable.optimizer, batch_BX)
    none = RemovableHandle(OrderedDict())
    for frozen in (p for p in trainable.weights.parameters() if not p.requires_grad):
        # The tracker would hook a gradient that never comes, which torch refuses.
        tracker._param_to_grad_hook_handles[frozen] = (none, none)
    with tracker:
        _alive = trainable.backward(batch_BX, trainable.draws())  # its losses are, while the optimizer steps
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
    return _parts(tracker)


def _inference_peak(subject: Subject, tokens_BT: Tensor) -> dict[str, int]:
    from torch.distributed._tools.mem_tracker import MemTracker

    subject.weights.eval()
    cache = subject.new_cache(1, tokens_BT.shape[1])  # a checkpoint may be made for longer texts than are asked of it
    cache_bytes = sum(held.numel() * held.element_size() for held in cache.tensors)
    tracker = MemTracker()
    tracker.track_external(subject.weights, tokens_BT, *cache.tensors)
    with tracker:
        subject.extend(tokens_BT[:, :-1], cache)
        tracker.reset_mod_stats()  # the tracker refuses a module's second call otherwise; the peak is kept
        subject.extend(tokens_BT[:, -1:], cache)
    peaks = _parts(tracker)
    peaks["activations"] -= cache_bytes
    return {**peaks, "kv_cache": cache_bytes}


def _parts(tracker: Any) -> dict[str, int]:
    """Bytes at the moment of the peak: weights, gradients, optimizer, and all else as activations."""
    parts = dict.fromkeys((*_PARTS.values(), "activations"), 0)
    for snapshot in tracker.get_tracker_snapshot("peak").values():
        for kind, size in snapshot.items():
            if isinstance(kind, Enum):  # the sum stands beside its terms, under a plain word
                parts[_PARTS.get(kind.name, "activations")] += size
    return parts


def _measure(context: Context) -> Measured:
    """Where the optimizer has no moments yet, it takes a step at rate 0 first, which makes them and moves no weight."""
    import torch

    trainable = context.trainable
    if trainable is None:
        batch_BX = torch.from_numpy(context.batch).to(context.subject.device)
        peaks = _inference_peak(context.subject, batch_BX[:1, :-1])
        return Measured(records=list(_records_of(INFERENCE_PEAK, peaks, step=context.step)))
    batch_BX = torch.from_numpy(context.batch).to(trainable.device)
    for group in trainable.optimizer.param_groups:
        group.update(lr=0.0, weight_decay=0.0)
    if not trainable.optimizer.state:
        trainable.backward(batch_BX[: trainable.sequences], trainable.draws())
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
    return Measured(records=list(memory_records(context.subject, trainable, batch_BX, step=context.step)))


MEASUREMENT = Measurement(name="memory", metrics=(TRAIN_PEAK, INFERENCE_PEAK), measure=_measure, of_memory=True)
