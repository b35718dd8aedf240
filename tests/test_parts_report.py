"""Results written to a folder, with effects that are there and effects that are not: claims of several parts, told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moebench.claims.verdict import Verdict
from moebench.cli.console.outcome import verdict_text
from moebench.reporting import Report, build
from tests.support import golden_results

TWIN = {"treatment": "moe_8x2", "baseline": "dense"}
BIG = {"treatment": "moe_8x2", "baseline": "dense_total"}
BPB, OF_DOMAIN = "test.bits_per_byte", "test.bits_per_byte[domain=*]"
SWEEPS = {"dense_x": {"dense": {"ffn.hidden": 177.0}, "dense_total": {"ffn.hidden": 709.0}}}
"""The mixture is 1% below the narrow one and 1.1% above the wide one, by half a percent of scatter."""


def asked(test: dict[str, Any], metric: str = BPB, **other: Any) -> dict[str, Any]:
    return {"says": "It is so.", "metric": metric, "test": test, **other}


def superior(share: str | None = None, margin: object = "0%") -> dict[str, Any]:
    return {"kind": "superior", "margin": margin, **({} if share is None else {"in": share})}


def together(kind: str, *claims: str, **other: Any) -> dict[str, Any]:
    return {"says": "Together.", "test": {"kind": kind, "claims": list(claims)}, **other}


COST = "cost.train_flops_per_token"
EQUAL = {"kind": "ratio_within", "low": 0.95, "high": 1.05}
CLAIMS: dict[str, tuple[dict[str, Any], str, str]] = {
    "lower": (asked(superior(), compare=TWIN), "supported", "clears the threshold"),
    "lower-than-big": (asked(superior(), compare=BIG), "refuted", "other side of the threshold"),
    "by-1%": (asked(superior(margin="1%"), compare=TWIN), "inconclusive", "crosses the threshold"),
    "same-flops": (asked(EQUAL, COST, compare=TWIN), "supported", "exact counts"),
    "every-domain": (asked(superior("every"), OF_DOMAIN, compare=TWIN), "supported", "holds in all 3 domains"),
    "every-domain-null": (asked(superior("every", "1%"), OF_DOMAIN, compare=TWIN), "inconclusive", "undecided:"),
    "some-domain": (asked(superior("some"), OF_DOMAIN, compare=BIG), "refuted", "it fails in 3 of 3 domains"),
    "most-domains": (asked(superior("60%"), OF_DOMAIN, compare=TWIN), "supported", "holds in all 3 domains"),
    "both-points": (asked(superior("every"), compare={**TWIN, "baseline": "dense_x"}), "refuted", "at 1 of 2 points"),
    "one-point": (asked(superior("some"), compare={**TWIN, "baseline": "dense_x"}), "supported", "at 1 of 2 points"),
    "all": (together("all_of", "lower", "same-flops", family="primary"), "supported", "both claims hold"),
    "not-all": (together("all_of", "lower", "lower-than-big"), "refuted", "1 of 2 claims fail"),
    "open": (together("all_of", "lower", "by-1%"), "inconclusive", "undecided: by-1%"),
    "any": (together("any_of", "lower", "lower-than-big"), "supported", "1 of 2 claims hold"),
    "of-every": (together("all_of", "every-domain", "same-flops"), "supported", "both claims hold"),
    "at-most": (asked({"kind": "at_most", "value": 2.5}, model="moe_8x2"), "supported", "clears the threshold"),
    "at-least": (asked({"kind": "at_least", "value": 2.5}, model="moe_8x2"), "refuted", "other side"),
    "crosses": (
        asked({"kind": "crosses", "sign": "falling"}, compare={**TWIN, "baseline": "dense_x"}, along="ffn.hidden"),
        "supported", "holds at both ends",
    ),
    "crosses-not": (
        asked({"kind": "crosses"}, compare={**TWIN, "baseline": "dense_x"}, along="ffn.hidden"),
        "refuted", "it fails at 2 of 2 ends",
    ),
    "near-best": (
        asked({"kind": "near_best", "at": 709, "margin": "0.5%"}, over="dense_x", along="ffn.hidden"),
        "supported", "it holds",
    ),
    "not-near-best": (
        asked({"kind": "near_best", "at": 177, "margin": "0.5%"}, over="dense_x", along="ffn.hidden"),
        "refuted", "it fails",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    root = tmp_path_factory.mktemp("parts")
    blocks = {name.replace("%", ""): block for name, (block, _, _) in CLAIMS.items()}
    for block in blocks.values():
        if "claims" in block["test"]:
            block["test"]["claims"] = [name.replace("%", "") for name in block["test"]["claims"]]
    plan = golden_results.golden_plan(claims=blocks)
    spec = plan.spec.model_copy(update={"sweeps": SWEEPS})
    golden_results.write(root / "results", plan=plan.model_copy(update={"spec": spec}))
    (made,) = build(root / "results", out=root / "reports", formats={"md", "html", "json"})
    return made


def of(report: Report, name: str) -> Verdict:
    return next(verdict for verdict in report.verdicts if verdict.id == name.replace("%", ""))


@pytest.mark.parametrize("name", CLAIMS)
def test_what_was_planted_comes_out(report: Report, name: str) -> None:
    _, state, reason = CLAIMS[name]
    verdict = of(report, name)
    assert verdict.state == state, verdict.reason
    assert reason.replace("%", "") in verdict.reason.replace("%", "")


def test_a_primary_claim_of_parts_is_alone_in_its_family(report: Report) -> None:
    verdict = of(report, "all")
    assert verdict.label == "primary"
    assert verdict.p_adjusted == verdict.p == 2**-8
    assert verdict.shown == "lower", "of a count and a measurement it turns on the measurement"


def test_parts_stand_under_their_claim_in_every_view(report: Report) -> None:
    page = (report.path / "index.md").read_text()
    row = page[page.index("in all 3 domains · 8 seeds") :].split("\n")[1:4]
    assert [line.split("|")[2].strip() for line in row] == ["↳ domain=code", "↳ domain=docstrings", "↳ domain=prose"]
    assert all("▲ supported" in line and "8 seeds" in line for line in row)
    html = (report.path / "index.html").read_text()
    assert '<table class="parts">' in html
    assert '<th scope="row">domain=docstrings</th>' in html
    (held,) = [one for one in json.loads((report.path / "claims.json").read_text())["claims"] if one["id"] == "not-all"]
    assert [(part["id"], part["state"]) for part in held["parts"]] == [
        ("lower", "supported"), ("lower-than-big", "refuted"),
    ]  # fmt: skip
    assert held["shown"] == "lower-than-big"
    printed = verdict_text([of(report, "every-domain")], path=Path())
    assert "↳ domain=prose: supported" in " ".join(printed.split())
