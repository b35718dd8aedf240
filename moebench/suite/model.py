"""A model as a suite says it: sizes, feed-forward network, what it is matched to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, create_model, model_validator

from moebench.amounts import Amount, FieldError, Name, Size
from moebench.data.sources.tokenizer import TokenizerSpec
from moebench.frozen import Frozen, later
from moebench.models.routers import FIELDS, ROUTERS
from moebench.models.transforms import TRANSFORMS, Stage
from moebench.suite.activations import Activation
from moebench.suite.adaptation import Adaptation, At
from moebench.suite.attention import AttentionOptions
from moebench.suite.mixture import problem
from moebench.suite.training import TrainSpec
from moebench.suite.view import WHOLE, TrainingView


class DenseFFN(Frozen):
    """One feed-forward network for every token, gated unless its activation says otherwise."""

    kind: Literal["dense"]
    """dense: one gated network for every token."""
    hidden: Size | None = None
    """Width of the hidden layer; may be left to `match`."""
    activation: Activation = later("swiglu")
    """Activation; the gated ones have three matrices, relu and gelu two."""


class _Mixture(Frozen):
    """Experts, each a feed-forward network, and a router that picks `top_k` of them for a token."""

    kind: Literal["moe"]
    """moe: several experts and a router."""
    experts: Annotated[int, Field(ge=1, le=1024)]
    """Experts in each layer."""
    top_k: Size
    """Experts that a token goes to; the most it may go to, where the router decides how many."""
    expert_hidden: Size | None = None
    """Width of one expert's hidden layer; may be left to `match`."""
    router: str = "softmax_topk"
    """A word of `moebench list routers`."""
    renormalise: bool = True
    """Whether the chosen experts' weights are scaled to add up to 1."""
    activation: Activation = later("swiglu")
    """Activation of experts and shared experts; the gated ones have three matrices, relu and gelu two."""
    bias: bool = later(False)
    """Whether experts, and routers that can, have biases (gpt-oss)."""
    shared_hidden: Size | None = later()
    """Width of the shared expert that every token uses; n shared experts of width f are one of width n x f."""
    shared_gate: bool = later(False)
    """Whether a sigmoid gate scales the shared expert (Qwen1.5-MoE)."""
    every: int | None = later(ge=2, le=256)
    """Layer i, counted from 1, is a mixture only when `every` divides i; every layer is when absent."""
    first_dense: int | None = later(ge=1, le=255)
    """Layers at the start that are dense."""
    dense_hidden: Size | None = later()
    """Width of the hidden layer of those layers that are dense."""
    dense_activation: Activation | None = later()
    """Their activation; that of the experts when absent."""

    @model_validator(mode="after")
    def _top_k(self) -> Any:
        if self.top_k > self.experts:
            raise FieldError("top_k", f"top_k {self.top_k} is more than the {self.experts} experts there are")
        mixed = self.every is not None or self.first_dense is not None
        for field in ("dense_hidden", "dense_activation"):
            if getattr(self, field) is not None and not mixed:
                raise FieldError(field, f"{field} has no layer to be used in: give `every` or `first_dense` too")
        wrong = problem(self, ROUTERS.get(self.router))  # type: ignore[arg-type]
        if wrong is not None:
            raise FieldError(*wrong)
        return self

    def is_mixture(self, layer: int) -> bool:
        """Whether layer `layer`, counted from 0, is a mixture; the others are dense."""
        return layer >= (self.first_dense or 0) and (layer + 1) % (self.every or 1) == 0

    @property
    def dense_layer(self) -> DenseFFN:
        """What the layers that are no mixture hold."""
        return DenseFFN(kind="dense", hidden=self.dense_hidden, activation=self.dense_activation or self.activation)


if TYPE_CHECKING:

    class MoEFFN(_Mixture):
        """A mixture with the options and the coefficients of losses that routers bring, beside its own fields."""

        def __getattr__(self, option: str) -> Any: ...

else:
    MoEFFN = create_model("MoEFFN", __base__=_Mixture, __module__=__name__, __doc__=_Mixture.__doc__, **FIELDS)


FFN = Annotated[DenseFFN | MoEFFN, Field(discriminator="kind")]
MatchOn = Literal["active_params", "total_params", "train_flops", "decode_flops", "weight_bytes"]


class Match(Frozen):
    """What must be equal to another model, and the one size that is changed to make it so."""

    to: Name
    """The model to be equal to."""
    on: MatchOn
    """What must be equal; the router's weights and FLOPs count as active."""
    by: Literal["ffn.hidden", "ffn.expert_hidden", "ffn.shared_hidden", "ffn.dense_hidden"] | None = None
    """The size to solve; the FFN's own width when absent."""
    tolerance: Amount = Amount(value=0.01, relative=True)
    """Largest residual accepted; beyond it the plan is refused."""
    step: Size | None = later()
    """Steps the size moves in; when absent 8 for experts, whose kernels need aligned rows, else 1."""


class ModelData(TrainingView):
    """What a model reads otherwise than the suite says: of the same text, in training or under another tokenizer."""

    tokenizer: TokenizerSpec | None = None
    """bytes, or {bpe: 4096}, {file: tokenizer.json}, {checkpoint: FOLDER}; the suite's when absent."""


class Start(Frozen):
    """Where initial values come from, when they are not drawn: a checkpoint's folder, or another model of the suite."""

    checkpoint: Annotated[str, Field(min_length=1, max_length=1000)] | None = later()
    """A folder with config.json and safetensors, relative to the suite file: of a family that our decoder computes."""
    model: Name | None = later()
    """A model of the suite: its run with the same seed. `start: moe` is short for it."""
    at: At | None = later()
    """An earlier point of that run, for a model that is trained on from there; its end when absent."""

    @model_validator(mode="after")
    def _is_one(self) -> Start:
        if (self.checkpoint is None) == (self.model is None):
            raise ValueError("start names a checkpoint's folder or a model of the suite")
        if self.at is not None and self.model is None:
            raise FieldError("at", "at is a point of the training of a model of the suite")
        return self


class ModelSpec(AttentionOptions, Stage, Adaptation):
    """A pre-norm decoder. `base`, `sweep` and `train` overrides are resolved before this type is made."""

    tag: ClassVar[str] = "decoder"

    layers: Annotated[int, Field(ge=1, le=256)]
    """Blocks of attention and feed-forward network."""
    width: Size
    """Width of the residual stream."""
    heads: Size
    """Attention heads."""
    kv_heads: Size | None = None
    """Key and value heads; as many as `heads` when absent."""
    head_dim: Size | None = None
    """Width of one head; width / heads when absent."""
    ffn: FFN
    """The feed-forward network of every layer: dense, or a mixture of experts."""
    tied_embeddings: bool = True
    """Whether the output head is the embedding table."""
    rope_theta: PositiveFloat = 10000.0
    """Base of the rotary positions (Su et al. 2021, arXiv:2104.09864)."""
    norm_eps: PositiveFloat = 1.0e-5
    """Added to the mean square in RMSNorm."""
    qk_norm: Literal["full", "per_head"] | None = later()
    """RMSNorm of queries and keys: over all heads at once (OLMoE), or each head on its own (Qwen3); absent: none."""
    match: Match | None = None
    """What must be equal to another model, and the size solved for it."""
    vocab: Size | None = later()
    """Rows of the token table of a model with `start` or `weights: random`; another's are the tokenizer's words."""
    start: Start | None = later()
    """Sizes and initial values are this checkpoint's, or this model's of the suite: it is trained on from there, or is
    what `quantise`, `prune` or `route` makes of it."""
    weights: Literal["random"] | None = later()
    """random: counted and timed at its initial values, at any size, never trained or asked for quality."""
    dtype: Literal["float32", "bfloat16"] | None = later()
    """Of the weights and products of a model with `weights: random`, float32 when absent; `train.dtype` is a trained
    model's."""
    data: ModelData | None = later()
    """What it reads otherwise than the suite says."""
    train: TrainSpec | None
    """The suite's recipe with this model's overrides merged over it; none with `weights: random`."""

    @property
    def parent(self) -> str | None:
        """The model of the suite that it starts from."""
        return None if self.start is None else self.start.model

    @property
    def is_transformed(self) -> bool:
        """Whether it is another model with its weights changed, and no training of its own."""
        return self.transform is not None

    @property
    def served_dtype(self) -> Literal["float32", "bfloat16"]:
        """What its weights are counted in."""
        return self.dtype or "float32" if self.train is None else self.train.dtype

    @model_validator(mode="after")
    def _trained_or_random(self) -> ModelSpec:
        if self.weights is None and self.train is None:
            raise FieldError("train", "there is no training recipe: give one, or `weights: random`")
        if self.weights is None and self.dtype is not None:
            raise FieldError("dtype", "dtype is of a model with `weights: random`: a trained one has `train.dtype`")
        if self.weights is not None and self.train is not None:
            raise FieldError("train", "a model with `weights: random` is never trained")
        if self.weights is not None and self.data is not None and self.data.as_view() != WHOLE:
            raise FieldError("data", "a model with `weights: random` is never trained: its `data:` is its tokenizer's")
        if self.vocab is not None and self.weights is None and self.start is None:
            text = "a trained model has its tokenizer's words: choose it under `data:`, as tokenizer: {bpe: 4096}"
            raise FieldError("vocab", text)
        return self

    @model_validator(mode="after")
    def _starts_from_what_it_changes(self) -> ModelSpec:
        asked = [word for word in TRANSFORMS if getattr(self, word) is not None]
        if asked and self.parent is None:
            raise FieldError(
                asked[0], f"{asked[0]} changes the weights of a model of the suite: name it by start: MODEL"
            )
        if len(asked) > 1:
            raise FieldError(asked[1], f"{asked[1]} and {asked[0]} are two stages: give each a model of its own")
        trained = [word for word in ("trainable", "lora") if getattr(self, word) is not None]
        if trained and self.parent is None:
            raise FieldError(
                trained[0], f"{trained[0]} is of a model that another is trained on from: name that one by start: MODEL"
            )
        return self

    @model_validator(mode="after")
    def _shapes(self) -> ModelSpec:
        if self.head_dim is None and self.width % self.heads:
            text = f"width {self.width} is not a multiple of {self.heads} heads: change one, or give head_dim"
            raise FieldError("heads", text)
        head_dim = self.head_dim or self.width // self.heads
        if head_dim % 2:
            field = "heads" if self.head_dim is None else "head_dim"
            raise FieldError(field, f"rotary positions need an even head_dim, not {head_dim}")
        if isinstance(self.ffn, MoEFFN) and not any(map(self.ffn.is_mixture, range(self.layers))):
            alone = (self.ffn.first_dense or 0) >= self.layers
            field = "ffn.first_dense" if alone or self.ffn.every is None else "ffn.every"
            rules = {name: getattr(self.ffn, name) for name in ("every", "first_dense")}
            words = " and ".join(f"{name} {value}" for name, value in rules.items() if value is not None)
            raise FieldError(field, f"with {words} none of the {self.layers} layers is a mixture")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise FieldError("kv_heads", f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self
