"""A pilot tells how many seeds decide, and counts as no look at what it was taken for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from moebench import stats
from moebench.claims.decide import Finding, weigh
from moebench.claims.hypothesis import Bound, Hypothesis
from moebench.claims.judge import judge
from moebench.claims.pilot import foreseen
from moebench.claims.power import Foresight, foresee
from moebench.claims.samples import Sample
from moebench.cli.commands import main
from moebench.planning.types import Asked, Plan
from moebench.reader.evidence import Evidence
from moebench.reader.history import History
from moebench.store import Results
from moebench.suite.looks import LEVEL, levels
from moebench.suite.pilot import PILOT_SEED, pilot, seeds_of
from tests.support import tiny_suites
from tests.support.builders import BPB, PLANNED_AT, TWIN, claim, evidence_of, hypothesis_of
from tests.support.looks import decided, p_values

ABOVE = hypothesis_of((Bound(side="above", value=0.0),), (Bound(side="below", value=0.0),))
WITHIN = hypothesis_of(
    (Bound(side="above", value=-1.5), Bound(side="below", value=1.5)),
    (Bound(side="below", value=-1.5), Bound(side="above", value=1.5)),
)
TRIALS = 2000


def seen(effect: float, hypothesis: Hypothesis = ABOVE, n: int = 4) -> tuple[Finding, Hypothesis, Sample]:
    """A pilot of n seeds that saw just this effect, in SDs."""
    z = np.linspace(-1, 1, n)
    x = effect + z / np.std(z, ddof=1)
    sample = Sample(effects=x, units="seeds", planned=n)
    return weigh(sample, hypothesis), hypothesis, sample


def told(*parts: tuple[Finding, Hypothesis, Sample], need: int = 1, family: int = 1) -> Foresight:
    found = foresee(parts, need=need, sizes=(10,), times=(1.0,), family=family)
    assert found is not None
    return found


def drawn(effect: float, n: int, *, parts: int = 1) -> stats.Array:
    return np.random.default_rng(n).normal(effect, 1.0, (parts, TRIALS, n))


# ---------------------------------------------------------------------------------------------- the printed number


@pytest.mark.parametrize("effect", [0.5, 0.7, 0.9, 1.1, -0.8])
@pytest.mark.parametrize("family", [1, 2])
def test_the_seeds_it_needs_decide_in_four_of_five_repetitions(effect: float, family: int) -> None:
    n = told(seen(effect), family=family).units
    assert n is not None
    p = p_values(drawn(abs(effect), n), [n])[0, 0]
    assert 0.7 <= np.mean(p <= LEVEL / family) <= 0.9


def test_so_they_do_for_equivalence_and_for_a_claim_of_several_parts() -> None:
    n = told(seen(0.2, WITHIN)).units
    assert n is not None
    x = drawn(0.2, n)
    inside = np.maximum(p_values(x + 1.5, [n])[0, 0], p_values(1.5 - x, [n])[0, 0])
    assert 0.7 <= np.mean(inside <= LEVEL) <= 0.9

    n = told(*[seen(0.9)] * 3, need=3).units
    assert n is not None
    every = np.max(p_values(drawn(0.9, n, parts=3), [n])[0], axis=0)
    assert 0.7 <= np.mean(every <= LEVEL) <= 0.9

    n = told(seen(1.0), seen(1.0), seen(-0.1), need=2).units
    assert n is not None
    x = drawn(1.0, n, parts=3)
    x[2] -= 1.1
    second = 2 * np.sort(p_values(x, [n])[0], axis=0)[1]
    assert 0.7 <= np.mean(second <= LEVEL) <= 0.92


def test_the_chance_at_each_look_is_what_comes_of_it() -> None:
    sizes, shared = (8, 12, 16), levels((8, 12, 16), family=1)
    assert shared is not None
    found = foresee([seen(0.9)], sizes=sizes, times=[LEVEL / level for level in shared], family=1)
    assert found is not None
    at = decided(p_values(drawn(0.9, 16), sizes), shared)[0]
    for look, chance in enumerate(found.chance):
        assert np.mean((at >= 0) & (at <= look)) == pytest.approx(chance, abs=0.06)
    assert list(found.chance) == sorted(found.chance)
    assert found.detectable[0] is not None
    assert found.low is not None
    assert found.units is not None
    assert found.low <= found.units


@pytest.mark.parametrize("scatter", [0.01, 0.03])
def test_what_must_be_shown_first_needs_seeds_as_well(scatter: float) -> None:
    """A quarter of a gain of 0.02 is soon recovered, and nothing is said of it before that gain is shown."""
    block = claim({"kind": "recovers", "value": 0.25}, compare={**TWIN, "ceiling": "large"}, family="primary")

    def evidence(rng: np.random.Generator, n: int, *, exactly: bool = False) -> Evidence:
        z = rng.normal(size=(3, n))
        if exactly:  # the pilot sees just what is true
            z = (z - np.mean(z, axis=1, keepdims=True)) / np.std(z, axis=1, ddof=1, keepdims=True)
        dense = 2 + 0.01 * z[0]
        moe, large = dense - 0.05 + 0.01 * z[1], dense - 0.02 + scatter * z[2]
        values = {"moe": {BPB: list(moe)}, "dense": {BPB: list(dense)}, "large": {BPB: list(large)}}
        return evidence_of(values, {"c": block})

    rng = np.random.default_rng(2)
    pilot = evidence(rng, 30, exactly=True)
    (found,) = foreseen(pilot.plan, pilot)
    assert found.foresight is not None
    n = found.foresight.units
    assert n is not None
    decided_in = [judge(evidence(rng, n))[0].state in ("supported", "refuted") for _ in range(60)]
    assert 0.65 <= np.mean(decided_in) <= 0.95


def test_effects_that_do_not_scatter_foretell_nothing() -> None:
    sample = Sample(effects=np.ones(4), units="seeds", planned=4)
    assert foresee([(weigh(sample, ABOVE), ABOVE, sample)], sizes=(8,), times=(1.0,), family=1) is None


# ---------------------------------------------------------------------------------------------- it is no look


def now() -> Evidence:
    values = {"moe": {BPB: [1.9] * 8}, "dense": {BPB: [2.0] * 8}}
    made = evidence_of(values, {"c": claim({"kind": "superior", "margin": 0.02}, family="primary")})
    first = dict.fromkeys(made.plan.claim_hashes.values(), PLANNED_AT + 9000)  # written after the pilot was seen
    stored = made.stored.model_copy(update={"stored_at": PLANNED_AT + 9000, "claims_first_stored": first})
    outcomes = tuple(replace(run, finished=PLANNED_AT + 9999) for run in made.outcomes)
    return replace(made, stored=stored, outcomes=outcomes)


def other(seeds: list[int], *, asked: Asked) -> Evidence:
    values = {"moe": {BPB: [1.9] * len(seeds)}, "dense": {BPB: [2.0] * len(seeds)}}
    made = evidence_of(values, {}, seeds=seeds)
    return replace(made, stored=made.stored.model_copy(update={"plan": made.plan.model_copy(update={"asked": asked})}))


def with_other(one: Evidence, another: Evidence) -> Evidence:
    finished = {run.id: PLANNED_AT + 60 for run in another.plan.runs}
    return replace(one, history=History(plans=(another.stored,), finished=finished))


def test_a_pilot_seen_before_breaks_no_seal_and_is_no_look_but_is_told() -> None:
    (verdict,) = judge(with_other(now(), other(seeds_of(3), asked=Asked(pilot=3))))
    assert (verdict.state, verdict.label, verdict.looks) == ("supported", "primary", 1)
    assert "a pilot of 3 seeds was taken: none of these, and no look" in verdict.notes


def test_the_same_seeds_without_the_word_are_a_look() -> None:
    (verdict,) = judge(with_other(now(), other([20, 21, 22], asked=Asked())))
    assert verdict.looks == 2
    assert not any("pilot" in note for note in verdict.notes)


def test_a_plan_is_a_pilot_by_its_seeds_alone() -> None:
    made = other([0, 1, 2], asked=Asked()).plan
    for plan in (made, other(seeds_of(4), asked=Asked()).plan):
        with pytest.raises(ValueError, match="it is a pilot, and has other seeds"):
            Plan.model_validate_json(plan.model_copy(update={"asked": Asked(pilot=3)}).model_dump_json())


def test_a_pilot_of_seeds_that_the_suite_uses_is_a_look() -> None:
    """Whoever takes the seeds of a pilot for the suite's has looked at them."""
    values = {"moe": {BPB: [1.9] * 8}, "dense": {BPB: [2.0] * 8}}
    block = {"c": claim({"kind": "superior", "margin": 0.02}, family="primary")}
    made = evidence_of(values, block, seeds=seeds_of(8))
    made = replace(made, stored=made.stored.model_copy(update={"stored_at": PLANNED_AT + 9000}))
    (verdict,) = judge(with_other(made, other(seeds_of(3), asked=Asked(pilot=3))))
    assert (verdict.looks, verdict.label == "primary") != (1, True)


# ---------------------------------------------------------------------------------------------- run and plan


def test_run_takes_a_pilot_and_plan_tells_what_it_says(tmp_path: Path) -> None:
    block = {"better": tiny_suites.claim(family="primary", test={"kind": "non_inferior", "margin": "50%"})}
    train = {"budget": {"steps": 4}, "evaluate": {"points": 1, "tokens": 256}}
    path = tiny_suites.write(tmp_path, seeds=8, claims=block, train=train)
    results, reports = tmp_path / "results", tmp_path / "reports"
    call = CliRunner().invoke
    folders = ["--results", str(results)]
    done = call(
        main,
        ["run", str(path), "--pilot", "3", *folders, "--out", str(reports), "--launcher", "inline", "--quiet"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    assert "6 runs: 6 completed" in done.output
    assert f"what the pilot tells: moebench plan {path.name}" in done.output
    assert not reports.exists()
    (stored,) = Results(results).plans()
    assert (stored.plan.title, stored.plan.asked.pilot) == ("tiny+pilot", 3)
    assert {run.seed for run in stored.plan.runs} == set(range(PILOT_SEED, PILOT_SEED + 3))

    text = call(main, ["plan", str(path), *folders], catch_exceptions=False).output
    assert "what each claim could see (80% power; from 3 other seeds)" in text
    assert "core-hours" in text
    elsewhere = call(
        main,
        ["plan", str(path), "--results", str(tmp_path / "new"), "--pilot", str(results)],
        catch_exceptions=False,
    ).output
    assert "from 3 other seeds" in elsewhere
    assert "no runs of other seeds" in call(main, ["plan", str(path), "--results", str(tmp_path / "new")]).output


def test_a_pilot_claims_sweeps_and_races_nothing(tmp_path: Path) -> None:
    from moebench.suite.load import load_suite

    speed = {"speed": {"processes": 6}, "memory": False}
    block = {"better": tiny_suites.claim(family="primary", test={"kind": "superior", "margin": "0%"})}
    spec = load_suite(tiny_suites.write(tmp_path, seeds={"looks": [8, 12]}, measure=speed, claims=block)).spec
    made = pilot(spec, 2)
    assert (made.seeds, made.looks, made.claims, made.tune, made.measure.speed) == (seeds_of(2), [], {}, None, None)
    assert made.models == spec.models
