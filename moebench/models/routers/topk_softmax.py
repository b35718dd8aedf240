"""The router topk_softmax: softmax_topk renormalised, in the order in which published code computes it."""

from __future__ import annotations

from moebench.models.lazy import Tensor
from moebench.models.routers.projection import Softmax


class TopKSoftmax(Softmax):
    """The k largest logits, then a softmax over those k; equals softmax_topk renormalised.

    S = the k largest of W x + b,  weight_e = exp(l_e) / sum of exp(l) over S
    """

    source = "gpt-oss 2025; Mixtral's equation (arXiv:2401.04088)"
    causal = True
    sums_to_1 = "always"

    def select(self, logits_TE: Tensor, _probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        chosen_TK, experts_TK = logits_TE.topk(self.top_k, dim=1)
        return chosen_TK.softmax(1), experts_TK
