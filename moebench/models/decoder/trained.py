"""Which weights of a decoder are trained: all of them until `adapt` says otherwise.

`own_state` gives a model's own weights again, adapters merged into them: what is stored, served and exported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from moebench.counting.trained import Part, Trained
from moebench.models.decoder.adapters import STACKED, Adapter, TrainedApart
from moebench.models.decoder.experts import BACKENDS
from moebench.models.decoder.moe import MoE
from moebench.models.decoder.transformer import Transformer

Chosen = Mapping[int, Sequence[int]]
"""Layer -> its experts that are trained, rising."""


def part_of(name: str, *, mixtures: Sequence[int]) -> Part:
    """The part that a parameter belongs to, by its name; `mixtures` are the layers that are some."""
    first, *rest = name.split(".")
    if first in ("embedding", "head"):
        return "embedding"
    if first == "norm" or any(word.endswith("norm") for word in rest):
        return "norms"
    if rest[1] == "attention":
        return "attention"
    if rest[2] == "router":
        return "router"
    return "experts" if int(rest[0]) in mixtures and rest[2] in STACKED else "dense"


def adapt(model: Transformer, trained: Trained, *, seed: int, chosen: Chosen | None = None) -> None:
    """Leaves gradients to what is `trained` of a decoder that has its own weights, and puts adapters beside them.

    `chosen` are the experts that are trained, where not all of a mixture are. Mixtures compute one expert after the
    other from now on, as other backends know neither adapters nor experts that stand apart.
    """
    mixtures = model.architecture.moe_layers
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name, mixtures=mixtures) in trained.parts)
    model.trains_routers = trained.has("router")
    for prefix, part, module, names in list(_adaptable(model)):
        if trained.lora is not None and trained.adapts(part):
            adapters = {name: Adapter(getattr(module, name), trained.lora) for name in names}
            for name, adapter in adapters.items():
                adapter.initialise(seed, f"{prefix}.{name}")
            module.lora = nn.ModuleDict(adapters)
    for layer in model.layers:
        layer.attention.fused = False
        if isinstance(layer.ffn, MoE):
            layer.ffn.compute = BACKENDS["loop"]
    for index, experts in (chosen or {}).items():
        mixture = model.layers[index].ffn
        assert isinstance(mixture, MoE)
        _set_apart(mixture, experts)


def _adaptable(model: Transformer) -> Iterator[tuple[str, Part, nn.Module, tuple[str, ...]]]:
    """(its name, the part it is of, the module, its matrices) of all that may have adapters."""
    for index, layer in enumerate(model.layers):
        prefix, ffn = f"layers.{index}", layer.ffn
        yield f"{prefix}.attention", "attention", layer.attention, ("query", "key", "value", "output")
        yield f"{prefix}.ffn", "experts" if isinstance(ffn, MoE) else "dense", ffn, ("gate_up", "down")
        if isinstance(ffn, MoE) and ffn.shared is not None:
            yield f"{prefix}.ffn.shared", "dense", ffn.shared, ("gate_up", "down")


def _set_apart(mixture: MoE, chosen: Sequence[int]) -> None:
    mixture.apart = TrainedApart(mixture, chosen)
    others = [expert for expert in range(mixture.gate_up.shape[0]) if expert not in chosen]
    for name in STACKED:
        if (held := getattr(mixture, name)) is not None:
            setattr(mixture, name, nn.Parameter(held.detach()[others].clone(), requires_grad=False))


@torch.no_grad()
def own_state(model: Transformer) -> dict[str, Tensor]:
    """Its state as that of a model without adapters, in which every expert is trained or none."""
    beside = (".lora.", ".apart.")
    state = {name: value for name, value in model.state_dict().items() if not any(word in name for word in beside)}
    for prefix, _, module, names in _adaptable(model):
        if isinstance(module, MoE) and module.apart is not None:
            state |= {f"{prefix}.{name}": value for name, value in _together(module, module.apart)}
        if isinstance(adapters := module.lora, nn.ModuleDict):
            for name in names:
                adapter = adapters[name]
                assert isinstance(adapter, Adapter)
                state[f"{prefix}.{name}"] = state[f"{prefix}.{name}"] + adapter.change()
    return state


def _together(mixture: MoE, apart: TrainedApart) -> Iterator[tuple[str, Tensor]]:
    """Tensors of all experts, each in its place."""
    others = [expert for expert in range(mixture.router.experts) if expert not in apart.chosen]
    for name in STACKED:
        if (held := getattr(mixture, name)) is not None:
            own = getattr(apart, name)
            whole = held.new_empty(len(others) + len(own), *held.shape[1:])
            whole[others], whole[list(apart.chosen)] = held, own
            yield name, whole


def chosen_of(model: Transformer, layer: int) -> tuple[int, ...] | None:
    """The experts of a mixture that alone are trained; None where all are, or none."""
    mixture = model.layers[layer].ffn
    return mixture.apart.chosen if isinstance(mixture, MoE) and mixture.apart is not None else None


def adapter_state(model: Transformer) -> dict[str, Tensor]:
    """Its adapters alone, as `layers.0.attention.query.lora_A`; empty without."""
    held = {name: value for name, value in model.state_dict().items() if ".lora." in name}
    return {name.replace(".lora.", "."): value for name, value in held.items()}
