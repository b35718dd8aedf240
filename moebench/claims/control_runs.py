"""Controls that train short runs of their own: whether a fault that is there is seen, and none that is not.

- `shuffled`: on text in random order no model beats a unigram model. One that does sees what it should predict.
- `handicap`: a mixture whose experts keep changing places behind their router is worse than its twin. An instrument
  that does not see it sees no smaller difference either.
- `one_expert`: the only expert of a mixture gives the losses of the same network without a router.
- `round_robin`: what learned routing adds to the weights of a mixture. It has no right answer, and gates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from moebench import stats
from moebench.claims.verdict import ControlResult
from moebench.format import plural, significant
from moebench.metrics.training import UNIGRAM
from moebench.reader.evidence import Evidence, Outcome
from moebench.suite.model import MoEFFN

QUALITY = "test.bits_per_byte"
CURVE = "curve.bits_per_byte"
LEVEL = 0.99
BY_CHANCE = 0.01
"""A model on shuffled text may be below the unigram model by this share of its bits: on little text it fits the scored
part better by chance. A model that sees the next token is below by a third or more within 50 steps."""
TRIFLE = 0.005
"""A handicap that is shown to cost less was not caught."""
LEARNED = 0.05
"""A model that is further above the unigram model has not learned what there is, so a leak might not show either."""
SAME = {"float32": 1e-4, "bfloat16": 1e-2}
"""How far losses of one network, computed in two ways, may be apart: rounding, carried on by training."""


def check_runs(evidence: Evidence) -> list[ControlResult]:
    """Every control of the suite that has runs of its own."""
    if evidence.plan.controls is None:
        return []
    asked = evidence.plan.spec.controls
    found = [_shuffled(evidence, name) for name in dict.fromkeys(asked.shuffled)]
    found += [_handicap(evidence, asked.handicap)] if asked.handicap is not None else []
    found += [_one_expert(evidence, asked.one_expert)] if asked.one_expert is not None else []
    found += [_round_robin(evidence, asked.round_robin)] if asked.round_robin is not None else []
    return found


def _shuffled(evidence: Evidence, model: str) -> ControlResult:
    """The run that is lowest beside a unigram model decides."""
    facts = _facts("shuffled", model, f"{model} does not beat a unigram model on text in random order")
    facts["id"] = f"shuffled[{model}]"
    runs, absent = _done(evidence, f"{model}/shuffled")
    against = [(run.values.get(QUALITY), run.values.get(UNIGRAM.name)) for run in runs]
    if absent is not None or any(not loss or not unigram for loss, unigram in against):
        return ControlResult(**facts, state="not_tested", reason=absent or "what a unigram model pays is not recorded")
    over = [float(loss or 0) / float(unigram or 1) - 1 for loss, unigram in against]
    facts |= {"n": plural(len(over), "seed"), "estimate": 100 * min(over)}
    told = f"the lowest loss is {_percent(min(over))} {'above' if min(over) >= 0 else 'below'} a unigram model's"
    if min(over) < -BY_CHANCE:
        why = f"{told}, on text whose order tells nothing: it sees what it should predict"
        return ControlResult(**facts, state="failed", reason=why)
    if max(over) > LEARNED:
        why = f"the highest loss is {_percent(max(over))} above a unigram model's, so a leak might not show yet; "
        return ControlResult(**facts, state="too_wide", reason=f"{why}train it longer with `controls: {{steps: N}}`")
    return ControlResult(**facts, state="passed", reason=f"{told}; {_percent(BY_CHANCE)} below would be a leak")


def _handicap(evidence: Evidence, model: str) -> ControlResult:
    """Paired by seed, one-sided at 99%: above nothing it was caught, below a trifle it was not."""
    facts = _facts("handicap", model, f"{model} is worse when its experts keep changing places")
    effects, why = _pairs(evidence, worse=f"{model}/handicap", twin=f"{model}/short")
    if effects is None:
        return ControlResult(**facts, state="not_tested", reason=why)
    estimate = stats.paired(effects)
    ends, low, high = estimate.interval(LEVEL), *_ends(estimate.interval(2 * LEVEL - 1))
    facts |= _shown(estimate.centre, ends, len(effects))
    least, most = (_percent(math.expm1(end)) for end in (abs(low), abs(high)))
    if low > 0:
        return ControlResult(**facts, state="passed", reason=f"caught: it costs at least {least} (one-sided, 99%)")
    if high < math.log1p(TRIFLE):
        found = f"costs at most {most}" if high > 0 else "makes the model no worse"
        why = f"what was planted {found} (one-sided, 99%), so differences of this size are not seen here"
        return ControlResult(**facts, state="failed", reason=why)
    why = "the interval holds no handicap and one; more seeds, or more `controls: {steps: N}`, would tell"
    return ControlResult(**facts, state="too_wide", reason=why)


def _round_robin(evidence: Evidence, model: str) -> ControlResult:
    """Learned routing beside experts in turn, paired by seed; below 0 it is better."""
    facts = _facts("round_robin", model, f"{model} routes better than taking experts in turn")
    effects, why = _pairs(evidence, worse=f"{model}/short", twin=f"{model}/round_robin")
    if effects is None:
        return ControlResult(**facts, state="not_tested", reason=why)
    estimate = stats.paired(effects)
    ends = estimate.interval(LEVEL)
    steps = evidence.plan.controls.models[f"{model}/short"].recipe.steps if evidence.plan.controls else 0
    facts |= _shown(estimate.centre, ends, len(effects))
    what = "is not told from taking experts in turn"
    if ends.high < 0:
        what = "is better than taking experts in turn"
    elif ends.low > 0:
        what = "is worse than taking experts in turn"
    return ControlResult(**facts, state="found", reason=f"after {steps} steps learned routing {what} (99%)")


def _one_expert(evidence: Evidence, model: str) -> ControlResult:
    """The largest difference of two losses at one point of the curve, as a share."""
    facts = _facts("one_expert", model, f"the network of {model} as one expert gives the losses of the dense network")
    pair = [_done(evidence, f"{model}/{what}") for what in ("dense", "one_expert")]
    absent = next((why for _, why in pair if why is not None), None)
    curves = [dict(runs[0].curves.get(CURVE, ())) for runs, _ in pair if runs]
    if absent is not None or len(curves) < 2 or not curves[0] or curves[0].keys() != curves[1].keys():
        why = absent or "their losses were not recorded at the same steps"
        return ControlResult(**facts, state="not_tested", reason=why)
    apart = max(abs(curves[1][step] / loss - 1) for step, loss in curves[0].items())
    dtype = evidence.plan.controls.models[f"{model}/dense"].recipe.dtype if evidence.plan.controls else "float32"
    facts |= {"n": f"{len(curves[0])} points of {max(curves[0])} steps", "estimate": 100 * apart}
    if apart > SAME[dtype]:
        why = f"their losses are up to {_percent(apart)} apart, more than rounding ({_percent(SAME[dtype])})"
        return ControlResult(**facts, state="failed", reason=why)
    return ControlResult(**facts, state="passed", reason=f"their losses are the same to {_percent(SAME[dtype])}")


def beside(evidence: Evidence, models: Sequence[str]) -> Iterator[str]:
    """What controls found that failed in nothing and bears on losses of these models."""
    trained = [evidence.plan.decoders[name].architecture for name in models if name in evidence.plan.trained]
    mixtures = [one for one in trained if isinstance(one.ffn, MoEFFN)]
    for control in check_runs(evidence) if mixtures else ():
        beaten = control.high is not None and control.high < 0
        if control.state == "found" and not beaten and any(one.learns_routing for one in mixtures):
            yield f"control {control.id}: {control.reason}"
        elif control.id == "handicap" and control.state == "too_wide":
            yield f"control {control.id} too wide to tell: {control.reason}"


# ---------------------------------------------------------------------------------------------- parts


def _facts(name: str, model: str, says: str) -> dict[str, Any]:
    return {"id": name, "says": says, "model": model, "metric": QUALITY, "unit": "%"}


def _done(evidence: Evidence, name: str) -> tuple[list[Outcome], str | None]:
    """The completed runs of a control's model in order of seeds, and why that is not all of them."""
    runs = sorted((run for run in evidence.controls if run.model == name), key=lambda run: run.seed)
    left = [run for run in runs if run.status != "completed"]
    if not runs:
        return [], f"{name} was not planned"
    if left:
        return [], f"{len(left)} of {plural(len(runs), 'run')} of {name} did not complete: {left[0].reason}"
    return runs, None


def _pairs(evidence: Evidence, *, worse: str, twin: str) -> tuple[np.ndarray[Any, Any] | None, str]:
    """Log-ratios of the losses of two models, a seed each, or why there are none."""
    losses: list[dict[int, float]] = []
    for name in (worse, twin):
        runs, absent = _done(evidence, name)
        if absent is not None:
            return None, absent
        losses.append({run.seed: value for run in runs if (value := run.values.get(QUALITY))})
    seeds = sorted(losses[0].keys() & losses[1].keys())
    if len(seeds) < 2:
        return None, "fewer than 2 seeds have both losses"
    return np.array([math.log(losses[0][seed] / losses[1][seed]) for seed in seeds]), ""


def _ends(interval: stats.Interval) -> Iterator[float]:
    yield from (interval.low, interval.high)


def _shown(centre: float, ends: stats.Interval, seeds: int) -> dict[str, Any]:
    estimate, low, high = (100 * math.expm1(value) for value in (centre, ends.low, ends.high))
    return {"estimate": estimate, "low": low, "high": high, "resolution": (high - low) / 2, "n": plural(seeds, "seed")}


def _percent(share: float) -> str:
    return f"{significant(100 * abs(share), figures=2)}%"
