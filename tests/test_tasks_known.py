"""The tasks with known answers as tasks of lm-eval: the same questions, the same scores, the same everywhere."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

from moebench import api
from moebench.data.sources.tasks import TasksData
from moebench.data.tasks import TASKS as KINDS
from moebench.metrics import in_force
from moebench.store import Results
from moebench.tasks import known
from tests.support import tiny_suites

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.filterwarnings("default")  # of datasets and what it imports


@pytest.fixture(scope="module", autouse=True)
def _lm_eval() -> None:
    """Imported where its warnings are nobody's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lm_eval.evaluator  # noqa: F401


def asked_by_lm_eval(folder: Path, task: str) -> list[str]:
    """Its documents, prompt and answer."""
    rows = (known.write(folder) / f"moebench_{task}.jsonl").read_text().splitlines()
    return ["".join(json.loads(row).values()) for row in rows]


def test_every_kind_of_task_is_there_once_with_its_questions(tmp_path: Path) -> None:
    folder = known.write(tmp_path)
    assert sorted(known.TASKS.values()) == sorted(KINDS)
    for name in known.TASKS:
        rows = [json.loads(row) for row in (folder / f"moebench_{name}.jsonl").read_text().splitlines()]
        assert 20 <= len(rows) <= known.QUESTIONS
        assert all(row["prompt"] and row["answer"] for row in rows)


def test_another_folder_has_the_same_tasks_and_they_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from moebench.tasks.configs import task_facts

    asked: dict[str, Any] = {"include": None, "num_fewshot": None, "limit": None}
    first = [task_facts(f"moebench_{name}", **asked)[0] for name in known.TASKS]
    known.folder.cache_clear()
    assert [task_facts(f"moebench_{name}", **asked)[0] for name in known.TASKS] == first
    assert {facts.output for facts in first} == {"loglikelihood"}
    monkeypatch.setattr(known, "QUESTIONS", 64)
    known.folder.cache_clear()
    assert task_facts("moebench_copy", **asked)[0].digest != first[list(known.TASKS).index("copy")].digest
    known.folder.cache_clear()


def test_lm_eval_and_the_suite_score_the_same_questions_alike(tmp_path: Path) -> None:
    """The suite's task has the name and the defaults, so its questions are those of moebench_recall.

    lm-eval puts no token before a prompt, where the suite's windows have what stands between documents: the scores are
    near each other and not the same.
    """
    tasks = {"recall": {"kind": "facts"}, "brackets": {"kind": "brackets"}}
    data = {"source": "tasks", "tasks": tasks, "context": 32, "task_tokens": 20_000, "questions": known.QUESTIONS}
    asked = {task: asked_by_lm_eval(tmp_path / "tasks", task) for task in tasks}
    for text in TasksData.model_validate(data).gather(tmp_path).texts:
        if text.split == "test":
            asked[text.domain].remove(text.body.decode())
    assert not any(asked.values()), "the same questions"
    path = tiny_suites.write(
        tmp_path,
        seeds=1,
        data=data,
        train={"budget": {"steps": 30}, "evaluate": {"points": 1, "tokens": 256, "final_tokens": 100_000}},
        measure={
            "memory": False,
            "quality": ["bits_per_byte", "tasks"],
            "lm_eval": {"tasks": ["moebench_recall", "moebench_brackets"]},
        },
    )
    done = api.run(path, results=tmp_path / "results", reports=tmp_path / "reports", launcher="inline")
    assert set(done.statuses.values()) == {"completed"}
    results = Results(tmp_path / "results")
    with in_force(done.plan.extra_metrics):
        values = {
            record.metric: record.value
            for job in done.plan.jobs
            if job.model == "moe" and job.kind == "evaluate"
            for record in results.job(job.id).records()
        }
    for task in tasks:
        bits = math.log2(values[f"lm_eval.perplexity[task=moebench_{task}]"] or 0)
        assert bits == pytest.approx(values[f"task.answer_bits[task={task}]"], rel=0.05)
        accuracies = values[f"lm_eval.acc[task=moebench_{task}]"], values[f"task.accuracy[task={task}]"]
        assert accuracies[0] == pytest.approx(accuracies[1], abs=0.1)
        assert values[f"lm_eval.prompts_cut[task=moebench_{task}]"] == 0
