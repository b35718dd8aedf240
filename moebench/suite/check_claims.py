"""Whether a claim can be tested at all: its models, its metric, what its test needs, and the unit of its margin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from moebench.claims.kinds import KINDS
from moebench.claims.kinds.spread import EVERY_VALUE
from moebench.metrics import MEASUREMENTS, METRICS, find, known, metric_of
from moebench.metrics.metric import Metric, Range
from moebench.metrics.ref import MetricRef, labelled
from moebench.suite.check_parts import a_or_an, check_cited, check_combined, check_places
from moebench.suite.claim import Claim, Pair
from moebench.suite.explain import Path
from moebench.suite.labels import TIMED_LABELS, measured, numbers
from moebench.suite.model import DenseFFN, ModelSpec, MoEFFN
from moebench.suite.synonyms import metric_meant
from moebench.suite.words import known_systems
from moebench.text import listed, nearest, quoted

if TYPE_CHECKING:
    from moebench.suite.check import Findings
    from moebench.suite.types import AnyModel, Measure

SIDES = ("compare", "compare.ceiling", "share_of", "over", "along", "model", "systems", "minus", "against")
"""The keys of a claim of which each kind takes some."""
REACHED = "task.answer_bits"
"""The quality that a target may be of, beside bits per byte."""


def check_claims(findings: Findings) -> None:
    """Adds what is wrong with the suite's claims."""
    for name, claim in findings.spec.claims.items():
        path: Path = ("claims", name)
        _check_sides(findings, path, claim)
        if claim.test.combines:
            check_combined(findings, path, name, claim)
            continue
        if claim.test.cites:
            check_cited(findings, path, claim)
            continue
        models = _models(findings, path, claim)
        views = {str(findings.spec.view_of(name)) for name in claim.about(findings.spec.sweeps)}
        if claim.across is not None and len(views) < 2:
            message = "across: data, and its models are trained on the same text"
            findings.add((*path, "across"), message, "leave it out", key=True)
        if not claim.metric:
            hint = "such as metric: test.bits_per_byte"
            findings.add(path, f"'metric' is missing in {name!r}", hint, key=True)
            continue
        metric = _metric(findings, (*path, "metric"), claim.metric, models)
        minus = _metric(findings, (*path, "minus"), claim.minus, models) if isinstance(claim.minus, str) else None
        if claim.against is not None and "against" in claim.test.takes:
            other = _metric(findings, (*path, "against"), claim.against, models)
            if other is None:
                continue
            if claim.against == claim.metric:
                findings.add((*path, "against"), f"against is the metric itself, {claim.metric}")
        if metric is not None:
            _check_target(findings, path, claim, metric, models)
            if minus is not None and claim.metric == claim.minus:
                findings.add((*path, "minus"), f"minus is the metric itself, {claim.metric}")
                minus = None
            _check_kind(findings, path, claim, metric)
            check_places(findings, path, claim, metric)
            for fault in claim.test.check(claim, metric, minus, findings.spec.sweeps):
                findings.add((*path, *fault.at), fault.message, fault.hint)


def _check_kind(findings: Findings, path: Path, claim: Claim, metric: Metric) -> None:
    """A test of this kind can be made of this kind of metric."""
    kind, at = KINDS[claim.test.kind], (*path, "test", "kind")
    if metric.better == "neither" and kind.directed:
        hint = f"use {listed([word for word in KINDS if not KINDS[word].directed])}"
        findings.add(at, f"{metric.name} has no better direction", hint)
    if metric.kind == "event" and not kind.of_two:
        hint = f"use {listed([word for word in KINDS if KINDS[word].of_two])}"
        findings.add(at, f"{metric.name} is judged as a ratio", hint)


def _check_sides(findings: Findings, path: Path, claim: Claim) -> None:
    """A test has what it needs of `compare`, `over`, `model` and the like, and nothing else."""
    kind, needs, may = claim.test.kind, claim.test.takes, claim.test.may
    if claim.systems is not None and claim.test.spreads:  # in the place of a model
        needs = tuple("systems" if side == "model" else side for side in needs)
    what = f"{a_or_an(kind)} test"
    missing = []
    for side in SIDES:
        first, _, second = side.partition(".")
        value = getattr(claim, first)
        given = value is not None and (not second or getattr(value, second) is not None)
        if given and side not in (*needs, *may):
            takes = listed((*needs, *may), last="and")
            findings.add((*path, *side.split(".")), f"{what} takes no {side!r}", f"it takes {takes}", key=True)
        elif not given and side in needs and not (second and value is None):
            missing.append(side)
    if missing:
        at = (*path, *missing[0].split("."))
        findings.add(at, f"{what} needs {listed([repr(side) for side in missing], last='and')}", key=True)


def _models(findings: Findings, path: Path, claim: Claim) -> list[AnyModel]:
    """The models of the suite that a claim is about; what is wrong with their names is reported."""
    named: list[AnyModel | None] = []
    if claim.compare is not None:
        sides = {side: getattr(claim.compare, side) for side in ("treatment", "baseline", "ceiling")}
        given = {side: name for side, name in sides.items() if name is not None}
        for index, (side, name) in enumerate(given.items()):
            named += _side(findings, (*path, "compare", side), claim, name)
            if name in list(given.values())[:index]:
                hint = "to compare a model with itself, use `controls: {same_model: ...}`"
                findings.add((*path, "compare", side), f"{name} is compared with itself", hint)
    for key, second in (("minus", claim.minus), ("share_of", claim.share_of)):
        if not isinstance(second, Pair):
            continue
        for side in ("treatment", "baseline"):
            named += _side(findings, (*path, key, side), claim, getattr(second, side))
        if second.treatment == second.baseline:
            findings.add((*path, key, "baseline"), f"{second.baseline} is compared with itself")
        elif claim.compare is not None and claim.groups[0] == (second.treatment, second.baseline):
            findings.add((*path, key), f"{key} is the pair itself", "name another pair of models", key=True)
    if claim.model is not None:
        named += _one_model(findings, (*path, "model"), claim, claim.model)
    if claim.over is not None:
        _check_sweep(findings, (*path, "over"), claim, claim.over)
        named.extend(findings.spec.models.get(name) for name in findings.spec.sweeps.get(claim.over, {}))
    return [model for model in named if model is not None]


def _one_model(findings: Findings, path: Path, claim: Claim, name: str) -> list[AnyModel | None]:
    """A model of the suite, every point of a swept one, or a published system, of which there is no model."""
    if name in findings.spec.sweeps:
        return _side(findings, path, claim, name)
    systems = known_systems()
    if name in findings.spec.models:
        return [findings.spec.models[name]]
    if name not in systems and name not in findings.broken:
        known = [*findings.spec.models, *systems]
        hint = nearest(name, known) or f"known are {listed(known, last='and')}"
        findings.add(path, f"neither a model of this suite nor a published system is called {quoted(name)}", hint)
    return []


def _side(findings: Findings, path: Path, claim: Claim, name: str) -> list[AnyModel | None]:
    """A model that a claim compares, or every point of a swept one."""
    if _is_counted_system(findings, claim, name):
        return []
    spread = claim.test.in_ is not None or claim.test.of_points
    if spread and name in findings.spec.sweeps and not claim.test.of_sweeps:
        return [findings.spec.models.get(point) for point in findings.spec.sweeps[name]]
    if not claim.test.of_sweeps:
        return [findings.model(path, name)]
    if path[-1] == "baseline" and name in findings.spec.models and name not in findings.spec.sweeps:
        return [findings.model(path, name)]
    _check_sweep(findings, path, claim, name)
    return [findings.spec.models.get(point) for point in findings.spec.sweeps.get(name, {})]


def _is_counted_system(findings: Findings, claim: Claim, name: str) -> bool:
    """Whether a side of a comparison is a published system, of which only counts are known."""
    ours = name in findings.spec.models or name in findings.spec.sweeps or name in findings.broken
    counted = all((found := find_metric(metric)) is not None and found.kind == "counted" for metric in claim.metrics)
    return counted and not ours and not claim.test.of_sweeps and name in known_systems()


def _check_sweep(findings: Findings, path: Path, claim: Claim, name: str) -> None:
    sweeps = findings.spec.sweeps
    if name not in sweeps:
        if name in findings.broken:
            return
        if name in findings.spec.models:
            message = f"{name} is one model: a {claim.test.kind} needs a model with a `sweep`"
        else:
            message = f"no sweep of this suite is called {quoted(name)}"
        hint = nearest(name, sweeps) or f"the sweeps are {listed(list(sweeps), last='and')}"
        findings.add(path, message, hint)
        return
    points = list(sweeps[name].values())
    if claim.along is not None and claim.along not in points[0]:
        hint = nearest(claim.along, points[0]) or f"it is swept over {listed(list(points[0]), last='and')}"
        findings.add((*path[:2], "along"), f"{name} is not swept over {quoted(claim.along)}", hint)


# ------------------------------------------------------------------------------------------------ metrics


def _metric(findings: Findings, path: Path, name: str, models: list[AnyModel]) -> Metric | None:
    """The metric, or None with a problem when there is none of that name or the suite does not measure it."""
    try:
        ref = MetricRef.parse(name)
    except ValueError as error:
        meant = _meant(findings, name)
        message = str(error) if meant is None else f"unknown metric {quoted(name)}"
        findings.add(path, message, meant or nearest(name.split("[")[0], _claimable()))
        return None
    base, labels = ref.base, dict(ref.labels)
    metric = find(ref)
    if metric is None:
        hint = _meant(findings, name) or nearest(base, _claimable()) or "see `moebench list metrics`"
        findings.add(path, f"unknown metric {quoted(base)}", hint)
        return None
    for label, allowed in metric.amounts.items():
        if label in labels and (why := _no_amount(labels[label], allowed)) is not None:
            findings.add(path, f"{label}={labels[label]} is {why}", f"write {labelled(base, **{label: 8})}")
            return None
    unknown = [label for label in labels if label not in metric.labels]
    if unknown:
        hint = nearest(unknown[0], metric.labels) or f"its labels are {listed(metric.labels, last='and')}"
        findings.add(path, f"{base} has no label {quoted(unknown[0])}", hint)
        return None
    missing = [label for label in metric.labels if label not in (*labels, *metric.together)]
    if missing and not metric.whole:
        values = metric.values.get(missing[0]) or _values(findings, metric, missing[0]) or ["0"]
        shown = [label for label in metric.labels if label in (*labels, *missing)]
        example = labelled(base, **{label: labels.get(label, values[0]) for label in shown})
        findings.add(path, f"{base} needs the label {missing[0]!r}", f"write it as {example}")
        return None
    exact = labelled(base, **{label: labels[label] for label in metric.labels if label in labels})
    if exact != name:
        findings.add(path, f"{quoted(name)} is not how this metric is written", f"write {exact}")
        return None
    problem = _unmeasured(findings, ref) or _not_there(metric, labels, models)
    if problem is not None:
        findings.add(path, *problem)
        return None
    return metric


def _no_amount(text: str, allowed: Range) -> str | None:
    """Why a label's value is not one of the numbers that it can be."""
    try:
        value = float(text)
    except ValueError:
        return "no number"
    return allowed.breaks(value) if math.isfinite(value) else "no number"


def find_metric(name: str) -> Metric | None:
    """The metric of a name with labels; None where it is none, or not known."""
    try:
        return find(MetricRef.parse(name))
    except ValueError:
        return None


def _claimable() -> list[str]:
    return [name for name, metric in known().items() if metric.retired is None and metric.unclaimable is None]


def _meant(findings: Findings, word: str) -> str | None:
    """A hint for a common word that stands for one of our metrics."""
    likely = metric_meant(word)
    if likely is None or word.partition("[")[0] in known():
        return None
    base, instead = likely
    needed = () if METRICS[base].whole else METRICS[base].labels
    example = labelled(base, **{label: (_measured(findings, label) or ["8"])[0] for label in needed})
    return f"did you mean {example!r}?{f' ({instead})' if instead else ''}"


def _values(findings: Findings, metric: Metric, label: str) -> list[str]:
    """The values of a label of a metric that the suite has."""
    of_tasks = label == "task" and "tasks" in metric.asked_by and findings.spec.tasks
    return list(findings.spec.tasks) if of_tasks else _measured(findings, label)


def _measured(findings: Findings, label: str) -> list[str]:
    """The values of a label that the suite's speed session measures, or its tasks."""
    return measured(findings.spec.measure, label) or (["NAME"] if label == "task" else [])


def _unmeasured(findings: Findings, ref: MetricRef) -> tuple[str, str | None] | None:
    """Why the suite will have no such number, and what would change that."""
    metric, measure = metric_of(ref), findings.spec.measure
    if metric.unclaimable is not None:
        why, instead = metric.unclaimable
        return f"{ref.base} {why}", instead
    if findings.is_broken("measure"):
        return None
    if "tasks" in metric.asked_by and (problem := _no_such_task(findings, ref)) is not None:
        return problem
    for what in metric.asked_by:
        if (hint := _lacking(measure, what)) is not None:
            return f"this suite does not measure {ref.base}", hint
    for label, (where, _) in TIMED_LABELS.items():
        value = ref.get(label)
        if metric.kind == "timed" and value not in (None, EVERY_VALUE) and value not in _measured(findings, label):
            have = listed(_measured(findings, label), last="and")
            return f"this suite does not measure {ref.base} at {label}={value}", f"measure.speed.{where} has {have}"
    return None


def _no_such_task(findings: Findings, ref: MetricRef) -> tuple[str, str | None] | None:
    """Why the data ask no such questions; None where they do, or where what they are is not known."""
    tasks, name, part = findings.spec.tasks, ref.get("task"), ref.get("instances")
    if findings.is_broken("data"):
        return None
    if name is None or name == EVERY_VALUE:
        return None if tasks else ("the data of this suite hold no tasks", "give data: {source: tasks, tasks: ...}")
    if name not in tasks:
        hint = nearest(name, tasks) or (f"its tasks are {listed(list(tasks), last='and')}" if tasks else None)
        return f"the data have no task {quoted(name)}", hint or "give data: {source: tasks, tasks: ...}"
    task = tasks[name]
    if part is not None and part not in task.parts and part in ("seen", "new"):
        return (
            f"{name} has no questions that are {part}",
            f"its questions are all {task.parts[0]}: leave `instances` out",
        )
    if ref.base == "task.bits_stored" and task.facts is None:
        return f"{name} stores no facts: it is {a_or_an(task.kind)} task", "claim task.answer_bits"
    return None


def _lacking(measure: Measure, what: str) -> str | None:
    """What to write for a part of `measure` that is not there; None when it is."""
    if what in {"memory", "routing"}:
        return None if getattr(measure, what) else f"set measure.{what} to true"
    if what == "speed":
        return None if measure.speed is not None else "give it a `speed` under `measure`"
    if what.startswith("speed."):
        asked: Any = measure
        for key in what.split("."):
            asked = getattr(asked, key, None)
        is_flag = what in ("speed.train_step", "speed.layer_parts")
        return None if asked else f"set measure.{what} to true" if is_flag else f"give measure.{what}"
    under = MEASUREMENTS[what].under if what in MEASUREMENTS else "quality"
    return None if what in getattr(measure, under) else f"put {what} into measure.{under}"


def _not_there(metric: Metric, labels: dict[str, str], named: list[AnyModel]) -> tuple[str, str | None] | None:
    """Why a model will have no number with these labels: a layer, expert or part that is not there.

    Domains are known to the data alone: `feasibility` holds them against those.
    """
    routed, models = metric.of_mixtures, [model for model in named if isinstance(model, ModelSpec)]
    if metric.of_systems and named:
        return f"{metric.name} of a model of this suite: only published systems have it", "name a published system"
    if any(model.train is None for model in models) and metric.kind not in ("counted", "timed"):
        hint = "claim a metric of cost or speed, or train the model: leave `weights` out"
        return f"{metric.name} of a model with `weights: random`: it is counted and timed, never trained", hint
    for refuses in (_not_of_transformed, _not_of_start):
        if (wrong := next(filter(None, (refuses(metric, model) for model in models)), None)) is not None:
            return wrong
    if routed and any(isinstance(model.ffn, DenseFFN) for model in models):
        return f"{metric.name} of a dense model: it has no router", None
    for label, value in labels.items():
        if value == EVERY_VALUE:
            continue
        if label in metric.values and value not in metric.values[label]:
            there = metric.values[label]
            hint = nearest(value, there) or f"the {label}s are {listed(there, last='and')}"
            return f"{metric.name} has no {label} {quoted(value)}", hint
        for model in models if label in {"layer", "expert"} else ():
            those = numbers(label, model, routed=routed)
            if value not in map(str, those):
                which = f"its mixtures are layers {listed(list(map(str, those)), last='and')}"
                if len(those) == those[-1] + 1:
                    which = f"{label}s count from 0 to {those[-1]}"
                return f"{label} {quoted(value)} is not one of a model that this claim is about", which
    return None


def _not_of_start(metric: Metric, model: ModelSpec) -> tuple[str, str | None] | None:
    """Why there is no such number of a model that starts from no other."""
    if not metric.name.startswith("start.") or (model.parent is not None and model.transform is None):
        return None
    return f"{metric.name} of a model that is not trained on from another", "claim test.bits_per_byte of it"


OF_TRAINING = ("train.", "init.", "curve.", "decayed.", "memory.train_", "speed.train_")
"""How metrics begin that a model has by its training."""


def _not_of_transformed(metric: Metric, model: ModelSpec) -> tuple[str, str | None] | None:
    """Why there is no such number of a model that is another with its weights changed."""
    if model.transform is None:
        return None
    parent, word = model.parent, model.transform.word
    if metric.name.startswith(OF_TRAINING) or metric.kind in ("event", "laddered"):
        why = f"it is {parent} with its weights changed, and has no training of its own"
        return f"{metric.name} of a model with `{word}`: {why}", f"claim it of {parent}"
    if model.transform.unpacks and (metric.kind == "timed" or metric.name.startswith("memory.")):
        why = "its products are taken with weights that were unpacked, so it would be that of the model it starts from"
        return f"{metric.name} of a model with `{word}`: {why}", "its bytes are cost.weight_bytes"
    return None


def _check_target(findings: Findings, path: Path, claim: Claim, metric: Metric, models: list[AnyModel]) -> None:
    wanted = {"event": "reach", "laddered": "ladder"}.get(metric.kind)
    write = {"reach": "{reach: MODEL}, or a number of bits per byte", "ladder": "{ladder: NAME}"}
    given = None if claim.target is None else "reach" if claim.target.reach is not None else "ladder"
    if wanted is not None and given is None:
        findings.add(path, f"{metric.name} needs a target", f"write target: {write[wanted]}", key=True)
    elif wanted is None and given is not None:
        hint = "targets are for ..._to_quality, and of a ladder for effective sizes and leverage"
        findings.add((*path, "target"), f"{metric.name} takes no target", hint, key=True)
    elif wanted is not None and given is not None and given != wanted:
        message = f"{metric.name} takes a target of another form"
        findings.add((*path, "target", given), message, f"write target: {write[wanted]}", key=True)
    elif claim.target is not None and claim.target.reach is not None:
        if isinstance(claim.target.reach, str):
            findings.trained((*path, "target", "reach"), claim.target.reach)
        if claim.target.on is not None:
            _check_quality(findings, (*path, "target", "on"), claim.target.on, models)
    elif claim.target is not None and claim.target.ladder is not None:
        _check_ladder(findings, (*path, "target", "ladder"), claim.target.ladder)


def _check_quality(findings: Findings, path: Path, on: str, models: list[AnyModel]) -> None:
    """What is to be reached is bits of a task's answers, which every evaluation point has."""
    metric = _metric(findings, path, on, models)
    ref = MetricRef.parse(on) if metric is not None else None
    if ref is None:
        return
    if ref.base != REACHED or ref.get("instances") is not None or ref.get("task") == EVERY_VALUE:
        example = labelled(REACHED, task=next(iter(findings.spec.tasks), "NAME"))
        findings.add(path, f"{on} is not measured at the evaluation points", f"reach {example}, or leave `on` out")


def _check_ladder(findings: Findings, path: Path, name: str) -> None:
    """The ladder is one, of dense models that are trained."""
    ladders = findings.spec.ladders
    if name in findings.broken:
        return
    if name not in ladders:
        hint = nearest(name, ladders) or (f"the ladders are {listed(list(ladders), last='and')}" if ladders else None)
        hint = hint or "write a model with a ladder, such as ladder: {width: [16, 32, 64], ffn.hidden: [32, 64, 128]}"
        findings.add(path, f"no ladder of this suite is called {quoted(name)}", hint)
        return
    for rung in ladders[name]:
        model = findings.spec.decoders.get(rung)
        if model is not None and (isinstance(model.ffn, MoEFFN) or model.train is None):
            why = "a mixture" if isinstance(model.ffn, MoEFFN) else "never trained"
            findings.add(path, f"{rung} is {why}: the models that others are held against are dense and trained")
            return
