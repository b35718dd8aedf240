"""Initial values: each parameter from its own generator, named by the seed and the parameter.

Two models that share a parameter's name and shape start it from the same values, and nothing one model adds shifts what
another draws.
"""

from __future__ import annotations

from moebench.models.lazy import Tensor, torch
from moebench.seeds import derive


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose of one seed."""
    return torch.Generator().manual_seed(derive(seed, purpose))


def normal_(parameter: Tensor, seed: int, name: str, *, std: float) -> None:
    """Fills `parameter` in place from a normal distribution; drawn on the CPU, so that a device does not change it."""
    values = torch.randn(parameter.shape, generator=generator(seed, f"init.{name}"), dtype=torch.float32)
    with torch.no_grad():
        parameter.copy_(values.mul_(std))
