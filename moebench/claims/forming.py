"""Samples of what is no sum over models: effects that a function forms of the values of all seeds.

None has an error over documents: what is formed is not linear in them. A seed of which a run diverged is unknown both
ways, and no part of what is formed of the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from moebench import stats
from moebench.claims import reaching
from moebench.claims.best import BestOf
from moebench.claims.hypothesis import Contrast, Form, Term, Withheld
from moebench.claims.over_seeds import Ends, Sample, counted_value, done_run, final, over_seeds, scaled
from moebench.claims.spread import LEAST_PAIRS, SpreadRatio, pseudo_values
from moebench.reader.evidence import Evidence, Outcome

NOT_LINEAR = "judged over seeds alone: what is asked is no sum over documents, so they add no error that could be told"


def of_all_seeds(evidence: Evidence, contrast: Contrast, form: Form) -> Sample:
    """What is formed of the values of all seeds of which every run completed; a diverged run leaves its seed unknown.

    Raises Withheld where nothing can be formed: for the claim, since one seed's values are at fault whichever it is.
    """
    rows: dict[int, list[float] | None] = {}
    missing: list[str] = []
    used: list[Outcome] = []
    for seed in sorted(evidence.plan.spec.seeds):
        try:
            runs = {name: done_run(evidence, name, seed) for name in contrast.models if not _is_counted(contrast, name)}
            diverged = any(run.status == "diverged" for run in runs.values())
            rows[seed] = None if diverged else [_value(evidence, contrast, term, runs) for term in contrast.terms]
        except Withheld as absent:
            if absent.state == "invalid":
                raise
            missing.append(f"seed {seed}: {absent.reason}")
            continue
        used += runs.values()
    planned, known = len(evidence.plan.spec.seeds), [seed for seed, row in rows.items() if row is not None]
    if not known:
        raise Withheld("not_tested", f"0 of {planned} seeds present ({missing[0] if missing else 'all diverged'})")
    try:
        formed = form(np.array([rows[seed] for seed in known]))
    except ValueError as error:
        raise Withheld("invalid", str(error)) from None
    place = {seed: n for n, seed in enumerate(known)}
    effects = np.array([formed[place[seed]] if seed in place else math.nan for seed in rows])
    unknown = np.isnan(effects)
    return Sample(
        effects=effects,
        least=np.where(unknown, -np.inf, effects) if np.any(unknown) else None,
        most=np.where(unknown, np.inf, effects) if np.any(unknown) else None,
        seeds=tuple(rows),
        units="seeds",
        planned=planned,
        missing=tuple(missing),
        used=tuple(used),
        notes=(NOT_LINEAR,),
    )


def spread_ratio(evidence: Evidence, contrast: Contrast) -> Sample:
    """The pairs of two models, that whose SD is to be the larger first; a seed's effect is its pseudo-value."""

    def form(values_S2: stats.Array) -> tuple[stats.Array, SpreadRatio | None]:
        for term, column in zip(contrast.terms, values_S2.T, strict=True):
            if len(column) > 1 and stats.standard_deviation(column) == 0:
                raise ValueError(f"{term.metric} of {term.model} is the same with every seed: it has no spread")
        pairs = values_S2 if contrast.terms[0].weight > 0 else values_S2[:, ::-1]
        return pseudo_values(pairs), SpreadRatio(pairs=pairs) if len(pairs) >= LEAST_PAIRS else None

    return _decided_whole(evidence, contrast, form)


def best_of(evidence: Evidence, contrast: Contrast) -> Sample:
    """The differences of several models to another, by seed."""
    weights = np.array([term.weight for term in contrast.terms])

    def form(values_ST: stats.Array) -> tuple[stats.Array, BestOf | None]:
        weighed_ST = values_ST * weights
        best = BestOf(differences_SK=weighed_ST[:, 1:] + weighed_ST[:, :1])
        return best.effects, best if len(values_ST) > 1 else None

    return _decided_whole(evidence, contrast, form)


Whole = BestOf | SpreadRatio


def _decided_whole(
    evidence: Evidence, contrast: Contrast, form: Callable[[stats.Array], tuple[stats.Array, Whole | None]]
) -> Sample:
    """A sample that is judged as a whole, where no run diverged: what one that did does to it is unknown."""
    made: list[Whole | None] = []

    def effects(values_ST: stats.Array) -> stats.Array:
        of_seeds, whole = form(values_ST)
        made.append(whole)
        return of_seeds

    sample = of_all_seeds(evidence, contrast, effects)
    return replace(sample, whole=made[0] if sample.least is None else None)


def overtaking(evidence: Evidence, contrast: Contrast) -> Sample:
    """One effect a seed: the log of the share of the budget, or its negative where the first weight is one."""
    first, second = contrast.terms
    curve = reaching.overtaking_curve(evidence.plan, contrast.models, first.metric)

    def effect(of_seed: dict[str, Outcome]) -> Ends:
        least, most = reaching.share_to_overtake(of_seed[first.model], of_seed[second.model], curve)
        low, high = (math.log(least) if least > 0 else -math.inf), math.log(most)
        return (low, high) if first.weight > 0 else (-high, -low)

    sample = over_seeds(evidence, contrast, effect)
    undecayed = (reaching.UNDECAYED,) if curve == reaching.CURVE else ()
    return replace(sample, notes=(*undecayed, f"read from {curve}, over seeds alone"))


def _is_counted(contrast: Contrast, model: str) -> bool:
    """Whether all that is asked of a model is counted in the plan: it needs no run."""
    return all(term.facts.kind == "counted" for term in contrast.terms if term.model == model)


def _value(evidence: Evidence, contrast: Contrast, term: Term, runs: Mapping[str, Outcome]) -> float:
    """The value of a term, or its log."""
    counted = term.facts.kind == "counted"
    value = counted_value(evidence.plan, term.model, term.metric) if counted else final(runs[term.model], term.metric)
    return scaled(value, contrast.log, f"{term.metric} of {term.model}")
