"""Routers that learn nothing: by the token's word, or by its position. Every chosen expert weighs 1/k.

Legend: T tokens, V vocabulary, E experts, K top-k.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moebench.models.initial import generator
from moebench.models.routers.routing import Router, Routing, Text
from moebench.suite.model import MoEFFN


class TokenHash(Router):
    """A fixed random table from the token's word to its k experts (Hash Layers, Roller et al. 2021, arXiv:2106.04426).

    Each layer and seed has a table of its own.
    """

    causal = True

    table_VK: Tensor

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.register_buffer("table_VK", torch.zeros(vocab, ffn.top_k, dtype=torch.int64))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        return self.full_routing(self.table_VK[text.ids_T], _equal_weights(x_TD, self.top_k), {})

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        """k different experts for every word, all sets equally likely."""
        draws_VE = torch.rand(self.vocab, self.experts, generator=generator(seed, f"init.{prefix}"))
        self.table_VK.copy_(draws_VE.argsort(1)[:, : self.top_k])


class RoundRobin(Router):
    """Experts in turn by position: perfectly balanced and blind to content. A control, not a design.

    expert j of position p in layer l:  (k p + j + l) mod E
    """

    causal = True

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        turn_K = torch.arange(self.top_k, device=x_TD.device) + self.layer
        experts_TK = (text.position_T[:, None] * self.top_k + turn_K) % self.experts
        return self.full_routing(experts_TK, _equal_weights(x_TD, self.top_k), {})


def _equal_weights(x_TD: Tensor, top_k: int) -> Tensor:
    return torch.full((x_TD.shape[0], top_k), 1 / top_k, device=x_TD.device)
