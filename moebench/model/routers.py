"""Routers: which experts a token goes to, with what weight, and what the auxiliary losses are.

A router sees tokens and returns a `Routing`; it knows nothing of experts' insides, and experts know nothing of routers.
A new router is a class here and a line in `ROUTERS`; installed packages add theirs through the entry point group
`moebench.routers`.

Legend: T tokens, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.spec.types import MoEFFN


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Who computes what: N (token, expert, weight) triples in token order, and the losses that shaped them."""

    token_N: Tensor
    """Row of each pair's token, int64, not decreasing."""
    expert_N: Tensor
    """Expert of each pair, int64."""
    weight_N: Tensor
    """Factor of each pair's output; carries the router's gradient."""
    per_token: int | None
    """Pairs of every token when all have the same number, in order; None when they differ."""
    dropped: int
    """Pairs that an expert's capacity refused; they are not among the N."""
    losses: dict[str, Tensor]
    """Named auxiliary losses, scalars, before their coefficients; empty where no gradient is wanted."""


def load_balance_loss(probabilities_TE: Tensor, expert_N: Tensor) -> Tensor:
    """E x sum over experts of (share of routed pairs) x (mean probability): 1.0 at perfect balance, whatever k.

    Fedus et al. 2021 (arXiv:2101.03961), eq. 4, divided by k. transformers' `load_balancing_loss_func` is k times this.
    """
    num_experts = probabilities_TE.shape[1]
    share_E = torch.bincount(expert_N, minlength=num_experts).to(probabilities_TE.dtype) / expert_N.numel()
    return num_experts * (share_E * probabilities_TE.mean(0)).sum()


def router_z_loss(logits_TE: Tensor) -> Tensor:
    """Mean squared log-partition of the router's logits (Zoph et al. 2022, arXiv:2202.08906, eq. 5)."""
    return torch.logsumexp(logits_TE, dim=1).square().mean()


def _losses(logits_TE: Tensor, probabilities_TE: Tensor, expert_N: Tensor) -> dict[str, Tensor]:
    return {
        "balance_loss": load_balance_loss(probabilities_TE, expert_N),
        "z_loss": router_z_loss(logits_TE),
    }


class SoftmaxTopK(nn.Module):
    """Softmax over all experts, then the k most probable (Shazeer 2017; Mixtral, arXiv:2401.04088, renormalised).

    Dropless: an expert takes every token that chooses it. Ties are broken as `topk` does: always alike, not by index.
    """

    causal: ClassVar[bool] = True
    """Whether a token's experts depend on no later token and on no other sequence."""
    drops: ClassVar[bool] = False

    def __init__(self, ffn: MoEFFN, *, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(ffn.experts, width))
        self.top_k = ffn.top_k
        self.renormalise = ffn.renormalise

    def forward(self, x_TD: Tensor) -> Routing:
        """Routes T tokens; scores are computed in float32 whatever the dtype of `x_TD`."""
        logits_TE = F.linear(x_TD.float(), self.weight.float())
        probabilities_TE = logits_TE.softmax(1)
        weights_TK, experts_TK = probabilities_TE.topk(self.top_k, dim=1)
        if self.renormalise:
            weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)
        num_tokens = x_TD.shape[0]
        expert_N = experts_TK.reshape(-1)
        return Routing(
            token_N=torch.arange(num_tokens, device=x_TD.device).repeat_interleave(self.top_k),
            expert_N=expert_N,
            weight_N=weights_TK.reshape(-1),
            per_token=self.top_k,
            dropped=0,
            losses=_losses(logits_TE, probabilities_TE, expert_N) if torch.is_grad_enabled() else {},
        )

    @staticmethod
    def output_scale(ffn: MoEFFN) -> float:
        """Root of the sum of squared weights of equally probable experts: how much averaging shrinks outputs."""
        weight = 1 / ffn.top_k if ffn.renormalise else 1 / ffn.experts
        return float((ffn.top_k * weight**2) ** 0.5)


Router = SoftmaxTopK
"""The shape of a router: `causal`, `drops`, `output_scale`, and `forward` from tokens to a `Routing`."""

ROUTERS: dict[str, type[Router]] = {
    "softmax_topk": SoftmaxTopK,
}


def router_class(word: str) -> type[Router]:
    """The router a suite names: ours, or an installed package's. Raises KeyError listing the known words."""
    if word in ROUTERS:
        return ROUTERS[word]
    offered = {point.name: point for point in entry_points(group="moebench.routers")}
    if word in offered:
        return offered[word].load()  # type: ignore[no-any-return]
    raise KeyError(f"unknown router {word!r}; known: {', '.join(sorted([*ROUTERS, *offered]))}")
