"""Our decoder with its mixtures opened: other experts than the router's, and what each makes of a token.

A change stands in a hook on the layer's router while its context lasts, so weights are never written and every backend
computes what it would compute if the router itself had said so.

Legend: B sequences, T tokens, D width, E experts, K top-k, N routed pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from moebench.models.decoder.moe import MoE
from moebench.models.decoder.transformer import Transformer
from moebench.models.routers import Routing, Text
from moebench.models.subject import LayerRouting


class _Seen(Exception):  # noqa: N818  reads as what happened
    """What was to be seen has been."""


@dataclass(frozen=True)
class OpenedDecoder:
    """See `models.subject.Opened`."""

    model: Transformer

    def _mixture(self, layer: int) -> MoE:
        mixture = self.model.layers[layer].ffn
        assert isinstance(mixture, MoE)
        return mixture

    @contextmanager
    def _rerouted(self, layer: int, change: Callable[[MoE, Tensor, Routing], Routing]) -> Iterator[None]:
        """Inside, a change of (mixture, what its router saw, its routing) stands in the place of the routing."""
        mixture = self._mixture(layer)

        def hook(_module: object, inputs: tuple[Tensor, Text], routing: Routing) -> Routing:
            return change(mixture, inputs[0], routing)

        handle = mixture.router.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def moved(self, layer: int, order_E: Tensor) -> Iterator[None]:
        def change(_mixture: MoE, _x_TD: Tensor, routing: Routing) -> Routing:
            return replace(routing, expert_N=order_E[routing.expert_N])

        with self._rerouted(layer, change):
            yield

    @contextmanager
    def sent(self, layer: int, experts_TK: Tensor) -> Iterator[None]:
        def change(mixture: MoE, x_TD: Tensor, _routing: Routing) -> Routing:
            weighed = mixture.router.weigh(x_TD, experts_TK)
            if weighed is None:
                raise ValueError(f"{mixture.router.ffn.router} does not say what other experts would weigh")
            weights_TK, chosen_TK = weighed
            return mixture.router.full_routing(chosen_TK, weights_TK, {})

        with self._rerouted(layer, change):
            yield

    @torch.inference_mode()
    def outputs(self, layer: int, tokens_BT: Tensor, *, untrained: int | None = None) -> Tensor:
        mixture, seen = self._mixture(layer), list[Tensor]()

        def note(_module: object, inputs: tuple[Tensor, Text]) -> None:
            seen.append(inputs[0])
            raise _Seen

        handle = mixture.register_forward_pre_hook(note)
        self.model.eval()
        try:
            self.model(tokens_BT)
        except _Seen:
            pass
        finally:
            handle.remove()
        x_TD = seen[0].flatten(0, 1)
        if untrained is not None:
            mixture = deepcopy(mixture)
            mixture.initialise(untrained, f"layers.{layer}", depth_scale=1.0)
        experts, every_T = mixture.experts(x_TD.dtype), torch.arange(len(x_TD), device=x_TD.device)
        ones_T = torch.ones(len(x_TD), device=x_TD.device)
        routing = Routing(token_N=every_T, expert_N=every_T, weight_N=ones_T, per_token=1, dropped=0, losses={})
        return torch.stack(
            [
                mixture.compute(x_TD, replace(routing, expert_N=torch.full_like(every_T, expert)), experts)
                for expert in range(len(mixture.gate_up))
            ]
        )

    @torch.inference_mode()
    def drawn(self, tokens_BT: Tensor, seed: int) -> tuple[LayerRouting, ...]:
        draws = torch.Generator(device=tokens_BT.device).manual_seed(seed)
        self.model.train()
        try:
            routings = self.model.route(tokens_BT, generator=draws)
        finally:
            self.model.eval()
        return tuple(
            LayerRouting(layer=layer, token_N=routing.token_N, expert_N=routing.expert_N, dropped=routing.dropped)
            for layer, routing in zip(self.model.architecture.moe_layers, routings, strict=True)
        )
