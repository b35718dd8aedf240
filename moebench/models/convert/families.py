"""Classes of transformers that compute what our decoder computes, and what their configurations say in our words.

A `Key` is a name of theirs beside one of ours. What a class always does, or never, stands in its `Family`; a value of
another kind is refused by the name of its key. Defaults that `systems.configs` counts with stand there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Bias = Literal["qkv", "all"]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A value that both have."""

    theirs: str
    ours: str
    """A word of a suite's model; `ffn.experts` is one of its `ffn`."""
    none: Any = None
    """What they write where we leave the word out."""


def _keys(none: Any = None, **pairs: str) -> tuple[Key, ...]:
    return tuple(Key(theirs=theirs, ours=ours.replace("__", "."), none=none) for theirs, ours in pairs.items())


_SIZES = _keys(
    hidden_size="width", num_hidden_layers="layers", num_attention_heads="heads", num_key_value_heads="kv_heads",
    head_dim="head_dim", rms_norm_eps="norm_eps", tie_word_embeddings="tied_embeddings", vocab_size="vocab",
)  # fmt: skip
_DENSE = _keys(intermediate_size="ffn__hidden")
_COARSE = _keys(
    num_local_experts="ffn__experts", num_experts_per_tok="ffn__top_k", intermediate_size="ffn__expert_hidden"
)
_FINE = _keys(num_experts="ffn__experts", num_experts_per_tok="ffn__top_k", moe_intermediate_size="ffn__expert_hidden")
_OLMOE = _keys(num_experts="ffn__experts", num_experts_per_tok="ffn__top_k", intermediate_size="ffn__expert_hidden")
_GLM = (
    *_keys(n_routed_experts="ffn__experts", num_experts_per_tok="ffn__top_k", norm_topk_prob="ffn__renormalise"),
    *_keys(moe_intermediate_size="ffn__expert_hidden"),
    *_keys(1.0, routed_scaling_factor="ffn__scale"),
    *_keys(1, n_group="ffn__groups", topk_group="ffn__groups_chosen"),
    *_keys(0, first_k_dense_replace="ffn__first_dense"),
)
_RENORMALISE = _keys(norm_topk_prob="ffn__renormalise")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A class of transformers, and which values of our options it computes."""

    name: str
    model_type: str
    architecture: str
    keys: tuple[Key, ...]
    always: Mapping[str, Any] = field(default_factory=dict)
    """Words of its `ffn` that no key of it says."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Keys that must have this value, and are written so."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Of keys that no count needs."""
    theta: float = 10000.0
    """Base of its rotary positions where none is said."""
    qk_norm: frozenset[str | None] = frozenset({None})
    biases: frozenset[Bias | None] = frozenset({None})
    bias_key: str | None = None
    """Says whether its projections have biases; None where they always have, or never."""
    sinks: bool = False
    windows: Literal["none", "all", "listed"] = "none"
    """Which layers may have a window: all of them together, or as `layer_types` lists."""
    switched: bool = False
    """Whether `use_sliding_window` must say that there are windows."""
    routers: frozenset[str] = frozenset()
    """Words whose evaluation it computes; none for a class of dense models."""
    renormalise: frozenset[bool] = frozenset({True, False})
    shared: Literal["none", "plain", "gated"] = "none"
    """Its shared expert."""
    dense_layers: frozenset[str] = frozenset()
    """How it says which layers are dense: first_dense, every."""
    groups: bool = False
    """Whether it has groups of experts and a scale of routed weights."""
    mixture: str = "mlp"
    """Name of a layer's mixture on disk."""
    expert: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    """Names of an expert's matrices on disk."""
    fused: bool = False
    """Whether all experts of a layer stand in one tensor, transposed, rows of gate and up in turn (gpt-oss)."""


RENORMALISES: dict[str, bool | None] = {
    "softmax_topk": None,
    "frozen_random": None,
    "topk_softmax": True,
    "gshard": True,
    "soft_mixture": True,
    "switch": False,
}
"""Routers that in evaluation are a softmax and its k largest: whether those add up to 1; None where the suite says."""

_SOFTMAX = frozenset(RENORMALISES)
_ANY_LAYERS = frozenset({"first_dense", "every"})
_SWIGLU = {"hidden_act": "silu"}
_NORMED: frozenset[str | None] = frozenset({"per_head"})
_MAYBE: frozenset[Bias | None] = frozenset({None, "all"})

FAMILIES = (
    Family(
        name="Llama", model_type="llama", architecture="LlamaForCausalLM", keys=(*_SIZES, *_DENSE),
        fixed={**_SWIGLU, "mlp_bias": False}, defaults={"rms_norm_eps": 1e-6},
        biases=_MAYBE, bias_key="attention_bias",
    ),
    Family(
        name="Qwen3", model_type="qwen3", architecture="Qwen3ForCausalLM", keys=(*_SIZES, *_DENSE),
        fixed=_SWIGLU, defaults={"rms_norm_eps": 1e-6}, qk_norm=_NORMED, biases=_MAYBE, bias_key="attention_bias",
        windows="listed", switched=True,
    ),
    Family(
        name="Mistral", model_type="mistral", architecture="MistralForCausalLM", keys=(*_SIZES, *_DENSE),
        fixed=_SWIGLU, defaults={"rms_norm_eps": 1e-6}, windows="all",
    ),
    Family(
        name="Qwen2", model_type="qwen2", architecture="Qwen2ForCausalLM", keys=(*_SIZES, *_DENSE),
        fixed=_SWIGLU, defaults={"rms_norm_eps": 1e-6}, biases=frozenset({"qkv"}), windows="listed", switched=True,
    ),
    Family(
        name="Mixtral", model_type="mixtral", architecture="MixtralForCausalLM", keys=(*_SIZES, *_COARSE),
        always={"router": "softmax_topk", "renormalise": True}, fixed=_SWIGLU, defaults={"rms_norm_eps": 1e-5},
        theta=1e6, windows="all", routers=_SOFTMAX, renormalise=frozenset({True}),
        mixture="block_sparse_moe", expert=("w1", "w3", "w2"),
    ),
    Family(
        name="OLMoE", model_type="olmoe", architecture="OlmoeForCausalLM", keys=(*_SIZES, *_OLMOE, *_RENORMALISE),
        always={"router": "softmax_topk"}, fixed={**_SWIGLU, "clip_qkv": None},
        defaults={"rms_norm_eps": 1e-5, "norm_topk_prob": False}, qk_norm=frozenset({"full"}),
        biases=_MAYBE, bias_key="attention_bias", routers=_SOFTMAX,
    ),
    Family(
        name="Qwen3-MoE", model_type="qwen3_moe", architecture="Qwen3MoeForCausalLM",
        keys=(*_SIZES, *_FINE, *_RENORMALISE), always={"router": "softmax_topk"}, fixed=_SWIGLU,
        defaults={"rms_norm_eps": 1e-6, "norm_topk_prob": False}, qk_norm=_NORMED,
        biases=_MAYBE, bias_key="attention_bias", windows="all", switched=True, routers=_SOFTMAX,
        dense_layers=_ANY_LAYERS,
    ),
    Family(
        name="Qwen2-MoE", model_type="qwen2_moe", architecture="Qwen2MoeForCausalLM",
        keys=(*_SIZES, *_FINE, *_RENORMALISE, *_keys(shared_expert_intermediate_size="ffn__shared_hidden")),
        always={"router": "softmax_topk", "shared_gate": True}, fixed=_SWIGLU,
        defaults={"rms_norm_eps": 1e-6, "norm_topk_prob": False}, biases=frozenset({None, "qkv"}), bias_key="qkv_bias",
        windows="listed", switched=True, routers=_SOFTMAX, shared="gated", dense_layers=_ANY_LAYERS,
    ),
    Family(
        name="GLM-4-MoE", model_type="glm4_moe", architecture="Glm4MoeForCausalLM", keys=(*_SIZES, *_GLM),
        always={"router": "sigmoid_bias"}, fixed=_SWIGLU,
        defaults={"rms_norm_eps": 1e-5, "norm_topk_prob": True, "routed_scaling_factor": 1.0, "n_group": 1,
                  "topk_group": 1, "partial_rotary_factor": 0.5},
        qk_norm=frozenset({None, "per_head"}), biases=frozenset({None, "qkv"}), bias_key="attention_bias",
        routers=frozenset({"sigmoid_bias"}), shared="plain", dense_layers=frozenset({"first_dense"}), groups=True,
    ),
    Family(
        name="gpt-oss", model_type="gpt_oss", architecture="GptOssForCausalLM", keys=(*_SIZES, *_COARSE),
        always={"router": "topk_softmax", "bias": True, "activation": "swiglu_clamped"},
        fixed={**_SWIGLU, "swiglu_alpha": 1.702, "swiglu_limit": 7.0}, defaults={"rms_norm_eps": 1e-5},
        theta=150000.0, biases=_MAYBE, bias_key="attention_bias", sinks=True, windows="listed",
        routers=frozenset({"topk_softmax"}), fused=True,
    ),
)  # fmt: skip
BY_TYPE = {family.model_type: family for family in FAMILIES}
