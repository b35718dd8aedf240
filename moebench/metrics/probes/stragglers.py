"""Stragglers, SIMULATED: how long a step would wait for the busiest of D devices, from loads that were recorded.

Experts are put on devices in equal runs, as expert parallelism does, and a layer is over when its busiest device is. A
step reads as many sequences as a micro-batch of training; the text is the scored text, routed as in an evaluation.

    factor = sum over steps and layers of the busiest device's assignments / the same sum of the mean device's

Nothing was timed, and no device but one was there. Even a router that sends every token to experts at random has some
device busier than the mean: what it would have stands beside it.

Legend: N assignments, T positions, S steps, L layers, E experts, D devices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Range, Record
from moebench.metrics.probes.trace import Trace, rounded, trace
from moebench.seeds import generator

NAME = "stragglers"
DEVICES = (2, 4, 8)


def _metric(name: str, says: str, cannot: str) -> Metric:
    return Metric(
        name=f"simulated.{name}", unit="1", labels=("devices",), values={"devices": tuple(map(str, DEVICES))},
        within=Range(low=1), asked_by=(NAME,), of_mixtures=True, same_each_time=True, of_scored_text=True,
        says=says, cannot=cannot,
    )  # fmt: skip


FACTOR = _metric(
    "straggler_factor",
    "SIMULATED: time of a step on D devices over that of the same load spread evenly, if time were assignments",
    "measured time: nothing was timed, and communication, memory and overlap are not in it",
)
BY_CHANCE = _metric(
    "straggler_by_chance",
    "SIMULATED: the same of a router that sends every token to experts at random",
    "anything about the router: it is what steps of so few tokens give",
)

METRICS = (FACTOR, BY_CHANCE)


def _measure(context: Context) -> Measured:
    window_T = np.broadcast_to(np.arange(len(context.text.mask))[:, None], context.text.mask.shape)[context.text.mask]
    return rounded(records(trace(context), window_T // len(context.batch), step=context.step))


def records(seen: Trace, step_T: NDArray[np.int64], *, step: int | None) -> Iterator[Record]:
    """Of each number of devices; `step_T` is the step that reads each position."""
    if not seen.layers:
        return
    loads, chance = [], []
    for layer in seen.layers:
        loads.append(loads_of(step_T[layer.token_N], layer.expert_N, seen.experts))
        random_N = at_random(np.bincount(layer.token_N, minlength=len(step_T)), seen.experts, layer.layer)
        chance.append(loads_of(step_T[layer.token_N], random_N, seen.experts))
    for devices in DEVICES:
        for metric, those in ((FACTOR, loads), (BY_CHANCE, chance)):
            if seen.experts % devices:
                why = f"{seen.experts} experts are not {devices} equal runs"
                yield metric.record(reason=why, step=step, devices=devices)
            else:
                yield metric.record(factor(np.stack(those), devices), step=step, devices=devices)


def loads_of(step_N: NDArray[np.int64], expert_N: NDArray[np.int64], experts: int) -> NDArray[np.int64]:
    """Assignments by step and expert, [S, E]."""
    return np.bincount(step_N * experts + expert_N, minlength=(int(step_N.max()) + 1) * experts).reshape(-1, experts)


def at_random(each_T: NDArray[np.int64], experts: int, layer: int) -> NDArray[np.int64]:
    """As many different experts for each position, all sets equally likely: [N]."""
    order_TE = generator(layer, NAME).random((len(each_T), experts)).argsort(1)
    return order_TE[np.arange(experts) < each_T[:, None]]


def factor(loads_LSE: NDArray[np.int64], devices: int) -> float:
    """All steps together, so that a last one of few tokens counts for as much as it is."""
    of_device_LSD = loads_LSE.reshape(*loads_LSE.shape[:2], devices, -1).sum(3)
    return float(of_device_LSD.max(2).sum() / of_device_LSD.mean(2).sum())


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
