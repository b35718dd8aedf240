"""Two files or folders of results, metric by metric, without a suite: is B better than A?

What is measured with several seeds is paired by seed, what is one run each by its items. Each metric is asked three
questions, whether B is better, or worse, by more than a margin, or equal within it; each question is a family of its
own, corrected over all metrics (Holm). The judge is that of suites: too little is undecided, and says what would do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from moebench.amounts import Amount
from moebench.claims.decide import ALPHA
from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.environment import environment
from moebench.external import Read, ResultsError, read
from moebench.external.numbers import Column, Run, items_of
from moebench.format import interval, p_value
from moebench.identity import digest_of
from moebench.metrics import METRICS
from moebench.metrics.metric import Better, Metric
from moebench.metrics.ref import MetricRef
from moebench.metrics.tasks import GROUP, task_metric
from moebench.planning.planned import DataFacts, PlannedExternal
from moebench.planning.types import Plan, PlannedJob, StoredPlan
from moebench.reader.evidence import Evidence, Item, Outcome
from moebench.suite.types import SuiteSpec
from moebench.text import listed, nearest, visible

A, B = "A", "B"
NO_DATA = DataFacts(
    source="none", digest="none", documents={}, tokens={}, domains=(), leak_share=0.0, leak_threshold=1.0
)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two."""

    read: Read
    model: str
    """Its name there."""

    @property
    def runs(self) -> Mapping[int | None, Run]:
        return self.read.models[self.model]

    @property
    def columns(self) -> Mapping[str, Column]:
        """Metric -> its numbers in some run."""
        return {name: column for run in self.runs.values() for name, column in run.columns.items()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric of both."""

    metric: str
    unit: str
    better: Better | None
    """Which direction is good; None where nobody says."""
    a: float | None = None
    """Its value, or mean over runs; None where it has none."""
    b: float | None = None
    difference: float | None = None
    """From A to B, in % where the margin is a share, else in `unit`."""
    low: float | None = None
    """Ends of its 95% interval, unadjusted."""
    high: float | None = None
    shown_in: str = ""
    """Unit of the difference."""
    n: int = 0
    units: str = ""
    """What n counts: seeds or items."""
    won: int | None = None
    """Items on which B is better; None without items."""
    lost: int | None = None
    tied: int | None = None
    verdict: str = "undecided"
    """better, worse or equal: B against A; undecided, or not comparable."""
    p: float | None = None
    """Of that, or where it is undecided of what is nearer, better or worse, after Holm over the metrics."""
    reason: str = ""
    needs: str | None = None
    notes: tuple[str, ...] = ()
    failed: bool = field(default=False)
    """Set by a threshold: worse by more, interval and all, or not to be judged."""


# ---------------------------------------------------------------------------------------------- the two


def side(word: str) -> Side:
    """A file or folder, and the model in it: `PATH`, or `PATH:MODEL` where it holds several. Raises ResultsError."""
    path, model = Path(word).expanduser(), None
    if not path.exists() and ":" in word:
        head, _, model = word.rpartition(":")
        path = Path(head).expanduser()
    found = read(path)
    if model is None and len(found.models) > 1:
        some = min(found.models)
        many = f"holds {len(found.models)} models ({listed(sorted(found.models), last='and')})"
        raise ResultsError(path, f"{many}: name one, such as {path}:{some}")
    if model is not None and model not in found.models:
        hint = nearest(model, found.models) or f"it has {listed(sorted(found.models), last='and')}"
        raise ResultsError(path, f"has no model {model}: {hint}")
    return Side(read=found, model=model or next(iter(found.models)))


def compare_sides(
    a: Side,
    b: Side,
    *,
    metrics: Sequence[str] = (),
    margin: Amount | None = None,
    better: Better | None = None,
    fail_above: float | None = None,
) -> list[Row]:
    """A row for each metric that either has, or for those that are named.

    `better` is the direction of metrics that nobody knows; `fail_above` is in %. Raises ResultsError.
    """
    margin = margin or Amount(value=0.0, relative=False)
    known = _known(a, b, better)
    named = _chosen(a, b, metrics)
    both = [name for name in named if _why_not(name, a, b) is None]
    rows = {name: _plain(name, known[name], a, b) for name in named}
    if both:
        asked = {question: _ask(question, both, known, a, b, margin) for question in _QUESTIONS}
        for name in both:
            rows[name] = _row(rows[name], {question: asked[question].get(name) for question in asked}, a, b)
        if fail_above is not None:
            share = Amount(value=fail_above / 100, relative=True)
            worse = _ask("worse", both, known, a, b, share)
            rows |= {name: replace(rows[name], failed=_fails(worse[name])) for name in both}
    if fail_above is not None:
        apart = [name for name in named if (name not in both and name in a.columns) or name not in b.columns]
        rows |= {name: replace(rows[name], failed=True) for name in apart}
    return list(rows.values())


def _known(a: Side, b: Side, better: Better | None) -> dict[str, Metric]:
    """What each metric means: to moebench, to lm-eval, or not known but for the direction that was asked for."""
    columns = {**a.columns, **b.columns}
    known: dict[str, Metric] = {}
    for name, column in columns.items():
        base = MetricRef.parse(name).base
        own = METRICS.get(base) or task_metric(base, better=column.better)
        unit = column.unit or "1"
        labels = tuple(label for label, _ in MetricRef.parse(name).labels)
        made = Metric(name=base, unit=unit, better=better or "neither", labels=labels, says=name, cannot="")
        known[name] = own or made
    return known


def _chosen(a: Side, b: Side, metrics: Sequence[str]) -> list[str]:
    """The metrics that are asked for, by whole name, without the task, or as lm-eval calls them."""
    every = [name for name in dict.fromkeys((*a.columns, *b.columns)) if not _is_repeated(name, a, b)]
    if not metrics:
        return every
    found: list[str] = []
    for asked in metrics:
        ways = {asked, f"{GROUP}.{asked}"}
        fits = [name for name in {**a.columns, **b.columns} if {name, MetricRef.parse(name).base} & ways]
        if not fits:
            bases = sorted({MetricRef.parse(name).base for name in every})
            hint = nearest(asked, [*every, *bases]) or f"there are {listed(bases, last='and')}"
            raise ResultsError(a.read.path, f"no metric {asked} here or in {b.read.path}: {hint}")
        found += fits
    return list(dict.fromkeys(found))


def _is_repeated(name: str, a: Side, b: Side) -> bool:
    """Whether a perplexity says what bits per byte of the same task say too, which have items."""
    base, _, labels = name.partition("[")
    columns = {**a.columns, **b.columns}
    return base.endswith(("word_perplexity", "byte_perplexity")) and f"{GROUP}.bits_per_byte[{labels}" in columns


# ---------------------------------------------------------------------------------------------- asking the judge

_QUESTIONS = ("better", "worse", "equal")


def _ask(
    question: str, names: Sequence[str], known: Mapping[str, Metric], a: Side, b: Side, margin: Amount
) -> dict[str, Verdict]:
    """A verdict for each metric on one question; none on equality within nothing."""
    if question == "equal" and margin.value == 0:
        return {}
    pair = {"treatment": B, "baseline": A} if question != "worse" else {"treatment": A, "baseline": B}
    test = {"kind": "equivalent" if question == "equal" else "superior", "margin": margin}
    claims = {
        f"m{n}": {"says": name, "compare": pair, "metric": name, "test": test, "family": "primary"}
        for n, name in enumerate(names)
    }
    metrics = {name: _oriented(metric) for name, metric in known.items()}
    verdicts = judge(_evidence(claims, metrics, {A: a, B: b}, names))
    return dict(zip(names, verdicts, strict=True))


def _oriented(metric: Metric) -> Metric:
    """Where no direction is known, higher stands for better: the words are put right in the row."""
    return metric.model_copy(update={"better": "higher"}) if metric.better == "neither" else metric


def _evidence(
    claims: Mapping[str, Any], metrics: Mapping[str, Metric], sides: Mapping[str, Side], names: Sequence[str]
) -> Evidence:
    """The two as a suite of two external models would have them, in memory."""
    runs = {name: _runs(one) for name, one in sides.items()}
    single = {name: len(one) == 1 for name, one in runs.items()}
    several = [set(one) for name, one in runs.items() if not single[name]]
    seeds = sorted(set.intersection(*several)) if several else [0]
    if not seeds:
        raise ResultsError(sides[B].read.path, f"has no seed in common with {sides[A].read.path}")
    spec = SuiteSpec.model_validate(
        {
            "suite": "judge",
            "question": "Is B better than A?",
            "seeds": seeds,
            "data": {"source": "none"},
            "models": {name: {"results": one.read.path.name or "."} for name, one in sides.items()},
            "claims": claims,
        }
    )
    jobs: list[PlannedJob] = []
    outcomes: list[Outcome] = []
    for name in sides:
        for seed in seeds[:1] if single[name] else seeds:
            run = next(iter(runs[name].values())) if single[name] else runs[name][seed]
            jobs.append(PlannedJob(kind="import", model=name, seed=seed, id=digest_of([name, seed], length=20)))
            outcomes.append(_outcome(jobs[-1], run, sides, names))
    plan = Plan(
        suite="judge",
        scale=None,
        spec=spec,
        models={
            name: PlannedExternal(
                results=one.read.path.name or ".",
                form=one.read.form,
                model=one.model,
                sha256=one.read.sha256,
                seeds=tuple(seeds[:1] if single[name] else seeds),
                single=single[name],
            )
            for name, one in sides.items()
        },
        matches=(),
        jobs=tuple(jobs),
        speed=None,
        tune=None,
        data=NO_DATA,
        claim_hashes=spec.claim_hashes,
        extra_metrics=dict(metrics),
    )
    now = time.time()
    stored = StoredPlan(
        plan=plan,
        stored_at=now,
        claims_first_stored=dict.fromkeys(plan.claim_hashes.values(), now),
        environment=environment(1),
    )
    return Evidence(stored=stored, outcomes=tuple(outcomes))


def _runs(one: Side) -> dict[int, Run]:
    return {0 if seed is None else seed: run for seed, run in one.runs.items()}


def _outcome(job: PlannedJob, run: Run, sides: Mapping[str, Side], names: Sequence[str]) -> Outcome:
    """A run with the items that both sides have, and its numbers over them."""
    own, other = sides[job.model], sides[B if job.model == A else A]
    values: dict[str, float] = {}
    items: dict[str, tuple[Item, ...]] = {}
    for name in names:
        column = run.columns.get(name)
        if column is None:
            continue
        values[name] = column.final
        theirs = other.columns[name]
        if column.items and theirs.items:
            both = items_of(other.read, theirs)
            kept = [(item, *of) for item, of in items_of(own.read, column).items() if item in both]
            if kept:
                made = (Item(name=item, group=group, size=size, value=value) for item, group, size, value in kept)
                items[name] = tuple(made)
                values[name] = sum(row[3] for row in kept) / sum(row[2] for row in kept)
    conditions = {name: column.condition for name, column in run.columns.items() if column.condition is not None}
    return Outcome(
        model=job.model,
        seed=job.seed,
        run_id=job.id,
        status="diverged" if run.diverged else "completed",
        values=values,
        items=items,
        conditions=conditions,
    )


# ---------------------------------------------------------------------------------------------- rows


def _plain(name: str, metric: Metric, a: Side, b: Side) -> Row:
    """What stands on each side, before anything is judged."""
    means = [_mean(one, name) for one in (a, b)]
    row = Row(metric=name, unit=metric.unit, better=None if metric.better == "neither" else metric.better)
    reason = _why_not(name, a, b)
    verdict = "undecided" if reason is None else "not comparable"
    return replace(row, a=means[0], b=means[1], verdict=verdict, reason=reason or "")


def _why_not(name: str, a: Side, b: Side) -> str | None:
    """Why a metric of the two is not compared; None where it is."""
    for word, one in ((A, a), (B, b)):
        if name not in one.columns:
            return f"{word} has no such number"
    in_a, in_b = (a.columns[name].unit, b.columns[name].unit)
    return f"A is in {in_a}, B in {in_b}" if in_a and in_b and in_a != in_b else None


def _mean(one: Side, name: str) -> float | None:
    finals = [run.columns[name].final for run in one.runs.values() if name in run.columns]
    return sum(finals) / len(finals) if finals else None


_KNOWN = {"better": "better", "worse": "worse", "equal": "equal"}
_UNKNOWN = {"better": "higher", "worse": "lower", "equal": "equal"}
"""What B is where nobody says which direction is better."""


def _row(row: Row, asked: Mapping[str, Verdict | None], a: Side, b: Side) -> Row:
    """The row as the judge has it."""
    first = asked["better"]
    assert first is not None
    decided = next((q for q in _QUESTIONS if (v := asked[q]) is not None and v.state == "supported"), None)
    told = [asked[decided]] if decided is not None else [asked["better"], asked["worse"]]
    p = min((one.p_adjusted for one in told if one is not None and one.p_adjusted is not None), default=None)
    words = _KNOWN if row.better else _UNKNOWN
    verdict = words[decided] if decided else "not comparable" if first.state == "invalid" else "undecided"
    won = _won(row, a, b)
    return replace(
        row,
        difference=first.estimate,
        low=first.low,
        high=first.high,
        shown_in=first.unit,
        n=first.n,
        units=first.units,
        **won,
        verdict=verdict,
        p=p,
        reason="" if decided else first.reason,
        needs=None if decided or first.state == "invalid" else first.needs,
        notes=tuple(_notes(row.metric, a, b)),
    )


def _won(row: Row, a: Side, b: Side) -> dict[str, Any]:
    """Items that B won, lost and tied, where both are one run with items."""
    if len(a.runs) > 1 or len(b.runs) > 1:
        return {}
    in_a, in_b = (items_of(one.read, one.columns[row.metric]) for one in (a, b))
    sign = -1 if row.better == "lower" else 1
    ahead = [sign * (in_b[item][2] / in_b[item][1] - in_a[item][2] / in_a[item][1]) for item in in_a if item in in_b]
    if not ahead:
        return {}
    won, lost = sum(x > 0 for x in ahead), sum(x < 0 for x in ahead)
    return {"won": won, "lost": lost, "tied": len(ahead) - won - lost}


def _notes(metric: str, a: Side, b: Side) -> Iterator[str]:
    """What was left out of a row."""
    one, other = a.columns[metric], b.columns[metric]
    if len(a.runs) == len(b.runs) == 1:
        if bool(one.items) != bool(other.items):
            yield f"only {A if one.items else B} has its items"
        shared = len(items_of(a.read, one).keys() & items_of(b.read, other).keys())
        if one.items and other.items and shared < max(len(one.items), len(other.items)):
            yield f"{shared:,} items are in both, of {len(one.items):,} and {len(other.items):,}"
        return
    seeds = [set(_runs(side_)) for side_ in (a, b) if len(side_.runs) > 1]
    if len(seeds) == 2 and (apart := sorted(seeds[0] ^ seeds[1])):
        yield f"seeds that are in one alone are left out: {listed(list(map(str, apart)), last='and')}"


def _fails(verdict: Verdict) -> bool:
    """Worse by more than the threshold, interval and all; or not to be judged at all."""
    return verdict.state == "invalid" or (verdict.p is not None and verdict.p <= ALPHA)


# ---------------------------------------------------------------------------------------------- for a reader


def sides_text(rows: Sequence[Row], a: Side, b: Side, *, margin: Amount | None) -> str:
    """The table, what is undecided and why, and how often B won."""
    cells = [["metric", "A", "B", "B − A [95%]", "n", "won/lost", "B is", "p (Holm)"]]
    for row in rows:
        ends = "" if row.difference is None else interval(row.difference, row.low, row.high, row.shown_in)
        won = "" if row.won is None else f"{row.won}/{row.lost}"
        n = f"{row.n:,} {row.units}" if row.n else ""
        p = "" if row.p is None else p_value(row.p).removeprefix("p ")
        failed = " FAILED" if row.failed else ""
        cells.append([row.metric, _number(row.a), _number(row.b), ends, n, won, row.verdict + failed, p])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    by = f" by more than {margin}" if margin is not None and margin.value else ""
    told = [f"A: {a.model} of {a.read.path}", f"B: {b.model} of {b.read.path}", "", *lines, ""]
    told += [f"Whether B is better or worse{by}, one-sided at 2.5%, Holm over {len(rows)} metrics."]
    for row in rows:
        why = [*filter(None, (row.reason, row.needs)), *row.notes]
        told += [f"  {row.metric}: {'; '.join(why)}"] if why else []
    told += [f"  note: {note}" for one in (a, b) for note in one.read.notes]
    single = any(len(one.runs) == 1 for one in (a, b))
    told += ["One run says nothing about another training run."] if single else []
    told += ["Equal data, tuning and hardware are not verified."]
    return visible("\n".join(told))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"
