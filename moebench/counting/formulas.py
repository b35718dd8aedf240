"""Parameters, FLOPs and bytes of a `Blueprint`: arithmetic alone.

The conventions are those of `costs`, whose figures for moebench's own models these equal by test: 2 FLOPs a
multiply-add, causal attention as half of its square, router and output head in, look-ups, norms, activations and biases
out; backward is twice forward. Parameters are what transformers' class of the model holds as parameters; active ones
are all but the experts a token skips.

Two things have no counterpart in `costs`. A token of an encoder-decoder is one source token and one target token, each
at the given context. Latent attention reads a sequence as the heads it expands to. When decoding it has two forms, and
FLOPs and cache are always of the same one: absorbed (DeepSeek-V2, arXiv:2405.04434, section 2.1.2), where every head
attends to the cached latent and the one rotary key, or expanded, where the cache holds keys and values of all heads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, LatentAttention, Layer, Lstm, Mixer, Stack
from moebench.counting.counts import ParameterCount

BITS = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}
"""Of one weight; float16 is as bfloat16, float8 as int8. What quantisation adds in scales is not counted."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Parameters of one part."""

    matrices: int = 0
    """In matrices that every token is multiplied with."""
    noise: int = 0
    """In those it is multiplied with in training alone."""
    vectors: int = 0
    """In norms, biases, sinks and position biases."""
    idle: int = 0
    """In experts, and routers of groups, that a token does not use."""
    idle_vectors: int = 0
    """Their biases."""

    def __add__(self, other: Weights) -> Weights:
        return Weights(**{part: getattr(self, part) + getattr(other, part) for part in PARTS})

    def __mul__(self, times: int) -> Weights:
        return Weights(**{part: times * getattr(self, part) for part in PARTS})

    @property
    def active(self) -> int:
        return self.matrices + self.noise + self.vectors

    @property
    def total(self) -> int:
        return self.active + self.idle + self.idle_vectors


PARTS = tuple(part.name for part in fields(Weights))


# ------------------------------------------------------------------------------------------------ parameters


def mixer_weights(mixer: Mixer | None, width: int) -> Weights:
    """Weights of what mixes tokens in one layer."""
    if mixer is None:
        return Weights()
    if isinstance(mixer, Lstm):  # four gates, each from the input and from the state
        return Weights(matrices=8 * width * width)
    if isinstance(mixer, LatentAttention):
        return _latent_weights(mixer, width)
    queries, keys = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
    norms = {"none": 0, "per_head": 2 * mixer.head_dim, "full": queries + keys}[mixer.qk_norm]
    biases = mixer.qkv_bias * (queries + 2 * keys) + mixer.output_bias * width
    return Weights(
        matrices=2 * width * (queries + keys),
        vectors=norms + biases + mixer.heads * (mixer.sinks + mixer.position_buckets),
    )


def _latent_weights(mixer: LatentAttention, width: int) -> Weights:
    head = mixer.nope_dim + mixer.rope_dim
    down = mixer.kv_rank + mixer.rope_dim
    matrices = width * down + mixer.kv_rank * mixer.heads * (mixer.nope_dim + mixer.value_dim)
    matrices += mixer.heads * mixer.value_dim * width
    vectors = mixer.kv_rank + mixer.bias * down + mixer.output_bias * width
    if mixer.q_rank is None:
        return Weights(matrices=matrices + width * mixer.heads * head, vectors=vectors)
    matrices += width * mixer.q_rank + mixer.q_rank * mixer.heads * head
    return Weights(matrices=matrices, vectors=vectors + mixer.q_rank * (1 + mixer.bias))


def dense_weights(ffn: Dense | Experts, width: int) -> Weights:
    """Weights of a dense network, or of one expert."""
    inner = 1 + ffn.gated
    biases = inner * ffn.hidden + width if ffn.bias else 0
    return Weights(matrices=(inner + 1) * width * ffn.hidden, vectors=biases)


def ffn_weights(ffn: Dense | Experts | None, width: int) -> Weights:
    """Weights of a layer's feed-forward network, router and shared network included."""
    if ffn is None:
        return Weights()
    if isinstance(ffn, Dense):
        return dense_weights(ffn, width)
    one, idle = dense_weights(ffn, width), ffn.experts - ffn.top_k
    found = one * ffn.top_k + _router_weights(ffn, width)
    found += Weights(idle=idle * one.matrices, idle_vectors=idle * one.vectors)
    if ffn.shared is not None:
        found += dense_weights(ffn.shared, width)
    return found + Weights(matrices=width * ffn.shared_gate)


def router_rows(ffn: Experts) -> int:
    """Rows of the router's matrix, without those of its noise."""
    return ffn.experts if ffn.router_rows is None else ffn.router_rows


def _router_weights(ffn: Experts, width: int) -> Weights:
    if ffn.router_weights is not None:
        return Weights(matrices=ffn.router_weights)
    rows = router_rows(ffn)
    idle = ffn.idle_rows * rows // (rows + ffn.noise_rows) if ffn.idle_rows else 0
    idle_noise = ffn.idle_rows - idle
    return Weights(
        matrices=width * (rows - idle),
        noise=width * (ffn.noise_rows - idle_noise),
        idle=width * ffn.idle_rows,
        vectors=ffn.router_bias * ffn.experts,
    )


def layer_weights(layer: Layer, b: Blueprint) -> Weights:
    """Weights of one such layer."""
    found = mixer_weights(layer.mixer, b.width) + mixer_weights(layer.cross, b.width)
    return found + ffn_weights(layer.ffn, b.width) + Weights(vectors=layer.norms * _norm_weights(b))


def _norm_weights(b: Blueprint) -> int:
    return {"rms": b.width, "layer": 2 * b.width, "layer_no_bias": b.width, "none": 0}[b.norm]


def body_weights(b: Blueprint) -> Weights:
    """Everything but the tables."""
    found = Weights(vectors=sum(stack.final_norm for stack in b.stacks) * _norm_weights(b))
    for layer in b.layers:
        found += layer_weights(layer, b) * layer.times
    return found


def input_tables(b: Blueprint) -> int:
    """Parameters of the input tables."""
    return (b.vocab + (b.source_vocab or 0)) * b.width


def table_weights(b: Blueprint) -> int:
    """Parameters of input tables and output head; a tied head is its table."""
    head = 0 if b.tied else b.vocab * b.width
    return input_tables(b) + head + b.head_bias * b.vocab


def parameters(b: Blueprint) -> ParameterCount:
    """Total and active, with and without the tables."""
    body, tables = body_weights(b), table_weights(b)
    return ParameterCount(
        total=body.total + tables,
        active=body.active + tables,
        total_no_embedding=body.total,
        active_no_embedding=body.active,
    )


def active_without_input_tables(b: Blueprint) -> int:
    """Active parameters as some publishers count (gpt-oss, DeepSeek): a look-up reads one row of an input table, so it
    does not count; the output head does, and a tied table is one."""
    idle_tables = input_tables(b) - (b.vocab * b.width if b.tied else 0)
    return parameters(b).active - idle_tables


def parameters_per_expert(b: Blueprint) -> tuple[int, ...]:
    """Parameters of one expert, for each size of expert there is."""
    sizes = {dense_weights(layer.ffn, b.width).total for layer in b.moe_layers if isinstance(layer.ffn, Experts)}
    return tuple(sorted(sizes))


def selection_biases(b: Blueprint) -> int:
    """Numbers that balance routers without a gradient: stored with the weights, in no count of parameters."""
    return sum(
        layer.times * layer.ffn.experts
        for layer in b.moe_layers
        if isinstance(layer.ffn, Experts) and layer.ffn.selection_bias
    )


# ------------------------------------------------------------------------------------------------ FLOPs


def seen_keys(mixer: Attention | LatentAttention, *, context: int, causal: bool) -> float:
    """Keys a query meets, on average over a sequence of `context` tokens; half of them where attention is causal."""
    if not causal:
        return context
    if mixer.chunk is not None and mixer.chunk < context:
        whole, rest = divmod(context, mixer.chunk)
        return (whole * mixer.chunk**2 + rest**2) / (2 * context)
    if mixer.window is not None and mixer.window < context:
        return mixer.window - mixer.window**2 / (2 * context)
    return context / 2


def _pair_flops(mixer: Attention | LatentAttention, *, absorbed: bool = False) -> int:
    """FLOPs of a query and a key in all heads: the score, and the value it weighs."""
    if isinstance(mixer, LatentAttention) and absorbed:
        return 2 * mixer.heads * (2 * mixer.kv_rank + mixer.rope_dim)
    if isinstance(mixer, LatentAttention):
        return 2 * mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)
    return 4 * mixer.heads * mixer.head_dim


def forward_flops_per_token(b: Blueprint, *, context: int, training: bool = False) -> float:
    """Model FLOPs of a forward pass over `context` tokens, per token; `training` adds the routers' noise."""
    body = body_weights(b)
    flops = 2.0 * (body.matrices + training * body.noise + b.vocab * b.width)
    for stack in b.stacks:
        for layer in stack.layers:
            if isinstance(layer.mixer, Attention | LatentAttention):
                keys = seen_keys(layer.mixer, context=context, causal=stack.kind == "decoder")
                flops += layer.times * _pair_flops(layer.mixer) * keys
            if layer.cross is not None:
                flops += layer.times * _pair_flops(layer.cross) * context
    return flops


def train_flops_per_token(b: Blueprint, *, context: int) -> float:
    """Forward, and backward at twice that; a router that is not trained has no gradient of its weights."""
    frozen = sum(
        layer.times * (weights := _router_weights(layer.ffn, b.width)).matrices + layer.times * weights.noise
        for layer in b.moe_layers
        if isinstance(layer.ffn, Experts) and not layer.ffn.router_learned
    )
    return 3 * forward_flops_per_token(b, context=context, training=True) - 2 * frozen


def decode_flops_per_token(b: Blueprint, *, cached: int, absorbed: bool = True) -> int:
    """Model FLOPs of one decoding step for one sequence that attends to `cached` tokens, itself included.

    Latent attention is `absorbed` or expanded; its matrices cost the same in both. Of an encoder-decoder, the
    decoder's: the source, as long, has been read and its keys and values are there.
    """
    flops = 2 * b.vocab * b.width
    for layer in _decoder(b).layers:
        matrices = layer_weights(layer, b).matrices
        if layer.cross is not None:
            matrices -= 2 * b.width * layer.cross.kv_heads * layer.cross.head_dim
            flops += layer.times * _pair_flops(layer.cross) * cached
        flops += layer.times * 2 * matrices
        if isinstance(layer.mixer, Attention | LatentAttention):
            flops += layer.times * _pair_flops(layer.mixer, absorbed=absorbed) * _held(layer.mixer, cached)
    return flops


def _held(mixer: Attention | LatentAttention, cached: int) -> int:
    """Of `cached` tokens, those whose keys and values a layer needs at most."""
    return min(cached, mixer.window or cached, mixer.chunk or cached)


def _decoder(b: Blueprint) -> Stack:
    return next(stack for stack in b.stacks if stack.kind == "decoder")


# ------------------------------------------------------------------------------------------------ bytes


def weight_bytes(b: Blueprint) -> dict[str, int]:
    """Bytes of all weights, by the type they are stored in."""
    total = parameters(b).total
    return {name: -(-total * bits // 8) for name, bits in BITS.items()}


def _cached_numbers(mixer: Mixer | None, *, absorbed: bool = True) -> int:
    if isinstance(mixer, LatentAttention) and absorbed:
        return mixer.kv_rank + mixer.rope_dim
    if isinstance(mixer, LatentAttention):
        return mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)
    return 2 * mixer.kv_heads * mixer.head_dim if isinstance(mixer, Attention) else 0


def kv_bytes_per_token(b: Blueprint, *, bits: int = 16, absorbed: bool = True) -> int:
    """Bytes a token adds to the cache of keys and values, before any window is full; an LSTM's state does not grow."""
    numbers = (layer.times * _cached_numbers(layer.mixer, absorbed=absorbed) for layer in _decoder(b).layers)
    return sum(numbers) * bits // 8


def kv_bytes(b: Blueprint, *, context: int, bits: int = 16) -> int:
    """Bytes of the cache of one sequence of `context` tokens: windows hold no more than themselves, and
    cross-attention holds a source as long."""
    numbers = 0
    for layer in _decoder(b).layers:
        if isinstance(layer.mixer, Attention | LatentAttention):
            numbers += layer.times * _cached_numbers(layer.mixer) * _held(layer.mixer, context)
        numbers += layer.times * _cached_numbers(layer.cross) * context
    return numbers * bits // 8


# ------------------------------------------------------------------------------------------------ experts


def experts_touched(b: Blueprint, *, tokens: int) -> float | None:
    """Experts of one layer that `tokens` tokens are expected to use under uniform routing, E (1 - (1 - k/E)^tokens),
    mean over MoE layers; None for a model without experts."""
    layers = [(layer.times, layer.ffn) for layer in b.moe_layers if isinstance(layer.ffn, Experts)]
    if not layers:
        return None
    used = sum(times * ffn.experts * (1 - (1 - ffn.top_k / ffn.experts) ** tokens) for times, ffn in layers)
    return used / sum(times for times, _ in layers)


def saving(b: Blueprint) -> float:
    """Share of the weights outside the tables that a token skips: what it saves against a dense model as large."""
    count = parameters(b)
    return 1 - count.active_no_embedding / count.total_no_embedding if count.total_no_embedding else 0.0
