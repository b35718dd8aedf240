"""A decoder with every size a whole number, and what is known of its router."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moebench.frozen import Frozen
from moebench.plugins import PluginCode
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.routers import ROUTERS, computes_fewer

Kernels = Literal["composed", "fused"]


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
