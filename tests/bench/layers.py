"""Contenders of a layer: our mixture, the dense network of equal active FLOPs, transformers' experts, slow backends.

All mixtures have the same weights and see the same tokens, so they do the same work; the first thing a bench does is to
hold their outputs equal. The whole layer is timed, router included, balance loss not.

Legend: T tokens, D width, E experts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.race import Contender
from moebench.models.decoder.experts import default_backend
from moebench.models.decoder.moe import Dense, MoE
from moebench.models.routers import Text
from moebench.suite.model import DenseFFN, MoEFFN

SLOW = ("loop",)
"""Expert compute that no run takes."""
ROUTER_SCALE = 10.0
"""Times its initial weights: trained routers decide, fresh ones hardly do."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One size of a mixture; the dense network is as wide as the experts of a token together."""

    tokens: int
    width: int
    experts: int
    top_k: int

    @property
    def active_hidden(self) -> int:
        """8/3 of the width rounded to 64, as gated networks are, and a multiple of k."""
        hidden = round(self.width * 8 / 3 / 64) * 64
        assert hidden % self.top_k == 0
        return hidden

    def flops(self, *, backward: bool) -> int:
        """Of the mixture, 2 per multiply-add: three matrices of the active experts, and the router."""
        forward = 2 * self.tokens * self.width * (3 * self.active_hidden + self.experts)
        return 3 * forward if backward else forward

    def as_row(self) -> dict[str, int]:
        return asdict(self)


class Bench:
    """Weights, inputs and contenders of one shape."""

    def __init__(self, shape: Shape, *, device: str, dtype: torch.dtype) -> None:
        self.shape, self.device, self.dtype = shape, device, dtype
        generator = torch.Generator().manual_seed(0)
        x_TD, grad_TD = (torch.randn(shape.tokens, shape.width, generator=generator) for _ in range(2))
        self.x_1TD = x_TD.to(device, dtype)[None].requires_grad_()
        self.grad_1TD = grad_TD.to(device, dtype)[None]
        self.text = Text(ids_BT=torch.zeros(1, shape.tokens, dtype=torch.int64, device=device))

    def contenders(self, *, backward: bool, slow: bool) -> dict[str, Contender]:
        """By name; slow backends when asked for."""
        ours = self._mixture(default_backend(self.device))
        modules: dict[str, nn.Module] = {"ours": ours, "dense": self._dense()}
        for word in ("eager", "grouped_mm"):
            modules[word] = self._transformers(ours, word)
        if slow:
            modules |= {word: self._mixture(word) for word in SLOW}
        self._assert_same(modules)
        return {name: self._contender(module, backward=backward) for name, module in modules.items()}

    def _mixture(self, backend: str) -> MoE:
        shape = self.shape
        hidden = shape.active_hidden // shape.top_k
        ffn = MoEFFN(kind="moe", experts=shape.experts, top_k=shape.top_k, expert_hidden=hidden, balance_loss=0.0)
        module = MoE(ffn, width=shape.width, vocab=256, layer=0, backend=backend)
        module.initialise(0, "bench", depth_scale=1.0)
        with torch.no_grad():
            module.router.weight.mul_(ROUTER_SCALE)  # type: ignore[operator]
        return module.to(self.device, self.dtype)

    def _dense(self) -> Dense:
        module = Dense(DenseFFN(kind="dense", hidden=self.shape.active_hidden), width=self.shape.width)
        module.initialise(0, "bench", depth_scale=1.0)
        return module.to(self.device, self.dtype)

    @torch.no_grad()
    def _transformers(self, ours: MoE, experts_implementation: str) -> nn.Module:
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        shape = self.shape
        config = MixtralConfig(
            hidden_size=shape.width,
            intermediate_size=shape.active_hidden // shape.top_k,
            num_local_experts=shape.experts,
            num_experts_per_tok=shape.top_k,
            router_jitter_noise=0.0,
        )
        config._experts_implementation = experts_implementation
        block: nn.Module = MixtralSparseMoeBlock(config).to(self.device, self.dtype)
        block.gate.weight.copy_(ours.router.weight)  # type: ignore[operator, union-attr]
        block.experts.gate_up_proj.copy_(ours.gate_up)  # type: ignore[operator, union-attr]
        block.experts.down_proj.copy_(ours.down)  # type: ignore[operator, union-attr]
        return block

    def _forward(self, module: nn.Module) -> Tensor:
        out: Any = module(self.x_1TD, self.text) if isinstance(module, (MoE, Dense)) else module(self.x_1TD)
        return out[0] if isinstance(out, tuple) else out

    @torch.no_grad()
    def _assert_same(self, modules: dict[str, nn.Module]) -> None:
        """Whoever computes something else does not race. bfloat16 may send a token elsewhere, so most must agree."""
        expected = self._forward(modules["ours"])
        for name, module in modules.items():
            if name != "dense":
                apart_T = (self._forward(module) - expected)[0].abs().amax(1).float()
                near_T = apart_T <= (1e-4 if self.dtype == torch.float32 else 0.1) * expected.abs().max().float()
                assert near_T.float().mean() >= 0.99, f"{name} computes something else"

    def _contender(self, module: nn.Module, *, backward: bool) -> Contender:
        return Contender(run=self._with_gradients(module) if backward else self._without(module))

    def _with_gradients(self, module: nn.Module) -> Callable[[], None]:
        leaves = [*module.parameters(), self.x_1TD]

        def run() -> None:
            self._forward(module).backward(self.grad_1TD)
            for leaf in leaves:
                leaf.grad = None

        return run

    def _without(self, module: nn.Module) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            self._forward(module)

        return run
