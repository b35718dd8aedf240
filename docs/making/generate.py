"""The two pages of the site that are made from the code and the reference results, so that neither can be stale.

`language` is every key of a suite file, from the JSON Schema that `moebench schema` prints, and the words that a file
may use. `gallery` is every bundled suite with its question, what its reference runs cost, and its verdicts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from moebench.catalogue import catalogue
from moebench.cli.console.lists import COLUMNS, LISTS
from moebench.metrics import METRICS
from moebench.models.routers import ROUTERS
from moebench.reporting.states import SHAPES, STATES
from moebench.store import MAX_FACTS_BYTES, open_results, read_json
from moebench.suite.load import load_suite
from moebench.suite.schema import schema
from moebench.suite.words import bundled_names

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "reports" / "reference"
RESULTS = ROOT / "results" / "reference"
AGAIN = "Scale"
"""The type that has the keys of the file once more."""
MOST_WORDS = 16
"""Words of a key that are listed in its row; more are a list of their own."""
WORDS = {
    "claims": "Kinds of test", "metrics": "Metrics", "routers": "Routers", "systems": "Published designs",
    "sources": "Sources of text",
}  # fmt: skip
"""Lists of words that stand below the keys, and their headings."""
VERDICT = re.compile(r"\| [▲▼◆◇✕○❝] \*\*")

# ------------------------------------------------------------------------------------------------ the language


def language() -> str:
    """Every key of a suite file: what it takes, what it is when it is left out, and what it means."""
    made = schema()
    types: Mapping[str, Any] = made["$defs"]
    parts = [
        "# The suite language",
        "Every key of a suite file, made from the types that check it. [Writing suites](suites.md) tells how they go "
        "together; `moebench schema` prints the same for editors; a mistake in a file is reported with its line and "
        "the nearest valid word. A key without a value under *left out* has to stand in the file, or come from "
        "`extends`, `base`, a scale or `train`.",
        "## The file",
        _table(made["properties"]),
    ]
    seen: set[str] = {AGAIN}
    for key, value in made["properties"].items():
        under = list(_reached(value, types, seen))
        parts += [f"## Under `{key}`"] if under else []
        for name in under:
            described = _line(types[name].get("description", ""))
            table = [_table(types[name]["properties"])] if types[name].get("properties") else []
            parts += [f"### {name}", described, *table]
    for what, heading in WORDS.items():
        parts += [f"## {heading}", _listed(what)]
    return "\n\n".join(parts) + "\n"


def _reached(value: Any, types: Mapping[str, Any], seen: set[str]) -> Iterator[str]:
    """Types that a value leads to and that were not seen before, each before those that it leads to."""
    for name in _named(value):
        if name not in seen:
            seen.add(name)
            yield name
            yield from _reached(types[name], types, seen)


def _named(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner)


def _table(properties: Mapping[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_takes(value)} | {_left_out(value)} | {_line(value.get('description', ''))} |"
        for key, value in properties.items()
    ]
    return "\n".join(["| key | takes | left out | meaning |", "| --- | --- | --- | --- |", *rows])


def _left_out(value: Mapping[str, Any]) -> str:
    default = value.get("default", ...)
    if default is ...:
        return ""
    if default in (None, "", [], {}):
        return "nothing"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _takes(value: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return "the keys of the file" if name == AGAIN else f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return _words(value["enum"])
    for union in ("anyOf", "oneOf"):
        if union in value:
            kinds = [_takes(one) for one in value[union] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type")
    if kind == "array":
        items = value.get("items") or {}
        return f"list of {_takes(items)}" if items else "list"
    if kind == "object":
        inner = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
        held = next((one for one in inner if isinstance(one, dict)), None)
        return f"names, each {_takes(held)}" if held else "mapping"
    if isinstance(kind, list):
        return " or ".join(_KINDS.get(one, one) for one in kind)
    return f"{_KINDS.get(str(kind), str(kind or 'value'))}{_range(value)}"


_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def _range(value: Mapping[str, Any]) -> str:
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    ends = [
        f"from {low:,}" if low is not None else f"above {above:,}" if above is not None else "",
        f"to {high:,}" if high is not None else f"below {below:,}" if below is not None else "",
    ]
    told = " ".join(filter(None, ends))
    return f" {told}" if told else ""


def _words(words: list[Any]) -> str:
    if set(words) == set(METRICS):
        return "a [metric](#metrics)"
    if set(words) == set(ROUTERS):
        return "a [router](#routers)"
    if len(words) > MOST_WORDS:
        return f"one of {len(words)} words"
    return " or ".join(f"`{word}`" for word in words)


def _listed(what: str) -> str:
    """One of the lists of `moebench list`."""
    heads = COLUMNS.get(what, ("name", "what it is"))
    rows = [[f"`{first}`", *(_line(str(cell)) for cell in others)] for first, *others in LISTS[what]()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in ([*heads], ["---"] * len(heads), *rows))


def _line(text: str) -> str:
    """Text in one cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


# ------------------------------------------------------------------------------------------------ the gallery


def gallery() -> str:
    """Every bundled suite: its question, what it cost, and what it found."""
    costs = _costs()
    told = sorted((_Told(name, costs.get(name)) for name in bundled_names()), key=lambda one: one.report is None)
    parts = [
        "# Gallery of suites",
        "Each is one file, run with `moebench run NAME`, and starts a suite of your own with `extends: NAME`. "
        "Core-minutes are those of its reference runs, with evaluations and speed sessions and without sweeps of "
        "learning rates; runs that suites share are counted with each.",
        "\n".join(
            ["| suite | question | core-minutes | primary claims |", "| --- | --- | ---: | --- |"]
            + [f"| [{one.name}](#{one.name}) | {_line(one.question)} | {one.minutes} | {one.primary} |" for one in told]
        ),
        *(one.section for one in told),
    ]
    return "\n\n".join(parts) + "\n"


class _Told:
    """One suite of the gallery."""

    def __init__(self, name: str, cost: tuple[float, Counter[str]] | None) -> None:
        self.name = name
        self.spec = load_suite(name).spec
        self.question = self.spec.question
        self.cost = cost
        file = REPORTS / name / "claims.json"
        self.report: Mapping[str, Any] | None = read_json(file, most=MAX_FACTS_BYTES) if file.is_file() else None

    @property
    def minutes(self) -> str:
        return f"{self.cost[0]:.0f}" if self.cost else ""

    @property
    def primary(self) -> str:
        if self.report is None:
            return "no reference results"
        tally = _tally(self.report["primary"])
        return tally if tally != "none" else f"none; of all, {_tally(self.report['counts'])}"

    @property
    def section(self) -> str:
        parts = [f"## {self.name}", f"**{_line(self.question)}**"]
        answered = [row.number for row in catalogue().claims if self.name in {n.partition("/")[0] for n in row.named}]
        facts = [f"[The suite](../suites/{self.name}.yaml)"]
        if self.report:
            facts.append(f"[the whole report](../reports/reference/{self.name}/index.md)")
        if self.cost:
            minutes, jobs = self.cost
            jobs_told = ", ".join(f"{n} {kind}" for kind, n in sorted(jobs.items()))
            facts.append(f"{minutes:.1f} core-minutes ({jobs_told})")
        if answered:
            facts.append(f"bears on {len(answered)} of the [catalogue's claims](../reports/reference/claims/index.md)")
        parts.append("; ".join(facts) + ".")
        if self.report is None:
            claims = "\n".join(f"- {_line(claim.says)}" for claim in self.spec.claims.values())
            return "\n\n".join([*parts, "No reference results; it asks:", claims])
        lines = (REPORTS / self.name / "index.md").read_text(encoding="utf-8").splitlines()
        rows = [line for line in lines if VERDICT.match(line)]
        primary = [line for line in rows if "** (primary)" in line]
        head = ["| verdict | claim | effect with 95% interval | evidence |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([*head, *(primary or rows)]))
        others = self.report["exploratory"]
        if primary and sum(others.values()):
            parts.append(f"{sum(others.values())} that are not primary: {_tally(others)}.")
        return "\n\n".join(parts)


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{SHAPES[state]} {n} {STATES[state].lower()}" for state, n in counts.items() if n) or "none"


def _costs() -> dict[str, tuple[float, Counter[str]]]:
    """Suite -> minutes of one core, and finished jobs by kind, from the bundles of the reference machine."""
    found: dict[str, tuple[float, Counter[str]]] = {}
    for bundle in sorted(path.parent for path in RESULTS.glob("*/*/MANIFEST")):
        seconds, jobs = 0.0, Counter[str]()
        for job in open_results(bundle).jobs():
            done, started = job.manifest(), job.job_json().get("started")
            if done is not None and started is not None:
                threads = (job.job_json().get("environment") or {}).get("threads") or 1
                seconds += (done["finished"] - started) * threads
                jobs[str(job.kind)] += 1
        found[bundle.name] = (seconds / 60, jobs)
    return found
