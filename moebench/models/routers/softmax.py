"""Routers by a softmax over the logits of one projection: the plain rule, its variants and its controls.

Legend: T tokens, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.initial import normal_
from moebench.models.routers.losses import (
    balance,
    load_balance_loss,
    router_z_loss,
    routing_entropy,
    sequence_balance_loss,
)
from moebench.models.routers.routing import Router, Routing, Text
from moebench.suite.model import MoEFFN


class SoftmaxTopK(Router):
    """Softmax over all experts, then the k most probable (Shazeer 2017; Mixtral, arXiv:2401.04088, renormalised).

        p = softmax(W x),  S = the k largest,  weight_e = p_e, or p_e / sum of p over S when renormalised

    Dropless unless given a capacity. Ties are broken as `topk` does: always alike, not by index.
    """

    causal = True

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.weight = nn.Parameter(torch.empty(ffn.experts, width))
        self.bias = nn.Parameter(torch.zeros(ffn.experts)) if ffn.bias else None

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
        probabilities_TE = logits_TE.softmax(1)
        weights_TK, experts_TK = self.select(logits_TE, probabilities_TE)
        return self.full_routing(experts_TK, weights_TK, self.losses(logits_TE, probabilities_TE, experts_TK, text))

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        """(weights, experts) of the k chosen, [T, K] each."""
        weights_TK, experts_TK = probabilities_TE.topk(self.top_k, dim=1)
        if self.renormalise:
            weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)
        return weights_TK, experts_TK

    def logits(self, x_TD: Tensor) -> Tensor:
        """W x (+ b), float32."""
        return F.linear(x_TD.float(), self.weight.float(), self.bias)

    def losses(
        self, logits_TE: Tensor, probabilities_TE: Tensor, experts_TK: Tensor, text: Text
    ) -> dict[str, Callable[[], Tensor]]:
        """The balance loss over the tokens that the suite says, and the z-loss."""
        return {
            "balance_loss": lambda: self.balance_loss(probabilities_TE, experts_TK, text),
            "z_loss": lambda: router_z_loss(logits_TE),
        }

    def balance_loss(self, probabilities_TE: Tensor, experts_TK: Tensor, text: Text) -> Tensor:
        """Over the micro-batch, each sequence, or the batch so far."""
        expert_N = experts_TK.reshape(-1)
        if self.balance_over == "sequence":
            return sequence_balance_loss(probabilities_TE, experts_TK, length=text.length)
        if self.balance_over == "batch":
            pairs_E = self.pairs_of_batch(torch.bincount(expert_N, minlength=self.experts))
            return balance(pairs_E, pairs_E.sum(), probabilities_TE.mean(0))
        return load_balance_loss(probabilities_TE, expert_N)

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        """Nearly undecided."""
        normal_(self.weight, seed, prefix, std=0.1 * self.width**-0.5)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        weight = 1 / ffn.top_k if ffn.renormalise else 1 / ffn.experts
        return float((ffn.top_k * weight**2) ** 0.5)


class TopKSoftmax(SoftmaxTopK):
    """The k largest logits, then a softmax over those k alone (gpt-oss; Mixtral's equation, arXiv:2401.04088).

        S = the k largest of W x + b,  weight_e = exp(l_e) / sum of exp(l) over S

    Equal to `softmax_topk` renormalised; kept apart because published code does it in this order.
    """

    def select(self, logits_TE: Tensor, _probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        chosen_TK, experts_TK = logits_TE.topk(self.top_k, dim=1)
        return chosen_TK.softmax(1), experts_TK

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return float(ffn.top_k**-0.5)


class Switch(SoftmaxTopK):
    """The most probable expert, its output times that probability (Fedus et al. 2021, arXiv:2101.03961).

        p = softmax(W x),  e = argmax p,  weight = p_e

    An expert has room for capacity_factor x tokens / experts of a micro-batch and refuses the rest.
    """

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        return probabilities_TE.topk(1, dim=1)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return 1 / ffn.experts


class GShard(SoftmaxTopK):
    """The two most probable experts; in training the second comes by chance (Lepikhin et al. 2020, arXiv:2006.16668).

        weights g1, g2 = p1, p2 over p1 + p2;  the second pair exists when 2 g2 > u, u uniform on [0, 1]

    Algorithm 1 of the paper; its capacity of 2 x tokens / experts is a capacity_factor of 1 here. Evaluated with both.
    """

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
        chance_T = torch.rand(x_TD.shape[0], device=x_TD.device, generator=text.chance())
        goes_T2 = torch.stack((torch.ones_like(chance_T, dtype=torch.bool), 2 * weights_T2[:, 1] > chance_T), dim=1)
        goes_N = goes_T2.reshape(-1)
        return Routing(
            token_N=routing.token_N[goes_N],
            expert_N=routing.expert_N[goes_N],
            weight_N=routing.weight_N[goes_N],
            per_token=None,
            dropped=0,
            losses=routing.losses,
        )

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        return float(ffn.top_k**-0.5)


class FrozenRandom(SoftmaxTopK):
    """`softmax_topk` whose projection is drawn once and never trained: routing by content without learning it.

    Control of Dikkala et al. 2023 (On the Benefits of Learning to Route in Mixture-of-Experts Models,
    doi:10.18653/v1/2023.emnlp-main.583).
    """

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        del self.weight
        self.register_buffer("weight", torch.empty(ffn.experts, width))  # stored and counted, but never a parameter
        self.bias = None
        self.wanted_losses = frozenset()

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        """Decided from the start: logits of normalised tokens have a deviation of about 1."""
        normal_(self.weight, seed, prefix, std=self.width**-0.5)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Without renormalisation that of the k largest probabilities of such logits, over a fixed sample of them."""
        if ffn.renormalise:
            return float(ffn.top_k**-0.5)
        logits_TE = torch.randn(4096, ffn.experts, generator=torch.Generator().manual_seed(0))
        weights_TK = logits_TE.softmax(1).topk(ffn.top_k, dim=1).values
        return float(weights_TK.square().sum(1).mean().sqrt())


class SoftMixture(SoftmaxTopK):
    """Every expert runs, weighted by a softmax gate (Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79).

        weight_e = softmax(W x)_e for all E experts

    The gate and the mixture are the paper's; its likelihood of a mixture is not, as a decoder's layer has no target.
    """

    def select(self, _logits_TE: Tensor, probabilities_TE: Tensor) -> tuple[Tensor, Tensor]:
        all_E = torch.arange(self.experts, device=probabilities_TE.device)
        return probabilities_TE, all_E.expand_as(probabilities_TE)

    def losses(
        self, logits_TE: Tensor, _probabilities_TE: Tensor, _experts_TK: Tensor, _text: Text
    ) -> dict[str, Callable[[], Tensor]]:
        """No balance loss: all experts get every token, so it would be 1 whatever the gate does."""
        return {"z_loss": lambda: router_z_loss(logits_TE)}


class TopP(SoftmaxTopK):
    """The fewest experts whose probabilities reach p together, at most top_k (Huang et al. 2024, arXiv:2403.07652).

        experts by falling probability until the sum is at least p;  weight_e = p_e (renormalised if asked)

    How many is each token's own, so costs are stated with top_k as a bound.
    """

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        assert ffn.top_p is not None
        self.top_p = ffn.top_p

    def choose(self, x_TD: Tensor, text: Text) -> Routing:  # noqa: ARG002
        logits_TE = self.logits(x_TD)
        probabilities_TE = logits_TE.softmax(1)
        weights_TK, experts_TK = probabilities_TE.topk(self.top_k, dim=1)
        goes_TK = weights_TK.cumsum(1) - weights_TK < self.top_p  # what the better ones reach without this one
        goes_TK[:, 0] = True
        weights_TK = weights_TK * goes_TK
        if self.renormalise:
            weights_TK = weights_TK / weights_TK.sum(1, keepdim=True)
        goes_N = goes_TK.reshape(-1)
        token_N = torch.arange(x_TD.shape[0], device=x_TD.device).repeat_interleave(self.top_k)[goes_N]
        expert_N = experts_TK.reshape(-1)[goes_N]
        losses = {
            "balance_loss": lambda: load_balance_loss(probabilities_TE, expert_N),
            "z_loss": lambda: router_z_loss(logits_TE),
            "entropy_loss": lambda: routing_entropy(probabilities_TE),
        }
        return Routing(
            token_N=token_N,
            expert_N=expert_N,
            weight_N=weights_TK.reshape(-1)[goes_N],
            per_token=None,
            dropped=0,
            losses=self.taken(losses),
        )

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Of the m equally probable experts that reach p."""
        assert ffn.top_p is not None
        chosen = min(ffn.top_k, math.ceil(Fraction(str(ffn.top_p)) * ffn.experts))
        return float(chosen**-0.5 if ffn.renormalise else chosen**0.5 / ffn.experts)
