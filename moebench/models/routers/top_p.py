"""The router top_p: as many experts as a token needs to be sure."""

from __future__ import annotations

from moebench.frozen import later
from moebench.models.lazy import Tensor
from moebench.models.routers.losses import balance_loss, loss, z_loss
from moebench.models.routers.options import MoEFFN, Options
from moebench.models.routers.projection import Softmax, initial_logits, size
from moebench.models.routers.routing import Routing, Text, only


class TopPOptions(Options):
    """What it alone reads."""

    top_p: float | None = later(gt=0, le=1, examples=[0.4])
    """Probability that the chosen experts must reach together (router top_p)."""


@loss("Coefficient of the mean entropy of the routing probabilities, in nats (router top_p).", mean=True)
def entropy_loss(probabilities_TE: Tensor) -> Tensor:
    """Mean entropy of the routing probabilities in nats; log E when they are uniform (arXiv:2403.07652, eq. 6)."""
    return -(probabilities_TE * probabilities_TE.clamp_min(1e-20).log()).sum(1).mean()


def reaching(weights_TK: Tensor, top_p: float) -> Tensor:
    """Which of the weights, in falling order, are needed to reach p: [T, K], the first always."""
    goes_TK = weights_TK.cumsum(1) - weights_TK < top_p  # what the better ones reach without this one
    goes_TK[:, 0] = True
    return goes_TK


class TopP(Softmax):
    """The fewest experts whose probabilities reach p, at most top_k; how many is the token's own.

        experts by falling probability until the sum is at least p;  weight_e = p_e (renormalised if asked)

    Costs are stated with top_k as a bound.
    """

    source = "Huang et al. 2024, arXiv:2403.07652"
    causal = True
    options = ("capacity_factor", "jitter", "router_scale", "top_p")
    Options = TopPOptions
    needs = ("top_p",)
    auxiliary = (balance_loss, z_loss, entropy_loss)
    sums_to_1 = "if asked"
    fewer = "always"

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.top_p: float = ffn.top_p

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
        probabilities_TE = logits_TE.softmax(1)
        weights_TK, experts_TK = probabilities_TE.topk(self.top_k, dim=1)
        goes_TK = reaching(weights_TK, self.top_p)
        weights_TK = weights_TK * goes_TK
        if self.renormalise:
            weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)
        goes_N = goes_TK.reshape(-1)
        expert_N = experts_TK.reshape(-1)[goes_N]
        losses = {
            balance_loss: lambda: self.balanced(probabilities_TE, expert_N, text),
            z_loss: lambda: z_loss(logits_TE),
            entropy_loss: lambda: entropy_loss(probabilities_TE),
        }
        return only(self.full_routing(experts_TK, weights_TK, losses), goes_N)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Of the experts that reach p."""
        weights_TK = initial_logits(ffn).softmax(1).topk(ffn.top_k, dim=1).values
        weights_TK = weights_TK * reaching(weights_TK, ffn.top_p)
        return size(weights_TK / weights_TK.sum(1, keepdim=True) if ffn.renormalise else weights_TK)
