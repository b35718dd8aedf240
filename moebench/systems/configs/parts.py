"""What most families share: grouped-query attention, gated networks, and which layers have experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, Layer, Mixer, NormKind, Stack
from moebench.systems.configs.fields import Fields, gathered, named

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


def sizes(**more: Any) -> dict[str, Any]:
    """Defaults that every decoder family names, here Llama's; a family says what differs."""
    return {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": None,
        "head_dim": None,
        "tie_word_embeddings": False,
        "max_position_embeddings": 2048,
        **more,
    }


def attention(
    f: Fields,
    *,
    qkv_bias: bool | None = None,
    output_bias: bool | None = None,
    qk_norm: Literal["none", "per_head", "full"] = "none",
    sinks: bool = False,
) -> Attention:
    """Grouped-query attention without a window. Biases of queries, keys and values are as `attention_bias` says where
    the family has it and nothing else is said; the output's is as theirs."""
    if qkv_bias is None:
        qkv_bias = "attention_bias" in f.defaults and f.flag("attention_bias")
    heads = f.size("num_attention_heads")
    kv_heads = f.optional("num_key_value_heads") or heads
    if heads % kv_heads:
        default = "" if "num_key_value_heads" in f.values else ", the family's default for the key that is not there"
        raise f.refuse("num_key_value_heads", f"{heads:,} heads are not a multiple of {kv_heads:,}{default}")
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim(f, heads),
        qkv_bias=qkv_bias,
        output_bias=qkv_bias if output_bias is None else output_bias,
        qk_norm=qk_norm,
        sinks=sinks,
    )


def head_dim(f: Fields, heads: int) -> int:
    """As given, else the width shared out among the heads, rounded down."""
    given = f.optional("head_dim") if f.defaults["head_dim"] is None else f.size("head_dim")
    found = given or f.size("hidden_size") // heads
    if not found:
        raise f.refuse("num_attention_heads", f"more heads than the width, {f.size('hidden_size'):,}")
    return found


def gated(f: Fields, key: str = "intermediate_size", *, times: int = 1, bias: bool = False) -> Dense:
    """A gated network, `times` as wide as the key says."""
    return Dense(hidden=f.times(times, key), bias=bias)


def experts(
    f: Fields,
    *,
    number: str = "num_local_experts",
    top_k: str = "num_experts_per_tok",
    hidden: str = "intermediate_size",
    **more: Any,
) -> Experts:
    """Gated experts, by the keys of their number, of those of a token, and of their width; top-k beyond their number is
    refused."""
    there, chosen = f.size(number), f.size(top_k)
    if chosen > there:
        raise f.refuse(top_k, f"{chosen:,} is more than the {there:,} experts of {number}")
    return Experts(experts=there, top_k=chosen, hidden=f.size(hidden), **more)


def decoder(
    f: Fields,
    mixers: Mixer | Sequence[Mixer],
    ffn: Dense | Experts | Sequence[Dense | Experts],
    *,
    norms: int = 2,
    norm: NormKind = "rms",
    head_bias: bool = False,
) -> Blueprint:
    """A decoder of `num_hidden_layers` layers, alike or each with its own attention or network."""
    layers = f.layers()
    mixed = mixers if isinstance(mixers, Sequence) else [mixers] * layers
    fed = ffn if isinstance(ffn, Sequence) else [ffn] * layers
    return Blueprint(
        width=f.size("hidden_size"),
        vocab=f.size("vocab_size"),
        tied=f.flag("tie_word_embeddings"),
        head_bias=head_bias,
        norm=norm,
        context=f.optional("max_position_embeddings"),
        stacks=(Stack(layers=gathered([Layer(mixer=mixed[i], ffn=fed[i], norms=norms) for i in range(layers)])),),
    )


# ------------------------------------------------------------------------------------------------ windows


def windowed(f: Fields, mixer: Attention, kinds: Sequence[str]) -> list[Mixer]:
    """The attention of each layer by its kind; `layer_types`, where the configuration has it, comes first."""
    given = f.sequence("layer_types", str) if "layer_types" in f.defaults else None
    found = list(kinds) if given is None else given
    if len(found) != f.layers():
        raise f.refuse("layer_types", f"{len(found):,} entries for {f.layers():,} layers")
    options: dict[str, Attention] = {FULL: mixer, "attention": mixer}
    if SLIDING in found:
        options[SLIDING] = mixer.model_copy(update={"window": f.optional("sliding_window")})
    if CHUNKED in found and "attention_chunk_size" in f.defaults:
        options[CHUNKED] = mixer.model_copy(update={"chunk": f.optional("attention_chunk_size")})
    if unknown := sorted(set(found) - set(options)):
        raise f.refuse("layer_types", f"unknown {named(unknown[0])}; known: {', '.join(options)}")
    return [options[word] for word in found]


def rotary(f: Fields) -> list[int]:
    """Which layers have rotary positions: as listed, else all but every `no_rope_layer_interval`-th."""
    layers, every = f.layers(), f.size("no_rope_layer_interval")
    given = f.sequence("no_rope_layers", int) or [int((i + 1) % every != 0) for i in range(layers)]
    if len(given) != layers:
        raise f.refuse("no_rope_layers", f"{len(given):,} entries for {layers:,} layers")
    return given


def sliding_after(f: Fields) -> list[str]:
    """Qwen's rule: with `use_sliding_window`, layers from `max_window_layers` on have a window."""
    layers = f.layers()
    if not f.flag("use_sliding_window") or f.optional("sliding_window") is None:
        return [FULL] * layers
    first = f.number("max_window_layers")
    return [SLIDING if i >= first else FULL for i in range(layers)]


def everywhere(f: Fields, mixer: Attention) -> Attention:
    """The same window, if any, in every layer."""
    return mixer.model_copy(update={"window": f.optional("sliding_window")})
