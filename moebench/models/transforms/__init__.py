"""What is done to trained weights without training them: one file a transform.

Another is its file, a line in `TRANSFORMS` and a field of `Stage`. Importing this package loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from moebench.frozen import Frozen, later
from moebench.models.lazy import Tensor
from moebench.models.transforms.prune import Prune
from moebench.models.transforms.quantise import Quantise
from moebench.models.transforms.route import Route
from moebench.models.transforms.transform import Architecture
from moebench.models.transforms.transform import Given as Given
from moebench.models.transforms.transform import Transform as Transform

TRANSFORMS: dict[str, type[Transform]] = {one.word: one for one in (Quantise, Prune, Route)}
"""Word -> transform."""


class Stage(Frozen):
    """What is done to the weights of the model that another starts from: one transform, or none where it is trained."""

    quantise: Quantise | None = later()
    """The weights in fewer bits, rounded to the nearest: {bits: 4, group: 32, of: all}."""
    prune: Prune | None = later()
    """Fewer experts: {experts: 25%, by: load} or {keep: 6}."""
    route: Route | None = later()
    """Another number of experts a token: {top_k: 1}."""

    @property
    def transform(self) -> Transform | None:
        """The one that is asked for."""
        asked = (getattr(self, word) for word in TRANSFORMS)
        return next((one for one in asked if one is not None), None)

    @property
    def stage(self) -> Stage:
        """These fields alone."""
        return Stage(**{word: getattr(self, word) for word in TRANSFORMS})


def unpacked(stage: Stage | None, stored: Mapping[str, Tensor], architecture: Architecture) -> Mapping[str, Tensor]:
    """The weights that a decoder computes with, of what a run has stored. Raises ValueError or RuntimeError where that
    is not what its stage stores."""
    transform = None if stage is None else stage.transform
    return stored if transform is None else transform.unpacked(stored, architecture)
