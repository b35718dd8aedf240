"""Numbers that cannot vary: metrics whose value follows from how a model or a suite is made, whatever is measured.

A claim about one has no verdict, for no outcome could speak against it. Metrics that are no longer measured stand here
too. Nothing is known here of routers of installed packages, which may do anything.
"""

from __future__ import annotations

from fractions import Fraction

from moebench.metrics.declared import METRICS, parse_metric
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.routers import ROUTERS, drops

_LOADS = ("routing.tokens", "routing.domain_tokens", "routing.entropy", "routing.max_over_mean", "routing.dead_experts")
_BUDGET = ("train.tokens", "train.epochs")


def constant(metric: str, ffn: DenseFFN | MoEFFN) -> str | None:
    """Why a metric is fixed for a model, and what to use instead where there is something; None when it can vary."""
    base = parse_metric(metric)[0]
    if (retired := METRICS[base].retired) is not None:
        return retired
    if base in _BUDGET:
        return "it is what the suite's budget says"
    if base.endswith((".scored_bytes", ".scored_documents")):
        return "it is what the suite asks to be scored"
    if base == "routing.idle_by_chance":
        return "it is arithmetic on the numbers of tokens and experts: use routing.dead_experts"
    if base == "evaluation.dropped_share" and not drops(ffn, training=False):
        return "0 by construction, as experts take every assignment in an evaluation: use train.dropped_share"
    if base == "train.dropped_share" and (why := _has_room(ffn)) is not None:
        return f"0 by construction, as {why}"
    if base in _LOADS and isinstance(ffn, MoEFFN) and (why := _even(ffn)) is not None:
        return f"fixed by construction, as {why}"
    return None


def _has_room(ffn: DenseFFN | MoEFFN) -> str | None:
    """Why no pair can go over capacity in training."""
    if isinstance(ffn, DenseFFN):
        return "there is no router"
    if not drops(ffn, training=True):
        return f"{ffn.router} has no capacity_factor here"
    most = Fraction(ffn.experts, ffn.top_k)
    if ffn.router in ROUTERS and ffn.capacity_factor is not None and Fraction(str(ffn.capacity_factor)) >= most:
        return f"with capacity_factor {ffn.capacity_factor:g} every expert has room for every token"
    return None


def _even(ffn: MoEFFN) -> str | None:
    """Why the load of the experts cannot be uneven."""
    if ffn.experts == 1:
        return "there is one expert"
    if ffn.router not in ROUTERS:
        return None
    if ROUTERS[ffn.router].even:
        return f"{ffn.router} gives every expert as many tokens"
    if ffn.top_k == ffn.experts and ROUTERS[ffn.router].fewer is None:
        return f"with top_k {ffn.top_k} every token goes to every expert"
    return None
