"""Judging two results from elsewhere without a suite: folders that lm-eval wrote, and tables."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from moebench.amounts import Amount
from moebench.claims.judge import judge
from moebench.cli.commands import main
from moebench.external import read
from moebench.launch.process import child_environment
from moebench.reporting.sides import Row, compare_sides, side
from tests.test_external import done, here  # noqa: F401  a fixture

QUESTIONS = 240
TASKS = {
    "toy_choice": """\
task: toy_choice
dataset_path: json
dataset_kwargs: {data_files: DATA}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{right}}"
doc_to_choice: ["yes", "no", "perhaps"]
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 2.0}
""",
    "toy_text": """\
task: toy_text
dataset_path: json
dataset_kwargs: {data_files: DATA}
test_split: train
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
metadata: {version: 1.0}
""",
    "toy_words": """\
task: toy_words
dataset_path: json
dataset_kwargs: {data_files: DATA}
test_split: train
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{right}}"
generation_kwargs: {until: ["."]}
filter_list:
  - {name: strict, filter: [{function: take_first}]}
  - {name: loose, filter: [{function: lowercase}, {function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
""",
}
ACC, BPB = "lm_eval.acc[task=toy_choice]", "lm_eval.bits_per_byte[task=toy_text]"


def chance(*words: object) -> float:
    """A number in [0, 1) that looks random and is always the same."""
    return int(hashlib.sha256(repr(words).encode()).hexdigest()[:12], 16) / 16**12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`weak` and `strong`: two behaviours of one dummy model, evaluated by lm-eval and written by it."""
    root = tmp_path_factory.mktemp("lm_eval")
    data = root / "questions.jsonl"
    rows = [{"question": f"is {n} even or a square?", "right": n % 3} for n in range(QUESTIONS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "tasks").mkdir()
    for name, text in TASKS.items():
        (root / "tasks" / f"{name}.yaml").write_text(text.replace("DATA", str(data)))
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_DATASETS_CACHE", str(root / "cache"))
    patch.setenv("DISABLE_MULTIPROC", "1")
    try:
        _evaluate(root)
    finally:
        patch.undo()
    return root


@pytest.mark.filterwarnings("ignore")  # lm-eval's own
def _evaluate(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.api.model import LM
        from lm_eval.evaluator import simple_evaluate
        from lm_eval.loggers import EvaluationTracker
        from lm_eval.tasks import TaskManager

        class Dummy(LM):  # type: ignore[misc]
            """Knows a share of the answers; the strong one knows all that the weak one does, and more."""

            def __init__(self, knows: float) -> None:
                super().__init__()
                self.knows = knows

            def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
                answers = ("yes", "no", "perhaps")
                scores = []
                for request in requests:
                    right = answers[int(request.args[0].split()[1]) % 3]
                    known = chance(request.args[0]) < self.knows
                    guess = right if known else answers[int(3 * chance(request.args[0], "guess"))]
                    scores.append((-1.0 if request.args[1].strip() == guess else -2.0, False))
                return scores

            def loglikelihood_rolling(self, requests: Any, **_: Any) -> list[float]:
                return [-len(one.args[0]) * (1.5 + chance(one.args[0]) - 0.1 * self.knows) for one in requests]

            def generate_until(self, requests: Any, **_: Any) -> list[str]:
                return [str(int(one.args[0].split()[1]) % 3) if chance(one) < self.knows else "9" for one in requests]

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        manager = TaskManager(include_path=str(root / "tasks"), include_defaults=False)
        for name, knows in (("weak", 0.5), ("strong", 0.7)):
            tracker = EvaluationTracker(output_path=str(root / name))
            found = simple_evaluate(
                model=Dummy(knows), tasks=list(TASKS), task_manager=manager, log_samples=True, bootstrap_iters=10,
                evaluation_tracker=tracker, verbosity="ERROR",
            )  # fmt: skip
            samples = found.pop("samples")
            tracker.save_results_aggregated(results=found, samples=samples)
            for task in found["configs"]:
                tracker.save_results_samples(task_name=task, samples=samples[task])


def samples(folder: Path, task: str) -> Iterator[dict[str, Any]]:
    (path,) = folder.glob(f"*/samples_{task}_*.jsonl")
    return (json.loads(line) for line in path.read_text().splitlines())


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*/results_*.json")
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def rows_of(folders: Path, **options: Any) -> dict[str, Row]:
    rows = compare_sides(side(str(folders / "weak")), side(str(folders / "strong")), **options)
    return {row.metric: row for row in rows}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


# ---------------------------------------------------------------------------------------------- lm-eval's folders


def test_what_lm_eval_wrote_is_read_whole(folders: Path) -> None:
    found = read(folders / "strong")
    (by_seed,) = found.models.values()
    columns = by_seed[None].columns
    assert set(columns) == {
        ACC, BPB, "lm_eval.word_perplexity[task=toy_text]",
        "lm_eval.exact_match[task=toy_words:strict]", "lm_eval.exact_match[task=toy_words:loose]",
    }  # fmt: skip
    written = results(folders / "strong")["results"]
    assert columns[ACC].final == pytest.approx(written["toy_choice"]["acc,none"])
    assert columns[BPB].final == pytest.approx(written["toy_text"]["bits_per_byte,none"])
    assert (columns[ACC].better, columns[BPB].better) == ("higher", "lower")
    assert columns[ACC].condition == "0-shot, version 2.0"
    assert (columns[ACC].chance, columns[BPB].chance) == (pytest.approx(1 / 3), None)
    assert [len(columns[name].items) for name in (ACC, BPB)] == [QUESTIONS] * 2
    assert len(columns["lm_eval.word_perplexity[task=toy_text]"].items) == 0, "no mean over documents"
    assert found.notes == []


def test_differences_are_those_computed_by_hand_and_paired(folders: Path) -> None:
    row = rows_of(folders)[ACC]
    weak, strong = (
        {one["doc_hash"]: one["acc"] for one in samples(folders / name, "toy_choice")} for name in ("weak", "strong")
    )
    d = np.array([strong[doc] - weak[doc] for doc in weak])
    assert (row.n, row.units) == (QUESTIONS, "items")
    assert row.difference == pytest.approx(float(d.mean()))
    assert (row.won, row.lost, row.tied) == (int((d > 0).sum()), int((d < 0).sum()), int((d == 0).sum()))
    bpb = rows_of(folders)[BPB]
    parts = [
        np.array([one["bits_per_byte"] for one in samples(folders / name, "toy_text")]) for name in ("weak", "strong")
    ]
    by_hand = [-x[:, 0].sum() / x[:, 1].sum() / math.log(2) for x in parts]
    assert bpb.difference == pytest.approx(by_hand[1] - by_hand[0])
    assert bpb.verdict == "better"


def test_the_paired_interval_is_narrower_than_lm_evals_unpaired_one(folders: Path) -> None:
    row = rows_of(folders)[ACC]
    errors = [results(folders / name)["results"]["toy_choice"]["acc_stderr,none"] for name in ("weak", "strong")]
    unpaired = 1.96 * math.hypot(*errors)
    assert row.low is not None
    assert row.high is not None
    assert (row.high - row.low) / 2 < 0.7 * unpaired
    assert row.difference is not None
    assert row.verdict == "better"
    assert row.low > 0


def test_metrics_are_chosen_corrected_for_and_held_to_a_margin(folders: Path) -> None:
    every, one = rows_of(folders), rows_of(folders, metrics=["acc"])
    assert set(one) == {ACC}
    assert set(every) == {
        ACC,
        BPB,
        "lm_eval.exact_match[task=toy_words:strict]",
        "lm_eval.exact_match[task=toy_words:loose]",
    }
    alone, among = one[ACC].p, every[ACC].p
    assert alone is not None
    assert among is not None
    assert alone <= among <= 4 * alone
    far = rows_of(folders, metrics=["acc"], margin=Amount(value=0.5, relative=False))[ACC]
    assert far.verdict == "equal"
    share = rows_of(folders, metrics=["acc"], margin=Amount(value=0.01, relative=True))[ACC]
    assert share.shown_in == "%"


def test_a_folder_against_itself_is_no_better(folders: Path) -> None:
    weak = side(str(folders / "weak"))
    assert {row.verdict for row in compare_sides(weak, weak)} == {"undecided"}


def test_folders_in_a_suite_are_judged_over_items(folders: Path, here: Path) -> None:  # noqa: F811
    suite = f"""\
suite: folders
question: Is it so?
models:
  weak: {{results: {folders / "weak"}}}
  strong: {{results: {folders / "strong"}}}
claims:
  better: {{compare: {{treatment: strong, baseline: weak}}, metric: "{ACC}", family: primary,
           test: {{kind: superior, margin: 0.01}}}}
  text: {{compare: {{treatment: strong, baseline: weak}}, metric: "{BPB}", test: {{kind: non_inferior, margin: 1%}}}}
"""
    evidence = done(here, suite)
    better, text = judge(evidence)
    row = rows_of(folders)[ACC]
    assert (better.state, better.n, better.units) == ("supported", QUESTIONS, "items")
    assert (better.estimate, better.low, better.high) == (row.difference, row.low, row.high)
    assert text.state == "supported"
    assert evidence.plan.extra_metrics[ACC].better == "higher"
    assert evidence.plan.extra_metrics[ACC].chance == pytest.approx(1 / 3)
    assert evidence.outcomes[0].conditions[ACC] == "0-shot, version 2.0"


def test_other_shots_are_not_compared(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "strong", tmp_path / "strong")
    (path,) = (tmp_path / "strong").glob("*/results_*.json")
    path.write_text(path.read_text().replace('"toy_choice": 0', '"toy_choice": 5'))
    rows = compare_sides(side(str(folders / "weak")), side(str(tmp_path / "strong")), metrics=["acc"])
    assert rows[0].verdict == "not comparable"
    assert "was not measured alike: A (0-shot, version 2.0) and B (5-shot, version 2.0)" in rows[0].reason


def test_part_of_the_samples_pairs_with_the_whole_and_says_so(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "strong", tmp_path / "strong")
    (path,) = (tmp_path / "strong").glob("*/samples_toy_choice_*.jsonl")
    kept = path.read_text().splitlines(keepends=True)[:100]
    path.write_text("".join(kept))
    (aggregated,) = (tmp_path / "strong").glob("*/results_*.json")
    value = json.loads(aggregated.read_text())
    value["results"]["toy_choice"]["acc,none"] = sum(json.loads(line)["acc"] for line in kept) / 100
    aggregated.write_text(json.dumps(value))
    (row,) = compare_sides(side(str(folders / "weak")), side(str(tmp_path / "strong")), metrics=["acc"])
    assert row.n == 100
    assert row.notes == ("100 items are in both, of 240 and 100",)


BROKEN = {
    "torn": (lambda text: text[:-20], "is no JSON"),
    "twice": (lambda text: text + text.splitlines(keepends=True)[0], "document 0 is there twice"),
    "no hash": (lambda text: text.replace("doc_hash", "hash"), "it has no doc_hash"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_samples_that_are_broken_end_the_command_with_2(folders: Path, tmp_path: Path, how: str) -> None:
    change, reason = BROKEN[how]
    shutil.copytree(folders / "strong", tmp_path / "strong")
    (path,) = (tmp_path / "strong").glob("*/samples_toy_choice_*.jsonl")
    path.write_text(change(path.read_text()))
    found = run("judge", folders / "weak", tmp_path / "strong")
    assert found.exit_code == 2
    assert reason in found.stderr
    assert "Traceback" not in found.stderr


# ---------------------------------------------------------------------------------------------- the command


def test_the_table_and_the_gate(folders: Path) -> None:
    weak, strong = folders / "weak", folders / "strong"
    found = run("judge", weak, strong, "--metric", "acc")
    assert found.exit_code == 0
    assert "lm_eval.acc[task=toy_choice]" in found.stdout
    assert "better" in found.stdout
    assert "One run says nothing about another training run." in found.stdout
    assert run("judge", weak, strong, "--metric", "acc", "--fail-above", "1").exit_code == 0
    back = run("judge", strong, weak, "--metric", "acc", "--fail-above", "1")
    assert back.exit_code == 1
    assert "worse FAILED" in back.stdout
    rows = json.loads(run("judge", weak, strong, "--json").stdout)
    assert {row["metric"] for row in rows} >= {ACC, BPB}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["none.csv", "none.csv"], "cannot be read"),
        (["two.csv", "two.csv"], "holds 2 models (dense and moe): name one, such as two.csv:dense"),
        (["two.csv:moe", "two.csv:den"], "has no model den: did you mean 'dense'?"),
        (["two.csv:moe", "two.csv:dense", "--metric", "acc"], "no metric acc here"),
        (["two.csv:moe", "two.csv:dense", "--margin", "x"], "--margin x: write a percentage"),
        (["two.csv:moe", "two.csv:dense", "--margin", "-1%"], "--margin -1% is below 0"),
    ],
)
def test_mistakes_end_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.csv").write_text("model,metric,value\nmoe,x.y,1\ndense,x.y,2\n")
    found = run("judge", *arguments)
    assert found.exit_code == 2
    assert reason in found.stderr


def test_seeds_of_two_tables_are_paired(tmp_path: Path) -> None:
    for name, base in (("a", 3.0), ("b", 2.9)):
        rows = "".join(f"{name},{s},x.loss,{base + s / 10 + (s % 3) / 1000 * (name == 'b')}\n" for s in range(8))
        extra = f"{name},9,x.loss,2\n" if name == "b" else ""
        (tmp_path / f"{name}.csv").write_text("model,seed,metric,value\n" + rows + extra)
    a, b = side(str(tmp_path / "a.csv")), side(str(tmp_path / "b.csv"))
    (row,) = compare_sides(a, b, better="lower")
    assert (row.n, row.units, row.verdict, row.p) == (8, "seeds", "better", 2**-8)
    assert row.notes == ("seeds that are in one alone are left out: 9",)
    (unknown,) = compare_sides(a, b)
    assert unknown.verdict == "lower", "nobody says that lower is better"


def test_single_numbers_decide_nothing(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("model,metric,value\nmoe,x.loss,3.156\ndense,x.loss,3.676\n")
    found = run("judge", f"{tmp_path}/two.csv:dense", f"{tmp_path}/two.csv:moe", "--better", "lower")
    assert found.exit_code == 0
    assert "undecided" in found.stdout
    assert "needs at least 6 runs of each model" in found.stdout


def test_a_metric_that_b_lacks_keeps_the_gate_shut(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("model,metric,value\nm,x.loss,3\nm,x.acc,1\n")
    (tmp_path / "b.csv").write_text("model,metric,value\nm,x.loss,3\n")
    found = run("judge", tmp_path / "a.csv", tmp_path / "b.csv", "--fail-above", "5")
    assert found.exit_code == 1
    assert "B has no such number" in found.stdout


def test_neither_torch_nor_lm_eval_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("model,metric,value\nmoe,x.loss,3.156\ndense,x.loss,3.676\n")
    code = "import sys; from moebench.cli.commands import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules)"
    arguments = ["judge", f"{tmp_path}/two.csv:dense", f"{tmp_path}/two.csv:moe"]
    subprocess.run([sys.executable, "-c", code, *arguments], env=child_environment(1), check=True, capture_output=True)
