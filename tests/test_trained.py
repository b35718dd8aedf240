"""Trained models: found by their id, whole or not at all; text from them; checkpoints that transformers loads to
the same logits.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from moebench.data.tokenizer import Subwords, train
from moebench.jobs.recipe import Run
from moebench.models.architecture import Architecture
from moebench.models.convert.config import config, family_of
from moebench.models.convert.export import export_checkpoint
from moebench.models.decoder import Output, Transformer
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import generate, load_trained
from moebench.planning.matching import PlanError
from moebench.store import CorruptFile, JobFolder, Results, write_bytes, write_json
from moebench.suite.attention import RopeScaling
from moebench.suite.model import DenseFFN, MoEFFN
from tests.support.small_models import architecture, built, dense, moe, odd, run, tokens

pytestmark = pytest.mark.numeric

PLAIN, MIXTURE = architecture(dense()), architecture(moe(), kv_heads=2)


def wordy(a: Architecture = MIXTURE) -> Transformer:
    """A model that never ends a document: byte 0 cannot be drawn."""
    model = built(a)

    def silence(_module: object, _inputs: object, output: Output) -> Output:
        logits_BTV = output.logits_BTV.clone()
        logits_BTV[..., 0] = -torch.inf
        return replace(output, logits_BTV=logits_BTV)

    model.register_forward_hook(silence)
    return model


def about(chosen: Run) -> dict[str, Any]:
    return {"job": {"kind": "train", "spec": chosen.model_dump(mode="json"), "inputs": []}}


def stored(root: Path, a: Architecture = MIXTURE, *, seed: int = 0) -> tuple[JobFolder, Transformer]:
    """A finished run whose weights are not its initial ones."""
    chosen, model = run(a, seed=seed), built(a)
    folder = Results(root).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    write_bytes(folder.path / "model.safetensors", safetensors.torch.save(model.state_dict()))
    folder.finish("completed")
    return folder, model


def greedy(model: Transformer, prompt: bytes, tokens: int) -> bytes:
    return generate(DecoderSubject(model), prompt, tokens=tokens, temperature=0, seed=0)


# ------------------------------------------------------------------------------------------ generation


def likeliest(model: Transformer, text: bytes) -> int:
    """The next byte by the full forward, without a cache."""
    with torch.inference_mode():
        return int(model(torch.tensor([[0, *text]])).logits_BTV[0, -1].argmax())


def test_greedy_text_takes_the_likeliest_byte_at_every_step() -> None:
    """Ten prompts, because a tie in rounding could hide a wrong cache in one."""
    model = built(MIXTURE)
    for first in range(97, 107):
        text = bytes([first, 32])
        for _ in range(8):
            following = likeliest(model, text)
            if following == 0:
                break
            text += bytes([following])
        assert greedy(model, bytes([first, 32]), 8) == text


def test_greedy_text_is_the_same_whatever_the_seed() -> None:
    model = built(MIXTURE)
    texts = {generate(DecoderSubject(model), b"def ", tokens=40, temperature=0, seed=seed) for seed in range(3)}
    assert len(texts) == 1


def test_drawn_text_follows_its_seed() -> None:
    model = wordy()
    texts = [generate(DecoderSubject(model), b"def ", tokens=40, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_low_temperature_is_nearly_greedy() -> None:
    model = wordy()
    assert generate(DecoderSubject(model), b"def ", tokens=8, temperature=1e-4, seed=1) == greedy(model, b"def ", 8)


def test_text_goes_past_the_context() -> None:
    text = generate(DecoderSubject(wordy()), b"def ", tokens=100, temperature=1.0, seed=0)
    assert len(text) == 4 + 100
    assert text.startswith(b"def ")


@pytest.mark.parametrize("length", [1, 7, 8, 12, 14])
def test_a_prompt_that_fits_the_context_is_read_whole(length: int) -> None:
    model, prompt = wordy(), bytes(range(97, 97 + length))
    assert greedy(model, prompt, 1) == prompt + bytes([likeliest(model, prompt)])


@pytest.mark.parametrize("length", [15, 16, 17, 50])
def test_a_prompt_beyond_the_context_is_taken_too(length: int) -> None:
    prompt = bytes(97 + i % 26 for i in range(length))
    text = greedy(wordy(), prompt, 5)
    assert text.startswith(prompt)
    assert len(text) == length + 5


def test_a_document_that_ends_is_not_gone_on_with() -> None:
    model = built(architecture(dense(), tied_embeddings=False))
    assert model.head is not None
    with torch.no_grad():
        model.head.zero_()  # all alike: the first of the likeliest is byte 0
    assert greedy(model, b"def ", 40) == b"def "


def test_an_empty_prompt_begins_a_document() -> None:
    assert len(greedy(wordy(), b"", 5)) == 5


# ------------------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("a", [PLAIN, MIXTURE], ids=["dense", "moe"])
def test_a_trained_model_has_the_weights_that_were_stored(tmp_path: Path, a: Architecture) -> None:
    folder, model = stored(tmp_path, a)
    found = load_trained(tmp_path, folder.id)
    assert found.architecture == a
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.state_dict().items())
    assert not found.training


def test_the_beginning_of_an_id_will_do_when_it_is_one_runs(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    stored(tmp_path, PLAIN)
    load_trained(tmp_path, folder.id[:12])
    with pytest.raises(CorruptFile, match="2 runs begin with ''"):
        load_trained(tmp_path, "")


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(CorruptFile, match="no run begins with 'zzz'"):
        load_trained(tmp_path, "zzz")
    with pytest.raises(CorruptFile, match="no run begins with"):
        load_trained(tmp_path / "nowhere", "abc")


def test_spoilt_weights_are_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    path = folder.path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match="contents differ"):
        load_trained(tmp_path, folder.id)


def test_cut_weights_are_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    path = folder.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CorruptFile, match="bytes, not"):
        load_trained(tmp_path, folder.id)


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    folder, _ = stored(tmp_path)
    (folder.path / "DONE").unlink()
    with pytest.raises(CorruptFile, match="not finished"):
        load_trained(tmp_path, folder.id)


def test_a_run_whose_weights_were_left_out_is_refused(tmp_path: Path) -> None:
    chosen = run(PLAIN)
    folder = Results(tmp_path).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    write_bytes(folder.path / "model.safetensors", b"weights")
    folder.finish("completed", weights="omitted")
    (folder.path / "model.safetensors").unlink(missing_ok=True)
    with pytest.raises(CorruptFile, match="left out"):
        load_trained(tmp_path, folder.id)


def test_a_diverged_run_has_no_model_and_says_why(tmp_path: Path) -> None:
    chosen = run(PLAIN)
    folder = Results(tmp_path).job(chosen.id)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "job.json", about(chosen))
    folder.finish("diverged", reason="step 3: loss nan")
    with pytest.raises(CorruptFile, match="diverged: step 3: loss nan"):
        load_trained(tmp_path, folder.id)


# ----------------------------------------------------------------------------------------------------
# Trained models as transformers checkpoints: that library, loading them, computes the same logits.


# Values that differ from transformers' own defaults, so that one left out of the file would be noticed.
UNUSUAL: dict[str, Any] = {"rope_theta": 500.0, "norm_eps": 1e-2, "context": 64}
MODELS = {
    "dense": architecture(dense(40), **UNUSUAL),
    "dense, grouped-query, untied": odd(dense(40)).model_copy(update=UNUSUAL),
    "moe": architecture(moe(8, 2, 16), **UNUSUAL),
    "7 experts, top-3, grouped-query, untied": odd(moe(7, 3, 16)).model_copy(update=UNUSUAL),
    "one expert at a time": architecture(moe(4, 1, 16), **UNUSUAL),
}
SHARED: dict[str, Any] = {"shared_hidden": 24, "shared_gate": True}
MIXED: dict[str, Any] = {"every": 2, "first_dense": 1, "dense_hidden": 24}
GROUPED: dict[str, Any] = {"router": "sigmoid_bias", "groups": 4, "groups_chosen": 2, "scale": 2.5, "shared_hidden": 32}


OSS: dict[str, Any] = {"router": "topk_softmax", "activation": "swiglu_clamped", "bias": True}


def unusual(ffn: Any, **changes: Any) -> Architecture:
    return odd(ffn).model_copy(update=UNUSUAL | changes)


def stretched(kind: str, **more: Any) -> dict[str, Any]:
    return {"rope_scaling": RopeScaling(kind=kind, factor=4.0, original_context=16, **more)}


LATER = {
    "Llama": (
        architecture(dense(40), **UNUSUAL),
        unusual(dense(40), attention_bias="all", **stretched("llama3", low_freq_factor=1.0, high_freq_factor=4.0)),
    ),
    "Qwen3": (
        unusual(dense(40), qk_norm="per_head"),
        unusual(dense(40), qk_norm="per_head", window=9, full_every=2, **stretched("yarn", beta_fast=8.0)),
    ),
    "Mistral": (unusual(dense(40), window=9, rope_scaling=RopeScaling(kind="linear", factor=2)),),
    "Qwen2": (
        unusual(dense(40), attention_bias="qkv"),
        unusual(dense(40), attention_bias="qkv", window=9, full_every=3),
    ),
    "Mixtral": (
        unusual(moe(8, 2, 16, router="topk_softmax")),
        unusual(moe(8, 2, 16, router="gshard", capacity_factor=1.0, jitter=0.1)),
        unusual(moe(4, 4, 16, router="soft_mixture")),
        unusual(moe(4, 2, 16, router="frozen_random", balance_loss=0)),
        unusual(moe(4, 2, 16), window=9),
    ),
    "gpt-oss": (
        unusual(moe(8, 3, 16, **OSS), attention_sinks=True, window=9, full_every=2, attention_bias="all",
                **stretched("yarn", truncate=False)),
        unusual(moe(4, 2, 16, **OSS), attention_sinks=True),
    ),
    "OLMoE": (
        unusual(moe(8, 3, 16, renormalise=False), qk_norm="full", head_dim=8),
        architecture(moe(8, 2, 16), qk_norm="full", **UNUSUAL),
        architecture(moe(8, 1, 16, router="switch", capacity_factor=1.25), qk_norm="full", **UNUSUAL),
    ),
    "Qwen3-MoE": (
        unusual(moe(8, 3, 16, renormalise=False), qk_norm="per_head"),
        unusual(moe(8, 3, 16, **MIXED), qk_norm="per_head", layers=4),
    ),
    "Qwen2-MoE": (
        unusual(moe(8, 3, 16, **SHARED)),
        unusual(moe(8, 1, 16, router="switch", capacity_factor=1.25, **SHARED, **MIXED), layers=4),
    ),
    "GLM-4-MoE": (
        unusual(moe(8, 3, 16, **GROUPED, bias_rate=0.001, balance_over="sequence")),
        unusual(moe(8, 3, 16, router="sigmoid_bias", renormalise=False, shared_hidden=16, first_dense=2,
                    dense_hidden=24), qk_norm="per_head"),
    ),
}  # fmt: skip
"""Family of transformers -> models that are exported as its class."""
MODELS |= {f"{family} {number}": a for family, models in LATER.items() for number, a in enumerate(models)}

REFUSED = {
    "renormalise False": architecture(moe(4, 1, renormalise=False)),
    "activation relu": architecture(moe(activation="relu")),
    "activation geglu": architecture(DenseFFN(kind="dense", hidden=24, activation="geglu")),
    "bias True": architecture(moe(bias=True)),
    "shared_hidden without gate": architecture(moe(shared_hidden=16)),
    "every 2": architecture(moe(every=2, dense_hidden=24)),
    "first_dense 1": architecture(moe(first_dense=1, dense_hidden=24)),
    "router noisy_topk": architecture(moe(router="noisy_topk")),
    "router top_p": architecture(moe(router="top_p", top_p=0.5)),
    "router expert_choice": architecture(moe(router="expert_choice")),
    "router token_hash": architecture(moe(router="token_hash")),
    "router switch": architecture(moe(4, 1, router="switch", capacity_factor=1.0)),
    "layer without shared_hidden": architecture(moe(router="sigmoid_bias")),
    "shared_hidden 20 that is no multiple of expert_hidden 8": architecture(
        moe(router="sigmoid_bias", shared_hidden=20)
    ),
    "qk_norm full": architecture(dense(), qk_norm="full"),
    "head_dim 6 that is not width / heads": architecture(moe(renormalise=False), qk_norm="full", head_dim=6),
    "window 9": architecture(moe(renormalise=False), qk_norm="full", window=9),
    "full_every 2": architecture(moe(), window=9, full_every=2),
    "attention_sinks": architecture(moe(), attention_sinks=True),
    "attention_bias all": architecture(moe(), attention_bias="all"),
    "layer without attention_sinks": architecture(moe(**OSS)),
    "bias True, no every 2": architecture(moe(bias=True, every=2, dense_hidden=24)),
}
"""What the message names, and a model that has it."""

ACTS_IN_TRAINING = {
    "balance_loss", "z_loss", "importance_loss", "load_loss", "entropy_loss", "balance_over", "capacity_factor",
    "jitter", "bias_rate", "router_scale", "noise_scale",
}  # fmt: skip
SAID = {
    "kind", "experts", "top_k", "expert_hidden", "router", "renormalise", "activation", "bias", "groups",
    "groups_chosen", "scale", "shared_hidden", "shared_gate", "every", "first_dense", "dense_hidden",
    "dense_activation", "top_p",  # of a router that no family has
}  # fmt: skip
FIELDS = sorted(MoEFFN.model_fields)


def in_transformers(folder: Path) -> Any:
    """The checkpoint, loaded offline by transformers with its plain expert loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that transformers itself imports
        transformers = pytest.importorskip("transformers")
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, experts_implementation="eager", attn_implementation="eager",
            output_loading_info=True,
        )  # fmt: skip
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def by_transformers(folder: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return in_transformers(folder)(tokens_BT).logits


@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same_logits_and_writes_the_same_text(tmp_path: Path, name: str) -> None:
    model, tokens_BT = built(MODELS[name]).eval(), tokens(2, 64)
    export_checkpoint(model, tmp_path)
    theirs = in_transformers(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(tokens_BT).logits, model(tokens_BT).logits_BTV, rtol=1e-4, atol=1e-4)
    prompts = [b"def f", b"impor"]
    prompts_BT = torch.tensor([[0, *prompt] for prompt in prompts])
    asked = {"attention_mask": torch.ones_like(prompts_BT), "max_new_tokens": 30, "do_sample": False}
    for prompt, written in zip(prompts, theirs.generate(prompts_BT, **asked).tolist(), strict=True):
        text = greedy(model, prompt, 30)
        assert [0, *text] == written[: len(text) + 1]
        assert set(written[len(text) + 1 :]) <= {0}


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_in_the_file_once(tmp_path: Path, name: str) -> None:
    model = built(MODELS[name])
    export_checkpoint(model, tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert sum(t.numel() for t in stored.values()) == sum(t.numel() for t in model.state_dict().values())
    assert {t.dtype for t in stored.values()} == {torch.float32}


def test_selection_biases_are_exported(tmp_path: Path) -> None:
    """They are no parameters, yet they decide who is selected; here they are set, and logits must follow."""
    a, tokens_BT = MODELS["GLM-4-MoE 0"], tokens(2, 64)
    model = built(a)
    with torch.inference_mode():
        before = model.eval()(tokens_BT).logits_BTV
        for name, bias_E in model.named_buffers():
            if name.endswith("bias_E"):
                bias_E.copy_(torch.linspace(-1, 1, len(bias_E)))
        after = model(tokens_BT).logits_BTV
    assert not torch.allclose(before, after, atol=1e-2)
    export_checkpoint(model, tmp_path)
    torch.testing.assert_close(by_transformers(tmp_path, tokens_BT), after, rtol=1e-4, atol=1e-4)


def test_the_configuration_names_the_architecture(tmp_path: Path) -> None:
    export_checkpoint(built(MODELS["moe"]), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == json.loads(json.dumps(config(MODELS["moe"])))
    assert written["architectures"] == ["MixtralForCausalLM"]
    assert config(MODELS["dense"])["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("named", REFUSED)
def test_what_no_family_computes_is_refused_by_name_and_nothing_written(tmp_path: Path, named: str) -> None:
    with pytest.raises(PlanError, match=f"transformers has no class for this model.* has no {named}$"):
        export_checkpoint(built(REFUSED[named]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_expert_that_is_not_renormalised_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="renormalise False"):
        export_checkpoint(built(architecture(moe(1, 1, renormalise=False))), tmp_path / "out")


@pytest.mark.parametrize("family", LATER)
def test_a_model_goes_to_the_family_that_computes_it(family: str) -> None:
    assert {family_of(a).name for a in LATER[family]} == {family}


@pytest.mark.parametrize("name", FIELDS)
def test_no_option_of_a_suite_is_forgotten(name: str) -> None:
    """Whoever adds a field says here what exporting does with it."""
    assert name in ACTS_IN_TRAINING | SAID


# ------------------------------------------------------------------------------------------------ tokenizer


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_checkpoint(built(MODELS["moe"]), folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(exported: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(exported)


TEXTS = {
    "every character of one and two bytes": "".join(map(chr, range(0x800))),
    "three and four bytes": "日本語 \ufeff€ \U0001f642 \U0010ffff",
    "white space": "\n\n  x \r\n\t y \x0b\x0c\x85\u2028 ",
    "what other tokenizers take for special": "<|endoftext|> </s> [PAD] Ā Ġ ▁",
    "separators": "\0a\0\0b\0",
    "nothing": "",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_tokenizer_gives_the_bytes_of_a_text_and_the_text_again(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace("\0", "")


def test_every_byte_has_its_id_and_the_separator_is_begin_end_and_padding(tokenizer: Any) -> None:
    assert len(tokenizer) == tokenizer.vocab_size == 256
    covered = set("".join(TEXTS.values()).encode())
    assert covered >= {*range(256)} - {0xC0, 0xC1, *range(0xF5, 0x100)} - set(range(0xE0, 0xF5))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 0, 0)
    padded = tokenizer(["ab", "abcd"], padding=True)
    assert padded["input_ids"] == [[97, 98, 0, 0], [97, 98, 99, 100]]
    assert padded["attention_mask"] == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_model_and_tokenizer_are_of_one_vocabulary_and_context(exported: Path, tokenizer: Any) -> None:
    from transformers import AutoConfig

    known = AutoConfig.from_pretrained(exported)
    assert (known.vocab_size, known.bos_token_id, known.eos_token_id) == (256, 0, 0)
    assert tokenizer.model_max_length == known.max_position_embeddings == UNUSUAL["context"]


def test_the_folder_says_what_the_ids_are_and_keeps_a_readme_that_is_not_ours(exported: Path, tmp_path: Path) -> None:
    said = (exported / "README.md").read_text()
    assert "MixtralForCausalLM" in said
    assert "bos, eos and pad are id 0" in said
    (tmp_path / "README.md").write_text("mine")
    export_checkpoint(built(MODELS["dense"]), tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "README.md").write_text(said)
    export_checkpoint(built(MODELS["dense"]), tmp_path)
    assert "LlamaForCausalLM" in (tmp_path / "README.md").read_text()


# ------------------------------------------------------------------------------------------------ words as tokens

WORDS = b"import os\nfrom os import path\n\ndef read(name):\n    return name.read()  # caf\xc3\xa9 na\xc3\xafve\n"


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Subwords]:
    """A checkpoint whose tokens are words learned from a text, with a table of more rows than there are words."""
    words, folder = train([WORDS] * 3, vocab=300), tmp_path_factory.mktemp("worded")
    model = built(MODELS["moe"].model_copy(update={"vocab": 320}))
    export_checkpoint(model, folder, words)
    return folder, words


@pytest.mark.parametrize("text", [text for text in TEXTS.values() if "endoftext" not in text])
def test_transformers_reads_the_words_that_we_read(worded: tuple[Path, Subwords], text: str) -> None:
    from transformers import AutoTokenizer

    folder, words = worded
    theirs = AutoTokenizer.from_pretrained(folder)
    for one in (text, WORDS.decode()):
        ids = theirs(one)["input_ids"]
        assert ids == words.encode(one.encode())
        assert theirs.decode(ids) == one
    assert max(words.encode(WORDS)) > 256


def test_begin_and_end_of_words_are_known_to_model_and_tokenizer(worded: tuple[Path, Subwords]) -> None:
    from transformers import AutoConfig, AutoTokenizer

    folder, words = worded
    known, theirs = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (known.bos_token_id, known.eos_token_id) == (words.start, words.end)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (words.start, words.end, words.start)
    assert (known.vocab_size, len(theirs)) == (320, words.vocab)
    assert theirs.model_max_length == UNUSUAL["context"]
    assert f"begin with id {words.start}" in (folder / "README.md").read_text().replace("began", "begin")


def test_a_checkpoint_of_words_is_read_with_the_words_it_was_written_with(worded: tuple[Path, Subwords]) -> None:
    from moebench.data.tokenizer import of_checkpoint

    folder, words = worded
    again = of_checkpoint(folder)
    assert (again.digest, again.start, again.end, again.adds_start) == (words.digest, words.start, words.end, False)
    assert again.encode(WORDS) == words.encode(WORDS)
