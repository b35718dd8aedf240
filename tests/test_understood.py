"""Each kind of claim is told before the run as it will be judged after it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from moebench import api
from moebench.claims.kinds import KINDS
from moebench.cli.console.plan import plan_json, plan_text
from moebench.planning.understood import understood
from moebench.suite.load import load_suite
from tests.support.suite_texts import KINDS as KINDS_SUITE
from tests.test_feasibility import GOOD

PAIR = "compare: {treatment: moe, baseline: dense}"
SWEEP = "  sweep:\n    base: moe\n    sweep: {ffn.experts: [2, 4, 8]}\nmeasure:\n"

WORDS: dict[str, tuple[str, str]] = {
    "superior": (
        f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: superior, margin: 0.5}}}}",
        "test.bits_per_byte: supported if moe is more than 0.5 bits/byte lower than dense; "
        "refuted if it is less than 0.5 bits/byte lower, or higher; over 8 seeds; exploratory, uncorrected",
    ),
    "superior by anything": (
        f"{{{PAIR}, metric: routing.entropy, test: {{kind: superior}}}}",
        "supported if moe is higher than small; refuted if it is equal or lower",
    ),
    "non_inferior": (
        f"{{{PAIR}, metric: 'speed.decode_step_s[batch=8]', test: {{kind: non_inferior, margin: 10%}}, "
        "family: primary}",
        "supported if moe is at most 10% higher than dense; refuted if it is more than 10% higher; "
        "over 10 processes; primary, of 2",
    ),
    "equivalent": (
        f"{{{PAIR}, metric: test.bits_per_byte, test: {{kind: equivalent, margin: 1%}}}}",
        "supported if moe and dense differ by less than 1%; refuted if they differ by more",
    ),
    "ratio_at_least": (
        f"{{{PAIR}, metric: flops_to_quality, test: {{kind: ratio_at_least, value: 1.2}}, target: {{reach: dense}}}}",
        "flops_to_quality (to the final quality of dense): supported if dense over moe is at least 1.2; "
        "refuted if it is less",
    ),
    "ratio_within": (
        f"{{{PAIR}, metric: cost.weight_bytes, test: {{kind: ratio_within, low: 0.9, high: 1.1}}}}",
        "supported if moe over dense lies between 0.9 and 1.1; refuted if it lies outside; "
        "counted, so without an interval",
    ),
    "recovers": (
        "{compare: {treatment: moe, baseline: dense, ceiling: small}, metric: test.bits_per_byte, "
        "test: {kind: recovers, value: 0.5}}",
        "supported if moe has at least 50% of the gain of small over dense; refuted if it has less",
    ),
    "trend": (
        "{over: sweep, along: ffn.experts, metric: test.bits_per_byte, test: {kind: trend, sign: falling}}",
        "supported if it falls with ffn.experts, over the models of sweep; refuted if it does not; over 8 seeds",
    ),
    "interaction": (
        f"{{{PAIR}, metric: test.bits_per_byte, minus: 'test.bits_per_byte[domain=source-0]', "
        "test: {kind: interaction, margin: 0.01}}",
        "supported if moe's gain over dense exceeds by more than 0.01 bits/byte that on test.bits_per_byte"
        "[domain=source-0]",
    ),
    "exact": (
        "{model: moe, metric: cost.total_params, test: {kind: exact, value: 123456, tolerance: 1%}}",
        "supported if moe has 123,456 within 1%; refuted if it has not",
    ),
}


def suite(tmp_path: Path, claim: str) -> Path:
    text = GOOD.replace("measure:\n", SWEEP, 1) + f"  asked: {claim}\n"
    if "routing" in claim:  # a dense model has none
        text = text.replace("  small:\n    base: dense\n    match: {on: total_params}\n", "  small:\n    base: moe\n")
        text = text.replace(f"asked: {claim}", f"asked: {claim.replace('baseline: dense', 'baseline: small')}")
    (tmp_path / "suite.yaml").write_text(text)
    return tmp_path / "suite.yaml"


@pytest.mark.parametrize("kind", WORDS)
def test_a_claim_is_told_as_it_will_be_judged(tmp_path: Path, kind: str) -> None:
    claim, words = WORDS[kind]
    assert words in understood(load_suite(suite(tmp_path, claim)).spec, "asked")


def test_no_kind_is_forgotten() -> None:
    assert set(KINDS) == {kind for kind in WORDS if kind in KINDS}
    for word, kind in KINDS.items():
        assert kind.model_fields["kind"].annotation == Literal[word]


def test_the_example_of_each_kind_is_a_claim_of_a_suite(tmp_path: Path) -> None:
    head = KINDS_SUITE.partition("claims:")[0]
    (tmp_path / "suite.yaml").write_text(
        head + "claims:\n" + "".join(f"  {k}: {v.example}\n" for k, v in KINDS.items())
    )
    claims = load_suite(tmp_path / "suite.yaml").spec.claims
    assert {name: claim.test.kind for name, claim in claims.items()} == {name: name for name in KINDS}


def test_plan_prints_every_claim_and_the_note_on_its_margin(tmp_path: Path) -> None:
    planned = api.prepare_plan(suite(tmp_path, WORDS["superior"][0]), results=tmp_path / "results")
    printed = " ".join(plan_text(planned).split())
    assert f"asked: {WORDS['superior'][1]}" in printed
    assert "note: claims.asked: a margin of 0.5 bits/byte is larger than a plausible effect" in printed
    assert plan_json(planned)["claims"]["asked"] == WORDS["superior"][1]
