"""A decoder with every size a whole number, and what is known of its router; counted as a `Blueprint`."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import Literal

from pydantic import Field

from moebench.counting.blueprint import Attention, Blueprint, BuiltRouter, Dense, Experts, Layer, Stack
from moebench.frozen import Frozen
from moebench.plugins import PluginCode
from moebench.suite.activations import GATED
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.routers import ROUTERS, computes_fewer, facts

Kernels = Literal["unfused", "fused"]


class PluginRouter(Frozen):
    """A router of an installed package: its code, what it declares, and what it turned out to be when it was built."""

    code: PluginCode
    causal: bool
    """Declared, and tried out when planned."""
    losses: tuple[str, ...]
    """Auxiliary losses that it declares."""
    learned: bool
    """Whether any of its parameters is trained."""
    varies: bool
    """Whether a token may go to fewer than top_k experts, room or not."""
    parameters: int
    """Of one layer's router, those that are not trained included."""
    frozen_parameters: int
    """Those of them that are not trained."""
    multiply_adds: int
    """Of routing one token in an evaluation."""
    training_multiply_adds: int

    @property
    def counts(self) -> BuiltRouter:
        """What is counted of it."""
        return BuiltRouter(
            parameters=self.parameters,
            untrained_parameters=self.frozen_parameters,
            multiply_adds=self.multiply_adds,
            training_multiply_adds=self.training_multiply_adds,
        )


class Architecture(Frozen):
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
    qk_norm: Literal["full", "per_head"] | None = Field(default=None, exclude_if=lambda value: value is None)
    """RMSNorm of queries and keys; a run without it keeps the id it had before there was any."""
    plugin: PluginRouter | None = Field(default=None, exclude_if=lambda value: value is None)
    """What is known of a router of an installed package; None for ours, of which `spec.routers` tells."""

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
        known = ROUTERS.get(self.ffn.router) or self.plugin
        return None if known is None else known.causal

    def computes_fewer(self, *, training: bool) -> bool:
        """Whether fewer than top_k pairs a token may be computed, so that FLOPs and active parameters are bounds."""
        if self.plugin is None or isinstance(self.ffn, DenseFFN):
            return computes_fewer(self.ffn, training=training)
        return self.plugin.varies or (training and self.ffn.capacity_factor is not None)

    @property
    def learns_routing(self) -> bool:
        """Whether it has a router that is trained."""
        if isinstance(self.ffn, DenseFFN):
            return False
        known = ROUTERS.get(self.ffn.router) or self.plugin
        return known is None or known.learned

    @property
    def blueprint(self) -> Blueprint:
        """What it is counted as. Raises ValueError while a match still has to solve a width."""
        return _blueprint(self)


@lru_cache(maxsize=256)
def _blueprint(a: Architecture) -> Blueprint:
    mixer = Attention(heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim, qk_norm=a.qk_norm or "none")
    layers = (Layer(times=times, mixer=mixer, ffn=_ffn(a, ffn)) for ffn, times in Counter(a.ffns).items())
    return Blueprint(
        width=a.width, vocab=a.vocab, tied=a.tied_embeddings, context=a.context, stacks=(Stack(layers=tuple(layers)),)
    )


def _ffn(a: Architecture, ffn: DenseFFN | MoEFFN) -> Dense | Experts:
    gated = ffn.activation in GATED
    if isinstance(ffn, DenseFFN):
        return Dense(hidden=solved(ffn.hidden), gated=gated)
    known = facts(ffn.router)
    return Experts(
        experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=solved(ffn.expert_hidden),
        gated=gated,
        bias=ffn.bias,
        router_bias=ffn.bias and known.can_bias,
        router_rows=known.rows(ffn),
        noise_rows=known.noise_rows(ffn),
        router=None if a.plugin is None else a.plugin.counts,
        router_learned=a.learns_routing,
        selection_bias=ffn.router == "sigmoid_bias",
        shared=None if ffn.shared_hidden is None else Dense(hidden=ffn.shared_hidden, gated=gated),
        shared_gate=ffn.shared_gate,
    )


def solved(hidden: int | None) -> int:
    """A hidden width that is known. Raises ValueError while a match still has to solve it."""
    if hidden is None:
        raise ValueError("the FFN's hidden width is not known before its match is solved")
    return hidden
