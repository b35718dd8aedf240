"""Expert compute: the same sum over assignments, by several backends.

    out[t] = sum over assignments n of token t:  weight[n] * down[e(n)] act(gate_up[e(n)] x[t])

`loop` is the oracle: plain autograd, one expert after the other. `sorted` groups the assignments by expert and writes
every gradient once, by hand; it is for CPUs and chooses its code path by shape. `grouped_mm` hands the groups to
torch's grouped product, which never asks the host for the group sizes: for CUDA. All are deterministic on a CPU, and
the tests hold all equal to the oracle, forward and every gradient.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from moebench.models.decoder.experts.grouped import grouped_mm
from moebench.models.decoder.experts.loop import loop
from moebench.models.decoder.experts.sorted import sorted_loop
from moebench.models.decoder.experts.weights import Experts as Experts
from moebench.models.routers import Routing

Backend = Callable[[Tensor, Routing, Experts], Tensor]
"""(x_TD, routing, experts) -> out_TD"""

BACKENDS: dict[str, Backend] = {
    "loop": loop,
    "sorted": sorted_loop,
    "grouped_mm": grouped_mm,
}


def default_backend(device: str) -> str:
    """The fastest backend measured for a device type; it is named in every run's identity."""
    return "grouped_mm" if device == "cuda" else "sorted"
