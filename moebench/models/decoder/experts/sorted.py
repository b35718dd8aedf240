"""For CPUs: assignments sorted by expert, one product per expert and direction, gradients written once, by hand.

It chooses by shape, as measured (`nox -s bench`): a decoding step of few assignments copies out their experts'
weights when those are small, or goes one by one; everything else goes through `blocks`. Group sizes are read on the
host.

Legend: T tokens, D width, F expert hidden, X rows of the input projection, E experts, N assignments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.blocks import blocks
from moebench.models.decoder.experts.weights import Experts
from moebench.models.decoder.products import linear
from moebench.models.routers import Routing

GATHERED_EXPERT_BYTES, GATHERED_BYTES = 2**15, 2**20
"""Experts this small, and this much of them in all, are copied out: cheaper than a product an expert."""
SINGLE_ASSIGNMENTS = 8
"""Up to this many assignments of larger experts are computed one by one when no gradient is wanted."""


def sorted_loop(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """The fastest code path of a CPU for this shape."""
    few_TD = _few(x_TD, routing, experts)
    return blocks(x_TD, routing, experts) if few_TD is None else few_TD


def _few(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor | None:
    """A decoding step of few assignments; None for other shapes."""
    if torch.is_grad_enabled():
        return None
    num_assignments = routing.expert_N.numel()
    if experts.bytes_each <= GATHERED_EXPERT_BYTES and num_assignments * experts.bytes_each <= GATHERED_BYTES:
        return _gathered(x_TD, routing, experts)
    return _singly(x_TD, routing, experts) if num_assignments <= SINGLE_ASSIGNMENTS else None


def _gathered(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Every assignment's own copy of its expert's weights, and two batched products; forward alone."""
    x_ND1 = x_TD.index_select(0, routing.token_N).unsqueeze(2)
    hidden_NX = torch.bmm(experts.gate_up_EXD.index_select(0, routing.expert_N), x_ND1).squeeze(2)
    if experts.gate_up_bias_EX is not None:
        hidden_NX = hidden_NX + experts.gate_up_bias_EX.index_select(0, routing.expert_N)
    hidden_NF = activate(experts.activation, hidden_NX)
    y_ND = torch.bmm(experts.down_EDF.index_select(0, routing.expert_N), hidden_NF.unsqueeze(2)).squeeze(2)
    if experts.down_bias_ED is not None:
        y_ND = y_ND + experts.down_bias_ED.index_select(0, routing.expert_N)
    y_ND = y_ND * routing.weight_N[:, None].to(y_ND.dtype)
    if routing.per_token is None:
        return torch.zeros_like(x_TD).index_add(0, routing.token_N, y_ND)
    return y_ND.view(-1, routing.per_token, y_ND.shape[1]).sum(1)


def _singly(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """One assignment after the other, reading only the weights of the experts used; forward alone."""
    out_TD = torch.zeros_like(x_TD)
    for token, expert, weight in zip(
        routing.token_N.tolist(), routing.expert_N.tolist(), routing.weight_N, strict=True
    ):
        gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
        down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
        hidden_F = activate(experts.activation, linear(x_TD[token], experts.gate_up_EXD[expert], gate_up_bias_X))
        out_TD[token].addcmul_(linear(hidden_F, experts.down_EDF[expert], down_bias_D), weight.to(out_TD.dtype))
    return out_TD
