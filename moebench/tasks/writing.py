"""Texts that a model writes after prompts: batched, longest first, one step of the cache for all of a batch.

The prompts of a batch are read as far as the shortest; from there each sequence is fed its own prompt's tokens until
they are used up, then what it wrote. So all sequences of a batch are equally long at every step, none is padded, and
what one writes depends on no batch mate. A batch shrinks when half of it is done.

Legend: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moebench.metrics.measurement import NotFinite
from moebench.models.subject import Subject

SEQUENCES_AT_ONCE = 64

Prompt = NDArray[np.int64]
Choose = Callable[[Tensor], Tensor]
"""Logits [B, V] to tokens [B]."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn; at temperature 0 it is the first choice."""

    temperature: float = 0.0
    top_k: int = 50
    """As transformers has it unless told otherwise; 0 for all."""
    top_p: float = 1.0
    seed: int = 1234
    """lm-eval's own."""

    def chooser(self, device: torch.device) -> Choose:
        """Draws from a generator of its own."""
        if self.temperature == 0:
            return lambda logits_BV: logits_BV.argmax(-1)
        draws = torch.Generator(device).manual_seed(self.seed)

        def choose(logits_BV: Tensor) -> Tensor:
            scaled_BV, ids_BV = (logits_BV.float() / self.temperature).sort(dim=-1, descending=True)
            probability_BV = scaled_BV.softmax(-1)
            beyond_BV = probability_BV.cumsum(-1) - probability_BV >= self.top_p
            if self.top_k:
                beyond_BV[:, self.top_k :] = True
            probability_BV = probability_BV.masked_fill(beyond_BV, 0.0)
            return ids_BV.gather(1, torch.multinomial(probability_BV, 1, generator=draws))[:, 0]

        return choose


@dataclass(kw_only=True)
class _Text:
    """A prompt and what is written after it."""

    index: int
    prompt: Prompt
    written: list[int] = field(default_factory=list)
    done: bool = False


def write(
    subject: Subject,
    prompts: Sequence[Prompt],
    *,
    most: int,
    sampling: Sampling,
    is_done: Callable[[Sequence[int]], bool],
    rows: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """What is written after each prompt, in their order: at most `most` tokens, fewer where `is_done` says of them
    that a text has ended.

    A prompt has at least one token, and with `most` it fits the context. Raises NotFinite when a logit is not a number.
    """
    texts = [_Text(index=index, prompt=prompt) for index, prompt in enumerate(prompts)]
    choose = sampling.chooser(subject.device)
    order = sorted(texts, key=lambda text: -len(text.prompt))
    at_once = rows or SEQUENCES_AT_ONCE
    for first in range(0, len(order), at_once):
        for text in _write_batch(subject, order[first : first + at_once], most, choose):
            is_over = len(text.written) >= most or is_done(text.written)
            text.done = is_over
        on_done(len(order[first : first + at_once]))
    return [text.written for text in texts]


def _write_batch(subject: Subject, texts: Sequence[_Text], most: int, choose: Choose) -> Iterator[_Text]:
    """Writes a token at a time; whoever asks marks the text that it is given as done."""
    room = len(texts[0].prompt) + most
    length = len(texts[-1].prompt)
    cache = subject.new_cache(len(texts), room)
    logits_BV = subject.extend(_stack([text.prompt[:length] for text in texts], subject), cache)
    live = list(texts)
    while True:
        if logits_BV.isnan().any():
            raise NotFinite("a logit")
        chosen = choose(logits_BV).tolist()
        fed = []
        for text, token in zip(live, chosen, strict=True):
            if length < len(text.prompt):
                fed.append(int(text.prompt[length]))
                continue
            fed.append(token)
            if not text.done:
                text.written.append(token)
                yield text
        left = [row for row, text in enumerate(live) if not text.done]
        if not left:
            return
        if len(left) * 2 <= len(live):
            smaller = subject.new_cache(len(left), room)
            smaller.share(cache, torch.tensor(left, device=subject.device))
            cache, live, fed = smaller, [live[row] for row in left], [fed[row] for row in left]
        logits_BV = subject.extend(_stack([np.array([token]) for token in fed], subject), cache)
        length += 1


def _stack(ids: Sequence[Prompt], subject: Subject) -> Tensor:
    return torch.from_numpy(np.stack(ids)).to(subject.device)
