"""T5 and Switch Transformers: encoder and decoder over one table, relative position biases in each first layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, Layer, Stack
from moebench.systems.configs.fields import Fields, gathered


def t5(f: Fields) -> Blueprint:
    """T5 (Raffel et al. 2020, arXiv:1910.10683) and mT5; version 1.1's gated networks too."""
    if not f.flag("tie_word_embeddings"):
        raise f.refuse(
            "tie_word_embeddings",
            "false: checkpoints so written hold a head of their own, while transformers 5 ties it all the same, so "
            "there are two counts; set it to true for the tied one, or see `moebench inspect t5-v1.1-base`",
        )
    words = f.word("feed_forward_proj").split("-")
    if len(words) > 2 or (len(words) == 2 and words[0] != "gated"):
        raise f.refuse("feed_forward_proj", "is neither an activation nor `gated-` and one")
    gated = words[0] == "gated" if f.get("is_gated_act") is None else f.flag("is_gated_act")
    ffn = Dense(hidden=f.size("d_ff"), gated=gated)
    return _pair(f, lambda _kind, _layer: ffn)


def switch(f: Fields) -> Blueprint:
    """Switch Transformers (Fedus et al. 2021, arXiv:2101.03961), as converted for transformers."""
    if not f.flag("tie_word_embeddings"):
        raise f.refuse(
            "tie_word_embeddings",
            "false: transformers then holds four tables, of which checkpoints fill two; set it to true, or see "
            "`moebench inspect switch-base-8`",
        )
    if f.values.get("is_gated_act") or str(f.values.get("feed_forward_proj")).startswith("gated"):
        raise f.refuse("feed_forward_proj", "gated: transformers' class of the family has no gates")
    f.fixed("num_selected_experts", 1, "the family routes a token to one expert")
    dense = Dense(hidden=f.size("d_ff"), gated=False)
    routed = Experts(
        experts=f.size("num_experts"), top_k=1, hidden=dense.hidden, gated=False, router_bias=f.flag("router_bias")
    )
    steps = {kind: _sparse_step(f, kind) for kind in ("encoder", "decoder")}

    def ffn(kind: str, layer: int) -> Dense | Experts:
        step = steps[kind]
        return routed if step == 1 or (step > 1 and layer % step == 1) else dense

    return _pair(f, ffn)


def _sparse_step(f: Fields, kind: str) -> int:
    """Every how many layers there are experts, by transformers' rule; 0 for never. A step that is given comes first."""
    if f.get(f"{kind}_sparse_step") is not None:
        return f.number(f"{kind}_sparse_step")
    layers = f.layers("num_layers") if kind == "encoder" else _decoder_layers(f)
    sparse = f.number(f"num_sparse_{kind}_layers")
    return layers // sparse if sparse else layers


def _decoder_layers(f: Fields) -> int:
    return f.layers("num_layers") if f.get("num_decoder_layers") is None else f.layers("num_decoder_layers")


def _pair(f: Fields, ffn: Callable[[str, int], Dense | Experts]) -> Blueprint:
    if not f.flag("is_encoder_decoder"):
        raise f.refuse("is_encoder_decoder", "false: only the whole encoder-decoder is counted")
    heads, head_dim = f.size("num_heads"), f.size("d_kv")
    plain = Attention(heads=heads, kv_heads=heads, head_dim=head_dim)
    first = plain.model_copy(update={"position_buckets": f.size("relative_attention_num_buckets")})

    def stack(kind: Literal["encoder", "decoder"], layers: int) -> Stack:
        cross = plain if kind == "decoder" else None
        norms = 2 if cross is None else 3
        return Stack(
            kind=kind,
            layers=gathered(
                [Layer(mixer=plain if i else first, cross=cross, ffn=ffn(kind, i), norms=norms) for i in range(layers)]
            ),
        )

    return Blueprint(
        width=f.size("d_model"),
        vocab=f.size("vocab_size"),
        tied=True,
        stacks=(stack("encoder", f.layers("num_layers")), stack("decoder", _decoder_layers(f))),
    )
