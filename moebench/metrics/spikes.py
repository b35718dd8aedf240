"""Loss spikes: training steps whose loss leaps out of that of the steps before.

Read from the losses that training recorded, so a finished run trains nothing again for it. A step is a spike when its
loss lies more than three standard deviations above the median of the hundred steps before, the deviation being that of
a normal law with their median absolute deviation: one step in 700 of steady normal noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import COUNT, Metric

BEFORE = 100
"""Steps that a step is held against; as many at the start are held against nothing."""
DEVIATIONS = 3
NORMAL = 1.4826
"""A normal law's standard deviation over its median absolute deviation."""

SPIKES = Metric(
    name="train.spikes",
    unit="steps",
    within=COUNT,
    rests_on_loss=True,
    same_each_time=True,
    asked_by=("spikes",),
    says="training steps whose loss is 3 SD above the median of the 100 steps before, SD from their median deviation",
    cannot="whether training recovered, or why: a hard batch is a spike too, of every model that reads it",
)
METRICS = (SPIKES,)


def spikes(losses: NDArray[np.float64]) -> int:
    """How many of the losses [steps] leap out."""
    if len(losses) <= BEFORE:
        return 0
    before = np.lib.stride_tricks.sliding_window_view(losses[:-1], BEFORE)
    median = np.median(before, axis=1)
    deviation = NORMAL * np.median(np.abs(before - median[:, None]), axis=1)
    return int(np.sum(losses[BEFORE:] > median + DEVIATIONS * deviation))


def _measure(context: Context) -> Measured:
    losses = context.losses
    if losses is None or len(losses) <= BEFORE:
        why = (
            "it was not trained here" if losses is None else f"{len(losses)} steps of training: more than {BEFORE} tell"
        )
        return Measured(records=[SPIKES.record(reason=why, step=context.step)])
    return Measured(records=[SPIKES.record(spikes(losses), step=context.step)])


MEASUREMENT = Measurement(name="spikes", metrics=METRICS, measure=_measure, optional=True, of_training=True)
