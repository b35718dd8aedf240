"""The JSON Schema of a suite *file*, for completion and checking in editors.

It is made from the types, and widened to what a file may leave out: any value may come from `extends`, `base`, a scale
or `train`, so little is required. `load` checks what a schema cannot say.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

from moebench.amounts import NAME, Amount
from moebench.metrics import METRICS
from moebench.models.routers import ROUTERS
from moebench.suite.merge import RUNGS
from moebench.suite.types import SuiteSpec
from moebench.suite.words import MAX_LOOKS, MAX_SEEDS, MIN_LOOKS, TOLD_BY

_ALWAYS = ["suite", "question", "models"]
_REQUIRED = [*_ALWAYS, "seeds", "data"]
_WITHOUT = ["suite", "question", "claims"]
"""Of a suite about published systems."""
_MADE_ELSEWHERE = {
    "properties": {"models": {"additionalProperties": {"anyOf": [{"required": [key]} for key in TOLD_BY]}}}
}
"""A suite none of whose models is made here."""


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a suite file; `moebench schema` prints it."""
    made = SuiteSpec.model_json_schema()
    definitions = {name: _opened(definition) for name, definition in made["$defs"].items()}
    definitions["Amount"] = {
        "description": inspect.cleandoc(Amount.__doc__ or ""),
        "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[-+]?[0-9.]+([eE][-+]?[0-9]+)? ?%$"}],
    }
    _add_file_keys(definitions)
    top = _opened({key: value for key, value in made.items() if key != "$defs"})["properties"]
    top["seeds"] = {
        "description": "How many seeds, n for 0 .. n-1, the list of them, or the looks at them: {looks: [8, 12, 16]}.",
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_SEEDS}, top["seeds"], _looks()],
    }
    del top["looks"]
    top["train"] = {"$ref": "#/$defs/TrainSpec", "description": "The training recipe of all models."}
    for name in ("scale", "sweeps", "ladders"):
        top[name]["description"] = f"Written by `moebench plan --resolved`. {top[name]['description']}"
    fixed = {"suite", "scale", "sweeps", "ladders"}
    definitions["Scale"] = {
        "description": "What this scale changes, merged over the suite.",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: copy.deepcopy(value) for name, value in top.items() if name not in fixed},
    }
    top["extends"] = {
        "type": "string",
        "description": "Another suite, merged under this one: a file or a bundled name.",
    }
    top["scales"] = {
        "type": "object",
        "description": "Named blocks of changes, chosen with --scale.",
        "additionalProperties": {"$ref": "#/$defs/Scale"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "moebench suite",
        "description": "Claims about Mixture-of-Experts and dense models, and what is run to test them.",
        "type": "object",
        "additionalProperties": False,
        "properties": top,
        "if": {"not": {"required": ["extends"]}},
        "then": {
            "if": {"required": ["models"]},
            "then": {"if": _MADE_ELSEWHERE, "then": {"required": _ALWAYS}, "else": {"required": _REQUIRED}},
            "else": {"required": _WITHOUT},
        },
        "$defs": dict(sorted(definitions.items())),
    }


def _looks() -> dict[str, Any]:
    """After how many seeds a suite is judged."""
    sizes = {
        "description": "After how many seeds it is judged, ascending; `run` stops once every primary claim is decided.",
        "type": "array",
        "minItems": MIN_LOOKS,
        "maxItems": MAX_LOOKS,
        "items": {"type": "integer", "minimum": 1, "maximum": MAX_SEEDS},
    }
    return {"type": "object", "properties": {"looks": sizes}, "additionalProperties": False}


def _opened(value: Any) -> Any:
    """A schema with nothing required: titles and discriminators go, and one of a union may match as well as another."""
    if isinstance(value, list):
        return [_opened(item) for item in value]
    if not isinstance(value, dict):
        return value
    opened: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "properties":
            opened[key] = {name: _opened(field) for name, field in inner.items()}
        elif key == "default":
            opened[key] = inner
        elif key == "patternProperties":
            opened[key] = _opened(inner)
            opened["additionalProperties"] = False
        elif key not in {"title", "required", "discriminator"}:
            opened["anyOf" if key == "oneOf" else key] = _opened(inner)
    return opened


def _add_file_keys(definitions: dict[str, Any]) -> None:
    """What a model has only in a file, and the words that editors complete."""
    model = definitions["ModelSpec"]
    model["description"] = "A pre-norm decoder, all sizes its own or some from its base."
    model["properties"]["train"]["description"] = "What this model changes of the suite's training recipe."
    model["properties"]["base"] = {
        "type": "string",
        "pattern": NAME,
        "description": "A model of this suite to inherit from, key by key.",
    }
    model["properties"]["sweep"] = {
        "type": "object",
        "minProperties": 1,
        "description": "Keys and the values they take: one model is made for each combination.",
        "additionalProperties": {"type": "array", "minItems": 1, "items": {"type": ["number", "string", "boolean"]}},
        "examples": [{"ffn.experts": [2, 4, 8, 16]}],
    }
    fewest, most = RUNGS
    model["properties"]["ladder"] = {
        "type": "object",
        "minProperties": 1,
        "description": "Keys and the values they take, equally many: one model is made of the first values, one of "
        "the second, and so on, from small to large.",
        "additionalProperties": {
            "type": "array",
            "minItems": fewest,
            "maxItems": most,
            "items": {"type": ["number", "string", "boolean", "array"]},
        },
        "examples": [{"width": [16, 32, 64], "ffn.hidden": [32, 64, 128]}],
    }
    model["properties"]["start"]["anyOf"].insert(0, {"type": "string", "pattern": NAME})
    router = definitions["MoEFFN"]["properties"]["router"]
    definitions["MoEFFN"]["properties"]["router"] = _suggested(router, ROUTERS)
    claim = definitions["Claim"]["properties"]
    for name in ("metric", "minus"):
        claim[name] = _suggested(claim[name], sorted(METRICS))
    claim["minus"]["anyOf"].insert(0, {"$ref": "#/$defs/Pair"})


def _suggested(field: dict[str, Any], words: Any) -> dict[str, Any]:
    """A field of words that may be others too."""
    kept = {key: value for key, value in field.items() if key in {"description", "default"}}
    options = [{"enum": list(words)}, {"type": "string"}, {"type": "null"}]
    return {**kept, "anyOf": options if field.get("default", "") is None else options[:2]}
