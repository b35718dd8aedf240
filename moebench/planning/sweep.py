"""The tuning sweep's summary: `tune/<id>/tune.json`, made from runs that were read on the tune split.

When a model's best point lies at an end of an axis, the sweep is extended once (see `grid`); its summary then holds the
extended sweep too, and says which points are of the extension.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from typing import Any

from moebench.jobs import evaluate
from moebench.jobs.recipe import Run
from moebench.metrics.ref import labelled
from moebench.planning.grid import LR, End, Side, Value, best_point, ends
from moebench.planning.tuning import may_go_on, tune_identity
from moebench.planning.types import Plan, TunePlan
from moebench.store import Results, read_json, write_json
from moebench.suite import fields
from moebench.suite.types import SuiteSpec

ENDED = ("run is diverged", None)
"""Reasons of points that are all that will ever be known of them."""


def outermost(plan: Plan, results: Results) -> list[End]:
    """Where the sweep is to be extended: ends at which some model's best point lies, once every run has ended."""
    assert plan.tune is not None
    models = _models(plan, plan.tune, results)
    if any(point["reason"] not in ENDED for model in models.values() for point in model["curve"]):
        return []
    return list(dict.fromkeys(_end(one) for model in models.values() for one in model["ends"]))


def summarise(plan: Plan, results: Results, *, extended: TunePlan | None = None) -> dict[str, Any]:
    """Writes and returns what each model lost at each point and seed; one where a run failed or diverged is no best.

    `extended` is the sweep with its extension, where it has one. Does nothing when the same summary is already there,
    so that a second `run` touches no file.
    """
    assert plan.tune is not None
    folder = results.tune(plan.tune.id)
    models = _models(plan, extended or plan.tune, results)
    whole = folder.status() == "completed" and not folder.verify()
    if whole and read_json(folder.path / "tune.json")["models"] == models:
        return models
    more = {} if extended is None else {"extended": extended.model_dump(mode="json")}
    with folder.lock():
        (folder.path / "DONE").unlink(missing_ok=True)
        value = {"plan": plan.tune.model_dump(mode="json"), **more, "models": models, "finished": time.time()}
        write_json(folder.path / "tune.json", value)
        folder.finish("completed")
    return models


def _models(plan: Plan, tune: TunePlan, results: Results) -> dict[str, Any]:
    return {name: _of_model(plan, tune, name, results) for name in tune.models}


def _of_model(plan: Plan, tune: TunePlan, name: str, results: Results) -> dict[str, Any]:
    assert plan.tune is not None
    curve: list[dict[str, Any]] = []
    identity: str | None = None
    first = {run[-1] for run in plan.tune.runs}
    for cell, run_id in tune.cells(name):
        folder = results.job(run_id)
        value: float | None = None
        status = folder.status()
        if status == "completed":
            identity = tune_identity(Run.model_validate(folder.spec()), tune.over)
            folder = results.job(evaluate.id_of(run_id, "quality"))
            status = folder.status()
        reason: str | None = f"run is {status}"
        if status == "completed":
            wanted = labelled("tune.bits_per_byte", **({} if tune.domain is None else {"domain": tune.domain}))
            value = next((r.value for r in folder.records() if r.metric == wanted), None)
            reason = None if value is not None else f"the tune split has no text of {tune.domain}"
        over = {path: v for path, v in zip(tune.over, cell.over, strict=True) if v is not None}
        where = {"lr": cell.lr, **({"over": over} if over else {}), "seed": cell.seed}
        late = {} if run_id in first else {"extension": True}
        curve.append({**where, "bits_per_byte": value, "reason": reason, **late})
    best = best_point(curve)
    spec = plan.spec.decoders[name]
    found = [end for end in ends(tune.axes, best or {}) if may_go_on(plan.spec, tune.axes, end)]
    summary: dict[str, Any] = {
        "identity": identity,
        "curve": curve,
        "best_lr": None if best is None else best[LR],
        "interior": best is not None and not found,
        "ends": [list(end) for end in found],
        "configured_lr": plan.decoders[name].recipe.lr,
    }
    if tune.over:
        summary["best"] = {path: value for path, value in (best or {}).items() if path != LR}
        summary["configured"] = {path: fields.value_of(spec, path) for path in tune.over if fields.has(spec, path)}
    return summary


def at_best_rates(spec: SuiteSpec, sweep: dict[str, Any]) -> tuple[SuiteSpec, list[str]]:
    """The suite with each swept model at its best point, and what is to be said of that.

    Raises ValueError for a model of which no point completed. Models that the sweep does not cover keep what they have.
    """
    lacking = [name for name, model in sweep.items() if model["best_lr"] is None]
    if lacking:
        raise ValueError(f"at no rate did every run of {', '.join(lacking)} complete: run the sweep again")
    models = dict(spec.decoders)
    for name, model in sweep.items():
        models[name] = fields.with_values(models[name], best_values(model))
    kept = [
        name
        for name, model in models.items()
        if name not in sweep and model.train is not None and not model.is_transformed
    ]
    notes = [f"not in the sweep, so with the suite's learning rate: {', '.join(kept)}"] if kept else []
    return spec.model_copy(update={"models": {**spec.models, **models}}), [*edges(sweep), *notes]


def best_values(model: dict[str, Any]) -> dict[str, Value]:
    """Field -> its best value, the rate among them, of a model's part of a summary."""
    return {fields.LR: model["best_lr"], **model.get("best", {})}


def edges(sweep: dict[str, Any]) -> Iterator[str]:
    """What to do about each model whose best point is the lowest or highest that was tried of a field."""
    for name, model in sweep.items():
        if model["best_lr"] is None or model["interior"]:
            continue
        tried = " after one extension" if any(point.get("extension") for point in model["curve"]) else ""
        for axis, side in map(_end, model.get("ends") or [_old_end(model)]):
            best = model["best_lr"] if axis == LR else model["best"][axis]
            further = best * 2 if side == "highest" else best / 2
            what, to = ("learning rate", "tune.lr") if axis == LR else (axis, f"tune.over {axis}")
            yield f"{name}: its best {what}, {best:g}, is the {side} tried{tried}: add {further:g} to {to}"


def _end(one: Any) -> End:
    return End(*one)


def _old_end(model: dict[str, Any]) -> End:
    """Of a summary that was written before it told its ends."""
    side: Side = "highest" if model["best_lr"] == max(point["lr"] for point in model["curve"]) else "lowest"
    return End(LR, side)


def block_to_paste(sweep: dict[str, Any], *, declared: Collection[str]) -> str:
    """The best points as YAML for the suite's `models`; only models that the file declares have a place there."""
    best = {name: best_values(model) for name, model in sweep.items() if model["best_lr"] is not None}
    return "".join(f"  {name}: {_flow(_nested(values))}\n" for name, values in best.items() if name in declared)


def _nested(values: dict[str, Value]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        node = tree
        *above, last = path.split(".")
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def _flow(node: Any) -> str:
    if isinstance(node, dict):
        return f"{{{', '.join(f'{key}: {_flow(inner)}' for key, inner in node.items())}}}"
    return json.dumps(node) if isinstance(node, bool | str) else repr(node)
