"""Words that people write, from other tools and papers, and what they are called in a suite."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

METRIC_WORDS: Mapping[str, tuple[str, ...]] = {
    "test.bits_per_byte": (
        "loss", "val_loss", "valid_loss", "validation_loss", "test_loss", "eval_loss", "nll", "ce", "cross_entropy",
        "perplexity", "ppl", "val_ppl", "bpb", "bpc", "bits_per_byte", "bits_per_character", "quality", "accuracy",
    ),
    "train.bits_per_token": ("train_loss", "training_loss"),
    "speed.decode_step_s": (
        "latency", "decode_latency", "decode", "decode_time", "decode_speed", "throughput", "tokens_per_second",
        "tokens_per_s", "tokens_s", "tok_s", "tps", "tpot", "itl", "inter_token_latency", "generation_speed",
        "inference_speed", "inference_time", "speed",
    ),
    "speed.prefill_s": ("ttft", "time_to_first_token", "prefill", "prefill_time", "prefill_latency"),
    "speed.train_step_s": (
        "step_time", "train_time", "training_time", "training_speed", "train_speed", "train_throughput", "time",
    ),
    "speed.train_utilisation": ("mfu", "hfu", "utilisation", "utilization"),
    "speed.decode_bandwidth_utilisation": ("mbu", "bandwidth"),
    "memory.inference_peak_bytes": (
        "vram", "ram", "memory", "gpu_memory", "peak_memory", "inference_memory", "memory_bytes",
    ),
    "memory.train_peak_bytes": ("train_memory", "training_memory"),
    "cost.kv_bytes_per_token": ("kv_cache", "cache", "kv_bytes"),
    "cost.weight_bytes": ("weights", "model_size", "weight_size"),
    "cost.total_params": ("params", "parameters", "num_params", "n_params", "size", "total_params"),
    "cost.active_params": ("active", "active_params", "active_parameters", "activated_params"),
    "cost.train_flops_per_token": ("flops", "train_flops", "training_flops", "compute", "macs"),
    "cost.decode_flops_per_token": ("decode_flops", "inference_flops"),
    "routing.max_over_mean": ("balance", "load_balance", "imbalance", "load", "max_load"),
    "routing.entropy": ("entropy", "router_entropy", "routing_entropy"),
    "routing.dead_experts": ("dead", "dead_experts", "unused_experts"),
    "train.dropped_share": ("dropped", "dropped_tokens", "drop_rate", "dropped_share"),
    "seconds_to_quality": ("time_to_loss", "time_to_quality"),
    "tokens_to_quality": ("sample_efficiency", "tokens_to_loss"),
    "flops_to_quality": ("compute_to_loss", "flops_to_loss"),
}  # fmt: skip
"""Metric -> common words that are nearest to it."""

_INSTEAD = {
    "perplexity": "quality is measured in bits per byte: log2 of the perplexity of a byte",
    "ppl": "quality is measured in bits per byte: log2 of the perplexity of a byte",
    "accuracy": "quality is measured as cross-entropy, in bits per byte: there are no tasks with right answers",
    "throughput": "speed is measured as time, seconds a step: lower is better",
    "tokens_per_second": "speed is measured as time, seconds a step: lower is better",
}
"""What is measured in place of some of them."""

KEY_WORDS: Mapping[str, tuple[str, ...]] = {
    "width": ("d_model", "hidden_size", "n_embd", "dim", "embed_dim", "model_dim", "emb_dim"),
    "layers": ("n_layers", "n_layer", "num_layers", "num_hidden_layers", "depth"),
    "heads": ("n_heads", "n_head", "num_heads", "num_attention_heads", "attention_heads"),
    "kv_heads": ("n_kv_heads", "num_kv_heads", "num_key_value_heads"),
    "rope_theta": ("rope_base", "theta"),
    "norm_eps": ("rms_norm_eps", "layer_norm_eps"),
    "tied_embeddings": ("tie_word_embeddings", "tie_embeddings", "tied"),
    "experts": ("n_experts", "num_experts", "num_local_experts", "n_routed_experts"),
    "top_k": ("topk", "k", "top-k", "num_experts_per_tok", "num_experts_per_token", "moe_top_k"),
    "expert_hidden": ("moe_intermediate_size", "expert_dim", "expert_width", "expert_size"),
    "hidden": ("intermediate_size", "d_ff", "ffn_dim", "ffn_hidden", "mlp_hidden", "ff_dim"),
    "activation": ("hidden_act", "act", "activation_function"),
    "capacity_factor": ("capacity", "expert_capacity"),
    "balance_loss": ("aux_loss", "aux_loss_coef", "router_aux_loss_coef", "load_balance_loss"),
    "renormalise": ("norm_topk_prob", "normalize", "renormalize"),
    "kind": ("type", "mode"),
    "lr": ("learning_rate", "max_lr", "peak_lr", "rate"),
    "batch_tokens": ("batch_size", "batch", "global_batch_size"),
    "micro_batch_tokens": ("micro_batch_size", "micro_batch"),
    "warmup": ("warmup_steps", "warmup_ratio", "warm_up"),
    "clip": ("grad_clip", "max_grad_norm", "gradient_clipping", "clip_grad_norm"),
    "dtype": ("precision", "torch_dtype"),
    "steps": ("max_steps", "num_steps", "iterations", "max_iters"),
    "tokens": ("max_tokens", "num_tokens", "train_tokens"),
    "seeds": ("num_seeds", "n_seeds", "seed"),
    "context": ("context_length", "seq_len", "sequence_length", "block_size", "max_seq_len"),
    "files": ("path", "paths", "file", "folder", "dir"),
    "data": ("dataset", "corpus"),
    "suite": ("name", "title", "id"),
    "train": ("training", "recipe"),
    "extends": ("include", "includes", "inherit", "inherits", "parent", "import", "base"),
    "base": ("extends", "inherit", "inherits", "parent", "from"),
    "points": ("every", "evals", "num_evals", "eval_points", "interval"),
    "claims": ("hypotheses", "hypothesis", "tests"),
    "says": ("claim", "text", "statement", "description"),
    "treatment": ("new", "a", "candidate", "challenger", "model_a", "left"),
    "baseline": ("control", "b", "reference", "against", "model_b", "right", "versus", "vs"),
    "margin": ("value", "tolerance", "threshold", "delta", "epsilon", "at_least", "by"),
    "value": ("margin", "share", "factor", "ratio", "times"),
    "sign": ("direction",),
}
"""Our key -> those of other tools; offered only where ours may stand."""

KEY_ANSWERS: Mapping[str, str] = {
    "vocab_size": "there is none to give: one byte is one token, so the vocabulary is 256",
    "vocab": "there is none to give: one byte is one token, so the vocabulary is 256",
    "dropout": "there is no dropout here: leave it out",
    "epochs": "give tokens instead: `moebench plan` prints how many tokens an epoch, the training split, has",
    "hours": "give seconds: an hour is 3600",
    "minutes": "give seconds: a minute is 60",
    "alpha": "the level is fixed: 2.5% one-sided, shared by the primary claims (Holm)",
    "confidence": "the level is fixed: intervals are 95%",
    "p_value": "the level is fixed: 2.5% one-sided, shared by the primary claims (Holm)",
    "gradient_accumulation": "give micro_batch_tokens: so many of them make up batch_tokens",
    "gradient_accumulation_steps": "give micro_batch_tokens: so many of them make up batch_tokens",
    "version": "a suite needs none: leave it out",
    "device": "a device is chosen on the command line, with --device",
    "workers": "workers are chosen on the command line, with --workers",
    "model_type": "models are written out in a suite; `moebench inspect FILE` counts a config.json",
}
"""Keys that have no place in a suite, and what to do instead."""

KIND_WORDS: Mapping[str, tuple[str, ...]] = {
    "superior": ("better", "best", "lower", "higher", "greater", "less", "improves", "wins", "beats"),
    "non_inferior": ("not_worse", "no_worse", "noninferior", "as_good", "at_most"),
    "equivalent": ("same", "equal", "equals", "similar", "matches", "tost", "equivalence"),
    "ratio_at_least": ("faster", "speedup", "times", "factor", "ratio", "at_least"),
    "ratio_within": ("between", "within", "range"),
    "trend": ("slope", "scaling", "monotone", "rising", "falling"),
    "exact": ("count", "counted", "exactly", "is"),
    "none": ("constant", "flat"),
    "bfloat16": ("bf16", "half", "mixed", "amp"),
    "float32": ("fp32", "float", "single"),
    "active_params": ("active", "active_parameters", "params"),
    "train_flops": ("flops", "compute", "training_flops"),
    "dense": ("mlp", "ffn", "swiglu", "standard", "transformer"),
    "moe": ("mixture", "sparse", "experts", "moe_ffn", "switch"),
    "text": ("file", "files", "local", "custom", "txt", "folder"),
    "synthetic": ("markov", "random", "toy"),
    "stdlib": ("python", "code"),
    "softmax_topk": ("topk", "top-k", "top_k", "mixtral", "softmax", "olmoe", "default"),
    "sigmoid_bias": ("deepseek", "deepseek_v3", "loss_free", "sigmoid", "aux_free"),
    "token_hash": ("hash", "hashed"),
    "frozen_random": ("random", "frozen"),
    "noisy_topk": ("noisy", "shazeer"),
}
"""Our word for a test, a network, a source, a router or a choice -> others; offered only where ours may stand."""

DOWNLOADED = frozenset(
    {"huggingface", "hf", "wikitext", "wikipedia", "c4", "fineweb", "openwebtext", "pile", "url", "web", "datasets"}
)
"""Sources of data that one would have to download."""


def plainly(word: object) -> str:
    """`Val-Loss` is `val_loss`: as the words above are written."""
    return re.sub(r"[\s/.-]+", "_", str(word)[:100].strip().lower()).strip("_")


def meant(word: object, known: Collection[str], table: Mapping[str, tuple[str, ...]]) -> str | None:
    """Our word for one that others use, among those that are known here; None when there is none."""
    asked = plainly(word)
    if asked in known:
        return asked
    return next((ours for ours, words in table.items() if ours in known and asked in words), None)


def metric_meant(word: str) -> tuple[str, str | None] | None:
    """The metric nearest to a common word, and what is measured in its place where that is another thing."""
    asked = plainly(word.partition("[")[0])
    metric = meant(asked, METRIC_WORDS, METRIC_WORDS)
    return (metric, _INSTEAD.get(asked)) if metric is not None else None
