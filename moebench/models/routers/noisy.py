"""Noisy top-k gating of Shazeer et al. 2017 (arXiv:1701.06538), flat and in two levels.

    H(x)_i = (x W_g)_i + normal() softplus((x W_noise)_i),  weights = softmax over the k largest of H

In evaluation the noise is left out. `importance_loss` is the squared coefficient of variation of the experts' summed
weights (eq. 6, 7); `load_loss` that of their expected load (eq. 8 to 11).

Legend: T tokens, D width, E experts, K top-k, G groups, M experts of a group, J chosen groups, I chosen of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.initial import normal_
from moebench.models.routers.losses import balance, router_z_loss, sequence_balance_loss, squared_variation
from moebench.models.routers.routing import Router, Routing, Text
from moebench.suite.model import MoEFFN


class Gate(nn.Module):
    """One level of noisy top-k gating over `rows` choices."""

    def __init__(self, rows: int, *, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))
        self.noise = nn.Parameter(torch.empty(rows, width))
        """The noise's deviation is softplus of this projection; at first log 2 everywhere, as the paper starts it."""

    def forward(self, x_TD: Tensor, text: Text) -> tuple[Tensor, Tensor, Tensor | None]:
        """(clear logits, noisy logits, deviation of the noise); without noise in evaluation."""
        clear_TR = F.linear(x_TD.float(), self.weight.float())
        if not self.training:
            return clear_TR, clear_TR, None
        deviation_TR = F.softplus(F.linear(x_TD.float(), self.noise.float()))
        normal_TR = torch.randn(clear_TR.shape, device=clear_TR.device, generator=text.chance())
        return clear_TR, clear_TR + normal_TR * deviation_TR, deviation_TR

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        normal_(self.weight, seed, prefix, std=0.1 * self.weight.shape[1] ** -0.5)
        self.noise.zero_()


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


class NoisyTopK(Router):
    """Top-k of noisy logits, then a softmax over those k (Shazeer et al. 2017, arXiv:1701.06538, eq. 3 to 5)."""

    causal = True

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        self.gate = Gate(ffn.experts, width=width)

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        clear_TE, noisy_TE, deviation_TE = self.gate(x_TD, text)
        chosen_TK, experts_TK = noisy_TE.topk(self.top_k, dim=1)
        weights_TK = chosen_TK.softmax(1)

        def importance() -> Tensor:
            return squared_variation(_summed(weights_TK, experts_TK, self.experts))

        def load() -> Tensor:
            if deviation_TE is None:
                return torch.zeros((), device=x_TD.device)
            chances_TE = expected_load(clear_TE, noisy_TE, deviation_TE, self.top_k)
            return squared_variation(chances_TE.sum(0))

        losses = {
            "balance_loss": lambda: self._balance(clear_TE.softmax(1), experts_TK, text),
            "z_loss": lambda: router_z_loss(clear_TE),
            "importance_loss": importance,
            "load_loss": load,
        }
        return self.full_routing(experts_TK, weights_TK, losses)

    def _balance(self, probabilities_TE: Tensor, experts_TK: Tensor, text: Text) -> Tensor:
        if self.balance_over == "sequence":
            return sequence_balance_loss(probabilities_TE, experts_TK, length=text.length)
        pairs_E = torch.bincount(experts_TK.reshape(-1), minlength=self.experts)
        pairs_E = self.pairs_of_batch(pairs_E) if self.balance_over == "batch" else pairs_E
        return balance(pairs_E, pairs_E.sum(), probabilities_TE.mean(0))

    def initialise(self, seed: int, prefix: str) -> None:
        self.gate.initialise(seed, prefix)


class Hierarchical(Router):
    """Two levels: noisy top-k over groups, then within each chosen group; weights multiply (Shazeer 2017, appendix B).

    All experts' logits are computed, of groups not chosen too; the paper computes only those of chosen groups.
    """

    causal = True

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__(ffn, width=width, vocab=vocab, layer=layer)
        assert ffn.groups is not None
        assert ffn.groups_chosen is not None
        self.groups, self.groups_chosen = ffn.groups, ffn.groups_chosen
        self.per_group, self.chosen_per_group = ffn.experts // ffn.groups, ffn.top_k // ffn.groups_chosen
        self.group_gate = Gate(ffn.groups, width=width)
        self.gate = Gate(ffn.experts, width=width)

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        group_clear_TG, group_noisy_TG, group_deviation_TG = self.group_gate(x_TD, text)
        clear_TE, noisy_TE, deviation_TE = self.gate(x_TD, text)
        chosen_TJ, groups_TJ = group_noisy_TG.topk(self.groups_chosen, dim=1)
        inside_TJM = self._of_groups(noisy_TE, groups_TJ)
        chosen_TJI, member_TJI = inside_TJM.topk(self.chosen_per_group, dim=2)
        weights_TK = (chosen_TJ.softmax(1)[:, :, None] * chosen_TJI.softmax(2)).flatten(1)
        experts_TK = (groups_TJ[:, :, None] * self.per_group + member_TJI).flatten(1)
        weights_TK, order_TK = weights_TK.sort(dim=1, descending=True, stable=True)
        experts_TK = experts_TK.gather(1, order_TK)

        def load() -> Tensor:
            """Eq. 13: load of the group times the expert's mean load among the tokens that came to the group."""
            if deviation_TE is None or group_deviation_TG is None:
                return torch.zeros((), device=x_TD.device)
            groups = expected_load(group_clear_TG, group_noisy_TG, group_deviation_TG, self.groups_chosen).sum(0)
            member_TJM = expected_load(
                self._of_groups(clear_TE, groups_TJ),
                self._of_groups(noisy_TE, groups_TJ),
                self._of_groups(deviation_TE, groups_TJ),
                self.chosen_per_group,
            )
            came_G = torch.bincount(groups_TJ.reshape(-1), minlength=self.groups).clamp_min(1)
            inner_GM = member_TJM.new_zeros(self.groups, self.per_group)
            inner_GM = inner_GM.index_add(0, groups_TJ.reshape(-1), member_TJM.flatten(0, 1))
            return squared_variation((groups[:, None] * inner_GM / came_G[:, None]).flatten())

        losses = {
            "z_loss": lambda: router_z_loss(group_clear_TG) + router_z_loss(clear_TE),
            "importance_loss": lambda: squared_variation(_summed(weights_TK, experts_TK, self.experts)),
            "load_loss": load,
        }
        return self.full_routing(experts_TK, weights_TK, losses)

    def _of_groups(self, values_TE: Tensor, groups_TJ: Tensor) -> Tensor:
        """The values of the chosen groups' experts, [T, J, M]."""
        values_TGM = values_TE.view(-1, self.groups, self.per_group)
        return values_TGM.gather(1, groups_TJ[:, :, None].expand(-1, -1, self.per_group))

    def initialise(self, seed: int, prefix: str) -> None:
        self.group_gate.initialise(seed, f"{prefix}.groups")
        self.gate.initialise(seed, prefix)


def _summed(weights_TK: Tensor, experts_TK: Tensor, experts: int) -> Tensor:
    """Importance: the weights that each expert received, summed over the tokens, [E]."""
    return weights_TK.new_zeros(experts).index_add(0, experts_TK.reshape(-1), weights_TK.reshape(-1))
