"""What is asked of serving against what the suite's models and context allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from moebench.suite.checkpoint import CheckpointModel
from moebench.suite.explain import Path
from moebench.suite.model import MoEFFN
from moebench.text import quoted

if TYPE_CHECKING:
    from moebench.suite.check import Findings
    from moebench.suite.types import SpeedSpec


def check_serving(findings: Findings, path: Path, speed: SpeedSpec) -> None:
    """Adds what is wrong with inputs, a memory budget, offloading and the parts of layers."""
    context = None if findings.is_broken("data") else findings.spec.data.context
    if (inputs := speed.inputs) is not None and context is not None and inputs.tokens >= context:
        message = f"inputs of {inputs.tokens} tokens and one more are longer than the context, {context}"
        findings.add((*path, "inputs", "tokens"), message)
    if (budget := speed.memory_budget) is not None:
        if context is not None and budget.tokens > context:
            message = f"sequences of {budget.tokens} tokens are longer than the context, {context}"
            findings.add((*path, "memory_budget", "tokens"), message)
        _check_once(findings, (*path, "memory_budget", "bytes"), budget.bytes)
    if speed.layer_parts and not speed.prefill and speed.decode is None:
        message = "the parts of layers are timed at each prompt length and batch, and there is none"
        findings.add((*path, "layer_parts"), message, "give prefill or decode")
    if (offload := speed.offload) is not None:
        _check_once(findings, (*path, "offload", "resident"), offload.resident)
    for key in ("offload", "layer_parts"):
        if getattr(speed, key):
            _check_inside(findings, (*path, key), offload.resident if key == "offload" and offload else ())


def _check_inside(findings: Findings, path: Path, resident: Sequence[int]) -> None:
    """What looks inside needs a mixture with so many experts, and no checkpoint."""
    for name, model in findings.spec.models.items():
        if isinstance(model, CheckpointModel):
            message = f"{name} is a checkpoint: {quoted(path[-1])} is of models that moebench builds"
            findings.add(path, message, "leave it out, or time the checkpoint in a suite of its own", key=True)
    if findings.broken:
        return
    experts = [model.ffn.experts for model in findings.spec.decoders.values() if isinstance(model.ffn, MoEFFN)]
    if not experts:
        findings.add(path, f"no model of this suite is a mixture, and {quoted(path[-1])} is of their experts", key=True)
    for index, number in enumerate(resident):
        if experts and number > max(experts):
            message = f"memory for {number} experts is more than the {max(experts)} that a layer has"
            findings.add((*path, "resident", index), message)


def _check_once(findings: Findings, path: Path, values: Sequence[int]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            findings.add((*path, index), f"{value} is given twice")
