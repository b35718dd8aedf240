"""Evidence is what the folder holds, each gap said with its reason; values that cannot be are absent, and what
rests on them INVALID.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import store
from moebench.claims.judge import judge, strict_ok
from moebench.claims.verdict import Verdict
from moebench.data.sources.synthetic import SyntheticData, source_alphabet, source_table
from moebench.reader.evidence import Evidence, Outcome, gather
from moebench.reporting.study import load, study
from tests.support import golden_results
from tests.support.builders import BPB, claim, evidence_of


def read(root: Path) -> Evidence:
    results = store.Results(root)
    return gather(results, results.plans()[0])


def run_of(root: Path, model: str = "moe_8x2", seed: int = 3) -> Path:
    plan = read(root).plan
    (planned,) = [one for one in plan.runs if (one.model, one.seed) == (model, seed)]
    return store.Results(root).job(planned.id).path


def outcome_of(root: Path) -> Outcome:
    found = read(root).outcome("moe_8x2", 3)
    assert found is not None
    return found


def state_of(root: Path, claim: str) -> str:
    return next(verdict.state for verdict in judge(read(root)) if verdict.id == claim)


def rewrite(path: Path, change: Any) -> None:
    """Changes a JSON Lines file and makes its folder's manifest fit again, as a run with that content would have."""
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = store.JobFolder(path.parent)
    finished = (folder.manifest() or {})["finished"]
    folder.finish("completed", None, "omitted")
    manifest = json.loads((path.parent / "DONE").read_text())
    (path.parent / "DONE").write_text(json.dumps({**manifest, "finished": finished}))


def test_a_whole_folder(root: Path) -> None:
    evidence = read(root)
    assert evidence.problems == ()
    assert {outcome.status for outcome in evidence.outcomes} == {"completed"}
    assert len(evidence.outcomes) == 24
    run = outcome_of(root)
    assert run.values["test.bits_per_byte"] == pytest.approx(2.165, abs=0.03)
    assert "curve.bits_per_byte" in run.curves
    assert [step for step, _ in run.curves["curve.bits_per_byte"]] == list(golden_results.POINTS)
    assert run.values["train.tokens"] == golden_results.STEPS * golden_results.BATCH_TOKENS, "the last step's value"
    assert len(run.items[BPB]) == 12
    assert run.digests[golden_results.STEPS]
    assert run.machine == "2-core x86_64 CPU"
    assert len(evidence.processes) == 6
    assert evidence.processes[0].values["dense~again"]["speed.train_step_s"] > 0
    assert "memory.resident_growth_bytes" not in evidence.processes[0].values["dense"], "old files have it"
    assert set(evidence.tuned) == {"moe_8x2", "dense", "dense_total"}


def test_samples_become_medians(root: Path) -> None:
    raw = json.loads((process(root, 2) / "process.json").read_text())
    times = sorted(raw["samples"]["dense"]["speed.train_step_s"])
    middle = (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2
    assert read(root).processes[2].values["dense"]["speed.train_step_s"] == pytest.approx(middle)


def test_golden_verdicts(root: Path) -> None:
    verdicts = judge(read(root))
    assert {verdict.id: verdict.state for verdict in verdicts} == {
        "better-per-token": "supported",
        "as-good-as-total": "refuted",
        "recovers-half": "inconclusive",
        "flops-follow-active": "supported",
        "memory-follows-total": "refuted",
        "decodes-as-fast": "refuted",
        "steps-faster-than-total": "supported",
        "flops-to-quality": "refuted",
    }
    assert strict_ok(verdicts)


# ---------------------------------------------------------------------------------------------- what may be missing


def test_an_empty_results_folder_has_a_verdict_for_every_claim(root: Path) -> None:
    for name in ("jobs", "tune"):
        shutil.rmtree(root / name)
    evidence = read(root)
    assert {outcome.status for outcome in evidence.outcomes} == {"missing"}
    states = {verdict.id: verdict.state for verdict in judge(evidence)}
    assert states.pop("flops-follow-active") == "supported", "counts need no runs"
    assert set(states.values()) == {"not_tested"}
    assert evidence.tuned == {}
    assert evidence.speed_reason == "not run yet"


def test_a_missing_run(root: Path) -> None:
    shutil.rmtree(run_of(root))
    assert (outcome_of(root).status, outcome_of(root).reason) == ("missing", "not run yet")
    verdict = judge(read(root))[0]
    assert (verdict.state, verdict.n) == ("interim", 7)
    assert verdict.reason == "7 of 8 seeds: seed 3: moe_8x2 is missing; `moebench run golden` finishes it"
    assert any("7 of 8 seeds present; missing seed 3" in note for note in verdict.notes)


def test_a_run_under_way(root: Path) -> None:
    (run_of(root) / "DONE").unlink()
    assert (outcome_of(root).status, outcome_of(root).reason) == ("partial", "not finished")


def test_a_failed_run_says_how(root: Path) -> None:
    path = run_of(root)
    (path / "DONE").unlink()
    store.JobFolder(path).fail("oom", "the kernel killed it", last_step=7)
    assert outcome_of(root).status == "failed"
    assert outcome_of(root).reason == "oom: the kernel killed it"
    assert any("seed 3) is failed: oom" in problem for problem in read(root).problems)


def test_what_a_folder_says_of_itself_is_told_in_one_short_line(root: Path) -> None:
    hostile = "\x1b[2Jgone\nsupported: all\u202e" + "x" * 100_000
    place = run_of(root)
    (place / "DONE").unlink()
    store.write_json(place / "FAILED.json", {"status": hostile, "reason": hostile})
    reason = outcome_of(root).reason
    assert reason is not None
    assert reason.startswith(r"\x1b[2Jgone supported: all\u202e")
    assert all(said.isprintable() and len(said) < 700 for said in (reason, *read(root).problems))


def test_a_diverged_run_is_an_outcome(root: Path) -> None:
    evidence = read(root)
    (planned,) = [one for one in evidence.plan.runs if (one.model, one.seed) == ("moe_8x2", 3)]
    shutil.rmtree(run_of(root))
    golden_results.write_run(root, evidence.plan, planned, status="diverged")
    run = outcome_of(root)
    assert (run.status, run.reason) == ("diverged", f"loss is not finite at step {golden_results.STEPS // 2}")
    assert "diverged" in run.absent["test.bits_per_byte"]


@pytest.mark.parametrize("name", ["job.json", "steps.jsonl", "records.jsonl", "items.jsonl"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_harmed_file_is_never_read(root: Path, name: str, harm: str) -> None:
    path = golden_results.holder(store.JobFolder(run_of(root)), name).path / name
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    run = outcome_of(root)
    assert run.status == "corrupt"
    assert run.reason is not None
    assert name in run.reason
    assert run.values == {}
    assert len(read(root).problems) == 1
    assert state_of(root, "better-per-token") == "interim", "no verdict until it has been run again"
    assert state_of(root, "flops-follow-active") == "supported", "a count rests on no run"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "completed"}', "\x00\xff"])
def test_a_manifest_that_is_none(root: Path, content: str) -> None:
    (run_of(root) / "DONE").write_text(content)
    assert outcome_of(root).status == "corrupt"


def test_records_of_another_version_are_refused(root: Path) -> None:
    rewrite(run_of(root) / "records.jsonl", lambda row: {**row, "version": 99})
    run = outcome_of(root)
    assert run.status == "corrupt"
    assert run.reason is not None
    assert "version 99" in run.reason


def test_a_run_whose_last_evaluation_gave_no_number_has_diverged(root: Path) -> None:
    measured = golden_results.holder(store.JobFolder(run_of(root)), "items.jsonl")
    for name in ("DONE", "records.jsonl", "items.jsonl"):
        (measured.path / name).unlink()
    measured.finish("diverged", "step 240: cross-entropy is not finite")
    run = outcome_of(root)
    assert (run.status, run.reason) == ("diverged", "step 240: cross-entropy is not finite")
    assert "test.bits_per_byte" not in run.values
    assert run.finished is not None


def test_rows_that_lack_what_they_should_have(root: Path) -> None:
    measured = golden_results.holder(store.JobFolder(run_of(root)), "items.jsonl")
    rewrite(measured.path / "items.jsonl", lambda row: {k: v for k, v in row.items() if k != "bits"})
    reason = outcome_of(root).reason or ""
    assert reason.endswith(f"items.jsonl: no bits in it (remove the folder jobs/{measured.id} to run it again)")


def test_one_mutated_token_in_one_runs_data(root: Path) -> None:
    rewrite(run_of(root) / "steps.jsonl", lambda row: {**row, "digest": "0" * 16} if row["step"] >= 100 else row)
    verdict = judge(read(root))[0]
    assert verdict.state == "invalid"
    assert "with seed 3 did not see the same tokens" in verdict.reason
    assert state_of(root, "decodes-as-fast") == "refuted", "a timing does not rest on the data"


# ---------------------------------------------------------------------------------------------- speed and sweep


def process(root: Path, index: int) -> Path:
    return golden_results.process_folders(root, read(root).plan)[index].path


def test_a_session_under_way(root: Path) -> None:
    shutil.rmtree(process(root, 5))
    evidence = read(root)
    assert (len(evidence.processes), evidence.speed_reason, evidence.speed_finished) == (5, "not finished", None)
    verdict = next(v for v in judge(evidence) if v.id == "decodes-as-fast")
    assert verdict.state == "interim"
    assert verdict.reason == "5 of 6 processes: process 5: not there; `moebench run golden` finishes it"


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"process": 0, "seed": 0, "samples": {"dense": {"speed.train_step_s": ["a"]}}}']
)
def test_a_process_file_of_another_shape(root: Path, content: str) -> None:
    (process(root, 0) / "process.json").write_text(content)
    evidence = read(root)
    assert evidence.speed_reason is not None
    assert any("speed process 0" in problem for problem in evidence.problems)
    assert judge(evidence)


def test_a_harmed_session_gives_no_verdicts(root: Path) -> None:
    path = process(root, 2) / "process.json"
    path.write_text(path.read_text().replace('"seed": ', '"seed":  ', 1).replace("}", "} ", 1))
    evidence = read(root)
    assert ([one.process for one in evidence.processes], evidence.speed_finished) == ([0, 1, 3, 4, 5], None)
    assert "process 2 does not read" in (evidence.speed_reason or "")
    assert any("speed process 2" in problem and "process.json" in problem for problem in evidence.problems)
    assert state_of(root, "decodes-as-fast") not in ("supported", "refuted", "inconclusive")


def test_a_file_of_an_unfinished_session_that_does_not_read_is_left_out(root: Path) -> None:
    (process(root, 1) / "DONE").unlink()
    (process(root, 1) / "process.json").write_text("{")
    evidence = read(root)
    assert [one.process for one in evidence.processes] == [0, 2, 3, 4, 5]
    assert (evidence.speed_reason, evidence.speed_finished) == ("not finished", None)


def test_a_harmed_sweep_tuned_nothing_and_stops_nothing(root: Path) -> None:
    path = next((root / "tune").glob("*/tune.json"))
    path.write_text(path.read_text().replace("true", "TRUE"))
    evidence = read(root)
    assert evidence.tuned == {}
    assert any("sweep" in problem and "corrupt" in problem for problem in evidence.problems)
    assert study(evidence).tune is None


def test_no_sweep_yet(root: Path) -> None:
    shutil.rmtree(root / "tune")
    evidence = read(root)
    assert evidence.tuned == {}
    assert any("not shown to be tuned" in note for note in judge(evidence)[0].notes)


def test_a_sweep_of_another_shape(root: Path) -> None:
    next((root / "tune").glob("*/tune.json")).write_text('{"models": {"dense": {}}}')
    evidence = read(root)
    assert evidence.tuned == {}
    assert any("sweep" in problem for problem in evidence.problems)


# ---------------------------------------------------------------------------------------------- looks


def test_earlier_plans_of_the_suite_are_found(root: Path) -> None:
    small = golden_results.golden_plan(seeds=6)
    path = store.Results(root).plan_path(small)
    stored = store.Results(root).plans()[0].model_copy(update={"plan": small, "stored_at": 1.0})
    store.write_json(path, stored.model_dump(mode="json"))
    evidence = read(root)
    assert [other.plan.id for other in evidence.history.plans] == [small.id]
    assert {run.id for run in small.runs} < set(evidence.history.finished)


# ----------------------------------------------------------------------------------------------------
# Values that cannot be: absent with the reason wherever they enter, and what rests on them is INVALID.


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
    bare = replace(found, outcomes=tuple(replace(run, items={}) for run in found.outcomes))
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
