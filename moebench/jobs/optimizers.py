"""The optimizers of training: AdamW, or Muon for matrices with AdamW for the rest.

AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) decays what is a matrix; norms and biases are not decayed. Muon
(Jordan 2024, https://kellerjordan.github.io/posts/muon/) makes the momentum of a matrix orthogonal by five steps of a
Newton-Schulz iteration. It is scaled by 0.2 sqrt(max(rows, columns)), with which an update is as large as AdamW's, so
that AdamW's rates and decay carry over (Liu et al. 2025, arXiv:2502.16982, eq. 4). A matrix is what a product is taken
with: each expert's is its own, and so are gate and up, which are stored as one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from moebench.jobs.recipe import Recipe
from moebench.models.decoder import Transformer
from moebench.suite.activations import GATED

NEWTON_SCHULZ, STEPS, TINY = (3.4445, -4.7750, 2.0315), 5, 1e-7
"""Coefficients of the quintic iteration, how often it is done, and the least norm that is divided by."""


def make_optimizer(model: Transformer, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, or Muon for hidden matrices, of what has a gradient. A group's `rate` is a multiple of the schedule's."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    hidden = dict(_matrices(model)) if recipe.optimizer == "muon" else {}
    matrices = {name: count for name, count in hidden.items() if name in trained}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        if name not in matrices:
            decay = recipe.weight_decay if parameter.ndim >= 2 and not name.endswith("bias") else 0.0
            groups.setdefault((decay, recipe.router_lr if ".router." in name else 1.0), []).append(parameter)
    listed = [{"params": some, "weight_decay": decay, "rate": rate} for (decay, rate), some in groups.items()]
    listed = listed or [{"params": []}]  # where Muon has everything
    adamw = torch.optim.AdamW(listed, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, fused=True)
    if not matrices:
        return adamw
    assert recipe.momentum is not None
    return Muon(
        [(trained[name], count) for name, count in matrices.items()],
        adamw,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        dtype=torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32,
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate", 1.0)


def _matrices(model: Transformer) -> Iterator[tuple[str, int]]:
    """(parameter, matrices stacked in its rows) of attention and feed-forward networks: no table, router or gate."""
    ffn = model.architecture.ffns
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        if parts[0] != "layers" or "router" in parts or parameter.ndim < 2:
            continue
        if parts[2] == "attention" and parts[-1] in ("query", "key", "value", "output"):
            yield name, 1
        elif parts[2] == "ffn" and parts[-1] in ("gate_up", "down"):
            yield name, 2 if parts[-1] == "gate_up" and ffn[int(parts[1])].activation in GATED else 1


class Muon(torch.optim.Optimizer):
    """Muon for matrices, and in the same step AdamW for what is not given to it."""

    def __init__(
        self,
        matrices: list[tuple[nn.Parameter, int]],
        adamw: torch.optim.AdamW,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Of each parameter [..., rows, columns] it is told how many matrices its rows hold."""
        facts = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": [parameter for parameter, _ in matrices], "rate": 1.0}], facts)
        self.adamw, self.dtype = adamw, dtype
        self.stacked: Mapping[nn.Parameter, int] = dict(matrices)
        adamw.state = self.state  # one state and one list of groups: who saves, restores or counts them sees all
        self.param_groups += adamw.param_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Moves every parameter that has a gradient."""
        assert closure is None
        self.adamw.step()
        group = self.param_groups[0]
        by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                update = self._momentum(parameter, group["momentum"])
                rows = parameter.shape[-2] // self.stacked[parameter]
                shape = (-1, rows, parameter.shape[-1])
                by_shape.setdefault(shape, []).append((parameter.view(shape), update.view(shape)))
        for (_, rows, columns), found in by_shape.items():
            made_NXY = orthogonal(torch.cat([update for _, update in found]), dtype=self.dtype)
            scale = 0.2 * math.sqrt(max(rows, columns))
            for (weight_NXY, _), update_NXY in zip(
                found, torch.split(made_NXY, [len(w) for w, _ in found]), strict=True
            ):
                weight_NXY.mul_(1 - group["lr"] * group["weight_decay"])
                weight_NXY.add_(update_NXY, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's: the gradient once more, on the way to its running mean."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        mean: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)


def orthogonal(matrix_NXY: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Of each matrix U S V^T nearly U V^T, computed in `dtype`: singular values end between about 0.7 and 1.2."""
    a, b, c = NEWTON_SCHULZ
    x_NXY, tall = matrix_NXY.to(dtype), matrix_NXY.shape[1] > matrix_NXY.shape[2]
    if tall:
        x_NXY = x_NXY.mT
    x_NXY = x_NXY / x_NXY.norm(dim=(1, 2), keepdim=True).clamp(min=TINY)
    for _ in range(STEPS):
        gram_NXX = x_NXY @ x_NXY.mT
        x_NXY = torch.baddbmm(x_NXY, torch.baddbmm(gram_NXX, gram_NXX, gram_NXX, beta=b, alpha=c), x_NXY, beta=a)
    return x_NXY.mT if tall else x_NXY
