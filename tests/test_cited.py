"""Citations: passed on as CITED with their source, in no family, and never as a verdict of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moebench import api
from moebench.claims.judge import strict_ok
from moebench.suite.errors import SuiteError

SOURCE = "source: {authors: Jacobs et al., year: 1991, where: Neural Computation 3(1), quote: experts}"
HEAD = "suite: history\nquestion: Since when?\nclaims:\n"
EXACT = "  count: {model: mixtral-8x7b, metric: shape.experts, test: {kind: exact, value: 8}}\n"


def written(folder: Path, text: str) -> Path:
    (folder / "suite.yaml").write_text(HEAD + text)
    return folder / "suite.yaml"


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Outcome, Path]:
    folder = tmp_path_factory.mktemp("cited")
    text = f"  old: {{says: Mixtures date from 1991., {SOURCE}, test: {{kind: cited, holds: true}}}}\n"
    text += f"  wrong: {{says: They date from 2022., {SOURCE}, test: {{kind: cited, holds: false}}}}\n" + EXACT
    outcome = api.run(written(folder, text), results=folder / "results", reports=folder / "reports")
    return outcome, folder / "reports/history"


def test_a_citation_is_a_state_of_its_own(reported: tuple[api.Outcome, Path]) -> None:
    old, wrong, count = reported[0].verdicts
    assert [v.state for v in (old, wrong, count)] == ["cited", "cited", "supported"]
    assert (old.holds, wrong.holds, count.holds) == (True, False, None)
    assert old.source is not None
    assert old.scope == old.source.cited == "Jacobs et al. 1991, Neural Computation 3(1)"
    assert (wrong.reason, wrong.effect) == ("cited as false, and not tested here: “experts”", "false")
    assert (old.n, old.p, old.estimate, old.metric, old.finding) == (0, None, None, "", "")


def test_no_citation_is_counted_as_a_verdict(reported: tuple[api.Outcome, Path]) -> None:
    outcome, report = reported
    assert not strict_ok(outcome.verdicts)
    told = json.loads((report / "claims.json").read_text())
    assert told["counts"] == {
        "supported": 1, "refuted": 0, "inconclusive": 0, "interim": 0, "invalid": 0, "not_tested": 0, "cited": 2,
    }  # fmt: skip
    page = (report / "index.md").read_text()
    assert "Counted exactly, so nothing is left to chance: 1 supported." in page
    assert "**CITED** (not tested here) | Mixtures date from 1991. | **true** | Jacobs et al. 1991" in page
    assert "Cited: ❝ 2 cited" in page
    assert "CITED: what a source says" in page
    assert "Published findings" not in page
    assert "Every claim but 2 citations was tested." in page
    assert 'class="verdict cited' in (report / "index.html").read_text()


def test_a_citation_is_in_no_family_of_holm(tmp_path: Path) -> None:
    text = EXACT + f"  old: {{says: Old., {SOURCE}, family: primary, test: {{kind: cited, holds: true}}}}\n"
    assert "in no family" in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("{says: Old., test: {kind: cited, holds: true}}", "needs a 'source'"),
        (f"{{says: Old., {SOURCE}, test: {{kind: cited}}}}", "'holds' is missing"),
        (f"{{says: Old., {SOURCE}, metric: cost.saving, test: {{kind: cited, holds: true}}}}", "takes no 'metric'"),
        (f"{{says: Old., {SOURCE}, model: dbrx, test: {{kind: cited, holds: true}}}}", "takes no 'model'"),
        (f"{{says: Old., {SOURCE}, test: {{kind: cited, holds: true, in: every}}}}", "takes no 'in'"),
    ],
)
def test_what_is_no_citation_is_refused(tmp_path: Path, claim: str, words: str) -> None:
    assert words in refused(tmp_path, EXACT + f"  old: {claim}\n")


def test_nothing_rests_on_a_citation(tmp_path: Path) -> None:
    text = EXACT + f"  old: {{says: Old., {SOURCE}, test: {{kind: cited, holds: true}}}}\n"
    text += "  both: {test: {kind: all_of, claims: [count, old]}}\n"
    assert "old is cited, and not tested: nothing rests on it" in refused(tmp_path, text)


def test_another_source_is_another_claim(tmp_path: Path) -> None:
    text = f"  old: {{says: Old., {SOURCE}, test: {{kind: cited, holds: true}}}}\n" + EXACT
    first, other = (
        api.plan(written(tmp_path, one), results=tmp_path / "r") for one in (text, text.replace("3(1)", "4"))
    )
    assert first.claim_hashes["old"] != other.claim_hashes["old"]
    assert first.claim_hashes["count"] == other.claim_hashes["count"]


def test_a_smoke_run_still_cites(tmp_path: Path) -> None:
    text = EXACT + f"  old: {{says: Old., {SOURCE}, test: {{kind: cited, holds: true}}}}\n"
    outcome = api.run(written(tmp_path, text), results=tmp_path / "results", reports=tmp_path / "reports", smoke=True)
    assert [v.state for v in outcome.verdicts] == ["not_tested", "cited"]


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SuiteError) as error:
        api.validate(written(folder, text))
    return str(error.value)
