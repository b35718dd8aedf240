"""What commands print: plans, outcomes and lists as text for a terminal. Words only; nothing is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moebench.progress import duration

if TYPE_CHECKING:
    from moebench.api import Outcome, Planned
    from moebench.claims import Verdict

STYLES = {"supported": "green", "refuted": "red", "inconclusive": "yellow", "invalid": "magenta", "not_tested": "dim"}


def _print(*parts: Any) -> str:
    """Rich renderables as text: with colours on a terminal, plain elsewhere, never cut."""
    terminal = Console()
    width = max(terminal.width, 100) if terminal.is_terminal else 160
    console = Console(file=StringIO(), width=width, force_terminal=terminal.is_terminal, highlight=False)
    for part in parts:
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip("\n").splitlines())


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and the rest numbers."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


# ------------------------------------------------------------------------------------------------ plan


def plan_text(planned: Planned) -> str:
    """`moebench plan`: models, matches, runs, data, warnings."""
    facts = plan_json(planned)
    models = _table(
        "models  (active = total minus the experts a token skips; router counts as active; * without embedding tables)",
        [
            "model",
            "sizes",
            "total",
            "active",
            "total*",
            "active*",
            "train FLOPs/token",
            "decode FLOPs/token",
            "weights",
            "KV/token",
        ],
        (
            [
                name,
                model["shape"],
                f"{model['params']['total']:,}",
                f"{model['params']['active']:,}",
                f"{model['params']['total_no_embedding']:,}",
                f"{model['params']['active_no_embedding']:,}",
                f"{model['train_flops_per_token']:,.0f}",
                f"{model['decode_flops_per_token']:,.0f}",
                f"{model['weight_bytes']:,} B",
                f"{model['kv_bytes_per_token']:,} B",
            ]
            for name, model in facts["models"].items()
        ),
        left=2,
    )
    matches = _table(
        "matches",
        ["model", "to", "on", "size", "target", "achieved", "residual", "tolerance"],
        (
            [m["model"], m["to"], m["on"], f"{m['by']} = {m['size']}", f"{m['target']:,.0f}", f"{m['achieved']:,.0f}",
             f"{m['residual']:+.3%}", f"{m['tolerance']:.2%}"]
            for m in facts["matches"]
        ),
        left=4,
    )  # fmt: skip
    budget = _table(
        "runs",
        ["model", "seeds", "steps", "tokens", "model FLOPs", "learning rate", "train state", "done", "each about"],
        (
            [
                name,
                len(planned.plan.spec.seeds),
                model["steps"],
                f"{model['tokens']:,}",
                f"{model['run_flops']:.3g}",
                f"{model['lr']:g}",
                f"{model['train_state_bytes']:,} B",
                sum(run["model"] == name and run["status"] in ("completed", "diverged") for run in facts["runs"]),
                duration(model["estimated_s"]),
            ]
            for name, model in facts["models"].items()
        ),
    )
    lines = [f"{facts['suite']}: {facts['question']}", "", models, ""]
    if facts["matches"]:
        lines += [matches, ""]
    lines += [budget, "", *_plan_lines(facts)]
    return _print(*lines)


def _plan_lines(facts: dict[str, Any]) -> list[str]:
    data, basis = facts["data"], "measured here" if facts["estimate_measured"] else "a guess, nothing has run here yet"
    todo = sum(run["status"] not in ("completed", "diverged") for run in facts["runs"])
    splits = ", ".join(f"{name} {count:,} tokens" for name, count in data["tokens"].items())
    lines = [
        f"data: {data['source']}, {splits}; digest {data['digest'][:12]}; "
        f"{data['leak_share']:.1%} of the test split's 50-byte windows occur in training "
        f"(threshold {data['leak_threshold']:.0%})",
        f"{todo} of {len(facts['runs'])} runs to do, "
        f"about {duration(facts['estimated_s'])} of one core in all ({basis})",
    ]
    if speed := facts["speed"]:
        lines.append(f"speed session: {len(speed['processes'])} processes, about {duration(speed['seconds'])}")
    if facts["tune"]:
        lines.append(f"learning-rate sweep (with --tune): {len(facts['tune']['runs'])} runs")
    return lines + [f"note: {text}" for text in facts["warnings"]]


def plan_json(planned: Planned) -> dict[str, Any]:
    """The plan as plain data, with what is done and how long the rest will take."""
    from moebench.calibration import flops_per_second
    from moebench.store import Results

    plan, results = planned.plan, Results(planned.results)
    rate, measured = flops_per_second(plan, results)
    status = {run.id: results.run(run.id).status() for run in plan.runs}
    seconds = {name: model.expected_train_flops / rate for name, model in plan.models.items()}
    runs = [
        {
            **run.model_dump(),
            "status": status[run.id],
            "done": status[run.id] in ("completed", "diverged"),
            "estimated_s": seconds[run.model],
        }
        for run in plan.runs
    ]
    return {
        "suite": plan.suite,
        "scale": plan.scale,
        "question": plan.spec.question,
        "plan": plan.id,
        "models": {
            name: {
                "shape": shape_of(model.architecture.model_dump(mode="json")),
                "architecture": model.architecture.model_dump(mode="json"),
                **model.costs.model_dump(mode="json"),
                "steps": model.recipe.steps,
                "tokens": model.recipe.steps * model.recipe.batch_tokens,
                "lr": model.recipe.lr,
                "run_flops": model.expected_train_flops,
                "estimated_s": seconds[name],
            }
            for name, model in plan.models.items()
        },
        "matches": [match.model_dump(mode="json") for match in plan.matches],
        "seeds": plan.spec.seeds,
        "runs": runs,
        "speed": plan.speed.model_dump(mode="json") if plan.speed else None,
        "tune": plan.tune.model_dump(mode="json") if plan.tune else None,
        "data": plan.data.model_dump(mode="json"),
        "estimated_s": sum(run["estimated_s"] for run in runs if run["status"] not in ("completed", "diverged")),
        "estimate_measured": measured,
        "warnings": list(plan.warnings),
    }


def shape_of(a: dict[str, Any]) -> str:
    """`2 x 64, 4 heads, 8 experts of 88, top-2`."""
    ffn = a["ffn"]
    inside = (
        f"{ffn['experts']} experts of {ffn['expert_hidden']}, top-{ffn['top_k']}"
        if ffn["kind"] == "moe"
        else f"FFN {ffn['hidden']}"
    )
    heads = f"{a['heads']} heads" if a["kv_heads"] == a["heads"] else f"{a['heads']} heads on {a['kv_heads']}"
    return f"{a['layers']} x {a['width']}, {heads}, {inside}"


# ------------------------------------------------------------------------------------------------ verdicts


def outcome_text(outcome: Outcome) -> str:
    """What `run` prints at the end: what was done, the verdicts, where the report is."""
    kinds: dict[str, int] = {}
    for status in outcome.statuses.values():
        kinds[status] = kinds.get(status, 0) + 1
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    done = f"{len(outcome.statuses)} runs: {counts}"
    if outcome.started == 0 and outcome.speed in (None, "already"):
        done = f"nothing to do: {done}" + (", speed session there" if outcome.speed else "")
    if outcome.sweep is not None:
        return f"{done}\n{sweep_text(outcome.sweep)}"
    assert outcome.report is not None
    return f"{done}\n{verdict_text(outcome.verdicts, path=outcome.report)}"


def sweep_text(sweep: dict[str, Any]) -> str:
    """The learning-rate curves of a sweep, and which rate to put into the suite."""
    rates = sorted({point["lr"] for model in sweep.values() for point in model["curve"]})
    rows = []
    for name, model in sweep.items():
        cells = []
        for rate in rates:
            found = [point["bits_per_byte"] for point in model["curve"] if point["lr"] == rate]
            cells.append("-" if None in found else f"{sum(found) / len(found):.4f}")
        best = "none: no rate completed" if model["best_lr"] is None else f"{model['best_lr']:g}"
        edge = "" if model["interior"] or model["best_lr"] is None else " (at the edge: widen the sweep)"
        rows.append([name, best + edge, f"{model['configured_lr']:g}", *cells])
    title = "tune.bits_per_byte by learning rate, mean over seeds; put the best into models.<name>.train.optimizer.lr"
    return _print(_table(title, ["model", "best", "configured", *(f"{rate:g}" for rate in rates)], rows, left=2))


def verdict_text(verdicts: Sequence[Verdict], *, path: Path) -> str:
    """A table of verdicts with their intervals, the reasons of those that are not clear, and the report's place."""
    from moebench.report.words import counted, decisive_p, effect

    table = _table(
        "",
        ["verdict", "claim", "estimate [95%]", "asked", "n", "p"],
        (
            [
                Text(verdict.state.upper().replace("_", " "), style=STYLES[verdict.state]),
                verdict.says + ("" if verdict.label == "primary" else f" ({verdict.label})"),
                effect(verdict),
                verdict.asked,
                counted(verdict),
                decisive_p(verdict).removeprefix("p "),
            ]
            for verdict in verdicts
        ),
        left=4,
    )
    reasons = [f"  {v.id}: {v.reason}" for v in verdicts if v.state not in ("supported", "refuted")]
    return _print(table, *(["", "why not:", *reasons] if reasons else []), "", f"report: {path / 'index.html'}")


# ------------------------------------------------------------------------------------------------ lists


def listing(what: str | None) -> str:
    """`moebench list`: one section, or all of them."""
    chosen = [what] if what else list(LISTS)
    return "\n\n".join(_print(_table(name, ["name", "what it is"], LISTS[name](), left=2)) for name in chosen)


def _suites() -> list[tuple[str, str]]:
    from moebench.spec.load import bundled_suites

    return list(bundled_suites())


def _models() -> list[tuple[str, str]]:
    from moebench.spec.words import known_systems
    from moebench.zoo import system

    return [
        (name, f"{(s := system(name)).year}, {shape_of(s.architecture.model_dump(mode='json'))}")
        for name in known_systems()
    ]


def _routers() -> list[tuple[str, str]]:
    from moebench.model.routers import router_class
    from moebench.spec.words import known_routers

    return [(word, _first_line(router_class(word))) for word in known_routers()]


def _metrics() -> list[tuple[str, str]]:
    from moebench.records import METRICS

    return [
        (
            m.name + (f"[{','.join(m.labels)}]" if m.labels else ""),
            f"{m.says} ({m.unit}; {m.kind}; {m.better} is better)",
        )
        for m in METRICS.values()
    ]


def _claims() -> list[tuple[str, str]]:
    from moebench.spec.types import Test

    kinds = get_args(get_args(Test)[0])
    return [(get_args(kind.model_fields["kind"].annotation)[0], _first_line(kind)) for kind in kinds]


def _sources() -> list[tuple[str, str]]:
    from moebench.data import SOURCES

    return [(name, source.says) for name, source in SOURCES.items()]


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0] if thing.__doc__ else ""


LISTS = {
    "suites": _suites,
    "models": _models,
    "routers": _routers,
    "metrics": _metrics,
    "claims": _claims,
    "sources": _sources,
}
