"""What probes share that open a model: the first windows of the scored text, and why one cannot be opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from moebench.metrics.measurement import Context, Measured, ScoredText
from moebench.metrics.metric import Metric, Range

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHANGE = Range(low=-1000, high=1000)
"""By how many bits the cost of a token can change: no model is so sure of anything."""
CLOSED = "experts of a checkpoint can be seen and not exchanged: our own decoder has this alone"


def without(metrics: Iterable[Metric], reason: str, *, step: int | None) -> Measured:
    """No number, and the reason, for each of some metrics."""
    return Measured(records=[metric.record(reason=reason, step=step) for metric in metrics])


def unopened(context: Context, metrics: Iterable[Metric]) -> Measured | None:
    """What is recorded of a model without experts, or whose experts cannot be opened; None where they can."""
    if not context.subject.mixtures:
        return Measured(records=[])
    return without(metrics, CLOSED, step=context.step) if context.subject.opened is None else None


def windows(text: ScoredText, tokens: int) -> int:
    """The first windows that have so many scored tokens, all where there are fewer."""
    return int(np.searchsorted(text.mask.sum(1).cumsum(), tokens)) + 1


def parts(
    text: ScoredText, device: torch.device, *, count: int, at_once: int
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """(rows, inputs, targets, mask) of the first `count` windows, so many at a time."""
    import torch

    for first in range(0, min(count, len(text.inputs)), at_once):
        rows = slice(first, min(first + at_once, count))
        inputs, targets, mask = (
            torch.from_numpy(np.ascontiguousarray(part[rows])).to(device)
            for part in (text.inputs, text.targets, text.mask)
        )
        yield rows, inputs, targets, mask
