"""torch's grouped product over assignments sorted by expert: for CUDA, where nothing may ask the host.

Legend: T tokens, D width, X rows of the input projection, F expert hidden, E experts, S sorted assignments.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.dispatch import by_expert, combine, dispatch
from moebench.models.decoder.experts.weights import Experts
from moebench.models.routers import Routing

ALIGNED_BYTES = 16
"""Rows of grouped products must be multiples of this."""


def grouped_mm(x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
    """Two grouped products: no host synchronisation.

    Widths whose rows are no multiple of 16 bytes (4 numbers in float32, 8 in bfloat16) are padded with zeros for the
    products, which changes no sum.
    """
    order_S, ends_E = by_expert(routing, num_experts=experts.num_experts)
    x_SD, expert_S = dispatch(x_TD, routing, order_S), routing.expert_N[order_S]
    hidden_SX = _product(x_SD, experts.gate_up_EXD, ends_E)
    if experts.gate_up_bias_EX is not None:
        hidden_SX = hidden_SX + experts.gate_up_bias_EX.index_select(0, expert_S)
    y_SD = _product(activate(experts.activation, hidden_SX), experts.down_EDF, ends_E)
    if experts.down_bias_ED is not None:
        y_SD = y_SD + experts.down_bias_ED.index_select(0, expert_S)
    return combine(y_SD * routing.weight_N[order_S, None].to(y_SD.dtype), routing, order_S, num_tokens=x_TD.shape[0])


def _product(x_SI: Tensor, weight_EOI: Tensor, ends_E: Tensor) -> Tensor:
    """x W[expert]^T for rows sorted by expert; [S, O] from [S, I]."""
    rows, columns = weight_EOI.shape[1:]
    step = ALIGNED_BYTES // x_SI.element_size()
    more_rows, more_columns = -rows % step, -columns % step
    if more_rows or more_columns:
        weight_EOI = F.pad(weight_EOI, (0, more_columns, 0, more_rows))
        x_SI = F.pad(x_SI, (0, more_columns))
    y_SO = F.grouped_mm(x_SI.contiguous(), weight_EOI.transpose(1, 2), offs=ends_E)
    return y_SO[:, :rows] if more_rows else y_SO
