"""What a terminal is told and shown, at any width; nothing of a plan or record acts on it unseen."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from moebench import api, store
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.cli import progress
from moebench.cli.commands import main
from moebench.cli.console.lists import listing
from moebench.cli.console.outcome import failures_text, verdict_text
from moebench.cli.console.plan import ordinal, shape_of
from moebench.cli.progress import _Bars, _Lines, _Suite, duration, facts_of, sentence, shown, watching
from moebench.models.routers import REFUSED, ROUTERS, described, options_of
from moebench.reporting import build
from moebench.suite.designs import designs
from moebench.text import plain, visible
from tests.support import golden_results
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


# ----------------------------------------------------------------------------------------------------
# Progress: what events become, on a terminal of any width and elsewhere.


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1.0  # a machine that has just been started
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def planned(*, tasks: int = 4, missing: int = 3) -> dict[str, Any]:
    models = {"moe": SimpleNamespace(expected_train_flops=3.0), "dense": SimpleNamespace(expected_train_flops=1.0)}
    todo = [SimpleNamespace(id=f"r{i}", model=("moe", "dense")[i % 2], kind="train", inputs=()) for i in range(missing)]
    plan = SimpleNamespace(decoders=models, controls=None)
    return {"event": "planned", "plan": plan, "runs": tasks, "started": missing, "missing": todo}


def step(number: int, *, run: str = "r0", **facts: Any) -> dict[str, Any]:
    usual = {
        "event": "progress", "run": run, "model": "moe", "seed": 7, "step": number, "steps": 100, "batch_tokens": 50,
        "loss": 2.34567, "tokens_per_s": 1000.0, "phase": "train",
    }  # fmt: skip
    return {**usual, **facts}


def ended(run: str = "r0", *, event: str = "finished", status: str = "completed", **facts: Any) -> dict[str, Any]:
    return {"event": event, "run": run, "model": "moe", "seed": 7, "status": status, **facts}


STORY = [
    {"event": "preparing", "source": "stdlib"},
    {"event": "calibrating"},
    planned(),
    step(0, loss=None, tokens_per_s=None),
    step(50),
    step(50, run="r1", phase="evaluate"),
    ended(),
    ended("r1", event="failed", status="killed", reason="killed by [SIGKILL] [/x]", retry=True),
    {"event": "waiting", "run": "r1", "model": "dense", "seed": 1},
    ended("r1", event="failed", status="crash", reason="bad [/red] metric[domain=code]", retry=False),
    {"event": "stopped", "run": "r2", "model": "moe", "seed": 2},
    {"event": "speed", "process": 1, "processes": 6},
    {"event": "warning", "text": "no speed session: [none]"},
    {"event": "reporting"},
    {"event": "something new"},
]


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    out = io.StringIO()
    ear = _Lines(Console(file=out, soft_wrap=True))
    for event in events:
        ear(event)
    return out.getvalue().splitlines()


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (8.4, "8 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_facts_of_a_run_end_with_the_time_left_at_its_pace() -> None:
    assert facts_of(step(40)) == "step 40/100, 2.346 bits/token, 1,000 tokens/s, 3 s left"
    assert facts_of(step(40, phase="evaluate")).startswith("step 40/100, evaluating, ")
    assert facts_of(step(0, loss=None, tokens_per_s=None)) == "step 0/100"


def test_sentences() -> None:
    assert sentence(planned(tasks=4, missing=3)) == "4 runs, 1 done, 3 to do"
    assert sentence(planned(tasks=4, missing=0)) == "4 runs, all done"
    assert sentence(ended(status="diverged")) == "moe seed 7: diverged"
    failed = ended(event="failed", status="killed", reason="killed by SIGKILL", retry=True)
    assert sentence(failed) == "moe seed 7: killed: killed by SIGKILL; trying again"
    assert sentence({"event": "speed", "process": 1, "processes": 6}) == "speed session: process 2 of 6"
    assert sentence({"event": "something new"}) is None


# ------------------------------------------------------------------------------------------ the whole suite


def test_the_suites_share_is_by_flops_and_its_time_left_by_the_pace_so_far(clock: Clock) -> None:
    suite = _Suite()
    suite.on_event(planned(tasks=4, missing=3))  # costs 3, 1 and 3
    assert suite.left == ""  # nothing is known yet
    clock.now += 30
    suite.on_event(ended("r0"))
    assert suite.done == pytest.approx(3 / 7)
    assert suite.line() == "2/4 runs  40 s left"
    suite.on_event(step(50, run="r1"))
    assert suite.done == pytest.approx(3.5 / 7)
    suite.on_event(ended("r1", event="failed", reason="", retry=True))
    assert suite.line().startswith("2/4 runs  ")  # it is tried again
    suite.on_event(ended("r1", event="failed", reason="", retry=False))
    assert suite.line().startswith("3/4 runs, 1 failed")
    suite.on_event(ended("r2"))
    assert (suite.done, suite.left) == (1.0, "0 s left")


# ------------------------------------------------------------------------------------------ plain lines


def test_events_become_plain_lines(clock: Clock) -> None:
    assert lines_of(STORY) == [
        "preparing data: stdlib",
        "calibrating: measuring step times for budgets in seconds",
        "4 runs, 1 done, 3 to do",
        "moe seed 7: step 0/100",
        "moe seed 7: step 50/100, evaluating, 2.346 bits/token, 1,000 tokens/s, 2 s left",
        "moe seed 7: completed  [2/4 runs  0 s left]",
        "moe seed 7: killed: killed by [SIGKILL] [/x]; trying again  [2/4 runs  0 s left]",
        "dense seed 1: another moebench is at it; waiting",
        "moe seed 7: crash: bad [/red] metric[domain=code]  [3/4 runs, 1 failed  0 s left]",
        "moe seed 2: checkpoint written",
        "speed session: process 2 of 6",
        "no speed session: [none]",
        "writing the report",
    ]


def test_a_run_speaks_once_a_minute(clock: Clock) -> None:
    out = io.StringIO()
    ear = _Lines(Console(file=out, soft_wrap=True))
    for second in range(180):
        clock.now += 1
        ear(step(second % 100))
    assert len(out.getvalue().splitlines()) == 3


# ------------------------------------------------------------------------------------------ bars


@pytest.fixture(params=[200, 80, 20, 1])
def terminal(request: pytest.FixtureRequest) -> Iterator[tuple[Progress, io.StringIO]]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=request.param, height=10, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=console, auto_refresh=False) as bars:
        yield bars, out


def test_bars_live_through_a_whole_story_at_any_width(terminal: tuple[Progress, io.StringIO], clock: Clock) -> None:
    bars, out = terminal
    ear = _Bars(bars)
    for event in STORY:
        ear(event)
        bars.refresh()
    assert "bad [/red] metric[domain=code]" in out.getvalue()
    assert [task.description for task in bars.tasks] == ["[bold]suite"]  # ended runs have no bar


def test_bars_show_each_run_at_its_share(clock: Clock) -> None:
    with Progress(console=Console(file=io.StringIO(), force_terminal=True), auto_refresh=False) as bars:
        ear = _Bars(bars)
        for event in (planned(), step(25), step(50, run="r1")):
            ear(event)
        assert [task.completed for task in bars.tasks][1:] == [0.25, 0.5]


def test_quiet_says_nothing_and_no_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with watching(quiet=True) as ear:
        ear({"event": "reporting"})
    assert capsys.readouterr() == ("", "")
    with watching() as ear:
        ear({"event": "reporting"})
    assert capsys.readouterr() == ("", "writing the report\n")


def test_on_a_terminal_there_are_bars(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with watching() as ear:
        assert isinstance(ear, _Bars)
        for event in STORY:
            ear(event)
    assert "writing the report" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------
# Nothing that a plan or a record says acts on a screen or a page unseen: it is escaped wherever it is shown.


HOSTILE = "\x1b[2Jgone\x07\x85\u202esdrawkcab\u2066\u200f\u061c\u2028"
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a suite that says hostile things, one run of which failed for a hostile reason."""
    root = tmp_path_factory.mktemp("unseen")
    claims = golden_results.golden_claims()
    for one in claims.values():
        one["says"] += HOSTILE
    made = golden_results.golden_plan(seeds=6, claims=claims)
    spec = made.spec.model_copy(update={"question": made.spec.question + HOSTILE})
    plan = made.model_copy(update={"spec": spec, "warnings": (HOSTILE,)})
    golden_results.write(root, plan=plan)
    folder = store.Results(root).job(plan.runs[0].id)
    (folder.path / "DONE").unlink()
    store.write_json(folder.path / "FAILED.json", {"status": HOSTILE, "reason": HOSTILE})
    return root


def written(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.*")):
        if path.suffix in (".html", ".md", ".csv", ".json", ".svg"):
            yield path.name, path.read_bytes().decode()


def test_no_file_of_a_report_holds_what_is_not_seen(root: Path, tmp_path: Path) -> None:
    build(root, out=tmp_path, formats=("html", "md", "csv", "json", "svg"))
    texts = dict(written(tmp_path))
    assert len(texts) > 10
    for name, text in texts.items():
        assert UNSEEN.search(text) is None, name
    for name in ("index.html", "index.md", "claims.json"):
        assert "\\u202esdrawkcab" in texts[name], name
    said = json.loads(texts["claims.json"])["claims"][0]["says"]
    assert said.endswith(HOSTILE), "for a program the escapes of JSON are the words themselves"


@pytest.mark.parametrize("command", ["report", "compare"])
def test_no_command_prints_what_is_not_seen(root: Path, tmp_path: Path, command: str) -> None:
    arguments = {
        "report": ["report", "--results", str(root), "--out", str(tmp_path), "--format", "json"],
        "compare": ["compare", str(root), str(root)],
    }
    done = CliRunner().invoke(main, arguments[command])
    assert done.exit_code == 0, done.output
    for text in (done.stdout, done.stderr):
        assert UNSEEN.search(text) is None


def test_progress_is_seen() -> None:
    event = {"event": "failed", "model": HOSTILE, "seed": 0, "status": "crash", "reason": HOSTILE}
    assert UNSEEN.search(shown(event) or "") is None


@given(st.text())
def test_what_is_visible_stays_and_nothing_else_does(text: str) -> None:
    shown = visible(text)
    assert UNSEEN.search(shown) is None
    assert visible(shown) == shown
    if UNSEEN.search(text) is None:
        assert shown == text
    assert UNSEEN.search(plain(text)) is None
