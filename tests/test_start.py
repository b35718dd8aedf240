"""`start: {checkpoint: DIR}`: sizes and initial values are a checkpoint's, and which one is part of the run's id."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from moebench import api
from moebench.checkpoints.located import CheckpointError
from moebench.claims import scope
from moebench.data import tokenizer
from moebench.data.batches import train_batch
from moebench.jobs import loop
from moebench.jobs.training import start, train
from moebench.launch import launch
from moebench.models.convert.export import export_checkpoint
from moebench.models.convert.reading import begin_from, load_native
from moebench.models.decoder.transformer import cross_entropy_bits
from moebench.planning.graph import make_graph
from moebench.planning.machine import no_facts
from moebench.planning.matching import Machine
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites
from tests.support.small_models import architecture, built, moe

pytestmark = pytest.mark.numeric

MODEL = architecture(moe(4, 2, 16), width=16, heads=2, kv_heads=1, head_dim=8, context=32, rope_theta=500.0)
MODELS: dict[str, Any] = {
    "begun": {"start": {"checkpoint": "base"}, "ffn": {"balance_loss": 0.02}},
    "drawn": {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "ffn": {"kind": "moe", "experts": 4, "top_k": 2,
              "expert_hidden": 16, "balance_loss": 0.02}, "rope_theta": 500.0},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of ours, with bytes for tokens, in the folder of suites."""
    export_checkpoint(built(MODEL, seed=3), tmp_path / "base")
    return tmp_path


def test_a_model_has_the_sizes_and_the_weights_of_its_checkpoint(folder: Path) -> None:
    made = tiny_suites.planned(folder, models=MODELS)
    planned, spec = made.plan.decoders["begun"], made.plan.spec.decoders["begun"]
    assert planned.architecture.model_copy(update={"ffn": MODEL.ffn, "context": 32}) == MODEL
    assert planned.architecture.context == 16
    assert (spec.layers, spec.vocab, spec.ffn.experts, spec.ffn.balance_loss) == (2, 256, 4, 0.02)
    assert planned.start is not None
    assert planned.start.checkpoint == "base"
    assert any(told.startswith("begun starts from base: ") for told in made.plan.warnings)
    job = next(job for job in made.graph.jobs if job.model == "begun")
    loop.Results(made.results).job(job.id).path.mkdir(parents=True)
    state, journal = loop._begin_or_resume(
        job, run := tiny_suites.run_of(made, "begun"), loop.Results(made.results).job(job.id), tiny_suites.corpus(made),
        made.results,
    )  # fmt: skip
    assert journal.written["steps.jsonl"] == 0
    theirs = load_native(folder / "base").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in state.model.state_dict().items())
    assert run.id == job.id


def test_it_is_trained_on_from_there_on_the_data_of_its_seed(folder: Path) -> None:
    """The first loss is that of the checkpoint, in which the other models of the seed see the same tokens."""
    made = tiny_suites.planned(folder, models=MODELS)
    corpus, run = tiny_suites.corpus(made), tiny_suites.run_of(made, "begun")
    state = start(run, is_loaded=True)
    begin_from(state.model, folder / "base", digest=str(run.start), cache=None)
    batch = torch.from_numpy(train_batch(corpus, seed=0, step=0, batch_tokens=128))
    with torch.no_grad():
        logits_BTV = load_native(folder / "base")(batch[:, :-1]).logits_BTV
    expected = float(cross_entropy_bits(logits_BTV, batch[:, 1:]).mean())
    assert next(iter(train(state, run, corpus))).loss == pytest.approx(expected, rel=1e-4)


def test_a_run_goes_from_the_checkpoint_to_its_end_and_is_measured(folder: Path) -> None:
    path = tiny_suites.write(folder, models=MODELS, seeds=1)
    made = api.prepare_plan(path, results=folder / "results", launcher="inline")
    assert set(launch(list(made.graph.jobs), made.options).values()) == {"completed"}
    run = next(run for run in made.plan.runs if run.model == "begun")
    trained = loop.Results(made.results).job(run.id)
    assert trained.spec()["start"] == made.plan.decoders["begun"].start.digest  # type: ignore[union-attr]
    assert len(trained.steps()) == 12
    assert quality(made, "begun")["test.bits_per_byte"] != quality(made, "drawn")["test.bits_per_byte"]


def test_a_verdict_says_where_its_models_started(folder: Path) -> None:
    plan = tiny_suites.planned(folder, models=MODELS).plan
    assert scope._begun(plan, ["begun", "drawn"]) == " (begun from base, whose own training is not counted)"
    assert scope._begun(plan, ["drawn"]) == ""


def ids(made: Any) -> dict[str, str]:
    return {run.model: run.id for run in made.plan.runs if run.seed == 0}


def test_another_checkpoint_is_another_run_and_another_place_is_not(folder: Path) -> None:
    before = tiny_suites.planned(folder, models=MODELS)
    shutil.copytree(folder / "base", folder / "moved")
    moved = {**MODELS, "begun": {**MODELS["begun"], "start": {"checkpoint": "moved"}}}
    assert ids(tiny_suites.planned(folder, models=moved)) == ids(before)
    export_checkpoint(built(MODEL, seed=4), folder / "base")
    after = tiny_suites.planned(folder, models=MODELS)
    assert ids(after)["begun"] != ids(before)["begun"]
    assert ids(after)["drawn"] == ids(before)["drawn"]
    assert after.plan.training("begun") != before.plan.training("begun")


def test_a_checkpoint_that_changes_after_it_was_planned_is_not_trained_from(folder: Path) -> None:
    made = tiny_suites.planned(folder, models=MODELS)
    digest = made.plan.decoders["begun"].start.digest  # type: ignore[union-attr]
    export_checkpoint(built(MODEL, seed=4), folder / "base")
    with pytest.raises(CheckpointError, match="they have changed: plan again"):
        begin_from(built(MODEL), folder / "base", digest=digest, cache=made.results / "data" / "digests")


def test_models_inherit_where_they_start(folder: Path) -> None:
    models = {**MODELS, "slower": {"base": "begun", "train": {"optimizer": {"lr": 1e-4}}}}
    found = tiny_suites.planned(folder, models=models).plan
    assert found.decoders["slower"].start == found.decoders["begun"].start
    assert found.decoders["slower"].recipe.lr == 1e-4


def test_the_resolved_suite_loads_to_the_same_spec(folder: Path) -> None:
    spec = load_suite(tiny_suites.write(folder, models=MODELS)).spec
    (folder / "resolved.yaml").write_text(resolved_yaml(spec))
    assert load_suite(folder / "resolved.yaml").spec == spec


def test_a_checkpoint_is_named_relative_to_the_file_that_names_it(folder: Path) -> None:
    tiny_suites.write(folder, models=MODELS)
    (folder / "below").mkdir()
    (folder / "below" / "more.yaml").write_text("extends: ../tiny.yaml\nsuite: more\n")
    loaded = load_suite(folder / "below" / "more.yaml")
    assert loaded.spec.decoders["begun"].start.checkpoint == "../base"  # type: ignore[union-attr]


def test_one_that_is_not_trained_is_measured_as_it_is(folder: Path) -> None:
    models = {**MODELS, "untouched": {"base": "begun", "train": None}}
    one = load_suite(tiny_suites.write(folder, models=models)).spec.models["untouched"]
    assert (one.tag, one.checkpoint, one.native) == ("checkpoint", "base", True)
    assert one.evaluate.final_tokens == 512


def test_a_killed_run_goes_on_without_its_checkpoint_to_the_same_bits(folder: Path) -> None:
    made = tiny_suites.planned(folder, models=MODELS, seeds=1)
    job = next(job for job in made.graph.jobs if job.model == "begun" and job.kind == "train")
    asked = iter([False] * 4 + [True])
    for root, stop in ((folder / "once", lambda: False), (folder / "twice", lambda: next(asked))):
        loop.Results(root).job(job.id).path.mkdir(parents=True)
        status = loop.execute(job, root=root, on_event=lambda _: None, should_stop=stop)
    assert status == "stopped"
    shutil.rmtree(folder / "base")
    assert loop.execute(job, root=folder / "twice", on_event=lambda _: None, should_stop=lambda: False) == "completed"
    once, twice = (loop.Results(folder / name).job(job.id).path / "model.safetensors" for name in ("once", "twice"))
    assert once.read_bytes() == twice.read_bytes()


def quality(made: Any, model: str) -> dict[str, float]:
    """What the finished jobs of a plan say of a model's quality."""
    (job,) = (j for j in made.plan.jobs if j.model == model and j.measurement == "quality")
    records = loop.Results(made.results).job(job.id).records()
    return {record.metric: record.value for record in records if record.metric.startswith("test.")}


@pytest.mark.parametrize("tokens", ["bytes", "words"])
def test_it_is_measured_in_our_decoder_as_in_transformers_and_as_what_it_was_trained_to(
    folder: Path, tokens: str
) -> None:
    """A checkpoint by our decoder, by transformers, and as a run that takes one step at next to no rate.

    Its tokens are those of the suite, so all three read the same windows.
    """
    data: dict[str, Any] = {**tiny_suites.SYNTHETIC, "context": 16}
    if tokens == "words":
        words = tokenizer.train([b"abcabc abd abe\n" * 9], vocab=270)
        export_checkpoint(built(MODEL.model_copy(update={"vocab": 288}), seed=3), folder / "base", words)
        data["tokenizer"] = {"checkpoint": "base"}
    scored = {"tokens": 256, "final_tokens": 512}
    train = {"budget": {"steps": 1}, "optimizer": {"lr": 1e-12}, "evaluate": {"points": 1, **scored}}
    models = {
        "begun": BEGUN,
        "ours": {"base": "begun", "train": None},
        "theirs": {"checkpoint": "base", "evaluate": scored},
    }
    path = tiny_suites.write(folder, models=models, seeds=1, train=train, data=data)
    made = api.prepare_plan(path, results=folder / "results", launcher="inline")
    assert set(launch(list(made.graph.jobs), made.options).values()) == {"completed"}
    ours, theirs, begun = (quality(made, model) for model in ("ours", "theirs", "begun"))
    assert ours["test.scored_bytes"] == theirs["test.scored_bytes"] == begun["test.scored_bytes"] > 400
    assert ours["test.bits_per_byte"] == pytest.approx(theirs["test.bits_per_byte"], rel=1e-6)
    assert ours["test.bits_per_byte"] == pytest.approx(begun["test.bits_per_byte"], rel=1e-4)


# ------------------------------------------------------------------------------------------ refusals

BEGUN = MODELS["begun"]
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no folder": ({"start": {"checkpoint": "nowhere"}}, "there is no folder 'nowhere'"),
    "no word": ({"start": "base"}, "start names no model of this suite: 'base'"),
    "another word": ({"start": {"file": "base"}}, "start names a checkpoint's folder"),
    "another width": (BEGUN | {"width": 32}, "width is 32, and the checkpoint that this model starts from has 16"),
    "other experts": (BEGUN | {"ffn": {"experts": 8}}, "experts is 8, and the checkpoint that this model starts from"),
    "an option that it has not": (
        BEGUN | {"qk_norm": "full"}, "qk_norm is full, and the checkpoint that this model starts from has none"
    ),
    "a shared expert": (BEGUN | {"ffn": {"shared_hidden": 16}}, "shared_hidden is 16, and the checkpoint"),
    "a match": (BEGUN | {"match": {"to": "drawn", "on": "total_params"}}, "match, and the checkpoint"),
    "random weights": (BEGUN | {"weights": "random"}, "weights is random, and the checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("named", REFUSED)
def test_what_does_not_go_with_a_checkpoint_is_refused_at_its_place(folder: Path, named: str) -> None:
    model, says = REFUSED[named]
    path = tiny_suites.write(folder, models={"drawn": MODELS["drawn"], "begun": model})
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert says in str(caught.value)
    assert f"{path}:" in str(caught.value)
    assert len(caught.value.problems) == 1


def test_what_it_may_repeat_is_taken(folder: Path) -> None:
    repeated = BEGUN | {"width": 16, "layers": 2, "ffn": {"kind": "moe", "experts": 4, "jitter": 0.1}, "qk_norm": None}
    spec = load_suite(tiny_suites.write(folder, models={"begun": repeated})).spec
    assert spec.decoders["begun"].ffn.jitter == 0.1


def test_a_context_beyond_the_checkpoints_is_refused(folder: Path) -> None:
    path = tiny_suites.write(folder, models=MODELS, data={**tiny_suites.SYNTHETIC, "context": 64})
    with pytest.raises(SuiteError, match="it was made for 32 tokens, and the context of the data is 64"):
        load_suite(path)


def test_what_no_decoder_of_ours_computes_is_refused_by_the_feature(folder: Path) -> None:
    written = json.loads((folder / "base" / "config.json").read_text())
    rope = {"rope_type": "longrope", "factor": 4.0}
    (folder / "base" / "config.json").write_text(json.dumps(written | {"rope_scaling": rope}))
    with pytest.raises(SuiteError, match="rope scaling 'longrope'") as caught:
        load_suite(tiny_suites.write(folder, models=MODELS))
    assert "measure it as it is" in str(caught.value)


def test_files_that_are_not_its_weights_are_refused_when_planning(folder: Path) -> None:
    path = folder / "base" / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file(weights | {"model.norm.weight": torch.zeros(8)}, path)
    loaded = load_suite(tiny_suites.write(folder, models=MODELS))
    machine = Machine(step_seconds={})
    with pytest.raises(ValueError, match=r"models.begun.start.checkpoint: .*model.norm.weight is \[8\]"):
        make_graph(loaded.spec, facts=no_facts(), vocab=256, machine=machine, base=loaded.base)
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ValueError, match="pickle or another format that can run code"):
        make_graph(loaded.spec, facts=no_facts(), vocab=256, machine=machine, base=loaded.base)


def test_a_table_with_fewer_rows_than_the_tokenizer_has_words_is_refused(folder: Path) -> None:
    loaded = load_suite(tiny_suites.write(folder, models=MODELS))
    with pytest.raises(ValueError, match="begun has 256 rows of tokens, and the tokenizer of its data 300 words"):
        make_graph(loaded.spec, facts=no_facts(), vocab=300, machine=Machine(), base=loaded.base)


def test_drawn_models_keep_their_ids(folder: Path) -> None:
    """A run that starts nowhere has no key for it."""
    drawn = tiny_suites.run_of(tiny_suites.planned(folder, models=MODELS), "drawn")
    assert "start" not in drawn.model_dump(mode="json")


# ------------------------------------------------------------------------------------------ tokens


@pytest.fixture
def worded(tmp_path: Path) -> Path:
    """A checkpoint whose tokens are words, with more rows than words, in the folder of suites."""
    words = tokenizer.train([b"abcabc abd abe\n" * 9], vocab=270)
    model = built(MODEL.model_copy(update={"vocab": 288}), seed=3)
    export_checkpoint(model, tmp_path / "base", words)
    return tmp_path


def test_it_is_trained_on_with_the_checkpoints_own_tokens(worded: Path) -> None:
    own = {**BEGUN, "data": {"tokenizer": {"checkpoint": "base"}}}
    made = tiny_suites.planned(worded, models={**MODELS, "begun": own})
    assert made.plan.decoders["begun"].architecture.vocab == 288
    assert made.plan.data_of("begun").tokenizer == tokenizer.of_checkpoint(worded / "base").digest
    assert made.plan.decoders["drawn"].architecture.vocab == 256
    whole = {**tiny_suites.SYNTHETIC, "context": 16, "tokenizer": {"checkpoint": "base"}}
    for model in (BEGUN, own):
        again = tiny_suites.planned(worded, models={"begun": model}, data=whole)
        assert ids(again)["begun"] == ids(made)["begun"]


@pytest.mark.parametrize("data", ["bytes", {"bpe": 280}], ids=str)
def test_other_tokens_than_the_checkpoints_are_refused_with_what_to_write(worded: Path, data: Any) -> None:
    whole = {**tiny_suites.SYNTHETIC, "context": 16, "tokenizer": data}
    with pytest.raises(SuiteError, match="its tokens are not the data's") as caught:
        tiny_suites.planned(worded, models={"begun": BEGUN}, data=whole)
    assert "give the model data: {tokenizer: {checkpoint: FOLDER}}" in str(caught.value)


def test_words_for_a_checkpoint_of_bytes_are_refused_and_so_is_one_without_a_tokenizer(folder: Path) -> None:
    whole = {**tiny_suites.SYNTHETIC, "context": 16, "tokenizer": {"bpe": 257}}
    with pytest.raises(SuiteError, match=r"rows of tokens|its tokens are not the data's"):
        tiny_suites.planned(folder, models={"begun": BEGUN}, data=whole)
    (folder / "base" / "tokenizer.json").unlink()
    with pytest.raises(SuiteError, match="whether its tokens are those of the data cannot be told"):
        tiny_suites.planned(folder, models={"begun": BEGUN})
