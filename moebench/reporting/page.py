"""The report as a reader meets it: the first screen, then each section with its figures and tables by name.

The same page makes html and markdown. What stands in a section is declared beside each figure and table; here it is
only put together. A part that is missing is a sentence with its reason, so that an absence is seen.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass

from moebench import __version__
from moebench.claims import coverage, likeness
from moebench.claims.verdict import Verdict
from moebench.format import TIMES, bracket, count, listed, params, plural, size_word, span
from moebench.jobs.recipe import TRAINING_VERSION
from moebench.metrics import METRICS
from moebench.metrics.ref import MetricRef
from moebench.planning.planned import PlannedCheckpoint
from moebench.reporting.analysis import Findings
from moebench.reporting.figures import FIGURES
from moebench.reporting.part import placed
from moebench.reporting.sections import SECTIONS, shown, source_text
from moebench.reporting.states import STATES, counted, decisive_p
from moebench.reporting.tables import TABLES
from moebench.suite.write import resolved_yaml


@dataclass(frozen=True, kw_only=True)
class Section:
    """One heading of the report."""

    anchor: str
    heading: str
    words: tuple[str, ...]
    figures: tuple[str, ...]
    tables: tuple[str, ...]


def sections(findings: Findings) -> list[Section]:
    """The report below its first screen, in order."""
    made = (
        Section(
            anchor=anchor,
            heading=heading,
            words=tuple(words(findings)),
            figures=placed(FIGURES, anchor, findings),
            tables=placed(TABLES, anchor, findings),
        )
        for anchor, (heading, words) in SECTIONS.items()
        if shown(findings, anchor)
    )
    return [section for section in made if section.words or section.figures or section.tables]


def answer(findings: Findings) -> str:
    """The first screen's one line: what became of the primary claims."""
    primary = [v for v in findings.verdicts if v.label == "primary"]
    if not findings.verdicts:
        return "This suite makes no claims: it only measures."
    if findings.plan.asked.smoke:
        return "A smoke run, which shows that the suite works and judges no claim."
    judged = [v for v in findings.verdicts if v.state != "cited"]
    if judged and not primary and all(v.units == "counts" for v in judged):
        exact, modelled = _counts(v for v in judged if not v.modelled), _counts(v for v in judged if v.modelled)
        told = f"Counted exactly, so nothing is left to chance: {exact}." if exact else ""
        return " ".join(filter(None, (told, f"Modelled by formula, not measured: {modelled}." if modelled else "")))
    if not primary:
        return "No primary claim; the verdicts below are exploratory."
    states = {v.state for v in primary}
    if len(primary) == 1:
        return f"The primary claim is {STATES[primary[0].state].lower()}, at this scale."
    if len(states) == 1:
        return f"All {len(primary)} primary claims are {STATES[states.pop()].lower()}, at this scale."
    counts = ", ".join(f"{n} {STATES[s].lower()}" for s, n in tally(primary).items() if n)
    return f"Primary claims, at this scale: {counts}."


MODELLED = "Modelled, not measured"


def tally(verdicts: tuple[Verdict, ...] | list[Verdict]) -> dict[str, int]:
    """Verdicts by state, every state named; citations, which are none, where there are any."""
    counts = {state: sum(v.state == state for v in verdicts) for state in STATES}
    return {state: n for state, n in counts.items() if n or state != "cited"}


def tallies(verdicts: tuple[Verdict, ...]) -> list[tuple[str, dict[str, int]]]:
    """A tally of the primary claims and one of the others, each with its name; without one that would be empty."""
    cited = [v for v in verdicts if v.state == "cited"]
    judged = [v for v in verdicts if v.state != "cited"]
    primary, others = ([v for v in judged if (v.label == "primary") is wanted] for wanted in (True, False))
    exact = not primary and all(v.units == "counts" for v in others)
    modelled = [v for v in others if v.modelled] if exact else []
    left = [v for v in others if not v.modelled] if exact else others
    named = (("Primary", primary), ("Counted" if exact else "Exploratory, uncorrected", left), (MODELLED, modelled))
    told = [(name, tally(chosen)) for name, chosen in named if chosen]
    return [*told, *([("Cited", {"cited": len(cited)})] if cited else [])]


def _counts(verdicts: Iterable[Verdict]) -> str:
    """`2 supported, 1 refuted`."""
    return ", ".join(f"{n} {STATES[state].lower()}" for state, n in tally(list(verdicts)).items() if n)


def at_a_glance(findings: Findings) -> list[str]:
    """Seeds, models, machine, tokens and date, for the line under the title."""
    plan = findings.plan
    machines = sorted({environment.machine for environment, _ in findings.study.environments})
    tokens = sorted({model.recipe.steps * model.recipe.batch_tokens for model in plan.trained.values()}) or [0]
    span = count(tokens[0]) if len(tokens) == 1 else f"{count(tokens[0])} to {count(tokens[-1])}"
    done = int(findings.study.runs["status"].isin(["completed", "diverged"]).sum())
    facts = [
        *_models(findings),
        f"{done} of {plural(len(plan.runs), 'run')} done" if plan.runs else "none trained",
        listed(machines) if machines else findings.study.stored.environment.machine,
        *([f"{span} tokens each"] if findings.trains else []),
        *([coverage.words(findings.study.scored)] if findings.study.scored is not None else []),
    ]
    facts += [words] if findings.course and (words := findings.course.words) else []
    facts += [f"with {value}" for value in plan.asked.sets]
    facts += ["at the best learning rates of its sweep"] if plan.asked.tuned else []
    return [*facts, date(findings.study.finished)] if findings.study.finished else facts


def _models(findings: Findings) -> list[str]:
    """How many models there are, and where those that were not trained here come from."""
    plan = findings.plan
    ours = f"{plural(len(plan.spec.seeds), 'seed')} {TIMES} {plural(len(plan.decoders), 'model')}"
    checkpoints = sum(isinstance(model, PlannedCheckpoint) for model in plan.models.values())
    read = sum(map(plan.is_external, plan.models))
    return [
        *([ours] if plan.decoders else []),
        *([plural(checkpoints, "checkpoint")] if checkpoints else []),
        *([f"{plural(read, 'model')} measured elsewhere"] if read else []),
        *([plural(len(plan.systems), "published system")] if not plan.models else []),
    ]


def date(at: float) -> str:
    """`21 Nov 2026`, in UTC."""
    return time.strftime("%d %b %Y", time.gmtime(at)).lstrip("0")


def scope(findings: Findings) -> str:
    """What "at this scale" means."""
    plan = findings.plan
    if len(plan.decoders) < len(plan.models):
        return _scope_elsewhere(findings)
    if not plan.models:
        return (
            "Published systems, counted from the sizes that their makers publish: no model was trained or timed. "
            "Which systems there are is a choice of this package. A count says nothing of quality or of time."
        )
    sizes = sorted(model.costs.params.total for model in plan.decoders.values())
    size = size_word(max(model.costs.params.active for model in plan.decoders.values()))
    steps = listed(map(str, sorted({model.recipe.steps for model in plan.trained.values()})))
    weights = f"trained for {steps} steps" if plan.trained else "at their initial values"
    contexts = sorted({model.architecture.context for model in plan.decoders.values()})
    unit = "bytes" if {plan.data_of(name).tokenizer for name in plan.decoders} == {None} else "tokens"
    span = " to ".join(dict.fromkeys(count(size) for size in (sizes[0], sizes[-1])))
    return (
        f"These are {size} models: {span} parameters, {weights} "
        f"on {source_text(findings)} with a context of {listed(map(str, contexts))} {unit}. "
        "Nothing here says what happens at another size, on other data or on other hardware."
    )


def _scope_elsewhere(findings: Findings) -> str:
    """The same where some models were not trained here."""
    plan = findings.plan
    if plan.experiments.keys() == plan.models.keys():
        sources = dict.fromkeys(arm.source for arm in plan.experiments.values())
        return f"These are no language models, but experiments after {' and '.join(sources)}."
    sizes = {name: total for name in plan.models if (total := plan.counts(name).get("cost.total_params")) is not None}
    span = (
        " to ".join(dict.fromkeys(params(int(size)) for size in (min(sizes.values()), max(sizes.values()))))
        if sizes
        else ""
    )
    unknown = [name for name in plan.models if name not in sizes]
    told = [f"These are models of {span} parameters" if span else "The sizes of these models are not known"]
    if span and unknown:
        told.append(f"that of {listed(unknown)} is not known")
    trained = [f"{listed(plan.trained)} trained here on {source_text(findings)}"] if plan.trained else []
    checkpoints = [name for name, model in plan.models.items() if isinstance(model, PlannedCheckpoint)]
    trained += [f"{listed(checkpoints)} as published"] if checkpoints else []
    trained += [f"{name}: {arm.says}" for name, arm in plan.experiments.items()]
    read = [name for name in plan.models if plan.is_external(name)]
    trained += [f"numbers of {listed(read)} as they were read, not verified"] if read else []
    return (
        f"{'; '.join(told)}: {'; '.join(trained)}. Nothing here says what happens at another size, with other data, "
        "tasks or prompts, or on other hardware."
    )


def evidence_line(verdict: Verdict) -> str:
    """`asked ≥ 0.5% lower · 8 seeds · p 0.0039`, then what no view may leave out.

    For a refuted claim the p is that of the refutation, and says so.
    """
    source = verdict.source
    if verdict.state == "cited":
        return "" if source is None else source.cited
    parts = [f"{verdict.finding} at this scale: {source.cited}"] if source is not None else []
    parts += [f"asked {verdict.asked}"] if verdict.asked else []
    n = counted(verdict)
    parts += ["exact count" if n == "exact" else n, decisive_p(verdict), *verdict.caveats]
    return " · ".join(part for part in parts if part)


def why(verdict: Verdict) -> str:
    """The verdict's reason, what it would need and its notes. No capitals are put on: a name may come first."""
    texts = [verdict.reason, verdict.needs, *verdict.notes]
    if verdict.item_low is not None and verdict.item_high is not None:
        signed = verdict.unit != "ratio"
        ends = bracket(verdict.item_low, verdict.item_high, verdict.unit, signed=signed)
        metric = next((part.metric for part in verdict.parts if part.id == verdict.shown), verdict.metric)
        what = "items" if MetricRef.parse(metric).base not in METRICS else "documents"
        texts.append(f"95% interval clustered over {what} {ends}")
    texts.append(likeness.listed(verdict.beside, verdict.treatment, verdict.baseline))
    return f"{'; '.join(text.rstrip('.') for text in texts if text)}."


def about(verdict: Verdict) -> str:
    """The models, the metric and the method of a verdict; the claims that it puts together."""
    pair = " against ".join(filter(None, (verdict.treatment, verdict.baseline)))
    claims = "" if verdict.metric else listed([part.id for part in verdict.parts])
    return ", ".join(filter(None, (pair, verdict.metric or claims, verdict.method)))


MEANING = {
    "interim": "INTERIM: not all planned runs are done, so there is an estimate but no verdict yet.",
    "invalid": "INVALID: a precondition failed, so the numbers do not answer the claim whichever way they point.",
    "inconclusive": "INCONCLUSIVE: the data do not decide; what would decide is stated with the claim.",
    "not_tested": "NOT TESTED: what the claim is about was not measured.",
    "cited": "CITED: what a source says of a definition or of history; it was not tested here, and is no verdict.",
}
"""What a state that is no answer means, for the first screen."""


def meanings(findings: Findings) -> list[str]:
    """The states on the page that are no answers, explained; a smoke run's one state is explained by its headline."""
    if findings.plan.asked.smoke:
        return []
    present = {verdict.state for verdict in findings.verdicts}
    return [text for state, text in MEANING.items() if state in present]


def provenance(findings: Findings) -> list[tuple[str, str]]:
    """Facts of where and from what this was made, as (name, value)."""
    plan, facts = findings.plan, []
    for environment, runs in findings.study.environments or ((findings.study.stored.environment, 0),):
        packages = ", ".join(f"{name} {version}" for name, version in sorted(environment.packages.items()))
        cores = plural(environment.cores, "core")
        memory = f", {environment.memory_bytes / 2**30:.0f} GiB" if environment.memory_bytes else ""
        facts += [
            (
                "Machine",
                f"{environment.machine} ({environment.cpu or 'CPU unknown'}, {cores}{memory})",
            ),
            ("System", f"{environment.os}, Python {environment.python}, {packages}"),
            ("Threads per run", str(environment.threads)),
            ("Commit", environment.git or "installed, no checkout"),
            ("Runs measured there", str(runs)),
        ]
        if environment.gpu:
            facts.insert(1, ("GPU", environment.gpu))
    return [
        *facts,
        ("Plan", plan.id),
        *([("Data digest", plan.data.digest)] if plan.data.tokens else []),
        *((f"Router {word}", str(router.code)) for word, router in plan.routers.items() if router.code),
        *([("Data source", str(plan.data.plugin))] if plan.data.plugin else []),
        ("Training recipe version", str(TRAINING_VERSION)),
        *_branches(findings),
        ("Report by", f"moebench {__version__}"),
        ("Rebuild this page", shlex.join(["moebench", "report", plan.title, "--results", findings.results_name])),
        ("Reproduce", plan.command),
    ]


def _branches(findings: Findings) -> list[tuple[str, str]]:
    """What decay branches cost on top of the runs that they left."""
    more, spent = (findings.study.of(name) for name in ("decayed.branch_flops", "train.executed_flops"))
    if more.empty:
        return []
    ends = spent.sort_values("step").groupby(["model", "seed"])["value"].last()
    share = more["value"].sum() / ends[list(zip(more["model"], more["seed"], strict=True))].sum()
    budgets = span([len(model.recipe.branches) for model in findings.plan.decoders.values() if model.recipe.branches])
    return [("Decay branches", f"{budgets} a run, {share:.0%} of its FLOPs more")]


def suite_text(findings: Findings) -> str:
    """The suite, resolved in full."""
    return resolved_yaml(findings.plan.told_spec(), losses=findings.plan.router_losses)


def title(findings: Findings) -> str:
    """Name of the suite, with its scale."""
    return findings.plan.title
