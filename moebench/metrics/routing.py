"""Routing: how evenly experts are used, over time and by domain.

All figures come from the evaluation windows, so models and seeds are compared on the same tokens; an expert's load is
the number of scored tokens routed to it.

Legend: L layers, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moebench.metrics.declared import Record, labelled, record
from moebench.models.decoder import Transformer


def routing_records(
    tokens_LE: NDArray[np.int64], *, layers: tuple[int, ...], dropped: int | None, step: int
) -> Iterator[Record]:
    """Load per expert and layer, and its summaries; nothing for a dense model (L = 0).

    `layers` are the indices of the L layers that are mixtures; `dropped` the pairs over capacity, None where a router
    takes every pair by construction.
    """
    if tokens_LE.shape[0] == 0:
        return
    for row, expert in np.ndindex(*tokens_LE.shape):
        name = labelled("routing.tokens", layer=layers[row], expert=expert)
        yield record(name, int(tokens_LE[row, expert]), step=step)
    yield record("routing.entropy", float(np.mean([normalised_entropy(load) for load in tokens_LE])), step=step)
    yield record("routing.max_over_mean", float((tokens_LE.max(1) / tokens_LE.mean(1)).mean()), step=step)
    yield record("routing.dead_experts", int((tokens_LE == 0).sum()), step=step)
    yield record("routing.idle_by_chance", float(sum(map(idle_by_chance, tokens_LE))), step=step)
    if dropped is not None:
        yield record("evaluation.dropped_share", dropped / (dropped + int(tokens_LE.sum())), step=step)


def idle_by_chance(load_E: NDArray[np.int64]) -> float:
    """Experts expected to receive nothing when as many pairs go each to an expert at random: E (1 - 1/E)^pairs."""
    return float(load_E.size * (1 - 1 / load_E.size) ** int(load_E.sum()))


def domain_records(
    tokens_by_domain: Mapping[str, NDArray[np.int64]], *, layers: tuple[int, ...], step: int
) -> Iterator[Record]:
    """Load per expert and layer, domain by domain."""
    for domain, tokens_LE in tokens_by_domain.items():
        for row, expert in np.ndindex(*tokens_LE.shape):
            name = labelled("routing.domain_tokens", layer=layers[row], expert=expert, domain=domain)
            yield record(name, int(tokens_LE[row, expert]), step=step)


def normalised_entropy(load_E: NDArray[np.int64]) -> float:
    """Entropy of the load over log(E): 1.0 when all experts are used alike; 1.0 for a single expert."""
    if load_E.size == 1:
        return 1.0
    share = load_E / load_E.sum()
    used = share[share > 0]
    return float(-(used * np.log(used)).sum() / np.log(load_E.size))


@torch.no_grad()
def ffn_output_rms(model: Transformer, tokens_BT: Tensor) -> list[float]:
    """Root mean square of each layer's FFN output: at initialisation, dense and MoE must not differ by accident."""
    found: list[float] = []

    def note(_module: nn.Module, _inputs: object, output: tuple[Tensor, object]) -> None:
        found.append(float(output[0].float().square().mean().sqrt()))

    handles = [layer.ffn.register_forward_hook(note) for layer in model.layers]
    was_training = model.training
    try:
        model.eval()
        model(tokens_BT)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return found
