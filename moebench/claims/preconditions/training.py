"""How the models were trained: alike where that is claimed, to an end, and to something."""

from __future__ import annotations

import numpy as np

from moebench import stats
from moebench.claims import controls, idle, likeness
from moebench.claims.preconditions.question import FINAL_LOSS, Question, is_trained

LEARNED = 0.01
"""Share of a unigram model's bits per byte by which a model must be below it to have learned anything."""
STARTS_ALIKE = 0.01
"""Share by which losses may differ, mean over seeds, of stages that are to start from an equal one."""
ONCE = 1e-6
"""How likely chance alone may be where something is called impossible."""


def learned(question: Question) -> str | None:
    """Every model whose loss is compared learned more than how often each byte occurs.

    Of a task it is asked whether it was learned: `informative` does.
    """
    if not any(term.facts.rests_on_loss and not term.base.startswith("task.") for term in question.contrast.terms):
        return None
    for model in question.planned:
        facts = question.plan.data_of(model)
        unigram, what = facts.unigram_bits_per_byte, "bytes" if facts.tokenizer is None else "tokens"
        if unigram is None:
            continue
        runs = [run for run in question.evidence.outcomes_of([model]) if run.status == "completed"]
        losses = [run.values[FINAL_LOSS] for run in runs if FINAL_LOSS in run.values]
        if losses and (typical := float(np.median(losses))) > (1 - LEARNED) * unigram:
            return (
                f"training: {model} learned nothing: {typical:.4g} bits/byte, where counting the {what} of the "
                f"training split gives {unigram:.4g}; train it longer or at another learning rate"
            )
    return None


def above_entropy(question: Question) -> str | None:
    """No model codes a source's text in fewer bits than there are in it, whatever it was trained on.

    The text that was scored may hold less than its source does on average, but not by much: documents are drawn
    independently, and a model that is as good as can be scatters over them as they do. So the whole must be below by
    more than chance does once in a million; where documents are not known, by half.
    """
    entropy = question.plan.data.entropy_bits_per_byte
    if entropy is None or not question.contrast.rests_on_loss:
        return None
    for run in question.scoring:
        loss = run.values.get(FINAL_LOSS)
        if loss is None or loss >= entropy:
            continue
        below = [item.value - entropy * item.size for item in run.items.get(FINAL_LOSS, ())]
        if stats.paired(np.array(below)).p_below(0) < ONCE if len(below) > 1 else loss < entropy / 2:
            return (
                f"loss: {run.model} with seed {run.seed} has {loss:.4g} bits/byte, below the source's entropy "
                f"{entropy:.4g}: impossible, so it sees what it should predict"
            )
    return None


def same_start(question: Question) -> str | None:
    """Where one stage starts at an equal loss on purpose, those that it is held against start there too."""
    plan = question.plan
    for group in question.alike:
        points = {name: one.derived.at for name in group if (one := plan.decoders[name]).derived is not None}
        aims = any(at is not None and at.steps is None for at in points.values())
        losses = {name: loss for name in points if (loss := likeness.start_loss(question.evidence, name)) is not None}
        if not aims or len(losses) < 2 or not any(term.facts.rests_on_loss for term in question.contrast.terms):
            continue
        low, high = min(losses, key=losses.__getitem__), max(losses, key=losses.__getitem__)
        if losses[high] > (1 + STARTS_ALIKE) * losses[low] and "start.bits_per_byte" not in question.claim.metrics:
            apart = f"they were to start at an equal loss, and start {losses[high] / losses[low] - 1:.1%} apart"
            return f"start: {apart}: {high} at {losses[high]:.4g} and {low} at {losses[low]:.4g} bits/byte"
    return None


def same_treatment(question: Question) -> str | None:
    """Models that a match ties were trained so that their losses mean the same."""
    plan, models = question.plan, question.planned
    if not question.runs or not any(is_trained(term) for term in question.contrast.terms):
        return None
    if (why := likeness.other_meaning(plan, models)) and (pair := likeness.tied(plan, models)):
        return f"training: {' and '.join(pair)} are matched, but {why}: give both the same `micro_batch_tokens`"
    if question.contrast.rests_on_loss and (why := likeness.other_dtype(plan, models)):
        # Equal bytes in different dtypes is what a match on them claims.
        pair = likeness.tied(plan, models, but=("weight_bytes",))
        return None if pair is None else f"training: {' and '.join(pair)} are matched, but {why}: give both one dtype"
    return None


def same_schedule(question: Question) -> str | None:
    """A curve that has not decayed is that of its schedule: crossings of different ones cannot be compared."""
    crosses = question.contrast.formed == "overtaking"
    if not crosses and not any(term.base.endswith("_to_quality") for term in question.contrast.terms):
        return None
    schedules = {question.plan.decoders[name].recipe.schedule: name for name in question.planned}
    if len(schedules) < 2:
        return None
    return (
        f"schedule: {' and '.join(schedules.values())} have different schedules or evaluation points, and a crossing "
        "is read between the points of a curve whose learning rate has not decayed: give both the same steps, batch, "
        "warm-up, decay and evaluation points"
    )


def same_budget(question: Question) -> str | None:
    """What stands on a ladder was trained on as many tokens as its rungs."""
    rungs = question.plan.rungs_of(question.claim)
    tokens = {name: question.plan.decoders[name].train_tokens for name in question.planned}
    other = next((name for name in question.planned if rungs and tokens[name] != tokens.get(rungs[0])), None)
    if other is None:
        return None
    return (
        f"ladder: {other} was trained on {tokens[other]:,} tokens and {rungs[0]} on {tokens[rungs[0]]:,}: what is held "
        "against a ladder has its budget"
    )


def few_diverged(question: Question) -> str | None:
    """No arm lost more than one run, or a tenth of them, to divergence."""
    for model in question.models:
        runs = [run for run in question.runs if run.model == model]
        diverged = sum(run.status == "diverged" for run in runs)
        if diverged > max(1, 0.1 * len(runs)):
            return f"divergence: {diverged} of {len(runs)} runs of {model} diverged"
    return None


def controls_passed(question: Question) -> str | None:
    """No control failed on which a loss of these models rests."""
    if not question.contrast.rests_on_loss:
        return None
    return controls.gated(question.evidence, [*question.models, *question.plan.models_of(question.claim)])


def more_than_chance(question: Question) -> str | None:
    return idle.by_chance(question.plan, question.contrast, question.runs)
