"""Products of few rows: whichever way the weights are read, the numbers are those of one plain product."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from moebench.models.decoder import products

pytestmark = pytest.mark.numeric

ROWS = [(), (1,), (3,), (2, 1), (2, 16), (2, 40)]
SIZES = [(300, 256), (64, 64), (1000, 300), (65, 5000)]
"""Outputs and inputs: one piece, too small to read first, several pieces with a short last one, rows of 20 kB."""


def made(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_few_rows_give_the_product(rows: tuple[int, ...], sizes: tuple[int, int], biased: bool) -> None:
    x, weight = made(*rows, sizes[1], seed=0), made(*sizes, seed=1)
    bias = made(sizes[0], seed=2) if biased else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    with torch.inference_mode():
        found = products.linear(x, weight, bias)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("sizes", [(768, 256), (1408, 256), (2688, 512), (512, 1344)], ids=str)
def test_reading_first_moves_no_bit(rows: int, sizes: tuple[int, int]) -> None:
    x, weight = made(rows, sizes[1], seed=0), made(*sizes, seed=1)
    with torch.no_grad():
        found, expected = products.linear(x, weight), F.linear(x, weight)
    if weight.numel() * 4 <= products.PIECE_BYTES:
        assert torch.equal(found, expected)
    # In pieces too on the machine of the reference results; another BLAS may choose another kernel for another height.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_training_reads_nothing_first(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(Tensor, "sum", lambda weight: read.append(weight.numel()))
    x, weight = made(1, 256, seed=0), made(2000, 256, seed=1)
    products.linear(x, weight)
    assert read == []
    with torch.no_grad():
        products.linear(x.bfloat16(), weight.bfloat16())
        products.linear(made(33, 256, seed=0), weight)
        assert read == []
        products.linear(x, weight)
    assert sum(read) == weight.numel()
    assert max(read) * 4 <= products.PIECE_BYTES
