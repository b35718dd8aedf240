"""What expert compute is given: the weights of all experts of a layer.

Legend: D width, F expert hidden, X rows of the input projection (2F when gated, gate first; else F), E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
    def num_experts(self) -> int:
        return self.gate_up_EXD.shape[0]

    @property
    def bytes_each(self) -> int:
        """Of one expert's matrices."""
        return (self.gate_up_EXD[0].numel() + self.down_EDF[0].numel()) * self.gate_up_EXD.element_size()
