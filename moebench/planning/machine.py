"""This machine in the planner's eyes: what it is, and how long a step takes where a budget is in seconds.

How long a whole plan takes is known to `rehearsal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from moebench.counting.costs import costs_of
from moebench.data.documents import DataError
from moebench.data.tokenizer import BYTES, vocab_of
from moebench.environment import environment
from moebench.identity import digest_of
from moebench.jobs.calibrate import STEP, TIMED_STEPS, CalibrateSpec
from moebench.jobs.job import Job
from moebench.jobs.train import run_of
from moebench.launch import LaunchOptions, launch
from moebench.planning.feasibility import Misfit
from moebench.planning.matching import Machine, PlanError, match_all, recipe_of
from moebench.planning.planned import DataFacts, PlannedModel
from moebench.store import Results
from moebench.suite.load import LoadedSuite
from moebench.suite.types import SuiteSpec


class CalibrationFailed(RuntimeError):  # noqa: N818  the name is read in `except CalibrationFailed`
    """A budget in seconds could not be turned into steps, for its model could not be timed."""


def machine(*, device: str = "cpu", threads: int = 1) -> Machine:
    """The machine as part of a speed session's identity: timings of another processor or torch are another session."""
    here = environment(threads)
    fingerprint = digest_of([here.cpu, here.cores, here.gpu, here.packages.get("torch"), threads])
    return Machine(device=device, fingerprint=fingerprint, memory_bytes=here.memory_bytes)


def with_step_seconds(
    base: Machine, loaded: LoadedSuite, *, vocab: int, views: Mapping[str, DataFacts], options: LaunchOptions
) -> Machine:
    """The machine with the step time of every model whose budget is in seconds, measured or as stored.

    Raises CalibrationFailed, and Stopped after a signal.
    """
    spec = loaded.spec
    architectures, _ = match_all(spec, vocab=vocab, views=views)
    asked: dict[str, Job] = {}
    for name, a in architectures.items():
        train = spec.decoders[name].train
        if train is None or train.budget.seconds is None or spec.decoders[name].is_transformed:
            continue
        recipe = recipe_of(train, steps=TIMED_STEPS)
        costs = costs_of(a.blueprint, dtype=recipe.dtype)
        planned = PlannedModel(architecture=a, recipe=recipe, costs=costs, expected_train_flops=0.0)
        run = run_of(planned, seed=0, facts=no_facts(), machine=base)
        asked[name] = Job(
            kind="calibrate",
            spec=CalibrateSpec(run=run, machine=base.fingerprint).model_dump(mode="json"),
            model=name,
            suite=spec.suite,
            threads=options.threads,
            device=base.device,
            data=spec.data,
            base=loaded.base,
            exclusive=True,
            fresh=True,
        )
    return replace(base, step_seconds=_timed(asked, options))


def _timed(jobs: dict[str, Job], options: LaunchOptions) -> dict[str, float]:
    """Model -> seconds of one optimizer step."""
    results, reasons = Results(options.root), dict[str, str]()

    def listen(event: dict[str, object]) -> None:
        if event["event"] == "failed":
            reasons[str(event["run"])] = f"{event['status']}: {event['reason']}"

    results.make_room()
    launch([*jobs.values()], LaunchOptions(**{**vars(options), "on_event": listen}))
    for job in jobs.values():
        if job.id in reasons:
            raise CalibrationFailed(f"calibration of {job.model} failed: {reasons[job.id]}")
    return {name: float(results.job(job.id).read(STEP)["step_s"]) for name, job in jobs.items()}


def no_facts() -> DataFacts:
    """Stands for data where a plan does not depend on them."""
    return DataFacts(
        source="none", digest="none", documents={}, tokens={}, domains=(), leak_share=0.0, leak_threshold=1.0
    )


def expected_vocabularies(spec: SuiteSpec, *, base: Path) -> tuple[int, dict[str, DataFacts]]:
    """The tokens of the suite's tokenizer, and what stands for the data of models of another, before any text is read.

    Raises PlanError for a tokenizer that cannot be had, at its place.
    """
    vocab, views = BYTES.vocab, dict[str, DataFacts]()
    at: tuple[str, ...] = ("data", "tokenizer")
    try:
        if spec.data.source != "none":
            vocab = vocab_of(spec.data.tokenizer, base=base)
        for name in spec.apart:
            at = ("models", name, "data", "tokenizer")
            tokens = vocab_of(spec.data_of(name).tokenizer, base=base)
            views[name] = no_facts().model_copy(update={"vocab": tokens, "domains": spec.data.domains()})
    except DataError as error:
        raise PlanError(Misfit(message=str(error), at=at)) from None
    return vocab, views
