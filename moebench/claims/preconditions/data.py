"""The tokens that were trained on: with each seed the same, in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from moebench.claims import likeness
from moebench.claims.preconditions.question import Question
from moebench.reader.evidence import Outcome


def same_data(question: Question) -> str | None:
    """With each seed, the shorter run's tokens are a prefix of the longer's, as far as the runs were made here."""
    if not question.runs:  # a timing does not rest on the data
        return None
    for group in (*question.alike, *_begun_from(question)):
        pairs = pairs_of_runs(run for run in question.evidence.outcomes_of(group) if run.done)
        if (why := next(filter(None, (unlike(*pair) for pair in pairs)), None)) is not None:
            return f"data: {why}"
    return None


def _begun_from(question: Question) -> list[tuple[str, ...]]:
    """What the models of each group start from, that are trained on from others of the suite: those in their turn are
    to have read the same tokens, as far as both did."""
    plan, found = question.plan, list[tuple[str, ...]]()
    for group in question.alike:
        begun = dict.fromkeys(parent for name in group if (parent := plan.spec.began_with(name)) is not None)
        kinds = {(plan.data_of(name).tokenizer, likeness.trained_on(plan, name)) for name in begun}
        found += [tuple(begun)] if len(begun) > 1 and len(kinds) == 1 else []
    return found


def unlike(one: Outcome, other: Outcome) -> str | None:
    """How two runs with one seed break the rule that the shorter's tokens are a prefix of the longer's; else None."""
    shorter, longer = sorted((one, other), key=lambda run: max(run.digests, default=0))
    if not shorter.digests:
        return f"no digest of the tokens of {shorter.model} with seed {one.seed}"
    last = max(shorter.digests)
    if last not in longer.digests:  # a small copy has no row of a step at which only another run ended
        last = max(shorter.digests.keys() & longer.digests.keys(), default=last)
    if shorter.digests[last] != longer.digests.get(last):
        return f"{one.model} and {other.model} with seed {one.seed} did not see the same tokens up to step {last}"
    return None


def pairs_of_runs(used: Iterable[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Every two runs with one seed."""
    by_seed: dict[int, list[Outcome]] = {}
    for run in used:
        by_seed.setdefault(run.seed, []).append(run)
    return [pair for runs in by_seed.values() for pair in combinations(runs, 2)]


def same_test_split(question: Question) -> str | None:
    runs = (*(run for run in question.runs if run.model in question.planned), *question.scoring)
    unknown = next((run for run in runs if run.test_digest is None), None)
    if unknown is not None:
        return f"data: no digest of the test split of {unknown.model} with seed {unknown.seed}"
    return "data: the runs were tested on different test splits" if len({run.test_digest for run in runs}) > 1 else None
