"""What passes as rounding, and what does not."""

from __future__ import annotations

import pytest
import torch

from tests.support.closeness import assert_near, errors, numbered

EPSILON = torch.finfo(torch.float32).eps


def test_noise_where_exact_arithmetic_gives_zero_is_rounding() -> None:
    whole = torch.tensor([20.0, -3.0])
    one, other = (numbered(whole, 20 * EPSILON * torch.tensor([sign, 3.0])) for sign in (1.0, -2.0))
    assert_near(one, other, tolerance=1e-5)


@pytest.mark.parametrize("factor", [1 + 1e-4, 0.0, -1.0, float("nan")])
def test_another_result_is_not(factor: float) -> None:
    expected = numbered(torch.tensor([20.0]), torch.tensor([4.0, 1.0]))
    with pytest.raises(AssertionError, match="beyond 1e-05 of their scale"):
        assert_near(numbered(expected["0"], expected["1"] * factor), expected, tolerance=1e-5)


def test_nothing_but_zeros_is_no_comparison() -> None:
    with pytest.raises(AssertionError, match="nothing to compare"):
        errors(numbered(torch.zeros(3)), numbered(torch.zeros(3)))
