"""Models that start from another of the suite: `start: moe` and one stage. Sizes are the other's, as if written again.

A transform (`quantise`, `prune`, `route`) keeps the other's data and recipe, by which its text and its tokens are told:
it is not trained. A model that is trained on has a recipe and data of its own, and what of its network acts in training
alone. What a model writes beside `start` and its stage must agree with the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from moebench.models.transforms import TRANSFORMS
from moebench.suite.errors import Position, Problem
from moebench.suite.parse import Entry, Node, kind_of
from moebench.suite.words import TOLD_BY
from moebench.text import closest, listed, nearest, quoted

if TYPE_CHECKING:
    from moebench.suite.merge import Models

OWN = frozenset({"start", *TRANSFORMS})
"""Keys of such a model that are not the other's."""
NOT_TAKEN_OVER = frozenset({"match", "trainable", "lora", *OWN})
"""Keys of the other that are its own business."""
TUNED = ("train", "data", "trainable", "lora")
"""Keys of a model that is trained on."""
OF_TRAINING = frozenset({
    "balance_loss", "z_loss", "importance_loss", "load_loss", "entropy_loss", "balance_over", "capacity_factor",
    "jitter", "bias_rate",
})  # fmt: skip
"""Keys of its `ffn` that act in training alone."""
SUCH_AS = "start: MODEL, or start: {checkpoint: FOLDER}"


def named(model: Node) -> Node | None:
    """The node that names the model of the suite which a model starts from; None where it starts from none."""
    start = model.get("start")
    if start is None or start.value is None:
        return None
    return start.get("model") if isinstance(start.value, dict) else start


def is_transformed(model: Node) -> bool:
    """Whether it is another model with its weights changed."""
    given = model.mapping()
    return named(model) is not None and any(word in given and given[word].node.value is not None for word in TRANSFORMS)


def fill(models: Models, train: Entry | None, problems: list[Problem]) -> None:
    """Puts the sizes of other models into those that start from them; what goes wrong is added to `problems`.

    `train` is the suite's recipe.
    """
    filler = _Filler(models, train, problems)
    for name in list(models.resolved):
        filler.settle(name, ())
    for name in models.broken:
        models.resolved.pop(name, None)


class _Filler:
    def __init__(self, models: Models, train: Entry | None, problems: list[Problem]) -> None:
        self._models, self._train, self._problems = models, train, problems
        self._settled: dict[str, Node | None] = {}

    def settle(self, name: str, chain: tuple[str, ...]) -> Node | None:
        """The model with all its sizes; None, with a problem, where that cannot be."""
        if name not in self._settled:
            entry = self._models.resolved[name]
            node = self._filled(entry.node, name, chain)
            self._settled[name] = node
            if node is None:
                self._models.broken.add(name)
            else:
                self._models.resolved[name] = Entry(key_at=entry.key_at, node=node)
        return self._settled[name]

    def _filled(self, model: Node, name: str, chain: tuple[str, ...]) -> Node | None:
        at = named(model)
        if at is None:
            return model
        if (wrong := self._wrong_parent(at, name, chain)) is not None:
            self._problems.append(wrong)
            return None
        parent = None if at.value in self._models.broken else self.settle(str(at.value), (*chain, name))
        if parent is None:
            return None
        if (wrong := _unfit(at, parent)) is not None:
            self._problems.append(wrong)
            return None
        return (self._transformed if is_transformed(model) else self._tuned)(model, parent, at)

    def _wrong_parent(self, at: Node, name: str, chain: tuple[str, ...]) -> Problem | None:
        models = self._models
        if not isinstance(at.value, str) or not at.value:
            return Problem(position=at.at, message=f"start names a model, not {kind_of(at.value)}", hint=SUCH_AS)
        if at.value in (*chain, name):
            circle = (*chain, name)[(*chain, name).index(at.value) :]
            return Problem(position=at.at, message=f"start is cyclic: {' -> '.join((*circle, at.value))}")
        if at.value in models.sweeps:
            several = "ladder" if at.value in models.ladders else "sweep"
            hint = f"name one of them: {listed(list(models.sweeps[at.value]))}"
            return Problem(position=at.at, message=f"{at.value} is a {several} of several models", hint=hint)
        known = [*models.resolved, *models.broken]
        if at.value not in known:
            hint = nearest(at.value, known) or f"the models are {listed(known, last='and')}"
            return Problem(position=at.at, message=f"start names no model of this suite: {quoted(at.value)}", hint=hint)
        return None

    def _transformed(self, model: Node, parent: Node, at: Node) -> Node | None:
        """A model whose weights are the other's, changed."""
        own, theirs = model.mapping(), parent.mapping()
        wrong = [
            _other_size(key, entry, str(at.value), has=key in theirs)
            for key, entry in own.items()
            if key not in OWN and (key not in theirs or entry.node.plain() != theirs[key].node.plain())
        ]
        if isinstance(own["start"].node.value, dict) and (point := own["start"].node.mapping().get("at")) is not None:
            message = "at is a point to train on from, and a change of weights is no training"
            wrong.append(Problem(position=point.key_at, message=message, hint="leave it out"))
        self._problems += wrong
        if wrong:
            return None
        start = Entry(key_at=own["start"].key_at, node=_naming(at, own["start"].node.at))
        taken = {key: entry for key, entry in theirs.items() if key not in NOT_TAKEN_OVER}
        stages = {key: entry for key, entry in own.items() if key in TRANSFORMS}
        return Node(value={**taken, "start": start, **stages}, at=model.at)

    def _tuned(self, model: Node, parent: Node, at: Node) -> Node | None:
        """A model that is trained on from the other's weights."""
        own, theirs = model.mapping(), parent.mapping()
        asked = [key for key in TUNED if key in own and own[key].node.value is not None]
        if self._train is not None and "train" in own and own["train"].key_at == self._train.key_at:
            asked.remove("train")
        if not asked:
            known = [*TUNED, *TRANSFORMS]
            message = f"nothing is done to {at.value}: {listed(known)} says what"
            meant = {key: word for key in own if key not in known and (word := closest(key, known)) is not None}
            hint = "such as train: {budget: {tokens: 1.0e5}}, or quantise: {bits: 4}"
            for key, word in meant.items():
                hint = f"is {key!r} meant to be {word!r}?"
            self._problems.append(Problem(position=at.at, message=message, hint=hint))
            return None
        wrong = list(_differences(own, theirs, str(at.value)))
        self._problems += wrong
        if wrong:
            return None
        start = own["start"]
        if not isinstance(start.node.value, dict):
            start = Entry(key_at=start.key_at, node=_naming(at, start.node.at))
        taken = {key: entry for key, entry in theirs.items() if key not in NOT_TAKEN_OVER and key not in TUNED}
        if "ffn" in own and "ffn" in taken:
            merged = {**taken["ffn"].node.mapping(), **own["ffn"].node.mapping()}
            taken["ffn"] = Entry(key_at=own["ffn"].key_at, node=Node(value=merged, at=own["ffn"].node.at))
        if (words := parent.get("data", "tokenizer")) is not None and model.get("data", "tokenizer") is None:
            inner = {"tokenizer": Entry(key_at=words.at, node=words)}
            data = own.get("data")
            inner |= data.node.mapping() if data is not None else {}
            own = {
                **own,
                "data": Entry(key_at=words.at if data is None else data.key_at, node=Node(value=inner, at=at.at)),
            }
        return Node(value={**taken, "start": start, **{key: own[key] for key in TUNED if key in own}}, at=model.at)


def _differences(own: Mapping[str, Entry], theirs: Mapping[str, Entry], parent: str) -> Iterator[Problem]:
    """What a model writes that is trained on, and the other has otherwise."""
    for key, entry in own.items():
        if key in OWN or key in TUNED:
            continue
        if key == "ffn" and isinstance(entry.node.value, dict) and key in theirs:
            its = theirs[key].node.mapping()
            for inner, below in entry.node.mapping().items():
                same = inner in its and below.node.plain() == its[inner].node.plain()
                if inner not in OF_TRAINING and not same:
                    yield _other_size(inner, below, parent, has=inner in its)
        elif key not in theirs or entry.node.plain() != theirs[key].node.plain():
            yield _other_size(key, entry, parent, has=key in theirs)


def _naming(name: Node, at: Position) -> Node:
    """`{model: name}`."""
    return Node(value={"model": Entry(key_at=name.at, node=name)}, at=at)


def _unfit(at: Node, parent: Node) -> Problem | None:
    """Why nothing can start from a model that is no trained one of ours."""
    if told := [kind for key, kind in TOLD_BY.items() if key in parent.mapping()]:
        what = {"checkpoint": "a checkpoint", "external": "measured elsewhere"}[told[0]]
        return Problem(position=at.at, message=f"{at.value} is {what}", hint="start from a model that is trained here")
    weights = parent.get("weights")
    if weights is not None and weights.value is not None:
        message = f"{at.value} has `weights: random`: there is nothing to start from"
        return Problem(position=at.at, message=message, hint="start from a model that is trained here")
    return None


def _other_size(key: str, entry: Entry, parent: str, *, has: bool) -> Problem:
    if key in ("train", "trainable", "lora"):
        message = f"{key} and a change of weights are two stages of {parent}"
        return Problem(position=entry.key_at, message=message, hint="give each a model of its own")
    hint = f"leave it out: what stands beside start is {parent}'s"
    its = "has it otherwise" if has else "has no such key"
    return Problem(position=entry.key_at, message=f"{key} is not to be changed here: {parent} {its}", hint=hint)
