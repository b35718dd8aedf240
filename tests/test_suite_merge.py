"""Merging: `extends`, `base`, scales, sweeps, `--set`, and what a model takes back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.model import MoEFFN
from moebench.suite.write import resolved_yaml
from tests.support.suite_texts import PRINTED, VARIANTS, load, messages

# ------------------------------------------------------------------------------------------------ merging


def test_a_base_is_merged_key_by_key(tmp_path: Path) -> None:
    more = PRINTED.replace(
        "measure:", "  wide: {base: moe_8x2, width: 256, ffn: {experts: 32}, norm_eps: 1.0e-6}\nmeasure:"
    )
    wide = load(tmp_path, more).models["wide"]
    assert isinstance(wide.ffn, MoEFFN)
    assert (wide.width, wide.layers, wide.ffn.experts, wide.ffn.top_k, wide.ffn.expert_hidden) == (256, 4, 32, 2, 128)


def test_a_model_may_override_any_key_of_train(tmp_path: Path) -> None:
    more = PRINTED.replace(
        "dense:       {base: moe_8x2,", "dense:       {base: moe_8x2, train: {optimizer: {lr: 1e-3}},"
    )
    spec = load(tmp_path, more)
    assert [model.train.optimizer.lr for model in spec.models.values()] == [3e-3, 1e-3, 1e-3]
    assert spec.models["dense"].train.budget.tokens == 1.0e6


def test_a_sweep_makes_one_model_for_each_point_of_its_grid(tmp_path: Path) -> None:
    grid = "{ffn.experts: [4, 8], ffn.top_k: [2, 4], train.optimizer.lr: [0.001]}"
    spec = load(tmp_path, PRINTED.replace("measure:", f"  grid: {{base: moe_8x2, sweep: {grid}}}\nmeasure:"))
    assert list(spec.sweeps["grid"]) == [
        "grid.experts-4.top_k-2.lr-0.001", "grid.experts-4.top_k-4.lr-0.001",
        "grid.experts-8.top_k-2.lr-0.001", "grid.experts-8.top_k-4.lr-0.001",
    ]  # fmt: skip
    assert spec.sweeps["grid"]["grid.experts-4.top_k-4.lr-0.001"] == {
        "ffn.experts": 4, "ffn.top_k": 4, "train.optimizer.lr": 0.001,
    }  # fmt: skip
    assert "grid" not in spec.models
    model = spec.models["grid.experts-4.top_k-2.lr-0.001"]
    assert isinstance(model.ffn, MoEFFN)
    assert (model.ffn.experts, model.ffn.top_k, model.train.optimizer.lr) == (4, 2, 0.001)


@pytest.mark.parametrize(
    ("ffn", "hint"),
    [
        ("router: softmax_topk", "write `renormalise: false`, or use the router switch"),
        ("router: sigmoid_bias", "write `renormalise: false`, or use the router switch"),
        ("router: top_p, top_p: 0.5", "write `renormalise: false`, or use the router switch"),
        ("router: topk_softmax", "use softmax_topk with `renormalise: false`, or the router switch"),
        ("router: noisy_topk", "use softmax_topk with `renormalise: false`, or the router switch"),
        ("router: hierarchical, groups: 2, groups_chosen: 1", "use softmax_topk with `renormalise: false`"),
    ],
)
def test_one_expert_that_always_weighs_1_is_refused_with_what_to_write(tmp_path: Path, ffn: str, hint: str) -> None:
    one = f"  one: {{base: moe_8x2, ffn: {{top_k: 1, balance_loss: 0, {ffn}}}}}\nmeasure:"
    with pytest.raises(SuiteError) as raised:
        load(tmp_path, PRINTED.replace("measure:", one))
    assert "the router learns nothing from the loss" in str(raised.value)
    assert hint in str(raised.value)
    assert len(raised.value.problems) == 1


@pytest.mark.parametrize("ffn", ["renormalise: false", "router: switch, capacity_factor: 1.25", "experts: 1"])
def test_one_expert_is_fine_where_its_weight_tells_something_or_there_is_no_other(tmp_path: Path, ffn: str) -> None:
    load(tmp_path, PRINTED.replace("measure:", f"  one: {{base: moe_8x2, ffn: {{top_k: 1, {ffn}}}}}\nmeasure:"))


def test_a_sweep_that_reaches_one_expert_is_refused_at_that_value(tmp_path: Path) -> None:
    grid = "  grid: {base: moe_8x2, sweep: {ffn.top_k: [1, 2]}}\nmeasure:"
    with pytest.raises(SuiteError) as raised:
        load(tmp_path, PRINTED.replace("measure:", grid))
    (problem,) = raised.value.problems
    assert problem.position.source.lines[problem.position.line - 1][problem.position.column - 1 :].startswith("1, 2]")


def test_extends_reads_the_other_file_first(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "base.yaml").write_text(PRINTED)
    over = (
        "extends: below/base.yaml\nsuite: mine\nseeds: [3, 5]\nmodels: {moe_8x2: {width: 64}}\nmeasure: {speed: null}\n"
    )
    spec = load(tmp_path, over)
    assert (spec.suite, spec.seeds) == ("mine", [3, 5])
    assert {model.width for model in spec.models.values()} == {64}, "bases are worked out after the files are merged"
    assert spec.measure.speed is None
    assert spec.measure.routing


def test_relative_paths_belong_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    text = re.sub(r"data: .*", "data: {source: text, files: [books, /absolute/*.txt]}", PRINTED)
    (tmp_path / "below" / "base.yaml").write_text(text)
    spec = load(tmp_path, "extends: below/base.yaml\n")
    assert spec.data.source == "text"
    assert spec.data.files == [str(Path("below") / "books"), "/absolute/*.txt"]


def test_another_source_keeps_what_all_have_and_another_currency_nothing(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        re.sub(r"data: .*", "data: {source: text, files: [books], context: 512}", PRINTED)
    )
    over = "extends: base.yaml\ndata: {source: synthetic, symbols: 8}\ntrain: {budget: {steps: 10}}\n"
    spec = load(tmp_path, over)
    assert spec.data.source == "synthetic"
    assert spec.data.context == 512
    assert spec.models["dense"].train.budget.model_dump(exclude_none=True) == {"steps": 10}


def test_a_scale_is_merged_over_the_suite_when_it_is_chosen(tmp_path: Path) -> None:
    text = PRINTED + "scales:\n  nano: {seeds: 2, train: {budget: {tokens: 1e5}}, models: {moe_8x2: {layers: 1}}}\n"
    plain, nano = load(tmp_path, text), load(tmp_path, text, scale="nano")
    assert (plain.scale, nano.scale) == (None, "nano")
    assert nano.seeds == [0, 1]
    assert {model.layers for model in nano.models.values()} == {1}
    assert nano.models["dense"].train.budget.tokens == 1e5
    assert plain.models["dense"].train.budget.tokens == 1e6
    assert load_suite(tmp_path / "suite.yaml").scales == ("nano",)


def test_an_unknown_scale_names_those_there_are(tmp_path: Path) -> None:
    text = PRINTED + "scales: {nano: {seeds: 2}, small: {seeds: 3}}\n"
    assert messages(tmp_path, text, scale="nan").splitlines() == [
        "--scale:1:1: unknown scale 'nan': this suite has nano and small",
        "    nan",
        "    ^",
        "  did you mean 'nano'?",
    ]


def test_set_overrides_one_value_after_the_scale(tmp_path: Path) -> None:
    text = PRINTED + "scales: {nano: {seeds: 2, train: {budget: {tokens: 1e5}}}}\n"
    sets = [
        "train.budget.tokens=2e5",
        "models.dense.train.optimizer.lr=0.01",
        "measure.speed.decode.batch=[4]",
        "claims.better-per-token.family=exploratory",
    ]
    spec = load(tmp_path, text, scale="nano", sets=sets)
    assert spec.models["moe_8x2"].train.budget.tokens == 2e5
    assert spec.models["dense"].train.optimizer.lr == 0.01
    assert spec.measure.speed is not None
    assert spec.measure.speed.decode is not None
    assert spec.measure.speed.decode.batch == [4]
    assert spec.claims["better-per-token"].family == "exploratory"


def test_set_finds_names_with_dots(tmp_path: Path) -> None:
    text = PRINTED.replace("dense_total:", "dense.total:")
    assert load(tmp_path, text, sets=["models.dense.total.layers=2"]).models["dense.total"].layers == 2
    swept = PRINTED.replace("measure:", "  grid: {base: moe_8x2, sweep: {ffn.experts: [4, 8]}}\nmeasure:")
    spec = load(tmp_path, swept, sets=["models.grid.sweep.ffn.experts=[2]"])
    assert list(spec.sweeps["grid"]) == ["grid.experts-2"]


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("train.budgt.tokens=1", 7, "unknown key 'budgt'"),
        ("train.batch_tokens=4097", 20, "not a multiple of the context"),
        ("train.optimizer.lr=fast", 20, "lr must be a number, not 'fast'"),
        ("models.moe_8x1.layers=2", 8, "no model 'moe_8x1'"),
        ("seeds.a=2", 7, "seeds is the number 8: it has no keys to set"),
        ("extends=other.yaml", 1, "'extends' cannot be set"),
        ("train.budget.tokens", 1, "not of the form path.to.key=value"),
        ("train..tokens=1", 7, "has an empty part"),
        ("seeds=", 1, "not of the form path.to.key=value"),
        ("seeds=[1, 2", 7, "the '[' that is opened here is not closed"),
        ("seeds=!!python/name:os.system 1", 7, "tags"),
        ("", 1, "not of the form path.to.key=value"),
    ],
)
def test_a_wrong_set_is_shown_where_it_is_wrong(tmp_path: Path, text: str, column: int, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, PRINTED, sets=[text])
    problem = caught.value.problems[0]
    assert (problem.file, problem.line) == ("--set", 1)
    assert message in problem.message
    assert problem.column == column or text == "seeds=[1, 2"


# ------------------------------------------------------------------------------------------------ leaving out


def test_what_is_extended_can_lose_a_claim_and_a_model(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(PRINTED)
    whole = load(tmp_path, "extends: base.yaml\n")
    model, claim = "dense_total", next(name for name, one in whole.claims.items() if one.compare is not None)
    spec = load(tmp_path, f"extends: base.yaml\nclaims: {{{claim}: null}}\n")
    assert list(spec.claims) == [name for name in whole.claims if name != claim]
    spec = load(
        tmp_path,
        f"extends: base.yaml\nmodels:\n  {model}:\nclaims: {{{', '.join(f'{c}: null' for c in whole.claims)}}}\n",
    )
    assert list(spec.models) == [name for name in whole.models if name != model]
    assert spec.claims == {}


def test_a_scale_and_a_set_can_leave_out_a_claim(tmp_path: Path) -> None:
    claim = next(iter(load(tmp_path, PRINTED).claims))
    (tmp_path / "suite.yaml").write_text(
        f"{PRINTED.split('scales:')[0]}scales:\n  less: {{claims: {{{claim}: null}}}}\n"
    )
    assert claim not in load_suite(tmp_path / "suite.yaml", scale="less").spec.claims
    assert claim in load_suite(tmp_path / "suite.yaml").spec.claims
    assert claim not in load_suite(tmp_path / "suite.yaml", sets=[f"claims.{claim}=null"]).spec.claims


def test_a_claim_that_is_not_there_cannot_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(PRINTED)
    with pytest.raises(SuiteError, match=r"(?s)suite.yaml:2:17: bettr must be a mapping.*there is none of this name"):
        load(tmp_path, "extends: base.yaml\nclaims: {bettr: null}\n")


# ------------------------------------------------------------------------------------------------ inheriting routers


OVER = "  other: {base: %s, ffn: {%s}}\ntune:"


def other(tmp_path: Path, base: str, ffn: str) -> MoEFFN:
    found = load(tmp_path, VARIANTS.replace("tune:", OVER % (base, ffn))).models["other"].ffn
    assert isinstance(found, MoEFFN)
    return found


def test_an_inherited_option_is_taken_back_with_null(tmp_path: Path) -> None:
    hashed = other(tmp_path, "switch", "router: token_hash, capacity_factor: null, every: null, first_dense: 2")
    assert (hashed.router, hashed.capacity_factor, hashed.every, hashed.first_dense) == ("token_hash", None, None, 2)
    assert (hashed.activation, hashed.dense_hidden) == ("relu", 192)


def test_options_that_both_routers_read_stay(tmp_path: Path) -> None:
    assert other(tmp_path, "switch", "router: gshard, top_k: 2").capacity_factor == 1.25


def test_an_option_that_the_new_router_does_not_read_is_shown_where_the_router_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = OVER.partition("\n")[0] % ("adaptive", "router: softmax_topk")
    assert messages(tmp_path, VARIANTS.replace("tune:", f"{line}\ntune:")).splitlines()[-4:] == [
        str(tmp_path / "suite.yaml")
        + f":{VARIANTS[: VARIANTS.index('tune:')].count(chr(10)) + 1}:{line.index('softmax') + 1}: "
        "the router softmax_topk does not use top_p or entropy_loss: it reads capacity_factor, jitter, balance_over",
        f"    {line}",
        f"    {' ' * line.index('softmax')}^",
        "  what comes from the base is left out with top_p: null, entropy_loss: null",
    ]


def test_words_that_do_not_print_are_shown_escaped(tmp_path: Path) -> None:
    """A suite may hold letters that turn text round, and lines in its texts; neither reaches a terminal."""
    text = VARIANTS.replace("question:", '"qu\\u202e\\nestion":')
    shown = messages(tmp_path, text, name="red\u202e.yaml")
    assert all(line.isprintable() for line in shown.splitlines())
    assert r"unknown key 'qu\u202e\nestion'" in shown


@pytest.mark.parametrize("router", ["token_hash, capacity_factor: null", "expert_choice, capacity_factor: null"])
def test_a_loss_that_comes_from_the_base_is_taken_back_with_0(tmp_path: Path, router: str) -> None:
    text = VARIANTS.replace("router: switch,", "router: switch, balance_loss: 0.02,")
    line = "  other: {base: switch, ffn: {router: %s}}"
    loaded = load(tmp_path, text.replace("tune:", f"{line % (router + ', balance_loss: 0')}\ntune:"))
    assert isinstance(loaded.models["other"].ffn, MoEFFN)
    told = messages(tmp_path, text.replace("tune:", f"{line % router}\ntune:")).splitlines()
    column = line.index("%s") + 1
    assert f":{column}: the router {router.partition(',')[0]} does not use balance_loss: " in told[-4]
    assert told[-1] == "  what comes from the base is left out with balance_loss: 0"


def test_a_resolved_suite_does_not_name_a_loss_that_the_router_has_not(tmp_path: Path) -> None:
    """Its default is in the spec, and so in plans and run ids; written out it would be a mistake."""
    spec = load(tmp_path, VARIANTS.replace("tune:", OVER % ("switch", "router: token_hash, capacity_factor: null")))
    hashed = resolved_yaml(spec).partition("other:")[2]
    assert "balance_loss" not in hashed.partition("tune:")[0]
    assert load(tmp_path, resolved_yaml(spec), "resolved.yaml") == spec


@pytest.mark.parametrize(
    ("experts", "top_k", "context"), [(6, 2, 64), (128, 1, 64), (48, 5, 64), (7, 3, 8), (12, 8, 32)]
)
def test_what_is_told_to_do_for_choosers_does(tmp_path: Path, experts: int, top_k: int, context: int) -> None:
    """Experts choose as many tokens as are planned for: top_k of each in all."""

    def load_(experts: int, top_k: int, context: int) -> None:
        text = VARIANTS.replace("context: 64", f"context: {context}").replace("1024", f"{16 * context}")
        ffn = f"kind: moe, experts: {experts}, top_k: {top_k}, router: expert_choice, expert_hidden: 8"
        load(tmp_path, text.replace("tune:", OVER % ("dense", ffn)))

    with pytest.raises(SuiteError, match=f"{experts} experts cannot choose equally many of {context} tokens") as caught:
        load_(experts, top_k, context)
    hint = caught.value.problems[0].hint or ""
    number, of_context, of_top_k = map(int, re.findall("[0-9]+", hint))
    load_(number, top_k, context)
    load_(experts, top_k, -(-context // of_context) * of_context)
    load_(experts, of_top_k, context)


def test_a_shared_gate_may_stand_where_the_shared_width_is_solved(tmp_path: Path) -> None:
    ffn = load(tmp_path, VARIANTS).models["deepseek"].ffn
    assert isinstance(ffn, MoEFFN)
    assert (ffn.shared_gate, ffn.shared_hidden) == (True, None)
