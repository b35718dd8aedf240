"""What the harness itself costs: its share of the training loop, and what a second worker brings.

Run by `nox -s bench` on a quiet machine. Figures are printed and kept in pytest-benchmark's `extra_info`; nothing is
asserted by a clock, because machines are shared.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from statistics import median

import pytest

from moebench import api
from moebench.jobs.loop import execute
from moebench.launch import launch
from moebench.store import Results

SETS = (
    "seeds=8",
    "train.budget.tokens=1.2e5",
    "train.evaluate.tokens=4096",
    "train.evaluate.final_tokens=4096",
    "train.evaluate.points=1",
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> api.Planned:
    root = tmp_path_factory.mktemp("bench")
    return api.prepare_plan("quickstart", sets=SETS, results=root / "results")


def test_share_of_the_training_loop(benchmark, planned: api.Planned) -> None:
    """Time in the loop that is neither training, evaluation nor checkpoint, over training time; recording included."""
    shares: list[float] = []

    def one_run() -> None:
        task = api._run_tasks(planned, threads=1)[0]
        folder = Results(planned.results).job(task.id)
        shutil.rmtree(folder.path, ignore_errors=True)
        execute(task, root=planned.results, on_event=lambda _: None, should_stop=lambda: False)
        spent: dict[str, float] = {}
        for line in (folder.path / "timed.jsonl").read_text().splitlines():
            row = json.loads(line)
            spent[row["what"]] = spent.get(row["what"], 0.0) + row["seconds"]
        shares.append(spent["harness"] / spent["train"])

    benchmark.pedantic(one_run, rounds=5, iterations=1)
    benchmark.extra_info["harness_share"] = shares
    print(f"\nharness / training: median {median(shares):.3%} of {[f'{share:.3%}' for share in shares]}")


def test_two_workers_against_one(benchmark, planned: api.Planned, tmp_path: Path) -> None:
    """Eight equal runs by one worker and by two, in turns (1 2 2 1), loading included; the ratio of their times."""
    model = next(iter(planned.plan.models))
    tasks = [task for task in api._run_tasks(planned, threads=1) if task.model == model]
    seconds: dict[int, list[float]] = {1: [], 2: []}

    def in_turns() -> None:
        for turn, workers in enumerate((1, 2, 2, 1)):
            root = tmp_path / f"{turn}"
            shutil.copytree(planned.results / "data", root / "data")
            began = time.perf_counter()
            statuses = launch(tasks, workers=workers, results_root=root, on_event=lambda _: None)
            seconds[workers].append(time.perf_counter() - began)
            assert set(statuses.values()) == {"completed"}

    benchmark.pedantic(in_turns, rounds=1, iterations=1)
    ratio = sum(seconds[1]) / sum(seconds[2])
    benchmark.extra_info |= {"seconds": seconds, "speedup": ratio}
    print(f"\n2 workers against 1: {ratio:.2f}x ({seconds})")
