"""From a claim's comparison to one effect per seed, per process, or per count.

Most kinds of claim are a weighted sum of one metric's values (or their logs) over models: a difference, a log-ratio, a
slope over a sweep, a share of a gain. A `Contrast` is such a sum, or what is formed of the values instead, signed so
that + favours the claim; `draw` fills it in with what was measured. A diverged run has the worst value there is; a
quality never reached costs all that was spent on it or more, without a bound. Nothing is averaged over only those runs
that made it, and a number that a ratio cannot take (0) makes the claim invalid: leaving its seed out would choose the
seeds by their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np

from moebench import stats
from moebench.claims import effective, items, reaching
from moebench.claims.best import BestOf
from moebench.claims.effective import Ladder
from moebench.claims.hypothesis import Contrast, Form, Term, Withheld, as_written, orientation
from moebench.claims.items import Clusters
from moebench.claims.spread import LEAST_PAIRS, SpreadRatio, pseudo_values
from moebench.format import MINUS
from moebench.metrics import metric_of
from moebench.metrics.metric import Kind
from moebench.metrics.ref import MetricRef
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome, is_impossible
from moebench.suite.claim import Claim

MIN_DF = 3
"""Degrees of freedom below which the scatter of other models' runs says nothing."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A contrast's effects, as far as they were measured."""

    effects: stats.Array
    """[n], + favours the claim; infinite where a run diverged or never got there, NaN where unknown which way."""
    least: stats.Array | None = None
    """[n], the least that each can be; absent where that is `effects`. The cost of a quality never reached has no upper
    end, but a lower one: what was spent."""
    most: stats.Array | None = None
    seeds: tuple[int, ...] = ()
    """The seed, or process, of each effect."""
    exact: Fraction | None = None
    """Of counts, and of what came out alike in every run as it must: the sum, or for logs the ratio itself, without
    rounding."""
    units: Literal["seeds", "processes", "counts", "items"]
    planned: int
    """How many there would be if nothing were missing."""
    missing: tuple[str, ...] = ()
    """Each absent effect with its reason."""
    items: stats.Estimate | None = None
    """The same contrast with its error over documents, where documents are known and every effect is finite."""
    item_noise: float = 0.0
    """The part of that error which is scatter over seeds, and so in `effects` as well."""
    clusters: Clusters | None = None
    """Where every model is a single run: what `effects` are of; then there is one effect an item, or group of items."""
    single: tuple[str, ...] = ()
    """Models of one run, whose scatter over runs is in nothing that is shown."""
    known_sd: float | None = None
    """Of one effect alone: the SD over seeds that it would have if its models scattered as others of the suite do."""
    whole: BestOf | SpreadRatio | None = None
    """Where the best of several, or the ratio of two SDs, is asked: what decides. `effects` then only tell what each
    seed adds to it."""
    second: stats.Array | None = None
    """[processes], effects that add to `effects` and come from processes instead of seeds: log step times."""
    used: tuple[Outcome, ...] = ()
    """The runs it rests on."""
    notes: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.effects)


def draw(evidence: Evidence, contrast: Contrast, claim: Claim | None = None) -> Sample:
    """The effects of a contrast. Raises Withheld when there is nothing to draw from or it cannot be, and says why.

    Of a claim only its target is read, and which model is the baseline.
    """
    target = claim.target if claim is not None else None
    setters = (target.reach,) if target is not None and isinstance(target.reach, str) else ()
    setters = (*setters, *(evidence.plan.rungs_of(claim) if claim is not None else ()))
    if (why := next(_impossible(evidence, contrast, setters), None)) is not None:
        raise Withheld("invalid", why)
    if contrast.formed is not None and contrast.kind != "seeded":
        raise Withheld("invalid", f"{contrast.terms[0].metric} has no value for each seed")
    return SAMPLERS[contrast.kind](evidence, contrast, claim)


def _impossible(evidence: Evidence, contrast: Contrast, setters: tuple[str, ...]) -> Iterator[str]:
    """Values that were measured and cannot be, among those a contrast rests on; `setters` set its target."""
    for model, name in contrast.measured:
        metrics = {name, *reaching.rests_on(name), *effective.rests_on(name)}
        for run in evidence.outcomes_of([model, *setters]):
            for metric in sorted(metrics & run.absent.keys()):
                if is_impossible(run.absent[metric]):
                    yield f"{run.model} with seed {run.seed}: {run.absent[metric]}"
        for process in evidence.processes:
            absent = process.absent.get(model, {})
            for metric in sorted(metrics & absent.keys()):
                yield f"{model} in process {process.process}: {absent[metric]}"


# ---------------------------------------------------------------------------------------------- by kind of metric


def _counted(evidence: Evidence, contrast: Contrast, _claim: Claim | None) -> Sample:
    counts = {one: counted_value(evidence.plan, *one) for one in contrast.measured}
    total = sum(
        t.weight * _scaled(counts[t.model, t.metric], contrast.log, f"{t.metric} of {t.model}") for t in contrast.terms
    )
    values = [(term.weight, counts[term.model, term.metric]) for term in contrast.terms]
    return Sample(effects=np.array([total]), units="counts", planned=1, exact=_exactly(values, log=contrast.log))


def _exactly(values: list[tuple[float, float]], *, log: bool) -> Fraction:
    """The sum of weight x value, or the product of value ^ weight; weights of logs are whole.

    Weights that sum to 0 but for rounding, as those of a slope, give exactly 0 when all values are equal.
    """
    exact = [(Fraction(weight).limit_denominator(10**9), as_written(value)) for weight, value in values]
    if log:
        product = Fraction(1)
        for weight, value in exact:
            product *= value ** int(weight)
        return product
    contrasting = abs(sum(weight for weight, _ in values)) < 1e-9
    first = exact[0][1] if contrasting else Fraction(0)
    return sum((weight * (value - first) for weight, value in exact), Fraction(0))


def counted_value(plan: Plan, model: str, metric: str) -> float:
    """A counted metric of a planned model or published system. Raises Withheld for what the plan has not counted."""
    system = plan.systems.get(model)
    if model not in plan.models and system is None:
        raise Withheld("not_tested", f"{model} is neither a model of this suite nor a published system that is counted")
    values = {**(plan.counts(model) if model in plan.models else {}), **(system.metrics if system else {})}
    if metric not in values and plan.is_external(model):
        raise Withheld("not_tested", f"{metric} of {model} is not known: give its `config`, or its sizes, in the suite")
    if metric not in values:
        raise Withheld("not_tested", f"{metric} is not counted in the plan")
    return values[metric]


def _seeded(evidence: Evidence, contrast: Contrast, _claim: Claim | None) -> Sample:
    if contrast.formed == "overtaking":
        return _overtaking(evidence, contrast)
    if contrast.formed == "spread":
        return _spread(evidence, contrast)
    if contrast.formed == "best":
        return _best(evidence, contrast)
    if contrast.formed is not None:
        return _formed(evidence, contrast, contrast.formed)
    single = tuple(name for name in contrast.models if evidence.plan.is_single(name))
    if single and len(single) == len(contrast.models):
        return _of_single_runs(evidence, contrast)
    sample = _over_seeds(evidence, contrast, _sum_of(contrast, lambda run, metric: (_final(run, metric),) * 2))
    return replace(sample, exact=_alike(contrast, sample), single=single)


def _of_single_runs(evidence: Evidence, contrast: Contrast) -> Sample:
    """Over items, where all models have the same; else the one number that there is, which decides nothing."""
    runs = {model: _run(evidence, model, evidence.plan.spec.seeds[0]) for model in contrast.models}
    effect = _middle(*_effect(contrast, runs, lambda run, metric: (_final(run, metric),) * 2))
    used = tuple(runs.values())
    clusters = items.over_clusters(contrast, used) if math.isfinite(effect) else None
    if clusters is None:
        one = np.array([effect])
        known = _known_scatter(evidence, contrast)
        return Sample(effects=one, units="seeds", planned=1, single=tuple(runs), used=used, known_sd=known)
    return Sample(
        effects=clusters.effects_C,
        units="items",
        planned=len(clusters.effects_C),
        clusters=clusters,
        single=tuple(runs),
        used=used,
    )


def _known_scatter(evidence: Evidence, contrast: Contrast) -> float | None:
    """The SD of a contrast of independent runs, pooled over the suite's models that have several; None without any."""
    metric = contrast.terms[0].metric
    squares, df = 0.0, 0
    for model in evidence.plan.models:
        runs = [] if evidence.plan.is_single(model) else evidence.outcomes_of([model])
        finals = [run.values[metric] for run in runs if run.status == "completed" and metric in run.values]
        if len(finals) > 1 and not (contrast.log and min(finals) <= 0):
            x = np.log(finals) if contrast.log else np.array(finals)
            squares, df = squares + (len(x) - 1) * stats.standard_deviation(x) ** 2, df + len(x) - 1
    of_one = sum(term.weight**2 for term in contrast.terms)
    return math.sqrt(of_one * squares / df) if df >= MIN_DF and squares > 0 else None


def _alike(contrast: Contrast, sample: Sample) -> Fraction | None:
    """The effect as a count, where the same run always gives the same number and all seeds gave it: two at least.

    Seeds that agree to the bit are no sample of anything: a t interval of width 0 would call it a measurement.
    """
    values = {(run.model, term.metric): set[float]() for run in sample.used for term in contrast.terms}
    for run in sample.used:
        for term in contrast.terms:
            if term.model == run.model:
                values[run.model, term.metric].add(run.values.get(term.metric, math.nan))
    needed = [values.get((term.model, term.metric), set()) for term in contrast.terms]
    same = all(metric_of(term.metric).same_each_time for term in contrast.terms)
    if not same or sample.n < 2 or sample.missing or any(len(alike) != 1 for alike in needed):
        return None
    weighed = [(term.weight, min(alike)) for term, alike in zip(contrast.terms, needed, strict=True)]
    return _exactly(weighed, log=contrast.log) if all(math.isfinite(value) for _, value in weighed) else None


def _event(evidence: Evidence, contrast: Contrast, claim: Claim | None) -> Sample:
    if claim is None or claim.target is None:
        raise Withheld("invalid", "no target says which quality is to be reached")
    compared = {*contrast.models, *([claim.compare.baseline] if claim.compare else [])}
    goal = reaching.Goal.of(evidence, claim.target, compared)
    plan = evidence.plan
    of_run = _sum_of(contrast, lambda run, metric: reaching.cost_to_quality(run, metric, goal, plan))
    sample = _over_seeds(evidence, contrast, of_run)
    notes = (reaching.OVER_BUDGETS if goal.curve == reaching.DECAYED else reaching.UNDECAYED, goal.says)
    if all(term.base != "seconds_to_quality" for term in contrast.terms):
        return replace(sample, notes=notes)
    if not contrast.log:
        raise Withheld("invalid", "seconds to a quality are compared as ratios: give the margin in %")
    of_steps: dict[str, float] = {}
    for term in contrast.terms:
        if term.base == "seconds_to_quality":
            of_steps[term.model] = of_steps.get(term.model, 0.0) + term.weight
    steps = Contrast.of("speed.train_step_s", of_steps, log=True)
    session = _timed(evidence, steps, None)
    if session.n < 2:
        raise Withheld("not_tested", f"{session.n} of {session.planned} processes timed the training step")
    return replace(sample, notes=notes, second=session.effects, missing=sample.missing + session.missing)


def _laddered(evidence: Evidence, contrast: Contrast, claim: Claim | None) -> Sample:
    """Of what is read off a ladder of dense models; times of its rungs add as those of models do."""
    seconds = any(term.base == "leverage.seconds" for term in contrast.terms)
    if seconds and not contrast.log:
        raise Withheld("invalid", "leverage in seconds is compared as a ratio: give the margin in %")
    ladder = Ladder.of(evidence, claim, timed=contrast.models if seconds else ())
    sample = _over_seeds(evidence, contrast, _sum_of(contrast, ladder.worth))
    second = ladder.of_processes(contrast, sample.used) if seconds else None
    return replace(sample, second=second, notes=tuple(ladder.notes(sample.used)))


def _timed(evidence: Evidence, contrast: Contrast, _claim: Claim | None) -> Sample:
    speed, suite = evidence.plan.speed, evidence.plan.suite
    if speed is None:
        raise Withheld("not_tested", "no speed session: add `speed:` under `measure:` in the suite and run it again")
    if not evidence.processes:
        why = f" ({evidence.speed_reason})" if evidence.speed_reason else ""
        raise Withheld("not_tested", f"no speed session yet{why}: `moebench run {suite}` does it after training")
    effects: list[float] = []
    timed: list[int] = []
    missing: list[str] = []
    for process in evidence.processes:
        absent = [(m, name) for m, name in contrast.measured if process.values.get(m, {}).get(name) is None]
        if absent:
            model, metric = absent[0]
            missing.append(f"process {process.process}: no {metric} of {model}")
            continue
        times = [(t, process.values[t.model][t.metric]) for t in contrast.terms]
        where = f"process {process.process}"
        effects.append(sum(t.weight * _scaled(x, contrast.log, f"{t.metric} of {t.model}, {where}") for t, x in times))
        timed.append(process.process)
    missing += [f"process {index}: {why}" for index, why in evidence.unread.items()]
    if not effects:
        raise Withheld("not_tested", f"the speed session did not time it ({missing[0]})")
    planned = max(len(speed.processes), len(evidence.processes))
    return Sample(
        effects=np.array(effects),
        units="processes",
        planned=planned,
        seeds=tuple(timed),
        missing=tuple(missing),
        notes=_unsteady(evidence, contrast),
    )


def _unsteady(evidence: Evidence, contrast: Contrast) -> tuple[str, ...]:
    timed = {(term.model, term.metric) for term in contrast.terms}
    count = sum(1 for process in evidence.processes if timed & process.unsteady)
    return (f"timings had not settled in {count} of {len(evidence.processes)} processes",) if count else ()


SAMPLERS: dict[Kind, Callable[[Evidence, Contrast, Claim | None], Sample]] = {
    "counted": _counted,
    "seeded": _seeded,
    "event": _event,
    "timed": _timed,
    "laddered": _laddered,
}


# ---------------------------------------------------------------------------------------------- over seeds


NOT_LINEAR = "judged over seeds alone: what is asked is no sum over documents, so they add no error that could be told"


def _formed(evidence: Evidence, contrast: Contrast, form: Form) -> Sample:
    """What is formed of the values of all seeds of which every run completed; a diverged run leaves its seed unknown.

    Raises Withheld where nothing can be formed: for the claim, since one seed's values are at fault whichever it is.
    """
    rows: dict[int, list[float] | None] = {}
    missing: list[str] = []
    used: list[Outcome] = []
    for seed in sorted(evidence.plan.spec.seeds):
        try:
            runs = {name: _run(evidence, name, seed) for name in contrast.models if not _is_counted(contrast, name)}
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


def _spread(evidence: Evidence, contrast: Contrast) -> Sample:
    """The pairs of two models, that whose SD is to be the larger first; a seed's effect is its pseudo-value."""

    def form(values_S2: stats.Array) -> tuple[stats.Array, SpreadRatio | None]:
        for term, column in zip(contrast.terms, values_S2.T, strict=True):
            if len(column) > 1 and stats.standard_deviation(column) == 0:
                raise ValueError(f"{term.metric} of {term.model} is the same with every seed: it has no spread")
        pairs = values_S2 if contrast.terms[0].weight > 0 else values_S2[:, ::-1]
        return pseudo_values(pairs), SpreadRatio(pairs=pairs) if len(pairs) >= LEAST_PAIRS else None

    return _decided_whole(evidence, contrast, form)


def _best(evidence: Evidence, contrast: Contrast) -> Sample:
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

    sample = _formed(evidence, contrast, effects)
    return replace(sample, whole=made[0] if sample.least is None else None)


def _overtaking(evidence: Evidence, contrast: Contrast) -> Sample:
    """One effect a seed: the log of the share of the budget, or its negative where the first weight is one."""
    first, second = contrast.terms
    runs = evidence.outcomes_of(contrast.models)
    curve = reaching.overtaking_curve(runs, first.metric)

    def effect(of_seed: dict[str, Outcome]) -> Ends:
        least, most = reaching.share_to_overtake(of_seed[first.model], of_seed[second.model], curve)
        low, high = (math.log(least) if least > 0 else -math.inf), math.log(most)
        return (low, high) if first.weight > 0 else (-high, -low)

    sample = _over_seeds(evidence, contrast, effect)
    undecayed = (reaching.UNDECAYED,) if curve == reaching.CURVE else ()
    return replace(sample, notes=(*undecayed, f"read from {curve}, over seeds alone"))


def _is_counted(contrast: Contrast, model: str) -> bool:
    """Whether all that is asked of a model is counted in the plan: it needs no run."""
    return all(term.facts.kind == "counted" for term in contrast.terms if term.model == model)


def _value(evidence: Evidence, contrast: Contrast, term: Term, runs: Mapping[str, Outcome]) -> float:
    """The value of a term, or its log."""
    counted = term.facts.kind == "counted"
    value = counted_value(evidence.plan, term.model, term.metric) if counted else _final(runs[term.model], term.metric)
    return _scaled(value, contrast.log, f"{term.metric} of {term.model}")


Ends = tuple[float, float]
"""The least and the most that a number can be: equal where it was measured."""


def _sum_of(contrast: Contrast, value: Callable[[Outcome, str], Ends]) -> Callable[[dict[str, Outcome]], Ends]:
    """The weighted sum over the runs of a seed. `value` gives a completed run's metric, or raises Withheld."""
    return lambda runs: _effect(contrast, runs, value)


def _over_seeds(evidence: Evidence, contrast: Contrast, effect: Callable[[dict[str, Outcome]], Ends]) -> Sample:
    """One effect a seed, of its runs by model. `effect` raises Withheld with the reason where there is none.

    Raises Withheld when nothing is left, or when a value makes the whole claim invalid.
    """
    effects: list[Ends] = []
    missing: list[str] = []
    used: dict[int, tuple[Outcome, ...]] = {}
    seeds = sorted(evidence.plan.spec.seeds)  # whatever the suite's order, so that it is no choice
    if all(map(evidence.plan.is_single, contrast.models)):
        seeds = seeds[:1]  # one run each is one effect, however many seeds the suite has
    for seed in seeds:
        try:
            runs = {model: _run(evidence, model, seed) for model in contrast.models}
            effects.append(effect(runs))
        except Withheld as absent:
            if absent.state == "invalid":
                raise
            missing.append(f"seed {seed}: {absent.reason}")
            continue
        used[seed] = tuple(runs.values())
    planned = len(seeds)
    if not effects:
        why = missing[0] if missing else "no seeds"
        raise Withheld("not_tested", f"0 of {planned} seeds present ({why})")
    least, most = np.array(effects).T
    known = bool(np.all(least == most))
    values = np.array([_middle(*ends) for ends in effects])
    finite = bool(np.all(np.isfinite(values)))
    linear = finite and contrast.formed is None
    over_items, noise = items.beside_seeds(contrast, list(used.values())) if linear else (None, 0.0)
    return Sample(
        effects=values,
        least=None if known else least,
        most=None if known else most,
        seeds=tuple(used),
        units="seeds",
        planned=planned,
        missing=tuple(missing),
        items=over_items,
        item_noise=noise,
        used=tuple(outcome for runs_of_seed in used.values() for outcome in runs_of_seed),
    )


def _middle(least: float, most: float) -> float:
    """What stands for an effect in a centre: infinite when it is open one way, NaN when both ways."""
    if math.isinf(least) and math.isinf(most):
        return least if least == most else math.nan
    if math.isinf(least) or least == most:
        return least
    return most if math.isinf(most) else (least + most) / 2


def _run(evidence: Evidence, model: str, seed: int) -> Outcome:
    outcome = evidence.outcome(model, seed)
    if outcome is None:
        raise Withheld("not_tested", f"{model} is not planned with this seed")
    if not outcome.done:
        why = f": {outcome.reason}" if outcome.reason else ""
        raise Withheld("not_tested", f"{model} is {outcome.status}{why}")
    return outcome


def _effect(contrast: Contrast, runs: dict[str, Outcome], value: Callable[[Outcome, str], Ends]) -> Ends:
    """The ends of the weighted sum; infinite when one side is, both ways when both are: inf - inf is unknown.

    Where a diverged run stands on no one side it speaks against the claim only, by the first of its terms.
    """
    low = high = 0.0
    for model, metric in contrast.measured:
        if runs[model].status == "completed":
            value(runs[model], metric)
    unknown = not contrast.sided and any(run.status == "diverged" for run in runs.values())
    diverged: set[str] = set()
    for term in contrast.terms:
        run = runs[term.model]
        where = f"{term.metric} of {run.model} with seed {run.seed}"
        if run.status == "diverged" and not _before_training(term.metric):
            if run.model in diverged:
                unknown = True
                continue
            diverged.add(run.model)
            ends = _worst(term.metric)
        else:
            ends = value(run, term.metric)
            if contrast.log:
                ends = _log(ends, where)
        first, last = sorted((term.weight * ends[0], term.weight * ends[1]))
        low, high = low + first, high + last
    return (
        -math.inf if unknown or math.isnan(low) else low,
        math.inf if math.isnan(high) else high,
    )


def _before_training(metric: str) -> bool:
    """Whether a metric does not depend on how training went: a diverged run is no worse by it, only unmeasured."""
    return MetricRef.parse(metric).group in ("memory", "init")


def _worst(metric: str) -> Ends:
    """What a diverged run is worth, as a value or as its log; anything when the metric has no better direction."""
    sign = orientation(metric)
    return (-math.inf, math.inf) if sign == 0 else (-sign * math.inf,) * 2


def _log(ends: Ends, where: str) -> Ends:
    """The logs of the ends. Raises Withheld for a measured number that has none; an open end is 0 or infinity."""
    if ends[0] == ends[1]:
        return (_scaled(ends[0], True, where),) * 2
    return math.log(ends[0]) if ends[0] > 0 else -math.inf, math.log(ends[1])


def _scaled(value: float, log: bool, where: str) -> float:
    """Raises Withheld for a number that has no log: the claim, not the seed, is at fault."""
    if not log:
        return float(value)
    if value <= 0:
        shown = f"{value:g}".replace("-", MINUS)
        margin = "give the margin in the metric's own unit"
        raise Withheld("invalid", f"{where} is {shown}, of which no ratio can be formed: {margin}")
    return math.log(value)


def _final(outcome: Outcome, metric: str) -> float:
    if metric in outcome.values:
        return outcome.values[metric]
    unmeasured = "not measured before it diverged" if outcome.status == "diverged" else "not measured"
    why = outcome.absent.get(metric, unmeasured)
    raise Withheld("not_tested", f"{outcome.model} has no {metric} ({why})")
