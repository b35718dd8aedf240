"""What a published model is made of, in the sizes that decide its counts: frozen types, no torch, no formula.

Richer than the `Architecture` that moebench builds: encoders and decoders, latent attention, biases, shared experts,
recurrent layers. Layers of one stack that are alike stand together, `times` of them, because no count depends on their
order.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moebench.frozen import Frozen

Size = Annotated[int, Field(strict=True, ge=1, le=2**31)]
Number = Annotated[int, Field(strict=True, ge=0, le=2**31)]

NormKind = Literal["rms", "layer", "layer_no_bias", "none"]
"""rms and layer_no_bias have one weight a channel, layer a bias too, none has no weights (OLMo)."""


class Attention(Frozen):
    """Multi-head or grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245)."""

    kind: Literal["attention"] = "attention"
    heads: Size
    kv_heads: Size
    head_dim: Size
    """Of queries, keys and values; need not be width / heads."""
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: Literal["none", "per_head", "full"] = "none"
    """RMSNorm of queries and keys: over one head, its weights shared by all heads, or over all heads at once."""
    sinks: bool = False
    """One learned logit a head that takes attention from the tokens (gpt-oss)."""
    window: Size | None = None
    """Keys a query sees, itself included; None for all before it."""
    chunk: Size | None = None
    """Tokens of a chunk, beyond whose start no query sees (Llama 4); None for no chunks."""
    position_buckets: Number = 0
    """Relative position biases held by this layer, one a bucket and head (T5)."""


class LatentAttention(Frozen):
    """Multi-head latent attention: queries and keys-values through narrow latents (DeepSeek-V2, arXiv:2405.04434)."""

    kind: Literal["latent"] = "latent"
    heads: Size
    nope_dim: Number
    """Of a head's query and key, the part without positions."""
    rope_dim: Size
    """The part with rotary positions; its key is shared by all heads."""
    value_dim: Size
    kv_rank: Size
    """Width of the cached latent, normed before it is expanded."""
    q_rank: Size | None = None
    """Width of the queries' latent, normed before it is expanded; None for a plain projection."""
    bias: bool = False
    """Of the projections down to the latents and of the output."""
    output_bias: bool = False
    window: None = None
    chunk: None = None


class Lstm(Frozen):
    """An LSTM layer with as many units as the model is wide, without biases (Shazeer et al. 2017, arXiv:1701.06538)."""

    kind: Literal["lstm"] = "lstm"


Mixer = Annotated[Attention | LatentAttention | Lstm, Field(discriminator="kind")]


class Dense(Frozen):
    """A feed-forward network: gated (three matrices) or not (two)."""

    kind: Literal["dense"] = "dense"
    hidden: Number
    """0 for a network that is not there, as some configurations write it."""
    gated: bool = True
    bias: bool = False


class BuiltRouter(Frozen):
    """Counts of one layer's router that is no matrix of rows as wide as the model, as it was built."""

    parameters: Number
    untrained_parameters: Number = 0
    """Those of them that are not trained."""
    multiply_adds: Number
    """Of routing one token in an evaluation."""
    training_multiply_adds: Number


class Experts(Frozen):
    """A mixture of feed-forward networks."""

    kind: Literal["experts"] = "experts"
    experts: Size
    top_k: Size
    hidden: Size
    """Of one expert."""
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    router_rows: Number | None = None
    """Rows of the router's matrix; as many as experts when None, more with two levels (Shazeer et al. 2017)."""
    noise_rows: Number = 0
    """Rows of a second matrix, for noise, which is used in training alone (Shazeer et al. 2017)."""
    idle_rows: Number = 0
    """Of both, the rows of groups that a token was not sent to."""
    router: BuiltRouter | None = None
    """Counts of a router as built, instead of its rows and biases."""
    router_learned: bool = True
    """Whether any of its weights is trained."""
    selection_bias: bool = False
    """One number an expert, moved by load and by no gradient (DeepSeek-V3): a buffer, not a parameter."""
    shared: Dense | None = None
    """The always-on network: n shared experts of width f are one of n * f, exactly."""
    shared_gate: bool = False
    """Whether a sigmoid of one dot product scales the shared network (Qwen)."""

    @model_validator(mode="after")
    def _possible(self) -> Experts:
        if self.top_k > self.experts:
            raise ValueError(f"top-{self.top_k} is more than the {self.experts} experts there are")
        return self


FeedForward = Annotated[Dense | Experts, Field(discriminator="kind")]


class Layer(Frozen):
    """Layers that are alike: what mixes tokens, what follows it, and their norms."""

    times: Size = 1
    """How many of them the stack has."""
    mixer: Mixer | None = None
    cross: Attention | None = None
    """Attention to the encoder's output."""
    ffn: FeedForward | None = None
    norms: Number = 2
    """Norms as wide as the model: before, after or both."""


class Stack(Frozen):
    """An encoder or a decoder."""

    kind: Literal["encoder", "decoder"] = "decoder"
    """A decoder's attention is causal, and its tokens go through the output head."""
    layers: tuple[Layer, ...] = Field(min_length=1)
    final_norm: bool = True


class Blueprint(Frozen):
    """A whole model."""

    width: Size
    """Of the residual stream."""
    vocab: Number
    """Rows of the output head; 0 for a model counted without tables."""
    source_vocab: Size | None = None
    """Rows of an encoder's own input table; None when encoder and decoder share one."""
    tied: bool = False
    """Whether the output head is the input table."""
    head_bias: bool = False
    norm: NormKind = "rms"
    context: Size | None = None
    """Longest sequence in tokens; None where the source names none."""
    stacks: tuple[Stack, ...] = Field(min_length=1, max_length=2)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of all stacks."""
        return tuple(layer for stack in self.stacks for layer in stack.layers)

    @property
    def mixtures(self) -> tuple[tuple[int, Experts], ...]:
        """(how often, experts) of the layers that are mixtures."""
        return tuple((layer.times, layer.ffn) for layer in self.layers if isinstance(layer.ffn, Experts))

    @property
    def depth(self) -> int:
        return sum(layer.times for layer in self.layers)
