"""Every figure of a report: one function and one line here.

A function takes the `Findings` and returns the figure with its title, or a sentence saying why there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from moebench.reporting.analysis import Findings
from moebench.reporting.figures import costs, fronts, quality, routing, sweeps, tuning, verdicts
from moebench.reporting.theme import Drawn

PLOTS: dict[str, Callable[[Findings], Drawn | str]] = {
    "claims": verdicts.forest,
    "answer": quality.answer,
    "sweep": sweeps.swept,
    "costs": costs.ratios,
    "latency": costs.latency,
    "quality": quality.finals,
    "loss": quality.currencies,
    "fronts": fronts.pareto,
    "load": routing.load,
    "balance": routing.balance,
    "dropped": routing.dropped,
    "domains": routing.domains,
    "tuning": tuning.rates,
}
