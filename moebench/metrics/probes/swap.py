"""Swap: what it costs when the experts of a layer change places and the router does not hear of it.

Experts that compute the same would cost nothing. One layer at a time: every expert takes the place of the next, or of
the one after it, and so on, the mean of all E - 1 such turns; or the two busiest experts change places.

Legend: L mixtures, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Record
from moebench.metrics.probes.opening import CHANGE, parts, unopened, windows
from moebench.metrics.probes.trace import rounded
from moebench.metrics.quality import WINDOWS_AT_ONCE

NAME = "swap"
TOKENS = 8192
MOST_TURNS = 15


def _metric(name: str, says: str) -> Metric:
    return Metric(
        name=f"{NAME}.{name}", unit="bits/token", better="higher", labels=("layer",), whole=True, within=CHANGE,
        asked_by=(NAME,), of_mixtures=True, same_each_time=True,
        says=f"what the loss rises by when {says}, mean of layers",
        cannot="what experts compute; where load has collapsed, experts that nothing goes to come into use",
    )  # fmt: skip


TURNED = _metric("turned", "the experts of a layer change places and its router stays")
EXCHANGED = _metric("exchanged", "the two busiest experts of a layer change places and its router stays")

METRICS = (TURNED, EXCHANGED)


def _measure(context: Context) -> Measured:
    if (nothing := unopened(context, METRICS)) is not None:
        return nothing
    return rounded(_records(context))


def _records(context: Context) -> Iterator[Record]:
    """By layer, and the means of layers."""
    step, experts = context.step, context.subject.experts
    if experts < 2:
        yield from (
            metric.record(reason="one expert has no other to change places with", step=step) for metric in METRICS
        )
        return
    usual, load_LE = _bits(context, None, None)
    turns = np.unique(np.linspace(1, experts - 1, min(experts - 1, MOST_TURNS)).round().astype(int))
    rises: dict[str, list[float]] = {metric.name: [] for metric in METRICS}
    for layer, load_E in zip(context.subject.mixtures, load_LE, strict=True):
        places = np.arange(experts)
        turned = [_bits(context, layer, np.roll(places, turn))[0] - usual for turn in turns.tolist()]
        first, second = np.argsort(-load_E, kind="stable")[:2]
        places[[first, second]] = second, first
        for metric, rise in ((TURNED, float(np.mean(turned))), (EXCHANGED, _bits(context, layer, places)[0] - usual)):
            rises[metric.name].append(rise)
            yield metric.record(rise, step=step, layer=layer)
    for metric in METRICS:
        yield metric.record(float(np.mean(rises[metric.name])), step=step)


def _bits(context: Context, layer: int | None, order: np.ndarray | None) -> tuple[float, np.ndarray]:
    """Bits a token with the experts of a layer in another order, and the assignments by layer and expert."""
    import torch

    subject, opened = context.subject, context.subject.opened
    assert opened is not None
    load_LE = np.zeros((len(subject.mixtures), subject.experts), dtype=np.int64)
    nats, tokens = 0.0, 0
    count = windows(context.text, TOKENS)
    change = nullcontext() if layer is None else opened.moved(layer, torch.from_numpy(order).to(subject.device))
    with change:
        for _, inputs, targets, mask in parts(context.text, subject.device, count=count, at_once=WINDOWS_AT_ONCE):
            scores = subject.score(inputs, targets)
            nats -= float((scores.logprob_BT.double() * mask).sum())
            tokens += int(mask.sum())
            for row, routing in enumerate(scores.routings):
                load_LE[row] += routing.expert_N.bincount(minlength=subject.experts).cpu().numpy()
    return nats / np.log(2) / tokens, load_LE


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
