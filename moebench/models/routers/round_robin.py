"""The router round_robin: what more parameters give without any routing."""

from __future__ import annotations

from moebench.models.lazy import Tensor, torch
from moebench.models.routers.options import MoEFFN
from moebench.models.routers.routing import Router, Routing, Text


class Fixed(Router):
    """Routing without weights, that looks at no vector: each of the k experts weighs 1/k."""

    learned = False

    @classmethod
    def rows(cls, _ffn: MoEFFN) -> int:
        return 0

    def equally(self, x_TD: Tensor, experts_TK: Tensor) -> Routing:
        """Every token to its experts, all with one weight."""
        weights_TK, experts_TK = self.weigh(x_TD, experts_TK)
        return self.full_routing(experts_TK, weights_TK, {})

    def weigh(self, x_TD: Tensor, experts_TK: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full((x_TD.shape[0], self.top_k), 1 / self.top_k, device=x_TD.device), experts_TK


class RoundRobin(Fixed):
    """Experts in turn by position: perfectly balanced, blind to content; a control.

    expert j of position p in layer l:  (k p + j + l) mod E
    """

    source = "control of this suite"
    causal = True
    options = ()
    even = True

    def choose(self, x_TD: Tensor, text: Text) -> Routing:
        turn_K = torch.arange(self.top_k, device=x_TD.device) + self.layer
        return self.equally(x_TD, (text.position_T[:, None] * self.top_k + turn_K) % self.experts)
