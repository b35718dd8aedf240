"""The oracle: one expert after the other, in autograd's own words.

Legend: T tokens, D width, X rows of the input projection, F expert hidden, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing


def loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """One expert after the other, in autograd's own words."""
    out_TD = torch.zeros_like(x_TD)
    # unbind, not weight[e]: the backward of an index fills a gradient of all experts with zeros, once per expert.
    weights = zip(experts.gate_up_EXD.unbind(), experts.down_EDF.unbind(), strict=True)
    for expert, (gate_up_XD, down_DF) in enumerate(weights):
        assignments = (routing.expert_N == expert).nonzero().squeeze(1)
        token = routing.token_N[assignments]
        gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
        down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
        hidden = activate(experts.activation, F.linear(x_TD[token], gate_up_XD, gate_up_bias_X))
        y = F.linear(hidden, down_DF, down_bias_D)
        out_TD = out_TD.index_add(0, token, y * routing.weight_N[assignments, None].to(y.dtype))
    return out_TD
