"""Equal up to rounding, whatever kernel, machine or number of threads computed it.

Rounding is relative to what was summed, not to what came out: a gradient that is zero in exact arithmetic holds noise
of the size of the others' rounding. So each tensor is compared on the scale of its own largest value, but on no smaller
one than a tenth of the largest of all that were computed together, which cannot vanish.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

LEAST_SHARE = 0.1
"""A tensor's scale is at least this share of the largest value among its companions."""


def scales(expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Name -> the size that a tensor's errors are compared with; never 0."""
    own = {name: float(value.detach().abs().max()) for name, value in expected.items()}
    whole = max(own.values())
    assert whole > 0, "nothing to compare: all is zero"
    return {name: max(size, LEAST_SHARE * whole) for name, size in own.items()}


def errors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """Name -> largest difference over the tensor's scale."""
    assert found.keys() == expected.keys()
    return {
        name: float((found[name].detach().float() - expected[name].detach().float()).abs().max()) / scale
        for name, scale in scales(expected).items()
    }


def assert_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, tolerance: float) -> None:
    """Every tensor differs by at most `tolerance` of its scale; 1e-5 is 84 float32 epsilons."""
    beyond = {name: f"{error:.1e}" for name, error in errors(found, expected).items() if not error <= tolerance}
    assert not beyond, f"beyond {tolerance:g} of their scale: {beyond}"


def numbered(*tensors: Tensor) -> dict[str, Tensor]:
    """Tensors that were computed together, named by their place."""
    return {str(index): tensor for index, tensor in enumerate(tensors)}
