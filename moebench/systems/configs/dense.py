"""Decoders without experts."""

from __future__ import annotations

from moebench.counting.blueprint import Blueprint
from moebench.systems.configs.fields import Fields
from moebench.systems.configs.parts import (
    FULL,
    SLIDING,
    attention,
    decoder,
    everywhere,
    gated,
    rotary,
    sizes,
    sliding_after,
    windowed,
)

LLAMA = sizes(attention_bias=False, mlp_bias=False)
MISTRAL = sizes(intermediate_size=14336, num_key_value_heads=8, max_position_embeddings=131072, sliding_window=4096)
OLMO = sizes(vocab_size=50304, attention_bias=False)
OLMO3 = {**OLMO, "sliding_window": 4096, "layer_types": None}
QWEN2 = sizes(
    vocab_size=151936,
    intermediate_size=22016,
    num_key_value_heads=32,
    max_position_embeddings=32768,
    use_sliding_window=False,
    sliding_window=4096,
    max_window_layers=28,
    layer_types=None,
)
QWEN3 = {**QWEN2, "head_dim": 128, "attention_bias": False}
GLM4 = sizes(
    vocab_size=151552,
    intermediate_size=13696,
    num_hidden_layers=40,
    num_key_value_heads=2,
    head_dim=128,
    attention_bias=True,
    max_position_embeddings=131072,
)
SMOLLM3 = sizes(
    vocab_size=128256,
    hidden_size=2048,
    num_hidden_layers=36,
    num_attention_heads=16,
    num_key_value_heads=4,
    tie_word_embeddings=True,
    max_position_embeddings=32768,
    attention_bias=False,
    mlp_bias=False,
    use_sliding_window=False,
    sliding_window=None,
    no_rope_layers=None,
    no_rope_layer_interval=4,
    layer_types=None,
)
SEED_OSS = sizes(
    vocab_size=155136,
    intermediate_size=27648,
    num_hidden_layers=64,
    num_attention_heads=80,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=524288,
    attention_bias=True,
    attention_out_bias=False,
    mlp_bias=False,
)
ERNIE = sizes(
    vocab_size=103424,
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=18,
    num_attention_heads=16,
    num_key_value_heads=2,
    head_dim=128,
    tie_word_embeddings=True,
    max_position_embeddings=131072,
    use_bias=False,
)


RMS_ALONE = "transformers' class has RMSNorm alone"


def llama(f: Fields) -> Blueprint:
    """Llama (Touvron et al. 2023) and Granite."""
    return decoder(f, attention(f), gated(f, bias=f.flag("mlp_bias")))


def mistral(f: Fields) -> Blueprint:
    """Mistral 7B (Jiang et al. 2023, arXiv:2310.06825)."""
    return decoder(f, everywhere(f, attention(f)), gated(f))


def olmo(f: Fields) -> Blueprint:
    """OLMo (Groeneveld et al. 2024, arXiv:2402.00838): norms without weights."""
    return decoder(f, attention(f), gated(f), norm="none")


def olmo2(f: Fields) -> Blueprint:
    """OLMo 2 (arXiv:2501.00656): queries and keys normed over all heads, norms after and not before."""
    return decoder(f, attention(f, qk_norm="full"), gated(f))


def olmo3(f: Fields) -> Blueprint:
    """OLMo 3: OLMo 2 with a window in three layers of four."""
    kinds = [FULL if (i + 1) % 4 == 0 else SLIDING for i in range(f.layers())]
    return decoder(f, windowed(f, attention(f, qk_norm="full"), kinds), gated(f))


def qwen2(f: Fields) -> Blueprint:
    """Qwen2 (arXiv:2407.10671): biases of queries, keys and values, always."""
    return decoder(f, windowed(f, attention(f, qkv_bias=True, output_bias=False), sliding_after(f)), gated(f))


def qwen3(f: Fields) -> Blueprint:
    """Qwen3 (arXiv:2505.09388): queries and keys normed head by head."""
    return decoder(f, windowed(f, attention(f, qk_norm="per_head"), sliding_after(f)), gated(f))


def glm4(f: Fields) -> Blueprint:
    """GLM-4: norms before and after."""
    return decoder(f, attention(f, output_bias=False), gated(f), norms=4)


def smollm3(f: Fields) -> Blueprint:
    """SmolLM3: Llama with a window, if any, where there are no rotary positions."""
    slides = f.flag("use_sliding_window") and f.optional("sliding_window") is not None
    kinds = [SLIDING if slides and not has else FULL for has in rotary(f)]
    return decoder(f, windowed(f, attention(f), kinds), gated(f, bias=f.flag("mlp_bias")))


def seed_oss(f: Fields) -> Blueprint:
    """Seed-OSS: Llama whose output projection has a bias of its own."""
    return decoder(f, attention(f, output_bias=f.flag("attention_out_bias")), gated(f, bias=f.flag("mlp_bias")))


def ernie(f: Fields) -> Blueprint:
    """ERNIE 4.5, dense: one switch for all biases."""
    f.fixed("use_rmsnorm", True, RMS_ALONE)
    bias = f.flag("use_bias")
    return decoder(f, attention(f, qkv_bias=bias), gated(f, bias=bias))
