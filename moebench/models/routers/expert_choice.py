"""The router expert_choice: NOT CAUSAL.

Whether a token gets an expert depends on how all other tokens of its sequence, later ones too, score. A language model
trained so sees the future through its routing; its loss on text is no measure of quality, and claims about it are
INVALID. Decoding token by token is not the same computation.

Legend: B sequences, L their length, T = B x L tokens, E experts, C tokens that an expert picks from each sequence.
"""

from __future__ import annotations

from math import gcd

from moebench.models.lazy import Tensor, torch
from moebench.models.routers.losses import z_loss
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.projection import Projection, initial_logits
from moebench.models.routers.routing import Routing, Text, room


class ExpertChoice(Projection):
    """NOT CAUSAL: each expert picks its tokens of the sequence, so a token's experts depend on later ones.

        S = softmax(W x) over experts;  expert e takes the C largest of S[:, e];  C = k x length / E
        weight = S[t, e]

    The mean number of experts a token gets, the paper's capacity factor, is top_k here. The paper picks from the whole
    batch; here from each sequence, so that batch mates do not matter.
    """

    source = "Zhou et al. 2022, arXiv:2202.09368"
    causal = False
    learned = True
    options = ("jitter", "router_scale")
    auxiliary = (z_loss,)
    even = True
    any_top_k = False  # it is a capacity
    by_expert = None

    @classmethod
    def unfit_context(cls, ffn: MoEFFN, context: int) -> tuple[str, str] | None:
        """Every expert gets C = top_k x context / experts tokens of a sequence (section 3.2): a whole number.

        Rounded up, tokens would have more than top_k experts on average, and cost more than is planned.
        """
        pairs = ffn.top_k * context
        if pairs % ffn.experts == 0:
            return None
        number = min((n for n in range(ffn.top_k, 1025) if pairs % n == 0), key=lambda n: (abs(n - ffn.experts), n))
        contexts, top_k = ffn.experts // gcd(ffn.experts, ffn.top_k), ffn.experts // gcd(ffn.experts, context)
        wrong = f"{ffn.experts} experts cannot choose equally many of {context} tokens for top_k {ffn.top_k}"
        return wrong, f"use {number} experts, a context that {contexts} divides, or a top_k that {top_k} divides"

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
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
            losses=self.taken({z_loss: lambda: z_loss(logits_TE)}),
        )

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """k experts a token on average, each that of its most probable tokens."""
        scores_ET = initial_logits(ffn).softmax(1).T
        chosen_ET = scores_ET.topk(scores_ET.shape[1] * ffn.top_k // ffn.experts, dim=1).values
        return float((chosen_ET.square().sum() / scores_ET.shape[1]).sqrt())
