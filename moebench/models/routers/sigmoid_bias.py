"""The router sigmoid_bias: sigmoid scores with a selection bias that balances the load without a loss.

    s = sigmoid(W x),  S = the k largest of s + b,  weight_e = scale x s_e / sum of s over S

`b` is no parameter: after each step it rises by `bias_rate` for experts that got fewer pairs than the mean and falls
for those that got more (Wang et al. 2024, arXiv:2408.15664). With groups, only the experts of the `groups_chosen`
groups with the largest sum of their two best biased scores can be chosen.

A balance loss counts the pairs that were routed, so by biased scores within the chosen groups; DeepSeek-V3's eq. 18
counts the k largest unbiased scores over all experts. The two differ as far as biases and groups change the choice.

Legend: T tokens, D width, E experts, K top-k, G groups, M experts of a group.
"""

from __future__ import annotations

from moebench.frozen import later
from moebench.models.lazy import Tensor, torch
from moebench.models.routers.losses import balance_loss, z_loss
from moebench.models.routers.options import Groups, MoEFFN, ungroupable
from moebench.models.routers.projection import Projection, initial_logits, size
from moebench.models.routers.routing import Routing, Text


class SigmoidBiasOptions(Groups):
    """What it alone reads."""

    scale: float | None = later(gt=0, le=1000)
    """Factor of all routed weights (DeepSeek-V3: 2.5)."""
    bias_rate: float | None = later(ge=0, le=1)
    """Step of the selection biases that balance the load without a loss (DeepSeek-V3: 0.001)."""


class SigmoidBias(Projection):
    """Sigmoid scores; selection by score plus a bias that evens the load without a loss; optional groups.

    A balance loss, if any, counts the experts so selected.
    """

    source = "DeepSeek-V3, arXiv:2412.19437; Wang et al. 2024, arXiv:2408.15664"
    causal = True
    learned = True
    options = (
        "capacity_factor",
        "jitter",
        "router_scale",
        "balance_over",
        "groups",
        "groups_chosen",
        "scale",
        "bias_rate",
    )
    Options = SigmoidBiasOptions
    auxiliary = (balance_loss, z_loss)
    sums_to_1 = "if asked"
    selection_bias = True
    by_expert = ("weight", "bias", "bias_E")

    bias_E: Tensor
    load_E: Tensor

    @classmethod
    def unfit(cls, ffn: MoEFFN) -> tuple[str, str] | None:
        """A group is ranked by its two best experts, so it has at least two."""
        if (wrong := ungroupable(ffn)) is not None:
            return wrong
        if ffn.groups is not None and ffn.groups > 1 and ffn.experts // ffn.groups < 2:
            return "groups", f"{ffn.groups} groups of {ffn.experts} experts are groups of one: a group has at least two"
        return None

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.groups, self.groups_chosen = ffn.groups or 1, ffn.groups_chosen or 1
        self.bias_rate = ffn.bias_rate or 0.0
        self.register_buffer("bias_E", torch.zeros(ffn.experts))
        self.register_buffer("load_E", torch.zeros(ffn.experts), persistent=False)

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        logits_TE = self.logits(x_TD)
        scores_TE = logits_TE.sigmoid()
        experts_TK = self.select(scores_TE.detach() + self.bias_E)
        weights_TK = self.weights(scores_TE, experts_TK)
        if self.training and torch.is_grad_enabled():
            self.load_E += torch.bincount(experts_TK.reshape(-1), minlength=self.experts)
        losses = {
            balance_loss: lambda: self.balanced(scores_TE / scores_TE.sum(1, keepdim=True), experts_TK, text),
            z_loss: lambda: z_loss(logits_TE),
        }
        return self.full_routing(experts_TK, weights_TK, losses)

    def weights(self, scores_TE: Tensor, experts_TK: Tensor) -> Tensor:
        """Of some experts by their scores, [T, K]."""
        weights_TK = scores_TE.gather(1, experts_TK)
        if self.renormalise:
            weights_TK = weights_TK / (weights_TK.sum(1, keepdim=True) + 1e-20)
        return weights_TK if self.scale is None else weights_TK * self.scale

    def weigh(self, x_TD: Tensor, experts_TK: Tensor) -> tuple[Tensor, Tensor]:
        return self.weights(self.logits(x_TD).sigmoid(), experts_TK), experts_TK

    def select(self, biased_TE: Tensor) -> Tensor:
        """The k best experts of the best groups, [T, K]."""
        if self.groups > 1:
            biased_TGM = biased_TE.view(-1, self.groups, self.experts // self.groups)
            best_TG = biased_TGM.topk(2, dim=2).values.sum(2)
            chosen_TG = torch.zeros_like(best_TG).scatter_(1, best_TG.topk(self.groups_chosen, dim=1).indices, 1.0)
            biased_TE = biased_TGM.masked_fill(chosen_TG[:, :, None] == 0, float("-inf")).flatten(1)
        return biased_TE.topk(self.top_k, dim=1).indices

    def initialise(self, seed: int, prefix: str) -> None:
        super().initialise(seed, prefix)
        self.bias_E.zero_()

    def after_step(self) -> None:
        """Moves the biases against the load of the step."""
        super().after_step()
        if self.bias_rate:
            self.bias_E += self.bias_rate * torch.sign(self.load_E.mean() - self.load_E)
        self.load_E.zero_()

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Of the k largest scores."""
        scores_TK = initial_logits(ffn).sigmoid().topk(ffn.top_k, dim=1).values
        return size(scores_TK / scores_TK.sum(1, keepdim=True) if ffn.renormalise else scores_TK) * (ffn.scale or 1.0)
