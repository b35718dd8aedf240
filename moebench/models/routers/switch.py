"""The router switch: one expert a token, with room for a share of the tokens."""

from __future__ import annotations

from moebench.models.lazy import Tensor
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.projection import Softmax, initial_logits, size


class Switch(Softmax):
    """The most probable expert, its output scaled by that probability; capacity, dropping and input jitter.

        p = softmax(W x),  e = argmax p,  weight = p_e

    An expert has room for capacity_factor x tokens / experts of a micro-batch and drops the rest.
    """

    source = "Fedus et al. 2021, arXiv:2101.03961"
    causal = True
    needs = ("capacity_factor",)

    @classmethod
    def unfit(cls, ffn: MoEFFN) -> tuple[str, str] | None:
        wrong = f"switch sends a token to 1 expert, not {ffn.top_k}: give top_k: 1"
        return None if ffn.top_k == 1 else ("top_k", wrong)

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        return probabilities_TE.topk(1, dim=1)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return size(initial_logits(ffn).softmax(1).topk(1, dim=1).values)
