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
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from moebench import stats
from moebench.claims import effective, items, reaching
from moebench.claims.effective import Ladder
from moebench.claims.forming import best_of, of_all_seeds, overtaking, spread_ratio
from moebench.claims.hypothesis import Contrast, Withheld, as_written
from moebench.claims.kinds.published import median_of
from moebench.claims.over_seeds import Sample as Sample
from moebench.claims.over_seeds import counted_value as counted_value
from moebench.claims.over_seeds import done_run, final, middle, over_seeds, scaled, sum_of, sum_of_ends
from moebench.counting.communication import expert_parallel_share
from moebench.metrics import metric_of
from moebench.metrics.metric import Kind
from moebench.metrics.modelled import AT_LOADS
from moebench.metrics.probes.stragglers import FACTOR
from moebench.metrics.ref import MetricRef, labelled
from moebench.reader.evidence import Evidence, Outcome, is_impossible
from moebench.suite.claim import Claim

MIN_DF = 3
"""Degrees of freedom below which the scatter of other models' runs says nothing."""


def draw(evidence: Evidence, contrast: Contrast, claim: Claim | None = None) -> Sample:
    """The effects of a contrast. Raises Withheld when there is nothing to draw from or it cannot be, and says why.

    Of a claim only its target is read, and which model is the baseline.
    """
    target = claim.target if claim is not None else None
    setters = (target.reach,) if target is not None and isinstance(target.reach, str) else ()
    setters = (*setters, *(evidence.plan.rungs_of(claim) if claim is not None else ()))
    if (why := next(_impossible(evidence, contrast, setters), None)) is not None:
        raise Withheld("invalid", why)
    if contrast.formed not in (None, "median") and contrast.kind != "seeded":
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
    if contrast.formed == "median":
        return _median(evidence, contrast, {model: as_written(value) for (model, _), value in counts.items()})
    total = sum(
        t.weight * scaled(counts[t.model, t.metric], contrast.log, f"{t.metric} of {t.model}") for t in contrast.terms
    )
    values = [(term.weight, counts[term.model, term.metric]) for term in contrast.terms]
    return Sample(effects=np.array([total]), units="counts", planned=1, exact=_exactly(values, log=contrast.log))


def _median(evidence: Evidence, contrast: Contrast, counts: dict[str, Fraction]) -> Sample:
    """The one number that published systems come to, a family counting once a year."""
    weight = contrast.terms[0].weight
    middle = median_of(counts, {name: evidence.plan.systems[name].family_year for name in counts})
    exact = middle ** int(weight) if contrast.log else Fraction(weight) * middle
    effect = math.log(exact) if contrast.log else float(exact)
    return Sample(effects=np.array([effect]), units="counts", planned=1, exact=exact)


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


def _at_loads(evidence: Evidence, run: Outcome, metric: str) -> float:
    """The share of sending that follows from a run's own straggler factor; any other metric as it was measured."""
    ref = MetricRef.parse(metric)
    if ref.base != AT_LOADS:
        return final(run, metric)
    labels = {label: float(value) for label, value in ref.labels}
    factor = final(run, labelled(FACTOR.name, devices=ref.get("devices")))
    blueprint = evidence.plan.models[run.model].blueprint
    assert blueprint is not None
    try:
        return expert_parallel_share(blueprint, **labels, straggler=factor)
    except LookupError as error:
        raise Withheld("not_tested", f"{run.model}: {error.args[0]}") from None


def _seeded(evidence: Evidence, contrast: Contrast, _claim: Claim | None) -> Sample:
    if contrast.formed == "overtaking":
        return overtaking(evidence, contrast)
    if contrast.formed == "spread":
        return spread_ratio(evidence, contrast)
    if contrast.formed == "best":
        return best_of(evidence, contrast)
    if contrast.formed is not None and contrast.formed != "median":
        return of_all_seeds(evidence, contrast, contrast.formed)
    single = tuple(name for name in contrast.models if evidence.plan.is_single(name))
    if single and len(single) == len(contrast.models):
        return _of_single_runs(evidence, contrast)
    sample = over_seeds(evidence, contrast, sum_of(contrast, lambda run, name: (_at_loads(evidence, run, name),) * 2))
    return replace(sample, exact=_alike(contrast, sample), single=single)


def _of_single_runs(evidence: Evidence, contrast: Contrast) -> Sample:
    """Over items, where all models have the same; else the one number that there is, which decides nothing."""
    runs = {model: done_run(evidence, model, evidence.plan.spec.seeds[0]) for model in contrast.models}
    effect = middle(*sum_of_ends(contrast, runs, lambda run, metric: (final(run, metric),) * 2))
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
    return _in_common(contrast, sample, [values.get((t.model, t.metric), set()) for t in contrast.terms])


def _in_common(contrast: Contrast, sample: Sample, values: list[set[float]]) -> Fraction | None:
    """The same of the values of each term."""
    same = all(metric_of(term.metric).same_each_time for term in contrast.terms)
    if not same or sample.n < 2 or sample.missing or any(len(alike) != 1 for alike in values):
        return None
    weighed = [(term.weight, min(alike)) for term, alike in zip(contrast.terms, values, strict=True)]
    return _exactly(weighed, log=contrast.log) if all(math.isfinite(value) for _, value in weighed) else None


def _event(evidence: Evidence, contrast: Contrast, claim: Claim | None) -> Sample:
    if claim is None or claim.target is None:
        raise Withheld("invalid", "no target says which quality is to be reached")
    compared = {*contrast.models, *([claim.compare.baseline] if claim.compare else [])}
    goal = reaching.Goal.of(evidence, claim.target, compared)
    plan = evidence.plan
    of_run = sum_of(contrast, lambda run, metric: reaching.cost_to_quality(run, metric, goal, plan))
    sample = over_seeds(evidence, contrast, of_run)
    over = reaching.group_of(goal.curve) == "decayed"
    notes = (reaching.OVER_BUDGETS if over else reaching.UNDECAYED, goal.says)
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
    sample = over_seeds(evidence, contrast, sum_of(contrast, ladder.worth))
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
        effects.append(sum(t.weight * scaled(x, contrast.log, f"{t.metric} of {t.model}, {where}") for t, x in times))
        timed.append(process.process)
    missing += [f"process {index}: {why}" for index, why in evidence.unread.items()]
    if not effects:
        raise Withheld("not_tested", f"the speed session did not time it ({missing[0]})")
    planned = max(len(speed.processes), len(evidence.processes))
    sample = Sample(
        effects=np.array(effects),
        units="processes",
        planned=planned,
        seeds=tuple(timed),
        missing=tuple(missing),
        notes=_unsteady(evidence, contrast),
    )
    values = [
        {process.values[term.model][term.metric] for process in evidence.processes} if not missing else set[float]()
        for term in contrast.terms
    ]
    return replace(sample, exact=_in_common(contrast, sample, values))


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
