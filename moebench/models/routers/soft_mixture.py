"""The router soft_mixture: the mixture of experts of before there was sparsity."""

from __future__ import annotations

from moebench.models.lazy import Tensor, torch
from moebench.models.routers.losses import z_loss
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.projection import Softmax, initial_logits, size


class SoftMixture(Softmax):
    """Every expert runs, weighted by a softmax gate: no sparsity, active equals total.

        weight_e = softmax(W x)_e for all E experts

    The gate and the mixture are the paper's; its likelihood of a mixture is not, as a decoder's layer has no target.
    """

    source = "Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79"
    causal = True
    options = ("jitter", "router_scale")
    auxiliary = (z_loss,)  # all experts get every token, so a balance loss would be 1 whatever the gate does
    even = True

    @classmethod
    def unfit(cls, ffn: MoEFFN) -> tuple[str, str] | None:
        if ffn.top_k == ffn.experts:
            return None
        return "top_k", f"in a soft mixture every expert runs: give top_k: {ffn.experts}, the number of experts"

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return size(initial_logits(ffn).softmax(1))

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        all_E = torch.arange(self.experts, device=probabilities_TE.device)
        return probabilities_TE, all_E.expand_as(probabilities_TE)
