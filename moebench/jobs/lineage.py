"""How a model comes about that starts from another of the suite: the jobs of those it comes of, and of its own stage.

A stage is a transform of the other's weights, or a training that begins with them. A training that begins at an earlier
point of the other's has that one taken again to there first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from moebench.jobs import train
from moebench.jobs.job import Job
from moebench.jobs.kind import Draft
from moebench.jobs.recipe import Recipe, Run
from moebench.jobs.replay import ReplaySpec
from moebench.planning.planned import PlannedDerivation


@dataclass(kw_only=True)
class Lineage:
    """The jobs that give models of a plan their runs with one seed, each once."""

    draft: Draft
    seed: int
    made: dict[str, Job]
    """Model -> the job that gives its run; those that are known."""
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    """What trains a model that another comes of, of its own recipe."""
    jobs: dict[str, Job] = field(default_factory=dict)
    """Id -> job that was asked for and not known, each after those it starts from."""

    def of(self, model: str) -> Job:
        """The job that gives a model its run."""
        if model not in self.made:
            self.made[model] = self.stage(model, self.recipe(self.draft.plan.decoders[model].recipe))
        return self.made[model]

    def stage(self, model: str, recipe: Recipe) -> Job:
        """The job that makes a model by a recipe: from scratch, or of the model that it starts from."""
        from moebench.jobs import transform

        planned = self.draft.plan.decoders[model]
        if planned.derived is None:
            return self._keep(train.job(self.draft, model, self.seed, recipe))
        parent = self.of(planned.derived.model)
        if planned.transform is not None:
            return self._keep(transform.job(self.draft, model, self.seed, parent=parent))
        begun = parent if planned.derived.at is None else self._replay(model, planned.derived, parent)
        plain = train.job(self.draft, model, self.seed, recipe)
        run = Run.model_validate(plain.spec).model_copy(update={"derived": self.draft.plan.derivation(model)})
        return self._keep(plain.model_copy(update={"spec": run.model_dump(mode="json"), "inputs": (begun.id,)}))

    def _replay(self, model: str, derived: PlannedDerivation, parent: Job) -> Job:
        """The job that takes the run of the other again."""
        derivation = self.draft.plan.derivation(model)
        assert derivation is not None
        assert derivation.at is not None
        assert derived.at is not None
        other = [] if derived.at.other is None else [self.of(derived.at.other)]
        spec = ReplaySpec(run=Run.model_validate(parent.spec), until=derivation.at)
        inputs = (parent.id, *(job.id for job in other))
        return self._keep(
            self.draft.job("replay", spec.model_dump(mode="json"), model=derived.model, seed=self.seed, inputs=inputs)
        )

    def _keep(self, job: Job) -> Job:
        return self.jobs.setdefault(job.id, job)
