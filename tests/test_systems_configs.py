"""Reading configurations: every family's defaults and counts are transformers' own, and the rest is refused by name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import random
import warnings
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moebench.counting.blueprint import Attention, Experts, LatentAttention
from moebench.counting.weights import parameters, selection_biases
from moebench.systems.configs import MOST_BYTES, READ_UP_TO, ConfigError, families, load_config, read_config
from moebench.systems.configs.fields import NESTED, Fields
from tests.support.meta_models import SEQ2SEQ, config_of, counted

FAMILIES = families()
DBRX_ATTENTION, DBRX_FFN = FAMILIES["dbrx"].parts["attn_config"], FAMILIES["dbrx"].parts["ffn_config"]
OWN_CODE = ("deepseek", "kimi_k2")
"""Families whose class is their publisher's own and not in transformers."""
IN_TRANSFORMERS = [word for word in FAMILIES if word not in OWN_CODE]
NEEDED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 3},
    "dots1": {"num_experts_per_tok": 3, "n_routed_experts": 16, "n_shared_experts": 2},
    "dbrx": {"attn_config": {"rope_theta": 1e4}},
}
"""What a family has no default for, or its class cannot be built without."""

SMALL: dict[str, Any] = {"vocab_size": 97, "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}


def ours(config: dict[str, Any]) -> tuple[int, int]:
    """Total and active by blueprint."""
    count = parameters(read_config(config)[0])
    return count.total, count.active


def named(word: str, config: dict[str, Any]) -> dict[str, Any]:
    """A configuration under the names of its family."""
    aliases = FAMILIES[word].aliases
    return {"model_type": word, **{aliases.get(key, key): value for key, value in config.items()}}


# ------------------------------------------------------------------------------------------------ defaults


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_defaults_are_those_of_transformers(word: str) -> None:
    config = config_of({"model_type": word})
    theirs = {field.name: field.default for field in dataclasses.fields(config)}
    seconds = {name: alias for alias, name in FAMILIES[word].aliases.items()}
    for key, value in FAMILIES[word].defaults.items():
        if (field := key if key in theirs else seconds.get(key)) in theirs:
            assert theirs[field] == value, key
        else:  # computed by the class, or read by its layers when a configuration has it
            assert key in ("head_dim", "is_gated_act", "encoder_sparse_step", "decoder_sparse_step") or (
                key in ("tie_word_embeddings", "max_position_embeddings") and getattr(config, key) == value
            ), key


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_an_empty_configuration_counts_as_the_familys_default_model(word: str) -> None:
    config = {"model_type": word, **NEEDED.get(word, {})}
    assert ours(config) == counted(config)


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_second_names_are_those_of_transformers(word: str) -> None:
    theirs = {key: name for key, name in config_of({"model_type": word}).attribute_map.items() if "mtp" not in key}
    assert dict(FAMILIES[word].aliases) == theirs


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_what_transformers_saves_is_read_again(word: str) -> None:
    """Nothing that a class writes into its own config.json is taken for an unknown weight."""
    small = varied(word, random.Random(0))
    saved = json.loads(config_of(small).to_json_string(use_diff=False))
    saved["architectures"] = [FAMILIES[word].architecture]
    assert ours(saved) == ours(small)


# ------------------------------------------------------------------------------------------------ counts

CHOICES: dict[str, tuple[Any, ...]] = {
    "vocab_size": (97, 128),
    "hidden_size": (64, 96, 128),
    "d_model": (64, 96, 128),
    "num_attention_heads": (4, 8),
    "num_heads": (4, 8),
    "n_heads": (4, 8),
    "num_key_value_heads": (1, 2, 4),
    "kv_n_heads": (1, 2, 4),
    "head_dim": (16, 24),
    "d_kv": (8, 20),
    "num_hidden_layers": (1, 2, 3, 6),
    "n_layers": (1, 2, 3, 6),
    "num_layers": (1, 2, 3, 6),
    "num_decoder_layers": (1, 2, 5),
    "num_sparse_encoder_layers": (0, 1, 2, 3),
    "num_sparse_decoder_layers": (0, 1, 2, 3),
    "encoder_sparse_step": (0, 1, 2, 3),
    "decoder_sparse_step": (1, 2, 3),
    "num_experts_per_tok": (1, 2),
    "moe_top_k": (1, 2),
    "moe_k": (1, 2),
    "num_experts": (2, 3, 7, 16),
    "num_local_experts": (2, 3, 7, 16),
    "n_routed_experts": (2, 3, 7, 16),
    "moe_num_experts": (2, 3, 7, 16),
    "n_shared_experts": (0, 1, 2),
    "moe_num_shared_experts": (0, 1, 2),
    "first_k_dense_replace": (0, 1, 2, 9),
    "mlp_only_layers": (None, [], [0], [1, 2], [7]),
    "moe_layers": (None, [], [0], [1, 2]),
    "interleave_moe_layer_step": (1, 2, 3),
    "q_lora_rank": (None, 24),
    "kv_lora_rank": (40,),
    "qk_rope_head_dim": (8,),
    "qk_nope_head_dim": (16, 24),
    "v_head_dim": (16, 24),
    "moe_layer_start_index": (0, 1, 2),
    "moe_layer_end_index": (-1, 0, 2),
    "moe_layer_interval": (1, 2),
    "relative_attention_num_buckets": (8, 32),
    "feed_forward_proj": ("relu", "gated-gelu", "gelu", "gated-silu"),
    "is_gated_act": (True, False),
    "sliding_window": (4, 64),
    "attention_chunk_size": (4, 64),
    "max_window_layers": (1, 2),
    "no_rope_layer_interval": (2, 4),
    "max_position_embeddings": (64,),
    "max_seq_len": (64,),
}
"""Values that each key is tried with; switches are tried both ways, widths with `WIDTHS`."""
WIDTHS = (32, 48, 100)
AS_IS = ("layer_types", "no_rope_layers", "is_encoder_decoder")
ALWAYS = ("hidden_size", "d_model", "num_attention_heads", "n_heads", "num_heads", "num_key_value_heads",
          "num_hidden_layers", "n_layers", "num_layers", "num_experts_per_tok", "moe_k", "attn_config", "ffn_config",
          "vocab_size", "n_routed_experts", "n_shared_experts")  # fmt: skip


def varied(word: str, random_: random.Random) -> dict[str, Any]:
    """A small configuration of a family with many of its keys set, by chance."""
    config: dict[str, Any] = {"model_type": word}
    defaults = FAMILIES[word].defaults
    for key, default in defaults.items():
        if key in AS_IS or (key not in ALWAYS and random_.random() < 0.15):
            continue
        if key == "attn_config":
            config[key] = {"rope_theta": 1e4, "kv_n_heads": random_.choice(CHOICES["kv_n_heads"])}
        elif key == "ffn_config":
            config[key] = {inner: random_.choice(CHOICES.get(inner, WIDTHS)) for inner in DBRX_FFN}
        elif isinstance(default, bool):
            config[key] = random_.random() < 0.5
        else:
            config[key] = random_.choice(CHOICES.get(key, WIDTHS))
    if word == "olmoe":  # whose norm of queries is as wide as the model
        config.pop("head_dim", None)
    if word in ("t5", "mt5", "switch_transformers", "dbrx"):  # the others are refused
        config["tie_word_embeddings"] = word != "dbrx"
    if word == "switch_transformers":
        config["decoder_sparse_step"] = random_.choice((0, 1, 2, 3))
    return {**config, "pad_token_id": None}


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_varied_configurations_count_as_transformers_does(word: str) -> None:
    """Biases, tied tables, odd heads, sparse steps, leading dense layers, latents, shared experts: total and active."""
    random_ = random.Random(word)
    for _ in range(8):
        config = varied(word, random_)
        assert ours(config) == counted(config), config


@pytest.mark.parametrize("word", ["qwen2_moe", "qwen3_moe"])
def test_no_experts_at_all_is_a_dense_model(word: str) -> None:
    config = named(word, {**SMALL, "num_key_value_heads": 2, "num_experts": 0})
    assert ours(config) == counted(config)
    assert ours(config)[0] == ours(config)[1]


@pytest.mark.parametrize("word", ["mixtral", "olmoe", "qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_one_expert_is_all_active(word: str) -> None:
    number = "n_routed_experts" if word == "deepseek_v3" else "num_local_experts"
    config = named(word, {**SMALL, "num_key_value_heads": 2, number: 1, "num_experts_per_tok": 1})
    assert ours(config) == counted(config)
    assert ours(config)[0] == ours(config)[1]


def test_deepseek_v1_is_glm4_moe_in_other_words() -> None:
    """Its class is not in transformers; GLM-4.5's has the same weights when layers are sparse from the first on."""
    sizes = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 100, "moe_intermediate_size": 24,
             "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 3,
             "first_k_dense_replace": 2}  # fmt: skip
    assert ours({"model_type": "deepseek", **sizes}) == counted({"model_type": "glm4_moe", **sizes})


def test_deepseek_v1_counts_its_layers_from_zero() -> None:
    """As in its publisher's code: layer % moe_layer_freq == 0, from first_k_dense_replace on."""
    sizes = {**SMALL, "num_hidden_layers": 6, "n_routed_experts": 4, "num_experts_per_tok": 2}
    for first, every, expected in ((0, 1, 6), (1, 1, 5), (0, 2, 3), (1, 2, 2), (3, 3, 1)):
        config = {"model_type": "deepseek", **sizes, "first_k_dense_replace": first, "moe_layer_freq": every}
        b, _ = read_config(config)
        assert sum(times for times, _ in b.mixtures) == expected
    assert not read_config({"model_type": "deepseek", **sizes, "n_routed_experts": None})[0].mixtures


def test_kimi_k2_is_deepseek_v3_by_another_name() -> None:
    config = varied("deepseek_v3", random.Random(5))
    assert ours({**config, "model_type": "kimi_k2"}) == counted(config)


def test_no_shared_experts_may_be_written_as_null() -> None:
    config = named("deepseek_v3", {**SMALL, "first_k_dense_replace": 1, "n_routed_experts": 8})
    assert ours({**config, "n_shared_experts": None}) == ours({**config, "n_shared_experts": 0})


def test_second_names_count_as_the_first() -> None:
    config = {**SMALL, "model_type": "mixtral", "num_key_value_heads": 2}
    assert ours({**config, "num_experts": 3}) == ours({**config, "num_local_experts": 3})
    with pytest.raises(ConfigError, match=r"num_experts: 3, but num_local_experts is 4 \(family mixtral\)"):
        read_config({**config, "num_experts": 3, "num_local_experts": 4})


ALIASES = [(word, alias) for word in IN_TRANSFORMERS for alias in FAMILIES[word].aliases]


@pytest.mark.parametrize(("word", "alias"), ALIASES)
def test_a_second_name_alone_counts_as_in_transformers_or_is_refused(word: str, alias: str) -> None:
    """transformers computes sizes that depend on others before it applies a second name."""
    name = FAMILIES[word].aliases[alias]
    rest = {key: value for key, value in NEEDED.get(word, {}).items() if key != name}
    if alias in ("num_experts", "num_local_experts"):
        rest["moe_k" if word == "ernie4_5_moe" else "num_experts_per_tok"] = 2
    for value in CHOICES[name]:
        config = {"model_type": word, **rest, alias: value, "pad_token_id": None}
        both = {**config, name: value}
        if alias == {"dbrx": "hidden_size"}.get(word, "num_hidden_layers") and word in (*SEQ2SEQ, "dbrx"):
            with pytest.raises(ConfigError, match=f"^{alias}: transformers computes .*: give it as {name} "):
                read_config(config)
        else:
            assert ours(config) == counted(config), config
        assert ours(both) == counted(both), both


@pytest.mark.parametrize("more", [{}, {"num_decoder_layers": 4}, {"num_decoder_layers": None}])
@pytest.mark.parametrize("word", SEQ2SEQ)
def test_layers_of_an_encoder_decoder_by_their_second_name(word: str, more: dict[str, Any]) -> None:
    config = {"model_type": word, "num_hidden_layers": 4, **more}
    with pytest.raises(ConfigError, match=r"^num_hidden_layers: "):
        read_config(config)
    assert ours({**config, "num_layers": 4}) == counted({**config, "num_layers": 4})


# ------------------------------------------------------------------------------------------------ windows


def test_windows_are_where_the_family_puts_them() -> None:
    base = {**SMALL, "num_key_value_heads": 2}

    def windows(**more: Any) -> list[tuple[int, int | None]]:
        layers = read_config({**base, **more})[0].layers
        assert all(isinstance(layer.mixer, Attention) for layer in layers)
        return [(la.times, la.mixer.window or la.mixer.chunk) for la in layers if isinstance(la.mixer, Attention)]

    assert windows(model_type="mistral", sliding_window=16) == [(4, 16)]
    assert windows(model_type="gpt_oss") == [(2, 128), (2, None)]
    assert windows(model_type="qwen3") == [(4, None)]
    assert windows(model_type="qwen3", use_sliding_window=True, sliding_window=8, max_window_layers=1) == [
        (1, None),
        (3, 8),
    ]
    assert windows(model_type="olmo3", sliding_window=8) == [(3, 8), (1, None)]
    assert windows(model_type="llama4_text") == [(3, 8192), (1, None)]
    given = ["full_attention"] * 3 + ["sliding_attention"]
    assert windows(model_type="qwen2", use_sliding_window=True, layer_types=given) == [(3, None), (1, 4096)]


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "model_type: missing"),
        ({"model_type": "gpt2"}, "family 'gpt2' is not one that is counted exactly here; known: dbrx, deepseek"),
        ({"model_type": ["llama"]}, "is not one that is counted"),
        ({"model_type": "vlm", "text_config": {"model_type": "qwen2"}}, "tie_word_embeddings: neither the wrapper nor"),
        ({"model_type": "vlm", "text_config": {"model_type": "qwen2", "tie_word_embeddings": 1}}, "1 is neither true"),
        ({"model_type": "vlm", "text_config": {"model_type": "other"}}, "family 'vlm' is not one that is counted"),
        ({"model_type": "llama", "architectures": ["LlamaForTokenClassification"]}, "architectures: .*the only one"),
        ({"model_type": "kimi_k2", "num_more_experts": 8, "lora_rank": 2},
         "^num_more_experts, lora_rank: not known in family kimi_k2, may .* publisher's own.*--ignore-keys"),
        ({"model_type": "llama", "num_experts": 8, "auto_map": {"AutoModel": "x"}},
         "auto_map names the publisher's own"),
        ({"model_type": "llama", "num_experts": 8, "transformers_version": "5.25.0.dev0"},
         "num_experts: .*written by transformers 5.25, known are its keys up to 5.24"),
        ({"model_type": "llama", "is_encoder_decoder": True}, "is_encoder_decoder: True"),
        ({"model_type": "llama", "hidden_size": "4096"}, "hidden_size: '4096' is no whole number"),
        ({"model_type": "llama", "hidden_size": 4096.0}, "hidden_size: 4096.0 is no whole number"),
        ({"model_type": "llama", "hidden_size": True}, "hidden_size: True is no whole number"),
        ({"model_type": "llama", "hidden_size": 0}, "hidden_size: 0 is not between 1"),
        ({"model_type": "llama", "hidden_size": 10**30}, "is not between 1 and"),
        ({"model_type": "llama", "num_hidden_layers": 10**6}, "1,000,000 layers are more than 4,096"),
        ({"model_type": "llama", "tie_word_embeddings": 1}, "tie_word_embeddings: 1 is neither true nor false"),
        ({"model_type": "llama", "num_key_value_heads": 5}, "32 heads are not a multiple of 5"),
        ({"model_type": "qwen2", "num_attention_heads": 8}, "8 heads are not a multiple of 32, the family's default"),
        ({"model_type": "qwen3", "layer_types": ["full_attention"]}, "layer_types: 1 entries for 32 layers"),
        ({"model_type": "qwen3", "layer_types": ["linear_attention"] * 32}, "layer_types: unknown linear_attention"),
        ({"model_type": "mixtral", "num_local_experts": 1}, "num_experts_per_tok: 2 is more than the 1 experts"),
        ({"model_type": "deepseek_v2"}, "num_experts_per_tok: must be given"),
        ({"model_type": "deepseek_v3", "moe_layer_freq": 2}, "moe_layer_freq: 2: transformers' class"),
        ({"model_type": "deepseek_v3", "qk_head_dim": 100}, "qk_head_dim: 100: is not .* 192"),
        ({"model_type": "qwen2_moe", "decoder_sparse_step": 0}, "decoder_sparse_step: 0 is not between 1"),
        ({"model_type": "qwen2_moe", "mlp_only_layers": ["0"]}, "mlp_only_layers: is no list of whole numbers"),
        ({"model_type": "gpt_oss", "experts_per_token": 2}, "experts_per_token: 2: num_experts_per_tok says otherwise"),
        ({"model_type": "olmoe", "head_dim": 64}, "head_dim: its norm of queries"),
        ({"model_type": "dbrx", "ffn_config": {"expert_width": 3}}, "expert_width: .* refuses what it does not know"),
        ({"model_type": "dbrx", "ffn_config": 3}, "ffn_config: 3 is no object"),
        ({"model_type": "dbrx", "tie_word_embeddings": True}, "tie_word_embeddings: true is not supported"),
        ({"model_type": "t5", "tie_word_embeddings": False}, "there are two counts"),
        ({"model_type": "t5", "feed_forward_proj": "gated-gelu-new"}, "feed_forward_proj: is neither"),
        ({"model_type": "t5", "is_encoder_decoder": False}, "only the whole encoder-decoder"),
        ({"model_type": "switch_transformers", "tie_word_embeddings": False}, "holds four tables"),
        ({"model_type": "switch_transformers", "feed_forward_proj": "gated-gelu"}, "has no gates"),
        ({"model_type": "switch_transformers", "num_selected_experts": 2}, "routes a token to one expert"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_exactly_is_refused_by_name(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(config)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"model_type": "deepseek_v3", "n_shared_experts": 2**20, "moe_intermediate_size": 2**20},
         "moe_intermediate_size: 1,048,576 times 1,048,576 is more than"),
        ({"model_type": "glm4_moe", "n_shared_experts": 2**31}, "moe_intermediate_size: 2,147,483,648 times 1,408"),
        ({"model_type": "ernie4_5_moe", "moe_num_shared_experts": 2**31}, "moe_intermediate_size: 2,147,483,648 times"),
    ],
)  # fmt: skip
def test_sizes_that_are_too_large_together_are_refused_by_key(config: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}"):
        read_config(config)


def test_whatever_a_blueprint_refuses_is_an_error_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(_: Fields) -> Any:
        return Experts(experts=2, top_k=1, hidden=-1)

    monkeypatch.setitem(FAMILIES, "llama", dataclasses.replace(FAMILIES["llama"], build=impossible))
    with pytest.raises(ConfigError, match=r"^hidden: .* \(family llama\)$"):
        read_config({"model_type": "llama"})


HOSTILE = "layer\x1b[31m\nred\u202e" + "x" * 900_000
"""A word that would clear a screen, forge a line, turn text round and fill a page."""


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": HOSTILE},
        {"model_type": "kimi_k2", HOSTILE: 1},
        {"model_type": "vlm", "tie_word_embeddings": HOSTILE, "text_config": {"model_type": "qwen2"}},
        {"model_type": "dbrx", "ffn_config": {HOSTILE: 1}},
        {"model_type": "qwen3", "layer_types": [HOSTILE] * 32},
        {"model_type": "llama", "architectures": HOSTILE},
        {"model_type": "llama", "architectures": [HOSTILE]},
        {"model_type": "llama", "hidden_size": HOSTILE},
        {"model_type": "mixtral", "num_experts": HOSTILE, "num_local_experts": 8},
        {"model_type": "t5", "feed_forward_proj": HOSTILE + "-" + HOSTILE},
        {"model_type": "other", "text_config": {"model_type": [HOSTILE]}},
    ],
)
def test_what_a_configuration_says_is_told_short_and_escaped(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(config)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


# ------------------------------------------------------------------------------------------------ keys not read


def read_by(module: ModuleType) -> set[str]:
    """Names that a module reads of a configuration, or asks an object for by name."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Attribute(value=ast.Name(id=owner) | ast.Attribute(attr=owner), attr=name):
                found |= {name} if owner.endswith("config") else set()
            case ast.Call(func=ast.Name(id="getattr" | "hasattr"), args=[_, ast.Constant(value=str(name)), *_]):
                found.add(name)
    return found


ELSEWHERE = {
    "llama4_text": {"qk_norm", "image_size", "patch_size", "projector_dropout", "projector_input_dim",
                    "projector_output_dim", "text_config", "vision_config", "vision_output_dim"},
    "dbrx": {*DBRX_ATTENTION, *DBRX_FFN, *NESTED, "head_dim"},
}  # fmt: skip
"""Of other classes in the same file, a module's own attribute, or of the parts of a configuration."""


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_no_class_reads_a_key_that_is_not_known(word: str) -> None:
    """So a key that is not known is not read, and changes no count."""
    family, where = FAMILIES[word], type(config_of({"model_type": word})).__module__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_by(importlib.import_module(where.replace("configuration_", "modeling_")))
    f = Fields(family=word, values=dict.fromkeys(read - set(family.aliases), 1), defaults=family.defaults)
    f.look(harmless=family.harmless)
    assert set(f.unknown) - ELSEWHERE.get(word, {"bias", "lm_head"}) == set()
    assert f"{READ_UP_TO[0]}.{READ_UP_TO[1]}" == ".".join(version("transformers").split(".")[:2])


@pytest.mark.parametrize("word", IN_TRANSFORMERS)
def test_keys_that_a_class_does_not_read_are_told_and_change_no_count(word: str) -> None:
    config = {"model_type": word, **NEEDED.get(word, {}), "transformers_version": "4.51.0"}
    unread = {"use_extra_qk_norm": True, "side_expert_hidden_size": 7}
    b, notes = read_config({**config, **unread})
    assert b == read_config(config)[0]
    assert notes == (f"not read by {FAMILIES[word].architecture}, so in no count: {', '.join(unread)}",)


def test_unknown_keys_can_be_ignored_and_that_is_told() -> None:
    config: dict[str, Any] = {"model_type": "kimi_k2", "num_more_experts": 8, "lora_rank": 2}
    b, notes = read_config(config, ignore_keys=True)
    assert b == read_config({"model_type": "kimi_k2"})[0]
    assert notes == ("ignored as asked, whatever they mean: num_more_experts, lora_rank",)


def test_qwen3_coder_as_published() -> None:
    """Its file has a key of another family's."""
    config = {
        "model_type": "qwen3_moe", "head_dim": 128, "hidden_size": 2048, "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "vocab_size": 151936,
        "qkv_bias": False, "shared_expert_intermediate_size": 0, "use_qk_norm": True, "mlp_only_layers": [],
    }  # fmt: skip
    assert ours(config) == (30_532_122_624, 3_353_032_704)


@pytest.mark.parametrize("outer", [True, False, None])
@pytest.mark.parametrize("inner", [True, False, None])
def test_a_text_model_inherits_what_its_wrapper_ties(outer: bool | None, inner: bool | None) -> None:
    """In transformers either place ties the tables."""
    text = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936}  # fmt: skip
    wrapper = {"model_type": "llava_onevision", "vision_config": {"hidden_size": 1152}}
    wrapper |= {} if outer is None else {"tie_word_embeddings": outer}
    config = {**wrapper, "text_config": text if inner is None else {**text, "tie_word_embeddings": inner}}
    if outer is inner is None:
        with pytest.raises(ConfigError, match="wrappers differ in their default: write true or false"):
            read_config(config)
        return
    assert ours(config)[0] == (494_032_768 if outer or inner else 630_167_424)
    told = f"the text model of 'llava_onevision' alone, tie_word_embeddings: {bool(outer or inner)}"
    assert read_config(config)[1] == (f"{told}; not counted: vision_config",)


def test_keys_about_training_and_generation_are_passed_over() -> None:
    """Of published configurations: none of these is about weights."""
    more = {
        "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {"AutoConfig": "x"}, "aux_loss_alpha": 0.001,
        "bos_token_id": 0, "ep_size": 1, "hidden_act": "silu", "initializer_range": 0.02, "moe_layer_freq": 1,
        "norm_topk_prob": True, "num_nextn_predict_layers": 1, "pretraining_tp": 1, "rms_norm_eps": 1e-6,
        "rope_scaling": {"factor": 40}, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": True,
        "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "use_cache": True,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "attention_dropout": 0.0,
    }  # fmt: skip
    b, notes = read_config({"model_type": "deepseek_v3", **more})
    assert b == read_config({"model_type": "deepseek_v3"})[0]
    assert [note.partition(":")[0] for note in notes] == ["num_nextn_predict_layers", "quantization_config"]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("deepseek_v3", "num_nextn_predict_layers"),
        ("deepseek_v3", "num_mtp_layers"),
        ("glm4_moe", "num_nextn_predict_layers"),
        ("dots1", "num_nextn_predict_layers"),
        ("minimax_m2", "num_mtp_modules"),
    ],
)
def test_layers_that_predict_further_tokens_are_told_of_and_not_counted(word: str, key: str) -> None:
    config = {"model_type": word, **NEEDED.get(word, {})}
    b, notes = read_config({**config, key: 1})
    assert b == read_config(config)[0]
    assert notes == (f"{key}: the multi-token prediction layers are not counted, as in transformers",)
    assert read_config({**config, key: 0})[1] == ()


@pytest.mark.parametrize("word", ["ernie4_5", "ernie4_5_moe"])
def test_ernies_norms_are_without_a_mean(word: str) -> None:
    assert ours({"model_type": word, "use_rmsnorm": True}) == counted({"model_type": word})
    with pytest.raises(ConfigError, match="use_rmsnorm: False: transformers' class has RMSNorm alone"):
        read_config({"model_type": word, "use_rmsnorm": False})


def test_published_configurations_of_other_families_are_read_whole() -> None:
    """Keys that sound like weights and are none, each in the family that has it."""
    switch = {"decoder_sparse_step": 2, "encoder_sparse_step": 2, "expert_capacity": 64, "feed_forward_proj": "relu",
              "dense_act_fn": "relu", "is_gated_act": False, "num_selected_experts": 1, "d_ff": 3072}  # fmt: skip
    assert ours({"model_type": "switch_transformers", **switch})[0] == 619_339_008
    dbrx = {
        "d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100352, "emb_pdrop": 0.0, "resid_pdrop": 0.0,
        "attn_config": {"kv_n_heads": 8, "clip_qkv": 8, "tie_word_embeddings": True, "add_cross_attention": False},
        "ffn_config": {"ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4,
                       "moe_jitter_eps": 0, "moe_loss_weight": 0.05, "moe_normalize_expert_weights": 1},
    }  # fmt: skip
    assert ours({"model_type": "dbrx", **dbrx}) == (131_596_523_520, 36_469_708_800)
    phi = {"architectures": ["PhiMoEForCausalLM"], "lm_head_bias": True, "original_max_position_embeddings": 4096}
    assert ours({"model_type": "phimoe", **phi}) == counted({"model_type": "phimoe", "lm_head_bias": True})


def test_latents_and_shared_experts_are_seen() -> None:
    b, _ = read_config({"model_type": "deepseek_v3"})
    dense, sparse = b.layers
    assert (dense.times, sparse.times) == (3, 58)
    assert isinstance(sparse.mixer, LatentAttention)
    assert sparse.mixer.q_rank == 1536
    assert isinstance(sparse.ffn, Experts)
    assert sparse.ffn.shared is not None
    assert sparse.ffn.shared.hidden == 2048
    assert selection_biases(b) == 58 * 256


# ------------------------------------------------------------------------------------------------ files


def test_a_file_and_its_folder_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert load_config(tmp_path) == load_config(tmp_path / "config.json") == {"model_type": "llama"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"model_type: llama", "no JSON"),
        (b"[1, 2]", "no JSON object"),
        (b"\xff\xfe\x00", "no JSON"),
        (b'{"a": ' * 100_000, "no JSON"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "no JSON"),
        (b'{"model_type": "llama", "model_type": "t5"}', "'model_type' is there twice"),
        (b'{"a": "' + b"x" * MOST_BYTES + b'"}', "more than 1,048,576 bytes"),
    ],
)
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: No such file"):
        load_config(tmp_path)


def test_nothing_but_a_plain_file_is_read() -> None:
    with pytest.raises(ConfigError, match="no plain file"):
        load_config(Path("/dev/zero"))
