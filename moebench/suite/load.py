"""Reading a suite: found, merged, checked, and handed over as a frozen `SuiteSpec` with the place of every value.

The order is DESIGN's: `extends`, then the chosen scale, then `--set`, then `base`, `sweep` and `train` of every
model, then types, then sense. All mistakes of a stage, and of later stages where they can still be looked at, are
reported at once as a `SuiteError`; nothing is run or written. Models are never imported here.
"""

from __future__ import annotations

import functools
import json
import operator
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.amounts import NAME
from moebench.metrics import in_force
from moebench.suite import derived, start
from moebench.suite.check import check
from moebench.suite.errors import Position, Problem, Source, SuiteError
from moebench.suite.explain import Path as TreePath
from moebench.suite.explain import explain, known_keys, not_a_name, place
from moebench.suite.merge import Models, apply_set, choose_scale, lay_over, resolve_models, without
from moebench.suite.parse import MAX_BYTES, Entry, Node, decode, kind_of, parse
from moebench.suite.types import SuiteSpec
from moebench.suite.words import MAX_LOOKS, MAX_SEEDS, MIN_LOOKS, TOLD_BY, bundled_names, bundled_path, known_systems
from moebench.text import closest, cut, listed, nearest, quoted

_UNSAID = "(unsaid)"


@dataclass(frozen=True, kw_only=True)
class SourceMap:
    """Where every value of a suite was written."""

    tree: Node

    def at(self, *path: str | int, key: bool = False) -> Position:
        """The position of the value at a path such as `("models", "dense", "match", "to")`, or of its key.

        A path that is not in the file gives the position of what is nearest above it.
        """
        return place(self.tree, path, key=key)

    def problem(self, path: Sequence[str | int], message: str, hint: str | None = None) -> Problem:
        """A problem at a value (at its key, when it is a mapping), for what is only found when the suite is planned."""
        node = self.tree.get(*path)
        is_mapping = node is not None and isinstance(node.value, dict)
        return Problem(position=self.at(*path, key=is_mapping), message=message, hint=hint)


@dataclass(frozen=True, kw_only=True)
class LoadedSuite:
    """A suite that was read and found right."""

    spec: SuiteSpec
    path: Path
    text: str
    """The file as it stands, before anything was merged."""
    base: Path
    """Folder that relative paths of the spec are relative to."""
    source: SourceMap
    scales: tuple[str, ...]
    """Names of the scales the suite knows."""


def load_suite(path_or_name: str | Path, *, scale: str | None = None, sets: Sequence[str] = ()) -> LoadedSuite:
    """Reads a suite file, or a bundled suite by its name, and checks everything that needs no data and no model.

    `scale` names a block of the suite's `scales`; each of `sets` is a `path.to.key=value` that overrides one value.
    Raises SuiteError, and nothing else, for whatever is wrong with the suite or the overrides.
    """
    path = find_suite(path_or_name)
    text, tree = _read(path, str(path_or_name) if path == Path(path_or_name) else _shown(path))
    base = path.resolve().parent
    tree = _extended(tree, (path.resolve(),))
    problems: list[Problem] = []
    scales = tree.get("scales")
    names = tuple(scales.mapping()) if scales is not None else ()
    tree = choose_scale(tree, scale, problems, known=known_keys(()))
    for item in sets:
        tree = apply_set(tree, item, folder=str(Path.cwd()))
    models = resolve_models(tree, problems)
    start.fill(models, tree, problems)
    derived.fill(models, tree.mapping().get("train"), problems)
    resolved = _resolved_tree(tree, models)
    spec = _validated(resolved, tree, models, base, problems)
    return LoadedSuite(spec=spec, path=path, text=text, base=base, source=SourceMap(tree=resolved), scales=names)


def find_suite(path_or_name: str | Path) -> Path:
    """The file of a suite: a path as it is, else the bundled suite of that name. Raises SuiteError for neither."""
    word = str(path_or_name)
    at = Position(source=Source(name=word[:200]))
    if not word.strip() or "\0" in word:
        raise SuiteError.at(at, "no suite is named")
    path = Path(os.path.expanduser(word))  # noqa: PTH111 - leaves `~nobody` alone, where Path would raise
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # a name that is too long
        is_file = is_folder = False
    if is_file:
        return path
    bundled = bundled_path(word)
    if bundled is not None:
        return bundled
    names = bundled_names()
    hint = _other_ending(path) or nearest(Path(word).stem, names)
    hint = hint or f"bundled suites, named without a path, are {listed(names, last='and')}"
    message = "this is a folder, not a suite file" if is_folder else "there is no such suite file"
    raise SuiteError.at(at, message, hint)


def _other_ending(path: Path) -> str | None:
    """The file of that name that ends as suites do, for those who left the ending out or wrote the other."""
    try:
        there = [file for end in (".yaml", ".yml") if (file := path.with_suffix(end)).is_file()]
    except (OSError, ValueError):  # a name that is too long, or that has no stem
        return None
    return f"did you mean {quoted(str(there[0]))}?" if there else None


def bundled_suites() -> list[tuple[str, str]]:
    """Name and question of every bundled suite."""
    suites = ((name, bundled_path(name)) for name in bundled_names())
    return [(name, load_suite(path).spec.question) for name, path in suites if path is not None]


# ------------------------------------------------------------------------------------------------ files


def _read(path: Path, name: str) -> tuple[str, Node]:
    """The text of a file and its tree, whose top is a mapping."""
    folder = str(path.resolve().parent)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        at = Position(source=Source(name=name))
        message = f"the file cannot be read: {error.strerror or 'an error of the file system'}"
        raise SuiteError.at(at, message) from None
    text, source = decode(raw, name=name, folder=folder)
    tree = parse(text, source)
    if not isinstance(tree.value, dict):
        message = f"a suite is a mapping of keys to values, not {kind_of(tree.value)}"
        raise SuiteError.at(tree.at, "the file is empty" if tree.value is None else message)
    return text, tree


def _extended(tree: Node, chain: tuple[Path, ...]) -> Node:
    """The suite merged over the one it extends, and that over the next."""
    node = tree.get("extends")
    if node is None:
        return tree
    if not isinstance(node.value, str) or not node.value:
        message = f"extends must name one suite file, not {kind_of(node.value)}"
        raise SuiteError.at(node.at, message)
    path = _named_by(node, node.value)
    if path.resolve() in chain:
        circle = " -> ".join(step.name for step in (*chain[chain.index(path.resolve()) :], path))
        raise SuiteError.at(node.at, f"extends is cyclic: {circle}")
    _, below = _read(path, _shown(path))
    return lay_over(_extended(below, (*chain, path.resolve())), without(tree, "extends"))


def _named_by(node: Node, word: str) -> Path:
    """The file that `extends` names: relative to the file that says so, or a bundled suite."""
    path = Path(node.at.source.folder) / os.path.expanduser(word)  # noqa: PTH111 - leaves `~nobody` alone
    if _is_name(word) and not word.endswith((".yaml", ".yml")):
        bundled = bundled_path(word)
        if bundled is not None:
            return bundled
        hint = nearest(word, bundled_names()) or "a file is named with its ending, such as other.yaml"
        message = f"extends names no bundled suite: {quoted(word)}"
        raise SuiteError.at(node.at, message, hint)
    if not path.is_file():
        beside = [str(other.name) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        message = f"extends names no file: {quoted(word)}"
        likely = nearest(path.name, beside)
        if path.stem in bundled_names():
            likely = f"a bundled suite is named without its ending: {path.stem}"
        raise SuiteError.at(node.at, message, likely)
    return path


def _is_name(word: str) -> bool:
    return re.fullmatch(NAME, word) is not None


def _shown(path: Path) -> str:
    """A path as it is printed: relative when it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


# ------------------------------------------------------------------------------------------------ types


def _resolved_tree(tree: Node, models: Models) -> Node:
    """The tree that the types see: no `extends`, `scales` or suite-wide `train`, and the models worked out."""
    entries = dict(without(tree, "extends", "scales", "train").mapping())
    if isinstance(models_node := tree.get("models"), Node) and isinstance(models_node.value, dict):
        node = Node(value=dict(models.resolved), at=models_node.at)
        entries["models"] = Entry(key_at=entries["models"].key_at, node=node)
    return Node(value=entries, at=tree.at)


def _validated(tree: Node, raw: Node, models: Models, base: Path, problems: list[Problem]) -> SuiteSpec:
    """The typed suite. Raises SuiteError with the given problems and all further ones."""
    plain = _plain(tree, models, base, problems)
    broken: set[str] = set(models.broken)
    spec = _typed(plain, tree, raw, models, problems, broken)
    if spec is not None:
        with in_force(spec.declared):
            problems.extend(check(spec, tree, raw=raw, broken=broken))
    if problems or spec is None:
        raise SuiteError(problems)
    return spec


def _plain(tree: Node, models: Models, base: Path, problems: list[Problem]) -> dict[str, Any]:
    """The tree as data for the types: seeds counted out, names checked, paths made relative to the suite's folder."""
    plain: dict[str, Any] = tree.plain()
    plain |= _seeds(tree, problems)
    for section in ("models", "claims"):
        names = tree.get(section)
        for name, entry in (names.mapping() if names is not None else {}).items():
            if not _is_name(name):
                problems.append(Problem(position=entry.key_at, message=not_a_name(name)))
                plain[section].pop(name)
            elif section == "claims" and isinstance(plain[section][name], dict):
                plain[section][name].setdefault("says", _UNSAID)
    given = plain.get("models")
    if isinstance(given, dict) and given and all(map(_is_made_elsewhere, given.values())):
        plain.setdefault("seeds", [0])
        plain.setdefault("data", {"source": "none"})
    if "models" not in plain and _of_systems(plain.get("claims")):
        plain["models"] = {}
        plain.setdefault("seeds", [0])
        plain.setdefault("data", {"source": "none"})
    given = plain.get("sweeps") or {}
    if models.sweeps and isinstance(given, dict):
        plain["sweeps"] = {**models.sweeps, **given}
    given = plain.get("ladders") or {}
    if models.ladders and isinstance(given, dict):
        plain["ladders"] = {**models.ladders, **given}
    if isinstance(plain.get("data"), dict) and "mixture" in plain["data"]:
        plain["data"].setdefault("source", "mixture")
    _relate(plain, tree, base)
    return plain


def _seeds(tree: Node, problems: list[Problem]) -> dict[str, Any]:
    """The seeds counted out, and the looks at them where they are written so: `8`, `[3, 5]`, `{looks: [6, 10]}`."""
    if (stray := tree.get("looks")) is not None:
        message = "looks are written under seeds"
        problems.append(Problem(position=stray.at, message=message, hint="write `seeds: {looks: [6, 10]}`"))
    seeds = tree.get("seeds")
    if seeds is None or isinstance(seeds.value, list):
        return {"looks": []}
    if isinstance(seeds.value, dict):
        looks = _looks(seeds, problems)
        return {"seeds": list(range(looks[-1])), "looks": looks} if looks else {"seeds": [0], "looks": []}
    if isinstance(seeds.value, int) and not isinstance(seeds.value, bool) and 1 <= seeds.value <= MAX_SEEDS:
        return {"seeds": list(range(seeds.value)), "looks": []}
    message = f"seeds is how many (1 to {MAX_SEEDS}) or a list of seeds, not {kind_of(seeds.value)}"
    problems.append(Problem(position=seeds.at, message=message, hint=_seeds_meant(seeds.value)))
    return {"seeds": [0], "looks": []}


def _looks(seeds: Node, problems: list[Problem]) -> list[int]:
    """The sizes of planned looks; empty where they are not what they must be."""
    for key, entry in seeds.mapping().items():
        if key != "looks":
            hint = "write `seeds: {looks: [6, 10]}`, a number or a list"
            problems.append(Problem(position=entry.key_at, message=f"seeds has no key {quoted(key)}", hint=hint))
    looks = seeds.get("looks")
    if looks is None:
        return []
    given = looks.plain()
    counts = isinstance(given, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in given)
    ascend = counts and given == sorted(set(given)) and MIN_LOOKS <= len(given) <= MAX_LOOKS
    if not ascend or not 1 <= given[0] <= given[-1] <= MAX_SEEDS:
        each = f"{MIN_LOOKS} to {MAX_LOOKS} ascending numbers of seeds, the last at most {MAX_SEEDS}"
        problems.append(Problem(position=looks.at, message=f"looks are {each}", hint="such as [8, 12, 16]"))
        return []
    return list(given)


def _relate(plain: dict[str, Any], tree: Node, base: Path) -> None:
    """Paths that another file wrote, as seen from this suite's folder."""
    for where in (("data",), *(("models", name, "data") for name in plain.get("models") or ())):
        for way in ("file", "checkpoint"):
            if (node := tree.get(*where, "tokenizer", way)) is not None:
                inner = functools.reduce(operator.getitem, (*where, "tokenizer"), plain)
                inner[way] = _relative(node, base)
    if (node := tree.get("measure", "lm_eval", "include_path")) is not None:
        plain["measure"]["lm_eval"]["include_path"] = _relative(node, base)
    _relate_data(plain.get("data"), tree.get("data"), base)
    models = plain.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        for key in ("results", "config", "checkpoint"):
            if isinstance(model, dict) and (node := tree.get("models", name, key)) is not None:
                model[key] = _relative(node, base)
        if (node := tree.get("models", name, "start", "checkpoint")) is not None:
            model["start"]["checkpoint"] = _relative(node, base)


def _relate_data(plain: Any, node: Node | None, base: Path) -> None:
    """The paths of a `data:` block, or of a source of a mixture in it."""
    if node is None or not isinstance(plain, dict):
        return
    files, name, parts = (node.get(key) for key in ("files", "name", "mixture"))
    if files is not None and isinstance(files.value, list):
        plain["files"] = [_relative(one, base) for one in files.value]
    if plain.get("source") == "hub" and name is not None and _is_folder(name):
        plain["name"] = _relative(name, base)
    if parts is not None and isinstance(parts.value, list):
        for inner, one in zip(plain["mixture"], parts.value, strict=True):
            _relate_data(inner, one, base)


def _is_folder(node: Node) -> bool:
    """Whether a name is a folder beside the file that wrote it; else it is a name of the hub."""
    return isinstance(node.value, str) and Path(node.at.source.folder, node.value).is_dir()


def _is_made_elsewhere(model: Any) -> bool:
    """Whether a model is not built here: a suite of such models alone may have no data and no seeds."""
    return isinstance(model, dict) and not TOLD_BY.keys().isdisjoint(model)


def _of_systems(claims: Any) -> bool:
    """Whether some claim is about published systems, or only cited: such a suite may have no models."""
    given = [claim for claim in claims.values() if isinstance(claim, dict)] if isinstance(claims, dict) else []
    pairs = [pair for claim in given if isinstance(pair := claim.get("compare"), dict)]
    named = {str(claim.get("model")) for claim in given} | {str(side) for pair in pairs for side in pair.values()}
    cites = any(isinstance(test := claim.get("test"), dict) and test.get("kind") == "cited" for claim in given)
    likely = any(closest(name, known_systems()) for name in named - {"None"})
    return cites or likely or any("systems" in claim for claim in given)


def _seeds_meant(value: object) -> str | None:
    """How seeds are written that were written as `0-7`, `0, 1, 2`, `"8"` or `8.0`."""
    text = str(value).strip()
    if many := re.fullmatch(r"([0-9]+)(?:\.0*|,)?", text):
        return f"write {int(many[1])}" if 1 <= int(many[1][:9]) <= MAX_SEEDS else None
    if bounds := re.fullmatch(r"([0-9]{1,6}) ?(?:-|\.\.|to) ?([0-9]{1,6})", text):
        first, last = int(bounds[1]), int(bounds[2])
        return (
            f"write {last + 1}, which is 0 to {last}" if first == 0 else f"write the list: [{first}, {first + 1}, ...]"
        )
    return f"write [{cut(text)}]" if re.fullmatch(r"[0-9 ]+(,[0-9 ]+)+", text) else None


def _relative(node: Node, base: Path) -> Any:
    """A path of another file's, or of the command line's, as seen from this suite's folder."""
    if not isinstance(node.value, str) or node.at.source.folder == str(base):
        return node.plain()
    if Path(node.value).is_absolute() or node.value.startswith("~"):
        return node.plain()
    return os.path.relpath(Path(node.at.source.folder) / node.value, base)


def _typed(
    plain: dict[str, Any], tree: Node, raw: Node, models: Models, problems: list[Problem], broken: set[str]
) -> SuiteSpec | None:
    """The suite as types. What has errors is left out and named in `broken`, so that the rest can be looked at too."""
    try:
        spec = SuiteSpec.model_validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        mistakes = explain(error, tree, raw=raw)
        if models.broken and not plain.get("models"):  # that none is left is not another mistake
            mistakes = [(path, problem) for path, problem in mistakes if path != ("models",)]
        problems.extend(_not_inherited(mistakes, raw, models))
        for path, _ in mistakes:
            _drop(plain, path, broken)
        try:
            spec = _without_stand_ins(plain)
        except ValidationError:  # too little is left to look at
            return None
    with in_force(spec.declared):
        named = {
            name: claim.model_copy(update={"says": claim.test.says(claim)}) if claim.says == _UNSAID else claim
            for name, claim in spec.claims.items()
        }
    return spec.model_copy(update={"claims": named})


def _without_stand_ins(plain: dict[str, Any]) -> SuiteSpec:
    """What is left of a suite, which may have no models, so that its claims can still be looked at."""
    if plain.get("models"):
        return SuiteSpec.model_validate_json(json.dumps(plain), strict=True)
    model = {"layers": 1, "width": 2, "heads": 1, "ffn": {"kind": "dense"}, "train": {"budget": {"steps": 1}}}
    spec = SuiteSpec.model_validate_json(json.dumps({**plain, "models": {"x": model}}), strict=True)
    return spec.model_copy(update={"models": {}})


def _drop(plain: dict[str, Any], path: Sequence[str | int], broken: set[str]) -> None:
    if not path or path[0] not in plain:
        return
    section = str(path[0])
    stand_in = {"suite": "x", "question": "x", "seeds": [0], "data": {"source": "stdlib"}}
    if section in {"models", "claims"} and len(path) > 1:
        plain[section].pop(path[1], None)
        broken.add(str(path[1]) if section == "models" else f"claims.{path[1]}")
        return
    broken.add(f"{section}:")
    plain.pop(section)
    if section in stand_in:
        plain[section] = stand_in[section]


def _not_inherited(mistakes: Sequence[tuple[TreePath, Problem]], raw: Node, models: Models) -> list[Problem]:
    """The problems without those that a model merely inherits, in a part where its base has problems too."""
    parts = {path[:3] for path, _ in mistakes}
    kept = []
    for path, problem in mistakes:
        name = str(path[1]) if len(path) > 1 and path[0] == "models" else ""
        own = raw.get(*path) is not None and len(path) > 2
        if own or ("models", models.bases.get(name), *path[2:3]) not in parts:
            kept.append(problem)
    return kept
