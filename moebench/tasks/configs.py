"""Configurations of tasks, read before anything runs; no data set is opened.

lm-eval's own tasks are installed code. A file of `include_path` is what somebody wrote: one that would run code is
refused by name, unless whoever starts moebench says that it may (`MOEBENCH_TASK_CODE=1`; a suite cannot say it).
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from moebench.identity import digest_of
from moebench.tasks import known
from moebench.tasks.facts import UNFILTERED, TaskFacts, TaskMetric
from moebench.text import listed, nearest, quoted

CODE_VARIABLE = "MOEBENCH_TASK_CODE"
MOST_WRITTEN = 256
"""Tokens where a task states none: lm-eval's default."""
_GENERATED = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_PICKLED = ("pandas", "webdataset", "pickle")
"""Readers of data sets that open pickles."""


class TaskError(ValueError):
    """A task that cannot be had; the message says why, and the hint what would do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message, self.hint = message, hint
        super().__init__(message + (f": {hint}" if hint else ""))


def code_is_trusted() -> bool:
    """Whether code beside the task files of `include_path` may run."""
    return os.environ.get(CODE_VARIABLE) == "1"


def task_facts(name: str, *, include: Path | None, num_fewshot: int | None, limit: int | None) -> tuple[TaskFacts, ...]:
    """A task or a group by its name, or the tasks of a tag. Raises TaskError for what is not there or is refused."""
    index = manager_of(include, name).task_index
    if name not in index:
        known = list(index)
        raise TaskError(f"lm-eval has no task {quoted(name)}", nearest(name, known) or "see `lm_eval ls tasks`")
    entry = index[name]
    asked = {"num_fewshot": num_fewshot, "limit": limit}
    if entry.kind.name == "TAG":
        return tuple(_of_task(_Config.of(index, one, include), **asked) for one in sorted(entry.tags))
    if entry.kind.name == "GROUP":
        return (_of_group(index, name, include, **asked),)
    return (_of_task(_Config.of(index, name, include), **asked),)


def manager_of(include: Path | None, *names: str) -> Any:
    """lm-eval's manager of tasks: of our own and the included folder alone where these have all names, else of its own
    tasks too, which takes seconds once a process. Raises TaskError where lm-eval or the folder is not there.
    """
    if include is not None and not include.is_dir():
        raise TaskError(f"include_path {include} is no folder")
    ours = [known.folder()] if any(name.startswith(known.PREFIX) for name in names) else []
    folders = (*ours, *([include] if include is not None else []))
    if not folders:
        return _manager((), (), with_defaults=True)
    paths = (path for folder in folders for path in sorted(folder.rglob("*.yaml")))
    files = tuple((str(path), path.stat().st_mtime_ns) for path in paths)
    own = _manager(folders, files, with_defaults=False)
    return own if own.task_index.keys() >= set(names) else _manager(folders, files, with_defaults=True)


@functools.lru_cache(maxsize=8)
def _manager(folders: tuple[Path, ...], files: tuple[tuple[str, int], ...], *, with_defaults: bool) -> Any:  # noqa: ARG001
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise TaskError("lm-eval is not installed", "pip install 'moebench[eval]'") from None
    return TaskManager(include_path=list(map(str, folders)) or None, include_defaults=with_defaults)


# ------------------------------------------------------------------------------------------------ one configuration


@dataclass(frozen=True, kw_only=True)
class _Config:
    """A task's configuration, its functions by name alone."""

    name: str
    values: dict[str, Any]
    include: Path | None
    is_bundled: bool

    @classmethod
    def of(cls, index: dict[str, Any], name: str, include: Path | None) -> _Config:
        """Raises TaskError where it is not what can be run here."""
        from lm_eval.tasks._yaml_loader import load_yaml

        entry = index[name]
        path = Path(entry.yaml_path).resolve()
        is_bundled = path.is_relative_to(bundled_folder())
        if not is_bundled and not code_is_trusted():
            refuse_code(path, name)
        values = load_yaml(path, resolve_func=False)
        config = cls(name=name, values=values, include=include, is_bundled=is_bundled)
        config.check()
        return config

    def check(self) -> None:
        values = self.values
        if "class" in values:
            raise TaskError(f"the task {self.name} is written in Python, and says nowhere what it measures")
        if values.get("doc_to_image") or values.get("doc_to_audio"):
            raise TaskError(f"the task {self.name} asks about images or sounds; models here read text")
        if values.get("unsafe_code"):
            raise TaskError(f"the task {self.name} runs what the model has written as code; that is not done here")
        if not self.may_run_code and values.get("use_prompt"):
            raise TaskError(f"the task {self.name} takes its prompt from other files, which can name code")
        if not self.is_bundled and str(values.get("dataset_path")) in _PICKLED:
            raise TaskError(f"the task {self.name} reads pickles, which can run code", "write its data as jsonl")

    @property
    def may_run_code(self) -> bool:
        """Whether functions that it names are ones to be called."""
        return self.is_bundled or code_is_trusted()

    @property
    def output(self) -> str:
        return str(self.values.get("output_type", "generate_until"))

    def metrics(self) -> Iterator[TaskMetric]:
        """Each with each way of filtering answers."""
        from lm_eval.api import metrics as _registers  # noqa: F401
        from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY, higher_is_better_registry, metric_registry

        asked = self.values.get("metric_list") or [{"metric": one} for one in DEFAULT_METRIC_REGISTRY[self.output]]
        filters = [one["name"] for one in self.values.get("filter_list") or [{"name": UNFILTERED}]]
        for one in asked:
            given = str(one["metric"])
            is_function = self.may_run_code and os.sep in given
            name = given.rpartition(".")[2] if is_function else given
            is_computed = is_function or self.values.get("process_results") is not None
            if not is_computed and (one.get("hf_evaluate") or name not in metric_registry):
                message = f"the metric {name} of the task {self.name} is none of lm-eval's own"
                raise TaskError(message, "it would be code from elsewhere: use one that `lm_eval` has")
            higher = one.get("higher_is_better", higher_is_better_registry.get(name, None))
            if higher is None:
                message = f"the task {self.name} does not say whether a higher {name} is better"
                raise TaskError(message, "give the metric higher_is_better")
            better: Literal["lower", "higher"] = "higher" if str(higher).lower() == "true" else "lower"
            for way in filters:
                yield TaskMetric(metric=name, filter=way, better=better)

    def version(self) -> str:
        given = self.values.get("metadata")
        return str(given.get("version", "0")) if isinstance(given, dict) else "0"

    def choices(self) -> int | None:
        """How many, where they are the same for all documents."""
        given = self.values.get("doc_to_choice")
        return len(given) if self.output == "multiple_choice" and isinstance(given, list | dict) else None

    def written(self) -> int | None:
        if self.output != "generate_until":
            return None
        given = self.values.get("generation_kwargs") or {}
        return int(next((given[key] for key in _GENERATED if given.get(key) is not None), MOST_WRITTEN))

    def shots(self, asked: int | None) -> int:
        """As lm-eval decides: a task that says 0 keeps it."""
        own = self.values.get("num_fewshot")
        return 0 if own == 0 else int(asked if asked is not None else own or 0)

    def digest(self) -> str:
        """Of what it says, of the files of its data that lie here, and of code beside it."""
        folders = [str(bundled_folder()), *([str(self.include.resolve()), str(self.include)] if self.include else [])]
        folders += [str(known.folder())] if self.name.startswith(known.PREFIX) else []
        text = json.dumps(self.values, sort_keys=True, default=str)
        files = [_file_digest(path) for path in self._files()]
        for folder in sorted(folders, key=len, reverse=True):
            text = text.replace(json.dumps(folder)[1:-1], "")
        for path in self._files():
            text = text.replace(json.dumps(str(path))[1:-1], path.name)
        code = []
        if not self.is_bundled and code_is_trusted() and self.include is not None:
            code = [_file_digest(path) for path in sorted(self.include.rglob("*.py"))]
        return digest_of([text, files, code], length=20)

    def _files(self) -> list[Path]:
        """Of its data: named one by one, by a pattern, or by the folder that they lie in."""
        asked = self.values.get("dataset_kwargs") or {}
        given, inside = asked.get("data_files") or (), str(asked.get("data_dir") or "")
        named = given.values() if isinstance(given, dict) else [given]
        flat = [str(one) for many in named for one in (many if isinstance(many, list | tuple) else [many]) if one]
        words = [os.path.join(inside, one) for one in flat] or [inside]  # noqa: PTH118  of a pattern, or an address
        return sorted({path for word in (*words, str(self.values.get("dataset_path") or "")) for path in _lying(word)})


def _lying(word: str) -> Iterator[Path]:
    """The files here that a name, a folder or a pattern of data stands for; none for data from elsewhere."""
    if not word:
        return
    for path in map(Path, glob.glob(word, recursive=True)) if glob.has_magic(word) else [Path(word)]:  # noqa: PTH207
        yield from (one for one in (path.rglob("*") if path.is_dir() else [path]) if one.is_file())


def bundled_folder() -> Path:
    """Where lm-eval's own tasks are."""
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).resolve().parent


def refuse_code(path: Path, name: str) -> None:
    """Raises TaskError for a file, or one that it includes, that names a function; lm-eval's own files may."""
    import yaml

    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        one = waiting.pop().resolve()
        if one in seen or one.is_relative_to(bundled_folder()):
            continue
        seen.add(one)
        try:
            root = yaml.compose(one.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise TaskError(f"the task {name}: {one.name} does not read: {error}") from None
        for node in _nodes(root):
            if not node.tag.startswith("tag:yaml.org,2002:"):
                raise TaskError(
                    f"the task {name} runs code of its folder: {node.tag} {node.value} in {one.name}",
                    f"set {CODE_VARIABLE}=1 if you trust it",
                )
        for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
            if key.value == "include":
                named = value.value if isinstance(value, yaml.SequenceNode) else [value]
                waiting += [one.parent / str(node.value) for node in named]


def _nodes(node: Any) -> Iterator[Any]:
    import yaml

    if node is None:
        return
    yield node
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _nodes(key)
            yield from _nodes(value)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _nodes(one)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ------------------------------------------------------------------------------------------------ facts


def harness_version() -> str:
    return metadata.version("lm_eval")


def _of_task(config: _Config, *, num_fewshot: int | None, limit: int | None) -> TaskFacts:
    return TaskFacts(
        name=config.name,
        output=config.output,
        metrics=tuple(dict.fromkeys(config.metrics())),
        version=config.version(),
        num_fewshot=config.shots(num_fewshot),
        limit=limit,
        choices=config.choices(),
        written=config.written(),
        digest=config.digest(),
        harness=harness_version(),
    )


def _of_group(
    index: dict[str, Any], name: str, include: Path | None, *, num_fewshot: int | None, limit: int | None
) -> TaskFacts:
    """A group whose score is a mean over its tasks."""
    from lm_eval.tasks._yaml_loader import load_yaml

    values = load_yaml(index[name].yaml_path, resolve_func=False)
    members = list(dict.fromkeys(_members(index, values.get("task") or [], name)))
    configs = [_Config.of(index, one, include) for one in members]
    facts = [_of_task(config, num_fewshot=num_fewshot, limit=limit) for config in configs]
    asked = values.get("aggregate_metric_list") or ()
    if not asked:
        some = f"{listed(members[:4])}{', ...' if len(members) > 4 else ''}"
        raise TaskError(f"the group {name} of {len(members)} tasks has no score of its own", f"name its tasks: {some}")
    own = {(one.metric, one.filter): one for one in facts[0].metrics}
    metrics = []
    for one in [asked] if isinstance(asked, dict) else asked:
        ways = one.get("filter_list", UNFILTERED)
        metrics += [
            own[key] for way in ([ways] if isinstance(ways, str) else ways) if (key := (one["metric"], way)) in own
        ]
    given = values.get("metadata")
    version = str(given.get("version", "0")) if isinstance(given, dict) else "0"
    shots, outputs = {one.num_fewshot for one in facts}, {one.output for one in facts}
    if not metrics or len(shots) > 1:
        raise TaskError(f"the tasks of the group {name} differ in what they measure", "name its tasks")
    return TaskFacts(
        name=name,
        members=tuple(members),
        output=outputs.pop() if len(outputs) == 1 else "mixed",
        metrics=tuple(metrics),
        version=version,
        num_fewshot=shots.pop(),
        limit=limit,
        choices=facts[0].choices if len({one.choices for one in facts}) == 1 else None,
        written=max((one.written for one in facts if one.written), default=None),
        digest=digest_of([json.dumps(values, sort_keys=True, default=str), *(one.digest for one in facts)], length=20),
        harness=harness_version(),
    )


def _members(index: dict[str, Any], named: Sequence[Any], group: str) -> Iterator[str]:
    from lm_eval.tasks._yaml_loader import load_yaml

    for one in named:
        word = one if isinstance(one, str) else one.get("task") or one.get("group")
        changes = isinstance(one, dict) and len(one) > 1
        if changes or not isinstance(word, str) or word not in index:
            raise TaskError(
                f"the group {group} defines tasks inside itself", "name tasks that stand in files of their own"
            )
        entry = index[word]
        if entry.kind.name == "TAG":
            yield from sorted(entry.tags)
        elif entry.kind.name == "GROUP":
            yield from _members(index, load_yaml(entry.yaml_path, resolve_func=False).get("task") or [], word)
        else:
            yield word
