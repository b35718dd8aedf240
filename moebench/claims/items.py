"""A contrast over what its models were scored on: documents, questions, prompts.

The same items stand under every model, so their differences are paired; the cluster is the item's group where it has
one, else the item (Miller 2024, arXiv:2411.00640). Beside several seeds this is an error that is added to theirs. Where
every model is a single run the clusters are all there is, and `pseudo_values` gives one effect a cluster: what it adds
to the contrast, linearised, about the whole (their mean is the contrast, their standard error the clustered one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moebench import stats
from moebench.claims.hypothesis import Contrast, Term, Withheld
from moebench.format import plural
from moebench.metrics import metric_of
from moebench.metrics.ref import MetricRef, labelled
from moebench.reader.evidence import Item, Outcome


@dataclass(frozen=True, kw_only=True)
class Block:
    """The terms of one metric over the clusters of its items."""

    metric: str
    clusters: tuple[str, ...]
    values_SMC: stats.Array
    """[seeds, terms, clusters], summed over a cluster's items."""
    sizes_C: stats.Array
    weights_M: stats.Array
    num_items: int
    spread: float
    """From the least to the largest value per size of any item: how far one more could lie off."""


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """A contrast by cluster, of models that are single runs."""

    effects_C: stats.Array
    """Pseudo-values in the order of the clusters' names, + favours the claim."""
    num_items: int
    grouped: bool
    """Whether clusters hold several items."""
    df: float
    """Degrees of freedom: one fewer than the clusters of equal size that would weigh as much (Kish 1965)."""
    farthest: float
    """How far from the mean a cluster not seen could lie."""
    tied: float
    """Share of the clusters in which all models have the same value."""


def items_of(outcome: Outcome, metric: str) -> tuple[Item, ...]:
    """The items of a metric of a run: of a domain those of the whole that are of it; none where none are known."""
    if metric in outcome.items:
        return outcome.items[metric]
    ref = MetricRef.parse(metric)
    domain = ref.get("domain")
    if domain is None:
        return ()
    rest = {label: value for label, value in ref.labels if label != "domain"}
    return tuple(item for item in outcome.items.get(labelled(ref.base, **rest), ()) if item.group == domain)


def beside_seeds(contrast: Contrast, used: Sequence[Sequence[Outcome]]) -> tuple[stats.Estimate | None, float]:
    """The contrast with its error over clusters, values averaged over seeds, and how much of the error seeds make.

    `used` holds the runs of each seed. None where not every run has the same items.
    """
    metrics = dict.fromkeys(term.metric for term in contrast.terms)
    made = [_block([term for term in contrast.terms if term.metric == metric], used) for metric in metrics]
    blocks = [block for block in made if block is not None and len(block.clusters) > 1]
    if not blocks or len(blocks) < len(made):
        return None, 0.0
    if len(blocks) > 1:
        return _of_several(blocks, log=contrast.log)
    block = blocks[0]
    parts = (block.sizes_C, block.weights_M)
    whole = stats.clustered(np.mean(block.values_SMC, axis=0), *parts, log=contrast.log)
    return whole, stats.noise_of_documents(block.values_SMC, *parts, log=contrast.log)


def _of_several(blocks: Sequence[Block], *, log: bool) -> tuple[stats.Estimate, float]:
    """The same of several metrics: a cluster that stands under more than one adds to the sum once, with all it is."""
    place = {name: n for n, name in enumerate(sorted({name for block in blocks for name in block.clusters}))}
    seeds = len(blocks[0].values_SMC)
    influence_C, influence_SC = np.zeros(len(place)), np.zeros((seeds, len(place)))
    centre = 0.0
    for block in blocks:
        at, n = np.array([place[name] for name in block.clusters]), len(block.clusters)
        parts, few = (block.sizes_C, block.weights_M), np.sqrt(n / (n - 1))
        whole = stats.linearised(np.mean(block.values_SMC, axis=0), *parts, log=log)
        centre += whole.centre
        influence_C[at] += few * whole.influence_C
        influence_SC[:, at] += few * np.stack(
            [stats.linearised(of_seed, *parts, log=log).influence_C for of_seed in block.values_SMC]
        )
    df = min(len(block.clusters) for block in blocks) - 1
    noise = float(np.sum(np.var(influence_SC, axis=0, ddof=1))) / seeds if seeds > 1 else 0.0
    return stats.Estimate(centre=centre, se=float(np.sqrt(np.sum(influence_C**2))), df=df), float(np.sqrt(noise))


def over_clusters(contrast: Contrast, runs: Sequence[Outcome]) -> Clusters | None:
    """The contrast by cluster, of one run a model; None where there are no items, or fewer than two clusters.

    Raises Withheld where the models were not scored on the same items, or a ratio cannot be formed.
    """
    by_metric: dict[str, list[Term]] = {}
    for term in contrast.terms:
        by_metric.setdefault(term.metric, []).append(term)
    blocks: list[Block] = []
    for metric, terms in by_metric.items():
        known = [run for run in runs if items_of(run, metric)]
        if len(known) < len({term.model for term in terms}):
            return None
        block = _block(terms, [runs])
        if block is None:
            raise Withheld("invalid", unlike(metric, known))
        blocks.append(block)
    names = sorted({name for block in blocks for name in block.clusters})
    if len(names) < 2:
        return None
    place = {name: n for n, name in enumerate(names)}
    influence_C, shares_C, untied = np.zeros(len(names)), np.zeros(len(names)), np.zeros(len(names), dtype=bool)
    centre = farthest = 0.0
    for block in blocks:
        values_MC = block.values_SMC[0]
        try:
            own = stats.linearised(values_MC, block.sizes_C, block.weights_M, log=contrast.log)
        except ValueError as error:
            margin = "give the margin in the metric's own unit"
            raise Withheld("invalid", f"a model has {block.metric} without a ratio ({error}): {margin}") from None
        at = np.array([place[name] for name in block.clusters])
        of_all_C = block.sizes_C / np.sum(block.sizes_C)
        # As a jackknife has it: what a large cluster adds is near the whole that it is compared with.
        influence_C[at] += own.influence_C * (1 - 1 / len(at)) / np.maximum(1 - of_all_C, 1 / len(at))
        shares_C[at] += of_all_C / len(blocks)
        untied[at] |= np.ptp(values_MC, axis=0) > 0
        centre += own.centre
        reach = block.spread * float(np.max(np.abs(block.weights_M / (own.ratios_M if contrast.log else 1.0))))
        farthest = max(farthest, reach * float(np.median(block.sizes_C)) / float(np.sum(block.sizes_C)))
    influence_C -= np.mean(influence_C)
    num_items = sum(block.num_items for block in blocks)
    return Clusters(
        effects_C=centre + len(names) * influence_C,
        num_items=num_items,
        grouped=len(names) < num_items,
        df=max(1.0, 1 / float(np.sum(shares_C**2)) - 1),
        farthest=max(len(names) * farthest, float(np.max(np.abs(len(names) * influence_C)))),
        tied=1.0 - float(np.mean(untied)),
    )


def unlike(metric: str, runs: Sequence[Outcome]) -> str:
    """That models were scored on different items, in words."""
    one = len({run.model for run in runs}) == len(runs)
    told = {run.model if one else f"{run.model} with seed {run.seed}": items_of(run, metric) for run in runs}
    names = {model: {item.name for item in items} for model, items in told.items()}
    shared, most = len(set.intersection(*names.values())), max(map(len, names.values()))
    who = " and ".join(told)
    if shared == most == min(map(len, names.values())):
        return f"evaluation: {metric} of {who} is of the same items in other sizes or groups: they do not pair"
    return (
        f"evaluation: {who} were scored on different items of {metric}: {shared:,} of {plural(most, 'item')} in common"
    )


def _block(terms: Sequence[Term], used: Sequence[Sequence[Outcome]]) -> Block | None:
    """The sums over clusters of terms of one metric; None where the runs' items are not the same, or fewer than two."""
    metric = terms[0].metric
    if len({term.model for term in terms}) < len(terms):
        return None
    first: dict[str, tuple[str, float]] | None = None
    rows_SM: list[list[stats.Array]] = []
    for runs in used:
        values: dict[str, stats.Array] = {}
        for run in (run for run in runs if run.model in {term.model for term in terms}):
            items = {item.name: item for item in items_of(run, metric)}
            here = {name: (item.group, item.size) for name, item in items.items()}
            first = here if first is None else first
            if len(here) < 2 or here != first:
                return None
            values[run.model] = np.array([items[name].value for name in first], dtype=np.float64)
        rows_SM.append([values[term.model] for term in terms])
    if first is None:
        return None
    every_SMI = np.array(rows_SM)
    sizes_I = np.array([size for _, size in first.values()], dtype=np.float64)
    clusters = _clusters(metric, first)
    names = tuple(dict.fromkeys(clusters))
    rates = every_SMI / sizes_I
    return Block(
        metric=metric,
        clusters=names,
        values_SMC=_summed(every_SMI, clusters, names),
        sizes_C=_summed(sizes_I, clusters, names),
        weights_M=np.array([term.weight for term in terms]),
        num_items=len(first),
        spread=float(np.ptp(rates)) or float(np.max(np.abs(rates))) or 1.0,
    )


def _clusters(metric: str, items: dict[str, tuple[str, float]]) -> list[str]:
    """The cluster of each item. A domain is none: its documents are as independent as those of several."""
    if "domain" in metric_of(metric).labels:
        return list(items)
    return [group or name for name, (group, _) in items.items()]


def _summed(x: stats.Array, clusters: Sequence[str], names: Sequence[str]) -> stats.Array:
    """Sums over the last axis by cluster, in the order of `names`."""
    if len(names) == len(clusters):
        return x
    place = {name: n for n, name in enumerate(names)}
    at = np.array([place[name] for name in clusters])
    order = np.argsort(at, kind="stable")
    starts = np.searchsorted(at[order], np.arange(len(names)))
    return np.add.reduceat(x[..., order], starts, axis=-1)
