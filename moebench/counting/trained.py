"""moebench's own `Architecture` as a `Blueprint`, so that everything is inspected by one road.

A test holds the counts of the two equal for every router and option.
"""

from __future__ import annotations

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, Layer, Stack
from moebench.models.architecture import Architecture
from moebench.suite import routers
from moebench.suite.activations import GATED
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.systems.configs.fields import gathered


def blueprint_of(a: Architecture) -> Blueprint:
    """The blueprint of an architecture whose widths are all solved."""
    mixer = Attention(heads=a.heads, kv_heads=a.kv_heads, head_dim=a.head_dim, qk_norm=a.qk_norm or "none")
    return Blueprint(
        width=a.width,
        vocab=a.vocab,
        tied=a.tied_embeddings,
        context=a.context,
        stacks=(Stack(layers=gathered([Layer(mixer=mixer, ffn=_ffn(ffn, a)) for ffn in a.ffns])),),
    )


def _ffn(ffn: DenseFFN | MoEFFN, a: Architecture) -> Dense | Experts:
    if isinstance(ffn, DenseFFN):
        return _dense(ffn.hidden, ffn.activation)
    known = routers.facts(ffn.router)
    return Experts(
        experts=ffn.experts,
        top_k=ffn.top_k,
        hidden=_solved(ffn.expert_hidden),
        gated=ffn.activation in GATED,
        bias=ffn.bias,
        router_bias=ffn.bias and known.can_bias,
        router_rows=known.rows(ffn),
        noise_rows=known.noise_rows(ffn),
        router_weights=None if a.plugin is None else a.plugin.parameters,
        router_learned=a.learns_routing,
        selection_bias=ffn.router == "sigmoid_bias",
        shared=None if ffn.shared_hidden is None else _dense(ffn.shared_hidden, ffn.activation),
        shared_gate=ffn.shared_gate,
    )


def _dense(hidden: int | None, activation: str) -> Dense:
    return Dense(hidden=_solved(hidden), gated=activation in GATED)


def _solved(hidden: int | None) -> int:
    if hidden is None:
        raise ValueError("the FFN's hidden width is not known before its match is solved")
    return hidden
