"""Claims about published systems: selected, counted exactly, every one, some or their median; suites without models."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from moebench import api
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.environment import environment
from moebench.planning import selecting
from moebench.planning.types import Plan
from moebench.reader.evidence import gather
from moebench.store import Results
from moebench.suite.errors import SuiteError
from moebench.suite.systems import Selection
from moebench.systems import System, system, systems

HEAD = "suite: counted\nquestion: Do the numbers hold?\nclaims:\n"


def written(folder: Path, **claims: str) -> Path:
    path = folder / "suite.yaml"
    path.write_text(HEAD + "".join(f"  {name.replace('_', '-')}: {text}\n" for name, text in claims.items()))
    return path


def judged(folder: Path, **claims: str) -> list[Verdict]:
    results = Results(folder / "results")
    plan = api.plan(written(folder, **claims), results=results.root)
    return judge(gather(results, results.save_plan(plan, environment(1, "cpu"))))


def one(folder: Path, claim: str) -> Verdict:
    (verdict,) = judged(folder, asked=claim)
    return verdict


def refused(folder: Path, claim: str) -> str:
    with pytest.raises(SuiteError) as error:
        api.validate(written(folder, asked=claim))
    return str(error.value)


# ---------------------------------------------------------------------------------------------- counted


def test_counts_of_one_system_are_exact(tmp_path: Path) -> None:
    seven, eight = judged(
        tmp_path,
        seven="{model: mixtral-8x7b, metric: shape.experts, test: {kind: exact, value: 7}}",
        eight="{model: mixtral-8x7b, metric: shape.experts, test: {kind: exact, value: 8}}",
    )
    assert (seven.state, seven.effect, seven.asked) == ("refuted", "8 experts", "= 7")
    assert (eight.state, eight.p, eight.units) == ("supported", None, "counts")
    assert eight.low == eight.high == 8


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("cost.saving", 0.728, 0.729),
        ("cost.active_share", 0.2757, 0.2759),
        ("cost.flops_saving[context=32768]", 0.664, 0.666),
        ("cost.flops_per_active_param[context=1]", 1.999, 2.001),
        ("cost.weight_bytes[bits=4]", 23.35e9, 23.36e9),
        ("cost.weight_bytes[bits=16]", 93.40e9, 93.41e9),
        ("cost.decode_flops_per_token[context=2048]", 26.5e9, 26.6e9),
        ("shape.top_k", 1.9, 2.1),
        ("shape.is_moe", 0.9, 1),
        ("shape.expert_is_ffn", 0.9, 1),
        ("shape.year", 2022.5, 2023.5),
    ],
)
def test_each_count_is_that_of_mixtral(metric: str, low: float, high: float) -> None:
    value = selecting.of_system(system("mixtral-8x7b"), metric)
    assert low <= value <= high


def test_a_saving_is_against_all_experts_at_work() -> None:
    """Against the same blueprint with every expert used: no formula of its own."""
    from moebench.counting.flops import forward_flops_per_token

    b = system("deepseek-v3").blueprint
    assert b is not None
    stack = b.stacks[0]
    full = b.model_copy(
        update={
            "stacks": (
                stack.model_copy(
                    update={
                        "layers": tuple(
                            layer.model_copy(update={"ffn": layer.ffn.model_copy(update={"top_k": layer.ffn.experts})})
                            if layer.ffn is not None and layer.ffn.kind == "experts"
                            else layer
                            for layer in stack.layers
                        )
                    }
                ),
            )
        }
    )
    own, dense = (forward_flops_per_token(blueprint, context=4096) for blueprint in (b, full))
    assert selecting.of_system(system("deepseek-v3"), "cost.flops_saving[context=4096]") == pytest.approx(
        1 - own / dense
    )


def test_systems_are_compared_in_what_is_counted(tmp_path: Path) -> None:
    claim = "{compare: {treatment: olmoe-1b-7b, baseline: olmo-1b}, metric: cost.active_params_no_embedding, "
    verdict = one(tmp_path, claim + "test: {kind: ratio_within, low: 0.99, high: 1.01}}")
    assert verdict.state == "supported"
    assert verdict.estimate == pytest.approx(1.076 / 1.074, abs=1e-3)
    assert verdict.scope == "olmoe-1b-7b and olmo-1b, counted from the published architectures"
    assert "counted: active = total minus the experts a token skips, router included, both tables out" in verdict.notes


# ---------------------------------------------------------------------------------------------- selected


def test_it_holds_for_every_one_for_some_or_for_a_share(tmp_path: Path) -> None:
    claim = "{{systems: {{named: 'switch-*'}}, metric: shape.experts, test: {{kind: at_least, value: 128, in: {}}}}}"
    every, some, share, more = judged(
        tmp_path, a=claim.format("every"), b=claim.format("some"), c=claim.format("80%"), d=claim.format("81%")
    )
    assert [v.state for v in (every, some, share, more)] == ["refuted", "supported", "supported", "refuted"]
    assert every.reason == "it fails for 1 of 5 systems"
    assert share.reason == "it holds for 4 of 5 systems"
    assert {part.id: part.state for part in every.parts}["switch-base-8"] == "refuted"
    assert (every.n, every.p, every.low) == (5, None, every.high)
    assert every.scope == "published systems, named switch-*, counted from the published architectures"


def test_the_systems_counted_are_named_and_those_left_out_with_why(tmp_path: Path) -> None:
    verdict = one(
        tmp_path,
        "{systems: {kind: moe, until: 2020}, metric: cost.saving, test: {kind: at_least, value: 0.9, in: every}}",
    )
    assert verdict.systems == (
        "shazeer2017-moe-131072-h", "shazeer2017-moe-4096-h-lm1b", "shazeer2017-moe-65536-h", "gshard-moe-128e-12l",
        "gshard-moe-2048e-36l", "gshard-moe-512e-36l",
    )  # fmt: skip
    assert f"6 systems counted, a choice of this package: {', '.join(verdict.systems)}" in verdict.notes
    assert any(note.startswith("left out: jacobs1991-adaptive-mixtures cannot be counted") for note in verdict.notes)
    assert any("both tables out" in note for note in verdict.notes)


def test_a_selection_fits_all_of_its_fields() -> None:
    asked = Selection(kind="moe", since=2024, until=2024, named=["deepseek-*", "dbrx"], at_least={"cost.saving": 0.8})
    counts, made = selecting.select(asked, ["shape.experts"])
    experts = {name: each["shape.experts"] for name, each in counts.items()}
    assert experts == {"deepseek-moe-16b": 64, "deepseek-v2-lite": 64, "deepseek-v3": 256}
    assert made.left_out == {}
    assert asked.words == (
        "published mixtures since 2024 until 2024, named deepseek-* or dbrx, with cost.saving at least 0.8"
    )


def test_unlike_selections_have_unlike_words() -> None:
    fields: dict[str, list[object]] = {
        "kind": [None, "moe", "dense"], "since": [None, 2020, 2024], "until": [None, 2025],
        "named": [[], ["a"], ["a", "b"]], "at_least": [{}, {"cost.saving": 0.5}, {"cost.saving": 0.25}],
        "flagships": [False, True],
    }  # fmt: skip
    rng = random.Random(0)
    made = {}
    for _ in range(200):
        values = {key: rng.choice(options) for key, options in fields.items()}
        if any(values.values()):
            chosen = Selection.model_validate(values)
            assert made.setdefault(chosen.words, chosen) == chosen


def test_of_a_family_and_year_the_flagship_is_the_largest() -> None:
    counts, _ = selecting.select(Selection(since=2025, flagships=True), ["shape.is_moe"])
    is_moe = {name: each["shape.is_moe"] for name, each in counts.items()}
    assert is_moe == {"gpt-oss-120b": 1, "kimi-k2": 1, "llama-4-scout": 1, "qwen3-32b": 0}


# ---------------------------------------------------------------------------------------------- the median


TOP_K = "{systems: {kind: moe, since: 2024}, metric: shape.top_k, test: {kind: within, low: 1, high: 2, in: median}}"


def test_the_median_is_of_families_and_years(tmp_path: Path) -> None:
    verdict = one(tmp_path, TOP_K)
    assert (verdict.state, verdict.effect) == ("refuted", "4 experts")
    assert verdict.n == len(verdict.systems) == 12
    assert "each of 9 families and years counts once, by the median of its systems" in verdict.notes


def test_a_maker_of_many_sizes_does_not_move_the_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five more of one maker's year would make most of all systems; the median takes them once."""
    before = one(tmp_path, TOP_K)
    monkeypatch.setattr(selecting, "systems", lambda: (*systems(), *sizes_of("mixtral-8x22b", 20)))
    monkeypatch.setattr(selecting, "system", lambda name: by_name()[name])

    def by_name() -> dict[str, System]:
        return {each.name: each for each in (*systems(), *sizes_of("mixtral-8x22b", 20))}

    after = one(tmp_path, TOP_K)
    assert after.n == before.n + 20
    assert after.estimate == before.estimate == 4


def sizes_of(name: str, number: int) -> list[System]:
    return [system(name).model_copy(update={"name": f"{name}-{i}"}) for i in range(number)]


def test_a_share_says_how_many_are_of_one_maker(tmp_path: Path) -> None:
    text = "{{systems: {{since: 2025{}}}, metric: shape.is_moe, test: {{kind: exact, value: 1, in: 50%}}}}"
    all_sizes, flagships = judged(tmp_path, a=text.format(""), b=text.format(", flagships: true"))
    assert (all_sizes.state, flagships.state) == ("refuted", "supported")
    (warning,) = [note for note in all_sizes.notes if note.startswith("a maker counts once for each system")]
    assert "7 of qwen 2025" in warning
    assert not any(note.startswith("a maker counts") for note in flagships.notes)


# ---------------------------------------------------------------------------------------------- no models


def test_a_suite_without_models_is_planned_judged_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(
        tmp_path,
        eight="{model: mixtral-8x7b, metric: shape.experts, test: {kind: exact, value: 8}}",
        median=TOP_K,
        year="{systems: {named: 'switch-*'}, metric: shape.year, test: {kind: at_least, value: 2022, in: every}}",
    )
    outcome = api.run(path, results=tmp_path / "results", reports=tmp_path / "reports")
    assert outcome.started == 0
    assert outcome.statuses == {}
    assert [v.state for v in outcome.verdicts] == ["supported", "refuted", "refuted"]
    page = (tmp_path / "reports/counted/index.md").read_text()
    assert "Counted exactly, so nothing is left to chance: 1 supported, 2 refuted." in page
    assert "How sure" not in page
    assert "seeds" not in page.partition("## Provenance")[0]
    claims = json.loads((tmp_path / "reports/counted/claims.json").read_text())
    assert claims["claims"][2]["systems"][0] == "switch-base-128"


def test_the_counts_are_part_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, median=TOP_K)
    before = api.plan(path, results=tmp_path / "results")
    assert Plan.model_validate_json(before.model_dump_json()) == before
    more = (*systems(), *sizes_of("dbrx", 1))
    monkeypatch.setattr(selecting, "systems", lambda: more)
    monkeypatch.setattr(selecting, "system", lambda name: {each.name: each for each in more}[name])
    assert api.plan(path, results=tmp_path / "results").id != before.id


def test_plans_of_before_hold_parameters_alone() -> None:
    from moebench.planning.published import PlannedSystem

    old = {"total": 10, "active": 5, "total_no_embedding": 8, "active_no_embedding": 4}
    assert PlannedSystem.model_validate(old).counts["cost.active_params"] == 5


def test_models_of_a_suite_are_counted_alike(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "suite: counted\nquestion: What does it save?\nseeds: 2\ndata: {source: stdlib, context: 64}\n"
        "train: {budget: {steps: 2}, batch_tokens: 64}\n"
        "models:\n  moe: {layers: 1, width: 16, heads: 2, ffn: {kind: moe, experts: 4, top_k: 2, expert_hidden: 16}}\n"
        "claims:\n  saves: {model: moe, metric: cost.saving, test: {kind: at_least, value: 30%}}\n"
        "  small: {model: moe, metric: 'cost.weight_bytes[bits=8]', test: {kind: at_most, value: 1.0e6}}\n"
        "  four: {model: moe, metric: shape.experts, test: {kind: exact, value: 4}}\n"
    )
    results = Results(tmp_path / "results")
    plan = api.plan(path, results=results.root)
    saves, small, four = judge(gather(results, results.save_plan(plan, environment(1, "cpu"))))
    assert [v.state for v in (saves, small, four)] == ["supported"] * 3
    params = plan.decoders["moe"].costs.params
    assert saves.estimate == pytest.approx(1 - params.active_no_embedding / params.total_no_embedding)
    assert small.estimate == params.total


# ---------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("{systems: {kind: moe}, metric: cost.saving, test: {kind: at_least, value: 0.9}}", "in: every"),
        ("{systems: {}, metric: cost.saving, test: {kind: at_least, value: 0.9, in: some}}", "selects every system"),
        (
            "{systems: {named: 'swich-*'}, metric: cost.saving, test: {kind: at_least, value: 0.9, in: some}}",
            "no published system is called 'swich-*'",
        ),
        (
            "{systems: {kind: moe}, metric: test.bits_per_byte, test: {kind: at_most, value: 2, in: some}}",
            "test.bits_per_byte is measured, and published systems are counted alone",
        ),
        (
            "{systems: {kind: moe, since: 2090}, metric: cost.saving, test: {kind: at_least, value: 0.9, in: every}}",
            "no published system is selected",
        ),
        (
            "{systems: {kind: moe}, model: dbrx, metric: cost.saving, test: {kind: at_least, value: 0.9, in: every}}",
            "takes no 'model'",
        ),
        (
            "{systems: {since: 2025, until: 2024}, metric: cost.saving, test: {kind: at_least, value: 1, in: every}}",
            "until 2024 is before since 2025",
        ),
        ("{model: mixtral-8x7b, metric: cost.weight_bytes, test: {kind: at_most, value: 1}}", "needs the label 'bits'"),
        ("{model: mixtral-8x7b, metric: 'cost.weight_bytes[bits=0]', test: {kind: at_most, value: 1}}", "below 1"),
        ("{model: mixtral-8x7b, metric: 'cost.weight_bytes[bits=x]', test: {kind: at_most, value: 1}}", "no number"),
        ("{model: mistral-7b, metric: shape.experts, test: {kind: exact, value: 1}}", "a dense model has no"),
        ("{model: mixtral-8x9b, metric: shape.experts, test: {kind: exact, value: 1}}", "did you mean"),
        (
            "{compare: {treatment: mixtral-8x7b, baseline: dense}, metric: cost.total_params, test: {kind: superior}}",
            "no model of this suite is called 'dense'",
        ),
        (
            "{compare: {treatment: mixtral-8x7b, baseline: mistral-7b}, metric: test.bits_per_byte, "
            "test: {kind: superior}}",
            "no model of this suite is called 'mixtral-8x7b'",
        ),
        (
            "{systems: {kind: moe}, metric: cost.saving, test: {kind: within, low: 0.9, high: 0.8, in: some}}",
            "low 0.9 is not below high 0.8",
        ),
        ("{model: dbrx, metric: cost.saving, test: {kind: at_least, value: 0.9, in: median}}", "selected with"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(tmp_path: Path, claim: str, words: str) -> None:
    told = refused(tmp_path, claim)
    assert words in told
    assert "suite.yaml:4:" in told


def test_a_suite_of_models_still_needs_them(tmp_path: Path) -> None:
    told = refused(tmp_path, "{compare: {treatment: moe, baseline: dense}, metric: x, test: {kind: superior}}")
    assert "'models' is missing" in told


def test_years_and_shares_are_written_as_such(tmp_path: Path) -> None:
    year, share = judged(
        tmp_path,
        a="{model: switch-c-2048, metric: shape.year, test: {kind: at_least, value: 2022}}",
        b="{model: switch-c-2048, metric: cost.active_share, test: {kind: at_most, value: 1%}}",
    )
    assert (year.effect, year.asked) == ("2021", "≥ 2022")
    assert share.effect == "0.001112"
    assert math.isclose(share.estimate or 0, 0.001112, rel_tol=1e-3)


# ---------------------------------------------------------------------------------------------- the suite accounting


WRONG = {
    "mixtral-8x7b-12b-active", "mixtral-of-seven", "mixtral-8x22b-47b-active", "switch-2048-experts",
    "switch-a-few-a-token", "ninety-percent-at-mixtral", "in-language-models-since-2022", "no-larger-than-mistral",
    "memory-of-active-weights", "usual-number-of-experts", "usual-top-k",
}  # fmt: skip
"""Numbers that are told widely and do not follow from the published sizes."""


def test_the_suite_accounting_refutes_the_wrong_numbers_and_decides_every_claim(tmp_path: Path) -> None:
    results = Results(tmp_path / "results")
    plan = api.plan("accounting", results=results.root)
    verdicts = {v.id: v for v in judge(gather(results, results.save_plan(plan, environment(1, "cpu"))))}
    assert {v.state for v in verdicts.values()} == {"supported", "refuted", "cited"}
    assert {name for name in WRONG if verdicts[name].state != "refuted"} == set()
    right = {"mixtral-8x7b-47b", "mixtral-8x7b-12p9b-active", "mixtral-of-eight", "switch-1p6t", "dbrx-16-experts"}
    assert {name for name in right if verdicts[name].state != "supported"} == set()
    assert all(v.p is None and v.low == v.high for v in verdicts.values())
    assert len(plan.jobs) == 0
