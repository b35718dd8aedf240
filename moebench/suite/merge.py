"""Merging: one suite over another, a scale over a suite, a model over its base, a grid or ladder over a model.

One rule serves them all. Mappings merge key by key; lists and single values replace. A mapping that makes another
choice replaces whole: another `kind`, a budget in another currency, another tokenizer. Another `source` of data keeps
only what all sources have. Everything here works on trees that know their positions, so that a mistake is shown where
it was written; mistakes are added to `problems`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from moebench.suite import derived
from moebench.suite.errors import Position, Problem, Source, SuiteError
from moebench.suite.parse import Entry, Node, kind_of, parse
from moebench.suite.words import TOLD_BY
from moebench.text import cut, listed, nearest, quoted

CURRENCIES = frozenset({"tokens", "flops", "steps", "seconds"})
TOKENIZERS = frozenset({"bpe", "file", "checkpoint"})
MAX_SWEPT = 64
"""Models that one sweep may make."""
RUNGS = (3, 12)
"""The fewest and the most models of a ladder."""

MAX_MODELS = 500
MAX_BASES = 20
"""Longest chain of models that inherit from each other."""

_OF_EVERY_SOURCE = frozenset({"tokenizer", "context"})
_SAFE = re.compile(r"[A-Za-z0-9_.-]+")
_FIXED_BY_FILE = ("extends", "scales", "scale", "suite", "sweeps", "ladders")
"""Keys that neither a scale nor --set may change."""


def merge(below: Node, above: Node) -> Node:
    """`above` merged over `below`."""
    if not isinstance(below.value, dict) or not isinstance(above.value, dict) or _other_choice(below, above):
        return above
    entries = dict(below.value)
    if _differ(below, above, "source"):
        entries = {key: entry for key, entry in entries.items() if key in _OF_EVERY_SOURCE}
    for key, entry in above.value.items():
        old = entries.get(key)
        node = entry.node if old is None else merge(old.node, entry.node)
        entries[key] = Entry(key_at=entry.key_at, node=node)
    return Node(value=entries, at=above.at)


def lay_over(below: Node, above: Node) -> Node:
    """A whole suite, a scale or a `--set` over a suite: merged, and a model or claim that is null above is left out."""
    merged = merge(below, above)
    entries = dict(merged.mapping())
    for section in ("models", "claims"):
        given = below.get(section)
        dropped = [name for name in (given.mapping() if given is not None else {}) if _is_null(above, section, name)]
        if dropped:
            entries[section] = Entry(key_at=entries[section].key_at, node=without(entries[section].node, *dropped))
    return Node(value=entries, at=merged.at)


def _is_null(tree: Node, *path: str) -> bool:
    node = tree.get(*path)
    return node is not None and node.value is None


def _other_choice(below: Node, above: Node) -> bool:
    old, new = below.mapping(), above.mapping()
    if old and new and any(words.issuperset(old) and words.issuperset(new) for words in (CURRENCIES, TOKENIZERS)):
        return True
    return _differ(below, above, "kind")


def _differ(below: Node, above: Node, key: str) -> bool:
    old, new = below.mapping().get(key), above.mapping().get(key)
    return old is not None and new is not None and old.node.value != new.node.value


def without(node: Node, *keys: str) -> Node:
    """The mapping without some of its keys."""
    return Node(value={key: entry for key, entry in node.mapping().items() if key not in keys}, at=node.at)


def choose_scale(tree: Node, scale: str | None, problems: list[Problem], *, known: Collection[str]) -> Node:
    """The suite with the named block of `scales` merged over it; every block may only have the keys in `known`."""
    scales = tree.get("scales")
    if scales is not None and not isinstance(scales.value, dict):
        problems.append(Problem(position=scales.at, message=f"scales must be a mapping, not {kind_of(scales.value)}"))
    blocks = scales.mapping() if scales is not None else {}
    for name, entry in blocks.items():
        if not isinstance(entry.node.value, dict):
            text = f"a scale must be a mapping of what it changes, not {kind_of(entry.node.value)}"
            problems.append(Problem(position=entry.node.at, message=text))
        for key, inner in entry.node.mapping().items():
            if key in _FIXED_BY_FILE:
                problems.append(Problem(position=inner.key_at, message=f"a scale cannot change {key!r}"))
            elif key not in known and name != scale:  # the chosen one's are found by the types
                message = f"unknown key {quoted(key)}"
                problems.append(Problem(position=inner.key_at, message=message, hint=nearest(key, known)))
    if "scale" in tree.mapping() and blocks:
        text = "a scale is chosen on the command line, with --scale"
        problems.append(Problem(position=tree.mapping()["scale"].key_at, message=text))
    if scale is None:
        return tree
    if scale not in blocks:
        at = Position(source=Source(name="--scale", lines=(scale,)))
        known = f"this suite has {listed(list(blocks), last='and')}" if blocks else "this suite has no scales"
        message = f"unknown scale {quoted(scale)}: {known}"
        raise SuiteError([*problems, Problem(position=at, message=message, hint=nearest(scale, blocks))])
    at = blocks[scale].key_at
    named = Node(value={"scale": Entry(key_at=at, node=Node(value=scale, at=at))}, at=tree.at)
    return merge(lay_over(tree, without(blocks[scale].node, *_FIXED_BY_FILE)), named)


# ------------------------------------------------------------------------------------------------ --set


def apply_set(tree: Node, text: str, *, folder: str) -> Node:
    """The suite with one `a.b.c=value` over it. `folder` is what a relative path in the value is relative to.

    Raises SuiteError, located in `--set`, for a text of another form and for a model or claim that is not there.
    """
    source = Source(name="--set", lines=(text,), folder=folder)
    path, equals, value = text.partition("=")
    if not equals or not path.strip(".") or not value.strip() or "\n" in text or "\t" in text:
        raise SuiteError.at(Position(source=source), f"{quoted(text)} is not of the form path.to.key=value")
    parts = _known_parts(tree, path.split("."))
    starts = [1 + len(".".join(parts[:index])) + (index > 0) for index in range(len(parts))]
    places = [Position(source=source, column=column) for column in starts]
    _check_set(tree, parts, places)
    node = parse(" " * (len(path) + 1) + value, source)
    for part, at in zip(reversed(parts), reversed(places), strict=True):
        node = Node(value={part: Entry(key_at=at, node=node)}, at=at)
    return lay_over(tree, node)


def _known_parts(tree: Node, words: list[str]) -> list[str]:
    """Path words joined where the suite has a key with dots, such as a model called `gpt-2.5`."""
    parts: list[str] = []
    node: Node | None = tree
    while words:
        keys = node.mapping() if node is not None else {}
        size = next((n for n in range(len(words), 1, -1) if ".".join(words[:n]) in keys), 1)
        part, words = ".".join(words[:size]), words[size:]
        node = keys[part].node if part in keys else None
        parts.append(part)
    return parts


def _check_set(tree: Node, parts: Sequence[str], places: Sequence[Position]) -> None:
    if "" in parts:
        raise SuiteError.at(places[parts.index("")], f"{quoted('.'.join(parts))} has an empty part")
    if parts[0] in _FIXED_BY_FILE and parts[0] != "suite":
        raise SuiteError.at(places[0], f"{parts[0]!r} cannot be set on the command line")
    if len(parts) > 1 and parts[0] in {"models", "claims"}:
        known = tree.get(parts[0])
        names = known.mapping() if known is not None else {}
        if parts[1] not in names:
            text = f"this suite has no {parts[0][:-1]} {quoted(parts[1])}"
            raise SuiteError.at(
                places[1], text, nearest(parts[1], names) or f"it has {listed(list(names), last='and')}"
            )
    for index in range(1, len(parts)):
        node = tree.get(*parts[:index])
        if node is not None and node.value is not None and not isinstance(node.value, dict):
            name = ".".join(parts[:index])
            raise SuiteError.at(
                places[index], f"{name} is {kind_of(node.value)}: it has no keys to set", f"set {name} whole"
            )


# ------------------------------------------------------------------------------------------------ models


@dataclass(kw_only=True)
class Models:
    """The models of a suite with `base`, `sweep` and the suite's `train` worked in."""

    resolved: dict[str, Entry] = field(default_factory=dict)
    sweeps: dict[str, dict[str, dict[str, float | str | bool]]] = field(default_factory=dict)
    """Swept model, or ladder -> model it became -> swept key -> value; of a ladder its first key alone."""
    ladders: dict[str, list[str]] = field(default_factory=dict)
    """Ladder -> its rungs, in their order."""
    broken: set[str] = field(default_factory=set)
    """Names whose model could not be worked out; the reason is among the problems."""
    bases: dict[str, str] = field(default_factory=dict)
    """Model -> the model it inherits from (or, when swept, the swept one's base)."""


def resolve_models(tree: Node, problems: list[Problem]) -> Models:
    """Works `base`, `sweep` and `train` into every model of the suite; what goes wrong is added to `problems`.

    Raises SuiteError, with the problems so far, when there are no models to speak of, or far too many.
    """
    node = tree.get("models")
    if node is None:
        return Models()
    if not isinstance(node.value, dict):
        message = f"models must be a mapping of names to models, not {kind_of(node.value)}"
        raise SuiteError([*problems, Problem(position=node.at, message=message)])
    models = Models()
    train = tree.mapping().get("train")
    for name, entry in node.value.items():
        merged = _with_base(node.value, name, (), models, problems)
        if merged is None:
            models.broken.add(name)
            continue
        merged = _with_train(merged, entry.node, train, problems)
        sweep, ladder = entry.node.get("sweep"), entry.node.get("ladder")
        merged = without(merged, "base", "sweep", "ladder")
        if sweep is not None and ladder is not None:
            text = "a model is swept or a ladder, not both"
            problems.append(Problem(position=ladder.at, message=text, hint="give each value of the sweep a ladder"))
            models.broken.add(name)
        elif sweep is not None:
            _expand(name, entry, merged, sweep, models, problems)
        elif ladder is not None:
            _climb(name, entry, merged, ladder, models, problems)
        else:
            models.resolved[name] = Entry(key_at=entry.key_at, node=merged)
    if len(models.resolved) > MAX_MODELS:
        text = f"this suite has {len(models.resolved)} models; at most {MAX_MODELS} are allowed"
        raise SuiteError([*problems, Problem(position=node.at, message=text)])
    for name in models.sweeps:
        made = f"also made by the {'ladder' if name in models.ladders else 'sweep'} {name!r}"
        for expanded in models.sweeps[name]:
            if expanded in node.value:
                at = node.value[expanded].key_at
                problems.append(Problem(position=at, message=f"{expanded!r} is {made}"))
    return models


def _with_base(
    raw: Mapping[str, Entry], name: str, chain: tuple[str, ...], models: Models, problems: list[Problem]
) -> Node | None:
    """The model with its bases merged under it; None, with a problem, when that cannot be done."""
    node = raw[name].node
    if name in models.broken:
        return None
    if not isinstance(node.value, dict):
        text = f"a model must be a mapping of its sizes, not {kind_of(node.value)}"
        hint = "null leaves out a model of the suite that is extended: there is none of this name"
        problems.append(Problem(position=node.at, message=text, hint=hint if node.value is None else None))
        models.broken.add(name)
        return None
    base = node.get("base")
    if base is None:
        return node
    problem = _wrong_base(raw, base, (*chain, name))
    if problem is not None:
        problems.append(problem)
        models.broken.update((*chain, name))
        return None
    models.bases[name] = str(base.value)
    parent = _with_base(raw, str(base.value), (*chain, name), models, problems)
    if parent is None:
        models.broken.add(name)
        return None
    return merge(without(parent, "base"), node)


def _wrong_base(raw: Mapping[str, Entry], base: Node, chain: tuple[str, ...]) -> Problem | None:
    if not isinstance(base.value, str):
        return Problem(position=base.at, message=f"base must be a model's name, not {kind_of(base.value)}")
    if base.value not in raw:
        hint = nearest(base.value, raw) or f"the models are {listed(list(raw), last='and')}"
        return Problem(position=base.at, message=f"base names no model of this suite: {quoted(base.value)}", hint=hint)
    if len(chain) > MAX_BASES:
        return Problem(position=base.at, message=f"more than {MAX_BASES} models inherit from each other here")
    if base.value in chain:
        circle = " -> ".join((*chain[chain.index(base.value) :], base.value))
        return Problem(position=base.at, message=f"base is cyclic: {circle}")
    if several := {"sweep", "ladder"} & raw[base.value].node.mapping().keys():
        text = f"base cannot be {base.value!r}, which is a {' and a '.join(sorted(several))} of several models"
        return Problem(position=base.at, message=text, hint="base it on what that one is based on")
    return None


def _with_train(model: Node, raw: Node, suite: Entry | None, problems: list[Problem]) -> Node:
    """The model with the suite's recipe under its own `train`; without one, even its base's, when it is not trained."""
    if not TOLD_BY.keys().isdisjoint(model.mapping()) or derived.is_transformed(model):
        return model
    own = model.mapping().get("train")
    if (weights := model.get("weights")) is not None and weights.value is not None:
        if (written := raw.mapping().get("train")) is not None and written.node.value is not None:
            message = "a model with `weights: random` is never trained"
            problems.append(Problem(position=written.key_at, message=message, hint="leave out `train`, or `weights`"))
        none = Entry(key_at=model.at, node=Node(value=None, at=model.at))
        return Node(value={**model.mapping(), "train": none}, at=model.at)
    if suite is None:
        return model
    train = suite if own is None else Entry(key_at=own.key_at, node=merge(suite.node, own.node))
    return Node(value={**model.mapping(), "train": train}, at=model.at)


def _expand(name: str, entry: Entry, model: Node, sweep: Node, models: Models, problems: list[Problem]) -> None:
    """Adds one model for every point of the grid, named like `moe_sweep.experts-2`."""
    wrong = _sweep_problems(sweep)
    if wrong:
        problems.extend(wrong)
        models.broken.add(name)
        return
    axes = sweep.mapping()
    models.sweeps[name] = {}
    labels = _labels(axes)
    for point in itertools.product(*(axis.node.value for axis in axes.values() if isinstance(axis.node.value, list))):
        parts = [f"{label}-{_word(value)}" for label, value in zip(labels, point, strict=True)]
        expanded = ".".join([name, *parts])
        _add(name, expanded, entry, _at(model, axes, point), models)
        swept = zip(axes, (value.value for value in point), strict=True)
        models.sweeps[name][expanded] = {path: value for path, value in swept if isinstance(value, int | float | str)}


def _climb(name: str, entry: Entry, model: Node, ladder: Node, models: Models, problems: list[Problem]) -> None:
    """Adds one model for every rung, which takes one value of each list, named by its first key: `dense.width-64`."""
    wrong = _sweep_problems(ladder, "ladder") or list(_ladder_problems(ladder))
    if wrong:
        problems.extend(wrong)
        models.broken.add(name)
        return
    axes = ladder.mapping()
    first, label = next(iter(axes)), _labels(axes)[0]
    models.sweeps[name], models.ladders[name] = {}, []
    for rung in zip(*(axis.node.value for axis in axes.values() if isinstance(axis.node.value, list)), strict=True):
        expanded = f"{name}.{label}-{_word(rung[0])}"
        _add(name, expanded, entry, _at(model, axes, rung), models)
        models.sweeps[name][expanded] = {first: rung[0].value}
        models.ladders[name].append(expanded)


def _labels(axes: Mapping[str, Entry]) -> list[str]:
    """The last words of the keys, or all of them where two keys end alike."""
    short = [key.rsplit(".", 1)[-1] for key in axes]
    return short if len(set(short)) == len(short) else [key.replace(".", "_") for key in axes]


def _at(model: Node, axes: Mapping[str, Entry], point: Sequence[Node]) -> Node:
    """The model with one value for each key."""
    for (path, axis), value in zip(axes.items(), point, strict=True):
        model = merge(model, _nested(path.split("."), value, axis.key_at, model.at))
    return model


def _add(name: str, expanded: str, entry: Entry, node: Node, models: Models) -> None:
    models.resolved[expanded] = Entry(key_at=entry.key_at, node=node)
    if name in models.bases:
        models.bases[expanded] = models.bases[name]


def _nested(path: Sequence[str], value: Node, key_at: Position, at: Position) -> Node:
    node = value
    for part in reversed(path):
        node = Node(value={part: Entry(key_at=key_at, node=node)}, at=at)
    return node


def _word(value: Node) -> str:
    if isinstance(value.value, bool):
        return str(value.value).lower()
    return f"{value.value:.12g}" if isinstance(value.value, float) else str(value.value)


_SUCH_AS = {"sweep": "{ffn.experts: [2, 4, 8]}", "ladder": "{width: [16, 32, 64], ffn.hidden: [32, 64, 128]}"}


def _sweep_problems(sweep: Node, what: str = "sweep") -> list[Problem]:
    """What is wrong with a grid: it maps dotted keys to lists of different words or numbers; those of a ladder's rungs
    may be the same, and lists where they do not name the rungs."""
    if not isinstance(sweep.value, dict) or not sweep.value:
        text = f"{what} must map keys to lists of values, such as {_SUCH_AS[what]}"
        return [Problem(position=sweep.at, message=text)]
    wrong = []
    for path, axis in sweep.value.items():
        if not all(path.split(".")) or path.split(".")[0] in {"base", "sweep", "ladder"}:
            wrong.append(Problem(position=axis.key_at, message=f"{quoted(path)} cannot be swept"))
        if not isinstance(axis.node.value, list) or not axis.node.value:
            inner = next(iter(axis.node.mapping()), None)
            single = isinstance(axis.node.value, int | float | str)
            hint = (
                f"write {cut(path)}.{cut(inner)}: [...]"
                if inner
                else f"write [{cut(axis.node.value)}]"
                if single
                else None
            )
            message = f"{what} needs a list of values for {quoted(path)}"
            wrong.append(Problem(position=axis.node.at, message=message, hint=hint))
            continue
        seen: set[str] = set()
        for value in axis.node.value:
            if what == "ladder" and path != next(iter(sweep.value)) and isinstance(value.value, list):
                continue
            word = _word(value)
            if not isinstance(value.value, int | float | str) or not _SAFE.fullmatch(word):
                text = f"a swept value must be a number or a plain word, not {kind_of(value.value)}"
                wrong.append(Problem(position=value.at, message=text))
            elif word in seen and what == "sweep":
                wrong.append(Problem(position=value.at, message=f"{word} is swept twice"))
            seen.add(word)
    sizes = [len(axis.node.value) for axis in sweep.value.values() if isinstance(axis.node.value, list)]
    if what == "sweep" and math.prod(sizes) > MAX_SWEPT:
        text = f"this sweep makes {math.prod(sizes)} models; at most {MAX_SWEPT} are allowed"
        wrong.append(Problem(position=sweep.at, message=text))
    return wrong


def _ladder_problems(ladder: Node) -> Iterator[Problem]:
    """What is wrong with lists of values that are a ladder's: equally long, the first rising."""
    lists = {path: axis.node.value for path, axis in ladder.mapping().items() if isinstance(axis.node.value, list)}
    first = next(iter(lists))
    rungs, (fewest, most) = len(lists[first]), RUNGS
    if not fewest <= rungs <= most:
        yield Problem(position=ladder.at, message=f"a ladder has {fewest} to {most} rungs, not {rungs}")
    for path, values in lists.items():
        if len(values) != rungs:
            message = f"{quoted(path)} has {len(values)} values and {quoted(first)} has {rungs}"
            hint = "the lists of a ladder are equally long: each rung takes one value of each"
            yield Problem(position=ladder.mapping()[path].node.at, message=message, hint=hint)
    numbers = [value.value for value in lists[first]]
    if any(isinstance(number, str | bool) for number in numbers):
        message = f"the first key of a ladder names its rungs and needs numbers: {quoted(first)} has words"
        yield Problem(position=ladder.mapping()[first].node.at, message=message)
        return
    for value, below in zip(lists[first][1:], lists[first], strict=False):
        if value.value <= below.value:  # type: ignore[operator]  # numbers: looked at above
            message = f"{_word(value)} comes after {_word(below)}"
            yield Problem(position=value.at, message=message, hint="a ladder goes from small to large")
