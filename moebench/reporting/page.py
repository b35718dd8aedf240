"""The report as a reader meets it: sections in order, each a few sentences with figures and tables by name.

The same `Section`s make the html page and the markdown page. A part that is missing is a sentence with its reason; no
section is left out for want of data, so that an absence is seen.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

from moebench import __version__
from moebench.claims import coverage, likeness
from moebench.claims.verdict import Verdict
from moebench.format import TIMES, bracket, count, interval, listed, plural, sentence, size_word
from moebench.jobs.recipe import TRAINING_VERSION
from moebench.reader.runs import AGAIN
from moebench.reporting.analysis import Findings, cost_label
from moebench.reporting.states import STATES, counted, decisive_p
from moebench.suite.write import resolved_yaml


@dataclass(frozen=True, kw_only=True)
class Section:
    """One heading of the report."""

    anchor: str
    heading: str
    words: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


def sections(found: Findings) -> list[Section]:
    """The report below its first screen, in order."""
    return [
        Section(anchor="answer", heading="The figure that answers it", figures=_answering(found)),
        Section(anchor="equal", heading="What was equal", words=tuple(_equal(found)), tables=("match",)),
        Section(
            anchor="cost",
            heading="What it cost",
            words=tuple(_cost(found)),
            figures=("costs", "latency"),
            tables=("costs", "timings", "memory"),
        ),
        Section(
            anchor="quality",
            heading="Quality",
            words=tuple(_quality(found)),
            figures=("quality", "loss"),
            tables=("quality",),
        ),
        Section(anchor="place", heading="Where it sits", figures=("fronts",)),
        Section(anchor="routing", heading="Routing", figures=_routing(found), tables=("routing",)),
        Section(
            anchor="sure",
            heading="How sure",
            words=tuple(_sure(found)),
            figures=("tuning",),
            tables=("controls", "smallest"),
        ),
        Section(
            anchor="untested", heading="What was not tested", words=tuple(_untested(found)), tables=("unfinished",)
        ),
        Section(
            anchor="limits",
            heading="Known limits of the method",
            words=(
                "The interval is exact for effects that are independent and symmetric about their centre.",
                "What to expect of others is simulated here; a pair that rules, a skew or a dependence that shows in a "
                "claim's own pairs is noted on its verdict.",
                "A claim that was inspected k times has its p multiplied by k. That bounds each inspection, not their "
                "sum: over 2, 3 and 5 disjoint sets of seeds a false verdict turns up somewhere in at most 3.7%, 4.5% "
                "and 5.6%. Fix the seeds before the first run.",
            ),
            tables=("limits",),
        ),
    ]


def _answering(found: Findings) -> tuple[str, ...]:
    """A sweep is asked for only where the suite has one."""
    return ("answer", "sweep") if found.plan.spec.sweeps else ("answer",)


def _routing(found: Findings) -> tuple[str, ...]:
    """What was refused is asked only where a model has a capacity."""
    ffns = [model.architecture.ffn for model in found.plan.models.values()]
    capped = any(getattr(ffn, "capacity_factor", None) is not None for ffn in ffns)
    return ("load", "balance", "dropped", "domains") if capped else ("load", "balance", "domains")


def answer(found: Findings) -> str:
    """The first screen's one line: what became of the primary claims."""
    primary = [v for v in found.verdicts if v.label == "primary"]
    if not found.verdicts:
        return "This suite makes no claims: it only measures."
    if found.plan.asked.smoke:
        return "A smoke run, which shows that the suite works and judges no claim."
    if not primary:
        return "No primary claim; the verdicts below are exploratory."
    states = {v.state for v in primary}
    if len(primary) == 1:
        return f"The primary claim is {STATES[primary[0].state].lower()}, at this scale."
    if len(states) == 1:
        return f"All {len(primary)} primary claims are {STATES[states.pop()].lower()}, at this scale."
    counts = ", ".join(f"{n} {STATES[s].lower()}" for s, n in tally(primary).items() if n)
    return f"Primary claims, at this scale: {counts}."


def tally(verdicts: tuple[Verdict, ...] | list[Verdict]) -> dict[str, int]:
    """Verdicts by state, every state named."""
    return {state: sum(v.state == state for v in verdicts) for state in STATES}


def tallies(verdicts: tuple[Verdict, ...]) -> list[tuple[str, dict[str, int]]]:
    """A tally of the primary claims and one of the others, each with its name; without one that would be empty."""
    primary, others = ([v for v in verdicts if (v.label == "primary") is wanted] for wanted in (True, False))
    named = (("Primary", primary), ("Exploratory, uncorrected", others))
    return [(name, tally(found)) for name, found in named if found]


def at_a_glance(found: Findings) -> list[str]:
    """Seeds, models, machine, tokens and date, for the line under the title."""
    plan = found.plan
    machines = sorted({environment.machine for environment, _ in found.held.environments})
    tokens = sorted({model.recipe.steps * model.recipe.batch_tokens for model in plan.models.values()})
    span = count(tokens[0]) if len(tokens) == 1 else f"{count(tokens[0])} to {count(tokens[-1])}"
    done = int(found.held.runs["status"].isin(["completed", "diverged"]).sum())
    facts = [
        f"{plural(len(plan.spec.seeds), 'seed')} {TIMES} {plural(len(plan.models), 'model')}",
        f"{done} of {plural(len(plan.runs), 'run')} done",
        listed(machines) if machines else found.held.stored.environment.machine,
        f"{span} tokens each",
        *([coverage.words(found.held.scored)] if found.held.scored is not None else []),
    ]
    facts += [f"with {value}" for value in plan.asked.sets]
    facts += ["at the best learning rates of its sweep"] if plan.asked.tuned else []
    return [*facts, date(found.held.finished)] if found.held.finished else facts


def _source(found: Findings) -> str:
    source = found.plan.data.source
    return source if source.endswith("text") else f"{source} text"


def date(at: float) -> str:
    """`21 Nov 2026`, in UTC."""
    return time.strftime("%d %b %Y", time.gmtime(at)).lstrip("0")


def scope(found: Findings) -> str:
    """What "at this scale" means."""
    plan = found.plan
    sizes = sorted(model.costs.params.total for model in plan.models.values())
    size = size_word(max(model.costs.params.active for model in plan.models.values()))
    steps = sorted({model.recipe.steps for model in plan.models.values()})
    contexts = sorted({model.architecture.context for model in plan.models.values()})
    span = " to ".join(dict.fromkeys(count(size) for size in (sizes[0], sizes[-1])))
    return (
        f"These are {size} models: {span} parameters, trained for {listed(map(str, steps))} steps on "
        f"{_source(found)} with a context of {listed(map(str, contexts))} bytes. "
        "Nothing here says what happens at another size, on other data or on other hardware."
    )


def evidence_line(verdict: Verdict) -> str:
    """`asked ≥ 0.5% lower · 8 seeds · p 0.0039`, then what no view may leave out.

    For a refuted claim the p is that of the refutation, and says so.
    """
    parts = [f"asked {verdict.asked}"] if verdict.asked else []
    n = counted(verdict)
    parts += ["exact count" if n == "exact" else n, decisive_p(verdict), *verdict.caveats]
    return " · ".join(part for part in parts if part)


def why(verdict: Verdict) -> str:
    """The verdict's reason, what it would need and its notes. No capitals are put on: a name may come first."""
    said = [verdict.reason, verdict.needs, *verdict.notes]
    if verdict.item_low is not None and verdict.item_high is not None:
        signed = verdict.unit != "ratio"
        ends = bracket(verdict.item_low, verdict.item_high, verdict.unit, signed=signed)
        said.append(f"95% interval clustered over documents {ends}")
    said.append(likeness.listed(verdict.beside, verdict.treatment, verdict.baseline))
    return f"{'; '.join(text.rstrip('.') for text in said if text)}."


MEANING = {
    "interim": "INTERIM: not all planned runs are done, so there is an estimate but no verdict yet.",
    "invalid": "INVALID: a precondition failed, so the numbers do not answer the claim whichever way they point.",
    "inconclusive": "INCONCLUSIVE: the data do not decide; what would decide is stated with the claim.",
    "not_tested": "NOT TESTED: what the claim is about was not measured.",
}
"""What a state that is no answer means, for the first screen."""


def meanings(found: Findings) -> list[str]:
    """The states on the page that are no answers, explained; a smoke run's one state is explained by its headline."""
    if found.plan.asked.smoke:
        return []
    present = {verdict.state for verdict in found.verdicts}
    return [text for state, text in MEANING.items() if state in present]


# ---------------------------------------------------------------------------------------------- words of the sections


def _equal(found: Findings) -> Iterator[str]:
    data = found.plan.data
    tokens = " / ".join(f"{count(n)} {split}" for split, n in data.tokens.items())
    domains = f"; domains: {listed(data.domains)}" if data.domains else ""
    yield f"Data: {_source(found)} ({tokens} tokens{domains}), digest {data.digest[:16]}."
    done = int(found.held.runs["status"].isin(["completed", "diverged"]).sum())
    if found.held.unlike:
        yield f"Runs with the same seed did NOT read identical data: {'; '.join(found.held.unlike)}."
    elif found.held.alike:
        every = f"All {done} runs" if done > 2 else "Both runs"
        yield (
            f"{every} read identical data, seed by seed: runs with one seed have equal digests of the tokens they "
            "consumed, as far as the shorter run goes."
        )
    else:
        yield "Whether runs with one seed read identical data is not known: no two of them are done."
    state = "below" if data.leak_share <= data.leak_threshold else "ABOVE"
    yield (
        f"Contamination check: {100 * data.leak_share:.2g}% of the test split's 50-byte windows occur in the training "
        f"split, {state} the threshold of {100 * data.leak_threshold:.2g}%."
    )
    if data.entropy_bits_per_byte is not None:
        floor = f"{data.entropy_bits_per_byte:.4f} bits per byte"
        yield f"The entropy rate of the source, {floor}, is the lowest possible loss."
    if not found.plan.matches:
        yield "No model is matched to another in size or compute."
    for note in dict.fromkeys((*data.notes, *found.plan.warnings)):
        named = note.partition(":")[0] in found.plan.models  # a name keeps its letters
        yield f"{note}." if named else sentence(note)


def _cost(found: Findings) -> Iterator[str]:
    held = found.held
    if held.speed_reason:
        yield f"No timings: {held.speed_reason}."
        return
    planned = len(found.plan.speed.processes) if found.plan.speed else 0
    have = held.speed["process"].nunique()
    yield (
        f"Speed session: {plural(have, 'fresh process', 'fresh processes')}"
        + (f" of {planned} planned" if have < planned else "")
        + ", every model in each, timed in rotating blocks while no other job of the suite runs."
    )
    again = [r for r in found.ratios if r.model.endswith(AGAIN)]
    if again and again[0].ratio.bounded:
        widest = max(again, key=lambda r: r.ratio.high / r.ratio.low)
        size = interval(widest.ratio.centre, widest.ratio.low, widest.ratio.high, "ratio")
        yield f"{found.baseline} vs itself (A/A): the widest 95% interval is {size}, of {widest.label}."
    if found.baseline and found.other_steps:
        tokens = found.plan.models[found.baseline].recipe.micro_batch_tokens
        sizes = listed(f"{model} ({size:,})" for model, size in found.other_steps.items())
        yield (
            f"Training steps are timed on one micro-batch, so those of {sizes} are not compared with those of "
            f"{found.baseline} ({tokens:,} tokens): give all models the same `micro_batch_tokens`."
        )
    wide = [c.metric for c in found.controls if c.state == "too_wide" and c.id.startswith("against_itself")]
    if wide:
        which = listed(cost_label(metric) for metric in wide)
        yield f"A/A is too wide to tell whether the machine was quiet for {which}: see How sure."
    for metric, text in (("speed.train_utilisation", "of the measured matmul peak in a training step"),):
        shares = _derived(found, metric)
        if shares:
            yield f"Utilisation {text}: " + ", ".join(f"{m} {100 * share:.0f}%" for m, share in shares.items()) + "."


def _derived(found: Findings, metric: str) -> dict[str, float]:
    """Mean of a derived metric over processes, by model."""
    shares: dict[str, list[float]] = {}
    for process in found.held.processes:
        for model, derived in process.get("derived", {}).items():
            if metric in derived and not model.endswith(AGAIN):
                shares.setdefault(model, []).append(derived[metric])
    return {model: sum(values) / len(values) for model, values in shares.items()}


def _quality(found: Findings) -> Iterator[str]:
    if found.quality.empty:
        yield "No run has a final loss yet."
    else:
        yield "Quality is cross-entropy alone, without auxiliary router losses."
    diverged = found.held.runs[found.held.runs["status"] == "diverged"]
    if len(diverged):
        by_model = ", ".join(f"{model} {n}" for model, n in diverged["model"].value_counts(sort=False).items())
        lost = plural(len(diverged), "run")
        yield f"{lost} diverged ({by_model}): counted as the worst value in the verdicts, left out of these means."


def _sure(found: Findings) -> Iterator[str]:
    if not found.controls:
        yield "No control was asked for, or none could be run."
    failed = [c for c in found.controls if c.state == "failed"]
    if failed:
        names = listed(c.id for c in failed)
        yield f"{plural(len(failed), 'control')} FAILED: {names}. Do not trust the verdicts that rest on them."
    wide = [c for c in found.controls if c.state == "too_wide"]
    if wide:
        yield f"Controls too wide to tell: {'; '.join(f'{c.id} {c.effect} (99%): {c.reason}' for c in wide)}."
    for control in found.controls:
        if control.id == "same_model" and control.estimate is not None:
            yield f"{control.model} vs itself with other seeds: {control.effect} (99% interval, {control.n})."
    looks = max((verdict.looks for verdict in found.verdicts), default=1)
    again = f" Other runs or sessions of the same models count, so p is multiplied by up to {looks}."
    again = again if looks > 1 else ""
    yield f"Times the results were inspected: {looks}.{again}"
    late = [v.id for v in found.verdicts if v.post_hoc]
    if late:
        yield f"Post hoc, so exploratory: {listed(late)}; what each came after is in its verdict."
    if found.withdrawn:
        named = "; ".join(f"{one.id} (“{one.says.rstrip('.')}”)" for one in found.withdrawn)
        yield f"Primary claims withdrawn or changed since they were stored: {named}. Holm counts the largest family."


def _untested(found: Findings) -> Iterator[str]:
    for verdict in found.verdicts:
        if verdict.state in {"not_tested", "invalid", "interim"}:
            yield f"{STATES[verdict.state].capitalize()}: {verdict.id}: {verdict.reason}."
    counts = found.held.runs["status"].value_counts()
    left = {status: int(counts.get(status, 0)) for status in ("missing", "partial", "failed", "corrupt", "diverged")}
    if any(left.values()):
        said = ", ".join(f"{n} {status}" for status, n in left.items() if n)
        yield f"Of {plural(len(found.held.runs), 'planned run')}: {said}."
    elif not any(v.state in {"not_tested", "invalid", "interim"} for v in found.verdicts):
        yield "Every claim was tested, and every planned run is complete."


def provenance(found: Findings) -> list[tuple[str, str]]:
    """Facts of where and from what this was made, as (name, value)."""
    plan, facts = found.plan, []
    for environment, runs in found.held.environments or ((found.held.stored.environment, 0),):
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
        ("Data digest", plan.data.digest),
        *((f"Router {word}", str(router.code)) for word, router in plan.routers.items() if router.code),
        *([("Data source", str(plan.data.plugin))] if plan.data.plugin else []),
        ("Training recipe version", str(TRAINING_VERSION)),
        ("Report by", f"moebench {__version__}"),
        ("Rebuild this page", shlex.join(["moebench", "report", plan.title, "--results", found.results_name])),
        ("Reproduce", plan.command),
    ]


def suite_text(found: Findings) -> str:
    """The suite, resolved in full."""
    return resolved_yaml(found.plan.told_spec(), losses=found.plan.router_losses)


def title(found: Findings) -> str:
    """Name of the suite, with its scale."""
    return found.plan.title
