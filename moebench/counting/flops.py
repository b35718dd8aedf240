"""Model FLOPs of a `Blueprint`: the products of its architecture, however kernels compute them.

Latent attention reads a sequence as the heads it expands to. When decoding it has two forms, and FLOPs and cache are
always of the same one: absorbed (DeepSeek-V2, arXiv:2405.04434, section 2.1.2), where every head attends to the cached
latent and the one rotary key, or expanded, where the cache holds keys and values of all heads.
"""

from __future__ import annotations

from collections.abc import Iterator

from moebench.counting.blueprint import Attention, Blueprint, LatentAttention, Stack
from moebench.counting.weights import body_weights, dense_weights, layer_weights, router_weights

# ------------------------------------------------------------------------------------------------ whole sequences


def assignments_per_token(b: Blueprint) -> int:
    """(token, expert) assignments of one token over all layers when nothing is dropped; the most, where routers may."""
    return sum(times * ffn.top_k for times, ffn in b.mixtures)


def linear_flops(b: Blueprint, *, tokens: int, assignments: int | None = None, training: bool = True) -> int:
    """Forward FLOPs of every matrix product but attention's, output head included.

    `assignments` is the (token, expert) assignments really computed, summed over layers, of a model whose experts are
    all alike; tokens x top_k x mixtures when absent, a bound where routers drop or choose how many. `training` counts
    what routers compute in training alone.
    """
    body = body_weights(b)
    products = tokens * (body.matrices + training * body.noise + b.vocab * b.width)
    if assignments is not None and b.mixtures:
        saved = tokens * assignments_per_token(b) - assignments
        products -= saved * dense_weights(b.mixtures[0][1], b.width).matrices
    return 2 * products


def forward_flops(
    b: Blueprint, *, sequences: int, length: int, assignments: int | None = None, training: bool = True
) -> int:
    """FLOPs of a forward pass over sequences of `length` tokens."""
    linear = linear_flops(b, tokens=sequences * length, assignments=assignments, training=training)
    halves = (
        times * pair_flops(mixer) // 2 * twice_pairs(mixer, length=length, causal=causal)
        for times, mixer, causal in attentions(b)
    )
    return linear + sequences * sum(halves)


def train_step_flops(b: Blueprint, *, sequences: int, length: int, assignments: int | None = None) -> int:
    """FLOPs of forward and backward."""
    forward = forward_flops(b, sequences=sequences, length=length, assignments=assignments)
    return 3 * forward - untrained_flops(b, tokens=sequences * length)


def untrained_flops(b: Blueprint, *, tokens: int) -> int:
    """FLOPs that a backward saves because routers that are not trained need no gradient of their weights."""
    routers = ((times, router_weights(ffn, b.width)) for times, ffn in b.mixtures if not ffn.router_learned)
    return 2 * tokens * sum(times * (router.matrices + router.noise) for times, router in routers)


def forward_flops_per_token(b: Blueprint, *, context: int) -> float:
    """FLOPs of a forward pass over `context` tokens, per token, without what routers compute in training alone."""
    return forward_flops(b, sequences=1, length=context, training=False) / context


def train_flops_per_token(b: Blueprint, *, context: int | None = None) -> float:
    """FLOPs per trained token, at the model's own context when none is given."""
    context = context or b.context
    assert context is not None
    return train_step_flops(b, sequences=1, length=context) / context


def attentions(b: Blueprint) -> Iterator[tuple[int, Attention | LatentAttention, bool]]:
    """(how often, attention, whether it is causal) of every layer, to itself and across."""
    for stack in b.stacks:
        for layer in stack.layers:
            if isinstance(layer.mixer, Attention | LatentAttention):
                yield layer.times, layer.mixer, stack.kind == "decoder"
            if layer.cross is not None:
                yield layer.times, layer.cross, False


def twice_pairs(mixer: Attention | LatentAttention, *, length: int, causal: bool) -> int:
    """Twice the (query, key) pairs of a sequence: of the square when not causal, of half of it when causal, of what a
    window or chunks leave of that."""
    if not causal:
        return 2 * length * length
    if mixer.chunk is not None and mixer.chunk < length:
        whole, rest = divmod(length, mixer.chunk)
        return whole * mixer.chunk**2 + rest**2
    if mixer.window is not None and mixer.window < length:
        return 2 * mixer.window * length - mixer.window**2
    return length * length


def pair_flops(mixer: Attention | LatentAttention, *, absorbed: bool = False) -> int:
    """FLOPs of a query and a key in all heads: the score, and the value it weighs."""
    if isinstance(mixer, LatentAttention) and absorbed:
        return 2 * mixer.heads * (2 * mixer.kv_rank + mixer.rope_dim)
    if isinstance(mixer, LatentAttention):
        return 2 * mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)
    return 4 * mixer.heads * mixer.head_dim


# ------------------------------------------------------------------------------------------------ decoding


def decode_flops_per_token(b: Blueprint, *, cached: int, absorbed: bool = True) -> int:
    """FLOPs of one decoding step for one sequence that attends to `cached` tokens, itself included.

    Latent attention is `absorbed` or expanded; its matrices cost the same in both. Of an encoder-decoder, the
    decoder's: the source, as long, has been read and its keys and values are there.
    """
    flops = 2 * b.vocab * b.width
    for layer in decoder_of(b).layers:
        matrices = layer_weights(layer, b).matrices
        if layer.cross is not None:
            matrices -= 2 * b.width * layer.cross.kv_heads * layer.cross.head_dim
            flops += layer.times * pair_flops(layer.cross) * cached
        flops += layer.times * 2 * matrices
        if isinstance(layer.mixer, Attention | LatentAttention):
            flops += layer.times * pair_flops(layer.mixer, absorbed=absorbed) * held_tokens(layer.mixer, cached)
    return flops


def held_tokens(mixer: Attention | LatentAttention, cached: int) -> int:
    """Of `cached` tokens, those whose keys and values a layer needs at most."""
    return min(cached, mixer.window or cached, mixer.chunk or cached)


def decoder_of(b: Blueprint) -> Stack:
    return next(stack for stack in b.stacks if stack.kind == "decoder")
