"""DBRX: its router gives logits alone, and the mixture chooses the experts from them."""

from __future__ import annotations

from typing import Any

from moebench.checkpoints.families.family import Family
from moebench.models.lazy import Tensor


class Dbrx(Family):
    """As its mixture does."""

    def chosen(self, mixture: Any, output: Any) -> Tensor:
        chosen_TK: Tensor = mixture.route_tokens_to_experts(output)[1]
        return chosen_TK
