"""The sections of a report in order, and the sentences that open each.

A figure or table names one of these in its declaration; a new section is a line in the dict at the foot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from moebench.claims.verdict import FINDINGS
from moebench.format import count, interval, listed, plural, sentence
from moebench.metrics.speed import AGAIN
from moebench.planning.planned import DataFacts, PlannedCheckpoint
from moebench.reporting.analysis import Findings, cost_label
from moebench.reporting.states import STATES


def _nothing(_findings: Findings) -> Iterator[str]:
    return iter(())


def source_text(findings: Findings) -> str:
    """What the models were trained on, as text."""
    source = findings.plan.data.source
    return source if source.endswith("text") else f"{source} text"


def _equal(findings: Findings) -> Iterator[str]:
    if findings.plan.data.tokens:
        yield from _data(findings)
    if findings.plan.decoders and not findings.plan.matches:
        yield "No model is matched to another in size or compute."
    for note in dict.fromkeys((*findings.plan.data.notes, *findings.plan.warnings)):
        named = note.partition(":")[0] in findings.plan.models  # a name keeps its letters
        yield f"{note}." if named else sentence(note)


def _data(findings: Findings) -> Iterator[str]:
    data = findings.plan.data
    tokens = " / ".join(f"{count(n)} {split}" for split, n in data.tokens.items())
    domains = f"; domains: {listed(data.domains)}" if data.domains else ""
    yield f"Data: {source_text(findings)} ({tokens} tokens{_of_words(data)}{domains}), digest {data.digest[:16]}."
    for digest, facts in {view.digest: view for view in findings.plan.views.values()}.items():
        whose = listed([name for name, view in findings.plan.views.items() if view.digest == digest])
        read = " / ".join(f"{count(n)} {split}" for split, n in facts.tokens.items())
        part = "The same text" if facts.text_digest == data.text_digest else "A part of its training text"
        under = " under another tokenizer" if facts.tokenizer != data.tokenizer else ""
        yield f"{part} for {whose}{under} ({read} tokens{_of_words(facts)}), digest {digest[:16]}."
    corrupt: dict[float, list[str]] = {}
    for name, model in findings.plan.decoders.items():
        corrupt.setdefault(model.recipe.corrupt, []).append(name)
    for share, names in corrupt.items():
        if share:
            yield f"{share:.0%} of the training tokens of {listed(names)} are replaced by others of the text."
    done = int(findings.study.runs["status"].isin(["completed", "diverged"]).sum())
    if findings.study.unlike:
        yield f"Runs with the same seed did NOT read identical data: {'; '.join(findings.study.unlike)}."
    elif findings.study.alike:
        every = f"All {done} runs" if done > 2 else "Both runs"
        parts = {facts.text_digest for facts in findings.plan.views.values()} - {data.text_digest}
        every = "Of each tokenizer all runs" if findings.plan.views else every
        every = "Of each part of the text all runs" if parts or corrupt.keys() - {0.0} else every
        yield (
            f"{every} read identical data, seed by seed: runs with one seed have equal digests of the tokens they "
            "consumed, as far as the shorter run goes."
        )
    elif len(findings.plan.trained) > 1:
        yield "Whether runs with one seed read identical data is not known: no two of them are done."
    state = "below" if data.leak_share <= data.leak_threshold else "ABOVE"
    yield (
        f"Contamination check: {100 * data.leak_share:.2g}% of the test split's {data.compared} occur in the training "
        f"split, {state} the threshold of {100 * data.leak_threshold:.2g}%."
    )
    if data.entropy_bits_per_byte is not None:
        floor = f"{data.entropy_bits_per_byte:.4f} bits per byte"
        yield f"The entropy rate of the source, {floor}, is the lowest possible loss."


def _elsewhere(findings: Findings) -> Iterator[str]:
    plan = findings.plan
    checkpoints = [name for name, model in plan.models.items() if isinstance(model, PlannedCheckpoint)]
    read = [name for name in plan.models if plan.is_external(name)]
    if checkpoints:
        yield (
            f"{listed(checkpoints)}: measured here as published. Training data, its amount and tuning are the "
            "publishers' word; whether the text of a test was among the data is not known."
        )
    if read:
        yield (
            f"{listed(read)}: numbers that were measured elsewhere. That data, tasks and prompts were the same, that "
            "all were tuned alike and on what hardware they ran is declared by the suite, and not verified."
        )
    single = [name for name in plan.models if plan.is_single(name)]
    if single:
        which = "one run, which says" if len(single) == 1 else "one run each, which say"
        yield f"{listed(single)}: {which} nothing of other seeds. Models of one run are compared over items alone."
        if len(single) < len(plan.models):
            yield "Beside a model of several seeds, one of a single run is taken as given, and the seeds are the pairs."


def _tasks(findings: Findings) -> Iterator[str]:
    every = findings.tasks
    low = every.at_chance()
    if low:
        yield f"On {listed(task.name for task in low)} no model is shown to be better than guessing."
    ways: dict[str, list[str]] = {}
    for task in every.tasks:
        if task.conditions:
            ways.setdefault(task.conditions, []).append(task.name)
    for how, names in ways.items():
        yield f"{'All tasks' if len(names) == len(every.tasks) > 1 else listed(names)}: {how}."
    if every.baselines:
        yield (
            f"Differences to {listed(every.others)} are paired, by seed where there are several and by item where both "
            "models are one run; better and worse are decided with Holm's correction over the tasks of a model."
        )
    for (metric, model), why in every.absent.items():
        yield f"No {metric} of {model}: {why}."


def _of_words(data: DataFacts) -> str:
    """Of which vocabulary tokens are, where they are not bytes."""
    return "" if data.tokenizer is None else f" of a vocabulary of {data.vocab:,}"


def _cost(findings: Findings) -> Iterator[str]:
    held = findings.study
    if held.speed_reason:
        yield f"No timings: {held.speed_reason}."
        return
    planned = len(findings.plan.speed.processes) if findings.plan.speed else 0
    have = held.speed["process"].nunique()
    yield (
        f"Speed session: {plural(have, 'fresh process', 'fresh processes')}"
        + (f" of {planned} planned" if have < planned else "")
        + ", every model in each, timed in rotating blocks while no other job of the suite runs."
    )
    again = [r for r in findings.ratios if r.model.endswith(AGAIN)]
    if again and again[0].ratio.bounded:
        widest = max(again, key=lambda r: r.ratio.high / r.ratio.low)
        size = interval(widest.ratio.centre, widest.ratio.low, widest.ratio.high, "ratio")
        yield f"{findings.baseline} vs itself (A/A): the widest 95% interval is {size}, of {widest.label}."
    if findings.baseline and findings.other_steps:
        tokens = findings.plan.decoders[findings.baseline].recipe.micro_batch_tokens
        sizes = listed(f"{model} ({size:,})" for model, size in findings.other_steps.items())
        yield (
            f"Training steps are timed on one micro-batch, so those of {sizes} are not compared with those of "
            f"{findings.baseline} ({tokens:,} tokens): give all models the same `micro_batch_tokens`."
        )
    wide = [c.metric for c in findings.controls if c.state == "too_wide" and c.id.startswith("against_itself")]
    if wide:
        which = listed(cost_label(metric) for metric in wide)
        yield f"A/A is too wide to tell whether the machine was quiet for {which}: see How sure."
    shares = _utilisation(findings)
    if shares:
        each = ", ".join(f"{model} {100 * share:.0f}%" for model, share in shares.items())
        yield f"Utilisation of the measured matmul peak in a training step: {each}."


def _utilisation(findings: Findings) -> dict[str, float]:
    """Share of the measured peak that a training step reaches, by model: the mean over processes."""
    metric, shares = "speed.train_utilisation", dict[str, list[float]]()
    for process in findings.study.evidence.processes:
        for model, derived in process.about.get("derived", {}).items():
            if metric in derived and not model.endswith(AGAIN):
                shares.setdefault(model, []).append(derived[metric])
    return {model: sum(values) / len(values) for model, values in shares.items()}


def _published(findings: Findings) -> Iterator[str]:
    found = Counter(verdict.finding for verdict in findings.verdicts if verdict.finding)
    counts = ", ".join(f"{found[word]} {word}" for word in (*FINDINGS.values(), "no verdict") if found[word])
    yield f"Of {plural(found.total(), 'published finding')}, at this scale: {counts}."


def _quality(findings: Findings) -> Iterator[str]:
    if findings.quality.empty:
        yield "No run has a final loss yet."
    elif findings.plan.decoders:
        yield "Quality is cross-entropy alone, without auxiliary router losses."
    else:
        yield "Quality is cross-entropy in bits over the bytes of the text, whatever the tokenizer."
    diverged = findings.study.runs[findings.study.runs["status"] == "diverged"]
    if len(diverged):
        by_model = ", ".join(f"{model} {n}" for model, n in diverged["model"].value_counts(sort=False).items())
        lost = plural(len(diverged), "run")
        yield f"{lost} diverged ({by_model}): counted as the worst value in the verdicts, left out of these means."


def _sure(findings: Findings) -> Iterator[str]:
    if not findings.controls:
        yield "No control was asked for, or none could be run."
    failed = [c for c in findings.controls if c.state == "failed"]
    if failed:
        names = listed(c.id for c in failed)
        yield f"{plural(len(failed), 'control')} FAILED: {names}. Do not trust the verdicts that rest on them."
    wide = [c for c in findings.controls if c.state == "too_wide"]
    if wide:
        yield f"Controls too wide to tell: {'; '.join(f'{c.id} {c.effect} (99%): {c.reason}' for c in wide)}."
    for control in findings.controls:
        if control.id == "same_model" and control.estimate is not None:
            yield f"{control.model} vs itself with other seeds: {control.effect} (99% interval, {control.n})."
    looks = max((verdict.looks for verdict in findings.verdicts), default=1)
    again = f" Other runs or sessions of the same models count, so p is multiplied by up to {looks}."
    again = again if looks > 1 else ""
    yield f"Times the results were inspected{_as_planned(findings)}: {looks}.{again}"
    yield from _planned_looks(findings)
    late = [v.id for v in findings.verdicts if v.post_hoc]
    if late:
        yield f"Post hoc, so exploratory: {listed(late)}; what each came after is in its verdict."
    if findings.withdrawn:
        named = "; ".join(f"{one.id} (“{one.says.rstrip('.')}”)" for one in findings.withdrawn)
        yield f"Primary claims withdrawn or changed since they were stored: {named}. Holm counts the largest family."


def _as_planned(findings: Findings) -> str:
    return " beside the looks that were planned" if _looked(findings) else ""


def _looked(findings: Findings) -> bool:
    return findings.course is not None and findings.course.last.stage.of > 1


def _planned_looks(findings: Findings) -> Iterator[str]:
    """How often it was to be judged, and how often it was."""
    course = findings.course
    if course is None or course.last.stage.of == 1:
        return
    last = course.last.stage
    yield (
        f"{last.of} looks were planned, and the suite ends at the first that decides every primary claim: "
        f"{course.words}, at {plural(last.seeds, 'seed')}. A claim keeps the verdict of the look that decided it."
    )
    if course.unused:
        yield f"Runs of {plural(len(course.unused), 'later seed')} are there, and nothing here uses them."


def _untested(findings: Findings) -> Iterator[str]:
    for verdict in findings.verdicts:
        if verdict.state in {"not_tested", "invalid", "interim"}:
            yield f"{STATES[verdict.state].capitalize()}: {verdict.id}: {verdict.reason}."
    left = left_over(findings)
    if left:
        yield left
    elif not any(v.state in {"not_tested", "invalid", "interim"} for v in findings.verdicts):
        cited = sum(v.state == "cited" for v in findings.verdicts)
        tested = f"Every claim but {plural(cited, 'citation')} was tested" if cited else "Every claim was tested"
        yield f"{tested}, and every planned run is complete." if findings.plan.models else f"{tested}."


def left_over(findings: Findings) -> str | None:
    """How many planned runs are not complete, by what became of them."""
    counts = findings.study.runs["status"].value_counts()
    left = {status: int(counts.get(status, 0)) for status in ("missing", "partial", "failed", "corrupt", "diverged")}
    if not any(left.values()):
        return None
    each = ", ".join(f"{n} {status}" for status, n in left.items() if n)
    return f"Of {plural(len(findings.study.runs), 'planned run')}: {each}."


def _limits(_findings: Findings) -> Iterator[str]:
    yield "The interval is exact for effects that are independent and symmetric about their centre."
    yield (
        "What to expect of others is simulated here; a pair that rules, a skew or a dependence that shows in a "
        "claim's own pairs is noted on its verdict."
    )
    yield (
        "A claim that was inspected k times has its p multiplied by k. That bounds each inspection, not their "
        "sum: over 2, 3 and 5 disjoint sets of seeds a false verdict turns up somewhere in at most 3.7%, 4.5% "
        "and 5.6%. Fix the seeds before the first run."
    )


SECTIONS: dict[str, tuple[str, Callable[[Findings], Iterator[str]]]] = {
    "answer": ("The figure that answers it", _nothing),
    "published": ("Published findings", _published),
    "equal": ("What was equal", _equal),
    "elsewhere": ("What was made elsewhere", _elsewhere),
    "cost": ("What it cost", _cost),
    "quality": ("Quality", _quality),
    "tasks": ("Tasks", _tasks),
    "place": ("Where it sits", _nothing),
    "routing": ("Routing", _nothing),
    "sure": ("How sure", _sure),
    "untested": ("What was not tested", _untested),
    "limits": ("Known limits of the method", _limits),
}
"""Anchor -> heading, and what makes its sentences."""

_ASKED: dict[str, Callable[[Findings], bool]] = {
    "answer": lambda findings: findings.trains,
    "published": lambda findings: any(verdict.finding for verdict in findings.verdicts),
    "equal": lambda findings: bool(findings.plan.decoders or findings.plan.data.tokens or findings.sizes_known),
    "elsewhere": lambda findings: {*findings.plan.decoders, *findings.plan.experiments} < {*findings.plan.models},
    "sure": lambda findings: bool(findings.plan.models),
    "limits": lambda findings: bool(findings.plan.models),
    "quality": lambda findings: findings.trains or not findings.quality.empty,
    "tasks": lambda findings: bool(findings.tasks.tasks),
    "routing": lambda findings: findings.trains or findings.routed,
    "cost": lambda findings: bool(findings.plan.decoders) or bool(findings.ratios) or findings.plan.speed is not None,
}


def shown(findings: Findings, anchor: str) -> bool:
    """Whether a suite has what a section is about; else the page does not mention it."""
    return anchor not in _ASKED or _ASKED[anchor](findings)
