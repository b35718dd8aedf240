"""A terminal is told of models what they are, of routers what they read, of verdicts what the page says of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moebench import api
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.cli.console.lists import listing
from moebench.cli.console.outcome import failures_text, verdict_text
from moebench.cli.console.plan import ordinal, shape_of
from moebench.models.routers import REFUSED, ROUTERS, described, options_of
from moebench.suite.designs import designs
from tests.support.builders import BPB, claim, evidence_of, plan_of
from tests.support.small_models import architecture, dense, moe

GAINS = np.arange(1.0, 9.0) / 100


def verdicts() -> list[Verdict]:
    claims = {
        "first": claim({"kind": "superior", "margin": 0.0}, family="primary", says="First."),
        "second": claim({"kind": "superior", "margin": 0.0}, family="primary", says="Second."),
        "against": claim({"kind": "superior", "margin": 0.07}, says="Against."),
        "count": claim({"kind": "non_inferior", "margin": "0%"}, "cost.active_params", says="Count."),
        "timed": claim({"kind": "superior"}, "speed.train_step_s", says="Timed."),
    }
    return judge(evidence_of({"moe": {BPB: 2 - GAINS}, "dense": {BPB: [2.0] * 8}}, claims))


def line_of(says: str) -> str:
    (line,) = [line for line in verdict_text(verdicts(), path=Path("reports")).splitlines() if says in line]
    return line


def test_a_primary_claim_shows_the_p_that_holm_leaves() -> None:
    assert line_of("First.").endswith("8 seeds  0.0039 (Holm 0.0078)")


def test_a_refuted_claim_shows_the_p_of_its_refutation() -> None:
    against = next(v for v in verdicts() if v.id == "against")
    assert against.state == "refuted"
    assert line_of("Against.").endswith(f"{against.p_against:.2g} against")


def test_counts_are_exact_and_nothing_measured_has_no_n() -> None:
    assert line_of("Count.").endswith("exact")
    assert "0 seeds" not in line_of("Timed.")


# ------------------------------------------------------------------------------------------------ shapes


def shape(**options: Any) -> str:
    ffn = moe(experts=8, top_k=2, hidden=24).model_copy(update=options)
    return shape_of(architecture(ffn)).partition(" heads, ")[2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "8 experts of 24, top-2"),
        ({"shared_hidden": 37}, "8 experts of 24, top-2, shared expert of 37"),
        ({"shared_hidden": 37, "shared_gate": True}, "8 experts of 24, top-2, gated shared expert of 37"),
        (
            {"first_dense": 1, "dense_hidden": 96},
            "8 experts of 24, top-2, from layer 1 on (counted from 0), else FFN 96",
        ),
        ({"every": 2, "dense_hidden": 96}, "8 experts of 24, top-2, in every 2nd layer, else FFN 96"),
        (
            {"every": 3, "first_dense": 2, "dense_hidden": 96, "dense_activation": "geglu"},
            "8 experts of 24, top-2, in every 3rd layer from layer 2 on (counted from 0), else FFN 96 geglu",
        ),
        ({"router": "sigmoid_bias"}, "8 experts of 24, top-2, router sigmoid_bias"),
        ({"capacity_factor": 1.25}, "8 experts of 24, top-2, capacity 1.25"),
        ({"activation": "relu"}, "8 experts of 24, top-2, relu"),
    ],
)
def test_a_shape_says_what_is_not_as_usual(options: dict[str, Any], said: str) -> None:
    assert shape(**options) == said


def test_a_dense_shape_says_its_activation_when_it_is_not_the_usual_one() -> None:
    ffn = dense(hidden=96)
    assert shape_of(architecture(ffn)).endswith("heads, FFN 96")
    gelu = ffn.model_copy(update={"activation": "gelu"})
    assert shape_of(architecture(gelu)).endswith("heads, FFN 96, gelu")


def test_ordinals() -> None:
    assert " ".join(map(ordinal, (1, 2, 3, 4, 11, 12, 13, 21, 102))) == "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd"


# ------------------------------------------------------------------------------------------------ routers


@pytest.mark.parametrize("word", ROUTERS)
def test_a_router_is_one_line_with_its_rule_options_and_source(word: str) -> None:
    (line,) = [line for line in listing("routers").splitlines() if line.split()[0] == word]
    router = ROUTERS[word]
    says, source = described(word, router)
    assert says in line
    assert source == router.source
    assert source in line
    assert all(option in line for option in options_of(router))
    assert all(f"{option} (needed)" in line for option in router.needs)
    assert ("NOT CAUSAL" in line) == (not router.causal)


def test_a_design_that_cannot_be_a_router_is_listed_with_its_reason() -> None:
    (line,) = [line for line in listing("routers").splitlines() if line.split()[0] == "soft_moe"]
    assert f"refused: {REFUSED['soft_moe']}" in line


@pytest.mark.parametrize("word", ROUTERS)
def test_every_router_but_a_control_is_of_a_published_design(word: str) -> None:
    published = [one for one in designs().values() if f"router: {word}" in one.words.split(", ")]
    assert bool(published) == (word != "round_robin")


def test_routers_are_listed_without_torch() -> None:
    code = (
        "import sys; from moebench.cli.console.lists import listing; listing('routers'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------------------ what failed


def failed(model: str, reason: str, *lines: str, log: str | None = None) -> api.Failed:
    place = None if log is None else Path("results/logs") / log
    return api.Failed(
        run="r", job="train", model=model, seed=1, status="crash", reason=reason, last_lines=lines, log=place
    )


def test_what_failed_is_told_once_for_each_reason_with_its_last_lines_and_its_log() -> None:
    ones = (failed("moe", "bad", "  x = 1", "\x1b[2Jbad", log="1.log"), failed("dense", "bad"), failed("moe", "worse"))
    outcome = api.Outcome(plan=plan_of(["moe", "dense"], {}), statuses={}, started=3, failures=ones)
    assert failures_text(outcome).splitlines() == [
        "failed: moe seed 1 and 1 more: crash: bad",
        "  | x = 1",
        r"  | \x1b[2Jbad",
        "  log: results/logs/1.log",
        "failed: moe seed 1: crash: worse",
    ]
