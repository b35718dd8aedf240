"""The router frozen_random: routing by content without learning it, a control."""

from __future__ import annotations

from moebench.models.initial import normal_
from moebench.models.lazy import torch
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.softmax_topk import SoftmaxTopK


class FrozenRandom(SoftmaxTopK):
    """softmax_topk whose projection is drawn once and never trained.

    Control of On the Benefits of Learning to Route in Mixture-of-Experts Models.
    """

    source = "Dikkala et al. 2023, doi:10.18653/v1/2023.emnlp-main.583"
    causal = True
    learned = False
    options = ("capacity_factor", "jitter")
    auxiliary = ()
    can_bias = False

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        del self.weight
        self.register_buffer("weight", torch.empty(ffn.experts, width))  # stored and counted, but never a parameter

    def initialise(self, seed: int, prefix: str) -> None:
        """Decided from the start: logits of normalised tokens have a deviation of about 1."""
        normal_(self.weight, seed, prefix, std=self.width**-0.5)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return super().output_scale(ffn.model_copy(update={"router_scale": 1.0}))
