"""What serving measurements see of our decoder besides a subject: its experts behind a map, and the parts of a layer.

Legend: B sequences, T tokens, D width, X rows of the input projection, F expert hidden, R rows of an expert.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from moebench.models.decoder.experts.activations import activate
from moebench.models.decoder.experts.offloaded import Offloaded, offloaded
from moebench.models.decoder.moe import MoE
from moebench.models.decoder.products import linear
from moebench.models.decoder.subject import experts_one_by_one
from moebench.models.decoder.transformer import KVCache, Layer, Transformer
from moebench.models.routers import Text
from moebench.models.subject import Copies


class DecoderInside:
    """See `models.subject.Inside`."""

    def __init__(self, model: Transformer) -> None:
        self.model = model

    @property
    def mixtures(self) -> list[MoE]:
        return [layer.ffn for layer in self.model.layers if isinstance(layer.ffn, MoE)]

    @contextmanager
    def one_by_one(self) -> Iterator[None]:
        with experts_one_by_one(self.model):
            yield

    @contextmanager
    def offloaded(self, resident: int, *, copy_bytes_per_s: float | None) -> Iterator[Callable[[], Copies]]:
        with offloaded(self.mixtures, resident=resident, copy_bytes_per_s=copy_bytes_per_s) as backends:
            yield partial(_copies, backends)

    def parts(self, tokens_BT: Tensor, cache: KVCache) -> dict[str, Callable[[], object]]:
        model = self.model.eval()
        start = cache.length
        layers = [layer for layer in model.layers if isinstance(layer.ffn, MoE)]
        into: list[Tensor] = []
        given: list[tuple[Tensor, Text]] = []
        hooks = [layer.attention_norm.register_forward_pre_hook(lambda _, x: into.append(x[0])) for layer in layers]
        hooks += [layer.ffn.register_forward_pre_hook(lambda _, x: given.append(x)) for layer in layers]
        try:
            with torch.inference_mode():
                model(tokens_BT, cache=cache)
        finally:
            for hook in hooks:
                hook.remove()
        cache.cut(start)
        cos, sin = (table[start : start + tokens_BT.shape[1]] for table in (model.cos_TC, model.sin_TC))  # type: ignore[index]
        held = {id(layer): cache.layers[index] for index, layer in enumerate(model.layers)}
        seen = [
            _Seen(layer=layer, into_BTD=x_BTD, normed_BTD=normed_BTD, text=text)
            for layer, x_BTD, (normed_BTD, text) in zip(layers, into, given, strict=True)
        ]
        products = [one for each in seen for one in _products(each)]

        def whole(one: _Seen) -> Tensor:
            layer, normed_BTD = one.layer, one.layer.attention_norm(one.into_BTD)
            mixed_BTD = layer.attention(normed_BTD, cos, sin, cache=held[id(layer)], start=start)
            x_BTD: Tensor = one.into_BTD + mixed_BTD
            out_BTD: Tensor = layer.ffn(layer.ffn_norm(x_BTD), one.text)[0]
            return x_BTD + out_BTD

        timed: dict[str, Callable[[], object]] = {
            "layer": lambda: [whole(one) for one in seen],
            "ffn": lambda: [one.layer.ffn(one.normed_BTD, one.text)[0] for one in seen],
            "router": lambda: [one.mixture.router(one.rows_TD, one.text) for one in seen],
            "products": lambda: [product() for product in products],
        }
        return {part: torch.inference_mode()(call) for part, call in timed.items()}


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one mixture's layer was given."""

    layer: Layer
    into_BTD: Tensor
    normed_BTD: Tensor
    text: Text

    @property
    def mixture(self) -> MoE:
        assert isinstance(self.layer.ffn, MoE)
        return self.layer.ffn

    @property
    def rows_TD(self) -> Tensor:  # noqa: N802
        return self.normed_BTD.reshape(-1, self.normed_BTD.shape[-1])


def _products(one: _Seen) -> list[Callable[[], object]]:
    """The networks of the experts that were used, each on its rows as they lie after sorting, and of the shared one."""
    mixture, x_TD = one.mixture, one.rows_TD
    products: list[Callable[[], object]] = []
    with torch.inference_mode():
        experts, routing = mixture.experts(x_TD.dtype), mixture.router(x_TD, one.text)
        for expert in routing.expert_N.unique().tolist():
            x_RD = x_TD[routing.token_N[routing.expert_N == expert]]
            weights = (experts.gate_up_EXD[expert], experts.down_EDF[expert])
            gate_up_bias_X = None if experts.gate_up_bias_EX is None else experts.gate_up_bias_EX[expert]
            down_bias_D = None if experts.down_bias_ED is None else experts.down_bias_ED[expert]
            products.append(partial(_network, experts.activation, x_RD, *weights, gate_up_bias_X, down_bias_D))
    if mixture.shared is not None:
        products.append(partial(mixture.shared, x_TD))
    return products


def _network(
    word: str, x_RD: Tensor, gate_up_XD: Tensor, down_DF: Tensor, gate_up_bias_X: Tensor | None,
    down_bias_D: Tensor | None,
) -> Tensor:  # fmt: skip
    return linear(activate(word, linear(x_RD, gate_up_XD, gate_up_bias_X)), down_DF, down_bias_D)


def _copies(backends: list[Offloaded]) -> Copies:
    return Copies(
        used=sum(one.used for one in backends),
        copied=sum(one.copied for one in backends),
        copied_bytes=sum(one.copied * one.expert_bytes for one in backends),
    )
