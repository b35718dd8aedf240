"""The router softmax_topk, by which the others are told apart."""

from __future__ import annotations

from moebench.models.lazy import Tensor
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.projection import Softmax, initial_logits, size


class SoftmaxTopK(Softmax):
    """Softmax over all experts, then the k most probable, renormalised or not; dropless unless capped.

        p = softmax(W x),  S = the k largest,  weight_e = p_e, or p_e / sum of p over S when renormalised

    Ties are broken as `topk` does: always alike, not by index.
    """

    source = "Mixtral, arXiv:2401.04088 (renormalised); OLMoE, arXiv:2409.02060 (not)"
    causal = True
    sums_to_1 = "if asked"

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        weights_TK, experts_TK = probabilities_TE.topk(self.top_k, dim=1)
        if self.renormalise:
            weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)
        return weights_TK, experts_TK

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Without renormalisation that of the k largest probabilities."""
        if ffn.renormalise:
            return super().output_scale(ffn)
        return size(initial_logits(ffn).softmax(1).topk(ffn.top_k, dim=1).values)
