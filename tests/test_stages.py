"""Models that are trained on from another of the suite: language, jobs, where they start, and what is held alike."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from moebench import api
from moebench.claims.judge import judge
from moebench.counting.blueprint import Experts
from moebench.data.batches import evaluation_windows
from moebench.data.prepare import prepare
from moebench.environment import environment
from moebench.jobs import evaluate as evaluate_job
from moebench.jobs import loop, replay
from moebench.jobs.job import Job
from moebench.jobs.measuring import scored_windows, served
from moebench.jobs.recipe import Run
from moebench.jobs.replay import OtherWay, ReplaySpec
from moebench.jobs.training import batch_of, start, train
from moebench.launch import launch
from moebench.metrics.quality import evaluate
from moebench.models.convert.export import export_checkpoint
from moebench.models.convert.reading import load_native
from moebench.models.decoder.subject import DecoderSubject
from moebench.models.generation import load_trained
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, gather
from moebench.store import Results
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites

pytestmark = pytest.mark.numeric


def stage(**changes: Any) -> dict[str, Any]:
    """A short training of its own."""
    train = {"budget": {"steps": 6}, "optimizer": {"lr": 3.0e-3}}
    return {"start": "moe", "train": train, **changes}


BOTH = tiny_suites.suite()["models"]
MODELS: dict[str, Any] = {
    "router": {"base": "full", "trainable": "router"},  # before what it starts from
    **BOTH,
    "full": stage(),
    "some": {"base": "full", "trainable": [{"experts": "50%", "by": "load"}, "norms"]},
    "lora": {"base": "full", "lora": {"rank": 2, "on": ["attention", "experts"], "alpha": 4}},
    "of_lora": {"start": "lora", "route": {"top_k": 1}},
    "on": {"start": "lora", "train": {"budget": {"steps": 3}}, "trainable": ["ffn"]},
    "early": stage(start={"model": "moe", "at": {"reach": "dense"}}),
    "third": stage(start={"model": "moe", "at": {"share": "30%"}}, ffn={"balance_loss": 0.0}),
    "again": {"base": "third", "trainable": ["attention", "embedding"]},
    "dense_full": {"base": "full", "start": "dense"},
    "narrow": stage(data={"domains": ["source-0"]}),
}


def problems_of(folder: Path, **changes: Any) -> list[str]:
    path = tiny_suites.write(folder, **changes)
    try:
        load_suite(path)
    except SuiteError as error:
        return [f"{one.position}: {one.message} ({one.hint})" for one in error.problems]
    return []


# ------------------------------------------------------------------------------------------ language


def test_it_has_the_sizes_of_what_it_starts_from_and_a_recipe_and_data_of_its_own(tmp_path: Path) -> None:
    plan = tiny_suites.planned(tmp_path, models=MODELS).plan
    models = plan.decoders
    assert models["dense_full"].architecture == models["dense"].architecture  # with the width that its match solved
    assert models["router"].architecture == models["moe"].architecture
    assert (models["full"].recipe.steps, models["full"].recipe.lr) == (6, 3.0e-3)
    assert models["full"].recipe.batch_tokens == models["moe"].recipe.batch_tokens
    assert models["third"].architecture.ffn.balance_loss == 0.0  # what acts in training alone is its own
    assert models["moe"].architecture.ffn.balance_loss > 0
    assert plan.data_of("narrow").tokens["train"] < plan.data_of("full").tokens["train"]
    assert plan.data_of("narrow").tokens["test"] == plan.data_of("moe").tokens["test"]
    assert list(plan.trained) == [name for name in MODELS if name != "of_lora"]


def test_the_resolved_suite_is_the_same_suite(tmp_path: Path) -> None:
    spec = load_suite(tiny_suites.write(tmp_path, models=MODELS)).spec
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(spec))
    assert load_suite(again).spec == spec


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "from scratch": ({"base": "moe", "trainable": "router"}, "name that one by start: MODEL"),
    "unknown part": (stage(trainable="gates"), "trainable"),
    "unknown parts": (stage(trainable=["router", "gates"]), "router"),
    "none": (stage(trainable=[]), "trainable"),
    "twice": (stage(trainable=["norms", "norms"]), "norms is named twice"),
    "experts twice": (stage(trainable=["ffn", {"experts": "50%"}]), "which experts are trained is said twice"),
    "no experts": (stage(start="dense", trainable="experts"), "a dense model has no experts (`ffn` is"),
    "no router": (stage(start="dense", trainable=["router", "norms"]), "a dense model has no router"),
    "adapted experts of none": (stage(start="dense", lora={"rank": 2, "on": ["experts"]}), "has no experts"),
    "all of them": (stage(trainable={"experts": 4}), "these are all of the 4 experts (write experts)"),
    "too large a share": (stage(trainable={"experts": "100%"}), "a share below 100%"),
    "both": (stage(trainable=["attention"], lora={"rank": 2}), "attention is trained, and has adapters too"),
    "no rank": (stage(lora={"rank": 0}), "rank"),
    "adapted tables": (stage(lora={"rank": 2, "on": ["embedding"]}), "on"),
    "and a transform": (
        {"start": "moe", "quantise": {"bits": 4}, "trainable": "router"}, "trainable and a change of weights are two"),
    "an earlier point of a transform": (
        {"start": {"model": "moe", "at": {"share": "10%"}}, "quantise": {"bits": 4}}, "at is a point to train on from"),
    "nowhere": (stage(start={"model": "moe", "at": {}}), "give one of reach and share"),
    "two places": (stage(start={"model": "moe", "at": {"reach": 2.5, "share": "10%"}}), "give one of reach and share"),
    "a number of steps": (stage(start={"model": "moe", "at": {"share": 10}}), "such as 10%"),
    "nobody": (stage(start={"model": "moe", "at": {"reach": "dnese"}}), "did you mean 'dense'?"),
    "itself": (stage(start={"model": "moe", "at": {"reach": "moe"}}), "reaches its own loss at its end"),
    "of a checkpoint": (stage(start={"checkpoint": "folder", "at": {"share": "10%"}}), "start"),
    "of a stage": (stage(start={"model": "full", "at": {"share": "10%"}}), "only a training from scratch is"),
    "another width": (stage(width=32), "width is not to be changed here"),
    "another number of experts": (stage(ffn={"experts": 8}), "experts is not to be changed here"),
    "a match": (stage(match={"to": "dense", "on": "total_params"}), "match is not to be changed here"),
}  # fmt: skip


@pytest.mark.parametrize("named", REFUSED)
def test_what_cannot_be_is_refused_at_its_line(tmp_path: Path, named: str) -> None:
    model, says = REFUSED[named]
    found = problems_of(tmp_path, models={**BOTH, "full": stage(), "bad": model})
    assert len(found) == 1, found
    assert says in found[0]
    assert found[0].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (stage(lora={"rank": 17, "on": ["attention"]}), "rank 17 is more than the 16 of the smallest side"),
        (stage(start="hashed", trainable="router"), "nothing of bad would be trained"),
    ],
)
def test_what_is_found_when_sizes_are_known_is_refused_there(tmp_path: Path, model: dict[str, Any], says: str) -> None:
    hashed = {**BOTH["moe"], "ffn": {**BOTH["moe"]["ffn"], "router": "token_hash", "balance_loss": 0}}
    with pytest.raises(SuiteError, match=says):
        tiny_suites.planned(tmp_path, models={**BOTH, "hashed": hashed, "bad": model})


def test_what_a_model_starts_with_is_asked_of_those_alone_that_start_from_another(tmp_path: Path) -> None:
    claims = {"c": tiny_suites.claim(metric="start.bits_per_byte", compare={"treatment": "full", "baseline": "dense"})}
    (found,) = problems_of(tmp_path, models=MODELS, claims=claims)
    assert "start.bits_per_byte of a model that is not trained on from another" in found


# ------------------------------------------------------------------------------------------ plan and jobs


def test_no_id_of_what_it_starts_from_moves(tmp_path: Path) -> None:
    alone, with_more = (tiny_suites.planned(tmp_path, models=models) for models in (BOTH, MODELS))
    ids = [{job.id for job in made.graph.jobs} for made in (alone, with_more)]
    assert ids[0] < ids[1]
    assert alone.plan.training("moe") == with_more.plan.training("moe")


def test_its_job_starts_from_the_same_seed_and_a_run_is_taken_again_once(tmp_path: Path) -> None:
    graph = tiny_suites.planned(tmp_path, models=MODELS).graph
    runs = {(job.model, job.seed): job for job in graph.jobs if job.kind in ("train", "transform")}
    replays = {job.id: job for job in graph.jobs if job.kind == "replay"}
    assert len(replays) == len([job for job in graph.jobs if job.kind == "replay"]) == 4  # two points, two seeds
    for (model, seed), job in runs.items():
        derived = graph.plan.decoders[model].derived
        if derived is None:
            assert job.inputs == ()
        elif derived.at is None:
            assert job.inputs == (runs[derived.model, seed].id,)
        else:
            (again,) = job.inputs
            named = [derived.model, *filter(None, [derived.at.other])]
            assert replays[again].inputs == tuple(runs[name, seed].id for name in named)
    order = [job.id for job in graph.jobs]
    assert all(order.index(one) < order.index(job.id) for job in graph.jobs for one in job.inputs)


def test_its_seal_is_of_what_it_starts_from_and_of_what_is_trained(tmp_path: Path) -> None:
    def seal(**changes: Any) -> str:
        claims = {"c": tiny_suites.claim(compare={"treatment": "lora", "baseline": "moe"})}
        return tiny_suites.planned(tmp_path, models={**MODELS, **changes}, claims=claims).plan.seal("c")

    sealed = seal()
    assert sealed == seal()
    assert sealed != seal(lora={"base": "full", "lora": {"rank": 3, "on": ["attention", "experts"], "alpha": 4}})
    assert sealed != seal(lora={"base": "full", "trainable": "router"})
    assert sealed != seal(lora={"base": "early", "lora": {"rank": 2, "on": ["attention", "experts"], "alpha": 4}})


@pytest.mark.parametrize("spoilt", ["replay", "stage"])
def test_a_plan_that_was_tampered_with_is_no_plan(tmp_path: Path, spoilt: str) -> None:
    plan = json.loads(tiny_suites.planned(tmp_path, models=MODELS).plan.model_dump_json())
    assert Plan.model_validate(plan)
    kind = {"replay": "replay", "stage": "train"}[spoilt]
    next(job for job in plan["jobs"] if job["kind"] == kind and job.get("inputs"))["inputs"] = ["0" * 20]
    with pytest.raises(ValueError, match="a run that it does not have"):
        Plan.model_validate(plan)


def test_a_sweep_of_rates_covers_stages_and_trains_what_they_start_from_with_its_seeds(tmp_path: Path) -> None:
    tune = {"lr": [1e-3, 2e-3, 4e-3], "models": ["early", "lora"], "domain": "source-0"}
    sweep = tiny_suites.planned(tmp_path, models=MODELS, tune=tune).graph.sweep
    assert sweep is not None
    jobs = {job.id: job for job in sweep.jobs}
    tuned = [jobs[run[-1]] for run in sweep.plan.runs]
    assert len(tuned) == 6
    for job in tuned:
        (given,) = job.inputs
        assert jobs[given].seed == job.seed >= 1_000_003
        assert job.spec["recipe"]["split"] == "tune"
        assert jobs[given].kind == ("replay" if job.model == "early" else "train")
    before = [job for job in sweep.jobs if job.kind == "train" and not job.inputs]
    assert sorted(job.model for job in before) == ["dense", "moe"]  # each once, whatever the rates
    order = [job.id for job in sweep.jobs]
    assert all(order.index(one) < order.index(job.id) for job in sweep.jobs for one in job.inputs)


def test_a_rate_is_chosen_by_a_domain_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no domain 'source-7'"):
        tiny_suites.planned(tmp_path, models=MODELS, tune={"lr": [1e-3, 2e-3, 4e-3], "domain": "source-7"})


# ------------------------------------------------------------------------------------------ carried out

CLAIMS = {
    "recovers": {
        "says": "Adapters have most of the gain.",
        "compare": {"treatment": "lora", "baseline": "moe", "ceiling": "full"},
        "metric": "test.bits_per_byte",
        "test": {"kind": "recovers", "value": 0.5},
    },
    "starts-equal": {
        "says": "They start alike.",
        "compare": {"treatment": "early", "baseline": "dense_full"},
        "metric": "start.bits_per_byte",
        "test": {"kind": "equivalent", "margin": "5%"},
    },
    "alike": {
        "says": "From an equal loss the mixture ends lower.",
        "compare": {"treatment": "early", "baseline": "dense_full"},
        "metric": "test.bits_per_byte",
        "test": {"kind": "superior", "margin": "0%"},
    },
    "other-data": {
        "says": "Another text is no pair.",
        "compare": {"treatment": "narrow", "baseline": "dense"},
        "metric": "test.bits_per_byte",
        "test": {"kind": "superior", "margin": "0%"},
    },
    "forgets": {
        "says": "What it is not trained on is scored all the same.",
        "compare": {"treatment": "moe", "baseline": "narrow"},
        "metric": "test.bits_per_byte[domain=source-1]",
        "test": {"kind": "superior", "margin": "0%"},
    },
    "few-weights": {
        "says": "Few weights are trained.",
        "compare": {"treatment": "lora", "baseline": "full"},
        "metric": "cost.trained_params",
        "test": {"kind": "ratio_within", "low": 0.01, "high": 0.5},
    },
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    folder = tmp_path_factory.mktemp("stages")
    path = tiny_suites.write(
        folder, models=MODELS, claims=CLAIMS, measure={"memory": True, "quality": ["bits_per_byte", "fit"]}
    )
    made = api.prepare_plan(path, results=folder / "results", launcher="inline")
    Results(made.results).save_plan(made.plan, environment(1))
    assert set(launch(list(made.graph.jobs), made.options).values()) == {"completed"}
    return made


@pytest.fixture(scope="module")
def evidence(done: api.Planned) -> Evidence:
    results = Results(done.results)
    return gather(results, results.plans()[0])


def job_of(made: api.Planned, model: str, kind: str = "train", seed: int = 0) -> Job:
    return next(j for j in made.graph.jobs if (j.model, j.kind, j.seed) == (model, kind, seed))


def weights_of(made: api.Planned, job: Job) -> dict[str, Tensor]:
    return safetensors.torch.load_file(Results(made.results).job(job.id).path / "model.safetensors")


def changed(made: api.Planned, model: str, *, of: dict[str, Tensor]) -> set[str]:
    now = weights_of(made, job_of(made, model))
    assert now.keys() == of.keys()
    return {name for name, value in now.items() if not torch.equal(value, of[name])}


def test_what_is_not_trained_is_the_others_to_the_bit(done: api.Planned) -> None:
    before = weights_of(done, job_of(done, "moe"))
    assert changed(done, "full", of=before) == before.keys()
    assert changed(done, "router", of=before) == {name for name in before if ".router." in name}
    experts = {name for name in before if name.split(".")[-1] in ("gate_up", "down")}
    assert changed(done, "some", of=before) == experts | {name for name in before if "norm" in name}
    attention = {name for name in before if ".attention." in name}
    assert changed(done, "lora", of=before) == experts | attention
    assert changed(done, "on", of=weights_of(done, job_of(done, "lora"))) == experts
    assert changed(done, "again", of=weights_of(done, replays(done)["third"])) == attention | {"embedding"}


def test_the_most_used_experts_are_trained_and_no_others(done: api.Planned) -> None:
    job = job_of(done, "some")
    folder = Results(done.results).job(job.id)
    told = folder.read("chosen.json")
    before, after = weights_of(done, job_of(done, "moe")), weights_of(done, job)
    for layer, experts in told.items():
        assert len(experts) == 2
        name = f"layers.{layer}.ffn.gate_up"
        moved = [e for e in range(4) if not torch.equal(before[name][e], after[name][e])]
        assert moved == experts
    run, corpus = Run.model_validate(job.spec), tiny_suites.corpus(done)
    model = load_trained(done.results, job_of(done, "moe").id)
    pairs = torch.stack([torch.zeros(4)] * 2)
    for step in range(run.recipe.steps):
        routings = model.route(torch.from_numpy(batch_of(run, corpus, step))[:, :-1])
        pairs += torch.stack([torch.bincount(r.expert_N, minlength=4) for r in routings])
    least = [
        min(pairs[i][told[str(i)]]) >= max(pairs[i][[e for e in range(4) if e not in told[str(i)]]]) for i in (0, 1)
    ]
    assert all(least)


def replays(made: api.Planned) -> dict[str, Job]:
    """By a model that starts there."""
    jobs = {job.id: job for job in made.graph.jobs}
    return {name: jobs[job_of(made, name).inputs[0]] for name in ("early", "third")}


@pytest.mark.parametrize("name", ["early", "third"])
def test_a_run_that_is_taken_again_is_that_run_to_the_bit(done: api.Planned, name: str) -> None:
    again = replays(done)[name]
    facts = Results(done.results).job(again.id).read("replayed.json")
    parent, corpus = Run.model_validate(job_of(done, "moe").spec), tiny_suites.corpus(done)
    state = start(parent)
    for seen in train(state, parent, corpus):
        if seen.step == facts["step"]:
            break
    found = weights_of(done, again)
    assert all(torch.equal(value, found[key]) for key, value in state.model.state_dict().items())
    assert facts["steps"] == 12
    if name == "third":
        assert facts["step"] == 4  # 30% of 12


def test_it_starts_where_the_loss_first_is_no_more_than_the_others(done: api.Planned) -> None:
    """On the tune split, which no claim is about."""
    job = replays(done)["early"]
    facts = Results(done.results).job(job.id).read("replayed.json")
    parent, corpus = Run.model_validate(job_of(done, "moe").spec), tiny_suites.corpus(done)
    text = scored_windows(corpus, parent.recipe.model_copy(update={"split": "tune"}), tokens=parent.recipe.eval_tokens)
    other = load_trained(done.results, job_of(done, "dense").id)
    target = evaluate(DecoderSubject(other, corpus.tokenizer), text).bits_per_byte()
    assert facts["target"] == pytest.approx(target)
    state = start(parent)
    losses = [evaluate(DecoderSubject(state.model, corpus.tokenizer), text).bits_per_byte()
              for _ in train(state, parent, corpus)]  # fmt: skip
    assert facts["step"] == 1 + next(i for i, loss in enumerate(losses) if loss <= target)
    assert facts["bits_per_byte"] == pytest.approx(losses[facts["step"] - 1])


def test_what_a_stage_starts_with_is_recorded(done: api.Planned, evidence: Evidence) -> None:
    recipe = done.plan.decoders["moe"].recipe
    text = scored_windows(tiny_suites.corpus(done), recipe, tokens=recipe.eval_tokens)
    for name, given in {
        "full": job_of(done, "moe"),
        "lora": job_of(done, "moe"),
        "early": replays(done)["early"],
    }.items():
        run = evidence.outcome(name, 0)
        assert run is not None
        model = load_trained(done.results, job_of(done, "moe").id)
        model.load_state_dict(weights_of(done, given))
        loss = evaluate(DecoderSubject(model, tiny_suites.corpus(done).tokenizer), text).bits_per_byte()
        assert run.values["start.bits_per_byte"] == pytest.approx(loss, rel=1e-6)
        share = Results(done.results).job(given.id).read("replayed.json")["step"] / 12 if name == "early" else 1.0
        assert run.values["start.share"] == share


@pytest.mark.parametrize("name", ["full", "router", "lora", "dense_full", "again", "on"])
def test_flops_and_bytes_are_those_that_were_planned(done: api.Planned, evidence: Evidence, name: str) -> None:
    run, planned = evidence.outcome(name, 0), done.plan.decoders[name]
    assert run is not None
    assert run.values["train.model_flops"] == planned.expected_train_flops
    trained = planned.costs.trained_params or 0
    assert run.values["memory.train_peak_bytes[part=gradients]"] <= 4 * trained
    optimizer = run.values["memory.train_peak_bytes[part=optimizer]"]
    assert 8 * trained <= optimizer <= 8 * trained + 4 * 100
    beside = planned.costs.train_state_bytes - 12 * trained - 4 * planned.costs.params.total
    buffers = run.values["memory.train_peak_bytes[part=weights]"] - 4 * planned.costs.params.total - beside
    assert 0 <= buffers <= 4 * 16 * 16 * 4  # tables of positions
    parent = evidence.outcome("dense" if name == "dense_full" else "moe", 0)
    assert parent is not None  # as it is used, nothing stands beside its weights
    same = "memory.inference_peak_bytes[part=weights]"
    assert run.values[same] == parent.values[same]


def test_flops_of_some_experts_are_at_most_those_that_were_planned(done: api.Planned, evidence: Evidence) -> None:
    run, planned = evidence.outcome("some", 0), done.plan.decoders["some"]
    assert run is not None
    assert isinstance(planned.blueprint.layers[0].ffn, Experts)
    assert 0.7 * planned.expected_train_flops < run.values["train.model_flops"] < planned.expected_train_flops


def test_text_outside_the_stage_is_scored_so_that_forgetting_is_seen(evidence: Evidence) -> None:
    for seed in (0, 1):
        run = evidence.outcome("narrow", seed)
        assert run is not None
        assert {"test.bits_per_byte[domain=source-0]", "test.bits_per_byte[domain=source-1]"} <= run.values.keys()


def test_stages_are_read_by_what_each_has_read(evidence: Evidence) -> None:
    assert evidence.problems == ()
    assert {run.status for run in evidence.outcomes} == {"completed"}
    runs = {name: evidence.outcome(name, 0) for name in ("moe", "full", "lora", "dense_full", "narrow")}
    assert runs["full"].digests == runs["lora"].digests == runs["dense_full"].digests  # type: ignore[union-attr]
    assert runs["narrow"].digests != runs["full"].digests  # type: ignore[union-attr]


def test_a_stage_may_be_held_against_what_it_starts_from_and_no_other_text(evidence: Evidence) -> None:
    reasons = {one.id: f"{one.state} {one.reason}" for one in judge(evidence)}
    assert "trained on different parts of the text" in reasons["other-data"]
    for name in ("recovers", "starts-equal", "forgets"):
        assert "data:" not in reasons[name], reasons[name]
    assert reasons["few-weights"].startswith("supported")


def test_merged_weights_are_exported_and_score_as_adapters_did(
    done: api.Planned, evidence: Evidence, tmp_path: Path
) -> None:
    job = job_of(done, "lora")
    folder = Results(done.results).job(job.id)
    model = load_trained(done.results, job.id)
    assert not any("lora" in name for name in model.state_dict())
    adapters = safetensors.torch.load_file(folder.path / "adapters.safetensors")
    assert {name.rsplit(".", 1)[1] for name in adapters} == {"lora_A", "lora_B"}
    before = weights_of(done, job_of(done, "moe"))
    for name, value in weights_of(done, job).items():
        if f"{name}.lora_A" in adapters:
            change = 4 / 2 * adapters[f"{name}.lora_B"] @ adapters[f"{name}.lora_A"]
            torch.testing.assert_close(value, before[name] + change)
    export_checkpoint(model, tmp_path / "out")
    text = torch.arange(64).view(4, 16)
    exported = load_native(tmp_path / "out", context=16)
    torch.testing.assert_close(exported.eval()(text).logits_BTV, model(text).logits_BTV, atol=1e-5, rtol=1e-5)
    run = evidence.outcome("lora", 0)
    assert run is not None  # the last point was scored with adapters beside, the final text by merged weights
    recipe, corpus = done.plan.decoders["lora"].recipe, tiny_suites.corpus(done)
    windows = scored_windows(corpus, recipe, tokens=recipe.eval_tokens)
    merged = evaluate(DecoderSubject(served(Run.model_validate(job.spec), folder), corpus.tokenizer), windows)
    assert dict(run.curves["curve.bits_per_byte"])[recipe.steps] == pytest.approx(merged.bits_per_byte(), abs=1e-6)


# ------------------------------------------------------------------------------------------ stopped, spoilt, unmet


@pytest.mark.parametrize("name", ["lora", "some", "early"])
def test_a_stage_that_is_stopped_goes_on_to_the_same_bits(done: api.Planned, name: str, tmp_path: Path) -> None:
    root = copied(done, tmp_path, job_of(done, name).inputs)
    job, asked = job_of(done, name), iter([False, False, True])
    for stop in (lambda: next(asked), lambda: False):
        status = loop.execute(job, root=root, on_event=lambda _: None, should_stop=stop)
    assert status == "completed"
    whole, again = (Results(one).job(job.id).path for one in (done.results, root))
    for file in ("model.safetensors", "steps.jsonl", "records.jsonl"):
        assert (whole / file).read_bytes() == (again / file).read_bytes()


def test_a_run_that_is_taken_again_and_stopped_goes_on_to_the_same_bits(done: api.Planned, tmp_path: Path) -> None:
    job = replays(done)["early"]
    root = copied(done, tmp_path, job.inputs)
    asked = iter([False] * 5 + [True])
    stopped = replay.execute(job, root=root, on_event=lambda _: None, should_stop=lambda: next(asked))
    assert stopped == "stopped"
    assert replay.execute(job, root=root, on_event=lambda _: None, should_stop=lambda: False) == "completed"
    assert torch.equal(*(safetensors.torch.load_file(Results(one).job(job.id).path / "model.safetensors")["embedding"]
                         for one in (done.results, root)))  # fmt: skip


def copied(made: api.Planned, folder: Path, inputs: tuple[str, ...]) -> Path:
    """A results folder with what some jobs need, and the data."""
    root = folder / "results"
    shutil.copytree(made.results / "data", root / "data")
    for one in inputs:
        shutil.copytree(Results(made.results).job(one).path, Results(root).job(one).path)
    return root


def test_a_run_that_goes_another_way_is_nothing_to_start_from(done: api.Planned, tmp_path: Path) -> None:
    job = replays(done)["third"]
    root = copied(done, tmp_path, job.inputs)
    steps = Results(root).job(job.inputs[0]).path / "steps.jsonl"
    rows = [json.loads(line) for line in steps.read_text().splitlines()]
    rows[2]["loss"] += 1e-9
    steps.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OtherWay, match="step 3 does not go as it went"):
        replay.execute(job, root=root, on_event=lambda _: None, should_stop=lambda: False)


def test_where_a_loss_is_never_met_it_starts_at_the_end(done: api.Planned, tmp_path: Path) -> None:
    job = replays(done)["early"]
    spec = ReplaySpec.model_validate(job.spec)
    until = spec.until.model_copy(update={"other": None, "bits_per_byte": 0.1})
    low = job.model_copy(update={"spec": spec.model_copy(update={"until": until}).model_dump(mode="json")})
    root = copied(done, tmp_path, job.inputs)
    assert replay.execute(low, root=root, on_event=lambda _: None, should_stop=lambda: False) == "completed"
    facts = Results(root).job(low.id).read("replayed.json")
    assert (facts["step"], facts["target"]) == (12, 0.1)
    assert facts["bits_per_byte"] > 1


def test_rates_are_chosen_on_the_domain_that_is_asked_for(tmp_path: Path) -> None:
    models = {name: MODELS[name] for name in ("moe", "dense", "full", "early")}
    tune = {"lr": [1e-3, 3e-3, 9e-3], "models": ["full", "early"], "domain": "source-0"}
    path = tiny_suites.write(tmp_path, models=models, tune=tune)
    assert tiny_suites.call_run(path, "--tune").exit_code == 0
    results = Results(tmp_path / "results")
    made = api.prepare_plan(path, results=tmp_path / "results")
    assert made.plan.tune is not None
    summary = json.loads((results.tune(made.plan.tune.id).path / "tune.json").read_text())
    for name in ("full", "early"):
        curve = [point for point in summary["models"][name]["curve"] if "extension" not in point]
        for point in curve:
            run = next(run[-1] for run in made.plan.tune.runs if run[:2] == (name, point["lr"]))
            records = results.job(evaluate_job.id_of(run, "quality")).records()
            told = {record.metric: record.value for record in records}
            assert point["bits_per_byte"] == told["tune.bits_per_byte[domain=source-0]"] != told["tune.bits_per_byte"]
        assert len(curve) == 3


def test_stages_that_were_to_start_alike_and_do_not_are_no_pair(evidence: Evidence) -> None:
    """The mixture's own end is a better start: what it gains there is no gain of tuning."""

    def judged(loss: float) -> str:
        runs = tuple(
            replace(run, values={**run.values, "start.bits_per_byte": loss if run.model == "early" else 3.0})
            if "start.bits_per_byte" in run.values
            else run
            for run in evidence.outcomes
        )
        return next(f"{one.state} {one.reason}" for one in judge(replace(evidence, outcomes=runs)) if one.id == "alike")

    assert "to start at an equal loss, and start 2.0% apart: dense_full at 3 and early at 2.941" in judged(3.0 / 1.02)
    assert "start:" not in judged(3.0 / 1.005)


def test_the_loss_on_what_was_read_is_measured_of_a_models_own_part(done: api.Planned, evidence: Evidence) -> None:
    for name in ("narrow", "lora"):
        job, run = job_of(done, name), evidence.outcome(name, 0)
        assert run is not None
        view = prepare(job.data, base=job.base, cache=done.results / "data", part=job.view)
        text = evaluation_windows(view, "train", tokens=done.plan.decoders[name].recipe.eval_tokens)
        model = served(Run.model_validate(job.spec), Results(done.results).job(job.id))
        expected = evaluate(DecoderSubject(model, view.tokenizer), text).bits_per_byte()
        assert run.values["fit.bits_per_byte"] == pytest.approx(expected)
    assert {document.domain for document in view.documents("train")} >= {"source-0", "source-1"}
