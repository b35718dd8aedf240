"""transformers' own count of a configuration: its class built on the meta device, where weights have shapes only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "moe_k", "moe_top_k")
SEQ2SEQ = ("t5", "mt5", "switch_transformers")


def config_of(values: Mapping[str, Any]) -> Any:
    """transformers' configuration object."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    rest = {key: value for key, value in values.items() if key != "model_type"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CONFIG_MAPPING[values["model_type"]](**rest)


def meta_model(values: Mapping[str, Any]) -> torch.nn.Module:
    """The language model of a configuration, without memory for its weights."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    maker = AutoModelForSeq2SeqLM if values["model_type"] in SEQ2SEQ else AutoModelForCausalLM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.device("meta"):
            model: torch.nn.Module = maker.from_config(config_of(values))
    return model


def counted(values: Mapping[str, Any]) -> tuple[int, int]:
    """Parameters in all, and without the experts that a token skips, read off the module itself."""
    model = meta_model(values)
    total = sum(weight.numel() for weight in model.parameters())
    config: Any = model.config
    config = getattr(config, "ffn_config", config)  # DBRX
    idle = 0
    for module in model.modules():
        if type(module).__name__.endswith(("Experts", "ExpertGLU")) and not any(
            type(inner).__name__.endswith("ExpertGLU") for inner in module.children()
        ):
            number = next(getattr(config, key) for key in EXPERTS if getattr(config, key, None) is not None)
            chosen = next((getattr(config, key) for key in CHOSEN if getattr(config, key, None) is not None), 1)
            inside = sum(weight.numel() for weight in module.parameters())
            assert inside % number == 0
            idle += inside // number * (number - chosen)
    return total, total - idle
