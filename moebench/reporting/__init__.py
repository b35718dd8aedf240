"""From a results folder to `reports/<suite>/`: a page, its figures and tables, and the verdicts for machines.

`build` is the way in, `build_all` the one with a page over all suites, `build_claims` writes the page of the catalogue
from reports that are made. Nothing here loads torch, reads a clock or draws
a random number: the same results give the same bytes. A figure or table declares its section beside its function, and
is one line in `figures.FIGURES` or `tables.TABLES`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moebench.text import plain, visible

if TYPE_CHECKING:
    from moebench.catalogue import Catalogue
    from moebench.claims.verdict import ControlResult, Verdict
    from moebench.planning.types import StoredPlan
    from moebench.reporting.analysis import Findings
    from moebench.reporting.answers import Answers
    from moebench.reporting.canvas import Drawn
    from moebench.store import Source

FORMATS = ("html", "md", "csv", "json", "svg", "png")
"""What can be asked for. html and md bring the svg figures with them; both without svg bring the leading ones alone:
index.md then points to index.html for the others."""
DEFAULT = ("html", "md", "csv", "json", "svg")
"""What is made unless told: a page that opens, in a few seconds. `png` is for papers and slides."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One report on disk."""

    path: Path
    """Its folder, such as reports/quickstart."""
    suite: str
    """`suite` or `suite@scale`."""
    plan: str
    """Id of the plan that was judged."""
    verdicts: tuple[Verdict, ...]
    controls: tuple[ControlResult, ...]
    smoke: bool
    """Whether it is of a smoke run, which judges nothing."""

    @property
    def page(self) -> Path:
        """The page to open, if html was asked for."""
        return self.path / "index.html"


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The page of all suites, and the reports it leads to."""

    path: Path
    """Its folder, such as reports."""
    reports: tuple[Report, ...]
    failures: Mapping[str, str]
    """Suite -> why it has no report."""

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.path / "index.html"


def build(
    results_root: Path | str,
    *,
    suite: str | None = None,
    plan_id: str | None = None,
    out: Path | str | None = None,
    formats: Iterable[str] = DEFAULT,
) -> list[Report]:
    """Writes a report for each suite of a results folder, or for one, from whatever is there; partial results too.

    `suite` is a suite's name, or `name@scale`; without a scale all its scales are reported. Of several plans of one
    suite and scale the newest counts, unless `plan_id` names one. Reports go to `out`/<suite>/, `out` being `reports`
    by default. Raises ValueError for an unknown format, KeyError when no stored plan fits, UnsafeName when a report
    would be written outside `out`.
    """
    from moebench.store import newest, open_results

    wanted = _wanted(formats)
    results = open_results(Path(results_root))
    stored = newest(plan for plan in results.plans() if plan_id in (None, plan.plan.id) and not plan.plan.asked.pilot)
    chosen = [plan for plan in stored if suite is None or suite in {plan.plan.suite, plan.plan.title}]
    if not chosen:
        if not Path(results_root).is_dir():
            raise KeyError(f"{results_root}: no such folder")
        known = ", ".join(plan.plan.title for plan in stored)
        asked = (suite or "any suite") + (f" with id {plan_id}" if plan_id else "")
        raise KeyError(f"{results_root} holds no plan of {asked}" + (f"; it has: {known}" if known else ""))
    folder = Path("reports") if out is None else Path(out)
    name = _typed_name(Path(results_root))
    places = [_inside(folder, plan.plan.title) for plan in chosen]
    chosen_places = zip(chosen, places, strict=True)
    return [_report(_findings(results, plan, name), place, wanted) for plan, place in chosen_places]


def build_all(results_root: Path | str, *, out: Path | str | None = None, formats: Iterable[str] = DEFAULT) -> Overview:
    """A report for each suite of a results folder, and `out`/index.html and index.md over them.

    A suite whose report cannot be made stands there with the reason, and the others are made. Raises ValueError for an
    unknown format, KeyError when no plan is stored at all.
    """
    from moebench.reporting import overview, render
    from moebench.store import newest, open_results

    wanted = _wanted(formats)
    root, folder = Path(results_root), Path("reports") if out is None else Path(out)
    results, name = open_results(root), _typed_name(root)
    unreadable = [f"{problem.path.name}: {problem.reason}" for problem in results.unreadable_plans()]
    reports, entries, failures = [], [], {}
    for stored in newest(plan for plan in results.plans() if not plan.plan.asked.pilot):
        title = stored.plan.title
        try:
            findings = _findings(results, stored, name)
            reports.append(_report(findings, _inside(folder, title), wanted))
            entries.append(overview.entry(findings, link=overview.link_to(title, wanted)))
        except Exception as error:  # whatever it is, it is no reason to lose the others
            why = f"{type(error).__name__}: {error}".replace(str(results.root), name).replace(str(root), name)
            failures[title] = plain(why, most=500)
            entries.append(overview.failed(title, stored.plan.spec.question, failures[title]))
    if not entries and not unreadable:
        raise KeyError(f"{results_root} holds no plan of any suite" if root.is_dir() else f"{root}: no such folder")
    claims = claims_link(folder)
    for file, content in (("index.html", render.overview_html), ("index.md", render.overview_markdown)):
        (folder / file).unlink(missing_ok=True)
        _put(folder / file, content(entries, unreadable, name, claims))
    return Overview(path=folder, reports=tuple(reports), failures=failures)


CLAIMS = "claims"
"""Folder of the catalogue's page among the reports."""


@dataclass(frozen=True, kw_only=True)
class ClaimsPage:
    """The page of the catalogue on disk."""

    path: Path
    """Its folder, such as reports/claims."""
    found: Answers

    @property
    def page(self) -> Path:
        """The page to open, if html was asked for."""
        return self.path / "index.html"


def build_claims(
    out: Path | str | None = None, *, formats: Iterable[str] = DEFAULT, listed: Catalogue | None = None
) -> ClaimsPage:
    """Writes `out`/claims/: every claim of the catalogue with the verdicts of the reports that lie in `out`.

    Raises ValueError for an unknown format, UnsafeName when it would be written outside `out`.
    """
    from moebench.catalogue import catalogue
    from moebench.reporting import render
    from moebench.reporting.answers import answers, as_csv, as_json

    wanted = _wanted(formats)
    folder = Path("reports") if out is None else Path(out)
    path = _inside(folder, CLAIMS)
    found = answers(listed or catalogue(), folder)
    command = shlex.join(["moebench", "report", "--claims", "--out", _typed_name(folder)])
    contents: dict[str, Callable[[], str]] = {
        "index.html": lambda: render.claims_html(found, command),
        "index.md": lambda: render.claims_markdown(found, command),
        "claims.csv": lambda: as_csv(found),
        "claims.json": lambda: json.dumps(as_json(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    for file, content in contents.items():
        (path / file).unlink(missing_ok=True)
        if Path(file).suffix.removeprefix(".") in wanted:
            _put(path / file, content())
    return ClaimsPage(path=path, found=found)


def claims_link(out: Path) -> str | None:
    """Address of the catalogue's page from the overview beside it; None where there is none."""
    names = (f"index.{kind}" for kind in ("html", "md"))
    return next((f"{CLAIMS}/{name}" for name in names if (out / CLAIMS / name).is_file()), None)


def _wanted(formats: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(formats)
    if wanted - set(FORMATS):
        raise ValueError(f"unknown format {', '.join(sorted(wanted - set(FORMATS)))}; known: {', '.join(FORMATS)}")
    return wanted


def _inside(out: Path, title: str) -> Path:
    """A report's folder. Raises UnsafeName when it, or a folder that is written in it, leads outside `out`."""
    from moebench.store import UnsafeName

    path = out / title
    for folder in (path, path / "figures", path / "tables"):
        if out.resolve() not in folder.resolve().parents:
            raise UnsafeName(f"the report of {title!r} would be written outside {out}")
    return path


def _typed_name(root: Path) -> str:
    """The results folder as a reader would type it: no path of this machine."""
    return root.name if root.is_absolute() else root.as_posix()


def _findings(results: Source, stored: StoredPlan, name: str) -> Findings:
    """What a plan's results say; its evidence is read here, once."""
    from moebench.claims.controls import check_controls
    from moebench.claims.judge import course
    from moebench.claims.sealing import withdrawn
    from moebench.metrics import in_force
    from moebench.reader.evidence import gather
    from moebench.reporting.analysis import Findings
    from moebench.reporting.study import study

    gathered = gather(results, stored)
    with in_force(gathered.metrics):
        taken = course(gathered)
        evidence = taken.evidence
        return Findings(
            study=study(evidence),
            verdicts=taken.verdicts,
            course=taken,
            controls=tuple(check_controls(evidence)),
            results_name=name,
            withdrawn=withdrawn(evidence),
        )


def _report(findings: Findings, path: Path, wanted: frozenset[str]) -> Report:
    from moebench.metrics import in_force

    with in_force(findings.plan.extra_metrics):
        write(findings, path, wanted)
    plan = findings.plan
    return Report(
        path=path,
        suite=plan.title,
        plan=plan.id,
        verdicts=findings.verdicts,
        controls=findings.controls,
        smoke=plan.asked.smoke,
    )


def write(findings: Findings, path: Path, wanted: frozenset[str]) -> None:
    """Writes one report's files under `path`."""
    from moebench.reporting import render
    from moebench.reporting.figures import FIGURES
    from moebench.reporting.svg import png_file, svg_file
    from moebench.reporting.tables import TABLES, made
    from moebench.reporting.theme import settings

    _clear(path, {*FIGURES}, {*TABLES})
    tables = made(findings)
    if "json" in wanted:
        _put(path / "claims.json", _claims_json(findings))
    if "csv" in wanted:
        for name, table in tables.items():
            _put(path / "tables" / f"{name}.csv", table.csv())
    drawn: dict[str, Drawn | str] = {}
    svgs: dict[str, bytes] = {}
    with settings():
        if wanted & {"html", "md", "svg", "png"}:
            drawn = {name: make(findings) for name, make in FIGURES.items() if make.asked(findings)}
        few = wanted >= {"html", "md"} and "svg" not in wanted
        files = {name for name, figure in FIGURES.items() if figure.leading or not few}
        for name, figure in drawn.items():
            if isinstance(figure, str):
                continue
            if wanted & {"html", "md", "svg"}:
                svgs[name] = svg_file(figure)
            if name in svgs and name in files:
                _put(path / "figures" / f"{name}.svg", svgs[name])
            if "png" in wanted:
                _put(path / "figures" / f"{name}.png", png_file(figure))
    if "html" in wanted:
        _put(path / "index.html", render.html(findings, tables, drawn, svgs))
    if "md" in wanted:
        _put(path / "index.md", render.markdown(findings, tables, drawn, files))


def _claims_json(findings: Findings) -> str:
    from moebench.reporting import page

    value: dict[str, Any] = {
        "suite": findings.plan.suite,
        "scale": findings.plan.scale,
        "question": findings.plan.spec.question,
        "plan": findings.plan.id,
        "scored": None if findings.study.scored is None else findings.study.scored.model_dump(mode="json"),
        "counts": page.tally(findings.verdicts),
        "primary": page.tally([verdict for verdict in findings.verdicts if verdict.label == "primary"]),
        "exploratory": page.tally([verdict for verdict in findings.verdicts if verdict.label != "primary"]),
        "claims": [_claim_json(verdict) for verdict in findings.verdicts],
        "withdrawn": [asdict(one) for one in findings.withdrawn],
        "controls": [control.model_dump(mode="json") for control in findings.controls],
    }
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _claim_json(verdict: Verdict) -> dict[str, Any]:
    finding = {"finding": verdict.finding} if verdict.source is not None else {}
    return {**verdict.model_dump(mode="json"), "label": verdict.standing, **finding}


def _clear(path: Path, figures: set[str], tables: set[str]) -> None:
    """Removes what an earlier report left, so that nothing stale stands beside what is new."""
    stale = [path / "figures" / f"{name}.{kind}" for name in figures for kind in ("svg", "png")]
    stale += [path / "tables" / f"{name}.csv" for name in tables]
    for file in (*stale, path / "index.html", path / "index.md", path / "claims.json"):
        file.unlink(missing_ok=True)


def _put(path: Path, content: str | bytes) -> None:
    """Writes one file; in text, which may hold words of anybody, nothing acts on a screen or page unseen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content.decode() if isinstance(content, bytes) and path.suffix == ".svg" else content
    path.write_bytes(visible(text).encode() if isinstance(text, str) else text)
