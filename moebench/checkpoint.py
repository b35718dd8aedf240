"""A trained model as a transformers checkpoint: `config.json` and `model.safetensors`, Llama or Mixtral layout.

Written without transformers; the tests load it back with that library and compare logits. A router that transformers'
Mixtral does not have (no renormalisation, another rule) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from moebench.matching import PlanError
from moebench.model import Transformer
from moebench.model.moe import Dense
from moebench.plan import Architecture
from moebench.spec.types import MoEFFN
from moebench.store import write_bytes, write_json


def export_checkpoint(model: Transformer, folder: Path) -> None:
    """Writes the checkpoint. Raises PlanError for a design transformers' Llama and Mixtral cannot express."""
    a = model.architecture
    if isinstance(a.ffn, MoEFFN) and (a.ffn.router != "softmax_topk" or not a.ffn.renormalise):
        raise PlanError(f"transformers' Mixtral has no router {a.ffn.router} with renormalise {a.ffn.renormalise}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in _tensors(model)}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", config(a))


def config(a: Architecture) -> dict[str, Any]:
    """transformers' configuration of an architecture."""
    common = {
        "vocab_size": a.vocab,
        "hidden_size": a.width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_dim,
        "max_position_embeddings": a.context,
        "rms_norm_eps": a.norm_eps,
        "rope_theta": a.rope_theta,
        "tie_word_embeddings": a.tied_embeddings,
        "hidden_act": "silu",
        "bos_token_id": 0,
        "eos_token_id": 0,
        "torch_dtype": "float32",
    }
    if isinstance(a.ffn, MoEFFN):
        experts = {"num_local_experts": a.ffn.experts, "num_experts_per_tok": a.ffn.top_k}
        rest = {
            "model_type": "mixtral",
            "architectures": ["MixtralForCausalLM"],
            "intermediate_size": a.ffn.expert_hidden,
        }
        return {**common, **experts, **rest, "sliding_window": None}
    rest = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "intermediate_size": a.ffn.hidden}
    return {**common, **rest, "attention_bias": False, "mlp_bias": False}


def _tensors(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    yield "model.embed_tokens.weight", model.embedding
    yield "model.norm.weight", model.norm.weight
    if model.head is not None:
        yield "lm_head.weight", model.head
    for index, layer in enumerate(model.layers):
        prefix = f"model.layers.{index}"
        yield f"{prefix}.input_layernorm.weight", layer.attention_norm.weight
        yield f"{prefix}.post_attention_layernorm.weight", layer.ffn_norm.weight
        for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            yield f"{prefix}.self_attn.{theirs}_proj.weight", getattr(layer.attention, ours)
        yield from _ffn_tensors(layer.ffn, prefix)


def _ffn_tensors(ffn: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(ffn, Dense):
        gate, up = ffn.gate_up.chunk(2)
        for name, value in (("gate", gate), ("up", up), ("down", ffn.down)):
            yield f"{prefix}.mlp.{name}_proj.weight", value
        return
    block = f"{prefix}.block_sparse_moe"  # Mixtral's layout on disk: one expert after the other
    yield f"{block}.gate.weight", ffn.router.weight
    for expert, (gate_up, down) in enumerate(zip(ffn.gate_up, ffn.down, strict=True)):
        gate, up = gate_up.chunk(2)
        for name, value in (("w1", gate), ("w3", up), ("w2", down)):
            yield f"{block}.experts.{expert}.{name}.weight", value
