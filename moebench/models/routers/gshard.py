"""The router gshard: two experts a token, the second at random."""

from __future__ import annotations

from moebench.models.lazy import Tensor, torch
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.projection import Softmax
from moebench.models.routers.routing import Routing, Text, only


class GShard(Softmax):
    """The two most probable experts; in training the second with probability twice its weight; capacity.

        weights g1, g2 = p1, p2 over p1 + p2;  the second pair exists when 2 g2 > u, u uniform on [0, 1]

    Algorithm 1 of the paper; its capacity of 2 x tokens / experts is a capacity_factor of 1 here. Evaluated with both.
    """

    source = "Lepikhin et al. 2020, arXiv:2006.16668"
    causal = True
    needs = ("capacity_factor",)
    fewer = "training"

    @classmethod
    def unfit(cls, ffn: MoEFFN) -> tuple[str, str] | None:
        wrong = f"gshard sends a token to 2 experts, not {ffn.top_k}: give top_k: 2"
        return None if ffn.top_k == 2 else ("top_k", wrong)

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
        probabilities_TE = logits_TE.softmax(1)
        weights_T2, experts_T2 = probabilities_TE.topk(2, dim=1)
        weights_T2 = weights_T2 / weights_T2.sum(1, keepdim=True)
        # Eq. of the paper's l_aux: the share of tokens whose FIRST choice an expert is.
        losses = self.losses(logits_TE, probabilities_TE, experts_T2[:, :1], text)
        routing = self.full_routing(experts_T2, weights_T2, losses)
        if not self.training:
            return routing
        u_T = torch.rand(x_TD.shape[0], device=x_TD.device, generator=text.rng())
        goes_T2 = torch.stack((torch.ones_like(u_T, dtype=torch.bool), 2 * weights_T2[:, 1] > u_T), dim=1)
        return only(routing, goes_T2.reshape(-1))
