"""Models and recipes small enough to count by hand and to train in a test."""

from __future__ import annotations

from typing import Any

import torch

from moebench.jobs.recipe import Recipe, Run
from moebench.jobs.train import losses_over
from moebench.jobs.training import State, TrainingStep, make_optimizer
from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.suite.model import DenseFFN, MoEFFN


def dense(hidden: int | None = 24) -> DenseFFN:
    return DenseFFN(kind="dense", hidden=hidden)


def moe(experts: int = 4, top_k: int = 2, hidden: int | None = 8, **other: Any) -> MoEFFN:
    return MoEFFN(kind="moe", experts=experts, top_k=top_k, expert_hidden=hidden, **other)


def architecture(ffn: DenseFFN | MoEFFN, **changes: Any) -> Architecture:
    sizes = {"vocab": 256, "context": 16, "layers": 2, "width": 32, "heads": 4, "kv_heads": 4, "head_dim": 8}
    rest = {"tied_embeddings": True, "rope_theta": 10000.0, "norm_eps": 1e-5}
    return Architecture.model_validate({**sizes, **rest, **changes, "ffn": ffn})


def odd(ffn: DenseFFN | MoEFFN) -> Architecture:
    """Grouped-query heads whose widths do not add up to the model's, and an untied head."""
    return architecture(ffn, layers=3, heads=4, kv_heads=2, head_dim=6, tied_embeddings=False)


SHAPES: dict[str, Architecture] = {
    "dense": architecture(dense(40)),
    "dense, grouped-query, untied": odd(dense(40)),
    "8 experts, top-2": architecture(moe(8, 2, 16)),
    "7 experts, top-3, grouped-query, untied": odd(moe(7, 3, 16)),
    "1 expert": architecture(moe(1, 1, 24)),
    "normed queries and keys": odd(dense(40)).model_copy(update={"qk_norm": "full"}),
    "normed queries and keys, each head": odd(moe(4, 2, 8)).model_copy(update={"qk_norm": "per_head"}),
    "a window": architecture(dense(40), kv_heads=2, window=9, attention_bias="qkv"),
    "sinks, biases, every other layer a window, stretched positions": architecture(
        moe(7, 3, 16, router="topk_softmax", activation="swiglu_clamped", bias=True), layers=3, kv_heads=2, head_dim=6,
        tied_embeddings=False, attention_sinks=True, attention_bias="all", window=5, full_every=2,
        rope_scaling={"kind": "yarn", "factor": 4, "original_context": 8},
    ),
}  # fmt: skip


def recipe(**changes: Any) -> Recipe:
    steps = changes.get("steps", 10)
    usual = {
        "steps": steps,
        "batch_tokens": 64,
        "micro_batch_tokens": 64,
        "lr": 3e-3,
        "betas": (0.9, 0.95),
        "eps": 1e-8,
        "weight_decay": 0.1,
        "clip": 1.0,
        "warmup_steps": 2,
        "decay": "cosine",
        "final_lr_share": 0.1,
        "dtype": "float32",
        "evaluate_at": (steps,),
        "eval_tokens": 256,
        "final_eval_tokens": 256,
        "split": "test",
    }
    return Recipe.model_validate({**usual, **changes})


def run(a: Architecture, *, seed: int = 0, data_digest: str = "none", **changes: Any) -> Run:
    backend = "sorted" if isinstance(a.ffn, MoEFFN) else "none"
    steps = recipe(**changes)
    return Run(
        architecture=a,
        recipe=steps,
        losses_over=losses_over(a, steps),
        seed=seed,
        data_digest=data_digest,
        device="cpu",
        backend=backend,
        torch="2.13",
    )


def step_of(model: Transformer, chosen: Run) -> TrainingStep:
    """A model in training."""
    return TrainingStep(State(model=model, optimizer=make_optimizer(model, chosen.recipe)), chosen)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    """Bytes drawn alike, int64."""
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))


def awake(model: Transformer, *, seed: int = 9) -> Transformer:
    """The model with every weight moved off its initial value, norms too, so that none can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def built(a: Architecture, *, seed: int = 0, backend: str | None = None) -> Transformer:
    return awake(build(a, seed=seed, backend=backend))
