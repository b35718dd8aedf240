"""For what a verdict holds: sizes, data, tokens, hardware, the text that was scored, what differs between its models.

`nano models (0.11 M active parameters), stdlib text, 1.0 M tokens, 2-core x86_64 CPU; moe over dense: ...`
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from moebench.claims import coverage, likeness
from moebench.claims.samples import Sample
from moebench.claims.verdict import Beside, Scored
from moebench.format import plural, size_word
from moebench.metrics import metric_of
from moebench.planning.planned import PlannedCheckpoint, PlannedExternal, PlannedModel
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim
from moebench.text import shown_path

SMALL_LAYER = 10**6
"""Parameters that a token uses of one layer, below which its time is that of dispatching operations."""
DISPATCH = "times at this size are those of dispatching operations (suite latency has larger layers)"


def scope(
    evidence: Evidence, claim: Claim, models: tuple[str, ...], text: Scored | None, beside: tuple[Beside, ...]
) -> str:
    """The scope of a claim about these models."""
    kind, pair = metric_of(claim.metric).kind, claim.compare
    treatment, baseline = (pair.treatment, pair.baseline) if pair else (None, None)
    differs = likeness.scope_words(evidence.plan, beside, treatment, baseline, counted=kind == "counted")
    if metric_of(claim.metric).modelled:
        who = claim.subject if claim.compare is None else f"{treatment} and {baseline}"
        return f"{who}, {MODELLED} by formula for the links that the claim states: measured nowhere"
    if claim.systems is not None:
        return f"{claim.systems.words}, counted from the published architectures"
    made = ", ".join(f"{name} is {said}" for name in models if (said := evidence.plan.says(name)) is not None)
    parts = [_place(evidence, models, kind), coverage.words(text) if text is not None else "", made, differs]
    return "; ".join(filter(None, parts))


def _place(evidence: Evidence, models: tuple[str, ...], kind: str) -> str:
    plan = evidence.plan
    if any(name in plan.models and name not in plan.decoders for name in models):
        return "; ".join(_of_each(evidence, models, kind))
    published = [name for name in models if name in plan.systems and name not in plan.decoders]
    if published:
        return f"{' and '.join(published)}, counted from the published architecture{'s' if published[1:] else ''}"
    known = [name for name in models if name in plan.decoders] or list(plan.decoders)
    sizes = _sizes(plan, known)
    if kind == "counted":
        return f"{sizes}, counted from the architecture: the same on any hardware"
    recipes = [recipe for name in known if (recipe := plan.decoders[name].recipe).trains]
    spent = f"{_range([r.steps * r.batch_tokens for r in recipes])} tokens" if recipes else "initial values"
    spent += _begun(plan, known)
    dispatch = f", {DISPATCH}" if kind == "timed" and any(_is_small(plan.decoders[name]) for name in known) else ""
    return f"{sizes}, {plan.spec.data.scope}, {spent}, {_machines(evidence, kind)}{dispatch}"


def _begun(plan: Plan, names: list[str]) -> str:
    """` (begun from checkpoints/olmoe)`, of models that were not trained from the start."""
    began = {name: plan.decoders[plan.begun_as(name)].start for name in names}
    starts = {name: start.checkpoint for name, start in began.items() if start is not None}
    from_ = dict.fromkeys(map(shown_path, starts.values()))
    return f" ({', '.join(starts)} from {' and '.join(from_)}, whose own training is not counted)" if starts else ""


def _of_each(evidence: Evidence, models: tuple[str, ...], kind: str) -> Iterator[str]:
    """Of models of which some were not made here: the size of each, what it is, and what of it is not verified."""
    plan = evidence.plan
    yield ", ".join(f"{name}{_counts(plan, name)}" for name in models if name in plan.models)
    if kind == "counted":
        return
    ours = tuple(name for name in models if name in plan.decoders)
    if ours:
        yield f"{' and '.join(ours)}: {_place(evidence, ours, kind)}"
    planned = [plan.models[name] for name in models if name in plan.models]
    checkpoints = [one for one in planned if isinstance(one, PlannedCheckpoint)]
    if loaded := [f"{shown_path(one.checkpoint)} in {one.dtype}" for one in checkpoints]:
        yield f"checkpoint{'s' if len(loaded) > 1 else ''} {' and '.join(loaded)}"
    arms = {name: plan.experiments[name] for name in models if name in plan.experiments}
    for name, arm in arms.items():
        yield f"{name}: {arm.says}"
    if arms:
        yield f"no language models, after {' and '.join(dict.fromkeys(arm.source for arm in arms.values()))}"
    if files := list(dict.fromkeys(Path(one.results).name for one in planned if isinstance(one, PlannedExternal))):
        yield f"measured elsewhere ({', '.join(files)}): {UNVERIFIED}"


MODELLED = "MODELLED"
UNVERIFIED = "equal data, tuning and hardware are declared by the user, not verified"


def _counts(plan: Plan, model: str) -> str:
    """` (1.3 B of 6.9 B parameters active)`, as far as it is known."""
    counts = plan.counts(model)
    active, total = (counts.get(f"cost.{name}") for name in ("active_params", "total_params"))
    if total is None:
        return f" ({_count(int(active))} active parameters)" if active is not None else ""
    if active is None or active == total:
        return f" ({_count(int(total))} parameters)"
    return f" ({_count(int(active))} of {_count(int(total))} parameters active)"


def of_units(sample: Sample) -> str:
    """What the units of a sample leave out, where some model is a single run; else nothing."""
    if not sample.single:
        return ""
    if sample.clusters is not None:
        many = plural(sample.clusters.num_items, "item")
        groups = f" in {plural(sample.n, 'group')}" if sample.clusters.grouped else ""
        return f"judged over {many}{groups} of one run each: says nothing about another training run"
    if sample.n == 1:
        return "one number of one run each"
    who = " and ".join(sample.single)
    one = "one run" if len(sample.single) == 1 else "one run each"
    return (
        f"{who} {'is' if len(sample.single) == 1 else 'are'} {one}: how another would come out is not in the interval"
    )


def _is_small(model: PlannedModel) -> bool:
    """Whether a layer has so little to compute that dispatching its operations takes most of the time."""
    return model.costs.params.active_no_embedding < SMALL_LAYER * model.architecture.layers


def _sizes(plan: Plan, names: list[str]) -> str:
    active = [plan.decoders[name].costs.params.active for name in names]
    total = [plan.decoders[name].costs.params.total for name in names]
    words = dict.fromkeys(map(size_word, sorted(active)))
    sparse = f", {_range(total)} total" if total != active else ""
    return f"{' and '.join(words)} model{'s' if len(names) > 1 else ''} ({_range(active)} active parameters{sparse})"


def _machines(evidence: Evidence, kind: str) -> str:
    runs = {run.machine for run in evidence.outcomes if run.machine}
    processes = {process.machine for process in evidence.processes if process.machine}
    machines = processes if kind == "timed" and processes else runs or processes
    return " and ".join(sorted(machines)) if machines else evidence.stored.environment.machine


def _range(counts: list[int]) -> str:
    low, high = _count(min(counts)), _count(max(counts))
    if low == high or max(counts) <= 1.02 * min(counts):
        return low
    return f"{low.removesuffix(' M')} to {high}" if low[-1] == high[-1] else f"{low} to {high}"


def _count(value: int) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{value / 1e6:.2f} M" if value >= 1e4 else f"{value}"
