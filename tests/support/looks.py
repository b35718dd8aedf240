"""Planned looks, vectorised: p values of many samples at each look, and at which look each claim is decided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moebench import stats

BLOCKS = 16


def p_values(x: stats.Array, sizes: Sequence[int]) -> stats.Array:
    """`stats.sign_flip_p` of the first n of x [claims, trials, seeds], for each n of sizes: [looks, claims, trials]."""
    return np.stack([_flips(x[..., :n].reshape(-1, n)).reshape(x.shape[:-1]) for n in sizes])


def _flips(x: stats.Array) -> stats.Array:
    """Subsets of all effects are pairs of a subset of each half."""
    n = x.shape[1]
    if n > BLOCKS:  # as `stats` does: signs are flipped block by block
        x = np.stack([np.sum(block, axis=1) for block in np.array_split(x, BLOCKS, axis=1)], axis=1)
    half = x.shape[1] // 2
    one, other = _sums(x[:, :half]), np.sort(_sums(x[:, half:]), axis=1)
    rounding = 1e-12 * np.sum(np.abs(x), axis=1, keepdims=True)
    met = [np.searchsorted(b, a, side="right").sum() for a, b in zip(rounding - one, other, strict=True)]
    return np.asarray(met, dtype=np.float64) / 2.0 ** x.shape[1]


def _sums(x: stats.Array) -> stats.Array:
    """Of all subsets of x [trials, n]: [trials, 2^n]."""
    sums = np.zeros((len(x), 1))
    for column in x.T:
        sums = np.concatenate([sums, sums + column[:, None]], axis=1)
    return sums


def decided(p: stats.Array, levels: Sequence[float]) -> np.ndarray:
    """The look, from 0, at which Holm over the claims that are left decides each; -1 for none: [claims, trials]."""
    looks, claims, trials = p.shape
    at = np.full((claims, trials), -1)
    for look in range(looks):
        for _ in range(claims):  # a claim that falls makes it easier for the next
            left = at < 0
            held = np.where(left, p[look] * np.sum(left, axis=0), np.inf)
            least = np.argmin(held, axis=0)
            falls = held[least, np.arange(trials)] <= levels[look] * (1 + 1e-12)
            at[least[falls], np.flatnonzero(falls)] = look
    return at
