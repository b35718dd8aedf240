"""A transformers `config.json` as a `Blueprint`: the families that are counted exactly, and refusals for the rest.

transformers is not needed: each family's defaults stand here, and a test holds them and the counts equal to
transformers' own. Configurations are untrusted: JSON alone, of limited size, every number checked; no code is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.counting.blueprint import Blueprint
from moebench.systems.configs import seq2seq
from moebench.systems.configs.fields import NESTED, Fields, named, renamed, shown
from moebench.systems.configs.fields import ConfigError as ConfigError
from moebench.systems.configs.recipes import Recipe, dbrx, decoder
from moebench.tables import table

MOST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Family:
    """One `model_type`: its keys and how they become a blueprint."""

    build: Callable[[Fields], Blueprint]
    defaults: Mapping[str, Any]
    architecture: str
    """The class with the language-modelling head; another class of the family has other weights."""
    also: Sequence[str] = ()
    """Other names of that class, of its publisher or of old configurations."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Second name -> name."""
    late: Sequence[str] = ()
    """Second names that transformers applies only after it has computed other sizes from the name's default."""
    harmless: Sequence[str] = ()
    """Keys of the family that sound like weights and are none."""
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keys that hold an object, and the defaults of its keys."""
    in_transformers: bool = True
    """Whether its class is transformers' and not its publisher's own."""


_MORE_TOKENS = ("num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules")
"""Keys for layers that predict further tokens: checkpoints hold them, transformers' classes do not."""
_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_local_experts", "num_experts",
    "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "vocab_size", "tie_word_embeddings",
)  # fmt: skip
"""Keys whose absence a reader should know of, as the family's default is counted with."""


@cache
def families() -> dict[str, Family]:
    """`model_type` -> its family, of families.yaml."""
    written = dict(table("systems/configs/families.yaml"))
    sizes, families = written.pop("sizes"), dict[str, Family]()
    for word, own in written.items():
        other = written[own["like"]] if "like" in own else {}
        fields = {key: value for key, value in {**other, **own}.items() if key != "like"}
        for part in {"defaults", "recipe"} & own.keys() & other.keys():
            fields[part] = {**other[part], **own[part]}
        families[word] = _family(sizes, **fields)
    return families


def _family(
    sizes: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
    build: str = "",
    parts: Mapping[str, Mapping[str, Any]] | None = None,
    **fields: Any,
) -> Family:
    """A family as it is written: with a recipe, or with a function of its own."""
    parts = parts or {}
    if recipe is not None:
        words = Recipe.model_validate(recipe)
        return Family(build=lambda f: decoder(f, words), defaults={**sizes, **defaults}, parts=parts, **fields)
    own = {"dbrx": lambda f: dbrx(f, parts), "t5": seq2seq.t5, "switch": seq2seq.switch}
    return Family(build=own[build], defaults=defaults, parts=parts, **fields)


READ_UP_TO = (5, 24)
"""Version of transformers whose classes were searched for the keys they read; a test does so again."""


def read_config(config: Mapping[str, Any], *, ignore_keys: bool = False) -> tuple[Blueprint, tuple[str, ...]]:
    """The blueprint of a configuration, and what a reader should know of how it was read.

    Keys that the family's class does not read change no count and are noted. Where another class, or a later one,
    would read the file, keys that are not known are refused, all at once; with `ignore_keys` they are noted instead.
    Raises ConfigError, naming the family or the keys, for whatever cannot be counted exactly.
    """
    config, notes = language_model(config)
    word = config.get("model_type")
    if not isinstance(word, str) or word not in families():
        raise ConfigError(_unknown(word))
    family = families()[word]
    for alias in family.late:
        if alias in config and family.aliases[alias] not in config:
            name = family.aliases[alias]
            why = f"transformers computes other sizes before it reads this name: give it as {name}"
            raise ConfigError(f"{alias}: {why} (family {word})")
    values = renamed(config, family.aliases, word)
    f = Fields(family=word, values=values, defaults=family.defaults, notes=notes)
    _check_whole(f, family)
    _tell_unread(f, family, config, ignore_keys=ignore_keys)
    try:
        blueprint = family.build(f)
    except ValidationError as error:  # sizes that are good alone and too large, or impossible, together
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"])) or error.title
        raise ConfigError(f"{what}: {first['msg']} (family {word})") from None
    for key in _MORE_TOKENS:
        if f.values.get(key):
            f.notes.append(f"{key}: the multi-token prediction layers are not counted, as in transformers")
    if config.get("quantization_config"):
        f.notes.append("quantization_config: weights are counted as they were before quantisation")
    return blueprint, tuple(f.notes)


def assumed(config: Mapping[str, Any]) -> str | None:
    """Which sizes a configuration that is read leaves to its family's defaults; None when it gives them all."""
    config, _ = language_model(config)
    family = families()[config["model_type"]]
    given = renamed(config, family.aliases, config["model_type"])
    taken = {key: family.defaults.get(key) for key in _SIZES if key not in given}
    absent = [f"{key} {shown(value)}" for key, value in taken.items() if value is not None]
    return f"not in the file, so the default of {config['model_type']}: {', '.join(absent)}" if absent else None


def _unknown(word: object) -> str:
    known = f"known: {', '.join(sorted(families()))}"
    if word is None:
        return f"model_type: missing, so the family is not known; {known}"
    return f"model_type: family {shown(word)} is not one that is counted exactly here; {known}"


def language_model(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The part of a configuration that is counted: the text model of a wrapper, with what it inherits, or the whole."""
    inner = config.get("text_config")
    if config.get("model_type") in list(families()) or not isinstance(inner, dict):  # a word of any type
        return config, []
    if inner.get("model_type") not in list(families()):
        return config, []
    given = [part["tie_word_embeddings"] for part in (config, inner) if "tie_word_embeddings" in part]
    if not given:
        why = (
            "neither the wrapper nor its text_config has it, and wrappers differ in their default: write true or false"
        )
        raise ConfigError(f"tie_word_embeddings: {why}")
    tied = next((value for value in given if value is not False), False)  # transformers: true in either place counts
    own = {key: config[key] for key in ("transformers_version", "auto_map") if key in config}
    found = {**own, **inner, "tie_word_embeddings": tied}
    if "dtype" in config or "torch_dtype" in config:
        found = {"dtype": config.get("dtype", config.get("torch_dtype")), **found}
    notes = [f"the text model of {shown(config.get('model_type'))} alone, tie_word_embeddings: {shown(tied)}"]
    if others := sorted(named(key) for key in config if key.endswith("_config") and key != "text_config"):
        notes[0] += f"; not counted: {', '.join(others[:5])}"
    return found, notes


def _tell_unread(f: Fields, family: Family, config: Mapping[str, Any], *, ignore_keys: bool) -> None:
    """Notes or refuses the keys that speak of weights and that the family does not count with."""
    f.look(harmless=("architectures", *family.harmless))
    strict = []
    for key, defaults in family.parts.items():
        part = f.nested(key, defaults)
        part.look(harmless=NESTED)
        strict += part.unknown
    unknown, why = [*f.unknown, *strict], _another_class(family, config)
    if not unknown:
        return
    keys = ", ".join(unknown[:20]) + (f" and {len(unknown) - 20} more" if len(unknown) > 20 else "")
    if ignore_keys:
        f.notes.append(f"ignored as asked, whatever they mean: {keys}")
    elif why is None and not strict:
        f.notes.append(f"not read by {family.architecture}, so in no count: {keys}")
    else:
        why = why or f"{family.architecture} refuses what it does not know in these parts"
        raise ConfigError(
            f"{keys}: not known in family {f.family}, may change the count ({why}); --ignore-keys counts without"
        )


def _another_class(family: Family, config: Mapping[str, Any]) -> str | None:
    """Why the class that reads this configuration may not be the one whose keys are known; None when it is."""
    if config.get("auto_map"):
        return "auto_map names the publisher's own code"
    if not family.in_transformers:
        return "the class is its publisher's own"
    written = re.match(r"(\d{1,4})\.(\d{1,4})", str(config.get("transformers_version", "")))
    if written is not None and (int(written[1]), int(written[2])) > READ_UP_TO:
        return f"written by transformers {written[0]}, known are its keys up to {READ_UP_TO[0]}.{READ_UP_TO[1]}"
    return None


def _check_whole(f: Fields, family: Family) -> None:
    """Refuses configurations of other classes of the family, and of more than the language model."""
    given, known = f.values.get("architectures"), (family.architecture, *family.also)
    if given is not None and not (isinstance(given, list) and len(given) == 1 and given[0] in known):
        raise f.refuse("architectures", f"{shown(given)} is not [{family.architecture!r}], the only one counted")
    if "is_encoder_decoder" not in family.defaults:
        f.fixed("is_encoder_decoder", False, "the family is counted as a decoder")
    f.fixed("add_cross_attention", False, "cross-attention is not counted in this family")


def load_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or in the `config.json` of a folder. Raises ConfigError when there is none."""
    file = path / "config.json" if path.is_dir() else path
    if file.exists() and not file.is_file():
        raise ConfigError(f"{file}: no plain file")
    try:
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    if len(text) > MOST_BYTES:
        raise ConfigError(f"{file}: more than {MOST_BYTES:,} bytes, too long for a configuration")
    try:
        found = json.loads(text, object_pairs_hook=_no_twice)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: no JSON: {str(error)[:120]}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: no JSON object")
    return found


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ConfigError(f"key {next(n for n in names if names.count(n) > 1)[:60]!r} is there twice")
    return found
