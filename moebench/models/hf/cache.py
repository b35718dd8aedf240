"""Keys and values of a transformers model in room that is taken at once, so that a step copies nothing else.

transformers' own growing cache copies all it holds at every step, and its fixed one attends to empty room; this one
hands out views of what is filled. Layers with a window hand out their window and keep all: a cut gives back exactly
what was there, and their memory is that of the whole context.

Legend: B sequences, H heads, S room in tokens, T new tokens, C head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache as Layers
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """What one layer keeps of a token."""

    key_HC: tuple[int, int]
    value_HC: tuple[int, int]
    window: int | None
    """Tokens that a query sees, itself included."""
    device: torch.device
    dtype: torch.dtype


class RoomLayer(DynamicLayer):  # type: ignore[misc]  # transformers is not typed
    """One layer."""

    def __init__(self, shape: LayerShape, *, batch: int, room: int) -> None:
        super().__init__()
        (key_heads, key_dim), (value_heads, value_dim) = shape.key_HC, shape.value_HC
        place: dict[str, Any] = {"device": shape.device, "dtype": shape.dtype}
        self.keys_BHSC = torch.zeros((batch, key_heads, room, key_dim), **place)
        self.values_BHSC = torch.zeros((batch, value_heads, room, value_dim), **place)
        self.window, self.length, self.is_initialized = shape.window, 0, True

    @property
    def is_sliding(self) -> bool:
        return self.window is not None

    def _first(self) -> int:
        """The first token that a new one may see."""
        return 0 if self.window is None else max(0, self.length - self.window + 1)

    def update(self, key_BHTC: Tensor, value_BHTC: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keeps new tokens and gives all that they may see."""
        first, start, stop = self._first(), self.length, self.length + key_BHTC.shape[2]
        self.keys_BHSC[:, :, start:stop] = key_BHTC
        self.values_BHSC[:, :, start:stop] = value_BHTC
        self.length = stop
        return self.keys_BHSC[:, :, first:stop], self.values_BHSC[:, :, first:stop]

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length - self._first(), self._first()


class CheckpointCache:
    """The `Cache` of a checkpoint."""

    def __init__(self, shapes: Sequence[LayerShape], *, batch: int, room: int) -> None:
        self._layers = [RoomLayer(shape, batch=batch, room=room) for shape in shapes]
        self.room = room
        self.layers = Layers(layers=self._layers)
        """As transformers takes them."""

    @property
    def length(self) -> int:
        return self._layers[0].length

    @property
    def tensors(self) -> list[Tensor]:
        return [held for layer in self._layers for held in (layer.keys_BHSC, layer.values_BHSC)]

    def cut(self, length: int) -> None:
        for layer in self._layers:
            layer.length = min(layer.length, length)

    def share(self, one: CheckpointCache, row_B: Tensor | None = None) -> None:
        """My i-th sequence then holds what `one` holds for its sequence `row_B[i]`, its only one where that is None."""
        for mine, its in zip(self._layers, one._layers, strict=True):
            mine.length = stop = its.length
            for kept, held in ((mine.keys_BHSC, its.keys_BHSC), (mine.values_BHSC, its.values_BHSC)):
                kept[:, :, :stop] = held[:, :, :stop] if row_B is None else held[row_B.to(held.device), :, :stop]
