"""From evidence to verdicts: what each claim asks, what was found, and whether that settles it.

`judge` is the way in: a `Verdict` for each claim of a plan. `kinds` holds what each kind of claim asks, and `samples`
draws what it compares: one effect a seed, a process or a count. `decide` holds the rule, `preconditions` what must be
true before it is asked, `sealing` what was fixed before the data. `controls` tests the instrument; `order` tells titles
which of two models is lower. Numbers come from `moebench.reader`, arithmetic from `moebench.stats`.
"""
