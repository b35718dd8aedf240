"""The router token_hash: a word always goes to the same experts.

Legend: V vocabulary, E experts, K top-k.
"""

from __future__ import annotations

from moebench.models.initial import generator
from moebench.models.lazy import Tensor, torch
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.round_robin import Fixed
from moebench.models.routers.routing import Routing, Text


class TokenHash(Fixed):
    """A fixed random table from the token's word to k experts; nothing is learned.

    Each layer and seed has a table of its own. Every chosen expert weighs 1/k.
    """

    source = "Roller et al. 2021, arXiv:2106.04426"
    causal = True
    options = ("capacity_factor",)

    table_VK: Tensor

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.register_buffer("table_VK", torch.zeros(vocab, ffn.top_k, dtype=torch.int64))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        return self.equally(x_TD, self.table_VK[text.ids_T])

    def initialise(self, seed: int, prefix: str) -> None:
        """k different experts for every word, all sets equally likely."""
        draws_VE = torch.rand(self.vocab, self.experts, generator=generator(seed, f"init.{prefix}"))
        self.table_VK.copy_(draws_VE.argsort(1)[:, : self.top_k])
