"""Which experts of each mixture a stage trains, where it trains some: those with most of its first text, or drawn.

It is known before the first step, from the weights that the stage starts from, and stands beside them in `chosen.json`.
"""

from __future__ import annotations

import torch

from moebench.data.corpus import Corpus
from moebench.jobs.recipe import Run
from moebench.jobs.training import batch_of
from moebench.models.decoder import Transformer
from moebench.models.decoder.trained import Chosen
from moebench.seeds import generator
from moebench.store import JobFolder, write_json
from moebench.suite.model import MoEFFN

FILE = "chosen.json"
FIRST_STEPS = 16
"""Batches by which the load is known; all of a shorter stage."""


def choose(model: Transformer, run: Run, corpus: Corpus) -> Chosen | None:
    """The experts by layer, rising; None where a stage trains all of a mixture, or none."""
    trained, ffn = run.recipe.trained, run.architecture.ffn
    if trained is None or trained.experts is None or not isinstance(ffn, MoEFFN):
        return None
    layers, count = run.architecture.moe_layers, trained.experts
    if trained.by == "chance":
        order = {layer: generator(run.seed, f"chosen.{layer}").permutation(ffn.experts) for layer in layers}
        return {layer: sorted(map(int, order[layer][:count])) for layer in layers}
    pairs_LE = loads(model, run, corpus)
    return {layer: sorted(most.tolist()) for layer, most in zip(layers, _largest(pairs_LE, count), strict=True)}


def _largest(pairs_LE: torch.Tensor, count: int) -> torch.Tensor:
    """Of each row, the first of those with the most."""
    return pairs_LE.argsort(dim=1, descending=True, stable=True)[:, :count]


@torch.no_grad()
def loads(model: Transformer, run: Run, corpus: Corpus) -> torch.Tensor:
    """Pairs of each mixture and expert on the first text of a stage, routed as in evaluations: [mixtures, experts]."""
    was_training, rows = model.training, run.recipe.micro_batch_tokens // run.architecture.context
    found = []
    try:
        model.eval()
        for step in range(min(FIRST_STEPS, run.recipe.steps)):
            for part_BX in torch.split(torch.from_numpy(batch_of(run, corpus, step)).to(run.device), rows):
                routings = model.route(part_BX[:, :-1])
                found.append(
                    torch.stack([torch.bincount(r.expert_N, minlength=model.routers[0].experts) for r in routings])
                )
    finally:
        model.train(was_training)
    return torch.stack(found).sum(0).cpu()


def keep(folder: JobFolder, chosen: Chosen | None) -> None:
    """Writes them beside the weights."""
    if chosen is not None:
        write_json(folder.path / FILE, {str(layer): list(experts) for layer, experts in chosen.items()})


def kept(folder: JobFolder) -> Chosen | None:
    """Those that a stage has trained; None where it chose none."""
    return {int(layer): experts for layer, experts in folder.read(FILE).items()} if folder.has(FILE) else None
