"""Every expert's rows padded with zeros to the longest, and two batched products.

Kept as a contender of the benches, chosen for no device: uneven loads waste what the batch saves (`nox -s bench`), and
the length of the longest is asked of the host.

Legend: T tokens, D width, X rows of the input projection, F expert hidden, E experts, S sorted pairs, M rows of the
longest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.dispatch import by_expert, combine, dispatch
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing


def padded(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Any activation, biases, any number of pairs a token; plain autograd."""
    order_S, ends_E = by_expert(routing, num_experts=experts.num_experts)
    expert_S, starts_E = routing.expert_N[order_S], torch.cat((ends_E.new_zeros(1), ends_E[:-1])).long()
    longest = _longest(routing, experts.num_experts)
    place_S = expert_S * longest + torch.arange(expert_S.numel(), device=expert_S.device) - starts_E[expert_S]
    x_SD = dispatch(x_TD, routing, order_S)
    x_EMD = x_SD.new_zeros(experts.num_experts * longest, x_TD.shape[1]).index_copy(0, place_S, x_SD)
    hidden_EMX = torch.bmm(x_EMD.view(experts.num_experts, longest, -1), experts.gate_up_EXD.transpose(1, 2))
    if experts.gate_up_bias_EX is not None:
        hidden_EMX = hidden_EMX + experts.gate_up_bias_EX[:, None]
    y_EMD = torch.bmm(activate(experts.activation, hidden_EMX), experts.down_EDF.transpose(1, 2))
    if experts.down_bias_ED is not None:
        y_EMD = y_EMD + experts.down_bias_ED[:, None]
    y_SD = y_EMD.flatten(0, 1).index_select(0, place_S) * routing.weight_N[order_S, None].to(y_EMD.dtype)
    return combine(y_SD, routing, order_S, num_tokens=x_TD.shape[0])


def _longest(routing: Routing, num_experts: int) -> int:
    return int(torch.bincount(routing.expert_N, minlength=num_experts).max())
