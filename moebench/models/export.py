"""A trained model as a transformers checkpoint: `config.json`, `model.safetensors` and its tokenizer.

Written without transformers; the tests load it back with that library and compare logits and tokens. `FAMILIES` says
which of its classes computes what; a model goes to the first that computes all of it in evaluation, and one that none
computes is refused by name. Losses, jitter, capacity and a rate of biases act in training alone and stand in no way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer
from moebench.models.decoder.moe import Dense, MoE
from moebench.planning.matching import PlanError
from moebench.store import write_bytes, write_json
from moebench.suite.model import MoEFFN

RENORMALISES: dict[str, bool | None] = {
    "softmax_topk": None,
    "frozen_random": None,
    "topk_softmax": True,
    "gshard": True,
    "soft_mixture": True,
    "switch": False,
}
"""Routers that in evaluation are a softmax and its k largest: whether those add up to 1; None where the suite says."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A class of transformers, and which values of our options it computes."""

    name: str
    model_type: str
    architecture: str
    qk_norm: frozenset[str | None] = frozenset({None})
    routers: frozenset[str] = frozenset()
    """Words; none for a class of dense models."""
    renormalise: frozenset[bool] = frozenset({True, False})
    shared: str = "none"
    """Its shared expert: none, plain or gated."""
    dense_layers: frozenset[str] = frozenset()
    """How it says which layers are dense: first_dense, every."""
    groups: bool = False
    """Whether it has groups of experts and a scale of routed weights."""

    def routes(self, a: Architecture) -> bool:
        """Whether it has the router, if there is one."""
        return not isinstance(a.ffn, MoEFFN) or a.ffn.router in self.routers

    def lacks(self, a: Architecture) -> list[str]:
        """What of an architecture it cannot say, in the words of a suite."""
        lacking = []
        if a.qk_norm not in self.qk_norm:
            lacking.append(f"qk_norm {a.qk_norm}" if a.qk_norm else "layer without qk_norm")
        lacking += [f"activation {word}" for word in sorted({ffn.activation for ffn in a.ffns} - {"swiglu"})]
        if isinstance(a.ffn, MoEFFN):
            lacking += self._lacks_of_mixture(a, a.ffn)
        return lacking

    def _lacks_of_mixture(self, a: Architecture, ffn: MoEFFN) -> list[str]:
        lacking = [] if self.routes(a) else [f"router {ffn.router}"]
        if not lacking and renormalises(ffn) not in self.renormalise:
            by_word = RENORMALISES[ffn.router] is not None
            lacking.append(f"router {ffn.router}" if by_word else f"renormalise {ffn.renormalise}")
        given: dict[str, Any] = {"bias": ffn.bias or None}
        given |= {field: getattr(ffn, field) for field in {"every", "first_dense"} - self.dense_layers}
        given |= {} if self.groups else {"groups": ffn.groups, "scale": ffn.scale}
        lacking += [f"{field} {value}" for field, value in sorted(given.items()) if value is not None]
        shared = "none" if ffn.shared_hidden is None else "gated" if ffn.shared_gate else "plain"
        if shared != self.shared:
            says = {
                "none": "layer without shared_hidden",
                "plain": "shared_hidden without gate",
                "gated": "shared_gate",
            }
            lacking.append(says[shared])
        return lacking + self._lacks_of_sizes(a, ffn)

    def _lacks_of_sizes(self, a: Architecture, ffn: MoEFFN) -> list[str]:
        assert ffn.expert_hidden is not None
        if self.model_type == "olmoe" and a.heads * a.head_dim != a.width:
            return [f"head_dim {a.head_dim} that is not width / heads"]
        if self.model_type == "glm4_moe" and ffn.shared_hidden and ffn.shared_hidden % ffn.expert_hidden:
            return [f"shared_hidden {ffn.shared_hidden} that is no multiple of expert_hidden {ffn.expert_hidden}"]
        if self.model_type == "glm4_moe" and ffn.experts < 2:
            return ["single expert"]
        return []


_SOFTMAX = frozenset(RENORMALISES)
_ANY_LAYERS = frozenset({"first_dense", "every"})

FAMILIES = (
    Family(name="Llama", model_type="llama", architecture="LlamaForCausalLM"),
    Family(name="Qwen3", model_type="qwen3", architecture="Qwen3ForCausalLM", qk_norm=frozenset({"per_head"})),
    Family(
        name="Mixtral", model_type="mixtral", architecture="MixtralForCausalLM",
        routers=_SOFTMAX, renormalise=frozenset({True}),
    ),
    Family(
        name="OLMoE", model_type="olmoe", architecture="OlmoeForCausalLM",
        qk_norm=frozenset({"full"}), routers=_SOFTMAX,
    ),
    Family(
        name="Qwen3-MoE", model_type="qwen3_moe", architecture="Qwen3MoeForCausalLM",
        qk_norm=frozenset({"per_head"}), routers=_SOFTMAX, dense_layers=_ANY_LAYERS,
    ),
    Family(
        name="Qwen2-MoE", model_type="qwen2_moe", architecture="Qwen2MoeForCausalLM",
        routers=_SOFTMAX, shared="gated", dense_layers=_ANY_LAYERS,
    ),
    Family(
        name="GLM-4-MoE", model_type="glm4_moe", architecture="Glm4MoeForCausalLM",
        qk_norm=frozenset({None, "per_head"}), routers=frozenset({"sigmoid_bias"}), shared="plain",
        dense_layers=frozenset({"first_dense"}), groups=True,
    ),
)  # fmt: skip


def renormalises(ffn: MoEFFN) -> bool:
    """Whether the weights of the chosen experts add up to 1, whatever word says so."""
    fixed = RENORMALISES.get(ffn.router)
    return ffn.renormalise if fixed is None else fixed


def family_of(a: Architecture) -> Family:
    """The class of transformers that computes an architecture. Raises PlanError naming what the nearest lacks."""
    families = [f for f in FAMILIES if bool(f.routers) == isinstance(a.ffn, MoEFFN)]
    nearest = min(families, key=lambda f: (not f.routes(a), len(f.lacks(a))))
    if lacking := ", no ".join(nearest.lacks(a)):
        raise PlanError(f"transformers has no class for this model: the nearest, {nearest.name}, has no {lacking}")
    return nearest


def export_checkpoint(model: Transformer, folder: Path) -> None:
    """Writes the checkpoint. Raises PlanError for a design that no class of transformers computes; writes nothing."""
    described, family = config(model.architecture), family_of(model.architecture)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in _tensors(model, family)}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(tensors, metadata={"format": "pt"}))
    write_json(folder / "config.json", described)
    write_json(folder / "tokenizer.json", tokenizer())
    write_json(folder / "tokenizer_config.json", tokenizer_config(model.architecture))
    readme = folder / "README.md"
    if not readme.exists() or readme.read_text(errors="replace").startswith(_HEADING):
        write_bytes(readme, _readme(model.architecture, family).encode())


# ------------------------------------------------------------------------------------------------ configuration


def config(a: Architecture) -> dict[str, Any]:
    """transformers' configuration of an architecture. Raises PlanError where there is none."""
    family = family_of(a)
    common = {
        "model_type": family.model_type,
        "architectures": [family.architecture],
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
        "pad_token_id": None,
        "torch_dtype": "float32",
    }
    if not isinstance(a.ffn, MoEFFN):
        return {**common, "intermediate_size": a.ffn.hidden, "attention_bias": False, "mlp_bias": False}
    return {**common, **_mixture_config(a, a.ffn, family)}


def _mixture_config(a: Architecture, ffn: MoEFFN, family: Family) -> dict[str, Any]:
    chosen = {"num_experts_per_tok": ffn.top_k, "norm_topk_prob": renormalises(ffn)}
    if family.model_type == "mixtral":
        sizes = {"num_local_experts": ffn.experts, "intermediate_size": ffn.expert_hidden}
        return {**chosen, **sizes, "sliding_window": None}
    if family.model_type == "olmoe":
        return {**chosen, "num_experts": ffn.experts, "intermediate_size": ffn.expert_hidden, "attention_bias": False}
    # A model without dense layers never uses the width of theirs.
    sizes = {"moe_intermediate_size": ffn.expert_hidden, "intermediate_size": ffn.dense_hidden or ffn.expert_hidden}
    if family.model_type == "glm4_moe":
        assert ffn.shared_hidden is not None
        assert ffn.expert_hidden is not None
        grouped = {
            "n_routed_experts": ffn.experts,
            "n_shared_experts": ffn.shared_hidden // ffn.expert_hidden,
            "routed_scaling_factor": ffn.scale or 1.0,
            "n_group": ffn.groups or 1,
            "topk_group": ffn.groups_chosen or 1,
            "first_k_dense_replace": ffn.first_dense or 0,
            "use_qk_norm": a.qk_norm is not None,
            "partial_rotary_factor": 1.0,
            "num_nextn_predict_layers": 0,
        }
        return {**chosen, **sizes, **grouped, "attention_bias": False}
    rest: dict[str, Any] = {
        "num_experts": ffn.experts,
        "decoder_sparse_step": 1,
        "mlp_only_layers": sorted(set(range(a.layers)) - set(a.moe_layers)),
        "use_sliding_window": False,
    }
    if family.model_type == "qwen2_moe":
        return {**chosen, **sizes, **rest, "shared_expert_intermediate_size": ffn.shared_hidden, "qkv_bias": False}
    return {**chosen, **sizes, **rest, "attention_bias": False}


# ------------------------------------------------------------------------------------------------ tokenizer

SEPARATOR = "\0"
"""Byte 0, which stands before every document: begin, end and padding at once."""
TOKENS = "ids 0 to 255 are the bytes of UTF-8 text; bos, eos and pad are id 0, the byte between documents"


def tokenizer() -> dict[str, Any]:
    """Bytes as tokens, in the format of the tokenizers library: a byte-level BPE without merges.

    Id n is byte n. The separator stands under its own character, so that it is special where it occurs in a text and
    no other text is taken for it.
    """
    bytewise = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    special = {"id": 0, "content": SEPARATOR, "special": True, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**special, "single_word": False, "lstrip": False, "rstrip": False}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **bytewise},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **bytewise},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {SEPARATOR if byte == 0 else letter: byte for byte, letter in enumerate(_letters())},
            "merges": [],
        },
    }


def _letters() -> list[str]:
    """The character that byte-level BPE writes for each byte (Radford et al. 2019): itself where it prints."""
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def tokenizer_config(a: Architecture) -> dict[str, Any]:
    """What transformers asks beside `tokenizer.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SEPARATOR,
        "eos_token": SEPARATOR,
        "pad_token": SEPARATOR,
        "model_max_length": a.context,
        "clean_up_tokenization_spaces": False,
    }


_HEADING = "# A model trained by moebench"


def _readme(a: Architecture, family: Family) -> str:
    return f"""{_HEADING}

A `{family.architecture}` of {a.layers} layers of width {a.width}, context {a.context}:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained("path/to/this/folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
```

Tokens are bytes: {TOKENS}.
The tokenizer adds none by itself. A document began with id 0 in training, so give it before a text that begins one;
lm-eval takes it as its prefix token by itself.
"""


# ------------------------------------------------------------------------------------------------ weights


def _tensors(model: Transformer, family: Family) -> Iterator[tuple[str, Tensor]]:
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
        for norm, theirs in ((layer.attention.query_norm, "q"), (layer.attention.key_norm, "k")):
            if norm is not None:
                yield f"{prefix}.self_attn.{theirs}_norm.weight", norm.weight
        if isinstance(layer.ffn, Dense):
            yield from _network(f"{prefix}.mlp", layer.ffn.gate_up, layer.ffn.down)
        elif family.model_type == "mixtral":
            yield from _mixture(f"{prefix}.block_sparse_moe", layer.ffn, names=("w1", "w3", "w2"))
        else:
            yield from _mixture(f"{prefix}.mlp", layer.ffn)


_NAMES = ("gate_proj", "up_proj", "down_proj")


def _network(
    prefix: str, gate_up: Tensor, down: Tensor, *, names: tuple[str, str, str] = _NAMES
) -> Iterator[tuple[str, Tensor]]:
    for name, value in zip(names, (*gate_up.chunk(2), down), strict=True):
        yield f"{prefix}.{name}.weight", value


def _mixture(prefix: str, ffn: MoE, *, names: tuple[str, str, str] = _NAMES) -> Iterator[tuple[str, Tensor]]:
    """On disk every family keeps one expert after the other."""
    state = ffn.router.state_dict()
    yield f"{prefix}.gate.weight", state["weight"]
    if "bias_E" in state:
        yield f"{prefix}.gate.e_score_correction_bias", state["bias_E"]
    for expert, (gate_up, down) in enumerate(zip(ffn.gate_up, ffn.down, strict=True)):
        yield from _network(f"{prefix}.experts.{expert}", gate_up, down, names=names)
    if ffn.shared is not None:
        shared = "shared_experts" if ffn.shared_gate is None else "shared_expert"  # GLM counts them, Qwen has one
        yield from _network(f"{prefix}.{shared}", ffn.shared.gate_up, ffn.shared.down)
    if ffn.shared_gate is not None:
        yield f"{prefix}.shared_expert_gate.weight", ffn.shared_gate
