"""Checkpoints as models of a suite: planned from their headers, loaded, measured and timed beside a run of ours, and
what was measured of them is what their own tokenizer and transformers give.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import moebench
from moebench import api
from moebench.claims.judge import judge
from moebench.counting.memory import kv_bytes_per_token
from moebench.counting.weights import parameters
from moebench.data.batches import evaluation_windows
from moebench.data.prepare import prepare
from moebench.environment import environment
from moebench.jobs import load
from moebench.jobs.elsewhere import own_text, same_tokens, spans
from moebench.launch import launch
from moebench.planning.checkpoints import digest_of_run, scoring_bytes
from moebench.planning.elsewhere import planned_elsewhere
from moebench.planning.feasibility import PlanError
from moebench.planning.matching import Machine
from moebench.planning.planned import PlannedCheckpoint
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome, gather
from moebench.store import JobFolder, Results
from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from tests.support import small_checkpoints
from tests.support.tiny_suites import call

ROOT = Path(moebench.__file__).parents[1]
TEXT = {"source": "text", "files": ["text/*.txt"], "context": 32}
EVALUATE = {"tokens": 512, "final_tokens": 1024}


def text_folder(folder: Path) -> None:
    """Documents with letters of one, two and three bytes, so that windows begin and end within letters."""
    (folder / "text").mkdir(exist_ok=True)
    lines = small_checkpoints.TEXT.splitlines(keepends=True)
    for index in range(260):
        (folder / "text" / f"{index}.txt").write_text(f"{index} {lines[index]}{lines[index + 100]}")


def write(path: Path, **blocks: Any) -> Path:
    usual = {"suite": path.stem, "question": "Which checkpoint is better?", "data": TEXT}
    path.write_text(json.dumps({**usual, **blocks}))
    return path


def evidence_of(results: Results, plan: Plan) -> Evidence:
    return gather(results, next(stored for stored in results.plans() if stored.plan.id == plan.id))


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a suite of checkpoints left."""

    suite: Path
    plan: Plan
    results: Results

    def outcome(self, model: str) -> Outcome:
        found = self.evidence.outcome(model, 17)  # whatever the seed
        assert found is not None
        return found

    @property
    def evidence(self) -> Evidence:
        return evidence_of(self.results, self.plan)

    def job(self, model: str, kind: str, measurement: str | None = None) -> JobFolder:
        found = [job for job in self.plan.jobs if (job.model, job.kind, job.measurement) == (model, kind, measurement)]
        return self.results.job(found[0].id)


def carried_out(suite: Path) -> list[dict[str, Any]]:
    """Does a suite's jobs in this process, without a report; what failed."""
    failed: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "failed":
            failed.append(event)

    planned = api.prepare_plan(suite, results=suite.parent / "results", launcher="inline", on_event=listen)
    do(planned)
    return failed


def do(planned: api.Planned) -> None:
    results = Results(planned.results)
    results.make_room()
    results.save_plan(planned.plan, environment(1, "cpu"))
    launch([*planned.graph.jobs], planned.options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, one of them trained, and a run of ours on the same text."""
    folder = tmp_path_factory.mktemp("checkpoints")
    text_folder(folder)
    small_checkpoints.save(folder / "mixtral", "mixtral", steps=40)
    small_checkpoints.save(folder / "llama", "llama", tokenizer="metaspace")
    train = {"budget": {"steps": 6}, "batch_tokens": 64, "optimizer": {"lr": 1.0e-2}, "evaluate": EVALUATE}
    models = {"ours": {"layers": 1, "width": 16, "heads": 2, "ffn": {"kind": "dense", "hidden": 32}}}
    write(folder / "training.yaml", models=models, train=train, seeds=1)
    assert carried_out(folder / "training.yaml") == []
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Outcome:
    planned = api.prepare_plan(folder / "training.yaml", results=folder / "results").plan
    return evidence_of(Results(folder / "results"), planned).outcomes[0]


@pytest.fixture(scope="module")
def done(folder: Path, trained: Outcome) -> Done:
    models = {
        "moe": {"checkpoint": "mixtral", "evaluate": EVALUATE, "experts": "eager"},
        "dense": {"checkpoint": "llama", "evaluate": EVALUATE},
        "ours": {"checkpoint": f"results/jobs/{trained.run_id}", "evaluate": EVALUATE},
    }
    speed = {"train_step": False, "prefill": [8], "decode": {"batch": [2]}, "processes": 2, "seconds": 1.0}
    claims = {
        "better": {
            "says": "The trained mixture is better than the dense model of random weights.",
            "compare": {"treatment": "moe", "baseline": "dense"},
            "metric": "test.bits_per_byte",
            "test": {"kind": "superior", "margin": "1%"},
        }
    }
    measure = {"quality": ["bits_per_byte", "accuracy"], "speed": speed}
    suite = write(folder / "measured.yaml", models=models, measure=measure, claims=claims)
    assert carried_out(suite) == []
    planned = api.prepare_plan(suite, results=folder / "results")
    return Done(suite=suite, plan=planned.plan, results=Results(folder / "results"))


# ------------------------------------------------------------------------------------------ planned


def test_a_checkpoint_is_planned_from_its_headers(done: Done) -> None:
    planned = done.plan.models["moe"]
    assert isinstance(planned, PlannedCheckpoint)
    assert (planned.family, planned.dtype, planned.experts) == ("MixtralForCausalLM", "float32", "eager")
    assert (planned.blueprint.context, planned.longest) == (32, 64)
    assert planned.costs.params == parameters(planned.blueprint)
    assert planned.costs.weight_bytes == 4 * planned.costs.params.total
    assert planned.file_bytes >= planned.costs.weight_bytes
    dense = done.plan.models["dense"]
    assert isinstance(dense, PlannedCheckpoint)
    assert dense.experts == "none"


def test_the_plan_states_bytes_and_time(done: Done) -> None:
    told = call("plan", done.suite, "--results", done.results.root)
    assert told.exit_code == 0, told.output
    row = next(line for line in told.output.splitlines() if line.startswith("moe "))
    assert "MixtralForCausalLM" in row
    assert "273 kB" in row
    assert row.endswith(("s", "min"))
    facts = json.loads(call("plan", done.suite, "--results", done.results.root, "--json").stdout)
    planned = done.plan.models["moe"]
    assert isinstance(planned, PlannedCheckpoint)
    assert facts["checkpoints"]["moe"]["memory_bytes"] == scoring_bytes(planned) > planned.costs.weight_bytes


def test_a_checkpoint_that_was_moved_is_the_same(folder: Path, done: Done, tmp_path: Path) -> None:
    shutil.copytree(folder / "mixtral", tmp_path / "elsewhere")
    shutil.copytree(folder / "text", tmp_path / "text")
    models = {"other": {"checkpoint": "elsewhere", "evaluate": EVALUATE, "experts": "eager"}}
    moved = api.prepare_plan(write(tmp_path / "moved.yaml", models=models), results=tmp_path / "results").plan
    assert {job.id for job in moved.jobs} < {job.id for job in done.plan.jobs}
    assert moved.training("other") == done.plan.training("moe")


def configured(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def renamed(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.bin")


def truncated(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])


BROKEN: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "absent": (shutil.rmtree, {}, "there is no folder 'mixtral'"),
    "a name": (
        shutil.rmtree,
        {"checkpoint": "nothing/there"},
        "nothing/there is neither a folder nor in this machine's",
    ),
    "pickled": (renamed, {}, "model.bin, pickle or another format that can run code"),
    "truncated": (truncated, {}, "10 bytes short of what its header says"),
    "remote code": (lambda to: configured(to, auto_map={"AutoConfig": "x.Y"}), {}, "asks for code of its publisher"),
    "nested": (
        lambda to: (to / "config.json").write_text('{"model_type": "llava", "text_config": {"model_type": "qwen2"}}'),
        {},
        "a model of more than text ('llava', around 'qwen2') is not measured",
    ),
    "another vocabulary": (lambda to: configured(to, vocab_size=300), {}, "its files hold 68,256 parameters"),
    "no tokenizer": (lambda to: (to / "tokenizer.json").unlink(), {}, "no tokenizer"),
    "an unknown family": (lambda to: configured(to, model_type="mistrall"), {}, "did you mean 'mistral'"),
    "an unknown type": (lambda _: None, {"dtype": "int8"}, "dtype cannot be 'int8'"),
}


@pytest.mark.parametrize("word", BROKEN)
def test_what_cannot_be_had_is_refused_at_its_place(folder: Path, tmp_path: Path, word: str) -> None:
    break_it, changes, message = BROKEN[word]
    text_folder(tmp_path)
    shutil.copytree(folder / "mixtral", tmp_path / "mixtral")
    break_it(tmp_path / "mixtral")
    suite = write(tmp_path / "suite.yaml", models={"moe": {"checkpoint": "mixtral", **changes}})
    found = call("run", suite, "--results", tmp_path / "results", "--out", tmp_path / "reports")
    assert found.exit_code == 2
    assert message in found.output
    assert "suite.yaml:" in found.output
    assert not list((tmp_path / "results").glob("[jp]*"))
    assert not (tmp_path / "reports").exists()


PUBLISHED = sorted(path.stem for path in (ROOT / "suites").glob("checkpoints_*.yaml"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_suites_of_published_checkpoints_say_what_to_download(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nowhere")
    loaded = load_suite(name)
    with pytest.raises(PlanError) as refused:
        planned_elsewhere(loaded.spec, base=loaded.base, machine=Machine())
    names = [model.checkpoint for model in loaded.spec.models.values() if isinstance(model, CheckpointModel)]
    assert len(names) == len(loaded.spec.models) == len(refused.value.problems)
    for asked, problem in zip(names, refused.value.problems, strict=True):
        assert problem.message.startswith(f"{asked} is neither a folder nor in this machine's cache")
        assert f"`hf download {asked} " in str(problem.hint)


def test_a_suite_without_weights_is_valid(tmp_path: Path) -> None:
    models = {"moe": {"checkpoint": "nothing/there"}, "dense": {"checkpoint": "nothing/here"}}
    assert call("validate", write(tmp_path / "suite.yaml", models=models)).exit_code == 0


def test_what_does_not_fit_this_machine_is_refused(folder: Path, done: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine(memory_bytes=400_000)
    monkeypatch.setattr("moebench.planning.machine.machine", lambda **_: small)
    with pytest.raises(SuiteError, match=r"moe takes .* to score \(68,256 parameters in float32\), and"):
        api.prepare_plan(done.suite, results=folder / "results")


def test_windows_that_are_too_long_are_refused(folder: Path) -> None:
    suite = write(folder / "long.yaml", models={"moe": {"checkpoint": "mixtral"}}, data={**TEXT, "context": 128})
    with pytest.raises(SuiteError, match="windows of 128 are longer than moe was made for, 64 tokens"):
        api.prepare_plan(suite, results=folder / "results")


def test_training_steps_of_checkpoints_are_not_timed(folder: Path) -> None:
    suite = write(folder / "step.yaml", models={"moe": {"checkpoint": "mixtral"}}, measure={"speed": {}})
    assert "moe is a checkpoint: its training step is not timed" in call("validate", suite).output


# ------------------------------------------------------------------------------------------ loaded


def test_a_loaded_checkpoint_is_the_planned_one(done: Done) -> None:
    planned, facts = done.plan.models["moe"], done.job("moe", "load").read(load.FACTS)
    assert isinstance(planned, PlannedCheckpoint)
    assert facts["digest"] == planned.digest
    assert facts["built_parameters"] == facts["parameters"]["total"] == planned.costs.params.total
    assert not done.job("moe", "load").has("model.safetensors")


def test_files_that_changed_since_the_plan_are_refused(folder: Path, tmp_path: Path) -> None:
    text_folder(tmp_path)
    shutil.copytree(folder / "llama", tmp_path / "llama")
    models = {"dense": {"checkpoint": "llama", "evaluate": EVALUATE}}
    failed: list[Any] = []
    planned = api.prepare_plan(
        write(tmp_path / "suite.yaml", models=models),
        results=tmp_path / "results",
        launcher="inline",
        on_event=lambda event: failed.append(event) if event["event"] == "failed" else None,
    )
    path = tmp_path / "llama" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    do(planned)
    assert "they have changed, so plan again" in failed[0]["reason"]
    assert {event["job"] for event in failed} == {"load"}


# ------------------------------------------------------------------------------------------ measured


def test_bits_per_byte_are_those_of_transformers(folder: Path, done: Done, trained: Outcome) -> None:
    """Window by window: its bytes in the checkpoint's tokens after the one that begins a text, bits over bytes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    corpus = prepare(done.plan.spec.data, base=folder, cache=folder / "results" / "data")
    windows = evaluation_windows(corpus, "test", tokens=1024)
    model = AutoModelForCausalLM.from_pretrained(folder / "mixtral", experts_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(folder / "mixtral")
    bits, num_bytes = 0.0, 0
    for targets, mask in zip(windows.targets, windows.mask, strict=True):
        text = bytes(targets[mask].astype(np.uint8))
        num_bytes += len(text)
        ids = done_tokens(tokenizer, text)
        with torch.inference_mode():
            logits = model(torch.tensor([[tokenizer.bos_token_id, *ids]])).logits[0, :-1]
        bits -= float(logits.log_softmax(-1)[range(len(ids)), ids].sum()) / math.log(2)
    outcome = done.outcome("moe")
    assert outcome.values["test.bits_per_byte"] == pytest.approx(bits / num_bytes, rel=1e-5)
    assert outcome.values["test.scored_bytes"] == num_bytes == trained.values["test.scored_bytes"]
    assert sum(item.size for item in outcome.items["test.bits_per_byte"]) == num_bytes
    assert outcome.test_digest == trained.test_digest


def done_tokens(tokenizer: Any, text: bytes) -> list[int]:
    """By hand: bytes that are no UTF-8, at the edges of a window, are tokens of one byte."""
    from moebench.models.hf.tokenizer import letters

    start = next(i for i in range(4) if text[i : i + 1] < b"\x80" or text[i : i + 1] >= b"\xc0")
    stop = len(text)
    while True:
        try:
            middle = text[start:stop].decode()
            break
        except UnicodeDecodeError:
            stop -= 1
    alone = tokenizer.convert_tokens_to_ids
    first, last = ([alone(letters()[byte]) for byte in part] for part in (text[:start], text[stop:]))
    return [*first, *tokenizer.encode(middle, add_special_tokens=False), *last]


def test_every_model_is_scored_on_the_same_documents(done: Done, trained: Outcome) -> None:
    scored = {model: scored_of(done.outcome(model)) for model in done.plan.models}
    assert scored["moe"] == scored["dense"] == scored["ours"] == scored_of(trained)


def scored_of(outcome: Outcome) -> set[tuple[str, float]]:
    return {(item.name, item.size) for item in outcome.items["test.bits_per_byte"]}


def test_a_run_of_ours_gives_the_numbers_that_it_was_trained_to(done: Done, trained: Outcome) -> None:
    found = done.outcome("ours")
    for metric in ("test.bits_per_byte", "test.scored_bytes", "memory.inference_peak_bytes[part=weights]"):
        assert found.values[metric] == trained.values[metric]
    planned = done.plan.models["ours"]
    assert isinstance(planned, PlannedCheckpoint)
    assert planned.family == "moebench"
    assert planned.digest == digest_of_run(done.results.job(trained.run_id))


def test_a_trained_checkpoint_is_better_and_knows_it(done: Done) -> None:
    moe, dense = done.outcome("moe").values, done.outcome("dense").values
    assert moe["test.bits_per_byte"] < 0.8 * dense["test.bits_per_byte"]
    assert moe["test.accuracy"] > dense["test.accuracy"]


def test_memory_by_part_is_what_is_counted(done: Done) -> None:
    planned, values = done.plan.models["moe"], done.outcome("moe").values
    assert isinstance(planned, PlannedCheckpoint)
    assert values["memory.inference_peak_bytes[part=weights]"] == pytest.approx(planned.costs.weight_bytes, rel=0.01)
    cache = values["memory.inference_peak_bytes[part=kv_cache]"]
    assert (planned.blueprint.context, planned.longest) == (32, 64), "of a sequence of the suite's context"
    assert cache == 32 * kv_bytes_per_token(planned.blueprint, "float32")
    assert not any(metric.startswith("memory.train") for metric in values)


def test_experts_are_seen_by_domain(done: Done) -> None:
    """Every scored token went to two experts in each of two layers."""
    values = done.outcome("moe").values
    tokens = sum(value for metric, value in values.items() if metric.startswith("routing.domain_tokens"))
    accuracy = done.outcome("moe").items["test.accuracy"]
    assert tokens == 2 * 2 * sum(item.size for item in accuracy)
    assert not any(metric.startswith("routing.") for metric in done.outcome("dense").values)


def test_checkpoints_are_timed_in_the_same_session(done: Done) -> None:
    speed, processes = done.plan.speed, done.evidence.processes
    assert speed is not None
    assert speed.checkpoints == {"moe": 32, "dense": 32, "ours": 32}
    assert len(processes) == 2
    for process in processes:
        for model in done.plan.models:
            assert process.values[model]["speed.prefill_s[tokens=8]"] > 0
            assert process.values[model]["speed.decode_step_s[batch=2]"] > 0
        assert 0 < process.values["moe"]["speed.decode_bandwidth_utilisation[batch=2]"] < 1
    assert done.evidence.problems == ()


def test_what_is_timed_is_the_suites_text_in_its_own_tokens(folder: Path, done: Done) -> None:
    from moebench.models.hf.tokenizer import load_tokenizer

    corpus = prepare(done.plan.spec.data, base=folder, cache=folder / "results" / "data")
    tokenizer = load_tokenizer(folder / "mixtral", rows=384)
    rows = own_text(corpus, tokenizer, context=32)(3)
    assert rows.shape == (3, 33)
    assert "cat" in tokenizer.decode(rows.flatten().tolist()).decode(errors="ignore")


def test_spans_beyond_what_a_model_was_made_for_are_refused(folder: Path, done: Done) -> None:
    from moebench.jobs.elsewhere import SpanTooLong
    from moebench.models.hf.tokenizer import load_tokenizer

    corpus = prepare(done.plan.spec.data, base=folder, cache=folder / "results" / "data")
    windows = evaluation_windows(corpus, "test", tokens=256)
    with pytest.raises(SpanTooLong, match="tokens, the model was made for 4"):
        spans(windows, corpus, load_tokenizer(folder / "mixtral", rows=384), longest=4)


def test_a_tokenizer_with_further_words_is_another(folder: Path) -> None:
    """Though the suite's ids mean the same to it."""
    from moebench.models.hf.tokenizer import load_tokenizer

    whole, part = (load_tokenizer(folder / "mixtral", rows=384) for _ in range(2))
    assert same_tokens(whole, part)
    part.digest, part.token_bytes = "other", part.token_bytes[:300]
    assert not same_tokens(whole, part)


def test_claims_between_checkpoints_are_judged_over_items(done: Done) -> None:
    (verdict,) = judge(done.evidence)
    assert (verdict.state, verdict.units) == ("supported", "items")
    assert verdict.n >= 20
    assert "one run each: says nothing about another training run" in verdict.scope


def test_a_second_call_does_nothing(done: Done) -> None:
    before = {job.id: done.results.job(job.id).manifest() for job in done.plan.jobs}
    assert carried_out(done.suite) == []
    assert {job.id: done.results.job(job.id).manifest() for job in done.plan.jobs} == before
