"""Reading one configuration by its family's own keys, defaults and aliases: every value is checked, none is guessed.

A key that is absent has the family's default; a key that is there has the type it must have. A key that the family
does not count with and whose name speaks of weights is told; the rest of a configuration is about training, generation
and tokens, and is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moebench.counting.blueprint import Layer

MOST_LAYERS = 4096
MOST_SIZE = 2**31


class ConfigError(ValueError):
    """A configuration that cannot be counted exactly; the message names the key or the family, and what would do."""


_TELLS = re.compile(
    r"expert|moe|lora|adapter|hidden|layer|intermediate|inner|vocab|embed|bias|norm|head|proj|ffn|mlp|mamba|ssm|conv|"
    r"vision|visual|audio|image|speech|text_config|sink|rank|width|dim|d_model|d_ff|d_kv|cross|tower|encoder|decoder|"
    r"mtp|nextn|indexer|index_|block|state|memory|shared|dense|sparse|size|pruned"
)
"""Parts of names that speak of weights."""

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,60}")

_HARMLESS = frozenset({
    "rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "output_hidden_states",
    "hidden_act", "hidden_activation", "hidden_dropout", "hidden_dropout_prob", "embd_pdrop", "embed_pdrop",
    "embedding_dropout", "embed_dropout", "resid_pdrop", "ffn_dropout", "decoder_start_token_id",
    "encoder_no_repeat_ngram_size", "chunk_size_feed_forward", "tie_encoder_decoder", "norm_topk_prob",
    "initializer_range", "max_window_layers", "dense_act_fn", "bad_words_ids", "typical_p", "batch_size",
    "image_token_id", "use_sliding_window", "sliding_window_pattern", "head_dropout", "tie_last_hidden_states",
    "layer_types", "is_decoder", "scale_decoder_outputs", "original_max_position_embeddings",
    "max_position_embeddings",
})  # fmt: skip
"""Names that match and change no count."""

NESTED = (
    "ffn_act_fn", "hidden_size", "moe_jitter_eps", "moe_loss_weight", "moe_normalize_expert_weights",
    "tie_word_embeddings",
)  # fmt: skip
"""The same in the parts of DBRX."""

_EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {})


@dataclass(kw_only=True)
class Fields:
    """A configuration's values under one family's names."""

    family: str
    values: Mapping[str, Any]
    defaults: Mapping[str, Any]
    """Every key that the family counts with, and what transformers takes when it is absent."""
    where: str = ""
    """Of a nested part: its key and a dot."""
    notes: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Keys that speak of weights and that the family does not count with."""

    def refuse(self, key: str, why: str) -> ConfigError:
        return ConfigError(f"{self.where}{named(key)}: {why} (family {self.family})")

    def get(self, key: str) -> Any:
        """The value as it stands, or the family's default."""
        return self.values[key] if key in self.values else self.defaults[key]

    def optional(self, key: str) -> int | None:
        """A size, or None for null."""
        return None if self.get(key) is None else self.size(key)

    def size(self, key: str) -> int:
        """A whole number from 1."""
        return self._whole(key, least=1)

    def number(self, key: str) -> int:
        """A whole number from 0."""
        return self._whole(key, least=0)

    def _whole(self, key: str, *, least: int) -> int:
        value = self.get(key)
        if value is None and key not in self.values:
            raise self.refuse(key, "must be given: the family has no default for it")
        if type(value) is not int:
            raise self.refuse(key, f"{shown(value)} is no whole number")
        if not least <= value <= MOST_SIZE:
            raise self.refuse(key, f"{shown(value)} is not between {least} and {MOST_SIZE:,}")
        return value

    def times(self, number: int, key: str) -> int:
        """So many widths of a key put side by side."""
        width = self.size(key)
        if number * width > MOST_SIZE:
            raise self.refuse(key, f"{number:,} times {width:,} is more than {MOST_SIZE:,}")
        return number * width

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if type(value) is not bool:
            raise self.refuse(key, f"{shown(value)} is neither true nor false")
        return value

    def word(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str):
            raise self.refuse(key, f"{shown(value)} is no word")
        return value

    def sequence(self, key: str, kind: type) -> list[Any] | None:
        """A list of whole numbers or of words; None for null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or any(type(entry) is not kind for entry in value):
            raise self.refuse(key, f"is no list of {'whole numbers' if kind is int else 'words'}")
        if len(value) > MOST_LAYERS:
            raise self.refuse(key, f"has {len(value):,} entries, more than {MOST_LAYERS:,}")
        return value

    def layers(self, key: str = "num_hidden_layers") -> int:
        """Layers of a stack."""
        layers = self.size(key)
        if layers > MOST_LAYERS:
            raise self.refuse(key, f"{layers:,} layers are more than {MOST_LAYERS:,}")
        return layers

    def nested(self, key: str, defaults: Mapping[str, Any]) -> Fields:
        """A part of the configuration that is an object; null for one of defaults."""
        value = self.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(key, f"{shown(value)} is no object")
        return Fields(family=self.family, values=value or {}, defaults=defaults, where=f"{key}.", notes=self.notes)

    def fixed(self, key: str, value: Any, why: str) -> None:
        """Refuses a key that is there with any other value."""
        if key in self.values and self.values[key] != value:
            raise self.refuse(key, f"{shown(self.values[key])}: {why}")

    def look(self, *, harmless: Sequence[str] = ()) -> None:
        """Notes the keys that speak of weights and that the family does not count with."""
        for key, value in self.values.items():
            known = key in self.defaults or key in _HARMLESS or key in harmless
            about_tokens = key.endswith(("_token_id", "_token_index"))
            if not known and not about_tokens and _TELLS.search(key) and value not in _EMPTY:
                self.unknown.append(f"{self.where}{named(key)}")


def renamed(values: Mapping[str, Any], aliases: Mapping[str, str], family: str) -> dict[str, Any]:
    """The configuration under the family's first names; both names at once must agree."""
    found = dict(values)
    for alias, name in aliases.items():
        if alias not in found:
            continue
        value = found.pop(alias)
        if name in found and found[name] != value:
            raise ConfigError(f"{alias}: {shown(value)}, but {name} is {shown(found[name])} (family {family})")
        found[name] = value
    return found


def gathered(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Layers that are alike put together, in the order of the first of each."""
    times: dict[Layer, int] = {}
    for layer in layers:
        times[layer] = times.get(layer, 0) + 1
    return tuple(layer.model_copy(update={"times": count}) for layer, count in times.items())


def shown(value: object) -> str:
    """A value of a configuration, which may be anything, as it is told: escaped and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def named(key: str) -> str:
    """A key as it stands when it is an ordinary word, else as any other value."""
    return key if _WORD.fullmatch(key) else shown(key)
