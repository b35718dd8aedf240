"""The load on the text that was trained on: of the training split, not of the test, in the shares that it has there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moebench.data.tokenizer import BYTES
from moebench.metrics.probes import training_load
from moebench.models.subject import LayerRouting

CONTEXT, EXPERTS = 8, 4


class ByByte:
    """Sends each token to the expert that its byte says, in both layers."""

    device, tokenizer, experts, mixtures = torch.device("cpu"), BYTES, EXPERTS, (1, 2)

    def score(self, inputs: torch.Tensor, targets: torch.Tensor, *, greedy: bool = False) -> Any:
        expert_N = inputs.reshape(-1) % EXPERTS
        routing = LayerRouting(layer=1, token_N=torch.arange(inputs.numel()), expert_N=expert_N, dropped=0)
        return SimpleNamespace(logprob_BT=-torch.ones(targets.shape), greedy_BT=None, routings=(routing, routing))


def measured(stream: NDArray[np.uint8] | None, test: NDArray[np.int64]) -> dict[str, float | None]:
    text = SimpleNamespace(inputs=test.reshape(-1, CONTEXT))
    context: Any = SimpleNamespace(subject=ByByte(), training_tokens=stream, text=text, step=3)
    return {record.metric: record.value for record in training_load._measure(context).records}


def test_the_load_is_that_of_the_training_text() -> None:
    skewed = np.array([4] * 95 + [5] * 5, dtype=np.uint8).repeat(16)
    np.random.default_rng(0).shuffle(skewed)
    even = np.arange(1600, dtype=np.int64) % EXPERTS
    values = measured(skewed, even)
    assert list(values) == [
        "training_load.max_over_mean",
        *(f"{training_load.NAME}.max_over_mean[layer={i}]" for i in (1, 2)),
    ]
    assert all(value == pytest.approx(0.95 * EXPERTS, rel=0.02) for value in values.values())
    assert measured(even.astype(np.uint8), skewed.astype(np.int64))["training_load.max_over_mean"] == pytest.approx(
        1, abs=0.02
    )


def test_windows_are_from_all_over_the_text_as_many_for_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_load, "TOKENS", 80)
    stream = np.arange(5000)
    text = training_load.windows(stream, CONTEXT)
    assert text.inputs.shape == (10, CONTEXT)
    assert np.array_equal(text.inputs + 1, text.targets)
    assert text.inputs[0, 0] == 0
    assert text.targets[-1, -1] > 4980
    assert training_load.windows(stream[:50], CONTEXT).inputs.shape == (6, CONTEXT), "all there is"


def test_of_what_was_trained_elsewhere_it_is_not_known() -> None:
    assert measured(None, np.zeros(16, dtype=np.int64)) == {"training_load.max_over_mean": None}
