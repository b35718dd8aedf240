"""What the metrics of lm-eval's tasks mean: `lm_eval.acc[task=arc_easy]`, with the task as its label.

A suite is checked before any task is read, so the metrics that lm-eval itself has stand here with their direction; a
plan holds those of its tasks, under their whole names, with the direction that each task states. Where a task gives one
metric through several filters, the filter follows the task's name: `[task=gsm8k:strict-match]`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moebench.metrics.metric import SHARE, Better, Metric, Range
from moebench.metrics.ref import MetricRef

GROUP = "lm_eval"
CHANCE = f"{GROUP}.chance"
"""What guessing gets on a task of choices, for its accuracies: recorded beside them, and compared with nothing."""
CUT = f"{GROUP}.prompts_cut"
"""Share of a task's prompts that did not fit the model's context and were read from their end only."""
CLUSTERED_BY = ("group", "subject")
"""Fields of a task's document that say which others it belongs to."""
SHARES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "acc_all", "exact_match", "f1", "likelihood")
HIGHER = (*SHARES, "mcc", "bleu", "chrf", "chrf__", "rouge1", "rouge2", "rougel", "em", "bleu_acc", "pass_at_1")
LOWER = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter")
"""Metrics of lm-eval, as labels are written: letters, digits and `_`."""


_SAYS = {
    CHANCE: ("what guessing gets: the mean over questions of 1 / choices", "anything about a model"),
    CUT: ("share of prompts that were cut on the left to fit the context", "how much of them was cut"),
}


def task_metric(base: str, *, better: Better | None = None, **facts: Any) -> Metric | None:
    """The metric `lm_eval.<name>`; None where neither its task nor lm-eval says which direction is better."""
    if base in (CHANCE, CUT):
        says, cannot = _SAYS[base]
        made = Metric(name=base, unit="1", better="neither", labels=("task",), within=SHARE, says=says, cannot=cannot)
        return made.model_copy(update=facts)
    group, _, name = base.partition(".")
    if better is None and name in (*HIGHER, *LOWER):
        better = "higher" if name in HIGHER else "lower"
    if group != GROUP or not name or better is None:
        return None
    return Metric(
        name=base,
        unit="bits/byte" if name == "bits_per_byte" else "1",
        better=better,
        labels=("task",),
        within=SHARE if name in SHARES else Range(),
        says=f"{name} of lm-eval on a task",
        cannot="quality on other tasks, or with other prompts",
        **facts,
    )


def of_names(names: Iterable[str | None]) -> dict[str, Metric]:
    """Those metrics of lm-eval that are named, such as by the claims of a suite, by name without the task."""
    found: dict[str, Metric] = {}
    for name in names:
        try:
            base = MetricRef.parse(name).base if name is not None else ""
        except ValueError:
            continue
        if (metric := task_metric(base)) is not None:
            found[base] = metric
    return found
