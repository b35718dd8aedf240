"""What the models of a claim are and how they were trained, one beside the other: what is equal, what is not.

`FACTS` is one table. A verdict lists it, names what differs, and says whether a match ties the two models. What makes
two numbers no measurement of the same thing is a precondition of its own (`preconditions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from moebench.claims import coverage
from moebench.claims.kinds.sweeping import key_of
from moebench.claims.verdict import Beside
from moebench.format import TIMES
from moebench.jobs.recipe import not_of_batch
from moebench.planning.planned import PlannedModel
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence
from moebench.suite.claim import Claim
from moebench.suite.model import MatchOn, MoEFFN
from moebench.suite.view import TrainingView

TOKENS = "training tokens"
BYTES = "bytes"
"""The tokenizer that is not told where it is that of all models."""
WHOLE = "all"
"""The training text that is not told where it is that of all models."""
Value = int | float | str | None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One line of what stands beside each other."""

    says: str
    of: Callable[[Evidence, str], Value]
    counted: bool = False
    """Whether it is of the model itself and not of its training: what a claim about counts needs."""
    untrained: bool = False
    """Whether it is also of a model that is not trained, beside what is counted."""


def _planned(of: Callable[[PlannedModel], Value]) -> Callable[[Evidence, str], Value]:
    return lambda evidence, model: of(evidence.plan.decoders[model])


def _scored_bytes(evidence: Evidence, model: str) -> Value:
    text = coverage.scored(evidence, "test.bits_per_byte", [model])
    return None if text is None else text.scored_bytes


def _train_flops(evidence: Evidence, model: str) -> Value:
    """As the runs counted them, mean over seeds: of fewer assignments than planned where some are dropped."""
    completed = (run for run in evidence.outcomes_of([model]) if run.status == "completed")
    counted = [value for run in completed if (value := run.values.get("train.model_flops")) is not None]
    return sum(counted) / len(counted) if counted else evidence.plan.decoders[model].expected_train_flops


def start_loss(evidence: Evidence, model: str) -> float | None:
    """Bits per byte before the first step, mean over seeds, of a model that is trained on from another."""
    completed = (run for run in evidence.outcomes_of([model]) if run.status == "completed")
    losses = [loss for run in completed if (loss := run.values.get("start.bits_per_byte")) is not None]
    return sum(losses) / len(losses) if losses else None


def _kernels(evidence: Evidence, model: str) -> Value:
    kernels = {run.kernels for run in evidence.outcomes_of([model]) if run.kernels is not None}
    return " and ".join(sorted(kernels)) or None


def _trained_params(model: PlannedModel) -> int | None:
    """Those with a gradient; in a plan of before they were counted, by their gradient and AdamW's two moments. None of
    a model that is another with its weights changed."""
    if model.transform is not None:
        return None
    counted = model.costs.trained_params
    return (model.costs.train_state_bytes - 4 * model.costs.params.total) // 12 if counted is None else counted


def _schedule(model: PlannedModel) -> str:
    r = model.recipe
    down = "constant" if r.decay == "none" else f"{r.decay} to {r.final_lr_share:.0%}"
    if r.cooldown is not None:
        down = f"stable, the last {r.cooldown:.0%} linear to {r.final_lr_share:.0%}"
    branches = f", branches at {', '.join(f'{steps:,}' for steps in r.branches)} steps" if r.branches else ""
    return f"{r.warmup_steps / r.steps:.0%} warm-up, then {down}{branches}"


def kept_words(model: PlannedModel) -> str:
    """Which weights it leaves, in words."""
    r = model.recipe
    best = f"leaves the best of {len(r.evaluate_at)} looks at {r.eval_tokens:,} tokens of the tune split"
    return "leaves its last weights" if r.keep == "last" else best


def _optimizer(model: PlannedModel) -> str:
    r = model.recipe
    clip = "no clipping" if r.clip is None else f"clip {r.clip:g}"
    name = {"adamw": "AdamW", "muon": "Muon and AdamW"}[r.optimizer]
    name += "" if r.momentum is None else f", momentum {r.momentum:g}"
    words = f"{name}, betas {r.betas[0]:g} and {r.betas[1]:g}, eps {r.eps:g}, decay {r.weight_decay:g}, {clip}"
    return words if r.router_lr == 1 else f"{words}, routers at {r.router_lr:g}{TIMES} the rate"


def epochs(plan: Plan, model: str) -> float | None:
    """How often a model reads the training split; None when its size is not known."""
    planned, stream = plan.decoders[model], plan.data_of(model).tokens.get("train")
    return None if stream is None else planned.recipe.epochs(stream=stream, context=planned.architecture.context)


FACTS: tuple[Fact, ...] = (
    Fact(says="active parameters", of=_planned(lambda m: m.costs.params.active), counted=True),
    Fact(says="total parameters", of=_planned(lambda m: m.costs.params.total), counted=True),
    Fact(says="trained parameters", of=_planned(_trained_params), counted=True),
    Fact(says="training FLOPs/token", of=_planned(lambda m: m.costs.train_flops_per_token), counted=True),
    Fact(says="context", of=_planned(lambda m: m.architecture.context), counted=True),
    Fact(says="training FLOPs", of=_train_flops),
    Fact(says=TOKENS, of=_planned(lambda m: m.recipe.steps * m.recipe.batch_tokens)),
    Fact(says="epochs", of=lambda evidence, model: epochs(evidence.plan, model)),
    Fact(says="tokens per batch", of=_planned(lambda m: m.recipe.batch_tokens)),
    Fact(says="tokens per micro-batch", of=_planned(lambda m: m.recipe.micro_batch_tokens)),
    Fact(says="learning rate", of=_planned(lambda m: m.recipe.lr)),
    Fact(says="schedule", of=_planned(_schedule)),
    Fact(says="optimizer", of=_planned(_optimizer)),
    Fact(says="dtype", of=_planned(lambda m: m.recipe.dtype), untrained=True),
    Fact(says="kernels", of=_kernels),
    Fact(says="test bytes scored", of=_scored_bytes),
)


def beside(
    evidence: Evidence, models: Iterable[str], treatment: str | None, baseline: str | None
) -> tuple[Beside, ...]:
    """The facts of the models of the suite; what belongs to training is left out where none is trained."""
    compared = [name for name in models if name in evidence.plan.models]
    named = [name for name in compared if name in evidence.plan.decoders]
    if len(named) < len(compared):
        return tuple(_sizes(evidence.plan, compared, treatment, baseline))
    rows = []
    trained = {name for name in named if evidence.plan.decoders[name].recipe.trains}
    for fact in FACTS if named else ():
        of_all = fact.counted or fact.untrained
        if not of_all and not trained:
            continue
        values = {name: fact.of(evidence, name) if of_all or name in trained else None for name in named}
        ratio = _ratio(values.get(treatment or ""), values.get(baseline or ""))
        rows.append(Beside(what=fact.says, values=values, ratio=ratio))
    tokenizers: dict[str, Value] = {name: _tokenizer(evidence.plan, name) for name in named}
    if set(tokenizers.values()) - {BYTES}:
        rows.append(Beside(what="tokenizer", values=tokenizers, ratio=None))
    starts: dict[str, Value] = {name: start_loss(evidence, name) for name in named}
    if any(loss is not None for loss in starts.values()):
        ratio = _ratio(starts.get(treatment or ""), starts.get(baseline or ""))
        rows.append(Beside(what="loss at the start", values=starts, ratio=ratio))
    texts: dict[str, Value] = {name: _text_words(evidence.plan, name) for name in named}
    if set(texts.values()) - {WHOLE}:
        rows.append(Beside(what="training text", values=texts, ratio=None))
    return tuple(rows)


def _tokenizer(plan: Plan, model: str) -> str:
    facts = plan.data_of(model)
    return BYTES if facts.tokenizer is None else f"{facts.vocab:,} tokens"


def trained_on(plan: Plan, model: str) -> tuple[str, float]:
    """What of the text a model is trained on: equal where two models have the same, however it is written."""
    return plan.data_of(model).text_digest, plan.decoders[model].recipe.corrupt


def _text_words(plan: Plan, model: str) -> str:
    view = plan.spec.view_of(model)
    return WHOLE if view == TrainingView() else f"data {view}"


def _sizes(plan: Plan, models: list[str], treatment: str | None, baseline: str | None) -> Iterator[Beside]:
    """What is counted, of models of which some were not made here; a line for each count that any of them has."""
    for what, metric in {
        "active parameters": "cost.active_params",
        "total parameters": "cost.total_params",
        "decode FLOPs/token": "cost.decode_flops_per_token",
    }.items():
        counts: dict[str, Value] = {name: plan.counts(name).get(metric) for name in models}
        if any(count is not None for count in counts.values()):
            ratio = _ratio(counts.get(treatment or ""), counts.get(baseline or ""))
            yield Beside(what=what, values=counts, ratio=ratio)


def _ratio(one: Value, other: Value) -> float | None:
    if isinstance(one, str) or isinstance(other, str) or one is None or not other:
        return None
    return one / other


def compared(claim: Claim, plan: Plan) -> tuple[str, ...]:
    """The models of the plan that a claim compares: not that which only sets its target, but every point of a sweep."""
    return plan.models_of(claim.model_copy(update={"target": None}))


def all_matched_on(plan: Plan, claim: Claim) -> tuple[MatchOn, ...]:
    """Quantities in which matches tie treatment to baseline, of two sweeps at every point."""
    if claim.compare is None:
        return ()
    one, other = (
        {key_of(point): name for name, point in plan.spec.sweeps.get(side, {side: {}}).items()}
        for side in (claim.compare.treatment, claim.compare.baseline)
    )
    tied = [matched_on(plan, name, other[key]) for key, name in one.items() if key in other]
    return tuple(on for on in tied[0] if all(on in rest for rest in tied)) if tied else ()


def matched_on(plan: Plan, one: str, other: str) -> tuple[MatchOn, ...]:
    """Quantities in which matches, followed from model to model, tie two models."""
    tied: list[MatchOn] = []
    for on in dict.fromkeys(match.on for match in plan.matches):
        reached, pairs = {one}, [{match.model, match.to} for match in plan.matches if match.on == on]
        while grown := [pair for pair in pairs if pair & reached and not pair <= reached]:
            reached |= set().union(*grown)
        if other in reached:
            tied.append(on)
    return tuple(tied)


# ---------------------------------------------------------------------------------------------- in words


_ON: dict[MatchOn, str] = {
    "active_params": "active parameters",
    "total_params": "total parameters",
    "train_flops": "training FLOPs/token",
    "decode_flops": "decode FLOPs/token",
    "weight_bytes": "weight bytes",
}
_COUNTED = frozenset(fact.says for fact in FACTS if fact.counted)


def scope_words(
    plan: Plan, rows: Iterable[Beside], treatment: str | None, baseline: str | None, *, counted: bool
) -> str:
    """`moe over dense: 2.74× total parameters, matched on active parameters`: what differs, and what ties the two.

    Of a claim about counts only what is of the models themselves; of a sweep the range of what differs.
    """
    differing: list[Beside] = []
    for row in rows:
        new = all(row.values != other.values for other in differing)
        if row.differs and new and (not counted or row.what in _COUNTED):
            differing.append(row)
    if treatment is None or baseline is None or not {treatment, baseline} <= set(plan.models):
        what = ", ".join(row.what for row in differing)
        return f"its models differ in {what}" if what else ""
    began = plan.begun_as(treatment), plan.begun_as(baseline)
    tied = [_ON[on] for on in matched_on(plan, *began)]
    match = f"matched on {' and '.join(tied)}" if tied else "not matched"
    if began != (treatment, baseline):
        match = "of one training" if began[0] == began[1] else f"made of models {match}"
    pairs = filter(None, (_pair_words(row, treatment, baseline) for row in differing))
    return f"{treatment} over {baseline}: {', '.join([*pairs, match])}"


def listed(rows: Iterable[Beside], treatment: str | None, baseline: str | None) -> str:
    """All that stands beside each other, what is equal by name only; empty for a claim that compares no two models."""
    differing, equal = [], []
    for row in rows:
        one, other = (row.values.get(name or "") for name in (treatment, baseline))
        if treatment is None or baseline is None or one is None or other is None:
            continue
        if one == other:
            equal.append(row.what)
        else:
            against = f"{one} against {other}" if row.ratio is None else f"{row.ratio:.3g}{TIMES}"
            differing.append(f"{row.what} {against}")
    parts = [", ".join(differing)] if differing else []
    parts += [f"equal in {', '.join(equal)}"] if equal else []
    return f"{treatment} over {baseline}: {'; '.join(parts)}" if parts else ""


def _pair_words(row: Beside, treatment: str, baseline: str) -> str | None:
    """None when it is a third model that differs."""
    one, other = row.values.get(treatment), row.values.get(baseline)
    if one is None or other is None:
        return None
    if row.ratio is not None:
        pair = Beside(what=row.what, values={treatment: one, baseline: other})
        return f"{row.ratio:.3g}{TIMES} {row.what}" if pair.differs else None
    return f"{row.what} {one} against {other}" if one != other else None


def notes(evidence: Evidence, models: Iterable[str]) -> Iterator[str]:
    """What differs or holds of the training of a claim's models and bears on a loss."""
    plan = evidence.plan
    named = [name for name in models if name in plan.decoders]
    tokens = {name: plan.decoders[name].recipe.steps * plan.decoders[name].recipe.batch_tokens for name in named}
    if tokens and max(tokens.values()) > 1.01 * min(tokens.values()):
        most, least = max(tokens, key=tokens.__getitem__), min(tokens, key=tokens.__getitem__)
        yield f"{most} was trained on {tokens[most] / tokens[least]:.3g}{TIMES} the tokens of {least}"
    if why := other_meaning(plan, named):
        yield why
    for name in named:
        model = plan.decoders[name]
        yield from (f"{name}: {words}" for words in not_of_batch(model.architecture, model.recipe))
    if why := other_dtype(plan, named):
        yield why
    looking = [name for name in named if plan.decoders[name].recipe.looks]
    for words, who in _by_words(looking, lambda name: kept_words(plan.decoders[name])):
        yield f"{who}: each {words}"
    for words, who in _by_words(named, lambda name: _text_words(plan, name)):
        if words != WHOLE:
            yield f"trained on {words}: {who}"
    new: dict[str, float] = {}
    for name in named:
        new |= {domain: max(share, new.get(domain, 0)) for domain, share in plan.data_of(name).unseen.items()}
    if new:
        told = " and ".join(f"{share:.1%} of those of {domain}" for domain, share in new.items())
        yield f"trigrams of the test split that occur in no training text: {told}"
    reads = {name: times for name in named if (times := epochs(plan, name)) is not None and times > 1}
    for often, who in _by_words(reads, lambda name: f"{reads[name]:.2g}"):
        yield f"{who} read the training split {often} times"


def _by_words(models: Iterable[str], of: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """What is said of models, and of which, once for all of which the same is said."""
    found: dict[str, list[str]] = {}
    for name in models:
        found.setdefault(of(name), []).append(name)
    return ((words, " and ".join(who)) for words, who in found.items())


def other_meaning(plan: Plan, models: Iterable[str]) -> str | None:
    """How micro-batches of other sizes change what a capacity, or a balance over them, means; else None."""
    named = list(models)
    micro = {name: plan.decoders[name].recipe.micro_batch_tokens for name in named}
    if len(set(micro.values())) < 2:
        return None
    taken = [name for name in named if (ffn := _mixture(plan, name)) is not None and _over_micro_batch(ffn)]
    if not taken:
        return None
    sizes = " and ".join(f"{size:,} tokens ({name})" for name, size in micro.items())
    return f"micro-batches of {sizes}, over which capacity and balance of {' and '.join(taken)} are taken"


def _mixture(plan: Plan, model: str) -> MoEFFN | None:
    ffn = plan.decoders[model].architecture.ffn
    return ffn if isinstance(ffn, MoEFFN) else None


def _over_micro_batch(ffn: MoEFFN) -> bool:
    """Whether a capacity, or a balance loss, depends on how many tokens stand together."""
    return ffn.capacity_factor is not None or (ffn.balance_loss > 0 and ffn.balance_over == "micro_batch")


def other_dtype(plan: Plan, models: Iterable[str]) -> str | None:
    """How the dtypes that models were trained in differ; else None."""
    dtypes = {name: plan.decoders[name].recipe.dtype for name in models}
    if len(set(dtypes.values())) < 2:
        return None
    return "trained in " + " and ".join(f"{dtype} ({name})" for name, dtype in dtypes.items())


def tied(plan: Plan, models: Iterable[str], *, but: tuple[MatchOn, ...] = ()) -> tuple[str, str] | None:
    """Two of the models that a match ties, so that equal treatment is claimed; None when none are tied."""
    for one, other in combinations([name for name in models if name in plan.decoders], 2):
        if set(matched_on(plan, plan.begun_as(one), plan.begun_as(other))) - set(but):
            return one, other
    return None
