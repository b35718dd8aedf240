"""lm-eval's requests answered by any subject, with the scores that its own `hf` model gives.

What lm-eval's `hf` does decides every convention here: a context's trailing spaces belong to the continuation, what is
too long loses tokens on the left, an empty context is the token that begins a text, rolling windows do not overlap.
Where `hf` stops at an assertion this says what is wrong. Importing this module imports lm-eval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from moebench.models.subject import Subject
from moebench.tasks.scoring import Span, score_spans
from moebench.tasks.writing import Sampling, write

MOST_WRITTEN = 256
"""Tokens where a task states none: `hf`'s default."""
_NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1.0, "use_cache": True}
"""Options of generation that change nothing."""
_LOOK_BACK = 4
"""Tokens more than a stop string has bytes: the first of them may be half of a character."""

OnProgress = Callable[[str, int, int], None]
"""Hears the kind of requests, how many are done, and of how many."""


class RequestError(ValueError):
    """A request that has no answer; the message says why."""


class Adapter(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """A subject as lm-eval sees a model."""

    def __init__(self, subject: Subject, *, rows: int | None = None, on_progress: OnProgress = lambda *_: None) -> None:
        super().__init__()
        self._subject, self._rows, self._on_progress = subject, rows, on_progress
        self._last: tuple[str, list[int]] | None = None
        self.read = self.cut = 0
        """Prompts so far, and those of them that did not fit the context: they are read from their end only."""

    @property
    def device(self) -> torch.device:
        return self._subject.device

    @property
    def eot_token_id(self) -> int:
        return self._subject.tokenizer.end

    @property
    def prefix_token_id(self) -> int:
        return self._subject.tokenizer.start

    @property
    def max_length(self) -> int:
        return self._subject.context

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The ids of a text; the token that begins it stands before it where the tokenizer's makers put it there."""
        tokenizer = self._subject.tokenizer
        if self._last is not None and self._last[0] == string:  # choices of one question come one after another
            ids = self._last[1]
        else:
            ids = tokenizer.encode(string.encode())
            self._last = (string, ids)
        adds = tokenizer.adds_start and add_special_tokens is not False
        is_there = add_special_tokens is None and ids[:1] == [tokenizer.start]
        return [tokenizer.start, *ids] if adds and not is_there else list(ids)

    # ------------------------------------------------------------------------------------------------ log-likelihood

    def loglikelihood(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002  lm-eval's own name
    ) -> list[tuple[float, bool]]:
        """Of each continuation after its context."""
        scores: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scores

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,  # noqa: ARG002  lm-eval's own name
        *,
        kind: str = "loglikelihood",
        **_: Any,
    ) -> list[tuple[float, bool]]:
        spans = [self._span(text, context, continuation) for text, context, continuation in requests]
        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            self._on_progress(kind, done, len(spans))

        scores = score_spans(self._subject, spans, rows=self._rows, on_done=tell)
        return [(score.logprob, score.greedy) for score in scores]

    def _span(self, text: tuple[str, str] | None, context: list[int], continuation: list[int]) -> Span:
        if not continuation:
            where = f" after {text[0][-40:]!r}" if text else ""
            raise RequestError(f"a continuation{where} has no token, so it has no log-likelihood")
        if len(continuation) > self.max_length:
            raise RequestError(
                f"a continuation of {len(continuation)} tokens does not fit the model's context of {self.max_length}: "
                f"{(text[1] if text else '')[:40]!r}"
            )
        ids = np.array([*(context or [self.prefix_token_id]), *continuation], dtype=np.int64)
        self.read += 1
        self.cut += len(ids) > self.max_length + 1
        return Span(ids=ids[-(self.max_length + 1) :], scored=len(continuation))

    def loglikelihood_rolling(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002  lm-eval's own name
    ) -> list[float]:
        """Of each text, in windows of the whole context that do not overlap; each text on its own."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts = []
        for (text,) in (request.args for request in requests):
            found = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            own = [(None, *make_disjoint_window(window)) for window in found]
            windows += own
            counts.append(len(own))
        scores = iter(self._loglikelihood_tokens(windows, kind="loglikelihood_rolling"))
        return [sum(next(scores)[0] for _ in range(count)) for count in counts]

    # ------------------------------------------------------------------------------------------------ generation

    def generate_until(
        self,
        requests: Sequence[Instance],
        disable_tqdm: bool = False,  # noqa: ARG002  lm-eval's own name
    ) -> list[str]:
        """What is written after each context, up to the first of its stop strings."""
        texts: list[str] = [""] * len(requests)
        alike: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            alike.setdefault(repr(sorted(request.args[1].items())), []).append(index)
        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            self._on_progress("generate_until", done, len(requests))

        for indices in alike.values():
            contexts = [requests[index].args[0] for index in indices]
            for index, text in zip(indices, self._write(contexts, requests[indices[0]].args[1], tell), strict=True):
                texts[index] = text
        return texts

    def _write(self, contexts: Sequence[str], asked: dict[str, Any], tell: Callable[[int], None]) -> list[str]:
        """The texts after contexts that are continued in one way."""
        options: dict[str, Any] = dict(normalize_gen_kwargs(asked, MOST_WRITTEN))
        most = int(options.pop("max_gen_toks"))
        end = self._text([self.eot_token_id], skip=False)
        until = handle_stop_sequences(options.pop("until"), eos=end)
        if most >= self.max_length:
            raise RequestError(
                f"{most} tokens are to be written, and the model's context is {self.max_length}: "
                "give the task's generation_kwargs a smaller max_gen_toks"
            )
        looked_at = max(len(stop.encode()) for stop in until) + _LOOK_BACK
        whole = [np.array(self._prompt(text), dtype=np.int64) for text in contexts]
        self.read += len(whole)
        self.cut += sum(len(prompt) > self.max_length - most for prompt in whole)
        prompts = [prompt[-(self.max_length - most) :] for prompt in whole]

        def is_done(written: Sequence[int]) -> bool:
            if written[-1] == self.eot_token_id:
                return True
            text = self._text(written[-looked_at:])
            return any(stop in text for stop in until if stop)

        written = write(
            self._subject,
            prompts,
            most=most,
            sampling=_sampling(options),
            is_done=is_done,
            rows=self._rows,
            on_done=tell,
        )
        return [postprocess_generated_text(self._text(ids), until, None) for ids in written]

    def _prompt(self, text: str) -> list[int]:
        return self.tok_encode(text) or [self.prefix_token_id]

    def _text(self, ids: Sequence[int], *, skip: bool = True) -> str:
        tokenizer = self._subject.tokenizer
        special = {tokenizer.start, tokenizer.end} if skip else set()
        known = len(tokenizer.token_bytes)  # a model may have room for more words than its tokenizer has
        kept = [token for token in ids if token not in special and token < known]
        return tokenizer.decode(kept).decode(errors="replace")


def _sampling(options: dict[str, Any]) -> Sampling:
    """How to draw. Raises RequestError for an option that would be ignored."""
    known = {"do_sample", "temperature", "top_k", "top_p"}
    unknown = {name for name, value in options.items() if name not in known and _NEUTRAL.get(name) != value}
    if unknown:
        raise RequestError(f"generation_kwargs {', '.join(sorted(unknown))}: not known here")
    if not options.get("do_sample"):
        return Sampling()
    given = {name: options[name] for name in ("top_k", "top_p") if options.get(name) is not None}
    return Sampling(temperature=float(options.get("temperature", 1.0)), **given)
