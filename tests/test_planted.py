"""Results folders with planted effects, and with none: the right state, for the right reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moebench.claims.judge import judge
from moebench.claims.verdict import Verdict
from moebench.reader.evidence import gather
from moebench.store import Results
from tests.support import golden_systems

EXPERTS = (2, 4, 8, 16, 32, 64)
SWEPT = f"""
suite: planted
question: Is what was planted found?
seeds: 10
data: {{source: stdlib, context: 64}}
train: {{budget: {{tokens: 4.0e5}}, batch_tokens: 512}}
models:
  moe: {{layers: 2, width: 32, heads: 2, ffn: {{kind: moe, experts: 12, top_k: 2, expert_hidden: 48}}}}
  dense: {{base: moe, ffn: {{kind: dense}}, match: {{to: moe, on: active_params, by: ffn.hidden, tolerance: 3%}}}}
  moe_sweep: {{base: moe, sweep: {{ffn.experts: {list(EXPERTS)}}}}}
  moe_clip: {{base: moe, sweep: {{train.optimizer.lr: [1.0e-3, 2.0e-3, 4.0e-3]}}}}
  dense_clip: {{base: dense, sweep: {{train.optimizer.lr: [1.0e-3, 2.0e-3, 4.0e-3]}}}}
  far: {{base: moe, width: 48}}
  further: {{base: dense, width: 48, match: {{to: far}}}}
  wild: {{base: moe, width: 40}}
  calm: {{base: dense, width: 40, match: {{to: wild}}}}
measure: {{speed: null}}
claims:
  turns: {{over: moe_sweep, along: ffn.experts, metric: test.bits_per_byte, test: {{kind: turns, margin: 0.5%}}}}
  ranks:
    over: moe_sweep
    metric: test.bits_per_byte
    against: cost.total_params
    test: {{kind: correlates, at_least: 0.3}}
  rises:
    compare: {{treatment: moe_clip, baseline: dense_clip}}
    along: train.optimizer.lr
    metric: test.bits_per_byte
    test: {{kind: trend, sign: rising}}
  costs_no_more:
    compare: {{treatment: moe, baseline: dense}}
    minus: {{treatment: far, baseline: further}}
    metric: test.bits_per_byte
    test: {{kind: non_inferior, margin: 1%}}
  half:
    compare: {{treatment: moe, baseline: dense}}
    share_of: {{treatment: far, baseline: further}}
    metric: test.bits_per_byte
    test: {{kind: recovers, value: 0.5}}
  scatters:
    compare: {{treatment: wild, baseline: calm}}
    metric: test.bits_per_byte
    test: {{kind: spread_ratio, at_least: 1.5}}
  overtakes:
    compare: {{treatment: moe, baseline: dense}}
    metric: curve.bits_per_byte
    test: {{kind: tokens_to_overtake, at_most: 50%}}
"""


def experts_of(model: str) -> int | None:
    return int(model.rpartition("-")[2]) if ".experts-" in model else None


def rate_of(model: str) -> float:
    return float(model.rpartition("-")[2]) if "_clip" in model else 0.0


def gains(**by_name: float | Callable[[str], float]) -> Callable[[str], float]:
    """Change of the final loss, as a share, by the model or the sweep that its name begins with."""

    def gain(model: str) -> float:
        found = by_name.get(model.partition(".")[0], 0.0)
        return found(model) if callable(found) else found

    return gain


def planted(
    root: Path, monkeypatch: pytest.MonkeyPatch, gain: Callable[[str], float], scatter: dict[str, float]
) -> dict[str, Verdict]:
    monkeypatch.setattr(golden_systems, "gain", gain)
    monkeypatch.setattr(golden_systems, "scatter", lambda model: scatter.get(model, 0.006))
    plan = golden_systems.sweep_plan(SWEPT)
    golden_systems.write(root, plan)
    results = Results(root)
    return {verdict.id: verdict for verdict in judge(gather(results, results.plans()[0]))}


def turning(model: str) -> float:
    return -0.04 + 0.03 * abs((experts_of(model) or 1).bit_length() - 4) / 2


def told(verdicts: dict[str, Verdict]) -> dict[str, Any]:
    return {name: verdict.state for name, verdict in verdicts.items()}


def test_what_was_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted(
        tmp_path,
        monkeypatch,
        gains(
            moe_sweep=turning,
            moe_clip=lambda model: -0.02 * {"0.001": 1, "0.002": 2, "0.004": 3}[f"{rate_of(model):g}"],
            dense=0.05,
            far=-0.05,
        ),
        {"wild": 0.06, "calm": 0.0005},
    )
    assert told(found) == {
        "turns": "supported", "ranks": "supported", "rises": "supported", "costs_no_more": "supported",
        "half": "supported", "scatters": "supported", "overtakes": "supported",
    }  # fmt: skip
    assert found["rises"].unit == "% per doubling of train.optimizer.lr"
    assert "read from curve.bits_per_byte, over seeds alone" in found["overtakes"].notes


def test_where_nothing_was_planted_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planted(tmp_path, monkeypatch, gains(dense=-0.05, far=-0.05), {})
    assert told(found) == {
        "turns": "refuted", "ranks": "refuted", "rises": "inconclusive", "costs_no_more": "refuted",
        "half": "refuted", "scatters": "refuted", "overtakes": "refuted",
    }  # fmt: skip
    assert "unbounded" in " ".join(found["overtakes"].notes), "it never overtakes"
    assert "crosses the threshold" in found["rises"].reason
    assert found["rises"].needs
