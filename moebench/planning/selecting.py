"""Which published systems a suite's claims name and select, and what is counted of each.

A selection leaves out systems that fit and have no such count, and says so; one that fits none is refused, as a claim
about nothing would hold for every one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from moebench.counting.counted import count
from moebench.metrics.ref import MetricRef
from moebench.planning.feasibility import Misfit, PlanError
from moebench.planning.published import PlannedSystem, Selected
from moebench.suite.claim import Claim
from moebench.suite.systems import Selection
from moebench.suite.types import SuiteSpec
from moebench.suite.words import known_systems
from moebench.systems import System, system, systems

TOTAL = "cost.total_params"


def published(spec: SuiteSpec) -> tuple[dict[str, PlannedSystem], dict[str, Selected]]:
    """The systems that claims are about, counted, and what each selection comes to; by name, and by `Claim.selects`.

    Raises PlanError, at the claim, for a system that has no such count and for a selection of none.
    """
    asked: dict[str, dict[str, float]] = {}
    selected: dict[str, Selected] = {}
    misfits: list[Misfit] = []
    for name, claim in spec.claims.items():
        try:
            for one, metric in _named(claim, spec):
                asked.setdefault(one, {})[metric] = of_system(system(one), metric)
        except LookupError as error:
            key = "model" if claim.model is not None else "compare"
            misfits.append(Misfit(at=("claims", name, key), message=str(error.args[0])))
        if claim.systems is None:
            continue
        counts, made = select(claim.systems, claim.metrics)
        if not counts:
            message = f"no published system is selected: there are no {claim.systems.words}"
            hint = f"{len(made.left_out)} fit and have no {claim.metric}" if made.left_out else None
            misfits.append(Misfit(at=("claims", name, "systems"), message=message, hint=hint))
        selected[claim.selects] = made
        for one, of_metrics in counts.items():
            asked.setdefault(one, {}).update(of_metrics)
    if misfits:
        raise PlanError(*misfits)
    return {name: _planned(system(name), asked[name]) for name in sorted(asked)}, selected


def _planned(one: System, counts: dict[str, float]) -> PlannedSystem:
    return PlannedSystem(family=one.family, year=one.year, counts=dict(sorted(counts.items())))


def _named(claim: Claim, spec: SuiteSpec) -> Iterator[tuple[str, str]]:
    """Published systems that a claim names, with each metric that it asks of them."""
    ours = {*spec.models, *spec.sweeps}
    for name in {one: None for one in claim.about(spec.sweeps) if one not in ours}:
        if name not in known_systems():
            system(name)  # which raises LookupError, and says what is known of it
        yield from ((name, metric) for metric in claim.metrics)


def select(asked: Selection, metrics: Sequence[str]) -> tuple[dict[str, dict[str, float]], Selected]:
    """The counts of each system that fits, the oldest first, and which these are."""
    counts: dict[str, dict[str, float]] = {}
    left_out: dict[str, str] = {}
    for one in _of_largest(systems()) if asked.flagships else systems():
        if not _fits(one, asked):
            continue
        try:
            if all(of_system(one, name) >= least for name, least in asked.at_least.items()):
                counts[one.name] = {metric: of_system(one, metric) for metric in metrics}
        except LookupError as error:
            left_out[one.name] = str(error.args[0])
    return counts, Selected(names=tuple(counts), left_out=left_out)


def _fits(one: System, asked: Selection) -> bool:
    return (
        asked.kind in (None, one.kind)
        and (asked.since is None or one.year >= asked.since)
        and (asked.until is None or one.year <= asked.until)
        and (not asked.named or any(fnmatchcase(one.name, glob) for glob in asked.named))
    )


def _of_largest(every: tuple[System, ...]) -> Iterator[System]:
    """Of each family and year the one of most parameters; those that cannot be counted are none of them."""
    largest: dict[tuple[str, int], System] = {}
    for one in every:
        if one.blueprint is None:
            continue
        best = largest.setdefault((one.family, one.year), one)
        if of_system(one, TOTAL) > of_system(best, TOTAL):
            largest[one.family, one.year] = one
    yield from (one for one in every if largest.get((one.family, one.year)) is one)


def of_system(one: System, metric: str) -> float:
    """A counted metric of a published system. Raises LookupError with the reason where it has none."""
    ref = MetricRef.parse(metric)
    known = {"shape.year": one.year, "shape.is_moe": float(one.kind == "moe")}
    if ref.base in known:
        return known[ref.base]
    if ref.base == "shape.expert_is_ffn":
        if one.kind == "dense":
            raise LookupError(f"{one.name} is dense: it has no experts")
        return float(one.experts_are == "networks of a layer")
    if one.blueprint is None:
        raise LookupError(f"{one.name} cannot be counted: {one.describes}")
    try:
        return count(one.blueprint, ref.base, dict(ref.labels))
    except LookupError as error:
        raise LookupError(f"{one.name}: {error.args[0]}") from None
