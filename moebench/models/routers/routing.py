"""What a router sees, what it answers, and what every router has in common.

A router sees tokens and returns a `Routing`; it knows nothing of experts' insides, and experts know nothing of routers.
The order of things is the same for all: jitter the input, choose, let full experts refuse. Jitter, noise and capacity
act in training alone, so evaluation and decoding are dropless and repeatable.

Legend: T tokens of all sequences one after the other, B sequences, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from moebench.models.architecture import PluginRouter
from moebench.models.routers.capacity import refuse_when_full, room
from moebench.suite.model import MoEFFN
from moebench.suite.routers import LOSSES


@dataclass(frozen=True, kw_only=True)
class Text:
    """What else a router may look at: which words stand where, and its source of chance."""

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

    def chance(self) -> torch.Generator:
        """The generator. Raises ValueError when there is none: chance never comes from a global state."""
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
    """Pairs that an expert's capacity refused; they are not among the N."""
    losses: dict[str, Tensor]
    """Named auxiliary losses, scalars, before their coefficients; those with a coefficient, where gradients are on."""


class Router(nn.Module):
    """Base of all routers: a subclass says `causal` and `choose`, and `initialise` when it has weights.

    What an installed package's router declares is read when a suite is planned, and held against what it does.
    """

    causal: ClassVar[bool]
    """Whether a token's experts depend on no later token and on no other sequence, once trained. Every class of an
    installed package says it itself."""
    options: ClassVar[tuple[str, ...]] = ("capacity_factor", "jitter")
    """Fields of a mixture, of `spec.routers.OPTIONS`, that it reads; these two are read here, for all. Of installed
    packages' routers: ours are in `spec.routers`."""
    auxiliary: ClassVar[tuple[str, ...]] = ()
    """Auxiliary losses it gives. Of installed packages' routers: ours are in `spec.routers`."""

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int) -> None:
        super().__init__()
        self.experts, self.top_k, self.width, self.vocab, self.layer = ffn.experts, ffn.top_k, width, vocab, layer
        self.renormalise, self.scale = ffn.renormalise, ffn.scale
        self.jitter, self.capacity_factor, self.balance_over = ffn.jitter, ffn.capacity_factor, ffn.balance_over
        self.wanted_losses = frozenset(name for name in LOSSES if getattr(ffn, name))
        self._pairs_E: Tensor | None = None

    @property
    def drops(self) -> bool:
        """Whether experts refuse pairs in training."""
        return self.capacity_factor is not None

    def forward(self, x_TD: Tensor, text: Text) -> Routing:
        """Routes T tokens; scores are computed in float32 whatever the dtype of `x_TD`."""
        if self.jitter and self.training:
            # Fedus et al. 2021 (arXiv:2101.03961), section 2.4: the router's input alone, multiplicatively.
            noise_TD = torch.empty_like(x_TD, dtype=torch.float32)
            x_TD = x_TD.float() * noise_TD.uniform_(1 - self.jitter, 1 + self.jitter, generator=text.chance())
        routing = self.choose(x_TD, text)
        if self.capacity_factor is not None and self.training:
            slots = room(self.capacity_factor, tokens=x_TD.shape[0], top_k=self.top_k, experts=self.experts)
            kept_N = refuse_when_full(routing.token_N, routing.expert_N, slots=slots, experts=self.experts)
            routing = replace(
                routing,
                token_N=routing.token_N[kept_N],
                expert_N=routing.expert_N[kept_N],
                weight_N=routing.weight_N[kept_N],
                per_token=None,
                dropped=routing.dropped + int(kept_N.numel() - kept_N.sum()),
            )
        return routing

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        """The pairs, those of a token in falling order of preference, as if every expert had room for all."""
        raise NotImplementedError

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str) -> None:
        """Fills the router's weights from the seed."""

    @torch.no_grad()
    def after_step(self) -> None:
        """Called after every optimizer step: forgets what was gathered over its micro-batches."""
        self._pairs_E = None

    @classmethod
    def output_scale(cls, ffn: MoEFFN) -> float:
        """Root of the sum of squared weights while experts are equally probable: how much averaging shrinks outputs."""
        return float(ffn.top_k**-0.5) * (ffn.scale or 1.0)

    @classmethod
    def multiply_adds(cls, ffn: MoEFFN, *, width: int, training: bool) -> int | None:  # noqa: ARG003
        """Multiply-adds of routing one token; None where its weights are one projection, or none. Of installed
        packages' routers: ours are in `spec.routers`."""
        return None

    @classmethod
    def describe(cls, ffn: MoEFFN, *, width: int, vocab: int, context: int, layers: Sequence[int]) -> PluginRouter:
        """An installed package's router, built and tried: see `trial.describe`."""
        from moebench.models.routers.trial import describe

        return describe(cls, ffn, width=width, vocab=vocab, context=context, layers=layers)

    # ------------------------------------------------------------------------------------------ for subclasses

    def full_routing(
        self, experts_TK: Tensor, weights_TK: Tensor, losses: Mapping[str, Callable[[], Tensor]]
    ) -> Routing:
        """The routing in which every token has K pairs; `losses` are taken where a gradient can use them."""
        num_tokens, per_token = experts_TK.shape
        return Routing(
            token_N=torch.arange(num_tokens, device=experts_TK.device).repeat_interleave(per_token),
            expert_N=experts_TK.reshape(-1),
            weight_N=weights_TK.reshape(-1),
            per_token=per_token,
            dropped=0,
            losses=self.taken(losses),
        )

    def taken(self, losses: Mapping[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
        """Those losses that have a coefficient, and only where gradients are on."""
        if not torch.is_grad_enabled():
            return {}
        return {name: loss() for name, loss in losses.items() if name in self.wanted_losses}

    def pairs_of_batch(self, pairs_E: Tensor) -> Tensor:
        """Pairs of each expert since the last optimizer step, these included: shares of the whole batch so far."""
        if not self.training:
            return pairs_E
        self._pairs_E = pairs_E if self._pairs_E is None else self._pairs_E + pairs_E
        return self._pairs_E
