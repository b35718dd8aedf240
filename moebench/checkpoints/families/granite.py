"""Granite: logits are divided by a number of its configuration."""

from __future__ import annotations

from typing import Any

from moebench.checkpoints.families.family import Family
from moebench.models.lazy import Tensor


class Granite(Family):
    """Scaled logits."""

    def logits(self, model: Any, hidden_TD: Tensor) -> Tensor:
        logits: Tensor = super().logits(model, hidden_TD) / model.config.logits_scaling
        return logits
