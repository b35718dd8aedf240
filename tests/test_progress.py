"""Progress: what events become, on a terminal of any width and elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from moebench.cli import progress
from moebench.cli.progress import _Bars, _Lines, _Suite, duration, facts_of, sentence, watching


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
    plan = SimpleNamespace(models=models)
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
