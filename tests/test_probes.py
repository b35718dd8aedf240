"""Probes of routing: by hand, and where chance or the text alone would be taken for what a router does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moebench.data.batches import evaluation_windows
from moebench.metrics import MEASUREMENTS, METRICS
from moebench.metrics.metric import Record
from moebench.metrics.probes import PROBES, effort, locality, specialisation, stragglers
from moebench.metrics.probes.trace import Layer, Trace, trace
from moebench.models.decoder.subject import DecoderSubject
from moebench.suite.load import SuiteError, load_suite
from tests.support import small_corpora
from tests.support.small_models import architecture, built, dense, moe
from tests.support.tiny_suites import call_run, claim, planned, suite, write

pytestmark = pytest.mark.numeric

CORPUS = small_corpora.ordinary(context=16)
WINDOWS = evaluation_windows(CORPUS, "test", tokens=10_000)


def seen(
    experts_TK: NDArray[np.int64], *, experts: int, read: NDArray[np.int64] | None = None, a_document: int = 100
) -> Trace:
    """A trace of one mixture, layer 3 of a model, whose documents have so many tokens each."""
    positions, k = experts_TK.shape
    layer = Layer(layer=3, token_N=np.repeat(np.arange(positions), k), expert_N=experts_TK.ravel())
    return Trace(
        read_T=np.zeros(positions, np.int64) if read is None else read,
        nats_T=np.ones(positions),
        document_T=np.arange(positions) // a_document,
        experts=experts,
        layers=(layer,),
    )


def values(records: Any) -> dict[str, float | None]:
    return {record.metric: record.value for record in records}


def special(one: Trace, domains: list[str]) -> dict[str, float | None]:
    return values(specialisation.records(one, domains, step=1))


def local(one: Trace) -> dict[str, float | None]:
    return values(locality.records(one, step=1))


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------------------------------------- the trace


def test_a_trace_holds_the_scored_positions_and_what_their_routers_chose() -> None:
    model = built(architecture(moe(8, 2)))
    context: Any = SimpleNamespace(subject=DecoderSubject(model), text=WINDOWS)
    one = trace(context)
    assert np.array_equal(one.read_T, WINDOWS.inputs[WINDOWS.mask])
    assert np.array_equal(np.bincount(one.document_T), np.bincount(WINDOWS.document, weights=WINDOWS.mask.sum(1)))
    from torch import from_numpy

    routings = DecoderSubject(model).routings(from_numpy(WINDOWS.inputs))
    for layer, routing in zip(one.layers, routings, strict=True):
        chosen_NTK = routing.expert_N.numpy().reshape(*WINDOWS.inputs.shape, 2)
        assert np.array_equal(layer.expert_N.reshape(-1, 2), chosen_NTK[WINDOWS.mask])
        assert np.array_equal(layer.token_N, np.repeat(np.arange(len(one.read_T)), 2))
    bits = MEASUREMENTS["quality"].measure(_context(model)).items
    assert bits is not None
    assert one.nats_T.sum() / np.log(2) == pytest.approx(sum(row["bits"] for row in bits), rel=1e-5)


def _context(model: Any) -> Any:
    return SimpleNamespace(
        subject=DecoderSubject(model),
        text=WINDOWS,
        documents=CORPUS.documents("test"),
        split="test",
        step=5,
        batch=np.zeros((4, 17)),
        training_tokens=CORPUS.tokens("train"),
    )


@pytest.mark.parametrize("name", PROBES)
def test_every_probe_records_what_it_declares_of_a_mixture_and_nothing_of_a_dense_model(name: str) -> None:
    made = MEASUREMENTS[name].measure(_context(built(architecture(moe(8, 2)))))
    declared = {metric.name for metric in MEASUREMENTS[name].metrics}
    assert {record.metric.partition("[")[0] for record in made.records} == declared
    assert all(METRICS[name].asked_by and METRICS[name].same_each_time for name in declared)
    assert MEASUREMENTS[name].measure(_context(built(architecture(moe(8, 2))))).records == made.records
    assert MEASUREMENTS[name].measure(_context(built(architecture(dense())))).records == []


# ---------------------------------------------------------------------------------------------- specialisation


def test_an_expert_for_each_domain_is_all_that_there_is_to_know() -> None:
    """By hand: two domains, alike in size, told apart by their expert."""
    experts_TK = np.repeat([0, 1], 2000)[:, None]
    found = special(seen(experts_TK, experts=2), ["a"] * 20 + ["b"] * 20)
    assert found["specialisation.nmi"] == pytest.approx(1)
    assert found["specialisation.excess"] == found["specialisation.excess[layer=3]"]
    assert 0.9 < (found["specialisation.excess"] or 0) < 1


def test_information_by_hand() -> None:
    counts_ED = np.array([[3, 1], [1, 3]])
    joint = -(2 * 3 / 8 * np.log(3 / 8) + 2 / 8 * np.log(1 / 8))
    assert specialisation.shared(counts_ED) == pytest.approx(2 * np.log(2) - joint)
    assert specialisation.of_domain(counts_ED[None]) == pytest.approx((2 * np.log(2) - joint) / np.log(2))
    # Of two tokens, one of which tells nothing of the domain and of the other nothing is to be told.
    apart = np.array([[[4, 4], [4, 4]], [[0, 8], [0, 8]]])
    assert specialisation.given_token(apart) == pytest.approx(0)
    told = np.array([[[8, 0], [0, 8]], [[0, 8], [0, 8]]])
    assert specialisation.given_token(told) == pytest.approx(1)


def documents_of_one_expert(seed: int, *, documents: int = 60) -> Trace:
    """Each document goes to experts of its own choice, which have nothing to do with its domain."""
    taste = draws(seed).dirichlet(np.full(8, 0.3), size=documents)
    chosen = [draws(seed + 1 + one).choice(8, size=100, p=taste[one]) for one in range(documents)]
    return seen(np.concatenate(chosen)[:, None], experts=8)


def test_chance_is_of_documents_and_is_subtracted() -> None:
    """Mutual information is biased upwards, and more so where the tokens of a document go the same way."""
    domains = ["a", "b", "c"] * 20
    found = [special(documents_of_one_expert(100 * seed), domains) for seed in range(12)]
    biased = np.array([one["specialisation.nmi"] for one in found])
    excess = np.array([one["specialisation.excess"] for one in found])
    assert biased.min() > 0.01  # what a reader would take for specialisation
    assert abs(excess.mean()) < 3 * excess.std(ddof=1) / np.sqrt(len(excess))
    assert abs(excess.mean()) < biased.mean() / 5
    # Permuting tokens instead would leave most of it standing.
    one = documents_of_one_expert(0)
    domain_T = np.array([0, 1, 2] * 20)[one.document_T]
    by_tokens = [
        specialisation.of_domain(
            np.bincount(one.layers[0].expert_N * 3 + draws(turn).permutation(domain_T), minlength=24).reshape(1, 8, 3)
        )
        for turn in range(20)
    ]
    assert np.mean([value or 0 for value in by_tokens]) < (found[0]["specialisation.permuted"] or 0) / 3


def test_permuted_labels_have_no_specialisation() -> None:
    """The control: of a router that knows the domain, with the labels permuted."""
    domains = ["a"] * 30 + ["b"] * 30
    experts_TK = np.repeat([0, 1], 3000)[:, None]
    shuffled = [
        special(seen(experts_TK, experts=2), draws(seed).permutation(domains).tolist())["specialisation.excess"] or 0
        for seed in range(20)
    ]
    assert abs(np.mean(shuffled)) < 0.02
    assert special(seen(experts_TK, experts=2), domains)["specialisation.excess"] > 0.9  # type: ignore[operator]
    assert abs(special(seen(experts_TK, experts=2), domains)["specialisation.null"] or 0) < 0.02


def test_a_router_that_sees_the_token_alone_has_no_domains_left_given_the_token(monkeypatch: Any) -> None:
    """Code has other bytes than prose, so a table from bytes to experts looks like specialisation, and is words."""
    monkeypatch.setattr(specialisation, "LEAST_TOKENS", 1000)
    tokens = np.concatenate(
        [draws(0).choice(8, 4000, p=weights) for weights in (np.arange(1, 9) / 36, np.full(8, 1 / 8))]
    )
    table = seen(tokens[:, None] % 4, experts=4, read=tokens)
    domains = ["code"] * 40 + ["prose"] * 40
    found = special(table, domains)
    assert (found["specialisation.excess"] or 0) > 0.005
    assert abs(found["specialisation.given_token_excess"] or 0) < 1e-9
    assert found["specialisation.by_token"] == pytest.approx(1)
    # One that sees the domain alone keeps all of it, and no token tells anything.
    knows = seen(np.repeat([0, 1], 4000)[:, None], experts=4, read=tokens)
    found = special(knows, domains)
    assert (found["specialisation.given_token_excess"] or 0) > 0.9
    assert (found["specialisation.by_token"] or 0) < 0.1


def test_few_tokens_say_nothing_given_the_token() -> None:
    few = list(specialisation.records(seen(np.zeros((500, 1), np.int64), experts=2), ["a", "b"] * 3, step=1))
    apart = [record for record in few if record.metric.startswith("specialisation.given_token_nmi")]
    assert {record.reason for record in apart} == {"500 scored tokens, and 1 tokens by 2 experts take 100,000"}
    assert specialisation.too_few(seen(np.zeros((100_000, 1), np.int64), experts=2), 90) is None
    assert specialisation.too_few(seen(np.zeros((100_000, 1), np.int64), experts=32), 256) is not None


def test_a_text_of_one_domain_has_none_to_tell() -> None:
    one = list(specialisation.records(seen(np.zeros((500, 1), np.int64), experts=2), ["a"] * 5, step=1))
    reasons = {record.reason for record in one if record.metric.startswith("specialisation.nmi")}
    assert reasons == {"the scored text is of one domain"}


# ---------------------------------------------------------------------------------------------- locality


def least_recently_used(experts: list[int], size: int) -> int:
    """Hits, as the word says."""
    held: list[int] = []
    count = 0
    for expert in experts:
        count += expert in held
        held = [expert, *(one for one in held if one != expert)][:size]
    return count


def test_hits_of_every_size_of_cache() -> None:
    assert locality.hits(np.array([0, 1, 0, 2, 1, 1]), 3).tolist() == [0, 1, 2, 3]
    drawn = draws(3).integers(0, 8, 500)
    assert locality.hits(drawn, 8).tolist() == [least_recently_used(drawn.tolist(), size) for size in range(9)]


def test_experts_in_runs_are_local_and_the_same_in_random_order_are_not() -> None:
    """Even load in runs of 50 tokens: nearly every one is a hit, and in random order c / E of them are."""
    runs = np.repeat(draws(0).permutation(np.arange(80) % 8), 50)
    found = local(seen(runs[:, None], experts=8))
    assert (found["locality.hit_rate[cache=quarter]"] or 0) > 0.97
    assert found["locality.shuffled_hit_rate[cache=half]"] == pytest.approx(0.5, abs=0.03)
    assert (
        found["locality.gain[cache=half,layer=3]"] == found["locality.gain[cache=half]"] == pytest.approx(0.5, abs=0.03)
    )
    assert found["locality.null[cache=half]"] == pytest.approx(0, abs=0.03)


def test_uneven_load_alone_is_no_locality() -> None:
    """Independent draws of a skewed load hit often, and gain nothing over a random order."""
    weights = np.array([0.6, 0.2, 0.1, 0.04, 0.03, 0.01, 0.01, 0.01])
    gains = []
    for seed in range(10):
        found = local(seen(draws(seed).choice(8, (4000, 1), p=weights), experts=8))
        assert (found["locality.hit_rate[cache=quarter]"] or 0) > 0.5
        gains.append(found["locality.gain[cache=quarter]"])
    assert abs(np.mean(gains)) < 0.01


def test_a_random_order_keeps_the_experts_of_a_token_together() -> None:
    pairs = np.stack([np.arange(400) % 4, np.arange(400) % 4 + 4], axis=1)
    layer = seen(pairs, experts=8).layers[0]
    shuffled = locality.in_random_order(layer, 400, turn=0).reshape(-1, 2)
    assert np.array_equal(shuffled[:, 0] + 4, shuffled[:, 1])
    assert np.bincount(shuffled.ravel()).tolist() == np.bincount(pairs.ravel()).tolist()
    assert not np.array_equal(shuffled, pairs)


def test_a_cache_that_does_not_hold_a_token_is_none() -> None:
    records = list(locality.records(seen(draws(0).integers(0, 8, (100, 3)), experts=8), step=1))
    reasons: dict[str, Record] = {record.metric: record for record in records}
    assert reasons["locality.gain[cache=quarter]"].reason == "a cache of 2 does not hold the 3 experts of a token"
    assert reasons["locality.gain[cache=half]"].value is not None


# ---------------------------------------------------------------------------------------------- effort


def uneven(each_T: NDArray[np.int64], nats_T: NDArray[np.float64], experts: int = 4) -> Trace:
    """A trace whose positions have so many experts each."""
    token_N = np.repeat(np.arange(len(each_T)), each_T)
    layer = Layer(layer=0, token_N=token_N, expert_N=np.concatenate([np.arange(n) for n in each_T]))
    zeros = np.zeros(len(each_T), np.int64)
    return Trace(read_T=zeros, nats_T=nats_T, document_T=zeros, experts=experts, layers=(layer,))


def test_fixed_top_k_has_no_easy_tokens_and_one_that_gives_them_less_is_seen() -> None:
    """1, 2, 3 and 4 experts by quarters of difficulty: the easiest tenth has 1 and the mean is 2.5."""
    nats = draws(0).permutation(1000) / 100
    fixed = values(effort.records(uneven(np.full(1000, 2), nats), step=1))
    assert fixed["effort.easy_over_mean"] == 1
    assert {fixed[f"effort.experts[decile={part}]"] for part in range(1, 11)} == {2}
    more = values(effort.records(uneven((nats // 2.5).astype(int) + 1, nats), step=1))
    assert more["effort.easy_over_mean"] == pytest.approx(0.4)
    assert (more["effort.experts[decile=1]"], more["effort.experts[decile=10]"]) == (1, 4)
    # The control: the same numbers of experts, given whatever the difficulty.
    other = values(effort.records(uneven(draws(1).permutation((nats // 2.5).astype(int) + 1), nats), step=1))
    assert other["effort.easy_over_mean"] == pytest.approx(1, abs=0.1)


# ---------------------------------------------------------------------------------------------- stragglers


def waits(expert_TK: NDArray[np.int64], step_T: NDArray[np.int64], *, experts: int = 8) -> dict[str, float | None]:
    return values(stragglers.records(seen(expert_TK, experts=experts), step_T, step=1))


def test_a_step_waits_for_the_busiest_device() -> None:
    """By hand: 8 assignments of which 4 go to expert 0 and 2 to expert 1, on 2, 4 and 8 devices."""
    found = waits(np.array([[0], [0], [0], [0], [1], [1], [4], [7]]), np.zeros(8, np.int64))
    factors = [found[f"simulated.straggler_factor[devices={n}]"] for n in (2, 4, 8)]
    assert factors == [6 / 4, 6 / 2, 4 / 1]


def test_a_load_that_is_even_over_the_text_and_uneven_in_each_step_still_waits() -> None:
    """Each step uses two experts; all are used alike in the end. And what chance alone gives stands beside it."""
    step_T = np.repeat(np.arange(4), 100)
    found = waits(np.stack([2 * step_T, 2 * step_T + 1], axis=1), step_T)
    assert found["simulated.straggler_factor[devices=8]"] == 4
    assert 1 < (found["simulated.straggler_by_chance[devices=8]"] or 0) < 1.5
    even = waits(np.stack([np.arange(400) % 4, np.arange(400) % 4 + 4], axis=1), step_T)
    assert even["simulated.straggler_factor[devices=8]"] == 1


def test_a_short_step_counts_for_as_little_as_it_is() -> None:
    """9 assignments of which two go to one expert, then 1 alone: 3 units of time where 10 / 8 would do."""
    expert_TK = np.array([[0], [1], [2], [3], [4], [5], [6], [7], [0], [3]])
    found = waits(expert_TK, np.array([0] * 9 + [1]))
    assert found["simulated.straggler_factor[devices=8]"] == pytest.approx((2 + 1) / (9 / 8 + 1 / 8))


def test_a_step_reads_as_many_sequences_as_a_batch_of_training() -> None:
    one = _context(built(architecture(moe(8, 2))))
    factors = []
    for sequences in (1, 4, len(WINDOWS.inputs)):
        one.batch = np.zeros((sequences, 17))
        (first, *_) = MEASUREMENTS["stragglers"].measure(one).records
        factors.append(first.value)
    assert factors[0] > factors[1] > factors[2] > 1


def test_a_router_at_random_waits_as_chance_says() -> None:
    step_T = np.repeat(np.arange(40), 200)
    found = waits(draws(5).random((8000, 8)).argsort(1)[:, :2], step_T)
    for devices in (2, 4, 8):
        here = found[f"simulated.straggler_factor[devices={devices}]"]
        assert here == pytest.approx(found[f"simulated.straggler_by_chance[devices={devices}]"], abs=0.03)


def test_what_was_not_timed_says_so_and_experts_are_on_whole_devices() -> None:
    for metric in stragglers.METRICS:
        assert metric.name.startswith("simulated.")
        assert metric.says.startswith("SIMULATED")
    records = list(stragglers.records(seen(np.zeros((10, 1), int), experts=6), np.zeros(10, np.int64), step=1))
    reasons = {record.reason for record in records if record.value is None}
    assert reasons == {"6 experts are not 4 equal runs", "6 experts are not 8 equal runs"}


# ---------------------------------------------------------------------------------------------- the language


def test_a_probe_is_asked_for_by_name_and_a_claim_says_which_it_lacks(tmp_path: Any) -> None:
    one = claim(metric="locality.gain[cache=half]", model="moe", compare=None, test={"kind": "at_least", "value": 0.1})
    asks = {key: value for key, value in one.items() if value is not None}
    load_suite(write(tmp_path, measure={"probes": ["locality"]}, claims={"local": asks}))
    with pytest.raises(SuiteError, match=r"put locality into measure\.probes"):
        load_suite(write(tmp_path, claims={"local": asks}))
    with pytest.raises(SuiteError, match="did you mean 'locality'"):
        load_suite(write(tmp_path, measure={"probes": ["localty"]}))
    wrong = {"locality.gain": "write it as locality.gain\\[cache=quarter\\]", "locality.gain[cache=third]": "'third'"}
    for metric, hint in wrong.items():
        with pytest.raises(SuiteError, match=hint):
            load_suite(write(tmp_path, measure={"probes": ["locality"]}, claims={"local": {**asks, "metric": metric}}))
    dense_one = {"local": {**asks, "model": "dense"}}
    with pytest.raises(SuiteError, match="it has no router"):
        load_suite(write(tmp_path, measure={"probes": ["locality"]}, claims=dense_one))


def test_a_finished_suite_that_asks_for_a_probe_trains_nothing_and_probes_its_mixtures(tmp_path: Any) -> None:
    before = planned(tmp_path)
    after = planned(tmp_path, measure={"memory": False, "probes": ["locality"]})
    old, new = ({job.id: job for job in made.plan.jobs} for made in (before, after))
    added = [new[one] for one in new if one not in old]
    assert set(old) <= set(new)
    assert {(job.kind, job.measurement, job.model) for job in added} == {("evaluate", "locality", "moe")}
    assert len(added) == len(suite()["models"])  # one a seed


def test_probes_are_measured_read_and_reported(tmp_path: Any) -> None:
    """All of them, of one mixture: the reader knows their labels, a claim is judged, the report has their table."""
    asks = {
        "model": "moe",
        "metric": "simulated.straggler_factor[devices=2]",
        "test": {"kind": "at_least", "value": 1.01},
    }
    train = {"budget": {"steps": 6}, "evaluate": {"points": 3, "tokens": 256, "final_tokens": 512}}
    one = {"moe": suite()["models"]["moe"]}
    measure = {"memory": False, "probes": list(PROBES)}
    path = write(tmp_path, seeds=1, train=train, models=one, measure=measure, claims={"waits": asks})
    assert call_run(path).exit_code == 0
    table = (tmp_path / "reports" / "tiny" / "tables" / "probes.csv").read_text()
    for metric in ("locality.gain[cache=half]", "simulated.straggler_factor[devices=2]", "regret.best", "swap.turned"):
        assert (metric in table) == (metric != "simulated.straggler_factor[devices=2]")
    (verdict,) = json.loads((tmp_path / "reports" / "tiny" / "claims.json").read_text())["claims"]
    assert (verdict["n"], verdict["metric"]) == (1, asks["metric"])
