"""`in: every | some | 75%`: a claim asked in several places, and how many of them are to bear it out.

Places are the values of a label that is written `*` (`test.bits_per_byte[domain=*]`), or the points of a sweep that
`compare`, or `model`, names: of two sweeps the points with the same values of the same keys; a model that is not swept
stands at every point. Both together make every combination.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from moebench.claims.hypothesis import Withheld
from moebench.claims.kinds.part import MOST_PARTS, Known, Part, Parts, Sweeps, needed
from moebench.frozen import Frozen
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef

if TYPE_CHECKING:
    from moebench.suite.claim import Claim

EVERY_VALUE = "*"
Side = tuple[str, ...]
"""Keys from a claim to a model: `compare`, `treatment`."""
PAIRS = ("compare", "minus", "share_of")


PLURALS = {"batch": "batches", "tokens": "lengths", "memory": "budgets"}
"""Of labels that do not take an s."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a claim is asked."""

    name: str
    claim: Claim
    at: Mapping[str, float | str | bool] = field(default_factory=dict)
    """Of a point of a sweep its keys and values."""


def open_labels(claim: Claim) -> tuple[str, ...]:
    """The labels of a claim's metric that stand for all their values."""
    labels = MetricRef.parse(claim.metric).labels if claim.metric else ()
    return tuple(label for label, value in labels if value == EVERY_VALUE)


def swept_sides(claim: Claim, sweeps: Sweeps) -> Mapping[Side, str]:
    """The sides of a claim that are sweeps, by the keys that lead to them; none where its kind is about sweeps."""
    if claim.test.of_sweeps:
        return {}
    sides = dict(pair_sides(claim, sweeps))
    return sides if claim.model is None or claim.model not in sweeps else {("model",): claim.model, **sides}


def pair_sides(claim: Claim, sweeps: Sweeps) -> Mapping[Side, str]:
    """The sides of a claim's pairs that are sweeps, whatever its kind."""
    named: dict[Side, object] = {}
    for key in PAIRS:
        pair = getattr(claim, key)
        if isinstance(pair, Frozen):
            named |= {(key, side): name for side, name in pair}
    return {side: name for side, name in named.items() if isinstance(name, str) and name in sweeps}


def over_places(claim: Claim, known: Known) -> Parts | None:
    """The claim in each of its places; None where it is asked in one. Raises Withheld where there are none."""
    share = claim.test.in_
    if share is None:
        return None
    places = [Place(name="", claim=alone(claim))]
    words: list[str] = []
    swept = swept_sides(claim, known.sweeps)
    if swept:
        places, words = list(at_points(places[0].claim, swept, known.sweeps)), ["points"]
    for label in open_labels(claim):
        values = _values(claim, label, known)
        places = [_with_label(place, label, value) for place, value in product(places, values)]
        words.insert(0, PLURALS.get(label, f"{label}s"))
    what = " and ".join(words)
    if len(places) < 2:
        raise Withheld("invalid", f"`in` needs several places: there {_are(len(places))} of {what or 'the claim'}")
    if len(places) > MOST_PARTS:
        raise Withheld("invalid", f"`in` over {len(places)} {what}: at most {MOST_PARTS} are judged at once")
    parts = tuple(Part(name=place.name, claim=place.claim) for place in places)
    return Parts(of=parts, need=needed(share, len(parts)), what=what, where="at" if swept else "in")


def _are(number: int) -> str:
    return "is one" if number == 1 else "are none"


def every_metric(claim: Claim, known: Known) -> tuple[str, ...]:
    """The metrics that a claim rests on, each of its places for `*`."""
    places = [Place(name="", claim=claim)]
    for label in open_labels(claim):
        values = _values(claim, label, known) or (EVERY_VALUE,)
        places = [_with_label(place, label, value) for place, value in product(places, values)]
    return tuple(dict.fromkeys(metric for place in places for metric in place.claim.metrics))


def _values(claim: Claim, label: str, known: Known) -> tuple[str, ...]:
    """All values of a label: the metric's own where it has only these, else what the suite has."""
    fixed = metric_of(claim.metric).values.get(label)
    refs, base = map(MetricRef.parse, known.named), MetricRef.parse(claim.metric).base
    of_tasks = tuple(filter(None, (ref.get(label) for ref in refs if ref.base == base)))
    return fixed or of_tasks or known.values(label, claim.about(known.sweeps))


def alone(claim: Claim) -> Claim:
    """The same asked in one place."""
    return claim.model_copy(update={"test": claim.test.model_copy(update={"in_": None})})


def at_points(claim: Claim, swept: Mapping[Side, str], sweeps: Sweeps) -> Iterator[Place]:
    """The claim at each point that all its sweeps have."""
    first, *others = dict.fromkeys(swept.values())
    for point, at in sweeps[first].items():
        names = {first: point} | {other: twin(sweeps[other], at) for other in others}
        if None in names.values():
            continue
        changes: dict[str, Any] = {}
        for (key, *rest), sweep in swept.items():
            pair = changes.get(key, getattr(claim, key))
            changes[key] = pair.model_copy(update={rest[0]: names[sweep]}) if rest else names[sweep]
        yield Place(name=point_words(at), claim=claim.model_copy(update=changes), at=at)


def twin(points: Mapping[str, Mapping[str, float | str | bool]], at: Mapping[str, float | str | bool]) -> str | None:
    """The point of a sweep with these values of the same keys; None where there is none."""
    return next((name for name, values in points.items() if values == at), None)


def point_words(at: Mapping[str, float | str | bool]) -> str:
    """`ffn.experts=8, width=64`."""
    return ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in at.items())


def _with_label(place: Place, label: str, value: str) -> Place:
    ref = MetricRef.parse(place.claim.metric)
    metric = str(MetricRef(ref.base, tuple((key, value if key == label else old) for key, old in ref.labels)))
    changes: dict[str, object] = {"metric": metric}
    minus = place.claim.minus
    if isinstance(minus, str) and MetricRef.parse(minus).get(label) == EVERY_VALUE:
        other = MetricRef.parse(minus)
        changes["minus"] = str(
            MetricRef(other.base, tuple((key, value if key == label else old) for key, old in other.labels))
        )
    name = ", ".join(filter(None, (place.name, f"{label}={value}")))
    return Place(name=name, claim=place.claim.model_copy(update=changes))
