"""Whether what a suite asks for can be had at all, once sizes and steps are known; and what its author should know.

`check` gives every misfit at once, each at the place of the suite that is to change; `notes` gives what is unusual and
not wrong. Nothing here trains, reads data or solves sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

from moebench.claims.hypothesis import Withheld
from moebench.claims.kinds.part import Parts
from moebench.claims.kinds.spread import EVERY_VALUE
from moebench.claims.kinds.sweeping import together
from moebench.counting.kernels import executed_step_flops, tally_flops
from moebench.counting.trained import least_side
from moebench.jobs.recipe import Recipe, not_of_batch
from moebench.metrics import constant, metric_of
from moebench.metrics.ref import MetricRef
from moebench.models.architecture import Architecture
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.suite import looks
from moebench.suite.claim import Claim
from moebench.suite.experiment import ExperimentModel
from moebench.suite.model import DenseFFN, ModelSpec
from moebench.suite.types import SuiteSpec
from moebench.text import listed, nearest, quoted

FAMILY_LEVEL = looks.LEVEL
"""One-sided level of the primary family, shared by Holm's procedure."""
MOST_AT_FIRST = 0.5
"""Share of the level beyond which a first look costs the later ones much: 10 to 15 points of power at 0.8 SD."""
MOST_STEPS = 10**9
"""As many as a budget in steps may ask for."""

Path = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """One thing that cannot be had, at one place of the suite."""

    message: str
    at: Path = ()
    """Keys that lead to the value to change, such as ("models", "dense", "match"); empty where no value is at fault."""
    hint: str | None = None
    """What would do."""

    def __str__(self) -> str:
        where = f"{'.'.join(map(str, self.at))}: " if self.at else ""
        return f"{where}{self.message}{f': {self.hint}' if self.hint else ''}"


class PlanError(ValueError):
    """The suite is well formed but cannot be run as asked; the message says what would do."""

    def __init__(self, *problems: Misfit | str) -> None:
        self.problems = tuple(one if isinstance(one, Misfit) else Misfit(message=one) for one in problems)
        super().__init__("; ".join(map(str, self.problems)))


def check(
    spec: SuiteSpec, models: Mapping[str, PlannedModel], facts: DataFacts, *, smoke: bool = False
) -> list[Misfit]:
    """Everything that cannot be had of a suite whose sizes are solved; of a `smoke` run whatever its length."""
    of_its_length = [] if smoke else [*_training(spec, models), *_family(spec, facts)]
    return [*of_its_length, *_stages(models), *_domains(spec, facts), *_targets(spec, facts)]


# ------------------------------------------------------------------------------------------------ training


def _training(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[Misfit]:
    for name, model in models.items():
        train, recipe, path = spec.decoders[name].train, model.recipe, ("models", name, "train")
        if train is None or not model.trains:
            continue
        budget = train.budget
        step_flops = model.costs.train_flops_per_token * recipe.batch_tokens
        if budget.flops is not None and budget.flops < step_flops:
            message = f"a budget of {budget.flops:.3g} FLOPs is less than one step of {name}, {step_flops:.3g}"
            yield Misfit(at=(*path, "budget", "flops"), message=message)
        elif recipe.steps > MOST_STEPS:
            message = f"this budget is {recipe.steps:.3g} steps of {name}; at most {MOST_STEPS:.0e} are planned"
            yield Misfit(at=(*path, "budget"), message=message)
        elif recipe.warmup_steps >= recipe.steps:
            warmup = train.schedule.warmup
            asked = str(warmup) if warmup.relative else f"{warmup.value:,.0f} steps"
            # One recipe may serve many models: where their runs are equally long, it is one mistake.
            whose = f"{name}'s run" if budget.steps is None and budget.tokens is None else "the run"
            message = f"a warm-up of {asked} takes all of {whose}, {recipe.steps:,} steps: its rate would never fall"
            hint = f"give fewer steps, such as {max(1, recipe.steps // 20)}, a share such as 5%, or a longer run"
            yield Misfit(at=(*path, "schedule", "warmup"), message=message, hint=hint)
        elif recipe.branches and recipe.leaves_at(recipe.branches[0]) < recipe.warmup_steps:
            message = (
                f"the branch of {recipe.branches[0]:,} steps leaves after {recipe.leaves_at(recipe.branches[0]):,}, "
                f"within the warm-up of {recipe.warmup_steps:,}"
            )
            yield Misfit(at=(*path, "schedule", "branches"), message=message, hint="drop it, or warm up less")


def _stages(models: Mapping[str, PlannedModel]) -> Iterator[Misfit]:
    """Stages that train nothing, and adapters as wide as what they adapt."""
    for name, model in models.items():
        if (trained := model.recipe.trained) is None or not model.trains:
            continue
        a = model.architecture
        if not model.costs.trained_params:
            message = f"nothing of {name} would be trained: it has no weights in {listed(trained.parts, last='and')}"
            yield Misfit(at=("models", name, "trainable"), message=message)
        elif trained.lora is not None and trained.lora.rank > (most := least_side(a.blueprint, trained)):
            message = f"rank {trained.lora.rank} is more than the {most} of the smallest side of what is adapted"
            hint = f"give a rank of at most {most}, or train those weights: leave `lora` out"
            yield Misfit(at=("models", name, "lora", "rank"), message=message, hint=hint)


# ------------------------------------------------------------------------------------------------ claims


def _family(spec: SuiteSpec, facts: DataFacts) -> Iterator[Misfit]:
    """Refuses a primary family so large that no outcome at its number of pairs could be significant.

    A claim that is to hold in u of m places pays for the choice as well: its p is m - u + 1 times that of a place.
    """
    primary = {
        name: claim
        for name, claim in spec.claims.items()
        if claim.family == "primary" and is_measured(spec, claim) and not made_elsewhere(spec, claim)
    }
    if spec.looks:
        yield from _looks(spec)
    highest = max(looks.levels_of(spec))
    for name, claim in primary.items():
        parts = parts_of(spec, claim, facts)
        choices = 1 if parts is None else len(parts.of) - parts.need + 1
        fewest = min(units_of(spec, one.metric)[0] for one in spec.concerns(claim) if is_measured(spec, one))
        level = highest / len(primary) / choices
        if 2.0**-fewest >= level:
            needed = next(n for n in range(1, 64) if 2.0**-n < level)
            message = f"with {fewest} pairs no outcome could reach significance in a primary family of {len(primary)}"
            if parts is not None and choices > 1:
                message += f", as {parts.need} of {len(parts.of)} {parts.what} are to hold (p × {choices})"
            hint = f"give {needed} seeds (or processes, for timed metrics), or call some exploratory"
            yield Misfit(at=("claims", name), message=message, hint=hint)


def is_measured(spec: SuiteSpec, claim: Claim) -> bool:
    """Whether chance has a part in any of what a claim rests on."""
    return any(metric_of(one.metric).kind != "counted" for one in spec.concerns(claim))


def parts_of(spec: SuiteSpec, claim: Claim, facts: DataFacts) -> Parts | None:
    """The parts of a claim; None of one without, and where they are not known or too many."""
    try:
        return claim.test.parts(claim, spec.known(test_domains(facts)))
    except Withheld:
        return None


def test_domains(facts: DataFacts) -> tuple[str, ...]:
    """The domains that the test split has; those of the data where that is not known."""
    return facts.domains if facts.test_domains is None else facts.test_domains


def _looks(spec: SuiteSpec) -> Iterator[Misfit]:
    """Refuses looks at one of which no outcome could decide a primary claim."""
    family = looks.family_of(spec)
    if looks.levels(spec.looks, family=family) is not None:
        return
    claims = "a primary claim" if family == 1 else f"any of {family} primary claims"
    first = looks.first_look(spec.looks, family=family)
    hint = f"begin with {first} seeds" if first is not None else "give looks at more seeds, or fewer primary claims"
    message = f"at a look of {spec.looks[0]} seeds no outcome could decide {claims} and leave anything for the others"
    yield Misfit(at=("seeds", "looks"), message=message, hint=hint)


def made_elsewhere(spec: SuiteSpec, claim: Claim) -> bool:
    """Whether a claim compares models made elsewhere alone, which may be judged over items: how many is not known."""
    named = [name for one in spec.concerns(claim) if one.compare is not None for name in one.about(spec.sweeps)]
    return bool(named) and not any(isinstance(spec.models.get(name), ModelSpec | ExperimentModel) for name in named)


def units_of(spec: SuiteSpec, metric: str) -> tuple[int, str]:
    """How many pairs a claim on a metric is judged over, and what they are pairs of."""
    if metric_of(metric).kind == "timed" and spec.measure.speed is not None:
        return spec.measure.speed.processes, "processes"
    return len(spec.seeds), "seeds"


def _domains(spec: SuiteSpec, facts: DataFacts) -> Iterator[Misfit]:
    """Claims about a domain that the test split will not have, and rates chosen by one that the data have not."""
    known = test_domains(facts)
    tuned = None if spec.tune is None else spec.tune.domain
    if tuned is not None and facts.domains and tuned not in facts.domains:
        hint = nearest(tuned, facts.domains) or f"its domains are {listed(facts.domains, last='and')}"
        yield Misfit(at=("tune", "domain"), message=f"the data have no domain {quoted(tuned)}", hint=hint)
    for name, claim in spec.claims.items():
        for field, metric in claim.metrics_at.items():
            domain = MetricRef.parse(metric).get("domain")
            if domain not in (None, EVERY_VALUE) and known and domain not in known:
                held = "" if domain not in facts.domains else " in its test split"
                hint = nearest(domain, known) or f"its domains are {listed(known, last='and')}"
                if held:
                    hint = "its documents are too few to be split into training, tuning and testing: add more of them"
                yield Misfit(
                    at=("claims", name, field), message=f"the data have no domain {quoted(domain)}{held}", hint=hint
                )


def _targets(spec: SuiteSpec, facts: DataFacts) -> Iterator[Misfit]:
    """Qualities to be reached that no model can reach: below the text's own entropy, where that is known."""
    floor = facts.entropy_bits_per_byte
    for name, claim in spec.claims.items():
        reach = claim.target.reach if claim.target is not None and claim.target.on is None else None
        if floor is not None and isinstance(reach, float) and reach < floor:
            message = f"no model reaches {reach:g} bits/byte: the entropy of the text is {floor:.4g}"
            yield Misfit(at=("claims", name, "target", "reach"), message=message, hint="give a number above that")


# ------------------------------------------------------------------------------------------------ notes

FEWEST_UNITS = 6
"""Seeds or processes below which no outcome is significant at 2.5%: 2^-6 is 1.6%."""
USUAL_RATES = (1e-5, 0.3)
"""Peak learning rates outside are noted: AdamW hardly moves below, and diverges above."""
LARGE_EFFECT = 0.05
"""A margin on quality beyond this share of about 2 bits per byte, 0.1 bits, is noted: models of one budget seldom
differ by more, so the claim can hardly be supported (or, for `equivalent` and `non_inferior`, hardly fail)."""
LARGE_EFFECT_BITS = 2 * LARGE_EFFECT


def notes(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[str]:
    """What is unusual about a suite and not wrong, as sentences."""
    if not spec.claims:
        yield "this suite makes no claims: it trains and measures, and there will be no verdict"
    measured = [
        claim.metric
        for claim in spec.claims.values()
        if claim.metric
        and (
            metric_of(claim.metric).kind == "timed"
            or (metric_of(claim.metric).kind != "counted" and not made_elsewhere(spec, claim))
        )
    ]
    for number, units in sorted({units_of(spec, metric) for metric in measured}):
        if number < FEWEST_UNITS:
            yield f"{number} {units}: no verdict over {units} is possible below {FEWEST_UNITS}"
    if spec.looks and (share := looks.levels_of(spec)[0] / looks.LEVEL) > MOST_AT_FIRST:
        yield f"the look at {spec.looks[0]} seeds takes {share:.0%} of the level, as no less decides anything there"
    for name, model in models.items():
        recipe = model.recipe
        if recipe.warmup_steps > recipe.steps / 2:
            yield f"{name}: its warm-up takes {recipe.warmup_steps:,} of {recipe.steps:,} steps, more than half"
    low, high = USUAL_RATES
    rates = {name: model.recipe.lr for name, model in models.items() if model.trains}
    for rate in sorted({rate for rate in rates.values() if not low <= rate <= high}):
        whose = listed([name for name in rates if rates[name] == rate], last="and")
        yield f"the learning rate {rate:g} of {whose} is outside the usual range, {low:g} to {high:g}"
    for name, model in models.items():
        if model.recipe.micro_batches > 1:
            yield from (f"{name}: {words}" for words in _in_micro_batches(model.architecture, model.recipe))
    tried = [f"{rate:g}" for rate in (spec.tune.lr if spec.tune is not None else []) if not low <= rate <= high]
    if tried:
        yield f"learning rates to try outside the usual range, {low:g} to {high:g}: {listed(tried, last='and')}"
    yield from _large_margins(spec)
    yield from _of_tasks(spec)
    yield from _unlike(spec, models)
    yield from _constant(spec, models)


def _in_micro_batches(a: Architecture, recipe: Recipe) -> Iterator[str]:
    """What a mixture's micro-batches cost, and where their gradients are not those of the batch."""
    yield from not_of_batch(a, recipe)
    facts = a.router
    if facts is None or isinstance(a.ffn, DenseFFN):
        return
    noisy = facts.training_multiply_adds > facts.multiply_adds or facts.fewer == "training"
    if noisy or a.ffn.jitter is not None:
        yield "noise is drawn for each micro-batch: gradients are those of the batch, with other draws than at once"
    if a.losses_of_batch:
        step = executed_step_flops(a.blueprint, sequences=1, length=a.context)
        more = tally_flops(a.up_to_last_router, facts.counts, sequences=1, length=a.context) / step
        losses = listed(a.losses_of_batch, last="and").replace("_", " ")
        yield f"{losses} of a batch in micro-batches: a pass without gradients goes first, {more:.0%} more FLOPs"


def _compared(spec: SuiteSpec, claim: Claim) -> list[str]:
    """The models of the suite whose numbers a claim compares."""
    return [model for model in claim.about(spec.sweeps) if model in spec.decoders]


def _constant(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[str]:
    """Claims whose verdict will be INVALID, as a number in them is what it is whatever happens."""
    for name, claim in spec.claims.items():
        for metric in claim.metrics:
            reasons = ((model, constant(metric, models[model].architecture)) for model in _compared(spec, claim))
            model, why = next(((model, why) for model, why in reasons if why is not None), ("", None))
            if why is not None:
                base = MetricRef.parse(metric).base
                yield f"claims.{name}: {base} of {model} tells nothing, so it will be INVALID: {why}"


def _unlike(spec: SuiteSpec, models: Mapping[str, PlannedModel]) -> Iterator[str]:
    """Claims whose verdict will be INVALID, as their models are not measured alike."""
    for name, claim in spec.claims.items():
        if not claim.metric:
            continue
        base, compared = MetricRef.parse(claim.metric).base, _compared(spec, claim)
        of_training = metric_of(claim.metric).rests_on_loss or base.startswith(("routing.", "train."))
        for group in together(claim, spec.sweeps) if of_training and claim.across is None else ():
            views = {str(spec.view_of(model)): model for model in spec.latest(group) if model in spec.decoders}
            if len(views) > 1:
                yield (
                    f"claims.{name}: {listed(list(views.values()), last='and')} differ in what they are trained on "
                    "(`data:`), so it will be INVALID; where that is the claim, write `across: data`"
                )
                break
        # Of different tokenizers as much text is asked as different numbers of tokens.
        for tokenizer in {str(spec.data_of(model).tokenizer): None for model in compared}:
            recipes = {m: models[m].recipe for m in compared if str(spec.data_of(m).tokenizer) == tokenizer}
            for what, beginnings, of in _HELD_EQUAL:
                if base.startswith(beginnings) and len({of(recipe) for recipe in recipes.values()}) > 1:
                    yield f"claims.{name}: {listed(list(recipes), last='and')} differ in {what}, so it will be INVALID"


_HELD_EQUAL: tuple[tuple[str, tuple[str, ...], Callable[[Recipe], Hashable]], ...] = (
    ("how many looks they keep the best of (`evaluate:`)", ("test.", "routing."), lambda r: r.looks),
    (
        "the text they are scored on (`evaluate:`)",
        ("test.",),
        lambda r: (r.final_eval_tokens, r.windows_per_document),
    ),
    (
        "schedule (steps, batch, warm-up, decay) or evaluation points",
        ("tokens_to_", "flops_to_", "seconds_to_"),
        lambda r: r.schedule,
    ),
    (
        "the tokens of a timed step (`micro_batch_tokens`)",
        ("speed.train_step_s", "speed.train_utilisation"),
        lambda r: r.micro_batch_tokens,
    ),
)
"""What is held equal, for metrics that begin how; `claims.preconditions` has the rules."""


def _of_tasks(spec: SuiteSpec) -> Iterator[str]:
    """Claims about tasks that tell little: of answers right or wrong, or of models too shallow whatever their width."""
    for name, claim in spec.claims.items():
        for ref in map(MetricRef.parse, claim.metrics):
            task = spec.tasks.get(ref.get("task") or "") if ref.group == "task" else None
            if task is None:
                continue
            if ref.base == "task.accuracy":
                yield (
                    f"claims.{name}: accuracy jumps from chance to the ceiling, with some seeds and not with others: "
                    f"claim task.answer_bits[task={ref.get('task')}]"
                )
            layers = [spec.decoders[model].layers for model in _compared(spec, claim)]
            if layers and min(layers) < task.layers_needed:
                yield (
                    f"claims.{name}: {ref.get('task')} takes {task.layers_needed} layers, step after step, and "
                    f"these models have {min(layers)}: no width makes up for that, so it compares no widths"
                )


def _large_margins(spec: SuiteSpec) -> Iterator[str]:
    for name, claim in spec.claims.items():
        asked = claim.test.asked_effect()
        if asked is None or metric_of(claim.metric).unit != "bits/byte":
            continue
        if asked.size > (LARGE_EFFECT if asked.relative else LARGE_EFFECT_BITS):
            yield (
                f"claims.{name}: {asked.words} is larger than a plausible effect (models of one budget seldom differ "
                f"by more than {LARGE_EFFECT:.0%}, or {LARGE_EFFECT_BITS:g} bits/byte): "
                f"{'nearly anything passes' if asked.allowed else 'it can hardly be supported'}"
                f"{'' if asked.relative else f'; is {asked.size:g}% meant?'}"
            )
