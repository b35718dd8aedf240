"""Trained models as transformers checkpoints: that library, loading them, computes the same logits."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from small_models import architecture, built, dense, moe, odd, tokens

from moebench.checkpoint import config, export_checkpoint
from moebench.matching import PlanError

# Values that differ from transformers' own defaults, so that one left out of the file would be noticed.
UNUSUAL: dict[str, Any] = {"rope_theta": 500.0, "norm_eps": 1e-2, "context": 64}
MODELS = {
    "dense": architecture(dense(40), **UNUSUAL),
    "dense, grouped-query, untied": odd(dense(40)).model_copy(update=UNUSUAL),
    "moe": architecture(moe(8, 2, 16), **UNUSUAL),
    "7 experts, top-3, grouped-query, untied": odd(moe(7, 3, 16)).model_copy(update=UNUSUAL),
    "one expert at a time": architecture(moe(4, 1, 16), **UNUSUAL),
}


def by_transformers(folder: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    """Logits of the checkpoint, loaded offline by transformers with its plain expert loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that transformers itself imports
        transformers = pytest.importorskip("transformers")
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, experts_implementation="eager", attn_implementation="eager",
            output_loading_info=True,
        )  # fmt: skip
    assert not any(report[problem] for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        return model.eval()(tokens_BT).logits


@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same_logits(tmp_path: Path, name: str) -> None:
    model, tokens_BT = built(MODELS[name]), tokens(2, 64)
    export_checkpoint(model, tmp_path)
    with torch.inference_mode():
        ours = model(tokens_BT).logits_BTV
    torch.testing.assert_close(by_transformers(tmp_path, tokens_BT), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_in_the_file_once(tmp_path: Path, name: str) -> None:
    model = built(MODELS[name])
    export_checkpoint(model, tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters())
    assert {t.dtype for t in stored.values()} == {torch.float32}


def test_the_configuration_names_the_architecture(tmp_path: Path) -> None:
    export_checkpoint(built(MODELS["moe"]), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == json.loads(json.dumps(config(MODELS["moe"])))
    assert written["architectures"] == ["MixtralForCausalLM"]
    assert config(MODELS["dense"])["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.parametrize("experts", [1, 4])
def test_what_mixtral_cannot_express_is_refused_and_nothing_written(tmp_path: Path, experts: int) -> None:
    with pytest.raises(PlanError, match="renormalise False"):
        export_checkpoint(built(architecture(moe(experts, 1, renormalise=False))), tmp_path / "out")
    assert not (tmp_path / "out").exists()
