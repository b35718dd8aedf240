"""What a precondition looks at."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from moebench.claims import coverage, likeness, reaching
from moebench.claims.hypothesis import Contrast, Term
from moebench.claims.samples import Sample
from moebench.planning.types import Plan
from moebench.reader.evidence import Evidence, Outcome
from moebench.suite.claim import Claim

FINAL_LOSS = "test.bits_per_byte"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A claim and its contrast, with what was drawn for it."""

    evidence: Evidence
    claim: Claim
    contrast: Contrast
    sample: Sample

    @property
    def plan(self) -> Plan:
        return self.evidence.plan

    @functools.cached_property
    def models(self) -> tuple[str, ...]:
        """The models it compares, those of weight 0 included: every point of a sweep, every rung of a ladder."""
        rungs = self.plan.rungs_of(self.claim)
        return tuple(dict.fromkeys((*self.contrast.models, *likeness.compared(self.claim, self.plan), *rungs)))

    @functools.cached_property
    def planned(self) -> tuple[str, ...]:
        """Those that the suite trains."""
        return tuple(name for name in self.models if name in self.plan.decoders)

    @functools.cached_property
    def alike(self) -> tuple[tuple[str, ...], ...]:
        """Those of them, in groups, that are to have read the same tokens: the models of a pair, by tokenizer and by
        what of the text they are trained on."""
        sweeps = self.plan.spec.sweeps
        several = (tuple(point for name in group for point in sweeps.get(name, (name,))) for group in self.claim.groups)
        groups = tuple(several) if len(self.claim.groups) > 1 else (self.planned,)
        kinds = {
            name: (self.plan.data_of(name).tokenizer, likeness.trained_on(self.plan, name)) for name in self.planned
        }
        return tuple(
            tuple(name for name in self.plan.spec.latest(group) if name in kinds and kinds[name] == kind)
            for group in groups
            for kind in dict.fromkeys(kinds.values())
        )

    @functools.cached_property
    def runs(self) -> tuple[Outcome, ...]:
        """Their runs that ran to an end."""
        if self.contrast.kind not in ("seeded", "event", "laddered"):
            return ()
        return tuple(run for run in self.evidence.outcomes_of(self.models) if run.done)

    @functools.cached_property
    def scoring(self) -> tuple[Outcome, ...]:
        """The completed runs whose evaluation the claim rests on, that of a model which sets the target too.

        None of those that were measured elsewhere: on what is not known here.
        """
        every = {*self.models, *self.plan.models_of(self.claim)}
        named = {name for name in every if not self.plan.is_external(name)}
        return tuple(run for run in self.evidence.outcomes_of(named) if run.status == "completed" and self.texts)

    @functools.cached_property
    def texts(self) -> frozenset[str]:
        """Which evaluations its metrics come from: `test`, `tune`, `curve`."""
        texts = filter(None, (coverage.text_of(term.metric) for term in self.contrast.terms))
        crosses = any(reaching.rests_on(term.metric) for term in self.contrast.terms)
        decays = reaching.curve_of(self.plan, self.plan.models_of(self.claim)) == reaching.DECAYED
        return frozenset([*texts, *(["test"] if crosses and decays else [])])


def is_trained(term: Term) -> bool:
    """Whether a metric is of what training made: a loss, or what experts are given, not a size or a time."""
    return term.facts.rests_on_loss or term.facts.of_mixtures or term.base.startswith("train.")
