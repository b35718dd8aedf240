"""Our decoder as a `Subject`: the only file through which measuring code reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.counting.blueprint import Blueprint
from moebench.data.tokenizer import BYTES
from moebench.models.decoder.experts import BACKENDS
from moebench.models.decoder.moe import MoE
from moebench.models.decoder.opened import OpenedDecoder
from moebench.models.decoder.transformer import KVCache, Output, Transformer
from moebench.models.subject import Cache, LayerRouting, Scores, Tokenizer
from moebench.suite.model import MoEFFN


class DecoderSubject:
    """A decoder with whatever weights it has: trained ones, or its initial values."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer = BYTES) -> None:
        self.weights, self.tokenizer = model, tokenizer

    @property
    def context(self) -> int:
        return self.weights.architecture.context

    @property
    def counts(self) -> Blueprint:
        return self.weights.architecture.blueprint

    @property
    def device(self) -> torch.device:
        return self.weights.embedding.device

    @property
    def dtype(self) -> torch.dtype:
        return self.weights.dtype

    @property
    def mixtures(self) -> tuple[int, ...]:
        return self.weights.architecture.moe_layers

    @property
    def experts(self) -> int:
        ffn = self.weights.architecture.ffn
        return ffn.experts if isinstance(ffn, MoEFFN) else 0

    @property
    def opened(self) -> OpenedDecoder:
        return OpenedDecoder(self.weights)

    @torch.inference_mode()
    def score(
        self, tokens_BT: Tensor, targets_BT: Tensor, *, greedy: bool = False, cache: Cache | None = None
    ) -> Scores:
        """See `Subject`; the log-probability is taken as training takes its loss."""
        output = self._read(tokens_BT, cache)
        logits_BTV = output.logits_BTV
        first_BT = logits_BTV.argmax(-1) if greedy else None
        if targets_BT.ndim == 3:
            logprob_BT = logits_BTV.log_softmax(-1).gather(-1, targets_BT)
            first_BT = None if first_BT is None else first_BT[:, :, None]
        else:
            nats = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
            logprob_BT = -nats.view_as(targets_BT)
        return Scores(
            logprob_BT=logprob_BT,
            greedy_BT=None if first_BT is None else first_BT == targets_BT,
            routings=self._routings(output),
        )

    @torch.inference_mode()
    def routings(self, tokens_BT: Tensor) -> tuple[LayerRouting, ...]:
        return self._routings(self._read(tokens_BT))

    def _read(self, tokens_BT: Tensor, cache: Cache | None = None) -> Output:
        """A forward pass in evaluation, after which the model is in the mode it was in."""
        was_training = self.weights.training
        self._evaluating()
        output: Output = self.weights(tokens_BT, cache=cache)
        if was_training:
            self.weights.train()
        return output

    def _routings(self, output: Output) -> tuple[LayerRouting, ...]:
        return tuple(
            LayerRouting(layer=layer, token_N=routing.token_N, expert_N=routing.expert_N, dropped=routing.dropped)
            for layer, routing in zip(self.mixtures, output.routings, strict=True)
        )

    def new_cache(self, batch: int, room: int | None = None) -> KVCache:
        return self.weights.new_cache(batch, room)

    @torch.inference_mode()
    def extend(self, tokens_BT: Tensor, cache: Cache) -> Tensor:
        self._evaluating()
        output: Output = self.weights(tokens_BT, cache=cache)
        return output.logits_BTV[:, -1]

    def _evaluating(self) -> None:
        """Only when it changes: walking all modules would be timed too."""
        if self.weights.training:
            self.weights.eval()


@contextmanager
def experts_one_by_one(model: Transformer) -> Iterator[None]:
    """Inside, every mixture computes with the loop, whose products torch's counter of FLOPs sees."""
    mixtures = [layer.ffn for layer in model.layers if isinstance(layer.ffn, MoE)]
    usual = [mixture.compute for mixture in mixtures]
    try:
        for mixture in mixtures:
            mixture.compute = BACKENDS["loop"]
        yield
    finally:
        for mixture, compute in zip(mixtures, usual, strict=True):
            mixture.compute = compute


@torch.no_grad()
def ffn_output_rms(model: Transformer, tokens_BT: Tensor) -> list[float]:
    """Root mean square of each layer's FFN output."""
    rms: list[float] = []

    def note(_module: nn.Module, _inputs: object, output: tuple[Tensor, object]) -> None:
        rms.append(float(output[0].float().square().mean().sqrt()))

    handles = [layer.ffn.register_forward_hook(note) for layer in model.layers]
    was_training = model.training
    try:
        model.eval()
        model(tokens_BT)
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return rms
