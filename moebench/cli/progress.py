"""Progress on the terminal: a line per run under way with loss, tokens/s and time left, and one for the whole suite.

Everything goes to standard error. Where that is no terminal, plain lines are printed instead: one when a run begins and
ends, and one a minute between.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from moebench.format import plural
from moebench.text import visible

Event = dict[str, Any]
PLAIN_SECONDS = 60.0


@contextmanager
def watching(*, quiet: bool = False) -> Iterator[Callable[[Event], None]]:
    """Yields where events go: live bars on a terminal, plain lines elsewhere, nothing when quiet."""
    console = Console(stderr=True, soft_wrap=True)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[facts]}"),
            console=console,
        ) as bars:
            yield _Bars(bars)
    else:
        yield _Lines(console)


ONGOING = {"progress": ("step", "steps"), "answering": ("done", "of")}
"""Events of a job on its way, and where they say how far it is."""


class _Suite:
    """How much of the suite's work is done, in FLOPs, and how long the rest will take at the pace so far."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.cost: dict[str, float] = {}
        self.later = 0.0
        """What later looks cost, where they are taken."""
        self.share: dict[str, float] = {}
        self.runs = self.finished = self.failed = 0
        self.run_of: dict[str, str] = {}
        self.left_of: Counter[str] = Counter()

    def on_event(self, event: Event) -> None:
        kind = event["event"]
        if kind == "planned":
            models = {**event["plan"].decoders, **getattr(event["plan"].controls, "models", {})}
            trained = [job for job in event["missing"] if job.kind == "train"]
            self.cost = {job.id: models[job.model].expected_train_flops for job in trained}
            later = [job for job in event.get("later", ()) if job.kind == "train"]
            self.later = sum(models[job.model].expected_train_flops for job in later)
            self.share = {}
            self.runs, self.began = event["runs"], time.monotonic()
            self.finished = event["runs"] - event["started"]
            of_runs = [job for job in event["missing"] if job.kind != "speed"]
            self.run_of = {job.id: job.inputs[0] if job.inputs else job.id for job in of_runs}
            self.left_of = Counter(self.run_of.values())
        elif kind == "progress":
            self.share[event["run"]] = event["step"] / event["steps"]
        elif event.get("job") == "speed":
            return
        elif kind in ("finished", "failed", "blocked", "skipped") and not event.get("retry"):
            run = self.run_of.get(event["run"], str(event["run"]))
            self.share[event["run"]] = 1.0
            self.left_of[run] -= 1
            self.finished += self.left_of[run] <= 0
            self.failed += kind == "failed"

    @property
    def done(self) -> float:
        total = sum(self.cost.values())
        return sum(self.cost.get(run, 0.0) * share for run, share in self.share.items()) / total if total else 1.0

    @property
    def left(self) -> str:
        done = self.done
        if done < 0.005:
            return ""
        whole = (time.monotonic() - self.began) / done
        left, total = whole * (1 - done), sum(self.cost.values())
        if not self.later or not total:
            return f"{duration(left)} left"
        return f"{duration(left)} left of this look, at most {duration(left + whole * self.later / total)}"

    def line(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.finished}/{self.runs} runs{failed}  {self.left}"


class _Bars:
    """Events as live bars."""

    def __init__(self, bars: Progress) -> None:
        self.bars, self.suite = bars, _Suite()
        self.whole: TaskID | None = None
        self.of_run: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        self.suite.on_event(event)
        kind = event["event"]
        text = shown(event)
        if kind == "planned" and event["missing"]:
            self.whole = self.bars.add_task("[bold]suite", total=1.0, facts="")
        elif kind in ONGOING:
            self._progress(event)
        elif kind in ("finished", "failed", "stopped") and event["run"] in self.of_run:
            self.bars.remove_task(self.of_run.pop(event["run"]))
        if text is not None and kind not in ("started", "finished"):
            self.bars.console.print(text, markup=False, highlight=False)
        if self.whole is not None:
            self.bars.update(self.whole, completed=self.suite.done, facts=self.suite.line())

    def _progress(self, event: Event) -> None:
        run = event["run"]
        if run not in self.of_run:
            self.of_run[run] = self.bars.add_task(escape(f"{event['model']} seed {event['seed']}"), total=1.0, facts="")
        done, of = ONGOING[event["event"]]
        share = event[done] / event[of]
        self.bars.update(self.of_run[run], completed=share, facts=facts_of(event))


class _Lines:
    """Events as plain lines."""

    def __init__(self, console: Console) -> None:
        self.console, self.suite = console, _Suite()
        self.printed_at: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        self.suite.on_event(event)
        text = shown(event)
        if event["event"] in ONGOING:
            now = time.monotonic()
            if now - self.printed_at.get(event["run"], -PLAIN_SECONDS) < PLAIN_SECONDS:
                return
            self.printed_at[event["run"]] = now
            text = f"{event['model']} seed {event['seed']}: {facts_of(event)}"
        if text is not None and event["event"] in ("finished", "failed"):
            text = f"{text}  [{self.suite.line().strip()}]"
        if text is not None:
            self.console.print(text, markup=False, highlight=False)


def facts_of(event: Event) -> str:
    """Step, loss, pace and time left of one run, or requests of a task."""
    if event["event"] == "answering":
        parts = [str(event["task"]), f"{event['done']:,}/{event['of']:,} requests"]
        return ", ".join([*parts, *([f"{duration(event['left_s'])} left"] if event.get("left_s") else [])])
    parts = [f"step {event['step']}/{event['steps']}"]
    if event["phase"] != "train":
        parts.append({"evaluate": "evaluating", "measure": "measuring"}[event["phase"]])
    if event.get("loss") is not None:
        parts.append(f"{event['loss']:.3f} bits/token")
    pace = event.get("tokens_per_s")
    if pace:
        parts.append(f"{pace:,.0f} tokens/s")
        if "batch_tokens" in event:
            left = (event["steps"] - event["step"]) * event["batch_tokens"] / pace
            parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def shown(event: Event) -> str | None:
    """What an event says, as it can be shown: words of a run or a suite may be anybody's."""
    text = sentence(event)
    return None if text is None else visible(text)


def sentence(event: Event) -> str | None:
    """What an event says in words; None when it says nothing on its own."""
    kind = event["event"]
    who = f"{event['model']} seed {event['seed']}" if "model" in event else ""
    who += f" ({event.get('task', event['measurement'])})" if "measurement" in event else ""
    if kind == "preparing":
        return f"preparing data: {event['source']}"
    if kind == "look":
        return f"look {event['look']} of {event['of']}: {event['seeds']} seeds"
    if kind == "planned":
        todo, runs = event["started"], event["runs"]
        return f"{plural(runs, 'run')}, " + (f"{runs - todo} done, {todo} to do" if todo else "all done")
    if kind == "finished":
        if event.get("job", "train") != "train":
            return None
        return f"{who}: {event['status']}"
    if kind == "failed":
        again = "; trying again" if event.get("retry") else ""
        return f"{who}: {event['status']}: {event['reason']}{again}"
    if kind == "blocked":
        return f"{who}: blocked: {event['reason']}"
    if kind == "stopped":
        return f"{who}: checkpoint written"
    if kind == "speed":
        return f"speed session: process {event['process'] + 1} of {event['processes']}"
    simple = {
        "calibrating": "calibrating: measuring step times for budgets in seconds",
        "waiting": f"{who}: another moebench is at it; waiting",
        "reporting": "writing the report",
        "warning": event.get("text"),
    }
    return simple.get(kind)


def duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
