"""Where each tensor of a checkpoint stands in ours: one table, read for both directions. Loads no torch.

A `Piece` is a tensor of theirs and a view of one of ours with the same numbers: reading copies into the view, writing
copies out of it. Between them the pieces of a model cover all of ours, once.

Legend: E experts, F expert hidden, D width, X = 2F rows of gate and up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from moebench.models.architecture import Architecture, solved
from moebench.models.convert.families import Family
from moebench.models.lazy import Tensor
from moebench.suite.model import DenseFFN, MoEFFN

View = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One tensor of theirs."""

    theirs: str
    shape: tuple[int, ...]
    """As it stands in the file."""
    ours: str
    """Name in our state."""
    view: View = lambda t: t
    """Of ours, as many numbers in the same order."""


def pieces(a: Architecture, f: Family) -> Iterator[Piece]:
    """Every tensor of an architecture as a class writes it."""
    yield Piece(theirs="model.embed_tokens.weight", shape=(a.vocab, a.width), ours="embedding")
    yield Piece(theirs="model.norm.weight", shape=(a.width,), ours="norm.weight")
    if not a.tied_embeddings:
        yield Piece(theirs="lm_head.weight", shape=(a.vocab, a.width), ours="head")
    for index, ffn in enumerate(a.ffns):
        theirs, ours = f"model.layers.{index}", f"layers.{index}"
        norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
        for their, our in norms.items():
            yield Piece(theirs=f"{theirs}.{their}.weight", shape=(a.width,), ours=f"{ours}.{our}.weight")
        yield from _attention(a, f"{theirs}.self_attn", f"{ours}.attention")
        if isinstance(ffn, DenseFFN):
            yield from _network(f"{theirs}.mlp", f"{ours}.ffn", f.expert, solved(ffn.hidden), a.width)
        else:
            yield from _mixture(a, f, ffn, f"{theirs}.{f.mixture}", f"{ours}.ffn")


def _attention(a: Architecture, theirs: str, ours: str) -> Iterator[Piece]:
    heads, kv_heads = a.heads * a.head_dim, a.kv_heads * a.head_dim
    rows = {"query": heads, "key": kv_heads, "value": kv_heads}
    for name, number in rows.items():
        yield Piece(theirs=f"{theirs}.{name[0]}_proj.weight", shape=(number, a.width), ours=f"{ours}.{name}")
        if a.attention_bias is not None:
            yield Piece(theirs=f"{theirs}.{name[0]}_proj.bias", shape=(number,), ours=f"{ours}.{name}_bias")
    yield Piece(theirs=f"{theirs}.o_proj.weight", shape=(a.width, heads), ours=f"{ours}.output")
    if a.attention_bias == "all":
        yield Piece(theirs=f"{theirs}.o_proj.bias", shape=(a.width,), ours=f"{ours}.output_bias")
    if a.attention_sinks:
        yield Piece(theirs=f"{theirs}.sinks", shape=(a.heads,), ours=f"{ours}.sinks")
    for name in ("query", "key") if a.qk_norm is not None else ():
        weights = a.head_dim if a.qk_norm == "per_head" else rows[name]
        yield Piece(theirs=f"{theirs}.{name[0]}_norm.weight", shape=(weights,), ours=f"{ours}.{name}_norm.weight")


def _network(
    theirs: str, ours: str, names: tuple[str, str, str], hidden: int, width: int, *, of: View = lambda t: t
) -> Iterator[Piece]:
    """Gate, up and down of one network; `of` takes one expert's out of ours."""
    gate, up, down = (f"{theirs}.{name}.weight" for name in names)
    yield Piece(theirs=gate, shape=(hidden, width), ours=f"{ours}.gate_up", view=lambda t: of(t)[:hidden])
    yield Piece(theirs=up, shape=(hidden, width), ours=f"{ours}.gate_up", view=lambda t: of(t)[hidden:])
    yield Piece(theirs=down, shape=(width, hidden), ours=f"{ours}.down", view=of)


def _one(expert: int) -> View:
    return lambda t: t[expert]


def _mixture(a: Architecture, f: Family, ffn: MoEFFN, theirs: str, ours: str) -> Iterator[Piece]:
    hidden, router = solved(ffn.expert_hidden), f"{theirs}.router" if f.fused else f"{theirs}.gate"
    yield Piece(theirs=f"{router}.weight", shape=(ffn.experts, a.width), ours=f"{ours}.router.weight")
    if ffn.router == "sigmoid_bias":
        bias = f"{router}.e_score_correction_bias"
        yield Piece(theirs=bias, shape=(ffn.experts,), ours=f"{ours}.router.bias_E")
    if f.fused:
        yield Piece(theirs=f"{router}.bias", shape=(ffn.experts,), ours=f"{ours}.router.bias")
        yield from _fused(f"{theirs}.experts", ours, experts=ffn.experts, hidden=hidden, width=a.width)
        return
    for expert in range(ffn.experts):
        yield from _network(f"{theirs}.experts.{expert}", ours, f.expert, hidden, a.width, of=_one(expert))
    if ffn.shared_hidden is not None:
        name = "shared_expert" if ffn.shared_gate else "shared_experts"  # GLM counts them, Qwen has one
        yield from _network(f"{theirs}.{name}", f"{ours}.shared", f.expert, ffn.shared_hidden, a.width)
    if ffn.shared_gate:
        yield Piece(theirs=f"{theirs}.shared_expert_gate.weight", shape=(1, a.width), ours=f"{ours}.shared_gate")


def _fused(theirs: str, ours: str, *, experts: int, hidden: int, width: int) -> Iterator[Piece]:
    """All experts in a tensor, transposed, rows of gate and up in turn: gate 0, up 0, gate 1, ..."""

    def in_turn(t: Tensor) -> Tensor:
        """Ours, [E, X, ...], as [E, ..., F, 2]."""
        halves = t.view(experts, 2, hidden, *t.shape[2:])
        return halves.permute(0, *range(3, halves.ndim), 2, 1)

    gate_up, down = f"{theirs}.gate_up_proj", f"{theirs}.down_proj"
    yield Piece(theirs=gate_up, shape=(experts, width, 2 * hidden), ours=f"{ours}.gate_up", view=in_turn)
    yield Piece(theirs=f"{gate_up}_bias", shape=(experts, 2 * hidden), ours=f"{ours}.gate_up_bias", view=in_turn)
    yield Piece(theirs=down, shape=(experts, hidden, width), ours=f"{ours}.down", view=lambda t: t.transpose(1, 2))
    yield Piece(theirs=f"{down}_bias", shape=(experts, width), ours=f"{ours}.down_bias")
