"""Checkpoints of transformers in our decoder: the same logits and tokens, the same bits back, refusals by feature."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moebench.checkpoints.located import CheckpointError
from moebench.models.convert.config import config, family_of
from moebench.models.convert.export import export_checkpoint
from moebench.models.convert.families import BY_TYPE, FAMILIES
from moebench.models.convert.reading import load_native
from moebench.models.convert.stored import described
from moebench.models.convert.words import describe
from moebench.models.decoder.subject import DecoderSubject
from moebench.systems.configs import ConfigError
from tests.support import small_checkpoints
from tests.support.small_models import built, tokens
from tests.test_trained import MODELS

pytestmark = pytest.mark.numeric

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "rope_theta": 500.0}
LLAMA3 = YARN | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, biases, tied, Llama 3.1 positions": (
        "llama", {"attention_bias": True, "tie_word_embeddings": True, "rope_parameters": LLAMA3, "head_dim": 6}
    ),
    "llama, linear positions": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0}}),
    "qwen3, yarn": ("qwen3", {"rope_parameters": YARN | {"beta_fast": 8.0, "attention_factor": 1.3}}),
    "qwen3, windows in half of the layers": (
        "qwen3", {"use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 3,
                  "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mixtral, a window": ("mixtral", {"sliding_window": 9}),
    "qwen3_moe, a dense layer, a window": (
        "qwen3_moe", {"mlp_only_layers": [0], "use_sliding_window": True, "sliding_window": 9, "norm_topk_prob": False}
    ),
    "qwen3_moe, every other layer": ("qwen3_moe", {"decoder_sparse_step": 2, "num_hidden_layers": 4}),
    "gpt_oss, other yarn": (
        "gpt_oss", {"rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 0.5}, "attention_bias": False}
    ),
    "gpt_oss, no windows": ("gpt_oss", {"layer_types": ["full_attention"] * 2}),
    "gpt_oss, three layers": ("gpt_oss", {"num_hidden_layers": 3}),
}  # fmt: skip
"""Name -> family, and what differs from its small checkpoint."""
PLAIN = [word for word in small_checkpoints.FAMILIES if word in BY_TYPE]
CASES: dict[str, tuple[str, dict[str, Any]]] = {word: (word, {}) for word in PLAIN} | MORE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Name of a case -> its folder and transformers' model, each made once."""
    found: dict[str, tuple[Path, Any]] = {}

    def make(name: str) -> tuple[Path, Any]:
        if name not in found:
            family, changes = CASES[name]
            folder = tmp_path_factory.mktemp("checkpoint")
            model = small_checkpoints.model_of(family, attn_implementation="eager", **changes)
            model.save_pretrained(folder)
            found[name] = folder, model
        return found[name]

    return make


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, small_checkpoints.VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_in_our_decoder_computes_what_transformers_computes(made: Any, name: str) -> None:
    folder, model = made(name)
    with torch.inference_mode():
        ours, theirs = load_native(folder)(ids(2, 64)).logits_BTV, model(ids(2, 64)).logits
    assert theirs.std() > 0.2
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_it_generates_what_transformers_generates(made: Any, name: str) -> None:
    folder, model = made(name)
    prompts_BT = ids(4, 5, seed=3)
    asked = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    theirs_BT = model.generate(prompts_BT, attention_mask=torch.ones_like(prompts_BT), **asked)[:, 5:]
    subject = DecoderSubject(load_native(folder))
    cache, unread_BT, ours = subject.new_cache(4), prompts_BT, []
    for _ in range(20):
        unread_BT = subject.extend(unread_BT, cache).argmax(1, keepdim=True)
        ours.append(unread_BT)
    assert torch.equal(torch.cat(ours, 1), theirs_BT)
    assert len(theirs_BT.unique()) > 3


def test_weights_in_bfloat16_and_in_several_files_are_read_as_they_are(tmp_path: Path) -> None:
    model = small_checkpoints.model_of("mixtral").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="60KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    whole, parts = (load_native(tmp_path / name).state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    head = model.state_dict()["lm_head.weight"]
    assert torch.equal(whole["head"], head.float())


# ------------------------------------------------------------------------------------------ there and back


@pytest.mark.parametrize("name", MODELS)
def test_what_we_export_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = built(MODELS[name])
    for key, buffer in model.named_buffers():
        if key.endswith("bias_E"):
            buffer.copy_(torch.linspace(-1, 1, len(buffer)))
    export_checkpoint(model, tmp_path)
    again = load_native(tmp_path)
    assert set(again.state_dict()) == set(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    with torch.inference_mode():  # another word for the same router rounds otherwise
        ours, theirs = (one.eval()(tokens(2, 64)).logits_BTV for one in (again, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert config(again.architecture) == config(model.architecture)


@pytest.mark.parametrize("name", CASES)
def test_what_we_import_is_exported_as_it_was(made: Any, tmp_path: Path, name: str) -> None:
    folder, _ = made(name)
    model = load_native(folder)
    export_checkpoint(model, tmp_path)
    before, after = (safetensors.torch.load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert set(before) == set(after)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert described(tmp_path)[0] == model.architecture


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_what_a_configuration_leaves_out_is_what_transformers_takes(family: Any) -> None:
    """Our words of transformers' own defaults written out, and of none."""
    from transformers import AutoConfig

    defaults = AutoConfig.for_model(family.model_type).to_dict()
    defaults["architectures"] = [family.architecture]
    bare: dict[str, Any] = {"model_type": family.model_type}
    if family.model_type == "glm4_moe":  # whose default is refused
        defaults["rope_parameters"]["partial_rotary_factor"] = 1.0
        bare["partial_rotary_factor"] = 1.0
    assert describe(defaults) == describe(bare)


# ------------------------------------------------------------------------------------------ refusals

REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "the family 'gemma2' is not one that our decoder computes: Llama, Qwen3": ("llama", {"model_type": "gemma2"}),
    "auto_map: code of its publisher": ("llama", {"auto_map": {"AutoModelForCausalLM": "m.M"}}),
    r"quantization_config: quantised weights \('mxfp4'\)": (
        "gpt_oss", {"quantization_config": {"quant_method": "mxfp4"}}
    ),
    "rope scaling 'dynamic': our decoder stretches positions by linear, llama3 or yarn": (
        "llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}
    ),
    "partial_rotary_factor 0.5: our decoder rotates whole heads": ("qwen3", {"partial_rotary_factor": 0.5}),
    "rope_parameters that differ from layer to layer": (
        "qwen3", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}
    ),
    "hidden_act 'gelu': our decoder computes Llama with hidden_act silu alone": ("llama", {"hidden_act": "gelu"}),
    "mlp_bias True": ("llama", {"mlp_bias": True}),
    "clip_qkv 8.0": ("olmoe", {"clip_qkv": 8.0}),
    "swiglu_limit 10.0: our decoder computes gpt-oss with swiglu_limit 7.0 alone": ("gpt_oss", {"swiglu_limit": 10.0}),
    r"sliding_window in layers \[1\] of 3": (
        "qwen3", {"use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 3,
                  "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    ),
    r"dense layers \[2\] of 3": ("qwen3_moe", {"mlp_only_layers": [1], "num_hidden_layers": 3}),
}  # fmt: skip
"""What the message says, a family, and what is changed in its configuration."""


@pytest.mark.parametrize("says", REFUSED)
def test_what_our_decoder_does_not_compute_is_refused_by_name(says: str) -> None:
    family, changes = REFUSED[says]
    written = json.loads(small_checkpoints.config_of(family).to_json_string(use_diff=False))
    with pytest.raises(ConfigError, match=says):
        describe(written | changes)


ODD = st.sampled_from([
    None, True, 0, -1, 3, 10**30, 0.5, float("nan"), "", "abc", [], [1], [None], ["sliding_attention"], {}, {"a": 1},
    {"rope_type": ["x"]}, {"rope_type": "yarn", "factor": "x"}, {"rope_type": "linear"}, {"rope_theta": "abc"},
    {"rope_type": "yarn", "factor": 0, "original_max_position_embeddings": 0}, {"rope_type": "yarn", "factor": None},
    {"rope_type": "yarn", "factor": 4.0, "mscale": "a", "mscale_all_dim": 1},
])  # fmt: skip
KEYS = (
    "rope_scaling", "rope_parameters", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings",
    "max_position_embeddings", "max_window_layers", "use_sliding_window", "sliding_window", "layer_types",
    "mlp_only_layers", "decoder_sparse_step", "norm_topk_prob", "head_dim", "rms_norm_eps", "qkv_bias",
    "attention_bias", "clip_qkv", "swiglu_limit", "quantization_config", "num_experts", "num_key_value_heads",
    "tie_word_embeddings", "model_type", "architectures",
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(family=st.sampled_from(PLAIN), changes=st.dictionaries(st.sampled_from(KEYS), ODD, min_size=1, max_size=3))
def test_a_configuration_that_holds_anything_is_read_or_refused(family: str, changes: dict[str, Any]) -> None:
    sizes = {**small_checkpoints._COMMON, **small_checkpoints.FAMILIES[family], "model_type": family}
    with contextlib.suppress(ConfigError):
        found = describe(sizes | changes)
        assert isinstance(json.dumps(found.words, allow_nan=False), str)


def test_files_that_are_not_those_of_the_configuration_are_refused(made: Any, tmp_path: Path) -> None:
    folder, _ = made("mixtral")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    missing = {name: value for name, value in weights.items() if "layers.1.block_sparse_moe.gate" not in name}
    for changed, says in (
        (missing, "lack model.layers.1.block_sparse_moe.gate.weight"),
        (
            weights | {"model.norm.weight": torch.zeros(31)},
            r"model.norm.weight is \[31\], and config.json makes it \[32\]",
        ),
        (weights | {"model.vision.weight": torch.zeros(3)}, "have model.vision.weight too"),
        (weights | {"model.norm.weight": torch.zeros(32, dtype=torch.int8)}, "model.norm.weight is of I8"),
    ):
        shutil.copy(folder / "config.json", tmp_path / "config.json")
        safetensors.torch.save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=says):
            load_native(tmp_path)


def test_every_family_is_one_that_is_counted_and_compared(made: Any) -> None:
    tried = {family for family, _ in CASES.values()} | {family_of(a).model_type for a in MODELS.values()}
    assert set(BY_TYPE) == tried
