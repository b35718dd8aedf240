"""Sense: what types cannot see, because it takes two places of a suite to see it.

Sizes against the context, matches against the models they name, what is timed against what fits. Claims have a module
of their own, `check_claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from moebench.models.routers import ROUTERS, known_routers, router_class
from moebench.plugins import PluginError
from moebench.suite import fields
from moebench.suite.check_claims import check_claims
from moebench.suite.check_serving import check_serving
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.errors import Problem
from moebench.suite.explain import Path, place
from moebench.suite.mixture import idle_gradient, problem, unread_losses, unread_renormalise
from moebench.suite.model import Match, ModelSpec, MoEFFN
from moebench.suite.parse import Node
from moebench.suite.training import TrainSpec
from moebench.suite.types import AnyModel, SpeedSpec, SuiteSpec
from moebench.suite.words import known_systems
from moebench.text import listed, nearest, quoted

OF_MIXTURES = ("handicap", "round_robin")
"""Controls of a mixture's routing."""
_MADE_ELSEWHERE = {"checkpoint": "a checkpoint", "external": "measured elsewhere", "experiment": "an experiment"}


@dataclass(kw_only=True)
class Findings:
    """A typed suite, the places of its values, and what was found wrong with it."""

    spec: SuiteSpec
    tree: Node
    raw: Node
    """The suite before `base` was worked into its models: it tells a model's own keys from inherited ones."""
    broken: set[str]
    """Models, `claims.x` and `section:` whose own mistakes are reported already; they are not in `spec`."""
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> None:
        self.problems.append(Problem(position=place(self.tree, path, key=key), message=message, hint=hint))

    def model(self, path: Path, name: object) -> AnyModel | None:
        """The model of that name, or None: with a problem when there is none, silently when it is broken."""
        known = [*self.spec.models, *(word for word in self.broken if ":" not in word and "claims." not in word)]
        if name in self.spec.models:
            return self.spec.models[str(name)]
        if name in self.spec.sweeps:
            hint = f"name one of them: {listed(list(self.spec.sweeps[str(name)]))}"
            kind = "ladder" if name in self.spec.ladders else "sweep"
            self.add(path, f"{name} is a {kind} of several models", hint)
        elif name not in known and (known or not self.is_broken("models")):  # that there are none is reported already
            hint = nearest(name, known) or f"the models are {listed(known, last='and')}"
            hint = hint if known else nearest(name, known_systems()) or "it has no models: give it `models:`"
            self.add(path, f"no model of this suite is called {quoted(name)}", hint)
        return None

    def decoder(self, path: Path, name: str, what: str) -> ModelSpec | None:
        """The decoder of that name, or None: with a problem for a model that moebench does not build."""
        model = self.model(path, name)
        if model is None or isinstance(model, ModelSpec):
            return model
        self.add(path, f"{name} is {_MADE_ELSEWHERE[model.tag]}: {what}", "name a model that moebench builds")
        return None

    def trained(self, path: Path, name: str) -> None:
        """Adds what is wrong with the name of a model that must be a trained one."""
        model = self.decoder(path, name, "it is never trained here")
        if model is not None and model.is_transformed:
            message = f"{name} is {model.parent} with its weights changed: it is never trained"
            self.add(path, message, f"name {model.parent}")
        if model is not None and model.train is None:
            self.add(path, f"{name} has `weights: random`: it is never trained", "name a model that is")

    def is_broken(self, section: str) -> bool:
        return f"{section}:" in self.broken


def check(spec: SuiteSpec, tree: Node, *, raw: Node, broken: set[str]) -> list[Problem]:
    """Everything that makes no sense in a suite whose types are right; `broken` names what was left out of it."""
    findings = Findings(spec=spec, tree=tree, raw=raw, broken=broken)
    for index, seed in enumerate(spec.seeds):
        if seed in spec.seeds[:index]:
            findings.add(("seeds", index), f"seed {seed} is given twice")
    _check_something(findings)
    for name, model in spec.decoders.items():
        _check_model(findings, name, model)
    _check_quality(findings)
    _check_measure(findings)
    _check_tune(findings)
    _check_controls(findings)
    for swept, models in spec.sweeps.items():
        for name in models:
            findings.model(("sweeps", swept, name), name)
    for ladder, rungs in spec.ladders.items():
        for index, name in enumerate(rungs):
            findings.model(("ladders", ladder, index), name)
    check_claims(findings)
    return findings.problems


def _check_something(findings: Findings) -> None:
    """A suite without models has claims, and one that is looked at several times a primary claim."""
    spec = findings.spec
    if not spec.models and not spec.claims and not findings.broken:
        hint = "give it one, or claims about published systems"
        findings.add(("models",), "this suite has no models", hint, key=True)
    if spec.looks and not any(claim.family == "primary" for claim in spec.claims.values()):
        hint = "give a claim `family: primary`, or a number of seeds"
        findings.add(("seeds", "looks"), "looks end with the primary claims, and there is none", hint)


def _check_model(findings: Findings, name: str, model: ModelSpec) -> None:
    if model.is_transformed:  # all else is the other's
        return _check_transform(findings, name, model)
    if model.train is not None:
        _check_training(findings, ("models", name, "train"), model.train)
    _check_view(findings, name, model)
    if model.parent is not None:  # whose sizes it has
        return _check_stage(findings, name, model)
    _check_ffn(findings, ("models", name), model)
    if model.match is not None:
        _check_match(findings, name, model.match)
    return None


def _check_transform(findings: Findings, name: str, model: ModelSpec) -> None:
    """What is to be done to another model's weights can be done to them."""
    transform, parent = model.transform, str(model.parent)
    if transform is None or parent not in findings.spec.models:
        return
    try:
        wrong = transform.misfit(findings.spec.ffn_of(parent))
    except (PluginError, KeyError):  # of the router: reported where it stands
        return
    if wrong is not None:
        key, message, hint = wrong
        findings.add(("models", name, transform.word, key), f"{parent}: {message}", hint)


def _check_stage(findings: Findings, name: str, model: ModelSpec) -> None:
    """What is trained of the model is there, and where it starts can be reached."""
    for where, message, hint in model.misfits(model.ffn):
        findings.add(("models", name, *where.split(".")), message, hint)
    start, decoders = model.start, findings.spec.decoders
    if start is None or start.at is None or start.model is None:
        return
    path: Path = ("models", name, "start", "at")
    parent = decoders.get(start.model)
    if parent is not None and parent.start is not None:
        message = f"{start.model} starts from another itself: only a training from scratch is taken again"
        findings.add(path, message, "leave `at` out, or start from the other")
    reach = start.at.reach
    if not isinstance(reach, str):
        return
    findings.trained((*path, "reach"), reach)
    if reach == start.model:
        findings.add((*path, "reach"), f"{reach} reaches its own loss at its end", "leave `at` out")
    elif reach in decoders and parent is not None and decoders[reach].parent is not None:
        findings.add(
            (*path, "reach"), f"{reach} starts from another itself", "name a model that is trained from scratch"
        )
    elif parent is not None and findings.spec.data_of(reach).tokenizer != findings.spec.data_of(start.model).tokenizer:
        findings.add(
            (*path, "reach"), f"{reach} and {start.model} read different tokens", "name one of the same tokenizer"
        )


def _check_controls(findings: Findings) -> None:
    """Every control names a model that is trained, and one of mixtures a mixture."""
    asked = findings.spec.controls
    for word in ("same_model", "one_expert", *OF_MIXTURES):
        if (name := getattr(asked, word)) is not None:
            findings.trained(("controls", word), name)
    for index, name in enumerate(asked.shuffled):
        findings.trained(("controls", "shuffled", index), name)
    for word in OF_MIXTURES:
        model = findings.spec.decoders.get(getattr(asked, word) or "")
        if model is not None and not isinstance(model.ffn, MoEFFN):
            hint = "name a model with `kind: moe`"
            findings.add(("controls", word), f"{getattr(asked, word)} is no mixture: it has no routing", hint)


def _check_training(findings: Findings, path: Path, train: TrainSpec) -> None:
    context, batch, micro = findings.spec.data.context, train.batch_tokens, train.micro_batch_tokens
    if not findings.is_broken("data"):
        for name, tokens in (("batch_tokens", batch), ("micro_batch_tokens", micro)):
            if tokens is not None and tokens % context:
                near = max(1, round(tokens / context)) * context
                message = f"{name} {tokens} is not a multiple of the context, {context} tokens"
                findings.add((*path, name), message, f"the nearest multiple is {near}")
    if micro is not None and batch % micro:
        findings.add((*path, "micro_batch_tokens"), f"micro_batch_tokens {micro} does not divide batch_tokens {batch}")
    budget = train.budget
    if budget.tokens is not None and budget.tokens < batch:
        message = f"a budget of {budget.tokens:,.0f} tokens is less than one step of {batch:,}"
        findings.add((*path, "budget", "tokens"), message)
    warmup = train.schedule.warmup
    if not warmup.relative and warmup.value != int(warmup.value):
        share = f"{warmup.value * 100:g}%" if warmup.value < 1 else "5%"
        hint = f"write whole steps, or a share such as {share}"
        findings.add((*path, "schedule", "warmup"), f"warmup {warmup.value:g} is no whole number of steps", hint)
    evaluate = train.evaluate
    if evaluate.final_tokens < evaluate.tokens:
        message = f"final_tokens {evaluate.final_tokens} is less than tokens, {evaluate.tokens}"
        hint = "the last evaluation reads at least what the others read"
        findings.add((*path, "evaluate", "final_tokens"), message, hint)


def _check_ffn(findings: Findings, path: Path, model: ModelSpec) -> None:
    ffn, match = model.ffn, model.match
    own = "expert_hidden" if isinstance(ffn, MoEFFN) else "hidden"
    by = match and (match.by or f"ffn.{own}").removeprefix("ffn.")
    sizes = _sizes(model)
    for size in sizes:
        if getattr(ffn, size) is None and size != by and (by is None or by in sizes):
            message = f"the size {size} of this {ffn.kind} ffn is open{_why(model, size)}"
            findings.add((*path, "ffn"), message, f"give it {size!r}, or a `match` that solves it", key=True)
    if match is not None and by not in sizes:
        message = f"{match.by!r} is no size of this model, whose ffn is {ffn.kind}"
        hint = "no layer of it is dense: give `every` or `first_dense` too" if by == "dense_hidden" else None
        use = f"use {listed([f'ffn.{size}' for size in sizes], last='or')}"
        findings.add((*path, "match", "by"), message, hint if hint and isinstance(ffn, MoEFFN) else use)
    if isinstance(ffn, MoEFFN):
        if ffn.shared_gate and "shared_hidden" not in sizes:
            hint = "give shared_hidden, or a `match` that solves it"
            findings.add((*path, "ffn", "shared_gate"), "shared_gate has no shared expert to gate", hint)
        _check_router(findings, (*path, "ffn"), ffn)


def _check_router(findings: Findings, path: Path, ffn: MoEFFN) -> None:
    word, context = ffn.router, findings.spec.data.context
    if word not in ROUTERS and word not in (routers := known_routers()):
        hint = nearest(word, routers) or f"the routers are {listed(routers, last='and')}"
        findings.add((*path, "router"), f"unknown router {quoted(word)}", hint)
        return
    try:
        router = router_class(word)
    except PluginError as error:
        findings.add((*path, "router"), str(error))
        return
    if word not in ROUTERS and (wrong := problem(ffn, router)) is not None:
        findings.add((*path, wrong[0]), wrong[1])
    if (wrong := router.unfit_context(ffn, context)) is not None and not findings.is_broken("data"):
        findings.add((*path, "experts"), *wrong)
    if (wrong := idle_gradient(ffn, router)) is not None:
        findings.add((*path, "top_k"), *wrong)
    if (why := unread_renormalise(ffn, router)) is not None:
        own = findings.raw.get(*path, "renormalise") is not None or findings.raw.get(*path, "router") is None
        leave = "leave it out, or use a router that reads it: softmax_topk, sigmoid_bias, top_p or frozen_random"
        hint = leave if own else "what comes from the base is left out with renormalise: null"
        field = "renormalise" if own else "router"
        findings.add((*path, field), f"the router {word} does not use renormalise: {why}", hint, key=own)
    if unread := unread_losses(ffn, router):
        losses = list(map(str, router.auxiliary))
        has = f"its losses are {listed(losses, last='and')}" if losses else "it has no loss"
        message = f"the router {word} does not use {' or '.join(unread)}: {has}"
        if findings.raw.get(*path, unread[0]) is None and findings.raw.get(*path, "router") is not None:
            zeros = ", ".join(f"{loss}: 0" for loss in unread)
            findings.add((*path, "router"), message, f"what comes from the base is left out with {zeros}")
        else:
            findings.add((*path, unread[0]), message, "leave it out", key=True)


def _why(model: ModelSpec, size: str) -> str:
    """Which layers need a size that a mixture needs only for some."""
    if size != "dense_hidden" or not isinstance(model.ffn, MoEFFN):
        return ""
    dense = [str(layer + 1) for layer in range(model.layers) if not model.ffn.is_mixture(layer)]
    layers, are = ("layer", "is") if len(dense) == 1 else ("layers", "are")
    return f": {layers} {listed(dense, last='and')} of {model.layers} {are} dense"


def _sizes(model: ModelSpec) -> list[str]:
    """The widths that the model's ffn must have."""
    ffn = model.ffn
    if not isinstance(ffn, MoEFFN):
        return ["hidden"]
    shared = ["shared_hidden"] if ffn.shared_hidden is not None or _solves(model, "shared_hidden") else []
    dense = [] if all(map(ffn.is_mixture, range(model.layers))) else ["dense_hidden"]
    return ["expert_hidden", *shared, *dense]


def _solves(model: ModelSpec, size: str) -> bool:
    return model.match is not None and model.match.by == f"ffn.{size}"


def _check_match(findings: Findings, name: str, match: Match) -> None:
    path: Path = ("models", name, "match")
    tolerance = match.tolerance
    if tolerance.value < 0 or (tolerance.relative and tolerance.value >= 1):
        findings.add((*path, "tolerance"), f"tolerance {tolerance} is out of range: it is from 0% to below 100%")
    elif not tolerance.relative and 0 < tolerance.value < 1:
        findings.add((*path, "tolerance"), f"tolerance {tolerance} has no unit", f"write {tolerance.value * 100:g}%")
    if match.to == name:
        findings.add((*path, "to"), f"{name} is matched to itself")
        return
    other = findings.decoder((*path, "to"), match.to, "nothing is matched to it")
    if other is not None and other.is_transformed:
        message = f"{match.to} is {other.parent} with its weights changed: nothing is matched to it"
        findings.add((*path, "to"), message, f"match it to {other.parent}")
        return
    chain = [name]
    while other is not None and other.match is not None:
        chain.append(match.to)
        match = other.match
        if match.to == name and min(chain, key=list(findings.spec.decoders).index) == name:  # one cycle is one mistake
            findings.add((*path, "to"), f"matches are cyclic: {' -> '.join((*chain, name))}", "leave one of them out")
        if match.to in chain:
            return
        other = findings.spec.decoders.get(match.to)


def _check_view(findings: Findings, name: str, model: ModelSpec) -> None:
    """The domains that a model's `data:` names, where the source knows its own."""
    known = findings.spec.data.domains()
    if model.data is None or not known or findings.is_broken("data"):
        return
    for key in ("domains", "holdout", "mix"):
        for index, domain in enumerate(some := getattr(model.data, key)):
            if domain not in known:
                path: Path = ("models", name, "data", key, domain if isinstance(some, dict) else index)
                hint = nearest(domain, known) or f"its domains are {listed(known, last='and')}"
                findings.add(path, f"the data have no domain {quoted(domain)}", hint, key=isinstance(some, dict))


def _check_quality(findings: Findings) -> None:
    """Tasks are asked of data that are tasks."""
    quality = findings.spec.measure.quality
    if "tasks" in quality and not findings.spec.tasks and not findings.is_broken("data"):
        message = "tasks are asked, and the data hold none"
        hint = "give data: {source: tasks, tasks: ...}; tasks of lm-eval are measure.lm_eval"
        findings.add(("measure", "quality", quality.index("tasks")), message, hint)


def _check_measure(findings: Findings) -> None:
    speed, context = findings.spec.measure.speed, findings.spec.data.context
    if speed is None:
        return
    path: Path = ("measure", "speed")
    for name in findings.spec.retold:
        message = f"{name} reads another tokenizer than the suite's: times a token of different tokens say nothing"
        findings.add(("models", name, "data", "tokenizer"), message, "time them in a suite of their own")
    for index, tokens in enumerate(speed.prefill):
        if tokens > context and not findings.is_broken("data"):
            findings.add(
                (*path, "prefill", index), f"a prompt of {tokens} tokens is longer than the context, {context}"
            )
        if tokens in speed.prefill[:index]:
            findings.add((*path, "prefill", index), f"{tokens} is given twice")
    for index, batch in enumerate(speed.decode.batch if speed.decode is not None else ()):
        if speed.decode is not None and batch in speed.decode.batch[:index]:
            findings.add((*path, "decode", "batch", index), f"{batch} is given twice")
    _check_loaded(findings, path, speed)
    for name, model in findings.spec.decoders.items():
        if speed.train_step and model.train is None:
            message = f"{name} has `weights: random`: its training step is not timed"
            findings.add((*path, "train_step"), message, "write train_step: false")
        decodes = [key for key in ("decode", "inputs", "memory_budget", "offload") if getattr(speed, key) is not None]
        if decodes and isinstance(model.ffn, MoEFFN) and not _is_causal(model.ffn.router):
            message = f"{name} cannot decode: its router {model.ffn.router} looks at later tokens"
            hint = f"leave {' and '.join(decodes)} out, or choose another router"
            findings.add((*path, decodes[0]), message, hint, key=True)
    check_serving(findings, path, speed)
    more = (speed.inputs, speed.memory_budget, speed.offload)
    if not speed.train_step and not speed.prefill and speed.decode is None and not any(more):
        findings.add(path, "nothing is timed", "give train_step, prefill or decode, or leave `speed` out", key=True)


def _check_loaded(findings: Findings, path: Path, speed: SpeedSpec) -> None:
    """What is timed of checkpoints: they have no training step, and read text of the suite."""
    loaded = [name for name, model in findings.spec.models.items() if isinstance(model, CheckpointModel)]
    for name in loaded if speed.train_step else ():
        message = f"{name} is a checkpoint: its training step is not timed"
        findings.add((*path, "train_step"), message, "write train_step: false")
    if loaded and findings.spec.data.source == "none":
        message = "what is timed reads text, and this suite has none"
        findings.add(path, message, "give it a `data:` block, such as data: {source: stdlib}", key=True)


def _is_causal(word: str) -> bool:
    """Whether a router says so; one that cannot be loaded is reported elsewhere."""
    try:
        return router_class(word).causal
    except (PluginError, KeyError):
        return True


def _check_tune(findings: Findings) -> None:
    tune, decoders = findings.spec.tune, findings.spec.decoders
    if tune is None:
        return
    if decoders and all(model.train is None for model in decoders.values()):
        findings.add(("tune",), "no model of this suite is trained: there is no learning rate to tune", key=True)
        return
    _check_order(findings, ("tune", "lr"), tune.lr, "the rates")
    for index, name in enumerate(tune.models or ()):
        findings.trained(("tune", "models", index), name)
    covered = {name: decoders[name] for name in tune.models or decoders if name in decoders}
    trained = {name: one for name, one in covered.items() if one.train is not None and not one.is_transformed}
    for path, values in tune.over.items():
        _check_tuned(findings, path, values, trained)


def _check_tuned(findings: Findings, path: str, values: list[fields.Value], models: dict[str, ModelSpec]) -> None:
    """A field that is tuned is one of some model, and every value to try is one that it may have."""
    at: Path = ("tune", "over", path)
    if path == fields.LR:
        findings.add(at, "the learning rate has a list of its own", "give it as tune.lr", key=True)
    elif path.startswith(fields.NOT_TUNED):
        findings.add(at, f"{path} is not tuned: it says how long is trained, or what is measured", key=True)
    elif not (having := {name: model for name, model in models.items() if fields.has(model, path)}):
        known = list(dict.fromkeys(each for model in models.values() for each in fields.paths_of(model)))
        ends = [each for each in known if each.endswith(f".{path}")]
        hint = f"did you mean {ends[0]!r}?" if ends else nearest(path, known)
        message = f"no model that is swept has a field {quoted(path)}"
        findings.add(at, message, hint or "name it as in a `sweep`: ffn.balance_loss, train.optimizer.weight_decay",
                     key=True) if models else None  # fmt: skip
    else:
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if numbers and len(numbers) < len(values):
            findings.add(at, f"{path} is given both numbers and words")
        elif numbers:
            _check_order(findings, at, numbers, "the values")
        elif len(set(values)) < len(values):
            findings.add(at, f"a value of {path} is given twice")
        for index, value in enumerate(values):
            for model in having.values():
                try:
                    fields.with_values(model, {path: value})
                except ValueError as error:
                    findings.add((*at, index), str(error))
                    break


def _check_order(findings: Findings, at: Path, values: Sequence[float], what: str) -> None:
    for index, (before, value) in enumerate(pairwise(values), start=1):
        if value <= before:
            message = f"{value:g} is given twice" if value == before else f"{value:g} comes after {before:g}"
            findings.add((*at, index), message, f"list {what} from low to high, each once")
