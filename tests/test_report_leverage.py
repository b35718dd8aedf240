"""The figure and the table of leverage: what they say of planted worths, beyond the ladder, and of what is absent."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from moebench.claims.controls import check_controls
from moebench.claims.judge import judge
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, gather
from moebench.reporting.analysis import Findings
from moebench.reporting.canvas import Drawn
from moebench.reporting.figures import leverage
from moebench.reporting.study import study
from moebench.reporting.tables.leverage import leverage as table
from moebench.reporting.theme import settings
from moebench.reporting.worth import Worths, worths
from moebench.store import Results, newest
from tests.support import golden_systems
from tests.support.builders import with_recipe
from tests.support.golden_systems import WORTH

BPB = "test.bits_per_byte"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root = tmp_path_factory.mktemp("ladder") / "results"
    golden_systems.write_ladder(root)
    results = Results(root)
    (stored,) = newest(results.plans())
    return gather(results, stored)


@pytest.fixture(autouse=True)
def _drawn_as_reports_are() -> Iterator[None]:
    with settings():
        yield


def findings(evidence: Evidence) -> Findings:
    return Findings(study=study(evidence), verdicts=tuple(judge(evidence)), controls=tuple(check_controls(evidence)))


def held(evidence: Evidence) -> Worths:
    made = worths(findings(evidence))
    assert made is not None
    return made


def better(evidence: Evidence, model: str, factor: float) -> Evidence:
    """The same with every loss of a model times a factor."""
    outcomes = [
        replace(run, values={**run.values, BPB: factor * run.values[BPB]}) if run.model == model else run
        for run in evidence.outcomes
    ]
    return replace(evidence, outcomes=tuple(outcomes))


def test_planted_worths_come_back_and_agree_with_the_verdicts(evidence: Evidence) -> None:
    made = {one.model: one for one in held(evidence).all}
    assert list(made) == list(WORTH)
    for model, worth in WORTH.items():
        size = golden_systems.ladder_plan().decoders[model].costs.params.active
        found = made[model].values["effective_params"]
        assert found.centre == pytest.approx(worth * size, rel=0.05)
        assert found.low < found.centre < found.high
    (verdict,) = [v for v in findings(evidence).verdicts if v.id == "worth-a-third-more-compute"]
    leverage_of = made["moe8.width-32"].values["leverage.flops"]
    assert (verdict.estimate, verdict.low, verdict.high) == pytest.approx(
        (leverage_of.centre, leverage_of.low, leverage_of.high)
    )


def test_the_law_with_a_floor_finds_what_interpolation_finds(evidence: Evidence) -> None:
    for one in held(evidence).all:
        by_law, between = one.laws[True], one.values["leverage.flops"]
        assert not by_law.extrapolated
        assert by_law.centre == pytest.approx(math.log(between.centre), abs=0.06)


def test_the_title_says_what_the_largest_of_each_family_is_worth(evidence: Evidence) -> None:
    drawn = leverage.figure(findings(evidence))
    assert isinstance(drawn, Drawn)
    assert drawn.title.startswith("moe8.width-48 is as good as a dense model of 1.7")
    assert "; moe32.width-48: 2." in drawn.title


def test_beyond_the_ladder_no_number_is_made_up(evidence: Evidence) -> None:
    beyond = better(evidence, "moe32.width-48", 0.85)
    drawn, made = leverage.figure(findings(beyond)), table(findings(beyond))
    assert isinstance(drawn, Drawn)
    assert "moe32.width-48: ≥" in drawn.title
    assert made is not None
    row = next(row for row in made.rows() if row[0][0] == "moe32.width-48")
    assert row[4][0].startswith("≥ ")
    assert any("extrapolated" in cell[0] for cell in row)
    worse = better(evidence, "moe8.width-16", 1.25)
    made = table(findings(worse))
    assert made is not None
    row = next(row for row in made.rows() if row[0][0] == "moe8.width-16")
    assert row[5][0].startswith("≤ ")


def test_without_a_session_there_is_no_leverage_in_time(evidence: Evidence) -> None:
    untimed = replace(evidence, processes=())
    made, drawn = table(findings(untimed)), leverage.figure(findings(untimed))
    assert made is not None
    times = [c.title for c in made.columns].index("leverage, time")
    assert {row[times][0] for row in made.rows()} == {"–"}
    assert isinstance(drawn, Drawn)
    assert any("no speed session" in text.get_text() for text in drawn.figure.texts)


def test_seeds_without_every_run_are_left_out_of_the_figure(evidence: Evidence) -> None:
    gone = [run for run in evidence.outcomes if not (run.model == "dense.width-64" and run.seed > 0)]
    drawn = leverage.figure(findings(replace(evidence, outcomes=tuple(gone))))
    assert drawn == "Fewer than two seeds have every rung of the ladder and every mixture."


def test_a_suite_without_a_ladder_has_neither() -> None:
    plan: Plan = golden_systems.sweep_plan()
    assert plan.spec.ladders == {}


def test_a_ladder_of_several_budgets_gives_no_numbers(evidence: Evidence) -> None:
    """Claims on it are INVALID, and no table may say what they do not."""
    rung = evidence.plan.spec.ladders["dense"][1]
    longer = with_recipe(evidence, rung, steps=2 * evidence.plan.decoders[rung].recipe.steps)
    claims = [v for v in judge(longer) if v.metric.startswith("leverage.flops")]
    assert {v.state for v in claims} == {"invalid"}
    assert worths(findings(longer)) is None
    assert table(findings(longer)) is None


def test_a_claim_that_is_invalid_is_told_beside_the_numbers(evidence: Evidence) -> None:
    assert "INVALID" not in (made := table(findings(evidence))).note  # type: ignore[union-attr]
    found = findings(evidence)
    name = "worth-a-third-more-compute"
    spoilt = tuple(
        v.model_copy(update={"state": "invalid", "reason": "control handicap failed"}) if v.id == name else v
        for v in found.verdicts
    )
    told = table(replace(found, verdicts=spoilt))
    assert told is not None
    assert told.note.startswith(f"Not to be relied on: {name} is INVALID, as control handicap failed. ")
    assert told.note.endswith(made.note)  # type: ignore[union-attr]


def test_two_builds_agree(evidence: Evidence) -> None:
    one, other = table(findings(evidence)), table(findings(evidence))
    assert one is not None
    assert other is not None
    assert one.csv() == other.csv()
