"""Findings with known answers about tasks, checkpoints and numbers from elsewhere, for the tests of the report wing.

Nothing is run: right and wrong answers come from generators derived by name, so the same call always gives the same
numbers. `checkpoints` has four published models of one run each, `read` has two models read from a table over eight
seeds and one typed number, `mixed` has a mixture and its dense twin trained here beside a checkpoint and a read model.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.counting.costs import costs_of
from moebench.identity import digest_of
from moebench.metrics import in_force
from moebench.metrics.metric import SHARE, Metric
from moebench.planning.machine import no_facts
from moebench.planning.planned import AnyPlanned, PlannedCheckpoint, PlannedExternal
from moebench.planning.types import Plan, PlannedJob, StoredPlan
from moebench.reader.evidence import Evidence, Item, Outcome
from moebench.reporting.analysis import Findings
from moebench.reporting.study import study
from moebench.suite.types import SuiteSpec
from moebench.systems import system
from tests.support.builders import BPB, PLANNED_AT, elsewhere, evidence_of, machine

CHANCE = {"arc_easy": 0.25, "hellaswag": 0.25, "piqa": 0.5, "recall": 0.125, "path": 0.125, "winogrande": 0.5}
"""Task -> what guessing gets."""
SYSTEMS = {"olmoe_1b_7b": "olmoe-1b-7b", "olmo_1b": "olmo-1b", "olmo_7b": "olmo-7b", "mixtral": "mixtral-8x7b"}
SKILL = {
    "olmoe_1b_7b": 0.62,
    "olmo_1b": 0.45,
    "olmo_7b": 0.60,
    "mixtral": 0.80,
    "moe": 0.31,
    "dense": 0.24,
    "theirs": 0.28,
}
"""How far a model is from chance to ceiling on most tasks."""
ITEMS = 400


def metric_name(task: str) -> str:
    return f"lm_eval.acc[task={task}]"


def metrics() -> dict[str, Metric]:
    """What a plan holds of its tasks."""
    facts: dict[str, Any] = {
        "name": "lm_eval.acc", "unit": "1", "better": "higher", "labels": ("task",), "within": SHARE,
        "says": "accuracy", "cannot": "anything else",
    }  # fmt: skip
    return {metric_name(task): Metric(**facts, chance=chance) for task, chance in CHANCE.items()}


def answers(model: str, seed: int = 0) -> dict[str, tuple[Item, ...]]:
    """Right and wrong answers of a model; hard questions are hard for all. On `path` every model guesses."""
    held: dict[str, tuple[Item, ...]] = {}
    for task, chance in CHANCE.items():
        hard = np.random.default_rng(zlib.crc32(task.encode())).uniform(0, 1, ITEMS)
        luck = np.random.default_rng([zlib.crc32(f"{task} {model}".encode()), seed]).uniform(0, 1, ITEMS)
        skill = 0.0 if task == "path" else SKILL[model.partition("-")[0]]
        right = (hard < skill + 0.02 * (luck - 0.5)) | (luck < chance)
        items = (Item(name=f"{task} {n}", group="", size=1.0, value=float(one)) for n, one in enumerate(right))
        held[metric_name(task)] = tuple(items)
    return held


def scores(items: Mapping[str, Sequence[Item]]) -> dict[str, float]:
    return {metric: sum(item.value for item in every) / len(every) for metric, every in items.items()}


def checkpoint(name: str) -> PlannedCheckpoint:
    blueprint = system(SYSTEMS[name.partition("-")[0]]).blueprint
    assert blueprint is not None
    mixture = bool(blueprint.mixtures)
    return PlannedCheckpoint(
        checkpoint=f"allenai/{name}", revision="main", family="OlmoeForCausalLM" if mixture else "OlmoForCausalLM",
        digest=digest_of(name, length=64), dtype="bfloat16", experts="grouped_mm", blueprint=blueprint,
        costs=costs_of(blueprint, dtype="bfloat16"), model_type="olmoe" if mixture else "olmo", longest=4096, files=3,
        file_bytes=2 * costs_of(blueprint, dtype="bfloat16").params.total,
    )  # fmt: skip


def external(*, single: bool = True, form: Any = "lm_eval", model: str = "theirs") -> PlannedExternal:
    seeds = (0,) if single else tuple(range(8))
    return PlannedExternal(
        results="logs/theirs", form=form, model=model, sha256=digest_of(model, length=64), seeds=seeds, single=single
    )


def documents(model: str, level: float) -> tuple[Item, ...]:
    rng, own = np.random.default_rng(3), np.random.default_rng(zlib.crc32(model.encode()))
    sizes = rng.integers(2000, 9000, 40)
    rates = level * np.exp(rng.normal(0, 0.08, 40) + own.normal(0, 0.02, 40))
    rows = zip(sizes, rates, strict=True)
    return tuple(
        Item(name=f"d{n}", group="code" if n % 2 else "prose", size=float(size), value=float(size * rate))
        for n, (size, rate) in enumerate(rows)
    )


def findings_of(evidence: Evidence) -> Findings:
    with in_force(evidence.plan.extra_metrics):
        return Findings(
            study=study(evidence), verdicts=tuple(judge(evidence)), controls=tuple(check_controls(evidence))
        )


# ---------------------------------------------------------------------------------------------- the three


def checkpoints(*, with_text: bool = True, names: Sequence[str] = tuple(SYSTEMS)) -> Evidence:
    """Published models of one run each, on tasks and, unless told otherwise, on the text of the suite. What follows a
    hyphen in a name makes it another model."""
    claims = {
        "as-good-as-7b": {
            "says": "OLMoE-1B-7B answers as many questions as OLMo-7B.",
            "compare": {"treatment": "olmoe_1b_7b", "baseline": "olmo_7b"}, "metric": metric_name("arc_easy"),
            "test": {"kind": "non_inferior", "margin": 0.05}, "family": "primary",
        },
        "better-than-1b": {
            "says": "OLMoE-1B-7B answers more questions than OLMo-1B.",
            "compare": {"treatment": "olmoe_1b_7b", "baseline": "olmo_1b"}, "metric": metric_name("hellaswag"),
            "test": {"kind": "superior", "margin": 0.02}, "family": "primary",
        },
    }  # fmt: skip
    spec = SuiteSpec.model_validate(
        {
            "suite": "checkpoints", "seeds": [0], "models": {name: {"checkpoint": f"allenai/{name}"} for name in names},
            "question": "Does a mixture of 7 B parameters answer as well as a dense model as large?",
            "data": {"source": "stdlib" if with_text else "none"}, "claims": claims if len(names) > 2 else {},
        }
    )  # fmt: skip
    level = {"olmoe_1b_7b": 0.78, "olmo_1b": 0.86, "olmo_7b": 0.77, "mixtral": 0.66}
    outcomes = []
    for name in names:
        items = answers(name)
        values = scores(items)
        if with_text:
            items[BPB] = documents(name, level[name.partition("-")[0]])
            values |= {BPB: sum(i.value for i in items[BPB]) / sum(i.size for i in items[BPB])}
            values |= {"test.scored_bytes": sum(i.size for i in items[BPB]), "test.scored_documents": 40}
        outcomes.append((name, 0, "load", values, items))
    planned = {name: checkpoint(name) for name in names}
    facts = evidence_of({"dense": {BPB: [1.0]}}, {}).plan.data if with_text else no_facts()
    return _evidence(spec, planned, outcomes, facts)


def read() -> Evidence:
    """Two models read from a table over eight seeds, and one typed number."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.01, (2, 8))
    values = {
        "ours": {"paloma.macro_loss": list(2.91 + noise[0])},
        "theirs": {"paloma.macro_loss": list(2.95 + noise[1])},
        "printed": {"paloma.macro_loss": [2.90]},
    }
    claims = {
        "lower": {
            "says": "Ours is below theirs.", "compare": {"treatment": "ours", "baseline": "theirs"},
            "metric": "paloma.macro_loss", "test": {"kind": "superior", "margin": 0.01}, "family": "primary",
        }
    }  # fmt: skip
    declared = {"paloma.macro_loss": {"unit": "nats/token", "better": "lower"}}
    return elsewhere(values, claims, metrics=declared)


def mixed() -> Evidence:
    """A mixture and its dense twin over eight seeds, a checkpoint, and a model whose answers were read."""
    rng = np.random.default_rng(2)
    seeds = range(8)
    of = {(name, seed): answers(name, seed) for name in ("moe", "dense") for seed in seeds}
    values = {
        name: {
            BPB: list(level + rng.normal(0, 0.004, 8)),
            **{metric: [scores(of[name, seed])[metric] for seed in seeds] for metric in metrics()},
        }
        for name, level in (("moe", 2.10), ("dense", 2.16))
    }
    curves = {name: [[x + 0.4, x + 0.2, x + 0.1, x + 0.03, x] for x in held[BPB]] for name, held in values.items()}
    claims = {
        "better": {
            "says": "The mixture answers more.", "compare": {"treatment": "moe", "baseline": "dense"},
            "metric": metric_name("recall"), "test": {"kind": "superior", "margin": 0.01}, "family": "primary",
        }
    }  # fmt: skip
    with in_force(metrics()):
        trained = evidence_of(values, claims, curves=curves)
    plan = trained.plan
    spec = plan.spec.model_copy(
        update={
            "models": {
                **plan.spec.models,
                **SuiteSpec.model_validate(
                    {
                        "suite": "x", "question": "?", "seeds": [0], "data": {"source": "none"},
                        "models": {"olmoe_1b_7b": {"checkpoint": "allenai/x"}, "theirs": {"results": "logs/theirs"}},
                    }
                ).models,
            }
        }
    )  # fmt: skip
    outcomes = [(o.model, o.seed, "train", o.values, of[o.model, o.seed]) for o in trained.outcomes]
    outcomes += [
        (name, 0, kind, scores(answers(name)), answers(name))
        for name, kind in (("olmoe_1b_7b", "load"), ("theirs", "import"))
    ]
    models: dict[str, AnyPlanned] = {**plan.models, "olmoe_1b_7b": checkpoint("olmoe_1b_7b"), "theirs": external()}
    made = _evidence(spec, models, outcomes, plan.data)
    kept = {(o.model, o.seed): o for o in trained.outcomes}
    return replace(
        made,
        outcomes=tuple(
            replace(kept[o.model, o.seed], items=o.items, values=_with_ends(kept[o.model, o.seed]))
            if (o.model, o.seed) in kept
            else o
            for o in made.outcomes
        ),
    )


def _with_ends(run: Outcome) -> dict[str, float]:
    """Values with those at the ends of its curves."""
    return {**run.values, **{metric: points[-1][1] for metric, points in run.curves.items()}}


def _evidence(spec: SuiteSpec, models: Mapping[str, AnyPlanned], runs: Sequence[Any], facts: Any) -> Evidence:
    jobs = tuple(
        PlannedJob(kind=kind, model=model, seed=seed, id=digest_of([model, seed], length=20))
        for model, seed, kind, _, _ in runs
    )
    plan = Plan(
        suite=spec.suite, scale=None, spec=spec, models=dict(models), matches=(), speed=None, tune=None, data=facts,
        jobs=jobs, extra_metrics=metrics(),
        claim_hashes={name: digest_of(block.model_dump(mode="json")) for name, block in spec.claims.items()},
    )  # fmt: skip
    outcomes = tuple(
        Outcome(
            model=model, seed=seed, run_id=job.id, status="completed", values=values, items=items, test_digest="t" * 16,
            finished=PLANNED_AT + 60, machine="2-core x86_64 CPU", environment=machine() if kind != "import" else None,
        )
        for job, (model, seed, kind, values, items) in zip(jobs, runs, strict=True)
    )  # fmt: skip
    stored = StoredPlan(
        plan=plan, stored_at=PLANNED_AT, environment=machine(),
        claims_first_stored=dict.fromkeys(plan.claim_hashes.values(), PLANNED_AT),
    )  # fmt: skip
    return Evidence(stored=stored, outcomes=outcomes, speed_reason="the suite asks for no speed session")
