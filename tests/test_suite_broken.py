"""Broken suite files: each gives a clear error at the right place, and nothing but a SuiteError.

Every case is an edit of one good suite. The sign § in the new text marks where the mistake must be shown; it is taken
out before the file is written.
"""
# ruff: noqa: E501 - a case is one line

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moebench.suite import rewrite
from moebench.suite.errors import Problem, SuiteError
from moebench.suite.load import load_suite
from moebench.suite.schema import schema as suite_schema

GOOD = """\
suite: good
question: Is this suite good?
seeds: 8
data: {source: stdlib, context: 256}
train:
  budget: {tokens: 1.0e6}
  batch_tokens: 4096
  optimizer: {lr: 3.0e-3, betas: [0.9, 0.95]}
  schedule: {warmup: 5%}
models:
  moe:
    layers: 2
    width: 64
    heads: 4
    ffn: {kind: moe, experts: 8, top_k: 2, expert_hidden: 64, router: softmax_topk}
  dense:
    base: moe
    ffn: {kind: dense}
    match: {to: moe, on: active_params, by: ffn.hidden, tolerance: 1%}
  total:
    base: dense
    match: {on: total_params}
  swept:
    base: moe
    sweep: {ffn.experts: [2, 4, 8]}
measure:
  speed: {train_step: true, prefill: [64, 256], decode: {batch: [1, 8]}}
tune: {lr: [1.0e-3, 3.0e-3, 1.0e-2]}
controls: {same_model: dense}
claims:
  better:
    compare: {treatment: moe, baseline: dense}
    metric: test.bits_per_byte
    test: {kind: superior, margin: 0.5%}
    family: primary
  latency:
    compare: {treatment: moe, baseline: dense}
    metric: speed.decode_step_s[batch=8]
    test: {kind: non_inferior, margin: 10%}
  quality:
    compare: {treatment: moe, baseline: dense}
    metric: flops_to_quality
    test: {kind: ratio_at_least, value: 2.0}
    target: {reach: dense}
  share:
    compare: {treatment: moe, baseline: dense, ceiling: total}
    metric: test.bits_per_byte
    test: {kind: recovers, value: 0.9}
  rise:
    over: swept
    along: ffn.experts
    metric: test.bits_per_byte
    test: {kind: trend, sign: falling}
  count:
    model: moe
    metric: cost.total_params
    test: {kind: exact, value: 1.0e5, tolerance: 1%}
scales:
  nano: {seeds: 2}
"""

MIXTURES = """\
suite: mixtures
question: Is this suite of many routers good?
seeds: 8
data: {source: stdlib, context: 64}
train: {budget: {tokens: 1.0e6}, batch_tokens: 1024}
models:
  dense: {layers: 4, width: 64, heads: 4, ffn: {kind: dense, hidden: 192}}
  plain:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 2, router: softmax_topk, jitter: 0.01, expert_hidden: 64}
  switch:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 1, router: switch, activation: relu, capacity_factor: 1.25, expert_hidden: 64,
          every: 2, dense_hidden: 192}
  levels:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 4, router: hierarchical, groups: 4, groups_chosen: 2, importance_loss: 0.1, expert_hidden: 32}
  deepseek:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 2, router: sigmoid_bias, groups: 4, groups_chosen: 2, bias_rate: 0.001, scale: 2.5,
          expert_hidden: 24, shared_gate: true, first_dense: 1, dense_hidden: 192, balance_over: sequence}
    match: {to: dense, on: train_flops, by: ffn.shared_hidden, step: 1}
  soft:
    base: dense
    ffn: {kind: moe, experts: 4, top_k: 4, router: soft_mixture, expert_hidden: 48}
  adaptive:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 4, router: top_p, top_p: 0.4, entropy_loss: 0.0001, expert_hidden: 48}
  choosers:
    base: dense
    ffn: {kind: moe, experts: 8, top_k: 2, router: expert_choice, expert_hidden: 64}
  hashed: {base: plain, ffn: {router: token_hash, jitter: null}}
  finer: {base: levels, ffn: {experts: 16}}
measure:
  speed: {train_step: true, prefill: [64]}
"""
"""A suite whose models use every router's options, for mistakes in those."""

OF_MIXTURES: dict[str, tuple[str, str, str, str]] = {
    # ---- words
    "a router that is nearly one": ("router: top_p,", "router: §topp,", "unknown router 'topp'", "did you mean 'top_p'?"),
    "a router like no other": ("router: top_p,", "router: §zzz,", "unknown router 'zzz'", "the routers are softmax_topk, topk_softmax"),
    "soft MoE": ("router: soft_mixture", "router: §soft_moe", "soft_moe is refused: Soft MoE (Puigcerver et al. 2023, arXiv:2308.00951) mixes all tokens", ""),
    "an unknown activation": ("activation: relu", "activation: §rleu", "activation cannot be 'rleu': use swiglu, geglu", "did you mean 'relu'?"),
    "an unknown dense activation": ("first_dense: 1", "first_dense: 1, dense_activation: §swigl", "dense_activation cannot be 'swigl'", "did you mean 'swiglu'?"),
    "an unknown scope of balance": ("balance_over: sequence", "balance_over: §token", "balance_over cannot be 'token': use sequence, micro_batch or batch", ""),
    "an option badly spelt": ("capacity_factor: 1.25", "§capacity: 1.25", "unknown key 'capacity'", "did you mean 'capacity_factor'?"),
    "an option of a dense model": ("hidden: 192}}", "hidden: 192, §bias: true}}", "unknown key 'bias'", "'bias' is a key of kind: moe"),
    # ---- options against the router
    "an option that another router reads": ("jitter: 0.01", "§top_p: 0.4", "the router softmax_topk does not use top_p: it reads capacity_factor, jitter, router_scale, balance_over", "leave it out, or use a router that reads it: top_p"),
    "an option where there are none": ("router: expert_choice", "router: round_robin, §capacity_factor: 1.0", "the router round_robin does not use capacity_factor: it has no options", "leave it out, or use a router that reads it: softmax_topk"),
    "two options at once": ("jitter: 0.01", "bias_rate: 0.1, §scale: 2", "does not use scale or bias_rate", "use a router that reads it: sigmoid_bias"),
    "a switch without capacity": ("capacity_factor: 1.25, ", "", "the router switch needs capacity_factor, such as capacity_factor: 1.25", ""),
    "a top_p without p": ("router: top_p, top_p: 0.4,", "router: §top_p,", "the router top_p needs top_p, such as top_p: 0.4", ""),
    "weights that add up to 1 anyway": ("router: softmax_topk", "router: topk_softmax, §renormalise: false", "the router topk_softmax does not use renormalise: its weights always add up to 1", "leave it out, or use a router that reads it: softmax_topk"),
    "weights that add up to 1 with noise": ("router: hierarchical,", "router: hierarchical, §renormalise: false,", "the router hierarchical does not use renormalise: its weights always add up to 1", "leave it out"),
    "weights of a fixed rule": ("router: token_hash, jitter: null", "router: token_hash, jitter: null, §renormalise: false", "the router token_hash does not use renormalise: its weights are set by its rule", "leave it out"),
    "weights that the base does not renormalise": ("jitter: 0.01, expert_hidden: 64}", "jitter: 0.01, expert_hidden: 64, renormalise: false}\n  ordered: {base: plain, ffn: {router: §topk_softmax}}\n  again: {base: plain, ffn: {router: topk_softmax, renormalise: null}}", "the router topk_softmax does not use renormalise", "left out with renormalise: null"),
    "a loss where there is none": ("router: token_hash, jitter: null", "router: token_hash, jitter: null, §z_loss: 0.1", "the router token_hash does not use z_loss: it has no loss", "leave it out"),
    "a loss of other routers": ("router: expert_choice", "router: expert_choice, §balance_loss: 0.01", "the router expert_choice does not use balance_loss: its losses are z_loss", "leave it out"),
    "a loss that two levels have not": ("importance_loss: 0.1", "§balance_loss: 0.1", "hierarchical does not use balance_loss: its losses are z_loss, importance_loss and load_loss", "leave it out"),
    "choosers that cannot share": ("experts: 8, top_k: 2, router: expert_choice", "experts: §6, top_k: 2, router: expert_choice", "6 experts cannot choose equally many of 64 tokens for top_k 2", "use 4 experts, a context that 3 divides, or a top_k that 3 divides"),
    "two levels without groups": ("router: hierarchical, groups: 4, groups_chosen: 2,", "router: §hierarchical,", "needs groups and groups_chosen, such as groups: 4, groups_chosen: 2", ""),
    "an option that the base gives": ("router: token_hash, jitter: null", "router: §token_hash", "the router token_hash does not use jitter: it reads capacity_factor", "what comes from the base is left out with jitter: null"),
    "options that the base gives": ("{base: levels, ffn: {experts: 16}}", "{base: levels, ffn: {router: §round_robin}}", "does not use groups or groups_chosen or importance_loss", "left out with groups: null, groups_chosen: null, importance_loss: null"),
    # ---- sizes that do not go together
    "two experts for switch": ("top_k: 1", "top_k: §2", "switch sends a token to 1 expert, not 2: give top_k: 1", ""),
    "a top_k that the base gives": ("{router: token_hash, jitter: null}", "{router: §switch, capacity_factor: 1.0}", "switch sends a token to 1 expert, not 2", "top_k comes from the base: give it here too"),
    "three experts for gshard": ("top_k: 1, router: switch", "top_k: §1, router: gshard", "gshard sends a token to 2 experts, not 1", ""),
    "a soft mixture of some": ("experts: 4, top_k: 4", "experts: 4, top_k: §2", "in a soft mixture every expert runs: give top_k: 4", ""),
    "groups that do not divide": ("groups: 4, groups_chosen: 2, importance", "groups: §3, groups_chosen: 2, importance", "3 groups do not divide 8 experts: use 2, 4", ""),
    "groups that the base gives": ("{experts: 16}", "{experts: §18}", "4 groups do not divide 18 experts", "groups comes from the base: give it here too"),
    "more groups chosen than there are": ("groups_chosen: 2, importance", "groups_chosen: §5, importance", "groups_chosen 5 is more than the 4 groups", ""),
    "groups that hold too few": ("groups_chosen: 2, importance", "groups_chosen: §1, importance", "groups_chosen 1 of 2 experts each hold fewer than top_k 4: choose at least 2", ""),
    "groups of one": ("groups: 4, groups_chosen: 2, bias_rate", "groups: §8, groups_chosen: 2, bias_rate", "groups of one", ""),
    "groups without how many": ("groups: 4, groups_chosen: 2, bias_rate", "groups: §4, bias_rate", "groups is given without groups_chosen", ""),
    "how many without groups": ("groups: 4, groups_chosen: 2, bias_rate", "groups_chosen: §2, bias_rate", "groups_chosen is given without groups", ""),
    "an uneven share of groups": ("top_k: 4, router: hierarchical", "top_k: §3, router: hierarchical", "top_k 3 is not shared equally by 2 chosen groups: give a multiple of 2", ""),
    # ---- which layers
    "no layer in so many": ("every: 2,", "every: §5,", "with every 5 none of the 4 layers is a mixture", ""),
    "all layers dense": ("first_dense: 1", "first_dense: §4", "with first_dense 4 none of the 4 layers is a mixture", ""),
    "no layer of both rules": ("every: 2,", "every: 4, first_dense: §4,", "with every 4 and first_dense 4 none of the 4 layers", ""),
    "every layer": ("every: 2,", "every: §1,", "every must be at least 2, not 1", ""),
    "no width for a dense layer": (", dense_hidden: 192, balance_over", ", balance_over", "the size dense_hidden of this moe ffn is open: layer 1 of 4 is dense", "give it 'dense_hidden', or a `match` that solves it"),
    "no width for dense layers": ("every: 2, dense_hidden: 192", "every: 2", "layers 1 and 3 of 4 are dense", ""),
    "a dense width without dense layers": ("every: 2, dense_hidden: 192", "dense_hidden: §192", "dense_hidden has no layer to be used in", ""),
    "a dense activation without dense layers": ("jitter: 0.01", "dense_activation: §relu", "dense_activation has no layer to be used in", ""),
    # ---- shared experts and matches
    "a gate without a shared expert": ("jitter: 0.01", "shared_gate: §true", "shared_gate has no shared expert to gate", "give shared_hidden"),
    "a match by a size that no layer has": ("{to: dense, on: train_flops, by: ffn.shared_hidden, step: 1}\n  soft:", "{to: dense, on: train_flops}\n  soft:", "shared_gate has no shared expert", ""),
    "a match by dense layers that are not there": ("expert_hidden: 48}\n  adaptive", "expert_hidden: 48}\n    match: {to: dense, on: train_flops, by: §ffn.dense_hidden}\n  adaptive", "'ffn.dense_hidden' is no size of this model", "no layer of it is dense: give `every` or `first_dense` too"),
    "a match of a dense model by a mixture's size": ("hidden: 192}}", "hidden: 192}, match: {to: soft, on: train_flops, by: §ffn.shared_hidden}}", "'ffn.shared_hidden' is no size of this model, whose ffn is dense", "use ffn.hidden"),
    "a match by no size": ("by: ffn.shared_hidden", "by: §ffn.experts", "by cannot be 'ffn.experts': use ffn.hidden", "did you mean 'ffn.expert_hidden'?"),
    "a step of nothing": ("step: 1", "step: §0", "step must be at least 1, not 0", ""),
    "half a step": ("step: 1", "step: §0.5", "step must be a whole number, not the number 0.5", ""),
    # ---- ranges
    "no room at all": ("capacity_factor: 1.25", "capacity_factor: §0", "capacity_factor must be above 0, not 0", ""),
    "jitter of all": ("jitter: 0.01", "jitter: §1.0", "jitter must be below 1, not 1", ""),
    "more than certain": ("top_p: 0.4", "top_p: §1.5", "top_p must be at most 1, not 1.5", ""),
    "a loss below nothing": ("importance_loss: 0.1", "importance_loss: §-0.1", "importance_loss must be at least 0, not -0.1", ""),
    "a bias that is a number": ("jitter: 0.01", "bias: §1", "bias must be true or false, not the number 1", ""),
    # ---- what is measured
    "decoding of what sees the future": ("prefill: [64]", "prefill: [64], §decode: {batch: [1]}", "choosers cannot decode: its router expert_choice looks at later tokens", "leave decode out, or choose another router"),
}  # fmt: skip

BROKEN: dict[str, tuple[str, str, str]] = {
    # ---- unknown keys and missing ones
    "typo at the top": ("seeds: 8", "§seds: 8", "unknown key 'seds'"),
    "typo in a model": ("    width: 64", "    §widht: 64", "unknown key 'widht'"),
    "typo in the optimizer": ("{lr: 3.0e-3, betas", "{§lrr: 3.0e-3, betas", "unknown key 'lrr'"),
    "typo in a claim": ("    family: primary", "    §famly: primary", "unknown key 'famly'"),
    "key one level too high": ("  batch_tokens: 4096", "  §lr: 0.1", "unknown key 'lr'"),
    "typo inside an unchosen scale": ("nano: {seeds: 2}", "nano: {§sedes: 2}", "unknown key 'sedes'"),
    "no suite name": ("suite: good\nquestion", "§question", "'suite' is missing"),
    "no layers": ("  moe:\n    layers: 2\n", "  §moe:\n", "'layers' is missing in 'moe'"),
    "no budget": ("train:\n  budget: {tokens: 1.0e6}\n", "§train:\n", "'budget' is missing in 'train'"),
    "no margin": ("test: {kind: non_inferior, margin: 10%}", "§test: {kind: non_inferior}", "'margin' is missing"),
    # ---- wrong types
    "a word for a number": ("layers: 2", "layers: §two", "layers must be a whole number, not 'two'"),
    "a fraction of a layer": ("layers: 2", "layers: §2.5", "layers must be a whole number, not the number 2.5"),
    "a quoted number": ("width: 64", 'width: §"64"', "width must be a whole number, not '64'"),
    "a number with underscores": ("batch_tokens: 4096", "batch_tokens: §4_096", "must be a whole number, not '4_096'"),
    "true for a number": ("layers: 2", "layers: §true", "layers must be a whole number, not true"),
    "yes for true": ("train_step: true", "train_step: §yes", "train_step must be true or false, not 'yes'"),
    "a list for a mapping": ("ffn: {kind: dense}", "ffn: §[dense]", "ffn must be a mapping"),
    "a word for a mapping": ("measure:\n  speed: {", "measure:\n  speed: §fast # {", "speed must be a mapping"),
    "a number for a list": ("prefill: [64, 256]", "prefill: §64", "prefill must be a list"),
    "nothing for a mapping": ("ffn: {kind: dense}", "ffn:§", "ffn must be a mapping of keys to values, not nothing"),
    "a list for models": ("models:\n", "models: §[a]\nmodel:\n", "models must be a mapping of names to models"),
    "a list for a model": ("  total:\n    base: dense\n    match: {on: total_params}\n", "  total: §[]\n", "a model must be"),
    "a list at the top": (GOOD, "§- suite: good\n", "a suite is a mapping"),
    "a word at the top": (GOOD, "§good\n", "a suite is a mapping"),
    "one beta": ("[0.9, 0.95]", "§[0.9]", "betas needs more values"),
    "three betas": ("[0.9, 0.95]", "§[0.9, 0.95, 0.99]", "betas takes at most 2 values"),
    # ---- bad ranges
    "no layers at all": ("layers: 2", "layers: §0", "layers must be at least 1, not 0"),
    "a negative rate": ("lr: 3.0e-3", "lr: §-1", "lr must be above 0, not -1"),
    "a beta of one": ("[0.9, 0.95]", "[0.9, §1.0]", "an item of betas must be below 1, not 1.0"),
    "no tokens": ("tokens: 1.0e6", "tokens: §0", "tokens must be above 0"),
    "not a number": ("tokens: 1.0e6", "tokens: §.nan", ".nan is not a finite number"),
    "infinite": ("tokens: 1.0e6", "tokens: §1e999", "'1e999' is too large a number"),
    "a huge width": ("width: 64", "width: §100000000", "width must be at most 1,000,000"),
    "a long context": ("context: 256", "context: §1000000", "context must be at most 8,192"),
    "less than one step": ("{tokens: 1.0e6}", "{tokens: §1000}", "a budget of 1,000 tokens is less than one step"),
    "two budgets": ("budget: {tokens: 1.0e6}", "budget: §{tokens: 1.0e6, steps: 5}", "give exactly one of tokens"),
    "warm-up of 200%": ("warmup: 5%", "warmup: §200%", "warmup must be a share"),
    "warm-up in words": ("warmup: 5%", "warmup: §5 percent", "'5 percent' is not an amount"),
    "too few rates": ("[1.0e-3, 3.0e-3, 1.0e-2]", "§[1.0e-3]", "lr needs at least 3"),
    "rates out of order": ("[1.0e-3, 3.0e-3, 1.0e-2]", "[1.0e-3, 3.0e-2, §1.0e-2]", "0.01 comes after 0.03"),
    "a rate twice": ("[1.0e-3, 3.0e-3, 1.0e-2]", "[1.0e-3, 3.0e-3, §3.0e-3]", "0.003 is given twice"),
    "no seeds": ("seeds: 8", "seeds: §0", "seeds is how many"),
    "a seed twice": ("seeds: 8", "seeds: [1, 2, §1]", "seed 1 is given twice"),
    "a negative seed": ("seeds: 8", "seeds: [1, §-2]", "an item of seeds must be at least 0"),
    # ---- impossible shapes
    "more chosen than there are": ("top_k: 2", "top_k: §9", "top_k 9 is more than the 8 experts"),
    "heads that do not divide": ("heads: 4", "heads: §3", "width 64 is not a multiple of 3 heads"),
    "an odd head": ("heads: 4", "heads: §64", "rotary positions need an even head_dim, not 1"),
    "key heads that do not divide": ("heads: 4", "heads: 4\n    kv_heads: §3", "not a multiple of kv_heads 3"),
    "layers without a window where there is none": ("heads: 4", "heads: 4\n    full_every: §2", "give `window` too"),
    "positions stretched in a way unknown": ("heads: 4", "heads: 4\n    rope_scaling: {kind: §dynamic, factor: 2}", "use linear, llama3 or yarn"),
    "positions stretched from nowhere": ("heads: 4", "heads: 4\n    rope_scaling: {kind: §yarn, factor: 2}", "rope_scaling yarn needs original_context"),
    "positions stretched another way": ("heads: 4", "heads: 4\n    rope_scaling: {kind: linear, factor: 2, beta_fast: §32}", "beta_fast is not of rope_scaling linear"),
    "half a window": ("batch_tokens: 4096", "batch_tokens: §4000", "not a multiple of the context, 256"),
    "half a micro-batch": ("batch_tokens: 4096", "batch_tokens: 4096\n  micro_batch_tokens: §768", "does not divide"),
    "a prompt beyond the context": ("[64, 256]", "[64, §512]", "longer than the context, 256"),
    "a batch twice": ("batch: [1, 8]", "batch: [8, §8]", "8 is given twice"),
    "an open width": ("    match: {on: total_params}", "    match: null", "the size hidden of this dense ffn is open"),
    # ---- unknown words
    "an unknown kind": ("ffn: {kind: dense}", "ffn: {kind: §dens}", "unknown kind 'dens': use dense or moe"),
    "no kind": ("ffn: {kind: moe, ", "§ffn: {", "'kind' is missing in ffn: it is dense or moe"),
    "an unknown test": ("{kind: trend, sign", "{kind: §tend, sign", "unknown kind 'tend': use superior"),
    "an unknown source": ("source: stdlib", "source: §wikipedia", "unknown source 'wikipedia': use stdlib, python, text, hub, mixture, synthetic"),
    "a tokenizer of two kinds": ("context: 256}", "tokenizer: §{bpe: 300, file: a.json}, context: 256}", "a tokenizer is bytes, {bpe: 4096}"),
    "a pair of no models": ("metric: flops_to_quality", "minus: {treatment: §mo, baseline: dense}\n    metric: flops_to_quality", "no model of this suite is called 'mo'"),
    "an unknown router": ("softmax_topk", "§softmax_top", "unknown router 'softmax_top'"),
    "an unknown sign": ("sign: falling", "sign: §down", "sign cannot be 'down': use rising or falling"),
    "an unknown match": ("on: active_params", "on: §active", "on cannot be 'active': use active_params"),
    "an unknown dtype": ("batch_tokens: 4096", "dtype: §fp16", "dtype cannot be 'fp16'"),
    # ---- models and matches
    "a base that is not there": ("base: dense", "base: §dnse", "base names no model of this suite: 'dnse'"),
    "a base in a circle": ("    layers: 2", "    base: dense\n    layers: 2", "base is cyclic: moe -> dense -> moe"),
    "a base of itself": ("    base: dense", "    base: §total", "base is cyclic: total -> total"),
    "a base that is a sweep": ("    base: dense", "    base: §swept", "base cannot be 'swept'"),
    "a match to nothing": ("{to: moe, on", "{to: §mo, on", "no model of this suite is called 'mo'"),
    "a match to itself": ("match: {on: total_params}", "match: {to: §total}", "total is matched to itself"),
    "matches in a circle": ("    heads: 4", "    heads: 4\n    match: {to: §dense, on: active_params}", "matches are cyclic: moe -> dense -> moe"),
    "a match by another's size": ("by: ffn.hidden", "by: §ffn.expert_hidden", "is no size of this model"),
    "a tolerance without unit": ("tolerance: 1%", "tolerance: §0.01", "tolerance 0.01 has no unit"),
    "an empty sweep": ("sweep: {ffn.experts: [2, 4, 8]}", "sweep: §{}", "sweep must map keys to lists"),
    "a sweep over nothing": ("[2, 4, 8]", "§[]", "sweep needs a list of values for 'ffn.experts'"),
    "a sweep of an unknown key": ("{ffn.experts: [2, 4, 8]}", "{§ffn.expert: [2, 4, 8]}", "unknown key 'expert'"),
    "a sweep with a value twice": ("[2, 4, 8]", "[2, 4, §4]", "4 is swept twice"),
    "a sweep of a path": ("[2, 4, 8]", "[2, §../8]", "a swept value must be a number or a plain word"),
    "a control of nothing": ("same_model: dense", "same_model: §dens", "no model of this suite is called 'dens'"),
    # ---- claims
    "a claim on an absent model": ("treatment: moe, baseline: dense}\n    metric: test", "treatment: §mo, baseline: dense}\n    metric: test", "no model of this suite is called 'mo'"),
    "a claim on a sweep": ("baseline: dense, ceiling", "baseline: §swept, ceiling", "swept is a sweep of several models"),
    "a claim against itself": ("baseline: dense, ceiling", "baseline: §moe, ceiling", "moe is compared with itself"),
    "an absent metric": ("metric: flops_to_quality", "metric: §flop_to_quality", "unknown metric 'flop_to_quality'"),
    "a metric badly written": ("metric: flops_to_quality", "metric: §Flops!", "'Flops!' is not a metric name"),
    "a metric of any length": ("metric: flops_to_quality", "metric: §" + "X" * 9000, "X' is not a metric name: write it as group.name"),
    "a label without a value": ("metric: flops_to_quality", "metric: §flops_to_quality[" + "x" * 9000 + "]", "xx': write labels as"),
    "a label missing": ("speed.decode_step_s[batch=8]", "§speed.decode_step_s", "needs the label 'batch'"),
    "a label that is not measured": ("[batch=8]", "[batch=9]", "does not measure speed.decode_step_s at batch=9"),
    "a label of another metric": ("[batch=8]", "[size=8]", "speed.decode_step_s has no label 'size'"),
    "nothing timed": ("  speed: {train_step: true, prefill: [64, 256], decode: {batch: [1, 8]}}", "  memory: true", "does not measure speed.decode_step_s"),
    "a margin without unit": ("margin: 10%", "margin: §0.1", "margin 0.1 has no unit that fits"),
    "a margin below zero": ("margin: 0.5%", "margin: §-0.5%", "margin -0.5% is below 0"),
    "no ceiling": (", ceiling: total}", "}", "a recovers test needs 'compare.ceiling'"),
    "a ceiling for nothing": ("baseline: dense}\n    metric: test", "baseline: dense, §ceiling: total}\n    metric: test", "takes no 'compare.ceiling'"),
    "no target": ("    target: {reach: dense}\n", "", "flops_to_quality needs a target"),
    "a target for nothing": ("    family: primary", "    §target: {reach: dense}", "takes no target"),
    "a target that is not there": ("{reach: dense}", "{reach: §dnse}", "no model of this suite is called 'dnse'"),
    "a trend over one model": ("over: swept", "over: §moe", "moe is one model: a trend needs a model with a `sweep`"),
    "a trend along another key": ("along: ffn.experts", "along: §ffn.top_k", "swept is not swept over 'ffn.top_k'"),
    "exactly a measurement": ("metric: cost.total_params\n    test: {kind: exact", "metric: test.bits_per_byte\n    test: {kind: §exact", "is measured, not counted"),
    "an absent system": ("model: moe", "model: §mixtral-9x9b", "neither a model of this suite nor a published system"),
    "an empty ratio": ("{kind: ratio_at_least, value: 2.0}", "{kind: ratio_within, low: §2, high: 1}", "low 2 is not below high 1"),
    "a bad target": ("{reach: dense}", "{reach: §-1}", "reach must be a model's name, or bits per byte"),
    # ---- names go into paths
    "a way out in a model's name": ("  total:", "  §../total:", "'../total' is not a name"),
    "a way out in the suite's name": ("suite: good", "suite: §../../etc/passwd", "'../../etc/passwd' is not a name"),
    "a way out in a claim's name": ("  better:", "  §a/b:", "'a/b' is not a name"),
    "an empty name": ("suite: good", 'suite: §""', "'' is not a name"),
    "a long name": ("suite: good", "suite: §" + "x" * 65, "is not a name"),
    # ---- YAML
    "a duplicate key": ("seeds: 8", "seeds: 8\n§seeds: 9", "duplicate key 'seeds'"),
    "a duplicate model": ("  total:\n", "  §dense:\n", "duplicate key 'dense'"),
    "a duplicate key in a line": ("top_k: 2,", "top_k: 2, §top_k: 2,", "duplicate key 'top_k'"),
    "a tab": ("    width: 64", "§\twidth: 64", "a tab"),
    "an anchor": ("seeds: 8", "seeds: §&n 8", "anchors and aliases are not allowed"),
    "an alias": ("seeds: 8", "seeds: §*n", "anchors and aliases are not allowed"),
    "a merge key": ("seeds: 8", "§<<: {seeds: 8}", "merge keys (<<) are not allowed"),
    "a python tag": ("seeds: 8", "seeds: §!!python/object/apply:os.system ['true']", "tags such as"),
    "a harmless tag": ("seeds: 8", "seeds: §!!str 8", "tags such as"),
    "two documents": ("data:", "§---\ndata:", "a second YAML document"),
    "an open bracket": ("[64, 256]", "[64, 256", "'}' does not close the '['"),
    "an open quote": ("question: Is", 'question: §"Is', "the quote that is opened here is not closed"),
    "bad indentation": ("    width: 64", "   §width: 64", "this line starts in column 4, but those it can belong to start in column 3 (line 11) or in column 5 (line 12)"),
    "a list for a key": ("seeds: 8", "§[a, b]: 8", "a key must be a word"),
    "an empty file": (GOOD, "§", "the file is empty"),
    "only a comment": (GOOD, "# nothing\n", "the file is empty"),
    "nested too deep": ("seeds: 8", "seeds: " + "[" * 40 + "]" * 40, "nested more than 20 deep"),
    "an escaped NUL": ("question: Is", 'question: §"\\0" #', "U+0000 is not allowed"),
    "a NUL": ("question: Is", "question: §\0", "U+0000 is not text"),
    "a control character": ("question: Is", "question: §\x1b[31m", "U+001B is not text"),
    # ---- files
    "extends nothing": ("suite: good", "suite: good\nextends: §other.yaml", "extends names no file: 'other.yaml'"),
    "extends no bundled suite": ("suite: good", "suite: good\nextends: §nothing", "extends names no bundled suite"),
    "extends itself": ("suite: good", "suite: good\nextends: §broken.yaml", "extends is cyclic"),
    "extends a list": ("suite: good", "suite: good\nextends: §[a, b]", "extends must name one suite file, not a list"),
    "a scale that renames": ("nano: {seeds: 2}", "nano: {§suite: other}", "a scale cannot change 'suite'"),
    "a scale that is no mapping": ("nano: {seeds: 2}", "nano: §2", "a scale must be a mapping"),
}  # fmt: skip

AS_WRITTEN: dict[str, tuple[str, str, str, str]] = {
    # ---- YAML: what is wrong is said of the line that is wrong, with what to write
    "a colon in a question": ("question: Is", "question: First§: is", "a second ':' in a text that is not quoted", 'quote it: question: "First: is this suite good?"'),
    "a colon and quotes in a sentence": ("    family: primary", '    says: "moe§" is: better\n    family: primary', "the quoted text ends here, and more follows", "put ' around the text"),
    "colons in a sentence": ("    family: primary", "    says: At equal size§: better: by far\n    family: primary", "a second ':'", 'quote it: says: "At equal size: better: by far"'),
    "a colon in a text of two lines": ("question: Is this suite good?", "question: Is this\n  suite good§: or not?", "a ':' within a text that is not quoted", "quote the whole text"),
    "a colon in a label": ("metric: speed.decode_step_s[batch=8]", "metric: speed.decode_step_s[batch§: 8]", "a ':' within a metric's label", "write labels as [batch=8]"),
    "a missing colon": ("seeds: 8", "§seeds 8", "a key without its ':': seeds", "write seeds: 8"),
    "an equals sign": ("seeds: 8", "§seeds = 8", "a key without its ':': seeds", "write seeds: 8"),
    "a missing colon of a model": ("  moe:\n", "  §moe\n", "a key without its ':'", "write moe:"),
    "no space after the colon": ("    layers: 2", "    §layers:2", "no space after the ':'", "write layers: 2"),
    "a line too deep": ("    width: 64", "      §width: 64", "this line starts in column 7, deeper than line 12, whose value is complete", "indent it by 4 spaces, as 'layers'"),
    "a line too deep at the top": ("seeds: 8", " §seeds: 8", "deeper than line 2", "do not indent it, as 'question'"),
    "a line between two levels": ("  batch_tokens: 4096", "   §batch_tokens: 4096", "this line starts in column 4, but those it can belong to start in column 3 (line 6)", "indent it by 2 spaces"),
    "a list entry among keys": ("seeds: 8", "seeds: 8\n§- data", "keys and list entries ('- ') are mixed", "write `name:` rather than `- name:`"),
    "models as a list": ("  moe:\n    layers", "  - name: moe\n    layers", "keys and list entries ('- ') are mixed", "models and claims have names"),
    "an apostrophe in quotes": ("question: Is this suite good?", "question: 'Is the suite§'s text good?'", "the quoted text ends here, and more follows", "put \" around the text, or write '' for a quote inside"),
    "a brace not closed": ("    ffn: {kind: dense}", "    ffn: §{kind: dense", "the '{' that is opened here is not closed", "close it with '}'"),
    "a brace closed by a bracket": ("{kind: dense}", "{kind: dense§]", "']' does not close the '{' of line 18, column 10", "write '}'"),
    "no comma": ("experts: 8, top_k: 2", "experts: 8 §top_k: 2", "a comma is missing before 'top_k'", "separated by commas"),
    "a share backwards": ("warmup: 5%", "warmup: §%5", "a text cannot begin with '%'", "write 5%"),
    "a text that begins with a sign": ("question: Is", "question: §@me Is", "a text cannot begin with '@'", "into double quotes"),
    "emphasis": ("question: Is", "question: §*Is", "anchors and aliases", "quote a text that begins with '&' or '*'"),
    "a backslash": ("{source: stdlib, context: 256}", '{source: text, files: ["C:\\§corpus"], context: 256}', "an unknown escape after a backslash", "use single quotes"),
    "a no-break space": ("    width: 64", "    width: 64\n§\u00a0   qk_norm: full", "a no-break space (U+00A0)", "a plain space"),
    "a template": ("seeds: 8", "seeds: {§{ seeds }}", "a key must be a word", "set it with --set"),
    "a comment for a text": ("question: Is this suite good?", "question:§ #1 is good", "question must be a word or text, not nothing", "what follows '#' is a comment"),
    "a text in brackets": ("    family: primary", "    says: [moe] §is better\n    family: primary", "more follows the ']'", "begins with a bracket into double quotes"),
    "a text with a dash": ("question: Is", "question: §- Is", "a text cannot begin with '-'", "into double quotes"),
    "a text after an arrow": ("question: Is this", "question: §> Is this", "a text cannot begin with '>'", "into double quotes"),
    "a brace too many": ("{kind: dense}", "{kind: dense}§}", "a '}' that closes nothing", "take it out"),
    "parentheses": ("{kind: dense}", "(kind§: dense)", "a mapping in one line stands in braces", "write braces: {kind: dense}"),
    "a full-width colon": ("seeds: 8", "seeds§\uff1a 8", "a full-width colon", "write ': '"),
    "files at the level of their key": ("data: {source: stdlib, context: 256}", "data:\n  source: text\n  §- a.txt", "keys and list entries ('- ') are mixed", "indent a list below its key"),
    "a no-break space after a colon": ("seeds: 8", "seeds:§\u00a08", "a no-break space (U+00A0)", "a plain space"),
    "a comma too many": ("{tokens: 1.0e6}", "{tokens: 1.0e6, §, }", "nothing stands before this ','", "take it out"),
    # ---- numbers
    "millions in a word": ("{tokens: 1.0e6}", "{tokens: §2 million}", "not '2 million'", "write 2000000"),
    "thousands": ("batch_tokens: 4096", "batch_tokens: §64k", "batch_tokens must be a whole number, not '64k'", "write 64000 (or 65536, if 1024 is meant)"),
    "millions": ("{tokens: 1.0e6}", "{tokens: §2M}", "tokens must be a number, not '2M'", "write 2000000"),
    "fractions of billions": ("{tokens: 1.0e6}", "{tokens: §1.5B tokens}", "not '1.5B tokens'", "write 1500000000"),
    "a power": ("batch_tokens: 4096", "batch_tokens: §2**12", "not '2**12'", "write 4096"),
    "commas in a number": ("{tokens: 1.0e6}", "{tokens: 1,§000,001}", "unknown key '000'", "write numbers without commas"),
    "a comma for a point": ("margin: 0.5%}", "margin: 0,§5%}", "unknown key '5%'", "fractions with a point"),
    "commas in quotes": ("{tokens: 1.0e6}", '{tokens: §"1,000,000"}', "tokens must be a number", "write 1000000, without quotes"),
    "minutes": ("{tokens: 1.0e6}", "{seconds: §10m}", "seconds must be a number, not '10m'", "write 600, in seconds"),
    "a rate in percent": ("lr: 3.0e-3", "lr: §0.3%", "lr must be a number, not '0.3%'", "write 0.003"),
    "a share in percent": ("{kind: recovers, value: 0.9}", "{kind: recovers, value: §90%}", "value must be a number", "write 0.9"),
    "bytes with their unit": ("{tokens: 1.0e6}", "{seconds: §2GB}", "seconds must be a number, not '2GB'", "write 2000000000"),
    "bytes by 1024": ("{tokens: 1.0e6}", "{seconds: §1.5 GiB}", "seconds must be a number, not '1.5 GiB'", "write 1610612736"),
    "a key of a part of a mixture": ("{source: stdlib, context: 256}", "{source: mixture, mixture: [{source: stdlib, §wieght: 3}], context: 256}", "unknown key 'wieght'", "did you mean 'weight'?"),
    "a metric without its task": ("metric: flops_to_quality", "metric: §lm_eval.acc", "needs the label 'task'", "write it as lm_eval.acc[task=NAME]"),
    "a factor with its sign": ("value: 2.0", "value: §2x", "value must be a number, not '2x'", "write 2"),
    "a share without its sign": ("warmup: 5%", "warmup: §0.05", "warmup 0.05 is no whole number of steps", "a share such as 5%"),
    "seeds in words": ("seeds: 8", "seeds: §eight", "seeds is how many (1 to 1000) or a list of seeds", ""),
    "seeds in quotes": ("seeds: 8", 'seeds: §"8"', "seeds is how many", "write 8"),
    "a range of seeds": ("seeds: 8", "seeds: §0-7", "seeds is how many", "write 8, which is 0 to 7"),
    "seeds without brackets": ("seeds: 8", "seeds: §0, 1, 2", "seeds is how many", "write [0, 1, 2]"),
    "fewer than no seeds": ("seeds: 8", "seeds: §-8", "seeds is how many (1 to 1000)", ""),
    "rates to try": ("lr: 3.0e-3", "lr: §[1.0e-3, 3.0e-3]", "lr must be a number, not a list", "tune: {lr: [...]}"),
    "widths to try": ("    width: 64", "    width: §[64, 128]", "width must be a whole number, not a list", "sweep: {width: [...]}"),
    # ---- one value for a mapping or a list
    "a budget without its unit": ("budget: {tokens: 1.0e6}", "budget: §1000000", "budget must be a mapping", "write it as {tokens: 1000000}"),
    "a budget in words": ("budget: {tokens: 1.0e6}", "budget: §2M tokens", "budget must be a mapping", "write it as {tokens: 2000000}"),
    "no budget at all": ("{tokens: 1.0e6}", "§{}", "give exactly one of tokens, flops, steps or seconds", ""),
    "two budgets": ("{tokens: 1.0e6}", "§{tokens: 1.0e6, steps: 9}", "not both tokens and steps", ""),
    "epochs": ("{tokens: 1.0e6}", "{§epochs: 2}", "unknown key 'epochs'", "`moebench plan` prints how many tokens an epoch"),
    "a source alone": ("data: {source: stdlib, context: 256}", "data: §stdlib", "data must be a mapping", "write it as {source: stdlib}"),
    "a path for data": ("data: {source: stdlib, context: 256}", "§data: {path: corpus}", "'source' is missing in data", "write {source: text, files: [FILE or FOLDER]}"),
    "data to download": ("{source: stdlib", "{source: §huggingface", "unknown source 'huggingface'", "nothing is downloaded"),
    "a file that is no list": ("{source: stdlib, context: 256}", "{source: text, files: §a.txt, context: 256}", "files must be a list", "write [a.txt]"),
    "a tokenizer": ("context: 256}", "tokenizer: §gpt2, context: 256}", "a tokenizer is bytes, {bpe: 4096}, {file: tokenizer.json} or {checkpoint: FOLDER}", ""),
    "a network in a word": ("ffn: {kind: dense}", "ffn: §dense", "ffn must be a mapping", "write it as {kind: dense"),
    "a match in a word": ("match: {to: moe, on: active_params, by: ffn.hidden, tolerance: 1%}", "match: §moe", "match must be a mapping", "write it as {to: moe, on: active_params}"),
    "a test in a word": ("{kind: superior, margin: 0.5%}", "§superior", "test must be a mapping", "write it as {kind: superior"),
    "a comparison in words": ("{treatment: moe, baseline: dense}\n    metric: test", "§moe vs dense\n    metric: test", "compare must be a mapping", "write it as {treatment: MODEL, baseline: MODEL}"),
    "claims as a list": (GOOD[GOOD.index("claims:") : GOOD.index("scales:")], "claims:\n  §- better\n", "claims must be a mapping", "write `name:` rather than `- name:`"),
    "two metrics": ("metric: flops_to_quality", "metric: §[flops_to_quality, test.bits_per_byte]", "metric must be a word or text, not a list", "a claim has one metric"),
    "a sweep of one value": ("[2, 4, 8]", "§4", "sweep needs a list of values", "write [4]"),
    "a sweep in a mapping": ("{ffn.experts: [2, 4, 8]}", "{ffn: §{experts: [2, 4]}}", "sweep needs a list of values", "write ffn.experts: [...]"),
    # ---- words of other tools
    "a width by another name": ("    width: 64", "    §d_model: 64", "unknown key 'd_model'", "did you mean 'width'?"),
    "layers by another name": ("    layers: 2", "    §num_hidden_layers: 2", "unknown key 'num_hidden_layers'", "did you mean 'layers'?"),
    "experts by another name": ("experts: 8,", "§num_local_experts: 8,", "unknown key 'num_local_experts'", "did you mean 'experts'?"),
    "experts of a dense model": ("ffn: {kind: dense}", "ffn: {kind: dense, §experts: 8}", "unknown key 'experts'", "'experts' is a key of kind: moe"),
    "a rate one level too high": ("  batch_tokens: 4096", "  §learning_rate: 3e-3\n  batch_tokens: 4096", "unknown key 'learning_rate'", "'lr' goes inside 'optimizer'"),
    "a batch by another name": ("  batch_tokens", "  §batch_size", "unknown key 'batch_size'", "did you mean 'batch_tokens'?"),
    "a rate three levels too high": ("    width: 64", "    width: 64\n    §lr: 0.1", "unknown key 'lr'", "'lr' goes inside 'train.optimizer'"),
    "gradient accumulation": ("  batch_tokens", "  §gradient_accumulation_steps: 4\n  batch_tokens", "unknown key 'gradient_accumulation_steps'", "give micro_batch_tokens"),
    "a decay by another name": ("warmup: 5%", "warmup: 5%, decay: §constant", "decay cannot be 'constant'", "did you mean 'none'?"),
    "another file by another name": ("suite: good", "suite: good\n§include: a.yaml", "unknown key 'include'", "did you mean 'extends'?"),
    "nothing for the claims": (GOOD[GOOD.index("claims:") : GOOD.index("scales:")], "claims:§\n", "claims must be a mapping", "leave claims out"),
    "two baselines": ("baseline: dense}\n    metric: test", "baseline: §[dense, total]}\n    metric: test", "baseline must be a word or text, not a list", "a claim has one baseline"),
    "a trend of a comparison": ("{kind: superior, margin: 0.5%}", "{kind: trend, sign: falling}", "a trend test needs 'along'", ""),
    "dropout": ("    width: 64", "    width: 64\n    §dropout: 0.1", "unknown key 'dropout'", "there is no dropout here"),
    "a vocabulary by a shorter name": ("    width: 64", "    width: 64\n    vocab: §50257", "a trained model has its tokenizer's words", ""),
    "a vocabulary": ("    width: 64", "    width: 64\n    §vocab_size: 50257", "unknown key 'vocab_size'", "the vocabulary is the tokenizer's"),
    "a level": ("margin: 0.5%}", "margin: 0.5%, §alpha: 0.01}", "unknown key 'alpha'", "the level is fixed"),
    "sides by other names": ("{treatment: moe, baseline: dense}\n    metric: test", "{treatment: moe, §control: dense}\n    metric: test", "unknown key 'control'", "did you mean 'baseline'?"),
    "a test by another name": ("{kind: superior", "{kind: §better", "unknown kind 'better'", "did you mean 'superior'?"),
    "a margin by another name": ("{kind: superior, margin: 0.5%}", "{kind: superior, §value: 0.5%}", "unknown key 'value'", "did you mean 'margin'?"),
    "a margin of all there is": ("{kind: superior, margin: 0.5%}", "{kind: superior, margin: §100%}", "margin 100%: nothing can be 100% lower", "ratio_at_least"),
    "a router by part of its name": ("softmax_topk", "§topk", "unknown router 'topk'", "did you mean 'softmax_topk'?"),
    "a model at the top": ("  swept:\n    base: moe\n    sweep: {ffn.experts: [2, 4, 8]}", "§swept:\n    base: moe", "unknown key 'swept'", "is it one of the models? Then indent it, below `models:`"),
    "a bundled suite with its ending": ("suite: good", "suite: good\nextends: §quickstart.yaml", "extends names no file", "named without its ending: quickstart"),
    "nothing for a model": ("  total:\n    base: dense\n    match: {on: total_params}\n", "  total:§\n", "a model must be a mapping of its sizes, not nothing", "null leaves out a model of the suite that is extended"),
    # ---- metrics
    **{
        f"the metric {word}": ("metric: test.bits_per_byte", f"metric: §{word}", f"unknown metric '{word}'", f"did you mean '{metric}'?")
        for word, metric in {
            "val_loss": "test.bits_per_byte", "perplexity": "test.bits_per_byte", "ppl": "test.bits_per_byte",
            "loss": "test.bits_per_byte", "bpb": "test.bits_per_byte", "bits_per_byte": "test.bits_per_byte",
            "accuracy": "test.bits_per_byte", "Loss": "test.bits_per_byte", "latency": "speed.decode_step_s[batch=1]",
            "throughput": "speed.decode_step_s[batch=1]", "tokens/s": "speed.decode_step_s[batch=1]",
            "TTFT": "speed.prefill_s[tokens=64]", "MFU": "speed.train_utilisation", "VRAM": "memory.inference_peak_bytes",
            "params": "cost.total_params", "FLOPs": "cost.train_flops_per_token", "dead_experts": "routing.dead_experts",
        }.items()
    },
}  # fmt: skip
"""Mistakes that people make, with the words that tell them what to write."""


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in caught.value.problems)
    assert all(len(problem.message) < 700 for problem in caught.value.problems)
    text = str(caught.value)
    for jargon in ("Input should", "union", "pydantic", "Traceback", "NoneType", "tag:yaml"):
        assert jargon not in text
    return caught.value.problems


def test_the_suite_that_is_broken_below_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    load_suite(tmp_path / "good.yaml")
    load_suite(tmp_path / "good.yaml", scale="nano")


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_suite_is_an_error_at_the_right_place(tmp_path: Path, case: str) -> None:
    told(tmp_path, GOOD, *BROKEN[case])


def test_the_suite_of_mixtures_is_good(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(MIXTURES)
    load_suite(tmp_path / "good.yaml")


@pytest.mark.parametrize("case", OF_MIXTURES)
def test_a_broken_mixture_is_an_error_at_the_right_place_with_advice(tmp_path: Path, case: str) -> None:
    *edit, hint = OF_MIXTURES[case]
    assert hint in told(tmp_path, MIXTURES, *edit)


@pytest.mark.parametrize("case", AS_WRITTEN)
def test_what_people_write_is_answered_with_what_to_write(tmp_path: Path, case: str) -> None:
    *edit, hint = AS_WRITTEN[case]
    assert hint in told(tmp_path, GOOD, *edit)


def test_every_common_word_stands_for_what_there_is() -> None:
    from moebench.metrics import METRICS
    from moebench.models.routers import ROUTERS
    from moebench.suite import synonyms
    from moebench.suite.explain import known_keys

    assert all(METRICS[metric].retired is None for metric in synonyms.synonyms("metrics"))
    words = [word for words in synonyms.synonyms("metrics").values() for word in words]
    assert len(words) == len(set(words))
    assert all(word == synonyms.plainly(word) for word in words)
    schema = json.dumps(suite_schema())
    assert [key for key in synonyms.synonyms("keys") if f'"{key}"' not in schema] == []
    assert [word for word in synonyms.synonyms("kinds") if word not in ROUTERS and f'"{word}"' not in schema] == []
    assert not set(synonyms.answers()) & set(known_keys(()))


@pytest.mark.parametrize("key", rewrite.EXAMPLES)
def test_the_examples_of_mappings_are_right(tmp_path: Path, key: str) -> None:
    """Each is put where it belongs, in a suite with models of that name."""
    inside = {"budget": "train", "optimizer": "train", "schedule": "train", "evaluate": "train"}
    example = rewrite.EXAMPLES[key].replace("MODEL", "moe", 1).replace("MODEL", "dense")
    if key in {"ffn", "match"}:
        sets = [f"models.dense.{key}={example}"]
    elif key in {"test", "compare", "target"}:
        sets = [f"claims.quality.{key}={example}"]
    elif key in {"speed", "decode"}:
        sets = [f"measure={{speed: {example if key == 'speed' else f'{{decode: {example}}}'}}}", "claims.latency=null"]
    else:
        sets = [f"{'train.' if key in inside else ''}{key}={example}"]
    (tmp_path / "good.yaml").write_text(GOOD)
    load_suite(tmp_path / "good.yaml", sets=sets)


def told(tmp_path: Path, good: str, old: str, new: str, message: str) -> str:
    """The advice given for an edit of a good suite, which is an error at the place marked in the new text."""
    assert good.count(old) >= 1
    marked = good.replace(old, new, 1)
    before, mark, after = marked.partition("§")
    (tmp_path / "broken.yaml").write_text(before + after)
    files = sorted(tmp_path.iterdir())
    found = problems(tmp_path / "broken.yaml")
    about = [(problem.line, problem.column) for problem in found if message in problem.message]
    assert about, f"{message!r} is not among {[problem.message for problem in found]}"
    if mark:
        assert about[0] == (before.count("\n") + 1, len(before) - before.rfind("\n"))
    assert len(found) <= 3, "one mistake is not told many times"
    assert sorted(tmp_path.iterdir()) == files, "nothing is written"
    return next(problem.hint or "" for problem in found if message in problem.message)


@pytest.mark.parametrize(
    ("raw", "line", "message"),
    [
        (b"suite: x\n# " + b"x" * 10_000_000, 1, "more than 1,000,000 bytes"),
        (b"suite: x\nquestion: \xff\xfe\n", 2, "not UTF-8"),
        (bytes(range(128, 256)) * 10, 1, "not UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "not text"),
        ("suite: x\n".encode("utf-16"), 1, "not UTF-8"),
        (b"a: [" + b"1, " * 30_000 + b"1]\n", 1, "more than 20,000 values"),
        (b"[" * 500_000, 1, "nested more than 20 deep"),
        (b"# x\n" * 1_300_000, 1, "more than 1,000,000 bytes"),
        (gzip.compress(GOOD.encode()), 1, "not UTF-8"),
        (b"a: " + b"{a: " * 30 + b"}" * 30, 1, "nested more than 20 deep"),
        (b'{"suite": "x", "question": "y?"}', 1, "is missing"),
        (b"import moebench\n", 1, "a suite is a mapping"),
    ],
    ids=[
        "10 MB",
        "latin",
        "bytes",
        "program",
        "utf-16",
        "many values",
        "brackets",
        "5 MB",
        "gzip",
        "nested",
        "json",
        "python",
    ],
)
def test_what_is_no_suite_at_all_is_refused(tmp_path: Path, raw: bytes, line: int, message: str) -> None:
    (tmp_path / "broken.yaml").write_bytes(raw)
    problem, *_ = problems(tmp_path / "broken.yaml")
    assert (problem.line, message in problem.message) == (line, True), problem.message
    assert problem.hint or "UTF-8" not in problem.message


def test_a_folder_is_no_suite(tmp_path: Path) -> None:
    assert problems(tmp_path)[0].message == "this is a folder, not a suite file"


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_and_a_byte_order_mark_are_no_mistakes(tmp_path: Path, ends: str) -> None:
    (tmp_path / "good.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", ends).encode())
    (tmp_path / "plain.yaml").write_text(GOOD)
    assert load_suite(tmp_path / "good.yaml").spec == load_suite(tmp_path / "plain.yaml").spec


def test_a_bomb_of_aliases_is_refused_at_its_first_anchor(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    (tmp_path / "broken.yaml").write_text("\n".join(rows))
    [problem] = problems(tmp_path / "broken.yaml")
    assert (problem.line, problem.column) == (1, 5)
    assert "anchors" in problem.message


def test_extends_in_a_circle_of_two_is_shown_where_it_closes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\nsuite: a\n")
    (tmp_path / "b.yaml").write_text("suite: b\nextends: a.yaml\n")
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path / "a.yaml")
    [problem] = caught.value.problems
    assert (Path(problem.file).name, problem.line, problem.column) == ("b.yaml", 2, 10)
    assert problem.message == "extends is cyclic: a.yaml -> b.yaml -> a.yaml"


def test_a_long_chain_of_bases_is_refused(tmp_path: Path) -> None:
    chain = "".join(f"  m{n}: {{base: m{n + 1}}}\n" for n in range(3000))
    (tmp_path / "broken.yaml").write_text(GOOD.replace("models:\n", f"models:\n  m3000: {{base: moe}}\n{chain}", 1))
    assert "inherit from each other" in problems(tmp_path / "broken.yaml")[0].message


# ------------------------------------------------------------------------------------------------ anything at all

PIECES = [
    "", " ", "\n", "\n  ", "  ", ":", ": ", "- ", "{", "}", "[", "]", ",", "#", "&a ", "*a", "!!int ", "|", ">", "'", '"', "%",
    "\\", "\t", "\r", "\0", "\ud7ff", "\u2028", "\ufeff", "é", "~", "null", "true", "0", "-1", "1e400", ".inf", "0x", "<<: ",
    "? ", "--- ", "...", "@", "`", "base: ", "sweep: ", "extends: good.yaml", "moe", "dense", "kind: ", "\"\\ud800\"",
    "\"\\U0011ffff\"", "scales: ", "train: ", "sweeps: ", "claims: ", "9" * 40, "x" * 500,
]  # fmt: skip
edits = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 40), st.sampled_from(PIECES) | st.text(max_size=4)),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits)
def test_no_edit_of_a_suite_raises_anything_but_a_suite_error(
    tmp_path: Path, changes: list[tuple[int, int, str]]
) -> None:
    text = GOOD
    for start, length, piece in changes:
        text = text[:start] + piece + text[start + length :]
    (tmp_path / "good.yaml").write_bytes(text.encode(errors="surrogatepass"))
    with contextlib.suppress(SuiteError):
        load_suite(tmp_path / "good.yaml", scale="nano", sets=["train.budget.tokens=2e6"])
