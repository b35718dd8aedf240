"""Memory: the peak of live tensor bytes in one untimed step, training and inference apart, split by what holds them.

Measured with torch's MemTracker, which sees every tensor of an operation on any device. Resident memory of the process
is another thing, and is not measured: at nano size it is that of the libraries and of what was loaded before.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import torch
from torch.distributed._tools.mem_tracker import MemTracker

from moebench.jobs.recipe import Run
from moebench.jobs.training import State, chance, training_loss
from moebench.metrics.declared import Record, labelled, record
from moebench.models.decoder import Transformer

_PARTS = {"PARAM": "weights", "GRAD": "gradients", "OPT": "optimizer"}


def memory_records(state: State, run: Run, batch_BX: torch.Tensor, *, step: int) -> Iterator[Record]:
    """Peaks of a training step at the micro-batch, and of prefill and decode of one sequence of the whole context.

    `batch_BX` holds real text, [at least a micro-batch of rows, context + 1]. The training step is a real one too: the
    caller's model and optimizer are changed by it.
    """
    batch_BX = batch_BX.to(state.model.embedding.device)
    for metric, peaks in (
        ("memory.inference_peak_bytes", _inference_peak(state.model, batch_BX[:1, :-1])),
        ("memory.train_peak_bytes", _training_peak(state, run, batch_BX)),
    ):
        yield record(metric, sum(peaks.values()), step=step)
        for part, value in peaks.items():
            yield record(labelled(metric, part=part), value, step=step)


def _training_peak(state: State, run: Run, batch_BX: torch.Tensor) -> dict[str, int]:
    model, optimizer = state.model, state.optimizer
    model.train()
    part_BX = batch_BX[: run.recipe.micro_batch_tokens // run.architecture.context]
    tracker = MemTracker()
    tracker.track_external(model, optimizer, part_BX)
    with tracker:
        loss, _ = training_loss(run, model(part_BX[:, :-1], generator=chance(run, step=0)), part_BX[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return _parts(tracker)


def _inference_peak(model: Transformer, tokens: torch.Tensor) -> dict[str, int]:
    model.eval()
    cache = model.new_cache(1)
    held = [t for layer in cache.layers for t in (layer.keys_BGSC, layer.values_BGSC)]
    cache_bytes = sum(t.numel() * t.element_size() for t in held)
    tracker = MemTracker()
    tracker.track_external(model, tokens, *held)
    with tracker, torch.inference_mode():
        model(tokens[:, :-1], cache=cache)
        tracker.reset_mod_stats()  # the tracker refuses a module's second call otherwise; the peak is kept
        model(tokens[:, -1:], cache=cache)
    peaks = _parts(tracker)
    peaks["activations"] -= cache_bytes
    return {**peaks, "kv_cache": cache_bytes}


def _parts(tracker: MemTracker) -> dict[str, int]:
    """Bytes at the moment of the peak: weights, gradients, optimizer, and all else as activations."""
    parts = dict.fromkeys((*_PARTS.values(), "activations"), 0)
    for snapshot in tracker.get_tracker_snapshot("peak").values():
        for kind, size in snapshot.items():
            if isinstance(kind, Enum):  # the sum stands beside its terms, under a plain word
                parts[_PARTS.get(kind.name, "activations")] += size
    return parts
