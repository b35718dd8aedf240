"""Auxiliary losses of routers, before their coefficients. Each says its value under perfect balance.

Legend: T tokens, E experts, K top-k, N routed pairs, S sequences.
"""

from __future__ import annotations

import torch
from torch import Tensor


def load_balance_loss(probabilities_TE: Tensor, expert_N: Tensor) -> Tensor:
    """E x sum over experts of (share of routed pairs) x (mean probability): 1.0 at perfect balance, whatever k.

    Fedus et al. 2021 (arXiv:2101.03961), eq. 4, divided by k. transformers' `load_balancing_loss_func` is k times this.
    """
    num_experts = probabilities_TE.shape[1]
    return balance(torch.bincount(expert_N, minlength=num_experts), expert_N.numel(), probabilities_TE.mean(0))


def balance(pairs_E: Tensor, num_pairs: int | Tensor, probability_E: Tensor) -> Tensor:
    """The same from the pairs of each expert and its mean probability.

    With the pairs of the whole batch and the probabilities of one micro-batch this is the global-batch loss of Qiu et
    al. 2025 (arXiv:2501.11873).
    """
    share_E = pairs_E.to(probability_E.dtype) / num_pairs
    return probability_E.shape[0] * (share_E * probability_E).sum()


def sequence_balance_loss(probabilities_TE: Tensor, expert_TK: Tensor, *, length: int) -> Tensor:
    """The balance loss of each sequence of `length` tokens, averaged: DeepSeek-V3, arXiv:2412.19437, eq. 17 to 20.

    1.0 when every sequence is balanced. `expert_TK` are the experts to count: the paper's eq. 18 takes those of the k
    largest scores, without selection biases and groups.
    """
    num_tokens, num_experts = probabilities_TE.shape
    sequences = num_tokens // length
    cell_N = torch.arange(num_tokens, device=expert_TK.device)[:, None] // length * num_experts + expert_TK
    pairs_SE = torch.bincount(cell_N.reshape(-1), minlength=sequences * num_experts).view(sequences, num_experts)
    share_SE = pairs_SE.to(probabilities_TE.dtype) / (length * expert_TK.shape[1])
    probability_SE = probabilities_TE.view(sequences, length, num_experts).mean(1)
    return num_experts * (share_SE * probability_SE).sum(1).mean()


def router_z_loss(logits_TE: Tensor) -> Tensor:
    """Mean squared log-partition of the router's logits (Zoph et al. 2022, arXiv:2202.08906, eq. 5)."""
    return torch.logsumexp(logits_TE, dim=1).square().mean()


def squared_variation(amount_E: Tensor) -> Tensor:
    """Squared coefficient of variation, variance over squared mean: 0.0 when all are equal (Shazeer 2017, eq. 7)."""
    return amount_E.var(unbiased=False) / amount_E.mean().square().clamp_min(1e-20)


def routing_entropy(probabilities_TE: Tensor) -> Tensor:
    """Mean entropy of the routing probabilities in nats; log E when they are uniform (arXiv:2403.07652, eq. 6)."""
    return -(probabilities_TE * probabilities_TE.clamp_min(1e-20).log()).sum(1).mean()
