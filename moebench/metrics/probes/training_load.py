"""The load of experts on the text that a model was trained on, in the shares in which it was trained on it.

The other figures of load are of the test split, where domains take turns. A model that was trained on little of a
domain routes it as it happens, and that is no failure to balance what it was trained on. This reads windows from all
over the training split instead, as many for every model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric, Range
from moebench.metrics.quality import evaluate

NAME = "training_load"
TOKENS = 1 << 15
"""Read of the training split."""

MAX_OVER_MEAN = Metric(
    name=f"{NAME}.max_over_mean",
    unit="1",
    labels=("layer",),
    whole=True,
    within=Range(low=1),
    asked_by=(NAME,),
    of_mixtures=True,
    same_each_time=True,
    says="busiest expert's load over the mean on text of the training split, mean of layers",
    cannot="the load of single batches while it was trained, which is less even; of clean text, whatever was corrupted",
)
METRICS = (MAX_OVER_MEAN,)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of training text; a `ScoredText`."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    mask: NDArray[np.bool_]
    document: NDArray[np.int64]
    text_bytes: None = None
    asked: None = None


def windows(stream: NDArray[np.integer], context: int) -> Windows:
    """As many windows as `TOKENS` ask for, or all there are, evenly spaced."""
    there = max(1, (len(stream) - 1) // context)
    starts = np.unique(np.linspace(0, there - 1, num=min(there, max(1, TOKENS // context))).astype(np.int64)) * context
    read = np.asarray(stream[starts[:, None] + np.arange(context + 1)], dtype=np.int64)
    return Windows(
        inputs=read[:, :-1],
        targets=read[:, 1:],
        mask=np.ones((len(starts), context), dtype=bool),
        document=np.zeros(len(starts), dtype=np.int64),
    )


def _measure(context: Context) -> Measured:
    stream = context.training_tokens
    if not context.subject.mixtures:
        return Measured(records=[])
    if stream is None:
        return Measured(records=[MAX_OVER_MEAN.record(reason="what it was trained on is not known", step=context.step)])
    text = windows(stream, context.text.inputs.shape[1])
    load_LE = evaluate(context.subject, text).tokens_NLE.sum(0)
    ratios = (load_LE.max(1) / load_LE.mean(1)).tolist()
    layers = context.subject.mixtures
    records = [
        MAX_OVER_MEAN.record(value, layer=at, step=context.step) for at, value in zip(layers, ratios, strict=True)
    ]
    return Measured(records=[MAX_OVER_MEAN.record(float(np.mean(ratios)), step=context.step), *records])


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
