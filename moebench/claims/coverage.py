"""How much text a quality was scored on: asked and actual, bytes and documents.

An evaluation reads whole windows until it has what was asked, or all there is, or its limit of windows a document. A
verdict says what its loss was scored on; one that rests on a small part of what was asked, or on a single document, is
none.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from moebench.claims import reaching
from moebench.claims.verdict import Scored
from moebench.format import plural
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef, labelled
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome

MOST_OF_ASKED = 0.9
"""A verdict whose loss was scored on a smaller share of what was asked says so."""
LEAST_OF_ASKED = 0.25
"""Below this share there is no verdict, unless it is all the text there is."""
FEWEST_DOCUMENTS = 2
"""Below this there is no verdict: one document does not say how the loss varies over documents."""
FEW_BYTES = 4096
"""A verdict whose loss was scored on fewer bytes says so."""


def text_of(metric: str) -> str | None:
    """Which evaluation a metric comes from: `test` or `tune`, after the last step; `curve`, at the points; or none."""
    base = MetricRef.parse(metric).base
    if base.endswith("_to_quality"):
        return "curve"
    if base.startswith(("decayed.", "task.")):
        return "test"
    if base.startswith(("effective_", "leverage.")):
        return "test"
    group, _, name = base.partition(".")
    if metric_of(metric).of_scored_text:
        return "test"
    if group == "routing":
        return "test" if name == "domain_tokens" else "curve"
    return group if group in ("test", "tune", "curve") else None


def scored(evidence: Evidence, metric: str, models: Iterable[str]) -> Scored | None:
    """What a metric of these models was scored on: the least, where they differ; None where it is not known.

    A metric with a domain is scored on that domain's part of the text.
    """
    group, domain = text_of(metric), MetricRef.parse(metric).get("domain")
    if group is None:
        return None
    plan, models = evidence.plan, tuple(models)
    if reaching.rests_on(metric) and reaching.curve_of(plan, models) == reaching.DECAYED:
        group = "test"
    runs = evidence.outcomes_of(name for name in models if not plan.is_external(name))
    completed = (run for run in runs if run.status == "completed")
    read = [(counts, run.model) for run in completed if (counts := counts_of(run, group, domain)) is not None]
    if not read:
        return None
    (num_bytes, documents), model = min(read)
    name = model if model in plan.decoders else next(iter(plan.trained), None)
    asked, split, facts = num_bytes, group, plan.data
    if name is not None:  # a checkpoint is scored on what the suite's own models are
        recipe, facts = plan.decoders[name].recipe, plan.data_of(name)
        asked = recipe.eval_tokens if group == "curve" else recipe.final_eval_tokens
        split = recipe.split if group == "curve" else group
    there_are = facts.bytes_of(split)
    if name is not None and facts.tokenizer is not None and there_are is not None:  # tokens are asked
        asked = round(asked * there_are / (facts.tokens[split] - facts.documents[split]))
    return Scored(
        scored_bytes=num_bytes,
        documents=documents,
        asked_bytes=asked,
        there_are=there_are,
        domain=domain,
    )


def counts_of(run: Outcome, group: str, domain: str | None = None) -> tuple[int, int] | None:
    """Bytes and documents that a run scored, by its documents, or as it recorded them; None when it has neither."""
    items = [item for item in run.items.get(f"{group}.bits_per_byte", ()) if domain in (None, item.group)]
    if items:
        return sum(int(item.size) for item in items), len(items)
    labels = {} if domain is None else {"domain": domain}
    recorded = [run.values.get(labelled(f"{group}.scored_{what}", **labels)) for what in ("bytes", "documents")]
    return None if None in recorded else (int(recorded[0] or 0), int(recorded[1] or 0))


def documents_of(run: Outcome, group: str) -> Hashable | None:
    """The bytes of each document that a run was scored on: the same text when equal; None where they are not known."""
    items = run.items.get(f"{group}.bits_per_byte")
    return frozenset((item.name, item.group, item.size) for item in items) if items else None


# ---------------------------------------------------------------------------------------------- in words


def words(text: Scored) -> str:
    """`scored on 32,780 of 32,768 bytes requested, 41 documents`."""
    documents = f"{text.documents:,} document{'s' if text.documents != 1 else ''}"
    if text.domain is not None:
        return f"scored on {text.scored_bytes:,} bytes of {text.domain}, {documents}"
    return f"scored on {text.scored_bytes:,} of {text.asked_bytes:,} bytes requested, {documents}"


def too_little(evidence: Evidence, text: Scored, models: Iterable[str]) -> str | None:
    """Why what was scored is too little for any verdict, and what to do; None when it is not."""
    if text.documents < FEWEST_DOCUMENTS:
        return (
            f"evaluation: {words(text)}: one document does not say how quality varies over documents; give more or "
            "shorter documents, or ask for more bytes (`evaluate:`)"
        )
    if text.domain is None and not text.is_all and text.scored_bytes < LEAST_OF_ASKED * text.asked_bytes:
        return (
            f"evaluation: {words(text)}, below {LEAST_OF_ASKED:.0%}: {_limit(evidence.plan, models)}raise "
            "`windows_per_document` or leave it out, or ask for fewer bytes (`evaluate:`)"
        )
    return None


def caveat(text: Scored) -> str | None:
    """The same in a few words."""
    if text.domain is None and text.scored_bytes < MOST_OF_ASKED * text.asked_bytes:
        return f"{text.scored_bytes / text.asked_bytes:.0%} of the text requested"
    return None


def note(evidence: Evidence, text: Scored, models: Iterable[str]) -> str | None:
    """What a reader must know of the amount of text; None when all that was asked was scored and that is not little."""
    if text.domain is None and text.scored_bytes < MOST_OF_ASKED * text.asked_bytes:
        why = "all the text there is" if text.is_all else _limit(evidence.plan, models).removesuffix(": ")
        share = (
            f"only {text.scored_bytes / text.asked_bytes:.0%} of the {text.asked_bytes:,} bytes requested were scored"
        )
        return f"{share}: {why}" if why else share
    if text.scored_bytes < FEW_BYTES:
        return f"only {text.scored_bytes:,} bytes were scored"
    return None


def _limit(plan: Plan, models: Iterable[str]) -> str:
    recipes = (plan.decoders[name].recipe for name in models if name in plan.decoders)
    limits = [r.windows_per_document for r in recipes if r.windows_per_document is not None]
    most = max(limits, default=0)
    return f"at most {plural(most, 'window')} of each document {'are' if most != 1 else 'is'} read: " if limits else ""
