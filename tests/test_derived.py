"""`start: MODEL` with a stage: the suite language, the graph of jobs, and what a results folder tells of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.data.batches import Windows, evaluation_windows
from moebench.data.corpus import Corpus
from moebench.environment import environment
from moebench.jobs import transform
from moebench.jobs.measuring import load_state
from moebench.jobs.recipe import Run
from moebench.launch import launch
from moebench.models.generation import load_trained
from moebench.planning.graph import make_graph
from moebench.planning.machine import no_facts
from moebench.planning.matching import Machine
from moebench.planning.types import Plan
from moebench.reader.evidence import gather
from moebench.reporting import _findings
from moebench.reporting.tables import TABLES
from moebench.store import JobFolder, Results, open_results, write_bundle, write_json
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites
from tests.support.small_models import tokens

pytestmark = pytest.mark.numeric

BOTH = tiny_suites.suite()["models"]
MODELS: dict[str, Any] = {
    "int4_of_small": {"start": "small", "quantise": {"bits": 4, "group": 8}},
    "small": {"start": "moe", "prune": {"experts": "25%"}},
    **BOTH,
    "dense_int4": {"start": {"model": "dense"}, "quantise": {"bits": 4, "group": 8}},
    "asked": {"start": "moe", "sweep": {"route.top_k": [1, 2]}},
    "sixteen": {"start": "small", "quantise": {"bits": 16}},
}
"""One that starts from another that does, both before what they start from."""
COSTS = {
    "costs-no-more": {
        "says": "Four bits cost the mixture no more than the dense model.",
        "compare": {"treatment": "int4_of_small", "baseline": "small"},
        "minus": {"treatment": "dense_int4", "baseline": "dense"},
        "metric": "test.bits_per_byte",
        "test": {"kind": "non_inferior", "margin": "1%"},
    },
    "saves-more": {
        "says": "Four bits save a larger share of the mixture's bytes than of the dense model's.",
        "compare": {"treatment": "int4_of_small", "baseline": "small"},
        "minus": {"treatment": "dense_int4", "baseline": "dense"},
        "metric": "cost.weight_bytes",
        "test": {"kind": "superior", "margin": "0%"},
    },
}


def problems_of(folder: Path, **changes: Any) -> list[str]:
    path = tiny_suites.write(folder, **changes)
    try:
        load_suite(path)
    except SuiteError as error:
        return [f"{one.position}: {one.message} ({one.hint})" for one in error.problems]
    return []


# ------------------------------------------------------------------------------------------ language


def test_it_has_the_sizes_recipe_and_data_of_what_it_starts_from(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path, models=MODELS)
    models, spec = made.plan.decoders, made.plan.spec
    assert models["small"].architecture.ffn.experts == 3
    assert models["small"].recipe == models["moe"].recipe
    assert models["dense_int4"].architecture == models["dense"].architecture  # with the width that its match solved
    assert models["int4_of_small"].architecture == models["small"].architecture
    assert models["asked.top_k-1"].architecture.ffn.top_k == 1
    assert spec.sweeps["asked"]["asked.top_k-1"] == {"route.top_k": 1}
    assert list(made.plan.trained) == ["moe", "dense"]
    assert made.plan.data_of("small") == made.plan.data_of("moe")


def test_the_resolved_suite_is_the_same_suite(tmp_path: Path) -> None:
    spec = load_suite(tiny_suites.write(tmp_path, models=MODELS, claims=COSTS)).spec
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(spec))
    assert load_suite(again).spec == spec


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"start": "meo", "route": {"top_k": 1}}, "no model of this suite: 'meo' (did you mean 'moe'?)"),
    "itself": ({"start": "bad", "route": {"top_k": 1}}, "start is cyclic: bad -> bad"),
    "no name": ({"start": {"model": 3}, "route": {"top_k": 1}}, "start names a model, not the number 3"),
    "no stage": ({"start": "moe"}, "nothing is done to moe"),
    "misspelt": ({"start": "moe", "quantize": {"bits": 4}}, "is 'quantize' meant to be 'quantise'?"),
    "two stages": ({"start": "moe", "route": {"top_k": 1}, "prune": {"keep": 3}}, "are two stages"),
    "training": ({"start": "moe", "route": {"top_k": 1}, "train": {"batch_tokens": 64}}, "are two stages of moe"),
    "another width": ({"start": "moe", "route": {"top_k": 1}, "width": 32}, "width is not to be changed here"),
    "a match": ({"start": "moe", "route": {"top_k": 1}, "match": {"to": "dense", "on": "total_params"}}, "match is"),
    "no start": ({"base": "moe", "prune": {"keep": 3}}, "prune changes the weights of a model of the suite"),
    "too many": ({"start": "moe", "route": {"top_k": 9}}, "top_k 9 is more than the 4 experts there are"),
    "no experts": ({"start": "dense", "route": {"top_k": 1}}, "dense: it has no experts to route to"),
    "nothing to prune": ({"start": "dense", "prune": {"keep": 3}}, "it has no experts to prune"),
    "no whole number": ({"start": "moe", "prune": {"experts": "30%"}}, "30% of 4 experts is 1.2, no whole number"),
    "too few": ({"start": "moe", "prune": {"keep": 1}}, "1 experts are fewer than the 2 that a token goes to"),
    "no share": ({"start": "moe", "prune": {"experts": 2}}, "experts is the share that goes"),
    "both": ({"start": "moe", "prune": {"experts": "25%", "keep": 3}}, "give one of `experts`"),
    "no bits": ({"start": "moe", "quantise": {"bits": 5}}, "bits cannot be the number 5: use 3, 4, 8 or 16"),
    "no experts of it": ({"start": "dense", "quantise": {"bits": 4, "of": "experts"}}, "write of: ffn"),
    "random": ({"start": "drawn", "route": {"top_k": 1}}, "drawn has `weights: random`: there is nothing"),
}  # fmt: skip
DRAWN = {"drawn": {"base": "moe", "weights": "random"}}


@pytest.mark.parametrize("named", REFUSED)
def test_what_cannot_be_is_refused_at_its_line(tmp_path: Path, named: str) -> None:
    model, says = REFUSED[named]
    found = problems_of(tmp_path, models={**BOTH, **DRAWN, "bad": model})
    assert len(found) == 1
    assert says in found[0]
    assert found[0].startswith(str(tmp_path))


def test_a_circle_is_one_mistake(tmp_path: Path) -> None:
    circle = {one: {"start": other, "route": {"top_k": 1}} for one, other in ("ab", "ba")}
    found = problems_of(tmp_path, models={**BOTH, **circle})
    assert len(found) == 1
    assert "start is cyclic: a -> b -> a" in found[0]


def test_a_sweep_and_a_checkpoint_are_nothing_to_start_from(tmp_path: Path) -> None:
    swept = {
        **BOTH,
        "more": {"base": "moe", "sweep": {"ffn.experts": [4, 8]}},
        "bad": {"start": "more", "route": {"top_k": 1}},
    }
    assert (
        "more is a sweep of several models (name one of them: more.experts-4" in problems_of(tmp_path, models=swept)[0]
    )
    named = {**swept, "bad": {"start": "more.experts-8", "route": {"top_k": 8}}}
    assert problems_of(tmp_path, models=named) == []
    loaded = {**BOTH, "file": {"checkpoint": "folder"}, "bad": {"start": "file", "route": {"top_k": 1}}}
    assert "file is a checkpoint" in problems_of(tmp_path, models=loaded)[0]


def test_nothing_else_is_asked_of_it_that_only_training_gives(tmp_path: Path) -> None:
    pruned = {**BOTH, "small": {"start": "moe", "prune": {"keep": 3}}}
    assert (
        "small is moe with its weights changed: it is never trained"
        in problems_of(tmp_path, models=pruned, controls={"shuffled": "small"})[0]
    )
    matched = {**pruned, "other": {"base": "dense", "match": {"to": "small", "on": "total_params"}}}
    assert "nothing is matched to it (match it to moe)" in problems_of(tmp_path, models=matched)[0]
    for metric, says in {"train.bits_per_token": "no training of its own", "tokens_to_quality": "no training"}.items():
        asked = tiny_suites.claim(metric=metric, compare={"treatment": "small", "baseline": "moe"})
        if metric == "tokens_to_quality":
            asked |= {"target": {"reach": 3.0}, "test": {"kind": "ratio_at_least", "value": 1.0}}
        assert says in problems_of(tmp_path, models=pruned, claims={"c": asked})[0]


def test_times_and_memory_are_not_asked_of_weights_that_are_unpacked(tmp_path: Path) -> None:
    models = {**BOTH, "int4": {"start": "moe", "quantise": {"bits": 4}}}
    speed = {"speed": {"train_step": False, "prefill": [8], "processes": 2, "seconds": 1}}
    asked = {"compare": {"treatment": "int4", "baseline": "moe"}, "test": {"kind": "ratio_at_least", "value": 1.0}}
    for metric in ("speed.prefill_s[tokens=8]", "memory.inference_peak_bytes"):
        claims = {"c": tiny_suites.claim(metric=metric, **asked)}
        found = problems_of(tmp_path, models=models, claims=claims, measure=speed)
        assert "products are taken with weights that were unpacked" in found[0]
    made = tiny_suites.planned(
        tmp_path, models={**models, "small": {"start": "moe", "prune": {"keep": 3}}}, measure=speed
    )
    assert made.plan.speed is not None
    assert made.plan.speed.models == ("moe", "dense", "small")


# ------------------------------------------------------------------------------------------ plan and jobs


def test_no_id_of_what_it_starts_from_moves(tmp_path: Path) -> None:
    alone, with_more = (tiny_suites.planned(tmp_path, models=models) for models in (BOTH, MODELS))
    ids = [{job.id for job in made.graph.jobs} for made in (alone, with_more)]
    assert ids[0] < ids[1]
    assert alone.plan.training("moe") == with_more.plan.training("moe")


def test_its_job_starts_from_the_same_seed(tmp_path: Path) -> None:
    graph = tiny_suites.planned(tmp_path, models=MODELS).graph
    jobs = {(job.model, job.seed): job for job in graph.jobs if job.kind in ("train", "transform")}
    for (model, seed), job in jobs.items():
        derived = graph.plan.decoders[model].derived
        assert job.kind == ("train" if derived is None else "transform")
        assert job.inputs == (() if derived is None else (jobs[derived.model, seed].id,))
    order = [job.id for job in graph.jobs]
    assert all(order.index(one) < order.index(job.id) for job in jobs.values() for one in job.inputs)
    measured = [job.spec["measurement"] for job in graph.jobs if job.kind == "evaluate" and job.model == "dense_int4"]
    assert set(measured) == {"quality"}  # no peak of memory, which would be that of the unpacked weights


def test_its_seal_is_of_what_it_starts_from_and_of_what_is_done(tmp_path: Path) -> None:
    def seal(**changes: Any) -> str:
        made = tiny_suites.planned(tmp_path, models={**MODELS, **changes}, claims=COSTS)
        return made.plan.seal("costs-no-more")

    sealed = seal()
    assert sealed == seal()
    assert sealed != seal(dense_int4={"start": "dense", "quantise": {"bits": 3, "group": 8}})
    wider = {**BOTH["moe"], "ffn": {**BOTH["moe"]["ffn"], "expert_hidden": 24}}
    assert sealed != seal(moe=wider)
    assert sealed != seal(small={"start": "moe", "prune": {"experts": "25%", "by": "chance"}})


@pytest.mark.parametrize("spoilt", ["unknown", "circle", "job"])
def test_a_plan_that_was_tampered_with_is_no_plan(tmp_path: Path, spoilt: str) -> None:
    plan = json.loads(tiny_suites.planned(tmp_path, models=MODELS).plan.model_dump_json())
    assert Plan.model_validate(plan)
    if spoilt == "job":
        next(job for job in plan["jobs"] if job["kind"] == "transform")["inputs"] = ["0" * 20]
    else:
        plan["models"]["small"]["derived"]["model"] = {"unknown": "nobody", "circle": "int4_of_small"}[spoilt]
    with pytest.raises(ValueError, match=r"starts from what it has no model of|a run that it does not have"):
        Plan.model_validate(plan)


def test_suites_that_share_runs_share_none_with_suites_whose_results_stand() -> None:
    """Run from one folder, what routing or serving trains is not trained again; and no claim of theirs is post hoc."""
    suites = Path(__file__).parents[1] / "suites"
    ids: dict[str, set[str]] = {}
    stand = ("systems", "known_findings", "quickstart")
    for name in ("experts", "offloading", "routing", "serving", "stability", *stand):
        spec = load_suite(suites / f"{name}.yaml").spec
        facts = {"facts": no_facts(), "vocab": 256, "machine": Machine(), "base": suites}
        jobs = make_graph(spec, **facts).jobs
        ids[name] = {job.id for job in jobs if job.kind == "train" and job.model in spec.models}
    before = set().union(*(ids.pop(name) for name in stand))
    assert all(mine.isdisjoint(before) for mine in ids.values())
    assert len(ids["serving"] - ids["routing"]) == 8  # the dense model of equal total size
    assert ids["offloading"] <= ids["routing"]
    assert len(ids["experts"] & ids["routing"]) == 3 * 8


# ------------------------------------------------------------------------------------------ carried out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    folder = tmp_path_factory.mktemp("derived")
    path = tiny_suites.write(folder, models=MODELS, claims=COSTS)
    made = api.prepare_plan(path, results=folder / "results", launcher="inline")
    Results(made.results).save_plan(made.plan, environment(1))
    assert set(launch(list(made.graph.jobs), made.options).values()) == {"completed"}
    return made


def test_it_is_read_as_any_run_with_the_tokens_of_its_parent(done: api.Planned) -> None:
    results = Results(done.results)
    evidence = gather(results, results.plans()[0])
    assert evidence.problems == ()
    assert {run.status for run in evidence.outcomes} == {"completed"}
    for seed in (0, 1):
        parent = evidence.outcome("moe", seed)
        for name in ("small", "int4_of_small", "asked.top_k-1"):
            run = evidence.outcome(name, seed)
            assert run is not None and parent is not None  # noqa: PT018
            assert run.digests == parent.digests
            assert run.test_digest == parent.test_digest
            assert run.values["test.bits_per_byte"] != parent.values["test.bits_per_byte"]
            assert run.values["routing.entropy"] > 0
    for changed, parent in (("asked.top_k-2", "moe"), ("sixteen", "small")):
        same = [evidence.outcome(name, 0) for name in (changed, parent)]
        assert same[0] is not None and same[1] is not None  # noqa: PT018
        shared = same[0].values.keys() & same[1].values.keys()
        assert {"test.bits_per_byte", "routing.entropy"} < shared
        assert all(same[0].values[metric] == same[1].values[metric] for metric in shared)  # to the bit


def test_a_bundle_of_it_says_the_same(done: api.Planned, tmp_path: Path) -> None:
    results = Results(done.results)
    stored = results.plans()[0]
    write_bundle(results, stored, tmp_path / "bundle")
    here, there = gather(results, stored), gather(open_results(tmp_path / "bundle"), stored)
    assert there.problems == ()
    assert [(run.values, run.digests, run.test_digest) for run in here.outcomes] == [
        (run.values, run.digests, run.test_digest) for run in there.outcomes
    ]


def _run(done: api.Planned, model: str, seed: int = 0) -> JobFolder:
    planned = next(run for run in done.plan.runs if (run.model, run.seed) == (model, seed))
    return Results(done.results).job(planned.id)


def test_its_weights_are_found_by_its_id(done: api.Planned) -> None:
    """Packed or not: as a model to write text with, or to measure."""
    texts = tokens(2, 16)
    for name in ("int4_of_small", "small", "asked.top_k-1"):
        model = load_trained(done.results, _run(done, name).id)
        assert model.architecture == done.plan.decoders[name].architecture
        assert model(texts).logits_BTV.isfinite().all()


def test_the_file_of_packed_weights_is_as_large_as_counted(done: api.Planned) -> None:
    raw = (_run(done, "int4_of_small").path / "model.safetensors").read_bytes()
    header = int.from_bytes(raw[:8], "little") + 8
    assert len(raw) - header == done.plan.decoders["int4_of_small"].costs.weight_bytes


def test_what_is_packed_is_no_checkpoint_of_another_suite(done: api.Planned, tmp_path: Path) -> None:
    for name, says in {"int4_of_small": "is packed: it is no checkpoint", "small": ""}.items():
        loaded = {**BOTH, "loaded": {"checkpoint": str(_run(done, name).path)}}
        if says:
            with pytest.raises(SuiteError, match=says):
                tiny_suites.planned(tmp_path, models=loaded)
        else:
            assert tiny_suites.planned(tmp_path, models=loaded).plan.models["loaded"].costs is not None


def test_loads_are_those_of_the_tune_split(done: api.Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test split has no part in who stays: reading it for that would fit the model to what it is scored on."""
    read: list[str] = []

    def windows(corpus: Corpus, split: str, **facts: Any) -> Windows:
        read.append(split)
        return evaluation_windows(corpus, split, **facts)

    monkeypatch.setattr("moebench.data.batches.evaluation_windows", windows)
    folder, corpus = _run(done, "moe"), tiny_suites.corpus(done)
    loads = transform.loads_of(load_state(Run.model_validate(folder.spec()), folder).model, corpus)
    assert read == ["tune"]
    scored = evaluation_windows(corpus, "tune", tokens=transform.LOADS_TOKENS, windows_per_document=None)
    assert loads.sum(1).tolist() == [2 * int(scored.mask.sum())] * 2
    kept = [layer.ffn.gate_up for layer in load_trained(done.results, _run(done, "small").id).layers]
    whole = [layer.ffn.gate_up for layer in load_trained(done.results, folder.id).layers]
    for mine, all_of_them, load_E in zip(kept, whole, loads, strict=True):
        stays = load_E.argsort(descending=True, stable=True)[:3].sort().values
        assert mine.equal(all_of_them[stays])


def test_the_report_says_what_was_done_and_what_it_saves(done: api.Planned) -> None:
    findings = _findings(results := Results(done.results), results.plans()[0], "here")
    table = TABLES["derived"](findings)
    assert table is not None
    frame = table.frame.set_index("model")
    assert frame.loc["sixteen", "change_percent"] == 0
    assert frame.loc["int4_of_small", "made_of"] == "small"
    assert frame.loc["int4_of_small", "weight_bytes"] < 0.3 * frame.loc["int4_of_small", "its_weight_bytes"]
    verdict = next(one for one in findings.verdicts if one.id == "costs-no-more")
    assert "int4_of_small is small quantised to 4 bits (all matrices, the token table that is" in verdict.scope
    assert "int4_of_small over small: of one training" in verdict.scope
    saves = next(one for one in findings.verdicts if one.id == "saves-more")
    bytes_ = {name: model.costs.weight_bytes for name, model in done.plan.decoders.items()}
    more = bytes_["int4_of_small"] / bytes_["small"] < bytes_["dense_int4"] / bytes_["dense"]
    assert saves.state == ("supported" if more else "refuted")


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_nothing_is_made_of_a_run_that_did_not_complete(tmp_path: Path, status: str) -> None:
    made = tiny_suites.planned(tmp_path, models={**BOTH, "small": {"start": "moe", "prune": {"keep": 3}}}, seeds=1)
    parent = next(job for job in made.graph.jobs if (job.kind, job.model) == ("train", "moe"))
    folder = Results(made.results).job(parent.id)
    with folder.lock():
        write_json(folder.path / "job.json", {"job": parent.identity})
        folder.finish("diverged", reason="planted") if status == "diverged" else folder.fail(
            "crash", "planted", None, None
        )
    jobs = [job for job in made.graph.jobs if job.model == "small"]
    statuses = launch(jobs, made.options)
    assert set(statuses.values()) == {"diverged" if status == "diverged" else "blocked"}
