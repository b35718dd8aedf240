"""Vowels: local experts against one network, the experiment of Jacobs et al. 1991 (Neural Computation 3(1)).

Four vowels ([i] [I] [a] [^]) by their first two formants, two overlapping pairs; 75 speakers say each twice, 50 are
trained on. Local experts are linear and their gate is linear, trained by the loss that makes them compete, the negative
log of sum_i p_i exp(-|d - o_i|^2 / 2); a network has a layer of sigmoids and the squared error. One step of plain
gradient descent an epoch, at the rate that was best for the arm at seeds which no suite counts up to.

The formants are drawn from what was published of the original's (Peterson and Barney 1952, JASA 24(2)): the means of
men, women and children, and the scatter of logs over and within speakers. They are not the original measurements, so
neither are the accuracies.

Legend: N utterances, D inputs and a 1, V vowels, M experts, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moebench.experiments.experiment import Experiment
from moebench.metrics.metric import SHARE, Metric, Range
from moebench.seeds import generator

Array = NDArray[np.float64]

SPEAKERS = {"men": 33, "women": 27, "children": 15}
TRAINED_ON = 50
MEANS = {
    "men": ((270, 2290), (390, 1990), (730, 1090), (640, 1190)),
    "women": ((310, 2790), (430, 2480), (850, 1220), (760, 1400)),
    "children": ((370, 3200), (530, 2730), (1030, 1370), (850, 1590)),
}
"""Hz of F1 and F2 of each vowel (Peterson and Barney, Table II)."""
SCATTER = ((0.143, 0.060, 0.0), (0.148, 0.058, -0.2), (0.076, 0.096, 0.67), (0.074, 0.101, 0.0))
"""Of each vowel: SD of log F1 and log F2 over the utterances of men, and their correlation."""
WITHIN = ((0.054, 0.026), (0.102, 0.029), (0.039, 0.034), (0.022, 0.037))
"""Of these the SDs between two utterances of one speaker."""
TARGET = 0.84
"""Of the training utterances, told right."""
MOST_EPOCHS = 5000
INITIAL = 0.1
"""SD of the initial weights."""

RATES = {"experts_4": 2.0, "experts_8": 3.0, "hidden_6": 1.0, "hidden_12": 0.5}
"""Step of gradient descent on the mean over utterances: of 0.5, 1, 1.5, 2 and 3 the one with the fewest epochs at which
an arm got there with each of seeds 100 to 107."""

EPOCHS = Metric(
    name="vowels.epochs",
    unit="epochs",
    within=Range(low=0, whole=True),
    says=f"epochs of gradient descent until {TARGET:.0%} of the training utterances are told right",
    cannot="time: an epoch of one arm costs other operations than one of another",
)
TEST = Metric(
    name="vowels.test_accuracy",
    unit="1",
    better="higher",
    within=SHARE,
    chance=0.25,
    says="share of the utterances of 25 other speakers told right, at that epoch",
    cannot="what the original networks reached: the formants are drawn from published statistics",
)


class Vowels(NamedTuple):
    """Utterances: standardised formants with a 1, and which vowel each is."""

    x_ND: Array
    vowel_N: NDArray[np.int64]


def vowels(seed: int) -> tuple[Vowels, Vowels]:
    """The utterances of 50 speakers and of the other 25."""
    rng = generator(seed, "vowels")
    groups = rng.permutation(np.repeat(np.arange(len(SPEAKERS)), list(SPEAKERS.values())))
    means = np.log(np.array(list(MEANS.values()), dtype=np.float64))
    rows: list[Array] = []
    for group in groups:
        for vowel, ((f1, f2, correlation), within) in enumerate(zip(SCATTER, WITHIN, strict=True)):
            over = np.sqrt(np.array([f1, f2]) ** 2 - np.array(within) ** 2)
            one, other = rng.normal(size=2)
            speaker = over * [one, correlation * one + np.sqrt(1 - correlation**2) * other]
            rows += [means[group, vowel] + speaker + rng.normal(size=2) * within for _ in range(2)]
    formants_ND = np.exp(np.array(rows))
    vowel_N = np.tile(np.repeat(np.arange(4), 2), len(groups))
    trained = np.repeat(np.arange(len(groups)) < TRAINED_ON, 8)
    centre, spread = formants_ND[trained].mean(0), formants_ND[trained].std(0)
    x_ND = np.hstack([(formants_ND - centre) / spread, np.ones((len(formants_ND), 1))])
    return Vowels(x_ND[trained], vowel_N[trained]), Vowels(x_ND[~trained], vowel_N[~trained])


def softmax(logits_NM: Array) -> Array:
    shifted = np.exp(logits_NM - logits_NM.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


class LocalExperts:
    """Linear experts and a linear gate."""

    def __init__(self, experts: int, rng: np.random.Generator) -> None:
        self.weights = [rng.normal(0, INITIAL, (experts, 3, 4)), rng.normal(0, INITIAL, (3, experts))]

    def __call__(self, x_ND: Array) -> Array:
        experts_MDV, gate_DM = self.weights
        return np.asarray(np.einsum("nm,nd,mdv->nv", softmax(x_ND @ gate_DM), x_ND, experts_MDV))

    def gradient(self, x_ND: Array, wanted_NV: Array) -> list[Array]:
        """Of -log sum_i p_i exp(-|d - o_i|^2 / 2), mean over utterances."""
        experts_MDV, gate_DM = self.weights
        gate_NM = softmax(x_ND @ gate_DM)
        off_NMV = np.einsum("nd,mdv->nmv", x_ND, experts_MDV) - wanted_NV[:, None]
        likely_NM = gate_NM * np.exp(-0.5 * (off_NMV**2).sum(2))
        share_NM = likely_NM / likely_NM.sum(1, keepdims=True)
        experts = np.einsum("nd,nmv->mdv", x_ND, off_NMV * share_NM[:, :, None])
        return [experts / len(x_ND), x_ND.T @ (gate_NM - share_NM) / len(x_ND)]


class OneNetwork:
    """A layer of sigmoids and a linear one."""

    def __init__(self, hidden: int, rng: np.random.Generator) -> None:
        self.weights = [rng.normal(0, INITIAL, (3, hidden)), rng.normal(0, INITIAL, (hidden + 1, 4))]

    def _hidden(self, x_ND: Array) -> Array:
        active_NH = 1 / (1 + np.exp(-(x_ND @ self.weights[0])))
        return np.hstack([active_NH, np.ones((len(x_ND), 1))])

    def __call__(self, x_ND: Array) -> Array:
        return np.asarray(self._hidden(x_ND) @ self.weights[1])

    def gradient(self, x_ND: Array, wanted_NV: Array) -> list[Array]:
        """Of half of the squared error, mean over utterances."""
        hidden_NH = self._hidden(x_ND)
        off_NV = hidden_NH @ self.weights[1] - wanted_NV
        active_NH = hidden_NH[:, :-1]
        back_NH = (off_NV @ self.weights[1][:-1].T) * active_NH * (1 - active_NH)
        return [x_ND.T @ back_NH / len(x_ND), hidden_NH.T @ off_NV / len(x_ND)]


ARMS: dict[str, tuple[type[LocalExperts] | type[OneNetwork], int]] = {
    "experts_4": (LocalExperts, 4),
    "experts_8": (LocalExperts, 8),
    "hidden_6": (OneNetwork, 6),
    "hidden_12": (OneNetwork, 12),
}


def accuracy(model: LocalExperts | OneNetwork, spoken: Vowels) -> float:
    return float(np.mean(model(spoken.x_ND).argmax(1) == spoken.vowel_N))


def trained(arm: str, seed: int, *, rate: float | None = None) -> Iterator[tuple[LocalExperts | OneNetwork, float]]:
    """The model after each epoch, from the first, and its accuracy on what it is trained on."""
    spoken, _ = vowels(seed)
    kind, size = ARMS[arm]
    model = kind(size, generator(seed, f"vowels.{arm}"))
    wanted_NV, step = np.eye(4)[spoken.vowel_N], RATES[arm] if rate is None else rate
    while True:
        for weights, gradient in zip(model.weights, model.gradient(spoken.x_ND, wanted_NV), strict=True):
            weights -= step * gradient
        yield model, accuracy(model, spoken)


def _run(arm: str, seed: int) -> Mapping[str, float]:
    for epoch, (model, right) in enumerate(trained(arm, seed), start=1):
        if right >= TARGET:
            return {EPOCHS.name: epoch, TEST.name: accuracy(model, vowels(seed)[1])}
        if epoch == MOST_EPOCHS:
            break
    return {}


def _arms() -> dict[str, Any]:
    return {
        name: f"{size} linear experts" if kind is LocalExperts else f"one network of {size} hidden units"
        for name, (kind, size) in ARMS.items()
    }


EXPERIMENT = Experiment(
    says="four vowels by two formants, 50 speakers to train on and 25 to test",
    source="Jacobs, Jordan, Nowlan and Hinton 1991, Neural Computation 3(1); Peterson and Barney 1952",
    arms=_arms(),
    metrics=(EPOCHS, TEST),
    run=_run,
)
