"""What was scored: the same text, tasks and items in every run, and enough of them."""

from __future__ import annotations

from collections.abc import Container, Hashable

from moebench.claims import coverage, informative, items
from moebench.claims.preconditions.question import FINAL_LOSS, Question
from moebench.metrics import metric_of
from moebench.planning.types import Plan
from moebench.reader.evidence import Outcome


def same_text(question: Question) -> str | None:
    """Every run was scored on the same bytes of the same documents; of two pairs, each on its own."""
    groups = question.claim.groups
    sides = groups if len(groups) > 1 else ({run.model for run in question.scoring},)
    return next(filter(None, (_one_text(question, side) for side in sides)), None)


def _one_text(question: Question, models: Container[str]) -> str | None:
    """The same of the runs of some models."""
    for text in sorted(question.texts):
        scoring = [run for run in question.scoring if run.model in models]
        read = [(run, coverage.documents_of(run, text)) for run in scoring]
        unknown = [run for run, documents in read if documents is None]
        if 0 < len(unknown) < len(read):
            which = f"{unknown[0].model} with seed {unknown[0].seed}"
            return f"evaluation: which documents {which} was scored on is not known, though it is of other runs"
        if unknown:
            read = [(run, _asked(question.plan, run, text)) for run, _ in read]
        other = next((pair for pair in read if pair[1] != read[0][1]), None)
        if other is not None:
            where = " at the evaluation points" if text == "curve" else ""
            pair = " and ".join(_scored_words(run, text) for run in (read[0][0], other[0]))
            advice = "give every model the same `evaluate:`"
            return f"evaluation: {pair} were scored on different text{where}: {advice}"
    return None


def _asked(plan: Plan, run: Outcome, text: str) -> Hashable:
    """What a run was to be scored on: of one split, it says which text that is."""
    recipe = plan.decoders[run.model].recipe
    return (recipe.eval_tokens if text == "curve" else recipe.final_eval_tokens), recipe.windows_per_document


def _scored_words(run: Outcome, text: str) -> str:
    counts = coverage.counts_of(run, text)
    size = f" ({counts[0]:,} bytes of {counts[1]:,} documents)" if counts is not None else ""
    return f"{run.model} with seed {run.seed}{size}"


def same_task(question: Question) -> str | None:
    """What was measured elsewhere or here under one name was measured in one way, as far as that is known."""
    for metric in dict.fromkeys(term.metric for term in question.contrast.terms):
        known = {run.conditions[metric]: run.model for run in question.runs if metric in run.conditions}
        if len(known) > 1:
            ways = " and ".join(f"{model} ({way})" for way, model in known.items())
            return f"evaluation: {metric} was not measured alike: {ways}"
    return None


def same_items(question: Question) -> str | None:
    """Every run has the same items, as far as they are known; text by bytes is held alike for itself."""
    for metric in dict.fromkeys(term.metric for term in question.contrast.terms):
        if metric_of(metric).name == FINAL_LOSS:
            continue
        known = [run for run in question.runs if items.items_of(run, metric)]
        sets = [{(item.name, item.group, item.size) for item in items.items_of(run, metric)} for run in known]
        other = next((run for run, found in zip(known, sets, strict=True) if found != sets[0]), None)
        if other is not None:
            return items.unlike(metric, (known[0], other))
    return None


def enough_text(question: Question) -> str | None:
    """What was scored is a fair share of what was asked, of several documents."""
    for term in question.contrast.terms:
        text = coverage.scored(question.evidence, term.metric, question.models)
        why = None if text is None else coverage.too_little(question.evidence, text, question.planned)
        if why is not None:
            return why
    return None


def tasks_informative(question: Question) -> str | None:
    return informative.uninformative(question.plan, question.claim, question.contrast, question.runs)
