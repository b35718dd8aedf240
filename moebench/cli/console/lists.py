"""What `moebench list` prints: one function a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from moebench.cli.console import printed, table


def listing(what: str | None) -> str:
    """`moebench list`: one section, or all of them. In a pipe a thing is one line, however long."""
    chosen = [what] if what else list(LISTS)
    tables = (table(name, COLUMNS.get(name, ("name", "what it is")), LISTS[name](), left=5) for name in chosen)
    return "\n\n".join(printed(table, plain_width=1000) for table in tables)


def _suites() -> list[tuple[str, str]]:
    from moebench.suite.load import bundled_suites

    return list(bundled_suites())


def _models() -> list[tuple[str, str]]:
    from moebench.systems import shape, systems, undisclosed

    rows = [
        (s.name, f"{s.year}, {shape(s.blueprint) if s.blueprint else f'not counted: moebench inspect {s.name}'}")
        for s in systems()
    ]
    return rows + [(one.name, one.says) for one in undisclosed()]


def _systems() -> list[tuple[str, str, str, str, str]]:
    from moebench.suite.designs import designs
    from moebench.systems import systems

    of: dict[str, list[str]] = {}
    for s in systems():
        if s.design is not None:
            of.setdefault(s.design, []).append(s.name + (f" ({s.differs})" if s.differs else ""))
    rows = [
        (name, design.words, design.apart or "-", design.equal_to or "-", ", ".join(of.get(name, ["-"])))
        for name, design in designs().items()
    ]
    own = [
        ("-", s.suite or "no words", s.apart or "-", "-", s.name)
        for s in systems()
        if s.design is None and s.kind == "moe"
    ]
    return rows + own


def _routers() -> list[tuple[str, str, str, str, str]]:
    from moebench.models.routers import REFUSED, described, known_routers, options_of, router_class
    from moebench.plugins import PluginError

    rows = []
    for word in known_routers():
        try:
            router = router_class(word)
        except PluginError as error:
            rows.append((word, str(error), "?", "-", "of an installed package"))
            continue
        options = ", ".join(f"{option} (needed)" if option in router.needs else option for option in options_of(router))
        says, source = described(word, router)
        rows.append((word, says, "yes" if router.causal else "NO", options or "-", source))
    return rows + [(word, f"refused: {why}", "NO", "-", "-") for word, why in REFUSED.items()]


def _metrics() -> list[tuple[str, str, str]]:
    from moebench.metrics import BROKEN, METRICS

    rows = [
        (
            m.name + (f"[{','.join(m.labels)}]" if m.labels else ""),
            f"{m.says} ({m.unit}; {m.kind}; {m.better} is better)",
            m.cannot,
        )
        for m in METRICS.values()
        if m.retired is None
    ]
    what = "a metric of a task of lm-eval, asked for under measure.lm_eval (direction and version are the task's)"
    rows.append(("lm_eval.METRIC[task=NAME]", what, "quality on other tasks, or with other prompts"))
    return rows + [(name, f"of an installed package: {why}", "anything") for name, why in BROKEN.items()]


def _claims() -> list[tuple[str, str, str]]:
    from moebench.claims.kinds import KINDS

    return [(word, _first_line(kind), kind.example) for word, kind in KINDS.items()]


def _sources() -> list[tuple[str, str]]:
    from moebench.data.sources import SOURCES

    return [(name, source.says) for name, source in SOURCES.items()]


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0] if thing.__doc__ else ""


LISTS: dict[str, Callable[[], Iterable[Sequence[object]]]] = {
    "suites": _suites,
    "models": _models,
    "systems": _systems,
    "routers": _routers,
    "metrics": _metrics,
    "claims": _claims,
    "sources": _sources,
}

COLUMNS = {
    "claims": ("kind of test", "what it claims", "an example under claims"),
    "metrics": ("metric", "what it says", "what it cannot say"),
    "routers": ("router", "what it does", "causal", "options it reads under ffn", "published in"),
    "systems": ("design", "how to write it under ffn", "differences", "computed equal to", "published systems"),
}
"""Headings of the lists that have more than a name and what it is."""
