"""What a plan knows of a router, so that counts, verdicts and reports need no router and no torch."""

from __future__ import annotations

from typing import Literal

from moebench.counting.blueprint import BuiltRouter
from moebench.frozen import Frozen, later
from moebench.plugins import PluginCode


class RouterFacts(Frozen):
    """What a router declares, and what one layer of it counts; of an installed package's, what was built and tried."""

    causal: bool
    """Whether a token's experts depend on no later token and on no other sequence, once trained."""
    learned: bool
    """Whether any of its weights is trained."""
    losses: tuple[str, ...]
    """Its auxiliary losses, each named as its coefficient."""
    even: bool
    """Whether its experts get equally many tokens whatever it learns."""
    fewer: Literal["training", "always"] | None
    """When it may itself give a token fewer than top_k experts, capacity aside; None where it never does."""
    selection_bias: bool
    """Whether it keeps a number an expert, moved by load and by no gradient."""
    parameters: int
    """Of one layer's router, those that are not trained included."""
    untrained_parameters: int
    """Those of them that are not trained."""
    multiply_adds: int
    """Of routing one token in an evaluation."""
    training_multiply_adds: int
    code: PluginCode | None = later()
    """Of an installed package's router; None for ours."""

    @property
    def counts(self) -> BuiltRouter:
        """What is counted of it."""
        return BuiltRouter(
            parameters=self.parameters,
            untrained_parameters=self.untrained_parameters,
            multiply_adds=self.multiply_adds,
            training_multiply_adds=self.training_multiply_adds,
        )
