"""What a stage trains of a model: its parts, some of its experts, or low-rank adapters; and what that costs.

Weights that are not trained have no gradient and no moments. Their products still have a backward towards what is
trained before them, and none below the first trained weight, so FLOPs are counted layer by layer, in order. An adapter
is a pair of matrices beside a frozen one, y = W x + (alpha / rank) B A x (Hu et al. 2021, arXiv:2106.09685).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from moebench.counting.blueprint import Attention, Blueprint, Dense, Experts, Layer
from moebench.counting.flops import pair_flops, twice_pairs
from moebench.counting.kernels import is_masked
from moebench.counting.weights import dense_weights, input_tables, mixer_weights, router_weights
from moebench.frozen import Frozen, later

Part = Literal["attention", "router", "experts", "dense", "norms", "embedding"]
"""Parts that a model's parameters fall into. dense: networks of dense layers, and shared experts with their gate;
norms: those of queries and keys too; embedding: the token table, and the head where it is another."""


class Lora(Frozen):
    """Adapters of matrices of attention, of every expert, or of dense networks."""

    rank: int
    on: tuple[Part, ...]
    alpha: float
    """An adapter's product is scaled by alpha / rank."""


class Trained(Frozen):
    """What of a model is trained, in integers; all of it where there is none of this."""

    parts: tuple[Part, ...]
    """Sorted; none where adapters alone are trained."""
    experts: int | None = later()
    """Of each mixture, those that are trained where `experts` is among the parts; None for all."""
    by: Literal["load", "chance"] | None = later()
    """How those are chosen: the most used on the stage's own text, or drawn."""
    lora: Lora | None = later()

    def has(self, part: Part) -> bool:
        return part in self.parts

    def adapts(self, part: Part) -> bool:
        return self.lora is not None and part in self.lora.on

    def num_experts(self, ffn: Experts) -> int:
        """Of one mixture, those with gradients."""
        if not self.has("experts"):
            return 0
        return ffn.experts if self.experts is None else min(self.experts, ffn.experts)


# ------------------------------------------------------------------------------------------------ parameters


def adapter_parameters(b: Blueprint, trained: Trained) -> int:
    """In the pairs of matrices, beside the model's own parameters."""
    if trained.lora is None:
        return 0
    return sum(
        layer.times * times * trained.lora.rank * (inputs + outputs)
        for layer in b.layers
        for part, times, inputs, outputs in _matrices(layer, b.width)
        if trained.adapts(part)
    )


def trained_parameters(b: Blueprint, trained: Trained) -> int:
    """Those with a gradient, adapters among them."""
    count = adapter_parameters(b, trained)
    if trained.has("embedding"):
        count += input_tables(b) + b.head_bias * b.vocab + (0 if b.tied else b.vocab * b.width)
    if trained.has("norms"):
        count += b.width * sum(stack.final_norm for stack in b.stacks)
    return count + sum(layer.times * _trained_of(layer, b.width, trained) for layer in b.layers)


def _trained_of(layer: Layer, width: int, trained: Trained) -> int:
    mixer, ffn = layer.mixer, layer.ffn
    assert isinstance(mixer, Attention)
    norms = {"none": 0, "per_head": 2 * mixer.head_dim, "full": (mixer.heads + mixer.kv_heads) * mixer.head_dim}
    normed = norms[mixer.qk_norm]
    count = trained.has("norms") * (layer.norms * width + normed)
    count += trained.has("attention") * (mixer_weights(mixer, width).total - normed)
    if isinstance(ffn, Dense):
        return count + trained.has("dense") * dense_weights(ffn, width).total
    if ffn is None:
        return count
    count += trained.num_experts(ffn) * dense_weights(ffn, width).total
    if trained.has("router") and ffn.router_learned:
        count += router_weights(ffn, width).total - (0 if ffn.router is None else ffn.router.untrained_parameters)
    if trained.has("dense") and ffn.shared is not None:
        count += dense_weights(ffn.shared, width).total + ffn.shared_gate * width
    return count


def trained_matrices(b: Blueprint, trained: Trained) -> int:
    """Of the trained parameters, those in matrices of attention and feed-forward networks, which Muon keeps one moment
    of; adapters are AdamW's."""
    count = 0
    for layer in b.layers:
        ffn = layer.ffn
        for part, times, inputs, outputs in _matrices(layer, b.width):
            some = trained.num_experts(ffn) if part == "experts" and isinstance(ffn, Experts) else times
            count += layer.times * trained.has(part) * some * inputs * outputs
    return count


def least_side(b: Blueprint, trained: Trained) -> int:
    """Of the matrices with adapters: a higher rank than this is a rank that they do not have."""
    of_layers = (one for layer in b.layers for one in _matrices(layer, b.width))
    return min((min(inputs, outputs) for part, _, inputs, outputs in of_layers if trained.adapts(part)), default=0)


def _matrices(layer: Layer, width: int) -> Iterator[tuple[Part, int, int, int]]:
    """(part, how many such, inputs, outputs) of the matrices that may have adapters. Gate and up are one."""
    mixer, ffn = layer.mixer, layer.ffn
    assert isinstance(mixer, Attention)
    queries, keys = mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
    yield from (("attention", 1, width, outputs) for outputs in (queries, keys, keys))
    yield "attention", 1, queries, width
    networks: list[tuple[Part, int, Dense | Experts]] = []
    if isinstance(ffn, Experts):
        networks.append(("experts", ffn.experts, ffn))
        if ffn.shared is not None:
            networks.append(("dense", 1, ffn.shared))
    elif ffn is not None:
        networks.append(("dense", 1, ffn))
    for part, times, network in networks:
        yield part, times, width, (1 + network.gated) * network.hidden
        yield part, times, network.hidden, width


# ------------------------------------------------------------------------------------------------ FLOPs


class Routed(NamedTuple):
    """Pairs of one mixture in a pass."""

    computed: int
    to_trained: int
    """Those whose expert is trained."""


class Step(NamedTuple):
    """FLOPs of a forward and a backward."""

    model: int
    executed: int
    """With what attention computes twice, or to mask it."""
    counted: int
    """As torch's counter sees them: attention over the full square."""


def expected(layers: Sequence[Layer], trained: Trained, *, tokens: int) -> list[Routed]:
    """Where nothing is dropped and every pair goes to an expert that is trained, if any is: a bound."""
    mixtures = (layer.ffn for layer in layers if isinstance(layer.ffn, Experts))
    return [Routed(tokens * ffn.top_k, tokens * ffn.top_k * bool(trained.num_experts(ffn))) for ffn in mixtures]


class _Walk:
    """A pass through the layers, with whether the activations that are reached have a gradient."""

    def __init__(self, trained: Trained, *, width: int, tokens: int) -> None:
        self.trained, self.width, self.tokens = trained, width, tokens
        self.flows, self.products = trained.has("embedding"), 0

    def product(self, part: Part, inputs: int, outputs: int, *, rows: int, flows: bool, trains: bool) -> bool:
        """Of a matrix and its adapter; whether its outputs have a gradient."""
        size = 2 * rows * inputs * outputs
        self.products += size * (1 + flows + trains)
        if not self.trained.adapts(part):
            return flows or trains
        assert self.trained.lora is not None
        down, up = (2 * rows * self.trained.lora.rank * side for side in (inputs, outputs))
        self.products += down * (2 + flows) + 3 * up
        return True

    def network(self, part: Part, network: Dense | Experts, *, rows: int, flows: bool, trains: bool) -> bool:
        hidden = (1 + network.gated) * network.hidden
        inner = self.product(part, self.width, hidden, rows=rows, flows=flows, trains=trains)
        return self.product(part, network.hidden, self.width, rows=rows, flows=inner, trains=trains)

    def attention(self, mixer: Attention) -> bool:
        """Whether its scores have a gradient; the residual stream has one behind it where its outputs do."""
        trained, queries, keys = self.trained, mixer.heads * mixer.head_dim, mixer.kv_heads * mixer.head_dim
        normed, own = self.flows or trained.has("norms"), trained.has("attention")
        for outputs in (queries, keys, keys):
            inner = self.product("attention", self.width, outputs, rows=self.tokens, flows=normed, trains=own)
        self.flows |= self.product("attention", queries, self.width, rows=self.tokens, flows=inner, trains=own)
        return inner

    def ffn(self, ffn: Dense | Experts, routed: Routed | None) -> None:
        trained, flows = self.trained, self.flows or self.trained.has("norms")
        if isinstance(ffn, Dense):
            out = self.network("dense", ffn, rows=self.tokens, flows=flows, trains=trained.has("dense"))
            self.flows |= flows or out
            return
        assert routed is not None
        router, learns = router_weights(ffn, self.width), trained.has("router") and ffn.router_learned
        scores = 2 * self.tokens * (router.matrices + router.noise)
        self.products += scores * (1 + flows + learns)
        out = flows or learns or trained.num_experts(ffn) > 0 or trained.adapts("experts")
        for rows, trains in ((routed.to_trained, True), (routed.computed - routed.to_trained, False)):
            self.network("experts", ffn, rows=rows, flows=flows, trains=trains)
        if ffn.shared is not None:
            shared = trained.has("dense")
            out |= self.network("dense", ffn.shared, rows=self.tokens, flows=flows, trains=shared)
            self.products += 2 * self.tokens * self.width * ffn.shared_gate * (1 + flows + shared)
        self.flows |= out


def step_flops(
    b: Blueprint,
    layers: Sequence[Layer],
    trained: Trained,
    *,
    sequences: int,
    length: int,
    routed: Sequence[Routed] | None = None,
) -> Step:
    """Of a model whose `layers` stand in their order, one each; `routed` as `expected` when absent."""
    tokens = sequences * length
    pairs = iter(expected(layers, trained, tokens=tokens) if routed is None else routed)
    walk, scores = _Walk(trained, width=b.width, tokens=tokens), [0, 0, 0]
    for layer in layers:
        assert isinstance(layer.mixer, Attention)
        times = 3 if walk.attention(layer.mixer) else 1
        for index, flops in enumerate(_scores(layer.mixer, length=length, times=times)):
            scores[index] += sequences * flops
        if layer.ffn is not None:
            walk.ffn(layer.ffn, next(pairs) if isinstance(layer.ffn, Experts) else None)
    flows = walk.flows or trained.has("norms")
    walk.products += 2 * tokens * b.vocab * b.width * (1 + flows + trained.has("embedding"))
    model, executed, counted = (walk.products + some for some in scores)
    return Step(model, executed, counted)


def _scores(mixer: Attention, *, length: int, times: int) -> tuple[int, int, int]:
    """Of attention's two products for one sequence: those of the model, as kernels run them, and the full square.

    With a backward, `times` is 3, and flash attention computes the scores once more in it.
    """
    square = pair_flops(mixer) * length * length
    model = times * pair_flops(mixer) // 2 * twice_pairs(mixer, length=length, causal=True)
    again = square // 4 if times == 3 else 0
    if is_masked(mixer, length=length):
        again = times * square - model + (square // 2 if times == 3 and not mixer.sinks else 0)
    return model, model + again, times * square
