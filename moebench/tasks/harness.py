"""A task of lm-eval carried out on a subject: its numbers, and every item behind them.

lm-eval's `evaluate` is called as its `simple_evaluate` calls it, without what that does besides: no git, no bootstrap,
no pool of processes, no cache of responses. Its global seeds are put back. Nothing goes online unless asked, and data
sets are prepared inside the results folder. A metric keeps its items where it is a sum over them, which is checked.
"""

from __future__ import annotations

import logging
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moebench.identity import digest_of
from moebench.metrics.measurement import Measured
from moebench.metrics.metric import MOST, Record
from moebench.metrics.tasks import CLUSTERED_BY
from moebench.models.subject import Subject
from moebench.tasks.configs import TaskError, code_is_trusted, manager_of, task_facts
from moebench.tasks.facts import TaskFacts, TaskMetric

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "fewshot": 1234}
"""lm-eval's own."""
CLOSE = 1e-9
"""How far items may be from adding up to lm-eval's aggregate, relative: rounding."""

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a task is looked for, and what it may use."""

    cache: Path
    """Folder for prepared data sets."""
    include: Path | None = None
    online: bool = False


def measure_task(
    subject: Subject, options: Mapping[str, Any], place: Place, *, step: int | None, on_progress: OnProgress
) -> Measured:
    """The records and items of one task, as `TaskFacts.options` asks for it.

    Raises TaskError when the task or its data cannot be had, or are no longer what was planned; NotFinite when the
    model gives no number.
    """
    with surroundings(place) as users_cache:
        from moebench.tasks.adapter import Adapter

        facts = _planned(options, place)
        with _reseeded():
            loaded = _loaded(facts, place, users_cache)
            adapter = Adapter(subject, on_progress=on_progress)
            results = _evaluated(adapter, facts, loaded)
    return measured(facts, results, step=step, cut=adapter.cut / adapter.read if adapter.read else None)


def _planned(options: Mapping[str, Any], place: Place) -> TaskFacts:
    asked = {"num_fewshot": options["num_fewshot"], "limit": options["limit"]}
    facts = task_facts(str(options["task"]), include=place.include, **asked)[0]
    if facts.options != dict(options):
        raise TaskError(f"the task {facts.name} is no longer what was planned", "plan again")
    return facts


def _evaluated(adapter: Any, facts: TaskFacts, loaded: Any) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate

    for task in loaded["tasks"].values():
        task.set_config(key="num_fewshot", value=facts.num_fewshot)
        task.set_fewshot_seed(seed=SEEDS["fewshot"])
    results: dict[str, Any] = evaluate(
        lm=adapter, task_dict=loaded, limit=facts.limit, bootstrap_iters=0, log_samples=True
    )
    return results


def _loaded(facts: TaskFacts, place: Place, users_cache: Any) -> Any:
    """The task with its documents: prepared in the results folder, or in the user's own cache where it is not there."""
    import datasets

    load = manager_of(place.include, facts.name, *facts.members).load
    try:
        return load([facts.name])
    except (OSError, ValueError) as error:
        first, cause = f"{type(error).__name__}: {error}".splitlines()[0], error
    datasets.config.HF_DATASETS_CACHE = users_cache
    try:
        return load([facts.name])
    except (OSError, ValueError):
        hint = None if place.online else "where they are to be downloaded, write online: true under measure.lm_eval"
        raise TaskError(f"the documents of the task {facts.name} cannot be had: {first}", hint) from cause
    finally:
        datasets.config.HF_DATASETS_CACHE = place.cache


# ------------------------------------------------------------------------------------------------ surroundings


@contextmanager
def surroundings(place: Place) -> Iterator[Any]:
    """Inside, lm-eval and its library of data sets do what is asked and nothing besides; gives the cache that the
    library would have used."""
    offline = "0" if place.online else "1"
    settings = {"HF_HUB_OFFLINE": offline, "HF_DATASETS_OFFLINE": offline, "DISABLE_MULTIPROC": "1"}
    settings |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    place.cache.mkdir(parents=True, exist_ok=True)
    try:
        import datasets
        import huggingface_hub.constants as hub
        import lm_eval.utils
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        logger, level = logging.getLogger("lm_eval"), logging.getLogger("lm_eval").level
        logger.setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        was = (datasets.config.HF_DATASETS_CACHE, datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE, lm_eval.utils.env)
        datasets.config.HF_DATASETS_CACHE = place.cache
        datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = not place.online
        if place.include is not None and not code_is_trusted():  # a template of somebody else's reaches no code
            lm_eval.utils.env = _sandboxed(lm_eval.utils.env, ImmutableSandboxedEnvironment)
        try:
            yield was[0]
        finally:
            datasets.config.HF_DATASETS_CACHE, datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE = was[:3]
            lm_eval.utils.env = was[3]
            logger.setLevel(level)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _sandboxed(env: Any, kind: Any) -> Any:
    safe = kind(loader=env.loader, undefined=env.undefined, keep_trailing_newline=env.keep_trailing_newline)
    safe.filters.update(env.filters)
    return safe


@contextmanager
def _reseeded() -> Iterator[None]:
    """Inside, global generators are seeded as lm-eval's `simple_evaluate` seeds them; afterwards they are as before."""
    import torch

    held = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    random.seed(SEEDS["random"])
    np.random.seed(SEEDS["numpy"])
    torch.manual_seed(SEEDS["torch"])
    try:
        yield
    finally:
        random.setstate(held[0])
        np.random.set_state(held[1])
        torch.set_rng_state(held[2])


# ------------------------------------------------------------------------------------------------ numbers


def measured(
    facts: TaskFacts, results: Mapping[str, Any], *, step: int | None = None, cut: float | None = None
) -> Measured:
    """What lm-eval's results say of a task: a record a metric, and items where the metric is a sum over them.

    `cut` is the share of prompts that did not fit the context.
    """
    records: list[Record] = []
    items: list[dict[str, Any]] = []
    samples = [row for name in facts.members or (facts.name,) for row in _samples(results, name)]
    for metric in facts.metrics:
        name = facts.named(metric)
        value = results["results"].get(facts.name, {}).get(metric.key)
        if (reason := _no_number(value)) is not None:
            records.append(Record(metric=name, reason=reason, step=step))
            continue
        records.append(Record(metric=name, value=float(value), step=step))
        items += [{"metric": name, **row} for row in items_of(facts, metric, samples, total=float(value)) or ()]
    if facts.chance is not None and (chance := chance_of(facts, samples)) is not None:
        records.append(Record(metric=facts.chance, value=chance, step=step))
    if cut is not None:
        records.append(Record(metric=facts.cut, value=cut, step=step))
    return Measured(records=records, items=items or None)


def chance_of(facts: TaskFacts, samples: Sequence[Mapping[str, Any]]) -> float | None:
    """What guessing gets: the mean over documents of 1 / choices; None where a document shows none.

    Each choice is a request, and one more where mutual information is asked for.
    """
    each = 2 if any(metric.metric == "acc_mutual_info" for metric in facts.metrics) else 1
    choices = [len(row.get("filtered_resps", ())) // each for row in samples]
    return math.fsum(1 / number for number in choices) / len(choices) if choices and min(choices) > 0 else None


def _no_number(value: Any) -> str | None:
    if value is None:
        return "lm-eval gave no such number"
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return f"lm-eval gave {str(value)[:40]!r}, which is no number"
    if math.isfinite(number := float(value)) and abs(number) <= MOST:
        return None
    return f"lm-eval gave {number:.3g}, which is beyond what can be compared"


def _samples(results: Mapping[str, Any], task: str) -> list[dict[str, Any]]:
    """The rows of one task, each with its item's name: a second document of the same text has #1 behind it."""
    rows = []
    seen: Counter[tuple[str, str]] = Counter()
    for sample in results["samples"].get(task, ()):
        key = (sample["filter"], sample["doc_hash"])
        again = f"#{seen[key]}" if seen[key] else ""
        seen[key] += 1
        rows.append({**sample, "item": sample["doc_hash"] + again, "task": task})
    groups = _groups(rows)
    return [{**row, "group": group} for row, group in zip(rows, groups, strict=True)]


def _groups(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each document belongs to: by a field that tells them apart, else by its own text where that is twice."""
    for field in CLUSTERED_BY:
        values = [row["doc"].get(field) if isinstance(row["doc"], Mapping) else None for row in rows]
        if all(isinstance(value, str | int) and value != "" for value in values) and len(set(values)) > 1:
            return [str(value) for value in values]
    twice = Counter((row["filter"], row["doc_hash"]) for row in rows)
    return [row["doc_hash"] if twice[row["filter"], row["doc_hash"]] > 1 else "" for row in rows]


def items_of(
    facts: TaskFacts, metric: TaskMetric, samples: Sequence[Mapping[str, Any]], *, total: float
) -> list[dict[str, Any]] | None:
    """The items of a metric, as sum(value) / sum(size); None where it is no such sum, such as a corpus-level score.

    Means have size 1; bits per byte the bytes; Brier's score its squares. What does not add up to lm-eval's own
    aggregate is none of these.
    """
    rows = [row for row in samples if row["filter"] == metric.filter and metric.metric in row]
    parts = [_part(metric.metric, row[metric.metric]) for row in rows]
    if not rows or any(part is None for part in parts):
        return None
    counts = Counter(row["task"] for row in rows)
    items = []
    for row, part in zip(rows, parts, strict=True):
        assert part is not None
        size, value = part
        name = row["item"] if not facts.members else digest_of([row["task"], row["item"]], length=20)
        group = row["group"] if row["group"] or not facts.members else row["task"]
        if size > 0:
            items.append({"item": name, "group": group, "size": size, "value": value, "task": row["task"]})
    weights = [dict.fromkeys(counts, 1.0)]
    weights += [{task: 1.0 / count for task, count in counts.items()}] if facts.members else []
    for weight in weights:  # a group's score weighs documents alike, or tasks
        weighed = [_weighed(item, weight[item["task"]]) for item in items]
        size = math.fsum(item["size"] for item in weighed)
        value = math.fsum(item["value"] for item in weighed)
        if size and math.isclose(value / size, total, rel_tol=CLOSE, abs_tol=CLOSE):
            return weighed
    return None


def _weighed(item: Mapping[str, Any], weight: float) -> dict[str, Any]:
    size, value = item["size"] * weight, item["value"] * weight
    return {"item": item["item"], "group": item["group"], "size": size, "value": value}


def _part(metric: str, value: Any) -> tuple[float, float] | None:
    """Size and value of one document's part; None where it is not a part of a sum."""
    if isinstance(value, bool | int | float | np.number):
        return (1.0, float(value)) if math.isfinite(value) else None
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    first, second = value
    if metric == "bits_per_byte":
        return float(second), -float(first) / math.log(2)
    if metric == "brier_score" and isinstance(first, int):
        chosen = np.asarray(second, dtype=np.float64)
        return 1.0, float(((chosen - np.eye(len(chosen))[first]) ** 2).sum())
    return None
