"""A decoder with every size a whole number, and what is known of its router; counted as a `Blueprint`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import Field, model_validator

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, Layer, Stack
from moebench.frozen import later
from moebench.models.routers import RouterFacts, facts_of, losses_of_batch
from moebench.suite.activations import GATED
from moebench.suite.attention import AttentionOptions
from moebench.suite.model import DenseFFN, MoEFFN

Kernels = Literal["unfused", "fused"]


def deciding(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What of an architecture, as JSON, decides the bits: facts of a router of ours follow from the rest."""
    installed = (architecture.get("router") or {}).get("code")
    return {key: value for key, value in architecture.items() if key != "router" or installed}


class Architecture(AttentionOptions):
    """A decoder with every size a whole number."""

    vocab: int
    context: int
    """Longest sequence in tokens."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: DenseFFN | MoEFFN = Field(discriminator="kind")
    """Its hidden widths are never None here."""
    tied_embeddings: bool
    rope_theta: float
    norm_eps: float
    qk_norm: Literal["full", "per_head"] | None = None
    """RMSNorm of queries and keys."""
    router: RouterFacts | None = later()
    """What is known of its router; None for a dense model, and of an installed package's before it is tried."""

    @model_validator(mode="after")
    def _knows_its_router(self) -> Architecture:
        """Facts of a router of ours that were not handed in: of a new model, or of a plan of before they travelled."""
        if self.router is None and isinstance(self.ffn, MoEFFN):
            object.__setattr__(self, "router", facts_of(self.ffn, width=self.width))
        return self

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the bits, as JSON."""
        return deciding(self.model_dump(mode="json"))

    @property
    def ffns(self) -> tuple[DenseFFN | MoEFFN, ...]:
        """What each layer holds."""
        if isinstance(self.ffn, DenseFFN):
            return (self.ffn,) * self.layers
        return tuple(self.ffn if self.ffn.is_mixture(i) else self.ffn.dense_layer for i in range(self.layers))

    @property
    def ffn_hidden(self) -> int:
        """Hidden width of the dense FFN, or of one expert. Raises ValueError while a match still has to solve it."""
        return solved(self.ffn.hidden if isinstance(self.ffn, DenseFFN) else self.ffn.expert_hidden)

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Indices of the layers that are mixtures, from 0."""
        return tuple(i for i, ffn in enumerate(self.ffns) if isinstance(ffn, MoEFFN))

    @property
    def causal(self) -> bool | None:
        """Whether no token's experts depend on later tokens; None where a plan of before does not say."""
        if isinstance(self.ffn, DenseFFN):
            return True
        return None if self.router is None else self.router.causal

    @property
    def learns_routing(self) -> bool:
        """Whether it has a router that is trained."""
        return isinstance(self.ffn, MoEFFN) and (self.router is None or self.router.learned)

    @property
    def losses_of_batch(self) -> tuple[str, ...]:
        """Its routers' losses that are taken over a batch and are no mean over tokens."""
        if isinstance(self.ffn, DenseFFN) or self.router is None:
            return ()
        return losses_of_batch(self.ffn, self.router.losses)

    def drops(self, *, training: bool) -> bool:
        """Whether some pairs may go over capacity. Ours take every pair in evaluations; of others it is unknown."""
        if isinstance(self.ffn, DenseFFN):
            return False
        ours = self.router is not None and self.router.code is None
        return not ours or (training and self.ffn.capacity_factor is not None)

    def computes_fewer(self, *, training: bool) -> bool:
        """Whether fewer than top_k pairs a token may be computed, so that FLOPs and active parameters are bounds."""
        if isinstance(self.ffn, DenseFFN) or self.router is None:
            return False
        fewer = self.router.fewer
        return fewer == "always" or (training and (fewer == "training" or self.ffn.capacity_factor is not None))

    def attention_of(self, layer: int) -> Attention:
        """What layer `layer`, counted from 0, attends with, as it is counted."""
        return _mixer(self, self.window_of(layer))

    @property
    def blueprint(self) -> Blueprint:
        """What it is counted as. Raises ValueError while a match still has to solve a width."""
        return _blueprint(self)

    @property
    def in_order(self) -> tuple[Layer, ...]:
        """Its layers one by one, as they are counted: where a gradient ends depends on their order."""
        return tuple(Layer(mixer=self.attention_of(index), ffn=_ffn(self, ffn)) for index, ffn in enumerate(self.ffns))

    @property
    def up_to_last_router(self) -> Blueprint:
        """The layers before the experts of the last mixture, without router, experts and head. Raises ValueError while
        a match still has to solve a width, and IndexError without a mixture."""
        last = self.moe_layers[-1]
        layers = (*_layers(self, last), Layer(mixer=self.attention_of(last)))
        return Blueprint(width=self.width, vocab=0, context=self.context, stacks=(Stack(layers=layers),))


@lru_cache(maxsize=256)
def _blueprint(a: Architecture) -> Blueprint:
    layers = _layers(a, a.layers)
    return Blueprint(
        width=a.width, vocab=a.vocab, tied=a.tied_embeddings, context=a.context, stacks=(Stack(layers=layers),)
    )


def _layers(a: Architecture, first: int) -> tuple[Layer, ...]:
    """The first so many, alike ones together."""
    kinds = Counter((a.window_of(i), ffn) for i, ffn in enumerate(a.ffns[:first]))
    return tuple(
        Layer(times=times, mixer=_mixer(a, window), ffn=_ffn(a, ffn)) for (window, ffn), times in kinds.items()
    )


def _mixer(a: Architecture, window: int | None) -> Attention:
    return Attention(
        heads=a.heads,
        kv_heads=a.kv_heads,
        head_dim=a.head_dim,
        qkv_bias=a.attention_bias is not None,
        output_bias=a.attention_bias == "all",
        qk_norm=a.qk_norm or "none",
        sinks=a.attention_sinks,
        window=window,
    )


def _ffn(a: Architecture, ffn: DenseFFN | MoEFFN) -> Dense | Experts:
    gated = ffn.activation in GATED
    if isinstance(ffn, DenseFFN):
        return Dense(hidden=solved(ffn.hidden), gated=gated)
    if a.router is None:
        raise ValueError(f"the router {ffn.router} is not known before it is tried")
    return Experts(
        experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=solved(ffn.expert_hidden),
        gated=gated,
        bias=ffn.bias,
        router=a.router.counts,
        router_learned=a.router.learned,
        selection_bias=a.router.selection_bias,
        shared=None if ffn.shared_hidden is None else Dense(hidden=ffn.shared_hidden, gated=gated),
        shared_gate=ffn.shared_gate,
    )


def solved(hidden: int | None) -> int:
    """A hidden width that is known. Raises ValueError while a match still has to solve it."""
    if hidden is None:
        raise ValueError("the FFN's hidden width is not known before its match is solved")
    return hidden
