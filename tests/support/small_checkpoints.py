"""Checkpoints of transformers that tests make and save: the shapes of twelve families, tiny, each with a tokenizer.

Random weights, or trained for a moment on `TEXT` so that they beat chance by far. Import it inside a fixture of module
scope: transformers takes seconds to load.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

VOCAB = 384
CONTEXT = 64

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_QWEN_MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "intermediate_size": 48}
_LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 48},
    "mistral": {"intermediate_size": 48, "sliding_window": 9},
    "qwen2": {"intermediate_size": 48},
    "qwen3": {"intermediate_size": 48, "head_dim": 8, "tie_word_embeddings": True},
    "mixtral": {"intermediate_size": 24, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    "olmoe": {"intermediate_size": 24, "num_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {**_QWEN_MOE, "head_dim": 8, "norm_topk_prob": True},
    "qwen2_moe": {**_QWEN_MOE, "shared_expert_intermediate_size": 32},
    "gpt_oss": {
        "intermediate_size": 24,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "head_dim": 8,
        "sliding_window": 16,
    },
    "granitemoe": {"intermediate_size": 24, "num_local_experts": 8, "num_experts_per_tok": 2},
    "deepseek_v2": {**_LATENT, "topk_method": "greedy"},
    "deepseek_v3": _LATENT,
}
"""`model_type` -> its sizes beside the common ones. Half of the heads share keys, DeepSeek's first layer is dense."""


_WORDS = ["the", "a", "small", "large", "red", "blue", "cat", "dog", "bird", "café", "naïve", "日本", "sees", "likes"]


def _lines(number: int) -> list[str]:
    draws = random.Random(5)
    return [" ".join(draws.choices(_WORDS, k=12)) + ".\n" for _ in range(number)]


TEXT = "".join(_lines(400))
"""About 25 kB with letters of one, two and three bytes."""


def byte_level(vocab: int = VOCAB) -> Any:
    """A byte-level BPE as GPT-2, Llama 3, Qwen and OLMo have it, of the library `tokenizers`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
    return made


def metaspace(vocab: int = VOCAB) -> Any:
    """A BPE with byte fallback and ▁ for spaces, as SentencePiece writes for Llama 2, Mistral and Mixtral."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    special = ["<s>", "</s>", "<unk>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    learned = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    prefixed = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learned.normalizer = prefixed
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, show_progress=False)
    words = [word for line in TEXT.splitlines() for word in line.split() if word.isascii()]
    learned.train_from_iterator(words, trainer)
    state = json.loads(learned.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]  # the bytes are ordinary ones
    state["decoder"] = json.loads(
        decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        ).__getstate__()
    )
    return Tokenizer.from_str(json.dumps(state))


TOKENIZERS = {"byte_level": (byte_level, "<|endoftext|>"), "metaspace": (metaspace, "<s>")}


def config_of(family: str, **changes: Any) -> Any:
    """transformers' configuration of a tiny model of a family."""
    from transformers import AutoConfig

    return AutoConfig.for_model(family, **{**_COMMON, **FAMILIES[family], **changes})


def model_of(family: str, *, seed: int = 0, steps: int = 0, **changes: Any) -> Any:
    """A tiny model in evaluation: random weights, or trained for some steps on `TEXT` as `byte_level` reads it."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config_of(family, **changes), experts_implementation="eager")
        with torch.no_grad():
            for parameter in model.parameters():  # off their initial values, norms too: none is left out unseen
                parameter.add_(torch.randn_like(parameter) * (0.1 if steps == 0 else 0.01))
        if steps:
            _train(model, steps)
    return model.eval()


def _train(model: Any, steps: int) -> None:
    import torch

    ids = torch.tensor(byte_level().encode(TEXT).ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    for _ in range(steps):
        starts = torch.randint(0, len(ids) - 33, (8,)).tolist()
        batch_BX = torch.stack([ids[start : start + 33] for start in starts])
        logits_BTV = model(input_ids=batch_BX[:, :-1], use_cache=False).logits
        torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch_BX[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


def save(folder: Path, family: str, *, tokenizer: str | None = "byte_level", shard: str = "5GB", **made: Any) -> Path:
    """Makes a model and writes its checkpoint: config.json, safetensors (in shards of at most `shard`), tokenizer."""
    model_of(family, **made).save_pretrained(folder, max_shard_size=shard)
    if tokenizer is not None:
        save_tokenizer(folder, tokenizer)
    return folder


def save_tokenizer(folder: Path, word: str = "byte_level") -> None:
    """Writes tokenizer.json and tokenizer_config.json."""
    from transformers import PreTrainedTokenizerFast

    make, special = TOKENIZERS[word]
    whole = PreTrainedTokenizerFast(
        tokenizer_object=make(), bos_token=special, eos_token=special, pad_token=special, model_max_length=CONTEXT
    )
    whole.save_pretrained(folder)
