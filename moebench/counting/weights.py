"""Parameters of a `Blueprint`, told apart by what a token does with them."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from moebench.counting.blueprint import Blueprint, Dense, Experts, LatentAttention, Layer, Lstm, Mixer
from moebench.frozen import Frozen


class ParameterCount(Frozen):
    """Weights of a model. Tied tables count once; the router counts as active."""

    total: int
    active: int
    total_no_embedding: int
    active_no_embedding: int

    @property
    def metrics(self) -> dict[str, float]:
        """Counted metric -> its value."""
        return {
            "cost.total_params": self.total,
            "cost.active_params": self.active,
            "cost.total_params_no_embedding": self.total_no_embedding,
            "cost.active_params_no_embedding": self.active_no_embedding,
        }


class Weights(NamedTuple):
    """Parameters of one part."""

    matrices: int = 0
    """In matrices that every token is multiplied with."""
    noise: int = 0
    """In those it is multiplied with in training alone."""
    vectors: int = 0
    """In norms, biases, sinks and position biases; of a router as built, all that are in no product, less than 0 where
    a weight is in several."""
    idle: int = 0
    """In experts, and routers of groups, that a token does not use."""
    idle_vectors: int = 0
    """Their biases."""

    @property
    def active(self) -> int:
        return self.matrices + self.noise + self.vectors

    @property
    def total(self) -> int:
        return sum(self)


def added(*parts: Weights) -> Weights:
    return Weights(*map(sum, zip(*parts, strict=True)))


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


def router_weights(ffn: Experts, width: int) -> Weights:
    """Weights of one layer's router."""
    if (built := ffn.router) is not None:
        training = built.training_multiply_adds
        noise = training - built.multiply_adds
        return Weights(matrices=built.multiply_adds, noise=noise, vectors=built.parameters - training)
    rows = ffn.experts if ffn.router_rows is None else ffn.router_rows
    idle = ffn.idle_rows * rows // (rows + ffn.noise_rows) if ffn.idle_rows else 0
    return Weights(
        matrices=width * (rows - idle),
        noise=width * (ffn.noise_rows - (ffn.idle_rows - idle)),
        idle=width * ffn.idle_rows,
        vectors=ffn.router_bias * ffn.experts,
    )


def ffn_weights(ffn: Dense | Experts | None, width: int) -> Weights:
    """Weights of a layer's feed-forward network, router and shared network included."""
    if ffn is None:
        return Weights()
    if isinstance(ffn, Dense):
        return dense_weights(ffn, width)
    expert, idle = dense_weights(ffn, width), ffn.experts - ffn.top_k
    used = Weights(
        matrices=ffn.top_k * expert.matrices + width * ffn.shared_gate,
        vectors=ffn.top_k * expert.vectors,
        idle=idle * expert.matrices,
        idle_vectors=idle * expert.vectors,
    )
    return added(used, router_weights(ffn, width), ffn_weights(ffn.shared, width))


def layer_weights(layer: Layer, b: Blueprint) -> Weights:
    """Weights of one such layer."""
    norms = Weights(vectors=layer.norms * _norm_weights(b))
    return added(
        mixer_weights(layer.mixer, b.width), mixer_weights(layer.cross, b.width), ffn_weights(layer.ffn, b.width), norms
    )


def _norm_weights(b: Blueprint) -> int:
    return {"rms": b.width, "layer": 2 * b.width, "layer_no_bias": b.width, "none": 0}[b.norm]


@lru_cache(maxsize=256)
def body_weights(b: Blueprint) -> Weights:
    """Everything but the tables."""
    layers = (Weights(*(layer.times * part for part in layer_weights(layer, b))) for layer in b.layers)
    return added(Weights(vectors=sum(stack.final_norm for stack in b.stacks) * _norm_weights(b)), *layers)


def input_tables(b: Blueprint) -> int:
    """Parameters of the input tables."""
    return (b.vocab + (b.source_vocab or 0)) * b.width


def parameters(b: Blueprint) -> ParameterCount:
    """Total and active, with and without the tables; a tied head is its table."""
    body, tables = body_weights(b), input_tables(b) + b.head_bias * b.vocab
    tables += 0 if b.tied else b.vocab * b.width
    return ParameterCount(
        total=body.total + tables,
        active=body.active + tables,
        total_no_embedding=body.total,
        active_no_embedding=body.active,
    )


def untrained_parameters(b: Blueprint) -> int:
    """Weights of routers that are not trained: stored and counted, without gradients."""
    return sum(
        times * (router_weights(ffn, b.width).total if ffn.router is None else ffn.router.untrained_parameters)
        for times, ffn in b.mixtures
        if ffn.router is not None or not ffn.router_learned
    )


def hidden_matrices(b: Blueprint) -> int:
    """Weights in the matrices of attention and of feed-forward networks, those of all experts: what Muon is for."""

    def networks(ffn: Dense | Experts | None) -> int:
        if ffn is None:
            return 0
        each = dense_weights(ffn, b.width).matrices
        return each if isinstance(ffn, Dense) else ffn.experts * each + networks(ffn.shared)

    mixers = (mixer for layer in b.layers for mixer in [layer.mixer, layer.cross] * layer.times)
    attention = sum(mixer_weights(mixer, b.width).matrices for mixer in mixers)
    return attention + sum(layer.times * networks(layer.ffn) for layer in b.layers)


def active_without_input_tables(b: Blueprint) -> int:
    """Active parameters as some publishers count (gpt-oss, DeepSeek): a look-up reads one row of an input table, so it
    does not count; the output head does, and a tied table is one."""
    return parameters(b).active - input_tables(b) + (b.vocab * b.width if b.tied else 0)


def parameters_per_expert(b: Blueprint) -> tuple[int, ...]:
    """Parameters of one expert, for each size of expert there is."""
    return tuple(sorted({dense_weights(ffn, b.width).total for _, ffn in b.mixtures}))


def selection_biases(b: Blueprint) -> int:
    """Numbers that balance routers without a gradient: stored with the weights, in no count of parameters."""
    return sum(times * ffn.experts for times, ffn in b.mixtures if ffn.selection_bias)


def saving(b: Blueprint) -> float:
    """Share of the weights outside the tables that a token skips: what it saves against a dense model as large."""
    count = parameters(b)
    return 1 - count.active_no_embedding / count.total_no_embedding if count.total_no_embedding else 0.0
