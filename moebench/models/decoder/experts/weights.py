"""What expert compute is given: the weights of all experts of a layer.

Legend: D width, F expert hidden, X rows of the input projection (2F when gated, gate first; else F), E experts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

from torch import Tensor, nn


class Expert(NamedTuple):
    """Weights of one expert."""

    gate_up_XD: Tensor
    down_DF: Tensor
    gate_up_bias_X: Tensor | None
    down_bias_D: Tensor | None


def one_by_one(
    gate_up_EXD: Tensor, down_EDF: Tensor, gate_up_bias_EX: Tensor | None, down_bias_ED: Tensor | None
) -> Iterator[Expert]:
    """The experts of such tensors."""
    # unbind, not weight[e]: the backward of an index fills a gradient of all experts with zeros, once per expert.
    biases = (repeat(None) if bias is None else bias.unbind() for bias in (gate_up_bias_EX, down_bias_ED))
    return map(Expert, gate_up_EXD.unbind(), down_EDF.unbind(), *biases)


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
    apart: Mapping[int, Expert] | None = None
    """Experts whose weights stand apart, for they alone are trained: the tensors above hold the others, in order."""
    lora: nn.ModuleDict | None = None
    """Adapters of `gate_up` and `down`, of every expert."""

    @property
    def num_experts(self) -> int:
        return self.gate_up_EXD.shape[0] + len(self.apart or ())

    def each(self) -> Iterator[Expert]:
        """The experts one by one."""
        others = one_by_one(self.gate_up_EXD, self.down_EDF, self.gate_up_bias_EX, self.down_bias_ED)
        for expert in range(self.num_experts):
            yield next(others) if self.apart is None or expert not in self.apart else self.apart[expert]

    @property
    def bytes_each(self) -> int:
        """Of one expert's matrices."""
        return (self.gate_up_EXD[0].numel() + self.down_EDF[0].numel()) * self.gate_up_EXD.element_size()
