"""Writes results of a suite that sweeps the number of experts, with a known slope, for the report of a sweep.

Each doubling of the experts lowers the final loss by 1.2%; names are as a suite file makes them. Nothing is trained.
`python -m tests.support.golden_sweep FOLDER` writes it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from moebench.planning.graph import make_plan
from moebench.planning.matching import Machine
from moebench.planning.types import Plan
from moebench.suite.load import load_suite
from tests.support import golden_systems

EXPERTS = (2, 4, 8, 16, 32, 64)
SUITE = f"""
suite: expert_count
question: Do more experts of one size lower the loss at equal active parameters?
seeds: 8
data: {{source: stdlib, context: 64}}
train:
  budget: {{tokens: 4.0e5}}
  batch_tokens: 512
  optimizer: {{lr: 3.0e-3}}
  schedule: {{warmup: 5%, decay: cosine}}
models:
  moe:
    layers: 2
    width: 32
    heads: 2
    ffn: {{kind: moe, experts: 12, top_k: 2, expert_hidden: 48}}
  moe_sweep: {{base: moe, sweep: {{ffn.experts: {list(EXPERTS)}}}}}
  dense: {{base: moe, ffn: {{kind: dense}}, match: {{to: moe, on: active_params, by: ffn.hidden, tolerance: 3%}}}}
measure:
  speed: {{train_step: true, decode: {{batch: [1, 8]}}, processes: 6}}
claims:
  more-experts-lower-loss:
    says: Each doubling of the experts lowers the loss.
    over: moe_sweep
    along: ffn.experts
    metric: test.bits_per_byte
    test: {{kind: trend, sign: falling}}
    family: primary
  twelve-beat-dense:
    says: Twelve experts, two active, have lower loss than the dense model of equal active size.
    compare: {{treatment: moe, baseline: dense}}
    metric: test.bits_per_byte
    test: {{kind: superior, margin: 0.5%}}
    family: primary
"""


def sweep_plan(suite: str = SUITE) -> Plan:
    """The plan of the suite, as planning makes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.yaml"
        path.write_text(suite)
        loaded = load_suite(path)
    return make_plan(loaded.spec, facts=golden_systems.FACTS, vocab=256, machine=Machine())


def write(root: Path, plan: Plan | None = None) -> Plan:
    """Writes the whole folder under `root` and returns its plan."""
    return golden_systems.write(root, plan or sweep_plan())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
