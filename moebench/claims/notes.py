"""What a reader must know beside a verdict's numbers: its notes, and the caveats that no view leaves out.

Nothing here changes a state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from moebench import stats
from moebench.amounts import Amount
from moebench.claims import bounds, control_runs, coverage, idle, likeness, sealing
from moebench.claims.controls import race
from moebench.claims.decide import MIN_UNITS, Correction
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.kinds.published import MEDIAN
from moebench.claims.reaching import OVER_BUDGETS, UNDECAYED
from moebench.claims.samples import Sample
from moebench.claims.scope import MODELLED, UNVERIFIED
from moebench.claims.verdict import TRIFLE, Beside, Scored
from moebench.format import MINUS, TIMES, interval, number, plural
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef, labelled
from moebench.metrics.tasks import CUT, GROUP
from moebench.planning.planned import PlannedCheckpoint
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence
from moebench.suite import fields
from moebench.suite.claim import Claim
from moebench.text import plain

OUTLIER_LEVEL = 0.01
SKEW_LIMIT, CORRELATION_LIMIT = 2.75, 2.28
"""Standard errors beyond which 1% of normal samples lie, skewness both ways and lag-1 correlation upwards (simulated
at n = 8 to 30)."""


# ---------------------------------------------------------------------------------------------- the claim


def of_claim(evidence: Evidence, name: str, claim: Claim, post_hoc: tuple[str, ...], looks: int) -> Iterator[str]:
    """What came after the data, or was looked at before."""
    if post_hoc:
        yield f"post hoc: {'; '.join(post_hoc)}: counted as exploratory"
    elif (said := sealing.reworded(evidence, name)) is not None:
        yield f"reworded after the data; it said: {plain(said, most=500)}"
    if looks > 1:
        others = "other runs or sessions of the same models could be judged before"
        yield f"look {looks}: {others}, p is multiplied by {looks}"
    if tried := _tried(evidence, name, claim):
        yield f"{tried}, uncorrected for"
    if seeds := sealing.piloted(evidence, claim):
        yield f"a pilot of {plural(seeds, 'seed')} was taken: none of these, and no look"


def of_systems(plan: Plan, claim: Claim) -> Iterator[str]:
    """Which published systems were counted, which were not and why, and how many are of one maker."""
    made = plan.selected.get(claim.selects) if claim.systems is not None else None
    if made is None:
        return
    yield f"{plural(len(made.names), 'system')} counted, a choice of this package: {', '.join(made.names)}"
    yield from (f"left out: {plain(why, most=300)}" for why in made.left_out.values())
    by_family = Counter(plan.systems[name].family_year for name in made.names)
    if claim.test.in_ == MEDIAN:
        yield f"each of {len(by_family)} families and years counts once, by the median of its systems"
    elif isinstance(claim.test.in_, Amount) and (many := [f"{n} of {who}" for who, n in by_family.items() if n > 1]):
        yield f"a maker counts once for each system: {', '.join(many)}; `flagships: true` counts it once a year"


def of_convention(plan: Plan, claim: Claim, models: Iterable[str]) -> Iterator[str]:
    """What a count of published systems leaves in and out, as their publishers differ in it."""
    said = metric_of(claim.metric).convention
    modelled = metric_of(claim.metric).modelled
    if said is not None and (modelled or any(name in plan.systems and name not in plan.models for name in models)):
        yield f"{MODELLED if modelled else 'counted'}: {said}"


def _tried(evidence: Evidence, name: str, claim: Claim) -> str:
    """That the claim was made of other models before: no look at these, but a choice among them."""
    tried = sealing.tried_otherwise(evidence, name, claim)
    return f"tried with {tried} other definition{'s' if tried > 1 else ''} of its models too" if tried else ""


def of_family(correction: Correction, withdrawn: tuple[str, ...]) -> Iterator[str]:
    """What a primary claim was corrected for; `withdrawn` are claims of its family that are not made any more."""
    yield f"p adjusted by {correction.words}; the interval is unadjusted"
    if withdrawn:
        yield f"withdrawn or changed since, and still counted: {', '.join(withdrawn)}"


# ---------------------------------------------------------------------------------------------- the numbers


def of_numbers(
    evidence: Evidence,
    hypothesis: Hypothesis,
    sample: Sample,
    *,
    metric: str,
    models: tuple[str, ...],
    text: Scored | None,
) -> Iterator[str]:
    """What bears on the numbers. `models` are all that the claim compares."""
    plan, contrast = evidence.plan, hypothesis.contrast
    yield from bounds.notes(plan, contrast)
    elsewhere = [name for name in models if plan.is_external(name)]
    if elsewhere and contrast.kind != "counted":
        who = " and ".join(elsewhere)
        yield f"the numbers of {who} were measured elsewhere, before this plan was stored: {UNVERIFIED}"
    yield from idle.notes(contrast, sample.used)
    yield from _of_shape(sample, hypothesis)
    yield from sample.notes
    if text is not None and (little := coverage.note(evidence, text, models)) is not None:
        yield little
    if metric_of(metric).rests_on_loss:
        yield from control_runs.beside(evidence, models)
        if leak := _contamination(plan):
            yield f"{leak}: a model may have learned it by heart"
        if why := untuned(evidence, models):
            yield why
        if plan.asked.tuned:
            yield f"learning rates from the sweep {plan.asked.tuned}"
    if contrast.kind in ("seeded", "event", "laddered"):
        yield from likeness.notes(evidence, models)
    yield from _of_sample(sample)
    for timing in contrast.timings:
        if (control := race(evidence, timing)) is not None:
            outcome = "A/A too wide to tell" if control.state == "too_wide" else "A/A"
            itself = f"{control.model} takes {control.effect} its own time in {timing} (99%)"
            yield f"{outcome}: {itself}: {control.reason}"
    machines = {run.machine for run in sample.used if run.machine}
    if len(machines) > 1:
        yield f"runs come from {len(machines)} machines: {', '.join(sorted(machines))}"


def _of_sample(sample: Sample) -> Iterator[str]:
    diverged = sum(run.status == "diverged" for run in sample.used)
    infinite = int(np.sum(~np.isfinite(sample.effects)))
    if diverged:
        yield f"{diverged} run{'s' if diverged > 1 else ''} diverged, counted as the worst possible value"
    if infinite:
        unbounded = f"{infinite} of {sample.n} {sample.units} unbounded (not reached or diverged)"
        yield f"{unbounded}: the estimate is the median"
    if sample.missing:
        yield f"{sample.n} of {sample.planned} {sample.units} present; missing {'; '.join(sample.missing[:3])}"
    if sample.units == "processes" and sample.n < 10:
        yield f"{sample.n} processes; use 10 for a headline claim"


def _of_shape(sample: Sample, hypothesis: Hypothesis) -> Iterator[str]:
    """What the effects look like where that makes a verdict less sure than its interval says.

    The interval is exact for effects that are independent and symmetric about their centre. A pair that lies far from
    all others, a skew, and successive seeds that follow each other are looked for at 1% each, so that a note is no
    noise; with few pairs much of each goes unseen. What they do to the error rates stands in `error_rates`.
    """
    x = sample.effects
    if sample.units == "items" or sample.n < MIN_UNITS or sample.whole is not None:
        return
    if not np.all(np.isfinite(x)) or stats.standard_deviation(x) == 0:
        return
    unit, units = ("process", "processes") if sample.units == "processes" else ("seed", "seeds")
    skew, from_0 = stats.skewness(x)
    if (index := stats.outlier(x, OUTLIER_LEVEL)) is not None:
        name = sample.seeds[index] if len(sample.seeds) == sample.n else index
        one, rest = (_shown(hypothesis, float(v)) for v in (x[index], np.mean(np.delete(x, index))))
        yield f"one {unit} rules: {unit} {name} is at {one}, the mean without it at {rest}"
    elif abs(from_0) > SKEW_LIMIT:
        sign = "+" if skew >= 0 else MINUS
        yield f"skewed effects (skewness {sign}{number(abs(skew), 1)}): the interval covers less than it says"
    follows, from_chance = stats.autocorrelation(x)
    if from_chance > CORRELATION_LIMIT:
        words = f"successive {units} follow each other (correlation {follows:.2f})"
        yield f"{words}: the interval covers less than it says"


def _shown(hypothesis: Hypothesis, effect: float) -> str:
    """An effect as the metric reads, to three significant digits."""
    reading = hypothesis.reading
    return interval(reading.show(effect), None, None, reading.unit, signed=reading.form != "ratio")


# ---------------------------------------------------------------------------------------------- caveats


def caveats(
    evidence: Evidence,
    name: str,
    claim: Claim,
    hypothesis: Hypothesis,
    sample: Sample,
    *,
    text: Scored | None,
    beside: tuple[Beside, ...],
    matched: bool,
) -> Iterator[str]:
    """What no view of the verdict may leave out, each in a few words."""
    yield from (note for note in (UNDECAYED, OVER_BUDGETS) if note in sample.notes)
    if metric_of(claim.metric).modelled:
        yield f"{MODELLED}, not measured"
    if sample.single:
        yield "one run each" if sample.n == 1 or sample.clusters is not None else f"one run of {sample.single[0]}"
    measured = hypothesis.contrast.kind != "counted"
    if measured and any(evidence.plan.is_external(name) for name in hypothesis.contrast.models):
        yield "measured elsewhere, not verified"
    races = [race(evidence, timing) for timing in hypothesis.contrast.timings]
    if any(one is not None and one.state == "too_wide" for one in races):
        yield "A/A too wide to tell"
    if hypothesis.contrast.rests_on_loss and (leak := _contamination(evidence.plan)):
        yield leak
    if text is not None and (little := coverage.caveat(text)) is not None:
        yield little
    if claim.compare is not None and metric_of(claim.metric).kind != "counted":
        tokens = next((row for row in beside if row.what == likeness.TOKENS and row.differs), None)
        if tokens is not None and tokens.ratio is not None and abs(tokens.ratio - 1) > TRIFLE:
            yield f"{tokens.ratio:.3g}{TIMES} the tokens"
        if not matched:
            yield "not matched"
    if tried := _tried(evidence, name, claim):
        yield tried
    yield from _cut(sample, claim)
    yield from _strangers(evidence, hypothesis)


def _strangers(evidence: Evidence, hypothesis: Hypothesis) -> Iterator[str]:
    """Checkpoints that lose more on the text than who only counts its bytes: mostly another's tokenizer or weights."""
    unigram = evidence.plan.data.unigram_bits_per_byte
    if not hypothesis.contrast.rests_on_loss or unigram is None:
        return
    for model in hypothesis.contrast.models:
        run = evidence.outcome(model, 0) if isinstance(evidence.plan.models.get(model), PlannedCheckpoint) else None
        if run is not None and run.values.get("test.bits_per_byte", 0.0) > unigram:
            yield f"{model} knows less of this text than counting its bytes tells: is the tokenizer its own?"


def _cut(sample: Sample, claim: Claim) -> Iterator[str]:
    """Models whose prompts of a claim's task did not fit their contexts: they were read from their end only."""
    tasks = {ref.get("task") for ref in map(MetricRef.parse, claim.metrics) if ref.group == GROUP}
    shares: dict[str, float] = {}
    for run in sample.used:
        for task in filter(None, tasks):
            share = run.values.get(labelled(CUT, task=task.partition(":")[0]), 0.0)
            shares[run.model] = max(share, shares.get(run.model, 0.0))
    for model, share in shares.items():
        if share:
            yield f"{max(1, round(100 * share))}% of {model}'s prompts cut to its context"


def _contamination(plan: Plan) -> str | None:
    """How much of the test text the training text holds too, where it is more than the data's threshold."""
    if plan.data.leak_share <= plan.data.leak_threshold:
        return None
    return f"{100 * plan.data.leak_share:.2g}% of the test text stands in the training text too"


NOT_TUNED = "learning rate not shown to be tuned"


def untuned(evidence: Evidence, models: tuple[str, ...]) -> str | None:
    """Why the learning rate is not shown to be tuned alike for these models, or from which sweep it was transferred;
    None when each has a sweep of its own that found the rate it was trained with.

    A rate is held to the one that the plan trains with, whatever the suite had when its sweep was summarised. Models
    that are all made elsewhere have none here: what is not known of them is said otherwise.
    """
    if models and evidence.plan.decoders.keys().isdisjoint(models):
        return None
    swept = {name: tuned for name in models if (tuned := evidence.tuned.get(name)) is not None}
    others = [name for name in models if name not in swept and name in evidence.plan.decoders]
    if not swept and not evidence.tuned:
        if evidence.plan.tune is None:
            return NOT_TUNED
        return (
            f"{NOT_TUNED}: the sweep that the suite asks for is not there (moebench run {evidence.plan.suite} --tune)"
        )
    if len({tuned.lrs for tuned in evidence.tuned.values()}) > 1:
        return f"{NOT_TUNED}: the models' sweeps differ"
    for name in swept:
        if why := not_its_best(evidence, name, of=name):
            return f"{NOT_TUNED}: {why}"
    return _transferred(evidence, others) if others else None


def _transferred(evidence: Evidence, others: list[str]) -> str:
    """From whose sweep the rates of models without one were taken: one whose best rate is the rate they have."""
    tune = evidence.plan.spec.tune
    covered = [name for name in (tune.models if tune and tune.models else []) if name not in others]
    if not covered:
        return f"{NOT_TUNED}: no sweep of {', '.join(others)}"
    sources: list[str] = []
    for name in others:
        faults = {of: not_its_best(evidence, name, of=of) for of in covered}
        if all(faults.values()):
            return f"{NOT_TUNED}: {name} has no sweep of its own, and {'; '.join(filter(None, faults.values()))}"
        sources += [of for of, fault in faults.items() if fault is None]
    return f"learning rate of {', '.join(others)} transferred from the sweep of {' and '.join(dict.fromkeys(sources))}"


def not_its_best(evidence: Evidence, name: str, *, of: str, inside: bool = True) -> str | None:
    """Why the rate a model was trained with is not shown to be the best of a model's sweep; None when it is.

    With `inside` the best must be at no end of what was tried.
    """
    tuned, rate = evidence.tuned.get(of), evidence.plan.decoders[name].recipe.lr
    if tuned is None:
        return f"the sweep of {of} is not there"
    if not tuned.whole:
        return f"the sweep of {of} is not finished"
    if tuned.best_lr is None:
        return f"no rate of the sweep of {of} completed"
    if inside and not tuned.interior:
        at = [end for end in tuned.ends if end != "lr"]
        if at and "lr" not in tuned.ends:
            return f"the best {at[0]} of {of}, {tuned.best[at[0]]:g}, is at the end of its range"
        return f"the best rate of {of}, {tuned.best_lr:g}, is at the end of its range"
    model = evidence.plan.spec.decoders[name]
    for path, best in tuned.best.items():
        if not fields.has(model, path):
            continue
        own, best = (fields.value_of(one, path) for one in (model, fields.with_values(model, {path: best})))
        if own != best:
            whose = "its best" if name == of else f"the best of {of}"
            return f"{name} was trained with {path} {own}, {whose} was {best}"
    if not math.isclose(rate, tuned.best_lr, rel_tol=1e-9):
        whose = "its best" if name == of else f"the best of {of}"
        return f"{name} was trained with {rate:g}, {whose} was {tuned.best_lr:g}"
    return None
