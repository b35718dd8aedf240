"""The name of a number, parsed once: `speed.decode_step_s[batch=8]` is a metric and its labels.

Suites, plans and records keep the string, which is what a reference prints as.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_NAME = re.compile(r"^(?P<base>[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*)(?:\[(?P<labels>[^\[\]]*)\])?$")


@dataclass(frozen=True)
class MetricRef:
    """A metric, and which of its flavours."""

    base: str
    """Name in `METRICS`."""
    labels: tuple[tuple[str, str], ...] = ()
    """(label, value) in the order written."""

    @classmethod
    def parse(cls, name: str) -> MetricRef:
        """Splits `a.b[k=v,l=w]` into `a.b` and its labels. Raises ValueError when it has another form."""
        return _parse(name)

    @classmethod
    def of(cls, base: str, **labels: object) -> MetricRef:
        """`MetricRef.of("routing.tokens", layer=0)` is `routing.tokens[layer=0]`."""
        return cls(base, tuple((label, str(value)) for label, value in labels.items()))

    def __str__(self) -> str:
        inside = ",".join(f"{label}={value}" for label, value in self.labels)
        return f"{self.base}[{inside}]" if inside else self.base

    @property
    def group(self) -> str:
        """What stands before the first dot: `speed`, `routing`, `test`."""
        return self.base.partition(".")[0]

    def get(self, label: str) -> str | None:
        """The value of a label; None without it."""
        return dict(self.labels).get(label)


@functools.lru_cache(maxsize=2**16)
def _parse(name: str) -> MetricRef:
    match = _NAME.match(name)
    if match is None:
        raise ValueError(f"{name[:60]!r} is not a metric name: write it as group.name or group.name[label=value]")
    labels: dict[str, str] = {}
    for part in filter(None, (match["labels"] or "").split(",")):
        label, equals, value = part.partition("=")
        if not equals or not label.strip() or not value.strip():
            raise ValueError(f"{name[:60]!r}: write labels as [label=value]")
        labels[label.strip()] = value.strip()
    return MetricRef(match["base"], tuple(labels.items()))


def labelled(base: str, **labels: object) -> str:
    """The name of a metric's flavour as records have it: `labelled("routing.tokens", layer=0)`."""
    return str(MetricRef.of(base, **labels))
