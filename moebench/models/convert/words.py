"""A configuration of transformers in the words of a suite's model, or a refusal that names the feature in the way.

Nothing is guessed: a key that is absent has the default of its class, one that our decoder has no word for is refused.
Sizes are checked by `systems.configs`, types by the suite's own types. Weights are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moebench.models.convert.families import BY_TYPE, Family
from moebench.systems.configs import ConfigError, families, read_config
from moebench.systems.configs.fields import renamed, shown
from moebench.text import plain, quoted

SLIDING = "sliding_attention"
GPT_OSS_ROPE = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                "original_max_position_embeddings": 4096}  # fmt: skip
"""What its class takes where a configuration says nothing."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A configuration in our words."""

    family: Family
    words: dict[str, Any]
    """Of a suite's model, `ffn` among them; what is left out is absent there too."""
    context: int
    """Longest sequence in tokens that it was made for."""


def describe(config: Mapping[str, Any]) -> Described:
    """A configuration in our words. Raises ConfigError naming what our decoder does not compute."""
    word = config.get("model_type")
    if not isinstance(word, str) or word not in BY_TYPE:
        known = ", ".join(family.name for family in BY_TYPE.values())
        raise ConfigError(f"the family {quoted(word)} is not one that our decoder computes: {known}")
    for key, why in (("auto_map", "code of its publisher"), ("quantization_config", "quantised weights")):
        if config.get(key):
            method = config[key].get("quant_method") if isinstance(config[key], dict) else None
            raise ConfigError(f"{key}: {why}{f' ({quoted(method)})' if method else ''}, which our decoder has not")
    read_config(config)
    try:
        read = _Read(BY_TYPE[word], config)
        words = read.values() | read.attention()
        context = read.of("max_position_embeddings")
    except ConfigError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"a value is not of the kind that {word} has there: {plain(error, most=120)}") from None
    for name, value in _leaves(words | {"max_position_embeddings": context}):
        if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise ConfigError(f"{name}: {shown(value)} is no value of a model")
    return Described(family=read.family, words=words, context=context)


def _leaves(words: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in words.items():
        yield from _leaves(value) if isinstance(value, dict) else [(name, value)]


class _Read:
    """One configuration with the defaults of its class."""

    def __init__(self, family: Family, config: Mapping[str, Any]) -> None:
        known = families()[family.model_type]
        self.family, self.aliases = family, known.aliases
        self.config = renamed(config, known.aliases, family.model_type)
        self.defaults: dict[str, Any] = {**known.defaults, **family.fixed, **family.defaults}
        for key, value in family.fixed.items():
            if (found := self.of(key)) != value:
                raise ConfigError(f"{key} {shown(found)}: our decoder computes {family.name} with {key} {value} alone")

    def of(self, key: str) -> Any:
        """The value of a key by any of its names."""
        key = self.aliases.get(key, key)
        return self.config.get(key, self.defaults.get(key))

    def values(self) -> dict[str, Any]:
        """What stands under a key each, and the network."""
        words: dict[str, Any] = {}
        ffn: dict[str, Any] = dict(self.family.always)
        for key in self.family.keys:
            value, (_, of_ffn, word) = self.of(key.theirs), key.ours.rpartition("ffn.")
            if value is not None and value != key.none:
                (ffn if of_ffn else words)[word] = value
        words.setdefault("kv_heads", words["heads"])
        words.setdefault("head_dim", words["width"] // words["heads"])
        return {**words, "ffn": self._network(ffn, words["layers"])}

    def _network(self, ffn: dict[str, Any], layers: int) -> dict[str, Any]:
        if not self.family.routers:
            return {"kind": "dense", **ffn}
        if self.family.shared == "plain":
            shared = self.of("n_shared_experts") * ffn["expert_hidden"]
            ffn |= {"shared_hidden": shared} if shared else {}
        if "every" in self.family.dense_layers:
            mixtures = self._mixtures(layers)
            if not any(mixtures):
                return {"kind": "dense", "hidden": self.of("intermediate_size")}
            ffn |= _pattern(mixtures)
        if ffn.get("every") or ffn.get("first_dense"):
            ffn["dense_hidden"] = self.of("intermediate_size")
        return {"kind": "moe", **ffn}

    def _mixtures(self, layers: int) -> list[bool]:
        step, only = self.of("decoder_sparse_step"), set(self.of("mlp_only_layers") or ())
        there = bool(self.of("num_experts"))
        return [there and i not in only and (i + 1) % step == 0 for i in range(layers)]

    def attention(self) -> dict[str, Any]:
        """What attention has besides heads."""
        family, words = self.family, dict[str, Any](self._positions())
        if family.qk_norm == frozenset({None, "per_head"}):
            words |= {"qk_norm": "per_head"} if self.of("use_qk_norm") else {}
        elif (norm := next(iter(family.qk_norm))) is not None:
            words["qk_norm"] = norm
        if family.bias_key is None or self.of(family.bias_key):
            bias = next((bias for bias in family.biases if bias is not None), None)
            words |= {} if bias is None else {"attention_bias": bias}
        if family.sinks:
            words["attention_sinks"] = True
        return words | self._windows()

    def _windows(self) -> dict[str, Any]:
        family, window, layers = self.family, self.of("sliding_window"), self.of("num_hidden_layers")
        if family.windows == "none" or not window or (family.switched and not self.of("use_sliding_window")):
            return {}
        if family.windows == "all":
            return {"window": window}
        kinds = self.of("layer_types")
        if kinds is not None:
            has = [kind == SLIDING for kind in kinds]
        elif family.model_type in ("gpt_oss", "qwen2_moe"):
            last = self.of("max_window_layers") if family.switched else layers
            has = [i % 2 == 0 and i < last for i in range(layers)]
        else:
            has = [i >= self.of("max_window_layers") for i in range(layers)]
        if not any(has):
            return {}
        for every in (None, *range(2, layers + 1)):
            if has == [every is None or (i + 1) % every != 0 for i in range(layers)]:
                return {"window": window} | ({} if every is None else {"full_every": every})
        where = [i + 1 for i, windowed in enumerate(has) if windowed]
        raise ConfigError(
            f"sliding_window in layers {where} of {layers}: our layers have one in every, or but each n-th"
        )

    def _positions(self) -> dict[str, Any]:
        """Rotary positions, as `rope_parameters`, `rope_scaling` or plain keys have them."""
        given = self.config.get("rope_scaling") or self.config.get("rope_parameters")
        if given is None and self.family.model_type == "gpt_oss":
            given = GPT_OSS_ROPE
        rope: dict[str, Any] = dict(given or {})
        if any(isinstance(value, dict) for value in rope.values()):
            raise ConfigError("rope_parameters that differ from layer to layer")
        kind = rope.get("rope_type", rope.get("type", "default"))
        theta = rope.get("rope_theta") or self.config.get("rope_theta") or self.family.theta
        partial = rope.get("partial_rotary_factor", self.of("partial_rotary_factor"))
        if partial not in (None, 1, 1.0):
            raise ConfigError(f"partial_rotary_factor {partial}: our decoder rotates whole heads")
        words: dict[str, Any] = {"rope_theta": float(theta)}
        if kind == "default":
            return words
        if kind not in ("linear", "llama3", "yarn"):
            raise ConfigError(f"rope scaling {quoted(kind)}: our decoder stretches positions by linear, llama3 or yarn")
        return words | {"rope_scaling": self._scaling(kind, rope)}

    def _scaling(self, kind: str, rope: Mapping[str, Any]) -> dict[str, Any]:
        names = {
            "linear": (),
            "llama3": ("low_freq_factor", "high_freq_factor"),
            "yarn": ("beta_fast", "beta_slow", "attention_factor"),
        }[kind]
        scaling: dict[str, Any] = {"kind": kind, "factor": rope.get("factor")}
        scaling |= {name: rope[name] for name in names if rope.get(name) is not None}
        if kind == "linear":
            return scaling
        first, longest = "original_max_position_embeddings", self.of("max_position_embeddings")
        original = self.config.get(first) or rope.get(first) or longest
        scaling["original_context"] = original
        if kind == "yarn":
            scaling |= {} if rope.get("truncate", True) else {"truncate": False}
            if scaling["factor"] is None:
                scaling["factor"] = longest / original
            if "attention_factor" not in scaling and rope.get("mscale") and rope.get("mscale_all_dim"):
                scaling["attention_factor"] = _mscale(scaling["factor"], rope["mscale"]) / _mscale(
                    scaling["factor"], rope["mscale_all_dim"]
                )
        return scaling


def _mscale(factor: float, times: float) -> float:
    """As DeepSeek scales logits under yarn."""
    return 1.0 if factor <= 1 else 0.1 * times * math.log(factor) + 1


def _pattern(mixtures: Sequence[bool]) -> dict[str, int]:
    """Which layers are mixtures, as `every` and `first_dense`."""
    layers = len(mixtures)
    for every in range(1, layers + 1):
        for first in range(layers):
            if list(mixtures) == [i >= first and (i + 1) % every == 0 for i in range(layers)]:
                return ({"every": every} if every > 1 else {}) | ({"first_dense": first} if first else {})
    dense = [i + 1 for i, mixture in enumerate(mixtures) if not mixture]
    raise ConfigError(
        f"dense layers {dense} of {layers}: ours are the first ones, or those that `every` does not divide"
    )
