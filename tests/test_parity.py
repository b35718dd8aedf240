"""Same weights in, same numbers out: our mixtures and models against those that transformers ships.

The words of a family come from `spec.designs`; sizes are small here. A layout says where each of our tensors stands in
theirs, and serves weights and gradients alike. Weights are spread out, so that routing is decided (inputs moved by a
thousandth go the same way) and loads are uneven. Outputs and the gradient of every tensor agree to

    |ours - theirs| <= 1e-5 (|theirs| + size)

in every element, in float32; size is the root mean square of theirs, or a tenth of the largest among the tensors
compared together where that is more, so that it cannot vanish.

Legend: B batch, T tokens, D width, E experts, F expert hidden.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.models.architecture import Architecture
from moebench.models.decoder import Transformer, build
from moebench.models.decoder.experts import BACKENDS
from moebench.models.decoder.moe import MoE
from moebench.models.routers import Routing, Text
from moebench.suite.designs import designs
from moebench.suite.model import MoEFFN
from tests.support.closeness import LEAST_SHARE, assert_near, errors, numbered
from tests.support.small_models import architecture, dense

pytestmark = pytest.mark.numeric

TOLERANCE = 3e-5
"""Of float32 under any set of kernels: the largest seen is 1.1e-5, gradients of gpt_oss under the oldest ones."""
B, T, D, VOCAB = 2, 48, 32, 64

Get = Callable[[str], Tensor]
"""Their tensor, or its gradient, by its name."""
Layout = Callable[[Get], dict[str, Tensor]]
"""Our tensors by our names, put together from theirs: rearrangements alone, so right for gradients too."""


def theirs(module: str, name: str) -> Any:
    """A class of transformers, whose import warns on behalf of others."""
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"transformers.models.{module}"), name)


def difference(ours: Tensor, their: Tensor, *, least: float = 0.0) -> float:
    """The largest difference over |theirs| + size; at most TOLERANCE where the two are equal."""
    ours, their = ours.detach(), their.detach()
    size = max(root_mean_square(their), least)
    assert size > 0, "nothing to compare"
    return float(((ours - their).abs() / (their.abs() + size)).max())


def differences(ours: Mapping[str, Tensor], their: Mapping[str, Tensor]) -> dict[str, float]:
    assert set(ours) == set(their)
    least = LEAST_SHARE * max(root_mean_square(value) for value in their.values())
    return {name: difference(ours[name], their[name], least=least) for name in ours}


def root_mean_square(value: Tensor) -> float:
    return float(value.detach().float().square().mean().sqrt())


def assert_equal(ours: Mapping[str, Tensor], their: Mapping[str, Tensor]) -> None:
    apart = {name: value for name, value in differences(ours, their).items() if not value <= TOLERANCE}
    assert apart == {}


# ------------------------------------------------------------------------------------------ layouts of blocks


def fused(t: Get, *, router: str = "gate") -> dict[str, Tensor]:
    return {
        "router.weight": t(f"{router}.weight"),
        "gate_up": t("experts.gate_up_proj"),
        "down": t("experts.down_proj"),
    }


def network(t: Get, theirs: str) -> dict[str, Tensor]:
    gate, up, down = (t(f"{theirs}.{name}_proj.weight") for name in ("gate", "up", "down"))
    return {"gate_up": torch.cat((gate, up)), "down": down}


def shared(t: Get, theirs: str) -> dict[str, Tensor]:
    return {f"shared.{name}": value for name, value in network(t, theirs).items()}


def qwen2_moe(t: Get) -> dict[str, Tensor]:
    return fused(t) | shared(t, "shared_expert") | {"shared_gate": t("shared_expert_gate.weight")}


def deepseek_v3(t: Get) -> dict[str, Tensor]:
    return fused(t) | shared(t, "shared_experts") | {"router.bias_E": t("gate.e_score_correction_bias")}


def dbrx(t: Get) -> dict[str, Tensor]:
    """All experts' rows in one matrix; the down projection stored as the up projection is."""
    gate, up, down = (t(f"experts.mlp.{name}").view(8, -1, D) for name in ("w1", "v1", "w2"))
    return {"router.weight": t("router.layer.weight"), "gate_up": torch.cat((gate, up), 1), "down": down.mT}


def gpt_oss(t: Get) -> dict[str, Tensor]:
    """Matrices transposed, rows of gate and up in turn."""

    def apart(rows: Tensor) -> Tensor:
        return torch.cat((rows[:, ::2], rows[:, 1::2]), 1)

    return {
        "router.weight": t("router.weight"),
        "router.bias": t("router.bias"),
        "gate_up": apart(t("experts.gate_up_proj").mT),
        "gate_up_bias": apart(t("experts.gate_up_proj_bias")),
        "down": t("experts.down_proj").mT,
        "down_bias": t("experts.down_proj_bias"),
    }


def switch(t: Get) -> dict[str, Tensor]:
    """One module an expert, two matrices each."""
    return {
        "router.weight": t("router.classifier.weight"),
        "gate_up": torch.stack([t(f"experts.expert_{e}.wi.weight") for e in range(8)]),
        "down": torch.stack([t(f"experts.expert_{e}.wo.weight") for e in range(8)]),
    }


# ------------------------------------------------------------------------------------------ blocks


@dataclass(frozen=True, kw_only=True)
class Family:
    """A mixture of transformers beside the design that it is."""

    design: str
    """Of `spec.designs`."""
    sizes: dict[str, Any]
    """Of our mixture."""
    module: str
    block: str
    config: str
    settings: dict[str, Any]
    """Of theirs."""
    layout: Layout


SOFTMAX = {"hidden_size": D, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 12}
FINE = {"experts": 16, "top_k": 4, "expert_hidden": 12}
COARSE = {"experts": 8, "top_k": 2, "expert_hidden": 24}

FAMILIES = {
    "mixtral": Family(
        design="mixtral-2023", sizes=COARSE,
        module="mixtral", block="MixtralSparseMoeBlock", config="MixtralConfig",
        settings={"hidden_size": D, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 24},
        layout=fused,
    ),
    "olmoe": Family(
        design="olmoe-2024", sizes=FINE,
        module="olmoe", block="OlmoeSparseMoeBlock", config="OlmoeConfig",
        settings={"hidden_size": D, "num_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 12},
        layout=fused,
    ),
    "qwen3_moe": Family(
        design="qwen3-moe-2025", sizes=FINE,
        module="qwen3_moe", block="Qwen3MoeSparseMoeBlock", config="Qwen3MoeConfig",
        settings=SOFTMAX | {"norm_topk_prob": True},
        layout=fused,
    ),
    "qwen2_moe": Family(
        design="qwen1.5-moe-2024", sizes=FINE | {"shared_hidden": 20},
        module="qwen2_moe", block="Qwen2MoeSparseMoeBlock", config="Qwen2MoeConfig",
        settings=SOFTMAX | {"norm_topk_prob": False, "shared_expert_intermediate_size": 20},
        layout=qwen2_moe,
    ),
    "deepseek_v3": Family(
        design="deepseek-v3-2024",
        sizes={"experts": 16, "top_k": 4, "expert_hidden": 12, "groups": 4, "groups_chosen": 2, "shared_hidden": 24},
        module="deepseek_v3", block="DeepseekV3MoE", config="DeepseekV3Config",
        settings={"hidden_size": D, "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 12,
                  "n_group": 4, "topk_group": 2, "n_shared_experts": 2, "norm_topk_prob": True,
                  "routed_scaling_factor": 2.5},
        layout=deepseek_v3,
    ),
    "dbrx": Family(
        design="dbrx-2024", sizes=COARSE,
        module="dbrx", block="DbrxFFN", config="DbrxConfig",
        settings={"d_model": D, "n_heads": 4,
                  "ffn_config": {"hidden_size": D, "ffn_hidden_size": 24, "moe_num_experts": 8, "moe_top_k": 2,
                                 "moe_normalize_expert_weights": 1.0}},
        layout=dbrx,
    ),
    "gpt_oss": Family(
        design="gpt-oss-2025", sizes=COARSE,
        module="gpt_oss", block="GptOssMLP", config="GptOssConfig",
        settings={"hidden_size": D, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 24},
        layout=gpt_oss,
    ),
    "switch": Family(
        design="switch-2021", sizes={"experts": 8, "top_k": 1, "expert_hidden": 24},
        module="switch_transformers", block="SwitchTransformersSparseMLP", config="SwitchTransformersConfig",
        settings={"d_model": D, "d_ff": 24, "num_experts": 8, "expert_capacity": B * T, "dense_act_fn": "relu",
                  "dropout_rate": 0.0, "router_jitter_noise": 0.0},
        layout=switch,
    ),
}  # fmt: skip


def in_words(design: str, **sizes: Any) -> MoEFFN:
    """A design of the table at other sizes."""
    words = yaml.safe_load(f"{{{designs()[design].words}}}")
    return MoEFFN.model_validate({"kind": "moe", **words, **sizes})


@torch.no_grad()
def spread_out(module: nn.Module, *, seed: int, scale: float = 2.0) -> None:
    """Matrices that multiply the scale of what they get, routers by 2 or more; vectors around their value."""
    generator = torch.Generator().manual_seed(seed)
    tensors = [*module.named_parameters(), *((n, b) for n, b in module.named_buffers() if "correction" in n)]
    for name, tensor in tensors:
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            routes = name.endswith(("gate.weight", "router.weight"))
            fan_in = 1 if "embed" in name else tensor.shape[-1]
            tensor.copy_((2.0 if routes else scale) * noise / fan_in**0.5)
        else:
            tensor.copy_(("norm" in name) + (0.1 if "correction" in name else 0.3) * noise)


def their_block(family: Family, *, seed: int = 1, **changes: Any) -> nn.Module:
    config = theirs(family.module, family.config)(**family.settings | changes)
    config._experts_implementation = "eager"
    block: nn.Module = theirs(family.module, f"modeling_{family.module}").__dict__[family.block](config)
    spread_out(block, seed=seed)
    return block.eval()


def weights_of(module: nn.Module) -> Get:
    state = module.state_dict()
    return lambda name: state[name]


def gradients_of(module: nn.Module) -> Get:
    """Buffers, and weights that nothing reached, have gradients of zero."""
    found = {name: torch.zeros_like(tensor) for name, tensor in module.state_dict().items()}
    found |= {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return lambda name: found[name]


def our_block(ffn: MoEFFN, block: nn.Module, layout: Layout, *, backend: str) -> MoE:
    """Our mixture with the weights of theirs: every tensor of both is used."""
    used: set[str] = set()

    def watched(name: str) -> Tensor:
        used.add(name)
        return weights_of(block)(name)

    moe = MoE(ffn, width=D, vocab=VOCAB, layer=0, backend=backend)
    moe.load_state_dict(layout(watched))
    assert used == set(block.state_dict())
    return moe.eval()


def text(x_BTD: Tensor) -> Text:
    return Text(ids_BT=torch.zeros(x_BTD.shape[:2], dtype=torch.int64))


def chosen(routing: Routing, experts: int) -> Tensor:
    """Which experts each token goes to, bool [T, E]."""
    count = int(routing.token_N.max()) + 1
    return torch.zeros(count, experts, dtype=torch.bool).index_put(
        (routing.token_N, routing.expert_N), torch.tensor(True)
    )


def decided_inputs(moe: MoE, *, sequences: int = B, seed: int = 2) -> Tensor:
    """Inputs [B, T, D] that go where they go with room to spare: moved by a thousandth they go there too."""
    generator = torch.Generator().manual_seed(seed)
    pool_TD = torch.randn(1, 8 * T, D, generator=generator) + 0.5 * torch.randn(D, generator=generator)
    experts = moe.gate_up.shape[0]

    def went(x_BTD: Tensor) -> Tensor:
        with torch.no_grad():
            return chosen(moe(x_BTD, text(x_BTD))[1], experts)

    moved = [pool_TD * (1 + 1e-3 * torch.randn(pool_TD.shape, generator=generator)) for _ in range(8)]
    settled_T = torch.stack([(went(x_BTD) == went(pool_TD)).all(1) for x_BTD in moved]).all(0)
    return pool_TD[0, settled_T][: sequences * T].view(sequences, T, D).contiguous()


def through(module: nn.Module, x_BTD: Tensor, *more: Any) -> tuple[Tensor, Tensor, Any]:
    """(output, gradient of the input, whatever else came out) of a loss that weighs every output differently."""
    x_BTD = x_BTD.clone().requires_grad_()
    out = module(x_BTD, *more)
    out_BTD, rest = out if isinstance(out, tuple) else (out, None)
    probe = torch.randn(out_BTD.shape, generator=torch.Generator().manual_seed(3))
    (out_BTD * probe).sum().backward()
    assert x_BTD.grad is not None
    return out_BTD.detach(), x_BTD.grad, rest


def compared(ours: MoE, block: nn.Module, layout: Layout, x_BTD: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(ours, theirs): the output, and the gradients of the input and of every weight."""
    our_out, our_x, _ = through(ours, x_BTD, text(x_BTD))
    their_out, their_x, _ = through(block, x_BTD)
    gradients = layout(gradients_of(block))
    our = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    their = {name: gradients[name] for name, _ in ours.named_parameters()}
    return our | {"output": our_out, "input": our_x}, their | {"output": their_out, "input": their_x}


def assert_uneven(routing: Routing, experts: int) -> None:
    """Every expert is used, and the busiest at least twice as much as the idlest."""
    load_E = torch.bincount(routing.expert_N, minlength=experts)
    assert load_E.min() > 0
    assert load_E.max() >= 2 * load_E.min()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_mixture_computes_what_transformers_computes(name: str, backend: str) -> None:
    family = FAMILIES[name]
    block = their_block(family)
    ours = our_block(in_words(family.design, **family.sizes), block, family.layout, backend=backend)
    x_BTD = decided_inputs(ours)
    assert_uneven(ours(x_BTD, text(x_BTD))[1], family.sizes["experts"])
    assert_equal(*compared(ours, block, family.layout, x_BTD))


def test_the_clamps_of_gpt_oss_are_reached() -> None:
    """Else its parity would say nothing of them."""
    family = FAMILIES["gpt_oss"]
    ours = our_block(in_words(family.design, **family.sizes), their_block(family), family.layout, backend="loop")
    x_TD = decided_inputs(ours).flatten(0, 1)
    hidden_ETX = torch.einsum("td,exd->etx", x_TD, ours.gate_up) + ours.gate_up_bias[:, None]  # type: ignore[index]
    gate, up = hidden_ETX.chunk(2, dim=2)
    assert all(bool(reached.any()) for reached in (gate > 7, up > 7, up < -7))


def test_selection_biases_of_deepseek_change_who_is_selected() -> None:
    """Else its parity would say nothing of them; and its groups keep tokens from their best experts."""
    family = FAMILIES["deepseek_v3"]
    block = their_block(family)
    words = in_words(family.design, **family.sizes)
    ours = our_block(words, block, family.layout, backend="loop")
    x_BTD = decided_inputs(ours)
    went_TE = chosen(ours(x_BTD, text(x_BTD))[1], 16)
    ungrouped = our_block(words.model_copy(update={"groups": None, "groups_chosen": None}), block, family.layout,
                          backend="loop")  # fmt: skip
    assert not torch.equal(chosen(ungrouped(x_BTD, text(x_BTD))[1], 16), went_TE)
    ours.router.bias_E.zero_()  # type: ignore[operator]
    assert not torch.equal(chosen(ours(x_BTD, text(x_BTD))[1], 16), went_TE)


# ------------------------------------------------------------------------------------------ capacity

SLOTS = 6


def capped(*, sequences: int, capacity_factor: float) -> tuple[MoE, nn.Module, Tensor]:
    """Both in training, where both refuse: theirs with SLOTS places for an expert."""
    family = FAMILIES["switch"]
    block = their_block(family, expert_capacity=SLOTS).train()
    words = in_words(family.design, **family.sizes).model_copy(
        update={"jitter": None, "capacity_factor": capacity_factor}
    )
    ours = our_block(words, block, family.layout, backend="loop")
    return ours.train(), block, decided_inputs(ours, sequences=sequences)


def test_in_one_sequence_switch_refuses_the_tokens_that_transformers_refuses() -> None:
    ours, block, x_1TD = capped(sequences=1, capacity_factor=SLOTS * 8 / T)
    assert int(ours(x_1TD, text(x_1TD))[1].dropped) > 5
    assert_equal(*compared(ours, block, FAMILIES["switch"].layout, x_1TD))


def test_transformers_counts_capacity_in_each_sequence_and_we_over_the_micro_batch() -> None:
    """So sequences one by one are equal, and together a full expert of one sequence may use the room of another."""
    ours, block, x_BTD = capped(sequences=4, capacity_factor=SLOTS * 8 / T)
    theirs_BTD = block(x_BTD)
    alone_BTD = torch.cat([ours(x_1TD, text(x_1TD))[0] for x_1TD in x_BTD.split(1)])
    assert difference(alone_BTD, theirs_BTD) <= TOLERANCE
    together_BTD, routing = ours(x_BTD, text(x_BTD))
    assert difference(together_BTD, theirs_BTD) > 0.1
    assert 0 < int(routing.dropped) < int((theirs_BTD == 0).all(2).sum())


def test_in_evaluation_transformers_refuses_and_we_do_not() -> None:
    ours, block, x_1TD = capped(sequences=1, capacity_factor=SLOTS * 8 / T)
    refused = (block.eval()(x_1TD) == 0).all(2)
    assert refused.any()
    assert not (ours.eval()(x_1TD, text(x_1TD))[0] == 0).all(2).any()


# ------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_transformers_balance_loss_is_k_times_ours(top_k: int) -> None:
    """Of one layer; theirs pools layers before it multiplies, ours is the mean of the layers' losses."""
    ours, x_BTD, router_gradient = routed(top_k)
    loss = theirs("mixtral", "modeling_mixtral").load_balancing_loss_func
    logits_TE = F.linear(x_BTD.flatten(0, 1), ours.router.weight)  # type: ignore[arg-type]
    routing = ours(x_BTD, text(x_BTD))[1]
    their_loss, our_loss = loss((logits_TE,), 8, top_k), top_k * routing.losses["balance_loss"]
    assert their_loss > 1.05 * top_k  # far from balance, where it is k
    assert difference(our_loss, their_loss) <= TOLERANCE
    assert difference(router_gradient(our_loss), router_gradient(their_loss)) <= TOLERANCE


def test_transformers_router_z_loss_is_ours() -> None:
    ours, x_BTD, router_gradient = routed(2)
    loss = theirs("switch_transformers", "modeling_switch_transformers").router_z_loss_func
    their_loss = loss(F.linear(x_BTD, ours.router.weight))  # type: ignore[arg-type]
    our_loss = ours(x_BTD, text(x_BTD))[1].losses["z_loss"]
    assert difference(our_loss, their_loss) <= TOLERANCE
    assert difference(router_gradient(our_loss), router_gradient(their_loss)) <= TOLERANCE


def routed(top_k: int) -> tuple[MoE, Tensor, Callable[[Tensor], Tensor]]:
    """(a mixture with both losses, inputs, the gradient of a loss with respect to its router)."""
    ours = MoE(MoEFFN(kind="moe", experts=8, top_k=top_k, expert_hidden=4, z_loss=0.1), width=D, vocab=VOCAB, layer=0,
               backend="loop")  # fmt: skip
    spread_out(ours, seed=5)
    return ours, decided_inputs(ours), lambda loss: torch.autograd.grad(loss, ours.router.weight)[0]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ whole models


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A decoder of transformers beside ours."""

    architecture: Architecture
    module: str
    model: str
    settings: dict[str, Any]
    """Of theirs, beyond what all have."""
    mixture: Layout | None = None
    dense: tuple[int, ...] = ()
    """Layers that are dense, where the others are not."""


def shape(ffn: Any, **changes: Any) -> Architecture:
    """Grouped-query attention, and no value that is anyone's default."""
    sizes = {"vocab": VOCAB, "context": 40, "layers": 2, "width": D, "heads": 4, "kv_heads": 2, "head_dim": 8}
    return architecture(ffn, **sizes | {"tied_embeddings": False, "rope_theta": 500.0, "norm_eps": 1e-3} | changes)


LLAMA3 = {"factor": 4.0, "original_context": 16, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"factor": 4.0, "original_context": 10, "beta_fast": 3.0, "beta_slow": 0.5, "truncate": False}


def hf(scaling: dict[str, Any], kind: str) -> dict[str, Any]:
    """The same in transformers' words."""
    named = {{"original_context": "original_max_position_embeddings"}.get(key, key): v for key, v in scaling.items()}
    return {"rope_type": kind, "rope_theta": 500.0, **named}


WHOLE = {
    "llama": Whole(
        architecture=shape(dense(40)), module="llama", model="Llama", settings={"intermediate_size": 40, "head_dim": 8}
    ),
    "llama, tied": Whole(
        architecture=shape(dense(40), tied_embeddings=True, head_dim=6),
        module="llama", model="Llama", settings={"intermediate_size": 40, "head_dim": 6},
    ),
    "mixtral": Whole(
        architecture=shape(in_words("mixtral-2023", **COARSE)), module="mixtral", model="Mixtral",
        settings=FAMILIES["mixtral"].settings | {"head_dim": 8, "sliding_window": None}, mixture=fused,
    ),
    "olmoe": Whole(
        architecture=shape(in_words("olmoe-2024", **FINE), qk_norm="full"), module="olmoe", model="Olmoe",
        settings=FAMILIES["olmoe"].settings, mixture=fused,
    ),
    "llama, biases, positions as of Llama 3.1": Whole(
        architecture=shape(dense(40), attention_bias="all", rope_scaling=LLAMA3 | {"kind": "llama3"}),
        module="llama", model="Llama",
        settings={"intermediate_size": 40, "head_dim": 8, "attention_bias": True,
                  "rope_parameters": hf(LLAMA3, "llama3")},
    ),
    "llama, positions stretched alike": Whole(
        architecture=shape(dense(40), rope_scaling={"kind": "linear", "factor": 3.0}), module="llama", model="Llama",
        settings={"intermediate_size": 40, "head_dim": 8, "rope_parameters": hf({"factor": 3.0}, "linear")},
    ),
    "mixtral, a window": Whole(
        architecture=shape(in_words("mixtral-2023", **COARSE), window=7), module="mixtral", model="Mixtral",
        settings=FAMILIES["mixtral"].settings | {"head_dim": 8, "sliding_window": 7}, mixture=fused,
    ),
    "gpt_oss": Whole(
        architecture=shape(
            in_words("gpt-oss-2025", **COARSE), layers=3, window=7, full_every=2, attention_sinks=True,
            attention_bias="all", rope_scaling={"kind": "yarn", **YARN},
        ),
        module="gpt_oss", model="GptOss", mixture=gpt_oss,
        settings=FAMILIES["gpt_oss"].settings
        | {"head_dim": 8, "sliding_window": 7, "rope_parameters": hf(YARN, "yarn")},
    ),
    "qwen2_moe": Whole(
        architecture=shape(
            in_words("qwen1.5-moe-2024", **FINE | {"shared_hidden": 20, "every": 2, "dense_hidden": 40}),
            attention_bias="qkv",
        ),
        module="qwen2_moe", model="Qwen2Moe", mixture=qwen2_moe, dense=(0,),
        settings=FAMILIES["qwen2_moe"].settings
        | {"intermediate_size": 40, "decoder_sparse_step": 2, "qkv_bias": True},
    ),
    "qwen3_moe": Whole(
        architecture=shape(in_words("qwen3-moe-2025", **FINE), qk_norm="per_head", head_dim=6),
        module="qwen3_moe", model="Qwen3Moe", settings=FAMILIES["qwen3_moe"].settings | {"head_dim": 6}, mixture=fused,
    ),
    "glm4_moe": Whole(
        architecture=shape(
            in_words("glm-4.5-2025", **FINE | {"shared_hidden": 24, "first_dense": 1, "dense_hidden": 40}),
            qk_norm="per_head",
        ),
        module="glm4_moe", model="Glm4Moe", mixture=deepseek_v3, dense=(0,),
        settings={"n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 12, "n_shared_experts": 2,
                  "routed_scaling_factor": 2.5, "first_k_dense_replace": 1, "intermediate_size": 40,
                  "num_mtp_layers": 0, "use_qk_norm": True, "head_dim": 8, "partial_rotary_factor": 1.0},
    ),
}  # fmt: skip


def their_model(whole: Whole, *, seed: int) -> nn.Module:
    a = whole.architecture
    common = {
        "vocab_size": a.vocab, "hidden_size": a.width, "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads, "max_position_embeddings": a.context, "rms_norm_eps": a.norm_eps,
        "tie_word_embeddings": a.tied_embeddings, "pad_token_id": None, "eos_token_id": None,
        "attn_implementation": "eager",
        "rope_parameters": {"rope_type": "default", "rope_theta": a.rope_theta,
                            **{k: v for k, v in whole.settings.items() if k == "partial_rotary_factor"}},
    }  # fmt: skip
    config = theirs(whole.module, f"{whole.model}Config")(**common | whole.settings)
    config._experts_implementation = "eager"
    model: nn.Module = theirs(whole.module, f"{whole.model}ForCausalLM")(config)
    spread_out(model, seed=seed, scale=1.0)  # 2.0 would let rounding grow from layer to layer
    return model.eval()


def whole_layout(whole: Whole) -> Layout:
    """Our names of every tensor of their model."""
    a = whole.architecture

    def layout(t: Get) -> dict[str, Tensor]:
        found = {"embedding": t("model.embed_tokens.weight"), "norm.weight": t("model.norm.weight")}
        if not a.tied_embeddings:
            found["head"] = t("lm_head.weight")
        for i in range(a.layers):
            ours, layer = f"layers.{i}", f"model.layers.{i}"
            found[f"{ours}.attention_norm.weight"] = t(f"{layer}.input_layernorm.weight")
            found[f"{ours}.ffn_norm.weight"] = t(f"{layer}.post_attention_layernorm.weight")
            for name in ("query", "key", "value", "output"):
                found[f"{ours}.attention.{name}"] = t(f"{layer}.self_attn.{name[0]}_proj.weight")
                if a.attention_bias == "all" or (a.attention_bias == "qkv" and name != "output"):
                    found[f"{ours}.attention.{name}_bias"] = t(f"{layer}.self_attn.{name[0]}_proj.bias")
            if a.attention_sinks:
                found[f"{ours}.attention.sinks"] = t(f"{layer}.self_attn.sinks")
            for name in ("query", "key") if a.qk_norm else ():
                found[f"{ours}.attention.{name}_norm.weight"] = t(f"{layer}.self_attn.{name[0]}_norm.weight")
            mlp = f"{layer}.mlp"
            if whole.mixture is None or i in whole.dense:
                ffn = network(t, mlp)
            else:
                ffn = whole.mixture(lambda name, mlp=mlp: t(f"{mlp}.{name}"))  # type: ignore[misc]
            found |= {f"{ours}.ffn.{name}": value for name, value in ffn.items()}
        return found

    return layout


def our_model(whole: Whole, model: nn.Module, *, backend: str) -> Transformer:
    ours = build(whole.architecture, seed=0, backend=backend)
    ours.load_state_dict(whole_layout(whole)(weights_of(model)))
    return ours.eval()


def language_loss(logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    """Summed over tokens, so that gradients are far above rounding."""
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="sum")


def assert_decided(ours: Transformer, tokens_BT: Tensor) -> None:
    """An embedding moved by a ten-thousandth routes every token of every layer alike, over uneven loads."""
    moved = build(ours.architecture, seed=0, backend="loop")
    moved.load_state_dict(ours.state_dict())
    with torch.no_grad():
        moved.embedding.mul_(1 + 1e-4 * torch.randn(moved.embedding.shape, generator=torch.Generator().manual_seed(4)))
        routings = [model.eval()(tokens_BT).routings for model in (ours, moved)]
    assert len(routings[0]) == len(ours.architecture.moe_layers)
    for before, after in zip(*routings, strict=True):
        experts = ours.architecture.ffn.experts  # type: ignore[union-attr]
        assert torch.equal(chosen(before, experts), chosen(after, experts))
        assert_uneven(before, experts)


def backends(whole: Whole) -> tuple[str, ...]:
    return ("loop", "sorted") if whole.mixture else ("none",)


@pytest.mark.parametrize(
    ("name", "backend"), [(n, backend) for n, whole in WHOLE.items() for backend in backends(whole)]
)
def test_a_model_computes_what_transformers_computes(name: str, backend: str) -> None:
    whole = WHOLE[name]
    model = their_model(whole, seed=1)
    ours = our_model(whole, model, backend=backend)
    tokens_BT = (torch.rand(B, 40, generator=torch.Generator().manual_seed(2)) ** 2 * VOCAB).long()  # some words often
    assert_decided(ours, tokens_BT)
    our_logits, their_logits = ours(tokens_BT).logits_BTV, model(tokens_BT).logits
    language_loss(our_logits, tokens_BT).backward()
    language_loss(their_logits, tokens_BT).backward()
    gradients = whole_layout(whole)(gradients_of(model))
    our = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    their = {name: gradients[name] for name, _ in ours.named_parameters()}
    assert_equal(our, their)
    assert_equal({"logits": our_logits}, {"logits": their_logits})


# ------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("design", designs())
def test_every_design_is_words_that_a_suite_takes(design: str) -> None:
    top_k = {"switch-2021": 1, "jacobs-1991": 16}.get(design, 2)
    assert in_words(design, experts=16, top_k=top_k, expert_hidden=8).router in designs()[design].words


def test_what_the_table_calls_equal_is_what_is_compared_here() -> None:
    compared = {f.design: f.block for f in FAMILIES.values()}
    said = {name for name, design in designs().items() if design.equal_to is not None}
    assert said == set(compared) | {"glm-4.5-2025"}
    assert all(block in (designs()[name].equal_to or "") for name, block in compared.items())


# ----------------------------------------------------------------------------------------------------
# What passes as rounding, and what does not.


EPSILON = torch.finfo(torch.float32).eps


def test_noise_where_exact_arithmetic_gives_zero_is_rounding() -> None:
    whole = torch.tensor([20.0, -3.0])
    one, other = (numbered(whole, 20 * EPSILON * torch.tensor([sign, 3.0])) for sign in (1.0, -2.0))
    assert_near(one, other, tolerance=1e-5)


@pytest.mark.parametrize("factor", [1 + 1e-4, 0.0, -1.0, float("nan")])
def test_another_result_is_not(factor: float) -> None:
    expected = numbered(torch.tensor([20.0]), torch.tensor([4.0, 1.0]))
    with pytest.raises(AssertionError, match="beyond 1e-05 of their scale"):
        assert_near(numbered(expected["0"], expected["1"] * factor), expected, tolerance=1e-5)


def test_nothing_but_zeros_is_no_comparison() -> None:
    with pytest.raises(AssertionError, match="nothing to compare"):
        errors(numbered(torch.zeros(3)), numbered(torch.zeros(3)))
