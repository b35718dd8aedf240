"""The simulation behind `moebench.claims.error_rates`; run as a module it writes the table that is shipped."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from moebench import stats
from moebench.claims.decide import ALPHA
from moebench.claims.error_rates import SHIPPED, TRIALS, Rates

SIZES = (6, 8, 10)

Generator = np.random.Generator
_DOCUMENTS = 30


# ---------------------------------------------------------------------------------------------- laws


def normal(rng: Generator, trials: int, n: int) -> stats.Array:
    return rng.normal(size=(trials, n))


def log_normal(rng: Generator, trials: int, n: int) -> stats.Array:
    """Log-normal of sigma 0.75 less its mean: a long tail in favour of the claim."""
    return rng.lognormal(0.0, 0.75, (trials, n)) - math.exp(0.75**2 / 2)


def heavy_tails(rng: Generator, trials: int, n: int) -> stats.Array:
    """Student's t of 3 degrees of freedom."""
    return rng.standard_t(3, (trials, n))


def successive(rng: Generator, trials: int, n: int) -> stats.Array:
    """Normal, each seed correlated 0.3 with the one before."""
    x = rng.normal(size=(trials, n))
    for index in range(1, n):
        x[:, index] = 0.3 * x[:, index - 1] + math.sqrt(1 - 0.3**2) * x[:, index]
    return x


LAWS: dict[str, Callable[[Generator, int, int], stats.Array]] = {
    "normal": normal,
    "log-normal, sigma 0.75": log_normal,
    "heavy tails, t of 3 degrees of freedom": heavy_tails,
    "dependent seeds, correlation 0.3": successive,
}
BOTH = "normal over seeds and over 30 documents alike"


# ---------------------------------------------------------------------------------------------- the method


def rates(law: str, n: int, *, trials: int, rng: Generator) -> Rates:
    """Simulates one row of the table; the effects are oriented so that + favours the claim."""
    if law == BOTH:
        low, high = limits_of_both(*both(rng, trials, n))
    else:
        x = LAWS[law](rng, trials, n)
        low, high = limits(x), -limits(-x)
    return Rates(
        law=law,
        n=n,
        covered=float(np.mean((low <= 0) & (high >= 0))),
        supported=float(np.mean(low > 0)),
        refuted=float(np.mean(high < 0)),
    )


def limits(x: stats.Array, alpha: float = ALPHA) -> stats.Array:
    """`stats.sign_flip_limit` of each row of x [trials, n]."""
    n = x.shape[1]
    chosen = np.array(list(itertools.product((0.0, 1.0), repeat=n))[1:])
    rank = round(stats.attained(n, alpha) * 2**n)
    means = x @ (chosen / chosen.sum(1, keepdims=True)).T
    return np.asarray(np.partition(means, rank - 1, axis=1)[:, rank - 1], dtype=np.float64)


def both(rng: Generator, trials: int, n: int) -> tuple[stats.Array, stats.Array, stats.Array]:
    """Effects by seed, the standard error over documents, and the part of it that is scatter over seeds.

    The error of a mean comes from seeds and from documents in equal shares, and a tenth from their interplay.
    """
    seeds = rng.normal(size=(trials, n, 1))
    documents = rng.normal(0, math.sqrt(_DOCUMENTS / n), (trials, 1, _DOCUMENTS))
    x = seeds + documents + rng.normal(0, math.sqrt(0.2 * _DOCUMENTS), (trials, n, _DOCUMENTS))
    over_documents = np.var(np.mean(x, axis=1), axis=1, ddof=1) / _DOCUMENTS
    within = x - np.mean(x, axis=2, keepdims=True)
    scatter = np.sum(np.var(within, axis=1, ddof=1), axis=1) / (n * _DOCUMENTS * (_DOCUMENTS - 1))
    return np.mean(x, axis=2), np.sqrt(over_documents), np.sqrt(scatter)


def limits_of_both(x: stats.Array, error: stats.Array, scatter: stats.Array) -> tuple[stats.Array, stats.Array]:
    """Both ends once what documents add is added."""
    added = stats.t_quantile(ALPHA, _DOCUMENTS - 1) * np.sqrt(np.maximum(0.0, error**2 - scatter**2))
    centre = np.mean(x, axis=1)
    low, high = limits(x), -limits(-x)
    return centre - np.hypot(centre - low, added), centre + np.hypot(high - centre, added)


def make(trials: int = TRIALS, *, seed: int = 0) -> tuple[Rates, ...]:
    """Simulates every row."""
    rng = np.random.default_rng(seed)
    return tuple(
        _pooled([rates(law, n, trials=2_000, rng=rng) for _ in range(max(1, trials // 2_000))])
        for law in (*LAWS, BOTH)
        for n in SIZES
    )


def _pooled(parts: list[Rates]) -> Rates:
    shares = {
        name: round(float(np.mean([getattr(part, name) for part in parts])), 4)
        for name in ("covered", "supported", "refuted")
    }
    return Rates(law=parts[0].law, n=parts[0].n, **shares)


if __name__ == "__main__":
    rows = [json.dumps(asdict(row)) for row in make()]
    SHIPPED.write_text("[\n " + ",\n ".join(rows) + "\n]\n")
