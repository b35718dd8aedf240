"""Norm and attention as functions with a backward written by hand, for training on a CPU.

Unfused, of torch's functions, a training step makes a fresh tensor for every elementwise pass forward and backward;
on a CPU those passes take up to a third of it. Here they are done in place, the three projections of attention are one
product, and most of the scores that the causal rule hides are not computed. The sums are the same in another order, so
last bits differ: a run says in its identity which it uses (`jobs.train.kernels_of`), and shapes too small to gain stay
unfused. Each function has the unfused one as its oracle, outputs and all gradients.
"""

from __future__ import annotations

from moebench.models.decoder.fused.attention import attend as attend
from moebench.models.decoder.fused.norm import rms_norm as rms_norm
