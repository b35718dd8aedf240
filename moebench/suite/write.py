"""A suite as YAML that loads to the same suite again: `moebench plan --resolved`.

A small writer of its own, because it must agree with `parse` on what is a number and what is a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from moebench.suite.derived import OF_TRAINING, TUNED
from moebench.suite.mixture import idle_losses
from moebench.suite.model import ModelSpec, MoEFFN
from moebench.suite.types import SuiteSpec

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*(?: [A-Za-z0-9_./-]+)*|[0-9.]+%")
_NOT_WORDS = {"true", "false", "null"}
_ORDER = (
    "suite", "question", "scale", "seeds", "data", "train", "models", "sweeps", "ladders", "metrics",
    "measure", "tune", "controls", "claims",
)  # fmt: skip


def resolved_yaml(spec: SuiteSpec, *, losses: Mapping[str, Sequence[str]] | None = None) -> str:
    """The suite with nothing left to merge. Relative paths in it stay relative to the suite's own folder.

    `losses` are those of its routers, by word: a plan holds them, a suite knows only ours.
    """
    plain = spec.model_dump(mode="json", exclude_none=True)
    if spec.looks:
        plain["seeds"] = {"looks": plain.pop("looks")}
    for name, model in spec.decoders.items():
        if model.is_transformed:  # all else is that of the model that it starts from
            plain["models"][name] = {"start": model.parent, **model.stage.model_dump(mode="json", exclude_none=True)}
    written = {name: model for name, model in spec.decoders.items() if not model.is_transformed}
    for name, model in written.items():
        if model.parent is not None and model.parent in spec.decoders:
            plain["models"][name] = _tuned(plain["models"][name], plain["models"][model.parent], model)
    ours = {name: plain["models"][name] for name in written}
    for model, dumped in zip(written.values(), ours.values(), strict=True):
        if model.train is not None and model.train.clip is None:
            dumped["train"]["clip"] = None  # absent would mean the default
        if isinstance(model.ffn, MoEFFN) and "ffn" in dumped:
            for loss in idle_losses(model.ffn, (losses or {}).get(model.ffn.router)):
                dumped["ffn"].pop(loss, None)
    trains = [model["train"] for model in ours.values() if "train" in model]
    if trains and all(train == trains[0] for train in trains):
        plain["train"] = trains[0]
        for model in ours.values():
            model.pop("train", None)
    return "".join(_lines(key, plain[key], 0) for key in _ORDER if plain.get(key) not in (None, {}))


def _tuned(dumped: dict[str, Any], parent: dict[str, Any], model: ModelSpec) -> dict[str, Any]:
    """A model that is trained on: without what it has of the one that it starts from."""
    start = dumped["start"] if model.start is not None and model.start.at is not None else model.parent
    ffn = {key: dumped["ffn"][key] for key in OF_TRAINING & dumped["ffn"].keys()}
    other = {key: value for key, value in sorted(ffn.items()) if value != parent.get("ffn", {}).get(key)}
    own = {key: dumped[key] for key in TUNED if key in dumped}
    return {"start": start, **({"ffn": other} if other else {}), **own}


def _lines(key: str, value: Any, indent: int) -> str:
    """A key with its value on one line, or, for a mapping that does not fit, one line for each of its keys."""
    start = f"{' ' * indent}{_scalar(key)}:"
    line = f"{start} {_flow(value)}\n"
    if not isinstance(value, dict) or not value or (indent and len(line) <= _WIDTH):
        return line
    return f"{start}\n" + "".join(_lines(inner, below, indent + 2) for inner, below in value.items())


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
