"""A pre-norm decoder: RMSNorm, rotary grouped-query attention, gated FFN or mixture of experts, tied or untied head.

The shapes are those of Llama and Mixtral, so a model can be written as their checkpoint. Weights are kept in float32;
`dtype` is that of activations and matrix products, and the loss is taken in float32.

Legend: B batch, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.architecture import Architecture, Kernels
from moebench.models.decoder.attention import Attention, LayerCache
from moebench.models.decoder.experts import default_backend
from moebench.models.decoder.moe import Dense, MoE
from moebench.models.decoder.norm import RMSNorm as RMSNorm
from moebench.models.decoder.products import linear
from moebench.models.decoder.rotary import rotary_table
from moebench.models.initial import normal_
from moebench.models.routers import Router, Routing, Text, same_code
from moebench.seeds import generator
from moebench.suite.model import MoEFFN

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a forward pass gives."""

    logits_BTV: Tensor
    """float32."""
    routings: tuple[Routing, ...]
    """One per MoE layer; empty for a dense model."""


@dataclass(kw_only=True)
class KVCache:
    """Keys and values of every layer, and how many tokens they hold."""

    layers: list[LayerCache]
    length: int = 0

    @property
    def tensors(self) -> list[Tensor]:
        """What it holds them in."""
        return [held for layer in self.layers for held in (layer.keys_BGSC, layer.values_BGSC)]

    def cut(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""
        self.length = length

    def share(self, other: KVCache, row_B: Tensor | None = None) -> None:
        """Holds for its i-th sequence what `other` holds for its sequence `row_B[i]`, or for its only one."""
        held = slice(0, other.length)
        for mine, its in zip(self.tensors, other.tensors, strict=True):
            its_BGSC = its[:, :, held]
            mine[:, :, held] = its_BGSC if row_B is None else its_BGSC.index_select(0, row_B)
        self.length = other.length


class Layer(nn.Module):
    """x + attention(norm x), then x + ffn(norm x)."""

    def __init__(self, a: Architecture, *, index: int, backend: str, kernels: Kernels) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(a.width, eps=a.norm_eps, kernels=kernels)
        self.attention = Attention(a, layer=index, kernels=kernels)
        self.ffn_norm = RMSNorm(a.width, eps=a.norm_eps, kernels=kernels)
        ffn = a.ffns[index]
        self.ffn: Dense | MoE
        if isinstance(ffn, MoEFFN):
            self.ffn = MoE(ffn, width=a.width, vocab=a.vocab, layer=index, backend=backend)
        else:
            self.ffn = Dense(ffn, width=a.width)


class Transformer(nn.Module):
    """A decoder of one `Architecture`. `build` makes one with its initial weights."""

    layers: Sequence[Layer]
    """An nn.ModuleList, typed by what it holds."""

    def __init__(self, a: Architecture, *, dtype: str, backend: str, kernels: Kernels = "unfused") -> None:
        super().__init__()
        self.architecture = a
        self.trains_routers = True
        """Whether routers move, by a gradient or by load."""
        self.dtype = DTYPES[dtype]
        self.embedding = nn.Parameter(torch.empty(a.vocab, a.width))
        layers = (Layer(a, index=i, backend=backend, kernels=kernels) for i in range(a.layers))
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.norm = RMSNorm(a.width, eps=a.norm_eps, kernels=kernels)
        self.head = None if a.tied_embeddings else nn.Parameter(torch.empty(a.vocab, a.width))
        cos, sin = rotary_table(a, device=self.embedding.device)
        self.register_buffer("cos_TC", cos, persistent=False)
        self.register_buffer("sin_TC", sin, persistent=False)

    def forward(
        self, tokens_BT: Tensor, *, cache: KVCache | None = None, generator: torch.Generator | None = None
    ) -> Output:
        """Logits for every position.

        With a cache, `tokens_BT` follow the tokens it holds, and it holds them afterwards. `generator`, on the model's
        device, is what routers draw from in training. Raises ValueError when the sequence would grow beyond the
        context, and when a router must draw and has no generator.
        """
        start = 0 if cache is None else cache.length
        stop = start + tokens_BT.shape[1]
        if stop > self.architecture.context:
            raise ValueError(f"{stop} tokens do not fit the context of {self.architecture.context}")
        cos, sin = self.cos_TC[start:stop], self.sin_TC[start:stop]  # type: ignore[index]
        x_BTD = F.embedding(tokens_BT, self.embedding).to(self.dtype)
        text = Text(ids_BT=tokens_BT, start=start, generator=generator)
        routings: list[Routing] = []
        for index, layer in enumerate(self.layers):
            held = None if cache is None else cache.layers[index]
            x_BTD = x_BTD + layer.attention(layer.attention_norm(x_BTD), cos, sin, cache=held, start=start)
            out_BTD, routing = layer.ffn(layer.ffn_norm(x_BTD), text)
            x_BTD = x_BTD + out_BTD
            if routing is not None:
                routings.append(routing)
        if cache is not None:
            cache.length = stop
        table = self.embedding if self.head is None else self.head
        logits_BTV = linear(self.norm(x_BTD), table.to(self.dtype)).float()
        return Output(logits_BTV=logits_BTV, routings=tuple(routings))

    def route(self, tokens_BT: Tensor, *, generator: torch.Generator | None = None) -> tuple[Routing, ...]:
        """The routings of whole sequences, as `forward` gives them; nothing behind the last router is computed."""
        stop, last = tokens_BT.shape[1], self.architecture.moe_layers[-1]
        cos, sin = self.cos_TC[:stop], self.sin_TC[:stop]  # type: ignore[index]
        x_BTD = F.embedding(tokens_BT, self.embedding).to(self.dtype)
        text = Text(ids_BT=tokens_BT, generator=generator)
        routings: list[Routing] = []
        for index, layer in enumerate(self.layers):
            x_BTD = x_BTD + layer.attention(layer.attention_norm(x_BTD), cos, sin)
            normed_BTD = layer.ffn_norm(x_BTD)
            if index == last:
                routings.append(self.routers[-1](normed_BTD.flatten(0, 1), text))
                break
            out_BTD, routing = layer.ffn(normed_BTD, text)
            x_BTD = x_BTD + out_BTD
            routings += [] if routing is None else [routing]
        return tuple(routings)

    @property
    def routers(self) -> list[Router]:
        """One a mixture, in the order of layers."""
        return [layer.ffn.router for layer in self.layers if isinstance(layer.ffn, MoE)]

    def new_cache(self, batch: int, room: int | None = None) -> KVCache:
        """An empty cache with room for so many tokens, the whole context when absent."""
        a, device = self.architecture, self.embedding.device
        room = a.context if room is None else room
        layers = range(a.layers)
        return KVCache(layers=[LayerCache(a, batch=batch, room=room, dtype=self.dtype, device=device) for _ in layers])

    def after_step(self) -> None:
        """Called after every optimizer step, for routers that balance their load from step to step."""
        for router in self.routers:
            if self.trains_routers:
                router.after_step()
            else:
                Router.after_step(router)  # which only forgets the sums over its batch

    def permute_experts(self, seed: int) -> None:
        """Puts the experts of every mixture in an order drawn anew, so that what its router has learned is lost."""
        for index, layer in enumerate(self.layers):
            if isinstance(layer.ffn, MoE):
                order = generator(seed, f"layers.{index}.experts").permutation(layer.ffn.gate_up.shape[0])
                layer.ffn.permute(torch.from_numpy(order))

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Fills every weight from the seed: deviation 1/sqrt(fan-in), residual outputs divided by sqrt(2 layers)."""
        a = self.architecture
        normal_(self.embedding, seed, "embedding", std=a.width**-0.5)
        if self.head is not None:
            normal_(self.head, seed, "head", std=a.width**-0.5)
        depth_scale = (2 * a.layers) ** -0.5
        for index, layer in enumerate(self.layers):
            prefix = f"layers.{index}"
            for name in ("query", "key", "value"):
                normal_(getattr(layer.attention, name), seed, f"{prefix}.attention.{name}", std=a.width**-0.5)
            out_std = depth_scale * (a.heads * a.head_dim) ** -0.5
            normal_(layer.attention.output, seed, f"{prefix}.attention.output", std=out_std)
            layer.ffn.initialise(seed, f"{prefix}.ffn", depth_scale=depth_scale)


def build(
    architecture: Architecture,
    *,
    seed: int | None,
    dtype: str = "float32",
    device: str = "cpu",
    backend: str | None = None,
    kernels: Kernels = "unfused",
) -> Transformer:
    """A model with the initial weights of a seed, on a device; without a seed, for weights that are about to be loaded.

    `backend` is a word of `experts.BACKENDS`; the measured best for the device when absent. `fused` kernels are for
    float32 on a CPU: ValueError otherwise. Raises PluginError when the code of an installed package's router is not
    what was planned.
    """
    if kernels == "fused" and (dtype != "float32" or device != "cpu"):
        raise ValueError(f"fused kernels are for float32 on a CPU, not for {dtype} on {device}")
    if isinstance(architecture.ffn, MoEFFN):
        same_code(architecture.ffn.router, architecture.router)
    model = Transformer(architecture, dtype=dtype, backend=backend or default_backend(device), kernels=kernels)
    if seed is not None:
        model.initialise(seed)
    return model.to(device)


def cross_entropy_bits(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Cross-entropy of every position in bits, [B, T]; float32."""
    nats = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
    return nats.view_as(targets_BT) / torch.log(torch.tensor(2.0, device=nats.device))
