"""Expert choice: each expert picks its tokens (Zhou et al. 2022, arXiv:2202.09368).

NOT CAUSAL: whether a token gets an expert depends on how all other tokens of its sequence, later ones too, score. A
language model trained so sees the future through its routing; its loss on text is no measure of quality, and claims
about it are INVALID. Decoding token by token is not the same computation.

Legend: B sequences, L their length, T = B x L tokens, E experts, C tokens that an expert picks from each sequence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.initial import normal_
from moebench.models.routers.capacity import room
from moebench.models.routers.losses import router_z_loss
from moebench.models.routers.routing import Router, Routing, Text
from moebench.suite.model import MoEFFN


class ExpertChoice(Router):
    """NOT CAUSAL: each expert picks the C tokens of every sequence that give it the highest probability.

        S = softmax(W x) over experts;  expert e takes the C largest of S[:, e];  C = k x length / E
        weight = S[t, e]

    The mean number of experts a token gets, the paper's capacity factor, is top_k here. The paper picks from the whole
    batch; here from each sequence, so that batch mates do not matter.
    """

    causal = False

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.weight = nn.Parameter(torch.empty(ffn.experts, width))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = F.linear(x_TD.float(), self.weight.float())
        length = text.length
        slots = min(length, room(1.0, tokens=length, top_k=self.top_k, experts=self.experts))
        scores_BEL = logits_TE.softmax(1).view(-1, length, self.experts).transpose(1, 2)
        weights_BEC, place_BEC = scores_BEL.topk(slots, dim=2)
        batch = scores_BEL.shape[0]
        first_B = torch.arange(batch, device=x_TD.device)[:, None, None] * length
        token_N = (first_B + place_BEC).reshape(-1)
        expert_N = torch.arange(self.experts, device=x_TD.device)[None, :, None].expand_as(place_BEC).reshape(-1)
        order_N = token_N.argsort(stable=True)
        return Routing(
            token_N=token_N[order_N],
            expert_N=expert_N[order_N],
            weight_N=weights_BEC.reshape(-1)[order_N],
            per_token=None,
            dropped=0,
            losses=self.taken({"z_loss": lambda: router_z_loss(logits_TE)}),
        )

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        """Nearly undecided."""
        normal_(self.weight, seed, prefix, std=0.1 * self.width**-0.5)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """k experts a token on average, each of weight 1 / E."""
        return float(ffn.top_k**0.5 / ffn.experts)
