"""Loss spikes: told by hand, and of a finished run without training it again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moebench import api
from moebench.metrics.spikes import BEFORE, spikes
from moebench.store import Results
from tests.support.tiny_suites import planned


def test_spikes_by_hand() -> None:
    losses = np.tile([1.0, 3.0], 60)  # median 2, median deviation 1, so a spike is above 2 + 3 * 1.4826
    assert spikes(losses) == 0
    losses[110] = 6.4
    assert spikes(losses) == 0
    losses[110] = 6.5
    losses[5] = 100.0  # held against nothing
    assert spikes(losses) == 1
    assert spikes(losses[:BEFORE]) == 0


def test_steady_noise_has_few_spikes_and_a_falling_loss_fewer() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=20_000)
    assert 15 <= spikes(noise) <= 80, "one in 700, and a few more since the deviation is that of 100 steps"
    assert spikes(noise - 0.1 * np.arange(20_000)) == 0


@pytest.mark.parametrize("steps", [12, 140])
def test_a_finished_run_is_asked_for_its_spikes(tmp_path: Path, steps: int) -> None:
    trained: list[set[str]] = []
    for quality in (["bits_per_byte"], ["bits_per_byte", "spikes"]):
        made = planned(tmp_path, train={"budget": {"steps": steps}}, measure={"memory": False, "quality": quality})
        api.run_planned(made, reports=tmp_path / "reports")
        trained.append({job.id for job in made.plan.jobs if job.kind == "train"})
    assert trained[0] == trained[1]
    results = Results(tmp_path / "results")
    for job in made.plan.jobs:
        if job.measurement == "spikes":
            (record,) = results.job(job.id).records()
            losses = np.array([row["loss"] for row in results.job(job.inputs[0]).steps()])
            if steps > BEFORE:
                assert record.value == spikes(losses)
            else:
                assert record.value is None
                assert record.reason == "12 steps of training: more than 100 tell"
