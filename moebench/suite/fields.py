"""Single fields of a model by their path, such as `ffn.balance_loss`: which it has, and the model with others.

A model has a field when its types know it and something of the model reads it: the balance loss of a router that has
none decides nothing, and neither does a router's learning rate in a dense model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from moebench.amounts import Amount
from moebench.models.routers import LOSSES, OPTIONS, options_of, router_class
from moebench.models.transforms import TRANSFORMS
from moebench.plugins import PluginError
from moebench.suite.explain import words_of
from moebench.suite.model import ModelSpec, MoEFFN

Value = bool | int | float | str
LR = "train.optimizer.lr"
NOT_TUNED = (
    "train.budget", "train.evaluate", "train.checkpoint_seconds", "match", "start", "data", "vocab", "weights",
    *TRANSFORMS,
)  # fmt: skip
"""What is no matter of tuning: how long is trained and what is measured."""


def has(model: ModelSpec, path: str) -> bool:
    """Whether the model has the field, and uses it."""
    node: Any = model
    for part in path.split("."):
        if not isinstance(node, BaseModel) or isinstance(node, Amount) or part not in type(node).model_fields:
            return False
        node = getattr(node, part)
    return (not isinstance(node, BaseModel) or isinstance(node, Amount)) and _is_used(model, path)


def _is_used(model: ModelSpec, path: str) -> bool:
    name = path.rsplit(".", 1)[-1]
    if not isinstance(model.ffn, MoEFFN):
        return not name.startswith("router")
    try:
        router = router_class(model.ffn.router)
    except (PluginError, KeyError):
        return True
    if path.startswith("ffn.") and name in LOSSES:
        return name in map(str, router.auxiliary)
    if path.startswith("ffn.") and name in OPTIONS:
        return name in options_of(router)
    if path == "ffn.renormalise":
        return router.sums_to_1 == "if asked"
    return router.learned or not (path.startswith("train.") and name.startswith("router"))


def paths_of(model: ModelSpec) -> Iterator[str]:
    """The fields that could be tuned."""
    yield from (path for path in _leaves(model) if not path.startswith(NOT_TUNED) and path != LR and has(model, path))


def _leaves(node: BaseModel) -> Iterator[str]:
    for name in type(node).model_fields:
        inner = getattr(node, name)
        if isinstance(inner, BaseModel) and not isinstance(inner, Amount):
            yield from (f"{name}.{path}" for path in _leaves(inner))
        else:
            yield name


def value_of(model: ModelSpec, path: str) -> Any:
    """What the model has there, as a suite writes it."""
    node: Any = model
    for part in path.split("."):
        node = getattr(node, part)
    return node.model_dump() if isinstance(node, Amount) else node


def with_values(model: ModelSpec, values: Mapping[str, Value]) -> ModelSpec:
    """The model with other values of its fields. Raises ValueError, in plain words, for what they cannot be."""
    for path, value in values.items():
        try:
            model = _with(model, path.split("."), value)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            context, name = detail.get("ctx", {}), path.rsplit(".", 1)[-1]
            if detail["type"] == "value_error":
                raise ValueError(str(context["error"])) from None
            message, _ = words_of(detail["type"], context, name, value)
            raise ValueError(message) from None
        made = value_of(model, path)
        if isinstance(made, bool) != isinstance(value, bool) or isinstance(made, str) != isinstance(value, str):
            name = path.rsplit(".", 1)[-1]
            raise ValueError(f"{name} cannot be {str(value).lower() if isinstance(value, bool) else repr(value)}")
    return model


def _with(node: Any, parts: list[str], value: Value) -> Any:
    """A node with another value below it; what was left out in the suite stays left out."""
    inner = value if len(parts) == 1 else _with(getattr(node, parts[0]), parts[1:], value)
    given = {name: getattr(node, name) for name in node.model_fields_set}
    return type(node).model_validate({**given, parts[0]: inner})
