"""Final, decayed losses of several budgets: those of a run's decay branches, and its own.

A branch leaves a run that is still at its peak rate, decays over the cooldown of a smaller budget, and is the run that
this budget alone would have been (Hagele et al. 2024, arXiv:2405.18392). Its records stand at the step of that budget.
"""

from __future__ import annotations

from collections.abc import Iterator

from moebench.metrics.metric import Metric, Record

BITS_PER_BYTE = Metric(
    name="decayed.bits_per_byte",
    unit="bits/byte",
    rests_on_loss=True,
    asked_by=("bits_per_byte",),
    says="cross-entropy on the test split at the end of a run with each budget, its rate decayed",
    cannot="budgets between those, or beyond the last; it holds no auxiliary loss",
)
TOKENS = Metric(
    name="decayed.tokens",
    unit="tokens",
    better="neither",
    fixed=lambda _: "it is what the suite's budget says",
    says="training tokens of a run with each budget",
    cannot="anything measured: it is the suite's budget",
)
MODEL_FLOPS = Metric(
    name="decayed.model_flops",
    unit="FLOPs",
    same_each_time=True,
    says="model FLOPs that a run with each budget spends, tokens really routed",
    cannot="what its branch cost: it shares all but its cooldown",
)
BRANCH_FLOPS = Metric(
    name="decayed.branch_flops",
    unit="FLOPs",
    same_each_time=True,
    says="FLOPs, as the kernels run them, that all decay branches of a run took on top of it",
    cannot="time; evaluations are not counted",
)

METRICS = (BITS_PER_BYTE, TOKENS, MODEL_FLOPS, BRANCH_FLOPS)


def decayed(bits_per_byte: float, *, step: int, tokens: int, model_flops: int) -> Iterator[Record]:
    """A run with a budget of `step` steps, at its end."""
    yield BITS_PER_BYTE.record(bits_per_byte, step=step)
    yield TOKENS.record(tokens, step=step)
    yield MODEL_FLOPS.record(model_flops, step=step)


def diverged(reason: str, *, step: int) -> Record:
    """A branch that has no end."""
    return BITS_PER_BYTE.record(step=step, reason=reason)


def cost(branch_flops: int, *, step: int) -> Record:
    """Of all branches together."""
    return BRANCH_FLOPS.record(branch_flops, step=step)
