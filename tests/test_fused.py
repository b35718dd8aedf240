"""Fused norm and attention, and products of few rows: outputs and gradients are those of the plain way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from moebench.counting.flops import train_step_flops
from moebench.counting.kernels import executed_step_flops, keeps_scores, scores_in_blocks
from moebench.jobs.recipe import Run
from moebench.jobs.train import FUSED_FROM, backend_of, kernels_of
from moebench.jobs.training import State, start, train
from moebench.models.architecture import Architecture
from moebench.models.decoder import build, products
from moebench.models.decoder.attention import Attention, rotary_table
from moebench.models.decoder.fused import attend, rms_norm
from moebench.models.decoder.fused import attention as fused_attention
from tests.support import small_corpora
from tests.support.closeness import assert_near, numbered
from tests.support.small_models import architecture, dense, moe, run, tokens

pytestmark = pytest.mark.numeric


def made(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(out: Tensor, *leaves: Tensor) -> list[Tensor]:
    out.backward(made(*out.shape, seed=9, dtype=out.dtype))
    found = [leaf.grad for leaf in leaves]
    assert all(grad is not None for grad in found)
    return [grad.clone() for grad in found if grad is not None]


# ------------------------------------------------------------------------------------------ the norm


def test_the_norm_is_torchs_with_its_gradients() -> None:
    x, weight = (3 * made(2, 5, 24)).requires_grad_(), made(24, seed=1).requires_grad_()
    found, expected = rms_norm(x, weight, 1e-5), F.rms_norm(x, (24,), weight, 1e-5)
    torch.testing.assert_close(found, expected)
    fused = gradients(found, x, weight)
    x.grad = weight.grad = None
    torch.testing.assert_close(fused, gradients(expected, x, weight), rtol=1e-5, atol=1e-6)


def test_the_norms_gradient_is_the_derivative() -> None:
    x, weight = (made(*shape, seed=i, dtype=torch.float64).requires_grad_() for i, shape in enumerate([(3, 6), (6,)]))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-2), (x, weight))


def test_the_norm_takes_rows_of_a_larger_tensor_and_zeros() -> None:
    x = made(4, 3, 16).transpose(0, 1).requires_grad_()
    weight = torch.ones(16, requires_grad=True)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), F.rms_norm(x, (16,), weight, 1e-5))
    zeros = torch.zeros(2, 16, requires_grad=True)
    assert all(grad.isfinite().all() for grad in gradients(rms_norm(zeros, weight, 1e-5), zeros, weight))


# ------------------------------------------------------------------------------------------ attention

SHAPES = [
    (1, 1, 1, 1, 8), (2, 5, 1, 1, 8), (2, 63, 4, 4, 8), (1, 64, 4, 2, 16), (3, 65, 4, 1, 16), (2, 200, 6, 3, 8),
    (9, 130, 2, 2, 16),
]  # fmt: skip
"""Sequences, tokens, heads, key-value heads, head dim: around a block of queries, and several of each kind."""


def attention(a: Architecture, *, fused: bool) -> Attention:
    layer = Attention(a, kernels="fused" if fused else "unfused")
    for index, weight in enumerate(layer.parameters()):
        nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5, generator=torch.Generator().manual_seed(index))
    return layer


def shaped(shape: tuple[int, ...]) -> Architecture:
    _, length, heads, groups, dim = shape
    return architecture(dense(), context=max(16, length), width=24, heads=heads, kv_heads=groups, head_dim=dim)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_the_unfused_one_with_its_gradients(shape: tuple[int, ...]) -> None:
    a, found = shaped(shape), list[dict[str, Tensor]]()
    cos, sin = (table[: shape[1]] for table in rotary_table(a, device=torch.device("cpu")))
    for fused in (True, False):
        layer, x = attention(a, fused=fused), made(*shape[:2], 24).requires_grad_()
        out = layer(x, cos, sin)
        assert fused == ("_AttendBackward" in str(graph(out)))
        found.append(numbered(out, *gradients(out, x, *layer.parameters())))
    assert_near(*found, tolerance=1e-5)


def graph(out: Tensor) -> list[object]:
    """The functions behind a tensor."""
    seen, left = list[object](), [out.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.append(node)
            left += [above for above, _ in node.next_functions]
    return seen


@pytest.mark.parametrize("shape", [(2, 7, 2, 2, 4), (1, 6, 4, 2, 2)], ids=str)
def test_attentions_gradient_is_the_derivative(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_attention, "QUERIES", 3)
    monkeypatch.setattr(fused_attention, "BLOCK_BYTES", 4 * 3 * 7 * 3)  # three sequences of heads at once
    batch, length, heads, groups, dim = shape
    sizes = ((batch, length, 5), (heads * dim, 5), (groups * dim, 5), (groups * dim, 5))
    leaves = tuple(made(*size, seed=i, dtype=torch.float64).requires_grad_() for i, size in enumerate(sizes))
    cos, sin = (table[:length].double() for table in rotary_table(shaped(shape), device=torch.device("cpu")))

    def attended(*leaves: Tensor) -> Tensor:
        return attend(*leaves, cos, sin, heads=heads, kv_heads=groups)

    assert torch.autograd.gradcheck(attended, leaves)


def test_later_tokens_change_nothing_before_them() -> None:
    layer, (cos, sin) = (
        attention(shaped(SHAPES[4]), fused=True),
        rotary_table(shaped(SHAPES[4]), device=torch.device("cpu")),
    )
    x = made(3, 65, 24)
    before = layer(x, cos, sin)
    changed = layer(torch.cat((x[:, :40], made(3, 25, 24, seed=5)), dim=1), cos, sin)
    torch.testing.assert_close(before[:, :40], changed[:, :40])
    assert not torch.equal(before[:, 40:], changed[:, 40:])


def test_without_a_gradient_or_with_normed_queries_attention_is_torchs() -> None:
    a = shaped(SHAPES[2])
    cos, sin = (table[:63] for table in rotary_table(a, device=torch.device("cpu")))
    fused, unfused = attention(a, fused=True), attention(a, fused=False)
    with torch.no_grad():
        assert torch.equal(fused(made(2, 63, 24), cos, sin), unfused(made(2, 63, 24), cos, sin))
    normed = attention(a.model_copy(update={"qk_norm": "full"}), fused=True)
    assert "_AttendBackward" not in str(graph(normed(made(2, 63, 24), cos, sin)))


# ------------------------------------------------------------------------------------------ whole models


@pytest.mark.parametrize(
    "a",
    [
        architecture(dense(40), context=80),
        architecture(moe(8, 2, 16, shared_hidden=8), context=80, kv_heads=2, tied_embeddings=False),
        architecture(moe(4, 1, 16, router="switch", capacity_factor=1.0), context=80),
        architecture(dense(40), context=80, qk_norm="per_head"),
    ],
    ids=["dense", "mixture", "switch", "normed queries"],
)
def test_a_models_gradients_are_the_unfused_models(a: Architecture) -> None:
    found, losses = list[dict[str, Tensor]](), list[float]()
    for kernels, backend in (("fused", "blocks"), ("unfused", "loop")):
        model = build(a, seed=0, backend=backend, kernels=kernels)  # type: ignore[arg-type]
        output = model(tokens(3, 80), generator=torch.Generator().manual_seed(0))
        loss = F.cross_entropy(output.logits_BTV.flatten(0, 1), tokens(3, 80, seed=1).flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert_near(*found, tolerance=2e-5)


def test_fused_kernels_are_for_float32_on_a_cpu() -> None:
    with pytest.raises(ValueError, match="float32 on a CPU, not for bfloat16"):
        build(architecture(dense()), seed=0, dtype="bfloat16", kernels="fused")


CORPUS = small_corpora.ordinary(context=80)


def fused(a: Architecture) -> Run:
    plain = run(a, data_digest=CORPUS.digest, steps=6, batch_tokens=320, micro_batch_tokens=160, eps=1e-4)
    backend = backend_of(a, "cpu", "fused")
    return plain.model_copy(update={"kernels": "fused", "backend": backend})


def trained(chosen: Run, state: State | None = None) -> tuple[State, list[float]]:
    state = state or start(chosen)
    return state, [step.loss for step in train(state, chosen, CORPUS)]


@pytest.mark.parametrize("ffn", [dense(), moe()], ids=["dense", "mixture"])
def test_a_fused_run_learns_as_an_unfused_one_and_resumes_in_its_own_bits(ffn: object) -> None:
    a = architecture(ffn, context=80)  # type: ignore[arg-type]
    chosen = fused(a)
    state, losses = trained(chosen)
    unfused = chosen.model_copy(update={"kernels": "unfused", "backend": backend_of(a, "cpu")})
    assert losses == pytest.approx(trained(unfused)[1], rel=1e-5)
    halfway = start(chosen)
    for _, step in zip(range(3), train(halfway, chosen, CORPUS), strict=False):
        assert step.loss == losses[step.step - 1]
    revived = start(chosen.model_copy(update={"seed": 5}))
    revived.load_bytes(halfway.to_bytes())
    assert trained(chosen, revived)[1] == losses[halfway.step :]
    assert revived.to_bytes() == state.to_bytes()


# ------------------------------------------------------------------------------------------ which runs, and their FLOPs


def test_large_micro_batches_of_float32_on_a_cpu_are_fused() -> None:
    usual = {"width": 64, "tokens": FUSED_FROM // 64, "dtype": "float32", "device": "cpu"}
    assert kernels_of(**usual) == "fused"
    for change in ({"tokens": FUSED_FROM // 64 - 1}, {"width": 63}, {"device": "cuda"}, {"dtype": "bfloat16"}):
        assert kernels_of(**{**usual, **change}) == "unfused"
    assert [backend_of(architecture(ffn), "cpu", "fused") for ffn in (moe(), dense())] == ["blocks", "none"]


def test_kernels_decide_the_bits_and_an_unfused_run_keeps_its_id() -> None:
    plain = run(architecture(dense()))
    assert plain.model_copy(update={"kernels": "fused"}).id != plain.id
    assert "kernels" not in plain.model_dump(mode="json")


def test_executed_flops_count_the_scores_of_each_block() -> None:
    assert scores_in_blocks(64) == 64 * 64
    assert scores_in_blocks(130) == 64 * 64 + 64 * 128 + 2 * 130
    assert scores_in_blocks(3) == 9
    assert sum(block.numel for block in fused_attention._blocks(6, 130)) == 6 * scores_in_blocks(130)
    a = architecture(dense(), context=256, layers=2, heads=4, kv_heads=4, head_dim=8)
    model = train_step_flops(a.blueprint, sequences=3, length=256)
    executed = executed_step_flops(a.blueprint, sequences=3, length=256, fused=True)
    # Blocks hold 64 + 128 + 192 + 256 keys for 64 queries each, the causal half 256 / 2 for 256: 2 products, 3 passes.
    extra_scores = 64 * (64 + 128 + 192 + 256) - 256 * 128
    assert executed - model == 3 * 2 * 2 * 8 * 4 * 3 * 2 * extra_scores


def test_attention_whose_probabilities_are_too_many_is_torchs() -> None:
    assert keeps_scores(heads=4, sequences=1, length=512)
    assert not keeps_scores(heads=4, sequences=1, length=4096)
    normed = architecture(dense(), qk_norm="full").blueprint
    flash = executed_step_flops(normed, sequences=1, length=512)
    assert executed_step_flops(normed, sequences=1, length=512, fused=True) == flash


# ----------------------------------------------------------------------------------------------------
# Products of few rows: whichever way the weights are read, the numbers are those of one plain product.


ROWS = [(), (1,), (3,), (2, 1), (2, 16), (2, 40)]
SIZES = [(300, 256), (64, 64), (1000, 300), (65, 5000)]
"""Outputs and inputs: one piece, too small to read first, several pieces with a short last one, rows of 20 kB."""


def made_products(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_few_rows_give_the_product(rows: tuple[int, ...], sizes: tuple[int, int], biased: bool) -> None:
    x, weight = made_products(*rows, sizes[1], seed=0), made_products(*sizes, seed=1)
    bias = made_products(sizes[0], seed=2) if biased else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    with torch.inference_mode():
        found = products.linear(x, weight, bias)
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 4, 32])
@pytest.mark.parametrize("sizes", [(768, 256), (1408, 256), (2688, 512), (512, 1344)], ids=str)
def test_reading_first_moves_no_bit(rows: int, sizes: tuple[int, int]) -> None:
    x, weight = made_products(rows, sizes[1], seed=0), made_products(*sizes, seed=1)
    with torch.no_grad():
        found, expected = products.linear(x, weight), F.linear(x, weight)
    if weight.numel() * 4 <= products.PIECE_BYTES:
        assert torch.equal(found, expected)
    # In pieces too on the machine of the reference results; another BLAS may choose another kernel for another height.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_training_reads_nothing_first(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(Tensor, "sum", lambda weight: read.append(weight.numel()))
    x, weight = made_products(1, 256, seed=0), made_products(2000, 256, seed=1)
    products.linear(x, weight)
    assert read == []
    with torch.no_grad():
        products.linear(x.bfloat16(), weight.bfloat16())
        products.linear(made_products(33, 256, seed=0), weight)
        assert read == []
        products.linear(x, weight)
    assert sum(read) == weight.numel()
    assert max(read) * 4 <= products.PIECE_BYTES
