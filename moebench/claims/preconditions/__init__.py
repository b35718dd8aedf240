"""What must be true of the runs before a claim about them means anything.

Each precondition is a function that returns what is broken, or None. They look at how numbers were made, and at whether
they can be what they are called (no loss is below its source's entropy), never at which side they favour: a broken one
makes the verdict INVALID whichever way it points. One file a theme: `planned` (the plan alone), `data`, `scored`,
`training`, `timing`.
"""

from __future__ import annotations

from collections.abc import Callable

from moebench.claims.hypothesis import Contrast
from moebench.claims.preconditions import data, planned, scored, timing, training
from moebench.claims.preconditions.question import Question
from moebench.planning.types import Plan
from moebench.suite.claim import Claim

PRECONDITIONS: tuple[Callable[[Question], str | None], ...] = (
    planned.matched,
    data.same_data,
    training.same_start,
    data.same_test_split,
    scored.same_text,
    scored.same_task,
    scored.same_items,
    training.above_entropy,
    training.controls_passed,
    scored.enough_text,
    timing.same_memory,
    training.same_treatment,
    training.same_schedule,
    training.same_budget,
    timing.same_step,
    timing.one_machine,
    training.learned,
    scored.tasks_informative,
    training.few_diverged,
    training.more_than_chance,
    timing.quiet_machine,
)
OF_LENGTH = frozenset(
    {scored.enough_text, training.learned, scored.tasks_informative, training.more_than_chance, timing.quiet_machine}
)
"""Those that too short a run or session fails."""


def unfit(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """What the plan alone tells against a claim, whatever was measured; None when there is nothing."""
    of_both = (planned.not_causal, planned.same_tokens, planned.same_view, planned.same_looks)
    why = planned.fixed(plan, contrast)
    return why or next(filter(None, (check(plan, claim, contrast) for check in of_both)), None)


def broken(question: Question) -> str | None:
    """The first precondition that fails, in words; None when all hold. A smoke run is not asked for long training."""
    asked = [one for one in PRECONDITIONS if not (question.plan.asked.smoke and one in OF_LENGTH)]
    return next((why for check in asked if (why := check(question)) is not None), None)
