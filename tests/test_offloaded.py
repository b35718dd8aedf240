"""Experts behind a memory map: the resident model's logits bit for bit, and copies that can be counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.models.decoder import build
from moebench.models.decoder.experts import offloaded as module
from moebench.models.decoder.experts.offloaded import Offloaded
from moebench.models.decoder.inside import DecoderInside
from moebench.models.decoder.subject import DecoderSubject
from tests.support.small_models import architecture, awake, built, moe, tokens

EXPERTS = 6
KINDS: dict[str, dict[str, Any]] = {
    "swiglu": {},
    "clamped, with biases": {"router": "topk_softmax", "activation": "swiglu_clamped", "bias": True},
    "as many as it needs": {"router": "top_p", "top_k": 3, "top_p": 0.4},
    "with a shared expert": {"shared_hidden": 12},
    "without drops": {"router": "switch", "top_k": 1, "capacity_factor": 1.0},
}


def logits(subject: DecoderSubject, text_BT: torch.Tensor) -> torch.Tensor:
    """Of a prompt of half of it, and of each token that is decoded behind it."""
    half, cache = text_BT.shape[1] // 2, subject.new_cache(text_BT.shape[0])
    every = [subject.extend(text_BT[:, :half], cache)]
    every += [subject.extend(text_BT[:, n : n + 1], cache) for n in range(half, text_BT.shape[1])]
    return torch.stack(every)


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    resident=st.integers(1, EXPERTS),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    batch=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_logits_are_those_of_the_resident_model_bit_for_bit(
    kind: str, resident: int, dtype: str, batch: int, seed: int
) -> None:
    model = awake(build(architecture(moe(EXPERTS, **KINDS[kind])), seed=seed, dtype=dtype))
    inside, subject, text_BT = DecoderInside(model), DecoderSubject(model), tokens(batch, 16, seed=seed)
    with inside.one_by_one():
        wanted = logits(subject, text_BT)
    with inside.offloaded(resident, copy_bytes_per_s=None) as copies:
        found = logits(subject, text_BT)
    assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))
    assert copies().used >= copies().copied > 0


def test_inside_no_parameter_of_an_expert_is_in_memory_and_afterwards_all_are_as_before() -> None:
    model = built(architecture(moe(EXPERTS)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    computes = [layer.ffn.compute for layer in model.layers]  # type: ignore[union-attr]
    with DecoderInside(model).offloaded(2, copy_bytes_per_s=None):
        held = sum(value.numel() for name, value in model.state_dict().items() if "gate_up" in name or "down" in name)
        assert held == 0
        assert [layer.ffn.compute.memory_CW.shape[0] for layer in model.layers] == [2, 2]  # type: ignore[union-attr]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [layer.ffn.compute for layer in model.layers] == computes  # type: ignore[union-attr]


def test_a_failure_inside_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(architecture(moe(EXPERTS)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    honest, calls = Offloaded.__init__, iter([None, OSError("the disk is full")])

    def second_fails(self: Offloaded, *tensors: torch.Tensor, **more: Any) -> None:
        if (error := next(calls)) is not None:
            raise error
        honest(self, *tensors, **more)

    monkeypatch.setattr(Offloaded, "__init__", second_fails)
    with (
        pytest.raises(OSError, match="the disk is full"),
        DecoderInside(model).offloaded(2, copy_bytes_per_s=None),
    ):
        pass
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ------------------------------------------------------------------------------------------ copies


def store(folder: Path, *, resident: int, rate: float | None = None) -> Offloaded:
    """Four experts of 3 x 2 and 2 x 3 numbers: 48 bytes each."""
    gate_up, down = torch.arange(24.0).view(4, 3, 2), torch.arange(24.0).view(4, 2, 3) + 100
    return Offloaded(gate_up, down, resident=resident, file=folder / "experts", copy_bytes_per_s=rate)


def test_the_expert_that_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    one = store(tmp_path, resident=2)
    copied = (1, 2, 2, 3, 3, 4)  # 0 and 1 are copied, 0 is there, 2 comes for 1, 0 is there, 1 comes for 2
    for expert, so_far in zip((0, 1, 0, 2, 0, 1), copied, strict=True):
        gate_up_XD, down_DF = one.fetch(expert)
        assert torch.equal(gate_up_XD, torch.arange(24.0).view(4, 3, 2)[expert])
        assert torch.equal(down_DF, torch.arange(24.0).view(4, 2, 3)[expert] + 100)
        assert one.copied == so_far
    assert (one.used, one.expert_bytes) == (6, 48)


def test_with_room_for_all_each_is_copied_once(tmp_path: Path) -> None:
    one = store(tmp_path, resident=9)
    for expert in (3, 1, 3, 0, 1, 2, 3, 0):
        one.fetch(expert)
    assert (one.copied, one.memory_CW.shape[0]) == (4, 4)


def test_memory_for_no_expert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one expert"):
        store(tmp_path, resident=0)


def test_a_copy_takes_as_long_as_its_declared_rate_says_and_a_hit_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was just written is in the page cache: without a rate the copy would be as fast as memory."""
    now = [0.0]

    def tick() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(module.time, "perf_counter", tick)
    one = store(tmp_path, resident=1, rate=48 / 0.5)
    one.fetch(0)
    assert now[0] == pytest.approx(0.5, abs=0.01)
    one.fetch(0)
    assert now[0] == pytest.approx(0.5, abs=0.01)
    one.fetch(1)
    assert now[0] == pytest.approx(1.0, abs=0.01)


# ------------------------------------------------------------------------------------------ parts of a layer


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_are_those_of_the_layer(kind: str) -> None:
    """Layers give the next one what it had, networks the same, and their experts' products add up to them."""
    model = built(architecture(moe(EXPERTS, **KINDS[kind]), layers=3)).eval()
    text_BT, subject = tokens(2, 9), DecoderSubject(model)
    cache = subject.new_cache(2)
    subject.extend(text_BT[:, :8], cache)
    ends: list[torch.Tensor] = []
    hook = model.norm.register_forward_pre_hook(lambda _, x: ends.append(x[0]))
    networks: list[torch.Tensor] = []
    hooks = [layer.ffn.register_forward_hook(lambda _m, _i, out: networks.append(out[0])) for layer in model.layers]
    parts = DecoderInside(model).parts(text_BT[:, 8:], cache)
    for one in (hook, *hooks):
        one.remove()
    assert cache.length == 8
    layers, found, routings, products = (parts[name]() for name in ("layer", "ffn", "router", "products"))
    assert torch.allclose(layers[-1], ends[0], atol=1e-6)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, networks, strict=True))
    used = sum(len(routing.expert_N.unique()) for routing in routings)
    shared = 3 if "shared" in kind else 0
    assert len(products) == used + shared
    assert cache.length == 8
