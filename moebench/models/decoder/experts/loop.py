"""The oracle: one expert after the other, in autograd's own words; the one backend of experts that are trained in part
or by adapters.

Legend: T tokens, R those of one expert, D width, X rows of the input projection, F expert hidden, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing


def loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """One expert after the other, in autograd's own words."""
    out_TD = torch.zeros_like(x_TD)
    for expert, (gate_up_XD, down_DF, gate_up_bias_X, down_bias_D) in enumerate(experts.each()):
        assignments = (routing.expert_N == expert).nonzero().squeeze(1)
        token = routing.token_N[assignments]
        x_RD = x_TD[token]
        hidden_RX = F.linear(x_RD, gate_up_XD, gate_up_bias_X)
        if experts.lora is not None:
            hidden_RX = hidden_RX + _added(experts.lora, "gate_up", expert, x_RD)
        hidden = activate(experts.activation, hidden_RX)
        y = F.linear(hidden, down_DF, down_bias_D)
        if experts.lora is not None:
            y = y + _added(experts.lora, "down", expert, hidden)
        out_TD = out_TD.index_add(0, token, y * routing.weight_N[assignments, None].to(y.dtype))
    return out_TD


def _added(adapters: nn.ModuleDict, name: str, expert: int, x_RI: Tensor) -> Tensor:
    added_RO: Tensor = adapters[name].of_expert(expert, x_RI)  # type: ignore[operator]
    return added_RO
