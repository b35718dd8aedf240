"""Counted FLOPs: torch's own counter on the built model, to hold the arithmetic of `counting` to account.

The counter sees nothing inside `grouped_mm`, our hand-written backward or the CPU's flash attention (torch 2.13), so
a model is counted with products one by one and the math attention, which computes the full square of queries and keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import Metric
from moebench.models.subject import Trainable

if TYPE_CHECKING:
    from torch import Tensor

COUNTED_FLOPS = Metric(
    name="train.counted_flops",
    unit="FLOPs",
    same_each_time=True,
    says="torch's counter on one micro-batch, loop experts and math attention",
    cannot="the FLOPs of the kernels in use: it is a check of the arithmetic on loop experts",
)

METRICS = (COUNTED_FLOPS,)


def counted_flops(trainable: Trainable, batch_BX: Tensor) -> int:
    """FLOPs of forward and backward over [B, context + 1] tokens, as torch counts them. Leaves no gradients behind.

    Assignments dropped over capacity are not computed, so not counted.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    batch_BX = batch_BX.to(trainable.device)
    try:
        with trainable.countable(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            trainable.backward(batch_BX, trainable.draws())
    finally:
        trainable.weights.zero_grad()
    return int(counter.get_total_flops())


def _measure(context: Context) -> Measured:
    import torch

    assert context.trainable is not None
    flops = counted_flops(context.trainable, torch.from_numpy(context.batch))
    return Measured(records=[COUNTED_FLOPS.record(flops, step=context.step)])


MEASUREMENT = Measurement(name="flops", metrics=METRICS, measure=_measure, of_training=True)
