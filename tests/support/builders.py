"""Builds `Evidence` in memory from a table of values, for tests of claims and of the report.

`evidence_of(values, claims)` takes model -> metric -> one value per seed and makes a plan that fits, with every
precondition met: equal data digests, one test split, matched sizes, a quiet speed session. Tests then break one thing.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from moebench.claims.decide import Correction, settle, weigh
from moebench.claims.hypothesis import Bound, Contrast, Hypothesis, Reading, Term
from moebench.claims.judge import judge
from moebench.claims.samples import Sample
from moebench.claims.verdict import Verdict
from moebench.counting.costs import Costs
from moebench.counting.weights import ParameterCount
from moebench.environment import Environment
from moebench.identity import digest_of
from moebench.jobs.recipe import Recipe
from moebench.models.architecture import Architecture
from moebench.planning.machine import no_facts
from moebench.planning.planned import DataFacts, PlannedExternal, PlannedModel
from moebench.planning.types import MatchResult, Plan, PlannedJob, SpeedPlan, StoredPlan
from moebench.reader.evidence import Evidence, Item, Outcome, SpeedProcess, TunedModel
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.types import SuiteSpec

PLANNED_AT = 1_795_000_000.0
STEPS, BATCH_TOKENS = 250, 4096
POINTS = (50, 100, 150, 200, 250)
BPB = "test.bits_per_byte"
TWIN = {"treatment": "moe", "baseline": "dense"}

Values = Mapping[str, Mapping[str, Sequence[float | None]]]
"""Model -> metric -> a value per seed, None where it was not measured."""


def claim(test: Mapping[str, Any], metric: str = BPB, **other: Any) -> dict[str, Any]:
    """A claim as a suite file would say it; compares `moe` with `dense` unless told otherwise."""
    block: dict[str, Any] = {"says": "It is so.", "metric": metric, "test": dict(test), **other}
    if not {"compare", "over", "model"} & set(other):
        block["compare"] = TWIN
    return block


def plan_of(
    models: Sequence[str],
    claims: Mapping[str, Mapping[str, Any]],
    *,
    seeds: Sequence[int] = tuple(range(8)),
    sweeps: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
    ladders: Mapping[str, Sequence[str]] | None = None,
    params: Mapping[str, tuple[int, int]] | None = None,
    processes: int = 0,
    residual: float = 0.0,
    same_model: str | None = None,
) -> Plan:
    """A plan of small models; names that start with `moe` are sparse. `params` is model -> (total, active)."""
    sizes = {name: (params or {}).get(name, (110_000, 110_000)) for name in models}
    train = {"budget": {"steps": STEPS}, "batch_tokens": BATCH_TOKENS}
    shape = {"layers": 2, "width": 64, "heads": 4, "train": train}
    spec = SuiteSpec.model_validate(
        {
            "suite": "built",
            "question": "Is it so?",
            "seeds": list(seeds),
            "data": {"source": "stdlib"},
            "models": {name: {**shape, "ffn": _ffn(name).model_dump()} for name in models},
            "sweeps": sweeps or {},
            "ladders": ladders or {},
            "controls": {"same_model": same_model},
            "claims": claims,
        }
    )
    match = MatchResult(
        model=models[0], to=models[-1], on="active_params", by="ffn.hidden", size=177, target=100_000,
        achieved=100_000 * (1 + residual), residual=residual, tolerance=0.01,
    )  # fmt: skip
    speed = SpeedPlan(
        id=digest_of("speed"), models=tuple(models),
        baseline="dense" if "dense" in models else models[0], processes=tuple(range(processes)),
        train_step=True, prefill=(), decode_batches=(1, 8), seconds=60.0,
    )  # fmt: skip
    return Plan(
        suite="built", scale=None, spec=spec, models={name: _planned(name, *sizes[name]) for name in models},
        matches=(match,) if len(models) > 1 else (), speed=speed if processes else None, tune=None,
        jobs=tuple(
            PlannedJob(kind="train", model=m, seed=s, id=digest_of([m, s], length=20)) for s in seeds for m in models
        ),
        data=DataFacts(
            source="stdlib", digest="d" * 16, documents={"test": 9}, tokens={"test": 9000}, domains=("code",),
            leak_share=0.0, leak_threshold=0.05,
        ),
        claim_hashes=spec.claim_hashes,
    )  # fmt: skip


def evidence_of(
    values: Values,
    claims: Mapping[str, Mapping[str, Any]],
    *,
    curves: Mapping[str, Sequence[Sequence[float]]] | None = None,
    items: Mapping[str, Sequence[Sequence[tuple[int, float]]]] | None = None,
    times: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    diverged: Collection[tuple[str, int]] = (),
    missing: Collection[tuple[str, int]] = (),
    tuned: Mapping[str, TunedModel] | None = None,
    **plan: Any,
) -> Evidence:
    """Evidence in which every planned run was done, but for those in `missing` and `diverged` (model, seed).

    `curves`: model -> per seed the bits per byte at `POINTS`. `items`: model -> per seed (bytes, bits) by document.
    `times`: model -> metric -> one median a process, the baseline's second copy being `dense~again`.
    """
    named = list(dict.fromkeys([*values, *(curves or {}), *(m for m in times or {} if "~" not in m)]))
    seeds = plan.pop("seeds", tuple(range(max((len(c) for m in values.values() for c in m.values()), default=8))))
    processes = max((len(column) for metrics in (times or {}).values() for column in metrics.values()), default=0)
    built = plan_of(named, claims, seeds=seeds, processes=processes, **plan)
    outcomes = []
    for planned in built.runs:
        index = list(seeds).index(planned.seed)
        done = _outcome(planned, index, values, curves or {}, items or {}, built)
        if (planned.model, planned.seed) in missing:
            done = Outcome(
                model=planned.model, seed=planned.seed, run_id=planned.id, status="missing", reason="not run yet"
            )
        elif (planned.model, planned.seed) in diverged:
            done = replace(done, status="diverged", reason="loss is not finite", values={}, curves={}, items={})
        outcomes.append(done)
    return Evidence(
        stored=StoredPlan(
            plan=built, stored_at=PLANNED_AT, environment=machine(),
            claims_first_stored=dict.fromkeys(built.claim_hashes.values(), PLANNED_AT),
        ),
        outcomes=tuple(outcomes),
        processes=tuple(_process(i, times or {}) for i in range(processes)),
        speed_finished=PLANNED_AT + 7200 if processes else None,
        tuned=tuned or {},
    )  # fmt: skip


def machine() -> Environment:
    return Environment(
        machine="2-core x86_64 CPU", cpu="AMD EPYC 9R14", cores=2, memory_bytes=24 * 2**30, gpu=None, os="Linux 6.1",
        python="3.11.7", packages={"torch": "2.13.0"}, threads=1, git=None,
    )  # fmt: skip


def token_digest(seed: int, step: int) -> str:
    """The rolling digest that every well-behaved run with this seed has after a step."""
    return hashlib.sha256(f"{seed}:{step}".encode()).hexdigest()[:16]


@functools.cache
def _digests(seed: int) -> Mapping[int, str]:
    return {step: token_digest(seed, step) for step in range(1, STEPS + 1)}


def with_outcome(evidence: Evidence, model: str, seed: int, **changes: Any) -> Evidence:
    """The same evidence with one run changed."""
    outcomes = [replace(o, **changes) if (o.model, o.seed) == (model, seed) else o for o in evidence.outcomes]
    return replace(evidence, outcomes=tuple(outcomes))


def elsewhere(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    claims: Mapping[str, Mapping[str, Any]],
    *,
    metrics: Mapping[str, Mapping[str, str]],
    items: Mapping[str, Mapping[str, Sequence[tuple[str, str, float, float]]]] | None = None,
    diverged: Collection[tuple[str, int]] = (),
    **suite: Any,
) -> Evidence:
    """Evidence of models that were measured elsewhere, each with a value per run; one value is a single run.

    `items`: model -> metric -> (name, group, size, value), for models of one run; their metrics' values follow.
    """
    items = items or {}
    columns = {model: dict(values.get(model, {})) for model in dict.fromkeys((*values, *items))}
    for model, by_metric in items.items():
        for metric, rows in by_metric.items():
            columns[model][metric] = [sum(row[3] for row in rows) / sum(row[2] for row in rows)]
    runs = {model: max(map(len, column.values())) for model, column in columns.items()}
    seeds = list(range(max(runs.values())))
    spec = SuiteSpec.model_validate(
        {
            "suite": "read", "question": "Is it so?", "seeds": seeds, "data": {"source": "none"}, "claims": claims,
            "models": {name: {"results": "ours.csv"} for name in columns}, "metrics": metrics, **suite,
        }
    )  # fmt: skip
    planned = {
        name: PlannedExternal(
            results="ours.csv", form="table", model=name, sha256="0" * 64, seeds=tuple(range(n)), single=n == 1
        )
        for name, n in runs.items()
    }
    jobs = [(name, seed) for seed in seeds for name, n in runs.items() if seed < n]
    plan = Plan(
        suite="read", scale=None, spec=spec, models=planned, matches=(), speed=None, tune=None, data=no_facts(),
        jobs=tuple(PlannedJob(kind="import", model=m, seed=s, id=digest_of([m, s], length=20)) for m, s in jobs),
        claim_hashes=spec.claim_hashes,
        extra_metrics=spec.declared,
    )  # fmt: skip
    outcomes = [
        Outcome(
            model=run.model, seed=run.seed, run_id=run.id, finished=PLANNED_AT + 1,
            status="diverged" if (run.model, run.seed) in diverged else "completed",
            values={
                metric: column[run.seed]
                for metric, column in columns[run.model].items()
                if (run.model, run.seed) not in diverged
            },
            items={
                metric: tuple(Item(name=n, group=g, size=s, value=v) for n, g, s, v in rows)
                for metric, rows in items.get(run.model, {}).items()
            },
        )
        for run in plan.runs
    ]  # fmt: skip
    stored = StoredPlan(
        plan=plan, stored_at=PLANNED_AT, environment=machine(),
        claims_first_stored=dict.fromkeys(plan.claim_hashes.values(), PLANNED_AT),
    )  # fmt: skip
    return Evidence(stored=stored, outcomes=tuple(outcomes))


def _outcome(
    planned: PlannedJob, index: int, values: Values, curves: Mapping[str, Any], items: Mapping[str, Any], plan: Plan
) -> Outcome:
    columns = {metric: column[index] for metric, column in values.get(planned.model, {}).items()}
    rows: dict[str, tuple[tuple[int, float], ...]] = {}
    if planned.model in curves:
        flops = plan.models[planned.model].costs.train_flops_per_token
        rows["curve.bits_per_byte"] = tuple(zip(POINTS, curves[planned.model][index], strict=True))
        rows["train.tokens"] = tuple((step, float(step * BATCH_TOKENS)) for step in POINTS)
        rows["train.model_flops"] = tuple((step, step * BATCH_TOKENS * flops) for step in POINTS)
    documents = items[planned.model][index] if planned.model in items else ()
    return Outcome(
        model=planned.model, seed=planned.seed, run_id=planned.id, status="completed",
        values={metric: value for metric, value in columns.items() if value is not None},
        absent={metric: "not measured here" for metric, value in columns.items() if value is None},
        curves=rows, digests=_digests(planned.seed),
        items={BPB: documents_of(documents)} if len(documents) else {},
        test_digest="t" * 16, finished=PLANNED_AT + 3600, machine="2-core x86_64 CPU",
    )  # fmt: skip


def documents_of(documents: Sequence[tuple[int, float]]) -> tuple[Item, ...]:
    """Items of a quality, from (bytes, bits) of each document."""
    return tuple(Item(name=f"d{i}", group="code", size=n, value=b) for i, (n, b) in enumerate(documents))


def _process(index: int, times: Mapping[str, Mapping[str, Sequence[float]]]) -> SpeedProcess:
    values = {
        model: {metric: column[index] for metric, column in metrics.items() if index < len(column)}
        for model, metrics in times.items()
    }
    return SpeedProcess(process=index, seed=index, values=values, machine="2-core x86_64 CPU")


def _ffn(name: str) -> DenseFFN | MoEFFN:
    if name.startswith("moe"):
        return MoEFFN(kind="moe", experts=8, top_k=2, expert_hidden=88)
    return DenseFFN(kind="dense", hidden=177)


def _planned(name: str, total: int, active: int) -> PlannedModel:
    return PlannedModel(
        architecture=Architecture(
            vocab=256, context=256, layers=2, width=64, heads=4, kv_heads=4, head_dim=16, ffn=_ffn(name),
            tied_embeddings=True, rope_theta=10000.0, norm_eps=1e-5,
        ),
        recipe=Recipe(
            steps=STEPS, batch_tokens=BATCH_TOKENS, micro_batch_tokens=BATCH_TOKENS, lr=3e-3, betas=(0.9, 0.95),
            eps=1e-8, weight_decay=0.1, clip=1.0, warmup_steps=12, decay="cosine", final_lr_share=0.1, dtype="float32",
            evaluate_at=POINTS, eval_tokens=32768, final_eval_tokens=131072, windows_per_document=4,
            split="test",
        ),
        costs=Costs(
            params=ParameterCount(
                total=total, active=active, total_no_embedding=total - 16384, active_no_embedding=active - 16384
            ),
            train_flops_per_token=6.0 * active, decode_flops_per_token=2.0 * active, weight_bytes=4 * total,
            kv_bytes_per_token=1024, train_state_bytes=16 * total,
        ),
        expected_train_flops=6.0 * active * STEPS * BATCH_TOKENS,
    )  # fmt: skip


def judged(evidence: Evidence) -> Verdict:
    """The verdict on the one claim."""
    (verdict,) = judge(evidence)
    return verdict


def pair(
    moe: Sequence[float], dense: Sequence[float], test: Mapping[str, Any], metric: str = BPB, **other: Any
) -> Evidence:
    """One claim about two models, a value for each seed."""
    return evidence_of({"moe": {metric: moe}, "dense": {metric: dense}}, {"c": claim(test, metric)}, **other)


def lower_by(gains: Sequence[float], test: Mapping[str, Any], **other: Any) -> Verdict:
    """The verdict when the treatment's bits per byte are below the baseline's by these differences."""
    return judged(pair([2 - gain for gain in gains], [2.0] * len(gains), test, **other))


def with_plan(evidence: Evidence, **changes: Any) -> Evidence:
    """The same evidence of another plan."""
    return replace(
        evidence, stored=evidence.stored.model_copy(update={"plan": evidence.plan.model_copy(update=changes)})
    )


def with_recipe(evidence: Evidence, model: str, **changes: Any) -> Evidence:
    """The same evidence of a model that was trained otherwise."""
    planned = evidence.plan.models[model]
    recipe = Recipe.model_validate({**planned.recipe.model_dump(), **changes})
    flops = planned.costs.train_flops_per_token * recipe.steps * recipe.batch_tokens
    models = {
        **evidence.plan.models,
        model: planned.model_copy(update={"recipe": recipe, "expected_train_flops": flops}),
    }
    return with_plan(evidence, models=models)


def with_ffn(evidence: Evidence, model: str, **changes: Any) -> Evidence:
    """The same evidence of a model with another network."""
    planned = evidence.plan.models[model]
    ffn = planned.architecture.ffn.model_copy(update=changes)
    architecture = planned.architecture.model_copy(update={"ffn": ffn})
    models = {**evidence.plan.models, model: planned.model_copy(update={"architecture": architecture})}
    return with_plan(evidence, models=models)


SUPERIOR = {"kind": "superior", "margin": 0}


MOE = [1.9, 1.91, 1.89, 1.9, 1.92, 1.88, 1.9, 1.9]


DENSE = [2.0, 2.0, 1.99, 2.01, 2.0, 2.0, 1.98, 2.02]


DOCUMENTS = [(4000, 4000 * 1.9), (6000, 6000 * 1.9), (5000, 5000 * 1.9), (115_000, 115_000 * 1.9)]
"""(bytes, bits) of what a well-behaved evaluation scored."""


def twins(metric: str = BPB, test: dict[str, Any] = SUPERIOR, **other: Any) -> Evidence:
    """A mixture below a dense model by 5%, matched, all on the same text."""
    values = {"moe": {metric: MOE}, "dense": {metric: DENSE}}
    return evidence_of(values, {"c": claim(test, metric)}, **{"items": scoring(DOCUMENTS), **other})


def scoring(documents: Sequence[tuple[int, float]], seeds: int = 8) -> dict[str, Any]:
    return {"moe": [documents] * seeds, "dense": [[(n, b * 1.05) for n, b in documents]] * seeds}


def unmatched(evidence: Evidence) -> Evidence:
    return with_plan(evidence, matches=())


def swept(**other: Any) -> Evidence:
    """Three points, evenly apart on a log scale, so that the middle one has weight 0."""
    points = {"moe_s2": 2.0, "moe_s4": 4.0, "moe_s8": 8.0}
    values = {name: {BPB: [2.0 - 0.01 * x + s / 1e4 for s in range(8)]} for name, x in points.items()}
    block = claim({"kind": "trend", "sign": "falling"}, over="moe_s", along="ffn.experts")
    sweeps = {"moe_s": {name: {"ffn.experts": x} for name, x in points.items()}}
    return unmatched(evidence_of(values, {"c": block}, sweeps=sweeps, **other))


def timed(
    ratio: float = 1.05, *, again: float = 1.0, processes: int = 10, noise: float = 0.01, **other: Any
) -> Evidence:
    rng = np.random.default_rng(2)
    metric = "speed.decode_step_s[batch=8]"
    drift = np.exp(rng.normal(0, 0.2, processes))
    values = {"dense": 1.0, "dense~again": again, "moe": ratio}
    times = {m: {metric: 0.004 * v * drift * np.exp(rng.normal(0, noise, processes))} for m, v in values.items()}
    block = claim({"kind": "non_inferior", "margin": "10%"}, metric)
    return evidence_of({"moe": {BPB: [2.0]}, "dense": {BPB: [2.0]}}, {"c": block}, times=times, **other)


def hypothesis_of(support: tuple[Bound, ...], refute: tuple[Bound, ...], level: float = 0.025) -> Hypothesis:
    terms = (Term(model="moe", metric=BPB, weight=-1), Term(model="dense", metric=BPB, weight=1))
    return Hypothesis(
        contrast=Contrast(terms=terms, log=False),
        support=support,
        refute=refute,
        reading=Reading(form="difference", sign=-1, unit="bits/byte"),
        asked="",
        level=level,
    )


def decided_of(sample: Sample, hypothesis: Hypothesis) -> str:
    finding = weigh(sample, hypothesis)
    none = Correction(p_for=finding.p_for or 0.0, p_against=finding.p_against or 0.0, words="", in_family=False)
    return settle(finding, hypothesis, sample, none)[0]
