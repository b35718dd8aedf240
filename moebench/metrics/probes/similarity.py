"""Similarity: whether the experts of a layer make the same of the same tokens, by linear CKA of their outputs.

    CKA(X, Y) = |X'Y|^2 / (|X'X| |Y'Y|),  Frobenius norms, X and Y [tokens, width] with their means taken off

(Kornblith et al. 2019, arXiv:1905.00414). It is 1 for outputs that are equal up to a rotation and a factor. Outputs of
the same tokens are alike to begin with: what experts that were never trained have on the same tokens stands beside it.

Legend: T tokens, D width, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import SHARE, Metric, Record
from moebench.metrics.probes.opening import parts, unopened, windows, without
from moebench.metrics.probes.trace import rounded
from moebench.metrics.quality import WINDOWS_AT_ONCE

if TYPE_CHECKING:
    from torch import Tensor

NAME = "similarity"
TOKENS = 8192


def _metric(name: str, says: str, cannot: str) -> Metric:
    return Metric(
        name=f"{NAME}.{name}", unit="1", better="neither", labels=("layer",), whole=True, within=SHARE,
        asked_by=(NAME,), of_mixtures=True, same_each_time=True, says=says, cannot=cannot,
    )  # fmt: skip


CKA = _metric(
    "cka",
    "linear CKA of two experts' outputs on the same tokens, mean of all pairs and layers",
    "whether the difference matters: swap.turned; a few directions of large variance decide it",
)
CLOSEST = _metric(
    "closest", "the same of the two most similar experts of a layer, mean of layers", "anything of the other experts"
)
UNTRAINED = _metric(
    "untrained",
    "the same of experts of equal shape at initial values, on the same tokens, mean of all pairs and layers",
    "anything about training: it is how similar chance makes them",
)

METRICS = (CKA, CLOSEST, UNTRAINED)


def pairwise(outputs_ETD: NDArray[np.float64]) -> NDArray[np.float64]:
    """CKA of each pair of experts, [E (E - 1) / 2]; 0 with an expert whose output never varies."""
    centred = outputs_ETD - outputs_ETD.mean(1, keepdims=True)
    experts = len(centred)
    own = np.array([np.linalg.norm(one.T @ one) for one in centred])
    found = []
    for first in range(experts):
        for second in range(first + 1, experts):
            size = own[first] * own[second]
            shared = float(np.square(centred[first].T @ centred[second]).sum())
            found.append(shared / size if size > 0 else 0.0)
    return np.array(found)


def _measure(context: Context) -> Measured:
    if (nothing := unopened(context, METRICS)) is not None:
        return nothing
    if context.subject.experts < 2:
        return without(METRICS, "one expert is no pair", step=context.step)
    return rounded(_records(context))


def _records(context: Context) -> Iterator[Record]:
    """By layer, and the means of layers."""
    found: dict[str, list[float]] = {metric.name: [] for metric in METRICS}
    for layer in context.subject.mixtures:
        trained, untrained = (pairwise(_outputs(context, layer, seed)) for seed in (None, 0))
        for metric, value in ((CKA, trained.mean()), (CLOSEST, trained.max()), (UNTRAINED, untrained.mean())):
            found[metric.name].append(float(value))
            yield metric.record(float(value), step=context.step, layer=layer)
    for metric in METRICS:
        yield metric.record(float(np.mean(found[metric.name])), step=context.step)


def _outputs(context: Context, layer: int, untrained: int | None) -> NDArray[np.float64]:
    """[E, T, D] of the scored positions."""
    import torch

    subject, opened = context.subject, context.subject.opened
    assert opened is not None
    found: list[Tensor] = []
    count = windows(context.text, TOKENS)
    for _, inputs, _, mask in parts(context.text, subject.device, count=count, at_once=WINDOWS_AT_ONCE):
        found.append(opened.outputs(layer, inputs, untrained=untrained)[:, mask.flatten()].double().cpu())
    outputs: NDArray[np.float64] = torch.cat(found, dim=1).numpy()
    return outputs


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
