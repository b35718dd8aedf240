"""The trace of routing over the scored text: what each position read, what it cost, and the experts it was sent to.

Only scored positions are in it, in the order of the text. Legend: T scored positions, N assignments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, NotFinite
from moebench.metrics.metric import Record
from moebench.metrics.quality import WINDOWS_AT_ONCE


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The assignments of one mixture."""

    layer: int
    """Index in the model."""
    token_N: NDArray[np.int64]
    """Position among the T, not decreasing."""
    expert_N: NDArray[np.int64]
    """Those of a position in falling order of preference."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a pass over the scored text saw."""

    read_T: NDArray[np.int64]
    """The token at each position, which the router saw; the one that is predicted comes after it."""
    nats_T: NDArray[np.float64]
    """Cross-entropy of the token that is predicted."""
    document_T: NDArray[np.int64]
    """Index into the documents."""
    experts: int
    layers: tuple[Layer, ...]
    """Empty for a dense model."""


def trace(context: Context) -> Trace:
    """Reads the text that quality is scored on. Raises NotFinite when the cross-entropy is not."""
    import torch

    text, subject = context.text, context.subject
    position_NT = np.cumsum(text.mask).reshape(text.mask.shape) - 1
    nats, found = [], [([np.empty(0, np.int64)], [np.empty(0, np.int64)]) for _ in subject.mixtures]
    for first in range(0, len(text.inputs), WINDOWS_AT_ONCE):
        rows = slice(first, first + WINDOWS_AT_ONCE)
        mask_B, place_B = text.mask[rows].ravel(), position_NT[rows].ravel()
        inputs, targets = (
            torch.from_numpy(np.ascontiguousarray(part[rows])).to(subject.device)
            for part in (text.inputs, text.targets)
        )
        scores = subject.score(inputs, targets)
        nats.append(-scores.logprob_BT.double().cpu().numpy().ravel()[mask_B])
        for (tokens, experts), routing in zip(found, scores.routings, strict=True):
            token_N, expert_N = routing.token_N.cpu().numpy(), routing.expert_N.cpu().numpy()
            kept_N = mask_B[token_N]
            place_N = place_B[token_N[kept_N]]
            order_N = np.argsort(place_N, kind="stable")
            tokens.append(place_N[order_N])
            experts.append(expert_N[kept_N][order_N].astype(np.int64))
    nats_T = np.concatenate(nats)
    if not np.isfinite(nats_T.sum()):
        raise NotFinite("cross-entropy")
    documents_NT = np.broadcast_to(text.document[:, None], text.mask.shape)
    return Trace(
        read_T=text.inputs[text.mask],
        nats_T=nats_T,
        document_T=documents_NT[text.mask],
        experts=subject.experts,
        layers=tuple(
            Layer(layer=index, token_N=np.concatenate(tokens), expert_N=np.concatenate(experts))
            for index, (tokens, experts) in zip(subject.mixtures, found, strict=True)
        ),
    )


def rounded(records: Iterable[Record]) -> Measured:
    """What came of a probe, to 6 decimals: behind them is rounding of sums, and reference results keep them all."""
    made = (
        one if one.value is None else one.model_copy(update={"value": round(one.value, 6) + 0.0}) for one in records
    )
    return Measured(records=list(made))
