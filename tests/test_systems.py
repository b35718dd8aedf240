"""Published systems: counts against their publishers and transformers, and as suites would write them; `moebench
inspect`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from moebench.counting.blueprint import Experts
from moebench.counting.weights import parameters
from moebench.planning.matching import PlanError
from moebench.suite.designs import designs
from moebench.suite.errors import SuiteError
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.words import known_systems, system_files
from moebench.systems import Figure, shape, system, systems, undisclosed
from moebench.systems.configs import families
from moebench.systems.inspection import inspect_all, inspect_model, inspection_text, size_text
from moebench.tables import table
from tests.support.meta_models import counted

COUNTED = [one.name for one in systems() if one.blueprint is not None]
CONFIGS: dict[str, dict[str, Any]] = {
    name: written["config"] for name in COUNTED if "config" in (written := table(system_files()[name])[name])
}


def test_names_read_without_parsing_are_those_of_the_files() -> None:
    for path in set(system_files().values()):
        parsed = list(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
        assert [name for name, file in system_files().items() if file == path] == parsed
    assert known_systems() == sorted(system_files())


# ------------------------------------------------------------------------------------------------ published figures


@pytest.mark.parametrize("name", COUNTED)
def test_counts_round_to_the_published_figures_or_say_why_not(name: str) -> None:
    one = system(name)
    off = []
    for figure, count in (
        (one.published.total, one.parameters.total),
        (one.published.active, one.active_by_convention),
    ):
        if figure is not None:
            assert count == pytest.approx(figure.value, rel=0.065)
            off.append(not figure.holds(count))
    assert any(off) == (one.discrepancy is not None)


def test_few_figures_are_off() -> None:
    """Those of GShard, and five that were rounded down or leave something out, each explained."""
    assert {one.name for one in systems() if one.discrepancy} == {
        "gshard-moe-128e-12l", "gshard-moe-512e-36l", "gshard-moe-2048e-36l", "deepseek-v2-lite", "kimi-k2",
        "llama-4-scout", "qwen3-30b-a3b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value", "inside", "outside"),
    [("46.7B", 46.7e9, 46_749_999_999, 46_750_000_001), ("141B", 141e9, 140_500_000_000, 140_400_000_000),
     ("8.9M", 8.9e6, 8_850_000, 8_840_000), ("1.04T", 1.04e12, 1_044_000_000_000, 1_046_000_000_000)],
)  # fmt: skip
def test_a_figure_reaches_half_a_unit_of_its_last_digit(text: str, value: float, inside: int, outside: int) -> None:
    figure = Figure(text=text)
    assert figure.value == pytest.approx(value, rel=1e-12)
    assert figure.holds(inside)
    assert not figure.holds(outside)


@pytest.mark.parametrize("text", ["46,7B", "B", "7", "1.5K"])
def test_other_figures_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no figure such as"):
        Figure(text=text)


@pytest.mark.parametrize(
    ("name", "total", "active"),
    [
        ("mixtral-8x7b", 46_702_792_704, 12_879_925_248),
        ("mistral-7b", 7_241_732_096, 7_241_732_096),
        ("dbrx", 131_596_523_520, 36_469_708_800),
        ("olmoe-1b-7b", 6_919_161_856, 1_282_017_280),
        ("deepseek-v3", 671_026_404_352, 37_552_282_624),
        ("gpt-oss-120b", 116_829_156_672, 5_711_982_912),
        ("switch-c-2048", 1_571_327_875_360, 1_747_228_960),
        ("glam-64b-64e", 1_161_756_155_904, 96_604_266_496),
        ("shazeer2017-moe-4096-h-lm1b", 4_303_372_288, 8_929_280),
    ],
)
def test_exact_counts(name: str, total: int, active: int) -> None:
    assert (system(name).parameters.total, system(name).parameters.active) == (total, active)


def test_mixtral_8x7b_by_hand() -> None:
    attention = 4096 * (32 * 128) * 2 + 4096 * (8 * 128) * 2
    expert, router, norms, tables = 3 * 4096 * 14336, 4096 * 8, 2 * 4096, 2 * 32000 * 4096
    common = 32 * (attention + router + norms) + 4096 + tables
    assert system("mixtral-8x7b").parameters.total == common + 32 * 8 * expert == 46_702_792_704
    assert system("mixtral-8x7b").parameters.active == common + 32 * 2 * expert == 12_879_925_248


def test_mistral_7b_is_mixtral_with_one_expert_and_no_router() -> None:
    mixtral, mistral = (system(name).parameters.total for name in ("mixtral-8x7b", "mistral-7b"))
    assert mixtral - mistral == 32 * (7 * 3 * 4096 * 14336 + 4096 * 8)


def test_active_is_not_one_convention() -> None:
    """gpt-oss and DeepSeek leave the input table out, Mixtral, Qwen and DBRX keep both: each figure says which."""
    without = {one.name for one in systems() if one.published.active_counts == "without_input_tables"}
    assert without == {"gpt-oss-20b", "gpt-oss-120b", "deepseek-v2-lite", "deepseek-v3"}
    for name in without - {"deepseek-v2-lite"}:
        one = system(name)
        assert one.published.active is not None
        assert not one.published.active.holds(one.parameters.active)


# ------------------------------------------------------------------------------------------------ transformers


@pytest.mark.parametrize("name", CONFIGS)
def test_transformers_class_on_the_meta_device_is_exactly_equal(name: str) -> None:
    config = dict(CONFIGS[name])
    if config["model_type"] == "deepseek":  # whose class is not in transformers; GLM-4.5's has the same weights
        assert config.pop("moe_layer_freq") == 1
        config["model_type"] = "glm4_moe"
    if config["model_type"] == "kimi_k2":  # which is DeepSeek-V3's by another name
        config["model_type"] = "deepseek_v3"
    if config["model_type"] == "dbrx":
        config["attn_config"] = {**config["attn_config"], "rope_theta": 5e5}
    config.pop("sliding_window", None)
    count = system(name).parameters
    assert (count.total, count.active) == counted({**config, "pad_token_id": None})


def test_most_systems_are_held_to_transformers() -> None:
    assert len(CONFIGS) == 28
    assert {config["model_type"] for config in CONFIGS.values()} <= set(families())


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("t5-v1.1-base", (768, 12, 2048, 12)),
        ("t5-v1.1-large", (1024, 16, 2816, 24)),
        ("t5-v1.1-xxl", (4096, 64, 10240, 24)),
    ],
)
def test_t5_is_transformers_and_the_head_that_it_ties(name: str, sizes: tuple[int, ...]) -> None:
    config = dict(zip(("d_model", "num_heads", "d_ff", "num_layers"), sizes, strict=True))
    config |= {"vocab_size": 32128, "d_kv": 64}
    theirs, _ = counted({"model_type": "t5", "feed_forward_proj": "gated-gelu", **config})
    assert system(name).parameters.total == theirs + 32128 * sizes[0]


def test_switch_c_is_transformers_with_fewer_experts_and_a_tied_head() -> None:
    """2,048 experts are as many modules for transformers, so 4 stand for them."""
    b = system("switch-c-2048").blueprint
    assert b is not None
    stacks = tuple(
        stack.model_copy(update={"layers": tuple(_with_experts(layer, 4) for layer in stack.layers)})
        for stack in b.stacks
    )
    small = b.model_copy(update={"stacks": stacks, "tied": True})
    theirs = counted({
        "model_type": "switch_transformers", "vocab_size": 32128, "d_model": 2080, "d_kv": 64, "d_ff": 6144,
        "num_layers": 15, "num_decoder_layers": 15, "num_sparse_encoder_layers": 15, "num_sparse_decoder_layers": 15,
        "num_heads": 30, "num_experts": 4,
    })  # fmt: skip
    count = parameters(small)
    assert (count.total, count.active) == theirs


def _with_experts(layer: Any, experts: int) -> Any:
    assert isinstance(layer.ffn, Experts)
    return layer.model_copy(update={"ffn": layer.ffn.model_copy(update={"experts": experts})})


# ------------------------------------------------------------------------------------------------ as suites write them


@pytest.mark.parametrize("name", known_systems())
def test_the_words_of_a_suite_are_words_of_a_suite(name: str) -> None:
    """A system names a design, or has words of its own, or says what no words say."""
    one = system(name)
    if one.design is not None:
        assert one.design in designs()
        assert one.kind == "moe"
        assert one.suite is None
    elif one.suite is None:
        assert one.apart
    elif one.kind == "dense":
        words = {key: value for key, value in _words(one.suite).items() if key != "qk_norm"}
        DenseFFN.model_validate({**words, "hidden": 64})
    else:
        sizes = {"kind": "moe", "experts": 8, "top_k": 4, "expert_hidden": 64}
        MoEFFN.model_validate({**sizes, **_words(one.suite)})


def test_layers_without_experts_are_said_in_suite_words_too() -> None:
    for one in systems():
        if one.blueprint is None or one.kind == "dense" or one.design is None or one.name.startswith("shazeer"):
            continue
        words, depth = _words(designs()[one.design].words), one.blueprint.depth
        moe = sum(times for times, _ in one.blueprint.mixtures)
        if one.name == "switch-c-2048":
            words.pop("every")  # as it says it differs
        assert moe == (depth - words.get("first_dense", 0)) // words.get("every", 1), one.name


@pytest.mark.parametrize("name", ["dbrx", "qwen1.5-moe-a2.7b", "qwen3-30b-a3b"])
def test_a_coefficient_of_a_configuration_says_what_it_is_in_our_loss(name: str) -> None:
    """transformers' balance loss is top_k times ours, as parity with its models shows."""
    one = system(name)
    assert one.blueprint is not None
    assert one.design is not None
    (top_k,) = {ffn.top_k for _, ffn in one.blueprint.mixtures}
    design = designs()[one.design]
    as_strong = top_k * _words(design.words)["balance_loss"]
    assert f"which is top_k ({top_k}) times ours: {as_strong:g} here is as strong" in design.apart


def test_mixtral_says_what_its_configurations_coefficient_is_in_our_loss() -> None:
    one = system("mixtral-8x7b")
    assert one.note is not None
    assert "its configuration has 0.02, for transformers' loss, which is 2 times ours, so 0.04 here" in one.note


def test_designs_that_balance_sequences_by_biased_scores_say_so() -> None:
    """DeepSeek-V3's eq. 18 counts unbiased scores; what is routed here is counted as it is routed."""
    for name, design in designs().items():
        words = _words(design.words)
        counts_biased = words["router"] == "sigmoid_bias" and words.get("balance_over") == "sequence"
        assert ("eq. 18" in design.apart) == counts_biased, name


def _words(text: str) -> dict[str, Any]:
    words: dict[str, Any] = YAML(typ="safe", pure=True).load(f"{{{text}}}")
    return words


# ------------------------------------------------------------------------------------------------ the list


@pytest.mark.parametrize("name", known_systems())
def test_every_system_names_its_source_and_says_what_it_is(name: str) -> None:
    one = system(name)
    assert len(one.source) > 10
    assert 1990 <= one.year <= 2100
    assert (one.blueprint is None) == (one.describes is not None)
    if one.blueprint is not None:
        assert shape(one.blueprint)


def test_there_are_43_and_the_oldest_comes_first() -> None:
    found = systems()
    assert len(found) == 43
    assert found[0].name == "jacobs1991-adaptive-mixtures"
    assert [one.year for one in found] == sorted(one.year for one in found)


def test_shapes_in_words() -> None:
    def words(name: str) -> str:
        b = system(name).blueprint
        assert b is not None
        return shape(b)

    assert words("mixtral-8x7b") == "32 x 4096, 32 heads on 8, 8 experts of 14336, top-2"
    assert words("llama-2-7b") == "32 x 4096, 32 heads, FFN 11008"
    assert words("deepseek-v3") == (
        "61 x 7168, 128 heads on a latent of 512, FFN 18432, 256 experts of 2048 + 2048 shared in 58 layers, top-8"
    )
    assert words("t5-v1.1-base") == "24 x 768, 12 encoder + 12 decoder, 12 heads, FFN 2048"
    assert words("shazeer2017-moe-65536-h") == "3 x 512, LSTM, 65536 experts of 1024 in 1 layer, top-4"


def test_what_cannot_be_counted_says_why() -> None:
    with pytest.raises(LookupError, match="cannot be counted: The whole model is one mixture"):
        _ = system("jacobs1991-adaptive-mixtures").parameters


def test_an_unknown_system_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="mixtral-8x7b"):
        system("mixtral")


@pytest.mark.parametrize("name", ["gpt-4", "GPT-4o", "GPT4", "gpt_4o", "claude-3.5-sonnet", "gemini"])
def test_undisclosed_systems_have_no_numbers(name: str) -> None:
    with pytest.raises(KeyError, match="there is nothing to count"):
        system(name)
    assert not {one.name.lower() for one in undisclosed()} & set(known_systems())
    assert all(set(one.model_dump()) == {"name", "says"} for one in undisclosed())


# ----------------------------------------------------------------------------------------------------
# `moebench inspect`: counts of published systems and of a suite's models, as data and as text.


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
    assert len(found["systems"]) == 43
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
