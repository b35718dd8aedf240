"""A transformers checkpoint as a `Subject`.

The output head is applied to a few tokens at a time, for the logits of a batch over 150,000 words would be larger than
the model's activations. Routers are seen through hooks that stand only while somebody looks.

Legend: B sequences, T tokens, D width, V vocabulary, K experts of a token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from moebench.checkpoints.families import Family
from moebench.counting.blueprint import Blueprint
from moebench.models.hf.cache import CheckpointCache, LayerShape
from moebench.models.hf.tokenizer import CheckpointTokenizer
from moebench.models.subject import LayerRouting, Scores

LOGITS_AT_ONCE = 2**26
"""Numbers: 256 MiB of them in float32."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSubject:
    """A causal language model of transformers."""

    weights: torch.nn.Module
    tokenizer: CheckpointTokenizer
    counts: Blueprint
    context: int
    """No longer than the model was made for."""
    family: Family

    @property
    def device(self) -> torch.device:
        device: torch.device = self.weights.get_input_embeddings().weight.device  # type: ignore[operator]
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.weights.dtype  # type: ignore[assignment]
        return dtype

    # ------------------------------------------------------------------------------------------------ routers

    @cached_property
    def _mixtures(self) -> dict[int, Any]:
        """Layer -> the module that holds its experts."""
        layers = self._body.layers if hasattr(self._body, "layers") else self._body.blocks
        found = {i: [part for part in layer.children() if hasattr(part, "experts")] for i, layer in enumerate(layers)}
        return {i: parts[0] for i, parts in found.items() if parts}

    @property
    def mixtures(self) -> tuple[int, ...]:
        return tuple(self._mixtures)

    @property
    def experts(self) -> int:
        return self.counts.mixtures[0][1].experts if self.counts.mixtures else 0

    @property
    def opened(self) -> None:
        """Its modules are the family's own."""

    @contextmanager
    def _tapped(self) -> Iterator[list[LayerRouting]]:
        """Inside, each router that is called adds which experts it chose."""
        seen: list[LayerRouting] = []

        def tap(layer: int, mixture: Any) -> Any:
            def note(_module: Any, _inputs: Any, output: Any) -> None:
                chosen_TK = self.family.chosen(mixture, output)
                tokens, k = chosen_TK.shape
                token_N = torch.arange(tokens, device=chosen_TK.device).repeat_interleave(k)
                places = {"token_N": token_N.to(self.device), "expert_N": chosen_TK.flatten().to(self.device)}
                seen.append(LayerRouting(layer=layer, dropped=0, **places))

            return self.family.router(mixture).register_forward_hook(note)

        hooks = [tap(layer, mixture) for layer, mixture in self._mixtures.items()]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    # ------------------------------------------------------------------------------------------------ reading

    @torch.inference_mode()
    def score(
        self, tokens_BT: Tensor, targets_BT: Tensor, *, greedy: bool = False, cache: CheckpointCache | None = None
    ) -> Scores:
        """See `Subject`."""
        was_training = self.weights.training
        self._evaluating()
        with self._tapped() as routings:
            hidden_ND = self._read(tokens_BT, cache).flatten(0, 1)
        logprobs, firsts, some = [], [], max(1, LOGITS_AT_ONCE // self.counts.vocab)
        targets_NK = targets_BT.reshape(len(hidden_ND), -1)
        for part_ND, part_NK in zip(torch.split(hidden_ND, some), torch.split(targets_NK, some), strict=True):
            logits_NV = self.family.logits(self.weights, part_ND).float().to(self.device)
            logprobs.append(logits_NV.log_softmax(-1).gather(1, part_NK))
            if greedy:
                firsts.append(logits_NV.argmax(-1)[:, None] == part_NK)
        if was_training:
            self.weights.train()
        return Scores(
            logprob_BT=torch.cat(logprobs).view_as(targets_BT),
            greedy_BT=torch.cat(firsts).view_as(targets_BT) if greedy else None,
            routings=tuple(routings),
        )

    @torch.inference_mode()
    def routings(self, tokens_BT: Tensor) -> tuple[LayerRouting, ...]:
        if not self._mixtures:
            return ()
        was_training = self.weights.training
        self._evaluating()
        with self._tapped() as routings:
            self._read(tokens_BT, None)
        if was_training:
            self.weights.train()
        return tuple(routings)

    def new_cache(self, batch: int, room: int | None = None) -> CheckpointCache:
        return CheckpointCache(self._shapes, batch=batch, room=self.context if room is None else room)

    @torch.inference_mode()
    def extend(self, tokens_BT: Tensor, cache: Any) -> Tensor:
        self._evaluating()
        return self.family.logits(self.weights, self._read(tokens_BT, cache)[:, -1]).to(self.device)

    def _evaluating(self) -> None:
        """Only when it changes: walking all modules would be timed too."""
        if self.weights.training:
            self.weights.eval()

    @property
    def _body(self) -> Any:
        """The model without its head. Of Llama 4 the prefix that transformers names is that of a wrapper."""
        base = self.weights.base_model
        return base if base is not self.weights else self.weights.model

    def _read(self, tokens_BT: Tensor, cache: CheckpointCache | None) -> Tensor:
        """Hidden states after the last norm, [B, T, D]. Raises ValueError beyond a cache's room."""
        if cache is None:
            return self._hidden(tokens_BT, use_cache=False)
        if cache.length + tokens_BT.shape[1] > cache.room:
            raise ValueError(
                f"{cache.length} + {tokens_BT.shape[1]} tokens are more than the {cache.room} there is room for"
            )
        return self._hidden(tokens_BT, use_cache=True, **{self._word: cache.layers})

    def _hidden(self, tokens_BT: Tensor, **options: Any) -> Tensor:
        hidden_BTD: Tensor = self._body(input_ids=tokens_BT, **options).last_hidden_state
        return hidden_BTD

    @cached_property
    def _word(self) -> str:
        """What this version of transformers calls the cache."""
        return "cache" if "cache" in inspect.signature(self._body.forward).parameters else "past_key_values"

    @cached_property
    @torch.inference_mode()
    def _shapes(self) -> tuple[LayerShape, ...]:
        """What each layer keeps of a token, seen from one that is read."""
        self._evaluating()
        probe = DynamicCache(config=self.weights.config)
        if odd := {type(layer).__name__ for layer in probe.layers} - {"DynamicLayer", "DynamicSlidingWindowLayer"}:
            raise ValueError(f"a cache of {', '.join(sorted(odd))} is not kept here")
        token_BT = torch.full((1, 1), self.tokenizer.start, device=self.device)
        self._hidden(token_BT, use_cache=True, **{self._word: probe})
        return tuple(map(_shape, probe.layers))


def _shape(layer: DynamicLayer) -> LayerShape:
    return LayerShape(
        key_HC=(layer.keys.shape[1], layer.keys.shape[3]),
        value_HC=(layer.values.shape[1], layer.values.shape[3]),
        window=layer.sliding_window if isinstance(layer, DynamicSlidingWindowLayer) else None,
        device=layer.keys.device,
        dtype=layer.keys.dtype,
    )
