"""What measuring code sees of a model, wherever it came from; it may rely on nothing else.

A `Subject` scores given targets, steps through a cache, and tells where its routers send tokens. A `Trainable` is what
can be trained, or timed in a training step. Our decoder is one implementation (`models.decoder.subject`); no name of
its classes or attributes occurs here. Importing this module loads no torch.

Legend: B sequences, T tokens, V vocabulary, N routed assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from moebench.counting.blueprint import Blueprint
from moebench.counting.trained import Routed

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Tokenizer(Protocol):
    """Text to token ids and back. Text is bytes, which need not be UTF-8."""

    @property
    def start(self) -> int:
        """The id that stands before a document, and ends it where there is no `end`."""

    @property
    def end(self) -> int:
        """The id that ends a text that is being written."""

    @property
    def adds_start(self) -> bool:
        """Whether its makers put `start` before every text, as transformers then does unasked; `encode` never does."""

    @property
    def vocab(self) -> int:
        """Ids it has."""

    @property
    def digest(self) -> str:
        """Equal where the same text has the same ids; `bytes` for bytes."""

    @property
    def token_bytes(self) -> NDArray[Any]:
        """Bytes of text that each id stands for, [V], int64; those of a text's ids add up to the text's."""

    def encode(self, text: bytes) -> list[int]:
        """The ids of a text, without `start`."""

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text that ids stand for: of `encode(text)` the text."""


@dataclass(frozen=True, kw_only=True)
class LayerRouting:
    """Which experts of one layer were given which tokens."""

    layer: int
    """Index of the layer in the model, from 0."""
    token_N: Tensor
    """Row of each assignment's token among the B T tokens."""
    expert_N: Tensor
    dropped: int
    """Assignments over capacity; they are not among the N."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a model makes of given targets."""

    logprob_BT: Tensor
    """Natural log-probability of each target, float32; of the targets' shape."""
    greedy_BT: Tensor | None
    """Whether each target is the model's first choice; None where that was not asked."""
    routings: tuple[LayerRouting, ...]
    """One a mixture, in the order of layers; empty without a tap on routers."""


class Cache(Protocol):
    """What a model remembers of the tokens it has read."""

    @property
    def length(self) -> int:
        """Tokens held."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """What it holds them in."""

    def cut(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""

    def share(self, other: Any, row_B: Tensor | None = None) -> None:
        """Holds for its i-th sequence what `other`, a cache of the same model, holds for its sequence `row_B[i]`; for
        each of them what `other` holds for its only one where there is no `row_B`."""


class Opened(Protocol):
    """What can be changed of a model's mixtures while they are looked at, and what can be seen inside.

    Layers are named by their index in the model, as in `Subject.mixtures`.
    """

    def moved(self, layer: int, order_E: Tensor) -> AbstractContextManager[None]:
        """Inside, what is for expert e of a layer goes to expert `order_E[e]`, with the weight that was for e."""

    def sent(self, layer: int, experts_TK: Tensor) -> AbstractContextManager[None]:
        """Inside, the T tokens of a forward pass go to these experts of a layer, weighed as its router weighs them when
        it chooses them. Raises ValueError where the router does not say."""

    def outputs(self, layer: int, tokens_BT: Tensor, *, untrained: int | None = None) -> Tensor:
        """What each expert of a layer makes of every token, [E, B T, D]; of experts at initial values drawn from the
        seed `untrained`, where that is given, in their place."""

    def drawn(self, tokens_BT: Tensor, seed: int) -> tuple[LayerRouting, ...]:
        """Where the routers send whole sequences in training, with the noise that they draw from a seed."""


class Subject(Protocol):
    """A model that can be measured."""

    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def context(self) -> int:
        """Longest sequence in tokens."""

    @property
    def counts(self) -> Blueprint: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype:
        """Of activations and matrix products."""

    @property
    def weights(self) -> torch.nn.Module:
        """What holds the parameters, for trackers of memory alone."""

    @property
    def mixtures(self) -> tuple[int, ...]:
        """Indices of the layers whose routing can be seen; empty for a dense model."""

    @property
    def experts(self) -> int:
        """Experts of each of them; 0 for a dense model."""

    @property
    def opened(self) -> Opened | None:
        """Its mixtures, where they can be changed; None where they can only be read."""

    def score(
        self, tokens_BT: Tensor, targets_BT: Tensor, *, greedy: bool = False, cache: Cache | None = None
    ) -> Scores:
        """Scores a target at every position, or each of K alternatives in targets [B, T, K]. Leaves the model in the
        mode it was in.

        With a cache the tokens follow those that it holds, and it holds them afterwards.
        """

    def routings(self, tokens_BT: Tensor) -> tuple[LayerRouting, ...]:
        """Where the routers send whole sequences."""

    def new_cache(self, batch: int, room: int | None = None) -> Cache:
        """An empty cache with room for so many tokens, the whole context when absent."""

    def extend(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        """Prefill, or a decoding step when T = 1: reads the tokens that follow those of the cache, which holds them
        afterwards. Gives the logits after the last, [B, V]. Raises ValueError beyond the context."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward and backward pass."""

    loss: Tensor
    """What was minimised, in nats; auxiliary losses included."""
    bits: Tensor
    """Cross-entropy in bits per token."""
    computed: int
    """Assignments computed, all layers."""
    dropped: int
    """Assignments over capacity."""
    routed: tuple[Routed, ...] = ()
    """Of each mixture, where not all of the model is trained."""


class Trainable(Protocol):
    """A model and its optimizer: what is trained, or timed in a training step."""

    @property
    def weights(self) -> torch.nn.Module: ...
    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def sequences(self) -> int:
        """Of a micro-batch."""

    def draws(self) -> torch.Generator | None:
        """What routers draw from in the first micro-batch; None for a model without."""

    def tally(self, parts: Iterable[tuple[Tensor, torch.Generator | None]]) -> int:
        """The pass without gradients over all micro-batches of a batch, [B, context + 1] tokens and what routers draw
        from, that some losses need first; gives the assignments it computed. Nothing where none needs it."""

    def backward(self, batch_BX: Tensor, draws: torch.Generator | None, *, share: float = 1.0) -> Pass:
        """Forward and backward over [B, context + 1] tokens; adds `share` of the gradients to those there are."""

    def flops(self, passes: Sequence[Pass], *, sequences: int) -> tuple[int, int]:
        """Model and executed FLOPs of passes over so many sequences in all, of the pairs that were computed."""

    def countable(self) -> AbstractContextManager[None]:
        """Inside, products are computed one by one, so that torch's counter of FLOPs sees each."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """What experts behind a memory map have cost since they were put there."""

    used: int
    """Experts that were needed, each once for every call of its layer."""
    copied: int
    """Those of them that had to be copied into memory."""
    copied_bytes: int


class Inside(Protocol):
    """What serving measurements see of a model besides a subject; our decoder has it, a checkpoint has not."""

    def one_by_one(self) -> AbstractContextManager[None]:
        """Inside, experts are computed one after the other, as they are behind a map."""

    def offloaded(
        self, resident: int, *, copy_bytes_per_s: float | None
    ) -> AbstractContextManager[Callable[[], Copies]]:
        """Inside, memory holds so many experts of each layer, and a file all; gives what it has cost so far.

        A copy takes as long as the declared rate says, and no time of its own where there is none.
        """

    def parts(self, tokens_BT: Tensor, cache: Any) -> Mapping[str, Callable[[], object]]:
        """Part -> what computes it, in all layers that are mixtures, for tokens that follow those of the cache.

        `layer`: attention, norms and network; `ffn`: the mixture in it; `router` alone; `products`: the networks of
        the experts used, on rows that lie as they are after sorting. The cache is left as it was.
        """
