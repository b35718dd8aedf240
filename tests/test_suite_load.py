"""What a suite file means: names, defaults, errors as a whole, and where suites are found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from moebench.amounts import Amount
from moebench.models.routers import ROUTERS
from moebench.suite import words
from moebench.suite.errors import SuiteError
from moebench.suite.load import bundled_suites, find_suite, load_suite
from moebench.suite.model import DenseFFN, MoEFFN
from moebench.suite.schema import schema
from tests.support.suite_texts import KINDS, PRINTED, load, messages

HERE = Path(__file__).parent


# ------------------------------------------------------------------------------------------------ what is printed


def test_the_printed_suite_loads_as_it_reads(tmp_path: Path) -> None:
    spec = load(tmp_path, PRINTED)
    assert spec.seeds == [0, 1, 2, 3, 4, 5, 6, 7]
    assert list(spec.models) == ["moe_8x2", "dense", "dense_total"]
    moe, dense, total = spec.models.values()
    assert isinstance(moe.ffn, MoEFFN)
    assert moe.ffn.balance_loss == 0.01
    assert dense.ffn == DenseFFN(kind="dense"), "another kind replaces the whole mapping"
    assert (dense.layers, dense.width, dense.heads) == (4, 128, 4)
    assert dense.match is not None
    assert total.match is not None
    assert (dense.match.on, total.match.on, total.match.to) == ("active_params", "total_params", "moe_8x2")
    assert {model.train.budget.tokens for model in spec.models.values()} == {1.0e6}
    assert moe.train.optimizer.lr == 3e-3
    assert moe.train.schedule.warmup == Amount(value=0.05, relative=True)
    claim = spec.claims["better-per-token"]
    assert claim.family == "primary"
    assert claim.test.kind == "superior"
    assert claim.test.margin == Amount(value=0.005, relative=True)


def test_one_claim_of_each_kind_loads(tmp_path: Path) -> None:
    spec = load(tmp_path, KINDS)
    assert [claim.test.kind for claim in spec.claims.values()] == [
        "non_inferior", "equivalent", "ratio_within", "ratio_at_least", "recovers", "trend", "interaction", "exact",
    ]  # fmt: skip
    assert spec.claims["a"].says == "moe against dense on speed.train_step_s: non-inferior with a margin of 10%."
    assert spec.claims["h"].model == "mixtral-8x7b"


@pytest.mark.parametrize("text", [PRINTED, KINDS], ids=["printed", "kinds"])
def test_the_schema_accepts_what_is_printed(text: str) -> None:
    jsonschema.Draft202012Validator(schema()).validate(YAML(typ="safe").load(text))


# ------------------------------------------------------------------------------------------------ errors as a whole


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        PRINTED.replace("layers: 4", "layers: four")
        .replace("context: 256", "contxt: 256")
        .replace("baseline: dense}", "baseline: dens}")
        .replace("base: dense,", "base: denze,")
    )
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, text)
    found = [(problem.line, problem.message) for problem in caught.value.problems]
    assert [message for _, message in found] == [
        "unknown key 'contxt'",
        "layers must be a whole number, not 'four'",
        "base names no model of this suite: 'denze'",
        "no model of this suite is called 'dens'",
    ]
    assert [line for line, _ in found] == sorted(line for line, _ in found)


def test_a_problem_is_shown_with_its_line_a_caret_and_the_nearest_word(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("suite: x\nquestion: y\nseds: 8\n")
    with pytest.raises(SuiteError) as caught:
        load_suite("mine.yaml")
    assert str(caught.value).splitlines()[-4:] == [
        "mine.yaml:3:1: unknown key 'seds'",
        "    seds: 8",
        "    ^",
        "  did you mean 'seeds'?",
    ]


def test_a_model_does_not_repeat_the_mistakes_of_its_base(tmp_path: Path) -> None:
    assert messages(tmp_path, PRINTED.replace("layers: 4, ", "")).count("'layers' is missing") == 1


def test_mistakes_in_an_extended_file_are_shown_in_that_file(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(PRINTED.replace("heads: 4", "heads: 5"))
    assert messages(tmp_path, "extends: base.yaml\nsuite: mine\n").startswith("base.yaml:8:47: width 128 is not")


def test_a_place_of_the_loaded_suite_can_be_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(PRINTED)
    source = load_suite(tmp_path / "suite.yaml").source
    assert source.at("models", "dense", "match", "on").line == 10
    assert source.at("seeds").column == 8
    assert source.at("measure", "speed", "processes").line == source.at("measure", "speed", key=True).line
    problem = source.problem(("models", "dense", "match"), "no whole width will do")
    assert str(problem).splitlines()[0].endswith("suite.yaml:10:52: no whole width will do")


# ------------------------------------------------------------------------------------------------ finding suites


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "base.yaml").write_text(PRINTED)
    assert load_suite("~/there/base.yaml").path == tmp_path / "there" / "base.yaml"
    (tmp_path / "here").mkdir()
    mine = "extends: ~/there/base.yaml\nsuite: mine\n"
    assert load(tmp_path / "here", mine).suite == "mine"
    (tmp_path / "there" / "text.yaml").write_text(
        "extends: base.yaml\ndata: {source: text, files: [~/corpus, other.txt]}\n"
    )
    spec = load(tmp_path / "here", "extends: ~/there/text.yaml\nsuite: mine\n")
    assert getattr(spec.data, "files", None) == ["~/corpus", "../there/other.txt"]


@pytest.mark.parametrize("word", ["mine", "mine.yml", "sub/mine"])
def test_a_suite_without_its_ending_is_named_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = (tmp_path / word).with_suffix(".yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text("suite: mine\n")
    with pytest.raises(SuiteError, match=f"did you mean '{Path(word).with_suffix('.yaml')}'"):
        find_suite(word)
    for other in ("..", "/", "x" * 5000):
        with pytest.raises(SuiteError, match=r"no such suite file|a folder"):
            find_suite(other)


def test_bundled_suites_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "suites_folder", lambda: tmp_path)
    (tmp_path / "quick.yaml").write_text(PRINTED)
    assert load_suite("quick").path == tmp_path / "quick.yaml"
    assert bundled_suites() == [("quick", load_suite("quick").spec.question)]
    (tmp_path / "elsewhere").mkdir()
    assert load(tmp_path / "elsewhere", "extends: quick\nsuite: mine\n").suite == "mine"
    with pytest.raises(SuiteError, match="did you mean 'quick'"):
        load_suite("quik")


@pytest.mark.parametrize("name", ["nothing.yaml", "", "../..", "a\0b", "x" * 5000])
def test_a_suite_that_is_not_there_is_an_error_like_any_other(name: str) -> None:
    with pytest.raises(SuiteError):
        load_suite(name)


@pytest.mark.parametrize("path", sorted((HERE.parent / "suites").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_suite_is_valid_at_every_scale(path: Path) -> None:
    loaded = load_suite(path)
    assert loaded.spec.suite == path.stem
    for scale in loaded.scales:
        load_suite(path, scale=scale)
    jsonschema.Draft202012Validator(schema()).validate(YAML(typ="safe").load(path.read_text()))


def test_editors_offer_our_routers() -> None:
    assert schema()["$defs"]["MoEFFN"]["properties"]["router"]["anyOf"][0]["enum"] == list(ROUTERS)
