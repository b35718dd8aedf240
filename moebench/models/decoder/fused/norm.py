"""RMSNorm with its backward: y = x r w, r = 1 / sqrt(mean x^2 + eps).

    dx = r (g w) - x r^3 / D * sum over D of g w x        dw = sum over rows of g x r

Legend: R rows, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """RMSNorm over the last axis; float32 on a CPU."""
    out: Tensor = _RMSNorm.apply(x, weight_D, eps)  # type: ignore[no-untyped-call]
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
        x_RD = x.reshape(-1, x.shape[-1])
        scale_R = torch.linalg.vecdot(x_RD, x_RD).div_(x_RD.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_RD, weight_D, scale_R)
        y_RD: Tensor = (x_RD * scale_R[:, None]).mul_(weight_D)
        return y_RD.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x_RD, weight_D, scale_R = ctx.saved_tensors
        grad_RD = grads[0].reshape(x_RD.shape)
        product_RD = grad_RD * x_RD
        shrink_R = torch.mv(product_RD, weight_D).mul_(scale_R.pow(3)).div_(-x_RD.shape[1])
        grad_weight_D = torch.mv(product_RD.t(), scale_R)
        grad_x_RD = torch.mul(grad_RD, weight_D, out=product_RD)
        grad_x_RD.mul_(scale_R[:, None]).addcmul_(x_RD, shrink_R[:, None])
        return grad_x_RD.view_as(grads[0]), grad_weight_D, None
