"""Writes results of a suite of many systems with known answers, for reports that must stay legible.

Nothing is trained: a model's loss, times and loads come from its name, by generators derived by name. Sizes are those
that planning solves, so mixtures in some layers, expert counts from 4 to 32, capacity and unlearned routers all occur.
`python -m tests.support.golden_systems FOLDER` writes it. `write_sweep` does so for a suite that sweeps the number of
experts, each doubling of which lowers the final loss by 1.2%; names are as a suite file makes them.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from moebench import store
from moebench.identity import digest_of
from moebench.jobs.train import run_of
from moebench.metrics.ref import labelled
from moebench.planning.graph import make_plan
from moebench.planning.matching import Machine
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.planning.types import Plan, PlannedJob
from moebench.suite.load import load_suite
from moebench.suite.model import MoEFFN
from tests.support.golden_results import (
    DIGEST,
    DOMAINS,
    MACHINE,
    STARTED,
    _fix_times,
    _generator,
    _made,
    of_training,
    write_measured,
    write_process,
)

FACTS = DataFacts(
    source="stdlib", digest=DIGEST, documents={"train": 900, "tune": 60, "test": 120},
    tokens={"train": 9_000_000, "tune": 600_000, "test": 1_200_000}, domains=DOMAINS,
    leak_share=0.004, leak_threshold=0.05,
)  # fmt: skip
SPEED = "measure.speed={train_step: true, prefill: [64], decode: {batch: [1, 8, 32]}, processes: 6}"


def systems_plan(*, seeds: int = 8, sets: Iterable[str] = (SPEED,)) -> Plan:
    """The shipped suite of systems, with a speed session."""
    loaded = load_suite("systems", sets=[f"seeds={seeds}", *sets])
    return make_plan(loaded.spec, facts=FACTS, vocab=256, machine=Machine())


def write(root: Path, plan: Plan | None = None) -> Plan:
    """Writes the whole folder under `root` and returns its plan."""
    plan = plan or systems_plan()
    store.Results(root).save_plan(plan, MACHINE)
    for planned in plan.runs:
        write_run(root, plan, planned)
    _write_speed(root, plan)
    _write_tune(root, plan)
    _fix_times(root)
    return plan


def gain(model: str) -> float:
    """True change of the final loss against the first model's, as a share: from -5% to +1%, or by number of experts."""
    if ".experts-" in model:
        return -0.012 * math.log2(int(model.rpartition("-")[2]))
    return float(_generator("gain", model).uniform(-0.05, 0.01))


def scatter(model: str) -> float:
    """SD over seeds of what a model has of its own."""
    return 0.006


def write_run(root: Path, plan: Plan, planned: PlannedJob) -> None:
    """One finished run."""
    folder = _made(store.Results(root).job(planned.id))
    model = plan.models[planned.model]
    rng = _generator("run", planned.model, planned.seed)
    run = run_of(model, seed=planned.seed, facts=plan.data, machine=Machine())
    about = {
        "job": {"kind": "train", "spec": run.model_dump(mode="json"), "inputs": []},
        "model": planned.model, "seed": planned.seed, "suite": plan.suite,
        "environment": MACHINE.model_dump(mode="json"),
        "data_splits": {"test": {"documents": ["doc"], "digest": DIGEST[:16]}}, "started": STARTED,
    }  # fmt: skip
    store.write_json(folder.path / "job.json", about)
    digest = digest_of(["tokens", planned.seed])
    steps = [{"step": s, "loss": 1.6, "grad_norm": 0.5, "digest": digest} for s in model.recipe.evaluate_at]
    store.append_lines(folder.path / "steps.jsonl", steps)
    records = list(_records(plan, planned, model, rng))
    store.append_lines(folder.path / "records.jsonl", of_training(records))
    folder.finish("completed", None, "omitted")
    write_measured(root, plan, planned, about, {"records": records})


def _records(
    plan: Plan, planned: PlannedJob, model: PlannedModel, rng: np.random.Generator
) -> Iterable[dict[str, Any]]:
    last = model.recipe.steps
    truth = 2.2 * (1 + (gain(planned.model) if planned.model != next(iter(plan.models)) else 0))
    truth = dense_law(model.costs.params.active * worth(planned.model)) if plan.spec.ladders else truth
    level = truth + float(_generator("shared", planned.seed).normal(0, 0.008))
    level += scatter(planned.model) * float(rng.normal())
    flops = model.costs.train_flops_per_token * model.recipe.batch_tokens
    for step in model.recipe.evaluate_at:
        loss = level + 2.6 * ((step / 40 + 1) ** -0.9 - (last / 40 + 1) ** -0.9)
        yield {"metric": "curve.bits_per_byte", "value": round(loss, 6), "step": step}
        yield {"metric": "train.tokens", "value": step * model.recipe.batch_tokens, "step": step}
        yield {"metric": "train.model_flops", "value": step * flops, "step": step}
        yield from _routing(planned.model, model, rng, step)
    yield {"metric": "test.bits_per_byte", "value": round(level, 6), "step": last}
    for domain, shift in zip(DOMAINS, (-0.25, 0.05, 0.20), strict=True):
        value = round(level + shift + float(rng.normal(0, 0.004)), 6)
        yield {"metric": labelled("test.bits_per_byte", domain=domain), "value": value, "step": last}
    total, activations = model.costs.params.total, 3_000_000 + 20 * model.costs.params.active
    yield {"metric": "memory.train_peak_bytes", "value": 16 * total + activations}
    yield {"metric": labelled("memory.train_peak_bytes", part="weights"), "value": 4 * total}
    yield {"metric": labelled("memory.train_peak_bytes", part="activations"), "value": activations}
    yield {"metric": "memory.inference_peak_bytes", "value": 4 * total + 700_000}


def _routing(name: str, model: PlannedModel, rng: np.random.Generator, step: int) -> Iterable[dict[str, Any]]:
    ffn, layers, last = model.architecture.ffn, model.architecture.moe_layers, model.recipe.steps
    if not isinstance(ffn, MoEFFN):
        return
    evenness = float(_generator("evenness", name).uniform(1, 30))
    worst, entropies = [], []
    for layer in layers:
        share = rng.dirichlet(np.full(ffn.experts, evenness * (0.3 + step / last)))
        worst.append(float(share.max() * ffn.experts))
        entropies.append(float(-(share * np.log(np.maximum(share, 1e-12))).sum() / np.log(ffn.experts)))
        for expert, tokens in enumerate((share * 65536).astype(int).tolist()):
            yield {"metric": labelled("routing.tokens", layer=layer, expert=expert), "value": tokens, "step": step}
        for domain in DOMAINS if step == last else ():
            for expert, tokens in enumerate((rng.dirichlet(40 * share + 0.1) * 20000).astype(int).tolist()):
                labels = {"layer": layer, "expert": expert, "domain": domain}
                yield {"metric": labelled("routing.domain_tokens", **labels), "value": tokens, "step": step}
    yield {"metric": "routing.max_over_mean", "value": round(float(np.mean(worst)), 6), "step": step}
    yield {"metric": "routing.entropy", "value": round(float(np.mean(entropies)), 6), "step": step}
    yield {"metric": "routing.dead_experts", "value": 0, "step": step}
    yield {"metric": "routing.dropped_share", "value": 0.0, "step": step}
    if ffn.capacity_factor is not None:
        dropped = 0.3 / evenness / ffn.capacity_factor * (1.2 - step / last) + float(rng.uniform(0, 0.004))
        yield {"metric": "train.dropped_share", "value": round(dropped, 6), "step": step}


def _write_speed(root: Path, plan: Plan) -> None:
    if plan.speed is None:
        return
    names = [*plan.speed.models, f"{plan.speed.baseline}~again"]
    for process, seed in enumerate(plan.speed.processes):
        rng = _generator("speed", process)
        machine = float(np.exp(rng.normal(0, 0.1)))
        samples = {name: _samples(name, plan, machine, rng) for name in names}
        write_process(
            root, plan, process,
            {
                "process": process, "seed": seed, "order": names, "environment": MACHINE.model_dump(mode="json"),
                "load": [0.3, 0.4], "peak_flops": 9.1e10, "peak_bandwidth": 1.2e10, "samples": samples,
                "steady": {name: dict.fromkeys(samples[name], True) for name in names},
                "derived": {name: {"speed.train_utilisation": 0.22} for name in names},
                "resident_growth_bytes": dict.fromkeys(names, 41_000_000),
            },
        )  # fmt: skip


def _samples(name: str, plan: Plan, machine: float, rng: np.random.Generator) -> dict[str, list[float]]:
    model = name.removesuffix("~again")
    slow = 1.0 if model == "dense" else float(_generator("slow", model).uniform(1.05, 2.2))
    if plan.spec.ladders:
        slow = (plan.models[model].costs.train_flops_per_token / 3e5) ** 0.85 * (1.3 if model in WORTH else 1.0)
    own = machine * slow * float(np.exp(rng.normal(0, 0.01)))
    assert plan.speed is not None
    centres = {"speed.train_step_s": 0.03, **{labelled("speed.prefill_s", tokens=n): 0.003 for n in plan.speed.prefill}}
    centres |= {labelled("speed.decode_step_s", batch=n): 0.001 * n**0.4 for n in plan.speed.decode_batches}
    return {
        metric: [round(centre * own * float(np.exp(abs(rng.normal(0, 0.03)))), 7) for _ in range(12)]
        for metric, centre in centres.items()
    }


def _write_tune(root: Path, plan: Plan) -> None:
    if plan.tune is None:
        return
    best = plan.tune.lrs[len(plan.tune.lrs) // 2]
    curves: dict[str, list[dict[str, Any]]] = {}
    for model, lr, seed, _ in plan.tune.runs:
        noise = float(_generator("tune", model, lr, seed).normal(0, 0.004))
        value = round(2.25 * (1 + gain(model)) + 0.06 * np.log2(lr / best) ** 2 + noise, 6)
        curves.setdefault(model, []).append({"lr": lr, "seed": seed, "bits_per_byte": value, "reason": None})
    models = {
        model: {
            "identity": digest_of(model), "curve": curve, "best_lr": best, "interior": True,
            "configured_lr": plan.models[model].recipe.lr,
        }
        for model, curve in curves.items()
    }  # fmt: skip
    folder = _made(store.Results(root).tune(plan.tune.id))
    facts = {"plan": plan.tune.model_dump(mode="json"), "models": models, "finished": STARTED + 600}
    store.write_json(folder.path / "tune.json", facts)
    folder.finish("completed")


EXPERTS = (2, 4, 8, 16, 32, 64)
SWEEP = f"""
suite: expert_count
question: Do more experts of one size lower the loss at equal active parameters?
seeds: 8
data: {{source: stdlib, context: 64}}
train:
  budget: {{tokens: 4.0e5}}
  batch_tokens: 512
  optimizer: {{lr: 3.0e-3}}
  schedule: {{warmup: 5%, decay: cosine}}
models:
  moe:
    layers: 2
    width: 32
    heads: 2
    ffn: {{kind: moe, experts: 12, top_k: 2, expert_hidden: 48}}
  moe_sweep: {{base: moe, sweep: {{ffn.experts: {list(EXPERTS)}}}}}
  dense: {{base: moe, ffn: {{kind: dense}}, match: {{to: moe, on: active_params, by: ffn.hidden, tolerance: 3%}}}}
measure:
  speed: {{train_step: true, decode: {{batch: [1, 8]}}, processes: 6}}
claims:
  more-experts-lower-loss:
    says: Each doubling of the experts lowers the loss.
    over: moe_sweep
    along: ffn.experts
    metric: test.bits_per_byte
    test: {{kind: trend, sign: falling}}
    family: primary
  twelve-beat-dense:
    says: Twelve experts, two active, have lower loss than the dense model of equal active size.
    compare: {{treatment: moe, baseline: dense}}
    metric: test.bits_per_byte
    test: {{kind: superior, margin: 0.5%}}
    family: primary
"""


def sweep_plan(suite: str = SWEEP) -> Plan:
    """The plan of the suite, as planning makes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(suite)
        loaded = load_suite(path)
    return make_plan(loaded.spec, facts=FACTS, vocab=256, machine=Machine())


def write_sweep(root: Path, plan: Plan | None = None) -> Plan:
    """Writes the whole folder under `root` and returns its plan."""
    return write(root, plan or sweep_plan())


# ---------------------------------------------------------------------------------------------- a ladder

WORTH = {
    "moe8.width-16": 1.45, "moe8.width-32": 1.6, "moe8.width-48": 1.8,
    "moe32.width-16": 1.9, "moe32.width-32": 2.0, "moe32.width-48": 2.2,
}  # fmt: skip
"""Mixture -> how many times its active size the dense model of equal loss has."""


def dense_law(size: float) -> float:
    """Bits per byte of a dense model of so many parameters."""
    return float(1.15 + 10.5 * size**-0.21)


def worth(model: str) -> float:
    return WORTH.get(model, 1.0)


def ladder_plan() -> Plan:
    """The shipped suite of a ladder, as planning makes it."""
    return make_plan(load_suite("scale").spec, facts=FACTS, vocab=256, machine=Machine())


def write_ladder(root: Path, plan: Plan | None = None) -> Plan:
    """Writes the whole folder under `root` and returns its plan."""
    return write(root, plan or ladder_plan())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
