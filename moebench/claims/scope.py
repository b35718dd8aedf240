"""For what a verdict holds: sizes, data, tokens, hardware, the text that was scored, what differs between its models.

`nano models (0.11 M active parameters), stdlib text, 1.0 M tokens, 2-core x86_64 CPU; moe over dense: ...`
"""

from __future__ import annotations

from moebench.claims import coverage, likeness
from moebench.claims.verdict import Beside, Scored
from moebench.format import size_word
from moebench.metrics import metric_of
from moebench.planning.types import Plan, PlannedModel
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim

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
    parts = [_place(evidence, models, kind), coverage.words(text) if text is not None else "", differs]
    return "; ".join(filter(None, parts))


def _place(evidence: Evidence, models: tuple[str, ...], kind: str) -> str:
    plan = evidence.plan
    published = [name for name in models if name in plan.systems and name not in plan.decoders]
    if published:
        return f"{' and '.join(published)}, counted from the published architecture"
    known = [name for name in models if name in plan.decoders] or list(plan.decoders)
    sizes = _sizes(plan, known)
    if kind == "counted":
        return f"{sizes}, counted from the architecture: the same on any hardware"
    recipes = [plan.decoders[name].recipe for name in known if name in plan.trained]
    spent = f"{_range([r.steps * r.batch_tokens for r in recipes])} tokens" if recipes else "initial values"
    dispatch = f", {DISPATCH}" if kind == "timed" and any(_is_small(plan.decoders[name]) for name in known) else ""
    return f"{sizes}, {plan.spec.data.scope}, {spent}, {_machines(evidence, kind)}{dispatch}"


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
