"""A transformers `config.json` as a `Blueprint`: the families that are counted exactly, and refusals for the rest.

transformers is not needed: each family's defaults stand here, and a test holds them and the counts equal to
transformers' own. Configurations are untrusted: JSON alone, of limited size, every number checked; no code is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moebench.counting.blueprint import Blueprint
from moebench.systems.configs import dense, latent, moe, seq2seq
from moebench.systems.configs.fields import NESTED, Fields, named, renamed, shown
from moebench.systems.configs.fields import ConfigError as ConfigError

MOST_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Family:
    """One `model_type`: its keys and how they become a blueprint."""

    build: Callable[[Fields], Blueprint]
    defaults: Mapping[str, Any]
    architecture: str
    """The class with the language-modelling head; another class of the family has other weights."""
    also: tuple[str, ...] = ()
    """Other names of that class, of its publisher or of old configurations."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Second name -> name."""
    late: tuple[str, ...] = ()
    """Second names that transformers applies only after it has computed other sizes from the name's default."""
    harmless: tuple[str, ...] = ()
    """Keys of the family that sound like weights and are none."""
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keys that hold an object, and the defaults of its keys."""
    in_transformers: bool = True
    """Whether its class is transformers' and not its publisher's own."""


_LOCAL = {"num_experts": "num_local_experts"}
_GLOBAL = {"num_local_experts": "num_experts"}
_T5 = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
_T5_LATE = ("num_hidden_layers",)
"""Decoder layers and sparse steps are computed from `num_layers` first."""
_DEEPSEEK = (
    "moe_layer_freq", "num_nextn_predict_layers", "num_mtp_layers", "ep_size", "topk_method", "rope_interleave",
    "qk_head_dim",
)  # fmt: skip
_MORE_TOKENS = ("num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules")
"""Keys for layers that predict further tokens: checkpoints hold them, transformers' classes do not."""
_SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "num_local_experts", "num_experts",
    "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "vocab_size", "tie_word_embeddings",
)  # fmt: skip
"""Keys whose absence a reader should know of, as the family's default is counted with."""
_GRANITE = ("embedding_multiplier",)
_JITTER = ("input_jitter_noise", "moe_jitter_eps")

FAMILIES: dict[str, Family] = {
    "llama": Family(
        build=dense.llama, defaults=dense.LLAMA, architecture="LlamaForCausalLM", also=("LLaMAForCausalLM",)
    ),
    "granite": Family(
        build=dense.llama, defaults=dense.LLAMA, architecture="GraniteForCausalLM", harmless=_GRANITE
    ),
    "mistral": Family(build=dense.mistral, defaults=dense.MISTRAL, architecture="MistralForCausalLM"),
    "olmo": Family(build=dense.olmo, defaults=dense.OLMO, architecture="OlmoForCausalLM"),
    "olmo2": Family(build=dense.olmo2, defaults=dense.OLMO, architecture="Olmo2ForCausalLM"),
    "olmo3": Family(build=dense.olmo3, defaults=dense.OLMO3, architecture="Olmo3ForCausalLM"),
    "qwen2": Family(build=dense.qwen2, defaults=dense.QWEN2, architecture="Qwen2ForCausalLM"),
    "qwen3": Family(build=dense.qwen3, defaults=dense.QWEN3, architecture="Qwen3ForCausalLM"),
    "glm4": Family(build=dense.glm4, defaults=dense.GLM4, architecture="Glm4ForCausalLM"),
    "smollm3": Family(build=dense.smollm3, defaults=dense.SMOLLM3, architecture="SmolLM3ForCausalLM"),
    "seed_oss": Family(build=dense.seed_oss, defaults=dense.SEED_OSS, architecture="SeedOssForCausalLM"),
    "ernie4_5": Family(build=dense.ernie, defaults=dense.ERNIE, architecture="Ernie4_5ForCausalLM",
                       harmless=("use_rmsnorm",)),
    "mixtral": Family(
        build=moe.mixtral, defaults=moe.MIXTRAL, architecture="MixtralForCausalLM", aliases=_LOCAL
    ),
    "olmoe": Family(build=moe.olmoe, defaults=moe.OLMOE, architecture="OlmoeForCausalLM", aliases=_GLOBAL),
    "flex_olmo": Family(
        build=moe.olmoe, defaults=moe.FLEX_OLMO, architecture="FlexOlmoForCausalLM", aliases=_GLOBAL
    ),
    "qwen2_moe": Family(build=moe.qwen2_moe, defaults=moe.QWEN2_MOE, architecture="Qwen2MoeForCausalLM"),
    "qwen3_moe": Family(
        build=moe.qwen3_moe, defaults=moe.QWEN3_MOE, architecture="Qwen3MoeForCausalLM", aliases=_LOCAL
    ),
    "gpt_oss": Family(
        build=moe.gpt_oss,
        defaults=moe.GPT_OSS,
        architecture="GptOssForCausalLM",
        aliases=_LOCAL,
        harmless=("experts_per_token",),
    ),
    "llama4_text": Family(build=moe.llama4, defaults=moe.LLAMA4, architecture="Llama4ForCausalLM",
                          harmless=("use_qk_norm", "no_rope_layers")),
    "dbrx": Family(
        build=moe.dbrx,
        defaults=moe.DBRX,
        architecture="DbrxForCausalLM",
        aliases={
            "num_attention_heads": "n_heads",
            "hidden_size": "d_model",
            "num_hidden_layers": "n_layers",
            "max_position_embeddings": "max_seq_len",
        },
        late=("hidden_size",),
        harmless=("emb_pdrop", "num_key_value_heads"),
        parts={"attn_config": moe.DBRX_ATTENTION, "ffn_config": moe.DBRX_FFN},
    ),
    "phimoe": Family(
        build=moe.phimoe, defaults=moe.PHIMOE, architecture="PhimoeForCausalLM", also=("PhiMoEForCausalLM",),
        harmless=_JITTER,
    ),
    "granitemoe": Family(
        build=moe.granite_moe, defaults=moe.GRANITE_MOE, architecture="GraniteMoeForCausalLM", harmless=_GRANITE
    ),
    "granitemoeshared": Family(
        build=moe.granite_moe,
        defaults={**moe.GRANITE_MOE, "shared_intermediate_size": 0},
        architecture="GraniteMoeSharedForCausalLM",
        harmless=_GRANITE,
    ),
    "glm4_moe": Family(
        build=moe.glm4_moe,
        defaults=moe.GLM4_MOE,
        architecture="Glm4MoeForCausalLM",
        aliases={"num_local_experts": "n_routed_experts"},
        harmless=_DEEPSEEK,
    ),
    "dots1": Family(
        build=moe.dots1,
        defaults=moe.DOTS1,
        architecture="Dots1ForCausalLM",
        aliases={"num_local_experts": "n_routed_experts"},
        harmless=_DEEPSEEK,
    ),
    "minimax_m2": Family(
        build=moe.minimax_m2, defaults=moe.MINIMAX_M2, architecture="MiniMaxM2ForCausalLM", aliases=_LOCAL,
        harmless=(
            "rotary_dim", "use_qk_norm", "qk_norm_type", "use_routing_bias", "use_mtp", "num_mtp_modules",
            "mtp_transformer_layers", "shared_moe_mode", "layernorm_full_attention_beta", "layernorm_mlp_beta",
            "layernorm_linear_attention_beta",
        ),
    ),
    "ernie4_5_moe": Family(
        build=moe.ernie_moe,
        defaults=moe.ERNIE_MOE,
        architecture="Ernie4_5_MoeForCausalLM",
        aliases={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
        harmless=("moe_norm_min", "moe_capacity", "moe_gate", "moe_use_aux_free", "moe_group", "use_rmsnorm"),
    ),
    "deepseek": Family(
        build=latent.deepseek, defaults=latent.DEEPSEEK, architecture="DeepseekForCausalLM", harmless=_DEEPSEEK,
        in_transformers=False,
    ),
    "deepseek_v2": Family(
        build=latent.deepseek_v2,
        defaults=latent.DEEPSEEK_V2,
        architecture="DeepseekV2ForCausalLM",
        aliases={"num_experts": "n_routed_experts"},
        harmless=_DEEPSEEK,
    ),
    "deepseek_v3": Family(
        build=latent.deepseek_v3,
        defaults=latent.DEEPSEEK_V3,
        architecture="DeepseekV3ForCausalLM",
        aliases={"num_local_experts": "n_routed_experts"},
        harmless=_DEEPSEEK,
    ),
    "kimi_k2": Family(
        build=latent.deepseek_v3,
        defaults=latent.DEEPSEEK_V3,
        architecture="DeepseekV3ForCausalLM",
        harmless=_DEEPSEEK,
        in_transformers=False,
    ),
    "t5": Family(
        build=seq2seq.t5, defaults=seq2seq.T5, architecture="T5ForConditionalGeneration",
        also=("T5WithLMHeadModel",),
        aliases={**_T5, "head_dim": "d_kv"},
        late=_T5_LATE,
    ),
    "mt5": Family(
        build=seq2seq.t5, defaults=seq2seq.MT5, architecture="MT5ForConditionalGeneration",
        aliases={**_T5, "head_dim": "d_kv"},
        late=_T5_LATE,
    ),
    "switch_transformers": Family(
        build=seq2seq.switch,
        defaults=seq2seq.SWITCH,
        architecture="SwitchTransformersForConditionalGeneration",
        aliases=_T5,
        late=_T5_LATE,
        harmless=("expert_capacity", "num_selected_experts", "feed_forward_proj"),
    ),
}  # fmt: skip
"""`model_type` -> its family."""


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
    if not isinstance(word, str) or word not in FAMILIES:
        raise ConfigError(_unknown(word))
    family = FAMILIES[word]
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
    family = FAMILIES[config["model_type"]]
    given = renamed(config, family.aliases, config["model_type"])
    taken = {key: family.defaults.get(key) for key in _SIZES if key not in given}
    absent = [f"{key} {shown(value)}" for key, value in taken.items() if value is not None]
    return f"not in the file, so the default of {config['model_type']}: {', '.join(absent)}" if absent else None


def _unknown(word: object) -> str:
    known = f"known: {', '.join(sorted(FAMILIES))}"
    if word is None:
        return f"model_type: missing, so the family is not known; {known}"
    return f"model_type: family {shown(word)} is not one that is counted exactly here; {known}"


def language_model(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The part of a configuration that is counted: the text model of a wrapper, with what it inherits, or the whole."""
    inner = config.get("text_config")
    if config.get("model_type") in list(FAMILIES) or not isinstance(inner, dict):  # a word of any type
        return config, []
    if inner.get("model_type") not in list(FAMILIES):
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
