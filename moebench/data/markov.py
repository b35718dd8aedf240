"""Markov sources: random tables of next-symbol probabilities, what they keep, and documents drawn from them.

Everything is drawn from raw PCG64 bits by products and running sums, so the same seed gives the same bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

UNIFORM_SHARE = 0.01
"""Every symbol keeps this share of an equal chance, so that each source has one stationary distribution."""
_TOLERANCE = 1e-14

Floats = NDArray[np.float64]


def uniform(bits: np.random.BitGenerator, *shape: int) -> Floats:
    """Doubles in [0, 1) from the top 53 bits of raw draws, which no later numpy will change."""
    raw = np.asarray(bits.random_raw(int(np.prod(shape))), dtype=np.uint64).reshape(shape)
    drawn: Floats = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def transitions(bits: np.random.BitGenerator, *, symbols: int, order: int) -> Floats:
    """Random next-symbol probabilities: [symbols ** order, symbols], each row a distribution with a few likely symbols.

    A state is the last `order` symbols as digits in base `symbols`, the oldest first.
    """
    weights = uniform(bits, symbols**order, symbols)
    for _ in range(3):  # the eighth power, by products that are the same on every machine
        weights = weights * weights
    weights /= np.cumsum(weights, axis=1)[:, -1:]
    table: Floats = (1 - UNIFORM_SHARE) * weights + UNIFORM_SHARE / symbols
    return table


def stationary(table: Floats) -> Floats:
    """The distribution over states that the chain keeps: [states], by power iteration.

    Raises ArithmeticError for a chain that does not settle, such as a periodic one.
    """
    states, symbols = table.shape
    now = np.full(states, 1.0 / states)
    for _ in range(100_000):
        then: Floats = (now[:, None] * table).reshape(symbols, states).sum(axis=0)
        then /= then.sum()
        if np.abs(then - now).sum() < _TOLERANCE:
            return then
        now = then
    raise ArithmeticError("the chain has no stationary distribution that power iteration finds")


def entropy_bits(distribution: Floats) -> Floats:
    """Entropy along the last axis; 0 log 0 is 0."""
    logs = np.log2(distribution, out=np.zeros_like(distribution), where=distribution > 0)
    entropy: Floats = -np.asarray((distribution * logs).sum(axis=-1))
    return entropy


def entropy_rate_bits(table: Floats, kept: Floats) -> float:
    """Expected bits of the next symbol given the state, the state drawn from the stationary distribution `kept`."""
    return float(kept @ entropy_bits(table))


def sample(
    bits: np.random.BitGenerator, table: Floats, kept: Floats, *, documents: int, length: int
) -> NDArray[np.int64]:
    """Symbols of documents that start in the stationary distribution `kept`: [documents, length]."""
    states, symbols = table.shape
    order = round(np.log(states) / np.log(symbols))
    ladder = np.cumsum(table, axis=1)
    ladder[:, -1] = 1.0
    starts = np.cumsum(kept)
    state = np.minimum(np.searchsorted(starts, uniform(bits, documents), side="right"), states - 1)
    out = np.empty((documents, length), dtype=np.int64)
    for place in range(order):
        out[:, place] = state // symbols ** (order - 1 - place) % symbols
    for place in range(order, length):
        out[:, place] = (ladder[state] <= uniform(bits, documents)[:, None]).sum(axis=1)
        state = (state * symbols + out[:, place]) % states
    return out
