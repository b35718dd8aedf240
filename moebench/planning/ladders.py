"""Whether the rungs of a ladder are sizes of one model: each larger than the one below, and grown in every dimension.

A ladder that grows in one dimension alone is a series of shapes: what a model is worth on it is a matter of that shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from moebench.planning.feasibility import Misfit
from moebench.planning.planned import PlannedModel
from moebench.suite.claim import Claim
from moebench.suite.model import MoEFFN
from moebench.suite.types import SuiteSpec
from moebench.text import listed


def misfits(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[Misfit]:
    """Rungs that have no more parameters than the rung below."""
    for name, rungs in spec.ladders.items():
        for below, rung in pairwise(rungs):
            less, more = (models[one].costs.params.total for one in (below, rung))
            if more <= less:
                message = f"{rung} has {more:,} parameters and {below}, the rung below it, {less:,}"
                hint = f"every rung of {name} must be larger than the one below: let all its sizes grow"
                yield Misfit(at=("models", rung), message=message, hint=hint)


def notes(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[str]:
    """Dimensions that do not grow, and models held against a ladder that was trained otherwise."""
    for name, rungs in spec.ladders.items():
        if any(isinstance(models[rung].architecture.ffn, MoEFFN) for rung in rungs):
            continue  # mixtures may be matched to what they stand beside
        sizes = [_dimensions(models[rung]) for rung in rungs]
        still = [what for what in sizes[0] if all(one.get(what) == sizes[0][what] for one in sizes)]
        shrinking = [what for what in sizes[0] if any(b.get(what, 0) < a.get(what, 0) for a, b in pairwise(sizes))]
        for what, how in ((still, "not grow"), (shrinking, "not grow everywhere")):
            if what:
                does = "do" if len(what) > 1 or what[0].endswith("s") else "does"
                yield f"{name}: {listed(what, last='and')} {does} {how}, so its rungs are shapes as well as sizes"
    for name, claim in spec.claims.items():
        yield from _other_budget(spec, models, name, claim)


def _other_budget(spec: SuiteSpec, models: Mapping[str, PlannedModel], name: str, claim: Claim) -> Iterator[str]:
    ladder = claim.target.ladder if claim.target is not None else None
    rungs = spec.ladders.get(ladder, []) if ladder is not None else []
    for model in dict.fromkeys(one for one in claim.about(spec.sweeps) if rungs and one in models):
        own, theirs = models[model].train_tokens, models[rungs[0]].train_tokens
        if own != theirs:
            on = f"{model} is trained on {own:,} tokens and {rungs[0]} on {theirs:,}"
            yield f"claims.{name}: {on}, so it will be INVALID"


def _dimensions(model: PlannedModel) -> dict[str, int]:
    a, ffn = model.architecture, model.architecture.ffn
    hidden = (None if isinstance(ffn, MoEFFN) else ffn.hidden) or 0
    return {"layers": a.layers, "width": a.width, "heads": a.heads, "ffn.hidden": hidden}
