"""What is done to the weights of a trained model without training it: what every such transform answers.

A transform is one file: its options, as a suite writes them, which are the whole of it; what it makes of a mixture's
sizes and of a model's counts; and what it does to weights. What is stored may be packed: `unpacked` gives the weights
that the decoder computes with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from moebench.frozen import Frozen
from moebench.models.lazy import Tensor

if TYPE_CHECKING:
    from moebench.counting.costs import Costs as Costs
    from moebench.models.architecture import Architecture as Architecture

    FFN = Any
else:
    Architecture = Costs = FFN = Any  # a mixture is made of what stands here; only annotations name these

Weights = Mapping[str, Tensor]
"""Name in a decoder's state -> its values."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a transform starts from."""

    weights: Weights
    architecture: Architecture
    seed: int
    loads: Callable[[], Tensor]
    """Pairs of each mixture and expert on text of the tune split, [mixtures, experts]: never of the test split."""

    @property
    def ffn(self) -> FFN:
        """Its network, as a suite says it."""
        return self.architecture.ffn


class Transform(Frozen):
    """Base of the options of each; types of it are frozen and have no state."""

    word: ClassVar[str]
    """Its key in a suite."""
    unpacks: ClassVar[bool] = False
    """Whether it is computed with other weights than are stored, so that its time and memory are not its own."""

    def misfit(self, ffn: FFN) -> tuple[str, str, str | None] | None:
        """(key, what is wrong, what would do) for a model with such a network, as a suite says it."""
        raise NotImplementedError

    def of_ffn(self, ffn: FFN) -> FFN:
        """What it makes of a model's network, as a suite says it."""
        return ffn

    def costs(self, costs: Costs, architecture: Architecture, *, dtype: str) -> Costs:  # noqa: ARG002
        """What it makes of the counts of a model, which are those of the `architecture` it has become."""
        return costs

    def applied(self, given: Given) -> dict[str, Tensor]:
        """What is stored."""
        raise NotImplementedError

    def unpacked(self, stored: Weights, architecture: Architecture) -> Weights:  # noqa: ARG002
        """The weights of the decoder that it has become."""
        return stored

    def says(self, ffn: FFN, *, tied: bool) -> str:
        """What was done to a model with such a network, in words that follow its name: `quantised to 4 bits`."""
        raise NotImplementedError
