"""Which published design is which words of a suite: the rule of routing and what an expert is, sizes left out.

The words stand in a model's `ffn: {kind: moe, ...}` beside experts, top_k and widths; numbers here are the design's
own. `tests/test_parity.py` computes those that transformers ships with the same weights on both sides, words read from
here, and holds outputs and every gradient equal to 1e-5 in float32.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Design:
    """A published mixture in the words of a suite."""

    words: str
    """Fields of `ffn`, as in a suite file."""
    source: str
    """Where it was published."""
    equal_to: str | None = None
    """The code that it was computed against; None where none is at hand."""
    apart: str = ""
    """What the published system has that these words do not say."""


_OF_CONFIGURATION = (
    "the balance coefficient is its configuration's, for transformers' loss, which is top_k ({top_k}) times ours: "
    "{as_strong} here is as strong"
)
_EQUATION_18 = (
    "the paper's balance loss counts the top_k largest scores without biases and groups (DeepSeek-V3, eq. 18), ours "
    "the experts that were chosen with them"
)

DESIGNS: dict[str, Design] = {
    "jacobs-1991": Design(
        words="router: soft_mixture",
        source="Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79",
        apart="top_k is the number of experts; the paper's likelihood of a mixture",
    ),
    "shazeer-2017": Design(
        words="router: noisy_topk, activation: relu, balance_loss: 0, importance_loss: 0.1, load_loss: 0.1",
        source="Shazeer et al. 2017, arXiv:1701.06538",
        apart="a mixture between two LSTM layers",
    ),
    "shazeer-2017-hierarchical": Design(
        words="router: hierarchical, groups: 4, groups_chosen: 2, activation: relu, balance_loss: 0, "
        "importance_loss: 0.1, load_loss: 0.1",
        source="Shazeer et al. 2017, arXiv:1701.06538, appendix B",
        apart="a mixture between two LSTM layers",
    ),
    "gshard-2020": Design(
        words="router: gshard, activation: relu, capacity_factor: 1.0, every: 2",
        source="Lepikhin et al. 2020, arXiv:2006.16668",
        apart="capacity within groups of tokens, where ours is over the micro-batch; an encoder and decoder",
    ),
    "switch-2021": Design(
        words="router: switch, activation: relu, capacity_factor: 1.25, jitter: 0.01, every: 2",
        source="Fedus et al. 2021, arXiv:2101.03961",
        equal_to="transformers SwitchTransformersSparseMLP",
        apart="transformers counts capacity in each sequence, drops in evaluation too, and its jitter reaches the "
        "experts; T5's encoder and decoder",
    ),
    "glam-2021": Design(
        words="router: gshard, activation: gelu, capacity_factor: 1.25, every: 2, dense_activation: geglu",
        source="Du et al. 2021, arXiv:2112.06905",
        apart="relative positions",
    ),
    "hash-layers-2021": Design(
        words="router: token_hash, activation: relu, balance_loss: 0",
        source="Roller et al. 2021, arXiv:2106.04426",
    ),
    "expert-choice-2022": Design(
        words="router: expert_choice, balance_loss: 0, every: 2",
        source="Zhou et al. 2022, arXiv:2202.09368",
        apart="not causal: claims about its quality on text are refused",
    ),
    "frozen-random-2023": Design(
        words="router: frozen_random, balance_loss: 0",
        source="Dikkala et al. 2023, doi:10.18653/v1/2023.emnlp-main.583",
        apart="a control of the paper, which compares it with routers that are trained",
    ),
    "mixtral-2023": Design(
        words="router: softmax_topk, renormalise: true",
        source="Jiang et al. 2024, arXiv:2401.04088",
        equal_to="transformers MixtralSparseMoeBlock, MixtralForCausalLM",
    ),
    "dbrx-2024": Design(
        words="router: softmax_topk, renormalise: true, balance_loss: 0.05",
        source="Databricks 2024, databricks/dbrx-base config.json",
        equal_to="transformers DbrxFFN",
        apart="layer norms; queries, keys and values clipped to 8; " + _OF_CONFIGURATION.format(top_k=4, as_strong=0.2),
    ),
    "olmoe-2024": Design(
        words="router: softmax_topk, renormalise: false, balance_loss: 0.01, z_loss: 0.001",
        source="Muennighoff et al. 2024, arXiv:2409.02060",
        equal_to="transformers OlmoeSparseMoeBlock, OlmoeForCausalLM with the model's qk_norm: full",
    ),
    "qwen1.5-moe-2024": Design(
        words="router: softmax_topk, renormalise: false, balance_loss: 0.001, shared_hidden: 5632, shared_gate: true",
        source="Qwen Team 2024, Qwen/Qwen1.5-MoE-A2.7B config.json",
        equal_to="transformers Qwen2MoeSparseMoeBlock, Qwen2MoeForCausalLM without biases",
        apart="biases of queries, keys and values; " + _OF_CONFIGURATION.format(top_k=4, as_strong=0.004),
    ),
    "top-p-2024": Design(
        words="router: top_p, renormalise: false, top_p: 0.4",
        source="Huang et al. 2024, arXiv:2403.07652",
        apart="no bound but p on how many experts a token gets: ours is top_k, which may be all; "
        "its coefficients of the balance and entropy losses are not given here",
    ),
    "deepseek-v3-2024": Design(
        words="router: sigmoid_bias, renormalise: true, groups: 8, groups_chosen: 4, scale: 2.5, bias_rate: 0.001, "
        "balance_loss: 0.0001, balance_over: sequence, shared_hidden: 2048, first_dense: 3",
        source="DeepSeek-AI 2024, arXiv:2412.19437",
        equal_to="transformers DeepseekV3MoE",
        apart="latent attention; multi-token prediction; " + _EQUATION_18,
    ),
    "glm-4.5-2025": Design(
        words="router: sigmoid_bias, renormalise: true, scale: 2.5, bias_rate: 0.001, balance_loss: 0.0001, "
        "balance_over: sequence, shared_hidden: 1536, first_dense: 3",
        source="GLM-4.5 Team 2025, arXiv:2508.06471",
        equal_to="transformers Glm4MoeForCausalLM with the model's qk_norm: per_head, without biases, rotating whole "
        "heads",
        apart="rotary positions on half of a head; biases of queries, keys and values; " + _EQUATION_18,
    ),
    "qwen3-moe-2025": Design(
        words="router: softmax_topk, renormalise: true, balance_loss: 0.001, balance_over: batch",
        source="Yang et al. 2025, arXiv:2505.09388",
        equal_to="transformers Qwen3MoeSparseMoeBlock, Qwen3MoeForCausalLM with the model's qk_norm: per_head",
        apart=_OF_CONFIGURATION.format(top_k=8, as_strong=0.008),
    ),
    "gpt-oss-2025": Design(
        words="router: topk_softmax, activation: swiglu_clamped, bias: true",
        source="OpenAI 2025, arXiv:2508.10925",
        equal_to="transformers GptOssMLP",
        apart="attention sinks, sliding windows and biases in attention",
    ),
}
