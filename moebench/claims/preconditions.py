"""What must be true of the runs before a claim about them means anything.

Each precondition is a function that returns what is broken, or None. They look at how numbers were made, and at whether
they can be what they are called (no loss is below its source's entropy), never at which side they favour: a broken one
makes the verdict INVALID whichever way it points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Hashable, Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from moebench import stats
from moebench.claims import controls, coverage, idle, informative, items, likeness, reaching
from moebench.claims.hypothesis import Contrast, Term
from moebench.claims.kinds.sweeping import together
from moebench.claims.samples import Sample
from moebench.format import MINUS, interval
from moebench.metrics import constant, metric_of
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome
from moebench.suite.claim import Claim
from moebench.suite.model import DenseFFN

LEARNED = 0.01
"""Share of a unigram model's bits per byte by which a model must be below it to have learned anything."""
STARTS_ALIKE = 0.01
"""Share by which losses may differ, mean over seeds, of stages that are to start from an equal one."""
ONCE = 1e-6
"""How likely chance alone may be where something is called impossible."""
FINAL_LOSS = "test.bits_per_byte"
PER_STEP = ("speed.train_step_s", "speed.train_utilisation")
"""Timed over one micro-batch, so comparable only between equal ones."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A claim and its contrast, with what was drawn for it."""

    evidence: Evidence
    claim: Claim
    contrast: Contrast
    sample: Sample

    @property
    def plan(self) -> Plan:
        return self.evidence.plan

    @functools.cached_property
    def models(self) -> tuple[str, ...]:
        """The models it compares, those of weight 0 included: every point of a sweep, every rung of a ladder."""
        rungs = self.plan.rungs_of(self.claim)
        return tuple(dict.fromkeys((*self.contrast.models, *likeness.compared(self.claim, self.plan), *rungs)))

    @functools.cached_property
    def planned(self) -> tuple[str, ...]:
        """Those that the suite trains."""
        return tuple(name for name in self.models if name in self.plan.decoders)

    @functools.cached_property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """Those of them, in groups, that are to have read the same tokens: the models of a pair, by tokenizer and by
        what of the text they are trained on."""
        sweeps = self.plan.spec.sweeps
        several = (tuple(point for name in group for point in sweeps.get(name, (name,))) for group in self.claim.groups)
        groups = tuple(several) if len(self.claim.groups) > 1 else (self.planned,)
        kinds = {
            name: (self.plan.data_of(name).tokenizer, likeness.trained_on(self.plan, name)) for name in self.planned
        }
        return tuple(
            tuple(name for name in self.plan.spec.latest(group) if name in kinds and kinds[name] == kind)
            for group in groups
            for kind in dict.fromkeys(kinds.values())
        )

    @functools.cached_property
    def runs(self) -> tuple[Outcome, ...]:
        """Their runs that ran to an end."""
        if self.contrast.kind not in ("seeded", "event", "laddered"):
            return ()
        return tuple(run for run in self.evidence.outcomes_of(self.models) if run.done)

    @functools.cached_property
    def scoring(self) -> tuple[Outcome, ...]:
        """The completed runs whose evaluation the claim rests on, that of a model which sets the target too.

        None of those that were measured elsewhere: on what is not known here.
        """
        every = {*self.models, *self.plan.models_of(self.claim)}
        named = {name for name in every if not self.plan.is_external(name)}
        return tuple(run for run in self.evidence.outcomes_of(named) if run.status == "completed" and self.texts)

    @functools.cached_property
    def texts(self) -> frozenset[str]:
        """Which evaluations its metrics come from: `test`, `tune`, `curve`."""
        texts = filter(None, (coverage.text_of(term.metric) for term in self.contrast.terms))
        crosses = any(reaching.rests_on(term.metric) for term in self.contrast.terms)
        decays = reaching.curve_of(self.plan, self.plan.models_of(self.claim)) == reaching.DECAYED
        return frozenset([*texts, *(["test"] if crosses and decays else [])])


def unfit(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """What the plan alone tells against a claim, whatever was measured; None when there is nothing."""
    of_plan = (_not_causal, _same_tokens, _same_view, _same_looks)
    return _fixed(plan, contrast) or next(filter(None, (check(plan, claim, contrast) for check in of_plan)), None)


def broken(question: Question) -> str | None:
    """The first precondition that fails, in words; None when all hold. A smoke run is not asked for long training."""
    asked = [one for one in PRECONDITIONS if not (question.plan.asked.smoke and one in OF_LENGTH)]
    return next((why for check in asked if (why := check(question)) is not None), None)


# ---------------------------------------------------------------------------------------------- of the plan


def _fixed(plan: Plan, contrast: Contrast) -> str | None:
    """A number that could not have come out otherwise."""
    for term in contrast.terms:
        model = plan.decoders.get(term.model)
        if model is not None and (why := constant(term.metric, model.architecture)) is not None:
            return f"constant: {term.base} of {term.model} tells nothing: {why}"
    return None


def _not_causal(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
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


def _matched(question: Question) -> str | None:
    """Compared models that are matched to each other are as equal as the suite demands."""
    models = set(question.models)
    for match in question.plan.matches:
        if {match.model, match.to} <= models and abs(match.residual) > match.tolerance:
            off = f"{match.residual:+.2%}".replace("-", MINUS) + f" on {match.on}, beyond {match.tolerance:.2%}"
            return f"match: {match.model} misses {match.to} by {off}"
    return None


# ---------------------------------------------------------------------------------------------- data and text


def _same_data(question: Question) -> str | None:
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


def _same_tokens(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
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


def _same_view(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """Models that are held against each other are trained on the same part of the text, or that is the claim.

    What a part leaves out changes what a loss on the rest can be: a domain's share is what others have less of.
    """
    if claim.across == "data" or not any(_is_trained(term) for term in contrast.terms):
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


def _same_looks(plan: Plan, claim: Claim, contrast: Contrast) -> str | None:
    """Whoever keeps the best of more looks has more to choose from: early stopping alike for all, or for none."""
    if not any(_is_trained(term) for term in contrast.terms):
        return None
    for group in together(claim, plan.spec.sweeps):
        looks = {plan.decoders[name].recipe.looks: name for name in group if name in plan.trained}
        if len(looks) > 1:
            ways = " and ".join(f"{name} {likeness.kept_words(plan.decoders[name])}" for name in looks.values())
            return f"evaluation: {ways}: give both the same `evaluate:`"
    return None


def _is_of_no_tokens(term: Term) -> bool:
    """Whether a metric means the same whatever the tokens: quality by bytes of text, tasks, sizes."""
    counted = term.facts.kind == "counted" and "token" not in f"{term.facts.unit} {term.base}"
    return counted or term.base == FINAL_LOSS or term.base.startswith("lm_eval.")


def _reads_other(plan: Plan, one: str, other: str) -> bool:
    return plan.data_of(one).tokenizer != plan.data_of(other).tokenizer


def _same_start(question: Question) -> str | None:
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


def _same_test_split(question: Question) -> str | None:
    runs = (*(run for run in question.runs if run.model in question.planned), *question.scoring)
    unknown = next((run for run in runs if run.test_digest is None), None)
    if unknown is not None:
        return f"data: no digest of the test split of {unknown.model} with seed {unknown.seed}"
    return "data: the runs were tested on different test splits" if len({run.test_digest for run in runs}) > 1 else None


def _same_text(question: Question) -> str | None:
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


def _same_task(question: Question) -> str | None:
    """What was measured elsewhere or here under one name was measured in one way, as far as that is known."""
    for metric in dict.fromkeys(term.metric for term in question.contrast.terms):
        known = {run.conditions[metric]: run.model for run in question.runs if metric in run.conditions}
        if len(known) > 1:
            ways = " and ".join(f"{model} ({way})" for way, model in known.items())
            return f"evaluation: {metric} was not measured alike: {ways}"
    return None


def _same_items(question: Question) -> str | None:
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


def _enough_text(question: Question) -> str | None:
    """What was scored is a fair share of what was asked, of several documents."""
    for term in question.contrast.terms:
        text = coverage.scored(question.evidence, term.metric, question.models)
        why = None if text is None else coverage.too_little(question.evidence, text, question.planned)
        if why is not None:
            return why
    return None


# ---------------------------------------------------------------------------------------------- training


def _learned(question: Question) -> str | None:
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


def _above_entropy(question: Question) -> str | None:
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


def _same_treatment(question: Question) -> str | None:
    """Models that a match ties were trained so that their losses mean the same."""
    plan, models = question.plan, question.planned
    if not question.runs or not any(_is_trained(term) for term in question.contrast.terms):
        return None
    if (why := likeness.other_meaning(plan, models)) and (pair := likeness.tied(plan, models)):
        return f"training: {' and '.join(pair)} are matched, but {why}: give both the same `micro_batch_tokens`"
    if question.contrast.rests_on_loss and (why := likeness.other_dtype(plan, models)):
        # Equal bytes in different dtypes is what a match on them claims.
        pair = likeness.tied(plan, models, but=("weight_bytes",))
        return None if pair is None else f"training: {' and '.join(pair)} are matched, but {why}: give both one dtype"
    return None


def _same_memory(question: Question) -> str | None:
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


def _same_schedule(question: Question) -> str | None:
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


def _same_budget(question: Question) -> str | None:
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


def _same_step(question: Question) -> str | None:
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


def _one_machine(question: Question) -> str | None:
    """All processes of a speed session ran on one machine, set up in one way."""
    places = sorted({process.setup or process.machine or "" for process in question.evidence.processes})
    if not question.contrast.timings or len(places) < 2:
        return None
    return f"timing: the speed session's processes ran on {len(places)} machines ({'; '.join(places)}): run it again"


def _few_diverged(question: Question) -> str | None:
    """No arm lost more than one run, or a tenth of them, to divergence."""
    for model in question.models:
        runs = [run for run in question.runs if run.model == model]
        diverged = sum(run.status == "diverged" for run in runs)
        if diverged > max(1, 0.1 * len(runs)):
            return f"divergence: {diverged} of {len(runs)} runs of {model} diverged"
    return None


def _quiet_machine(question: Question) -> str | None:
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


def _controls_passed(question: Question) -> str | None:
    """No control failed on which a loss of these models rests."""
    if not question.contrast.rests_on_loss:
        return None
    return controls.gated(question.evidence, [*question.models, *question.plan.models_of(question.claim)])


def _more_than_chance(question: Question) -> str | None:
    return idle.by_chance(question.plan, question.contrast, question.runs)


def _informative(question: Question) -> str | None:
    return informative.uninformative(question.plan, question.claim, question.contrast, question.runs)


PRECONDITIONS: tuple[Callable[[Question], str | None], ...] = (
    _matched,
    _same_data,
    _same_start,
    _same_test_split,
    _same_text,
    _same_task,
    _same_items,
    _above_entropy,
    _controls_passed,
    _enough_text,
    _same_memory,
    _same_treatment,
    _same_schedule,
    _same_budget,
    _same_step,
    _one_machine,
    _learned,
    _informative,
    _few_diverged,
    _more_than_chance,
    _quiet_machine,
)
OF_LENGTH = frozenset({_enough_text, _learned, _informative, _more_than_chance, _quiet_machine})
"""Those that too short a run or session fails."""


# ---------------------------------------------------------------------------------------------- parts


def _is_trained(term: Term) -> bool:
    """Whether a metric is of what training made: a loss, or what experts are given, not a size or a time."""
    return term.facts.rests_on_loss or term.facts.of_mixtures or term.base.startswith("train.")


def pairs_of_runs(used: Iterable[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """Every two runs with one seed."""
    by_seed: dict[int, list[Outcome]] = {}
    for run in used:
        by_seed.setdefault(run.seed, []).append(run)
    return [pair for runs in by_seed.values() for pair in combinations(runs, 2)]
