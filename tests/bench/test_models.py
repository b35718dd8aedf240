"""Whole models against transformers' Llama and Mixtral of the same shape and weights: a training step, a decoding step.

The weights travel as an exported checkpoint, and the logits are held equal before anything is timed. Both sides train
with the same loss, clipping and fused AdamW; neither sees auxiliary losses.

Run by `nox -s bench` on a quiet machine; nothing is asserted by a clock, because machines are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bench.race import Contender, race
from bench.table import Row, Table, publish
from moebench.jobs.train import backend_of, kernels_of
from moebench.models.architecture import Architecture
from moebench.models.convert.export import export_checkpoint
from moebench.models.decoder import Transformer, build
from moebench.suite.model import DenseFFN, MoEFFN

transformers = pytest.importorskip("transformers")

CACHE_WORD = "cache" if "cache" in transformers.LlamaForCausalLM.forward.__annotations__ else "past_key_values"
"""transformers renamed it in 5.24, and warns."""
CONTEXT, VOCAB, LAYERS, HEAD_DIM = 256, 256, 4, 64
WIDTHS = {"cpu": (64, 128, 256, 512), "cuda": (1024, 2048)}
TOKENS = {"cpu": 2048, "cuda": 16384}
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}


def architecture(design: str, width: int) -> Architecture:
    """Four layers with the usual gated width of 8/3; the mixture's two experts of a token are as wide together."""
    hidden = round(width * 8 / 3 / 64) * 64
    moe = MoEFFN(kind="moe", experts=8, top_k=2, expert_hidden=hidden // 2, balance_loss=0.0)
    return Architecture(
        vocab=VOCAB,
        context=CONTEXT,
        layers=LAYERS,
        width=width,
        heads=width // HEAD_DIM,
        kv_heads=width // HEAD_DIM,
        head_dim=HEAD_DIM,
        ffn=moe if design == "Mixtral" else DenseFFN(kind="dense", hidden=hidden),
        tied_embeddings=False,
        rope_theta=10000.0,
        norm_eps=1e-5,
    )


def models(design: str, width: int, *, device: str, folder: Path) -> dict[str, nn.Module]:
    """Ours and transformers' with the same weights; both expert implementations of a mixture."""
    a = architecture(design, width)
    ours = build(a, seed=0, dtype=DTYPES[device], device=device, **code_path(a, device))
    export_checkpoint(ours, folder)
    found: dict[str, nn.Module] = {"ours": ours}
    words = [{"experts_implementation": word} for word in ("eager", "grouped_mm")] if design == "Mixtral" else [{}]
    for options in words:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).to(device)
        found[options.get("experts_implementation", "transformers")] = theirs
    if device == "cpu":
        tokens = text(2, device=device)[:, :-1]
        with torch.no_grad():
            logits = ours(tokens).logits_BTV
            for name, theirs in list(found.items())[1:]:
                torch.testing.assert_close(theirs(input_ids=tokens).logits, logits, rtol=1e-4, atol=1e-4, msg=name)
    return found


def code_path(a: Architecture, device: str) -> dict[str, Any]:
    """The kernels and the expert backend that a run of this size takes."""
    kernels = kernels_of(width=a.width, tokens=TOKENS[device], dtype=DTYPES[device], device=device)
    return {"kernels": kernels, "backend": backend_of(a, device) if a.moe_layers else None}


def text(rows: int, *, device: str) -> Tensor:
    """Random words, [rows, context + 1]."""
    words = torch.randint(0, VOCAB, (rows, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    return words.to(device)


def training_step(model: nn.Module, *, device: str) -> Callable[[], object]:
    """Forward, backward, clipping and fused AdamW on one batch."""
    batch = text(TOKENS[device] // CONTEXT, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    model.train()

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" and not isinstance(model, Transformer)):
            logits = _logits(model, batch[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _logits(model: nn.Module, tokens: Tensor) -> Tensor:
    if isinstance(model, Transformer):
        return model(tokens).logits_BTV  # type: ignore[no-any-return]
    return model(input_ids=tokens, use_cache=False).logits  # type: ignore[no-any-return]


def decoding_step(model: nn.Module, *, device: str) -> Callable[[], object]:
    """One token of one sequence, from the middle of the context on and back to it at its end."""
    tokens, half, held = text(1, device=device), CONTEXT // 2, {"length": CONTEXT}
    cache: Any = None

    @torch.inference_mode()
    def step() -> None:
        nonlocal cache
        if held["length"] >= CONTEXT - 1:
            if isinstance(model, Transformer):
                cache = model.new_cache(1)
                model(tokens[:, :half], cache=cache)
            else:
                cache = model(input_ids=tokens[:, :half], use_cache=True)[CACHE_WORD]
            held["length"] = half
        word = tokens[:, held["length"] : held["length"] + 1]
        if isinstance(model, Transformer):
            model(word, cache=cache)
        else:
            model(input_ids=word, use_cache=True, **{CACHE_WORD: cache})
        held["length"] += 1

    model.eval()
    return step


@pytest.mark.parametrize("what", ["training_step", "decoding_step"])
def test_models(benchmark, what: str, device: str, seconds: float, reference: Path | None, tmp_path: Path) -> None:
    table = Table(
        name=f"model_{what}",
        title=f"A whole model's {what.replace('_', ' ')}, {DTYPES[device]}",
        says="Ratios of times: transformers' over ours, above 1: ours is faster. Four layers, vocabulary 256, context "
        f"256, eight experts top-2 or dense; {TOKENS[device]} tokens a step of training, one sequence in decoding.",
        device=device,
    )
    timed = training_step if what == "training_step" else decoding_step

    def all_shapes() -> None:
        for design in ("Llama", "Mixtral"):
            for width in WIDTHS[device]:
                found = models(design, width, device=device, folder=tmp_path / f"{design}{width}")
                contenders = {name: Contender(run=timed(model, device=device)) for name, model in found.items()}
                result = race(contenders, seconds=seconds, device=device)
                others = [name for name in found if name != "ours"]
                cells: dict[str, Any] = {
                    "design": design,
                    "width": width,
                    "ours, ms": 1e3 * result.median_s("ours"),
                    **{f"{name} / ours": result.ratio(name, "ours") for name in others if len(others) > 1},
                    "best / ours": result.ratio(result.best(*others), "ours"),
                }
                table.rows.append(Row(cells=cells, result=result))

    benchmark.pedantic(all_shapes, rounds=1, iterations=1)
    benchmark.extra_info["table"] = table.as_json()
    publish(table, reference)
