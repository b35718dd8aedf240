"""What commands print: plans, outcomes and lists as text for a terminal. Words only; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from moebench.cli.progress import duration
from moebench.format import compact, plural, quantity
from moebench.text import plain, visible

if TYPE_CHECKING:
    from moebench.api import Failed, Outcome, Planned
    from moebench.claims.verdict import Verdict
    from moebench.planning.types import Plan

STYLES = {
    "supported": "green",
    "refuted": "red",
    "inconclusive": "yellow",
    "interim": "blue",
    "invalid": "magenta",
    "not_tested": "dim",
}


def _print(*parts: Any, plain_width: int = 160) -> str:
    """Rich renderables as text: with colours on a terminal, plain and `plain_width` wide elsewhere, never cut."""
    terminal = Console()
    width = max(terminal.width, 100) if terminal.is_terminal else plain_width
    console = Console(file=StringIO(), width=width, force_terminal=terminal.is_terminal, highlight=False)
    for part in parts:
        console.print(visible(part), markup=False) if isinstance(part, str) else console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip("\n").splitlines())


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are words and the rest numbers."""
    table = Table(title=visible(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
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
                quantity(model["weight_bytes"], "bytes"),
                quantity(model["kv_bytes_per_token"], "bytes"),
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
                quantity(model["train_state_bytes"], "bytes"),
                sum(run["model"] == name and run["status"] in ("completed", "diverged") for run in facts["runs"]),
                duration(model["estimated_s"]),
            ]
            for name, model in facts["models"].items()
        ),
    )
    lines = [f"{facts['suite']}: {facts['question']}", "", models, ""]
    if facts["matches"]:
        lines += [matches, ""]
    lines += [budget, ""]
    if facts["claims"]:
        lines.append("claims, as they will be judged (an interval that crosses a threshold is inconclusive)")
        lines += [f"  {name}: {words}" for name, words in facts["claims"].items()] + [""]
    lines += _plan_lines(facts)
    return _print(*lines)


def _plan_lines(facts: dict[str, Any]) -> list[str]:
    data, expected = facts["data"], facts["estimate"]
    todo = sum(run["status"] not in ("completed", "diverged") for run in facts["runs"])
    splits = ", ".join(f"{name} {count:,} tokens" for name, count in data["tokens"].items())
    lines = [
        f"data: {data['source']}, {splits}; digest {data['digest'][:12]}; "
        f"{data['leak_share']:.1%} of the test split's 50-byte windows occur in training "
        f"(threshold {data['leak_threshold']:.0%})",
        f"{todo} of {len(facts['runs'])} runs to do, about {duration(expected['runs_s'])} "
        f"with {expected['workers']} at a time",
    ]
    if speed := facts["speed"]:
        lines.append(f"speed session: {len(speed['processes'])} processes, about {duration(expected['speed_s'])}")
    lines.append(
        f"in all about {duration(expected['total_s'])}, start-up, evaluation and report included ({_basis(facts)})"
    )
    if facts["tune"]:
        runs = len(facts["tune"]["runs"])
        lines.append(f"learning-rate sweep (with --tune): {runs} runs, about {duration(expected['tune_s'])}")
    return lines + [f"note: {text}" for text in facts["warnings"]]


def _basis(facts: dict[str, Any]) -> str:
    """What an estimate rests on, in words."""
    by_basis: dict[str, list[str]] = {}
    for name, basis in facts["estimate"]["basis"].items():
        by_basis.setdefault(basis, []).append(name)
    words = {
        "finished runs": "from finished runs",
        "rehearsed": "a few steps timed here",
        "guessed": "a guess by FLOPs",
    }
    if len(by_basis) == 1:
        return words[next(iter(by_basis))]
    return "; ".join(f"{', '.join(names)}: {words[basis]}" for basis, names in by_basis.items())


def plan_json(planned: Planned) -> dict[str, Any]:
    """The plan as plain data, with what is done and how long the rest will take."""
    from moebench.api import estimate
    from moebench.planning.understood import understood
    from moebench.store import Results

    plan, results = planned.plan, Results(planned.results)
    expected = estimate(planned)
    status = {run.id: results.job(run.id).status() for run in plan.runs}
    seconds = expected.run_s
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
        "claims": {name: understood(plan.spec, name) for name in plan.spec.claims},
        "seeds": plan.spec.seeds,
        "runs": runs,
        "speed": plan.speed.model_dump(mode="json") if plan.speed else None,
        "tune": plan.tune.model_dump(mode="json") if plan.tune else None,
        "data": plan.data.model_dump(mode="json"),
        "estimated_s": sum(run["estimated_s"] for run in runs if run["status"] not in ("completed", "diverged")),
        "estimate": {**vars(expected), "total_s": expected.total_s},
        "warnings": list(plan.warnings),
    }


def shape_of(a: dict[str, Any]) -> str:
    """`2 x 64, 4 heads, 8 experts of 88, top-2`, then what is not as usual: shared experts, dense layers, router."""
    heads = f"{a['heads']} heads" if a["kv_heads"] == a["heads"] else f"{a['heads']} heads on {a['kv_heads']}"
    return ", ".join([f"{a['layers']} x {a['width']}", heads, *_ffn_shape(a["ffn"])])


def _ffn_shape(ffn: dict[str, Any]) -> Iterator[str]:
    """Parts of a dumped feed-forward network; dumps leave out what is at its default."""
    activation = ffn.get("activation", "swiglu")
    if ffn["kind"] == "dense":
        yield f"FFN {ffn['hidden']}"
    else:
        yield f"{ffn['experts']} experts of {ffn['expert_hidden']}"
        yield f"top-{ffn['top_k']}"
        if shared := ffn.get("shared_hidden"):
            yield f"{'gated ' if ffn.get('shared_gate') else ''}shared expert of {shared}"
        first, every = ffn.get("first_dense"), ffn.get("every")
        if first or every:
            rules = [
                f"in every {ordinal(every)} layer" if every else "",
                f"from layer {first} on (counted from 0)" if first else "",
            ]
            kind = ffn.get("dense_activation", activation)
            yield f"{' '.join(filter(None, rules))}, else FFN {ffn['dense_hidden']}" + f" {kind}" * (kind != activation)
        if ffn["router"] != "softmax_topk":
            yield f"router {ffn['router']}"
        if capacity := ffn.get("capacity_factor"):
            yield f"capacity {capacity:g}"
    if activation != "swiglu":
        yield activation


def ordinal(number: int) -> str:
    """`2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# ------------------------------------------------------------------------------------------------ verdicts


def outcome_text(outcome: Outcome) -> str:
    """What `run` prints at the end: what was done, the verdicts, where the report is."""
    kinds: dict[str, int] = {}
    for status in outcome.statuses.values():
        kinds[status] = kinds.get(status, 0) + 1
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    done = f"{plural(len(outcome.statuses), 'run')}: {counts}"
    if outcome.started == 0 and outcome.speed in (None, "already"):
        done = f"nothing to do: {done}" + (", speed session there" if outcome.speed else "")
    if outcome.sweep is not None:
        return f"{done}\n{sweep_text(outcome.sweep, plan=outcome.plan)}"
    assert outcome.report is not None
    return f"{done}\n{verdict_text(outcome.verdicts, path=outcome.report)}"


def failures_text(outcome: Outcome) -> str:
    """What went wrong, each reason once: the last lines of a log and where it is."""
    by_reason: dict[tuple[str, str], list[Failed]] = {}
    for one in outcome.failures:
        by_reason.setdefault((one.status, one.reason), []).append(one)
    lines = []
    for (status, reason), alike in by_reason.items():
        first = alike[0]
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        lines.append(f"failed: {first.model} seed {first.seed}{more}: {status}: {plain(reason, most=500)}")
        lines += [f"  | {plain(line, most=200)}" for line in first.last_lines]
        lines += [f"  log: {plain(first.log)}"] if first.log else []
    return "\n".join(lines)


def sweep_text(sweep: dict[str, Any], *, plan: Plan) -> str:
    """The learning-rate curves of a sweep, and how to train at the best rates."""
    from moebench.planning.sweep import block_to_paste, edges

    rates = sorted({point["lr"] for model in sweep.values() for point in model["curve"]})
    rows = []
    for name, model in sweep.items():
        cells = []
        for rate in rates:
            found = [point["bits_per_byte"] for point in model["curve"] if point["lr"] == rate]
            cells.append("-" if None in found else f"{sum(found) / len(found):.4f}")
        best = "none: no rate completed" if model["best_lr"] is None else f"{model['best_lr']:g}"
        edge = "" if model["interior"] or model["best_lr"] is None else " (at the edge)"
        rows.append([name, best + edge, f"{model['configured_lr']:g}", *cells])
    title = "tune.bits_per_byte by learning rate, mean over seeds"
    table = _table(title, ["model", "best", "configured", *(f"{rate:g}" for rate in rates)], rows, left=2)
    lines = ["", *(f"note: {text}" for text in edges(sweep)), f"to train at the best rates: {plan.command} --tuned"]
    expanded = {name for made in plan.spec.sweeps.values() for name in made}
    if block := block_to_paste(sweep, declared=set(plan.spec.models) - expanded):
        lines += ["or put them into the suite:", "models:", block.rstrip("\n")]
    return _print(table, *lines)


def _beside(verdict: Verdict) -> str:
    """What must stand beside a claim: how it counts unless it is primary, and its caveats."""
    told = [*([] if verdict.label == "primary" else [verdict.standing]), *verdict.caveats]
    return f" ({'; '.join(told)})" if told else ""


def verdict_text(verdicts: Sequence[Verdict], *, path: Path) -> str:
    """A table of verdicts with their intervals, the reasons of those that are not clear, and the report's place."""
    from moebench.reporting.states import counted, decisive_p, effect

    if not verdicts:
        return f"no claims, so no verdicts\n\nreport: {path / 'index.html'}"
    table = _table(
        "",
        ["verdict", "claim", "estimate [95%]", "asked", "n", "p"],
        (
            [
                Text(verdict.state.upper().replace("_", " "), style=STYLES[verdict.state]),
                verdict.says + _beside(verdict),
                effect(verdict),
                verdict.asked,
                counted(verdict),
                decisive_p(verdict).removeprefix("p "),
            ]
            for verdict in verdicts
        ),
        left=4,
    )
    reasons = [
        f"  {v.id}: {'; '.join(filter(None, (v.reason, v.needs)))}"
        for v in verdicts
        if v.state not in ("supported", "refuted")
    ]
    return _print(table, *(["", "not decided:", *reasons] if reasons else []), "", f"report: {path / 'index.html'}")


# ------------------------------------------------------------------------------------------------ systems


def systems_text(found: dict[str, Any]) -> str:
    """`moebench inspect --all`: every published system in a row, the undisclosed by name."""
    title = (
        f"published systems at context {found['context']:,}  (active*: without the input table; FLOPs: forward, per "
        "token; weights and cache per token in bfloat16; touched: experts of a layer at batch 1, 8, 64; "
        "saving: of the weights outside the tables, against equal total)"
    )
    columns = ["system", "year", "total", "active", "active*", "FLOPs", "weights", "cache", "touched", "saving",
               "published total", "published active"]  # fmt: skip
    counted = [one for one in found["systems"] if one["params"] is not None]
    others = [one for one in found["systems"] if one["params"] is None]
    names = ", ".join(one["name"] for one in found["undisclosed"])
    lines = [f"  {one['model']}: {one['discrepancy']}" for one in counted if "discrepancy" in one]
    return _print(
        _table(title, columns, map(_system_row, counted)),
        "",
        "published figures that the published sizes do not give (marked !):",
        *lines,
        "",
        "not counted:",
        *(f"  {one['model']} ({one['year']}): {one['why_not']}" for one in others),
        f"  undisclosed, so without numbers: {names}",
        "",
        f"convention: {found['convention']}",
    )


def _system_row(one: dict[str, Any]) -> list[str]:
    params, touched = one["params"], one["experts_touched"]
    published = []
    for part in ("total", "active"):
        figure = one["published"].get(part)
        mark = "" if figure is None or figure["within_rounding"] else " !"
        published.append("-" if figure is None else f"{figure['figure']} {figure['error']:+.1%}{mark}")
    return [
        one["model"],
        str(one["year"]),
        compact(params["total"], "MBT"),
        compact(params["active"], "MBT"),
        compact(one["active_without_input_tables"], "MBT"),
        compact(one["forward_flops_per_token"], "MGT"),
        compact(one["weight_bytes"]["bfloat16"], "MGT") + "B",
        f"{one['kv_bytes_per_token']['bfloat16'] / 1000:,.0f} kB",
        " ".join(f"{touched[n]:.3g}" for n in ("1", "8", "64")) if touched else "-",
        f"{one['saving_against_equal_total']:.2%}",
        *published,
    ]


# ------------------------------------------------------------------------------------------------ lists


def listing(what: str | None) -> str:
    """`moebench list`: one section, or all of them. In a pipe a thing is one line, however long."""
    chosen = [what] if what else list(LISTS)
    tables = (_table(name, COLUMNS.get(name, ("name", "what it is")), LISTS[name](), left=5) for name in chosen)
    return "\n\n".join(_print(table, plain_width=1000) for table in tables)


def _suites() -> list[tuple[str, str]]:
    from moebench.suite.load import bundled_suites

    return list(bundled_suites())


def _models() -> list[tuple[str, str]]:
    from moebench.systems import shape, systems, undisclosed

    found = [
        (s.name, f"{s.year}, {shape(s.blueprint) if s.blueprint else f'not counted: moebench inspect {s.name}'}")
        for s in systems()
    ]
    return found + [(one.name, one.says) for one in undisclosed()]


def _systems() -> list[tuple[str, str, str, str, str]]:
    from moebench.suite.designs import DESIGNS
    from moebench.systems import systems

    of: dict[str, list[str]] = {}
    for s in systems():
        if s.design is not None:
            of.setdefault(s.design, []).append(s.name + (f" ({s.differs})" if s.differs else ""))
    found = [
        (name, design.words, design.apart or "-", design.equal_to or "-", ", ".join(of.get(name, ["-"])))
        for name, design in DESIGNS.items()
    ]
    own = [
        ("-", s.suite or "no words", s.apart or "-", "-", s.name)
        for s in systems()
        if s.design is None and s.kind == "moe"
    ]
    return found + own


def _routers() -> list[tuple[str, str, str, str, str]]:
    from moebench.plugins import PluginError, router_facts
    from moebench.suite.routers import REFUSED
    from moebench.suite.words import known_routers

    found = []
    for word in known_routers():
        try:
            facts = router_facts(word)
        except PluginError as error:
            found.append((word, str(error), "?", "-", "of an installed package"))
            continue
        options = ", ".join(f"{option} (needed)" if option in facts.needs else option for option in facts.options)
        found.append((word, facts.says, "yes" if facts.causal else "NO", options or "-", facts.source))
    return found + [(word, f"refused: {why}", "NO", "-", "-") for word, why in REFUSED.items()]


def _metrics() -> list[tuple[str, str, str]]:
    from moebench.metrics import METRICS

    return [
        (
            m.name + (f"[{','.join(m.labels)}]" if m.labels else ""),
            f"{m.says} ({m.unit}; {m.kind}; {m.better} is better)",
            m.cannot,
        )
        for m in METRICS.values()
        if m.retired is None
    ]


def _claims() -> list[tuple[str, str, str]]:
    from moebench.claims.kinds import KINDS

    return [(word, _first_line(kind), kind.example) for word, kind in KINDS.items()]


def _sources() -> list[tuple[str, str]]:
    from moebench.data.sources import SOURCES

    return [(name, source.says) for name, source in SOURCES.items()]


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0] if thing.__doc__ else ""


LISTS: dict[str, Callable[[], Iterable[Sequence[object]]]] = {
    "suites": _suites,
    "models": _models,
    "systems": _systems,
    "routers": _routers,
    "metrics": _metrics,
    "claims": _claims,
    "sources": _sources,
}

COLUMNS = {
    "claims": ("kind of test", "what it claims", "an example under claims"),
    "metrics": ("metric", "what it says", "what it cannot say"),
    "routers": ("router", "what it does", "causal", "options it reads under ffn", "published in"),
    "systems": ("design", "how to write it under ffn", "differences", "computed equal to", "published systems"),
}
"""Headings of the lists that have more than a name and what it is."""
