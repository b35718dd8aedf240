"""The transform route: the same weights, asked for another number of experts a token.

Its router was trained for another number: a top-2 model asked for one expert is out of its training, so what is found
is what those weights do, not what a model trained so would do. The chosen experts' weights are made to add up to 1,
where the router's rule leaves that open.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from moebench.models.lazy import Tensor
from moebench.models.routers import router_class
from moebench.models.transforms.transform import FFN, Given, Transform


class Route(Transform):
    """Another number of experts a token."""

    word: ClassVar[str] = "route"

    top_k: Annotated[int, Field(ge=1, le=1024)]
    """Experts that a token goes to. Their weights add up to 1."""

    def misfit(self, ffn: FFN) -> tuple[str, str, str | None] | None:
        if ffn.kind != "moe":
            return "top_k", "it has no experts to route to", "start from a mixture"
        if self.top_k > ffn.experts:
            return "top_k", f"top_k {self.top_k} is more than the {ffn.experts} experts there are", None
        router = router_class(ffn.router)
        if not router.any_top_k:
            return "top_k", f"its router {ffn.router} takes the experts that it has for a token, and no others", None
        if (wrong := router.unfit(self.of_ffn(ffn))) is not None:
            return "top_k", wrong[1], None
        return None

    def of_ffn(self, ffn: FFN) -> FFN:
        if self.top_k == ffn.top_k:
            return ffn
        return ffn.model_copy(update={"top_k": self.top_k, "renormalise": True})

    def applied(self, given: Given) -> dict[str, Tensor]:
        return dict(given.weights)

    def says(self, ffn: FFN, *, tied: bool) -> str:  # noqa: ARG002
        if self.top_k == ffn.top_k:
            return f"asked for top-{self.top_k}, as it was trained"
        weights = "their weights made to add up to 1" if self.top_k > 1 else "which weighs 1"
        experts = "experts" if self.top_k > 1 else "expert"
        return f"asked for {self.top_k} {experts} a token, {weights}, though trained with {ffn.top_k}"
