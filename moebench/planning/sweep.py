"""The learning-rate sweep's summary: `tune/<id>/tune.json`, made from runs that were read on the tune split."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from statistics import mean
from typing import Any

from moebench.jobs import evaluate
from moebench.jobs.recipe import Run
from moebench.planning.graph import tune_identity
from moebench.planning.types import Plan
from moebench.store import Results, read_json, write_json
from moebench.suite.types import SuiteSpec


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
        folder = results.job(run_id)
        value: float | None = None
        status = folder.status()
        if status == "completed":
            identity = tune_identity(Run.model_validate(folder.spec()))
            folder = results.job(evaluate.id_of(run_id, "quality"))
            status = folder.status()
        reason: str | None = f"run is {status}"
        if status == "completed":
            value = next(r.value for r in folder.records() if r.metric == "tune.bits_per_byte")
            reason = None
        curve.append({"lr": lr, "seed": seed, "bits_per_byte": value, "reason": reason})
    best = best_rate(curve)
    return {
        "identity": identity,
        "curve": curve,
        "best_lr": best,
        "interior": best is not None and plan.tune.lrs[0] < best < plan.tune.lrs[-1],
        "configured_lr": plan.decoders[name].recipe.lr,
    }


def at_best_rates(spec: SuiteSpec, sweep: dict[str, Any]) -> tuple[SuiteSpec, list[str]]:
    """The suite with each swept model at its best rate, and what is to be said of that.

    Raises ValueError for a model of which no rate completed. Models that the sweep does not cover keep their rates.
    """
    lacking = [name for name, model in sweep.items() if model["best_lr"] is None]
    if lacking:
        raise ValueError(f"at no rate did every run of {', '.join(lacking)} complete: run the sweep again")
    models = dict(spec.decoders)
    for name, model in sweep.items():
        train = models[name].train
        assert train is not None
        optimizer = train.optimizer.model_copy(update={"lr": model["best_lr"]})
        tuned = train.model_copy(update={"optimizer": optimizer})
        models[name] = models[name].model_copy(update={"train": tuned})
    kept = [name for name, model in models.items() if name not in sweep and model.train is not None]
    notes = [f"not in the sweep, so with the suite's learning rate: {', '.join(kept)}"] if kept else []
    return spec.model_copy(update={"models": {**spec.models, **models}}), [*edges(sweep), *notes]


def edges(sweep: dict[str, Any]) -> Iterator[str]:
    """What to do about each model whose best rate is the lowest or highest that was tried."""
    for name, model in sweep.items():
        best, rates = model["best_lr"], [point["lr"] for point in model["curve"]]
        if best is not None and not model["interior"]:
            side = "highest" if best == max(rates) else "lowest"
            further = best * 2 if side == "highest" else best / 2
            yield f"{name}: its best learning rate, {best:g}, is the {side} tried: add {further:g} to tune.lr"


def block_to_paste(sweep: dict[str, Any], *, declared: Collection[str]) -> str:
    """The best rates as YAML for the suite's `models`; only models that the file itself declares have a place there."""
    rates = {name: model["best_lr"] for name, model in sweep.items() if model["best_lr"] is not None}
    return "".join(
        f"  {name}: {{train: {{optimizer: {{lr: {rate!r}}}}}}}\n" for name, rate in rates.items() if name in declared
    )


def best_rate(curve: list[dict[str, Any]]) -> float | None:
    """The rate of the lowest mean over seeds, among rates at which every seed completed; None when there is none."""
    by_rate: dict[float, list[float | None]] = {}
    for point in curve:
        by_rate.setdefault(point["lr"], []).append(point["bits_per_byte"])
    whole = {lr: mean(v for v in values if v is not None) for lr, values in by_rate.items() if None not in values}
    return min(whole, key=lambda lr: whole[lr]) if whole else None
