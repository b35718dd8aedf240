"""Claims of several parts: how their p combine, what is printed, and what one part lacks the whole lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.claims import compound
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.metrics import METRICS, in_force
from moebench.planning import feasibility
from moebench.planning.feasibility import PlanError
from moebench.planning.machine import no_facts
from moebench.planning.tasks import check_claims
from moebench.planning.understood import understood
from moebench.reader.evidence import Evidence
from tests.support.builders import BPB, SUPERIOR, claim, evidence_of, judged, with_outcome, with_plan
from tests.support.suite_texts import load, messages
from tests.test_feasibility import GOOD

EIGHT = np.arange(1.0, 9.0) / 100
SPREAD = EIGHT - 0.045
"""Mean 0, symmetric."""
LOWER = {**SUPERIOR, "in": "every"}
DOMAINS = ("code", "docs", "prose")


def over_domains(gains: Mapping[str, float | Sequence[float]], test: Mapping[str, Any], **other: Any) -> Evidence:
    """The treatment's bits per byte are below the baseline's by so much, and a scatter, in each domain."""
    columns = {domain: np.broadcast_to(gain, 8) for domain, gain in gains.items()}
    values = {
        "moe": {f"{BPB}[domain={d}]": 2 - gain - SPREAD * (np.ndim(gains[d]) == 0) for d, gain in columns.items()},
        "dense": {f"{BPB}[domain={d}]": [2.0] * 8 for d in columns},
    }
    evidence = evidence_of(values, {"c": claim(test, f"{BPB}[domain=*]", **other)})
    data = evidence.plan.data.model_copy(update={"domains": tuple(columns)})
    return with_plan(evidence, data=data)


def of_gains(*gains: float, test: Mapping[str, Any] = LOWER, **other: Any) -> Verdict:
    return judged(over_domains(dict(zip(DOMAINS, gains, strict=False)), test, **other))


# ---------------------------------------------------------------------------------------------- p values


def test_p_of_a_partial_conjunction_by_hand() -> None:
    ps = [0.04, 0.001, 0.2, 0.01]
    assert compound.p_of(ps, 1) == pytest.approx(4 * 0.001), "some: Bonferroni"
    assert compound.p_of(ps, 2) == pytest.approx(3 * 0.01)
    assert compound.p_of(ps, 3) == pytest.approx(2 * 0.04)
    assert compound.p_of(ps, 4) == pytest.approx(0.2), "every: the largest"
    assert compound.p_of([0.9, 0.8], 1) == 1.0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.data())
def test_a_smaller_p_of_any_part_never_raises_the_whole(ps: list[float], data: st.DataObject) -> None:
    need = data.draw(st.integers(1, len(ps)))
    at = data.draw(st.integers(0, len(ps) - 1))
    lower = [p * (0.5 if i == at else 1) for i, p in enumerate(ps)]
    assert compound.p_of(lower, need) <= compound.p_of(ps, need)


FLIPS = np.array([[1 - 2 * (k >> bit & 1) for bit in range(8)] for k in range(256)])


def flips_p(x_RMN: np.ndarray) -> np.ndarray:
    """One-sided p of a mean above 0 for each [R, M] row of eight effects, by all flips of signs."""
    sums_RMK = x_RMN @ FLIPS.T
    return np.mean(sums_RMK >= np.sum(x_RMN, axis=-1, keepdims=True) - 1e-12, axis=-1)


def effects(rng: np.random.Generator, means: Sequence[float], *, rho: float, trials: int = 4000) -> np.ndarray:
    """[trials, parts, 8] effects of SD 1 whose parts correlate over seeds by rho."""
    shared = rng.normal(size=(trials, 1, 8))
    own = rng.normal(size=(trials, len(means), 8))
    return np.asarray(np.sqrt(rho) * shared + np.sqrt(1 - rho) * own + np.array(means)[:, None])


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(("m", "need"), [(2, 2), (4, 4), (4, 3), (4, 1), (8, 6)])
def test_wrongly_supported_in_at_most_2_5_percent_however_parts_correlate(m: int, need: int, rho: float) -> None:
    """Just too few parts hold, by far; the others lie at the bound: the hardest case there is."""
    rng = np.random.default_rng([m, need, int(100 * rho)])
    means = [9.0] * (need - 1) + [0.0] * (m - need + 1)
    p_RM = flips_p(effects(rng, means, rho=rho))
    rate = np.mean((m - need + 1) * np.sort(p_RM, axis=1)[:, need - 1] <= 0.025)
    assert rate <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 4000)
    assert np.isclose(compound.p_of(list(p_RM[0]), need), min(1, (m - need + 1) * np.sort(p_RM[0])[need - 1]))


def test_every_of_three_has_power_and_some_of_three_more() -> None:
    p_RM = flips_p(effects(np.random.default_rng(5), [1.8, 1.8, 1.8], rho=0.5))
    every, some = np.mean(np.max(p_RM, axis=1) <= 0.025), np.mean(3 * np.min(p_RM, axis=1) <= 0.025)
    assert every > 0.9
    assert some > every


# ---------------------------------------------------------------------------------------------- domains


def test_every_domain_supports_and_the_weakest_is_printed() -> None:
    verdict = of_gains(0.3, 0.1, 0.2)
    assert (verdict.state, verdict.reason) == ("supported", "it holds in all 3 domains")
    assert (verdict.shown, verdict.estimate) == ("domain=docs", pytest.approx(-0.1)), "of equal p the last, as refuting"
    assert verdict.p == 2**-8
    assert verdict.asked == "lower in all 3 domains"
    assert [(part.id, part.state, part.estimate) for part in verdict.parts] == [
        ("domain=code", "supported", pytest.approx(-0.3)),
        ("domain=docs", "supported", pytest.approx(-0.1)),
        ("domain=prose", "supported", pytest.approx(-0.2)),
    ]
    assert verdict.caveats[0] == "numbers of domain=docs, 3rd of 3 by p"
    assert verdict.effect == verdict.parts[1].effect


def test_one_domain_undecided_leaves_every_undecided_and_some_supported() -> None:
    every, some = of_gains(0.3, 0.3, 0.01), of_gains(0.3, 0.3, 0.01, test={**SUPERIOR, "in": "some"})
    assert (every.state, every.shown) == ("inconclusive", "domain=prose")
    assert every.reason == "it holds in 2 of 3 domains, where all are asked for; undecided: domain=prose"
    assert every.needs is not None
    assert every.needs.startswith("domain=prose: smallest detectable effect")
    assert (some.state, some.reason, some.p) == ("supported", "it holds in 2 of 3 domains", 3 * 2**-8)
    most = of_gains(0.3, 0.3, 0.01, test={**SUPERIOR, "in": "60%"})
    assert (most.state, most.p, most.asked) == ("supported", 2 * 2**-8, "lower in at least 2 of 3 domains")


def test_one_domain_refuted_refutes_every_but_not_some() -> None:
    every, some = of_gains(0.3, 0.3, -0.3), of_gains(0.3, 0.3, -0.3, test={**SUPERIOR, "in": "some"})
    assert (every.state, every.shown, every.p_against) == ("refuted", "domain=prose", 3 * 2**-8)
    assert every.reason == "it fails in 1 of 3 domains"
    assert every.estimate == pytest.approx(0.3)
    assert some.state == "supported"
    none = of_gains(-0.3, -0.2, -0.1, test={**SUPERIOR, "in": "some"})
    assert (none.state, none.p_against, none.shown) == ("refuted", 2**-8, "domain=prose"), "the best of them"


def test_swapping_the_sides_of_every_refutes_some() -> None:
    """At least u of m is mirrored by at least m - u + 1: 'every' lower by 'some' higher."""
    for gains in ((0.3, 0.3, 0.3), (0.3, 0.01, -0.3), (-0.1, 0.2, 0.3)):
        every = of_gains(*gains)
        swapped = of_gains(*(-g for g in gains), test={**SUPERIOR, "in": "some"})
        assert (swapped.p, swapped.p_against) == (pytest.approx(every.p_against), pytest.approx(every.p))


def test_what_several_chances_cost_is_said() -> None:
    """Two of eight flips more than the least: 3 / 256 alone, but 'some' of three pays threefold."""
    weak = [0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, -0.03]
    none = [0.01, -0.01] * 4
    evidence = over_domains({"code": weak, "docs": none, "prose": none}, {**SUPERIOR, "in": "some"})
    verdict = judged(evidence)
    alone = verdict.parts[0]
    assert alone.state == "supported"
    assert verdict.state == ("supported" if 3 * (alone.p or 1) <= 0.025 else "inconclusive")
    assert verdict.p == pytest.approx(3 * (alone.p or 1))


def test_a_claim_of_parts_is_one_member_of_holm() -> None:
    evidence = over_domains(dict.fromkeys(DOMAINS, 0.3), LOWER, family="primary")
    verdict = judged(evidence)
    assert verdict.p_adjusted == 2**-8
    assert "p adjusted by Holm over 1 primary claim; the interval is unadjusted" in verdict.notes
    assert {part.family for part in verdict.parts} == {"exploratory"}


def test_what_one_part_lacks_the_whole_lacks() -> None:
    evidence = over_domains(dict.fromkeys(DOMAINS, 0.3), LOWER)
    prose = f"{BPB}[domain=prose]"
    run = evidence.outcome("moe", 0)
    assert run is not None
    without = {name: value for name, value in run.values.items() if name != prose}
    interim = judged(with_outcome(evidence, "moe", 0, values=without))
    assert interim.state == "interim"
    nowhere = evidence
    for seed in range(8):
        nowhere = with_outcome(nowhere, "moe", seed, values=without)
    assert judged(nowhere).state == "not_tested"
    assert judged(nowhere).reason.startswith("domain=prose: 0 of 8 seeds present")
    outcomes = tuple(
        replace(o, digests=dict.fromkeys(o.digests, "x")) if o.model == "moe" else o for o in evidence.outcomes
    )
    invalid = judged(replace(evidence, outcomes=outcomes))
    assert invalid.state == "invalid"
    assert "did not see the same tokens" in invalid.reason
    assert invalid.shown is None


def test_too_few_seeds_decide_nothing_in_parts_either() -> None:
    """Five seeds reach 1 / 32, which is below the 5% of two one-sided tests."""
    values = {m: {f"{BPB}[domain={d}]": 2 + SPREAD[:5] / 100 for d in DOMAINS} for m in ("moe", "dense")}
    test = {"kind": "equivalent", "margin": 0.05, "in": "every"}
    evidence = evidence_of(values, {"c": claim(test, f"{BPB}[domain=*]")})
    data = evidence.plan.data.model_copy(update={"domains": DOMAINS})
    verdict = judged(with_plan(evidence, data=data))
    assert (verdict.state, verdict.p) == ("inconclusive", 1.0)


def test_of_parts_as_far_from_holding_the_most_refuted_decides() -> None:
    assert compound.deciding([1.0, 1.0], [0.01, 0.5], [0.0, 0.0], 2) == 0
    assert compound.deciding([1.0, 1.0], [0.01, 0.5], [0.0, 0.0], 1) == 1


def test_one_domain_is_no_several() -> None:
    verdict = of_gains(0.3)
    assert verdict.state == "invalid"
    assert verdict.reason == "`in` needs several places: there is one of domains"


# ---------------------------------------------------------------------------------------------- sweeps


def two_sweeps(gains: Sequence[float], test: Mapping[str, Any], baseline: str = "dense_w") -> Evidence:
    widths = (64.0, 128.0, 256.0)
    values: dict[str, dict[str, Any]] = {"dense": {BPB: [2.0] * 8}} if baseline == "dense" else {}
    sweeps: dict[str, Any] = {"moe_w": {}, "dense_w": {}}
    for width, gain in zip(widths, gains, strict=True):
        for name in ("moe_w", "dense_w"):
            point = f"{name}_{width:g}"
            sweeps[name][point] = {"width": width}
            values[point] = {BPB: 2 - (gain + SPREAD) * (name == "moe_w")}
    block = claim(test, compare={"treatment": "moe_w", "baseline": baseline})
    return with_plan(evidence_of(values, {"c": block}, sweeps=sweeps), matches=())


@pytest.mark.parametrize("baseline", ["dense_w", "dense"])
def test_points_of_two_sweeps_are_paired(baseline: str) -> None:
    verdict = judged(two_sweeps([0.3, 0.2, 0.1], LOWER, baseline))
    assert verdict.state == "supported"
    assert [part.id for part in verdict.parts] == ["width=64", "width=128", "width=256"]
    assert (verdict.parts[1].treatment, verdict.treatment) == ("moe_w_128", "moe_w")
    assert verdict.parts[1].baseline == ("dense_w_128" if baseline == "dense_w" else "dense")
    assert judged(two_sweeps([0.3, -0.2, 0.1], LOWER, baseline)).state == "refuted"


def test_a_claim_over_points_is_about_all_their_models() -> None:
    plan = two_sweeps([0.1] * 3, LOWER).plan
    assert set(plan.models_of(plan.spec.claims["c"])) == set(plan.models)


# ---------------------------------------------------------------------------------------------- all_of, any_of


def combined(kind: str, gains: Mapping[str, float], *, family: str = "exploratory", **more: Any) -> list[Verdict]:
    values = {"dense": {BPB: [2.0] * 8}, **{name: {BPB: 2 - gain - SPREAD} for name, gain in gains.items()}}
    claims: dict[str, Any] = {name: claim(SUPERIOR, compare={"treatment": name, "baseline": "dense"}) for name in gains}
    claims |= more
    test = {"kind": kind, "claims": list(claims)}
    claims["c"] = {"says": "Together.", "test": test, "family": family}
    params = {"dense": (100, 100), **dict.fromkeys(gains, (300, 100))}
    return judge(with_plan(evidence_of(values, claims, params=params), matches=()))


@pytest.mark.parametrize(
    ("kind", "gains", "state"),
    [
        ("all_of", (0.3, 0.2), "supported"),
        ("all_of", (0.3, 0.0), "inconclusive"),
        ("all_of", (0.3, -0.2), "refuted"),
        ("any_of", (0.3, -0.2), "supported"),
        ("any_of", (-0.3, 0.0), "inconclusive"),
        ("any_of", (-0.3, -0.2), "refuted"),
    ],
)
def test_claims_together(kind: str, gains: tuple[float, float], state: str) -> None:
    verdict = combined(kind, dict(zip(("moe_a", "moe_b"), gains, strict=True)))[-1]
    assert verdict.state == state
    assert verdict.asked == f"{kind[:3]} of moe_a and moe_b"
    assert (verdict.metric, verdict.treatment) == ("", None)
    assert [part.id for part in verdict.parts] == ["moe_a", "moe_b"]


def test_a_primary_composite_counts_once_in_holm() -> None:
    verdict = combined("all_of", {"moe_a": 0.3, "moe_b": 0.2}, family="primary")[-1]
    assert (verdict.p, verdict.p_adjusted) == (2**-8, 2**-8)


@pytest.mark.parametrize(("active", "state"), [(100, "supported"), (99, "refuted")])
def test_counts_and_measurements_together(active: int, state: str) -> None:
    test = {"kind": "exact", "value": active}
    count = claim(test, "cost.active_params", model="moe_a")
    verdict = combined("all_of", {"moe_a": 0.3}, family="primary", count=count)[-1]
    assert verdict.state == state
    assert verdict.shown == ("moe_a" if state == "supported" else "count")
    only = combined("all_of", {}, family="primary", count=count | {"model": "dense"}, again=count | {"model": "dense"})
    assert (only[-1].state, only[-1].p) == (state, None), "counts alone are exact"


def test_a_claim_that_is_invalid_makes_what_rests_on_it_invalid() -> None:
    bad = claim(SUPERIOR, "cost.kv_bytes_per_token", compare={"treatment": "moe_a", "baseline": "nowhere"})
    verdict = combined("any_of", {"moe_a": 0.3}, bad=bad)[-1]
    assert verdict.state in ("invalid", "not_tested")
    assert verdict.reason.startswith("bad: ")


def test_the_word_in_is_written_as_it_is_read() -> None:
    """The dump of a claim is what plans store and hash."""
    (block,) = two_sweeps([0.3, 0.2, 0.1], LOWER).plan.spec.claims.values()
    assert block.model_dump(mode="json")["test"]["in"] == "every"
    assert type(block).model_validate(block.model_dump(mode="json")) == block


# ---------------------------------------------------------------------------------------------- in suites


CLAIMS = """\
  worse:
    compare: {treatment: small, baseline: dense}
    metric: test.bits_per_byte
    test: {kind: superior}
  both:
    test: {kind: all_of, claims: [better, worse]}
"""


SWEPT = """\
  moes: {base: moe, sweep: {ffn.experts: [2, 4, 8]}}
  others: {base: moe, sweep: {ffn.experts: [2, 4, 16]}}
  apart: {base: moe, sweep: {ffn.experts: [2, 16]}}
  top: {base: moe, sweep: {ffn.top_k: [2, 4]}}
"""


def suite(change: str) -> str:
    text = GOOD.replace("    family: primary\n", "").replace("measure:\n", SWEPT + "measure:\n") + CLAIMS
    old, new = change.split(" -> ")
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("[better, worse] -> [better, wors]", "no claim of this suite is called 'wors'", "did you mean 'worse'?"),
        ("[better, worse] -> [better, better]", "better is given twice", ""),
        ("[better, worse] -> [better, both]", "both cannot rest on itself", "one by one"),
        ("both:\n -> both:\n    metric: test.bits_per_byte\n", "an all_of test takes no 'metric'", "leave it out"),
        ("superior} -> superior, in: every}", "this claim is about one", "claim test.bits_per_byte[domain=*]"),
        ("superior} -> superior, in: evry}", "in cannot be 'evry'", "did you mean 'every'?"),
        ("treatment: small -> treatment: moes", "moes is a sweep of several models", "name one of them"),
        ("superior} -> superior, in: 0.5}", "in 0.5 is no share of them", "such as 75%"),
        ("claims: [better, worse] -> claims: [better, worse], in: every", "an all_of test takes no 'in'", ""),
    ],
)
def test_what_cannot_be_put_together_is_refused(tmp_path: Path, change: str, message: str, hint: str) -> None:
    said = messages(tmp_path, suite(change))
    assert message in said
    assert hint in said


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("{treatment: moes, baseline: apart}", "apart and moes have 1 points in common: at least 2 are compared"),
        ("{treatment: moes, baseline: top}", "top is swept over ffn.top_k, moes over ffn.experts"),
    ],
)
def test_sweeps_that_do_not_meet_are_refused(tmp_path: Path, pair: str, message: str) -> None:
    changed = f"compare: {{treatment: small, baseline: dense}} -> compare: {pair}"
    assert message in messages(tmp_path, suite(changed).replace("superior}", "superior, in: every}"))


def test_two_primary_claims_of_one_chance_are_refused(tmp_path: Path) -> None:
    text = suite("worse] -> worse]").replace("both:", "both:\n    family: primary")
    text = text.replace("worse:\n", "worse:\n    family: primary\n")
    said = messages(tmp_path, text)
    assert "worse is primary as well: it would be counted twice" in said
    assert "give worse `family: exploratory`" in said


def test_what_is_asked_in_several_places_is_told(tmp_path: Path) -> None:
    text = suite("treatment: small, baseline: dense -> treatment: moes, baseline: others")
    spec = load(tmp_path, text.replace("superior}", "superior, in: 75%}"))
    told = understood(spec, "worse", no_facts())
    assert "supported if in all 2 points moes is lower than others; refuted if in at least 1 of 2" in told
    assert "better and worse all hold; refuted if any of them fails; over 8 seeds" in understood(spec, "both")


@pytest.mark.parametrize(("share", "refused"), [("every", False), ("some", True)])
def test_plan_refuses_more_choices_than_seeds_can_pay_for(tmp_path: Path, share: str, refused: bool) -> None:
    """Six seeds reach 1 / 64: enough for all points, not for one of two at once."""
    text = suite("treatment: small, baseline: dense -> treatment: moes, baseline: others").replace(
        "seeds: 8", "seeds: 6"
    )
    text = text.replace("superior}", f"superior, in: {share}}}\n    family: primary")
    spec = load(tmp_path, text)
    problems = [str(one) for one in feasibility.check(spec, {}, no_facts())]
    assert bool(problems) == refused
    if refused:
        assert "as 1 of 2 points are to hold (p × 2): give 7 seeds" in problems[0]


def test_every_task_is_every_one_that_the_suites_tasks_measure() -> None:
    """A tag stands for tasks of other names, and a filter adds to a name: what they measure tells the places."""
    metric = "lm_eval.acc[task=*]"
    named = ["lm_eval.acc[task=one]", "lm_eval.acc[task=two:strict]", "lm_eval.f1[task=x]"]
    spec = evidence_of({"moe": {}, "dense": {}}, {"c": claim(LOWER, metric)}).plan.spec
    known = dict.fromkeys(named, METRICS["routing.entropy"])
    with in_force(spec.declared):
        parts = spec.claims["c"].test.parts(spec.claims["c"], spec.known(named=named))
        assert parts is not None
        assert [part.name for part in parts.of] == ["task=one", "task=two:strict"]
        check_claims(spec, known)
        with pytest.raises(PlanError, match="does not measure"):
            check_claims(spec, {})


def test_a_claim_that_rests_on_another_changes_with_it() -> None:
    """Who lowers a part's margin after the data has made another claim of the whole."""
    claims = {
        "a": claim({"kind": "superior", "margin": "1%"}),
        "b": claim(SUPERIOR),
        "c": {"says": "Together.", "test": {"kind": "all_of", "claims": ["a", "b"]}},
    }
    loose = {**claims, "a": claim({"kind": "superior", "margin": "0.5%"})}
    one, other = (evidence_of({"moe": {}, "dense": {}}, block).plan for block in (claims, loose))
    assert one.seal("b") == other.seal("b")
    assert one.seal("c") != other.seal("c")
    assert set(one.models_of(one.spec.claims["c"])) == {"moe", "dense"}
