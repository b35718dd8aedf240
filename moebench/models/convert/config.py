"""The configuration of transformers for an architecture of ours, by the first class that computes all of it.

Losses, jitter, capacity and a rate of biases act in training alone and stand in no way; what no class computes is
refused by the name that a suite has for it.
"""

from __future__ import annotations

from typing import Any

from moebench.models.architecture import Architecture
from moebench.models.convert.families import FAMILIES, RENORMALISES, Family
from moebench.models.convert.words import SLIDING
from moebench.planning.feasibility import PlanError
from moebench.suite.attention import RopeScaling
from moebench.suite.model import MoEFFN


def renormalises(ffn: MoEFFN) -> bool:
    """Whether the weights of the chosen experts add up to 1, whatever word says so."""
    fixed = RENORMALISES.get(ffn.router)
    return ffn.renormalise if fixed is None else fixed


def family_of(a: Architecture) -> Family:
    """The class of transformers that computes an architecture. Raises PlanError naming what the nearest lacks."""
    families = [f for f in FAMILIES if bool(f.routers) == isinstance(a.ffn, MoEFFN)]
    nearest = min(families, key=lambda f: (not _routes(f, a), len(lacks(f, a))))
    if lacking := ", no ".join(lacks(nearest, a)):
        raise PlanError(f"transformers has no class for this model: the nearest, {nearest.name}, has no {lacking}")
    return nearest


# ------------------------------------------------------------------------------------------------ what a class lacks


def _routes(f: Family, a: Architecture) -> bool:
    """Whether it has the router, if there is one."""
    return not isinstance(a.ffn, MoEFFN) or a.ffn.router in f.routers


def lacks(f: Family, a: Architecture) -> list[str]:
    """What of an architecture a class cannot say, in the words of a suite."""
    lacking = []
    if a.qk_norm not in f.qk_norm:
        lacking.append(f"qk_norm {a.qk_norm}" if a.qk_norm else "layer without qk_norm")
    lacking += _of_attention(f, a)
    activation = f.always.get("activation", "swiglu")
    lacking += [f"activation {word}" for word in sorted({ffn.activation for ffn in a.ffns} - {activation})]
    return lacking + (_of_mixture(f, a, a.ffn) if isinstance(a.ffn, MoEFFN) else [])


def _of_attention(f: Family, a: Architecture) -> list[str]:
    lacking = []
    if a.attention_bias not in f.biases:
        lacking.append(f"attention_bias {a.attention_bias}" if a.attention_bias else "layer without attention_bias")
    if a.attention_sinks != f.sinks:
        lacking.append("attention_sinks" if a.attention_sinks else "layer without attention_sinks")
    if a.window is not None and f.windows == "none":
        lacking.append(f"window {a.window}")
    if a.full_every is not None and f.windows == "all":
        lacking.append(f"full_every {a.full_every}")
    return lacking


def _of_mixture(f: Family, a: Architecture, ffn: MoEFFN) -> list[str]:
    lacking = [] if _routes(f, a) else [f"router {ffn.router}"]
    if not lacking and renormalises(ffn) not in f.renormalise:
        by_word = RENORMALISES[ffn.router] is not None
        lacking.append(f"router {ffn.router}" if by_word else f"renormalise {ffn.renormalise}")
    given: dict[str, Any] = {}
    if ffn.bias != f.always.get("bias", False):
        given["bias"] = ffn.bias
    given |= {field: getattr(ffn, field) for field in {"every", "first_dense"} - f.dense_layers}
    given |= {} if f.groups else {"groups": ffn.groups, "scale": ffn.scale}
    lacking += [f"{field} {value}" for field, value in sorted(given.items()) if value is not None]
    shared = "none" if ffn.shared_hidden is None else "gated" if ffn.shared_gate else "plain"
    if shared != f.shared:
        says = {"none": "layer without shared_hidden", "plain": "shared_hidden without gate", "gated": "shared_gate"}
        lacking.append(says[shared])
    return lacking + _of_sizes(f, a, ffn)


def _of_sizes(f: Family, a: Architecture, ffn: MoEFFN) -> list[str]:
    assert ffn.expert_hidden is not None
    if f.model_type == "olmoe" and a.heads * a.head_dim != a.width:
        return [f"head_dim {a.head_dim} that is not width / heads"]
    if f.model_type == "glm4_moe" and ffn.shared_hidden and ffn.shared_hidden % ffn.expert_hidden:
        return [f"shared_hidden {ffn.shared_hidden} that is no multiple of expert_hidden {ffn.expert_hidden}"]
    if f.model_type == "glm4_moe" and ffn.experts < 2:
        return ["single expert"]
    return []


# ------------------------------------------------------------------------------------------------ what it writes


def config(a: Architecture, *, start: int = 0, end: int = 0) -> dict[str, Any]:
    """transformers' configuration of an architecture; `start` and `end` are the ids that begin and end a text.

    Raises PlanError where there is none.
    """
    f = family_of(a)
    written = {
        "model_type": f.model_type,
        "architectures": [f.architecture],
        "max_position_embeddings": a.context,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": None,
        "torch_dtype": "float32",
        **f.fixed,
        **_positions(f, a),
        **_windows(f, a),
    }
    for key in f.keys:
        value = getattr(a.ffn if key.ours.startswith("ffn.") else a, key.ours.removeprefix("ffn."), None)
        written[key.theirs] = key.none if value is None else value
    if f.bias_key is not None:
        written[f.bias_key] = a.attention_bias is not None
    return {**written, **(_mixture(f, a, a.ffn) if isinstance(a.ffn, MoEFFN) else {})}


def _positions(f: Family, a: Architecture) -> dict[str, Any]:
    said: dict[str, Any] = {"rope_theta": a.rope_theta}
    if a.rope_scaling is not None:
        said["rope_scaling"] = _scaling(a.rope_scaling)
    elif f.model_type == "gpt_oss":  # its class stretches positions unless it is told not to
        said["rope_scaling"] = {"rope_type": "default"}
    return said


def _scaling(scaling: RopeScaling) -> dict[str, Any]:
    words = scaling.model_dump(exclude_none=True)
    theirs = {"kind": "rope_type", "original_context": "original_max_position_embeddings"}
    return {theirs.get(word, word): value for word, value in words.items()}


def _windows(f: Family, a: Architecture) -> dict[str, Any]:
    if f.windows == "none":
        return {}
    said: dict[str, Any] = {"sliding_window": a.window}
    if f.sinks and a.window is None:  # its class wants a number, though no layer uses it
        said["sliding_window"] = a.context
    if f.switched:
        said["use_sliding_window"] = a.window is not None
    if f.windows == "listed":
        kinds = [SLIDING if a.window_of(i) is not None else "full_attention" for i in range(a.layers)]
        said["layer_types"] = kinds
    return said


def _mixture(f: Family, a: Architecture, ffn: MoEFFN) -> dict[str, Any]:
    assert ffn.expert_hidden is not None
    said: dict[str, Any] = {"norm_topk_prob": renormalises(ffn)}
    if f.model_type in ("qwen2_moe", "qwen3_moe", "glm4_moe"):  # without dense layers the width of theirs is not used
        said["intermediate_size"] = ffn.dense_hidden or ffn.expert_hidden
    if f.dense_layers == {"first_dense", "every"}:
        dense = sorted(set(range(a.layers)) - set(a.moe_layers))
        said |= {"decoder_sparse_step": 1, "mlp_only_layers": dense}
    if f.model_type == "glm4_moe":
        assert ffn.shared_hidden is not None
        said |= {
            "n_shared_experts": ffn.shared_hidden // ffn.expert_hidden,
            "use_qk_norm": a.qk_norm is not None,
            "partial_rotary_factor": 1.0,
            "num_nextn_predict_layers": 0,
        }
    return said
