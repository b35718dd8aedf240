"""Feed-forward layers: the dense gated network, and the mixture of experts that stands in its place.

Both draw their initial weights from generators named by layer and expert, so that expert 0 of a mixture starts as the
dense network of the same width, and adding an expert moves no other weight. A mixture averages k experts, which would
shrink its output by the root of the sum of squared weights; its down projections start larger by the inverse, so that
dense and MoE outputs start at the same scale.

Legend: B batch, T tokens, D width, F hidden, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.model.experts import BACKENDS, swiglu
from moebench.model.init import normal_
from moebench.model.routers import Routing, router_class
from moebench.spec.types import DenseFFN, MoEFFN


class Dense(nn.Module):
    """down(silu(gate x) * up x), gate and up fused."""

    def __init__(self, ffn: DenseFFN, *, width: int) -> None:
        super().__init__()
        assert ffn.hidden is not None
        self.gate_up = nn.Parameter(torch.empty(2 * ffn.hidden, width))
        self.down = nn.Parameter(torch.empty(width, ffn.hidden))

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, None]:
        """The layer's output; there is no routing."""
        hidden = swiglu(F.linear(x_BTD, self.gate_up.to(x_BTD.dtype)))
        return F.linear(hidden, self.down.to(x_BTD.dtype)), None

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str, *, depth_scale: float) -> None:
        """Fills the weights in place; standard deviations are 1 over the root of the fan-in."""
        _initialise_expert(self.gate_up, self.down, seed, f"{prefix}.0", depth_scale=depth_scale)


class MoE(nn.Module):
    """A router, E experts, and a backend that computes the routed pairs."""

    def __init__(self, ffn: MoEFFN, *, width: int, backend: str) -> None:
        super().__init__()
        assert ffn.expert_hidden is not None
        router = router_class(ffn.router)
        self.router = router(ffn, width=width)
        self.gate_up = nn.Parameter(torch.empty(ffn.experts, 2 * ffn.expert_hidden, width))
        self.down = nn.Parameter(torch.empty(ffn.experts, width, ffn.expert_hidden))
        self.compute = BACKENDS[backend]
        self.initial_scale = 1 / router.output_scale(ffn)

    def forward(self, x_BTD: Tensor) -> tuple[Tensor, Routing]:
        """The layer's output and the routing that made it; every token of every sequence is routed on its own."""
        x_TD = x_BTD.reshape(-1, x_BTD.shape[-1])
        routing = self.router(x_TD)
        out_TD = self.compute(x_TD, routing, self.gate_up.to(x_TD.dtype), self.down.to(x_TD.dtype))
        return out_TD.view_as(x_BTD), routing

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str, *, depth_scale: float) -> None:
        """Fills router and experts in place; the router starts nearly undecided."""
        normal_(self.router.weight, seed, f"{prefix}.router", std=0.1 * self.router.weight.shape[1] ** -0.5)
        for expert in range(self.gate_up.shape[0]):
            scale = depth_scale * self.initial_scale
            _initialise_expert(self.gate_up[expert], self.down[expert], seed, f"{prefix}.{expert}", depth_scale=scale)


def _initialise_expert(gate_up_2FD: Tensor, down_DF: Tensor, seed: int, prefix: str, *, depth_scale: float) -> None:
    normal_(gate_up_2FD, seed, f"{prefix}.gate_up", std=gate_up_2FD.shape[1] ** -0.5)
    normal_(down_DF, seed, f"{prefix}.down", std=depth_scale * down_DF.shape[1] ** -0.5)
