"""What each metric can and cannot say; one number or the reason why there is none; metrics asked of finished suites."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
from pydantic import ValidationError

from moebench import api
from moebench.claims.idle import occupancy
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.cli.console.lists import LISTS
from moebench.metrics import METRICS, constant, impossible, metric_of, record
from moebench.metrics.metric import Record
from moebench.metrics.ref import MetricRef, labelled
from moebench.metrics.routing import idle_by_chance, routing_records
from moebench.models.routers import ROUTERS
from moebench.reader.evidence import Evidence, gather
from moebench.reporting.tables.routing import routing
from moebench.store import Results, sha256_of
from tests.support import golden_systems, tiny_suites
from tests.support.builders import claim, evidence_of
from tests.support.golden_results import MACHINE
from tests.support.small_models import architecture, dense, moe
from tests.support.small_routers import given, mixture, router
from tests.support.tiny_suites import claim as tiny_suites_claim
from tests.support.tiny_suites import write

SUPERIOR = {"kind": "superior", "margin": "5%"}


def test_every_metric_says_what_it_can_and_cannot_say_and_both_are_listed() -> None:
    shown = {str(row[0]).partition("[")[0]: row for row in LISTS["metrics"]()}
    for name, metric in METRICS.items():
        assert len(metric.cannot) > 10
        assert not metric.cannot.endswith(".")
        assert (name in shown) == (metric.retired is None)
        if metric.retired is None:
            assert metric.says in str(shown[name][1])
            assert shown[name][2] == metric.cannot


# ------------------------------------------------------------------------------------------ fixed by construction


FIXED = {
    "routing.dropped_share": moe(),
    "evaluation.dropped_share": moe(4, 2, capacity_factor=0.25),
    "memory.resident_growth_bytes": dense(),
    "train.tokens": moe(),
    "train.epochs": dense(),
    "test.scored_bytes": dense(),
    "curve.scored_documents": moe(),
    "routing.idle_by_chance": moe(),
    "agreement.same_experts": moe(),
    "agreement.by_chance": moe(4, 2, jitter=0.1),
}


@pytest.mark.parametrize("metric", FIXED)
def test_what_cannot_vary_is_known_to(metric: str) -> None:
    assert constant(metric, architecture(FIXED[metric])) is not None


def test_metrics_vary_unless_something_fixes_them() -> None:
    ffn = moe(8, 2, capacity_factor=1.0)
    assert {name for name in METRICS if constant(name, architecture(ffn)) is not None} == {
        *FIXED, "test.scored_documents", "tune.scored_bytes", "tune.scored_documents", "curve.scored_bytes",
        "decayed.tokens", "start.share",
    }  # fmt: skip


def test_a_share_of_drops_is_0_where_there_is_room_for_all() -> None:
    assert "no capacity_factor" in str(constant("train.dropped_share", architecture(moe(8, 2))))
    assert "room for every token" in str(constant("train.dropped_share", architecture(moe(8, 2, capacity_factor=4.0))))
    assert constant("train.dropped_share", architecture(moe(8, 2, capacity_factor=3.9))) is None
    assert constant("train.dropped_share", architecture(dense())) is not None
    assert constant("train.dropped_share", architecture(moe(8, 2, router="of_a_package"))) is None


LOADS = ("routing.entropy", "routing.max_over_mean", "routing.dead_experts", "routing.tokens[layer=0,expert=0]")


@pytest.mark.parametrize("word", ROUTERS)
def test_loads_are_fixed_exactly_where_no_weights_make_them_uneven(word: str) -> None:
    """Whole sequences of 16 tokens, twice, whose number the experts divide, through two drawings of the weights."""
    shape = {"experts": 8, "top_k": 4, "groups": 4} if word == "hierarchical" else {}
    ffn, tokens = mixture(word, **shape), given(4, 16)
    loads = set()
    for seed in (0, 1):
        expert_N = tokens.routed_by(router(word, seed=seed, **shape).eval()).expert_N
        loads.add(tuple(expert_N.bincount(minlength=ffn.experts).tolist()))
    even = len(loads) == 1 and len(set(loads.pop())) == 1
    for metric in LOADS:
        assert (constant(metric, architecture(ffn)) is not None) == even


def test_loads_of_one_expert_or_of_all_of_them_are_fixed() -> None:
    for metric in LOADS:
        assert "one expert" in str(constant(metric, architecture(moe(1, 1))))
        assert "every expert" in str(constant(metric, architecture(moe(4, 4))))
        assert constant(metric, architecture(moe(4, 4, router="top_p", top_p=0.5))) is None
        assert constant(metric, architecture(moe(4, 4, router="of_a_package"))) is None


def suite(metric: str, *, capacity: float | None = 0.25, **test: Any) -> dict[str, Any]:
    """A dropping and a dropless mixture, and a claim about a metric of both."""
    ffn = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
    shape = {"layers": 2, "width": 16, "heads": 2}
    drop = {**ffn, "capacity_factor": capacity} if capacity else ffn
    few = tiny_suites.claim(metric=metric, test=test or SUPERIOR, compare={"treatment": "drop", "baseline": "full"})
    return {
        "models": {"drop": {**shape, "ffn": drop}, "full": {**shape, "ffn": ffn}},
        "claims": {"few": few},
        "measure": {"memory": True, "speed": {"train_step": True}},
    }


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("routing.dropped_share", "0 by construction, as experts take every assignment in an evaluation"),
        ("evaluation.dropped_share", "0 by construction, as experts take every assignment in an evaluation"),
        ("train.dropped_share", "0 by construction, as softmax_topk has no capacity_factor here"),
        ("memory.resident_growth_bytes", "the order in which models were loaded"),
    ],
)
def test_a_claim_about_what_cannot_vary_is_noted_before_anything_is_trained(
    tmp_path: Path, metric: str, words: str
) -> None:
    made = tiny_suites.planned(tmp_path, **suite(metric, kind="ratio_within", low=0.9, high=1.1))
    (note,) = [note for note in made.plan.warnings if note.startswith("claims.few")]
    assert f"{metric} of " in note
    assert "INVALID" in note
    assert words in note


def test_a_claim_about_what_varies_is_not(tmp_path: Path) -> None:
    made = tiny_suites.planned(tmp_path, **suite("routing.entropy"))
    assert not [note for note in made.plan.warnings if note.startswith("claims.few")]


def test_a_stored_claim_about_what_cannot_vary_is_invalid() -> None:
    """What old suites were allowed to ask, and old folders hold: 0 against 0, in every run."""
    values = {name: {"routing.dropped_share": [0.0] * 8, "train.tokens": [1e6] * 8} for name in ("moe", "moe_other")}
    pair = {"treatment": "moe", "baseline": "moe_other"}
    for metric in ("routing.dropped_share", "train.tokens", "memory.resident_growth_bytes"):
        block = claim({"kind": "equivalent", "margin": "5%"}, metric, compare=pair)
        (verdict,) = judge(evidence_of(values, {"c": block}))
        assert verdict.state == "invalid"
        assert f"constant: {metric} of moe" in str(verdict.reason)


# ------------------------------------------------------------------------------------------ bounds


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A folder of before, whose speed sessions do not say what was routed."""
    root = tmp_path_factory.mktemp("systems")
    plan = golden_systems.systems_plan()
    stored = Results(root).save_plan(plan, MACHINE)
    golden_systems._write_speed(root, plan)
    return gather(Results(root), stored)


def test_a_utilisation_counted_with_a_bound_is_no_measurement(systems: Evidence) -> None:
    models = systems.plan.models
    varying = {name for name, model in models.items() if model.architecture.computes_fewer(training=True)}
    assert {"switch_2021", "gshard_2020", "mixtral_capacity"} <= varying < set(models)
    for process in systems.processes:
        told = {name for name in models if "speed.train_utilisation" in process.values[name]}
        assert told == set(models) - varying
        assert all("may not have been computed" in process.absent[n]["speed.train_utilisation"] for n in varying)
        assert set(process.about["derived"]) >= told
        assert all("speed.train_utilisation" not in process.about["derived"][name] for name in varying)


# ------------------------------------------------------------------------------------------ exact


PEAK = "memory.train_peak_bytes"


def verdict_of(values: dict[str, dict[str, list[Any]]], block: dict[str, Any], **more: Any) -> Verdict:
    return judge(evidence_of(values, {"c": block}, **more))[0]


@pytest.mark.parametrize(("seeds", "states"), [(2, ("inconclusive",) * 2), (8, ("supported", "refuted"))])
def test_peaks_that_every_run_has_alike_are_compared_exactly(seeds: int, states: tuple[str, str]) -> None:
    """At the bound itself, and with no fewer runs than any other number needs."""
    values: dict[str, dict[str, list[Any]]] = {"moe": {PEAK: [1500] * seeds}, "dense": {PEAK: [1000] * seeds}}
    within = claim({"kind": "ratio_within", "low": 1.4, "high": 1.5}, PEAK)
    verdict = verdict_of(values, within)
    assert (verdict.state, verdict.p) == (states[0], 2.0**-seeds)
    assert (verdict.low, verdict.high) == (pytest.approx(1.5), pytest.approx(1.5))
    assert any("the same in all" in note for note in verdict.notes)
    assert verdict_of(values, claim({"kind": "superior", "margin": "0%"}, PEAK)).state == states[1]


def test_peaks_that_differ_from_seed_to_seed_are_measured() -> None:
    values: dict[str, dict[str, list[Any]]] = {"moe": {PEAK: [1500 + i for i in range(8)]}, "dense": {PEAK: [1000] * 8}}
    verdict = verdict_of(values, claim({"kind": "ratio_at_least", "value": 1.2}, PEAK))
    assert verdict.p is not None
    assert not any("the same in all" in note for note in verdict.notes)


def test_one_run_alone_and_runs_that_are_absent_are_no_count() -> None:
    one: dict[str, dict[str, list[Any]]] = {"moe": {PEAK: [1500]}, "dense": {PEAK: [1000]}}
    assert verdict_of(one, claim(SUPERIOR, PEAK)).state == "inconclusive"
    many: dict[str, dict[str, list[Any]]] = {"moe": {PEAK: [1500] * 3}, "dense": {PEAK: [1000] * 3}}
    gone = verdict_of(many, claim(SUPERIOR, PEAK), missing=[("moe", 1)])
    assert gone.state not in ("supported", "refuted")


def test_a_loss_is_never_a_count() -> None:
    values: dict[str, dict[str, list[Any]]] = {
        name: {"init.ffn_output_rms[layer=0]": [0.5] * 2} for name in ("moe", "dense")
    }
    within = claim({"kind": "ratio_within", "low": 0.9, "high": 1.1}, "init.ffn_output_rms[layer=0]")
    assert verdict_of(values, within).state == "inconclusive"


# ------------------------------------------------------------------------------------------ bounds of counts


def planned_with(folder: Path, test: dict[str, Any], *, treatment: str, metric: str, **ffn: Any) -> Verdict:
    """The verdict on counts of a plain mixture and one with a router that may compute fewer pairs."""
    plain = {"kind": "moe", "experts": 4, "top_k": 2, "expert_hidden": 16}
    shape = {"layers": 2, "width": 16, "heads": 2}
    few = {**shape, "ffn": {**plain, **ffn}}
    half = {**shape, "ffn": {**plain, "expert_hidden": 8}}
    baseline = {"few": "half", "half": "few"}[treatment]
    block = tiny_suites.claim(metric=metric, test=test, compare={"treatment": treatment, "baseline": baseline})
    plan = tiny_suites.planned(folder, models={"few": few, "half": half}, claims={"c": block}).plan
    stored = evidence_of({"moe": {}, "dense": {}}, {}).stored.model_copy(update={"plan": plan})
    return judge(Evidence(stored=stored, outcomes=()))[0]


TRAIN_FLOPS, DECODE_FLOPS = "cost.train_flops_per_token", "cost.decode_flops_per_token"


def test_a_bound_shows_that_something_costs_less_and_not_that_it_costs_more(tmp_path: Path) -> None:
    """The mixture that may compute fewer pairs has twice the expert width: it costs more at most, and perhaps less."""
    for metric, options in ((TRAIN_FLOPS, {"capacity_factor": 0.5}), (DECODE_FLOPS, {"router": "top_p", "top_p": 0.5})):
        lower = planned_with(tmp_path, SUPERIOR, treatment="half", metric=metric, **options)
        assert lower.state == "invalid"
        assert f"bound: {metric} of few is the most it can be" in str(lower.reason)
        most = {"kind": "non_inferior", "margin": "200%"}
        within = planned_with(tmp_path, most, treatment="few", metric=metric, **options)
        assert within.state == "supported"
        assert "of few the count is a bound from above" in within.notes
        higher = planned_with(tmp_path, SUPERIOR, treatment="few", metric=metric, **options)
        assert higher.state == "invalid", "it may cost less after all"


def test_a_bound_is_never_an_equal(tmp_path: Path) -> None:
    near = {"kind": "ratio_within", "low": 0.1, "high": 10.0}
    verdict = planned_with(tmp_path, near, treatment="few", metric=TRAIN_FLOPS, capacity_factor=0.5)
    assert verdict.state == "invalid"
    assert "claim train.model_flops" in str(verdict.reason)


def test_what_is_exact_of_a_dropping_router_stays_exact(tmp_path: Path) -> None:
    """It decodes without drops, and has its weights whatever it drops."""
    for metric in (DECODE_FLOPS, "cost.active_params", "cost.total_params"):
        verdict = planned_with(tmp_path, SUPERIOR, treatment="half", metric=metric, capacity_factor=0.5)
        assert verdict.state == "supported"
        assert not any("bound" in note for note in verdict.notes)


# ------------------------------------------------------------------------------------------ chance

IDLE = "routing.dead_experts"


def loads(counts: list[list[int]]) -> dict[str, list[Any]]:
    """Records of one layer's loads, a row a seed."""
    found: dict[str, list[Any]] = {}
    for load in counts:
        for one in routing_records(np.array([load]), layers=(0,), dropped=None, step=1):
            found.setdefault(one.metric, []).append(one.value)
    return found


def thrown(seed: int, *, pairs: int, experts: int, among: int | None = None) -> list[int]:
    """Loads of pairs that each go to one of some of the experts at random."""
    drawn = np.random.default_rng(seed).integers(0, among or experts, pairs)
    return np.bincount(drawn, minlength=experts).tolist()


def idle_verdict(treatment: list[list[int]], baseline: list[list[int]]) -> Verdict:
    block = claim({"kind": "non_inferior", "margin": 1.0}, IDLE, compare={"treatment": "moe", "baseline": "moe_other"})
    return verdict_of({"moe": loads(treatment), "moe_other": loads(baseline)}, block)


def test_idle_experts_that_chance_explains_give_no_verdict() -> None:
    few = [thrown(seed, pairs=256, experts=256) for seed in range(16)]
    verdict = idle_verdict(few[:8], few[8:])
    assert verdict.state == "invalid"
    assert "cannot be told apart" in str(verdict.reason)
    assert "(94)" in str(verdict.reason)


def test_idle_experts_beyond_chance_or_where_chance_leaves_none_are_judged() -> None:
    rest = [thrown(100 + seed, pairs=256, experts=256) for seed in range(8)]
    collapsed = [thrown(seed, pairs=256, experts=256, among=26) for seed in range(8)]
    assert idle_verdict(collapsed, rest).state == "refuted"
    many = [thrown(seed, pairs=65536, experts=256) for seed in range(16)]
    assert idle_verdict(many[:8], many[8:]).state not in ("invalid", "not_tested")


@pytest.mark.parametrize(("experts", "pairs"), [(256, 256), (8, 10), (2, 3), (1, 5)])
def test_the_number_that_chance_leaves_idle_by_simulation(experts: int, pairs: int) -> None:
    rng = np.random.default_rng(0)
    idle = [(np.bincount(rng.integers(0, experts, pairs), minlength=experts) == 0).sum() for _ in range(4000)]
    mean, variance = occupancy(experts, pairs)
    assert np.mean(idle) == pytest.approx(mean, abs=4 * math.sqrt(variance / 4000) + 1e-9)
    assert np.var(idle) == pytest.approx(variance, rel=0.1, abs=1e-9)
    assert mean == pytest.approx(idle_by_chance(np.array([pairs] + [0] * (experts - 1))))


def test_models_with_other_numbers_of_tokens_an_expert_are_told_what_chance_makes_of_them() -> None:
    """A 16-expert layer of 160 pairs and a 4-expert one: routed at random their entropies differ by chance alone."""
    wide = [thrown(seed, pairs=160, experts=16) for seed in range(8)]
    narrow = [thrown(seed, pairs=160, experts=4) for seed in range(8)]
    compare = {"treatment": "moe", "baseline": "moe_other"}
    values = {"moe": loads(wide), "moe_other": loads(narrow)}
    for metric in ("routing.entropy", "routing.max_over_mean"):
        verdict = verdict_of(values, claim({"kind": "superior", "margin": "0%"}, metric, compare=compare))
        (note,) = [note for note in verdict.notes if "by chance" in note]
        assert metric in note
        told = [float(word.split(" for ")[0]) for word in note.partition("by chance, ")[2].split(": ")[0].split(", ")]
        for model, expected in zip(("moe", "moe_other"), told, strict=True):
            assert np.mean(values[model][metric]) == pytest.approx(expected, rel=0.02 if "entropy" in metric else 0.4)
    same = {"moe": loads(narrow), "moe_other": loads(narrow[::-1])}
    verdict = verdict_of(same, claim({"kind": "superior", "margin": "0%"}, "routing.entropy", compare=compare))
    assert not [note for note in verdict.notes if "by chance" in note]


def test_a_reports_counts_of_experts_have_no_interval_below_0() -> None:
    """Five seeds without an idle expert and one with one: 0.17, from 0 to 1, where a t interval would reach -0.26."""
    rows = pd.DataFrame({"model": "moe", "value": [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]})
    none = pd.DataFrame({"model": [], "value": []})
    held = SimpleNamespace(final=lambda metric: rows if metric == IDLE else none, models=("moe",))
    table = routing(SimpleNamespace(study=held, many=False))  # type: ignore[arg-type]
    assert table is not None
    (row,) = table.frame.to_dict("records")
    assert (row["value"], row["low"], row["high"]) == (pytest.approx(1 / 6), 0.0, 1.0)


# ----------------------------------------------------------------------------------------------------
# One number or the reason why there is none; names with labels; what every metric says of itself.


WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789_.-", min_size=1, max_size=12)


def test_a_record_has_a_value_or_a_reason() -> None:
    assert record("train.tokens", 4096, step=1).value == 4096
    assert record("train.tokens", reason="not run").value is None
    for value, reason in ((None, None), (1.0, "and a reason")):
        with pytest.raises(ValidationError, match="a value or a reason"):
            record("train.tokens", value, reason=reason)


def test_zero_is_a_measurement() -> None:
    assert record("routing.dead_experts", 0).value == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_measurement(value: float) -> None:
    with pytest.raises(ValidationError):
        record("test.bits_per_byte", value)


def test_records_are_stamped_with_the_version_of_their_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "train.tokens", METRICS["train.tokens"].model_copy(update={"version": 7}))
    assert record("train.tokens", 1).version == 7


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record("train.tokens", 1).value = 2  # type: ignore[misc]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Record.model_validate({"metric": "train.tokens", "value": 1, "unit": "tokens"})


def test_an_unknown_metric_or_label_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"train\.tokens"):
        record("train.token", 1)
    with pytest.raises(KeyError, match="no label expert; allowed: layer"):
        record("init.ffn_output_rms[expert=1]", 1.0)
    with pytest.raises(KeyError, match="allowed: none"):
        record("train.tokens[layer=1]", 1)


def test_labels_are_read_from_brackets() -> None:
    ref = MetricRef.parse("routing.tokens[layer=0, expert=3]")
    assert ref == MetricRef("routing.tokens", (("layer", "0"), ("expert", "3")))
    assert (ref.group, ref.get("expert"), ref.get("domain")) == ("routing", "3", None)
    assert str(ref) == "routing.tokens[layer=0,expert=3]"
    assert MetricRef.parse("train.tokens") == MetricRef("train.tokens")


@pytest.mark.parametrize(
    "name", ["", "Train.tokens", "a..b", "a[b]", "a[=1]", "a[b=]", "a[b=1", "a[b=1]]", "a b", "a[b=1]c"]
)
def test_other_forms_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write"):
        MetricRef.parse(name)


@hypothesis_given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), WORD, max_size=4))
def test_labels_survive_the_way_through_a_name(labels: dict[str, str]) -> None:
    ref = MetricRef.parse(labelled("routing.tokens", **labels))
    assert ref == MetricRef.of("routing.tokens", **labels)
    assert (ref.base, dict(ref.labels)) == ("routing.tokens", labels)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric_of(name) is metric
    assert metric.unit
    assert len(metric.says) > 10
    assert not metric.says.endswith(".")


def test_a_metric_with_labels_is_found_with_and_without_them() -> None:
    assert metric_of("test.bits_per_byte[domain=code]") is metric_of("test.bits_per_byte")


@pytest.mark.parametrize(
    ("metric", "value", "why"),
    [
        ("speed.train_utilisation", 1.07, "1.07 is above 1: impossible"),
        ("routing.dropped_share", 1.07, "1.07 is above 1: impossible"),
        ("routing.entropy", -0.1, "-0.1 is below 0: impossible"),
        ("test.bits_per_byte[domain=code]", -0.5, "-0.5 is below 0: impossible"),
        ("speed.decode_step_s[batch=8]", 0, "0 is not above 0: impossible"),
        ("speed.prefill_s[tokens=64]", -1e-9, "-1e-09 is not above 0: impossible"),
        ("memory.train_peak_bytes", -1, "-1 is below 0: impossible"),
        ("routing.dead_experts", 0.5, "0.5 is no whole number: impossible"),
        ("routing.max_over_mean", 0.5, "0.5 is below 1: impossible"),
    ],
)
def test_an_impossible_value_is_absent_with_its_reason(metric: str, value: float, why: str) -> None:
    made = record(metric, value)
    assert (made.value, made.reason) == (None, f"{metric} {why}")
    assert impossible(metric, value) == made.reason


@pytest.mark.parametrize(
    ("metric", "value"),
    [("routing.entropy", 1 + 1e-9), ("routing.dropped_share", 0), ("train.model_flops", 1.5e19), ("train.tokens", 4e6)],
)
def test_rounding_and_bounds_themselves_are_possible(metric: str, value: float) -> None:
    assert record(metric, value).value == value


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_range(name: str) -> None:
    within = METRICS[name].within
    assert within.low is not None or within.above is not None or within.whole


@pytest.mark.parametrize("value", [True, "1.5", "0"])
def test_a_word_or_a_yes_is_no_value(value: object) -> None:
    for field in ("value", "step", "version"):
        row = {"metric": "train.tokens", "value": 1, "version": 1, field: value}
        with pytest.raises(ValidationError, match="valid"):
            Record.model_validate(row)


# ----------------------------------------------------------------------------------------------------
# A metric that is asked of a finished suite is measured on the models there are: nothing trains again.


ACCURATE = tiny_suites_claim(
    says="The mixture guesses the next byte no less often.",
    metric="test.accuracy",
    test={"kind": "non_inferior", "margin": "50%"},
)

ASKED = {
    "measure": {"memory": False, "quality": ["bits_per_byte", "accuracy"]},
    "claims": {"plain": tiny_suites_claim(), "accurate": ACCURATE},
}


def carried_out(folder: Path, **changes: Any) -> tuple[api.Outcome, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    planned = api.prepare_plan(
        write(folder, seeds=2, **changes), results=folder / "results", launcher="inline", on_event=events.append
    )
    return api.run_planned(planned, reports=folder / "reports"), events


def contents(results: Results, kind: str) -> dict[str, dict[str, tuple[str, float]]]:
    """Job -> file -> hash and time of its last change."""
    return {
        folder.id: {path.name: (sha256_of(path), path.stat().st_mtime) for path in folder.path.iterdir()}
        for folder in results.jobs()
        if json.loads((folder.path / "job.json").read_text())["job"]["kind"] == kind
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("later")
    carried_out(folder, claims={"plain": tiny_suites_claim()})
    return folder


def test_nothing_trains_and_no_weight_is_touched(folder: Path) -> None:
    results = Results(folder / "results")
    trained, measured = contents(results, "train"), contents(results, "evaluate")
    assert len(trained) == 4
    _, events = carried_out(folder, **ASKED)
    assert not [event for event in events if event["event"] == "progress"]
    assert contents(results, "train") == trained
    now = contents(results, "evaluate")
    assert {job: files for job, files in now.items() if job in measured} == measured
    assert len(now) == len(measured) + len(trained)


def test_it_is_claimed_by_seed_and_reported(folder: Path) -> None:
    carried_out(folder, **ASKED)
    told = {one["id"]: one for one in json.loads((folder / "reports" / "tiny" / "claims.json").read_text())["claims"]}
    assert told["accurate"]["metric"] == "test.accuracy"
    assert told["accurate"]["n"] == 2
    assert told["accurate"]["state"] in ("supported", "inconclusive", "refuted", "not_tested")
