"""From a claim's comparison to one effect per seed, per process, or per count.

Every kind of claim but `exact` is a weighted sum of one metric's values (or their logs) over models: a difference, a
log-ratio, a slope over a sweep, a share of a gain. A `Contrast` is such a sum, signed so that + favours the claim;
`draw` fills it in with what was measured. A diverged run has the worst value there is; a quality never reached costs
infinitely much. Nothing is averaged over only those runs that made it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from moebench import stats
from moebench.claims import reaching
from moebench.claims.withheld import Withheld
from moebench.evidence import Evidence, Outcome
from moebench.plan import Plan
from moebench.records import Kind, metric_of, parse_metric
from moebench.spec.types import Target


@dataclass(frozen=True, kw_only=True)
class Term:
    model: str
    metric: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum over models, oriented so that + favours the claim."""

    terms: tuple[Term, ...]
    """Never with weight 0."""
    log: bool
    """Whether the sum is over logs of the values: effects are then log-ratios."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.model for term in self.terms))

    @property
    def kind(self) -> Kind:
        """Kind of its metrics. Raises Withheld when they have several."""
        kinds = {metric_of(term.metric).kind for term in self.terms}
        if len(kinds) > 1:
            raise Withheld("invalid", f"metrics of different kinds ({', '.join(sorted(kinds))}) cannot be paired")
        return kinds.pop()


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A contrast's effects, as far as they were measured."""

    effects: stats.Array
    """[n], + favours the claim; infinite where a run diverged or never got there, NaN where unknown which way."""
    units: Literal["pairs", "seeds", "processes", "counts"]
    planned: int
    """How many there would be if nothing were missing."""
    missing: tuple[str, ...] = ()
    """Each absent effect with its reason."""
    items: stats.Estimate | None = None
    """The same contrast with its error over documents, where documents are known and every effect is finite."""
    second: stats.Array | None = None
    """Effects that add to `effects` and come from processes instead of seeds: log step times."""
    used: tuple[Outcome, ...] = ()
    """The runs it rests on."""
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.effects)


def draw(evidence: Evidence, contrast: Contrast, target: Target | None, baseline: str | None) -> Sample:
    """The effects of a contrast. Raises Withheld when there is nothing to draw from, and says why."""
    return SAMPLERS[contrast.kind](evidence, contrast, target, baseline)


def orientation(metric: str) -> int:
    """+1 when a higher value is better, -1 when a lower one is, 0 when neither."""
    return {"higher": 1, "lower": -1, "neither": 0}[metric_of(metric).better]


# ---------------------------------------------------------------------------------------------- by kind of metric


def _counted(evidence: Evidence, contrast: Contrast, _target: Target | None, _baseline: str | None) -> Sample:
    total = sum(
        term.weight * _scaled(counted_value(evidence.plan, term.model, term.metric), contrast.log)
        for term in contrast.terms
    )
    return Sample(effects=np.array([total]), units="counts", planned=1)


def counted_value(plan: Plan, model: str, metric: str) -> float:
    """A counted metric of a planned model or published system. Raises Withheld for what the plan has not counted."""
    params = plan.systems.get(model) or (plan.models[model].costs.params if model in plan.models else None)
    if params is None:
        raise Withheld("not_tested", f"{model} is neither a model of this suite nor a published system that is counted")
    values: dict[str, float] = {
        "cost.total_params": params.total,
        "cost.active_params": params.active,
        "cost.total_params_no_embedding": params.total_no_embedding,
        "cost.active_params_no_embedding": params.active_no_embedding,
    }
    if model in plan.models:
        costs = plan.models[model].costs
        values |= {
            "cost.train_flops_per_token": costs.train_flops_per_token,
            "cost.decode_flops_per_token": costs.decode_flops_per_token,
            "cost.weight_bytes": costs.weight_bytes,
            "cost.kv_bytes_per_token": costs.kv_bytes_per_token,
        }
    if metric not in values:
        raise Withheld("not_tested", f"{metric} is not counted in the plan")
    return values[metric]


def _seeded(evidence: Evidence, contrast: Contrast, _target: Target | None, _baseline: str | None) -> Sample:
    return _over_seeds(evidence, contrast, _final)


def _event(evidence: Evidence, contrast: Contrast, target: Target | None, baseline: str | None) -> Sample:
    if target is None:
        raise Withheld("invalid", "no target says which quality is to be reached")
    goal = reaching.Goal.of(evidence, target, baseline)
    plan = evidence.plan
    sample = _over_seeds(evidence, contrast, lambda run, metric: reaching.cost_to_quality(run, metric, goal, plan))
    notes = (reaching.UNDECAYED, goal.says)
    if all(parse_metric(term.metric)[0] != "seconds_to_quality" for term in contrast.terms):
        return replace(sample, notes=notes)
    if not contrast.log:
        raise Withheld("invalid", "seconds to a quality are compared as ratios: give the margin in %")
    times = Contrast(
        terms=tuple(Term(model=t.model, metric="speed.train_step_s", weight=t.weight) for t in contrast.terms), log=True
    )
    session = _timed(evidence, times, None, None)
    if session.n < 2:
        raise Withheld("not_tested", f"{session.n} of {session.planned} processes timed the training step")
    return replace(sample, notes=notes, second=session.effects, missing=sample.missing + session.missing)


def _timed(evidence: Evidence, contrast: Contrast, _target: Target | None, _baseline: str | None) -> Sample:
    speed, suite = evidence.plan.speed, evidence.plan.suite
    if speed is None:
        raise Withheld("not_tested", "no speed session: add `speed:` under `measure:` in the suite and run it again")
    if not evidence.processes:
        why = f" ({evidence.speed_reason})" if evidence.speed_reason else ""
        raise Withheld("not_tested", f"no speed session yet{why}: `moebench run {suite}` does it after training")
    effects: list[float] = []
    missing: list[str] = []
    for process in evidence.processes:
        absent = [t for t in contrast.terms if process.values.get(t.model, {}).get(t.metric) is None]
        if absent:
            missing.append(f"process {process.process}: no {absent[0].metric} of {absent[0].model}")
            continue
        effects.append(sum(t.weight * _scaled(process.values[t.model][t.metric], contrast.log) for t in contrast.terms))
    if not effects:
        raise Withheld("not_tested", f"the speed session did not time it ({missing[0]})")
    planned = max(len(speed.processes), len(evidence.processes))
    return Sample(
        effects=np.array(effects),
        units="processes",
        planned=planned,
        missing=tuple(missing),
        notes=_unsteady(evidence, contrast),
    )


def _unsteady(evidence: Evidence, contrast: Contrast) -> tuple[str, ...]:
    wanted = {(term.model, term.metric) for term in contrast.terms}
    count = sum(1 for process in evidence.processes if wanted & process.unsteady)
    return (f"timings had not settled in {count} of {len(evidence.processes)} processes",) if count else ()


SAMPLERS: dict[Kind, Callable[[Evidence, Contrast, Target | None, str | None], Sample]] = {
    "counted": _counted,
    "seeded": _seeded,
    "event": _event,
    "timed": _timed,
}


# ---------------------------------------------------------------------------------------------- over seeds


def _over_seeds(evidence: Evidence, contrast: Contrast, value: Callable[[Outcome, str], float]) -> Sample:
    """One effect a seed. `value` gives a completed run's metric, or raises Withheld with the reason it has none."""
    effects: list[float] = []
    missing: list[str] = []
    used: list[tuple[Outcome, ...]] = []
    for seed in evidence.plan.spec.seeds:
        runs: dict[str, Outcome] = {}
        try:
            runs = {model: _run(evidence, model, seed) for model in contrast.models}
            effects.append(_effect(contrast, runs, value))
        except Withheld as absent:
            missing.append(f"seed {seed}: {absent.reason}")
            continue
        used.append(tuple(runs.values()))
    planned = len(evidence.plan.spec.seeds)
    if not effects:
        why = missing[0] if missing else "no seeds"
        raise Withheld("not_tested", f"0 of {planned} {_unit_word(contrast)} present ({why})")
    values = np.array(effects)
    return Sample(
        effects=values,
        units=_unit_word(contrast),
        planned=planned,
        missing=tuple(missing),
        items=_over_documents(contrast, used) if np.all(np.isfinite(values)) else None,
        used=tuple(outcome for runs_of_seed in used for outcome in runs_of_seed),
    )


def _unit_word(contrast: Contrast) -> Literal["pairs", "seeds"]:
    return "pairs" if len(contrast.models) == 2 else "seeds"


def _run(evidence: Evidence, model: str, seed: int) -> Outcome:
    outcome = evidence.outcome(model, seed)
    if outcome is None:
        raise Withheld("not_tested", f"{model} is not planned with this seed")
    if not outcome.done:
        why = f": {outcome.reason}" if outcome.reason else ""
        raise Withheld("not_tested", f"{model} is {outcome.status}{why}")
    return outcome


def _effect(contrast: Contrast, runs: dict[str, Outcome], value: Callable[[Outcome, str], float]) -> float:
    """The weighted sum; +-infinity when one side is infinite, NaN when both are: inf - inf is unknown."""
    total = 0.0
    for term in contrast.terms:
        outcome = runs[term.model]
        if outcome.status == "diverged":
            total += term.weight * _worst(term.metric)
        else:
            total += term.weight * _scaled(value(outcome, term.metric), contrast.log)
    return total


def _worst(metric: str) -> float:
    """What a diverged run is worth, as a value or as its log; NaN when the metric has no better direction."""
    sign = orientation(metric)
    return math.nan if sign == 0 else -sign * math.inf


def _scaled(value: float, log: bool) -> float:
    if not log:
        return float(value)
    if value <= 0:
        raise Withheld("not_tested", f"a ratio needs positive values, not {value:g}")
    return math.log(value)


def _final(outcome: Outcome, metric: str) -> float:
    if metric in outcome.values:
        return outcome.values[metric]
    why = outcome.absent.get(metric, "not measured")
    raise Withheld("not_tested", f"{outcome.model} has no {metric} ({why})")


def _over_documents(contrast: Contrast, used: list[tuple[Outcome, ...]]) -> stats.Estimate | None:
    """The contrast with documents as clusters, bits averaged over seeds; None where documents are not known alike."""
    if any(parse_metric(term.metric)[0] != "test.bits_per_byte" for term in contrast.terms):
        return None
    domains = {parse_metric(term.metric)[1].get("domain") for term in contrast.terms}
    if len(domains) != 1 or len({(term.model, term.metric) for term in contrast.terms}) != len(contrast.terms):
        return None
    domain = domains.pop()
    sizes: dict[str, int] | None = None
    totals = {model: np.zeros(0) for model in contrast.models}
    for runs in used:
        for outcome in runs:
            items = {item.document: item for item in outcome.items if domain is None or item.domain == domain}
            here = {name: item.num_bytes for name, item in items.items()}
            sizes = here if sizes is None else sizes
            if len(here) < 2 or here != sizes:
                return None
            bits = np.array([items[name].bits for name in sizes])
            before = totals[outcome.model]
            totals[outcome.model] = bits if len(before) == 0 else before + bits
    if sizes is None:
        return None
    bits_MI = np.stack([totals[term.model] for term in contrast.terms]) / len(used)
    weights_M = np.array([term.weight for term in contrast.terms])
    return stats.clustered(bits_MI, np.array(list(sizes.values()), dtype=np.float64), weights_M, log=contrast.log)
