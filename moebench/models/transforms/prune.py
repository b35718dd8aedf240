"""The transform prune: a mixture without some of its experts, their rows of the router gone with them.

In each layer those go that had the fewest tokens of the tune split, those with the smallest weights, or those that the
seed draws: the control, for what any experts less would cost. The test split has no part in the choice.

Legend: L mixtures, E experts, K experts kept.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from moebench.amounts import Amount, FieldError
from moebench.models.initial import generator
from moebench.models.lazy import Tensor, torch
from moebench.models.routers import router_class
from moebench.models.transforms.transform import FFN, Given, Transform

EXPERTS = ("gate_up", "down", "gate_up_bias", "down_bias")
"""A mixture's weights with a row an expert."""


class Prune(Transform):
    """Fewer experts."""

    word: ClassVar[str] = "prune"

    experts: Amount | None = None
    """Share of each layer's experts that go, such as 25%."""
    keep: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Experts that stay in each layer."""
    by: Literal["load", "norm", "chance"] = "load"
    """Those with the most tokens of the tune split stay, or with the largest weights; or the seed draws them."""

    @model_validator(mode="after")
    def _one_number(self) -> Prune:
        if (self.experts is None) == (self.keep is None):
            raise FieldError("experts", "give one of `experts`, the share that goes, and `keep`, the number that stays")
        if self.experts is not None and not (self.experts.relative and 0 <= self.experts.value < 1):
            raise FieldError("experts", "experts is the share that goes, such as 25%: `keep` has a number")
        return self

    def misfit(self, ffn: FFN) -> tuple[str, str, str | None] | None:
        key = "keep" if self.experts is None else "experts"
        if ffn.kind != "moe":
            return key, "it has no experts to prune", "start from a mixture"
        if self.experts is not None and abs((gone := self.experts.value * ffn.experts) - round(gone)) > 1e-6:
            return key, f"{self.experts} of {ffn.experts} experts is {gone:.3g}, no whole number", "use `keep`"
        kept = self.kept(ffn)
        if kept > ffn.experts:
            return key, f"keep {kept} is more than the {ffn.experts} experts there are", None
        if kept < ffn.top_k:
            return key, f"{kept} experts are fewer than the {ffn.top_k} that a token goes to", "keep more"
        router = router_class(ffn.router)
        if router.by_expert is None or (getattr(ffn, "groups", None) or 1) > 1:
            return key, f"its router {ffn.router} has no row an expert that could go with it", None
        if (wrong := router.unfit(self.of_ffn(ffn))) is not None:
            return key, wrong[1], None
        return None

    def kept(self, ffn: FFN) -> int:
        """Experts that stay in each layer."""
        if self.keep is not None:
            return self.keep
        assert self.experts is not None
        experts: int = ffn.experts
        return experts - round(self.experts.value * experts)

    def of_ffn(self, ffn: FFN) -> FFN:
        return ffn.model_copy(update={"experts": self.kept(ffn)})

    def applied(self, given: Given) -> dict[str, Tensor]:
        weights, a, ffn = dict(given.weights), given.architecture, given.ffn
        rows = [f"ffn.router.{name}" for name in router_class(ffn.router).by_expert or ()]
        for layer, chosen_K in zip(a.moe_layers, self.chosen(given), strict=True):
            for name in (*(f"ffn.{name}" for name in EXPERTS), *rows):
                if (full := f"layers.{layer}.{name}") in weights:
                    weights[full] = weights[full][chosen_K].contiguous()
        return weights

    def chosen(self, given: Given) -> list[Tensor]:
        """The experts that stay in each mixture, in their order."""
        a, experts, keep = given.architecture, given.ffn.experts, self.kept(given.ffn)
        if keep == experts:
            return [torch.arange(experts) for _ in a.moe_layers]
        scores_LE = self._scores(given).double()
        # A stable sort: of equal scores the first stay.
        order_LE = scores_LE.argsort(dim=1, descending=True, stable=True)
        return [order_E[:keep].sort().values for order_E in order_LE]

    def _scores(self, given: Given) -> Tensor:
        """What decides who stays, more being better, [L, E]."""
        layers = given.architecture.moe_layers
        if self.by == "load":
            return given.loads()
        if self.by == "chance":
            draws = (generator(given.seed, f"prune.layers.{layer}") for layer in layers)
            return torch.stack([torch.rand(given.ffn.experts, generator=one) for one in draws])
        matrices = [[given.weights[f"layers.{layer}.ffn.{name}"] for name in EXPERTS[:2]] for layer in layers]
        return torch.stack([sum(m.double().square().sum((1, 2)) for m in pair) for pair in matrices])  # type: ignore[misc]

    def says(self, ffn: FFN, *, tied: bool) -> str:  # noqa: ARG002
        how = {"load": "those with the most tokens of the tune split", "norm": "those with the largest weights",
               "chance": "drawn from the seed"}[self.by]  # fmt: skip
        kept = self.kept(ffn)
        return f"pruned to {kept} of {ffn.experts} experts" + (f", {how}" if kept < ffn.experts else "")
