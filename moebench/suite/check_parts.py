"""Claims of several parts: those they put together, and the places that they are asked in."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from moebench.amounts import Amount
from moebench.claims.kinds.published import MEDIAN
from moebench.claims.kinds.spread import Side, open_labels, swept_sides, twin
from moebench.metrics.metric import Metric
from moebench.suite.claim import Claim
from moebench.suite.explain import Path
from moebench.suite.words import known_systems
from moebench.text import listed, nearest, quoted

if TYPE_CHECKING:
    from moebench.suite.check import Findings


def check_combined(findings: Findings, path: Path, name: str, claim: Claim) -> None:
    """The claims that one puts together are others of the suite, each once; of a primary one they are exploratory."""
    claims = findings.spec.claims
    if claim.metric:
        message = f"{a_or_an(claim.test.kind)} test takes no 'metric': it has those of its claims"
        findings.add((*path, "metric"), message, "leave it out", key=True)
    if claim.test.in_ is not None:
        findings.add((*path, "test", "in"), f"{a_or_an(claim.test.kind)} test takes no 'in'", key=True)
    for index, one in enumerate(claim.test.combines):
        at: Path = (*path, "test", "claims", index)
        if one not in claims:
            if f"claims.{one}" not in findings.broken:
                known = [other for other in claims if other != name]
                hint = nearest(one, known) or f"the claims are {listed(known, last='and')}"
                findings.add(at, f"no claim of this suite is called {quoted(one)}", hint)
        elif one in claim.test.combines[:index]:
            findings.add(at, f"{one} is given twice")
        elif claims[one].test.cites:
            findings.add(at, f"{one} is cited, and not tested: nothing rests on it", "name claims that have a verdict")
        elif claims[one].test.combines:
            itself = "itself" if one == name else f"{one}, which puts claims together too"
            findings.add(at, f"{name} cannot rest on {itself}", "name the claims that are meant, one by one")
        elif claim.family == "primary" and claims[one].family == "primary":
            hint = f"give {one} `family: exploratory`: {name} is the primary claim, and counts for its parts"
            findings.add(at, f"{one} is primary as well: it would be counted twice", hint)


def check_cited(findings: Findings, path: Path, claim: Claim) -> None:
    """What is cited names its source, and has nothing of what is measured or judged."""
    if claim.source is None:
        hint = "such as source: {authors: Jacobs et al., year: 1991, where: Neural Computation 3(1)}"
        findings.add(path, "a cited claim needs a 'source'", hint, key=True)
    for key in ("metric", "target"):
        if getattr(claim, key):
            findings.add((*path, key), f"a cited claim takes no {key!r}: nothing is measured for it", key=True)
    if claim.test.in_ is not None:
        findings.add((*path, "test", "in"), "a cited test takes no 'in'", key=True)
    if claim.family == "primary":
        message = "what is cited is no verdict of this suite, so it is in no family"
        findings.add((*path, "family"), message, "leave `family` out")


def check_places(findings: Findings, path: Path, claim: Claim, metric: Metric) -> None:
    """A claim `in` several places has them, and one that has them says in how many it is to hold."""
    share, test = claim.test.in_, (*path, "test")
    if claim.systems is not None:
        _check_systems(findings, path, claim, metric)
        return
    labels, swept = open_labels(claim), swept_sides(claim, findings.spec.sweeps)
    if share is None:
        if labels:
            hint = "write in how many it is to hold: `test: {in: every}`, `some`, or a share such as 75%"
            findings.add((*path, "metric"), f"{claim.metric} stands for several {labels[0]}s", hint)
        if claim.test.of_points and swept:
            _check_points(findings, path, swept)
        return
    if not claim.test.spreads:
        findings.add((*test, "in"), f"{a_or_an(claim.test.kind)} test takes no 'in'", key=True)
    elif share == MEDIAN:
        hint = "write `every`, `some`, or a share such as 75%"
        findings.add((*test, "in"), "a median is that of published systems, selected with `systems`", hint)
    elif isinstance(share, Amount) and not (share.relative and 0 < share.value <= 1):
        findings.add((*test, "in"), f"in {share} is no share of them", "write `every`, `some`, or a share such as 75%")
    elif not labels and not swept:
        label = f"{metric.name}[{metric.labels[0]}=*]" if metric.labels else "a metric with a label `*`"
        hint = f"claim {label}, or compare models with a `sweep`"
        findings.add((*test, "in"), "`in` says in how many places, and this claim is about one", hint)
    elif swept:
        _check_points(findings, path, swept)


def _check_systems(findings: Findings, path: Path, claim: Claim, metric: Metric) -> None:
    """A claim about published systems says of how many, is counted, and names systems that there are."""
    share, asked, test = claim.test.in_, claim.systems, (*path, "test")
    assert asked is not None
    if share is None:
        hint = "write for how many it is to hold: `test: {in: every}`, `some`, `median`, or a share such as 75%"
        findings.add((*path, "systems"), "this claim is about several published systems", hint, key=True)
    elif isinstance(share, Amount) and not (share.relative and 0 < share.value <= 1):
        findings.add((*test, "in"), f"in {share} is no share of them", "write `every`, `some`, or a share such as 75%")
    if share == MEDIAN and claim.minus is not None:
        findings.add((*path, "minus"), "a median takes no 'minus'", "ask for every system, or for a share", key=True)
    if metric.kind != "counted":
        message = f"{metric.name} is measured, and published systems are counted alone"
        findings.add((*path, "metric"), message, "claim a metric of cost or shape")
    for index, glob in enumerate(asked.named):
        if not any(fnmatchcase(name, glob) for name in known_systems()):
            likely = nearest(glob.strip("*"), known_systems())
            findings.add((*path, "systems", "named", index), f"no published system is called {quoted(glob)}", likely)


def _check_points(findings: Findings, path: Path, swept: Mapping[Side, str]) -> None:
    """The sweeps of a claim are over the same keys, and meet at two points at least."""
    sweeps = findings.spec.sweeps
    first, *others = dict.fromkeys(swept.values())
    for other in others:
        side = next(side for side, sweep in swept.items() if sweep == other)
        keys, theirs = (list(next(iter(sweeps[name].values()))) for name in (first, other))
        shared = sum(twin(sweeps[other], at) is not None for at in sweeps[first].values())
        if set(keys) != set(theirs):
            message = f"{other} is swept over {listed(theirs, last='and')}, {first} over {listed(keys, last='and')}"
            findings.add((*path, *side), message, "points are paired by the same keys")
        elif shared < 2:
            message = f"{other} and {first} have {shared} points in common: at least 2 are compared"
            findings.add((*path, *side), message, "give both sweeps the same values")


def a_or_an(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
