"""Claims with a source: what a report says of a published finding, and that citing it changes no claim."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moebench import api, reporting
from moebench.claims.verdict import FINDINGS, Verdict
from moebench.suite.claim import Claim
from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.write import resolved_yaml
from tests.support import golden_results, tiny_suites

CLARK = {"authors": "Clark et al.", "year": 2022, "where": "arXiv:2202.01169", "at": "section 4"}


def sourced() -> dict[str, Any]:
    claims = golden_results.golden_claims()
    for name in ("better-per-token", "as-good-as-total", "flops-to-quality"):
        claims[name] = {**claims[name], "source": {**CLARK, "quote": "It is | so <b>."}}
    claims["as-good-as-total"]["source"]["authors"] = "<u>hear say"
    return claims


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("published")
    golden_results.write(root / "results", plan=golden_results.golden_plan(claims=sourced()))
    reporting.build(root / "results", suite="golden", out=root / "reports")
    return root / "reports" / "golden"


def test_the_report_says_of_each_whether_it_was_reproduced_at_this_scale(folder: Path) -> None:
    told = {claim["id"]: claim for claim in json.loads((folder / "claims.json").read_text())["claims"]}
    found = {name: claim["finding"] for name, claim in told.items() if "finding" in claim}
    assert found.keys() == {"better-per-token", "as-good-as-total", "flops-to-quality"}
    assert all(found[name] == FINDINGS.get(told[name]["state"], "no verdict") for name in found)
    assert found["better-per-token"] == "reproduced"
    assert told["better-per-token"]["source"]["where"] == "arXiv:2202.01169"
    page, text = (folder / "index.html").read_text(), (folder / "index.md").read_text()
    line = "reproduced at this scale: Clark et al. 2022, arXiv:2202.01169, section 4"
    assert line in page
    assert line in text
    assert "Published findings" in page
    assert "## Published findings" in text
    assert "Of 3 published findings, at this scale: " in text
    assert "<u>hear" not in page
    assert "&lt;u&gt;hear say" in page
    table = pd.read_csv(folder / "tables" / "published.csv")
    assert table["finding"].tolist() == list(found.values())


def test_a_suite_that_cites_nothing_has_no_such_section(tmp_path: Path) -> None:
    golden_results.write(tmp_path / "results")
    reporting.build(tmp_path / "results", suite="golden", out=tmp_path / "reports")
    text = (tmp_path / "reports" / "golden" / "index.md").read_text()
    assert "Published" not in text
    assert "at this scale: " not in text
    assert not (tmp_path / "reports" / "golden" / "tables" / "published.csv").exists()


def test_citing_changes_no_hash_and_so_no_seal() -> None:
    bare, cited = (golden_results.golden_suite(claims=claims) for claims in (golden_results.golden_claims(), sourced()))
    assert bare.claim_hashes == cited.claim_hashes
    assert bare.claims != cited.claims


@pytest.mark.parametrize("state", ["supported", "refuted", "inconclusive", "invalid", "interim", "not_tested"])
def test_what_is_no_verdict_is_no_finding(state: str) -> None:
    facts = {"id": "c", "says": "So.", "kind": "superior", "family": "primary", "metric": "test.bits_per_byte"}
    verdict = Verdict.model_validate({**facts, "unit": "%", "asked": "", "reason": "", "scope": "", "state": state})
    assert verdict.finding == ""
    cited = Verdict.model_validate({**verdict.model_dump(), "source": CLARK})
    assert cited.finding == FINDINGS.get(state, "no verdict")  # type: ignore[call-overload]


def test_a_source_survives_the_resolved_suite(tmp_path: Path) -> None:
    claims = {"better": tiny_suites.claim(source={**CLARK, "quote": "Routing improves: always."})}
    spec = load_suite(tiny_suites.write(tmp_path, claims=claims)).spec
    again = tmp_path / "again.yaml"
    again.write_text(resolved_yaml(spec))
    assert load_suite(again).spec.claims["better"] == spec.claims["better"]
    assert spec.claims["better"].source is not None
    assert spec.claims["better"].source.cited == "Clark et al. 2022, arXiv:2202.01169, section 4"


def test_the_suite_of_known_findings_cites_each_and_finds_many() -> None:
    loaded, _ = api.validate("known_findings")
    claims = loaded.spec.claims.values()
    assert len(claims) >= 10
    assert all(claim.source is not None for claim in claims)
    cited = {claim.source.where for claim in claims if claim.source is not None}
    assert len(cited) >= 10
    assert all(re.fullmatch(r"arXiv:[0-9]{4}\.[0-9]{5}", where) for where in cited)
    assert sum(claim.family == "primary" for claim in claims) <= 3


@pytest.mark.slow
def test_its_models_are_mostly_those_of_systems_so_that_runs_are_shared(tmp_path: Path) -> None:
    plans = [api.plan(suite, results=tmp_path) for suite in ("known_findings", "systems")]
    findings, *others = (plan.runs for plan in plans)
    elsewhere = {run.id for runs in others for run in runs}
    shared = {run.model for run in findings if run.id in elsewhere}
    alike = {
        "dense",
        "mixtral_2023",
        "fine_grained",
        "mixtral_capacity",
        "token_hash",
        "experts.experts-8",
    }
    assert alike <= shared


@pytest.mark.parametrize(
    "wrong", [{"year": 20222}, {"authors": ""}, {"where": "x" * 101}, {"quote": "x" * 401}, {"doi": "10.1"}]
)
def test_what_is_no_source_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SuiteError):
        api.validate(tiny_suites.write(tmp_path, claims={"better": tiny_suites.claim(source={**CLARK, **wrong})}))


def test_a_claim_that_cites_nothing_is_written_as_it_was() -> None:
    claim = Claim.model_validate(golden_results.golden_claims()["better-per-token"])
    assert "source" not in claim.model_dump()
