"""What `moebench plan` prints: models, matches, runs, data and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from moebench.cli.console import printed, table
from moebench.cli.progress import duration
from moebench.format import plural, quantity
from moebench.planning.grid import TunePlan
from moebench.suite.model import DenseFFN, MoEFFN

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from moebench.api import Planned
    from moebench.models.architecture import Architecture
    from moebench.planning.types import Plan
    from moebench.store import Results


def plan_text(planned: Planned, *, pilot: Path | None = None) -> str:
    """`moebench plan`: models, matches, runs, data, warnings."""
    from moebench.cli.console.power import power_lines

    facts = plan_json(planned, pilot=pilot)
    models = table(
        "models  (active = total minus the experts a token skips; router counts as active; * without embedding tables)",
        ["model", "sizes", "total", "active", "total*", "active*", "train FLOPs/token", "decode FLOPs/token", "weights",
         "KV/token"],
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
    )  # fmt: skip
    matches = table(
        "matches",
        ["model", "to", "on", "size", "target", "achieved", "residual", "tolerance"],
        (
            [m["model"], m["to"], m["on"], f"{m['by']} = {m['size']}", f"{m['target']:,.0f}", f"{m['achieved']:,.0f}",
             f"{m['residual']:+.3%}", f"{m['tolerance']:.2%}"]
            for m in facts["matches"]
        ),
        left=4,
    )  # fmt: skip
    lines: list[str | Table] = [f"{facts['suite']}: {facts['question']}", ""]
    if facts["models"]:
        lines += [models, ""]
    if facts["matches"]:
        lines += [matches, ""]
    if planned.plan.trained:
        lines += [_runs(planned, facts), ""]
    if facts["checkpoints"]:
        lines += [_checkpoints(facts), ""]
    if facts["external"]:
        lines += [_external(facts), ""]
    if facts["claims"]:
        lines.append("claims, as they will be judged (an interval that crosses a threshold is inconclusive)")
        lines += [f"  {name}: {words}" for name, words in facts["claims"].items()] + [""]
    lines += [*power_lines(facts), *_plan_lines(facts)]
    return printed(*lines)


def _runs(planned: Planned, facts: dict[str, Any]) -> Table:
    """What each trained model reads, spends and takes."""
    return table(
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
            if name in planned.plan.trained
        ),
    )


def _checkpoints(facts: dict[str, Any]) -> Table:
    """What each checkpoint is, holds and takes."""
    return table(
        "checkpoints  (memory: weights and the widest activations while text is scored)",
        ["model", "checkpoint", "family", "total", "active", "dtype", "experts", "files", "memory", "done", "about"],
        (
            [
                name,
                one["checkpoint"],
                one["family"],
                f"{one['params']['total']:,}",
                f"{one['params']['active']:,}",
                one["dtype"],
                one["experts"],
                quantity(one["file_bytes"], "bytes"),
                quantity(one["memory_bytes"], "bytes"),
                "yes" if all(run["done"] for run in facts["runs"] if run["model"] == name) else "no",
                duration(one["estimated_s"]),
            ]
            for name, one in facts["checkpoints"].items()
        ),
        left=3,
    )


def _external(facts: dict[str, Any]) -> Table:
    """Where the numbers of each external model are from."""
    return table(
        "measured elsewhere",
        ["model", "results", "there", "runs", "total", "active", "done"],
        (
            [
                name,
                one["results"],
                one["model"],
                "one" if one["single"] else len(one["seeds"]),
                *(f"{one['counts'][of]:,.0f}" if of in one["counts"] else "" for of in _SIZES),
                sum(run["done"] for run in facts["runs"] if run["model"] == name),
            ]
            for name, one in facts["external"].items()
        ),
        left=3,
    )


_SIZES = ("cost.total_params", "cost.active_params")


def _plan_lines(facts: dict[str, Any]) -> list[str]:
    data, expected = facts["data"], facts["estimate"]
    splits = ", ".join(f"{name} {count:,} tokens" for name, count in data["tokens"].items())
    lines = [
        f"data: {data['source']}, {splits}; digest {data['digest'][:12]}; "
        f"{data['leak_share']:.1%} of the test split's {data['compared']} occur in training "
        f"(threshold {data['leak_threshold']:.0%})"
        if splits
        else "data: no text of the suite's own",
    ]
    if facts["runs"]:
        todo = sum(run["status"] not in ("completed", "diverged") for run in facts["runs"])
        lines.append(
            f"{todo} of {len(facts['runs'])} runs to do, about {duration(expected['runs_s'])} "
            f"with {expected['workers']} at a time"
        )
    if speed := facts["speed"]:
        lines.append(f"speed session: {len(speed['processes'])} processes, about {duration(expected['speed_s'])}")
        if speed.get("untrained") or speed.get("checkpoints"):
            lines[-1] += f", each up to {quantity(speed['memory_bytes'], 'bytes')}, with " + (
                "one model after the other, as they do not fit together" if speed.get("apart") else "all models in it"
            )
    if controls := facts["controls"]:
        lines.append(
            f"controls: {controls['to_do']} of {controls['runs']} short runs to do ({', '.join(controls['models'])}), "
            f"about {duration(expected['controls_s'])} of one core, in the runs' time above"
        )
    lines.append(
        f"in all about {duration(expected['total_s'])}, start-up, evaluation and report included ({_basis(facts)})"
    )
    if facts["tasks"]:
        lines.append(_tasks(facts["tasks"]))
    if facts["tune"]:
        lines += _tuning(facts["tune"], expected["tune_s"])
    return lines + [f"note: {text}" for text in facts["warnings"]]


def _tuning(tune: Mapping[str, Any], seconds: float) -> Iterator[str]:
    """The sweep: what is tried, with how many runs for each model, and what it cannot tell."""
    plan = TunePlan.model_validate(tune)
    runs, each = len(plan.runs), len(plan.runs) // max(1, len(plan.models))
    over = f" and {' and '.join(plan.over)}" if plan.over else ""
    yield (
        f"sweep of the learning rate{over} (with --tune): {runs} runs, {each} for each model, about "
        f"{duration(seconds)}; one step more on a side where a best point is the last tried"
    )
    for name in plan.models:
        lacks = [path for path, there in zip(plan.over, plan.has(name), strict=True) if not there]
        if lacks:
            seeds = len({cell.seed for cell, _ in plan.cells(name)})
            yield f"note: {name} has no {' or '.join(lacks)}: as many runs by {seeds} seeds at each of its points"
    if len(plan.seeds) < 3:
        few = plural(len(plan.seeds), "tuning seed")
        yield f"note: {few}: an interval at the second-best points wants 3 (tune.seeds)"


def _tasks(asked: Mapping[str, Any]) -> str:
    """The tasks of lm-eval and how they are asked, and how many measurements are to do."""
    ways = ", ".join(f"{name} ({how})" for name, how in asked["ways"].items())
    return f"tasks, in no estimate of time: {ways}; {asked['to_do']} of {asked['jobs']} measurements to do"


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
    if not by_basis:
        return "nothing is trained"
    if len(by_basis) == 1:
        return words[next(iter(by_basis))]
    return "; ".join(f"{', '.join(names)}: {words[basis]}" for basis, names in by_basis.items())


def plan_json(planned: Planned, *, pilot: Path | None = None) -> dict[str, Any]:
    """The plan as plain data, with what is done and how long the rest will take."""
    from moebench.api import estimate, foreseen
    from moebench.cli.console.power import looks_json, power_json
    from moebench.metrics import in_force
    from moebench.planning.checkpoints import scoring_bytes
    from moebench.planning.planned import PlannedCheckpoint, PlannedExternal
    from moebench.planning.understood import understood
    from moebench.store import Results

    plan, results = planned.plan, Results(planned.results)
    expected = estimate(planned)
    status = {run.id: results.run_status(plan, run.id) for run in plan.runs}
    seconds = expected.run_s
    with in_force(plan.extra_metrics):
        claims = {name: understood(plan.spec, name, plan.data) for name in plan.spec.claims}
    runs = [
        {
            **run.model_dump(include={"model", "seed", "id"}),
            "status": status[run.id],
            "done": status[run.id] in ("completed", "diverged"),
            "estimated_s": seconds.get(run.model, 0.0),
        }
        for run in plan.runs
    ]
    return {
        "suite": plan.suite,
        "scale": plan.scale,
        "question": plan.spec.question,
        "plan": plan.id,
        "models": _decoders(plan, seconds),
        "checkpoints": {
            name: {
                **model.model_dump(mode="json", exclude={"blueprint", "costs"}),
                **model.costs.model_dump(mode="json"),
                "memory_bytes": scoring_bytes(model),
                "estimated_s": seconds[name],
            }
            for name, model in plan.models.items()
            if isinstance(model, PlannedCheckpoint)
        },
        "matches": [match.model_dump(mode="json") for match in plan.matches],
        "external": {
            name: {**model.model_dump(mode="json", exclude={"blueprint", "costs"}), "counts": plan.counts(name)}
            for name, model in plan.models.items()
            if isinstance(model, PlannedExternal)
        },
        "claims": claims,
        "seeds": plan.spec.seeds,
        "looks": looks_json(planned, expected),
        "power": power_json(planned, foreseen(planned, pilot=pilot), seconds),
        "runs": runs,
        "speed": plan.speed.model_dump(mode="json") if plan.speed else None,
        "tasks": _of_tasks(plan, results),
        "controls": _of_controls(plan, results),
        "tune": plan.tune.model_dump(mode="json") if plan.tune else None,
        "data": {**plan.data.model_dump(mode="json"), "compared": plan.data.compared},
        "estimated_s": sum(run["estimated_s"] for run in runs if run["status"] not in ("completed", "diverged")),
        "estimate": {**vars(expected), "total_s": expected.total_s},
        "warnings": list(plan.warnings),
    }


def _decoders(plan: Plan, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Every model that is built here: its shape, its counts, its recipe and how long a run takes."""
    return {
        name: {
            "shape": shape_of(model.architecture),
            "architecture": model.architecture.model_dump(mode="json"),
            **model.costs.model_dump(mode="json"),
            "steps": model.recipe.steps,
            "tokens": model.recipe.steps * model.recipe.batch_tokens,
            "lr": model.recipe.lr,
            "run_flops": model.expected_train_flops,
            "estimated_s": seconds[name],
        }
        for name, model in plan.decoders.items()
    }


def _of_controls(plan: Plan, results: Results) -> dict[str, Any] | None:
    """The models that its controls train, and how many runs of them are to do. None where it asks for none."""
    if (of_controls := plan.of_controls) is None:
        return None
    status = [results.run_status(of_controls, run.id) for run in of_controls.runs]
    to_do = sum(one not in ("completed", "diverged") for one in status)
    return {"models": list(of_controls.models), "runs": len(status), "to_do": to_do}


def _of_tasks(plan: Plan, results: Results) -> dict[str, Any] | None:
    """How each task is asked, and its jobs: one for each run and task. None where no task is asked."""
    jobs = [job for job in plan.jobs if job.task is not None]
    to_do = sum(results.job(job.id).status() != "completed" for job in jobs)
    ways = {name: facts.conditions for name, facts in plan.tasks.items()}
    return {"ways": ways, "jobs": len(jobs), "to_do": to_do} if ways else None


def shape_of(a: Architecture) -> str:
    """`2 x 64, 4 heads, 8 experts of 88, top-2`, then what is not as usual: shared experts, dense layers, router."""
    heads = f"{a.heads} heads" if a.kv_heads == a.heads else f"{a.heads} heads on {a.kv_heads}"
    return ", ".join([f"{a.layers} x {a.width}", heads, *_ffn_parts(a.ffn)])


def _ffn_parts(ffn: DenseFFN | MoEFFN) -> Iterator[str]:
    if isinstance(ffn, DenseFFN):
        yield f"FFN {ffn.hidden}"
    else:
        yield f"{ffn.experts} experts of {ffn.expert_hidden}"
        yield f"top-{ffn.top_k}"
        if ffn.shared_hidden:
            yield f"{'gated ' if ffn.shared_gate else ''}shared expert of {ffn.shared_hidden}"
        if ffn.first_dense or ffn.every:
            every = f"in every {ordinal(ffn.every)} layer" if ffn.every else ""
            first = f"from layer {ffn.first_dense} on (counted from 0)" if ffn.first_dense else ""
            other = "" if ffn.dense_activation in (None, ffn.activation) else f" {ffn.dense_activation}"
            yield f"{' '.join(filter(None, [every, first]))}, else FFN {ffn.dense_hidden}{other}"
        if ffn.router != "softmax_topk":
            yield f"router {ffn.router}"
        if ffn.capacity_factor:
            yield f"capacity {ffn.capacity_factor:g}"
    if ffn.activation != "swiglu":
        yield ffn.activation


def ordinal(number: int) -> str:
    """`2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
