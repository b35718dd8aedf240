"""Answers: bits and accuracy by hand, measured without training anew, and claims on tasks that tell nothing refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from moebench import api
from moebench.claims import informative, reaching
from moebench.data.batches import evaluation_windows
from moebench.data.prepare import prepare
from moebench.data.sources.tasks import TasksData
from moebench.data.tasks.known import KnownTask
from moebench.metrics import MEASUREMENTS
from moebench.models.subject import Scores
from moebench.planning.feasibility import _of_tasks as of_claims
from moebench.reader.evidence import Evidence, gather
from moebench.store import Results
from tests.support import tiny_suites
from tests.support.builders import POINTS, STEPS, claim, evidence_of, judged, with_outcome, with_plan
from tests.support.suite_texts import load, messages

BITS, RIGHT = "task.answer_bits[task={}]", "task.accuracy[task={}]"
TASKS = {"recall": {"kind": "facts", "pairs": 32, "symbols": 8}, "sums": {"kind": "modular", "modulus": 5}}
DATA = {"source": "tasks", "context": 16, "task_tokens": 3000, "questions": 40, "tasks": TASKS}


class Reader:
    """A subject that gives every target one probability, and has or has not each for its first choice."""

    device, experts, mixtures = torch.device("cpu"), 0, ()
    tokenizer = SimpleNamespace(token_bytes=np.ones(256, dtype=np.int64))

    def __init__(self, probability: float, *, misses: int | None = None) -> None:
        self.logp, self.misses = math.log(probability), misses

    def score(self, inputs: Any, targets: Any, *, greedy: bool = False) -> Scores:
        first = torch.ones_like(targets, dtype=torch.bool) if self.misses is None else targets != self.misses
        return Scores(logprob_BT=torch.full(targets.shape, self.logp), greedy_BT=first, routings=())


def measured(tmp_path: Path, reader: Reader) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    corpus = prepare(TasksData.model_validate(DATA), base=tmp_path, cache=tmp_path / "cache")
    text = evaluation_windows(corpus, "test", tokens=10**6)
    context: Any = SimpleNamespace(subject=reader, split="test", text=text, documents=corpus.documents("test"), step=3)
    made = MEASUREMENTS["tasks"].measure(context)
    return {record.metric: record.value for record in made.records}, made.items or []


# ---------------------------------------------------------------------------------------------- the numbers


def test_answers_cost_the_bits_of_their_own_bytes_and_prompts_cost_nothing(tmp_path: Path) -> None:
    values, items = measured(tmp_path, Reader(1 / 4))
    assert values[BITS.format("recall")] == pytest.approx(2 * 2)
    assert values[BITS.format("sums")] == pytest.approx(2)
    assert values[RIGHT.format("recall")] == values[RIGHT.format("sums")] == 1
    of_recall = [item for item in items if item["metric"] == BITS.format("recall")]
    assert len(of_recall) == 32
    assert sum(item["value"] for item in of_recall) / 32 == pytest.approx(4)


def test_bits_stored_are_facts_times_what_is_known_of_a_value_and_never_below_none(tmp_path: Path) -> None:
    stored = "task.bits_stored[task=recall]"
    assert measured(tmp_path, Reader(1 / 8))[0][stored] == pytest.approx(0, abs=1e-4)
    assert measured(tmp_path, Reader(1 / 9))[0][stored] == 0
    assert measured(tmp_path, Reader(1 / 2))[0][stored] == pytest.approx(32 * (6 - 2), rel=1e-5)
    assert "task.bits_stored[task=sums]" not in measured(tmp_path, Reader(1 / 2))[0]


def test_an_answer_is_right_when_each_of_its_bytes_is(tmp_path: Path) -> None:
    corpus = prepare(TasksData.model_validate(DATA), base=tmp_path, cache=tmp_path / "cache")
    text = evaluation_windows(corpus, "test", tokens=10**6)
    assert text.asked is not None
    byte = 50
    has = ((text.targets == byte) & text.asked.mask).any(axis=1)
    chosen = np.array([task == "recall" for task in text.asked.task])
    values, _ = measured(tmp_path, Reader(1 / 2, misses=byte))
    assert values[RIGHT.format("recall")] == pytest.approx(1 - has[chosen].mean())
    assert 0 < has[chosen].mean() < 1
    assert text.targets[chosen & ~has].max() > 0
    assert ((text.targets == byte) & ~text.asked.mask & text.mask).any(), "in prompts too, which count nothing"


def test_the_score_is_of_what_the_leak_rule_names_and_both_parts_are_reported(tmp_path: Path) -> None:
    """A model that knows the sums it was trained on by heart, and no other, has solved nothing."""

    class ByHeart(Reader):
        def score(self, inputs: Any, targets: Any, *, greedy: bool = False) -> Scores:
            rows = [bytes(row.tolist()).rstrip(b"\0") for row in targets]
            known = torch.tensor([row in trained for row in rows])[:, None].expand(targets.shape)
            logp = torch.where(known, 0.0, math.log(1 / 4))
            return Scores(logprob_BT=logp, greedy_BT=known, routings=())

    spec = TasksData.model_validate(DATA)
    trained = {text.body for text in spec.gather(tmp_path).texts if text.split == "train"}
    values, _ = measured(tmp_path, ByHeart(1 / 4))
    assert values["task.accuracy[task=sums,instances=seen]"] == 1
    assert values["task.accuracy[task=sums,instances=new]"] == 0
    assert values["task.answer_bits[task=sums,instances=seen]"] == 0
    assert values[RIGHT.format("sums")] == 0
    assert values[BITS.format("sums")] == pytest.approx(2)
    assert values[RIGHT.format("recall")] == 1
    assert "task.accuracy[task=recall,instances=new]" not in values


def test_a_model_of_other_tokens_has_a_reason_and_no_number(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(
        text=SimpleNamespace(asked=None), documents=[SimpleNamespace(domain="recall")], split="test", step=None
    )
    made = MEASUREMENTS["tasks"].measure(context)
    assert {record.value for record in made.records} == {None}
    assert all("lm-eval's moebench_* tasks" in str(record.reason) for record in made.records)


def test_tasks_asked_for_later_train_nothing_and_the_curve_has_them_at_every_point(tmp_path: Path) -> None:
    where: dict[str, Any] = {"results": tmp_path / "results", "reports": tmp_path / "reports", "launcher": "inline"}
    train = {"budget": {"steps": 4}, "evaluate": {"points": 2, "tokens": 256, "final_tokens": 4096}}
    before = api.run(tiny_suites.write(tmp_path, data=DATA, train=train, seeds=1), **where)
    assert set(before.statuses.values()) == {"completed"}
    events: list[dict[str, Any]] = []
    measure = {"memory": False, "quality": ["bits_per_byte", "tasks"]}
    path = tiny_suites.write(tmp_path, data=DATA, train=train, seeds=1, measure=measure)
    again = api.run(path, **where, on_event=events.append)
    done = {(one["job"], one.get("measurement")) for one in events if one["event"] in ("measuring", "progress")}
    assert done == {("evaluate", "tasks")}
    assert {run.id for run in again.plan.runs} == {run.id for run in before.plan.runs}
    results = Results(tmp_path / "results")
    stored = next(one for one in results.plans() if one.plan.id == again.plan.id)
    evidence = gather(results, stored)
    assert {run.status for run in evidence.outcomes} == {"completed"}
    read = evidence.outcomes_of(["moe"])[0]
    assert [step for step, _ in read.curves["curve.answer_bits[task=sums]"]] == [2, 4]
    assert len(read.items[BITS.format("recall")]) == 32
    assert "test.bits_per_byte" in read.values
    (job, *_) = [job for job in again.plan.jobs if job.measurement == "tasks"]
    values = {record.metric: record.value for record in results.job(job.id).records()}
    assert values[BITS.format("recall")] is not None
    curve = [record for record in results.job(again.plan.runs[0].id).records() if record.metric.startswith("curve.an")]
    assert [(record.metric, record.step) for record in curve] == [
        (f"curve.answer_bits[task={task}]", step) for step in (2, 4) for task in ("recall", "sums")
    ]


# ---------------------------------------------------------------------------------------------- informative


def known(**changes: Any) -> KnownTask:
    facts = {"kind": "modular", "tested_on": "new", "questions": {"seen": 0, "new": 99}, "trained": 9, "chance": 0.1,
             "ceiling": 1.0, "chance_bits": 3.3, "ceiling_bits": 0.0}  # fmt: skip
    return KnownTask.model_validate({**facts, **changes})


def of_tasks(
    accuracies: Sequence[float], bits: Sequence[float] | None = None, *, test: Any = None, **other: Any
) -> Evidence:
    """A mixture half a bit better than a dense model of these accuracies, on a task with a chance of 10%."""
    gain = 0.5 + 0.01 * np.arange(len(accuracies))
    dense = np.full(len(accuracies), 2.0) if bits is None else np.array(bits)
    names = {"sums": (RIGHT.format("sums"), BITS.format("sums"))}
    values = {
        "moe": {names["sums"][1]: (dense - gain).tolist(), names["sums"][0]: [0.5] * len(accuracies)},
        "dense": {names["sums"][1]: dense.tolist(), names["sums"][0]: list(accuracies)},
    }
    test = test or {"kind": "superior", "margin": 0}
    evidence = evidence_of(values, {"c": claim(test, BITS.format("sums"), **other)})
    data = evidence.plan.data.model_copy(update={"tasks": {"sums": known()}})
    return with_plan(evidence, data=data)


def test_a_task_that_the_baseline_solves_half_way_has_a_verdict() -> None:
    assert judged(of_tasks([0.5] * 8)).state == "supported"


@pytest.mark.parametrize(
    ("accuracies", "why"),
    [
        ([0.11] * 8, "within 5% of chance (10.0%) with 8 of 8 seeds"),
        ([0.99] * 8, "within 5% of the ceiling (100.0%) with 8 of 8 seeds"),
        ([0.02] * 8, "within 5% of chance (10.0%) with 8 of 8 seeds"),
        (
            [0.1, 0.1, 0.1, 0.99, 0.99, 0.99, 0.5, 0.5],
            "within 5% of chance (10.0%) with 3 and within",
        ),
        ([0.5] * 5 + [0.1] * 3, "within 5% of chance (10.0%) with 3 of 8 seeds"),
    ],
)
def test_a_task_that_the_baseline_solves_or_does_not_tells_nothing(accuracies: list[float], why: str) -> None:
    verdict = judged(of_tasks(accuracies))
    assert verdict.state == "invalid"
    assert f"informative: task.accuracy[task=sums] of dense is {why}" in verdict.reason


def test_six_seeds_between_chance_and_ceiling_are_enough() -> None:
    assert judged(of_tasks([0.5] * 6 + [0.99] * 2)).state == "supported"


def test_what_is_subtracted_must_tell_something_too() -> None:
    """Recall that gains more than reasoning of which nothing was learned is no finding about reasoning."""
    evidence = of_tasks([0.5] * 8, minus=BITS.format("hops"))
    for run in evidence.outcomes:
        more = {BITS.format("hops"): 4.0 + 0.001 * run.seed, RIGHT.format("hops"): 0.1}
        evidence = with_outcome(evidence, run.model, run.seed, values={**run.values, **more})
    tasks = {**evidence.plan.data.tasks, "hops": known()}
    evidence = with_plan(evidence, data=evidence.plan.data.model_copy(update={"tasks": tasks}))
    verdict = judged(evidence)
    assert verdict.state == "invalid"
    assert "informative: task.accuracy[task=hops] of dense" in verdict.reason


def test_without_accuracies_nothing_is_known_of_a_task() -> None:
    evidence = of_tasks([0.5] * 8)
    for run in evidence.outcomes:
        values = {name: value for name, value in run.values.items() if "accuracy" not in name}
        evidence = with_outcome(evidence, run.model, run.seed, values=values)
    assert "known with too few of 0 seeds" in judged(evidence).reason


# ---------------------------------------------------------------------------------------------- kinds of claims


def curves(evidence: Evidence, task: Mapping[str, Sequence[float]], bytes_: Sequence[float]) -> Evidence:
    """With bits of answers at the points, by model, and the same bits per byte for all."""
    for run in evidence.outcomes:
        flops = evidence.plan.decoders[run.model].costs.train_flops_per_token
        made = {
            "curve.bits_per_byte": tuple(zip(POINTS, bytes_, strict=True)),
            "curve.answer_bits[task=sums]": tuple(zip(POINTS, task[run.model], strict=True)),
            "train.model_flops": tuple((step, step * 4096 * flops) for step in POINTS),
            "train.tokens": tuple((step, step * 4096.0) for step in POINTS),
        }
        evidence = with_outcome(evidence, run.model, run.seed, curves=made)
    return evidence


def test_a_crossing_on_a_task_is_read_from_its_own_curve() -> None:
    """Bits per byte say that the mixture never gets there, answers that it does at a fifth of the budget."""
    target = {"reach": "dense", "on": BITS.format("sums")}
    base = of_tasks([0.5] * 8, test={"kind": "ratio_at_least", "value": 2.0}, target=target)
    (name,) = base.plan.spec.claims
    asked = base.plan.spec.claims[name].model_copy(update={"metric": "flops_to_quality"})
    spec = base.plan.spec.model_copy(update={"claims": {name: asked}})
    base = with_plan(base, spec=spec, claim_hashes=spec.claim_hashes)
    base = replace(
        base,
        stored=base.stored.model_copy(update={"claims_first_stored": dict.fromkeys(spec.claim_hashes.values(), 1.0)}),
    )
    falling = {"moe": (3.0, 1.5, 1.0, 0.9, 0.8), "dense": (3.0, 2.8, 2.5, 2.2, 2.0)}
    evidence = curves(base, falling, (3.0, 2.9, 2.8, 2.7, 2.6))
    goal = reaching.Goal.of(evidence, asked.target, {"moe", "dense"})  # type: ignore[arg-type]
    assert goal.curve == "curve.answer_bits[task=sums]"
    assert set(goal.by_seed.values()) == {2.0}
    assert f"in {BITS.format('sums')}" in goal.says
    run = evidence.outcomes_of(["moe"])[0]
    cost, _ = reaching.cost_to_quality(run, "flops_to_quality", goal, evidence.plan)
    whole = dict(run.curves["train.model_flops"])[STEPS]
    assert 0.2 < cost / whole < 0.4
    assert judged(evidence).state == "supported"
    solved = evidence.plan.data.model_copy(update={"tasks": {"sums": known(ceiling=0.52)}})
    assert judged(with_plan(evidence, data=solved)).state == "supported", "by when, though all solve it"
    unsolved = evidence.plan.data.model_copy(update={"tasks": {"sums": known(chance=0.48)}})
    assert "informative" in judged(with_plan(evidence, data=unsolved)).reason


def test_a_trend_of_a_gain_over_one_model_is_that_of_the_swept_model() -> None:
    points = {f"moe.{n}": {"ffn.experts": n} for n in (4, 8, 16)}
    metrics = (BITS.format("sums"), BITS.format("recall"))
    values: dict[str, dict[str, list[float]]] = {
        name: {
            metrics[0]: [2 - 0.1 * i + 0.003 * s for s in range(8)],
            metrics[1]: [8 / 2**i + 0.01 * s for s in range(8)],
        }
        for i, name in enumerate(points)
    }
    values["dense"] = {metrics[0]: [2.1] * 8, metrics[1]: [9.0] * 8}
    for column in values.values():
        column |= {RIGHT.format(task): [0.5] * 8 for task in ("sums", "recall")}
    asked = {
        "says": "It is so.", "compare": {"treatment": "moe", "baseline": "dense"}, "along": "ffn.experts",
        "metric": metrics[1], "minus": metrics[0], "test": {"kind": "trend", "sign": "rising"},
    }  # fmt: skip
    evidence = evidence_of(values, {"c": asked}, sweeps={"moe": points})
    evidence = with_plan(
        evidence, data=evidence.plan.data.model_copy(update={"tasks": {"sums": known(), "recall": known()}})
    )
    verdict = judged(evidence)
    assert verdict.state == "supported"
    assert verdict.estimate is not None
    gains = [math.log(8 / 2**i) for i in range(3)]
    assert verdict.estimate == pytest.approx(100 * math.expm1((gains[0] - gains[2]) / 2), rel=0.2)
    flat = with_plan(
        evidence, data=evidence.plan.data.model_copy(update={"tasks": {"sums": known(chance=0.5), "recall": known()}})
    )
    assert "informative: task.accuracy[task=sums] of dense" in judged(flat).reason


# ---------------------------------------------------------------------------------------------- the suite language

SUITE = """\
suite: asks
question: Is it so?
seeds: 8
data: {source: tasks, context: 32, tasks: {recall: {kind: facts}, sums: {kind: modular}, hops: {kind: chain}}}
train: {budget: {tokens: 1.0e5}, batch_tokens: 1024}
models:
  dense: {layers: 1, width: 16, heads: 2, ffn: {kind: dense, hidden: 32}}
  wide: {base: dense, ffn: {hidden: 64}}
  swept: {base: dense, sweep: {ffn.hidden: [16, 32, 64]}}
measure: {quality: [bits_per_byte, tasks]}
claims:
  c:
    says: It is so.
    compare: {treatment: wide, baseline: dense}
    metric: "task.answer_bits[task=sums]"
    test: {kind: superior, margin: 0%}
"""
METRIC = '"task.answer_bits[task=sums]"'
EVENT = 'flops_to_quality\n    target: {reach: dense, on: "%s"}'


def test_a_suite_of_tasks_is_understood(tmp_path: Path) -> None:
    spec = load(tmp_path, SUITE)
    assert list(spec.tasks) == ["recall", "sums", "hops"]
    for metric in ('"task.answer_bits[task=sums,instances=seen]"', '"task.bits_stored[task=recall]"'):
        load(tmp_path, SUITE.replace(METRIC, metric))
    crossing = SUITE.replace(METRIC, EVENT % "task.answer_bits[task=sums]")
    crossing = crossing.replace("kind: superior, margin: 0%", "kind: ratio_at_least, value: 2")
    assert load(tmp_path, crossing).claims["c"].target is not None
    everywhere = SUITE.replace("task=sums", "task=*").replace("margin: 0%", "margin: 0%, in: every")
    assert load(tmp_path, everywhere).claims["c"].metric.endswith("[task=*]")


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("task=sums", "task=sum", "15:13", "did you mean 'sums'?"),
        ("task=sums", "task=recall,instances=new", "15:13", "recall has no questions that are new"),
        ("task=sums", "task=sums,instances=all", "15:13", "has no instances 'all'"),
        ("answer_bits[task=sums]", "bits_stored[task=sums]", "15:13", "sums stores no facts"),
        ("[task=sums]", "", "15:13", "write it as task.answer_bits[task=recall]"),
        ("bits_per_byte, tasks", "bits_per_byte", "15:13", "put tasks into measure.quality"),
        (METRIC, EVENT % "task.accuracy[task=sums]", "16:32", "is not measured at the evaluation points"),
        (METRIC, EVENT % "task.answer_bits[task=summ]", "16:32", "the data have no task 'summ'"),
        ("kind: chain", "kind: chane", "4:", "'chane'"),
        ("kind: modular", "kind: modular, modulos: 3", "4:", "did you mean 'modulus'"),
        ("kind: modular", "kind: copy, length: 20", "4:", "has 42 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(tmp_path: Path, old: str, new: str, place: str, message: str) -> None:
    said = messages(tmp_path, SUITE.replace(old, new, 1) if old != "[task=sums]" else SUITE.replace(old, new))
    assert message in said
    assert f":{place}" in said


def test_tasks_are_asked_of_tasks(tmp_path: Path) -> None:
    text = SUITE.replace(SUITE.splitlines()[3], "data: {source: stdlib, context: 32}")
    said = messages(tmp_path, text)
    assert "tasks are asked, and the data hold none" in said
    assert "the data have no task 'sums'" in said


def test_a_plan_says_which_claims_on_tasks_tell_little(tmp_path: Path) -> None:
    """No width makes up for layers that a task takes one after the other; accuracy jumps, so bits are judged."""
    spec = load(
        tmp_path, SUITE.replace("answer_bits[task=sums]", "accuracy[task=hops]").replace("margin: 0%", "margin: 0")
    )
    said = "\n".join(of_claims(spec))
    assert "claims.c: accuracy jumps from chance to the ceiling" in said
    assert "claims.c: hops takes 2 layers, step after step, and these models have 1" in said
    assert not list(of_claims(load(tmp_path, SUITE)))


def test_the_precondition_is_among_those_that_a_smoke_run_is_not_asked_for() -> None:
    from moebench.claims import preconditions

    assert preconditions.scored.tasks_informative in preconditions.PRECONDITIONS
    assert preconditions.scored.tasks_informative in preconditions.OF_LENGTH
    assert (informative.POINTS, informative.FEWEST) == (0.05, 6)
