"""Tasks of lm-eval on a few lines of text, one of every kind of request; their data lie beside them as jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

LETTERS = "abcdef"


def write(folder: Path) -> Path:
    """Writes the tasks small_choice, small_ending, small_rolling and small_writing; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    choices = [
        {
            "q": f"{LETTERS[n % 6]}{LETTERS[n % 5]}{LETTERS[n % 4]}",
            "choices": [LETTERS[(n + k) % 6] * 2 for k in range(4)],
            "label": n % 4,
            "group": f"passage {n // 2}",
        }
        for n in range(24)
    ]
    endings = [{"text": LETTERS[n % 6] * 4, "ending": LETTERS[(n + 1) % 6]} for n in range(8)]
    _task(
        folder,
        "small_choice",
        choices,
        output_type="multiple_choice",
        doc_to_text="{{q}}",
        doc_to_choice="{{choices}}",
        doc_to_target="{{label}}",
        metric_list=[_mean("acc"), _mean("acc_norm"), {"metric": "brier_score", "higher_is_better": False}],
        metadata={"version": 2.0},
    )
    _task(
        folder,
        "small_ending",
        endings,
        output_type="loglikelihood",
        doc_to_text="{{text}}",
        doc_to_target="{{ending}}",
        metric_list=[_mean("acc"), {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    )
    _task(
        folder,
        "small_rolling",
        [{"text": (LETTERS[n % 6] + LETTERS[n % 3]) * (3 + 4 * n)} for n in range(6)],
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{text}}",
        metadata={"version": 1.0},
    )
    _task(
        folder,
        "small_writing",
        endings,
        output_type="generate_until",
        doc_to_text="{{text}}",
        doc_to_target="{{ending}}",
        generation_kwargs={"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
        metric_list=[_mean("exact_match")],
    )
    return folder


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


def _task(folder: Path, name: str, rows: list[dict[str, Any]], **config: Any) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
    write_yaml(folder / f"{name}.yaml", {**usual, "test_split": "test", **config})


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    with path.open("w") as file:
        YAML().dump(values, file)
