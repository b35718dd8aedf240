"""What stands beside a decoder's own weights while some of them are trained: adapters, and experts set apart.

An adapter of W [out, in] computes (alpha / rank) B A x with A [rank, in] and B [out, rank], named `lora_A` and `lora_B`
and filled as peft fills them: A uniform within 1 / sqrt(in) (Kaiming, with a = sqrt 5), B zero, so that nothing is
changed before the first step (Hu et al. 2021, arXiv:2106.09685). Every expert has its own. Where some experts of a
mixture are trained, their weights stand apart, so that no gradient and no moment of the others exists.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moebench.counting.trained import Lora
from moebench.models.decoder.experts.weights import Expert, one_by_one
from moebench.models.decoder.products import linear
from moebench.models.initial import generator

STACKED = ("gate_up", "down", "gate_up_bias", "down_bias")
"""Tensors of a mixture that hold all of its experts."""


class Adapter(nn.Module):
    """Of one matrix [..., out, in]; of experts, one for each."""

    def __init__(self, weight: Tensor, lora: Lora) -> None:
        super().__init__()
        *experts, outputs, inputs = weight.shape
        self.scale = lora.alpha / lora.rank
        self.lora_A = nn.Parameter(weight.new_empty(*experts, lora.rank, inputs))
        self.lora_B = nn.Parameter(weight.new_zeros(*experts, outputs, lora.rank))

    def forward(self, x: Tensor) -> Tensor:
        """What is added to W x, [..., in] -> [..., out]."""
        return _added(x, self.lora_A, self.lora_B, self.scale)

    def of_expert(self, expert: int, x: Tensor) -> Tensor:
        """What is added to one expert's W x."""
        return _added(x, self.lora_A.unbind()[expert], self.lora_B.unbind()[expert], self.scale)

    def change(self) -> Tensor:
        """What is added to W."""
        return self.scale * (self.lora_B @ self.lora_A)

    @torch.no_grad()
    def initialise(self, seed: int, name: str) -> None:
        """A from the seed, on the CPU so that a device does not change it; B zero."""
        bound = self.lora_A.shape[-1] ** -0.5
        values = torch.empty(self.lora_A.shape, device="cpu")
        self.lora_A.copy_(values.uniform_(-bound, bound, generator=generator(seed, f"lora.{name}")))
        self.lora_B.zero_()


def _added(x: Tensor, a_RI: Tensor, b_OR: Tensor, scale: float) -> Tensor:
    return scale * linear(linear(x, a_RI.to(x.dtype)), b_OR.to(x.dtype))


def adapted(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, adapters: nn.ModuleDict | None, name: str) -> Tensor:
    """W x + b and, of a matrix that has one, what its adapter adds."""
    out = linear(x, weight_OI, bias_O)
    return out if adapters is None else out + adapters[name](x)


class TrainedApart(nn.Module):
    """The weights of the experts of a mixture that are trained, where others are not."""

    def __init__(self, mixture: nn.Module, chosen: Sequence[int]) -> None:
        super().__init__()
        self.chosen = tuple(chosen)
        for name in STACKED:
            held = getattr(mixture, name)
            own = None if held is None else nn.Parameter(held.detach()[list(chosen)].clone())
            self.register_parameter(name, own)

    def each(self, dtype: torch.dtype) -> dict[int, Expert]:
        """By expert, in the dtype of products."""
        gate_up_EXD, down_EDF, *biases = (getattr(self, name) for name in STACKED)
        biases = [None if bias is None else bias.to(dtype) for bias in biases]
        own = one_by_one(gate_up_EXD.to(dtype), down_EDF.to(dtype), *biases)
        return dict(zip(self.chosen, own, strict=True))
