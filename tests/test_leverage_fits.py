"""Laws of loss against size: what is planted comes back, a floor included, and intervals hold what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moebench.leverage.bootstrap import reaches
from moebench.leverage.fits import fit
from moebench.reporting.tables.leverage import law_text

SIZES = np.array([26e3, 50e3, 88e3, 130e3, 210e3])
X = np.log(SIZES)


def losses(floor: float, exponent: float, sizes: np.ndarray = SIZES) -> np.ndarray:
    """Log losses of a law that is 2.7 at the smallest size."""
    return np.log(floor + (2.7 - floor) * (sizes / SIZES[0]) ** -exponent)


@pytest.mark.parametrize(("floor", "exponent"), [(0.0, 0.1), (1.2, 0.35), (1.6, 0.8)])
def test_a_planted_law_comes_back(floor: float, exponent: float) -> None:
    law = fit(X, losses(floor, exponent), floor=True)
    assert law.exponent == pytest.approx(exponent, rel=0.03)
    assert law.floor == pytest.approx(floor, abs=0.1)
    assert law.rms < 1e-4
    assert float(law.log_size(np.array(losses(floor, exponent, np.array([95e3]))[0]))) == pytest.approx(
        math.log(95e3), abs=2e-3
    )


def test_without_a_floor_a_law_that_has_one_is_missed_and_says_so() -> None:
    y = losses(1.6, 0.8)
    law, floored = (fit(X, y, floor=which) for which in (False, True))
    assert law.rms > 20 * floored.rms
    assert law.low < law.exponent < law.high


def test_what_noisy_data_do_not_tell_is_a_range_of_exponents() -> None:
    noise = np.array([0.004, -0.003, 0.002, 0.003, -0.004])
    smooth, noisy = (fit(X, losses(1.2, 0.35) + share * noise, floor=True) for share in (0.0, 1.0))
    assert smooth.high / smooth.low < 1.05
    assert noisy.high / noisy.low > 1.2


def test_many_curves_are_fitted_as_each_alone() -> None:
    curves = np.stack([losses(0.0, 0.1), losses(1.2, 0.35)])
    many = fit(X, curves, floor=True)
    for index, curve in enumerate(curves):
        assert many.exponent[index] == pytest.approx(float(fit(X, curve, floor=True).exponent))


def test_a_loss_below_the_floor_is_never_reached() -> None:
    law = fit(X, losses(1.6, 0.8), floor=True)
    assert float(law.log_size(np.array(math.log(1.5)))) == math.inf


def noisy(floor: float, exponent: float, true: float, sd: float, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Eight seeds of a ladder and of a model of size `true`: correlated 0.3 over the models of a seed."""
    means = np.append(losses(floor, exponent), losses(floor, exponent, np.array([true])))
    shared, own = rng.normal(size=(8, 1)), rng.normal(size=(8, 6))
    y = means + sd * (math.sqrt(0.3) * shared + math.sqrt(0.7) * own)
    return y[:, :5], y[:, 5:]


@pytest.mark.parametrize(("floor", "exponent"), [(0.0, 0.1), (1.2, 0.35)])
@pytest.mark.parametrize("sd", [0.006, 0.009])
def test_the_interval_holds_the_truth_as_often_as_it_says(floor: float, exponent: float, sd: float) -> None:
    rng, true, trials = np.random.default_rng(7), 95e3, 400
    covered = 0
    for _ in range(trials):
        ladder, level = noisy(floor, exponent, true, sd, rng)
        (found,) = reaches(X, ladder, level, floor=floor > 0, generator=rng, draws=150)
        covered += found.low <= math.log(true) <= found.high
    assert 0.93 - 0.01 <= covered / trials <= 0.97 + 0.01  # simulation error: 1.1%


def test_outside_the_ladder_it_says_so() -> None:
    rng = np.random.default_rng(1)
    ladder, level = noisy(0.0, 0.1, 400e3, 0.003, rng)
    (found,) = reaches(X, ladder, level, floor=False, generator=rng)
    assert found.extrapolated
    ladder, level = noisy(1.2, 0.35, 100e3, 0.003, rng)
    (inside,) = reaches(X, ladder, level, floor=True, generator=rng)
    assert not inside.extrapolated
    assert not inside.ends_extrapolated
    assert law_text(inside.over(math.log(50e3))).endswith("]")


def test_an_interval_that_leaves_the_ladder_says_so() -> None:
    rng = np.random.default_rng(1)
    ladder, level = noisy(0.0, 0.1, 185e3, 0.01, rng)
    (found,) = reaches(X, ladder, level, floor=False, generator=rng)
    assert not found.extrapolated
    assert found.high > X[-1]
    assert law_text(found.over(math.log(50e3))).endswith("], its interval extrapolated")
