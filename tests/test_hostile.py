"""What somebody else wrote, harmed or meant to harm: refused with file and reason or taken as stated, exit code 2, and
nothing is written. Each of these did something else once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.support.tiny_suites import call

HUGE = 10**400
"""A whole number of JSON that no float can hold."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files() -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in Path().rglob("*") if not path.is_dir()}


def refused(*arguments: object, words: Sequence[str]) -> Result:
    """A command ends with 2 and says what is wrong, in the words of people; nothing is written."""
    before = files()
    found = call(*arguments)
    assert found.exit_code == 2, found.output
    assert isinstance(found.exception, SystemExit)
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    said = " ".join(found.stderr.split())
    assert [word for word in words if word not in said] == [], said
    assert files() == before
    return found


# ---------------------------------------------------------------------------------------------- folders of lm-eval

DATE = "2026-01-01T00-00-00.000000"
HASHES = [f"{number:064x}" for number in range(24)]


def samples(**changes: Any) -> list[dict[str, Any]]:
    return [
        {"doc_id": number, "doc_hash": word, "filter": "none", "acc": float(number % 2), **changes}
        for number, word in enumerate(HASHES)
    ]


def lm_eval(
    folder: Path, *, task: str = "exam", rows: Sequence[Mapping[str, Any]] | None = None, **changes: Any
) -> None:
    """What lm-eval writes of one task, with changed entries of its results or other samples."""
    written = {
        "model_name": "m",
        "results": {task: {"acc,none": 0.5, "alias": task}},
        "versions": {task: 1},
        "n-shot": {task: 0},
        "higher_is_better": {task: {"acc": True}},
        "group_subtasks": {task: []},
    }
    folder.mkdir(exist_ok=True)
    (folder / f"results_{DATE}.json").write_text(json.dumps({**written, **changes}))
    lines = [json.dumps(row) + "\n" for row in (samples() if rows is None else rows)]
    (folder / f"samples_exam_{DATE}.jsonl").write_text("".join(lines))


LINKS = {f"group{number}": [f"group{number + 1}"] for number in range(20_000)}
NO_NUMBERS = {
    "a number of 400 digits": {"results": {"exam": {"acc,none": HUGE}}},
    "NaN": {"results": {"exam": {"acc,none": float("nan")}}},
    "a path for a name": {"results": {"../../exam": {"acc,none": 0.5}}},
    "half a letter": {"results": {"ex\ud800m": {"acc,none": 0.5}}},
    "two lines": {"results": {"exam\nerror: forged": {"acc,none": 0.5}}},
}


@pytest.mark.parametrize("what", NO_NUMBERS)
def test_results_that_can_be_no_metric_are_left_out(here: Path, what: str) -> None:
    lm_eval(here / "a")
    lm_eval(here / "b", **NO_NUMBERS[what])
    refused("judge", "a", "b", words=["b: its results hold no numbers"])


TAKEN: dict[str, dict[str, Any]] = {
    "a sample of 400 digits": {"rows": samples(acc=HUGE)},
    "a sample that is NaN": {"rows": samples(acc=float("nan"))},
    "names that are lists": {"rows": [{**row, "doc_id": [row["doc_id"]]} for row in samples()]},
    "hashes that are half letters": {"rows": [{**row, "doc_hash": row["doc_hash"] + "\udfff"} for row in samples()]},
    "a long chain of groups": {
        "group_subtasks": {**LINKS, "exam": []}, "results": {"group0": {"acc,none": 0.5}, "exam": {"acc,none": 0.5}}
    },
    "groups in a circle": {"group_subtasks": {"exam": ["other"], "other": ["exam"]}},
    "a model that is half a letter": {"model_name": "\ud800"},
    "a model that acts on screens": {"model_name": "\x1b[2Jmine\u202e"},
}  # fmt: skip


@pytest.mark.parametrize("what", TAKEN)
def test_what_is_odd_in_a_folder_stops_nothing(here: Path, what: str) -> None:
    lm_eval(here / "a")
    lm_eval(here / "b", **TAKEN[what])
    found = call("judge", "a", "b")
    assert found.exit_code == 0, found.output
    assert "lm_eval.acc[task=exam]" in found.stdout
    assert not set("\x1b\u202e\ud800") & set(found.stdout)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(here: Path) -> None:
    lm_eval(here / "a")
    (here / "b").mkdir()
    os.mkfifo(here / "b" / f"results_{DATE}.json")
    refused("judge", "a", "b", words=["b: holds no results of lm-eval"])


# ---------------------------------------------------------------------------------------------- tables

SEEDS = "".join(f"m,{seed},x.y,{1 + seed / 10}\n" for seed in range(8))
TABLES = {
    "a count that is none": ("m,,cost.active_params,nan\nm,0,x.y,1\n", ":2: nan is no measurement"),
    "two counts of one model": (
        "m,,cost.active_params,5\nm,,cost.active_params,6\n", ":3: cost.active_params of m is 6 here and 5 above"
    ),
    "a whole number of 400 digits": (f"m,{HUGE},x.y,1\n", ":2: seed '1000"),
    "a spreadsheet": ("PK\x03\x04\0\0\n", ":2: 1 cells, the header has 4 columns"),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_a_table_that_cannot_be_taken_is_refused_with_its_line(here: Path, what: str) -> None:
    text, reason = TABLES[what]
    (here / "b.csv").write_text(f"model,seed,metric,value\n{text}")
    refused("judge", "b.csv", "b.csv", words=[f"b.csv{reason}"])


def test_a_metric_has_one_unit_in_a_file_and_in_two(here: Path) -> None:
    (here / "a.csv").write_text("model,seed,metric,value,unit\nm,0,x.y,1,bits\nm,1,x.y,1,nats\n")
    refused("judge", "a.csv", "a.csv", words=["a.csv:3: x.y in 'nats', above it is in 'bits'"])
    for unit in ("bits", "nats"):
        rows = SEEDS.replace("\n", f",{unit}\n")
        (here / f"{unit}.csv").write_text(f"model,seed,metric,value,unit\n{rows}")
    found = call("judge", "bits.csv", "nats.csv", "--better", "lower")
    assert "A is in bits, B in nats" in found.stdout
    assert call("judge", "bits.csv", "nats.csv", "--fail-above", "1").exit_code == 1


def test_items_that_add_up_to_no_number(here: Path) -> None:
    rows = "".join(f"m,x.y,1e308,q{number},1e308\n" for number in range(24))
    (here / "b.csv").write_text(f"model,metric,value,item,size\n{rows}")
    refused("judge", "b.csv", "b.csv", words=["the items of x.y of m add up to no number"])


def test_words_of_json_that_cannot_be_written(here: Path) -> None:
    (here / "b.jsonl").write_text('{"model": "\\ud800", "metric": "x.y", "value": 1}\n')
    refused("judge", "b.jsonl", "b.jsonl", words=["b.jsonl:1: model is", "half a letter"])


@pytest.mark.parametrize("command", ["judge", "compare"])
@pytest.mark.parametrize("share", ["nan", "inf", "-1"])
def test_a_threshold_is_a_percentage(here: Path, command: str, share: str) -> None:
    (here / "a").mkdir()
    refused(command, "a", "a", "--fail-above", share, words=["--fail-above", "is no percentage from 0"])


# ---------------------------------------------------------------------------------------------- typing errors

SUITE = """\
suite: everything
question: Is what people type wrong told where it stands?
seeds: 2
data:
  source: hub
  name: someone/corpus
  config: english
  split: train
  revision: main
  online: false
  field: text
  domain: topic
  limit: 1000000
  tokenizer: {bpe: 512}
  context: 64
train:
  budget: {steps: 10}
  batch_tokens: 256
  micro_batch_tokens: 128
models:
  ours:
    layers: 2
    width: 32
    heads: 4
    attention_bias: qkv
    attention_sinks: true
    window: 16
    full_every: 2
    rope_scaling: {kind: yarn, factor: 2.0, original_context: 32, beta_fast: 30.0, beta_slow: 2.0, truncate: false}
    ffn: {kind: dense, hidden: 64}
  stretched:
    layers: 2
    width: 32
    heads: 4
    rope_scaling: {kind: llama3, factor: 2.0, original_context: 32, low_freq_factor: 1.0, high_freq_factor: 4.0}
    ffn: {kind: dense, hidden: 64}
  published:
    checkpoint: someone/model
    revision: main
    dtype: float32
    experts: eager
    device_map: cpu
    online: false
    evaluate: {tokens: 512, final_tokens: 1024}
  elsewhere:
    results: ours.csv
    model: theirs
    total_params: 1000
    active_params: 500
metrics:
  paloma.loss: {unit: nats/token, better: lower, per: seed, says: what they measure}
measure:
  lm_eval: {tasks: [arc_easy], num_fewshot: 0, limit: 10, include_path: tasks, online: false}
"""
KEYS = ("source", "name", "config", "split", "revision", "online", "field", "domain", "limit", "tokenizer", "bpe",
        "attention_bias", "attention_sinks", "window", "full_every", "rope_scaling", "factor", "original_context",
        "beta_fast", "beta_slow", "truncate", "low_freq_factor", "high_freq_factor", "micro_batch_tokens",
        "checkpoint", "dtype", "experts", "device_map", "results", "model", "total_params", "active_params",
        "metrics", "unit", "better", "per", "says", "lm_eval", "tasks", "num_fewshot", "include_path")  # fmt: skip


OF_ITS_BLOCK = {"source": "4:1", "bpe": "14:14"}
"""Where a key decides what its block is, the block is told."""


def test_a_suite_with_every_new_key_is_valid(here: Path) -> None:
    (here / "tasks").mkdir()
    (here / "s.yaml").write_text(SUITE)
    assert call("validate", "s.yaml").exit_code == 0, call("validate", "s.yaml").output


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_mistyped_is_told_with_its_place_and_the_one_that_was_meant(here: Path, key: str) -> None:
    """Wherever it stands: one letter is lacking, at that line and column."""
    wrong = key[:-2] + key[-1] if len(key) > 3 else key + key[-1]
    (here / "tasks").mkdir()
    for found in re.finditer(rf"(?<![\w.]){key}:", SUITE):
        text = SUITE[: found.start()] + wrong + SUITE[found.end() - 1 :]
        (here / "s.yaml").write_text(text)
        line, column = text[: found.start()].count("\n") + 1, found.start() - text.rfind("\n", 0, found.start())
        said = refused("validate", "s.yaml", words=[f"'{key}'?"]).stderr
        assert f"s.yaml:{OF_ITS_BLOCK.get(key, f'{line}:{column}')}: " in said
        assert said.count("s.yaml:") <= 2, "one mistake is not told many times"
