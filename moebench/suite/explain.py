"""Pydantic's errors in plain words, at the place in the suite file where the mistake stands.

Knows the types of a suite and how pydantic names what is wrong; the reader of the message needs to know neither.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from moebench.amounts import Amount
from moebench.models.routers import ROUTERS, options_of
from moebench.suite.errors import Position, Problem
from moebench.suite.mixture import unread_options
from moebench.suite.model import ModelSpec
from moebench.suite.parse import Node, kind_of
from moebench.suite.rewrite import EXAMPLES, rewritten, written
from moebench.suite.synonyms import answers, is_downloaded, meant, plainly
from moebench.suite.training import TrainSpec
from moebench.suite.types import SuiteSpec
from moebench.suite.words import TOLD_BY
from moebench.text import closest, cut, listed, nearest, quoted

FILE_KEYS: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("extends", "scales", "train"),
    ("models",): ("base", "sweep", "ladder"),
}
"""Keys that only the file has, besides those of the types: of the suite, and of each model."""

Path = tuple[str | int, ...]


def explain(error: ValidationError, tree: Node, *, raw: Node) -> list[tuple[Path, Problem]]:
    """Every error as the path of the value it is about, and a problem at that value's position.

    `raw` is the suite before `base` was worked into its models: it tells a model's own keys from inherited ones.
    """
    problems: dict[Path, tuple[Path, Problem]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(tree, detail["loc"])
        problem = _problem(dict(detail), path, tree, raw)
        key = (*path, detail["loc"][-1]) if detail["type"] in {"missing", "extra_forbidden"} else path
        if detail["type"] != "missing" or _misspelt(detail["loc"], path, tree) is None:
            problems.setdefault(key, (path, problem))
    return list(problems.values())


def place(tree: Node, path: Path, *, key: bool = False) -> Position:
    """Where the value at a path stands, or its key; the nearest thing above it when it is not in the file."""
    node, at, key_at = tree, tree.at, tree.at
    for part in path:
        if isinstance(node.value, dict) and part in node.value:
            entry = node.value[str(part)]
            node, at, key_at = entry.node, entry.node.at, entry.key_at
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            at = key_at = node.at
        else:
            return key_at
    return key_at if key else at


_KINDS_OF_MODEL = (ModelSpec.tag, *TOLD_BY.values())


def _path_in(tree: Node, location: Sequence[str | int]) -> Path:
    """The location without the names that pydantic puts in for the members of a union."""
    node, path = tree, []
    told = len(location) > 2 and location[0] == "models" and location[2] in _KINDS_OF_MODEL
    for part in (*location[:2], *location[3:]) if told else location:  # a checkpoint has a key of its kind's name
        below = node.get(part)
        if below is not None:
            node = below
            path.append(part)
    return tuple(path)


def _problem(detail: dict[str, Any], path: Path, tree: Node, raw: Node) -> Problem:
    node = tree.get(*path)
    kind, context = detail["type"], detail.get("ctx", {})
    location: tuple[str | int, ...] = detail["loc"]
    if kind == "extra_forbidden":
        message = f"unknown key {quoted(location[-1])}"
        hint: str | None = _instead_of_key(location, node)
        return Problem(position=place(tree, path, key=True), message=message, hint=hint)
    if kind == "missing":
        if location[-1] == "train":
            hint = "give the suite a `train:` with a budget, such as {budget: {tokens: 1.0e6}}"
            return Problem(position=place(tree, path, key=True), message="there is no training recipe", hint=hint)
        return _missing(location, path, tree)
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _wrong_choice(kind, context, path, tree)
    if kind == "value_error":
        return _together(context["error"], path, tree, raw)
    message, hint = words_of(kind, context, _subject(path), node.value if node is not None else None)
    return Problem(position=place(tree, path), message=message, hint=hint or written(kind, path, node))


def _instead_of_key(location: Sequence[str | int], node: Node | None) -> str:
    """What was meant by a key that is not known where it stands."""
    word, known = location[-1], known_keys(location[:-1])
    if re.fullmatch(r"[0-9]+([eE][-+]?[0-9]+)?%?", str(word)):
        return "a comma ends a value here: write numbers without commas, and fractions with a point"
    if pair := re.fullmatch(r"([\w.-]+) *= *(.+)", str(word)):
        return f"write {cut(pair[1])}: {cut(pair[2])}"
    ours = meant(word, known, "keys")
    if ours is not None:
        return f"did you mean {ours!r}?"
    if (answer := answers().get(plainly(word))) is not None:
        return answer
    if node is not None and len(location) == 1:  # a model or a claim that was not indented
        for section, keys in (("models", {"ffn", "base", "layers"}), ("claims", {"metric", "test", "compare"})):
            if keys & node.mapping().keys():
                return f"is it one of the {section}? Then indent it, below `{section}:`"
    likely = (_elsewhere(location), nearest(word, known))  # a word of two letters is like too many others
    hint = next(filter(None, likely if len(str(word)) < 3 else likely[::-1]), None) or _of_another_kind(location)
    return hint or f"the keys here are {listed(known, last='and')}"


def _of_another_kind(location: Sequence[str | int]) -> str | None:
    """A hint when the key belongs to another kind of network, test or source."""
    word = location[-1]
    for option in _members(_type_at(location[:-2])) if len(location) > 2 else ():
        if word in getattr(option, "model_fields", {}):
            for name in ("kind", "source"):
                if choices := _literal(option, name):
                    return f"{word!r} is a key of {name}: {choices[0]}"
    return None


_DECIDING = ("router", "experts", "top_k", "groups", "groups_chosen", "every", "first_dense", "layers", "heads")
"""Keys that make an inherited value wrong, the likeliest first."""


def _together(wrong: ValueError, path: Path, tree: Node, raw: Node) -> Problem:
    """Values that do not go together. One that comes from a base is shown where the model made it wrong."""
    field = getattr(wrong, "field", None)
    parts = (*path, *field.split(".")) if field else path
    if field is None or tree.get(*parts) is None:
        return Problem(position=place(tree, path), message=str(wrong))
    *above, name = parts
    given = raw.get(*above)
    own = [key for key in _DECIDING if given is not None and key in given.mapping()]
    inherited = path[:1] == ("models",) and raw.get(*parts) is None and bool(own)
    at = place(tree, (*above, own[0])) if inherited else place(tree, parts)
    unread = _unread(name, above, tree)
    if not unread:
        hint = f"{name} comes from the base: give it here too" if inherited else None
        return Problem(position=at, message=str(wrong), hint=hint)
    if inherited:
        hint = f"what comes from the base is left out with {', '.join(f'{option}: null' for option in unread)}"
        return Problem(position=at, message=str(wrong), hint=hint)
    readers = [word for word, router in ROUTERS.items() if set(unread) <= set(options_of(router))]
    hint = f"leave it out, or use a router that reads it: {listed(readers)}" if readers else "leave it out"
    return Problem(position=place(tree, parts, key=True), message=str(wrong), hint=hint)


def _unread(field: str | int, path: Sequence[str | int], tree: Node) -> list[str]:
    """The options of a mixture that its router does not read, when `field` is one of them."""
    ffn = tree.get(*path)
    given = {key: entry.node.value for key, entry in ffn.mapping().items()} if ffn is not None else {}
    unread = unread_options(str(given.get("router", "softmax_topk")), given)
    return unread if field in unread else []


def _missing(location: Sequence[str | int], path: Path, tree: Node) -> Problem:
    if isinstance(location[-1], int):
        return Problem(position=place(tree, path), message=f"{_subject(path)} needs more values")
    where = f" in {path[-1]!r}" if path and isinstance(path[-1], str) else ""
    name = str(location[-1])
    example = {**EXAMPLES, "metric": "test.bits_per_byte", "margin": "0.5%", "on": "active_params"}.get(name)
    hint = f"such as {name}: {example}" if example else None
    return Problem(position=place(tree, path, key=True), message=f"{name!r} is missing{where}", hint=hint)


def _misspelt(location: Sequence[str | int], path: Sequence[str | int], tree: Node) -> str | None:
    """The unknown key beside a missing one that is meant to be it; it is reported in its own place."""
    node = tree.get(*path)
    known = known_keys(location[:-1])
    unknown = [key for key in (node.mapping() if node is not None else {}) if key not in known]
    ours = str(location[-1])
    meant_here = (key for key in unknown if meant(key, known, "keys") == ours or closest(key, known) == ours)
    return next(meant_here, None)


def _wrong_choice(kind: str, context: Mapping[str, Any], path: Path, tree: Node) -> Problem:
    """A mapping whose `kind` or `source` is absent or unknown."""
    word = str(context["discriminator"]).strip("'")
    node = tree.get(*path)
    given = node.get(word) if node is not None else None
    cls = _type_at(path)
    choices = [str(choice) for option in _members(cls) for choice in _literal(option, word)]
    if kind == "union_tag_not_found" or given is None:
        keys = node.mapping() if node is not None else {}
        typo = closest(word, keys) or next((key for key in keys if meant(key, [word], "keys")), None)
        hint = f"is {typo!r} meant to be {word!r}?" if typo else None
        if hint is None and word == "source" and any(meant(key, ["files"], "keys") for key in keys):
            hint = "for files of your own write {source: text, files: [FILE or FOLDER]}"
        message = f"{word!r} is missing in {_subject(path)}: it is {listed(choices)}"
        return Problem(position=place(tree, path, key=True), message=message, hint=hint)
    message = f"unknown {word} {quoted(given.value)}: use {listed(choices)}"
    ours = meant(given.value, choices, "kinds")
    hint = f"did you mean {ours!r}?" if ours else nearest(given.value, choices)
    if word == "source" and is_downloaded(given.value):
        hint = "nothing is downloaded: save the text as files and use {source: text, files: [FOLDER]}, or a plug-in"
    return Problem(position=given.at, message=message, hint=hint)


def words_of(kind: str, context: Mapping[str, Any], subject: str, value: Any) -> tuple[str, str | None]:
    """The message for an error of one value, and a hint."""
    if kind == "literal_error":
        choices = ["".join(one) for one in re.findall(r"'([^']*)'|(?<!\w)(-?\d+)(?!\w)", context["expected"])]
        ours = meant(value, choices, "kinds")
        hint = f"did you mean {ours!r}?" if ours else nearest(value, choices)
        return f"{subject} cannot be {_shown(value)}: use {listed(choices)}", hint
    limits = {"greater_than": ("gt", "above"), "greater_than_equal": ("ge", "at least"),
              "less_than": ("lt", "below"), "less_than_equal": ("le", "at most")}  # fmt: skip
    if kind in limits:
        key, words = limits[kind]
        limit = context[key]
        return (
            f"{subject} must be {words} {f'{limit:,}' if isinstance(limit, int) else f'{limit:g}'}, not {value}",
            None,
        )
    if subject == "reach":
        return f"reach must be a model's name, or bits per byte as a number above 0, not {_shown(value)}", None
    if kind == "too_short":
        return f"{subject} needs at least {context['min_length']}, not {context['actual_length']}", None
    if kind == "too_long":
        return f"{subject} takes at most {context['max_length']} values", None
    if kind in {"string_too_short", "string_too_long"}:
        longest = context.get("max_length")
        return f"{subject} {'must not be empty' if longest is None else f'has more than {longest} characters'}", None
    if kind == "string_pattern_mismatch":
        return not_a_name(value), None
    expected = {
        "string_type": "a word or text", "int_type": "a whole number", "int_parsing_size": "a smaller whole number",
        "float_type": "a number", "bool_type": "true or false", "list_type": "a list such as [a, b]",
        "tuple_type": "a list such as [a, b]", "dict_type": "a mapping of keys to values",
        "model_type": "a mapping of keys to values", "int_from_float": "a whole number",
    }.get(kind, "something else")  # fmt: skip
    return f"{subject} must be {expected}, not {_shown(value)}", rewritten(kind, value, subject)


def not_a_name(value: object) -> str:
    """The message for a word that cannot be a name."""
    return f"{quoted(value)} is not a name: letters, digits, '_', '.' and '-', 64 at most, as it goes into file names"


def _shown(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else kind_of(value)


def _subject(path: Path) -> str:
    """What the message is about: the last key, or an item of a list."""
    if not path:
        return "the suite"
    return f"an item of {path[-2] if len(path) > 1 else 'the list'}" if isinstance(path[-1], int) else str(path[-1])


# ------------------------------------------------------------------------------------------------ types


def known_keys(location: Sequence[str | int]) -> list[str]:
    """The keys that a mapping at this place of a suite file may have."""
    cls = _type_at(location)
    fields = [name for option in _members(cls) for name in getattr(option, "model_fields", {})]
    at_model = len(location) in (2, 3) and location[0] == "models" and location[2:] in ((), (ModelSpec.tag,))
    extra = FILE_KEYS[("models",)] if at_model else FILE_KEYS[()] if not location else ()
    return [*dict.fromkeys((*fields, *extra))]


def _elsewhere(location: Sequence[str | int]) -> str | None:
    """A hint when the key is right, in our words or others', but stands some mappings too high."""
    above: list[tuple[tuple[str, ...], Any]] = [((), _type_at(location[:-1]))]
    if len(location) == 1:
        above.append((("train",), TrainSpec))
    for _ in range(3):  # the nearest mapping first
        inside: list[tuple[tuple[str, ...], Any]] = []
        for path, annotation in above:
            for option in _members(annotation):
                fields = getattr(option, "model_fields", {}) if option is not Amount else {}
                ours = meant(location[-1], fields, "keys")
                if path and ours is not None:
                    return f"{ours!r} goes inside {'.'.join(path)!r}"
                inside += [((*path, name), info.annotation) for name, info in fields.items()]
        above = inside
    return None


def _type_at(location: Sequence[str | int]) -> Any:
    """The annotated type at a place of a suite."""
    current: Any = SuiteSpec
    for part in location:
        options = _members(current)
        if len(options) == 1 and str(part) in getattr(options[0], "model_fields", {}):  # no tag, whatever its word
            current = options[0].model_fields[str(part)].annotation
            continue
        current = next((step for option in options if (step := _step(option, part)) is not None), current)
    return current


def _step(option: Any, part: str | int) -> Any:
    if isinstance(option, type) and issubclass(option, BaseModel):
        if part == getattr(option, "tag", None) or any(part in _literal(option, word) for word in ("kind", "source")):
            return option
        return option.model_fields[str(part)].annotation if part in option.model_fields else None
    arguments = typing.get_args(option)
    return arguments[-1] if arguments and typing.get_origin(option) in {dict, list, tuple} else None


def _members(annotation: Any) -> list[Any]:
    """The members of a union, without None; else the type alone."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        inner = [option for member in typing.get_args(annotation) for option in _members(member)]
        return [option for option in inner if option is not type(None)]
    return [annotation]


def _literal(option: Any, field: str) -> tuple[Any, ...]:
    info = getattr(option, "model_fields", {}).get(field)
    return typing.get_args(info.annotation) if info is not None else ()
