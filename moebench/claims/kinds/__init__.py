"""The kinds of claim: one file each, and one line in `KINDS`.

A new kind is a `ClaimKind` (`kind` says what it must have) in a file of its own and a line below. The `test:` of suites
and its JSON schema, `list claims`, what `plan` says of a claim and the judge follow from that.
"""

from __future__ import annotations

from moebench.claims.kinds.all_of import AllOf
from moebench.claims.kinds.any_of import AnyOf
from moebench.claims.kinds.at_least import AtLeast
from moebench.claims.kinds.at_most import AtMost
from moebench.claims.kinds.cited import Cited
from moebench.claims.kinds.correlates import Correlates
from moebench.claims.kinds.crosses import Crosses
from moebench.claims.kinds.equivalent import Equivalent
from moebench.claims.kinds.exact import Exact
from moebench.claims.kinds.interaction import Interaction
from moebench.claims.kinds.kind import ClaimKind
from moebench.claims.kinds.near_best import NearBest
from moebench.claims.kinds.non_inferior import NonInferior
from moebench.claims.kinds.plateau import Plateau
from moebench.claims.kinds.predicts import Predicts
from moebench.claims.kinds.ratio_at_least import RatioAtLeast
from moebench.claims.kinds.ratio_within import RatioWithin
from moebench.claims.kinds.recovers import Recovers
from moebench.claims.kinds.spread_ratio import SpreadRatioKind
from moebench.claims.kinds.superior import Superior
from moebench.claims.kinds.tokens_to_overtake import TokensToOvertake
from moebench.claims.kinds.trend import Trend
from moebench.claims.kinds.turns import Turns
from moebench.claims.kinds.within import Within

KINDS: dict[str, type[ClaimKind]] = {
    "superior": Superior,
    "non_inferior": NonInferior,
    "equivalent": Equivalent,
    "ratio_at_least": RatioAtLeast,
    "ratio_within": RatioWithin,
    "recovers": Recovers,
    "trend": Trend,
    "turns": Turns,
    "correlates": Correlates,
    "spread_ratio": SpreadRatioKind,
    "tokens_to_overtake": TokensToOvertake,
    "interaction": Interaction,
    "exact": Exact,
    "at_least": AtLeast,
    "at_most": AtMost,
    "within": Within,
    "crosses": Crosses,
    "near_best": NearBest,
    "plateau": Plateau,
    "predicts": Predicts,
    "all_of": AllOf,
    "any_of": AnyOf,
    "cited": Cited,
}

__all__ = ["KINDS", "ClaimKind"]
