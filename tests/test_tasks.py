"""Tasks of lm-eval in a suite: planned, measured on every run, judged by item; and lm-eval's own command line."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moebench import api
from moebench.claims.judge import judge
from moebench.claims.sealing import post_hoc
from moebench.environment import environment
from moebench.launch import launch
from moebench.launch.process import child_environment
from moebench.metrics import in_force, metric_of
from moebench.planning.tasks import check_claims, planned_tasks, task_metrics
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, gather
from moebench.reporting import _findings
from moebench.store import Results
from moebench.suite.load import load_suite
from moebench.tasks.configs import CODE_VARIABLE, TaskError, bundled_folder, task_facts
from moebench.tasks.facts import TaskFacts, TaskMetric
from moebench.tasks.harness import chance_of, measured
from tests.support import small_checkpoints, small_tasks, tiny_suites

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("default")  # of datasets and what it imports

TASKS = ["small_choice", "small_ending", "small_rolling", "small_writing"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module", autouse=True)
def _lm_eval() -> None:
    """Imported where its warnings are nobody's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval.evaluator  # noqa: F401


def asked(tasks: list[str], **options: Any) -> dict[str, Any]:
    return {"memory": False, "lm_eval": {"tasks": tasks, "include_path": "tasks", **options}}


def suite_in(folder: Path, **changes: Any) -> Path:
    claims = {"knows": tiny_suites.claim(metric="lm_eval.acc[task=small_choice]")}
    usual: dict[str, Any] = {"seeds": 1, "data": {**tiny_suites.SYNTHETIC, "context": 32}, "claims": claims}
    return tiny_suites.write(folder, **{**usual, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a suite whose tasks are measured."""
    folder = tmp_path_factory.mktemp("tasks")
    small_tasks.write(folder / "tasks")
    found = tiny_suites.call_run(suite_in(folder, measure=asked(TASKS)))
    assert found.exit_code == 0, found.output
    return folder


@pytest.fixture(scope="module")
def evidence(done: Path) -> Evidence:
    return gathered(done)


def gathered(folder: Path, suite: str = "tiny") -> Evidence:
    results = Results(folder / "results")
    return gather(results, next(stored for stored in results.plans() if stored.plan.suite == suite))


@pytest.fixture(scope="module")
def theirs(done: Path, evidence: Evidence) -> dict[str, Any]:
    """lm-eval's own command line on a run of ours, in a process as an installation starts it: the .pth is read."""
    run = next(one for one in evidence.plan.runs if one.model == "moe")
    start = f"import site; site.addpackage({str(ROOT)!r}, 'moebench-lm-eval.pth', None)\n"
    start += "from lm_eval.__main__ import cli_evaluate\nimport sys\nsys.argv[0] = 'lm_eval'\ncli_evaluate()"
    command = [sys.executable, "-c", start, "run", "--model", "moebench"]
    command += ["--model_args", f"run={done / 'results' / 'jobs' / run.id}", "--tasks", *TASKS]
    command += ["--include_path", str(done / "tasks"), "--output_path", str(done / "out"), "--log_samples"]
    environment = {**child_environment(1), "HF_DATASETS_CACHE": str(done / "cache"), "DISABLE_MULTIPROC": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=done)
    assert ended.returncode == 0, ended.stderr[-2000:]
    (written,) = (done / "out").rglob("results_*.json")
    samples = {
        task: [json.loads(line) for line in next(written.parent.glob(f"samples_{task}_*")).read_text().splitlines()]
        for task in TASKS
    }
    return {"results": json.loads(written.read_text())["results"], "samples": samples}


# ------------------------------------------------------------------------------------------------ measured


def test_lm_evals_own_command_line_gives_the_numbers_of_the_suite(evidence: Evidence, theirs: dict[str, Any]) -> None:
    run = evidence.outcome("moe", 0)
    assert run is not None
    compared = 0
    for facts in evidence.plan.tasks.values():
        for metric in facts.metrics:
            name, expected = facts.named(metric), theirs["results"][facts.name][metric.key]
            if expected > 1e30:
                assert "beyond what can be compared" in run.absent[name]
            else:
                assert run.values[name] == pytest.approx(expected, rel=1e-5), name
                compared += 1
    assert compared >= 8


def test_items_are_lm_evals_documents_and_add_up_to_its_aggregate(evidence: Evidence, theirs: dict[str, Any]) -> None:
    run = evidence.outcome("moe", 0)
    assert run is not None
    for metric in ("acc", "acc_norm", "brier_score"):
        items = run.items[f"lm_eval.{metric}[task=small_choice]"]
        assert [item.name for item in items] == [row["doc_hash"] for row in theirs["samples"]["small_choice"]]
        assert {item.group for item in items} == {f"passage {n}" for n in range(12)}
        aggregate = theirs["results"]["small_choice"][f"{metric},none"]
        assert sum(item.value for item in items) / 24 == pytest.approx(aggregate, rel=1e-5)
    rolled = run.items["lm_eval.bits_per_byte[task=small_rolling]"]
    assert [item.size for item in rolled] == [2 * (3 + 4 * n) for n in range(6)]
    aggregate = theirs["results"]["small_rolling"]["bits_per_byte,none"]
    total = sum(item.value for item in rolled) / sum(item.size for item in rolled)
    assert total == pytest.approx(aggregate, rel=1e-5)


def test_what_is_no_sum_over_documents_has_no_items(evidence: Evidence) -> None:
    run = evidence.outcome("moe", 0)
    assert run is not None
    without = {"lm_eval.perplexity[task=small_ending]", "lm_eval.byte_perplexity[task=small_rolling]"}
    assert without <= run.values.keys() - run.items.keys()


def test_a_document_that_is_there_twice_is_two_items_of_one_group(evidence: Evidence) -> None:
    """Two of the eight endings are those of two others."""
    run = evidence.outcome("moe", 0)
    assert run is not None
    items = run.items["lm_eval.acc[task=small_ending]"]
    assert len({item.name for item in items}) == 8
    assert sorted(item.name.partition("#")[2] for item in items) == ["", "", "", "", "", "", "1", "1"]
    assert sorted(map(bool, (item.group for item in items))) == [False] * 4 + [True] * 4


def test_direction_version_and_conditions_come_from_the_task(evidence: Evidence) -> None:
    plan = evidence.plan
    assert plan.tasks["small_choice"].version == "2.0"
    with in_force(plan.extra_metrics):
        assert metric_of("lm_eval.acc[task=small_choice]").better == "higher"
        assert metric_of("lm_eval.brier_score[task=small_choice]").better == "lower"
        assert metric_of("lm_eval.bits_per_byte[task=small_rolling]").unit == "bits/byte"
    run = evidence.outcome("dense", 0)
    assert run is not None
    assert run.conditions["lm_eval.acc[task=small_choice]"] == "0-shot, version 2.0"
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_task_asked_for_later_trains_nothing_and_another_limit_is_another_job(done: Path, evidence: Evidence) -> None:
    path = suite_in(done, measure=asked(TASKS, limit=5), suite="later", claims={})
    found = tiny_suites.call_run(path)
    assert found.exit_code == 0, found.output
    later = gathered(done, "later")
    assert [run.id for run in later.plan.runs] == [run.id for run in evidence.plan.runs]
    run = later.outcome("moe", 0)
    assert run is not None
    assert len(run.items["lm_eval.acc[task=small_choice]"]) == 5


def test_what_lm_eval_wrote_stands_beside_what_is_measured_here(done: Path, theirs: dict[str, Any]) -> None:
    """The same task at the same version, from a folder and from a job of ours: one metric, and equal numbers."""
    models = {**tiny_suites.suite()["models"], "written": {"results": "out"}}
    claim = tiny_suites.claim(
        compare={"treatment": "written", "baseline": "moe"}, metric="lm_eval.acc[task=small_choice]"
    )
    path = suite_in(done, suite="beside", models=models, measure=asked(TASKS), claims={"same": claim})
    found = tiny_suites.call_run(path)
    assert found.exit_code == 0, found.output
    assert "corrupt" not in found.output
    beside = gathered(done, "beside")
    written, ours = beside.outcome("written", 0), beside.outcome("moe", 0)
    assert written is not None
    assert ours is not None
    name = "lm_eval.acc[task=small_choice]"
    assert written.values[name] == pytest.approx(ours.values[name]) == theirs["results"]["small_choice"]["acc,none"]
    assert written.conditions[name] == ours.conditions[name]
    assert written.items[name] == ours.items[name], "of the same documents, in the same groups"
    planned = tiny_suites.call("plan", path, "--results", done / "results").output
    assert "small_choice (0-shot, version 2.0)" in planned
    assert f"; 0 of {2 * len(TASKS)} measurements to do" in planned


def test_global_generators_are_as_they_were(done: Path, evidence: Evidence) -> None:
    from moebench.models.decoder.subject import DecoderSubject
    from moebench.models.generation import load_trained
    from moebench.tasks.harness import Place, measure_task

    subject = DecoderSubject(load_trained(done / "results", evidence.plan.runs[0].id))
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    place = Place(cache=done / "results" / "data" / "lm_eval", include=done / "tasks")
    options = evidence.plan.tasks["small_choice"].options
    measure_task(subject, options, place, step=None, on_progress=lambda *_: None)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    with pytest.raises(TaskError, match="no longer what was planned"):
        measure_task(subject, {**options, "digest": "other"}, place, step=None, on_progress=lambda *_: None)


def test_a_task_that_fails_costs_its_own_metrics_alone(done: Path, tmp_path: Path) -> None:
    """Its data lie nowhere: exit 3, the reason named, and every other number is there."""
    small_tasks.write(tmp_path / "tasks")
    (tmp_path / "tasks" / "small_writing.jsonl").unlink()
    found = tiny_suites.call_run(suite_in(tmp_path, measure=asked(["small_choice", "small_writing"])))
    assert found.exit_code == 3, found.output
    run = gathered(tmp_path).outcome("moe", 0)
    assert run is not None
    assert run.status == "completed"
    assert "documents of the task small_writing cannot be had" in run.absent["lm_eval.exact_match[task=small_writing]"]
    assert {"test.bits_per_byte", "lm_eval.acc[task=small_choice]"} <= run.values.keys()


def test_checkpoints_are_measured_on_tasks_and_judged_over_items_alone(tmp_path: Path) -> None:
    """Two of one run each, with tokenizers of their own; the scope of the verdict says so."""
    from ruamel.yaml import YAML

    small_tasks.write(tmp_path / "tasks")
    for name, family, tokens in (("moe", "mixtral", "byte_level"), ("dense", "llama", "metaspace")):
        small_checkpoints.save(tmp_path / name, family, tokenizer=tokens, steps=5)
    suite = {
        "suite": "published",
        "question": "Which knows more?",
        "models": {"moe": {"checkpoint": "moe"}, "dense": {"checkpoint": "dense"}},
        "measure": {"lm_eval": {"tasks": ["small_choice"], "include_path": "tasks"}},
        "claims": {"more": tiny_suites.claim(metric="lm_eval.acc[task=small_choice]")},
    }
    with (tmp_path / "published.yaml").open("w") as file:
        YAML().dump(suite, file)
    found = tiny_suites.call_run(tmp_path / "published.yaml")
    assert found.exit_code == 0, found.output
    (verdict,) = json.loads((tmp_path / "reports" / "published" / "claims.json").read_text())["claims"]
    assert (verdict["units"], verdict["n"]) == ("items", 24)
    assert "one run each" in found.output


# ------------------------------------------------------------------------------------------------ planned


def refused(folder: Path, **changes: Any) -> str:
    found = tiny_suites.call("validate", suite_in(folder, **changes))
    assert found.exit_code == 2, found.output
    return " ".join(found.output.split())


def test_what_cannot_be_asked_is_refused_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tasks.write(tmp_path / "tasks")
    small_tasks.write_yaml(
        tmp_path / "tasks" / "long.yaml",
        {"task": "small_long", "dataset_path": "json", "output_type": "generate_until", "test_split": "test"},
    )
    # the folder alone is searched here: lm-eval's own tasks take seconds
    monkeypatch.setattr("moebench.tasks.configs.manager_of", _own_alone)
    words = refused(tmp_path, measure=asked(["small_choise"]))
    assert "lm-eval has no task 'small_choise'" in words
    assert "small_choice" in words.partition("no task")[2]
    assert "tiny.yaml:" in words
    assert "asked for twice" in refused(tmp_path, measure=asked(["small_choice", "small_choice"]))
    assert "256 tokens written, and the context is 32" in refused(tmp_path, measure=asked(["small_long"]), claims={})
    assert "is no folder" in refused(tmp_path, measure=asked(["small_choice"], include_path="nowhere"))
    words = refused(tmp_path, measure=asked(["small_ending"]))
    assert "does not measure lm_eval.acc[task=small_choice]" in words
    assert "lm_eval.acc[task=small_ending]" in words
    assert "lm_eval" in refused(tmp_path, measure={"memory": False})


def _own_alone(include: Path | None, *names: str) -> Any:
    from moebench.tasks import configs

    if include is None or not include.is_dir():
        raise TaskError(f"include_path {include} is no folder")
    files = tuple((str(path), path.stat().st_mtime_ns) for path in sorted(include.rglob("*.yaml")))
    return configs._manager((include,), files, with_defaults=False)


def test_without_lm_eval_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_tasks.write(tmp_path / "tasks")
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", None)
    assert "pip install 'moebench[eval]'" in refused(tmp_path, measure=asked(["small_choice"]))


def facts_of(name: str, include: Path, **options: Any) -> TaskFacts:
    usual: dict[str, Any] = {"num_fewshot": None, "limit": None}
    (facts,) = task_facts(name, include=include, **{**usual, **options})
    return facts


def test_code_of_a_folder_of_tasks_runs_for_nobody_who_has_not_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_tasks.write(tmp_path / "tasks")
    touched = tmp_path / "touched"
    (folder / "code.py").write_text(f"open({str(touched)!r}, 'w')\ndef text(doc):\n    return 'x'\n")
    plain = (folder / "small_choice.yaml").read_text()
    (folder / "coded.yaml").write_text(plain.replace("small_choice", "coded") + "process_docs: !function code.text\n")
    (folder / "including.yaml").write_text("include: coded.yaml\ntask: including\n")
    for name in ("coded", "including"):
        with pytest.raises(
            TaskError, match=r"runs code of its folder: !function code.text in coded.yaml.*" + CODE_VARIABLE
        ):
            facts_of(name, folder)
    assert not touched.exists()
    before = facts_of("small_choice", folder).digest
    monkeypatch.setenv(CODE_VARIABLE, "1")
    first = facts_of("coded", folder).digest
    (folder / "code.py").write_text("def text(doc):\n    return 'y'\n")
    assert facts_of("coded", folder).digest != first
    assert facts_of("small_choice", folder).digest != before  # it could be used by any of them
    assert not touched.exists()


def test_a_metric_or_a_reader_that_would_bring_code_is_refused(tmp_path: Path) -> None:
    folder = small_tasks.write(tmp_path / "tasks")
    data = {"dataset_path": "json", "test_split": "test", "output_type": "generate_until"}
    odd = {"metric": "./evil", "aggregation": "mean", "higher_is_better": True}
    small_tasks.write_yaml(folder / "a.yaml", {"task": "fetches", **data, "metric_list": [odd]})
    small_tasks.write_yaml(folder / "b.yaml", {"task": "pickled", **data, "dataset_path": "pandas"})
    small_tasks.write_yaml(folder / "c.yaml", {"task": "unsafe", **data, "unsafe_code": True})
    for name, words in {"fetches": "none of lm-eval's own", "pickled": "reads pickles", "unsafe": "as code"}.items():
        with pytest.raises(TaskError, match=words):
            facts_of(name, folder)


def test_a_template_of_a_folder_reaches_no_code(tmp_path: Path) -> None:
    from jinja2.exceptions import SecurityError

    from moebench.tasks.harness import Place, surroundings

    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    with surroundings(Place(cache=tmp_path / "cache", include=tmp_path)):
        from lm_eval.utils import apply_template

        assert apply_template("{{a|regex_replace('b', 'c')}}", {"a": "ab"}) == "ac"
        with pytest.raises(SecurityError):
            apply_template(attack, {})


def test_identity_of_a_task_is_what_it_says_and_its_data_wherever_they_lie(tmp_path: Path) -> None:
    one, other = (small_tasks.write(tmp_path / name / "tasks") for name in "ab")
    assert facts_of("small_choice", one) == facts_of("small_choice", other)
    lines = (other / "small_choice.jsonl").read_text().splitlines()
    (other / "small_choice.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert facts_of("small_choice", one).digest != facts_of("small_choice", other).digest
    assert facts_of("small_choice", one, num_fewshot=2).options != facts_of("small_choice", one).options


def test_a_task_that_is_asked_otherwise_once_it_was_seen_is_another_claim(done: Path, tmp_path: Path) -> None:
    """Who saw the answers to no examples and asks with two, or fewer questions, has chosen."""
    again = shutil.copytree(done, tmp_path / "again")
    small_tasks.write(again / "tasks")

    results = Results(again / "results")

    def late(**options: Any) -> str:
        suite = suite_in(again, measure=asked(TASKS, **options))
        plan = api.prepare_plan(suite, results=results.root, launcher="inline").plan
        results.save_plan(plan, environment(1, "cpu"))
        stored = next(one for one in results.plans() if one.plan.id == plan.id)
        with in_force(plan.extra_metrics):
            return " ".join(post_hoc(gather(results, stored), "knows", plan.spec.claims["knows"]))

    assert late() == ""
    assert "after a run it uses was done" in late(limit=12)
    assert "after a run it uses was done" in late(num_fewshot=2)


def test_a_suite_that_asks_for_no_tasks_any_more_is_judged(tmp_path: Path) -> None:
    """Its earlier plan, with metrics that this one does not know, is counted all the same."""
    small_tasks.write(tmp_path / "tasks")
    results, states = Results(tmp_path / "results"), []
    knows = tiny_suites.claim(metric="lm_eval.acc[task=small_choice]", family="primary")
    learns = tiny_suites.claim(family="primary")
    for changes in ({"measure": asked(["small_choice"]), "claims": {"knows": knows}}, {"claims": {"learns": learns}}):
        suite = suite_in(tmp_path, seeds=6, **changes)
        plan = api.prepare_plan(suite, results=results.root, launcher="inline").plan
        results.make_room()
        results.save_plan(plan, environment(1, "cpu"))
        stored = next(one for one in results.plans() if one.plan.id == plan.id)
        states += [verdict.state for verdict in judge(gather(results, stored))]
    assert states == ["not_tested", "not_tested"]
    (told,) = _findings(results, stored, "results").withdrawn
    assert told.id == "knows"


def test_a_folder_of_lm_eval_stands_beside_tasks_that_are_measured_here(tmp_path: Path) -> None:
    """Its task is of the same version, 2.0; that it was imported is not another version."""
    small_tasks.write(tmp_path / "tasks")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    told = {"results": {"small_choice": {"acc,none": 0.5}}, "versions": {"small_choice": 2.0}, "model_name": "m"}
    (theirs / "results_2026-11-26T12-00-00.json").write_text(json.dumps({**told, "n-shot": {"small_choice": 0}}))
    models = {**tiny_suites.suite()["models"], "theirs": {"results": "theirs"}}
    suite = suite_in(tmp_path, models=models, measure=asked(["small_choice"]))
    planned = api.prepare_plan(suite, results=tmp_path / "results", launcher="inline")
    results = Results(planned.results)
    results.make_room()
    results.save_plan(planned.plan, environment(1, "cpu"))
    launch([job for job in planned.graph.jobs if job.kind == "import"], planned.options)
    outcome = gathered(tmp_path).outcome("theirs", 0)
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ("completed", None)
    assert outcome.values == {"lm_eval.acc[task=small_choice]": 0.5}
    assert outcome.conditions == {"lm_eval.acc[task=small_choice]": "0-shot, version 2.0"}


@pytest.mark.parametrize(
    "named",
    [
        {"dataset_kwargs": {"data_files": {"test": "DATA/*.jsonl"}}},
        {"dataset_kwargs": {"data_files": ["DATA/**/*.jsonl"]}},
        {"dataset_kwargs": {"data_dir": "DATA"}},
        {"dataset_kwargs": {"data_dir": "DATA", "data_files": {"test": "one.jsonl"}}},
        {"dataset_path": "DATA"},
    ],
)
def test_identity_of_a_task_holds_its_data_however_they_are_named(tmp_path: Path, named: dict[str, Any]) -> None:
    digests = []
    for name in ("a", "b", "c"):
        folder, data = tmp_path / name, tmp_path / name / "data"
        data.mkdir(parents=True)
        (data / "one.jsonl").write_text('{"q": "%s"}\n' % ("else" if name == "c" else "same"))
        config = {
            "task": "asked",
            "output_type": "loglikelihood",
            "dataset_path": "json",
            "test_split": "test",
            **named,
        }
        small_tasks.write_yaml(folder / "asked.yaml", json.loads(json.dumps(config).replace("DATA", str(data))))
        digests.append(facts_of("asked", folder).digest)
    assert digests[0] == digests[1] != digests[2]


def test_facts_of_lm_evals_own_tasks() -> None:
    """Nothing is loaded but their configurations; a group's are those of its tasks."""
    arc = facts_of("arc_easy", bundled_folder() / "arc", num_fewshot=5)
    assert (arc.output, arc.num_fewshot, arc.version) == ("multiple_choice", 5, "1.0")
    assert [arc.named(one) for one in arc.metrics] == [f"lm_eval.{m}[task=arc_easy]" for m in ("acc", "acc_norm")]
    gsm = facts_of("gsm8k", bundled_folder() / "gsm8k")
    assert [gsm.named(one) for one in gsm.metrics] == [
        f"lm_eval.exact_match[task=gsm8k:{way}]" for way in ("strict-match", "flexible-extract")
    ]
    assert gsm.written == 256
    mmlu = facts_of("mmlu", bundled_folder() / "mmlu" / "default")
    assert len(mmlu.members) == 57
    assert (mmlu.choices, [mmlu.named(one) for one in mmlu.metrics]) == (4, ["lm_eval.acc[task=mmlu]"])


@pytest.mark.parametrize(("weighed", "expected"), [(True, 2 / 3), (False, 0.75)])
def test_items_of_a_group_add_up_as_it_weighs_its_tasks(weighed: bool, expected: float) -> None:
    """One task of a document that is right, one of two of which one is."""
    acc = TaskMetric(metric="acc", better="higher")
    facts = TaskFacts(
        name="both", members=("one", "two"), output="multiple_choice", metrics=(acc,), version="1", num_fewshot=0,
        digest="", harness="",
    )  # fmt: skip
    rows = {"one": [1.0], "two": [1.0, 0.0]}
    samples = {
        task: [{"filter": "none", "doc_hash": f"{task}{n}", "doc": {}, "acc": value} for n, value in enumerate(values)]
        for task, values in rows.items()
    }
    found = measured(facts, {"results": {"both": {"acc,none": expected}}, "samples": samples})
    assert found.items is not None
    assert [item["group"] for item in found.items] == ["one", "two", "two"]
    size = sum(item["size"] for item in found.items)
    assert sum(item["value"] for item in found.items) / size == pytest.approx(expected)
    none = measured(facts, {"results": {"both": {"acc,none": 0.1}}, "samples": samples})
    assert none.items is None


def test_what_guessing_gets_is_recorded_of_a_task_of_choices(evidence: Evidence) -> None:
    for run in evidence.outcomes:
        assert run.values["lm_eval.prompts_cut[task=small_choice]"] == 0
        guessing = {metric: value for metric, value in run.values.items() if metric.startswith("lm_eval.chance")}
        assert guessing == {"lm_eval.chance[task=small_choice]": 0.25}
    facts = evidence.plan.tasks["small_choice"]
    rows = [{"filtered_resps": [0.0] * number} for number in (2, 4, 4)]
    assert chance_of(facts, rows) == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    twice = facts.model_copy(update={"metrics": (TaskMetric(metric="acc_mutual_info", better="higher"),)})
    assert chance_of(twice, [{"filtered_resps": [0.0] * 8}]) == pytest.approx(1 / 4)
    assert chance_of(facts, [*rows, {}]) is None


def test_the_suite_of_the_documentation_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is printed; of lm-eval's own tasks only the folder that it names is searched, for all take seconds."""
    from moebench import api

    monkeypatch.setattr(
        "moebench.tasks.configs.manager_of", lambda _include, *_names: _own_alone(bundled_folder() / "arc")
    )
    text = (ROOT / "docs" / "suites.md").read_text()
    (block,) = [part for part in text.split("```") if "suite: knows" in part]
    (tmp_path / "knows.yaml").write_text(block.removeprefix("yaml\n"))
    spec = api.validate(tmp_path / "knows.yaml")[0].spec
    assert spec.measure.lm_eval is not None
    assert spec.measure.lm_eval.limit == 200


@pytest.mark.parametrize("path", sorted((ROOT / "suites").glob("checkpoints_*.yaml")), ids=lambda path: path.stem)
def test_claims_of_published_checkpoints_are_on_what_their_tasks_measure(path: Path) -> None:
    loaded = load_suite(path)
    check_claims(loaded.spec, task_metrics(planned_tasks(loaded.spec, base=loaded.base)))
