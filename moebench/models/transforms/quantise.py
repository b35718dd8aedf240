"""The transform quantise: weights in fewer bits, rounded to the nearest, with a scale for every few of them.

A group is `group` weights of one row, along the dimension that is summed over, as in GPTQ (Frantar et al. 2023,
arXiv:2210.17323) and AWQ (Lin et al. 2024, arXiv:2306.00978), without what these do to the rounding. One scale for a
whole matrix would punish wide ones, and matrices of different models are of different widths.

    symmetric    w ~ s q,        s = max |w| / (2^(b-1) - 1)
    else         w ~ s (q - z),  s = (max(w, 0) - min(w, 0)) / (2^b - 1)

Scales are float16, zero points z a byte. Norms, biases and routers stay as they are. Packed bytes are stored; products
are taken with weights unpacked to float32, so speed and memory are those of the model that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from moebench.models.lazy import F, Tensor, torch
from moebench.models.transforms.packing import pack, row_bytes, unpack
from moebench.models.transforms.transform import FFN, Architecture, Costs, Given, Transform, Weights

AS_IS = 16
"""Bits at which nothing is changed: the control."""
SCALE_BYTES, ZERO_BYTES = 2, 1
PACKED, SCALE, ZERO = ".packed", ".scale", ".zero"
GATED = frozenset({"swiglu", "geglu", "swiglu_clamped"})
SERVED_BYTES = {"float32": 4, "bfloat16": 2}


class Matrix(NamedTuple):
    """A matrix of a decoder, or one for each expert."""

    name: str
    part: Literal["table", "attention", "ffn", "experts"]
    rows: int
    """Of all experts together."""
    columns: int
    """Summed over in a product."""


class Quantise(Transform):
    """Weights in fewer bits."""

    word: ClassVar[str] = "quantise"
    unpacks: ClassVar[bool] = True

    bits: Literal[3, 4, 8, 16]
    """Of one weight. 16 changes nothing: the control."""
    group: Annotated[int, Field(ge=8, le=4096)] = 32
    """Weights of a row that share a scale."""
    of: Literal["all", "ffn", "experts"] = "all"
    """ffn: the matrices of dense networks and experts; experts: those of routed experts alone; all: those of attention
    and the token tables too. Norms, biases and routers stay as they are."""
    symmetric: bool = True
    """Whether 0 is in the middle of the range; otherwise each group has a zero point of its own."""

    def misfit(self, ffn: FFN) -> tuple[str, str, str | None] | None:
        if self.of == "experts" and ffn.kind != "moe":
            return "of", "it has no experts to quantise", "write of: ffn, for the network that stands in their place"
        return None

    @property
    def is_as_is(self) -> bool:
        """Whether it changes nothing."""
        return self.bits == AS_IS

    def costs(self, costs: Costs, architecture: Architecture, *, dtype: str) -> Costs:
        """Bytes of the weights as they are stored, of those that stay in the dtype they are served in; none trains."""
        served, now = SERVED_BYTES[dtype], costs.weight_bytes
        for matrix in self.matrices(architecture):
            now += self.stored_bytes(matrix) - served * matrix.rows * matrix.columns
        return costs.model_copy(update={"weight_bytes": now, "train_state_bytes": now, "trained_params": 0})

    def matrices(self, a: Architecture) -> Iterator[Matrix]:
        """Those that it packs."""
        parts = {"all": ("table", "attention", "ffn", "experts"), "ffn": ("ffn", "experts"), "experts": ("experts",)}
        if not self.is_as_is:
            yield from (matrix for matrix in every_matrix(a) if matrix.part in parts[self.of])

    def stored_bytes(self, matrix: Matrix) -> int:
        """Of a matrix with its scales."""
        beside = SCALE_BYTES + (0 if self.symmetric else ZERO_BYTES)
        return matrix.rows * (row_bytes(matrix.columns, self.bits) + self._groups(matrix.columns) * beside)

    def _groups(self, columns: int) -> int:
        return -(-columns // self.group)

    def applied(self, given: Given) -> dict[str, Tensor]:
        stored = dict(given.weights)
        for matrix in self.matrices(given.architecture):
            stored |= self.packed(matrix.name, stored.pop(matrix.name))
        return stored

    def packed(self, name: str, weights: Tensor) -> dict[str, Tensor]:
        """What is stored of one matrix, or of one for each expert."""
        grouped, highest = self._grouped(weights.float()), 2**self.bits - 1
        if self.symmetric:
            half = 2 ** (self.bits - 1) - 1
            scale, zero = _float16(grouped.abs().amax(-1) / half), torch.full((), half)
        else:
            low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
            scale = _float16((high - low) / highest)
            zero = (-low / scale.float().clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(0, highest)
        divisor = scale.float()[..., None].clamp(min=torch.finfo(torch.float32).tiny)
        codes = (grouped / divisor).round() + (zero if self.symmetric else zero[..., None])
        codes = codes.clamp(0, highest - self.symmetric).flatten(-2)[..., : weights.shape[-1]]
        stored = {name + PACKED: pack(codes, self.bits), name + SCALE: scale}
        return stored if self.symmetric else {**stored, name + ZERO: zero.to(torch.uint8)}

    def _grouped(self, values: Tensor) -> Tensor:
        """[..., columns] as [..., groups, group], the last filled up with 0."""
        columns = values.shape[-1]
        filled = F.pad(values, (0, self._groups(columns) * self.group - columns))
        return filled.reshape(*values.shape[:-1], -1, self.group)

    def unpacked(self, stored: Weights, architecture: Architecture) -> Weights:
        weights = dict(stored)
        for matrix in self.matrices(architecture):
            codes, scale, zero = (weights.pop(matrix.name + end, None) for end in (PACKED, SCALE, ZERO))
            if codes is None or scale is None or (zero is None) != self.symmetric:
                raise ValueError(f"{matrix.name} is not stored as it was packed")
            numbers = self._grouped(unpack(codes, self.bits, numbers=matrix.columns).float())
            middle = 2 ** (self.bits - 1) - 1 if zero is None else zero.float()[..., None]
            whole = ((numbers - middle) * scale.float()[..., None]).flatten(-2)[..., : matrix.columns]
            weights[matrix.name] = whole.contiguous()
        return weights

    def says(self, ffn: FFN, *, tied: bool) -> str:
        if self.is_as_is:
            return "quantised to 16 bits, which changes nothing"
        whose = {
            "all": "all matrices, the token table " + ("that is the output head too" if tied else "and head"),
            "ffn": "the feed-forward matrices" if ffn.kind == "dense" else "the matrices of experts",
            "experts": "the matrices of routed experts",
        }[self.of]
        table = "" if self.of == "all" else ", the token table as it is"
        how = "symmetric" if self.symmetric else "with zero points"
        return f"quantised to {self.bits} bits ({whose}{table}; a scale for {self.group} weights, {how})"


def every_matrix(a: Architecture) -> Iterator[Matrix]:
    """The matrices of a decoder, but for those of routers."""
    yield Matrix("embedding", "table", a.vocab, a.width)
    if not a.tied_embeddings:
        yield Matrix("head", "table", a.vocab, a.width)
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
    for layer, ffn in enumerate(a.ffns):
        for name, rows in (("query", queries), ("key", keys), ("value", keys)):
            yield Matrix(f"layers.{layer}.attention.{name}", "attention", rows, a.width)
        yield Matrix(f"layers.{layer}.attention.output", "attention", a.width, queries)
        yield from _of_ffn(f"layers.{layer}.ffn", ffn, a.width)


def _of_ffn(at: str, ffn: FFN, width: int) -> Iterator[Matrix]:
    inner = 2 if ffn.activation in GATED else 1
    if ffn.kind == "dense":
        yield Matrix(f"{at}.gate_up", "ffn", inner * ffn.hidden, width)
        yield Matrix(f"{at}.down", "ffn", width, ffn.hidden)
        return
    yield Matrix(f"{at}.gate_up", "experts", ffn.experts * inner * ffn.expert_hidden, width)
    yield Matrix(f"{at}.down", "experts", ffn.experts * width, ffn.expert_hidden)
    if ffn.shared_hidden is not None:
        yield Matrix(f"{at}.shared.gate_up", "ffn", inner * ffn.shared_hidden, width)
        yield Matrix(f"{at}.shared.down", "ffn", width, ffn.shared_hidden)


def _float16(scale: Tensor) -> Tensor:
    """Raises ValueError for a scale that float16 does not hold."""
    narrow = scale.to(torch.float16)
    if not bool(torch.isfinite(narrow).all()):
        raise ValueError("a weight is too large to be quantised")
    return narrow
