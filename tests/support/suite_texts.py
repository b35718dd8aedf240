"""Suites as text: those of `tests/suites`, loaded, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moebench.suite.errors import SuiteError
from moebench.suite.load import load_suite
from moebench.suite.types import SuiteSpec

SUITES = Path(__file__).parents[1] / "suites"
PRINTED = (SUITES / "printed.yaml").read_text()
"""The suite that the documentation prints."""
KINDS = (SUITES / "kinds.yaml").read_text()
"""One claim for each kind of test."""


def load(tmp_path: Path, text: str, name: str = "suite.yaml", **options: Any) -> SuiteSpec:
    (tmp_path / name).write_text(text)
    return load_suite(tmp_path / name, **options).spec


def messages(tmp_path: Path, text: str, **options: Any) -> str:
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, text, **options)
    return str(caught.value)


VARIANTS = """\
suite: variants
question: Do all fields of a mixture come back?
seeds: 2
data: {source: stdlib, context: 64}
train: {budget: {tokens: 1.0e6}, batch_tokens: 1024}
models:
  dense: {layers: 4, width: 64, heads: 4, qk_norm: full, ffn: {kind: dense, hidden: 192, activation: gelu}}
  deepseek:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 2, router: sigmoid_bias, groups: 4, groups_chosen: 2, bias_rate: 0.001,
          scale: 2.5, expert_hidden: 24, shared_gate: true, first_dense: 1, dense_hidden: 192,
          balance_over: sequence, jitter: 0.01, router_scale: 0.5}
    match: {to: dense, on: train_flops, by: ffn.shared_hidden, step: 1}
  switch:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 1, router: switch, activation: relu, bias: true, capacity_factor: 1.25,
          expert_hidden: 64, shared_hidden: 32, every: 2, dense_hidden: 192, dense_activation: geglu}
  shazeer:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 2, router: noisy_topk, importance_loss: 0.1, load_loss: 0.1, expert_hidden: 24,
          noise_scale: 0.5}
  adaptive:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 4, router: top_p, top_p: 0.4, entropy_loss: 0.0001, expert_hidden: 24}
  windowed:
    base: dense
    attention_bias: all
    attention_sinks: true
    window: 16
    full_every: 2
    rope_scaling: {kind: yarn, factor: 4.0, original_context: 32, beta_fast: 16.0, beta_slow: 2.0, truncate: false,
                   attention_factor: 1.5}
  llama3:
    base: dense
    rope_scaling: {kind: llama3, factor: 8.0, original_context: 32, low_freq_factor: 1.0, high_freq_factor: 4.0}
  untrained: {base: dense, weights: random, dtype: bfloat16, vocab: 300}
  merged: {base: dense, data: {tokenizer: {bpe: 512}}}
tune: {lr: [1.0e-3, 2.0e-3, 4.0e-3], over: {train.optimizer.weight_decay: [0.05, 0.1]}, models: [dense], domain: code}
"""
"""A suite that gives every field of the second version somewhere."""
