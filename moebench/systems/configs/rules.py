"""Which layers of a decoder have a window, and which have experts, by the rules of the families' classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from moebench.systems.configs.fields import Fields

Rule = Callable[[Fields], list[bool]]


def _where(holds: Callable[[int], bool]) -> Rule:
    """A rule that asks nothing but the layer's number, from 0."""
    return lambda f: [holds(i) for i in range(f.layers())]


def _rotary(f: Fields) -> list[bool]:
    """Layers with rotary positions: as listed, else all but every `no_rope_layer_interval`-th."""
    layers, every = f.layers(), f.size("no_rope_layer_interval")
    given = f.sequence("no_rope_layers", int) or [(i + 1) % every != 0 for i in range(layers)]
    if len(given) != layers:
        raise f.refuse("no_rope_layers", f"{len(given):,} entries for {layers:,} layers")
    return [bool(has) for has in given]


def _without_rotary(f: Fields) -> list[bool]:
    """SmolLM3's."""
    slides = f.flag("use_sliding_window") and f.optional("sliding_window") is not None
    return [slides and not has for has in _rotary(f)]


def _from_max_window_layers(f: Fields) -> list[bool]:
    """Qwen's, with `use_sliding_window`, and that of dots.llm1, which has no such switch."""
    slides = ("use_sliding_window" not in f.defaults or f.flag("use_sliding_window")) and (
        f.optional("sliding_window") is not None
    )
    first = f.number("max_window_layers") if slides else f.layers()
    return [i >= first for i in range(f.layers())]


def _every_other_below_max_window_layers(f: Fields) -> list[bool]:
    """Qwen2-MoE's."""
    slides, last = f.flag("use_sliding_window"), f.number("max_window_layers")
    return [slides and i % 2 == 0 and i < last for i in range(f.layers())]


WINDOWS: Mapping[str, Rule] = {
    "nowhere": _where(lambda _: False),
    "everywhere": _where(lambda _: True),
    "every_other": _where(lambda i: i % 2 == 0),
    "three_of_four": _where(lambda i: (i + 1) % 4 != 0),
    "use_sliding_window": lambda f: [f.flag("use_sliding_window")] * f.layers(),
    "with_rotary": _rotary,
    "without_rotary": _without_rotary,
    "from_max_window_layers": _from_max_window_layers,
    "every_other_below_max_window_layers": _every_other_below_max_window_layers,
}


def _decoder_sparse_step(f: Fields) -> list[bool]:
    """Every `decoder_sparse_step`-th layer but `mlp_only_layers`, and none with 0 experts (Qwen)."""
    step, only = f.size("decoder_sparse_step"), set(f.sequence("mlp_only_layers", int) or ())
    there = f.number("num_experts" if "num_experts" in f.defaults else "num_local_experts") > 0
    return [there and i not in only and (i + 1) % step == 0 for i in range(f.layers())]


def _moe_layers(f: Fields) -> list[bool]:
    """As listed, else every `interleave_moe_layer_step`-th (Llama 4)."""
    step, given = f.size("interleave_moe_layer_step"), f.sequence("moe_layers", int)
    for key in ("intermediate_size", "intermediate_size_mlp"):  # both are checked, whichever layers there are
        f.size(key)
    return [(i + 1) % step == 0 if given is None else i in given for i in range(f.layers())]


def _from_first_k_dense_replace(f: Fields) -> list[bool]:
    first = f.number("first_k_dense_replace")
    return [i >= first for i in range(f.layers())]


def _moe_layer_freq(f: Fields) -> list[bool]:
    """The publisher's: every `moe_layer_freq`-th from 0 that is not a first dense one; none when the number is null."""
    every, routed = f.size("moe_layer_freq"), f.get("n_routed_experts") is not None
    return [routed and later and i % every == 0 for i, later in enumerate(_from_first_k_dense_replace(f))]


def _moe_layer_interval(f: Fields) -> list[bool]:
    """ERNIE's, from a start to an end, -1 for the last."""
    last = f.layers() - 1 if f.get("moe_layer_end_index") == -1 else f.number("moe_layer_end_index")
    first, every = f.number("moe_layer_start_index"), f.size("moe_layer_interval")
    return [first <= i <= last and (i + 1) % every == 0 for i in range(f.layers())]


SPARSE: Mapping[str, Rule] = {
    "everywhere": _where(lambda _: True),
    "decoder_sparse_step": _decoder_sparse_step,
    "moe_layers": _moe_layers,
    "from_first_k_dense_replace": _from_first_k_dense_replace,
    "moe_layer_freq": _moe_layer_freq,
    "moe_layer_interval": _moe_layer_interval,
}
