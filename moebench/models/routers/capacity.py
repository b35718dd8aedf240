"""Capacity: how many pairs an expert takes, and which it refuses when more come.

GShard (Lepikhin et al. 2020, arXiv:2006.16668, algorithm 1) and Switch (Fedus et al. 2021, arXiv:2101.03961, eq. 3):
all first choices are served before any second choice, and among equals the earlier token first. A refused pair adds
nothing; a token all of whose pairs are refused passes by on the residual.

Legend: N pairs in token order.
"""

from __future__ import annotations

import math
from fractions import Fraction

from moebench.models.lazy import Tensor, torch


def room(capacity_factor: float, *, tokens: int, top_k: int, experts: int) -> int:
    """Pairs that one expert takes: at a factor of 1.0 just its share of a perfectly balanced load, rounded up."""
    factor = Fraction(str(capacity_factor))  # the decimal that was written: as a float 1.1 x 100 / 2 is above 55
    return math.ceil(factor * top_k * tokens / experts)


def refuse_when_full(token_N: Tensor, expert_N: Tensor, *, slots: int, experts: int) -> Tensor:
    """Which pairs are kept, bool [N], when every expert has `slots` places."""
    num_pairs = token_N.numel()
    index_N = torch.arange(num_pairs, device=token_N.device)
    begins_N = torch.searchsorted(token_N, token_N)  # first pair of the same token
    served_N = (index_N - begins_N).argsort(stable=True)  # by choice, then by token
    by_expert_N = served_N[expert_N[served_N].argsort(stable=True)]
    counts_E = torch.bincount(expert_N, minlength=experts)
    starts_E = counts_E.cumsum(0) - counts_E
    queue_N = torch.empty_like(index_N)
    queue_N[by_expert_N] = index_N - starts_E[expert_N[by_expert_N]]
    return queue_N < slots
