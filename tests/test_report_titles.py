"""No title, heading or alternative text decides what the verdicts leave undecided."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moebench import store
from moebench.claims.judge import judge
from moebench.claims.order import order
from moebench.reporting import Report, build
from moebench.suite.claim import Claim
from tests.support import golden_results, golden_systems
from tests.support.builders import BPB, claim, evidence_of

DECIDING = re.compile(
    r"\b(lower than|higher than|lowest|highest|ends lower|ends higher|best model|wins|beats?|no model|the most of)\b"
)


def at_the_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every claim about quality lies at its bound: inconclusive at any reasonable number of seeds."""
    truth = dict(golden_results.TRUTH)
    moe = truth["moe_8x2"].loss
    truth["dense"] = replace(truth["dense"], loss=moe / 0.995)
    truth["dense_total"] = replace(truth["dense_total"], loss=moe / 1.005)
    monkeypatch.setattr(golden_results, "TRUTH", truth)
    golden_results.write(root)


def too_few(root: Path, _: pytest.MonkeyPatch) -> None:
    golden_results.write(root, seeds=4)


def unfinished(root: Path, _: pytest.MonkeyPatch) -> None:
    plan = golden_results.write(root)
    for planned in (run for run in plan.runs if run.seed == 7):
        for file in store.Results(root).job(planned.id).path.iterdir():
            file.unlink()


def unfinished_systems(root: Path, _: pytest.MonkeyPatch) -> None:
    plan = golden_systems.write(root)
    for planned in (run for run in plan.runs if run.seed == 7):
        for file in store.Results(root).job(planned.id).path.iterdir():
            file.unlink()


def titles(report: Report) -> list[str]:
    """Headings of figures on both pages, and the titles inside the svg files."""
    page, markdown = report.page.read_text(), (report.path / "index.md").read_text()
    found = re.findall(r'<h3 id="\w+-title">(.*?)</h3>', page)
    found += re.findall(r"!\[(.*?)\]\(figures", markdown)
    for svg in (report.path / "figures").glob("*.svg"):
        found += re.findall(r"<dc:title>(.*?)</dc:title>", svg.read_text())
    return found


@pytest.mark.parametrize("spoil", [at_the_bound, too_few, unfinished, unfinished_systems])
def test_no_title_decides_what_is_undecided(
    spoil: Callable[[Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(tmp_path / "results", monkeypatch)
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md", "svg"))
    states = {v.state for v in made.verdicts if v.metric == BPB and v.kind != "recovers"}
    assert states <= {"inconclusive", "interim"}
    said = titles(made)
    assert len(said) > 20
    by_cost = "dense is on both fronts"  # counts decide that no model is as cheap
    assert [title for title in said if DECIDING.search(title) and not title.startswith(by_cost)] == []
    assert any("undecided" in title for title in said)


def test_titles_decide_what_the_verdicts_decide(tmp_path: Path) -> None:
    golden_results.write(tmp_path / "results")
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md", "svg"))
    said = titles(made)
    assert any(title.startswith("moe_8x2 ends lower than dense: bits per byte −0.98%") for title in said)
    assert any(title.startswith("dense_total has the lowest final loss") for title in said)


def test_a_title_that_states_a_timing_says_when_the_machine_was_not_shown_to_be_quiet(tmp_path: Path) -> None:
    plan = golden_results.write(tmp_path / "results", seeds=6)
    assert plan.speed is not None
    golden_results.write_speed(tmp_path / "results", plan, aa=1.2)
    golden_results._fix_times(tmp_path / "results")
    (made,) = build(tmp_path / "results", out=tmp_path / "out", formats=("html", "md"))
    timed = [title for title in titles(made) if "as long as" in title or "the step time of" in title]
    assert timed
    assert all(title.endswith("(A/A failed)") for title in timed)


# ---------------------------------------------------------------------------------------------- of two models


def sides(moe: np.ndarray, dense: np.ndarray, *claims: dict[str, object]) -> tuple[str | None, str | None]:
    """Where moe lies against dense and dense against moe."""
    evidence = evidence_of({"moe": {BPB: moe}, "dense": {BPB: dense}}, {f"c{k}": one for k, one in enumerate(claims)})
    verdicts = judge(evidence)
    return order(evidence, verdicts, "moe", "dense", BPB).side, order(evidence, verdicts, "dense", "moe", BPB).side


NOISE = np.random.default_rng(5).normal(0, 0.001, 8)
DENSE = np.full(8, 2.0)


@pytest.mark.parametrize(
    ("change", "test", "side"),
    [
        (0.98, {"kind": "superior", "margin": "0.5%"}, "lower"),
        (0.995, {"kind": "superior", "margin": "0.5%"}, None),
        (0.999, {"kind": "superior", "margin": "0.5%"}, None),
        (1.02, {"kind": "superior"}, "higher"),
        (1.02, {"kind": "superior", "margin": "0.5%"}, None),
        (1.02, {"kind": "non_inferior", "margin": "1%"}, "higher"),
        (0.98, {"kind": "non_inferior", "margin": "1%"}, None),
        (1.02, {"kind": "equivalent", "margin": "1%"}, "higher"),
        (0.98, {"kind": "equivalent", "margin": "1%"}, "lower"),
        (1.0, {"kind": "equivalent", "margin": "1%"}, None),
        (0.5, {"kind": "ratio_at_least", "value": 1.5}, "lower"),
        (0.9, {"kind": "ratio_at_least", "value": 1.5}, None),
        (0.5, {"kind": "ratio_within", "low": 0.4, "high": 0.6}, "lower"),
        (1.2, {"kind": "ratio_within", "low": 0.9, "high": 1.1}, "higher"),
    ],
)
def test_the_verdict_of_a_claim_about_the_pair_rules(change: float, test: dict[str, object], side: str | None) -> None:
    other = {None: None, "lower": "higher", "higher": "lower"}[side]
    assert sides(DENSE * change * np.exp(NOISE), DENSE, claim(test)) == (side, other)


def test_without_a_claim_the_same_question_is_asked_at_margin_0() -> None:
    assert sides(DENSE * 0.99 * np.exp(NOISE), DENSE) == ("lower", "higher")
    assert sides(DENSE * 1.0001 * np.exp(10 * NOISE), DENSE) == (None, None)
    assert sides((DENSE * 0.99 * np.exp(NOISE))[:5], DENSE[:5]) == (None, None), "five seeds decide nothing"


def test_a_primary_claim_rules_over_an_exploratory_one() -> None:
    moe = DENSE * 0.995 * np.exp(NOISE)
    decided, undecided = claim({"kind": "superior"}), claim({"kind": "superior", "margin": "0.5%"}, family="primary")
    assert sides(moe, DENSE, decided) == ("lower", "higher")
    assert sides(moe, DENSE, decided, undecided) == (None, None)


def test_equal_counts_are_neither_lower_nor_higher() -> None:
    evidence = evidence_of(
        {"moe": {BPB: DENSE}, "dense": {BPB: DENSE}}, {}, params={"moe": (10, 10), "dense": (20, 10)}
    )
    assert order(evidence, [], "moe", "dense", "cost.active_params").side is None
    assert order(evidence, [], "moe", "dense", "cost.total_params").side == "lower"


def test_the_question_asked_for_a_title_is_no_claim_of_the_suite() -> None:
    evidence = evidence_of(
        {"moe": {BPB: DENSE}, "dense": {BPB: DENSE}}, {"c": claim({"kind": "superior"}, "tune.bits_per_byte")}
    )
    assert not order(evidence, judge(evidence), "moe", "dense", BPB).claimed
    assert isinstance(evidence.plan.spec.claims["c"], Claim)
