"""What torch's FLOP counter must report for a decoder, which takes attention for the full square."""

from __future__ import annotations

from moebench.counting.blueprint import Blueprint
from moebench.counting.flops import attentions, pair_flops, train_step_flops, twice_pairs


def counted_step_flops(b: Blueprint, *, sequences: int, length: int, assignments: int | None = None) -> int:
    """Of forward and backward with loop experts and math attention: the model's, with the full square of attention."""
    step = train_step_flops(b, sequences=sequences, length=length, assignments=assignments)
    pairs = (
        times * pair_flops(mixer) // 2 * twice_pairs(mixer, length=length, causal=True)
        for times, mixer, _ in attentions(b)
    )
    return step + 3 * sequences * (attention_square_flops(b, length=length) - sum(pairs))


def attention_square_flops(b: Blueprint, *, length: int) -> int:
    """Forward FLOPs of attention's two products over the full square of queries and keys of one sequence."""
    return length * length * sum(times * pair_flops(mixer) for times, mixer, _ in attentions(b))
