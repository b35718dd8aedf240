"""Feed-forward layers: the dense network, and the mixture of experts that stands in its place.

Both draw their initial weights from generators named by layer and expert, so that expert 0 of a mixture starts as the
dense network of the same width, and adding an expert moves no other weight. A mixture averages k experts, which would
shrink its output by the root of the sum of squared weights; its down projections start larger by the inverse, so that
dense and MoE outputs start at the same scale. A shared expert and the routed ones each start at half of the variance.

Legend: B batch, T tokens, D width, F hidden, X rows of the input projection (2F when gated, else F), E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder.adapters import TrainedApart, adapted
from moebench.models.decoder.experts import BACKENDS, Experts
from moebench.models.decoder.experts.activations import activate, initial_scale
from moebench.models.initial import normal_
from moebench.models.routers import Routing, Text, router_class
from moebench.suite.activations import input_matrices
from moebench.suite.model import DenseFFN, MoEFFN


class Dense(nn.Module):
    """down(silu(gate x) * up x), gate and up fused; or another activation of the suite's words."""

    def __init__(self, ffn: DenseFFN, *, width: int) -> None:
        super().__init__()
        assert ffn.hidden is not None
        self.activation = ffn.activation
        self.gate_up = nn.Parameter(torch.empty(input_matrices(ffn.activation) * ffn.hidden, width))
        self.down = nn.Parameter(torch.empty(width, ffn.hidden))
        self.lora: nn.ModuleDict | None = None
        """Adapters of its matrices, by name; see `adapters`."""

    def forward(self, x_BTD: Tensor, _text: Text | None = None) -> tuple[Tensor, None]:
        """The layer's output; there is no routing."""
        x_BTX = adapted(x_BTD, self.gate_up.to(x_BTD.dtype), None, self.lora, "gate_up")
        hidden = activate(self.activation, x_BTX)
        return adapted(hidden, self.down.to(x_BTD.dtype), None, self.lora, "down"), None

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str, *, depth_scale: float) -> None:
        """Fills the weights in place; standard deviations are 1 over the root of the fan-in."""
        depth_scale *= initial_scale(self.activation)
        _initialise_expert(self.gate_up, self.down, seed, f"{prefix}.0", depth_scale=depth_scale)


class MoE(nn.Module):
    """A router, E experts, a backend that computes the routed assignments, and the shared expert if there is one."""

    def __init__(self, ffn: MoEFFN, *, width: int, vocab: int, layer: int, backend: str) -> None:
        super().__init__()
        assert ffn.expert_hidden is not None
        router = router_class(ffn.router)
        rows = input_matrices(ffn.activation) * ffn.expert_hidden
        self.activation = ffn.activation
        self.router = router(ffn, width=width, vocab=vocab, layer=layer)
        self.gate_up = nn.Parameter(torch.empty(ffn.experts, rows, width))
        self.down = nn.Parameter(torch.empty(ffn.experts, width, ffn.expert_hidden))
        self.gate_up_bias = nn.Parameter(torch.zeros(ffn.experts, rows)) if ffn.bias else None
        self.down_bias = nn.Parameter(torch.zeros(ffn.experts, width)) if ffn.bias else None
        self.lora: nn.ModuleDict | None = None
        """Adapters of the experts' matrices, by name; see `adapters`."""
        self.apart: TrainedApart | None = None
        """The experts that are trained, where others are not; the tensors above hold the others alone."""
        self.shared: Dense | None = None
        self.shared_gate: nn.Parameter | None = None
        if ffn.shared_hidden is not None:
            shared = DenseFFN(kind="dense", hidden=ffn.shared_hidden, activation=ffn.activation)
            self.shared = Dense(shared, width=width)
            self.shared_gate = nn.Parameter(torch.zeros(1, width)) if ffn.shared_gate else None
        self.compute = BACKENDS[backend]
        self.initial_scale = 1 / router.output_scale(ffn)

    def forward(self, x_BTD: Tensor, text: Text) -> tuple[Tensor, Routing]:
        """The layer's output and the routing that made it; every token of every sequence is routed on its own."""
        x_TD = x_BTD.reshape(-1, x_BTD.shape[-1])
        routing = self.router(x_TD, text)
        out_TD = self.compute(x_TD, routing, self.experts(x_TD.dtype))
        if self.shared is not None:
            shared_TD, _ = self.shared(x_TD)
            if self.shared_gate is not None:
                shared_TD = shared_TD * F.linear(x_TD, self.shared_gate.to(x_TD.dtype)).sigmoid()
            out_TD = out_TD + shared_TD
        return out_TD.view_as(x_BTD), routing

    def experts(self, dtype: torch.dtype) -> Experts:
        """The routed experts' weights in the dtype of their products."""
        return Experts(
            gate_up_EXD=self.gate_up.to(dtype),
            down_EDF=self.down.to(dtype),
            activation=self.activation,
            gate_up_bias_EX=None if self.gate_up_bias is None else self.gate_up_bias.to(dtype),
            down_bias_ED=None if self.down_bias is None else self.down_bias.to(dtype),
            apart=None if self.apart is None else self.apart.each(dtype),
            lora=self.lora,
        )

    @torch.no_grad()
    def permute(self, order_E: Tensor) -> None:
        """Puts expert `order_E[e]` in the place of expert e; the router does not hear of it."""
        for weights in (self.gate_up, self.down, self.gate_up_bias, self.down_bias):
            if weights is not None:
                weights.copy_(weights[order_E.to(weights.device)])

    @torch.no_grad()
    def initialise(self, seed: int, prefix: str, *, depth_scale: float) -> None:
        """Fills router and experts in place; biases and the shared expert's gate start at 0."""
        self.router.initialise(seed, f"{prefix}.router")
        if self.shared is not None:
            depth_scale *= 0.5**0.5
            gate = 0.5 if self.shared_gate is not None else 1.0  # sigmoid(0)
            self.shared.initialise(seed, f"{prefix}.shared", depth_scale=depth_scale / gate)
        scale = depth_scale * self.initial_scale
        scale *= initial_scale(self.activation)
        for expert in range(self.gate_up.shape[0]):
            _initialise_expert(self.gate_up[expert], self.down[expert], seed, f"{prefix}.{expert}", depth_scale=scale)


def _initialise_expert(gate_up_XD: Tensor, down_DF: Tensor, seed: int, prefix: str, *, depth_scale: float) -> None:
    normal_(gate_up_XD, seed, f"{prefix}.gate_up", std=gate_up_XD.shape[1] ** -0.5)
    normal_(down_DF, seed, f"{prefix}.down", std=depth_scale * down_DF.shape[1] ** -0.5)
