"""What a router sees, what it answers, and what every router has in common.

A router sees tokens and returns a `Routing`; it knows nothing of experts' insides, and experts know nothing of routers.
The order of things is the same for all: jitter the input, choose, let full experts drop. Jitter, noise and capacity
act in training alone, so evaluation and decoding are dropless and repeatable.

Legend: T tokens of all sequences one after the other, B sequences, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Literal

from moebench.models.lazy import Module, Tensor, torch
from moebench.models.routers.losses import Loss, Tally, balance, sequence_balance
from moebench.models.routers.options import MoEFFN, Options


@dataclass(frozen=True, kw_only=True)
class Text:
    """What else a router may look at: which words stand where, and its source of random numbers."""

    ids_BT: Tensor
    """Vocabulary ids of the sequences."""
    start: int = 0
    """Position of their first token; more than 0 when decoding through a cache."""
    generator: torch.Generator | None = None
    """For noise, jitter and random choices in training; on the model's device."""

    @property
    def length(self) -> int:
        """Tokens of each sequence."""
        return self.ids_BT.shape[1]

    @property
    def ids_T(self) -> Tensor:  # noqa: N802
        """Vocabulary id of each token."""
        return self.ids_BT.reshape(-1)

    @property
    def position_T(self) -> Tensor:  # noqa: N802
        """Position of each token in its own sequence."""
        batch, length = self.ids_BT.shape
        return torch.arange(self.start, self.start + length, device=self.ids_BT.device).repeat(batch)

    def rng(self) -> torch.Generator:
        """The generator. Raises ValueError when there is none: nothing is drawn from a global state."""
        if self.generator is None:
            raise ValueError("this router draws at random in training: the forward pass needs a generator")
        return self.generator


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Who computes what: N (token, expert, weight) triples in token order, and the losses that shaped them."""

    token_N: Tensor
    """Row of each pair's token, int64, not decreasing."""
    expert_N: Tensor
    """Expert of each pair, int64."""
    weight_N: Tensor
    """Factor of each pair's output; carries the router's gradient."""
    per_token: int | None
    """Pairs of every token when all have the same number, in order; None when they differ."""
    dropped: int
    """Pairs dropped over an expert's capacity; they are not among the N."""
    losses: dict[str, Tensor]
    """Named auxiliary losses, scalars, before their coefficients; those with a coefficient, where gradients are on."""


class Router(Module):
    """Base of all routers, ours and those of installed packages.

    A subclass declares what suites and plans must know of it, which is read without torch, and says what it computes:
    `choose`, and `__init__` and `initialise` when it has weights, as of any `torch.nn.Module`. What an installed
    package's router declares is held against what it does when a suite is planned.
    """

    # ------------------------------------------------------------------------------------------ what it declares

    source: ClassVar[str] = ""
    """Where it was published."""
    causal: ClassVar[bool]
    """Whether a token's experts depend on no later token and on no other sequence, once trained."""
    learned: ClassVar[bool]
    """Whether it has weights that are trained."""
    options: ClassVar[tuple[str, ...]]
    """Fields of a mixture that it reads, of those that only some routers read; `capacity_factor` and `jitter` are read
    here, for all. Coefficients of its losses are not repeated."""
    Options: ClassVar[type[Options]] = Options
    """Those of them that it brings; routers of installed packages bring none."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Those of them that it cannot do without."""
    auxiliary: ClassVar[tuple[Loss | str, ...]] = ()
    """Auxiliary losses it gives, or their names."""
    sums_to_1: ClassVar[Literal["always", "if asked", "never"]] = "never"
    """Whether a token's weights are made to add up to 1, so that a single expert's is 1 whatever the router says;
    `if asked`: it reads `renormalise`."""
    noisy: ClassVar[bool] = False
    """Whether it has as many rows again, for noise, that are used in training alone."""
    can_bias: ClassVar[bool] = False
    """Whether its logits take a bias an expert when the mixture has biases."""
    selection_bias: ClassVar[bool] = False
    """Whether it keeps a number an expert, moved by load and by no gradient."""
    even: ClassVar[bool] = False
    """Whether its experts get equally many tokens whatever it learns."""
    fewer: ClassVar[Literal["training", "always"] | None] = None
    """When it may itself give a token fewer than top_k experts, capacity aside; None where it never does."""
    any_top_k: ClassVar[bool] = False
    """Whether, once trained, it can be asked for another top_k with the same weights."""
    by_expert: ClassVar[tuple[str, ...] | None] = None
    """Its tensors with a row an expert, which go where the expert does; None where an expert cannot be taken away."""

    @classmethod
    def rows(cls, ffn: MoEFFN) -> int:
        """Rows of its projection of the width: its weights, and its multiply-adds a token over the width."""
        return ffn.experts

    @classmethod
    def unfit(cls, _ffn: MoEFFN) -> tuple[str, str] | None:
        """(field, what is wrong) of a mixture that it cannot route."""
        return None

    @classmethod
    def unfit_context(cls, _ffn: MoEFFN, _context: int) -> tuple[str, str] | None:
        """(what is wrong, what would do) of a number of experts for sequences of `context` tokens."""
        return None

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Root of the sum of squared weights while experts are equally probable: how much averaging shrinks outputs."""
        return float(ffn.top_k**-0.5) * (ffn.scale or 1.0)

    @classmethod
    def multiply_adds(cls, _ffn: MoEFFN, *, width: int, training: bool) -> int | None:  # noqa: ARG003
        """Of routing one token, where an installed package's router is not one projection; ours say their `rows`."""
        return None

    # ------------------------------------------------------------------------------------------ what it computes

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__()
        self.experts, self.top_k, self.width, self.vocab, self.layer = ffn.experts, ffn.top_k, width, vocab, layer
        self.renormalise, self.scale = ffn.renormalise, ffn.scale
        self.jitter, self.capacity_factor, self.balance_over = ffn.jitter, ffn.capacity_factor, ffn.balance_over
        self.ffn = ffn
        self.tally: Tally | None = None
        """Sums over the batch, of a batch in micro-batches; None where a batch is one."""

    @property
    def drops(self) -> bool:
        """Whether experts drop pairs in training."""
        return self.capacity_factor is not None

    def forward(self, x_TD: Tensor, text: Text) -> Routing:
        """Routes T tokens; scores are computed in float32 whatever the dtype of `x_TD`."""
        if self.jitter and self.training:
            # Fedus et al. 2021 (arXiv:2101.03961), section 2.4: the router's input alone, multiplicatively.
            noise_TD = torch.empty_like(x_TD, dtype=torch.float32)
            x_TD = x_TD.float() * noise_TD.uniform_(1 - self.jitter, 1 + self.jitter, generator=text.rng())
        routing = self.choose(x_TD, text)
        if self.capacity_factor is not None and self.training:
            slots = room(self.capacity_factor, tokens=x_TD.shape[0], top_k=self.top_k, experts=self.experts)
            kept_N = refuse_when_full(routing.token_N, routing.expert_N, slots=slots, experts=self.experts)
            routing = replace(only(routing, kept_N), dropped=routing.dropped + int(kept_N.numel() - kept_N.sum()))
        return routing

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        """The pairs, those of a token in falling order of preference, as if every expert had room for all."""
        raise NotImplementedError

    def weigh(self, _x_TD: Tensor, _experts_TK: Tensor) -> tuple[Tensor, Tensor] | None:
        """(weights, experts) of tokens that are sent to other experts, [T, K] each, those of a token in any order: the
        weights that it gives these when it chooses them. None where it does not say."""
        return None

    def initialise(self, seed: int, prefix: str) -> None:
        """Fills the router's weights from the seed."""

    def after_step(self) -> None:
        """Called after every optimizer step: forgets the sums over its batch."""
        self.tally = None

    def num_weights(self) -> int:
        """Its parameters, and its projection where that is drawn once and never trained."""
        frozen = [value for name, value in self.named_buffers() if name.endswith("weight")]
        return sum(value.numel() for value in (*self.parameters(), *frozen))

    # ------------------------------------------------------------------------------------------ for subclasses

    def full_routing(
        self, experts_TK: Tensor, weights_TK: Tensor, losses: Mapping[Any, Callable[[], Tensor]]
    ) -> Routing:
        """The routing in which every token has K pairs; `losses`, by name, are taken where a gradient can use them."""
        num_tokens, per_token = experts_TK.shape
        return Routing(
            token_N=torch.arange(num_tokens, device=experts_TK.device).repeat_interleave(per_token),
            expert_N=experts_TK.reshape(-1),
            weight_N=weights_TK.reshape(-1),
            per_token=per_token,
            dropped=0,
            losses=self.taken(losses),
        )

    def taken(self, losses: Mapping[Any, Callable[[], Tensor]]) -> dict[str, Tensor]:
        """Those losses that have a coefficient, and only where gradients are on or sums are added up."""
        adds_up = self.tally is not None and self.training and self.tally.share is None
        if not (torch.is_grad_enabled() or adds_up):
            return {}
        return {str(name): loss() for name, loss in losses.items() if getattr(self.ffn, str(name), None)}

    def balanced(self, probabilities_TE: Tensor, experts_TK: Tensor, text: Text) -> Tensor:
        """The balance loss over what `balance_over` says: each sequence, the micro-batch, or the batch."""
        if self.balance_over == "sequence":
            return sequence_balance(probabilities_TE, experts_TK, length=text.length)
        pairs_E = torch.bincount(experts_TK.reshape(-1), minlength=self.experts)
        num_pairs: int | Tensor = experts_TK.numel()
        if self.balance_over != "micro_batch" and self.tally is not None:
            pairs_E = self.over_batch("pairs", pairs_E)
            num_pairs = pairs_E.sum()
        return balance(pairs_E, num_pairs, probabilities_TE.mean(0))

    def over_batch(self, name: str, sums: Tensor) -> Tensor:
        """A sum over tokens, for a loss that is no mean over them: of the whole batch where it is in micro-batches."""
        return sums if self.tally is None or not self.training else self.tally(name, sums)


def only(routing: Routing, kept_N: Tensor) -> Routing:
    """Some of the pairs."""
    return replace(
        routing,
        token_N=routing.token_N[kept_N],
        expert_N=routing.expert_N[kept_N],
        weight_N=routing.weight_N[kept_N],
        per_token=None,
    )


def room(capacity_factor: float, *, tokens: int, top_k: int, experts: int) -> int:
    """Pairs that one expert takes: at a factor of 1.0 just its share of a perfectly balanced load, rounded up."""
    factor = Fraction(str(capacity_factor))  # the decimal that was written: as a float 1.1 x 100 / 2 is above 55
    return math.ceil(factor * top_k * tokens / experts)


def refuse_when_full(token_N: Tensor, expert_N: Tensor, *, slots: int, experts: int) -> Tensor:
    """Which pairs are kept, bool [N], when every expert has `slots` places.

    GShard (Lepikhin et al. 2020, arXiv:2006.16668, algorithm 1), Switch (Fedus et al. 2021, arXiv:2101.03961, eq. 3):
    all first choices are served before any second choice, and among equals the earlier token first. A refused pair adds
    nothing; a token all of whose pairs are refused passes by on the residual.
    """
    num_pairs = token_N.numel()
    index_N = torch.arange(num_pairs, device=token_N.device)
    begins_N = torch.searchsorted(token_N, token_N)  # first pair of the same token
    served_N = (index_N - begins_N).argsort(stable=True)  # by choice, then by token
    by_expert_N = served_N[expert_N[served_N].argsort(stable=True)]
    counts_E = torch.bincount(expert_N, minlength=experts)
    starts_E = counts_E.cumsum(0) - counts_E
    queue_N = torch.empty_like(index_N)
    queue_N[by_expert_N] = index_N - starts_E[expert_N[by_expert_N]]
    return queue_N < slots
