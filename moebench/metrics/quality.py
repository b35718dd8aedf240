"""Quality: cross-entropy alone, in bits per byte. Auxiliary router losses never enter.

Every scored position is one byte of a document; a document's windows start fresh, so its loss depends on no batch mate.
The windows are the same for every seed and model.

Legend: N windows, T context, L layers, E experts, M domains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from moebench.data.batches import Windows
from moebench.models.decoder import Transformer
from moebench.models.decoder.transformer import cross_entropy_bits

WINDOWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one pass over the evaluation windows saw."""

    bits_N: NDArray[np.float64]
    """Cross-entropy of each window, summed over its scored bytes."""
    bytes_N: NDArray[np.int64]
    """Scored bytes of each window."""
    tokens_NLE: NDArray[np.int64]
    """Tokens each expert received from each window; L = 0 for a dense model."""
    dropped: int
    """Assignments dropped (over capacity)."""

    def bits_per_byte(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> float:
        """Total bits over total bytes of the chosen windows."""
        return float(self.bits_N[chosen].sum() / self.bytes_N[chosen].sum())


@torch.inference_mode()
def evaluate(model: Transformer, windows: Windows, *, count: int | None = None) -> Evaluated:
    """Reads the first `count` windows, all when absent."""
    was_training = model.training
    model.eval()
    bits, loads, dropped = [], [], 0
    stop = len(windows.inputs) if count is None else count
    device = model.embedding.device
    for first in range(0, stop, WINDOWS_AT_ONCE):
        rows = slice(first, min(first + WINDOWS_AT_ONCE, stop))
        inputs, targets, mask = (
            torch.from_numpy(np.ascontiguousarray(part[rows])).to(device)
            for part in (windows.inputs, windows.targets, windows.mask)
        )
        output = model(inputs)
        bits.append((cross_entropy_bits(output.logits_BTV, targets) * mask).double().sum(1).cpu().numpy())
        loads.append(_expert_tokens(output.routings, mask, experts=_num_experts(model)))
        dropped += sum(routing.dropped for routing in output.routings)
    model.train(was_training)
    return Evaluated(
        bits_N=np.concatenate(bits),
        bytes_N=windows.mask[:stop].sum(1).astype(np.int64),
        tokens_NLE=np.concatenate(loads),
        dropped=dropped,
    )


def _num_experts(model: Transformer) -> int:
    return int(getattr(model.architecture.ffn, "experts", 0))


def _expert_tokens(routings: tuple[object, ...], mask_BT: torch.Tensor, *, experts: int) -> NDArray[np.int64]:
    """Routed pairs by window, layer and expert, counting scored positions only: [B, L, E]."""
    batch, length = mask_BT.shape
    counts = np.zeros((batch, len(routings), experts), dtype=np.int64)
    scored = mask_BT.flatten()
    for layer, routing in enumerate(routings):
        token_N, expert_N = routing.token_N, routing.expert_N  # type: ignore[attr-defined]
        cell = (token_N // length) * experts + expert_N
        counted = torch.bincount(cell[scored[token_N]], minlength=batch * experts)
        counts[:, layer] = counted.view(batch, experts).cpu().numpy()
    return counts
