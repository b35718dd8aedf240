"""A mixture against the dense network of equal active FLOPs, transformers' experts and the loop; and how it scales.

Run by `nox -s bench` on a quiet machine; nothing is asserted by a clock, because machines are shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.layers import SLOW, Bench, Shape
from bench.race import Result, race
from bench.table import Cell, Row, Table, publish
from moebench.metrics.clock import measure_peak_flops

PEERS = ("eager", "grouped_mm")
"""transformers' expert implementations that are meant for the device."""
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
LAYERS = {
    "cpu": [
        Shape(tokens=tokens, width=width, experts=experts, top_k=top_k)
        for width in (256, 512)
        for experts, top_k in ((8, 2), (64, 8))
        for tokens in (32, 512, 4096)
    ],
    "cuda": [
        Shape(tokens=16384, width=width, experts=experts, top_k=top_k)
        for width in (1024, 2048)
        for experts, top_k in ((8, 2), (64, 8), (128, 8))
    ],
}
BASE = {
    "cpu": Shape(tokens=2048, width=256, experts=32, top_k=4),
    "cuda": Shape(tokens=16384, width=1024, experts=32, top_k=4),
}
TOKENS = (32, 128, 512, 2048, 8192)
EXPERTS, TOP_K, WIDTHS = (4, 8, 16, 32, 64, 128), (1, 2, 4, 8), {"cpu": (64, 128, 256, 512), "cuda": (512, 1024, 2048)}


def moved(base: Shape, widths: tuple[int, ...]) -> Iterator[tuple[str, Shape]]:
    """The base with one of its sizes changed at a time."""
    sizes = {"tokens": TOKENS, "experts": EXPERTS, "top_k": TOP_K, "width": widths}
    for name, values in sizes.items():
        for value in values:
            yield name, Shape(**{**base.as_row(), name: value})


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward_backward"])
def test_layers(benchmark, backward: bool, device: str, seconds: float, reference: Path | None) -> None:
    name = "layer_forward_backward" if backward else "layer_forward"
    table = Table(
        name=name,
        title=f"A mixture layer, {'forward and backward' if backward else 'forward'}, {_dtype(device)}",
        says="Ratios of times: ours over the dense network of equal active FLOPs (below 1 is faster), and others over "
        "ours (above 1: ours is faster). `best` is the faster of transformers' two. FLOPs as share of the largest "
        "matrix product's rate.",
        device=device,
    )

    def all_shapes() -> None:
        for shape in LAYERS[device]:
            result = _raced(shape, backward=backward, device=device, seconds=seconds, slow=True)
            table.rows.append(_row(shape, result, backward=backward, device=device))

    benchmark.pedantic(all_shapes, rounds=1, iterations=1)
    benchmark.extra_info["table"] = table.as_json()
    publish(table, reference)


def test_how_the_ratio_moves(benchmark, device: str, seconds: float, reference: Path | None) -> None:
    table = Table(
        name="layer_scaling",
        title=f"A mixture layer, forward and backward, as one size moves, {_dtype(device)}",
        says="Ratios of times as in the table of layers; one size moves at a time and the others stay.",
        device=device,
    )

    def all_shapes() -> None:
        for size, shape in moved(BASE[device], WIDTHS[device]):
            result = _raced(shape, backward=True, device=device, seconds=seconds / 2, slow=False)
            row = _row(shape, result, backward=True, device=device)
            table.rows.append(Row(cells={"moves": size, **row.cells}, result=result))

    benchmark.pedantic(all_shapes, rounds=1, iterations=1)
    benchmark.extra_info["table"] = table.as_json()
    publish(table, reference)


def _raced(shape: Shape, *, backward: bool, device: str, seconds: float, slow: bool) -> Result:
    contenders = Bench(shape, device=device, dtype=DTYPES[device]).contenders(backward=backward, slow=slow)
    return race(contenders, seconds=seconds, device=device)


def _row(shape: Shape, result: Result, *, backward: bool, device: str) -> Row:
    rate = shape.flops(backward=backward) / result.median_s("ours")
    cells: dict[str, Cell] = {
        **shape.as_row(),
        "ours, ms": 1e3 * result.median_s("ours"),
        "ours / dense": result.ratio("ours", "dense"),
        **{f"{peer} / ours": result.ratio(peer, "ours") for peer in PEERS},
        "best / ours": result.ratio(result.best(*PEERS), "ours"),
    }
    cells |= {f"{word} / ours": result.ratio(word, "ours") for word in SLOW if word in result.seconds}
    cells["of peak"] = f"{rate / measure_peak_flops(device, DTYPES[device]):.0%}"
    return Row(cells=cells, result=result)


def _dtype(device: str) -> str:
    return str(DTYPES[device]).removeprefix("torch.")
