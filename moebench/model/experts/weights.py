"""What expert compute is given: the weights of all experts of a layer, and the activations they may have.

Legend: N rows, D width, F expert hidden, X rows of the input projection (2F when gated, gate first; else F), E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CLAMP, ALPHA = 7.0, 1.702
"""Of gpt-oss's activation."""


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Weights of all experts of a layer, in the dtype of the products."""

    gate_up_EXD: Tensor
    """Input projections; gate rows first, then up rows, when gated."""
    down_EDF: Tensor
    activation: str
    """A word of `spec.activations`."""
    gate_up_bias_EX: Tensor | None = None
    down_bias_ED: Tensor | None = None

    @property
    def plain(self) -> bool:
        """SwiGLU without biases: what the hand-written backwards compute."""
        return self.activation == "swiglu" and self.gate_up_bias_EX is None

    @property
    def num_experts(self) -> int:
        return self.gate_up_EXD.shape[0]

    @property
    def bytes_each(self) -> int:
        """Of one expert's matrices."""
        return (self.gate_up_EXD[0].numel() + self.down_EDF[0].numel()) * self.gate_up_EXD.element_size()


def swiglu(gate_up_N2F: Tensor) -> Tensor:
    """silu(gate) * up of a fused projection (Shazeer 2020, arXiv:2002.05202)."""
    gate_NF, up_NF = gate_up_N2F.chunk(2, dim=-1)
    return F.silu(gate_NF) * up_NF


def activate(word: str, hidden: Tensor, *, dim: int = -1) -> Tensor:
    """The activation of a suite's word on a (fused) input projection; gated ones halve the axis `dim`."""
    if word == "relu":
        return F.relu(hidden)
    if word == "gelu":
        return F.gelu(hidden)
    gate, up = hidden.chunk(2, dim=dim)
    if word == "swiglu":
        return F.silu(gate) * up
    if word == "geglu":
        return F.gelu(gate) * up
    if word == "swiglu_clamped":
        gate, up = gate.clamp(max=CLAMP), up.clamp(-CLAMP, CLAMP)
        return (up + 1) * gate * (ALPHA * gate).sigmoid()
    raise KeyError(f"unknown activation {word!r}")
