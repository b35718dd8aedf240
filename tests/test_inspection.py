"""`moebench inspect`: counts of published systems and of a suite's models, as data and as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench.inspection import inspect_model, inspection_text
from moebench.matching import PlanError
from moebench.spec.errors import SuiteError

SUITE = """
suite: mine
question: Is it?
seeds: 8
data: {source: stdlib, context: 64}
train: {budget: {steps: 10}}
models:
  moe: {layers: 2, width: 64, heads: 4, ffn: {kind: moe, experts: 8, top_k: 2, expert_hidden: 88}}
  dense: {base: moe, ffn: {kind: dense}, match: {to: moe, on: active_params}}
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE)
    return str(path)


def test_a_published_system() -> None:
    found = inspect_model("mixtral-8x7b")
    assert found["params"]["total"] == 46_702_792_704
    assert found["weight_bytes"] == {"float32": 4 * 46_702_792_704, "bfloat16": 2 * 46_702_792_704}
    assert found["kv_bytes_per_token"]["bfloat16"] == 2 * 32 * 8 * 128 * 2
    assert found["experts_touched"]["1"] == pytest.approx(2)
    assert found["context"] == 32768


def test_the_context_changes_flops_and_no_weight() -> None:
    usual, short = inspect_model("mistral-7b"), inspect_model("mistral-7b", context=1024)
    fewer = 4 * 32 * (32768 - 1024) * 32 * 128  # layers, cached tokens, heads, head dim
    assert usual["decode_flops_per_token"] - short["decode_flops_per_token"] == fewer
    assert usual["params"] == short["params"]


def test_the_saving_leaves_the_tables_out() -> None:
    params = inspect_model("mixtral-8x7b")["params"]
    saving = inspect_model("mixtral-8x7b")["saving_against_equal_total"]
    assert saving == 1 - params["active_no_embedding"] / params["total_no_embedding"]
    assert inspect_model("mistral-7b")["saving_against_equal_total"] == 0


def test_a_model_of_a_suite_is_counted_as_solved(suite: str) -> None:
    found = inspect_model(f"{suite}:dense")
    assert found["ffn_hidden"] == 179
    assert found["params"]["active"] == pytest.approx(inspect_model(f"{suite}:moe")["params"]["active"], rel=0.01)


@pytest.mark.parametrize("word", ["mixtral-8x7b", "mistral-7b"])
def test_the_text_says_the_convention_beside_the_figures(word: str) -> None:
    found = inspect_model(word)
    text = inspection_text(found)
    assert f"{found['params']['total']:,}" in text
    assert f"{found['params']['active']:,}" in text
    assert found["convention"] in text
    assert found["source"] in text


def test_a_suites_model_has_text_too(suite: str) -> None:
    text = inspection_text(inspect_model(f"{suite}:moe"))
    assert "8 experts of 88, top-2" in text
    assert "published" not in text
    assert "dense of 179" in inspection_text(inspect_model(f"{suite}:dense"))


def test_unknown_names_are_refused_with_the_known_ones(suite: str) -> None:
    with pytest.raises(PlanError, match=r"mixtral-8x7b.*SUITE:MODEL"):
        inspect_model("mixtral")
    with pytest.raises(PlanError, match="it has moe, dense"):
        inspect_model(f"{suite}:sparse")
    with pytest.raises(SuiteError):
        inspect_model("no_such_suite:moe")
