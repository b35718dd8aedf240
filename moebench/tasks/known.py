"""The tasks with known answers as tasks of lm-eval, for any model: `moebench_recall`, `moebench_path` and the others.

Their questions are those of the source `tasks` under the same names, with every option at its default, written as JSON
Lines beside a configuration; so a model that was trained on these gets the same score by either road. To use them with
lm-eval's own command: `python -m moebench.tasks.known FOLDER`, then `lm_eval --include_path FOLDER`.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path

from moebench.data.sources.tasks import TasksData

PREFIX = "moebench_"
TASKS = {
    "recall": "facts",
    "path": "path",
    "chain": "chain",
    "sums": "modular",
    "copy": "copy",
    "transduce": "transduce",
    "markov": "markov",
    "brackets": "brackets",
}
"""Name -> the kind of task; lm-eval's name has `moebench_` before it."""
QUESTIONS = 256
"""Of each task, as far as it has them."""

_CONFIG = """\
# {says}; chance {chance:.4g}, ceiling {ceiling:.4g}.
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: prompt
doc_to_target: answer
target_delimiter: ""
num_fewshot: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
metadata: {{version: 1.0}}
"""


def write(folder: Path) -> Path:
    """Writes every task, its questions beside it; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = standard()
    gathered = spec.gather(Path())
    rows: dict[str, list[str]] = {name: [] for name in TASKS}
    for text in gathered.texts:
        recalled = gathered.tasks[text.domain].tested_on == "training"
        if text.split == "test" and text.answer is not None and text.answer.seen == recalled:
            prompt, answer = text.body[: text.answer.start].decode(), text.body[text.answer.start :].decode()
            rows[text.domain].append(json.dumps({"prompt": prompt, "answer": answer}) + "\n")
    for name, task in spec.tasks.items():
        whole, known = PREFIX + name, gathered.tasks[name]
        file = folder.resolve() / f"{whole}.jsonl"
        file.write_text("".join(rows[name]), encoding="utf-8")
        facts = {"says": task.says, "chance": known.chance, "ceiling": known.ceiling}
        config = _CONFIG.format(name=whole, file=json.dumps(str(file)), **facts)
        (folder / f"{whole}.yaml").write_text(config, encoding="utf-8")
    return folder


def standard() -> TasksData:
    """The data whose test questions these are, and so those of a suite with tasks of these names and defaults."""
    tasks = {name: {"kind": kind} for name, kind in TASKS.items()}
    return TasksData.model_validate(
        {"source": "tasks", "tasks": tasks, "context": 64, "task_tokens": 1000, "questions": QUESTIONS}
    )


@functools.cache
def folder() -> Path:
    """A folder of this process with all of them, which goes when the process ends."""
    made = Path(tempfile.mkdtemp(prefix="moebench-tasks-")).resolve()
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return write(made)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
