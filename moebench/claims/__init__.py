"""From evidence to verdicts: what each claim asks, what the runs show, and whether that settles it.

`judge` is the way in: a `Verdict` (`verdict`) for each claim of a plan. Which module holds which rule:

- `kinds/`: what each kind of claim asks, one file a kind, as a `hypothesis`: a contrast between models, and bounds.
- `samples`: a contrast filled in, one effect a seed, a process or a count; `reaching`: what a quality cost.
- `decide`: SUPPORTED, REFUTED or INCONCLUSIVE from effects and bounds; `power`: what it would take; `error_rates`: how
  often that errs.
- `preconditions/`, a file a theme: INVALID; `bounds`, `idle`: counts and loads that show less than they seem to.
- `interim`: INTERIM; `sealing`: post hoc, looks, the family that Holm corrects for.
- `controls`: the instrument tested. `order`: which of two models a title may call lower.
- `scope`, `likeness`, `coverage`: for what a verdict holds; `notes`: what stands beside it.

Numbers come from `moebench.reader`, arithmetic from `moebench.stats`.
"""
