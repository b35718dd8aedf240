"""Loads a checkpoint that has been described: safetensors alone, no code of its publisher, no network.

What transformers would make up, a weight that is not in the files, is refused; so is a weight that it would leave out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moebench.checkpoints.families import family_of
from moebench.checkpoints.located import INSTALL, CheckpointError
from moebench.counting.blueprint import Blueprint
from moebench.systems.configs import load_config
from moebench.text import listed, plain


def load(
    folder: Path,
    blueprint: Blueprint,
    *,
    dtype: str,
    device: str = "cpu",
    experts: str | None = None,
    device_map: str | None = None,
    context: int | None = None,
) -> Any:
    """The subject, in evaluation; `context` makes it shorter than the model was made for.

    Raises CheckpointError for files that do not give the model that was described.
    """
    if importlib.util.find_spec("transformers") is None:
        raise CheckpointError("checkpoints are loaded with transformers, which is not installed", hint=INSTALL)
    from moebench.models.hf.subject import CheckpointSubject
    from moebench.models.hf.tokenizer import load_tokenizer

    assert blueprint.context is not None
    family = family_of(str(load_config(folder)["model_type"]))
    tokenizer = load_tokenizer(folder, rows=blueprint.vocab)
    model, told = _model(folder, dtype=dtype, device=device, experts=experts, device_map=device_map)
    made_up = sorted(set(told["missing_keys"]))
    left_out = sorted(name for name in told["unexpected_keys"] if family.is_parameter(name, blueprint))
    if made_up or left_out:
        what = f"lack {listed(made_up[:3], last='and')}" if made_up else f"have {listed(left_out[:3], last='and')} too"
        raise CheckpointError(f"{folder}: its files {what}, so they are not the weights of its config.json")
    limit = blueprint.context if context is None else min(context, blueprint.context)
    return CheckpointSubject(weights=model, tokenizer=tokenizer, counts=blueprint, context=limit, family=family)


def _model(
    folder: Path, *, dtype: str, device: str, experts: str | None, device_map: str | None
) -> tuple[Any, dict[str, Any]]:
    """The model, and what transformers tells of its files."""
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"experts_implementation": experts} if experts is not None else {}
    options |= {"device_map": device_map} if device_map is not None else {}
    options |= _unpacked(folder)
    try:
        with _quiet():
            model, told = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=getattr(torch, dtype),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a library raises of files that may hold anything
        raise CheckpointError(f"{folder} does not load: {_said(error)}") from None
    if device_map is None:
        model = model.to(device)
    return model.eval(), told


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {plain(error, most=400)}"


def _unpacked(folder: Path) -> dict[str, Any]:
    """What makes transformers read packed weights as plain numbers."""
    method = (load_config(folder).get("quantization_config") or {}).get("quant_method")
    if method != "mxfp4":
        return {}
    from transformers import Mxfp4Config

    return {"quantization_config": Mxfp4Config(dequantize=True)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, transformers draws no bars and says nothing but errors."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def experts_of(model: Any) -> str:
    """Which kernels compute the experts."""
    return str(getattr(model.config, "_experts_implementation", None) or "eager")


def built_parameters(folder: Path) -> int:
    """Parameters of the class that transformers builds for a folder, on the meta device, where any size is built."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with _quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a library raises of a file that may hold anything
        raise CheckpointError(f"{folder}: transformers builds no model of its config.json: {_said(error)}") from None
    return sum(parameter.numel() for parameter in model.parameters())
