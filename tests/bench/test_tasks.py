"""lm-eval's requests: our adapter on a decoder against lm-eval's own `hf` model on the exported checkpoint.

The same weights, tokens and requests; the scores are held equal before anything is timed. `hf` races at its default of
one sequence at a time and at larger batches, and the best of them is the one to beat.

Run by `nox -s bench` on a quiet machine; nothing is asserted by a clock, because machines are shared.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from bench.race import Contender, race
from bench.table import Row, Table, publish
from moebench.models.architecture import Architecture
from moebench.models.convert.export import export_checkpoint
from moebench.models.decoder import build
from moebench.models.decoder.subject import DecoderSubject
from moebench.suite.model import DenseFFN, MoEFFN

pytest.importorskip("lm_eval")
pytest.importorskip("transformers")

CONTEXT, LAYERS, HEAD_DIM, QUESTIONS = 512, 4, 32, 12
BATCHES = (1, 8)
SHAPES = {
    "endings": ((150, 300), (40, 100), 0),
    "answers": ((60, 200), (5, 40), 0),
    "letters": ((150, 300), (1, 1), 0),
    "letters after examples": ((60, 200), (1, 1), 250),
}
"""Bytes of a question, of each of its four choices, and of examples that stand before all questions."""


def architecture(design: str, width: int) -> Architecture:
    """Four layers with the usual gated width of 8/3; the mixture's two experts of a token are as wide together."""
    hidden = round(width * 8 / 3 / 64) * 64
    moe = MoEFFN(kind="moe", experts=8, top_k=2, expert_hidden=hidden // 2, balance_loss=0.0)
    return Architecture(
        vocab=256,
        context=CONTEXT,
        layers=LAYERS,
        width=width,
        heads=width // HEAD_DIM,
        kv_heads=width // HEAD_DIM,
        head_dim=HEAD_DIM,
        ffn=moe if design == "Mixtral" else DenseFFN(kind="dense", hidden=hidden),
        tied_embeddings=True,
        rope_theta=10000.0,
        norm_eps=1e-5,
    )


def requests(shape: str) -> list[Any]:
    """Questions of random letters with four choices each, as lm-eval makes them of a multiple-choice task."""
    from lm_eval.api.instance import Instance

    question, choice, examples = SHAPES[shape]
    draws = random.Random(shape)

    def text(least: int, most: int) -> str:
        return "".join(draws.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draws.randint(least, most)))

    before = text(examples, examples)
    asked = []
    for _ in range(QUESTIONS):
        context = before + text(*question)
        choices = "ABCD" if choice == (1, 1) else [text(*choice) for _ in range(4)]
        asked += [(context, f" {one}") for one in choices]
    return [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in asked]


def contenders(a: Architecture, asked: list[Any], folder: Path) -> dict[str, Contender]:
    """Ours, and `hf` at each batch size."""
    from lm_eval.models.huggingface import HFLM

    from moebench.tasks.adapter import Adapter

    model = build(a, seed=0)
    export_checkpoint(model, folder)
    models: dict[str, Any] = {"ours": Adapter(DecoderSubject(model.eval()))}
    for size in BATCHES:
        models[f"hf, batch {size}"] = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=size)
    expected = models["ours"].loglikelihood(asked)
    for name, one in models.items():
        found = one.loglikelihood(asked, disable_tqdm=True)
        assert [x[0] for x in found] == pytest.approx([x[0] for x in expected], abs=1e-3), name
    return {
        name: Contender(run=lambda one=one: one.loglikelihood(asked, disable_tqdm=True)) for name, one in models.items()
    }


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("default")
def test_requests(benchmark, device: str, seconds: float, reference: Path | None, tmp_path: Path) -> None:
    if device != "cpu":
        pytest.skip("at nano size on a CPU")
    table = Table(
        name="lm_eval_requests",
        title="Multiple-choice requests of lm-eval, float32",
        says="Ratios of times: `hf` over our adapter, so also of our requests a second over its; above 1 ours is "
        f"faster. Four layers, bytes as tokens, {QUESTIONS} questions of four choices a round. `best` is the fastest "
        "of hf's batch sizes. Endings are 40 to 100 bytes after 150 to 300, answers 5 to 40 after 60 to 200, letters "
        "one after 150 to 300; examples are 250 bytes before all questions.",
        device=device,
    )

    def all_shapes() -> None:
        for design in ("Llama", "Mixtral"):
            for width in (64, 128):
                a = architecture(design, width)
                for shape in SHAPES:
                    asked = requests(shape)
                    racing = contenders(a, asked, tmp_path / f"{design}{width}")
                    result = race(racing, seconds=seconds, device=device)
                    theirs = [name for name in racing if name != "ours"]
                    cells: dict[str, Any] = {
                        "design": design,
                        "width": width,
                        "requests": shape,
                        "ours, requests/s": len(asked) / result.median_s("ours"),
                        "best / ours": result.ratio(result.best(*theirs), "ours"),
                        **{f"{name} / ours": result.ratio(name, "ours") for name in theirs},
                    }
                    table.rows.append(Row(cells=cells, result=result))

    benchmark.pedantic(all_shapes, rounds=1, iterations=1)
    benchmark.extra_info["table"] = table.as_json()
    publish(table, reference)
