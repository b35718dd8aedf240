"""Auxiliary losses of routers: an object a loss, that is its name, the default of its coefficient, and its formula.

The name is that of the function, of the coefficient among a mixture's fields, and of the value in a `Routing`. Those
that several kinds of routers give are here, a router's own stand in its file. Values are before the coefficient, and
each formula says its value under perfect balance.

A loss that is a mean over tokens is, over micro-batches, that of the batch. One of sums over tokens is not: a `Tally`
gives it the sums of the whole batch.

Legend: T tokens, E experts, K top-k, N routed pairs, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from moebench.frozen import later
from moebench.models.lazy import Tensor, torch


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss that shapes a router."""

    formula: Callable[..., Tensor]
    says: str
    """Of its coefficient, a field of a mixture."""
    default: float | None
    """Coefficient of a mixture that gives none; None where the loss must be asked for."""
    mean: bool
    """Whether it is a mean over tokens, so that micro-batches average to the batch."""

    def __str__(self) -> str:
        return self.formula.__name__

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        return self.formula(*args, **options)

    @property
    def coefficient(self) -> tuple[Any, Any]:
        """The coefficient as a field of pydantic: type and default, limits and words."""
        if self.default is None:
            return float | None, later(ge=0, description=self.says)
        return float, Field(default=self.default, ge=0, description=self.says)


def loss(says: str, *, default: float | None = None, mean: bool = False) -> Callable[[Callable[..., Tensor]], Loss]:
    """Makes a loss of a formula."""
    return lambda formula: Loss(formula=formula, says=says, default=default, mean=mean)


class Tally:
    """Sums over the tokens of a batch in micro-batches: added up in a pass without gradients, read in the one with.

    What is read is the whole batch's sum, with the gradient of the micro-batch's own part over its `share` of the
    batch: f'(sum) is then the same in every micro-batch, and gradients weighted by their shares add up to that of
    f(sum), whatever f. With f linear in the probabilities and the sum that of pairs, this is the balance loss over the
    global batch (Qiu et al. 2025, arXiv:2501.11873).
    """

    share: float | None = None
    """Of the micro-batch in the batch; None while sums are added up."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def __call__(self, name: str, own: Tensor) -> Tensor:
        if self.share is None:
            self.sums[name] = self.sums[name] + own.detach() if name in self.sums else own.detach()
            return own
        whole = self.sums[name]
        return whole + (own - own.detach()) / self.share if own.requires_grad else whole


@loss(
    "Coefficient of the load-balance loss, 1.0 at perfect balance; a router without it takes 0 or nothing.",
    default=0.01,
)
def balance_loss(probabilities_TE: Tensor, expert_N: Tensor) -> Tensor:
    """E x sum over experts of (share of routed pairs) x (mean probability): 1.0 at perfect balance, whatever k.

    Fedus et al. 2021 (arXiv:2101.03961), eq. 4, divided by k. transformers' `load_balancing_loss_func` is k times this.
    """
    num_experts = probabilities_TE.shape[1]
    return balance(torch.bincount(expert_N, minlength=num_experts), expert_N.numel(), probabilities_TE.mean(0))


def balance(pairs_E: Tensor, num_pairs: int | Tensor, probability_E: Tensor) -> Tensor:
    """The same from the pairs of each expert and its mean probability."""
    share_E = pairs_E.to(probability_E.dtype) / num_pairs
    return probability_E.shape[0] * (share_E * probability_E).sum()


def sequence_balance(probabilities_TE: Tensor, expert_TK: Tensor, *, length: int) -> Tensor:
    """The balance loss of each sequence of `length` tokens, averaged: DeepSeek-V3, arXiv:2412.19437, eq. 17 to 20.

    1.0 when every sequence is balanced. `expert_TK` are the experts to count: the paper's eq. 18 takes those of the k
    largest scores, without selection biases and groups.
    """
    num_tokens, num_experts = probabilities_TE.shape
    sequences = num_tokens // length
    cell_N = torch.arange(num_tokens, device=expert_TK.device)[:, None] // length * num_experts + expert_TK
    pairs_SE = torch.bincount(cell_N.reshape(-1), minlength=sequences * num_experts).view(sequences, num_experts)
    share_SE = pairs_SE.to(probabilities_TE.dtype) / (length * expert_TK.shape[1])
    probability_SE = probabilities_TE.view(sequences, length, num_experts).mean(1)
    return num_experts * (share_SE * probability_SE).sum(1).mean()


@loss(
    "Coefficient of the router z-loss (ST-MoE, arXiv:2202.08906); a router without it takes 0 or nothing.",
    default=0.0,
    mean=True,
)
def z_loss(logits_TE: Tensor) -> Tensor:
    """Mean squared log-partition of the router's logits (Zoph et al. 2022, arXiv:2202.08906, eq. 5)."""
    return torch.logsumexp(logits_TE, dim=1).square().mean()
