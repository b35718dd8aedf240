"""The learning-rate sweep's summary: `tune/<id>/tune.json`, made from runs that were read on the tune split."""

from __future__ import annotations

import time
from statistics import mean
from typing import Any

from moebench.matching import tune_identity
from moebench.plan import Plan, Run
from moebench.store import Results, read_json, write_json


def summarise(plan: Plan, results: Results) -> dict[str, Any]:
    """Writes and returns what each model lost at each rate and seed; a rate where a run failed or diverged has no best.

    Does nothing when the same summary is already there, so that a second `run` touches no file.
    """
    assert plan.tune is not None
    folder = results.tune(plan.tune.id)
    models = {name: _of_model(plan, name, results) for name in dict.fromkeys(run[0] for run in plan.tune.runs)}
    whole = folder.status() == "completed" and not folder.verify()
    if whole and read_json(folder.path / "tune.json")["models"] == models:
        return models
    with folder.lock():
        (folder.path / "DONE").unlink(missing_ok=True)
        value = {"plan": plan.tune.model_dump(mode="json"), "models": models, "finished": time.time()}
        write_json(folder.path / "tune.json", value)
        folder.finish("completed")
    return models


def _of_model(plan: Plan, name: str, results: Results) -> dict[str, Any]:
    assert plan.tune is not None
    curve: list[dict[str, Any]] = []
    identity: str | None = None
    for model, lr, seed, run_id in plan.tune.runs:
        if model != name:
            continue
        folder = results.run(run_id)
        value: float | None = None
        reason: str | None = f"run is {folder.status()}"
        if folder.status() == "completed":
            identity = tune_identity(Run.model_validate(folder.run_json()["run"]))
            value = next(r.value for r in folder.records() if r.metric == "tune.bits_per_byte")
            reason = None
        curve.append({"lr": lr, "seed": seed, "bits_per_byte": value, "reason": reason})
    best = best_rate(curve)
    return {
        "identity": identity,
        "curve": curve,
        "best_lr": best,
        "interior": best is not None and plan.tune.lrs[0] < best < plan.tune.lrs[-1],
        "configured_lr": plan.models[name].recipe.lr,
    }


def best_rate(curve: list[dict[str, Any]]) -> float | None:
    """The rate of the lowest mean over seeds, among rates at which every seed completed; None when there is none."""
    by_rate: dict[float, list[float | None]] = {}
    for point in curve:
        by_rate.setdefault(point["lr"], []).append(point["bits_per_byte"])
    whole = {lr: mean(v for v in values if v is not None) for lr, values in by_rate.items() if None not in values}
    return min(whole, key=lambda lr: whole[lr]) if whole else None
