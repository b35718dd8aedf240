"""Specialisation: how much the domain of a text says about the experts that its tokens go to.

    nmi = I(expert; domain) / H(domain),   given the token: I(expert; domain | token) / H(domain | token)

Mutual information of a sample is above 0 by chance, and tokens of a document are not independent, so what chance gives
is found by permuting the domains over whole documents, and subtracted. Much of what looks like domains is words: code
has other bytes than prose, and a router that sees the byte alone tells them apart. Given the token, that part is gone.

Legend: N assignments, E experts, D domains, V distinct tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from moebench.metrics.measurement import Context, Measured, Measurement
from moebench.metrics.metric import SHARE, Better, Metric, Range, Record
from moebench.metrics.probes.trace import Layer, Trace, rounded, trace
from moebench.seeds import generator

NAME = "specialisation"
PERMUTATIONS = 20
LEAST_TOKENS, LEAST_A_CELL = 100_000, 50
"""Scored tokens that it takes to ask it of every token apart: in all, and for each token and expert."""
DIFFERENCE = Range(low=-1, high=1)


def _metric(
    name: str, says: str, cannot: str, *, within: Range = SHARE, better: Better = "neither", by_layer: bool = False
) -> Metric:
    return Metric(
        name=f"{NAME}.{name}", unit="1", better=better, labels=("layer",) if by_layer else (), whole=by_layer,
        within=within, asked_by=(NAME,), of_mixtures=True, same_each_time=True, of_scored_text=True, says=says,
        cannot=cannot,
    )  # fmt: skip


def _four(prefix: str, formula: str, cannot: str) -> tuple[Metric, Metric, Metric, Metric]:
    """A share, what chance gives of it, what it is above that, and what chance is above chance."""
    return (
        _metric(f"{prefix}nmi", f"{formula}, mean of layers", f"anything yet: chance gives some, see {prefix}excess"),
        _metric(
            f"{prefix}permuted",
            f"{formula} with the domains permuted over documents, mean of {PERMUTATIONS} permutations",
            "anything about a router: it is what chance gives",
        ),
        _metric(
            f"{prefix}excess",
            f"what {formula} is above that of permuted domains",
            cannot,
            within=DIFFERENCE,
            better="higher",
            by_layer=True,
        ),
        _metric(
            f"{prefix}null",
            f"what {formula} of {PERMUTATIONS} other permutations is above that of the first: 0 but for chance",
            "anything about a router: it shows that chance was subtracted",
            within=DIFFERENCE,
        ),
    )


OF_DOMAIN = _four(
    "", "I(expert; domain) / H(domain)", "whether it is more than words: code has other tokens, see given_token_excess"
)
GIVEN_TOKEN = _four(
    "given_token_",
    "I(expert; domain | token) / H(domain | token)",
    "what besides the token tells the domains apart: the tokens before it, their style or their subject",
)
BY_TOKEN = _metric(
    "by_token",
    "I(expert; token) / H(expert): how much of which expert is taken is told by the token, mean of layers",
    "domains; a table from tokens to experts has all that its number of experts a token allows",
    by_layer=True,
)

METRICS = (*OF_DOMAIN, *GIVEN_TOKEN, BY_TOKEN)


def entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the last axis, in nats; 0 where nothing was counted."""
    total = counts.sum(-1, keepdims=True)
    share = counts / np.maximum(total, 1)
    nats: NDArray[np.float64] = -(share * np.log(np.where(share > 0, share, 1))).sum(-1)
    return nats


def shared(counts_ED: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mutual information of the last two axes, in nats."""
    joint = entropy(counts_ED.reshape(*counts_ED.shape[:-2], -1))
    return np.maximum(entropy(counts_ED.sum(-1)) + entropy(counts_ED.sum(-2)) - joint, 0)


def of_domain(counts_VED: NDArray[np.int64]) -> float | None:
    """I(expert; domain) / H(domain); None where the text is of one domain."""
    counts_ED = counts_VED.sum(0)
    uncertain = float(entropy(counts_ED.sum(0)))
    return float(shared(counts_ED)) / uncertain if uncertain > 0 else None


def given_token(counts_VED: NDArray[np.int64]) -> float | None:
    """I(expert; domain | token) / H(domain | token); None where the token tells the domain."""
    weight_V = counts_VED.sum((1, 2))
    uncertain = float((weight_V * entropy(counts_VED.sum(1))).sum())
    return float((weight_V * shared(counts_VED)).sum()) / uncertain if uncertain > 0 else None


def _counts(seen: Trace, layer: Layer, word_T: NDArray[np.int64], domain_of: NDArray[np.int64]) -> NDArray[np.int64]:
    """Assignments by token, expert and domain: [V, E, D]."""
    shape = (int(word_T.max()) + 1, seen.experts, int(domain_of.max()) + 1)
    domain_N = domain_of[seen.document_T[layer.token_N]]
    cell_N = np.ravel_multi_index((word_T[layer.token_N], layer.expert_N, domain_N), shape)
    return np.bincount(cell_N, minlength=int(np.prod(shape))).reshape(shape)


def too_few(seen: Trace, words: int) -> str | None:
    """Why there is no answer given the token; None where there are tokens enough."""
    needed = max(LEAST_TOKENS, LEAST_A_CELL * words * seen.experts)
    if len(seen.read_T) >= needed:
        return None
    return f"{len(seen.read_T):,} scored tokens, and {words:,} tokens by {seen.experts} experts take {needed:,}"


def _measure(context: Context) -> Measured:
    seen = trace(context)
    return rounded(records(seen, [one.domain for one in context.documents], step=context.step))


def records(seen: Trace, domain_of_document: list[str], *, step: int | None) -> Iterator[Record]:
    """By layer, and the means of layers."""
    words, word_T = np.unique(seen.read_T, return_inverse=True)
    truth, orders = labellings(seen, domain_of_document)
    few = too_few(seen, len(words))
    by_layer = []
    for layer in seen.layers:
        counts = [_counts(seen, layer, word_T, domain_of) for domain_of in (truth, *orders)]
        by_token = _by_token(counts[0])
        by_layer.append((*_against_chance(counts, of_domain), *_against_chance(counts, given_token), by_token))
    for metric, values in zip(METRICS, zip(*by_layer, strict=True), strict=True) if by_layer else ():
        why = few if metric in GIVEN_TOKEN else None
        for layer, value in zip(seen.layers, values, strict=True) if metric.labels else ():
            yield _record(metric, value, why, step=step, layer=layer.layer)
        mean = None if None in values else float(np.mean(values))
        yield _record(metric, mean, why, step=step)


def labellings(seen: Trace, domain_of_document: list[str]) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Document -> number of its domain: as it is, and permuted over the documents that are scored, twice 20 times."""
    _, truth = np.unique(domain_of_document, return_inverse=True)
    there = np.unique(seen.document_T)
    orders = []
    for turn in range(2 * PERMUTATIONS):
        domain_of = truth.copy()
        domain_of[there] = generator(turn, NAME).permutation(truth[there])
        orders.append(domain_of)
    return truth, orders


def _against_chance(
    counts: list[NDArray[np.int64]], share: Callable[[NDArray[np.int64]], float | None]
) -> tuple[float | None, ...]:
    """A share, the mean of the first permutations, what the share is above it, and what the others are."""
    values = [share(one) for one in counts]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return (None,) * 4
    here, chance = known[0], known[1:]
    first, other = float(np.mean(chance[:PERMUTATIONS])), float(np.mean(chance[PERMUTATIONS:]))
    return here, first, here - first, other - first


def _by_token(counts_VED: NDArray[np.int64]) -> float | None:
    counts_VE = counts_VED.sum(2)
    uncertain = float(entropy(counts_VE.sum(0)))
    return float(shared(counts_VE)) / uncertain if uncertain > 0 else None


def _record(metric: Metric, value: float | None, why: str | None, *, step: int | None, **labels: object) -> Record:
    if why is None and value is None:
        why = "one expert has every token" if metric is BY_TOKEN else "the scored text is of one domain"
    return metric.record(None if why else value, reason=why, step=step, **labels)


MEASUREMENT = Measurement(name=NAME, metrics=METRICS, measure=_measure, optional=True, under="probes", of_mixtures=True)
