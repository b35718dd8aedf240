"""Bytes over links, by formula, of a `Blueprint` laid over several devices: MODELLED, never measured.

A token is d numbers wide and every number takes two bytes. Expert parallelism (Lepikhin et al. 2020, arXiv:2006.16668)
sends a token to each of its k experts and back, of which 1/D stay on their device: 2 k d (1 - 1/D) numbers a mixture.
Tensor parallelism (Shoeybi et al. 2019, arXiv:1909.08053) sums what each of D devices computed after attention and
after the network: two all-reduces a layer, each 2 d (1 - 1/D) numbers. Data parallelism sums the gradients of all
weights once a step: 2 P (1 - 1/D) numbers, spread over the tokens that a device read. A backward pass sends what the
forward sent.

A share is that of sending in the time of a training step where nothing overlaps: bytes times the FLOPs that a device
does in the time of a byte, over that and the FLOPs. The busiest device has `straggler` times the mean load: so much
longer take its experts, and what is sent to them.
"""

from __future__ import annotations

from moebench.counting.blueprint import Blueprint
from moebench.counting.flops import assignments_per_token, train_flops_per_token
from moebench.counting.weights import dense_weights, parameters

NUMBER_BYTES = 2
"""Of an activation or a gradient as it is sent."""
CONTEXT = 2048
"""Longest context at which FLOPs are counted."""


def expert_parallel_bytes(b: Blueprint, *, devices: float) -> float:
    """A token's bytes of a forward pass. Raises LookupError for a model that cannot be laid out so."""
    if not b.mixtures:
        raise LookupError("a dense model has no experts to spread over devices")
    fewest = min(ffn.experts for _, ffn in b.mixtures)
    if devices > fewest:
        raise LookupError(f"{fewest} experts are not spread over {devices:g} devices")
    return 2 * assignments_per_token(b) * b.width * (1 - 1 / devices) * NUMBER_BYTES


def tensor_parallel_bytes(b: Blueprint, *, devices: float) -> float:
    """A token's bytes of a forward pass, which each of the devices sends."""
    sums = sum(
        layer.times * sum(part is not None for part in (layer.mixer, layer.cross, layer.ffn)) for layer in b.layers
    )
    return sums * 2 * b.width * (1 - 1 / devices) * NUMBER_BYTES


def data_parallel_bytes(b: Blueprint, *, devices: float, tokens: float) -> float:
    """Bytes of a step's gradients over the tokens that a device reads in it."""
    return 2 * parameters(b).total * (1 - 1 / devices) * NUMBER_BYTES / tokens


def expert_parallel_share(b: Blueprint, *, devices: float, flops_per_byte: float, straggler: float) -> float:
    """The share of sending in a training step whose busiest device has `straggler` times the mean load."""
    sent = straggler * 2 * expert_parallel_bytes(b, devices=devices) * flops_per_byte
    experts = 6 * sum(times * ffn.top_k * dense_weights(ffn, b.width).matrices for times, ffn in b.mixtures)
    return sent / (sent + _train_flops(b) + (straggler - 1) * experts)


def tensor_parallel_share(b: Blueprint, *, devices: float, flops_per_byte: float) -> float:
    """Where each device computes its part of every token."""
    sent = 2 * tensor_parallel_bytes(b, devices=devices) * flops_per_byte
    return sent / (sent + _train_flops(b) / devices)


def data_parallel_share(b: Blueprint, *, devices: float, tokens: float, flops_per_byte: float) -> float:
    """Where each device computes all of its own tokens."""
    sent = data_parallel_bytes(b, devices=devices, tokens=tokens) * flops_per_byte
    return sent / (sent + _train_flops(b))


def _train_flops(b: Blueprint) -> float:
    """Of a token, at the model's context and 2,048 tokens at most."""
    return train_flops_per_token(b, context=min(b.context or CONTEXT, CONTEXT))
