"""`moebench inspect`: everything that can be counted about one model from its sizes alone, or about all systems.

Whatever is named, a published system, a transformers configuration or a model of a suite, becomes a `Blueprint` and is
counted by the same formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moebench.counting import flops, memory, weights
from moebench.counting.blueprint import Blueprint, LatentAttention
from moebench.models.architecture import Architecture
from moebench.planning.machine import expected_vocabularies
from moebench.planning.matching import PlanError, match_all
from moebench.suite.designs import designs
from moebench.suite.load import load_suite
from moebench.suite.words import known_systems
from moebench.systems import System, shape, system, systems, undisclosed
from moebench.systems.configs import ConfigError, assumed, language_model, load_config, read_config

BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Tokens at once for which the experts touched are told."""
CONTEXT = 2048
"""Tokens of context where neither the command nor the model says how many."""
CACHED = ("float32", "bfloat16", "int8")
"""Types a cache is counted in."""
CONVENTION = (
    "active = total minus the experts a token skips, router included, both tables included; "
    "FLOPs: 2 per multiply-add, causal attention as half its square, output head in, look-ups out"
)
SAVED = "of the weights outside the tables per token, against equal total"
PAIRS = "; a token of an encoder-decoder is one of the source and one of the target"


def inspect_model(word: str, *, context: int | None = None, ignore_keys: bool = False) -> dict[str, Any]:
    """Counts of a published system, of a `config.json` or a folder that holds one, or of `SUITE:MODEL`.

    `ignore_keys` counts a configuration without the keys that its family does not know. Raises PlanError or
    SuiteError, saying what would do, for what is not known or cannot be counted exactly.
    """
    path = Path(word)
    by_lower = {name.lower(): name for name in known_systems()}
    if word in by_lower or (word.lower() in by_lower and not _is_there(path)):
        return _of_system(system(by_lower[word.lower()]), context=context)
    if _is_there(path):
        return _of_config(word, path, context=context, ignore_keys=ignore_keys)
    if ":" in word:
        a = _of_suite(*word.rsplit(":", 1))
        found = inspect_blueprint(word, a.blueprint, context=context)
        return {**found, "architecture": a.model_dump(mode="json"), "ffn_hidden": a.ffn_hidden}
    if path.suffix == ".json" or len(path.parts) > 1:
        raise PlanError(f"{word}: no such file or folder")
    try:
        system(word)
    except KeyError as error:
        raise PlanError(
            f"{error.args[0]} (a model of a suite is written SUITE:MODEL, and a configuration path/to/config.json)"
        ) from None
    raise AssertionError


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the system's longest
        return False


def inspect_all(*, context: int | None = None) -> dict[str, Any]:
    """Counts of every published system at one context, the oldest first, and the names of the undisclosed."""
    context = context or CONTEXT
    return {
        "context": context,
        "systems": [_of_system(one, context=context) for one in systems()],
        "undisclosed": [one.model_dump() for one in undisclosed()],
        "convention": CONVENTION + PAIRS,
    }


def _of_system(one: System, *, context: int | None) -> dict[str, Any]:
    about = one.model_dump(exclude={"name", "family", "published", "blueprint", "experts_are"}, exclude_none=True)
    published = {f"published_{part}": figure.value for part, figure in one.published.figures.items()}
    if one.blueprint is None:
        return {"model": one.name, "kind": one.kind, **about, **published, "params": None, "why_not": one.describes}
    found = inspect_blueprint(one.name, one.blueprint, context=context)
    return {**found, **about, **published, "published": _compared(one)}


def _compared(one: System) -> dict[str, Any]:
    """Each published figure beside the count in its convention."""
    counts = {"total": one.parameters.total, "active": one.active_by_convention}
    return {
        part: {
            "figure": figure.text,
            "counts": one.published.active_counts if part == "active" else "all",
            "counted": counts[part],
            "error": counts[part] / figure.value - 1,
            "within_rounding": figure.holds(counts[part]),
        }
        for part, figure in one.published.figures.items()
    }


def _of_config(word: str, path: Path, *, context: int | None, ignore_keys: bool) -> dict[str, Any]:
    if path.suffix in (".yaml", ".yml"):
        raise PlanError(f"{word}: a configuration is JSON; a model of a suite is written {word}:MODEL")
    try:
        config = load_config(path)
    except ConfigError as error:  # which names the file
        raise PlanError(str(error)) from None
    try:
        blueprint, notes = read_config(config, ignore_keys=ignore_keys)
    except ConfigError as error:
        raise PlanError(f"{word}: {error}") from None
    found = inspect_blueprint(word, blueprint, context=context)
    note = "; ".join((*notes, *filter(None, [assumed(config)])))
    return {**found, "family": language_model(config)[0]["model_type"], **({"note": note} if note else {})}


def _of_suite(suite: str, model: str) -> Architecture:
    loaded = load_suite(suite)
    vocab, views = expected_vocabularies(loaded.spec, base=loaded.base)
    solved, _ = match_all(loaded.spec, vocab=vocab, views=views)
    if model not in solved:
        raise PlanError(f"{suite} has no model {model!r}; it has {', '.join(solved)}")
    return solved[model]


def inspect_blueprint(name: str, b: Blueprint, *, context: int | None = None) -> dict[str, Any]:
    """Every count of one model, as plain data."""
    context = context or b.context or CONTEXT
    count = weights.parameters(b)
    moe = bool(b.mixtures)
    return {
        "model": name,
        "kind": "moe" if moe else "dense",
        "shape": shape(b),
        "blueprint": b.model_dump(mode="json", exclude_defaults=True),
        "params": count.model_dump(),
        "active_without_input_tables": weights.active_without_input_tables(b),
        "params_per_expert": list(weights.parameters_per_expert(b)),
        "selection_biases": weights.selection_biases(b),
        "context": context,
        "forward_flops_per_token": flops.forward_flops_per_token(b, context=context),
        "train_flops_per_token": flops.train_flops_per_token(b, context=context),
        "decode_flops_per_token": flops.decode_flops_per_token(b, cached=context),
        "weight_bytes": {dtype: memory.weight_bytes(b, dtype) for dtype in memory.BITS},
        "kv_bytes_per_token": {dtype: memory.kv_bytes_per_token(b, dtype) for dtype in CACHED},
        "kv_bytes": {dtype: memory.kv_bytes(b, dtype, context=context) for dtype in CACHED},
        **({"expanded": _expanded(b, context=context)} if _is_latent(b) else {}),
        "experts": max((ffn.experts for _, ffn in b.mixtures), default=None),
        "experts_touched": {str(n): memory.experts_touched(b, tokens=n) for n in BATCHES} if moe else None,
        "saving_against_equal_total": weights.saving(b),
        "convention": CONVENTION + (PAIRS if len(b.stacks) == 2 else ""),
    }


def _is_latent(b: Blueprint) -> bool:
    return any(isinstance(layer.mixer, LatentAttention) for layer in b.layers)


def _expanded(b: Blueprint, *, context: int) -> dict[str, Any]:
    """Decoding of latent attention with keys and values of all heads in the cache; the other figures are absorbed."""
    return {
        "decode_flops_per_token": flops.decode_flops_per_token(b, cached=context, absorbed=False),
        "kv_bytes_per_token": {dtype: memory.kv_bytes_per_token(b, dtype, absorbed=False) for dtype in CACHED},
    }


# ------------------------------------------------------------------------------------------------ words


def inspection_text(found: dict[str, Any]) -> str:
    """One model's counts for a reader."""
    rows = [("not counted", found["why_not"])] if found["params"] is None else _count_rows(found)
    rows += _published_rows(found)
    rows += [(key, found[key]) for key in ("discrepancy", "source", "note", "family") if found.get(key)]
    if {"design", "suite", "apart"} & set(found):
        rows.append(("in a suite", suite_words(found)))
    if "convention" in found:
        rows.append(("convention", found["convention"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join([found["model"], *(f"  {name.ljust(width)}  {value}" for name, value in rows)])


def _count_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    params, context = found["params"], f"{found['context']:,}"
    without = found["active_without_input_tables"]
    rows = [
        ("shape", found["shape"]),
        ("total", f"{params['total']:,} parameters ({params['total_no_embedding']:,} without tables)"),
        (
            "active",
            f"{params['active']:,} ({without:,} without the input table, {params['active_no_embedding']:,} without "
            "tables)",
        ),
        ("forward FLOPs/token", f"{found['forward_flops_per_token']:,.0f} at context {context}"),
        ("train FLOPs/token", f"{found['train_flops_per_token']:,.0f} at context {context}"),
        ("decode FLOPs/token", f"{found['decode_flops_per_token']:,.0f} at {context} cached tokens"),
        ("weights", _by_type(found["weight_bytes"])),
        ("cache of a token", _by_type(found["kv_bytes_per_token"])),
        ("cache", f"{_by_type(found['kv_bytes'])}, of {context} tokens"),
        *_latent_rows(found, context),
        ("saving", f"{found['saving_against_equal_total']:.1%} {SAVED}"),
    ]
    if found["experts_touched"]:
        rows.append(("one expert", " or ".join(f"{n:,}" for n in found["params_per_expert"]) + " parameters"))
        touched = ", ".join(f"{v:.1f} at batch {k}" for k, v in found["experts_touched"].items())
        rows.append(("experts touched", f"{touched}, of {found['experts']:,} in a layer (uniform routing)"))
    if found["selection_biases"]:
        rows.append(("not in total", f"{found['selection_biases']:,} selection biases, which are no parameters"))
    return rows


def _latent_rows(found: dict[str, Any], context: str) -> list[tuple[str, str]]:
    """What the figures of a latent cache go with, and the same with keys and values of all heads."""
    if "expanded" not in found:
        return []
    other = found["expanded"]
    flops = f"{other['decode_flops_per_token']:,} decode FLOPs/token at {context} cached tokens"
    absorbed = "decoding and cache above are absorbed: heads attend to the cached latent"
    return [
        ("latent attention", f"{absorbed}; expanded to heads: {flops}, {_by_type(other['kv_bytes_per_token'])} a token")
    ]


def _by_type(sizes: Mapping[str, int]) -> str:
    """`93.4 GB bfloat16, 46.7 GB int8`."""
    return ", ".join(f"{size_text(size)} {name}" for name, size in sizes.items())


def size_text(size: int) -> str:
    """Bytes in the largest decimal unit that leaves at least 1: `187 GB`, `1.34 TB`, `512 B`."""
    for scale, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= scale:
            value = size / scale
            return f"{value:,.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{size} B"


_CONVENTIONS = {"all": "", "without_input_tables": " without the input table"}


def _published_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for part, one in found.get("published", {}).items():
        fits = "within its rounding" if one["within_rounding"] else "not within its rounding: see discrepancy"
        counted = f"counted {one['counted']:,}{_CONVENTIONS[one['counts']]}, {one['error']:+.2%}, {fits}"
        rows.append((f"published {part}", f"{one['figure']}; {counted}"))
    if "published" not in found:
        published = (key for key in ("published_total", "published_active") if found.get(key))
        rows += [(key.replace("_", " "), f"{found[key]:,.0f}") for key in published]
    return rows


def suite_words(one: Mapping[str, Any]) -> str:
    """How a suite would write a system: the words of its design or its own, and what they do not say."""
    if one.get("design") is not None:
        design = designs()[one["design"]]
        differs = f"; here {one['differs']}" if one.get("differs") else ""
        words, apart = f"{one['design']}: {design.words}{differs}", str(design.apart)
    else:
        words, apart = str(one.get("suite") or "no words"), str(one.get("apart") or "")
    return f"{words} (differences: {apart})" if apart else words
