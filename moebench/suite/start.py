"""Models that start from a checkpoint: their sizes are read from its `config.json`, and stand as if they were written.

What the suite writes beside `start` must agree with the checkpoint; what acts in training alone is the suite's own. A
model that starts there and is not trained is measured as it is: it becomes a `checkpoint` of our own decoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moebench.models.convert.words import Described, describe
from moebench.suite import derived
from moebench.suite.derived import OF_TRAINING
from moebench.suite.errors import Position, Problem
from moebench.suite.merge import Models
from moebench.suite.parse import Entry, Node
from moebench.systems.configs import ConfigError, load_config

OWN = frozenset({"start", "train", "data"})
"""Keys of such a model that are not the checkpoint's."""


def fill(models: Models, tree: Node, problems: list[Problem]) -> None:
    """Puts the sizes of checkpoints into the models that start from them; what goes wrong is added to `problems`."""
    context = tree.get("data", "context")
    for name, entry in models.resolved.items():
        if (start := entry.node.get("start")) is None or start.value is None or derived.named(entry.node) is not None:
            continue
        evaluate = tree.get("train", "evaluate")
        filler = _Filler(start=start, context=None if context is None else context.value, evaluate=evaluate)
        filled = filler.filled(entry.node)
        problems.extend(filler.problems)
        if filler.problems:
            models.broken.add(name)
        else:
            models.resolved[name] = Entry(key_at=entry.key_at, node=filled)
    for name in models.broken:
        models.resolved.pop(name, None)


@dataclass(kw_only=True)
class _Filler:
    """One model."""

    start: Node
    context: Any
    """Of the suite's data."""
    evaluate: Node | None
    """How the suite's models are scored."""

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def filled(self, model: Node) -> Node:
        """The model with its checkpoint's words; what is wrong is added to the problems."""
        folder = self.start.get("checkpoint")
        if folder is None or not isinstance(folder.value, str) or not folder.value or len(self.start.mapping()) > 1:
            message = "start names a checkpoint's folder, or a model of the suite"
            self._add(self.start.at, message, f"write {derived.SUCH_AS}")
            return model
        path = Path(folder.at.source.folder) / os.path.expanduser(folder.value)  # noqa: PTH111 - leaves `~nobody` alone
        try:
            if not path.is_dir():
                raise ConfigError(f"there is no folder {folder.value[:200]!r}")
            found = describe(load_config(path))
        except ConfigError as error:
            hint = "measure it as it is with checkpoint: FOLDER" if path.is_dir() else "it is relative to this file"
            self._add(folder.at, str(error), hint)
            return model
        return self._merged(model, found, folder)

    def _merged(self, model: Node, found: Described, folder: Node) -> Node:
        if isinstance(self.context, int) and self.context > found.context:
            told = f"it was made for {found.context:,} tokens, and the context of the data is {self.context:,}"
            self._add(folder.at, told, f"give the data a context of at most {found.context}")
        self.problems += _differences(model, found.words)
        own = model.mapping()
        if (train := own.get("train")) is None or train.node.value is None:
            at = self.start.at
            asked = {"checkpoint": folder, "native": Node(value=True, at=at)}
            asked |= {} if self.evaluate is None else {"evaluate": self.evaluate}
            return Node(value={key: Entry(key_at=at, node=node) for key, node in asked.items()}, at=model.at)
        words = {key: _entry(value, folder.at) for key, value in found.words.items()}
        ffn = own["ffn"].node.mapping() if "ffn" in own else {}
        words["ffn"] = Entry(key_at=folder.at, node=Node(value={**words["ffn"].node.mapping(), **ffn}, at=folder.at))
        return Node(value={**words, **{key: own[key] for key in OWN & own.keys()}}, at=model.at)

    def _add(self, at: Position, message: str, hint: str) -> None:
        self.problems.append(Problem(position=at, message=message, hint=hint))


def _differences(model: Node, words: Mapping[str, Any]) -> Iterator[Problem]:
    """What the suite writes and the checkpoint has otherwise."""
    for key, entry in model.mapping().items():
        if key == "ffn":
            ffn: Mapping[str, Any] = words["ffn"]
            for inner, below in entry.node.mapping().items():
                if inner not in OF_TRAINING and not _agrees(below.node, ffn.get(inner)):
                    yield _unlike(inner, below, ffn.get(inner))
        elif key not in OWN and not _agrees(entry.node, words.get(key)):
            yield _unlike(key, entry, words.get(key))


def _agrees(node: Node, value: Any) -> bool:
    return bool(node.plain() == value) or (node.value in (None, False) and value in (None, False))


def _unlike(key: str, entry: Entry, value: Any) -> Problem:
    its = "has none" if value is None else f"has {value}"
    written = f"{key} is {entry.node.plain()}" if isinstance(entry.node.value, str | int | float) else key
    message = f"{written}, and the checkpoint that this model starts from {its}"
    hint = "leave it out: sizes are the checkpoint's" if isinstance(value, int | float | str | None) else "leave it out"
    return Problem(position=entry.key_at, message=message, hint=hint)


def _entry(value: Any, at: Position) -> Entry:
    """A value as if it stood in the file where the checkpoint is named."""
    inner = {key: _entry(one, at) for key, one in value.items()} if isinstance(value, dict) else value
    return Entry(key_at=at, node=Node(value=inner, at=at))
