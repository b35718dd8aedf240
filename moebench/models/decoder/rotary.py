"""Rotary positions: Su et al. 2021 (arXiv:2104.09864), halves rotated as in Llama, and how they are stretched.

Stretching is that of transformers' `modeling_rope_utils`, so that checkpoints of longer contexts compute the same:
linear (Chen et al. 2023, arXiv:2306.15595), llama3 (Llama 3.1) and yarn (Peng et al. 2023, arXiv:2309.00071).

Legend: B batch, H heads, T tokens, C head dim.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moebench.models.architecture import Architecture
from moebench.suite.attention import RopeScaling


def rotary_table(architecture: Architecture, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [context, head_dim], float32; computed on the CPU, so that a device does not change them."""
    half, cpu = architecture.head_dim // 2, torch.device("cpu")
    frequency = architecture.rope_theta ** (-torch.arange(half, dtype=torch.float32, device=cpu) / half)
    times = 1.0
    if (scaling := architecture.rope_scaling) is not None:
        frequency, times = stretched(frequency, scaling, theta=architecture.rope_theta)
    place = torch.arange(architecture.context, dtype=torch.float32, device=cpu)
    angle = torch.outer(place, frequency).repeat(1, 2)
    cos, sin = angle.cos(), angle.sin()
    if times != 1:
        cos, sin = cos * times, sin * times
    return cos.to(device), sin.to(device)


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turns each pair (i, i + C/2) by its position's angle."""
    first, second = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_TC.to(x_BHTC.dtype) + torch.cat((-second, first), dim=-1) * sin_TC.to(x_BHTC.dtype)


def stretched(frequency_C: Tensor, scaling: RopeScaling, *, theta: float) -> tuple[Tensor, float]:
    """(frequencies of a longer context, what queries and keys are multiplied by), from those of the first one."""
    if scaling.kind == "linear":
        return frequency_C / scaling.factor, 1.0
    if scaling.kind == "llama3":
        return _llama3(frequency_C, scaling), 1.0
    factor = scaling.attention_factor
    if factor is None:
        factor = 0.1 * math.log(scaling.factor) + 1 if scaling.factor > 1 else 1.0
    return _yarn(frequency_C, scaling, theta=theta), factor


def _llama3(frequency_C: Tensor, s: RopeScaling) -> Tensor:
    """Long waves are stretched, short ones left, those between are mixed."""
    assert s.original_context is not None
    assert s.low_freq_factor is not None
    assert s.high_freq_factor is not None
    turns_C = s.original_context * frequency_C / (2 * math.pi)
    share_C = ((turns_C - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)).clamp(0, 1)
    return (1 - share_C) * frequency_C / s.factor + share_C * frequency_C


def _yarn(frequency_C: Tensor, s: RopeScaling, *, theta: float) -> Tensor:
    """Frequencies that turn at least beta_fast times in the first context are left, those below beta_slow stretched."""
    assert s.original_context is not None
    dim = 2 * frequency_C.numel()

    def place(turns: float) -> float:
        assert s.original_context is not None
        return dim * math.log(s.original_context / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = place(s.beta_fast or 32), place(s.beta_slow or 1)
    if s.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high += 0.001 if low == high else 0
    ramp_C = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return frequency_C / s.factor * ramp_C + frequency_C * (1 - ramp_C)
