"""Whether the learning rates of a claim's models were chosen alike: each the best of its own sweep, or transferred.

A rate is held to the one that the plan trains with, whatever the suite had when its sweep was summarised.
"""

from __future__ import annotations

import math

from moebench.reader.evidence import Evidence

NOT_TUNED = "learning rate not shown to be tuned"


def untuned(evidence: Evidence, models: tuple[str, ...]) -> str | None:
    """Why the learning rate is not shown to be tuned alike for these models, or from which sweep it was transferred;
    None when each has a sweep of its own that found the rate it was trained with."""
    swept = {name: tuned for name in models if (tuned := evidence.tuned.get(name)) is not None}
    others = [name for name in models if name not in swept and name in evidence.plan.models]
    if not swept and not evidence.tuned:
        if evidence.plan.tune is None:
            return NOT_TUNED
        return f"{NOT_TUNED}: the sweep that the suite asks for is not there (`moebench run --tune`)"
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
