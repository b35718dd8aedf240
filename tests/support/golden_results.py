"""Writes a small results folder with known answers, for the tests of the report wing.

Nothing is trained: losses, times and loads come from formulas plus noise drawn from generators derived by name, so the
same call always writes the same numbers. Three models (an 8-expert MoE and its two dense twins), three domains, a
speed session of six processes, and a learning-rate sweep. `python -m tests.support.golden_results FOLDER` writes it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moebench import store
from moebench.counting.costs import Costs
from moebench.counting.weights import ParameterCount
from moebench.environment import Environment
from moebench.identity import digest_of, job_id
from moebench.jobs.evaluate import id_of, spec_of
from moebench.jobs.recipe import Recipe, Run
from moebench.jobs.session import SpeedPlan, SpeedSpec
from moebench.metrics.ref import labelled
from moebench.models.architecture import Architecture
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.planning.types import MatchResult, Plan, PlannedJob, TunePlan
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.types import SuiteSpec

Rows = Mapping[str, Iterable[dict[str, Any]]]
STARTED = 1_795_000_000.0
DOMAINS = ("code", "docstrings", "prose")
DIGEST = hashlib.sha256(b"golden data").hexdigest()
STEPS, BATCH_TOKENS, LAYERS, WIDTH, EXPERTS = 240, 4096, 2, 64, 8
POINTS = tuple(range(30, STEPS + 1, 30))
MACHINE = Environment(
    machine="2-core x86_64 CPU",
    cpu="AMD EPYC 9R14",
    cores=2,
    memory_bytes=24 * 2**30,
    gpu=None,
    os="Linux 6.1",
    python="3.11.7",
    packages={"torch": "2.13.0", "numpy": "2.4.6", "moebench": "0.1.0"},
    threads=1,
    git="0123456789ab",
)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a model's numbers are drawn around."""

    loss: float
    """Final bits per byte."""
    hidden: int
    active: int
    total: int
    train_flops: float
    """Per token."""
    step_s: float
    decode_s: dict[int, float]
    """By batch."""


TRUTH = {
    "moe_8x2": Truth(
        loss=2.165,
        hidden=88,
        active=117_000,
        total=321_000,
        train_flops=702e3,
        step_s=0.0330,
        decode_s={1: 0.0021, 8: 0.0041},
    ),
    "dense": Truth(
        loss=2.186,
        hidden=177,
        active=117_200,
        total=117_200,
        train_flops=704e3,
        step_s=0.0270,
        decode_s={1: 0.0013, 8: 0.0019},
    ),
    "dense_total": Truth(
        loss=2.141,
        hidden=709,
        active=321_400,
        total=321_400,
        train_flops=1929e3,
        step_s=0.0480,
        decode_s={1: 0.0018, 8: 0.0029},
    ),
}


def write(root: Path, *, seeds: int = 8, question: str | None = None, plan: Plan | None = None) -> Plan:
    """Writes the whole folder under `root` and returns its plan."""
    plan = plan or golden_plan(seeds=seeds, question=question)
    results = store.Results(root)
    results.save_plan(plan, MACHINE)
    for planned in plan.runs:
        write_run(root, plan, planned)
    if plan.speed:
        write_speed(root, plan)
    if plan.tune:
        write_tune(root, plan.tune)
    _fix_times(root)
    return plan


# ---------------------------------------------------------------------------------------------- the plan


def golden_suite(*, seeds: int = 8, question: str | None = None, claims: Mapping[str, Any] | None = None) -> SuiteSpec:
    """The suite that the folder answers."""
    train = {"budget": {"tokens": STEPS * BATCH_TOKENS}, "batch_tokens": BATCH_TOKENS}
    shape = {"layers": LAYERS, "width": WIDTH, "heads": 4, "train": train}
    ffn = {"kind": "moe", "experts": EXPERTS, "top_k": 2, "expert_hidden": TRUTH["moe_8x2"].hidden}
    models = {"moe_8x2": {**shape, "ffn": ffn}}
    for name, on in (("dense", "active_params"), ("dense_total", "total_params")):
        match = {"to": "moe_8x2", "on": on, "by": "ffn.hidden"}
        models[name] = {**shape, "ffn": {"kind": "dense", "hidden": TRUTH[name].hidden}, "match": match}
    return SuiteSpec.model_validate(
        {
            "suite": "golden",
            "question": question
            or "At equal active parameters and identical data, is a sparse model better per token than a dense one?",
            "seeds": list(range(seeds)),
            "data": {"source": "stdlib", "context": 256},
            "models": models,
            "measure": {"speed": {"prefill": [64], "decode": {"batch": [1, 8]}, "processes": 6}},
            "tune": {"lr": [1e-3, 3e-3, 6e-3, 12e-3], "seeds": 2},
            "claims": golden_claims() if claims is None else claims,
        }
    )


def golden_claims() -> dict[str, Any]:
    """Claims of every kind the report must show, with known outcomes."""
    twin = {"treatment": "moe_8x2", "baseline": "dense"}
    big = {"treatment": "moe_8x2", "baseline": "dense_total"}
    bpb = "test.bits_per_byte"
    return {
        "better-per-token": {
            "says": "At equal active parameters and tokens an 8-expert top-2 model has lower loss than dense.",
            "compare": twin, "metric": bpb, "test": {"kind": "superior", "margin": "0.5%"}, "family": "primary",
        },
        "as-good-as-total": {
            "says": "It is as good as the dense model of equal total size.",
            "compare": big, "metric": bpb, "test": {"kind": "equivalent", "margin": "0.5%"},
        },
        "recovers-half": {
            "says": "It recovers at least half of what the equal-total dense model gains.",
            "compare": {**twin, "ceiling": "dense_total"}, "metric": bpb, "test": {"kind": "recovers", "value": 0.5},
        },
        "flops-follow-active": {
            "says": "Training FLOPs follow active parameters.",
            "compare": twin, "metric": "cost.train_flops_per_token",
            "test": {"kind": "ratio_within", "low": 0.95, "high": 1.05},
        },
        "memory-follows-total": {
            "says": "Training memory follows total parameters.",
            "compare": big, "metric": "memory.train_peak_bytes",
            "test": {"kind": "ratio_within", "low": 0.9, "high": 1.1},
        },
        "decodes-as-fast": {
            "says": "It decodes as fast as its dense twin at batch 8.",
            "compare": twin, "metric": "speed.decode_step_s[batch=8]",
            "test": {"kind": "non_inferior", "margin": "10%"},
        },
        "steps-faster-than-total": {
            "says": "Its training step is faster than that of the equal-total dense model.",
            "compare": big, "metric": "speed.train_step_s", "test": {"kind": "superior", "margin": "0%"},
        },
        "flops-to-quality": {
            "says": "It reaches the dense model's final loss with at least 1.3 times fewer FLOPs.",
            "compare": twin, "metric": "flops_to_quality", "test": {"kind": "ratio_at_least", "value": 1.3},
            "target": {"reach": "dense"},
        },
    }  # fmt: skip


def golden_plan(*, seeds: int = 8, question: str | None = None, claims: Mapping[str, Any] | None = None) -> Plan:
    """The plan of the folder, with every size written down by hand."""
    spec = golden_suite(seeds=seeds, question=question, claims=claims)
    models = {name: _planned(name, truth) for name, truth in TRUTH.items()}
    runs = [(m, s, run_of(models[m], s).id) for s in spec.seeds for m in models]
    speed = SpeedPlan(
        id=digest_of(["speed", seeds]), models=tuple(models), baseline="dense",
        processes=tuple(s % seeds for s in range(6)),
        train_step=True, prefill=(64,), decode_batches=(1, 8), seconds=60.0,
    )  # fmt: skip
    lrs, tune_seeds = (1e-3, 3e-3, 6e-3, 12e-3), (1000, 1001)
    tune_runs = tuple((m, lr, s, digest_of([m, lr, s], length=20)) for m in models for lr in lrs for s in tune_seeds)
    return Plan(
        suite=spec.suite, scale=None, spec=spec, models=models, jobs=(*jobs_of(runs), *sessions(speed, runs)),
        matches=tuple(_match(name, on) for name, on in (("dense", "active_params"), ("dense_total", "total_params"))),
        speed=speed,
        tune=TunePlan(id=digest_of("tune"), lrs=lrs, seeds=tune_seeds, runs=tune_runs),
        data=DataFacts(
            source="stdlib", digest=DIGEST, documents={"train": 900, "tune": 60, "test": 120},
            tokens={"train": 9_000_000, "tune": 600_000, "test": 1_200_000}, domains=DOMAINS,
            leak_share=0.004, leak_threshold=0.05,
        ),
        claim_hashes=spec.claim_hashes,
    )  # fmt: skip


def _planned(name: str, truth: Truth) -> PlannedModel:
    ffn = (
        MoEFFN(kind="moe", experts=EXPERTS, top_k=2, expert_hidden=truth.hidden)
        if name.startswith("moe")
        else DenseFFN(kind="dense", hidden=truth.hidden)
    )
    tables = 256 * WIDTH
    return PlannedModel(
        architecture=Architecture(
            vocab=256, context=256, layers=LAYERS, width=WIDTH, heads=4, kv_heads=4, head_dim=16, ffn=ffn,
            tied_embeddings=True, rope_theta=10000.0, norm_eps=1e-5,
        ),
        recipe=Recipe(
            steps=STEPS, batch_tokens=BATCH_TOKENS, micro_batch_tokens=BATCH_TOKENS, lr=6e-3, betas=(0.9, 0.95),
            eps=1e-8,
            weight_decay=0.1, clip=1.0, warmup_steps=12, decay="cosine", final_lr_share=0.1, dtype="float32",
            evaluate_at=POINTS, eval_tokens=32768, final_eval_tokens=131072, windows_per_document=4,
            split="test",
        ),
        costs=Costs(
            params=ParameterCount(
                total=truth.total, active=truth.active,
                total_no_embedding=truth.total - tables, active_no_embedding=truth.active - tables,
            ),
            train_flops_per_token=truth.train_flops, decode_flops_per_token=truth.train_flops / 3,
            weight_bytes=4 * truth.total,
            kv_bytes_per_token=2 * LAYERS * WIDTH * 4, train_state_bytes=16 * truth.total,
        ),
        expected_train_flops=truth.train_flops * STEPS * BATCH_TOKENS,
    )  # fmt: skip


def _match(name: str, on: str) -> MatchResult:
    side = "active" if on == "active_params" else "total"
    target, achieved = getattr(TRUTH["moe_8x2"], side), getattr(TRUTH[name], side)
    return MatchResult(
        model=name, to="moe_8x2", on=on, by="ffn.hidden", size=TRUTH[name].hidden, target=target, achieved=achieved,
        residual=achieved / target - 1, tolerance=0.01,
    )  # fmt: skip


def run_of(model: PlannedModel, seed: int) -> Run:
    """The run of a planned model and a seed."""
    backend = "grouped" if model.architecture.ffn.kind == "moe" else "none"
    return Run(
        architecture=model.architecture, recipe=model.recipe, seed=seed, data_digest=DIGEST, device="cpu",
        backend=backend, torch="2.13"
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- one run


def jobs_of(runs: Iterable[tuple[str, int, str]]) -> tuple[PlannedJob, ...]:
    """Jobs that train (model, seed, id), and those that measure what they leave."""
    return measured([PlannedJob(kind="train", model=model, seed=seed, id=run_id) for model, seed, run_id in runs])


def sessions(speed: SpeedPlan, runs: Iterable[tuple[str, int, str]]) -> tuple[PlannedJob, ...]:
    """The jobs of a speed session over runs (model, seed, id)."""
    runs = list(runs)
    jobs = []
    for index, seed in enumerate(speed.processes):
        spec = session_spec(speed, index, {model: run_id for model, s, run_id in runs if s == seed})
        inputs = tuple(dict.fromkeys(spec["runs"].values()))
        made = job_id("speed", spec, inputs)
        jobs.append(PlannedJob(kind="speed", model=speed.baseline, seed=seed, id=made, inputs=inputs))
    return tuple(jobs)


def session_spec(speed: SpeedPlan, process: int, runs: dict[str, str]) -> dict[str, Any]:
    return SpeedSpec(session=speed, process=process, runs=runs).model_dump(mode="json")


def process_folders(root: Path, plan: Plan) -> list[store.JobFolder]:
    """The folders of the session's processes."""
    return [store.Results(root).job(job.id) for job in plan.sessions]


def write_process(root: Path, plan: Plan, process: int, value: dict[str, Any]) -> None:
    """What one process of the session leaves."""
    assert plan.speed is not None
    job, folder = plan.sessions[process], _made(process_folders(root, plan)[process])
    runs = {run.model: run.id for run in plan.runs if run.seed == job.seed}
    about = {"kind": "speed", "spec": session_spec(plan.speed, process, runs), "inputs": list(job.inputs)}
    store.write_json(folder.path / "job.json", {"job": about, "model": job.model, "seed": job.seed})
    store.write_json(folder.path / "process.json", {**value, "missing": {}})
    folder.finish("completed")


def measured(trained: Sequence[PlannedJob]) -> tuple[PlannedJob, ...]:
    """Jobs that train, and those that measure what they leave."""
    rest = (
        one.model_copy(update={"kind": "evaluate", "id": id_of(one.id, name), "inputs": (one.id,), "measurement": name})
        for name in ("quality", "flops", "memory")
        for one in trained
    )
    return (*trained, *rest)


def write_measured(root: Path, plan: Plan, planned: PlannedJob, about: dict[str, Any], rows: Rows) -> None:
    """What the jobs that measure a run leave of its records: quality and memory; of FLOPs there are none."""
    groups = {"quality": ("test.", "routing.domain_tokens"), "memory": ("memory.",), "flops": ("train.counted",)}
    for one in plan.evaluations[planned.id]:
        folder, name = _made(store.Results(root).job(one.id)), str(one.measurement)
        job = {"kind": "evaluate", "spec": spec_of(name), "inputs": [planned.id]}
        store.write_json(folder.path / "job.json", {**about, "job": job})
        own = [{**row, "version": 1} for row in rows["records"] if row["metric"].startswith(groups[name])]
        store.append_lines(folder.path / "records.jsonl", own)
        if name == "quality":
            store.append_lines(folder.path / "items.jsonl", rows.get("items", []))
        folder.finish("completed")


def holder(folder: store.JobFolder, name: str) -> store.JobFolder:
    """The folder that holds a run's file of this name: documents are with the job that measures quality."""
    return folder if name != "items.jsonl" else store.JobFolder(folder.path.with_name(id_of(folder.id, "quality")))


def of_training(rows: Iterable[dict[str, Any]], *, completed: bool = True) -> list[dict[str, Any]]:
    """The records that a job that trains leaves."""
    later = ("test.", "routing.domain_tokens", "memory.", "train.counted") if completed else ()
    return [{**row, "version": 1} for row in rows if not row["metric"].startswith(later)]


def write_run(root: Path, plan: Plan, planned: PlannedJob, *, status: str = "completed") -> None:
    """One finished run. A diverged one stops half-way and says so."""
    folder = _made(store.Results(root).job(planned.id))
    model = plan.models[planned.model]
    truth = TRUTH[planned.model]
    rng = _generator("run", planned.model, planned.seed)
    last = STEPS if status == "completed" else STEPS // 2
    about = {
        "job": {"kind": "train", "spec": run_of(model, planned.seed).model_dump(mode="json"), "inputs": []},
        "model": planned.model,
        "seed": planned.seed,
        "suite": plan.suite,
        "environment": MACHINE.model_dump(mode="json"),
        "data_splits": {"test": {"documents": [f"doc-{n:02d}" for n in range(12)], "digest": DIGEST[:16]}},
        "started": STARTED,
    }
    store.write_json(folder.path / "job.json", about)
    curve = _curve(truth, planned.seed, rng)
    store.append_lines(folder.path / "steps.jsonl", _steps(curve, planned.seed, last))
    losses = _losses(curve(STEPS), rng)
    records = list(_records(truth, curve, losses, rng, last, moe=planned.model.startswith("moe")))
    store.append_lines(folder.path / "records.jsonl", of_training(records, completed=status == "completed"))
    if status == "completed":
        write_measured(root, plan, planned, about, {"records": records, "items": _items(losses, rng)})
    seconds = truth.step_s * float(np.exp(rng.normal(0, 0.02)))
    segments = [
        {"segment": k, "step_from": a, "step_to": a + 30, "seconds": round(30 * seconds, 4), "what": "train"}
        for k, a in enumerate(range(0, last, 30))
    ]
    store.append_lines(folder.path / "timed.jsonl", segments)
    reason = None if status == "completed" else f"loss is not finite at step {last}"
    folder.finish(status, reason, "omitted")


def _curve(truth: Truth, seed: int, rng: np.random.Generator) -> Any:
    """Bits per byte by step. Half of the noise is the seed's own, shared by all models of the pair."""
    shared = float(_generator("shared", seed).normal(0, 0.005))
    own = float(rng.normal(0, 0.004))
    return lambda step: truth.loss + shared + own + 2.6 * ((step / 12 + 1) ** -0.9 - (STEPS / 12 + 1) ** -0.9)


def _steps(curve: Any, seed: int, last: int) -> Iterable[dict[str, Any]]:
    rng = _generator("steps", seed)
    rows = []
    for step in range(10, last + 1, 10):
        digest = hashlib.sha256(f"{seed}:{step}".encode()).hexdigest()[:16]
        loss = round(curve(step) + float(rng.normal(0, 0.03)), 4)
        rows.append({"step": step, "loss": loss, "grad_norm": 0.5, "digest": digest})
    return rows


def _losses(final: float, rng: np.random.Generator) -> dict[str, float]:
    """Final bits per byte by domain; their mean is that of all, as every domain has as many bytes."""
    noise = rng.normal(0, 0.002, len(DOMAINS))
    shifts = np.array([-0.25, 0.05, 0.20]) + noise - noise.mean()
    return {domain: final + float(shift) for domain, shift in zip(DOMAINS, shifts, strict=True)}


def _records(
    truth: Truth, curve: Any, losses: dict[str, float], rng: np.random.Generator, last: int, *, moe: bool
) -> Iterable[dict[str, Any]]:
    for step in (p for p in POINTS if p <= last):
        tokens = step * BATCH_TOKENS
        yield {"metric": "curve.bits_per_byte", "value": round(curve(step), 6), "step": step}
        yield {"metric": "train.tokens", "value": tokens, "step": step}
        yield {"metric": "train.model_flops", "value": tokens * truth.train_flops, "step": step}
        if moe:
            yield from _routing(rng, step)
    if last < STEPS:
        yield {"metric": "test.bits_per_byte", "reason": f"the run diverged at step {last}"}
        return
    yield {"metric": "test.bits_per_byte", "value": round(curve(STEPS), 6), "step": STEPS}
    for domain, loss in losses.items():
        yield {"metric": labelled("test.bits_per_byte", domain=domain), "value": round(loss, 6), "step": STEPS}
    parts = {"weights": 4, "gradients": 4, "optimizer": 8}
    activations = 9_000_000 + 40 * truth.active
    yield {"metric": "memory.train_peak_bytes", "value": 16 * truth.total + activations}
    for part, size in parts.items():
        yield {"metric": labelled("memory.train_peak_bytes", part=part), "value": size * truth.total}
    yield {"metric": labelled("memory.train_peak_bytes", part="activations"), "value": activations}
    yield {"metric": "memory.inference_peak_bytes", "value": 4 * truth.total + 700_000}
    if moe:
        yield from _domain_routing(rng)


def _routing(rng: np.random.Generator, step: int) -> Iterable[dict[str, Any]]:
    worst, entropies = [], []
    for layer in range(LAYERS):
        load = rng.dirichlet(np.full(EXPERTS, 4 + step / 4)) * 65536
        worst.append(load.max() / load.mean())
        share = load / load.sum()
        entropies.append(float(-(share * np.log(share)).sum() / np.log(EXPERTS)))
        for expert, tokens in enumerate(load.astype(int).tolist()):
            yield {"metric": labelled("routing.tokens", layer=layer, expert=expert), "value": tokens, "step": step}
    yield {"metric": "routing.max_over_mean", "value": round(float(np.mean(worst)), 6), "step": step}
    yield {"metric": "routing.entropy", "value": round(float(np.mean(entropies)), 6), "step": step}
    yield {"metric": "routing.dead_experts", "value": 0, "step": step}
    yield {"metric": "routing.dropped_share", "value": 0.0, "step": step}


def _domain_routing(rng: np.random.Generator) -> Iterable[dict[str, Any]]:
    for layer in range(LAYERS):
        for domain in DOMAINS:
            for expert, tokens in enumerate((rng.dirichlet(np.full(EXPERTS, 8.0)) * 20000).astype(int).tolist()):
                labels = {"layer": layer, "expert": expert, "domain": domain}
                yield {"metric": labelled("routing.domain_tokens", **labels), "value": tokens, "step": STEPS}


def _items(losses: dict[str, float], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Four documents a domain, some harder than others, that add up to the domain's loss."""
    rows = []
    for place, (domain, loss) in enumerate(losses.items()):
        numbers = range(place, 12, len(DOMAINS))
        sizes = np.array([4000 + 500 * n for n in range(len(numbers))])
        hardness = np.array([float(_generator("item", n).normal(0, 0.1)) for n in numbers])
        off = hardness + rng.normal(0, 0.004, len(numbers))
        bits = sizes * (loss + off - np.average(off, weights=sizes))
        rows += [
            {"document": f"doc-{n:02d}", "domain": domain, "bytes": int(size), "bits": round(float(b), 3)}
            for n, size, b in zip(numbers, sizes, bits, strict=True)
        ]
    return rows


# ---------------------------------------------------------------------------------------------- speed and tune


def write_speed(root: Path, plan: Plan, *, aa: float = 1.0) -> None:
    """Six processes; `aa` is the true ratio of the baseline to itself."""
    speed = plan.speed
    assert speed is not None
    names = [*speed.models, f"{speed.baseline}~again"]
    for process, seed in enumerate(speed.processes):
        rng = _generator("speed", process)
        machine = float(np.exp(rng.normal(0, 0.1)))
        samples = {name: _samples(name, machine, rng, aa) for name in names}
        write_process(
            root, plan, process,
            {
                "process": process, "seed": seed, "order": names, "environment": MACHINE.model_dump(mode="json"),
                "load": [0.3, 0.4], "peak_flops": 9.1e10, "peak_bandwidth": 1.2e10, "samples": samples,
                "steady": {name: dict.fromkeys(samples[name], True) for name in names},
                "derived": {
                    name: {"speed.train_utilisation": 0.22, "speed.decode_bandwidth_utilisation[batch=8]": 0.31}
                    for name in names
                },
                "resident_growth_bytes": dict.fromkeys(names, 41_000_000),
            },
        )  # fmt: skip


def _samples(name: str, machine: float, rng: np.random.Generator, aa: float) -> dict[str, list[float]]:
    truth = TRUTH[name.removesuffix("~again")]
    own = machine * float(np.exp(rng.normal(0, 0.006))) * (aa if name.endswith("~again") else 1.0)
    centres = {"speed.train_step_s": truth.step_s, "speed.prefill_s[tokens=64]": truth.step_s / 9}
    centres |= {labelled("speed.decode_step_s", batch=batch): seconds for batch, seconds in truth.decode_s.items()}
    return {
        metric: [round(centre * own * float(np.exp(abs(rng.normal(0, 0.03)))), 7) for _ in range(20)]
        for metric, centre in centres.items()
    }


def write_tune(root: Path, tune: TunePlan) -> None:
    """A learning-rate sweep with its optimum inside; one run of it diverged."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for model, lr, seed, _ in tune.runs:
        noise = float(_generator("tune", model, lr, seed).normal(0, 0.004))
        value = round(TRUTH[model].loss + 0.05 + 0.06 * np.log2(lr / 6e-3) ** 2 + noise, 6)
        diverged = model == "dense_total" and lr == max(tune.lrs) and seed == tune.seeds[0]
        point = {"lr": lr, "seed": seed, "bits_per_byte": None if diverged else value}
        curves.setdefault(model, []).append({**point, "reason": "loss is not finite at step 31" if diverged else None})
    models = {
        model: {"identity": digest_of(model), "curve": curve, "best_lr": 6e-3, "interior": True, "configured_lr": 6e-3}
        for model, curve in curves.items()
    }
    folder = _made(store.Results(root).tune(tune.id))
    store.write_json(
        folder.path / "tune.json", {"plan": tune.model_dump(mode="json"), "models": models, "finished": STARTED + 600}
    )
    folder.finish("completed")


def _made(folder: store.JobFolder) -> store.JobFolder:
    folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def _generator(*names: object) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(repr(names).encode()).digest()))


def _fix_times(root: Path) -> None:
    """Clock times are the only thing a second build would write differently."""
    for done in sorted(root.glob("*/*/DONE")):
        store.write_json(done, {**store.read_json(done), "finished": STARTED + 900})
    for plan in sorted((root / "plans").glob("*.json")):
        stored = store.read_json(plan)
        dated = ("claims_first_stored", "seals_first_stored")
        first = {name: dict.fromkeys(stored[name], STARTED - 60) for name in dated}
        store.write_json(plan, {**stored, "stored_at": STARTED - 60, **first})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
