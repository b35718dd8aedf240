"""The score of each expert by one matrix: what most routers begin with.

Legend: T tokens, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from moebench.models.initial import normal_
from moebench.models.lazy import F, Tensor, nn, torch
from moebench.models.routers.losses import Loss, balance_loss, z_loss
from moebench.models.routers.options import MoEFFN, initial_scale
from moebench.models.routers.routing import Router, Routing, Text


class Projection(Router):
    """Logits by one projection of the width, W x (+ b)."""

    any_top_k = True
    by_expert: ClassVar[tuple[str, ...] | None] = ("weight", "bias")

    weight: Tensor
    bias: Tensor | None

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.initial_scale = initial_scale(ffn)
        self.weight = nn.Parameter(torch.empty(ffn.experts, width))
        self.bias = nn.Parameter(torch.zeros(ffn.experts)) if ffn.bias and self.can_bias else None

    def logits(self, x_TD: Tensor) -> Tensor:
        """W x (+ b), float32, [T, E]."""
        return F.linear(x_TD.float(), self.weight.float(), self.bias)

    def initialise(self, seed: int, prefix: str) -> None:
        """Logits of normalised tokens get the deviation that is asked for."""
        normal_(self.weight, seed, prefix, std=self.initial_scale * self.width**-0.5)


def initial_logits(ffn: MoEFFN) -> Tensor:
    """Those of a fixed sample of normalised tokens: [4096, E]."""
    drawn_TE = torch.randn(4096, ffn.experts, generator=torch.Generator().manual_seed(0), device="cpu")
    return drawn_TE * initial_scale(ffn)


def size(weights_TK: Tensor) -> float:
    """Root of the sum of a token's squared weights: how much averaging its experts shrinks their outputs."""
    return float(weights_TK.square().sum(1).mean().sqrt())


class Softmax(Projection):
    """Probabilities by a softmax over all logits; a rule says how experts and weights are taken from them."""

    learned = True
    options: ClassVar[tuple[str, ...]] = ("capacity_factor", "jitter", "router_scale", "balance_over")
    auxiliary: ClassVar[tuple[Loss | str, ...]] = (balance_loss, z_loss)
    can_bias = True

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Of the k largest probabilities, made to add up to 1."""
        return size(initial_logits(ffn).topk(ffn.top_k, dim=1).values.softmax(1))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
        probabilities_TE = logits_TE.softmax(1)
        weights_TK, experts_TK = self.select(logits_TE, probabilities_TE)
        return self.full_routing(experts_TK, weights_TK, self.losses(logits_TE, probabilities_TE, experts_TK, text))

    def select(self, logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        """(weights, experts) of the k chosen, [T, K] each."""
        raise NotImplementedError

    def weigh(self, x_TD: Tensor, experts_TK: Tensor) -> tuple[Tensor, Tensor] | None:
        """By its own rule over those experts alone; None of one whose rule is no `select`."""
        if type(self).select is Softmax.select:
            return None
        others_TE = torch.ones(x_TD.shape[0], self.experts, dtype=torch.bool, device=x_TD.device)
        others_TE.scatter_(1, experts_TK, value=False)
        logits_TE = self.logits(x_TD)
        few_TE = logits_TE.masked_fill(others_TE, float("-inf"))
        is_renormalised = self.sums_to_1 == "always" or (self.sums_to_1 == "if asked" and self.renormalise)
        probabilities_TE = few_TE.softmax(1) if is_renormalised else logits_TE.softmax(1).masked_fill(others_TE, -1.0)
        return self.select(few_TE, probabilities_TE)

    def losses(
        self, logits_TE: Tensor, probabilities_TE: Tensor, experts_TK: Tensor, text: Text
    ) -> dict[Loss, Callable[[], Tensor]]:
        """The balance loss over the tokens that the suite says, and the z-loss; those of them that it has."""
        losses = {
            balance_loss: lambda: self.balanced(probabilities_TE, experts_TK, text),
            z_loss: lambda: z_loss(logits_TE),
        }
        return {loss: value for loss, value in losses.items() if loss in self.auxiliary}
