"""Decoders with experts and ordinary attention."""

from __future__ import annotations

from typing import Any

from moebench.counting.blueprint import Blueprint, Dense, Experts, Mixer
from moebench.systems.configs.dense import RMS_ALONE
from moebench.systems.configs.fields import Fields
from moebench.systems.configs.parts import (
    CHUNKED,
    FULL,
    SLIDING,
    attention,
    decoder,
    everywhere,
    experts,
    gated,
    rotary,
    sizes,
    windowed,
)

MIXTRAL = sizes(
    intermediate_size=14336,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    sliding_window=None,
    num_local_experts=8,
    num_experts_per_tok=2,
)
OLMOE = sizes(
    vocab_size=50304,
    hidden_size=2048,
    intermediate_size=2048,
    num_hidden_layers=16,
    num_attention_heads=16,
    max_position_embeddings=4096,
    attention_bias=False,
    num_experts=64,
    num_experts_per_tok=8,
)
FLEX_OLMO = sizes(
    vocab_size=100352, max_position_embeddings=4096, attention_bias=False, num_experts=7, num_experts_per_tok=5
)
_QWEN_MOE: dict[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "max_position_embeddings": 32768,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "decoder_sparse_step": 1,
    "mlp_only_layers": None,
}
QWEN2_MOE = sizes(
    **_QWEN_MOE,
    intermediate_size=5632,
    num_attention_heads=16,
    num_key_value_heads=16,
    max_window_layers=28,
    moe_intermediate_size=1408,
    shared_expert_intermediate_size=5632,
    num_experts=60,
    num_experts_per_tok=4,
    qkv_bias=True,
    layer_types=None,
)
QWEN3_MOE = sizes(
    **_QWEN_MOE,
    intermediate_size=6144,
    num_key_value_heads=4,
    moe_intermediate_size=768,
    num_local_experts=128,
    num_experts_per_tok=8,
    attention_bias=False,
)
GPT_OSS = sizes(
    vocab_size=201088,
    hidden_size=2880,
    intermediate_size=2880,
    num_hidden_layers=36,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=64,
    max_position_embeddings=131072,
    sliding_window=128,
    layer_types=None,
    attention_bias=True,
    num_local_experts=128,
    num_experts_per_tok=4,
)
LLAMA4 = sizes(
    vocab_size=202048,
    hidden_size=5120,
    intermediate_size=8192,
    intermediate_size_mlp=16384,
    num_hidden_layers=48,
    num_attention_heads=40,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=131072,
    num_local_experts=16,
    num_experts_per_tok=1,
    moe_layers=None,
    interleave_moe_layer_step=1,
    no_rope_layers=None,
    no_rope_layer_interval=4,
    attention_chunk_size=8192,
    layer_types=None,
    attention_bias=False,
)
DBRX: dict[str, Any] = {
    "d_model": 2048,
    "n_heads": 16,
    "n_layers": 24,
    "max_seq_len": 2048,
    "vocab_size": 32000,
    "attn_config": None,
    "ffn_config": None,
    "tie_word_embeddings": False,
}
DBRX_ATTENTION: dict[str, Any] = {"kv_n_heads": 1}
DBRX_FFN: dict[str, Any] = {"ffn_hidden_size": 3584, "moe_num_experts": 4, "moe_top_k": 1}
PHIMOE = sizes(
    vocab_size=32064,
    intermediate_size=6400,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    sliding_window=None,
    attention_bias=False,
    lm_head_bias=False,
    num_local_experts=16,
    num_experts_per_tok=2,
)
GRANITE_MOE = sizes(attention_bias=False, num_local_experts=8, num_experts_per_tok=2)
GLM4_MOE = sizes(
    vocab_size=151552,
    intermediate_size=10944,
    num_hidden_layers=46,
    num_attention_heads=96,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    attention_bias=False,
    use_qk_norm=False,
    moe_intermediate_size=1408,
    n_routed_experts=128,
    n_shared_experts=1,
    num_experts_per_tok=8,
    first_k_dense_replace=1,
)
DOTS1 = sizes(
    vocab_size=152064,
    hidden_size=4608,
    intermediate_size=10944,
    num_hidden_layers=62,
    num_key_value_heads=32,
    attention_bias=False,
    moe_intermediate_size=1408,
    n_routed_experts=None,
    n_shared_experts=None,
    num_experts_per_tok=None,
    first_k_dense_replace=0,
    sliding_window=4096,
    max_window_layers=62,
    layer_types=None,
)
MINIMAX_M2 = sizes(
    vocab_size=200064,
    hidden_size=3072,
    intermediate_size=1536,
    num_hidden_layers=62,
    num_attention_heads=48,
    num_key_value_heads=8,
    head_dim=128,
    max_position_embeddings=196608,
    num_local_experts=256,
    num_experts_per_tok=8,
)
ERNIE_MOE = sizes(
    vocab_size=103424,
    hidden_size=2560,
    intermediate_size=12288,
    num_hidden_layers=28,
    num_attention_heads=20,
    num_key_value_heads=4,
    tie_word_embeddings=True,
    max_position_embeddings=131072,
    use_bias=False,
    moe_intermediate_size=1536,
    moe_num_experts=64,
    moe_k=6,
    moe_num_shared_experts=2,
    moe_layer_start_index=1,
    moe_layer_end_index=-1,
    moe_layer_interval=1,
)


def mixtral(f: Fields) -> Blueprint:
    """Mixtral (Jiang et al. 2024, arXiv:2401.04088)."""
    return decoder(f, everywhere(f, attention(f)), experts(f))


def minimax_m2(f: Fields) -> Blueprint:
    """MiniMax-M2: queries and keys normed over all heads, selection by a bias."""
    return decoder(f, attention(f, qk_norm="full"), experts(f, selection_bias=True))


def olmoe(f: Fields) -> Blueprint:
    """OLMoE (Muennighoff et al. 2024, arXiv:2409.02060) and FlexOlmo: queries and keys normed over all heads."""
    mixer = attention(f, qk_norm="full")
    if mixer.heads * mixer.head_dim != f.size("hidden_size") and f.family == "olmoe":
        raise f.refuse("head_dim", "its norm of queries is as wide as the model, so heads * head_dim must be")
    return decoder(f, mixer, experts(f, number="num_experts"))


def qwen2_moe(f: Fields) -> Blueprint:
    """Qwen1.5-MoE and Qwen2-MoE: a shared network behind a sigmoid gate."""
    mixer = attention(f, qkv_bias=f.flag("qkv_bias"), output_bias=False)
    slides = f.flag("use_sliding_window")
    first = f.number("max_window_layers")
    kinds = [SLIDING if slides and (i + 1) % 2 and i < first else FULL for i in range(f.layers())]
    shared = Dense(hidden=f.number("shared_expert_intermediate_size"))
    return _qwen(f, windowed(f, mixer, kinds), number="num_experts", shared=shared, shared_gate=True)


def qwen3_moe(f: Fields) -> Blueprint:
    """Qwen3-MoE (arXiv:2505.09388)."""
    mixer = attention(f, qk_norm="per_head")
    return _qwen(f, everywhere(f, mixer) if f.flag("use_sliding_window") else mixer, number="num_local_experts")


def _qwen(f: Fields, mixers: Mixer | list[Mixer], *, number: str, **more: Any) -> Blueprint:
    """Experts in every `decoder_sparse_step`-th layer but `mlp_only_layers`, and none with 0 experts."""
    step, only = f.size("decoder_sparse_step"), set(f.sequence("mlp_only_layers", int) or ())
    sparse = [f.number(number) > 0 and i not in only and (i + 1) % step == 0 for i in range(f.layers())]
    return mixed(f, mixers, sparse, number=number, **more)


def mixed(
    f: Fields,
    mixers: Mixer | list[Mixer],
    sparse: list[bool],
    *,
    number: str = "n_routed_experts",
    top_k: str = "num_experts_per_tok",
    bias: bool = False,
    head_bias: bool = False,
    **more: Any,
) -> Blueprint:
    """Experts of `moe_intermediate_size` in the layers that are `sparse`, the dense network of `intermediate_size` in
    the others."""
    networks: dict[bool, Dense | Experts] = {}
    if any(sparse):
        networks[True] = experts(f, number=number, top_k=top_k, hidden="moe_intermediate_size", **more)
    if not all(sparse):
        networks[False] = gated(f, bias=bias)
    return decoder(f, mixers, [networks[has] for has in sparse], head_bias=head_bias)


def gpt_oss(f: Fields) -> Blueprint:
    """gpt-oss (OpenAI 2025): biases everywhere, attention sinks, a window in every other layer."""
    f.fixed("experts_per_token", f.get("num_experts_per_tok"), "num_experts_per_tok says otherwise")
    kinds = [SLIDING if (i + 1) % 2 else FULL for i in range(f.layers())]
    return decoder(f, windowed(f, attention(f, sinks=True), kinds), experts(f, bias=True, router_bias=True))


def llama4(f: Fields) -> Blueprint:
    """The text tower of Llama 4 (Meta 2025): one shared expert beside the routed one, norms of queries without
    weights."""
    layers, step = f.layers(), f.size("interleave_moe_layer_step")
    given = f.sequence("moe_layers", int)
    with_experts = set(range(step - 1, layers, step) if given is None else given)
    kinds = [CHUNKED if has else FULL for has in rotary(f)]
    routed, dense = experts(f, shared=gated(f)), gated(f, "intermediate_size_mlp")
    networks = [routed if i in with_experts else dense for i in range(layers)]
    return decoder(f, windowed(f, attention(f), kinds), networks)


def dbrx(f: Fields) -> Blueprint:
    """DBRX (Databricks 2024): its sizes lie in `attn_config` and `ffn_config`."""
    if f.flag("tie_word_embeddings"):
        raise f.refuse("tie_word_embeddings", "true is not supported by the family")
    inner, heads = f.nested("attn_config", DBRX_ATTENTION), f.nested("ffn_config", DBRX_FFN)
    width = f.size("d_model")
    if width % f.size("n_heads"):
        raise f.refuse("n_heads", f"the width {width:,} is not a multiple of {f.size('n_heads'):,} heads")
    plain = Fields(
        family=f.family,
        values={},
        defaults=sizes(
            hidden_size=width,
            vocab_size=f.size("vocab_size"),
            num_hidden_layers=f.layers("n_layers"),
            num_attention_heads=f.size("n_heads"),
            num_key_value_heads=inner.size("kv_n_heads"),
            max_position_embeddings=f.optional("max_seq_len"),
        ),
    )
    ffn = experts(heads, number="moe_num_experts", top_k="moe_top_k", hidden="ffn_hidden_size")
    return decoder(plain, attention(plain), ffn, norm="layer_no_bias")


def phimoe(f: Fields) -> Blueprint:
    """Phi-3.5-MoE (arXiv:2404.14219): norms with biases."""
    mixer = everywhere(f, attention(f))
    return decoder(f, mixer, experts(f), norm="layer", head_bias=f.flag("lm_head_bias"))


def granite_moe(f: Fields) -> Blueprint:
    """Granite 3.0 MoE (IBM 2024), and its variant with a shared network."""
    shared = f.number("shared_intermediate_size") if "shared_intermediate_size" in f.defaults else 0
    return decoder(f, attention(f), experts(f, shared=Dense(hidden=shared) if shared else None))


def leading_dense(f: Fields) -> list[bool]:
    """Which layers have experts when the first `first_k_dense_replace` have none."""
    first = f.number("first_k_dense_replace")
    return [i >= first for i in range(f.layers())]


def shared_experts(f: Fields, *, bias: bool = False) -> Dense | None:
    """`n_shared_experts` of the experts' width as one network; null for none."""
    if f.get("n_shared_experts") is None:
        return None
    return Dense(hidden=f.times(f.number("n_shared_experts"), "moe_intermediate_size"), bias=bias)


def glm4_moe(f: Fields) -> Blueprint:
    """GLM-4.5 (arXiv:2508.06471)."""
    mixer = attention(f, output_bias=False, qk_norm="per_head" if f.flag("use_qk_norm") else "none")
    return mixed(f, mixer, leading_dense(f), shared=shared_experts(f), selection_bias=True)


def dots1(f: Fields) -> Blueprint:
    """dots.llm1 (arXiv:2506.05767)."""
    first = f.layers() if f.optional("sliding_window") is None else f.number("max_window_layers")
    kinds = [SLIDING if i >= first else FULL for i in range(f.layers())]
    mixers = windowed(f, attention(f, qk_norm="per_head"), kinds)
    return mixed(f, mixers, leading_dense(f), shared=shared_experts(f), selection_bias=True)


def ernie_moe(f: Fields) -> Blueprint:
    """ERNIE 4.5 MoE: its selection biases are parameters, and its one switch for biases reaches the head."""
    f.fixed("use_rmsnorm", True, RMS_ALONE)
    bias, layers = f.flag("use_bias"), f.layers()
    last = layers - 1 if f.get("moe_layer_end_index") == -1 else f.number("moe_layer_end_index")
    first, every = f.number("moe_layer_start_index"), f.size("moe_layer_interval")
    sparse = [first <= i <= last and (i + 1) % every == 0 for i in range(layers)]
    shared = f.times(f.number("moe_num_shared_experts"), "moe_intermediate_size")
    return mixed(
        f,
        attention(f, qkv_bias=bias),
        sparse,
        number="moe_num_experts",
        top_k="moe_k",
        bias=bias,
        head_bias=bias,
        router_bias=True,
        shared=Dense(hidden=shared, bias=bias) if shared else None,
    )
