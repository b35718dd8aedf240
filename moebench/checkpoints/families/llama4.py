"""Llama 4: its router gives a score of every expert and its logits, without indices."""

from __future__ import annotations

from typing import Any

from moebench.checkpoints.families.family import Family
from moebench.models.lazy import Tensor


class Llama4(Family):
    """The k largest logits, as its router takes them."""

    def chosen(self, mixture: Any, output: Any) -> Tensor:
        chosen_TK: Tensor = output[1].topk(mixture.top_k, dim=1).indices
        return chosen_TK
