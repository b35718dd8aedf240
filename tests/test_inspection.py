"""`moebench inspect`: counts of published systems and of a suite's models, as data and as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moebench.planning.matching import PlanError
from moebench.suite.errors import SuiteError
from moebench.systems.inspection import inspect_all, inspect_model, inspection_text, size_text

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
    assert found["params"]["active"] == 12_879_925_248
    assert found["active_without_input_tables"] == 12_879_925_248 - 32000 * 4096
    assert found["params_per_expert"] == [3 * 4096 * 14336]
    assert found["weight_bytes"]["float32"] == 4 * 46_702_792_704
    assert found["weight_bytes"]["bfloat16"] == 2 * 46_702_792_704
    assert found["kv_bytes_per_token"]["bfloat16"] == 2 * 32 * 8 * 128 * 2
    assert list(found["experts_touched"]) == ["1", "2", "4", "8", "16", "32", "64"]
    assert found["experts_touched"]["1"] == pytest.approx(2)
    assert found["context"] == 32768
    assert found["published"]["total"] == {
        "figure": "46.7B", "counts": "all", "counted": 46_702_792_704, "within_rounding": True,
        "error": pytest.approx(46_702_792_704 / 46.7e9 - 1),
    }  # fmt: skip


def test_the_context_changes_flops_and_no_weight() -> None:
    usual, short = inspect_model("mixtral-8x7b"), inspect_model("mixtral-8x7b", context=1024)
    fewer = 4 * 32 * (32768 - 1024) * 32 * 128  # layers, cached tokens, heads, head dim
    assert usual["decode_flops_per_token"] - short["decode_flops_per_token"] == fewer
    assert usual["forward_flops_per_token"] - short["forward_flops_per_token"] == fewer / 2
    assert usual["params"] == short["params"]


def test_a_window_bounds_cache_and_flops() -> None:
    """Mistral 7B sees 4,096 tokens, so ten times the context decodes with the same FLOPs and cache."""
    short, long = inspect_model("mistral-7b", context=4096), inspect_model("mistral-7b", context=40960)
    assert short["decode_flops_per_token"] == long["decode_flops_per_token"]
    assert short["kv_bytes"] == long["kv_bytes"]
    assert short["kv_bytes"]["bfloat16"] == 4096 * short["kv_bytes_per_token"]["bfloat16"]


def test_the_saving_leaves_the_tables_out() -> None:
    params = inspect_model("mixtral-8x7b")["params"]
    saving = inspect_model("mixtral-8x7b")["saving_against_equal_total"]
    assert saving == 1 - params["active_no_embedding"] / params["total_no_embedding"]
    assert inspect_model("mistral-7b")["saving_against_equal_total"] == 0


def test_a_system_that_cannot_be_counted_is_described() -> None:
    found = inspect_model("jacobs1991-adaptive-mixtures")
    assert found["params"] is None
    assert "vowels" in inspection_text(found)
    assert inspect_model("gshard-dense-T96L")["published_total"] == 2.3e9
    assert "2,300,000,000" in inspection_text(inspect_model("gshard-dense-T96L"))


@pytest.mark.parametrize("word", ["Mixtral-8x7B", "MIXTRAL-8X7B", "mixtral-8x7b"])
def test_capital_letters_make_no_other_system(word: str) -> None:
    assert inspect_model(word)["model"] == "mixtral-8x7b"


def test_a_system_that_is_not_known_names_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"^no published system 'mixtral-8x7': did you mean 'mixtral-8x7b'\? \("):
        inspect_model("mixtral-8x7")


def test_sizes_have_units() -> None:
    text = inspection_text(inspect_model("mixtral-8x7b"))
    assert "187 GB float32, 93.4 GB bfloat16" in text
    sizes = (0, 999, 1000, 9_994_999, 99_940_000, 46_702_792_704, 1.342e12)
    assert [size_text(int(size)) for size in sizes] == [
        "0 B", "999 B", "1.00 kB", "9.99 MB", "99.9 MB", "46.7 GB", "1.34 TB",
    ]  # fmt: skip


def test_flops_and_cache_of_latent_attention_are_of_one_form() -> None:
    found = inspect_model("deepseek-v3", context=131_072)
    heads, rank, rope, layers, cached = 128, 512, 64, 61, 131_072
    more = 2 * heads * (2 * rank + rope - (128 + 64 + 128)) * layers * cached
    assert found["decode_flops_per_token"] - found["expanded"]["decode_flops_per_token"] == more
    assert found["kv_bytes_per_token"]["bfloat16"] == 2 * layers * (rank + rope)
    assert found["expanded"]["kv_bytes_per_token"]["bfloat16"] == 2 * layers * heads * (128 + 64 + 128)
    text = inspection_text(found)
    assert "absorbed: heads attend to the cached latent; expanded to heads: 728,231,706,624" in text
    assert "expanded" not in inspect_model("mixtral-8x7b")


# ------------------------------------------------------------------------------------------------ configurations


def test_a_configuration_of_nobodys(tmp_path: Path) -> None:
    """Shared experts, a leading dense layer, latent attention: counted as the family's class would be."""
    config = {
        "model_type": "deepseek_v3", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96,
        "moe_intermediate_size": 24, "num_hidden_layers": 5, "num_attention_heads": 4, "n_routed_experts": 8,
        "n_shared_experts": 2, "num_experts_per_tok": 3, "first_k_dense_replace": 1, "kv_lora_rank": 16,
        "q_lora_rank": None, "qk_nope_head_dim": 12, "qk_rope_head_dim": 4, "v_head_dim": 8,
        "num_nextn_predict_layers": 1,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    attention = 64 * 4 * 16 + 64 * 20 + 16 + 16 * 4 * 20 + 32 * 64
    one, shared, router, dense = 3 * 64 * 24, 3 * 64 * 48, 64 * 8, 3 * 64 * 96
    common = 5 * (attention + 2 * 64) + 64 + 2 * 64000 + dense + 4 * (shared + router)
    for word in (str(tmp_path), str(tmp_path / "config.json")):
        found = inspect_model(word)
        assert (found["params"]["total"], found["params"]["active"]) == (common + 32 * one, common + 12 * one)
        assert found["family"] == "deepseek_v3"
        assert "multi-token prediction" in found["note"]
        assert f"{common + 32 * one:,}" in inspection_text(found)


def test_sizes_that_a_file_leaves_to_its_family_are_told(tmp_path: Path) -> None:
    """A text_config cut out of its wrapper says nothing of ties: they are 136 M parameters of this one."""
    config = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
              "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    found = inspect_model(str(path))
    assert found["params"]["total"] == 630_167_424
    assert found["note"] == "not in the file, so the default of qwen2: tie_word_embeddings False"
    path.write_text(json.dumps({**config, "tie_word_embeddings": True}))
    found = inspect_model(str(path))
    assert (found["params"]["total"], found.get("note")) == (494_032_768, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "mamba"}', "family 'mamba' is not one that is counted"),
        ('{"model_type": "deepseek", "lora_rank": 8}', "lora_rank: not known in family deepseek"),
        ("nothing", "no JSON"),
    ],
)
def test_a_configuration_that_is_not_counted_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(PlanError, match=message):
        inspect_model(str(tmp_path))


def test_a_refusal_names_the_file_once(tmp_path: Path) -> None:
    """Whether the file is no JSON, or says what cannot be counted."""
    for text in ("nothing", '{"model_type": "llama", "hidden_size": 0}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(PlanError) as caught:
            inspect_model(str(tmp_path))
        assert str(caught.value).count(str(tmp_path)) == 1


def test_the_saving_is_told_with_its_denominator() -> None:
    assert "of the weights outside the tables per token, against equal total" in inspection_text(
        inspect_model("mixtral-8x7b")
    )


def test_files_that_are_not_there_are_refused(suite: str) -> None:
    with pytest.raises(PlanError, match="no such file or folder"):
        inspect_model("models/none/config.json")
    with pytest.raises(PlanError, match=r"a configuration is JSON; a model of a suite is written .*mine\.yaml:MODEL"):
        inspect_model(suite)
    with pytest.raises(PlanError, match="no published system"):
        inspect_model("x" * 5000)


# ------------------------------------------------------------------------------------------------ everything


def test_all_systems_at_one_context() -> None:
    found = inspect_all()
    assert len(found["systems"]) == 42
    assert {one["context"] for one in found["systems"] if one["params"]} == {2048}
    assert {"GPT-4", "Claude", "Gemini"} <= {one["name"] for one in found["undisclosed"]}
    assert all(isinstance(one["params"]["total"], int) for one in found["systems"] if one["params"])
    assert json.loads(json.dumps(found)) == found
    mixtral = next(one for one in inspect_all(context=99)["systems"] if one["model"] == "mixtral-8x7b")
    assert mixtral == inspect_model("mixtral-8x7b", context=99)


def test_every_figure_off_its_rounding_is_explained() -> None:
    for one in inspect_all()["systems"]:
        off = [part for part in one.get("published", {}).values() if not part["within_rounding"]]
        assert bool(off) == ("discrepancy" in one), one["model"]


# ------------------------------------------------------------------------------------------------ models of suites


def test_a_model_of_a_suite_is_counted_as_solved(suite: str) -> None:
    found = inspect_model(f"{suite}:dense")
    assert found["ffn_hidden"] == 179
    assert found["architecture"]["ffn"]["hidden"] == 179
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
    assert "FFN 179" in inspection_text(inspect_model(f"{suite}:dense"))


def test_unknown_names_are_refused_with_the_known_ones(suite: str) -> None:
    with pytest.raises(PlanError, match=r"mixtral-8x7b.*SUITE:MODEL"):
        inspect_model("mixtral")
    with pytest.raises(PlanError, match="it has moe, dense"):
        inspect_model(f"{suite}:sparse")
    with pytest.raises(SuiteError):
        inspect_model("no_such_suite:moe")
