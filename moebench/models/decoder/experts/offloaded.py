"""Experts behind a memory map: a file holds those of a layer, and memory the c that were used last.

Computed as `loop` does, one expert after the other and in its order, so that logits are those of the resident model bit
for bit; an expert that is not in memory is copied there first, in the place of the one that was used longest ago
(Eliseev and Mazur 2023, arXiv:2312.17238). Bytes copied are counted. A file that was just written lies in the page
cache, so the time of a copy says nothing: a rate may be declared, and a copy then takes as long as it says.

Legend: T tokens, D width, X rows of the input projection, F expert hidden, E experts, C experts in memory, W weights of
one expert, S sorted assignments.
"""

from __future__ import annotations

import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.weights import Experts
from moebench.models.decoder.products import linear
from moebench.models.routers import Routing

if TYPE_CHECKING:
    from moebench.models.decoder.moe import MoE


class Offloaded:
    """A backend with a file and a memory of its own: what it is given of experts are their activation and biases."""

    def __init__(
        self, gate_up_EXD: Tensor, down_EDF: Tensor, *, resident: int, file: Path, copy_bytes_per_s: float | None = None
    ) -> None:
        """Writes the file. Raises ValueError without room for any expert."""
        if resident < 1:
            raise ValueError("memory must hold at least one expert of a layer")
        experts, self.shapes = gate_up_EXD.shape[0], (gate_up_EXD.shape[1:], down_EDF.shape[1:])
        with torch.no_grad():
            weights_EW = torch.cat([gate_up_EXD.flatten(1), down_EDF.flatten(1)], dim=1).cpu()
        file.write_bytes(weights_EW.view(torch.uint8).numpy().data)
        mapped = torch.from_file(str(file), shared=False, size=weights_EW.numel(), dtype=weights_EW.dtype)
        self.file_EW = mapped.view(experts, -1)
        self.memory_CW = torch.zeros(min(resident, experts), weights_EW.shape[1], dtype=weights_EW.dtype)
        self.place: OrderedDict[int, int] = OrderedDict()
        """Expert -> its row of the memory; the one that was used longest ago comes first."""
        self.copy_bytes_per_s = copy_bytes_per_s
        self.used = self.copied = 0
        """Experts that a layer's call needed, each once a call; those of them that were not in memory."""

    @property
    def expert_bytes(self) -> int:
        return self.memory_CW.shape[1] * self.memory_CW.element_size()

    def __call__(self, x_TD: Tensor, routing: Routing, experts: Experts) -> Tensor:
        """The backend: forward alone."""
        out_TD = torch.zeros_like(x_TD)
        order_S = routing.expert_N.sort(stable=True)[1]
        stop = 0
        for expert, rows in enumerate(torch.bincount(routing.expert_N).tolist()):
            start, stop = stop, stop + rows
            if not rows:
                continue
            gate_up_XD, down_DF = (weights.to(x_TD.dtype) for weights in self.fetch(expert))
            gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
            down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
            assignments = order_S[start:stop]
            token = routing.token_N[assignments]
            hidden = activate(experts.activation, linear(x_TD[token], gate_up_XD, gate_up_bias_X))
            y = linear(hidden, down_DF, down_bias_D)
            out_TD.index_add_(0, token, y * routing.weight_N[assignments, None].to(y.dtype))
        return out_TD

    def fetch(self, expert: int) -> tuple[Tensor, Tensor]:
        """Both matrices of an expert, in memory from now on."""
        self.used += 1
        row = self.place.pop(expert, None)
        if row is None:
            full = len(self.place) == self.memory_CW.shape[0]
            row = self.place.popitem(last=False)[1] if full else len(self.place)
            self._copy(expert, row)
        self.place[expert] = row
        gate_up = self.shapes[0].numel()
        weights_W = self.memory_CW[row]
        return weights_W[:gate_up].view(self.shapes[0]), weights_W[gate_up:].view(self.shapes[1])

    def _copy(self, expert: int, row: int) -> None:
        began = time.perf_counter()
        self.memory_CW[row].copy_(self.file_EW[expert])
        self.copied += 1
        if self.copy_bytes_per_s is not None:
            until = began + self.expert_bytes / self.copy_bytes_per_s
            while time.perf_counter() < until:  # a sleep is longer than asked by as much as a copy takes
                pass

    def weights(self) -> tuple[Tensor, Tensor]:
        """Those of all experts, read back from the file."""
        gate_up = self.shapes[0].numel()
        whole_EW = self.file_EW.clone()
        experts = whole_EW.shape[0]
        return (
            whole_EW[:, :gate_up].reshape(experts, *self.shapes[0]),
            whole_EW[:, gate_up:].reshape(experts, *self.shapes[1]),
        )


@contextmanager
def offloaded(
    mixtures: list[MoE], *, resident: int, copy_bytes_per_s: float | None = None
) -> Iterator[list[Offloaded]]:
    """Inside, memory holds so many experts of each mixture, and their parameters hold nothing."""
    usual = [(mixture.compute, mixture.gate_up.device) for mixture in mixtures]
    with tempfile.TemporaryDirectory(prefix="moebench-experts-") as folder:
        backends: list[Offloaded] = []
        try:
            for index, mixture in enumerate(mixtures):
                backends.append(
                    Offloaded(
                        mixture.gate_up.data,
                        mixture.down.data,
                        resident=resident,
                        file=Path(folder) / f"{index}.experts",
                        copy_bytes_per_s=copy_bytes_per_s,
                    )
                )
                mixture.compute = backends[-1]
                mixture.gate_up.data, mixture.down.data = (mixture.gate_up.new_empty(0) for _ in range(2))
            yield backends
        finally:
            for mixture, backend, (compute, device) in zip(mixtures, backends, usual, strict=False):
                gate_up_EXD, down_EDF = backend.weights()
                mixture.gate_up.data, mixture.down.data = gate_up_EXD.to(device), down_EDF.to(device)
                mixture.compute = compute
