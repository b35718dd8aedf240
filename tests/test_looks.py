"""Planned looks: they share the level, the first that decides ends the plan, and what was not planned stays a look."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from moebench import api, stats
from moebench.claims.judge import course, judge
from moebench.claims.looks import Course
from moebench.claims.verdict import Verdict
from moebench.cli.commands import main
from moebench.cli.progress import sentence
from moebench.planning.feasibility import PlanError
from moebench.reader.evidence import NOT_RUN, Evidence
from moebench.reader.history import History
from moebench.store import Results, open_results, write_bundle
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.looks import LEVEL, first_look, levels
from moebench.suite.write import resolved_yaml
from tests.support import tiny_suites
from tests.support.builders import BPB, PLANNED_AT, claim, evidence_of
from tests.support.looks import decided, p_values

SIZES = (8, 12, 16)
SUPERIOR = {"kind": "superior", "margin": 0.0}

# ---------------------------------------------------------------------------------------------- the levels


@pytest.mark.parametrize("sizes", [(6, 10, 16), (8, 12, 16), (10, 16), (9, 11, 13, 16)])
@pytest.mark.parametrize("family", [1, 2, 4])
def test_levels_add_up_and_each_look_can_decide(sizes: Sequence[int], family: int) -> None:
    shared = levels(sizes, family=family)
    if shared is None:
        assert family * 2.0 ** -sizes[0] + family * 2.0 ** -sizes[1] > LEVEL / 2
        return
    assert sum(shared) == pytest.approx(LEVEL, rel=1e-12)
    assert all(level >= family * 2.0**-n for n, level in zip(sizes, shared, strict=True))
    assert list(shared[1:]) == sorted(shared[1:])


def test_a_first_look_at_too_few_seeds_has_no_level() -> None:
    assert levels((6, 10, 16), family=2) is None
    assert first_look((6, 10, 16), family=2) == 7
    assert levels((6, 10, 16), family=1) == pytest.approx((2**-6, 0.00184, 0.00754), abs=1e-5)


# ---------------------------------------------------------------------------------------------- error rates and power


def at_most(rate: float, trials: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / trials)


@pytest.mark.parametrize("truth", ["null", "mixed"])
@pytest.mark.parametrize("family", [1, 2, 4])
def test_a_family_with_looks_errs_no_more_than_it_may(family: int, truth: str) -> None:
    """Dependent claims, as those that share a model; of a mixed family every other one has a real effect."""
    trials, rng = 4000, np.random.default_rng(family)
    shared = levels(SIZES, family=family)
    assert shared is not None
    x = 0.7 * rng.normal(size=(family, trials, 16)) + 0.7 * rng.normal(size=(1, trials, 16))
    real = np.array([truth == "mixed" and index % 2 == 1 for index in range(family)])
    x[real] += 0.9
    supported, refuted = decided(p_values(x, SIZES), shared), decided(p_values(-x, SIZES), shared)
    assert np.mean(np.any(supported[~real] >= 0, axis=0)) <= at_most(LEVEL, trials)
    assert np.mean(np.any(refuted >= 0, axis=0)) <= at_most(LEVEL, trials)


def test_the_simulated_procedure_is_the_one_in_use() -> None:
    rng, shared = np.random.default_rng(3), levels(SIZES, family=2)
    assert shared is not None
    for _ in range(25):
        x = rng.normal(0.9, 1.0, (2, 16))
        made = course(of(x))
        expected = decided(p_values(x[:, None], SIZES), shared)[:, 0]
        last = made.last.stage.number
        for verdict, at in zip(made.verdicts, expected, strict=True):
            assert (verdict.state == "supported") == (0 <= at < last)
            assert verdict.state != "supported" or verdict.look == at + 1


def test_bonferroni_gives_little_away_to_a_boundary_of_correlated_looks() -> None:
    """O'Brien and Fleming's boundary for normal looks that hang together decides a few points more often, and holds for
    means alone: not with documents added, nor for a family. So Bonferroni it is."""
    rng, trials = np.random.default_rng(4), 4000
    p = p_values(rng.normal(0.8, 1.0, (1, trials, 16)), SIZES)
    z = np.cumsum(rng.normal(size=(200_000, 16)), axis=1)[:, np.array(SIZES) - 1] / np.sqrt(SIZES)
    shape = np.sqrt(16 / np.array(SIZES))
    scale = np.quantile(np.max(z / shape, axis=1), 1 - LEVEL)
    correlated = [float(stats.special.ndtr(-scale * s)) for s in shape]
    ours = levels(SIZES, family=1)
    assert ours is not None
    power = {name: np.mean(decided(p, held)[0] >= 0) for name, held in (("ours", ours), ("theirs", correlated))}
    assert power["ours"] >= power["theirs"] - 0.06
    assert power["ours"] >= 0.74
    equal = np.mean(decided(p, [LEVEL / 3] * 3)[0] >= 0)
    assert power["ours"] > equal


# ---------------------------------------------------------------------------------------------- the course


def of(x: Any, *, sizes: Sequence[int] = SIZES, missing: Sequence[int] = (), **other: Any) -> Evidence:
    """Evidence of a suite with looks: effects x [claims, seeds], each on a domain of its own."""
    gains = np.atleast_2d(np.asarray(x, dtype=np.float64))
    metrics = [f"{BPB}[domain={letter}]" for letter in "abcd"[: len(gains)]]
    values = {
        "moe": {metric: list(20 - row) for metric, row in zip(metrics, gains, strict=True)},
        "dense": {metric: [20.0] * gains.shape[1] for metric in metrics},
    }
    claims = {f"c{i}": claim(SUPERIOR, metric, family="primary") for i, metric in enumerate(metrics)}
    absent = [(model, seed) for seed in missing for model in ("moe", "dense")]
    return with_looks(evidence_of(values, claims, missing=absent, **other), sizes)


def with_looks(evidence: Evidence, sizes: Sequence[int]) -> Evidence:
    plan = evidence.plan
    spec = plan.spec.model_copy(update={"looks": list(sizes)})
    return replace(evidence, stored=evidence.stored.model_copy(update={"plan": plan.model_copy(update={"spec": spec})}))


CLEAR = np.linspace(1.0, 2.0, 16)
"""Effects of which any six decide."""
LATE = np.concatenate([[1.0, -1.0] * 4, np.linspace(4.0, 6.0, 8)])
"""Effects that say nothing at 8 seeds, and much at 16."""


def only(made: Course) -> Verdict:
    (verdict,) = made.verdicts
    return verdict


def test_the_first_look_that_decides_ends_the_plan_and_later_runs_are_not_used() -> None:
    stopped = course(of(CLEAR, missing=range(8, 16)))
    verdict = only(stopped)
    assert (verdict.state, verdict.look, verdict.n) == ("supported", 1, 8)
    assert (stopped.words, stopped.unused, stopped.stopped_early) == ("stopped at look 1 of 3", (), True)
    assert len(stopped.evidence.plan.spec.seeds) == 8
    assert any("look 1 of 3 planned, at 8 seeds: held to" in note for note in verdict.notes)

    further = course(of(CLEAR))
    assert (only(further).state, only(further).n, only(further).low) == ("supported", 8, verdict.low)
    assert further.unused == tuple(range(8, 16))
    assert any("runs of 8 later seeds are there and not used" in note for note in only(further).notes)
    worse = CLEAR.copy()
    worse[8:] = -50.0
    assert only(course(of(worse))).state == "supported", "nothing that comes after changes it"


def test_an_undecided_look_waits_for_the_next() -> None:
    assert only(course(of(LATE, missing=range(8, 16)))).state == "interim"
    part = course(of(LATE, missing=range(10, 16)))
    assert (only(part).state, part.words) == ("interim", "look 2 of 3 under way")
    assert only(part).reason.startswith("look 2 of 3: 10 of 12 seeds: seed 10: moe is missing")
    done = course(of(LATE))
    assert [look.verdicts[0].state for look in done.looks] == ["inconclusive", "inconclusive", "supported"]
    assert (only(done).look, only(done).n, done.words) == (3, 16, "look 3 of 3")


def test_seeds_of_a_later_look_do_not_stand_for_absent_ones() -> None:
    """Somebody ran seeds 8 to 15 and not seed 3: the first look cannot be taken, whatever the others say."""
    made = course(of(CLEAR, missing=[3]))
    assert (only(made).state, made.last.stage.number) == ("interim", 1)
    assert only(made).reason.startswith("look 1 of 3: 7 of 8 seeds: seed 3")


def test_a_claim_keeps_the_verdict_of_the_look_that_decided_it() -> None:
    gone_bad = CLEAR.copy()
    gone_bad[8:] = -9.0
    made = course(of([gone_bad, LATE]))
    assert [(v.state, v.look, v.n) for v in made.verdicts] == [("supported", 1, 8), ("supported", 3, 16)]
    assert made.verdicts[1].p_adjusted == pytest.approx(made.verdicts[1].p * LEVEL / levels(SIZES, family=2)[2])  # type: ignore[index]


def test_refuted_ends_it_too_and_holm_still_counts_that_claim() -> None:
    made = course(of([-CLEAR, LATE]))
    assert [(v.state, v.look) for v in made.verdicts] == [("refuted", 1), ("supported", 3)]
    third = levels(SIZES, family=2)[2]  # type: ignore[index]
    assert made.verdicts[1].p_adjusted == pytest.approx(2 * made.verdicts[1].p * LEVEL / third)


def test_what_more_seeds_cannot_help_ends_it() -> None:
    """A claim that is INVALID: its models are not what they should be, however many runs there are."""
    evidence = of(CLEAR, missing=range(8, 16), residual=0.2)
    made = course(evidence)
    assert (only(made).state, made.last.stage.number, made.last.decides) == ("invalid", 1, True)


def test_where_nothing_was_run_no_look_was_taken() -> None:
    made = course(of(CLEAR, missing=range(16)))
    assert (only(made).state, made.words, made.stopped_early) == ("not_tested", "look 1 of 3 under way", False)


def test_a_speed_session_that_is_still_to_come_is_waited_for() -> None:
    seconds = {"moe": 0.09, "dense": 0.1, "dense~again": 0.1}
    times = {name: {"speed.train_step_s": [s * (1 + 0.001 * i) for i in range(8)]} for name, s in seconds.items()}
    values = {"moe": {BPB: list(20 - CLEAR)}, "dense": {BPB: [20.0] * 16}}
    claims = {
        "better": claim(SUPERIOR, family="primary"),
        "faster": claim({"kind": "superior", "margin": "0%"}, "speed.train_step_s", family="primary"),
    }
    timed = with_looks(evidence_of(values, claims, times=times), SIZES)
    assert course(timed).words == "stopped at look 1 of 3"
    waiting = course(replace(timed, processes=(), speed_reason=NOT_RUN, speed_finished=None))
    assert ([v.state for v in waiting.verdicts], waiting.words) == (
        ["supported", "not_tested"],
        "look 1 of 3 under way",
    )
    failed = course(replace(timed, processes=(), speed_reason="the session failed", speed_finished=None))
    assert failed.words == "stopped at look 1 of 3", "more seeds time nothing"


def test_a_decided_claim_is_invalid_when_later_runs_say_so() -> None:
    """Two runs diverge after the look that decided it, which another claim needs."""
    made = course(of([CLEAR, LATE], diverged=[("moe", 8), ("moe", 9)]))
    assert [look.verdicts[0].state for look in made.looks] == ["supported", "invalid"]
    assert made.verdicts[0].reason.startswith("divergence: 2 of 12 runs of moe")


def test_worse_data_never_helps() -> None:
    rng = np.random.default_rng(6)
    order = {"supported": 2, "inconclusive": 1, "refuted": 0}
    for _ in range(15):
        x = rng.normal(0.8, 1.0, 16)
        worse = x.copy()
        worse[rng.integers(16)] -= abs(rng.normal(0, 3))
        assert order[judge(of(worse))[0].state] <= order[judge(of(x))[0].state]


# ---------------------------------------------------------------------------------------------- what was not planned


def test_another_set_of_seeds_is_a_look_beside_the_planned_ones() -> None:
    """The same claim was judged at seeds 0 to 5 before: no look that was planned."""
    now = of(CLEAR)
    earlier = evidence_of(
        {"moe": {f"{BPB}[domain=a]": list(20 - CLEAR[:6])}, "dense": {f"{BPB}[domain=a]": [20.0] * 6}},
        {"c0": claim(SUPERIOR, f"{BPB}[domain=a]", family="primary")},
    )
    finished = {run.id: PLANNED_AT + 60 for run in earlier.plan.runs}
    (verdict,) = judge(replace(now, history=History(plans=(earlier.stored,), finished=finished)))
    assert (verdict.looks, verdict.look) == (2, 2), "p counts twice, so that 8 seeds are not enough"
    assert any(note.startswith("look 2: other runs") for note in verdict.notes)


def test_a_plan_of_as_many_seeds_does_not_hide_that_a_look_was_taken() -> None:
    """Stopped at 8 and undecided to somebody's taste: all 16 seeds planned afterwards are further looks."""
    looked = of(CLEAR)
    values = {"moe": {f"{BPB}[domain=a]": list(20 - CLEAR)}, "dense": {f"{BPB}[domain=a]": [20.0] * 16}}
    now = evidence_of(values, {"c0": claim(SUPERIOR, f"{BPB}[domain=a]", family="primary")})
    now = replace(now, stored=now.stored.model_copy(update={"stored_at": PLANNED_AT + 9000}))
    (verdict,) = judge(replace(now, history=History(plans=(looked.stored,))))
    assert verdict.looks == 3, "one at 8 and one at 12 seeds"


def planned_again(says: str, *, looks: Sequence[int], seeds: int = 16, done: int = 8) -> Verdict:
    """The verdict under a plan that was stored after `done` seeds of another one with looks 8, 12, 16 were."""

    def stored(says: str, at: float, looks: Sequence[int], seeds: int) -> Evidence:
        values = {"moe": {BPB: list(20 - CLEAR[:seeds])}, "dense": {BPB: [20.0] * seeds}}
        block = {"c": {**claim(SUPERIOR, family="primary"), "says": says}}
        absent = [(model, seed) for seed in range(done, seeds) for model in ("moe", "dense")]
        made = with_looks(evidence_of(values, block, missing=absent), looks)
        first = dict.fromkeys(made.plan.claim_hashes.values(), at)
        kept = made.stored.model_copy(update={"stored_at": at, "claims_first_stored": first})
        ended = [replace(run, finished=PLANNED_AT + 3600) if run.done else run for run in made.outcomes]
        return replace(made, stored=kept, outcomes=tuple(ended))

    before, now = stored("It is so.", PLANNED_AT, SIZES, 16), stored(says, PLANNED_AT + 9000, looks, seeds)
    return only(course(replace(now, history=History(plans=(before.stored,)))))


def test_a_plan_of_other_words_goes_on_with_the_looks_of_the_first() -> None:
    verdict = planned_again("In other words.", looks=SIZES)
    assert (verdict.state, verdict.label, verdict.looks, verdict.look) == ("supported", "primary", 1, 1)
    assert "reworded after the data; it said: It is so." in verdict.notes


@pytest.mark.parametrize(("looks", "seeds"), [((8, 16), 16), ([], 8)])
def test_other_looks_after_a_look_are_a_choice(looks: Sequence[int], seeds: int) -> None:
    """Whoever was held to a small part of the level at 8 seeds cannot have them judged at a larger one."""
    verdict = planned_again("It is so.", looks=looks, seeds=seeds)
    assert verdict.label == "post hoc"
    assert any("its seeds were chosen after some were done" in note for note in verdict.notes)


# ---------------------------------------------------------------------------------------------- the suite file


def suite_of(folder: Path, **changes: Any) -> Path:
    block = {"better": tiny_suites.claim(family="primary", test={"kind": "non_inferior", "margin": "50%"})}
    train = {"budget": {"steps": 60}, "evaluate": {"points": 1, "tokens": 256}}
    return tiny_suites.write(folder, **{"seeds": {"looks": [8, 10]}, "claims": block, "train": train, **changes})


def test_looks_are_written_under_seeds(tmp_path: Path) -> None:
    spec = load_suite(suite_of(tmp_path)).spec
    assert (spec.seeds, spec.looks, spec.first_seeds) == (list(range(10)), [8, 10], list(range(8)))
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(spec))
    assert load_suite(again).spec == spec
    assert "looks" not in load_suite(suite_of(tmp_path, seeds=8)).spec.model_dump()


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        ({"looks": [8]}, "looks are 2 to 5 ascending numbers of seeds"),
        ({"looks": [10, 8]}, "ascending"),
        ({"looks": [8, "x"]}, "ascending"),
        ({"looks": [8, 1000000]}, "at most"),
        ({"looks": 8}, "ascending"),
        ({"lokks": [8, 10]}, "seeds has no key 'lokks'"),
    ],
)
def test_other_looks_are_refused_at_their_place(tmp_path: Path, seeds: Any, says: str) -> None:
    with pytest.raises(SuiteError, match=says):
        load_suite(suite_of(tmp_path, seeds=seeds))


def test_looks_without_a_primary_claim_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="looks end with the primary claims, and there is none"):
        load_suite(suite_of(tmp_path, claims={"better": tiny_suites.claim()}))


def test_a_look_that_can_decide_nothing_is_refused(tmp_path: Path) -> None:
    test, pair = {"kind": "superior", "margin": "0%"}, {"treatment": "moe", "baseline": "dense"}
    block = {name: tiny_suites.claim(family="primary", test=dict(test), compare=dict(pair)) for name in "ab"}
    with pytest.raises((SuiteError, PlanError), match="at a look of 6 seeds no outcome could decide any of 2 primary"):
        api.validate(suite_of(tmp_path, seeds={"looks": [6, 10, 16]}, claims=block))
    notes = api.validate(suite_of(tmp_path, seeds={"looks": [6, 10, 16]}))[1]
    assert any("the look at 6 seeds takes 62% of the level" in note for note in notes)


# ---------------------------------------------------------------------------------------------- run, status, report


def run(path: Path, **options: Any) -> api.Outcome:
    folder = path.parent
    return api.run(path, results=folder / "results", reports=folder / "reports", launcher="inline", **options)


def test_run_stops_at_the_look_that_decides_and_all_know_it(tmp_path: Path) -> None:
    path, events = suite_of(tmp_path), list[dict[str, Any]]()
    outcome = run(path, on_event=events.append)
    assert (outcome.started, len(outcome.statuses)) == (16, 16)
    assert [(v.state, v.look, v.n) for v in outcome.verdicts] == [("supported", 1, 8)], outcome.verdicts[0].reason
    told = [sentence(event) for event in events if event["event"] == "look"]
    assert told == ["look 1 of 2: 8 seeds"]
    (planned,) = [event for event in events if event["event"] == "planned"]
    assert {job.seed for job in planned["later"]} == {8, 9}
    assert run(path).started == 0

    status = CliRunner().invoke(main, ["status", str(tmp_path / "results")], catch_exceptions=False).output
    assert "stopped at look 1 of 2" in status
    assert "to do:" not in status.replace("to do (", "to do:(").replace("to do  ", "") or "job" not in status
    page = (tmp_path / "reports" / "tiny" / "index.md").read_text()
    assert "stopped at look 1 of 2" in page
    assert "Planned looks" in page
    assert "every planned run is complete" in page

    (stored,) = Results(tmp_path / "results").plans()
    write_bundle(Results(tmp_path / "results"), stored, tmp_path / "bundle")
    source = open_results(tmp_path / "bundle")
    folder, verdicts = api.write_report(
        tmp_path / "bundle", title="tiny", plan_id=source.plans()[0].plan.id, out=tmp_path / "again"
    )
    assert [v.state for v in verdicts] == ["supported"]
    assert (folder / "claims.json").read_text() == (tmp_path / "reports" / "tiny" / "claims.json").read_text()


def test_run_goes_on_while_nothing_is_decided_and_from_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moebench.claims.decide.MIN_UNITS", 9)  # so that eight seeds decide nothing
    path = suite_of(tmp_path)
    outcome = run(path)
    assert (outcome.started, len(outcome.statuses), outcome.verdicts[0].look) == (20, 20, 2)
    assert run(path).started == 0
    results = Results(tmp_path / "results")
    (stored,) = results.plans()
    lost = next(run for run in stored.plan.runs if run.seed == 9)
    shutil.rmtree(results.job(lost.id).path)
    status = CliRunner().invoke(main, ["status", str(tmp_path / "results")], catch_exceptions=False).output
    assert "look 2 of 2 under way" in status
    assert run(path).started == 1
