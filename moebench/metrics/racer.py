"""One model in a race, and the text that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from moebench.metrics.clock import Timed
from moebench.models.subject import Cache, Inside, Pass, Subject, Trainable

if TYPE_CHECKING:
    from torch import Tensor

AGAIN = "~again"
"""Suffix of the baseline's second copy."""

Text = Callable[[int], NDArray[Any]]
"""Gives so many windows of training text, [rows, context + 1], the same for every model."""


@dataclass(frozen=True, kw_only=True)
class Racer:
    """One model in the race."""

    name: str
    subject: Subject
    trainable: Trainable | None
    """None for a model at its initial values, or a checkpoint: neither has a training step."""
    text: Text | None = None
    """In the tokens of a checkpoint, of the same text as the others'."""
    inside: Inside | None = None
    """None for a checkpoint."""
    routed: dict[str, list[float]] = field(default_factory=dict)
    """Timed metric -> what a mixture routed: assignments of each training step over all layers; experts of one layer
    that a decoding step reads, mean of layers and positions."""
    passes: list[Pass] = field(default_factory=list)
    """Of its timed training steps."""
    prefix: list[Cache] = field(default_factory=list)
    """What its sequences share, once it has been read, of a model at its initial values."""

    def windows(self, text: Text, rows: int) -> Tensor:
        """So many windows of the text in its own tokens, on its device."""
        import torch

        return torch.from_numpy((self.text or text)(rows)).to(self.subject.device)


def decoding(racer: Racer, text_BX: Tensor, cache: Cache, *, start: int, stop: int) -> Timed:
    """Calls that each decode the next real token, from `start` to `stop`, and go back there."""
    subject = racer.subject

    def decode() -> None:
        if cache.length >= stop:
            cache.cut(start)
        subject.extend(text_BX[:, cache.length : cache.length + 1], cache)

    return decode


def filled(racer: Racer, text_BX: Tensor, *, start: int, room: int) -> Cache:
    """A cache of as many sequences as the text has, with their first `start` tokens.

    Those of a model at its initial values or of a checkpoint share the first one's, which is read once.
    """
    subject = racer.subject
    cache = subject.new_cache(text_BX.shape[0], room)
    if racer.trainable:
        subject.extend(text_BX[:, :start], cache)
        return cache
    one = subject.new_cache(1, start)
    subject.extend(text_BX[:1, :start], one)
    cache.share(one)
    return cache


def inside_of(racer: Racer) -> Inside:
    """Raises ValueError for a checkpoint."""
    if racer.inside is None:
        raise ValueError(f"{racer.name} is a checkpoint, whose layers are not looked into")
    return racer.inside
