"""The suite file as frozen types: what was asked, before anything is solved.

Every field says its unit and its special values; a field's absence is None, never a number standing for it. Sizes that
a match will solve are None here and whole numbers in the plan. This module reads no files: `load` does.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from moebench.amounts import Amount as Amount
from moebench.amounts import FieldError, Name, Size
from moebench.frozen import Frozen
from moebench.suite import routers
from moebench.suite.activations import Activation
from moebench.suite.claim import Claim as Claim
from moebench.suite.claim import Compare as Compare
from moebench.suite.claim import Target as Target
from moebench.suite.claim import Test as Test


def _since_2(default: Any = None, **limits: Any) -> Any:
    """A field that suites of the first version lack: at its default it is left out of dumps, so run ids stay."""
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


# ---------------------------------------------------------------------------------------------- data


class StdlibData(Frozen):
    """The text of the running Python's own standard library: found on any machine, no download."""

    source: Literal["stdlib"]
    """stdlib: text found wherever Python is."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


Encoding = Literal[
    "utf-8", "utf-16", "utf-32", "latin-1", "cp1252", "cp1250", "cp1251", "cp437", "iso8859-2", "iso8859-15", "koi8-r",
    "mac-roman", "shift_jis", "euc-jp", "euc-kr", "gb18030", "big5",
]  # fmt: skip


class TextData(Frozen):
    """The user's own text files, gzipped or not. A file is a document; its top folder is its domain."""

    source: Literal["text"]
    """text: files of your own."""
    files: list[str] = Field(min_length=1)
    """Files, folders or globs, relative to the suite file."""
    encoding: Encoding = _since_2("utf-8")
    """How the files are encoded; they are trained on as UTF-8."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


class SyntheticData(Frozen):
    """Text with a known answer: a mixture of Markov sources, each a domain, whose entropy rate is computed exactly."""

    source: Literal["synthetic"]
    """synthetic: text whose entropy is known."""
    sources: Annotated[int, Field(ge=1, le=64)] = 4
    """Markov sources mixed; each document comes from one."""
    symbols: Annotated[int, Field(ge=2, le=64)] = 16
    """Alphabet size of each source, drawn from printable bytes."""
    order: Annotated[int, Field(ge=1, le=3)] = 2
    """Symbols the next one depends on."""
    documents: Annotated[int, Field(ge=10)] = 2000
    """Documents drawn, over all splits."""
    document_bytes: Annotated[int, Field(ge=16)] = 1024
    """Length of each document in bytes."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


class PluginData(Frozen):
    """Text from a source that an installed package offers: an entry point of the group `moebench.sources`."""

    source: Literal["plugin"]
    """plugin: a source of an installed package."""
    name: Name
    """The entry point's name."""
    options: dict[str, str | bool | int | float] = Field(default={})
    """What the source asks for; its package says what."""
    tokenizer: Literal["bytes"] = "bytes"
    """bytes: one byte is one token."""
    context: Annotated[int, Field(ge=8, le=8192)] = 256
    """Tokens in a training window."""


DataSpec = Annotated[StdlibData | TextData | SyntheticData | PluginData, Field(discriminator="source")]


# ---------------------------------------------------------------------------------------------- training


class Budget(Frozen):
    """How long to train, in exactly one currency. The plan turns it into a whole number of steps."""

    tokens: PositiveFloat | None = None
    """Training tokens."""
    flops: PositiveFloat | None = None
    """Model FLOPs, forward and backward."""
    steps: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Optimizer steps."""
    seconds: PositiveFloat | None = None
    """Turned into steps by a stored calibration of this machine."""

    @model_validator(mode="after")
    def _one(self) -> Budget:
        given = [name for name in ("tokens", "flops", "steps", "seconds") if getattr(self, name) is not None]
        if len(given) != 1:
            many = "such as {tokens: 1.0e6}" if not given else f"not both {' and '.join(given)}"
            raise ValueError(f"give exactly one of tokens, flops, steps or seconds, {many}")
        return self


class Optimizer(Frozen):
    """AdamW with decoupled decay; norms are not decayed."""

    name: Literal["adamw"] = "adamw"
    """The one optimizer there is."""
    lr: PositiveFloat = 3.0e-3
    """Peak learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    """Decay rates of the first and second moment."""
    eps: PositiveFloat = 1.0e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay, times the learning rate at each step."""


class Schedule(Frozen):
    """Learning rate over the run: linear warm-up, then a decay to `final` of the peak."""

    warmup: Amount = Amount(value=0.05, relative=True)
    """A share of the steps (`5%`) or a number of steps."""
    decay: Literal["cosine", "linear", "none"] = "cosine"
    """Shape of the way down after the warm-up; none stays at the peak."""
    final: Amount = Amount(value=0.1, relative=True)
    """Learning rate at the last step, as a share of the peak."""

    @model_validator(mode="after")
    def _shares(self) -> Schedule:
        if self.warmup.value < 0 or (self.warmup.relative and self.warmup.value >= 1):
            raise FieldError("warmup", "warmup must be a share of the steps below 100%, or a number of steps")
        if not self.final.relative or not 0 <= self.final.value <= 1:
            raise FieldError("final", "final is a share of the peak, from 0% to 100%")
        return self


class Evaluation(Frozen):
    """When quality is measured, and on how much text."""

    points: Annotated[int, Field(ge=1, le=1000)] = 8
    """Evaluations over the run, evenly spaced, the last after the last step."""
    tokens: Annotated[int, Field(ge=256)] = 32768
    """Tokens of the split read at each point."""
    final_tokens: Annotated[int, Field(ge=256)] = 131072
    """Tokens of the split read after the last step; the first `tokens` of them are those of the points."""
    windows_per_document: int | None = _since_2(ge=1, le=10**6)
    """Windows of one document read at most; no limit when absent: every document gives its first window before any
    gives its second, and so on until `tokens` are read."""


class TrainSpec(Frozen):
    """A training recipe. A model may override any key."""

    budget: Budget
    """How long to train."""
    batch_tokens: Annotated[int, Field(ge=1, le=2**31)] = 4096
    """Tokens in one optimizer step."""
    micro_batch_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Tokens in one forward and backward; the whole batch when absent."""
    optimizer: Optimizer = Optimizer()
    """AdamW and its settings."""
    schedule: Schedule = Schedule()
    """Learning rate over the run."""
    clip: PositiveFloat | None = 1.0
    """Largest gradient norm; null for no clipping."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products and activations; weights and optimizer state stay float32."""
    evaluate: Evaluation = Evaluation()
    """When quality is measured, and on how much text."""
    checkpoint_seconds: PositiveFloat = 30.0
    """A checkpoint is written at the first step after this long, and at every evaluation point. Decides no bits."""


# ---------------------------------------------------------------------------------------------- models


class DenseFFN(Frozen):
    """One feed-forward network for every token, gated unless its activation says otherwise."""

    kind: Literal["dense"]
    """dense: one gated network for every token."""
    hidden: Size | None = None
    """Width of the hidden layer; may be left to `match`."""
    activation: Activation = _since_2("swiglu")
    """Activation; the gated ones have three matrices, relu and gelu two."""


class MoEFFN(Frozen):
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
    balance_loss: Annotated[float, Field(ge=0)] = 0.01
    """Coefficient of the load-balance loss, 1.0 at perfect balance; a router without it takes 0 or nothing."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Coefficient of the router z-loss (ST-MoE, arXiv:2202.08906); a router without it takes 0 or nothing."""

    activation: Activation = _since_2("swiglu")
    """Activation of experts and shared experts; the gated ones have three matrices, relu and gelu two."""
    bias: bool = _since_2(False)
    """Whether experts, and routers that can, have biases (gpt-oss)."""
    capacity_factor: float | None = _since_2(gt=0, le=1024)
    """Room of an expert in training: this times top_k x tokens / experts, over a micro-batch. Absent: dropless."""
    jitter: float | None = _since_2(gt=0, lt=1)
    """In training the router's input is multiplied by numbers from 1 - jitter to 1 + jitter (Switch: 0.01)."""
    top_p: float | None = _since_2(gt=0, le=1)
    """Probability that the chosen experts must reach together (router top_p)."""
    groups: int | None = _since_2(ge=1, le=1024)
    """Groups that the experts are divided into (routers hierarchical and sigmoid_bias)."""
    groups_chosen: int | None = _since_2(ge=1, le=1024)
    """Groups that a token's experts come from."""
    scale: float | None = _since_2(gt=0, le=1000)
    """Factor of all routed weights (DeepSeek-V3: 2.5)."""
    bias_rate: float | None = _since_2(ge=0, le=1)
    """Step of the selection biases that balance the load without a loss (DeepSeek-V3: 0.001)."""
    importance_loss: float | None = _since_2(ge=0)
    """Coefficient of the squared coefficient of variation of the experts' summed weights (Shazeer 2017: 0.1)."""
    load_loss: float | None = _since_2(ge=0)
    """Coefficient of the squared coefficient of variation of the experts' expected load (Shazeer 2017: 0.1)."""
    entropy_loss: float | None = _since_2(ge=0)
    """Coefficient of the mean entropy of the routing probabilities, in nats (router top_p)."""
    balance_over: Literal["sequence", "batch"] | None = _since_2()
    """Tokens that the balance loss is taken over: each sequence, or the batch so far; the micro-batch when absent."""
    shared_hidden: Size | None = _since_2()
    """Width of the shared expert that every token uses; n shared experts of width f are one of width n x f."""
    shared_gate: bool = _since_2(False)
    """Whether a sigmoid gate scales the shared expert (Qwen1.5-MoE)."""
    every: int | None = _since_2(ge=2, le=256)
    """Layer i, counted from 1, is a mixture only when `every` divides i; every layer is when absent."""
    first_dense: int | None = _since_2(ge=1, le=255)
    """Layers at the start that are dense."""
    dense_hidden: Size | None = _since_2()
    """Width of the hidden layer of those layers that are dense."""
    dense_activation: Activation | None = _since_2()
    """Their activation; that of the experts when absent."""

    @model_validator(mode="after")
    def _top_k(self) -> MoEFFN:
        if self.top_k > self.experts:
            raise FieldError("top_k", f"top_k {self.top_k} is more than the {self.experts} experts there are")
        mixed = self.every is not None or self.first_dense is not None
        for field in ("dense_hidden", "dense_activation"):
            if getattr(self, field) is not None and not mixed:
                raise FieldError(field, f"{field} has no layer to be used in: give `every` or `first_dense` too")
        found = routers.problem(self)
        if found is not None:
            raise FieldError(*found)
        return self

    def is_mixture(self, layer: int) -> bool:
        """Whether layer `layer`, counted from 0, is a mixture; the others are dense."""
        return layer >= (self.first_dense or 0) and (layer + 1) % (self.every or 1) == 0

    @property
    def dense_layer(self) -> DenseFFN:
        """What the layers that are no mixture hold."""
        return DenseFFN(kind="dense", hidden=self.dense_hidden, activation=self.dense_activation or self.activation)


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
    step: Size | None = _since_2()
    """Steps the size moves in; when absent 8 for experts, whose kernels need aligned rows, else 1."""


class ModelSpec(Frozen):
    """A pre-norm decoder. `base`, `sweep` and `train` overrides are resolved before this type is made."""

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
    qk_norm: Literal["full", "per_head"] | None = _since_2()
    """RMSNorm of queries and keys: over all heads at once (OLMoE), or each head on its own (Qwen3); absent: none."""
    match: Match | None = None
    """What must be equal to another model, and the size solved for it."""
    train: TrainSpec
    """The suite's recipe with this model's overrides merged over it."""

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
            said = " and ".join(f"{name} {value}" for name, value in rules.items() if value is not None)
            raise FieldError(field, f"with {said} none of the {self.layers} layers is a mixture")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise FieldError("kv_heads", f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        return self


# ---------------------------------------------------------------------------------------------- measuring


class DecodeSpec(Frozen):
    """Decoding through the cache."""

    batch: list[Annotated[int, Field(ge=1, le=4096)]] = Field(default=[1, 8])
    """Batch sizes to time."""


class SpeedSpec(Frozen):
    """The speed session: fresh processes, all models in each, timed in rotating blocks."""

    train_step: bool = True
    """Whether to time forward, backward and optimizer step."""
    prefill: list[Annotated[int, Field(ge=1, le=8192)]] = Field(default=[])
    """Prompt lengths in tokens, batch 1; none longer than the context."""
    decode: DecodeSpec | None = None
    """Cached decoding, one token for each sequence of a batch."""
    processes: Annotated[int, Field(ge=2, le=100)] = 10
    """Fresh processes; at least 6 for any verdict, 10 for a headline."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """About how long the whole session may time, all processes together."""


class Measure(Frozen):
    """What is measured besides counts."""

    quality: list[Literal["bits_per_byte"]] = Field(default=["bits_per_byte"])
    """Quality on the test split."""
    speed: SpeedSpec | None = None
    """The speed session; none when absent."""
    memory: bool = True
    """Whether claims may rest on peaks of tensor bytes. They are always measured, because suites share runs."""
    routing: bool = True
    """Whether claims may rest on the load of the experts. It is always recorded, because suites share runs."""


class Tune(Frozen):
    """A learning-rate sweep on the `tune` split, the same for all models it covers: `moebench run --tune`."""

    lr: list[PositiveFloat] = Field(min_length=3)
    """Peak learning rates to try, the same list for every model."""
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Seeds per rate; they are none of the suite's own seeds."""
    models: list[Name] | None = _since_2()
    """The models it covers, all when absent. The others' rates are transferred, and their verdicts say so."""


class Controls(Frozen):
    """Checks that prove the instrument itself."""

    same_model: Name | None = None
    """A model compared with itself over disjoint seeds: the difference's 99% interval must hold 0."""


# ---------------------------------------------------------------------------------------------- the suite


class SuiteSpec(Frozen):
    """A whole suite, resolved: no `base`, `sweep`, `extends` or `scales` is left."""

    suite: Name
    """Name of the suite, of its reports and of its plans."""
    question: Annotated[str, Field(min_length=1, max_length=400)]
    """The question the suite answers, in one sentence."""
    scale: str | None = None
    """The named scale chosen, None for the file's own values."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(min_length=1)
    """A number n in the file stands for 0 .. n-1."""
    data: DataSpec
    """Where the text comes from."""
    models: dict[Name, ModelSpec] = Field(min_length=1)
    """The models, by name."""
    sweeps: dict[Name, dict[Name, dict[str, float | str | bool]]] = Field(default={})
    """Swept model -> expanded model -> its swept keys and values."""
    measure: Measure = Measure()
    """What is measured besides counts."""
    tune: Tune | None = None
    """The learning-rate sweep."""
    controls: Controls = Controls()
    """Checks that prove the instrument itself."""
    claims: dict[Name, Claim] = Field(default={})
    """The claims, by name."""
