"""Counted FLOPs: torch's own counter on the built model, to hold the arithmetic of `costs` to account.

The counter sees nothing inside `grouped_mm`, our hand-written backward or the CPU's flash attention (torch 2.13), so
the model is counted with the loop experts and the math attention, which computes the full square of queries and keys.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moebench.jobs.recipe import Run
from moebench.jobs.training import chance, training_loss
from moebench.models.decoder import Transformer
from moebench.models.decoder.experts import BACKENDS
from moebench.models.decoder.moe import MoE


def counted_flops(model: Transformer, run: Run, batch_BX: torch.Tensor) -> int:
    """FLOPs of forward and backward over [B, context + 1] tokens, as torch counts them. Leaves no gradients behind.

    Pairs that an expert refuses for want of room are not computed, so not counted.
    """
    mixtures = [layer.ffn for layer in model.layers if isinstance(layer.ffn, MoE)]
    usual = [mixture.compute for mixture in mixtures]
    batch_BX = batch_BX.to(model.embedding.device)
    try:
        for mixture in mixtures:
            mixture.compute = BACKENDS["loop"]
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss, _ = training_loss(run, model(batch_BX[:, :-1], generator=chance(run, step=0)), batch_BX[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for mixture, compute in zip(mixtures, usual, strict=True):
            mixture.compute = compute
        model.zero_grad()
    return int(counter.get_total_flops())
