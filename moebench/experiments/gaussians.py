"""Gaussians: a mixture of two experts against their normalised product (Hinton 2002, Neural Computation 14(8)).

Each seed draws two normal densities. Their product is normal again, with the sum of their precisions; a mixture's
entropy has no closed form, and all are integrated on one grid. Experts agree where their means are within one SD of
each other, and are apart where they are four.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moebench.experiments.experiment import Experiment
from moebench.metrics.metric import COUNT, Metric, Range
from moebench.seeds import generator

Array = NDArray[np.float64]

POINTS = 20_001
SDS = 12.0
"""How far beyond either mean the grid reaches, in the larger SD."""

ENTROPY = Metric(
    name="gaussians.entropy",
    unit="bits",
    better="lower",
    within=Range(),
    says="differential entropy of a density made of two normal ones",
    cannot="what a layer of experts does: that sums vectors, so its output is neither a mixture nor a product",
)
MODES = Metric(
    name="gaussians.modes",
    unit="modes",
    better="neither",
    within=COUNT,
    same_each_time=True,
    says="local maxima of that density",
    cannot="how high they are",
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two experts."""

    means: tuple[float, float]
    sds: tuple[float, float]

    @staticmethod
    def of(seed: int, *, apart: bool) -> Pair:
        """SDs between 0.5 and 2, means within one SD of each other or four apart, in the larger."""
        rng = generator(seed, "gaussians")
        first, second = np.exp(rng.uniform(math.log(0.5), math.log(2), 2)).tolist()
        near = float(rng.uniform(0, 1))
        distance = (4.0 if apart else near) * max(first, second)
        return Pair(means=(0.0, distance), sds=(first, second))

    @property
    def grid(self) -> Array:
        reach = SDS * max(self.sds)
        return np.linspace(min(self.means) - reach, max(self.means) + reach, POINTS)

    def log_density(self, expert: int) -> Array:
        """Natural logarithm: far out the density itself has no digits left, and its rounding would count as modes."""
        z = (self.grid - self.means[expert]) / self.sds[expert]
        return np.asarray(-(z**2) / 2 - math.log(self.sds[expert] * math.sqrt(2 * math.pi)))

    @property
    def product_sd(self) -> float:
        """Precisions add."""
        return float(sum(sd**-2 for sd in self.sds) ** -0.5)


def normal_entropy(sd: float) -> float:
    """Bits."""
    return 0.5 * math.log2(2 * math.pi * math.e * sd**2)


def entropy(log_density: Array, grid: Array) -> float:
    """Bits, by the trapezoid rule."""
    return float(-np.trapezoid(np.exp(log_density) * log_density, grid) / math.log(2))


def modes(log_density: Array) -> int:
    inner = log_density[1:-1]
    return int(((inner > log_density[:-2]) & (inner >= log_density[2:])).sum())


def combined(pair: Pair, how: str) -> Array:
    """Logarithm of the density, shape (POINTS,)."""
    one, other = pair.log_density(0), pair.log_density(1)
    if how == "mixture":
        return np.asarray(np.logaddexp(one, other) - math.log(2))
    if how == "product":
        log_both = one + other
        top = log_both.max()
        return np.asarray(log_both - top - math.log(np.trapezoid(np.exp(log_both - top), pair.grid)))
    return one if pair.sds[0] <= pair.sds[1] else other  # the sharper of the two


HOW = ("mixture", "product", "expert")
ARMS = {f"{how}{'_apart' if apart else ''}": (how, apart) for apart in (False, True) for how in HOW}


def _run(arm: str, seed: int) -> Mapping[str, float]:
    how, apart = ARMS[arm]
    pair = Pair.of(seed, apart=apart)
    log_density = combined(pair, how)
    return {ENTROPY.name: entropy(log_density, pair.grid), MODES.name: modes(log_density)}


_SAYS = {"mixture": "their mean", "product": "their normalised product", "expert": "the sharper of the two"}

EXPERIMENT = Experiment(
    says="two normal densities: their mean, their normalised product, and the sharper of the two",
    source="Hinton 2002, Neural Computation 14(8)",
    arms={
        name: f"two experts {'four SDs apart' if apart else 'that agree'}: {_SAYS[how]}"
        for name, (how, apart) in ARMS.items()
    },
    metrics=(ENTROPY, MODES),
    run=_run,
    version=2,
)
