"""`moebench inspect`: everything that can be counted about one model, from its sizes alone."""

from __future__ import annotations

from typing import Any

from moebench import costs
from moebench.data import VOCAB
from moebench.matching import PlanError, match_all
from moebench.plan import Architecture
from moebench.spec.load import load_suite
from moebench.zoo import system

BATCHES = (1, 8, 64)
CONVENTION = (
    "active = total minus the experts a token skips, router included, both tables included; "
    "FLOPs: 2 per multiply-add, causal attention as half its square"
)


def inspect_model(word: str, *, context: int | None = None) -> dict[str, Any]:
    """Counts of a published system, or of `SUITE:MODEL`. Raises PlanError or SuiteError for unknown names."""
    a, about = _find(word)
    if context is not None:
        a = a.model_copy(update={"context": context})
    count = costs.parameters(a)
    hidden = costs.ffn_hidden(a)
    return {
        "model": word,
        **about,
        "architecture": a.model_dump(mode="json"),
        "params": count.model_dump(),
        "context": a.context,
        "train_flops_per_token": costs.train_flops_per_token(a),
        "decode_flops_per_token": costs.decode_flops_per_token(a, cached=a.context),
        "weight_bytes": {name: count.total * size for name, size in costs.DTYPE_BYTES.items()},
        "kv_bytes_per_token": {name: costs.kv_bytes_per_token(a, dtype=name) for name in costs.DTYPE_BYTES},
        "experts_touched": {str(n): costs.experts_touched(a, tokens=n) for n in BATCHES},
        "ffn_hidden": hidden,
        "saving_against_equal_total": 1 - count.active_no_embedding / count.total_no_embedding,
        "convention": CONVENTION,
    }


def _find(word: str) -> tuple[Architecture, dict[str, Any]]:
    if ":" in word:
        return _of_suite(*word.rsplit(":", 1)), {}
    try:
        found = system(word)
    except KeyError as error:
        raise PlanError(f"{error.args[0]}; a model of a suite is written SUITE:MODEL") from None
    about = found.model_dump(include={"year", "published_total", "published_active", "source", "note"})
    return found.architecture, about


def _of_suite(suite: str, model: str) -> Architecture:
    solved, _ = match_all(load_suite(suite).spec, vocab=VOCAB)
    if model not in solved:
        raise PlanError(f"{suite} has no model {model!r}; it has {', '.join(solved)}")
    return solved[model]


def inspection_text(found: dict[str, Any]) -> str:
    """The same for a reader."""
    a, params = found["architecture"], found["params"]
    ffn = a["ffn"]
    shape = f"{a['layers']} layers, width {a['width']}, {a['heads']} heads ({a['kv_heads']} key-value), FFN "
    if ffn["kind"] == "moe":
        shape += f"{ffn['experts']} experts of {ffn['expert_hidden']}, top-{ffn['top_k']}"
    else:
        shape += f"dense of {ffn['hidden']}"
    rows = [
        ("shape", shape),
        ("total", f"{params['total']:,} parameters ({params['total_no_embedding']:,} without tables)"),
        ("active", f"{params['active']:,} ({params['active_no_embedding']:,} without tables)"),
        ("train FLOPs/token", f"{found['train_flops_per_token']:,.0f} at context {found['context']:,}"),
        ("decode FLOPs/token", f"{found['decode_flops_per_token']:,.0f} at {found['context']:,} cached tokens"),
        ("weight bytes", ", ".join(f"{v:,} {k}" for k, v in found["weight_bytes"].items())),
        ("cache bytes/token", ", ".join(f"{v:,} {k}" for k, v in found["kv_bytes_per_token"].items())),
        ("saving", f"{found['saving_against_equal_total']:.1%} of the weights per token, against equal total"),
    ]
    if ffn["kind"] == "moe":
        touched = ", ".join(f"{v:.1f} at batch {k}" for k, v in found["experts_touched"].items())
        rows.append(("experts touched", f"{touched} (uniform routing)"))
    published = (key for key in ("published_total", "published_active") if found.get(key))
    rows += [(key.replace("_", " "), f"{found[key]:,.0f}") for key in published]
    rows += [(key, found[key]) for key in ("source", "note") if found.get(key)]
    rows.append(("convention", found["convention"]))
    width = max(len(name) for name, _ in rows)
    return "\n".join([found["model"], *(f"  {name.ljust(width)}  {value}" for name, value in rows)])
