"""Verdicts over items: what is shared, clusters, rare differences, single runs; how items are read and bundled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats as distributions

from moebench import stats
from moebench.claims.hypothesis import Contrast
from moebench.claims.items import beside_seeds, over_clusters
from moebench.claims.verdict import Verdict
from moebench.metrics import in_force
from moebench.metrics.metric import Metric
from moebench.reader.evidence import Item, Outcome
from moebench.store import columns
from tests.support.builders import BPB, TWIN, claim, elsewhere, evidence_of, judged

ACC = "exam.acc"
METRICS = {ACC: {"unit": "1", "better": "higher", "per": "item"}, "exam.loss": {"unit": "nats", "better": "lower"}}
Rows = Sequence[tuple[str, str, float, float]]


def rows(values: Sequence[float], groups: Sequence[str] | None = None, size: float = 1.0) -> Rows:
    return [(f"q{i:05}", groups[i] if groups else "", size, float(v)) for i, v in enumerate(values)]


def over_items(
    moe: Sequence[float],
    dense: Sequence[float],
    test: Mapping[str, Any],
    *,
    groups: Sequence[str] | None = None,
    metric: str = ACC,
    **block: Any,
) -> Verdict:
    items = {"moe": {metric: rows(moe, groups)}, "dense": {metric: rows(dense, groups)}}
    return judged(elsewhere({}, {"c": claim(test, metric, **block)}, metrics=METRICS, items=items))


ANSWERS = np.random.default_rng(0).random((400, 2)) < [0.72, 0.5]
MOE, DENSE = ANSWERS.T.astype(float)


# ---------------------------------------------------------------------------------------------- single runs


def test_items_decide_where_every_model_is_one_run() -> None:
    verdict = over_items(MOE, DENSE, {"kind": "superior", "margin": 0.05}, family="primary")
    assert (verdict.state, verdict.units, verdict.n) == ("supported", "items", 400)
    assert verdict.estimate == pytest.approx(float(np.mean(MOE - DENSE)))
    assert "judged over 400 items of one run each: says nothing about another training run" in verdict.scope
    assert "equal data, tuning and hardware are declared by the user, not verified" in verdict.scope
    assert verdict.method == "t over 400 items of one run each, and sign flips of them"
    assert "one run each" in verdict.caveats
    assert verdict.p_adjusted == verdict.p
    assert over_items(DENSE, MOE, {"kind": "superior", "margin": 0.05}).state == "refuted"


def test_the_interval_is_that_of_paired_differences() -> None:
    """Without ties Student's, to a hair."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(3.0, 1.0, 300), rng.normal(0.0, 0.2, 300)
    verdict = over_items(x, x + y + 0.05, {"kind": "superior", "margin": 0.0}, metric="exam.loss")
    own = stats.paired(y + 0.05).interval(0.95)
    assert verdict.low == pytest.approx(-own.high, rel=0.02)
    assert verdict.low <= -own.high
    assert verdict.high >= -own.low
    unpaired = 1.96 * math.sqrt((np.var(x) + np.var(x + y)) / 300)
    assert (verdict.high - verdict.low) / 2 < 0.3 * unpaired


@pytest.mark.parametrize(
    ("test", "state"),
    [
        ({"kind": "superior", "margin": "5%"}, "supported"),
        ({"kind": "non_inferior", "margin": 0.01}, "supported"),
        ({"kind": "equivalent", "margin": 0.05}, "refuted"),
        ({"kind": "equivalent", "margin": 0.4}, "supported"),
        ({"kind": "ratio_at_least", "value": 1.1}, "supported"),
        ({"kind": "ratio_at_least", "value": 2.5}, "refuted"),
        ({"kind": "ratio_within", "low": 1.05, "high": 2.0}, "supported"),
    ],
)
def test_every_kind_of_two_models(test: Mapping[str, Any], state: str) -> None:
    assert over_items(MOE, DENSE, test).state == state


def test_a_share_of_a_gain_over_items() -> None:
    big = (np.random.default_rng(2).random(400) < 0.75).astype(float)
    items = {name: {ACC: rows(x)} for name, x in {"moe": MOE, "dense": DENSE, "big": big}.items()}
    block = claim({"kind": "recovers", "value": 0.2}, ACC, compare={**TWIN, "ceiling": "big"})
    verdict = judged(elsewhere({}, {"c": block}, metrics=METRICS, items=items))
    assert verdict.state == "supported"
    assert any("Fieller interval over items" in note for note in verdict.notes)


def test_an_interaction_over_two_sets_of_items() -> None:
    metrics = {**METRICS, "recall.acc": {"unit": "1", "better": "higher"}}
    items = {
        "moe": {ACC: rows(MOE), "recall.acc": [(f"r{i}", "", 1.0, v) for i, v in enumerate(DENSE)]},
        "dense": {ACC: rows(DENSE), "recall.acc": [(f"r{i}", "", 1.0, v) for i, v in enumerate(DENSE[::-1])]},
    }
    block = claim({"kind": "interaction", "margin": 0.05}, ACC, minus="recall.acc")
    verdict = judged(elsewhere({}, {"c": block}, metrics=metrics, items=items))
    assert (verdict.state, verdict.n) == ("supported", 800)
    variance = np.var(MOE - DENSE, ddof=1) / 400 + np.var(DENSE - DENSE[::-1], ddof=1) / 400
    assert verdict.estimate - verdict.low == pytest.approx(1.96 * math.sqrt(variance), rel=0.25)


def test_items_of_one_group_are_one_cluster() -> None:
    """Ten copies of each question are no ten questions."""
    moe, dense = np.repeat(MOE[:60], 10), np.repeat(DENSE[:60], 10)
    groups = [f"g{i // 10}" for i in range(600)]
    test = {"kind": "superior", "margin": 0.0}
    alone, grouped = over_items(moe, dense, test), over_items(moe, dense, test, groups=groups)
    once = over_items(MOE[:60], DENSE[:60], test)
    assert (grouped.low, grouped.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)
    assert "judged over 600 items in 60 groups of one run each" in grouped.scope


def test_few_clusters_decide_nothing() -> None:
    verdict = over_items(np.ones(19), np.zeros(19), {"kind": "superior", "margin": 0.0})
    assert (verdict.state, verdict.reason) == ("inconclusive", "19 items; at least 20 for any verdict over them")


def test_equal_answers_show_no_equality_beyond_what_they_can() -> None:
    """The rule of three: of n items on which two models agree, 3.7 in n may differ all the same."""
    few = over_items(MOE[:100], MOE[:100], {"kind": "equivalent", "margin": 0.02})
    many = over_items(np.tile(MOE, 5), np.tile(MOE, 5), {"kind": "equivalent", "margin": 0.02})
    assert (few.state, many.state) == ("inconclusive", "supported")
    assert few.high >= 3.69 / 100


def test_models_on_other_items_are_not_compared() -> None:
    items = {"moe": {ACC: rows(MOE)}, "dense": {ACC: rows(DENSE[:300])}}
    verdict = judged(
        elsewhere({}, {"c": claim({"kind": "superior", "margin": 0.0}, ACC)}, metrics=METRICS, items=items)
    )
    assert verdict.state == "invalid"
    assert "moe and dense were scored on different items of exam.acc: 300 of 400 items in common" in verdict.reason


def test_seeds_do_not_hide_that_items_are_others() -> None:
    """Of several seeds too: other questions, or tokens of another length, are no measurement of the same thing."""
    columns = {"moe": [0.70 + i / 1000 for i in range(8)], "dense": [0.50 + i / 900 for i in range(8)]}
    block = claim({"kind": "superior", "margin": 0.0}, ACC)
    made = elsewhere({m: {ACC: x} for m, x in columns.items()}, {"c": block}, metrics=METRICS)

    def with_items(number: int, size: float) -> Verdict:
        sides = {"moe": (400, 1.0), "dense": (number, size)}
        named = {
            m: tuple(Item(name=f"q{i}", group="", size=s, value=0.5) for i in range(n)) for m, (n, s) in sides.items()
        }
        runs = tuple(replace(run, items={ACC: named[run.model]}) for run in made.outcomes)
        return judged(replace(made, outcomes=runs))

    assert judged(made).state == with_items(400, 1.0).state == "supported"
    other, longer = with_items(300, 1.0), with_items(400, 2.0)
    assert (other.state, longer.state) == ("invalid", "invalid")
    assert "moe and dense were scored on different items of exam.acc: 300 of 400 items in common" in other.reason
    assert "of the same items in other sizes" in longer.reason


# ---------------------------------------------------------------------------------------------- one number each


def one_each(moe: float, dense: float, others: Mapping[str, Sequence[float]] | None = None, **test: Any) -> Verdict:
    values = {"moe": [moe], "dense": [dense], **(others or {})}
    block = claim(test or {"kind": "superior", "margin": 0.0}, "exam.loss")
    return judged(elsewhere({name: {"exam.loss": x} for name, x in values.items()}, {"c": block}, metrics=METRICS))


def test_one_number_of_each_model_decides_nothing() -> None:
    verdict = one_each(2.0, 3.0)
    assert (verdict.state, verdict.n, verdict.units) == ("inconclusive", 1, "seeds")
    assert (
        verdict.reason == "one number of each model: without its scatter over seeds, or its items, it decides nothing"
    )
    assert verdict.estimate == pytest.approx(-1.0)
    assert (verdict.low, verdict.p) == (None, None)
    assert verdict.units_needed == 6
    assert verdict.needs is not None
    assert verdict.needs.startswith("needs at least 6 runs of each model: 6 decide if their difference has an SD of")
    assert "one number of one run each" in verdict.scope


def test_what_it_would_take_is_what_it_takes() -> None:
    """Six pairs that scatter as said see the difference four times in five."""
    needs = one_each(2.0, 3.0).needs
    assert needs is not None
    sd = float(needs.split("SD of ")[1].split(" ")[0])
    assert stats.power(6, 1.0 / sd, 0.025) == pytest.approx(0.8, abs=0.01)


def test_scatter_known_from_other_models_says_how_many() -> None:
    known = list(np.random.default_rng(3).normal(2.5, 0.2, 8))
    verdict = one_each(2.0, 2.2, {"other": known})
    sd = math.sqrt(2) * float(np.std(known, ddof=1))
    assert verdict.state == "inconclusive"
    assert verdict.units_needed == stats.smallest(lambda n: stats.power(n, 0.2 / sd, 0.0125))
    assert (
        verdict.needs
        == f"{verdict.units_needed} runs of each model would decide, if they scatter as the suite's other models do"
    )


def test_one_run_against_several_is_a_constant_and_said() -> None:
    several = {"moe": {"exam.loss": [2.0 + s / 100 for s in range(8)]}, "dense": {"exam.loss": [2.5]}}
    verdict = judged(elsewhere(several, {"c": claim({"kind": "superior"}, "exam.loss")}, metrics=METRICS))
    assert (verdict.state, verdict.n, verdict.units) == ("supported", 8, "seeds")
    assert "dense is one run: how another would come out is not in the interval" in verdict.scope
    assert "one run of dense" in verdict.caveats


def test_externals_with_seeds_are_judged_as_any_and_a_diverged_run_is_the_worst() -> None:
    values = {"moe": {"exam.loss": [2.0 + s / 100 for s in range(8)]}, "dense": {"exam.loss": [2.5] * 8}}
    block = {"c": claim({"kind": "superior"}, "exam.loss", family="primary")}
    whole = judged(elsewhere(values, block, metrics=METRICS))
    assert (whole.state, whole.p) == ("supported", 2**-8)
    assert "measured elsewhere, not verified" in whole.caveats
    lost = judged(elsewhere(values, block, metrics=METRICS, diverged=[("moe", 3)]))
    assert lost.unbounded == ("high",)
    twice = judged(elsewhere(values, block, metrics=METRICS, diverged=[("moe", 3), ("moe", 4)]))
    assert (twice.state, twice.reason) == ("invalid", "divergence: 2 of 8 runs of moe diverged")


# ---------------------------------------------------------------------------------------------- error rates


def errors(x_TN: stats.Array, truth: float, *, tied: Any = None, farthest: float | None = None) -> tuple[float, float]:
    """Share of samples [trials, n] whose lower limit is above the truth, and whose upper limit is below it."""
    ends = []
    for x in x_TN:
        share = float(np.mean(x == 0)) if tied is None else tied
        far = max(farthest or 0.0, float(np.max(np.abs(x - x.mean()))))
        own = stats.RareEvents.of(x, farthest=far, tied=share).interval(0.95)
        low = min(own.low, stats.many_flips_limit(x, 0.025))
        ends.append((low, max(own.high, -stats.many_flips_limit(-x, 0.025))))
    low, high = np.array(ends).T
    return float(np.mean(low > truth + 1e-12)), float(np.mean(high < truth - 1e-12))


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize(("won", "lost"), [(0.0, 0.02), (0.01, 0.03), (0.1, 0.02), (0.3, 0.3)])
@pytest.mark.parametrize("n", [20, 100, 400])
def test_rare_differences_are_covered(n: int, won: float, lost: float) -> None:
    x = np.random.default_rng(n).choice([0.0, 1.0, -1.0], p=[1 - won - lost, won, lost], size=(600, n))
    assert max(errors(x, won - lost, farthest=1.0)) <= at_most(0.025, 600)


@pytest.mark.parametrize(("clusters", "scatter"), [(20, 0.8), (40, 1.2)])
def test_clusters_of_unequal_size_are_covered(clusters: int, scatter: float) -> None:
    """Questions on a paragraph: cluster sizes scatter log-normally, effects normally; a ratio of sums."""
    rng, trials = np.random.default_rng(clusters), 300
    wrong = 0
    for _ in range(trials):
        sizes = np.ceil(rng.lognormal(1.0, scatter, clusters))
        names = [(f"q{i}", "", float(n), 2.0 * n) for i, n in enumerate(sizes)]
        moe = [(name, group, n, n * (2.0 + rng.normal(0, 0.3))) for name, group, n, _ in names]
        runs = [outcome(model, rows) for model, rows in (("moe", moe), ("dense", names))]
        with in_force({ACC: METRIC}):
            found = over_clusters(Contrast.of(ACC, {"moe": 1.0, "dense": -1.0}), runs)
        assert found is not None
        own = stats.RareEvents.of(found.effects_C, farthest=found.farthest, tied=found.tied, df=found.df)
        wrong += own.interval(0.95).low > 0
    assert wrong / trials <= at_most(0.025, trials)


METRIC = Metric(name=ACC, unit="1", better="higher", says="", cannot="")


def outcome(model: str, rows: Rows) -> Outcome:
    items = tuple(Item(name=n, group=g, size=s, value=v) for n, g, s, v in rows)
    return Outcome(model=model, seed=0, run_id=model, status="completed", items={ACC: items})


def test_false_support_through_judge_is_rare() -> None:
    """The truth lies at the margin of non-inferiority; the models differ on a few items in a hundred."""
    rng, wrong, trials = np.random.default_rng(7), 0, 150
    for _ in range(trials):
        d = rng.choice([0.0, 1.0, -1.0], p=[0.93, 0.02, 0.05], size=200)
        dense = np.where(d == 1, 0.0, np.where(d == -1, 1.0, rng.random(200) < 0.6)).astype(float)
        wrong += over_items(dense + d, dense, {"kind": "non_inferior", "margin": 0.03}).state == "supported"
    assert wrong / trials <= at_most(0.025, trials)


def test_flips_of_many_are_those_of_few() -> None:
    x = np.random.default_rng(4).normal(0.3, 1.0, 16)
    for null in (-0.5, 0.0, 0.3):
        assert stats.many_flips_p(x, null) == pytest.approx(stats.sign_flip_p(x, null), abs=0.01)
        assert stats.many_flips_p(x, null, further=0.2) == pytest.approx(
            stats.sign_flip_p(x, null, further=0.2), abs=0.01
        )
    low = stats.many_flips_limit(x, 0.025)
    assert stats.many_flips_p(x, low) == pytest.approx(0.025)
    assert low == pytest.approx(stats.sign_flip_limit(x, 0.025), abs=0.05)
    assert stats.many_flips_limit(x[:3], 0.025) == -math.inf


def test_the_limit_and_its_p_agree() -> None:
    x = np.random.default_rng(9).choice([0.0, 1.0, -1.0], p=[0.9, 0.08, 0.02], size=200)
    own = stats.RareEvents.of(x, farthest=1.0, tied=float(np.mean(x == 0)))
    for level in (0.5, 0.9, 0.99):
        ends = own.interval(level)
        assert own.p_above(ends.low) == pytest.approx((1 - level) / 2)
        assert own.mirrored().p_above(-ends.high) == pytest.approx((1 - level) / 2)
    plain = stats.RareEvents.of(x, farthest=1.0, tied=0.0)
    assert plain.interval(0.95).low == pytest.approx(stats.paired(x).interval(0.95).low)
    counts = stats.RareEvents.of(np.r_[np.ones(9), np.zeros(9991)], farthest=0.0, tied=1.0).interval(0.95)
    exact = distributions.chi2.ppf([0.025, 0.975], [18, 20]) / 2 / 10_000
    assert (counts.low, counts.high) == (pytest.approx(exact[0], rel=0.2), pytest.approx(exact[1], rel=0.05))


# ---------------------------------------------------------------------------------------------- beside seeds


def test_items_of_any_metric_stand_beside_seeds() -> None:
    """What they are of decides nothing: the interval over them is the same as for quality."""
    documents = [(10_000, 10_000.0 + 1000 * i) for i in range(12)]
    items = {"moe": [documents] * 8, "dense": [[(n, b * 1.05 + 100 * i) for i, (n, b) in enumerate(documents)]] * 8}
    columns = {m: [sum(b for _, b in d) / 120_000 for d in by_seed] for m, by_seed in items.items()}
    other = "train.bits_per_token"

    def ends(metric: str) -> tuple[float | None, float | None]:
        made = evidence_of(
            {m: {metric: x} for m, x in columns.items()}, {"c": claim({"kind": "superior"}, metric)}, items=items
        )
        alone = [tuple(replace(item, group="") for item in run.items[BPB]) for run in made.outcomes]
        named = tuple(replace(run, items={metric: own}) for run, own in zip(made.outcomes, alone, strict=True))
        verdict = judged(replace(made, outcomes=named))
        return verdict.item_low, verdict.item_high

    assert ends(BPB) == ends(other) != (None, None)


def scored_in_domains(seeds: int = 8, documents: int = 40) -> list[tuple[Outcome, ...]]:
    """Runs of two models that differ by document, half of them of each domain."""
    rng = np.random.default_rng(4)
    hard, gain = rng.normal(2, 0.3, documents), rng.normal(-0.05, 0.1, documents)

    def run(model: str, seed: int) -> Outcome:
        bits = 100 * (hard + (model == "moe") * gain + rng.normal(0, 0.01) + rng.normal(0, 0.02, documents))
        own = tuple(Item(name=f"d{i}", group="ab"[i % 2], size=100.0, value=float(bit)) for i, bit in enumerate(bits))
        alike = tuple(replace(item, group="") for item in own)
        values = {f"{BPB}[domain={d}]": float(np.mean(bits["ab".index(d) :: 2])) / 100 for d in "ab"}
        return Outcome(
            model=model, seed=seed, run_id=f"{model}{seed}", status="completed", values=values,
            items={BPB: own, "train.bits_per_token": alike},
        )  # fmt: skip

    return [(run("moe", seed), run("dense", seed)) for seed in range(seeds)]


def gain_in(metric: str, sign: float = 1.0) -> Contrast:
    return Contrast.of(metric, {"moe": sign, "dense": -sign}, log=True)


def test_documents_count_where_a_gain_in_one_domain_is_less_that_in_another() -> None:
    used = scored_in_domains()
    (a, noise_a), (b, noise_b) = (beside_seeds(gain_in(f"{BPB}[domain={d}]"), used) for d in "ab")
    both = gain_in(f"{BPB}[domain=a]").plus(gain_in(f"{BPB}[domain=b]", -1), sided=True)
    found, noise = beside_seeds(both, used)
    assert a is not None
    assert b is not None
    assert found is not None
    assert (found.centre, found.se) == (pytest.approx(a.centre - b.centre), pytest.approx(math.hypot(a.se, b.se)))
    assert (noise, found.df) == (pytest.approx(math.hypot(noise_a, noise_b)), 19)

    same = gain_in(BPB).plus(gain_in("train.bits_per_token", -1), sided=True)
    nothing, _ = beside_seeds(same, used)
    assert nothing is not None
    assert nothing.se == pytest.approx(0, abs=1e-12), "what the same documents add to both cancels"


def test_so_does_a_verdict_on_it() -> None:
    metrics = [f"{BPB}[domain={d}]" for d in "ab"]
    runs = {(run.model, run.seed): run for of_seed in scored_in_domains() for run in of_seed}
    values = {
        m: {metric: [runs[m, s].values[metric] for s in range(8)] for metric in metrics} for m in ("moe", "dense")
    }
    made = evidence_of(values, {"c": claim({"kind": "superior", "margin": "0%"}, metrics[0], minus=metrics[1])})
    outcomes = tuple(replace(run, items=runs[run.model, run.seed].items) for run in made.outcomes)
    verdict = judged(replace(made, outcomes=outcomes))
    assert "variance over documents added" in verdict.method
    assert verdict.state == "inconclusive", "its seeds alone would refute what other documents may not bear out"


# ---------------------------------------------------------------------------------------------- bundles


def test_bundled_items_of_several_metrics_read_back_exactly() -> None:
    named = [
        {"metric": metric, "item": item, "group": group, "size": size, "value": value}
        for metric, value in (("exam.acc", 1.0), ("exam.loss", 0.1), ('a"b\t', 3))
        for item, group, size in (("@ % 0", "", 1), ("tab\tand\nline", "g", 2.5), ("", "@", 0.1))
    ]
    documents = [{"document": "d", "domain": "x", "bytes": 3, "bits": 1.5}]
    written = columns.items_written({"one": [named, documents, []], "two": [named]})
    sections = columns.sections_of(columns.text_of(written))
    for group, number, expected in (("one", 0, named), ("one", 1, documents), ("one", 2, []), ("two", 0, named)):
        assert list(columns.items_read(sections, group, number)) == expected
    assert sum(name.startswith("%") for name in sections) == 3, "metrics of the same items share their list"


@pytest.mark.parametrize("change", [{"extra": 1}, {"value": math.nan}])
def test_rows_that_are_no_items_are_not_bundled(change: Mapping[str, Any]) -> None:
    row = {"metric": "exam.acc", "item": "a", "group": "", "size": 1, "value": 1.0}
    with pytest.raises(ValueError, match=r"no item|not finite"):
        columns.items_written({"one": [[{**row, **change}]]})


def test_judge_is_not_slow_over_many_items() -> None:
    many = np.tile(MOE, 50), np.tile(DENSE, 50)
    assert over_items(*many, {"kind": "superior"}).n == 20_000


def test_a_verdict_says_whose_prompts_were_cut() -> None:
    task, cut = "lm_eval.acc[task=quiz]", "lm_eval.prompts_cut[task=quiz]"
    pair = {"treatment": "moe", "baseline": "dense"}
    block = {"says": "More.", "compare": pair, "metric": task, "test": {"kind": "superior", "margin": 0}}
    scores = {model: {task: [base + seed / 100 for seed in range(8)]} for model, base in (("moe", 0.6), ("dense", 0.5))}
    found = elsewhere(scores, {"c": block}, metrics={})
    shares = {"moe": 0.25, "dense": 0.0}
    runs = tuple(replace(run, values={**run.values, cut: shares[run.model]}) for run in found.outcomes)
    caveats = judged(replace(found, outcomes=runs)).caveats
    assert [words for words in caveats if "prompts" in words] == ["25% of moe's prompts cut to its context"]
