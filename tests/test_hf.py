"""A transformers checkpoint as a subject: scores, cache and routing of every family are those of transformers itself,
and its tokenizer stands for the bytes of any text.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.checkpoints.described import describe
from moebench.checkpoints.families import family_of
from moebench.checkpoints.located import CheckpointError, locate
from moebench.counting.flops import attentions, forward_flops, pair_flops, twice_pairs
from moebench.counting.memory import kv_bytes_per_token
from moebench.counting.weights import parameters
from moebench.models.generation import generate
from moebench.models.hf import loading
from moebench.models.hf.subject import CheckpointSubject
from moebench.models.hf.tokenizer import load_tokenizer
from moebench.systems.configs import families, read_config
from tests.support import small_checkpoints

FAMILIES = tuple(small_checkpoints.FAMILIES)
MIXTURES = tuple(word for word in FAMILIES if word not in ("llama", "qwen3"))
NEAR = {"rtol": 0.0, "atol": 1e-4}


def subject_of(folder: Path, **options: Any) -> CheckpointSubject:
    _, blueprint = describe(locate(str(folder), base=Path()), cache=None)
    found = loading.load(folder, blueprint, **{"dtype": "float32", **options})
    assert isinstance(found, CheckpointSubject)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> a checkpoint of random weights."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {word: small_checkpoints.save(root / word, word) for word in FAMILIES}


@pytest.fixture(scope="module")
def subjects(made: dict[str, Path]) -> dict[str, CheckpointSubject]:
    return {word: subject_of(folder, experts="eager") for word, folder in made.items()}


@pytest.fixture(params=FAMILIES)
def subject(request: pytest.FixtureRequest, subjects: dict[str, CheckpointSubject]) -> CheckpointSubject:
    return subjects[request.param]


@pytest.fixture(params=MIXTURES)
def mixture(request: pytest.FixtureRequest, subjects: dict[str, CheckpointSubject]) -> CheckpointSubject:
    return subjects[request.param]


def ids(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 300, shape, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def logits_of(subject: CheckpointSubject, tokens_BT: torch.Tensor) -> torch.Tensor:
    """By transformers' own forward of the whole model."""
    logits: torch.Tensor = subject.weights(input_ids=tokens_BT, use_cache=False).logits
    return logits


# ------------------------------------------------------------------------------------------ counts


def test_counts_are_those_of_the_built_model(subject: CheckpointSubject) -> None:
    assert sum(one.numel() for one in subject.weights.parameters()) == parameters(subject.counts).total


def test_counts_on_the_meta_device_are_the_planned_ones(made: dict[str, Path], subject: CheckpointSubject) -> None:
    word = str(subject.weights.config.model_type)
    assert loading.built_parameters(made[word]) == parameters(subject.counts).total


def test_counted_flops_are_those_of_torchs_counter(subject: CheckpointSubject) -> None:
    """With experts one by one and plain attention, whose square the counter sees whole."""
    from torch.utils.flop_counter import FlopCounterMode

    subject.weights.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        subject.weights(input_ids=ids(2, 16), use_cache=False)
    planned = forward_flops(subject.counts, sequences=2, length=16)
    assert counter.get_total_flops() == planned + _other_half(subject, sequences=2, length=16)


def _other_half(subject: CheckpointSubject, *, sequences: int, length: int) -> int:
    """FLOPs of the half of the square that causal attention does not need."""
    extra = 0
    for times, mixer, causal in attentions(subject.counts):
        pairs = twice_pairs(mixer, length=length, causal=causal)
        extra += times * pair_flops(mixer) * (2 * length * length - pairs) // 2
    return sequences * extra


def test_what_the_cache_adds_for_a_token_is_what_is_counted(subject: CheckpointSubject) -> None:
    held = sum(one.numel() * one.element_size() for one in subject.new_cache(1, room=10).tensors)
    assert held == 10 * kv_bytes_per_token(subject.counts, "float32")


# ------------------------------------------------------------------------------------------ scores


def test_scores_are_those_of_the_whole_forward(subject: CheckpointSubject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of tokens goes through the head at once."""
    monkeypatch.setattr("moebench.models.hf.subject.LOGITS_AT_ONCE", 5 * small_checkpoints.VOCAB)
    tokens_BT, targets_BT = ids(3, 17), ids(3, 17, seed=1)
    logits_BTV = logits_of(subject, tokens_BT)
    targets_BT[:, :5] = logits_BTV.argmax(-1)[:, :5]
    scores = subject.score(tokens_BT, targets_BT, greedy=True)
    expected_BT = logits_BTV.log_softmax(-1).gather(-1, targets_BT[..., None])[..., 0]
    torch.testing.assert_close(scores.logprob_BT, expected_BT, **NEAR)
    assert scores.greedy_BT is not None
    assert torch.equal(scores.greedy_BT, logits_BTV.argmax(-1) == targets_BT)
    assert subject.score(tokens_BT, targets_BT).greedy_BT is None


def test_later_tokens_change_no_earlier_score(subject: CheckpointSubject) -> None:
    tokens_BT, targets_BT = ids(1, 20), ids(1, 20, seed=1)
    other_BT = torch.cat([tokens_BT[:, :10], ids(1, 10, seed=2)], 1)
    first, second = (subject.score(text_BT, targets_BT).logprob_BT[:, :10] for text_BT in (tokens_BT, other_BT))
    torch.testing.assert_close(first, second, **NEAR)


@pytest.mark.parametrize("experts", ["grouped_mm", "batched_mm"])
def test_experts_computed_otherwise_score_alike(made: dict[str, Path], experts: Any) -> None:
    tokens_BT = ids(2, 16)
    usual, other = (subject_of(made["olmoe"], experts=how) for how in ("eager", experts))
    assert loading.experts_of(other.weights) == experts
    torch.testing.assert_close(
        usual.score(tokens_BT, tokens_BT).logprob_BT, other.score(tokens_BT, tokens_BT).logprob_BT, **NEAR
    )


def test_weights_come_in_the_dtype_that_was_asked(made: dict[str, Path]) -> None:
    found = subject_of(made["mixtral"], dtype="bfloat16")
    assert found.dtype == torch.bfloat16
    assert found.score(ids(1, 8), ids(1, 8)).logprob_BT.dtype == torch.float32
    assert found.new_cache(1).tensors[0].dtype == torch.bfloat16


# ------------------------------------------------------------------------------------------ cache


def test_steps_through_the_cache_are_the_whole_forward(subject: CheckpointSubject) -> None:
    """Beyond gpt-oss's window of 16, too."""
    tokens_BT = ids(2, 40)
    expected = logits_of(subject, tokens_BT)
    cache = subject.new_cache(2, room=40)
    found = [subject.extend(tokens_BT[:, :20], cache)]
    found += [subject.extend(tokens_BT[:, i : i + 1], cache) for i in range(20, 40)]
    assert cache.length == 40
    torch.testing.assert_close(torch.stack(found, 1), expected[:, 19:], **NEAR)


def test_a_cut_cache_goes_on_from_there(subject: CheckpointSubject) -> None:
    tokens_BT = ids(2, 40)
    cache = subject.new_cache(2)
    subject.extend(tokens_BT, cache)
    cache.cut(21)
    assert cache.length == 21
    changed_BT = torch.cat([tokens_BT[:, :21], ids(2, 6, seed=5)], 1)
    found = subject.extend(changed_BT[:, 21:], cache)
    torch.testing.assert_close(found, logits_of(subject, changed_BT)[:, -1], **NEAR)


def test_scores_after_a_shared_beginning_are_those_of_the_whole(subject: CheckpointSubject) -> None:
    beginnings_BT, endings_BT = ids(2, 20), ids(3, 7, seed=3)
    first = subject.new_cache(2)
    subject.extend(beginnings_BT, first)
    row_B = torch.tensor([1, 0, 1])
    shared = subject.new_cache(3, room=27)
    shared.share(first, row_B)
    whole_BT = torch.cat([beginnings_BT[row_B], endings_BT], 1)
    targets_BT = ids(3, 27, seed=4)
    found = subject.score(endings_BT, targets_BT[:, 20:], cache=shared).logprob_BT
    torch.testing.assert_close(found, subject.score(whole_BT, targets_BT).logprob_BT[:, 20:], **NEAR)
    again = subject.new_cache(2)
    single = subject.new_cache(1)
    subject.extend(beginnings_BT[:1], single)
    again.share(single)
    found = subject.extend(endings_BT[:2, :1], again)
    expected = logits_of(subject, torch.cat([beginnings_BT[[0, 0]], endings_BT[:2, :1]], 1))[:, -1]
    torch.testing.assert_close(found, expected, **NEAR)


def test_a_full_cache_takes_no_more(subjects: dict[str, CheckpointSubject]) -> None:
    cache = subjects["llama"].new_cache(1)
    subjects["llama"].extend(ids(1, 64), cache)
    with pytest.raises(ValueError, match="64 \\+ 1 tokens"):
        subjects["llama"].extend(ids(1, 1), cache)


# ------------------------------------------------------------------------------------------ routing


def test_the_tap_sees_the_experts_that_are_chosen(mixture: CheckpointSubject) -> None:
    """Equal to the choice computed by hand from what each mixture was given, and to the experts that computed."""
    given: dict[int, torch.Tensor] = {}
    computed: dict[int, torch.Tensor] = {}
    hooks = []
    for layer, block in mixture._mixtures.items():

        def note(_module: Any, inputs: Any, layer: int = layer) -> None:
            given[layer] = inputs[0].reshape(-1, inputs[0].shape[-1])

        def chosen(_module: Any, inputs: Any, layer: int = layer) -> None:
            computed[layer] = inputs[1]

        hooks += [block.register_forward_pre_hook(note), block.experts.register_forward_pre_hook(chosen)]
    tokens_BT = ids(2, 12)
    routings = mixture.routings(tokens_BT)
    for hook in hooks:
        hook.remove()
    assert tuple(routing.layer for routing in routings) == mixture.mixtures
    for routing in routings:
        by_token = [set(routing.expert_N[routing.token_N == token].tolist()) for token in range(24)]
        assert by_token == [set(row) for row in computed[routing.layer].tolist()]
        assert by_token == by_hand(mixture, routing.layer, given[routing.layer])
        assert routing.dropped == 0
    again = mixture.score(tokens_BT, tokens_BT).routings
    assert all(torch.equal(a.expert_N, b.expert_N) for a, b in zip(routings, again, strict=True))


@torch.inference_mode()
def by_hand(subject: CheckpointSubject, layer: int, given_TD: torch.Tensor) -> list[set[int]]:
    """The k largest logits; DeepSeek-V3 by sigmoid and bias within the better of its groups."""
    router = subject.family.router(subject._mixtures[layer])
    bias = getattr(router, "bias", None)
    found = []
    for token_D in given_TD:
        logits_E = router.weight.float() @ token_D.float() + (0 if bias is None else bias)
        if subject.weights.config.model_type == "deepseek_v3":
            scores_E = logits_E.sigmoid() + router.e_score_correction_bias
            groups = scores_E.view(2, 4)
            best = int(groups.topk(2, dim=1).values.sum(1).argmax())
            logits_E = torch.full_like(scores_E, -torch.inf)
            logits_E[4 * best : 4 * best + 4] = groups[best]
        found.append(set(logits_E.topk(2).indices.tolist()))
    return found


def test_no_hook_stays_behind(mixture: CheckpointSubject) -> None:
    mixture.routings(ids(1, 4))
    with pytest.raises(IndexError):
        mixture.score(ids(1, 4) + 1000, ids(1, 4))
    assert not any(module._forward_hooks for module in mixture.weights.modules())


def test_dense_models_route_nothing(subjects: dict[str, CheckpointSubject]) -> None:
    dense = subjects["qwen3"]
    assert (dense.mixtures, dense.experts, dense.routings(ids(1, 4))) == ((), 0, ())


def test_deepseeks_first_layer_is_no_mixture(subjects: dict[str, CheckpointSubject]) -> None:
    assert subjects["deepseek_v3"].mixtures == (1,)
    assert subjects["deepseek_v3"].experts == 8


# ------------------------------------------------------------------------------------------ tokenizers


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root, found = tmp_path_factory.mktemp("tokenizers"), {}
    for word in small_checkpoints.TOKENIZERS:
        (root / word).mkdir()
        small_checkpoints.save_tokenizer(root / word, word)
        found[word] = load_tokenizer(root / word, rows=small_checkpoints.VOCAB)
    return found


TEXTS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.text(alphabet=" the<|>▁日é\n\x00", max_size=20).map(str.encode),
)


@given(text=TEXTS)
def test_byte_level_tokens_are_the_bytes_of_any_text(tokenizers: dict[str, Any], text: bytes) -> None:
    tokenizer = tokenizers["byte_level"]
    found = tokenizer.encode(text)
    assert tokenizer.decode(found) == text
    assert tokenizer.token_bytes[found].sum() == len(text)


@given(text=TEXTS)
def test_metaspace_tokens_are_the_bytes_and_a_space_before(tokenizers: dict[str, Any], text: bytes) -> None:
    """▁ itself is read as a space, as SentencePiece has it."""
    tokenizer, text = tokenizers["metaspace"], text.replace("▁".encode(), b"")
    found = tokenizer.encode(text)
    runs = [run for run in small_runs(text) if run]
    assert tokenizer.token_bytes[found].sum() == len(text) + len(runs)
    if len(runs) == 1 and not text[:1] > b"\x7f":
        assert tokenizer.decode(found) == text


def small_runs(text: bytes) -> list[str]:
    """The parts of a text that are UTF-8: each has a space put before it."""
    return re.split("[\udc80-\udcff]+", text.decode("utf-8", "surrogateescape"))


def test_ids_are_those_of_transformers(made: dict[str, Path], tokenizers: dict[str, Any], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for word, tokenizer in tokenizers.items():
        small_checkpoints.save_tokenizer(tmp_path, word)
        theirs, text = AutoTokenizer.from_pretrained(tmp_path), "the café likes 日本, xyz"
        assert tokenizer.encode(text.encode()) == theirs.encode(text, add_special_tokens=False)
        assert tokenizer.decode(theirs.encode(text, add_special_tokens=False)) == text.encode()
        assert tokenizer.start == theirs.bos_token_id
        assert tokenizer.end == theirs.eos_token_id


def test_a_text_that_spells_a_special_token_is_text(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["byte_level"]
    assert tokenizer.start not in tokenizer.encode(b"<|endoftext|>")
    assert tokenizer.token_bytes[tokenizer.start] == 0


def edited(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    for key, change in changes.items():
        change(value[key])
    path.write_text(json.dumps(value))


def test_tokenizers_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    small_checkpoints.save_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="ids up to 315, the model 300 rows of embeddings"):
        load_tokenizer(tmp_path, rows=300)
    edited(tmp_path, model=lambda model: model["vocab"].pop("Ā"))
    with pytest.raises(CheckpointError, match=r"tokens for \d+ of the 256 bytes"):
        load_tokenizer(tmp_path, rows=384)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="its tokenizer does not read"):
        load_tokenizer(tmp_path, rows=384)


# ------------------------------------------------------------------------------------------ loading


@pytest.mark.parametrize("word", ["qwen3_moe", "gpt_oss"])
def test_shards_load_as_one_file(tmp_path: Path, subjects: dict[str, CheckpointSubject], word: str) -> None:
    small_checkpoints.save(tmp_path, word, shard="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    torch.testing.assert_close(
        subject_of(tmp_path).score(ids(1, 9), ids(1, 9)).logprob_BT,
        subjects[word].score(ids(1, 9), ids(1, 9)).logprob_BT,
        **NEAR,
    )


def test_a_trained_checkpoint_beats_chance(tmp_path: Path) -> None:
    small_checkpoints.save(tmp_path, "mixtral", steps=40)
    found = subject_of(tmp_path)
    text = small_checkpoints.TEXT[:200].encode()
    tokens = found.tokenizer.encode(text)[:63]
    inputs_BT = torch.tensor([[found.tokenizer.start, *tokens[:-1]]])
    nats = -found.score(inputs_BT, torch.tensor([tokens])).logprob_BT.sum()
    assert float(nats) / len(tokens) < 0.75 * np.log(small_checkpoints.VOCAB)
    assert len(generate(found, b"the ", tokens=10, temperature=0, seed=0)) > 4


def test_weights_that_transformers_would_make_up_are_refused(tmp_path: Path, made: dict[str, Path]) -> None:
    """Names of another class with as many numbers: the count agrees, the names do not."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(made["llama"], tmp_path / "other")
    tensors = load_file(tmp_path / "other" / "model.safetensors")
    tensors["model.layers.0.mlp.other.weight"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack model\.layers\.0\.mlp\.up_proj\.weight"):
        subject_of(tmp_path / "other")


# ------------------------------------------------------------------------------------------ every family

SMALL_SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 32, "num_local_experts": 4, "num_experts": 4,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_shared_experts": 1,
    "shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "sliding_window": 8, "attention_chunk_size": 8, "intermediate_size_mlp": 32, "moe_num_experts": 4,
    "moe_k": 2, "moe_num_shared_experts": 1, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 32,
    "logits_scaling": 3.0, "embedding_multiplier": 2.0, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
    "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
}  # fmt: skip
DECODERS = sorted(
    word for word, one in families().items() if one.in_transformers and "is_encoder_decoder" not in one.defaults
)


@pytest.mark.parametrize("word", DECODERS)
def test_every_family_scores_steps_and_is_tapped(word: str) -> None:
    """Random weights of tiny sizes: against transformers' own forward, through the cache, and its experts' inputs."""
    from transformers import AutoConfig, AutoModelForCausalLM

    named = {**families()[word].defaults, "logits_scaling": 1, "embedding_multiplier": 1, "pad_token_id": 0,
             "bos_token_id": 0, "eos_token_id": 0, "n_group": 1, "topk_group": 1}  # fmt: skip
    latent = {"num_key_value_heads": 4} if "kv_lora_rank" in named else {}
    sizes = {**SMALL_SIZES, **latent}
    config = AutoConfig.for_model(word, **{key: value for key, value in sizes.items() if key in named})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").eval()
    blueprint, _ = read_config(json.loads(config.to_json_string(use_diff=False)), ignore_keys=True)
    subject = CheckpointSubject(
        weights=model, tokenizer=NoTokenizer(), counts=blueprint, context=32, family=family_of(word)
    )
    tokens_BT, targets_BT = ids(2, 20) % 64, ids(2, 20, seed=1) % 64
    logits_BTV = logits_of(subject, tokens_BT)
    expected_BT = logits_BTV.float().log_softmax(-1).gather(-1, targets_BT[..., None])[..., 0]
    seen: list[torch.Tensor] = []
    hooks = [
        mixture.experts.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[-2 if len(inputs) > 2 else 0]))
        for mixture in subject._mixtures.values()
    ]
    scores = subject.score(tokens_BT, targets_BT)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(scores.logprob_BT, expected_BT, **NEAR)
    cache = subject.new_cache(2, room=20)
    found = [subject.extend(tokens_BT[:, :12], cache)]
    found += [subject.extend(tokens_BT[:, i : i + 1], cache) for i in range(12, 20)]
    torch.testing.assert_close(torch.stack(found, 1), logits_BTV[:, 11:], **NEAR)
    assert len(scores.routings) == len(subject.mixtures) == sum(times for times, _ in blueprint.mixtures)
    for routing, handed in zip(scores.routings, seen, strict=True):
        assert len(routing.expert_N) == 40 * blueprint.mixtures[0][1].top_k
        if word != "llama4_text":  # its experts are given every token, most of them times 0
            assert torch.equal(routing.expert_N, handed.flatten())


class NoTokenizer:
    """All that a subject asks of one to step through a cache."""

    start = 0
