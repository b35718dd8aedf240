"""The router noisy_topk: the gating of Shazeer et al. 2017 (arXiv:1701.06538).

    H(x)_i = (x W_g)_i + normal() softplus((x W_noise)_i),  weights = softmax over the k largest of H

In evaluation the noise is left out.

Legend: T tokens, D width, E experts, K top-k, R choices of one level.
"""

from __future__ import annotations

from moebench.frozen import later
from moebench.models.initial import normal_
from moebench.models.lazy import F, Module, Tensor, nn, torch
from moebench.models.routers.losses import balance_loss, loss, z_loss
from moebench.models.routers.options import MoEFFN, Options, initial_scale
from moebench.models.routers.projection import initial_logits, size
from moebench.models.routers.routing import Router, Routing, Text


@loss("Coefficient of the squared coefficient of variation of the experts' summed weights (Shazeer 2017: 0.1).")
def importance_loss(importance_E: Tensor) -> Tensor:
    """Of the weights that each expert received, summed over the tokens (eq. 6 and 7); 0.0 when all are equal."""
    return squared_variation(importance_E)


@loss("Coefficient of the squared coefficient of variation of the experts' expected load (Shazeer 2017: 0.1).")
def load_loss(load_E: Tensor) -> Tensor:
    """Of the pairs that each expert can expect (eq. 8 to 11); 0.0 when all are equal."""
    return squared_variation(load_E)


def squared_variation(amount_E: Tensor) -> Tensor:
    """Squared coefficient of variation, variance over squared mean (eq. 7)."""
    return amount_E.var(unbiased=False) / amount_E.mean().square().clamp_min(1e-20)


def importance(weights_TK: Tensor, experts_TK: Tensor, experts: int) -> Tensor:
    """The weights that each expert received, summed over the tokens, [E]."""
    return weights_TK.new_zeros(experts).index_add(0, experts_TK.reshape(-1), weights_TK.reshape(-1))


class Gate(Module):
    """One level of noisy top-k gating over `rows` choices."""

    weight: Tensor
    noise: Tensor

    def __init__(self, rows: int, *, width: int, scale: float, noise_scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.noise_scale = scale, noise_scale
        self.weight = nn.Parameter(torch.empty(rows, width))
        self.noise = nn.Parameter(torch.empty(rows, width))
        """The noise's deviation is softplus of this projection, times its scale; at first log 2 everywhere, as the
        paper starts it."""

    def forward(self, x_TD: Tensor, text: Text) -> tuple[Tensor, Tensor, Tensor | None]:
        """(clear logits, noisy logits, deviation of the noise); without noise in evaluation."""
        clear_TR = F.linear(x_TD.float(), self.weight.float())
        if not self.training:
            return clear_TR, clear_TR, None
        deviation_TR = F.softplus(F.linear(x_TD.float(), self.noise.float())) * self.noise_scale
        normal_TR = torch.randn(clear_TR.shape, device=clear_TR.device, generator=text.rng())
        return clear_TR, clear_TR + normal_TR * deviation_TR, deviation_TR

    def initialise(self, seed: int, prefix: str) -> None:
        normal_(self.weight, seed, prefix, std=self.scale * self.weight.shape[1] ** -0.5)
        nn.init.zeros_(self.noise)


def expected_load(clear: Tensor, noisy: Tensor, deviation: Tensor, top_k: int) -> Tensor:
    """Probability that each choice is among the k if its own noise were drawn again (eq. 9); last axis is the choices.

    1 for all when every choice is taken.
    """
    if top_k == noisy.shape[-1]:
        return torch.ones_like(clear)
    best = noisy.topk(top_k + 1, dim=-1).values
    inside = noisy > best[..., top_k : top_k + 1]
    # The k-th best of the others: the (k+1)-th of all for one that is inside, else the k-th.
    threshold = torch.where(inside, best[..., top_k : top_k + 1], best[..., top_k - 1 : top_k])
    probability: Tensor = torch.special.ndtr((clear - threshold) / deviation)
    return probability


class NoisyTopKOptions(Options):
    """What it alone reads."""

    noise_scale: float | None = later(gt=0, le=100, examples=[0.3])
    """Factor of the noise's deviation (router noisy_topk); absent: 1, as published."""


class NoisyTopK(Router):
    """Top-k of logits plus trainable Gaussian noise, then softmax over those k; importance and load losses."""

    source = "Shazeer et al. 2017, arXiv:1701.06538"
    causal = True
    learned = True
    options = ("capacity_factor", "jitter", "router_scale", "balance_over", "noise_scale")
    Options = NoisyTopKOptions
    auxiliary = (balance_loss, z_loss, importance_loss, load_loss)
    sums_to_1 = "always"
    noisy = True
    any_top_k = True
    by_expert = ("gate.weight", "gate.noise")

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        noise_scale = 1.0 if ffn.noise_scale is None else ffn.noise_scale
        self.gate = Gate(ffn.experts, width=width, scale=initial_scale(ffn), noise_scale=noise_scale)

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Without the noise."""
        return size(initial_logits(ffn).topk(ffn.top_k, dim=1).values.softmax(1))

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        clear_TE, noisy_TE, deviation_TE = self.gate(x_TD, text)
        chosen_TK, experts_TK = noisy_TE.topk(self.top_k, dim=1)
        weights_TK = chosen_TK.softmax(1)

        def load() -> Tensor:
            if deviation_TE is None:
                return torch.zeros((), device=x_TD.device)
            expected_E = expected_load(clear_TE, noisy_TE, deviation_TE, self.top_k).sum(0)
            return load_loss(self.over_batch("load", expected_E))

        losses = {
            balance_loss: lambda: self.balanced(clear_TE.softmax(1), experts_TK, text),
            z_loss: lambda: z_loss(clear_TE),
            importance_loss: lambda: importance_loss(
                self.over_batch("importance", importance(weights_TK, experts_TK, self.experts))
            ),
            load_loss: load,
        }
        return self.full_routing(experts_TK, weights_TK, losses)

    def weigh(self, x_TD: Tensor, experts_TK: Tensor) -> tuple[Tensor, Tensor]:
        """Without the noise."""
        clear_TE = F.linear(x_TD.float(), self.gate.weight.float())
        return clear_TE.gather(1, experts_TK).softmax(1), experts_TK

    def initialise(self, seed: int, prefix: str) -> None:
        self.gate.initialise(seed, prefix)
