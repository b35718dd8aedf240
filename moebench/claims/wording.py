"""The words around a verdict: its scope, its caveats, and what it would take to decide.

Every verdict says for which sizes, data, tokens and hardware it holds; a nano model is called a nano model. Nothing
here changes a state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from moebench import stats
from moebench.claims import coverage, likeness
from moebench.claims.controls import race
from moebench.claims.decide import ALPHA
from moebench.claims.errors import Withheld
from moebench.claims.hypothesis import Hypothesis
from moebench.claims.preconditions import is_quality, timings
from moebench.claims.reaching import UNDECAYED
from moebench.claims.samples import Sample, draw
from moebench.claims.verdict import Scored
from moebench.format import interval, params, size_word
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence

# ---------------------------------------------------------------------------------------------- scope


def scope(evidence: Evidence, models: tuple[str, ...], kind: str, *, text: Scored | None, apart: str) -> str:
    """`nano models (0.11 M active parameters), stdlib text, 1.0 M tokens, 2-core x86_64 CPU`, then the text that was
    scored and what differs between the models."""
    said = [_place(evidence, models, kind), coverage.words(text) if text is not None else "", apart]
    return "; ".join(part for part in said if part)


def _place(evidence: Evidence, models: tuple[str, ...], kind: str) -> str:
    plan = evidence.plan
    published = [name for name in models if name in plan.systems and name not in plan.models]
    if published:
        return f"{' and '.join(published)}, counted from the published architecture"
    known = [name for name in models if name in plan.models] or list(plan.models)
    sizes = _sizes(plan, known)
    if kind == "counted":
        return f"{sizes}, counted from the architecture: the same on any hardware"
    tokens = [plan.models[name].recipe.steps * plan.models[name].recipe.batch_tokens for name in known]
    return f"{sizes}, {plan.spec.data.scope}, {_range(tokens)} tokens, {_machines(evidence, kind)}"


def _sizes(plan: Plan, names: list[str]) -> str:
    active = [plan.models[name].costs.params.active for name in names]
    total = [plan.models[name].costs.params.total for name in names]
    words = dict.fromkeys(size_word(count) for count in sorted(active))
    sparse = f", {_range(total)} total" if total != active else ""
    return f"{' and '.join(words)} model{'s' if len(names) > 1 else ''} ({_range(active)} active parameters{sparse})"


def _machines(evidence: Evidence, kind: str) -> str:
    runs = {run.machine for run in evidence.outcomes if run.machine}
    processes = {process.machine for process in evidence.processes if process.machine}
    found = processes if kind == "timed" and processes else runs or processes
    return " and ".join(sorted(found)) if found else evidence.stored.environment.machine


def _range(counts: list[int]) -> str:
    low, high = params(min(counts)), params(max(counts))
    if low == high or max(counts) <= 1.02 * min(counts):
        return low
    return f"{low.removesuffix(' M')} to {high}" if low[-1] == high[-1] else f"{low} to {high}"


# ---------------------------------------------------------------------------------------------- notes


def notes(
    evidence: Evidence,
    hypothesis: Hypothesis,
    sample: Sample,
    *,
    metric: str,
    models: tuple[str, ...],
    text: Scored | None,
) -> tuple[str, ...]:
    """Everything a reader must know beside the numbers. `models` are all that the claim compares."""
    contrast = hypothesis.contrast
    found = [*sample.notes]
    if text is not None and (little := coverage.note(evidence, text, models)) is not None:
        found.append(little)
    if is_quality(metric):
        found += [f"{seen}: a model may have learned it by heart"] if (seen := contamination(evidence)) else []
        found += [note] if (note := untuned(evidence, models)) else []
        found += [f"learning rates from the sweep {tuned}"] if (tuned := evidence.plan.asked.tuned) else []
    if contrast.kind in ("seeded", "event"):
        found += likeness.notes(evidence, models)
    diverged = sum(run.status == "diverged" for run in sample.used)
    infinite = int(np.sum(~np.isfinite(sample.effects)))
    if diverged:
        found.append(f"{diverged} run{'s' if diverged > 1 else ''} diverged, counted as the worst possible value")
    if infinite:
        found.append(
            f"{infinite} of {sample.n} {sample.units} unbounded (not reached or diverged): the estimate is the median"
        )
    if sample.missing:
        found.append(f"{sample.n} of {sample.planned} {sample.units} present; missing {'; '.join(sample.missing[:3])}")
    if sample.units == "processes" and sample.n < 10:
        found.append(f"{sample.n} processes; use 10 for a headline claim")
    found += [said for name in timings(contrast) if (said := _against_itself(evidence, name))]
    machines = {run.machine for run in sample.used if run.machine}
    if len(machines) > 1:
        found.append(f"runs come from {len(machines)} machines: {', '.join(sorted(machines))}")
    share = recovered_share(evidence, hypothesis)
    return tuple(found if share is None else [*found, _share_words(share)])


NOT_TUNED = "learning rate not shown to be tuned"


def untuned(evidence: Evidence, models: tuple[str, ...]) -> str | None:
    """Why the learning rate is not shown to be tuned alike for these models, or from which sweep it was transferred;
    None when each has a sweep of its own that found the rate it was trained with."""
    swept = {name: tuned for name in models if (tuned := evidence.tuned.get(name)) is not None}
    others = [name for name in models if name not in swept and name in evidence.plan.models]
    if not swept and not evidence.tuned:
        asked = evidence.plan.tune is not None
        return (
            f"{NOT_TUNED}: the sweep that the suite asks for is not there (`moebench run --tune`)"
            if asked
            else NOT_TUNED
        )
    if len({tuned.lrs for tuned in evidence.tuned.values()}) > 1:
        return f"{NOT_TUNED}: the models' sweeps differ"
    for name in swept:
        if why := _not_its_best(evidence, name, of=name):
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
        faults = {of: _not_its_best(evidence, name, of=of) for of in covered}
        if all(faults.values()):
            return f"{NOT_TUNED}: {name} has no sweep of its own, and {'; '.join(filter(None, faults.values()))}"
        sources += [of for of, fault in faults.items() if fault is None]
    return f"learning rate of {', '.join(others)} transferred from the sweep of {' and '.join(dict.fromkeys(sources))}"


def _not_its_best(evidence: Evidence, name: str, *, of: str) -> str | None:
    """Why the rate a model was trained with is not shown to be the best of a model's sweep; None when it is."""
    tuned, rate = evidence.tuned.get(of), evidence.plan.models[name].recipe.lr
    if tuned is None:
        return f"the sweep of {of} is not there"
    if not tuned.whole:
        return f"the sweep of {of} is not finished"
    if tuned.best_lr is None:
        return f"no rate of the sweep of {of} completed"
    if not tuned.interior:
        return f"the best rate of {of}, {tuned.best_lr:g}, is at the end of its range"
    if not math.isclose(rate, tuned.best_lr, rel_tol=1e-9):
        whose = "its best" if name == of else f"the best of {of}"
        return f"{name} was trained with {rate:g}, {whose} was {tuned.best_lr:g}"
    return None


def _against_itself(evidence: Evidence, metric: str) -> str | None:
    control = race(evidence, metric)
    if control is None:
        return None
    outcome = "A/A too wide to tell" if control.state == "too_wide" else "A/A"
    return f"{outcome}: {control.model} takes {control.effect} its own time in {metric} (99%): {control.reason}"


def caveats(evidence: Evidence, hypothesis: Hypothesis, sample: Sample) -> tuple[str, ...]:
    """What no view of the verdict may leave out."""
    found = [UNDECAYED] if UNDECAYED in sample.notes else []
    races = [race(evidence, name) for name in timings(hypothesis.contrast)]
    if any(one is not None and one.state == "too_wide" for one in races):
        found.append("A/A too wide to tell")
    if any(is_quality(term.metric) for term in hypothesis.contrast.terms) and (seen := contamination(evidence)):
        found.append(seen)
    return tuple(found)


def contamination(evidence: Evidence) -> str | None:
    """How much of the test text the training text holds too, where it is more than the data's threshold."""
    data = evidence.plan.data
    if data.leak_share <= data.leak_threshold:
        return None
    return f"{100 * data.leak_share:.2g}% of the test text stands in the training text too"


def recovered_share(evidence: Evidence, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """The share of the ceiling's gain that was recovered, in %, with Fieller's interval.

    None for other kinds of claim; empty when the gain is not shown to be above 0, or a run of the three diverged, so
    that no share can be stated.
    """
    if hypothesis.gain is None or hypothesis.share_of is None:
        return None
    try:
        gain, whole = (draw(evidence, part, None, None).effects for part in (hypothesis.gain, hypothesis.share_of))
    except Withheld:
        return None
    if len(gain) < 2 or len(gain) != len(whole) or not np.all(np.isfinite([gain, whole])):
        return {}
    shares = stats.fieller(gain, whole, 1 - 2 * ALPHA)
    if shares is None or np.mean(whole) <= 0:
        return {}
    share = float(np.mean(gain) / np.mean(whole))
    return {"share": 100 * share, "share_low": 100 * shares.low, "share_high": 100 * shares.high}


def _share_words(share: dict[str, Any]) -> str:
    if not share:
        return "no share of the ceiling's gain can be stated: that gain is not shown to be above 0"
    said = interval(share["share"], share["share_low"], share["share_high"], "%", signed=False)
    return f"recovers {said} of the ceiling's gain (Fieller interval over seeds)"
