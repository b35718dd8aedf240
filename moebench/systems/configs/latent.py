"""The DeepSeek line: fine-grained and shared experts (arXiv:2401.06066), then latent attention (arXiv:2405.04434)."""

from __future__ import annotations

from typing import Any

from moebench.counting.blueprint import Blueprint, LatentAttention
from moebench.systems.configs.fields import Fields
from moebench.systems.configs.moe import leading_dense, mixed, shared_experts
from moebench.systems.configs.parts import attention, sizes

DEEPSEEK = sizes(
    vocab_size=102400,
    attention_bias=False,
    moe_intermediate_size=1407,
    n_routed_experts=None,
    n_shared_experts=None,
    num_experts_per_tok=None,
    first_k_dense_replace=0,
    moe_layer_freq=1,
)
_LATENT: dict[str, Any] = {
    "attention_bias": False,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}
DEEPSEEK_V2 = sizes(
    **_LATENT,
    vocab_size=102400,
    mlp_bias=False,
    moe_intermediate_size=1407,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=None,
    first_k_dense_replace=0,
)
DEEPSEEK_V3 = sizes(
    **_LATENT,
    vocab_size=129280,
    hidden_size=7168,
    intermediate_size=18432,
    num_hidden_layers=61,
    num_attention_heads=128,
    num_key_value_heads=128,
    max_position_embeddings=4096,
    moe_intermediate_size=2048,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    first_k_dense_replace=3,
)


def deepseek(f: Fields) -> Blueprint:
    """DeepSeekMoE 16B: ordinary attention. Its class is the publisher's own, whose rule for layers is kept: experts
    from `first_k_dense_replace` on, in every `moe_layer_freq`-th layer counted from 0, and none when
    `n_routed_experts` is null."""
    every = f.size("moe_layer_freq")
    routed = f.get("n_routed_experts") is not None
    sparse = [routed and later and i % every == 0 for i, later in enumerate(leading_dense(f))]
    return _decoder(f, attention(f), sparse)


def deepseek_v2(f: Fields) -> Blueprint:
    """DeepSeek-V2 (arXiv:2405.04434)."""
    return _decoder(f, _latent(f), leading_dense(f), bias=f.flag("mlp_bias"))


def deepseek_v3(f: Fields) -> Blueprint:
    """DeepSeek-V3 (arXiv:2412.19437) and Kimi K2 (arXiv:2507.20534), without the multi-token prediction head."""
    return _decoder(f, _latent(f), leading_dense(f), selection_bias=True)


def _latent(f: Fields) -> LatentAttention:
    f.fixed("moe_layer_freq", 1, "transformers' class puts experts into every layer, the publisher's code does not")
    bias, nope, rope = f.flag("attention_bias"), f.number("qk_nope_head_dim"), f.size("qk_rope_head_dim")
    f.fixed("qk_head_dim", nope + rope, f"is not qk_nope_head_dim + qk_rope_head_dim, {nope + rope}")
    return LatentAttention(
        heads=f.size("num_attention_heads"),
        nope_dim=nope,
        rope_dim=rope,
        value_dim=f.size("v_head_dim"),
        kv_rank=f.size("kv_lora_rank"),
        q_rank=f.optional("q_lora_rank"),
        bias=bias,
        output_bias=bias,
    )


def _decoder(f: Fields, mixer: Any, sparse: list[bool], *, bias: bool = False, **more: Any) -> Blueprint:
    shared = shared_experts(f, bias=bias) if any(sparse) else None
    return mixed(f, mixer, sparse, bias=bias, shared=shared, **more)
