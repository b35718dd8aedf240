"""Laws of loss against size or compute: L = a N^-b, and L = E + a N^-b with a floor E >= 0.

For each exponent b of a fine grid the best a and E are linear least squares in relative residuals, and the best of all
exponents is refined by a parabola: no start decides the outcome, as it does for searches in three parameters (Hoffmann
et al. 2022, appendix D, whose fit Besiroglu et al. 2024, arXiv:2404.10102, found not to have converged). What a start
would have told, how far the data pin the law down, is the range of exponents that fit nearly as well. All functions
take many curves at once, so that a bootstrap costs one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

EXPONENTS: Array = np.geomspace(0.01, 3.0, 120)
NEARLY = 1.2
"""Factor of the least RMS residual within which an exponent fits nearly as well."""
_TINY = 1e-9
"""RMS residual below which a law goes through all points, and nothing else fits nearly as well."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law for each of [...] curves, of sizes whose log is centred on `middle`."""

    middle: float
    exponent: Array
    scale: Array
    """a, of sizes in units of the middle one."""
    floor: Array
    """0 where there is none."""
    rms: Array
    """Root mean square of the relative residuals."""
    low: Array
    """The least exponent that fits nearly as well."""
    high: Array

    def log_loss(self, log_size: Array) -> Array:
        """[..., K] log losses at log sizes [K]."""
        decay = np.exp(-self.exponent[..., None] * (log_size - self.middle))
        return np.log(self.floor[..., None] + self.scale[..., None] * decay)

    def log_size(self, log_loss: Array) -> Array:
        """[...] the log size at which each law has a log loss [...]; inf at or below its floor."""
        above = np.exp(log_loss) - self.floor
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.middle - (np.log(above) - np.log(self.scale)) / self.exponent
        return np.where(above > 0, found, np.inf)


def fit(log_size: Array, log_loss: Array, *, floor: bool) -> Law:
    """The laws of curves [..., K] over log sizes [K], K >= 3; with a `floor` K >= 4."""
    middle = float(np.mean(log_size))
    x, y = log_size - middle, np.exp(log_loss)
    u_BK = np.exp(-EXPONENTS[:, None] * x)
    errors = np.stack([_solved(u, y, floor=floor)[2] for u in u_BK], axis=-1)
    exponent = _refined(errors)
    scale, level, error = _solved(np.exp(-exponent[..., None] * x), y, floor=floor)
    rms = np.sqrt(error / len(log_size))
    fits = errors <= (NEARLY * np.maximum(rms, _TINY))[..., None] ** 2 * len(log_size)
    any_ = fits.any(axis=-1)
    first, last = fits.argmax(axis=-1), fits.shape[-1] - 1 - fits[..., ::-1].argmax(axis=-1)
    return Law(
        middle=middle,
        exponent=exponent,
        scale=scale,
        floor=level,
        rms=rms,
        low=np.where(any_, np.minimum(EXPONENTS[first], exponent), exponent),
        high=np.where(any_, np.maximum(EXPONENTS[last], exponent), exponent),
    )


def _solved(u: Array, y: Array, *, floor: bool) -> tuple[Array, Array, Array]:
    """a, E and the sum of squares of (E + a u) / y - 1 at their best, with E >= 0; u [..., K] or [K], y [..., K]."""
    g, h = u / y, 1 / y
    gg, g1 = (g * g).sum(-1), g.sum(-1)
    alone = g1 / gg
    zero = np.zeros_like(alone)
    scale, level = alone, zero
    if floor:
        gh, hh, h1 = (g * h).sum(-1), (h * h).sum(-1), h.sum(-1)
        whole = gg * hh - gh * gh
        with np.errstate(divide="ignore", invalid="ignore"):
            a, e = (g1 * hh - h1 * gh) / whole, (h1 * gg - g1 * gh) / whole
        fits = (whole > 1e-12 * gg * hh) & (e > 0) & (a > 0)
        scale, level = np.where(fits, a, alone), np.where(fits, e, zero)
    residual = level[..., None] * h + scale[..., None] * g - 1
    return scale, level, (residual * residual).sum(-1)


def _refined(errors: Array) -> Array:
    """The exponent of least error: the best of the grid, moved to the foot of the parabola through its neighbours."""
    steps = np.log(EXPONENTS)
    best = np.clip(errors.argmin(-1), 1, len(steps) - 2)
    left, mid, right = (np.take_along_axis(errors, (best + d)[..., None], -1)[..., 0] for d in (-1, 0, 1))
    bend = left - 2 * mid + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(bend > 0, 0.5 * (left - right) / bend, 0.0)
    moved = steps[best] + np.clip(np.nan_to_num(shift), -1, 1) * (steps[1] - steps[0])
    return np.asarray(np.exp(moved), dtype=np.float64)
