"""Values that cannot be: absent with the reason wherever they enter, and what rests on them is INVALID."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import store
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.data.sources.synthetic import SyntheticData, source_alphabet, source_table
from moebench.reader.evidence import Evidence, gather
from moebench.reporting.study import load
from tests.support import golden_results
from tests.support.builders import BPB, claim, evidence_of

LOWER = {"lower": claim({"kind": "superior", "margin": 0}, family="primary")}
NOISE = np.random.default_rng(0).normal(0, 0.004, (2, 8))


def evidence(root: Path) -> Evidence:
    results = store.Results(root)
    return gather(results, results.plans()[0])


def verdict(found: Evidence, name: str) -> Verdict:
    return next(one for one in judge(found) if one.id == name)


def change_records(root: Path, metric: str, value: float, *, model: str = "moe_8x2", seed: int = 3) -> None:
    plan = evidence(root).plan
    run = next(run for run in plan.runs if (run.model, run.seed) == (model, seed))
    for job in (run, *plan.evaluations[run.id]):
        folder = store.Results(root).job(job.id)
        if not (folder.path / "records.jsonl").exists():
            continue
        rows = [json.loads(line) for line in (folder.path / "records.jsonl").read_text().splitlines()]
        changed = [{**row, "value": value} if row["metric"] == metric else row for row in rows]
        if changed != rows:
            (folder.path / "records.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
            finish(folder)
            return
    raise AssertionError(f"{model} has no {metric}")


def change_processes(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    folder = golden_results.process_folders(root, evidence(root).plan)[2]
    value = store.read_json(folder.path / "process.json")
    change(value)
    store.write_json(folder.path / "process.json", value)
    finish(folder)


def finish(folder: store.JobFolder) -> None:
    """As a run with this content would have been finished, at the same time."""
    finished = (folder.manifest() or {})["finished"]
    folder.finish("completed", None, "omitted")
    store.write_json(folder.path / "DONE", {**store.read_json(folder.path / "DONE"), "finished": finished})


@pytest.mark.parametrize(
    ("metric", "value", "name", "why"),
    [
        ("test.bits_per_byte", -0.5, "better-per-token", "-0.5 is below 0: impossible"),
        ("memory.train_peak_bytes", -4096, "memory-follows-total", "-4096 is below 0: impossible"),
        ("memory.train_peak_bytes", 0.5, "memory-follows-total", "0.5 is no whole number: impossible"),
        ("train.model_flops", -1.0, "flops-to-quality", "-1.0 is below 0: impossible"),
        ("curve.bits_per_byte", -1.0, "flops-to-quality", "-1.0 is below 0: impossible"),
    ],
)
def test_a_record_that_cannot_be_makes_its_claims_invalid(
    root: Path, metric: str, value: float, name: str, why: str
) -> None:
    change_records(root, metric, value)
    found = evidence(root)
    said = verdict(found, name)
    assert (said.state, said.reason) == ("invalid", f"moe_8x2 with seed 3: {metric} {why}")
    run = found.outcome("moe_8x2", 3)
    assert run is not None
    assert metric not in run.values
    assert metric not in run.curves
    assert verdict(found, "decodes-as-fast").state == "refuted", "what does not rest on it is judged"
    loaded = load(root)
    assert value not in loaded[loaded["metric"] == metric]["value"].to_list()


def test_a_share_above_one_is_shown_as_absent(root: Path) -> None:
    change_records(root, "routing.entropy", 1.07)
    run = evidence(root).outcome("moe_8x2", 3)
    assert run is not None
    assert run.absent["routing.entropy"] == "routing.entropy 1.07 is above 1: impossible"


def test_a_negative_time_makes_its_claims_invalid(root: Path) -> None:
    change_processes(root, lambda value: value["samples"]["dense"]["speed.train_step_s"].__setitem__(4, -0.01))
    found = evidence(root)
    assert "speed.train_step_s" not in found.processes[2].values["dense"]
    change_processes(root, lambda value: value["samples"]["moe_8x2"]["speed.train_step_s"].__setitem__(4, 0.0))
    said = verdict(evidence(root), "steps-faster-than-total")
    assert said.state == "invalid"
    assert said.reason == "moe_8x2 in process 2: speed.train_step_s 0.0 is not above 0: impossible"


def test_a_utilisation_above_one_makes_its_claims_invalid(root: Path, tmp_path: Path) -> None:
    busy = claim(
        {"kind": "superior", "margin": 0},
        "speed.train_utilisation",
        compare={"treatment": "moe_8x2", "baseline": "dense"},
    )
    plan = golden_results.golden_plan(claims={"busy": busy})
    golden_results.write(tmp_path / "busy", plan=plan)
    assert verdict(evidence(tmp_path / "busy"), "busy").state != "invalid"
    change_processes(
        tmp_path / "busy", lambda value: value["derived"]["moe_8x2"].__setitem__("speed.train_utilisation", 1.07)
    )
    said = verdict(evidence(tmp_path / "busy"), "busy")
    assert said.state == "invalid"
    assert said.reason == "moe_8x2 in process 2: speed.train_utilisation 1.07 is above 1: impossible"


# ---------------------------------------------------------------------------------------------- a loss and its floor


SOURCE = SyntheticData(source="synthetic", sources=4, symbols=6, order=2, documents=400, document_bytes=256)


def with_entropy(
    bits: Callable[[int, float], np.ndarray], entropy: float, *, num_bytes: int = 256, documents: int = 12
) -> Evidence:
    """Eight pairs in which a run's documents cost `bits(seed, entropy)` bits each; the baseline costs 10% more."""
    rng = np.random.default_rng(1)
    dense = [entropy * num_bytes * 1.1 + rng.normal(0, 8, documents) for _ in range(8)]
    moe = [bits(seed, entropy) for seed in range(8)]
    both = {"moe": moe, "dense": dense}
    values = {name: {BPB: [float(np.mean(run)) / num_bytes for run in runs]} for name, runs in both.items()}
    items = {name: [[(num_bytes, float(one)) for one in run] for run in runs] for name, runs in both.items()}
    found = evidence_of(values, LOWER, items=items)
    asked = {"final_eval_tokens": num_bytes * documents}
    models = {
        name: model.model_copy(update={"recipe": model.recipe.model_copy(update=asked)})
        for name, model in found.plan.models.items()
    }
    data = found.plan.data.model_copy(update={"entropy_bits_per_byte": entropy})
    plan = found.plan.model_copy(update={"data": data, "models": models})
    stored = found.stored.model_copy(update={"plan": plan})
    return replace(found, stored=stored)


def test_a_loss_below_the_entropy_of_its_source_is_invalid_by_itself() -> None:
    rng = np.random.default_rng(2)
    said = verdict(with_entropy(lambda *_: 0.12 * 256 + rng.normal(0, 3, 12), 1.354), "lower")
    assert said.state == "invalid"
    assert "bits/byte, below the source's entropy 1.354: impossible, so it sees what it should predict" in said.reason


def test_a_leak_of_one_run_in_sixteen_is_enough() -> None:
    rng = np.random.default_rng(2)
    leaky = with_entropy(lambda seed, h: (0.7 if seed == 5 else 1.02) * h * 256 + rng.normal(0, 8, 12), 1.354)
    said = verdict(leaky, "lower")
    assert said.state == "invalid"
    assert "moe with seed 5" in said.reason


def test_without_documents_half_the_entropy_is_too_little() -> None:
    found = with_entropy(lambda _, h: np.full(12, 0.4 * h * 256), 1.354)
    bare = replace(found, outcomes=tuple(replace(run, items=()) for run in found.outcomes))
    assert verdict(bare, "lower").state == "invalid"


def true_bits(spec: SyntheticData) -> tuple[list[float], float]:
    """What each document costs a reader who knows its source's table and its first bytes, and the entropy rate."""
    made = spec.gather(Path())
    costs = []
    for text in made.texts:
        number = int(text.domain.removeprefix("source-"))
        digits = {byte: place for place, byte in enumerate(source_alphabet(spec, number).tolist())}
        symbols = [digits[byte] for byte in text.body]
        table = source_table(spec, number)
        state = [symbols[i - 2] * spec.symbols + symbols[i - 1] for i in range(2, len(symbols))]
        costs.append(float(-np.log2(table[state, symbols[2:]]).sum()))
    assert made.entropy_bits_per_byte is not None
    return costs, made.entropy_bits_per_byte


def test_a_model_as_good_as_can_be_is_never_called_impossible() -> None:
    costs, entropy = true_bits(SOURCE)
    rng = np.random.default_rng(3)
    by_source = [costs[i * 100 : (i + 1) * 100] for i in range(4)]
    lowest = math.inf
    for size in (1, 2, 5, 20):  # documents of each source
        for _ in range(10):
            drawn = [np.concatenate([rng.choice(of, size, replace=False) for of in by_source]) for _ in range(8)]
            lowest = min(lowest, *(float(np.mean(run)) / 254 for run in drawn))
            found = with_entropy(lambda seed, _, d=drawn: d[seed], entropy, num_bytes=254, documents=4 * size)
            assert verdict(found, "lower").state != "invalid"
    assert lowest < 0.97 * entropy, "text that holds less than its source does on average was among it"
