"""Parameters, FLOPs and bytes of an architecture: arithmetic alone, no torch.

Conventions, printed beside every figure that uses them:

- A multiply-add is 2 FLOPs; backward is twice forward. Matrix products count (projections, router, experts, attention,
  output head); table look-ups, norms, activations and the optimizer do not.
- `model_flops` counts causal attention as half of the square. The tests hold these formulas, with the full square put
  back in, equal to torch's own counter on the built model.
- Active parameters are all parameters minus the experts a token does not use. The router is active. Tied tables count
  once.
"""

from __future__ import annotations

from moebench.counting.counts import Costs, ParameterCount
from moebench.jobs.recipe import Recipe
from moebench.models.architecture import Architecture, Kernels
from moebench.suite import routers
from moebench.suite.activations import input_matrices
from moebench.suite.model import DenseFFN, MoEFFN

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
QUERIES = 64
"""Of a block of fused attention; 32 and 128 were slower at contexts 256 and 1024."""
KEPT_BYTES = 2**25
"""Of a layer's probabilities kept for the backward, the most that pays its memory."""


def ffn_hidden(architecture: Architecture) -> int:
    """Hidden width of the dense FFN, or of one expert. Raises ValueError while a match still has to solve it."""
    ffn = architecture.ffn
    return _solved(ffn.expert_hidden if isinstance(ffn, MoEFFN) else ffn.hidden)


def _solved(hidden: int | None) -> int:
    if hidden is None:
        raise ValueError("the FFN's hidden width is not known before its match is solved")
    return hidden


def _attention_weights(a: Architecture) -> int:
    """Query, key, value and output projections of one layer."""
    return a.width * a.head_dim * (2 * a.heads + 2 * a.kv_heads)


def _norm_weights(a: Architecture) -> int:
    """The two norms of one layer, and those of its queries and keys."""
    qk = {None: 0, "full": a.heads + a.kv_heads, "per_head": 2}[a.qk_norm]
    return 2 * a.width + qk * a.head_dim


def _network_weights(width: int, hidden: int | None, activation: str) -> int:
    """Matrices of one feed-forward network: gate, up and down when gated, else in and out."""
    return (input_matrices(activation) + 1) * width * _solved(hidden)


def _expert_weights(a: Architecture, ffn: MoEFFN) -> int:
    """Matrices of one routed expert."""
    return _network_weights(a.width, ffn.expert_hidden, ffn.activation)


def _expert_biases(a: Architecture, ffn: MoEFFN) -> int:
    return input_matrices(ffn.activation) * _solved(ffn.expert_hidden) + a.width if ffn.bias else 0


def _always_weights(a: Architecture, ffn: DenseFFN | MoEFFN) -> int:
    """Matrices of one layer's FFN that every token meets, router apart: a dense FFN, or shared expert and its gate."""
    if isinstance(ffn, DenseFFN):
        return _network_weights(a.width, ffn.hidden, ffn.activation)
    if ffn.shared_hidden is None:
        return 0
    return _network_weights(a.width, ffn.shared_hidden, ffn.activation) + (a.width if ffn.shared_gate else 0)


def _mixtures(a: Architecture) -> list[MoEFFN]:
    return [ffn for ffn in a.ffns if isinstance(ffn, MoEFFN)]


def _router_weights(a: Architecture, ffn: MoEFFN) -> int:
    """Weights of one layer's router: ours by formula, an installed package's as built when it was planned."""
    return routers.parameters(ffn, width=a.width) if a.plugin is None else a.plugin.parameters


def _multiply_adds(a: Architecture, ffn: MoEFFN, *, training: bool) -> int:
    """Multiply-adds of routing one token in one layer."""
    if a.plugin is None:
        return routers.multiply_adds(ffn, width=a.width, training=training)
    return a.plugin.training_multiply_adds if training else a.plugin.multiply_adds


def parameters(a: Architecture) -> ParameterCount:
    """Weights of the architecture: total and active, with and without the embedding and head tables."""
    common = a.layers * (_attention_weights(a) + _norm_weights(a)) + a.width
    total = active = common + sum(_always_weights(a, ffn) for ffn in a.ffns)
    for ffn in _mixtures(a):
        router = _router_weights(a, ffn)
        expert = _expert_weights(a, ffn) + _expert_biases(a, ffn)
        total += router + ffn.experts * expert
        active += router + ffn.top_k * expert
    tables = a.vocab * a.width * (1 if a.tied_embeddings else 2)
    return ParameterCount(
        total=total + tables, active=active + tables, total_no_embedding=total, active_no_embedding=active
    )


def routed_pairs_per_token(a: Architecture) -> int:
    """(token, expert) pairs of one token over all layers when nothing is dropped; the most, where routers may drop."""
    return sum(ffn.top_k for ffn in _mixtures(a))


def linear_flops(a: Architecture, *, tokens: int, routed_pairs: int | None = None, training: bool = True) -> int:
    """Forward FLOPs of every matrix product but attention's, output head included.

    `routed_pairs` is the (token, expert) pairs really computed, summed over layers; tokens x top_k x mixtures when
    absent, a bound where routers drop or choose how many. `training` counts what routers compute in training alone.
    """
    mixtures = _mixtures(a)
    pairs = tokens * routed_pairs_per_token(a) if routed_pairs is None else routed_pairs
    routing = sum(_multiply_adds(a, ffn, training=training) for ffn in mixtures)
    always = sum(_always_weights(a, ffn) for ffn in a.ffns)
    per_token = a.layers * _attention_weights(a) + routing + always + a.vocab * a.width
    per_pair = _expert_weights(a, mixtures[0]) if mixtures else 0
    return 2 * (tokens * per_token + pairs * per_pair)


def attention_square_flops(a: Architecture, *, sequences: int, length: int) -> int:
    """Forward FLOPs of attention's two products over the full square of queries and keys."""
    return 4 * a.layers * sequences * length * length * a.heads * a.head_dim


def forward_flops(
    a: Architecture, *, sequences: int, length: int, routed_pairs: int | None = None, training: bool = True
) -> int:
    """Model FLOPs of a forward pass over sequences of `length` tokens; causal attention is half its square."""
    linear = linear_flops(a, tokens=sequences * length, routed_pairs=routed_pairs, training=training)
    return linear + attention_square_flops(a, sequences=sequences, length=length) // 2


def train_step_flops(a: Architecture, *, sequences: int, length: int, routed_pairs: int | None = None) -> int:
    """Model FLOPs of forward and backward."""
    forward = forward_flops(a, sequences=sequences, length=length, routed_pairs=routed_pairs)
    return 3 * forward - _frozen_flops(a, tokens=sequences * length)


def _frozen_flops(a: Architecture, *, tokens: int) -> int:
    """FLOPs that a backward saves because routers that are not trained need no gradient of their weights."""
    if a.learns_routing:
        return 0
    return 2 * tokens * sum(_multiply_adds(a, ffn, training=True) for ffn in _mixtures(a))


def _frozen_weights(a: Architecture) -> int:
    """Weights of routers that are not trained: stored and counted, without gradients."""
    if a.plugin is not None:
        return len(_mixtures(a)) * a.plugin.frozen_parameters
    return 0 if a.learns_routing else sum(_router_weights(a, ffn) for ffn in _mixtures(a))


def counted_step_flops(a: Architecture, *, sequences: int, length: int, routed_pairs: int | None = None) -> int:
    """What torch's counter must report for forward and backward of the loop experts with the math attention."""
    linear = linear_flops(a, tokens=sequences * length, routed_pairs=routed_pairs)
    square = attention_square_flops(a, sequences=sequences, length=length)
    return 3 * (linear + square) - _frozen_flops(a, tokens=sequences * length)


def executed_step_flops(
    a: Architecture,
    *,
    sequences: int,
    length: int,
    routed_pairs: int | None = None,
    padded_pairs: int = 0,
    kernels: Kernels = "composed",
) -> int:
    """FLOPs of forward and backward as the kernels run them.

    Flash attention computes the scores once more in its backward (Dao 2022, arXiv:2205.14135): half a forward
    attention. Fused attention computes what its blocks of queries hold beyond the causal half.
    `padded_pairs` are rows an expert kernel computes and throws away.
    """
    square = attention_square_flops(a, sequences=sequences, length=length)
    if fuses_attention(a, sequences=sequences, length=length, kernels=kernels):
        computed = 4 * a.layers * sequences * scores_in_blocks(length) * a.heads * a.head_dim
        recomputed = 3 * (computed - square // 2)
    else:
        recomputed = square // 4
    mixtures = _mixtures(a)
    padding = 3 * 2 * padded_pairs * _expert_weights(a, mixtures[0]) if mixtures else 0
    return train_step_flops(a, sequences=sequences, length=length, routed_pairs=routed_pairs) + recomputed + padding


def scores_in_blocks(length: int) -> int:
    """Of one head and sequence: each block of queries against all keys up to its last query."""
    stops = [*range(QUERIES, length, QUERIES), length]
    return sum((stop - start) * stop for start, stop in zip([0, *stops], stops, strict=False))


def fuses_attention(a: Architecture, *, sequences: int, length: int, kernels: Kernels) -> bool:
    """Whether a training step's attention keeps its probabilities and goes block by block, or is torch's own.

    Up to 32 MiB of probabilities a layer; queries and keys that are normalised take torch's.
    """
    kept_bytes = 4 * sequences * a.heads * scores_in_blocks(length)
    return kernels == "fused" and a.qk_norm is None and kept_bytes <= KEPT_BYTES


def train_flops_per_token(a: Architecture) -> float:
    """Model FLOPs per trained token at the architecture's context."""
    return train_step_flops(a, sequences=1, length=a.context) / a.context


def decode_flops_per_token(a: Architecture, *, cached: int) -> int:
    """Model FLOPs of one decoding step for one sequence that attends to `cached` tokens, itself included."""
    return linear_flops(a, tokens=1, training=False) + 4 * a.layers * cached * a.heads * a.head_dim


def kv_bytes_per_token(a: Architecture, *, dtype: str) -> int:
    """Bytes one token adds to the key and value cache."""
    return 2 * a.layers * a.kv_heads * a.head_dim * DTYPE_BYTES[dtype]


def experts_touched(a: Architecture, *, tokens: int) -> float:
    """Experts of one layer that `tokens` tokens are expected to use under uniform routing: E (1 - (1 - k/E)^tokens)."""
    if not isinstance(a.ffn, MoEFFN):
        return 1.0
    return a.ffn.experts * (1 - (1 - a.ffn.top_k / a.ffn.experts) ** tokens)


def decode_bytes(
    a: Architecture,
    *,
    batch: int,
    cached: int,
    dtype: str,
    cache_dtype: str | None = None,
    touched: float | None = None,
) -> float:
    """Bytes of weights and cache that one decoding step must read; the cache in its own dtype where that differs.

    `touched` is the experts used in one layer, measured; the expectation under uniform routing when absent.
    """
    experts = experts_touched(a, tokens=batch) if touched is None else touched
    always = sum(_always_weights(a, ffn) for ffn in a.ffns)
    weights: float = a.layers * _attention_weights(a) + always + a.vocab * a.width
    for ffn in _mixtures(a):
        weights += _multiply_adds(a, ffn, training=False)
        weights += experts * (_expert_weights(a, ffn) + _expert_biases(a, ffn))
    cache = batch * cached * kv_bytes_per_token(a, dtype=cache_dtype or dtype)
    return weights * DTYPE_BYTES[dtype] + cache


def costs(a: Architecture, recipe: Recipe) -> Costs:
    """Everything `plan`, `inspect` and the report print about an architecture.

    Weights are counted as served, in the recipe's dtype; training keeps float32 weights, and gradients and two AdamW
    moments of those that are trained.
    """
    count = parameters(a)
    return Costs(
        params=count,
        train_flops_per_token=train_flops_per_token(a),
        decode_flops_per_token=decode_flops_per_token(a, cached=a.context),
        weight_bytes=count.total * DTYPE_BYTES[recipe.dtype],
        kv_bytes_per_token=kv_bytes_per_token(a, dtype=recipe.dtype),
        train_state_bytes=4 * count.total + 12 * (count.total - _frozen_weights(a)),
    )
