"""How a value that is wrong would be written: the number that `64k` stands for, the list around a single word.

Advice alone: nothing here reads a value in another way than it was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from moebench.amounts import NAME
from moebench.suite.parse import Node
from moebench.text import cut

EXAMPLES = {
    "budget": "{tokens: 1.0e6}",
    "compare": "{treatment: MODEL, baseline: MODEL}",
    "controls": "{same_model: MODEL}",
    "data": "{source: stdlib}",
    "decode": "{batch: [1, 8]}",
    "evaluate": "{points: 8}",
    "ffn": "{kind: dense, hidden: 256}",
    "match": "{to: MODEL, on: active_params}",
    "measure": "{speed: {train_step: true}}",
    "optimizer": "{lr: 3.0e-3}",
    "schedule": "{warmup: 5%}",
    "speed": "{train_step: true}",
    "target": "{reach: MODEL}",
    "test": "{kind: superior, margin: 0.5%}",
    "tune": "{lr: [1.0e-3, 3.0e-3, 1.0e-2]}",
}
"""What a mapping is written like, for those who wrote something else."""


def written(kind: str, path: Sequence[str | int], node: Node | None) -> str | None:
    """How a value of another kind would be written."""
    if node is None or not path:
        return None
    name, value = path[-1], node.value
    source = node.at.source
    line = source.lines[node.at.line - 1] if node.at.line <= len(source.lines) else ""
    if value is None and line[node.at.column - 1 :].lstrip().startswith("#"):
        return "what follows '#' is a comment: put a text that begins with '#' into quotes"
    if value is None and len(path) == 2 and path[0] == "claims":
        return "null leaves out a claim of the suite that is extended: there is none of this name"
    if value is None and kind in {"dict_type", "model_type"}:
        return f"leave {name} out where it has nothing"
    if kind in {"dict_type", "model_type"} and name in EXAMPLES:
        return f"write it as {_filled(str(name), value)}"
    if kind in {"dict_type", "model_type"} and name in {"claims", "scales"}:
        return "give each a name: write `name:` rather than `- name:`"
    if kind == "list_type" and isinstance(value, str | int | float) and not isinstance(value, bool):
        return f"write [{cut(value)}]"
    if isinstance(value, list):
        if name == "lr" and kind == "float_type":
            return "one rate is trained with; to try several, give the suite a `tune: {lr: [...]}`"
        if name in {"metric", "minus", "against", "treatment", "baseline", "ceiling"}:
            return f"a claim has one {name}: write a claim for each"
        if kind in {"int_type", "float_type"}:
            key = ".".join(map(str, path[2:]))
            return f"to compare several values, give the model a sweep, such as sweep: {{{key}: [...]}}"
    return None


def _filled(name: str, value: Any) -> str:
    """The example of a mapping, with the value that was given in its place."""
    example = EXAMPLES[name]
    if name == "budget":
        number = (_as_number(str(value)) or "write 1.0e6").split()[1].rstrip(",")
        return f"{{tokens: {number}}}"
    return example.replace("MODEL", value, 1) if isinstance(value, str) and re.fullmatch(NAME, value) else example


def rewritten(kind: str, value: Any, subject: str) -> str | None:
    """How the value would be written, where that can be guessed."""
    if kind in {"int_type", "int_from_float"} and isinstance(value, float) and value == int(value):
        return f"write {int(value)}"
    if kind in {"int_type", "float_type", "int_from_float"} and isinstance(value, str):
        return _as_number(value, seconds=subject.endswith("seconds"))
    if kind == "bool_type" and isinstance(value, str) and value.lower() in {"yes", "no", "on", "off"}:
        return f"write {'true' if value.lower() in {'yes', 'on'} else 'false'}"
    return None


_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_SUFFIXES = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SUFFIXES |= {"kb": 3, "mb": 6, "gb": 9, "tb": 12}
_POWERS_OF_1024 = {"kib": 1, "mib": 2, "gib": 3, "tib": 4}
_SECONDS = {"m": 60, "s": 1, "sec": 1, "min": 60, "h": 3600, "hours": 3600, "minutes": 60, "seconds": 1}


def _as_number(text: str, *, seconds: bool = False) -> str | None:
    """The number that a text such as `50k`, `2M tokens`, `4_096`, `50%`, `2x` or `2**16` stands for, as it is written.

    No suffix is read as a number by itself: 64k is 64,000 to some and 65,536 to others.
    """
    bare = text.replace("_", "").replace(",", "").strip()
    if re.fullmatch(_NUMBER, bare):
        return f"write {cut(bare)}, without quotes, underscores or commas"
    if share := re.fullmatch(rf"({_NUMBER}) ?%", bare):
        return f"write {float(share[1]) / 100:.12g}, the share as a number"
    if power := re.fullmatch(r"([0-9]{1,4}) ?(?:\*\*|\^) ?([0-9]{1,2})", bare):
        return f"write {cut(int(power[1]) ** int(power[2]))}"
    scaled = re.fullmatch(rf"({_NUMBER}) ?([a-zA-Z]*)(?: [a-zA-Z]+)?", bare)
    if scaled is None:
        return None
    number, unit = Decimal(scaled[1]), scaled[2]
    if unit.lower() in _SUFFIXES and not (seconds and unit in _SECONDS) and abs(number.adjusted()) < 30:
        size = number.scaleb(_SUFFIXES[unit.lower()])
        binary = f" (or {int(number) * 1024}, if 1024 is meant)" if unit in {"k", "K"} and number == int(number) else ""
        return f"write {f'{size:f}' if size == int(size) and size < 10**7 else f'{float(size):.12g}'}{binary}"
    if unit.lower() in _POWERS_OF_1024 and abs(number.adjusted()) < 30:
        return f"write {int(number * 1024 ** _POWERS_OF_1024[unit.lower()])}"
    if unit.lower() in _SECONDS and abs(number.adjusted()) < 30:
        return f"write {float(number) * _SECONDS[unit.lower()]:.12g}, in seconds"
    return f"write {cut(scaled[1])}"
