"""How a family of decoders becomes a blueprint: one function for all, told by the family's `Recipe`.

Fields of a recipe that are words name keys of the configuration; which layers have a window and which have experts are
rules of `rules.py`. DBRX has its sizes in parts of its own and is put into these words first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moebench.counting.blueprint import (
    Attention,
    Blueprint,
    Dense,
    Experts,
    FeedForward,
    LatentAttention,
    Layer,
    Mixer,
    NormKind,
    Stack,
)
from moebench.frozen import Frozen
from moebench.systems.configs.fields import Fields, gathered, named
from moebench.systems.configs.rules import SPARSE, WINDOWS

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"

Switch = bool | str
"""True, false, or the key that says which."""


class Recipe(Frozen):
    """What a family of decoders is made of."""

    fixed: Mapping[str, tuple[Switch, str]] = {}
    """Keys that may have one value alone, or that of another key, and why."""
    latent: bool = False
    """Latent attention, as DeepSeek-V2's."""
    qkv_bias: Switch | None = None
    """None for `attention_bias` where the family has that key, else no biases."""
    output_bias: Switch | None = None
    """None for the same as queries, keys and values."""
    qk_norm: str = "none"
    """none, per_head, full, or the key that switches norms of each head on."""
    square: bool = False
    """Whether the norm of queries is as wide as the model, whatever the heads are."""
    sinks: bool = False
    window: str = "nowhere"
    """Rule for the layers whose attention has a window, or chunks; `layer_types`, where it is read, comes first."""
    norms: int = 2
    norm: NormKind = "rms"
    head_bias: Switch = False
    hidden: str = "intermediate_size"
    """Width of a dense layer's gated network."""
    bias: Switch = False
    """Of dense layers and of the shared network."""
    experts: str | None = None
    """Their number; None for a family without experts."""
    top_k: str = "num_experts_per_tok"
    expert_hidden: str = "intermediate_size"
    expert_bias: bool = False
    router_bias: bool = False
    selection_bias: bool = False
    sparse: str = "everywhere"
    """Rule for the layers that have experts, where the family has them."""
    shared: str | None = None
    """Width of the shared network."""
    shared_experts: str | None = None
    """Or how many widths of an expert it has."""
    shared_of_0: bool = True
    """Whether a shared network of width 0 is there, with a gate and a bias, and null says that there is none."""
    shared_gate: bool = False


def decoder(f: Fields, recipe: Recipe) -> Blueprint:
    """A decoder of `num_hidden_layers` layers, each with its own attention and network."""
    for key, (value, why) in recipe.fixed.items():
        f.fixed(key, f.get(value) if isinstance(value, str) else value, why)
    mixers: list[Mixer] = [_latent(f)] * f.layers() if recipe.latent else _windowed(f, recipe)
    ffn = _networks(f, recipe)
    layers = [Layer(mixer=mixers[i], ffn=ffn[i], norms=recipe.norms) for i in range(f.layers())]
    return Blueprint(
        width=f.size("hidden_size"),
        vocab=f.size("vocab_size"),
        tied=f.flag("tie_word_embeddings"),
        head_bias=_switch(f, recipe.head_bias),
        norm=recipe.norm,
        context=f.optional("max_position_embeddings"),
        stacks=(Stack(layers=gathered(layers)),),
    )


def _switch(f: Fields, switch: Switch) -> bool:
    return f.flag(switch) if isinstance(switch, str) else switch


# ------------------------------------------------------------------------------------------------ attention


def _attention(f: Fields, recipe: Recipe) -> Attention:
    """Grouped-query attention without a window."""
    if (switch := recipe.qkv_bias) is None:
        switch = "attention_bias" if "attention_bias" in f.defaults else False
    qkv_bias = _switch(f, switch)
    heads = f.size("num_attention_heads")
    kv_heads = f.optional("num_key_value_heads") or heads
    if heads % kv_heads:
        default = "" if "num_key_value_heads" in f.values else ", the family's default for the key that is not there"
        raise f.refuse("num_key_value_heads", f"{heads:,} heads are not a multiple of {kv_heads:,}{default}")
    head_dim = _head_dim(f, heads)
    if recipe.square and heads * head_dim != f.size("hidden_size"):
        raise f.refuse("head_dim", "its norm of queries is as wide as the model, so heads * head_dim must be")
    qk_norm = recipe.qk_norm if recipe.qk_norm not in f.defaults else "per_head" if f.flag(recipe.qk_norm) else "none"
    return Attention.model_validate(
        {
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "qkv_bias": qkv_bias,
            "output_bias": qkv_bias if recipe.output_bias is None else _switch(f, recipe.output_bias),
            "qk_norm": qk_norm,
            "sinks": recipe.sinks,
        }
    )


def _head_dim(f: Fields, heads: int) -> int:
    """As given, else the width shared out among the heads, rounded down."""
    given = f.optional("head_dim") if f.defaults["head_dim"] is None else f.size("head_dim")
    head_dim = given or f.size("hidden_size") // heads
    if not head_dim:
        raise f.refuse("num_attention_heads", f"more heads than the width, {f.size('hidden_size'):,}")
    return head_dim


def _windowed(f: Fields, recipe: Recipe) -> list[Mixer]:
    """The attention of each layer."""
    full, narrow = _attention(f, recipe), CHUNKED if "attention_chunk_size" in f.defaults else SLIDING
    kinds = [narrow if has else FULL for has in WINDOWS[recipe.window](f)]
    given = f.sequence("layer_types", str) if "layer_types" in f.defaults else None
    kinds = kinds if given is None else given
    if len(kinds) != f.layers():
        raise f.refuse("layer_types", f"{len(kinds):,} entries for {f.layers():,} layers")
    options: dict[str, Attention] = {FULL: full, "attention": full}
    if SLIDING in kinds:
        options[SLIDING] = full.model_copy(update={"window": f.optional("sliding_window")})
    if CHUNKED in kinds and narrow == CHUNKED:
        options[CHUNKED] = full.model_copy(update={"chunk": f.optional("attention_chunk_size")})
    if unknown := sorted(set(kinds) - set(options)):
        raise f.refuse("layer_types", f"unknown {named(unknown[0])}; known: {', '.join(options)}")
    return [options[kind] for kind in kinds]


def _latent(f: Fields) -> LatentAttention:
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


# ------------------------------------------------------------------------------------------------ networks


def _networks(f: Fields, recipe: Recipe) -> list[FeedForward]:
    """The gated network or the experts of each layer."""
    bias = _switch(f, recipe.bias)
    sparse = [False] * f.layers() if recipe.experts is None else SPARSE[recipe.sparse](f)
    networks: dict[bool, FeedForward] = {}
    if any(sparse):
        networks[True] = _experts(f, recipe, shared=_shared(f, recipe, bias=bias))
    if not all(sparse):
        networks[False] = Dense(hidden=f.size(recipe.hidden), bias=bias)
    return [networks[has] for has in sparse]


def _experts(f: Fields, recipe: Recipe, *, shared: Dense | None = None) -> Experts:
    """Gated experts; top-k beyond their number is refused."""
    assert recipe.experts is not None
    there, chosen = f.size(recipe.experts), f.size(recipe.top_k)
    if chosen > there:
        raise f.refuse(recipe.top_k, f"{chosen:,} is more than the {there:,} experts of {recipe.experts}")
    return Experts(
        experts=there,
        top_k=chosen,
        hidden=f.size(recipe.expert_hidden),
        bias=recipe.expert_bias,
        router_bias=recipe.router_bias,
        selection_bias=recipe.selection_bias,
        shared=shared,
        shared_gate=recipe.shared_gate,
    )


def _shared(f: Fields, recipe: Recipe, *, bias: bool) -> Dense | None:
    """The shared experts as one network."""
    if recipe.shared is not None:
        hidden = f.number(recipe.shared)
    elif (number := recipe.shared_experts) is None or (recipe.shared_of_0 and f.get(number) is None):
        return None
    else:
        hidden = f.times(f.number(number), recipe.expert_hidden)
    return Dense(hidden=hidden, bias=bias) if hidden or recipe.shared_of_0 else None


def dbrx(f: Fields, parts: Mapping[str, Mapping[str, Any]]) -> Blueprint:
    """DBRX (Databricks 2024): its sizes lie in `attn_config` and `ffn_config`, its norms have no biases."""
    if f.flag("tie_word_embeddings"):
        raise f.refuse("tie_word_embeddings", "true is not supported by the family")
    attention, ffn = (f.nested(key, defaults) for key, defaults in parts.items())
    width, heads = f.size("d_model"), f.size("n_heads")
    if width % heads:
        raise f.refuse("n_heads", f"the width {width:,} is not a multiple of {heads:,} heads")
    words = Recipe(experts="moe_num_experts", top_k="moe_top_k", expert_hidden="ffn_hidden_size", norm="layer_no_bias")
    experts = _experts(ffn, words)
    plain = {
        "hidden_size": width,
        "head_dim": None,
        "tie_word_embeddings": False,
        "vocab_size": f.size("vocab_size"),
        "num_hidden_layers": f.layers("n_layers"),
        "num_attention_heads": heads,
        "num_key_value_heads": attention.size("kv_n_heads"),
        "max_position_embeddings": f.optional("max_seq_len"),
        "moe_num_experts": experts.experts,
        "moe_top_k": experts.top_k,
        "ffn_hidden_size": experts.hidden,
    }
    return decoder(Fields(family=f.family, values={}, defaults=plain), words)
