"""Whether the models that are built are those that were planned: their parameters, of the whole and of each router.

A model is built on torch's meta device, where weights have shapes and no memory, so any size is built at once. This is
for a plan that is to be carried out: it loads torch, which checking a suite does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from moebench.models.decoder.moe import MoE
from moebench.models.decoder.transformer import Transformer
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.planned import PlannedModel
from moebench.text import plain


def check(models: Mapping[str, PlannedModel]) -> None:
    """Raises PlanError, at each model's place, with the number that is built and the number that was planned."""
    if misfits := [Misfit(at=("models", name), message=why) for name, m in models.items() for why in _wrong(name, m)]:
        raise PlanError(*misfits)


def _wrong(name: str, planned: PlannedModel) -> Iterator[str]:
    a = planned.architecture
    try:
        with torch.device("meta"):
            model = Transformer(a, dtype="float32", backend="sorted")
    except Exception as error:  # a router of an installed package may do anything
        yield f"{name} cannot be built on torch's meta device: {plain(f'{type(error).__name__}: {error}', most=400)}"
        return
    routers = [layer.ffn.router for layer in model.layers if isinstance(layer.ffn, MoE)]
    of_routers = sum(router.num_weights() for router in routers)
    others = sum(value.numel() for key, value in model.named_parameters() if ".ffn.router." not in key)
    built, total = others + of_routers, planned.costs.params.total
    if a.router is not None and any(router.num_weights() != a.router.parameters for router in routers):
        numbers = " and ".join(f"{n:,}" for n in sorted({router.num_weights() for router in routers}))
        yield f"a router of {name} has {numbers} parameters as built, {a.router.parameters:,} as planned"
    elif built != total:
        yield f"{name} has {built:,} parameters as built, {total:,} as planned"
