"""Times and peaks of memory: of equal micro-batches, on one machine that is quiet."""

from __future__ import annotations

from moebench.claims import controls, likeness
from moebench.claims.preconditions.question import Question
from moebench.format import interval

PER_STEP = ("speed.train_step_s", "speed.train_utilisation")
"""Timed over one micro-batch, so comparable only between equal ones."""


def same_memory(question: Question) -> str | None:
    """The peak of a training step is that of a micro-batch: of equal ones, where equal treatment is claimed."""
    if not any(term.base == "memory.train_peak_bytes" for term in question.contrast.terms):
        return None
    pair, sizes = likeness.tied(question.plan, question.planned), _micro_batches(question)
    if pair is None or sizes is None:
        return None
    return (
        f"memory: {' and '.join(pair)} are matched, but their peaks are of different micro-batches (tokens: {sizes}): "
        "give both the same `micro_batch_tokens`"
    )


def same_step(question: Question) -> str | None:
    """A step that is timed trains on as many tokens in every model."""
    if not any(term.base in PER_STEP for term in question.contrast.terms):
        return None
    # Per token it would still be no fair race: a larger micro-batch uses the machine better.
    if (sizes := _micro_batches(question)) is None:
        return None
    return f"timing: a step is of different micro-batches (tokens: {sizes}): give all the same `micro_batch_tokens`"


def _micro_batches(question: Question) -> str | None:
    """Tokens of each model's micro-batch, in words; None where they are the same in all."""
    sizes = {name: question.plan.decoders[name].recipe.micro_batch_tokens for name in question.planned}
    return ", ".join(f"{name} {size:,}" for name, size in sizes.items()) if len(set(sizes.values())) > 1 else None


def one_machine(question: Question) -> str | None:
    """All processes of a speed session ran on one machine, set up in one way."""
    places = sorted({process.setup or process.machine or "" for process in question.evidence.processes})
    if not question.contrast.timings or len(places) < 2:
        return None
    return f"timing: the speed session's processes ran on {len(places)} machines ({'; '.join(places)}): run it again"


def quiet_machine(question: Question) -> str | None:
    """The baseline raced against itself came out equal, as far as its 99% interval can tell."""
    for metric in question.contrast.timings:
        race = controls.against_itself(question.evidence, metric)
        if race is None:
            return f"A/A: {metric} of the baseline has no A/A run"
        if controls.is_off(race):
            ratio = interval(*controls.ratio(race), "ratio")
            low, high = controls.AA_RANGE
            return f"A/A: the baseline takes {ratio} its own time in {metric}, outside {low} to {high}"
    return None
