"""FLOPs of a training step of a suite's model as kernels run them."""

from __future__ import annotations

from typing import TypeGuard

from moebench.counting.blueprint import Attention, Blueprint, BuiltRouter, LatentAttention
from moebench.counting.flops import attentions, forward_flops, pair_flops, train_step_flops, twice_pairs

QUERIES = 64
"""Of a block of fused attention; 32 and 128 were slower at contexts 256 and 1024."""
KEPT_BYTES = 2**25
"""Of a layer's probabilities kept for the backward, the most that pays its memory."""


def executed_step_flops(
    b: Blueprint, *, sequences: int, length: int, assignments: int | None = None, fused: bool = False
) -> int:
    """FLOPs of a decoder's forward and backward as the kernels run them.

    Flash attention computes the scores once more in its backward (Dao 2022, arXiv:2205.14135): half a forward
    attention. Fused attention computes what its blocks of queries hold beyond the causal half. With a window, or with
    sinks, the whole square is computed and masked; with sinks, shares are kept and no score is computed again.
    """
    again = 0
    for times, mixer, _ in attentions(b):
        square = times * sequences * pair_flops(mixer) * length * length
        if is_masked(mixer, length=length):
            asked = times * sequences * pair_flops(mixer) // 2 * twice_pairs(mixer, length=length, causal=True)
            again += 3 * (square - asked) + (0 if mixer.sinks else square // 2)
        elif fused and is_plain(mixer) and keeps_scores(heads=mixer.heads, sequences=sequences, length=length):
            blocks = times * sequences * pair_flops(mixer) * scores_in_blocks(length)
            again += 3 * (blocks - square // 2)
        else:
            again += square // 4
    return again + train_step_flops(b, sequences=sequences, length=length, assignments=assignments)


def is_plain(mixer: Attention | LatentAttention) -> bool:
    """Whether fused attention computes it."""
    more = isinstance(mixer, Attention) and (mixer.qkv_bias or mixer.output_bias or mixer.sinks or mixer.window)
    return isinstance(mixer, Attention) and mixer.qk_norm == "none" and not more


def is_masked(mixer: Attention | LatentAttention, *, length: int) -> TypeGuard[Attention]:
    """Whether it is computed over the whole square of a sequence."""
    return isinstance(mixer, Attention) and (mixer.sinks or (mixer.window is not None and mixer.window < length))


def tally_flops(
    before: Blueprint, router: BuiltRouter, *, sequences: int, length: int, assignments: int | None = None
) -> int:
    """FLOPs of a forward pass that ends at the last router: what is `before` it, and its own.

    `assignments` are those of the mixtures before it, expected ones when absent.
    """
    routed = 2 * sequences * length * router.training_multiply_adds
    for times, mixer, _ in attentions(before):
        if is_masked(mixer, length=length):
            hidden = 2 * length * length - twice_pairs(mixer, length=length, causal=True)
            routed += times * sequences * pair_flops(mixer) // 2 * hidden
    return routed + forward_flops(before, sequences=sequences, length=length, assignments=assignments)


def scores_in_blocks(length: int) -> int:
    """Of one head and sequence: each block of queries against all keys up to its last query."""
    stops = [*range(QUERIES, length, QUERIES), length]
    return sum((stop - start) * stop for start, stop in zip([0, *stops], stops, strict=False))


def keeps_scores(*, heads: int, sequences: int, length: int) -> bool:
    """Whether fused attention goes block by block in a training step and keeps its probabilities, up to 32 MiB a layer;
    else attention is torch's own."""
    return 4 * sequences * heads * scores_in_blocks(length) <= KEPT_BYTES
