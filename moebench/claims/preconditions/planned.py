"""What a plan alone tells against a claim: numbers that could not come out otherwise, models that are not alike."""

from __future__ import annotations

from itertools import combinations

from moebench.claims import likeness
from moebench.claims.hypothesis import Contrast, Term
from moebench.claims.kinds.sweeping import together
from moebench.claims.preconditions.question import FINAL_LOSS, Question, is_trained
from moebench.format import MINUS
from moebench.metrics import constant
from moebench.planning.types import Plan
from moebench.suite.claim import Claim
from moebench.suite.model import DenseFFN


def fixed(plan: Plan, contrast: Contrast) -> str | None:
    """A number that could not have come out otherwise."""
    for term in contrast.terms:
        model = plan.decoders.get(term.model)
        if model is not None and (why := constant(term.metric, model.architecture)) is not None:
            return f"constant: {term.base} of {term.model} tells nothing: {why}"
    return None


def not_causal(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """A loss, or a loss that sets a target, of a model that sees what it is to predict."""
    if not contrast.rests_on_loss:
        return None
    for model in dict.fromkeys((*contrast.models, *plan.models_of(claim))):
        planned = plan.decoders.get(model)
        if planned is None or planned.architecture.causal:
            continue
        a = planned.architecture
        word = "" if isinstance(a.ffn, DenseFFN) else a.ffn.router
        if a.causal is None:
            return f"router: the plan does not say whether {word} of {model} is causal: plan and run it again"
        if a.router is not None and a.router.code is not None:
            declared = f"router {word} says causal = False: its routing depends on later tokens"
            return f"{declared}, so the language-modelling loss of {model} means nothing"
        return f"router: {word} of {model} sees later tokens, so its language-modelling loss means nothing"
    return None


def same_tokens(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """Models of different tokenizers compare in what is counted by bytes of one text, and in no other measure."""
    models = [name for name in dict.fromkeys((*contrast.models, *plan.models_of(claim))) if name in plan.decoders]
    first, other = next((pair for pair in combinations(models, 2) if _reads_other(plan, *pair)), ("", ""))
    if not other:
        return None
    if plan.data_of(first).text_digest != plan.data_of(other).text_digest:
        return f"data: {first} and {other} read different texts"
    unfit = next((term.metric for term in contrast.terms if not _is_of_no_tokens(term)), None)
    if unfit is None:
        return None
    return (
        f"tokenizer: {first} and {other} read different tokens, so {unfit} cannot be compared: across tokenizers claim "
        f"{FINAL_LOSS}"
    )


def _is_of_no_tokens(term: Term) -> bool:
    """Whether a metric means the same whatever the tokens: quality by bytes of text, tasks, sizes."""
    counted = term.facts.kind == "counted" and "token" not in f"{term.facts.unit} {term.base}"
    return counted or term.base == FINAL_LOSS or term.base.startswith("lm_eval.")


def _reads_other(plan: Plan, one: str, other: str) -> bool:
    return plan.data_of(one).tokenizer != plan.data_of(other).tokenizer


def same_view(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """Models that are held against each other are trained on the same part of the text, or that is the claim.

    What a part leaves out changes what a loss on the rest can be: a domain's share is what others have less of.
    """
    if claim.across == "data" or not any(is_trained(term) for term in contrast.terms):
        return None
    rungs = plan.rungs_of(claim)
    ladder = [(*claim.about(plan.spec.sweeps), *rungs)] if rungs else []
    for group in (*together(claim, plan.spec.sweeps), *ladder):
        views = {likeness.trained_on(plan, name): name for name in plan.spec.latest(group) if name in plan.trained}
        if len(views) > 1:
            return (
                f"data: {' and '.join(views.values())} are trained on different parts of the text: give both the same "
                "`data:`, or write `across: data` where that is the claim"
            )
    return None


def same_looks(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """Whoever keeps the best of more looks has more to choose from: early stopping alike for all, or for none."""
    if not any(is_trained(term) for term in contrast.terms):
        return None
    for group in together(claim, plan.spec.sweeps):
        looks = {plan.decoders[name].recipe.looks: name for name in group if name in plan.trained}
        if len(looks) > 1:
            ways = " and ".join(f"{name} {likeness.kept_words(plan.decoders[name])}" for name in looks.values())
            return f"evaluation: {ways}: give both the same `evaluate:`"
    return None


def matched(question: Question) -> str | None:
    """Compared models that are matched to each other are as equal as the suite demands."""
    models = set(question.models)
    for match in question.plan.matches:
        if {match.model, match.to} <= models and abs(match.residual) > match.tolerance:
            off = f"{match.residual:+.2%}".replace("-", MINUS) + f" on {match.on}, beyond {match.tolerance:.2%}"
            return f"match: {match.model} misses {match.to} by {off}"
    return None
